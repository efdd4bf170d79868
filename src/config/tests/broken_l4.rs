//! Files whose front door below HTTP makes no sense: TCP pools, passed names, PROXY headers, trusted networks.

use super::broken::Case;

#[rustfmt::skip]
pub(super) const L4: &[Case] = &[
    Case {
        name: "tcp with tls",
        edits: &[("tls: { certificates: [ { cert: tls/cert.pem, key: tls/key.pem } ] } }", "tls: self-signed, tcp: relay }"), ("  workers: {", "  relay: { nodes: { a: \"tcp://h:1\" } }\n  workers: {")],
        edge: None,
        faults: &[
            "3:47: listeners.https: `tcp` passes every byte on as it is, so `tls` has nothing to do; remove `tcp` or `tls`",
        ],
    },
    Case {
        name: "tcp with a redirect, to no pool",
        edits: &[("redirect: https", "redirect: https, tcp: relay")],
        edge: None,
        faults: &[
            "4:46: listeners.http: `tcp` passes every byte on as it is, so `redirect` has nothing to do; remove `tcp` or `redirect`",
            "4:51: listeners.http.tcp: no pool is named \"relay\"; known: shards, workers",
        ],
    },
    Case {
        name: "tcp to an HTTP pool",
        edits: &[("redirect: https", "tcp: shards")],
        edge: None,
        faults: &[
            "4:34: listeners.http.tcp: \"shards\" is not a pool of TCP nodes; name such a pool: `coturn: { nodes: { t1: \"tcp://10.0.0.30:5349\" } }`",
        ],
    },
    Case {
        name: "a site on a TCP pool",
        edits: &[("pool: shards, room", "pool: relay, room"), ("  workers: {", "  relay: { nodes: { a: \"tcp://h:1\" } }\n  workers: {")],
        edge: None,
        faults: &[
            "8:29: sites.\"api.example.com\".pool: a site needs a pool with HTTP `nodes`, and \"relay\" is not one; name such a pool; TCP nodes are for `tcp` of a listener",
        ],
    },
    Case {
        name: "HTTP and TCP nodes in one pool",
        edits: &[("s2: \"http://", "s2: \"tcp://")],
        edge: None,
        faults: &[
            "12:47: pools.shards.nodes.s2: HTTP and TCP nodes in one pool; make two pools of it",
        ],
    },
    Case {
        name: "a TCP node with what HTTP nodes have",
        edits: &[("  workers: {", "  relay: { nodes: { a: { url: \"tcp://h:1\", prosody: 5280, region: x }, b: { host: h, web: 80 } } }\n  workers: {")],
        edge: None,
        faults: &[
            "15:44: pools.relay.nodes.a: a TCP node has no `prosody`; remove `prosody`",
            "15:83: pools.relay.nodes.b: HTTP and TCP nodes in one pool; make two pools of it",
        ],
    },
    Case {
        name: "a TCP pool with what HTTP pools have",
        edits: &[("s1: \"http:", "s1: \"tcp:"), ("s2: \"http:", "s2: \"tcp:"), ("s3: \"http:", "s3: \"tcp:"), ("  meet.example.com: { app: jitsi, pool: shards }\n", ""), ("pool: shards, room: [ { query: room }, { path: last } ]", "app: conference, pool: workers, auth: open")],
        edge: None,
        faults: &[
            "12:14: pools.shards.check: a TCP node does not speak HTTP; write `tcp: connect` in its place",
            "13:23: pools.shards: a TCP pool has no rooms that could stick; remove `sticky`",
        ],
    },
    Case {
        name: "an HTTP pool with what TCP pools have",
        edits: &[("http: /about/health,", "tcp: connect,"), ("sticky: {", "timeouts: { connect: 1s }\n    sticky: {")],
        edge: None,
        faults: &[
            "13:14: pools.shards.check: `tcp` is for pools of TCP nodes; remove it: every other check connects, too",
            "14:26: pools.shards.timeouts: they are those of TCP pools; requests have the `timeouts` of their site",
        ],
    },
    Case {
        name: "passthrough and turn without tls",
        edits: &[("redirect: https", "turn: true, passthrough: { a.example.com: relay }"), ("  workers: {", "  relay: { nodes: { a: \"tcp://h:1\" } }\n  workers: {")],
        edge: None,
        faults: &[
            "4:35: listeners.http: `turn` looks inside TLS, and this listener has no `tls`; add `tls`, or remove `turn`",
            "4:41: listeners.http: `passthrough` goes by the name in a ClientHello, and this listener has no `tls`; add `tls`; for every byte of a plain listener, `tcp: POOL`",
        ],
    },
    Case {
        name: "passthrough of names that are none, to pools that are none",
        edits: &[("cert: tls/cert.pem, key: tls/key.pem } ] } }", "cert: tls/cert.pem, key: tls/key.pem } ] }, passthrough: { \"*\": shards, 10.0.0.1: shards, A.example.com: relay } }")],
        edge: None,
        faults: &[
            "3:113: listeners.https.passthrough: \"*\" is not a name that clients ask for; \"turn.example.com\", or \"*.example.com\" for one label in front",
            "3:118: listeners.https.passthrough.\"*\": \"shards\" is not a pool of TCP nodes; name such a pool: `coturn: { nodes: { t1: \"tcp://10.0.0.30:5349\" } }`",
            "3:126: listeners.https.passthrough: \"10.0.0.1\" is not a name that clients ask for; \"turn.example.com\", or \"*.example.com\" for one label in front",
            "3:136: listeners.https.passthrough.\"10.0.0.1\": \"shards\" is not a pool of TCP nodes; name such a pool: `coturn: { nodes: { t1: \"tcp://10.0.0.30:5349\" } }`",
            "3:144: listeners.https.passthrough: \"A.example.com\" is not a host name; browsers send \"a.example.com\"",
            "3:159: listeners.https.passthrough.\"A.example.com\": no pool is named \"relay\"; known: shards, workers",
        ],
    },
    Case {
        name: "a PROXY header from nobody, and networks that are none",
        edits: &[("redirect: https", "redirect: https, proxy_protocol: { from: [] }"), ("store: memory", "store: memory\ntrusted: [10.0.0.1/8, example.com]")],
        edge: None,
        faults: &[
            "4:64: listeners.http.proxy_protocol.from: no network; add one: [\"10.0.0.0/8\"]",
            "17:11: trusted.0: \"10.0.0.1/8\": an address within a network; write \"10.0.0.0/8\"",
            "17:23: trusted.1: \"example.com\": not a network; \"10.0.0.0/8\", \"2001:db8::/32\", or one address: \"192.0.2.7\"",
        ],
    },
    Case {
        name: "another version of the PROXY protocol, and embedded workers",
        edits: &[("sticky: { linger: 5m }", "proxy_protocol: v1"), ("embedded: auto", "embedded: auto, proxy_protocol: v2")],
        edge: None,
        faults: &[
            "14:21: pools.shards.proxy_protocol: \"v1\": not a version of the PROXY protocol that is written; did you mean \"v2\"? known: v2",
            "15:30: pools.workers: embedded workers are not connected to; remove `proxy_protocol`",
        ],
    },
];
