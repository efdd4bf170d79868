//! Reads what the configuration refers to: secrets, certificates, keys. The only part of a load that touches files
//! besides the configuration itself.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::file::SecretRef;
use super::settings::Secret;

/// Message and cure.
pub(super) type Wrong = (String, String);

/// Reads a secret. Line breaks at its end are not part of it.
pub(super) fn read(reference: &SecretRef, base: &Path) -> Result<Secret, Wrong> {
    let mut value = match reference {
        SecretRef::File(path) => read_file(&base.join(path), SECRET_BYTES_MAX)?,
        SecretRef::Env(name) => match std::env::var_os(name) {
            Some(value) => value.into_encoded_bytes(),
            None => {
                return Err((
                    format!("the environment has no {name}"),
                    format!("set {name}, or use `file:`"),
                ));
            }
        },
    };
    while value.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
        value.pop();
    }
    if value.is_empty() {
        return Err(("the secret is empty".to_owned(), String::new()));
    }
    Ok(Secret::new(reference.to_string(), value))
}

/// Checks that a chain can be read and returns it.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let bytes = read_file(path, PEM_BYTES_MAX)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err((no_section(path, &bytes, "certificate"), PEM_CURE.to_owned())),
        Ok(chain) => Ok(chain),
        Err(error) => Err((broken(path, &error), PEM_CURE.to_owned())),
    }
}

/// Checks that a key can be read and returns it.
pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Wrong> {
    let bytes = read_file(path, PEM_BYTES_MAX)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let nothing = matches!(error, pem::Error::NoItemsFound);
        let message = if nothing { no_section(path, &bytes, "private key") } else { broken(path, &error) };
        (message, KEY_CURE.to_owned())
    })
}

/// Reads a file that holds certificates of authorities, at least one.
pub(super) fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let mut roots = RootCertStore::empty();
    let authorities = read_chain(path)?;
    for certificate in &authorities {
        roots.add(certificate.clone()).map_err(|error| {
            let message = format!("{} holds a certificate that is no authority: {error}", path.display());
            (message, "the PEM certificates of the authorities, not of those they vouch for".to_owned())
        })?;
    }
    Ok(authorities)
}

/// Returns when a certificate expires, in seconds since the Unix epoch.
pub(super) fn not_after(certificate: &[u8]) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}

/// Checks that the key is the leaf's.
pub(super) fn check_pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<(), Wrong> {
    use rustls::{Error, InconsistentKeys};
    match CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()) {
        Ok(_) => Ok(()),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err((
            "the key is not the certificate's".to_owned(),
            "each certificate needs its own key".to_owned(),
        )),
        Err(error) => Err((format!("certificate and key cannot be used: {error}"), String::new())),
    }
}

/// Reads a file that the configuration refers to.
pub(super) fn read_file(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Wrong> {
    let name = path.display();
    let failed = |error: std::io::Error| {
        let kind = error.kind();
        let cure = if kind == std::io::ErrorKind::NotFound && path.is_relative() {
            "paths are relative to the folder of the file"
        } else if kind == std::io::ErrorKind::PermissionDenied {
            "the user that runs Roomgate must be able to read it"
        } else {
            ""
        };
        (format!("cannot read {name}: {}", reason(&error)), cure.to_owned())
    };
    read_file_io(path, bytes_max).map_err(failed)
}

/// Reads a regular file of at most `bytes_max` bytes.
pub(super) fn read_file_io(path: &Path, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    // Asked first: to open a FIFO would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        let message = format!("larger than {bytes_max} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// The error of the system in words, without its number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn no_section(path: &Path, bytes: &[u8], what: &str) -> String {
    let encrypted = bytes.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED);
    let found = if encrypted && what == "private key" { "an encrypted key" } else { "none" };
    format!("{} should hold a {what} and holds {found}", path.display())
}

fn broken(path: &Path, error: &pem::Error) -> String {
    // The library's message quotes lines of the file: a key's bytes are not for a log.
    let what = if matches!(error, pem::Error::MissingSectionEnd { .. }) {
        "a section has no end"
    } else if matches!(error, pem::Error::Base64Decode(_)) {
        "a section is not base64"
    } else {
        "a section cannot be read"
    };
    format!("{} is not PEM: {what}", path.display())
}

/// Resolves a path of the file.
pub(super) fn resolve(base: &Path, path: &str) -> PathBuf {
    base.join(path)
}

/// Turns 32 hexadecimal digits into the key's 16 bytes, under the same reference.
pub(super) fn hex_key(secret: &Secret) -> Result<Secret, Wrong> {
    let digits = secret.expose();
    let wrong = || {
        let cure = "32 hexadecimal digits, as from `openssl rand -hex 16`";
        (
            format!(
                "the key in {} has {} characters or is not hexadecimal",
                secret.reference(),
                digits.len()
            ),
            cure.to_owned(),
        )
    };
    if digits.len() != 32 {
        return Err(wrong());
    }
    let mut key = [0u8; 16];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(wrong()) };
        *byte = u8::try_from(high * 16 + low).map_err(|_| wrong())?;
    }
    Ok(Secret::new(secret.reference(), key.as_slice()))
}

const PEM_BYTES_MAX: usize = 1 << 20;
const SECRET_BYTES_MAX: usize = 64 << 10;
const ENCRYPTED: &[u8] = b"BEGIN ENCRYPTED PRIVATE KEY";
const PEM_CURE: &str = "a PEM chain, leaf first";
const KEY_CURE: &str = "a PEM key (PKCS#8, PKCS#1 or SEC1) that is not encrypted";
