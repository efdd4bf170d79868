//! How many messages a client may send.
//!
//! Pure: a bucket that fills with time.

use std::time::{Duration, Instant};

/// Allows a burst, and a rate after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    tokens: u32,
    filled: Instant,
}

impl Rate {
    /// Creates a full bucket.
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: BURST, filled: now }
    }

    /// Takes one token; false when there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.filled).as_millis() / EVERY.as_millis();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.filled += EVERY * earned.min(BURST);
            if earned >= BURST {
                self.filled = now;
            }
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

/// Messages at once.
const BURST: u32 = 50;
/// One more each.
const EVERY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_ten_a_second() {
        let start = crate::clock::now();
        let mut rate = Rate::new(start);
        let taken = (0..200).filter(|_| rate.take(start)).count();
        assert_eq!(taken, 50);
        let later = (1..=1000u64).filter(|ms| rate.take(start + Duration::from_millis(*ms))).count();
        assert_eq!(later, 10);
        let end = start + Duration::from_secs(3600);
        assert_eq!((0..200).filter(|_| rate.take(end)).count(), 50);
    }
}
