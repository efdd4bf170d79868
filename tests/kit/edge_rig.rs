//! An edge in this process with nodes that speak raw HTTP, and clients that speak raw bytes, TLS and HTTP/2.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use roomgate::config::settings::*;
use roomgate::edge::{Edge, EdgeParts};
use roomgate::pool::Pools;
use roomgate::rooms::Rooms;
use roomgate::sfu::Sfu;
use roomgate::tasks::Tasks;
use roomgate::telemetry::metrics::Metrics;
use roomgate::wire::http_body::Chunks;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

/// Nothing in these tests takes longer than this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Fails the test when the future does not end in time.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A node: an HTTP server that answers by path.
pub(crate) struct TestNode {
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    bytes_in: Arc<AtomicUsize>,
    accept: tokio::task::JoinHandle<()>,
}

impl TestNode {
    pub(crate) async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let node = Self {
            name: name.to_owned(),
            addr,
            seen: Arc::default(),
            connections: Arc::default(),
            bytes_in: Arc::default(),
            accept: tokio::spawn(async {}),
        };
        let (own, seen) = (name.to_owned(), node.seen.clone());
        let (connections, bytes_in) = (node.connections.clone(), node.bytes_in.clone());
        let accept = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let conn = NodeConnection {
                    stream,
                    name: own.clone(),
                    seen: seen.clone(),
                    bytes_in: bytes_in.clone(),
                    received: Vec::new(),
                };
                open.spawn(conn.serve());
            }
        });
        Self { accept, ..node }
    }

    /// A node that does with each connection what the test says.
    pub(crate) async fn raw<F>(name: &str, serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let accepted = connections.clone();
        let accept = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                open.spawn(serve(stream));
            }
        });
        let (seen, bytes_in) = Default::default();
        Self { name: name.to_owned(), addr, seen, connections, bytes_in, accept }
    }

    /// Heads of all requests so far, bodies behind them.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_in(&self) -> usize {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Stops listening and cuts every connection.
    pub(crate) fn kill(&self) {
        self.accept.abort();
    }
}

struct NodeConnection {
    stream: TcpStream,
    name: String,
    seen: Arc<Mutex<Vec<String>>>,
    bytes_in: Arc<AtomicUsize>,
    received: Vec<u8>,
}

impl NodeConnection {
    async fn more(&mut self) -> Option<usize> {
        let n = self.stream.read_buf(&mut self.received).await.ok().filter(|n| *n > 0)?;
        self.bytes_in.fetch_add(n, Ordering::Relaxed);
        Some(n)
    }

    async fn take(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.received.len() < n {
            self.more().await?;
        }
        Some(self.received.drain(..n).collect())
    }

    async fn body(&mut self, head: &str) -> Option<Vec<u8>> {
        let lower = head.to_ascii_lowercase();
        if lower.contains("transfer-encoding: chunked") {
            let (mut chunks, mut body) = (Chunks::default(), Vec::new());
            while !chunks.is_done() {
                if self.received.is_empty() {
                    self.more().await?;
                }
                let (taken, data) = chunks.advance(&self.received).expect("the edge sends good chunks");
                body.extend_from_slice(&self.received[data]);
                self.received.drain(..taken);
            }
            return Some(body);
        }
        let length = lower
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().trim().parse().unwrap());
        self.take(length).await
    }

    async fn serve(mut self) -> Option<()> {
        loop {
            let end = loop {
                if let Some(at) = self.received.windows(4).position(|w| w == b"\r\n\r\n") {
                    break at + 4;
                }
                self.more().await?;
            };
            let head = String::from_utf8_lossy(&self.take(end).await?).into_owned();
            let path = head.split(' ').nth(1).unwrap().split('?').next().unwrap().to_owned();
            if path.starts_with("/ws") {
                self.seen.lock().unwrap().push(head.clone());
                return self.websocket(&head, &path).await;
            }
            if path == "/continue" {
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            let body = self.body(&head).await?;
            self.seen.lock().unwrap().push(head.clone() + &String::from_utf8_lossy(&body));
            match path.as_str() {
                "/drip" => {
                    self.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
                    for byte in b"drip" {
                        self.send(format!("1\r\n{}\r\n", *byte as char).as_bytes()).await?;
                        tokio::time::sleep(Duration::from_millis(300)).await;
                    }
                    self.send(b"0\r\n\r\n").await?;
                }
                "/big" => {
                    let body = vec![b'x'; 1024 * 1024];
                    self.send(
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
                    )
                    .await?;
                    self.send(&body).await?;
                }
                "/stall" => tokio::time::sleep(Duration::from_secs(60)).await,
                "/cut" => return None,
                "/head" => self.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n").await?,
                "/304" => self.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n").await?,
                "/204" => self.send(b"HTTP/1.1 204 No Content\r\n\r\n").await?,
                "/echo" | "/continue" => self.answer(&body).await?,
                _ => {
                    let text = self.name.clone();
                    self.answer(text.as_bytes()).await?;
                }
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).await.ok()
    }

    async fn answer(&mut self, body: &[u8]) -> Option<()> {
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Node: {}\r\n\r\n", body.len(), self.name);
        self.send(&[head.as_bytes(), body].concat()).await
    }

    async fn websocket(mut self, head: &str, path: &str) -> Option<()> {
        if path == "/ws-refuse" {
            let body = "not today";
            let answer = format!(
                "HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\nX-Why: mood\r\n\r\n{body}",
                body.len()
            );
            return self.send(answer.as_bytes()).await;
        }
        if path == "/ws-refuse-chunked" {
            return self
                .send(b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
                .await;
        }
        if path == "/ws-refuse-drip" {
            self.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\n").await?;
            for byte in b"drips" {
                tokio::time::sleep(Duration::from_millis(300)).await;
                self.send(&[*byte]).await?;
            }
            return Some(());
        }
        if path == "/ws-late" {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        let key = head
            .lines()
            .find_map(|l| l.to_ascii_lowercase().starts_with("sec-websocket-key:").then(|| &l[18..]));
        let accept = derive_accept_key(key.unwrap().trim().as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.send(answer.as_bytes()).await?;
        match path {
            // Raw: one frame's beginning, then silence.
            "/ws-half-frame" => {
                self.send(&[0x82, 10, 1, 2, 3]).await?;
                while self.more().await.is_some() {}
                return None;
            }
            // Raw: reads all, answers what it read when the client's side is over.
            "/ws-half-close" => {
                while self.more().await.is_some() {}
                let length = self.received.len();
                self.send(format!("got {length}").as_bytes()).await?;
                return self.stream.shutdown().await.ok();
            }
            // Raw: sends without end and reads nothing.
            "/ws-flood" => {
                let frame = [&[0x82, 126, 0x20, 0x00][..], &[7; 0x2000]].concat();
                let mut sent = 0usize;
                loop {
                    if tokio::time::timeout(DEADLINE, self.stream.write_all(&frame)).await.ok()?.is_err() {
                        return None;
                    }
                    sent += frame.len();
                    self.bytes_in.store(sent, Ordering::Relaxed);
                }
            }
            _ => {}
        }
        let mut ws = WebSocketStream::from_raw_socket(self.stream, Role::Server, None).await;
        let name = self.name.clone();
        while let Some(Ok(message)) = ws.next().await {
            match message {
                Message::Text(text) if text.as_str() == "who" => {
                    ws.send(Message::text(name.clone())).await.ok()?
                }
                Message::Text(text) if text.as_str() == "ping me" => {
                    ws.send(Message::Ping("hello".into())).await.ok()?
                }
                Message::Text(_) | Message::Binary(_) => ws.send(message).await.ok()?,
                Message::Close(frame) => {
                    let code = frame.map_or(0, |f| u16::from(f.code));
                    self.seen.lock().unwrap().push(format!("close {code}"));
                }
                Message::Ping(payload) => {
                    self.seen.lock().unwrap().push(format!("ping {}", String::from_utf8_lossy(&payload)));
                }
                Message::Pong(payload) => {
                    self.seen.lock().unwrap().push(format!("pong {}", String::from_utf8_lossy(&payload)));
                }
                Message::Frame(_) => {}
            }
        }
        Some(())
    }
}

/// What a test wants of its edge.
pub(crate) struct Plan {
    pub(crate) limits: ListenerLimits,
    pub(crate) timeouts: SiteTimeouts,
    pub(crate) check: Option<CheckSettings>,
    pub(crate) shutdown: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            limits: ListenerLimits {
                handshake_timeout: Duration::from_secs(5),
                head_timeout: Duration::from_secs(5),
                idle_timeout: Duration::from_secs(30),
                head_bytes_max: 128 * 1024,
                streams_max: 100,
                resets_max: 100,
            },
            timeouts: SiteTimeouts {
                connect: Duration::from_secs(2),
                response: Duration::from_secs(5),
                tunnel_idle: Duration::from_secs(60),
                tunnel_ping: None,
            },
            check: None,
            shutdown: Duration::from_secs(4),
        }
    }
}

/// A running edge: a TLS listener `https`, a plain one `http`, a redirecting one `redirect`; the sites
/// `jitsi.test` (Jitsi) and `plain.test` (rule `?room=`).
pub(crate) struct Rig {
    pub(crate) edge: Edge,
    pub(crate) pools: Pools,
    pub(crate) rooms: Rooms,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Metrics,
}

/// What the file of a test says; the plan's own values go in behind it, also such as no file may have.
const FILE: &str = r#"
version: 1
listeners:
  https: { bind: ["127.0.0.1:0"], tls: self-signed }
  http: { bind: ["127.0.0.1:0"] }
  redirect: { bind: ["127.0.0.1:0"], redirect: https }
sites:
  jitsi.test: { app: jitsi, pool: shards }
  plain.test: { pool: shards, room: [ { query: room } ] }
pools: { shards: { nodes: NODES } }
admin: { bind: [] }
rooms: { max: 1000 }
"#;

/// Loads a file's text in which `NODES` stands for the nodes of a pool.
pub(crate) fn settings_from(text: &str, nodes: &[&TestNode]) -> Settings {
    let entries: Vec<String> =
        nodes.iter().map(|node| format!("{}: \"http://{}\"", node.name, node.addr)).collect();
    let text = text.replace("NODES", &format!("{{ {} }}", entries.join(", ")));
    roomgate::config::load_str("test.yaml", &text, std::path::Path::new("."), None)
        .unwrap_or_else(|faults| panic!("{faults}"))
        .settings
}

pub(crate) fn settings_of(plan: &Plan, nodes: &[&TestNode]) -> Settings {
    let mut entries: Vec<String> =
        nodes.iter().map(|node| format!("{}: \"http://{}\"", node.name, node.addr)).collect();
    if entries.is_empty() {
        entries.push("none: \"http://127.0.0.1:1\"".to_owned());
    }
    let text = FILE.replace("NODES", &format!("{{ {} }}", entries.join(", ")));
    let mut settings = settings_from(&text, &[]);
    for (name, listener) in &mut settings.listeners {
        let listener = Arc::make_mut(listener);
        listener.limits = plan.limits.clone();
        if &**name == "redirect" {
            listener.redirect = Some(RedirectSettings { port: 8443 });
        }
    }
    for site in settings.sites.exact.values_mut() {
        let site = Arc::make_mut(site);
        for route in site.routes.iter_mut().chain([&mut site.rest]) {
            Arc::make_mut(route).timeouts = plan.timeouts.clone();
        }
    }
    for pool in settings.pools.values_mut() {
        if let PoolNodes::Http { check, nodes: all } = &mut Arc::make_mut(pool).nodes {
            check.clone_from(&plan.check);
            if nodes.is_empty() {
                all.clear();
            }
        }
    }
    settings.shutdown = ShutdownSettings { deadline: plan.shutdown, tunnels: plan.shutdown / 2 };
    settings
}

impl Rig {
    pub(crate) fn start(plan: &Plan, nodes: &[&TestNode]) -> Self {
        Self::start_with(settings_of(plan, nodes), |_, _| None)
    }

    /// Starts with given settings, and an SFU if `sfu` makes one.
    pub(crate) fn start_with(settings: Settings, sfu: impl FnOnce(&Metrics, &Tasks) -> Option<Sfu>) -> Self {
        let settings = Arc::new(settings);
        let metrics = Metrics::new();
        let pools = Pools::new(metrics.pool.clone());
        pools.apply(&settings.pools);
        let rooms = Rooms::new(pools.clone(), &settings.rooms, metrics.rooms.clone());
        let tasks = Tasks::new();
        let parts = EdgeParts {
            rooms: rooms.clone(),
            pools: pools.clone(),
            sfu: sfu(&metrics, &tasks),
            metrics: metrics.edge.clone(),
        };
        let edge = Edge::start(parts, settings, tasks.clone()).unwrap();
        Self { edge, pools, rooms, tasks, metrics }
    }

    pub(crate) fn addr(&self, listener: &str) -> SocketAddr {
        self.edge.local_addr(listener).unwrap()
    }

    pub(crate) async fn plain(&self) -> TcpStream {
        TcpStream::connect(self.addr("http")).await.unwrap()
    }

    pub(crate) async fn tls(&self, alpn: &str) -> TlsStream<TcpStream> {
        tls_connect(self.addr("https"), "jitsi.test", alpn).await
    }

    /// Sends bytes on a fresh plain connection and returns all that comes back until it is closed.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.plain().await;
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        soon("the connection closes", stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) async fn end(self) {
        assert_eq!(self.tasks.drain(DEADLINE).await, 0, "tasks were still running");
    }
}

pub(crate) async fn tls_connect(addr: SocketAddr, name: &str, alpn: &str) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(addr).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    tls_over(tcp, name, alpn).await
}

/// The same over a connection that is there already.
pub(crate) async fn tls_over(tcp: TcpStream, name: &str, alpn: &str) -> TlsStream<TcpStream> {
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate))
            .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon("a handshake", TlsConnector::from(Arc::new(config)).connect(name, tcp)).await.unwrap()
}

/// Reads one HTTP/1.1 answer with a `Content-Length`; returns head and body.
pub(crate) async fn read_answer<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> (String, Vec<u8>) {
    soon("an answer", async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a whole head"));
        }
        let head = String::from_utf8(head).unwrap();
        let length = head
            .to_ascii_lowercase()
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().trim().parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.expect("a whole body");
        (head, body)
    })
    .await
}

/// Headers of a WebSocket handshake with `plain.test`.
pub(crate) const HANDSHAKE: &str = "Host: plain.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Opens a tunnel by hand and returns the stream behind the 101.
pub(crate) async fn raw_tunnel(rig: &Rig, path: &str) -> TcpStream {
    let mut stream = rig.plain().await;
    stream.write_all(format!("GET {path} HTTP/1.1\r\n{HANDSHAKE}").as_bytes()).await.unwrap();
    let (head, _) = read_answer(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}

/// Opens a WebSocket through a stream that is connected already.
pub(crate) async fn websocket<S>(stream: S, url: &str) -> WebSocketStream<S>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    soon("a WebSocket", tokio_tungstenite::client_async(url, stream)).await.unwrap().0
}

#[derive(Debug)]
struct AnyCertificate;

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
