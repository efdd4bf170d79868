//! What may be kept, for how long it is fresh, and what may be done with it after that (RFC 9111, RFC 5861).
//!
//! Pure: heads and times in, decisions out. More is refused than the RFC asks for: an answer with `Set-Cookie` is never
//! kept, and a request with `Authorization` never has to do with the cache, whatever the answer allows.

use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode, header};

use super::control::{Control, YEAR, seconds};
use crate::config::settings::CacheRule;

/// What a request wants of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// What is kept must not be used unasked (`no-cache`).
    pub(super) ask: bool,
    /// The node must not be asked (`only-if-cached`).
    pub(super) only_kept: bool,
    /// Oldest answer (`max-age`).
    pub(super) age_max: Option<Duration>,
    /// For how long the answer has to stay fresh (`min-fresh`).
    pub(super) fresh_min: Duration,
}

/// Reads what a request wants. An error is why the cache has nothing to do with it.
pub(super) fn wishes(method: &Method, headers: &HeaderMap) -> Result<Wishes, Bypass> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Bypass::Method);
    }
    // Secrets; a body that would take part in the answer; conditions on the state of the node itself (RFC 9110 section
    // 13.1.1: not for a cache to judge).
    let never =
        [header::AUTHORIZATION, header::TRANSFER_ENCODING, header::IF_MATCH, header::IF_UNMODIFIED_SINCE];
    let has_body = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    let control = Control::of(headers);
    if has_body || control.no_store || never.iter().any(|name| headers.contains_key(name)) {
        return Err(Bypass::Request);
    }
    Ok(Wishes {
        ask: control.no_cache,
        only_kept: control.only_if_cached,
        age_max: control.max_age,
        fresh_min: control.min_fresh.unwrap_or_default(),
    })
}

/// Why a request goes past the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bypass {
    /// Its method is not one whose answers are kept.
    Method,
    /// It says so, or holds what must not be kept.
    Request,
}

/// When a node was asked and when its head came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// When it was asked.
    pub(super) asked: Instant,
    /// When the head was there.
    pub(super) answered: Instant,
    /// The same by the clock on the wall, since the Unix epoch.
    pub(super) wall: Duration,
}

/// By what an answer is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// When it was asked for.
    asked: Instant,
    /// When it came.
    since: Instant,
    /// How old it was then (RFC 9111 section 4.2.3).
    age_then: Duration,
    /// How long it is fresh by its own word.
    lifetime: Option<Duration>,
    /// It must not be used without asking (`no-cache`).
    always_ask: bool,
    /// It must not be used when stale, whoever allows it.
    never_stale: bool,
    /// A route's word does not make it usable when stale (RFC 9111 section 5.2.2.10: `s-maxage`).
    own_word_only: bool,
    stale: Option<Duration>,
    stale_if_error: Option<Duration>,
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Not {
    /// Its status.
    Status,
    /// `Set-Cookie`, `private`, `no-store`.
    Secret,
    /// It does not say for how long, and neither does the route.
    Unsaid,
    /// It is stale at once, and nothing is there to ask by.
    Stale,
    /// It differs by what no key can hold, or by secrets.
    Varies,
    /// It has no end that can be trusted.
    Endless,
    /// It is too long, or there is no room.
    Large,
}

impl Not {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Secret => "secret",
            Self::Unsaid => "unsaid",
            Self::Stale => "stale",
            Self::Varies => "varies",
            Self::Endless => "endless",
            Self::Large => "large",
        }
    }
}

/// Decides whether an answer to a GET may be kept (RFC 9111 section 3), and by what terms.
pub(super) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    rule: &CacheRule,
    times: Times,
) -> Result<Terms, Not> {
    let control = Control::of(headers);
    if headers.contains_key(header::SET_COOKIE) || control.private || control.no_store {
        return Err(Not::Secret);
    }
    if !KEPT.contains(&status.as_u16()) || headers.contains_key(header::CONTENT_RANGE) {
        return Err(Not::Status);
    }
    let date = date(headers, &header::DATE);
    let lifetime = match (control.shared_max_age, control.max_age) {
        (Some(age), _) | (None, Some(age)) => Some(age),
        (None, None) if headers.contains_key(header::EXPIRES) => {
            // A date that cannot be read is in the past (RFC 9111 section 5.3).
            let expires = self::date(headers, &header::EXPIRES).unwrap_or_default();
            Some(expires.saturating_sub(date.unwrap_or(times.wall)).min(YEAR))
        }
        (None, None) => None,
    };
    // The route speaks of pages and files, not of what they may become: redirects for a while, errors.
    let usual = matches!(status.as_u16(), 200 | 203 | 301 | 308);
    if lifetime.is_none() && !control.no_cache && (rule.fresh_for.is_none() || !usual) {
        return Err(Not::Unsaid);
    }
    // RFC 9111 section 4.2.3.
    let apparent = date.map_or(Duration::ZERO, |date| times.wall.saturating_sub(date));
    let said = headers.get(header::AGE).map_or(Duration::ZERO, |age| seconds(age.as_bytes()));
    let delay = times.answered.saturating_duration_since(times.asked);
    let age_then = apparent.max(said.saturating_add(delay)).min(YEAR);
    let terms = Terms {
        asked: times.asked,
        since: times.answered,
        age_then,
        lifetime,
        always_ask: control.no_cache,
        never_stale: control.must_revalidate || control.no_cache,
        own_word_only: control.shared_max_age.is_some(),
        stale: control.stale_while_revalidate,
        stale_if_error: control.stale_if_error,
    };
    let validators = [header::ETAG, header::LAST_MODIFIED];
    let of_use = terms.is_fresh(rule, times.answered)
        || validators.iter().any(|name| headers.contains_key(name))
        || terms.window(rule).is_some();
    if of_use { Ok(terms) } else { Err(Not::Stale) }
}

/// What may be done with an answer that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It is used.
    Fresh,
    /// It is used, and the node is asked behind that.
    Stale,
    /// The node is asked first.
    Ask,
}

impl Terms {
    /// Whether another answer was asked for later. Which of two is the newer one cannot be told from when they came.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        self.asked < other.asked
    }

    /// How old the answer is (RFC 9111 section 4.2.3).
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.age_then.saturating_add(now.saturating_duration_since(self.since)).min(YEAR * 2)
    }

    /// For how long it is still fresh, in seconds; below zero: for how long it has not been (RFC 9211 section 2.5).
    pub(super) fn left(&self, rule: &CacheRule, now: Instant) -> i64 {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        seconds(self.lifetime(rule)) - seconds(self.age(now))
    }

    /// Decides what may be done with it (RFC 9111 section 4).
    pub(super) fn usable(&self, rule: &CacheRule, wishes: &Wishes, now: Instant) -> Use {
        let age = self.age(now);
        if self.always_ask || wishes.ask || wishes.age_max.is_some_and(|max| age > max) {
            return Use::Ask;
        }
        let lifetime = self.lifetime(rule);
        if age.saturating_add(wishes.fresh_min) < lifetime {
            return Use::Fresh;
        }
        // A request that wants it fresh for a while is not one for a stale answer.
        let allowed = self.allowed(self.stale, rule.stale).filter(|_| wishes.fresh_min.is_zero());
        match allowed {
            Some(window) if age < lifetime.saturating_add(window) => Use::Stale,
            Some(_) | None => Use::Ask,
        }
    }

    /// Tells whether it may be used although it is stale, because no node can serve (RFC 5861 section 4).
    pub(super) fn usable_after_error(&self, rule: &CacheRule, now: Instant) -> bool {
        let lifetime = self.lifetime(rule);
        let window = self.allowed(self.stale_if_error, rule.stale_if_error);
        window.is_some_and(|window| self.age(now) < lifetime.saturating_add(window))
    }

    fn is_fresh(&self, rule: &CacheRule, now: Instant) -> bool {
        !self.always_ask && self.age(now) < self.lifetime(rule)
    }

    fn lifetime(&self, rule: &CacheRule) -> Duration {
        let lifetime = self.lifetime.or(rule.fresh_for).unwrap_or_default();
        lifetime.min(rule.fresh_max.unwrap_or(YEAR))
    }

    /// The longest time for which it may be used when stale, if any.
    fn window(&self, rule: &CacheRule) -> Option<Duration> {
        let windows =
            [self.allowed(self.stale, rule.stale), self.allowed(self.stale_if_error, rule.stale_if_error)];
        windows.into_iter().flatten().max()
    }

    /// The answer's own word comes before the route's.
    fn allowed(&self, own: Option<Duration>, route: Duration) -> Option<Duration> {
        let route = if self.own_word_only { Duration::ZERO } else { route };
        Some(own.unwrap_or(route)).filter(|window| !window.is_zero() && !self.never_stale)
    }
}

/// Tells whether an answer to a revalidation means that the node cannot serve (RFC 5861 section 4).
pub(super) fn is_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

fn date(headers: &HeaderMap, name: &header::HeaderName) -> Option<Duration> {
    let text = headers.get(name)?.to_str().ok()?;
    httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()
}

/// Statuses that are kept: final, and of the same meaning for everybody.
const KEPT: &[u16] = &[200, 203, 204, 300, 301, 302, 307, 308, 404, 410];

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    /// Tue, 15 Nov 1994 12:45:26 GMT.
    const WALL: Duration = Duration::from_secs(784_903_526);

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn now() -> Instant {
        crate::clock::now()
    }

    fn judged(status: u16, lines: &[(&'static str, &str)], rule: &CacheRule) -> Result<Terms, Not> {
        let at = now();
        let times = Times { asked: at, answered: at, wall: WALL };
        judge(StatusCode::from_u16(status).unwrap(), &headers(lines), rule, times)
    }

    fn rule(fresh: u32, stale: u32, stale_if_error: u32) -> CacheRule {
        CacheRule {
            fresh_for: (fresh > 0).then(|| S * fresh),
            fresh_max: None,
            stale: S * stale,
            stale_if_error: S * stale_if_error,
        }
    }

    #[test]
    fn what_is_kept_and_for_how_long() {
        let (none, hour) = (rule(0, 0, 0), rule(3600, 0, 0));
        const CC: &str = "cache-control";
        const ETAG: (&str, &str) = ("etag", "\"a\"");
        for (status, lines, rule, expected) in [
            (200, vec![(CC, "max-age=60")], &none, Ok(60)),
            (200, vec![(CC, "max-age=60, s-maxage=10")], &none, Ok(10)),
            (200, vec![(CC, "max-age=60, s-maxage=10")], &hour, Ok(10)),
            (200, vec![(CC, "public")], &none, Err(Not::Unsaid)),
            (200, vec![(CC, "public")], &hour, Ok(3600)),
            (200, vec![], &none, Err(Not::Unsaid)),
            (200, vec![ETAG], &none, Err(Not::Unsaid)),
            (200, vec![], &hour, Ok(3600)),
            // The word of the answer comes first, also when it is zero.
            (200, vec![(CC, "max-age=0")], &hour, Err(Not::Stale)),
            (200, vec![(CC, "max-age=0"), ETAG], &hour, Ok(0)),
            (200, vec![(CC, "max-age=x")], &hour, Err(Not::Stale)),
            (200, vec![(CC, "no-cache")], &hour, Err(Not::Stale)),
            (200, vec![(CC, "no-cache"), ETAG], &none, Ok(0)),
            (200, vec![(CC, "max-age=0, stale-while-revalidate=5")], &none, Ok(0)),
            // RFC 9111 section 5.3.
            (200, vec![("expires", "Tue, 15 Nov 1994 12:46:26 GMT")], &none, Ok(60)),
            (
                200,
                vec![("expires", "Tue, 15 Nov 1994 12:46:26 GMT"), ("date", "Tue, 15 Nov 1994 12:45:16 GMT")],
                &none,
                Ok(70),
            ),
            (200, vec![("expires", "0")], &hour, Err(Not::Stale)),
            (200, vec![("expires", "0"), (CC, "max-age=5")], &hour, Ok(5)),
            // Secrets.
            (200, vec![(CC, "max-age=60"), ("set-cookie", "a=b")], &hour, Err(Not::Secret)),
            (200, vec![(CC, "private, max-age=60")], &hour, Err(Not::Secret)),
            (200, vec![(CC, "private=\"x\", max-age=60")], &hour, Err(Not::Secret)),
            (200, vec![(CC, "no-store, max-age=60")], &hour, Err(Not::Secret)),
            // Statuses.
            (404, vec![(CC, "max-age=60")], &none, Ok(60)),
            (404, vec![], &hour, Err(Not::Unsaid)),
            (302, vec![], &hour, Err(Not::Unsaid)),
            (302, vec![(CC, "max-age=60")], &hour, Ok(60)),
            (301, vec![], &hour, Ok(3600)),
            (206, vec![(CC, "max-age=60")], &hour, Err(Not::Status)),
            (200, vec![(CC, "max-age=60"), ("content-range", "bytes 0-1/2")], &hour, Err(Not::Status)),
            (503, vec![(CC, "max-age=60")], &hour, Err(Not::Status)),
            (401, vec![(CC, "max-age=60")], &hour, Err(Not::Status)),
            (304, vec![(CC, "max-age=60")], &hour, Err(Not::Status)),
            // Old at once.
            (200, vec![(CC, "max-age=60"), ("age", "60")], &none, Err(Not::Stale)),
            (200, vec![(CC, "max-age=60"), ("age", "59")], &none, Ok(60)),
        ] {
            let judged = judged(status, &lines, rule).map(|terms| terms.lifetime(rule).as_secs());
            assert_eq!(judged, expected, "{status} {lines:?} {rule:?}");
        }
    }

    #[test]
    fn age_is_the_larger_of_what_is_said_and_what_is_seen() {
        let at = now();
        for (lines, delay, expected) in [
            (vec![], 0, 0),
            (vec![], 3, 3),
            (vec![("age", "5")], 0, 5),
            (vec![("age", "5")], 3, 8),
            (vec![("date", "Tue, 15 Nov 1994 12:45:06 GMT")], 3, 20),
            (vec![("date", "Tue, 15 Nov 1994 12:45:06 GMT"), ("age", "30")], 3, 33),
            // A node whose clock is ahead.
            (vec![("date", "Tue, 15 Nov 1994 12:55:06 GMT")], 0, 0),
            (vec![("age", "minus one")], 0, 0),
        ] {
            let mut lines = lines.clone();
            lines.push(("cache-control", "max-age=100"));
            let times = Times { asked: at, answered: at + S * delay, wall: WALL };
            let terms = judge(StatusCode::OK, &headers(&lines), &rule(0, 0, 0), times).unwrap();
            assert_eq!(terms.age(at + S * delay).as_secs(), expected, "{lines:?}");
            assert_eq!(terms.age(at + S * (delay + 7)).as_secs(), expected + 7, "{lines:?}");
            assert_eq!(terms.left(&rule(0, 0, 0), at + S * delay), 100 - i64::try_from(expected).unwrap());
        }
    }

    #[test]
    fn what_is_kept_is_used_as_long_as_all_agree() {
        let none = Wishes::default();
        let ask = Wishes { ask: true, ..none };
        let young = Wishes { age_max: Some(S * 4), ..none };
        let long = Wishes { fresh_min: S * 6, ..none };
        let (plain, kind) = (rule(0, 0, 0), rule(0, 20, 0));
        for (control, age, rule, wishes, expected) in [
            ("max-age=10", 5, &plain, none, Use::Fresh),
            ("max-age=10", 9, &plain, none, Use::Fresh),
            ("max-age=10", 10, &plain, none, Use::Ask),
            ("max-age=10", 5, &plain, ask, Use::Ask),
            ("max-age=10", 5, &plain, young, Use::Ask),
            ("max-age=10", 4, &plain, young, Use::Fresh),
            ("max-age=10", 5, &plain, long, Use::Ask),
            ("max-age=10", 3, &plain, long, Use::Fresh),
            ("no-cache, max-age=10", 0, &kind, none, Use::Ask),
            // RFC 5861 section 3, by the route or by the answer itself.
            ("max-age=10", 10, &kind, none, Use::Stale),
            ("max-age=10", 29, &kind, none, Use::Stale),
            ("max-age=10", 30, &kind, none, Use::Ask),
            ("max-age=10", 15, &kind, ask, Use::Ask),
            ("max-age=10", 15, &kind, long, Use::Ask),
            ("max-age=10", 15, &kind, young, Use::Ask),
            ("max-age=10, stale-while-revalidate=5", 14, &plain, none, Use::Stale),
            ("max-age=10, stale-while-revalidate=5", 15, &kind, none, Use::Ask),
            ("max-age=10, stale-while-revalidate=0", 10, &kind, none, Use::Ask),
            // RFC 9111 section 4.2.4.
            ("max-age=10, must-revalidate", 10, &kind, none, Use::Ask),
            ("max-age=10, proxy-revalidate, stale-while-revalidate=5", 10, &kind, none, Use::Ask),
            ("s-maxage=10", 10, &kind, none, Use::Ask),
            ("s-maxage=10, stale-while-revalidate=5", 10, &kind, none, Use::Stale),
        ] {
            let lines = [("cache-control", control), ("etag", "\"a\"")];
            let terms = judged(200, &lines, rule).unwrap();
            assert_eq!(
                terms.usable(rule, &wishes, terms.since + S * age),
                expected,
                "{control} {age} {wishes:?}"
            );
        }
    }

    #[test]
    fn when_nobody_can_serve_a_stale_answer_is_better_than_none() {
        let (plain, kind) = (rule(0, 0, 0), rule(0, 0, 20));
        for (control, age, rule, expected) in [
            ("max-age=10", 10, &plain, false),
            ("max-age=10", 29, &kind, true),
            ("max-age=10", 30, &kind, false),
            ("max-age=10, stale-if-error=5", 14, &plain, true),
            ("max-age=10, stale-if-error=5", 15, &kind, false),
            ("max-age=10, must-revalidate", 11, &kind, false),
            ("no-cache", 0, &kind, false),
            ("s-maxage=10", 11, &kind, false),
            ("s-maxage=10, stale-if-error=5", 11, &kind, true),
        ] {
            let terms = judged(200, &[("cache-control", control), ("etag", "\"a\"")], rule).unwrap();
            assert_eq!(terms.usable_after_error(rule, terms.since + S * age), expected, "{control} {age}");
        }
    }

    #[test]
    fn a_reload_that_changes_a_route_changes_what_is_kept_for_it() {
        let terms = judged(200, &[], &rule(10, 0, 0)).unwrap();
        let (later, wishes) = (terms.since + S * 15, Wishes::default());
        assert_eq!(terms.usable(&rule(10, 0, 0), &wishes, later), Use::Ask);
        assert_eq!(terms.usable(&rule(20, 0, 0), &wishes, later), Use::Fresh);
        assert_eq!(terms.usable(&rule(10, 10, 0), &wishes, later), Use::Stale);
        assert_eq!(terms.usable(&rule(0, 0, 0), &wishes, terms.since), Use::Ask);
        // A bound holds whatever the answer says.
        let long = judged(200, &[("cache-control", "max-age=3600")], &rule(0, 0, 0)).unwrap();
        let bounded = CacheRule { fresh_max: Some(S * 10), ..rule(60, 10, 0) };
        for (age, expected) in [(9, Use::Fresh), (10, Use::Stale), (20, Use::Ask)] {
            assert_eq!(terms.usable(&bounded, &wishes, terms.since + S * age), expected, "{age}");
            assert_eq!(long.usable(&bounded, &wishes, long.since + S * age), expected, "{age}");
        }
    }

    #[test]
    fn requests_that_go_past_the_cache() {
        for (method, lines, expected) in [
            ("GET", vec![], Ok(Wishes::default())),
            ("HEAD", vec![], Ok(Wishes::default())),
            ("POST", vec![], Err(Bypass::Method)),
            ("OPTIONS", vec![], Err(Bypass::Method)),
            ("GET", vec![("authorization", "Bearer x")], Err(Bypass::Request)),
            ("GET", vec![("cache-control", "no-store")], Err(Bypass::Request)),
            ("GET", vec![("content-length", "3")], Err(Bypass::Request)),
            ("GET", vec![("content-length", "0")], Ok(Wishes::default())),
            ("GET", vec![("transfer-encoding", "chunked")], Err(Bypass::Request)),
            ("GET", vec![("if-match", "*")], Err(Bypass::Request)),
            ("GET", vec![("cache-control", "no-cache")], Ok(Wishes { ask: true, ..Wishes::default() })),
            ("GET", vec![("pragma", "no-cache")], Ok(Wishes { ask: true, ..Wishes::default() })),
            (
                "GET",
                vec![("cache-control", "max-age=0")],
                Ok(Wishes { age_max: Some(Duration::ZERO), ..Wishes::default() }),
            ),
            (
                "GET",
                vec![("cache-control", "only-if-cached, min-fresh=3")],
                Ok(Wishes { only_kept: true, fresh_min: S * 3, ..Wishes::default() }),
            ),
        ] {
            assert_eq!(wishes(&method.parse().unwrap(), &headers(&lines)), expected, "{method} {lines:?}");
        }
    }
}
