//! A WebSocket through the edge, after its 101: moves bytes, follows frames, says goodbye.
//!
//! Bytes are read into the thread's scratch buffer and written on at once; only what the other side does not take
//! waits, at most one scratch buffer per direction, and nothing is read while something waits. Payloads are opaque.
//!
//! ```text
//! relay ── both sides over ───────────────────────────────► end ("ended")
//!   │  └── error ─────────────────────────────────────────► end ("error")
//!   ├───── no byte for `tunnel_idle` ──► farewell (1001) ──► end ("idle")
//!   ├───── process stops, after a jitter ► farewell (1001) ► end ("stopping")
//!   └───── node lost ──────────────────► farewell (1012) ──► end ("node_down")
//! ```
//!
//! A farewell lets the frame under way pass, puts a close frame behind it and waits shortly for the client's own.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::access_log::Pending;
use super::buffers;
use super::stream::FrontStream;
use crate::clock;
use crate::pool::OpenGuard;
use crate::rooms::Hold;
use crate::wire::ws_frame::{CloseCode, Frames, close_frame};

/// Longest wait for the frame under way and the client's own close frame.
const FAREWELL: Duration = Duration::from_secs(2);
/// Longest wait for the last bytes and the TLS farewell.
const SHUTDOWN: Duration = Duration::from_secs(1);
/// A tunnel with one side over is closed after this long without a byte.
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(60);
/// Bytes are added to the metric in steps of at least this, so that threads do not meet in it.
const COUNT_STEP: u64 = 64 * 1024;

/// One WebSocket through the edge.
pub(super) struct Tunnel {
    /// Its line of the access log.
    pub(super) log: Option<Box<Pending>>,
    pub(super) client: Box<FrontStream>,
    pub(super) node: TcpStream,
    /// What goes to the client before anything else: the 101, then what the node sent behind its own.
    pub(super) greeting: Greeting,
    /// Keeps the room where it is.
    pub(super) hold: Option<Hold>,
    /// Counts the tunnel at its node.
    pub(super) open: OpenGuard,
    pub(super) idle: Duration,
    pub(super) stopping: CancellationToken,
    /// From the process's stop to its end at the latest.
    pub(super) stop_deadline: Duration,
    pub(super) shared: Arc<Shared>,
}

/// The answer to a handshake, and frames that came with it.
pub(super) struct Greeting {
    pub(super) head: Vec<u8>,
    pub(super) frames: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ended,
    Error,
    Idle,
    Stopping,
    NodeDown,
}

impl End {
    /// Label for metrics. Stable: dashboards depend on it.
    fn as_str(self) -> &'static str {
        match self {
            End::Ended => "ended",
            End::Error => "error",
            End::Idle => "idle",
            End::Stopping => "stopping",
            End::NodeDown => "node_down",
        }
    }
}

impl Tunnel {
    /// Runs the tunnel to its end.
    pub(super) fn run(self) -> impl Future<Output = ()> + Send {
        let Self { log, client, node, greeting, hold, open, idle, stopping, stop_deadline, shared } = self;
        let metrics = &shared.parts.metrics;
        metrics.tunnels_total.inc();
        let mut pair = Pair {
            client,
            node,
            to_client: Pipe::new(metrics.tunnel_bytes_from_node.clone()),
            to_node: Pipe::new(metrics.tunnel_bytes_from_client.clone()),
        };
        pair.to_client.frames.advance(&greeting.frames);
        pair.to_client.count(greeting.frames.len());
        pair.to_client.waiting = [greeting.head, greeting.frames].concat();
        let counted = Counted::new(shared);
        // An async block holds what it captured once; arguments of an async function it would hold twice.
        async move {
            let lost = async {
                match &hold {
                    Some(hold) => hold.lost().await,
                    None => open.node().down().await,
                }
            };
            let end = pair.relay(lost, idle, &stopping, stop_deadline).await;
            match end {
                End::Ended | End::Error => {}
                End::Idle => pair.farewell(CloseCode::GoingAway("idle"), true, FAREWELL).await,
                End::Stopping => {
                    // Half of the deadline is spent on the jitter; the rest must do for slow clients too.
                    let wait = FAREWELL.min(stop_deadline / 5);
                    pair.farewell(CloseCode::GoingAway("edge stops"), true, wait).await;
                }
                End::NodeDown => pair.farewell(CloseCode::ServiceRestart, false, FAREWELL).await,
            }
            if let Some(mut log) = log {
                log.end(end.as_str(), Some((pair.to_node.total, pair.to_client.total)));
            }
            let closed = &counted.shared.parts.metrics.tunnels_closed;
            closed.with_label_values(&[end.as_str()]).inc();
        }
    }
}

/// Counts one open tunnel, also when its task is dropped.
struct Counted {
    shared: Arc<Shared>,
}

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.parts.metrics.tunnels.inc();
        Self { shared }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.parts.metrics.tunnels.dec();
    }
}

/// Both sides and both directions.
struct Pair {
    client: Box<FrontStream>,
    node: TcpStream,
    to_client: Pipe,
    to_node: Pipe,
}

/// What happened while bytes moved.
enum Event {
    HalfClosed,
    Over,
    Failed,
}

impl Pair {
    async fn relay(
        &mut self,
        lost: impl Future<Output = ()>,
        idle: Duration,
        stopping: &CancellationToken,
        stop_deadline: Duration,
    ) -> End {
        let mut lost = pin!(lost);
        let mut timer = pin!(tokio::time::sleep(idle));
        let mut limit = idle;
        let mut last = clock::now();
        let mut half_closed = false;
        let mut stop_at: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                event = std::future::poll_fn(|cx| self.poll_relay(cx, half_closed, &mut last)) => match event {
                    Event::Over => return End::Ended,
                    Event::Failed => return End::Error,
                    Event::HalfClosed => {
                        half_closed = true;
                        limit = limit.min(if self.said_goodbye() { FAREWELL } else { HALF_CLOSED_IDLE });
                    }
                },
                () = &mut lost => return End::NodeDown,
                () = stopping.cancelled(), if stop_at.is_none() => {
                    // Spread over half of the deadline: clients that come back do not come all at once.
                    stop_at = Some(clock::now() + crate::tasks::turn(stop_deadline, rand::random()));
                }
                () = &mut timer => {
                    let now = clock::now();
                    if stop_at.is_some_and(|at| at <= now) {
                        return End::Stopping;
                    }
                    if now.duration_since(last) >= limit {
                        return if half_closed && self.said_goodbye() { End::Ended } else { End::Idle };
                    }
                }
            }
            let next = stop_at.map_or(last + limit, |at| at.min(last + limit));
            timer.as_mut().reset(next.into());
        }
    }

    fn said_goodbye(&self) -> bool {
        self.to_client.frames.is_closed() || self.to_node.frames.is_closed()
    }

    fn both_said_goodbye(&self) -> bool {
        self.to_client.frames.is_closed() && self.to_node.frames.is_closed()
    }

    /// Moves bytes in both directions until something happens.
    fn poll_relay(&mut self, cx: &mut Context<'_>, half_closed: bool, last: &mut Instant) -> Poll<Event> {
        let before = (self.to_client.total, self.to_node.total);
        let down = self.to_client.poll(cx, &mut self.node, &mut self.client);
        let up = self.to_node.poll(cx, &mut self.client, &mut self.node);
        if (self.to_client.total, self.to_node.total) != before {
            *last = clock::now();
        }
        match (down, up) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(Event::Failed),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Event::Over),
            // RFC 6455 section 7.1.1: the server closes first, and a client may leave its own side open.
            (Poll::Ready(Ok(())), _) if self.both_said_goodbye() => Poll::Ready(Event::Over),
            (Poll::Ready(Ok(())), Poll::Pending) | (Poll::Pending, Poll::Ready(Ok(()))) if !half_closed => {
                Poll::Ready(Event::HalfClosed)
            }
            _ => Poll::Pending,
        }
    }

    /// Closes politely: a close frame to the client and, if it is there, to the node.
    async fn farewell(&mut self, code: CloseCode, node_is_there: bool, wait: Duration) {
        self.to_client.say_close(close_frame(code, None));
        if node_is_there {
            self.to_node.say_close(close_frame(code, Some(rand::random())));
        } else {
            self.to_node.mode = Mode::Discard;
        }
        let goodbye = std::future::poll_fn(|cx| self.poll_farewell(cx));
        let _ = tokio::time::timeout(wait, goodbye).await;
        let _ = tokio::time::timeout(SHUTDOWN.min(wait), self.client.shutdown()).await;
    }

    /// Ready when the client has our close frame and has sent its own, or is gone.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(Err(_)) = self.to_node.poll(cx, &mut self.client, &mut self.node) {
            // Which side failed is not known. If it is the client, the other direction finds out.
            self.to_node.mode = Mode::Discard;
            self.to_node.waiting.clear();
            if let Poll::Ready(Err(_)) = self.to_node.poll(cx, &mut self.client, &mut self.node) {
                return Poll::Ready(());
            }
        }
        let said = match self.to_client.poll(cx, &mut self.node, &mut self.client) {
            Poll::Ready(_) => return Poll::Ready(()),
            Poll::Pending => self.to_client.mode == Mode::Discard && self.to_client.is_sent(),
        };
        let answered = self.to_node.frames.is_closed() || self.to_node.side != Side::Open;
        if said && answered { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// One direction.
struct Pipe {
    /// Read and not yet taken by the other side. Empty and without memory while the direction is idle.
    waiting: Vec<u8>,
    at: usize,
    unflushed: bool,
    side: Side,
    mode: Mode,
    frames: Frames,
    total: u64,
    uncounted: u64,
    counter: IntCounter,
}

/// How far the source has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Open,
    /// It has ended; the other side is told when all is written.
    Ended,
    /// The other side has been told.
    Told,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    /// Everything passes.
    Pass,
    /// The frame under way passes, then this close frame goes out.
    FinishFrame(Vec<u8>),
    /// Nothing passes any more; frames are still followed.
    Discard,
}

impl Pipe {
    fn new(counter: IntCounter) -> Self {
        Self {
            waiting: Vec::new(),
            at: 0,
            unflushed: false,
            side: Side::Open,
            mode: Mode::Pass,
            frames: Frames::default(),
            total: 0,
            uncounted: 0,
            counter,
        }
    }

    fn count(&mut self, bytes: usize) {
        self.total += bytes as u64;
        self.uncounted += bytes as u64;
        if self.uncounted >= COUNT_STEP {
            self.counter.inc_by(std::mem::take(&mut self.uncounted));
        }
    }

    fn is_sent(&self) -> bool {
        self.waiting.is_empty() && !self.unflushed
    }

    /// Puts a close frame behind the frame under way. Does nothing if this direction has said goodbye itself.
    fn say_close(&mut self, frame: Vec<u8>) {
        self.mode = if self.frames.is_closed() || self.side != Side::Open {
            Mode::Discard
        } else if self.frames.at_boundary() {
            self.waiting.extend_from_slice(&frame);
            Mode::Discard
        } else {
            Mode::FinishFrame(frame)
        };
    }

    /// Moves bytes until the source has none, or the other side takes none. Ready when the direction is over.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.poll_waiting(cx, to))?;
            match self.side {
                Side::Told => return Poll::Ready(Ok(())),
                Side::Ended => {
                    // A side that cannot be told any more is as good as told.
                    let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.side = Side::Told;
                }
                Side::Open => ready!(self.poll_move(cx, from, to))?,
            }
        }
    }

    /// Writes what waits, then flushes.
    fn poll_waiting<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while self.at < self.waiting.len() {
            let rest = self.waiting.get(self.at..).unwrap_or_default();
            let written = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.at += written;
            self.unflushed = true;
        }
        if self.waiting.capacity() > 0 {
            buffers::give(std::mem::take(&mut self.waiting));
        }
        self.at = 0;
        if self.unflushed {
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes at once what the other side takes.
    fn poll_move<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        buffers::with_scratch(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(from).poll_read(cx, &mut buf))?;
            let bytes = buf.filled();
            if bytes.is_empty() {
                self.side = Side::Ended;
                return Poll::Ready(Ok(()));
            }
            self.count(bytes.len());
            let (pass, close) = self.admit(bytes);
            let mut rest = bytes.get(..pass).unwrap_or_default();
            while !rest.is_empty() {
                match Pin::new(&mut *to).poll_write(cx, rest) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(written)) => {
                        self.unflushed = true;
                        rest = rest.get(written..).unwrap_or_default();
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            if !rest.is_empty() || close.is_some() {
                self.waiting = buffers::take();
                self.waiting.extend_from_slice(rest);
                self.waiting.extend_from_slice(&close.unwrap_or_default());
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Follows frames and decides how many of the bytes pass, and whether a close frame comes behind them.
    fn admit(&mut self, bytes: &[u8]) -> (usize, Option<Vec<u8>>) {
        match &self.mode {
            Mode::Pass => {
                self.frames.advance(bytes);
                (bytes.len(), None)
            }
            Mode::FinishFrame(_) => {
                let pass = self.frames.finish_frame(bytes);
                if !self.frames.at_boundary() {
                    return (pass, None);
                }
                let Mode::FinishFrame(frame) = std::mem::replace(&mut self.mode, Mode::Discard) else {
                    return (pass, None);
                };
                // The source's own close frame was the one under way: it says enough.
                let close = (!self.frames.is_closed()).then_some(frame);
                self.frames.advance(bytes.get(pass..).unwrap_or_default());
                (pass, close)
            }
            Mode::Discard => {
                self.frames.advance(bytes);
                (0, None)
            }
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.counter.inc_by(self.uncounted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> Pipe {
        Pipe::new(IntCounter::new("bytes", "bytes").unwrap())
    }

    #[test]
    fn a_close_frame_goes_between_two_frames() {
        let mut down = pipe();
        down.frames.advance(&[0x82, 3, 1]);
        down.say_close(vec![0x88, 0]);
        assert_eq!(down.mode, Mode::FinishFrame(vec![0x88, 0]));
        // The rest of the frame passes, the next frame does not.
        assert_eq!(down.admit(&[2, 3, 0x82, 1, 9]), (2, Some(vec![0x88, 0])));
        assert_eq!(down.admit(&[0x82, 1, 9]), (0, None));
    }

    #[test]
    fn nothing_is_added_behind_a_close_frame() {
        let mut down = pipe();
        assert_eq!(down.admit(&[0x88, 0]), (2, None));
        down.say_close(vec![0x88, 0]);
        assert!(down.waiting.is_empty() && down.mode == Mode::Discard);
        let mut down = pipe();
        down.frames.advance(&[0x88]);
        down.say_close(vec![0x88, 0]);
        assert_eq!(down.admit(&[0]), (1, None));
    }

    #[tokio::test]
    async fn bytes_that_are_not_taken_wait_and_stop_the_reading() {
        let (mut source, mut from) = tokio::io::duplex(1024 * 1024);
        let (mut to, mut sink) = tokio::io::duplex(1000);
        source.write_all(&vec![7; 100_000]).await.unwrap();
        let mut down = pipe();
        let poll = std::future::poll_fn(|cx| {
            assert!(down.poll(cx, &mut from, &mut to).is_pending());
            Poll::Ready(())
        });
        poll.await;
        assert!(
            down.waiting.len() <= buffers::BYTES && down.total <= 2 * buffers::BYTES as u64,
            "{}",
            down.total
        );
        source.shutdown().await.unwrap();
        let drained = async {
            let mut all = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut sink, &mut all).await.unwrap();
            all.len()
        };
        let (done, count) =
            tokio::join!(std::future::poll_fn(|cx| down.poll(cx, &mut from, &mut to)), drained);
        done.unwrap();
        assert_eq!((count, down.waiting.capacity()), (100_000, 0));
    }
}
