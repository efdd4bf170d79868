//! The control side: speaks to the workers' rooms on behalf of WebSockets and HTTP resources.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::command::{Command, Join, JoinFault, Joined, SessionId, SfuReport, SfuTotals};
use super::offer::OfferFault;
use super::signalling::message::Track;
use super::whip::{Registry, SfuRequest, SfuResponse};
use crate::media::{SendError, WorkerReport, Workers};
use crate::pool::OpenGuard;
use crate::rooms::{Hold, RoomId};
use crate::tasks::Tasks;
use crate::telemetry::metrics::SfuMetrics;

/// The control side of the embedded SFU. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Sfu {
    shared: Arc<Shared>,
}

struct Shared {
    workers: Arc<Workers<Command, SfuReport>>,
    tasks: Tasks,
    metrics: SfuMetrics,
    registry: Registry,
}

impl std::fmt::Debug for Sfu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sfu").field("workers", &self.shared.workers.count()).finish_non_exhaustive()
    }
}

/// A participant who was let in: authenticated, placed, and holding the room.
#[derive(Debug)]
pub struct JoinContext {
    /// The room.
    pub room: RoomId,
    /// The worker that hosts it.
    pub worker: u8,
    /// Keeps the room where it is.
    pub hold: Hold,
    /// Counts the session among the open streams of the worker.
    pub open: OpenGuard,
}

/// Why a worker did not answer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum AskError {
    /// Its queue is full, or it took longer than [`ANSWER_TIMEOUT`].
    #[error("the media worker is busy: try later")]
    Busy,
    /// There is no such worker, or it has ended.
    #[error("the media worker has ended")]
    Gone,
}

impl Sfu {
    /// Creates the control side and begins to publish the workers' reports as metrics, once a second. Must be called
    /// within a runtime.
    pub fn new(workers: Arc<Workers<Command, SfuReport>>, tasks: Tasks, metrics: SfuMetrics) -> Self {
        let registry = Registry::new(RESOURCES_MAX, metrics.resources.clone());
        let shared = Arc::new(Shared { workers, tasks, metrics, registry });
        let published = Arc::clone(&shared);
        shared.tasks.spawn(async move { publish(&published).await });
        Self { shared }
    }

    /// Runs one WebSocket participant to its end. `stream` has got its 101 already.
    pub async fn serve_websocket<S>(&self, stream: S, join: JoinContext)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        super::signalling::session::serve(self, stream, join).await;
    }

    /// Answers one request to a WHIP or WHEP endpoint or resource. The caller has bounded the body, and authenticated
    /// the request unless it is OPTIONS; a POST to an endpoint comes with a place in `join`.
    pub async fn http(&self, request: SfuRequest) -> SfuResponse {
        let label = request.resource.as_str();
        let response = super::whip::answer(self, request).await;
        self.shared.metrics.requests.with_label_values(&[label, response.status.as_str()]).inc();
        response
    }

    /// Returns what each worker reported last, in the order of their numbers.
    pub fn reports(&self) -> Vec<Arc<WorkerReport<SfuReport>>> {
        self.shared.workers.handles().iter().map(|handle| handle.report()).collect()
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.shared.tasks
    }

    pub(super) fn metrics(&self) -> &SfuMetrics {
        &self.shared.metrics
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// Queues a command; a full queue loses nothing that the worker does not find out by itself: it looks now and then
    /// whether the tasks of its participants are still there.
    pub(super) fn tell(&self, worker: u8, command: Command) {
        // Who has ended has nobody left to be told about.
        let _ = self.send(worker, command);
    }

    fn send(&self, worker: u8, command: Command) -> Result<(), AskError> {
        let handle = self.shared.workers.handle(worker).ok_or(AskError::Gone)?;
        let name = command.as_str();
        handle.send(command).map_err(|error| match error {
            SendError::Full => {
                self.shared.metrics.commands_dropped.with_label_values(&[name]).inc();
                AskError::Busy
            }
            SendError::Gone => AskError::Gone,
        })
    }

    pub(super) async fn join(&self, worker: u8, join: Join) -> Result<Result<Joined, JoinFault>, AskError> {
        self.ask(worker, |reply| Command::Join { join, reply }).await
    }

    pub(super) async fn offer(
        &self,
        worker: u8,
        session: SessionId,
        sdp: String,
        tracks: Vec<Track>,
    ) -> Result<Result<String, OfferFault>, AskError> {
        self.ask(worker, |reply| Command::Offer { session, sdp, tracks, reply }).await
    }

    async fn ask<T>(
        &self,
        worker: u8,
        make: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, AskError> {
        let (reply, answer) = oneshot::channel();
        self.send(worker, make(reply))?;
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(AskError::Gone),
            Err(_) => Err(AskError::Busy),
        }
    }
}

/// Writes the workers' reports into the metrics until the process stops.
async fn publish(shared: &Shared) {
    let mut last = vec![SfuTotals::default(); usize::from(shared.workers.count())];
    loop {
        tokio::select! {
            () = shared.tasks.stopping().cancelled() => return,
            () = tokio::time::sleep(PUBLISH_EVERY) => {}
        }
        for (handle, last) in shared.workers.handles().iter().zip(&mut last) {
            let report = handle.report();
            write(&shared.metrics, &handle.worker().to_string(), &report.host, last);
            *last = report.host.totals;
        }
    }
}

fn write(metrics: &SfuMetrics, worker: &str, report: &SfuReport, last: &SfuTotals) {
    let now = &report.totals;
    let one = [worker];
    metrics.rooms.with_label_values(&one).set(i64::try_from(report.rooms.len()).unwrap_or(i64::MAX));
    metrics.participants.with_label_values(&one).set(i64::from(report.participants));
    // A worker's totals never fall while it lives.
    let since = |now: u64, last: u64| now.saturating_sub(last);
    metrics.joined.with_label_values(&one).inc_by(since(now.joined, last.joined));
    metrics.joins_refused.with_label_values(&one).inc_by(since(now.refused, last.refused));
    metrics.offers_refused.with_label_values(&one).inc_by(since(now.offers_refused, last.offers_refused));
    metrics.ice_restarts.with_label_values(&one).inc_by(since(now.ice_restarts, last.ice_restarts));
    for (vec, label, now, last) in [
        (&metrics.packets, "in", now.packets_in, last.packets_in),
        (&metrics.packets, "out", now.packets_out, last.packets_out),
        (&metrics.packets_dropped, "malformed", now.malformed, last.malformed),
        (&metrics.packets_dropped, "unwritten", now.unwritten, last.unwritten),
        (&metrics.keyframes, "wanted", now.keyframes_wanted, last.keyframes_wanted),
        (&metrics.keyframes, "asked", now.keyframes_asked, last.keyframes_asked),
        (&metrics.ended, "panic", now.ended_panic, last.ended_panic),
        (&metrics.ended, "engine", now.ended_engine, last.ended_engine),
        (&metrics.ended, "closed", now.ended_closed, last.ended_closed),
        (&metrics.ended, "silent", now.ended_silent, last.ended_silent),
        (&metrics.ended, "slow", now.ended_slow, last.ended_slow),
        (&metrics.ended, "lost", now.ended_lost, last.ended_lost),
    ] {
        vec.with_label_values(&[worker, label]).inc_by(since(now, last));
    }
}

/// A worker that lives answers within a turn of its loop.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// WHIP and WHEP resources at once; a further one gets 503.
const RESOURCES_MAX: usize = 10_000;
