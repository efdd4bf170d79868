//! Sites as YAML.

use std::path::Path;

use serde_yaml::Value;

use super::limits::{put_networks, put_request_limits};
use super::routes::{body, put_edits, put_error_pages, route};
use super::{Map, show_path};
use crate::config::settings::{
    App, Auth, ClientCertificateMode, HeaderEdits, PathRule, RoomRule, RouteSettings, SiteSettings,
};
use crate::config::values::{show_size, show_time};

pub(super) fn site(settings: &SiteSettings, base: &Path) -> Map {
    let SiteSettings {
        name: _,
        pool,
        app,
        routes,
        rest,
        head_bytes_max,
        client_certificate,
        limits,
        networks,
        token_secret,
        access_log,
    } = settings;
    let RouteSettings { room, timeouts, .. } = &**rest;
    let mut map = Map::default();
    match app {
        App::Nodes => map.put("pool", &**pool),
        App::Conference { auth } => {
            map.put("app", "conference");
            map.put("pool", &**pool);
            match auth {
                Auth::Open => map.put("auth", "open"),
                Auth::Jwt(secret) => map.put("auth", Map::default().with("jwt", secret.reference())),
            }
        }
    }
    map.put("room", Value::Sequence(room.iter().map(rule).collect()));
    put_edits(&mut map, "request_headers", &rest.request_headers, &HeaderEdits::default());
    put_edits(&mut map, "response_headers", &rest.response_headers, &HeaderEdits::default());
    map.put("body", body(rest.body_bytes_max));
    map.put("compress", rest.compress);
    put_error_pages(&mut map, rest.error_pages.iter().map(|(status, page)| (*status, page)), base);
    map.put("retries", u32::from(rest.retries));
    if let Some(client) = client_certificate {
        let mode = match client.mode {
            ClientCertificateMode::Required => "required",
            ClientCertificateMode::Optional => "optional",
        };
        let mut client_map = Map::default().with("ca", show_path(&client.ca, base)).with("mode", mode);
        if let Some(header) = &client.header {
            client_map.put("header", &**header);
        }
        map.put("client_certificate", client_map);
    }
    if !routes.is_empty() {
        let routes = routes.iter().map(|r| Value::from(route(r, settings, base)));
        map.put("routes", Value::Sequence(routes.collect()));
    }
    let mut map_of_timeouts = Map::default()
        .with("connect", show_time(timeouts.connect))
        .with("response", show_time(timeouts.response))
        .with("tunnel_idle", show_time(timeouts.tunnel_idle));
    if let Some(ping) = timeouts.tunnel_ping {
        map_of_timeouts.put("tunnel_ping", show_time(ping));
    }
    map.put("timeouts", map_of_timeouts);
    let mut all = Map::default().with("head", show_size(*head_bytes_max as u64));
    put_request_limits(&mut all, limits);
    map.put("limits", all);
    put_networks(&mut map, "allow", &networks.allow);
    put_networks(&mut map, "deny", &networks.deny);
    if let Some(secret) = token_secret {
        map.put("verify_tokens", secret.reference());
    }
    map.put("access_log", *access_log);
    map
}

pub(super) fn rule(rule: &RoomRule) -> Value {
    let one = |key, value: &str| Value::from(Map::default().with(key, value));
    match rule {
        RoomRule::Query(name) => one("query", name),
        RoomRule::Path(PathRule::Last) => one("path", "last"),
        RoomRule::Path(PathRule::First) => one("path", "first"),
        RoomRule::Header(name) => one("header", name),
        RoomRule::Cookie(name) => one("cookie", name),
        RoomRule::Text(text) => one("text", text.as_str()),
        RoomRule::Claim(members) => one("jwt", members.as_str()),
        RoomRule::Jitsi => "jitsi".into(),
        RoomRule::Conference => "conference".into(),
    }
}
