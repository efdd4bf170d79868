//! Connects requests and WebSockets to nodes, and tells a node's failure from a lack of our own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::stream::Stream;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use tokio::net::TcpStream;

use super::Shared;
use super::proxy::{Request, unavailable};
use crate::clock;
use crate::config::settings::Protocol;
use crate::pool::dial::{Tls, dial};
use crate::pool::{FailReason, LocalFault, Node, NodeStream, Target};
use crate::wire::proxy_protocol::{Addresses, encode_v2};

/// A lack of our own is logged at most so often.
const LOG_EVERY: Duration = Duration::from_secs(10);

impl Shared {
    /// Finds where a service of a node is now; without a name, [`WEB`](crate::config::settings::WEB).
    ///
    /// # Errors
    /// What that says about the node; nothing has been counted yet.
    pub(super) async fn addresses(
        &self,
        node: &Node,
        service: Option<&str>,
    ) -> Result<Arc<[SocketAddr]>, FailReason> {
        let (host, service) = node.target.service(service)?;
        self.parts
            .pools
            .resolver()
            .resolve(host, service.port)
            .await
            .map_err(|error| FailReason::resolve(&error))
    }

    /// Connects to a service of a node at the first of its addresses that answers; over TLS, if the service is
    /// reached so, for HTTP/1.1.
    ///
    /// # Errors
    /// What that says about the node; nothing has been counted yet.
    pub(super) async fn connect(
        &self,
        node: &Node,
        service: Option<&str>,
        addresses: &[SocketAddr],
        announcement: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<NodeStream, FailReason> {
        let (host, service) = node.target.service(service)?;
        let policy = if service.tls { Some(node.tls()?) } else { None };
        let tls = policy.as_deref().map(|policy| Tls { policy, host, protocol: Protocol::H1 });
        self.dial(node, addresses, timeout, announcement, tls).await
    }

    async fn dial(
        &self,
        node: &Node,
        addresses: &[SocketAddr],
        timeout: Duration,
        announcement: Option<&[u8]>,
        tls: Option<Tls<'_>>,
    ) -> Result<NodeStream, FailReason> {
        let (stream, address) = dial(addresses, timeout, announcement, tls).await?;
        if let Target::Http { host, .. } | Target::Tcp { host, .. } = &node.target
            && addresses.len() > 1
        {
            self.parts.pools.resolver().worked(host, address);
        }
        Ok(stream)
    }

    /// Connects to a TCP node, and begins with a PROXY header if there is one to write.
    ///
    /// # Errors
    /// As for [`Shared::connect`].
    pub(super) async fn connect_announced(
        &self,
        node: &Node,
        addresses: &[SocketAddr],
        announcement: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<TcpStream, FailReason> {
        match self.dial(node, addresses, timeout, announcement, None).await? {
            NodeStream::Tcp(stream) => Ok(stream),
            // Only what asks for TLS gets it.
            NodeStream::Tls(_) => Err(FailReason::Connect("TLS to a TCP node".to_owned())),
        }
    }

    /// Returns the PROXY header that tells a node who the client of a request is, if its pool wants that.
    pub(super) fn announcement(&self, node: &Node, ctx: &Request, session: &Session) -> Option<Vec<u8>> {
        self.announcement_to(node, ctx, || destination_of(session))
    }

    /// The same, for a session that is lent elsewhere. The destination is asked for only if it is needed: it is a system
    /// call.
    pub(super) fn announcement_to(
        &self,
        node: &Node,
        ctx: &Request,
        destination: impl FnOnce() -> Option<SocketAddr>,
    ) -> Option<Vec<u8>> {
        let pool = self.parts.pools.get(&node.pool)?;
        pool.settings.proxy_protocol.then(|| {
            let source = ctx.peer();
            let proxied = ctx.conn.as_ref().and_then(|conn| conn.proxied.as_ref()?.destination);
            encode_v2(&Addresses { source, destination: proxied.or_else(destination).unwrap_or(source) })
        })
    }

    /// Counts a failed connect, tells the node if it is the node's, and makes the request's error of it.
    pub(super) fn connect_failed(&self, node: &Node, reason: FailReason) -> Box<Error> {
        if let FailReason::Local(fault) = reason {
            self.lack(fault, clock::now());
            return unavailable(reason.to_string());
        }
        if let FailReason::NoService(_) = reason {
            // Nothing was dialled, and the node is not worse for it.
            let mut error = Error::explain(ErrorType::ConnectError, reason.to_string());
            error.as_up();
            return error;
        }
        self.parts.metrics.connect_failures.inc();
        let kind = if matches!(reason, FailReason::Timeout(_)) {
            ErrorType::ConnectTimedout
        } else {
            ErrorType::ConnectError
        };
        let mut error = Error::explain(kind, format!("cannot connect to the node: {reason}"));
        error.as_up();
        node.connect_failed(reason, clock::now());
        error
    }

    fn lack(&self, fault: LocalFault, now: Instant) {
        self.parts.metrics.local_errors.with_label_values(&[fault.as_str()]).inc();
        if self.lacks.is_due(now) {
            tracing::warn!(lack = %fault, "nodes cannot be dialled for want of this machine's own resources: 503");
        }
    }
}

/// Returns which of our addresses a client connected to.
pub(super) fn destination_of(session: &Session) -> Option<SocketAddr> {
    session.downstream_session.digest()?.socket_digest.as_ref()?.local_addr()?.as_inet().copied()
}

/// Lets one of many through, every [`LOG_EVERY`].
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    fn is_due(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= LOG_EVERY);
        if due {
            *last = Some(now);
        }
        due
    }
}

/// Dials a node for Pingora.
pub(super) struct Dialer {
    pub(super) shared: Arc<Shared>,
    pub(super) node: Arc<Node>,
    pub(super) addresses: Arc<[SocketAddr]>,
    /// PROXY header of each connection.
    pub(super) announcement: Option<Vec<u8>>,
    pub(super) timeout: Duration,
}

#[async_trait]
impl L4Connect for Dialer {
    async fn connect(&self, _: &pingora::protocols::l4::socket::SocketAddr) -> pingora::Result<Stream> {
        match self
            .shared
            .dial(&self.node, &self.addresses, self.timeout, self.announcement.as_deref(), None)
            .await
        {
            Ok(NodeStream::Tcp(stream)) => Ok(stream.into()),
            // Pingora makes its own handshake: none was asked for.
            Ok(NodeStream::Tls(_)) => Err(Error::explain(ErrorType::InternalError, "TLS below Pingora's")),
            Err(reason) => Err(Error::because(ErrorType::ConnectError, "cannot connect to the node", reason)),
        }
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Finds what [`Dialer`] said in an error that came back through Pingora, or what its TLS did. `timeout` is the one that
/// covers both.
pub(super) fn reason_of(error: &Error, timeout: Duration) -> FailReason {
    if let Some(reason) = error.root_cause().downcast_ref::<FailReason>() {
        return reason.clone();
    }
    let is = |kinds: &[ErrorType]| kinds.contains(error.etype());
    if is(&[ErrorType::ConnectTimedout, ErrorType::TLSHandshakeTimedout]) {
        FailReason::Timeout(timeout)
    } else if is(&[ErrorType::TLSHandshakeFailure, ErrorType::InvalidCert, ErrorType::HandshakeError]) {
        FailReason::Tls(
            error.context.as_ref().map_or_else(|| error.to_string(), |context| context.as_str().to_owned()),
        )
    } else {
        // Not from the dialler: Pingora failed before it came to dial, or after.
        FailReason::Connect(error.etype().as_str().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::config::{self, settings::Name};
    use crate::edge::{Edge, EdgeParts};
    use crate::pool::Pools;
    use crate::rooms::Rooms;
    use crate::tasks::Tasks;
    use crate::telemetry::metrics::Metrics;

    /// An edge whose one node is `two.test` on some port.
    fn edge(port: u16) -> (Edge, Arc<Node>, Tasks, Metrics) {
        let text = format!(
            "version: 1\nlisteners: {{ http: {{ bind: [\"127.0.0.1:0\"] }} }}\nsites: {{ s.test: {{ pool: p }} }}\n\
             pools: {{ p: {{ nodes: {{ a: \"http://two.test:{port}\" }} }} }}\n"
        );
        let settings = Arc::new(config::load_str("test", &text, Path::new("."), None).unwrap().settings);
        let (metrics, tasks) = (Metrics::new(), Tasks::new());
        let pools = Pools::new(metrics.pool.clone());
        pools.apply(&settings.pools);
        let rooms = Rooms::new(pools.clone(), &settings.rooms, metrics.rooms.clone());
        let node = pools.get("p").unwrap().nodes[0].clone();
        let parts = EdgeParts { rooms, pools, sfu: None, metrics: metrics.edge.clone() };
        (Edge::start(parts, settings, tasks.clone()).unwrap(), node, tasks, metrics)
    }

    /// Sends a head on a connection of its own; returns the status line.
    async fn ask(edge: &Edge, head: &str) -> String {
        let mut stream = TcpStream::connect(edge.local_addr("http").unwrap()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let whole = async {
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(stream.read_u8().await.unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(20), whole).await.unwrap();
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: s.test\r\nConnection: close\r\n\r\n";
    const WEBSOCKET: &str = "GET / HTTP/1.1\r\nHost: s.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    /// A node that gives every request the same answer and keeps its connections.
    fn serve(listener: TcpListener, status: &'static str, tasks: &Tasks) {
        let tasks_of_it = tasks.clone();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tasks_of_it.spawn(async move {
                    let mut head = Vec::new();
                    while let Ok(byte) = stream.read_u8().await {
                        head.push(byte);
                        if head.ends_with(b"\r\n\r\n") {
                            head.clear();
                            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                            stream.write_all(answer.as_bytes()).await.unwrap();
                        }
                    }
                });
            }
        });
    }

    #[tokio::test]
    async fn a_node_that_moved_gets_no_request_at_its_old_address() {
        let (nodes, now) = (Tasks::new(), clock::now());
        let mut places = Vec::new();
        for status in ["200 OK", "201 Created"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            places.push(listener.local_addr().unwrap());
            serve(listener, status, &nodes);
        }
        let (edge, _, tasks, _) = edge(1);
        for (place, expected) in [(0, "HTTP/1.1 200 OK"), (1, "HTTP/1.1 201 Created"), (0, "HTTP/1.1 200 OK")]
        {
            edge.shared.parts.pools.resolver().remember(&Name::from("two.test"), 1, vec![places[place]], now);
            for _ in 0..4 {
                assert_eq!(ask(&edge, GET).await, expected);
            }
        }
        tasks.drain(Duration::from_secs(5)).await;
        nodes.drain(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn a_name_with_two_addresses_is_served_by_the_one_that_answers_and_judged_by_both() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let tasks_of_nodes = Tasks::new();
        serve(listener, "403 Forbidden", &tasks_of_nodes);
        for head in [WEBSOCKET, GET] {
            let (edge, node, tasks, metrics) = edge(there.port());
            let (name, now) = (Name::from("two.test"), clock::now());
            let resolver = edge.shared.parts.pools.resolver();
            resolver.remember(&name, there.port(), vec![closed, there], now);
            for _ in 0..3 {
                assert_eq!(ask(&edge, head).await, "HTTP/1.1 403 Forbidden");
            }
            assert!(node.can_serve());
            assert_eq!(metrics.edge.connect_failures.get(), 0);
            let order = resolver.resolve(&name, there.port()).await.unwrap();
            assert_eq!(*order, [there, closed], "what worked is tried first");
            resolver.remember(&name, there.port(), vec![closed, closed], now);
            // No other node to try, and none up after that.
            assert_eq!(ask(&edge, head).await, "HTTP/1.1 503 Service Unavailable");
            assert!(!node.can_serve(), "all its addresses failed");
            assert_eq!(metrics.edge.connect_failures.get(), 1);
            tasks.drain(Duration::from_secs(5)).await;
        }
        tasks_of_nodes.drain(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn a_lack_of_our_own_is_counted_and_leaves_the_node_alone() {
        let (edge, node, tasks, metrics) = edge(1);
        for fault in [LocalFault::Descriptors, LocalFault::Memory, LocalFault::Ports] {
            let error = edge.shared.connect_failed(&node, FailReason::Local(fault));
            assert_eq!(*error.etype(), ErrorType::HTTPStatus(503));
            assert_eq!(metrics.edge.local_errors.with_label_values(&[fault.as_str()]).get(), 1);
        }
        assert_eq!((node.can_serve(), metrics.edge.connect_failures.get()), (true, 0));
        edge.shared.connect_failed(&node, FailReason::ConnectRefused);
        assert_eq!((node.can_serve(), metrics.edge.connect_failures.get()), (false, 1));
        tasks.drain(Duration::from_secs(5)).await;
    }

    #[test]
    fn a_lack_is_logged_once_in_ten_seconds() {
        let (seldom, start) = (Seldom::default(), clock::now());
        let due: Vec<bool> =
            [0, 0, 3, 9, 10, 11, 19, 20].map(|s| seldom.is_due(start + Duration::from_secs(s))).into();
        assert_eq!(due, [true, false, false, false, true, false, false, true]);
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_reason_survives_pingoras_wrapping() {
        let timed_out = Error::explain(ErrorType::ConnectTimedout, "total");
        assert_eq!(reason_of(&timed_out, SECOND), FailReason::Timeout(SECOND));
        let tls = Error::explain(ErrorType::TLSHandshakeFailure, "invalid peer certificate: UnknownIssuer");
        assert_eq!(reason_of(&tls, SECOND).to_string(), "TLS: invalid peer certificate: UnknownIssuer");
        let of = |reason: FailReason| {
            let inner = Error::because(ErrorType::ConnectError, "x", reason);
            reason_of(&Error::because(ErrorType::InternalError, "y", inner), SECOND)
        };
        for reason in [
            FailReason::Local(LocalFault::Ports),
            FailReason::ConnectRefused,
            FailReason::Timeout(Duration::from_secs(1)),
        ] {
            assert_eq!(of(reason.clone()), reason);
        }
        assert!(matches!(reason_of(&Error::new(ErrorType::InternalError), SECOND), FailReason::Connect(_)));
    }
}
