//! TLS of the tests: an authority, its certificates, and clients that can be told what to offer.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{SOON, within};

/// An authority that signs what tests need.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        valid_for(&mut params, 3650);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Signs an ECDSA certificate for these names.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, &rcgen::PKCS_ECDSA_P256_SHA256, "test", 90)
    }

    /// Signs a certificate for a client.
    pub(crate) fn issue_client(&self, subject: &str) -> Issued {
        self.issue_with(&[], &rcgen::PKCS_ECDSA_P256_SHA256, subject, 90)
    }

    pub(crate) fn issue_with(
        &self,
        names: &[&str],
        algorithm: &'static rcgen::SignatureAlgorithm,
        subject: &str,
        days: u32,
    ) -> Issued {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject);
        valid_for(&mut params, days);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(algorithm).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            cert: cert.pem() + &self.pem(),
            key: key.serialize_pem(),
            der: cert.der().clone(),
            key_der: key.serialize_der(),
        }
    }
}

impl Issued {
    /// Writes both files, each complete at once, as `NAME.pem` and `NAME.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        for (ending, text) in [("pem", &self.cert), ("key", &self.key)] {
            replace(&folder.join(format!("{name}.{ending}")), text);
        }
    }
}

/// Puts a whole new file in the place of another.
pub(crate) fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Makes it good from yesterday on, for so many days from now.
fn valid_for(params: &mut CertificateParams, days: u32) {
    let day = Duration::from_secs(86_400);
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now());
    params.not_before = now - day;
    params.not_after = now + day * days;
}

/// What a client offers.
pub(crate) struct Offer<'a> {
    pub(crate) authority: &'a Authority,
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) groups: Option<Vec<&'static dyn SupportedKxGroup>>,
    /// Signatures that it says it can verify; all by default.
    pub(crate) schemes: Option<&'static [SignatureScheme]>,
    pub(crate) certificate: Option<&'a Issued>,
    pub(crate) protocols: &'static [&'static str],
    /// Names are not verified: the server may answer with another certificate.
    pub(crate) any_name: bool,
}

pub(crate) const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub(crate) const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
pub(crate) const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

impl<'a> Offer<'a> {
    pub(crate) fn of(authority: &'a Authority) -> Self {
        Self {
            authority,
            versions: BOTH,
            groups: None,
            schemes: None,
            certificate: None,
            protocols: &["http/1.1"],
            any_name: false,
        }
    }

    /// Makes a client that keeps its session tickets.
    pub(crate) fn client(self) -> TlsClient {
        let mut provider = aws_lc_rs::default_provider();
        if let Some(groups) = self.groups {
            provider.kx_groups = groups;
        }
        let provider: Arc<CryptoProvider> = Arc::new(provider);
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.issuer.der().clone()).unwrap();
        let real =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let verifier = Arc::new(Verifier { real, schemes: self.schemes, any_name: self.any_name });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match self.certificate {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let key = PrivateKeyDer::try_from(issued.key_der.clone()).unwrap();
                builder.with_client_auth_cert(vec![issued.der.clone()], key).unwrap()
            }
        };
        config.resumption = Resumption::in_memory_sessions(64);
        config.alpn_protocols = self.protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        TlsClient { config: Arc::new(config) }
    }
}

/// A client with its session tickets.
#[derive(Clone)]
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
}

/// What a request over a connection of its own brought.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) kind: HandshakeKind,
    pub(crate) answer: String,
}

impl Seen {
    pub(crate) fn status(&self) -> u16 {
        self.answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }
}

impl TlsClient {
    /// Handshakes; `name` may be an address, of which nothing is said in the ClientHello.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        within(SOON, "a handshake", TlsConnector::from(self.config.clone()).connect(name, tcp)).await
    }

    /// GET for a host over a connection for a name, read to its end. The end of the handshake is part of it: TLS 1.3
    /// tells a client only then that its certificate was refused.
    pub(crate) async fn get(
        &self,
        address: SocketAddr,
        name: &str,
        host: &str,
        more: &str,
    ) -> std::io::Result<Seen> {
        let mut stream = self.connect(address, name).await?;
        let request = format!("GET /room HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        within(SOON, "an answer", stream.read_to_end(&mut answer)).await?;
        let tls = stream.get_ref().1;
        Ok(Seen {
            kind: tls.handshake_kind().unwrap(),
            answer: String::from_utf8_lossy(&answer).into_owned(),
        })
    }
}

/// Verifies for real, but may leave the name out of it or know fewer signatures.
#[derive(Debug)]
struct Verifier {
    real: Arc<WebPkiServerVerifier>,
    schemes: Option<&'static [SignatureScheme]>,
    any_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.any_name {
            return Ok(ServerCertVerified::assertion());
        }
        self.real.verify_server_cert(leaf, rest, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.real.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.real.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.map_or_else(|| self.real.supported_verify_schemes(), <[_]>::to_vec)
    }
}
