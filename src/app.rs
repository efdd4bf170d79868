//! The composition root: settings become parts, parts become a running edge, a signal ends it.
//!
//! The only place that knows everybody. It decides nothing about rooms, media or requests: it wires, reloads and
//! drains. The running configuration is an immutable [`Running`] behind an `ArcSwap`; a reload puts a new one in its
//! place, whole, or leaves the old one.

mod certificates;
mod embedded;
mod probe;
mod reload;
mod view;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin::{Admin, AdminView};
use crate::clock;
use crate::config::settings::{Name, Settings};
use crate::config::{self, Fault, Faults, Loaded};
use crate::edge::{Edge, EdgeParts};
use crate::pool::{Checker, Node, NodeState, Pools, Target, WorkerProbe};
use crate::rooms::Rooms;
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;
use embedded::Embedded;

/// Where the configuration came from, so that it can be read again.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The file; `None` is the built-in default, which never changes.
    pub path: Option<PathBuf>,
    /// `--edge`.
    pub edge: Option<String>,
}

impl Origin {
    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// Every fault of the file.
    pub fn load(&self) -> Result<Loaded, Faults> {
        match &self.path {
            Some(path) => config::load(path, self.edge.as_deref()),
            None => config::load_demo(self.edge.as_deref()),
        }
    }
}

/// The configuration that is in force.
#[derive(Debug)]
struct Running {
    /// 1 at start, one more with each applied reload.
    generation: u64,
    /// Wall-clock time since the epoch.
    loaded_at: Duration,
    settings: Arc<Settings>,
    /// The same as YAML with every default, secrets as references.
    effective: String,
    warnings: Vec<String>,
    /// Keys whose new value waits for a restart.
    restart_needed: Vec<String>,
}

/// The parts of one running edge.
pub struct App {
    origin: Origin,
    /// What the process was started with: keys that need a restart keep these values.
    started: Arc<Settings>,
    started_at: Instant,
    running: ArcSwap<Running>,
    reloading: tokio::sync::Mutex<()>,
    history: reload::History,
    pools: Pools,
    rooms: Rooms,
    edge: Edge,
    embedded: Option<Embedded>,
    tls_files: certificates::TlsFiles,
    admin: OnceLock<Admin>,
    metrics: Metrics,
    tasks: Tasks,
    /// The admin server's: it answers until everything else has ended.
    admin_tasks: Tasks,
}

impl App {
    /// Builds all parts and opens all sockets. On return the edge serves.
    ///
    /// # Errors
    ///
    /// A socket that cannot be bound, a thread that cannot be started, a certificate that cannot be used.
    pub async fn start(loaded: Loaded, origin: Origin) -> anyhow::Result<Arc<Self>> {
        // First: without a handler this signal would end the process. It is kept until reloads are possible.
        let hangup = signal(SignalKind::hangup())?;
        let user1 = signal(SignalKind::user_defined1())?;
        let warnings: Vec<String> = loaded.warnings.iter().map(Fault::one_line).collect();
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let settings = Arc::new(loaded.settings);
        let metrics = Metrics::new();
        let tasks = Tasks::new();

        let pools = Pools::new(metrics.pool.clone());
        let embedded = Embedded::start(&settings, &tasks, &metrics)?;
        pools.set_embedded_workers(embedded.as_ref().map_or(0, |embedded| embedded.workers.count()));
        pools.apply(&settings.pools);

        let rooms = Rooms::new(pools.clone(), &settings.rooms, metrics.rooms.clone());
        rooms.sweep(&tasks);
        let probe = embedded.as_ref().map(|embedded| Arc::new(embedded.probe()) as Arc<dyn WorkerProbe>);
        let first_checks = Checker::start(pools.clone(), probe, Arc::new(re_place(rooms.clone())), &tasks);
        // Clients of the process before this one come back at once, each to the room it was in.
        if !first_checks.ended(FIRST_CHECKS_MAX).await {
            tracing::warn!("some nodes have not answered their first check; new rooms go to the others");
        }

        let parts = EdgeParts {
            rooms: rooms.clone(),
            pools: pools.clone(),
            sfu: embedded.as_ref().map(|embedded| embedded.sfu.clone()),
            metrics: metrics.edge.clone(),
        };
        let edge = Edge::start(parts, Arc::clone(&settings), tasks.clone())?;

        let app = Arc::new(Self {
            running: ArcSwap::from_pointee(Running {
                generation: 1,
                loaded_at: clock::wall(),
                settings: Arc::clone(&settings),
                effective: loaded.effective,
                warnings,
                restart_needed: Vec::new(),
            }),
            reloading: tokio::sync::Mutex::default(),
            history: reload::History::default(),
            tls_files: certificates::TlsFiles::new(settings.tls_files()),
            started: settings,
            started_at: clock::now(),
            origin,
            pools,
            rooms,
            edge,
            embedded,
            admin: OnceLock::new(),
            metrics,
            tasks,
            admin_tasks: Tasks::new(),
        });
        app.metrics.process.say_build(app.started.edge.name.as_deref().unwrap_or_default());
        app.metrics.config.generation.set(1);
        app.metrics.config.last_reload_ok.set(1);
        let view = Arc::clone(&app) as Arc<dyn AdminView>;
        let admin = Admin::start(&app.started.admin, view, app.metrics.admin.clone(), &app.admin_tasks)?;
        app.workers_tested().await;
        app.say_ready(&admin);
        // A reload in the moments before this would keep the tokens of the start: the watch begins after it.
        let _ = app.admin.set(admin);
        app.reload_when_asked(&loaded.text, hangup);
        app.reopen_logs_when_asked(user1);
        app.renew_certificates();
        Ok(app)
    }

    /// Starts and serves until SIGTERM or SIGINT, then ends politely within `shutdown.deadline`; a second signal ends at
    /// once.
    ///
    /// # Errors
    ///
    /// As for [`App::start`]; or signals cannot be received.
    pub async fn run(loaded: Loaded, origin: Origin) -> anyhow::Result<()> {
        let mut signals = EndSignals::new()?;
        let app = tokio::select! {
            app = Self::start(loaded, origin) => app?,
            () = signals.next() => return Ok(()),
        };
        signals.next().await;
        tokio::select! {
            () = app.end() => {}
            () = signals.next() => tracing::warn!("second signal: ending at once"),
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// Ends everything: nothing new, goodbyes, then the workers, and the admin server last.
    async fn end(self: &Arc<Self>) {
        let deadline = self.running.load().settings.shutdown.deadline;
        tracing::info!(?deadline, tasks = self.tasks.running(), "stopping: nothing new is accepted");
        self.edge.stop_accepting();
        let left = self.tasks.drain(deadline).await;
        if left > 0 {
            tracing::warn!(left, "the deadline has passed: what was still open is cut");
        }
        if let Some(embedded) = &self.embedded {
            // Their sessions say goodbye in the last turn.
            embedded.workers.stop();
            let workers = Arc::clone(&embedded.workers);
            let _ = tokio::task::spawn_blocking(move || workers.join(WORKERS_END_MAX)).await;
        }
        // What ended last has its line too.
        let app = Arc::clone(self);
        let _ = tokio::task::spawn_blocking(move || app.edge.finish_logs(LOG_END_MAX)).await;
        self.admin_tasks.drain(ADMIN_END_MAX).await;
    }

    /// Opens the access log anew on SIGUSR1, as logrotate asks for it, until the process has stopped.
    fn reopen_logs_when_asked(self: &Arc<Self>, mut asked: Signal) {
        let app = Arc::clone(self);
        self.admin_tasks.spawn(async move {
            let stopping = app.admin_tasks.stopping().clone();
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return,
                    Some(()) = asked.recv() => app.edge.reopen_logs(),
                }
            }
        });
    }

    /// Listeners that accept, with the address of each.
    fn listeners(&self) -> Vec<(Name, SocketAddr)> {
        let names = self.started.listeners.keys();
        names.filter_map(|name| Some((name.clone(), self.edge.local_addr(name)?))).collect()
    }

    /// Waits until each worker has been tested, at most [`FIRST_TEST_MAX`]: "ready" means that a room can open.
    async fn workers_tested(&self) {
        let untested = |node: &Arc<Node>| {
            matches!(node.target, Target::Embedded { .. }) && node.state() == NodeState::Starting
        };
        let wait = async {
            while self.pools.all().iter().any(|pool| pool.nodes.iter().any(untested)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(FIRST_TEST_MAX, wait).await.is_err() {
            tracing::warn!("the workers' first self-test has not ended; /readyz will tell");
        }
    }

    fn say_ready(&self, admin: &Admin) {
        let listeners: Vec<String> =
            self.listeners().into_iter().map(|(name, address)| format!("{name}={address}")).collect();
        let media =
            self.embedded.as_ref().map(|embedded| joined(embedded.workers.local_addrs())).unwrap_or_default();
        let candidates =
            self.embedded.as_ref().map(|embedded| joined(embedded.workers.candidates())).unwrap_or_default();
        tracing::info!(
            listeners = listeners.join(" "),
            media,
            candidates,
            admin = joined(admin.local_addrs()),
            "ready"
        );
        if self.origin.path.is_none() {
            tracing::info!(
                "open https://localhost:8443 in two windows; the status page is http://127.0.0.1:9180"
            );
        }
    }
}

/// What happens to rooms when their node goes down.
fn re_place(rooms: Rooms) -> impl Fn(&Arc<Node>) + Send + Sync {
    move |node| {
        let moved = rooms.node_down(node, clock::now());
        tracing::warn!(pool = %node.pool, node = %node.name, why = node.why(), rooms = moved, "node is down or gone, its rooms are placed anew");
    }
}

fn joined(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// SIGTERM and SIGINT.
struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Nothing listens before the nodes' first checks have ended, or this long.
const FIRST_CHECKS_MAX: Duration = Duration::from_secs(2);
/// For the workers' last turn.
const WORKERS_END_MAX: Duration = Duration::from_millis(500);
/// For answers that the admin server is sending.
const ADMIN_END_MAX: Duration = Duration::from_millis(500);
/// For the last lines of the access log.
const LOG_END_MAX: Duration = Duration::from_secs(1);
/// Two self-tests that end at their deadline, and some.
const FIRST_TEST_MAX: Duration = Duration::from_secs(6);
