//! Pools as YAML.

use super::{Map, map_of};
use crate::config::settings::{PoolNodes, PoolSettings};
use crate::config::values::show_time;

pub(super) fn pool(settings: &PoolSettings) -> Map {
    let PoolSettings { name: _, nodes, sticky } = settings;
    let mut map = Map::default();
    match nodes {
        PoolNodes::Embedded { workers: None } => map.put("embedded", "auto"),
        PoolNodes::Embedded { workers: Some(workers) } => map.put("embedded", *workers),
        PoolNodes::Http { nodes, check } => {
            let node = |host: &str, port: u16| {
                if host.contains(':') {
                    format!("http://[{host}]:{port}")
                } else {
                    format!("http://{host}:{port}")
                }
            };
            let nodes = nodes.iter().map(|(name, n)| {
                (&**name, Map::default().with("url", node(&n.host, n.port)).with("weight", n.weight))
            });
            map.put("nodes", map_of(nodes));
            if let Some(check) = check {
                let check = Map::default()
                    .with("http", &*check.path)
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
