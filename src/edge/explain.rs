//! Says what would become of a request, and why: for an operator at night, and as JSON.
//!
//! It asks the same functions as the request's own way does, and changes nothing: no room gets a place, nothing is
//! dialled, no name is looked up.

use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use http::{HeaderName, HeaderValue, Method};
use percent_encoding::percent_decode_str;
use pingora::http::{RequestHeader, ResponseHeader};
use serde::Serialize;
use url::Url;

use super::admit::wish_of;
use super::cache;
use super::headers::{self, Origin};
use super::route::{self, Goes, Matched, Values};
use super::token;
use crate::clock;
use crate::config::settings::{
    Action, App, CacheRule, PathMatch, PathRule, Place, RoomRule, RoomTableSettings, RouteSettings, Settings,
    SiteSettings, Template,
};
use crate::pool::{Node, Pools};
use crate::rooms::{RequestView, RoomId, Rooms, as_sent, room_of};
use crate::telemetry::metrics::Metrics;
use crate::wire::http_head::host_name;

/// A request that somebody wonders about.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where it goes.
    pub url: Url,
    /// How.
    pub method: Method,
    /// Headers that it has beside `Host`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Who asks.
    pub client: IpAddr,
}

/// What is known of the nodes and rooms.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// A file and nothing else: all nodes are taken to be well.
    File,
    /// A running process.
    Running {
        /// Its nodes.
        pools: &'a Pools,
        /// Its rooms.
        rooms: &'a Rooms,
    },
}

/// What would become of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Method and URL.
    pub request: String,
    /// The site that it belongs to.
    pub site: Option<String>,
    /// The route that takes it.
    pub route: Option<RouteExplained>,
    /// The room that it names.
    pub room: Option<RoomExplained>,
    /// Where that room is.
    pub placement: Option<String>,
    /// The node that gets it.
    pub node: Option<NodeExplained>,
    /// What becomes of it, in a sentence.
    pub outcome: String,
    /// Path and query that the node gets.
    pub node_target: Option<String>,
    /// Headers that are set, changed or added towards the node.
    pub request_headers: Vec<(String, String)>,
    /// Headers that are taken away from what the client sent.
    pub dropped_headers: Vec<String>,
    /// Whether the answer may come from the cache, and be kept in it.
    pub cache: Option<String>,
    /// Headers that an answer without any would get.
    pub response_headers: Vec<(String, String)>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteExplained {
    /// Its name.
    pub name: String,
    /// What it takes.
    pub when: String,
    /// What its expression found.
    pub groups: Vec<(String, String)>,
}

/// A room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomExplained {
    /// The rule that found it.
    pub rule: String,
    /// Its name in each step, from what was sent to the key.
    pub steps: Vec<(String, String)>,
    /// The key: what all spellings meet in.
    pub key: String,
    /// The site whose room it is.
    pub scope: String,
    /// The pool that it lives in.
    pub pool: String,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeExplained {
    /// Its pool and name.
    pub name: String,
    /// The service that is asked.
    pub service: String,
    /// Host and port.
    pub address: String,
    /// Its region and release, as far as the file says them.
    pub labels: Vec<(String, String)>,
}

/// Explains one request.
///
/// # Errors
/// The URL has no host.
pub fn explain(
    settings: &Settings,
    known: Known<'_>,
    question: &Question,
    now: Instant,
) -> Result<Explained, String> {
    let url = &question.url;
    let authority = match (url.host_str(), url.port()) {
        (None, _) => return Err(format!("{url}: no host; write https://HOST/PATH")),
        (Some(host), None) => host.to_owned(),
        (Some(host), Some(port)) => format!("{host}:{port}"),
    };
    let mut said = Explained { request: format!("{} {url}", question.method), ..Explained::default() };
    let host = host_name(authority.as_bytes()).map(|host| host.to_string()).unwrap_or_default();
    let Some(site) = settings.sites.find(&host) else {
        said.outcome = format!("421: no site has the name {host}");
        return Ok(said);
    };
    said.site = Some(site.name.to_string());
    let Some(path) = route::clean_path(url.path()) else {
        said.outcome = "400: the path leaves its root".to_owned();
        return Ok(said);
    };
    let offered = question.headers.iter().find(|(name, _)| *name == http::header::SEC_WEBSOCKET_PROTOCOL);
    let offered = offered.and_then(|(_, value)| value.to_str().ok());
    let matched = route::find(site, &question.method, &path, url.query(), offered);
    said.route = Some(route_explained(site, &matched));
    let about = About { settings, site, question, authority: &authority, host: &host, matched: &matched };
    about.rest(&mut said, known, now);
    Ok(said)
}

struct About<'a> {
    settings: &'a Settings,
    site: &'a SiteSettings,
    question: &'a Question,
    authority: &'a str,
    host: &'a str,
    matched: &'a Matched,
}

impl About<'_> {
    fn rest(&self, said: &mut Explained, known: Known<'_>, now: Instant) {
        let route = &*self.matched.route;
        let room = match self.room(said) {
            Ok(room) => room,
            Err(refused) => {
                said.outcome = refused;
                return;
            }
        };
        if let Some(fault) = self.token_fault() {
            said.outcome = format!("401: {fault}");
            return;
        }
        let conference =
            matches!(self.site.app, App::Conference { .. }) && std::ptr::eq(route, &*self.site.rest);
        // A file's nodes, or a running process's, with a table that nobody else sees.
        let metrics = Metrics::new();
        let made = Pools::new(metrics.pool.clone());
        let pools = match known {
            Known::Running { pools, .. } => pools,
            Known::File => {
                made.apply(&self.settings.pools);
                made.all().iter().flat_map(|pool| &pool.nodes).for_each(|node| node.take_as_well(now));
                &made
            }
        };
        let mut node = None;
        if let Some(pool) = self.matched.pool().and_then(|name| pools.get(name)) {
            let values = self.values(room.as_ref(), None);
            let wish =
                route.prefer.as_ref().map(|prefer| wish_of(&pool, prefer, &values)).unwrap_or_default();
            if let Action::Proxy { node: Some(template), .. } = &route.action {
                let name = values.expand(template, Goes::Text);
                node = pool.node(&name).cloned();
                if node.is_none() {
                    said.outcome = format!("404: pool {} has no node {name}; nothing is dialled", pool.name);
                    return;
                }
                said.placement = Some(format!("the route names the node {name}"));
            } else if let Some(room) = &room {
                let lives = match known {
                    Known::Running { rooms, .. } => rooms.find(room, None),
                    Known::File => None,
                };
                if let Some(lives) = lives {
                    said.placement = Some(format!("the room lives on {}", lives.name));
                    node = Some(lives);
                } else if route.place == Place::Always {
                    let table = RoomTableSettings { rooms_max: 1 };
                    let scratch = Rooms::new(pools.clone(), &table, metrics.rooms.clone());
                    node = scratch.place_as(room, &wish, now).ok();
                    said.placement = node.as_ref().map(|node| {
                        let wished = wish.node.as_ref() == Some(&node.name);
                        let why = if wished {
                            "as the route prefers it"
                        } else {
                            "by rendezvous over the nodes that can serve"
                        };
                        format!("the room has no place; it would get {}, {why}", node.name)
                    });
                } else {
                    said.placement = Some(
                        "the room has no place, and this route gives it none: the least busy node".to_owned(),
                    );
                }
            }
        }
        said.outcome = self.outcome(conference, node.as_deref(), room.as_ref());
        said.cache = route.cache.as_ref().map(|rule| self.kept(rule));
        if matches!(route.action, Action::Proxy { .. }) && !conference {
            self.towards_node(said, node.as_deref(), room.as_ref());
        }
        let mut response = match ResponseHeader::build(200, None) {
            Ok(response) => response,
            Err(_) => return,
        };
        headers::edit(&mut response, &route.response_headers, &self.values(room.as_ref(), node.as_deref()));
        said.response_headers = lines(response.case_header_iter().map(|(n, v)| (n.as_slice(), v.as_bytes())));
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.question.headers.iter().find(|(n, _)| n.as_str() == name)?;
        found.1.to_str().ok()
    }

    /// Says what is wrong with the token, where tokens are verified.
    fn token_fault(&self) -> Option<&'static str> {
        let secret = self.site.token_secret.as_ref()?;
        let (url, header) = (&self.question.url, |name: &str| self.header(name));
        let view = RequestView { path: url.path(), query: url.query(), header: &header, text: &|_| None };
        token::fault(secret, &self.matched.route, &self.question.method, &view, clock::wall())
    }

    /// Finds the room; an error is the refusal that the client gets.
    fn room(&self, said: &mut Explained) -> Result<Option<RoomId>, String> {
        let route = &*self.matched.route;
        let Some(pool) = self.matched.pool().filter(|_| route.place != Place::Never) else { return Ok(None) };
        let header = |name: &str| self.header(name);
        let url = &self.question.url;
        let values = self.values(None, None);
        let text = |template: &Template| values.expand_whole(template);
        let view = RequestView { path: url.path(), query: url.query(), header: &header, text: &text };
        for rule in &route.room {
            let key = room_of(std::slice::from_ref(rule), &view).map_err(|error| format!("400: {error}"))?;
            let Some(key) = key else { continue };
            let mut steps = Vec::new();
            if let Some(sent) = as_sent(rule, &view) {
                let once = percent_decode_str(&sent).decode_utf8_lossy().into_owned();
                let twice = percent_decode_str(&once).decode_utf8_lossy().into_owned();
                steps.push(("as sent".to_owned(), sent));
                steps.push(("decoded".to_owned(), once.clone()));
                if twice != once {
                    steps.push(("decoded again".to_owned(), twice));
                }
            }
            steps.push(("NFKC, lower case, below its tenant".to_owned(), key.to_string()));
            let id = RoomId { pool: pool.clone(), scope: self.site.name.clone(), key };
            said.room = Some(RoomExplained {
                rule: rule_text(rule, self.site.token_secret.is_some()),
                steps,
                key: id.key.to_string(),
                scope: id.scope.to_string(),
                pool: id.pool.to_string(),
            });
            return Ok(Some(id));
        }
        Ok(None)
    }

    fn values<'v>(&'v self, room: Option<&'v RoomId>, node: Option<&'v Node>) -> Values<'v> {
        Values {
            host: self.host,
            authority: self.authority,
            path: self.question.url.path(),
            query: self.question.url.query().unwrap_or_default(),
            tls: self.question.url.scheme() != "http",
            client: self.question.client,
            room: room.map(|room| room.key.as_str()),
            route: &self.matched.route.name,
            edge: self.settings.edge.name.as_deref(),
            region: self.settings.edge.region.as_deref(),
            node: node.map(|node| &*node.name),
            node_region: node.and_then(Node::region),
            node_release: node.and_then(Node::release),
            groups: &self.matched.groups,
        }
    }

    fn outcome(&self, conference: bool, node: Option<&Node>, room: Option<&RoomId>) -> String {
        let values = self.values(room, node);
        match &self.matched.route.action {
            Action::Redirect { to, status } => format!("{status}: {}", values.expand(to, Goes::Target)),
            Action::Files(files) => format!("answered with a file of {}", files.folder.display()),
            Action::Respond { status, as_node: None, .. } => format!("{status}: a fixed answer of this edge"),
            Action::Respond { status, as_node: Some(pool), .. } => {
                format!("{status}: answered by this edge in the name of the room's node in {pool}")
            }
            Action::Proxy { .. } if conference => "answered by the embedded conference".to_owned(),
            Action::Proxy { pool, .. } => match node {
                Some(node) => format!("sent to {} of pool {pool}", node.name),
                None if room.is_some() && self.matched.route.place == Place::Always => {
                    format!("503: no node of pool {pool} can serve")
                }
                None => format!("sent to the node of pool {pool} with the fewest open requests"),
            },
        }
    }

    /// Whether and how long the answer is kept.
    fn kept(&self, rule: &CacheRule) -> String {
        let headers = self.question.headers.iter().cloned().collect();
        if cache::passes_by(&self.question.method, &headers) {
            return "not for this request".to_owned();
        }
        let CacheRule { fresh_for, fresh_max, stale, stale_if_error } = rule;
        let mut text = "answered from it if it can be, and kept for as long as the answer says".to_owned();
        text.push_str(&match fresh_for {
            Some(time) => format!("; for {} s where it says nothing", time.as_secs()),
            None => "; not where it says nothing".to_owned(),
        });
        if let Some(most) = fresh_max {
            text.push_str(&format!("; {} s at most", most.as_secs()));
        }
        for (time, when) in
            [(stale, "while the node is asked anew"), (stale_if_error, "when no node can serve")]
        {
            if !time.is_zero() {
                text.push_str(&format!("; {} s longer {when}", time.as_secs()));
            }
        }
        text
    }

    /// Target and headers that the node gets, and what of the client's is not passed on.
    fn towards_node(&self, said: &mut Explained, node: Option<&Node>, room: Option<&RoomId>) {
        let route = &*self.matched.route;
        let service = match &route.action {
            Action::Proxy { service, .. } => service.as_deref(),
            Action::Redirect { .. } | Action::Respond { .. } | Action::Files(_) => None,
        };
        if let Some(node) = node {
            let mut labels = Vec::new();
            labels.extend(node.region().map(|region| ("region".to_owned(), region.to_string())));
            labels.extend(node.release().map(|release| ("release".to_owned(), release.to_string())));
            said.node = Some(NodeExplained {
                name: format!("{}/{}", node.pool, node.name),
                service: service.unwrap_or("web").to_owned(),
                address: match node.target.service(service) {
                    Ok((host, service)) => format!("{host}:{}", service.port),
                    Err(reason) => reason.to_string(),
                },
                labels,
            });
        }
        let values = self.values(room, node);
        let by_name =
            service.is_some_and(|service| node.is_some_and(|node| node.target.has_service(service)));
        let rewrite = route.service_rewrite.as_ref().filter(|_| by_name).or(route.rewrite.as_ref());
        let url = &self.question.url;
        let sent = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let target = rewrite.map_or(sent, |rewrite| values.expand(rewrite, Goes::Target));
        let Ok(mut request) = RequestHeader::build(self.question.method.clone(), target.as_bytes(), None)
        else {
            said.outcome = format!("500: {target:?} is no path");
            return;
        };
        for (name, value) in &self.question.headers {
            let _ = request.append_header(name.clone(), value.clone());
        }
        let before: Vec<(String, String)> =
            lines(request.case_header_iter().map(|(n, v)| (n.as_slice(), v.as_bytes())));
        let origin = Origin {
            peer: (self.question.client, 0).into(),
            via: None,
            tls: url.scheme() != "http",
            host: self.authority.as_bytes(),
            id: "(one per request)",
        };
        if headers::rewrite(&mut request, &origin).is_err() {
            return;
        }
        headers::edit(&mut request, &route.request_headers, &values);
        let after: Vec<(String, String)> =
            lines(request.case_header_iter().map(|(n, v)| (n.as_slice(), v.as_bytes())));
        said.dropped_headers =
            before.iter().filter(|line| !after.contains(line)).map(|(name, _)| name.clone()).collect();
        said.request_headers = after.into_iter().filter(|line| !before.contains(line)).collect();
        said.node_target = Some(target);
    }
}

fn lines<'h>(headers: impl Iterator<Item = (&'h [u8], &'h [u8])>) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.map(|(name, value)| (text(name), text(value))).collect()
}

fn route_explained(site: &SiteSettings, matched: &Matched) -> RouteExplained {
    let RouteSettings { name, when, .. } = &*matched.route;
    let mut conditions = Vec::new();
    match &when.path {
        PathMatch::Any => {}
        PathMatch::Exact(path) => conditions.push(format!("path is {path}")),
        PathMatch::Prefix(prefix) => conditions.push(format!("path begins with {prefix}")),
        PathMatch::Regex(pattern) => conditions.push(format!("path matches {}", pattern.regex())),
    }
    if !when.methods.is_empty() {
        let methods: Vec<&str> = when.methods.iter().map(Method::as_str).collect();
        conditions.push(format!("method is {}", methods.join(" or ")));
    }
    if let Some(query) = &when.query {
        let value = query.value.as_ref().map(|value| format!("={value}")).unwrap_or_default();
        conditions.push(format!("query has {}{value}", query.name));
    }
    let when = match (conditions.is_empty(), std::ptr::eq(&*matched.route, &*site.rest)) {
        (true, true) => "what no route takes".to_owned(),
        (true, false) => "everything".to_owned(),
        (false, _) => conditions.join(", "),
    };
    let groups = matched.groups.iter().map(|(name, text)| (name.to_string(), text.clone())).collect();
    RouteExplained { name: name.to_string(), when, groups }
}

fn rule_text(rule: &RoomRule, verified: bool) -> String {
    match rule {
        RoomRule::Query(name) => format!("the query parameter {name}"),
        RoomRule::Path(PathRule::Last) => "the last part of the path".to_owned(),
        RoomRule::Path(PathRule::First) => "the first part of the path".to_owned(),
        RoomRule::Header(name) => format!("the header {name}"),
        RoomRule::Cookie(name) => format!("the cookie {name}"),
        RoomRule::Text(text) => format!("the text {}", text.as_str()),
        RoomRule::Claim(members) => {
            let verified = if verified { "verified here" } else { "not verified" };
            format!("the claim {} of the token, {verified}", members.as_str())
        }
        RoomRule::Jitsi => "jitsi: the query parameter room, else the last part of a page's path".to_owned(),
        RoomRule::Conference => "conference: /rooms/ROOM".to_owned(),
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, text: &str| writeln!(f, "{name:<12} {text}");
        line("request", &self.request)?;
        line("outcome", &self.outcome)?;
        if let Some(site) = &self.site {
            line("site", site)?;
        }
        if let Some(route) = &self.route {
            line("route", &format!("{}: {}", route.name, route.when))?;
            for (name, text) in &route.groups {
                line("", &format!("{{{name}}} is {text:?}"))?;
            }
        }
        if let Some(room) = &self.room {
            line("room", &format!("{} (site {}, pool {})", room.key, room.scope, room.pool))?;
            line("", &format!("found by {}", room.rule))?;
            for (step, text) in &room.steps {
                line("", &format!("{step}: {text}"))?;
            }
        } else if self.route.is_some() {
            line("room", "none")?;
        }
        if let Some(cache) = &self.cache {
            line("cache", cache)?;
        }
        if let Some(placement) = &self.placement {
            line("placement", placement)?;
        }
        if let Some(node) = &self.node {
            let labels: String = node.labels.iter().map(|(name, text)| format!(", {name} {text}")).collect();
            line("node", &format!("{}, service {} at {}{labels}", node.name, node.service, node.address))?;
        }
        if let Some(target) = &self.node_target {
            line("node gets", target)?;
        }
        for (name, value) in &self.request_headers {
            line("", &format!("{name}: {value}"))?;
        }
        for name in &self.dropped_headers {
            line("", &format!("without the client's {name}"))?;
        }
        for (i, (name, value)) in self.response_headers.iter().enumerate() {
            line(if i == 0 { "client gets" } else { "" }, &format!("{name}: {value}"))?;
        }
        Ok(())
    }
}
