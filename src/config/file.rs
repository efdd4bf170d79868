//! The file as it is written: one record per map, one table for keys, defaults, schema and reload.
//!
//! Pure. Filled leaf by leaf from the tree; what belongs together is checked in `check`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::fault::quote;
use super::read::{At, Given, KeyKind, KeySchema, List, Names, Read, Reader, Reload, record, record_schema};
use super::tree::{Kind, Node};
use super::values::{
    Advertised, AppWord, Bind, CheckPath, Count, FilePath, Host, Ident, NodeUrl, PathWord, PoolRef, PublicIp,
    QueryName, RedirectWord, Size, StoreWord, Time, TokenName,
};

record! {
    /// Configuration of Roomgate, the edge of a video-conference service.
    File {
        /// Version of this format: 1.
        version: Count<1, 1>, required, restart;
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
        /// Where placements are kept. memory: in this process.
        store: StoreWord, default(StoreWord::Memory), restart;
        /// The operator's endpoint: metrics, API and status page.
        admin: AdminFile, nested, inside;
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
    }
}

record! {
    /// A TCP listener.
    ListenerFile {
        /// Addresses to listen on. ":443" is IPv6 and IPv4.
        bind: List<Bind>, required, restart;
        /// How TLS ends here: self-signed (made at start, for trying out), or certificates. Without it: plain HTTP.
        tls: TlsFile, optional, inside;
        /// https: every request is answered with a redirect to the HTTPS listener.
        redirect: RedirectWord, optional, live;
        /// Deadlines of what clients send.
        timeouts: ListenerTimeouts, nested, inside;
        /// Sizes of what clients send.
        limits: ListenerLimitsFile, nested, inside;
    }
}

record! {
    /// Certificates of a listener.
    TlsCertificates {
        /// Certificates, chosen by SNI; the first one answers when no name matches.
        certificates: List<CertificateFile>, required, live;
    }
}

record! {
    /// A PEM chain and its key. Paths are relative to the folder of this file.
    CertificateFile {
        /// Chain, leaf first.
        cert: FilePath, required, live;
        /// PKCS#8, PKCS#1 or SEC1 key of the leaf, not encrypted.
        key: FilePath, required, live;
    }
}

record! {
    /// Deadlines of what clients send before their site is known.
    ListenerTimeouts {
        /// From accept to the whole ClientHello, and from there to the end of the handshake.
        handshake: Time<100, 3600>, default(Time::secs(5)), live;
        /// From the first byte of a request head to its end.
        head: Time<100, 3600>, default(Time::secs(10)), live;
        /// A keep-alive connection without a request is closed after this.
        idle: Time<100, 86_400>, default(Time::secs(75)), live;
    }
}

record! {
    /// Sizes of what clients send before their site is known.
    ListenerLimitsFile {
        /// Largest request head; a longer one gets 431.
        head: Size<4096, 1_048_576>, default(Size(128 << 10)), live;
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
    /// Whose traffic it is and where it goes.
    SiteFile {
        /// What kind of service it is: jitsi (Jitsi Meet's paths and rules), or conference (the embedded one).
        app: AppWord, optional, live;
        /// Where its rooms live.
        pool: PoolRef, required, live;
        /// Who may join a conference: open (everybody who can reach it), or a token. Needed when a listener is not on
        /// loopback.
        auth: AuthFile, optional, inside;
        /// How a request names its room; the first rule that finds one wins. Without it: the rule of `app`.
        room: List<RoomRuleFile>, optional, live;
        /// Deadlines towards nodes.
        timeouts: SiteTimeoutsFile, nested, inside;
        /// Sizes of requests.
        limits: SiteLimitsFile, nested, inside;
    }
}

record! {
    /// Who may join: bearers of a token.
    AuthToken {
        /// Secret of HS256 tokens with the claims `room` and `exp`, at least 32 bytes.
        jwt: SecretRef, required, live;
    }
}

record! {
    /// One place where a request may name its room.
    RoomRuleMap {
        /// A query parameter.
        query: QueryName, optional, live;
        /// A part of the path that is not empty: last or first.
        path: PathWord, optional, live;
        /// A header.
        header: TokenName, optional, live;
        /// A cookie.
        cookie: TokenName, optional, live;
    }
}

record! {
    /// Deadlines towards nodes.
    SiteTimeoutsFile {
        /// TCP connect to a node.
        connect: Time<50, 600>, default(Time::secs(3)), live;
        /// From the end of a request to the head of its response, and between two reads of a body.
        response: Time<100, 86_400>, default(Time::secs(90)), live;
        /// A WebSocket without a byte in either direction is closed after this.
        tunnel_idle: Time<1000, 604_800>, default(Time::secs(3600)), live;
    }
}

record! {
    /// Sizes of requests.
    SiteLimitsFile {
        /// Largest request head; a longer one gets 431. The listener's limit comes first.
        head: Size<1024, 1_048_576>, default(Size(32 << 10)), live;
    }
}

record! {
    /// A named set of nodes: HTTP services (`nodes`), or this process's own SFU workers (`embedded`).
    PoolFile {
        /// HTTP nodes, by name. The name is the identity: rooms follow it.
        nodes: Names<Ident, NodeFile>, optional, inside;
        /// Workers of the embedded SFU: auto (one per core), or how many.
        embedded: EmbeddedFile, optional, restart;
        /// Active check of each HTTP node. Without it a node is up until a connect to it fails.
        check: CheckFile, optional, inside;
        /// How rooms stick to their node.
        sticky: StickyFile, nested, inside;
    }
}

record! {
    /// An HTTP node with a weight.
    NodeMap {
        /// Where it is: http://host:port.
        url: NodeUrl, required, live;
        /// Share of new rooms, relative to the other nodes; 0 gets no new rooms.
        weight: Count<0, 10_000>, default(Count(100)), live;
    }
}

record! {
    /// An HTTP health check.
    CheckFile {
        /// Path to GET; a status of 2xx passes.
        http: CheckPath, required, live;
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
    /// How rooms stick to their node.
    StickyFile {
        /// A placement that nobody holds or touches ends after this.
        linger: Time<0, 86_400>, default(Time::secs(300)), live;
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
    }
}

/// `self-signed` or certificates.
#[derive(Clone, Debug)]
pub(super) enum TlsFile {
    SelfSigned,
    Certificates(TlsCertificates),
}

impl Read for TlsFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match word(node) {
            Some("self-signed") => Some(Self::SelfSigned),
            Some(other) => {
                let message = format!("{}: {} is not a way to end TLS", reader.path(), quote(other));
                reader.fault(
                    node.at,
                    message,
                    "`self-signed`, or `{ certificates: [ { cert: ..., key: ... } ] }`",
                );
                None
            }
            None => TlsCertificates::read(node, reader).map(Self::Certificates),
        }
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

/// `auto` or a number of workers.
#[derive(Clone, Copy, Debug)]
pub(super) struct EmbeddedFile(pub(super) Option<u8>);

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

/// `open` or a token.
#[derive(Clone, Debug)]
pub(super) enum AuthFile {
    Open,
    Token(AuthToken),
}

impl Read for AuthFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match word(node) {
            Some("open") => Some(Self::Open),
            Some(other) => {
                let message = format!("{}: {} is not a rule of who may join", reader.path(), quote(other));
                reader.fault(node.at, message, "`open`, or `{ jwt: \"file:...\" }`");
                None
            }
            None => AuthToken::read(node, reader).map(Self::Token),
        }
    }
}

/// A rule, or a preset's word.
#[derive(Clone, Debug)]
pub(super) enum RoomRuleFile {
    Preset(AppWord),
    Map(Box<RoomRuleMap>),
}

impl Read for RoomRuleFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if let Some(text) = word(node) {
            if let Some(preset) = AppWord::find(text) {
                return Some(Self::Preset(preset));
            }
            let message = format!("{}: {} is not a rule", reader.path(), quote(text));
            reader.fault(node.at, message, RULE_CURE);
            return None;
        }
        let rule = RoomRuleMap::read(node, reader)?;
        let RoomRuleMap { query, path, header, cookie } = &rule;
        let keys = [query.is_missing(), path.is_missing(), header.is_missing(), cookie.is_missing()];
        match keys.iter().filter(|missing| !**missing).count() {
            1 => Some(Self::Map(Box::new(rule))),
            count => {
                // Without any key, an unknown one was reported already.
                let empty = matches!(&node.kind, Kind::Map(entries) if entries.is_empty());
                if count > 1 || empty {
                    let message = format!("{}: a rule has one key, this one has {count}", reader.path());
                    reader.fault(node.at, message, RULE_CURE);
                }
                None
            }
        }
    }
}

/// An HTTP node: a URL, or a URL with more.
#[derive(Clone, Debug)]
pub(super) struct NodeFile {
    pub(super) url: Given<NodeUrl>,
    pub(super) weight: u32,
}

impl Read for NodeFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if word(node).is_some() {
            let url = Given::Yes(reader.key_at(), At::read(node, reader)?);
            return Some(Self { url, weight: NodeMap::absent().weight.value.0 });
        }
        let NodeMap { url, weight } = NodeMap::read(node, reader)?;
        Some(Self { url, weight: weight.value.0 })
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

/// Declares the schema of a value that is either of several forms.
macro_rules! either {
    ($name:ident, |$generator:ident| [$($form:expr),+ $(,)?]) => {
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                let forms: Vec<serde_json::Value> = vec![$(serde_json::Value::from($form)),+];
                json_schema!({ "oneOf": forms })
            }
        }
    };
}

either!(TlsFile, |g| [json_schema!({ "const": "self-signed" }), g.subschema_for::<TlsCertificates>()]);
either!(AdvertiseFile, |g| [json_schema!({ "const": "auto" }), g.subschema_for::<List<Advertised>>()]);
either!(EmbeddedFile, |_g| [
    json_schema!({ "const": "auto" }),
    json_schema!({ "type": "integer", "minimum": 1, "maximum": 64 }),
]);
either!(AuthFile, |g| [json_schema!({ "const": "open" }), g.subschema_for::<AuthToken>()]);
either!(RoomRuleFile, |g| [g.subschema_for::<AppWord>(), one_key(g.subschema_for::<RoomRuleMap>())]);
either!(NodeFile, |g| [g.subschema_for::<NodeUrl>(), g.subschema_for::<NodeMap>()]);

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(file|env):.+", "examples": ["file:jwt.secret", "env:JWT_SECRET"] })
    }
}

fn one_key(schema: Schema) -> Schema {
    json_schema!({ "allOf": [schema], "minProperties": 1, "maxProperties": 1 })
}

const RULE_CURE: &str =
    "`{ query: NAME }`, `{ path: last }`, `{ header: NAME }`, `{ cookie: NAME }`, `jitsi` or `conference`";
