//! What could be read in two ways is refused at the edge, and no node sees any of it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kit::edge_rig::{Plan, Rig, TestNode, read_answer, soon};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: plain.test\r\n\r\n";

#[tokio::test]
async fn ambiguous_heads_get_400_and_the_node_sees_nothing() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let table = [
        "POST / HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: plain.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: plain.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: plain.test\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: plain.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: plain.test\r\nContent-Length: +0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: plain.test\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: plain.test\nX: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: plain.test\rX: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: plain.test\r\nX: \0\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: plain.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : plain.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: plain.test\r\nHost: plain.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: plain.test, other.test\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://other.test/ HTTP/1.1\r\nHost: plain.test\r\n\r\n",
        "\0\x01\x02\x03\r\n\r\n",
    ];
    for head in table {
        let answer = rig.raw(format!("{head}{SMUGGLED}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
        assert!(answer.contains("Connection: close\r\n"), "{head:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head:?}: {answer}");
    }
    assert_eq!((node.connections(), node.bytes_in()), (0, 0));
    let refused: u64 = roomgate::wire::http_head::Refusal::ALL
        .iter()
        .map(|r| rig.metrics.edge.heads_refused.with_label_values(&[r.as_str()]).get())
        .sum();
    assert_eq!(refused, table.len() as u64);
    rig.end().await;
}

#[tokio::test]
async fn large_heads_get_431() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let head =
        |bytes: usize| format!("GET / HTTP/1.1\r\nHost: plain.test\r\nX: {}\r\n\r\n", "x".repeat(bytes));
    for (bytes, status) in [(33 * 1024, "431"), (200 * 1024, "431")] {
        let answer = rig.raw(head(bytes).as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes}: {answer}");
    }
    let many = format!("GET / HTTP/1.1\r\nHost: plain.test\r\n{}\r\n", "X: 1\r\n".repeat(100));
    assert!(rig.raw(many.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    assert_eq!(node.connections(), 0);
    let mut stream = rig.plain().await;
    stream.write_all(head(20 * 1024).as_bytes()).await.unwrap();
    assert!(read_answer(&mut stream).await.0.starts_with("HTTP/1.1 200 "));
    drop(stream);
    rig.end().await;
}

#[tokio::test]
async fn a_head_that_drips_is_cut_at_its_deadline() {
    let node = TestNode::start("a").await;
    let mut plan = Plan::default();
    plan.limits.head_timeout = Duration::from_millis(400);
    let rig = Rig::start(&plan, &[&node]);
    let mut stream = rig.plain().await;
    let begun = roomgate::clock::now();
    let drip = async {
        for byte in
            b"GET / HTTP/1.1\r\nHost: plain.test\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".iter().cycle()
        {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            let mut answer = [0; 64];
            if let Ok(Ok(n)) = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut answer)).await
            {
                return String::from_utf8_lossy(&answer[..n]).into_owned();
            }
        }
        String::new()
    };
    let answer = soon("the deadline", drip).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(node.connections(), 0);
    drop(stream);
    rig.end().await;
}

#[tokio::test]
async fn a_malformed_chunked_body_ends_the_connection_and_never_becomes_a_request() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let head = "POST /echo HTTP/1.1\r\nHost: plain.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "3\nabc\r\n0\r\n\r\n",
        "3 ; x\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n",
        "0\r\n X: folded\r\n\r\n",
    ] {
        let answer = rig.raw(format!("{head}{body}{SMUGGLED}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{body:?}: {answer}");
    }
    assert!(!node.seen().iter().any(|head| head.contains("smuggled")), "{:?}", node.seen());
    rig.end().await;
}
