//! One worker: a thread with its sockets, its flows and its host. Nothing in it is shared.

use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::drops::{DropReason, Drops};
use super::host::{Host, Outbox, SessionKey};
use super::identity::WorkerIdentity;
use super::report::{TurnTimes, WorkerReport};
use super::ring::{self, Ring};
use super::wake::Wake;
use super::workers::{Shared, WorkerLimits};
use crate::clock;

/// What the control side asks of a worker.
pub(super) enum Control<C> {
    Command(C),
    Run(Box<dyn FnOnce() + Send>),
}

/// What travels between workers.
pub(super) enum Message {}

/// Makes the rings between the workers.
pub(super) fn rings(wakes: &[Arc<Wake>], limits: &WorkerLimits) -> Vec<Ring<Message>> {
    ring::connect(wakes, limits.ring_capacity, limits.buffers_max)
}

/// What a worker's thread starts with.
pub(super) struct Parts<C, R> {
    pub(super) identity: WorkerIdentity,
    pub(super) sockets: Vec<UdpSocket>,
    pub(super) commands: Receiver<Control<C>>,
    pub(super) shared: Arc<Shared<R>>,
    pub(super) limits: WorkerLimits,
}

/// Runs a worker to its end on the current thread.
pub(super) fn run<H: Host>(
    parts: Parts<H::Command, H::Report>,
    ring: Ring<Message>,
    make: impl Fn(WorkerIdentity) -> H,
) {
    let shared = Arc::clone(&parts.shared);
    let number = shared.worker;
    // The panic was printed by the hook. What matters is that the node goes red: its heartbeat has stopped.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { Worker::new(parts, ring, make).run().await });
        std::io::Result::Ok(())
    }));
    shared.running.store(false, Ordering::Release);
    match outcome {
        Ok(Ok(())) => tracing::debug!(worker = number, "media worker ended"),
        Ok(Err(error)) => tracing::error!(worker = number, %error, "media worker cannot start"),
        Err(_) => tracing::error!(worker = number, "media worker panicked and has ended"),
    }
}

struct Worker<H: Host> {
    host: H,
    commands: Receiver<Control<H::Command>>,
    shared: Arc<Shared<H::Report>>,
    drops: Drops,
    times: TurnTimes,
    turns: u64,
    report_due: Instant,
}

impl<H: Host> Worker<H> {
    fn new(
        parts: Parts<H::Command, H::Report>,
        _ring: Ring<Message>,
        make: impl Fn(WorkerIdentity) -> H,
    ) -> Self {
        Self {
            host: make(parts.identity),
            commands: parts.commands,
            shared: parts.shared,
            drops: Drops::default(),
            times: TurnTimes::default(),
            turns: 0,
            report_due: clock::now(),
        }
    }

    async fn run(mut self) {
        let mut sleep = std::pin::pin!(tokio::time::sleep(HEARTBEAT));
        loop {
            self.wait(sleep.as_mut()).await;
            if self.shared.stopping.load(Ordering::Acquire) {
                return;
            }
            let now = clock::now();
            let beat = now.saturating_duration_since(self.shared.epoch);
            self.shared.beat.store(u64::try_from(beat.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
            self.turn(now);
            self.times.record(clock::now().saturating_duration_since(now));
        }
    }

    async fn wait(&self, mut sleep: Pin<&mut tokio::time::Sleep>) {
        let now = clock::now();
        let due = self.host.poll_timeout().map_or(now + HEARTBEAT, |at| at.min(now + HEARTBEAT));
        sleep.as_mut().reset(due.into());
        std::future::poll_fn(|cx| {
            if self.shared.wake.poll(cx) {
                return std::task::Poll::Ready(());
            }
            sleep.as_mut().poll(cx)
        })
        .await;
    }

    fn turn(&mut self, now: Instant) {
        self.turns += 1;
        let mut port = Port { drops: &mut self.drops };
        for _ in 0..COMMANDS_PER_TURN {
            let Ok(control) = self.commands.try_recv() else { break };
            match control {
                Control::Command(command) => self.host.handle_command(command, now, &mut port),
                Control::Run(f) => f(),
            }
        }
        if self.host.poll_timeout().is_some_and(|at| at <= now) {
            self.host.handle_timeout(now, &mut port);
        }
        if now >= self.report_due {
            self.report_due = now + Duration::from_secs(1);
            let (turn_p99, turn_max) = self.times.take();
            self.shared.report.store(Arc::new(WorkerReport {
                drops: self.drops,
                turns: self.turns,
                turn_p99,
                turn_max,
                host: self.host.report(now),
                ..WorkerReport::default()
            }));
        }
    }
}

/// Takes what the host sends.
struct Port<'a> {
    drops: &'a mut Drops,
}

impl Outbox for Port<'_> {
    fn transmit(&mut self, _session: SessionKey, _to: SocketAddr, _bytes: &[u8]) {
        self.drops.count(DropReason::Unvalidated);
    }
}

/// A worker begins a turn at least this often.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// Commands and closures carried out in one turn.
const COMMANDS_PER_TURN: usize = 64;
