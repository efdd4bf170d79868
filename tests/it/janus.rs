//! Two real Janus servers behind the preset `janus`: sessions over REST stay where they were created, WebSockets pass,
//! people of one room meet, and what a dead server leaves behind is told in words that its clients know.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Method, header};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::kit::client::{Client, WebSocket};
use crate::kit::janus::Janus;
use crate::kit::process::Roomgate;
use crate::kit::{SOON, within};

const HOST: &str = "janus.test";

struct House {
    servers: [Janus; 2],
    roomgate: Roomgate,
    client: Client,
}

impl House {
    async fn new() -> Self {
        let servers = [Janus::start().await, Janus::start().await];
        let nodes: Vec<String> = servers
            .iter()
            .enumerate()
            .map(|(i, server)| {
                let Janus { rest, websocket, .. } = server;
                format!("j{}: {{ host: 127.0.0.1, services: {{ janus: {rest}, websocket: {websocket}, web: {rest} }} }}", i + 1)
            })
            .collect();
        let config = format!(
            "version: 1\nlisteners: {{ https: {{ bind: [\"127.0.0.1:0\"], tls: self-signed }} }}\n\
             sites: {{ {HOST}: {{ app: janus, pool: servers }} }}\n\
             pools:\n  servers:\n    nodes: {{ {} }}\n    \
             check: {{ http: {{ service: janus, path: /janus/info, body: server_info }}, every: 1s, timeout: 1s }}\n\
             admin: {{ bind: [\"127.0.0.1:0\"] }}\n",
            nodes.join(", ")
        );
        let roomgate = Roomgate::start_up(&config).await;
        let client = Client::of(roomgate.https());
        Self { servers, roomgate, client }
    }

    /// One request of the REST interface, on a connection of its own.
    async fn ask(&self, path: &str, headers: &[(&str, &str)], body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let method = if body.is_empty() { Method::GET } else { Method::POST };
        let sent = self.client.send(HOST, method, path, headers, body);
        let answer = within(SOON, path, sent).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    async fn create(&self, path: &str, headers: &[(&str, &str)]) -> u64 {
        let answer = self.ask(path, headers, json!({ "janus": "create", "transaction": "c" })).await;
        assert_eq!(answer["janus"], "success", "{answer}");
        answer["data"]["id"].as_u64().unwrap()
    }

    async fn keep_alive(&self, session: u64) -> Value {
        self.ask(&format!("/janus/{session}"), &[], json!({ "janus": "keepalive", "transaction": "k" })).await
    }

    /// Where each session lives, by its number.
    async fn sessions(&self) -> BTreeMap<u64, String> {
        let rooms = self.roomgate.room_nodes().await.into_iter();
        rooms.filter_map(|(key, node)| Some((key.strip_prefix("session/")?.parse().ok()?, node))).collect()
    }

    async fn websocket(&self, path: &str) -> WebSocket {
        let mut request = format!("wss://{HOST}{path}").into_client_request().unwrap();
        request
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("janus-protocol"));
        let stream = self.client.tls(HOST, &["http/1.1"]).await.unwrap();
        let opened = within(SOON, "a WebSocket", tokio_tungstenite::client_async(request, stream)).await;
        let (socket, answer) = opened.unwrap();
        assert_eq!(answer.headers()[header::SEC_WEBSOCKET_PROTOCOL], "janus-protocol");
        socket
    }
}

async fn say(socket: &mut WebSocket, message: Value) -> Value {
    socket.send(Message::text(message.to_string())).await.unwrap();
    let answer = within(SOON, "an answer", socket.next()).await.unwrap().unwrap();
    serde_json::from_str(answer.to_text().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_stay_with_their_server_and_rooms_come_together() {
    let mut house = House::new().await;
    let mut sessions = Vec::new();
    for _ in 0..12 {
        sessions.push(house.create("/janus", &[]).await);
    }
    let lives = house.sessions().await;
    assert_eq!(lives.keys().copied().collect::<BTreeSet<_>>(), sessions.iter().copied().collect());
    for server in ["j1", "j2"] {
        assert!(lives.values().any(|node| node == server), "{server} has sessions: {lives:?}");
    }
    // A whole conversation: on another server each step would end with "No such session".
    for session in &sessions {
        let at = format!("/janus/{session}");
        let attach = json!({ "janus": "attach", "plugin": "janus.plugin.echotest", "transaction": "a" });
        let attached = house.ask(&at, &[], attach).await;
        assert_eq!(attached["janus"], "success", "{attached}");
        let handle = attached["data"]["id"].as_u64().unwrap();
        let message = json!({ "janus": "message", "body": { "audio": true }, "transaction": "m" });
        assert_eq!(house.ask(&format!("{at}/{handle}"), &[], message).await["janus"], "ack");
        let event = house.ask(&format!("{at}?maxev=1"), &[], Value::Null).await;
        assert_eq!(event["plugindata"]["data"]["result"], "ok", "{event}");
        assert_eq!(house.keep_alive(*session).await["janus"], "ack");
    }
    let gone = sessions.pop().unwrap();
    let destroy = json!({ "janus": "destroy", "transaction": "d" });
    assert_eq!(house.ask(&format!("/janus/{gone}"), &[], destroy).await["janus"], "success");
    assert_eq!(house.keep_alive(gone).await["error"]["code"], 458);

    // Whoever names the same room comes to the same server, over either interface.
    let mut of_room = Vec::new();
    for name in ["Blue", "BLUE", "%62lue"] {
        of_room.push(house.create(&format!("/janus?room={name}"), &[]).await);
    }
    of_room.push(house.create("/janus/", &[("X-Room", "blue")]).await);
    let server = house.roomgate.room_nodes().await["blue"].clone();
    let lives = house.sessions().await;
    assert!(of_room.iter().all(|session| lives[session] == server), "{server}: {of_room:?} {lives:?}");
    let mut socket = house.websocket("/?room=Blue").await;
    let created = say(&mut socket, json!({ "janus": "create", "transaction": "w" })).await;
    let session = created["data"]["id"].as_u64().unwrap();
    let keep = json!({ "janus": "keepalive", "session_id": session, "transaction": "k" });
    assert_eq!(say(&mut socket, keep).await["janus"], "ack");
    let tunnels = house.roomgate.api("/api/v1/tunnels").await;
    assert_eq!(tunnels["tunnels"][0]["node"], format!("servers/{server}"), "{tunnels}");

    // What is not for everybody, and what is.
    let admin = within(SOON, "/admin", house.client.get(HOST, "/admin")).await.unwrap();
    assert_eq!(admin.status, 404);
    assert_eq!(house.ask("/janus/info", &[], Value::Null).await["janus"], "server_info");

    // Its server dies: the WebSocket ends, sessions are unknown to the other one, and what is there stays there.
    let dead = usize::from(server == "j2");
    house.servers[dead].kill();
    house.roomgate.nodes_are(|states| states[&server] == "down").await;
    let told = within(SOON, "a close frame", async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| u16::from(frame.code)),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    })
    .await;
    // A server that dies closes its connections itself, mostly before it is known to be down.
    assert!(matches!(told, None | Some(1012)), "{told:?}");
    for (session, node) in sessions.iter().map(|session| (*session, &lives[session])) {
        let answer = house.keep_alive(session).await;
        if *node == server {
            assert_eq!(answer["error"]["code"], 458, "{answer}");
        } else {
            assert_eq!(answer["janus"], "ack", "{answer}");
        }
    }
    for _ in 0..4 {
        let session = house.create("/janus?room=blue", &[]).await;
        assert_eq!(house.keep_alive(session).await["janus"], "ack");
        assert_ne!(house.sessions().await[&session], server);
    }
}
