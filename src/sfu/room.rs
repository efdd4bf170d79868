//! One room on a worker: who is in it, and what each of them is to be told.
//!
//! Pure. Comings and goings are numbered and told in batches, at most one every [`BATCH`]: a thousand joins are ten
//! messages a second and not a thousand. Who joined knows what happened before from their welcome, so that nobody
//! hears of anything twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::signalling::message::{Participant, ServerMessage};
use crate::rooms::RoomId;

/// Which room on a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RoomRef {
    /// A room of people.
    Public(RoomId),
    /// A room of the self-test: neither counted nor listed.
    Hidden(u64),
}

/// One room.
#[derive(Debug)]
pub(super) struct Room {
    /// Which.
    pub(super) key: RoomRef,
    /// Places of its participants on the worker, in the order of their coming.
    pub(super) members: Vec<u32>,
    /// What has moved since the last report.
    pub(super) traffic: Traffic,
    news: Vec<(u64, Item)>,
    number: u64,
    told: Option<Instant>,
    stirred: bool,
    unrouted: bool,
}

/// Packets and bytes since the last report.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    /// RTP packets from participants.
    pub(super) packets_in: u64,
    /// Their payload bytes.
    pub(super) bytes_in: u64,
    /// RTP packets to participants.
    pub(super) packets_out: u64,
    /// Their payload bytes.
    pub(super) bytes_out: u64,
}

/// Something that others are to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Joined(u32),
    Left { place: u32, id: String },
    Changed(u32),
}

/// What one participant is told: lists of places, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Who came.
    pub(super) joined: Vec<u32>,
    /// Ids of those who left.
    pub(super) left: Vec<String>,
    /// Whose sources changed.
    pub(super) changed: Vec<u32>,
}

impl Room {
    /// Creates an empty room.
    pub(super) fn new(key: RoomRef) -> Self {
        Self {
            key,
            members: Vec::new(),
            traffic: Traffic::default(),
            news: Vec::new(),
            number: 0,
            told: None,
            stirred: false,
            unrouted: false,
        }
    }

    /// Returns whether it is one of the self-test's.
    pub(super) fn is_hidden(&self) -> bool {
        matches!(self.key, RoomRef::Hidden(_))
    }

    /// Notes that a participant came. Returns the number of the news that they know already.
    pub(super) fn on_joined(&mut self, place: u32, listed: bool) -> u64 {
        self.members.push(place);
        self.stirred = true;
        if listed { self.note(Item::Joined(place)) } else { self.number }
    }

    /// Notes that a participant left.
    pub(super) fn on_left(&mut self, place: u32, id: &str, listed: bool) {
        self.members.retain(|member| *member != place);
        self.stirred = true;
        self.unrouted = true;
        if listed {
            self.note(Item::Left { place, id: id.to_owned() });
        }
    }

    /// Notes that a participant has other lines than before; `tell`: that others are to hear of it.
    pub(super) fn on_lines_changed(&mut self, place: u32, tell: bool) {
        self.unrouted = true;
        self.on_muted(place, tell);
    }

    /// Notes that a participant muted something, or not any more.
    pub(super) fn on_muted(&mut self, place: u32, tell: bool) {
        self.stirred = true;
        if tell {
            self.note(Item::Changed(place));
        }
    }

    /// Returns, once, whether lines are to be pointed anew.
    pub(super) fn take_unrouted(&mut self) -> bool {
        std::mem::take(&mut self.unrouted)
    }

    fn note(&mut self, item: Item) -> u64 {
        self.number += 1;
        self.news.push((self.number, item));
        self.number
    }

    /// Returns when the next batch is due; `None` when nothing happened.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.stirred.then(|| self.told.map_or(now, |told| (told + BATCH).max(now)))
    }

    /// Begins a batch: [`Room::tell`] says what is in it, [`Room::close_batch`] ends it.
    pub(super) fn open_batch(&mut self, now: Instant) {
        self.told = Some(now);
        self.stirred = false;
    }

    /// Returns what somebody who knows the news up to `known` is to hear; `place` is their own.
    pub(super) fn tell(&self, place: u32, known: u64) -> Told {
        // By place: what became of it in this batch. A place may have been left and taken again.
        let mut fates: BTreeMap<u32, Vec<&Item>> = BTreeMap::new();
        let mut told = Told::default();
        let news = || self.news.iter().filter(|(number, _)| *number > known).map(|(_, item)| item);
        for item in news() {
            match item {
                Item::Joined(at) | Item::Left { place: at, .. } | Item::Changed(at) if *at == place => {}
                Item::Joined(at) => fates.entry(*at).or_default().push(item),
                Item::Left { place: at, id } => {
                    let fate = fates.entry(*at).or_default();
                    // Who came and went in one batch was never there.
                    if !fate.iter().any(|item| matches!(item, Item::Joined(_))) {
                        told.left.push(id.clone());
                    }
                    fate.clear();
                }
                Item::Changed(at) => fates.entry(*at).or_default().push(item),
            }
        }
        for item in news() {
            let (Item::Joined(at) | Item::Changed(at)) = item else { continue };
            let Some(fate) = fates.remove(at) else { continue };
            if fate.iter().any(|item| matches!(item, Item::Joined(_))) {
                told.joined.push(*at);
            } else if !fate.is_empty() {
                told.changed.push(*at);
            }
        }
        told
    }

    /// Returns whether somebody who knows the news up to `known` may share one message with others who do: nothing in
    /// the batch is about themselves or known to them.
    pub(super) fn shares(&self, place: u32, known: u64) -> bool {
        self.news.first().is_none_or(|(first, _)| known < *first)
            && !self.news.iter().any(|(_, item)| match item {
                Item::Joined(at) | Item::Changed(at) | Item::Left { place: at, .. } => *at == place,
            })
    }

    /// Forgets what was told and returns the number of the last of the news.
    pub(super) fn close_batch(&mut self) -> u64 {
        self.news.clear();
        self.number
    }
}

impl Told {
    /// Returns the messages that say it, none longer than a message may be.
    pub(super) fn messages(&self, describe: impl Fn(u32) -> Option<Participant>) -> Vec<Arc<ServerMessage>> {
        let mut messages = Vec::new();
        for left in self.left.chunks(PAGE) {
            messages.push(Arc::new(ServerMessage::Left { participants: left.to_vec() }));
        }
        for joined in self.joined.chunks(PAGE) {
            let participants = joined.iter().filter_map(|place| describe(*place)).collect();
            messages.push(Arc::new(ServerMessage::Joined { participants }));
        }
        for changed in self.changed.chunks(PAGE) {
            let participants = changed.iter().filter_map(|place| describe(*place)).collect();
            messages.push(Arc::new(ServerMessage::Sources { participants }));
        }
        messages
    }
}

/// Shortest time between two batches.
pub(super) const BATCH: Duration = Duration::from_millis(100);
/// Participants of one message: the longest names fit 200 times into the largest message.
pub(super) const PAGE: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Room {
        Room::new(RoomRef::Hidden(1))
    }

    fn told(joined: &[u32], left: &[&str], changed: &[u32]) -> Told {
        let left = left.iter().map(|id| (*id).to_owned()).collect();
        Told { joined: joined.to_vec(), left, changed: changed.to_vec() }
    }

    #[test]
    fn everybody_hears_what_they_do_not_know_and_nothing_of_themselves() {
        let mut room = room();
        let one = room.on_joined(1, true);
        let two = room.on_joined(2, true);
        room.on_muted(1, true);
        assert_eq!(room.tell(1, one), told(&[2], &[], &[]));
        assert_eq!(room.tell(2, two), told(&[], &[], &[1]));
        assert_eq!(room.tell(9, 0), told(&[1, 2], &[], &[]));
        assert!(!room.shares(1, one) && !room.shares(2, two) && room.shares(9, 0));
    }

    #[test]
    fn who_came_and_went_in_one_batch_was_never_there() {
        let mut room = room();
        room.on_joined(1, true);
        room.on_left(1, "a", true);
        assert_eq!(room.tell(9, 0), told(&[], &[], &[]));
        room.on_joined(1, true);
        assert_eq!(room.tell(9, 0), told(&[1], &[], &[]));
    }

    #[test]
    fn a_place_that_was_taken_again_is_left_and_joined() {
        let mut room = room();
        room.on_joined(1, true);
        room.close_batch();
        room.on_muted(1, true);
        room.on_left(1, "a", true);
        room.on_joined(1, true);
        assert_eq!(room.tell(9, 1), told(&[1], &["a"], &[]));
    }

    #[test]
    fn batches_are_at_least_100_ms_apart_and_the_first_is_at_once() {
        let start = crate::clock::now();
        let mut room = room();
        assert_eq!(room.due(start), None);
        room.on_joined(1, true);
        assert_eq!(room.due(start), Some(start));
        room.open_batch(start);
        room.close_batch();
        assert_eq!(room.due(start), None);
        room.on_joined(2, true);
        assert_eq!(room.due(start), Some(start + BATCH));
        assert_eq!(room.due(start + BATCH * 3), Some(start + BATCH * 3));
    }

    #[test]
    fn viewers_are_not_talked_about() {
        let mut room = room();
        let known = room.on_joined(1, false);
        room.on_left(1, "a", false);
        assert_eq!((known, room.tell(9, 0)), (0, Told::default()));
        assert!(room.due(crate::clock::now()).is_some());
    }
}
