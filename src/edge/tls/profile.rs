//! The `rustls` configuration of one listener and one rule for clients: versions, suites and groups by Mozilla's
//! guideline 5.7, as far as `rustls` has them.
//!
//! Key exchange begins with X25519MLKEM768, which is safe against a recorder with a quantum computer. Clients choose
//! among the suites, as the guideline wants: a phone without AES instructions takes ChaCha20. There is no early data
//! (a request in it could be replayed) and no renegotiation.

use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};

use crate::config::settings::TlsProfile;

const MODERN_SUITES: &[SupportedCipherSuite] = &[
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS13_CHACHA20_POLY1305_SHA256,
];
const INTERMEDIATE_SUITES: &[SupportedCipherSuite] = &[
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS13_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];
const GROUPS: &[&dyn SupportedKxGroup] =
    &[kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
const MODERN_VERSIONS: &[&SupportedProtocolVersion] = &[&version::TLS13];
const INTERMEDIATE_VERSIONS: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// Builds a configuration; it is shared by every connection until something in it changes.
pub(super) fn server_config(
    profile: TlsProfile,
    certificates: Arc<dyn ResolvesServerCert>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let versions = match profile {
        TlsProfile::Modern => MODERN_VERSIONS,
        TlsProfile::Intermediate => INTERMEDIATE_VERSIONS,
    };
    let builder = ServerConfig::builder_with_provider(provider(profile)).with_protocol_versions(versions)?;
    let builder = match clients {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(certificates);
    // TURN clients that name their protocol (RFC 7443) must not fail here: whether the listener takes them changes live.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"stun.turn".to_vec()];
    // Stateless: no table of sessions that clients can fill.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    Ok(Arc::new(config))
}

/// The cryptography of a profile.
pub(super) fn provider(profile: TlsProfile) -> Arc<CryptoProvider> {
    static MODERN: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    static INTERMEDIATE: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let (made, suites) = match profile {
        TlsProfile::Modern => (&MODERN, MODERN_SUITES),
        TlsProfile::Intermediate => (&INTERMEDIATE, INTERMEDIATE_SUITES),
    };
    let make = || {
        Arc::new(CryptoProvider {
            cipher_suites: suites.to_vec(),
            kx_groups: GROUPS.to_vec(),
            ..aws_lc_rs::default_provider()
        })
    };
    made.get_or_init(make).clone()
}
