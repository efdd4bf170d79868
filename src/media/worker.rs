//! One worker: a thread with its sockets, its flows and its host. Nothing in it is shared.
//!
//! A turn of the loop reads the clock once, takes a bounded amount from each of its sources (commands, other workers,
//! sockets, timers) and ends with one flush. What is left over is taken in the next turn, which follows at once.

use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::task::Poll;
use std::time::{Duration, Instant};

use quinn_udp::BATCH_SIZE;

use super::batch::{Arrival, Intake, MediaSocket, Outgoing, Path, datagrams};
use super::drops::{DropReason, Drops};
use super::host::{Datagram, Host, Outbox, SessionKey};
use super::identity::WorkerIdentity;
use super::relay::{Egress, Input, Output, Relay, RelayLimits, Tuple, Verdict};
use super::report::{TurnTimes, WorkerReport};
use super::ring::{self, Buffer, Ring};
use super::wake::Wake;
use super::workers::{Shared, WorkerLimits};
use crate::clock;

/// What the control side asks of a worker.
pub(super) enum Control<C> {
    Command(C),
    Run(Box<dyn FnOnce() + Send>),
}

/// What travels between workers.
#[derive(Debug)]
pub(super) enum Message {
    /// Datagrams that are yours.
    Datagrams(Parcel),
    /// Media of this tuple is mine.
    Confirm { owner: u8, tuple: Tuple },
}

/// A receive buffer on its way to the owner of some of its datagrams.
#[derive(Debug)]
pub(super) struct Parcel {
    /// Who received it, and wants the buffer back.
    home: u8,
    tuple: Tuple,
    buffer: Buffer,
    len: usize,
    stride: usize,
    /// Bit n: the n-th datagram is yours.
    yours: u64,
}

/// Makes the rings between the workers.
pub(super) fn rings(wakes: &[Arc<Wake>], limits: &WorkerLimits) -> Vec<Ring<Message>> {
    ring::connect(wakes, limits.ring_capacity, limits.buffers_max)
}

/// What a worker's thread starts with.
pub(super) struct Parts<C, R> {
    pub(super) identity: WorkerIdentity,
    pub(super) workers: u8,
    pub(super) sockets: Vec<UdpSocket>,
    pub(super) commands: Receiver<Control<C>>,
    pub(super) ring: Ring<Message>,
    pub(super) shared: Arc<Shared<R>>,
    pub(super) limits: WorkerLimits,
}

/// Runs a worker to its end on the current thread.
pub(super) fn run<H: Host>(parts: Parts<H::Command, H::Report>, make: impl Fn(WorkerIdentity) -> H) {
    let shared = Arc::clone(&parts.shared);
    let number = shared.worker;
    // After a panic nothing of the worker is used again: its heartbeat has stopped, and its node goes red.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            Worker::new(parts, make)?.run().await;
            Ok(())
        })
    }));
    shared.running.store(false, Ordering::Release);
    match outcome {
        Ok(std::io::Result::Ok(())) => tracing::debug!(worker = number, "media worker ended"),
        Ok(Err(error)) => tracing::error!(worker = number, %error, "media worker cannot start"),
        Err(_) => tracing::error!(worker = number, "media worker panicked and has ended"),
    }
}

struct Worker<H: Host> {
    number: u8,
    host: H,
    commands: Receiver<Control<H::Command>>,
    ring: Ring<Message>,
    shared: Arc<Shared<H::Report>>,
    intake: Intake,
    egress: Egresses,
    counts: Counts,
    times: TurnTimes,
    report_due: Instant,
}

/// What a host's answers go through; apart from the rest of the worker, so that a datagram may stay borrowed from the
/// receive buffer meanwhile.
struct Egresses {
    relay: Relay,
    outgoing: Outgoing,
    drops: Drops,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    datagrams_in: u64,
    bytes_in: u64,
    receives: u64,
    ring_in: u64,
    ring_out: u64,
    turns: u64,
}

impl<H: Host> Worker<H> {
    /// Needs the runtime that will drive it.
    fn new(parts: Parts<H::Command, H::Report>, make: impl Fn(WorkerIdentity) -> H) -> std::io::Result<Self> {
        let Parts { identity, workers, sockets, commands, ring, shared, limits } = parts;
        let sockets = sockets.into_iter().map(MediaSocket::new).collect::<std::io::Result<Vec<_>>>()?;
        let relay_limits = RelayLimits { flows_max: limits.flows_max, pending_max: limits.pending_max };
        Ok(Self {
            number: identity.worker,
            commands,
            ring,
            shared,
            intake: Intake::new(usize::from(workers), limits.buffers_max),
            egress: Egresses {
                relay: Relay::new(&identity, workers, relay_limits),
                outgoing: Outgoing::new(sockets, limits.gso_segments_max),
                drops: Drops::default(),
            },
            counts: Counts::default(),
            times: TurnTimes::default(),
            report_due: clock::now(),
            host: make(identity),
        })
    }

    async fn run(mut self) {
        let mut sleep = std::pin::pin!(tokio::time::sleep(HEARTBEAT));
        loop {
            // Read before the turn: commands that were sent before the stop are carried out.
            let stopping = self.shared.stopping.load(Ordering::Acquire);
            let now = clock::now();
            self.shared.beat(now);
            self.turn(now, stopping);
            self.times.record(clock::now().saturating_duration_since(now));
            if stopping {
                return;
            }
            self.wait(sleep.as_mut()).await;
            if self.counts.turns.is_multiple_of(TURNS_WITHOUT_DRIVER) {
                // Under a flood every wait ends at once, and the runtime would not look at sockets and timers.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for a datagram, a message, a command or the next deadline, at most one heartbeat.
    async fn wait(&self, mut sleep: Pin<&mut tokio::time::Sleep>) {
        let beat = clock::now() + HEARTBEAT;
        let deadlines = [self.host.poll_timeout(), self.egress.relay.poll_timeout()];
        let due = deadlines.into_iter().flatten().fold(beat, Instant::min);
        sleep.as_mut().reset(due.into());
        std::future::poll_fn(|cx| {
            // Every source is asked: each must know whom to wake.
            let mut ready = self.shared.wake.poll(cx);
            for socket in &self.egress.outgoing.sockets {
                ready |= socket.poll_readable(cx);
            }
            ready |= sleep.as_mut().poll(cx).is_ready();
            if ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn turn(&mut self, now: Instant, is_last: bool) {
        self.counts.turns += 1;
        self.take_commands(now);
        self.take_messages(now);
        self.receive(now);
        self.handle_timeouts(now);
        if is_last {
            self.host.stop(now, &mut Port { egress: &mut self.egress, now });
        }
        self.send_confirms();
        self.egress.outgoing.flush(&mut self.egress.drops);
        if now >= self.report_due {
            self.report_due = now + REPORT_EVERY;
            self.publish(now);
        }
    }

    fn take_commands(&mut self, now: Instant) {
        for _ in 0..COMMANDS_PER_TURN {
            match self.commands.try_recv() {
                Ok(Control::Command(command)) => {
                    self.host.handle_command(command, now, &mut Port { egress: &mut self.egress, now });
                }
                Ok(Control::Run(f)) => f(),
                Err(_) => return,
            }
        }
        self.shared.wake.ring(); // There may be more.
    }

    fn take_messages(&mut self, now: Instant) {
        for _ in 0..MESSAGES_PER_TURN {
            match self.ring.pop() {
                Some(Message::Datagrams(parcel)) => self.open(parcel, now),
                Some(Message::Confirm { owner, tuple }) => {
                    if !self.egress.relay.on_confirm(owner, tuple, now) {
                        self.egress.drops.count(DropReason::TableFull);
                    }
                }
                None => return,
            }
        }
        self.shared.wake.ring(); // There may be more.
    }

    /// Handles datagrams that another worker has received.
    fn open(&mut self, parcel: Parcel, now: Instant) {
        let Parcel { home, tuple, buffer, len, stride, yours } = parcel;
        for (at, bytes) in datagrams(&buffer[..len], stride).enumerate() {
            if !is_set(yours, at) {
                continue;
            }
            self.counts.ring_in += 1;
            match self.egress.relay.handle(Input { tuple, via: Some(home), bytes }, now) {
                Verdict::Deliver(session) => {
                    deliver(&mut self.host, &mut self.egress, session, tuple, bytes, now);
                }
                Verdict::Ring(_) => self.egress.drops.count(DropReason::NoFlow),
                Verdict::Drop(reason) => self.egress.drops.count(reason),
            }
        }
        self.ring.give_back(self.number, home, buffer);
    }

    /// Takes what the sockets have, a bounded number of batches from each.
    fn receive(&mut self, now: Instant) {
        for socket in 0..self.egress.outgoing.sockets.len() {
            for _ in 0..BATCHES_PER_TURN {
                let received = self.egress.outgoing.sockets[socket].receive(&mut self.intake);
                self.counts.receives += u64::from(received > 0);
                for at in 0..received {
                    let arrival = self.intake.arrival(at, &self.egress.outgoing.sockets[socket]);
                    self.sort_out(at, socket, arrival, now);
                }
                if received < BATCH_SIZE {
                    break;
                }
            }
        }
    }

    /// Decides on each datagram of one received buffer. Those of another worker take the buffer with them.
    fn sort_out(&mut self, at: usize, socket: usize, arrival: Arrival, now: Instant) {
        let Arrival { source, asked, len, stride } = arrival;
        let socket = u8::try_from(socket).expect("a worker has few sockets");
        let tuple = Tuple { source, asked, socket };
        let mut theirs: Option<(u8, u64)> = None;
        for (n, bytes) in datagrams(self.intake.bytes(at, len), stride).enumerate() {
            self.counts.datagrams_in += 1;
            self.counts.bytes_in += bytes.len() as u64;
            match self.egress.relay.handle(Input { tuple, via: None, bytes }, now) {
                Verdict::Deliver(session) => {
                    deliver(&mut self.host, &mut self.egress, session, tuple, bytes, now);
                }
                Verdict::Ring(to) => match &mut theirs {
                    Some((owner, mask)) if *owner == to && n < 64 => *mask |= 1 << n,
                    None if n < 64 => theirs = Some((to, 1 << n)),
                    Some(_) | None => self.egress.drops.count(DropReason::RingSplit),
                },
                Verdict::Drop(reason) => self.egress.drops.count(reason),
            }
        }
        if len == 0 {
            self.counts.datagrams_in += 1;
            self.egress.drops.count(DropReason::UnknownClass);
        }
        if let Some((owner, yours)) = theirs {
            self.hand_over(at, owner, yours, tuple, arrival);
        }
    }

    fn hand_over(&mut self, at: usize, owner: u8, yours: u64, tuple: Tuple, arrival: Arrival) {
        while let Some((from, buffer)) = self.ring.take_back() {
            self.intake.take_back(from, buffer);
        }
        let count = u64::from(yours.count_ones());
        let Some(buffer) = self.intake.lend(at, owner) else {
            return self.egress.drops.count_many(DropReason::NoBuffer, count);
        };
        let Arrival { len, stride, .. } = arrival;
        let parcel = Parcel { home: self.number, tuple, buffer, len, stride, yours };
        match self.ring.push(owner, Message::Datagrams(parcel)) {
            Ok(()) => self.counts.ring_out += count,
            Err(message) => {
                if let Message::Datagrams(parcel) = message {
                    self.intake.take_back(owner, parcel.buffer);
                }
                self.egress.drops.count_many(DropReason::RingFull, count);
            }
        }
    }

    fn handle_timeouts(&mut self, now: Instant) {
        if self.egress.relay.poll_timeout().is_some_and(|at| at <= now) {
            self.egress.relay.handle_timeout(now);
        }
        if self.host.poll_timeout().is_some_and(|at| at <= now) {
            self.host.handle_timeout(now, &mut Port { egress: &mut self.egress, now });
        }
    }

    /// Tells other workers which of the tuples they receive are ours. One that is lost comes again with the next check.
    fn send_confirms(&mut self) {
        while let Some(Output::Confirm { to, tuple }) = self.egress.relay.poll_output() {
            if self.ring.push(to, Message::Confirm { owner: self.number, tuple }).is_err() {
                self.egress.drops.count(DropReason::RingFull);
            }
        }
    }

    fn publish(&mut self, now: Instant) {
        let (turn_p99, turn_max) = self.times.take();
        let (counts, sent) = (self.counts, self.egress.outgoing.sent);
        self.shared.report.store(Arc::new(WorkerReport {
            datagrams_in: counts.datagrams_in,
            bytes_in: counts.bytes_in,
            datagrams_out: sent.datagrams,
            bytes_out: sent.bytes,
            receives: counts.receives,
            sends: sent.calls,
            datagrams_out_batched: sent.batched,
            ring_out: counts.ring_out,
            ring_in: counts.ring_in,
            drops: self.egress.drops,
            flows: self.egress.relay.flows(),
            pending: self.egress.relay.pending(),
            buffers: self.intake.made(),
            turns: counts.turns,
            turn_p99,
            turn_max,
            host: self.host.report(now),
        }));
    }
}

/// Gives a datagram to the host, still in the buffer it was received into.
fn deliver<H: Host>(
    host: &mut H,
    egress: &mut Egresses,
    session: SessionKey,
    tuple: Tuple,
    bytes: &[u8],
    now: Instant,
) {
    let datagram = Datagram { source: tuple.source, asked: tuple.asked, bytes };
    if !host.handle_datagram(session, datagram, now, &mut Port { egress, now }) {
        egress.relay.end_session(session);
    }
}

fn is_set(mask: u64, bit: usize) -> bool {
    bit < 64 && mask >> bit & 1 == 1
}

/// Takes what the host sends, and refuses what may not be sent.
struct Port<'a> {
    egress: &'a mut Egresses,
    now: Instant,
}

impl Outbox for Port<'_> {
    fn transmit(&mut self, session: SessionKey, to: SocketAddr, bytes: &[u8]) {
        let Egresses { relay, outgoing, drops } = &mut *self.egress;
        match relay.on_transmit(session, to, bytes, self.now) {
            Egress::Send { asked, socket } => outgoing.push(Path { to, asked, socket }, bytes, drops),
            Egress::Drop(reason) => drops.count(reason),
        }
    }
}

/// A worker begins a turn at least this often.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// How often a worker publishes its report.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// After so many turns the runtime is given a chance, whether or not there is more to do.
const TURNS_WITHOUT_DRIVER: u64 = 16;

/// Commands and closures carried out in one turn.
const COMMANDS_PER_TURN: usize = 64;

/// Messages from other workers handled in one turn.
const MESSAGES_PER_TURN: usize = 256;

/// Batches taken from one socket in one turn.
const BATCHES_PER_TURN: usize = 2;
