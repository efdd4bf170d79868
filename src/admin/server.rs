//! Carries the admin server's bytes: own listeners, a bounded number of connections, deadlines.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use super::api::{self, Answer};
use super::guard::Guard;
use super::view::AdminView;
use crate::config::settings::{AdminSettings, Name, Secret};
use crate::tasks::Tasks;
use crate::telemetry::metrics::AdminMetrics;

/// Connections served at once; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 128;
/// From the accept, or the end of the last answer, to the end of a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// From the end of a head to the end of its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest body.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Largest request head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A connection asks its client to come back on a new one after this, so that none is held for ever.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);
/// From then, or from the stop of the process, to the cut.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// Wait after a failed accept (no descriptor left, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const BACKLOG: i32 = 128;

/// The running admin server. It ends with the process's tasks.
#[derive(Debug)]
pub struct Admin {
    local: Vec<SocketAddr>,
    shared: Arc<Shared>,
}

impl Admin {
    /// Listens on every address of `settings.bind` and serves until `tasks` stop.
    ///
    /// Must be called inside a runtime.
    ///
    /// # Errors
    ///
    /// The first address that cannot be bound, by name.
    pub fn start(
        settings: &AdminSettings,
        view: Arc<dyn AdminView>,
        metrics: AdminMetrics,
        tasks: &Tasks,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            guard: ArcSwap::from_pointee(Guard::new(settings)),
            view,
            metrics,
            tasks: tasks.clone(),
            room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        });
        let mut listeners = Vec::new();
        for address in &settings.bind {
            let listener = listen(*address)
                .map_err(|error| io::Error::new(error.kind(), format!("admin.bind {address}: {error}")))?;
            listeners.push(listener);
        }
        let mut local = Vec::new();
        for listener in listeners {
            local.push(listener.local_addr()?);
            tasks.spawn(accept(listener, Arc::clone(&shared)));
        }
        Ok(Self { local, shared })
    }

    /// Takes other tokens from the next request on.
    pub fn apply(&self, tokens: &BTreeMap<Name, Secret>) {
        let guard = self.shared.guard.load().with_tokens(tokens);
        self.shared.guard.store(Arc::new(guard));
    }

    /// Returns the bound addresses, in the order of `admin.bind`.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("guard", &self.guard).finish_non_exhaustive()
    }
}

struct Shared {
    guard: ArcSwap<Guard>,
    view: Arc<dyn AdminView>,
    metrics: AdminMetrics,
    tasks: Tasks,
    room: Arc<Semaphore>,
}

/// Counts one connection while it lives, also when its task is dropped at the end of the process.
struct Open(prometheus::IntGauge);

impl Open {
    fn count(metrics: &AdminMetrics) -> Self {
        metrics.connections.inc();
        Self(metrics.connections.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let stopping = shared.tasks.stopping().clone();
    loop {
        let next = async {
            let permit = Arc::clone(&shared.room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = stopping.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                let tasks = shared.tasks.clone();
                tasks.spawn(async move {
                    let _open = Open::count(&shared.metrics);
                    // An answer that its client no longer waits for keeps a copy.
                    serve(stream, &shared, &Arc::new(permit)).await;
                });
            }
            Err(_) => {
                shared.metrics.accept_errors.inc();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One of the connections that there may be.
type Permit = Result<OwnedSemaphorePermit, AcquireError>;

async fn serve(stream: TcpStream, shared: &Arc<Shared>, permit: &Arc<Permit>) {
    let Ok(local) = stream.local_addr() else { return };
    // Small answers, one at a time: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, permit) = (Arc::clone(shared), Arc::clone(permit));
        async move { respond(request, local, shared, permit).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A client that breaks off or talks nonsense is its own fault, and hyper has answered it.
        _ = connection.as_mut() => return,
        () = sleep(CONNECTION_AGE_MAX) => {}
        () = shared.tasks.stopping().cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(CLOSE_TIMEOUT, connection).await;
}

/// Answers a request. What it asks for is done whether or not its client waits: a reload whose caller gave up is a reload.
async fn respond(
    request: Request<Incoming>,
    local: SocketAddr,
    shared: Arc<Shared>,
    permit: Arc<Permit>,
) -> Result<Response<Full<Bytes>>, Gone> {
    let (head, body) = request.into_parts();
    // Read within bounds; one that exceeds them counts as none, and hyper ends the connection.
    let body = match timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) | Err(_) => Bytes::new(),
    };
    let request = Request::from_parts(head, body);
    let (done, answered) = oneshot::channel();
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let _ = done.send(answer(request, local, &shared).await.response);
        drop(permit);
    });
    answered.await.map_err(|_| Gone)
}

/// The process ended first, or answering failed: the connection ends.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct Gone;

async fn answer(request: Request<Bytes>, local: SocketAddr, shared: &Shared) -> Answer {
    let answer = api::answer(&request, local, &shared.guard.load(), shared.view.as_ref()).await;
    let class = match answer.response.status().as_u16() {
        200..=299 => "2xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    shared.metrics.requests.with_label_values(&[class]).inc();
    if let Some(refusal) = answer.refused {
        shared.metrics.refused.with_label_values(&[refusal.as_str()]).inc();
    }
    answer
}
