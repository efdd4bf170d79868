//! The HTTPS tier: accepts, ends TLS, finds the room, proxies or tunnels.
//!
//! A connection's way: [`front_door`] accepts it on one thread and never moves it; [`tls`] ends TLS; [`h1`] bounds and
//! checks each raw request head before Pingora sees it (HTTP/2 goes to Pingora at once); [`proxy`] finds site, room
//! and node; a WebSocket leaves Pingora for a [`tunnel`]. What is not HTTP passes through [`l4`] unread. Pingora's types
//! stay inside this part.

mod access_log;
mod acme;
mod admit;
mod buffers;
pub mod cache;
mod client_hello;
mod compress;
mod conditions;
mod conference;
mod cors;
mod dial;
pub mod explain;
mod files;
mod flow;
mod forwarded;
mod front_door;
mod h1;
mod h2_guard;
mod headers;
mod json_edit;
mod l4;
mod learn;
mod limits;
mod peer;
mod pipe;
mod proxy;
mod proxy_header;
pub mod route;
mod stream;
mod tls;
mod token;
mod tunnel;
mod tunnels;
mod turn;
mod upgrade;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::config::settings::{IpNet, Settings};
use crate::pool::Pools;
use crate::rooms::Rooms;
use crate::sfu::Sfu;
use crate::tasks::Tasks;
use crate::telemetry::metrics::EdgeMetrics;
pub use cache::CacheStatus;
use front_door::FrontDoor;
pub use limits::BanView;
pub use tls::{CertificateStatus, TlsError};
pub use tunnels::{TunnelFilter, TunnelInfo};
pub use turn::{TurnServer, TurnStream};

use crate::clock;
pub use crate::wire::ws_frame::CloseCode;

/// What the edge works with.
#[derive(Clone, Debug)]
pub struct EdgeParts {
    /// Where rooms live.
    pub rooms: Rooms,
    /// The nodes.
    pub pools: Pools,
    /// The embedded SFU; `None` if no pool has workers.
    pub sfu: Option<Sfu>,
    /// Its metrics.
    pub metrics: EdgeMetrics,
}

/// The edge cannot start, or cannot take a new configuration.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// An address cannot be listened on.
    #[error("listener {listener}: cannot listen on {address}: {error}")]
    Bind {
        /// The listener's name.
        listener: String,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// TLS of a listener cannot be set up.
    #[error("listener {listener}: {error}")]
    Tls {
        /// The listener's name.
        listener: String,
        /// Why.
        error: TlsError,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread of the edge: {0}")]
    Thread(std::io::Error),
}

/// The running HTTPS tier.
#[derive(Debug)]
pub struct Edge {
    shared: Arc<Shared>,
    door: FrontDoor,
}

impl Edge {
    /// Listens, and serves until [`Tasks::stopping`] fires and the last connection has ended.
    ///
    /// # Errors
    /// An address, a certificate or a thread cannot be had; nothing listens then.
    pub fn start(parts: EdgeParts, settings: Arc<Settings>, tasks: Tasks) -> Result<Self, EdgeError> {
        let limits = limits::Limits::new(parts.metrics.limits.clone());
        let cache = Arc::new(cache::Cache::new(parts.metrics.cache.clone()));
        let log = access_log::AccessLog::new(parts.metrics.access_log.clone());
        let shared = Arc::new(Shared {
            settings: ArcSwap::new(settings.clone()),
            parts,
            tasks,
            lacks: dial::Seldom::default(),
            turn: OnceLock::new(),
            log,
            tunnels: tunnels::Tunnels::new(front_door::threads(), clock::now()),
            ping_tag: rand::random(),
            limits: Arc::new(limits),
            cache,
        });
        shared.log.apply(&settings);
        shared.cache.apply(&settings);
        let door = FrontDoor::open(&shared, &settings)?;
        Ok(Self { shared, door })
    }

    /// Takes a new configuration: sites, timeouts and certificates from the next request and handshake on. Listeners
    /// that came, went or changed their address or kind need a restart and stay as they are.
    ///
    /// # Errors
    /// A certificate cannot be used; nothing has changed then.
    pub fn apply(&self, settings: Arc<Settings>) -> Result<(), EdgeError> {
        self.door.apply(&settings, &self.shared.parts.metrics)?;
        self.shared.log.apply(&settings);
        self.shared.cache.apply(&settings);
        self.shared.settings.store(settings);
        Ok(())
    }

    /// Reads certificates, keys, authorities and ticket keys again and takes over what has changed and can be used; for
    /// the rest, what was loaded before stays, and the log says why. Blocks.
    pub fn refresh_certificates(&self) {
        self.door.refresh(&self.shared.parts.metrics);
    }

    /// Returns the certificates of all listeners, as they are in use.
    pub fn certificates(&self) -> Vec<CertificateStatus> {
        self.door.certificates()
    }

    /// Returns the first address that a listener listens on.
    pub fn local_addr(&self, listener: &str) -> Option<SocketAddr> {
        self.door.local_addr(listener)
    }

    /// Bans a network for a while; the same network again takes the new time. False: the table is full of bans that last
    /// longer.
    pub fn ban(&self, network: IpNet, reason: &str, lasts: Duration) -> bool {
        self.shared.limits.ban(network, reason, lasts)
    }

    /// Ends a ban. False: there is none of exactly this network.
    pub fn unban(&self, network: IpNet) -> bool {
        self.shared.limits.unban(network)
    }

    /// Returns how many bans are in force.
    pub fn bans_total(&self) -> usize {
        self.shared.limits.bans_total()
    }

    /// Returns all bans, the one that ends first in front.
    pub fn bans(&self) -> Vec<BanView> {
        self.shared.limits.bans()
    }

    /// Takes away what the cache keeps of a URL, or of all URLs that begin with it; returns how many answers.
    ///
    /// # Errors
    /// It is no URL.
    pub fn purge(&self, url: &str, below: bool) -> Result<usize, String> {
        let url = cache::read_url(url)?;
        Ok(if below { self.shared.cache.purge_below(&url) } else { self.shared.cache.purge(&url) })
    }

    /// Returns how much the cache keeps.
    pub fn cache(&self) -> CacheStatus {
        self.shared.cache.status()
    }

    /// Opens the access log by its name: the file has been renamed.
    pub fn reopen_logs(&self) {
        self.shared.log.reopen();
    }

    /// Writes what waits for the access log, at most for so long. Nothing is written after it. Blocks.
    pub fn finish_logs(&self, deadline: Duration) {
        self.shared.log.finish(deadline);
    }

    /// Tells tunnels to close with `code`, at moments spread over `over` from now on; returns how many. Each lets the
    /// frame under way pass and takes two seconds at most for its client's answer. The node is told 1001.
    pub fn close_tunnels(&self, filter: &TunnelFilter, code: CloseCode, over: Duration) -> usize {
        self.shared.tunnels.close(filter, code, over, clock::now())
    }

    /// Returns how many tunnels are open, and the oldest of them, at most `limit`.
    pub fn tunnels(&self, limit: usize) -> (usize, Vec<TunnelInfo>) {
        self.shared.tunnels.list(limit, clock::now())
    }

    /// Says who serves TURN on listeners with `turn`, for all connections from now on. The first call counts; before it
    /// such connections are closed.
    pub fn serve_turn_with(&self, server: Arc<dyn TurnServer>) {
        let _ = self.shared.turn.set(server);
    }

    /// Closes the listening sockets. Connections go on.
    pub fn stop_accepting(&self) {
        self.door.stop_accepting();
    }
}

/// What every connection of the edge sees.
#[derive(Debug)]
struct Shared {
    /// Replaced as a whole; a request keeps the one it began with.
    settings: ArcSwap<Settings>,
    parts: EdgeParts,
    tasks: Tasks,
    /// When a lack of our own was last logged.
    lacks: dial::Seldom,
    /// Who serves TURN over TLS.
    turn: OnceLock<Arc<dyn TurnServer>>,
    log: access_log::AccessLog,
    tunnels: tunnels::Tunnels,
    /// What tells this process's pings from those of nodes and of other edges.
    ping_tag: crate::wire::ws_ping::Tag,
    limits: Arc<limits::Limits>,
    cache: Arc<cache::Cache>,
}
