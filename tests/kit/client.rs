//! Clients: HTTP/1.1 and HTTP/2 over TLS, plain HTTP, and WebSockets. The server's certificate is not verified.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// A WebSocket over TLS.
pub(crate) type WebSocket = WebSocketStream<TlsStream<TcpStream>>;

/// What a request can end with.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Makes connections to one listener. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Client {
    /// Makes a client of an HTTPS listener.
    pub(crate) fn of(address: SocketAddr) -> Self {
        Self { address, tls: tls(&[]) }
    }

    /// Opens a TLS connection with these protocols offered and nothing sent.
    pub(crate) async fn tls(&self, host: &str, protocols: &[&str]) -> Result<TlsStream<TcpStream>, Failure> {
        let config = if protocols.is_empty() { self.tls.clone() } else { tls(protocols) };
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(TlsConnector::from(config).connect(ServerName::try_from(host.to_owned())?, stream).await?)
    }

    /// Opens a keep-alive connection.
    pub(crate) async fn h1(&self, host: &str) -> Result<Connection, Failure> {
        let stream = self.tls(host, &["http/1.1"]).await?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Connection { host: host.to_owned(), sender: Sender::H1(sender) })
    }

    /// Opens an HTTP/2 connection.
    pub(crate) async fn h2(&self, host: &str) -> Result<Connection, Failure> {
        let stream = self.tls(host, &["h2"]).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "the listener speaks h2");
        let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Connection { host: host.to_owned(), sender: Sender::H2(sender) })
    }

    /// GET on a connection of its own.
    pub(crate) async fn get(&self, host: &str, path: &str) -> Result<Answer, Failure> {
        self.h1(host).await?.get(path).await
    }

    /// Any request on a connection of its own.
    pub(crate) async fn send(
        &self,
        host: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Failure> {
        self.h1(host).await?.send(method, path, headers, body).await
    }

    /// Opens a WebSocket. An answer that is not 101 is `tungstenite::Error::Http`.
    pub(crate) async fn websocket(&self, host: &str, path: &str) -> Result<WebSocket, Failure> {
        let stream = self.tls(host, &["http/1.1"]).await?;
        let request = format!("wss://{host}{path}").into_client_request()?;
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        Ok(socket)
    }
}

/// The status with which a WebSocket was refused.
pub(crate) fn refusal(failure: &Failure) -> Option<StatusCode> {
    let tungstenite::Error::Http(response) = failure.downcast_ref::<tungstenite::Error>()? else {
        return None;
    };
    Some(response.status())
}

/// A client connection for one request after the other.
pub(crate) struct Connection {
    host: String,
    sender: Sender,
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// GET.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer, Failure> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// Any request.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(body.into());
        let response = match &mut self.sender {
            Sender::H1(sender) => {
                let request = request.uri(path).header("host", &self.host).body(body)?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::H2(sender) => {
                let request = request.uri(format!("https://{}{path}", self.host)).body(body)?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        Answer::read(response).await
    }
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    async fn read(response: http::Response<hyper::body::Incoming>) -> Result<Self, Failure> {
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Self { status: head.status, headers: head.headers, body })
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|fault| panic!("{fault}: {}", self.text()))
    }

    /// A header's value; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("an ASCII value"))
    }
}

/// One request over plain HTTP, on a connection of its own.
pub(crate) async fn plain(address: SocketAddr, method: &str, path: &str) -> Answer {
    plain_with(address, method, path, None).await
}

/// POST with a JSON body on a plain connection of its own.
pub(crate) async fn plain_json(address: SocketAddr, path: &str, body: &Value) -> Answer {
    plain_with(address, "POST", path, Some(body)).await
}

async fn plain_with(address: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let stream = TcpStream::connect(address).await.expect("the port is open");
    let (mut sender, driver) =
        http1::handshake(TokioIo::new(stream)).await.expect("a handshake without bytes");
    tokio::spawn(driver);
    let mut request = Request::builder().method(method).uri(path).header("host", address.to_string());
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
    let request = request.body(Full::new(body)).expect("a legal request");
    let response =
        sender.send_request(request).await.unwrap_or_else(|fault| panic!("{method} {path}: {fault}"));
    Answer::read(response).await.unwrap_or_else(|fault| panic!("{method} {path}: {fault}"))
}

/// A client's TLS configuration that takes every certificate.
fn tls(protocols: &[&str]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(TakeEverything(provider.signature_verification_algorithms));
    let mut config = ClientConfig::builder_with_provider(provider as Arc<CryptoProvider>)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Checks that the server holds the key of its certificate, and nothing else.
#[derive(Debug)]
struct TakeEverything(WebPkiSupportedAlgorithms);

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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
