//! Rooms and their places.
//!
//! [`Rooms`] answers one question for everybody: where does this room live? What decides is pure, [`key`] and `table`;
//! this file splits the table over shards, each behind its own lock, and joins it to the pools.

mod jitsi;
pub mod key;
mod table;
pub mod token;

use std::hash::Hasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use siphasher::sip128::{Hasher128, SipHasher13};

pub use key::{KeyError, RequestView, RoomKey, as_sent, room_of};

use crate::clock;
use crate::config::settings::{Name, RoomTableSettings};
pub use crate::pool::Wish;
use crate::pool::placement::{Candidate, Policy, Rendezvous, RoomName};
use crate::pool::{Node, Pools};
use crate::tasks::Tasks;
use crate::telemetry::metrics::RoomMetrics;
use table::{Grant, Granted, Placed, RoomHash, Seat, Table};

/// Which room: the same key in another pool or scope is another room.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId {
    /// Where its nodes are.
    pub pool: Name,
    /// The site, unless sites are merged.
    pub scope: Name,
    /// Its normalised name.
    pub key: RoomKey,
}

/// Why a room has no place. The edge answers 503 with Retry-After.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// There is no pool of that name (any more).
    #[error("the pool is not configured")]
    UnknownPool,
    /// No node of the pool can take the room now.
    #[error("no node of the pool can serve")]
    NoNode,
}

/// The room table of this process. Cheap to clone; all clones are the same table.
#[derive(Clone)]
pub struct Rooms {
    shared: Arc<Shared>,
}

impl Rooms {
    /// Creates an empty table. New rooms are placed by [`Rendezvous`] under the common secret.
    pub fn new(pools: Pools, settings: &RoomTableSettings, metrics: RoomMetrics) -> Self {
        Self::with_policy(pools, settings, metrics, Arc::new(Rendezvous::default()))
    }

    /// Creates an empty table with another policy for new rooms.
    pub fn with_policy(
        pools: Pools,
        settings: &RoomTableSettings,
        metrics: RoomMetrics,
        policy: Arc<dyn Policy>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                pools,
                policy,
                // Nobody outside can know which names share a shard or a bucket.
                hasher: SipHasher13::new_with_keys(rand::random(), rand::random()),
                shards: (0..SHARDS).map(|_| Shard(Mutex::new(Table::new()))).collect(),
                kept: AtomicUsize::new(0),
                rooms_max: settings.rooms_max,
                metrics,
            }),
        }
    }

    /// Returns the node where a room lives and touches the room. A new room gets a place; one whose node cannot serve
    /// any more is placed anew, as a whole.
    ///
    /// When the table is full, a new room is placed by the policy alone and not kept: it stays together while the
    /// pool's nodes stay the same. No live room is ever evicted.
    ///
    /// # Errors
    /// There is no such pool, or none of its nodes can serve.
    pub fn place(&self, room: &RoomId, now: Instant) -> Result<Arc<Node>, PlaceError> {
        self.place_as(room, &Wish::NONE, now)
    }

    /// Like [`Rooms::place`]; a room that gets a place now gets it as wished, if that can be. A wish that cannot be
    /// met is no error: the room is placed as without it. Where a room without a wish was on a node with a release
    /// and has to leave it, a node of the same release comes first.
    ///
    /// # Errors
    /// As for [`Rooms::place`].
    pub fn place_as(&self, room: &RoomId, wish: &Wish, now: Instant) -> Result<Arc<Node>, PlaceError> {
        let shared = &*self.shared;
        let hash = shared.hash(room);
        let mut table = shared.shard(hash).lock();
        if let Some(seat) = table.touch(hash, now) {
            return Ok(Arc::clone(&seat.node));
        }
        shared.place(&mut table, hash, room, wish, now).map(|placed| placed.seat.node)
    }

    /// Gives a room a place on the node that named it. False: it lives on another node already, or that node cannot
    /// serve any more, and the room stays where the table has it.
    pub fn learn(&self, room: &RoomId, node: &Arc<Node>, now: Instant) -> bool {
        let wish = Wish { node: Some(Arc::clone(&node.name)), release: None };
        self.place_as(room, &wish, now).is_ok_and(|placed| Arc::ptr_eq(&placed, node))
    }

    /// Tells whether a room has a place now; does not touch it.
    pub fn is_placed(&self, room: &RoomId) -> bool {
        let hash = self.shared.hash(room);
        self.shared.shard(hash).lock().seat(hash).is_some()
    }

    /// Places a room and holds it: while the [`Hold`] lives, the room keeps its place.
    ///
    /// # Errors
    /// There is no such pool, or none of its nodes can serve.
    pub fn hold(&self, room: &RoomId, now: Instant) -> Result<(Arc<Node>, Hold), PlaceError> {
        self.hold_as(room, &Wish::NONE, now)
    }

    /// Like [`Rooms::hold`], with a wish for a room that gets a place now: see [`Rooms::place_as`].
    ///
    /// # Errors
    /// As for [`Rooms::place`].
    pub fn hold_as(&self, room: &RoomId, wish: &Wish, now: Instant) -> Result<(Arc<Node>, Hold), PlaceError> {
        let shared = &*self.shared;
        let hash = shared.hash(room);
        let mut table = shared.shard(hash).lock();
        let placed = shared.place(&mut table, hash, room, wish, now)?;
        let held = placed.grant.map(|grant| {
            if table.hold(hash, grant) {
                shared.metrics.held.inc();
            }
            Held { rooms: self.clone(), hash, grant }
        });
        drop(table);
        let TakenSeat { node, term } = placed.seat;
        Ok((Arc::clone(&node), Hold { node, term, held }))
    }

    /// Returns the node where a room lives, or `None` if it has no place that stands; gives it none. With a time,
    /// the room is touched; without one, it is as if nobody had asked.
    pub fn find(&self, room: &RoomId, touched: Option<Instant>) -> Option<Arc<Node>> {
        let hash = self.shared.hash(room);
        let mut table = self.shared.shard(hash).lock();
        let seat = match touched {
            Some(now) => table.touch(hash, now),
            None => table.seat(hash),
        };
        seat.map(|seat| Arc::clone(&seat.node))
    }

    /// Places anew all rooms of a node that went down or left its pool, each as a whole; returns how many. Rooms that
    /// the node got after it came back stay; rooms for which there is no other node wait for their next request.
    pub fn node_down(&self, node: &Arc<Node>, now: Instant) -> usize {
        let shared = &*self.shared;
        let mut moved = 0;
        for shard in &shared.shards {
            let mut table = shard.lock();
            let (anew, held) = table.reseat(
                now,
                |seat| Arc::ptr_eq(&seat.node, node),
                |room, fallen| {
                    let seat = shared.pick(room, &Wish::NONE, Some(fallen)).ok()?;
                    Some((seat, shared.linger(&room.pool)))
                },
            );
            moved += anew;
            shared.metrics.held.sub(count(held));
        }
        shared.replaced(node).inc_by(moved as u64);
        moved
    }

    /// Ends the placements that nobody holds and nobody touched for their pool's linger; returns how many. Looks at a
    /// bounded number of rooms: what is left waits for the next call.
    pub fn expire(&self, now: Instant) -> usize {
        let shared = &*self.shared;
        let mut ended = 0;
        for shard in &shared.shards {
            ended += shard.lock().expire(now, EXPIRE_BUDGET);
        }
        if ended > 0 {
            shared.kept.fetch_sub(ended, Ordering::Relaxed);
            shared.metrics.placed.sub(count(ended));
            shared.metrics.expired.inc_by(ended as u64);
        }
        ended
    }

    /// Ends placements as they fall due, a few times a second, until the process stops.
    pub fn sweep(&self, tasks: &Tasks) {
        let (rooms, stopping) = (self.clone(), tasks.stopping().clone());
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(SWEEP_EVERY) => {}
                    () = stopping.cancelled() => return,
                }
                rooms.expire(clock::now());
            }
        });
    }

    /// Returns what is known of at most `limit` rooms, in the order of their names. Which ones, when there are more,
    /// is not defined.
    pub fn list(&self, limit: usize) -> Vec<RoomView> {
        let mut views = Vec::new();
        for shard in &self.shared.shards {
            let table = shard.lock();
            let room = limit - views.len();
            views.extend(table.iter().take(room).map(|placement| RoomView {
                pool: Arc::clone(&placement.rest.id.pool),
                scope: Arc::clone(&placement.rest.id.scope),
                key: placement.rest.id.key.clone(),
                node: Arc::clone(&placement.seat.node.name),
                holds: placement.rest.holds,
                since: placement.rest.since,
                touched: placement.touched,
            }));
        }
        views.sort_by(|a, b| (&a.pool, &a.scope, &a.key).cmp(&(&b.pool, &b.scope, &b.key)));
        views
    }

    /// Returns the number of rooms that have a place.
    pub fn len(&self) -> usize {
        self.shared.kept.load(Ordering::Relaxed)
    }

    /// Returns whether no room has a place.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts a request whose room name was refused.
    pub fn count_key_error(&self, error: KeyError) {
        self.shared.metrics.key_errors.with_label_values(&[error.as_str()]).inc();
    }
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// What the admin API shows of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomView {
    /// Its pool.
    pub pool: Name,
    /// Its scope.
    pub scope: Name,
    /// Its name.
    pub key: RoomKey,
    /// The name of its node.
    pub node: Name,
    /// Open streams that hold it there.
    pub holds: u32,
    /// When it first got a place.
    pub since: Instant,
    /// The last touch, or the end of the last hold.
    pub touched: Instant,
}

impl RoomView {
    /// Returns how long the room has had a place.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// Keeps a room where it is while it lives. Dropping it ends the hold and starts the linger.
///
/// A hold belongs to the place it was given for: after the room was placed anew, it holds nothing.
#[derive(Debug)]
pub struct Hold {
    node: Arc<Node>,
    term: u64,
    held: Option<Held>,
}

impl Hold {
    /// Returns the node that the room was on when the hold was given.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Resolves when the place is lost: the node went down, or left its pool, since the hold was given, even if it has
    /// come back by now. A stream closes then (1012); its room is somewhere else.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        self.node.down_after(self.term)
    }

    /// Returns whether the place is lost, see [`Hold::lost`].
    pub fn is_lost(&self) -> bool {
        !self.node.serves_since(self.term)
    }

    /// Ends the hold at a given time.
    pub fn release(mut self, now: Instant) {
        self.end(now);
    }

    fn end(&mut self, now: Instant) {
        let Some(held) = self.held.take() else { return };
        let shared = &*held.rooms.shared;
        if shared.shard(held.hash).lock().release(held.hash, held.grant, now) {
            shared.metrics.held.dec();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.held.is_some() {
            self.end(clock::now());
        }
    }
}

/// What a hold gives back. A room that the table does not keep is not held.
#[derive(Debug)]
struct Held {
    rooms: Rooms,
    hash: RoomHash,
    grant: Grant,
}

struct Shared {
    pools: Pools,
    policy: Arc<dyn Policy>,
    hasher: SipHasher13,
    shards: Vec<Shard>,
    /// Rooms in all shards.
    kept: AtomicUsize,
    rooms_max: usize,
    metrics: RoomMetrics,
}

/// A cache line of its own for each lock.
#[repr(align(64))]
struct Shard(Mutex<Table<RoomId, TakenSeat>>);

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Table<RoomId, TakenSeat>> {
        // The table is whole between any two of its steps; a panic elsewhere must not take all rooms along.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node, and how often it had been down when the seat was taken.
#[derive(Clone, Debug)]
struct TakenSeat {
    node: Arc<Node>,
    term: u64,
}

impl Seat for TakenSeat {
    #[inline]
    fn stands(&self) -> bool {
        self.node.serves_since(self.term)
    }
}

impl Shared {
    #[inline]
    fn hash(&self, room: &RoomId) -> RoomHash {
        let parts = [room.pool.as_bytes(), room.scope.as_bytes(), room.key.as_ref().as_bytes()];
        let mut text = [0; HASHED_AT_ONCE];
        let mut len = 0;
        for part in parts {
            // 0xff is in no UTF-8 text: it ends each part.
            let end = len + part.len();
            let Some(place) = text.get_mut(len..=end) else { return self.hash_long(parts) };
            place[..part.len()].copy_from_slice(part);
            place[part.len()] = 0xff;
            len = end + 1;
        }
        self.hasher.hash(&text[..len]).as_u128()
    }

    /// The same hash, for names of any length: several times slower, byte for byte.
    #[cold]
    fn hash_long(&self, parts: [&[u8]; 3]) -> RoomHash {
        let mut hasher = self.hasher;
        for part in parts {
            hasher.write(part);
            hasher.write_u8(0xff);
        }
        hasher.finish128().as_u128()
    }

    #[inline]
    fn shard(&self, hash: RoomHash) -> &Shard {
        &self.shards[((hash >> 64) as u64 % SHARDS as u64) as usize]
    }

    fn place(
        &self,
        table: &mut Table<RoomId, TakenSeat>,
        hash: RoomHash,
        room: &RoomId,
        wish: &Wish,
        now: Instant,
    ) -> Result<Placed<TakenSeat>, PlaceError> {
        let mut error = PlaceError::NoNode;
        let placed = table.place(
            hash,
            room,
            now,
            self.linger(&room.pool),
            |fallen| self.pick(room, wish, fallen).map_err(|e| error = e).ok(),
            || self.reserve(),
        );
        let Some(placed) = placed else {
            self.metrics.no_node.inc();
            return Err(error);
        };
        match placed.granted {
            Granted::Known => {}
            Granted::New => {
                self.metrics.granted.inc();
                self.metrics.placed.inc();
            }
            Granted::Anew => {
                if let Some(fallen) = &placed.fallen {
                    self.replaced(&fallen.node).inc();
                }
                self.metrics.held.sub(i64::from(placed.was_held));
            }
            Granted::Unkept => self.metrics.table_full.inc(),
        }
        Ok(placed)
    }

    /// Chooses a seat for a room that has none: the wished node; else by policy among the nodes of the wished release,
    /// or that of the seat that fell; else of this edge's region; else all. Within a release its nodes in the region
    /// come first.
    fn pick(&self, room: &RoomId, wish: &Wish, fallen: Option<&TakenSeat>) -> Result<TakenSeat, PlaceError> {
        let pool = self.pools.get(&room.pool).ok_or(PlaceError::UnknownPool)?;
        // The term is read once, with the health: a node that falls while we choose leaves a seat that has fallen.
        let seats: Vec<TakenSeat> = pool
            .nodes
            .iter()
            .filter_map(|node| node.serving_term().map(|term| TakenSeat { node: Arc::clone(node), term }))
            .collect();
        if let Some(name) = &wish.node
            && let Some(seat) = seats.iter().find(|seat| seat.node.name == *name)
        {
            return Ok(seat.clone());
        }
        let release = wish.release.clone().or_else(|| fallen.and_then(|seat| seat.node.release()));
        let (release, region) = (release.as_deref(), pool.settings.region.as_deref());
        let name = RoomName { pool: &room.pool, scope: &room.scope, key: room.key.as_ref() };
        let pick = |release: Option<&str>, region: Option<&str>| {
            let fits = |seat: &&TakenSeat| {
                release.is_none_or(|release| seat.node.runs(release))
                    && region.is_none_or(|region| seat.node.is_in(region))
            };
            let fitting: Vec<&TakenSeat> = seats.iter().filter(fits).collect();
            let mut candidates =
                fitting.iter().map(|seat| Candidate { name: &seat.node.name, weight: seat.node.weight() });
            let index = self.policy.pick(name, &mut candidates)?;
            fitting.get(index).map(|seat| (*seat).clone())
        };
        let tiers = [(release, region), (release, None), (None, region)];
        tiers
            .into_iter()
            .filter(|tier| *tier != (None, None))
            .find_map(|(release, region)| pick(release, region))
            .or_else(|| pick(None, None))
            .ok_or(PlaceError::NoNode)
    }

    fn reserve(&self) -> bool {
        self.kept
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| {
                (kept < self.rooms_max).then_some(kept + 1)
            })
            .is_ok()
    }

    /// Of a pool that is gone no room gets a place: then it does not matter.
    fn linger(&self, pool: &str) -> Duration {
        self.pools.linger(pool).unwrap_or_default()
    }

    fn replaced(&self, node: &Node) -> prometheus::IntCounter {
        let reason = if node.is_removed() { "node_removed" } else { "node_down" };
        self.metrics.replaced.with_label_values(&[reason])
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Enough that two cores seldom meet at one lock, and that a scan of one shard is short.
const SHARDS: usize = 128;

/// Names up to this length, pool and scope included, are hashed in one go.
const HASHED_AT_ONCE: usize = 160;

/// Rooms that one call of [`Rooms::expire`] looks at in each shard.
const EXPIRE_BUDGET: usize = 256;

const SWEEP_EVERY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
