//! The binary as a process: started with a configuration, ready within a deadline, ended with the test.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use super::client::{Answer, plain};
use super::{SOON, until, within};

/// A running Roomgate. It is killed when this is dropped; a panicking test prints the end of its log.
pub(crate) struct Roomgate {
    child: Child,
    folder: TempDir,
    log: Log,
    listeners: BTreeMap<String, SocketAddr>,
    media: Option<SocketAddr>,
    admin: SocketAddr,
}

impl Roomgate {
    /// Starts it with this configuration and waits until it says that it is ready.
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), config).await
    }

    /// The same, and waits until its nodes are up: a conference needs a worker that has passed its own test.
    pub(crate) async fn start_up(config: &str) -> Self {
        let roomgate = Self::start(config).await;
        roomgate.nodes_up().await;
        roomgate
    }

    /// The same as [`Roomgate::start`], in a folder that already holds what the configuration names.
    pub(crate) async fn start_in(folder: TempDir, config: &str) -> Self {
        let mut roomgate = Self::spawn_in(folder, config);
        roomgate.ready().await;
        roomgate
    }

    /// The same as [`Roomgate::start`], with at most so many descriptors.
    pub(crate) async fn start_limited(config: &str, descriptors: u64) -> Self {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={descriptors}:{descriptors}")).arg(binary());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut roomgate = Self::spawn_with(command, folder, config);
        roomgate.ready().await;
        roomgate
    }

    /// Starts it with this configuration and waits for nothing.
    pub(crate) fn spawn_in(folder: TempDir, config: &str) -> Self {
        Self::spawn_with(Command::new(binary()), folder, config)
    }

    fn spawn_with(command: Command, folder: TempDir, config: &str) -> Self {
        std::fs::write(folder.path().join(CONFIG), config).expect("the configuration is written");
        let (child, log) = run_in(command, folder.path());
        Self {
            child,
            folder,
            log,
            listeners: BTreeMap::new(),
            media: None,
            admin: SocketAddr::from(([0, 0, 0, 0], 0)),
        }
    }

    /// Asks it to stop, waits until it has, and starts it again with the same file. Listeners on port 0 get new ones.
    pub(crate) async fn restart(&mut self) {
        self.signal(Signal::TERM);
        self.exit(START_MAX).await;
        (self.child, self.log) = run_in(Command::new(binary()), self.folder.path());
        self.listeners.clear();
        self.ready().await;
    }

    /// Waits until it says that it is ready, and takes its addresses.
    async fn ready(&mut self) {
        let ready = self.wait_log(START_MAX, "ready", |line| line["message"] == "ready").await;
        let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
        for listener in text("listeners").split_whitespace() {
            let (name, address) = listener.split_once('=').expect("name=address");
            // A listener with several addresses is reached through its first.
            let address = address.split(',').next().unwrap_or_default();
            let address = address.parse().expect("the address of a listener");
            self.listeners.entry(name.to_owned()).or_insert(address);
        }
        self.media = text("media").split([',', ' ']).next().and_then(|address| address.parse().ok());
        self.admin =
            text("admin").split([',', ' ']).next().unwrap_or_default().parse().expect("the admin address");
    }

    /// Address of the listener `https`.
    pub(crate) fn https(&self) -> SocketAddr {
        self.listener("https")
    }

    /// Address of a listener.
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        *self.listeners.get(name).unwrap_or_else(|| panic!("no listener {name} in {:?}", self.listeners))
    }

    /// Address of the media port.
    pub(crate) fn media(&self) -> SocketAddr {
        self.media.expect("the configuration has a media port")
    }

    /// Address of the operator's endpoint.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join(CONFIG)
    }

    /// Folder of the configuration file.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("the process is there");
    }

    /// Waits for the end of the process.
    pub(crate) async fn exit(&mut self, limit: Duration) -> ExitStatus {
        let child = std::cell::RefCell::new(&mut self.child);
        until(limit, "the process ends", || async {
            child.borrow_mut().try_wait().expect("it is our child").ok_or("still runs")
        })
        .await
    }

    /// GET on the operator's endpoint.
    pub(crate) async fn admin_get(&self, path: &str) -> Answer {
        within(SOON, path, plain(self.admin, "GET", path)).await
    }

    /// JSON of the operator's endpoint.
    pub(crate) async fn api(&self, path: &str) -> Value {
        let answer = self.admin_get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Asks for a reload and returns the answer.
    pub(crate) async fn reload(&self) -> Answer {
        within(SOON, "reload", plain(self.admin, "POST", "/api/v1/reload")).await
    }

    /// Reads all metrics.
    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::parse(&self.admin_get("/metrics").await.text())
    }

    /// Waits until all nodes of a pool are up.
    pub(crate) async fn nodes_up(&self) {
        self.nodes_are(|states| states.values().all(|state| state == "up")).await;
    }

    /// Waits until the nodes' states (lower case, by node name) satisfy `holds`.
    pub(crate) async fn nodes_are(&self, holds: impl Fn(&BTreeMap<String, String>) -> bool) {
        until(SOON, "the nodes' states", || async {
            let states = self.node_states().await;
            if !states.is_empty() && holds(&states) { Ok(()) } else { Err(states) }
        })
        .await;
    }

    /// Reads the nodes' states, lower case, by node name.
    pub(crate) async fn node_states(&self) -> BTreeMap<String, String> {
        items(&self.api("/api/v1/nodes").await, "nodes")
            .iter()
            .map(|node| (field(node, &["node", "name"]), field(node, &["state"]).to_lowercase()))
            .collect()
    }

    /// Reads the nodes of all rooms, by room key.
    pub(crate) async fn room_nodes(&self) -> BTreeMap<String, String> {
        items(&self.api("/api/v1/rooms").await, "rooms")
            .iter()
            .map(|room| (field(room, &["key", "room"]), field(room, &["node"])))
            .collect()
    }

    /// Waits for a log line that satisfies `holds`, the past ones too.
    pub(crate) async fn wait_log(
        &mut self,
        limit: Duration,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut lines = self.log.lines.subscribe();
        let mut read = 0;
        let find = async {
            loop {
                lines.borrow_and_update();
                let (found, ended) = self.log.find(&mut read, &holds);
                if let Some(line) = found {
                    return line;
                }
                assert!(!ended, "the process ended before it logged: {what}");
                if lines.changed().await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        within(limit, what, find).await
    }

    /// All log lines so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.kept.lock().expect("the reader does not panic").lines.clone()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS is there");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
    }
}

impl Drop for Roomgate {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let lines = self.log();
            let from = lines.len().saturating_sub(60);
            eprintln!("--- the last {} log lines of roomgate", lines.len() - from);
            lines[from..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Starts the binary with the configuration of a folder.
fn run_in(mut command: Command, folder: &Path) -> (Child, Log) {
    let mut child = command
        .args(["run", "-c"])
        .arg(folder.join(CONFIG))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let log = Log::of(&mut child);
    (child, log)
}

/// Runs the binary to its end with these arguments.
pub(crate) fn command(arguments: &[&str], folder: &Path) -> Output {
    Command::new(binary())
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

/// The binary under test; `ROOMGATE_BIN` names another one (a release build, for figures).
fn binary() -> PathBuf {
    std::env::var_os("ROOMGATE_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_roomgate")), PathBuf::from)
}

/// Returns the items of an answer: a list, or an object with the list under `name`.
pub(crate) fn items(answer: &Value, name: &str) -> Vec<Value> {
    answer
        .as_array()
        .or_else(|| answer[name].as_array())
        .cloned()
        .unwrap_or_else(|| panic!("no {name} in {answer}"))
}

/// Returns the first of these fields that is a string.
fn field(value: &Value, names: &[&str]) -> String {
    names
        .iter()
        .find_map(|name| value[*name].as_str())
        .unwrap_or_else(|| panic!("none of {names:?} in {value}"))
        .to_owned()
}

/// What the process logs. Bounded: older lines are let go.
struct Log {
    kept: Arc<Mutex<Kept>>,
    lines: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    lines: Vec<String>,
    /// Lines that came before the first kept one.
    gone: usize,
    ended: bool,
}

impl Log {
    fn of(child: &mut Child) -> Self {
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let kept = Arc::new(Mutex::new(Kept::default()));
        let lines = watch::Sender::new(0);
        let log = Self { kept: kept.clone(), lines: lines.clone() };
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let mut kept = kept.lock().expect("readers do not panic");
                if kept.lines.len() == LOG_LINES_MAX {
                    kept.lines.drain(..LOG_LINES_MAX / 2);
                    kept.gone += LOG_LINES_MAX / 2;
                }
                kept.lines.push(String::from_utf8_lossy(&line).into_owned());
                drop(kept);
                lines.send_modify(|count| *count += 1);
            }
            kept.lock().expect("readers do not panic").ended = true;
            lines.send_modify(|count| *count += 1);
        });
        log
    }

    /// Looks at the lines from number `read` on.
    fn find(&self, read: &mut usize, holds: &impl Fn(&Value) -> bool) -> (Option<Value>, bool) {
        let kept = self.kept.lock().expect("the reader does not panic");
        let from = read.saturating_sub(kept.gone);
        *read = kept.gone + kept.lines.len();
        let found = kept.lines[from..]
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .find(|line| holds(line));
        (found, kept.ended)
    }
}

/// One reading of `/metrics`.
#[derive(Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            samples
                .filter_map(|line| {
                    let (name, value) = line.rsplit_once(' ')?;
                    Some((name.to_owned(), value.parse().ok()?))
                })
                .collect(),
        )
    }

    /// Sum of a metric over all labels that hold each of `labels` (`reason="full"`); 0 when there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.0
            .iter()
            .filter(|(key, _)| {
                key.split('{').next() == Some(name) && labels.iter().all(|label| key.contains(label))
            })
            .map(|(_, value)| value)
            .sum()
    }

    /// Whether there is a sample of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.keys().any(|key| key.split('{').next() == Some(name))
    }
}

const CONFIG: &str = "roomgate.yaml";
/// A debug build on a machine that compiles something else takes its time.
const START_MAX: Duration = Duration::from_secs(30);
const LOG_LINES_MAX: usize = 20_000;
