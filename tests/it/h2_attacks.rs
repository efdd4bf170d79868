//! Known attacks on HTTP/2, made by an independent implementation (Python's h2, hyperframe and hpack) on the real binary.
//!
//! Each connection is ended soon, few of its requests reach the node, memory stays bounded, and a client that behaves
//! is served all along.

use std::time::Duration;

use serde_json::Value;

use crate::kit::edge_rig::TestNode;
use crate::kit::long;
use crate::kit::process::Roomgate;
use crate::kit::tools::{Probe, folder, python, roomgate, run};

/// RFC 9113 section 7.
const ENHANCE_YOUR_CALM: u64 = 0xb;
/// The aim is one second; the machine may be busy with other tests.
const END_MAX: f64 = 3.0;
/// Requests of one attack that may reach the node at once.
const REQUESTS_MAX: usize = 100;
/// Memory that a hundred streams of one connection may hold while nobody reads them: each has what the codec may send,
/// what is read ahead of the node, and the buffer of that reader.
const STALL_MAX: u64 = 64 << 20;
/// Memory that one attack may leave behind or hold.
const GROWTH_MAX: u64 = 16 << 20;

async fn attack(roomgate: &Roomgate, name: &str, seconds: &str) -> Value {
    let script = folder("tools").join("h2_attack.py").display().to_string();
    let address = roomgate.https();
    let arguments =
        [script, address.ip().to_string(), address.port().to_string(), name.to_owned(), seconds.to_owned()];
    let output = run(&python(), &arguments, Duration::from_secs(300)).await;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim())
        .unwrap_or_else(|_| panic!("{name}: {text} {}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_are_ended_while_others_are_served() {
    let node = TestNode::start("a").await;
    let roomgate = roomgate(node.addr).await;
    let probe = Probe::start(roomgate.https());
    // The first attack pays for what all share.
    attack(&roomgate, "ping_flood", "10").await;
    let mut faults = Vec::new();
    // What they are counted as: where there are two, whichever budget is spent first. None: the codec itself ends the
    // connection, with an error of its own.
    let table: [(&str, &[&str]); 19] = [
        ("rapid_reset", &["codec", "reset"]),
        ("rapid_reset_dripped", &["codec", "reset"]),
        ("made_you_reset", &[]),
        ("made_you_reset_by_overflow", &["reset_sent"]),
        ("made_you_reset_by_data", &[]),
        ("too_many_streams", &["reset_sent"]),
        ("continuation_flood", &["continuation"]),
        ("continuation_flood_large", &["codec"]),
        ("continuation_flood_empty", &["continuation"]),
        ("settings_flood", &["settings"]),
        ("ping_flood", &["ping"]),
        ("priority_flood", &["priority"]),
        ("window_update_flood", &["window_update"]),
        ("empty_data_flood", &["empty"]),
        ("padded_data_flood", &["empty"]),
        ("unknown_flood", &["unknown"]),
        ("data_dribble", &["window_update"]),
        ("hpack_table_updates", &["reset_sent"]),
        ("hpack_bomb", &["codec"]),
    ];
    for (name, kinds) in table {
        let before = (roomgate.resident(), floods(&roomgate, kinds).await);
        let result = attack(&roomgate, name, "10").await;
        let requests = node.seen().iter().filter(|head| head.contains(&format!("/{name} "))).count();
        let (grown, counted) =
            (roomgate.resident().saturating_sub(before.0), floods(&roomgate, kinds).await - before.1);
        let slowest = probe.slowest();
        println!("{name}: {result}, {requests} requests, {} KiB, others within {slowest:?}", grown >> 10);
        let seconds = result["seconds"].as_f64().unwrap_or(f64::MAX);
        // The budget is for what comes at once; half of it comes back each second.
        let requests_max = REQUESTS_MAX as f64 * (1.0 + seconds / 2.0) + 10.0;
        let calm = kinds.is_empty() || result["goaway"].as_u64().is_none_or(|code| code == ENHANCE_YOUR_CALM);
        if result["ended"] != true
            || seconds > END_MAX
            || requests as f64 > requests_max
            || grown > GROWTH_MAX
            || !calm
            || (!kinds.is_empty() && counted != 1.0)
        {
            faults.push(format!("{name}: {result}, {requests} requests, {grown} bytes, counted {counted}"));
        }
    }
    let served = probe.end().await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(served.failures.is_empty() && served.answers > 20, "{served:?}");
}

async fn floods(roomgate: &Roomgate, kinds: &[&str]) -> f64 {
    let metrics = roomgate.metrics().await;
    let of = |kind| metrics.sum("roomgate_edge_h2_floods_total", &[&format!("kind=\"{kind}\"")]);
    kinds.iter().map(of).sum()
}

/// Clients that stop in the middle look like slow ones: they are not cut at once, and must not cost much while they
/// last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalls_are_bounded_while_others_are_served() {
    let node = TestNode::start("a").await;
    let roomgate = roomgate(node.addr).await;
    let probe = Probe::start(roomgate.https());
    attack(&roomgate, "ping_flood", "10").await;
    let before = roomgate.resident();
    let seconds = if long("the stalls to their end") { "200" } else { "3" };
    let names = ["window_stall", "window_stall_of_one", "read_stall", "body_stall"];
    let attacks = futures_util::future::join_all(names.map(|name| attack(&roomgate, name, seconds)));
    tokio::pin!(attacks);
    let mut peak = before;
    let results = loop {
        tokio::select! {
            results = &mut attacks => break results,
            () = tokio::time::sleep(Duration::from_millis(50)) => peak = peak.max(roomgate.resident()),
        }
    };
    for (name, result) in names.iter().zip(&results) {
        println!("{name}: {result}");
    }
    println!(
        "{} KiB more while they lasted, others within {:?}",
        peak.saturating_sub(before) >> 10,
        probe.slowest()
    );
    assert!(peak.saturating_sub(before) < STALL_MAX * names.len() as u64, "{before} -> {peak} bytes");
    if seconds == "200" {
        let ended = results.iter().filter(|result| result["ended"] == true).count();
        assert!(ended >= names.len() - 1, "{results:?}");
    }
    let served = probe.end().await;
    assert!(served.failures.is_empty() && served.answers >= 3, "{served:?}");
}
