//! Tests of the shell: hashing, wishes, finding.

use super::*;
use crate::config::settings::{HttpNode, PoolNodes, PoolSettings};
use crate::pool::FailReason;
use crate::telemetry::metrics::Metrics;

#[test]
fn what_a_request_reads_of_a_room_is_one_line_of_the_cache() {
    assert_eq!(std::mem::size_of::<(RoomHash, table::Placement<RoomId, TakenSeat>)>(), 64);
}

#[test]
fn long_and_short_names_hash_alike_and_parts_do_not_run_together() {
    let metrics = Metrics::new();
    let rooms = Rooms::new(
        Pools::new(metrics.pool.clone()),
        &RoomTableSettings { rooms_max: 1 },
        metrics.rooms.clone(),
    );
    let hash = |pool: &str, scope: &str, key: &str| {
        let id = RoomId { pool: pool.into(), scope: scope.into(), key: RoomKey::new(key).unwrap() };
        let parts = [id.pool.as_bytes(), id.scope.as_bytes(), id.key.as_str().as_bytes()];
        let hash = rooms.shared.hash(&id);
        assert_eq!(hash, rooms.shared.hash_long(parts), "{id:?}");
        hash
    };
    // Up to the buffer, across its end, and beyond it.
    let hashes: std::collections::BTreeSet<_> =
        (1..=256).map(|len| hash("p", "meet.example.com", &"x".repeat(len))).collect();
    assert_eq!(hashes.len(), 256);
    assert_ne!(hash("ab", "c", "d"), hash("a", "bc", "d"));
    assert_ne!(hash("a", "bc", "d"), hash("a", "b", "cd"));
}

#[test]
fn a_room_of_no_pool_or_no_node_has_no_place() {
    let metrics = Metrics::new();
    let pools = Pools::new(metrics.pool.clone());
    let rooms = Rooms::new(pools, &RoomTableSettings { rooms_max: 1 }, metrics.rooms.clone());
    let id = RoomId { pool: "p".into(), scope: "s".into(), key: RoomKey::new("r").unwrap() };
    assert_eq!(rooms.place(&id, clock::now()).err(), Some(PlaceError::UnknownPool));
    assert_eq!(metrics.rooms.no_node.get(), 1);
    rooms.count_key_error(KeyError::Escape);
    assert_eq!(metrics.rooms.key_errors.with_label_values(&["escape"]).get(), 1);
    assert!(rooms.is_empty());
}

/// Nodes with region, release and weight, under an edge of a region.
fn house(nodes: &[(&str, &str, &str, u32)], region: Option<&str>) -> (Pools, Rooms, Metrics) {
    let metrics = Metrics::new();
    let pools = Pools::new(metrics.pool.clone());
    apply(&pools, nodes, region);
    let rooms = Rooms::new(pools.clone(), &RoomTableSettings { rooms_max: 1000 }, metrics.rooms.clone());
    (pools, rooms, metrics)
}

fn apply(pools: &Pools, nodes: &[(&str, &str, &str, u32)], region: Option<&str>) {
    let label = |text: &str| Some(Name::from(text)).filter(|name| !name.is_empty());
    let nodes = nodes
        .iter()
        .map(|&(name, region, release, weight)| {
            let (region, release) = (label(region), label(release));
            (Name::from(name), HttpNode { weight, region, release, ..HttpNode::new("127.0.0.1", 1) })
        })
        .collect();
    let nodes = PoolNodes::Http { nodes, check: None };
    let settings = PoolSettings {
        region: region.map(Name::from),
        ..PoolSettings::new("p", nodes, Duration::from_secs(60))
    };
    pools.apply(&std::collections::BTreeMap::from([("p".into(), Arc::new(settings))]));
}

fn id(key: &str) -> RoomId {
    RoomId { pool: "p".into(), scope: "s".into(), key: RoomKey::new(key).unwrap() }
}

fn wish(node: Option<&str>, release: Option<&str>) -> Wish {
    Wish { node: node.map(Name::from), release: release.map(Name::from) }
}

fn fail(pools: &Pools, node: &str) {
    let pool = pools.get("p").unwrap();
    pool.node(node).unwrap().connect_failed(FailReason::ConnectRefused, clock::now());
}

#[test]
fn a_new_room_goes_to_the_wished_node_release_or_region_in_this_order() {
    let nodes = [
        ("a", "eu", "1", 100),
        ("b", "us", "1", 100),
        ("c", "us", "2", 100),
        ("d", "eu", "2", 0),
        ("e", "ap", "3", 0),
    ];
    let (pools, rooms, _) = house(&nodes, Some("eu"));
    fail(&pools, "e");
    let now = clock::now();
    for (n, (node, release, expected)) in [
        // Rendezvous alone would spread these; the region has one node that takes new rooms.
        (None, None, &["a"][..]),
        (None, Some("1"), &["a"]),
        // No node of that release in the region takes new rooms.
        (None, Some("2"), &["c"]),
        (None, Some("none"), &["a"]),
        (Some("b"), Some("2"), &["b"]),
        // By name also one of weight 0; not one that is down.
        (Some("d"), None, &["d"]),
        (Some("e"), Some("2"), &["c"]),
        (Some("e"), Some("3"), &["a"]),
        (Some("nobody"), None, &["a"]),
    ]
    .into_iter()
    .enumerate()
    {
        for i in 0..30 {
            let room = id(&format!("room-{n}-{i}"));
            let placed = rooms.place_as(&room, &wish(node, release), now).unwrap();
            assert!(expected.contains(&&*placed.name), "{node:?} {release:?}: {}", placed.name);
        }
    }
    // When the region has nobody, everybody else shares.
    fail(&pools, "a");
    let placed: std::collections::BTreeSet<String> =
        (0..50).map(|i| rooms.place(&id(&format!("late-{i}")), now).unwrap().name.to_string()).collect();
    assert_eq!(placed, ["b".to_owned(), "c".to_owned()].into());
}

#[test]
fn no_wish_and_no_reload_moves_a_room_that_has_a_place() {
    let nodes = [("a", "eu", "1", 100), ("b", "us", "2", 100)];
    let (pools, rooms, metrics) = house(&nodes, None);
    let now = clock::now();
    let room = id("standup");
    let node = rooms.place_as(&room, &wish(Some("a"), None), now).unwrap();
    assert_eq!(&*node.name, "a");
    for (node, release) in [(Some("b"), None), (None, Some("2")), (Some("b"), Some("2"))] {
        let wish = wish(node, release);
        assert_eq!(&*rooms.place_as(&room, &wish, now).unwrap().name, "a");
        assert_eq!(&*rooms.hold_as(&room, &wish, now).unwrap().0.name, "a");
    }
    // Labels, weight and the edge's region change under it.
    apply(&pools, &[("a", "ap", "9", 0), ("b", "us", "2", 100)], Some("us"));
    assert_eq!(&*rooms.place_as(&room, &wish(None, Some("2")), now).unwrap().name, "a");
    assert_eq!(metrics.rooms.granted.get(), 1);
}

#[test]
fn a_room_whose_node_falls_stays_with_its_release_unless_another_is_wished() {
    let nodes = [("a", "eu", "1", 100), ("b", "eu", "2", 100), ("c", "us", "1", 100)];
    for (asked, expected) in [(None, "c"), (Some("2"), "b"), (Some("none"), "b")] {
        let (pools, rooms, _) = house(&nodes, Some("eu"));
        let now = clock::now();
        let room = id("standup");
        rooms.place_as(&room, &wish(Some("a"), None), now).unwrap();
        fail(&pools, "a");
        assert_eq!(rooms.find(&room, None).map(|node| node.name.clone()), None, "its place has fallen");
        let placed = rooms.place_as(&room, &wish(None, asked), now).unwrap();
        assert_eq!(&*placed.name, expected, "{asked:?}");
    }
    // So it is when nobody asks.
    let (pools, rooms, _) = house(&nodes, Some("eu"));
    let (now, room) = (clock::now(), id("standup"));
    let a = rooms.place_as(&room, &wish(Some("a"), None), now).unwrap();
    fail(&pools, "a");
    assert_eq!(rooms.node_down(&a, now), 1);
    assert_eq!(&*rooms.find(&room, None).unwrap().name, "c");
}

#[test]
fn finding_a_room_gives_it_no_place_and_touches_it_only_when_asked_to() {
    let (_, rooms, metrics) = house(&[("a", "", "", 100)], None);
    let (start, room) = (clock::now(), id("standup"));
    let at = |seconds| start + Duration::from_secs(seconds);
    assert!(rooms.find(&room, Some(start)).is_none());
    assert_eq!((rooms.len(), metrics.rooms.granted.get()), (0, 0));
    rooms.place(&room, start).unwrap();
    assert_eq!(&*rooms.find(&room, None).unwrap().name, "a");
    assert_eq!(rooms.list(1)[0].touched, start);
    assert!(rooms.find(&room, Some(at(40))).is_some());
    assert_eq!(rooms.list(1)[0].touched, at(40));
    assert_eq!(rooms.expire(at(99)), 0);
    assert!(rooms.find(&room, None).is_some());
    assert_eq!(rooms.expire(at(100)), 1);
    assert!(rooms.find(&room, None).is_none());
}
