//! The clients: TLS handshakes, requests over HTTP/1 and HTTP/2, WebSockets. Many at once on one core.
//!
//! Every server is offered the same and nothing else: TLS 1.3, X25519, AES-128-GCM. The certificate is not verified,
//! for the client's work is not what is measured.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::servers::HOST;

/// Largest response head, and how much is read at once.
const READ: usize = 16 * 1024;
/// What a client lets a server send ahead over HTTP/2, on a stream and on the connection: as much as a browser does.
const H2_STREAM_WINDOW: u32 = 6 * 1024 * 1024;
const H2_CONNECTION_WINDOW: u32 = 15 * 1024 * 1024;

/// A WebSocket through the server under test.
pub(super) type WebSocket = WebSocketStream<TlsStream<TcpStream>>;

/// Makes connections to one server.
pub(super) struct Client {
    address: SocketAddr,
    h1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
}

impl Client {
    pub(super) fn of(address: SocketAddr) -> Self {
        Self { address, h1: tls("http/1.1", Resumption::disabled()), h2: tls("h2", Resumption::disabled()) }
    }

    /// One full handshake and one request: the server serves.
    pub(super) async fn first_answer(&self) -> Result<(), String> {
        self.h1().await?.get("/small?room=first").await.map(drop)
    }

    /// Opens an HTTP/1 connection, with a full handshake.
    pub(super) async fn h1(&self) -> Result<H1, String> {
        self.h1_with(&self.h1, HandshakeKind::Full).await
    }

    /// Opens an HTTP/1 connection, with this kind of handshake or not at all.
    async fn h1_with(&self, config: &Arc<ClientConfig>, kind: HandshakeKind) -> Result<H1, String> {
        let stream = self.connect(config).await?;
        let was = stream.get_ref().1.handshake_kind();
        if was != Some(kind) {
            return Err(format!("a handshake of the kind {was:?}, not {kind:?}"));
        }
        Ok(H1 { stream, received: Vec::new() })
    }

    /// Opens an HTTP/2 connection.
    pub(super) async fn h2(&self) -> Result<H2, String> {
        let stream = self.connect(&self.h2).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("the server did not agree on h2".into());
        }
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("h2: {error}"))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async {
            // What went wrong is said by the requests.
            let _ = driver.await;
        });
        Ok(H2 { sender, _driver: Arc::new(tasks) })
    }

    /// Opens a WebSocket.
    pub(super) async fn websocket(&self, path: &str) -> Result<WebSocket, String> {
        let stream = self.connect(&self.h1).await?;
        let request =
            format!("wss://{HOST}{path}").into_client_request().map_err(|error| error.to_string())?;
        let opened =
            tokio_tungstenite::client_async_with_config(request, stream, Some(websocket_config())).await;
        opened.map(|(socket, _)| socket).map_err(|error| format!("a WebSocket: {error}"))
    }

    /// A client that resumes its own sessions only.
    pub(super) fn resuming(&self) -> Resuming<'_> {
        Resuming { client: self, config: tls("http/1.1", Resumption::in_memory_sessions(8)), known: false }
    }

    async fn connect(&self, config: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, String> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| format!("connect: {error}"))?;
        stream.set_nodelay(true).map_err(|error| format!("nodelay: {error}"))?;
        let name = ServerName::try_from(HOST).map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(config.clone());
        connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))
    }
}

/// One connection after the other; all but the first resume.
pub(super) struct Resuming<'a> {
    client: &'a Client,
    config: Arc<ClientConfig>,
    known: bool,
}

impl Resuming<'_> {
    /// Opens the next connection.
    pub(super) async fn h1(&mut self) -> Result<H1, String> {
        let kind = if self.known { HandshakeKind::Resumed } else { HandshakeKind::Full };
        self.known = true;
        self.client.h1_with(&self.config, kind).await
    }
}

/// An HTTP/1 connection.
pub(super) struct H1 {
    stream: TlsStream<TcpStream>,
    received: Vec<u8>,
}

impl H1 {
    /// GET; returns how long the body was.
    pub(super) async fn get(&mut self, path: &str) -> Result<usize, String> {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n");
        self.exchange(request.as_bytes()).await.map_err(|error| format!("GET {path}: {error}"))
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<usize, String> {
        let io = |error: std::io::Error| error.to_string();
        self.stream.write_all(request).await.map_err(io)?;
        self.stream.flush().await.map_err(io)?;
        self.received.clear();
        let head = loop {
            if let Some(at) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if self.received.len() > READ {
                return Err("the head has no end".into());
            }
            if self.read().await? == 0 {
                return Err("closed before the answer".into());
            }
        };
        let length = body_length(self.received.get(..head).unwrap_or_default())?;
        let mut left = (head + length).checked_sub(self.received.len()).ok_or("more than the answer")?;
        while left > 0 {
            self.received.clear();
            let read = self.read().await?;
            if read == 0 {
                return Err("closed within the body".into());
            }
            left = left.checked_sub(read).ok_or("more than the body")?;
        }
        Ok(length)
    }

    async fn read(&mut self) -> Result<usize, String> {
        self.received.reserve(READ);
        self.stream.read_buf(&mut self.received).await.map_err(|error| error.to_string())
    }

    /// Says goodbye, as a client does that is done.
    pub(super) async fn close(mut self) {
        // A server that was faster has closed already.
        let _ = self.stream.shutdown().await;
    }
}

/// Reads the length of a body from a head of status 200.
fn body_length(head: &[u8]) -> Result<usize, String> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines();
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") {
        return Err(format!("`{status}` instead of 200"));
    }
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse().ok() } else { None }
    });
    length.ok_or("no Content-Length".into())
}

/// An HTTP/2 connection. A clone is one more stream on it.
#[derive(Clone)]
pub(super) struct H2 {
    sender: http2::SendRequest<Empty<Bytes>>,
    /// Ends with the last stream.
    _driver: Arc<JoinSet<()>>,
}

impl H2 {
    /// GET; returns how long the body was.
    pub(super) async fn get(&mut self, path: &str) -> Result<usize, String> {
        let request = http::Request::get(format!("https://{HOST}{path}"))
            .header("user-agent", "bench")
            .header("accept", "*/*")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let fault = |error: hyper::Error| format!("GET {path}: {error}");
        self.sender.ready().await.map_err(fault)?;
        let response = self.sender.send_request(request).await.map_err(fault)?;
        if response.status() != 200 {
            return Err(format!("GET {path}: {} instead of 200", response.status()));
        }
        let (mut body, mut length) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            length += frame.map_err(fault)?.data_ref().map_or(0, Bytes::len);
        }
        Ok(length)
    }
}

/// Small buffers: thousands of WebSockets are open at both ends.
pub(super) fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(0)
}

fn tls(protocol: &str, resumption: Resumption) -> Arc<ClientConfig> {
    let provider = rustls::crypto::CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TakeEverything))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    config.resumption = resumption;
    Arc::new(config)
}

/// Verifies nothing.
#[derive(Debug)]
struct TakeEverything;

impl ServerCertVerifier for TakeEverything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_body_is_read_from_a_good_answer_only() {
        assert_eq!(body_length(b"HTTP/1.1 200 OK\r\ncontent-length: 64\r\n\r\n"), Ok(64));
        for head in ["HTTP/1.1 502 Bad Gateway\r\nContent-Length: 1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
            assert!(body_length(head.as_bytes()).is_err(), "{head}");
        }
    }
}
