//! Decides which room a request to a Jitsi Meet site names.
//!
//! Pure. `?room=` wins; else the last segment of a path that is a room's page. What stands before the page, the file
//! or the endpoint is the tenant, and is part of the key, so that the page `/tenant/room` and the stream
//! `/tenant/xmpp-websocket?room=room` meet in `tenant/room`.

use super::key::{
    KeyError, Plus, RequestView, RoomKey, normalise, query_parameter, raw_parameter, room, segments,
};

/// Finds the room of a request.
pub(super) fn room_of(request: &RequestView<'_>) -> Result<Option<RoomKey>, KeyError> {
    let segments: Vec<&str> = segments(request.path).collect();
    let place = reserved(&segments, request.path.ends_with('/'));
    let before = place.unwrap_or(segments.len().saturating_sub(1));
    let Some(name) = raw_parameter(request, "room") else {
        // No parameter: a page names its room itself, a file or an endpoint has none.
        return match (place, segments.as_slice()) {
            (None, [one]) => room(one),
            (None, [before @ .., last]) => below(&tenant(before)?, last),
            (None, []) | (Some(_), _) => Ok(None),
        };
    };
    debug_assert!(!name.is_empty(), "an empty parameter is no hit");
    let mut tenant = tenant(&segments[..before])?;
    if tenant.is_empty() && segments.starts_with(&["v1", "_ws"]) {
        // A shard's own stream, `/v1/_ws/{shard}/xmpp-websocket?tenant=`, has its tenant in the query.
        if let Some(raw) = raw_parameter(request, "tenant") {
            tenant = normalise(raw, Plus::Space)? + "/";
        }
    }
    query_parameter(request, "room", &tenant)
}

fn below(tenant: &str, last: &str) -> Result<Option<RoomKey>, KeyError> {
    let name = normalise(last, Plus::Literal)?;
    // Both are normalised, and so is their sum: nothing combines or escapes across a slash.
    if name.is_empty() { Ok(None) } else { RoomKey::checked(&format!("{tenant}{name}")).map(Some) }
}

/// Returns the tenant of the segments before a page, file or endpoint: empty or ending in a slash.
fn tenant(segments: &[&str]) -> Result<String, KeyError> {
    let mut tenant = String::new();
    for segment in segments {
        tenant += &normalise(segment, Plus::Literal)?;
        tenant.push('/');
    }
    Ok(tenant)
}

/// Returns the index of the first segment that is no tenant and no room: it begins a file or an endpoint.
fn reserved(segments: &[&str], slash: bool) -> Option<usize> {
    (0..segments.len()).find(|&i| {
        let (name, rest) = (segments[i], &segments[i + 1..]);
        // A folder is one only if something follows; `/static` alone is a room of that name.
        (FOLDERS.contains(&name) && (slash || !rest.is_empty()))
            || (PAIRS.contains(&(name, rest.first().copied().unwrap_or_default())))
            || (rest.is_empty() && (FILES.contains(&name) || ENDPOINTS.contains(&name)))
    })
}

/// Endpoints of the shards that are one segment: BOSH, XMPP over WebSocket, keep-alive, the room API. `/room` is one,
/// too, but never comes without `?room=`, and a room may well be called so.
const ENDPOINTS: &[&str] = &[
    "http-bind",
    "xmpp-websocket",
    "_unlock",
    "_health",
    "room-size",
    "room-password",
    "kick-participant",
    "end-meeting",
    "send-system-chat-message",
    "invite-jigasi",
];

/// The first two segments of longer paths.
const PAIRS: &[(&str, &str)] =
    &[("conference-request", "v1"), ("about", "health"), ("v1", "_cdn"), ("v1", "_jaas"), ("v1", "_ws")];

/// Folders of files and services.
const FOLDERS: &[&str] = &[
    "libs",
    "css",
    "static",
    "images",
    "fonts",
    "lang",
    "sounds",
    "connection_optimization",
    ".well-known",
    "transcripts",
    "_api",
    "colibri-ws",
    "colibri-relay-ws",
    "etherpad",
    "socket.io",
    "rtcstats-ws",
    "rtc-visualizer",
];

/// Files at the top.
const FILES: &[&str] = &[
    "config.js",
    "interface_config.js",
    "logging_config.js",
    "external_api.js",
    "index.html",
    "base.html",
    "body.html",
    "head.html",
    "fonts.html",
    "plugin.head.html",
    "title.html",
    "close.html",
    "pwa-worker.js",
    "manifest.json",
    "robots.txt",
    "favicon.ico",
    "favicon.png",
    "favicon.svg",
    "apple-app-site-association",
];
