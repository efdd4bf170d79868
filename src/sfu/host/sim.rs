//! Rooms of synthetic participants in memory: virtual time, a network that may lose, no sockets. For the tests.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::sfu::client::{Client, Said, Sent};
use crate::sfu::signalling::message::SlotSource;
use crate::wire::ufrag::UfragCodec;

pub(super) const SERVER: &str = "203.0.113.1:10000";
pub(super) const TICK: Duration = Duration::from_millis(5);
pub(super) const DELAY: Duration = Duration::from_millis(10);

/// What the worker does around the host: finds sessions by ufrag and flow, sends nothing to unchecked addresses.
pub(super) struct Net {
    pub(super) flows: BTreeMap<SocketAddr, SessionKey>,
    pub(super) to_clients: VecDeque<(Instant, SocketAddr, Vec<u8>)>,
    pub(super) to_server: VecDeque<(Instant, SocketAddr, Vec<u8>)>,
    pub(super) now: Instant,
    pub(super) loss: f64,
    pub(super) random: StdRng,
    // Datagrams that were refused because nothing had come from there.
    pub(super) refused: usize,
}

impl Net {
    pub(super) fn loses(&mut self, bytes: &[u8]) -> bool {
        // STUN and DTLS have their own repetition; here media is what matters.
        bytes[0] >= 128 && self.random.random_bool(self.loss)
    }
}

impl Outbox for Net {
    fn transmit(&mut self, session: SessionKey, to: SocketAddr, bytes: &[u8]) {
        if bytes.starts_with(&[1, 1]) {
            self.flows.insert(to, session);
        }
        if !self.flows.contains_key(&to) {
            self.refused += 1;
            return;
        }
        if !self.loses(bytes) {
            self.to_clients.push_back((self.now + DELAY, to, bytes.to_vec()));
        }
    }
}

pub(super) struct Sim {
    pub(super) host: SfuHost,
    pub(super) net: Net,
    pub(super) now: Instant,
    pub(super) people: Vec<Person>,
}

pub(super) struct Person {
    pub(super) client: Client,
    pub(super) address: SocketAddr,
    pub(super) session: SessionId,
    pub(super) id: String,
    pub(super) notices: mpsc::Receiver<Notice>,
    pub(super) heard: Vec<ServerMessage>,
    pub(super) bye: Option<Bye>,
    pub(super) packets: Vec<Got>,
    pub(super) keyframes_wanted: Vec<(Instant, Source, Option<String>)>,
    pub(super) sends: Vec<Source>,
    pub(super) seq: u64,
    pub(super) next_send: Instant,
    pub(super) keyframe_next: bool,
    pub(super) muted: bool,
    pub(super) rids: Vec<&'static str>,
    pub(super) is_up: bool,
    pub(super) gone: bool,
    pub(super) due: Instant,
}

/// One packet that a person got.
#[derive(Clone, Debug)]
pub(super) struct Got {
    pub(super) at: Instant,
    pub(super) mid: String,
    pub(super) ssrc: u32,
    pub(super) seq: u64,
    pub(super) time: u32,
    pub(super) payload: Vec<u8>,
    pub(super) audio_level: Option<i8>,
    pub(super) wire_rtx: bool,
}

impl Sim {
    pub(super) fn new() -> Self {
        Self::with_limits(SfuLimits::new(100))
    }

    pub(super) fn with_limits(limits: SfuLimits) -> Self {
        let now = crate::clock::now();
        let identity = WorkerIdentity {
            edge: 1,
            worker: 0,
            generation: 77,
            codec: Arc::new(UfragCodec::new([7; 16])),
            candidates: vec![SERVER.parse().unwrap()],
        };
        let net = Net {
            flows: BTreeMap::new(),
            to_clients: VecDeque::new(),
            to_server: VecDeque::new(),
            now,
            loss: 0.0,
            random: StdRng::seed_from_u64(0x51c3),
            refused: 0,
        };
        let host = SfuHost::new(identity, Engine::new().unwrap(), limits, now);
        Self { host, net, now, people: Vec::new() }
    }

    pub(super) fn command<T>(&mut self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> T {
        let (reply, mut answer) = oneshot::channel();
        let command = make(reply);
        self.host.handle_command(command, self.now, &mut self.net);
        answer.try_recv().expect("the host answers at once")
    }

    pub(super) fn try_join(
        &mut self,
        room: &str,
        role: Role,
    ) -> (Result<Joined, JoinFault>, mpsc::Receiver<Notice>) {
        let (notices, heard) = mpsc::channel(64);
        let join = Join { room: public(room), name: format!("person {}", self.people.len()), role, notices };
        (self.command(|reply| Command::Join { join, reply }), heard)
    }

    /// Joins with the given sources and receive lines, and returns the index of the person.
    pub(super) fn join(&mut self, room: &str, sends: &[Source], audio: u16, video: u16) -> usize {
        self.join_as(room, Role::Talker, sends, audio, video, &[])
    }

    pub(super) fn join_as(
        &mut self,
        room: &str,
        role: Role,
        sends: &[Source],
        audio: u16,
        video: u16,
        rids: &[&'static str],
    ) -> usize {
        let (joined, notices) = self.try_join(room, role);
        let joined = joined.unwrap();
        let index = self.people.len();
        let address = SocketAddr::from(([192, 0, 2, u8::try_from(index + 1).unwrap()], 5000));
        let mut client = Client::new(address, self.now);
        let (sdp, tracks) = client.offer(sends, audio, video, rids).unwrap();
        let answer =
            self.command(|reply| Command::Offer { session: joined.session, sdp, tracks, reply }).unwrap();
        client.answer(&answer).unwrap();
        self.people.push(Person {
            client,
            address,
            session: joined.session,
            id: joined.you,
            notices,
            heard: Vec::new(),
            bye: None,
            packets: Vec::new(),
            keyframes_wanted: Vec::new(),
            sends: sends.to_vec(),
            seq: 1000 * index as u64 + 1,
            next_send: self.now,
            keyframe_next: true,
            muted: false,
            rids: rids.to_vec(),
            is_up: false,
            gone: false,
            due: self.now,
        });
        index
    }

    pub(super) fn offer(&mut self, person: usize, offer: (String, Vec<Track>)) -> Result<String, OfferFault> {
        let session = self.people[person].session;
        let (sdp, tracks) = offer;
        self.command(|reply| Command::Offer { session, sdp, tracks, reply })
    }

    pub(super) fn leave(&mut self, person: usize) {
        let session = self.people[person].session;
        self.host.handle_command(Command::Leave { session }, self.now, &mut self.net);
        self.people[person].gone = true;
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += TICK;
            self.net.now = self.now;
            self.step();
        }
    }

    pub(super) fn step(&mut self) {
        let now = self.now;
        while self.net.to_server.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, from, bytes) = self.net.to_server.pop_front().unwrap();
            let key = match username(&bytes) {
                Some(ufrag) => self.host.identity.codec.decode(ufrag.as_bytes()).map(|u| SessionKey(u.nonce)),
                None => self.net.flows.get(&from).copied(),
            };
            let Some(key) = key else { continue };
            let asked: IpAddr = "10.0.0.5".parse().unwrap();
            let datagram = Datagram { source: from, asked, bytes: &bytes };
            if !self.host.handle_datagram(key, datagram, now, &mut self.net) {
                self.net.flows.retain(|_, k| *k != key);
            }
        }
        // As the worker does: once after a batch.
        if self.host.poll_timeout().is_some_and(|at| at <= now) {
            self.host.handle_timeout(now, &mut self.net);
        }
        let mut arrived: BTreeMap<SocketAddr, Vec<Vec<u8>>> = BTreeMap::new();
        while self.net.to_clients.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, to, bytes) = self.net.to_clients.pop_front().unwrap();
            arrived.entry(to).or_default().push(bytes);
        }
        for person in &mut self.people {
            for bytes in arrived.remove(&person.address).unwrap_or_default() {
                person.client.handle_datagram(SERVER.parse().unwrap(), &bytes, now);
                person.drain(now, &mut self.net, &bytes);
            }
            person.talk(now, &mut self.net);
            if !person.gone && person.due <= now {
                person.client.handle_timeout(now);
                person.drain(now, &mut self.net, &[]);
            }
            while let Ok(notice) = person.notices.try_recv() {
                match notice {
                    Notice::Message(message) => person.heard.push((*message).clone()),
                    Notice::Bye(bye) => person.bye = Some(bye),
                }
            }
        }
    }

    /// Whose payloads a person got, by sender and source letter.
    pub(super) fn got(&self, person: usize) -> BTreeMap<(u8, u8), usize> {
        let mut got = BTreeMap::new();
        for packet in &self.people[person].packets {
            *got.entry(signature(&packet.payload)).or_default() += 1;
        }
        got
    }

    pub(super) fn forget(&mut self) {
        self.people.iter_mut().for_each(|p| p.packets.clear());
    }
}

impl Person {
    /// Sends audio every 20 ms and video every 40 ms, two packets a frame.
    pub(super) fn talk(&mut self, now: Instant, net: &mut Net) {
        if !self.is_up || self.gone || self.muted || now < self.next_send {
            return;
        }
        self.next_send = now + Duration::from_millis(20);
        self.seq += 1;
        let me = self.address.port().to_be_bytes()[1] ^ octet(self.address);
        let time = u32::try_from(self.seq * 960).unwrap();
        for source in self.sends.clone() {
            match source {
                Source::Microphone => {
                    let payload = audio_payload(me, self.seq);
                    let seq = self.seq;
                    let sent = Sent { source, rid: None, seq, time, marker: false, payload: &payload };
                    self.client.send(&sent, now);
                    self.flush(now, net);
                }
                Source::Camera | Source::Screen => {
                    let layers: Vec<Option<&'static str>> = match source {
                        Source::Camera if !self.rids.is_empty() => {
                            self.rids.iter().map(|r| Some(*r)).collect()
                        }
                        Source::Camera | Source::Screen | Source::Microphone => vec![None],
                    };
                    for (layer, rid) in layers.into_iter().enumerate() {
                        let letter = letter(source) + u8::try_from(layer).unwrap();
                        let size = 200 * (layer + 1);
                        for part in 0..2 {
                            let key = self.keyframe_next && part == 0;
                            let payload = video_payload(me, letter, self.seq, key, part == 0, size);
                            let sent = Sent {
                                source,
                                rid,
                                seq: self.seq * 2 + part,
                                time: time * 2,
                                marker: part == 1,
                                payload: &payload,
                            };
                            self.client.send(&sent, now);
                            self.flush(now, net);
                        }
                    }
                }
            }
        }
        self.keyframe_next = false;
    }

    pub(super) fn flush(&mut self, now: Instant, net: &mut Net) {
        self.drain(now, net, &[]);
        self.client.handle_timeout(now);
        self.drain(now, net, &[]);
    }

    pub(super) fn drain(&mut self, now: Instant, net: &mut Net, wire: &[u8]) {
        loop {
            match self.client.poll() {
                Said::Transmit { bytes, .. } => {
                    if !self.gone && !net.loses(&bytes) {
                        net.to_server.push_back((now + DELAY, self.address, bytes));
                    }
                }
                Said::Received(packet) => {
                    let ssrc = *packet.header.ssrc;
                    self.packets.push(Got {
                        at: now,
                        mid: self.client.mid_of(ssrc).unwrap_or_default(),
                        ssrc,
                        seq: *packet.seq_no,
                        time: packet.header.timestamp,
                        payload: packet.payload.to_vec(),
                        audio_level: packet.header.ext_vals.audio_level,
                        wire_rtx: wire.len() > 12 && wire[8..12] != ssrc.to_be_bytes(),
                    });
                }
                Said::Connected => self.is_up = true,
                Said::KeyframeWanted { source, rid } => {
                    self.keyframes_wanted.push((now, source, rid));
                    self.keyframe_next = true;
                }
                Said::Closed => {}
                Said::Failed(reason) => panic!("{reason}"),
                Said::Timeout(at) => {
                    self.due = at;
                    return;
                }
            }
        }
    }

    pub(super) fn slots(&self) -> BTreeMap<String, Option<SlotSource>> {
        let mut slots = BTreeMap::new();
        for message in &self.heard {
            if let ServerMessage::Slots { slots: changed } = message {
                slots.extend(changed.iter().map(|s| (s.mid.clone(), s.from.clone())));
            }
        }
        slots
    }
}

pub(super) fn public(room: &str) -> RoomRef {
    RoomRef::Public(crate::rooms::RoomId {
        pool: "workers".into(),
        scope: "test".into(),
        key: crate::rooms::RoomKey::new(room).unwrap(),
    })
}

pub(super) fn octet(address: SocketAddr) -> u8 {
    match address.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    }
}

/// The number that a person's payloads carry.
pub(super) fn who(person: usize) -> u8 {
    5000u16.to_be_bytes()[1] ^ u8::try_from(person + 1).unwrap()
}

pub(super) fn letter(source: Source) -> u8 {
    match source {
        Source::Microphone => b'm',
        Source::Camera => b'c',
        Source::Screen => b's',
    }
}

pub(super) fn audio_payload(me: u8, seq: u64) -> Vec<u8> {
    let mut payload = vec![0xfc, me, b'm'];
    payload.extend(seq.to_be_bytes());
    payload
}

/// A VP8 payload with picture id and TL0PICIDX; the sender's number and the source's letter are at its end.
pub(super) fn video_payload(me: u8, letter: u8, seq: u64, key: bool, start: bool, size: usize) -> Vec<u8> {
    let picture = u16::try_from(seq & 0x7fff).unwrap().to_be_bytes();
    let first = if start { 0x90 } else { 0x80 };
    let mut payload =
        vec![first, 0xe0, 0x80 | picture[0], picture[1], 5, 0, u8::from(!key), 0, 0, 0x9d, 1, 0x2a];
    payload.resize(size, 0);
    payload.extend([me, letter]);
    payload
}

pub(super) fn signature(payload: &[u8]) -> (u8, u8) {
    match payload {
        [0xfc, me, b'm', ..] => (*me, b'm'),
        [.., me, letter] => (*me, *letter),
        _ => (0, 0),
    }
}

/// The server's part of the USERNAME of a STUN request.
pub(super) fn username(bytes: &[u8]) -> Option<String> {
    if bytes.first()? >= &2 {
        return None;
    }
    let mut rest = bytes.get(20..)?;
    while let [t1, t2, l1, l2, tail @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*l1, *l2]));
        let value = tail.get(..len)?;
        if [*t1, *t2] == [0, 6] {
            return Some(std::str::from_utf8(value).ok()?.split(':').next()?.to_owned());
        }
        rest = tail.get(len.next_multiple_of(4)..)?;
    }
    None
}
