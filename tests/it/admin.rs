//! The operator's endpoint: what it tells, and whom it refuses.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::kit::backends::Backend;
use crate::kit::client::Client;
use crate::kit::config::{self, JITSI, Shards};
use crate::kit::process::{Roomgate, items};

const TOKEN: &str = "a-token-of-sixteen-or-more";

/// One request with these headers; returns the status.
async fn status(roomgate: &Roomgate, method: &str, path: &str, headers: &[(&str, &str)]) -> StatusCode {
    let stream = TcpStream::connect(roomgate.admin()).await.unwrap();
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", roomgate.admin().to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::new())).unwrap();
    sender.send_request(request).await.unwrap().status()
}

#[tokio::test]
async fn it_tells_nodes_rooms_metrics_and_the_configuration() {
    let backends = Backend::start_many(2).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).text()).await;
    let client = Client::of(roomgate.https());
    let node = client.get(JITSI, "/Secret%20Meeting?stick=true").await.unwrap().json()["node"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(roomgate.room_nodes().await["secret meeting"], node);
    let url = "https%3A%2F%2Fmeet.example.com%2Fhttp-bind%3Froom%3DSECRET%2520meeting";
    assert!(JITSI.contains("meet.example.com"), "{JITSI}");
    let explained = roomgate.api(&format!("/api/v1/explain?url={url}")).await;
    assert_eq!(explained["placement"], format!("the room lives on {node}"), "{explained}");
    assert_eq!(explained["room"]["key"], "secret meeting");
    assert_eq!(items(&roomgate.api("/api/v1/nodes").await, "nodes").len(), 2);
    let config = roomgate.api("/api/v1/config").await.to_string();
    assert!(config.contains("about/health"), "{config}");

    let answer = roomgate.admin_get("/metrics").await;
    assert!(answer.header("content-type").starts_with("text/plain"), "{}", answer.header("content-type"));
    let text = answer.text();
    assert!(!text.contains("secret"), "no room is ever a label");
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        assert!(line.starts_with("roomgate_") || line.starts_with("process_"), "{line}");
    }
    let metrics = roomgate.metrics().await;
    assert_eq!(metrics.sum("roomgate_build_info", &[]), 1.0);
    assert_eq!(metrics.sum("roomgate_rooms_placed", &[]), 1.0);
}

#[tokio::test]
async fn the_status_page_is_one_page_of_its_own() {
    let roomgate = Roomgate::start(&config::conference(1)).await;
    let page = roomgate.admin_get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    let text = page.text();
    assert!(text.to_lowercase().contains("<!doctype html>"));
    assert!(!text.contains("https://") && !text.contains("http://"), "it fetches nothing from elsewhere");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src"), "{policy}");
}

#[tokio::test]
async fn other_names_and_other_origins_are_refused() {
    let roomgate = Roomgate::start(&config::conference(1)).await;
    let own = roomgate.admin().to_string();
    let local = format!("localhost:{}", roomgate.admin().port());
    // A page that resolves its own name to the loopback (DNS rebinding) comes with its own Host.
    for host in ["evil.example", "evil.example:9180", "127.0.0.1.evil.example"] {
        let status = status(&roomgate, "GET", "/api/v1/rooms", &[("host", host)]).await;
        assert!(status.is_client_error(), "{host}: {status}");
    }
    for host in [own.as_str(), local.as_str()] {
        assert_eq!(status(&roomgate, "GET", "/api/v1/rooms", &[("host", host)]).await, 200, "{host}");
    }
    let origin = |origin: &'static str| [("origin", origin)];
    for foreign in ["https://evil.example", "null"] {
        let status = status(&roomgate, "POST", "/api/v1/reload", &origin(foreign)).await;
        assert_eq!(status, 403, "{foreign}");
    }
    let same = format!("http://{own}");
    assert_eq!(status(&roomgate, "POST", "/api/v1/reload", &[("origin", &same)]).await, 200);
}

#[tokio::test]
async fn only_known_methods_and_paths_are_answered() {
    let roomgate = Roomgate::start(&config::conference(1)).await;
    for (method, path, expected) in [
        ("GET", "/api/v1/reload", 405),
        ("POST", "/api/v1/rooms", 405),
        ("DELETE", "/metrics", 405),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/../../etc/passwd", 404),
        ("HEAD", "/healthz", 200),
    ] {
        assert_eq!(status(&roomgate, method, path, &[]).await, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn tokens_are_asked_for_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ops.token"), format!("{TOKEN}\n")).unwrap();
    let config = config::conference(1)
        .replace("admin: { bind:", "admin: { tokens: { ops: \"file:ops.token\" }, bind:");
    let roomgate = Roomgate::start_in(folder, &config).await;
    for path in ["/metrics", "/api/v1/rooms", "/api/v1/config"] {
        assert_eq!(status(&roomgate, "GET", path, &[]).await, 401, "{path}");
        let wrong = [("authorization", "Bearer something-else-entirely")];
        assert_eq!(status(&roomgate, "GET", path, &wrong).await, 401, "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert!(status(&roomgate, "GET", path, &[]).await != 401, "{path} is for load balancers");
    }
    // The page holds nothing; it asks for the token and uses it on the API.
    assert_eq!(status(&roomgate, "GET", "/", &[]).await, 200);
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(status(&roomgate, "GET", "/api/v1/rooms", &[("authorization", &bearer)]).await, 200);
    assert!(!roomgate.log().iter().any(|line| line.contains(TOKEN)), "the log holds the token");
}

#[tokio::test]
async fn a_token_that_leaked_is_worth_nothing_after_a_reload() {
    const OTHER: &str = "another-token-of-sixteen-or-more";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ops.token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let config = config::conference(1)
        .replace("admin: { bind:", "admin: { tokens: { ops: \"file:ops.token\" }, bind:");
    let roomgate = Roomgate::start_in(folder, &config).await;
    let (old, new) = (format!("Bearer {TOKEN}"), format!("Bearer {OTHER}"));
    let rooms =
        async |bearer: &str| status(&roomgate, "GET", "/api/v1/rooms", &[("authorization", bearer)]).await;
    assert_eq!(rooms(&new).await, 401);

    std::fs::write(&file, format!("{OTHER}\n")).unwrap();
    let reload = status(&roomgate, "POST", "/api/v1/reload", &[("authorization", &old)]).await;
    assert_eq!(reload, 200, "the old one still counts until the new one is in force");
    assert_eq!(rooms(&old).await, 401);
    assert_eq!(rooms(&new).await, 200);
}
