//! Streams that are not ours to read: carries a client's bytes to a node of a TCP pool and back, as they are.
//!
//! The node with the fewest open streams is dialled; if it cannot be reached, another one is. From then on bytes are read
//! into the thread's scratch buffer and written on at once; only what the other side does not take waits, at most one
//! scratch buffer per direction, and nothing is read while something waits. An idle stream owns no buffer.
//!
//! ```text
//! connect ── no node can serve ("no_node"), none could be reached ("unreachable") ──► closed
//!   └► relay ── both sides over ("ended"), one failed ("error") ───────────────────► closed
//!        ├───── no byte for the pool's `timeouts.idle` ("idle") ────────────────────► closed
//!        ├───── process stops, after a jitter ("stopping") ─────────────────────────► closed
//!        └───── node down or gone ("node_down") ────────────────────────────────────► closed
//! ```
//!
//! One side's end is passed on to the other, which may go on (half-close), but not for long without a byte.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::flow::Flow;
use super::front_door::{OpenConnection, Shard};
use crate::clock;
use crate::config::settings::{Name, PoolNodes, StreamTimeouts};
use crate::pool::{FailReason, Node, OpenGuard, Pool, Wish};
use crate::wire::proxy_protocol::{Addresses, encode_v2};

/// Nodes tried for one stream, the first one included.
const TRIES_MAX: usize = 3;
/// A stream with one side over is closed after this long without a byte.
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(60);

/// A client whose bytes pass as they are.
pub(super) struct Client {
    pub(super) tcp: TcpStream,
    /// Received, and to go to the node first.
    pub(super) received: BytesMut,
    /// Counts the connection while it is open.
    pub(super) open: OpenConnection,
    pub(super) peer: SocketAddr,
    /// What it connected to, if a load balancer said so; else the socket knows.
    pub(super) destination: Option<SocketAddr>,
}

/// How a client came to a TCP pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The listener's `tcp`.
    Listener,
    /// A name of the listener's `passthrough`.
    Passthrough,
}

impl Way {
    /// Label for metrics. Stable: dashboards depend on it.
    fn as_str(self) -> &'static str {
        match self {
            Way::Listener => "listener",
            Way::Passthrough => "passthrough",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NoNode,
    Unreachable,
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
            End::NoNode => "no_node",
            End::Unreachable => "unreachable",
            End::Ended => "ended",
            End::Error => "error",
            End::Idle => "idle",
            End::Stopping => "stopping",
            End::NodeDown => "node_down",
        }
    }
}

/// Connects a client to a node of the pool and leaves both to a task of their own, or closes.
pub(super) async fn carry(shard: &Shard, client: Client, way: Way, pool: &Name) {
    let shared = &shard.shared;
    shared.parts.metrics.l4_streams_total.with_label_values(&[way.as_str()]).inc();
    let counted = Counted::new(shared.clone());
    let connected = match Box::pin(connect(shared, pool)).await {
        Ok(connected) => connected,
        Err(end) => return counted.end(end),
    };
    let relay = Relay { client, connected, stopping: shard.stopping.clone(), counted };
    // A task of its own, as small as a stream can be: the one that this runs in has room for a whole request. Boxed once:
    // every wrapper around a future by value would make the task larger by its size.
    shared.tasks.spawn(shard.track(Box::pin(relay.run())));
}

/// A node that took the connection.
struct Connected {
    tcp: TcpStream,
    /// Counts the stream at its node.
    open: OpenGuard,
    idle: Duration,
    /// Whether it wants to be told who the client is.
    proxy_protocol: bool,
}

/// Dials the least open node; another one if it cannot be reached.
async fn connect(shared: &Shared, name: &Name) -> Result<Connected, End> {
    let mut tried: Vec<Arc<Node>> = Vec::new();
    loop {
        let mut picked = pick(shared, name, &tried);
        if picked.is_none() && tried.is_empty() {
            shared.parts.pools.wait_for_first_checks(name).await;
            picked = pick(shared, name, &tried);
        }
        let Some(Picked { node, timeouts, proxy_protocol }) = picked else {
            return Err(if tried.is_empty() { End::NoNode } else { End::Unreachable });
        };
        let open = node.open();
        let dialled = async {
            let addresses = shared.addresses(&node, None).await?;
            shared.connect_announced(&node, &addresses, None, timeouts.connect).await
        };
        match dialled.await {
            Ok(tcp) => {
                // Both are hints: a stream works without them.
                let _ = tcp.set_nodelay(true);
                let _ = socket2::SockRef::from(&tcp).set_keepalive(true);
                return Ok(Connected { tcp, open, idle: timeouts.idle, proxy_protocol });
            }
            Err(reason) => {
                let ours = matches!(reason, FailReason::Local(_));
                let _ = shared.connect_failed(&node, reason);
                tried.push(node);
                if ours || tried.len() >= TRIES_MAX {
                    return Err(End::Unreachable);
                }
            }
        }
    }
}

/// A node and what its pool says of streams.
struct Picked {
    node: Arc<Node>,
    timeouts: StreamTimeouts,
    proxy_protocol: bool,
}

/// Picks the least open node that was not tried yet.
fn pick(shared: &Shared, pool: &Name, tried: &[Arc<Node>]) -> Option<Picked> {
    let pool = shared.parts.pools.get(pool)?;
    let timeouts = match &pool.settings.nodes {
        PoolNodes::Tcp { timeouts, .. } => *timeouts,
        // A reload made another kind of it; the listener learns so in a moment.
        PoolNodes::Http { .. } | PoolNodes::Embedded { .. } => return None,
    };
    let node = if tried.is_empty() { pool.least_open(&Wish::NONE, None) } else { other(&pool, tried) };
    Some(Picked { node: node?, timeouts, proxy_protocol: pool.settings.proxy_protocol })
}

fn other(pool: &Pool, tried: &[Arc<Node>]) -> Option<Arc<Node>> {
    let untried = |node: &&Arc<Node>| !tried.iter().any(|tried| Arc::ptr_eq(tried, node));
    let nodes = pool.nodes.iter().filter(|node| node.can_serve()).filter(untried);
    nodes.min_by_key(|node| (node.weight() == 0, node.open_count())).cloned()
}

/// Counts one open stream, also when its task is dropped.
struct Counted {
    shared: Arc<Shared>,
}

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.parts.metrics.l4_streams.inc();
        Self { shared }
    }

    /// Last of all: whoever sees the end counted sees everything else about the stream counted too.
    fn end(self, end: End) {
        let shared = self.shared.clone();
        drop(self);
        shared.parts.metrics.l4_closed.with_label_values(&[end.as_str()]).inc();
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.parts.metrics.l4_streams.dec();
    }
}

struct Relay {
    client: Client,
    connected: Connected,
    stopping: CancellationToken,
    counted: Counted,
}

impl Relay {
    /// Runs the stream to its end.
    fn run(self) -> impl Future<Output = ()> + Send {
        let Self { client, connected, stopping, counted } = self;
        let Client { tcp: client, received, open: connection, peer, destination } = client;
        let Connected { tcp: node, open, idle, proxy_protocol } = connected;
        let metrics = &counted.shared.parts.metrics;
        let mut pair = Pair {
            client,
            node,
            to_client: Flow::new(metrics.l4_bytes_from_node.clone()),
            to_node: Flow::new(metrics.l4_bytes_from_client.clone()),
        };
        pair.to_node.count(received.len());
        if proxy_protocol {
            let destination = destination.or_else(|| pair.client.local_addr().ok()).unwrap_or(peer);
            pair.to_node.append(&encode_v2(&Addresses { source: peer, destination }));
        }
        pair.to_node.append(&received);
        // An async block holds what it captured once; arguments of an async function it would hold twice.
        async move {
            let end = {
                let down = open.node().down();
                pair.relay(down, idle, &stopping, &counted.shared).await
            };
            // Bytes below a counting step are added when the pair goes.
            drop((pair, open, connection));
            counted.end(end);
        }
    }
}

/// Both sides and both directions.
struct Pair {
    client: TcpStream,
    node: TcpStream,
    to_client: Flow,
    to_node: Flow,
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
        down: impl Future<Output = ()>,
        idle: Duration,
        stopping: &CancellationToken,
        shared: &Shared,
    ) -> End {
        let mut down = pin!(down);
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
                        limit = limit.min(HALF_CLOSED_IDLE);
                    }
                },
                () = &mut down => return End::NodeDown,
                () = stopping.cancelled(), if stop_at.is_none() => {
                    // Spread over half of the deadline: clients that come back do not come all at once.
                    let deadline = shared.settings.load().shutdown.deadline;
                    stop_at = Some(clock::now() + crate::tasks::turn(deadline, rand::random()));
                }
                () = &mut timer => {
                    let now = clock::now();
                    if stop_at.is_some_and(|at| at <= now) {
                        return End::Stopping;
                    }
                    if now.duration_since(last) >= limit {
                        return End::Idle;
                    }
                }
            }
            let next = stop_at.map_or(last + limit, |at| at.min(last + limit));
            timer.as_mut().reset(next.into());
        }
    }

    /// Moves bytes in both directions until something happens.
    fn poll_relay(&mut self, cx: &mut Context<'_>, half_closed: bool, last: &mut Instant) -> Poll<Event> {
        let totals = |pair: &Self| (pair.to_client.total(), pair.to_node.total());
        let before = totals(self);
        let down = self.to_client.poll(cx, &mut self.node, &mut self.client, Flow::send);
        let up = self.to_node.poll(cx, &mut self.client, &mut self.node, Flow::send);
        if totals(self) != before {
            *last = clock::now();
        }
        match (down, up) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(Event::Failed),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Event::Over),
            (Poll::Ready(Ok(())), Poll::Pending) | (Poll::Pending, Poll::Ready(Ok(()))) if !half_closed => {
                Poll::Ready(Event::HalfClosed)
            }
            (Poll::Ready(Ok(())) | Poll::Pending, Poll::Ready(Ok(())) | Poll::Pending) => Poll::Pending,
        }
    }
}
