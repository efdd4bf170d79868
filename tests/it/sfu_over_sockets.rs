//! Rooms over real sockets: clients whose datagrams arrive on the wrong worker connect all the same.

use std::time::Duration;

use roomgate::media::WorkerLimits;
use roomgate::sfu::SfuLimits;
use roomgate::sfu::signalling::message::Source;

use crate::sfu_rig::{Rig, Talker};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_on_each_of_two_workers_hears_its_own_and_nothing_else() {
    let rig = Rig::start(2);
    let rooms = [rig.room_on(0), rig.room_on(1)];
    let mut people: Vec<Vec<Talker>> = Vec::new();
    for room in &rooms {
        let mut talkers = Vec::new();
        // The kernel spreads clients by their port: of so many, some arrive on the wrong worker.
        for _ in 0..8 {
            talkers.push(rig.join(room, &[Source::Microphone, Source::Camera], 8, 8).await);
        }
        people.push(talkers);
    }
    for talker in people.iter().flatten() {
        talker
            .media
            .until("everybody is heard and seen", |seen| {
                seen.packets.values().filter(|n| **n > 20).count() >= 7
            })
            .await;
    }
    for talker in people.iter().flatten() {
        let seen = talker.media.seen();
        assert_eq!(seen.packets.len(), 7, "{}: {:?}", talker.you, seen.packets);
    }
    // A worker's report is a second old.
    let crossed = async {
        while rig.ring_out() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), crossed).await.expect("some arrived on the wrong worker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_ring_some_would_not_connect() {
    let limits = WorkerLimits { ring_capacity: 0, ..WorkerLimits::default() };
    let rig = Rig::with(2, limits, SfuLimits::new(100));
    let room = rig.room_on(0);
    let mut talkers = Vec::new();
    for _ in 0..16 {
        talkers.push(rig.join(&room, &[Source::Microphone], 1, 0).await);
    }
    let some = async {
        while !talkers.iter().any(|t| t.media.seen().connected) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), some).await.expect("those on the right worker connect");
    tokio::time::sleep(Duration::from_secs(1)).await;
    // All on the right one by chance: once in 65 536 runs.
    assert!(talkers.iter().any(|t| !t.media.seen().connected), "the ring is what carries the others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_is_gone_and_the_client_hears_of_it() {
    let rig = Rig::start(1);
    let room = rig.room("a");
    let stays = rig.join(&room, &[Source::Microphone], 2, 0).await;
    let leaves = rig.join(&room, &[Source::Microphone], 2, 0).await;
    stays.media.until("it is heard", |seen| seen.packets.len() == 1).await;
    let Talker { mut socket, media, .. } = leaves;
    socket.say(&roomgate::sfu::signalling::message::ClientMessage::Leave).await;
    let (_, frame) = socket.end().await;
    assert_eq!(u16::from(frame.unwrap().code), 1000);
    media.until("DTLS is closed", |seen| seen.closed).await;
}
