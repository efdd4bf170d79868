//! Certificates by the names they are for, and by what a client can verify.
//!
//! Immutable: a change makes a new table. RSA and ECDSA may stand side by side for one name; a client gets the cheaper
//! one that it can verify.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::TlsError;
use crate::wire::san;

/// Certificates of one name, one for each kind of key, the cheapest to sign with first.
type Candidates = Vec<Arc<CertifiedKey>>;

/// Certificates by the names they are for.
#[derive(Debug)]
pub(super) struct CertificateTable {
    exact: HashMap<String, Candidates>,
    /// `*.example.com` stands here as `example.com`.
    wildcard: HashMap<String, Candidates>,
    /// For clients that name nothing we know.
    default: Candidates,
}

impl CertificateTable {
    pub(super) fn of(keys: &[Arc<CertifiedKey>]) -> Result<Self, TlsError> {
        let first = keys.first().ok_or(TlsError::Empty)?;
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for key in keys {
            for name in names(key) {
                // The first certificate of a name and a kind wins, as in the file.
                match name.strip_prefix("*.") {
                    Some(parent) => add(wildcard.entry(parent.to_owned()).or_default(), key),
                    None => add(exact.entry(name).or_default(), key),
                }
            }
        }
        // What else the first one's name has belongs to the default too.
        let mut default = vec![first.clone()];
        for name in names(first) {
            let same = match name.strip_prefix("*.") {
                Some(parent) => wildcard.get(parent),
                None => exact.get(&name),
            };
            same.into_iter().flatten().for_each(|key| add(&mut default, key));
        }
        Ok(Self { exact, wildcard, default })
    }

    /// Tells whether a certificate is for this name.
    pub(super) fn knows(&self, name: &str) -> bool {
        let name = plain(name);
        self.exact.contains_key(&*name) || self.of_parent(&name).is_some()
    }

    /// Picks by name (exact, then wildcard, then the default), and among those what the client can verify.
    fn pick(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let name = name.map(plain);
        let exact = name.as_deref().and_then(|name| self.exact.get(name));
        let wildcard = name.as_deref().and_then(|name| self.of_parent(name));
        let named = || exact.into_iter().chain(wildcard).flatten();
        let verifiable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        if let Some(found) = named().find(verifiable) {
            return Some(found);
        }
        // Nothing fits: the client is told so by the handshake, with the certificate that it asked for.
        named().next().or_else(|| self.default.iter().find(verifiable)).or(self.default.first())
    }

    /// RFC 6125 section 6.4.3: a wildcard stands for one label.
    fn of_parent(&self, name: &str) -> Option<&Candidates> {
        name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent))
    }
}

impl ResolvesServerCert for CertificateTable {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.pick(hello.server_name(), hello.signature_schemes()).cloned()
    }
}

fn names(key: &CertifiedKey) -> Vec<String> {
    key.end_entity_cert().map(|leaf| san::dns_names(leaf)).unwrap_or_default()
}

fn add(candidates: &mut Candidates, key: &Arc<CertifiedKey>) {
    let kind = key.key.algorithm();
    if candidates.iter().any(|other| other.key.algorithm() == kind) {
        return;
    }
    // An RSA signature costs a handshake ten times what an elliptic curve costs.
    let at = if kind == SignatureAlgorithm::RSA { candidates.len() } else { 0 };
    candidates.insert(at, key.clone());
}

/// The name as certificates have it: lower case, without the root's dot.
fn plain(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Cow::Owned(name.to_ascii_lowercase());
    }
    Cow::Borrowed(name)
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;
    use rustls::pki_types::PrivateKeyDer;

    const ALL: &[SignatureScheme] =
        &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];
    const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256];
    const ECDSA: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];

    fn key_of(names: &[&str], algorithm: &'static rcgen::SignatureAlgorithm) -> Arc<CertifiedKey> {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let made = rcgen::CertificateParams::new(names).unwrap().self_signed(&pair).unwrap();
        let der = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        Arc::new(CertifiedKey::from_der(vec![made.der().clone()], der, &load::provider()).unwrap())
    }

    fn key(names: &[&str]) -> Arc<CertifiedKey> {
        key_of(names, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    #[test]
    fn the_certificate_is_picked_by_exact_name_then_wildcard_then_order() {
        let keys = [key(&["a.example"]), key(&["*.example.com"]), key(&["meet.example.com", "a.example"])];
        let table = CertificateTable::of(&keys).unwrap();
        for (name, expected, known) in [
            (Some("A.example"), 0, true),
            (Some("x.example.com"), 1, true),
            (Some("x.y.example.com"), 0, false),
            (Some("example.com"), 0, false),
            (Some("meet.example.com"), 2, true),
            (Some("meet.example.com."), 2, true),
            (Some("other"), 0, false),
            (None, 0, false),
        ] {
            assert!(Arc::ptr_eq(table.pick(name, ALL).unwrap(), &keys[expected]), "{name:?}");
            assert_eq!(name.is_some_and(|name| table.knows(name)), known, "{name:?}");
        }
        assert!(matches!(CertificateTable::of(&[]), Err(TlsError::Empty)));
    }

    #[test]
    fn of_two_kinds_the_client_gets_what_it_can_verify_and_the_cheaper_one_of_both() {
        let rsa = key_of(&["a.example", "b.example"], &rcgen::PKCS_RSA_SHA256);
        let ecdsa = key(&["a.example"]);
        let wild = key(&["*.example"]);
        let table = CertificateTable::of(&[rsa.clone(), ecdsa.clone(), wild.clone()]).unwrap();
        for (name, schemes, expected) in [
            (Some("a.example"), ALL, &ecdsa),
            (Some("a.example"), ECDSA, &ecdsa),
            (Some("a.example"), RSA, &rsa),
            // The exact name has RSA only: for a client without RSA the wildcard stands in.
            (Some("b.example"), ALL, &rsa),
            (Some("b.example"), ECDSA, &wild),
            (Some("c.example"), RSA, &wild),
            (None, ALL, &ecdsa),
            (None, RSA, &rsa),
            (Some("other"), RSA, &rsa),
        ] {
            assert!(Arc::ptr_eq(table.pick(name, schemes).unwrap(), expected), "{name:?} {schemes:?}");
        }
    }
}
