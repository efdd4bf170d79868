//! Every participant of a room reaches the same node, however the client spells the room, and rooms move as a whole.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Method;
use tokio_tungstenite::tungstenite::Message;

use crate::kit::backends::{Backend, Health};
use crate::kit::client::{Client, Connection, Failure, WebSocket};
use crate::kit::config::{API, JITSI, Shards};
use crate::kit::process::Roomgate;
use crate::kit::rooms::RoomChecker;
use crate::kit::{SOON, until, within};

/// All of them are one client, and ask for more conferences than one may.
const EXEMPT: &str = "limits: { exempt: [\"127.0.0.0/8\"] }\n";
const ROOMS: usize = 1000;
/// Rooms of which one participant keeps a WebSocket open.
const HELD: usize = 200;
/// `fall` (2) times `every` (200 ms), and a second.
const FAILOVER_MAX: Duration = Duration::from_millis(1400);

/// How four participants of one room spell it in their requests: host and path.
fn spellings(room: usize) -> (String, [(&'static str, String); 4]) {
    match room % 4 {
        // Jitsi Meet: the page, which asks for a place, then BOSH; typed by hand, pasted from a mail, encoded once too often.
        0 => (
            format!("daily{room}"),
            [
                (JITSI, format!("/Daily{room}?stick=true")),
                (JITSI, format!("/http-bind?room=daily{room}")),
                (JITSI, format!("/%44aily{room}?stick=true")),
                (JITSI, format!("/http-bind?token=abc&room=%2544AILY{room}")),
            ],
        ),
        // Below a tenant.
        1 => (
            format!("acme/team{room}"),
            [
                (JITSI, format!("/Acme/Team{room}?stick=true")),
                (JITSI, format!("/acme/http-bind?room=TEAM{room}")),
                (JITSI, format!("/ACME/team{room}/?stick=true")),
                (JITSI, format!("/acme/conference-request/v1?room=team{room}")),
            ],
        ),
        // Letters beyond ASCII: composed, decomposed, full-width, upper case.
        2 => (
            format!("café{room}"),
            [
                (JITSI, format!("/caf%C3%A9{room}?stick=true")),
                (JITSI, format!("/Cafe%CC%81{room}?stick=true")),
                (JITSI, format!("/http-bind?room=%EF%BD%83%EF%BD%81%EF%BD%86%C3%A9{room}")),
                (JITSI, format!("/CAF%C3%89{room}?stick=true")),
            ],
        ),
        // A site with its own rules: the query, then the last segment.
        _ => (
            format!("api-{room}"),
            [
                (API, format!("/v1/join?room=API-{room}")),
                (API, format!("/v1/rooms/api-{room}")),
                (API, format!("/v2/other?x=y&room=api%2D{room}")),
                (API, format!("/api-{room}/")),
            ],
        ),
    }
}

/// One request for every participant of every room, over HTTP/1.1 and HTTP/2; tells the checker who answered.
async fn everybody_asks(client: &Client, checker: &mut RoomChecker) {
    const LANES: usize = 8;
    let mut lanes = Vec::new();
    for lane in 0..LANES {
        let client = client.clone();
        lanes.push(tokio::spawn(async move {
            let open = |host| {
                let client = client.clone();
                async move { if lane % 2 == 0 { client.h1(host).await } else { client.h2(host).await } }
            };
            let (mut jitsi, mut api) = (open(JITSI).await?, open(API).await?);
            let mut seen = Vec::new();
            for room in (lane..ROOMS).step_by(LANES) {
                let (key, asks) = spellings(room);
                for (number, (host, path)) in asks.iter().enumerate() {
                    let connection = if *host == JITSI { &mut jitsi } else { &mut api };
                    seen.push((key.clone(), ask(connection, path, number).await?));
                }
            }
            Ok::<_, Failure>(seen)
        }));
    }
    for lane in lanes {
        let seen = within(Duration::from_secs(60), "all answers", lane).await.unwrap().unwrap();
        seen.iter().for_each(|(room, node)| checker.saw(room, node));
    }
}

/// One request; returns the node that answered.
async fn ask(connection: &mut Connection, path: &str, number: usize) -> Result<String, Failure> {
    // BOSH posts.
    let (method, body) = match number {
        1 => (Method::POST, Bytes::from_static(b"<body rid='1'/>")),
        _ => (Method::GET, Bytes::new()),
    };
    let length = body.len();
    let answer = connection.send(method, path, &[], body).await?;
    if answer.status != 200 {
        return Err(format!("{path}: {} {}", answer.status, answer.text()).into());
    }
    let answer = answer.json();
    assert_eq!(answer["path"], path, "the node sees the path as it was sent");
    assert_eq!(answer["body_bytes"], length);
    Ok(answer["node"].as_str().unwrap().to_owned())
}

/// A WebSocket of a participant, and the node that it reached.
struct Held {
    room: String,
    node: String,
    socket: WebSocket,
}

impl Held {
    async fn open(client: &Client, number: usize) -> Self {
        let (room, path) = match number % 2 {
            0 => (format!("daily{}", number * 4), format!("/xmpp-websocket?room=DAILY{}", number * 4)),
            _ => (
                format!("acme/team{}", number * 4 + 1),
                format!("/Acme/xmpp-websocket?room=team{}", number * 4 + 1),
            ),
        };
        let mut socket = within(SOON, "a WebSocket", client.websocket(JITSI, &path)).await.unwrap();
        let node = within(SOON, "the node's name", socket.next()).await.unwrap().unwrap();
        Self { room, node: node.into_text().unwrap().to_string(), socket }
    }

    async fn echoes(&mut self) -> bool {
        let sent = Message::text(format!("to {}", self.room));
        if self.socket.send(sent.clone()).await.is_err() {
            return false;
        }
        loop {
            match within(SOON, "an echo or the end", self.socket.next()).await {
                Some(Ok(message)) if message == sent => return true,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
                Some(Ok(_)) => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_stay_whole_while_nodes_die_and_return() {
    let mut backends = Backend::start_many(3).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).with(EXEMPT).text()).await;
    let client = Client::of(roomgate.https());
    let mut checker = RoomChecker::new();

    everybody_asks(&client, &mut checker).await;
    let mut held = Vec::new();
    for number in 0..HELD {
        let one = Held::open(&client, number).await;
        checker.saw(&one.room, &one.node);
        held.push(one);
    }
    assert_eq!(checker.rooms(), ROOMS);
    assert_eq!(checker.sightings(), ROOMS * 4 + HELD);
    checker.assert_no_splits();
    let spread = checker.rooms_by_node();
    eprintln!("rooms by node: {spread:?}");
    assert_eq!(spread.len(), 3);
    assert!(spread.values().all(|rooms| *rooms > ROOMS / 5), "an even spread: {spread:?}");

    // A node dies: its rooms move, each as a whole, and no other room does.
    checker.next_epoch();
    let dead = "s2";
    let died = Instant::now();
    backends[1].kill().await;
    let orphan = (0..ROOMS).step_by(4).find(|room| {
        let key = spellings(*room).0;
        held.iter().all(|one| one.room != key) || held.iter().any(|one| one.room == key && one.node == dead)
    });
    let orphan = spellings(orphan.unwrap()).1[1].1.clone();
    let mut refused = 0;
    loop {
        let answer = within(SOON, "an answer", client.get(JITSI, &orphan)).await.unwrap();
        let elapsed = died.elapsed();
        if answer.status == 200 && roomgate.node_states().await[dead] == "down" {
            eprintln!(
                "served again {elapsed:?} after the death of {dead}, {refused} requests refused before"
            );
            assert!(elapsed < FAILOVER_MAX, "{elapsed:?}");
            break;
        }
        refused += usize::from(answer.status != 200);
        assert!(elapsed < FAILOVER_MAX, "{} after {elapsed:?}", answer.status);
    }
    everybody_asks(&client, &mut checker).await;
    checker.assert_no_splits();
    checker.assert_moved_only_from(dead);
    eprintln!("rooms by node: {:?}, {} moved", checker.rooms_by_node(), checker.moves().len());
    for one in &mut held {
        assert_eq!(one.echoes().await, one.node != dead, "{} on {}", one.room, one.node);
    }

    // It returns: what lives stays where it is; new rooms may use it.
    checker.next_epoch();
    backends[1].restart().await;
    roomgate.nodes_up().await;
    everybody_asks(&client, &mut checker).await;
    checker.assert_no_splits();
    checker.assert_no_moves();
    for one in held.iter_mut().filter(|one| one.node != dead) {
        assert!(one.echoes().await, "{} on {}", one.room, one.node);
    }
    let mut new_rooms = RoomChecker::new();
    let mut connection = client.h1(JITSI).await.unwrap();
    for room in 0..60 {
        new_rooms.saw(&format!("new{room}"), &ask(&mut connection, &format!("/new{room}"), 0).await.unwrap());
    }
    assert!(new_rooms.rooms_by_node().contains_key(dead), "{:?}", new_rooms.rooms_by_node());
}

#[tokio::test]
async fn a_room_comes_back_to_life_elsewhere_while_its_node_only_fails_its_checks() {
    let backends = Backend::start_many(3).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).with(EXEMPT).text()).await;
    let client = Client::of(roomgate.https());
    let mut held = Held::open(&client, 0).await;
    let sick = backends.iter().find(|backend| backend.name == held.node).unwrap();
    sick.set_health(Health::Failing);
    // The tunnel is closed politely, so that the client joins again at once: 1012 is "service restart".
    let close = within(SOON, "the tunnel closes", async {
        loop {
            match held.socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    })
    .await;
    assert_eq!(close.map(|frame| u16::from(frame.code)), Some(1012));
    let again = Held::open(&client, 0).await;
    assert_ne!(again.node, held.node);
}

#[tokio::test]
async fn without_a_node_a_request_is_told_to_come_back() {
    let backends = Backend::start_many(2).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).with(EXEMPT).text()).await;
    backends.iter().for_each(|backend| backend.set_health(Health::Failing));
    roomgate.nodes_are(|states| states.values().all(|state| state == "down")).await;
    let client = Client::of(roomgate.https());
    for path in ["/some-room", "/"] {
        let answer = client.get(JITSI, path).await.unwrap();
        assert_eq!(answer.status, 503, "{path}");
        assert!(!answer.header("retry-after").is_empty(), "{path}");
    }
    let refused = client.websocket(JITSI, "/xmpp-websocket?room=some-room").await.err().unwrap();
    assert_eq!(crate::kit::client::refusal(&refused).map(|status| status.as_u16()), Some(503), "{refused}");
}

#[tokio::test]
async fn requests_without_a_room_go_to_the_least_busy_node() {
    let backends = Backend::start_many(3).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).with(EXEMPT).text()).await;
    let client = Client::of(roomgate.https());
    // A room keeps its node busy.
    let slow = tokio::spawn({
        let client = client.clone();
        async move { client.get(API, "/slow/1500/busy-room").await }
    });
    let busy = until(SOON, "the node is busy", || async {
        let busy = backends.iter().find(|backend| backend.counts().requests.load(Ordering::Relaxed) > 0);
        busy.map(|backend| backend.name.clone()).ok_or("none yet")
    })
    .await;
    for _ in 0..10 {
        let answer = client.get(JITSI, "/").await.unwrap().json();
        assert_ne!(answer["node"].as_str(), Some(busy.as_str()), "there are nodes without work");
    }
    assert_eq!(slow.await.unwrap().unwrap().json()["node"].as_str(), Some(busy.as_str()));
}

#[tokio::test]
async fn names_that_cannot_be_normalised_are_refused() {
    let backends = Backend::start_many(1).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends).with(EXEMPT).text()).await;
    let client = Client::of(roomgate.https());
    for path in [
        "/http-bind?room=%25252541",
        "/%252525252e",
        "/http-bind?room=%ff%fe",
        "/http-bind?room=a%00b",
        &format!("/{}", "x".repeat(257)),
    ] {
        let answer = client.get(JITSI, path).await.unwrap();
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
    }
    assert_eq!(backends[0].counts().requests.load(Ordering::Relaxed), 0, "no node has seen them");
}
