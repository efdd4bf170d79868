//! The conference's HTTP side: page, tokens, WebSockets, WHIP.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jsonwebtoken::{EncodingKey, Header};
use roomgate::config::settings::*;
use roomgate::media::{Workers, WorkersConfig};
use roomgate::sfu::{Engine, Sfu, SfuHost, SfuLimits};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::kit::edge_rig::{Rig, read_answer, settings_from, soon, until, websocket};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

const FILE: &str = r#"
version: 1
listeners:
  https: { bind: ["127.0.0.1:0"], tls: self-signed }
  http: { bind: ["127.0.0.1:0"] }
media: { bind: ["127.0.0.1:0"], advertise: ["127.0.0.1"] }
sites:
  open.test: { app: conference, pool: workers, auth: open }
  closed.test: { app: conference, pool: workers, auth: open }
pools: { workers: { embedded: 1 } }
admin: { bind: [] }
rooms: { max: 1000 }
shutdown: { deadline: 4s }
"#;

/// An edge with one worker, `open.test` for everybody and `closed.test` for bearers.
fn rig() -> Rig {
    let mut settings = settings_from(FILE, &[]);
    let closed = settings.sites.exact.get_mut("closed.test").unwrap();
    Arc::make_mut(closed).app = App::Conference { auth: Auth::Jwt(Secret::new("env:X", SECRET)) };
    let media = MediaSettings {
        bind: vec!["127.0.0.1:0".parse().unwrap()],
        advertise: Advertise::Auto,
        key: None,
        sessions_max: std::num::NonZeroU32::new(100).unwrap(),
        selftest_every: Duration::from_secs(5),
    };
    let edge = settings.edge.clone();
    let rig = Rig::start_with(settings, |metrics, tasks| {
        let engine = Engine::new().unwrap();
        let limits = SfuLimits::new(100);
        let workers = Workers::start(
            WorkersConfig::from_settings(&media, &edge, 1).unwrap(),
            move |identity| SfuHost::new(identity, engine.clone(), limits, roomgate::clock::now()),
            metrics.media.clone(),
        );
        Some(Sfu::new(Arc::new(workers.unwrap()), tasks.clone(), metrics.sfu.clone()))
    });
    let pool = rig.pools.get("workers").unwrap();
    pool.nodes[0].set_embedded(Ok(()), roomgate::clock::now());
    rig
}

fn token(room: &str, alive: bool) -> String {
    let wall = roomgate::clock::wall().as_secs();
    let exp = if alive { wall + 60 } else { wall - 60 };
    let claims = serde_json::json!({ "room": room, "exp": exp });
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

#[tokio::test]
async fn the_page_comes_with_a_tag_and_then_not_at_all() {
    let rig = rig();
    let mut stream = rig.tls("http/1.1").await;
    let mut ask = async |method: &str, path: &str, extra: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: open.test\r\n{extra}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        if method == "HEAD" || extra.contains("If-None-Match") {
            // No body, whatever the length says.
            let mut head = Vec::new();
            soon("a head", async {
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap());
                }
            })
            .await;
            return (String::from_utf8(head).unwrap().to_ascii_lowercase(), Vec::new());
        }
        let (head, body) = read_answer(&mut stream).await;
        (head.to_ascii_lowercase(), body)
    };
    for path in ["/", "/rooms/blue", "/assets/main.js"] {
        let (head, body) = ask("GET", path, "").await;
        assert!(head.starts_with("http/1.1 200 ") && !body.is_empty(), "{path}: {head}");
        assert!(head.contains("x-content-type-options: nosniff\r\n"), "{head}");
        let etag = head.split("etag: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
        let (head, _) = ask("GET", path, &format!("If-None-Match: {etag}\r\n")).await;
        assert!(head.starts_with("http/1.1 304 "), "{path}: {head}");
        let (head, _) = ask("HEAD", path, "").await;
        assert!(
            head.starts_with("http/1.1 200 ")
                && head.contains(&format!("content-length: {}\r\n", body.len())),
            "{head}"
        );
    }
    for (method, path, status) in
        [("GET", "/nothing", 404), ("POST", "/", 405), ("GET", "/rooms/blue/ws", 426)]
    {
        let (head, _) = ask(method, path, "").await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{method} {path}: {head}");
    }
    assert_eq!(rig.rooms.len(), 0, "pages place no room");
    drop(stream);
    rig.end().await;
}

#[tokio::test]
async fn a_participant_joins_and_holds_the_room() {
    let rig = rig();
    let mut ws = websocket(rig.tls("http/1.1").await, "wss://open.test/rooms/Blue/ws").await;
    ws.send(Message::text(r#"{"type":"join","name":"Ada"}"#)).await.unwrap();
    let welcome = soon("a welcome", ws.next()).await.unwrap().unwrap().into_text().unwrap();
    assert!(welcome.contains(r#""type":"welcome""#), "{welcome}");
    assert_eq!((rig.rooms.len(), rig.rooms.list(1)[0].holds), (1, 1));
    ws.send(Message::text(r#"{"type":"leave"}"#)).await.unwrap();
    while soon("the end", ws.next()).await.is_some() {}
    until("the hold is gone", || rig.rooms.list(1)[0].holds == 0).await;
    rig.end().await;
}

#[tokio::test]
async fn tokens_come_before_places() {
    let rig = rig();
    let url = |token: &str| format!("wss://closed.test/rooms/blue/ws?token={token}");
    for (token, expected) in [
        (String::new(), 401),
        ("nonsense".to_owned(), 401),
        (token("blue", false), 401),
        (token("green", true), 403),
        (token("blue", true), 101),
    ] {
        let stream = rig.tls("http/1.1").await;
        let status = match soon("an answer", tokio_tungstenite::client_async(url(&token), stream)).await {
            Ok((_, answer)) => answer.status().as_u16(),
            Err(Error::Http(answer)) => answer.status().as_u16(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(status, expected);
        assert_eq!(rig.rooms.len(), usize::from(expected == 101));
    }
    rig.end().await;
}

#[tokio::test]
async fn resources_answer_as_the_standards_say() {
    let rig = rig();
    let open = ("open.test", String::new());
    let bearer = |token: &str| ("closed.test", format!("Authorization: Bearer {token}\r\n"));
    let long = "x".repeat(roomgate::sfu::BODY_BYTES_MAX + 1);
    for ((host, extra), method, path, kind, body, status) in [
        (open.clone(), "OPTIONS", "/rooms/blue/whip", "", "", 204),
        (open.clone(), "POST", "/rooms/blue/whip", "application/sdp", "not sdp", 400),
        (open.clone(), "POST", "/rooms/blue/whep", "text/plain", "v=0", 415),
        (open.clone(), "GET", "/rooms/blue/whip", "", "", 405),
        (open.clone(), "DELETE", "/rooms/blue/whip/nobody", "", "", 404),
        (bearer("nonsense"), "POST", "/rooms/blue/whip", "application/sdp", "not sdp", 401),
        (bearer(&token("green", true)), "POST", "/rooms/blue/whip", "application/sdp", "not sdp", 403),
        (bearer(&token("blue", true)), "POST", "/rooms/blue/whip", "application/sdp", "not sdp", 400),
        (open.clone(), "POST", "/rooms/blue/whip", "application/sdp", &long, 413),
    ] {
        // One connection each: a body that nobody wants to read ends it.
        let mut stream = rig.tls("http/1.1").await;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{extra}Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        // A body that is too large is refused while it is still being sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let _ = stream.flush().await;
        let (head, _) = read_answer(&mut stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path} {kind}: {head}");
        assert!(head.to_ascii_lowercase().contains("access-control-allow-origin: *\r\n"), "{head}");
    }
    rig.end().await;
}

#[tokio::test]
async fn browsers_get_page_and_resources_over_http_2() {
    let rig = rig();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(rig.tls("h2").await))
            .await
            .unwrap();
    let driver = tokio::spawn(connection);
    let mut ask = async |method: &str, path: &str, tag: &str, body: &'static str| {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://open.test{path}"))
            .header("if-none-match", tag)
            .header("content-type", "application/sdp")
            .body(Full::<bytes::Bytes>::from(body))
            .unwrap();
        let answer = soon("an answer", client.send_request(request)).await.unwrap();
        let (parts, body) = answer.into_parts();
        (parts, soon("a body", body.collect()).await.unwrap().to_bytes())
    };
    let (parts, body) = ask("GET", "/rooms/blue", "", "").await;
    assert_eq!(parts.status, 200);
    assert!(body.starts_with(b"<!"), "{body:?}");
    let tag = parts.headers["etag"].to_str().unwrap().to_owned();
    for (method, path, tag, body, status) in [
        ("GET", "/rooms/blue", tag.as_str(), "", 304),
        ("HEAD", "/rooms/blue", "", "", 200),
        ("OPTIONS", "/rooms/blue/whip", "", "", 204),
        ("POST", "/rooms/blue/whip", "", "not sdp", 400),
        ("GET", "/rooms/blue/ws", "", "", 426),
    ] {
        let (parts, body) = ask(method, path, tag, body).await;
        assert_eq!(parts.status, status, "{method} {path}: {body:?}");
    }
    driver.abort();
    rig.end().await;
}
