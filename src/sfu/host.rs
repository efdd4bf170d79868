//! All rooms of one worker: the shell that joins sessions, rooms and the worker's loop.
//!
//! Runs on the worker's thread and owns everything here: no lock, no shared map. A packet is decrypted by its sender's
//! session, decided about once, and queued at each receiver's; receivers are driven once per batch, when the worker
//! calls [`Host::handle_timeout`]. Each session has one deadline in a heap: nobody is ticked because of others.

mod routing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;

use super::codec::PayloadView;
use super::command::{
    Bye, Command, Join, JoinFault, Joined, Notice, Role, RoomReport, SessionId, SfuReport, SfuTotals,
};
use super::engine::Engine;
use super::forward::{Incoming, StreamKey, Verdict};
use super::offer::{IceCredentials, Offer, OfferFault};
use super::room::{PAGE, Room, RoomRef};
use super::session::{Ended, Happened, Minted, Packet, Session};
use super::signalling::message::{Lines, Participant, ServerMessage, Source, SourceState, Track};
use super::slots::Kind;
use super::timers::Timers;
use crate::media::WorkerIdentity;
use crate::media::host::{Datagram, Host, Outbox, SessionKey};

/// Bounds of one worker's rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SfuLimits {
    /// Participants of the worker; a further one is refused.
    pub sessions_max: u32,
    /// Participants of one room; a further one is refused. Default 500.
    pub room_participants_max: u32,
}

impl SfuLimits {
    /// Sets the bound of a worker; rooms have the default.
    pub fn new(sessions_max: u32) -> Self {
        Self { sessions_max, room_participants_max: sessions_max.min(ROOM_PARTICIPANTS_MAX) }
    }
}

/// All rooms of one worker.
pub struct SfuHost {
    identity: WorkerIdentity,
    engine: Engine,
    limits: SfuLimits,
    // Slabs: a place is taken again when it is free.
    seats: Vec<Option<Seat>>,
    free_seats: Vec<u32>,
    keys: HashMap<SessionKey, u32>,
    rooms: Vec<Option<Room>>,
    free_rooms: Vec<u32>,
    places: HashMap<RoomRef, u32>,
    session_timers: Timers,
    room_timers: Timers,
    // Places with packets that wait to be sent.
    dirty: Vec<u32>,
    // Places whose session has ended.
    ended: Vec<u32>,
    // Taken and put back by `work`.
    happened: Vec<Happened>,
    serial: u64,
    key: u64,
    source: u64,
    hidden: u32,
    totals: SfuTotals,
    now: Instant,
    reported: Option<Instant>,
    // When to look for seats whose task is gone, and where to go on.
    look_due: Instant,
    look_from: usize,
}

/// One participant.
struct Seat {
    serial: u64,
    id: String,
    name: String,
    role: Role,
    room: u32,
    notices: tokio::sync::mpsc::Sender<Notice>,
    session: Option<Session>,
    muted: Vec<Source>,
    // News of the room up to here are known.
    known: u64,
    // Lines that were asked for.
    asked: Lines,
    is_dirty: bool,
}

impl Seat {
    fn describe(&self) -> Participant {
        let mut sources: Vec<Source> =
            self.session.iter().flat_map(|s| &s.sources).map(|line| line.source).collect();
        sources.sort_unstable();
        let state = |source| SourceState { source, muted: self.muted.contains(&source) };
        Participant {
            id: self.id.clone(),
            name: self.name.clone(),
            sources: sources.into_iter().map(state).collect(),
        }
    }

    /// Hands something to the participant's task. Returns whether it was taken.
    fn notify(&self, notice: Notice) -> bool {
        match self.notices.try_send(notice) {
            // A closed channel: `Leave` is on its way, or `look` finds the seat.
            Ok(()) | Err(TrySendError::Closed(_)) => true,
            Err(TrySendError::Full(_)) => false,
        }
    }
}

impl SfuHost {
    /// Creates an empty host. `engine` is shared by all workers.
    pub fn new(identity: WorkerIdentity, engine: Engine, limits: SfuLimits, now: Instant) -> Self {
        Self {
            identity,
            engine,
            limits,
            seats: Vec::new(),
            free_seats: Vec::new(),
            keys: HashMap::new(),
            rooms: Vec::new(),
            free_rooms: Vec::new(),
            places: HashMap::new(),
            session_timers: Timers::default(),
            room_timers: Timers::default(),
            dirty: Vec::new(),
            ended: Vec::new(),
            happened: Vec::new(),
            serial: 0,
            key: 0,
            source: 0,
            hidden: 0,
            totals: SfuTotals::default(),
            now,
            reported: None,
            look_due: now + LOOK_EVERY,
            look_from: 0,
        }
    }

    fn seat(&self, place: u32) -> Option<&Seat> {
        self.seats.get(place as usize)?.as_ref()
    }

    fn seat_mut(&mut self, place: u32) -> Option<&mut Seat> {
        self.seats.get_mut(place as usize)?.as_mut()
    }

    fn session_mut(&mut self, place: u32) -> Option<&mut Session> {
        self.seat_mut(place)?.session.as_mut()
    }

    fn room_mut(&mut self, room: u32) -> Option<&mut Room> {
        self.rooms.get_mut(room as usize)?.as_mut()
    }

    /// Returns the place of a session that is still there.
    fn find(&self, session: SessionId) -> Option<u32> {
        self.seat(session.place).filter(|seat| seat.serial == session.serial).map(|_| session.place)
    }

    // --- joining and leaving ---

    fn join(&mut self, join: Join) -> Result<Joined, JoinFault> {
        let is_hidden = matches!(join.room, RoomRef::Hidden(_));
        let taken = self.taken();
        let refused = if taken >= self.limits.sessions_max && !is_hidden {
            Some(JoinFault::WorkerFull)
        } else {
            let members =
                self.places.get(&join.room).and_then(|room| self.rooms.get(*room as usize)?.as_ref());
            let full =
                members.is_some_and(|room| room.members.len() >= self.limits.room_participants_max as usize);
            full.then_some(JoinFault::RoomFull)
        };
        if let Some(fault) = refused {
            self.totals.refused += 1;
            return Err(fault);
        }
        let room = match self.places.get(&join.room) {
            Some(room) => *room,
            None => {
                let room = insert(&mut self.rooms, &mut self.free_rooms, Room::new(join.room.clone()));
                self.places.insert(join.room, room);
                room
            }
        };
        self.serial += 1;
        let is_listed = join.role.is_listed();
        let seat = Seat {
            serial: self.serial,
            id: participant_id(),
            name: join.name,
            role: join.role,
            room,
            notices: join.notices,
            session: None,
            muted: Vec::new(),
            known: 0,
            asked: Lines { audio: 0, video: 0 },
            is_dirty: false,
        };
        let you = seat.id.clone();
        let place = insert(&mut self.seats, &mut self.free_seats, seat);
        if is_hidden {
            self.hidden += 1;
        } else {
            self.totals.joined += 1;
        }
        let members = self.room_mut(room).map(|r| r.members.clone()).unwrap_or_default();
        let participants: Vec<Participant> = members
            .iter()
            .filter_map(|member| self.seat(*member))
            .filter(|seat| seat.role.is_listed())
            .map(Seat::describe)
            .collect();
        let known = self.room_mut(room).map_or(0, |r| r.on_joined(place, is_listed));
        let lines = self.lines_for_new(&members);
        if let Some(seat) = self.seat_mut(place) {
            seat.known = known;
            seat.asked = lines;
        }
        self.stir(room);
        let session = SessionId { place, serial: self.serial };
        Ok(Joined { session, you, participants, lines })
    }

    /// Returns how many participants count towards the bound.
    fn taken(&self) -> u32 {
        let seats = self.seats.len() - self.free_seats.len();
        u32::try_from(seats).unwrap_or(u32::MAX).saturating_sub(self.hidden)
    }

    fn leave(&mut self, place: u32, now: Instant, out: &mut dyn Outbox) {
        let Some(mut seat) = self.seats.get_mut(place as usize).and_then(Option::take) else { return };
        self.free_seats.push(place);
        self.session_timers.set(place, None);
        if let Some(session) = &mut seat.session {
            let mut ignored = Vec::new();
            session.close(now, out, &mut ignored);
            for key in session.keys() {
                self.keys.remove(&key);
            }
        }
        let is_listed = seat.role.is_listed();
        let Some(room) = self.room_mut(seat.room) else { return };
        room.on_left(place, &seat.id, is_listed);
        let (is_empty, is_hidden) = (room.members.is_empty(), room.is_hidden());
        if is_hidden {
            self.hidden -= 1;
        }
        if is_empty {
            self.room_timers.set(seat.room, None);
            if let Some(room) = self.rooms.get_mut(seat.room as usize).and_then(Option::take) {
                self.places.remove(&room.key);
                self.free_rooms.push(seat.room);
            }
        } else {
            self.stir(seat.room);
        }
    }

    /// Ends those whose session has ended, or who do not listen.
    fn reap(&mut self, now: Instant, out: &mut dyn Outbox) {
        while let Some(place) = self.ended.pop() {
            let Some(seat) = self.seat(place) else { continue };
            match seat.session.as_ref().and_then(Session::ended) {
                Some(ended) => {
                    let bye = match ended {
                        Ended::Panic | Ended::Engine => Bye::Fault,
                        Ended::Closed => Bye::Closed,
                        Ended::Silent => Bye::Silent,
                    };
                    seat.notify(Notice::Bye(bye));
                    match ended {
                        Ended::Panic => self.totals.ended_panic += 1,
                        Ended::Engine => self.totals.ended_engine += 1,
                        Ended::Closed => self.totals.ended_closed += 1,
                        Ended::Silent => self.totals.ended_silent += 1,
                    }
                }
                None => self.totals.ended_slow += 1,
            }
            self.leave(place, now, out);
        }
    }

    /// Ends seats whose task is gone without a `Leave` that arrived: the queue was full. Some at a time.
    fn look(&mut self, now: Instant, out: &mut dyn Outbox) {
        self.look_due = now + LOOK_EVERY;
        for _ in 0..LOOKS_MAX.min(self.seats.len()) {
            let place = self.look_from % self.seats.len();
            self.look_from = place + 1;
            if self.seats[place].as_ref().is_some_and(|seat| seat.notices.is_closed()) {
                self.totals.ended_lost += 1;
                self.leave(u32::try_from(place).expect("places are u32"), now, out);
            }
        }
    }

    // --- offers ---

    fn offer(&mut self, place: u32, sdp: &str, tracks: &[Track], now: Instant) -> Result<String, OfferFault> {
        let offer = Offer::read(sdp)?;
        let mut seat =
            self.seats.get_mut(place as usize).and_then(Option::take).ok_or(OfferFault::NoLines)?;
        let before = seat.describe();
        let answer = match &mut seat.session {
            Some(session) => {
                let (key, identity) = (&mut self.key, &self.identity);
                let mut minted = None;
                let mint = || {
                    let fresh = mint(identity, key);
                    minted = Some(fresh.key);
                    fresh
                };
                let answer = session.offer(offer, tracks, &mut self.source, mint);
                if let Some(key) = minted {
                    self.keys.insert(key, place);
                    self.totals.ice_restarts += 1;
                }
                while let Some(key) = session.take_retired(now) {
                    self.keys.remove(&key);
                }
                answer
            }
            None => {
                let minted = mint(&self.identity, &mut self.key);
                let key = minted.key;
                let candidates = &self.identity.candidates;
                Session::new(&self.engine, minted, candidates, offer, tracks, &mut self.source, now).map(
                    |(session, answer)| {
                        self.keys.insert(key, place);
                        seat.session = Some(session);
                        answer
                    },
                )
            }
        };
        let (room, is_listed, has_changed) = (seat.room, seat.role.is_listed(), seat.describe() != before);
        if let Some(seats) = self.seats.get_mut(place as usize) {
            *seats = Some(seat);
        }
        if let Some(room) = self.room_mut(room) {
            room.on_lines_changed(place, is_listed && has_changed);
        }
        self.stir(room);
        self.settle(place);
        answer
    }

    // --- media ---

    /// Works off what a session has to say.
    fn work(&mut self, place: u32, now: Instant, out: &mut dyn Outbox, happened: &mut Vec<Happened>) {
        // Writing to a receiver may make it speak as well.
        let mut later: Vec<(u32, Happened)> = Vec::new();
        for event in happened.drain(..) {
            self.on_happened(place, event, now, out, &mut later);
        }
        while let Some((place, event)) = later.pop() {
            let mut further = Vec::new();
            self.on_happened(place, event, now, out, &mut further);
            later.append(&mut further);
        }
        self.settle(place);
    }

    fn on_happened(
        &mut self,
        place: u32,
        event: Happened,
        now: Instant,
        out: &mut dyn Outbox,
        later: &mut Vec<(u32, Happened)>,
    ) {
        match event {
            Happened::Packet(packet) => self.forward(place, &packet, now, out, later),
            Happened::NeedsKeyframe(mid) => {
                let from = self.session_mut(place).and_then(|session| session.source_of(mid));
                if let Some(number) = from
                    && let Some((sender, line)) = self.locate(place, number)
                {
                    self.want_keyframe(sender, line, None, now);
                }
            }
            // Until now, what was written to them was dropped: begin at keyframes.
            Happened::Connected => {
                let wanted =
                    self.session_mut(place).map(|s| s.carried().collect::<Vec<_>>()).unwrap_or_default();
                for number in wanted {
                    if let Some((sender, line)) = self.locate(place, number) {
                        self.want_keyframe(sender, line, None, now);
                    }
                }
            }
        }
    }

    /// Forwards one packet to all who are to have it.
    fn forward(
        &mut self,
        place: u32,
        packet: &Packet,
        now: Instant,
        out: &mut dyn Outbox,
        later: &mut Vec<(u32, Happened)>,
    ) {
        let ssrc = *packet.rtp.header.ssrc;
        let bytes = packet.rtp.payload.len() as u64;
        self.totals.packets_in += 1;
        let Some(view) = PayloadView::read(packet.codec, &packet.rtp.payload) else {
            self.totals.malformed += 1;
            return;
        };
        let Some(seat) = self.seats.get_mut(place as usize).and_then(Option::as_mut) else { return };
        let room = seat.room;
        let Some(session) = &mut seat.session else { return };
        if view.keyframe {
            session.on_keyframe(packet.line, ssrc);
        }
        let Some(line) = session.sources.get_mut(packet.line) else { return };
        line.layers.on_packet(ssrc, packet.rtp.payload.len(), view.pixels, now);
        let incoming = Incoming {
            stream: StreamKey { source: line.number, ssrc },
            wanted: line.layers.target() == Some(ssrc),
            seq: *packet.rtp.seq_no,
            time: packet.rtp.header.timestamp,
            codec: packet.codec,
            view,
            now,
        };
        let number = line.number;
        let receivers = std::mem::take(&mut line.receivers);
        let mut is_awaited = false;
        let (mut sent, mut sent_bytes) = (0, 0);
        let mut events = Vec::new();
        for (receiver, slot) in &receivers {
            let Some(seat) = self.seats.get_mut(*receiver as usize).and_then(Option::as_mut) else {
                continue;
            };
            let Some(session) = seat.session.as_mut().filter(|s| s.is_connected()) else { continue };
            let Some(rewriter) = session.slots.get_mut(*slot).filter(|s| s.from == Some(number)) else {
                continue;
            };
            match rewriter.rewriter.rewrite(&incoming) {
                Verdict::Forward(outgoing) => {
                    if session.write(*slot, packet, outgoing, now, out, &mut events) {
                        sent += 1;
                        sent_bytes += bytes;
                    } else {
                        self.totals.unwritten += 1;
                    }
                    later.extend(events.drain(..).map(|event| (*receiver, event)));
                    if session.ended().is_some() {
                        self.ended.push(*receiver);
                    } else if !seat.is_dirty {
                        seat.is_dirty = true;
                        self.dirty.push(*receiver);
                    }
                }
                Verdict::AwaitKeyframe => is_awaited = true,
                Verdict::Drop => {}
            }
        }
        if let Some(line) = self.session_mut(place).and_then(|s| s.sources.get_mut(packet.line)) {
            line.receivers = receivers;
        }
        self.totals.packets_out += sent;
        if let Some(room) = self.room_mut(room) {
            room.traffic.packets_in += 1;
            room.traffic.bytes_in += bytes;
            room.traffic.packets_out += sent;
            room.traffic.bytes_out += sent_bytes;
        }
        if is_awaited {
            self.want_keyframe(place, packet.line, Some(ssrc), now);
        }
    }

    fn want_keyframe(&mut self, sender: u32, line: usize, ssrc: Option<u32>, now: Instant) {
        self.totals.keyframes_wanted += 1;
        let Some(session) = self.session_mut(sender) else { return };
        if session.sources.get(line).is_none_or(|line| line.kind == Kind::Audio) {
            return;
        }
        session.request_keyframe(line, ssrc, now);
        self.settle(sender);
    }

    /// Finds who sends a source that somebody in the same room receives.
    fn locate(&self, receiver: u32, number: u64) -> Option<(u32, usize)> {
        let room = self.rooms.get(self.seat(receiver)?.room as usize)?.as_ref()?;
        room.members.iter().find_map(|member| {
            let session = self.seat(*member)?.session.as_ref()?;
            Some((*member, session.sources.iter().position(|line| line.number == number)?))
        })
    }

    /// Brings a session's deadline and marks in step with what it says.
    fn settle(&mut self, place: u32) {
        let Some(seat) = self.seats.get_mut(place as usize).and_then(Option::as_mut) else { return };
        let Some(session) = &mut seat.session else { return };
        self.totals.keyframes_asked += std::mem::take(&mut session.keyframes_asked);
        if session.ended().is_some() {
            self.ended.push(place);
            return;
        }
        if session.is_dirty() && !seat.is_dirty {
            seat.is_dirty = true;
            self.dirty.push(place);
        }
        self.session_timers.set(place, Some(session.due()));
    }

    /// Drives one session: timers, and what waits to be sent.
    fn drive(&mut self, place: u32, now: Instant, out: &mut dyn Outbox) {
        let mut happened = std::mem::take(&mut self.happened);
        if let Some(seat) = self.seat_mut(place) {
            seat.is_dirty = false;
            if let Some(session) = &mut seat.session {
                session.handle_timeout(now, out, &mut happened);
                while let Some(key) = self.session_mut(place).and_then(|s| s.take_retired(now)) {
                    self.keys.remove(&key);
                }
                self.work(place, now, out, &mut happened);
            }
        }
        self.happened = happened;
    }
}

impl Host for SfuHost {
    type Command = Command;
    type Report = SfuReport;

    fn handle_datagram(
        &mut self,
        session: SessionKey,
        datagram: Datagram<'_>,
        now: Instant,
        out: &mut dyn Outbox,
    ) -> bool {
        self.now = now;
        let Some(place) = self.keys.get(&session).copied() else { return false };
        let mut happened = std::mem::take(&mut self.happened);
        if let Some(found) = self.session_mut(place) {
            found.handle_datagram(session, datagram, now, out, &mut happened);
            self.work(place, now, out, &mut happened);
        }
        self.happened = happened;
        if !self.ended.is_empty() {
            self.reap(now, out);
        }
        self.keys.contains_key(&session)
    }

    fn handle_command(&mut self, command: Command, now: Instant, out: &mut dyn Outbox) {
        self.now = now;
        match command {
            Command::Join { join, reply } => {
                let hears = join.role.hears();
                match self.join(join) {
                    Ok(mut joined) => {
                        let session = joined.session;
                        // A large room comes in pages: the first with the welcome.
                        let rest = joined.participants.split_off(joined.participants.len().min(PAGE));
                        if reply.send(Ok(joined)).is_err() {
                            self.leave(session.place, now, out);
                        } else if hears && let Some(seat) = self.seat(session.place) {
                            for page in rest.chunks(PAGE) {
                                let message = ServerMessage::Joined { participants: page.to_vec() };
                                seat.notify(Notice::Message(Arc::new(message)));
                            }
                        }
                    }
                    Err(fault) => {
                        let _ = reply.send(Err(fault));
                    }
                }
            }
            Command::Offer { session, sdp, tracks, reply } => {
                let answer = match self.find(session) {
                    Some(place) => self.offer(place, &sdp, &tracks, now),
                    None => Err(OfferFault::Engine("the session has ended".to_owned())),
                };
                self.totals.offers_refused += u64::from(answer.is_err());
                // The asker may have gone; then `Leave` follows.
                let _ = reply.send(answer);
            }
            Command::Mute { session, source, muted } => {
                let Some(place) = self.find(session) else { return };
                let Some(seat) = self.seat_mut(place) else { return };
                if seat.muted.contains(&source) == muted {
                    return;
                }
                seat.muted.retain(|known| *known != source);
                if muted {
                    seat.muted.push(source);
                }
                let (room, is_listed) = (seat.room, seat.role.is_listed());
                if let Some(room) = self.room_mut(room) {
                    room.on_muted(place, is_listed);
                }
                self.stir(room);
            }
            Command::Leave { session } => {
                if let Some(place) = self.find(session) {
                    self.leave(place, now, out);
                }
            }
        }
        self.reap(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if !self.dirty.is_empty() {
            return Some(self.now);
        }
        let look = (self.seats.len() > self.free_seats.len()).then_some(self.look_due);
        [self.session_timers.next(), self.room_timers.next(), look].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut dyn Outbox) {
        self.now = now;
        while let Some(room) = self.room_timers.pop_due(now) {
            self.batch(room, now);
        }
        // Bounded: what still waits after so many rounds is taken up in the next turn.
        for _ in 0..ROUNDS_MAX {
            let mut dirty = std::mem::take(&mut self.dirty);
            for place in dirty.drain(..) {
                self.drive(place, now, out);
            }
            if self.dirty.is_empty() {
                // Keeps the allocation.
                self.dirty = dirty;
                break;
            }
        }
        let mut budget = self.seats.len();
        while budget > 0
            && let Some(place) = self.session_timers.pop_due(now)
        {
            budget -= 1;
            self.drive(place, now, out);
        }
        if self.look_due <= now {
            self.look(now, out);
        }
        self.reap(now, out);
    }

    fn stop(&mut self, now: Instant, out: &mut dyn Outbox) {
        self.now = now;
        for place in 0..self.seats.len() {
            let place = u32::try_from(place).expect("a worker has fewer than 2^32 participants");
            self.leave(place, now, out);
        }
    }

    fn report(&mut self, now: Instant) -> SfuReport {
        let since =
            self.reported.replace(now).map_or(Duration::from_secs(1), |then| now.duration_since(then));
        let seconds = since.as_secs_f64().max(0.001);
        let mut report = SfuReport { totals: self.totals, ..SfuReport::default() };
        for index in 0..self.rooms.len() {
            let Some(room) = self.rooms[index].as_mut() else { continue };
            let traffic = std::mem::take(&mut room.traffic);
            let RoomRef::Public(id) = &room.key else { continue };
            let id = id.clone();
            let all = room.members.len();
            let members = self.rooms[index].iter().flat_map(|room| &room.members);
            let listed = members.filter(|m| self.seat(**m).is_some_and(|seat| seat.role.is_listed())).count();
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            #[expect(clippy::cast_precision_loss, reason = "rates are for people to read")]
            let rate = |n: u64| n as f64 / seconds;
            report.participants += count(all);
            report.rooms.push(RoomReport {
                room: id,
                participants: count(listed),
                viewers: count(all - listed),
                packets_in: rate(traffic.packets_in),
                bits_in: rate(traffic.bytes_in * 8),
                packets_out: rate(traffic.packets_out),
                bits_out: rate(traffic.bytes_out * 8),
            });
        }
        report
    }
}

/// Puts something on a free place of a slab, or on a new one.
fn insert<T>(slab: &mut Vec<Option<T>>, free: &mut Vec<u32>, value: T) -> u32 {
    match free.pop() {
        Some(place) => {
            slab[place as usize] = Some(value);
            place
        }
        None => {
            slab.push(Some(value));
            u32::try_from(slab.len() - 1).expect("a worker has fewer than 2^32 participants")
        }
    }
}

/// Makes the next ICE credentials: the key is in the ufrag, the password is random.
fn mint(identity: &WorkerIdentity, key: &mut u64) -> Minted {
    // 40 bits, counted up: half a million years at one a second and millisecond.
    *key = (*key + 1) & KEY_MASK;
    let minted = SessionKey(*key);
    let pwd = random_text(PWD_CHARS);
    Minted { key: minted, ice: IceCredentials { ufrag: identity.mint(minted), pwd } }
}

fn participant_id() -> String {
    random_text(ID_CHARS).to_ascii_lowercase()
}

/// Returns random letters and digits, 5.95 bits each.
fn random_text(chars: usize) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    (0..chars).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

/// Seats are looked at this often, so many at a time: a worker that is full has seen all of them after 4 s.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOKS_MAX: usize = 512;
/// Default bound of one room.
const ROOM_PARTICIPANTS_MAX: u32 = 500;
/// Rounds of sending in one turn: sending may make others want to send.
const ROUNDS_MAX: usize = 4;
const KEY_MASK: u64 = (1 << 40) - 1;
// RFC 8445 section 5.3 asks for 128 bits; this is 178.
const PWD_CHARS: usize = 30;
const ID_CHARS: usize = 12;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
