//! Reads what TLS is made of: pairs of chain and key, authorities, ticket keys. Blocks; changes nothing.

use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::TlsError;
use crate::config::settings::{CertificateFiles, TicketKeys};

/// Largest file that is read.
const BYTES_MAX: u64 = 1 << 20;

/// Certificates of the authorities whose clients are let in.
#[derive(Debug)]
pub(super) struct Authorities {
    pub(super) roots: Arc<RootCertStore>,
    /// As they stand in the file.
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

/// The process's cryptography, for keys.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())).clone()
}

/// Reads a chain and its key.
pub(super) fn pair(files: &CertificateFiles) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = chain(&files.cert).map_err(|reason| TlsError::Chain { path: shown(&files.cert), reason })?;
    let key_error = |reason| TlsError::Key { path: shown(&files.key), reason };
    let bytes = read(&files.key).map_err(key_error)?;
    // Before the key is parsed: a cut one would be blamed on its certificate.
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| key_error(broken(&error).to_owned()))?;
    CertifiedKey::from_der(chain, key, &provider()).map(Arc::new).map_err(|error| TlsError::Pair {
        cert: shown(&files.cert),
        key: shown(&files.key),
        reason: error.to_string(),
    })
}

/// Reads the certificates of authorities.
pub(super) fn authorities(path: &Path) -> Result<Arc<Authorities>, TlsError> {
    let failed = |reason| TlsError::Authorities { path: shown(path), reason };
    let certificates = chain(path).map_err(failed)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|error| failed(error.to_string()))?;
    }
    Ok(Arc::new(Authorities { roots: Arc::new(roots), certificates }))
}

/// Reads the file of ticket keys once more.
pub(super) fn ticket_keys(keys: &TicketKeys, path: &Path) -> Result<TicketKeys, TlsError> {
    let failed = |reason| TlsError::Tickets { path: shown(path), reason };
    let bytes = read(path).map_err(failed)?;
    TicketKeys::parse(keys.reference.clone(), Some(path.to_owned()), &bytes).map_err(failed)
}

/// A path for messages.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| broken(&error).to_owned())?;
    if chain.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(chain) }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = || {
        // Asked first: to open a FIFO would wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error: std::io::Error| error.to_string())?;
    if bytes.len() as u64 > BYTES_MAX { Err(format!("larger than {BYTES_MAX} bytes")) } else { Ok(bytes) }
}

/// Says what is wrong with PEM text. The library's own message quotes it: a key is not for a log.
fn broken(error: &pem::Error) -> &'static str {
    if matches!(error, pem::Error::MissingSectionEnd { .. }) {
        "it is cut: a section has no end"
    } else if matches!(error, pem::Error::NoItemsFound) {
        "no private key in it that is not encrypted"
    } else {
        "it is not PEM"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let files = CertificateFiles { cert: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
        let load = || pair(&files);
        assert!(matches!(load(), Err(TlsError::Chain { .. })));
        let made = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        let text = made.cert.pem();
        std::fs::write(&files.cert, &text[..text.len() / 2]).unwrap();
        assert!(
            load().unwrap_err().to_string().contains("c.pem: cannot read the certificate chain: it is cut")
        );
        std::fs::write(&files.cert, text).unwrap();
        assert!(matches!(load(), Err(TlsError::Key { .. })));
        let other = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&files.key, other.serialize_pem()).unwrap();
        let error = load().unwrap_err();
        assert!(matches!(error, TlsError::Pair { .. }), "a key of another certificate");
        assert!(error.to_string().contains("k.pem") && error.to_string().contains("c.pem"), "{error}");
        let key = made.signing_key.serialize_pem();
        std::fs::write(&files.key, &key[..60]).unwrap();
        let error = load().unwrap_err().to_string();
        assert!(error.contains("k.pem") && !error.contains(&key[40..60]), "{error}");
        std::fs::write(&files.key, key).unwrap();
        assert!(load().is_ok());
        assert!(matches!(authorities(&files.key), Err(TlsError::Authorities { .. })));
        assert_eq!(authorities(&files.cert).unwrap().certificates.len(), 1);
    }
}
