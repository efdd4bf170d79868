//! Sites: whose traffic it is, who may join, how a request names its room.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::limits::{NewRoomRatesFile, RequestRatesFile, RoomConnectionsFile};
use super::routes::{BodyFile, HeaderEditsFile, RouteFile};
use super::{SecretRef, word};
use crate::config::fault::quote;
use crate::config::read::{
    At, Given, KeyKind, KeySchema, List, Names, Read, Reader, Reload, either, record, record_schema,
};
use crate::config::tree::{Kind, Node};
use crate::config::values::flag::Flag;
use crate::config::values::network::Network;
use crate::config::values::routes::{MemberText, Statuses, TemplateText};
use crate::config::values::{
    AppWord, ClientModeWord, Count, FilePath, PathWord, PoolRef, QueryName, RoomWord, Size, Time, TokenName,
};

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
        /// Certificates that clients must or may show (mutual TLS).
        client_certificate: ClientCertificateFile, optional, inside;
        /// What the site does with some of its requests, in this order; those of `app` come after them.
        routes: List<RouteFile>, optional, inside;
        /// Changes of every request's headers towards its node.
        request_headers: HeaderEditsFile, nested, inside;
        /// Changes of every answer's headers.
        response_headers: HeaderEditsFile, nested, inside;
        /// Largest body of a request: a size, or unlimited. A longer one gets 413.
        body: BodyFile, default(BodyFile::Max(Size(64 << 20))), live;
        /// Whether answers that are worth it are compressed (gzip, br, zstd). For files: a compressor gathers what should
        /// be sent at once, and secrets must not be compressed beside what a client chose.
        compress: Flag, default(Flag(false)), live;
        /// Own pages for errors, by status: of this edge and of nodes.
        error_pages: Names<Statuses, FilePath>, optional, live;
        /// Further nodes that are tried when a connect failed. What was sent is never sent again.
        retries: Count<0, 4>, default(Count(1)), live;
        /// Deadlines towards nodes.
        timeouts: SiteTimeoutsFile, nested, inside;
        /// Sizes of requests, and how many may come.
        limits: SiteLimitsFile, nested, inside;
        /// Only these networks may ask; others get 403.
        allow: List<Network>, optional, live;
        /// These networks get 403, also if they are allowed.
        deny: List<Network>, optional, live;
        /// Requests whose room is named by a token (`jwt`) must have one that is signed with this secret (HS256) and has not
        /// expired; others get 401. At least 32 bytes.
        verify_tokens: SecretRef, optional, live;
        /// Whether its requests are in the access log, if there is one.
        access_log: Flag, default(Flag(true)), live;
    }
}

record! {
    /// Certificates that clients must or may show.
    ClientCertificateFile {
        /// PEM certificates of the authorities whose clients are let in.
        ca: FilePath, required, live;
        /// required: a client without one is refused. optional: it comes without a subject.
        mode: ClientModeWord, default(ClientModeWord::Required), live;
        /// Header in which nodes are told the subject (RFC 4514). What clients send in it is always dropped.
        header: TokenName, optional, live;
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
        /// A text with variables and groups of the route's expression, such as "session/{session}".
        text: TemplateText, optional, live;
        /// A claim of the token in `Authorization: Bearer` or in the query parameter `access_token`, such as "video.room".
        /// It decides about the place and nothing else, and is verified only where the site says `verify_tokens`.
        jwt: MemberText, optional, live;
    }
}

record! {
    /// Deadlines towards nodes.
    SiteTimeoutsFile {
        /// TCP connect and TLS handshake with a node.
        connect: Time<50, 600>, default(Time::secs(3)), live;
        /// From the end of a request to the head of its response, and between two reads of a body.
        response: Time<100, 86_400>, default(Time::secs(90)), live;
        /// A WebSocket without a byte in either direction is closed after this.
        tunnel_idle: Time<1000, 604_800>, default(Time::secs(3600)), live;
        /// A client that was silent for this long is sent a WebSocket ping, and closed when it is silent for as long
        /// again. Without it: no pings.
        tunnel_ping: Time<1000, 86_400>, optional, live;
    }
}

record! {
    /// Sizes of requests, and how many may come. Rates are off unless they are set.
    SiteLimitsFile {
        /// Largest request head; a longer one gets 431. The listener's limit comes first.
        head: Size<1024, 1_048_576>, default(Size(32 << 10)), live;
        /// How many requests may come.
        requests: RequestRatesFile, nested, inside;
        /// How many rooms may open.
        new_rooms: NewRoomRatesFile, nested, inside;
        /// How many WebSockets may be open.
        connections: RoomConnectionsFile, nested, inside;
        /// Networks to which these rates and numbers do not apply.
        exempt: List<Network>, optional, live;
        /// true: what is beyond them is counted and let through.
        dry_run: Flag, default(Flag(false)), live;
    }
}

/// `open` or a token.
#[derive(Clone, Debug)]
pub(in crate::config) enum AuthFile {
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
pub(in crate::config) enum RoomRuleFile {
    Word(RoomWord),
    Map(Box<RoomRuleMap>),
}

impl Read for RoomRuleFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if let Some(text) = word(node) {
            if let Some(word) = RoomWord::find(text) {
                return Some(Self::Word(word));
            }
            let message = format!("{}: {} is not a rule", reader.path(), quote(text));
            reader.fault(node.at, message, RULE_CURE);
            return None;
        }
        let rule = RoomRuleMap::read(node, reader)?;
        let RoomRuleMap { query, path, header, cookie, text, jwt } = &rule;
        let keys = [
            query.is_missing(),
            path.is_missing(),
            header.is_missing(),
            cookie.is_missing(),
            text.is_missing(),
            jwt.is_missing(),
        ];
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

fn one_key(schema: Schema) -> Schema {
    json_schema!({ "allOf": [schema], "minProperties": 1, "maxProperties": 1 })
}

const RULE_CURE: &str =
    "`{ query: NAME }`, `{ path: last }`, `{ header: NAME }`, `{ cookie: NAME }`, `jitsi` or `conference`";

either!(AuthFile, |g| [json_schema!({ "const": "open" }), g.subschema_for::<AuthToken>()]);

either!(RoomRuleFile, |g| [g.subschema_for::<RoomWord>(), one_key(g.subschema_for::<RoomRuleMap>())]);
