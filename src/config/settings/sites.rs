//! Sites: whose traffic it is and where it goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{
    ClientCertificateSettings, MemberPath, Name, NetworkRules, RequestLimits, RouteSettings, Secret, Template,
};

/// Sites by host name: exact names first, then the longest that begins with `*.`, then `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteTable {
    /// Exact host names, lower case, without a port.
    pub exact: BTreeMap<Name, Arc<SiteSettings>>,
    /// `*.example.com`, without its `*.`: every name below it, at any depth.
    pub below: BTreeMap<Name, Arc<SiteSettings>>,
    /// The site named `"*"`.
    pub any: Option<Arc<SiteSettings>>,
    /// Headers that tell a node who a client is, of all sites: no client may write one, on any site.
    pub client_headers: Vec<Name>,
}

impl SiteTable {
    /// Finds the site of a host name. `host` is lower case and has no port.
    pub fn find(&self, host: &str) -> Option<&Arc<SiteSettings>> {
        if let Some(site) = self.exact.get(host) {
            return Some(site);
        }
        if !self.below.is_empty() {
            let mut rest = host;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(site) = self.below.get(parent) {
                    return Some(site);
                }
                rest = parent;
            }
        }
        self.any.as_ref()
    }

    /// All sites, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<SiteSettings>> {
        self.exact.values().chain(self.below.values()).chain(self.any.iter())
    }

    /// Adds a site by its name in the file.
    pub fn insert(&mut self, site: Arc<SiteSettings>) {
        match (&*site.name, site.name.strip_prefix("*.")) {
            ("*", _) => self.any = Some(site),
            (_, Some(parent)) => drop(self.below.insert(parent.into(), site)),
            (_, None) => drop(self.exact.insert(site.name.clone(), site)),
        }
    }
}

/// Whose traffic it is and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteSettings {
    /// Host name in the file, or `*`.
    pub name: Name,
    /// Where its rooms live.
    pub pool: Name,
    /// What kind of service it is.
    pub app: App,
    /// What it does with some of its requests: the first that matches decides. Those of the preset come last.
    pub routes: Vec<Arc<RouteSettings>>,
    /// What it does with all others; also what its routes have where they say nothing.
    pub rest: Arc<RouteSettings>,
    /// Largest request head. Default 32 KiB; a longer one gets 431.
    pub head_bytes_max: usize,
    /// Whom it lets in by certificate; `None` asks for none.
    pub client_certificate: Option<ClientCertificateSettings>,
    /// Limits of its requests.
    pub limits: RequestLimits,
    /// Who may ask at all.
    pub networks: NetworkRules,
    /// What tokens that name rooms must be signed with (HS256); `None`: they are not verified here.
    pub token_secret: Option<Secret>,
    /// Whether its requests are in the access log, if there is one.
    pub access_log: bool,
}

/// What kind of service a site is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum App {
    /// Nodes, by the site's routes. A preset is nothing but routes and rules once it is read.
    Nodes,
    /// The embedded conference: page, WebSocket, WHIP and WHEP.
    Conference {
        /// Who may join.
        auth: Auth,
    },
}

/// Who may join a room of a conference site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Everybody who can reach the listener.
    Open,
    /// Bearers of an HS256 token with the claims `room` and `exp`. The secret has at least 32 bytes.
    Jwt(Secret),
}

/// Where a request may name its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomRule {
    /// A query parameter.
    Query(Name),
    /// A part of the path.
    Path(PathRule),
    /// A header; the name is lower case.
    Header(Name),
    /// A cookie.
    Cookie(Name),
    /// A text, such as `session/{session}`; no hit if something that it names is empty.
    Text(Template),
    /// A claim of the bearer's token (RFC 6750, or the query parameter `access_token`), by its path. Nobody verifies the
    /// token here: who lies about the room comes to another node, and no further.
    Claim(MemberPath),
    /// Jitsi's rules: `room` in the query, else the last segment of a room path, below its tenant.
    Jitsi,
    /// `/rooms/{room}` and everything below it.
    Conference,
}

/// A part of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRule {
    /// The last segment that is not empty.
    Last,
    /// The first segment that is not empty.
    First,
}

/// Deadlines of requests and tunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteTimeouts {
    /// TCP connect and TLS handshake with a node. Default 3 s.
    pub connect: Duration,
    /// From the request's end to the response head, and between two reads of a body. Default 90 s, for BOSH.
    pub response: Duration,
    /// A tunnel without a byte in either direction is closed after this. Default 1 h.
    pub tunnel_idle: Duration,
    /// A client that was silent for this long is sent a ping, and closed when it is silent for as long again. `None`: no
    /// pings. Pings and their pongs do not count for `tunnel_idle`.
    pub tunnel_ping: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use crate::config;

    #[test]
    fn the_most_exact_name_decides() {
        let site = |name: &str| format!("  \"{name}\": {{ pool: p }}\n");
        let names = ["a.example.com", "*.example.com", "*.b.example.com", "*"];
        let text = format!(
            "version: 1\nlisteners: {{ http: {{ bind: [\"127.0.0.1:0\"] }} }}\nsites:\n{}\
             pools: {{ p: {{ nodes: {{ n: \"http://127.0.0.1:1\" }} }} }}\n",
            names.map(site).concat()
        );
        let loaded = config::load_str("f.yaml", &text, std::path::Path::new(""), None);
        let sites = loaded.unwrap_or_else(|faults| panic!("{faults}")).settings.sites;
        for (host, expected) in [
            ("a.example.com", "a.example.com"),
            ("b.example.com", "*.example.com"),
            ("x.y.example.com", "*.example.com"),
            ("x.b.example.com", "*.b.example.com"),
            ("example.com", "*"),
            ("other", "*"),
        ] {
            assert_eq!(sites.find(host).map(|site| &*site.name), Some(expected), "{host}");
        }
        assert_eq!(sites.iter().count(), 4);
    }
}
