//! Headless Chromium: runs a script of `tests/e2e` with JSON in and JSON out.
//!
//! A script that cannot run is a failure, never a skip: the message says what to install.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Runs `tests/e2e/NAME` with `input` on its standard input. Its last line of output is the answer.
///
/// The script and its browser are ended after `limit`.
pub(crate) async fn run(script: &str, input: &Value, limit: Duration) -> Value {
    let (script, input) = (script.to_owned(), input.to_string());
    tokio::task::spawn_blocking(move || run_blocking(&script, &input, limit))
        .await
        .expect("the script's verdict")
}

/// Where screenshots go: `screenshots` in Cargo's target folder.
pub(crate) fn screenshots() -> PathBuf {
    // .../target/debug/deps/it-0123
    let test = std::env::current_exe().expect("the test's own path");
    let target = test.ancestors().nth(3).expect("the test is in the target folder");
    let folder = target.join("screenshots");
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    folder
}

fn run_blocking(script: &str, input: &str, limit: Duration) -> Value {
    let profile = tempfile::tempdir().expect("a temporary folder");
    let output = profile.path().join("stdout");
    let errors = profile.path().join("stderr");
    let create = |path: &Path| Stdio::from(std::fs::File::create(path).expect("a temporary file"));
    let stdin = profile.path().join("stdin");
    std::fs::write(&stdin, input).expect("a temporary file");
    let child = Command::new(tool("node", &["node"], "nodejs"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e").join(script))
        .env("ROOMGATE_E2E_MODULES", modules())
        .env("ROOMGATE_CHROMIUM", tool("chromium", &["chromium", "chromium-browser"], "chromium"))
        .env("ROOMGATE_E2E_DEADLINE_MS", (limit - limit / 10).as_millis().to_string())
        .env("TMPDIR", profile.path())
        .stdin(std::fs::File::open(&stdin).expect("it was just written"))
        .stdout(create(&output))
        .stderr(create(&errors))
        .spawn()
        .expect("node starts");
    let ended = Guard(child).wait(limit);
    let output = std::fs::read_to_string(&output).unwrap_or_default();
    let errors = std::fs::read_to_string(&errors).unwrap_or_default();
    let report = || format!("--- {script} wrote\n{output}\n--- and on standard error\n{errors}");
    match ended {
        None => panic!("{script} did not end within {limit:?}\n{}", report()),
        Some(status) if !status.success() => panic!("{script} failed ({status})\n{}", report()),
        Some(_) => {}
    }
    let last = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|fault| panic!("{script} gave no JSON: {fault}\n{}", report()))
}

/// Ends the script when the test ends first.
struct Guard(Child);

impl Guard {
    fn wait(mut self, limit: Duration) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().expect("it is our child") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tool(what: &str, names: &[&str], package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    found.into_iter().find(|file| file.is_file()).unwrap_or_else(|| {
        panic!("{what} is missing: run scripts/test, or `apt-get install {package}`");
    })
}

fn modules() -> PathBuf {
    let named = std::env::var_os("ROOMGATE_E2E_MODULES").map(PathBuf::from);
    let modules =
        named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/node_modules"));
    assert!(
        modules.join("playwright-core").is_dir(),
        "playwright-core is missing in {}: run scripts/test, or `npm ci` in tests/e2e",
        modules.display()
    );
    modules
}
