//! Addresses of nodes: names are looked up when they are dialled and remembered for a few seconds.
//!
//! Requests and checks ask the same memory. A name is looked up once at a time, whoever wants it; a name server that is
//! slow or away delays nobody who can have an older answer, and does not take the nodes along.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounterVec;
use tokio::sync::watch;

use crate::clock;
use crate::config::settings::Name;

/// An answer is used for this long, and after a failure an older one; a node that moved is found again after it.
const FRESH: Duration = Duration::from_secs(5);
/// An answer up to this age is used while the name is looked up again. One that nobody wanted for longer is waited for,
/// unless it fails.
const USED_MEANWHILE: Duration = Duration::from_secs(60);
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Names remembered at once. At the cap old answers go; what has no place is looked up each time.
const NAMES_MAX: usize = 4096;
/// Addresses of one name that are tried; what a name server says beyond is not looked at.
const ADDRESSES_MAX: usize = 8;

/// A host and a port.
type Key = (Name, u16);
/// What a lookup brings.
type Answer = Result<Arc<[SocketAddr]>, Arc<io::Error>>;
/// Asks the system, or in a test something else.
type Lookup =
    Box<dyn Fn(Key) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync>;

/// Remembers what names stand for.
pub struct Resolver {
    names: Mutex<HashMap<Key, Entry>>,
    lookup: Lookup,
    lookups: IntCounterVec,
}

#[derive(Default)]
struct Entry {
    known: Option<Known>,
    /// When it was looked up last, and whether that failed.
    tried: Option<(Instant, bool)>,
    /// The lookup that is under way. Its sender is dropped unsaid when its thread ends.
    flight: Option<watch::Receiver<Option<Answer>>>,
}

struct Known {
    /// In the order in which they are tried; at least one.
    addresses: Arc<[SocketAddr]>,
    /// The one that took a connection last.
    worked: Option<SocketAddr>,
    since: Instant,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("names", &self.names().len()).finish_non_exhaustive()
    }
}

impl Resolver {
    pub(super) fn new(lookups: IntCounterVec) -> Self {
        let ask = |(host, port): Key| -> Pin<Box<dyn Future<Output = _> + Send>> {
            Box::pin(async move { Ok(tokio::net::lookup_host((&*host, port)).await?.collect()) })
        };
        Self { names: Mutex::default(), lookup: Box::new(ask), lookups }
    }

    /// Returns the addresses of a host as it stands in the configuration, at least one, in the order in which they
    /// are to be tried: the one that worked last, then as the name server says.
    ///
    /// # Errors
    /// The name has no address, or the answer took too long, and none is known from before.
    pub async fn resolve(self: &Arc<Self>, host: &Name, port: u16) -> Answer {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Arc::new([SocketAddr::new(address, port)]));
        }
        let (mut flight, known) = match self.look(&(host.clone(), port), clock::now()) {
            Look::Known(addresses) => return Ok(addresses),
            Look::Wait(flight, known) => (flight, known),
        };
        let answer = match flight.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone(),
            Err(_) => None,
        };
        match (answer, known) {
            (Some(Ok(addresses)), _) | (Some(Err(_)) | None, Some(addresses)) => Ok(addresses),
            (Some(Err(error)), None) => Err(error),
            // Its thread ended.
            (None, None) => Err(Arc::new(io::ErrorKind::Interrupted.into())),
        }
    }

    /// Finds what is known, and starts a lookup where one is due.
    fn look(self: &Arc<Self>, key: &Key, now: Instant) -> Look {
        let mut names = self.names();
        if names.len() >= NAMES_MAX && !names.contains_key(key) {
            names.retain(|_, entry| entry.is_fresh(now) || entry.is_under_way());
            if names.len() >= NAMES_MAX {
                return Look::Wait(self.start(key.clone()), None);
            }
        }
        let entry = names.entry(key.clone()).or_default();
        let known = entry.known.as_ref().map(|known| known.addresses.clone());
        if let (Some(addresses), true) = (&known, entry.is_fresh(now)) {
            return Look::Known(addresses.clone());
        }
        let under_way = entry.flight.clone().filter(|_| entry.is_under_way());
        let flight = under_way.unwrap_or_else(|| self.start(key.clone()));
        entry.flight = Some(flight.clone());
        let recent =
            entry.known.as_ref().is_some_and(|known| now.duration_since(known.since) < USED_MEANWHILE);
        let failing = entry.tried.is_some_and(|(_, failed)| failed);
        match known {
            Some(addresses) if recent || failing => Look::Known(addresses),
            known => Look::Wait(flight, known),
        }
    }

    /// Looks a name up for all who want it: it goes on when one of them leaves.
    fn start(self: &Arc<Self>, key: Key) -> watch::Receiver<Option<Answer>> {
        let (landed, flight) = watch::channel(None);
        let resolver = self.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "bounded in time and number, and nothing has to wait for its end"
        )]
        tokio::spawn(async move {
            let answer = match tokio::time::timeout(TIMEOUT, (resolver.lookup)(key.clone())).await {
                Ok(Ok(addresses)) if addresses.is_empty() => Err(io::ErrorKind::NotFound.into()),
                Ok(answer) => answer,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            let result = match &answer {
                Ok(_) => "found",
                Err(error) if error.kind() == io::ErrorKind::TimedOut => "timeout",
                Err(_) => "failed",
            };
            resolver.lookups.with_label_values(&[result]).inc();
            let answer = match answer {
                Ok(addresses) => Ok(resolver.remember(&key.0, key.1, addresses, clock::now())),
                Err(error) => Err(resolver.failed(&key, error, clock::now())),
            };
            landed.send_replace(Some(answer));
        });
        flight
    }

    fn failed(&self, key: &Key, error: io::Error, now: Instant) -> Arc<io::Error> {
        let mut names = self.names();
        let Some(entry) = names.get_mut(key) else { return Arc::new(error) };
        let was_failing = entry.tried.replace((now, true)).is_some_and(|(_, failed)| failed);
        entry.flight = None;
        let is_known = entry.known.is_some();
        drop(names);
        if is_known && !was_failing {
            tracing::warn!(host = &*key.0, %error, "a node's name cannot be looked up: its last addresses stay in use");
        }
        Arc::new(error)
    }

    /// Takes an answer, and returns it in the order in which it is to be tried.
    pub(crate) fn remember(
        &self,
        host: &Name,
        port: u16,
        mut addresses: Vec<SocketAddr>,
        now: Instant,
    ) -> Arc<[SocketAddr]> {
        addresses.truncate(ADDRESSES_MAX);
        let mut names = self.names();
        let key = (host.clone(), port);
        if names.len() >= NAMES_MAX && !names.contains_key(&key) {
            return addresses.into();
        }
        let entry = names.entry(key).or_default();
        let (was_known, worked) = match &entry.known {
            Some(known) => (true, known.worked),
            None => (false, None),
        };
        put_first(&mut addresses, worked);
        let addresses: Arc<[SocketAddr]> = addresses.into();
        entry.known = Some(Known { addresses: addresses.clone(), worked, since: now });
        entry.flight = None;
        let was_failing = entry.tried.replace((now, false)).is_some_and(|(_, failed)| failed);
        drop(names);
        if was_failing && was_known {
            tracing::info!(host = &**host, "a node's name can be looked up again");
        }
        addresses
    }

    /// Notes which address took a connection: it is tried first from now on.
    pub fn worked(&self, host: &Name, address: SocketAddr) {
        let mut names = self.names();
        let entry = names.get_mut(&(host.clone(), address.port()));
        let Some(known) = entry.and_then(|entry| entry.known.as_mut()) else { return };
        if known.worked != Some(address) {
            known.worked = Some(address);
            let mut addresses = known.addresses.to_vec();
            put_first(&mut addresses, known.worked);
            known.addresses = addresses.into();
        }
    }

    fn names(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be done with a name.
enum Look {
    /// These are used.
    Known(Arc<[SocketAddr]>),
    /// An answer is waited for; if there is none, these are used.
    Wait(watch::Receiver<Option<Answer>>, Option<Arc<[SocketAddr]>>),
}

impl Entry {
    fn is_fresh(&self, now: Instant) -> bool {
        self.tried.is_some_and(|(at, _)| now.saturating_duration_since(at) < FRESH)
    }

    fn is_under_way(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.has_changed().is_ok())
    }
}

/// Moves an address to the front, if it is there; the others keep their order.
fn put_first(addresses: &mut [SocketAddr], first: Option<SocketAddr>) {
    if let Some(at) = addresses.iter().position(|address| Some(*address) == first)
        && let Some(front) = addresses.get_mut(..=at)
    {
        front.rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn lookups() -> IntCounterVec {
        IntCounterVec::new(prometheus::Opts::new("lookups", "lookups"), &["result"]).unwrap()
    }

    /// A name server whose next answer is let out by hand.
    fn asked()
    -> (Arc<Resolver>, Arc<AtomicUsize>, tokio::sync::mpsc::UnboundedSender<io::Result<Vec<SocketAddr>>>)
    {
        let (say, answers) = tokio::sync::mpsc::unbounded_channel();
        let (answers, asked) = (Arc::new(tokio::sync::Mutex::new(answers)), Arc::new(AtomicUsize::new(0)));
        let counted = asked.clone();
        let lookup: Lookup = Box::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            let answers = answers.clone();
            Box::pin(async move { answers.lock().await.recv().await.unwrap() })
        });
        (Arc::new(Resolver { names: Mutex::default(), lookup, lookups: lookups() }), asked, say)
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_once_at_a_time_and_what_is_known_is_used_meanwhile() {
        let (resolver, asked, say) = asked();
        let host = Name::from("node.test");
        let [a, b] = [1, 2].map(|n| SocketAddr::from(([127, 0, 0, n], 80)));
        let age = |by: Duration| {
            let mut names = resolver.names();
            let entry = names.get_mut(&(host.clone(), 80)).unwrap();
            entry.tried = entry.tried.map(|(at, failed)| (at.checked_sub(by).unwrap(), failed));
            let known = entry.known.as_mut().unwrap();
            known.since = known.since.checked_sub(by).unwrap();
        };
        // Nothing is known: all wait for one.
        let all = futures_util::future::join_all((0..50).map(|_| resolver.resolve(&host, 80)));
        let (all, ()) = tokio::join!(all, async { say.send(Ok(vec![a])).unwrap() });
        assert!(all.iter().all(|got| **got.as_ref().unwrap() == [a]));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        // It is old, and used while it is looked up again.
        age(FRESH);
        for _ in 0..50 {
            assert_eq!(*resolver.resolve(&host, 80).await.unwrap(), [a]);
        }
        say.send(Ok(vec![b])).unwrap();
        while *resolver.resolve(&host, 80).await.unwrap() != [b] {
            tokio::task::yield_now().await;
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        // It is very old: the answer is waited for.
        age(USED_MEANWHILE);
        say.send(Ok(vec![a])).unwrap();
        assert_eq!(*resolver.resolve(&host, 80).await.unwrap(), [a]);
        // The name server is away: the first one waits for it, nobody does after that.
        age(USED_MEANWHILE);
        assert_eq!(*resolver.resolve(&host, 80).await.unwrap(), [a], "it took its five seconds");
        age(USED_MEANWHILE);
        let at_once = tokio::time::timeout(Duration::from_millis(1), async {
            for _ in 0..50 {
                assert_eq!(*resolver.resolve(&host, 80).await.unwrap(), [a]);
                tokio::task::yield_now().await;
            }
        });
        at_once.await.expect("nobody waits");
        assert_eq!(asked.load(Ordering::Relaxed), 5);
        assert_eq!(resolver.lookups.with_label_values(&["timeout"]).get(), 1);
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_an_error_and_a_lookup_whose_thread_ended_is_made_again() {
        let (resolver, asked, say) = asked();
        let host = Name::from("node.test");
        say.send(Ok(Vec::new())).unwrap();
        let error = resolver.resolve(&host, 80).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let other = resolver.clone();
        let of = host.clone();
        std::thread::spawn(move || {
            let thread = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            thread.block_on(async {
                let _ = tokio::time::timeout(Duration::from_millis(10), other.resolve(&of, 80)).await;
            });
        })
        .join()
        .unwrap();
        let a = SocketAddr::from(([127, 0, 0, 1], 80));
        say.send(Ok(vec![a])).unwrap();
        assert_eq!(*resolver.resolve(&host, 80).await.unwrap(), [a]);
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        assert_eq!(resolver.lookups.with_label_values(&["failed"]).get(), 1);
    }

    #[test]
    fn the_address_that_worked_last_comes_first() {
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        for (first, expected) in [
            (None, [a, b, c]),
            (Some(a), [a, b, c]),
            (Some(b), [b, a, c]),
            (Some(c), [c, a, b]),
            (Some("192.0.2.1:1".parse().unwrap()), [a, b, c]),
        ] {
            let mut addresses = [a, b, c];
            put_first(&mut addresses, first);
            assert_eq!(addresses, expected, "{first:?}");
        }
    }

    #[tokio::test]
    async fn what_worked_stays_first_over_answers_and_an_address_needs_none() {
        let resolver = Arc::new(Resolver::new(lookups()));
        let (host, now) = (Name::from("two.test"), clock::now());
        let [a, b] = [1, 2].map(|n| SocketAddr::from(([127, 0, 0, n], 80)));
        assert_eq!(*resolver.remember(&host, 80, vec![a, b], now), [a, b]);
        resolver.worked(&host, b);
        assert_eq!(*resolver.resolve(&host, 80).await.unwrap(), [b, a]);
        assert_eq!(*resolver.remember(&host, 80, vec![a, b], now), [b, a]);
        assert_eq!(*resolver.remember(&host, 80, vec![a], now), [a], "it is not there any more");
        for literal in ["::1", "[::1]"] {
            let found = resolver.resolve(&literal.into(), 80).await.unwrap();
            assert_eq!(*found, ["[::1]:80".parse().unwrap()]);
        }
    }
}
