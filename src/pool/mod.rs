//! Nodes and pools: what they are, whether they can serve, which one a new room gets.
//!
//! Readers see an immutable [`Pool`] behind one atomic pointer. A reload makes new pools and keeps each [`Node`] whose
//! name and address stand, with its health and counters. What decides is pure: [`health`] and [`placement`].

pub mod checker;
pub mod health;
pub mod node;
pub mod placement;
pub mod probe;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use checker::{Checker, OnDown};
pub use health::{CheckOutcome, FailReason, NodeState};
pub use node::{Node, OpenGuard, Target};

use crate::config::settings::{CheckSettings, Name, PoolNodes, PoolSettings};
use crate::telemetry::metrics::PoolMetrics;
use health::Limits;
use node::Judging;

/// All pools of the process. Cheap to clone; all clones are the same set.
#[derive(Clone)]
pub struct Pools {
    shared: Arc<Shared>,
}

impl Pools {
    /// Creates an empty set. An embedded pool of `auto` size has one node per core, see
    /// [`Pools::set_embedded_workers`].
    pub fn new(metrics: PoolMetrics) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self {
            shared: Arc::new(Shared {
                current: ArcSwap::default(),
                applying: Mutex::new(()),
                generation: watch::Sender::new(0),
                embedded: AtomicU8::new(u8::try_from(cores).unwrap_or(u8::MAX)),
                metrics,
            }),
        }
    }

    /// Sets how many nodes an embedded pool of `auto` size has: the workers that were started. Counts from the next
    /// [`Pools::apply`].
    pub fn set_embedded_workers(&self, workers: u8) {
        self.shared.embedded.store(workers, Ordering::Relaxed);
    }

    /// Makes these the pools. A node whose pool, name and address are unchanged stays the same object; one that is
    /// gone is down for good, for its rooms and its streams.
    pub fn apply(&self, pools: &BTreeMap<Name, Arc<PoolSettings>>) {
        let shared = &*self.shared;
        let _one_at_a_time = shared.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let now = crate::clock::now();
        let old = shared.current.load_full();
        let new: Snapshot = pools
            .iter()
            .map(|(name, settings)| (Arc::clone(name), shared.build(old.get(name), name, settings, now)))
            .collect();
        let new = Arc::new(new);
        shared.current.store(Arc::clone(&new));
        // Only now: who asks for a place of a removed node must already find the others.
        for node in old.values().flat_map(|pool| &pool.nodes) {
            let same_name = new.get(&node.pool).and_then(|pool| pool.node(&node.name));
            if !same_name.is_some_and(|other| Arc::ptr_eq(other, node)) {
                node.remove(now);
            }
            if same_name.is_none() {
                shared.metrics.forget(&node.pool, &node.name);
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
    /// Where the next search for the least open node begins, so that ties do not all fall on the first.
    turn: AtomicUsize,
}

impl Pool {
    /// Returns the serving node with the fewest open requests, for a request without a room. Nodes of weight 0 come
    /// last.
    pub fn least_open(&self) -> Option<Arc<Node>> {
        let count = self.nodes.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..count)
            .map(|i| &self.nodes[turn.wrapping_add(i) % count])
            .filter(|node| node.can_serve())
            .min_by_key(|node| (node.weight() == 0, node.open_count()))
            .cloned()
    }

    /// Returns the node of that name.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| &*node.name == name)
    }

    /// Returns the HTTP check of its nodes, if they have one.
    pub fn check(&self) -> Option<&CheckSettings> {
        match &self.settings.nodes {
            PoolNodes::Http { check, .. } => check.as_ref(),
            PoolNodes::Embedded { .. } => None,
        }
    }
}

/// Asks the embedded workers how they are. Implemented above this part; polled ten times a second.
pub trait WorkerProbe: Send + Sync {
    /// Returns the number of workers.
    fn workers(&self) -> u8;

    /// Returns whether a worker can host rooms, or why not.
    ///
    /// # Errors
    /// The reason, in words for the operator.
    fn health(&self, worker: u8, now: Instant) -> Result<(), String>;
}

type Snapshot = BTreeMap<Name, Arc<Pool>>;

struct Shared {
    current: ArcSwap<Snapshot>,
    applying: Mutex<()>,
    generation: watch::Sender<u64>,
    embedded: AtomicU8,
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
                        let target = Target::Http { host: Arc::clone(&http.host), port: http.port };
                        keep_or_make(Arc::clone(node), target, http.weight, judging)
                    })
                    .collect()
            }
            PoolNodes::Embedded { workers } => {
                let judging = Judging { limits: Limits::ONE, checked: true };
                (0..workers.unwrap_or_else(|| self.embedded.load(Ordering::Relaxed)))
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
            turn: AtomicUsize::new(0),
        })
    }
}

/// All workers are alike.
const EMBEDDED_WEIGHT: u32 = 100;
