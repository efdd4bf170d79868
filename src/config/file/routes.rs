//! Routes of a site, in their order.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::cache::RouteCacheFile;
use super::limits::RouteLimitsFile;
use super::sites::RoomRuleFile;
use super::word;
use crate::config::read::{
    At, Given, KeyKind, KeySchema, List, Names, Read, Reader, Reload, either, record, record_schema,
};
use crate::config::tree::Node;
use crate::config::values::flag::Flag;
use crate::config::values::routes::{
    BeforeText, ContentType, HeaderNames, MemberText, MethodName, OriginText, PatternText, QueryTest,
    RouteName, RoutePath, ServiceName, Statuses, TemplateText,
};
use crate::config::values::{Count, FilePath, Ident, PlaceWord, PoolRef, Size, Time, TokenName};

record! {
    /// What the site does with some of its requests. The first route that matches decides; after all of them comes the
    /// pool of the site.
    RouteFile {
        /// Its name, for logs and `explain`. The name of a preset's route changes that route: what is said here replaces
        /// what the preset says, and the place in the order stays.
        name: RouteName, optional, live;
        /// Takes this path. Paths are compared decoded, without dot segments and double slashes.
        path: RoutePath, optional, live;
        /// Takes paths that begin with this text.
        prefix: RoutePath, optional, live;
        /// Takes paths in which this regular expression is found. Its named groups can be used as {name}.
        regex: PatternText, optional, live;
        /// Takes only these methods.
        methods: List<MethodName>, optional, live;
        /// Takes only requests with this query parameter: NAME, or NAME=VALUE.
        query: QueryTest, optional, live;
        /// Takes only WebSocket handshakes that offer this subprotocol.
        subprotocol: TokenName, optional, live;
        /// Sends them to this pool instead of the site's.
        pool: PoolRef, optional, live;
        /// Sends them to this service of the nodes.
        service: ServiceName, optional, live;
        /// Sends them to the node of this name, such as "{shard}"; 404 if the pool has none of that name.
        node: TemplateText, optional, live;
        /// Answers with this place, such as "https://{host}{path}".
        redirect: TemplateText, optional, live;
        /// Status of the redirect: 301, 302, 303, 307 or 308.
        status: Count<301, 308>, default(Count(308)), live;
        /// Answers with files of a folder.
        files: FilesFile, optional, inside;
        /// Answers with a fixed text.
        respond: RespondFile, optional, inside;
        /// Path and query towards the node, such as "/http-bind?prefix={tenant}&{query}".
        rewrite: TemplateText, optional, live;
        /// The same towards nodes that have the service by name: one that is a URL gets the path as it came.
        service_rewrite: TemplateText, optional, live;
        /// How its requests name their room, instead of the site's rules. An empty list: they have none.
        room: List<RoomRuleFile>, optional, live;
        /// What its requests do for the place of their room: always (it gets one), known (only one that it has), never.
        place: PlaceWord, default(PlaceWord::Always), live;
        /// What a room that gets a place now would like; a room that has one stays where it is.
        prefer: PreferFile, optional, inside;
        /// Changes of the request's headers, behind those of the site.
        request_headers: HeaderEditsFile, nested, inside;
        /// Changes of the answer's headers, behind those of the site.
        response_headers: HeaderEditsFile, nested, inside;
        /// Deadlines instead of the site's.
        timeouts: RouteTimeoutsFile, nested, inside;
        /// Largest body of a request instead of the site's: a size, or unlimited.
        body: BodyFile, optional, live;
        /// Whether answers that are worth it are compressed, instead of the site's.
        compress: Flag, optional, live;
        /// Whether answers of nodes are kept and given to others: as they say themselves (true), and for how long where they
        /// say nothing. Not for requests that name a room.
        cache: RouteCacheFile, optional, live;
        /// Own pages for errors, by status, beside the site's.
        error_pages: Names<Statuses, FilePath>, optional, live;
        /// Further nodes that are tried when a connect failed, instead of the site's.
        retries: Count<0, 4>, optional, live;
        /// Members of the JSON object of an answer, put in place of what the node says.
        set_json: Names<Ident, TemplateText>, optional, live;
        /// Which pages of other origins may read its answers: the edge answers their preflights, and its headers stand in place
        /// of the node's.
        cors: CorsFile, optional, inside;
        /// How many of its requests may come.
        limits: RouteLimitsFile, nested, inside;
        /// The answer names a room, which gets its place at the node that answered: later requests are to go there.
        learn: LearnFile, optional, inside;
    }
}

record! {
    /// Which pages of other origins may read answers (CORS, as the Fetch standard has it).
    CorsFile {
        /// Their origins, or "*" for all.
        origins: List<OriginText>, required, live;
        /// Methods beside GET, HEAD and POST.
        methods: List<MethodName>, optional, live;
        /// Headers that they may send beside the harmless ones, such as Authorization.
        headers: List<TokenName>, optional, live;
        /// Headers of answers that they may read beside the harmless ones.
        expose: List<TokenName>, optional, live;
        /// Whether they may come with cookies and certificates; not with "*".
        credentials: Flag, default(Flag(false)), live;
        /// How long a browser may remember the answer to a preflight.
        max_age: Time<1000, 86_400>, default(Time::secs(600)), live;
    }
}

record! {
    /// Where an answer names a room. Only JSON answers of up to 64 KiB with status 200 are looked at.
    LearnFile {
        /// Members of the JSON object, outermost first, with dots: "data.id". A string or a whole number.
        json: MemberText, required, live;
        /// What stands before it in the name of the room, such as "session/".
        before: BeforeText, optional, live;
    }
}

record! {
    /// Files of a folder.
    FilesFile {
        /// The folder. Nothing outside of it is read, wherever links point; no name that begins with a dot is either.
        folder: FilePath, required, live;
        /// The file in it, such as "index.html". Without it: what the path has behind `prefix`, or the whole path.
        file: TemplateText, optional, live;
        /// What stands for a folder.
        index: FilePath, default(FilePath("index.html".into())), live;
        /// Server-side includes (`include virtual`, `echo var`) with these variables. One whose groups are all empty is
        /// empty.
        ssi: Names<Ident, TemplateText>, optional, live;
    }
}

record! {
    /// A fixed answer.
    RespondFile {
        /// The status.
        status: Count<200, 599>, default(Count(200)), live;
        /// The text.
        body: TemplateText, optional, live;
        /// Its type.
        content_type: ContentType, default(ContentType("text/plain; charset=utf-8".into())), live;
        /// Answers in the name of the room's node in the site's pool: the room is touched, and headers know the node.
        as_node: Flag, default(Flag(false)), live;
    }
}

record! {
    /// What a room that gets a place would like. What no node is or runs, or what cannot serve, is passed over.
    PreferFile {
        /// The node of the first of these names that is one, such as "{room_suffix}".
        node: List<TemplateText>, optional, live;
        /// A node that runs this release, such as "{arg_release}".
        release: TemplateText, optional, live;
    }
}

record! {
    /// Changes of headers, in this order.
    HeaderEditsFile {
        /// Taken away.
        remove: List<TokenName>, optional, live;
        /// Put in place of what is there; an empty text takes it away.
        set: Names<HeaderNames, TemplateText>, optional, live;
        /// Put beside what is there.
        add: Names<HeaderNames, TemplateText>, optional, live;
        /// Put where nothing is.
        default: Names<HeaderNames, TemplateText>, optional, live;
    }
}

record! {
    /// Deadlines towards nodes, each instead of the site's.
    RouteTimeoutsFile {
        /// TCP connect to a node.
        connect: Time<50, 600>, optional, live;
        /// From the end of a request to the head of its response, and between two reads of a body.
        response: Time<100, 86_400>, optional, live;
        /// A WebSocket without a byte in either direction is closed after this.
        tunnel_idle: Time<1000, 604_800>, optional, live;
        /// A client that was silent for this long is sent a WebSocket ping, and closed when it is silent for as long
        /// again.
        tunnel_ping: Time<1000, 86_400>, optional, live;
    }
}

/// A size, or `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum BodyFile {
    Unlimited,
    Max(Size<0, { 1 << 40 }>),
}

impl Read for BodyFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if word(node) == Some("unlimited") {
            return Some(Self::Unlimited);
        }
        Size::read(node, reader).map(Self::Max)
    }
}

impl serde::Serialize for BodyFile {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unlimited => serializer.serialize_str("unlimited"),
            Self::Max(size) => size.serialize(serializer),
        }
    }
}

either!(BodyFile, |g| [json_schema!({ "const": "unlimited" }), g.subschema_for::<Size<0, { 1 << 40 }>>(),]);
