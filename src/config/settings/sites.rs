//! Sites: whose traffic it is and where it goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{ClientCertificateSettings, Name, Secret};

/// Sites by host name: exact names first, then `"*"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteTable {
    /// Exact host names, lower case, without a port.
    pub exact: BTreeMap<Name, Arc<SiteSettings>>,
    /// The site named `"*"`.
    pub any: Option<Arc<SiteSettings>>,
    /// Headers that tell a node who a client is, of all sites: no client may write one, on any site.
    pub client_headers: Vec<Name>,
}

impl SiteTable {
    /// Finds the site of a host name. `host` is lower case and has no port.
    pub fn find(&self, host: &str) -> Option<&Arc<SiteSettings>> {
        self.exact.get(host).or(self.any.as_ref())
    }

    /// All sites, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<SiteSettings>> {
        self.exact.values().chain(self.any.iter())
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
    /// How a request names its room, first hit wins. Filled from the preset when the file gives none.
    pub room: Vec<RoomRule>,
    /// Largest request head. Default 32 KiB; a longer one gets 431.
    pub head_bytes_max: usize,
    /// Whom it lets in by certificate; `None` asks for none.
    pub client_certificate: Option<ClientCertificateSettings>,
    /// Deadlines towards nodes.
    pub timeouts: SiteTimeouts,
    /// Whether its requests are in the access log, if there is one.
    pub access_log: bool,
}

/// What kind of service a site is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum App {
    /// No preset: only the site's own rules.
    Plain,
    /// Jitsi Meet signalling shards.
    Jitsi,
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
    /// TCP connect to a node. Default 3 s.
    pub connect: Duration,
    /// From the request's end to the response head, and between two reads of a body. Default 90 s, for BOSH.
    pub response: Duration,
    /// A tunnel without a byte in either direction is closed after this. Default 1 h.
    pub tunnel_idle: Duration,
}
