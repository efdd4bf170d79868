//! A real Janus: the tests' own process, in a folder of its own, on ports that were free.
//!
//! It serves its REST interface at `/janus` and its WebSocket interface with the plugin `echotest`; nothing else is loaded.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::until;

/// A running Janus; killed when this is dropped.
pub(crate) struct Janus {
    /// Port of the REST interface.
    pub(crate) rest: u16,
    /// Port of the WebSocket interface.
    pub(crate) websocket: u16,
    child: Child,
    _folder: TempDir,
}

/// A busy machine starts it slowly.
const START_MAX: Duration = Duration::from_secs(30);

impl Janus {
    /// Starts it and waits until both ports answer.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [plugins, transports, none] = ["plugins", "transports", "none"].map(|name| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).expect("a temporary folder");
            path
        });
        link("plugins/libjanus_echotest.so", &plugins);
        link("transports/libjanus_http.so", &transports);
        link("transports/libjanus_websockets.so", &transports);
        // Both are held until both are known, so that they differ.
        let free = [0, 0].map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
        let [rest, websocket] = free.each_ref().map(|port| port.local_addr().expect("it is bound").port());
        drop(free);
        let (at, none) = (folder.path().display(), none.display());
        let (plugins, transports) = (plugins.display(), transports.display());
        for (name, text) in [
            (
                "janus",
                format!(
                    "general: {{ configs_folder = \"{at}\", plugins_folder = \"{plugins}\", \
                     transports_folder = \"{transports}\", events_folder = \"{none}\", loggers_folder = \"{none}\" }}\n"
                ),
            ),
            (
                "janus.transport.http",
                format!(
                    "general: {{ base_path = \"/janus\", http = true, port = {rest}, ip = \"127.0.0.1\", https = false }}\n\
                     admin: {{ admin_http = false }}\n"
                ),
            ),
            (
                "janus.transport.websockets",
                format!(
                    "general: {{ ws = true, ws_port = {websocket}, ws_ip = \"127.0.0.1\", wss = false }}\n\
                     admin: {{ admin_ws = false }}\n"
                ),
            ),
        ] {
            std::fs::write(folder.path().join(format!("{name}.jcfg")), text).expect("a temporary file");
        }
        let child = Command::new("janus")
            .arg("--configs-folder")
            .arg(folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Janus starts: apt-get install janus");
        let janus = Self { rest, websocket, child, _folder: folder };
        for port in [rest, websocket] {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            until(START_MAX, "Janus listens", || async {
                tokio::net::TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
            })
            .await;
        }
        janus
    }

    /// Ends it at once, as a machine that loses its power does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Janus {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lends one of the installed modules to a folder of modules.
fn link(module: &str, folder: &Path) {
    // /usr/lib/ARCHITECTURE/janus
    let found = std::fs::read_dir("/usr/lib").expect("a system").filter_map(Result::ok);
    let mut found = found.map(|entry| entry.path().join("janus").join(module));
    let from: PathBuf = found.find(|path| path.exists()).expect("Janus is installed: apt-get install janus");
    let name = from.file_name().expect("a module has a name").to_owned();
    symlink(from, folder.join(name)).expect("a temporary folder");
}
