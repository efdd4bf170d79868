//! The access log of the real binary: what a line tells, what it never tells, and that traffic does not wait for it.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use futures_util::{SinkExt, StreamExt};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::kit::backends::Backend;
use crate::kit::client::Client;
use crate::kit::config::{API, JITSI, Shards};
use crate::kit::process::Roomgate;
use crate::kit::{SOON, until, within};

const LINES: &str = "roomgate_access_log_lines_total";
const DROPPED: &str = "roomgate_access_log_lines_dropped_total";

/// A Roomgate with two nodes and this access log.
async fn start(log: &str) -> (Roomgate, Client, Vec<Backend>) {
    let backends = Backend::start_many(2).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).with(log).text()).await;
    let client = Client::of(roomgate.https());
    (roomgate, client, backends)
}

/// The lines of a file once there are so many.
async fn lines(path: &Path, count: usize) -> Vec<String> {
    until(SOON, "lines of the access log", || async {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.len() >= count && text.ends_with('\n') { Ok(lines) } else { Err(lines) }
    })
    .await
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[tokio::test]
async fn a_json_line_tells_who_what_where_and_how_long_and_no_token() {
    let (roomgate, client, _backends) = start("access_log: { path: access.log }\n").await;
    let file = roomgate.folder().join("access.log");
    let mut h2 = client.h2(JITSI).await.unwrap();
    let agent = "Fire\"fox\t1";
    let referer = "https://meet.example.com/standup?jwt=SECRET1&lang=de";
    let headers = [("user-agent", agent), ("referer", referer), ("x-request-id", "forged")];
    let target = "/conference-request/v1?room=StandUp&token=SECRET2&%6Awt=SECRET3&x=1&access_token=SECRET4";
    let answer = h2.send(http::Method::POST, target, &headers, "hello").await.unwrap();
    let id = answer.json()["headers"]["x-request-id"].as_str().unwrap().to_owned();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "the node gets our id: {id}");

    let line = json(&lines(&file, 1).await[0]);
    for (field, expected) in [
        ("client", "127.0.0.1"),
        ("listener", "https"),
        ("site", JITSI),
        ("route", "conference-request"),
        ("host", JITSI),
        ("room", "standup"),
        ("pool", "shards"),
        ("method", "POST"),
        (
            "target",
            "/conference-request/v1?room=StandUp&token=[redacted]&%6Awt=[redacted]&x=1&access_token=[redacted]",
        ),
        ("http", "HTTP/2.0"),
        ("referer", "https://meet.example.com/standup?jwt=[redacted]&lang=de"),
        ("user_agent", agent),
        ("request_id", &id),
        ("tls", "TLSv1.3"),
    ] {
        assert_eq!(line[field], expected, "{field} of {line}");
    }
    assert_eq!(line["node"], answer.json()["node"]);
    assert_eq!((&line["status"], &line["bytes_in"]), (&Value::from(200), &Value::from(5)));
    assert_eq!(line["bytes_out"], answer.body.len());
    assert_eq!(line["resumed"], false);
    assert!(line["cipher"].as_str().unwrap().starts_with("TLS"), "{line}");
    let (head, took) = (line["head_ms"].as_f64().unwrap(), line["took_ms"].as_f64().unwrap());
    assert!(0.0 < head && head <= took && took < 10_000.0, "{line}");
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    assert!(!std::fs::read_to_string(&file).unwrap().contains("SECRET"));
    written(&roomgate, 1.0).await;
}

/// Lines are counted after they have been written.
async fn written(roomgate: &Roomgate, count: f64) {
    until(SOON, "the lines are counted", || async {
        let lines = roomgate.metrics().await.sum(LINES, &[]);
        if lines == count { Ok(()) } else { Err(lines) }
    })
    .await;
}

#[tokio::test]
async fn a_websocket_is_one_line_at_its_end() {
    let (roomgate, client, _backends) = start("access_log: { path: access.log }\n").await;
    let file = roomgate.folder().join("access.log");
    let mut socket = client.websocket(JITSI, "/xmpp-websocket?room=a&token=SECRET").await.unwrap();
    within(SOON, "the node's name", socket.next()).await.unwrap().unwrap();
    client.get(JITSI, "/b").await.unwrap();
    let first = json(&lines(&file, 1).await[0]);
    assert_eq!(first["target"], "/b", "nothing yet of a WebSocket that is open: {first}");
    socket.send(Message::text("twelve bytes")).await.unwrap();
    within(SOON, "the echo", socket.next()).await.unwrap().unwrap();
    socket.close(None).await.unwrap();
    while within(SOON, "the end", socket.next()).await.is_some_and(|message| message.is_ok()) {}
    let line = json(&lines(&file, 2).await[1]);
    assert_eq!((&line["status"], &line["websocket_end"]), (&Value::from(101), &Value::from("ended")));
    assert_eq!(
        (&line["room"], &line["target"]),
        (&"a".into(), &"/xmpp-websocket?room=a&token=[redacted]".into())
    );
    // The text with its header and mask, and a close frame with its code or without.
    let from_client = line["bytes_in"].as_u64().unwrap();
    assert!((24..=26).contains(&from_client), "{line}");
    assert!(line["bytes_out"].as_u64().unwrap() >= 14 + 4, "{line}");
}

#[tokio::test]
async fn refused_heads_and_unknown_hosts_have_their_lines_and_a_site_can_have_none() {
    let backends = Backend::start_many(1).await;
    let text = Shards::of(&backends).with("access_log: { path: access.log, format: combined }\n").text();
    let text = text.replace("app: jitsi, pool: shards", "app: jitsi, pool: shards, access_log: false");
    let roomgate = Roomgate::start_up(&text).await;
    let client = Client::of(roomgate.https());
    let file = roomgate.folder().join("access.log");
    client.get(JITSI, "/not-in-the-log").await.unwrap();
    let mut bad = client.tls(API, &["http/1.1"]).await.unwrap();
    bad.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await.unwrap();
    let _ = within(SOON, "it is refused", bad.read_to_end(&mut Vec::new())).await;
    // An answer is there before its line.
    lines(&file, 1).await;
    client.get("unknown.example.com", "/u").await.unwrap();
    lines(&file, 2).await;
    let headers = [("user-agent", "curl/8"), ("referer", "https://a.example/?token=SECRET")];
    let answer = client.send(API, http::Method::GET, "/r?jwt=SECRET", &headers, "").await.unwrap();
    let lines = lines(&file, 3).await;
    let shape = |line: &str| {
        let (before, rest) = line.split_once(" [").unwrap();
        format!("{before} {}", rest.split_once("] ").unwrap().1)
    };
    assert_eq!(shape(&lines[0]), "127.0.0.1 - - \"\" 400 - \"-\" \"-\"");
    assert!(shape(&lines[1]).starts_with("127.0.0.1 - - \"GET /u HTTP/1.1\" 421 "), "{}", lines[1]);
    let bytes = answer.body.len();
    assert_eq!(
        shape(&lines[2]),
        format!(
            "127.0.0.1 - - \"GET /r?jwt=[redacted] HTTP/1.1\" 200 {bytes} \"https://a.example/?token=[redacted]\" \"curl/8\""
        )
    );
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn sigusr1_opens_the_file_by_its_name_and_a_reload_changes_the_lines() {
    let (roomgate, client, _backends) = start("access_log: { path: access.log }\n").await;
    let at = |name: &str| roomgate.folder().join(name);
    client.get(JITSI, "/one").await.unwrap();
    assert_eq!(lines(&at("access.log"), 1).await.len(), 1);
    std::fs::rename(at("access.log"), at("access.log.1")).unwrap();
    roomgate.signal(Signal::USR1);
    until(SOON, "a new file", || async { at("access.log").exists().then_some(()).ok_or("none") }).await;
    client.get(JITSI, "/two").await.unwrap();
    assert_eq!(json(&lines(&at("access.log"), 1).await[0])["target"], "/two");
    assert_eq!(json(&lines(&at("access.log.1"), 1).await[0])["target"], "/one");

    // A connection that stays open through the reload; its next request follows the new configuration.
    let mut connection = client.h1(JITSI).await.unwrap();
    connection.get("/three").await.unwrap();
    lines(&at("access.log"), 2).await;
    let text = std::fs::read_to_string(roomgate.file()).unwrap();
    let other = "access_log: { path: other.log, format: combined, ip: truncated, redact: [x] }";
    std::fs::write(roomgate.file(), text.replace("access_log: { path: access.log }", other)).unwrap();
    assert_eq!(roomgate.reload().await.status, 200);
    connection.get("/four?x=SECRET&token=shown").await.unwrap();
    let line = &lines(&at("other.log"), 1).await[0];
    assert!(line.starts_with("127.0.0.0 - - ["), "{line}");
    assert!(line.contains("\"GET /four?x=[redacted]&token=shown HTTP/1.1\" 200 "), "{line}");
    assert_eq!(lines(&at("access.log"), 2).await.len(), 2);
    // And off.
    std::fs::write(roomgate.file(), text.replace("access_log: { path: access.log }", "")).unwrap();
    assert_eq!(roomgate.reload().await.status, 200);
    connection.get("/five").await.unwrap();
    assert_eq!(lines(&at("other.log"), 1).await.len(), 1);
    written(&roomgate, 4.0).await;
    assert_eq!(roomgate.metrics().await.sum(DROPPED, &[]), 0.0);
}

#[tokio::test]
async fn a_signal_without_an_access_log_changes_nothing() {
    let (roomgate, client, _backends) = start("").await;
    roomgate.signal(Signal::USR1);
    assert_eq!(client.get(JITSI, "/one").await.unwrap().status, 200);
    assert_eq!(roomgate.metrics().await.sum(LINES, &[]), 0.0);
}

/// Requests go on at their pace while lines are lost for `reason`.
async fn lines_are_lost_and_nothing_else(log: &str, reason: &str, prepare: impl FnOnce(PathBuf)) {
    let backends = Backend::start_many(2).await;
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path().join("fifo"));
    let text = Shards::of(&backends).with(log).text();
    let mut roomgate = Roomgate::start_in(folder, &text).await;
    roomgate.nodes_up().await;
    let client = Client::of(roomgate.https());
    let mut connection = client.h1(JITSI).await.unwrap();
    for _ in 0..50 {
        let answer = within(SOON, "an answer", connection.get("/a")).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    let label = format!("reason=\"{reason}\"");
    until(SOON, "the lines are counted as lost", || async {
        let metrics = roomgate.metrics().await;
        let lost = metrics.sum(DROPPED, &[&label]);
        if lost + metrics.sum(LINES, &[]) >= 50.0 && lost > 0.0 { Ok(()) } else { Err(lost) }
    })
    .await;
    let told = || roomgate.log().iter().filter(|line| line.contains("cannot be written")).count();
    until(SOON, "it is told", || async { (told() > 0).then_some(()).ok_or("not") }).await;
    assert_eq!(told(), 1, "it is told once");
    roomgate.signal(Signal::TERM);
    assert!(roomgate.exit(SOON).await.success());
}

#[tokio::test]
async fn a_full_disk_loses_lines_and_nothing_else() {
    lines_are_lost_and_nothing_else("access_log: { path: /dev/full }\n", "write", |_| {}).await;
}

#[tokio::test]
async fn a_fifo_that_nobody_reads_loses_lines_and_nothing_else() {
    let fifo = |path: PathBuf| mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    lines_are_lost_and_nothing_else("access_log: { path: fifo }\n", "open", fifo).await;
}

#[tokio::test]
async fn a_reader_that_stops_reading_loses_lines_and_holds_up_neither_traffic_nor_the_end() {
    let backends = Backend::start_many(2).await;
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    // Open for both, so that neither open waits; it is never read.
    let _reader = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let text = Shards::of(&backends).with("access_log: { path: fifo }\n").text();
    let mut roomgate = Roomgate::start_in(folder, &text).await;
    roomgate.nodes_up().await;
    let client = Client::of(roomgate.https());
    let mut connection = client.h1(JITSI).await.unwrap();
    // 64 KiB fit into the pipe: the rest waits in the queue, and nothing waits for it.
    let path = format!("/{}", "x".repeat(3000));
    for _ in 0..100 {
        let headers = [("referer", path.as_str())];
        let answer = connection.send(http::Method::GET, &path, &headers, "");
        within(SOON, "an answer", answer).await.unwrap();
    }
    // A reload to another file is what helps.
    let other = text.replace("path: fifo", "path: access.log");
    std::fs::write(roomgate.file(), other).unwrap();
    assert_eq!(roomgate.reload().await.status, 200);
    connection.get("/after").await.unwrap();
    let file = roomgate.folder().join("access.log");
    until(SOON, "a line in the other file", || async {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.contains("\"/after\"").then_some(()).ok_or(text)
    })
    .await;
    roomgate.signal(Signal::TERM);
    assert!(roomgate.exit(SOON).await.success());
}

#[tokio::test]
async fn a_websocket_that_outlives_the_stop_has_its_line_too() {
    let (mut roomgate, client, _backends) = start("access_log: { path: access.log }\n").await;
    let request = format!("wss://{JITSI}/xmpp-websocket?room=a").into_client_request().unwrap();
    let stream = client.tls(JITSI, &["http/1.1"]).await.unwrap();
    let (_silent, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let file = roomgate.folder().join("access.log");
    roomgate.signal(Signal::TERM);
    assert!(roomgate.exit(2 * SOON).await.success());
    let line = json(&lines(&file, 1).await[0]);
    assert_eq!(line["status"], 101);
    assert_eq!(line["websocket_end"], "stopping", "{line}");
}
