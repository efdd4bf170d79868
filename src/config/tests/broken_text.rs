//! Files that cannot be read as written: syntax, unknown and repeated keys, wrong types and units.

use super::broken::Case;

#[rustfmt::skip]
pub(super) const TEXT: &[Case] = &[
    Case {
        name: "unknown key at the top",
        edits: &[("store: memory", "stroe: memory")],
        edge: None,
        faults: &[
            "16:1: unknown key \"stroe\" in the file; did you mean \"store\"? known: version, region, edges, listeners, media, sites, pools, trusted, store, admin, limits, bans, access_log, cache, rooms, shutdown",
        ],
    },
    Case {
        name: "unknown key deep down",
        edits: &[("http: /about/health", "htp: /about/health")],
        edge: None,
        faults: &[
            "13:14: unknown key \"htp\" in pools.shards.check; did you mean \"http\"? known: http, bosh, jicofo, tcp, every, timeout, rise, fall",
        ],
    },
    Case {
        name: "unknown key without a neighbour",
        edits: &[("store: memory", "turn: { bind: [\":3478\"] }")],
        edge: None,
        faults: &[
            "16:1: unknown key \"turn\" in the file; known: version, region, edges, listeners, media, sites, pools, trusted, store, admin, limits, bans, access_log, cache, rooms, shutdown",
        ],
    },
    Case {
        name: "duplicate key",
        edits: &[("admin:", "store: memory\nadmin:")],
        edge: None,
        faults: &[
            "17:1: \"store\" stands here a second time; first on line 16",
        ],
    },
    Case {
        name: "duplicate name",
        edits: &[("  workers: {", "  shards: { embedded: auto }\n  workers: {")],
        edge: None,
        faults: &[
            "15:3: \"shards\" stands here a second time; first on line 11",
        ],
    },
    Case {
        name: "missing key",
        edits: &[("version: 1\n", "")],
        edge: None,
        faults: &[
            "1:1: the file has no `version`; add `version`",
        ],
    },
    Case {
        name: "missing key of a map",
        edits: &[("app: jitsi, pool: shards", "app: jitsi")],
        edge: None,
        faults: &[
            "7:3: sites.\"meet.example.com\" has no `pool`; add `pool`",
        ],
    },
    Case {
        name: "other version",
        edits: &[("version: 1", "version: 2")],
        edge: None,
        faults: &[
            "1:10: version: \"2\": out of range; it is 1",
        ],
    },
    Case {
        name: "text for a number",
        edits: &[("rise: 2", "rise: two")],
        edge: None,
        faults: &[
            "13:65: pools.shards.check.rise: expected a whole number, found \"two\"; 1 to 100",
        ],
    },
    Case {
        name: "number out of range",
        edits: &[("fall: 2", "fall: 0")],
        edge: None,
        faults: &[
            "13:74: pools.shards.check.fall: \"0\": out of range; 1 to 100",
        ],
    },
    Case {
        name: "list for a map",
        edits: &[("sticky: { linger: 5m }", "sticky: [5m]")],
        edge: None,
        faults: &[
            "14:13: pools.shards.sticky: expected a map, found a list",
        ],
    },
    Case {
        name: "text for a list",
        edits: &[("bind: [\":10000\"]", "bind: \":10000\"")],
        edge: None,
        faults: &[
            "5:16: media.bind: expected a list, found \":10000\"; write [\":10000\"]",
        ],
    },
    Case {
        name: "nothing",
        edits: &[("linger: 5m", "linger:")],
        edge: None,
        faults: &[
            "14:15: pools.shards.sticky.linger: expected a duration, found nothing; give it a value or remove the key",
        ],
    },
    Case {
        name: "nothing for a map",
        edits: &[("sticky: { linger: 5m }", "sticky:")],
        edge: None,
        faults: &[
            "14:5: pools.shards.sticky: expected a map, found nothing; give it keys, or remove it",
        ],
    },
    Case {
        name: "duration without a unit",
        edits: &[("every: 2s", "every: 2")],
        edge: None,
        faults: &[
            "13:42: pools.shards.check.every: \"2\": a duration without a unit; \"2s\", perhaps: a whole number and ms, s, m, h or d",
        ],
    },
    Case {
        name: "duration with an odd unit",
        edits: &[("linger: 5m", "linger: 5min")],
        edge: None,
        faults: &[
            "14:23: pools.shards.sticky.linger: \"5min\": not a duration; a whole number and ms, s, m, h or d",
        ],
    },
    Case {
        name: "duration out of range",
        edits: &[("timeout: 1s", "timeout: 0s")],
        edge: None,
        faults: &[
            "13:55: pools.shards.check.timeout: \"0s\": out of range; 10ms to 1h",
        ],
    },
    Case {
        name: "tab",
        edits: &[("store: memory", "store:\n\tmemory")],
        edge: None,
        faults: &[
            "17:2: not YAML: tabs disallowed within this context (block indentation); indent with spaces: a tab is not allowed here",
        ],
    },
    Case {
        name: "unclosed bracket",
        edits: &[("every: 2s, timeout", "every: [2s, timeout")],
        edge: None,
        faults: &[
            "14:5: not YAML: invalid indentation in flow construct; a `{` or `[` is not closed, here or above, or a comma is missing",
        ],
    },
    Case {
        name: "unclosed quote",
        edits: &[("meet.example.com:", "\"meet.example.com:")],
        edge: None,
        faults: &[
            "9:4: not YAML: invalid trailing content after double-quoted scalar; a quote is not closed, here or above",
        ],
    },
    Case {
        name: "bare asterisk",
        edits: &[("\"*\":  ", "*: ")],
        edge: None,
        faults: &[
            "9:3: not YAML: simple key expect ':'; quote a name that begins with `*`: \"*\"",
        ],
    },
    Case {
        name: "alias",
        edits: &[("every: 2s, timeout: 1s", "every: &time 2s, timeout: *time")],
        edge: None,
        faults: &[
            "13:42: an anchor; anchors and aliases are not read here: write the value out",
            "13:61: an alias; anchors and aliases are not read here: write the value out",
        ],
    },
    Case {
        name: "tag",
        edits: &[("linger: 5m", "linger: !time 5m")],
        edge: None,
        faults: &[
            "14:23: a tag; tags are not read here: remove it",
        ],
    },
    Case {
        name: "second document",
        edits: &[("store: memory", "store: memory\n---\nversion: 1")],
        edge: None,
        faults: &[
            "17:1: a second document; a configuration is one document: remove the `---`",
        ],
    },
    Case {
        name: "control character",
        edits: &[("linger: 5m", "linger: 5m \0")],
        edge: None,
        faults: &[
            "14:26: a control character, which YAML does not allow; remove it",
        ],
    },
    Case {
        name: "token in a block",
        edits: &[("admin: { bind: [\"127.0.0.1:9180\"] }", "admin:\n  tokens:\n    ops: |\n      hunter2\n    spare: hunter2\n      hunter2")],
        edge: None,
        faults: &[
            "20:7: admin.tokens.ops: expected the reference of a secret, found a value that is not shown; \"file:PATH\" or \"env:NAME\": a secret never stands in the file",
            "21:12: admin.tokens.spare: expected the reference of a secret, found a value that is not shown; \"file:PATH\" or \"env:NAME\": a secret never stands in the file",
        ],
    },
    Case {
        name: "list at the top",
        edits: &[("", "- version: 1\n")],
        edge: None,
        faults: &[
            "1:1: the file: expected a map, found a list",
        ],
    },
    Case {
        name: "empty file",
        edits: &[("", "# nothing\n")],
        edge: None,
        faults: &[
            "1:1: the file is empty; it begins with `version: 1`",
        ],
    },
];
