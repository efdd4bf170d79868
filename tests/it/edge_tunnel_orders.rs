//! Tunnels that are closed from outside, and clients that are asked whether they are still there.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use roomgate::edge::{CloseCode, TunnelFilter};
use roomgate::rooms::{RoomId, RoomKey};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::kit::backends::Backend;
use crate::kit::client::{Client, plain_json};
use crate::kit::config::{JITSI, Shards};
use crate::kit::edge_rig::{Plan, Rig, TestNode, raw_tunnel, soon, until, websocket};
use crate::kit::process::Roomgate;
use crate::kit::{SOON, within};

type Socket = WebSocketStream<TcpStream>;

async fn open(rig: &Rig, room: &str) -> Socket {
    let mut socket = websocket(rig.plain().await, &format!("ws://plain.test/ws?room={room}")).await;
    say(&mut socket, "who").await;
    socket
}

async fn say<S>(socket: &mut WebSocketStream<S>, text: &str) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    socket.send(Message::text(text)).await.unwrap();
    loop {
        if let Message::Text(text) = soon("an echo", socket.next()).await.unwrap().unwrap() {
            return text.to_string();
        }
    }
}

async fn close_code(socket: &mut Socket) -> Option<u16> {
    loop {
        match soon("a close frame", socket.next()).await {
            Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return None,
        }
    }
}

fn code(number: u16) -> CloseCode {
    CloseCode::from_number(number).unwrap()
}

#[tokio::test]
async fn tunnels_are_closed_by_room_number_node_and_client_and_no_others() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    let rig = Rig::start(&Plan::default(), &[&a, &b]);
    let (mut red, mut blue, mut green) =
        (open(&rig, "red").await, open(&rig, "blue").await, open(&rig, "green").await);
    let (total, infos) = rig.edge.tunnels(10);
    assert_eq!((total, infos.iter().map(|info| info.id).collect::<Vec<_>>()), (3, vec![1, 2, 3]));
    let room = |key: &str| RoomId {
        pool: "shards".into(),
        scope: "plain.test".into(),
        key: RoomKey::new(key).unwrap(),
    };
    assert_eq!(infos[1].room, Some(room("blue")));

    let close = |filter: TunnelFilter, number| rig.edge.close_tunnels(&filter, code(number), Duration::ZERO);
    assert_eq!(close(TunnelFilter::Room(room("yellow")), 1012), 0);
    assert_eq!(close(TunnelFilter::Room(room("blue")), 1012), 1);
    assert_eq!(close_code(&mut blue).await, Some(1012));
    assert_eq!(close(TunnelFilter::Id(1), 1013), 1);
    assert_eq!(close_code(&mut red).await, Some(1013));
    let node = say(&mut green, "who").await;
    let other = if node == "a" { "b" } else { "a" };
    let of = |name: &str| TunnelFilter::Node { pool: "shards".into(), name: name.into() };
    // Those that said goodbye may still be in the table.
    for socket in [&mut blue, &mut red] {
        while soon("the end", socket.next()).await.is_some() {}
    }
    until("two have ended", || rig.edge.tunnels(0).0 == 1).await;
    assert_eq!((close(of(other), 1001), close(of(&node), 1001)), (0, 1));
    assert_eq!(close_code(&mut green).await, Some(1001));
    let mut banned = open(&rig, "red").await;
    let network = |text: &str| TunnelFilter::Client(text.parse().unwrap());
    assert_eq!((close(network("192.0.2.0/24"), 1008), close(network("127.0.0.0/8"), 1008) > 0), (0, true));
    assert_eq!(close_code(&mut banned).await, Some(1008));
    until("nodes have heard that their clients are gone", || {
        [a.seen(), b.seen()].concat().iter().filter(|line| *line == "close 1001").count() == 4
    })
    .await;
    for socket in [&mut green, &mut banned] {
        while soon("the end", socket.next()).await.is_some() {}
    }
    until("all are told", || rig.metrics.edge.tunnels_closed.with_label_values(&["told"]).get() == 4).await;
    until("none is left", || rig.edge.tunnels(10) == (0, vec![])).await;
    rig.end().await;
}

#[tokio::test]
async fn a_client_that_is_banned_while_its_node_is_asked_gets_no_tunnel() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let stream = rig.plain().await;
    let handshake = tokio::spawn(async move { websocket(stream, "ws://plain.test/ws-late").await });
    until("the node is asked", || node.seen().len() == 1).await;
    assert!(rig.edge.ban("127.0.0.0/8".parse().unwrap(), "", Duration::from_secs(60)));
    let filter = TunnelFilter::Client("127.0.0.0/8".parse().unwrap());
    assert_eq!(rig.edge.close_tunnels(&filter, code(1008), Duration::ZERO), 0, "it is not there yet");
    let mut socket = handshake.await.unwrap();
    assert_eq!(close_code(&mut socket).await, Some(1008));
    rig.end().await;
}

#[tokio::test]
async fn a_wave_of_closes_takes_its_time() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut sockets = Vec::new();
    for _ in 0..40 {
        sockets.push(open(&rig, "red").await);
    }
    let (over, begun) = (Duration::from_secs(2), Instant::now());
    let filter = TunnelFilter::Node { pool: "shards".into(), name: "a".into() };
    assert_eq!(rig.edge.close_tunnels(&filter, code(1012), over), 40);
    let ends = sockets.iter_mut().map(|socket| async move {
        assert_eq!(close_code(socket).await, Some(1012));
        begun.elapsed()
    });
    let mut ends = futures_util::future::join_all(ends).await;
    ends.sort_unstable();
    // Nobody is early, whatever the machine does: at most as many as have had their turn.
    for (index, at) in ends.iter().enumerate() {
        let turn = over.mul_f64(index as f64 / 40.0);
        assert!(*at + Duration::from_millis(20) >= turn, "number {index} after {at:?}, its turn is {turn:?}");
    }
    rig.end().await;
}

#[tokio::test]
async fn an_operator_lists_and_closes_tunnels_of_the_running_process() {
    let backends = Backend::start_many(1).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).text()).await;
    let client = Client::of(roomgate.https());
    let mut socket = client.websocket(JITSI, "/xmpp-websocket?room=Blue").await.unwrap();
    within(SOON, "the node's name", socket.next()).await.unwrap().unwrap();
    let list = roomgate.api("/api/v1/tunnels").await;
    assert_eq!(list["total"], 1);
    let tunnel = &list["tunnels"][0];
    assert_eq!((&tunnel["room"]["key"], &tunnel["client"]), (&json!("blue"), &json!("127.0.0.1")), "{list}");

    let close = async |body: &serde_json::Value| {
        let answer = within(SOON, "close", plain_json(roomgate.admin(), "/api/v1/tunnels/close", body)).await;
        (answer.status.as_u16(), answer.text())
    };
    let (status, text) = close(&json!({ "id": 1, "code": 4000 })).await;
    assert_eq!((status, text.as_str()), (400, "code: 4000 is not 1001, 1008, 1012 or 1013\n"));
    assert_eq!(close(&json!({ "node": "shards/nothing" })).await, (200, r#"{"closed":0}"#.to_owned()));
    let wish = json!({ "room": tunnel["room"], "code": 1012, "over": "100ms" });
    assert_eq!(close(&wish).await, (200, r#"{"closed":1}"#.to_owned()));
    let message = within(SOON, "a close frame", socket.next()).await.unwrap().unwrap();
    let Message::Close(Some(frame)) = message else { panic!("{message:?}") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1012, "room moves"));
}

fn pinging(every: Duration) -> Plan {
    let mut plan = Plan::default();
    plan.timeouts.tunnel_ping = Some(every);
    plan
}

#[tokio::test]
async fn a_silent_client_is_asked_and_its_node_hears_nothing_of_it() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&pinging(Duration::from_millis(800)), &[&node]);
    let mut socket = open(&rig, "red").await;
    for _ in 0..4 {
        let message = soon("a ping", socket.next()).await.unwrap().unwrap();
        assert!(matches!(&message, Message::Ping(tag) if tag.len() == 8), "{message:?}");
        // The pong goes out with the next step of the client.
    }
    assert_eq!(say(&mut socket, "who").await, "a");
    // What the node asks for and what the client says on its own both arrive.
    socket.send(Message::text("ping me")).await.unwrap();
    socket.send(Message::Pong("mine".into())).await.unwrap();
    let pongs = || node.seen().iter().filter(|line| line.starts_with("pong ")).cloned().collect::<Vec<_>>();
    soon("both pongs", async {
        while pongs().len() < 2 {
            let _ = tokio::time::timeout(Duration::from_millis(50), socket.next()).await;
        }
    })
    .await;
    let mut pongs = pongs();
    pongs.sort_unstable();
    assert_eq!(pongs, ["pong hello", "pong mine"]);
    assert_eq!(rig.metrics.edge.tunnels.get(), 1);
    drop(socket);
    rig.end().await;
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed_and_its_node_is_told() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&pinging(Duration::from_millis(300)), &[&node]);
    let mut stream = raw_tunnel(&rig, "/ws").await;
    let mut bytes = Vec::new();
    soon("the end", stream.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(bytes[..2], [0x89, 8], "one ping");
    assert_eq!(bytes[10..14], [0x88, 11, 0x03, 0xe9], "then a close frame with 1001");
    assert_eq!(bytes.len(), 10 + 13);
    until("the node was told", || node.seen().contains(&"close 1001".to_owned())).await;
    let closed = rig.metrics.edge.tunnels_closed.with_label_values(&["no_pong"]);
    until("it is counted", || closed.get() == 1).await;
    rig.end().await;
}

#[tokio::test]
async fn pings_keep_no_silent_tunnel_open_and_stand_in_no_frame() {
    let node = TestNode::start("a").await;
    let mut plan = pinging(Duration::from_millis(600));
    plan.timeouts.tunnel_idle = Duration::from_secs(4);
    let rig = Rig::start(&plan, &[&node]);
    let mut answering = open(&rig, "red").await;
    assert_eq!(close_code(&mut answering).await, Some(1001));
    while soon("the end", answering.next()).await.is_some() {}
    // Half a frame of the node is under way: no ping may go into it, and nobody is to blame for not answering one.
    let mut stream = raw_tunnel(&rig, "/ws-half-frame").await;
    let mut bytes = Vec::new();
    soon("the end", stream.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(bytes, [0x82, 10, 1, 2, 3]);
    until("both were idle", || rig.metrics.edge.tunnels_closed.with_label_values(&["idle"]).get() == 2).await;
    let _ = stream.shutdown().await;
    rig.end().await;
}
