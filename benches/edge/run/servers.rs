//! The three servers as foreground processes: own configuration, own folder, own port, one core, ended whatever happens.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::load::Client;
use super::measure::{self, Usage};
use super::now;

/// Host of the one site.
pub(super) const HOST: &str = "bench.test";
/// From the start of a process to its first answer.
const START_MAX: Duration = Duration::from_secs(30);

/// One of those that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Nginx,
    Haproxy,
    Roomgate,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::Roomgate];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "Nginx",
            Self::Haproxy => "HAProxy",
            Self::Roomgate => "Roomgate",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// Asks the program what it is.
    pub(super) fn version(self, roomgate: &Path) -> Result<String, String> {
        let mut command = match self {
            Self::Nginx => program("nginx", &["-v"]),
            Self::Haproxy => program("haproxy", &["-v"]),
            Self::Roomgate => {
                let mut command = Command::new(roomgate);
                command.arg("--version");
                command
            }
        };
        let output = command.output().map_err(|error| format!("{} does not start: {error}", self.name()))?;
        let said = [output.stdout, output.stderr].concat();
        // "nginx version: nginx/1.22.1", "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - ...", "roomgate 0.1.0".
        let said = String::from_utf8_lossy(&said).into_owned();
        let number = |word: &&str| word.chars().any(|c| c.is_ascii_digit());
        let word = said.split(|c: char| c.is_whitespace() || c == '/').find(number).unwrap_or("?");
        Ok(format!("{} {word}", self.name()))
    }

    /// The configuration's file name and template.
    fn template(self) -> (&'static str, &'static str) {
        match self {
            Self::Nginx => ("nginx.conf", include_str!("../nginx.conf.in")),
            Self::Haproxy => ("haproxy.cfg", include_str!("../haproxy.cfg.in")),
            Self::Roomgate => ("roomgate.yaml", include_str!("../roomgate.yaml.in")),
        }
    }
}

/// Debian puts servers where only root looks for them.
fn program(name: &str, arguments: &[&str]) -> Command {
    let path = ["/usr/sbin", "/usr/local/sbin"].iter().map(|folder| Path::new(folder).join(name));
    let mut command = match path.into_iter().find(|path| path.exists()) {
        Some(path) => Command::new(path),
        None => Command::new(name),
    };
    command.args(arguments);
    command
}

/// The key and the certificate of all servers: ECDSA P-256, made for this run.
pub(super) struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    pub(super) fn make() -> Result<Self, String> {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]);
        let made = made.map_err(|error| format!("no certificate: {error}"))?;
        Ok(Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() })
    }
}

/// One running server. Its whole process group ends with it.
pub(super) struct Server {
    pub(super) kind: Kind,
    pub(super) address: SocketAddr,
    child: Child,
    /// Its configuration and what it writes.
    _folder: TempDir,
}

impl Server {
    /// Starts a server and waits for its first answer.
    pub(super) async fn start(
        kind: Kind,
        pinned: bool,
        roomgate: &Path,
        pair: &Pair,
        nodes: [SocketAddr; 2],
    ) -> Result<Self, String> {
        let io = |error: std::io::Error| format!("{}: {error}", kind.name());
        let folder = tempfile::tempdir().map_err(io)?;
        let address = free_port().map_err(io)?;
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let descriptors = descriptors.unwrap_or(1 << 20).min(1 << 20);
        let [first, second] = nodes;
        let values = BTreeMap::from([
            ("FOLDER", folder.path().display().to_string()),
            ("ADDRESS", address.to_string()),
            ("NODE1", first.to_string()),
            ("NODE2", second.to_string()),
            ("DESCRIPTORS", descriptors.to_string()),
            ("CONNECTIONS", (descriptors - 100).to_string()),
            ("CLIENTS", ((descriptors - 100) / 2).to_string()),
        ]);
        let (name, template) = kind.template();
        let file = folder.path().join(name);
        std::fs::write(&file, fill(template, &values)).map_err(io)?;
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("cert.pem"), &pair.certificate).map_err(io)?;
        std::fs::write(at("key.pem"), &pair.key).map_err(io)?;
        std::fs::write(at("pair.pem"), format!("{}{}", pair.certificate, pair.key)).map_err(io)?;
        let server = match kind {
            Kind::Nginx => {
                let mut command = program("nginx", &["-e", "stderr", "-c"]);
                command.arg(&file).arg("-p").arg(folder.path());
                command
            }
            Kind::Haproxy => {
                let mut command = program("haproxy", &["-db", "-f"]);
                command.arg(&file);
                command
            }
            Kind::Roomgate => {
                let mut command = Command::new(roomgate);
                command.args(["run", "-c"]).arg(&file);
                command
            }
        };
        let log = std::fs::File::create(at("log")).map_err(io)?;
        let child = under(&server, pinned)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(io)?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(io)?;
        let mut server = Self { kind, address, child, _folder: folder };
        server.answers().await?;
        Ok(server)
    }

    async fn answers(&mut self) -> Result<(), String> {
        let client = Client::of(self.address);
        let started = now();
        loop {
            let fault = match client.first_answer().await {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || now().duration_since(started) > START_MAX {
                let log = std::fs::read_to_string(self._folder.path().join("log")).unwrap_or_default();
                return Err(format!("{} does not serve: {fault}\n{log}", self.kind.name()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// CPU and memory so far.
    pub(super) fn usage(&self) -> Usage {
        measure::usage_of(self.child.id())
    }

    /// CPU so far, in nanoseconds.
    pub(super) fn cpu(&self) -> u64 {
        measure::cpu_of(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // Both fail when it has ended already, which is fine.
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Wraps a command: on core 0, and told to end should this process die without a word.
fn under(server: &Command, pinned: bool) -> Command {
    let mut command = if pinned {
        let mut command = Command::new("taskset");
        command.args(["-c", "0", "setpriv"]);
        command
    } else {
        Command::new("setpriv")
    };
    command.args(["--pdeathsig", "TERM", "--"]).arg(server.get_program()).args(server.get_args());
    command
}

fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Puts values in the place of `@NAME@`.
fn fill(template: &str, values: &BTreeMap<&str, String>) -> String {
    let mut text = template.to_owned();
    let mut name = String::new();
    for (key, value) in values {
        name.clear();
        let _ = write!(name, "@{key}@");
        text = text.replace(&name, value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_without_a_rest() {
        let names = ["FOLDER", "ADDRESS", "NODE1", "NODE2", "DESCRIPTORS", "CONNECTIONS", "CLIENTS"];
        let values = names.iter().map(|name| (*name, "value".to_owned())).collect();
        for kind in Kind::ALL {
            let text = fill(kind.template().1, &values);
            // The first comment says what `@NAME@` means.
            let rest: Vec<&str> =
                text.lines().filter(|line| line.contains('@') && !line.contains("@NAME@")).collect();
            assert_eq!(rest, [""; 0], "{}", kind.name());
        }
    }
}
