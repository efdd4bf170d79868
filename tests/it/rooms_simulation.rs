//! The room table against a shadow model: seeded actions under virtual time, everything compared after each step.
//!
//! `ROOMGATE_SEED=n` replays one run; a failure prints its seed.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use roomgate::config::settings::{CheckSettings, HttpNode, Name, PoolNodes, PoolSettings, RoomTableSettings};
use roomgate::pool::placement::{Candidate, Policy, Rendezvous, RoomName};
use roomgate::pool::{CheckOutcome, FailReason, Node, Pools};
use roomgate::rooms::{Hold, PlaceError, RoomId, RoomKey, Rooms};
use roomgate::telemetry::metrics::Metrics;

const STEPS: usize = 3_000;
const ROOMS_MAX: usize = 25;
const KEYS: u32 = 90;
const LINGER: [(&str, u64); 2] = [("p0", 300), ("p1", 20)];

#[test]
fn the_table_does_what_the_model_says() {
    let seeds: Vec<u64> = match std::env::var("ROOMGATE_SEED") {
        Ok(seed) => vec![seed.parse().expect("ROOMGATE_SEED is a number")],
        // Some that are the same each time, and some that nobody has seen.
        Err(_) => (0..6).chain((0..4).map(|_| rand::random())).collect(),
    };
    let mut totals = [0; 5];
    for seed in &seeds {
        eprintln!("replay with ROOMGATE_SEED={seed}");
        let mut simulation = Simulation::new(*seed);
        for step in 0..STEPS {
            simulation.step();
            simulation.compare(step);
        }
        let happened = simulation.end();
        eprintln!("granted, moved (down, removed), unkept, refused: {happened:?}");
        totals.iter_mut().zip(happened).for_each(|(total, times)| *total += times);
    }
    // A run in which nothing happens proves nothing.
    assert!(totals.iter().all(|times| *times > 10), "{totals:?}");
}

/// What the model knows of a node's life: another number after each time it stopped serving.
type Life = u64;

#[derive(Clone, Debug)]
struct ModelNode {
    port: u16,
    weight: u32,
    up: bool,
    life: Life,
    real: Arc<Node>,
}

#[derive(Debug)]
struct ModelRoom {
    node: Name,
    /// The object it was placed on, as an identity.
    real: Arc<Node>,
    life: Life,
    /// Tells holds of this grant from holds of earlier ones.
    grant: u64,
    holds: u32,
    touched: Instant,
}

struct Simulation {
    random: StdRng,
    now: Instant,
    metrics: Metrics,
    pools: Pools,
    rooms: Rooms,
    settings: BTreeMap<Name, Arc<PoolSettings>>,
    lives: Life,
    grants: u64,
    nodes: BTreeMap<(Name, Name), ModelNode>,
    placed: BTreeMap<RoomId, ModelRoom>,
    /// A hold, its room and its grant; `None` where the table was full.
    holds: Vec<(Hold, RoomId, Option<u64>)>,
    /// Nodes that went down and of which the table has not been told.
    untold: Vec<Arc<Node>>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let metrics = Metrics::new();
        let pools = Pools::new(metrics.pool.clone());
        let table = RoomTableSettings { rooms_max: ROOMS_MAX };
        let rooms = Rooms::new(pools.clone(), &table, metrics.rooms.clone());
        let mut simulation = Self {
            random: StdRng::seed_from_u64(seed),
            now: roomgate::clock::now(),
            metrics,
            pools,
            rooms,
            settings: BTreeMap::new(),
            lives: 0,
            grants: 0,
            nodes: BTreeMap::new(),
            placed: BTreeMap::new(),
            holds: Vec::new(),
            untold: Vec::new(),
        };
        for (pool, _) in LINGER {
            for i in 0..4 {
                simulation.configure(pool, &format!("n{i}"), Some((1000 + i, 100)));
            }
        }
        simulation.reload();
        simulation
    }

    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..35 => self.place(),
            35..55 => self.hold(),
            55..73 => self.release(),
            73..78 => self.node_fails(),
            78..84 => self.node_passes(),
            84..89 => self.tell(),
            89..93 => self.reconfigure(),
            _ => self.time_passes(),
        }
    }

    fn room(&mut self) -> RoomId {
        let pool = LINGER[self.random.random_range(0..2)].0;
        // A few rooms are busy, most are not.
        let n = self.random.random_range(0..KEYS);
        let n = if self.random.random_bool(0.5) { n % 8 } else { n };
        RoomId { pool: pool.into(), scope: "site".into(), key: RoomKey::new(&format!("room{n}")).unwrap() }
    }

    /// What the table must answer, and the model's own change. `None`: the table keeps nothing.
    fn expect(&mut self, room: &RoomId) -> Result<(Name, Option<u64>), PlaceError> {
        let stands = self.placed.get(room).is_some_and(|placed| self.stands(room, placed));
        if stands {
            let placed = self.placed.get_mut(room).unwrap();
            placed.touched = self.now;
            return Ok((Arc::clone(&placed.node), Some(placed.grant)));
        }
        let chosen = self.choose(room)?;
        if !self.placed.contains_key(room) && self.placed.len() >= ROOMS_MAX {
            return Ok((chosen, None));
        }
        let grant = self.grant(room, Arc::clone(&chosen));
        Ok((chosen, Some(grant)))
    }

    fn grant(&mut self, room: &RoomId, node: Name) -> u64 {
        self.grants += 1;
        let ModelNode { life, real, .. } = &self.nodes[&(Arc::clone(&room.pool), Arc::clone(&node))];
        let (life, real) = (*life, Arc::clone(real));
        let placed = ModelRoom { node, real, life, grant: self.grants, holds: 0, touched: self.now };
        self.placed.insert(room.clone(), placed);
        self.grants
    }

    fn stands(&self, room: &RoomId, placed: &ModelRoom) -> bool {
        let node = self.nodes.get(&(Arc::clone(&room.pool), Arc::clone(&placed.node)));
        node.is_some_and(|node| node.up && node.life == placed.life)
    }

    fn choose(&self, room: &RoomId) -> Result<Name, PlaceError> {
        if !self.settings.contains_key(&room.pool) {
            return Err(PlaceError::UnknownPool);
        }
        let serving: Vec<_> =
            self.nodes.iter().filter(|((pool, _), node)| *pool == room.pool && node.up).collect();
        let mut candidates = serving.iter().map(|((_, name), node)| Candidate { name, weight: node.weight });
        let name = RoomName { pool: &room.pool, scope: &room.scope, key: room.key.as_str() };
        let index = Rendezvous::default().pick(name, &mut candidates).ok_or(PlaceError::NoNode)?;
        Ok(Arc::clone(&serving[index].0.1))
    }

    fn place(&mut self) {
        let room = self.room();
        let expected = self.expect(&room);
        let found = self.rooms.place(&room, self.now);
        assert_eq!(found.map(|node| Arc::clone(&node.name)), expected.map(|e| e.0), "{room:?}");
    }

    fn hold(&mut self) {
        let room = self.room();
        let expected = self.expect(&room);
        match (self.rooms.hold(&room, self.now), expected) {
            (Ok((node, hold)), Ok((name, grant))) => {
                assert_eq!(node.name, name, "{room:?}");
                assert!(!hold.is_lost());
                if grant.is_some() {
                    self.placed.get_mut(&room).unwrap().holds += 1;
                }
                self.holds.push((hold, room, grant));
            }
            (found, expected) => assert_eq!(found.map(|_| ()), expected.map(|_| ()), "{room:?}"),
        }
    }

    fn release(&mut self) {
        if self.holds.is_empty() {
            return;
        }
        let (hold, room, grant) = self.holds.swap_remove(self.random.random_range(0..self.holds.len()));
        self.model_release(&room, grant);
        hold.release(self.now);
    }

    fn model_release(&mut self, room: &RoomId, grant: Option<u64>) {
        if let Some(placed) = self.placed.get_mut(room).filter(|placed| Some(placed.grant) == grant) {
            placed.holds -= 1;
            placed.touched = self.now;
        }
    }

    fn any_node(&mut self) -> Option<(Name, Name)> {
        let index = self.random.random_range(0..self.nodes.len().max(1));
        self.nodes.keys().nth(index).cloned()
    }

    fn node_fails(&mut self) {
        let Some(name) = self.any_node() else { return };
        self.lives += 1;
        let lives = self.lives;
        let node = self.nodes.get_mut(&name).unwrap();
        node.real.report(CheckOutcome::Fail(FailReason::ConnectRefused), self.now);
        if node.up {
            (node.up, node.life) = (false, lives);
            self.untold.push(Arc::clone(&node.real));
        }
    }

    fn node_passes(&mut self) {
        let Some(name) = self.any_node() else { return };
        let node = self.nodes.get_mut(&name).unwrap();
        node.real.report(CheckOutcome::Pass, self.now);
        node.up = true;
    }

    /// Tells the table of a node that went down, perhaps long ago: it may be up again, and have rooms again.
    fn tell(&mut self) {
        if self.untold.is_empty() {
            return;
        }
        let node = self.untold.swap_remove(self.random.random_range(0..self.untold.len()));
        let fallen: Vec<RoomId> = self
            .placed
            .iter()
            .filter(|(room, placed)| Arc::ptr_eq(&placed.real, &node) && !self.stands(room, placed))
            .map(|(room, _)| room.clone())
            .collect();
        let mut moved = 0;
        for room in fallen {
            if let Ok(chosen) = self.choose(&room) {
                self.grant(&room, chosen);
                moved += 1;
            }
        }
        assert_eq!(self.rooms.node_down(&node, self.now), moved, "rooms of {node:?}");
    }

    /// Adds, changes or takes away a node or a whole pool.
    fn reconfigure(&mut self) {
        let pool = LINGER[self.random.random_range(0..2)].0;
        let node = format!("n{}", self.random.random_range(0..6));
        match self.random.random_range(0..10) {
            0 => {
                self.settings.remove(pool);
            }
            1..4 => self.configure(pool, &node, None),
            _ => {
                let port = 1000 + self.random.random_range(0..3);
                let weight = [0, 50, 100, 300][self.random.random_range(0..4)];
                self.configure(pool, &node, Some((port, weight)));
            }
        }
        self.reload();
    }

    fn configure(&mut self, pool: &str, node: &str, what: Option<(u16, u32)>) {
        let mut nodes = match self.settings.get(pool).map(|settings| &settings.nodes) {
            Some(PoolNodes::Http { nodes, .. }) => nodes.clone(),
            Some(PoolNodes::Tcp { .. } | PoolNodes::Embedded { .. }) | None => BTreeMap::new(),
        };
        match what {
            Some((port, weight)) => {
                nodes.insert(node.into(), HttpNode { weight, ..HttpNode::new("127.0.0.1", port) });
            }
            None => {
                nodes.remove(node);
            }
        }
        let check =
            CheckSettings { rise: NonZeroU32::MIN, fall: NonZeroU32::MIN, ..CheckSettings::http("/") };
        let settings =
            PoolSettings::new(pool, PoolNodes::Http { nodes, check: Some(check) }, linger_of(pool));
        self.settings.insert(pool.into(), Arc::new(settings));
    }

    fn reload(&mut self) {
        self.pools.apply(&self.settings);
        let mut old = std::mem::take(&mut self.nodes);
        for pool in self.pools.all() {
            let PoolNodes::Http { nodes, .. } = &pool.settings.nodes else { continue };
            assert_eq!(pool.nodes.len(), nodes.len());
            for (name, http) in nodes {
                let real = Arc::clone(pool.node(name).unwrap());
                assert_eq!(real.weight(), http.weight);
                let key = (Arc::clone(&pool.name), Arc::clone(name));
                let node = match old.remove(&key) {
                    // The same name and address: the same node, with its health.
                    Some(known) if known.port == http.services["web"].port => {
                        assert!(Arc::ptr_eq(&known.real, &real), "{key:?} is another object");
                        ModelNode { weight: http.weight, ..known }
                    }
                    gone => {
                        if let Some(gone) = gone {
                            assert!(!Arc::ptr_eq(&gone.real, &real), "{key:?} moved and is the same object");
                            self.bury(gone);
                        }
                        self.lives += 1;
                        ModelNode {
                            port: http.services["web"].port,
                            weight: http.weight,
                            up: false,
                            life: self.lives,
                            real,
                        }
                    }
                };
                self.nodes.insert(key, node);
            }
        }
        for gone in old.into_values() {
            self.bury(gone);
        }
    }

    fn bury(&mut self, gone: ModelNode) {
        assert!(gone.real.is_removed() && !gone.real.can_serve());
        self.untold.push(gone.real);
    }

    fn time_passes(&mut self) {
        let millis = match self.random.random_range(0..10) {
            0 => self.random.random_range(0..400_000),
            1..4 => self.random.random_range(0..30_000),
            _ => self.random.random_range(0..2_000),
        };
        self.now += Duration::from_millis(millis);
        self.expire();
    }

    fn expire(&mut self) {
        let before = self.placed.len();
        let now = self.now;
        self.placed.retain(|room, placed| placed.holds > 0 || placed.touched + linger_of(&room.pool) > now);
        assert_eq!(self.rooms.expire(now), before - self.placed.len(), "rooms that ended");
    }

    fn compare(&mut self, step: usize) {
        let views = self.rooms.list(usize::MAX);
        let found: Vec<_> =
            views.iter().map(|v| (&*v.pool, v.key.as_str(), &*v.node, v.holds, v.touched)).collect();
        let expected: Vec<_> = self
            .placed
            .iter()
            .map(|(room, p)| (&*room.pool, room.key.as_str(), &*p.node, p.holds, p.touched))
            .collect();
        assert_eq!(found, expected, "step {step}");
        assert!(self.rooms.len() <= ROOMS_MAX);
        assert_eq!(self.rooms.len(), self.placed.len());
        let held = self.placed.values().filter(|p| p.holds > 0).count();
        assert_eq!(self.metrics.rooms.placed.get(), i64::try_from(self.placed.len()).unwrap());
        assert_eq!(self.metrics.rooms.held.get(), i64::try_from(held).unwrap());
        for ((pool, name), node) in &self.nodes {
            assert_eq!(node.real.can_serve(), node.up, "{pool}/{name} at step {step}");
        }
        for (hold, room, grant) in &self.holds {
            if let (Some(grant), Some(placed)) = (grant, self.placed.get(room)) {
                let same = placed.grant == *grant && self.stands(room, placed);
                assert_eq!(hold.is_lost(), !same, "hold of {room:?} at step {step}");
            }
        }
    }

    /// Nothing leaks: when all holds are gone and time has passed, the table is empty.
    /// Returns how often each kind of thing happened.
    fn end(mut self) -> [u64; 5] {
        for (hold, ..) in self.holds.drain(..) {
            hold.release(self.now);
        }
        let late = self.now + Duration::from_secs(100_000);
        self.rooms.expire(late);
        assert_eq!(self.rooms.list(10), vec![]);
        assert_eq!(
            (self.rooms.len(), self.metrics.rooms.placed.get(), self.metrics.rooms.held.get()),
            (0, 0, 0)
        );
        let rooms = &self.metrics.rooms;
        assert_eq!(rooms.granted.get(), rooms.expired.get());
        let replaced = |reason| rooms.replaced.with_label_values(&[reason]).get();
        [
            rooms.granted.get(),
            replaced("node_down"),
            replaced("node_removed"),
            rooms.table_full.get(),
            rooms.no_node.get(),
        ]
    }
}

fn linger_of(pool: &str) -> Duration {
    Duration::from_secs(LINGER.iter().find(|(name, _)| *name == pool).unwrap().1)
}
