//! Which route of a site a request takes, and what the route's templates become.
//!
//! Pure. Paths are compared as a node will understand them: decoded once, without dot segments and double slashes. What
//! goes to the node is the path as it came, unless the route rewrites it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::Method;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::config::settings::{
    Action, Name, Part, PathMatch, QueryMatch, RouteSettings, SiteSettings, Template, Var, When,
};

/// A route that takes a request, with what its expression found.
#[derive(Clone, Debug)]
pub struct Matched {
    /// The route.
    pub route: Arc<RouteSettings>,
    /// Named groups of its expression, decoded.
    pub groups: Vec<(Name, String)>,
}

impl Matched {
    /// The pool that it sends to, or in whose name it answers.
    pub fn pool(&self) -> Option<&Name> {
        match &self.route.action {
            Action::Proxy { pool, .. } => Some(pool),
            Action::Respond { as_node, .. } => as_node.as_ref(),
            Action::Redirect { .. } | Action::Files(_) => None,
        }
    }
}

/// Cleans a path as it was sent: decodes it once, takes dot segments and empty segments out. `None`: it climbs above
/// its root, or holds a NUL.
pub fn clean_path(raw: &str) -> Option<Cow<'_, str>> {
    let decoded = if raw.contains('%') {
        match percent_decode_str(raw).decode_utf8() {
            Ok(decoded) => decoded,
            // No text: compared as it stands, so that no two paths run into one.
            Err(_) => Cow::Borrowed(raw),
        }
    } else {
        Cow::Borrowed(raw)
    };
    if decoded.contains('\0') {
        return None;
    }
    if !decoded.contains("//") && !decoded.contains("/.") {
        return Some(decoded);
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut folder = true;
    for segment in decoded.split('/').skip(1) {
        folder = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()?),
            other => segments.push(other),
        }
    }
    let mut clean = String::with_capacity(decoded.len());
    for segment in &segments {
        clean.push('/');
        clean.push_str(segment);
    }
    if folder {
        clean.push('/');
    }
    Some(Cow::Owned(clean))
}

/// Finds the route of a request: the first that matches, else what the site does with the rest. `path` is clean.
/// `subprotocols` is the header of a WebSocket handshake (RFC 6455 section 11.3.4); `None`: it is none, or has none.
pub fn find(
    site: &SiteSettings,
    method: &Method,
    path: &str,
    query: Option<&str>,
    subprotocols: Option<&str>,
) -> Matched {
    for route in &site.routes {
        let offered = |wanted: &Name| {
            let mut offers = subprotocols.unwrap_or_default().split(',').map(str::trim);
            offers.any(|offer| offer == &**wanted)
        };
        if !route.when.subprotocol.as_ref().is_none_or(offered) {
            continue;
        }
        if let Some(groups) = takes(&route.when, method, path, query) {
            return Matched { route: route.clone(), groups };
        }
    }
    Matched { route: site.rest.clone(), groups: Vec::new() }
}

/// Returns the named groups if all conditions hold.
fn takes(when: &When, method: &Method, path: &str, query: Option<&str>) -> Option<Vec<(Name, String)>> {
    if !when.methods.is_empty() && !when.methods.contains(method) {
        return None;
    }
    if let Some(test) = &when.query
        && !has_parameter(query, test)
    {
        return None;
    }
    match &when.path {
        PathMatch::Any => Some(Vec::new()),
        PathMatch::Exact(exact) => (path == &**exact).then(Vec::new),
        PathMatch::Prefix(prefix) => path.starts_with(&**prefix).then(Vec::new),
        PathMatch::Regex(pattern) => {
            let regex = pattern.regex();
            if regex.captures_len() == 1 {
                return regex.is_match(path).then(Vec::new);
            }
            let captures = regex.captures(path)?;
            let named = regex.capture_names().flatten();
            Some(named.filter_map(|n| Some((Name::from(n), captures.name(n)?.as_str().to_owned()))).collect())
        }
    }
}

fn has_parameter(query: Option<&str>, test: &QueryMatch) -> bool {
    let mut pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.any(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        key_is(key, &test.name) && test.value.as_ref().is_none_or(|expected| key_is(value, expected))
    })
}

/// What variables stand for.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    /// The host, without its port.
    pub host: &'a str,
    /// The host as it was sent, with its port.
    pub authority: &'a str,
    /// The path as it was sent.
    pub path: &'a str,
    /// The query as it was sent.
    pub query: &'a str,
    /// Whether the client came over TLS.
    pub tls: bool,
    /// The client.
    pub client: IpAddr,
    /// The room, if there is one.
    pub room: Option<&'a str>,
    /// The route.
    pub route: &'a str,
    /// The edge, if it has a name.
    pub edge: Option<&'a str>,
    /// The region of the edge.
    pub region: Option<&'a str>,
    /// The node, once it is known.
    pub node: Option<&'a str>,
    /// Its region.
    pub node_region: Option<Name>,
    /// Its release.
    pub node_release: Option<Name>,
    /// Named groups.
    pub groups: &'a [(Name, String)],
}

/// Where a template's text goes: what must not stand there is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goes {
    /// Into a path, a query or a `Location`.
    Target,
    /// Into a header.
    Header,
    /// Into a text, or the name of a node.
    Text,
    /// Into a page.
    Html,
}

impl Values<'_> {
    /// Puts the values in; `None` if a group or parameter that the template names is empty.
    pub fn expand_whole(&self, template: &Template) -> Option<String> {
        let empty = |part: &Part| match part {
            Part::Text(_) | Part::Var(_) => false,
            Part::Argument(name) => argument(self.query, name).is_empty(),
            Part::Group(name) => !self.groups.iter().any(|(group, text)| group == name && !text.is_empty()),
        };
        (!template.parts().iter().any(empty)).then(|| self.expand(template, Goes::Text))
    }

    /// Puts the values in.
    pub fn expand(&self, template: &Template, goes: Goes) -> String {
        template.expand(|part, out| {
            let (text, raw) = match part {
                Part::Text(text) => (text.as_str(), true),
                // As they were sent, and therefore legal where they go.
                Part::Var(Var::Path) => (self.path, true),
                Part::Var(Var::Query) => (self.query, true),
                Part::Var(Var::Host) => (self.host, true),
                Part::Var(Var::Scheme) => (if self.tls { "https" } else { "http" }, true),
                Part::Var(Var::WsScheme) => (if self.tls { "wss" } else { "ws" }, true),
                Part::Var(Var::Authority) => (self.authority, true),
                Part::Var(Var::Client) => return out.push_str(&self.client.to_string()),
                Part::Var(Var::Room) => (self.room.unwrap_or_default(), false),
                Part::Var(Var::RoomSuffix) => {
                    (self.room.and_then(|room| room.rsplit_once('_')).map_or("", |(_, suffix)| suffix), false)
                }
                Part::Var(Var::Region) => (self.region.unwrap_or_default(), true),
                Part::Var(Var::NodeRegion) => (self.node_region.as_deref().unwrap_or_default(), true),
                Part::Var(Var::NodeRelease) => (self.node_release.as_deref().unwrap_or_default(), true),
                Part::Argument(name) => {
                    let text = argument(self.query, name);
                    return push(out, &text, goes, false);
                }
                Part::Var(Var::Route) => (self.route, true),
                Part::Var(Var::Edge) => (self.edge.unwrap_or_default(), true),
                Part::Var(Var::Node) => (self.node.unwrap_or_default(), true),
                Part::Group(name) => {
                    let found = self.groups.iter().find(|(group, _)| group == name);
                    (found.map(|(_, text)| text.as_str()).unwrap_or_default(), false)
                }
            };
            push(out, text, goes, raw);
        })
    }
}

fn push(out: &mut String, text: &str, goes: Goes, raw: bool) {
    match goes {
        Goes::Target if !raw => out.extend(utf8_percent_encode(text, TARGET)),
        Goes::Header if !raw => out.extend(utf8_percent_encode(text, HEADER)),
        Goes::Target | Goes::Header | Goes::Text => out.push_str(text),
        Goes::Html => push_escaped(out, text),
    }
}

/// The first parameter of that name, decoded; bytes that are no text are left out.
fn argument(query: &str, name: &str) -> String {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(key, _)| key_is(key, name)).map(|(_, value)| value).next().unwrap_or_default();
    let value = value.replace('+', " ");
    percent_decode_str(&value).decode_utf8().map(Cow::into_owned).unwrap_or_default()
}

fn key_is(raw: &str, name: &str) -> bool {
    percent_decode_str(raw).decode_utf8().is_ok_and(|key| key == name)
}

fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
}

/// What a name may not bring into a header. What is not ASCII is encoded in any case.
const HEADER: &AsciiSet = &CONTROLS.add(b'%');

/// What a group may not bring into a path or a query: it stays one value.
const TARGET: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_cleaned_as_nodes_read_them() {
        for (raw, expected) in [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a/", Some("/a/")),
            ("//a///b", Some("/a/b")),
            ("/a/./b", Some("/a/b")),
            ("/a/../b", Some("/b")),
            ("/a/..", Some("/")),
            ("/a/b/.", Some("/a/b/")),
            ("/%61dmin", Some("/admin")),
            ("/a/%2e%2e/b", Some("/b")),
            ("/a%2Fb", Some("/a/b")),
            ("/..", None),
            ("/a/../../b", None),
            ("/%2e%2e/b", None),
            ("/a%00b", None),
            ("/.well-known/x", Some("/.well-known/x")),
            ("/%ff", Some("/%ff")),
            ("/caf%C3%A9", Some("/café")),
            ("*", Some("*")),
        ] {
            assert_eq!(clean_path(raw).as_deref(), expected, "{raw}");
        }
    }

    fn site(routes: &str) -> Arc<SiteSettings> {
        let text = format!(
            "version: 1\nlisteners: {{ http: {{ bind: [\"127.0.0.1:0\"] }} }}\n\
             sites: {{ s: {{ pool: p, routes: [{routes}] }} }}\n\
             pools: {{ p: {{ nodes: {{ n: \"http://127.0.0.1:1\" }} }} }}\n"
        );
        let loaded = crate::config::load_str("f.yaml", &text, std::path::Path::new(""), None);
        loaded.unwrap_or_else(|faults| panic!("{faults}")).settings.sites.find("s").unwrap().clone()
    }

    #[test]
    fn the_first_route_that_matches_decides() {
        let site = site(
            "{ name: exact, path: /a }, { name: post, prefix: /a, methods: [POST] }, \
             { name: query, prefix: /a, query: xy }, { name: value, prefix: /a, query: v=1 }, { name: prefix, prefix: /a/ }, \
             { name: regex, regex: '^/(?:(?P<tenant>[^/]+)/)?bind$' }",
        );
        for (method, path, query, expected) in [
            ("GET", "/a", None, "exact"),
            ("POST", "/a", None, "exact"),
            ("POST", "/ab", None, "post"),
            ("GET", "/ab", Some("b=1&x%79"), "query"),
            ("GET", "/ab", Some("b=xy"), "rest"),
            ("GET", "/ab", Some("v=2&v=%31"), "value"),
            ("GET", "/ab", Some("v=2"), "rest"),
            ("GET", "/a/b", None, "prefix"),
            ("GET", "/bind", None, "regex"),
            ("GET", "/t/bind", None, "regex"),
            ("GET", "/t/u/bind", None, "rest"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(
                &*find(&site, &method, path, query, None).route.name,
                expected,
                "{method} {path} {query:?}"
            );
        }
        let matched = find(&site, &Method::GET, "/t/bind", None, None);
        assert_eq!(matched.groups, [("tenant".into(), "t".to_owned())]);
        assert_eq!(find(&site, &Method::GET, "/bind", None, None).groups, []);
    }

    #[test]
    fn values_are_encoded_for_where_they_go() {
        let groups = [(Name::from("tenant"), "a b&c/<é>".to_owned())];
        let values = Values {
            host: "meet.example",
            authority: "meet.example:8443",
            path: "/x%20y",
            query: "a=1&%62=x+%26&a=2",
            tls: true,
            client: "192.0.2.1".parse().unwrap(),
            room: Some("r\r\nx_s1"),
            route: "r",
            edge: None,
            region: Some("eu"),
            node: Some("s1"),
            node_region: None,
            node_release: Some("7".into()),
            groups: &groups,
        };
        for (template, goes, expected) in [
            ("/b?p={tenant}&{query}", Goes::Target, "/b?p=a%20b%26c/%3C%C3%A9%3E&a=1&%62=x+%26&a=2"),
            ("{scheme}://{host}{path}", Goes::Target, "https://meet.example/x%20y"),
            ("{room} {node}{edge}", Goes::Header, "r%0D%0Ax_s1 s1"),
            ("{room_suffix},{region},{node_region},{node_release}", Goes::Text, "s1,eu,,7"),
            ("{arg_a},{arg_b},{arg_c}", Goes::Target, "1,x%20%26,"),
            ("{client} {route}", Goes::Header, "192.0.2.1 r"),
            (
                "{ws_scheme}://{authority}/ws?g={tenant}",
                Goes::Target,
                "wss://meet.example:8443/ws?g=a%20b%26c/%3C%C3%A9%3E",
            ),
            ("{tenant}{missing}", Goes::Text, "a b&c/<é>"),
            ("<p>{tenant}", Goes::Html, "<p>a b&amp;c/&lt;é&gt;"),
        ] {
            assert_eq!(values.expand(&Template::parse(template).unwrap(), goes), expected, "{template}");
        }
    }

    proptest! {
        #[test]
        fn a_clean_path_stays_clean(raw in "/(\\.|/|%2e|%2f|[a-c]){0,24}") {
            if let Some(clean) = clean_path(&raw) {
                prop_assert!(clean.starts_with('/') && !clean.contains("//"), "{}", clean);
                prop_assert!(!clean.split('/').any(|s| s == "." || s == ".."), "{}", clean);
                if !clean.contains('%') {
                    let again = clean_path(&clean).map(Cow::into_owned);
                    prop_assert_eq!(again.as_deref(), Some(&*clean));
                }
            }
        }
    }
}
