//! The WebSocket of a conference site as a client author reads it: who is told what, and how it ends.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use roomgate::sfu::signalling::message::MESSAGE_BYTES_MAX;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::kit::client::{Client, WebSocket, refusal};
use crate::kit::conference::Participant;
use crate::kit::process::Roomgate;
use crate::kit::{SOON, config, until, within};

async fn open(client: &Client, room: &str) -> WebSocket {
    within(SOON, "a WebSocket", client.websocket("127.0.0.1", &format!("/rooms/{room}/ws"))).await.unwrap()
}

/// Sends one frame and returns everything until the server closes, and the close code.
async fn last_words(socket: &mut WebSocket, frame: Message) -> (Vec<Value>, Option<u16>) {
    // A frame that is too large may be refused before it is whole.
    let _ = socket.send(frame).await;
    let mut words = Vec::new();
    within(SOON, "the server closes", async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => words.push(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return (words, frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (words, None),
            }
        }
    })
    .await
}

/// The ids in a message's `participants`.
fn ids(message: &Value) -> Vec<String> {
    let participants = message["participants"].as_array().cloned().unwrap_or_default();
    let id = |entry: &Value| entry["id"].as_str().or(entry.as_str()).map(str::to_owned);
    participants.iter().map(|entry| id(entry).unwrap()).collect()
}

#[tokio::test]
async fn everybody_hears_of_everybody() {
    let roomgate = Roomgate::start_up(&config::conference(2)).await;
    let client = Client::of(roomgate.https());
    let mut ada = Participant::join(&client, "Caf%C3%A9", "Ada", 0).await.unwrap();
    // Another spelling of the same room.
    let mut ben = Participant::join(&client, "CAFE%CC%81", "Ben", 0).await.unwrap();
    assert_ne!(ada.you, ben.you);
    let joined = ada.hear("joined").await.unwrap();
    assert_eq!(ids(&joined), [ben.you.clone()]);
    assert_eq!(joined["participants"][0]["name"], "Ben");
    assert_eq!(roomgate.room_nodes().await.keys().collect::<Vec<_>>(), ["café"]);
    assert_eq!(
        roomgate.metrics().await.sum("roomgate_pool_open", &[]),
        2.0,
        "each is an open stream of the worker"
    );

    // Which line carries whom is said, and it is true.
    let mid = within(SOON, "Ben hears which line carries Ada", async {
        loop {
            let slots = ben.hear("slots").await.unwrap();
            let carries_ada = |slot: &&Value| {
                slot["from"]["participant"] == ada.you.as_str() && slot["from"]["source"] == "camera"
            };
            if let Some(slot) = slots["slots"].as_array().unwrap().iter().find(carries_ada) {
                return slot["mid"].as_str().unwrap().to_owned();
            }
        }
    })
    .await;
    let received = ada.send_to(&mut ben, b"from Ada").await;
    assert_eq!(received.mid.as_deref(), Some(mid.as_str()));
    // Nobody's own media comes back.
    assert_eq!(ada.media.drain().len(), 0);

    ada.say(json!({ "type": "mute", "source": "microphone", "muted": true })).await.unwrap();
    let muted = |message: &Value| {
        let sources = message["participants"][0]["sources"].as_array().cloned().unwrap_or_default();
        sources.iter().any(|source| source["source"] == "microphone" && source["muted"] == true)
    };
    within(SOON, "Ben hears that Ada is muted", async {
        while !muted(&ben.hear("sources").await.unwrap()) {}
    })
    .await;

    let gone = ben.you.clone();
    let close = ben.leave().await;
    assert_eq!(close.map(|frame| u16::from(frame.code)), Some(1000));
    assert_eq!(ids(&ada.hear("left").await.unwrap()), [gone]);
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_participant_who_left() {
    let roomgate = Roomgate::start_up(&config::conference(1)).await;
    let client = Client::of(roomgate.https());
    let mut ada = Participant::join(&client, "room", "Ada", 0).await.unwrap();
    let ben = Participant::join(&client, "room", "Ben", 0).await.unwrap();
    let gone = ben.you.clone();
    // Who comes and goes within one batch is not told of at all.
    assert_eq!(ids(&ada.hear("joined").await.unwrap()), std::slice::from_ref(&gone));
    drop(ben);
    assert_eq!(ids(&ada.hear("left").await.unwrap()), [gone]);
    drop(ada);
    until(SOON, "nobody holds the room", || async {
        let held = roomgate.metrics().await.sum("roomgate_rooms_held", &[]);
        if held == 0.0 { Ok(()) } else { Err(held) }
    })
    .await;
}

#[tokio::test]
async fn a_room_of_ten_people_who_come_and_go_stays_whole() {
    let roomgate = Roomgate::start_up(&config::conference(2)).await;
    let client = Client::of(roomgate.https());
    let mut people = Vec::new();
    for number in 0..10 {
        people.push(Participant::join(&client, "crowd", &format!("p{number}"), 0).await.unwrap());
    }
    // Everybody's picture reaches the last and the first who came.
    for from in 1..9 {
        let mark = format!("picture of {from}");
        for to in [0, 9] {
            let [from, to] = people.get_disjoint_mut([from, to]).unwrap();
            from.send_to(to, mark.as_bytes()).await;
        }
    }
    // Half of them leave; the lines of those who stay carry those who come.
    for _ in 0..5 {
        people.pop().unwrap().leave().await;
    }
    for number in 0..5 {
        let mut new = Participant::join(&client, "crowd", &format!("new{number}"), 0).await.unwrap();
        new.send_to(&mut people[0], format!("new {number}").as_bytes()).await;
        people[1].send_to(&mut new, format!("to new {number}").as_bytes()).await;
        people.push(new);
    }
}

#[tokio::test]
async fn what_is_not_understood_is_told_and_closed() {
    let roomgate = Roomgate::start_up(&config::conference(1)).await;
    let client = Client::of(roomgate.https());
    let text = |text: &str| Message::text(text.to_owned());
    for (what, frame) in [
        ("not JSON", text("hello")),
        ("another type", text(r#"{"type":"dance"}"#)),
        ("a key that is not there", text(r#"{"type":"join","name":"x","admin":true}"#)),
        ("an offer before joining", text(r#"{"type":"offer","id":1,"sdp":"v=0","tracks":[]}"#)),
        ("a binary frame", Message::binary(vec![0u8; 16])),
        (
            "a message that is too large",
            text(&format!(r#"{{"type":"join","name":"{}"}}"#, "x".repeat(MESSAGE_BYTES_MAX))),
        ),
    ] {
        let (words, code) = last_words(&mut open(&client, "room").await, frame).await;
        // A frame that is too large, or of the wrong kind, may have a code of its own (RFC 6455 section 7.4.1).
        let cut = code.is_none() && what == "a message that is too large";
        assert!(cut || [Some(1008), Some(1009), Some(1003)].contains(&code), "{what}: {code:?} {words:?}");
        if code == Some(1008) {
            let error = words.last().unwrap_or_else(|| panic!("{what}: closed without a word"));
            assert_eq!((&error["type"], &error["fatal"]), (&json!("error"), &json!(true)), "{what}: {error}");
            assert!(error["message"].as_str().is_some_and(|message| message.len() > 10), "{what}: {error}");
        }
    }
    // Who says nothing is not kept for ever.
    let mut silent = open(&client, "room").await;
    let closed = tokio::time::timeout(Duration::from_secs(15), silent.next()).await;
    assert!(closed.is_ok(), "a client that never joins is closed after 10 s");
}

#[tokio::test]
async fn a_plain_request_to_the_socket_and_a_bad_room_are_refused() {
    let roomgate = Roomgate::start_up(&config::conference(1)).await;
    let client = Client::of(roomgate.https());
    let plain = client.get("127.0.0.1", "/rooms/room/ws").await.unwrap();
    assert!(plain.status.is_client_error(), "{}", plain.status);
    let failure = client.websocket("127.0.0.1", "/rooms/%25252561/ws").await.err().unwrap();
    assert_eq!(refusal(&failure).map(|status| status.as_u16()), Some(400), "{failure}");
    for (path, kind) in
        [("/", "text/html"), ("/rooms/Any%20Room", "text/html"), ("/assets/style.css", "text/css")]
    {
        let answer = client.get("127.0.0.1", path).await.unwrap();
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-type").starts_with(kind), "{path}: {}", answer.header("content-type"));
        assert!(!answer.header("etag").is_empty(), "{path}");
    }
    assert_eq!(client.get("127.0.0.1", "/assets/nothing.js").await.unwrap().status, 404);
}
