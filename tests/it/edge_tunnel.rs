//! WebSockets through the edge: their handshake, their bytes, their end.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use roomgate::pool::FailReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::kit::edge_rig::{HANDSHAKE, Plan, Rig, TestNode, raw_tunnel, read_answer, soon, until, websocket};

async fn say<S>(ws: &mut WebSocketStream<S>, text: &str) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    ws.send(Message::text(text)).await.unwrap();
    soon("an echo", ws.next()).await.unwrap().unwrap().into_text().unwrap().to_string()
}

/// Reads until the peer's close frame and returns its code.
async fn close_code<S>(ws: &mut WebSocketStream<S>) -> Option<u16>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match soon("a close frame", ws.next()).await {
            Some(Ok(Message::Close(frame))) => return frame.map(|f| f.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return None,
        }
    }
}

#[tokio::test]
async fn messages_of_every_size_come_back_and_the_room_is_held() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    let rig = Rig::start(&Plan::default(), &[&a, &b]);
    let mut ws = websocket(rig.tls("http/1.1").await, "ws://plain.test/ws?room=blue").await;
    let node = say(&mut ws, "who").await;
    for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
        let message = Message::binary(vec![7; size]);
        ws.send(message.clone()).await.unwrap();
        assert_eq!(soon("an echo", ws.next()).await.unwrap().unwrap(), message, "{size}");
    }
    let mut second = websocket(rig.plain().await, "ws://plain.test/ws?room=BLUE").await;
    assert_eq!(say(&mut second, "who").await, node);
    assert_eq!((rig.rooms.len(), rig.metrics.edge.tunnels.get()), (1, 2));
    assert_eq!(rig.rooms.list(10)[0].holds, 2);
    let seen = [a.seen(), b.seen()].concat().concat().to_ascii_lowercase();
    assert!(
        seen.contains("x-forwarded-for: 127.0.0.1\r\n") && seen.contains("host: plain.test\r\n"),
        "{seen}"
    );
    ws.close(None).await.unwrap();
    while soon("the end", ws.next()).await.is_some() {}
    until("the tunnel is gone", || rig.metrics.edge.tunnels.get() == 1).await;
    until("its hold is gone", || rig.rooms.list(10)[0].holds == 1).await;
    assert!(rig.metrics.edge.tunnel_bytes_from_client.get() > 1_000_000);
    drop(second);
    until("all connections are gone", || rig.metrics.edge.connections.get() == 0).await;
    assert_eq!(rig.metrics.edge.tunnels_closed.with_label_values(&["ended"]).get(), 2);
    rig.end().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_stops_the_node() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = raw_tunnel(&rig, "/ws-flood").await;
    // The kernel's buffers fill on both legs, then the node stands still.
    let mut before = 0;
    soon("the node stands still", async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = node.bytes_in();
            if now == before && now > 0 {
                break;
            }
            before = now;
        }
    })
    .await;
    let read = soon("bytes move again", async {
        let mut sink = vec![0; 1024 * 1024];
        let mut read = 0;
        while read < before * 2 {
            read += stream.read(&mut sink).await.unwrap();
        }
        read
    })
    .await;
    assert!(node.bytes_in() + 0x2004 > read, "more came out than went in");
    drop(stream);
    until("the tunnel is gone", || rig.metrics.edge.tunnels.get() == 0).await;
    rig.end().await;
}

#[tokio::test]
async fn one_side_may_end_before_the_other() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = raw_tunnel(&rig, "/ws-half-close").await;
    stream.write_all(&[1; 5000]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    soon("the answer after our end", stream.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "got 5000");
    until("the tunnel is gone", || rig.metrics.edge.tunnels.get() == 0).await;
    rig.end().await;
}

#[tokio::test]
async fn a_refusal_of_the_node_is_an_ordinary_answer() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = rig.plain().await;
    // On one connection: it stays usable.
    stream.write_all(format!("GET /ws-refuse HTTP/1.1\r\n{HANDSHAKE}").as_bytes()).await.unwrap();
    let (head, body) = read_answer(&mut stream).await;
    assert!(
        head.starts_with("HTTP/1.1 403 ") && head.to_ascii_lowercase().contains("x-why: mood\r\n"),
        "{head}"
    );
    assert_eq!(body, b"not today");
    let request = format!("GET /ws-refuse-chunked HTTP/1.1\r\nConnection: close\r\n{HANDSHAKE}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut rest = String::new();
    soon("the end", stream.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 404 ") && rest.contains("\r\n3\r\nabc\r\n0\r\n\r\n"), "{rest}");
    assert_eq!((rig.metrics.edge.tunnels_total.get(), node.seen().len()), (0, 2));
    rig.end().await;
}

#[tokio::test]
async fn a_refusal_that_drips_arrives_byte_by_byte() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = rig.plain().await;
    stream.write_all(format!("GET /ws-refuse-drip HTTP/1.1\r\n{HANDSHAKE}").as_bytes()).await.unwrap();
    let (mut got, mut arrivals) = (Vec::new(), Vec::new());
    while !got.ends_with(b"drips") {
        assert!(soon("a part", stream.read_buf(&mut got)).await.unwrap() > 0);
        arrivals.push(roomgate::clock::now());
    }
    // The head, and each byte: not all at once when the node is done. Some may meet on a busy machine.
    assert!(got.starts_with(b"HTTP/1.1 403 ") && arrivals.len() >= 4, "{} pieces", arrivals.len());
    rig.end().await;
}

#[tokio::test]
async fn handshakes_that_mean_nothing_reach_no_node() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    for request in [
        format!("POST /ws HTTP/1.1\r\n{HANDSHAKE}"),
        format!("GET /ws HTTP/1.1\r\nContent-Length: 3\r\n{HANDSHAKE}abc"),
        format!("GET /ws HTTP/1.1\r\n{HANDSHAKE}GET /smuggled HTTP/1.1\r\nHost: plain.test\r\n\r\n"),
        "GET /ws HTTP/1.1\r\nHost: plain.test\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n".to_owned(),
    ] {
        let mut stream = rig.plain().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, _) = read_answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{request}: {head}");
    }
    assert_eq!(node.seen(), Vec::<String>::new());
    rig.end().await;
}

#[tokio::test]
async fn a_stopping_edge_says_1001_to_both_sides_and_ends_in_time() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut ws = websocket(rig.tls("http/1.1").await, "ws://plain.test/ws?room=x").await;
        assert_eq!(say(&mut ws, "who").await, "a");
        clients.push(ws);
    }
    let idle = rig.tls("http/1.1").await;
    let metrics = rig.metrics.clone();
    let begun = roomgate::clock::now();
    let drain = tokio::spawn(rig.end());
    for ws in &mut clients {
        assert_eq!(close_code(ws).await, Some(1001));
        while soon("the end", ws.next()).await.is_some() {}
    }
    drain.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(metrics.edge.tunnels_closed.with_label_values(&["stopping"]).get(), 8);
    until("the node heard it", || node.seen().iter().filter(|s| *s == "close 1001").count() == 8).await;
    drop(idle);
}

#[tokio::test]
async fn a_node_that_goes_down_closes_its_tunnels_with_1012() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    let rig = Rig::start(&Plan::default(), &[&a, &b]);
    let mut ws = websocket(rig.tls("http/1.1").await, "ws://plain.test/ws?room=x").await;
    let first = say(&mut ws, "who").await;
    let pool = rig.pools.get("shards").unwrap();
    let node = pool.node(&first).unwrap().clone();
    node.report(roomgate::pool::CheckOutcome::Fail(FailReason::ConnectRefused), roomgate::clock::now());
    assert_eq!(close_code(&mut ws).await, Some(1012));
    let mut again = websocket(rig.tls("http/1.1").await, "ws://plain.test/ws?room=x").await;
    assert_ne!(say(&mut again, "who").await, first);
    while soon("the end", ws.next()).await.is_some() {}
    until("it is counted", || rig.metrics.edge.tunnels_closed.with_label_values(&["node_down"]).get() == 1)
        .await;
    drop(again);
    rig.end().await;
}

#[tokio::test]
async fn a_frame_under_way_is_never_cut_by_a_close_frame() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = raw_tunnel(&rig, "/ws-half-frame").await;
    let mut part = [0; 5];
    soon("half a frame", stream.read_exact(&mut part)).await.unwrap();
    assert_eq!(part, [0x82, 10, 1, 2, 3]);
    let pool = rig.pools.get("shards").unwrap();
    pool.nodes[0]
        .report(roomgate::pool::CheckOutcome::Fail(FailReason::ConnectRefused), roomgate::clock::now());
    let mut rest = Vec::new();
    soon("the end", stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, Vec::<u8>::new(), "a close frame inside another frame");
    rig.end().await;
}

#[tokio::test]
async fn a_silent_tunnel_ends_and_a_busy_one_does_not() {
    let node = TestNode::start("a").await;
    let mut plan = Plan::default();
    plan.timeouts.tunnel_idle = Duration::from_secs(2);
    let rig = Rig::start(&plan, &[&node]);
    let mut silent = websocket(rig.tls("http/1.1").await, "ws://plain.test/ws?room=x").await;
    let mut busy = websocket(rig.tls("http/1.1").await, "ws://plain.test/ws?room=x").await;
    let ended = tokio::spawn(async move {
        let code = close_code(&mut silent).await;
        while soon("the end", silent.next()).await.is_some() {}
        code
    });
    while !ended.is_finished() {
        assert_eq!(say(&mut busy, "who").await, "a");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(ended.await.unwrap(), Some(1001));
    until("it is counted", || rig.metrics.edge.tunnels_closed.with_label_values(&["idle"]).get() == 1).await;
    assert_eq!(rig.metrics.edge.tunnels.get(), 1);
    drop(busy);
    rig.end().await;
}

#[tokio::test]
async fn a_tunnel_reaches_another_node_when_its_own_does_not_answer() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    let rig = Rig::start(&Plan::default(), &[&a, &b]);
    a.kill();
    until("its port is closed", || std::net::TcpStream::connect(a.addr).is_err()).await;
    for room in 0..10 {
        let url = format!("ws://plain.test/ws?room=r{room}");
        let mut ws = websocket(rig.plain().await, &url).await;
        assert_eq!(say(&mut ws, "who").await, "b");
    }
    b.kill();
    until("its port is closed", || std::net::TcpStream::connect(b.addr).is_err()).await;
    let answer = rig.raw(format!("GET /ws?room=y HTTP/1.1\r\n{HANDSHAKE}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    rig.end().await;
}

#[tokio::test]
async fn bytes_before_the_101_are_refused_and_a_client_that_leaves_is_noticed() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut hasty = rig.plain().await;
    hasty.write_all(format!("GET /ws-late HTTP/1.1\r\n{HANDSHAKE}").as_bytes()).await.unwrap();
    until("the node was asked", || node.seen().len() == 1).await;
    hasty.write_all(&[0x81, 0x80, 0, 0, 0, 0]).await.unwrap();
    assert!(read_answer(&mut hasty).await.0.starts_with("HTTP/1.1 400 "));
    let mut gone = rig.plain().await;
    gone.write_all(format!("GET /ws-late HTTP/1.1\r\n{HANDSHAKE}").as_bytes()).await.unwrap();
    until("the node was asked", || node.seen().len() == 2).await;
    drop((gone, hasty));
    until("both are gone", || rig.metrics.edge.connections.get() == 0).await;
    assert_eq!(rig.metrics.edge.tunnels_total.get(), 0);
    rig.end().await;
}
