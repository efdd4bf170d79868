//! The room table: which room has which place, who holds it, when it ends.
//!
//! Pure: time, hashes, nodes and choices are passed in. One table is one shard of the shell's; it holds no lock and
//! reads no clock.
//!
//! A placement is used while its seat stands. When the seat falls (its node goes down or leaves the pool), the room is
//! seated once more, as a whole, and its *grant* changes: whoever held the room on the old node holds nothing any
//! more. Nothing else moves a room. A room that nobody holds ends when its linger has passed since the last touch.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

/// A place on a node, as long as it lasts: the node, and since when.
pub(super) trait Seat: Clone {
    /// Returns whether the node can serve and did so ever since the seat was taken.
    fn stands(&self) -> bool;
}

/// Names a room in a table: a keyed hash of 128 bits, made by the shell. Two rooms in one process never share one.
pub(super) type RoomHash = u128;

/// Numbers the grants of one table. A hold belongs to one grant.
pub(super) type Grant = u64;

/// What [`Table::place`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    /// The room had a place that stands.
    Known,
    /// It had none and got one.
    New,
    /// Its place had fallen; it got another.
    Anew,
    /// It had none and got one that is not kept: the table is full.
    Unkept,
}

/// What [`Table::place`] found, and what changed.
#[derive(Clone, Debug)]
pub(super) struct Placed<S> {
    pub(super) seat: S,
    pub(super) granted: Granted,
    /// `None` if the place is not kept.
    pub(super) grant: Option<Grant>,
    /// The seat that fell, if the room was placed anew.
    pub(super) fallen: Option<S>,
    /// Whether the room was held under the grant that fell.
    pub(super) was_held: bool,
}

/// One shard of the room table. `I` is what listings show of a room.
#[derive(Debug)]
pub(super) struct Table<I, S> {
    placements: HashMap<RoomHash, Placement<I, S>, BuildHasherDefault<AsIs>>,
    /// When to look at a room that nobody holds. Each placement has at most one entry here, see `Rest::due`.
    queue: BinaryHeap<Reverse<(Instant, RoomHash)>>,
    last_grant: Grant,
}

/// One room's place: what each request reads, and the rest. With its key it is 64 bytes, one line of the cache.
#[derive(Debug)]
pub(super) struct Placement<I, S> {
    pub(super) seat: S,
    /// The last touch, or the end of the last hold.
    pub(super) touched: Instant,
    pub(super) rest: Box<Rest<I>>,
}

/// What only grants, holds, expiry and listings read.
#[derive(Debug)]
pub(super) struct Rest<I> {
    pub(super) id: I,
    grant: Grant,
    pub(super) holds: u32,
    /// When the room first got a place.
    pub(super) since: Instant,
    /// How long it stands unused: its pool's linger when it was last granted or held.
    linger: Duration,
    /// The time under which it stands in the queue.
    due: Option<Instant>,
}

impl<I: Clone, S: Seat> Table<I, S> {
    pub(super) fn new() -> Self {
        Self { placements: HashMap::default(), queue: BinaryHeap::new(), last_grant: 0 }
    }

    /// Finds a room's seat and touches the room: the path of every request.
    #[inline]
    pub(super) fn touch(&mut self, hash: RoomHash, now: Instant) -> Option<&S> {
        let placement = self.placements.get_mut(&hash)?;
        if !placement.seat.stands() {
            return None;
        }
        placement.touched = now;
        Some(&placement.seat)
    }

    /// Finds a room's seat while it stands, and leaves everything as it is.
    pub(super) fn seat(&self, hash: RoomHash) -> Option<&S> {
        self.placements.get(&hash).map(|placement| &placement.seat).filter(|seat| seat.stands())
    }

    /// Finds a room's seat, or seats it: `pick` chooses, knowing the seat that fell, if one did; `reserve` says whether one more room may be kept, `linger`
    /// is how long the place stands unused from now on. Touches the room.
    ///
    /// Returns `None` if no node can take it. A place that has fallen then stays as it is, for the next request to try
    /// again; its holds count no more.
    pub(super) fn place(
        &mut self,
        hash: RoomHash,
        id: &I,
        now: Instant,
        linger: Duration,
        pick: impl FnOnce(Option<&S>) -> Option<S>,
        reserve: impl FnOnce() -> bool,
    ) -> Option<Placed<S>> {
        if let Some(placement) = self.placements.get_mut(&hash) {
            // Known: it is used while it stands.
            if placement.seat.stands() {
                placement.touched = now;
                placement.rest.linger = linger;
                return Some(Placed {
                    seat: placement.seat.clone(),
                    granted: Granted::Known,
                    grant: Some(placement.rest.grant),
                    fallen: None,
                    was_held: false,
                });
            }
            // Fallen: seated anew.
            let seat = pick(Some(&placement.seat))?;
            self.last_grant += 1;
            let (fallen, was_held) = placement.reseat(seat.clone(), self.last_grant, linger, now);
            Self::arm(&mut self.queue, hash, placement);
            return Some(Placed {
                seat,
                granted: Granted::Anew,
                grant: Some(self.last_grant),
                fallen: Some(fallen),
                was_held,
            });
        }
        // New.
        let seat = pick(None)?;
        if !reserve() {
            return Some(Placed {
                seat,
                granted: Granted::Unkept,
                grant: None,
                fallen: None,
                was_held: false,
            });
        }
        self.last_grant += 1;
        let mut placement = Placement {
            seat: seat.clone(),
            touched: now,
            rest: Box::new(Rest {
                id: id.clone(),
                grant: self.last_grant,
                holds: 0,
                since: now,
                linger,
                due: None,
            }),
        };
        Self::arm(&mut self.queue, hash, &mut placement);
        self.placements.insert(hash, placement);
        Some(Placed {
            seat,
            granted: Granted::New,
            grant: Some(self.last_grant),
            fallen: None,
            was_held: false,
        })
    }

    /// Adds a hold to a grant that [`Table::place`] just returned. Returns whether it is the first.
    pub(super) fn hold(&mut self, hash: RoomHash, grant: Grant) -> bool {
        let Some(placement) = self.placements.get_mut(&hash).filter(|p| p.rest.grant == grant) else {
            debug_assert!(false, "a hold follows its grant under one lock");
            return false;
        };
        placement.rest.holds += 1;
        placement.rest.holds == 1
    }

    /// Ends a hold; the room lingers from now. Returns whether it was the last. A hold of an older grant changes
    /// nothing.
    pub(super) fn release(&mut self, hash: RoomHash, grant: Grant, now: Instant) -> bool {
        let Some(placement) = self.placements.get_mut(&hash).filter(|p| p.rest.grant == grant) else {
            return false;
        };
        debug_assert!(placement.rest.holds > 0, "each hold is released once");
        placement.rest.holds = placement.rest.holds.saturating_sub(1);
        placement.touched = placement.touched.max(now);
        if placement.rest.holds == 0 {
            Self::arm(&mut self.queue, hash, placement);
        }
        placement.rest.holds == 0
    }

    /// Seats anew all rooms whose seat has fallen and is `theirs`. `pick` chooses for a room and the seat that fell; a room for which it finds
    /// nothing stays as it is. Returns how many moved, and how many of those had been held.
    pub(super) fn reseat(
        &mut self,
        now: Instant,
        theirs: impl Fn(&S) -> bool,
        mut pick: impl FnMut(&I, &S) -> Option<(S, Duration)>,
    ) -> (usize, usize) {
        let (mut moved, mut held) = (0, 0);
        let fallen = self.placements.iter_mut().filter(|(_, p)| theirs(&p.seat) && !p.seat.stands());
        fallen.for_each(|(hash, placement)| {
            let Some((seat, linger)) = pick(&placement.rest.id, &placement.seat) else { return };
            self.last_grant += 1;
            let (_, was_held) = placement.reseat(seat, self.last_grant, linger, now);
            Self::arm(&mut self.queue, *hash, placement);
            moved += 1;
            held += usize::from(was_held);
        });
        (moved, held)
    }

    /// Ends the placements that nobody holds and whose linger has passed since the last touch, looking at `budget` of
    /// them at most. Returns how many ended.
    pub(super) fn expire(&mut self, now: Instant, budget: usize) -> usize {
        let mut ended = 0;
        for _ in 0..budget {
            let Some(&Reverse((due, hash))) = self.queue.peek() else { break };
            if due > now {
                break;
            }
            self.queue.pop();
            let Some(placement) = self.placements.get_mut(&hash).filter(|p| p.rest.due == Some(due)) else {
                debug_assert!(false, "a placement leaves only through the queue");
                continue;
            };
            placement.rest.due = None;
            if placement.rest.holds > 0 {
                // The end of the last hold puts it back.
                continue;
            }
            if placement.ends() > now {
                Self::arm(&mut self.queue, hash, placement);
            } else {
                self.placements.remove(&hash);
                ended += 1;
            }
        }
        ended
    }

    /// Yields the placements, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Placement<I, S>> {
        self.placements.values()
    }

    fn arm(
        queue: &mut BinaryHeap<Reverse<(Instant, RoomHash)>>,
        hash: RoomHash,
        placement: &mut Placement<I, S>,
    ) {
        // One entry for each room. It may come due too early, when `expire` looks at the last touch and waits on.
        if placement.rest.due.is_none() {
            let due = placement.ends();
            placement.rest.due = Some(due);
            queue.push(Reverse((due, hash)));
        }
    }
}

impl<I, S> Placement<I, S> {
    /// Returns when it ends unless it is touched or held.
    fn ends(&self) -> Instant {
        self.touched + self.rest.linger.min(LINGER_MAX)
    }

    fn reseat(&mut self, seat: S, grant: Grant, linger: Duration, now: Instant) -> (S, bool) {
        let was_held = self.rest.holds > 0;
        self.rest.grant = grant;
        self.rest.holds = 0;
        self.touched = self.touched.max(now);
        self.rest.linger = linger;
        (std::mem::replace(&mut self.seat, seat), was_held)
    }
}

/// Sums with a time must not overflow.
const LINGER_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(false, "keys are u128");
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    #[inline]
    fn write_u128(&mut self, hash: u128) {
        // The shell takes the high bits to choose the shard.
        #[expect(clippy::cast_possible_truncation, reason = "the low half is as good a hash as the whole")]
        {
            self.0 = hash as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    const LINGER: Duration = Duration::from_secs(60);

    #[derive(Clone, Debug)]
    struct TestSeat {
        name: &'static str,
        stands: Rc<Cell<bool>>,
    }

    impl Seat for TestSeat {
        fn stands(&self) -> bool {
            self.stands.get()
        }
    }

    fn seat(name: &'static str) -> TestSeat {
        TestSeat { name, stands: Rc::new(Cell::new(true)) }
    }

    struct Bench {
        table: Table<u128, TestSeat>,
        start: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { table: Table::new(), start: crate::clock::now() }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn place(&mut self, room: u128, seconds: u64, to: Option<&TestSeat>) -> Option<Placed<TestSeat>> {
            let now = self.at(seconds);
            self.table.place(room, &room, now, LINGER, |_| to.cloned(), || true)
        }

        fn hold(&mut self, room: u128, seconds: u64, to: &TestSeat) -> Grant {
            let grant = self.place(room, seconds, Some(to)).unwrap().grant.unwrap();
            self.table.hold(room, grant);
            grant
        }

        fn release(&mut self, room: u128, grant: Grant, seconds: u64) -> bool {
            let now = self.at(seconds);
            self.table.release(room, grant, now)
        }

        fn expire(&mut self, seconds: u64) -> usize {
            let now = self.at(seconds);
            self.table.expire(now, 100)
        }

        fn holds(&self, room: u128) -> u32 {
            self.table.placements[&room].rest.holds
        }
    }

    #[test]
    fn a_touch_outlives_the_linger_by_nothing() {
        let mut bench = Bench::new();
        bench.place(1, 0, Some(&seat("a")));
        bench.place(2, 0, Some(&seat("a")));
        assert!(bench.table.touch(1, bench.at(40)).is_some());
        assert_eq!(bench.expire(59), 0);
        assert_eq!(bench.expire(60), 1, "nobody touched room 2");
        assert_eq!(bench.expire(99), 0);
        assert_eq!(bench.expire(100), 1);
        assert!(bench.table.queue.is_empty() && bench.table.placements.is_empty());
    }

    #[test]
    fn a_held_room_stays_and_lingers_from_the_end_of_its_last_hold() {
        let mut bench = Bench::new();
        let a = seat("a");
        let first = bench.hold(1, 0, &a);
        let second = bench.hold(1, 10, &a);
        assert_eq!(first, second, "one grant, two holds");
        assert_eq!(bench.expire(10_000), 0);
        assert!(!bench.release(1, first, 10_000));
        assert!(bench.release(1, second, 10_030));
        assert_eq!(bench.expire(10_089), 0);
        assert_eq!(bench.expire(10_090), 1);
    }

    #[test]
    fn a_hold_of_a_place_that_fell_releases_nothing() {
        let mut bench = Bench::new();
        let (a, b) = (seat("a"), seat("b"));
        let old = bench.hold(1, 0, &a);
        a.stands.set(false);
        let new = bench.hold(1, 1, &b);
        assert_ne!(old, new);
        assert!(!bench.release(1, old, 2));
        assert_eq!(bench.holds(1), 1);
        // Nor does one of a placement that ended meanwhile.
        assert!(bench.release(1, new, 3));
        assert_eq!(bench.expire(1_000), 1);
        let newest = bench.hold(1, 1_001, &b);
        assert!(!bench.release(1, new, 1_002));
        assert_eq!((bench.holds(1), newest > new), (1, true));
    }

    #[test]
    fn a_fallen_room_stays_where_it_was_until_somebody_can_take_it() {
        let mut bench = Bench::new();
        let (a, b) = (seat("a"), seat("b"));
        bench.hold(1, 0, &a);
        a.stands.set(false);
        assert!(bench.place(1, 1, None).is_none());
        assert_eq!(bench.table.reseat(bench.at(2), |_| true, |_, _| None), (0, 0));
        assert_eq!(bench.holds(1), 1);
        let placed = bench.place(1, 3, Some(&b)).unwrap();
        assert_eq!((placed.granted, placed.seat.name, placed.was_held), (Granted::Anew, "b", true));
        assert_eq!(placed.fallen.map(|seat| seat.name), Some("a"));
    }

    #[test]
    fn reseating_moves_what_fell_and_nothing_else() {
        let mut bench = Bench::new();
        let (a, b, c) = (seat("a"), seat("b"), seat("c"));
        for room in 0..10 {
            bench.place(room, 0, Some(&a));
            bench.place(100 + room, 0, Some(&b));
        }
        bench.hold(3, 0, &a);
        a.stands.set(false);
        // The node came back and has a room again: another seat on the same node.
        let again = seat("a");
        bench.place(200, 1, Some(&again));
        let now = bench.at(2);
        let moved = bench.table.reseat(
            now,
            |seat| seat.name == "a",
            |_, fallen| {
                assert_eq!(fallen.name, "a");
                Some((c.clone(), LINGER))
            },
        );
        assert_eq!(moved, (10, 1));
        let mut on: Vec<_> = bench.table.iter().map(|p| (p.rest.id, p.seat.name)).collect();
        on.sort_unstable();
        let expected: Vec<_> = (0..10)
            .map(|room| (room, "c"))
            .chain((0..10).map(|room| (100 + room, "b")))
            .chain([(200, "a")])
            .collect();
        assert_eq!(on, expected);
    }

    #[test]
    fn a_full_table_places_without_keeping() {
        let mut bench = Bench::new();
        let now = bench.at(0);
        let placed = bench.table.place(1, &1, now, LINGER, |_| Some(seat("a")), || false).unwrap();
        assert_eq!((placed.granted, placed.grant, placed.seat.name), (Granted::Unkept, None, "a"));
        assert!(bench.table.placements.is_empty() && bench.table.queue.is_empty());
    }

    #[test]
    fn one_call_looks_at_no_more_than_its_budget() {
        let mut bench = Bench::new();
        for room in 0..10 {
            bench.place(room, 0, Some(&seat("a")));
        }
        let late = bench.at(1_000);
        assert_eq!(bench.table.expire(late, 4), 4);
        assert_eq!(bench.table.expire(late, 4), 4);
        assert_eq!(bench.table.expire(late, 4), 2);
    }

    #[test]
    fn a_room_that_is_held_and_touched_for_long_stands_in_the_queue_once() {
        let mut bench = Bench::new();
        let a = seat("a");
        for second in 0..500 {
            let grant = bench.hold(1, second, &a);
            bench.release(1, grant, second);
            bench.table.touch(1, bench.at(second));
            bench.expire(second);
            assert!(bench.table.queue.len() <= 1);
        }
        assert_eq!(bench.expire(559), 1);
    }

    #[test]
    fn a_new_linger_counts_from_the_next_hold_or_grant() {
        let mut bench = Bench::new();
        let a = seat("a");
        bench.place(1, 0, Some(&a));
        let now = bench.at(10);
        bench.table.place(1, &1, now, LINGER * 5, |_| None, || true);
        assert_eq!(bench.expire(309), 0);
        assert_eq!(bench.expire(310), 1);
        bench.place(2, 400, Some(&a));
        let now = bench.at(400);
        bench.table.place(2, &2, now, Duration::MAX, |_| None, || true);
        assert_eq!(bench.expire(1_000_000), 0, "no overflow");
    }
}
