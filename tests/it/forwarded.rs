//! Who a request comes from: what nodes are told, whom they are told to believe, and what clients cannot say.

use tokio::io::AsyncWriteExt;

use crate::kit::edge_rig::{Plan, Rig, TestNode, read_answer, settings_of, websocket};

async fn rig(trusted: &str) -> (TestNode, Rig) {
    let node = TestNode::start("n").await;
    let mut settings = settings_of(&Plan::default(), &[&node]);
    settings.trusted = trusted.split_whitespace().map(|network| network.parse().unwrap()).collect();
    (node, Rig::start_with(settings, |_, _| None))
}

/// Sends a request with these lines and returns the lines that the node got, in lower case, sorted.
async fn told(node: &TestNode, rig: &Rig, lines: &str) -> Vec<String> {
    let mut stream = rig.plain().await;
    let request = format!("GET / HTTP/1.1\r\nHost: plain.test\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (answer, _) = read_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    forwarded_lines(node)
}

/// Sends a request that is answered with 400 and reaches nobody, or tells the node exactly this.
async fn refused_or(node: &TestNode, rig: &Rig, lines: &str, expected: &[&str]) {
    let (before, mut stream) = (node.seen().len(), rig.plain().await);
    let request = format!("GET / HTTP/1.1\r\nHost: plain.test\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (answer, _) = read_answer(&mut stream).await;
    if answer.starts_with("HTTP/1.1 400 ") {
        assert_eq!(node.seen().len(), before, "{lines}");
    } else {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(forwarded_lines(node), expected, "{lines}");
    }
}

fn forwarded_lines(node: &TestNode) -> Vec<String> {
    let head = node.seen().last().unwrap().to_lowercase();
    let ours = ["x-forwarded", "x_forwarded", "forwarded", "x-real-ip"];
    let mut lines: Vec<String> = head
        .lines()
        .filter(|line| ours.iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

const FORGED: &str = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n\
                      X_Forwarded_For: 1.1.1.1\r\nForwarded: for=1.1.1.1;proto=https\r\nX-Real-IP: 1.1.1.1\r\n";

#[tokio::test]
async fn what_clients_say_of_themselves_is_replaced() {
    let (node, rig) = rig("").await;
    let ours = [
        "forwarded: for=127.0.0.1;host=plain.test;proto=http",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: plain.test",
        "x-forwarded-proto: http",
    ];
    for lines in ["", FORGED] {
        assert_eq!(told(&node, &rig, lines).await, ours, "{lines}");
        // Named as headers of this connection only: the node gets ours all the same, or nothing at all.
        for named in ["X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto"] {
            refused_or(&node, &rig, &format!("{lines}Connection: {named}\r\n"), &ours).await;
        }
    }
    rig.end().await;
}

#[tokio::test]
async fn a_trusted_peer_is_believed_and_added_to_the_chain() {
    let (node, rig) = rig("127.0.0.0/8 10.0.0.0/8").await;
    let lines = "X-Forwarded-For: 1.1.1.1, 203.0.113.9, 10.2.2.2\r\nX-Forwarded-Proto: https\r\n\
                 X-Forwarded-Host: meet.test:8443\r\nForwarded: for=9.9.9.9\r\nX-Real-IP: 1.1.1.1\r\n";
    let expected = [
        "forwarded: for=1.1.1.1;host=\"meet.test:8443\";proto=https, for=203.0.113.9, for=10.2.2.2, for=127.0.0.1",
        "x-forwarded-for: 1.1.1.1, 203.0.113.9, 10.2.2.2, 127.0.0.1",
        "x-forwarded-host: meet.test:8443",
        "x-forwarded-proto: https",
    ];
    assert_eq!(told(&node, &rig, lines).await, expected);
    refused_or(&node, &rig, &format!("{lines}Connection: X-Forwarded-For\r\n"), &expected).await;
    let malformed = "X-Forwarded-For: 1.1.1.1, evil, 203.0.113.9\r\n";
    assert_eq!(
        told(&node, &rig, malformed).await,
        [
            "forwarded: for=203.0.113.9;host=plain.test;proto=http, for=127.0.0.1",
            "x-forwarded-for: 203.0.113.9, 127.0.0.1",
            "x-forwarded-host: plain.test",
            "x-forwarded-proto: http",
        ]
    );
    let newer = "Forwarded: for=1.1.1.1;proto=http, for=\"[2001:db8::9]:7\";proto=https;host=meet.test\r\n";
    assert_eq!(
        told(&node, &rig, newer).await,
        [
            "forwarded: for=1.1.1.1;host=meet.test;proto=https, for=\"[2001:db8::9]\", for=127.0.0.1",
            "x-forwarded-for: 1.1.1.1, 2001:db8::9, 127.0.0.1",
            "x-forwarded-host: meet.test",
            "x-forwarded-proto: https",
        ]
    );
    rig.end().await;
}

#[tokio::test]
async fn websockets_tell_the_same() {
    for (trusted, expected) in [("", "127.0.0.1"), ("127.0.0.1/32", "203.0.113.9, 127.0.0.1")] {
        let (node, rig) = rig(trusted).await;
        let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(
            "ws://plain.test/ws",
        )
        .unwrap();
        request.headers_mut().insert("x-forwarded-for", "203.0.113.9".parse().unwrap());
        request.headers_mut().insert("connection", "Upgrade, X-Forwarded-For".parse().unwrap());
        let (socket, _) = tokio_tungstenite::client_async(request, rig.plain().await).await.unwrap();
        assert!(
            forwarded_lines(&node).contains(&format!("x-forwarded-for: {expected}")),
            "{:?}",
            node.seen()
        );
        drop(socket);
        // And one that says nothing.
        let socket = websocket(rig.plain().await, "ws://plain.test/ws").await;
        assert!(
            forwarded_lines(&node).contains(&"x-forwarded-for: 127.0.0.1".to_owned()),
            "{:?}",
            node.seen()
        );
        drop(socket);
        rig.end().await;
    }
}

#[tokio::test]
async fn a_trusted_peer_names_the_request_and_nobody_else_does() {
    let long = "x".repeat(129);
    for (trusted, id, kept) in [
        ("127.0.0.1/32", "af-7_b:9/c=", true),
        ("127.0.0.1/32", "two words", false),
        ("127.0.0.1/32", "\"quoted\"", false),
        ("127.0.0.1/32", &long, false),
        ("127.0.0.1/32", "", false),
        ("", "af-7", false),
    ] {
        let (node, rig) = rig(trusted).await;
        told(&node, &rig, &format!("X-Request-Id: {id}\r\n")).await;
        let head = node.seen().pop().unwrap();
        let ids: Vec<&str> = head
            .lines()
            .filter_map(|line| line.split_once(": ").filter(|l| l.0.eq_ignore_ascii_case("x-request-id")))
            .map(|l| l.1)
            .collect();
        assert_eq!(ids.len(), 1, "{head}");
        assert_eq!(ids[0] == id, kept, "{id:?} of {trusted:?}: {head}");
        assert!(kept || ids[0].len() == 32, "{head}");
        rig.end().await;
    }
}
