//! The PROXY protocol at the front door: read from those that must send it, never from others, and written to pools that
//! want it.

use std::net::SocketAddr;
use std::time::Duration;

use roomgate::wire::proxy_protocol::{Addresses, LOCAL_V2, Scan, encode_v2, scan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::kit::edge_rig::{Rig, TestNode, read_answer, settings_from, soon, tls_over, until};
use crate::kit::tcp_node::{TcpClient, TcpNode};

const CLIENT: &str = "192.0.2.7:56324";
const V1: &str = "PROXY TCP4 192.0.2.7 203.0.113.1 56324 443\r\n";

fn v2() -> Vec<u8> {
    let destination = "203.0.113.1:443".parse().unwrap();
    encode_v2(&Addresses { source: CLIENT.parse().unwrap(), destination })
}

/// An edge whose `http`, `https` and `tcp` want the header from loopback, and whose `other` wants it from elsewhere.
/// `more` goes into both pools.
fn rig(web: SocketAddr, tcp: SocketAddr, more: &str) -> Rig {
    let bind = "bind: [\"127.0.0.1:0\"]";
    let from = "proxy_protocol: { from: [\"127.0.0.0/8\"] }";
    Rig::start_with(
        settings_from(
            &format!(
                "version: 1\nlisteners:\n  http: {{ {bind}, {from} }}\n  https: {{ {bind}, tls: self-signed, {from} }}\n  \
             tcp: {{ {bind}, tcp: relay, {from} }}\n  plain: {{ {bind}, tcp: relay }}\n  \
             other: {{ {bind}, proxy_protocol: {{ from: [\"10.0.0.0/8\", \"::1\"] }} }}\n  \
             secure: {{ {bind}, tls: self-signed, proxy_protocol: {{ from: [\"10.0.0.0/8\"] }} }}\n\
             sites: {{ s.test: {{ pool: web }} }}\n\
             pools:\n  web: {{ nodes: {{ w: \"http://{web}\" }}{more} }}\n  \
             relay: {{ nodes: {{ t: \"tcp://{tcp}\" }}{more} }}\nadmin: {{ bind: [] }}\n"
            ),
            &[],
        ),
        |_, _| None,
    )
}

async fn start() -> (TestNode, TcpNode, Rig) {
    let (web, tcp) = (TestNode::start("w").await, TcpNode::start("t").await);
    let rig = rig(web.addr, tcp.addr, "");
    (web, tcp, rig)
}

fn counted(rig: &Rig, result: &str) -> u64 {
    rig.metrics.edge.proxy_headers.with_label_values(&[result]).get()
}

/// The value of a header in the last head that the node has seen.
fn last_header(node: &TestNode, name: &str) -> String {
    let head = node.seen().last().unwrap().clone();
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
    line.unwrap_or_default().split_once(": ").unwrap_or_default().1.to_owned()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: s.test\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n";

#[tokio::test]
async fn the_client_that_the_header_names_is_the_client() {
    let (web, _tcp, rig) = start().await;
    for (header, expected) in [
        (V1.as_bytes().to_vec(), "192.0.2.7"),
        (v2(), "192.0.2.7"),
        (LOCAL_V2.to_vec(), "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY TCP6 ::ffff:192.0.2.8 ::1 1 2\r\n".to_vec(), "192.0.2.8"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n".to_vec(), "2001:db8::7"),
    ] {
        let mut stream = TcpStream::connect(rig.addr("http")).await.unwrap();
        // Together with the request, whose second one comes later on the same connection.
        stream.write_all(&[&header[..], GET].concat()).await.unwrap();
        for _ in 0..2 {
            assert!(read_answer(&mut stream).await.0.starts_with("HTTP/1.1 200 "));
            assert_eq!(last_header(&web, "x-forwarded-for"), expected);
            stream.write_all(GET).await.unwrap();
        }
        read_answer(&mut stream).await;
    }
    assert_eq!((counted(&rig, "v1"), counted(&rig, "v2"), counted(&rig, "local")), (3, 1, 2));
    rig.end().await;
}

#[tokio::test]
async fn a_header_in_pieces_stands_in_front_of_tls_too() {
    let (web, _tcp, rig) = start().await;
    for alpn in ["http/1.1", "h2"] {
        let mut tcp = TcpStream::connect(rig.addr("https")).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        for byte in v2() {
            tcp.write_all(&[byte]).await.unwrap();
        }
        let mut tls = tls_over(tcp, "s.test", alpn).await;
        if alpn == "h2" {
            let io = hyper_util::rt::TokioIo::new(tls);
            let executor = hyper_util::rt::TokioExecutor::new();
            let (mut sender, driver) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
            tokio::spawn(driver);
            let body = http_body_util::Empty::<bytes::Bytes>::new();
            let request = http::Request::get("https://s.test/").body(body).unwrap();
            assert_eq!(soon("an answer", sender.send_request(request)).await.unwrap().status(), 200);
        } else {
            tls.write_all(GET).await.unwrap();
            assert!(read_answer(&mut tls).await.0.starts_with("HTTP/1.1 200 "));
        }
        assert_eq!(last_header(&web, "x-forwarded-for"), "192.0.2.7");
    }
    rig.end().await;
}

#[tokio::test]
async fn without_a_whole_header_the_connection_is_closed_and_nothing_passes() {
    let (web, tcp, rig) = start().await;
    let endless = [b"PROXY UNKNOWN ", &[b'x'; 600][..]].concat();
    let large = [&v2()[..14], &[0x02, 0x09][..], &[0; 100]].concat();
    for (bytes, result) in [
        (GET, "missing"),
        (b"\x16\x03\x01\x02\x00", "missing"),
        (b"PROXY TCP4 192.0.2.7 203.0.113.1 56324\r\n", "malformed"),
        (&endless, "malformed"),
        (&large, "too_large"),
    ] {
        for listener in ["http", "https", "tcp"] {
            let before = counted(&rig, result);
            let mut stream = TcpStream::connect(rig.addr(listener)).await.unwrap();
            let _ = stream.write_all(bytes).await;
            let mut answer = Vec::new();
            let _ = soon("it is closed", stream.read_to_end(&mut answer)).await;
            assert!(answer.is_empty(), "{listener}: {result}");
            assert_eq!(counted(&rig, result), before + 1, "{listener}: {result}");
        }
    }
    let half = TcpStream::connect(rig.addr("http")).await.unwrap();
    let (mut reads, mut writes) = half.into_split();
    writes.write_all(&v2()[..20]).await.unwrap();
    writes.shutdown().await.unwrap();
    let mut answer = Vec::new();
    soon("it is closed", reads.read_to_end(&mut answer)).await.unwrap();
    until("the half one is counted", || counted(&rig, "closed") == 1).await;
    let mut silent = TcpStream::connect(rig.addr("http")).await.unwrap();
    soon("a silent one is closed", silent.read_to_end(&mut answer)).await.unwrap();
    assert_eq!((counted(&rig, "timeout"), answer.len()), (1, 0));
    assert_eq!((web.connections(), tcp.total()), (0, 0));
    rig.end().await;
}

#[tokio::test]
async fn from_anybody_else_it_is_bytes_like_any_other() {
    let (web, _tcp, rig) = start().await;
    for header in [V1.as_bytes().to_vec(), v2()] {
        let mut stream = TcpStream::connect(rig.addr("other")).await.unwrap();
        stream.write_all(&[&header[..], GET].concat()).await.unwrap();
        let mut answer = Vec::new();
        let _ = soon("it is closed", stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
        let mut stream = TcpStream::connect(rig.addr("secure")).await.unwrap();
        stream.write_all(&header).await.unwrap();
        let mut answer = Vec::new();
        let _ = soon("it is closed", stream.read_to_end(&mut answer)).await;
        // An alert at most.
        assert!(answer.first().is_none_or(|first| *first == 0x15), "{answer:?}");
    }
    let not_tls = rig.metrics.edge.handshakes.with_label_values(&["not_tls"]);
    until("both are counted", || not_tls.get() == 2).await;
    // Who says nothing of the kind is served, and nobody waits for a header.
    let mut stream = TcpStream::connect(rig.addr("other")).await.unwrap();
    stream.write_all(GET).await.unwrap();
    read_answer(&mut stream).await;
    assert_eq!((last_header(&web, "x-forwarded-for").as_str(), web.connections()), ("127.0.0.1", 1));
    rig.end().await;
}

/// A node that wants a header on every connection, and writes down whom it named.
async fn announced(listener: &TcpListener) -> (TcpStream, Option<Addresses>) {
    let (mut stream, _) = soon("a connection", listener.accept()).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        match scan(&bytes) {
            Scan::Complete(header, _) => return (stream, header.addresses),
            Scan::Partial => bytes.push(soon("a header", stream.read_u8()).await.unwrap()),
            Scan::Refused(refusal) => panic!("{refusal:?}: {bytes:?}"),
        }
    }
}

#[tokio::test]
async fn a_tcp_pool_is_told_who_the_client_is() {
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = rig(node.local_addr().unwrap(), node.local_addr().unwrap(), ", proxy_protocol: v2");
    let mut client = TcpClient::connect(rig.addr("plain")).await;
    client.send(b"hello").await;
    let (mut taken, addresses) = announced(&node).await;
    let own = client.stream.get_ref().local_addr().unwrap();
    assert_eq!(addresses, Some(Addresses { source: own, destination: rig.addr("plain") }));
    let mut first = [0; 5];
    soon("what the client said", taken.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"hello");
    // What came in by a header goes on by one.
    let mut client = TcpClient::connect(rig.addr("tcp")).await;
    client.send(&[&v2()[..], b"hello"].concat()).await;
    let (mut taken, addresses) = announced(&node).await;
    let expected =
        Addresses { source: CLIENT.parse().unwrap(), destination: "203.0.113.1:443".parse().unwrap() };
    assert_eq!(addresses, Some(expected));
    soon("what the client said", taken.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"hello");
    drop((client, taken));
    rig.end().await;
}

/// Answers one request on a connection.
async fn answer(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("a request", stream.read_u8()).await.unwrap());
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
}

#[tokio::test]
async fn an_http_pool_is_told_on_each_connection_and_clients_share_none() {
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = rig(node.local_addr().unwrap(), node.local_addr().unwrap(), ", proxy_protocol: v2");
    let mut kept = Vec::new();
    for port in [1, 2] {
        let mut client = TcpStream::connect(rig.addr("http")).await.unwrap();
        client
            .write_all(format!("PROXY TCP4 192.0.2.7 203.0.113.1 {port} 443\r\n").as_bytes())
            .await
            .unwrap();
        client.write_all(GET).await.unwrap();
        let (mut taken, addresses) = announced(&node).await;
        assert_eq!(addresses.unwrap().source, SocketAddr::from(([192, 0, 2, 7], port)));
        answer(&mut taken).await;
        read_answer(&mut client).await;
        kept.push((client, taken));
    }
    // A client's own connection to the node may serve it again.
    let (client, taken) = &mut kept[0];
    client.write_all(GET).await.unwrap();
    answer(taken).await;
    read_answer(client).await;
    // A WebSocket has a connection of its own in any case.
    let mut client = TcpStream::connect(rig.addr("http")).await.unwrap();
    let handshake = "GET /ws HTTP/1.1\r\nHost: s.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client
        .write_all(format!("PROXY TCP4 192.0.2.9 203.0.113.1 3 443\r\n{handshake}").as_bytes())
        .await
        .unwrap();
    let (_taken, addresses) = announced(&node).await;
    let expected =
        Addresses { source: "192.0.2.9:3".parse().unwrap(), destination: "203.0.113.1:443".parse().unwrap() };
    assert_eq!(addresses, Some(expected));
    drop((client, kept));
    let left = rig.tasks.drain(Duration::from_secs(1)).await;
    assert!(left <= 1, "the handshake that nobody answered: {left}");
}

#[tokio::test]
async fn a_load_balancer_is_neither_bounded_nor_banned_as_a_client() {
    let web = TestNode::start("w").await;
    let bind = "bind: [\"127.0.0.1:0\"], proxy_protocol: { from: [\"127.0.0.0/8\"] }";
    let text = format!(
        "version: 1\nlisteners:\n  http: {{ {bind} }}\n  https: {{ {bind}, tls: self-signed }}\n\
         sites: {{ s.test: {{ pool: web }} }}\npools:\n  web: {{ nodes: {{ w: \"http://{}\" }} }}\n\
         limits: {{ connections: {{ per_ip: 2 }} }}\n\
         bans: {{ tls: {{ handshake_failures: true, count: 5, within: 60s, lasts: 10m }} }}\nadmin: {{ bind: [] }}\n",
        web.addr
    );
    let rig = Rig::start_with(settings_from(&text, &[]), |_, _| None);
    // Connections whose header is still to come.
    let mut waiting = Vec::new();
    for _ in 0..6 {
        waiting.push(TcpStream::connect(rig.addr("http")).await.unwrap());
    }
    // Checks of its own that speak no TLS to the TLS port.
    for _ in 0..8 {
        let mut check = TcpStream::connect(rig.addr("https")).await.unwrap();
        let _ = check.write_all(&[LOCAL_V2, b"GET / HTTP/1.1\r\n\r\n"].concat()).await;
        let _ = soon("it is closed", check.read_to_end(&mut Vec::new())).await;
    }
    let mut client = TcpStream::connect(rig.addr("http")).await.unwrap();
    client.write_all(&[V1.as_bytes(), GET].concat()).await.unwrap();
    assert!(read_answer(&mut client).await.0.starts_with("HTTP/1.1 200 "));
    drop(waiting);
    rig.end().await;
}
