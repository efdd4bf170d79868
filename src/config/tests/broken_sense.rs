//! Files that can be read and make no sense: what does not exist, what does not fit together, what is not safe.

use super::broken::Case;

#[rustfmt::skip]
pub(super) const SENSE: &[Case] = &[
    Case {
        name: "address without a colon",
        edits: &[("bind: [\":8080\"]", "bind: [8080]")],
        edge: None,
        faults: &[
            "4:19: listeners.http.bind.0: \"8080\": not an address to listen on; write \":8080\"",
        ],
    },
    Case {
        name: "address with a name",
        edits: &[("127.0.0.1:9180", "localhost:9180")],
        edge: None,
        faults: &[
            "17:17: admin.bind.0: \"localhost:9180\": not an address to listen on; write \"127.0.0.1:9180\" or \"[::1]:9180\"",
        ],
    },
    Case {
        name: "port out of range",
        edits: &[("\":8080\"", "\":80800\"")],
        edge: None,
        faults: &[
            "4:19: listeners.http.bind.0: \":80800\": not an address to listen on; a port is 0 to 65535",
        ],
    },
    Case {
        name: "no address",
        edits: &[("bind: [\":8080\"]", "bind: []")],
        edge: None,
        faults: &[
            "4:12: listeners.http.bind: no address; add one: [\":8443\"]",
        ],
    },
    Case {
        name: "clash of two listeners",
        edits: &[("\":8080\"", "\"127.0.0.1:8443\"")],
        edge: None,
        faults: &[
            "4:19: listeners.http.bind: TCP port 8443 is taken by listeners.https.bind (:8443, line 3); choose another port, or addresses that do not overlap",
        ],
    },
    Case {
        name: "clash with admin",
        edits: &[("127.0.0.1:9180", "127.0.0.1:8080")],
        edge: None,
        faults: &[
            "17:17: admin.bind: TCP port 8080 is taken by listeners.http.bind (:8080, line 4); choose another port, or addresses that do not overlap",
        ],
    },
    Case {
        name: "clash with the default of admin",
        edits: &[("\":8080\"], redirect: https }", "\":9180\"], redirect: https }"), ("admin: { bind: [\"127.0.0.1:9180\"] }\n", "")],
        edge: None,
        faults: &[
            "4:19: listeners.http.bind: TCP port 9180 is taken by admin.bind (127.0.0.1:9180, the default); choose another port, or addresses that do not overlap",
        ],
    },
    Case {
        name: "clash on UDP",
        edits: &[("bind: [\":10000\"]", "bind: [\":10000\", \"0.0.0.0:10000\"]")],
        edge: None,
        faults: &[
            "5:27: media.bind: UDP port 10000 is taken by media.bind (:10000, line 5); choose another port, or addresses that do not overlap",
        ],
    },
    Case {
        name: "challenges over TLS",
        edits: &[("key: tls/key.pem } ] } }", "key: tls/key.pem } ] }, acme_challenge: acme }")],
        edge: None,
        faults: &[
            "3:98: listeners.https.acme_challenge: an authority asks over plain HTTP, and this listener has `tls`; move it to the listener on port 80",
        ],
    },
    Case {
        name: "challenges in no folder",
        edits: &[("redirect: https", "redirect: https, acme_challenge: nowhere")],
        edge: None,
        faults: &[
            "4:62: listeners.http.acme_challenge: nowhere is not a folder; mkdir -p nowhere; it is what `certbot certonly --webroot -w` is given",
        ],
    },
    Case {
        name: "unknown profile and unknown rule for names",
        edits: &[("tls: { cert", "tls: { profile: old, unknown_name: refuze, cert")],
        edge: None,
        faults: &[
            "3:45: listeners.https.tls.profile: \"old\": not a TLS profile; known: intermediate, modern",
            "3:64: listeners.https.tls.unknown_name: \"refuze\": not an answer to unknown names; did you mean \"refuse\"? known: default, refuse",
        ],
    },
    Case {
        name: "ticket keys that are none",
        edits: &[("tls: { cert", "tls: { tickets: { keys: \"file:short\", rotate: 30d }, cert")],
        edge: None,
        faults: &[
            "3:53: listeners.https.tls.tickets.keys: file:short: line 1 is not a key of 64 hexadecimal digits; one key a line, as from `openssl rand -hex 32`",
            "3:75: listeners.https.tls.tickets.rotate: \"30d\": out of range; 1m to 7d",
        ],
    },
    Case {
        name: "client certificates without authorities, in a header with a meaning",
        edits: &[("app: jitsi, pool: shards", "app: jitsi, pool: shards, client_certificate: { ca: tls/text.pem, header: Cookie }")],
        edge: None,
        faults: &[
            "7:75: sites.\"meet.example.com\".client_certificate.ca: tls/text.pem should hold a certificate and holds none; a PEM chain, leaf first",
            "7:97: sites.\"meet.example.com\".client_certificate.header: cookie has a meaning of its own; a name that nothing else uses, such as X-Client-Subject",
        ],
    },
    Case {
        name: "client certificates without TLS",
        edits: &[
            (", tls: { certificates: [ { cert: tls/cert.pem, key: tls/key.pem } ] } }", " }"),
            (", redirect: https", ""),
            ("app: jitsi, pool: shards", "app: jitsi, pool: shards, client_certificate: { ca: tls/ca.pem }"),
        ],
        edge: None,
        faults: &[
            "7:49: sites.\"meet.example.com\".client_certificate: no listener has `tls`, so no client can show a certificate; add `tls` to a listener, or remove `client_certificate`",
        ],
    },
    Case {
        name: "undefined pool",
        edits: &[("app: jitsi, pool: shards", "app: jitsi, pool: shrads")],
        edge: None,
        faults: &[
            "7:41: sites.\"meet.example.com\".pool: no pool is named \"shrads\"; did you mean \"shards\"? known: shards, workers",
        ],
    },
    Case {
        name: "embedded pool under jitsi",
        edits: &[("app: jitsi, pool: shards", "app: jitsi, pool: workers")],
        edge: None,
        faults: &[
            "7:41: sites.\"meet.example.com\".pool: `app: jitsi` needs a pool with HTTP `nodes`, and \"workers\" is not one; name such a pool; `app: conference` is for the embedded SFU",
        ],
    },
    Case {
        name: "embedded pool without a preset",
        edits: &[("{ pool: shards, room", "{ pool: workers, room")],
        edge: None,
        faults: &[
            "8:29: sites.\"api.example.com\".pool: only `app: conference` can live in an embedded pool, and \"workers\" is not one; add `app: conference`, or use HTTP nodes",
        ],
    },
    Case {
        name: "HTTP pool under a conference",
        edits: &[("pool: workers", "pool: shards")],
        edge: None,
        faults: &[
            "9:46: sites.\"*\".pool: `app: conference` needs a pool with `embedded`, and \"shards\" is not one; name such a pool: `workers: { embedded: auto }`",
        ],
    },
    Case {
        name: "unknown preset",
        edits: &[("app: jitsi", "app: jisti")],
        edge: None,
        faults: &[
            "7:28: sites.\"meet.example.com\".app: \"jisti\": not a preset; did you mean \"jitsi\"? known: jitsi, conference, livekit, janus, galene",
        ],
    },
    Case {
        name: "conference without auth",
        edits: &[("pool: workers, auth: open", "pool: workers")],
        edge: None,
        faults: &[
            "9:3: sites.\"*\": listener https is not on loopback, so `auth` must say who may join; `auth: open` (everybody), or `auth: { jwt: \"file:...\" }`",
        ],
    },
    Case {
        name: "auth where none belongs",
        edits: &[("app: jitsi, pool: shards", "app: jitsi, pool: shards, auth: open")],
        edge: None,
        faults: &[
            "7:49: sites.\"meet.example.com\": `auth` is for `app: conference`; remove it: these nodes decide who may join",
        ],
    },
    Case {
        name: "odd auth",
        edits: &[("auth: open", "auth: opne")],
        edge: None,
        faults: &[
            "9:61: sites.\"*\".auth: \"opne\" is not a rule of who may join; `open`, or `{ jwt: \"file:...\" }`",
        ],
    },
    Case {
        name: "secret in the file",
        edits: &[("auth: open", "auth: { jwt: hunter2 }")],
        edge: None,
        faults: &[
            "9:68: sites.\"*\".auth.jwt: expected the reference of a secret, found a value that is not shown; \"file:PATH\" or \"env:NAME\": a secret never stands in the file",
        ],
    },
    Case {
        name: "secret in a map",
        edits: &[("auth: open", "auth: { jwt: { value: hunter2 } }")],
        edge: None,
        faults: &[
            "9:68: sites.\"*\".auth.jwt: expected the reference of a secret, found a map; \"file:PATH\" or \"env:NAME\"",
        ],
    },
    Case {
        name: "media key in the file",
        edits: &[("advertise: auto }", "advertise: auto, key: hunter2 }")],
        edge: None,
        faults: &[
            "5:50: media.key: expected the reference of a secret, found a value that is not shown; \"file:PATH\" or \"env:NAME\": a secret never stands in the file",
        ],
    },
    Case {
        name: "secret that is not there",
        edits: &[("auth: open", "auth: { jwt: \"file:none\" }")],
        edge: None,
        faults: &[
            "9:68: sites.\"*\".auth.jwt: cannot read none: no such file or directory",
        ],
    },
    Case {
        name: "secret of an unset variable",
        edits: &[("auth: open", "auth: { jwt: \"env:ROOMGATE_TEST_NONE\" }")],
        edge: None,
        faults: &[
            "9:68: sites.\"*\".auth.jwt: the environment has no ROOMGATE_TEST_NONE; set ROOMGATE_TEST_NONE, or use `file:`",
        ],
    },
    Case {
        name: "secret too short",
        edits: &[("auth: open", "auth: { jwt: \"file:short\" }")],
        edge: None,
        faults: &[
            "9:68: sites.\"*\".auth.jwt: the secret in file:short has 7 bytes; at least 32 (RFC 7518 section 3.2), as from `openssl rand -hex 32`",
        ],
    },
    Case {
        name: "empty secret",
        edits: &[("auth: open", "auth: { jwt: \"file:empty\" }")],
        edge: None,
        faults: &[
            "9:68: sites.\"*\".auth.jwt: the secret is empty",
        ],
    },
    Case {
        name: "secret that is a folder",
        edits: &[("auth: open", "auth: { jwt: \"file:tls\" }")],
        edge: None,
        faults: &[
            "9:68: sites.\"*\".auth.jwt: cannot read tls: not a regular file",
        ],
    },
    Case {
        name: "short media key",
        edits: &[("advertise: auto }", "advertise: auto, key: \"file:media-short.key\" }")],
        edge: None,
        faults: &[
            "5:50: media.key: the key in file:media-short.key has 4 characters or is not hexadecimal; 32 hexadecimal digits, as from `openssl rand -hex 16`",
        ],
    },
    Case {
        name: "token too short",
        edits: &[("\"127.0.0.1:9180\"]", "\"127.0.0.1:9180\"], tokens: { ops: \"file:short\" }")],
        edge: None,
        faults: &[
            "17:51: admin.tokens.ops: the token in file:short has 7 characters; at least 16, as from `openssl rand -hex 32`",
        ],
    },
    Case {
        name: "admin for everybody",
        edits: &[("127.0.0.1:9180", "0.0.0.0:9180")],
        edge: None,
        faults: &[
            "17:17: admin: an address that is not loopback needs `tokens`; add `tokens: { NAME: \"file:...\" }`, or bind 127.0.0.1",
        ],
    },
    Case {
        name: "certificate that is not there",
        edits: &[("tls/cert.pem", "tls/none.pem")],
        edge: None,
        faults: &[
            "3:60: listeners.https.tls.certificates.0.cert: cannot read tls/none.pem: no such file or directory",
        ],
    },
    Case {
        name: "certificate that is text",
        edits: &[("tls/cert.pem", "tls/text.pem")],
        edge: None,
        faults: &[
            "3:60: listeners.https.tls.certificates.0.cert: tls/text.pem should hold a certificate and holds none; a PEM chain, leaf first",
        ],
    },
    Case {
        name: "certificate that is cut",
        edits: &[("tls/cert.pem", "tls/cut.pem")],
        edge: None,
        faults: &[
            "3:60: listeners.https.tls.certificates.0.cert: tls/cut.pem is not PEM: a section has no end; a PEM chain, leaf first",
        ],
    },
    Case {
        name: "key of another certificate",
        edits: &[("tls/key.pem", "tls/other-key.pem")],
        edge: None,
        faults: &[
            "3:79: listeners.https.tls.certificates.0.key: the key is not the certificate's; each certificate needs its own key",
        ],
    },
    Case {
        name: "key that is a certificate",
        edits: &[("tls/key.pem", "tls/cert.pem")],
        edge: None,
        faults: &[
            "3:79: listeners.https.tls.certificates.0.key: tls/cert.pem should hold a private key and holds none; a PEM key (PKCS#8, PKCS#1 or SEC1) that is not encrypted",
        ],
    },
    Case {
        name: "encrypted key",
        edits: &[("tls/key.pem", "tls/encrypted-key.pem")],
        edge: None,
        faults: &[
            "3:79: listeners.https.tls.certificates.0.key: tls/encrypted-key.pem should hold a private key and holds an encrypted key; a PEM key (PKCS#8, PKCS#1 or SEC1) that is not encrypted",
        ],
    },
    Case {
        name: "no certificate",
        edits: &[("[ { cert: tls/cert.pem, key: tls/key.pem } ]", "[]")],
        edge: None,
        faults: &[
            "3:36: listeners.https.tls.certificates: no certificate; add one, or say `tls: self-signed`",
        ],
    },
    Case {
        name: "odd tls",
        edits: &[("tls: { certificates: [ { cert: tls/cert.pem, key: tls/key.pem } ] }", "tls: selfsigned")],
        edge: None,
        faults: &[
            "3:34: listeners.https.tls: \"selfsigned\" is not a way to end TLS; `self-signed`, or `{ certificates: [ { cert: ..., key: ... } ] }`",
        ],
    },
    Case {
        name: "redirect to nowhere",
        edits: &[("tls: { certificates: [ { cert: tls/cert.pem, key: tls/key.pem } ] } }", "timeouts: { idle: 1m } }")],
        edge: None,
        faults: &[
            "4:39: listeners.http.redirect: no listener has `tls`; add one: `https: { bind: [\":8443\"], tls: self-signed }`",
        ],
    },
    Case {
        name: "redirect of HTTPS",
        edits: &[("key: tls/key.pem } ] } }", "key: tls/key.pem } ] }, redirect: https }")],
        edge: None,
        faults: &[
            "3:108: listeners.https: a listener with `tls` cannot redirect to HTTPS: it is HTTPS; remove `redirect` or `tls`",
        ],
    },
    Case {
        name: "name of a site in capitals",
        edits: &[("meet.example.com", "Meet.Example.com")],
        edge: None,
        faults: &[
            "7:3: sites: \"Meet.Example.com\" is not a host name; browsers send \"meet.example.com\"",
        ],
    },
    Case {
        name: "name of a site with a port",
        edits: &[("meet.example.com", "meet.example.com:443")],
        edge: None,
        faults: &[
            "7:3: sites: \"meet.example.com:443\" is not a host name; without the port: \"meet.example.com\"",
        ],
    },
    Case {
        name: "wildcard within a name",
        edits: &[("meet.example.com", "\"meet.*.example.com\"")],
        edge: None,
        faults: &[
            "7:3: sites: \"meet.*.example.com\" is not a host name; \"*.\" stands at the beginning, or \"*\" alone for every other host",
        ],
    },
    Case {
        name: "name of a pool",
        edits: &[("  workers: {", "  my workers: {"), ("pool: workers", "pool: my workers")],
        edge: None,
        faults: &[
            "15:3: pools: \"my workers\" is not a name; 1 to 64 letters, digits, \".\", \"_\" or \"-\", a letter or digit first",
        ],
    },
    Case {
        name: "odd room rule",
        edits: &[("{ query: room }", "{ parameter: room }")],
        edge: None,
        faults: &[
            "8:47: unknown key \"parameter\" in sites.\"api.example.com\".room.0; known: query, path, header, cookie, text, jwt",
        ],
    },
    Case {
        name: "two keys in a rule",
        edits: &[("{ query: room }, { path: last }", "{ query: room, path: last }")],
        edge: None,
        faults: &[
            "8:45: sites.\"api.example.com\".room.0: a rule has one key, this one has 2; `{ query: NAME }`, `{ path: last }`, `{ header: NAME }`, `{ cookie: NAME }`, `jitsi` or `conference`",
        ],
    },
    Case {
        name: "empty rule",
        edits: &[("{ query: room }", "{}")],
        edge: None,
        faults: &[
            "8:45: sites.\"api.example.com\".room.0: a rule has one key, this one has 0; `{ query: NAME }`, `{ path: last }`, `{ header: NAME }`, `{ cookie: NAME }`, `jitsi` or `conference`",
        ],
    },
    Case {
        name: "odd part of the path",
        edits: &[("path: last", "path: second")],
        edge: None,
        faults: &[
            "8:70: sites.\"api.example.com\".room.1.path: \"second\": not a part of the path; known: last, first",
        ],
    },
    Case {
        name: "rule of a conference",
        edits: &[("auth: open", "auth: open, room: [ { query: room } ]")],
        edge: None,
        faults: &[
            "9:75: sites.\"*\".room: a conference names its room in the path, /rooms/ROOM; remove `room`",
        ],
    },
    Case {
        name: "odd weight",
        edits: &[("\"http://127.0.0.1:9001\"", "{ url: \"http://127.0.0.1:9001\", weight: heavy }")],
        edge: None,
        faults: &[
            "12:58: pools.shards.nodes.s1.weight: expected a whole number, found \"heavy\"; 0 to 10000",
        ],
    },
    Case {
        name: "pool of both kinds",
        edits: &[("sticky: { linger: 5m }", "embedded: 2")],
        edge: None,
        faults: &[
            "11:3: pools.shards has both `nodes` and `embedded`; make two pools of it",
        ],
    },
    Case {
        name: "pool of no kind",
        edits: &[("embedded: auto", "sticky: { linger: 1m }")],
        edge: None,
        faults: &[
            "15:3: pools.workers has neither `nodes` nor `embedded`; HTTP services: `nodes: { ... }`; the embedded SFU: `embedded: auto`",
        ],
    },
    Case {
        name: "too many workers",
        edits: &[("embedded: auto", "embedded: 65")],
        edge: None,
        faults: &[
            "15:24: pools.workers.embedded: \"65\" is not a number of workers; `auto` (one per core), or 1 to 64",
        ],
    },
    Case {
        name: "two embedded pools",
        edits: &[("  workers: {", "  more: { embedded: 2 }\n  workers: {")],
        edge: None,
        faults: &[
            "16:14: a second embedded pool: a process has one set of workers; let several sites share one pool: their rooms stay apart",
        ],
    },
    Case {
        name: "embedded without media",
        edits: &[("media: { bind: [\":10000\"], advertise: auto }\n", "")],
        edge: None,
        faults: &[
            "14:14: an embedded pool without `media`: no packet would reach it; add `media: { bind: [\":10000\"] }`",
        ],
    },
    Case {
        name: "media without embedded",
        edits: &[("  workers: { embedded: auto }\n", ""), ("app: conference, pool: workers, auth: open", "pool: shards")],
        edge: None,
        faults: &[
            "5:1: media: no pool is embedded, so nothing is reached through it; remove it, or add a pool with `embedded: auto`",
        ],
    },
    Case {
        name: "address for everybody told to clients",
        edits: &[("advertise: auto", "advertise: [\"0.0.0.0\"]")],
        edge: None,
        faults: &[
            "5:40: media.advertise.0: \"0.0.0.0\": no client can send to it; the address of one machine",
        ],
    },
    Case {
        name: "odd store",
        edits: &[("store: memory", "store: { etcd: { endpoints: [] } }")],
        edge: None,
        faults: &[
            "16:8: store: expected a store, found a map; known: memory",
        ],
    },
    Case {
        name: "store by another name",
        edits: &[("store: memory", "store: mem")],
        edge: None,
        faults: &[
            "16:8: store: \"mem\": not a store; known: memory",
        ],
    },
    Case {
        name: "unknown edge",
        edits: &[("store: memory", "store: memory\nedges: { edge-a: { id: 1, public: [203.0.113.1] } }")],
        edge: Some("edge-b"),
        faults: &[
            "17:1: no edge is named \"edge-b\"; did you mean \"edge-a\"? known: edge-a",
        ],
    },
    Case {
        name: "edge not said",
        edits: &[("store: memory", "store: memory\nedges: { edge-a: { id: 1, public: [203.0.113.1] } }")],
        edge: None,
        faults: &[
            "17:1: the file has `edges`, and nothing says which one this is; say `--edge NAME`; known: edge-a",
        ],
    },
    Case {
        name: "edge without edges",
        edits: &[("store: memory", "store: memory")],
        edge: Some("edge-a"),
        faults: &[
            "1:1: the file has no `edges`, so it has no edge \"edge-a\"; leave `--edge` out",
        ],
    },
    Case {
        name: "two edges of one id",
        edits: &[("store: memory", "store: memory\nedges: { a: { id: 1 }, b: { id: 1, public: [x] } }")],
        edge: Some("a"),
        faults: &[
            "15:14: an embedded pool on several edges needs a shared store: with `store: memory` a room would live on each edge once more; keep one edge in `edges`, or use pools of HTTP nodes",
            "17:10: edges.a has no `public`, and `media.advertise` is auto; add `public`: the addresses that clients reach this edge at",
            "17:33: edges.b: id 1 is that of a; each edge has its own id: it is part of every ICE ufrag",
            "17:45: edges.b.public.0: \"x\": not an IP address; \"203.0.113.10\" or \"2001:db8::10\"",
        ],
    },
    Case {
        name: "embedded on several edges",
        edits: &[("store: memory", "store: memory\nedges: { a: { id: 1, public: [203.0.113.1] }, b: { id: 2, public: [203.0.113.2] } }")],
        edge: Some("a"),
        faults: &[
            "15:14: an embedded pool on several edges needs a shared store: with `store: memory` a room would live on each edge once more; keep one edge in `edges`, or use pools of HTTP nodes",
        ],
    },
    Case {
        name: "auto without public",
        edits: &[("store: memory", "store: memory\nedges: { a: { id: 1 } }")],
        edge: Some("a"),
        faults: &[
            "17:10: edges.a has no `public`, and `media.advertise` is auto; add `public`: the addresses that clients reach this edge at",
        ],
    },
];
