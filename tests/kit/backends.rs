//! Nodes that say their names: real HTTP/1.1 and WebSocket servers, in-process, that can fail and die.
//!
//! Any request gets `{node, method, path, headers, body_bytes}`. `/about/health` answers as [`Health`] says. A path
//! that starts with `/slow/MS` answers after that many milliseconds. A WebSocket first says its node's name in a text
//! frame and then echoes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::port::Port;
use super::{SOON, within};

/// One node.
pub(crate) struct Backend {
    /// What it says it is.
    pub(crate) name: String,
    address: SocketAddr,
    front: Front,
    shared: Arc<Shared>,
    life: Option<Life>,
    /// Its port, while it is dead.
    kept: Option<Port>,
}

/// What a node speaks on its port.
#[derive(Clone)]
pub(crate) enum Front {
    /// HTTP/1.1.
    Plain,
    /// HTTP/2 by prior knowledge.
    H2,
    /// TLS; HTTP/2 if ALPN chose it.
    Tls(Arc<ServerConfig>),
}

/// What `/about/health` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Health {
    /// 200.
    Passing,
    /// 503.
    Failing,
    /// Nothing, for as long as the connection lives.
    Hanging,
}

/// What the node has seen.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Connections accepted.
    pub(crate) connections: AtomicUsize,
    /// Requests, checks not included.
    pub(crate) requests: AtomicUsize,
    /// Health checks.
    pub(crate) checks: AtomicUsize,
    /// WebSockets opened.
    pub(crate) websockets: AtomicUsize,
    /// WebSockets open now.
    pub(crate) websockets_open: AtomicUsize,
}

struct Shared {
    name: String,
    health: AtomicU8,
    counts: Counts,
}

struct Life {
    end: CancellationToken,
    tasks: TaskTracker,
}

impl Backend {
    /// Starts a node on a free port.
    pub(crate) async fn start(name: &str) -> Self {
        Self::start_as(name, Front::Plain).await
    }

    /// Starts a node on a free port that speaks as `front` says.
    pub(crate) async fn start_as(name: &str, front: Front) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            health: AtomicU8::new(Health::Passing as u8),
            counts: Counts::default(),
        });
        let address = listener.local_addr().expect("it is bound");
        let mut backend = Self { name: name.to_owned(), address, front, shared, life: None, kept: None };
        backend.live(listener);
        backend
    }

    /// Starts the nodes `s1`, `s2`, and so on.
    pub(crate) async fn start_many(count: usize) -> Vec<Self> {
        let mut backends = Vec::new();
        for number in 1..=count {
            backends.push(Self::start(&format!("s{number}")).await);
        }
        backends
    }

    /// `http://127.0.0.1:port`, or `https:`.
    pub(crate) fn url(&self) -> String {
        let scheme = if matches!(self.front, Front::Tls(_)) { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// What it has seen.
    pub(crate) fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Changes the answer of `/about/health`.
    pub(crate) fn set_health(&self, health: Health) {
        self.shared.health.store(health as u8, Ordering::Relaxed);
    }

    /// Closes the listener and every connection.
    pub(crate) async fn kill(&mut self) {
        let life = self.life.take().expect("it lives");
        life.end.cancel();
        life.tasks.close();
        within(SOON, "the node dies", life.tasks.wait()).await;
        self.kept = Some(Port::of(self.address).expect("the port is free"));
    }

    /// Comes back on the same port.
    pub(crate) async fn restart(&mut self) {
        assert!(self.life.is_none(), "it was killed before");
        let listener = TcpListener::bind(self.address).await.expect("the port was kept");
        self.kept = None;
        self.live(listener);
    }

    fn live(&mut self, listener: TcpListener) {
        let life = Life { end: CancellationToken::new(), tasks: TaskTracker::new() };
        let (end, tasks, shared) = (life.end.clone(), life.tasks.clone(), self.shared.clone());
        let front = self.front.clone();
        life.tasks.spawn(life.end.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                shared.counts.connections.fetch_add(1, Ordering::Relaxed);
                let house = (shared.clone(), end.clone(), tasks.clone());
                let front = front.clone();
                tasks.spawn(end.clone().run_until_cancelled_owned(async move {
                    match front {
                        Front::Plain => serve(stream, false, house).await,
                        Front::H2 => serve(stream, true, house).await,
                        Front::Tls(config) => {
                            let accepted = TlsAcceptor::from(config).accept(stream).await;
                            let Ok(stream) = accepted else { return };
                            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                            serve(stream, h2, house).await;
                        }
                    }
                }));
            }
        }));
        self.life = Some(life);
    }
}

async fn serve<S>(stream: S, h2: bool, (shared, end, tasks): (Arc<Shared>, CancellationToken, TaskTracker))
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(request, shared.clone(), end.clone(), tasks.clone()));
    let stream = TokioIo::new(stream);
    // A client that goes away in the middle is no fault of the node.
    if h2 {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(stream, service).with_upgrades().await;
    }
}

async fn answer(
    mut request: Request<Incoming>,
    shared: Arc<Shared>,
    end: CancellationToken,
    tasks: TaskTracker,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/about/health" {
        shared.counts.checks.fetch_add(1, Ordering::Relaxed);
        let status = match shared.health.load(Ordering::Relaxed) {
            health if health == Health::Passing as u8 => StatusCode::OK,
            health if health == Health::Failing as u8 => StatusCode::SERVICE_UNAVAILABLE,
            _ => std::future::pending().await,
        };
        return Ok(respond(status, json!({ "node": shared.name })));
    }
    shared.counts.requests.fetch_add(1, Ordering::Relaxed);
    if let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) {
        let accept = derive_accept_key(key.as_bytes());
        let upgrade = hyper::upgrade::on(&mut request);
        tasks.spawn(end.run_until_cancelled_owned(echo(upgrade, shared)));
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_ACCEPT, accept)
            .body(Full::default());
        return Ok(response.expect("a legal response"));
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let slow = head.uri.path().strip_prefix("/slow/").and_then(|rest| rest.split('/').next()?.parse().ok());
    if let Some(millis) = slow {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    let mut headers = Map::new();
    for (name, value) in &head.headers {
        headers.insert(name.to_string(), Value::from(String::from_utf8_lossy(value.as_bytes())));
    }
    let path = head.uri.path_and_query().map(|path| path.as_str());
    Ok(respond(
        StatusCode::OK,
        json!({
            "node": shared.name, "method": head.method.as_str(), "path": path, "headers": headers,
            "body_bytes": body.len(), "version": format!("{:?}", head.version),
            "host": head.uri.authority().map_or_else(
                || head.headers.get("host").map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned()),
                |authority| Some(authority.to_string()),
            ),
        }),
    ))
}

fn respond(status: StatusCode, body: Value) -> Response<Full<Bytes>> {
    let body = Full::new(Bytes::from(body.to_string()));
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body)
        .expect("a legal response")
}

/// Counts an open WebSocket for as long as it lives, however it ends.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counts.websockets_open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn echo(upgrade: OnUpgrade, shared: Arc<Shared>) {
    let Ok(upgraded) = upgrade.await else { return };
    shared.counts.websockets.fetch_add(1, Ordering::Relaxed);
    shared.counts.websockets_open.fetch_add(1, Ordering::Relaxed);
    let open = Open(shared);
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    if socket.send(Message::text(open.0.name.clone())).await.is_err() {
        return;
    }
    while let Some(Ok(message)) = socket.next().await {
        let echoed = match message {
            Message::Text(_) | Message::Binary(_) => socket.send(message).await,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {
                socket.flush().await
            }
        };
        if echoed.is_err() {
            return;
        }
    }
}
