//! Listeners: where TCP traffic enters.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Name, TlsSettings};

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
    /// Deadlines and sizes of what clients may send before a site is known.
    pub limits: ListenerLimits,
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
