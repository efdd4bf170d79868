//! Pools as YAML.

use std::path::Path;

use serde_yaml::Value;

use super::{Map, map_of};
use crate::config::file::NodeMap;
use crate::config::settings::{
    ConnectCheck, HttpNode, NodeTlsSettings, PoolNodes, PoolSettings, Probe, ProbeKind, Protocol, Service,
    StreamTimeouts, TcpNode, WEB,
};
use crate::config::values::{show_node_url, show_time};

pub(super) fn pool(settings: &PoolSettings, base: &Path) -> Map {
    let PoolSettings { name: _, nodes, sticky, region: _, protocol, tls, proxy_protocol } = settings;
    let mut map = Map::default();
    if *proxy_protocol {
        map.put("proxy_protocol", "v2");
    }
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
            map.put(
                "protocol",
                match protocol {
                    Protocol::H1 => "h1",
                    Protocol::H2 => "h2",
                },
            );
            if *tls != NodeTlsSettings::default() {
                map.put("tls", node_tls(tls, base));
            }
        }
        PoolNodes::Tcp { nodes, check, timeouts } => {
            map.put("nodes", map_of(nodes.iter().map(|(name, settings)| (&**name, tcp_node(settings)))));
            if let Some(ConnectCheck { every, timeout, rise, fall }) = check {
                let check = Map::default()
                    .with("tcp", "connect")
                    .with("every", show_time(*every))
                    .with("timeout", show_time(*timeout))
                    .with("rise", rise.get())
                    .with("fall", fall.get());
                map.put("check", check);
            }
            let StreamTimeouts { connect, idle } = timeouts;
            map.put(
                "timeouts",
                Map::default().with("connect", show_time(*connect)).with("idle", show_time(*idle)),
            );
            // It has no rooms that could stick.
            return map;
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
                map.put(name, port(*service));
            } else {
                others.put(name, port(*service));
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

fn port(service: Service) -> Value {
    if service.tls { format!("https:{}", service.port).into() } else { service.port.into() }
}

fn node_tls(settings: &NodeTlsSettings, base: &Path) -> Map {
    let NodeTlsSettings { ca, sni, verify, client } = settings;
    let path = |path: &Path| path.strip_prefix(base).unwrap_or(path).to_string_lossy().into_owned();
    let mut map = Map::default();
    if let Some(ca) = ca {
        map.put("ca", path(&ca.path));
    }
    if let Some(sni) = sni {
        map.put("sni", &**sni);
    }
    map.put("verify", *verify);
    if let Some(client) = client {
        map.put("cert", path(&client.files.cert));
        map.put("key", path(&client.files.key));
    }
    map
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

fn tcp_node(settings: &TcpNode) -> Map {
    let TcpNode { host, port, weight } = settings;
    let url =
        if host.contains(':') { format!("tcp://[{host}]:{port}") } else { format!("tcp://{host}:{port}") };
    Map::default().with("url", url).with("weight", *weight)
}
