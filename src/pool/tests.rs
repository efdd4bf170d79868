//! Tests of pools: reloads, waiting, the least open node.

use std::num::NonZeroU32;

use super::*;
use crate::config::settings::{HttpNode, Service};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::names;

fn settings(nodes: &[(&str, u16, u32)], check: Option<(u32, u32)>) -> BTreeMap<Name, Arc<PoolSettings>> {
    let nodes = nodes
        .iter()
        .map(|&(name, port, weight)| {
            (Name::from(name), HttpNode { weight, ..HttpNode::new("127.0.0.1", port) })
        })
        .collect();
    let check = check.map(|(rise, fall)| CheckSettings {
        rise: NonZeroU32::new(rise).unwrap(),
        fall: NonZeroU32::new(fall).unwrap(),
        ..CheckSettings::http("/")
    });
    let settings = PoolSettings::new("p", PoolNodes::Http { nodes, check }, Duration::from_secs(60));
    BTreeMap::from([("p".into(), Arc::new(settings))])
}

struct Bench {
    metrics: Metrics,
    pools: Pools,
}

impl Bench {
    fn new(nodes: &[(&str, u16, u32)], check: Option<(u32, u32)>) -> Self {
        let metrics = Metrics::new();
        let bench = Self { pools: Pools::new(metrics.pool.clone()), metrics };
        bench.pools.apply(&settings(nodes, check));
        bench
    }

    fn node(&self, name: &str) -> Arc<Node> {
        Arc::clone(self.pools.get("p").unwrap().node(name).unwrap())
    }

    fn series(&self) -> usize {
        let names = [names::POOL_NODE_UP, names::POOL_CHECKS, names::POOL_OPEN];
        let families = self.metrics.registry.gather();
        families.iter().filter(|f| names.contains(&f.name())).map(|f| f.get_metric().len()).sum()
    }
}

fn refused() -> CheckOutcome {
    CheckOutcome::Fail(FailReason::ConnectRefused)
}

#[test]
fn a_node_tells_what_it_is_and_why() {
    let bench = Bench::new(&[("a", 1, 100)], Some((2, 2)));
    let (node, now) = (bench.node("a"), crate::clock::now());
    let later = now + Duration::from_secs(1);
    assert_eq!(
        (node.state(), node.why().as_str(), node.can_serve()),
        (NodeState::Starting, "not checked yet", false)
    );
    node.report(CheckOutcome::Pass, now);
    assert_eq!((node.state(), node.why().as_str(), node.can_serve()), (NodeState::Up, "check passed", true));
    let term = node.serving_term().unwrap();
    node.report(refused(), later);
    assert_eq!(node.why(), "connect refused (1 of 2 failures)");
    assert_eq!((node.since(), node.serves_since(term)), (now, true));
    node.connect_failed(FailReason::Timeout(Duration::from_secs(3)), later);
    assert_eq!((node.state(), node.why().as_str()), (NodeState::Down, "timeout after 3s"));
    assert_eq!((node.since(), node.serving_term()), (later, None));
    node.report(CheckOutcome::Pass, later);
    assert_eq!(node.why(), "timeout after 3s", "one pass is not enough");
    node.report(CheckOutcome::Pass, later);
    assert!(node.can_serve() && !node.serves_since(term), "what it had before is lost");
    let to = |state| bench.metrics.pool.transitions.with_label_values(&["p", "a", state]).get();
    assert_eq!((to("up"), to("down")), (2, 1));
}

#[test]
fn a_lack_of_our_own_takes_nobody_down() {
    let bench = Bench::new(&[("a", 1, 100)], None);
    let (node, now) = (bench.node("a"), crate::clock::now());
    for fault in [LocalFault::Descriptors, LocalFault::Memory, LocalFault::Ports] {
        node.connect_failed(FailReason::Local(fault), now);
        node.report(CheckOutcome::Fail(FailReason::Local(fault)), now);
    }
    assert_eq!((node.can_serve(), node.why().as_str()), (true, "not checked"));
    let counted = |result| bench.metrics.pool.checks.with_label_values(&["p", "a", result]).get();
    assert_eq!((counted("unasked"), counted("fail"), counted("connect_fail")), (3, 0, 0));
    node.connect_failed(FailReason::ConnectRefused, now);
    assert!(!node.can_serve(), "one failure of its own is enough");
}

#[tokio::test]
async fn waiting_for_a_fall_ends_with_the_fall_even_when_the_node_is_back() {
    let bench = Bench::new(&[("a", 1, 100)], None);
    let (node, now) = (bench.node("a"), crate::clock::now());
    let term = node.serving_term().unwrap();
    let (waiting, late) = (node.down(), node.down_after(term));
    assert!(futures_util::FutureExt::now_or_never(node.down()).is_none());
    node.report(refused(), now);
    node.report(CheckOutcome::Pass, now);
    assert!(node.can_serve());
    waiting.await;
    late.await;
    node.down_after(term).await;
    assert!(futures_util::FutureExt::now_or_never(node.down()).is_none(), "it is up");
    let waiting = node.down();
    bench.pools.apply(&BTreeMap::new());
    waiting.await;
    node.down().await;
}

#[test]
fn a_reload_keeps_what_did_not_change() {
    let bench = Bench::new(&[("a", 1, 100), ("b", 2, 100), ("c", 3, 100)], Some((2, 2)));
    let now = crate::clock::now();
    let [a, b, c] = ["a", "b", "c"].map(|name| bench.node(name));
    for node in [&a, &b, &c] {
        node.report(CheckOutcome::Pass, now);
    }
    let (open, gauge) = (a.open(), bench.metrics.pool.node_up.with_label_values(&["p", "b"]));
    assert_eq!((gauge.get(), bench.series()), (1, 3 * 6));
    // a: another weight; b: another port; c: gone.
    bench.pools.apply(&settings(&[("a", 1, 7), ("b", 9, 100)], Some((3, 1))));
    assert!(Arc::ptr_eq(&a, &bench.node("a")) && a.can_serve());
    assert_eq!((a.weight(), a.open_count()), (7, 1));
    assert!(!Arc::ptr_eq(&b, &bench.node("b")));
    assert_eq!((gauge.get(), bench.series()), (0, 2 * 6), "the new b is not up; c is forgotten");
    for gone in [&b, &c] {
        gone.report(CheckOutcome::Pass, now);
        assert!(gone.is_removed() && !gone.can_serve());
        assert_eq!((gone.state(), gone.why().as_str()), (NodeState::Down, "left the configuration"));
    }
    assert_eq!(bench.series(), 2 * 6, "a node that left writes no series");
    a.report(refused(), now);
    assert_eq!(a.state(), NodeState::Down, "the new fall counts");
    drop(open);
    assert_eq!(bench.metrics.pool.open.with_label_values(&["p", "a"]).get(), 0);
}

#[test]
fn a_node_that_waits_for_its_first_check_serves_when_the_check_is_taken_away() {
    let bench = Bench::new(&[("a", 1, 100)], Some((2, 2)));
    assert!(!bench.node("a").can_serve());
    bench.pools.apply(&settings(&[("a", 1, 100)], None));
    assert!(bench.node("a").can_serve());
}

#[test]
fn a_reload_that_is_not_finished_leaves_no_trace() {
    let bench = Bench::new(&[("a", 1, 100)], Some((2, 2)));
    let a = bench.node("a");
    a.report(CheckOutcome::Pass, crate::clock::now());
    let mut wanted = settings(&[("a", 9, 100), ("b", 2, 100)], None);
    let mut other = (*wanted["p"]).clone();
    other.name = "q".into();
    wanted.insert("q".into(), Arc::new(other));
    let prepared = bench.pools.prepare(&wanted);
    assert!(bench.pools.get("q").is_some(), "sites may point to it");
    assert!(Arc::ptr_eq(&a, &bench.node("a")) && a.can_serve());
    drop(prepared);
    assert!(bench.pools.get("q").is_none());
    assert!(Arc::ptr_eq(&a, &bench.node("a")) && a.can_serve());
    assert_eq!(bench.pools.get("p").unwrap().nodes.len(), 1);
    bench.pools.prepare(&wanted).finish();
    assert!(bench.pools.get("q").is_some() && a.is_removed());
    assert_eq!(bench.pools.get("p").unwrap().nodes.len(), 2);
    // What goes stays until the end.
    let prepared = bench.pools.prepare(const { &BTreeMap::new() });
    assert!(bench.pools.get("q").is_some());
    prepared.finish();
    assert!(bench.pools.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_first_check_and_not_longer_than_there_is_hope() {
    use futures_util::FutureExt;
    let bench = Bench::new(&[("a", 1, 100), ("b", 2, 100), ("idle", 3, 0)], Some((2, 1)));
    let (a, b, now) = (bench.node("a"), bench.node("b"), crate::clock::now());
    let waiting = || {
        let pools = bench.pools.clone();
        let mut waiting = Box::pin(async move { pools.wait_for_first_checks("p").await });
        assert!((&mut waiting).now_or_never().is_none());
        waiting
    };
    // One of weight 0 takes no rooms: it is no reason not to wait.
    bench.node("idle").report(CheckOutcome::Pass, now);
    let (up, late) = (waiting(), waiting());
    assert_eq!(bench.metrics.pool.waiting.get(), 2);
    late.await;
    drop(up);
    let mut up = waiting();
    a.report(refused(), now);
    assert!((&mut up).now_or_never().is_none(), "b may still come");
    b.report(CheckOutcome::Pass, now);
    assert!(up.now_or_never().is_some());
    assert!(bench.pools.wait_for_first_checks("p").now_or_never().is_some(), "it can serve");
    b.report(refused(), now);
    assert!(bench.pools.wait_for_first_checks("p").now_or_never().is_some(), "all are down");
    assert!(bench.pools.wait_for_first_checks("no").now_or_never().is_some());
    let fresh = |port| bench.pools.apply(&settings(&[("a", port, 100)], Some((2, 1))));
    fresh(8);
    let (hopeless, now) = (waiting(), crate::clock::now());
    bench.node("a").report(refused(), now);
    assert!(hopeless.now_or_never().is_some());
    fresh(9);
    let gone = waiting();
    bench.pools.apply(&BTreeMap::new());
    assert!(gone.now_or_never().is_some());
    fresh(9);
    let many: Vec<_> = (0..WAITING_MAX).map(|_| waiting()).collect();
    assert!(bench.pools.wait_for_first_checks("p").now_or_never().is_some(), "more do not wait");
    drop(many);
    assert_eq!(bench.metrics.pool.waiting.get(), 0);
}

#[test]
fn the_least_open_node_serves_requests_without_a_room() {
    let bench = Bench::new(&[("a", 1, 100), ("b", 2, 100), ("c", 3, 0)], None);
    let pool = bench.pools.get("p").unwrap();
    let guards: Vec<_> = (0..10).map(|_| pool.least_open(&Wish::NONE, None).unwrap().open()).collect();
    let open = |name| bench.node(name).open_count();
    assert_eq!((open("a"), open("b"), open("c")), (5, 5, 0), "weight 0 comes last");
    bench.node("a").report(refused(), crate::clock::now());
    assert_eq!(&*pool.least_open(&Wish::NONE, None).unwrap().name, "b");
    bench.node("b").report(refused(), crate::clock::now());
    assert_eq!(&*pool.least_open(&Wish::NONE, None).unwrap().name, "c");
    bench.node("c").report(refused(), crate::clock::now());
    assert!(pool.least_open(&Wish::NONE, None).is_none());
    drop(guards);
    assert_eq!(open("b"), 0);
}

fn embedded(name: &str, workers: Option<u8>) -> BTreeMap<Name, Arc<PoolSettings>> {
    let settings = PoolSettings::new(name, PoolNodes::Embedded { workers }, Duration::from_secs(60));
    BTreeMap::from([(name.into(), Arc::new(settings))])
}

#[test]
fn an_embedded_pool_has_a_node_for_each_worker() {
    let bench = Bench::new(&[], None);
    let targets = |workers| {
        bench.pools.apply(&embedded("w", workers));
        bench.pools.get("w").unwrap().nodes.iter().map(|n| n.target.clone()).collect::<Vec<_>>()
    };
    let workers = |n| (0..n).map(|worker| Target::Embedded { worker }).collect::<Vec<_>>();
    assert_eq!(targets(Some(12)), workers(12), "as the settings say, until the workers are known");
    assert_eq!(&*bench.pools.get("w").unwrap().nodes[10].name, "worker-10", "by number");
    bench.pools.set_embedded_workers(3);
    assert_eq!(targets(None), workers(3));
    assert_eq!(targets(Some(12)), workers(3));
}

#[test]
fn no_reload_touches_a_running_worker() {
    let bench = Bench::new(&[], None);
    bench.pools.set_embedded_workers(2);
    bench.pools.apply(&embedded("w", Some(2)));
    let nodes = bench.pools.get("w").unwrap().nodes.clone();
    nodes.iter().for_each(|node| node.set_embedded(Ok(()), crate::clock::now()));
    let down: Vec<_> = nodes.iter().map(|node| node.down()).collect();
    let mut http = settings(&[("a", 1, 100)], None);
    let as_http = http.remove("p").unwrap();
    for (what, settings) in [
        ("fewer", embedded("w", Some(1))),
        ("more", embedded("w", Some(4))),
        ("auto", embedded("w", None)),
        ("gone", BTreeMap::new()),
        ("renamed", embedded("other", Some(2))),
        ("of another kind", BTreeMap::from([("w".into(), as_http)])),
        ("back", embedded("w", Some(2))),
    ] {
        bench.pools.apply(&settings);
        let now = bench.pools.get("w").unwrap_or_else(|| panic!("{what}: the pool is gone"));
        assert_eq!(now.nodes.len(), 2, "{what}");
        for (before, after) in nodes.iter().zip(&now.nodes) {
            assert!(Arc::ptr_eq(before, after), "{what}: another object");
            assert!(after.can_serve() && !after.is_removed(), "{what}");
        }
    }
    for down in down {
        assert!(futures_util::FutureExt::now_or_never(down).is_none());
    }
}

fn pool_of(nodes: Vec<(&str, HttpNode)>, region: Option<&str>) -> BTreeMap<Name, Arc<PoolSettings>> {
    let nodes = nodes.into_iter().map(|(name, node)| (Name::from(name), node)).collect();
    let nodes = PoolNodes::Http { nodes, check: None };
    let settings = PoolSettings {
        region: region.map(Name::from),
        ..PoolSettings::new("p", nodes, Duration::from_secs(60))
    };
    BTreeMap::from([("p".into(), Arc::new(settings))])
}

fn labelled(port: u16, region: &str, release: &str) -> HttpNode {
    HttpNode {
        region: Some(region.into()),
        release: Some(release.into()),
        ..HttpNode::new("127.0.0.1", port)
    }
}

#[test]
fn a_request_without_a_room_goes_to_its_release_then_its_region_then_the_least_open() {
    let bench = Bench::new(&[], None);
    let nodes = || {
        vec![
            ("a", labelled(1, "eu", "1")),
            ("b", labelled(2, "us", "1")),
            ("c", labelled(3, "us", "2")),
            ("d", HttpNode { weight: 0, ..labelled(4, "eu", "2") }),
        ]
    };
    bench.pools.apply(&pool_of(nodes(), Some("eu")));
    let to = |node: Option<&str>, release: Option<&str>, except: Option<&str>| {
        let wish = Wish { node: node.map(Name::from), release: release.map(Name::from) };
        let except = except.map(|name| bench.node(name));
        let pool = bench.pools.get("p").unwrap();
        pool.least_open(&wish, except.as_ref()).map(|node| node.name.to_string())
    };
    let busy: Vec<_> = (0..5).map(|_| bench.node("a").open()).collect();
    for (node, release, except, expected) in [
        (None, None, None, "a"),
        (None, Some("2"), None, "c"),
        (None, Some("none"), None, "a"),
        (Some("d"), None, None, "d"),
        (Some("none"), Some("2"), None, "c"),
        (Some("d"), Some("1"), Some("d"), "a"),
    ] {
        assert_eq!(to(node, release, except).as_deref(), Some(expected), "{node:?} {release:?} {except:?}");
    }
    assert!(matches!(to(None, None, Some("a")).as_deref(), Some("b" | "c")));
    bench.node("a").report(refused(), crate::clock::now());
    assert!(matches!(to(None, None, None).as_deref(), Some("b" | "c")), "nobody of the region");
    drop(busy);
    // Another region of the edge: the same nodes.
    let b = bench.node("b");
    bench.pools.apply(&pool_of(nodes(), Some("us")));
    assert!(Arc::ptr_eq(&b, &bench.node("b")));
    assert_eq!(to(None, Some("1"), None).as_deref(), Some("b"));
}

#[test]
fn labels_change_under_a_node_and_services_make_another() {
    let bench = Bench::new(&[], None);
    let with = |node: HttpNode| bench.pools.apply(&pool_of(vec![("a", node)], None));
    with(labelled(1, "eu", "1"));
    let a = bench.node("a");
    with(labelled(1, "us", "2"));
    assert!(Arc::ptr_eq(&a, &bench.node("a")));
    assert!(a.is_in("us") && !a.is_in("eu") && a.runs("2") && !a.runs("1"));
    assert_eq!((a.region().as_deref(), a.release().as_deref()), (Some("us"), Some("2")));
    let service = Service::plain;
    let host =
        |prosody| HttpNode::with_services("127.0.0.1", [("web", service(1)), ("prosody", service(prosody))]);
    with(host(5280));
    assert!(a.is_removed(), "a service more is another address");
    let a = bench.node("a");
    assert_eq!(a.target.to_string(), "127.0.0.1: prosody 5280, web 1");
    assert_eq!(a.target.service(Some("prosody")).unwrap().1.port, 5280);
    assert_eq!(a.target.service(None).unwrap().1.port, 1);
    let missing = a.target.service(Some("jicofo")).unwrap_err();
    assert_eq!(missing.to_string(), "the node has no service jicofo");
    a.connect_failed(missing, crate::clock::now());
    assert!(a.can_serve(), "it is not worse for what nobody said it has");
    with(host(5281));
    assert!(a.is_removed());
    let settings = &pool_of(vec![("a", host(1)), ("b", HttpNode::new("127.0.0.1", 2))], None)["p"];
    let lacks = |service| settings.without_service(service).map(|name| &**name);
    assert_eq!((lacks("web"), lacks("prosody"), lacks("jicofo")), (None, None, Some("a")));
    let url = bench_url();
    assert_eq!(url.service(Some("prosody")).unwrap().1.port, 2, "a URL answers for every service");
}

fn bench_url() -> Target {
    let node = HttpNode::new("127.0.0.1", 2);
    Target::Http { host: node.host, services: node.services }
}
