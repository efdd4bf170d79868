//! TLS towards nodes: whom a pool trusts, and who it says it is.
//!
//! One [`NodeTls`] stands for one policy. A reload that changes the policy makes another one, with another number and
//! without the sessions of the old, so that no connection and no resumption outlives the policy that allowed it.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::health::{FailReason, LocalFault};
use crate::config::settings::{NodeTlsSettings, Protocol};

/// One policy of TLS towards nodes.
pub struct NodeTls {
    /// What it was made from.
    pub settings: NodeTlsSettings,
    number: u64,
    /// For HTTP/1.1 alone, and for HTTP/2 where the node speaks it; or why there is none.
    configs: Result<[Arc<ClientConfig>; 2], String>,
    form: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl NodeTls {
    /// Creates a policy. One that cannot be used fails each handshake with the reason.
    pub fn new(settings: NodeTlsSettings) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let configs = client_config(&settings).map(|config| {
            let with = |protocols: &[&[u8]]| {
                let mut config = config.clone();
                config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
                Arc::new(config)
            };
            [with(&[b"http/1.1"]), with(&[b"h2", b"http/1.1"])]
        });
        Self { settings, number: NUMBER.fetch_add(1, Ordering::Relaxed), configs, form: OnceLock::new() }
    }

    /// Returns a number that no other policy of this process has: part of every key under which a connection is kept.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the name that a node's certificate must have and that is sent as SNI: the pool's, or the node's host.
    pub fn name<'a>(&'a self, host: &'a str) -> &'a str {
        self.settings.sni.as_deref().unwrap_or(host)
    }

    /// Returns another form of the policy, made at most once; `make` always makes the same type.
    pub fn form<T: Send + Sync + 'static>(&self, make: impl FnOnce(&NodeTlsSettings) -> T) -> Option<Arc<T>> {
        let form = self.form.get_or_init(|| Arc::new(make(&self.settings)));
        Arc::clone(form).downcast().ok()
    }

    /// Makes the handshake with a node that was dialled. The caller bounds its time.
    ///
    /// # Errors
    /// The node is not who it should be, or does not speak TLS: in words for the operator.
    pub async fn handshake(
        &self,
        host: &str,
        protocol: Protocol,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, FailReason> {
        let [h1, h2] = self.configs.as_ref().map_err(|why| FailReason::Tls(why.clone()))?;
        let config = match protocol {
            Protocol::H1 => h1,
            Protocol::H2 => h2,
        };
        let name = self.name(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| FailReason::Tls(format!("\"{name}\" is not a name that a certificate can have")))?;
        let connector = TlsConnector::from(Arc::clone(config));
        connector.connect(name, stream).await.map_err(|error| failed(&error))
    }
}

impl fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeTls").field("number", &self.number).finish_non_exhaustive()
    }
}

fn failed(error: &io::Error) -> FailReason {
    if let Some(fault) = LocalFault::of(error) {
        return FailReason::Local(fault);
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return FailReason::Tls("the node closed during the handshake".to_owned());
    }
    FailReason::Tls(error.to_string())
}

fn client_config(settings: &NodeTlsSettings) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| error.to_string())?;
    let verifier: Arc<dyn ServerCertVerifier> = if settings.verify {
        let roots = match &settings.ca {
            Some(authorities) => Arc::new(store(&authorities.certificates)?),
            None => system_roots()?,
        };
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| error.to_string())?
    } else {
        Arc::new(Unverified(Arc::clone(&provider)))
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    match &settings.client {
        Some(client) => builder
            .with_client_auth_cert(client.chain.to_vec(), client.key.clone_key())
            .map_err(|error| format!("the client certificate cannot be used: {error}")),
        None => Ok(builder.with_no_client_auth()),
    }
}

fn store(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| format!("a certificate of `ca` cannot be used: {error}"))?;
    }
    Ok(roots)
}

/// The machine's own roots, read once. A root that rustls does not take is left out, as browsers do.
fn system_roots() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Result<Arc<RootCertStore>, String>> = OnceLock::new();
    let read = || {
        let found = rustls_native_certs::load_native_certs()
            .map_err(|error| format!("this machine's root certificates cannot be read: {error}"))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found);
        if roots.is_empty() {
            return Err(
                "this machine has no root certificates: install ca-certificates, or set `tls.ca`".to_owned()
            );
        }
        Ok(Arc::new(roots))
    };
    ROOTS.get_or_init(read).clone()
}

/// Takes any certificate. The handshake still proves that the node has its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
