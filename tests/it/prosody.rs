//! Two real Prosody servers as shards behind the real binary: people over WebSockets and BOSH meet in their rooms, however
//! they spell them, keep their streams when the edge restarts, and meet again when a shard dies.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::kit::process::Roomgate;
use crate::kit::prosody::Prosody;
use crate::kit::{browser, within};

const DOMAIN: &str = "meet.test";
/// The script and its people, on a machine that does other things too.
const LIMIT: Duration = Duration::from_secs(150);

/// Two seconds are asked for.
const DEAD_KNOWN: Duration = Duration::from_secs(6);

/// One line of JSON in each direction.
struct Control {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Control {
    async fn told(&mut self, what: &str) -> Value {
        let line = within(LIMIT, what, self.lines.next_line()).await.unwrap();
        serde_json::from_str(&line.unwrap_or_else(|| panic!("the script ended before: {what}"))).unwrap()
    }

    async fn tell(&mut self, value: &Value) {
        self.write.write_all(format!("{value}\n").as_bytes()).await.unwrap();
    }
}

/// A room, by its key at the edge, its address, and how people spell it: every other one lies below a tenant.
fn room(i: usize) -> Value {
    let names = [format!("Room{i}"), format!("ROOM{i}"), format!("%52oom{i}"), format!("room{i}")];
    if i.is_multiple_of(2) {
        json!({ "key": format!("room{i}"), "jid": format!("room{i}"), "names": names, "tenants": [] })
    } else {
        let (key, jid) = (format!("acme/room{i}"), format!("acme.room{i}"));
        json!({ "key": key, "jid": jid, "names": names, "tenants": ["Acme", "acme", "ACME"] })
    }
}

async fn rooms_survive(rooms: usize) {
    let mut shards = [Prosody::start(DOMAIN).await, Prosody::start(DOMAIN).await];
    let [s1, s2] = shards.each_ref().map(|shard| shard.address().port());
    // The same port after a restart: clients come back to where they were.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap().port();
    let config = format!(
        r#"version: 1
listeners: {{ http: {{ bind: ["127.0.0.1:{port}"] }} }}
sites: {{ "*": {{ app: jitsi, pool: shards }} }}
pools:
  shards:
    nodes:
      s1: {{ host: 127.0.0.1, web: {s1}, prosody: {s1}, jicofo: {s1} }}
      s2: {{ host: 127.0.0.1, web: {s2}, prosody: {s2}, jicofo: {s2} }}
    check: {{ bosh: prosody, every: 3s, timeout: 3s }}
admin: {{ bind: ["127.0.0.1:0"] }}
shutdown: {{ deadline: 3s }}
"#
    );
    let mut roomgate = Roomgate::start_up(&config).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let input = json!({
        "edge": format!("127.0.0.1:{port}"),
        "control": listener.local_addr().unwrap().to_string(),
        "domain": DOMAIN,
        "between": 5,
        "rooms": (0..rooms).map(room).collect::<Vec<_>>(),
    });
    let mut script = Box::pin(browser::run("prosody.mjs", &input, LIMIT));
    let steps = async {
        let (stream, _) = within(LIMIT, "the script connects", listener.accept()).await.unwrap();
        let (read, write) = stream.into_split();
        let mut control = Control { lines: BufReader::new(read).lines(), write };
        let people = rooms * 4;
        let met = control.told("everybody sees all of their room").await;
        assert_eq!(met, json!({ "met": people }));
        let before = roomgate.room_nodes().await;
        assert_eq!(before.len(), rooms, "one room for all its spellings: {before:?}");
        for shard in ["s1", "s2"] {
            assert!(before.values().any(|node| node == shard), "{shard} has rooms: {before:?}");
        }

        roomgate.restart().await;
        control.tell(&json!("restarted")).await;
        let on = control.told("streams go on").await;
        let expected = json!({ "resumed": people / 2, "fresh": [], "left": 0, "whole": people });
        assert_eq!(on, expected, "half have managed streams, and nobody leaves");
        assert_eq!(roomgate.room_nodes().await, before, "the same shards");

        let moved: Vec<&String> =
            before.iter().filter(|(_, node)| *node == "s1").map(|(key, _)| key).collect();
        shards[0].kill();
        let killed = Instant::now();
        roomgate.nodes_are(|states| states["s1"] == "down").await;
        let took = killed.elapsed();
        eprintln!("prosody: {rooms} rooms, {people} people; the dead shard was known after {took:?}");
        // Its clients find out, long before the next check.
        assert!(took < DEAD_KNOWN, "{took:?}");
        control.tell(&json!({ "rooms": moved })).await;
        let again = control.told("rooms meet again").await;
        assert_eq!(again, json!({ "moved": moved.len() * 4, "whole": people, "disturbed": [] }));
        let after = roomgate.room_nodes().await;
        assert!(after.values().all(|node| node == "s2"), "{after:?}");
        assert_eq!(after.len(), rooms, "{after:?}");
        control.tell(&json!("end")).await;
    };
    tokio::select! {
        end = &mut script => panic!("the script ended early: {end}"),
        () = steps => {}
    }
    assert_eq!(script.await, json!({ "people": rooms * 4 }));
}

#[tokio::test]
async fn people_of_forty_rooms_keep_together() {
    rooms_survive(40).await;
}
