//! Pools that make no sense: nodes without a place, checks of what is not there, TLS that cannot be.

use super::broken::Case;

#[rustfmt::skip]
pub(super) const POOLS: &[Case] = &[
    Case {
        name: "timeout longer than every",
        edits: &[("timeout: 1s", "timeout: 3s")],
        edge: None,
        faults: &[
            "13:55: pools.shards.check: timeout (3s) is longer than every (2s); a check ends before the next one begins: at most `every`, better half of it",
        ],
    },
    Case {
        name: "node over something else",
        edits: &[("http://127.0.0.1:9001", "udp://127.0.0.1:9001")],
        edge: None,
        faults: &[
            "12:18: pools.shards.nodes.s1: \"udp://127.0.0.1:9001\": scheme must be http, https or tcp; \"http://10.0.1.11:80\", \"https://10.0.1.11:443\" or \"tcp://10.0.0.30:5349\"",
        ],
    },
    Case {
        name: "client certificate without its key",
        edits: &[("sticky: { linger: 5m }", "tls: { cert: tls/cert.pem }"), ("http://127.0.0.1:9001", "https://127.0.0.1:9001")],
        edge: None,
        faults: &[
            "14:12: pools.shards.tls has `cert` and no `key`; add the certificate's `key`",
        ],
    },
    Case {
        name: "key of another client certificate",
        edits: &[("sticky: { linger: 5m }", "tls: { cert: tls/cert.pem, key: tls/other-key.pem }"), ("http://127.0.0.1:9001", "https://127.0.0.1:9001")],
        edge: None,
        faults: &[
            "14:37: pools.shards.tls.key: the key is not the certificate's; each certificate needs its own key",
        ],
    },
    Case {
        name: "authority that is none",
        edits: &[("sticky: { linger: 5m }", "tls: { ca: tls/text.pem }"), ("http://127.0.0.1:9001", "https://127.0.0.1:9001")],
        edge: None,
        faults: &[
            "14:16: pools.shards.tls.ca: tls/text.pem should hold a certificate and holds none; a PEM chain, leaf first",
        ],
    },
    Case {
        name: "TLS and protocol of embedded workers",
        edits: &[("workers: { embedded: auto }", "workers: { embedded: auto, protocol: h2, tls: { verify: true } }")],
        edge: None,
        faults: &[
            "15:40: pools.workers: embedded workers are not reached by HTTP; remove `protocol`",
            "15:44: pools.workers: embedded workers are not reached over TLS; remove `tls`; certificates for clients stand in `listeners`",
        ],
    },
    Case {
        name: "node with a path",
        edits: &[("http://127.0.0.1:9001", "http://127.0.0.1:9001/app")],
        edge: None,
        faults: &[
            "12:18: pools.shards.nodes.s1: \"http://127.0.0.1:9001/app\": not the URL of a node; only host and port: requests keep their own path",
        ],
    },
    Case {
        name: "node without a scheme",
        edits: &[("\"http://127.0.0.1:9001\"", "10.0.0.1")],
        edge: None,
        faults: &[
            "12:18: pools.shards.nodes.s1: \"10.0.0.1\": not the URL of a node; write \"http://10.0.0.1\"",
        ],
    },
    Case {
        name: "node without a place",
        edits: &[("s1: \"http://127.0.0.1:9001\"", "s1: { web: 80 }")],
        edge: None,
        faults: &[
            "12:14: pools.shards.nodes.s1 has neither `url` nor `host`; `url: \"http://10.0.1.11:80\"`, or `host: 10.0.1.11` with services such as `web: 80`",
        ],
    },
    Case {
        name: "node with two places",
        edits: &[("s1: \"http://127.0.0.1:9001\"", "s1: { url: \"http://127.0.0.1:9001\", host: 127.0.0.1 }")],
        edge: None,
        faults: &[
            "12:20: pools.shards.nodes.s1 has both `url` and `host`; keep `host`, and write the port as `web`",
        ],
    },
    Case {
        name: "node without a service",
        edits: &[("app: jitsi, ", ""), ("s1: \"http://127.0.0.1:9001\"", "s1: { host: 127.0.0.1, region: eu }")],
        edge: None,
        faults: &[
            "12:14: pools.shards.nodes.s1 has no service; name its port: `web: 80`",
        ],
    },
    Case {
        name: "service named twice",
        edits: &[("s1: \"http://127.0.0.1:9001\"", "s1: { url: \"http://127.0.0.1:9001\", web: 80 }")],
        edge: None,
        faults: &[
            "12:50: pools.shards.nodes.s1 names its service \"web\" twice; a URL is the service `web`; each service is named once",
        ],
    },
    Case {
        name: "service without a port",
        edits: &[("s1: \"http://127.0.0.1:9001\"", "s1: { host: 127.0.0.1, web: 80, prosody: 70000 }")],
        edge: None,
        faults: &[
            "12:55: pools.shards.nodes.s1.prosody: \"70000\": not a port; 1 to 65535",
        ],
    },
    Case {
        name: "host with a port",
        edits: &[("s1: \"http://127.0.0.1:9001\"", "s1: { host: \"127.0.0.1:80\", web: 80 }")],
        edge: None,
        faults: &[
            "12:26: pools.shards.nodes.s1.host: \"127.0.0.1:80\": not the host of a node; without a port: each service has its own, as in `web: 80`",
        ],
    },
    Case {
        name: "region that is no name",
        edits: &[("version: 1", "version: 1\nregion: \"the west\"")],
        edge: None,
        faults: &[
            "2:9: region: \"the west\": not a name; 1 to 64 letters, digits, \".\", \"_\" or \"-\", a letter or digit first",
        ],
    },
    Case {
        name: "check of a service that a node lacks",
        edits: &[("app: jitsi, ", ""), ("s1: \"http://127.0.0.1:9001\"", "s1: { host: 127.0.0.1, prosody: 5280 }")],
        edge: None,
        faults: &[
            "13:14: pools.shards.check.http: node s1 has no service \"web\"; name its port there: `web: PORT`",
        ],
    },
    Case {
        name: "check that asks nothing",
        edits: &[("http: /about/health, ", "")],
        edge: None,
        faults: &[
            "13:5: pools.shards.check asks nothing; add `http: /path`, `bosh: SERVICE` or `jicofo: SERVICE`",
        ],
    },
    Case {
        name: "BOSH of nodes that have none",
        edits: &[("http: /about/health, ", "bosh: prosody, jicofo: { service: jicofo, path: /health }, ")],
        edge: None,
        faults: &[
            "13:20: pools.shards.check.bosh: node s1 has no service \"prosody\"; name its port there: `prosody: PORT`",
            "13:48: pools.shards.check.jicofo: node s1 has no service \"jicofo\"; name its port there: `jicofo: PORT`",
        ],
    },
    Case {
        name: "status that is none",
        edits: &[("http: /about/health", "http: { path: /about/health, status: 99 }")],
        edge: None,
        faults: &[
            "13:51: pools.shards.check.http.status: \"99\": out of range; 100 to 599",
        ],
    },
    Case {
        name: "no node",
        edits: &[("{ s1: \"http://127.0.0.1:9001\", s2: \"http://127.0.0.1:9002\", s3: \"http://127.0.0.1:9003\" }", "{}")],
        edge: None,
        faults: &[
            "12:5: pools.shards.nodes: no node; add one: `s1: \"http://10.0.1.11:80\"`",
        ],
    },
    Case {
        name: "check path without a slash",
        edits: &[("/about/health", "about/health")],
        edge: None,
        faults: &[
            "13:20: pools.shards.check.http: \"about/health\": not a path; write \"/about/health\"",
        ],
    },
    Case {
        name: "check of an embedded pool",
        edits: &[("embedded: auto", "embedded: auto, check: { http: /x }")],
        edge: None,
        faults: &[
            "15:30: pools.workers: embedded workers check themselves; remove `check`; see `media.selftest`",
        ],
    },
];
