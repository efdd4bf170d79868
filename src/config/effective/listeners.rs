//! Listeners as YAML.

use std::path::Path;

use serde_yaml::Value;

use super::{Map, list};
use crate::config::settings::{ListenerSettings, TlsSettings};
use crate::config::values::{show_bind, show_size, show_time};

pub(super) fn listener(settings: &ListenerSettings, base: &Path) -> Map {
    let ListenerSettings { name: _, bind, tls, redirect, limits } = settings;
    let mut map = Map::default().with("bind", list(bind.iter().map(|a| show_bind(*a))));
    match tls {
        None => {}
        Some(TlsSettings::SelfSigned) => map.put("tls", "self-signed"),
        Some(TlsSettings::Certificates(certificates)) => {
            let path = |path: &Path| path.strip_prefix(base).unwrap_or(path).to_string_lossy().into_owned();
            let certificates = certificates.iter().map(|files| {
                Value::from(Map::default().with("cert", path(&files.cert)).with("key", path(&files.key)))
            });
            map.put("tls", Map::default().with("certificates", Value::Sequence(certificates.collect())));
        }
    }
    if redirect.is_some() {
        map.put("redirect", "https");
    }
    let timeouts = Map::default()
        .with("handshake", show_time(limits.handshake_timeout))
        .with("head", show_time(limits.head_timeout))
        .with("idle", show_time(limits.idle_timeout));
    map.put("timeouts", timeouts);
    map.put("limits", Map::default().with("head", show_size(limits.head_bytes_max as u64)));
    map
}
