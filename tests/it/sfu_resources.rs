//! WHIP and WHEP: a request enters the room, another leaves it.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use roomgate::rooms::RoomId;
use roomgate::sfu::signalling::message::Source;
use roomgate::sfu::{Resource, SfuRequest, SfuResponse};

use crate::sfu_rig::{DEADLINE, Media, Rig};

fn request(rig: &Rig, room: &RoomId, resource: Resource, method: Method, id: Option<&str>) -> SfuRequest {
    let mut path = format!("/rooms/{}/{}", room.key, resource.as_str());
    if let Some(id) = id {
        path = format!("{path}/{id}");
    }
    let join = (method == Method::POST && id.is_none()).then(|| rig.place(room));
    SfuRequest {
        resource,
        method,
        path,
        query: None,
        room: room.clone(),
        id: id.map(str::to_owned),
        content_type: None,
        if_match: None,
        body: Bytes::new(),
        join,
    }
}

fn header<'a>(response: &'a SfuResponse, name: &str) -> Option<&'a str> {
    response.headers.iter().find(|(n, _)| n.as_str() == name).map(|(_, value)| value.as_str())
}

fn text(response: &SfuResponse) -> &str {
    std::str::from_utf8(&response.body).unwrap()
}

/// Posts an offer; returns the media and the session's id.
async fn enter(
    rig: &Rig,
    room: &RoomId,
    resource: Resource,
    query: Option<&str>,
    offer: (Media, String),
) -> (Media, String, SfuResponse) {
    let (media, sdp) = offer;
    let mut post = request(rig, room, resource, Method::POST, None);
    post.content_type = Some("application/sdp".to_owned());
    post.query = query.map(str::to_owned);
    post.body = Bytes::from(sdp);
    let response = rig.sfu.http(post).await;
    assert_eq!(response.status, StatusCode::CREATED, "{}", text(&response));
    assert_eq!(header(&response, "content-type"), Some("application/sdp"));
    media.answer(text(&response), rig.workers.local_addrs()[0]);
    let location = header(&response, "location").unwrap();
    let id =
        location.strip_prefix(&format!("/rooms/{}/{}/", room.key, resource.as_str())).unwrap().to_owned();
    assert_eq!(id.len(), 32);
    (media, id, response)
}

async fn offer(sends: &[Source], audio: u16, video: u16) -> (Media, String) {
    let (media, sdp, _) = Media::offer(sends, audio, video).await;
    (media, sdp)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_whip_sends_whep_receives_until_it_is_deleted() {
    let rig = Rig::start(2);
    let room = rig.room("stage");
    let media = offer(&[Source::Microphone, Source::Camera], 0, 0).await;
    let (sender, sender_id, response) = enter(&rig, &room, Resource::Whip, None, media).await;
    assert_eq!(header(&response, "access-control-allow-origin"), Some("*"));
    assert!(header(&response, "access-control-expose-headers").unwrap().contains("Location"));
    assert!(header(&response, "etag").is_some());
    let (viewer, viewer_id, _) = enter(&rig, &room, Resource::Whep, None, offer(&[], 1, 1).await).await;
    viewer.until("the stage is seen", |seen| seen.packets.values().sum::<usize>() > 50).await;
    assert!(sender.seen().packets.is_empty(), "nobody hears themselves");
    assert_eq!(rig.rooms.list(10)[0].holds, 2);
    assert_eq!(rig.metrics.sfu.resources.get(), 2);

    let wrong = [
        request(&rig, &room, Resource::Whep, Method::DELETE, Some(&sender_id)),
        request(&rig, &rig.room("other"), Resource::Whip, Method::DELETE, Some(&sender_id)),
        request(&rig, &room, Resource::Whip, Method::DELETE, Some("0123")),
    ];
    for request in wrong {
        assert_eq!(rig.sfu.http(request).await.status, StatusCode::NOT_FOUND);
    }
    for (resource, id) in [(Resource::Whip, &sender_id), (Resource::Whep, &viewer_id)] {
        let delete = request(&rig, &room, resource, Method::DELETE, Some(id));
        assert_eq!(rig.sfu.http(delete).await.status, StatusCode::OK);
        let again = request(&rig, &room, resource, Method::DELETE, Some(id));
        assert_eq!(rig.sfu.http(again).await.status, StatusCode::NOT_FOUND);
    }
    sender.until("the server closes DTLS", |seen| seen.closed).await;
    viewer.until("the server closes DTLS", |seen| seen.closed).await;
    let released = async {
        while rig.rooms.list(10)[0].holds != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, released).await.expect("the holds are given back");
    assert_eq!(rig.metrics.sfu.resources.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_see_the_end_when_the_workers_stop() {
    let rig = Rig::start(2);
    let room = rig.room("stage");
    let media = offer(&[Source::Microphone, Source::Camera], 0, 0).await;
    let (sender, ..) = enter(&rig, &room, Resource::Whip, None, media).await;
    let (viewer, ..) = enter(&rig, &room, Resource::Whep, None, offer(&[], 1, 1).await).await;
    viewer.until("the stage is seen", |seen| seen.packets.values().sum::<usize>() > 50).await;
    // Nobody has told the tasks of the sessions: whatever was not told before is told by the workers' end.
    let workers = std::sync::Arc::clone(&rig.workers);
    workers.stop();
    let left = tokio::task::spawn_blocking(move || workers.join(DEADLINE)).await.unwrap();
    assert_eq!(left, 0, "workers that did not end");
    sender.until("the server closes DTLS", |seen| seen.closed).await;
    viewer.until("the server closes DTLS", |seen| seen.closed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_may_pick_one_participant() {
    let rig = Rig::start(1);
    let room = rig.room("stage");
    let first = rig.join(&room, &[Source::Microphone, Source::Camera], 0, 0).await;
    let second = rig.join(&room, &[Source::Microphone, Source::Camera], 0, 0).await;
    let query = format!("participant={}", second.you);
    let (viewer, ..) = enter(&rig, &room, Resource::Whep, Some(&query), offer(&[], 2, 2).await).await;
    viewer.until("one is seen", |seen| seen.packets.values().sum::<usize>() > 50).await;
    assert_eq!(viewer.seen().packets.len(), 1);
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freed_line_takes_the_next_participant() {
    let rig = Rig::start(1);
    let room = rig.room("stage");
    let first = rig.join(&room, &[Source::Microphone], 0, 0).await;
    let (viewer, ..) = enter(&rig, &room, Resource::Whep, None, offer(&[], 1, 0).await).await;
    viewer.until("the first is heard", |seen| seen.packets.len() == 1).await;
    let _second = rig.join(&room, &[Source::Microphone], 0, 0).await;
    drop(first);
    viewer.until("the second is heard", |seen| seen.packets.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ice_is_restarted_by_patch() {
    let rig = Rig::start(1);
    let room = rig.room("stage");
    let media = offer(&[Source::Microphone], 0, 0).await;
    let (_sender, id, created) = enter(&rig, &room, Resource::Whip, None, media).await;
    let etag = header(&created, "etag").unwrap().to_owned();
    let fragment = |ufrag: &str| format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789012345678901\r\n");
    let patch = |if_match: Option<&str>, kind: &str, body: String| {
        let mut patch = request(&rig, &room, Resource::Whip, Method::PATCH, Some(&id));
        patch.content_type = Some(kind.to_owned());
        patch.if_match = if_match.map(str::to_owned);
        patch.body = Bytes::from(body);
        rig.sfu.http(patch)
    };
    let kind = "application/trickle-ice-sdpfrag";
    for (if_match, kind, body, expected) in [
        (Some("*"), "application/sdp", fragment("newufrag"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (None, kind, fragment("newufrag"), StatusCode::PRECONDITION_REQUIRED),
        (Some("\"old\""), kind, fragment("newufrag"), StatusCode::PRECONDITION_FAILED),
        (Some(etag.as_str()), kind, fragment("newufrag"), StatusCode::PRECONDITION_FAILED),
        (Some("*"), kind, "a=mid:0\r\n".to_owned(), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(patch(if_match, kind, body).await.status, expected);
    }
    let restarted = patch(Some("*"), kind, fragment("newufrag")).await;
    assert_eq!(restarted.status, StatusCode::OK, "{}", text(&restarted));
    assert_ne!(header(&restarted, "etag"), Some(etag.as_str()));
    let ufrag = |response: &SfuResponse| {
        text(response).lines().find_map(|l| l.strip_prefix("a=ice-ufrag:")).map(str::to_owned).unwrap()
    };
    assert_ne!(ufrag(&restarted), ufrag(&created));
    assert_eq!(ufrag(&restarted).len(), 23);
    assert!(
        text(&restarted)
            .lines()
            .filter(|l| l.starts_with("a=candidate:"))
            .all(|l| l.ends_with(&ufrag(&restarted)))
    );
    let etag = header(&restarted, "etag").unwrap().to_owned();
    let trickle =
        patch(Some(&etag), kind, fragment("newufrag") + "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n")
            .await;
    assert_eq!(trickle.status, StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said() {
    let rig = Rig::start(1);
    let room = rig.room("stage");
    let (_media, good) = offer(&[Source::Microphone], 0, 0).await;
    let sdp = "application/sdp";
    for (resource, kind, body, status, reason) in [
        (Resource::Whip, "text/plain", good.clone(), 415, "application/sdp"),
        (Resource::Whip, sdp, "hello".to_owned(), 400, "not SDP"),
        (Resource::Whip, sdp, good.replace("sha-256", "sha-1"), 400, "fingerprint"),
        (Resource::Whip, sdp, good.replace("a=sendonly", "a=recvonly"), 400, "sending"),
        (Resource::Whep, sdp, good.clone(), 400, "receiving"),
        (Resource::Whip, sdp, "x".repeat(70_000), 413, "longer"),
    ] {
        let mut post = request(&rig, &room, resource, Method::POST, None);
        post.content_type = Some(kind.to_owned());
        post.body = Bytes::from(body);
        let response = rig.sfu.http(post).await;
        assert_eq!(response.status.as_u16(), status, "{}", text(&response));
        assert!(text(&response).contains(reason), "{}", text(&response));
        assert_eq!(header(&response, "access-control-allow-origin"), Some("*"));
    }
    let mut unplaced = request(&rig, &room, Resource::Whip, Method::POST, None);
    unplaced.content_type = Some(format!("{sdp}; charset=utf-8"));
    unplaced.body = Bytes::from(good);
    unplaced.join = None;
    let response = rig.sfu.http(unplaced).await;
    assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(header(&response, "retry-after").is_some());
    for (method, id, status) in [
        (Method::GET, None, 405),
        (Method::GET, Some("abc"), 405),
        (Method::POST, Some("abc"), 405),
        (Method::OPTIONS, None, 204),
        (Method::OPTIONS, Some("abc"), 204),
    ] {
        let response = rig.sfu.http(request(&rig, &room, Resource::Whip, method.clone(), id)).await;
        assert_eq!(response.status.as_u16(), status, "{method} {id:?}");
        assert!(header(&response, "allow").is_some());
        if method == Method::OPTIONS && id.is_none() {
            assert_eq!(header(&response, "accept-post"), Some("application/sdp"));
        }
    }
    let released = async {
        while rig.rooms.list(10).iter().any(|room| room.holds != 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, released).await.expect("no refused request holds a room");
}
