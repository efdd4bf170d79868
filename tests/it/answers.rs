//! What becomes of answers on their way back: compression and own pages for errors.

use std::io::Read;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::kit::edge_rig::{Rig, settings_from, soon};

const FILE: &str = r#"
version: 1
listeners: { http: { bind: ["127.0.0.1:0"] } }
sites:
  a.test:
    pool: p
    error_pages: { "404": FOLDER/404.html, "503": FOLDER/503.txt }
    routes:
      - { name: packed, prefix: /packed/, compress: true, error_pages: { "404": FOLDER/other.html } }
      - { name: dead, prefix: /dead, pool: dead }
      - { name: files, prefix: /files/, compress: true, files: { folder: FOLDER } }
pools:
  p: { nodes: { n: "http://NODE" } }
  dead: { nodes: { d: "http://127.0.0.1:1" } }
admin: { bind: [] }
"#;

/// A node that answers each path in its own way, on connections that it keeps.
async fn node() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while let Ok(byte) = stream.read_u8().await {
                    head.push(byte);
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
                    let target = text.split(' ').nth(1).unwrap().to_owned();
                    let name = target.rsplit('/').next().unwrap();
                    let long = "<p>hello</p>".repeat(500);
                    let whole = |status: &str, lines: &str, body: &str| {
                        format!("HTTP/1.1 {status}\r\n{lines}Content-Length: {}\r\n\r\n{body}", body.len())
                    };
                    let html = "Content-Type: text/html\r\n";
                    let answer = match name {
                        "long" => whole("200 OK", &format!("{html}ETag: \"a\"\r\n"), &long),
                        "short" => whole("200 OK", html, "<p>"),
                        "picture" => whole("200 OK", "Content-Type: image/png\r\n", &long),
                        "encoded" => whole("200 OK", &format!("{html}Content-Encoding: br\r\n"), &long),
                        "missing" => whole("404 Not Found", &format!("{html}ETag: \"b\"\r\n"), "the node's page"),
                        "empty" => whole("404 Not Found", "", ""),
                        "chunked" => "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n".to_owned(),
                        _ => whole("403 Forbidden", "", "no"),
                    };
                    let answer = if text.starts_with("HEAD ") {
                        answer.split_inclusive("\r\n\r\n").next().unwrap().to_owned()
                    } else {
                        answer
                    };
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

struct House {
    rig: Rig,
    _folder: tempfile::TempDir,
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("404.html", "<h1>our 404</h1>".to_owned()),
            ("other.html", "<h1>another 404</h1>".to_owned()),
            ("503.txt", "our 503".to_owned()),
            ("long.js", "let x = 1;\n".repeat(300)),
            ("tiny.js", "x".to_owned()),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let text = FILE
            .replace("FOLDER", folder.path().to_str().unwrap())
            .replace("NODE", &node().await.to_string());
        Self { rig: Rig::start_with(settings_from(&text, &[]), |_, _| None), _folder: folder }
    }

    async fn ask(&self, method: &str, target: &str, accept: &str) -> (String, Vec<u8>) {
        let mut stream = self.rig.plain().await;
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nAccept-Encoding: {accept}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        soon(target, stream.read_to_end(&mut answer)).await.unwrap();
        let at = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(answer[..at].to_vec()).unwrap().to_lowercase();
        let mut body = answer[at..].to_vec();
        if head.contains("transfer-encoding: chunked") {
            let mut chunks = roomgate::wire::http_body::Chunks::default();
            let (mut rest, mut whole) = (&body[..], Vec::new());
            while !chunks.is_done() {
                let (taken, data) = chunks.advance(rest).unwrap();
                whole.extend_from_slice(&rest[data]);
                rest = &rest[taken..];
            }
            body = whole;
        }
        (head, body)
    }
}

fn gunzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn answers_are_compressed_where_a_route_says_so_and_it_is_worth_it() {
    let house = House::new().await;
    let long = "<p>hello</p>".repeat(500);
    let (head, body) = house.ask("GET", "/packed/long", "gzip").await;
    assert!(
        head.contains("content-encoding: gzip\r\n") && head.contains("vary: accept-encoding\r\n"),
        "{head}"
    );
    assert!(head.contains("etag: w/\"a\"\r\n") && !head.contains("content-length"), "{head}");
    assert_eq!(gunzip(&body), long);
    let (head, body) = house.ask("GET", "/files/long.js", "gzip").await;
    assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
    assert_eq!(gunzip(&body), "let x = 1;\n".repeat(300));
    for (accept, coding) in [("br", "br"), ("zstd", "zstd"), ("deflate, gzip;q=0.5", "gzip")] {
        let (head, body) = house.ask("GET", "/packed/long", accept).await;
        assert!(head.contains(&format!("content-encoding: {coding}\r\n")), "{accept}: {head}");
        assert!(body.len() < long.len() / 4, "{accept}: {}", body.len());
    }
    for (target, accept) in [
        ("/packed/long", "identity"),
        ("/packed/short", "gzip"),
        ("/packed/picture", "gzip"),
        ("/long", "gzip"),
        ("/files/tiny.js", "gzip"),
    ] {
        let (head, _) = house.ask("GET", target, accept).await;
        assert!(head.contains(" 200 ") && !head.contains("content-encoding"), "{target} {accept}: {head}");
    }
    let (head, body) = house.ask("GET", "/packed/encoded", "gzip, br").await;
    assert!(head.contains("content-encoding: br\r\n"), "{head}");
    assert_eq!(String::from_utf8(body).unwrap(), long, "what is encoded already is passed on");
    house.rig.end().await;
}

#[tokio::test]
async fn errors_have_pages_of_their_own() {
    let house = House::new().await;
    for (target, status, page) in [
        ("/missing", "404", "<h1>our 404</h1>"),
        ("/chunked", "404", "<h1>our 404</h1>"),
        ("/packed/missing", "404", "<h1>another 404</h1>"),
        ("/files/none", "404", "<h1>our 404</h1>"),
        ("/dead", "503", "our 503"),
        ("/forbidden", "403", "no"),
        // Nothing is put in place of nothing.
        ("/empty", "404", ""),
    ] {
        // The second time: a node that is down is 503.
        let _ = house.ask("GET", target, "identity").await;
        let (head, body) = house.ask("GET", target, "identity").await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{target}: {head}");
        assert_eq!(String::from_utf8(body).unwrap(), page, "{target}");
        if page.starts_with("<h1>") {
            assert!(head.contains("content-type: text/html; charset=utf-8\r\n"), "{target}: {head}");
            assert!(!head.contains("etag") && !head.contains("transfer-encoding"), "{target}: {head}");
            assert!(head.contains(&format!("content-length: {}\r\n", page.len())), "{target}: {head}");
        }
    }
    let (head, body) = house.ask("HEAD", "/missing", "identity").await;
    assert!(head.contains("content-length: 16\r\n") && body.is_empty(), "{head}");
    house.rig.end().await;
}
