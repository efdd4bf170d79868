//! Listeners: where TCP traffic enters.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{IpNet, Name, TlsSettings};

/// One TCP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Its name in the file.
    pub name: Name,
    /// Addresses to listen on. A `:port` in the file stands for IPv6 and IPv4 and appears here as `[::]:port`.
    pub bind: Vec<SocketAddr>,
    /// TLS, or `None` for plain HTTP.
    pub tls: Option<TlsSettings>,
    /// `Some` if every request is answered with a redirect to HTTPS.
    pub redirect: Option<RedirectSettings>,
    /// Webroot of an ACME client, whose challenges are answered before any redirect. Never with `tls`.
    pub acme_challenge: Option<PathBuf>,
    /// The pool of TCP nodes that every connection goes to as it is; `None`: HTTP is spoken here.
    pub tcp: Option<Name>,
    /// Names whose TLS does not end here, and the pool of TCP nodes that each goes to. `*.example.com` stands for one label.
    pub passthrough: BTreeMap<Name, Name>,
    /// Whether TURN is told from HTTP where TLS ends.
    pub turn: bool,
    /// Networks whose connections have to begin with a PROXY header; nobody else's may.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Deadlines and sizes of what clients may send before a site is known.
    pub limits: ListenerLimits,
}

impl ListenerSettings {
    /// Tells whether sites are served here.
    pub fn serves_sites(&self) -> bool {
        self.tcp.is_none() && self.redirect.is_none()
    }

    /// Returns the pool that a name of a ClientHello is passed on to: an exact name first, then a wildcard.
    pub fn passes(&self, name: Option<&str>) -> Option<&Name> {
        if self.passthrough.is_empty() {
            return None;
        }
        let name = name?;
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        // RFC 6125 section 6.4.3: a wildcard stands for one label.
        let wildcard = || self.passthrough.get(format!("*.{}", name.split_once('.')?.1).as_str());
        self.passthrough.get(name.as_str()).or_else(wildcard)
    }

    /// Returns whether a peer's connections begin with a PROXY header.
    pub fn wants_proxy_header(&self, peer: IpAddr) -> bool {
        self.proxy_protocol_from.iter().any(|network| network.contains(&peer))
    }

    /// Returns every pool that connections are passed on to.
    pub fn passes_to(&self) -> impl Iterator<Item = &Name> {
        self.tcp.iter().chain(self.passthrough.values())
    }
}

/// Redirect of a plain listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectSettings {
    /// First port of the HTTPS listener (the one named `https`, else the first with TLS); left out of the URL when it
    /// is 443. 0 if the file says port 0.
    pub port: u16,
}

/// Bounds on one client connection before its site is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// From accept to the whole ClientHello, and from there to the end of the handshake. Default 5 s.
    pub handshake_timeout: Duration,
    /// From the first byte of a request head to its end. Default 10 s.
    pub head_timeout: Duration,
    /// A keep-alive connection without a request is closed after this. Default 75 s.
    pub idle_timeout: Duration,
    /// Largest request head. Default 128 KiB; a longer one gets 431.
    pub head_bytes_max: usize,
    /// Requests that an HTTP/2 connection may have under way. Default 100; a further one is refused.
    pub streams_max: u32,
    /// Streams that an HTTP/2 connection may have reset at once; half as many come back each second. Default 100;
    /// beyond it the connection is ended.
    pub resets_max: u32,
}
