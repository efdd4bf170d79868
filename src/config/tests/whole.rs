//! What a good file becomes.

use std::time::Duration;

use super::{ISSUE, folder, load};
use crate::config::settings::{
    Advertise, App, Auth, CheckSettings, PathRule, PoolNodes, Probe, ProbeKind, Protocol, RoomRule, Service,
    StoreSettings, TlsSettings,
};
use crate::config::{load_demo, restart_needed};

#[test]
fn the_file_of_the_documentation_loads() {
    let dir = folder();
    let path = dir.path().join("roomgate.yaml");
    std::fs::write(&path, ISSUE).unwrap();
    let loaded = crate::config::load(&path, None).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.warnings, vec![]);
    let s = loaded.settings;
    assert_eq!((s.edge.name, s.edge.id), (None, 0));
    let https = &s.listeners["https"];
    assert_eq!(https.bind, ["[::]:8443".parse().unwrap()]);
    let Some(TlsSettings::Certificates(files)) = &https.tls else { panic!("{https:?}") };
    assert_eq!(files.files[0].cert, dir.path().join("tls/cert.pem"));
    assert_eq!(s.listeners["http"].redirect.as_ref().map(|r| r.port), Some(8443));
    let media = s.media.unwrap();
    assert_eq!((media.advertise, media.key), (Advertise::Auto, None));
    assert_eq!(s.sites.find("meet.example.com").unwrap().app, App::Nodes);
    assert_eq!(s.sites.find("meet.example.com").unwrap().rest.room, [RoomRule::Jitsi]);
    let rules = [RoomRule::Query("room".into()), RoomRule::Path(PathRule::Last)];
    assert_eq!(s.sites.find("api.example.com").unwrap().rest.room, rules);
    assert_eq!(s.sites.find("any").unwrap().app, App::Conference { auth: Auth::Open });
    let PoolNodes::Http { nodes, check: Some(check) } = &s.pools["shards"].nodes else { panic!() };
    assert_eq!(
        (nodes.len(), &*nodes["s2"].host, nodes["s2"].only_web().unwrap().port, nodes["s2"].weight),
        (3, "127.0.0.1", 9002, 100)
    );
    assert_eq!(*check, CheckSettings::http("/about/health"));
    assert_eq!(s.pools["shards"].sticky.linger, Duration::from_secs(300));
    assert_eq!(s.pools["workers"].nodes, PoolNodes::Embedded { workers: None });
    assert_eq!(s.store, StoreSettings::Memory);
}

#[test]
fn a_node_may_be_a_host_with_services_and_labels() {
    let dir = folder();
    let text = ISSUE
        .replace("app: jitsi, ", "")
        .replace("version: 1\n", "version: 1\nregion: eu-central\n")
        .replace(
            "s1: \"http://127.0.0.1:9001\"",
            "s1: { host: 10.0.1.11, web: 80, prosody: 5280, jicofo: 8888, services: { sidecar: 6000 }, \
             region: eu-central, release: 1234 }",
        )
        .replace("s2: \"http://127.0.0.1:9002\"", "s2: { url: \"http://[::1]:90\", ws: 91, weight: 7 }");
    let loaded = load(&text, dir.path(), None).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.warnings, vec![]);
    assert_eq!(loaded.settings.edge.region.as_deref(), Some("eu-central"));
    let pool = &loaded.settings.pools["shards"];
    assert_eq!(pool.region.as_deref(), Some("eu-central"));
    let PoolNodes::Http { nodes, .. } = &pool.nodes else { panic!() };
    let services = |node: &str| -> Vec<(String, u16)> {
        nodes[node].services.iter().map(|(name, service)| (name.to_string(), service.port)).collect()
    };
    let expected = [("jicofo", 8888), ("prosody", 5280), ("sidecar", 6000), ("web", 80)];
    assert_eq!(services("s1"), expected.map(|(name, port)| (name.to_owned(), port)));
    assert_eq!(services("s2"), [("web".to_owned(), 90), ("ws".to_owned(), 91)].map(|(n, p)| (n.clone(), p)));
    let s1 = &nodes["s1"];
    let labels = (s1.region.as_deref(), s1.release.as_deref(), s1.weight);
    assert_eq!((labels, &*s1.host), ((Some("eu-central"), Some("1234"), 100), "10.0.1.11"));
    assert_eq!((&*nodes["s2"].host, nodes["s2"].weight), ("::1", 7));
    assert_eq!(pool.without_service("prosody").map(|name| &**name), Some("s2"));
    let again = load(&loaded.effective, dir.path(), None).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!((loaded.settings, loaded.effective), (again.settings, again.effective));
}

#[test]
fn a_check_lists_what_must_pass() {
    let dir = folder();
    let host = |n| format!("s{n}: {{ host: 10.0.1.1{n}, web: 80, prosody: 5280, jicofo: 8888 }}");
    let text = ISSUE
        .replace(
            "{ s1: \"http://127.0.0.1:9001\", s2: \"http://127.0.0.1:9002\", s3: \"http://127.0.0.1:9003\" }",
            &format!("{{ {}, {} }}", host(1), host(2)),
        )
        .replace(
            "http: /about/health,",
            "bosh: { service: prosody, host: meet.example.com }, jicofo: jicofo, \
             http: { path: /x, status: 204, body: \"ok\", service: web },",
        );
    let loaded = load(&text, dir.path(), None).unwrap_or_else(|faults| panic!("{faults}"));
    let PoolNodes::Http { check: Some(check), .. } = &loaded.settings.pools["shards"].nodes else { panic!() };
    let probe = |kind, service: &str, path: &str, host: Option<&str>| Probe {
        kind,
        service: service.into(),
        path: path.into(),
        host: host.map(Into::into),
    };
    let http = ProbeKind::Http { status: Some(204), body: Some("ok".into()) };
    let expected = [
        probe(http, "web", "/x", None),
        probe(ProbeKind::Bosh, "prosody", "/http-bind", Some("meet.example.com")),
        probe(ProbeKind::Jicofo, "jicofo", "/about/health", None),
    ];
    assert_eq!(check.probes, expected);
    let again = load(&loaded.effective, dir.path(), None).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!((loaded.settings, loaded.effective), (again.settings, again.effective));
}

#[test]
fn tls_to_nodes_is_read_from_its_files() {
    let dir = folder();
    let text = ISSUE
        .replace("s1: \"http://127.0.0.1:9001\"", "s1: { host: s1.test, web: \"https:443\", ws: 90, prosody: 5280, jicofo: 8888 }")
        .replace("s2: \"http://127.0.0.1:9002\"", "s2: \"https://s2.test\"")
        .replace(
            "sticky: { linger: 5m }",
            "protocol: h2\n    tls: { ca: tls/cert.pem, sni: nodes.test, cert: tls/cert.pem, key: tls/key.pem }",
        );
    let loaded = load(&text, dir.path(), None).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.warnings, vec![]);
    let pool = &loaded.settings.pools["shards"];
    let PoolNodes::Http { nodes, .. } = &pool.nodes else { panic!() };
    let tls = |port| Service { port, tls: true };
    assert_eq!((nodes["s1"].services["web"], nodes["s1"].services["ws"]), (tls(443), Service::plain(90)));
    assert_eq!(nodes["s2"].only_web(), Some(tls(443)));
    assert_eq!(
        (pool.protocol, pool.tls.verify, pool.tls.sni.as_deref()),
        (Protocol::H2, true, Some("nodes.test"))
    );
    assert_eq!(pool.tls.ca.as_ref().unwrap().certificates.len(), 1);
    assert_eq!(pool.tls.client.as_ref().unwrap().files.key, dir.path().join("tls/key.pem"));
    assert!(!format!("{:?}", pool.tls.client).contains("302e"), "the key is not shown");
    let again = load(&loaded.effective, dir.path(), None).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!((loaded.settings.clone(), loaded.effective), (again.settings, again.effective));
    // Other bytes in the same file are another policy.
    std::fs::copy(dir.path().join("tls/cert-again.pem"), dir.path().join("tls/cert.pem")).unwrap();
    let other = load(&text, dir.path(), None).unwrap_or_else(|faults| panic!("{faults}"));
    assert_ne!(other.settings.pools["shards"].tls, loaded.settings.pools["shards"].tls);
    for (from, to, warning) in [
        ("sni: nodes.test", "verify: false", "whoever is between may pretend to be a node"),
        ("\"https:443\"", "443", ""),
        ("\"https://s2.test\"", "\"http://s2.test\"", "no node of the pool is reached over TLS"),
    ] {
        let text =
            if from == "\"https://s2.test\"" { text.replace("\"https:443\"", "443") } else { text.clone() };
        let loaded =
            load(&text.replace(from, to), dir.path(), None).unwrap_or_else(|faults| panic!("{faults}"));
        let warnings: Vec<String> = loaded.warnings.iter().map(crate::config::Fault::one_line).collect();
        assert_eq!(warnings.len(), usize::from(!warning.is_empty()), "{warnings:?}");
        assert!(warnings.iter().all(|found| found.contains(warning)), "{warnings:?}");
    }
}

#[test]
fn an_edge_stands_in_its_own_region_or_in_that_of_the_file() {
    let dir = folder();
    let edges = "region: eu\nedges:\n  a: { id: 1, public: [203.0.113.1] }\n  b: { id: 2, region: us }\n";
    let text = ISSUE
        .replace("  workers: { embedded: auto }\n", "")
        .replace("media: { bind: [\":10000\"], advertise: auto }\n", edges)
        .replace("app: conference, pool: workers, auth: open", "pool: shards")
        .replace("s1: \"http://127.0.0.1:9001\"", "s1: { url: \"http://127.0.0.1:9001\", region: us }");
    for (edge, region) in [("a", "eu"), ("b", "us")] {
        let loaded = load(&text, dir.path(), Some(edge)).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(loaded.settings.edge.region.as_deref(), Some(region));
        assert_eq!(loaded.settings.pools["shards"].region.as_deref(), Some(region));
        let warnings: Vec<String> = loaded.warnings.iter().map(crate::config::Fault::one_line).collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("a room that is entered through two regions is split"), "{warnings:?}");
        let again =
            load(&loaded.effective, dir.path(), Some(edge)).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!((loaded.settings, loaded.effective), (again.settings, again.effective));
    }
    let one = text.replace("region: us }\n", "region: eu }\n");
    let loaded = load(&one, dir.path(), Some("b")).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.warnings, vec![], "one region: all edges choose alike");
}

#[test]
fn the_demo_loads_without_a_warning() {
    let loaded = load_demo(None).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.warnings, vec![]);
    assert_eq!(loaded.settings.listeners["https"].tls, Some(TlsSettings::SelfSigned));
    assert_eq!(loaded.text, crate::config::DEMO);
}

#[test]
fn the_effective_text_is_stable_and_gives_the_same_settings() {
    let dir = folder();
    let full = super::example::uncommented();
    for (text, edge) in [(ISSUE, None), (crate::config::DEMO, None), (&full, Some("edge-a"))] {
        let first = load(text, dir.path(), edge).unwrap_or_else(|faults| panic!("{faults}"));
        let again = load(&first.effective, dir.path(), edge).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(first.settings, again.settings);
        assert_eq!(first.effective, again.effective);
        assert_eq!(restart_needed(&first.settings, &again.settings), Vec::<String>::new());
    }
}

#[test]
fn secrets_are_read_and_shown_only_as_their_references() {
    let dir = folder();
    let text = ISSUE
        .replace("advertise: auto", "advertise: auto, key: \"file:media.key\"")
        .replace("auth: open", "auth: { jwt: \"file:jwt.secret\" }")
        .replace("\"127.0.0.1:9180\"]", "\"0.0.0.0:9180\"], tokens: { ops: \"file:ops.token\" }");
    let loaded = load(&text, dir.path(), None).unwrap_or_else(|faults| panic!("{faults}"));
    let key = loaded.settings.media.as_ref().and_then(|media| media.key.clone()).unwrap();
    assert_eq!(key.expose(), (0..16).collect::<Vec<u8>>());
    let Some(site) = &loaded.settings.sites.any else { panic!() };
    let App::Conference { auth: Auth::Jwt(secret) } = &site.app else { panic!() };
    assert_eq!(secret.expose(), b"0123456789abcdef0123456789abcdef");
    let token = &loaded.settings.admin.tokens["ops"];
    assert_eq!(token.expose(), b"0123456789abcdef");
    let shown = format!("{}{:?}{token}", loaded.effective, loaded.settings);
    for value in ["0001020304", "0123456789abcdef", "[0, 1, 2, 3"] {
        assert!(!shown.contains(value), "{shown}");
    }
    for reference in ["file:media.key", "file:jwt.secret", "file:ops.token"] {
        assert!(loaded.effective.contains(reference), "{}", loaded.effective);
    }
}

#[test]
fn an_edge_has_its_own_identity_and_check_covers_them_all() {
    let dir = folder();
    let edges = "edges:\n  a: { id: 1, public: [203.0.113.1] }\n  b: { id: 2, public: [\"2001:db8::2\"] }\n";
    let http = ISSUE
        .replace("  workers: { embedded: auto }\n", "")
        .replace("media: { bind: [\":10000\"], advertise: auto }\n", edges);
    let http = http.replace("app: conference, pool: workers, auth: open", "pool: shards");
    let loaded = load(&http, dir.path(), Some("b")).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!((loaded.settings.edge.name.as_deref(), loaded.settings.edge.id), (Some("b"), 2));
    assert_eq!(loaded.settings.edge.public, ["2001:db8::2".parse::<std::net::IpAddr>().unwrap()]);
    let path = dir.path().join("roomgate.yaml");
    std::fs::write(&path, &http).unwrap();
    let checked = crate::config::check_file(&path).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(checked.edges, ["a".into(), "b".into()]);
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_read() {
    let dir = folder();
    let text = format!("\u{feff}{}", ISSUE.replace('\n', "\r\n"));
    load(&text, dir.path(), None).unwrap_or_else(|faults| panic!("{faults}"));
}

#[test]
fn what_is_legal_and_odd_is_a_warning_with_its_place() {
    let dir = folder();
    let text = ISSUE
        .replace("tls/cert.pem", "tls/expired.pem")
        .replace("s3: \"http://127.0.0.1:9003\"", "s3: \"http://127.0.0.1:9001\"")
        .replace("pool: shards, room", "pool: shards, limits: { head: 1MiB }, room")
        .replace("  workers:", "  spare: { nodes: { a: { url: \"http://h\", weight: 0 } } }\n  workers:");
    let loaded = load(&text, dir.path(), None).unwrap_or_else(|faults| panic!("{faults}"));
    let at = format!("{}/", dir.path().display());
    let warnings: Vec<String> =
        loaded.warnings.iter().map(|warning| warning.one_line().replace(&at, "")).collect();
    assert_eq!(
        warnings,
        [
            "f.yaml:3:60: listeners.https.tls.certificates.0.cert: tls/expired.pem has expired; \
             renew it; a new file is taken over without a reload",
            "f.yaml:8:53: sites.\"api.example.com\".limits.head is larger than that of every listener (128KiB); \
             the listener's limit comes first",
            "f.yaml:12:76: pools.shards.nodes.s3 has the address of s1; \
             rooms are shared out by name: this machine gets both shares",
            "f.yaml:15:3: pools.spare: no site uses it",
            "f.yaml:15:12: pools.spare: every node has weight 0; no new room finds a place here",
        ]
    );
}
