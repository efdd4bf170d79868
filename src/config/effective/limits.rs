//! Limits and bans as YAML.

use serde_yaml::Value;

use super::{Map, list, map_of};
use crate::config::settings::{BanRule, EdgeLimits, IpNet, Rate, RequestLimits};
use crate::config::values::network::show_network;
use crate::config::values::rate::show_rate;
use crate::config::values::show_time;

pub(super) fn limits(settings: &EdgeLimits) -> Map {
    let EdgeLimits { connections_max, connections_per_ip, exempt, dry_run } = settings;
    let total = connections_max.map_or_else(|| Value::from("auto"), Value::from);
    let connections = Map::default().with("total", total).with("per_ip", *connections_per_ip);
    let mut map = Map::default().with("connections", connections);
    put_networks(&mut map, "exempt", exempt);
    map.with("dry_run", *dry_run)
}

/// Adds the limits of a site or route to its map `limits`.
pub(super) fn put_request_limits(map: &mut Map, settings: &RequestLimits) {
    let RequestLimits {
        requests_per_ip,
        requests_per_room,
        requests_total,
        new_rooms_per_ip,
        new_rooms_total,
        connections_per_room,
        exempt,
        dry_run,
    } = settings;
    let rates = |rates: &[(&str, &str, &Option<Rate>)]| {
        let mut map = Map::default();
        for (key, burst_key, rate) in rates {
            if let Some(rate) = rate {
                map.put(key, show_rate(rate));
                map.put(burst_key, rate.burst.get());
            }
        }
        map
    };
    let requests = rates(&[
        ("per_ip", "burst", requests_per_ip),
        ("per_room", "room_burst", requests_per_room),
        ("total", "total_burst", requests_total),
    ]);
    let new_rooms =
        rates(&[("per_ip", "burst", new_rooms_per_ip), ("total", "total_burst", new_rooms_total)]);
    for (key, rates) in [("requests", requests), ("new_rooms", new_rooms)] {
        if !rates.0.is_empty() {
            map.put(key, rates);
        }
    }
    if let Some(connections) = connections_per_room {
        map.put("connections", Map::default().with("per_room", connections.get()));
    }
    put_networks(map, "exempt", exempt);
    map.put("dry_run", *dry_run);
}

pub(super) fn bans(rules: &[BanRule]) -> Map {
    map_of(rules.iter().map(|rule| (&*rule.name, ban(rule))))
}

fn ban(rule: &BanRule) -> Map {
    let BanRule { name: _, statuses, handshake_failures, rate, lasts, exempt, dry_run } = rule;
    let mut map = Map::default();
    if !statuses.is_empty() {
        let statuses = statuses.iter().map(|status| Value::from(*status));
        map.put("statuses", Value::Sequence(statuses.collect()));
    }
    map.put("handshake_failures", *handshake_failures);
    map.put("count", rate.count.get());
    map.put("within", show_time(rate.per));
    map.put("lasts", show_time(*lasts));
    put_networks(&mut map, "exempt", exempt);
    map.with("dry_run", *dry_run)
}

/// Adds a list of networks if there is one.
pub(super) fn put_networks(map: &mut Map, key: &str, networks: &[IpNet]) {
    if !networks.is_empty() {
        map.put(key, list(networks.iter().map(show_network)));
    }
}
