//! The media path without sockets: what one datagram pays for finding its session, and an answer for being sent.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use roomgate::clock;
use roomgate::media::WorkerIdentity;
use roomgate::media::host::SessionKey;
use roomgate::media::relay::{Input, Relay, RelayLimits, Tuple};
use roomgate::wire::stun::Message;
use roomgate::wire::ufrag::{Ufrag, UfragCodec};

const FLOWS: u16 = 10_000;

fn identity() -> WorkerIdentity {
    let codec = Arc::new(UfragCodec::new([7; 16]));
    WorkerIdentity { edge: 1, worker: 0, generation: 99, codec, candidates: Vec::new() }
}

fn tuple(client: u16) -> Tuple {
    let [high, low] = client.to_be_bytes();
    Tuple {
        source: SocketAddr::from(([192, 0, high, low], 50_000)),
        asked: IpAddr::from([203, 0, 113, 1]),
        socket: 0,
    }
}

/// A Binding request as browsers send it, without its last word: 100 bytes, USERNAME and MESSAGE-INTEGRITY.
fn check(ufrag: &str) -> Vec<u8> {
    let username = format!("{ufrag}:abcd");
    let mut body = vec![0, 6, 0, u8::try_from(username.len()).expect("28 bytes")];
    body.extend(username.bytes());
    body.extend([0, 0x25, 0, 0, 0, 8, 0, 20]);
    body.extend([0; 20]);
    let mut bytes = vec![0, 1, 0, u8::try_from(body.len()).expect("60 bytes"), 0x21, 0x12, 0xA4, 0x42];
    bytes.extend([9; 12]);
    bytes.extend(body);
    bytes
}

fn success() -> Vec<u8> {
    let mut bytes = vec![1, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    bytes.extend([9; 12]);
    bytes
}

fn media() -> Vec<u8> {
    let mut bytes = vec![0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xBE, 0xDE, 0, 1, 0x10, 0xAA, 0x20, 0xBB];
    bytes.resize(1150, 0xCC);
    bytes
}

fn relay_of(bench: &mut Criterion) {
    let now = clock::now();
    let identity = identity();
    let limits = RelayLimits { flows_max: 65_536, pending_max: 4096 };
    let mut relay = Relay::new(&identity, 2, limits);
    for client in 0..FLOWS {
        let key = SessionKey(u64::from(client));
        let request = check(&identity.mint(key));
        let _ = relay.handle(Input { tuple: tuple(client), via: None, bytes: &request }, now);
        let _ = relay.on_transmit(key, tuple(client).source, &success(), now);
    }
    assert_eq!(relay.flows(), usize::from(FLOWS));

    let mut group = bench.benchmark_group("relay");
    group.throughput(Throughput::Elements(1));
    let media = media();
    group.bench_function("RTP in, one flow of 10 000", |b| {
        b.iter(|| relay.handle(Input { tuple: tuple(77), via: None, bytes: black_box(&media) }, now));
    });
    let mut client = 0;
    group.bench_function("RTP in, all of 10 000 in turn", |b| {
        b.iter(|| {
            client = (client + 7) % FLOWS;
            relay.handle(Input { tuple: tuple(client), via: None, bytes: black_box(&media) }, now)
        });
    });
    group.bench_function("RTP out", |b| {
        b.iter(|| relay.on_transmit(SessionKey(77), tuple(77).source, black_box(&media), now));
    });
    let (request, answer) = (check(&identity.mint(SessionKey(77))), success());
    group.bench_function("check in and its answer out", |b| {
        b.iter(|| {
            let verdict =
                relay.handle(Input { tuple: tuple(77), via: None, bytes: black_box(&request) }, now);
            (verdict, relay.on_transmit(SessionKey(77), tuple(77).source, black_box(&answer), now))
        });
    });
    let stranger = UfragCodec::new([8; 16]);
    let forged = stranger.encode(&Ufrag { edge: 1, worker: 0, flags: 0, generation: 99, nonce: 1 });
    let forged = check(&forged);
    group.bench_function("forged check in", |b| {
        b.iter(|| relay.handle(Input { tuple: tuple(77), via: None, bytes: black_box(&forged) }, now));
    });
    group.finish();
}

fn wire(bench: &mut Criterion) {
    let identity = identity();
    let ufrag = identity.mint(SessionKey(77));
    let request = check(&ufrag);
    bench.bench_function("ufrag decode", |b| b.iter(|| identity.codec.decode(black_box(ufrag.as_bytes()))));
    bench.bench_function("STUN parse", |b| b.iter(|| Message::parse(black_box(&request))));
}

criterion_group!(benches, relay_of, wire);
criterion_main!(benches);
