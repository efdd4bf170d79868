//! Pools: what they are made of, how nodes are checked, how rooms stick.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::word;
use crate::config::fault::quote;
use crate::config::read::{
    At, Given, KeyKind, KeySchema, Names, Read, Reader, Reload, either, record, record_schema,
};
use crate::config::tree::Node;
use crate::config::values::flag::Flag;
use crate::config::values::{
    CheckPath, Count, FilePath, Ident, Label, NodeHost, NodeUrl, ProbeHost, ProbeText, ProtocolWord,
    ProxyVersionWord, ServicePort, TcpCheckWord, Time,
};

record! {
    /// A named set of nodes: HTTP or TCP services (`nodes`), or this process's own SFU workers (`embedded`).
    PoolFile {
        /// Nodes by name, all HTTP or all TCP. The name is the identity: rooms follow it.
        nodes: Names<Ident, NodeFile>, optional, inside;
        /// Workers of the embedded SFU: auto (one per core), or how many.
        embedded: EmbeddedFile, optional, restart;
        /// Active check of each node. Without it a node is up until a connect to it fails.
        check: CheckFile, optional, inside;
        /// What requests speak to the nodes: h1; or h2, over TLS if the node agrees, without TLS in any case. WebSockets
        /// are h1.
        protocol: ProtocolWord, default(ProtocolWord::H1), live;
        /// TLS to `https` nodes and services.
        tls: NodeTlsFile, optional, inside;
        /// How rooms stick to their node.
        sticky: StickyFile, nested, inside;
        /// Deadlines of a TCP pool's streams; those of HTTP are the site's.
        timeouts: PoolTimeoutsFile, nested, inside;
        /// v2: a PROXY header tells the nodes who the client is. Connections are not shared between clients then.
        proxy_protocol: ProxyVersionWord, optional, live;
    }
}

record! {
    /// A node: where it is (`url`, or `host` with services), where it stands, what it runs.
    NodeMap {
        /// Where it is, with the one service `web`: http://host:port or https://host:port. Further services may stand beside
        /// it. A TCP node: tcp://host:port.
        url: NodeUrl, optional, live;
        /// Where it is: an IP address or a name. Its services are named by the keys that follow; each is a port, or
        /// "https:PORT" over TLS.
        host: NodeHost, optional, live;
        /// Port of its web server: where requests go that nothing sends elsewhere.
        web: ServicePort, optional, live;
        /// Port of Prosody's HTTP: BOSH, XMPP over WebSocket, room API.
        prosody: ServicePort, optional, live;
        /// Port of Jicofo's HTTP: conference requests, health.
        jicofo: ServicePort, optional, live;
        /// Port of its WebSockets, where they have their own.
        ws: ServicePort, optional, live;
        /// Port of its API, where that has its own.
        api: ServicePort, optional, live;
        /// Ports of any other services, by name.
        services: Names<Ident, ServicePort>, optional, live;
        /// Where it stands: rooms from an edge of the same region go there first.
        region: Label, optional, live;
        /// What it runs: rooms that ask for a release go there.
        release: Label, optional, live;
        /// Share of new rooms, relative to the other nodes; 0 gets no new rooms.
        weight: Count<0, 10_000>, default(Count(100)), live;
    }
}

impl NodeMap {
    /// The services with keys of their own.
    pub(in crate::config) fn short(&self) -> [(&'static str, &Given<ServicePort>); 5] {
        let Self { web, prosody, jicofo, ws, api, .. } = self;
        [("web", web), ("prosody", prosody), ("jicofo", jicofo), ("ws", ws), ("api", api)]
    }

    /// The names of the services with keys of their own.
    pub(in crate::config) const SHORT: [&'static str; 5] = ["web", "prosody", "jicofo", "ws", "api"];
}

record! {
    /// How nodes are checked: what is listed must all pass.
    CheckFile {
        /// A path to get from the service `web`, or a map with more.
        http: HttpProbeFile, optional, inside;
        /// The service that speaks BOSH: Prosody's or ejabberd's HTTP.
        bosh: ServiceProbeFile, optional, inside;
        /// The service that is Jicofo's HTTP.
        jicofo: ServiceProbeFile, optional, inside;
        /// connect: a TCP node passes when it takes a connection.
        tcp: TcpCheckWord, optional, live;
        /// Time between two checks of one node; jittered by a tenth.
        every: Time<100, 3600>, default(Time::secs(2)), live;
        /// Deadline of one check; not longer than `every`.
        timeout: Time<10, 3600>, default(Time::secs(1)), live;
        /// Passes in a row that bring a node up.
        rise: Count<1, 100>, default(Count(2)), live;
        /// Failures in a row that take a node down.
        fall: Count<1, 100>, default(Count(2)), live;
    }
}

record! {
    /// A GET to a service of the node.
    HttpProbe {
        /// Path to GET.
        path: CheckPath, required, live;
        /// The service that is asked. Without it: web.
        service: Label, optional, live;
        /// Status of a good answer. Without it any 2xx is one.
        status: Count<100, 599>, optional, live;
        /// Text that is found in the first 64 KiB of a good answer.
        body: ProbeText, optional, live;
        /// The Host header. Without it: the node's own address.
        host: ProbeHost, optional, live;
    }
}

record! {
    /// A question that only such a service can answer.
    ServiceProbe {
        /// The service that is asked.
        service: Label, required, live;
        /// Where it answers. Without it: /http-bind for BOSH, /about/health for Jicofo.
        path: CheckPath, optional, live;
        /// The Host header, where the service knows itself by name. Without it: the node's own address.
        host: ProbeHost, optional, live;
    }
}

/// A GET: a path, or a map.
#[derive(Clone, Debug)]
pub(in crate::config) struct HttpProbeFile(pub(in crate::config) HttpProbe);

impl Read for HttpProbeFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if word(node).is_none() {
            return HttpProbe::read(node, reader).map(Self);
        }
        let path = Given::Yes(reader.key_at(), At::read(node, reader)?);
        Some(Self(HttpProbe { path, ..HttpProbe::absent() }))
    }
}

/// A service that is asked: its name, or a map.
#[derive(Clone, Debug)]
pub(in crate::config) struct ServiceProbeFile(pub(in crate::config) ServiceProbe);

impl Read for ServiceProbeFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if word(node).is_none() {
            return ServiceProbe::read(node, reader).map(Self);
        }
        let service = Given::Yes(reader.key_at(), At::read(node, reader)?);
        Some(Self(ServiceProbe { service, ..ServiceProbe::absent() }))
    }
}

record! {
    /// TLS to nodes: whom the pool trusts, and what it shows of itself.
    NodeTlsFile {
        /// PEM certificates of those who may vouch for a node. Without it: the machine's own roots.
        ca: FilePath, optional, live;
        /// The name that is sent (SNI) and that a node's certificate must have. Without it: the node's host.
        sni: NodeHost, optional, live;
        /// Whether a node must prove who it is.
        verify: Flag, default(Flag(true)), live;
        /// Certificate that is shown to nodes which ask for one: a PEM chain, leaf first.
        cert: FilePath, optional, live;
        /// Its key.
        key: FilePath, optional, live;
    }
}

record! {
    /// How rooms stick to their node.
    StickyFile {
        /// A placement that nobody holds or touches ends after this.
        linger: Time<0, 86_400>, default(Time::secs(300)), live;
    }
}

record! {
    /// Deadlines of a TCP pool's streams.
    PoolTimeoutsFile {
        /// TCP connect to a node.
        connect: Time<50, 600>, default(Time::secs(3)), live;
        /// A stream without a byte in either direction is closed after this.
        idle: Time<1000, 604_800>, default(Time::secs(3600)), live;
    }
}

/// `auto` or a number of workers.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct EmbeddedFile(pub(in crate::config) Option<u8>);

impl Read for EmbeddedFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let text = &reader.scalar(node, "`auto` or a number")?.text;
        if text == "auto" {
            return Some(Self(None));
        }
        let workers = text.parse::<u8>().ok().filter(|n| (1..=64).contains(n));
        if workers.is_none() {
            let message = format!("{}: {} is not a number of workers", reader.path(), quote(text));
            reader.fault(node.at, message, "`auto` (one per core), or 1 to 64");
        }
        workers.map(|workers| Self(Some(workers)))
    }
}

/// A node: a URL, or a map.
#[derive(Clone, Debug)]
pub(in crate::config) struct NodeFile(pub(in crate::config) NodeMap);

impl Read for NodeFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if word(node).is_none() {
            return NodeMap::read(node, reader).map(Self);
        }
        let url = Given::Yes(reader.key_at(), At::read(node, reader)?);
        Some(Self(NodeMap { url, ..NodeMap::absent() }))
    }
}

either!(EmbeddedFile, |_g| [
    json_schema!({ "const": "auto" }),
    json_schema!({ "type": "integer", "minimum": 1, "maximum": 64 }),
]);

either!(NodeFile, |g| [g.subschema_for::<NodeUrl>(), g.subschema_for::<NodeMap>()]);

either!(HttpProbeFile, |g| [g.subschema_for::<CheckPath>(), g.subschema_for::<HttpProbe>()]);

either!(ServiceProbeFile, |g| [g.subschema_for::<Label>(), g.subschema_for::<ServiceProbe>()]);
