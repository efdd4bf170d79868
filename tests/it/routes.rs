//! Sites, routes, templates, headers, bodies: a row per rule, over sockets.

use roomgate::clock;
use roomgate::rooms::{RoomId, RoomKey};

use crate::kit::edge_rig::{Rig, TestNode, read_answer, settings_from, soon, websocket};
use tokio::io::AsyncWriteExt;

const FILE: &str = r#"
version: 1
listeners: { http: { bind: ["127.0.0.1:0"] } }
sites:
  a.test:
    pool: one
    room: [ { query: room } ]
    body: 1KiB
    request_headers: { set: { X-Site: "{host}" } }
    response_headers: { remove: [X-Node], default: { X-Served-By: "{node}" } }
    routes:
      - { name: exact, path: /exact, respond: { status: 201, body: "{host} {route} {path}" } }
      - { name: page, path: /page, respond: { body: "<p>{query}", content_type: text/html } }
      - { name: move, prefix: /old/, redirect: "{scheme}://{host}/new{path}?{query}", status: 302 }
      - { name: post, prefix: /two/, methods: [POST], pool: two, body: unlimited }
      - name: tenant
        regex: "^/(?P<tenant>[^/]+)/bind$"
        rewrite: "/bind?prefix={tenant}&{query}"
        request_headers: { set: { X-Tenant: "{tenant}", X-Room: "{room}" }, add: { X-Site: again }, remove: [X-Gone] }
        response_headers: { set: { X-Served-By: "{route}" }, add: { X-Route: "{route}" } }
      - { name: shard, regex: "^/ws/(?P<shard>[a-z0-9]+)", pool: two, node: "{shard}", place: never }
      - { name: sign, path: /sign, respond: { body: "{node}", as_node: true }, prefer: { node: ["{arg_at}"] } }
      - { name: known, path: /known, place: known }
      - { name: never, path: /never, place: never }
  "*.b.test": { pool: two }
pools:
  one: { nodes: NODES }
  two: { nodes: { n2: "http://TWO", dead: "http://127.0.0.1:1" } }
admin: { bind: [] }
"#;

struct House {
    rig: Rig,
    one: TestNode,
    two: TestNode,
}

impl House {
    async fn new() -> Self {
        let (one, two) = (TestNode::start("n1").await, TestNode::start("n2").await);
        let settings = settings_from(&FILE.replace("TWO", &two.addr.to_string()), &[&one]);
        Self { rig: Rig::start_with(settings, |_, _| None), one, two }
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = self.rig.plain().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = read_answer(&mut stream).await;
        head + &String::from_utf8_lossy(&body)
    }

    async fn get(&self, host: &str, target: &str) -> String {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nX-Gone: x\r\n\r\n")).await
    }
}

#[tokio::test]
async fn routes_answer_or_choose_the_pool() {
    let house = House::new().await;
    for (host, target, status, part) in [
        ("a.test", "/exact", "201 Created", "a.test exact /exact"),
        ("a.test:80", "/./x/../%65xact", "201 Created", "a.test exact /./x/../%65xact"),
        ("a.test", "/page?a&b", "200 OK", "<p>a&amp;b"),
        ("a.test", "/old/x?y=1", "302 Found", "location: http://a.test/new/old/x?y=1"),
        ("a.test", "/two/x", "200 OK", "n1"),
        ("a.test", "/exactly", "200 OK", "n1"),
        ("a.test", "/../x", "400 Bad Request", "leaves its root"),
        ("x.b.test", "/exact", "200 OK", "n2"),
        ("x.y.b.test", "/", "200 OK", "n2"),
        ("b.test", "/", "421 Misdirected Request", "no such host"),
    ] {
        let answer = house.get(host, target).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{host}{target}: {answer}");
        assert!(answer.to_lowercase().contains(&part.to_lowercase()), "{host}{target}: {answer}");
    }
    let post =
        "POST /two/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2000\r\n\r\n".to_owned() + &"x".repeat(2000);
    assert!(house.ask(&post).await.ends_with("n2"), "the body of this route is unlimited");
    house.rig.end().await;
}

#[tokio::test]
async fn headers_and_paths_are_changed_towards_nodes_and_clients() {
    let house = House::new().await;
    let answer = house.get("a.test", "/caf%C3%A9%20x/bind?room=R%C3%89&a=1").await.to_lowercase();
    assert!(answer.contains("\r\nx-route: tenant\r\n"), "{answer}");
    assert!(answer.contains("\r\nx-served-by: tenant\r\n") && !answer.contains("x-node"), "{answer}");
    let seen = house.one.seen().pop().unwrap();
    assert!(seen.starts_with("GET /bind?prefix=caf%C3%A9%20x&room=R%C3%89&a=1 HTTP/1.1\r\n"), "{seen}");
    let lower = seen.to_lowercase();
    for line in ["x-tenant: caf%c3%a9 x", "x-room: r%c3%a9", "x-site: a.test", "x-site: again"] {
        assert!(lower.contains(&format!("\r\n{line}\r\n")), "{line}: {seen}");
    }
    assert!(!lower.contains("x-gone"), "{seen}");
    let answer = house.get("a.test", "/").await.to_lowercase();
    assert!(answer.contains("\r\nx-served-by: n1\r\n"), "{answer}");
    // Also on a WebSocket, both ways.
    let stream = house.rig.plain().await;
    let (_, response) =
        soon("a WebSocket", tokio_tungstenite::client_async("ws://a.test/ws?room=r", stream)).await.unwrap();
    assert_eq!(response.headers()["x-served-by"], "n1");
    assert!(house.one.seen().pop().unwrap().to_lowercase().contains("x-site: a.test"));
    house.rig.end().await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_and_the_node_does_not_get_it() {
    let house = House::new().await;
    let (small, large) = ("x".repeat(1024), "x".repeat(1025));
    let length = |body: &str| {
        format!("POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    assert!(house.ask(&length(&small)).await.ends_with(&small));
    assert!(house.ask(&length(&large)).await.starts_with("HTTP/1.1 413 "));
    let chunked = |body: &str| {
        format!(
            "POST /echo HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )
    };
    assert!(house.ask(&chunked(&small)).await.ends_with(&small));
    assert!(house.ask(&chunked(&large)).await.starts_with("HTTP/1.1 413 "));
    assert_eq!(house.one.seen().len(), 2, "only whole requests within the limit");
    house.rig.end().await;
}

#[tokio::test]
async fn a_named_node_is_reached_and_no_other_is_dialled() {
    let house = House::new().await;
    assert!(house.get("a.test", "/ws/n3").await.starts_with("HTTP/1.1 404 "));
    assert!(house.get("a.test", "/x/..%2fw%73/n3").await.starts_with("HTTP/1.1 404 "), "cleaned to /ws/n3");
    assert_eq!(house.two.connections(), 0);
    let mut socket = websocket(house.rig.plain().await, "ws://a.test/ws/n2").await;
    use futures_util::{SinkExt, StreamExt};
    socket.send("who".into()).await.unwrap();
    let name = soon("its name", socket.next()).await.unwrap().unwrap();
    assert_eq!(name.into_text().unwrap().as_str(), "n2");
    drop(socket);
    // One that is down is no reason to go elsewhere.
    assert!(house.get("a.test", "/ws/dead").await.starts_with("HTTP/1.1 50"));
    house.rig.end().await;
}

#[tokio::test]
async fn only_routes_that_say_so_give_rooms_a_place() {
    let house = House::new().await;
    let id = RoomId { pool: "one".into(), scope: "a.test".into(), key: RoomKey::new("r").unwrap() };
    for target in ["/known?room=r", "/never?room=r", "/exact?room=r"] {
        house.get("a.test", target).await;
        assert!(house.rig.rooms.is_empty(), "{target}");
    }
    house.get("a.test", "/any?room=r").await;
    assert_eq!(
        house.rig.rooms.find(&id, Some(clock::now())).map(|node| node.name.to_string()),
        Some("n1".to_owned())
    );
    assert!(house.get("a.test", "/known?room=R").await.ends_with("n1"));
    assert_eq!(house.rig.rooms.len(), 1);
    let answer = house.get("a.test", "/sign?room=new&at=n1").await;
    assert!(answer.ends_with("n1") && answer.to_lowercase().contains("x-served-by: n1"), "{answer}");
    assert_eq!((house.rig.rooms.len(), house.one.seen().len()), (2, 4), "answered here, in the node's name");
    house.rig.end().await;
}

#[tokio::test]
async fn pages_of_other_origins_are_told_by_the_edge_what_they_may() {
    let node = TestNode::start("a").await;
    let text = format!(
        "version: 1\nlisteners: {{ http: {{ bind: [\"127.0.0.1:0\"] }} }}\nsites:\n  plain.test:\n    pool: p\n    routes:\n      \
         - {{ prefix: /api/, pool: p, cors: {{ origins: [\"https://app.test\"], headers: [Authorization], credentials: true }} }}\n\
         pools: {{ p: {{ nodes: {{ a: \"http://{}\" }} }} }}\nadmin: {{ bind: [] }}\n",
        node.addr
    );
    let rig = Rig::start_with(settings_from(&text, &[]), |_, _| None);
    let ask = async |request: &str| {
        let mut stream = rig.plain().await;
        stream.write_all(format!("{request}\r\nHost: plain.test\r\n\r\n").as_bytes()).await.unwrap();
        soon(request, read_answer(&mut stream)).await.0.to_lowercase()
    };
    let preflight = "Access-Control-Request-Method: POST";
    let answer = ask(&format!("OPTIONS /api/x HTTP/1.1\r\nOrigin: https://app.test\r\n{preflight}")).await;
    for line in [
        "http/1.1 204 ",
        "access-control-allow-origin: https://app.test\r\n",
        "access-control-allow-credentials: true\r\n",
        "access-control-allow-methods: get, head, post\r\n",
        "access-control-allow-headers: authorization\r\n",
        "access-control-max-age: 600\r\n",
        "vary: origin\r\n",
    ] {
        assert!(answer.contains(line), "{line}: {answer}");
    }
    let answer = ask(&format!("OPTIONS /api/x HTTP/1.1\r\nOrigin: https://evil.test\r\n{preflight}")).await;
    assert!(answer.starts_with("http/1.1 204 ") && !answer.contains("access-control"), "{answer}");
    assert!(node.seen().is_empty(), "no node was asked");
    let answer = ask("GET /api/x HTTP/1.1\r\nOrigin: https://app.test").await;
    assert!(answer.contains("access-control-allow-origin: https://app.test\r\n"), "{answer}");
    assert!(!answer.contains("access-control-allow-methods"), "{answer}");
    // What is no preflight goes on, and other routes are the node's own affair.
    assert!(ask("OPTIONS /api/x HTTP/1.1\r\nOrigin: https://app.test").await.starts_with("http/1.1 200 "));
    let answer = ask(&format!("OPTIONS /other HTTP/1.1\r\nOrigin: https://app.test\r\n{preflight}")).await;
    assert!(answer.starts_with("http/1.1 200 ") && !answer.contains("access-control"), "{answer}");
    assert_eq!(node.seen().len(), 3);
    rig.end().await;
}
