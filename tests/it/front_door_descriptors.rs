//! When descriptors run out: clients are turned away before checks and the operator are, and accepting does not spin.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::kit::backends::Backend;
use crate::kit::client::Client;
use crate::kit::config::{API, Shards};
use crate::kit::process::Roomgate;
use crate::kit::{SOON, until, within};

#[tokio::test]
async fn the_reserve_is_kept_for_checks_and_the_operator() {
    let backends = Backend::start_many(1).await;
    let roomgate = Roomgate::start_limited(&Shards::of(&backends).text(), 400).await;
    roomgate.nodes_up().await;
    // (400 - 128) / 2 connections may be open; each may need a descriptor towards its node.
    let (mut open, allowed) = (Vec::new(), 136);
    for _ in 0..allowed + 100 {
        open.push(within(SOON, "a connect", TcpStream::connect(roomgate.https())).await.unwrap());
    }
    until(SOON, "what is over the bound is refused", || async {
        let metrics = roomgate.metrics().await;
        let refused = metrics.sum("roomgate_edge_connections_refused_total", &["reason=\"full\""]);
        if refused >= 100.0 { Ok(()) } else { Err(refused) }
    })
    .await;
    // Refused is closed, at once: no queue.
    let mut byte = [0];
    let last = open.last_mut().unwrap();
    assert!(!matches!(within(SOON, "a refusal", last.read(&mut byte)).await, Ok(n) if n > 0));
    let before = backends[0].counts().checks.load(Ordering::Relaxed);
    until(SOON, "checks go on", || async {
        let now = backends[0].counts().checks.load(Ordering::Relaxed);
        if now > before + 2 { Ok(()) } else { Err(now) }
    })
    .await;
    assert_eq!(roomgate.node_states().await.get("s1").map(String::as_str), Some("up"));
    assert_eq!(roomgate.admin_get("/readyz").await.status, 200);
    assert_eq!(roomgate.metrics().await.sum("roomgate_edge_accept_errors_total", &[]), 0.0);
    drop(open);
    until(SOON, "clients are served again", || async {
        Client::of(roomgate.https()).get(API, "/room").await.map(|answer| assert_eq!(answer.status, 200))
    })
    .await;
}

#[tokio::test]
async fn accepting_pauses_without_descriptors_and_goes_on_with_them() {
    let backends = Backend::start_many(1).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).text()).await;
    // Every thread accepts by now: each of these connections is one thread's, by the kernel's choice.
    for _ in 0..32 {
        Client::of(roomgate.https()).get(API, "/room").await.unwrap();
    }
    let pid = i32::try_from(roomgate.pid()).ok().and_then(Pid::from_raw).unwrap();
    let before = rustix::process::getrlimit(Resource::Nofile);
    let of_it = |current: Option<u64>| Rlimit { current, maximum: before.maximum };
    // Fewer than it has open already.
    prlimit(Some(pid), Resource::Nofile, of_it(Some(8))).unwrap();
    // The kernel takes these connections; the process cannot.
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(within(SOON, "a connect", TcpStream::connect(roomgate.https())).await.unwrap());
    }
    let (began, used_before) = (Instant::now(), processor_time(roomgate.pid()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (took, used) = (began.elapsed(), processor_time(roomgate.pid()) - used_before);
    assert!(used < took / 4, "{used:?} of processor time in {took:?}: it spins");
    prlimit(Some(pid), Resource::Nofile, of_it(before.current)).unwrap();
    let answer = within(Duration::from_secs(5), "service again", async {
        Client::of(roomgate.https()).get(API, "/room").await.unwrap()
    })
    .await;
    assert_eq!(answer.status, 200);
    let errors = roomgate.metrics().await.sum("roomgate_edge_accept_errors_total", &[]);
    // One in 50 ms for each socket that had somebody waiting, of which there is one per core.
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let most = cores * (began.elapsed().as_secs_f64() / 0.05 + 2.0);
    assert!(errors >= 1.0 && errors <= most, "{errors} errors of accept, at most {most}");
    drop(waiting);
}

/// Processor time of a process so far, in steps of 10 ms.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in brackets may hold anything; utime and stime are the 14th and 15th field of all.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
