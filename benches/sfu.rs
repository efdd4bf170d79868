//! What forwarding costs: one sender, 2, 10 and 30 receivers, 1150 bytes of VP8, in memory.
//!
//! Timed is what the worker's thread does for one received packet: decrypt, decide, encrypt once per receiver. Sockets
//! and the clients' own work are not. `x8` hands over eight packets before the receivers are driven, as a batch from
//! the socket does. Allocations per forwarded packet are counted apart and printed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use roomgate::clock;
use roomgate::media::WorkerIdentity;
use roomgate::media::host::{Datagram, Host, Outbox, SessionKey};
use roomgate::rooms::{RoomId, RoomKey};
use roomgate::sfu::client::{Client, Said, Sent};
use roomgate::sfu::signalling::message::Source;
use roomgate::sfu::{Command, Engine, Join, Role, RoomRef, SfuHost, SfuLimits};
use roomgate::wire::ufrag::UfragCodec;
use tokio::sync::{mpsc, oneshot};

const SERVER: &str = "203.0.113.1:10000";
const PAYLOAD: usize = 1150;
const STEP: Duration = Duration::from_millis(1);

/// Counts allocations of the thread that asks.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "a global allocator is unsafe by its nature")]
// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Takes what the host sends. Keeps what is not media, so that sessions stay alive.
#[derive(Default)]
struct Net {
    flows: BTreeMap<SocketAddr, SessionKey>,
    kept: Vec<(SocketAddr, Vec<u8>)>,
    media: u64,
}

impl Outbox for Net {
    fn transmit(&mut self, session: SessionKey, to: SocketAddr, bytes: &[u8]) {
        if bytes[0] >= 128 {
            self.media += u64::from(!(64..96).contains(&(bytes[1] & 0x7f)));
            black_box(bytes);
            return;
        }
        if bytes.starts_with(&[1, 1]) {
            self.flows.insert(to, session);
        }
        self.kept.push((to, bytes.to_vec()));
    }
}

struct World {
    host: SfuHost,
    net: Net,
    now: Instant,
    clients: Vec<(SocketAddr, Client, mpsc::Receiver<roomgate::sfu::Notice>)>,
    codec: Arc<UfragCodec>,
    seq: u64,
}

impl World {
    fn new(receivers: u8) -> Self {
        let now = clock::now();
        let codec = Arc::new(UfragCodec::new([7; 16]));
        let identity = WorkerIdentity {
            edge: 0,
            worker: 0,
            generation: 1,
            codec: Arc::clone(&codec),
            candidates: vec![SERVER.parse().expect("an address")],
        };
        let host = SfuHost::new(identity, Engine::new().expect("a certificate"), SfuLimits::new(1000), now);
        let mut world = Self { host, net: Net::default(), now, clients: Vec::new(), codec, seq: 1 };
        world.join(&[Source::Camera], 0);
        for _ in 0..receivers {
            world.join(&[], 1);
        }
        for _ in 0..3000 {
            world.step();
            if world.clients.iter().all(|(_, client, _)| client.is_connected()) {
                break;
            }
        }
        assert!(world.clients.iter().all(|(_, client, _)| client.is_connected()), "all connect");
        for _ in 0..200 {
            world.step();
        }
        // Lines switch on a keyframe.
        let datagrams = world.packets(2);
        world.forward(&datagrams, 1);
        let before = world.net.media;
        let datagrams = world.packets(10);
        world.forward(&datagrams, 1);
        assert_eq!(world.net.media - before, 10 * u64::from(receivers), "every packet reaches everybody");
        world
    }

    fn ask<T>(&mut self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> T {
        let (reply, mut answer) = oneshot::channel();
        self.host.handle_command(make(reply), self.now, &mut self.net);
        answer.try_recv().expect("the host answers at once")
    }

    fn join(&mut self, sends: &[Source], video: u16) {
        let (notices, heard) = mpsc::channel(1024);
        let key = RoomKey::new("bench").expect("a name");
        let room = RoomRef::Public(RoomId { pool: "p".into(), scope: "s".into(), key });
        let join = Join { room, name: String::new(), role: Role::Ingest, notices };
        let joined = self.ask(|reply| Command::Join { join, reply }).expect("there is room");
        let last = u8::try_from(self.clients.len() + 1).expect("a few");
        let address = SocketAddr::from(([192, 0, 2, last], 5000));
        let mut client = Client::new(address, self.now);
        let (sdp, tracks) = client.offer(sends, 0, video, &[]).expect("something to offer");
        let session = joined.session;
        let answer = self.ask(|reply| Command::Offer { session, sdp, tracks, reply }).expect("a good offer");
        client.answer(&answer).expect("a good answer");
        self.clients.push((address, client, heard));
    }

    fn key(&self, from: SocketAddr, bytes: &[u8]) -> Option<SessionKey> {
        if bytes[0] >= 2 {
            return self.net.flows.get(&from).copied();
        }
        let text = bytes.windows(23).find_map(|w| self.codec.decode(w))?;
        Some(SessionKey(text.nonce))
    }

    fn receive(&mut self, from: SocketAddr, bytes: &[u8]) {
        let Some(key) = self.key(from, bytes) else { return };
        let asked: IpAddr = IpAddr::from([203, 0, 113, 1]);
        let _ =
            self.host.handle_datagram(key, Datagram { source: from, asked, bytes }, self.now, &mut self.net);
    }

    /// Lets some time pass: handshakes and keep-alive, not timed.
    fn step(&mut self) {
        self.now += STEP * 5;
        let now = self.now;
        for (to, bytes) in std::mem::take(&mut self.net.kept) {
            if let Some((_, client, _)) = self.clients.iter_mut().find(|(address, ..)| *address == to) {
                client.handle_datagram(SERVER.parse().expect("an address"), &bytes, now);
            }
        }
        let mut said = Vec::new();
        for (address, client, heard) in &mut self.clients {
            client.handle_timeout(now);
            drain(client, *address, &mut said);
            while heard.try_recv().is_ok() {}
        }
        for (from, bytes) in said {
            self.receive(from, &bytes);
        }
        self.host.handle_timeout(now, &mut self.net);
    }

    /// Makes encrypted packets of the sender, each frame two packets.
    fn packets(&mut self, count: u64) -> Vec<Vec<u8>> {
        self.step();
        let (address, client, _) = &mut self.clients[0];
        let mut said = Vec::new();
        for _ in 0..count {
            let mut payload = vec![0x90, 0x80, 0x80, 0, u8::from(self.seq > 1), 0, 0, 0x9d, 1, 0x2a];
            payload[3] = self.seq.to_be_bytes()[7];
            payload.resize(PAYLOAD, 0);
            let time = u32::try_from(self.seq / 2 * 3000 % (1 << 31)).expect("it was just bounded");
            let sent = Sent {
                source: Source::Camera,
                rid: None,
                seq: self.seq,
                time,
                marker: self.seq.is_multiple_of(2),
                payload: &payload,
            };
            self.seq += 1;
            client.send(&sent, self.now);
            drain(client, *address, &mut said);
            client.handle_timeout(self.now);
            drain(client, *address, &mut said);
        }
        let is_media = |b: &[u8]| b[0] >= 128 && !(64..96).contains(&(b[1] & 0x7f));
        let (media, other): (Vec<_>, Vec<_>) = said.into_iter().partition(|(_, bytes)| is_media(bytes));
        for (from, bytes) in other {
            self.receive(from, &bytes);
        }
        media.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// What is timed.
    fn forward(&mut self, datagrams: &[Vec<u8>], batch: usize) {
        let from = self.clients[0].0;
        for datagrams in datagrams.chunks(batch) {
            for datagram in datagrams {
                self.receive(from, datagram);
            }
            self.host.handle_timeout(self.now, &mut self.net);
        }
    }
}

fn drain(client: &mut Client, from: SocketAddr, said: &mut Vec<(SocketAddr, Vec<u8>)>) {
    loop {
        match client.poll() {
            Said::Transmit { bytes, .. } => said.push((from, bytes)),
            Said::Timeout(_) | Said::Closed | Said::Failed(_) => return,
            Said::Received(_) | Said::Connected | Said::KeyframeWanted { .. } => {}
        }
    }
}

fn forwarding(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward");
    group.sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    for receivers in [2u8, 10, 30] {
        let mut world = World::new(receivers);
        for batch in [1usize, 8] {
            group.throughput(Throughput::Elements(u64::from(receivers)));
            let name = BenchmarkId::new(format!("x{batch}"), receivers);
            group.bench_function(name, |b| {
                b.iter_custom(|packets| {
                    let mut spent = Duration::ZERO;
                    let mut left = packets;
                    while left > 0 {
                        let count = left.min(64);
                        let datagrams = world.packets(count);
                        let begin = clock::now();
                        world.forward(&datagrams, batch);
                        spent += clock::now() - begin;
                        left -= count;
                    }
                    spent
                });
            });
            let (mut allocations, mut forwarded) = (0, 0);
            for _ in 0..32 {
                let datagrams = world.packets(64);
                let (allocated, sent) = (ALLOCATIONS.get(), world.net.media);
                world.forward(&datagrams, batch);
                allocations += ALLOCATIONS.get() - allocated;
                forwarded += world.net.media - sent;
            }
            assert_eq!(forwarded, 32 * 64 * u64::from(receivers), "every packet reaches everybody");
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let each = allocations as f64 / forwarded as f64;
            println!("forward/x{batch}/{receivers}: {each:.2} allocations per forwarded packet");
        }
    }
    group.finish();
}

criterion_group!(benches, forwarding);
criterion_main!(benches);
