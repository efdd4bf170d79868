//! Files with faults in what bounds, guards and records traffic: sizes and times of connections, the access log, bans.

use super::broken::Case;

#[rustfmt::skip]
pub(super) const LIMITS: &[Case] = &[
    Case {
        name: "tunnels end after the process",
        edits: &[("store: memory", "shutdown: { deadline: 5s, tunnels: 6s }")],
        edge: None,
        faults: &[
            "16:36: shutdown.tunnels: 6s is longer than shutdown.deadline (5s); a longer deadline, or a shorter time for tunnels",
        ],
    },
    Case {
        name: "a ping more often than once a second",
        edits: &[("app: jitsi, pool: shards", "app: jitsi, pool: shards, timeouts: { tunnel_ping: 100ms }")],
        edge: None,
        faults: &[
            "7:74: sites.\"meet.example.com\".timeouts.tunnel_ping: \"100ms\": out of range; 1s to 1d",
        ],
    },
    Case {
        name: "size without a unit",
        edits: &[("redirect: https", "redirect: https, limits: { head: 65536 }")],
        edge: None,
        faults: &[
            "4:62: listeners.http.limits.head: \"65536\": a size without a unit; write \"64KiB\": a whole number and B, KiB, MiB or GiB",
        ],
    },
    Case {
        name: "size with an odd unit",
        edits: &[("redirect: https", "redirect: https, limits: { head: 64kb }")],
        edge: None,
        faults: &[
            "4:62: listeners.http.limits.head: \"64kb\": not a size; did you mean \"64KiB\"? a whole number and B, KiB, MiB or GiB",
        ],
    },
    Case {
        name: "HTTP/2 budgets out of range",
        edits: &[("redirect: https", "redirect: https, limits: { streams: 0, resets: 9 }")],
        edge: None,
        faults: &[
            "4:65: listeners.http.limits.streams: \"0\": out of range; 1 to 1000",
            "4:76: listeners.http.limits.resets: \"9\": out of range; 10 to 100000",
        ],
    },
    Case {
        name: "access log in a folder that is not there",
        edits: &[("store: memory", "store: memory\naccess_log: { path: none/access.log }")],
        edge: None,
        faults: &[
            "17:21: access_log.path: there is no folder none; make it, or name another file; `stdout` is standard output",
        ],
    },
    Case {
        name: "access log that is a folder",
        edits: &[("store: memory", "store: memory\naccess_log: { path: tls }")],
        edge: None,
        faults: &["17:21: access_log.path: tls is a folder; name a file in it"],
    },
    Case {
        name: "access log with words of others",
        edits: &[("store: memory", "store: memory\naccess_log: { path: stdout, format: jsn, ip: anonymous, redact: [\"a b\"] }")],
        edge: None,
        faults: &[
            "17:37: access_log.format: \"jsn\": not a format; did you mean \"json\"? known: json, combined",
            "17:46: access_log.ip: \"anonymous\": not a way to write an address; known: full, truncated, hashed",
            "17:66: access_log.redact.0: \"a b\": not a name; 1 to 64 letters, digits and \"-\"",
        ],
    },
    Case {
        name: "access log without its path and with a short key",
        edits: &[("store: memory", "store: memory\naccess_log: { ip: hashed, key: \"file:media-short.key\" }")],
        edge: None,
        faults: &[
            "17:1: access_log has no `path`; add `path`",
            "17:32: access_log.key: the key in file:media-short.key has 4 characters or is not hexadecimal; 32 hexadecimal digits, as from `openssl rand -hex 16`",
        ],
    },
    Case {
        name: "rates that are none and bursts of nothing",
        edits: &[(
            "app: jitsi, pool: shards",
            "app: jitsi, pool: shards, limits: { requests: { per_ip: 60, burst: 0, room_burst: 5 }, new_rooms: { total: 2/d } }",
        )],
        edge: None,
        faults: &[
            "7:79: sites.\"meet.example.com\".limits.requests.per_ip: \"60\": not a rate; write \"60/s\", \"60/m\" or \"60/h\"",
            "7:90: sites.\"meet.example.com\".limits.requests.burst: \"0\": out of range; 1 to 1000000",
            "7:93: sites.\"meet.example.com\".limits.requests.room_burst: there is no `per_room`; add `per_room: \"60/s\"`, or remove it",
            "7:130: sites.\"meet.example.com\".limits.new_rooms.total: \"2/d\": not a rate; a whole number and /s, /m or /h: \"60/s\", \"10/m\"",
        ],
    },
    Case {
        name: "networks that are none",
        edits: &[("app: jitsi, pool: shards", "app: jitsi, pool: shards, allow: [], deny: [10.1.2.3/8, localhost]")],
        edge: None,
        faults: &[
            "7:49: sites.\"meet.example.com\".allow: no network, so it is not clear who may ask; name networks, or remove it: everybody may",
            "7:67: sites.\"meet.example.com\".deny.0: \"10.1.2.3/8\": an address within a network; write \"10.0.0.0/8\"",
            "7:79: sites.\"meet.example.com\".deny.1: \"localhost\": not a network; \"10.0.0.0/8\", \"2001:db8::/32\", or one address: \"192.0.2.7\"",
        ],
    },
    Case {
        name: "connections that are not bounded",
        edits: &[("store: memory", "store: memory\nlimits: { connections: { total: all, per_ip: 0 } }")],
        edge: None,
        faults: &[
            "17:33: limits.connections.total: \"all\" is not a number of connections; `auto`, or 1 to 10000000",
            "17:46: limits.connections.per_ip: \"0\": out of range; 1 to 1000000",
        ],
    },
    Case {
        name: "bans for nothing, and bans for ever",
        edits: &[("store: memory", "store: memory\nbans: { a: { count: 50, within: 1m, lasts: 10m }, b: { statuses: [200, 404], count: 3, within: 1m } }")],
        edge: None,
        faults: &[
            "17:9: bans.a: nothing counts; add `statuses: [401, 403, 404, 429]` or `handshake_failures: true`",
            "17:51: bans.b has no `lasts`; add `lasts`",
            "17:67: bans.b.statuses.0: \"200\": out of range; 400 to 599",
            "17:85: bans.b.count: \"3\": out of range; 5 to 100000",
        ],
    },
    Case {
        name: "access log of a site that is neither on nor off",
        edits: &[("app: jitsi, pool: shards", "app: jitsi, pool: shards, access_log: off")],
        edge: None,
        faults: &[
            "7:61: sites.\"meet.example.com\".access_log: expected true or false, found \"off\"; write false",
        ],
    },
];
