//! Pure: decides whom a received datagram belongs to, and whether a host may send one.
//!
//! Owns one worker's flows. STUN requests with a USERNAME always go by their ufrag, which names the owner; everything
//! else goes by the current flow of its 5-tuple. A flow is *validated* when the owner's success response to a pending
//! request is seen going out: the host has then checked MESSAGE-INTEGRITY (RFC 8445 section 7.3), which only it can.
//! So nothing moves on an unauthenticated packet, nothing is sent to an address before one, and nothing 15 s after the
//! last one.
//!
//! ```text
//!               request (ufrag is ours)        success response goes out
//!   (nothing) ----------------------------> pending ----------------------> validated --- 15 s ---> (nothing)
//!                                              |  5 s, or evicted by newer ones     ^  each further answered check |
//!                                              v                                    +------------------------------+
//!                                          (nothing)
//! ```
//!
//! A datagram that the kernel gave to another worker comes over the ring (`via`). After validation the owner confirms
//! the flow to that worker ([`Output::Confirm`]), which then hands the tuple's media over too, for 15 s from the last
//! confirmation; before it, it drops them.
//!
//! It never reads a clock, never sends, never sees a password.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::drops::DropReason;
use super::host::SessionKey;
use super::identity::WorkerIdentity;
use crate::wire::demux::Class;
use crate::wire::rtp;
use crate::wire::stun::{self, Message, MessageClass, TransactionId};
use crate::wire::ufrag::UfragCodec;

/// One worker's flows.
#[derive(Debug)]
pub struct Relay {
    edge: u16,
    worker: u8,
    workers: u8,
    generation: u32,
    codec: Arc<UfragCodec>,
    limits: RelayLimits,
    /// Where the media of a tuple goes.
    routes: HashMap<Tuple, Route>,
    /// The validated flows of each session here, at most [`PATHS_PER_SESSION`] each.
    sessions: HashMap<SessionKey, Vec<Flow>>,
    /// Sum of the lengths in `sessions`.
    flows: usize,
    /// Requests that a host has got and not answered yet.
    pending: HashMap<Question, Pending>,
    /// Exactly one entry for each of `pending`, oldest first.
    pending_due: BTreeSet<(Instant, Question)>,
    /// Exactly one entry for each route and each flow, not later than its expiry.
    due: BTreeSet<(Instant, Due)>,
    outputs: VecDeque<Output>,
}

/// Where a datagram came from and which of our addresses it was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// The client's address.
    pub source: SocketAddr,
    /// Our address.
    pub asked: IpAddr,
    /// Our socket: the index in the configuration's list.
    pub socket: u8,
}

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Its 5-tuple.
    pub tuple: Tuple,
    /// The worker that handed it over; `None` if it came from the own socket.
    pub via: Option<u8>,
    /// Its payload.
    pub bytes: &'a [u8],
}

/// What to do with a received datagram.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is for this session on this worker.
    Deliver(SessionKey),
    /// It is for that worker.
    Ring(u8),
    /// It is for nobody.
    Drop(DropReason),
}

/// What to do with a datagram that a host wants sent.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// Send it from this address and socket.
    Send {
        /// Our address.
        asked: IpAddr,
        /// Our socket.
        socket: u8,
    },
    /// It may not be sent.
    Drop(DropReason),
}

/// A control effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Tell that worker that media of this tuple is ours.
    Confirm {
        /// The worker whose socket receives the tuple.
        to: u8,
        /// The tuple.
        tuple: Tuple,
    },
}

/// Bounds of one relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayLimits {
    /// Validated flows, and as many routes. At the cap a new flow is refused; live ones are never evicted.
    pub flows_max: usize,
    /// Unanswered requests. At the cap the oldest is forgotten.
    pub pending_max: usize,
}

impl Relay {
    /// Creates the relay of one of `workers` workers.
    pub fn new(identity: &WorkerIdentity, workers: u8, limits: RelayLimits) -> Self {
        Self {
            edge: identity.edge,
            worker: identity.worker,
            workers,
            generation: identity.generation,
            codec: Arc::clone(&identity.codec),
            limits,
            routes: HashMap::new(),
            sessions: HashMap::new(),
            flows: 0,
            pending: HashMap::new(),
            pending_due: BTreeSet::new(),
            due: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes one datagram. Allocates nothing, except to grow the table of pending requests.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) -> Verdict {
        if input.tuple.source.port() == 0 {
            return Verdict::Drop(DropReason::Malformed); // Nobody can answer it.
        }
        let well_formed = match Class::of(input.bytes) {
            Class::Stun => match Message::parse(input.bytes) {
                Some(message) => {
                    if let (MessageClass::Request, Some(username)) = (message.class, message.username) {
                        return self.handle_check(input, &message, username.server, now);
                    }
                    true
                }
                None => false,
            },
            Class::Rtp => rtp::Header::parse(input.bytes).is_some(),
            Class::Rtcp => rtp::RtcpHeader::parse(input.bytes).is_some(),
            Class::Dtls => input.bytes.len() >= DTLS_RECORD_HEADER_LEN,
            Class::Zrtp | Class::ChannelData | Class::Quic | Class::Unknown => {
                return Verdict::Drop(DropReason::UnknownClass);
            }
        };
        if !well_formed {
            return Verdict::Drop(DropReason::Malformed);
        }
        match self.routes.get(&input.tuple) {
            Some(route) if now < route.expires => match route.to {
                Owner::Here(session) => Verdict::Deliver(session),
                // Two workers that each think the other is the owner would send it in a circle.
                Owner::Worker(_) if input.via.is_some() => Verdict::Drop(DropReason::NoFlow),
                Owner::Worker(worker) => Verdict::Ring(worker),
            },
            Some(_) | None => Verdict::Drop(DropReason::NoFlow),
        }
    }

    /// Decides on a datagram that the host wants sent; a success response validates the flow it answers.
    pub fn on_transmit(&mut self, session: SessionKey, to: SocketAddr, bytes: &[u8], now: Instant) -> Egress {
        if let Some(transaction) = stun::success_transaction(bytes) {
            let question = Question { session, source: to, transaction };
            // One answer validates once.
            if let Some(pending) = self.take_pending(&question)
                && now < pending.expires
            {
                let tuple = pending.tuple;
                return if self.on_validated(session, pending, now) {
                    Egress::Send { asked: tuple.asked, socket: tuple.socket }
                } else {
                    Egress::Drop(DropReason::TableFull)
                };
            }
        }
        match self.pick_path(session, to, now) {
            Some(tuple) => Egress::Send { asked: tuple.asked, socket: tuple.socket },
            None => Egress::Drop(DropReason::Unvalidated),
        }
    }

    /// Takes another worker's word that it owns a tuple whose datagrams arrive here. Returns false at the cap.
    pub fn on_confirm(&mut self, owner: u8, tuple: Tuple, now: Instant) -> bool {
        self.set_route(tuple, Owner::Worker(owner), now)
    }

    /// Forgets a session that has ended: nothing more is sent to its addresses.
    pub fn end_session(&mut self, session: SessionKey) {
        let Some(flows) = self.sessions.remove(&session) else { return };
        self.flows -= flows.len();
        for flow in flows {
            self.forget(session, flow);
        }
        self.check_invariants();
    }

    /// Returns the next control effect. Drain to `None` before the next batch.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Relay::handle_timeout`] has something to do, or `None`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pending = self.pending_due.first().map(|&(at, _)| at);
        let due = self.due.first().map(|&(at, _)| at);
        // What has expired is refused at once; only its memory waits for company.
        pending.into_iter().chain(due).min().map(|at| at + SWEEP_SLACK)
    }

    /// Frees what has expired, a bounded number at a time.
    pub fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..SWEPT_AT_ONCE {
            match self.pending_due.first() {
                Some(&(at, question)) if at <= now => {
                    self.take_pending(&question);
                }
                Some(_) | None => break,
            }
        }
        for _ in 0..SWEPT_AT_ONCE {
            match self.due.first() {
                Some(&(at, due)) if at <= now => {
                    self.due.pop_first();
                    self.sweep(due, now);
                }
                Some(_) | None => break,
            }
        }
        self.check_invariants();
    }

    /// Returns the number of validated flows, those included that have expired and wait to be freed.
    pub fn flows(&self) -> usize {
        self.flows
    }

    /// Returns the number of unanswered requests.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Checks what must always hold; in debug builds only.
    pub fn check_invariants(&self) {
        if cfg!(debug_assertions) && self.flows < 256 {
            let flows = self.sessions.values().map(Vec::len).sum::<usize>();
            debug_assert_eq!(self.flows, flows, "the count of flows follows the table");
            debug_assert!(self.flows <= self.limits.flows_max, "flows are bounded");
            debug_assert!(self.routes.len() <= self.limits.flows_max, "routes are bounded");
            debug_assert!(self.pending.len() <= self.limits.pending_max, "pending requests are bounded");
            debug_assert_eq!(self.pending.len(), self.pending_due.len(), "each of them will be swept");
            debug_assert_eq!(self.due.len(), self.routes.len() + self.flows, "so will each route and flow");
            debug_assert!(self.sessions.values().all(|flows| (1..=PATHS_PER_SESSION).contains(&flows.len())));
        }
    }

    /// A check: its ufrag says whose it is.
    fn handle_check(
        &mut self,
        input: Input<'_>,
        message: &Message<'_>,
        server: &[u8],
        now: Instant,
    ) -> Verdict {
        let Some(ufrag) = self.codec.decode(server) else { return Verdict::Drop(DropReason::Forged) };
        if ufrag.edge != self.edge {
            return Verdict::Drop(DropReason::WrongEdge);
        }
        if ufrag.generation != self.generation {
            return Verdict::Drop(DropReason::OldGeneration);
        }
        if ufrag.worker >= self.workers {
            return Verdict::Drop(DropReason::NoWorker);
        }
        if ufrag.worker != self.worker {
            debug_assert!(input.via.is_none(), "another worker reads the same owner from the same bytes");
            return Verdict::Ring(ufrag.worker);
        }
        let session = SessionKey(ufrag.nonce);
        let question = Question { session, source: input.tuple.source, transaction: message.transaction };
        let pending = Pending {
            tuple: input.tuple,
            via: input.via,
            nominates: message.use_candidate,
            expires: now + PENDING_LIFETIME,
        };
        self.take_pending(&question); // Sent again.
        if self.pending.len() >= self.limits.pending_max
            && let Some(&(_, oldest)) = self.pending_due.first()
        {
            // Validated flows lose nothing by it, and an honest check is answered long before its turn comes.
            self.take_pending(&oldest);
        }
        if self.pending.len() < self.limits.pending_max {
            self.pending_due.insert((pending.expires, question));
            self.pending.insert(question, pending);
        }
        Verdict::Deliver(session)
    }

    fn take_pending(&mut self, question: &Question) -> Option<Pending> {
        let pending = self.pending.remove(question)?;
        self.pending_due.remove(&(pending.expires, *question));
        Some(pending)
    }

    /// The host has vouched for a check: its flow lives for 15 s and is the tuple's current one.
    fn on_validated(&mut self, session: SessionKey, pending: Pending, now: Instant) -> bool {
        let tuple = pending.tuple;
        let paths = self.sessions.get(&session).map_or(&[][..], Vec::as_slice);
        let known = paths.iter().any(|flow| flow.tuple == tuple);
        if !known && paths.len() >= PATHS_PER_SESSION {
            self.forget_oldest_path(session);
        }
        if !known && self.flows >= self.limits.flows_max || !self.set_route(tuple, Owner::Here(session), now)
        {
            return false;
        }
        let expires = now + FLOW_LIFETIME;
        let nominated = pending.nominates.then_some(now);
        let flows = self.sessions.entry(session).or_default();
        if let Some(flow) = flows.iter_mut().find(|flow| flow.tuple == tuple) {
            flow.expires = expires;
            flow.nominated = nominated.or(flow.nominated);
        } else {
            flows.push(Flow { tuple, expires, due: expires, nominated });
            self.flows += 1;
            self.due.insert((expires, Due::Flow(session, tuple)));
        }
        if let Some(to) = pending.via
            && self.outputs.len() < self.limits.pending_max
        {
            self.outputs.push_back(Output::Confirm { to, tuple });
        }
        self.check_invariants();
        true
    }

    /// A session that wanders gives up its own oldest path, nobody else's.
    fn forget_oldest_path(&mut self, session: SessionKey) {
        let Some(flows) = self.sessions.get_mut(&session) else { return };
        if let Some(at) = (0..flows.len()).min_by_key(|&at| flows[at].expires) {
            let flow = flows.swap_remove(at);
            self.flows -= 1;
            self.forget(session, flow);
        }
    }

    /// Undoes what stands about a flow outside `sessions`.
    fn forget(&mut self, session: SessionKey, flow: Flow) {
        self.due.remove(&(flow.due, Due::Flow(session, flow.tuple)));
        // Another session may have taken the tuple over.
        if let Some(route) = self.routes.get(&flow.tuple)
            && route.to == Owner::Here(session)
        {
            self.due.remove(&(route.due, Due::Route(flow.tuple)));
            self.routes.remove(&flow.tuple);
        }
    }

    fn set_route(&mut self, tuple: Tuple, to: Owner, now: Instant) -> bool {
        let expires = now + FLOW_LIFETIME;
        if let Some(route) = self.routes.get_mut(&tuple) {
            route.to = to;
            route.expires = expires;
            return true;
        }
        if self.routes.len() >= self.limits.flows_max {
            return false;
        }
        self.routes.insert(tuple, Route { to, expires, due: expires });
        self.due.insert((expires, Due::Route(tuple)));
        true
    }

    /// Picks the path to an address: the one that was nominated last, else the first that lives.
    fn pick_path(&self, session: SessionKey, to: SocketAddr, now: Instant) -> Option<Tuple> {
        let flows = self.sessions.get(&session)?;
        let live = flows.iter().filter(|flow| flow.tuple.source == to && now < flow.expires);
        // Of equals the first wins, so that a path does not flap between two of our addresses.
        live.reduce(|best, flow| if flow.nominated > best.nominated { flow } else { best })
            .map(|flow| flow.tuple)
    }

    /// Frees what an entry of `due` stands for, or gives it a new entry if it was renewed since.
    fn sweep(&mut self, due: Due, now: Instant) {
        match due {
            Due::Route(tuple) => {
                let Some(route) = self.routes.get_mut(&tuple) else { return };
                if now < route.expires {
                    route.due = route.expires;
                    self.due.insert((route.due, due));
                } else {
                    self.routes.remove(&tuple);
                }
            }
            Due::Flow(session, tuple) => {
                let Some(flows) = self.sessions.get_mut(&session) else { return };
                let Some(at) = flows.iter().position(|flow| flow.tuple == tuple) else { return };
                let flow = &mut flows[at];
                if now < flow.expires {
                    flow.due = flow.expires;
                    self.due.insert((flow.due, due));
                    return;
                }
                flows.remove(at);
                self.flows -= 1;
                if flows.is_empty() {
                    self.sessions.remove(&session);
                }
            }
        }
    }
}

/// Who takes the media of a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Here(SessionKey),
    Worker(u8),
}

#[derive(Clone, Copy, Debug)]
struct Route {
    to: Owner,
    expires: Instant,
    /// When its entry in [`Relay::due`] stands.
    due: Instant,
}

/// A validated path of a session.
#[derive(Clone, Copy, Debug)]
struct Flow {
    tuple: Tuple,
    expires: Instant,
    /// When its entry in [`Relay::due`] stands.
    due: Instant,
    /// When the client last asked for this path.
    nominated: Option<Instant>,
}

/// A request as its answer names it. The session is part of it: somebody's own answered check must not validate a
/// flow of another session, even under the same transaction id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Question {
    session: SessionKey,
    source: SocketAddr,
    transaction: TransactionId,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    tuple: Tuple,
    via: Option<u8>,
    nominates: bool,
    expires: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Route(Tuple),
    Flow(SessionKey, Tuple),
}

/// Lifetime of a flow after its last answered check. Clients check every 2.5 s and give up after 30 s (RFC 7675).
pub const FLOW_LIFETIME: Duration = Duration::from_secs(15);

/// How long an answer may take. Hosts answer at once; a late answer means that the host was stalled.
const PENDING_LIFETIME: Duration = Duration::from_secs(5);

/// Validated paths that one session may have at once: a client's interfaces times our addresses.
const PATHS_PER_SESSION: usize = 16;

/// Entries freed in one call, so that a turn stays short.
const SWEPT_AT_ONCE: usize = 256;

/// How long expired entries may lie.
const SWEEP_SLACK: Duration = Duration::from_secs(1);

// RFC 6347 section 4.1: type, version, epoch, sequence number, length.
const DTLS_RECORD_HEADER_LEN: usize = 13;

#[cfg(test)]
mod tests;
