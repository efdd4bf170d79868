//! Who hears of whom in a room, and whose lines carry whom: what a worker does once per batch and room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::{Seat, SfuHost};
use crate::sfu::command::{Notice, Role};
use crate::sfu::room::Room;
use crate::sfu::signalling::message::{LINES_ASKED_MAX, Lines, ServerMessage, Slot, SlotSource, Source};
use crate::sfu::slots::{Kind, Line, Offered, Offering, lines_for};

/// Where the sources of a room come from: participant, index of the line, what it carries.
type Owners = BTreeMap<u64, (u32, usize, Source)>;

impl SfuHost {
    /// Sees to it that the room's next batch is made.
    pub(super) fn stir(&mut self, room: u32) {
        let now = self.now;
        let due = self.room_mut(room).and_then(|r| r.due(now));
        self.room_timers.set(room, due);
    }

    /// Tells everybody in a room what happened and points their lines at whom they are to see.
    pub(super) fn batch(&mut self, number: u32, now: Instant) {
        let Some(mut room) = self.rooms.get_mut(number as usize).and_then(Option::take) else { return };
        room.open_batch(now);
        self.tell(&room);
        let known = room.close_batch();
        for member in &room.members {
            if let Some(seat) = self.seat_mut(*member) {
                seat.known = known;
            }
        }
        if room.take_unrouted() {
            self.route(&room, now);
            self.ask_lines(&room);
        }
        if let Some(rooms) = self.rooms.get_mut(number as usize) {
            *rooms = Some(room);
        }
    }

    fn tell(&mut self, room: &Room) {
        let describe = |place| self.seat(place).map(Seat::describe);
        let common = room.tell(u32::MAX, 0).messages(describe);
        let mut slow = Vec::new();
        for member in &room.members {
            let Some(seat) = self.seat(*member).filter(|seat| seat.role.hears()) else { continue };
            let is_taken = if room.shares(*member, seat.known) {
                common.iter().all(|message| seat.notify(Notice::Message(Arc::clone(message))))
            } else {
                let own = room.tell(*member, seat.known).messages(describe);
                own.into_iter().all(|message| seat.notify(Notice::Message(message)))
            };
            if !is_taken {
                slow.push(*member);
            }
        }
        self.ended.append(&mut slow);
    }

    /// Points all receive lines of a room at sources, and the sources back at them.
    fn route(&mut self, room: &Room, now: Instant) {
        let mut offered = Vec::new();
        let mut owners = Owners::new();
        for member in &room.members {
            let Some(session) = self.session_mut(*member) else { continue };
            for (index, line) in session.sources.iter_mut().enumerate() {
                line.receivers.clear();
                offered.push((line.source, Offered { source: line.number, owner: *member, kind: line.kind }));
                owners.insert(line.number, (*member, index, line.source));
            }
        }
        // Screens are what everybody is there to look at. The sort is stable: otherwise the order of coming.
        offered.sort_by_key(|(source, _)| *source != Source::Screen);
        let offering = Offering::new(offered.into_iter().map(|(_, offered)| offered).collect());

        let mut wanted = Vec::new();
        let mut receivers = Vec::new();
        for member in &room.members {
            let only = match self.seat(*member).map(|seat| &seat.role) {
                Some(Role::Viewer { only: Some(id) }) => {
                    let named = |place: &&u32| self.seat(**place).is_some_and(|seat| seat.id == *id);
                    Some(room.members.iter().find(named).copied().unwrap_or(u32::MAX))
                }
                Some(Role::Viewer { only: None } | Role::Talker | Role::Ingest) | None => None,
            };
            let Some(session) = self.session_mut(*member) else { continue };
            let lines: Vec<Line> =
                session.slots.iter().map(|slot| Line { kind: slot.kind, from: slot.from }).collect();
            let changes = offering.assign(&lines, *member, only);
            for (index, from) in &changes {
                let slot = &mut session.slots[*index];
                slot.from = *from;
                slot.rewriter.stop();
                wanted.extend(from.iter().copied());
            }
            let carried = session.slots.iter().enumerate();
            receivers.extend(carried.filter_map(|(index, slot)| Some((slot.from?, *member, index))));
            self.announce(*member, &changes, &owners);
        }
        for (number, receiver, slot) in receivers {
            let Some((owner, line, _)) = owners.get(&number) else { continue };
            if let Some(line) = self.session_mut(*owner).and_then(|s| s.sources.get_mut(*line)) {
                line.receivers.push((receiver, slot));
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        for number in wanted {
            if let Some((owner, line, _)) = owners.get(&number) {
                self.want_keyframe(*owner, *line, None, now);
            }
        }
    }

    /// Tells a participant which of their lines carry somebody else now.
    fn announce(&mut self, place: u32, changes: &[(usize, Option<u64>)], owners: &Owners) {
        let Some(seat) = self.seat(place).filter(|seat| seat.role.hears() && !changes.is_empty()) else {
            return;
        };
        let Some(session) = &seat.session else { return };
        let from = |number: u64| {
            let (owner, _, source) = owners.get(&number)?;
            Some(SlotSource { participant: self.seat(*owner)?.id.clone(), source: *source })
        };
        let slots = changes
            .iter()
            .filter_map(|(index, number)| {
                Some(Slot { mid: session.slots.get(*index)?.name.clone(), from: number.and_then(from) })
            })
            .collect();
        if !seat.notify(Notice::Message(Arc::new(ServerMessage::Slots { slots }))) {
            self.ended.push(place);
        }
    }

    /// Asks participants for more lines where the room has outgrown theirs.
    fn ask_lines(&mut self, room: &Room) {
        let all = self.sources_of(&room.members);
        for member in &room.members {
            let own = self.sources_of(&[*member]);
            let needed = needed([all[0] - own[0], all[1] - own[1]]);
            let Some(seat) = self.seat_mut(*member).filter(|seat| seat.role.hears()) else { continue };
            let Some(session) = &seat.session else { continue };
            let present = |kind: Kind| session.slots.iter().filter(|slot| slot.kind == kind).count();
            let is_short = |kind, needed: u16| present(kind) < usize::from(needed);
            let is_more = needed.audio > seat.asked.audio || needed.video > seat.asked.video;
            if is_more && (is_short(Kind::Audio, needed.audio) || is_short(Kind::Video, needed.video)) {
                seat.asked = needed;
                if !seat.notify(Notice::Message(Arc::new(ServerMessage::Lines { lines: needed }))) {
                    self.ended.push(*member);
                }
            }
        }
    }

    /// Returns how many lines somebody needs who is about to enter.
    pub(super) fn lines_for_new(&self, members: &[u32]) -> Lines {
        needed(self.sources_of(members))
    }

    /// Counts the audio and video sources of some participants.
    fn sources_of(&self, members: &[u32]) -> [usize; 2] {
        let mut counts = [0, 0];
        let sessions = members.iter().filter_map(|member| self.seat(*member)?.session.as_ref());
        for line in sessions.flat_map(|session| &session.sources) {
            match line.kind {
                Kind::Audio => counts[0] += 1,
                Kind::Video => counts[1] += 1,
            }
        }
        counts
    }
}

fn needed([audio, video]: [usize; 2]) -> Lines {
    Lines { audio: lines_for(audio, LINES_ASKED_MAX.audio), video: lines_for(video, LINES_ASKED_MAX.video) }
}
