//! TLS and HTTP/2 to nodes: who is trusted, what is shown, what is spoken, and that no connection outlives its policy.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{SinkExt, StreamExt};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use roomgate::config::settings::Settings;
use roomgate::pool::{Checker, Node, NodeState};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use crate::kit::backends::{Backend, Front};
use crate::kit::edge_rig::{Rig, soon};
use crate::kit::{SOON, until};

/// An authority with a folder for its files.
struct Authority {
    name: &'static str,
    cert: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &'static str, folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), cert.pem()).unwrap();
        Self { name, cert, issuer: Issuer::new(params, key) }
    }

    fn leaf(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes a client certificate and its key.
    fn client(&self, folder: &Path) {
        let (cert, key) = self.leaf(&["edge.test"]);
        std::fs::write(folder.join("edge.pem"), cert.pem()).unwrap();
        std::fs::write(folder.join("edge.key"), key.serialize_pem()).unwrap();
    }

    /// TLS of a node with these names. With `clients`, it asks for a certificate of that authority.
    fn server(&self, names: &[&str], alpn: &[&[u8]], clients: Option<&Authority>) -> Arc<ServerConfig> {
        let (cert, key) = self.leaf(names);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(authority.cert.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(vec![cert.der().clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }

    fn file(&self) -> String {
        format!("ca: {}.pem", self.name)
    }
}

fn settings(folder: &Path, node: &str, pool: &str) -> Settings {
    settings_with(folder, node, pool, "3s")
}

fn settings_with(folder: &Path, node: &str, pool: &str, connect: &str) -> Settings {
    let text = format!(
        "version: 1\nlisteners: {{ http: {{ bind: [\"127.0.0.1:0\"] }} }}\n\
         sites:\n  plain.test: {{ pool: p, room: [ {{ query: room }} ], timeouts: {{ connect: {connect} }} }}\n\
         pools: {{ p: {{ nodes: {{ n: {node} }}, {pool} }} }}\nadmin: {{ bind: [] }}\n"
    );
    let loaded = roomgate::config::load_str("test", &text, folder, None);
    loaded.unwrap_or_else(|faults| panic!("{faults}\n{text}")).settings
}

fn rig(folder: &Path, node: &str, pool: &str) -> Rig {
    Rig::start_with(settings(folder, node, pool), |_, _| None)
}

fn node(rig: &Rig) -> Arc<Node> {
    Arc::clone(rig.pools.get("p").unwrap().node("n").unwrap())
}

/// Sends a request and returns its status, and its body as JSON if it is that.
async fn request(rig: &Rig, method: &str, body: &str) -> (u16, Value) {
    let mut stream = rig.plain().await;
    let head = format!(
        "{method} /some/path?room=r HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let json =
        answer.find('{').zip(answer.rfind('}')).and_then(|(a, b)| serde_json::from_str(&answer[a..=b]).ok());
    (status, json.unwrap_or(Value::Null))
}

async fn get(rig: &Rig) -> (u16, Value) {
    request(rig, "GET", "").await
}

/// Opens a WebSocket, sends one message and reads it back; returns the status, or 101.
async fn websocket(rig: &Rig) -> u16 {
    let mut stream = rig.plain().await;
    let head = "GET /ws?room=w HTTP/1.1\r\nHost: plain.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(soon("the handshake", stream.read_u8()).await.unwrap());
    }
    let status = String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().parse().unwrap();
    if status == 101 {
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        soon("the node's name", socket.next()).await.unwrap().unwrap();
        let sent = Message::text("x".repeat(100_000));
        socket.send(sent.clone()).await.unwrap();
        assert_eq!(soon("the echo", socket.next()).await.unwrap().unwrap(), sent);
        socket.close(None).await.unwrap();
        while let Some(Ok(_)) = soon("the end", socket.next()).await {}
    }
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_trusted_by_its_authority_and_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (good, other) = (Authority::new("good", dir.path()), Authority::new("other", dir.path()));
    good.client(dir.path());
    let by_address = Backend::start_as("n", Front::Tls(good.server(&["127.0.0.1"], &[], None))).await;
    let by_name = Backend::start_as("n", Front::Tls(good.server(&["node.test"], &[], None))).await;
    let mutual = Backend::start_as("n", Front::Tls(good.server(&["127.0.0.1"], &[], Some(&good)))).await;
    let ca = good.file();
    for (backend, tls, reason) in [
        (&by_address, ca.clone(), ""),
        (&by_address, other.file(), "UnknownIssuer"),
        // The machine's own roots.
        (&by_address, "verify: true".to_owned(), "UnknownIssuer"),
        (&by_address, "verify: false".to_owned(), ""),
        (&by_name, format!("{ca}, sni: node.test"), ""),
        (&by_name, ca.clone(), "certificate not valid for name \"127.0.0.1\""),
        (&by_name, format!("{ca}, sni: elsewhere.test"), "certificate not valid for name \"elsewhere.test\""),
        (&by_name, format!("{}, sni: node.test, verify: false", other.file()), ""),
        (&mutual, format!("{ca}, cert: edge.pem, key: edge.key"), ""),
    ] {
        let what = format!("{tls} -> {reason}");
        let url = format!("\"{}\"", backend.url());
        // Two rigs: a node that failed for one is down for the other.
        for upgraded in [false, true] {
            let rig = rig(dir.path(), &url, &format!("tls: {{ {tls} }}"));
            let status = if upgraded { websocket(&rig).await } else { get(&rig).await.0 };
            if reason.is_empty() {
                assert_eq!(status, if upgraded { 101 } else { 200 }, "{what}: {}", node(&rig).why());
                assert!(node(&rig).can_serve(), "{what}");
            } else {
                assert!(status >= 500, "{what}: {status}");
                let why = node(&rig).why();
                assert!(why.starts_with("TLS: ") && why.contains(reason), "{what}: {why}");
                assert_eq!(node(&rig).state(), NodeState::Down, "{what}");
            }
            rig.end().await;
        }
    }
    // A node that asks for a certificate and gets none, and one that does not speak TLS at all.
    let plain = Backend::start("n").await;
    let at = |backend: &Backend| format!("\"https://{}\"", backend.url().split("//").nth(1).unwrap());
    for url in [at(&mutual), at(&plain)] {
        let rig = rig(dir.path(), &url, &format!("tls: {{ {ca} }}"));
        let status = get(&rig).await.0;
        assert!(status >= 500, "{url}: {status}");
        rig.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_kept_and_none_outlives_its_policy() {
    let dir = tempfile::tempdir().unwrap();
    let (good, other) = (Authority::new("good", dir.path()), Authority::new("other", dir.path()));
    let backend = Backend::start_as("n", Front::Tls(good.server(&["127.0.0.1"], &[], None))).await;
    let url = format!("\"{}\"", backend.url());
    let rig = rig(dir.path(), &url, &format!("tls: {{ {} }}", good.file()));
    // One client connection is one thread, and each thread keeps its own.
    let mut stream = rig.plain().await;
    let mut ask = async || {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let length = loop {
            answer.push(soon("the head", stream.read_u8()).await.unwrap());
            if answer.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
                break head
                    .split("content-length: ")
                    .nth(1)
                    .unwrap()
                    .split('\r')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
            }
        };
        let mut body = vec![0; length];
        soon("the body", stream.read_exact(&mut body)).await.unwrap();
        String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    for _ in 0..5 {
        assert_eq!(ask().await, 200);
    }
    let connections = || backend.counts().connections.load(Ordering::Relaxed);
    assert_eq!(connections(), 1);
    let before = node(&rig);
    // The same policy once more, then one that does not trust the node, then the first again.
    rig.pools.apply(&settings(dir.path(), &url, &format!("tls: {{ {} }}", good.file())).pools);
    assert_eq!(ask().await, 200);
    assert_eq!(connections(), 1, "the policy stands, and so do its connections");
    rig.pools.apply(&settings(dir.path(), &url, &format!("tls: {{ {} }}", other.file())).pools);
    assert!(Arc::ptr_eq(&before, &node(&rig)), "it is the same node");
    assert!(get(&rig).await.0 >= 500, "it is verified anew");
    assert!(connections() > 1);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_spoken_to_nodes_that_choose_it_and_websockets_stay_http1() {
    let dir = tempfile::tempdir().unwrap();
    let good = Authority::new("good", dir.path());
    let both = Front::Tls(good.server(&["127.0.0.1"], &[b"h2", b"http/1.1"], None));
    let old = Front::Tls(good.server(&["127.0.0.1"], &[b"http/1.1"], None));
    let mute = Front::Tls(good.server(&["127.0.0.1"], &[], None));
    let tls = format!("tls: {{ {} }}", good.file());
    for (front, pool, version, websockets) in [
        (both.clone(), format!("protocol: h2, {tls}"), "HTTP/2.0", true),
        (both, format!("protocol: h1, {tls}"), "HTTP/1.1", true),
        (old, format!("protocol: h2, {tls}"), "HTTP/1.1", true),
        (mute, format!("protocol: h2, {tls}"), "HTTP/1.1", true),
        (Front::H2, "protocol: h2".to_owned(), "HTTP/2.0", false),
        (Front::Plain, "protocol: h1".to_owned(), "HTTP/1.1", true),
    ] {
        let backend = Backend::start_as("n", front).await;
        let rig = rig(dir.path(), &format!("\"{}\"", backend.url()), &pool);
        for (method, body) in [("GET", ""), ("POST", "twelve bytes"), ("GET", "")] {
            let (status, said) = request(&rig, method, body).await;
            assert_eq!(status, 200, "{pool}: {}", node(&rig).why());
            assert_eq!((&said["version"], &said["method"]), (&version.into(), &method.into()), "{pool}");
            assert_eq!(said["path"], "/some/path?room=r", "{pool}");
            assert_eq!(said["body_bytes"], body.len(), "{pool}");
            assert_eq!(said["host"], "plain.test", "{pool}: {said}");
        }
        if websockets {
            assert_eq!(websocket(&rig).await, 101, "{pool}");
        }
        rig.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_go_the_way_that_requests_go() {
    let dir = tempfile::tempdir().unwrap();
    let (good, other) = (Authority::new("good", dir.path()), Authority::new("other", dir.path()));
    let h2 = Front::Tls(good.server(&["127.0.0.1"], &[b"h2"], None));
    let check = "check: { http: /about/health, every: 2s, timeout: 2s }";
    for (front, pool, up) in [
        (h2.clone(), format!("protocol: h2, tls: {{ {} }}", good.file()), true),
        (h2, format!("protocol: h2, tls: {{ {} }}", other.file()), false),
        (Front::H2, "protocol: h2".to_owned(), true),
    ] {
        let backend = Backend::start_as("n", front).await;
        let rig = rig(dir.path(), &format!("\"{}\"", backend.url()), &format!("{pool}, {check}"));
        Checker::start(rig.pools.clone(), None, Arc::new(|_: &Arc<Node>| {}), &rig.tasks);
        let node = node(&rig);
        let wanted = if up { NodeState::Up } else { NodeState::Down };
        until(SOON * 3, "the node's state", || async {
            if node.state() == wanted { Ok(()) } else { Err(node.why()) }
        })
        .await;
        if up {
            assert_eq!(get(&rig).await.0, 200, "{pool}");
        } else {
            assert!(node.why().contains("UnknownIssuer"), "{}", node.why());
        }
        rig.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_never_ends_is_a_failed_connect_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("\"https://{}\"", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    for upgraded in [false, true] {
        let settings = settings_with(dir.path(), &url, "tls: { verify: true }", "300ms");
        let rig = Rig::start_with(settings, |_, _| None);
        let status = if upgraded { websocket(&rig).await } else { get(&rig).await.0 };
        assert!(status >= 500, "{status}");
        assert_eq!(node(&rig).why(), "timeout after 300ms");
        rig.end().await;
    }
    silent.abort();
}
