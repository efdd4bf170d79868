//! The bytes of a tunnel: none is lost at its beginning, none is changed, and a side that does not read stops the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::kit::edge_rig::{Plan, Rig, TestNode, raw_tunnel, soon, until};

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Reads a request head, and nothing behind it.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

/// Sends back what comes.
async fn echo(mut stream: TcpStream) {
    let mut bytes = vec![0; 4096];
    while let Ok(read) = stream.read(&mut bytes).await {
        if read == 0 || stream.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_answers_before_it_reads_loses_no_tunnel() {
    const EACH: usize = 250;
    /// An empty message.
    const EMPTY: [u8; 2] = [0x81, 0];
    // Pingora's own upgrade loses the tunnel when the 101 is there before the request has been sent in full.
    let hasty = TestNode::raw("a", |mut stream| async move {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let greets = NUMBER.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        let first: &[u8] = if greets { &EMPTY } else { &[] };
        // One segment: the answer and, every second time, the first frame.
        if stream.write_all(&[SWITCH.as_bytes(), first].concat()).await.is_err() {
            return;
        }
        read_head(&mut stream).await;
        if !greets && stream.write_all(&EMPTY).await.is_err() {
            return;
        }
        echo(stream).await;
    })
    .await;
    let rig = Arc::new(Rig::start(&Plan::default(), &[&hasty]));
    let clients = (0..8).map(|_| {
        let rig = rig.clone();
        tokio::spawn(async move {
            for _ in 0..EACH {
                let mut stream = raw_tunnel(&rig, "/ws").await;
                let mut first = [0; 2];
                soon("the node's first frame", stream.read_exact(&mut first)).await.unwrap();
                assert_eq!(first, EMPTY);
                let frame = [0x82, 0x82, 0, 0, 0, 0, 7, 8];
                stream.write_all(&frame).await.unwrap();
                let mut back = [0; 8];
                soon("an echo", stream.read_exact(&mut back)).await.unwrap();
                assert_eq!(back, frame);
            }
        })
    });
    for client in futures_util::future::join_all(clients).await {
        client.unwrap();
    }
    assert_eq!(rig.metrics.edge.tunnels_total.get(), 8 * EACH as u64);
    until("all have ended", || rig.metrics.edge.tunnels.get() == 0).await;
    assert_eq!(rig.metrics.edge.tunnels_closed.with_label_values(&["ended"]).get(), 8 * EACH as u64);
    Arc::into_inner(rig).unwrap().end().await;
}

#[tokio::test]
async fn compressed_fragmented_and_unknown_frames_pass_as_they_are() {
    let (heads, mut seen) = watch::channel(String::new());
    let node = TestNode::raw("a", move |mut stream| {
        let heads = heads.clone();
        async move {
            heads.send_replace(read_head(&mut stream).await);
            let answer =
                SWITCH.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
            if stream.write_all(answer.as_bytes()).await.is_ok() {
                echo(stream).await;
            }
        }
    })
    .await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = rig.plain().await;
    let extensions = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: plain.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extensions}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = soon("the answer", read_head(&mut stream)).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(
        answer.to_ascii_lowercase().contains("sec-websocket-extensions: permessage-deflate\r\n"),
        "{answer}"
    );
    soon("the node was asked", seen.wait_for(|head| !head.is_empty())).await.unwrap();
    assert!(seen.borrow().contains(extensions), "{}", *seen.borrow());
    let masked = |first: u8, payload: &[u8]| {
        [&[first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0][..], payload].concat()
    };
    // "Hello", compressed (RFC 7692 section 7.2.3.1): whole, then in two fragments with a ping between them; then a
    // reserved opcode with every reserved bit.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let stream_of_frames = [
        masked(0xc1, &hello),
        masked(0x41, &hello[..3]),
        masked(0x89, b"between"),
        masked(0x80, &hello[3..]),
        masked(0xfb, &[0x88, 0, 0x88]),
    ]
    .concat();
    // All at once, then byte by byte.
    stream.write_all(&stream_of_frames).await.unwrap();
    let mut back = vec![0; stream_of_frames.len()];
    soon("the frames", stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, stream_of_frames);
    for byte in &stream_of_frames {
        stream.write_all(&[*byte]).await.unwrap();
        // Nothing waits for a frame to be whole.
        assert_eq!(soon("the byte", stream.read_u8()).await.unwrap(), *byte);
    }
    drop(stream);
    rig.end().await;
}

/// Bytes that each side sends in the flood: more than four socket buffers hold.
const FLOOD: usize = 64 * 1024 * 1024;
/// Each frame of the flood: 8 KiB of payload behind four bytes of head.
const FRAME: usize = 8196;

/// Writes a whole flood and counts how far it has come.
async fn pour(to: &mut (impl AsyncWriteExt + Unpin), sent: &AtomicUsize) {
    let frame = [&[0x82, 126, 0x20, 0x00][..], &[7; FRAME - 4]].concat();
    while sent.load(Ordering::Relaxed) < FLOOD {
        if to.write_all(&frame).await.is_err() {
            return;
        }
        sent.fetch_add(frame.len(), Ordering::Relaxed);
    }
}

/// Reads a whole flood and checks that it is one.
async fn drink(from: &mut (impl AsyncReadExt + Unpin)) -> usize {
    let (mut bytes, mut total) = (vec![0; 256 * 1024], 0);
    while total < FLOOD {
        let read = from.read(&mut bytes).await.unwrap();
        assert!(read > 0, "it ended after {total} bytes");
        for (at, byte) in bytes[..read].iter().enumerate() {
            let expected = [0x82, 126, 0x20, 0x00].get((total + at) % FRAME).copied().unwrap_or(7);
            assert_eq!(*byte, expected, "byte {}", total + at);
        }
        total += read;
    }
    total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_floods_against_each_other_stop_and_go_on() {
    let (go, gone) = watch::channel(false);
    let sent_by_node = Arc::new(AtomicUsize::new(0));
    let sent = sent_by_node.clone();
    let node = TestNode::raw("a", move |mut stream| {
        let (sent, mut gone) = (sent.clone(), gone.clone());
        async move {
            read_head(&mut stream).await;
            stream.write_all(SWITCH.as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.split();
            let drinks = async {
                gone.wait_for(|go| *go).await.unwrap();
                drink(&mut read).await
            };
            tokio::join!(pour(&mut write, &sent), drinks);
        }
    })
    .await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut stream = raw_tunnel(&rig, "/ws").await;
    let sent_by_client = AtomicUsize::new(0);
    let (mut read, mut write) = stream.split();
    let both = || (sent_by_client.load(Ordering::Relaxed), sent_by_node.load(Ordering::Relaxed));
    let drinks = async {
        // Nobody reads: both stand still once the kernel's buffers are full.
        let mut before = (0, 0);
        soon("both stand still", async {
            loop {
                tokio::time::sleep(Duration::from_millis(300)).await;
                let now = both();
                if now == before && now.0 > 0 && now.1 > 0 {
                    break;
                }
                before = now;
            }
        })
        .await;
        assert!(before.0 < FLOOD && before.1 < FLOOD, "somebody keeps what nobody reads: {before:?}");
        go.send_replace(true);
        drink(&mut read).await
    };
    let flood = async { tokio::join!(pour(&mut write, &sent_by_client), drinks) };
    let ((), total) = tokio::time::timeout(Duration::from_secs(60), flood).await.unwrap();
    assert!(total >= FLOOD);
    let through = || rig.metrics.edge.tunnel_bytes_from_node.get();
    until("the bytes are counted", || through() >= FLOOD as u64 - 64 * 1024).await;
    drop(stream);
    rig.end().await;
}
