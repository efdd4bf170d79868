//! Pools as YAML.

use serde_yaml::Value;

use super::{Map, map_of};
use crate::config::file::NodeMap;
use crate::config::settings::{HttpNode, PoolNodes, PoolSettings, Probe, ProbeKind, WEB};
use crate::config::values::{show_node_url, show_time};

pub(super) fn pool(settings: &PoolSettings) -> Map {
    let PoolSettings { name: _, nodes, sticky, region: _ } = settings;
    let mut map = Map::default();
    match nodes {
        PoolNodes::Embedded { workers: None } => map.put("embedded", "auto"),
        PoolNodes::Embedded { workers: Some(workers) } => map.put("embedded", *workers),
        PoolNodes::Http { nodes, check } => {
            map.put("nodes", map_of(nodes.iter().map(|(name, settings)| (&**name, node(settings)))));
            if let Some(check) = check {
                let mut probes = Map::default();
                check.probes.iter().for_each(|asked| probes.put(asked.kind.as_str(), probe(asked)));
                let check = probes
                    .with("every", show_time(check.every))
                    .with("timeout", show_time(check.timeout))
                    .with("rise", check.rise.get())
                    .with("fall", check.fall.get());
                map.put("check", check);
            }
        }
    }
    map.put("sticky", Map::default().with("linger", show_time(sticky.linger)));
    map
}

fn node(settings: &HttpNode) -> Map {
    let HttpNode { host, services, weight, region, release } = settings;
    let mut map = Map::default();
    if let Some(web) = settings.only_web() {
        map.put("url", show_node_url(host, web));
    } else {
        map.put("host", &**host);
        let mut others = Map::default();
        let mut has_others = false;
        for (name, service) in &**services {
            if NodeMap::SHORT.contains(&&**name) {
                map.put(name, service.port);
            } else {
                others.put(name, service.port);
                has_others = true;
            }
        }
        if has_others {
            map.put("services", others);
        }
    }
    for (key, label) in [("region", region), ("release", release)] {
        if let Some(label) = label {
            map.put(key, &**label);
        }
    }
    map.with("weight", *weight)
}

fn probe(settings: &Probe) -> Value {
    let Probe { kind, service, path, host } = settings;
    let mut map = Map::default();
    match kind {
        ProbeKind::Http { status: None, body: None } if **service == *WEB && host.is_none() => {
            return Value::from(&**path);
        }
        ProbeKind::Bosh | ProbeKind::Jicofo if **path == *kind.default_path() && host.is_none() => {
            return Value::from(&**service);
        }
        ProbeKind::Http { status, body } => {
            if let Some(status) = status {
                map.put("status", *status);
            }
            if let Some(body) = body {
                map.put("body", &**body);
            }
        }
        ProbeKind::Bosh | ProbeKind::Jicofo => {}
    }
    if let Some(host) = host {
        map.put("host", &**host);
    }
    map.with("service", &**service).with("path", &**path).into()
}
