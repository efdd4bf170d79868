//! Checks take nodes down and bring them up, in time and visibly.

use std::time::{Duration, Instant};

use crate::kit::backends::{Backend, Health};
use crate::kit::client::Client;
use crate::kit::config::{self, JITSI, Shards};
use crate::kit::process::{Roomgate, items};
use crate::kit::{SOON, until};

/// `fall` (2) times `every` (200 ms), a deadline of 1 s for each check that hangs, and a second for a busy machine.
const DOWN_MAX: Duration = Duration::from_millis(3400);

async fn is(roomgate: &Roomgate, node: &str, state: &str, limit: Duration) -> Duration {
    let started = Instant::now();
    until(limit, &format!("{node} is {state}"), || async {
        let states = roomgate.node_states().await;
        if states.get(node).is_some_and(|now| now == state) { Ok(()) } else { Err(states) }
    })
    .await;
    started.elapsed()
}

#[tokio::test]
async fn a_node_goes_down_and_comes_up_by_its_checks() {
    let mut backends = Backend::start_many(3).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).checked_every("200ms").text()).await;
    for health in [Health::Failing, Health::Hanging] {
        backends[0].set_health(health);
        let took = is(&roomgate, "s1", "down", DOWN_MAX).await;
        eprintln!("{health:?}: down after {took:?}");
        let nodes = items(&roomgate.api("/api/v1/nodes").await, "nodes");
        let node = nodes.iter().find(|node| node.to_string().contains("s1")).unwrap();
        assert!(node["why"].as_str().is_some_and(|why| !why.is_empty()), "it says why: {node}");
        assert_eq!(roomgate.metrics().await.sum("roomgate_pool_node_up", &[r#"node="s1""#]), 0.0);
        backends[0].set_health(Health::Passing);
        is(&roomgate, "s1", "up", DOWN_MAX).await;
    }
    backends[2].kill().await;
    is(&roomgate, "s3", "down", DOWN_MAX).await;
    let told = |line: &&String| line.contains("node is down") && line.contains("\"s3\"");
    until(SOON, "the log says so", || async {
        let told = roomgate.log().iter().filter(told).count();
        if told > 0 { Ok(()) } else { Err(told) }
    })
    .await;
    assert_eq!(roomgate.log().iter().filter(told).count(), 1, "once");
    backends[2].restart().await;
    is(&roomgate, "s3", "up", DOWN_MAX).await;
    assert_eq!(roomgate.metrics().await.sum("roomgate_pool_node_up", &[]), 3.0);
}

#[tokio::test]
async fn one_failed_check_takes_nobody_down() {
    let backends = Backend::start_many(2).await;
    let shards = Shards::of(&backends).checked_every("200ms");
    let config = shards.text().replace("fall: 2", "fall: 100").replace("rise: 2", "rise: 1");
    let roomgate = Roomgate::start_up(&config).await;
    backends[0].set_health(Health::Failing);
    let seen = || backends[0].counts().checks.load(std::sync::atomic::Ordering::Relaxed);
    let goal = seen() + 5;
    until(SOON, "five checks fail", || async { if seen() >= goal { Ok(()) } else { Err(seen()) } }).await;
    assert_eq!(roomgate.node_states().await["s1"], "up");
}

#[tokio::test]
async fn a_node_that_cannot_be_dialled_is_noticed_by_requests_before_checks() {
    let mut backends = Backend::start_many(2).await;
    // One check an hour: only requests can notice.
    let config = Shards::of(&backends)
        .text()
        .replace("every: 1s, timeout: 1s", "every: 1h, timeout: 10s")
        .replace("fall: 2", "fall: 1");
    let roomgate = Roomgate::start_up(&config).await;
    backends[1].kill().await;
    let client = Client::of(roomgate.https());
    for room in 0..20 {
        // A request that found the dead node may fail; the next one of that room may not.
        let _ = client.get(JITSI, &format!("/http-bind?room=room{room}")).await.unwrap();
        let answer = client.get(JITSI, &format!("/http-bind?room=room{room}")).await.unwrap();
        assert_eq!(answer.status, 200, "room{room}: {}", answer.text());
    }
    assert_eq!(roomgate.node_states().await["s2"], "down");
}

#[tokio::test]
async fn a_lack_of_descriptors_takes_no_node_down() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let backends = Backend::start_many(2).await;
    // Five wrong verdicts a second would take a node down, one late answer does not.
    let config = Shards::of(&backends).checked_every("200ms").text().replace("fall: 2", "fall: 3");
    let roomgate = Roomgate::start_up(&config).await;
    let mut connection = Client::of(roomgate.https()).h1(JITSI).await.unwrap();
    let pid = Pid::from_raw(i32::try_from(roomgate.pid()).unwrap());
    // Its own limits, as it inherited them from this process.
    let before = rustix::process::getrlimit(Resource::Nofile);
    let limit =
        |current| prlimit(pid, Resource::Nofile, Rlimit { current, maximum: before.maximum }).unwrap();
    limit(Some(4));
    let refused = connection.get("/room1").await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "2"), "{}", refused.text());
    // Several rounds of checks meet the same; nobody can be asked how many while descriptors lack.
    tokio::time::sleep(Duration::from_secs(1)).await;
    limit(before.current);
    let metrics = roomgate.metrics().await;
    assert!(metrics.sum("roomgate_edge_local_errors_total", &["descriptors"]) >= 1.0);
    assert!(metrics.sum("roomgate_pool_checks_total", &["unasked"]) >= 2.0);
    assert_eq!(metrics.sum("roomgate_pool_transitions_total", &["down"]), 0.0);
    assert_eq!(metrics.sum("roomgate_pool_node_up", &[]), 2.0);
    let answer = Client::of(roomgate.https()).get(JITSI, "/http-bind?room=room1").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn embedded_workers_are_up_by_their_own_test() {
    let roomgate = Roomgate::start(&config::conference(2)).await;
    roomgate.nodes_up().await;
    let states = roomgate.node_states().await;
    assert_eq!(states.keys().map(String::as_str).collect::<Vec<_>>(), ["worker-0", "worker-1"]);
    assert_eq!(roomgate.admin_get("/healthz").await.status, 200);
    until(SOON, "it can serve", || async {
        let answer = roomgate.admin_get("/readyz").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}

#[tokio::test]
async fn readiness_follows_the_pools() {
    let backends = Backend::start_many(2).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).text()).await;
    assert_eq!(roomgate.admin_get("/readyz").await.status, 200);
    backends.iter().for_each(|backend| backend.set_health(Health::Failing));
    until(SOON, "no node can serve", || async {
        let answer = roomgate.admin_get("/readyz").await;
        if answer.status == 503 { Ok(()) } else { Err(answer.status) }
    })
    .await;
    assert_eq!(roomgate.admin_get("/healthz").await.status, 200, "the process lives all the same");
}
