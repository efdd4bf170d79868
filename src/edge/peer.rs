//! What Pingora is told of a node: its address, its TLS, its protocol, and the key under which connections are kept.
//!
//! Pingora's own key lacks the authorities that a node was verified against, so the policy's number goes into it. It
//! turns verification off when there is no SNI, so there always is one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::ALPN;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};

use crate::config::settings::{NodeTlsSettings, Protocol};
use crate::pool::{FailReason, Node};

/// An idle connection towards a node is closed after this: before the node does it.
const IDLE_TO_NODE: Duration = Duration::from_secs(4);
/// Requests at once on one HTTP/2 connection to a node.
const H2_STREAMS_MAX: usize = 100;

/// Describes a service of a node for Pingora. Where to dial is the business of a `Dialer`. `connect` bounds the TCP
/// connection and the handshake together, `response` the wait for a head and between two reads of a body.
///
/// # Errors
/// The node has no such service, or its pool's TLS cannot be used.
pub(super) fn peer(
    node: &Node,
    service: Option<&str>,
    addresses: &[SocketAddr],
    announcement: Option<&[u8]>,
    (connect, response): (Duration, Duration),
) -> Result<HttpPeer, FailReason> {
    let (host, service) = node.target.service(service)?;
    let tls = if service.tls { Some(node.tls()?) } else { None };
    let sni = tls.as_ref().map_or_else(String::new, |tls| tls.name(host).to_owned());
    // Pingora compares a kept connection's address with this one and would throw away what another address of the same
    // node answered; an unspecified address is not compared.
    let mut peer = HttpPeer::new(SocketAddr::from(([0, 0, 0, 0], service.port)), tls.is_some(), sni);
    let policy = tls.as_ref().map(|tls| (tls.number(), Arc::clone(host)));
    peer.group_key = kept_under(addresses, &(policy, node.protocol(), announcement));
    let options = &mut peer.options;
    options.alpn = match (node.protocol(), tls.is_some()) {
        (Protocol::H1, _) => ALPN::H1,
        (Protocol::H2, true) => ALPN::H2H1,
        (Protocol::H2, false) => ALPN::H2,
    };
    options.max_h2_streams = H2_STREAMS_MAX;
    options.read_timeout = Some(response);
    options.write_timeout = Some(response);
    options.total_connection_timeout = Some(connect);
    options.idle_timeout = Some(IDLE_TO_NODE);
    // WebSockets never come this way.
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    if let Some(tls) = &tls {
        options.verify_cert = tls.settings.verify;
        options.verify_hostname = tls.settings.verify;
        let form = tls.form(Form::of);
        let form = form.as_ref().and_then(|form| form.as_ref().as_ref());
        let form = form.ok_or_else(|| FailReason::Tls("a certificate of `tls` cannot be read".to_owned()))?;
        options.ca.clone_from(&form.ca);
        peer.client_cert_key.clone_from(&form.client);
    }
    Ok(peer)
}

/// A policy's certificates as Pingora has them.
struct Form {
    ca: Option<Arc<[WrappedX509]>>,
    client: Option<Arc<CertKey>>,
}

impl Form {
    /// `None`: Pingora's parser does not take a certificate. It panics then, which must not be a request's end each
    /// time.
    fn of(settings: &NodeTlsSettings) -> Option<Self> {
        let parse = || {
            let ca = settings.ca.as_ref().map(|ca| {
                let parsed = ca.certificates.iter().map(|der| WrappedX509::new(der.to_vec(), parse_x509));
                parsed.collect::<Vec<_>>().into()
            });
            let client = settings.client.as_ref().map(|client| {
                let chain = client.chain.iter().map(|der| der.to_vec()).collect();
                Arc::new(CertKey::new(chain, client.key.secret_der().to_vec()))
            });
            Self { ca, client }
        };
        std::panic::catch_unwind(AssertUnwindSafe(parse)).ok()
    }
}

/// All addresses of the node, whichever answered, and how it was reached: a node that moved, or whose policy changed,
/// gets new connections.
fn kept_under(addresses: &[SocketAddr], how: &impl Hash) -> u64 {
    let hash = |value: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        value(&mut hasher);
        hasher.finish()
    };
    // The order is another one each time that another address answers.
    let places =
        addresses.iter().map(|address| hash(&|hasher| address.hash(hasher))).fold(0, u64::wrapping_add);
    hash(&|hasher| (places, how).hash(hasher))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_kept_for_the_same_addresses_in_any_order_and_the_same_policy() {
        let [a, b] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let policy = Some((1u64, "host"));
        let key = kept_under(&[a, b], &policy);
        assert_eq!(key, kept_under(&[b, a], &policy));
        for other in [
            kept_under(&[a], &policy),
            kept_under(&[a, a], &policy),
            kept_under(&[a, b], &Some((2u64, "host"))),
            kept_under(&[a, b], &Some((1u64, "other"))),
            kept_under(&[a, b], &None::<(u64, &str)>),
        ] {
            assert_ne!(key, other);
        }
    }
}
