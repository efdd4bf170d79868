//! Moves batches of datagrams through the kernel: GRO in, GSO out, from the address that was asked.
//!
//! In: [`Intake`] lends preallocated buffers to `recvmmsg`; a datagram is a slice of one until the host has it.
//! Out: [`Outgoing`] copies each datagram once into its arena, and at the flush puts those of one destination and
//! size together into one send.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::task::Context;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;

use super::drops::{DropReason, Drops};
use super::ring::Buffer;

/// One UDP socket of a worker.
#[derive(Debug)]
pub(super) struct MediaSocket {
    socket: tokio::net::UdpSocket,
    state: UdpSocketState,
    /// The bound address: what was asked when the kernel does not say.
    bound: SocketAddr,
}

impl MediaSocket {
    /// Takes a bound socket over. Needs a runtime.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let bound = socket.local_addr()?;
        Ok(Self { socket: tokio::net::UdpSocket::from_std(socket)?, state, bound })
    }

    /// Returns whether datagrams wait; if not, the task is woken when they do.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> bool {
        self.socket.poll_recv_ready(cx).is_ready()
    }

    /// Fills the intake's buffers; returns how many. Fewer than [`BATCH_SIZE`]: nothing is left for now.
    pub(super) fn receive(&self, intake: &mut Intake) -> usize {
        let mut received = 0;
        let mut buffers = intake.buffers.iter_mut();
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| {
            IoSliceMut::new(buffers.next().map_or(&mut [][..], |buffer| &mut buffer[..]))
        });
        let drained = self.socket.try_io(Interest::READABLE, || {
            received = self.state.recv((&self.socket).into(), &mut slices, &mut intake.meta)?;
            // A batch that was not filled has seen the queue's end: say so, and save the call that would find it.
            if received < BATCH_SIZE { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        // Other errors are those of a former send on this socket (ICMP); they mean nothing here.
        drop(drained);
        received
    }

    fn send(
        &self,
        to: SocketAddr,
        asked: IpAddr,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let destination = match to {
            SocketAddr::V4(v4) if self.bound.is_ipv6() => {
                SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => to,
        };
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: Some(asked) };
        self.state.try_send((&self.socket).into(), &transmit)
    }
}

/// Where a received buffer came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) source: SocketAddr,
    pub(super) asked: IpAddr,
    pub(super) len: usize,
    /// All datagrams in the buffer but the last have this size.
    pub(super) stride: usize,
}

/// Splits a buffer into its datagrams.
pub(super) fn datagrams(bytes: &[u8], stride: usize) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(stride.max(1))
}

/// The receive buffers of one worker: one batch to receive into, the free ones, and those lent to other workers.
#[derive(Debug)]
pub(super) struct Intake {
    buffers: Vec<Buffer>,
    meta: [RecvMeta; BATCH_SIZE],
    free: Vec<Buffer>,
    made: usize,
    /// Buffers now with each worker.
    lent: Vec<usize>,
    lent_max: usize,
}

impl Intake {
    /// Makes one batch of buffers; up to `buffers_max` in all are made when they are lent to `workers - 1` others.
    pub(super) fn new(workers: usize, buffers_max: usize) -> Self {
        // A worker that stalls keeps its own share only.
        let lent_max = buffers_max.saturating_sub(BATCH_SIZE) / workers.saturating_sub(1).max(1);
        Self {
            buffers: (0..BATCH_SIZE).map(|_| new_buffer()).collect(),
            meta: [RecvMeta::default(); BATCH_SIZE],
            free: Vec::with_capacity(lent_max),
            made: BATCH_SIZE,
            lent: vec![0; workers],
            lent_max,
        }
    }

    /// Returns where the buffer at `at` of the last batch came from.
    pub(super) fn arrival(&self, at: usize, socket: &MediaSocket) -> Arrival {
        let meta = &self.meta[at];
        Arrival {
            source: canonical(meta.addr),
            asked: meta.dst_ip.map_or(socket.bound.ip(), |ip| ip.to_canonical()),
            len: meta.len,
            stride: meta.stride,
        }
    }

    /// Returns the bytes of a buffer of the last batch.
    pub(super) fn bytes(&self, at: usize, len: usize) -> &[u8] {
        &self.buffers[at][..len]
    }

    /// Takes a buffer out of the batch for another worker and puts a free one in its place. `None` at that worker's
    /// share.
    pub(super) fn lend(&mut self, at: usize, to: u8) -> Option<Buffer> {
        let lent = self.lent.get_mut(usize::from(to)).filter(|lent| **lent < self.lent_max)?;
        *lent += 1;
        let fresh = self.free.pop().unwrap_or_else(|| {
            self.made += 1;
            new_buffer()
        });
        Some(std::mem::replace(&mut self.buffers[at], fresh))
    }

    /// Takes a lent buffer back.
    pub(super) fn take_back(&mut self, from: u8, buffer: Buffer) {
        if let Some(lent) = self.lent.get_mut(usize::from(from)) {
            *lent = lent.saturating_sub(1);
        }
        self.free.push(buffer);
    }

    /// Returns how many buffers this worker has made.
    pub(super) fn made(&self) -> usize {
        self.made
    }
}

/// What has been sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    pub(super) calls: u64,
    /// Datagrams that shared a call.
    pub(super) batched: u64,
}

/// Datagrams that wait for the flush at the end of the turn, and the sockets they leave through.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) sockets: Vec<MediaSocket>,
    pub(super) sent: Sent,
    segments_max: usize,
    arena: Vec<u8>,
    entries: Vec<Entry>,
    order: Vec<u64>,
    /// Datagrams of one send that do not lie side by side in the arena.
    gathered: Vec<u8>,
    /// Sockets whose send buffer was full in this flush.
    blocked: Vec<bool>,
}

/// Where a datagram goes and which of our addresses and sockets it leaves from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) to: SocketAddr,
    pub(super) asked: IpAddr,
    pub(super) socket: u8,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    path: Path,
    start: usize,
    len: usize,
}

impl Outgoing {
    pub(super) fn new(sockets: Vec<MediaSocket>, segments_max: usize) -> Self {
        Self {
            blocked: vec![false; sockets.len()],
            sockets,
            sent: Sent::default(),
            segments_max: segments_max.clamp(1, GSO_SEGMENTS_MAX),
            arena: Vec::with_capacity(ARENA_BYTES),
            entries: Vec::with_capacity(ENTRIES_MAX),
            order: Vec::with_capacity(ENTRIES_MAX),
            gathered: Vec::with_capacity(GSO_BYTES_MAX),
        }
    }

    /// Queues a datagram: its one copy. A full arena is flushed first.
    pub(super) fn push(&mut self, path: Path, bytes: &[u8], drops: &mut Drops) {
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return drops.count(DropReason::TooLong);
        }
        if self.entries.len() >= ENTRIES_MAX || self.arena.len() + bytes.len() > ARENA_BYTES {
            self.flush(drops);
        }
        let key = u64::from(key_of(path.to)) << 32;
        self.order.push(key | self.entries.len() as u64);
        self.entries.push(Entry { path, start: self.arena.len(), len: bytes.len() });
        self.arena.extend_from_slice(bytes);
    }

    /// Sends everything that is queued. What the kernel does not take is dropped and counted: late media is no media.
    pub(super) fn flush(&mut self, drops: &mut Drops) {
        if self.entries.is_empty() {
            return;
        }
        self.blocked.fill(false);
        // Brings each destination's datagrams together and keeps their order.
        self.order.sort_unstable();
        let mut next = 0;
        while next < self.order.len() {
            let run = self.run_at(next);
            self.send_run(next, run, drops);
            next += run;
        }
        self.order.clear();
        self.entries.clear();
        self.arena.clear();
    }

    fn entry(&self, at: usize) -> Entry {
        let index = self.order[at] & u64::from(u32::MAX);
        self.entries[usize::try_from(index).expect("it was a usize when it was queued")]
    }

    /// Returns how many datagrams from `first` on fit into one send: one path and one size, the last may be shorter.
    fn run_at(&self, first: usize) -> usize {
        let head = self.entry(first);
        let segments_max = match self.sockets.get(usize::from(head.path.socket)) {
            Some(socket) => self.segments_max.min(socket.state.max_gso_segments()),
            None => 1,
        };
        if head.len > GSO_SEGMENT_BYTES_MAX || head.len == 0 {
            return 1;
        }
        let (mut run, mut bytes) = (1, head.len);
        while run < segments_max && first + run < self.order.len() {
            let entry = self.entry(first + run);
            if entry.path != head.path
                || entry.len > head.len
                || entry.len == 0
                || bytes + entry.len > GSO_BYTES_MAX
            {
                break;
            }
            run += 1;
            bytes += entry.len;
            if entry.len < head.len {
                break;
            }
        }
        run
    }

    fn send_run(&mut self, first: usize, run: usize, drops: &mut Drops) {
        let head = self.entry(first);
        let at = usize::from(head.path.socket);
        let Some(socket) = self.sockets.get(at) else {
            return drops.count_many(DropReason::SendFailed, run as u64);
        };
        if self.blocked[at] {
            return drops.count_many(DropReason::SendBlocked, run as u64);
        }
        let last = self.entry(first + run - 1);
        let (contents, segment_size) = if run == 1 {
            (&self.arena[head.start..head.start + head.len], None)
        } else if last.start == head.start + (run - 1) * head.len {
            (&self.arena[head.start..last.start + last.len], Some(head.len))
        } else {
            self.gathered.clear();
            for at in first..first + run {
                let entry = self.entry(at);
                self.gathered.extend_from_slice(&self.arena[entry.start..entry.start + entry.len]);
            }
            (&self.gathered[..], Some(head.len))
        };
        let bytes = contents.len() as u64;
        self.sent.calls += 1;
        match socket.send(head.path.to, head.path.asked, contents, segment_size) {
            Ok(()) => {
                self.sent.datagrams += run as u64;
                self.sent.bytes += bytes;
                self.sent.batched += if run > 1 { run as u64 } else { 0 };
            }
            Err(error) if is_full(&error) => {
                // Trying on would only burn time: the buffer drains while we receive.
                self.blocked[at] = true;
                drops.count_many(DropReason::SendBlocked, run as u64);
            }
            // Some devices refuse segmentation (EIO, EINVAL); the socket's state has turned it off by now.
            Err(_) if run > 1 => (first..first + run).for_each(|at| self.send_run(at, 1, drops)),
            Err(_) => drops.count(DropReason::SendFailed),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

fn new_buffer() -> Buffer {
    vec![0; BUFFER_BYTES].into_boxed_slice()
}

/// Writes IPv4 as IPv4 on a socket that takes both families.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
    }
}

/// Sorts destinations apart. Two that share a key only batch worse.
fn key_of(to: SocketAddr) -> u32 {
    let ip = match to.ip() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let folded = (ip ^ (ip >> 64)) & u128::from(u64::MAX);
    let folded = u64::try_from(folded).expect("it was masked") ^ (u64::from(to.port()) << 32);
    u32::try_from(folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).expect("32 bits are left")
}

/// Holds what GRO can put together.
const BUFFER_BYTES: usize = 65_536;

/// Largest UDP payload over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Bytes that may wait for a flush; less than a megabyte, so that they stay in the cache.
const ARENA_BYTES: usize = 512 * 1024;

/// Datagrams that may wait for a flush.
const ENTRIES_MAX: usize = 1024;

/// `UDP_MAX_SEGMENTS` of Linux before 6.9.
const GSO_SEGMENTS_MAX: usize = 64;

/// Largest sum of one send: one IP packet's worth.
const GSO_BYTES_MAX: usize = 64_000;

/// Largest segment that is put together with others. A segment over the path's MTU is refused with an error that looks
/// like missing support, which would turn segmentation off for all.
const GSO_SEGMENT_BYTES_MAX: usize = 1350;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Bench {
        outgoing: Outgoing,
        peers: Vec<UdpSocket>,
        drops: Drops,
        ours: SocketAddr,
    }

    fn bench(peers: usize, segments_max: usize) -> Bench {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ours = socket.local_addr().unwrap();
        let peers = (0..peers).map(|_| {
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            peer
        });
        let outgoing = Outgoing::new(vec![MediaSocket::new(socket).unwrap()], segments_max);
        Bench { outgoing, peers: peers.collect(), drops: Drops::default(), ours }
    }

    impl Bench {
        fn push(&mut self, peer: usize, bytes: &[u8]) {
            let path = Path { to: self.peers[peer].local_addr().unwrap(), asked: self.ours.ip(), socket: 0 };
            self.outgoing.push(path, bytes, &mut self.drops);
        }

        fn received(&self, peer: usize, count: usize) -> Vec<Vec<u8>> {
            let mut buffer = [0; 2048];
            let one = |_| {
                let (len, from) = self.peers[peer].recv_from(&mut buffer).unwrap();
                assert_eq!(from, self.ours);
                buffer[..len].to_vec()
            };
            (0..count).map(one).collect()
        }
    }

    #[tokio::test]
    async fn interleaved_bursts_leave_in_one_send_per_destination() {
        let mut bench = bench(3, 64);
        for n in 0..8_u8 {
            for peer in 0..3_u8 {
                let len = if n == 7 { 300 } else { 1000 };
                bench.push(usize::from(peer), &vec![n * 16 + peer; len]);
            }
        }
        bench.outgoing.flush(&mut bench.drops);
        for peer in 0..3_u8 {
            let got = bench.received(usize::from(peer), 8);
            for (n, datagram) in (0..8_u8).zip(got) {
                assert_eq!(datagram, vec![n * 16 + peer; if n == 7 { 300 } else { 1000 }]);
            }
        }
        let sent = bench.outgoing.sent;
        assert_eq!((sent.datagrams, sent.bytes), (24, 3 * (7 * 1000 + 300)));
        assert_eq!(bench.drops.total(), 0);
        if bench.outgoing.sockets[0].state.max_gso_segments() > 1 {
            assert_eq!((sent.calls, sent.batched), (3, 24));
        }
    }

    #[tokio::test]
    async fn sizes_and_order_survive_without_and_with_segmentation() {
        for segments_max in [1, 3, 64] {
            let mut bench = bench(1, segments_max);
            let sizes = [5, 5, 9, 9, 4, 9, 1, 1400, 1400, 0, 7];
            for (n, size) in (0_u8..).zip(sizes) {
                bench.push(0, &vec![n; size]);
            }
            bench.outgoing.flush(&mut bench.drops);
            let expected = (0_u8..).zip(sizes).map(|(n, size)| vec![n; size]).collect::<Vec<_>>();
            assert_eq!(bench.received(0, sizes.len()), expected, "{segments_max}");
            assert_eq!(bench.outgoing.sent.batched > 0, segments_max > 1);
        }
    }

    #[tokio::test]
    async fn full_arena_is_flushed_not_grown() {
        let mut bench = bench(1, 64);
        let (arena, entries) = (bench.outgoing.arena.capacity(), bench.outgoing.entries.capacity());
        for _ in 0..3 {
            for _ in 0..ENTRIES_MAX {
                bench.push(0, &[7; 1200]);
            }
        }
        bench.outgoing.flush(&mut bench.drops);
        assert_eq!(bench.outgoing.arena.capacity(), arena);
        assert_eq!(bench.outgoing.entries.capacity(), entries);
        let total = bench.outgoing.sent.datagrams + bench.drops.total();
        assert_eq!(total, 3 * ENTRIES_MAX as u64);
        bench.push(0, &vec![0; DATAGRAM_BYTES_MAX + 1]);
        assert_eq!(bench.drops.of(DropReason::TooLong), 1);
    }

    #[tokio::test]
    async fn refused_destination_is_counted_and_harms_no_other() {
        let mut bench = bench(1, 64);
        let nowhere = Path { to: "240.0.0.1:9".parse().unwrap(), asked: bench.ours.ip(), socket: 0 };
        bench.outgoing.push(nowhere, &[1; 10], &mut bench.drops);
        bench.outgoing.push(nowhere, &[1; 10], &mut bench.drops);
        bench.push(0, b"here");
        bench.outgoing.flush(&mut bench.drops);
        assert_eq!(bench.received(0, 1), [b"here"]);
        assert_eq!(bench.drops.of(DropReason::SendFailed), 2);
    }

    #[test]
    fn lent_buffers_are_bounded_for_each_worker() {
        let mut intake = Intake::new(3, BATCH_SIZE + 4);
        let kept = (0..2).map(|at| intake.lend(at, 1).unwrap()).collect::<Vec<_>>();
        assert!(intake.lend(2, 1).is_none());
        assert!(intake.lend(2, 2).is_some(), "one that stalls takes nothing from the others");
        assert_eq!(intake.made(), BATCH_SIZE + 3);
        for buffer in kept {
            intake.take_back(1, buffer);
        }
        assert!(intake.lend(3, 1).is_some());
        assert_eq!(intake.made(), BATCH_SIZE + 3, "what came back is used again");
    }

    #[test]
    fn both_families_have_one_spelling() {
        for (address, expected) in [
            ("[::ffff:192.0.2.1]:9", "192.0.2.1:9"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
            ("192.0.2.1:9", "192.0.2.1:9"),
        ] {
            assert_eq!(canonical(address.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
