//! The cache: its bounds, and which routes may have it.

use super::Check;
use crate::config::fault::Mark;
use crate::config::file::{RouteCacheFile, RouteFile};
use crate::config::settings::{Action, CacheRule, CacheSettings, Place, RoomRule};
use crate::config::values::show_size;

impl Check<'_> {
    pub(super) fn cache(&mut self) -> CacheSettings {
        let file = &self.file.cache;
        let (memory, object) = (file.memory.value.0, &file.object);
        let quarter = memory / 4;
        let mut object_bytes_max = object.value.0;
        if object_bytes_max > quarter {
            // The default gives way; what somebody wrote is for them to change.
            if object.is_given() {
                let message = format!(
                    "cache.object: {} is more than a quarter of cache.memory ({})",
                    show_size(object_bytes_max),
                    show_size(memory)
                );
                self.fault(object.at, message, "more memory, or a smaller object");
            }
            object_bytes_max = quarter;
        }
        CacheSettings { memory_bytes_max: memory, object_bytes_max }
    }
}

/// What is known of a route that may want to keep answers.
pub(super) struct Wanted<'a> {
    /// `sites.x.routes.y`.
    pub(super) place: &'a str,
    pub(super) action: &'a Action,
    pub(super) room: &'a [RoomRule],
    pub(super) room_place: Place,
    /// The site tells nodes in this header who a client is.
    pub(super) client_header: Option<&'a str>,
    /// It is a preset that wants it.
    pub(super) from_preset: bool,
}

/// Where a fault is, what it is, and its cure.
pub(super) type Wrong = (Mark, String, &'static str);

/// Decides what a route keeps.
///
/// # Errors
/// The route must not keep anything.
pub(super) fn rule(route: &RouteFile, wanted: &Wanted<'_>) -> Result<Option<CacheRule>, Wrong> {
    let Some((at, cache)) = route.cache.full() else { return Ok(None) };
    let rule = match &cache.value {
        RouteCacheFile::Flag(false) => return Ok(None),
        RouteCacheFile::Flag(true) => CacheRule::default(),
        RouteCacheFile::Rule(rule) => CacheRule {
            fresh_for: rule.fresh.get().map(|time| time.0),
            fresh_max: rule.max.get().map(|time| time.0),
            stale: rule.stale.get().map(|time| time.0).unwrap_or_default(),
            stale_if_error: rule.stale_if_error.get().map(|time| time.0).unwrap_or_default(),
        },
    };
    let Wanted { place, action, room, room_place, client_header, from_preset } = wanted;
    // A preset knows nothing of the site's clients.
    if *from_preset && client_header.is_some() {
        return Ok(None);
    }
    if !matches!(action, Action::Proxy { .. }) {
        let message = format!("{place}.cache: only what comes from a node is kept");
        return Err((at, message, "remove it: files and fixed answers are at hand anyway"));
    }
    if !room.is_empty() && *room_place != Place::Never {
        let message = format!(
            "{place}.cache: its requests may name a room, and an answer that is kept asks no node: the room would get no \
             place there"
        );
        return Err((at, message, "`place: never`, if these are files that have nothing to do with a room"));
    }
    if !route.set_json.is_missing() {
        let message =
            format!("{}.cache: what is kept is what the node said, and `set_json` changes it", wanted.place);
        return Err((at, message, "`cache: false`, or no `set_json`"));
    }
    if !route.learn.is_missing() {
        let message = format!("{place}.cache: its answers name rooms, and one that is kept names an old one");
        return Err((at, message, "`cache: false`, or no `learn`"));
    }
    if let Some(header) = client_header {
        let message = format!(
            "{place}.cache: nodes are told in {header} who a client is, so that an answer may be for one client alone"
        );
        return Err((at, message, "`cache: false`, or no `header` in the site's `client_certificate`"));
    }
    Ok(Some(rule))
}
