//! Files whose routes make no sense.

use super::broken::Case;

#[rustfmt::skip]
pub(super) const ROUTES: &[Case] = &[
    Case {
        name: "rules of rooms and names that nothing stands behind",
        edits: &[("{ path: last } ]", "{ path: last }, { text: \"a/{room}\" }, { text: \"{group}\" }, { jwt: a..b } ], routes: [ { path: /a, redirect: /b, learn: { json: x, before: \"A/\" } } ]")],
        edge: None,
        faults: &[
            "8:86: sites.\"api.example.com\".room: a room cannot be named by itself; a group of `regex`, or {arg_NAME}",
            "8:108: sites.\"api.example.com\".room: {group} is neither a variable nor a group of `regex`; known: host, path, query, scheme, ws_scheme, authority, client, room, room_suffix, route, edge, region, node, node_region, node_release",
            "8:128: sites.\"api.example.com\".room.4.jwt: \"a..b\": not a path of members; 1 to 8 names with dots between them, such as \"data.id\"",
            "8:174: sites.\"api.example.com\".routes.0.learn: no node answers; remove it: it is for routes that send requests to nodes",
            "8:200: sites.\"api.example.com\".routes.0.learn.before: \"A/\": not a beginning of room names; up to 64 lower-case letters, digits, \"/\", \"_\", \".\" and \"-\"",
        ],
    },
    Case {
        name: "caches where none may be",
        edits: &[("{ path: last } ]", "{ path: last } ], routes: [ { path: /a, cache: true }, { path: /b, cache: true, respond: { body: b } }, { path: /c, place: never, cache: { fresh: 1h } }, { path: /d, cache: false }, { path: /e, place: never, cache: true, learn: { json: x } } ]")],
        edge: None,
        faults: &[
            "8:102: sites.\"api.example.com\".routes.0.cache: its requests may name a room, and an answer that is kept asks no node: the room would get no place there; `place: never`, if these are files that have nothing to do with a room",
            "8:129: sites.\"api.example.com\".routes.1.cache: only what comes from a node is kept; remove it: files and fixed answers are at hand anyway",
            "8:270: sites.\"api.example.com\".routes.4.cache: its answers name rooms, and one that is kept names an old one; `cache: false`, or no `learn`",
        ],
    },
    Case {
        name: "a cache where nodes are told who a client is, and times that are none",
        edits: &[
            ("app: jitsi, pool: shards", "app: jitsi, pool: shards, client_certificate: { ca: tls/ca.pem, header: X-Who }, routes: [ { path: /a, place: never, cache: true } ]"),
            ("{ path: last } ]", "{ path: last } ], routes: [ { path: /a, cache: { for: 1h, stale: 10 } } ]"),
        ],
        edge: None,
        faults: &[
            "7:140: sites.\"meet.example.com\".routes.0.cache: nodes are told in x-who who a client is, so that an answer may be for one client alone; `cache: false`, or no `header` in the site's `client_certificate`",
            "8:102: sites.\"api.example.com\".routes.0.cache: its requests may name a room, and an answer that is kept asks no node: the room would get no place there; `place: never`, if these are files that have nothing to do with a room",
            "8:111: unknown key \"for\" in sites.\"api.example.com\".routes.0.cache; known: fresh, max, stale, stale_if_error",
            "8:127: sites.\"api.example.com\".routes.0.cache.stale: \"10\": a duration without a unit; \"10s\", perhaps: a whole number and ms, s, m, h or d",
        ],
    },
    Case {
        name: "an object as large as the cache",
        edits: &[("store: memory", "store: memory\ncache: { memory: 4MiB, object: 2MiB }")],
        edge: None,
        faults: &["17:32: cache.object: 2MiB is more than a quarter of cache.memory (4MiB); more memory, or a smaller object"],
    },
    Case {
        name: "tokens that name nothing are verified, with a secret that is none",
        edits: &[("{ path: last } ]", "{ path: last } ], verify_tokens: \"env:ROOMGATE_NO_SUCH\""), ("auth: open", "auth: open, verify_tokens: \"file:jwt.secret\"")],
        edge: None,
        faults: &[
            "8:80: sites.\"api.example.com\": `verify_tokens`, and no room is named by a token; remove it, or add the rule `jwt` to `room`: `{ jwt: video.room }`",
            "8:95: sites.\"api.example.com\".verify_tokens: the environment has no ROOMGATE_NO_SUCH; set ROOMGATE_NO_SUCH, or use `file:`",
            "9:67: sites.\"*\": `verify_tokens`, and no room is named by a token; remove it, or add the rule `jwt` to `room`: `{ jwt: video.room }`",
        ],
    },
    Case {
        name: "origins that are none, and all of them with credentials",
        edits: &[("{ path: last } ]", "{ path: last } ], routes: [ { path: /a, pool: shards, cors: { origins: [ \"https://a.example/\" ] } }, { path: /b, pool: shards, cors: { origins: [ \"*\", \"https://a.example\" ], credentials: true } }, { path: /c, pool: shards, cors: { origins: [] } } ]")],
        edge: None,
        faults: &[
            "8:135: sites.\"api.example.com\".routes.0.cors.origins.0: \"https://a.example/\": not an origin; \"https://app.example.com\": scheme, host, and the port if it is not the scheme's own; or \"*\"",
            "8:206: sites.\"api.example.com\".routes.1.cors.origins: \"*\" is all of them; keep it alone, or remove it",
            "8:249: sites.\"api.example.com\".routes.1.cors.credentials: not with \"*\": every page could act as its reader; name the origins",
            "8:302: sites.\"api.example.com\".routes.2.cors.origins: no origin, so it is not clear who may read; name some, or remove `cors`",
        ],
    },
    Case {
        name: "two kinds of paths in one route",
        edits: &[("{ path: last } ]", "{ path: last } ], routes: [ { path: /a, prefix: /b, pool: shards } ]")],
        edge: None,
        faults: &[
            "8:90: sites.\"api.example.com\".routes.0: only one of `path`, `prefix` and `regex`; make several routes of it",
        ],
    },
    Case {
        name: "a route that redirects and sends on",
        edits: &[("{ path: last } ]", "{ path: last } ], routes: [ { redirect: /b, pool: shards } ]")],
        edge: None,
        faults: &[
            "8:90: sites.\"api.example.com\".routes.0: a route either sends on (`pool`, `service`, `node`), or redirects, or answers with files or a text; keep one of them",
        ],
    },
    Case {
        name: "a route to a pool that is not there, and to the embedded one",
        edits: &[("{ path: last } ]", "{ path: last } ], routes: [ { path: /a, pool: shard }, { path: /b, pool: workers } ]")],
        edge: None,
        faults: &[
            "8:108: sites.\"api.example.com\".routes.0.pool: no pool is named \"shard\"; did you mean \"shards\"? known: shards, workers",
            "8:135: sites.\"api.example.com\".routes.1.pool: \"workers\" is embedded: no route can send to it; name a pool with `nodes`",
        ],
    },
    Case {
        name: "templates with names of nothing, and before their time",
        edits: &[("{ path: last } ]", "{ path: last } ], routes: [ { regex: \"^/(?P<shard>.)$\", rewrite: \"/{shrd}\" }, { redirect: \"/{node}\" } ]")],
        edge: None,
        faults: &[
            "8:127: sites.\"api.example.com\".routes.0.rewrite: {shrd} is neither a variable nor a group of `regex`; did you mean \"shard\"? known: shard, host, path, query, scheme, ws_scheme, authority, client, room, room_suffix, route, edge, region, node, node_region, node_release",
            "8:152: sites.\"api.example.com\".routes.1.redirect: {node} is not known yet; only headers, `rewrite` and answers with `as_node` know the node",
        ],
    },
    Case {
        name: "a template whose brace is open, and a pattern that is none",
        edits: &[("{ path: last } ]", "{ path: last } ], routes: [ { regex: \"(\", redirect: \"/{host\" } ]")],
        edge: None,
        faults: &[
            "8:99: sites.\"api.example.com\".routes.0.regex: \"(\": not a regular expression: unclosed group; a pattern of the Rust crate `regex`: no look-around and no back-references",
            "8:114: sites.\"api.example.com\".routes.0.redirect: \"/{host\": a brace is not closed; a brace itself is written twice: \"{{\", \"}}\"",
        ],
    },
    Case {
        name: "a status that is no redirect, twice one name, a path with a query, a header of one connection",
        edits: &[("{ path: last } ]", "{ path: last } ], routes: [ { name: a, redirect: /x, status: 304 }, { name: a, path: \"/a?b\" }, { name: a, request_headers: { set: { Upgrade: x } } } ]")],
        edge: None,
        faults: &[
            "8:123: sites.\"api.example.com\".routes.a.status: 304 is no redirect; 301, 302, 303, 307 or 308",
            "8:130: sites.\"api.example.com\".routes.a: another route has that name; another name",
            "8:147: sites.\"api.example.com\".routes.1.path: \"/a?b\": a path has no query; say `query: NAME` for a parameter that must be there",
            "8:157: sites.\"api.example.com\".routes.a: another route has that name; another name",
            "8:194: sites.\"api.example.com\".routes.2.request_headers.set: \"Upgrade\" is not for configurations to change; it speaks about one connection or frames a message",
        ],
    },
    Case {
        name: "a conference's route that says nothing",
        edits: &[("auth: open", "auth: open, routes: [ { path: /a } ]")],
        edge: None,
        faults: &[
            "9:77: sites.\"*\".routes.0: says nothing of what to do; add `pool`, `redirect` or `respond`: the conference takes all other paths",
        ],
    },
    Case {
        name: "a shard without what its preset sends to",
        edits: &[("s1: \"http://127.0.0.1:9001\"", "s1: { host: 127.0.0.1, web: 80, prosody: 5280 }")],
        edge: None,
        faults: &[
            "7:3: sites.\"meet.example.com\": the preset's routes: pools.shards.nodes.s1 has no service \"jicofo\"; add its port: `s1: { host: ..., jicofo: PORT }`",
        ],
    },
    Case {
        name: "files of a folder that is none, with an index that leaves it",
        edits: &[("{ path: last } ]", "{ path: last } ], routes: [ { prefix: /a/, files: { folder: media.key, index: ../x } } ]")],
        edge: None,
        faults: &[
            "8:122: sites.\"api.example.com\".routes.0.files.folder: media.key is no folder; make it, or name another; it is relative to the folder of this file",
            "8:140: sites.\"api.example.com\".routes.0.files.index: \"../x\" is no name of a file; a name, such as index.html",
        ],
    },
    Case {
        name: "a group with the name of a variable",
        edits: &[("{ path: last } ]", "{ path: last } ], routes: [ { regex: \"^/(?P<room>.)$\", pool: shards } ]")],
        edge: None,
        faults: &[
            "8:99: sites.\"api.example.com\".routes.0.regex: the group {room} has the name of a variable; another name",
        ],
    },
    Case {
        name: "a page for what is no error, and one that is not there",
        edits: &[("{ path: last } ]", "{ path: last } ], error_pages: { 200: short, 404: none.html }")],
        edge: None,
        faults: &[
            "8:95: sites.\"api.example.com\".error_pages: \"200\" is no status of an error; 400 to 599",
            "8:112: sites.\"api.example.com\".error_pages.404: cannot read none.html: no such file or directory",
        ],
    },
];
