//! Files with faults in what guards and records traffic: the access log, limits, bans.

use super::broken::Case;

#[rustfmt::skip]
pub(super) const LIMITS: &[Case] = &[
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
        name: "access log of a site that is neither on nor off",
        edits: &[("app: jitsi, pool: shards", "app: jitsi, pool: shards, access_log: off")],
        edge: None,
        faults: &[
            "7:61: sites.\"meet.example.com\".access_log: expected true or false, found \"off\"; write false",
        ],
    },
];
