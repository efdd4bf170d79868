//! Routes as YAML. What the site says for all of them is not said again.

use std::path::Path;

use serde_yaml::Value;

use super::Map;
use super::limits::put_request_limits;
use super::sites::rule;
use crate::config::settings::{
    Action, Cors, ErrorPage, FilesSettings, HeaderEdits, Learn, Name, PathMatch, Place, QueryMatch,
    RouteSettings, SiteSettings, Template,
};
use crate::config::values::{show_size, show_time};

/// Writes one route of a site.
pub(super) fn route(settings: &RouteSettings, site: &SiteSettings, base: &Path) -> Map {
    let RouteSettings {
        name,
        when,
        action,
        room,
        place,
        prefer,
        rewrite,
        service_rewrite,
        request_headers,
        response_headers,
        timeouts,
        body_bytes_max,
        compress,
        cache,
        error_pages,
        retries,
        cors,
        limits,
        set_json,
        learn,
    } = settings;
    let rest = &site.rest;
    let mut map = Map::default().with("name", &**name);
    match &when.path {
        PathMatch::Any => {}
        PathMatch::Exact(path) => map.put("path", &**path),
        PathMatch::Prefix(path) => map.put("prefix", &**path),
        PathMatch::Regex(pattern) => map.put("regex", pattern.regex().as_str()),
    }
    if !when.methods.is_empty() {
        map.put("methods", super::list(when.methods.iter().map(ToString::to_string)));
    }
    if let Some(query) = &when.query {
        let QueryMatch { name, value } = query;
        map.put("query", value.as_ref().map_or_else(|| name.to_string(), |value| format!("{name}={value}")));
    }
    if let Some(subprotocol) = &when.subprotocol {
        map.put("subprotocol", &**subprotocol);
    }
    match action {
        Action::Proxy { pool, service, node } => {
            map.put("pool", &**pool);
            if let Some(service) = service {
                map.put("service", &**service);
            }
            if let Some(node) = node {
                map.put("node", node.as_str());
            }
        }
        Action::Redirect { to, status } => {
            map.put("redirect", to.as_str());
            map.put("status", u32::from(status.as_u16()));
        }
        Action::Files(FilesSettings { folder, file, index, ssi }) => {
            let mut files = Map::default().with("folder", super::show_path(folder, base));
            if let Some(file) = file {
                files.put("file", file.as_str());
            }
            files.put("index", &**index);
            if let Some(variables) = ssi {
                let mut ssi = Map::default();
                variables.iter().for_each(|(name, value)| ssi.put(name, value.as_str()));
                files.put("ssi", ssi);
            }
            map.put("files", files);
        }
        Action::Respond { status, body, content_type, as_node } => {
            let respond = Map::default()
                .with("status", u32::from(status.as_u16()))
                .with("body", body.as_str())
                .with("content_type", &**content_type)
                .with("as_node", as_node.is_some());
            map.put("respond", respond);
        }
    }
    if let Some(rewrite) = rewrite {
        map.put("rewrite", rewrite.as_str());
    }
    if let Some(rewrite) = service_rewrite {
        map.put("service_rewrite", rewrite.as_str());
    }
    if *room != rest.room {
        map.put("room", Value::Sequence(room.iter().map(rule).collect()));
    }
    let place = match place {
        Place::Always => "always",
        Place::Known => "known",
        Place::Never => "never",
    };
    map.put("place", place);
    if let Some(prefer) = prefer {
        let mut wishes = Map::default();
        if !prefer.node.is_empty() {
            wishes.put("node", super::list(prefer.node.iter().map(|name| name.as_str().to_owned())));
        }
        if let Some(release) = &prefer.release {
            wishes.put("release", release.as_str());
        }
        map.put("prefer", wishes);
    }
    put_edits(&mut map, "request_headers", request_headers, &rest.request_headers);
    put_edits(&mut map, "response_headers", response_headers, &rest.response_headers);
    let mut own = Map::default()
        .with("connect", show_time(timeouts.connect))
        .with("response", show_time(timeouts.response))
        .with("tunnel_idle", show_time(timeouts.tunnel_idle));
    if let Some(ping) = timeouts.tunnel_ping {
        own.put("tunnel_ping", show_time(ping));
    }
    map.put("timeouts", own);
    map.put("body", body(*body_bytes_max));
    map.put("compress", *compress);
    map.put("cache", super::cache::rule(cache.as_ref()));
    let own = error_pages.iter().filter(|(status, page)| rest.error_pages.get(status) != Some(page));
    put_error_pages(&mut map, own.map(|(status, page)| (*status, page)), base);
    map.put("retries", u32::from(*retries));
    if !limits.is_off() {
        let mut own = Map::default();
        put_request_limits(&mut own, limits);
        map.put("limits", own);
    }
    if let Some(Cors { origins, methods, headers, expose, credentials, max_age }) = cors {
        let words = |names: &[Name]| super::list(names.iter().map(|name| name.to_string()));
        let mut own = Map::default();
        own.put(
            "origins",
            origins.as_ref().map_or_else(|| super::list(["*".to_owned()].into_iter()), |names| words(names)),
        );
        own.put("methods", super::list(methods.iter().map(ToString::to_string)));
        for (key, names) in [("headers", headers), ("expose", expose)] {
            if !names.is_empty() {
                own.put(key, words(names));
            }
        }
        own.put("credentials", *credentials);
        own.put("max_age", show_time(*max_age));
        map.put("cors", own);
    }
    if !set_json.is_empty() {
        let mut members = Map::default();
        set_json.iter().for_each(|(name, value)| members.put(name, value.as_str()));
        map.put("set_json", members);
    }
    if let Some(Learn { json, before }) = learn {
        let mut from = Map::default().with("json", json.as_str());
        if !before.is_empty() {
            from.put("before", &**before);
        }
        map.put("learn", from);
    }
    map
}

/// Writes own pages for errors, if there are any.
pub(super) fn put_error_pages<'p>(
    map: &mut Map,
    pages: impl Iterator<Item = (u16, &'p ErrorPage)>,
    base: &Path,
) {
    let mut own = Map::default();
    pages.for_each(|(status, page)| own.put(&status.to_string(), super::show_path(&page.path, base)));
    if !own.0.is_empty() {
        map.put("error_pages", own);
    }
}

pub(super) fn body(max: Option<u64>) -> String {
    max.map_or_else(|| "unlimited".to_owned(), show_size)
}

/// Writes changes of headers without the site's own, which come first.
pub(super) fn put_edits(map: &mut Map, key: &str, edits: &HeaderEdits, site: &HeaderEdits) {
    let HeaderEdits { remove, set, add, default } = edits;
    let mut own = Map::default();
    let removed = remove.get(site.remove.len()..).unwrap_or_default();
    if !removed.is_empty() {
        own.put("remove", super::list(removed.iter().map(ToString::to_string)));
    }
    for (word, values, before) in
        [("set", set, &site.set), ("add", add, &site.add), ("default", default, &site.default)]
    {
        let values: &[(http::HeaderName, Template)] = values.get(before.len()..).unwrap_or_default();
        if !values.is_empty() {
            let mut lines = Map::default();
            values.iter().for_each(|(name, value)| lines.put(name.as_str(), value.as_str()));
            own.put(word, lines);
        }
    }
    if !own.0.is_empty() {
        map.put(key, own);
    }
}
