//! Counts what a datagram costs on its way from the receive buffer to the host: no copy and no allocation.
//!
//! A binary of its own: its allocator counts each thread's allocations and remembers the receive buffers, so that the
//! host can see whether what it is given still lies in one, and which worker's it is.
#![expect(unsafe_code, reason = "an allocator that counts can be written in no other way")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use roomgate::clock;
use roomgate::config::settings::Advertise;
use roomgate::media::host::{Datagram, Host, Outbox, SessionKey};
use roomgate::media::{WorkerIdentity, WorkerLimits, Workers, WorkersConfig};
use roomgate::telemetry::metrics::MediaMetrics;

struct Counting;

/// The size of a receive buffer; nothing else in this process has it.
const BUFFER: usize = 65_536;
const THREADS: usize = 64;

static NEXT_THREAD: AtomicUsize = AtomicUsize::new(1);
static ALLOCATIONS: [AtomicU64; THREADS] = [const { AtomicU64::new(0) }; THREADS];
/// Address and thread of each receive buffer.
static BUFFERS: [(AtomicUsize, AtomicUsize); 1024] =
    [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; 1024];
static NEXT_BUFFER: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(0) };
}

fn this_thread() -> usize {
    THREAD
        .try_with(|thread| {
            if thread.get() == 0 {
                thread.set(NEXT_THREAD.fetch_add(1, SeqCst).min(THREADS - 1));
            }
            thread.get()
        })
        .unwrap_or(0)
}

// SAFETY: every call goes on to the system's allocator unchanged; what is done beside it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the same.
        let pointer = unsafe { System.alloc(layout) };
        note(pointer, layout);
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the same.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        note(pointer, layout);
        pointer
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS[this_thread()].fetch_add(1, SeqCst);
        // SAFETY: the caller's contract is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn note(pointer: *mut u8, layout: Layout) {
    let thread = this_thread();
    ALLOCATIONS[thread].fetch_add(1, SeqCst);
    if layout.size() == BUFFER {
        let slot = &BUFFERS[NEXT_BUFFER.fetch_add(1, SeqCst) % BUFFERS.len()];
        slot.1.store(thread, SeqCst);
        slot.0.store(pointer.addr(), SeqCst);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the thread whose receive buffer holds these bytes.
fn buffer_of(bytes: &[u8]) -> Option<usize> {
    let start = bytes.as_ptr().addr();
    let within = |at: usize| at != 0 && at <= start && start + bytes.len() <= at + BUFFER;
    BUFFERS.iter().find(|(at, _)| within(at.load(SeqCst))).map(|(_, thread)| thread.load(SeqCst))
}

/// What the hosts have seen.
#[derive(Default)]
struct Seen {
    datagrams: AtomicU64,
    outside: AtomicU64,
    /// The thread that received the last one.
    received_by: AtomicUsize,
}

static SEEN: Seen =
    Seen { datagrams: AtomicU64::new(0), outside: AtomicU64::new(0), received_by: AtomicUsize::new(0) };
static WORKER_THREADS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static REPORTS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Answers checks with a bare success and keeps media to itself.
struct Sink {
    identity: WorkerIdentity,
}

impl Host for Sink {
    type Command = mpsc::Sender<String>;
    type Report = ();

    fn handle_datagram(
        &mut self,
        session: SessionKey,
        datagram: Datagram<'_>,
        _: Instant,
        out: &mut dyn Outbox,
    ) -> bool {
        match buffer_of(datagram.bytes) {
            Some(thread) => SEEN.received_by.store(thread, SeqCst),
            None => drop(SEEN.outside.fetch_add(1, SeqCst)),
        }
        if datagram.bytes[0] == 0 {
            let mut answer = [0; 20];
            answer.copy_from_slice(&datagram.bytes[..20]);
            answer[..4].copy_from_slice(&[1, 1, 0, 0]);
            out.transmit(session, datagram.source, &answer);
        } else {
            SEEN.datagrams.fetch_add(1, SeqCst);
        }
        true
    }

    fn handle_command(&mut self, reply: Self::Command, _: Instant, _: &mut dyn Outbox) {
        let _ = reply.send(self.identity.mint(SessionKey(1)));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut dyn Outbox) {}

    fn stop(&mut self, _: Instant, _: &mut dyn Outbox) {}

    fn report(&mut self, _: Instant) {
        REPORTS[usize::from(self.identity.worker)].fetch_add(1, SeqCst);
    }
}

fn check(ufrag: &str) -> Vec<u8> {
    let username = format!("{ufrag}:peer");
    let len = u16::try_from(username.len()).unwrap();
    let mut bytes = vec![0, 1];
    bytes.extend((4 + len.next_multiple_of(4)).to_be_bytes());
    bytes.extend([0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 6]);
    bytes.extend(len.to_be_bytes());
    bytes.extend(username.bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Rounds of which one must pass.
const ROUNDS: u32 = 4;

/// Sends media and checks from one client, never more than 32 datagrams ahead of the host.
fn stream(client: &UdpSocket, to: SocketAddr, check: &[u8], count: u64) {
    let mut media = [0xAB; 1150];
    media[..12].copy_from_slice(&[0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
    let start = SEEN.datagrams.load(SeqCst);
    let end = clock::now() + Duration::from_secs(30);
    for sent in 0..count {
        client.send_to(&media, to).unwrap();
        if sent % 100 == 0 {
            client.send_to(check, to).unwrap();
            client.recv(&mut media[1100..]).unwrap();
        }
        while SEEN.datagrams.load(SeqCst) + 32 < start + sent {
            assert!(clock::now() < end, "media was lost");
            std::thread::yield_now();
        }
    }
    while SEEN.datagrams.load(SeqCst) < start + count {
        assert!(clock::now() < end, "media was lost");
        std::thread::yield_now();
    }
}

#[test]
fn datagrams_reach_the_host_without_copy_or_allocation() {
    let config = WorkersConfig {
        bind: vec!["127.0.0.1:0".parse().unwrap()],
        count: 2,
        edge: 0,
        key: None,
        advertise: Advertise::Auto,
        public: Vec::new(),
        limits: WorkerLimits::default(),
    };
    let make = |identity: WorkerIdentity| {
        WORKER_THREADS[usize::from(identity.worker)].store(this_thread(), SeqCst);
        Sink { identity }
    };
    let workers = Workers::start(config, make, MediaMetrics::default()).unwrap();
    let to = workers.local_addrs()[0];
    let (reply, joined) = mpsc::channel();
    workers.handle(0).unwrap().send(reply).unwrap();
    let check = check(&joined.recv_timeout(Duration::from_secs(5)).unwrap());
    let thread = |worker: usize| WORKER_THREADS[worker].load(SeqCst);

    // One client that arrives on the owner's socket, and one that arrives on the other's.
    let mut clients = [None, None];
    for _ in 0..256 {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.send_to(&check, to).unwrap();
        client.recv(&mut [0; 100]).unwrap();
        let received_by = SEEN.received_by.load(SeqCst);
        let worker = (0..2).find(|&worker| thread(worker) == received_by).expect("a worker has received it");
        clients[worker].get_or_insert(client);
        if clients.iter().all(Option::is_some) {
            break;
        }
    }
    for (worker, client) in clients.iter().enumerate() {
        let client = client.as_ref().expect("256 ports are enough to meet both sockets");
        stream(client, to, &check, 500); // Tables and buffers that are made once are made now.
        let counts =
            || [0, 1].map(|at: usize| (ALLOCATIONS[thread(at)].load(SeqCst), REPORTS[at].load(SeqCst)));
        // A pause of the worker's thread may want more receive buffers than ever before, and they are made then; what
        // is made for each datagram would be made in every round.
        for round in 1..=ROUNDS {
            let before = counts();
            stream(client, to, &check, 20_000);
            let after = counts();
            assert_eq!(SEEN.received_by.load(SeqCst), thread(worker), "the kernel has changed its mind");
            let made = [0, 1].map(|at: usize| (after[at].0 - before[at].0, after[at].1 - before[at].1));
            for (at, (allocations, reports)) in made.iter().enumerate() {
                println!(
                    "received by {worker}, worker {at}: {allocations} allocations, {reports} reports, 20 200 datagrams"
                );
            }
            // The report of each second is one; the second before or after may have been cut in two.
            if made.iter().all(|(allocations, reports)| *allocations <= reports + 1) {
                break;
            }
            assert!(round < ROUNDS, "allocations and reports of each worker: {made:?}");
        }
    }
    assert_eq!(SEEN.outside.load(SeqCst), 0, "a datagram was copied out of its receive buffer");
    println!("receive buffers made: {}", NEXT_BUFFER.load(SeqCst));
    assert!(NEXT_BUFFER.load(SeqCst) < BUFFERS.len(), "buffers are used again");
    workers.stop();
    assert_eq!(workers.join(Duration::from_secs(5)), 0);
}
