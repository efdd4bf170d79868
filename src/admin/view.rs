//! What the operator is shown: plain values and their JSON.
//!
//! Pure: no part of the process is known here. `app` fills these through [`AdminView`]; field names are part of the
//! API, so they only ever grow. Times are whole seconds since the Unix epoch, ages are seconds unless the name says
//! otherwise.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use ipnet::IpNet;
use prometheus::Registry;
use serde::{Deserialize, Serialize};

use crate::edge::explain::{Explained, Question};

/// Where the admin server gets everything from. Implemented by `app`.
///
/// Every call but [`AdminView::reload`] must return at once: it copies values, it never waits for a worker.
#[async_trait]
pub trait AdminView: Send + Sync + 'static {
    /// Returns who this process is.
    fn process(&self) -> ProcessView;
    /// Returns all nodes of all pools, by pool and name.
    fn nodes(&self) -> Vec<NodeView>;
    /// Returns at most `limit` placements.
    fn rooms(&self, limit: usize) -> Vec<RoomView>;
    /// Returns the number of placements.
    fn rooms_total(&self) -> usize;
    /// Returns how many tunnels are open, and the oldest of them, at most `limit`.
    fn tunnels(&self, limit: usize) -> TunnelsView;
    /// Tells tunnels to close and returns how many were told.
    ///
    /// # Errors
    ///
    /// One sentence that says what is wrong with the wish.
    fn close_tunnels(&self, wish: &CloseTunnels) -> Result<usize, String>;
    /// Returns the running configuration and how it came to be.
    fn config(&self) -> ConfigView;
    /// Returns all media workers, by number.
    fn media(&self) -> Vec<WorkerView>;
    /// Returns whether the edge can serve: a listener accepts, and each pool that a site uses has a node that can
    /// serve.
    ///
    /// # Errors
    ///
    /// One sentence for each thing that is missing.
    fn ready(&self) -> Result<(), Vec<String>>;
    /// Says what would become of a request now.
    ///
    /// # Errors
    ///
    /// What is wrong with the question.
    fn explain(&self, question: &Question) -> Result<Explained, String>;
    /// Returns how many bans there are.
    fn bans_total(&self) -> usize;
    /// Returns how many bans there are, and those that end first, at most `limit`.
    fn bans(&self, limit: usize) -> BansView;
    /// Bans a network. False: the table is full of bans that last longer.
    fn ban(&self, wish: &AddBan) -> bool;
    /// Ends the ban of exactly this network. False: there is none.
    fn unban(&self, network: IpNet) -> bool;
    /// Returns how much the cache keeps.
    fn cache(&self) -> CacheView;
    /// Takes away what the cache keeps of some URLs; returns how many answers.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL.
    fn purge(&self, wish: &Purge) -> Result<usize, String>;
    /// Loads the configuration again, as SIGHUP does, and returns what came of it.
    async fn reload(&self) -> ReloadRecord;
    /// Returns what `/metrics` shows.
    fn registry(&self) -> &Registry;
}

/// Who this process is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessView {
    /// Version of the binary.
    pub version: String,
    /// Name of this edge, when the configuration has `edges`.
    pub edge: Option<String>,
    /// Since the start.
    pub uptime_seconds: u64,
    /// Wall-clock time of this answer.
    pub now: u64,
    /// Spawned tasks that run.
    pub tasks: usize,
    /// TCP listeners that accept, each `name address`.
    pub listeners: Vec<String>,
    /// Certificates of the TLS listeners.
    pub certificates: Vec<CertificateView>,
}

/// One certificate of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateView {
    /// The listener.
    pub listener: String,
    /// The chain's file, or `self-signed`.
    pub certificate: String,
    /// When the one in use expires.
    pub not_after: Option<u64>,
    /// Why the files as they are now cannot be used; an older certificate is in use then.
    pub failure: Option<String>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// Its pool.
    pub pool: String,
    /// Its name in the pool.
    pub name: String,
    /// Where it is: `http://host:port` or `worker 0`.
    pub target: String,
    /// `starting`, `up` or `down`.
    pub state: HealthState,
    /// Whether new and known rooms may go there now.
    pub can_serve: bool,
    /// Why it is in this state, in words.
    pub why: String,
    /// How long it has been in this state.
    pub since_seconds: u64,
    /// Open requests, tunnels and sessions.
    pub open_streams: usize,
}

/// State of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthState {
    /// Not yet checked often enough.
    Starting,
    /// Checks pass.
    Up,
    /// Checks fail.
    Down,
}

/// One placement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomView {
    /// Pool of the node.
    pub pool: String,
    /// Scope of the key: the site, unless sites are merged.
    pub scope: String,
    /// The room's normalised key.
    pub key: String,
    /// The node where the room lives.
    pub node: String,
    /// Open streams that hold the placement.
    pub holds: usize,
    /// Members of the conference, when this process hosts it.
    pub participants: Option<usize>,
    /// Since the placement was granted.
    pub age_seconds: u64,
}

/// Some tunnels, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TunnelsView {
    /// All open tunnels.
    pub total: usize,
    /// The oldest, at most as many as asked for.
    pub tunnels: Vec<TunnelView>,
}

/// One WebSocket to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TunnelView {
    /// Its number; each is used once in the life of the process.
    pub id: u64,
    /// Its node, as `pool/name`.
    pub node: String,
    /// Its room, if it has one.
    pub room: Option<RoomName>,
    /// The client's address.
    pub client: IpAddr,
    /// Since its handshake.
    pub age_seconds: u64,
}

/// The whole name of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomName {
    /// Its pool.
    pub pool: String,
    /// Scope of its key.
    pub scope: String,
    /// Its normalised key.
    pub key: String,
}

/// A wish to close tunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseTunnels {
    /// Which.
    pub which: WhichTunnels,
    /// The close code that clients are told: 1001, 1008, 1012 or 1013.
    pub code: u16,
    /// They are closed spread over this time from now on.
    pub over: Duration,
}

/// Which tunnels are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhichTunnels {
    /// Those to a node.
    Node {
        /// Its pool.
        pool: String,
        /// Its name in the pool.
        name: String,
    },
    /// Those of a room.
    Room(RoomName),
    /// Those of clients in a network.
    Client(IpNet),
    /// One, by its number.
    Id(u64),
}

/// Some bans, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BansView {
    /// All bans.
    pub total: usize,
    /// Those that end first, at most as many as asked for.
    pub bans: Vec<BanView>,
}

/// Somebody who is kept out for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BanView {
    /// Who, as `192.0.2.0/24`.
    pub network: String,
    /// The rule of the configuration, or `api`.
    pub by: String,
    /// What the operator said of it; empty for a rule.
    pub reason: String,
    /// Since it began.
    pub age_seconds: u64,
    /// Until it ends.
    pub left_seconds: u64,
}

/// A wish to ban a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddBan {
    /// Who.
    pub network: IpNet,
    /// Why, for whoever looks at the list.
    pub reason: String,
    /// For how long.
    pub lasts: Duration,
}

/// How much the cache keeps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CacheView {
    /// Answers.
    pub objects: usize,
    /// Their bytes, and those of answers that are only still read.
    pub bytes: u64,
    /// Most bytes; 0 while no route keeps anything.
    pub bytes_max: u64,
    /// Requests of routes that keep answers, since the start.
    pub requests: u64,
    /// Those of them for which no node was asked.
    pub hits: u64,
    /// Their share; `None` before the first request.
    pub hit_ratio: Option<f64>,
}

/// A wish to take away what the cache keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Of this URL.
    pub url: String,
    /// And of all that begin with it.
    pub below: bool,
}

/// The running configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigView {
    /// Counts applied configurations, from 1.
    pub generation: u64,
    /// When the running one was applied.
    pub loaded_at: u64,
    /// Path of the file, or `embedded default`.
    pub source: String,
    /// Everything with defaults filled in, as YAML. Secrets are references.
    pub effective: String,
    /// Things that are legal and probably not meant.
    pub warnings: Vec<String>,
    /// The last [`HISTORY_MAX`] reloads, newest first; the first entry is the last reload.
    pub history: Vec<ReloadRecord>,
}

/// Reloads that are kept.
pub const HISTORY_MAX: usize = 20;

/// One reload and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReloadRecord {
    /// When.
    pub at: u64,
    /// Who asked for it.
    pub cause: ReloadCause,
    /// What came of it.
    pub result: ReloadResult,
    /// Generation that runs since.
    pub generation: u64,
    /// Why it was rejected: all faults of the file, as `roomgate check` prints them. Empty otherwise.
    pub faults: String,
    /// Keys whose change waits for a restart.
    pub restart_needed: Vec<String>,
    /// From the wish to the end, in milliseconds.
    pub took_ms: u64,
}

/// Who asked for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadCause {
    /// SIGHUP.
    Signal,
    /// The file changed.
    File,
    /// `POST /api/v1/reload`.
    Api,
}

impl ReloadCause {
    /// Returns the word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadResult {
    /// The new configuration runs.
    Applied,
    /// The file has faults: the old configuration runs on.
    Rejected,
}

/// One media worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkerView {
    /// Its number.
    pub worker: u8,
    /// Since its last heartbeat, in milliseconds.
    pub heartbeat_age_ms: u64,
    /// What the synthetic participant last found; `None` before the first one.
    pub selftest: Option<SelftestView>,
    /// Rooms hosted.
    pub rooms: usize,
    /// Participants hosted.
    pub sessions: usize,
    /// Client 5-tuples known.
    pub flows: usize,
    /// Rates now.
    pub rate: RateView,
    /// Rates of the last two minutes, oldest first, one a second.
    pub history: Vec<RateView>,
    /// Datagrams dropped since the start, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Datagrams dropped since the start because the owner's ring was full.
    pub ring_full: u64,
    /// Datagrams that the kernel dropped since the start because the socket's receive buffer was full.
    pub socket_receive_overflows: u64,
    /// Datagrams dropped since the start because the socket's send buffer was full.
    pub socket_send_overflows: u64,
}

/// Rates of a worker, each per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RateView {
    /// Datagrams received.
    pub packets_in: u64,
    /// Datagrams sent.
    pub packets_out: u64,
    /// Bytes of UDP payload received.
    pub bytes_in: u64,
    /// Bytes of UDP payload sent.
    pub bytes_out: u64,
    /// Datagrams dropped, for whatever reason.
    pub drops: u64,
}

/// What the synthetic participant found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SelftestView {
    /// Whether its packet came back.
    pub ok: bool,
    /// What failed, in words; empty when nothing did.
    pub why: String,
    /// Since then.
    pub age_seconds: u64,
}

/// What the status page shows, in one answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusView {
    /// Who this process is.
    pub process: ProcessView,
    /// What `/readyz` says.
    pub ready: ReadyView,
    /// All nodes.
    pub nodes: Vec<NodeView>,
    /// Some rooms.
    pub rooms: RoomsView,
    /// All media workers.
    pub media: Vec<WorkerView>,
    /// What passes to nodes.
    pub edge: EdgeView,
    /// The configuration without its text.
    pub config: ConfigSummary,
}

/// What passes to nodes, in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EdgeView {
    /// WebSockets to nodes that are open.
    pub tunnels: usize,
    /// Clients and networks that are kept out.
    pub bans: usize,
    /// What the cache keeps.
    pub cache: CacheView,
}

/// Some rooms, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomsView {
    /// All placements.
    pub total: usize,
    /// At most as many as asked for.
    pub rooms: Vec<RoomView>,
}

/// Whether the edge can serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadyView {
    /// Whether it can.
    pub ready: bool,
    /// What is missing.
    pub reasons: Vec<String>,
}

/// [`ConfigView`] without the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigSummary {
    /// See [`ConfigView::generation`].
    pub generation: u64,
    /// See [`ConfigView::loaded_at`].
    pub loaded_at: u64,
    /// See [`ConfigView::source`].
    pub source: String,
    /// See [`ConfigView::warnings`].
    pub warnings: Vec<String>,
    /// See [`ConfigView::history`].
    pub history: Vec<ReloadRecord>,
}

impl From<ConfigView> for ConfigSummary {
    fn from(config: ConfigView) -> Self {
        let ConfigView { generation, loaded_at, source, effective: _, warnings, history } = config;
        Self { generation, loaded_at, source, warnings, history }
    }
}
