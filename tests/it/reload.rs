//! Reloads: the whole new configuration or nothing, and no stream notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustix::process::Signal;
use tokio_tungstenite::tungstenite::Message;

use crate::kit::backends::Backend;
use crate::kit::client::{Client, WebSocket};
use crate::kit::config::{JITSI, Shards};
use crate::kit::process::{Roomgate, command};
use crate::kit::rooms::RoomChecker;
use crate::kit::{SOON, until, within};

const RELOADS: usize = 200;
const SOCKETS: usize = 500;
const ROOMS: usize = 100;

/// A site whose pool is another one in each round: the old one goes, the new one comes.
const MOVING: &str = "moving.example.com";
/// A site whose pool's only node has another address in each round.
const TURNING: &str = "turning.example.com";

/// The configuration of one round: every tenth is broken, the others change what may change. Rooms live on the first
/// three backends; the others are for what comes, goes and turns.
fn round(number: usize, backends: &[Backend]) -> (String, bool) {
    let text = Shards::of(&backends[..3]).text();
    if number % 10 == 9 {
        let (_, broken) = BROKEN[number / 10 % BROKEN.len()];
        return (broken.replace('§', ""), false);
    }
    let odd = number % 2;
    // A file of two certificates in turn, and now and then none.
    let text = match number % 5 {
        4 => text,
        _ => text.replace(
            "tls: self-signed",
            &format!("tls: {{ certificates: [ {{ cert: cert{odd}.pem, key: key{odd}.pem }} ] }}"),
        ),
    };
    let sites = format!(
        "  extra-{number}.example.com: {{ app: jitsi, pool: shards }}\n  {MOVING}: {{ pool: moving{odd}, room: [ {{ query: room }} ] }}\n  \
         {TURNING}: {{ pool: turning }}\n"
    );
    let check = "check: { http: /about/health, every: 30s, timeout: 10s, rise: 1, fall: 3 }";
    let pools = format!(
        "  moving{odd}: {{ nodes: {{ only: \"{}\" }}, {check} }}\n  turning: {{ nodes: {{ only: \"{}\" }}, {check} }}\n",
        backends[3 + odd].url(),
        backends[4 - odd].url()
    );
    let text = text.replace("pools:\n", &format!("{sites}pools:\n{pools}"));
    // A node without rooms comes, has another address, and goes.
    let text = match number % 3 {
        0 => text,
        turn => {
            text.replace("nodes: { s1:", &format!("nodes: {{ spare: \"{}\", s1:", backends[2 + turn].url()))
        }
    };
    // A node's weight, a check's pace, a linger: none of them may move a room that lives.
    let s1 = format!("s1: {{ url: \"{}\", weight: {} }}", backends[0].url(), 10 + number % 90);
    let text = text.replace(&format!("s1: \"{}\"", backends[0].url()), &s1);
    let text = text.replace("every: 1s", &format!("every: {}ms", 1000 + number));
    (text.replace("linger: 5m", &format!("linger: {}s", 300 + number)), true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_reloads_close_nothing_fail_nothing_and_move_nothing() {
    let backends = Backend::start_many(5).await;
    let roomgate = Roomgate::start_up(&Shards::of(&backends[..3]).text()).await;
    for number in 0..2 {
        let made = rcgen::generate_simple_self_signed(vec![JITSI.to_owned()]).unwrap();
        let file = |name: &str| roomgate.folder().join(format!("{name}{number}.pem"));
        std::fs::write(file("cert"), made.cert.pem()).unwrap();
        std::fs::write(file("key"), made.signing_key.serialize_pem()).unwrap();
    }
    std::fs::write(roomgate.file(), round(0, &backends).0).unwrap();
    let answer = roomgate.reload().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let client = Client::of(roomgate.https());
    let mut checker = RoomChecker::new();
    let mut sockets = Vec::new();
    for number in 0..SOCKETS {
        let room = format!("room{}", number % ROOMS);
        let path = format!("/xmpp-websocket?room={room}");
        let mut socket = within(SOON, "a WebSocket", client.websocket(JITSI, &path)).await.unwrap();
        let node =
            within(SOON, "its node's name", socket.next()).await.unwrap().unwrap().into_text().unwrap();
        checker.saw(&room, node.as_str());
        sockets.push((room, socket));
    }
    checker.assert_no_splits();

    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicUsize::new(0));
    let mut streams = Vec::new();
    for lane in 0..4 {
        let (client, stop, sent) = (client.clone(), stop.clone(), sent.clone());
        streams.push(tokio::spawn(async move {
            let mut connection =
                if lane % 2 == 0 { client.h1(JITSI).await } else { client.h2(JITSI).await }.unwrap();
            let mut seen = Vec::new();
            let mut failed = Vec::new();
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let room = format!("room{}", (number * 4 + lane) % ROOMS);
                match within(SOON, "an answer", connection.get(&format!("/{room}"))).await {
                    Ok(answer) if answer.status == 200 => {
                        let node = answer.json()["node"].as_str().unwrap().to_owned();
                        if seen.len() < 10_000 {
                            seen.push((room, node));
                        }
                    }
                    Ok(answer) => failed.push(format!("{room}: {} {}", answer.status, answer.text())),
                    Err(fault) => {
                        failed.push(format!("{room}: {fault}"));
                        break;
                    }
                }
                sent.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (seen, failed)
        }));
    }

    // A connection for each request: each handshake takes the certificate of its moment.
    let mut others = Vec::new();
    for (host, path) in [(MOVING, "/?room=a"), (MOVING, "/"), (TURNING, "/")] {
        let (client, stop, sent) = (client.clone(), stop.clone(), sent.clone());
        others.push(tokio::spawn(async move {
            let mut failed = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                match within(SOON, "an answer", client.get(host, path)).await {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => failed.push(format!("{host}: {} {}", answer.status, answer.text())),
                    Err(fault) => failed.push(format!("{host}: {fault}")),
                }
                sent.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            failed
        }));
    }

    let (mut applied, mut rejected) = (0, 0);
    for number in 0..RELOADS {
        let (text, good) = round(number, &backends);
        std::fs::write(roomgate.file(), text).unwrap();
        let answer = roomgate.reload().await;
        if good {
            assert_eq!(answer.status, 200, "reload {number}: {}", answer.text());
            applied += 1;
        } else {
            assert!(answer.status.is_client_error(), "reload {number}: {} {}", answer.status, answer.text());
            assert!(answer.text().contains("roomgate.yaml:"), "it says where: {}", answer.text());
            rejected += 1;
        }
        // Requests went on while it was applied.
        let goal = sent.load(Ordering::Relaxed) + 4;
        until(SOON, "requests go on", || async {
            let sent = sent.load(Ordering::Relaxed);
            if sent >= goal { Ok(()) } else { Err(sent) }
        })
        .await;
        if number % 20 == 0 {
            let (room, socket) = &mut sockets[number * 7 % SOCKETS];
            assert!(echoes(socket).await, "{room} after reload {number}");
        }
    }
    assert_eq!((applied, rejected), (RELOADS / 10 * 9, RELOADS / 10));

    stop.store(true, Ordering::Relaxed);
    let mut failed = Vec::new();
    for stream in streams {
        let (seen, faults) = stream.await.unwrap();
        seen.iter().for_each(|(room, node)| checker.saw(room, node));
        failed.extend(faults);
    }
    for other in others {
        failed.extend(other.await.unwrap());
    }
    assert!(
        failed.is_empty(),
        "{} of {} requests failed: {:?}",
        failed.len(),
        sent.load(Ordering::Relaxed),
        &failed[..1]
    );
    let mut closed = Vec::new();
    for (room, socket) in &mut sockets {
        if !echoes(socket).await {
            closed.push(room.clone());
        }
    }
    assert!(closed.is_empty(), "{} of {SOCKETS} WebSockets were closed: {closed:?}", closed.len());
    checker.assert_no_splits();
    let metrics = roomgate.metrics().await;
    // The watch of the file may see some of the same changes once more; nothing else counts.
    assert!(metrics.sum("roomgate_config_reloads_total", &["rejected"]) >= 20.0);
    assert!(metrics.sum("roomgate_config_reloads_total", &["applied"]) >= 100.0);
    eprintln!(
        "{RELOADS} reloads, {SOCKETS} WebSockets open, {} requests, {} rooms: 0 closed, 0 failed, 0 moved",
        sent.load(Ordering::Relaxed),
        checker.rooms()
    );
}

async fn echoes(socket: &mut WebSocket) -> bool {
    let sent = Message::text("still there?");
    if socket.send(sent.clone()).await.is_err() {
        return false;
    }
    matches!(within(SOON, "an echo", socket.next()).await, Some(Ok(message)) if message == sent)
}

#[tokio::test]
async fn a_new_site_is_served_after_a_signal_an_edit_a_rename_and_a_symlink_swap() {
    let backends = Backend::start_many(1).await;
    let base = Shards::of(&backends).text();
    let roomgate = Roomgate::start_up(&base).await;
    let client = Client::of(roomgate.https());
    let with =
        |name: &str| base.replace("pools:\n", &format!("  {name}: {{ app: jitsi, pool: shards }}\npools:\n"));
    let served = |name: &'static str| {
        let client = client.clone();
        async move {
            until(SOON, &format!("{name} is served"), || async {
                let answer = client.get(name, "/room").await.map_err(|fault| fault.to_string())?;
                if answer.status == 200 { Ok(()) } else { Err(answer.status.to_string()) }
            })
            .await;
        }
    };
    let unknown = client.get("edit.example.com", "/room").await.unwrap();
    assert!(unknown.status.is_client_error(), "a site that is not there: {}", unknown.status);

    std::fs::write(roomgate.file(), with("edit.example.com")).unwrap();
    served("edit.example.com").await;

    let other = roomgate.folder().join("new.yaml");
    std::fs::write(&other, with("rename.example.com")).unwrap();
    std::fs::rename(&other, roomgate.file()).unwrap();
    served("rename.example.com").await;

    // As a Kubernetes ConfigMap does it: the file is a link into a folder that is swapped.
    let target = roomgate.folder().join("swapped.yaml");
    std::fs::write(&target, with("swap.example.com")).unwrap();
    let link = roomgate.folder().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    std::fs::rename(&link, roomgate.file()).unwrap();
    served("swap.example.com").await;

    std::fs::write(&target, with("signal.example.com")).unwrap();
    roomgate.signal(Signal::HUP);
    served("signal.example.com").await;

    // A fault leaves everything as it is, and is said.
    let (_, broken) = BROKEN[0];
    std::fs::write(&target, broken.replace('§', "")).unwrap();
    roomgate.signal(Signal::HUP);
    until(SOON, "the fault is counted", || async {
        let metrics = roomgate.metrics().await;
        let ok = metrics.sum("roomgate_config_last_reload_success", &[]);
        if ok == 0.0 { Ok(()) } else { Err(ok) }
    })
    .await;
    served("signal.example.com").await;
    until(SOON, "the log says where", || async {
        roomgate.log().iter().any(|line| line.contains("yaml:")).then_some(()).ok_or("not")
    })
    .await;
}

#[tokio::test]
async fn what_needs_a_restart_is_named() {
    let backends = Backend::start_many(1).await;
    let base = Shards::of(&backends).text();
    let roomgate = Roomgate::start(&base).await;
    std::fs::write(roomgate.file(), base.clone() + "rooms: { max: 1000 }\n").unwrap();
    let answer = roomgate.reload().await;
    assert!(answer.text().contains("rooms.max"), "{} {}", answer.status, answer.text());
}

/// A whole configuration around one line, so that each fault stands alone.
macro_rules! broken {
    (site: $site:literal) => {
        concat!("version: 1\nlisteners: { l: { bind: [\"127.0.0.1:0\"] } }\nsites:\n", $site,
                "\npools: { p: { nodes: { a: \"http://127.0.0.1:9001\" } } }\n")
    };
    (pool: $pool:literal) => {
        concat!("version: 1\nlisteners: { l: { bind: [\"127.0.0.1:0\"] } }\nsites: { s.example: { pool: p } }\npools:\n",
                $pool, "\n")
    };
    (top: $top:literal) => {
        concat!("version: 1\nlisteners: { l: { bind: [\"127.0.0.1:0\"] } }\nsites: { s.example: { pool: p } }\n",
                "pools: { p: { nodes: { a: \"http://127.0.0.1:9001\" } } }\n", $top, "\n")
    };
    (listener: $listener:literal) => {
        concat!("version: 1\nlisteners:\n", $listener, "\nsites: { s.example: { pool: p } }\n",
                "pools: { p: { nodes: { a: \"http://127.0.0.1:9001\" } } }\n")
    };
}

/// Kinds of broken files: what the message must name, and the file with `§` where the fault stands.
const BROKEN: &[(&str, &str)] = &[
    ("pool", broken!(site: "  s.example: { §pol: p }")),
    ("colour", broken!(top: "§colour: red")),
    ("s.example", broken!(site: "  s.example: { pool: p }\n  §s.example: { pool: p }")),
    ("admin", broken!(top: "admin: { bind: [] }\n§admin: { bind: [] }")),
    ("q", broken!(site: "  s.example: { pool: §q }")),
    ("pool", broken!(site: "  §s.example: { app: jitsi }")),
    ("jitzi", broken!(site: "  s.example: { app: §jitzi, pool: p }")),
    (
        "2x",
        broken!(pool: "  p: { nodes: { a: \"http://127.0.0.1:9001\" }, check: { http: /h, every: §2x } }"),
    ),
    (
        "rise",
        broken!(pool: "  p: { nodes: { a: \"http://127.0.0.1:9001\" }, check: { http: /h, rise: §0 } }"),
    ),
    (
        "many",
        broken!(pool: "  p: { nodes: { a: \"http://127.0.0.1:9001\" }, check: { http: /h, rise: §many } }"),
    ),
    ("ftp", broken!(pool: "  p: { nodes: { a: §\"ftp://127.0.0.1:9001\" } }")),
    ("nodes", broken!(pool: "  §p: { sticky: { linger: 5m } }")),
    ("embedded", broken!(pool: "  §p: { nodes: { a: \"http://127.0.0.1:9001\" }, embedded: 2 }")),
    ("nodes", broken!(pool: "  p: { nodes: §[ \"http://127.0.0.1:9001\" ] }")),
    ("70000", broken!(listener: "  l: { bind: [§\"127.0.0.1:70000\"] }")),
    (
        "18443",
        broken!(listener: "  l: { bind: [\"127.0.0.1:18443\"] }\n  m: { bind: [§\"127.0.0.1:18443\"] }"),
    ),
    (
        "cert.pem",
        broken!(listener: "  l: { bind: [\"127.0.0.1:0\"], tls: { certificates: [ { cert: §no/cert.pem, key: no/key.pem } ] } }"),
    ),
    ("jwt", broken!(site: "  s.example: { app: conference, pool: p, auth: { jwt: §plain-text-secret } }")),
    (
        "version",
        "§version: 9\nlisteners: { l: { bind: [\"127.0.0.1:0\"] } }\nsites: { s.example: { pool: p } }\npools: { p: { nodes: { a: \"http://127.0.0.1:9001\" } } }\n",
    ),
    ("etcdd", broken!(top: "store: §etcdd")),
    ("", broken!(top: "admin: { bind: [ §}")),
    ("", broken!(top: "admin:\n\t§bind: []")),
];

#[test]
fn each_kind_of_broken_file_is_told_with_its_place() {
    assert!(BROKEN.len() >= 20);
    let folder = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    for (number, (named, marked)) in BROKEN.iter().enumerate() {
        let before = marked.split('§').next().unwrap();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let name = format!("broken{number}.yaml");
        std::fs::write(folder.path().join(&name), marked.replace('§', "")).unwrap();
        let output = command(&["check", &name], folder.path());
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let place = format!("{name}:{line}:{column}");
        if output.status.code() != Some(2) || !said.contains(&place) || !said.contains(named) {
            faults.push(format!("expected exit 2, {place} and `{named}`; got {}:\n{said}", output.status));
        }
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), BROKEN.len(), faults.join("\n"));
}

#[test]
fn three_faults_of_one_file_are_told_at_once_and_a_good_file_passes() {
    let folder = tempfile::tempdir().unwrap();
    let three = "version: 1\nlisteners:\n  https: { bind: [\"127.0.0.1:0\"], tsl: self-signed }\nsites:\n  s.example: { pool: shard }\npools:\n  shards:\n    nodes: { a: \"http://127.0.0.1:9001\" }\n    check: { http: /health, every: 2 }\n";
    std::fs::write(folder.path().join("three.yaml"), three).unwrap();
    let output = command(&["check", "three.yaml"], folder.path());
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for place in ["three.yaml:3:", "three.yaml:5:", "three.yaml:9:"] {
        assert!(said.contains(place), "{place} in\n{said}");
    }
    for hint in ["tls", "shards"] {
        assert!(said.contains(hint), "did you mean {hint}:\n{said}");
    }
    eprintln!("{said}");
    let good = three
        .replace("tsl", "tls")
        .replace("pool: shard ", "pool: shards ")
        .replace("every: 2 ", "every: 2s ");
    std::fs::write(folder.path().join("good.yaml"), good).unwrap();
    let output = command(&["check", "good.yaml"], folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(command(&["check", "no-such-file.yaml"], folder.path()).status.code(), Some(2));
    assert_eq!(command(&["no-such-command"], folder.path()).status.code(), Some(2));
}
