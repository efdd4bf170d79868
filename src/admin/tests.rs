//! The admin server over loopback, with a view that holds real-looking values.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use prometheus::Registry;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::view::*;
use super::{Admin, AdminView};
use crate::config::settings::{AdminSettings, Name, Secret};
use crate::tasks::Tasks;
use crate::telemetry::metrics::Metrics;

struct FakeView {
    metrics: Metrics,
    ready: AtomicBool,
    legal: AtomicBool,
    reloads: AtomicUsize,
    /// Reloads that have come to their end, and what lets them.
    reloaded: AtomicUsize,
    gate: tokio::sync::Semaphore,
    rooms: usize,
    wishes: Mutex<Vec<CloseTunnels>>,
}

impl FakeView {
    fn new() -> Self {
        Self {
            metrics: Metrics::new(),
            ready: AtomicBool::new(true),
            legal: AtomicBool::new(true),
            reloads: AtomicUsize::new(0),
            reloaded: AtomicUsize::new(0),
            gate: tokio::sync::Semaphore::new(1),
            rooms: 250,
            wishes: Mutex::default(),
        }
    }
}

#[async_trait]
impl AdminView for FakeView {
    fn bans_total(&self) -> usize {
        self.bans(0).total
    }

    fn bans(&self, limit: usize) -> BansView {
        let ban = BanView {
            network: "192.0.2.0/24".to_owned(),
            by: "scanners".to_owned(),
            reason: String::new(),
            age_seconds: 5,
            left_seconds: 595,
        };
        BansView { total: 3, bans: vec![ban; limit.min(3)] }
    }

    fn ban(&self, wish: &AddBan) -> bool {
        wish.reason != "full"
    }

    fn unban(&self, network: ipnet::IpNet) -> bool {
        network.prefix_len() == 32
    }

    fn cache(&self) -> CacheView {
        CacheView { objects: 2, bytes: 5000, bytes_max: 1 << 20, requests: 8, hits: 6, hit_ratio: Some(0.75) }
    }

    fn purge(&self, wish: &Purge) -> Result<usize, String> {
        if wish.url.starts_with("https://") {
            Ok(if wish.below { 7 } else { 1 })
        } else {
            Err("no URL".to_owned())
        }
    }

    fn process(&self) -> ProcessView {
        ProcessView {
            version: "0.1.0".to_owned(),
            edge: Some("edge-a".to_owned()),
            uptime_seconds: 93_784,
            now: 1_800_000_000,
            tasks: 412,
            listeners: vec!["https [::]:8443".to_owned()],
            certificates: Vec::new(),
        }
    }

    fn nodes(&self) -> Vec<NodeView> {
        vec![NodeView {
            pool: "shards".to_owned(),
            name: "s2".to_owned(),
            target: "http://127.0.0.1:9002".to_owned(),
            state: HealthState::Down,
            can_serve: false,
            why: "2 checks in a row failed: connection refused".to_owned(),
            since_seconds: 31,
            open_streams: 0,
        }]
    }

    fn rooms(&self, limit: usize) -> Vec<RoomView> {
        (0..self.rooms.min(limit))
            .map(|n| RoomView {
                pool: "workers".to_owned(),
                scope: "*".to_owned(),
                key: format!("room-{n}"),
                node: "worker-0".to_owned(),
                holds: 3,
                participants: Some(3),
                age_seconds: 12,
            })
            .collect()
    }

    fn rooms_total(&self) -> usize {
        self.rooms
    }

    fn tunnels(&self, limit: usize) -> TunnelsView {
        let room = RoomName { pool: "shards".to_owned(), scope: "*".to_owned(), key: "blue".to_owned() };
        let tunnel = |id: usize| TunnelView {
            id: id as u64,
            node: "shards/s2".to_owned(),
            room: Some(room.clone()),
            client: "192.0.2.7".parse().unwrap(),
            age_seconds: 3600,
        };
        TunnelsView { total: self.rooms, tunnels: (1..=limit.min(self.rooms)).map(tunnel).collect() }
    }

    fn close_tunnels(&self, wish: &CloseTunnels) -> Result<usize, String> {
        if wish.code == 1000 {
            return Err("code: 1000 is none of ours".to_owned());
        }
        self.wishes.lock().unwrap().push(wish.clone());
        Ok(12)
    }

    fn config(&self) -> ConfigView {
        ConfigView {
            generation: 4,
            loaded_at: 1_799_999_000,
            source: "/etc/roomgate/roomgate.yaml".to_owned(),
            effective: "version: 1\n".to_owned(),
            warnings: vec![],
            history: vec![],
        }
    }

    fn media(&self) -> Vec<WorkerView> {
        let rate = RateView {
            packets_in: 1200,
            packets_out: 3600,
            bytes_in: 900_000,
            bytes_out: 2_700_000,
            drops: 1,
        };
        vec![WorkerView {
            worker: 0,
            heartbeat_age_ms: 12,
            selftest: Some(SelftestView { ok: true, why: String::new(), age_seconds: 2 }),
            rooms: 2,
            sessions: 7,
            flows: 7,
            rate,
            history: vec![rate],
            drops: BTreeMap::from([("unknown_ufrag".to_owned(), 17)]),
            ring_full: 0,
            socket_receive_overflows: 0,
            socket_send_overflows: 0,
        }]
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        if self.ready.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(vec!["pool shards: no node can serve".to_owned()])
        }
    }

    fn explain(
        &self,
        question: &crate::edge::explain::Question,
    ) -> Result<crate::edge::explain::Explained, String> {
        Ok(crate::edge::explain::Explained { request: question.url.to_string(), ..Default::default() })
    }

    async fn reload(&self) -> ReloadRecord {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        drop(self.gate.acquire().await);
        self.reloaded.fetch_add(1, Ordering::Relaxed);
        let legal = self.legal.load(Ordering::Relaxed);
        ReloadRecord {
            at: 1_800_000_000,
            cause: ReloadCause::Api,
            result: if legal { ReloadResult::Applied } else { ReloadResult::Rejected },
            generation: if legal { 5 } else { 4 },
            faults: if legal {
                String::new()
            } else {
                "roomgate.yaml:4:3: unknown key `lissteners`".to_owned()
            },
            restart_needed: vec!["media.bind".to_owned()],
            took_ms: 3,
        }
    }

    fn registry(&self) -> &Registry {
        &self.metrics.registry
    }
}

struct Running {
    view: Arc<FakeView>,
    address: SocketAddr,
    tasks: Tasks,
}

fn start(tokens: &[(&str, &str)]) -> Running {
    let view = Arc::new(FakeView::new());
    let tasks = Tasks::new();
    let settings = AdminSettings {
        bind: vec!["127.0.0.1:0".parse().unwrap()],
        tokens: tokens
            .iter()
            .map(|(name, value)| (Name::from(*name), Secret::new("env:T", value.as_bytes().to_vec())))
            .collect(),
    };
    let shown: Arc<dyn AdminView> = Arc::<FakeView>::clone(&view);
    let admin = Admin::start(&settings, shown, view.metrics.admin.clone(), &tasks).unwrap();
    Running { address: admin.local_addrs()[0], view, tasks }
}

impl Running {
    /// Sends one request on a connection of its own; returns status, head and body.
    async fn ask(&self, line: &str, headers: &[&str], body: &str) -> (u16, String, String) {
        let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            request.push_str(&format!("Host: {}\r\n", self.address));
        }
        for header in headers {
            request.push_str(&format!("{header}\r\n"));
        }
        request.push_str(&format!("\r\n{body}"));
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = timeout(Duration::from_secs(5), exchange).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    async fn json(&self, path: &str) -> Value {
        let (status, _, body) = self.ask(&format!("GET {path}"), &[], "").await;
        assert_eq!(status, 200, "{path}");
        serde_json::from_str(&body).unwrap()
    }
}

#[tokio::test]
async fn readiness_follows_the_view_and_says_why() {
    let admin = start(&[]);
    assert_eq!(admin.ask("GET /readyz", &[], "").await.0, 200);
    admin.view.ready.store(false, Ordering::Relaxed);
    let (status, _, body) = admin.ask("GET /readyz", &[], "").await;
    assert_eq!((status, body.as_str()), (503, "pool shards: no node can serve\n"));
    assert_eq!(admin.ask("GET /healthz", &[], "").await.0, 200);
    assert_eq!(admin.json("/api/v1/status").await["ready"]["ready"], false);
}

#[tokio::test]
async fn the_api_shows_what_the_view_says() {
    let admin = start(&[]);
    let nodes = admin.json("/api/v1/nodes").await;
    assert_eq!(nodes[0]["state"], "down");
    assert_eq!(nodes[0]["why"], "2 checks in a row failed: connection refused");
    let rooms = admin.json("/api/v1/rooms?limit=7").await;
    assert_eq!((rooms["total"].as_u64(), rooms["rooms"].as_array().map(Vec::len)), (Some(250), Some(7)));
    assert_eq!(admin.json("/api/v1/rooms").await["rooms"].as_array().map(Vec::len), Some(100));
    assert_eq!(admin.json("/api/v1/config").await["effective"], "version: 1\n");
    assert_eq!(admin.json("/api/v1/media").await[0]["rate"]["packets_out"], 3600);
    let status = admin.json("/api/v1/status?rooms=5").await;
    assert_eq!(status["rooms"]["rooms"].as_array().map(Vec::len), Some(5));
    assert_eq!(status["media"][0]["drops"]["unknown_ufrag"], 17);
    assert_eq!(status["edge"]["tunnels"], admin.json("/api/v1/tunnels").await["total"]);
    assert_eq!(status["edge"]["bans"], admin.json("/api/v1/bans").await["total"]);
    assert_eq!(status["edge"]["cache"], admin.json("/api/v1/cache").await);
    assert!(status["config"].get("effective").is_none(), "the text is fetched when it is looked at");
}

#[tokio::test]
async fn a_reload_tells_what_came_of_it() {
    let admin = start(&[]);
    let (status, _, body) = admin.ask("POST /api/v1/reload", &["Content-Length: 0"], "").await;
    let record: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &record["result"], &record["restart_needed"][0]),
        (200, &"applied".into(), &"media.bind".into())
    );

    admin.view.legal.store(false, Ordering::Relaxed);
    let json = ["Content-Type: application/json", "Content-Length: 2"];
    let (status, _, body) = admin.ask("POST /api/v1/reload", &json, "{}").await;
    assert_eq!(status, 422);
    assert!(body.contains("roomgate.yaml:4:3"), "{body}");
    assert_eq!(admin.view.reloads.load(Ordering::Relaxed), 2);

    assert_eq!(admin.ask("GET /api/v1/reload", &[], "").await.0, 405);
    assert_eq!(admin.ask("DELETE /api/v1/nodes", &[], "").await.0, 405);
    assert_eq!(admin.ask("GET /nothing", &[], "").await.0, 404);
    assert_eq!(admin.view.reloads.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_reload_whose_caller_leaves_is_a_reload() {
    let admin = start(&[]);
    let all = admin.view.gate.acquire().await.unwrap();
    let mut caller = TcpStream::connect(admin.address).await.unwrap();
    let head =
        format!("POST /api/v1/reload HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", admin.address);
    caller.write_all(head.as_bytes()).await.unwrap();
    let wait = async |count: &AtomicUsize| {
        while count.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(10);
    tokio::time::timeout(limit, wait(&admin.view.reloads)).await.unwrap();
    drop(caller);
    // The server has noticed.
    let open = || admin.view.metrics.admin.connections.get();
    let left = async {
        while open() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(limit, left).await.unwrap();
    drop(all);
    tokio::time::timeout(limit, wait(&admin.view.reloaded)).await.unwrap();
}

#[tokio::test]
async fn tunnels_are_listed_and_closed() {
    let admin = start(&[]);
    let list = admin.json("/api/v1/tunnels?limit=2").await;
    assert_eq!((list["total"].as_u64(), list["tunnels"].as_array().map(Vec::len)), (Some(250), Some(2)));
    assert_eq!((&list["tunnels"][1]["id"], &list["tunnels"][1]["room"]["key"]), (&2.into(), &"blue".into()));

    let close = async |body: &str| {
        let length = format!("Content-Length: {}", body.len());
        let headers = ["Content-Type: application/json", length.as_str()];
        admin.ask("POST /api/v1/tunnels/close", &headers, body).await
    };
    let (status, _, body) = close(r#"{"id":2,"code":1001,"over":"3s"}"#).await;
    assert_eq!((status, body.as_str()), (200, r#"{"closed":12}"#));
    let (status, _, body) = close(r#"{"id":2,"code":1000}"#).await;
    assert_eq!((status, body.as_str()), (400, "code: 1000 is none of ours\n"));
    assert_eq!(close("").await.0, 400);
    // More than a body may have is as good as none.
    assert_eq!(close(&" ".repeat(100_000)).await.0, 400);
    let wish = CloseTunnels { which: WhichTunnels::Id(2), code: 1001, over: Duration::from_secs(3) };
    assert_eq!(*admin.view.wishes.lock().unwrap(), [wish]);
    // A page of another site cannot.
    let form = ["Content-Type: text/plain", "Content-Length: 8"];
    assert_eq!(admin.ask("POST /api/v1/tunnels/close", &form, r#"{"id":2}"#).await.0, 415);
    assert_eq!(admin.ask("GET /api/v1/tunnels/close", &[], "").await.0, 405);
    assert_eq!(admin.view.wishes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_another_site_sends_is_refused_and_counted() {
    let admin = start(&[]);
    let form = ["Content-Type: application/x-www-form-urlencoded", "Content-Length: 3"];
    for (line, headers, body, status) in [
        ("GET /api/v1/nodes", &["Host: evil.example"][..], "", 421),
        ("GET /", &["Host: evil.example"], "", 421),
        ("GET /healthz", &["Host: localhost", "Host: localhost"], "", 400),
        ("GET /api/v1/nodes", &["Host: localhost", "Origin: http://evil.example"], "", 403),
        ("POST /api/v1/reload", &["Sec-Fetch-Site: cross-site", "Content-Length: 0"], "", 403),
        ("POST /api/v1/reload", &form, "a=b", 415),
    ] {
        assert_eq!(admin.ask(line, headers, body).await.0, status, "{line} {headers:?}");
    }
    assert_eq!(admin.view.reloads.load(Ordering::Relaxed), 0);
    let (_, _, text) = admin.ask("GET /metrics", &[], "").await;
    assert!(text.contains("roomgate_admin_refused_total{reason=\"foreign_host\"} 2"), "{text}");
    assert!(text.contains("roomgate_admin_requests_total{code=\"4xx\"} 6"), "{text}");
}

#[tokio::test]
async fn tokens_guard_everything_but_health_and_the_empty_page() {
    let admin = start(&[("ops", "s3cret")]);
    for path in ["/healthz", "/readyz", "/", "/status.js", "/status.css"] {
        assert_eq!(admin.ask(&format!("GET {path}"), &[], "").await.0, 200, "{path}");
    }
    let (status, head, _) = admin.ask("GET /metrics", &[], "").await;
    assert_eq!(status, 401);
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    assert_eq!(admin.ask("GET /api/v1/config", &["Authorization: Bearer wrong"], "").await.0, 401);
    assert_eq!(admin.ask("POST /api/v1/reload", &["Content-Length: 0"], "").await.0, 401);
    assert_eq!(admin.ask("GET /api/v1/config", &["Authorization: Bearer s3cret"], "").await.0, 200);
    assert_eq!(admin.view.reloads.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let admin = start(&[]);
    for line in ["GET /", "GET /status.js", "GET /api/v1/nodes", "GET /nothing", "HEAD /healthz"] {
        let (_, head, _) = admin.ask(line, &[], "").await;
        for header in [
            "content-security-policy: default-src 'none'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
        ] {
            assert!(head.contains(header), "{line}: {head}");
        }
    }
    // Nothing in the page may need what the policy forbids.
    let (_, _, page) = admin.ask("GET /", &[], "").await;
    for inline in ["<script>", "<style", " style=", " onclick=", "http://", "https://"] {
        assert!(!page.contains(inline), "{inline}");
    }
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_ends_with_the_process() {
    let admin = start(&[]);
    let mut stream = TcpStream::connect(admin.address).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", admin.address);
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = timeout(Duration::from_secs(5), stream.read(&mut answer)).await.unwrap().unwrap();
        assert!(answer[..read].ends_with(b"alive\n"));
    }
    assert_eq!(admin.view.metrics.admin.connections.get(), 1);
    assert_eq!(admin.tasks.drain(Duration::from_secs(5)).await, 0);
    assert_eq!(timeout(Duration::from_secs(5), stream.read(&mut [0; 16])).await.unwrap().unwrap_or(0), 0);
    assert!(TcpStream::connect(admin.address).await.is_err());
}

#[tokio::test]
async fn bans_are_listed_added_and_ended() {
    let admin = start(&[]);
    let list = admin.json("/api/v1/bans?limit=2").await;
    assert_eq!((list["total"].as_u64(), list["bans"].as_array().map(Vec::len)), (Some(3), Some(2)));
    assert_eq!(list["bans"][0]["left_seconds"], 595);
    let add = async |body: &str| {
        let length = format!("Content-Length: {}", body.len());
        let headers = ["Content-Type: application/json", length.as_str()];
        admin.ask("POST /api/v1/bans", &headers, body).await
    };
    let (status, _, body) = add(r#"{"network":"192.0.2.7","for":"10m"}"#).await;
    assert_eq!((status, body.as_str()), (200, r#"{"banned":"192.0.2.7/32"}"#));
    assert_eq!(add(r#"{"network":"192.0.2.7","for":"10m","reason":"full"}"#).await.0, 409);
    assert_eq!(add(r#"{"network":"192.0.2.7"}"#).await.0, 400);
    for (ask, expected) in [
        ("DELETE /api/v1/bans?network=192.0.2.7", 200),
        ("DELETE /api/v1/bans?network=192.0.2.0/24", 404),
        ("DELETE /api/v1/bans", 400),
        ("PUT /api/v1/bans", 405),
    ] {
        assert_eq!(admin.ask(ask, &[], "").await.0, expected, "{ask}");
    }
}

#[tokio::test]
async fn the_cache_is_shown_and_purged() {
    let admin = start(&[]);
    let view = admin.json("/api/v1/cache").await;
    assert_eq!((view["objects"].as_u64(), view["hit_ratio"].as_f64()), (Some(2), Some(0.75)));
    for (body, status, expected) in [
        (r#"{"url":"https://a/b"}"#, 200, r#"{"purged":1}"#),
        (r#"{"prefix":"https://a/"}"#, 200, r#"{"purged":7}"#),
        (r#"{"url":"a"}"#, 400, "no URL\n"),
        (r"{}", 400, "the body says nothing"),
    ] {
        let length = format!("Content-Length: {}", body.len());
        let headers = ["Content-Type: application/json", length.as_str()];
        let (found, _, text) = admin.ask("POST /api/v1/cache/purge", &headers, body).await;
        assert!(found == status && text.starts_with(expected), "{body}: {found} {text}");
    }
    assert_eq!(admin.ask("GET /api/v1/cache/purge", &[], "").await.0, 405);
    assert_eq!(admin.ask("POST /api/v1/cache", &[], "").await.0, 405);
}
