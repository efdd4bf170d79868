//! Limits and bans: who is let in, how often, and who is kept out for a while.
//!
//! What decides is pure ([`bucket`], [`count`], [`bans`]); this file gives it time, locks and metrics. A client is one IPv4
//! address or one IPv6 /64. Tables are split over shards, keyed by a hash under a secret of the process, and bounded: at
//! the bound unknown clients pass, counted. Nothing here is logged for each request; a ban is one line.

mod bans;
mod bucket;
mod count;
mod request;

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::clock;
use crate::config::settings::{BanRule, EdgeLimits, IpNet, Rate, RequestLimits, Settings, contains};
use crate::rooms::RoomId;
use crate::telemetry::metrics::LimitMetrics;
use bans::{Ban, Bans};
use bucket::{Buckets, Taken};
use count::{Counts, Entered};

/// Parts of the tables, each behind its own lock.
const SHARDS: usize = 16;
/// Keys of one part of a table, about 40 bytes each.
const SHARD_KEYS_MAX: usize = 16 * 1024;
/// What a client beyond the WebSockets of its room is told to wait.
const ROOM_FULL_RETRY: Duration = Duration::from_secs(5);

/// A limit, by its label in metrics. Stable: dashboards depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    ConnectionsPerIp,
    RequestsPerIp,
    RequestsPerRoom,
    RequestsTotal,
    NewRoomsPerIp,
    NewRoomsTotal,
    ConnectionsPerRoom,
}

impl Limit {
    fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionsPerIp => "connections_per_ip",
            Self::RequestsPerIp => "requests_per_ip",
            Self::RequestsPerRoom => "requests_per_room",
            Self::RequestsTotal => "requests_total",
            Self::NewRoomsPerIp => "new_rooms_per_ip",
            Self::NewRoomsTotal => "new_rooms_total",
            Self::ConnectionsPerRoom => "connections_per_room",
        }
    }

    /// HTTP status of the answer: 429 for whoever asks too often, 503 where it is not this client's doing.
    fn status(self) -> u16 {
        match self {
            Self::ConnectionsPerIp | Self::RequestsPerIp | Self::RequestsPerRoom | Self::NewRoomsPerIp => 429,
            Self::RequestsTotal | Self::NewRoomsTotal | Self::ConnectionsPerRoom => 503,
        }
    }
}

/// A request that goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: u16,
    /// For `Retry-After`, in seconds, at least 1.
    pub(super) retry_after: u64,
}

/// Who asks for what. All that a limit looks at.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The client. Canonical.
    pub(super) client: IpAddr,
    /// Whose limits these are: the site, or the site and one of its routes.
    pub(super) scope: &'a str,
    pub(super) room: Option<&'a RoomId>,
    /// Whether the room has a place already; only asked if a limit needs it.
    pub(super) room_is_placed: &'a dyn Fn(&RoomId) -> bool,
}

impl Asked<'_> {
    fn opens_a_room(&self) -> bool {
        self.room.is_some_and(|room| !(self.room_is_placed)(room))
    }
}

/// A ban as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanView {
    /// Who is banned.
    pub network: IpNet,
    /// The rule, or `api`.
    pub by: String,
    /// What the operator said of it; empty for a rule.
    pub reason: String,
    /// Since when.
    pub age: Duration,
    /// For how long still.
    pub left: Duration,
}

/// All limits and bans of the process.
#[derive(Debug)]
pub(super) struct Limits {
    start: Instant,
    hasher: SipHasher13,
    buckets: Box<[Mutex<Buckets>]>,
    counts: Box<[Mutex<Counts>]>,
    bans: RwLock<Bans>,
    /// How many there are: nobody is looked up while there is none.
    banned: AtomicUsize,
    metrics: LimitMetrics,
}

/// One of those that are open at once. Counted while it lives.
#[derive(Debug)]
pub(crate) struct Seat {
    limits: Arc<Limits>,
    key: u128,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.limits.counts(self.key).leave(self.key);
    }
}

impl Limits {
    pub(super) fn new(metrics: LimitMetrics) -> Self {
        Self {
            start: clock::now(),
            // Nobody outside can choose keys that meet.
            hasher: SipHasher13::new_with_keys(rand::random(), rand::random()),
            buckets: (0..SHARDS).map(|_| Mutex::new(Buckets::new(SHARD_KEYS_MAX))).collect(),
            counts: (0..SHARDS).map(|_| Mutex::new(Counts::new(SHARD_KEYS_MAX))).collect(),
            bans: RwLock::default(),
            banned: AtomicUsize::new(0),
            metrics,
        }
    }

    /// Counts an open connection of a client. `Err`: it is beyond the limit and closed.
    pub(super) fn enter(
        self: &Arc<Self>,
        client: IpAddr,
        limits: &EdgeLimits,
    ) -> Result<Option<Seat>, Limit> {
        let limit = Limit::ConnectionsPerIp;
        if contains(&limits.exempt, client) {
            return Ok(None);
        }
        let key = self.key(limit, "", &client_key(client).to_be_bytes());
        match self.sit(key, limits.connections_per_ip) {
            (seat, false) => Ok(seat),
            (seat, true) => self.over(limit, limits.dry_run).map(|()| seat),
        }
    }

    /// Counts an open WebSocket of a room. `Err`: the room has too many.
    pub(super) fn enter_room(
        self: &Arc<Self>,
        settings: &EdgeLimits,
        limits: &RequestLimits,
        asked: &Asked<'_>,
    ) -> Result<Option<Seat>, Refused> {
        let (Some(room), Some(most)) = (asked.room, limits.connections_per_room) else { return Ok(None) };
        if contains(&settings.exempt, asked.client) || contains(&limits.exempt, asked.client) {
            return Ok(None);
        }
        let limit = Limit::ConnectionsPerRoom;
        match self.sit(self.room_key(limit, asked.scope, room), most.get()) {
            (seat, false) => Ok(seat),
            (seat, true) => match self.over(limit, limits.dry_run) {
                Ok(()) => Ok(seat),
                Err(limit) => Err(refused(limit, ROOM_FULL_RETRY)),
            },
        }
    }

    /// Tells whether a request may go on by all these limits: those of its site, then those of its route. One that may not
    /// has used up nothing of what it shares with others: totals come last, and the site's behind the route's.
    pub(super) fn admit(
        &self,
        settings: &EdgeLimits,
        all: &[(&RequestLimits, &Asked<'_>)],
        now: Instant,
    ) -> Result<(), Refused> {
        let apply = |(limits, asked): &&(&RequestLimits, &Asked<'_>)| {
            !limits.is_off()
                && !contains(&settings.exempt, asked.client)
                && !contains(&limits.exempt, asked.client)
        };
        for (limits, asked) in all.iter().filter(apply) {
            self.admit_own(limits, asked, now)?;
        }
        for (limits, asked) in all.iter().rev().filter(apply) {
            let new = limits.new_rooms_total.is_some() && asked.opens_a_room();
            let new_rooms = limits.new_rooms_total.as_ref().filter(|_| new);
            self.take_of(limits, asked, Limit::NewRoomsTotal, new_rooms, b"", now)?;
            self.take_of(limits, asked, Limit::RequestsTotal, limits.requests_total.as_ref(), b"", now)?;
        }
        Ok(())
    }

    /// Takes from what a client, or a room, has for itself.
    fn admit_own(&self, limits: &RequestLimits, asked: &Asked<'_>, now: Instant) -> Result<(), Refused> {
        let client = client_key(asked.client).to_be_bytes();
        let per_ip = limits.requests_per_ip.as_ref();
        self.take_of(limits, asked, Limit::RequestsPerIp, per_ip, &client, now)?;
        if let (Some(rate), Some(room)) = (&limits.requests_per_room, asked.room) {
            let limit = Limit::RequestsPerRoom;
            let key = self.room_key(limit, asked.scope, room);
            if let Some(wait) = self.take(key, rate, now) {
                self.over(limit, limits.dry_run).map_err(|limit| refused(limit, wait))?;
            }
        }
        let new = limits.new_rooms_per_ip.is_some() && asked.opens_a_room();
        let new_rooms = limits.new_rooms_per_ip.as_ref().filter(|_| new);
        self.take_of(limits, asked, Limit::NewRoomsPerIp, new_rooms, &client, now)
    }

    fn take_of(
        &self,
        limits: &RequestLimits,
        asked: &Asked<'_>,
        limit: Limit,
        rate: Option<&Rate>,
        key: &[u8],
        now: Instant,
    ) -> Result<(), Refused> {
        let Some(rate) = rate else { return Ok(()) };
        match self.take(self.key(limit, asked.scope, key), rate, now) {
            None => Ok(()),
            Some(wait) => self.over(limit, limits.dry_run).map_err(|limit| refused(limit, wait)),
        }
    }

    /// Tells whether a client is banned now.
    pub(super) fn is_banned(&self, client: IpAddr) -> bool {
        if self.banned.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let now = clock::now();
        let bans = self.bans.read().unwrap_or_else(PoisonError::into_inner);
        let (banned, ended) = (bans.has(client, now), bans.first_end().is_some_and(|end| end <= now));
        drop(bans);
        if ended {
            // So that nobody is looked up any more, and the metric is right.
            self.change_bans(|bans, now| bans.expire(now));
        }
        banned
    }

    /// Counts a closed or refused client that is banned, or may not ask by its network.
    pub(super) fn count_kept_out(&self, why: &str) {
        self.metrics.limited.with_label_values(&[why, "refused"]).inc();
    }

    /// Holds an answer against the rules that ban.
    pub(super) fn answered(&self, settings: &Settings, client: IpAddr, status: u16) {
        for rule in settings.bans.iter().filter(|rule| rule.statuses.contains(&status)) {
            self.counts_for_ban(settings, rule, client);
        }
    }

    /// Holds a failed TLS handshake against the rules that ban.
    pub(super) fn handshake_failed(&self, settings: &Settings, client: IpAddr) {
        for rule in settings.bans.iter().filter(|rule| rule.handshake_failures) {
            self.counts_for_ban(settings, rule, client);
        }
    }

    fn counts_for_ban(&self, settings: &Settings, rule: &BanRule, client: IpAddr) {
        if contains(&rule.exempt, client) || contains(&settings.limits.exempt, client) {
            return;
        }
        let network = client_network(client);
        let key = self.hash(b"ban", rule.name.as_bytes(), &client_key(client).to_be_bytes());
        let now = clock::now();
        if self.take(key, &rule.rate, now).is_none() || self.is_banned(client) {
            return;
        }
        // The next one begins anew.
        self.buckets(key).forget(key);
        let (rule_name, lasts) = (&*rule.name, rule.lasts);
        if rule.dry_run {
            self.metrics.limited.with_label_values(&["bans", "dry_run"]).inc();
            tracing::info!(%client, %network, rule = rule_name, ?lasts, "client would be banned");
        } else if let Some(ban) = Ban::new(rule_name, "", now, lasts)
            && self.change_bans(|bans, now| bans.add_new(network, ban, now)) == Some(true)
        {
            self.metrics.bans_added.with_label_values(&["rule"]).inc();
            // `conf/fail2ban` reads this line.
            tracing::warn!(%client, %network, rule = rule_name, ?lasts, "client banned");
        }
    }

    /// Bans a network, whoever asks for it. False: the table is full of bans that last longer.
    pub(super) fn ban(&self, network: IpNet, reason: &str, lasts: Duration) -> bool {
        let Some(ban) = Ban::new("api", reason, clock::now(), lasts) else { return false };
        let added = self.change_bans(|bans, now| bans.add(network, ban, now));
        if added {
            self.metrics.bans_added.with_label_values(&["api"]).inc();
            tracing::warn!(client = %network.addr(), %network, rule = "api", ?lasts, "client banned");
        }
        added
    }

    /// Ends a ban. False: there is none of this network.
    pub(super) fn unban(&self, network: IpNet) -> bool {
        self.change_bans(|bans, _| bans.remove(network)).is_some()
    }

    /// How many bans are in force.
    pub(super) fn bans_total(&self) -> usize {
        self.change_bans(|bans, now| {
            bans.expire(now);
            bans.len()
        })
    }

    /// Returns all bans, the one that ends first in front.
    pub(super) fn bans(&self) -> Vec<BanView> {
        let now = clock::now();
        let bans = self.change_bans(|bans, now| {
            bans.expire(now);
            bans.list(now)
        });
        let view = |(network, ban): (IpNet, Ban)| BanView {
            network,
            by: ban.by,
            reason: ban.reason,
            age: now.saturating_duration_since(ban.since),
            left: ban.until.saturating_duration_since(now),
        };
        bans.into_iter().map(view).collect()
    }

    fn change_bans<T>(&self, change: impl FnOnce(&mut Bans, Instant) -> T) -> T {
        let mut bans = self.bans.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut bans, clock::now());
        self.banned.store(bans.len(), Ordering::Relaxed);
        self.metrics.bans.set(i64::try_from(bans.len()).unwrap_or(i64::MAX));
        result
    }

    /// Counts what is beyond a limit; `Err` unless it is let through.
    fn over(&self, limit: Limit, dry_run: bool) -> Result<(), Limit> {
        let action = if dry_run { "dry_run" } else { "refused" };
        self.metrics.limited.with_label_values(&[limit.as_str(), action]).inc();
        if dry_run { Ok(()) } else { Err(limit) }
    }

    /// Takes one from a bucket. `Some`: it is empty for so long.
    fn take(&self, key: u128, rate: &Rate, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.start).as_nanos();
        let now = u64::try_from(since).unwrap_or(u64::MAX);
        let taken = self.buckets(key).take(key, rate, now);
        match taken {
            Taken::Yes => None,
            Taken::Empty(wait) => Some(wait),
            Taken::Unknown => {
                self.metrics.table_full.with_label_values(&["rates"]).inc();
                None
            }
        }
    }

    /// Counts one more. The second value: it is beyond the limit.
    fn sit(self: &Arc<Self>, key: u128, limit: u32) -> (Option<Seat>, bool) {
        let entered = self.counts(key).enter(key, limit);
        match entered {
            Entered::Counted { over } => (Some(Seat { limits: Arc::clone(self), key }), over),
            Entered::Unknown => {
                self.metrics.table_full.with_label_values(&["connections"]).inc();
                (None, false)
            }
        }
    }

    fn key(&self, limit: Limit, scope: &str, key: &[u8]) -> u128 {
        self.hash(limit.as_str().as_bytes(), scope.as_bytes(), key)
    }

    fn room_key(&self, limit: Limit, scope: &str, room: &RoomId) -> u128 {
        let RoomId { pool, scope: room_scope, key } = room;
        let mut name = Vec::with_capacity(64);
        for part in [pool, room_scope] {
            name.extend_from_slice(part.as_bytes());
            name.push(0);
        }
        name.extend_from_slice(key.as_str().as_bytes());
        self.key(limit, scope, &name)
    }

    fn hash(&self, kind: &[u8], scope: &[u8], key: &[u8]) -> u128 {
        let mut hasher = self.hasher;
        for part in [kind, scope, key] {
            hasher.write(part);
            hasher.write_u8(0xff);
        }
        hasher.finish128().into()
    }

    fn buckets(&self, key: u128) -> MutexGuard<'_, Buckets> {
        of(&self.buckets, key)
    }

    fn counts(&self, key: u128) -> MutexGuard<'_, Counts> {
        of(&self.counts, key)
    }
}

/// The part of a table that has a key.
fn of<T>(shards: &[Mutex<T>], key: u128) -> MutexGuard<'_, T> {
    // Any bits of the hash will do.
    let index = key as usize % shards.len();
    // The remainder is below the length, which is never 0.
    shards[index].lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(limit: Limit, wait: Duration) -> Refused {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Refused { status: limit.status(), retry_after: whole.max(1) }
}

/// One number a client: its IPv4 address, or the network part of its IPv6 address. The two never meet.
fn client_key(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

/// The network that a ban of a client is for.
fn client_network(client: IpAddr) -> IpNet {
    let client = client.to_canonical();
    let length = if client.is_ipv6() { 64 } else { 32 };
    IpNet::new(client, length).map_or_else(|_| IpNet::from(client), |network| network.trunc())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::rooms::RoomKey;
    use crate::telemetry::metrics::Metrics;

    const CLIENT: &str = "192.0.2.7";

    fn rate(count: u32, seconds: u64, burst: u32) -> Option<Rate> {
        let of = |n| NonZeroU32::new(n).unwrap();
        Some(Rate { count: of(count), per: Duration::from_secs(seconds), burst: of(burst) })
    }

    fn settings(per_ip: u32, exempt: &[&str], dry_run: bool) -> EdgeLimits {
        let exempt = exempt.iter().map(|net| net.parse().unwrap()).collect();
        EdgeLimits { connections_max: None, connections_per_ip: per_ip, exempt, dry_run }
    }

    fn room(name: &str) -> RoomId {
        RoomId { pool: "p".into(), scope: "s".into(), key: RoomKey::new(name).unwrap() }
    }

    fn asked<'a>(client: &str, room: Option<&'a RoomId>, placed: &'a dyn Fn(&RoomId) -> bool) -> Asked<'a> {
        Asked { client: client.parse().unwrap(), scope: "site", room, room_is_placed: placed }
    }

    fn limits() -> Arc<Limits> {
        Arc::new(Limits::new(Metrics::new().edge.limits))
    }

    fn counted(limits: &Limits, limit: &str, action: &str) -> u64 {
        limits.metrics.limited.with_label_values(&[limit, action]).get()
    }

    #[test]
    fn one_client_has_so_many_connections_and_a_network_of_ipv6_is_one_client() {
        let limits = limits();
        let settings = settings(2, &["198.51.100.0/24"], false);
        let enter = |client: &str| limits.enter(client.parse().unwrap(), &settings);
        let first = enter("2001:db8::1").unwrap();
        let _second = enter("2001:db8::2").unwrap();
        assert_eq!(enter("2001:db8::3").unwrap_err(), Limit::ConnectionsPerIp);
        assert!(enter("2001:db8:0:1::1").is_ok() && enter(CLIENT).is_ok());
        drop(first);
        assert!(enter("2001:db8::3").is_ok(), "who is refused leaves no trace, who goes makes room");
        let seats: Vec<_> = (0..5).map(|_| enter("198.51.100.7").unwrap()).collect();
        assert!(seats.iter().all(Option::is_none), "exempt");
        assert_eq!(counted(&limits, "connections_per_ip", "refused"), 1);
    }

    #[test]
    fn a_dry_run_counts_and_lets_in() {
        let limits = limits();
        let settings = settings(1, &[], true);
        let seats: Vec<_> =
            (0..3).map(|_| limits.enter(CLIENT.parse().unwrap(), &settings).unwrap()).collect();
        assert_eq!((seats.len(), counted(&limits, "connections_per_ip", "dry_run")), (3, 2));
        let of_site =
            RequestLimits { requests_per_ip: rate(1, 1, 1), dry_run: true, ..RequestLimits::default() };
        let now = clock::now();
        for _ in 0..3 {
            assert_eq!(limits.admit(&settings, &[(&of_site, &asked(CLIENT, None, &|_| true))], now), Ok(()));
        }
        assert_eq!(counted(&limits, "requests_per_ip", "dry_run"), 2);
    }

    #[test]
    fn each_limit_has_its_status_and_says_when_to_come_again() {
        let edge = settings(1, &[], false);
        let one = rate(1, 10, 1);
        let none = RequestLimits::default();
        let (a, b) = (room("a"), room("b"));
        let (other, new, placed) = ("192.0.2.8", |_: &RoomId| false, |_: &RoomId| true);
        // The limit; a second request that is refused; one that is not.
        let new: &dyn Fn(&RoomId) -> bool = &new;
        let placed: &dyn Fn(&RoomId) -> bool = &placed;
        for (of_site, first, second, free, status) in [
            (
                RequestLimits { requests_per_ip: one, ..none.clone() },
                asked(CLIENT, Some(&a), placed),
                asked(CLIENT, Some(&b), placed),
                Some(asked(other, Some(&a), placed)),
                429,
            ),
            (
                RequestLimits { requests_per_room: one, ..none.clone() },
                asked(CLIENT, Some(&a), placed),
                asked(other, Some(&a), placed),
                Some(asked(CLIENT, Some(&b), placed)),
                429,
            ),
            (
                RequestLimits { requests_total: one, ..none.clone() },
                asked(CLIENT, None, placed),
                asked(other, None, placed),
                None,
                503,
            ),
            (
                RequestLimits { new_rooms_per_ip: one, ..none.clone() },
                asked(CLIENT, Some(&a), new),
                asked(CLIENT, Some(&b), new),
                Some(asked(CLIENT, Some(&a), placed)),
                429,
            ),
            (
                RequestLimits { new_rooms_total: one, ..none.clone() },
                asked(CLIENT, Some(&a), new),
                asked(other, Some(&b), new),
                Some(asked(other, Some(&b), placed)),
                503,
            ),
        ] {
            let limits = limits();
            let now = clock::now();
            let admit = |asked: &Asked<'_>, later: u64| {
                limits.admit(&edge, &[(&of_site, asked)], now + Duration::from_secs(later))
            };
            assert_eq!(admit(&first, 0), Ok(()), "{of_site:?}");
            assert_eq!(admit(&second, 0), Err(Refused { status, retry_after: 10 }), "{of_site:?}");
            let elsewhere = Asked { scope: "another site", ..second };
            assert_eq!(admit(&elsewhere, 0), Ok(()), "{of_site:?}");
            if let Some(free) = free {
                assert_eq!(admit(&free, 0), Ok(()), "{of_site:?}");
            }
            assert_eq!(admit(&second, 10), Ok(()), "{of_site:?}");
            let exempt = settings(1, &["192.0.2.0/24"], false);
            for _ in 0..3 {
                let admitted = limits.admit(&exempt, &[(&of_site, &second)], now + Duration::from_secs(10));
                assert_eq!(admitted, Ok(()), "exempt: {of_site:?}");
            }
        }
    }

    #[test]
    fn a_room_has_so_many_websockets() {
        let limits = limits();
        let edge = settings(1, &[], false);
        let of_site = RequestLimits { connections_per_room: NonZeroU32::new(2), ..RequestLimits::default() };
        let (a, b) = (room("a"), room("b"));
        let enter = |room| limits.enter_room(&edge, &of_site, &asked(CLIENT, Some(room), &|_| true));
        let first = enter(&a).unwrap();
        let _second = enter(&a).unwrap();
        assert_eq!(enter(&a).unwrap_err(), Refused { status: 503, retry_after: 5 });
        assert!(enter(&b).is_ok());
        drop(first);
        assert!(enter(&a).is_ok());
    }

    #[test]
    fn a_ban_that_has_ended_is_counted_no_more() {
        let limits = limits();
        let client: IpAddr = "192.0.2.7".parse().unwrap();
        assert!(limits.ban("192.0.2.0/24".parse().unwrap(), "", Duration::from_millis(30)));
        assert_eq!(limits.metrics.bans.get(), 1);
        while limits.is_banned(client) {
            std::thread::yield_now();
        }
        assert_eq!(limits.metrics.bans.get(), 0);
        assert_eq!(limits.banned.load(Ordering::Relaxed), 0, "nobody is looked up any more");
    }

    #[test]
    fn the_network_of_a_client_is_what_is_banned() {
        for (client, expected) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(client_network(client.parse().unwrap()).to_string(), expected);
        }
        let limits = limits();
        assert!(limits.ban("2001:db8::/32".parse().unwrap(), "spam", Duration::from_secs(60)));
        assert!(limits.is_banned("2001:db8::7".parse().unwrap()));
        let bans = limits.bans();
        assert_eq!((bans.len(), &*bans[0].by, &*bans[0].reason), (1, "api", "spam"));
        assert!(limits.unban("2001:db8::/32".parse().unwrap()));
        assert!(!limits.unban("2001:db8::/32".parse().unwrap()));
        assert!(!limits.is_banned("2001:db8::7".parse().unwrap()));
    }
}
