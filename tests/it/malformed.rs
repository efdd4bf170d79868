//! The byte oracle: what a node gets from each malformed or ambiguous request is nothing, or exactly one request that
//! has one reading. The node records every byte, and a reader stricter than any server judges them.

mod h1_rows;
mod h2_rows;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::kit::edge_rig::{Plan, Rig, TestNode, settings_of, soon, until};
use crate::kit::h2_raw::{GOAWAY, RST_STREAM, RawHttp2};

/// What must come of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// This status, the end of the connection (HTTP/1), and nothing for the node.
    Status(u16),
    /// No good answer, and nothing for the node.
    Refused,
    /// The head is fine and the body is not: no good answer; the node gets no whole request.
    Cut,
    /// The head is fine, and the client goes on where its request has ended: nothing, or that request.
    Torn,
    /// So many good answers, each of one whole request that has one reading.
    Passes(usize),
}

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) expect: Expect,
}

pub(crate) fn row(name: impl Into<String>, bytes: impl Into<Vec<u8>>, expect: Expect) -> Row {
    Row { name: name.into(), bytes: bytes.into(), expect }
}

#[tokio::test]
async fn over_http1_a_node_gets_nothing_or_one_request() {
    let rows = h1_rows::rows();
    assert!(rows.len() >= 130, "{} rows", rows.len());
    let mut run = Run::start().await;
    for row in &rows {
        let mut stream = run.rig.plain().await;
        let _ = stream.write_all(&row.bytes).await;
        // A body that is cut short shows only when the client is done.
        if row.expect == Expect::Cut {
            let _ = stream.shutdown().await;
        }
        let mut answer = Vec::new();
        let _ = soon(&row.name, stream.read_to_end(&mut answer)).await;
        let statuses = statuses(&answer);
        let good = statuses.iter().filter(|status| **status == 200).count();
        match row.expect {
            Expect::Status(status) => {
                let text = String::from_utf8_lossy(&answer);
                run.check(row, statuses == [status], || format!("answers {statuses:?}: {text}"));
            }
            Expect::Refused | Expect::Cut => {
                run.check(row, good == 0, || format!("answers {statuses:?}"));
            }
            Expect::Torn => {}
            Expect::Passes(n) => {
                run.check(row, good == n, || format!("answers {statuses:?}, not {n} good ones"))
            }
        }
        run.judge(row).await;
    }
    run.end(rows.len()).await;
}

#[tokio::test]
async fn over_http2_a_node_gets_nothing_or_one_request() {
    let rows = h2_rows::rows();
    assert!(rows.len() >= 50, "{} rows", rows.len());
    let mut run = Run::start().await;
    for row in &rows {
        let mut client = RawHttp2::open(&run.rig).await;
        client.send(&row.bytes).await;
        let ends = |f: &crate::kit::h2_raw::Frame| {
            f.kind == RST_STREAM || f.kind == GOAWAY || f.status().is_some_and(|status| status >= 200)
        };
        // A part of a head that never ends: nothing comes before the deadlines.
        let end = if row.name.starts_with("unfinished") { None } else { client.find(ends).await };
        let status = end.as_ref().and_then(|f| f.status());
        match row.expect {
            Expect::Status(expected) => run.check(row, status == Some(expected), || format!("{end:?}")),
            Expect::Refused | Expect::Cut => {
                run.check(row, status.is_none_or(|status| status >= 400), || format!("{end:?}"));
            }
            Expect::Torn => {}
            Expect::Passes(_) => run.check(row, status == Some(200), || format!("{end:?}")),
        }
        drop(client);
        run.judge(row).await;
    }
    run.end(rows.len()).await;
}

/// An edge before a recording node, and what went wrong so far.
struct Run {
    rig: Rig,
    node: Recorder,
    faults: Vec<String>,
}

impl Run {
    async fn start() -> Self {
        let node = Recorder::start().await;
        let mut plan = Plan::default();
        plan.limits.idle_timeout = Duration::from_secs(2);
        plan.timeouts.response = Duration::from_secs(2);
        // The rig wants a node of its own kind; its address is what counts.
        let mut stand_in = TestNode::start("a").await;
        stand_in.kill();
        stand_in.addr = node.addr;
        let rig = Rig::start_with(settings_of(&plan, &[&stand_in]), |_, _| None);
        Self { rig, node, faults: Vec::new() }
    }

    fn check(&mut self, row: &Row, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(format!("{} ({:?}): {}", row.name, row.expect, why()));
        }
    }

    /// Looks at what the node got of this row.
    async fn judge(&mut self, row: &Row) {
        let node = &self.node;
        until(&format!("{}: the node's connections end", row.name), || node.open.load(Ordering::SeqCst) == 0)
            .await;
        let records = std::mem::take(&mut *self.node.records.lock().unwrap());
        let mut read: Vec<_> =
            records.iter().map(|bytes| (one_request(bytes), String::from_utf8_lossy(bytes))).collect();
        let partial = matches!(row.expect, Expect::Cut | Expect::Torn);
        if !partial {
            // What was still under way when the client of an earlier row had gone; never more than that.
            read.retain(|(read, text)| matches!(read, Read::Wrong(_)) || !text.starts_with("POST /cut "));
        }
        let whole = read.iter().filter(|(read, _)| matches!(read, Read::One)).count();
        let expected = match row.expect {
            Expect::Status(_) | Expect::Refused | Expect::Cut => 0,
            Expect::Torn => whole.min(1),
            Expect::Passes(n) => n,
        };
        let fine = |read: &Read| matches!(read, Read::One) || (partial && matches!(read, Read::Part));
        let holds = whole == expected && read.iter().all(|(read, _)| fine(read));
        self.check(row, holds, || format!("the node got {read:?}"));
    }

    async fn end(self, rows: usize) {
        assert!(self.faults.is_empty(), "{} of {rows} rows:\n{}", self.faults.len(), self.faults.join("\n"));
        self.rig.end().await;
    }
}

/// Statuses of the final answers on a connection.
fn statuses(answer: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answer);
    let heads = text.match_indices("HTTP/1.1 ").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok());
    heads.filter(|status| *status >= 200).collect()
}

/// A node that answers every request with 200 and closes, and keeps what each connection brought.
struct Recorder {
    addr: SocketAddr,
    records: Arc<Mutex<Vec<Vec<u8>>>>,
    open: Arc<AtomicUsize>,
}

impl Recorder {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (records, open) = (Arc::<Mutex<Vec<Vec<u8>>>>::default(), Arc::<AtomicUsize>::default());
        let node = Self { addr, records: records.clone(), open: open.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                open.fetch_add(1, Ordering::SeqCst);
                let (records, open) = (records.clone(), open.clone());
                tokio::spawn(async move {
                    let bytes = record(stream).await;
                    // A connection that brought nothing was opened for a request that then broke.
                    if !bytes.is_empty() {
                        records.lock().unwrap().push(bytes);
                    }
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        node
    }
}

async fn record(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while matches!(stream.read_buf(&mut bytes).await, Ok(n) if n > 0) {
        if matches!(one_request(&bytes), Read::One) {
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                .await;
            let _ = stream.shutdown().await;
            let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes)).await;
            break;
        }
    }
    bytes
}

/// What bytes on a connection are, to a reader that repairs nothing.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// One whole request and nothing more.
    One,
    /// The beginning of one.
    Part,
    Wrong(&'static str),
}

fn one_request(bytes: &[u8]) -> Read {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) else {
        return if bytes.contains(&0) { Read::Wrong("NUL") } else { Read::Part };
    };
    let (head, body) = bytes.split_at(end);
    let mut headers = [httparse::EMPTY_HEADER; 256];
    let mut request = httparse::Request::new(&mut headers);
    if !matches!(request.parse(head), Ok(httparse::Status::Complete(n)) if n == end) {
        return Read::Wrong("no head");
    }
    let text = head.strip_suffix(b"\r\n").unwrap();
    let mut lines = text.split(|b| *b == b'\n');
    let fine = |line: &[u8]| match line.strip_suffix(b"\r") {
        Some(line) => {
            line.iter().all(|b| (*b >= 0x20 || *b == b'\t') && *b != 0x7f) && !line.starts_with(b" ")
        }
        None => line.is_empty(),
    };
    if !lines.all(fine) {
        return Read::Wrong("a control byte, a bare CR or LF, or a folded line");
    }
    if request.version != Some(1) || !matches!(request.path.unwrap().as_bytes(), [b'/', ..] | b"*") {
        return Read::Wrong("the request line");
    }
    let all = |name: &str| -> Vec<&[u8]> {
        request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value).collect()
    };
    if all("host").len() != 1 {
        return Read::Wrong("not one Host");
    }
    match (all("content-length").as_slice(), all("transfer-encoding").as_slice()) {
        ([], []) if body.is_empty() => Read::One,
        ([], []) => Read::Wrong("bytes behind the request"),
        ([length], []) => {
            let digits = std::str::from_utf8(length).ok().filter(|l| l.bytes().all(|b| b.is_ascii_digit()));
            match digits.and_then(|digits| digits.parse::<usize>().ok()) {
                Some(length) if body.len() == length => Read::One,
                Some(length) if body.len() < length => Read::Part,
                _ => Read::Wrong("the length"),
            }
        }
        ([], [b"chunked"]) => chunked(body),
        _ => Read::Wrong("two framings"),
    }
}

/// Chunks without extensions and trailers: what the edge writes.
fn chunked(mut body: &[u8]) -> Read {
    loop {
        let Some(end) = body.windows(2).position(|w| w == b"\r\n") else { return Read::Part };
        let size =
            std::str::from_utf8(&body[..end]).ok().filter(|s| s.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else {
            return Read::Wrong("the size of a chunk");
        };
        let Some(rest) = body.get(end + 2..end + 2 + size + 2) else { return Read::Part };
        if !rest.ends_with(b"\r\n") {
            return Read::Wrong("the end of a chunk");
        }
        body = &body[end + 2 + size + 2..];
        if size == 0 {
            return if body.is_empty() { Read::One } else { Read::Wrong("bytes behind the last chunk") };
        }
    }
}

#[test]
fn the_oracle_itself_is_strict() {
    let host = "Host: a\r\n";
    for (text, expected) in [
        (format!("GET / HTTP/1.1\r\n{host}\r\n"), Some(Read::One)),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: 2\r\n\r\nab"), Some(Read::One)),
        (
            format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
            Some(Read::One),
        ),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: 3\r\n\r\nab"), Some(Read::Part)),
        (format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"), Some(Read::Part)),
        ("GET / HTTP/1.1\r\nHo".to_owned(), Some(Read::Part)),
        (format!("GET / HTTP/1.1\r\n{host}\r\nGET"), None),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), None),
        (format!("GET / HTTP/1.1\r\n{host}X: a\r\n b\r\n\r\n"), None),
        (format!("GET / HTTP/1.0\r\n{host}\r\n"), None),
        (format!("GET http://a/ HTTP/1.1\r\n{host}\r\n"), None),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: +2\r\n\r\nab"), None),
        (
            format!(
                "POST / HTTP/1.1\r\n{host}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            None,
        ),
        (format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n0;a=b\r\n\r\n"), None),
    ] {
        let read = one_request(text.as_bytes());
        match expected {
            Some(expected) => assert_eq!(read, expected, "{text:?}"),
            None => assert!(matches!(read, Read::Wrong(_)), "{text:?}: {read:?}"),
        }
    }
}
