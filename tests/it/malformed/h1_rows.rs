//! Requests over HTTP/1 that are wrong, or that two servers read differently.

use super::Expect::{Cut, Passes, Refused, Status};
use super::{Expect, Row, row};

/// What an attacker wants a node to see as a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: plain.test\r\n\r\n";
const HOST: &str = "Host: plain.test\r\n";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    request_lines(&mut rows);
    header_lines(&mut rows);
    lengths(&mut rows);
    encodings(&mut rows);
    hosts(&mut rows);
    chunked_bodies(&mut rows);
    upgrades(&mut rows);
    pipelines(&mut rows);
    passing(&mut rows);
    rows
}

fn all(rows: &mut Vec<Row>, what: &str, expect: Expect, cases: &[&str], text: impl Fn(&str) -> String) {
    rows.extend(cases.iter().map(|case| row(format!("{what} {case:?}"), text(case), expect)));
}

fn request_lines(rows: &mut Vec<Row>) {
    let line = |line: &str| format!("{line}\r\n{HOST}\r\n{SMUGGLED}");
    let wrong = [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "\tGET / HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / HTTP/1.1 HTTP/1.1",
        "GET /",
        "GET",
        "GET / http/1.1",
        "GET / HTTP/11",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTPS/1.1",
        "GET / XTTP/1.1",
        "G(T / HTTP/1.1",
        "G\0T / HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\x01 HTTP/1.1",
        "GET /\x0b HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /a\\b HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /a\"b HTTP/1.1",
        "GET /<a> HTTP/1.1",
        "GET a HTTP/1.1",
        "GET ?a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET // HTTP/1.1 x",
        "GET http:/plain.test/ HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET ftp://plain.test/ HTTP/1.1",
        "GET http://other.test/ HTTP/1.1",
        "GET http://plain.test:80/ HTTP/1.1",
        "GET http://u:p@plain.test/ HTTP/1.1",
        "GET http://plain.test@other.test/ HTTP/1.1",
        "GET http://plain.test\\@other.test/ HTTP/1.1",
        "GET plain.test:443 HTTP/1.1",
        "GET /\r HTTP/1.1",
        "GET / HTTP/1.1\rX: 1",
    ];
    all(rows, "request line", Status(400), &wrong, line);
    let versions = ["GET / HTTP/1.2", "GET / HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/3.1", "PRI * HTTP/2.0"];
    all(rows, "version", Status(505), &versions, line);
    let connects =
        ["CONNECT plain.test:443 HTTP/1.1", "CONNECT / HTTP/1.1", "CONNECT http://plain.test/ HTTP/1.1"];
    all(rows, "forward proxy", Status(405), &connects, line);
    rows.push(row("a method of 33 bytes", line(&format!("{} / HTTP/1.1", "M".repeat(33))), Status(400)));
    rows.push(row("two empty lines first", format!("\r\n\r\nGET / HTTP/1.1\r\n{HOST}\r\n"), Status(400)));
    rows.push(row("bare LF first", format!("\nGET / HTTP/1.1\r\n{HOST}\r\n"), Status(400)));
    rows.push(row(
        "TLS on a plain port",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
        Status(400),
    ));
    rows.push(row(
        "a target beyond the limit",
        line(&format!("GET /{} HTTP/1.1", "a".repeat(140_000))),
        Status(431),
    ));
}

fn header_lines(rows: &mut Vec<Row>) {
    let with = |header: &str| format!("GET / HTTP/1.1\r\n{HOST}{header}\r\n\r\n{SMUGGLED}");
    let wrong = [
        "X: a\r\n b",
        "X: a\r\n\tb",
        "X: a\r\n ",
        "X: a\nY: b",
        "X: a\n\nGET /smuggled HTTP/1.1",
        "X: a\rY: b",
        "X: a\r\rY: b",
        "X: \0",
        "X: a\0b",
        "X: \x01",
        "X: \x08",
        "X: \x0b",
        "X: \x0c",
        "X: \x1b",
        "X: \x7f",
        "X : a",
        "X\t: a",
        "X\x0b: a",
        "X\0: a",
        "X Y: a",
        "X\u{e9}: a",
        "X(: a",
        "X[]: a",
        "\"X\": a",
        ": a",
        "X",
        "X;a",
        "=: \r\nTransfer-Encoding : chunked",
        "Content-Length : 5",
        "Content-Length\t: 5",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\0: chunked",
        "X: a\r\n Transfer-Encoding: chunked",
    ];
    all(rows, "header line", Status(400), &wrong, with);
    let first = |header: &str| format!("GET / HTTP/1.1\r\n{header}\r\n{HOST}\r\n{SMUGGLED}");
    all(rows, "first header line", Status(400), &[" X: a", "\tX: a", " Host: other.test"], first);
    let many = |n: usize| with(&vec!["X: 1"; n].join("\r\n"));
    rows.push(row("101 header lines", many(100), Status(431)));
    rows.push(row("a thousand header lines", many(1000), Status(431)));
    rows.push(row(
        "a header beyond the site's limit",
        with(&format!("X: {}", "a".repeat(33_000))),
        Status(431),
    ));
    rows.push(row("a header beyond every limit", with(&format!("X: {}", "a".repeat(200_000))), Status(431)));
}

fn lengths(rows: &mut Vec<Row>) {
    let with =
        |length: &str| format!("POST / HTTP/1.1\r\n{HOST}Content-Length: {length}\r\n\r\nhello{SMUGGLED}");
    let wrong = [
        "-1",
        "-5",
        "+5",
        "5.0",
        "0x5",
        "5e0",
        "5 5",
        "5,5",
        "5, 5",
        "5, 6",
        "5;5",
        "\"5\"",
        "five",
        "",
        ",",
        "5,",
        "\u{665}",
        "5\x0b",
        "5\0",
        "0,",
        "99999999999999999999",
        "18446744073709551621",
        "9223372036854775808999",
        "5\r\nContent-Length: 5",
        "5\r\nContent-Length: 6",
        "0\r\nContent-Length: 5",
        "5\r\ncontent-length: 5",
    ];
    all(rows, "Content-Length", Status(400), &wrong, with);
}

fn encodings(rows: &mut Vec<Row>) {
    let with = |lines: &str| format!("POST / HTTP/1.1\r\n{HOST}{lines}\r\n\r\n0\r\n\r\n{SMUGGLED}");
    let wrong = [
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunk",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: 'chunked'",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chunked\x0b",
        "Transfer-Encoding: \x0cchunked",
        "Transfer-Encoding: \0chunked",
        "Transfer-Encoding: chun\u{212a}ed",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding\r\n: chunked",
        "X: a\rTransfer-Encoding: chunked",
        "X: a\nTransfer-Encoding: chunked",
    ];
    all(rows, "encoding", Status(400), &wrong, with);
    let old = |lines: &str| format!("POST / HTTP/1.0\r\n{HOST}{lines}\r\n\r\n0\r\n\r\n{SMUGGLED}");
    let wrong = ["Transfer-Encoding: chunked", "Connection: keep-alive\r\nTransfer-Encoding: chunked"];
    all(rows, "encoding in HTTP/1.0", Status(400), &wrong, old);
}

fn hosts(rows: &mut Vec<Row>) {
    let with = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}X: 1\r\n\r\n{SMUGGLED}");
    let wrong = [
        "",
        "Host:\r\n",
        "Host: \r\n",
        "Host: plain.test\r\nHost: plain.test\r\n",
        "Host: plain.test\r\nHost: other.test\r\n",
        "Host: plain.test\r\nhOST: other.test\r\n",
        "Host: plain.test, other.test\r\n",
        "Host: plain.test other.test\r\n",
        "Host: plain.test:80:80\r\n",
        "Host: plain.test:\r\n",
        "Host: plain.test:x\r\n",
        "Host: plain.test:99999\r\n",
        "Host: u@plain.test\r\n",
        "Host: plain.test@other.test\r\n",
        "Host: plain.test/a\r\n",
        "Host: plain.test?a\r\n",
        "Host: plain.test#a\r\n",
        "Host: plain.test\\a\r\n",
        "Host: plain%2etest\r\n",
        "Host: plain..test\0\r\n",
        "Host: http://plain.test\r\n",
        "Host: [::1\r\n",
        "Host: [::g]\r\n",
        "Host: \u{e9}.test\r\n",
        "Host : plain.test\r\n",
        " Host: plain.test\r\n",
    ];
    all(rows, "host", Status(400), &wrong, with);
    let unknown =
        ["Host: other.test\r\nConnection: close\r\n", "Host: plain.test.evil\r\nConnection: close\r\n"];
    all(rows, "nobody's host", Status(421), &unknown, |lines| format!("GET / HTTP/1.1\r\n{lines}\r\n"));
}

fn chunked_bodies(rows: &mut Vec<Row>) {
    let with = |body: &str| {
        format!("POST /cut HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}")
    };
    let wrong = [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "6\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5 ;a\r\nhello\r\n0\r\n\r\n",
        "\t5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5h\r\nhello\r\n0\r\n\r\n",
        "5,\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5\0\r\nhello\r\n0\r\n\r\n",
        "5\x0b\r\nhello\r\n0\r\n\r\n",
        "\u{ff15}\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "00000000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n X: folded\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\rb\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\r\n\n",
    ];
    all(rows, "chunk", Cut, &wrong, with);
    rows.push(row(
        "a chunk extension of 10 KB",
        with(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(10_000))),
        Cut,
    ));
    let trailer = format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "a".repeat(20_000));
    rows.push(row("trailers of 20 KB", with(&trailer), Cut));
    let head = format!("POST /cut HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
    rows.push(row("a chunked body that ends early", format!("{head}5\r\nhel"), Cut));
    rows.push(row("a chunked body without its last chunk", format!("{head}5\r\nhello\r\n"), Cut));
    rows.push(row(
        "a body shorter than its length",
        format!("POST /cut HTTP/1.1\r\n{HOST}Content-Length: 9\r\n\r\nhello"),
        Cut,
    ));
    rows.push(row("a head that ends early", format!("GET / HTTP/1.1\r\n{HOST}X: "), Cut));
}

fn upgrades(rows: &mut Vec<Row>) {
    let with = |lines: &str| format!("GET /ws HTTP/1.1\r\n{HOST}{lines}\r\n\r\n{SMUGGLED}");
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let wrong = [
        format!("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 12\r\n{key}"),
        format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{key}"),
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13".to_owned(),
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short"
            .to_owned(),
        format!("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{key}\r\n{key}"),
        format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{key}\r\nContent-Length: 5"
        ),
    ];
    // The connection goes on after the answer, so the good request behind it is one of its own.
    for lines in wrong {
        rows.push(row(
            format!("handshake {lines:?}"),
            with(&format!("{lines}\r\nConnection: close")),
            Refused,
        ));
    }
}

fn pipelines(rows: &mut Vec<Row>) {
    let good = format!("GET /1 HTTP/1.1\r\n{HOST}\r\n");
    let last = format!("GET /2 HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
    rows.push(row("two good ones", format!("{good}{last}"), Passes(2)));
    rows.push(row("nothing behind the last one", format!("{last}{SMUGGLED}"), Passes(1)));
    rows.push(row("nothing behind HTTP/1.0", format!("GET /1 HTTP/1.0\r\n{HOST}\r\n{SMUGGLED}"), Passes(1)));
    rows.push(row(
        "a body and a good one",
        format!("POST /1 HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhello{last}"),
        Passes(2),
    ));
    rows.push(row(
        "a body on GET and a good one",
        format!("GET /1 HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhello{last}"),
        Passes(2),
    ));
    rows.push(row(
        "chunks and a good one",
        format!("POST /1 HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{last}"),
        Passes(2),
    ));
    let behind = |bad: &str| format!("GET /1 HTTP/1.1\r\n{HOST}\r\n{bad}{SMUGGLED}");
    let wrong = [
        "GET / HTTP/1.1\r\nHost: plain.test\r\nX : a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\nHost: plain.test\n\n",
        "\0\0\0\0",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    all(rows, "behind a good one", Passes(1), &wrong, behind);
}

fn passing(rows: &mut Vec<Row>) {
    let get = |lines: &str| format!("GET / HTTP/1.1\r\n{HOST}Connection: close\r\n{lines}\r\n");
    let fine = [
        "",
        "X:\r\n",
        "X: \t a \t \r\n",
        "X: \u{e9}\r\n",
        "X: a\r\nX: b\r\n",
        "TE: trailers\r\n",
        "Keep-Alive: timeout=5\r\n",
        "Proxy-Connection: keep-alive\r\n",
        "Trailer: X\r\n",
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Content_Length: 5\r\n",
        "Transfer_Encoding: chunked\r\n",
        "X-Transfer-Encoding: chunked\r\n",
        "Content-Encoding: chunked\r\n",
    ];
    all(rows, "passes", Passes(1), &fine, get);
    let nominated = ["Connection: Host\r\n", "Connection: X-Forwarded-For\r\n"];
    all(rows, "nominated", Refused, &nominated, get);
    // The edge writes the framing anew, whatever a client nominates.
    let framing = ["Content-Length, close", "close,content-length", "Transfer-Encoding, close"];
    all(rows, "nominated framing", Passes(1), &framing, |name| {
        let length = if name.starts_with('T') {
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()
        } else {
            format!("Content-Length: {}\r\n\r\n", SMUGGLED.len())
        };
        format!("POST / HTTP/1.1\r\n{HOST}Connection: {name}\r\n{length}{SMUGGLED}")
    });
    let post = |lines: &str| format!("POST / HTTP/1.1\r\n{HOST}Connection: close\r\n{lines}");
    let fine = [
        "Content-Length: 5\r\n\r\nhello",
        "Content-Length: 0\r\n\r\n",
        "Content-Length: 0005\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0;c\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n05\r\nhello\r\n000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: trailer\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 9\r\nHost: other.test\r\n\r\n",
        "Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    ];
    all(rows, "passes with a body", Passes(1), &fine, post);
    rows.push(row("one empty line first", format!("\r\n{}", get("")), Passes(1)));
    rows.push(row(
        "absolute-form of the same host",
        format!("GET http://plain.test/a?b HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"),
        Passes(1),
    ));
    rows.push(row("OPTIONS *", format!("OPTIONS * HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"), Passes(1)));
}
