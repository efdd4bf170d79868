//! The cache: answers of nodes that are kept and given to others (RFC 9111).
//!
//! What may be kept and for how long is decided in [`fresh`], by what it is found in [`key`], what goes when there is no
//! room in [`table`] (all pure). [`fetch`] asks a node, [`serve`] is a request's way through all of it.
//!
//! A miss is fetched once: the first request asks the node, others for the same wait for it, bounded in time and number.
//! An answer whose length is known is read by all of them while it comes; of one without a length they wait for the end.
//! If it turns out not to be kept, each of them goes to a node by itself, and so do those that come within the next
//! minute. What is fetched is fetched whole and for its own sake: a slow client delays nobody, one that leaves ends
//! nothing.

pub mod control;
mod fetch;
mod fresh;
mod key;
mod memory;
mod object;
mod serve;
mod status;
mod table;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use prometheus::IntGauge;
use tokio::sync::watch;

use crate::config::settings::Settings;
use crate::telemetry::metrics::CacheMetrics;
pub(super) use fetch::{Connector, connector};
use fresh::Not;
use memory::{Held, Memory};
use object::Object;
use status::Outcome;
pub(super) use status::Told;
use table::Table;

/// Fetches under way at once for which others may wait; beyond it requests go to their nodes as if there were no cache.
const FLIGHTS_MAX: usize = 1024;
/// Requests that wait for one fetch.
const WAITING_MAX: usize = 4096;
/// URLs that are known not to be kept.
const PASSED_MAX: usize = 16_384;
/// How long a URL is taken as not to be kept.
const PASSED_FOR: Duration = Duration::from_secs(60);

/// The answers that are kept.
#[derive(Debug)]
pub(super) struct Cache {
    state: Mutex<State>,
    memory: Memory,
    /// Bounds in bytes; the first is zero while no route keeps anything.
    memory_max: AtomicU64,
    object_max: AtomicU64,
    /// Whether the table holds anything: most requests of most edges need to know no more.
    is_empty: AtomicBool,
    hasher: RandomState,
    metrics: CacheMetrics,
}

#[derive(Debug, Default)]
struct State {
    table: Table<Arc<Object>>,
    flights: HashMap<Flown, Arc<Flight>>,
    passed: HashMap<u64, Instant>,
}

impl State {
    fn is_passed(&self, flown: u64, now: Instant) -> bool {
        let since = self.passed.get(&flown);
        since.is_some_and(|since| now.saturating_duration_since(*since) < PASSED_FOR)
    }
}

/// What is being fetched: the URL, the way, and the encodings that are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flown {
    url: Arc<str>,
    way: u64,
    encodings: String,
}

/// One fetch, for all that wait for it.
#[derive(Debug)]
struct Flight {
    landed: watch::Sender<Option<Landed>>,
    waiting: AtomicUsize,
    /// It was purged on its way: what comes must not be kept.
    purged: AtomicBool,
}

/// How a fetch ended, for those that waited.
#[derive(Clone, Debug)]
enum Landed {
    /// This is the answer; its body may still be on its way.
    Kept(Arc<Object>),
    /// No node can serve; this old one may be used.
    Stale(Arc<Object>),
    /// It is not kept.
    Passed,
    /// No node could be asked, or it broke off.
    Failed,
}

/// Whether a request fetches, waits, or does neither.
enum Join {
    Lead(Lead),
    Follow(Follow),
    /// Another fetch ended since the request looked: it looks again.
    Changed,
    Alone,
}

/// The duty to fetch. Dropped without a word, it has failed.
#[derive(Debug)]
struct Lead {
    cache: Arc<Cache>,
    flown: Flown,
    flight: Arc<Flight>,
}

/// A place among those that wait.
struct Follow {
    gauge: IntGauge,
    flight: Arc<Flight>,
    landed: watch::Receiver<Option<Landed>>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStatus {
    /// Bytes in memory, those included that are no longer found and still read.
    pub bytes: u64,
    /// Bound of `bytes`; zero while no route keeps anything.
    pub bytes_max: u64,
    /// Answers.
    pub objects: usize,
    /// Requests that were answered without a node.
    pub hits: u64,
    /// All requests of routes that keep answers.
    pub requests: u64,
}

impl Cache {
    pub(super) fn new(metrics: CacheMetrics) -> Self {
        Self {
            state: Mutex::default(),
            memory: Memory::default(),
            memory_max: AtomicU64::new(0),
            object_max: AtomicU64::new(0),
            is_empty: AtomicBool::new(true),
            hasher: RandomState::new(),
            metrics,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the configuration: a smaller bound takes away at once, and without a route that keeps answers all go.
    pub(super) fn apply(&self, settings: &Settings) {
        let keeps = settings.sites.iter().any(|site| site.routes.iter().any(|route| route.cache.is_some()));
        let max = if keeps { settings.cache.memory_bytes_max } else { 0 };
        self.memory_max.store(max, Ordering::Relaxed);
        self.object_max.store(settings.cache.object_bytes_max, Ordering::Relaxed);
        let mut state = self.state();
        state.passed.clear();
        // Those that are read go as well: their bytes follow when the readers have ended.
        while state.table.bytes() > max || (max == 0 && state.table.objects() > 0) {
            if state.table.evict(|_| true).is_none() {
                break;
            }
            self.metrics.evicted.inc();
        }
        self.changed(&state);
    }

    /// Takes memory, and takes others away for it where they are not in use. `None`: there is no room.
    fn take(&self, bytes: u64) -> Option<Held> {
        let max = self.memory_max.load(Ordering::Relaxed);
        let mut state = self.state();
        loop {
            if let Some(held) = self.memory.take(bytes, max) {
                return Some(held);
            }
            // What is in use would stay in memory: to take it away would help nobody.
            let in_use =
                |object: &Arc<Object>| Arc::strong_count(object) > 1 || Arc::strong_count(&object.body) > 1;
            drop(state.table.evict(|object| !in_use(object))?);
            self.metrics.evicted.inc();
            self.changed(&state);
        }
    }

    fn object_max(&self) -> u64 {
        self.object_max.load(Ordering::Relaxed)
    }

    fn find(&self, url: &str, way: u64, request: &HeaderMap) -> Option<Arc<Object>> {
        if self.is_empty.load(Ordering::Relaxed) {
            return None;
        }
        self.state().table.find(url, way, request).cloned()
    }

    /// Tells whether something is kept of a URL, but not for such requests.
    fn knows(&self, url: &str) -> bool {
        !self.is_empty.load(Ordering::Relaxed) && self.state().table.knows(url)
    }

    /// Keeps an answer; returns by what it can be taken away again. `renewed` is the one that it was made of, which goes.
    ///
    /// # Errors
    /// It was purged on its way, or another one that was asked for later is there: this one.
    fn put(
        &self,
        lead: &Lead,
        object: &Arc<Object>,
        renewed: Option<&Arc<Object>>,
    ) -> Result<u64, Option<Arc<Object>>> {
        let bytes = object.held.bytes() + object.body.held();
        let flown = &lead.flown;
        let mut state = self.state();
        // Under the lock: a purge is before it or after it.
        if lead.flight.purged.load(Ordering::Relaxed) || self.memory_max.load(Ordering::Relaxed) == 0 {
            return Err(None);
        }
        // Requests that take other encodings have flights of their own, and their answers may be for everybody.
        let there = state.table.like(&flown.url, flown.way, &object.varied);
        if let Some(newer) = there.filter(|there| object.terms.is_older_than(&there.terms)) {
            return Err(Some(newer.clone()));
        }
        // A node that now names other headers in `Vary` would leave the old one beside it, with the same body.
        let old = renewed.and_then(|old| state.table.remove_one(&flown.url, |there| Arc::ptr_eq(there, old)));
        let varied = object.varied.clone();
        let (gone, id) = state.table.put(flown.url.clone(), flown.way, varied, bytes, object.clone());
        self.changed(&state);
        drop(state);
        drop((gone, old));
        self.metrics.stored.inc();
        Ok(id)
    }

    fn forget(&self, url: &str, id: u64) {
        let mut state = self.state();
        let gone = state.table.remove_id(url, id);
        self.changed(&state);
        drop(state);
        drop(gone);
    }

    /// Takes away what is kept of a URL, and what is on its way. Returns how many.
    pub(super) fn purge(&self, url: &str) -> usize {
        self.purge_where(|table| table.remove(url), |flown| *flown.url == *url)
    }

    /// The same for all URLs that begin with a text.
    pub(super) fn purge_below(&self, prefix: &str) -> usize {
        self.purge_where(|table| table.remove_below(prefix), |flown| flown.url.starts_with(prefix))
    }

    fn purge_where(
        &self,
        remove: impl FnOnce(&mut Table<Arc<Object>>) -> Vec<Arc<Object>>,
        is_meant: impl Fn(&Flown) -> bool,
    ) -> usize {
        let mut state = self.state();
        let gone = remove(&mut state.table);
        let flights = state.flights.iter().filter(|(flown, _)| is_meant(flown));
        flights.for_each(|(_, flight)| flight.purged.store(true, Ordering::Relaxed));
        self.changed(&state);
        drop(state);
        self.metrics.purged.inc_by(gone.len() as u64);
        gone.len()
    }

    /// Takes away what is kept of a URL that was changed by an unsafe method (RFC 9111 section 4.4).
    pub(super) fn changed_by_client(&self, tls: bool, host: &[u8], target: &[u8]) {
        if self.memory_max.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(url) = key::url(tls, host, target) {
            self.purge(&url);
        }
    }

    /// Notes that a URL is not kept, so that nobody waits for it in vain.
    fn pass(&self, flown: &Flown, why: Not, now: Instant) {
        self.metrics.not_stored.with_label_values(&[why.as_str()]).inc();
        let mut state = self.state();
        if state.passed.len() >= PASSED_MAX {
            state.passed.retain(|_, since| now.saturating_duration_since(*since) < PASSED_FOR);
        }
        if state.passed.len() < PASSED_MAX {
            state.passed.insert(self.hasher.hash_one(flown), now);
        }
    }

    fn is_passed(&self, flown: &Flown, now: Instant) -> bool {
        self.state().is_passed(self.hasher.hash_one(flown), now)
    }

    /// Becomes the one who fetches, or one who waits. `kept` is what the request found before.
    fn join(
        self: &Arc<Self>,
        flown: &Flown,
        request: &HeaderMap,
        kept: Option<&Arc<Object>>,
        now: Instant,
    ) -> Join {
        let mut state = self.state();
        if let Some(flight) = state.flights.get(flown) {
            // One that was purged brings what is no longer wanted.
            if flight.purged.load(Ordering::Relaxed) || flight.waiting.load(Ordering::Relaxed) >= WAITING_MAX
            {
                return Join::Alone;
            }
            flight.waiting.fetch_add(1, Ordering::Relaxed);
            let gauge = self.metrics.waiting.clone();
            gauge.inc();
            return Join::Follow(Follow { gauge, flight: flight.clone(), landed: flight.landed.subscribe() });
        }
        if state.flights.len() >= FLIGHTS_MAX || self.memory_max.load(Ordering::Relaxed) == 0 {
            return Join::Alone;
        }
        // Between a request's look and this a whole fetch may have come and gone.
        let found = state.table.find(&flown.url, flown.way, request);
        let changed = found.map(Arc::as_ptr) != kept.map(Arc::as_ptr);
        if changed || state.is_passed(self.hasher.hash_one(flown), now) {
            return Join::Changed;
        }
        let (landed, _) = watch::channel(None);
        let flight =
            Arc::new(Flight { landed, waiting: AtomicUsize::new(0), purged: AtomicBool::new(false) });
        state.flights.insert(flown.clone(), flight.clone());
        drop(state);
        Join::Lead(Lead { cache: self.clone(), flown: flown.clone(), flight })
    }

    /// Counts what became of a request.
    fn count(&self, outcome: Outcome) {
        self.metrics.requests.with_label_values(&[outcome.as_str()]).inc();
    }

    pub(super) fn status(&self) -> CacheStatus {
        let count = |outcome: &Outcome| self.metrics.requests.with_label_values(&[outcome.as_str()]).get();
        CacheStatus {
            bytes: self.memory.held(),
            bytes_max: self.memory_max.load(Ordering::Relaxed),
            objects: self.state().table.objects(),
            hits: Outcome::ALL.iter().filter(|outcome| outcome.is_hit()).map(count).sum(),
            requests: Outcome::ALL.iter().map(count).sum(),
        }
    }

    fn changed(&self, state: &State) {
        self.is_empty.store(state.table.objects() == 0, Ordering::Relaxed);
        self.metrics.objects.set(i64::try_from(state.table.objects()).unwrap_or(i64::MAX));
        self.metrics.bytes.set(i64::try_from(self.memory.held()).unwrap_or(i64::MAX));
    }
}

/// Tells whether the cache has nothing to do with a request, whatever its route says.
pub(super) fn passes_by(method: &http::Method, headers: &HeaderMap) -> bool {
    fresh::wishes(method, headers).is_err()
}

/// Reads a URL or the beginning of one, as an operator writes it.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn read_url(text: &str) -> Result<String, String> {
    key::read_url(text)
}

impl Lead {
    /// Tells those that wait, and lets the next request fetch anew.
    fn land(self, landed: Landed) {
        self.flight.landed.send_replace(Some(landed));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flight.landed.send_if_modified(|landed| {
            let unsaid = landed.is_none();
            if unsaid {
                *landed = Some(Landed::Failed);
            }
            unsaid
        });
        self.cache.state().flights.remove(&self.flown);
    }
}

impl Follow {
    /// Waits for the fetch to end; `None`: it takes too long.
    async fn wait(mut self, most: Duration) -> Option<Landed> {
        let landed = tokio::time::timeout(most, self.landed.wait_for(Option::is_some)).await;
        landed.ok()?.ok()?.clone()
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.flight.waiting.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::object::{Body, End, head_bytes};
    use super::*;
    use crate::clock;
    use crate::config::settings::CacheRule;
    use crate::telemetry::metrics::Metrics;

    const BOUND: u64 = 200_000;

    fn cache() -> Arc<Cache> {
        let cache = Cache::new(Metrics::new().edge.cache);
        cache.memory_max.store(BOUND, Ordering::Relaxed);
        cache.object_max.store(BOUND / 4, Ordering::Relaxed);
        Arc::new(cache)
    }

    fn flown(n: u64) -> Flown {
        Flown { url: format!("https://a/{}/{n}", n % 3).into(), way: 0, encodings: String::new() }
    }

    /// What a fetch makes of an answer of so many bytes; `None`: there is no room.
    fn object(cache: &Cache, flown: &Flown, bytes: u64) -> Option<Arc<Object>> {
        let now = clock::now();
        let times = fresh::Times { asked: now, answered: now, wall: Duration::ZERO };
        let rule = CacheRule { fresh_for: Some(Duration::from_secs(60)), ..CacheRule::default() };
        let headers = HeaderMap::new();
        let terms = fresh::judge(StatusCode::OK, &headers, &rule, times).unwrap();
        let body = Arc::new(Body::new(Some(bytes), cache.take(bytes)?));
        let held = cache.take(head_bytes(&flown.url, &headers, &Vec::new()))?;
        body.push(Bytes::from(vec![0; usize::try_from(bytes).unwrap()]), None);
        body.end(End::Whole);
        Some(Arc::new(Object { status: StatusCode::OK, headers, terms, varied: Vec::new(), body, held }))
    }

    /// Fetches, reads, purges and reloads at random: never more than the bound, and nothing left behind.
    #[test]
    fn a_simulation_never_holds_more_than_the_bound_and_gives_all_back() {
        let seed = std::env::var("ROOMGATE_SEED").ok().and_then(|seed| seed.parse().ok());
        for seed in seed.map_or(0..10, |seed: u64| seed..seed + 1) {
            eprintln!("ROOMGATE_SEED={seed}");
            let mut rng = StdRng::seed_from_u64(seed);
            let (cache, none) = (cache(), HeaderMap::new());
            // Objects that slow clients still read.
            let mut read: Vec<Arc<Object>> = Vec::new();
            let (mut refused, mut stored) = (0, 0);
            for _ in 0..3000 {
                let flown = flown(rng.random_range(0..12));
                match rng.random_range(0..100) {
                    0..60 => {
                        let kept = cache.find(&flown.url, 0, &none);
                        let Join::Lead(lead) = cache.join(&flown, &none, kept.as_ref(), clock::now()) else {
                            panic!("seed {seed}: nobody else fetches")
                        };
                        match object(&cache, &flown, rng.random_range(0..BOUND / 4)) {
                            None => refused += 1,
                            Some(object) if rng.random() => {
                                assert!(cache.put(&lead, &object, None).is_ok());
                                stored += 1;
                                lead.land(Landed::Kept(object));
                            }
                            // Broken off: the duty is dropped without a word.
                            Some(_) => {}
                        }
                    }
                    60..90 => read.extend(cache.find(&flown.url, 0, &HeaderMap::new())),
                    90..93 if !read.is_empty() => drop(read.swap_remove(rng.random_range(0..read.len()))),
                    93..96 => drop(cache.purge(&flown.url)),
                    96 => drop(cache.purge_below("https://a/1/")),
                    _ => {}
                }
                read.truncate(12);
                let status = cache.status();
                assert!(status.bytes <= BOUND, "seed {seed}: {status:?}");
                let state = cache.state();
                assert!(state.table.bytes() <= status.bytes && state.flights.is_empty(), "seed {seed}");
            }
            assert!(refused > 0 && stored > 100, "seed {seed}: {refused} refused, {stored} stored");
            cache.purge_below("");
            assert_eq!(cache.status().objects, 0);
            read.clear();
            assert_eq!(cache.memory.held(), 0, "seed {seed}");
        }
    }

    /// Otherwise a node is asked again for what has just been stored.
    #[test]
    fn a_request_that_missed_before_another_stored_looks_again() {
        let (cache, flown, none) = (cache(), flown(1), HeaderMap::new());
        let join = |kept: Option<&Arc<Object>>| cache.join(&flown, &none, kept, clock::now());
        let missed = cache.find(&flown.url, 0, &none);
        let Join::Lead(lead) = join(missed.as_ref()) else { panic!("nobody fetches") };
        let first = object(&cache, &flown, 10).unwrap();
        cache.put(&lead, &first, None).unwrap();
        lead.land(Landed::Kept(first.clone()));
        assert!(matches!(join(missed.as_ref()), Join::Changed));
        // What is found and has to be asked for is fetched; one that was renewed meanwhile is not.
        let found = cache.find(&flown.url, 0, &none);
        let Join::Lead(lead) = join(found.as_ref()) else { panic!("nobody fetches") };
        cache.put(&lead, &object(&cache, &flown, 20).unwrap(), None).unwrap();
        drop(lead);
        assert!(matches!(join(found.as_ref()), Join::Changed));
        // And one that is gone is no longer asked for by its tag.
        cache.purge(&flown.url);
        assert!(matches!(join(found.as_ref()), Join::Changed));
        assert!(matches!(join(None), Join::Lead(_)));
        // What has just turned out not to be kept is not waited for.
        cache.pass(&flown, Not::Unsaid, clock::now());
        assert!(matches!(join(None), Join::Changed));
    }

    #[test]
    fn of_two_answers_the_one_asked_for_later_stays() {
        let (cache, none) = (cache(), HeaderMap::new());
        let plain = flown(1);
        let packed = Flown { encodings: "gzip".to_owned(), ..flown(1) };
        let lead = |flown: &Flown| match cache.join(flown, &none, None, clock::now()) {
            Join::Lead(lead) => lead,
            Join::Follow(_) | Join::Changed | Join::Alone => panic!("nobody fetches"),
        };
        let (first, second) = (lead(&plain), lead(&packed));
        let old = object(&cache, &plain, 10).unwrap();
        let new = object(&cache, &plain, 20).unwrap();
        assert!(old.terms.is_older_than(&new.terms));
        assert!(cache.put(&second, &new, None).is_ok());
        let refused = cache.put(&first, &old, None).unwrap_err();
        assert!(
            Arc::ptr_eq(&refused.unwrap(), &new),
            "it was asked for before, and who waited gets the newer one"
        );
        assert!(Arc::ptr_eq(&cache.find(&plain.url, 0, &none).unwrap(), &new));
    }

    #[test]
    fn one_that_is_renewed_leaves_nothing_beside_it() {
        let (cache, flown, none) = (cache(), flown(1), HeaderMap::new());
        let Join::Lead(lead) = cache.join(&flown, &none, None, clock::now()) else {
            panic!("nobody fetches")
        };
        let old = object(&cache, &flown, 10).unwrap();
        cache.put(&lead, &old, None).unwrap();
        let varied = vec![(http::header::ACCEPT_LANGUAGE, Vec::new())];
        let held = cache.take(100).unwrap();
        let (status, headers, body) = (old.status, none.clone(), old.body.clone());
        let new = Arc::new(Object { status, headers, terms: old.terms, varied, body, held });
        cache.put(&lead, &new, Some(&old)).unwrap();
        drop(old);
        assert_eq!(cache.status().objects, 1, "the node varies by another header now");
        assert!(Arc::ptr_eq(&cache.find(&flown.url, 0, &none).unwrap(), &new));
    }

    #[tokio::test]
    async fn one_fetches_others_wait_and_a_purge_reaches_what_is_on_its_way() {
        let cache = cache();
        let flown = flown(1);
        let wait = Duration::from_secs(5);
        let lead = |cache: &Arc<Cache>| match cache.join(&flown, &HeaderMap::new(), None, clock::now()) {
            Join::Lead(lead) => lead,
            Join::Follow(_) | Join::Changed | Join::Alone => panic!("nobody fetches"),
        };
        let follow = |cache: &Arc<Cache>| match cache.join(&flown, &HeaderMap::new(), None, clock::now()) {
            Join::Follow(follow) => Some(follow),
            Join::Lead(_) | Join::Changed | Join::Alone => None,
        };
        // Dropped without a word.
        let (first, second) = (lead(&cache), follow(&cache).unwrap());
        drop(first);
        assert!(matches!(second.wait(wait).await, Some(Landed::Failed)));
        // Purged: what comes is not kept, and new requests neither wait for it nor fetch in its place.
        let (first, second) = (lead(&cache), follow(&cache).unwrap());
        cache.purge_below("https://a/");
        assert!(matches!(cache.join(&flown, &HeaderMap::new(), None, clock::now()), Join::Alone));
        let object = object(&cache, &flown, 10).unwrap();
        assert!(matches!(cache.put(&first, &object, None), Err(None)));
        first.land(Landed::Passed);
        assert!(matches!(second.wait(wait).await, Some(Landed::Passed)));
        // So many may wait, and so many fetches be waited for.
        let first = lead(&cache);
        let waiting: Vec<Follow> = std::iter::from_fn(|| follow(&cache)).take(WAITING_MAX + 1).collect();
        assert_eq!(waiting.len(), WAITING_MAX);
        drop((first, waiting));
        let leads: Vec<Lead> = (0..FLIGHTS_MAX as u64)
            .map(|n| match cache.join(&self::flown(n), &HeaderMap::new(), None, clock::now()) {
                Join::Lead(lead) => lead,
                Join::Follow(_) | Join::Changed | Join::Alone => panic!("{n}"),
            })
            .collect();
        assert!(matches!(
            cache.join(&self::flown(FLIGHTS_MAX as u64), &HeaderMap::new(), None, clock::now()),
            Join::Alone
        ));
        drop(leads);
        assert!(cache.state().flights.is_empty());
        // What is known not to be kept, for a minute and in bounded number.
        let now = clock::now();
        for n in 0..PASSED_MAX as u64 + 10 {
            cache.pass(&self::flown(n), Not::Unsaid, now);
        }
        assert_eq!(cache.state().passed.len(), PASSED_MAX);
        assert!(cache.is_passed(&flown, now) && !cache.is_passed(&flown, now + PASSED_FOR));
        cache.pass(&self::flown(u64::MAX), Not::Unsaid, now + PASSED_FOR);
        assert_eq!(cache.state().passed.len(), 1, "the old ones make room");
    }
}
