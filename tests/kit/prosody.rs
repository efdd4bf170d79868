//! A real Prosody: the tests' own process, in a folder of its own, on a port that was free.
//!
//! It serves one domain with BOSH, WebSockets, stream management and conference rooms at `conference.DOMAIN`. Every account
//! and password will do: a stream that is resumed must be its owner's, so that anonymous ones cannot be.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::port::Port;
use super::until;

/// A running Prosody; killed when this is dropped.
pub(crate) struct Prosody {
    /// Nobody else gets it while no server runs.
    port: Port,
    folder: TempDir,
    child: Option<Child>,
}

/// It is a Lua program that a busy machine starts slowly.
const START_MAX: Duration = Duration::from_secs(60);

impl Prosody {
    /// Starts it for this domain and waits until its HTTP port answers.
    pub(crate) async fn start(domain: &str) -> Self {
        let kept = Port::free();
        let port = kept.address().port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = folder.path().display();
        let config = format!(
            r#"pidfile = "{at}/prosody.pid"
data_path = "{at}"
run_as_root = true
modules_enabled = {{ "roster"; "saslauth"; "disco"; "ping"; "bosh"; "websocket"; "smacks"; "posix" }}
modules_disabled = {{ "s2s"; "tls"; "offline" }}
c2s_ports = {{}}
c2s_direct_tls_ports = {{}}
legacy_ssl_ports = {{}}
s2s_ports = {{}}
https_ports = {{}}
http_ports = {{ {port} }}
http_interfaces = {{ "127.0.0.1" }}
http_default_host = "{domain}"
consider_bosh_secure = true
allow_unencrypted_plain_auth = true
consider_websocket_secure = true
cross_domain_websocket = true
smacks_hibernation_time = 60
trusted_proxies = {{ "127.0.0.1", "::1" }}
log = {{ info = "{at}/prosody.log" }}
VirtualHost "{domain}"
  authentication = "insecure"
  insecure_open_authentication = "Yes please, I know what I'm doing!"
Component "conference.{domain}" "muc"
  restrict_room_creation = false
  muc_room_locking = false
  muc_room_default_public_jids = true
"#
        );
        std::fs::write(folder.path().join("prosody.cfg.lua"), config).expect("the configuration is written");
        let mut prosody = Self { port: kept, folder, child: None };
        prosody.restart().await;
        prosody
    }

    /// Its HTTP port: `/http-bind` and `/xmpp-websocket`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Ends it at once, as a machine that loses its power does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port, without its sessions.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let child = Command::new("prosody")
            .arg("--config")
            .arg(self.folder.path().join("prosody.cfg.lua"))
            .arg("-F")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prosody starts: apt-get install prosody");
        self.child = Some(child);
        let address = self.address();
        until(START_MAX, "Prosody listens", || async {
            tokio::net::TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }
}

impl Drop for Prosody {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking()
            && let Ok(log) = std::fs::read_to_string(self.folder.path().join("prosody.log"))
        {
            eprintln!("--- the end of Prosody's log");
            let lines: Vec<&str> = log.lines().collect();
            lines.iter().rev().take(20).rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
