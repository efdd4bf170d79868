//! Which tunnels are open, and how they are closed from outside: by node, room, client or number.
//!
//! Each thread of the edge has its own table of the tunnels it runs; a lock is taken when one opens, ends or is told to
//! close, never while bytes move. A tunnel learns of its order through one word that only it reads. Many orders are
//! spread over a time with some jitter, so that clients that come back do not come all at once. About 130 bytes each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use ipnet::IpNet;

use crate::config::settings::{Name, SiteSettings};
use crate::pool::Node;
use crate::rooms::{RoomId, RoomKey};
use crate::wire::ws_frame::CloseCode;

/// Longest wait for a client's own close frame.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);
/// Shortest wait for it when the process stops: the last tunnels of a wave have less time than the first.
const FAREWELL_MIN: Duration = Duration::from_millis(100);
/// No order yet.
const NONE: u64 = u64::MAX;
/// In the place of a close code: the process stops.
const STOPPING: u16 = 0;

/// Which tunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelFilter {
    /// Those to one node.
    Node {
        /// Its pool.
        pool: Name,
        /// Its name in the pool.
        name: Name,
    },
    /// Those of one room.
    Room(RoomId),
    /// Those of clients in a network.
    Client(IpNet),
    /// One, by its number.
    Id(u64),
}

/// What is shown of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelInfo {
    /// Its number: the first tunnel of the process is 1.
    pub id: u64,
    /// Pool of its node.
    pub pool: Name,
    /// Its node.
    pub node: Name,
    /// Its room; `None` where the site's rules find none.
    pub room: Option<RoomId>,
    /// The client's address.
    pub client: IpAddr,
    /// Since its handshake, in whole seconds.
    pub age: Duration,
}

/// The tables of all threads.
#[derive(Debug)]
pub(super) struct Tunnels {
    shards: Vec<Arc<TunnelShard>>,
}

impl Tunnels {
    /// Makes a table for each thread. Times are counted from `epoch`.
    pub(super) fn new(shards: usize, epoch: Instant) -> Self {
        let ids = Arc::new(AtomicU64::new(1));
        let shard = || TunnelShard { ids: ids.clone(), epoch, open: Mutex::default() };
        Self { shards: (0..shards.max(1)).map(|_| Arc::new(shard())).collect() }
    }

    /// Returns the table of a thread.
    pub(super) fn shard(&self, index: usize) -> Arc<TunnelShard> {
        // There is at least one.
        self.shards[index % self.shards.len()].clone()
    }

    /// Tells the tunnels that the filter fits to close with `code`, spread over `over` from `now` on; returns how many.
    pub(super) fn close(
        &self,
        filter: &TunnelFilter,
        code: CloseCode,
        over: Duration,
        now: Instant,
    ) -> usize {
        let mut entries: Vec<(u64, Arc<Entry>)> = Vec::new();
        for shard in &self.shards {
            let table = shard.lock();
            entries.extend(
                table
                    .entries
                    .iter()
                    .filter(|(id, entry)| entry.fits(**id, filter))
                    .map(|(id, e)| (*id, e.clone())),
            );
        }
        // By number: the threads take turns.
        entries.sort_unstable_by_key(|(id, _)| *id);
        let Some(shard) = self.shards.first() else { return 0 };
        let start = shard.millis(now);
        let entries = entries.into_iter().map(|(_, entry)| entry);
        tell(entries.collect(), start, over, code.number())
    }

    /// Returns how many tunnels are open, and the oldest of them, at most `limit`.
    pub(super) fn list(&self, limit: usize, now: Instant) -> (usize, Vec<TunnelInfo>) {
        let (mut total, mut infos) = (0, Vec::new());
        for shard in &self.shards {
            let seconds = shard.millis(now) / 1000;
            let table = shard.lock();
            total += table.entries.len();
            infos.extend(table.entries.iter().take(limit).map(|(id, entry)| entry.info(*id, seconds)));
        }
        infos.sort_unstable_by_key(|info| info.id);
        infos.truncate(limit);
        (total, infos)
    }
}

/// The table of one thread.
#[derive(Debug)]
pub(super) struct TunnelShard {
    ids: Arc<AtomicU64>,
    epoch: Instant,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    entries: BTreeMap<u64, Arc<Entry>>,
    /// Set once the process stops.
    stop: Option<Stop>,
}

/// The last wave.
#[derive(Clone, Copy, Debug)]
struct Stop {
    /// Milliseconds after the epoch.
    start: u64,
    over: Duration,
    farewell: Duration,
}

impl TunnelShard {
    /// Writes a new tunnel down. It is struck out when the ticket is dropped.
    pub(super) fn enter(
        self: &Arc<Self>,
        node: Arc<Node>,
        site: Arc<SiteSettings>,
        room: Option<RoomKey>,
        client: IpAddr,
        now: Instant,
    ) -> Ticket {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            order: AtomicU64::new(NONE),
            waker: AtomicWaker::new(),
            node,
            site,
            room,
            client,
            opened: u32::try_from(self.millis(now) / 1000).unwrap_or(u32::MAX),
        });
        let mut table = self.lock();
        if let Some(stop) = table.stop {
            // It came too late for its place in the wave: any moment of what is left will do.
            let left = (stop.start + millis_of(stop.over)).saturating_sub(self.millis(now));
            tell(vec![entry.clone()], self.millis(now), Duration::from_millis(left), STOPPING);
        }
        table.entries.insert(id, entry.clone());
        drop(table);
        Ticket { id, entry, shard: self.clone() }
    }

    /// Tells all tunnels of this thread, and those that still come, to close because the process stops: within `over`,
    /// which leaves the rest of `deadline` to the clients' answers.
    pub(super) fn stop(&self, over: Duration, deadline: Duration, now: Instant) {
        let start = self.millis(now);
        let mut table = self.lock();
        let farewell = (deadline.saturating_sub(over) / 2).clamp(FAREWELL_MIN, FAREWELL);
        table.stop = Some(Stop { start, over, farewell });
        let entries: Vec<Arc<Entry>> = table.entries.values().cloned().collect();
        drop(table);
        tell(entries, start, over, STOPPING);
    }

    fn millis(&self, at: Instant) -> u64 {
        millis_of(at.saturating_duration_since(self.epoch))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing in here panics half way; a poisoned table is still whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open tunnel, as its thread's table knows it.
#[derive(Debug)]
struct Entry {
    /// When to close, in milliseconds after the epoch, and with which code in the lowest 16 bits; or [`NONE`].
    order: AtomicU64,
    waker: AtomicWaker,
    node: Arc<Node>,
    site: Arc<SiteSettings>,
    room: Option<RoomKey>,
    client: IpAddr,
    /// Seconds after the epoch.
    opened: u32,
}

impl Entry {
    /// The earliest order counts.
    fn tell(&self, at: u64, code: u16) {
        let order = at.min(NONE >> 17) << 16 | u64::from(code);
        if self.order.fetch_min(order, Ordering::AcqRel) > order {
            self.waker.wake();
        }
    }

    fn fits(&self, id: u64, filter: &TunnelFilter) -> bool {
        match filter {
            TunnelFilter::Node { pool, name } => self.node.pool == *pool && self.node.name == *name,
            TunnelFilter::Room(room) => {
                self.room.as_ref() == Some(&room.key)
                    && self.site.name == room.scope
                    && self.node.pool == room.pool
            }
            TunnelFilter::Client(network) => network.contains(&self.client),
            TunnelFilter::Id(wanted) => id == *wanted,
        }
    }

    fn info(&self, id: u64, seconds: u64) -> TunnelInfo {
        TunnelInfo {
            id,
            pool: self.node.pool.clone(),
            node: self.node.name.clone(),
            room: self.room.clone().map(|key| RoomId {
                pool: self.node.pool.clone(),
                scope: self.site.name.clone(),
                key,
            }),
            client: self.client,
            age: Duration::from_secs(seconds.saturating_sub(u64::from(self.opened))),
        }
    }
}

/// Why a tunnel is told to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The process stops.
    Stop,
    /// Somebody wants it closed.
    Close(CloseCode),
}

/// A tunnel's place in its thread's table.
#[derive(Debug)]
pub(super) struct Ticket {
    id: u64,
    entry: Arc<Entry>,
    shard: Arc<TunnelShard>,
}

impl Ticket {
    /// The tunnel's number.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Tells the tunnel to close at once.
    pub(super) fn close(&self, code: CloseCode, now: Instant) {
        tell(vec![self.entry.clone()], self.shard.millis(now), Duration::ZERO, code.number());
    }

    /// Returns when the tunnel is to close; `None` as long as nobody wants it closed.
    pub(super) fn order(&self) -> Option<(Instant, Order)> {
        let order = self.entry.order.load(Ordering::Acquire);
        if order == NONE {
            return None;
        }
        let why = u16::try_from(order & 0xffff).ok().and_then(CloseCode::from_number);
        Some((self.shard.epoch + Duration::from_millis(order >> 16), why.map_or(Order::Stop, Order::Close)))
    }

    /// Ready when there is an order for another time than `known`.
    pub(super) fn poll_order(&self, cx: &mut Context<'_>, known: Option<Instant>) -> Poll<()> {
        self.entry.waker.register(cx.waker());
        let at = self.order().map(|(at, _)| at);
        if at == known { Poll::Pending } else { Poll::Ready(()) }
    }

    /// How long a client may take for its own close frame.
    pub(super) fn farewell(&self) -> Duration {
        self.shard.lock().stop.map_or(FAREWELL, |stop| stop.farewell)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shard.lock().entries.remove(&self.id);
    }
}

/// Gives each of the tunnels its moment.
fn tell(entries: Vec<Arc<Entry>>, start: u64, over: Duration, code: u16) -> usize {
    let count = entries.len();
    for (index, entry) in entries.into_iter().enumerate() {
        entry.tell(start + millis_of(moment(index, count, over, rand::random())), code);
    }
    count
}

/// The moment of one of `count` within `over`: each has an equal part of the time, and a random point in it.
fn moment(index: usize, count: usize, over: Duration, chance: f64) -> Duration {
    let part = over.as_secs_f64() / count.max(1) as f64;
    Duration::from_secs_f64((index as f64 + chance.clamp(0.0, 1.0)) * part).min(over)
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::config;
    use crate::pool::Pools;
    use crate::telemetry::metrics::Metrics;

    const FILE: &str = r#"
version: 1
listeners: { http: { bind: ["127.0.0.1:0"] } }
sites: { "a.test": { pool: shards }, "b.test": { pool: shards } }
pools: { shards: { nodes: { n1: "http://127.0.0.1:1", n2: "http://127.0.0.1:2" } } }
"#;

    struct Rig {
        tunnels: Tunnels,
        pools: Pools,
        sites: Vec<Arc<SiteSettings>>,
        begun: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let settings =
                config::load_str("f.yaml", FILE, std::path::Path::new("."), None).unwrap().settings;
            let pools = Pools::new(Metrics::new().pool);
            pools.apply(&settings.pools);
            let begun = clock::now();
            let sites = settings.sites.iter().cloned().collect();
            Self { tunnels: Tunnels::new(2, begun), pools, sites, begun }
        }

        fn enter(&self, shard: usize, node: &str, site: usize, room: &str, client: &str) -> Ticket {
            let node = self.pools.get("shards").unwrap().node(node).unwrap().clone();
            let key = (!room.is_empty()).then(|| RoomKey::new(room).unwrap());
            let site = self.sites[site].clone();
            self.tunnels.shard(shard).enter(node, site, key, client.parse().unwrap(), self.begun)
        }
    }

    fn told(tickets: &[Ticket]) -> Vec<u64> {
        tickets.iter().filter(|ticket| ticket.order().is_some()).map(Ticket::id).collect()
    }

    #[test]
    fn tunnels_are_found_by_node_room_client_and_number() {
        let node = |name: &str| TunnelFilter::Node { pool: "shards".into(), name: name.into() };
        let room = |scope: &str, key: &str| {
            let key = RoomKey::new(key).unwrap();
            TunnelFilter::Room(RoomId { pool: "shards".into(), scope: scope.into(), key })
        };
        let client = |network: &str| TunnelFilter::Client(network.parse().unwrap());
        for (filter, expected) in [
            (node("n1"), vec![1, 3]),
            (node("n3"), vec![]),
            (TunnelFilter::Node { pool: "other".into(), name: "n1".into() }, vec![]),
            (room("a.test", "blue"), vec![1, 2]),
            (room("b.test", "blue"), vec![3]),
            (room("a.test", "red"), vec![]),
            (client("192.0.2.0/24"), vec![1, 3]),
            (client("2001:db8::/32"), vec![2]),
            (TunnelFilter::Id(4), vec![4]),
            (TunnelFilter::Id(9), vec![]),
        ] {
            let rig = Rig::new();
            let tickets = [
                rig.enter(0, "n1", 0, "blue", "192.0.2.1"),
                rig.enter(1, "n2", 0, "Blue", "2001:db8::1"),
                rig.enter(0, "n1", 1, "blue", "192.0.2.9"),
                rig.enter(1, "n2", 0, "", "198.51.100.1"),
            ];
            let code = CloseCode::TryAgainLater("full");
            let count = rig.tunnels.close(&filter, code, Duration::ZERO, rig.begun);
            assert_eq!((told(&tickets), count), (expected.clone(), expected.len()), "{filter:?}");
            assert!(
                tickets
                    .iter()
                    .filter_map(Ticket::order)
                    .all(|order| order == (rig.begun, Order::Close(code)))
            );
        }
    }

    #[test]
    fn the_list_is_that_of_all_threads_oldest_first_and_bounded() {
        let rig = Rig::new();
        let mut tickets: Vec<Ticket> =
            (0..6).map(|n| rig.enter(n, "n1", 0, if n == 5 { "" } else { "blue" }, "192.0.2.1")).collect();
        let later = rig.begun + Duration::from_millis(2500);
        let (total, infos) = rig.tunnels.list(4, later);
        assert_eq!((total, infos.iter().map(|info| info.id).collect::<Vec<_>>()), (6, vec![1, 2, 3, 4]));
        let first = &infos[0];
        assert_eq!((&*first.pool, &*first.node, first.age), ("shards", "n1", Duration::from_secs(2)));
        assert_eq!(
            first.room.as_ref().map(|room| (&*room.scope, room.key.as_str())),
            Some(("a.test", "blue"))
        );
        tickets.remove(0);
        let (total, infos) = rig.tunnels.list(10, later);
        assert_eq!((total, infos[0].id, infos[4].room.clone()), (5, 2, None));
    }

    #[test]
    fn a_wave_is_even_and_within_its_time() {
        let second = Duration::from_secs(1);
        for (index, count, chance, expected) in [
            (0, 1, 0.0, 0),
            (0, 1, 1.0, 1000),
            (0, 4, 0.5, 125),
            (3, 4, 0.0, 750),
            (3, 4, 1.0, 1000),
            (0, 0, 0.5, 500),
        ] {
            let expected = Duration::from_millis(expected);
            assert_eq!(moment(index, count, second, chance), expected, "{index} of {count}");
        }
        assert_eq!(moment(2, 3, Duration::ZERO, 0.9), Duration::ZERO);
    }

    #[test]
    fn the_earliest_order_counts_and_a_stop_finds_those_who_come_late() {
        let rig = Rig::new();
        let (early, late) =
            (rig.enter(0, "n1", 0, "a", "192.0.2.1"), rig.enter(0, "n1", 0, "b", "192.0.2.1"));
        let over = Duration::from_secs(10);
        rig.tunnels.close(
            &TunnelFilter::Id(1),
            CloseCode::ServiceRestart("room moves"),
            Duration::ZERO,
            rig.begun,
        );
        rig.tunnels.shard(0).stop(over, over * 2, rig.begun);
        assert_eq!(early.order().unwrap().1, Order::Close(CloseCode::ServiceRestart("room moves")));
        let (at, why) = late.order().unwrap();
        assert!(why == Order::Stop && at >= rig.begun && at <= rig.begun + over);
        let newcomer = rig.enter(0, "n1", 0, "c", "192.0.2.1");
        assert!(newcomer.order().is_some_and(|(at, why)| why == Order::Stop && at <= rig.begun + over));
        assert_eq!(newcomer.farewell(), FAREWELL);
        assert!(
            rig.enter(1, "n1", 0, "c", "192.0.2.1").order().is_none(),
            "the other thread has not stopped"
        );
        rig.tunnels.shard(1).stop(over, over, rig.begun);
        assert_eq!(rig.enter(1, "n1", 0, "c", "192.0.2.1").farewell(), FAREWELL_MIN);
    }

    #[test]
    fn an_order_wakes_the_tunnel() {
        let rig = Rig::new();
        let ticket = rig.enter(0, "n1", 0, "a", "192.0.2.1");
        let waker = futures_util::task::noop_waker();
        let mut cx = Context::from_waker(&waker);
        assert!(ticket.poll_order(&mut cx, None).is_pending());
        rig.tunnels.close(
            &TunnelFilter::Id(1),
            CloseCode::GoingAway("edge leaves"),
            Duration::ZERO,
            rig.begun,
        );
        assert!(ticket.poll_order(&mut cx, None).is_ready());
        let known = ticket.order().map(|(at, _)| at);
        assert!(ticket.poll_order(&mut cx, known).is_pending(), "it is known now");
    }

    #[test]
    fn an_entry_is_small() {
        assert!(std::mem::size_of::<Entry>() <= 104, "{}", std::mem::size_of::<Entry>());
    }
}
