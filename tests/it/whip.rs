//! WHIP and WHEP with a client that shares no code with the server (RFC 9725, draft-ietf-wish-whep).

use std::time::Duration;

use http::Method;

use crate::kit::client::{Answer, Client};
use crate::kit::media_client::{MediaClient, Setup, VP8_KEYFRAME};
use crate::kit::process::Roomgate;
use crate::kit::{SOON, config, until, within};

const HOST: &str = "127.0.0.1";
const SDP: &str = "application/sdp";

async fn post(client: &Client, path: &str, content_type: &str, body: impl Into<bytes::Bytes>) -> Answer {
    let headers = [("content-type", content_type)];
    within(SOON, path, client.send(HOST, Method::POST, path, &headers, body)).await.unwrap()
}

/// Offers at `path`, follows the answer, and returns the path of the resource.
async fn negotiate(client: &Client, path: &str, media: &mut MediaClient) -> String {
    let answer = post(client, path, SDP, media.offer()).await;
    assert_eq!(answer.status, 201, "{path}: {}", answer.text());
    assert_eq!(answer.header("content-type"), SDP);
    let location = answer.header("location").to_owned();
    let path_of_it = location.strip_prefix(&format!("https://{HOST}")).unwrap_or(&location).to_owned();
    assert!(
        path_of_it.starts_with(path) && path_of_it.len() >= path.len() + 17,
        "an unguessable resource: {location}"
    );
    media.connect(&answer.text()).await.unwrap();
    path_of_it
}

/// Sends into a room; returns the resource.
pub(crate) async fn publish(client: &Client, room: &str, media: &mut MediaClient) -> String {
    negotiate(client, &format!("/rooms/{room}/whip"), media).await
}

/// Receives from a room; returns the resource.
pub(crate) async fn play(client: &Client, room: &str, media: &mut MediaClient) -> String {
    negotiate(client, &format!("/rooms/{room}/whep"), media).await
}

/// Ends a resource.
pub(crate) async fn delete(client: &Client, resource: &str) {
    let answer = client.send(HOST, Method::DELETE, resource, &[], "").await.unwrap();
    assert!(answer.status.is_success(), "DELETE {resource}: {} {}", answer.status, answer.text());
}

/// Sends pictures until one has arrived.
pub(crate) async fn until_received(from: &mut MediaClient, to: &mut MediaClient, mark: &[u8]) {
    within(SOON, "a picture arrives", async {
        loop {
            from.send(1, mark).await;
            if let Ok(received) = tokio::time::timeout(Duration::from_millis(50), to.receive()).await
                && received.payload == [VP8_KEYFRAME, mark].concat()
            {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_whip_sends_whep_receives() {
    let roomgate = Roomgate::start_up(&config::conference(2)).await;
    let client = Client::of(roomgate.https());
    let mut sender = MediaClient::new(Setup::sender()).await;
    let whip = publish(&client, "stream", &mut sender).await;
    let mut viewer = MediaClient::new(Setup::receiver()).await;
    let whep = play(&client, "stream", &mut viewer).await;
    assert_eq!(sender.remote_addr(), Some(roomgate.media()), "the advertised candidate");
    until_received(&mut sender, &mut viewer, b"hello").await;
    assert!(sender.pictures_asked() > 0, "a viewer who came later needs a whole picture");

    // Both kinds arrive, in order, each on its own line and with nothing of the other.
    viewer.drain();
    for number in 0..50u8 {
        sender.send(0, &[number]).await;
        sender.send(1, &[number]).await;
    }
    let (mut audio, mut video) = (Vec::new(), Vec::new());
    within(SOON, "100 packets arrive", async {
        while audio.len() < 50 || video.len() < 50 {
            let packet = viewer.receive().await;
            if packet.payload.ends_with(b"hello") {
                // Sent once more before the first one was seen.
                continue;
            }
            let number = packet.payload[packet.payload.len() - 1];
            let line = if packet.header.payload_type == 111 { &mut audio } else { &mut video };
            line.push((packet.header.sequence_number, number));
        }
    })
    .await;
    for line in [audio, video] {
        for pair in line.windows(2) {
            assert_eq!(pair[1].0.wrapping_sub(pair[0].0), 1, "sequence numbers without gaps: {line:?}");
            assert_eq!(pair[1].1.wrapping_sub(pair[0].1), 1, "payloads in order: {line:?}");
        }
    }

    // Another room gets nothing of it.
    let mut stranger = MediaClient::new(Setup::receiver()).await;
    play(&client, "another-stream", &mut stranger).await;
    for _ in 0..20 {
        until_received(&mut sender, &mut viewer, b"not for strangers").await;
    }
    assert_eq!(stranger.drain().len(), 0, "media crossed rooms");

    delete(&client, &whep).await;
    delete(&client, &whip).await;
    let again = client.send(HOST, Method::DELETE, &whip, &[], "").await.unwrap();
    assert_eq!(again.status, 404, "it is gone");
    until(SOON, "nobody is left", || async {
        let metrics = roomgate.metrics().await;
        let flows = metrics.sum("roomgate_rooms_held", &[]);
        // The stranger's resource still stands.
        if flows <= 1.0 { Ok(()) } else { Err(flows) }
    })
    .await;
}

#[tokio::test]
async fn a_participant_of_the_page_and_a_whip_client_meet() {
    let roomgate = Roomgate::start_up(&config::conference(2)).await;
    let client = Client::of(roomgate.https());
    let mut person = crate::kit::conference::Participant::join(&client, "mixed", "person", 0).await.unwrap();
    let mut encoder = MediaClient::new(Setup::sender()).await;
    publish(&client, "mixed", &mut encoder).await;
    let joined = person.hear("joined").await.unwrap();
    assert_eq!(joined["participants"].as_array().map(Vec::len), Some(1), "{joined}");
    until_received(&mut encoder, &mut person.media, b"from the encoder").await;
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_its_status() {
    let roomgate = Roomgate::start_up(&config::conference(1)).await;
    let client = Client::of(roomgate.https());
    let offer = MediaClient::new(Setup::sender()).await.offer();
    let without = |line: &str| -> String {
        offer.lines().filter(|l| !l.starts_with(line)).map(|l| format!("{l}\r\n")).collect()
    };
    let cases = [
        ("not an offer at all", "hello".to_owned(), SDP, 400),
        ("an empty body", String::new(), SDP, 400),
        ("half an offer", offer[..offer.len() / 2].to_owned(), SDP, 400),
        ("no ICE credentials", without("a=ice-"), SDP, 400),
        ("no fingerprint", without("a=fingerprint"), SDP, 400),
        ("JSON", "{}".to_owned(), "application/json", 415),
        ("the right body with the wrong type", offer.clone(), "text/plain", 415),
    ];
    for path in ["/rooms/r/whip", "/rooms/r/whep"] {
        for (what, body, content_type, status) in &cases {
            let answer = post(&client, path, content_type, body.clone()).await;
            assert_eq!(answer.status, *status, "{path}: {what}: {}", answer.text());
            assert!(!answer.body.is_empty(), "{path}: {what}: the answer says why");
        }
    }
    let headers = [("content-type", SDP)];
    for (method, path, body, status) in [
        (Method::DELETE, "/rooms/r/whip/AAAAAAAAAAAAAAAAAAAAAA", "", &[404][..]),
        (Method::DELETE, "/rooms/r/whep/AAAAAAAAAAAAAAAAAAAAAA", "", &[404]),
        (Method::GET, "/rooms/r/whip", "", &[405]),
        (Method::PUT, "/rooms/r/whip", "", &[405]),
        (Method::POST, "/rooms/r/nothing", "", &[404, 405]),
    ] {
        let answer = client.send(HOST, method.clone(), path, &headers, body).await.unwrap();
        assert!(status.contains(&answer.status.as_u16()), "{method} {path}: {}", answer.status);
    }
    assert_eq!(
        roomgate.metrics().await.sum("roomgate_rooms_held", &[]),
        0.0,
        "what was refused holds no room"
    );
}

#[tokio::test]
async fn pages_of_other_origins_may_use_whip() {
    let roomgate = Roomgate::start_up(&config::conference(1)).await;
    let client = Client::of(roomgate.https());
    let headers = [
        ("origin", "https://elsewhere.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,authorization"),
    ];
    let answer = client.send(HOST, Method::OPTIONS, "/rooms/r/whip", &headers, "").await.unwrap();
    assert!(answer.status.is_success(), "{}", answer.status);
    assert!(["*", "https://elsewhere.example"].contains(&answer.header("access-control-allow-origin")));
    assert!(answer.header("access-control-allow-methods").contains("POST"));
    let allowed = answer.header("access-control-allow-headers").to_lowercase();
    assert!(allowed.contains("authorization") && allowed.contains("content-type"), "{allowed}");
    let mut media = MediaClient::new(Setup::sender()).await;
    let headers = [("origin", "https://elsewhere.example"), ("content-type", SDP)];
    let answer = client.send(HOST, Method::POST, "/rooms/r/whip", &headers, media.offer()).await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    let exposed = answer.header("access-control-expose-headers").to_lowercase();
    assert!(exposed.contains("location"), "the page must be able to read Location: {exposed}");
}
