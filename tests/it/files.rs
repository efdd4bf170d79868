//! Files of a folder and server-side includes, over sockets: a row per rule.

use std::os::unix::fs::symlink;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kit::edge_rig::{Rig, TestNode, settings_from, soon};

const FILE: &str = r#"
version: 1
listeners: { http: { bind: ["127.0.0.1:0"] } }
sites:
  a.test:
    pool: p
    routes:
      - { name: files, prefix: /files/, files: { folder: FOLDER } }
      - { name: page, regex: "^/(?P<tenant>[a-z]+)/(?P<name>[A-Za-z0-9]+)$", files: { folder: FOLDER, file: index.html, ssi: { subdir: "{tenant}/", room: "{name}" } } }
      - { name: root, regex: "^/(?P<tenant>)[A-Z]+$", files: { folder: FOLDER, file: index.html, ssi: { subdir: "{tenant}/" } } }
      - { name: config, path: /config.js, files: { folder: FOLDER, ssi: { subdir: "x" } }, response_headers: { set: { Cache-Control: no-store } } }
pools: { p: { nodes: NODES } }
admin: { bind: [] }
"#;

struct House {
    rig: Rig,
    node: TestNode,
    _folder: tempfile::TempDir,
}

fn fill(folder: &Path) {
    let put = |name: &str, text: &[u8]| std::fs::write(folder.join(name), text).unwrap();
    std::fs::create_dir_all(folder.join("sub/deep")).unwrap();
    put("a.txt", b"0123456789");
    put("empty", b"");
    put("sub/index.html", b"<p>sub");
    put("sub/deep/x.js", b"let x;");
    put(".secret", b"secret");
    put("big.bin", &(0..300_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<_>>());
    put("app.js", b"plain");
    put("app.js.gz", b"zipped");
    put("app.js.br", b"brotli");
    put("caf\u{e9} x.txt", b"caf");
    put("title.html", b"<title>Meet</title>");
    put(
        "index.html",
        b"<!--#include virtual=\"/title.html\" --><base href=\"/<!--# echo var=\"subdir\" default=\"\" -->\">\
          <!--#include virtual=\"/../outside.txt\" --><!--#include virtual=\"/link.txt\" --><!--# echo var=\"room\" default=\"none\" -->",
    );
    put("config.js", b"var subdir = '<!--# echo var=\"subdir\" default=\"\" -->';");
    std::fs::write(folder.parent().unwrap().join("outside.txt"), "outside").unwrap();
    symlink(folder.parent().unwrap().join("outside.txt"), folder.join("link.txt")).unwrap();
    symlink("../outside.txt", folder.join("up.txt")).unwrap();
    symlink("a.txt", folder.join("inside.txt")).unwrap();
    symlink(folder.parent().unwrap(), folder.join("parent")).unwrap();
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("www");
        std::fs::create_dir(&inner).unwrap();
        fill(&inner);
        let node = TestNode::start("n").await;
        let settings = settings_from(&FILE.replace("FOLDER", inner.to_str().unwrap()), &[&node]);
        Self { rig: Rig::start_with(settings, |_, _| None), node, _folder: folder }
    }

    /// Status, head in lower case, body.
    async fn ask(&self, method: &str, target: &str, lines: &str) -> (u16, String, Vec<u8>) {
        let mut stream = self.rig.plain().await;
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        soon("the answer", stream.read_to_end(&mut answer)).await.unwrap();
        let at = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(answer[..at].to_vec()).unwrap().to_lowercase();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head, answer[at..].to_vec())
    }
}

#[tokio::test]
async fn files_are_served_and_nothing_else() {
    let house = House::new().await;
    for (target, status, body) in [
        ("/files/a.txt", 200, "0123456789"),
        ("/files/empty", 200, ""),
        ("/files/sub/", 200, "<p>sub"),
        ("/files/sub/deep/x.js?v=1", 200, "let x;"),
        ("/files/sub/deep/../../a.txt", 200, "0123456789"),
        ("/files//a.txt", 200, "0123456789"),
        ("/files/inside.txt", 200, "0123456789"),
        ("/files/caf%C3%A9%20x.txt", 200, "caf"),
        ("/files/a.txt/", 404, "not found\n"),
        ("/files/sub/deep/", 404, "not found\n"),
        ("/files/none", 404, "not found\n"),
        ("/files/.secret", 404, "not found\n"),
        ("/files/%2esecret", 404, "not found\n"),
        ("/files/link.txt", 404, "not found\n"),
        ("/files/up.txt", 404, "not found\n"),
        ("/files/parent/outside.txt", 404, "not found\n"),
        ("/files/..%2f..%2foutside.txt", 200, "n"),
        ("/files/%5c..%5coutside.txt", 404, "not found\n"),
    ] {
        let (found, head, text) = house.ask("GET", target, "").await;
        // What climbs out of the prefix is another route's.
        let status = if target.contains("..%2f..%2f") { 400 } else { status };
        assert_eq!(found, status, "{target}: {head}");
        if status != 400 {
            assert_eq!(String::from_utf8_lossy(&text), body, "{target}");
        }
    }
    let (status, head, _) = house.ask("GET", "/files/sub?x=1", "").await;
    assert_eq!((status, head.contains("\r\nlocation: /files/sub/?x=1\r\n")), (301, true), "{head}");
    let (status, head, _) = house.ask("POST", "/files/a.txt", "Content-Length: 0\r\n").await;
    assert_eq!((status, head.contains("\r\nallow: get, head\r\n")), (405, true), "{head}");
    let (status, head, body) = house.ask("HEAD", "/files/a.txt", "").await;
    assert_eq!((status, body.len()), (200, 0));
    assert!(
        head.contains("\r\ncontent-length: 10\r\n") && head.contains("text/plain; charset=utf-8"),
        "{head}"
    );
    let (_, _, body) = house.ask("GET", "/files/big.bin", "").await;
    assert_eq!(body, (0..300_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<_>>());
    assert_eq!(house.node.seen().len(), 0, "no node was asked");
    house.rig.end().await;
}

#[tokio::test]
async fn conditions_ranges_and_encodings_are_met() {
    let house = House::new().await;
    let (_, head, _) = house.ask("GET", "/files/a.txt", "").await;
    let value = |head: &str, name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default();
        line.to_owned()
    };
    let (tag, modified) = (value(&head, "etag"), value(&head, "last-modified"));
    assert!(tag.starts_with('"') && !modified.is_empty(), "{head}");
    for (lines, status, body) in [
        (format!("If-None-Match: {tag}\r\n"), 304, ""),
        ("If-None-Match: \"x\"\r\n".to_owned(), 200, "0123456789"),
        ("If-Match: \"x\"\r\n".to_owned(), 412, "the file is another one\n"),
        ("Range: bytes=2-4\r\n".to_owned(), 206, "234"),
        ("Range: bytes=-3\r\n".to_owned(), 206, "789"),
        (format!("Range: bytes=2-\r\nIf-Range: {tag}\r\n"), 206, "23456789"),
        ("Range: bytes=2-\r\nIf-Range: \"x\"\r\n".to_owned(), 200, "0123456789"),
        ("Range: bytes=10-\r\n".to_owned(), 416, "no such part\n"),
    ] {
        let (found, head, text) = house.ask("GET", "/files/a.txt", &lines).await;
        assert_eq!((found, String::from_utf8_lossy(&text).as_ref()), (status, body), "{lines}: {head}");
        if found == 206 {
            assert!(head.contains("content-range: bytes ") && head.contains("/10\r\n"), "{head}");
        }
    }
    let date = "If-Modified-Since: Fri, 31 Dec 2088 23:59:59 GMT\r\n";
    assert_eq!(house.ask("GET", "/files/a.txt", date).await.0, 304);
    for (accept, body, encoding) in
        [("gzip", "zipped", "gzip"), ("br, gzip", "brotli", "br"), ("identity", "plain", "")]
    {
        let (_, head, text) =
            house.ask("GET", "/files/app.js", &format!("Accept-Encoding: {accept}\r\n")).await;
        assert_eq!(
            (String::from_utf8_lossy(&text).as_ref(), value(&head, "content-encoding").as_str()),
            (body, encoding)
        );
        assert_eq!(value(&head, "vary"), "accept-encoding", "{head}");
        assert!(value(&head, "content-type").starts_with("text/javascript"), "{head}");
    }
    house.rig.end().await;
}

#[tokio::test]
async fn pages_include_files_and_variables_of_their_route() {
    let house = House::new().await;
    for (target, expected) in [
        ("/acme/Room1", "<title>Meet</title><base href=\"/acme/\">Room1"),
        ("/ABC", "<title>Meet</title><base href=\"/\">none"),
        ("/config.js", "var subdir = 'x';"),
    ] {
        let (status, head, body) = house.ask("GET", target, "").await;
        assert_eq!((status, String::from_utf8_lossy(&body).as_ref()), (200, expected), "{target}: {head}");
        assert!(!head.contains("etag"), "{head}");
    }
    assert!(house.ask("GET", "/config.js", "").await.1.contains("\r\ncache-control: no-store\r\n"));
    house.rig.end().await;
}
