//! Signalling over a WebSocket: what clients may say, what they hear, and how it ends.

use std::time::Duration;

use roomgate::clock;
use roomgate::media::WorkerLimits;
use roomgate::sfu::SfuLimits;
use roomgate::sfu::signalling::message::{ClientMessage, Lines, ServerMessage, Source};

use crate::sfu_rig::{DEADLINE, Rig};

fn join(name: &str) -> ClientMessage {
    ClientMessage::Join { name: name.to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_hear_of_each_other_and_of_what_they_mute() {
    let rig = Rig::start(1);
    let room = rig.room("Team One");
    let mut ada = rig.connect(&room).await;
    ada.say(&join("  Ada ")).await;
    let ServerMessage::Welcome { room: key, participants, lines, .. } = ada.hear().await else {
        panic!("a welcome")
    };
    assert_eq!((key.as_str(), participants.len()), ("team one", 0));
    assert_eq!(lines, Lines { audio: 4, video: 4 });
    let mut bob = rig.join(&room, &[Source::Microphone], 4, 4).await;
    let joined = ada
        .hear_until(|message| {
            if let ServerMessage::Joined { participants } = message {
                Some(participants[0].id.clone())
            } else {
                None
            }
        })
        .await;
    assert_eq!(joined, bob.you);
    bob.socket.say(&ClientMessage::Mute { source: Source::Microphone, muted: true }).await;
    ada.hear_until(|message| {
        let ServerMessage::Sources { participants } = message else { return None };
        let state = participants[0].sources.first()?;
        (state.source == Source::Microphone && state.muted).then_some(())
    })
    .await;
    drop(bob);
    let left = ada
        .hear_until(|message| {
            if let ServerMessage::Left { participants } = message { Some(participants.clone()) } else { None }
        })
        .await;
    assert_eq!(left, [joined]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_understood_ends_with_1008_and_a_reason() {
    let rig = Rig::start(1);
    let room = rig.room("a");
    for (messages, reason) in [
        (vec!["hello"], "the message was not understood"),
        (vec![r#"{"type":"join","nickname":"x"}"#], "the message was not understood"),
        (vec![r#"{"type":"mute","source":"camera","muted":true}"#], "the first message must be join"),
        (vec![r#"{"type":"join"}"#, r#"{"type":"join"}"#], "join came twice"),
        (
            vec![
                r#"{"type":"join"}"#,
                r#"{"type":"offer","id":5,"sdp":"x"}"#,
                r#"{"type":"offer","id":5,"sdp":"x"}"#,
            ],
            "each offer needs a larger id",
        ),
    ] {
        let mut socket = rig.connect(&room).await;
        for message in &messages {
            socket.say_text((*message).to_owned()).await;
        }
        let (last, frame) = socket.end().await;
        assert_eq!(u16::from(frame.unwrap().code), 1008, "{messages:?}");
        let Some(ServerMessage::Error { message, fatal: true }) = last else { panic!("{last:?}") };
        assert!(message.starts_with(reason), "{message}");
    }
    let mut socket = rig.connect(&room).await;
    for _ in 0..200 {
        socket.say_text(r#"{"type":"mute","source":"camera","muted":true}"#.to_owned()).await;
    }
    let (_, frame) = socket.end().await;
    assert_eq!(u16::from(frame.unwrap().code), 1008);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_offer_is_told_and_the_next_one_counts() {
    let rig = Rig::start(1);
    let mut socket = rig.connect(&rig.room("a")).await;
    socket.say(&join("")).await;
    socket.hear().await;
    socket.say(&ClientMessage::Offer { id: 1, sdp: "nonsense".to_owned(), tracks: Vec::new() }).await;
    let ServerMessage::Error { message, fatal } = socket.hear().await else { panic!("an error") };
    assert!(!fatal && message.contains("not SDP"), "{message}");
    let (_media, sdp, tracks) = crate::sfu_rig::Media::offer(&[Source::Microphone], 1, 1).await;
    socket.say(&ClientMessage::Offer { id: 2, sdp, tracks }).await;
    let ServerMessage::Answer { id, sdp } = socket.hear().await else { panic!("an answer") };
    assert_eq!(id, 2);
    assert!(sdp.contains("a=setup:passive") && sdp.contains("a=ice-lite"), "{sdp}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_room_says_1013_a_lost_place_1012_and_a_stop_1001() {
    let rig = Rig::with(1, WorkerLimits::default(), SfuLimits { sessions_max: 1, room_participants_max: 1 });
    let room = rig.room("a");
    let mut first = rig.connect(&room).await;
    first.say(&join("")).await;
    first.hear().await;
    let mut second = rig.connect(&room).await;
    second.say(&join("")).await;
    let (_, frame) = second.end().await;
    assert_eq!(u16::from(frame.unwrap().code), 1013);

    rig.pools.get("workers").unwrap().nodes[0].set_embedded(Err("test".to_owned()), clock::now());
    let (_, frame) = first.end().await;
    assert_eq!(u16::from(frame.unwrap().code), 1012);

    rig.pools.get("workers").unwrap().nodes[0].set_embedded(Ok(()), clock::now());
    let mut third = rig.connect(&room).await;
    // The first one's seat is given back when its leave arrives.
    let joined = async {
        loop {
            third.say(&join("")).await;
            if let ServerMessage::Welcome { .. } = third.hear().await {
                return;
            }
            third = rig.connect(&room).await;
        }
    };
    tokio::time::timeout(DEADLINE, joined).await.unwrap();
    let ((_, frame), dropped) = tokio::join!(third.end(), rig.tasks.drain(Duration::from_secs(5)));
    assert_eq!(u16::from(frame.unwrap().code), 1001);
    assert_eq!(dropped, 0, "no task had to be dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_told_at_different_times() {
    let rig = Rig::start(1);
    let room = rig.room("a");
    let mut told = Vec::new();
    for _ in 0..20 {
        let mut socket = rig.connect(&room).await;
        socket.say(&join("")).await;
        socket.hear().await;
        told.push(async {
            let (_, frame) = socket.end().await;
            assert_eq!(u16::from(frame.unwrap().code), 1001);
            clock::now()
        });
    }
    let begun = clock::now();
    let told = futures_util::future::join_all(told);
    let (told, dropped) = tokio::join!(told, rig.tasks.drain(Duration::from_secs(10)));
    assert_eq!(dropped, 0, "no task had to be dropped");
    let (first, last) = (told.iter().min().unwrap(), told.iter().max().unwrap());
    // Twenty turns within 5 s: less than a quarter of it between the first and the last is as good as impossible.
    assert!(last.duration_since(*first) > Duration::from_millis(1250), "{told:?}");
    assert!(last.duration_since(begun) < Duration::from_secs(9), "the first half of the deadline");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_while_the_queue_is_full_is_no_ghost() {
    let limits = WorkerLimits { commands_max: 1, ..WorkerLimits::default() };
    let rig = Rig::with(1, limits, SfuLimits::new(10));
    let room = rig.room("a");
    let mut socket = rig.connect(&room).await;
    socket.say(&join("Ada")).await;
    socket.hear().await;
    let reported = |participants: u32| {
        let rig = &rig;
        async move {
            let is_so = async {
                while rig.sfu.reports()[0].host.participants != participants {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(DEADLINE, is_so)
                .await
                .unwrap_or_else(|_| panic!("{participants} participants"));
        }
    };
    reported(1).await;
    // The worker stands still, and its queue is full.
    let (entered, is_held) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let worker = rig.workers.handle(0).unwrap();
    let hold = move || {
        entered.send(()).unwrap();
        let _ = released.recv();
    };
    worker.run_on(Box::new(hold)).unwrap();
    is_held.recv_timeout(DEADLINE).unwrap();
    worker.run_on(Box::new(|| {})).unwrap();
    drop(socket);
    let dropped = rig.metrics.sfu.commands_dropped.with_label_values(&["leave"]);
    let is_counted = async {
        while dropped.get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, is_counted).await.expect("the lost leave is counted");
    drop(release);
    reported(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_room_is_held_while_the_socket_is_open() {
    let rig = Rig::start(1);
    let room = rig.room("a");
    let mut socket = rig.connect(&room).await;
    socket.say(&join("")).await;
    socket.hear().await;
    assert_eq!(rig.rooms.list(10)[0].holds, 1);
    socket.say(&ClientMessage::Leave).await;
    socket.end().await;
    let released = async {
        // The task counts itself out after the hold.
        while rig.rooms.list(10)[0].holds != 0 || rig.metrics.sfu.websockets.get() != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, released).await.expect("the hold is given back and the task counted out");
}
