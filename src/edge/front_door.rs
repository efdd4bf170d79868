//! Accepts: one thread per core, each with its own runtime and its own listening socket per address.
//!
//! The kernel spreads connections over the sockets (`SO_REUSEPORT`); a connection lives and dies on the thread that
//! accepted it. Bounds: open client connections of the process (from the descriptor limit, minus a reserve), and the
//! time a client may take until its handshake is done. Both are counted, neither is logged. Before its own bytes a connection
//! may have to say whom it speaks for ([`proxy_header`]); what is not HTTP goes to [`l4`] or [`turn`].

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use pingora::apps::ServerApp;
use pingora::proxy::HttpProxy;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::h2_guard::H2Guard;
use super::limits::Seat;
use super::proxy::{Http2, Phases, new_proxy};
use super::proxy_header::Arrived;
use super::stream::{ConnMeta, FrontStream, Io};
use super::tls::{self, CertificateStatus, ClientIdentity, ListenerTls, Prepared};
use super::tunnels::TunnelShard;
use super::{EdgeError, Shared, client_hello, h1, l4, proxy_header, turn};
use crate::clock;
use crate::config::settings::{ListenerLimits, ListenerSettings, Name, Settings, SiteSettings};
use crate::telemetry::metrics::EdgeMetrics;

/// Connections that wait to be accepted, per socket; the kernel drops more.
const BACKLOG: i32 = 4096;
/// Pause after accept itself failed: descriptors come back when other connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Descriptors that client connections leave to checks, the operator's endpoint, logs and files.
const DESCRIPTOR_RESERVE: u64 = 128;
/// RFC 9113 section 3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Returns how many threads serve: one per core.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// The listening side of the edge.
#[derive(Debug)]
pub(super) struct FrontDoor {
    listeners: BTreeMap<Name, Arc<ListenerState>>,
    accepting: CancellationToken,
    /// Certificates that the metrics name.
    reported: Mutex<Vec<CertificateStatus>>,
}

/// One listener of the configuration, for as long as the process runs.
#[derive(Debug)]
pub(crate) struct ListenerState {
    settings: ArcSwap<ListenerSettings>,
    tls: Option<ListenerTls>,
    addrs: Vec<SocketAddr>,
}

impl ListenerState {
    pub(crate) fn name(&self) -> Name {
        self.settings.load().name.clone()
    }

    pub(crate) fn settings(&self) -> Arc<ListenerSettings> {
        self.settings.load_full()
    }

    /// Deadlines and sizes as they are now.
    pub(crate) fn limits(&self) -> ListenerLimits {
        self.settings.load().limits.clone()
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Tells whether a client that came as `client` may ask for a site here: what the site asks of clients must be what
    /// the handshake has asked.
    pub(crate) fn admits(&self, site: &SiteSettings, client: Option<&ClientIdentity>) -> bool {
        if site.client_certificate.is_none() {
            return client.is_none();
        }
        let wanted = self.tls.as_ref().and_then(|tls| tls.policy_of(site));
        wanted.is_some() && wanted == client.map(|client| client.policy)
    }
}

/// What one thread serves with.
pub(crate) struct Shard {
    pub(super) shared: Arc<Shared>,
    pub(super) proxy: Arc<HttpProxy<Phases>>,
    /// True once the process stops: Pingora's own form of the news.
    pub(super) shutdown: watch::Receiver<bool>,
    /// A child of the process's token, so that threads do not meet in one lock.
    pub(super) stopping: CancellationToken,
    open: Arc<OpenBound>,
    connections: TaskTracker,
}

impl Shard {
    /// Makes the thread wait for a task before it ends.
    pub(super) fn track<F: Future>(&self, task: F) -> impl Future<Output = F::Output> + use<F> {
        self.connections.track_future(task)
    }
}

impl FrontDoor {
    /// Binds everything, then starts the threads.
    pub(super) fn open(shared: &Arc<Shared>, settings: &Settings) -> Result<Self, EdgeError> {
        let shards = threads();
        let accepting = shared.tasks.stopping().child_token();
        let mut listeners = BTreeMap::new();
        let mut sockets: Vec<Vec<(Arc<ListenerState>, StdListener)>> =
            (0..shards).map(|_| Vec::new()).collect();
        for (name, listener) in &settings.listeners {
            let bind_error = |address: SocketAddr, error: io::Error| EdgeError::Bind {
                listener: name.to_string(),
                address,
                error,
            };
            let tls = match &listener.tls {
                None => None,
                Some(tls) => Some(
                    ListenerTls::new(name.clone(), tls, settings)
                        .map_err(|error| EdgeError::Tls { listener: name.to_string(), error })?,
                ),
            };
            let mut bound = Vec::new();
            for address in &listener.bind {
                bound.push(bind_shards(*address, shards).map_err(|e| bind_error(*address, e))?);
            }
            let state = Arc::new(ListenerState {
                settings: ArcSwap::new(listener.clone()),
                tls,
                addrs: bound.iter().map(|(address, _)| *address).collect(),
            });
            for (_, listeners) in bound {
                for (shard, listener) in sockets.iter_mut().zip(listeners) {
                    shard.push((state.clone(), listener));
                }
            }
            listeners.insert(name.clone(), state);
        }
        let open = Arc::new(OpenBound::new(shared.parts.metrics.clone()));
        for (index, sockets) in sockets.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(EdgeError::Thread)?;
            let (shared, open, accepting) = (shared.clone(), open.clone(), accepting.clone());
            let tunnels = shared.tunnels.shard(index);
            std::thread::Builder::new()
                .name(format!("edge-{index}"))
                .spawn(move || runtime.block_on(run_shard(shared, open, accepting, tunnels, sockets)))
                .map_err(EdgeError::Thread)?;
        }
        let door = Self { listeners, accepting, reported: Mutex::default() };
        door.report(&shared.parts.metrics);
        Ok(door)
    }

    /// Loads all new certificates, then puts everything in place.
    pub(super) fn apply(&self, settings: &Settings, metrics: &EdgeMetrics) -> Result<(), EdgeError> {
        let mut loaded: Vec<(_, _, Option<(&ListenerTls, Prepared)>)> = Vec::new();
        for (name, state) in &self.listeners {
            let Some(new) = settings.listeners.get(name) else { continue };
            let prepared = match (&state.tls, &new.tls) {
                (Some(tls), Some(new)) => Some((
                    tls,
                    tls.prepare(new, settings)
                        .map_err(|error| EdgeError::Tls { listener: name.to_string(), error })?,
                )),
                _ => None,
            };
            loaded.push((state, new, prepared));
        }
        for (state, new, prepared) in loaded {
            state.settings.store(new.clone());
            if let Some((tls, prepared)) = prepared {
                tls.put_in_place(prepared);
            }
        }
        self.report(metrics);
        Ok(())
    }

    /// Reads the files of TLS again and takes over what can be used. Blocks.
    pub(super) fn refresh(&self, metrics: &EdgeMetrics) {
        let before = self.certificates();
        for tls in self.listeners.values().filter_map(|state| state.tls.as_ref()) {
            let done = tls.refresh();
            metrics.tls_loads.with_label_values(&["replaced"]).inc_by(done.replaced);
            metrics.tls_loads.with_label_values(&["failed"]).inc_by(done.failed);
        }
        let now = self.report(metrics);
        tls::warn_of_ends(now.iter().filter(|status| !before.contains(status)));
    }

    /// The certificates of all listeners, as they were when something last changed: nobody waits here for a file.
    pub(super) fn certificates(&self) -> Vec<CertificateStatus> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts the certificates into the metrics, in place of those that were there.
    fn report(&self, metrics: &EdgeMetrics) -> Vec<CertificateStatus> {
        let listeners = self.listeners.values().filter_map(|state| state.tls.as_ref());
        let now: Vec<CertificateStatus> = listeners.flat_map(ListenerTls::certificates).collect();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        for CertificateStatus { listener, certificate, .. } in reported.iter() {
            // What a label names no more is gone; what it still names is set below.
            let _ = metrics.certificate_expiry.remove_label_values(&[&**listener, certificate]);
            let _ = metrics.certificate_failed.remove_label_values(&[&**listener, certificate]);
        }
        for CertificateStatus { listener, certificate, not_after, failure } in &now {
            let labels = [&**listener, certificate];
            let not_after = not_after.and_then(|at| i64::try_from(at).ok()).unwrap_or_default();
            metrics.certificate_expiry.with_label_values(&labels).set(not_after);
            metrics.certificate_failed.with_label_values(&labels).set(i64::from(failure.is_some()));
        }
        reported.clone_from(&now);
        now
    }

    pub(super) fn local_addr(&self, listener: &str) -> Option<SocketAddr> {
        self.listeners.get(listener)?.addrs.first().copied()
    }

    pub(super) fn stop_accepting(&self) {
        self.accepting.cancel();
    }
}

impl Drop for FrontDoor {
    fn drop(&mut self) {
        self.accepting.cancel();
    }
}

/// Bound on the open client connections of the process.
#[derive(Debug)]
struct OpenBound {
    open: AtomicUsize,
    open_max: usize,
    metrics: EdgeMetrics,
}

impl OpenBound {
    /// Takes the process's descriptor limit as it is now.
    fn new(metrics: EdgeMetrics) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Self { open: AtomicUsize::new(0), open_max: open_max(limit), metrics }
    }

    /// Counts one more, unless the process has all it can have or `most`.
    fn enter(self: &Arc<Self>, most: Option<u32>) -> Option<OpenConnection> {
        let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.open_max.min(most) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.metrics.connections_refused.with_label_values(&["full"]).inc();
            return None;
        }
        self.metrics.connections.inc();
        self.metrics.connections_total.inc();
        Some(OpenConnection { bound: self.clone(), seat: None })
    }
}

/// A connection may need a second descriptor, towards its node.
fn open_max(descriptors: Option<u64>) -> usize {
    descriptors.map_or(usize::MAX, |limit| {
        let usable = limit.saturating_sub(DESCRIPTOR_RESERVE.min(limit / 2)) / 2;
        usize::try_from(usable).unwrap_or(usize::MAX).max(1)
    })
}

/// Counts one open client connection while it lives.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    bound: Arc<OpenBound>,
    /// Counts it among those of its client.
    seat: Option<Seat>,
}

impl Shard {
    /// Counts a connection as its client's, whom a load balancer has named by now. False: counted, and to be closed.
    fn seat_anew(&self, open: &mut OpenConnection, client: IpAddr) -> bool {
        let client = client.to_canonical();
        open.seat = None;
        let refused = &self.shared.parts.metrics.connections_refused;
        if self.shared.limits.is_banned(client) {
            refused.with_label_values(&["banned"]).inc();
            return false;
        }
        match self.shared.limits.enter(client, &self.shared.settings.load().limits) {
            Ok(seat) => open.seat = seat,
            Err(_) => {
                refused.with_label_values(&["per_ip"]).inc();
                return false;
            }
        }
        true
    }

    /// Lets a connection in by its peer, or counts why it is closed at once: a refusal that the client sees beats a queue.
    /// One that will say whom it speaks for is only one of all until it has: the bounds and bans of a client are not for
    /// the load balancer in front of all clients.
    fn let_in(&self, peer: IpAddr, speaks_for_another: bool) -> Option<OpenConnection> {
        let peer = peer.to_canonical();
        if speaks_for_another {
            return self.open.enter(self.shared.settings.load().limits.connections_max);
        }
        let refused = |why: &str| {
            self.shared.parts.metrics.connections_refused.with_label_values(&[why]).inc();
        };
        if self.shared.limits.is_banned(peer) {
            refused("banned");
            return None;
        }
        let settings = self.shared.settings.load();
        let mut open = self.open.enter(settings.limits.connections_max)?;
        match self.shared.limits.enter(peer, &settings.limits) {
            Ok(seat) => open.seat = seat,
            Err(_) => {
                refused("per_ip");
                return None;
            }
        }
        Some(open)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.bound.open.fetch_sub(1, Ordering::Relaxed);
        self.bound.metrics.connections.dec();
    }
}

/// Binds one socket per shard on the same address and port.
fn bind_shards(address: SocketAddr, shards: usize) -> io::Result<(SocketAddr, Vec<StdListener>)> {
    if address.port() != 0 {
        // Without `SO_REUSEPORT` this fails if anybody else listens there; with it, two processes of one user would
        // share the port without a word.
        bind(address, false)?;
    }
    let first = bind(address, true)?;
    let local = first.local_addr()?;
    let mut listeners = vec![listen(first)?];
    for _ in 1..shards {
        listeners.push(listen(bind(local.as_socket().unwrap_or(address), true)?)?);
    }
    Ok((local.as_socket().unwrap_or(address), listeners))
}

fn bind(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let attempt = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(share)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    match attempt(address) {
        // A machine without IPv6: `:port` means what is left of it.
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() && !has_ipv6() => {
            attempt(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        other => other,
    }
}

fn has_ipv6() -> bool {
    StdListener::bind((std::net::Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

fn listen(socket: Socket) -> io::Result<StdListener> {
    // Accepted sockets inherit these two.
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The life of one thread: accepts until told to stop, then waits for its connections.
async fn run_shard(
    shared: Arc<Shared>,
    open: Arc<OpenBound>,
    accepting: CancellationToken,
    tunnels: Arc<TunnelShard>,
    sockets: Vec<(Arc<ListenerState>, StdListener)>,
) {
    let (shutdown, shutdown_watch) = watch::channel(false);
    let stopping = shared.tasks.stopping().child_token();
    let connections = TaskTracker::new();
    let shard = Arc::new(Shard {
        proxy: Arc::new(new_proxy(&shared, &stopping, &connections, &tunnels)),
        shutdown: shutdown_watch,
        stopping: stopping.clone(),
        open,
        connections,
        shared,
    });
    let loops = sockets.into_iter().map(|(state, socket)| {
        let (shard, accepting) = (shard.clone(), accepting.child_token());
        async move {
            match TcpListener::from_std(socket) {
                Ok(listener) => accept_loop(&shard, &state, &listener, &accepting).await,
                Err(error) => tracing::error!(listener = %state.name(), %error, "cannot accept"),
            }
        }
    });
    let tell = async {
        stopping.cancelled().await;
        let how = shard.shared.settings.load().shutdown.clone();
        tunnels.stop(how.tunnels, how.deadline, clock::now());
        let _ = shutdown.send(true);
    };
    tokio::join!(futures_util::future::join_all(loops), tell);
    shard.connections.close();
    shard.connections.wait().await;
}

async fn accept_loop(
    shard: &Arc<Shard>,
    state: &Arc<ListenerState>,
    listener: &TcpListener,
    accepting: &CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = accepting.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => {
                let speaks_for_another = state.settings().wants_proxy_header(peer.ip().to_canonical());
                let Some(open) = shard.let_in(peer.ip(), speaks_for_another) else { continue };
                let (shard_of_it, state) = (shard.clone(), state.clone());
                // Boxed once: every wrapper around a future by value would make the task larger by its size.
                let connection = Box::pin(serve(shard_of_it, state, tcp, peer, open));
                shard.shared.tasks.spawn(shard.connections.track_future(connection));
            }
            Err(_) => {
                shard.shared.parts.metrics.accept_errors.inc();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The life of one client connection, until it ends or becomes a tunnel.
async fn serve(
    shard: Arc<Shard>,
    state: Arc<ListenerState>,
    mut tcp: TcpStream,
    peer: SocketAddr,
    mut open: OpenConnection,
) {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let settings = state.settings();
    let arrived = if settings.wants_proxy_header(peer.ip()) {
        match Box::pin(proxy_header::read(&mut tcp, peer, &shard.shared.parts.metrics)).await {
            Some(arrived) => arrived,
            None => return,
        }
    } else {
        Arrived::direct(peer)
    };
    let Arrived { client: peer, proxied, received } = arrived;
    if proxied.is_some() && !shard.seat_anew(&mut open, peer.ip()) {
        return;
    }
    let destination = proxied.as_ref().and_then(|proxied| proxied.destination);
    if let Some(pool) = &settings.tcp {
        let client = l4::Client { tcp, received, open, peer, destination };
        return l4::carry(&shard, client, l4::Way::Listener, pool).await;
    }
    let turn = settings.turn && state.is_tls();
    drop(settings);
    let (io, received, client) = match &state.tls {
        None => (Io::Plain(tcp), received, None),
        // Boxed: the handshake's state is large and gone after it.
        Some(tls) => match Box::pin(handshake(&shard, &state, tls, tcp, received, peer.ip())).await {
            Some(Secured::Ours(stream, client)) => (Io::Tls(stream), BytesMut::new(), client),
            Some(Secured::Passed { tcp, received, pool }) => {
                let client = l4::Client { tcp, received, open, peer, destination };
                return l4::carry(&shard, client, l4::Way::Passthrough, &pool).await;
            }
            None => return,
        },
    };
    let meta = Arc::new(ConnMeta { peer, proxied, listener: state, tls: io.tls(), client });
    let mut stream = Box::new(FrontStream::new(io, meta, open));
    if !received.is_empty() {
        stream.put_back(received);
    }
    if stream.is_http2() {
        return Box::pin(serve_http2(&shard, stream)).await;
    }
    if turn {
        match Box::pin(turn::serve(&shard, stream)).await {
            Some(back) => stream = back,
            None => return,
        }
    }
    h1::serve(&shard, stream).await;
}

/// What became of a connection to a TLS listener.
enum Secured {
    /// TLS ends here.
    Ours(Box<TlsStream<TcpStream>>, Option<Box<ClientIdentity>>),
    /// Its name goes to a TCP pool: all that was received, unchanged.
    Passed { tcp: TcpStream, received: BytesMut, pool: Name },
}

/// Ends TLS within the listener's deadlines, unless the name is passed on, and counts how it went. `received` is what has
/// come already.
async fn handshake(
    shard: &Shard,
    state: &ListenerState,
    tls: &ListenerTls,
    mut tcp: TcpStream,
    received: BytesMut,
    peer: IpAddr,
) -> Option<Secured> {
    let settings = state.settings();
    let deadline = settings.limits.handshake_timeout;
    let result = async {
        let failed = |error: io::Error| tls::failure::kind(&error);
        let hello = client_hello::read(&mut tcp, received);
        let (accepted, received) =
            tokio::time::timeout(deadline, hello).await.map_err(|_| "timeout")?.map_err(failed)?;
        if let Some(pool) = settings.passes(accepted.client_hello().server_name()) {
            return Ok(Secured::Passed { tcp, received, pool: pool.clone() });
        }
        drop(received);
        let Some(choice) = tls.choose(accepted.client_hello().server_name()) else {
            let refusal = tcp.write_all(tls::UNRECOGNIZED_NAME);
            let _ = tokio::time::timeout(deadline, refusal).await;
            return Err("unknown_name");
        };
        let finish = StartHandshake::from_parts(accepted, tcp).into_stream(choice.config);
        let stream = tokio::time::timeout(deadline, finish).await.map_err(|_| "timeout")?.map_err(failed)?;
        let client = match &choice.policy {
            None => None,
            Some(policy) => Some(Box::new(policy.identify(stream.get_ref().1).ok_or("client_certificate")?)),
        };
        Ok(Secured::Ours(Box::new(stream), client))
    };
    let result = result.await;
    let metrics = &shard.shared.parts.metrics;
    let label = match &result {
        Ok(Secured::Ours(..)) => "ok",
        Ok(Secured::Passed { .. }) => "passed",
        Err(why) => why,
    };
    metrics.handshakes.with_label_values(&[label]).inc();
    // Who connects and goes away again is a check of a load balancer more often than a scanner; who does not trust our
    // certificate is a client of ours.
    if result.as_ref().is_err_and(|why| !matches!(*why, "closed" | "alert")) {
        let settings = shard.shared.settings.load();
        shard.shared.limits.handshake_failed(&settings, peer.to_canonical());
    }
    if let Ok(Secured::Ours(stream, _)) = &result
        && stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    {
        metrics.tls_resumed.inc();
    }
    result.ok()
}

/// Waits for the preface, which Pingora would wait for without a deadline, and hands over.
async fn serve_http2(shard: &Arc<Shard>, mut stream: Box<FrontStream>) {
    let limits = stream.meta().listener.limits();
    let mut received = BytesMut::new();
    let preface = async {
        while received.len() < HTTP2_PREFACE.len() {
            if !matches!(stream.fill(&mut received).await, Ok(n) if n > 0) {
                return false;
            }
        }
        received.starts_with(HTTP2_PREFACE)
    };
    if !matches!(tokio::time::timeout(limits.head_timeout, preface).await, Ok(true)) {
        return;
    }
    stream.put_back(received);
    let guard = H2Guard::new(limits.resets_max, clock::now());
    stream.begin_http2(guard, shard.shared.parts.metrics.h2_floods.clone());
    let app = Arc::new(Http2::new(shard.proxy.clone(), &limits));
    ServerApp::process_new(&app, stream, &shard.shutdown).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn the_bound_leaves_a_reserve_of_descriptors() {
        for (limit, expected) in
            [(Some(20_000), 9936), (Some(1024), 448), (Some(100), 25), (Some(1), 1), (None, usize::MAX)]
        {
            assert_eq!(open_max(limit), expected, "{limit:?}");
        }
    }

    #[test]
    fn at_the_bound_a_connection_is_refused_and_counted() {
        let metrics = Metrics::new().edge;
        let bound = Arc::new(OpenBound { open: AtomicUsize::new(0), open_max: 2, metrics: metrics.clone() });
        let enter = || bound.enter(None);
        let (first, second) = (enter(), enter());
        assert!(first.is_some() && second.is_some() && enter().is_none());
        assert_eq!(metrics.connections_refused.with_label_values(&["full"]).get(), 1);
        drop(first);
        assert!(bound.enter(Some(1)).is_none(), "the operator's own bound");
        assert!(bound.enter(Some(2)).is_some());
        drop(second);
        assert_eq!(metrics.connections.get(), 0);
    }

    #[test]
    fn an_address_that_somebody_listens_on_is_not_shared() {
        let taken = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (address, ours) = bind_shards(taken, 2).unwrap();
        assert_eq!((address, ours.len()), (taken, 2));
        assert!(bind_shards(taken, 2).is_err());
    }

    #[test]
    fn an_unspecified_address_takes_both_families() {
        let (address, _ours) = bind_shards("[::]:0".parse().unwrap(), 2).unwrap();
        assert!(std::net::TcpStream::connect(("127.0.0.1", address.port())).is_ok());
        if address.is_ipv6() {
            assert!(std::net::TcpStream::connect(("::1", address.port())).is_ok());
        }
    }
}
