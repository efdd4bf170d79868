//! The cache, over sockets: what is kept and what never is, hits, revalidation, ranges, collapse, stale answers, purge.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use roomgate::config::settings::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::kit::backends::{Backend, Front};
use crate::kit::edge_rig::{DEADLINE, Rig, read_answer, settings_from, soon, until};

const FILE: &str = r#"
version: 1
listeners: { http: { bind: ["127.0.0.1:0"] }, https: { bind: ["127.0.0.1:0"], tls: self-signed } }
sites:
  a.test:
    pool: p
    routes:
      - { name: plain, prefix: /plain/, cache: true }
      - { name: kind, prefix: /kind/, cache: { fresh: 1h, max: 2h, stale: 1h, stale_if_error: 1h } }
      - name: edited
        prefix: /edited/
        cache: true
        compress: true
        response_headers: { remove: [X-Node], set: { X-Edit: "EDIT" } }
      - { name: past, prefix: /past/ }
  b.test: { pool: p, routes: [ { name: all, prefix: /, cache: true } ] }
pools: { p: { nodes: { n: "http://NODE" } } }
cache: CACHE
admin: { bind: [] }
"#;

/// What a node answers to a path.
#[derive(Clone)]
struct Script {
    status: &'static str,
    lines: String,
    body: Vec<u8>,
    /// No length beforehand.
    chunked: bool,
    /// Half of the body comes before the gate opens; nothing of the head does if the body is empty.
    gate: Option<Arc<Semaphore>>,
    /// The connection ends after half of the body.
    cut: bool,
}

impl Script {
    fn new(lines: &str, body: impl Into<Vec<u8>>) -> Self {
        let (lines, body) = (lines.to_owned(), body.into());
        Self { status: "200 OK", lines, body, chunked: false, gate: None, cut: false }
    }
}

/// A node that follows scripts, by target.
struct Node {
    addr: SocketAddr,
    scripts: Arc<Mutex<HashMap<String, Script>>>,
    seen: Arc<Mutex<Vec<String>>>,
    accept: tokio::task::JoinHandle<()>,
}

impl Node {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let scripts = Arc::new(Mutex::new(HashMap::new()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (own_scripts, own_seen) = (scripts.clone(), seen.clone());
        let accept = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, own_scripts.clone(), own_seen.clone()));
            }
        });
        Self { addr, scripts, seen, accept }
    }

    fn says(&self, target: &str, script: Script) {
        self.scripts.lock().unwrap().insert(target.to_owned(), script);
    }

    /// Requests for a target so far.
    fn asked(&self, target: &str) -> usize {
        let line = format!(" {target} HTTP/1.1\r\n");
        self.seen.lock().unwrap().iter().filter(|head| head.contains(&line)).count()
    }

    fn last(&self) -> String {
        self.seen.lock().unwrap().last().unwrap().to_lowercase()
    }
}

async fn serve(
    mut stream: TcpStream,
    scripts: Arc<Mutex<HashMap<String, Script>>>,
    seen: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let target = head.split(' ').nth(1).unwrap().to_owned();
        seen.lock().unwrap().push(head.clone());
        let script = scripts.lock().unwrap().get(&target).cloned();
        let script = script.unwrap_or_else(|| Script {
            status: "404 Not Found",
            ..Script::new("", format!("nothing at {target}"))
        });
        let etag = script.lines.lines().find_map(|line| line.strip_prefix("ETag: "));
        let still =
            etag.is_some_and(|etag| head.to_lowercase().contains(&format!("if-none-match: {etag}\r\n")));
        if still {
            let answer = format!("HTTP/1.1 304 Not Modified\r\n{}\r\n", script.lines);
            stream.write_all(answer.as_bytes()).await.ok()?;
            continue;
        }
        if let (Some(gate), true) = (&script.gate, script.body.is_empty()) {
            gate.acquire().await.unwrap().forget();
        }
        let framing = if script.chunked {
            "Transfer-Encoding: chunked\r\n".to_owned()
        } else {
            format!("Content-Length: {}\r\n", script.body.len())
        };
        let answer = format!("HTTP/1.1 {}\r\n{}X-Node: n\r\n{framing}\r\n", script.status, script.lines);
        stream.write_all(answer.as_bytes()).await.ok()?;
        if head.starts_with("HEAD ") {
            continue;
        }
        let (first, second) = script.body.split_at(script.body.len() / 2);
        let chunk = |part: &[u8]| {
            if script.chunked && !part.is_empty() {
                [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()
            } else {
                part.to_vec()
            }
        };
        stream.write_all(&chunk(first)).await.ok()?;
        if let (Some(gate), false) = (&script.gate, script.body.is_empty()) {
            gate.acquire().await.unwrap().forget();
        }
        if script.cut {
            return None;
        }
        stream.write_all(&chunk(second)).await.ok()?;
        if script.chunked {
            stream.write_all(b"0\r\n\r\n").await.ok()?;
        }
    }
}

struct House {
    rig: Rig,
    node: Node,
}

/// An answer: head in lower case, body.
type Answer = (String, Vec<u8>);

impl House {
    async fn new() -> Self {
        Self::with("{ memory: 4MiB, object: 1MiB }").await
    }

    async fn with(cache: &str) -> Self {
        let node = Node::start().await;
        let rig = Rig::start_with(settings(&node, cache, "one"), |_, _| None);
        Self { rig, node }
    }

    async fn ask(&self, method: &str, host: &str, target: &str, lines: &str) -> Answer {
        ask(self.rig.edge.local_addr("http").unwrap(), method, host, target, lines).await
    }

    async fn get(&self, target: &str, lines: &str) -> Answer {
        self.ask("GET", "a.test", target, lines).await
    }

    /// What became of requests for a target in a row, as the client is told it.
    async fn fates(&self, target: &str, count: usize) -> Vec<String> {
        let mut fates = Vec::new();
        for _ in 0..count {
            fates.push(fate(&self.get(target, "").await));
        }
        fates
    }
}

fn settings(node: &Node, cache: &str, edit: &str) -> Settings {
    let text = FILE.replace("NODE", &node.addr.to_string()).replace("CACHE", cache).replace("EDIT", edit);
    settings_from(&text, &[])
}

async fn ask(edge: SocketAddr, method: &str, host: &str, target: &str, lines: &str) -> Answer {
    let mut stream = TcpStream::connect(edge).await.unwrap();
    let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon(target, stream.read_to_end(&mut answer)).await.unwrap();
    split(answer)
}

fn split(answer: Vec<u8>) -> Answer {
    let at = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(answer[..at].to_vec()).unwrap().to_lowercase();
    let mut body = answer[at..].to_vec();
    if head.contains("transfer-encoding: chunked") {
        let mut chunks = roomgate::wire::http_body::Chunks::default();
        let (mut rest, mut whole) = (&body[..], Vec::new());
        while !chunks.is_done() && !rest.is_empty() {
            let (taken, data) = chunks.advance(rest).unwrap();
            whole.extend_from_slice(&rest[data]);
            rest = &rest[taken..];
        }
        body = whole;
    }
    (head, body)
}

fn field<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let lines = answer.0.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(n, _)| *n == name).map(|(_, value)| value).next()
}

fn status(answer: &Answer) -> &str {
    answer.0.split(' ').nth(1).unwrap()
}

/// `Cache-Status` without the name of the cache and the time that is left.
fn fate(answer: &Answer) -> String {
    let text = field(answer, "cache-status").unwrap_or("none");
    let parts = text.split("; ").skip(usize::from(text != "none")).filter(|part| !part.starts_with("ttl="));
    parts.collect::<Vec<_>>().join("; ")
}

const HOUR: &str = "Cache-Control: max-age=3600\r\n";

#[tokio::test]
async fn what_was_fetched_once_is_given_again() {
    let house = House::new().await;
    for chunked in [false, true] {
        let target = format!("/plain/{chunked}?v=1");
        let script =
            Script { chunked, ..Script::new(&format!("{HOUR}ETag: \"a\"\r\nAge: 7\r\n"), "hello, cache") };
        house.node.says(&target, script);
        let first = house.get(&target, "").await;
        assert_eq!((status(&first), &first.1[..]), ("200", &b"hello, cache"[..]), "{}", first.0);
        assert_eq!(fate(&first), "fwd=uri-miss; stored");
        until("it is kept", || house.rig.edge.cache().objects > usize::from(chunked)).await;
        let second = house.get(&target, "").await;
        assert_eq!((fate(&second).as_str(), &second.1[..]), ("hit", &b"hello, cache"[..]));
        assert!(matches!(field(&second, "age"), Some("7" | "8" | "9")), "{}", second.0);
        assert!(second.0.contains("cache-status: roomgate; hit; ttl=35"), "{}", second.0);
        assert_eq!(field(&second, "content-length"), Some("12"), "{}", second.0);
        assert_eq!((field(&second, "x-node"), field(&second, "etag")), (Some("n"), Some("\"a\"")));
        let head = house.ask("HEAD", "a.test", &target, "").await;
        assert_eq!((fate(&head).as_str(), head.1.len()), ("hit", 0));
        assert_eq!(field(&head, "content-length"), Some("12"), "{}", head.0);
        assert_eq!(house.node.asked(&target), 1);
    }
    // Another query, host or path is another answer.
    house.node.says("/plain/false?v=2", Script::new(HOUR, "two"));
    assert_eq!(house.fates("/plain/false?v=2", 2).await, ["fwd=uri-miss; stored", "hit"]);
    let other = house.ask("GET", "b.test", "/plain/false?v=1", "").await;
    assert_eq!(fate(&other), "fwd=uri-miss; stored");
    let port = house.ask("GET", "a.test:81", "/plain/false?v=1", "").await;
    assert_eq!(fate(&port), "fwd=uri-miss; stored");
    assert!(house.node.last().contains("host: a.test:81\r\n"), "{}", house.node.last());
    // A route without `cache` says nothing of one.
    house.node.says("/past/x", Script::new(HOUR, "x"));
    assert_eq!(house.fates("/past/x", 2).await, ["none", "none"]);
    assert_eq!(house.node.asked("/past/x"), 2);
    until("all are counted", || house.rig.edge.cache().requests == 10).await;
    assert_eq!(house.rig.edge.cache().hits, 5);
    // A client of HTTP/1.0 gets what came in chunks with its length, and from a node until the connection ends.
    for (target, length) in [("/plain/true?v=1", Some("12")), ("/plain/old", None)] {
        house.node.says("/plain/old", Script { chunked: true, ..Script::new(HOUR, "hello, cache") });
        let old = house.rig.raw(format!("GET {target} HTTP/1.0\r\nHost: a.test\r\n\r\n").as_bytes()).await;
        let old = split(old.into_bytes());
        assert_eq!((field(&old, "content-length"), &old.1[..]), (length, &b"hello, cache"[..]), "{}", old.0);
    }
    house.rig.end().await;
}

#[tokio::test]
async fn what_may_not_be_kept_never_is() {
    let house = House::new().await;
    let secret = |lines: &str| format!("{HOUR}{lines}");
    for (name, script) in [
        ("cookie", Script::new(&secret("Set-Cookie: a=b\r\n"), "x")),
        ("private", Script::new("Cache-Control: private, max-age=60\r\n", "x")),
        ("no-store", Script::new("Cache-Control: no-store\r\n", "x")),
        ("unsaid", Script::new("ETag: \"a\"\r\n", "x")),
        ("stale", Script::new("Cache-Control: max-age=0\r\n", "x")),
        ("star", Script::new(&secret("Vary: *\r\n"), "x")),
        ("by-cookie", Script::new(&secret("Vary: Cookie\r\n"), "x")),
        ("error", Script { status: "500 Oh", ..Script::new(HOUR, "x") }),
        ("long", Script::new(HOUR, vec![b'x'; (1 << 20) + 1])),
        ("long-chunked", Script { chunked: true, ..Script::new(HOUR, vec![b'x'; 3 << 20]) }),
    ] {
        let target = format!("/plain/{name}");
        house.node.says(&target, script.clone());
        for _ in 0..3 {
            let answer = house.get(&target, "").await;
            assert_eq!(status(&answer), script.status.split(' ').next().unwrap(), "{name}");
            assert!(answer.1 == script.body, "{name}: {} bytes", answer.1.len());
            assert!(!fate(&answer).contains("hit"), "{name}: {}", answer.0);
        }
        assert_eq!(house.node.asked(&target), 3, "{name}");
    }
    // A request with credentials neither gets what is kept nor leaves anything.
    house.node.says("/plain/auth", Script::new(HOUR, "x"));
    for _ in 0..2 {
        let answer = house.get("/plain/auth", "Authorization: Bearer x\r\n").await;
        assert_eq!(fate(&answer), "fwd=request");
    }
    assert_eq!(house.fates("/plain/auth", 2).await, ["fwd=uri-miss; stored", "hit"]);
    let answer = house.get("/plain/auth", "Authorization: Bearer x\r\n").await;
    assert_eq!((fate(&answer).as_str(), house.node.asked("/plain/auth")), ("fwd=request", 4));
    house.rig.end().await;
}

#[tokio::test]
async fn a_cookie_takes_no_part_in_what_others_get() {
    let house = House::new().await;
    house.node.says("/plain/x", Script::new(HOUR, "for all"));
    let answer = house.get("/plain/x", "Cookie: a=b\r\nX-Original-URL: /admin\r\n").await;
    assert_eq!(fate(&answer), "fwd=uri-miss; stored");
    let seen = house.node.last();
    assert!(!seen.contains("cookie") && !seen.contains("x-original-url"), "{seen}");
    // One that is not kept is asked for once more, as the client meant it; after that at once.
    house.node.says("/plain/mine", Script::new("Cache-Control: private\r\n", "mine"));
    for asked in [2, 3] {
        let answer = house.get("/plain/mine", "Cookie: a=b\r\n").await;
        assert_eq!((answer.1.as_slice(), house.node.asked("/plain/mine")), (&b"mine"[..], asked));
        assert!(house.node.last().contains("cookie: a=b\r\n"), "{}", house.node.last());
    }
    house.rig.end().await;
}

#[tokio::test]
async fn answers_vary_by_what_they_say() {
    let house = House::new().await;
    house.node.says("/plain/l", Script::new(&format!("{HOUR}Vary: Accept-Language\r\n"), "l"));
    house.node.says("/plain/e", Script::new(&format!("{HOUR}Vary: Accept-Encoding\r\n"), "e"));
    for (target, line, expected) in [
        ("/plain/l", "Accept-Language: de\r\n", "fwd=uri-miss; stored"),
        ("/plain/l", "Accept-Language: en\r\n", "fwd=vary-miss; stored"),
        ("/plain/l", "Accept-Language: de\r\n", "hit"),
        ("/plain/l", "Accept-Language: en\r\n", "hit"),
        ("/plain/l", "", "fwd=vary-miss; stored"),
        ("/plain/e", "Accept-Encoding: gzip, deflate, br\r\n", "fwd=uri-miss; stored"),
        ("/plain/e", "Accept-Encoding: br;q=1.0, gzip;q=0.8\r\n", "hit"),
        ("/plain/e", "Accept-Encoding: gzip\r\n", "fwd=vary-miss; stored"),
    ] {
        let answer = house.get(target, line).await;
        assert_eq!(fate(&answer), expected, "{target} {line}");
    }
    assert!(house.node.last().contains("accept-encoding: gzip\r\n"), "{}", house.node.last());
    house.rig.end().await;
}

#[tokio::test]
async fn conditions_and_ranges_are_answered_from_what_is_kept() {
    let house = House::new().await;
    let lines = format!(
        "{HOUR}ETag: \"a\"\r\nLast-Modified: Tue, 15 Nov 1994 12:45:26 GMT\r\nContent-Type: text/css\r\n"
    );
    house.node.says("/plain/x", Script::new(&lines, "0123456789"));
    // The first one's range is cut out of the whole, which is fetched.
    let first = house.get("/plain/x", "Range: bytes=2-4\r\n").await;
    assert_eq!((status(&first), &first.1[..]), ("206", &b"234"[..]), "{}", first.0);
    assert!(!house.node.last().contains("range"), "{}", house.node.last());
    for (lines, expected, body, range) in [
        ("If-None-Match: \"a\"\r\n", "304", "", None),
        ("If-None-Match: W/\"a\"\r\n", "304", "", None),
        ("If-None-Match: \"b\"\r\n", "200", "0123456789", None),
        ("If-Modified-Since: Tue, 15 Nov 1994 12:45:26 GMT\r\n", "304", "", None),
        ("Range: bytes=0-0\r\n", "206", "0", Some("bytes 0-0/10")),
        ("Range: bytes=-3\r\n", "206", "789", Some("bytes 7-9/10")),
        ("Range: bytes=8-\r\n", "206", "89", Some("bytes 8-9/10")),
        ("Range: bytes=0-1,4-5\r\n", "200", "0123456789", None),
        ("Range: bytes=10-\r\n", "416", "no such part\n", Some("bytes */10")),
        ("Range: bytes=0-1\r\nIf-Range: \"a\"\r\n", "206", "01", Some("bytes 0-1/10")),
        ("Range: bytes=0-1\r\nIf-Range: \"b\"\r\n", "200", "0123456789", None),
    ] {
        let answer = house.get("/plain/x", lines).await;
        assert_eq!(
            (status(&answer), String::from_utf8_lossy(&answer.1).as_ref()),
            (expected, body),
            "{lines}"
        );
        assert_eq!(field(&answer, "content-range"), range, "{lines}");
        if expected == "304" {
            assert_eq!((field(&answer, "etag"), field(&answer, "content-type")), (Some("\"a\""), None));
        }
    }
    assert_eq!(house.node.asked("/plain/x"), 1);
    house.rig.end().await;
}

#[tokio::test]
async fn a_node_is_asked_whether_it_is_still_good() {
    let house = House::new().await;
    // Old at once, but with a tag to ask by.
    let old = "Cache-Control: max-age=10\r\nAge: 10\r\nETag: \"a\"\r\nX-Version: VERSION\r\n";
    house.node.says("/plain/x", Script::new(&old.replace("VERSION", "1"), "good"));
    assert_eq!(house.fates("/plain/x", 1).await, ["fwd=uri-miss; stored"]);
    house.node.says("/plain/x", Script::new(&old.replace("VERSION", "2"), "unsent"));
    let again = house.get("/plain/x", "").await;
    assert_eq!((fate(&again).as_str(), &again.1[..]), ("fwd=stale; fwd-status=304", &b"good"[..]));
    assert!(house.node.last().contains("if-none-match: \"a\"\r\n"), "{}", house.node.last());
    assert_eq!(field(&again, "x-version"), Some("2"), "a 304 updates the head: {}", again.0);
    // The client's own condition is answered by us.
    let own = house.get("/plain/x", "If-None-Match: \"a\"\r\n").await;
    assert_eq!((status(&own), fate(&own).as_str()), ("304", "fwd=stale; fwd-status=304"));
    // A new one takes its place.
    house.node.says("/plain/x", Script::new(&format!("{HOUR}ETag: \"b\"\r\n"), "new"));
    assert_eq!(house.get("/plain/x", "").await.1, b"new");
    assert_eq!(house.fates("/plain/x", 1).await, ["hit"]);
    // `no-cache` asks; `only-if-cached` does not.
    let asked = house.get("/plain/x", "Cache-Control: no-cache\r\n").await;
    assert_eq!(fate(&asked), "fwd=request; fwd-status=304");
    for (target, expected) in [("/plain/x", "200"), ("/plain/none", "504")] {
        let answer = house.get(target, "Cache-Control: only-if-cached\r\n").await;
        assert_eq!(status(&answer), expected, "{target}");
    }
    assert_eq!(house.node.asked("/plain/none"), 0);
    // One that became private is gone.
    house.node.says("/plain/x", Script::new("Cache-Control: private\r\nETag: \"c\"\r\n", "mine"));
    house.get("/plain/x", "Cache-Control: no-cache\r\n").await;
    assert_eq!(house.rig.edge.cache().objects, 0);
    house.rig.end().await;
}

#[tokio::test]
async fn a_hundred_clients_at_once_are_one_request() {
    let house = House::new().await;
    let edge = house.rig.edge.local_addr("http").unwrap();
    let body: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    for (chunked, cookie) in [(false, ""), (true, ""), (false, "Cookie: a=b\r\n")] {
        let target = format!("/plain/{chunked}{}", cookie.len());
        let gate = Arc::new(Semaphore::new(0));
        let script = Script { chunked, gate: Some(gate.clone()), ..Script::new(HOUR, body.clone()) };
        house.node.says(&target, script);
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let target = target.clone();
            clients.spawn(async move { ask(edge, "GET", "a.test", &target, cookie).await });
        }
        until("the node is asked", || house.node.asked(&target) == 1).await;
        gate.add_permits(1);
        let mut fates: HashMap<String, usize> = HashMap::new();
        while let Some(answer) = soon("all are answered", clients.join_next()).await {
            let answer = answer.unwrap();
            assert!(answer.1 == body, "{target}: {} bytes", answer.1.len());
            *fates.entry(fate(&answer)).or_default() += 1;
        }
        assert_eq!(fates.get("fwd=uri-miss; stored"), Some(&1), "{fates:?}");
        assert_eq!(house.node.asked(&target), 1, "{fates:?}");
    }
    house.rig.end().await;
}

#[tokio::test]
async fn those_who_waited_in_vain_go_by_themselves() {
    let house = House::new().await;
    let edge = house.rig.edge.local_addr("http").unwrap();
    let all = async |target: &str, gate: &Semaphore| {
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let target = target.to_owned();
            clients.spawn(async move { ask(edge, "GET", "a.test", &target, "").await });
        }
        until("the node is asked", || house.node.asked(target) == 1).await;
        gate.add_permits(100);
        soon("all are answered", clients.join_all()).await
    };
    // It is not kept: each gets its own.
    let gate = Arc::new(Semaphore::new(0));
    let script = Script { gate: Some(gate.clone()), ..Script::new("Cache-Control: private\r\n", "") };
    house.node.says("/plain/mine", script);
    let answers = all("/plain/mine", &gate).await;
    assert!(answers.iter().all(|answer| status(answer) == "200" && fate(answer).starts_with("fwd=uri-miss")));
    assert_eq!(house.node.asked("/plain/mine"), 20);
    // It breaks off before its end: the first learns it by its body, those that waited for all of it get their own.
    let gate = Arc::new(Semaphore::new(0));
    let script =
        Script { chunked: true, cut: true, gate: Some(gate.clone()), ..Script::new(HOUR, "0123456789") };
    house.node.says("/plain/cut", script);
    let answers = all("/plain/cut", &gate).await;
    assert!(answers.iter().all(|answer| answer.1.len() < 10), "nobody takes it for whole");
    assert!(house.node.asked("/plain/cut") > 1);
    assert_eq!(house.rig.edge.cache().objects, 0);
    house.rig.end().await;
}

/// The connection's bounds are free again, so what it asked for must be.
#[tokio::test]
async fn a_stream_that_waits_ends_with_its_connection() {
    let house = House::new().await;
    let gate = Arc::new(Semaphore::new(0));
    house.node.says("/plain/x", Script { gate: Some(gate.clone()), ..Script::new(HOUR, "") });
    let mut leader = house.rig.tls("http/1.1").await;
    leader.write_all(b"GET /plain/x HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    until("the node is asked", || house.node.asked("/plain/x") == 1).await;
    let tls = TokioIo::new(house.rig.tls("h2").await);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), tls).await.unwrap();
    tokio::spawn(connection);
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let request = http::Request::get("https://a.test/plain/x").body(Empty::<Bytes>::new()).unwrap();
        streams.spawn(client.send_request(request));
    }
    until("they wait", || house.rig.metrics.edge.cache.waiting.get() == 5).await;
    // The last of them closes the connection.
    drop((client, streams));
    until("nobody waits", || house.rig.metrics.edge.cache.waiting.get() == 0).await;
    gate.add_permits(1);
    assert!(read_answer(&mut leader).await.0.starts_with("HTTP/1.1 200"));
    drop(leader);
    // So does one that reads what is on its way.
    let gate = Arc::new(Semaphore::new(0));
    house.node.says("/plain/y", Script { gate: Some(gate.clone()), ..Script::new(HOUR, vec![b'x'; 1000]) });
    let ended = || -> f64 {
        let all = house.rig.metrics.registry.gather();
        let requests = all.iter().filter(|family| family.name() == "roomgate_edge_requests_total");
        requests.flat_map(|family| family.get_metric()).map(|metric| metric.get_counter().get_value()).sum()
    };
    until("the leader and the five are counted", || ended() == 6.0).await;
    let tls = TokioIo::new(house.rig.tls("h2").await);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), tls).await.unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..5 {
        let request = http::Request::get("https://a.test/plain/y").body(Empty::<Bytes>::new()).unwrap();
        let mut answer = soon("a head", client.send_request(request)).await.unwrap();
        assert!(soon("its beginning", answer.body_mut().frame()).await.unwrap().unwrap().is_data());
        answers.push(answer);
    }
    assert_eq!(ended(), 6.0, "all are under way");
    drop((client, answers));
    until("all have ended", || ended() == 11.0).await;
    assert_eq!(house.node.asked("/plain/y"), 1);
    gate.add_permits(1);
    house.rig.end().await;
}

#[tokio::test]
async fn a_stop_waits_for_those_who_read_what_another_thread_fetches() {
    let house = House::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let body = vec![b'x'; 100_000];
    house.node.says("/plain/x", Script { gate: Some(gate.clone()), ..Script::new(HOUR, body.clone()) });
    let mut clients = Vec::new();
    // One leads; the others are on whatever thread.
    for _ in 0..8 {
        let mut client = house.rig.plain().await;
        client.write_all(b"GET /plain/x HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
        let mut some = [0; 100];
        soon("its beginning", client.read_exact(&mut some)).await.unwrap();
        clients.push((client, some.to_vec()));
    }
    // The leader is among those that leave.
    clients.drain(..4);
    let tasks = house.rig.tasks.clone();
    let drain = tokio::spawn(async move { tasks.drain(DEADLINE).await });
    house.rig.tasks.stopping().cancelled().await;
    gate.add_permits(1);
    for (mut client, mut answer) in clients {
        soon("the rest", client.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.ends_with(&body), "{} bytes", answer.len());
    }
    assert_eq!(soon("the end", drain).await.unwrap(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_ends_nothing_and_a_node_that_breaks_off_leaves_nothing() {
    let house = House::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let script = Script { gate: Some(gate.clone()), ..Script::new(HOUR, vec![b'x'; 100_000]) };
    house.node.says("/plain/left", script);
    let mut leaver = house.rig.plain().await;
    leaver.write_all(b"GET /plain/left HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    let mut some = [0; 100];
    soon("its beginning", leaver.read_exact(&mut some)).await.unwrap();
    drop(leaver);
    gate.add_permits(1);
    let answer = house.get("/plain/left", "").await;
    assert_eq!(
        (fate(&answer).as_str(), answer.1.len(), house.node.asked("/plain/left")),
        ("hit", 100_000, 1)
    );
    for chunked in [false, true] {
        let target = format!("/plain/cut{chunked}");
        house.node.says(&target, Script { cut: true, chunked, ..Script::new(HOUR, vec![b'x'; 100_000]) });
        let answer = house.get(&target, "").await;
        assert!(answer.1.len() < 100_000 && field(&answer, "content-length") != Some("50000"));
        until("it is gone", || house.rig.edge.cache().objects == 1).await;
        house.node.says(&target, Script { chunked, ..Script::new(HOUR, "whole") });
        assert_eq!(house.get(&target, "").await.1, b"whole");
        house.rig.edge.purge(&format!("http://a.test{target}"), false).unwrap();
    }
    house.rig.end().await;
}

#[tokio::test]
async fn a_stale_answer_is_given_while_the_node_is_asked_and_when_it_is_down() {
    let house = House::new().await;
    let old = "Cache-Control: max-age=10\r\nAge: 60\r\n";
    house.node.says("/kind/x", Script::new(old, "old"));
    house.node.says("/plain/x", Script::new(&format!("{old}ETag: \"a\"\r\n"), "old"));
    assert_eq!(house.fates("/kind/x", 1).await, ["fwd=uri-miss; stored"]);
    assert_eq!(house.fates("/plain/x", 1).await, ["fwd=uri-miss; stored"]);
    // The next one gets it at once, although the node does not answer; behind it the node is asked once.
    let gate = Arc::new(Semaphore::new(0));
    house.node.says("/kind/x", Script { gate: Some(gate.clone()), ..Script::new(old, "") });
    for _ in 0..3 {
        let answer = house.get("/kind/x", "").await;
        assert_eq!((fate(&answer).as_str(), &answer.1[..]), ("hit", &b"old"[..]));
        assert!(answer.0.contains("ttl=-5"), "{}", answer.0);
    }
    until("it is asked behind it, once", || house.node.asked("/kind/x") == 2).await;
    house.node.says("/kind/x", Script::new(HOUR, "new"));
    gate.add_permits(1);
    soon("the new one is there", async { while house.get("/kind/x", "").await.1 != b"new" {} }).await;
    // A node that says 503, and one that is not there.
    for down in [false, true] {
        for path in ["/kind/e", "/plain/e"] {
            house.node.says(path, Script::new(&format!("{old}ETag: \"a\"\r\n"), "old"));
            if !down {
                house.get(path, "").await;
            }
            house.node.says(path, Script { status: "503 Busy", ..Script::new("", "busy") });
        }
        if down {
            house.node.accept.abort();
            until("it is gone", || std::net::TcpStream::connect(house.node.addr).is_err()).await;
        }
        let kind = house.get("/kind/e", "Cache-Control: no-cache\r\n").await;
        assert_eq!((status(&kind), &kind.1[..]), ("200", &b"old"[..]), "{}", kind.0);
        assert!(fate(&kind).ends_with("detail=stale-if-error"), "{}", kind.0);
        let plain = house.get("/plain/e", "").await;
        assert!(plain.0.starts_with("http/1.1 50"), "nobody allowed it: {}", plain.0);
        if !down {
            assert_eq!(plain.1, b"busy");
            assert!(fate(&kind).contains("fwd-status=503"), "{}", kind.0);
        }
    }
    house.rig.end().await;
}

#[tokio::test]
async fn purges_and_unsafe_methods_take_away() {
    let house = House::new().await;
    for target in ["/plain/a?v=1", "/plain/a", "/plain/b", "/kind/a"] {
        house.node.says(target, Script::new(HOUR, target.as_bytes()));
        assert_eq!(house.fates(target, 2).await, ["fwd=uri-miss; stored", "hit"], "{target}");
    }
    let edge = &house.rig.edge;
    assert_eq!(edge.purge("http://A.test:80/plain/a", false), Ok(1));
    assert_eq!(edge.purge("http://a.test/plain/a", false), Ok(0));
    assert_eq!(edge.purge("https://a.test/", true), Ok(0), "another scheme");
    assert!(edge.purge("/plain/a", false).is_err());
    assert_eq!(house.fates("/plain/a?v=1", 1).await, ["hit"]);
    assert_eq!(house.fates("/plain/a", 1).await, ["fwd=uri-miss; stored"]);
    assert_eq!(edge.purge("http://a.test/plain/", true), Ok(3));
    assert_eq!((edge.cache().objects, house.fates("/kind/a", 1).await), (1, vec!["hit".to_owned()]));
    // RFC 9111 section 4.4: what a client changes is asked for anew; what failed to change is not.
    house.ask("DELETE", "a.test", "/kind/a", "").await;
    assert_eq!(house.fates("/kind/a", 1).await, ["fwd=uri-miss; stored"]);
    house.node.says("/kind/a", Script { status: "403 No", ..Script::new("", "no") });
    house.ask("DELETE", "a.test", "/kind/a", "").await;
    assert_eq!(house.fates("/kind/a", 1).await, ["hit"]);
    // It is gone before the client learns of the change, however long the answer is.
    let gate = Arc::new(Semaphore::new(0));
    house.node.says("/kind/a", Script { gate: Some(gate.clone()), ..Script::new("", "changed") });
    let mut client = house.rig.plain().await;
    client.write_all(b"DELETE /kind/a HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    soon("its head", client.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    house.node.says("/kind/a", Script::new(HOUR, "new"));
    assert_eq!(house.get("/kind/a", "").await.1, b"new");
    gate.add_permits(1);
    drop(client);
    // What is on its way when it is purged is not kept.
    for chunked in [false, true] {
        let target = format!("/plain/way{chunked}");
        let gate = Arc::new(Semaphore::new(0));
        house.node.says(&target, Script { chunked, gate: Some(gate.clone()), ..Script::new(HOUR, "way") });
        let addr = edge.local_addr("http").unwrap();
        let asked = target.clone();
        let client = tokio::spawn(async move { ask(addr, "GET", "a.test", &asked, "").await });
        until("the node is asked", || house.node.asked(&target) == 1).await;
        until("it is purged", || {
            let purged = edge.purge("http://a.test/plain/", true).unwrap();
            // A body of known length is in the table once its head is there.
            chunked || purged == 1
        })
        .await;
        gate.add_permits(1);
        assert_eq!(soon("its answer", client).await.unwrap().1, b"way");
    }
    house.rig.end().await;
}

#[tokio::test]
async fn memory_has_a_bound_and_a_smaller_one_takes_away() {
    let house = House::with("{ memory: 1MiB, object: 100KiB }").await;
    for n in 0..40 {
        let target = format!("/plain/{n}");
        house.node.says(&target, Script::new(HOUR, vec![b'x'; 90_000]));
        house.get(&target, "").await;
        let status = house.rig.edge.cache();
        assert!(status.bytes <= 1 << 20, "{status:?}");
    }
    assert_eq!(house.fates("/plain/39", 1).await, ["hit"]);
    assert_eq!(house.fates("/plain/0", 1).await, ["fwd=uri-miss; stored"]);
    assert!(house.rig.metrics.edge.cache.evicted.get() >= 29);
    // A reload changes the headers that clients get, and keeps what is kept.
    house
        .node
        .says("/edited/x", Script::new(&format!("{HOUR}Content-Type: text/css\r\n"), "a{} ".repeat(500)));
    house.get("/edited/x", "").await;
    let apply = |cache: &str, edit: &str| {
        house.rig.edge.apply(Arc::new(settings(&house.node, cache, edit))).unwrap();
    };
    apply("{ memory: 1MiB, object: 100KiB }", "two");
    let answer = house.get("/edited/x", "").await;
    assert_eq!((fate(&answer).as_str(), field(&answer, "x-edit")), ("hit", Some("two")), "{}", answer.0);
    assert_eq!(field(&answer, "x-node"), None);
    // Compression is for each client; what is kept is what the node sent.
    let packed = house.get("/edited/x", "Accept-Encoding: gzip\r\n").await;
    assert_eq!(field(&packed, "content-encoding"), Some("gzip"), "{}", packed.0);
    assert_eq!(house.node.asked("/edited/x"), 1);
    // What nodes are told is another matter: they may answer otherwise.
    let tenant = "request_headers: { set: { X-Tenant: b } }\n        response_headers:";
    let text =
        FILE.replace("NODE", &house.node.addr.to_string()).replace("CACHE", "{}").replace("EDIT", "two");
    let told = settings_from(&text.replace("response_headers:", tenant), &[]);
    house.rig.edge.apply(Arc::new(told)).unwrap();
    assert_eq!(house.fates("/edited/x", 2).await, ["fwd=vary-miss; stored", "hit"]);
    assert!(house.node.last().contains("\r\nx-tenant: b\r\n"), "{}", house.node.last());
    apply("{ memory: 1MiB, object: 100KiB }", "two");
    let before = house.rig.edge.cache().objects;
    apply("{ memory: 1MiB, object: 1KiB }", "two");
    assert_eq!(house.rig.edge.cache().objects, before);
    let text = FILE.replace("NODE", &house.node.addr.to_string()).replace("cache: true", "cache: false");
    let text = text
        .replace("cache: { fresh: 1h, max: 2h, stale: 1h, stale_if_error: 1h }", "cache: false")
        .replace("CACHE", "{}");
    house.rig.edge.apply(Arc::new(settings_from(&text, &[]))).unwrap();
    let status = house.rig.edge.cache();
    assert_eq!((status.objects, status.bytes, status.bytes_max), (0, 0, 0));
    assert_eq!(house.fates("/plain/39", 1).await, ["none"]);
    house.rig.end().await;
}

#[tokio::test]
async fn a_kept_connection_goes_on_after_every_kind_of_answer() {
    let house = House::new().await;
    house.node.says("/plain/x", Script::new(&format!("{HOUR}ETag: \"a\"\r\n"), "0123456789"));
    house.node.says("/plain/c", Script::new("Cache-Control: no-store\r\n", "passed on"));
    let mut stream = house.rig.plain().await;
    for (line, expected) in [
        ("GET /plain/x", "200"),
        ("GET /plain/x", "200"),
        ("GET /plain/c", "200"),
        ("GET /plain/c", "200"),
        ("GET /plain/none", "404"),
        ("GET /plain/x", "200"),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, _) = read_answer(&mut stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {expected}")), "{line}: {head}");
    }
    house.rig.end().await;
}

#[test]
fn explain_says_what_is_kept() {
    use roomgate::edge::explain::{Known, Question, explain};
    let text = FILE.replace("NODE", "127.0.0.1:1").replace("CACHE", "{}").replace("EDIT", "x");
    let settings = settings_from(&text, &[]);
    let asks = |method: &str, path: &str| {
        let question = Question {
            url: format!("http://a.test{path}").parse().unwrap(),
            method: method.parse().unwrap(),
            headers: Vec::new(),
            client: [192, 0, 2, 1].into(),
        };
        explain(&settings, Known::File, &question, roomgate::clock::now()).unwrap()
    };
    for (method, path, expected) in [
        ("GET", "/past/x", None),
        ("POST", "/plain/x", Some("not for this request")),
        (
            "GET",
            "/plain/x",
            Some(
                "answered from it if it can be, and kept for as long as the answer says; not where it says nothing",
            ),
        ),
        (
            "GET",
            "/kind/x",
            Some(
                "answered from it if it can be, and kept for as long as the answer says; for 3600 s where it says nothing; 7200 s at most; \
                 3600 s longer while the node is asked anew; 3600 s longer when no node can serve",
            ),
        ),
    ] {
        let said = asks(method, path);
        assert_eq!(said.cache.as_deref(), expected, "{method} {path}");
        assert_eq!(said.to_string().contains("\ncache  "), expected.is_some(), "{said}");
    }
}

#[tokio::test]
async fn http2_on_either_side_is_the_same_cache() {
    let house = House::new().await;
    for (target, chunked) in [("/plain/x", false), ("/plain/c", true)] {
        house.node.says(
            target,
            Script { chunked, ..Script::new(&format!("{HOUR}ETag: \"a\"\r\n"), "hello, cache") },
        );
    }
    let tls = TokioIo::new(house.rig.tls("h2").await);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), tls).await.unwrap();
    let driver = tokio::spawn(connection);
    for target in ["/plain/x", "/plain/c"] {
        for (line, status, expected) in
            [(None, 200, "; stored"), (None, 200, "; hit"), (Some("bytes=7-"), 206, "; hit")]
        {
            let request = http::Request::get(format!("https://a.test{target}"));
            let request = line.into_iter().fold(request, |request, range| request.header("range", range));
            let answer = client.send_request(request.body(Empty::<Bytes>::new()).unwrap());
            let answer = soon("an answer", answer).await.unwrap();
            let told = answer.headers()["cache-status"].to_str().unwrap().to_owned();
            assert!(answer.status() == status && told.contains(expected), "{target}: {told}");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, if status == 206 { "cache" } else { "hello, cache" });
            until("it is kept", || house.rig.edge.cache().objects > usize::from(target == "/plain/c")).await;
        }
        assert_eq!(house.node.asked(target), 1);
    }
    driver.abort();
    house.rig.end().await;

    let backend = Backend::start_as("n", Front::H2).await;
    let text = format!(
        "version: 1\nlisteners: {{ http: {{ bind: [\"127.0.0.1:0\"] }} }}\n\
         sites:\n  a.test: {{ pool: p, routes: [ {{ prefix: /kept/, cache: {{ fresh: 1h }} }}, {{ prefix: /, cache: true }} ] }}\n\
         pools: {{ p: {{ nodes: {{ n: \"{}\" }}, protocol: h2 }} }}\nadmin: {{ bind: [] }}\n",
        backend.url()
    );
    let rig = Rig::start_with(settings_from(&text, &[]), |_, _| None);
    let edge = rig.edge.local_addr("http").unwrap();
    for (target, fates) in [
        ("/kept/x?y", ["fwd=uri-miss; stored", "hit", "hit"]),
        ("/other", ["fwd=uri-miss", "fwd=uri-miss", "fwd=uri-miss"]),
    ] {
        for expected in fates {
            let answer = ask(edge, "GET", "a.test", target, "").await;
            let said = String::from_utf8_lossy(&answer.1).into_owned();
            assert_eq!((status(&answer), fate(&answer).as_str()), ("200", expected), "{said}");
            for part in ["HTTP/2.0", "a.test", target] {
                assert!(said.contains(part), "{part}: {said}");
            }
        }
    }
    rig.end().await;
}
