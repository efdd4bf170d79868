//! Memory of idle connections, read from the process: runs under `scripts/test --long` and `scripts/bench`.

use std::time::{Duration, Instant};

use futures_util::StreamExt;

use crate::kit::backends::Backend;
use crate::kit::client::Client;
use crate::kit::config::{JITSI, Shards};
use crate::kit::process::Roomgate;
use crate::kit::{SOON, long, within};

/// What a connection that does nothing may cost: of a release build, which `ROOMGATE_BIN` names, the promise; of a debug
/// build, whose tasks are larger, no more than shows that nothing is kept for each.
fn bytes_max() -> u64 {
    if std::env::var_os("ROOMGATE_BIN").is_some() { 10 * 1024 } else { 32 * 1024 }
}

const STEPS: [usize; 2] = [1000, 5000];

/// All of them are one client.
const EXEMPT: &str = "limits: { exempt: [\"127.0.0.0/8\"] }\n";

/// Waits until the process's memory has not grown for a second.
async fn settled(roomgate: &Roomgate) -> u64 {
    let deadline = Instant::now() + SOON;
    let mut last = roomgate.resident();
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = roomgate.resident();
        if now <= last + 64 * 1024 {
            return now;
        }
        last = now;
    }
    last
}

/// Opens connections one after the other up to each step, and prints what each costs.
async fn measure<C, F>(what: &str, roomgate: &Roomgate, mut open: impl FnMut(usize) -> F)
where
    F: Future<Output = C>,
{
    // The first connections pay for what all share (tables, certificates, arenas).
    let mut kept = Vec::new();
    for number in 0..100 {
        kept.push(open(number).await);
    }
    let (base, from) = (settled(roomgate).await, kept.len());
    for step in STEPS {
        while kept.len() < from + step {
            kept.push(open(kept.len()).await);
        }
        let now = settled(roomgate).await;
        let each = now.saturating_sub(base) / step as u64;
        println!("{what}: {step} idle: {each} bytes each ({base} -> {now} resident)");
        assert!(each <= bytes_max(), "{each} bytes for each {what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_idle_websocket_tunnels() {
    if !long("memory::of_idle_websocket_tunnels") {
        return;
    }
    let backends = Backend::start_many(1).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).with(EXEMPT).text()).await;
    let client = Client::of(roomgate.https());
    measure("WSS tunnel", &roomgate, |number| {
        let client = client.clone();
        async move {
            let path = format!("/xmpp-websocket?room=room{}", number % 50);
            let mut socket = within(SOON, "a WebSocket", client.websocket(JITSI, &path)).await.unwrap();
            within(SOON, "the node's name", socket.next()).await.unwrap().unwrap();
            socket
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_idle_keep_alive_connections() {
    if !long("memory::of_idle_keep_alive_connections") {
        return;
    }
    let backends = Backend::start_many(1).await;
    // They must still be there when the last one is opened.
    let config = Shards::of(&backends).with(EXEMPT).text().replace(
        "https: { bind: [\"127.0.0.1:0\"],",
        "https: { bind: [\"127.0.0.1:0\"], timeouts: { idle: 1h },",
    );
    let roomgate = Roomgate::start_up(&config).await;
    let client = Client::of(roomgate.https());
    measure("keep-alive connection", &roomgate, |number| {
        let client = client.clone();
        async move {
            let mut connection = within(SOON, "a connection", client.h1(JITSI)).await.unwrap();
            let answer = connection.get(&format!("/room{}", number % 50)).await.unwrap();
            assert_eq!(answer.status, 200);
            connection
        }
    })
    .await;
}
