//! Tools of others that attack and judge the real binary: found or the test fails, bounded in time, over loopback only.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::client::Client;
use super::process::Roomgate;

/// A folder below `tests`.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Runs a program to its end, at most `limit`; it is killed when the test ends before.
pub(crate) async fn run(program: &str, arguments: &[String], limit: Duration) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| std::fs::File::create(folder.path().join(name)).expect("a file");
    let child = Command::new(program)
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs it"));
    let mut child = Killed(child);
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.0.try_wait().expect("it is our child") {
            break status;
        }
        assert!(Instant::now() < deadline, "{program} {arguments:?}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let read = |name: &str| std::fs::read(folder.path().join(name)).expect("what it said");
    Output { status, stdout: read("stdout"), stderr: read("stderr") }
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Python with the packages of `tests/tools/requirements.txt`.
pub(crate) fn python() -> String {
    std::env::var("ROOMGATE_PYTHON")
        .expect("ROOMGATE_PYTHON names a Python with tests/tools/requirements.txt; scripts/test sets it")
}

/// A client that behaves well and wants its answers while others do not.
pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Served>,
    slowest: Arc<AtomicU64>,
}

/// What a probe saw.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) answers: usize,
    pub(crate) failures: Vec<String>,
}

impl Probe {
    /// Asks every 50 ms, on a new connection each time, so that accepting and handshakes are part of it.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let (stop, slowest) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (told, worst) = (stop.clone(), slowest.clone());
        let task = tokio::spawn(async move {
            let client = Client::of(address);
            let (mut answers, mut failures) = (0, Vec::new());
            while !told.load(Ordering::Relaxed) {
                let begun = Instant::now();
                match tokio::time::timeout(Duration::from_secs(10), client.get("plain.test", "/probe")).await
                {
                    Ok(Ok(answer)) if answer.status == 200 => answers += 1,
                    Ok(Ok(answer)) => failures.push(format!("status {}", answer.status)),
                    Ok(Err(error)) => failures.push(error.to_string()),
                    Err(_) => failures.push("no answer in 10 s".to_owned()),
                }
                worst.fetch_max(
                    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                    Ordering::Relaxed,
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Served { answers, failures }
        });
        Self { stop, task, slowest }
    }

    /// The slowest answer since this was last asked.
    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_millis(self.slowest.swap(0, Ordering::Relaxed))
    }

    /// Ends it.
    pub(crate) async fn end(self) -> Served {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the probe does not panic")
    }
}

/// A running Roomgate for every host on one node, over plain HTTP and TLS. Loopback is exempt: what an attack costs is to be
/// seen, not how many connections one client may have.
pub(crate) async fn roomgate(node: SocketAddr) -> Roomgate {
    Roomgate::start(&format!(
        r#"version: 1
listeners:
  https: {{ bind: ["127.0.0.1:0"], tls: self-signed }}
  http: {{ bind: ["127.0.0.1:0"] }}
sites:
  "*": {{ pool: nodes }}
pools:
  nodes: {{ nodes: {{ a: "http://{node}" }} }}
limits: {{ exempt: ["127.0.0.0/8"] }}
admin: {{ bind: ["127.0.0.1:0"] }}
"#
    ))
    .await
}
