//! The room table: what a request pays for the place of a room that is known, held or new.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use roomgate::clock;
use roomgate::config::settings::{HttpNode, Name, PoolNodes, PoolSettings, RoomTableSettings};
use roomgate::pool::Pools;
use roomgate::rooms::{RequestView, RoomId, RoomKey, Rooms, room_of};
use roomgate::telemetry::metrics::Metrics;

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROOMS: u32 = 1_000_000;
const HOT: u32 = 10_000;

fn table() -> Rooms {
    let metrics = Metrics::new();
    let pools = Pools::new(metrics.pool.clone());
    let nodes = (0..8).map(|i| (Name::from(format!("s{i}")), HttpNode::new("127.0.0.1", 9000 + i))).collect();
    let settings =
        PoolSettings::new("shards", PoolNodes::Http { nodes, check: None }, Duration::from_secs(300));
    pools.apply(&BTreeMap::from([("shards".into(), Arc::new(settings))]));
    Rooms::new(pools, &RoomTableSettings { rooms_max: 2_000_000 }, metrics.rooms.clone())
}

fn room(pool: &Name, scope: &Name, n: u32) -> RoomId {
    let key = RoomKey::new(&format!("tenant-{}/weekly-meeting-{n}", n % 97)).expect("a name without escapes");
    RoomId { pool: Arc::clone(pool), scope: Arc::clone(scope), key }
}

fn place(c: &mut Criterion) {
    let (pool, scope) = (Name::from("shards"), Name::from("meet.example.com"));
    let rooms = table();
    let now = clock::now();
    for n in 0..ROOMS {
        rooms.place(&room(&pool, &scope, n), now).expect("all nodes are up");
    }
    // Spread over the table, and asked for in no order that a cache could guess.
    let hot: Vec<RoomId> = (0..HOT).map(|i| room(&pool, &scope, i.wrapping_mul(7_919) % ROOMS)).collect();
    let mut next = (0..HOT as usize).cycle();

    c.bench_function("place a known room, 10 000 hot among 1 million", |b| {
        b.iter(|| rooms.place(black_box(&hot[next.next().expect("it cycles")]), now));
    });
    c.bench_function("hold and release a known room", |b| {
        b.iter(|| {
            let (_, hold) = rooms.hold(black_box(&hot[next.next().expect("it cycles")]), now).expect("up");
            hold.release(now);
        });
    });
    let mut fresh = ROOMS..;
    c.bench_function("place a new room on one of 8 nodes", |b| {
        b.iter_batched(
            || room(&pool, &scope, fresh.next().expect("it is endless")),
            |id| rooms.place(&id, now),
            BatchSize::SmallInput,
        );
    });
    let rules = [roomgate::config::settings::RoomRule::Jitsi];
    c.bench_function("find the room of a request", |b| {
        b.iter(|| {
            let request = RequestView {
                path: black_box("/tenant-5/xmpp-websocket"),
                query: Some("room=Weekly-Meeting-17&token=abc"),
                header: &|_| None,
                text: &|_| None,
            };
            room_of(&rules, &request)
        });
    });
}

criterion_group!(benches, place);
criterion_main!(benches);
