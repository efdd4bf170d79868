//! Many threads place and hold rooms while nodes fall, return and are reloaded: no room is on two nodes at once, and
//! nothing is left over.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt;
use roomgate::clock;
use roomgate::config::settings::{CheckSettings, HttpNode, Name, PoolNodes, PoolSettings, RoomTableSettings};
use roomgate::pool::{CheckOutcome, FailReason, Pools};
use roomgate::rooms::{Hold, RoomId, RoomKey, Rooms};
use roomgate::telemetry::metrics::Metrics;

const ROOMS: usize = 40;
const ROUNDS: usize = 4_000;

#[test]
fn a_room_is_never_on_two_nodes_that_both_stand() {
    let metrics = Metrics::new();
    let pools = Pools::new(metrics.pool.clone());
    let rooms = Rooms::new(pools.clone(), &RoomTableSettings { rooms_max: 1_000 }, metrics.rooms.clone());
    pools.apply(&settings(4, 1_000));
    for node in &pools.get("p").unwrap().nodes {
        node.report(CheckOutcome::Pass, clock::now());
    }
    let held: Vec<Mutex<Vec<Hold>>> = (0..ROOMS).map(|_| Mutex::default()).collect();
    let (done, end) = (AtomicBool::new(false), clock::now() + Duration::from_secs(60));
    std::thread::scope(|scope| {
        let participants: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut random = rand::rng();
                    let mut joined = 0;
                    while joined < ROUNDS {
                        assert!(clock::now() < end, "{joined} joins of {ROUNDS}");
                        let n = random.random_range(0..ROOMS);
                        if participant(&rooms, n, &held[n]) {
                            joined += 1;
                        } else {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let mut random = rand::rng();
            while !done.load(Ordering::Relaxed) {
                trouble(&pools, &rooms, random.random_range(0..100));
                rooms.expire(clock::now());
            }
        });
        // All are joined before any fault is passed on, so that the trouble ends with them.
        let ends: Vec<_> = participants.into_iter().map(|participant| participant.join()).collect();
        done.store(true, Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.unwrap());
    });
    drop(held);
    let late = clock::now() + Duration::from_secs(10);
    rooms.expire(late);
    assert_eq!((rooms.len(), rooms.list(10)), (0, vec![]));
    assert_eq!((metrics.rooms.placed.get(), metrics.rooms.held.get()), (0, 0));
    assert_eq!(metrics.rooms.granted.get(), metrics.rooms.expired.get());
}

/// Joins a room and looks around; returns whether it got in.
fn participant(rooms: &Rooms, n: usize, held: &Mutex<Vec<Hold>>) -> bool {
    let room = RoomId { pool: "p".into(), scope: "s".into(), key: RoomKey::new(&format!("r{n}")).unwrap() };
    // Asked outside of the lock, so that the answers of several threads interleave.
    let Ok((_, hold)) = rooms.hold(&room, clock::now()) else { return false };
    let mut held = held.lock().unwrap();
    held.push(hold);
    // Read one by one: who stands at the end of the loop has stood all along, since a lost place never comes back.
    let standing: Vec<&Hold> = held.iter().filter(|hold| !hold.is_lost()).collect();
    for pair in standing.windows(2) {
        let split = !Arc::ptr_eq(pair[0].node(), pair[1].node());
        assert!(!split || pair[0].is_lost() || pair[1].is_lost(), "room {n} is on {:?}", pair.map_nodes());
    }
    held.retain(|hold| !hold.is_lost());
    if held.len() > 6 {
        held.drain(..5);
    }
    true
}

trait Nodes {
    fn map_nodes(&self) -> Vec<Name>;
}

impl Nodes for [&Hold] {
    fn map_nodes(&self) -> Vec<Name> {
        self.iter().map(|hold| Arc::clone(&hold.node().name)).collect()
    }
}

fn trouble(pools: &Pools, rooms: &Rooms, dice: u32) {
    let now = clock::now();
    let pool = pools.get("p").unwrap();
    let node = &pool.nodes[dice as usize % pool.nodes.len()];
    match dice {
        0..30 => {
            node.report(CheckOutcome::Fail(FailReason::ConnectRefused), now);
            if dice.is_multiple_of(3) {
                rooms.node_down(node, now);
            }
        }
        30..90 => node.report(CheckOutcome::Pass, now),
        _ => {
            let before = pool.nodes.clone();
            pools.apply(&settings(
                3 + u16::try_from(dice % 3).unwrap(),
                1_000 + u16::try_from(dice % 2).unwrap(),
            ));
            for node in before.iter().filter(|node| node.is_removed()) {
                rooms.node_down(node, now);
            }
        }
    }
}

/// `n0` has a port that changes: another node under the same name.
fn settings(nodes: u16, port: u16) -> BTreeMap<Name, Arc<PoolSettings>> {
    let nodes = (0..nodes)
        .map(|i| {
            let port = if i == 0 { port } else { 2_000 + i };
            (Name::from(format!("n{i}")), HttpNode::new("127.0.0.1", port))
        })
        .collect();
    let check = CheckSettings { rise: NonZeroU32::MIN, fall: NonZeroU32::MIN, ..CheckSettings::http("/") };
    let settings =
        PoolSettings::new("p", PoolNodes::Http { nodes, check: Some(check) }, Duration::from_millis(1));
    BTreeMap::from([("p".into(), Arc::new(settings))])
}
