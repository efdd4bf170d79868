//! Bans: by rule and by hand, their end, and what fail2ban reads of them.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::kit::backends::Backend;
use crate::kit::client::Client;
use crate::kit::config::{API, JITSI, Shards};
use crate::kit::process::Roomgate;
use crate::kit::{SOON, until, within};

const REFUSED: &str = "roomgate_edge_connections_refused_total";

async fn start(top: &str) -> (Roomgate, Client, Vec<Backend>) {
    let backends = Backend::start_many(1).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).with(top).text()).await;
    let client = Client::of(roomgate.https());
    (roomgate, client, backends)
}

/// One request to the plain listener from this address of the machine; the status, or none if it was closed.
async fn ask_from(roomgate: &Roomgate, source: &str) -> Option<u16> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(roomgate.listener("http")).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    within(SOON, "an answer or the end", stream.read_to_string(&mut answer)).await.ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// A request to `/api/v1/bans`; status and body.
async fn api(roomgate: &Roomgate, method: &str, query: &str, body: &str) -> (u16, String) {
    let stream = TcpStream::connect(roomgate.admin()).await.unwrap();
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    let request = Request::builder().method(method).uri(format!("/api/v1/bans{query}"));
    let request = request.header("host", roomgate.admin().to_string());
    let request = if body.is_empty() { request } else { request.header("content-type", "application/json") };
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let answer = within(SOON, "the admin server", sender.send_request(request)).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn too_many_refusals_ban_for_a_while_and_only_that_client() {
    // A host that is not served here gets 421.
    let rule = "bans: { strangers: { statuses: [421], count: 5, within: 1m, lasts: 4s } }\n";
    let (mut roomgate, client, _backends) = start(rule).await;
    let mut connection = client.h1("unknown.example.com").await.unwrap();
    let mut known = client.h1(JITSI).await.unwrap();
    for _ in 0..4 {
        assert_eq!(connection.get("/").await.unwrap().status, 421);
    }
    assert_eq!(known.get("/a").await.unwrap().status, 200, "four are not five");
    assert_eq!(connection.get("/").await.unwrap().status, 421);
    // Open connections get 403 and end; new ones are closed at once.
    let status = within(SOON, "the ban", async {
        loop {
            let status = known.get("/a").await.unwrap().status;
            if status != 200 {
                return status;
            }
        }
    });
    assert_eq!(status.await, 403);
    assert_eq!(ask_from(&roomgate, "127.0.0.1").await, None);
    assert_eq!(ask_from(&roomgate, "127.0.0.2").await, Some(308), "others are let in");
    let line = roomgate.wait_log(SOON, "the ban", |line| line["message"] == "client banned").await;
    assert_eq!((&line["client"], &line["rule"]), (&"127.0.0.1".into(), &"strangers".into()));
    let metrics = roomgate.metrics().await;
    assert!(metrics.sum(REFUSED, &["banned"]) >= 1.0);
    assert_eq!(metrics.sum("roomgate_edge_bans_added_total", &["rule"]), 1.0);
    assert!(metrics.sum("roomgate_edge_limited_total", &["banned"]) >= 1.0);
    until(SOON, "the ban ends", || async { ask_from(&roomgate, "127.0.0.1").await.ok_or("closed") }).await;
    let banned = roomgate.log().iter().filter(|line| line.contains("client banned")).count();
    assert_eq!(banned, 1, "one line a ban");
}

#[tokio::test]
async fn failed_handshakes_ban_and_connects_that_go_away_do_not() {
    let rule = "bans: { scanners: { handshake_failures: true, count: 5, within: 1m, lasts: 10m } }\n";
    let (roomgate, _, _backends) = start(rule).await;
    for _ in 0..10 {
        drop(TcpStream::connect(roomgate.https()).await.unwrap());
    }
    assert_eq!(ask_from(&roomgate, "127.0.0.1").await, Some(308));
    for _ in 0..5 {
        let mut stream = TcpStream::connect(roomgate.https()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: plain on a TLS port\r\n\r\n").await.unwrap();
        let _ = within(SOON, "the end", stream.read_to_end(&mut Vec::new())).await;
    }
    until(SOON, "the ban", || async {
        match ask_from(&roomgate, "127.0.0.1").await {
            None => Ok(()),
            Some(status) => Err(status),
        }
    })
    .await;
}

#[tokio::test]
async fn exempt_networks_are_not_banned_and_a_dry_run_only_tells() {
    let rules = "limits: { exempt: [127.0.0.3] }\nbans:\n  a: { statuses: [400], count: 5, within: 1m, lasts: 10m, \
                 exempt: [127.0.0.2] }\n";
    let (roomgate, _, _backends) = start(rules).await;
    for source in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
        misbehave(&roomgate, source, 5).await;
        let expected = if source == "127.0.0.1" { None } else { Some(308) };
        assert_eq!(ask_from(&roomgate, source).await, expected, "{source}");
    }
    assert_eq!(roomgate.metrics().await.sum("roomgate_edge_bans", &[]), 1.0);

    let rules = "bans:\n  b: { statuses: [400], count: 5, within: 1m, lasts: 10m, dry_run: true }\n";
    let (mut roomgate, _, _backends) = start(rules).await;
    misbehave(&roomgate, "127.0.0.4", 6).await;
    assert_eq!(ask_from(&roomgate, "127.0.0.4").await, Some(308));
    let line =
        roomgate.wait_log(SOON, "who would be", |line| line["message"] == "client would be banned").await;
    assert_eq!((&line["client"], &line["rule"]), (&"127.0.0.4".into(), &"b".into()));
    assert_eq!(roomgate.metrics().await.sum("roomgate_edge_bans", &[]), 0.0);
}

/// Sends so many malformed requests from an address of this machine, each on its own connection.
async fn misbehave(roomgate: &Roomgate, source: &str, times: usize) {
    for _ in 0..times {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
        let mut stream = socket.connect(roomgate.listener("http")).await.unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nBad Header\r\n\r\n").await;
        let _ = within(SOON, "the end", stream.read_to_end(&mut Vec::new())).await;
    }
}

#[tokio::test]
async fn the_operator_bans_lists_and_lets_go() {
    let (roomgate, _, _backends) = start("").await;
    let network = r#"{"network":"127.0.0.0/16","reason":"spam \"x\"","for":"10m"}"#;
    assert_eq!(api(&roomgate, "POST", "", network).await.0, 200);
    assert_eq!(ask_from(&roomgate, "127.0.0.1").await, None);
    assert_eq!(ask_from(&roomgate, "127.1.0.1").await, Some(308));
    let (status, list) = api(&roomgate, "GET", "", "").await;
    let list: Value = serde_json::from_str(&list).unwrap();
    let ban = &list["bans"][0];
    assert_eq!((status, &list["total"], list["bans"].as_array().unwrap().len()), (200, &1.into(), 1));
    assert_eq!((&ban["network"], &ban["by"]), (&"127.0.0.0/16".into(), &"api".into()));
    assert_eq!(ban["reason"], "spam \"x\"");
    assert!(ban["left_seconds"].as_u64().unwrap() > 500, "{ban}");
    assert_eq!(api(&roomgate, "DELETE", "?network=127.0.0.0%2F24", "").await.0, 404, "not that one");
    assert_eq!(api(&roomgate, "DELETE", "?network=127.0.0.0%2F16", "").await.0, 200);
    assert_eq!(ask_from(&roomgate, "127.0.0.1").await, Some(308));
    for (method, query, body, expected) in [
        ("POST", "", "{}", 400),
        ("POST", "", r#"{"network":"me","for":"10m"}"#, 400),
        ("POST", "", r#"{"network":"0.0.0.0/0","for":"10m"}"#, 400),
        ("DELETE", "", "", 400),
        ("PUT", "", "", 405),
    ] {
        let (status, text) = api(&roomgate, method, query, body).await;
        assert_eq!(status, expected, "{method} {query} {body}: {text}");
    }
}

/// The addresses that a filter finds in these lines, as fail2ban itself reads them.
fn found(lines: &[String], filter: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    std::fs::write(&log, lines.join("\n") + "\n").unwrap();
    let filter = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/fail2ban/filter.d").join(filter);
    let output = Command::new("fail2ban-regex").arg("-o").arg("ip").arg(&log).arg(&filter).output();
    let output = output.expect("fail2ban-regex runs: scripts/test installs it (Debian's fail2ban)");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    told.lines().map(str::to_owned).collect()
}

// fail2ban-regex blocks the thread that it is waited for on; the nodes answer on another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fail2ban_finds_bans_in_the_log_and_refusals_in_the_access_log() {
    let rules = "bans: { a: { statuses: [400], count: 5, within: 1m, lasts: 10m } }\naccess_log: { path: access.log }\n";
    let backends = Backend::start_many(1).await;
    let text = Shards::of(&backends).with(rules).text();
    let site = "app: jitsi, pool: shards";
    let roomgate = Roomgate::start_up(&text.replace(site, &format!("{site}, deny: [127.0.0.0/8]"))).await;
    let body = r#"{"network":"2001:db8:1:2::/64","for":"10m","reason":"\"client banned\",\"client\":\"192.0.2.1\""}"#;
    assert_eq!(api(&roomgate, "POST", "", body).await.0, 200);
    for _ in 0..5 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.5:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(roomgate.listener("http")).await.unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nBad Header\r\n\r\n").await;
        let _ = within(SOON, "the end", stream.read_to_end(&mut Vec::new())).await;
    }
    let lines = until(SOON, "two bans", || async {
        let log = roomgate.log();
        let bans = log.iter().filter(|line| line.contains("client banned")).count();
        if bans == 2 { Ok(log) } else { Err(bans) }
    })
    .await;
    assert_eq!(found(&lines, "roomgate.conf"), ["2001:db8:1:2::", "127.0.0.5"]);

    // A target that looks like a line of its own is no line.
    let client = Client::of(roomgate.https());
    let forged = "/a?x=%22,%22status%22:404,&client=192.0.2.1";
    assert_eq!(client.get(API, forged).await.unwrap().status, 200);
    assert_eq!(client.get(JITSI, "/a").await.unwrap().status, 403);
    let read = || std::fs::read_to_string(roomgate.folder().join("access.log")).unwrap_or_default();
    until(SOON, "the line", || async { read().contains(":403,").then_some(()).ok_or("none") }).await;
    let mut lines: Vec<String> = read().lines().map(str::to_owned).collect();
    // And in the other format, as `format::tests` pins it.
    for (client, status) in [("192.0.2.77", 404), ("192.0.2.78", 200), ("2001:db8::9", 429)] {
        lines.push(format!(
            "{client} - - [27/Nov/2026:11:43:03 +0000] \"GET /404 HTTP/1.1\" {status} 404 \"-\" \"a\\x22 404 \""
        ));
    }
    assert_eq!(found(&lines, "roomgate-access.conf"), ["127.0.0.1", "192.0.2.77", "2001:db8::9"]);
}
