//! The preset `jitsi`, path by path: which service of which shard gets what, what becomes of the room, and what the
//! answer says. The same table runs over the preset and over what it expands to.

use roomgate::config;
use roomgate::config::settings::Settings;

use crate::kit::edge_rig::{HANDSHAKE, Rig, TestNode, read_answer, soon};
use tokio::io::AsyncWriteExt;

const FILE: &str = r#"
version: 1
region: eu
listeners: { http: { bind: ["127.0.0.1:0"] } }
sites:
  meet.test:
    app: jitsi
    pool: shards
    routes: [ { name: colibri, pool: bridges, node: "{bridge}" } ]
pools:
  shards: { nodes: SHARDS }
  bridges: { nodes: { jvb-1: "http://BRIDGE" } }
admin: { bind: [] }
"#;

/// What a request does for its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// It gets a place by this name.
    Placed(&'static str),
    /// It gets none.
    Unplaced,
}
use Room::{Placed, Unplaced};

/// Target; service; path at the service by name; room; a header of the answer, or none.
type Row = (&'static str, &'static str, &'static str, Room, (&'static str, &'static str));

const PUBLIC_300: (&str, &str) = ("cache-control", "public, max-age=300, s-maxage=3600");
const PUBLIC_60: (&str, &str) = ("cache-control", "public, max-age=60, s-maxage=300");
const NO_STORE: (&str, &str) = ("cache-control", "no-cache, no-store");
const EXPOSE: (&str, &str) = (
    "access-control-expose-headers",
    "Content-Type, X-Jitsi-Region, X-Jitsi-Shard, X-Proxy-Region, X-Jitsi-Release",
);
const SHARD: (&str, &str) = ("x-jitsi-release", "release-7");
const ANY: (&str, &str) = ("x-proxy-region", "eu");

const ROWS: &[Row] = &[
    // Pages look for their room and give it no place, but for `stick` and `release`.
    ("/Room", "web", "/Room", Unplaced, SHARD),
    ("/Tenant/Room", "web", "/Tenant/Room", Unplaced, SHARD),
    ("/Tenant/Room?stick=true", "web", "/Tenant/Room?stick=true", Placed("tenant/room"), SHARD),
    ("/room?stick=false", "web", "/room?stick=false", Unplaced, SHARD),
    ("/Room?release=release-7", "web", "/Room?release=release-7", Placed("room"), SHARD),
    // BOSH and XMPP over WebSocket; a plain GET of the latter is a sign of life.
    ("/http-bind?room=Room", "prosody", "/http-bind?prefix=&room=Room", Placed("room"), EXPOSE),
    ("/T/http-bind?room=r", "prosody", "/http-bind?prefix=T&room=r", Placed("t/r"), EXPOSE),
    (
        "/http-bind?room=caf%25c3%25a9",
        "prosody",
        "/http-bind?prefix=&room=caf%25c3%25a9",
        Placed("café"),
        EXPOSE,
    ),
    (
        "/xmpp-websocket?room=r&token=x",
        "prosody",
        "/xmpp-websocket?prefix=&room=r&token=x",
        Placed("r"),
        SHARD,
    ),
    ("/T/xmpp-websocket?room=r", "prosody", "/xmpp-websocket?prefix=T&room=r", Placed("t/r"), EXPOSE),
    ("/xmpp-websocket", "prosody", "/xmpp-websocket?prefix=&", Unplaced, SHARD),
    (
        "/v1/_ws/s2/xmpp-websocket?tenant=T&room=r",
        "prosody",
        "/xmpp-websocket?prefix=T&tenant=T&room=r",
        Placed("t/r"),
        ("x-jitsi-shard", "s2"),
    ),
    // Jicofo.
    ("/conference-request/v1?room=r", "jicofo", "/conference-request/v1?room=r", Placed("r"), EXPOSE),
    ("/T/conference-request/v1/x?room=r", "jicofo", "/conference-request/v1/x?room=r", Placed("t/r"), EXPOSE),
    ("/about/health", "jicofo", "/about/health", Unplaced, SHARD),
    ("/_health", "jicofo", "/about/health", Unplaced, SHARD),
    // The room's interface.
    ("/room-size?room=r", "prosody", "/room-size?prefix=&room=r", Placed("r"), SHARD),
    ("/T/room?room=r", "prosody", "/room?prefix=T&room=r", Placed("t/r"), SHARD),
    ("/kick-participant?room=r", "prosody", "/kick-participant?prefix=&room=r", Placed("r"), SHARD),
    ("/room", "web", "/room", Unplaced, SHARD),
    ("/_api/room-info?room=r", "prosody", "/room-info?prefix=&room=r", Placed("r"), SHARD),
    ("/_api/public/x", "web", "/_api/public/x", Unplaced, SHARD),
    // Settings follow the room.
    ("/config.js?room=r", "web", "/config.js?room=r", Placed("r"), NO_STORE),
    ("/T/config.js?room=r", "web", "/T/config.js?room=r", Placed("t/r"), NO_STORE),
    // Files.
    ("/libs/app.js", "web", "/libs/app.js", Unplaced, PUBLIC_300),
    ("/T/static/x.html", "web", "/T/static/x.html", Unplaced, PUBLIC_300),
    (
        "/css/all.css?v=1",
        "web",
        "/css/all.css?v=1",
        Unplaced,
        ("cache-control", "public, max-age=31536000, immutable"),
    ),
    ("/images/x.png", "web", "/images/x.png", Unplaced, ("access-control-allow-origin", "*")),
    (
        "/v1/_cdn/7/libs/a%20b.js?x=1",
        "web",
        "/libs/a%20b.js?x=1",
        Unplaced,
        ("cache-control", "public, max-age=2678400, s-maxage=2678400, immutable"),
    ),
    ("/index.html", "web", "/index.html", Unplaced, PUBLIC_60),
    ("/manifest.json", "web", "/manifest.json", Unplaced, PUBLIC_60),
    ("/interface_config.js", "web", "/interface_config.js", Unplaced, PUBLIC_60),
    ("/external_api.js", "web", "/external_api.js", Unplaced, PUBLIC_60),
    (
        "/favicon.ico",
        "web",
        "/favicon.ico",
        Unplaced,
        ("cache-control", "public, max-age=86400, s-maxage=604800"),
    ),
    ("/libs", "web", "/libs", Unplaced, SHARD),
    // Services beside the meeting.
    ("/etherpad/p/x", "web", "/etherpad/p/x", Unplaced, ANY),
    ("/socket.io/?room=r", "web", "/socket.io/?room=r", Unplaced, ANY),
    ("/rtcstats-ws/x", "web", "/rtcstats-ws/x", Unplaced, ANY),
];

struct House {
    rig: Rig,
    /// By shard, then web, prosody, jicofo.
    shards: Vec<Vec<TestNode>>,
    bridge: TestNode,
}

impl House {
    /// With nodes that are hosts with services, or URLs.
    async fn new(urls: bool, expanded: bool) -> Self {
        let mut shards = Vec::new();
        let mut entries = Vec::new();
        for shard in ["s1", "s2"] {
            let mut services = Vec::new();
            for service in ["web", "prosody", "jicofo"] {
                services.push(TestNode::start(&format!("{shard}-{service}")).await);
            }
            let port = |i: usize| services[i].addr.port();
            entries.push(if urls {
                format!("{shard}: {{ url: \"http://{}\", region: eu, release: release-7 }}", services[0].addr)
            } else {
                format!(
                    "{shard}: {{ host: 127.0.0.1, web: {}, prosody: {}, jicofo: {}, region: eu, release: release-7 }}",
                    port(0),
                    port(1),
                    port(2)
                )
            });
            shards.push(services);
        }
        let bridge = TestNode::start("jvb-1").await;
        let text = FILE
            .replace("SHARDS", &format!("{{ {} }}", entries.join(", ")))
            .replace("BRIDGE", &bridge.addr.to_string());
        let load = |text: &str| {
            let loaded = config::load_str("f.yaml", text, std::path::Path::new("."), None);
            loaded.unwrap_or_else(|faults| panic!("{faults}\n{text}"))
        };
        let mut loaded = load(&text);
        if expanded {
            assert!(!loaded.effective.contains("app:"), "{}", loaded.effective);
            loaded = load(&loaded.effective);
        }
        let settings: Settings = loaded.settings;
        Self { rig: Rig::start_with(settings, |_, _| None), shards, bridge }
    }

    async fn get(&self, target: &str) -> (String, String) {
        let mut stream = self.rig.plain().await;
        let request = format!("GET {target} HTTP/1.1\r\nHost: meet.test\r\nX-Proxy-Region: forged\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = soon(target, read_answer(&mut stream)).await;
        (head.to_lowercase(), String::from_utf8(body).unwrap())
    }

    fn requests(&self) -> usize {
        self.shards.iter().flatten().map(|node| node.seen().len()).sum::<usize>() + self.bridge.seen().len()
    }

    /// The last request that reached a service of the shards.
    fn last(&self, node: &str) -> String {
        let node = self.shards.iter().flatten().find(|n| n.name == node).unwrap();
        node.seen().pop().unwrap()
    }
}

#[tokio::test]
async fn every_path_goes_to_its_service_and_treats_its_room_as_it_should() {
    for (urls, expanded) in [(false, false), (false, true), (true, false)] {
        for (target, service, path, room, header) in ROWS {
            let house = House::new(urls, expanded).await;
            let about = format!("{target} (urls: {urls}, expanded: {expanded})");
            let (head, body) = house.get(target).await;
            assert!(head.starts_with("http/1.1 200 "), "{about}: {head}");
            let (shard, by) = body.split_once('-').unwrap();
            let (service, path) = match (urls, *target) {
                (false, _) => (*service, *path),
                // What stands behind a URL knows the paths, but for those that are this edge's own.
                (true, "/v1/_ws/s2/xmpp-websocket?tenant=T&room=r") => {
                    ("web", "/xmpp-websocket?tenant=T&room=r")
                }
                (true, "/v1/_cdn/7/libs/a%20b.js?x=1") => ("web", *path),
                (true, target) => ("web", target),
            };
            assert_eq!(by, service, "{about}");
            let seen = house.last(&body);
            assert!(seen.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{about}: {seen}");
            assert!(seen.to_lowercase().contains("x-proxy-region: eu\r\n"), "{about}: {seen}");
            assert!(!seen.contains("forged"), "{about}: {seen}");
            for (name, value) in [*header, ("x-jitsi-shard", shard), ANY] {
                assert!(
                    head.contains(&format!("\r\n{name}: {}\r\n", value.to_lowercase())),
                    "{about}: {name}: {head}"
                );
            }
            let rooms: Vec<String> =
                house.rig.rooms.list(9).iter().map(|room| room.key.to_string()).collect();
            let expected: &[&str] = match room {
                Placed(key) => &[key],
                Unplaced => &[],
            };
            assert_eq!(rooms, expected, "{about}");
            house.rig.end().await;
        }
    }
}

#[tokio::test]
async fn only_files_that_are_no_templates_are_kept() {
    for expanded in [false, true] {
        let house = House::new(false, expanded).await;
        for target in [
            "/libs/app.bundle.min.js",
            "/T/libs/app.bundle.min.js?v=7",
            "/css/all.css?v=7",
            "/static/x.json",
            "/fonts/a.woff2",
            "/sounds/a.wav",
            "/v1/_cdn/7/libs/x.wasm",
            "/favicon.ico",
        ] {
            let before = house.requests();
            let (head, body) = house.get(target).await;
            assert!(head.contains("\r\ncache-status: roomgate; fwd=uri-miss; "), "{target}: {head}");
            let (again, same) = house.get(target).await;
            assert!(again.contains("\r\ncache-status: roomgate; hit; ttl="), "{target}: {again}");
            assert_eq!((body, house.requests()), (same, before + 1), "{target}");
            let control =
                |head: &str| head.lines().find(|line| line.starts_with("cache-control")).map(str::to_owned);
            assert!(control(&again).is_some() && control(&again) == control(&head), "{target}: {again}");
        }
        // Pages and settings are templates; others are of a room, or somebody's.
        for target in [
            "/config.js?room=r",
            "/T/config.js",
            "/v1/_cdn/7/config.js",
            "/v1/_cdn/7/index.html",
            "/v1/_cdn/7/Room",
            "/index.html",
            "/interface_config.js",
            "/static/close.html",
            "/T/static/close.html?v=7",
            "/external_api.js",
            "/transcripts/x.json",
            "/.well-known/x.json",
            "/Room",
            "/T/Room?stick=true",
            "/http-bind?room=r",
            "/xmpp-websocket?room=r",
            "/conference-request/v1?room=r",
            "/_api/room-info?room=r",
            "/about/health",
            "/_unlock?room=r",
            "/etherpad/x.js",
        ] {
            for _ in 0..2 {
                let (head, _) = house.get(target).await;
                assert!(!head.contains("cache-status"), "{target}: {head}");
            }
        }
        house.rig.end().await;
    }
}

#[tokio::test]
async fn a_websockets_handshake_is_rewritten_as_a_request_is() {
    let house = House::new(false, false).await;
    for (target, path) in [
        ("/T/xmpp-websocket?room=r", "/xmpp-websocket?prefix=T&room=r"),
        ("/v1/_ws/s2/xmpp-websocket?tenant=T&room=r", "/xmpp-websocket?prefix=T&tenant=T&room=r"),
    ] {
        let mut stream = house.rig.plain().await;
        let handshake = HANDSHAKE.replace("plain.test", "meet.test");
        stream.write_all(format!("GET {target} HTTP/1.1\r\n{handshake}").as_bytes()).await.unwrap();
        // The node refuses it with its name.
        let (_, body) = soon(target, read_answer(&mut stream)).await;
        let seen = house.last(&String::from_utf8(body).unwrap());
        assert!(seen.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{target}: {seen}");
        assert!(seen.contains("Upgrade: websocket\r\n"), "{target}: {seen}");
    }
    house.rig.end().await;
}

#[tokio::test]
async fn signs_of_life_are_answered_in_the_name_of_the_rooms_shard() {
    for expanded in [false, true] {
        let house = House::new(false, expanded).await;
        let shard_of = |head: &str| {
            let line = head.lines().find(|line| line.starts_with("x-jitsi-shard: ")).unwrap_or_default();
            line.trim_start_matches("x-jitsi-shard: ").to_owned()
        };
        for room in 0..12 {
            // The first asks who is there; all others meet it, however they spell it.
            let (head, body) = house.get(&format!("/T/_unlock?room=Room{room}")).await;
            assert!(head.starts_with("http/1.1 200 ") && body.is_empty(), "{head}{body}");
            assert!(head.contains("cache-control: no-cache, no-store\r\n"), "{head}");
            assert!(head.contains("access-control-allow-origin: *\r\n"), "{head}");
            let shard = shard_of(&head);
            assert!(["s1", "s2"].contains(&shard.as_str()), "{head}");
            assert_eq!(house.requests(), room * 4, "answered here");
            for target in [
                format!("/t/http-bind?room=ROOM{room}"),
                format!("/T/conference-request/v1?room=room{room}"),
                format!("/T/room{room}"),
                format!("/T/xmpp-websocket?room=%52oom{room}"),
            ] {
                assert_eq!(shard_of(&house.get(&target).await.0), shard, "{target}");
            }
        }
        assert_eq!(house.rig.rooms.len(), 12);
        // Without a room there is no shard to speak for.
        assert_eq!(shard_of(&house.get("/_unlock").await.0), "");
        house.rig.end().await;
    }
}

#[tokio::test]
async fn rooms_go_where_their_name_or_their_path_says() {
    let house = House::new(false, false).await;
    for i in 0..8 {
        for (target, shard) in [
            (format!("/http-bind?room=a{i}_s1"), "s1"),
            (format!("/http-bind?room=b{i}_s2"), "s2"),
            (format!("/s2/http-bind?room=c{i}"), "s2"),
            (format!("/v1/_ws/s1/xmpp-websocket?room=d{i}"), "s1"),
        ] {
            let (head, _) = house.get(&target).await;
            assert!(head.contains(&format!("\r\nx-jitsi-shard: {shard}\r\n")), "{target}: {head}");
        }
        // A room that has a place stays there, whatever is wished.
        let (head, _) = house.get(&format!("/v1/_ws/s2/xmpp-websocket?room=a{i}_s1")).await;
        assert!(head.contains("\r\nx-jitsi-shard: s1\r\n"), "{head}");
    }
    house.rig.end().await;
}

#[tokio::test]
async fn only_bridges_that_are_named_are_dialled() {
    let house = House::new(false, false).await;
    let (head, body) = house.get("/colibri-ws/jvb-1/conf/end?pwd=x").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(body, "jvb-1");
    let before = house.requests();
    for target in ["/colibri-ws/jvb-10-1-2-3/conf/end", "/colibri-relay-ws/127.0.0.1/x", "/colibri-ws/../x/y"]
    {
        let (head, _) = house.get(target).await;
        let expected = if target.contains("..") { "http/1.1 200 " } else { "http/1.1 404 " };
        assert!(head.starts_with(expected), "{target}: {head}");
    }
    assert_eq!(house.bridge.seen().len(), 1, "no other was dialled: {before}");
    house.rig.end().await;
}
