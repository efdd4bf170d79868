//! Checks over loopback: nodes come up, go down and return, rooms follow, a reload starts and ends checks.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use roomgate::clock;
use roomgate::config::settings::{CheckSettings, HttpNode, Name, PoolNodes, PoolSettings, RoomTableSettings};
use roomgate::pool::{Checker, FailReason, Node, NodeState, Pools, WorkerProbe};
use roomgate::rooms::{RoomId, RoomKey, Rooms};
use roomgate::tasks::Tasks;
use roomgate::telemetry::metrics::Metrics;
use tokio::net::TcpListener;

const EVERY: Duration = Duration::from_millis(60);
const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_leave_a_node_that_fails_its_checks_and_do_not_return() {
    let house = House::new();
    let backends = [Backend::start().await, Backend::start().await, Backend::start().await];
    house.apply(&backends, Some(check()));
    house.until("all nodes are up", |pools| pools.nodes.iter().all(|node| node.can_serve())).await;

    let names: Vec<RoomId> = (0..300).map(room).collect();
    let places = || -> Vec<Name> {
        names.iter().map(|r| Arc::clone(&house.rooms.place(r, clock::now()).unwrap().name)).collect()
    };
    let before = places();
    let lost = house.node("s1");
    let (_, hold) =
        house.rooms.hold(&names[before.iter().position(|n| &**n == "s1").unwrap()], clock::now()).unwrap();

    backends[1].answer(503);
    let failed = clock::now();
    tokio::time::timeout(DEADLINE, hold.lost()).await.expect("the hold hears of it");
    assert!(failed.elapsed() < 2 * EVERY + Duration::from_secs(1), "{:?}", failed.elapsed());
    assert_eq!((lost.state(), lost.why().as_str()), (NodeState::Down, "status 503"));
    house
        .until("the table was told", |_| house.moved() == before.iter().filter(|n| &***n == "s1").count())
        .await;
    let during = places();
    for (before, during) in before.iter().zip(&during) {
        if &**before == "s1" {
            assert_ne!(&**during, "s1");
        } else {
            assert_eq!(before, during, "a room of another node moved");
        }
    }

    backends[1].answer(204);
    house.until("the node is back", |_| lost.can_serve()).await;
    assert_eq!(places(), during, "a room moved back");
    let fresh = (1_000..1_300).map(|i| house.rooms.place(&room(i), clock::now()).unwrap());
    assert!(fresh.into_iter().any(|node| Arc::ptr_eq(&node, &lost)), "it gets new rooms again");
    assert!(backends[1].asked().iter().all(|(agent, host)| {
        agent == "roomgate" && *host == format!("127.0.0.1:{}", backends[1].address.port())
    }));
    assert_eq!(house.metrics.rooms.held.get(), 0, "the hold was of the place that was lost");
    drop(hold);
    assert_eq!(house.metrics.rooms.held.get(), 0);
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_starts_and_ends_checks_and_a_node_that_left_loses_its_rooms() {
    let house = House::new();
    let backends = [Backend::start().await, Backend::start().await];
    house.apply(&backends, Some(check()));
    house.until("all nodes are up", |pool| pool.nodes.iter().all(|node| node.can_serve())).await;
    let (kept, gone) = (house.node("s0"), house.node("s1"));
    let id =
        (0..).map(room).find(|id| Arc::ptr_eq(&house.rooms.place(id, clock::now()).unwrap(), &gone)).unwrap();

    house.apply(&backends[..1], Some(check()));
    assert!(gone.is_removed() && !gone.can_serve());
    gone.down().await;
    assert!(Arc::ptr_eq(&kept, &house.node("s0")), "a reload keeps the node");
    house.until("the table was told", |_| house.moved() > 0).await;
    assert_eq!(&*house.rooms.place(&id, clock::now()).unwrap().name, "s0");
    let asked = backends[1].asked().len();
    let others = backends[0].asked().len();
    house.until("the other node was asked three times", |_| backends[0].asked().len() > others + 2).await;
    // One check may have been under way when the node left.
    assert!(backends[1].asked().len() <= asked + 1, "a node that left is still asked");

    // The same node with another path: asked there from now on.
    house.apply(&backends[..1], Some(CheckSettings { every: EVERY, ..CheckSettings::http("/other") }));
    house.until("the new path is asked", |_| backends[0].paths().iter().any(|p| p == "/other")).await;
    assert!(Arc::ptr_eq(&kept, &house.node("s0")) && kept.can_serve());
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_check_is_up_until_a_connect_fails_and_returns_by_itself() {
    let house = House::new();
    let backend = Backend::start().await;
    house.apply(std::slice::from_ref(&backend), None);
    let node = house.node("s0");
    assert!(node.can_serve());
    let id = room(1);
    house.rooms.place(&id, clock::now()).unwrap();
    node.connect_failed(FailReason::ConnectRefused, clock::now());
    assert_eq!((node.state(), node.why().as_str()), (NodeState::Down, "connect refused"));
    assert!(house.rooms.place(&id, clock::now()).is_err());
    house.until("the node is back", |_| node.can_serve()).await;
    assert!(house.rooms.place(&id, clock::now()).is_ok());
    assert!(backend.asked().is_empty(), "it was dialled, not asked");
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_workers_are_up_while_they_say_so() {
    struct Workers(AtomicUsize);
    impl WorkerProbe for Workers {
        fn workers(&self) -> u8 {
            2
        }
        fn health(&self, worker: u8, _: Instant) -> Option<Result<(), String>> {
            let sick = self.0.load(Ordering::Relaxed) == usize::from(worker);
            Some(if sick { Err("no heartbeat for 500ms".to_owned()) } else { Ok(()) })
        }
    }
    let workers = Arc::new(Workers(AtomicUsize::new(9)));
    let house = House::with_workers(Some(Arc::clone(&workers) as Arc<dyn WorkerProbe>));
    let settings = PoolSettings::new("p", PoolNodes::Embedded { workers: Some(3) }, Duration::from_secs(60));
    house.pools.apply(&BTreeMap::from([("p".into(), Arc::new(settings))]));
    assert!(house.rooms.place(&room(0), clock::now()).is_err(), "nobody was asked yet");
    house.until("two workers are up", |p| p.nodes[0].can_serve() && p.nodes[1].can_serve()).await;
    house.until("there is no third", |p| p.nodes[2].state() == NodeState::Down).await;
    assert_eq!(house.node("worker-2").why(), "this process has 2 workers");
    workers.0.store(1, Ordering::Relaxed);
    let stalled = clock::now();
    house.node("worker-1").down().await;
    assert!(stalled.elapsed() < Duration::from_secs(1));
    assert_eq!(house.node("worker-1").why(), "no heartbeat for 500ms");
    workers.0.store(9, Ordering::Relaxed);
    house.until("it is back", |p| p.nodes[1].can_serve()).await;
    house.end().await;
}

fn check() -> CheckSettings {
    CheckSettings { every: EVERY, ..CheckSettings::http("/about/health") }
}

fn room(n: u32) -> RoomId {
    RoomId { pool: "p".into(), scope: "s".into(), key: RoomKey::new(&format!("room-{n}")).unwrap() }
}

/// Pools, rooms and their checker, wired as the process wires them.
struct House {
    metrics: Metrics,
    pools: Pools,
    rooms: Rooms,
    tasks: Tasks,
}

impl House {
    fn new() -> Self {
        Self::with_workers(None)
    }

    fn with_workers(workers: Option<Arc<dyn WorkerProbe>>) -> Self {
        let metrics = Metrics::new();
        let pools = Pools::new(metrics.pool.clone());
        let rooms =
            Rooms::new(pools.clone(), &RoomTableSettings { rooms_max: 10_000 }, metrics.rooms.clone());
        let tasks = Tasks::new();
        let told = rooms.clone();
        let on_down = Arc::new(move |node: &Arc<Node>| {
            told.node_down(node, clock::now());
        });
        Checker::start(pools.clone(), workers, on_down, &tasks);
        Self { metrics, pools, rooms, tasks }
    }

    fn apply(&self, backends: &[Backend], check: Option<CheckSettings>) {
        let nodes = backends
            .iter()
            .enumerate()
            .map(|(i, backend)| {
                let port = backend.address.port();
                (Name::from(format!("s{i}")), HttpNode::new("127.0.0.1", port))
            })
            .collect();
        let settings = PoolSettings::new("p", PoolNodes::Http { nodes, check }, Duration::from_secs(60));
        self.pools.apply(&BTreeMap::from([("p".into(), Arc::new(settings))]));
    }

    fn node(&self, name: &str) -> Arc<Node> {
        Arc::clone(self.pools.get("p").unwrap().node(name).unwrap())
    }

    fn moved(&self) -> usize {
        let by = |reason| self.metrics.rooms.replaced.with_label_values(&[reason]).get();
        usize::try_from(by("node_down") + by("node_removed")).unwrap()
    }

    async fn until(&self, what: &str, holds: impl Fn(&roomgate::pool::Pool) -> bool) {
        let end = clock::now() + DEADLINE;
        while !holds(&self.pools.get("p").unwrap()) {
            assert!(clock::now() < end, "not within {DEADLINE:?}: {what}; {:?}", self.pools);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) {
        assert_eq!(self.tasks.drain(DEADLINE).await, 0, "tasks that did not end");
    }
}

/// An HTTP server that answers everything with one status and remembers who asked.
struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    status: AtomicU16,
    /// User-Agent, Host and path.
    asked: Mutex<Vec<(String, String, String)>>,
}

impl Backend {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { status: AtomicU16::new(200), asked: Mutex::default() });
        let answer = Arc::clone(&shared);
        Tasks::new().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = Arc::clone(&answer);
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let response = answer.answer(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                Tasks::new().spawn(async move {
                    let _ = connection.await;
                });
            }
        });
        Self { address, shared }
    }

    fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    fn asked(&self) -> Vec<(String, String)> {
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().map(|(agent, host, _)| (agent.clone(), host.clone())).collect()
    }

    fn paths(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().iter().map(|(.., path)| path.clone()).collect()
    }
}

impl Shared {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let header = |name: &str| request.headers().get(name).unwrap().to_str().unwrap().to_owned();
        let path = request.uri().path().to_owned();
        self.asked.lock().unwrap().push((header("user-agent"), header("host"), path));
        let status = StatusCode::from_u16(self.status.load(Ordering::Relaxed)).unwrap();
        let body = if status == StatusCode::NO_CONTENT { Bytes::new() } else { Bytes::from_static(b"ok") };
        Response::builder().status(status).body(Full::new(body)).unwrap()
    }
}
