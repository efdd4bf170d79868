//! Runs the checks: one task for each node, started and ended as the pools change.
//!
//! A second small task for each node waits for it to go down, whoever found out (a check, a failed connect, a reload),
//! and says so to whoever has rooms there.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::health::NodeState;
use super::node::{Node, Target};
use super::probe;
use super::resolve::Resolver;
use super::{Pool, Pools, WorkerProbe};
use crate::clock;
use crate::config::settings::{CheckSettings, ConnectCheck, Name, PoolNodes, WEB};
use crate::tasks::Tasks;

/// What is called each time a node goes down or leaves its pool.
pub type OnDown = Arc<dyn Fn(&Arc<Node>) + Send + Sync>;

/// Checks all nodes of all pools.
pub struct Checker {
    pools: Pools,
    workers: Option<Arc<dyn WorkerProbe>>,
    on_down: OnDown,
    tasks: Tasks,
    watched: BTreeMap<(Name, Name), Watched>,
    /// The nodes that were there at start have been seen.
    started: bool,
    /// Each of their checks keeps a copy until it has its first outcome.
    first: First,
}

/// Dropped with the first outcome.
type First = Option<mpsc::Sender<()>>;

/// The first checks of the nodes that were there at start.
#[derive(Debug)]
pub struct FirstChecks(mpsc::Receiver<()>);

impl FirstChecks {
    /// Waits until each HTTP or TCP node that is checked has its first outcome, good or bad, but not longer than `at_most`.
    /// Returns whether all have.
    ///
    /// Who asks for places before that gets them on the nodes that were asked first: a room that lived on another one
    /// before a restart would move.
    pub async fn ended(mut self, at_most: Duration) -> bool {
        tokio::time::timeout(at_most, self.0.recv()).await.is_ok()
    }
}

impl Checker {
    /// Starts checking on the current runtime, until the process stops. Without `workers`, embedded nodes stay as
    /// they are.
    pub fn start(
        pools: Pools,
        workers: Option<Arc<dyn WorkerProbe>>,
        on_down: OnDown,
        tasks: &Tasks,
    ) -> FirstChecks {
        let (first, ended) = mpsc::channel(1);
        let checker = Self {
            pools,
            workers,
            on_down,
            tasks: tasks.clone(),
            watched: BTreeMap::new(),
            started: false,
            first: Some(first),
        };
        tasks.spawn(checker.run());
        FirstChecks(ended)
    }

    async fn run(mut self) {
        let mut changes = self.pools.subscribe();
        let stopping = self.tasks.stopping().clone();
        loop {
            changes.mark_unchanged();
            self.reconcile();
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { break },
                () = stopping.cancelled() => break,
            }
        }
        for watched in self.watched.values() {
            watched.end.cancel();
        }
    }

    /// Starts what is missing and ends what nobody wants any more.
    fn reconcile(&mut self) {
        let mut wanted = BTreeMap::new();
        for pool in self.pools.all() {
            for node in &pool.nodes {
                let plan = Plan::of(&pool, node);
                wanted.insert((Arc::clone(&pool.name), Arc::clone(&node.name)), (Arc::clone(node), plan));
            }
        }
        let mut had = std::mem::take(&mut self.watched);
        for (name, (node, plan)) in wanted {
            let before = had.remove(&name);
            let known = before.as_ref().is_some_and(|b| Arc::ptr_eq(&b.node, &node));
            let watched = match before {
                Some(before) if known && before.plan == plan => before,
                before => {
                    if let Some(before) = before {
                        before.end.cancel();
                    }
                    if !known {
                        self.tasks.spawn(tell_when_down(
                            Arc::clone(&node),
                            Arc::clone(&self.on_down),
                            self.tasks.stopping().clone(),
                        ));
                    }
                    // What a reload brings may be all that its pool has: requests wait for its first check.
                    self.check(node, plan, self.started && !known)
                }
            };
            self.watched.insert(name, watched);
        }
        for gone in had.values() {
            gone.end.cancel();
        }
        self.started = true;
        self.first = None;
    }

    fn check(&self, node: Arc<Node>, plan: Plan, at_once: bool) -> Watched {
        let end = self.tasks.stopping().child_token();
        let watched = Watched { node: Arc::clone(&node), plan: plan.clone(), end: end.clone() };
        let first = self.first.clone();
        let resolver = Arc::clone(self.pools.resolver());
        let work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = match plan {
            Plan::Http(check, announced) => {
                Box::pin(check_http(resolver, node, check, announced, at_once, first))
            }
            Plan::Connect(check, announced) => {
                Box::pin(check_tcp(resolver, node, check, announced, at_once, first))
            }
            Plan::Reconnect => Box::pin(reconnect(resolver, node)),
            Plan::Worker(worker) => match &self.workers {
                Some(workers) => Box::pin(check_worker(node, worker, Arc::clone(workers))),
                None => return watched,
            },
        };
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = end.cancelled() => {}
            }
        });
        watched
    }
}

struct Watched {
    node: Arc<Node>,
    plan: Plan,
    end: CancellationToken,
}

/// How one node is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plan {
    /// By HTTP, always.
    Http(CheckSettings, bool),
    /// By TCP, always. The second is whether a PROXY header comes first, here and above.
    Connect(ConnectCheck, bool),
    /// By TCP, while it is down: it has no check, but a failed connect took it down.
    Reconnect,
    /// By asking this process's worker.
    Worker(u8),
}

impl Plan {
    fn of(pool: &Pool, node: &Node) -> Self {
        let announced = pool.settings.proxy_protocol;
        match (&node.target, pool.check()) {
            (Target::Http { .. }, Some(check)) => Plan::Http(check.clone(), announced),
            (Target::Http { .. }, None) => Plan::Reconnect,
            (Target::Tcp { .. }, _) => match &pool.settings.nodes {
                PoolNodes::Tcp { check: Some(check), .. } => Plan::Connect(check.clone(), announced),
                PoolNodes::Tcp { check: None, .. } | PoolNodes::Http { .. } | PoolNodes::Embedded { .. } => {
                    Plan::Reconnect
                }
            },
            (Target::Embedded { worker }, _) => Plan::Worker(*worker),
        }
    }
}

async fn check_http(
    resolver: Arc<Resolver>,
    node: Arc<Node>,
    check: CheckSettings,
    announced: bool,
    at_once: bool,
    mut first: First,
) {
    first_check(check.every, at_once).await;
    loop {
        let started = clock::now();
        let outcome = probe::check(&resolver, &node, &check, announced).await;
        let ended = clock::now();
        node.report(outcome, ended);
        drop(first.take());
        tokio::time::sleep(jittered(check.every).saturating_sub(ended.duration_since(started))).await;
    }
}

async fn check_tcp(
    resolver: Arc<Resolver>,
    node: Arc<Node>,
    check: ConnectCheck,
    announced: bool,
    at_once: bool,
    mut first: First,
) {
    let Target::Tcp { host, port } = &node.target else { return };
    first_check(check.every, at_once).await;
    loop {
        let started = clock::now();
        let outcome = probe::tcp::check(&resolver, host, *port, announced, check.timeout).await;
        let ended = clock::now();
        node.report(outcome, ended);
        drop(first.take());
        tokio::time::sleep(jittered(check.every).saturating_sub(ended.duration_since(started))).await;
    }
}

/// Waits for a node's first check. A new node waits for its first pass, so it comes soon; spread, so that a start with
/// a thousand nodes does not ask all of them at once.
async fn first_check(every: Duration, at_once: bool) {
    if !at_once {
        tokio::time::sleep(every.min(FIRST_CHECK_MAX).mul_f64(rand::random_range(0.0..JITTER))).await;
    }
}

async fn reconnect(resolver: Arc<Resolver>, node: Arc<Node>) {
    let (host, port) = match &node.target {
        Target::Http { host, services } => {
            // Whichever it has; requests ask for the one they need.
            let first = services.get(WEB).or_else(|| services.values().next());
            let Some(port) = first.map(|service| service.port) else { return };
            (host, port)
        }
        Target::Tcp { host, port } => (host, *port),
        Target::Embedded { .. } => return,
    };
    loop {
        node.down().await;
        if node.is_removed() {
            return;
        }
        while node.state() == NodeState::Down {
            tokio::time::sleep(jittered(RECONNECT_EVERY)).await;
            let outcome = probe::tcp::check(&resolver, host, port, false, RECONNECT_TIMEOUT).await;
            node.report(outcome, clock::now());
        }
    }
}

async fn check_worker(node: Arc<Node>, worker: u8, workers: Arc<dyn WorkerProbe>) {
    let mut ticks = tokio::time::interval(WORKER_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = clock::now();
        let health = if worker < workers.workers() {
            workers.health(worker, now)
        } else {
            Some(Err(format!("this process has {} workers", workers.workers())))
        };
        if let Some(health) = health {
            node.set_embedded(health, now);
        }
    }
}

/// Calls `on_down` for each time the node goes down; ends when it is removed.
async fn tell_when_down(node: Arc<Node>, on_down: OnDown, stopping: CancellationToken) {
    let mut changes = node.subscribe();
    let mut term = 0;
    loop {
        let status = *changes.borrow_and_update();
        if status.term != term {
            term = status.term;
            on_down(&node);
        }
        if status.removed {
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = stopping.cancelled() => return,
        }
    }
}

fn jittered(every: Duration) -> Duration {
    every.mul_f64(rand::random_range(1.0 - JITTER..1.0 + JITTER))
}

/// A node whose checks are far apart still gets its first one soon, within a tenth of this: it serves nobody before, and
/// at start nobody is served before.
const FIRST_CHECK_MAX: Duration = Duration::from_secs(2);
/// A tenth to either side, so that edges and nodes do not march in step.
const JITTER: f64 = 0.1;

/// How often a node without a check is dialled while it is down.
const RECONNECT_EVERY: Duration = Duration::from_secs(2);
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A worker that stalls must be seen within a second.
const WORKER_EVERY: Duration = Duration::from_millis(100);
