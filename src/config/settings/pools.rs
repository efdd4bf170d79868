//! Pools: what they are made of, how nodes are checked, how rooms stick.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{CertificateFiles, Name};

/// A named set of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Its name.
    pub name: Name,
    /// What it is made of.
    pub nodes: PoolNodes,
    /// How rooms stick.
    pub sticky: StickySettings,
    /// The region of this edge: nodes that stand there come first.
    pub region: Option<Name>,
    /// What requests speak to its nodes. WebSockets are always HTTP/1.1.
    pub protocol: Protocol,
    /// TLS to those services that are reached over it.
    pub tls: NodeTlsSettings,
    /// Whether each connection for a client begins with a PROXY header of version 2 that says who the client is.
    pub proxy_protocol: bool,
}

impl PoolSettings {
    /// Creates a pool of an edge without a region.
    pub fn new(name: impl Into<Name>, nodes: PoolNodes, linger: Duration) -> Self {
        Self {
            name: name.into(),
            nodes,
            sticky: StickySettings { linger },
            region: None,
            protocol: Protocol::H1,
            tls: NodeTlsSettings::default(),
            proxy_protocol: false,
        }
    }

    /// Returns the first node that lacks a service, by name: what is sent to the service could not go there. `None`:
    /// every node has it; one that is a URL answers for every service. Neither TCP nodes nor embedded workers have
    /// services, and the answer for them is `None` too.
    pub fn without_service(&self, service: &str) -> Option<&Name> {
        match &self.nodes {
            PoolNodes::Http { nodes, .. } => {
                let lacks =
                    |node: &HttpNode| node.only_web().is_none() && !node.services.contains_key(service);
                nodes.iter().find(|(_, node)| lacks(node)).map(|(name, _)| name)
            }
            PoolNodes::Tcp { .. } | PoolNodes::Embedded { .. } => None,
        }
    }
}

/// What a pool is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolNodes {
    /// HTTP services, by name.
    Http {
        /// The nodes.
        nodes: BTreeMap<Name, HttpNode>,
        /// Active check; `None`: a node is up until a connect to it fails.
        check: Option<CheckSettings>,
    },
    /// TCP services, by name: bytes pass as they are.
    Tcp {
        /// The nodes.
        nodes: BTreeMap<Name, TcpNode>,
        /// Active check; `None`: a node is up until a connect to it fails.
        check: Option<ConnectCheck>,
        /// Deadlines of its streams.
        timeouts: StreamTimeouts,
    },
    /// This process's own SFU workers, named `worker-0`, `worker-1`, ...
    Embedded {
        /// How many; `None` is one per core.
        workers: Option<u8>,
    },
}

/// One HTTP node: a host with services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpNode {
    /// An IP address (IPv6 without brackets) or a DNS name in lower case, resolved when it is dialled.
    pub host: Name,
    /// Its services by name. A node that is a URL has one, [`WEB`].
    pub services: Arc<BTreeMap<Name, Service>>,
    /// Share of new rooms, relative to the other nodes. Default 100; 0 gets no new rooms.
    pub weight: u32,
    /// Where it stands.
    pub region: Option<Name>,
    /// What it runs, for rooms that ask for a release.
    pub release: Option<Name>,
}

/// Where a service of a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// TCP port.
    pub port: u16,
    /// Whether it is reached over TLS, as the pool's `tls` says.
    pub tls: bool,
}

impl Service {
    /// A service without TLS.
    pub fn plain(port: u16) -> Self {
        Self { port, tls: false }
    }
}

/// What requests speak to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    H1,
    /// HTTP/2: over TLS if the node chooses it (ALPN), without TLS in any case (prior knowledge).
    H2,
}

/// TLS to nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTlsSettings {
    /// Who may vouch for a node; `None`: the machine's own roots.
    pub ca: Option<Authorities>,
    /// The name that is sent and that a certificate must have; `None`: the node's host.
    pub sni: Option<Name>,
    /// Whether a node must prove who it is. Default true.
    pub verify: bool,
    /// What this edge shows of itself.
    pub client: Option<ClientCertificate>,
}

impl Default for NodeTlsSettings {
    fn default() -> Self {
        Self { ca: None, sni: None, verify: true, client: None }
    }
}

/// Authorities, as they were read from their file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// The file.
    pub path: PathBuf,
    /// Its certificates; at least one.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

/// A client certificate, as it was read from its files. Its key is not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Chain and key.
    pub files: CertificateFiles,
    /// The chain, leaf first.
    pub chain: Arc<[CertificateDer<'static>]>,
    /// The leaf's key.
    pub key: Arc<PrivateKeyDer<'static>>,
}

/// The service that requests go to when nothing names another.
pub const WEB: &str = "web";

impl HttpNode {
    /// Creates a node with the service [`WEB`] alone, of weight 100.
    pub fn new(host: impl Into<Name>, port: u16) -> Self {
        Self::with_services(host, [(WEB, Service::plain(port))])
    }

    /// Creates a node with these services, of weight 100.
    pub fn with_services<'a>(
        host: impl Into<Name>,
        services: impl IntoIterator<Item = (&'a str, Service)>,
    ) -> Self {
        let services = services.into_iter().map(|(name, service)| (Name::from(name), service)).collect();
        Self { host: host.into(), services: Arc::new(services), weight: 100, region: None, release: None }
    }

    /// Returns the service when it is [`WEB`] and the node has no other: such a node is written as a URL.
    pub fn only_web(&self) -> Option<Service> {
        self.services.get(WEB).copied().filter(|_| self.services.len() == 1)
    }
}

/// One TCP node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpNode {
    /// An IP address (IPv6 without brackets) or a DNS name in lower case, resolved when it is dialled.
    pub host: Name,
    /// TCP port.
    pub port: u16,
    /// 0: it gets a stream only when no other can serve. Default 100; all others count alike.
    pub weight: u32,
}

/// The check of a TCP node: it takes a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectCheck {
    /// Time between two checks of one node; jittered by a tenth. Default 2 s.
    pub every: Duration,
    /// Deadline of one check; never longer than `every`. Default 1 s.
    pub timeout: Duration,
    /// Passes in a row that bring a node up. Default 2.
    pub rise: NonZeroU32,
    /// Failures in a row that take a node down. Default 2.
    pub fall: NonZeroU32,
}

/// Deadlines of a TCP pool's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamTimeouts {
    /// TCP connect to a node. Default 3 s.
    pub connect: Duration,
    /// A stream without a byte in either direction is closed after this. Default 1 h.
    pub idle: Duration,
}

/// How nodes are checked: a check passes when all its probes do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSettings {
    /// What is asked, in this order; at least one.
    pub probes: Vec<Probe>,
    /// Time between two checks of one node; jittered by a tenth. Default 2 s.
    pub every: Duration,
    /// Deadline of one check; never longer than `every`. Default 1 s.
    pub timeout: Duration,
    /// Passes in a row that bring a node up. Default 2.
    pub rise: NonZeroU32,
    /// Failures in a row that take a node down. Default 2.
    pub fall: NonZeroU32,
}

impl CheckSettings {
    /// Creates a check that gets `path` from [`WEB`], with the defaults.
    pub fn http(path: impl Into<Name>) -> Self {
        let kind = ProbeKind::Http { status: None, body: None };
        let two = NonZeroU32::MIN.saturating_add(1);
        Self {
            probes: vec![Probe { kind, service: WEB.into(), path: path.into(), host: None }],
            every: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: two,
            fall: two,
        }
    }
}

/// One question to one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked, and what a good answer is.
    pub kind: ProbeKind,
    /// The service that is asked.
    pub service: Name,
    /// Path of the request.
    pub path: Name,
    /// The Host header; `None`: the node's own address.
    pub host: Option<Name>,
}

/// What a probe asks, and what a good answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// A GET.
    Http {
        /// The status of a good answer; `None`: any 2xx.
        status: Option<u16>,
        /// Text in the first 64 KiB of a good answer's body.
        body: Option<Name>,
    },
    /// An empty BOSH request: only a BOSH server knows what is wrong with it.
    Bosh,
    /// Jicofo's health: a 2xx that is no web page.
    Jicofo,
}

impl ProbeKind {
    /// Returns the key of the file. Stable.
    pub fn as_str(&self) -> &'static str {
        match self {
            ProbeKind::Http { .. } => "http",
            ProbeKind::Bosh => "bosh",
            ProbeKind::Jicofo => "jicofo",
        }
    }

    /// Returns where such a service answers when the file does not say it.
    pub fn default_path(&self) -> &'static str {
        match self {
            ProbeKind::Http { .. } => "/",
            ProbeKind::Bosh => "/http-bind",
            ProbeKind::Jicofo => "/about/health",
        }
    }
}

/// How rooms stick to their node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickySettings {
    /// A placement that nobody holds or touches ends after this. Default 5 min.
    pub linger: Duration,
}
