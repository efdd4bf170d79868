//! SIGTERM with many tunnels: every one gets its close frame, spread over the time that is configured.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rustix::process::Signal;
use tokio_tungstenite::tungstenite::Message;

use crate::kit::backends::Backend;
use crate::kit::client::{Client, WebSocket};
use crate::kit::config::{JITSI, Shards};
use crate::kit::process::Roomgate;
use crate::kit::{SOON, long, within};

/// Reads until the close frame; returns its code and when it came.
async fn closed(mut socket: WebSocket) -> (Option<u16>, Instant) {
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(frame))) => {
                let told = (frame.map(|frame| frame.code.into()), Instant::now());
                // The answer goes out with the next step.
                while socket.next().await.is_some() {}
                return told;
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return (None, Instant::now()),
        }
    }
}

/// Opens `count` tunnels, ends the process, and checks when which close frame came.
async fn drain(count: usize, tunnels: Duration, deadline: Duration) {
    let backends = Backend::start_many(2).await;
    let (over, end) = (tunnels.as_millis(), deadline.as_millis());
    let config = Shards::of(&backends)
        .with(&format!("shutdown: {{ deadline: {end}ms, tunnels: {over}ms }}\n"))
        // All of them are one client.
        .with("limits: { exempt: [\"127.0.0.0/8\"] }\n")
        .text();
    let mut roomgate = Roomgate::start_up(&config).await;
    let client = Client::of(roomgate.https());
    let before = roomgate.resident();
    let mut sockets = Vec::new();
    for number in 0..count {
        let path = format!("/xmpp-websocket?room=room{}", number % 50);
        let mut socket = within(SOON, "a WebSocket", client.websocket(JITSI, &path)).await.unwrap();
        within(SOON, "the node's name", socket.next()).await.unwrap().unwrap();
        sockets.push(tokio::spawn(closed(socket)));
    }
    let open = roomgate.resident();
    println!("{count} tunnels: {before} -> {open} bytes resident");
    assert_eq!(roomgate.metrics().await.sum("roomgate_edge_tunnels", &[]), count as f64);

    let begun = Instant::now();
    roomgate.signal(Signal::TERM);
    let mut parts = [0usize; 10];
    for socket in sockets {
        let (code, at) = within(deadline + SOON, "the end of a tunnel", socket).await.unwrap();
        assert_eq!(code, Some(1001));
        let part = at.duration_since(begun).as_millis() * 10 / tunnels.as_millis();
        parts[usize::try_from(part).unwrap().min(9)] += 1;
    }
    println!("close frames in each tenth of {tunnels:?}: {parts:?}");
    // Even but for the jitter; a machine that is busy is late, so tenths are compared in halves and not to the letter.
    let first: usize = parts[..5].iter().sum();
    assert!(first > count / 4 && first < count * 3 / 4, "{first} of {count} in the first half: {parts:?}");
    assert!(parts.iter().all(|part| *part <= count / 3), "a herd: {parts:?}");
    let status = roomgate.exit(deadline + SOON).await;
    assert!(status.success(), "{status}");
    assert!(
        !roomgate.log().iter().any(|line| line.contains("the deadline has passed")),
        "{:?}",
        roomgate.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tunnel_gets_its_close_frame_in_its_turn() {
    drain(300, Duration::from_secs(4), Duration::from_secs(12)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_tunnels_leave_over_ten_seconds() {
    if long("drain::five_thousand_tunnels_leave_over_ten_seconds") {
        drain(5000, Duration::from_secs(10), Duration::from_secs(20)).await;
    }
}
