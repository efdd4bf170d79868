//! The whole configuration as YAML, every default written out and every secret as its reference.
//!
//! Pure. Byte-stable: the same settings always give the same text, and loading the text from the same folder gives the
//! same settings.

mod access_log;
mod cache;
mod limits;
mod listeners;
mod pools;
mod routes;
mod sites;

use std::net::IpAddr;
use std::path::Path;

use serde_yaml::{Mapping, Value};

use super::file::File;
use super::settings::{AdminSettings, Advertise, MediaSettings, Settings, StoreSettings};
use super::values::network::show_network;
use super::values::{show_bind, show_time};
use access_log::access_log;
use limits::{bans, limits};
use listeners::listener;
use pools::pool;
use sites::site;

/// Writes the settings of one edge, and `edges` as the file has them. `base` is the folder that paths are relative to.
pub(super) fn render(settings: &Settings, file: &File, base: &Path) -> String {
    let Settings {
        edge: _,
        listeners,
        media,
        sites,
        pools,
        trusted,
        store,
        admin,
        limits: edge_limits,
        bans: rules,
        access_log: log,
        cache: kept,
        rooms,
        shutdown,
    } = settings;
    let mut root = Map::default();
    root.put("version", 1);
    if let Some(region) = file.region.get() {
        root.put("region", &*region.0);
    }
    if let Some(edges) = file.edges.get() {
        let mut edges: Vec<_> = edges.iter().collect();
        edges.sort_by_key(|(_, name, _)| (*name).clone());
        let mut map = Map::default();
        for (_, name, edge) in edges {
            let id = edge.value.id.get().map_or(0, |id| id.0);
            let mut edge_map = Map::default().with("id", id);
            if let Some(public) = edge.value.public.get() {
                edge_map.put("public", list(public.items.iter().map(|ip| ip.value.0.to_string())));
            }
            if let Some(region) = edge.value.region.get() {
                edge_map.put("region", &*region.0);
            }
            map.put(name, edge_map);
        }
        root.put("edges", map);
    }
    root.put("listeners", map_of(listeners.iter().map(|(name, l)| (&**name, listener(l, base)))));
    if let Some(settings) = media {
        root.put("media", media_map(settings));
    }
    root.put("sites", map_of(sites.iter().map(|s| (&*s.name, site(s, base)))));
    root.put("pools", map_of(pools.iter().map(|(name, p)| (&**name, pool(p, base)))));
    root.put("trusted", list(trusted.iter().map(show_network)));
    root.put(
        "store",
        match store {
            StoreSettings::Memory => "memory",
        },
    );
    root.put("admin", admin_map(admin));
    root.put("limits", limits(edge_limits));
    if !rules.is_empty() {
        root.put("bans", bans(rules));
    }
    if let Some(log) = log {
        root.put("access_log", access_log(log, base));
    }
    root.put("cache", cache::cache(kept));
    root.put("rooms", Map::default().with("max", rooms.rooms_max as u64));
    let shutdown = Map::default()
        .with("deadline", show_time(shutdown.deadline))
        .with("tunnels", show_time(shutdown.tunnels));
    root.put("shutdown", shutdown);
    // A map of texts and numbers always has a text.
    serde_yaml::to_string(&root.0).unwrap_or_default()
}

fn media_map(settings: &MediaSettings) -> Map {
    let MediaSettings { bind, advertise, key, sessions_max, selftest_every } = settings;
    let mut map = Map::default().with("bind", list(bind.iter().map(|a| show_bind(*a))));
    match advertise {
        Advertise::Auto => map.put("advertise", "auto"),
        Advertise::List(addresses) => {
            let port = bind.first().map_or(0, |first| first.port());
            let show = |ip: IpAddr, own: u16| {
                if own == port { ip.to_string() } else { std::net::SocketAddr::new(ip, own).to_string() }
            };
            map.put("advertise", list(addresses.iter().map(|a| show(a.ip(), a.port()))));
        }
    }
    if let Some(key) = key {
        map.put("key", key.reference());
    }
    map.put("sessions", Map::default().with("max", sessions_max.get()));
    map.put("selftest", Map::default().with("every", show_time(*selftest_every)));
    map
}

fn admin_map(settings: &AdminSettings) -> Map {
    let mut map = Map::default().with("bind", list(settings.bind.iter().map(|a| show_bind(*a))));
    if !settings.tokens.is_empty() {
        let mut tokens = Map::default();
        settings.tokens.iter().for_each(|(name, secret)| tokens.put(name, secret.reference()));
        map.put("tokens", tokens);
    }
    map
}

/// A map in the order in which it was filled.
#[derive(Default)]
struct Map(Mapping);

impl Map {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.into(), value.into());
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.put(key, value);
        self
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Mapping(map.0)
    }
}

fn map_of<'a>(entries: impl Iterator<Item = (&'a str, Map)>) -> Map {
    let mut map = Map::default();
    entries.for_each(|(key, value)| map.put(key, value));
    map
}

/// A path as the file may have it: relative to its folder where it can be.
fn show_path(path: &Path, base: &Path) -> String {
    path.strip_prefix(base).unwrap_or(path).to_string_lossy().into_owned()
}

fn list(items: impl Iterator<Item = String>) -> Value {
    Value::Sequence(items.map(Value::from).collect())
}
