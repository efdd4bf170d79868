//! Nodes and pools: what they are, whether they can serve, which one a new room gets.
//!
//! Readers see an immutable [`Pool`] behind one atomic pointer. A reload makes new pools and keeps each [`Node`] whose
//! name and address stand, with its health and counters. What decides is pure: [`health`] and [`placement`].

pub mod checker;
pub mod dial;
pub mod health;
pub mod node;
pub mod placement;
pub mod probe;
pub mod resolve;
pub mod stream;
pub mod tls;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};

pub use checker::{Checker, FirstChecks, OnDown};
pub use health::{CheckOutcome, FailReason, LocalFault, NodeState};
pub use node::{Node, OpenGuard, Target};
pub use placement::Wish;
pub use stream::NodeStream;

use crate::config::settings::{CheckSettings, Name, PoolNodes, PoolSettings};
use crate::telemetry::metrics::PoolMetrics;
use health::Limits;
use node::{Judging, Manner};
use resolve::Resolver;
use tls::NodeTls;

/// All pools of the process. Cheap to clone; all clones are the same set.
#[derive(Clone)]
pub struct Pools {
    shared: Arc<Shared>,
}

impl Pools {
    /// Creates an empty set.
    pub fn new(metrics: PoolMetrics) -> Self {
        Self {
            shared: Arc::new(Shared {
                current: ArcSwap::default(),
                applying: Mutex::new(()),
                generation: watch::Sender::new(0),
                embedded: OnceLock::new(),
                waiting: Semaphore::new(WAITING_MAX),
                resolver: Arc::new(Resolver::new(metrics.lookups.clone())),
                metrics,
            }),
        }
    }

    /// Returns where the nodes' names are looked up.
    pub fn resolver(&self) -> &Arc<Resolver> {
        &self.shared.resolver
    }

    /// Says how many workers were started: as many nodes has every embedded pool from the next [`Pools::apply`] on,
    /// whatever its settings say, for workers neither come nor go while the process runs. The first call counts.
    /// Until then an embedded pool has as many nodes as its settings say, and `auto` is one per core.
    pub fn set_embedded_workers(&self, workers: u8) {
        let _ = self.shared.embedded.set(workers);
    }

    /// Adds the pools that are new by name, so that sites may point to them, and touches nothing that is there.
    /// [`Prepared::finish`] does the rest; dropping it takes the new pools away again.
    ///
    /// One reload at a time: the caller sees to that.
    #[must_use = "dropped, it takes the new pools away again"]
    pub fn prepare<'a>(&'a self, pools: &'a BTreeMap<Name, Arc<PoolSettings>>) -> Prepared<'a> {
        let before = self.settings();
        let mut all = before.clone();
        for (name, settings) in pools {
            all.entry(Arc::clone(name)).or_insert_with(|| Arc::clone(settings));
        }
        if all.len() > before.len() {
            self.apply(&all);
        }
        Prepared { pools: self, wanted: pools, before: Some(before) }
    }

    /// What the pools that are there were made from.
    fn settings(&self) -> BTreeMap<Name, Arc<PoolSettings>> {
        let current = self.shared.current.load();
        current.iter().map(|(name, pool)| (Arc::clone(name), Arc::clone(&pool.settings))).collect()
    }

    /// Waits until a pool has a node that can take rooms, as long as there is hope: one of its nodes has not been
    /// checked yet. At most [`FIRST_CHECK_WAIT`], and at most [`WAITING_MAX`] wait at once; others do not wait.
    pub async fn wait_for_first_checks(&self, pool: &str) {
        let hopeful = || {
            let Some(pool) = self.get(pool) else { return false };
            let mut takers = pool.nodes.iter().filter(|node| node.weight() > 0);
            takers.clone().all(|node| !node.can_serve())
                && takers.any(|node| node.state() == NodeState::Starting)
        };
        if !hopeful() {
            return;
        }
        let Ok(_one_of_them) = self.shared.waiting.try_acquire() else { return };
        let _counted = Counted::new(&self.shared.metrics.waiting);
        let wait = async {
            loop {
                // Subscribed before looking: what changes after the look ends the wait.
                let mut pools = self.subscribe();
                let nodes = self.get(pool).map(|pool| pool.nodes.clone()).unwrap_or_default();
                let mut nodes: Vec<_> = nodes.iter().map(|node| node.subscribe()).collect();
                if !hopeful() {
                    return;
                }
                let changes = nodes.iter_mut().map(|node| Box::pin(node.changed()));
                tokio::select! {
                    _ = pools.changed() => {}
                    _ = futures_util::future::select_all(changes) => {}
                }
            }
        };
        let _ = tokio::time::timeout(FIRST_CHECK_WAIT, wait).await;
    }

    /// Makes these the pools. A node whose pool, name and addresses are unchanged stays the same object; one that is
    /// gone is down for good, for its rooms and its streams. An embedded pool stays until the process ends, as its
    /// workers do: one that these settings lack, or make of HTTP nodes, is kept as it is.
    pub fn apply(&self, pools: &BTreeMap<Name, Arc<PoolSettings>>) {
        let shared = &*self.shared;
        let _one_at_a_time = shared.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let now = crate::clock::now();
        let old = shared.current.load_full();
        let running = |name: &Name| old.get(name).filter(|pool| pool.is_embedded());
        let mut new: Snapshot = pools
            .iter()
            .map(|(name, settings)| {
                let pool = match running(name) {
                    Some(running) if !is_embedded(settings) => Arc::clone(running),
                    _ => shared.build(old.get(name), name, settings, now),
                };
                (Arc::clone(name), pool)
            })
            .collect();
        for (name, pool) in old.iter().filter(|(_, pool)| pool.is_embedded()) {
            new.entry(Arc::clone(name)).or_insert_with(|| Arc::clone(pool));
        }
        let new = Arc::new(new);
        shared.current.store(Arc::clone(&new));
        // Only now: who asks for a place of a removed node must already find the others.
        for node in old.values().flat_map(|pool| &pool.nodes) {
            match new.get(&node.pool).and_then(|pool| pool.node(&node.name)) {
                Some(same) if Arc::ptr_eq(same, node) => {}
                Some(successor) => {
                    node.remove(now);
                    // A last check of the old one may have written to the series that both share.
                    successor.show();
                }
                None => {
                    node.remove(now);
                    shared.metrics.forget(&node.pool, &node.name);
                }
            }
        }
        shared.generation.send_modify(|generation| *generation += 1);
    }

    /// Returns the pool of that name as it is now.
    pub fn get(&self, name: &str) -> Option<Arc<Pool>> {
        self.shared.current.load().get(name).cloned()
    }

    /// Returns all pools, in the order of their names.
    pub fn all(&self) -> Vec<Arc<Pool>> {
        self.shared.current.load().values().cloned().collect()
    }

    /// Returns how long a room of the pool keeps a place that nobody uses; `None` if there is no such pool.
    pub fn linger(&self, pool: &str) -> Option<Duration> {
        self.shared.current.load().get(pool).map(|pool| pool.settings.sticky.linger)
    }

    /// Returns a receiver that sees the number of the last [`Pools::apply`].
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }
}

/// A reload between its two steps: see [`Pools::prepare`].
#[derive(Debug)]
pub struct Prepared<'a> {
    pools: &'a Pools,
    wanted: &'a BTreeMap<Name, Arc<PoolSettings>>,
    before: Option<BTreeMap<Name, Arc<PoolSettings>>>,
}

impl Prepared<'_> {
    /// Changes and removes pools and nodes: [`Pools::apply`].
    pub fn finish(mut self) {
        self.before = None;
        self.pools.apply(self.wanted);
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if let Some(before) = self.before.take()
            && self.pools.settings().len() > before.len()
        {
            self.pools.apply(&before);
        }
    }
}

/// Counts one in a gauge while it lives.
struct Counted<'a>(&'a prometheus::IntGauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl std::fmt::Debug for Pools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}

/// A named set of nodes with one way of checking, placing and sticking, as it was at one moment.
#[derive(Debug)]
pub struct Pool {
    /// Its name.
    pub name: Name,
    /// What the nodes were made from.
    pub settings: Arc<PoolSettings>,
    /// Its nodes: by name, embedded ones by number.
    pub nodes: Vec<Arc<Node>>,
    tls: Option<Arc<NodeTls>>,
    /// Where the next search for the least open node begins, so that ties do not all fall on the first.
    turn: AtomicUsize,
}

impl Pool {
    /// Returns the serving node for a request without a room: of those of the wished release, if any can serve, and of
    /// this edge's region, if any can serve, the one with the fewest open requests. Nodes of weight 0 come last, and
    /// `except`, the node of a failed try, after them.
    pub fn least_open(&self, wish: &Wish, except: Option<&Arc<Node>>) -> Option<Arc<Node>> {
        if let Some(node) = wish.node.as_ref().and_then(|name| self.node(name))
            && node.can_serve()
            && except.is_none_or(|failed| !Arc::ptr_eq(failed, node))
        {
            return Some(Arc::clone(node));
        }
        let count = self.nodes.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let away = |region: &Name, node: &Node| !node.is_in(region);
        (0..count)
            .map(|i| &self.nodes[turn.wrapping_add(i) % count])
            .filter(|node| node.can_serve())
            .min_by_key(|node| {
                (
                    except.is_some_and(|failed| Arc::ptr_eq(failed, node)),
                    node.weight() == 0,
                    wish.release.as_ref().is_some_and(|release| !node.runs(release)),
                    self.settings.region.as_ref().is_some_and(|region| away(region, node)),
                    node.open_count(),
                )
            })
            .cloned()
    }

    /// Returns the node of that name.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| &*node.name == name)
    }

    /// Returns whether its nodes are workers of this process.
    pub fn is_embedded(&self) -> bool {
        is_embedded(&self.settings)
    }

    /// Returns the HTTP check of its nodes, if they have one.
    pub fn check(&self) -> Option<&CheckSettings> {
        match &self.settings.nodes {
            PoolNodes::Http { check, .. } => check.as_ref(),
            PoolNodes::Tcp { .. } | PoolNodes::Embedded { .. } => None,
        }
    }
}

/// Asks the embedded workers how they are. Implemented above this part; polled ten times a second.
pub trait WorkerProbe: Send + Sync {
    /// Returns the number of workers.
    fn workers(&self) -> u8;

    /// Returns whether a worker can host rooms, or why not in words for the operator; `None` as long as it has not
    /// been tested.
    fn health(&self, worker: u8, now: Instant) -> Option<Result<(), String>>;
}

fn is_embedded(settings: &PoolSettings) -> bool {
    match settings.nodes {
        PoolNodes::Embedded { .. } => true,
        PoolNodes::Http { .. } | PoolNodes::Tcp { .. } => false,
    }
}

type Snapshot = BTreeMap<Name, Arc<Pool>>;

struct Shared {
    current: ArcSwap<Snapshot>,
    applying: Mutex<()>,
    generation: watch::Sender<u64>,
    /// The workers that were started.
    embedded: OnceLock<u8>,
    /// Requests that may still wait for a first check.
    waiting: Semaphore,
    resolver: Arc<Resolver>,
    metrics: PoolMetrics,
}

impl Shared {
    fn build(
        &self,
        old: Option<&Arc<Pool>>,
        name: &Name,
        settings: &Arc<PoolSettings>,
        now: Instant,
    ) -> Arc<Pool> {
        let keep_or_make = |node: Name, target: Target, weight: u32, judging: Judging| match old
            .and_then(|pool| pool.node(&node))
            .filter(|old| old.target == target)
        {
            Some(old) => {
                old.adopt(weight, judging, now);
                Arc::clone(old)
            }
            None => {
                let metrics = self.metrics.node(name, &node);
                Arc::new(Node::new(Arc::clone(name), node, target, weight, judging, metrics, now))
            }
        };
        let tls = self.tls(old, settings);
        let nodes = match &settings.nodes {
            PoolNodes::Http { nodes, check } => {
                let judging = match check {
                    Some(check) => {
                        Judging { limits: Limits { rise: check.rise, fall: check.fall }, checked: true }
                    }
                    None => Judging { limits: Limits::ONE, checked: false },
                };
                nodes
                    .iter()
                    .map(|(node, http)| {
                        let target = Target::Http {
                            host: Arc::clone(&http.host),
                            services: Arc::clone(&http.services),
                        };
                        let node = keep_or_make(Arc::clone(node), target, http.weight, judging);
                        let over_tls = http.services.values().any(|service| service.tls);
                        node.set_manner(Manner {
                            region: http.region.clone(),
                            release: http.release.clone(),
                            protocol: settings.protocol,
                            tls: tls.clone().filter(|_| over_tls),
                        });
                        node
                    })
                    .collect()
            }
            PoolNodes::Tcp { nodes, check, timeouts: _ } => {
                let judging = match check {
                    Some(check) => {
                        Judging { limits: Limits { rise: check.rise, fall: check.fall }, checked: true }
                    }
                    None => Judging { limits: Limits::ONE, checked: false },
                };
                nodes
                    .iter()
                    .map(|(node, tcp)| {
                        let target = Target::Tcp { host: Arc::clone(&tcp.host), port: tcp.port };
                        keep_or_make(Arc::clone(node), target, tcp.weight, judging)
                    })
                    .collect()
            }
            PoolNodes::Embedded { workers } => {
                let judging = Judging { limits: Limits::ONE, checked: true };
                (0..self.embedded.get().copied().or(*workers).unwrap_or_else(cores))
                    .map(|worker| {
                        let node = Name::from(format!("worker-{worker}"));
                        keep_or_make(node, Target::Embedded { worker }, EMBEDDED_WEIGHT, judging)
                    })
                    .collect()
            }
        };
        Arc::new(Pool {
            name: Arc::clone(name),
            settings: Arc::clone(settings),
            nodes,
            tls,
            turn: AtomicUsize::new(0),
        })
    }

    /// Keeps the policy of TLS while its settings stand, with its sessions; `None` if no node is reached over TLS.
    fn tls(&self, old: Option<&Arc<Pool>>, settings: &PoolSettings) -> Option<Arc<NodeTls>> {
        let PoolNodes::Http { nodes, .. } = &settings.nodes else { return None };
        if !nodes.values().flat_map(|node| node.services.values()).any(|service| service.tls) {
            return None;
        }
        let before = old.and_then(|pool| pool.tls.clone()).filter(|tls| tls.settings == settings.tls);
        Some(before.unwrap_or_else(|| Arc::new(NodeTls::new(settings.tls.clone()))))
    }
}

fn cores() -> u8 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    u8::try_from(cores).unwrap_or(u8::MAX)
}

/// The first check of a node that a reload brought is made at once; a request waits for it this long.
const FIRST_CHECK_WAIT: Duration = Duration::from_secs(1);
/// Requests that wait for a first check; more get their 503 at once.
const WAITING_MAX: usize = 1024;

/// All workers are alike.
const EMBEDDED_WEIGHT: u32 = 100;

#[cfg(test)]
mod tests;
