//! Listeners as YAML.

use std::path::Path;

use serde_yaml::Value;

use super::{Map, list, show_path};
use crate::config::settings::{CertificateSettings, ListenerSettings, TlsProfile, TlsSettings, UnknownName};
use crate::config::values::network::show_network;
use crate::config::values::{show_bind, show_size, show_time};

pub(super) fn listener(settings: &ListenerSettings, base: &Path) -> Map {
    let ListenerSettings {
        name: _,
        bind,
        tls,
        redirect,
        acme_challenge,
        tcp,
        passthrough,
        turn,
        proxy_protocol_from,
        limits,
    } = settings;
    let mut map = Map::default().with("bind", list(bind.iter().map(|a| show_bind(*a))));
    match tls {
        None => {}
        Some(TlsSettings::SelfSigned) => map.put("tls", "self-signed"),
        Some(TlsSettings::Certificates(settings)) => map.put("tls", certificates(settings, base)),
    }
    if redirect.is_some() {
        map.put("redirect", "https");
    }
    if let Some(folder) = acme_challenge {
        map.put("acme_challenge", show_path(folder, base));
    }
    if let Some(pool) = tcp {
        map.put("tcp", &**pool);
    }
    if !passthrough.is_empty() {
        let mut names = Map::default();
        passthrough.iter().for_each(|(name, pool)| names.put(name, &**pool));
        map.put("passthrough", names);
    }
    if tls.is_some() {
        map.put("turn", *turn);
    }
    if !proxy_protocol_from.is_empty() {
        let from = list(proxy_protocol_from.iter().map(show_network));
        map.put("proxy_protocol", Map::default().with("from", from));
    }
    let timeouts = Map::default()
        .with("handshake", show_time(limits.handshake_timeout))
        .with("head", show_time(limits.head_timeout))
        .with("idle", show_time(limits.idle_timeout));
    map.put("timeouts", timeouts);
    let sizes = Map::default()
        .with("head", show_size(limits.head_bytes_max as u64))
        .with("streams", limits.streams_max)
        .with("resets", limits.resets_max);
    map.put("limits", sizes);
    map
}

fn certificates(settings: &CertificateSettings, base: &Path) -> Map {
    let CertificateSettings { files, unknown_name, profile, tickets } = settings;
    let certificates = files.iter().map(|files| {
        let pair = Map::default().with("cert", show_path(&files.cert, base));
        Value::from(pair.with("key", show_path(&files.key, base)))
    });
    let mut ticket_map = Map::default();
    if let Some(keys) = &tickets.keys {
        ticket_map.put("keys", &*keys.reference);
    }
    ticket_map.put("rotate", show_time(tickets.rotate));
    let unknown_name = match unknown_name {
        UnknownName::Default => "default",
        UnknownName::Refuse => "refuse",
    };
    let profile = match profile {
        TlsProfile::Intermediate => "intermediate",
        TlsProfile::Modern => "modern",
    };
    Map::default()
        .with("certificates", Value::Sequence(certificates.collect()))
        .with("unknown_name", unknown_name)
        .with("profile", profile)
        .with("tickets", ticket_map)
}
