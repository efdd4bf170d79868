//! Configurations of the tests: every port is the kernel's choice, every address is loopback.

use std::fmt::Write;

use super::backends::Backend;

/// A conference site for every host name on embedded workers.
pub(crate) fn conference(workers: u8) -> String {
    format!(
        r#"version: 1
listeners:
  https: {{ bind: ["127.0.0.1:0"], tls: self-signed }}
media: {{ bind: ["127.0.0.1:0"], advertise: ["127.0.0.1"] }}
sites:
  "*": {{ app: conference, pool: workers, auth: open }}
pools:
  workers: {{ embedded: {workers} }}
store: memory
admin: {{ bind: ["127.0.0.1:0"] }}
"#
    )
}

/// Sites over HTTP nodes, for what is said of each node.
pub(crate) struct Shards {
    nodes: Vec<(String, String)>,
    every: &'static str,
    linger: &'static str,
    extra: String,
}

/// Host of the site with the preset `jitsi`.
pub(crate) const JITSI: &str = "meet.example.com";
/// Host of the site that finds rooms in the query, then in the path.
pub(crate) const API: &str = "api.example.com";

impl Shards {
    /// The nodes are checked every 200 ms and a room lingers for 5 minutes.
    pub(crate) fn of(backends: &[Backend]) -> Self {
        let nodes = backends.iter().map(|b| (b.name.clone(), b.url())).collect();
        Self { nodes, every: "1s", linger: "5m", extra: String::new() }
    }

    /// Checks more often than once a second, and with a deadline as short: a machine that is busy fails them now and then.
    pub(crate) fn checked_every(mut self, every: &'static str) -> Self {
        self.every = every;
        self
    }

    /// Adds lines at the top level of the file.
    pub(crate) fn with(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self
    }

    /// Writes the file's text.
    pub(crate) fn text(&self) -> String {
        let mut nodes = String::new();
        for (name, url) in &self.nodes {
            let comma = if nodes.is_empty() { "" } else { ", " };
            write!(nodes, r#"{comma}{name}: "{url}""#).expect("a string takes everything");
        }
        format!(
            r#"version: 1
listeners:
  https: {{ bind: ["127.0.0.1:0"], tls: self-signed }}
  http:  {{ bind: ["127.0.0.1:0"], redirect: https }}
sites:
  {JITSI}: {{ app: jitsi, pool: shards }}
  {API}:  {{ pool: shards, room: [ {{ query: room }}, {{ path: last }} ] }}
pools:
  shards:
    nodes: {{ {nodes} }}
    check: {{ http: /about/health, every: {every}, timeout: {every}, rise: 2, fall: 2 }}
    sticky: {{ linger: {linger} }}
store: memory
admin: {{ bind: ["127.0.0.1:0"] }}
{extra}"#,
            every = self.every,
            linger = self.linger,
            extra = self.extra,
        )
    }
}
