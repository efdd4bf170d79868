//! Pure: plain values that leave a worker once a second: replaced, never added up.

use std::time::Duration;

use super::drops::Drops;

/// What one worker has done since it started, and `host`'s own values.
#[derive(Clone, Debug, Default)]
pub struct WorkerReport<R> {
    /// Datagrams received from the socket.
    pub datagrams_in: u64,
    /// Their payload bytes.
    pub bytes_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Their payload bytes.
    pub bytes_out: u64,
    /// Receive system calls that returned datagrams.
    pub receives: u64,
    /// Send system calls.
    pub sends: u64,
    /// Datagrams that left in a send together with others (GSO).
    pub datagrams_out_batched: u64,
    /// Datagrams handed over to the worker that owns them.
    pub ring_out: u64,
    /// Datagrams received from the other workers.
    pub ring_in: u64,
    /// Datagrams dropped, by reason.
    pub drops: Drops,
    /// Validated flows now.
    pub flows: usize,
    /// STUN requests whose answer has not been seen.
    pub pending: usize,
    /// Receive buffers that this worker has made.
    pub buffers: usize,
    /// Turns of the loop.
    pub turns: u64,
    /// Time of the loop's turns in the last second, 99th percentile (rounded up to a power of two of microseconds).
    pub turn_p99: Duration,
    /// The longest turn in the last second.
    pub turn_max: Duration,
    /// What the host reports.
    pub host: R,
}

/// Counts turns by their length, in powers of two of microseconds.
#[derive(Debug, Default)]
pub(super) struct TurnTimes {
    buckets: [u32; 32],
    max: Duration,
}

impl TurnTimes {
    pub(super) fn record(&mut self, turn: Duration) {
        let bits = (u64::BITS - Self::micros(turn).leading_zeros()) as usize;
        let last = self.buckets.len() - 1;
        self.buckets[bits.min(last)] += 1;
        self.max = self.max.max(turn);
    }

    /// Returns the 99th percentile and the maximum, and begins anew.
    pub(super) fn take(&mut self) -> (Duration, Duration) {
        let total = self.buckets.iter().map(|&n| u64::from(n)).sum::<u64>();
        let mut below = 0;
        let mut p99 = Duration::ZERO;
        for (bits, &count) in self.buckets.iter().enumerate() {
            below += u64::from(count);
            if below * 100 >= total * 99 {
                p99 = Duration::from_micros(1_u64 << bits).min(self.max);
                break;
            }
        }
        let max = self.max;
        *self = Self::default();
        (p99, max)
    }

    fn micros(turn: Duration) -> u64 {
        u64::try_from(turn.as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_covers_99_of_100_turns() {
        let mut times = TurnTimes::default();
        assert_eq!(times.take(), (Duration::ZERO, Duration::ZERO));
        for _ in 0..99 {
            times.record(Duration::from_micros(5));
        }
        times.record(Duration::from_millis(9));
        assert_eq!(times.take(), (Duration::from_micros(8), Duration::from_millis(9)));
        times.record(Duration::MAX);
        assert_eq!(times.take().1, Duration::MAX);
    }
}
