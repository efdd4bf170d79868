//! Rates: one bucket a key, by the generic cell rate algorithm.
//!
//! Pure: the time is passed in. A bucket is one number, the time at which it is full again; a bucket that is full is as
//! good as none, so only such are ever dropped. The table is bounded: when it holds buckets in use only, unknown keys
//! pass, for a client must not be shut out because of others.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::settings::Rate;

/// The buckets of some keys. Times are nanoseconds since any one moment.
#[derive(Debug)]
pub(super) struct Buckets {
    /// When each is full again.
    full_at: HashMap<u128, u64>,
    keys_max: usize,
    /// When the full ones were last dropped.
    swept_at: u64,
}

/// What came of asking a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It had one.
    Yes,
    /// It is empty until then.
    Empty(Duration),
    /// Not asked: the table is full of buckets in use.
    Unknown,
}

/// The full ones are looked for at most this often: it takes a walk through the table.
const SWEEP_EVERY: u64 = 1_000_000_000;

impl Buckets {
    pub(super) fn new(keys_max: usize) -> Self {
        Self { full_at: HashMap::new(), keys_max, swept_at: 0 }
    }

    /// Takes one from the bucket of a key.
    pub(super) fn take(&mut self, key: u128, rate: &Rate, now: u64) -> Taken {
        let interval = interval(rate);
        let depth = interval.saturating_mul(u64::from(rate.burst.get()));
        if let Some(full_at) = self.full_at.get_mut(&key) {
            // A rate that a reload made faster forgets what the slower one remembered.
            *full_at = (*full_at).clamp(now, now.saturating_add(depth));
            let next = full_at.saturating_add(interval);
            let over = next.saturating_sub(now).saturating_sub(depth);
            if over > 0 {
                return Taken::Empty(Duration::from_nanos(over));
            }
            *full_at = next;
            return Taken::Yes;
        }
        if self.full_at.len() >= self.keys_max && !self.make_room(now) {
            return Taken::Unknown;
        }
        self.full_at.insert(key, now.saturating_add(interval));
        Taken::Yes
    }

    /// Forgets a key: its bucket is full again.
    pub(super) fn forget(&mut self, key: u128) {
        self.full_at.remove(&key);
    }

    /// Drops the buckets that are full.
    fn make_room(&mut self, now: u64) -> bool {
        if now.saturating_sub(self.swept_at) < SWEEP_EVERY && self.swept_at > 0 {
            return false;
        }
        self.swept_at = now.max(1);
        self.full_at.retain(|_, full_at| *full_at > now);
        self.full_at.len() < self.keys_max
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.full_at.len()
    }
}

/// Nanoseconds between two at an even pace.
fn interval(rate: &Rate) -> u64 {
    let nanos = rate.per.as_nanos() / u128::from(rate.count.get());
    u64::try_from(nanos).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(count: u32, seconds: u64, burst: u32) -> Rate {
        let of = |n| NonZeroU32::new(n).unwrap();
        Rate { count: of(count), per: Duration::from_secs(seconds), burst: of(burst) }
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut buckets = Buckets::new(10);
        let rate = rate(2, 1, 3);
        for _ in 0..3 {
            assert_eq!(buckets.take(1, &rate, SECOND), Taken::Yes);
        }
        assert_eq!(buckets.take(1, &rate, SECOND), Taken::Empty(Duration::from_millis(500)));
        assert_eq!(buckets.take(2, &rate, SECOND), Taken::Yes, "others have their own");
        assert_eq!(buckets.take(1, &rate, SECOND + SECOND / 2), Taken::Yes);
        assert_eq!(buckets.take(1, &rate, SECOND + SECOND / 2), Taken::Empty(Duration::from_millis(500)));
        // After a pause the whole burst is there again, and no more.
        let passed = (0..10).filter(|_| buckets.take(1, &rate, 100 * SECOND) == Taken::Yes).count();
        assert_eq!(passed, 3);
        buckets.forget(1);
        assert_eq!(buckets.take(1, &rate, 100 * SECOND), Taken::Yes);
    }

    #[test]
    fn a_full_table_drops_full_buckets_only_and_lets_unknown_keys_pass() {
        let mut buckets = Buckets::new(2);
        let slow = rate(1, 3600, 1);
        let fast = rate(1000, 1, 1);
        assert_eq!(buckets.take(1, &slow, SECOND), Taken::Yes);
        assert_eq!(buckets.take(2, &fast, SECOND), Taken::Yes);
        assert_eq!(buckets.take(3, &slow, SECOND), Taken::Unknown, "both are in use");
        assert_eq!(buckets.take(1, &slow, SECOND + 1), Taken::Empty(Duration::from_nanos(3600 * SECOND - 1)));
        assert_eq!(buckets.take(3, &slow, 3 * SECOND), Taken::Yes, "the fast one is full by now");
        assert!(matches!(buckets.take(1, &slow, 3 * SECOND), Taken::Empty(_)), "the one in use stays");
        assert_eq!(buckets.len(), 2);
    }

    #[test]
    fn a_faster_rate_is_not_held_up_by_what_a_slower_one_remembered() {
        let mut buckets = Buckets::new(2);
        let slow = rate(1, 3600, 10);
        for _ in 0..10 {
            assert_eq!(buckets.take(1, &slow, 0), Taken::Yes);
        }
        let fast = rate(10, 1, 10);
        assert_eq!(buckets.take(1, &fast, 0), Taken::Empty(Duration::from_millis(100)));
        assert_eq!(buckets.take(1, &fast, SECOND), Taken::Yes);
    }

    proptest! {
        #[test]
        fn in_any_stretch_of_time_no_more_than_burst_and_rate_pass(
            count in 1u32..50, seconds in 1u64..5, burst in 1u32..20,
            gaps in proptest::collection::vec(0u64..SECOND, 1..200),
        ) {
            let rate = rate(count, seconds, burst);
            let mut buckets = Buckets::new(4);
            let mut now = 0;
            let mut passed = Vec::new();
            for gap in gaps {
                now += gap;
                match buckets.take(7, &rate, now) {
                    Taken::Yes => passed.push(now),
                    Taken::Empty(wait) => {
                        prop_assert!(wait > Duration::ZERO && wait <= Duration::from_nanos(interval(&rate)));
                        // Whoever waits so long gets one.
                        let mut later = Buckets { full_at: buckets.full_at.clone(), ..Buckets::new(4) };
                        let at = now + u64::try_from(wait.as_nanos()).unwrap();
                        prop_assert_eq!(later.take(7, &rate, at), Taken::Yes);
                    }
                    Taken::Unknown => prop_assert!(false, "there is room"),
                }
            }
            for (i, from) in passed.iter().enumerate() {
                for (j, to) in passed.iter().enumerate().skip(i) {
                    let most = u64::from(burst) + (to - from) / interval(&rate);
                    prop_assert!((j - i + 1) as u64 <= most);
                }
            }
        }
    }
}
