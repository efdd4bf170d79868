//! Checks that know what stands behind a port: real Prosody, Jicofo's contract, and web servers that answer 200 to all.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use roomgate::config::settings::{
    CheckSettings, HttpNode, PoolNodes, PoolSettings, Probe, ProbeKind, Service,
};
use roomgate::pool::{CheckOutcome, Checker, Node, NodeState, Pools, probe};
use roomgate::tasks::Tasks;
use roomgate::telemetry::metrics::Metrics;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::kit::port::Port;
use crate::kit::prosody::Prosody;
use crate::kit::{SOON, until, within};

const DOMAIN: &str = "meet.test";

/// A web server that gives one answer, whatever it is asked; returns its port.
async fn serve(status: u16, content_type: &'static str, body: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(move |_: Request<Incoming>| async move {
                let response = Response::builder().status(status).header("content-type", content_type);
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap())
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    port
}

const PAGE: (u16, &str, &str) = (200, "text/html", "<!DOCTYPE html><html><title>Jitsi Meet</title></html>");

fn probe_of(kind: ProbeKind, service: &str) -> Probe {
    let path = kind.default_path().into();
    Probe { kind, service: service.into(), path, host: None }
}

fn check_of(probes: Vec<Probe>) -> CheckSettings {
    // Generous: a busy machine is not what is tested here.
    CheckSettings { probes, timeout: SOON, every: SOON, ..CheckSettings::http("/") }
}

/// A node with these services.
fn node(services: &[(&str, u16)]) -> Arc<Node> {
    let services = services.iter().map(|&(name, port)| (name, Service::plain(port)));
    let node = HttpNode::with_services("127.0.0.1", services);
    let nodes = PoolNodes::Http { nodes: BTreeMap::from([("s1".into(), node)]), check: None };
    let pools = Pools::new(Metrics::new().pool);
    let settings = PoolSettings::new("shards", nodes, Duration::from_secs(60));
    pools.apply(&BTreeMap::from([("shards".into(), Arc::new(settings))]));
    Arc::clone(pools.get("shards").unwrap().node("s1").unwrap())
}

async fn ask(services: &[(&str, u16)], probes: Vec<Probe>) -> String {
    let (node, check) = (node(services), check_of(probes));
    let pools = Pools::new(Metrics::new().pool);
    match within(SOON * 2, "the check ends", probe::check(pools.resolver(), &node, &check, false)).await {
        CheckOutcome::Pass => "pass".to_owned(),
        CheckOutcome::Fail(reason) => reason.to_string(),
    }
}

#[tokio::test]
async fn prosody_passes_the_bosh_check_and_a_web_container_does_not() {
    let prosody = Prosody::start(DOMAIN).await;
    let web = serve(PAGE.0, PAGE.1, PAGE.2).await;
    let bosh =
        |host: Option<&str>| Probe { host: host.map(Into::into), ..probe_of(ProbeKind::Bosh, "prosody") };
    let at = prosody.address().port();
    for (port, probe, expected) in [
        (at, bosh(None), "pass"),
        (at, bosh(Some(DOMAIN)), "pass"),
        (web, bosh(None), "a web page, and no BOSH answer"),
        // Prosody has other pages too.
        (at, Probe { path: "/xmpp-websocket".into(), ..bosh(None) }, "status 405"),
        (at, Probe { path: "/elsewhere".into(), ..bosh(None) }, "status 404"),
    ] {
        let found = ask(&[("prosody", port)], vec![probe.clone()]).await;
        if expected == "status 405" {
            assert_ne!(found, "pass", "{probe:?}");
        } else {
            assert_eq!(found, expected, "{probe:?}");
        }
    }
}

#[tokio::test]
async fn the_reason_names_the_probe_that_failed() {
    let jicofo = serve(200, "application/json", "{}").await;
    let sick = serve(500, "application/json", "{}").await;
    let web = serve(PAGE.0, PAGE.1, PAGE.2).await;
    let ejabberd = serve(
        200,
        "text/xml; charset=utf-8",
        "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='improper-addressing'/>",
    )
    .await;
    let kept = Port::free();
    let nobody = kept.address().port();
    let page = ProbeKind::Http { status: Some(200), body: Some("Jitsi Meet".into()) };
    let all = || {
        vec![
            probe_of(page.clone(), "web"),
            probe_of(ProbeKind::Bosh, "prosody"),
            probe_of(ProbeKind::Jicofo, "jicofo"),
        ]
    };
    for (web, prosody, jicofo, expected) in [
        (web, ejabberd, jicofo, "pass"),
        (web, web, jicofo, "bosh: a web page, and no BOSH answer"),
        (web, ejabberd, web, "jicofo: a web page, and not Jicofo's health"),
        (web, ejabberd, sick, "jicofo: status 500"),
        (jicofo, ejabberd, jicofo, "http: the answer does not hold \"Jitsi Meet\""),
        (web, nobody, sick, "bosh: connect refused"),
        (sick, nobody, sick, "http: status 500"),
    ] {
        let found = ask(&[("web", web), ("prosody", prosody), ("jicofo", jicofo)], all()).await;
        assert_eq!(found, expected);
    }
    let alone = ask(&[("prosody", nobody)], vec![probe_of(ProbeKind::Bosh, "prosody")]).await;
    assert_eq!(alone, "connect refused", "one probe needs no name");
    let url = ask(&[("web", ejabberd)], vec![probe_of(ProbeKind::Bosh, "prosody")]).await;
    assert_eq!(url, "pass", "a URL answers for every service");
    let missing = ask(&[("web", web), ("jicofo", jicofo)], vec![probe_of(ProbeKind::Bosh, "prosody")]).await;
    assert_eq!(missing, "the node has no service prosody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_is_down_while_its_prosody_is_and_comes_back_with_it() {
    let mut prosody = Prosody::start(DOMAIN).await;
    let jicofo = serve(200, "application/json", "{}").await;
    let text = format!(
        "version: 1\nlisteners: {{ http: {{ bind: [\"127.0.0.1:0\"] }} }}\nsites: {{ {DOMAIN}: {{ app: jitsi, pool: shards }} }}\n\
         pools:\n  shards:\n    check: {{ bosh: prosody, jicofo: jicofo, every: 300ms, timeout: 300ms }}\n    \
         nodes: {{ s1: {{ host: 127.0.0.1, web: {jicofo}, prosody: {}, jicofo: {jicofo} }} }}\n",
        prosody.address().port()
    );
    let loaded = roomgate::config::load_str("test", &text, std::path::Path::new("."), None);
    let settings = loaded.unwrap_or_else(|faults| panic!("{faults}")).settings;
    let PoolNodes::Http { check: Some(_), .. } = &settings.pools["shards"].nodes else { panic!() };
    let (metrics, tasks) = (Metrics::new(), Tasks::new());
    let pools = Pools::new(metrics.pool.clone());
    pools.apply(&settings.pools);
    Checker::start(pools.clone(), None, Arc::new(|_: &Arc<Node>| {}), &tasks);
    let node = Arc::clone(pools.get("shards").unwrap().node("s1").unwrap());
    let long = SOON * 3;
    let state = async |wanted: NodeState| {
        until(long, "the node's state", || async {
            if node.state() == wanted { Ok(()) } else { Err(node.why()) }
        })
        .await;
    };
    state(NodeState::Up).await;
    prosody.kill();
    state(NodeState::Down).await;
    // A check that was under way may have ended otherwise.
    until(long, "the reason", || async {
        if node.why() == "bosh: connect refused" { Ok(()) } else { Err(node.why()) }
    })
    .await;
    prosody.restart().await;
    state(NodeState::Up).await;
    assert_eq!(tasks.drain(Duration::from_secs(5)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_for_the_first_outcome_of_each_node_and_not_for_ever() {
    let quick = serve(200, "text/plain", "well").await;
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = Port::free();
    let ports =
        [("quick", quick), ("slow", slow.local_addr().unwrap().port()), ("nobody", nobody.address().port())];
    let nodes = ports.map(|(name, port)| {
        (name.into(), HttpNode::with_services("127.0.0.1", [("web", Service::plain(port))]))
    });
    let check =
        Some(CheckSettings { timeout: SOON, every: Duration::from_secs(1), ..CheckSettings::http("/") });
    let nodes = PoolNodes::Http { nodes: BTreeMap::from(nodes), check };
    let (metrics, tasks) = (Metrics::new(), Tasks::new());
    let pools = Pools::new(metrics.pool.clone());
    pools.apply(&BTreeMap::from([(
        "p".into(),
        Arc::new(PoolSettings::new("p", nodes, Duration::from_secs(60))),
    )]));
    let start = || Checker::start(pools.clone(), None, Arc::new(|_: &Arc<Node>| {}), &tasks);
    let first = tokio::spawn(start().ended(SOON));
    let (mut asked, _) = within(SOON, "the slow node is asked", slow.accept()).await.unwrap();
    let state = |name: &str| pools.get("p").unwrap().node(name).unwrap().state();
    until(SOON, "the quick node is up", || async {
        if state("quick") == NodeState::Up { Ok(()) } else { Err(state("quick").to_string()) }
    })
    .await;
    assert!(!first.is_finished(), "the slow node has said nothing");
    asked.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert!(within(SOON, "all were asked", first).await.unwrap());
    assert_eq!((state("quick"), state("slow")), (NodeState::Up, NodeState::Up));
    assert_ne!(state("nobody"), NodeState::Up);
    // Another one that is never answered.
    assert!(!start().ended(Duration::from_millis(500)).await);
    assert_eq!(tasks.drain(Duration::from_secs(5)).await, 0);
}
