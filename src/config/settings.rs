//! What the process runs on: legal values only, after every check has passed.
//!
//! Pure: no file is read here. `check.rs` builds these from the file; the parts receive their own small struct from
//! them. An object that a live stream captured (a site, a pool) stays as it was until the stream ends: a reload makes
//! new objects and never changes old ones.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The name of a node, pool, site, listener, edge or token: compared by its bytes, cheap to clone.
pub type Name = Arc<str>;

/// The whole configuration of one edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who this edge is.
    pub edge: EdgeIdentity,
    /// TCP listeners by name.
    pub listeners: BTreeMap<Name, Arc<ListenerSettings>>,
    /// The UDP media port; `None` when no pool is reached through it.
    pub media: Option<MediaSettings>,
    /// Whose traffic it is, by host name.
    pub sites: SiteTable,
    /// Pools by name.
    pub pools: BTreeMap<Name, Arc<PoolSettings>>,
    /// Where placements are kept.
    pub store: StoreSettings,
    /// The operator's endpoint.
    pub admin: AdminSettings,
    /// Bounds of the room table.
    pub rooms: RoomTableSettings,
    /// How the process ends.
    pub shutdown: ShutdownSettings,
}

/// Which edge of the fleet this process is (`roomgate run --edge NAME`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeIdentity {
    /// The name under `edges`; `None` when the file has no `edges`.
    pub name: Option<Name>,
    /// Part of every ICE ufrag; 0 when the file has no `edges`.
    pub id: u16,
    /// Addresses told to clients when `media.advertise` is `auto`; empty when the file has no `edges`.
    pub public: Vec<IpAddr>,
}

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
}

/// How a listener ends TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSettings {
    /// A certificate made at start, for the demo.
    SelfSigned,
    /// Certificates chosen by SNI; the first one answers when no name matches.
    Certificates(Vec<CertificateFiles>),
}

/// A PEM chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Chain, leaf first.
    pub cert: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1 key of the leaf.
    pub key: PathBuf,
}

/// The UDP media port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSettings {
    /// Addresses to receive on.
    pub bind: Vec<SocketAddr>,
    /// What candidates tell clients.
    pub advertise: Advertise,
    /// AES-128 key of the ICE ufrags, as its 16 bytes; `None` draws one per process.
    pub key: Option<Secret>,
    /// Largest number of participants on one worker; a further join is refused. Default 2000.
    pub sessions_max: NonZeroU32,
    /// How often a synthetic participant joins each worker. Default 5 s.
    pub selftest_every: Duration,
}

/// Addresses of host candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advertise {
    /// This edge's `public`; without `edges`, the machine's addresses.
    Auto,
    /// These. A missing port is the port of `media.bind`.
    List(Vec<SocketAddr>),
}

/// Sites by host name: exact names first, then `"*"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteTable {
    /// Exact host names, lower case, without a port.
    pub exact: BTreeMap<Name, Arc<SiteSettings>>,
    /// The site named `"*"`.
    pub any: Option<Arc<SiteSettings>>,
}

impl SiteTable {
    /// Finds the site of a host name. `host` is lower case and has no port.
    pub fn find(&self, host: &str) -> Option<&Arc<SiteSettings>> {
        self.exact.get(host).or(self.any.as_ref())
    }

    /// All sites, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<SiteSettings>> {
        self.exact.values().chain(self.any.iter())
    }
}

/// Whose traffic it is and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteSettings {
    /// Host name in the file, or `*`.
    pub name: Name,
    /// Where its rooms live.
    pub pool: Name,
    /// What kind of service it is.
    pub app: App,
    /// How a request names its room, first hit wins. Filled from the preset when the file gives none.
    pub room: Vec<RoomRule>,
    /// Largest request head. Default 32 KiB; a longer one gets 431.
    pub head_bytes_max: usize,
    /// Deadlines towards nodes.
    pub timeouts: SiteTimeouts,
}

/// What kind of service a site is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum App {
    /// No preset: only the site's own rules.
    Plain,
    /// Jitsi Meet signalling shards.
    Jitsi,
    /// The embedded conference: page, WebSocket, WHIP and WHEP.
    Conference {
        /// Who may join.
        auth: Auth,
    },
}

/// Who may join a room of a conference site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Everybody who can reach the listener.
    Open,
    /// Bearers of an HS256 token with the claims `room` and `exp`. The secret has at least 32 bytes.
    Jwt(Secret),
}

/// Where a request may name its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomRule {
    /// A query parameter.
    Query(Name),
    /// A part of the path.
    Path(PathRule),
    /// A header; the name is lower case.
    Header(Name),
    /// A cookie.
    Cookie(Name),
    /// Jitsi's rules: `room` in the query, else the last segment of a room path, below its tenant.
    Jitsi,
    /// `/rooms/{room}` and everything below it.
    Conference,
}

/// A part of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRule {
    /// The last segment that is not empty.
    Last,
    /// The first segment that is not empty.
    First,
}

/// Deadlines of requests and tunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteTimeouts {
    /// TCP connect to a node. Default 3 s.
    pub connect: Duration,
    /// From the request's end to the response head, and between two reads of a body. Default 90 s, for BOSH.
    pub response: Duration,
    /// A tunnel without a byte in either direction is closed after this. Default 1 h.
    pub tunnel_idle: Duration,
}

/// A named set of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Its name.
    pub name: Name,
    /// What it is made of.
    pub nodes: PoolNodes,
    /// How rooms stick.
    pub sticky: StickySettings,
}

/// What a pool is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolNodes {
    /// HTTP services, by name.
    Http {
        /// The nodes.
        nodes: BTreeMap<Name, HttpNode>,
        /// Active check; `None`: a node is up until a connect to it fails.
        check: Option<CheckSettings>,
    },
    /// This process's own SFU workers, named `worker-0`, `worker-1`, ...
    Embedded {
        /// How many; `None` is one per core.
        workers: Option<u8>,
    },
}

/// One HTTP node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpNode {
    /// An IP address (IPv6 without brackets) or a DNS name in lower case, resolved when it is dialled.
    pub host: Name,
    /// TCP port.
    pub port: u16,
    /// Share of new rooms, relative to the other nodes. Default 100; 0 gets no new rooms.
    pub weight: u32,
}

/// An HTTP health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSettings {
    /// Path to GET; a status of 2xx passes.
    pub path: Name,
    /// Time between two checks of one node; jittered by a tenth. Default 2 s.
    pub every: Duration,
    /// Deadline of one check; never longer than `every`. Default 1 s.
    pub timeout: Duration,
    /// Passes in a row that bring a node up. Default 2.
    pub rise: NonZeroU32,
    /// Failures in a row that take a node down. Default 2.
    pub fall: NonZeroU32,
}

/// How rooms stick to their node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickySettings {
    /// A placement that nobody holds or touches ends after this. Default 5 min.
    pub linger: Duration,
}

/// Where placements are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSettings {
    /// In this process.
    Memory,
}

/// The operator's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Addresses; loopback unless `tokens` is set. Empty: no endpoint.
    pub bind: Vec<SocketAddr>,
    /// Bearer tokens by name, printable ASCII of at least 16 bytes. Empty: everybody on loopback may ask.
    pub tokens: BTreeMap<Name, Secret>,
}

/// Bounds of the room table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomTableSettings {
    /// Rooms kept at once. Default 1 000 000, about 300 B each. At the cap a new room is placed by rendezvous and not
    /// kept; a live room is never evicted.
    pub rooms_max: usize,
}

/// How the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownSettings {
    /// From SIGTERM to the exit at the latest. Default 10 s.
    pub deadline: Duration,
}

/// A secret: `Debug` and `Display` show where it came from, never its value.
#[derive(Clone)]
pub struct Secret {
    reference: Name,
    value: Arc<[u8]>,
}

impl Secret {
    /// Wraps a value that was read from `reference` (`file:...` or `env:...`).
    pub fn new(reference: impl Into<Name>, value: impl Into<Arc<[u8]>>) -> Self {
        Self { reference: reference.into(), value: value.into() }
    }

    /// Returns the value. Never log it.
    pub fn expose(&self) -> &[u8] {
        &self.value
    }

    /// Returns `file:...` or `env:...`.
    pub fn reference(&self) -> &str {
        &self.reference
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({})", self.reference)
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reference)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.reference == other.reference && self.value == other.value
    }
}

impl Eq for Secret {}
