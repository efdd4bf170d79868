//! All media workers of the process: started, spoken to, watched and stopped from here.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::host::Host;
use super::identity::WorkerIdentity;
use super::report::WorkerReport;
use super::wake::Wake;
use super::worker::{self, Control};
use super::{addresses, socket};
use crate::clock;
use crate::config::settings::{Advertise, EdgeIdentity, MediaSettings};
use crate::telemetry::metrics::{MediaMetrics, MediaSample, MediaSource};
use crate::wire::ufrag::{GENERATION_MAX, UfragCodec};

/// What the workers are started with.
#[derive(Clone, Debug)]
pub struct WorkersConfig {
    /// UDP addresses, each with one socket per worker. Port 0 draws one port for all.
    pub bind: Vec<SocketAddr>,
    /// How many workers; at least 1.
    pub count: u8,
    /// Id of this edge.
    pub edge: u16,
    /// AES-128 key of the ICE ufrags; `None` draws one.
    pub key: Option<[u8; 16]>,
    /// What candidates tell clients.
    pub advertise: Advertise,
    /// Addresses of this edge in the configuration.
    pub public: Vec<IpAddr>,
    /// Bounds of each worker.
    pub limits: WorkerLimits,
}

impl WorkersConfig {
    /// Takes the values from the settings.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the key does not have 16 bytes, which is what the configuration makes of its hex digits.
    pub fn from_settings(media: &MediaSettings, edge: &EdgeIdentity, count: u8) -> io::Result<Self> {
        let key = match &media.key {
            None => None,
            Some(secret) => Some(secret.expose().try_into().map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidInput, format!("media.key: {secret} is not 16 bytes"))
            })?),
        };
        Ok(Self {
            bind: media.bind.clone(),
            count,
            edge: edge.id,
            key,
            advertise: media.advertise.clone(),
            public: edge.public.clone(),
            limits: WorkerLimits::default(),
        })
    }
}

/// Bounds of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerLimits {
    /// Validated flows; a further one is refused. About 200 B each. Default 65 536.
    pub flows_max: usize,
    /// STUN requests whose answer has not been seen; the oldest is forgotten. Default 4096.
    pub pending_max: usize,
    /// Messages from other workers; a further one is dropped. 0 takes the ring out. Default 1024.
    pub ring_capacity: usize,
    /// Commands and closures from the control side; a further one is refused. Default 1024.
    pub commands_max: usize,
    /// Receive buffers of 64 KiB, made as they are needed; at least 64. Default 512.
    pub buffers_max: usize,
    /// Datagrams of one destination that may leave in one send (GSO), at most 64; 1 turns it off. Default 64.
    pub gso_segments_max: usize,
}

impl Default for WorkerLimits {
    fn default() -> Self {
        Self {
            flows_max: 65_536,
            pending_max: 4096,
            ring_capacity: 1024,
            commands_max: 1024,
            buffers_max: 512,
            gso_segments_max: 64,
        }
    }
}

/// All workers of the process. `C`: the host's commands, `R`: its report.
#[derive(Debug)]
pub struct Workers<C, R> {
    handles: Vec<WorkerHandle<C, R>>,
    local: Vec<SocketAddr>,
    candidates: Vec<SocketAddr>,
    generation: u32,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<C: Send + 'static, R: Send + Sync + Default + 'static> Workers<C, R> {
    /// Opens the sockets and starts one thread per worker. `make` runs on each worker's own thread.
    ///
    /// # Errors
    ///
    /// An address that cannot be bound, or a thread that cannot be started.
    pub fn start<H: Host<Command = C, Report = R> + 'static>(
        config: WorkersConfig,
        make: impl Fn(WorkerIdentity) -> H + Clone + Send + 'static,
        metrics: MediaMetrics,
    ) -> io::Result<Self> {
        let count = config.count.max(1);
        let (sockets, local) = socket::open(&config.bind, count)?;
        let candidates = addresses::resolve(&config.advertise, &config.public, &local);
        let generation = rand::random::<u32>() & GENERATION_MAX;
        let codec = Arc::new(UfragCodec::new(config.key.unwrap_or_else(rand::random)));
        let epoch = clock::now();

        let wakes = sockets.iter().map(|_| Arc::new(Wake::default())).collect::<Vec<_>>();
        let rings = worker::rings(&wakes, &config.limits);
        let mut handles = Vec::with_capacity(sockets.len());
        let mut parts = Vec::with_capacity(sockets.len());
        for (((worker, sockets), ring), wake) in (0..count).zip(sockets).zip(rings).zip(wakes) {
            let (control, commands) = mpsc::sync_channel(config.limits.commands_max);
            let shared = Arc::new(Shared {
                worker,
                epoch,
                wake,
                beat: AtomicU64::new(0),
                stopping: AtomicBool::new(false),
                running: AtomicBool::new(true),
                report: ArcSwap::default(),
                inodes: sockets.iter().map(socket::inode).collect(),
            });
            let identity = WorkerIdentity {
                edge: config.edge,
                worker,
                generation,
                codec: Arc::clone(&codec),
                candidates: candidates.clone(),
            };
            handles.push(WorkerHandle { shared: Arc::clone(&shared), control });
            let limits = config.limits.clone();
            parts.push(worker::Parts { identity, workers: count, sockets, commands, ring, shared, limits });
        }

        let mut threads = Vec::with_capacity(parts.len());
        for parts in parts {
            let make = make.clone();
            let name = format!("media-{}", parts.identity.worker);
            match std::thread::Builder::new().name(name).spawn(move || worker::run(parts, make)) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    handles.iter().for_each(|handle| handle.shared.stop());
                    return Err(error);
                }
            }
        }
        metrics.watch(handles.iter().map(WorkerHandle::source).collect());
        Ok(Self { handles, local, candidates, generation, threads: Mutex::new(threads) })
    }

    /// Returns how many workers there are.
    pub fn count(&self) -> u8 {
        u8::try_from(self.handles.len()).expect("WorkersConfig::count is a u8")
    }

    /// Returns the bound addresses, in the order of the configuration.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local
    }

    /// Returns the host candidates that answers name.
    pub fn candidates(&self) -> &[SocketAddr] {
        &self.candidates
    }

    /// Returns the generation of this process, part of every ufrag.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns one worker.
    pub fn handle(&self, worker: u8) -> Option<&WorkerHandle<C, R>> {
        self.handles.get(usize::from(worker))
    }

    /// Returns all workers.
    pub fn handles(&self) -> &[WorkerHandle<C, R>] {
        &self.handles
    }

    /// Tells all workers to take one more turn, say goodbye to their sessions' clients and end. Returns at once;
    /// [`Workers::join`] waits for it.
    pub fn stop(&self) {
        self.handles.iter().for_each(|handle| handle.shared.stop());
    }

    /// Waits for all workers to end, at most `deadline`. Returns how many still run. Blocks: not for async code.
    pub fn join(&self, deadline: Duration) -> usize {
        let end = clock::now() + deadline;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut left = Vec::new();
            for thread in threads.drain(..) {
                if thread.is_finished() {
                    // A panic was logged where it happened.
                    let _ = thread.join();
                } else {
                    left.push(thread);
                }
            }
            *threads = left;
            if threads.is_empty() || clock::now() >= end {
                return threads.len();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl<C, R> Drop for Workers<C, R> {
    fn drop(&mut self) {
        self.handles.iter().for_each(|handle| handle.shared.stop());
    }
}

/// The control side of one worker. Cheap to clone.
#[derive(Debug)]
pub struct WorkerHandle<C, R> {
    shared: Arc<Shared<R>>,
    control: SyncSender<Control<C>>,
}

impl<C, R> Clone for WorkerHandle<C, R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), control: self.control.clone() }
    }
}

/// Why a worker did not take a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Its queue is full.
    #[error("the worker's command queue is full")]
    Full,
    /// Its thread has ended.
    #[error("the worker has ended")]
    Gone,
}

impl<C: Send + 'static, R: Send + Sync + 'static> WorkerHandle<C, R> {
    /// Returns the worker's number, from 0.
    pub fn worker(&self) -> u8 {
        self.shared.worker
    }

    /// Queues a command for the host. Never blocks.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] at [`WorkerLimits::commands_max`] waiting commands, [`SendError::Gone`] after its end.
    pub fn send(&self, command: C) -> Result<(), SendError> {
        self.control(Control::Command(command))
    }

    /// Runs a closure on the worker's thread between two datagrams. Never blocks here; what it does stalls the worker.
    ///
    /// # Errors
    ///
    /// As [`WorkerHandle::send`].
    pub fn run_on(&self, f: Box<dyn FnOnce() + Send>) -> Result<(), SendError> {
        self.control(Control::Run(f))
    }

    /// Returns how long ago the worker began its last turn. A worker that lives begins one every 100 ms.
    pub fn heartbeat_age(&self, now: Instant) -> Duration {
        let beat = Duration::from_millis(self.shared.beat.load(Ordering::Acquire));
        now.saturating_duration_since(self.shared.epoch).saturating_sub(beat)
    }

    /// Returns whether its thread runs: false after a stop or a panic.
    pub fn is_running(&self) -> bool {
        self.shared.running.load(Ordering::Acquire)
    }

    /// Returns the values of the last second.
    pub fn report(&self) -> Arc<WorkerReport<R>> {
        self.shared.report.load_full()
    }

    /// Returns how many datagrams the kernel dropped because this worker's receive buffer was full.
    ///
    /// Reads `/proc/net/udp`: for scrapes and pages, not for a hot path.
    pub fn socket_drops(&self) -> u64 {
        self.shared.socket_drops()
    }

    fn control(&self, control: Control<C>) -> Result<(), SendError> {
        match self.control.try_send(control) {
            Ok(()) => {
                self.shared.wake.ring();
                Ok(())
            }
            Err(TrySendError::Full(_)) => Err(SendError::Full),
            Err(TrySendError::Disconnected(_)) => Err(SendError::Gone),
        }
    }

    fn source(&self) -> Arc<dyn MediaSource> {
        Arc::clone(&self.shared) as Arc<dyn MediaSource>
    }
}

/// What a worker shares with the control side. The worker writes; nobody waits for it.
#[derive(Debug)]
pub(super) struct Shared<R> {
    pub(super) worker: u8,
    /// Heartbeats count from here.
    epoch: Instant,
    pub(super) wake: Arc<Wake>,
    /// Milliseconds from `epoch` to the start of the last turn.
    beat: AtomicU64,
    pub(super) stopping: AtomicBool,
    pub(super) running: AtomicBool,
    pub(super) report: ArcSwap<WorkerReport<R>>,
    inodes: Vec<u64>,
}

impl<R> Shared<R> {
    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake.ring();
    }

    /// Says that a turn begins.
    pub(super) fn beat(&self, now: Instant) {
        let since = now.saturating_duration_since(self.epoch).as_millis();
        self.beat.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn socket_drops(&self) -> u64 {
        socket::kernel_drops(&self.inodes).into_iter().sum()
    }
}

impl<R: Send + Sync> MediaSource for Shared<R> {
    fn sample(&self) -> MediaSample {
        let report = self.report.load();
        MediaSample {
            worker: self.worker,
            running: self.running.load(Ordering::Acquire),
            datagrams_in: report.datagrams_in,
            bytes_in: report.bytes_in,
            datagrams_out: report.datagrams_out,
            bytes_out: report.bytes_out,
            receives: report.receives,
            sends: report.sends,
            datagrams_out_batched: report.datagrams_out_batched,
            ring_out: report.ring_out,
            ring_in: report.ring_in,
            drops: report.drops.iter().map(|(reason, count)| (reason.as_str(), count)).collect(),
            socket_drops: self.socket_drops(),
            flows: report.flows as u64,
            pending: report.pending as u64,
            buffers: report.buffers as u64,
            turns: report.turns,
            turn_p99_seconds: report.turn_p99.as_secs_f64(),
            turn_max_seconds: report.turn_max.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::settings::Secret;

    #[test]
    fn the_key_is_the_16_bytes_that_the_configuration_hands_over() {
        let key = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255];
        let edge = EdgeIdentity { name: None, id: 1, public: Vec::new(), region: None };
        let taken = |key: Option<&[u8]>| {
            let media = MediaSettings {
                bind: Vec::new(),
                advertise: Advertise::Auto,
                key: key.map(|key| Secret::new("file:media.key", key)),
                sessions_max: NonZeroU32::MIN,
                selftest_every: Duration::from_secs(1),
            };
            WorkersConfig::from_settings(&media, &edge, 1).map(|config| config.key).ok()
        };
        assert_eq!(taken(Some(&key)), Some(Some(key)));
        assert_eq!(taken(None), Some(None));
        // One parser: hex digits are the configuration's.
        for bad in [&b""[..], &key[1..], b"000102030405060708090a0b0c0d0eff"] {
            assert_eq!(taken(Some(bad)), None);
        }
    }
}
