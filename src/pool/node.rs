//! One node: who it is, whether it can serve, what is open on it.
//!
//! The data path reads one atomic word; what health decides is written under a lock that only checks and failed
//! connects take.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::health::{CheckOutcome, FailReason, Health, Limits, NodeState};
use super::tls::NodeTls;
use crate::config::settings::{Name, Protocol, Service, WEB};
use crate::telemetry::metrics::NodeMetrics;

/// One place that can host rooms. Its pool and name are its identity; another address is another node.
pub struct Node {
    /// The pool it belongs to.
    pub pool: Name,
    /// Its name in the pool.
    pub name: Name,
    /// Where it is.
    pub target: Target,
    weight: AtomicU32,
    manner: ArcSwap<Manner>,
    /// A [`Status`] in one word.
    status: AtomicU64,
    changes: watch::Sender<Status>,
    open: AtomicUsize,
    record: Mutex<Record>,
    metrics: NodeMetrics,
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A host with HTTP services.
    Http {
        /// An IP address or a DNS name, resolved at each connect.
        host: Name,
        /// Its services by name.
        services: Arc<BTreeMap<Name, Service>>,
    },
    /// A TCP service: bytes pass as they are.
    Tcp {
        /// An IP address or a DNS name, resolved at each connect.
        host: Name,
        /// TCP port.
        port: u16,
    },
    /// An SFU worker of this process.
    Embedded {
        /// Its number.
        worker: u8,
    },
}

impl Target {
    /// Finds a service: the host, and the port there. Without a name it is [`WEB`], or the one of a TCP node.
    ///
    /// # Errors
    /// The node has no such service, or none at all: what to tell whoever asked. It says nothing about its health.
    pub fn service(&self, name: Option<&str>) -> Result<(&Name, Service), FailReason> {
        let name = name.unwrap_or(WEB);
        match self {
            Target::Http { host, services } => match services.get(name).or_else(|| only_web(services)) {
                Some(service) => Ok((host, *service)),
                None => Err(FailReason::NoService(Name::from(name))),
            },
            Target::Tcp { host, port } if name == WEB => Ok((host, Service::plain(*port))),
            Target::Tcp { .. } | Target::Embedded { .. } => Err(FailReason::NoService(Name::from(name))),
        }
    }
}

impl Target {
    /// Whether it has a service by this name: one that is a URL has [`WEB`] alone, though it answers for all.
    pub fn has_service(&self, name: &str) -> bool {
        match self {
            Target::Http { services, .. } => services.contains_key(name),
            Target::Tcp { .. } | Target::Embedded { .. } => false,
        }
    }
}

/// A node that is a URL answers for every service: something behind the URL knows the paths.
fn only_web(services: &BTreeMap<Name, Service>) -> Option<&Service> {
    services.get(WEB).filter(|_| services.len() == 1)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Http { host, services } => {
                if let (Some(web), 1) = (services.get(WEB), services.len()) {
                    let scheme = if web.tls { "https" } else { "http" };
                    return write_url(f, scheme, host, web.port);
                }
                write!(f, "{host}")?;
                services.iter().enumerate().try_for_each(|(i, (name, service))| {
                    let tls = if service.tls { "https:" } else { "" };
                    write!(f, "{} {name} {tls}{}", if i == 0 { ":" } else { "," }, service.port)
                })
            }
            Target::Tcp { host, port } => write_url(f, "tcp", host, *port),
            Target::Embedded { worker } => write!(f, "worker {worker}"),
        }
    }
}

fn write_url(f: &mut fmt::Formatter<'_>, scheme: &str, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') && !host.starts_with('[') {
        write!(f, "{scheme}://[{host}]:{port}")
    } else {
        write!(f, "{scheme}://{host}:{port}")
    }
}

/// What a node is called apart from its name, and how it is spoken to: changes with a reload, and moves no room.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) region: Option<Name>,
    pub(super) release: Option<Name>,
    pub(super) protocol: Protocol,
    /// `None` if none of its services is reached over TLS.
    pub(super) tls: Option<Arc<NodeTls>>,
}

impl Default for Manner {
    fn default() -> Self {
        Self { region: None, release: None, protocol: Protocol::H1, tls: None }
    }
}

/// How a node of some settings begins and is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judging {
    /// Passes and failures that change its state.
    pub(super) limits: Limits,
    /// Whether it must pass a check before it can serve.
    pub(super) checked: bool,
}

impl Node {
    pub(super) fn new(
        pool: Name,
        name: Name,
        target: Target,
        weight: u32,
        judging: Judging,
        metrics: NodeMetrics,
        now: Instant,
    ) -> Self {
        let (state, why) =
            if judging.checked { (NodeState::Starting, NOT_YET) } else { (NodeState::Up, UNCHECKED) };
        let status = Status { term: 0, state, removed: false };
        metrics.up.set(i64::from(status.can_serve()));
        Self {
            pool,
            name,
            target,
            weight: AtomicU32::new(weight),
            manner: ArcSwap::default(),
            status: AtomicU64::new(status.pack()),
            changes: watch::Sender::new(status),
            open: AtomicUsize::new(0),
            record: Mutex::new(Record {
                health: Health::new(state, judging.limits),
                status,
                why: why.to_owned(),
                since: now,
            }),
            metrics,
        }
    }

    /// Returns whether rooms and requests may go to it now.
    pub fn can_serve(&self) -> bool {
        self.status().can_serve()
    }

    /// Returns its state. A node that left its pool is down.
    pub fn state(&self) -> NodeState {
        let status = self.status();
        if status.removed { NodeState::Down } else { status.state }
    }

    /// Returns whether it left its pool; then nothing brings it back.
    pub fn is_removed(&self) -> bool {
        self.status().removed
    }

    /// Returns why it is in its state, in the words of the last check.
    pub fn why(&self) -> String {
        let record = self.record();
        match record.health.failing() {
            Some((failures, fall)) if record.status.can_serve() => {
                format!("{} ({failures} of {fall} failures)", record.why)
            }
            Some(_) | None => record.why.clone(),
        }
    }

    /// Returns when it entered its state.
    pub fn since(&self) -> Instant {
        self.record().since
    }

    /// Returns its share of new rooms; 0 gets none.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Returns where it stands.
    pub fn region(&self) -> Option<Name> {
        self.manner.load().region.clone()
    }

    /// Returns what it runs.
    pub fn release(&self) -> Option<Name> {
        self.manner.load().release.clone()
    }

    /// Returns whether it stands in that region.
    pub fn is_in(&self, region: &str) -> bool {
        self.manner.load().region.as_deref() == Some(region)
    }

    /// Returns whether it runs that release.
    pub fn runs(&self, release: &str) -> bool {
        self.manner.load().release.as_deref() == Some(release)
    }

    /// Returns what requests speak to it.
    pub fn protocol(&self) -> Protocol {
        self.manner.load().protocol
    }

    /// Returns the policy of TLS to it.
    ///
    /// # Errors
    /// None of its services is reached over TLS.
    pub fn tls(&self) -> Result<Arc<NodeTls>, FailReason> {
        let tls = self.manner.load().tls.clone();
        tls.ok_or_else(|| FailReason::Tls("the node is not reached over TLS".to_owned()))
    }

    /// Resolves when the node goes down or leaves its pool; at once if that is so already.
    ///
    /// Tunnels and sessions wait on it and close with 1012.
    pub fn down(&self) -> impl Future<Output = ()> + Send + use<> {
        self.down_after(self.status().term)
    }

    /// Like [`Node::down`], for one who learned of the node when its term was `term`: a node that went down and came
    /// back in between counts as down.
    pub fn down_after(&self, term: u64) -> impl Future<Output = ()> + Send + use<> {
        let mut changes = self.changes.subscribe();
        async move {
            // An error means that the node itself is gone.
            let _ = changes
                .wait_for(|status| status.removed || status.state == NodeState::Down || status.term != term)
                .await;
        }
    }

    /// Counts one open request or stream until the guard is dropped.
    pub fn open(self: &Arc<Self>) -> OpenGuard {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.metrics.open.inc();
        OpenGuard { node: Arc::clone(self) }
    }

    /// Returns the number of open requests and streams.
    pub fn open_count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes the outcome of a check. One that this machine had no means to make is counted and changes nothing.
    pub fn report(&self, outcome: CheckOutcome, now: Instant) {
        match outcome {
            CheckOutcome::Pass => self.metrics.passed.inc(),
            CheckOutcome::Fail(FailReason::Local(_)) => self.metrics.unasked.inc(),
            CheckOutcome::Fail(_) => self.metrics.failed.inc(),
        }
        self.judge(outcome, now);
    }

    /// Takes the failed connect of a request: an immediate failed check, unless the fault was not the node's.
    pub fn connect_failed(&self, reason: FailReason, now: Instant) {
        if matches!(reason, FailReason::Local(_) | FailReason::NoService(_)) {
            return;
        }
        self.metrics.connect_failed.inc();
        self.judge(CheckOutcome::Fail(reason), now);
    }

    /// Takes the node to be well, as one would who knows its file and nothing else.
    pub fn take_as_well(&self, now: Instant) {
        let limits = self.record().health.limits();
        for _ in 0..limits.rise.get() {
            self.judge(CheckOutcome::Pass, now);
        }
    }

    /// Takes what an embedded worker says of itself.
    pub fn set_embedded(&self, healthy: Result<(), String>, now: Instant) {
        self.report(
            match healthy {
                Ok(()) => CheckOutcome::Pass,
                Err(why) => CheckOutcome::Fail(FailReason::Worker(why)),
            },
            now,
        );
    }

    /// Returns the current term if the node can serve: it counts the times that the node stopped serving.
    pub fn serving_term(&self) -> Option<u64> {
        let status = self.status();
        status.can_serve().then_some(status.term)
    }

    /// Returns whether the node can serve and has not been down since `term`.
    pub fn serves_since(&self, term: u64) -> bool {
        let status = self.status();
        status.can_serve() && status.term == term
    }

    /// Returns a receiver that sees each change of the status.
    pub(super) fn subscribe(&self) -> watch::Receiver<Status> {
        self.changes.subscribe()
    }

    /// Takes what its settings say of it.
    pub(super) fn set_manner(&self, manner: Manner) {
        self.manner.store(Arc::new(manner));
    }

    /// Takes the settings of a reload; health and counters stay.
    pub(super) fn adopt(&self, weight: u32, judging: Judging, now: Instant) {
        self.weight.store(weight, Ordering::Relaxed);
        let mut record = self.record();
        record.health.set_limits(judging.limits);
        if !judging.checked && record.health.state() == NodeState::Starting {
            // Nobody will check it any more: it serves until a connect fails.
            record.health = Health::new(NodeState::Up, judging.limits);
            self.enter(&mut record, NodeState::Up, UNCHECKED.to_owned(), now);
        }
    }

    /// Ends the node: it left its pool.
    pub(super) fn remove(&self, now: Instant) {
        let mut record = self.record();
        if record.status.removed {
            return;
        }
        record.status.removed = true;
        record.status.term += 1;
        record.why = "left the configuration".to_owned();
        record.since = now;
        self.publish(record.status);
    }

    /// Writes the gauge of its state again.
    pub(super) fn show(&self) {
        let record = self.record();
        self.metrics.up.set(i64::from(record.status.can_serve()));
    }

    fn judge(&self, outcome: CheckOutcome, now: Instant) {
        if matches!(outcome, CheckOutcome::Fail(FailReason::Local(_))) {
            return;
        }
        let mut record = self.record();
        if record.status.removed {
            return;
        }
        let transition = record.health.handle(&outcome);
        let why = match outcome {
            CheckOutcome::Pass => "check passed".to_owned(),
            CheckOutcome::Fail(reason) => reason.to_string(),
        };
        match transition {
            None => {
                // A node that is down stays so for the reason of its last failure, until it is up.
                if record.status.state != NodeState::Down || why != "check passed" {
                    record.why = why;
                }
            }
            Some(transition) => self.enter(&mut record, transition.to, why, now),
        }
    }

    fn enter(&self, record: &mut Record, to: NodeState, why: String, now: Instant) {
        if to == NodeState::Down {
            record.status.term += 1;
            self.metrics.went_down.inc();
            // The operator's line is written by whoever places its rooms anew, who can say how many they are.
            tracing::debug!(pool = %self.pool, node = %self.name, why, "node is down");
        } else {
            self.metrics.went_up.inc();
            tracing::info!(pool = %self.pool, node = %self.name, why, "node is up");
        }
        record.status.state = to;
        record.why = why;
        record.since = now;
        self.metrics.up.set(i64::from(record.status.can_serve()));
        self.publish(record.status);
    }

    fn publish(&self, status: Status) {
        self.status.store(status.pack(), Ordering::Release);
        self.changes.send_replace(status);
    }

    fn status(&self) -> Status {
        Status::unpack(self.status.load(Ordering::Acquire))
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // Nothing in here panics half way; a poisoned record is still whole.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("pool", &self.pool)
            .field("name", &self.name)
            .field("target", &self.target)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// Counts one open request or stream of a node while it lives.
#[derive(Debug)]
pub struct OpenGuard {
    node: Arc<Node>,
}

impl OpenGuard {
    /// Returns the node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.node.open.fetch_sub(1, Ordering::Relaxed);
        self.node.metrics.open.dec();
    }
}

/// What the data path needs to know of a node, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// Times that the node went down or was removed.
    pub(super) term: u64,
    pub(super) state: NodeState,
    pub(super) removed: bool,
}

impl Status {
    fn can_serve(self) -> bool {
        self.state == NodeState::Up && !self.removed
    }

    fn pack(self) -> u64 {
        let state = match self.state {
            NodeState::Starting => 0,
            NodeState::Up => 1,
            NodeState::Down => 2,
        };
        self.term << 3 | u64::from(self.removed) << 2 | state
    }

    fn unpack(word: u64) -> Self {
        let state = match word & 3 {
            0 => NodeState::Starting,
            1 => NodeState::Up,
            _ => NodeState::Down,
        };
        Self { term: word >> 3, state, removed: word & 4 != 0 }
    }
}

struct Record {
    health: Health,
    status: Status,
    why: String,
    since: Instant,
}

const NOT_YET: &str = "not checked yet";
const UNCHECKED: &str = "not checked";
