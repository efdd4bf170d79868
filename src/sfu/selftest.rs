//! A synthetic participant that joins each worker from outside, every few seconds.
//!
//! Two clients with sockets of their own enter a hidden room on exactly that worker; one sends sound, the other must
//! hear it: ICE, DTLS, SRTP, rooms and forwarding all work, or the worker is not healthy, and the reason says how far
//! it got. Datagrams go to the media port as those of any client do, so the kernel may hand them to any worker.
//!
//! One failure may be a busy moment; [`FALL`] in a row are not. A pass heals at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::client::{Client, Said, Sent};
use super::command::{Command, Join, Role, SessionId};
use super::control::Sfu;
use super::room::RoomRef;
use super::signalling::message::Source;
use crate::clock;

/// How the workers are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelftestConfig {
    /// Where the media port is reached from this machine.
    pub target: SocketAddr,
    /// Pause between two tests of a worker. Default 5 s.
    pub every: Duration,
    /// A test that takes longer has failed. Default 2 s.
    pub deadline: Duration,
}

impl SelftestConfig {
    /// Tests through the first bound address, or through loopback when that is a wildcard; `None` without one.
    pub fn new(bound: &[SocketAddr], every: Duration) -> Option<Self> {
        let mut target = *bound.first()?;
        if target.ip().is_unspecified() {
            target.set_ip(match target.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        Some(Self { target, every, deadline: DEADLINE })
    }
}

/// The last results. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Selftest {
    results: Arc<[ArcSwap<SelftestResult>]>,
}

/// What the tests of one worker say.
#[derive(Clone, Debug)]
pub struct SelftestResult {
    /// Whether the worker passed, or how far the test got, in words for the operator.
    pub outcome: Result<(), String>,
    /// When; `None` before the first one.
    pub at: Option<Instant>,
}

impl Selftest {
    /// Begins to test all workers, until the process stops. Must be called within a runtime.
    pub fn start(sfu: &Sfu, config: SelftestConfig) -> Self {
        let untested = SelftestResult { outcome: Err("no self-test has passed yet".to_owned()), at: None };
        let workers = sfu.reports().len();
        let selftest =
            Self { results: (0..workers).map(|_| ArcSwap::from_pointee(untested.clone())).collect() };
        for worker in 0..u8::try_from(workers).unwrap_or(u8::MAX) {
            let (sfu, tests) = (sfu.clone(), selftest.clone());
            let tasks = sfu.tasks().clone();
            tasks.spawn(async move { tests.run(&sfu, worker, config).await });
        }
        selftest
    }

    /// Returns whether a worker passed, or why not.
    ///
    /// # Errors
    ///
    /// How far the last test got, in words for the operator.
    pub fn health(&self, worker: u8) -> Result<(), String> {
        match self.last(worker) {
            Some(last) => last.outcome.clone(),
            None => Err("there is no such worker".to_owned()),
        }
    }

    /// Returns the last result that counted; `None` if there is no such worker.
    pub fn last(&self, worker: u8) -> Option<Arc<SelftestResult>> {
        self.results.get(usize::from(worker)).map(ArcSwap::load_full)
    }

    async fn run(&self, sfu: &Sfu, worker: u8, config: SelftestConfig) {
        let label = worker.to_string();
        let mut failures = 0;
        loop {
            let result = tokio::select! {
                () = sfu.tasks().stopping().cancelled() => return,
                result = test(sfu, worker, &config) => result,
            };
            let name = if result.is_ok() { "pass" } else { "fail" };
            sfu.metrics().selftests.with_label_values(&[label.as_str(), name]).inc();
            failures = if result.is_ok() { 0 } else { failures + 1 };
            if (result.is_ok() || failures >= FALL)
                && let Some(last) = self.results.get(usize::from(worker))
            {
                let gauge = sfu.metrics().selftest_passed.with_label_values(&[label.as_str()]);
                gauge.set(i64::from(result.is_ok()));
                last.store(Arc::new(SelftestResult { outcome: result, at: Some(clock::now()) }));
            }
            let pause = if failures > 0 { config.every.min(AFTER_FAILURE) } else { config.every };
            tokio::select! {
                () = sfu.tasks().stopping().cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// Runs one test.
async fn test(sfu: &Sfu, worker: u8, config: &SelftestConfig) -> Result<(), String> {
    let begun = clock::now();
    let mut progress = Progress::default();
    match tokio::time::timeout(config.deadline, attempt(sfu, worker, config.target, &mut progress)).await {
        Ok(result) => result,
        Err(_) => {
            let after = clock::now().duration_since(begun).as_secs_f64();
            Err(format!("{} within {after:.1} s (asked at {})", progress.missing(), config.target))
        }
    }
}

/// How far a test has got.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    joined: bool,
    answered: bool,
    connected: bool,
}

impl Progress {
    fn missing(self) -> &'static str {
        match self {
            Self { joined: false, .. } => "the worker did not take the join",
            Self { answered: false, .. } => "no STUN answer",
            Self { connected: false, .. } => "DTLS did not finish",
            Self { .. } => "no RTP came back",
        }
    }
}

async fn attempt(sfu: &Sfu, worker: u8, target: SocketAddr, progress: &mut Progress) -> Result<(), String> {
    let room = RoomRef::Hidden(ROOMS.fetch_add(1, Ordering::Relaxed));
    let mut talker = Peer::join(sfu, worker, &room, target, &[Source::Microphone], 0).await?;
    let mut hearer = Peer::join(sfu, worker, &room, target, &[], 1).await?;
    progress.joined = true;
    let (mut seq, mut next_sound) = (1, clock::now());
    let (mut to_talker, mut to_hearer) = ([0; DATAGRAM_BYTES_MAX], [0; DATAGRAM_BYTES_MAX]);
    loop {
        talker.pump()?;
        hearer.pump()?;
        progress.answered |= talker.answered && hearer.answered;
        progress.connected |= talker.client.is_connected() && hearer.client.is_connected();
        if hearer.heard {
            return Ok(());
        }
        let now = clock::now();
        if progress.connected && now >= next_sound {
            next_sound = now + SOUND_EVERY;
            talker.sound(seq, now)?;
            seq += 1;
        }
        let wake = if progress.connected { next_sound } else { now + IDLE };
        let wake = wake.min(talker.due).min(hearer.due);
        tokio::select! {
            received = talker.socket.recv(&mut to_talker) => talker.take(received, &to_talker),
            received = hearer.socket.recv(&mut to_hearer) => hearer.take(received, &to_hearer),
            () = tokio::time::sleep_until(wake.into()) => {
                let now = clock::now();
                talker.client.handle_timeout(now);
                hearer.client.handle_timeout(now);
            }
        }
    }
}

/// One of the two clients.
struct Peer {
    client: Client,
    socket: UdpSocket,
    target: SocketAddr,
    due: Instant,
    answered: bool,
    heard: bool,
    // Leaves the room when the test is over, however it ends.
    _seat: Seat,
}

struct Seat {
    sfu: Sfu,
    worker: u8,
    session: SessionId,
    // The room has nothing to say, but a closed channel would be noticed.
    _notices: mpsc::Receiver<super::command::Notice>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.sfu.tell(self.worker, Command::Leave { session: self.session });
    }
}

impl Peer {
    async fn join(
        sfu: &Sfu,
        worker: u8,
        room: &RoomRef,
        target: SocketAddr,
        sends: &[Source],
        hears: u16,
    ) -> Result<Self, String> {
        let any = if target.is_ipv4() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await.map_err(|e| format!("no socket: {e}"))?;
        socket.connect(target).await.map_err(|e| format!("no way to {target}: {e}"))?;
        let address = socket.local_addr().map_err(|e| format!("no socket: {e}"))?;
        let (notices, heard) = mpsc::channel(NOTICES_MAX);
        let join = Join { room: room.clone(), name: String::new(), role: Role::Ingest, notices };
        let joined = sfu.join(worker, join).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        let seat = Seat { sfu: sfu.clone(), worker, session: joined.session, _notices: heard };
        let now = clock::now();
        let mut client = Client::new(address, now);
        let (sdp, tracks) = client.offer(sends, hears, 0, &[]).ok_or("the client has nothing to offer")?;
        let answer = sfu.offer(worker, joined.session, sdp, tracks).await.map_err(|e| e.to_string())?;
        client.answer(&aim(&answer.map_err(|e| e.to_string())?, target))?;
        Ok(Self { client, socket, target, due: now, answered: false, heard: false, _seat: seat })
    }

    /// Sends what the client has to say.
    fn pump(&mut self) -> Result<(), String> {
        for _ in 0..PUMP_MAX {
            match self.client.poll() {
                // What cannot be sent is lost, as on any network; a closed port says so again on the next receive.
                Said::Transmit { bytes, .. } => drop(self.socket.try_send(&bytes)),
                Said::Received(_) => self.heard = true,
                Said::Connected | Said::KeyframeWanted { .. } => {}
                Said::Closed => return Err("the worker closed the session".to_owned()),
                Said::Failed(reason) => return Err(reason),
                Said::Timeout(at) => {
                    let now = clock::now();
                    if at > now {
                        self.due = at;
                        return Ok(());
                    }
                    self.client.handle_timeout(now);
                }
            }
        }
        self.due = clock::now() + IDLE;
        Ok(())
    }

    fn take(&mut self, received: std::io::Result<usize>, buffer: &[u8]) {
        let Ok(length) = received else { return };
        let Some(bytes) = buffer.get(..length) else { return };
        // RFC 8489 section 5: class success response, method Binding.
        self.answered |= bytes.starts_with(&[0x01, 0x01]);
        self.client.handle_datagram(self.target, bytes, clock::now());
    }

    fn sound(&mut self, seq: u64, now: Instant) -> Result<(), String> {
        let time = u32::try_from(seq).unwrap_or_default().wrapping_mul(960);
        let sent = Sent { source: Source::Microphone, rid: None, seq, time, marker: false, payload: SOUND };
        self.client.send(&sent, now);
        self.pump()
    }
}

/// Puts the tested address in the place of an answer's candidates: those may not be reachable from here.
fn aim(answer: &str, target: SocketAddr) -> String {
    let mut aimed = String::with_capacity(answer.len());
    let mut is_first = true;
    for line in answer.lines().filter(|line| !line.starts_with("a=candidate:")) {
        aimed.push_str(line);
        aimed.push_str("\r\n");
        if line.starts_with("a=mid:") && std::mem::take(&mut is_first) {
            aimed.push_str(&format!(
                "a=candidate:1 1 udp 2130706431 {} {} typ host\r\n",
                target.ip(),
                target.port()
            ));
        }
    }
    aimed
}

/// Failures in a row that make a worker unhealthy.
pub const FALL: u32 = 2;
const DEADLINE: Duration = Duration::from_secs(2);
/// A failure is looked at again soon.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
const SOUND_EVERY: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(100);
const NOTICES_MAX: usize = 32;
const PUMP_MAX: usize = 64;
const DATAGRAM_BYTES_MAX: usize = 2048;
/// One Opus frame of silence: SILK narrowband, 20 ms (RFC 6716 section 3.1).
const SOUND: &[u8] = &[0x08, 0x0b, 0xe4, 0xc1, 0x36, 0xec, 0xc5, 0x80];
static ROOMS: AtomicU64 = AtomicU64::new(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_aimed_at_the_tested_address() {
        let answer = "v=0\r\nm=audio 9 x 111\r\na=candidate:1 1 udp 1 203.0.113.1 10000 typ host ufrag abc\r\n\
            a=mid:0\r\nm=video 9 x 96\r\na=mid:1\r\n";
        let aimed = aim(answer, "127.0.0.1:4000".parse().unwrap());
        let candidates: Vec<&str> = aimed.lines().filter(|line| line.starts_with("a=candidate:")).collect();
        assert_eq!(candidates, ["a=candidate:1 1 udp 2130706431 127.0.0.1 4000 typ host"]);
    }

    #[test]
    fn a_wildcard_is_tested_through_loopback() {
        for (bound, expected) in [
            ("0.0.0.0:10000", "127.0.0.1:10000"),
            ("[::]:10000", "[::1]:10000"),
            ("192.0.2.1:10000", "192.0.2.1:10000"),
        ] {
            let config = SelftestConfig::new(&[bound.parse().unwrap()], Duration::from_secs(5)).unwrap();
            assert_eq!(config.target, expected.parse().unwrap());
        }
        assert_eq!(SelftestConfig::new(&[], Duration::from_secs(5)), None);
    }

    #[test]
    fn the_reason_says_how_far_it_got() {
        for (joined, answered, connected, expected) in [
            (false, false, false, "the worker did not take the join"),
            (true, false, false, "no STUN answer"),
            (true, true, false, "DTLS did not finish"),
            (true, true, true, "no RTP came back"),
        ] {
            assert_eq!(Progress { joined, answered, connected }.missing(), expected);
        }
    }
}
