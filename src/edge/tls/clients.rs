//! Client certificates: whom a site lets in, and who a connection is.
//!
//! The rule of a site is known by a digest of its mode and authorities. A connection carries the digest of the rule
//! under which its handshake was; a request for a site of another rule is not served on it, and a session ticket of
//! one rule is none under another. So neither a reused connection nor a resumed session gets around a rule.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use http::HeaderValue;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{HandshakeKind, ServerConnection};

use super::load::Authorities;
use super::{TlsError, subject};
use crate::clock;
use crate::config::settings::ClientCertificateMode;

/// Which rule for client certificates.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PolicyId([u8; 32]);

impl PolicyId {
    /// No certificate is asked for.
    pub(super) const NONE: Self = Self([0; 32]);

    pub(super) fn of(rule: &[u8]) -> Self {
        let mut id = [0; 32];
        let digest = digest::digest(&digest::SHA256, rule);
        id.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(id)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyId({:02x}{:02x}{:02x}{:02x})", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

/// A rule for client certificates.
#[derive(Debug)]
pub(crate) struct ClientPolicy {
    pub(super) id: PolicyId,
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    mode: ClientCertificateMode,
}

/// Who the client of a connection is.
#[derive(Debug)]
pub(crate) struct ClientIdentity {
    /// The rule under which it came.
    pub(crate) policy: PolicyId,
    /// Subject of its certificate (RFC 4514, printable ASCII); `None` if it has shown none.
    pub(crate) subject: Option<HeaderValue>,
}

impl ClientPolicy {
    pub(super) fn new(mode: ClientCertificateMode, authorities: &Authorities) -> Result<Self, TlsError> {
        let builder =
            WebPkiClientVerifier::builder_with_provider(authorities.roots.clone(), super::load::provider());
        let (builder, word) = match mode {
            ClientCertificateMode::Required => (builder, &b"required"[..]),
            ClientCertificateMode::Optional => (builder.allow_unauthenticated(), &b"optional"[..]),
        };
        let verifier = builder.build().map_err(|error| TlsError::Verifier(error.to_string()))?;
        let mut rule = b"roomgate client certificates v1 ".to_vec();
        rule.extend_from_slice(word);
        for certificate in &authorities.certificates {
            rule.extend_from_slice(&(certificate.len() as u64).to_be_bytes());
            rule.extend_from_slice(certificate);
        }
        Ok(Self { id: PolicyId::of(&rule), verifier, mode })
    }

    /// Says who a client is whose handshake has ended. `None`: it is not let in after all.
    ///
    /// A resumed session brings the certificate of its first handshake, and nobody has looked at it since: it may have
    /// expired.
    pub(crate) fn identify(&self, connection: &ServerConnection) -> Option<ClientIdentity> {
        let Some((leaf, rest)) = connection.peer_certificates().and_then(<[_]>::split_first) else {
            let is_let_in = self.mode == ClientCertificateMode::Optional;
            return is_let_in.then_some(ClientIdentity { policy: self.id, subject: None });
        };
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.verify_again(leaf, rest)?;
        }
        let subject = HeaderValue::from_str(&subject::of(leaf)?).ok()?;
        Some(ClientIdentity { policy: self.id, subject: Some(subject) })
    }

    fn verify_again(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Option<()> {
        let now = UnixTime::since_unix_epoch(clock::wall());
        self.verifier.verify_client_cert(leaf, rest, now).ok().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::RootCertStore;

    fn authorities(names: &[&str]) -> Authorities {
        let mut roots = RootCertStore::empty();
        let mut certificates = Vec::new();
        for name in names {
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, *name);
            let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            roots.add(made.der().clone()).unwrap();
            certificates.push(made.der().clone());
        }
        Authorities { roots: Arc::new(roots), certificates }
    }

    #[test]
    fn a_rule_is_its_mode_and_its_authorities() {
        let (one, two) = (authorities(&["a"]), authorities(&["a", "b"]));
        let id = |mode, authorities| ClientPolicy::new(mode, authorities).unwrap().id;
        let (required, optional) = (ClientCertificateMode::Required, ClientCertificateMode::Optional);
        assert_eq!(id(required, &one), id(required, &one));
        assert_ne!(id(required, &one), id(optional, &one));
        assert_ne!(id(required, &one), id(required, &two));
        let empty = Authorities { roots: Arc::new(RootCertStore::empty()), certificates: Vec::new() };
        assert!(matches!(ClientPolicy::new(required, &empty), Err(TlsError::Verifier(_))));
    }
}
