//! slowhttptest's slow heads, slow bodies and slow reads on the real binary: a client that behaves is served all along.

use std::time::Duration;

use crate::kit::edge_rig::TestNode;
use crate::kit::long;
use crate::kit::tools::{Probe, roomgate, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_stays_available() {
    let node = TestNode::start("a").await;
    let roomgate = roomgate(node.addr).await;
    let probe = Probe::start(roomgate.https());
    let (connections, rate, seconds) =
        if long("slowhttptest for half a minute, with 1000 connections of each kind") {
            ("1000", "500", "30")
        } else {
            ("150", "100", "4")
        };
    let before = roomgate.resident();
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", roomgate.listener("http").port());
    let kinds: [&[&str]; 4] = [
        // Slow heads, bodies and reads; then heads without a pause, each of them within its deadline.
        &["-H", "-i", "1", "-u", &url("/")],
        &["-B", "-i", "1", "-s", "8192", "-u", &url("/echo")],
        &["-X", "-k", "2", "-n", "1", "-z", "5", "-w", "1", "-y", "64", "-u", &url("/big")],
        &["-R", "-i", "1", "-u", &url("/")],
    ];
    let runs = kinds.map(|kind| {
        let common = ["-c", connections, "-r", rate, "-l", seconds, "-p", "3"];
        let arguments: Vec<String> = kind.iter().chain(&common).map(|text| (*text).to_owned()).collect();
        async move { run("slowhttptest", &arguments, Duration::from_secs(90)).await }
    });
    let outputs = futures_util::future::join_all(runs).await;
    for (kind, output) in kinds.iter().zip(&outputs) {
        let text = String::from_utf8_lossy(&output.stdout);
        let plain: String = text.replace('\u{1b}', "");
        let last = plain.lines().rev().find(|line| line.contains("service available")).unwrap_or_default();
        assert!(last.contains("YES"), "{kind:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
    }
    let (slowest, grown) = (probe.slowest(), roomgate.resident().saturating_sub(before));
    let served = probe.end().await;
    println!("{} answers, the slowest after {slowest:?}; {} KiB more", served.answers, grown >> 10);
    assert!(served.failures.is_empty() && served.answers >= 1, "{served:?}");
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    // A reader that takes nothing holds half a MiB, which is what Pingora reads ahead of it; the others hold little.
    let each: u64 = connections.parse().unwrap();
    assert!(grown < each << 20, "{grown} bytes for {each} connections of each kind");
}
