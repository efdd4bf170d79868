//! Whether an embedded worker can host rooms: its heartbeat and its self-test, put together for the pool's checks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::media::Workers;
use crate::pool::WorkerProbe;
use crate::sfu::selftest::Selftest;
use crate::sfu::{Command, SfuReport};

/// A worker is healthy when its loop turns and a synthetic participant got its packet back.
pub(super) struct Probe {
    workers: Arc<Workers<Command, SfuReport>>,
    selftest: Selftest,
    /// The last heartbeat of each worker that was late when it was last looked at.
    late: Box<[Mutex<Option<Instant>>]>,
}

impl Probe {
    pub(super) fn new(workers: Arc<Workers<Command, SfuReport>>, selftest: Selftest) -> Self {
        let late = workers.handles().iter().map(|_| Mutex::default()).collect();
        Self { workers, selftest, late }
    }

    /// Returns whether a worker's loop stands still: its heartbeat was late twice in a row, and is the same one.
    ///
    /// A machine that was paused as a whole wakes with all heartbeats late; its workers beat again before the second
    /// look, and nobody's room moves.
    fn stalls(&self, worker: u8, beat: Option<Instant>, age: Duration) -> bool {
        let Some(late) = self.late.get(usize::from(worker)) else { return false };
        let mut late = late.lock().unwrap_or_else(PoisonError::into_inner);
        let beat = beat.filter(|_| age > STALL);
        let before = std::mem::replace(&mut *late, beat);
        matches!((before, beat), (Some(before), Some(beat)) if beat.saturating_duration_since(before) < SAME_BEAT)
    }
}

impl WorkerProbe for Probe {
    fn workers(&self) -> u8 {
        self.workers.count()
    }

    fn health(&self, worker: u8, now: Instant) -> Option<Result<(), String>> {
        let Some(handle) = self.workers.handle(worker) else {
            return Some(Err(format!("there is no worker {worker}")));
        };
        if !handle.is_running() {
            return Some(Err("its thread has ended".to_owned()));
        }
        let age = handle.heartbeat_age(now);
        if self.stalls(worker, now.checked_sub(age), age) {
            return Some(Err(format!("no heartbeat for {} ms", age.as_millis())));
        }
        let last = self.selftest.last(worker)?;
        last.at.map(|_| last.outcome.clone())
    }
}

/// A worker that lives begins a turn every 100 ms. Looked at every 100 ms and twice, a stall shows within a second, and
/// a machine that is merely busy has room for some late turns.
const STALL: Duration = Duration::from_millis(650);
/// Heartbeats are in whole milliseconds; two that differ by less are one.
const SAME_BEAT: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::path::Path;
    use std::sync::mpsc;

    use super::super::embedded::Embedded;
    use super::*;
    use crate::clock;
    use crate::pool::{Checker, Node, NodeState, Pools};
    use crate::sfu::selftest::SelftestConfig;
    use crate::tasks::Tasks;
    use crate::telemetry::metrics::Metrics;

    const FILE: &str = r#"
version: 1
listeners: { http: { bind: ["127.0.0.1:0"] } }
media: { bind: ["127.0.0.1:0"], advertise: ["127.0.0.1"], selftest: { every: 1s } }
sites: { "*": { app: conference, pool: workers } }
pools: { workers: { embedded: 2 } }
"#;

    struct Rig {
        embedded: Embedded,
        pools: Pools,
        tasks: Tasks,
        downs: mpsc::Receiver<Arc<Node>>,
    }

    /// Workers, their checks and their nodes; `target` replaces where the self-test sends to.
    fn rig(target: Option<std::net::SocketAddr>) -> Rig {
        let settings = crate::config::load_str("f.yaml", FILE, Path::new("."), None).unwrap().settings;
        let (metrics, tasks) = (Metrics::new(), Tasks::new());
        let embedded = Embedded::start(&settings, &tasks, &metrics).unwrap().unwrap();
        let pools = Pools::new(metrics.pool.clone());
        pools.set_embedded_workers(embedded.workers.count());
        pools.apply(&settings.pools);
        let probe: Arc<dyn WorkerProbe> = match target {
            None => Arc::new(embedded.probe()),
            Some(target) => {
                let every = Duration::from_millis(50);
                let config = SelftestConfig { target, every, deadline: Duration::from_millis(300) };
                let selftest = Selftest::start(&embedded.sfu, config);
                Arc::new(Probe::new(Arc::clone(&embedded.workers), selftest))
            }
        };
        let (said, downs) = mpsc::channel();
        let on_down = Arc::new(move |node: &Arc<Node>| {
            let _ = said.send(Arc::clone(node));
        });
        Checker::start(pools.clone(), Some(probe), on_down, &tasks);
        Rig { embedded, pools, tasks, downs }
    }

    impl Rig {
        fn node(&self, worker: usize) -> Arc<Node> {
            Arc::clone(&self.pools.get("workers").unwrap().nodes[worker])
        }

        async fn state(&self, worker: usize, wanted: NodeState, limit: Duration) -> Duration {
            let begun = clock::now();
            while self.node(worker).state() != wanted {
                let waited = clock::now().duration_since(begun);
                assert!(waited < limit, "worker {worker} is not {wanted:?}: {}", self.node(worker).why());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            clock::now().duration_since(begun)
        }
    }

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stalled_worker_is_down_within_a_second_and_the_other_is_not() {
        let rig = rig(None);
        for worker in 0..2 {
            rig.state(worker, NodeState::Up, SOON).await;
        }
        let (release, held) = mpsc::channel::<()>();
        let stall = Box::new(move || {
            let _ = held.recv_timeout(SOON);
        });
        rig.embedded.workers.handle(1).unwrap().run_on(stall).unwrap();
        // A second, and threefold slack for a busy machine.
        let took = rig.state(1, NodeState::Down, Duration::from_secs(3)).await;
        assert!(rig.node(1).why().contains("no heartbeat for"), "{}", rig.node(1).why());
        assert!(took >= Duration::from_millis(500), "a late heartbeat is no stall: {took:?}");
        assert_eq!(rig.node(0).state(), NodeState::Up, "{}", rig.node(0).why());
        assert_eq!(rig.downs.recv_timeout(SOON).unwrap().name, rig.node(1).name);
        release.send(()).unwrap();
        rig.state(1, NodeState::Up, SOON).await;
        rig.tasks.drain(SOON).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_self_test_whose_packets_are_dropped_takes_the_node_down() {
        // Takes datagrams and never answers.
        let hole = UdpSocket::bind("127.0.0.1:0").unwrap();
        let rig = rig(Some(hole.local_addr().unwrap()));
        rig.state(0, NodeState::Down, SOON).await;
        assert!(rig.node(0).why().contains("no STUN answer"), "{}", rig.node(0).why());
        rig.tasks.drain(SOON).await;
    }

    #[test]
    fn a_machine_that_was_paused_is_not_a_stalled_worker() {
        let tasks = Tasks::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let settings = crate::config::load_str("f.yaml", FILE, Path::new("."), None).unwrap().settings;
        let embedded = Embedded::start(&settings, &tasks, &Metrics::new()).unwrap().unwrap();
        let probe = Probe::new(Arc::clone(&embedded.workers), embedded.selftest.clone());
        let beat = clock::now();
        let late = |ms| Duration::from_millis(ms);
        // Late once, then a new heartbeat: a pause.
        assert!(!probe.stalls(0, Some(beat), late(5000)));
        assert!(!probe.stalls(0, Some(beat + late(5090)), late(10)));
        // Late with one heartbeat, then with another: a busy machine.
        assert!(!probe.stalls(0, Some(beat), late(700)));
        assert!(!probe.stalls(0, Some(beat + late(100)), late(700)));
        // Late twice with the same heartbeat: a stall.
        assert!(probe.stalls(0, Some(beat + late(100)), late(800)));
    }
}
