//! Requests through the edge: HTTP/1 and HTTP/2, kept alive, pipelined, streamed, redirected, retried.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use roomgate::config::settings::{CertificateSettings, TicketSettings, TlsProfile, TlsSettings, UnknownName};

use crate::kit::edge_rig::{Plan, Rig, TestNode, read_answer, settings_of, soon, tls_connect, until};

#[tokio::test]
async fn requests_share_a_connection_and_keep_their_order() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = rig.tls("http/1.1").await;
    // Three pipelined at once, the second with a body, the third with chunks; then one more after a pause.
    let pipelined = "GET /1 HTTP/1.1\r\nHost: plain.test\r\n\r\n\
                     POST /echo HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 5\r\n\r\nhello\
                     POST /echo HTTP/1.1\r\nHost: plain.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n\
                     GET /4 HTTP/1.1\r\nHost: plain.test\r\n\r\n";
    stream.write_all(pipelined.as_bytes()).await.unwrap();
    for expected in ["a", "hello", "abcde", "a"] {
        let (head, body) = read_answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(body, expected.as_bytes());
    }
    stream.write_all(b"\r\nGET /5 HTTP/1.1\r\nHost: plain.test\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut stream).await.1, b"a");
    let paths: Vec<String> = node.seen().iter().map(|h| h.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(paths, ["/1", "/echo", "/echo", "/4", "/5"]);
    assert_eq!(rig.metrics.edge.connections_total.get(), 1);
    drop(stream);
    until("the connection is gone", || rig.metrics.edge.connections.get() == 0).await;
    rig.end().await;
}

#[tokio::test]
async fn a_pipelined_request_in_pieces_is_neither_lost_nor_doubled() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = rig.plain().await;
    let bytes = "GET /drip HTTP/1.1\r\nHost: plain.test\r\n\r\nPOST /echo HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 4\r\n\r\nabcd";
    for piece in bytes.as_bytes().chunks(7) {
        stream.write_all(piece).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let mut got = Vec::new();
    let whole = async {
        while !got.ends_with(b"abcd") {
            let n = stream.read_buf(&mut got).await.unwrap();
            assert!(n > 0, "closed: {}", String::from_utf8_lossy(&got));
        }
    };
    soon("both answers", whole).await;
    assert_eq!(node.seen().len(), 2, "{:?}", node.seen());
    drop(stream);
    rig.end().await;
}

#[tokio::test]
async fn http_1_0_and_connection_close_end_the_connection() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    for head in [
        "GET / HTTP/1.0\r\nHost: plain.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n\r\n",
    ] {
        let answer = rig.raw(head.as_bytes()).await;
        assert!(answer.contains(" 200 ") && answer.ends_with("\r\n\r\na"), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    }
    let mut stream = rig.plain().await;
    for _ in 0..2 {
        stream
            .write_all(b"GET / HTTP/1.0\r\nHost: plain.test\r\nConnection: keep-alive\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(read_answer(&mut stream).await.1, b"a");
    }
    drop(stream);
    rig.end().await;
}

/// The parts of an answer, each one byte, came as the node sent them: over 900 ms, but for those that a busy machine held
/// back.
fn assert_streamed(arrivals: &[Instant]) {
    assert_eq!(arrivals.len(), 4);
    let over = arrivals[3] - arrivals[0];
    assert!(over > Duration::from_millis(450), "bytes came together: {over:?}");
}

#[tokio::test]
async fn an_answer_that_drips_arrives_byte_by_byte_over_http_1() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    for pipelined in [false, true] {
        let mut stream = rig.tls("http/1.1").await;
        let next = if pipelined { "GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n" } else { "" };
        let request = format!("GET /drip HTTP/1.1\r\nHost: plain.test\r\n\r\n{next}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut got, mut arrivals) = (Vec::new(), Vec::new());
        let read = async {
            while arrivals.len() < 4 {
                assert!(stream.read_buf(&mut got).await.unwrap() > 0);
                let text = String::from_utf8_lossy(&got);
                let Some((_, body)) = text.split_once("\r\n\r\n") else { continue };
                let bytes =
                    body.split("\r\n").filter(|part| "drip".contains(part) && part.len() == 1).count();
                while arrivals.len() < bytes {
                    arrivals.push(roomgate::clock::now());
                }
            }
        };
        soon("four bytes", read).await;
        assert_streamed(&arrivals);
    }
    rig.end().await;
}

#[tokio::test]
async fn http_2_is_proxied_and_streamed() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let tls = rig.tls("h2").await;
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = http::Request::post("https://plain.test/echo").body(Full::from("over h2")).unwrap();
    let answer = soon("an answer", client.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-node"], "a");
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "over h2");
    let seen = node.seen().pop().unwrap().to_ascii_lowercase();
    for there in ["x-forwarded-proto: https\r\n", "x-forwarded-for: 127.0.0.1\r\n", "host: plain.test\r\n"] {
        assert!(seen.contains(there), "{there}: {seen}");
    }

    let request = http::Request::get("https://plain.test/drip").body(Full::<Bytes>::default()).unwrap();
    let mut body = soon("an answer", client.send_request(request)).await.unwrap().into_body();
    let mut arrivals = Vec::new();
    while let Some(frame) = soon("a part", body.frame()).await {
        if frame.unwrap().data_ref().is_some_and(|data| !data.is_empty()) {
            arrivals.push(roomgate::clock::now());
        }
    }
    assert_streamed(&arrivals);
    driver.abort();
    rig.end().await;
}

#[tokio::test]
async fn heads_over_http_2_are_bounded_by_their_site_and_listener() {
    let node = TestNode::start("a").await;
    let mut plan = Plan::default();
    plan.limits.head_bytes_max = 100 * 1024;
    let mut settings = settings_of(&plan, &[&node]);
    for (name, head_bytes_max) in [("plain.test", 4 * 1024), ("jitsi.test", 1024 * 1024)] {
        let mut site = (*settings.sites.exact[name]).clone();
        site.head_bytes_max = head_bytes_max;
        settings.sites.exact.insert(name.into(), std::sync::Arc::new(site));
    }
    let rig = Rig::start_with(settings, |_, _| None);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(rig.tls("h2").await))
            .await
            .unwrap();
    let driver = tokio::spawn(connection);
    for (host, kib, expected) in [
        ("plain.test", 3, 200),
        ("plain.test", 5, 431),
        ("jitsi.test", 5, 200),
        ("jitsi.test", 60, 200),
        ("jitsi.test", 110, 431),
        ("plain.test", 3, 200),
    ] {
        let mut request =
            http::Request::get(format!("https://{host}/r")).body(Empty::<Bytes>::new()).unwrap();
        // A field may not be much longer than a frame for every client library.
        for part in 0..kib {
            let name: http::HeaderName = format!("x-part-{part}").parse().unwrap();
            request.headers_mut().insert(name, "x".repeat(1010).parse().unwrap());
        }
        let answer = soon("an answer", client.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), expected, "{host} {kib} KiB");
    }
    driver.abort();
    rig.end().await;
}

#[tokio::test]
async fn cookies_in_several_h2_fields_name_the_room_and_reach_the_node_as_one() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    let mut settings = settings_of(&Plan::default(), &[&a, &b]);
    let mut site = (*settings.sites.exact["plain.test"]).clone();
    std::sync::Arc::make_mut(&mut site.rest).room =
        vec![roomgate::config::settings::RoomRule::Cookie("room".into())];
    settings.sites.exact.insert("plain.test".into(), std::sync::Arc::new(site));
    let rig = Rig::start_with(settings, |_, _| None);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(rig.tls("h2").await))
            .await
            .unwrap();
    let driver = tokio::spawn(connection);
    for room in 0..8 {
        let request = http::Request::get("https://plain.test/")
            .header("cookie", "session=x")
            .header("cookie", format!("room=r{room}"))
            .body(Empty::<Bytes>::new())
            .unwrap();
        assert_eq!(soon("an answer", client.send_request(request)).await.unwrap().status(), 200);
    }
    assert_eq!(rig.rooms.len(), 8, "each has its place");
    for head in [a.seen(), b.seen()].concat() {
        let cookies: Vec<_> =
            head.lines().filter(|line| line.to_ascii_lowercase().starts_with("cookie:")).collect();
        assert!(cookies.len() == 1 && cookies[0].contains("session=x; room=r"), "{head}");
    }
    driver.abort();
    rig.end().await;
}

#[tokio::test]
async fn an_h2_request_whose_host_differs_reaches_no_node() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(rig.tls("h2").await))
            .await
            .unwrap();
    let driver = tokio::spawn(connection);
    let request = http::Request::get("https://plain.test/")
        .header("host", "jitsi.test")
        .body(Empty::<Bytes>::new())
        .unwrap();
    match soon("a refusal", client.send_request(request)).await {
        Ok(answer) => assert_eq!(answer.status(), 400),
        Err(error) => assert!(!error.is_canceled(), "{error}"),
    }
    assert_eq!(node.connections(), 0);
    driver.abort();
    rig.end().await;
}

#[tokio::test]
async fn large_answers_and_uploads_come_through_whole() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = rig.tls("http/1.1").await;
    for _ in 0..3 {
        stream.write_all(b"GET /big HTTP/1.1\r\nHost: plain.test\r\n\r\n").await.unwrap();
        assert_eq!(read_answer(&mut stream).await.1.len(), 1024 * 1024);
    }
    let body = vec![b'u'; 300_000];
    let head = format!("POST /echo HTTP/1.1\r\nHost: plain.test\r\nContent-Length: {}\r\n\r\n", body.len());
    let (mut reading, mut writing) = tokio::io::split(stream);
    let (_, (_, back)) = tokio::join!(
        async {
            writing.write_all(head.as_bytes()).await.unwrap();
            writing.write_all(&body).await.unwrap();
            writing.flush().await.unwrap();
        },
        read_answer(&mut reading)
    );
    assert_eq!(back, body);
    drop((reading, writing));
    rig.end().await;
}

#[tokio::test]
async fn clients_cannot_forge_what_only_an_edge_may_say() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = rig.plain().await;
    let request = "GET /r?room=x HTTP/1.1\r\nHost: JITSI.test:80\r\nX-Forwarded-For: 6.6.6.6\r\nX-Room: y\r\nX_Room: z\r\n\
                   Forwarded: for=6.6.6.6\r\nX-Proxy-Region: r\r\nConnection: x-custom\r\nX-Custom: gone\r\nX-Other: stays\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let (head, _) = read_answer(&mut stream).await;
    assert!(head.to_ascii_lowercase().contains("x-jitsi-shard: a\r\n"), "{head}");
    let seen = node.seen().pop().unwrap().to_ascii_lowercase();
    for gone in ["6.6.6.6", "x-room", "x_room", "x-proxy-region", "x-custom"] {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
    for there in [
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-host: jitsi.test:80\r\n",
        "x-other: stays\r\n",
        "host: jitsi.test:80\r\n",
    ] {
        assert!(seen.contains(there), "{there}: {seen}");
    }
    drop(stream);
    rig.end().await;
}

#[tokio::test]
async fn unknown_hosts_bad_rooms_and_redirects_are_answered_here() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = rig.plain().await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", "421"),
        ("GET /?room=%2525252541 HTTP/1.1\r\nHost: plain.test\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n", "200"),
    ] {
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, _) = read_answer(&mut stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {head}");
    }
    assert_eq!(node.seen().len(), 1);
    let mut stream = tokio::net::TcpStream::connect(rig.addr("redirect")).await.unwrap();
    stream.write_all(b"GET /a?b=c HTTP/1.1\r\nHost: Plain.test:80\r\n\r\n").await.unwrap();
    let (head, _) = read_answer(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 308 "), "{head}");
    assert!(head.to_ascii_lowercase().contains("location: https://plain.test:8443/a?b=c\r\n"), "{head}");
    drop(stream);
    rig.end().await;
}

#[tokio::test]
async fn rooms_stay_together_and_move_when_their_node_is_gone() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    let rig = Rig::start(&Plan::default(), &[&a, &b]);
    let ask = async |room: usize, with_room: bool| {
        let mut stream = rig.plain().await;
        let query = if with_room { format!("?room=room{room}") } else { String::new() };
        let request = format!("GET /{query} HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = read_answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        String::from_utf8(body).unwrap()
    };
    let mut first = Vec::new();
    for room in 0..20 {
        first.push(ask(room, true).await);
    }
    assert!(first.iter().any(|n| n == "a") && first.iter().any(|n| n == "b"), "{first:?}");
    for (room, node) in first.iter().enumerate() {
        assert_eq!(&ask(room, true).await, node, "room {room}");
    }
    a.kill();
    until("its port is closed", || std::net::TcpStream::connect(a.addr).is_err()).await;
    for room in 0..20 {
        assert_eq!(ask(room, true).await, "b", "room {room}");
        assert_eq!(ask(room, false).await, "b");
    }
    assert!(rig.metrics.edge.connect_failures.get() >= 1);
    b.kill();
    until("its port is closed", || std::net::TcpStream::connect(b.addr).is_err()).await;
    // The request that finds the node gone takes it down; the next one is told to come again.
    let request = b"GET / HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n\r\n";
    let first = rig.raw(request).await;
    assert!(first.starts_with("HTTP/1.1 50"), "{first}");
    let answer = rig.raw(request).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 503 ") && answer.contains("retry-after: 2"), "{answer}");
    rig.end().await;
}

#[tokio::test]
async fn a_node_that_stalls_or_cuts_is_answered_for() {
    let node = TestNode::start("a").await;
    let mut plan = Plan::default();
    plan.timeouts.response = Duration::from_secs(2);
    let rig = Rig::start(&plan, &[&node]);
    for (path, status) in [("/stall", "504"), ("/cut", "502")] {
        let answer = rig
            .raw(format!("POST {path} HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 0\r\n\r\n").as_bytes())
            .await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    rig.end().await;
}

#[tokio::test]
async fn a_silent_client_is_closed_after_the_handshake_and_idle_limits() {
    let node = TestNode::start("a").await;
    let mut plan = Plan::default();
    plan.limits.handshake_timeout = Duration::from_secs(2);
    plan.limits.idle_timeout = Duration::from_millis(300);
    let rig = Rig::start(&plan, &[&node]);
    let mut silent = tokio::net::TcpStream::connect(rig.addr("https")).await.unwrap();
    let mut rest = Vec::new();
    soon("the handshake's deadline", silent.read_to_end(&mut rest)).await.unwrap();
    until("it is counted", || rig.metrics.edge.handshakes.with_label_values(&["timeout"]).get() == 1).await;
    for alpn in ["http/1.1", "h2"] {
        let mut idle = rig.tls(alpn).await;
        rest.clear();
        let _ = soon("the idle limit", idle.read_to_end(&mut rest)).await;
    }
    let mut garbage = tokio::net::TcpStream::connect(rig.addr("https")).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n").await.unwrap();
    let _ = soon("garbage is refused", garbage.read_to_end(&mut rest)).await;
    until("it is counted", || rig.metrics.edge.handshakes.with_label_values(&["not_tls"]).get() == 1).await;
    until("all are gone", || rig.metrics.edge.connections.get() == 0).await;
    rig.end().await;
}

#[tokio::test]
async fn sites_and_certificates_change_without_closing_a_connection() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    let rig = Rig::start(&Plan::default(), &[&a]);
    let mut stream = rig.tls("http/1.1").await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut stream).await.1, b"a");
    let before = stream.get_ref().1.peer_certificates().unwrap()[0].clone();

    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["jitsi.test".to_owned()]).unwrap();
    let files = roomgate::config::settings::CertificateFiles {
        cert: folder.path().join("cert.pem"),
        key: folder.path().join("key.pem"),
    };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let mut settings = settings_of(&Plan::default(), &[&b]);
    let mut https = (*settings.listeners["https"]).clone();
    https.tls = Some(TlsSettings::Certificates(CertificateSettings {
        files: vec![files.clone()],
        unknown_name: UnknownName::default(),
        profile: TlsProfile::default(),
        tickets: TicketSettings::default(),
    }));
    settings.listeners.insert("https".into(), std::sync::Arc::new(https));
    settings.sites.exact.remove("jitsi.test");
    rig.pools.apply(&settings.pools);
    rig.edge.apply(std::sync::Arc::new(settings.clone())).unwrap();

    stream.write_all(b"GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut stream).await.1, b"b");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: jitsi.test\r\n\r\n").await.unwrap();
    assert!(read_answer(&mut stream).await.0.starts_with("HTTP/1.1 421 "));
    let fresh = tls_connect(rig.addr("https"), "jitsi.test", "http/1.1").await;
    assert_ne!(fresh.get_ref().1.peer_certificates().unwrap()[0], before);

    std::fs::write(&files.key, "nonsense").unwrap();
    assert!(rig.edge.apply(std::sync::Arc::new(settings)).is_err());
    let still = tls_connect(rig.addr("https"), "jitsi.test", "http/1.1").await;
    assert_ne!(still.get_ref().1.peer_certificates().unwrap()[0], before);
    drop((stream, fresh, still));
    rig.end().await;
}

#[tokio::test]
async fn an_http_1_0_client_never_gets_chunks() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    for connection in ["", "Connection: keep-alive\r\n"] {
        let answer =
            rig.raw(format!("GET /drip HTTP/1.0\r\nHost: plain.test\r\n{connection}\r\n").as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
        assert_eq!(body, "drip");
    }
    rig.end().await;
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection_in_step() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = rig.plain().await;
    let mut head_of = async |request: &str| {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        soon("a head", async {
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
        })
        .await;
        String::from_utf8(head).unwrap()
    };
    for _ in 0..2 {
        let head = head_of("HEAD /head HTTP/1.1\r\nHost: plain.test\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let head = head_of("GET /304 HTTP/1.1\r\nHost: plain.test\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 304 "), "{head}");
        let head = head_of("GET /204 HTTP/1.1\r\nHost: plain.test\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
    }
    drop(stream);
    rig.end().await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_from_the_node() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = rig.tls("http/1.1").await;
    let head =
        "POST /continue HTTP/1.1\r\nHost: plain.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_answer(&mut stream).await.0.starts_with("HTTP/1.1 100 "));
    stream.write_all(b"hello").await.unwrap();
    assert_eq!(read_answer(&mut stream).await.1, b"hello");
    drop(stream);
    rig.end().await;
}

#[tokio::test]
async fn an_empty_last_part_of_an_h2_body_does_not_desynchronise_the_node() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(rig.tls("h2").await))
            .await
            .unwrap();
    let driver = tokio::spawn(connection);
    for _ in 0..3 {
        // Without a length the body goes to the node in chunks; the last frame is empty.
        let parts = futures_util::stream::iter(["ab", "", "cd", ""].map(|part| {
            Ok::<_, std::convert::Infallible>(hyper::body::Frame::data(Bytes::from_static(part.as_bytes())))
        }));
        let request = http::Request::post("https://plain.test/echo")
            .body(http_body_util::StreamBody::new(parts))
            .unwrap();
        let answer = soon("an answer", client.send_request(request)).await.unwrap();
        assert_eq!(soon("a body", answer.into_body().collect()).await.unwrap().to_bytes(), "abcd");
    }
    let bodies: Vec<bool> = node.seen().iter().map(|seen| seen.ends_with("\r\n\r\nabcd")).collect();
    assert_eq!((bodies, node.connections()), (vec![true; 3], 1), "{:?}", node.seen());
    driver.abort();
    rig.end().await;
}

#[tokio::test]
async fn a_small_answer_leaves_in_one_piece() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = rig.plain().await;
    for number in 0..20 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 4096];
        let n = soon("an answer", stream.read(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..n]);
        assert!(answer.ends_with("\r\n\r\na"), "answer {number} came without its body: {answer}");
    }
    drop(stream);
    rig.end().await;
}
