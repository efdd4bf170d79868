//! TLS that does not end here: names that are passed on by SNI, unchanged; and TURN inside TLS that does.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use roomgate::edge::{TurnServer, TurnStream};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::kit::edge_rig::{Rig, TestNode, read_answer, settings_from, soon, tls_connect, tls_over, until};
use crate::kit::tcp_node::{TcpClient, TcpNode};

/// A listener that ends TLS but for two kinds of names; `more` goes into it.
fn rig(web: SocketAddr, relay: SocketAddr, more: &str) -> Rig {
    Rig::start_with(
        settings_from(
            &format!(
                "version: 1\nlisteners:\n  https: {{ bind: [\"127.0.0.1:0\"], tls: self-signed, \
             passthrough: {{ turn.test: relay, \"*.pass.test\": relay }}, timeouts: {{ handshake: 2s, head: 2s }}{more} }}\n\
             sites: {{ jitsi.test: {{ pool: web }} }}\n\
             pools:\n  web: {{ nodes: {{ w: \"http://{web}\" }} }}\n  relay: {{ nodes: {{ t: \"tcp://{relay}\" }} }}\n\
             admin: {{ bind: [] }}\n"
            ),
            &[],
        ),
        |_, _| None,
    )
}

fn handshakes(rig: &Rig, result: &str) -> u64 {
    rig.metrics.edge.handshakes.with_label_values(&[result]).get()
}

/// A node that ends TLS itself, with a certificate of its own, and echoes.
async fn tls_node() -> (SocketAddr, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec!["turn.test".to_owned()]).unwrap();
    let certificate = made.cert.der().to_vec();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"xmpp-client".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let (mut reads, mut writes) = tokio::io::split(tls);
                let _ = tokio::io::copy(&mut reads, &mut writes).await;
                let _ = writes.shutdown().await;
            });
        }
    });
    (address, certificate)
}

#[tokio::test]
async fn a_name_that_is_passed_on_meets_the_nodes_own_certificate_and_no_other_does() {
    let web = TestNode::start("w").await;
    let (relay, certificate) = tls_node().await;
    let rig = rig(web.addr, relay, "");
    for (name, passed) in [
        ("turn.test", true),
        ("TURN.test", true),
        ("a.pass.test", true),
        ("a.b.pass.test", false),
        ("pass.test", false),
        ("jitsi.test", false),
    ] {
        // A protocol that our own TLS does not offer.
        let alpn = if passed { "xmpp-client" } else { "http/1.1" };
        let mut tls = tls_connect(rig.addr("https"), name, alpn).await;
        let theirs = tls.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        assert_eq!(theirs == certificate, passed, "{name}");
        if passed {
            tls.write_all(b"\x00\x01 anything").await.unwrap();
            let mut back = [0; 11];
            soon("the echo", tls.read_exact(&mut back)).await.unwrap();
            assert_eq!(&back, b"\x00\x01 anything");
            tls.shutdown().await.unwrap();
            assert_eq!(soon("the end", tls.read(&mut back)).await.unwrap(), 0);
        }
    }
    until("all are counted", || (handshakes(&rig, "passed"), handshakes(&rig, "ok")) == (3, 3)).await;
    let way = |way| rig.metrics.edge.l4_streams_total.with_label_values(&[way]).get();
    assert_eq!((way("passthrough"), way("listener")), (3, 0));
    until("the streams have ended", || rig.metrics.edge.l4_streams.get() == 0).await;
    rig.end().await;
}

/// A ClientHello as rustls writes it.
fn client_hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

/// The same message in records of `size` bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&hello[..3], &length, part].concat()
    };
    hello[5..].chunks(size).flat_map(record).collect()
}

#[tokio::test]
async fn a_hello_in_pieces_is_read_and_arrives_as_it_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web = TestNode::start("w").await;
    let rig = rig(web.addr, listener.local_addr().unwrap(), "");
    let hello = client_hello("turn.test");
    for (what, bytes, step) in [
        ("at once", hello.clone(), usize::MAX),
        ("in segments", hello.clone(), 40),
        ("in records", in_records(&hello, 50), usize::MAX),
        ("in records of 3 bytes, in segments", in_records(&hello, 3), 97),
    ] {
        let mut client = TcpStream::connect(rig.addr("https")).await.unwrap();
        client.set_nodelay(true).unwrap();
        let sent = [&bytes[..], b"and what follows"].concat();
        for part in sent.chunks(step.min(sent.len())) {
            client.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        let (mut taken, _) = soon(what, listener.accept()).await.unwrap();
        let mut got = vec![0; sent.len()];
        soon(what, taken.read_exact(&mut got)).await.unwrap();
        assert!(got == sent, "{what}");
        taken.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        soon(what, client.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"answer");
    }
    rig.end().await;
}

#[tokio::test]
async fn a_hello_that_does_not_come_or_does_not_end_is_cut_and_reaches_nobody() {
    let (web, relay) = (TestNode::start("w").await, TcpNode::start("t").await);
    let rig = rig(web.addr, relay.addr, "");
    let hello = client_hello("turn.test");
    // A handshake message of 60 000 bytes, and of it 17 KiB.
    let mut endless = Vec::new();
    let body = [&[1, 0, 0xea, 0x60][..], &[0; 17 * 1024]].concat();
    for part in body.chunks(4096) {
        endless.extend_from_slice(&[0x16, 3, 1]);
        endless.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
        endless.extend_from_slice(part);
    }
    let mut slow = TcpStream::connect(rig.addr("https")).await.unwrap();
    slow.write_all(&hello[..hello.len() - 1]).await.unwrap();
    let mut left = TcpStream::connect(rig.addr("https")).await.unwrap();
    left.write_all(&hello[..100]).await.unwrap();
    drop(left);
    let request = b"GET / HTTP/1.1\r\nHost: turn.test\r\n\r\n".to_vec();
    for (bytes, result) in [(endless, "failed"), (request, "not_tls")] {
        let mut stream = TcpStream::connect(rig.addr("https")).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let mut answer = Vec::new();
        let _ = soon("it is closed", stream.read_to_end(&mut answer)).await;
        // An alert at most.
        assert!(answer.first().is_none_or(|first| *first == 0x15), "{answer:?}");
        until("it is counted", || handshakes(&rig, result) == 1).await;
    }
    let mut answer = Vec::new();
    let _ = soon("the slow one is cut", slow.read_to_end(&mut answer)).await;
    until("both are counted", || handshakes(&rig, "timeout") == 1 && handshakes(&rig, "closed") == 1).await;
    assert_eq!((relay.total(), web.connections(), handshakes(&rig, "passed")), (0, 0, 0));
    rig.end().await;
}

/// An Allocate request of RFC 8656 without attributes.
const ALLOCATE: [u8; 20] = [0, 3, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: jitsi.test\r\n\r\n";

#[tokio::test]
async fn turn_is_told_from_http_inside_tls_and_refused_as_long_as_nobody_serves_it() {
    let (web, relay) = (TestNode::start("w").await, TcpNode::start("t").await);
    let with = rig(web.addr, relay.addr, ", turn: true");
    let without = rig(web.addr, relay.addr, "");
    for (rig, refused) in [(&with, true), (&without, false)] {
        let mut tls = tls_connect(rig.addr("https"), "jitsi.test", "http/1.1").await;
        // Byte by byte: a decision may wait for the eighth.
        for byte in ALLOCATE {
            tls.write_all(&[byte]).await.unwrap();
            tls.flush().await.unwrap();
        }
        // What ends a head for HTTP.
        let _ = tls.write_all(b"\r\n\r\n").await;
        let mut answer = Vec::new();
        let _ = soon("it is closed", tls.read_to_end(&mut answer)).await;
        assert_eq!(answer.starts_with(b"HTTP/1.1 400 "), !refused, "{:?}", String::from_utf8_lossy(&answer));
        assert_eq!(answer.is_empty(), refused);
        assert_eq!(rig.metrics.edge.turn_streams.with_label_values(&["refused"]).get(), u64::from(refused));
        // HTTP is served there all the same, also when it comes slowly.
        let mut tls = tls_connect(rig.addr("https"), "jitsi.test", "http/1.1").await;
        for _ in 0..2 {
            for part in [&GET[..1], &GET[1..]] {
                tls.write_all(part).await.unwrap();
                tls.flush().await.unwrap();
            }
            assert!(read_answer(&mut tls).await.0.starts_with("HTTP/1.1 200 "));
        }
    }
    // Neither the one nor the other: HTTP says so.
    let mut tls = tls_connect(with.addr("https"), "jitsi.test", "http/1.1").await;
    tls.write_all(b"\x00\x03\x00\x00GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = soon("it is closed", tls.read_to_end(&mut answer)).await;
    assert!(answer.starts_with(b"HTTP/1.1 400 "));
    with.end().await;
    without.end().await;
}

/// Says whose connection it is, then echoes.
#[derive(Debug)]
struct Echo;

impl TurnServer for Echo {
    fn serve(&self, mut stream: TurnStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let whose = format!("{} {}\n", stream.listener(), stream.client());
            stream.write_all(whose.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let mut part = [0; 64];
            while let Ok(n) = stream.read(&mut part).await {
                if n == 0 || stream.write_all(&part[..n]).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
        })
    }
}

#[tokio::test]
async fn a_turn_server_gets_the_stream_from_its_first_byte_with_the_clients_address() {
    let (web, relay) = (TestNode::start("w").await, TcpNode::start("t").await);
    let rig = rig(web.addr, relay.addr, ", turn: true, proxy_protocol: { from: [127.0.0.1] }");
    rig.edge.serve_turn_with(Arc::new(Echo));
    let mut tcp = TcpStream::connect(rig.addr("https")).await.unwrap();
    tcp.write_all(b"PROXY TCP4 192.0.2.7 203.0.113.1 56324 443\r\n").await.unwrap();
    let mut client = TcpClient::of(tls_over(tcp, "jitsi.test", "stun.turn").await);
    client.send(&ALLOCATE).await;
    assert_eq!(client.line().await, "https 192.0.2.7:56324");
    let mut back = [0; ALLOCATE.len()];
    soon("the echo", client.stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, ALLOCATE);
    assert_eq!(rig.metrics.edge.turn_streams.with_label_values(&["served"]).get(), 1);
    assert_eq!(rig.metrics.edge.connections.get(), 1);
    drop(client);
    until("it is not open any more", || rig.metrics.edge.connections.get() == 0).await;
    assert_eq!(rig.tasks.drain(Duration::from_secs(5)).await, 0);
}
