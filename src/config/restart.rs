//! Which changes a running process cannot take over.
//!
//! Pure. The record tables in `file` say the same per key; a test holds both against each other.

use super::settings::{App, Auth, ListenerSettings, MediaSettings, Name, PoolNodes, Settings, StoreSettings};

/// Returns the keys, by their path, whose change takes effect only at the next start. Everything else is live.
pub fn restart_needed(old: &Settings, new: &Settings) -> Vec<String> {
    let mut keys = Vec::new();
    edge(old, new, &mut keys);
    for name in names(old.listeners.keys(), new.listeners.keys()) {
        match (old.listeners.get(&name), new.listeners.get(&name)) {
            (Some(old), Some(new)) => listener(old, new, &mut keys),
            (None, _) | (_, None) => keys.push(format!("listeners.{name}")),
        }
    }
    match (&old.media, &new.media) {
        (Some(old), Some(new)) => media(old, new, &mut keys),
        (None, None) => {}
        (None, Some(_)) | (Some(_), None) => keys.push("media".to_owned()),
    }
    for name in names(old.pools.keys(), new.pools.keys()) {
        let workers = |settings: &Settings| match settings.pools.get(&name).map(|pool| &pool.nodes) {
            Some(PoolNodes::Embedded { workers }) => Some(*workers),
            Some(PoolNodes::Http { .. } | PoolNodes::Tcp { .. }) | None => None,
        };
        changed(workers(old) != workers(new), || format!("pools.{name}.embedded"), &mut keys);
    }
    let (StoreSettings::Memory, StoreSettings::Memory) = (&old.store, &new.store);
    changed(old.admin.bind != new.admin.bind, || "admin.bind".to_owned(), &mut keys);
    changed(old.rooms != new.rooms, || "rooms.max".to_owned(), &mut keys);
    keys
}

/// Returns what a running process must not take over, because its sockets stay as they were started: what is safe on
/// loopback would be open to everybody on the address that is still in use. One sentence each.
pub fn unsafe_without_restart(started: &Settings, new: &Settings) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(address) = started.admin.bind.iter().find(|address| !address.ip().is_loopback())
        && new.admin.tokens.is_empty()
    {
        reasons.push(format!(
            "admin.tokens: none are left while this process listens on {address}; keep a token, or restart with another admin.bind"
        ));
    }
    let mut bound = started.listeners.values().flat_map(|listener| &listener.bind);
    let serving = new.listeners.values().filter(|listener| listener.serves_sites());
    let new_is_local = serving.flat_map(|listener| &listener.bind).all(|address| address.ip().is_loopback());
    if let Some(address) = bound.find(|address| !address.ip().is_loopback())
        && new_is_local
    {
        for site in new.sites.iter().filter(|site| matches!(site.app, App::Conference { auth: Auth::Open })) {
            reasons.push(format!(
                "sites.{}: it would be open to everybody on {address}, where this process listens until it is restarted; restart it",
                site.name
            ));
        }
    }
    reasons
}

fn edge(old: &Settings, new: &Settings, keys: &mut Vec<String>) {
    let (old, new) = (&old.edge, &new.edge);
    let named = |settings: &Option<Name>| settings.clone().unwrap_or_default();
    if old.name != new.name {
        keys.push("edges".to_owned());
        return;
    }
    changed(old.id != new.id, || format!("edges.{}.id", named(&new.name)), keys);
    changed(old.public != new.public, || format!("edges.{}.public", named(&new.name)), keys);
}

fn listener(old: &ListenerSettings, new: &ListenerSettings, keys: &mut Vec<String>) {
    let name = &new.name;
    changed(old.bind != new.bind, || format!("listeners.{name}.bind"), keys);
    // Certificates are exchanged under a running listener; from plain to TLS is another listener.
    changed(old.tls.is_some() != new.tls.is_some(), || format!("listeners.{name}.tls"), keys);
}

fn media(old: &MediaSettings, new: &MediaSettings, keys: &mut Vec<String>) {
    let MediaSettings { bind, advertise, key, sessions_max, selftest_every } = old;
    for (key, same) in [
        ("bind", *bind == new.bind),
        ("advertise", *advertise == new.advertise),
        ("key", *key == new.key),
        ("sessions.max", *sessions_max == new.sessions_max),
        ("selftest.every", *selftest_every == new.selftest_every),
    ] {
        changed(!same, || format!("media.{key}"), keys);
    }
}

fn changed(is: bool, key: impl FnOnce() -> String, keys: &mut Vec<String>) {
    if is {
        keys.push(key());
    }
}

fn names<'a>(old: impl Iterator<Item = &'a Name>, new: impl Iterator<Item = &'a Name>) -> Vec<Name> {
    let names: std::collections::BTreeSet<Name> = old.chain(new).cloned().collect();
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
version: 1
listeners: { http: { bind: ["LISTEN"] } }
media: { bind: ["127.0.0.1:0"], advertise: ["127.0.0.1"] }
sites: { "*": { app: conference, pool: workers, auth: open } }
pools: { workers: { embedded: 1 } }
"#;

    fn settings(listen: &str) -> Settings {
        let text = FILE.replace("LISTEN", listen);
        crate::config::load_str("f.yaml", &text, std::path::Path::new("."), None).unwrap().settings
    }

    #[test]
    fn what_only_loopback_may_have_is_refused_while_other_sockets_are_open() {
        let (public, local) = (settings("0.0.0.0:0"), settings("127.0.0.1:0"));
        for (started, new, refused) in
            [(&public, &public, 0), (&local, &local, 0), (&local, &public, 0), (&public, &local, 1)]
        {
            assert_eq!(unsafe_without_restart(started, new).len(), refused);
        }
        let mut started = local.clone();
        started.admin.bind = vec!["0.0.0.0:9180".parse().unwrap()];
        let reasons = unsafe_without_restart(&started, &local);
        assert!(reasons.len() == 1 && reasons[0].starts_with("admin.tokens: none are left"), "{reasons:?}");
    }
}
