//! From the file's records to legal settings: what belongs together is checked here, all of it, whatever else is wrong.

mod access_log;
mod bind;
mod cache;
mod l4;
mod limits;
mod pools;
mod routes;
mod sites;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use super::fault::{Collector, Mark, known, quote};
use super::file::{AdminFile, AdvertiseFile, EdgeFile, File, ListenerFile, MediaFile, SecretRef};
use super::read::{At, Given, List};
use super::secrets;
use super::settings::{
    AdminSettings, Advertise, EdgeIdentity, ListenerLimits, ListenerSettings, MediaSettings, Name,
    PoolSettings, RedirectSettings, RoomTableSettings, Secret, Settings, ShutdownSettings, StoreSettings,
};
use super::values::{Bind, StoreWord, show_time};

/// Which edge the settings are for.
#[derive(Clone, Copy, Debug)]
pub(super) enum EdgeChoice<'a> {
    /// As `run` has it: a name if the file has `edges`, none otherwise.
    Run(Option<&'a str>),
    /// None in particular: what holds for every edge is checked.
    Any,
}

/// What the checks share.
pub(super) struct Check<'a> {
    file: &'a File,
    base: &'a Path,
    faults: &'a mut Collector,
    /// The pools, once they are built.
    pools_settings: BTreeMap<Name, Arc<PoolSettings>>,
}

/// Checks a file and builds the settings of one edge. They are of use only if no fault was added.
pub(super) fn check(file: &File, base: &Path, choice: EdgeChoice<'_>, faults: &mut Collector) -> Settings {
    let mut check = Check { file, base, faults, pools_settings: BTreeMap::new() };
    check.clashes();
    check.several_edges();
    let edge = check.edge(choice);
    let listeners = check.listeners();
    let media = check.media();
    let pools = check.pools(edge.region.as_ref());
    check.pools_settings.clone_from(&pools);
    let sites = check.sites();
    let admin = check.admin(&file.admin);
    let store = match file.store.value {
        StoreWord::Memory => StoreSettings::Memory,
    };
    let limits = check.limits();
    let bans = check.bans();
    let access_log = check.access_log();
    let cache = check.cache();
    let trusted = check.peers("trusted", &file.trusted.value);
    let rooms = RoomTableSettings { rooms_max: file.rooms.max.value.0 as usize };
    let shutdown = check.shutdown();
    Settings {
        edge,
        listeners,
        media,
        sites,
        pools,
        trusted,
        store,
        admin,
        limits,
        bans,
        access_log,
        cache,
        rooms,
        shutdown,
    }
}

impl<'a> Check<'a> {
    fn fault(&mut self, at: Mark, message: impl Into<String>, cure: impl Into<String>) {
        self.faults.fault(at, message, cure);
    }

    fn shutdown(&mut self) -> ShutdownSettings {
        let file = &self.file.shutdown;
        let deadline = file.deadline.value.0;
        let tunnels = file.tunnels.full().map(|(_, time)| (time.at, time.value.0));
        if let Some((at, tunnels)) = tunnels.filter(|(_, tunnels)| *tunnels > deadline) {
            let (tunnels, deadline) = (show_time(tunnels), show_time(deadline));
            let message =
                format!("shutdown.tunnels: {tunnels} is longer than shutdown.deadline ({deadline})");
            self.fault(at, message, "a longer deadline, or a shorter time for tunnels");
        }
        ShutdownSettings { deadline, tunnels: tunnels.map_or(deadline / 2, |(_, tunnels)| tunnels) }
    }

    /// Listeners, or nothing when they are missing or faulty.
    fn listener_files(
        &self,
    ) -> impl Iterator<Item = (Mark, &'a Name, &'a At<ListenerFile>)> + Clone + use<'a> {
        self.file.listeners.get().into_iter().flat_map(|names| names.iter())
    }

    fn edge_files(&self) -> impl Iterator<Item = (Mark, &'a Name, &'a At<EdgeFile>)> + Clone + use<'a> {
        self.file.edges.get().into_iter().flat_map(|names| names.iter())
    }

    fn edge(&mut self, choice: EdgeChoice<'_>) -> EdgeIdentity {
        let file = self.file;
        let common = file.region.get().map(|region| region.0.clone());
        let alone = EdgeIdentity { name: None, id: 0, public: Vec::new(), region: common.clone() };
        let Some((edges_at, edges)) = file.edges.full() else {
            if let (EdgeChoice::Run(Some(name)), true) = (choice, file.edges.is_missing()) {
                let message = format!("the file has no `edges`, so it has no edge {}", quote(name));
                self.fault(Mark::START, message, "leave `--edge` out");
            }
            return alone;
        };
        let mut ids: BTreeMap<u32, &Name> = BTreeMap::new();
        for (_, name, edge) in self.edge_files() {
            let Some((_, id)) = edge.value.id.full() else { continue };
            match ids.get(&id.value.0) {
                Some(first) => {
                    let message = format!("edges.{name}: id {} is that of {first}", id.value.0);
                    self.fault(id.at, message, "each edge has its own id: it is part of every ICE ufrag");
                }
                None => drop(ids.insert(id.value.0, name)),
            }
        }
        let names: Vec<&str> = self.edge_files().map(|(_, name, _)| &**name).collect();
        if names.is_empty() && edges.value.is_empty() {
            self.fault(edges_at, "edges: no edge", "add one, or remove `edges`");
        }
        let EdgeChoice::Run(chosen) = choice else { return alone };
        let Some(chosen) = chosen else {
            let cure = format!("say `--edge NAME`; known: {}", names.join(", "));
            self.fault(edges_at, "the file has `edges`, and nothing says which one this is", cure);
            return alone;
        };
        let Some((_, name, edge)) = self.edge_files().find(|(_, name, _)| &***name == chosen) else {
            let cure = known(chosen, names.iter().copied());
            self.fault(edges_at, format!("no edge is named {}", quote(chosen)), cure);
            return alone;
        };
        let id = edge.value.id.get().and_then(|id| u16::try_from(id.0).ok()).unwrap_or(0);
        let public = edge.value.public.get().map(|list| list.items.iter().map(|ip| ip.value.0).collect());
        let region = edge.value.region.get().map(|region| region.0.clone()).or(common);
        EdgeIdentity { name: Some(name.clone()), id, public: public.unwrap_or_default(), region }
    }

    /// What several edges cannot do: place embedded rooms without a shared store (each room would be on every edge).
    fn several_edges(&mut self) {
        let StoreWord::Memory = self.file.store.value;
        if self.edge_files().count() < 2 {
            return;
        }
        for at in self.embedded_pools() {
            self.fault(
                at,
                "an embedded pool on several edges needs a shared store: with `store: memory` a room would live on \
                 each edge once more",
                "keep one edge in `edges`, or use pools of HTTP nodes",
            );
        }
    }

    fn listeners(&mut self) -> BTreeMap<Name, Arc<ListenerSettings>> {
        let file = self.file;
        if let Some((at, names)) = file.listeners.full()
            && names.value.is_empty()
        {
            self.fault(
                at,
                "listeners: no listener",
                "add one: `https: { bind: [\":8443\"], tls: self-signed }`",
            );
        }
        let mut listeners = BTreeMap::new();
        let Some(names) = file.listeners.get() else { return listeners };
        for (_, name, listener) in names.iter() {
            let path = format!("listeners.{name}");
            let listener = &listener.value;
            let tls = match &listener.tls {
                Given::Yes(_, tls) => self.tls(&path, &tls.value),
                Given::No | Given::Faulty => None,
            };
            let redirect = self.redirect(&path, listener);
            let acme_challenge = self.acme_challenge(&path, listener);
            let tcp = self.listener_tcp(&path, listener);
            let passthrough = self.passthrough(&path, listener);
            let turn = self.turn(&path, listener);
            let proxy_protocol_from = self.proxy_protocol_from(&path, listener);
            let settings = ListenerSettings {
                name: name.clone(),
                bind: self.bind(&path, &listener.bind),
                tls,
                redirect,
                acme_challenge,
                tcp,
                passthrough,
                turn,
                proxy_protocol_from,
                limits: ListenerLimits {
                    handshake_timeout: listener.timeouts.handshake.value.0,
                    head_timeout: listener.timeouts.head.value.0,
                    idle_timeout: listener.timeouts.idle.value.0,
                    head_bytes_max: usize::try_from(listener.limits.head.value.0).unwrap_or(usize::MAX),
                    streams_max: listener.limits.streams.value.0,
                    resets_max: listener.limits.resets.value.0,
                },
            };
            listeners.insert(name.clone(), Arc::new(settings));
        }
        listeners
    }

    /// Returns the addresses, of which there must be one.
    fn bind(&mut self, path: &str, bind: &Given<List<Bind>>) -> Vec<SocketAddr> {
        let Some((at, binds)) = bind.full() else { return Vec::new() };
        let binds = &binds.value;
        if binds.is_empty() {
            self.fault(at, format!("{path}.bind: no address"), "add one: [\":8443\"]");
        }
        if let Some(first_too_many) = binds.items.get(BINDS_MAX) {
            let message = format!("{path}.bind: more than {BINDS_MAX} addresses");
            self.fault(first_too_many.at, message, "bind a wildcard instead, as in [\":8443\"]");
        }
        binds.items.iter().map(|bind| bind.value.0).collect()
    }

    /// Returns what was read, or adds the fault.
    fn taken<T>(&mut self, at: Mark, path: &str, read: Result<T, secrets::Wrong>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err((message, cure)) => {
                self.fault(at, format!("{path}: {message}"), cure);
                None
            }
        }
    }

    fn redirect(&mut self, path: &str, listener: &ListenerFile) -> Option<RedirectSettings> {
        let (_, redirect) = listener.redirect.full()?;
        if !listener.tls.is_missing() {
            self.fault(
                redirect.at,
                format!("{path}: a listener with `tls` cannot redirect to HTTPS: it is HTTPS"),
                "remove `redirect` or `tls`",
            );
            return None;
        }
        // The one named "https", else the first with TLS.
        let mut https = self.listener_files().filter(|(_, _, other)| !other.value.tls.is_missing());
        let target = https.clone().find(|(_, name, _)| &***name == "https").or_else(|| https.next());
        let Some((_, _, target)) = target else {
            self.fault(
                redirect.at,
                format!("{path}.redirect: no listener has `tls`"),
                "add one: `https: { bind: [\":8443\"], tls: self-signed }`",
            );
            return None;
        };
        let port =
            target.value.bind.get().and_then(|bind| bind.items.first()).map_or(0, |bind| bind.value.0.port());
        Some(RedirectSettings { port })
    }

    fn media(&mut self) -> Option<MediaSettings> {
        let file = self.file;
        let Some((at, media)) = file.media.full() else {
            if file.media.is_missing() {
                for at in self.embedded_pools() {
                    let cure = "add `media: { bind: [\":10000\"] }`";
                    self.fault(at, "an embedded pool without `media`: no packet would reach it", cure);
                }
            }
            return None;
        };
        if self.embedded_pools().next().is_none() && self.pools_are_clear() {
            let cure = "remove it, or add a pool with `embedded: auto`";
            self.fault(at, "media: no pool is embedded, so nothing is reached through it", cure);
        }
        let MediaFile { bind, advertise, key, sessions, selftest } = &media.value;
        let bind = self.bind("media", bind);
        let port = bind.first().map_or(0, SocketAddr::port);
        let advertise_settings = match &advertise.value {
            AdvertiseFile::Auto => Advertise::Auto,
            AdvertiseFile::List(list) => {
                if list.is_empty() {
                    self.fault(advertise.at, "media.advertise: no address", "`auto`, or at least one");
                }
                let address = |(ip, own): (_, Option<u16>)| SocketAddr::new(ip, own.unwrap_or(port));
                Advertise::List(list.items.iter().map(|item| address(item.value.0)).collect())
            }
        };
        if advertise_settings == Advertise::Auto {
            for (at, name, _) in self.edge_files().filter(|(_, _, edge)| match &edge.value.public {
                Given::No => true,
                Given::Faulty => false,
                Given::Yes(_, list) => list.value.is_empty(),
            }) {
                let message = format!("edges.{name} has no `public`, and `media.advertise` is auto");
                self.fault(at, message, "add `public`: the addresses that clients reach this edge at");
            }
        }
        let key = match key.full() {
            Some((_, reference)) => self.secret(reference, "media.key", secrets::hex_key),
            None => None,
        };
        Some(MediaSettings {
            bind,
            advertise: advertise_settings,
            key,
            sessions_max: NonZeroU32::new(sessions.max.value.0).unwrap_or(NonZeroU32::MIN),
            selftest_every: selftest.every.value.0,
        })
    }

    /// Reads a secret and checks it with `rule`.
    fn secret(
        &mut self,
        reference: &At<SecretRef>,
        path: &str,
        rule: impl FnOnce(&Secret) -> Result<Secret, secrets::Wrong>,
    ) -> Option<Secret> {
        let secret = secrets::read(&reference.value, self.base).and_then(|secret| rule(&secret));
        self.taken(reference.at, path, secret)
    }

    fn admin(&mut self, admin: &AdminFile) -> AdminSettings {
        let mut tokens = BTreeMap::new();
        if let Some(names) = admin.tokens.get() {
            for (_, name, reference) in names.iter() {
                let path = format!("admin.tokens.{name}");
                if let Some(secret) = self.secret(reference, &path, token_rule) {
                    tokens.insert(name.clone(), secret);
                }
            }
        }
        let open = match &admin.tokens {
            Given::No => true,
            Given::Yes(_, names) => names.value.is_empty(),
            Given::Faulty => false,
        };
        if open {
            for bind in &admin.bind.value.items {
                if !bind.value.0.ip().to_canonical().is_loopback() {
                    let message = "admin: an address that is not loopback needs `tokens`";
                    self.fault(bind.at, message, "add `tokens: { NAME: \"file:...\" }`, or bind 127.0.0.1");
                }
            }
        }
        AdminSettings { bind: admin.bind.value.items.iter().map(|bind| bind.value.0).collect(), tokens }
    }
}

fn token_rule(secret: &Secret) -> Result<Secret, secrets::Wrong> {
    let token = secret.expose();
    let reference = secret.reference();
    if token.len() < TOKEN_BYTES_MIN {
        let cure = format!("at least {TOKEN_BYTES_MIN}, as from `openssl rand -hex 32`");
        return Err((format!("the token in {reference} has {} characters", token.len()), cure));
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        let cure = "letters, digits and signs, as from `openssl rand -hex 32`";
        return Err((format!("the token in {reference} holds what no header can carry"), cure.to_owned()));
    }
    Ok(secret.clone())
}

const TOKEN_BYTES_MIN: usize = 16;

/// Addresses of one `bind`: each is a socket per core, and a worker numbers its sockets in a byte.
const BINDS_MAX: usize = 64;
