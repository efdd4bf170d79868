//! The nodes behind all servers: two ports that answer from memory, and echo WebSocket messages.
//!
//! They share the load's core, so they do as little as a node can: `/small`, `/64k` and `/1m` say how long the answer's
//! body is; `/ws` is a WebSocket.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::task::TaskTracker;

use super::load::websocket_config;

/// Largest request head.
const HEAD_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
const BACKLOG_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// Bytes of the bodies by path.
pub(super) const BODIES: [(&str, usize); 3] = [("/small", 64), ("/64k", 64 * 1024), ("/1m", 1024 * 1024)];

/// Both nodes. They end with the runtime.
pub(super) struct Backend {
    nodes: [SocketAddr; 2],
    _tasks: TaskTracker,
}

impl Backend {
    pub(super) async fn start() -> Result<Self, String> {
        let tasks = TaskTracker::new();
        let answers = Arc::new(Answers::new());
        let mut nodes = [SocketAddr::from(([127, 0, 0, 1], 0)); 2];
        for node in &mut nodes {
            let listener = TcpListener::bind(*node).await.map_err(|error| format!("a node: {error}"))?;
            *node = listener.local_addr().map_err(|error| format!("a node: {error}"))?;
            let (answers, of_connections) = (answers.clone(), tasks.clone());
            tasks.spawn(async move {
                loop {
                    let Ok((stream, _)) = listener.accept().await else {
                        tokio::time::sleep(BACKLOG_PAUSE).await;
                        continue;
                    };
                    let answers = answers.clone();
                    of_connections.spawn(async move {
                        // A connection that ends in the middle is no fault of the node.
                        let _ = serve(stream, &answers).await;
                    });
                }
            });
        }
        Ok(Self { nodes, _tasks: tasks })
    }

    pub(super) fn nodes(&self) -> [SocketAddr; 2] {
        self.nodes
    }
}

/// Whole answers, head and body.
struct Answers(Vec<(&'static str, Bytes)>);

impl Answers {
    fn new() -> Self {
        let of = |(path, length): (&'static str, usize)| {
            let mut answer =
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n")
                    .into_bytes();
            answer.resize(answer.len() + length, b'x');
            (path, answer.into())
        };
        Self(BODIES.into_iter().map(of).collect())
    }

    fn of(&self, path: &str) -> Option<&Bytes> {
        self.0.iter().find(|(known, _)| *known == path).map(|(_, answer)| answer)
    }
}

async fn serve(mut stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = BytesMut::with_capacity(4096);
    loop {
        while !received.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            if received.len() > HEAD_MAX || stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let Ok(httparse::Status::Complete(length)) = request.parse(&received) else { return Ok(()) };
        let path = request.path.unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        if path == "/ws" {
            let key =
                request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-key"));
            let accept = derive_accept_key(key.map(|header| header.value).unwrap_or_default());
            return echo(stream, &accept).await;
        }
        let Some(answer) = answers.of(path) else { return Ok(()) };
        stream.write_all(answer).await?;
        received.advance(length);
    }
}

async fn echo(mut stream: TcpStream, accept: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(websocket_config())).await;
    while let Some(Ok(message)) = socket.next().await {
        if socket.send(message).await.is_err() {
            break;
        }
    }
    Ok(())
}
