//! The presets `janus`, `livekit` and `galene`, path by path: which node gets what, and what becomes of the room. The same rows run
//! over the preset and over what it expands to. `jitsi` has a table of its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use roomgate::config;
use roomgate::edge::explain::{Known, Question, explain};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kit::edge_rig::{HANDSHAKE, Rig, TestNode, read_answer, soon};

/// What the request begins with, its headers, the node that gets it (`-`: none), the path that it gets, its room.
type Row<'a> = (String, String, &'a str, String, Option<&'a str>);

struct House {
    rig: Rig,
    nodes: Vec<TestNode>,
}

impl House {
    /// With a node of these services, each a `TestNode` of that name.
    async fn new(app: &str, services: &[&str], expanded: bool) -> Self {
        let mut nodes = Vec::new();
        for service in services {
            nodes.push(TestNode::start(service).await);
        }
        let ports: Vec<String> = nodes.iter().map(|n| format!("{}: {}", n.name, n.addr.port())).collect();
        let node = if let [one] = &nodes[..] {
            format!("\"http://{}\"", one.addr)
        } else {
            format!("{{ host: 127.0.0.1, services: {{ {} }} }}", ports.join(", "))
        };
        let text = format!(
            "version: 1\nlisteners: {{ http: {{ bind: [\"127.0.0.1:0\"] }} }}\n\
             sites: {{ plain.test: {{ app: {app}, pool: p }} }}\npools: {{ p: {{ nodes: {{ n1: {node} }} }} }}\n\
             admin: {{ bind: [] }}\n"
        );
        let load = |text: &str| {
            let loaded = config::load_str("f.yaml", text, std::path::Path::new("."), None);
            loaded.unwrap_or_else(|faults| panic!("{faults}\n{text}"))
        };
        let mut loaded = load(&text);
        if expanded {
            assert!(!loaded.effective.contains("app:"), "{}", loaded.effective);
            loaded = load(&loaded.effective);
        }
        Self { rig: Rig::start_with(loaded.settings, |_, _| None), nodes }
    }
}

async fn holds(app: &str, services: &[&str], rows: &[Row<'_>]) {
    for expanded in [false, true] {
        for (request, headers, node, path, room) in rows {
            let house = House::new(app, services, expanded).await;
            let about = format!("{request:.80} (expanded: {expanded})");
            let mut stream = house.rig.plain().await;
            let head = match headers.strip_prefix("websocket ") {
                Some(more) => format!(
                    "{request} HTTP/1.1\r\n{}{more}\r\n",
                    HANDSHAKE.trim_end_matches("\r\n").to_owned() + "\r\n"
                ),
                None => format!("{request} HTTP/1.1\r\nHost: plain.test\r\n{headers}\r\n"),
            };
            stream.write_all(head.as_bytes()).await.unwrap();
            let (head, body) = soon(&about, read_answer(&mut stream)).await;
            let seen: Vec<(&str, String)> =
                house.nodes.iter().flat_map(|n| n.seen().into_iter().map(|seen| (&*n.name, seen))).collect();
            if *node == "-" {
                assert!(seen.is_empty() && head.starts_with("HTTP/1.1 404 "), "{about}: {head} {seen:?}");
            } else {
                let [(by, seen)] = &seen[..] else { panic!("{about}: {head} {body:?} {seen:?}") };
                assert_eq!(by, node, "{about}");
                let method = request.split(' ').next().unwrap();
                assert!(seen.starts_with(&format!("{method} {path} HTTP/1.1\r\n")), "{about}: {seen:.200}");
            }
            let rooms: Vec<String> =
                house.rig.rooms.list(9).iter().map(|room| room.key.to_string()).collect();
            assert_eq!(rooms, room.iter().map(|r| (*r).to_owned()).collect::<Vec<_>>(), "{about}");
            house.rig.end().await;
        }
    }
}

fn row<'a>(request: &str, headers: &str, node: &'a str, room: Option<&'a str>) -> Row<'a> {
    let path = request.split(' ').nth(1).unwrap().to_owned();
    (request.to_owned(), headers.to_owned(), node, path, room)
}

#[tokio::test]
async fn janus() {
    let rows = [
        row("POST /janus", "Content-Length: 0\r\n", "janus", None),
        row("POST /janus?room=Blue", "Content-Length: 0\r\n", "janus", Some("blue")),
        row("POST /janus/", "X-Room: Blue%20Room\r\nContent-Length: 0\r\n", "janus", Some("blue room")),
        row("OPTIONS /janus", "", "janus", None),
        // A session that nobody has created here has no place.
        row("GET /janus/123?maxev=5", "", "janus", None),
        row("POST /janus/123/456", "Content-Length: 0\r\n", "janus", None),
        row("GET /janus/info", "", "janus", None),
        row("GET /admin", "", "-", None),
        row("GET /admin/x", "", "-", None),
        row("GET /demo.html?room=Blue", "", "web", None),
        row("GET /administration", "", "web", None),
        row("GET /", "websocket Sec-WebSocket-Protocol: other\r\n", "web", None),
    ];
    holds("janus", &["janus", "websocket", "web"], &rows).await;
    // The node refuses the handshake with its name: a room that nobody holds any more lingers.
    let rows = [
        row(
            "GET /?room=Blue",
            "websocket Sec-WebSocket-Protocol: x, janus-protocol\r\n",
            "websocket",
            Some("blue"),
        ),
        row("GET /any/where", "websocket Sec-WebSocket-Protocol: janus-protocol\r\n", "websocket", None),
    ];
    holds("janus", &["janus", "websocket", "web"], &rows).await;
}

#[tokio::test]
async fn livekit() {
    let token = |payload: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
    let blue = token(r#"{"video":{"room":"Blue","roomJoin":true},"exp":1}"#);
    let all = token(r#"{"video":{"roomCreate":true}}"#);
    let bearer = format!("Authorization: Bearer {blue}\r\n");
    let long = "a".repeat(65_534 - "/rtc/v1?access_token=&join_request=".len() - blue.len());
    let rows = [
        row(&format!("GET /rtc?access_token={blue}&auto_subscribe=1"), "websocket ", "livekit", Some("blue")),
        row("GET /rtc", &format!("websocket {bearer}"), "livekit", Some("blue")),
        // A whole session description in the URL.
        row(
            &format!("GET /rtc/v1?access_token={blue}&join_request={long}"),
            "websocket ",
            "livekit",
            Some("blue"),
        ),
        row(&format!("GET /rtc/validate?access_token={blue}"), "", "livekit", Some("blue")),
        row("GET /rtc/v1/validate", &bearer, "livekit", Some("blue")),
        row("POST /whip/v1", &format!("{bearer}Content-Length: 0\r\n"), "livekit", Some("blue")),
        row(
            "POST /twirp/livekit.RoomService/X",
            &format!("{bearer}Content-Length: 0\r\n"),
            "livekit",
            Some("blue"),
        ),
        row(
            "POST /twirp/livekit.RoomService/CreateRoom",
            &format!("Authorization: Bearer {all}\r\nContent-Length: 0\r\n"),
            "livekit",
            None,
        ),
        row("GET /rtc?access_token=forged", "websocket ", "livekit", None),
        row("GET /", "", "livekit", None),
        row("GET /agent", "websocket ", "livekit", None),
    ];
    holds("livekit", &["livekit"], &rows).await;
}

#[tokio::test]
async fn tokens_are_verified_where_a_site_says_so() {
    let node = TestNode::start("livekit").await;
    let folder = tempfile::tempdir().unwrap();
    let secret = "a secret of at least thirty-two bytes";
    std::fs::write(folder.path().join("secret"), secret).unwrap();
    let text = format!(
        "version: 1\nlisteners: {{ http: {{ bind: [\"127.0.0.1:0\"] }} }}\n\
         sites: {{ plain.test: {{ app: livekit, pool: p, verify_tokens: \"file:secret\" }} }}\n\
         pools: {{ p: {{ nodes: {{ n1: \"http://{}\" }} }} }}\nadmin: {{ bind: [] }}\n",
        node.addr
    );
    let loaded = config::load_str("f.yaml", &text, folder.path(), None);
    let settings = loaded.unwrap_or_else(|faults| panic!("{faults}")).settings;
    let rig = Rig::start_with(settings.clone(), |_, _| None);
    let now = roomgate::clock::wall().as_secs();
    let token = |key: &str, exp: u64| {
        let claims = serde_json::json!({ "video": { "room": "Blue" }, "exp": exp });
        let key = jsonwebtoken::EncodingKey::from_secret(key.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    };
    let good = token(secret, now + 600);
    for (request, expected) in [
        (format!("GET /rtc/validate?access_token={good} HTTP/1.1\r\nHost: plain.test\r\n\r\n"), 200),
        (format!("GET /rtc HTTP/1.1\r\nHost: plain.test\r\nAuthorization: Bearer {good}\r\n\r\n"), 200),
        ("GET /rtc HTTP/1.1\r\nHost: plain.test\r\n\r\n".to_owned(), 401),
        (format!("GET /rtc?access_token={} HTTP/1.1\r\n{HANDSHAKE}", token("another", now + 600)), 401),
        (format!("GET /rtc?access_token={} HTTP/1.1\r\n{HANDSHAKE}", token(secret, now - 1)), 401),
        ("OPTIONS /twirp/x HTTP/1.1\r\nHost: plain.test\r\n\r\n".to_owned(), 200),
        // What is about no room needs no token.
        ("GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n".to_owned(), 200),
    ] {
        let before = node.seen().len();
        let mut stream = rig.plain().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let (answer, _) = soon("an answer", read_answer(&mut stream)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{request:.60}: {answer:.200}");
        assert_eq!(node.seen().len() - before, usize::from(expected == 200), "{request:.60}");
        assert_eq!(
            answer.to_lowercase().contains("www-authenticate: bearer"),
            expected == 401,
            "{answer:.300}"
        );
    }
    for (token, outcome, rule) in [
        (good, "sent to n1 of pool p", Some("the claim video.room of the token, verified here")),
        (token("another", now + 600), "401: the token is not valid", None),
        (token(secret, now - 1), "401: the token has expired", None),
    ] {
        let url = format!("http://plain.test/rtc?access_token={token}").parse().unwrap();
        let (method, client) = (http::Method::GET, [192, 0, 2, 1].into());
        let question = Question { url, method, headers: Vec::new(), client };
        let said = explain(&settings, Known::File, &question, roomgate::clock::now()).unwrap();
        assert_eq!(said.outcome, outcome);
        if let Some(rule) = rule {
            assert_eq!(said.room.map(|room| room.rule).as_deref(), Some(rule));
        }
    }
    rig.end().await;
}

#[tokio::test]
async fn galene() {
    let with_path = |request: &str, headers: &str, path: &str, room| {
        let (request, headers, node, _, room) = row(request, headers, "galene", room);
        (request, headers, node, path.to_owned(), room)
    };
    let rows = [
        row("GET /group/Blue/.status", "", "galene", Some("blue")),
        row("GET /group/a/B/.status", "", "galene", Some("a/b")),
        with_path("GET /ws?group=Blue", "websocket ", "/ws", Some("blue")),
        with_path("GET /ws?group=a%2FB", "websocket ", "/ws", Some("a/b")),
        with_path("GET /ws", "websocket ", "/ws", None),
        row("POST /group/Blue/.whip", "Content-Length: 0\r\n", "galene", Some("blue")),
        row("DELETE /group/Blue/.whip/abc", "", "galene", Some("blue")),
        // A page gives its room no place.
        row("GET /group/Blue/", "", "galene", None),
        row("GET /public-groups.json", "", "galene", None),
        row("GET /recordings/Blue/", "", "galene", None),
        row("GET /galene-api/v0/.stats", "", "galene", None),
        row("GET /", "", "galene", None),
    ];
    holds("galene", &["galene"], &rows).await;
}

/// Answers as Galene does: the status of a group says where its WebSocket is, everything else is the server's name.
async fn galene_server(name: &'static str) -> TestNode {
    TestNode::raw(name, move |mut stream| async move {
        let mut received = Vec::new();
        loop {
            let Ok(byte) = stream.read_u8().await else { return };
            received.push(byte);
            if !received.ends_with(b"\r\n\r\n") {
                continue;
            }
            let head = String::from_utf8(std::mem::take(&mut received)).unwrap();
            let target = head.split(' ').nth(1).unwrap();
            let (kind, body) = if target.ends_with("/.status") {
                assert!(!head.to_lowercase().contains("accept-encoding"), "{head}");
                let body = r#"{"name":"g","location":"https://inner/group/g/","endpoint":"wss://inner/ws","clientCount":3}"#;
                ("application/json", body.to_owned())
            } else {
                ("text/plain", format!("{name} {target}"))
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nETag: \"1\"\r\n\r\n{body}"
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn galenes_clients_are_told_of_a_websocket_that_names_their_group() {
    let nodes = [galene_server("g1").await, galene_server("g2").await];
    let text = format!(
        "version: 1\nlisteners: {{ http: {{ bind: [\"127.0.0.1:0\"] }} }}\n\
         sites: {{ plain.test: {{ app: galene, pool: p }} }}\n\
         pools: {{ p: {{ nodes: {{ g1: \"http://{}\", g2: \"http://{}\" }} }} }}\nadmin: {{ bind: [] }}\n",
        nodes[0].addr, nodes[1].addr
    );
    let loaded = config::load_str("f.yaml", &text, std::path::Path::new("."), None);
    let rig = Rig::start_with(loaded.unwrap_or_else(|faults| panic!("{faults}")).settings, |_, _| None);
    let ask = async |request: String| {
        let mut stream = rig.plain().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = soon(&request, read_answer(&mut stream)).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{request}: {head}");
        (head.to_lowercase(), String::from_utf8(body).unwrap())
    };
    let mut places = std::collections::BTreeMap::new();
    for group in ["Blue", "blue", "red", "green", "a/b c", "yellow", "black"] {
        let path = group.replace(' ', "%20");
        let host = "Host: plain.test:8443\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n";
        let answer = rig.raw(format!("GET /group/{path}/.status HTTP/1.1\r\n{host}").as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let head = head.to_lowercase();
        assert!(head.starts_with("http/1.1 200 ") && head.contains("transfer-encoding: chunked"), "{head}");
        assert!(!head.contains("etag") && !head.contains("content-length"), "{head}");
        // Between the lines of its one chunk.
        let json = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
        let status: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!((&status["name"], &status["clientCount"]), (&"g".into(), &3.into()));
        let endpoint = status["endpoint"].as_str().unwrap();
        let target = endpoint.strip_prefix("ws://plain.test:8443").unwrap_or_else(|| panic!("{endpoint}"));
        // The node refuses the handshake with its name.
        let (_, answer) = ask(format!("GET {target} HTTP/1.1\r\n{HANDSHAKE}")).await;
        let (server, asked) = answer.split_once(' ').unwrap();
        assert_eq!(asked, "/ws", "the group is for the edge alone");
        let lives =
            rig.rooms.list(20).into_iter().find(|room| room.key.as_str() == group.to_lowercase()).unwrap();
        assert_eq!(&*lives.node, server, "{group}");
        places.insert(group.to_lowercase(), server.to_owned());
    }
    assert_eq!(rig.rooms.len(), 6);
    assert!(
        places.values().any(|node| node == "g1") && places.values().any(|node| node == "g2"),
        "{places:?}"
    );
    rig.end().await;
}
