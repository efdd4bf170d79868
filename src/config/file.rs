//! The file as it is written: one record per map, one table for keys, defaults, schema and reload.
//!
//! Pure. Filled leaf by leaf from the tree; what belongs together is checked in `check`. One file per part of the
//! configuration.

mod access_log;
mod cache;
mod limits;
mod listeners;
mod pools;
mod routes;
mod sites;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

pub(super) use access_log::AccessLogFile;
pub(super) use cache::{CacheFile, RouteCacheFile};
pub(super) use limits::{
    BanRuleFile, LimitsFile, NewRoomRatesFile, RequestRatesFile, RoomConnectionsFile, RouteLimitsFile,
};
pub(super) use listeners::{CertificateFile, ListenerFile, TicketsFile, TlsFile};
pub(super) use pools::{CheckFile, HttpProbe, NodeFile, NodeMap, NodeTlsFile, PoolFile, ServiceProbe};
pub(super) use routes::{BodyFile, FilesFile, HeaderEditsFile, RespondFile, RouteFile, RouteTimeoutsFile};
pub(super) use sites::{AuthFile, ClientCertificateFile, RoomRuleFile, RoomRuleMap, SiteFile};

use super::read::{
    At, Given, KeyKind, KeySchema, List, Names, Read, Reader, Reload, either, record, record_schema,
};
use super::tree::{Kind, Node};
use super::values::network::Network;
use super::values::{Advertised, Bind, Count, Host, Ident, Label, PublicIp, StoreWord, Time};

record! {
    /// Configuration of Roomgate, the edge of a video-conference service.
    File {
        /// Version of this format: 1.
        version: Count<1, 1>, required, restart;
        /// Where the edge stands, unless its own entry in `edges` says it: new rooms go to nodes of the same region
        /// first.
        region: Label, optional, live;
        /// The edges that share this file, by name. With it, `roomgate run --edge NAME` says which one runs.
        edges: Names<Ident, EdgeFile>, optional, inside;
        /// Where TCP traffic enters, by name.
        listeners: Names<Ident, ListenerFile>, required, inside;
        /// The UDP port through which every embedded worker is reached. Needed by a pool with `embedded`.
        media: MediaFile, optional, inside;
        /// Whose traffic it is: host name, in lower case and without a port, or "*" for every other.
        sites: Names<Host, SiteFile>, required, inside;
        /// Where rooms live, by name.
        pools: Names<Ident, PoolFile>, required, inside;
        /// Networks of proxies in front of this edge. What they say in `X-Forwarded-For`, `-Proto`, `-Host` or `Forwarded`
        /// counts; from everybody else it is dropped.
        trusted: List<Network>, default(List::of([])), live;
        /// Where placements are kept. memory: in this process.
        store: StoreWord, default(StoreWord::Memory), restart;
        /// The operator's endpoint: metrics, API and status page.
        admin: AdminFile, nested, inside;
        /// Limits of the whole edge.
        limits: LimitsFile, nested, inside;
        /// Rules that ban clients for a while, by name.
        bans: Names<Ident, BanRuleFile>, optional, inside;
        /// One line a request. Without it none is written.
        access_log: AccessLogFile, optional, inside;
        /// What routes with `cache` keep.
        cache: CacheFile, nested, inside;
        /// Bounds of the room table.
        rooms: RoomsFile, nested, inside;
        /// How the process ends.
        shutdown: ShutdownFile, nested, inside;
    }
}

record! {
    /// One edge of the fleet.
    EdgeFile {
        /// Number of the edge, part of every ICE ufrag: 1 to 65535, another one for each edge.
        id: Count<1, 65_535>, required, restart;
        /// Addresses that clients reach this edge at; `media.advertise: auto` tells them.
        public: List<PublicIp>, optional, restart;
        /// Where it stands: new rooms go to nodes of the same region first.
        region: Label, optional, live;
    }
}

record! {
    /// The UDP media port.
    MediaFile {
        /// Addresses to receive on.
        bind: List<Bind>, required, restart;
        /// What clients are told: auto (this edge's `public`; without `edges`, the machine's addresses), or a list of
        /// addresses. A missing port is the port of `bind`.
        advertise: AdvertiseFile, default(AdvertiseFile::Auto), restart;
        /// AES-128 key of the ICE ufrags: 32 hexadecimal digits, the same on every edge. Without it one is drawn at
        /// each start.
        key: SecretRef, optional, restart;
        /// Participants on one worker.
        sessions: SessionsFile, nested, inside;
        /// The synthetic participant that joins each worker.
        selftest: SelftestFile, nested, inside;
    }
}

record! {
    /// Participants on one worker.
    SessionsFile {
        /// Most participants on one worker; a further join is refused.
        max: Count<1, 100_000>, default(Count(2000)), restart;
    }
}

record! {
    /// The synthetic participant that joins each worker.
    SelftestFile {
        /// How often it joins.
        every: Time<200, 3600>, default(Time::secs(5)), restart;
    }
}

record! {
    /// The operator's endpoint.
    AdminFile {
        /// Addresses; loopback unless `tokens` is set. An empty list: no endpoint.
        bind: List<Bind>, default(List::of([Bind(([127, 0, 0, 1], 9180).into())])), restart;
        /// Bearer tokens by name, each at least 16 characters. Without any, everybody on loopback may ask.
        tokens: Names<Ident, SecretRef>, optional, live;
    }
}

record! {
    /// Bounds of the room table.
    RoomsFile {
        /// Rooms kept at once, about 300 bytes each. At the bound a new room is placed but not kept.
        max: Count<1, 10_000_000>, default(Count(1_000_000)), restart;
    }
}

record! {
    /// How the process ends.
    ShutdownFile {
        /// From SIGTERM to the exit at the latest.
        deadline: Time<0, 3600>, default(Time::secs(10)), live;
        /// WebSockets to nodes are closed (1001) evenly spread over this; the rest of the deadline is for those that are
        /// slow to answer. Default: half of the deadline.
        tunnels: Time<0, 3600>, optional, live;
    }
}

/// `auto` or addresses.
#[derive(Clone, Debug)]
pub(super) enum AdvertiseFile {
    Auto,
    List(List<Advertised>),
}

impl Read for AdvertiseFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if word(node) == Some("auto") {
            return Some(Self::Auto);
        }
        List::read(node, reader).map(Self::List)
    }
}

impl serde::Serialize for AdvertiseFile {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::List(list) => {
                serializer.collect_seq(list.items.iter().map(|item| item.value.0.0.to_string()))
            }
        }
    }
}

/// Where a secret is: `file:PATH` or `env:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SecretRef {
    File(String),
    Env(String),
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{path}"),
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}

impl Read for SecretRef {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let Kind::Scalar(scalar) = &node.kind else {
            mask(node, reader);
            reader.wrong(node, "the reference of a secret", "\"file:PATH\" or \"env:NAME\"");
            return None;
        };
        let reference = match scalar.text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Some(Self::File(path.to_owned())),
            Some(("env", name)) if !name.is_empty() && !name.contains(['=', '\0']) => {
                Some(Self::Env(name.to_owned()))
            }
            Some(_) | None => None,
        };
        if reference.is_none() {
            // It may be the secret itself: no message and no excerpt shows it.
            mask(node, reader);
            let what = if node.is_nothing() { "nothing" } else { "a value that is not shown" };
            let message = format!("{}: expected the reference of a secret, found {what}", reader.path());
            reader.fault(
                node.at,
                message,
                "\"file:PATH\" or \"env:NAME\": a secret never stands in the file",
            );
        }
        reference
    }
}

/// Keeps every text of the node out of every excerpt.
fn mask(node: &Node, reader: &mut Reader) {
    match &node.kind {
        Kind::Scalar(_) => reader.faults.mask(node.at),
        Kind::List(items) => items.iter().for_each(|item| mask(item, reader)),
        Kind::Map(entries) => entries.iter().for_each(|entry| mask(&entry.value, reader)),
        Kind::Faulty => {}
    }
}

/// Returns the text of a scalar that is not nothing.
fn word(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar(scalar) if !node.is_nothing() => Some(&scalar.text),
        Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) | Kind::Faulty => None,
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(file|env):.+", "examples": ["file:jwt.secret", "env:JWT_SECRET"] })
    }
}

either!(AdvertiseFile, |g| [json_schema!({ "const": "auto" }), g.subschema_for::<List<Advertised>>()]);
