//! The relay's rules one by one, then all at once in a seeded simulation against a shadow model.

use std::collections::BTreeMap;

use super::*;
use crate::clock;
use crate::wire::ufrag::Ufrag;

const EDGE: u16 = 7;
const GENERATION: u32 = 0x00AB_CDEF;
const WORKERS: u8 = 3;
const LIMITS: RelayLimits = RelayLimits { flows_max: 64, pending_max: 32 };

fn codec() -> Arc<UfragCodec> {
    Arc::new(UfragCodec::new([5; 16]))
}

fn identity(worker: u8) -> WorkerIdentity {
    WorkerIdentity { edge: EDGE, worker, generation: GENERATION, codec: codec(), candidates: Vec::new() }
}

fn relay(worker: u8) -> Relay {
    Relay::new(&identity(worker), WORKERS, LIMITS)
}

fn ufrag(worker: u8, key: u64) -> String {
    identity(worker).mint(SessionKey(key))
}

fn tid(n: u64) -> TransactionId {
    let mut id = [0; 12];
    id[..8].copy_from_slice(&n.to_be_bytes());
    TransactionId(id)
}

fn stun(kind: u16, transaction: TransactionId, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (attribute, value) in attributes {
        body.extend(attribute.to_be_bytes());
        body.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend([0x21, 0x12, 0xA4, 0x42]);
    bytes.extend(transaction.0);
    bytes.extend(body);
    bytes
}

fn request(server: &str, transaction: TransactionId, nominates: bool) -> Vec<u8> {
    let username = format!("{server}:peer");
    let mut attributes = vec![(0x0006, username.as_bytes())];
    if nominates {
        attributes.push((0x0025, &[][..]));
    }
    stun(0x0001, transaction, &attributes)
}

fn success(transaction: TransactionId) -> Vec<u8> {
    stun(0x0101, transaction, &[])
}

const MEDIA: &[u8] = &[0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xAA];

fn tuple(source: u16, asked: u8) -> Tuple {
    Tuple {
        source: SocketAddr::from(([192, 0, 2, 1], source)),
        asked: IpAddr::from([203, 0, 113, asked]),
        socket: 0,
    }
}

fn input(tuple: Tuple, bytes: &[u8]) -> Input<'_> {
    Input { tuple, via: None, bytes }
}

fn at(start: Instant, seconds: f64) -> Instant {
    start + Duration::from_secs_f64(seconds)
}

/// Asks and answers one check.
fn validate(relay: &mut Relay, tuple: Tuple, key: u64, now: Instant) {
    let own = ufrag(relay.worker, key);
    let verdict = relay.handle(input(tuple, &request(&own, tid(key), false)), now);
    assert_eq!(verdict, Verdict::Deliver(SessionKey(key)));
    let egress = relay.on_transmit(SessionKey(key), tuple.source, &success(tid(key)), now);
    assert_eq!(egress, Egress::Send { asked: tuple.asked, socket: tuple.socket });
}

const NO_FLOW: Verdict = Verdict::Drop(DropReason::NoFlow);
const UNVALIDATED: Egress = Egress::Drop(DropReason::Unvalidated);

#[test]
fn ufrag_decides_whose_a_check_is() {
    let start = clock::now();
    let mut relay = relay(1);
    let other =
        |edge, generation, worker| codec().encode(&Ufrag { edge, worker, flags: 0, generation, nonce: 4 });
    let forged = UfragCodec::new([6; 16]).encode(&Ufrag {
        edge: EDGE,
        worker: 1,
        flags: 0,
        generation: GENERATION,
        nonce: 4,
    });
    for (server, verdict) in [
        (ufrag(1, 4), Verdict::Deliver(SessionKey(4))),
        (ufrag(2, 4), Verdict::Ring(2)),
        (ufrag(0, 4), Verdict::Ring(0)),
        (ufrag(3, 4), Verdict::Drop(DropReason::NoWorker)),
        (other(8, GENERATION, 1), Verdict::Drop(DropReason::WrongEdge)),
        (other(EDGE, GENERATION - 1, 1), Verdict::Drop(DropReason::OldGeneration)),
        (forged, Verdict::Drop(DropReason::Forged)),
        ("short".to_owned(), Verdict::Drop(DropReason::Forged)),
    ] {
        let check = request(&server, tid(1), false);
        assert_eq!(relay.handle(input(tuple(9, 1), &check), start), verdict, "{server}");
    }
    assert_eq!(relay.pending(), 1);
}

#[test]
fn classes_and_broken_datagrams_are_told_apart() {
    let start = clock::now();
    let mut relay = relay(1);
    validate(&mut relay, tuple(9, 1), 4, start);
    let deliver = Verdict::Deliver(SessionKey(4));
    let malformed = Verdict::Drop(DropReason::Malformed);
    let unknown = Verdict::Drop(DropReason::UnknownClass);
    for (bytes, verdict) in [
        (MEDIA, deliver),
        (&MEDIA[..11], malformed),
        (&[0x80, 200, 0, 1, 0, 0, 0, 1], deliver),
        (&[0x80, 200, 0, 9, 0, 0, 0, 1], malformed),
        (&[22; 13], deliver),
        (&[22; 12], malformed),
        (&[0, 1, 0, 0], malformed),
        (&stun(0x0011, tid(1), &[]), deliver),
        (&stun(0x0001, tid(1), &[]), deliver),
        (&[64, 0, 0, 0], unknown),
        (&[0xC0; 40], unknown),
        (&[], unknown),
    ] {
        assert_eq!(relay.handle(input(tuple(9, 1), bytes), start), verdict, "{bytes:?}");
    }
    let nobody = Tuple { source: SocketAddr::from(([192, 0, 2, 1], 0)), ..tuple(9, 1) };
    assert_eq!(relay.handle(input(nobody, MEDIA), start), malformed);
}

#[test]
fn nothing_moves_before_the_hosts_answer() {
    let start = clock::now();
    let mut relay = relay(1);
    let (here, key) = (tuple(9, 1), SessionKey(4));
    assert_eq!(relay.on_transmit(key, here.source, MEDIA, start), UNVALIDATED);
    let check = request(&ufrag(1, 4), tid(1), false);
    assert_eq!(relay.handle(input(here, &check), start), Verdict::Deliver(key));
    assert_eq!(relay.handle(input(here, MEDIA), start), NO_FLOW);
    assert_eq!(relay.on_transmit(key, here.source, MEDIA, start), UNVALIDATED);
    // Neither an error nor another's answer nor one to another address is the answer.
    assert_eq!(relay.on_transmit(key, here.source, &stun(0x0111, tid(1), &[]), start), UNVALIDATED);
    assert_eq!(relay.on_transmit(key, here.source, &success(tid(2)), start), UNVALIDATED);
    assert_eq!(relay.on_transmit(SessionKey(5), here.source, &success(tid(1)), start), UNVALIDATED);
    assert_eq!(relay.on_transmit(key, tuple(10, 1).source, &success(tid(1)), start), UNVALIDATED);
    assert_eq!(relay.flows(), 0);
    let send = Egress::Send { asked: here.asked, socket: here.socket };
    assert_eq!(relay.on_transmit(key, here.source, &success(tid(1)), start), send);
    assert_eq!(relay.on_transmit(key, here.source, MEDIA, start), send);
    assert_eq!(relay.handle(input(here, MEDIA), start), Verdict::Deliver(key));
    // It is the flow of this session and this address only.
    assert_eq!(relay.on_transmit(SessionKey(5), here.source, MEDIA, start), UNVALIDATED);
    assert_eq!(relay.on_transmit(key, tuple(10, 1).source, MEDIA, start), UNVALIDATED);
    assert_eq!(relay.handle(input(tuple(9, 2), MEDIA), start), NO_FLOW);
}

#[test]
fn flow_outlives_14_s_and_not_15_s() {
    let start = clock::now();
    let mut relay = relay(1);
    let (here, key) = (tuple(9, 1), SessionKey(4));
    validate(&mut relay, here, 4, start);
    validate(&mut relay, here, 4, at(start, 10.0));
    relay.handle_timeout(at(start, 24.9));
    assert!(matches!(relay.on_transmit(key, here.source, MEDIA, at(start, 24.9)), Egress::Send { .. }));
    assert_eq!(relay.handle(input(here, MEDIA), at(start, 24.9)), Verdict::Deliver(key));
    assert_eq!(relay.on_transmit(key, here.source, MEDIA, at(start, 25.0)), UNVALIDATED);
    assert_eq!(relay.handle(input(here, MEDIA), at(start, 25.0)), NO_FLOW);
    let mut now = at(start, 25.0);
    while let Some(due) = relay.poll_timeout() {
        now = now.max(due);
        relay.handle_timeout(now);
    }
    assert_eq!((relay.flows(), relay.routes.len(), relay.pending()), (0, 0, 0));
    assert!(now <= at(start, 27.0), "its memory is freed soon");
}

#[test]
fn answer_counts_for_5_s() {
    let start = clock::now();
    let mut relay = relay(1);
    let (here, key) = (tuple(9, 1), SessionKey(4));
    let check = request(&ufrag(1, 4), tid(1), false);
    assert_eq!(relay.handle(input(here, &check), start), Verdict::Deliver(key));
    assert_eq!(relay.on_transmit(key, here.source, &success(tid(1)), at(start, 5.0)), UNVALIDATED);
    assert_eq!(relay.handle(input(here, &check), start), Verdict::Deliver(key));
    let egress = relay.on_transmit(key, here.source, &success(tid(1)), at(start, 4.9));
    assert!(matches!(egress, Egress::Send { .. }));
}

#[test]
fn media_over_the_ring_waits_for_the_owners_word() {
    let start = clock::now();
    let (mut first, mut owner) = (relay(1), relay(2));
    let (here, key) = (tuple(9, 1), SessionKey(4));
    let check = request(&ufrag(2, 4), tid(1), false);
    assert_eq!(first.handle(input(here, &check), start), Verdict::Ring(2));
    assert_eq!(first.handle(input(here, MEDIA), start), NO_FLOW);
    let over = Input { tuple: here, via: Some(1), bytes: &check };
    assert_eq!(owner.handle(over, start), Verdict::Deliver(key));
    assert_eq!(owner.poll_output(), None);
    let answer = owner.on_transmit(key, here.source, &success(tid(1)), start);
    assert_eq!(answer, Egress::Send { asked: here.asked, socket: here.socket });
    assert_eq!(owner.poll_output(), Some(Output::Confirm { to: 1, tuple: here }));
    assert_eq!(owner.poll_output(), None);
    assert_eq!(first.handle(input(here, MEDIA), start), NO_FLOW, "not before the confirmation has come");
    assert!(first.on_confirm(2, here, start));
    assert_eq!(first.handle(input(here, MEDIA), at(start, 14.9)), Verdict::Ring(2));
    let over = Input { tuple: here, via: Some(1), bytes: MEDIA };
    assert_eq!(owner.handle(over, at(start, 14.9)), Verdict::Deliver(key));
    assert_eq!(first.handle(input(here, MEDIA), at(start, 15.0)), NO_FLOW);
    assert_eq!(owner.handle(over, at(start, 15.0)), NO_FLOW);
}

#[test]
fn media_never_goes_in_a_circle() {
    let start = clock::now();
    let mut relay = relay(1);
    assert!(relay.on_confirm(2, tuple(9, 1), start));
    assert_eq!(relay.handle(input(tuple(9, 1), MEDIA), start), Verdict::Ring(2));
    assert_eq!(relay.handle(Input { tuple: tuple(9, 1), via: Some(2), bytes: MEDIA }, start), NO_FLOW);
}

#[test]
fn last_answered_check_of_a_tuple_wins() {
    let start = clock::now();
    let mut relay = relay(1);
    let here = tuple(9, 1);
    validate(&mut relay, here, 4, start);
    // ICE restart: new credentials, same address. Until they are proven the old ones stay.
    let check = request(&ufrag(1, 5), tid(5), false);
    assert_eq!(relay.handle(input(here, &check), start), Verdict::Deliver(SessionKey(5)));
    assert_eq!(relay.handle(input(here, MEDIA), start), Verdict::Deliver(SessionKey(4)));
    validate(&mut relay, here, 5, start);
    assert_eq!(relay.handle(input(here, MEDIA), start), Verdict::Deliver(SessionKey(5)));
    // The old ones may send until their time is up.
    let egress = relay.on_transmit(SessionKey(4), here.source, MEDIA, at(start, 14.0));
    assert!(matches!(egress, Egress::Send { .. }));
    // The next room is on another worker.
    assert!(relay.on_confirm(2, here, start));
    assert_eq!(relay.handle(input(here, MEDIA), start), Verdict::Ring(2));
}

#[test]
fn answers_leave_from_the_address_that_was_asked_and_media_from_the_nominated_one() {
    let start = clock::now();
    let mut relay = relay(1);
    let key = SessionKey(4);
    let asked = |relay: &mut Relay| match relay.on_transmit(key, tuple(9, 1).source, MEDIA, start) {
        Egress::Send { asked, .. } => asked,
        Egress::Drop(reason) => panic!("{reason:?}"),
    };
    validate(&mut relay, tuple(9, 1), 4, start);
    validate(&mut relay, tuple(9, 2), 4, start);
    assert_eq!(asked(&mut relay), tuple(9, 1).asked, "a second path alone changes nothing");
    let check = request(&ufrag(1, 4), tid(8), true);
    assert_eq!(relay.handle(input(tuple(9, 2), &check), start), Verdict::Deliver(key));
    assert_eq!(asked(&mut relay), tuple(9, 1).asked);
    let egress = relay.on_transmit(key, tuple(9, 2).source, &success(tid(8)), start);
    assert_eq!(egress, Egress::Send { asked: tuple(9, 2).asked, socket: 0 });
    assert_eq!(asked(&mut relay), tuple(9, 2).asked);
    validate(&mut relay, tuple(9, 1), 4, start);
    assert_eq!(asked(&mut relay), tuple(9, 2).asked);
}

#[test]
fn ended_session_gets_and_sends_nothing() {
    let start = clock::now();
    let mut relay = relay(1);
    validate(&mut relay, tuple(9, 1), 4, start);
    validate(&mut relay, tuple(10, 1), 4, start);
    validate(&mut relay, tuple(10, 1), 5, start);
    relay.end_session(SessionKey(4));
    assert_eq!(relay.handle(input(tuple(9, 1), MEDIA), start), NO_FLOW);
    assert_eq!(relay.on_transmit(SessionKey(4), tuple(9, 1).source, MEDIA, start), UNVALIDATED);
    assert_eq!(relay.handle(input(tuple(10, 1), MEDIA), start), Verdict::Deliver(SessionKey(5)));
    relay.end_session(SessionKey(4));
}

#[test]
fn flood_of_checks_evicts_among_pending_only() {
    let start = clock::now();
    let mut relay = relay(1);
    validate(&mut relay, tuple(9, 1), 4, start);
    let check = request(&ufrag(1, 4), tid(77), false);
    for source in 1000..2000 {
        assert_eq!(relay.handle(input(tuple(source, 1), &check), start), Verdict::Deliver(SessionKey(4)));
    }
    assert_eq!(relay.pending(), LIMITS.pending_max);
    assert_eq!(relay.flows(), 1);
    assert_eq!(relay.handle(input(tuple(9, 1), MEDIA), start), Verdict::Deliver(SessionKey(4)));
    // The newest are answered, the oldest are forgotten.
    assert_eq!(
        relay.on_transmit(SessionKey(4), tuple(1000, 1).source, &success(tid(77)), start),
        UNVALIDATED
    );
    let egress = relay.on_transmit(SessionKey(4), tuple(1999, 1).source, &success(tid(77)), start);
    assert!(matches!(egress, Egress::Send { .. }));
}

#[test]
fn full_table_refuses_new_flows_and_keeps_live_ones() {
    let start = clock::now();
    let mut relay = relay(1);
    for n in 0..64 {
        validate(&mut relay, tuple(1000 + n, 1), u64::from(n), start);
    }
    let check = request(&ufrag(1, 99), tid(99), false);
    assert_eq!(relay.handle(input(tuple(9, 1), &check), start), Verdict::Deliver(SessionKey(99)));
    let egress = relay.on_transmit(SessionKey(99), tuple(9, 1).source, &success(tid(99)), start);
    assert_eq!(egress, Egress::Drop(DropReason::TableFull));
    assert_eq!(relay.handle(input(tuple(9, 1), MEDIA), start), NO_FLOW);
    validate(&mut relay, tuple(1000, 1), 0, start);
    assert!(!relay.on_confirm(2, tuple(9, 1), start));
    relay.end_session(SessionKey(0));
    validate(&mut relay, tuple(9, 1), 99, start);
}

#[test]
fn wandering_session_gives_up_its_own_oldest_path() {
    let start = clock::now();
    let mut relay = relay(1);
    validate(&mut relay, tuple(9, 1), 5, start);
    for n in 0..40_u16 {
        validate(&mut relay, tuple(1000 + n, 1), 4, at(start, f64::from(n) * 0.1));
    }
    assert_eq!(relay.flows(), PATHS_PER_SESSION + 1);
    let now = at(start, 4.0);
    assert_eq!(relay.on_transmit(SessionKey(4), tuple(1000, 1).source, MEDIA, now), UNVALIDATED);
    assert!(matches!(
        relay.on_transmit(SessionKey(4), tuple(1039, 1).source, MEDIA, now),
        Egress::Send { .. }
    ));
    assert_eq!(relay.handle(input(tuple(9, 1), MEDIA), now), Verdict::Deliver(SessionKey(5)));
}

/// The rules again, as a reader of a log would state them: no tables, no expiry, no sweeping.
#[derive(Default)]
struct Shadow {
    /// Every check that a host has answered.
    answered: Vec<Answered>,
    ended: BTreeMap<(u8, u64), Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Answered {
    at: Instant,
    tuple: Tuple,
    /// The worker whose socket received it.
    arrived: u8,
    owner: (u8, u64),
    /// Whether `arrived` heard of it.
    confirmed: bool,
}

impl Shadow {
    /// The session that media of a tuple must reach when it arrives at a worker's socket.
    fn receiver(&self, arrived: u8, tuple: Tuple, now: Instant) -> Option<(u8, u64)> {
        let first = self.known_to(arrived, tuple, now)?;
        let owner = if first.owner.0 == arrived { first } else { self.known_to(first.owner.0, tuple, now)? };
        (owner.owner.0 == first.owner.0 && !self.ended.contains_key(&owner.owner)).then_some(owner.owner)
    }

    /// The last answered check of a tuple that a worker knows of.
    fn known_to(&self, worker: u8, tuple: Tuple, now: Instant) -> Option<&Answered> {
        let knows =
            |a: &&Answered| a.tuple == tuple && (a.owner.0 == worker || (a.arrived == worker && a.confirmed));
        self.answered.iter().rfind(knows).filter(|a| now < a.at + Duration::from_secs(15))
    }

    /// The paths on which a session may send to an address.
    fn paths(&self, owner: (u8, u64), to: SocketAddr, now: Instant) -> Vec<Tuple> {
        if self.ended.contains_key(&owner) {
            return Vec::new();
        }
        let live =
            |a: &&Answered| a.owner == owner && a.tuple.source == to && now < a.at + Duration::from_secs(15);
        self.answered.iter().filter(live).map(|a| a.tuple).collect()
    }
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

struct Simulation {
    rng: Rng,
    now: Instant,
    relays: Vec<Relay>,
    shadow: Shadow,
    /// Which worker's socket the kernel gives a tuple to.
    kernel: BTreeMap<Tuple, u8>,
    /// Sessions whose password somebody knows.
    sessions: Vec<(u8, u64)>,
    keys: u64,
    transactions: u64,
    /// Authentic requests that somebody has overheard.
    overheard: Vec<((u8, u64), u64)>,
    delivered: usize,
    refused: usize,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut simulation = Self {
            rng: Rng(seed),
            now: clock::now(),
            relays: (0..WORKERS).map(relay).collect(),
            shadow: Shadow::default(),
            kernel: BTreeMap::new(),
            sessions: Vec::new(),
            keys: 0,
            transactions: 0,
            overheard: Vec::new(),
            delivered: 0,
            refused: 0,
        };
        for source in 0..8 {
            for asked in 0..2 {
                let worker = simulation.any_worker();
                simulation.kernel.insert(tuple(1000 + source, asked), worker);
            }
        }
        simulation
    }

    fn any_worker(&mut self) -> u8 {
        u8::try_from(self.rng.below(u64::from(WORKERS))).unwrap()
    }

    fn any_tuple(&mut self) -> Tuple {
        let (source, asked) = (self.rng.below(8), self.rng.below(2));
        tuple(1000 + u16::try_from(source).unwrap(), u8::try_from(asked).unwrap())
    }

    fn any_session(&mut self) -> Option<(u8, u64)> {
        if self.sessions.is_empty() {
            return None;
        }
        let at = usize::try_from(self.rng.below(self.sessions.len() as u64)).unwrap();
        Some(self.sessions[at])
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.rng.below(400));
        if self.rng.chance(2) {
            self.now += Duration::from_secs(self.rng.below(20));
        }
        match self.rng.below(100) {
            0..4 => {
                // A join, or an ICE restart: to a relay both are new credentials.
                self.keys += 1;
                let worker = self.any_worker();
                self.sessions.push((worker, self.keys));
            }
            4..34 => {
                if let Some(owner) = self.any_session() {
                    self.transactions += 1;
                    self.overheard.push((owner, self.transactions));
                    let tuple = self.any_tuple();
                    self.check(owner, self.transactions, tuple, true);
                }
            }
            34..38 => {
                // A replay of somebody's request from any address. Its integrity holds, so the host answers.
                if !self.overheard.is_empty() {
                    let at = usize::try_from(self.rng.below(self.overheard.len() as u64)).unwrap();
                    let (owner, transaction) = self.overheard[at];
                    let tuple = self.any_tuple();
                    self.check(owner, transaction, tuple, true);
                }
            }
            38..48 => {
                // Somebody knows the ufrag but not the password, and reuses a transaction id.
                if let Some(owner) = self.any_session() {
                    let tuple = self.any_tuple();
                    let transaction = self.rng.below(self.transactions + 1);
                    self.check(owner, transaction, tuple, false);
                }
            }
            48..52 => self.forged_check(),
            52..75 => {
                let tuple = self.any_tuple();
                self.media(tuple);
            }
            75..90 => {
                if let Some(owner) = self.any_session() {
                    let to = self.any_tuple().source;
                    self.send(owner, to);
                }
            }
            90..92 => {
                // The kernel spreads anew, as when a worker has ended.
                let (tuple, worker) = (self.any_tuple(), self.any_worker());
                self.kernel.insert(tuple, worker);
            }
            92..94 => {
                if let Some(owner) = self.any_session() {
                    self.sessions.retain(|&session| session != owner);
                    self.overheard.retain(|&(session, _)| session != owner);
                    self.shadow.ended.insert(owner, self.now);
                    self.relays[usize::from(owner.0)].end_session(SessionKey(owner.1));
                }
            }
            _ => {
                for relay in &mut self.relays {
                    if relay.poll_timeout().is_some_and(|due| due <= self.now) {
                        relay.handle_timeout(self.now);
                    }
                }
            }
        }
        self.relays.iter().for_each(Relay::check_invariants);
    }

    /// A request on its way through the kernel, the ring and the host, and its answer back.
    fn check(&mut self, owner: (u8, u64), transaction: u64, tuple: Tuple, authentic: bool) {
        let arrived = self.kernel[&tuple];
        let nominates = self.rng.chance(30);
        let bytes = request(&ufrag(owner.0, owner.1), tid(transaction), nominates);
        let verdict = self.relays[usize::from(arrived)].handle(input(tuple, &bytes), self.now);
        let mut via = None;
        if arrived != owner.0 {
            assert_eq!(verdict, Verdict::Ring(owner.0));
            if self.rng.chance(10) {
                return; // The ring was full.
            }
            via = Some(arrived);
            let over = Input { tuple, via, bytes: &bytes };
            let verdict = self.relays[usize::from(owner.0)].handle(over, self.now);
            assert_eq!(verdict, Verdict::Deliver(SessionKey(owner.1)));
        } else {
            assert_eq!(verdict, Verdict::Deliver(SessionKey(owner.1)));
        }
        let (now, key) = (self.now, SessionKey(owner.1));
        let relay = &mut self.relays[usize::from(owner.0)];
        if !authentic {
            // The host stays silent or answers with an error. Neither may open anything.
            if self.rng.chance(50) {
                let expected = self.shadow.paths(owner, tuple.source, now);
                let egress = relay.on_transmit(key, tuple.source, &stun(0x0111, tid(transaction), &[]), now);
                assert_eq!(matches!(egress, Egress::Send { .. }), !expected.is_empty());
            }
            return;
        }
        let egress = relay.on_transmit(key, tuple.source, &success(tid(transaction)), now);
        assert_eq!(egress, Egress::Send { asked: tuple.asked, socket: tuple.socket });
        let confirm = relay.poll_output();
        assert_eq!(confirm, via.map(|to| Output::Confirm { to, tuple }));
        assert_eq!(relay.poll_output(), None);
        let confirmed = via.is_some() && !self.rng.chance(15);
        if confirmed {
            assert!(self.relays[usize::from(arrived)].on_confirm(owner.0, tuple, now));
        }
        self.shadow.answered.push(Answered { at: now, tuple, arrived, owner, confirmed });
    }

    fn forged_check(&mut self) {
        let (nonce, worker) = (self.rng.below(self.keys + 1), self.any_worker());
        let good = Ufrag { edge: EDGE, worker, flags: 0, generation: GENERATION, nonce };
        let (server, reason) = match self.rng.below(4) {
            0 => (codec().encode(&Ufrag { edge: 1, ..good }), DropReason::WrongEdge),
            1 => (codec().encode(&Ufrag { generation: 1, ..good }), DropReason::OldGeneration),
            2 => (codec().encode(&Ufrag { worker: WORKERS, ..good }), DropReason::NoWorker),
            _ => (UfragCodec::new([0; 16]).encode(&good), DropReason::Forged),
        };
        let tuple = self.any_tuple();
        let arrived = usize::from(self.kernel[&tuple]);
        let bytes = request(&server, tid(self.transactions), true);
        assert_eq!(self.relays[arrived].handle(input(tuple, &bytes), self.now), Verdict::Drop(reason));
    }

    fn media(&mut self, tuple: Tuple) {
        let arrived = self.kernel[&tuple];
        let mut at = arrived;
        let mut verdict = self.relays[usize::from(at)].handle(input(tuple, MEDIA), self.now);
        if let Verdict::Ring(to) = verdict {
            assert_ne!(to, arrived);
            at = to;
            let over = Input { tuple, via: Some(arrived), bytes: MEDIA };
            verdict = self.relays[usize::from(at)].handle(over, self.now);
        }
        let got = match verdict {
            Verdict::Deliver(key) => Some((at, key.0)),
            Verdict::Drop(reason) => {
                assert_eq!(reason, DropReason::NoFlow);
                None
            }
            Verdict::Ring(_) => panic!("handed over twice"),
        };
        assert_eq!(got, self.shadow.receiver(arrived, tuple, self.now), "{tuple:?} at {arrived}");
        self.delivered += usize::from(got.is_some());
        self.refused += usize::from(got.is_none());
    }

    fn send(&mut self, owner: (u8, u64), to: SocketAddr) {
        let paths = self.shadow.paths(owner, to, self.now);
        // An answer that nobody asked for opens nothing either.
        let bytes = if self.rng.chance(20) { success(tid(u64::MAX)) } else { MEDIA.to_vec() };
        let egress = self.relays[usize::from(owner.0)].on_transmit(SessionKey(owner.1), to, &bytes, self.now);
        match egress {
            Egress::Send { asked, .. } => assert!(paths.iter().any(|path| path.asked == asked), "{paths:?}"),
            Egress::Drop(reason) => {
                assert_eq!(reason, DropReason::Unvalidated);
                assert!(paths.is_empty(), "{paths:?}");
            }
        }
    }
}

/// `ROOMGATE_SEED=0x2a cargo test simulation` replays one run; `ROOMGATE_RUNS` sets how many there are.
#[test]
fn simulation_agrees_with_its_shadow() {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        let (digits, radix) = text.strip_prefix("0x").map_or((text.as_str(), 10), |hex| (hex, 16));
        Some(u64::from_str_radix(digits, radix).expect("a number"))
    };
    let replay = number("ROOMGATE_SEED");
    let seeds = replay.map_or(0..number("ROOMGATE_RUNS").unwrap_or(60), |seed| seed..seed + 1);
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut simulation = Simulation::new(seed);
            for _ in 0..1500 {
                simulation.step();
            }
            (simulation.delivered, simulation.refused)
        });
        match run {
            Ok((delivered, refused)) => assert!(delivered > 20 && refused > 20, "{delivered} {refused}"),
            Err(fault) => {
                eprintln!("replay with ROOMGATE_SEED={seed:#x}");
                std::panic::resume_unwind(fault);
            }
        }
    }
}
