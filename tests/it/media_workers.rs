//! Two workers behind one port: rooms land on both, and a client connects whichever socket its packets arrive at.

use std::collections::BTreeSet;

use crate::kit::client::Client;
use crate::kit::conference::Participant;
use crate::kit::media_client::{MediaClient, Setup};
use crate::kit::process::Roomgate;
use crate::kit::{SOON, config, until};
use crate::whip;

/// With two sockets, the kernel puts each new source port on either; that all of these land on one is one in 2^15.
const SOURCES: usize = 16;

/// Datagrams that arrived at one worker for a session of the other.
async fn handed_over(roomgate: &Roomgate) -> f64 {
    let metrics = roomgate.metrics().await;
    assert!(metrics.has("roomgate_media_ring_datagrams_total"), "the metric is there");
    metrics.sum("roomgate_media_ring_datagrams_total", &[])
}

#[tokio::test]
async fn rooms_land_on_both_workers() {
    let roomgate = Roomgate::start_up(&config::conference(2)).await;
    let client = Client::of(roomgate.https());
    let mut participants = Vec::new();
    for room in 0..SOURCES {
        participants.push(Participant::join(&client, &format!("room-{room}"), "p", 0).await.unwrap());
    }
    let nodes: BTreeSet<String> = roomgate.room_nodes().await.into_values().collect();
    assert_eq!(nodes, BTreeSet::from(["worker-0".to_owned(), "worker-1".to_owned()]));
}

#[tokio::test]
async fn a_client_connects_whichever_worker_its_packets_arrive_at() {
    let roomgate = Roomgate::start_up(&config::conference(2)).await;
    let client = Client::of(roomgate.https());
    let mut first = Participant::join(&client, "one-room", "first", 0).await.unwrap();
    let before = handed_over(&roomgate).await;
    let mut others = Vec::new();
    for number in 0..SOURCES {
        // ICE and DTLS go through for each of them, and then media does.
        let mut other = Participant::join(&client, "one-room", &format!("p{number}"), 0).await.unwrap();
        other.send_to(&mut first, format!("from {number}").as_bytes()).await;
        others.push(other);
    }
    assert_eq!(roomgate.room_nodes().await.len(), 1, "one room on one worker");
    until(SOON, "datagrams moved between the workers", || async {
        let after = handed_over(&roomgate).await;
        if after > before { Ok(()) } else { Err(after) }
    })
    .await;
}

#[tokio::test]
async fn a_session_goes_on_from_another_source_and_after_an_ice_restart() {
    let roomgate = Roomgate::start_up(&config::conference(2)).await;
    let client = Client::of(roomgate.https());
    let mut watcher = Participant::join(&client, "moving", "watcher", 0).await.unwrap();
    let mut mover = Participant::join(&client, "moving", "mover", 0).await.unwrap();
    mover.send_to(&mut watcher, b"at first").await;
    for round in 0..SOURCES / 2 {
        mover.media.move_to(0).await.unwrap();
        mover.send_to(&mut watcher, format!("moved {round}").as_bytes()).await;
        // New credentials, and the other worker's socket in every second case or so.
        mover.restart_ice().await.unwrap();
        mover.media.move_to(0).await.unwrap();
        mover.send_to(&mut watcher, format!("restarted {round}").as_bytes()).await;
    }
}

#[tokio::test]
async fn a_client_without_gcm_still_connects() {
    let roomgate = Roomgate::start_up(&config::conference(2)).await;
    let client = Client::of(roomgate.https());
    let mut old = MediaClient::new(Setup::sender().without_gcm()).await;
    let resource = whip::publish(&client, "old-and-new", &mut old).await;
    assert!(!old.is_gcm());
    let mut new = MediaClient::new(Setup::receiver()).await;
    whip::play(&client, "old-and-new", &mut new).await;
    assert!(new.is_gcm(), "GCM is preferred where the client has it");
    whip::until_received(&mut old, &mut new, b"across ciphers").await;
    whip::delete(&client, &resource).await;
}

#[tokio::test]
async fn noise_on_the_media_port_gets_no_answer_and_breaks_nothing() {
    let roomgate = Roomgate::start_up(&config::conference(2)).await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut noise = vec![0u8; 1500];
    for round in 0..2_000u32 {
        rand::fill(&mut noise[..]);
        // Every class of first byte (RFC 7983), then nothing but noise.
        noise[0] = round.to_le_bytes()[0];
        let length = 1 + round as usize % noise.len();
        let _ = socket.send_to(&noise[..length], roomgate.media()).await;
    }
    let client = Client::of(roomgate.https());
    let mut a = Participant::join(&client, "after-noise", "a", 0).await.unwrap();
    let mut b = Participant::join(&client, "after-noise", "b", 0).await.unwrap();
    a.send_to(&mut b, b"still here").await;
    let answered = socket.try_recv(&mut noise);
    assert!(answered.is_err(), "an answer of {answered:?} bytes to noise");
}
