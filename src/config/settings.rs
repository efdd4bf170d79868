//! What the process runs on: legal values only, after every check has passed.
//!
//! Pure: no file is read here. `check.rs` builds these from the file; the parts receive their own small struct from
//! them. An object that a live stream captured (a site, a pool) stays as it was until the stream ends: a reload makes
//! new objects and never changes old ones.

mod access_log;
mod cache;
mod limits;
mod listeners;
mod pools;
mod routes;
mod sites;
mod template;
mod tls;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

pub use access_log::*;
pub use cache::*;
pub use ipnet::IpNet;
pub use limits::*;
pub use listeners::*;
pub use pools::*;
pub use routes::*;
pub use sites::*;
pub use template::*;
pub use tls::*;

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
    /// Peers whose `X-Forwarded-*` and `Forwarded` count; from all others they are dropped.
    pub trusted: Vec<IpNet>,
    /// Where placements are kept.
    pub store: StoreSettings,
    /// The operator's endpoint.
    pub admin: AdminSettings,
    /// Limits of the whole edge.
    pub limits: EdgeLimits,
    /// Rules that ban clients for a while, by name.
    pub bans: Vec<BanRule>,
    /// One line a request; `None` writes none.
    pub access_log: Option<AccessLogSettings>,
    /// Bounds of what routes with `cache` keep.
    pub cache: CacheSettings,
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
    /// Where it stands: its own `region`, else that of the file. New rooms go to nodes of the same region first.
    pub region: Option<Name>,
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
    /// Tunnels are closed spread over this, at most the deadline. Default half of it.
    pub tunnels: Duration,
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
