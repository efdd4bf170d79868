//! A WebSocket through the edge, after its 101: moves bytes, follows frames, says goodbye.
//!
//! Bytes are read into the thread's scratch buffer and written on at once; only what the other side does not take
//! waits, at most one scratch buffer per direction, and nothing is read while something waits. Payloads are opaque.
//!
//! ```text
//! relay ── both sides over ───────────────────────────────► end ("ended")
//!   │  └── error ─────────────────────────────────────────► end ("error")
//!   ├───── no byte for `tunnel_idle` ──► farewell (1001) ──► end ("idle")
//!   ├───── no answer to our ping ──────► farewell (1001) ──► end ("no_pong")
//!   ├───── process stops, at its turn ─► farewell (1001) ──► end ("stopping")
//!   ├───── told to close ──────────────► farewell (code) ──► end ("told")
//!   └───── node lost ──────────────────► farewell (1012) ──► end ("node_down")
//! ```
//!
//! A farewell lets the frame under way pass, puts a close frame behind it and waits shortly for the client's own. A ping
//! goes between two frames as well. Neither it nor its pong is a byte of the tunnel: they keep no silent one open.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use super::Shared;
use super::access_log::Pending;
use super::flow::Side;
use super::pipe::Pipe;
use super::stream::FrontStream;
use super::tunnels::{FAREWELL, Order, Ticket};
use crate::clock;
use crate::pool::{NodeStream, OpenGuard};
use crate::rooms::Hold;
use crate::wire::ws_frame::{CloseCode, close_frame};
use crate::wire::ws_ping::{self, ping_frame};

/// Longest wait for the last bytes and the TLS farewell.
const SHUTDOWN: Duration = Duration::from_secs(1);
/// A tunnel with one side over is closed after this long without a byte.
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(60);

/// One WebSocket through the edge.
pub(super) struct Tunnel {
    /// Its line of the access log.
    pub(super) log: Option<Box<Pending>>,
    pub(super) client: Box<FrontStream>,
    pub(super) node: NodeStream,
    /// What goes to the client before anything else: the 101, then what the node sent behind its own.
    pub(super) greeting: Greeting,
    /// Keeps the room where it is.
    pub(super) hold: Option<Hold>,
    /// Counts the tunnel at its node.
    pub(super) open: OpenGuard,
    /// Its place in the table of tunnels, through which it is told to close.
    pub(super) ticket: Ticket,
    pub(super) limits: Limits,
    pub(super) shared: Arc<Shared>,
}

/// How long a tunnel may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Without a byte in either direction.
    pub(super) idle: Duration,
    /// Without a byte of the client, until it is sent a ping; and from there, until it is given up.
    pub(super) ping: Option<Duration>,
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
    NoPong,
    Told(Order),
    NodeDown,
}

impl End {
    /// Label for metrics. Stable: dashboards depend on it.
    fn as_str(self) -> &'static str {
        match self {
            End::Ended => "ended",
            End::Error => "error",
            End::Idle => "idle",
            End::NoPong => "no_pong",
            End::Told(Order::Stop) => "stopping",
            End::Told(Order::Close(_)) => "told",
            End::NodeDown => "node_down",
        }
    }

    /// What the client is told, and whether the node is there to be told too.
    fn goodbye(self) -> Option<(CloseCode, bool)> {
        match self {
            End::Ended | End::Error => None,
            End::Idle => Some((CloseCode::GoingAway("idle"), true)),
            End::NoPong => Some((CloseCode::GoingAway("no answer"), true)),
            End::Told(Order::Stop) => Some((CloseCode::GoingAway("edge stops"), true)),
            End::Told(Order::Close(code)) => Some((code, true)),
            End::NodeDown => Some((CloseCode::ServiceRestart("node down"), false)),
        }
    }
}

impl Tunnel {
    /// Runs the tunnel to its end.
    pub(super) fn run(self) -> impl Future<Output = ()> + Send {
        let Self { log, client, node, greeting, hold, open, ticket, limits, shared } = self;
        let metrics = &shared.parts.metrics;
        metrics.tunnels_total.inc();
        let mut pair = Pair {
            client,
            node,
            to_client: Pipe::new(metrics.tunnel_bytes_from_node.clone()),
            to_node: Pipe::new(metrics.tunnel_bytes_from_client.clone()),
        };
        pair.to_client.greet(&greeting.head, &greeting.frames);
        let counted = Counted::new(shared);
        // An async block holds what it captured once; arguments of an async function it would hold twice.
        async move {
            let end = {
                // Boxed: it is polled once, and then when the node's state changes.
                let mut lost: Pin<Box<dyn Future<Output = ()> + Send>> = match &hold {
                    Some(hold) => Box::pin(hold.lost()),
                    None => Box::pin(open.node().down()),
                };
                pair.relay(&mut lost, limits, &ticket, counted.shared.ping_tag).await
            };
            if let Some((code, node_is_there)) = end.goodbye() {
                let wait = if end == End::Told(Order::Stop) { ticket.farewell() } else { FAREWELL };
                // Boxed: an idle tunnel need not have the room for it.
                Box::pin(pair.farewell(code, node_is_there, wait)).await;
            }
            if let Some(mut log) = log {
                log.end(end.as_str(), Some((pair.to_node.moved(), pair.to_client.moved())));
            }
            let shared = counted.shared.clone();
            drop((pair, hold, open, ticket, counted));
            // Last of all: whoever sees the end counted sees everything else counted too.
            shared.parts.metrics.tunnels_closed.with_label_values(&[end.as_str()]).inc();
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
    node: NodeStream,
    to_client: Pipe,
    to_node: Pipe,
}

/// What happened while bytes moved.
enum Event {
    HalfClosed,
    Over,
    Failed,
    NodeLost,
    /// There is an order to close, or another one than before.
    Told,
}

/// When bytes last moved, and what is done about silence.
struct Silence {
    /// Of the tunnel: nothing moved since.
    last: Instant,
    /// Of the client: nothing came since.
    client: Instant,
    /// When our ping left, if it has no answer yet.
    pinged: Option<Instant>,
    /// What the tunnel is closed after.
    limit: Duration,
    ping: Option<Duration>,
}

impl Silence {
    /// When it must be looked at next.
    fn next(&self) -> Instant {
        let idle = self.last + self.limit;
        match self.ping {
            Some(ping) => idle.min(self.pinged.unwrap_or(self.client) + ping),
            None => idle,
        }
    }
}

impl Pair {
    async fn relay(
        &mut self,
        lost: &mut Pin<Box<dyn Future<Output = ()> + Send>>,
        limits: Limits,
        ticket: &Ticket,
        tag: ws_ping::Tag,
    ) -> End {
        let mut timer =
            pin!(tokio::time::sleep(limits.ping.map_or(limits.idle, |ping| ping.min(limits.idle))));
        let now = clock::now();
        let Limits { idle, ping } = limits;
        let mut silence = Silence { last: now, client: now, pinged: None, limit: idle, ping };
        let mut half_closed = false;
        let mut told: Option<Instant> = None;
        loop {
            let event = std::future::poll_fn(|cx| {
                if let Poll::Ready(event) = self.poll_relay(cx, half_closed, tag, &mut silence) {
                    return Poll::Ready(Some(event));
                }
                if lost.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(Event::NodeLost));
                }
                if ticket.poll_order(cx, told).is_ready() {
                    return Poll::Ready(Some(Event::Told));
                }
                timer.as_mut().poll(cx).map(|()| None)
            });
            match event.await {
                Some(Event::Over) => return End::Ended,
                Some(Event::Failed) => return End::Error,
                Some(Event::NodeLost) => return End::NodeDown,
                Some(Event::HalfClosed) => {
                    half_closed = true;
                    // A ping has no place behind a side's end.
                    silence.ping = None;
                    let limit = if self.said_goodbye() { FAREWELL } else { HALF_CLOSED_IDLE };
                    silence.limit = silence.limit.min(limit);
                }
                Some(Event::Told) => told = ticket.order().map(|(at, _)| at),
                None => {}
            }
            let now = clock::now();
            if let Some((_, order)) = ticket.order().filter(|(at, _)| *at <= now) {
                return End::Told(order);
            }
            if now.duration_since(silence.last) >= silence.limit {
                return if half_closed && self.said_goodbye() { End::Ended } else { End::Idle };
            }
            if self.ping_is_unanswered(now, tag, &mut silence) {
                return End::NoPong;
            }
            let next = told.map_or(silence.next(), |at| at.min(silence.next()));
            timer.as_mut().reset(next.into());
        }
    }

    /// Sends a ping when the client has been silent for long enough, and tells whether it has been since the last one.
    fn ping_is_unanswered(&mut self, now: Instant, tag: ws_ping::Tag, silence: &mut Silence) -> bool {
        let Some(every) = silence.ping else { return false };
        match silence.pinged {
            _ if self.said_goodbye() => silence.ping = None,
            Some(at) if silence.client >= at => silence.pinged = None,
            // What has not left cannot be answered: a client that takes nothing meets the limits of TCP.
            Some(_) if !self.to_client.is_sent() => silence.pinged = Some(now),
            Some(at) => return now.duration_since(at) >= every,
            None => {}
        }
        if silence.pinged.is_none() && now.duration_since(silence.client) >= every {
            self.to_client.put_in(ping_frame(tag));
            self.to_node.take_pongs();
            silence.pinged = Some(now);
        }
        false
    }

    fn said_goodbye(&self) -> bool {
        self.to_client.is_closed() || self.to_node.is_closed()
    }

    fn both_said_goodbye(&self) -> bool {
        self.to_client.is_closed() && self.to_node.is_closed()
    }

    /// Moves bytes in both directions until something happens.
    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        half_closed: bool,
        tag: ws_ping::Tag,
        silence: &mut Silence,
    ) -> Poll<Event> {
        let (down_before, up_before) = (self.to_client.moved(), self.to_node.moved());
        let client_before = self.to_node.total();
        let down = self.to_client.poll(cx, &mut self.node, &mut self.client, tag);
        let up = self.to_node.poll(cx, &mut self.client, &mut self.node, tag);
        if self.to_node.total() != client_before {
            silence.client = clock::now();
        }
        if (self.to_client.moved(), self.to_node.moved()) != (down_before, up_before) {
            silence.last = clock::now();
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

    /// Closes politely: a close frame to the client and, if it is there, to the node, which learns no more than that
    /// its client is gone.
    async fn farewell(&mut self, code: CloseCode, node_is_there: bool, wait: Duration) {
        self.to_client.say_close(close_frame(code, None));
        if node_is_there {
            let gone = CloseCode::GoingAway(code.reason());
            self.to_node.say_close(close_frame(gone, Some(rand::random())));
        } else {
            self.to_node.discard();
        }
        let goodbye = std::future::poll_fn(|cx| self.poll_farewell(cx));
        let _ = tokio::time::timeout(wait, goodbye).await;
        let _ = tokio::time::timeout(SHUTDOWN.min(wait), self.client.shutdown()).await;
    }

    /// Ready when the client has our close frame and has sent its own, or is gone.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // No pong is looked for any more.
        let tag = ws_ping::Tag::default();
        if let Poll::Ready(Err(_)) = self.to_node.poll(cx, &mut self.client, &mut self.node, tag) {
            // Which side failed is not known. If it is the client, the other direction finds out.
            self.to_node.discard();
            self.to_node.drop_waiting();
            if let Poll::Ready(Err(_)) = self.to_node.poll(cx, &mut self.client, &mut self.node, tag) {
                return Poll::Ready(());
            }
        }
        let said = match self.to_client.poll(cx, &mut self.node, &mut self.client, tag) {
            Poll::Ready(_) => return Poll::Ready(()),
            Poll::Pending => self.to_client.is_discarding() && self.to_client.is_sent(),
        };
        let answered = self.to_node.is_closed() || self.to_node.side() != Side::Open;
        if said && answered { Poll::Ready(()) } else { Poll::Pending }
    }
}
