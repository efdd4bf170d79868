//! Limits of connections, requests, new rooms and WebSockets, and who may ask at all: over real sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::kit::backends::Backend;
use crate::kit::client::{Answer, Client, refusal};
use crate::kit::config::{API, JITSI, Shards};
use crate::kit::process::Roomgate;
use crate::kit::{SOON, until, within};

const LIMITED: &str = "roomgate_edge_limited_total";
const REFUSED: &str = "roomgate_edge_connections_refused_total";

/// A Roomgate with a node, with `top` at the top level and `jitsi` in the site of that preset.
async fn start(top: &str, jitsi: &str) -> (Roomgate, Client, Vec<Backend>) {
    let backends = Backend::start_many(1).await;
    let text = Shards::of(&backends).with(top).text();
    let site = "app: jitsi, pool: shards";
    assert!(text.contains(site));
    let roomgate = Roomgate::start_up(&text.replace(site, &format!("{site}, {jitsi}"))).await;
    let client = Client::of(roomgate.https());
    (roomgate, client, backends)
}

async fn limited(roomgate: &Roomgate, limit: &str, action: &str) -> f64 {
    let labels = [&*format!("limit=\"{limit}\""), &*format!("action=\"{action}\"")];
    roomgate.metrics().await.sum(LIMITED, &labels)
}

/// An open connection on which nothing has been sent, or none if it was closed.
async fn connect(roomgate: &Roomgate) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(roomgate.listener("http")).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {JITSI}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = [0; 12];
    match within(SOON, "an answer or the end", stream.read_exact(&mut answer)).await {
        Ok(_) => Some(stream),
        Err(_) => None,
    }
}

#[tokio::test]
async fn a_client_beyond_its_connections_is_closed_and_comes_back_when_one_has_ended() {
    let (roomgate, _, _backends) = start("limits: { connections: { per_ip: 3 } }\n", "").await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(connect(&roomgate).await.expect("within the limit"));
    }
    assert!(connect(&roomgate).await.is_none(), "closed at once");
    assert_eq!(limited(&roomgate, "connections_per_ip", "refused").await, 1.0);
    assert_eq!(roomgate.metrics().await.sum(REFUSED, &["per_ip"]), 1.0);
    open.pop();
    until(SOON, "room for one more", || async { connect(&roomgate).await.ok_or("refused") }).await;
    drop(open);
}

#[tokio::test]
async fn exempt_networks_and_a_dry_run_are_let_in_and_all_together_are_bounded() {
    let exempt = "limits: { connections: { per_ip: 1 }, exempt: [127.0.0.0/8] }\n";
    let dry_run = "limits: { connections: { per_ip: 1 }, dry_run: true }\n";
    for (config, counted) in [(exempt, 0.0), (dry_run, 2.0)] {
        let (roomgate, _, _backends) = start(config, "").await;
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(connect(&roomgate).await.expect("let in"));
        }
        assert_eq!(limited(&roomgate, "connections_per_ip", "dry_run").await, counted, "{config}");
        assert_eq!(limited(&roomgate, "connections_per_ip", "refused").await, 0.0);
    }
    let (roomgate, _, _backends) = start("limits: { connections: { total: 2 } }\n", "").await;
    let _open = (connect(&roomgate).await.unwrap(), connect(&roomgate).await.unwrap());
    assert!(connect(&roomgate).await.is_none());
    assert_eq!(roomgate.metrics().await.sum(REFUSED, &["full"]), 1.0);
}

/// Asks until it is refused; returns how many were not, and the refusal.
async fn ask(client: &Client, host: &str, path: impl Fn(usize) -> String) -> (usize, Answer) {
    let mut h2 = client.h2(host).await.unwrap();
    for n in 0..100 {
        let answer = h2.get(&path(n)).await.unwrap();
        if answer.status != 200 {
            return (n, answer);
        }
    }
    panic!("a hundred requests and no refusal");
}

#[tokio::test]
async fn requests_beyond_the_rate_are_told_when_to_come_again() {
    for (limits, status, passed, limit) in [
        ("requests: { per_ip: \"6/m\", burst: 5 }", 429, 5, "requests_per_ip"),
        ("requests: { per_room: \"6/m\", room_burst: 4 }", 429, 4, "requests_per_room"),
        ("requests: { total: \"6/m\", total_burst: 3 }", 503, 3, "requests_total"),
    ] {
        let (roomgate, client, _backends) = start("", &format!("limits: {{ {limits} }}")).await;
        let (count, refused) = ask(&client, JITSI, |_| "/one-room".to_owned()).await;
        assert_eq!((count, refused.status.as_u16()), (passed, status), "{limits}");
        let retry: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=10).contains(&retry), "{limits}: {retry}");
        assert_eq!(limited(&roomgate, limit, "refused").await, 1.0);
        // Another site has its own limits, here none.
        assert_eq!(client.get(API, "/one-room").await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_route_has_rates_of_its_own_and_the_file_changes_the_presets() {
    for (more, least, most) in [
        // The preset's: a hundred at once, then five a second.
        ("", 100, 140),
        ("routes: [ { name: conference-request, limits: { requests: { burst: 7 } } } ]", 7, 30),
    ] {
        let (roomgate, client, _backends) = start("", more).await;
        let mut h2 = client.h2(JITSI).await.unwrap();
        let mut passed = 0;
        let refused = loop {
            let answer = h2.get("/conference-request/v1?room=a").await.unwrap();
            if answer.status != 200 {
                break answer;
            }
            passed += 1;
            assert!(passed <= most, "{more}: no refusal");
        };
        assert!(passed >= least, "{more}: {passed}");
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"), "{more}");
        // Other routes, and what counts for all, are as they were.
        assert_eq!(h2.get("/http-bind?room=a").await.unwrap().status, 200);
        assert_eq!(limited(&roomgate, "requests_per_ip", "refused").await, 1.0);
    }
}

#[tokio::test]
async fn what_a_route_refuses_costs_the_site_nothing() {
    let limits = "limits: { requests: { total: \"6/m\", total_burst: 8 } }, \
                  routes: [ { name: conference-request, limits: { requests: { per_ip: \"6/m\", burst: 2 } } } ]";
    let (_roomgate, client, _backends) = start("", limits).await;
    let mut h2 = client.h2(JITSI).await.unwrap();
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(h2.get("/conference-request/v1?room=a").await.unwrap().status.as_u16());
    }
    assert_eq!(statuses[..2], [200, 200]);
    assert!(statuses[2..].iter().filter(|status| **status == 429).count() >= 9, "{statuses:?}");
    assert_eq!(h2.get("/http-bind?room=a").await.unwrap().status, 200, "the site's total is not used up");
}

#[tokio::test]
async fn a_routes_total_its_exempt_networks_and_its_dry_run() {
    for (limits, least, refused, would) in [
        ("requests: { total: \"6/m\", total_burst: 3 }", 3, "requests_total", None),
        ("requests: { per_ip: \"6/m\", burst: 3 }, exempt: [127.0.0.0/8]", 20, "", None),
        ("requests: { per_ip: \"6/m\", burst: 3 }, dry_run: true", 20, "", Some("requests_per_ip")),
    ] {
        let route = format!("routes: [ {{ name: conference-request, limits: {{ {limits} }} }} ]");
        let (roomgate, client, _backends) = start("", &route).await;
        let mut h2 = client.h2(JITSI).await.unwrap();
        let mut passed = 0;
        for _ in 0..20 {
            let answer = h2.get("/conference-request/v1?room=a").await.unwrap();
            if answer.status != 200 {
                assert_eq!(answer.status, 503, "a total is nobody's own fault");
                break;
            }
            passed += 1;
        }
        assert_eq!(passed, least, "{limits}");
        let counted = roomgate.metrics().await.sum(LIMITED, &["action=\"refused\""]);
        assert_eq!(counted, if refused.is_empty() { 0.0 } else { 1.0 }, "{limits}");
        if !refused.is_empty() {
            assert_eq!(limited(&roomgate, refused, "refused").await, 1.0, "{limits}");
        }
        if let Some(would) = would {
            assert_eq!(limited(&roomgate, would, "dry_run").await, 17.0, "{limits}");
        }
    }
}

#[tokio::test]
async fn known_rooms_stay_reachable_when_new_ones_are_refused() {
    let limits = "limits: { new_rooms: { per_ip: \"1/h\", burst: 3 } }";
    let (roomgate, client, _backends) = start("", limits).await;
    let (count, refused) = ask(&client, JITSI, |n| format!("/http-bind?room=room-{n}")).await;
    assert_eq!((count, refused.status.as_u16()), (3, 429));
    for _ in 0..10 {
        assert_eq!(client.get(JITSI, "/http-bind?room=room-0").await.unwrap().status, 200);
    }
    assert_eq!(limited(&roomgate, "new_rooms_per_ip", "refused").await, 1.0);
    assert_eq!(
        roomgate.metrics().await.sum("roomgate_rooms_placed", &[]),
        3.0,
        "a refused room has no place"
    );
}

#[tokio::test]
async fn a_room_has_so_many_websockets_and_another_room_its_own() {
    let (roomgate, client, _backends) = start("", "limits: { connections: { per_room: 2 } }").await;
    let open = |room: &str| {
        let path = format!("/xmpp-websocket?room={room}");
        let client = client.clone();
        async move { client.websocket(JITSI, &path).await }
    };
    let first = open("a").await.unwrap();
    let _second = open("A").await.unwrap();
    let third = open("a").await.map(drop).unwrap_err();
    assert_eq!(refusal(&third).map(|status| status.as_u16()), Some(503));
    let _other = open("b").await.unwrap();
    drop(first);
    until(SOON, "room for one more", || async { open("a").await.map_err(|e| e.to_string()) }).await;
    assert!(limited(&roomgate, "connections_per_room", "refused").await >= 1.0);
}

#[tokio::test]
async fn networks_are_denied_and_allowed_and_a_reload_changes_it() {
    let (roomgate, client, _backends) = start("", "deny: [127.0.0.0/8]").await;
    let mut connection = client.h1(JITSI).await.unwrap();
    assert_eq!(connection.get("/a").await.unwrap().status, 403);
    assert_eq!(client.get(API, "/a").await.unwrap().status, 200, "of that site only");
    assert!(limited(&roomgate, "denied", "refused").await >= 1.0);
    let text = std::fs::read_to_string(roomgate.file()).unwrap();
    for (rule, status) in [("allow: [10.0.0.0/8]", 403), ("allow: [10.0.0.0/8, 127.0.0.1]", 200)] {
        std::fs::write(roomgate.file(), text.replace("deny: [127.0.0.0/8]", rule)).unwrap();
        assert_eq!(roomgate.reload().await.status, 200);
        let answer = client.get(JITSI, "/a").await.unwrap();
        assert_eq!(answer.status, status, "{rule}");
    }
}

#[tokio::test]
async fn a_flood_of_one_client_is_refused_while_the_node_sees_the_rate() {
    let limits = "limits: { requests: { per_ip: \"5/s\", burst: 20 } }";
    let (roomgate, client, backends) = start("", limits).await;
    let seen = || backends[0].counts().requests.load(std::sync::atomic::Ordering::Relaxed);
    let began = std::time::Instant::now();
    let mut h2 = client.h2(JITSI).await.unwrap();
    let mut refused = 0;
    for _ in 0..500 {
        let answer = h2.get("/a").await.unwrap();
        refused += usize::from(answer.status == 429);
    }
    let most = 20.0 + 5.0 * began.elapsed().as_secs_f64() + 1.0;
    assert!(seen() as f64 <= most, "{} of 500 within {:?}", seen(), began.elapsed());
    assert!(seen() >= 20 && refused >= 100, "{} reached the node, {refused} were refused", seen());
    assert_eq!(limited(&roomgate, "requests_per_ip", "refused").await, refused as f64);
}
