//! TLS of one listener: who we say we are, by SNI, changeable while connections come in.
//!
//! Owns the listener's `rustls::ServerConfig`, which lives as long as the listener: a reload swaps the certificates
//! inside the resolver and keeps the ticket keys, so that resumption survives it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::settings::{CertificateFiles, TlsSettings};
use crate::wire::san;

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain's file cannot be read or holds no certificate.
    #[error("{path}: cannot read the certificate chain: {reason}")]
    Chain {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The key's file cannot be read or holds no key.
    #[error("{path}: cannot read the private key: {reason}")]
    Key {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The key does not belong to the certificate, or is of a kind that is not known.
    #[error("{path}: the private key does not fit: {reason}")]
    Pair {
        /// The chain's file.
        path: String,
        /// Why.
        reason: String,
    },
    /// TLS itself refused.
    #[error("cannot set TLS up: {0}")]
    Tls(#[from] rustls::Error),
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
    /// `certificates` is empty.
    #[error("a TLS listener has no certificate")]
    Empty,
}

/// TLS of one listener.
#[derive(Debug)]
pub(crate) struct ListenerTls {
    config: Arc<ServerConfig>,
    resolver: Arc<Resolver>,
}

impl ListenerTls {
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        let resolver = Arc::new(Resolver { table: ArcSwap::from_pointee(CertificateTable::load(settings)?) });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(resolver.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Stateless: no table of sessions that clients can fill.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(Self { config: Arc::new(config), resolver })
    }

    /// Config for one handshake.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Puts loaded certificates in place. Handshakes under way keep the old ones.
    pub(crate) fn replace(&self, table: CertificateTable) {
        self.resolver.table.store(Arc::new(table));
    }
}

/// Certificates by the names they are for.
#[derive(Debug)]
pub(crate) struct CertificateTable {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// `*.example.com` stands here as `example.com`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl CertificateTable {
    /// Reads and checks everything; changes nothing.
    pub(crate) fn load(settings: &TlsSettings) -> Result<Self, TlsError> {
        match settings {
            TlsSettings::SelfSigned => Self::of(vec![self_signed()?]),
            TlsSettings::Certificates(files) => {
                Self::of(files.iter().map(certified_key).collect::<Result<Vec<_>, _>>()?)
            }
        }
    }

    fn of(keys: Vec<Arc<CertifiedKey>>) -> Result<Self, TlsError> {
        let first = keys.first().ok_or(TlsError::Empty)?.clone();
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for key in keys {
            let names = key.end_entity_cert().map(|leaf| san::dns_names(leaf)).unwrap_or_default();
            for name in names {
                // The first certificate of a name wins, as in the file.
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_insert_with(|| key.clone()),
                    None => exact.entry(name).or_insert_with(|| key.clone()),
                };
            }
        }
        Ok(Self { exact, wildcard, first })
    }

    /// Picks by SNI: exact name, then wildcard, then the first certificate.
    fn pick(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let Some(name) = name else { return &self.first };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        // RFC 6125 section 6.4.3: a wildcard stands for one label.
        let parent = || name.split_once('.').map(|(_, parent)| parent);
        self.exact
            .get(&name)
            .or_else(|| parent().and_then(|parent| self.wildcard.get(parent)))
            .unwrap_or(&self.first)
    }
}

#[derive(Debug)]
struct Resolver {
    table: ArcSwap<CertificateTable>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.table.load().pick(hello.server_name()).clone())
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())).clone()
}

fn certified_key(files: &CertificateFiles) -> Result<Arc<CertifiedKey>, TlsError> {
    let shown = |path: &Path| path.display().to_string();
    let chain_error = |reason: String| TlsError::Chain { path: shown(&files.cert), reason };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .map_err(|e| chain_error(e.to_string()))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| chain_error(e.to_string()))?;
    if chain.is_empty() {
        return Err(chain_error("no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|e| TlsError::Key { path: shown(&files.key), reason: e.to_string() })?;
    CertifiedKey::from_der(chain, key, &provider())
        .map(Arc::new)
        .map_err(|e| TlsError::Pair { path: shown(&files.cert), reason: e.to_string() })
}

/// Makes the demo certificate once; it stays for the life of the process, so that a browser's exception holds through
/// reloads.
fn self_signed() -> Result<Arc<CertifiedKey>, TlsError> {
    static MADE: OnceLock<Arc<CertifiedKey>> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made.clone());
    }
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    for name in machine_names() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "Roomgate demo");
    let today = i64::try_from(crate::clock::wall().as_secs() / 86_400).unwrap_or_default();
    let date = |days: i64| {
        let (year, month, day) = civil(days);
        rcgen::date_time_ymd(year, month, day)
    };
    params.not_before = date(today - 1);
    // Browsers refuse leaves that live longer than 398 days.
    params.not_after = date(today + 390);
    let key = rcgen::KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|reason| TlsError::Pair { path: "self-signed".to_owned(), reason: reason.to_owned() })?;
    let made = CertifiedKey::from_der(vec![certificate.der().clone()], key, &provider())?;
    Ok(MADE.get_or_init(|| Arc::new(made)).clone())
}

/// The host's name and the addresses of its interfaces.
fn machine_names() -> Vec<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_ascii_lowercase();
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    let host = (!host.is_empty() && host.len() <= 253 && host.bytes().all(legal)).then_some(host);
    let addresses = if_addrs::get_if_addrs().unwrap_or_default().into_iter().map(|i| i.ip());
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => true,
        // Link-local addresses need a zone, which no certificate can carry.
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    host.into_iter().chain(addresses.filter(usable).take(64).map(|ip| ip.to_string())).collect()
}

/// Turns days since 1970-01-01 into a date of the Gregorian calendar.
fn civil(days: i64) -> (i32, u8, u8) {
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let mut left = days.max(0);
    let mut year = 1970;
    while left >= 365 + i64::from(leap(year)) {
        left -= 365 + i64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1u8;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (i32::try_from(year).unwrap_or(i32::MAX), month.min(12), u8::try_from(left + 1).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(names: &[&str]) -> Arc<CertifiedKey> {
        let made =
            rcgen::generate_simple_self_signed(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
                .unwrap();
        let der = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        Arc::new(CertifiedKey::from_der(vec![made.cert.der().clone()], der, &provider()).unwrap())
    }

    #[test]
    fn the_certificate_is_picked_by_exact_name_then_wildcard_then_order() {
        let keys = [key(&["a.example"]), key(&["*.example.com"]), key(&["meet.example.com", "a.example"])];
        let table = CertificateTable::of(keys.to_vec()).unwrap();
        for (name, expected) in [
            (Some("A.example"), 0),
            (Some("x.example.com"), 1),
            (Some("x.y.example.com"), 0),
            (Some("example.com"), 0),
            (Some("meet.example.com"), 2),
            (Some("meet.example.com."), 2),
            (Some("other"), 0),
            (None, 0),
        ] {
            assert!(Arc::ptr_eq(table.pick(name), &keys[expected]), "{name:?}");
        }
    }

    #[test]
    fn the_demo_certificate_names_this_machine_and_stays() {
        let first = self_signed().unwrap();
        assert!(Arc::ptr_eq(&first, &self_signed().unwrap()));
        let names = san::dns_names(first.end_entity_cert().unwrap());
        assert!(names.contains(&"localhost".to_owned()), "{names:?}");
    }

    #[test]
    fn broken_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let files = CertificateFiles { cert: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
        let load = || CertificateTable::load(&TlsSettings::Certificates(vec![files.clone()]));
        assert!(matches!(load(), Err(TlsError::Chain { .. })));
        let made = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        assert!(matches!(load(), Err(TlsError::Key { .. })));
        let other = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&files.key, other.serialize_pem()).unwrap();
        assert!(matches!(load(), Err(TlsError::Pair { .. })), "a key of another certificate");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        assert!(load().is_ok());
    }

    #[test]
    fn days_become_dates() {
        for (days, expected) in
            [(0, (1970, 1, 1)), (58, (1970, 2, 28)), (19_782, (2024, 2, 29)), (20_819, (2027, 1, 1))]
        {
            assert_eq!(civil(days), expected);
        }
    }
}
