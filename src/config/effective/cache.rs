//! The cache as YAML.

use serde_yaml::Value;

use super::Map;
use crate::config::settings::{CacheRule, CacheSettings};
use crate::config::values::{show_size, show_time};

pub(super) fn cache(settings: &CacheSettings) -> Map {
    let CacheSettings { memory_bytes_max, object_bytes_max } = settings;
    Map::default().with("memory", show_size(*memory_bytes_max)).with("object", show_size(*object_bytes_max))
}

/// What a route keeps: `false`, `true`, or how long.
pub(super) fn rule(rule: Option<&CacheRule>) -> Value {
    let Some(CacheRule { fresh_for, fresh_max, stale, stale_if_error }) = rule else { return false.into() };
    let mut map = Map::default();
    for (key, time) in [("fresh", fresh_for), ("max", fresh_max)] {
        if let Some(time) = time {
            map.put(key, show_time(*time));
        }
    }
    for (key, time) in [("stale", stale), ("stale_if_error", stale_if_error)] {
        if !time.is_zero() {
            map.put(key, show_time(*time));
        }
    }
    if map.0.is_empty() { true.into() } else { map.into() }
}
