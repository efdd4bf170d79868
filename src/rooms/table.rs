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
    /// When to look at a room that nobody holds. Each placement has at most one entry here, see `Placement::due`.
    queue: BinaryHeap<Reverse<(Instant, RoomHash)>>,
    last_grant: Grant,
}

/// One room's place.
#[derive(Debug)]
pub(super) struct Placement<I, S> {
    pub(super) id: I,
    pub(super) seat: S,
    pub(super) grant: Grant,
    pub(super) holds: u32,
    /// When the room first got a place.
    pub(super) since: Instant,
    /// The last touch, or the end of the last hold.
    pub(super) touched: Instant,
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

    /// Finds a room's seat, or seats it: `pick` chooses, `reserve` says whether one more room may be kept, `linger`
    /// is how long the place stands unused. Touches the room.
    ///
    /// Returns `None` if no node can take it. A place that has fallen then stays as it is, for the next request to try
    /// again; its holds count no more.
    pub(super) fn place(
        &mut self,
        hash: RoomHash,
        id: &I,
        now: Instant,
        linger: Duration,
        pick: impl FnOnce() -> Option<S>,
        reserve: impl FnOnce() -> bool,
    ) -> Option<Placed<S>> {
        if let Some(placement) = self.placements.get_mut(&hash) {
            // Known: it is used while it stands.
            if placement.seat.stands() {
                placement.touched = now;
                return Some(Placed {
                    seat: placement.seat.clone(),
                    granted: Granted::Known,
                    grant: Some(placement.grant),
                    fallen: None,
                    was_held: false,
                });
            }
            // Fallen: seated anew.
            let seat = pick()?;
            self.last_grant += 1;
            let (fallen, was_held) = placement.reseat(seat.clone(), self.last_grant, now);
            Self::arm(&mut self.queue, hash, placement, linger);
            return Some(Placed {
                seat,
                granted: Granted::Anew,
                grant: Some(self.last_grant),
                fallen: Some(fallen),
                was_held,
            });
        }
        // New.
        let seat = pick()?;
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
            id: id.clone(),
            seat: seat.clone(),
            grant: self.last_grant,
            holds: 0,
            since: now,
            touched: now,
            due: None,
        };
        Self::arm(&mut self.queue, hash, &mut placement, linger);
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
        let Some(placement) = self.placements.get_mut(&hash).filter(|p| p.grant == grant) else {
            debug_assert!(false, "a hold follows its grant under one lock");
            return false;
        };
        placement.holds += 1;
        placement.holds == 1
    }

    /// Ends a hold; the room lingers from now. Returns whether it was the last. A hold of an older grant changes
    /// nothing.
    pub(super) fn release(&mut self, hash: RoomHash, grant: Grant, now: Instant, linger: Duration) -> bool {
        let Some(placement) = self.placements.get_mut(&hash).filter(|p| p.grant == grant) else {
            return false;
        };
        debug_assert!(placement.holds > 0, "each hold is released once");
        placement.holds = placement.holds.saturating_sub(1);
        placement.touched = placement.touched.max(now);
        if placement.holds == 0 {
            Self::arm(&mut self.queue, hash, placement, linger);
        }
        placement.holds == 0
    }

    /// Seats anew all rooms whose seat has fallen and is `theirs`. `pick` chooses for a room; a room for which it finds
    /// nothing stays as it is. Returns how many moved, and how many of those had been held.
    pub(super) fn reseat(
        &mut self,
        now: Instant,
        theirs: impl Fn(&S) -> bool,
        mut pick: impl FnMut(&I) -> Option<(S, Duration)>,
    ) -> (usize, usize) {
        let (mut moved, mut held) = (0, 0);
        let fallen = self.placements.iter_mut().filter(|(_, p)| theirs(&p.seat) && !p.seat.stands());
        fallen.for_each(|(hash, placement)| {
            let Some((seat, linger)) = pick(&placement.id) else { return };
            self.last_grant += 1;
            let (_, was_held) = placement.reseat(seat, self.last_grant, now);
            Self::arm(&mut self.queue, *hash, placement, linger);
            moved += 1;
            held += usize::from(was_held);
        });
        (moved, held)
    }

    /// Ends the placements that nobody holds and whose `linger` has passed since the last touch, looking at `budget`
    /// of them at most. Returns how many ended.
    pub(super) fn expire(&mut self, now: Instant, budget: usize, linger: impl Fn(&I) -> Duration) -> usize {
        let mut ended = 0;
        for _ in 0..budget {
            let Some(&Reverse((due, hash))) = self.queue.peek() else { break };
            if due > now {
                break;
            }
            self.queue.pop();
            let Some(placement) = self.placements.get_mut(&hash).filter(|p| p.due == Some(due)) else {
                debug_assert!(false, "a placement leaves only through the queue");
                continue;
            };
            placement.due = None;
            if placement.holds > 0 {
                // The end of the last hold puts it back.
                continue;
            }
            let linger = linger(&placement.id);
            if placement.touched + linger > now {
                Self::arm(&mut self.queue, hash, placement, linger);
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
        linger: Duration,
    ) {
        // One entry for each room. It may come due too early, when `expire` looks at the last touch and waits on.
        if placement.due.is_none() {
            let due = placement.touched + linger;
            placement.due = Some(due);
            queue.push(Reverse((due, hash)));
        }
    }
}

impl<I, S> Placement<I, S> {
    fn reseat(&mut self, seat: S, grant: Grant, now: Instant) -> (S, bool) {
        let was_held = self.holds > 0;
        self.grant = grant;
        self.holds = 0;
        self.touched = self.touched.max(now);
        (std::mem::replace(&mut self.seat, seat), was_held)
    }
}

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
