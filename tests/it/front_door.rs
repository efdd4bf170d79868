//! The binary's own front door: redirects, protocols, unknown names, and bytes that desynchronise servers.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::kit::backends::Backend;
use crate::kit::client::Client;
use crate::kit::config::{JITSI, Shards};
use crate::kit::process::Roomgate;
use crate::kit::{SOON, within};

/// Sends these bytes over TLS and returns what comes until the end.
async fn raw(client: &Client, bytes: &[u8]) -> String {
    let mut stream = client.tls(JITSI, &["http/1.1"]).await.unwrap();
    // What is refused at its bound need not be taken to its end.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    // A peer that ends TLS without a goodbye is no fault here: what it said counts.
    let _ = within(SOON, "the connection ends", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn plain_requests_are_sent_to_https() {
    let backends = Backend::start_many(1).await;
    let roomgate = Roomgate::start(&Shards::of(&backends).text()).await;
    let mut stream = TcpStream::connect(roomgate.listener("http")).await.unwrap();
    let request = format!("GET /room?x=1 HTTP/1.1\r\nHost: {JITSI}:80\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(SOON, "an answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    // The port is the one in the file: 0 here.
    let location = format!("\r\nlocation: https://{JITSI}:0/room?x=1\r\n");
    assert!(answer.to_lowercase().contains(&location), "{answer}");
}

#[tokio::test]
async fn h2_and_h1_are_agreed_on_and_an_unknown_site_is_refused() {
    let backends = Backend::start_many(1).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).text()).await;
    let client = Client::of(roomgate.https());
    for offered in [&["h2", "http/1.1"][..], &["http/1.1"], &[]] {
        let stream = client.tls(JITSI, offered).await.unwrap();
        let agreed = stream.get_ref().1.alpn_protocol();
        assert_eq!(agreed, offered.first().map(|protocol| protocol.as_bytes()));
    }
    assert_eq!(client.h2(JITSI).await.unwrap().get("/room").await.unwrap().status, 200);
    for mut connection in
        [client.h1("nobody.example").await.unwrap(), client.h2("nobody.example").await.unwrap()]
    {
        let answer = connection.get("/room").await.unwrap();
        assert!([404, 421].contains(&answer.status.as_u16()), "{}", answer.status);
    }
}

#[tokio::test]
async fn a_message_with_two_readings_reaches_no_node() {
    let backends = Backend::start_many(1).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).text()).await;
    let client = Client::of(roomgate.https());
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: meet.example.com\r\n\r\n";
    for (what, head) in [
        ("length and encoding", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        ("two lengths", "Content-Length: 4\r\nContent-Length: 0\r\n"),
        ("a list of lengths", "Content-Length: 0, 4\r\n"),
        ("a signed length", "Content-Length: +4\r\n"),
        ("an odd encoding", "Transfer-Encoding: \x0bchunked\r\n"),
        ("encoding twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("a folded line", "X-A: b\r\n c\r\n"),
        ("a bare LF", "X-A: b\nX-B: c\r\n"),
        ("a bare CR", "X-A: b\rX-B: c\r\n"),
        ("a NUL", "X-A: b\0c\r\n"),
        ("a space before the colon", "Content-Length : 4\r\n"),
        ("two hosts", "Host: other.example\r\n"),
    ] {
        let bytes = format!("POST /room HTTP/1.1\r\nHost: {JITSI}\r\n{head}\r\n{smuggled}");
        let answer = raw(&client, bytes.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what}: the connection ends with it: {answer:?}");
    }
    assert_eq!(backends[0].counts().requests.load(Ordering::Relaxed), 0, "no node has seen a byte of them");
    assert!(!roomgate.log().iter().any(|line| line.contains("smuggled")), "refusals are counted, not logged");
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut() {
    let backends = Backend::start_many(1).await;
    let config = Shards::of(&backends).text().replace(
        "https: { bind: [\"127.0.0.1:0\"],",
        "https: { bind: [\"127.0.0.1:0\"], timeouts: { handshake: 3s, head: 3s, idle: 3s },",
    );
    let roomgate = Roomgate::start_up(&config).await;
    let client = Client::of(roomgate.https());
    let slow = raw(&client, b"GET /room HTTP/1.1\r\nHost: meet.example.com\r\nX-Slow: ").await;
    assert!(slow.is_empty() || slow.starts_with("HTTP/1.1 408 "), "{slow:?}");
    let large = format!("GET /room HTTP/1.1\r\nHost: {JITSI}\r\nX-Large: {}\r\n\r\n", "x".repeat(200 * 1024));
    let large = raw(&client, large.as_bytes()).await;
    assert!(large.is_empty() || large.starts_with("HTTP/1.1 431 "), "{large:?}");
    let mut silent = TcpStream::connect(roomgate.https()).await.unwrap();
    let closed = within(SOON, "a client without a hello is cut", silent.read_u8()).await;
    assert!(closed.is_err());
}
