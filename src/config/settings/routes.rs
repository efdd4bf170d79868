//! Routes: what a site does with a request. They are asked in their order, and the first that matches decides.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode};
use regex::Regex;

use super::{CacheRule, Name, RequestLimits, RoomRule, SiteTimeouts, Template};

/// One route of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// Its name: the file's, the preset's, or its number in the site. Unique in the site; shown in logs.
    pub name: Name,
    /// Which requests it takes.
    pub when: When,
    /// What it does with them.
    pub action: Action,
    /// How its requests name their room, first hit wins; empty: they have none.
    pub room: Vec<RoomRule>,
    /// What its requests do for the place of their room.
    pub place: Place,
    /// What a room that gets a place now would like.
    pub prefer: Option<Prefer>,
    /// Path and query towards the node; `None`: as they came.
    pub rewrite: Option<Template>,
    /// Path and query towards a node that has the service by name, instead of `rewrite`. A node that is a URL has
    /// something behind it that knows the paths as they came.
    pub service_rewrite: Option<Template>,
    /// Changes of the request's headers towards the node, the site's first.
    pub request_headers: HeaderEdits,
    /// Changes of the answer's headers, the site's first. Our own answers have them too.
    pub response_headers: HeaderEdits,
    /// Deadlines towards nodes.
    pub timeouts: SiteTimeouts,
    /// Largest body of a request; a longer one gets 413. `None`: any.
    pub body_bytes_max: Option<u64>,
    /// Whether answers that are worth it are compressed.
    pub compress: bool,
    /// Whether answers of nodes are kept, and for how long where they say nothing; `None`: not. The requests of such a route
    /// name no room.
    pub cache: Option<CacheRule>,
    /// Own pages in place of the bodies of answers that are errors, by status.
    pub error_pages: Arc<BTreeMap<u16, ErrorPage>>,
    /// Further nodes that are tried when a connect failed; what was sent is never sent again. Default 1.
    pub retries: u8,
    /// Which pages of other origins may read its answers; `None`: the node says.
    pub cors: Option<Cors>,
    /// Limits of its requests, beside those of the site. Rates only.
    pub limits: RequestLimits,
    /// Members of the JSON object of an answer that are put in place of what the node says.
    pub set_json: Vec<(Name, Template)>,
    /// A name that the node gives in its answer, and that later requests go by.
    pub learn: Option<Learn>,
}

/// Which pages of other origins may read answers (Fetch section 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Their origins; `None`: any, without credentials.
    pub origins: Option<Vec<Name>>,
    /// Methods that they may use.
    pub methods: Vec<Method>,
    /// Headers that they may send.
    pub headers: Vec<Name>,
    /// Headers that they may read.
    pub expose: Vec<Name>,
    /// Whether they may come with credentials.
    pub credentials: bool,
    /// How long the answer to a preflight may be remembered.
    pub max_age: Duration,
}

/// A room that an answer names: it gets its place at the node that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learn {
    /// Where the name is in the JSON of the answer: a string or a whole number.
    pub json: MemberPath,
    /// What stands before it in the name of the room.
    pub before: Name,
}

/// Names of members of nested JSON objects, outermost first: `data.id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberPath(Name);

impl MemberPath {
    /// Takes 1 to 8 names with dots between them; `None` if it is anything else.
    pub fn new(text: &str) -> Option<Self> {
        let names = text.split('.');
        let legal =
            text.len() <= 128 && names.clone().count() <= 8 && names.into_iter().all(|name| !name.is_empty());
        (legal && !text.chars().any(char::is_control)).then(|| Self(Name::from(text)))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Finds a string or a whole number in a JSON text; `None`: there is none, or the text is no JSON.
    pub fn find(&self, json: &[u8]) -> Option<String> {
        let whole: serde_json::Value = serde_json::from_slice(json).ok()?;
        let found = self.0.split('.').try_fold(&whole, |value, name| value.get(name))?;
        match found {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => number.as_u64().map(|number| number.to_string()),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => None,
        }
    }
}

/// Which requests a route takes: all that it says must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// The path, decoded once and without dot segments and double slashes.
    pub path: PathMatch,
    /// One of these methods; empty: any.
    pub methods: Vec<Method>,
    /// A query parameter is there.
    pub query: Option<QueryMatch>,
    /// The request is a WebSocket handshake that offers this subprotocol (RFC 6455 section 11.3.4).
    pub subprotocol: Option<Name>,
}

/// A query parameter that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMatch {
    /// Its name.
    pub name: Name,
    /// Its value; `None`: any.
    pub value: Option<Name>,
}

/// Which paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathMatch {
    /// All.
    #[default]
    Any,
    /// This one.
    Exact(Name),
    /// Those that begin with this text.
    Prefix(Name),
    /// Those in which the pattern is found; `^` and `$` bind it.
    Regex(Pattern),
}

/// A regular expression, compared by its text.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern; matching takes time linear in the path, whatever the pattern.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(text: &str) -> Result<Self, String> {
        let built = regex::RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
        built.map(Self).map_err(|error| {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })
    }

    /// The pattern itself.
    pub fn regex(&self) -> &Regex {
        &self.0
    }

    /// Whether it has a group of this name.
    pub fn has_group(&self, name: &str) -> bool {
        self.0.capture_names().flatten().any(|group| group == name)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sends the request to a node.
    Proxy {
        /// The pool.
        pool: Name,
        /// The service of its nodes; `None`: their only or first one.
        service: Option<Name>,
        /// The name of the node, instead of a choice: one that the pool does not have is 404, and nothing is dialled.
        node: Option<Template>,
    },
    /// Answers with another place.
    Redirect {
        /// `Location`.
        to: Template,
        /// 301, 302, 303, 307 or 308.
        status: StatusCode,
    },
    /// Answers with a file.
    Files(FilesSettings),
    /// Answers with a fixed text.
    Respond {
        /// The status.
        status: StatusCode,
        /// The text; may be empty.
        body: Template,
        /// Its type.
        content_type: Name,
        /// The pool in whose name it answers: the room is touched or placed as by a request, and headers know its node.
        /// `None`: nobody is asked.
        as_node: Option<Name>,
    },
}

/// Files of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesSettings {
    /// The folder; nothing outside of it is ever read.
    pub folder: PathBuf,
    /// The file by its path in the folder; `None`: what the request's path has behind the route's `prefix`, or all of it.
    pub file: Option<Template>,
    /// What stands for a folder.
    pub index: Name,
    /// Server-side includes: the variables that pages may ask for. `None`: files are sent as they are.
    pub ssi: Option<Vec<(Name, Template)>>,
}

/// A page that says what went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its type.
    pub content_type: Name,
    /// The page, at most 256 KiB.
    pub body: Bytes,
}

/// What a request does for the place of its room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// The room gets a place if it has none, and is touched.
    #[default]
    Always,
    /// A room that has a place is found there; one that has none gets none.
    Known,
    /// The room is not asked for.
    Never,
}

/// What a room that gets a place would like. What no node is or runs, or what cannot serve, is passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefer {
    /// The node of the first of these names that is one.
    pub node: Vec<Template>,
    /// A node that runs this release.
    pub release: Option<Template>,
}

/// Changes of headers, in this order: remove, set, add, default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Taken away.
    pub remove: Vec<HeaderName>,
    /// Put in place of what is there. An empty value takes the header away.
    pub set: Vec<(HeaderName, Template)>,
    /// Put beside what is there.
    pub add: Vec<(HeaderName, Template)>,
    /// Put where nothing is.
    pub default: Vec<(HeaderName, Template)>,
}

impl HeaderEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        let Self { remove, set, add, default } = self;
        remove.is_empty() && set.is_empty() && add.is_empty() && default.is_empty()
    }
}

/// Largest compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;
