//! HTTP/2 connections: what they may have under way, when idle ones end, and what ends those that flood.

use std::time::Duration;

use crate::kit::edge_rig::{Plan, Rig, TestNode, soon, until};
use crate::kit::h2_raw::*;

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "plain.test")];

fn get(path: &str, stream: u32) -> Vec<u8> {
    let mut fields = GET;
    fields[2].1 = path;
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields))
}

#[tokio::test]
async fn a_flood_ends_the_connection_with_its_reason_and_is_counted() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let open = frame(HEADERS, END_HEADERS, 1, &block(&GET));
    let reset = |n: u32| [get("/stall", n), frame(RST_STREAM, 0, n, &[0, 0, 0, 8])].concat();
    // A window that grows too large is a fault of the stream: the edge has to reset it ("MadeYouReset").
    let grow = |n: u32| frame(WINDOW_UPDATE, 0, n, &[0x7f, 0xff, 0xff, 0xff]);
    let provoke = |n: u32| [get("/stall", n), grow(n)].concat();
    let streams = |one: &dyn Fn(u32) -> Vec<u8>| (0..400).flat_map(|n| one(2 * n + 1)).collect::<Vec<u8>>();
    let table = [
        // The codec looks first: none of these was accepted yet.
        ("codec", streams(&reset)),
        ("reset_sent", streams(&provoke)),
        ("settings", frame(SETTINGS, 0, 0, &[]).repeat(40)),
        ("ping", frame(PING, 0, 0, &[1; 8]).repeat(200)),
        ("priority", frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 9]).repeat(400)),
        ("window_update", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(800)),
        ("empty", [open.clone(), frame(DATA, 0, 1, &[]).repeat(200)].concat()),
        ("empty", [open, frame(DATA, PADDED, 1, &[0]).repeat(200)].concat()),
        (
            "continuation",
            [frame(HEADERS, 0, 1, &block(&GET)), frame(CONTINUATION, 0, 1, &block(&[("x", "y")])).repeat(40)]
                .concat(),
        ),
        ("unknown", frame(0xbb, 0, 0, b"?").repeat(200)),
    ];
    let counted = |kind: &str| rig.metrics.edge.h2_floods.with_label_values(&[kind]).get();
    for (kind, bytes) in table {
        let before = counted(kind);
        let mut client = RawHttp2::open(&rig).await;
        client.send(&bytes).await;
        let frames = client.rest().await;
        let last = frames.last().expect("something came back");
        assert_eq!((last.kind, last.code()), (GOAWAY, Some(ENHANCE_YOUR_CALM)), "{kind}: {frames:?}");
        assert_eq!(counted(kind), before + 1, "{kind}");
    }
    rig.end().await;
}

#[tokio::test]
async fn requests_that_are_given_up_under_way_are_a_flood() {
    let node = TestNode::start("a").await;
    let mut plan = Plan::default();
    plan.limits.resets_max = 20;
    let rig = Rig::start(&plan, &[&node]);
    let mut client = RawHttp2::open(&rig).await;
    let streams: Vec<u32> = (0..30).map(|n| 2 * n + 1).collect();
    client.send(&streams.iter().flat_map(|stream| get("/stall", *stream)).collect::<Vec<u8>>()).await;
    until("the node has them all", || node.seen().len() == streams.len()).await;
    let resets = streams.iter().flat_map(|stream| frame(RST_STREAM, 0, *stream, &[0, 0, 0, 8]));
    client.send(&resets.collect::<Vec<u8>>()).await;
    let calm = client.find(|f| f.kind == GOAWAY).await.expect("a farewell");
    assert_eq!((calm.code(), &calm.payload[..4]), (Some(ENHANCE_YOUR_CALM), &[0, 0, 0, 59][..]));
    assert_eq!(client.rest().await, [], "nothing follows");
    assert_eq!(rig.metrics.edge.h2_floods.with_label_values(&["reset"]).get(), 1);
    rig.end().await;
}

#[tokio::test]
async fn what_a_browser_does_is_no_flood() {
    let node = TestNode::start("a").await;
    let rig = Rig::start(&Plan::default(), &[&node]);
    let mut client = RawHttp2::open(&rig).await;
    client.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 0xff, 0, 0])).await;
    for n in 0..300 {
        let stream = 2 * n + 1;
        let wider = frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0xff, 0]);
        client.send(&[get("/", stream), wider, frame(0x10, 0, 0, b"\0\0\0\x01u=3")].concat()).await;
        if n % 10 == 0 {
            client.send(&frame(PING, 0, 0, &[7; 8])).await;
        }
        let done = |f: &Frame| f.stream == stream && f.flags & END_STREAM != 0 && f.kind != RST_STREAM;
        assert!(client.find(done).await.is_some(), "stream {stream}");
    }
    drop(client);
    rig.end().await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    let node = TestNode::start("a").await;
    let mut plan = Plan::default();
    plan.limits.streams_max = 3;
    let rig = Rig::start(&plan, &[&node]);
    let mut client = RawHttp2::open(&rig).await;
    let settings = client.find(|f| f.kind == SETTINGS && f.flags == 0).await.unwrap();
    let streams = settings.payload.chunks(6).find(|s| s[..2] == [0, 3]).expect("MAX_CONCURRENT_STREAMS");
    assert_eq!(streams[2..], [0, 0, 0, 3]);
    client.send(&frame(SETTINGS, 1, 0, &[])).await;
    client.send(&[1, 3, 5, 7].map(|n| get("/stall", n)).concat()).await;
    let refused = client.find(|f| f.kind == RST_STREAM).await.unwrap();
    assert_eq!((refused.stream, refused.code()), (7, Some(7)), "REFUSED_STREAM");
    drop(client);
    rig.end().await;
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let node = TestNode::start("a").await;
    let mut plan = Plan::default();
    plan.limits.idle_timeout = Duration::from_millis(300);
    let rig = Rig::start(&plan, &[&node]);
    let half = frame(HEADERS, 0, 1, &block(&GET));
    for (name, bytes) in
        [("never a request", vec![]), ("an unfinished head", half), ("one request", get("/", 1))]
    {
        let begun = roomgate::clock::now();
        let mut client = RawHttp2::open(&rig).await;
        client.send(&bytes).await;
        soon(name, client.rest()).await;
        assert!(begun.elapsed() >= Duration::from_millis(290), "{name}: {:?}", begun.elapsed());
    }
    // Pings keep nothing alive.
    let mut client = RawHttp2::open(&rig).await;
    soon("a client that only pings", async {
        loop {
            client.send(&frame(PING, 0, 0, &[1; 8])).await;
            let answer = client.find(|f| f.kind == PING).await;
            if answer.is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    rig.end().await;
}
