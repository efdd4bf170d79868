//! SIGTERM: nothing new, a polite word to open streams, running requests finish, and an end within the deadline.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rustix::process::Signal;
use tokio_tungstenite::tungstenite::Message;

use crate::kit::backends::Backend;
use crate::kit::client::{Client, WebSocket};
use crate::kit::conference::Participant;
use crate::kit::config::{self, JITSI, Shards};
use crate::kit::process::Roomgate;
use crate::kit::{SOON, until, within};

async fn close_code(socket: &mut WebSocket) -> Option<u16> {
    within(SOON, "the socket closes", async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    })
    .await
}

/// Requests that have come to nodes.
fn asked(backends: &[Backend]) -> usize {
    backends.iter().map(|backend| backend.counts().requests.load(Ordering::Relaxed)).sum()
}

#[tokio::test]
async fn requests_finish_and_tunnels_are_told() {
    let backends = Backend::start_many(2).await;
    let mut roomgate = Roomgate::start_up(&Shards::of(&backends).text()).await;
    let client = Client::of(roomgate.https());
    let mut sockets = Vec::new();
    for room in 0..20 {
        let path = format!("/xmpp-websocket?room=r{room}");
        let mut socket = client.websocket(JITSI, &path).await.unwrap();
        within(SOON, "the node's name", socket.next()).await.unwrap().unwrap();
        sockets.push(socket);
    }
    let mut idle = client.h1(JITSI).await.unwrap();
    assert_eq!(idle.get("/some-room").await.unwrap().status, 200);
    let (mut h1, mut h2) = (client.h1(JITSI).await.unwrap(), client.h2(JITSI).await.unwrap());
    let before = asked(&backends);
    let slow = tokio::spawn(async move { (h1.get("/slow/1500/a").await, h2.get("/slow/1500/b").await) });
    until(SOON, "the node is asked", || async { (asked(&backends) > before).then_some(()).ok_or("not") })
        .await;

    let told = Instant::now();
    roomgate.signal(Signal::TERM);
    for socket in &mut sockets {
        assert_eq!(close_code(socket).await, Some(1001), "going away");
    }
    until(SOON, "nobody new is let in", || async {
        match client.get(JITSI, "/another-room").await {
            Err(_) => Ok(()),
            Ok(answer) => Err(answer.status),
        }
    })
    .await;
    let (h1, _) = within(SOON, "the slow answers", slow).await.unwrap();
    assert_eq!(h1.unwrap().status, 200, "a running request finishes");
    let status = roomgate.exit(Duration::from_secs(8)).await;
    eprintln!("ended {:?} after SIGTERM with {status}", told.elapsed());
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn participants_of_a_conference_are_told() {
    let mut roomgate = Roomgate::start_up(&config::conference(2)).await;
    let client = Client::of(roomgate.https());
    let mut a = Participant::join(&client, "room", "a", 0).await.unwrap();
    let mut b = Participant::join(&client, "room", "b", 0).await.unwrap();
    roomgate.signal(Signal::TERM);
    for one in [&mut a, &mut b] {
        assert_eq!(one.closed().await.map(|frame| u16::from(frame.code)), Some(1001));
    }
    let status = roomgate.exit(SOON).await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn the_deadline_holds_against_what_does_not_end() {
    let backends = Backend::start_many(1).await;
    let config = Shards::of(&backends).with("shutdown: { deadline: 1s }\n").text();
    let mut roomgate = Roomgate::start_up(&config).await;
    let client = Client::of(roomgate.https());
    let slow = tokio::spawn(async move { client.get(JITSI, "/slow/60000/a").await });
    until(SOON, "the node is asked", || async { (asked(&backends) > 0).then_some(()).ok_or("not") }).await;
    let told = Instant::now();
    roomgate.signal(Signal::TERM);
    roomgate.exit(Duration::from_secs(4)).await;
    assert!(told.elapsed() >= Duration::from_millis(900), "it waited: {:?}", told.elapsed());
    assert!(slow.await.unwrap().is_err(), "the request was cut");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let backends = Backend::start_many(1).await;
    let mut roomgate = Roomgate::start_up(&Shards::of(&backends).text()).await;
    let client = Client::of(roomgate.https());
    let slow = tokio::spawn(async move { client.get(JITSI, "/slow/60000/a").await });
    until(SOON, "the node is asked", || async { (asked(&backends) > 0).then_some(()).ok_or("not") }).await;
    roomgate.signal(Signal::TERM);
    // The operator sees it until the end.
    until(SOON, "readiness is gone", || async {
        let answer = roomgate.admin_get("/readyz").await;
        let stopping = answer.status == 503 && answer.text().contains("stopping");
        if stopping { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    assert!(roomgate.metrics().await.has("roomgate_tasks"));
    let told = Instant::now();
    roomgate.signal(Signal::TERM);
    roomgate.exit(Duration::from_secs(3)).await;
    eprintln!("ended {:?} after the second signal", told.elapsed());
    slow.abort();
}

#[tokio::test]
async fn a_signal_during_the_start_ends_politely_too() {
    let mut roomgate = Roomgate::spawn_in(tempfile::tempdir().unwrap(), &config::conference(2));
    roomgate.wait_log(SOON, "its first socket", |line| line["message"] == "media port is open").await;
    roomgate.signal(Signal::TERM);
    let status = roomgate.exit(SOON).await;
    assert!(status.success(), "{status}");
}
