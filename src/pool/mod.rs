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

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};

pub use checker::{Checker, OnDown};
pub use health::{CheckOutcome, FailReason, LocalFault, NodeState};
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
    /// Creates an empty set.
    pub fn new(metrics: PoolMetrics) -> Self {
        Self {
            shared: Arc::new(Shared {
                current: ArcSwap::default(),
                applying: Mutex::new(()),
                generation: watch::Sender::new(0),
                embedded: OnceLock::new(),
                waiting: Semaphore::new(WAITING_MAX),
                metrics,
            }),
        }
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

    /// Makes these the pools. A node whose pool, name and address are unchanged stays the same object; one that is
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

    /// Returns whether its nodes are workers of this process.
    pub fn is_embedded(&self) -> bool {
        is_embedded(&self.settings)
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

    /// Returns whether a worker can host rooms, or why not in words for the operator; `None` as long as it has not
    /// been tested.
    fn health(&self, worker: u8, now: Instant) -> Option<Result<(), String>>;
}

fn is_embedded(settings: &PoolSettings) -> bool {
    match settings.nodes {
        PoolNodes::Embedded { .. } => true,
        PoolNodes::Http { .. } => false,
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
            turn: AtomicUsize::new(0),
        })
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
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::settings::{HttpNode, StickySettings};
    use crate::telemetry::metrics::Metrics;

    fn settings(nodes: &[(&str, u16, u32)], check: Option<(u32, u32)>) -> BTreeMap<Name, Arc<PoolSettings>> {
        let nodes = nodes
            .iter()
            .map(|&(name, port, weight)| {
                (Name::from(name), HttpNode { host: "127.0.0.1".into(), port, weight })
            })
            .collect();
        let check = check.map(|(rise, fall)| CheckSettings {
            path: "/".into(),
            every: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: NonZeroU32::new(rise).unwrap(),
            fall: NonZeroU32::new(fall).unwrap(),
        });
        let settings = PoolSettings {
            name: "p".into(),
            nodes: PoolNodes::Http { nodes, check },
            sticky: StickySettings { linger: Duration::from_secs(60) },
        };
        BTreeMap::from([("p".into(), Arc::new(settings))])
    }

    struct Bench {
        metrics: Metrics,
        pools: Pools,
    }

    impl Bench {
        fn new(nodes: &[(&str, u16, u32)], check: Option<(u32, u32)>) -> Self {
            let metrics = Metrics::new();
            let bench = Self { pools: Pools::new(metrics.pool.clone()), metrics };
            bench.pools.apply(&settings(nodes, check));
            bench
        }

        fn node(&self, name: &str) -> Arc<Node> {
            Arc::clone(self.pools.get("p").unwrap().node(name).unwrap())
        }

        fn series(&self) -> usize {
            let names = ["roomgate_pool_node_up", "roomgate_pool_checks_total", "roomgate_pool_open"];
            let families = self.metrics.registry.gather();
            families.iter().filter(|f| names.contains(&f.name())).map(|f| f.get_metric().len()).sum()
        }
    }

    fn refused() -> CheckOutcome {
        CheckOutcome::Fail(FailReason::ConnectRefused)
    }

    #[test]
    fn a_node_tells_what_it_is_and_why() {
        let bench = Bench::new(&[("a", 1, 100)], Some((2, 2)));
        let (node, now) = (bench.node("a"), crate::clock::now());
        let later = now + Duration::from_secs(1);
        assert_eq!(
            (node.state(), node.why().as_str(), node.can_serve()),
            (NodeState::Starting, "not checked yet", false)
        );
        node.report(CheckOutcome::Pass, now);
        assert_eq!(
            (node.state(), node.why().as_str(), node.can_serve()),
            (NodeState::Up, "check passed", true)
        );
        let term = node.serving_term().unwrap();
        node.report(refused(), later);
        assert_eq!(node.why(), "connect refused (1 of 2 failures)");
        assert_eq!((node.since(), node.serves_since(term)), (now, true));
        node.connect_failed(FailReason::Timeout(Duration::from_secs(3)), later);
        assert_eq!((node.state(), node.why().as_str()), (NodeState::Down, "timeout after 3s"));
        assert_eq!((node.since(), node.serving_term()), (later, None));
        node.report(CheckOutcome::Pass, later);
        assert_eq!(node.why(), "timeout after 3s", "one pass is not enough");
        node.report(CheckOutcome::Pass, later);
        assert!(node.can_serve() && !node.serves_since(term), "what it had before is lost");
        let to = |state| bench.metrics.pool.transitions.with_label_values(&["p", "a", state]).get();
        assert_eq!((to("up"), to("down")), (2, 1));
    }

    #[test]
    fn a_lack_of_our_own_takes_nobody_down() {
        let bench = Bench::new(&[("a", 1, 100)], None);
        let (node, now) = (bench.node("a"), crate::clock::now());
        for fault in [LocalFault::Descriptors, LocalFault::Memory, LocalFault::Ports] {
            node.connect_failed(FailReason::Local(fault), now);
            node.report(CheckOutcome::Fail(FailReason::Local(fault)), now);
        }
        assert_eq!((node.can_serve(), node.why().as_str()), (true, "not checked"));
        let counted = |result| bench.metrics.pool.checks.with_label_values(&["p", "a", result]).get();
        assert_eq!((counted("unasked"), counted("fail"), counted("connect_fail")), (3, 0, 0));
        node.connect_failed(FailReason::ConnectRefused, now);
        assert!(!node.can_serve(), "one failure of its own is enough");
    }

    #[tokio::test]
    async fn waiting_for_a_fall_ends_with_the_fall_even_when_the_node_is_back() {
        let bench = Bench::new(&[("a", 1, 100)], None);
        let (node, now) = (bench.node("a"), crate::clock::now());
        let term = node.serving_term().unwrap();
        let (waiting, late) = (node.down(), node.down_after(term));
        assert!(futures_util::FutureExt::now_or_never(node.down()).is_none());
        node.report(refused(), now);
        node.report(CheckOutcome::Pass, now);
        assert!(node.can_serve());
        waiting.await;
        late.await;
        node.down_after(term).await;
        assert!(futures_util::FutureExt::now_or_never(node.down()).is_none(), "it is up");
        let waiting = node.down();
        bench.pools.apply(&BTreeMap::new());
        waiting.await;
        node.down().await;
    }

    #[test]
    fn a_reload_keeps_what_did_not_change() {
        let bench = Bench::new(&[("a", 1, 100), ("b", 2, 100), ("c", 3, 100)], Some((2, 2)));
        let now = crate::clock::now();
        let [a, b, c] = ["a", "b", "c"].map(|name| bench.node(name));
        for node in [&a, &b, &c] {
            node.report(CheckOutcome::Pass, now);
        }
        let (open, gauge) = (a.open(), bench.metrics.pool.node_up.with_label_values(&["p", "b"]));
        assert_eq!((gauge.get(), bench.series()), (1, 3 * 6));
        // a: another weight; b: another port; c: gone.
        bench.pools.apply(&settings(&[("a", 1, 7), ("b", 9, 100)], Some((3, 1))));
        assert!(Arc::ptr_eq(&a, &bench.node("a")) && a.can_serve());
        assert_eq!((a.weight(), a.open_count()), (7, 1));
        assert!(!Arc::ptr_eq(&b, &bench.node("b")));
        assert_eq!((gauge.get(), bench.series()), (0, 2 * 6), "the new b is not up; c is forgotten");
        for gone in [&b, &c] {
            gone.report(CheckOutcome::Pass, now);
            assert!(gone.is_removed() && !gone.can_serve());
            assert_eq!((gone.state(), gone.why().as_str()), (NodeState::Down, "left the configuration"));
        }
        assert_eq!(bench.series(), 2 * 6, "a node that left writes no series");
        a.report(refused(), now);
        assert_eq!(a.state(), NodeState::Down, "the new fall counts");
        drop(open);
        assert_eq!(bench.metrics.pool.open.with_label_values(&["p", "a"]).get(), 0);
    }

    #[test]
    fn a_node_that_waits_for_its_first_check_serves_when_the_check_is_taken_away() {
        let bench = Bench::new(&[("a", 1, 100)], Some((2, 2)));
        assert!(!bench.node("a").can_serve());
        bench.pools.apply(&settings(&[("a", 1, 100)], None));
        assert!(bench.node("a").can_serve());
    }

    #[test]
    fn a_reload_that_is_not_finished_leaves_no_trace() {
        let bench = Bench::new(&[("a", 1, 100)], Some((2, 2)));
        let a = bench.node("a");
        a.report(CheckOutcome::Pass, crate::clock::now());
        let mut wanted = settings(&[("a", 9, 100), ("b", 2, 100)], None);
        let mut other = (*wanted["p"]).clone();
        other.name = "q".into();
        wanted.insert("q".into(), Arc::new(other));
        let prepared = bench.pools.prepare(&wanted);
        assert!(bench.pools.get("q").is_some(), "sites may point to it");
        assert!(Arc::ptr_eq(&a, &bench.node("a")) && a.can_serve());
        drop(prepared);
        assert!(bench.pools.get("q").is_none());
        assert!(Arc::ptr_eq(&a, &bench.node("a")) && a.can_serve());
        assert_eq!(bench.pools.get("p").unwrap().nodes.len(), 1);
        bench.pools.prepare(&wanted).finish();
        assert!(bench.pools.get("q").is_some() && a.is_removed());
        assert_eq!(bench.pools.get("p").unwrap().nodes.len(), 2);
        // What goes stays until the end.
        let prepared = bench.pools.prepare(const { &BTreeMap::new() });
        assert!(bench.pools.get("q").is_some());
        prepared.finish();
        assert!(bench.pools.all().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_the_first_check_and_not_longer_than_there_is_hope() {
        use futures_util::FutureExt;
        let bench = Bench::new(&[("a", 1, 100), ("b", 2, 100), ("idle", 3, 0)], Some((2, 1)));
        let (a, b, now) = (bench.node("a"), bench.node("b"), crate::clock::now());
        let waiting = || {
            let pools = bench.pools.clone();
            let mut waiting = Box::pin(async move { pools.wait_for_first_checks("p").await });
            assert!((&mut waiting).now_or_never().is_none());
            waiting
        };
        // One of weight 0 takes no rooms: it is no reason not to wait.
        bench.node("idle").report(CheckOutcome::Pass, now);
        let (up, late) = (waiting(), waiting());
        assert_eq!(bench.metrics.pool.waiting.get(), 2);
        late.await;
        drop(up);
        let mut up = waiting();
        a.report(refused(), now);
        assert!((&mut up).now_or_never().is_none(), "b may still come");
        b.report(CheckOutcome::Pass, now);
        assert!(up.now_or_never().is_some());
        assert!(bench.pools.wait_for_first_checks("p").now_or_never().is_some(), "it can serve");
        b.report(refused(), now);
        assert!(bench.pools.wait_for_first_checks("p").now_or_never().is_some(), "all are down");
        assert!(bench.pools.wait_for_first_checks("no").now_or_never().is_some());
        let fresh = |port| bench.pools.apply(&settings(&[("a", port, 100)], Some((2, 1))));
        fresh(8);
        let (hopeless, now) = (waiting(), crate::clock::now());
        bench.node("a").report(refused(), now);
        assert!(hopeless.now_or_never().is_some());
        fresh(9);
        let gone = waiting();
        bench.pools.apply(&BTreeMap::new());
        assert!(gone.now_or_never().is_some());
        fresh(9);
        let many: Vec<_> = (0..WAITING_MAX).map(|_| waiting()).collect();
        assert!(bench.pools.wait_for_first_checks("p").now_or_never().is_some(), "more do not wait");
        drop(many);
        assert_eq!(bench.metrics.pool.waiting.get(), 0);
    }

    #[test]
    fn the_least_open_node_serves_requests_without_a_room() {
        let bench = Bench::new(&[("a", 1, 100), ("b", 2, 100), ("c", 3, 0)], None);
        let pool = bench.pools.get("p").unwrap();
        let guards: Vec<_> = (0..10).map(|_| pool.least_open().unwrap().open()).collect();
        let open = |name| bench.node(name).open_count();
        assert_eq!((open("a"), open("b"), open("c")), (5, 5, 0), "weight 0 comes last");
        bench.node("a").report(refused(), crate::clock::now());
        assert_eq!(&*pool.least_open().unwrap().name, "b");
        bench.node("b").report(refused(), crate::clock::now());
        assert_eq!(&*pool.least_open().unwrap().name, "c");
        bench.node("c").report(refused(), crate::clock::now());
        assert!(pool.least_open().is_none());
        drop(guards);
        assert_eq!(open("b"), 0);
    }

    fn embedded(name: &str, workers: Option<u8>) -> BTreeMap<Name, Arc<PoolSettings>> {
        let settings = PoolSettings {
            name: name.into(),
            nodes: PoolNodes::Embedded { workers },
            sticky: StickySettings { linger: Duration::from_secs(60) },
        };
        BTreeMap::from([(name.into(), Arc::new(settings))])
    }

    #[test]
    fn an_embedded_pool_has_a_node_for_each_worker() {
        let bench = Bench::new(&[], None);
        let targets = |workers| {
            bench.pools.apply(&embedded("w", workers));
            bench.pools.get("w").unwrap().nodes.iter().map(|n| n.target.clone()).collect::<Vec<_>>()
        };
        let workers = |n| (0..n).map(|worker| Target::Embedded { worker }).collect::<Vec<_>>();
        assert_eq!(targets(Some(12)), workers(12), "as the settings say, until the workers are known");
        assert_eq!(&*bench.pools.get("w").unwrap().nodes[10].name, "worker-10", "by number");
        bench.pools.set_embedded_workers(3);
        assert_eq!(targets(None), workers(3));
        assert_eq!(targets(Some(12)), workers(3));
    }

    #[test]
    fn no_reload_touches_a_running_worker() {
        let bench = Bench::new(&[], None);
        bench.pools.set_embedded_workers(2);
        bench.pools.apply(&embedded("w", Some(2)));
        let nodes = bench.pools.get("w").unwrap().nodes.clone();
        nodes.iter().for_each(|node| node.set_embedded(Ok(()), crate::clock::now()));
        let down: Vec<_> = nodes.iter().map(|node| node.down()).collect();
        let mut http = settings(&[("a", 1, 100)], None);
        let as_http = http.remove("p").unwrap();
        for (what, settings) in [
            ("fewer", embedded("w", Some(1))),
            ("more", embedded("w", Some(4))),
            ("auto", embedded("w", None)),
            ("gone", BTreeMap::new()),
            ("renamed", embedded("other", Some(2))),
            ("of another kind", BTreeMap::from([("w".into(), as_http)])),
            ("back", embedded("w", Some(2))),
        ] {
            bench.pools.apply(&settings);
            let now = bench.pools.get("w").unwrap_or_else(|| panic!("{what}: the pool is gone"));
            assert_eq!(now.nodes.len(), 2, "{what}");
            for (before, after) in nodes.iter().zip(&now.nodes) {
                assert!(Arc::ptr_eq(before, after), "{what}: another object");
                assert!(after.can_serve() && !after.is_removed(), "{what}");
            }
        }
        for down in down {
            assert!(futures_util::FutureExt::now_or_never(down).is_none());
        }
    }
}
