//! Makes rates of a worker's growing totals.
//!
//! Pure: time is passed in. Whoever reads the workers' reports once a second keeps one [`RateSeries`] per worker.

use std::collections::VecDeque;
use std::time::Instant;

use super::view::RateView;

/// Points kept: two minutes at one a second.
pub const POINTS_MAX: usize = 120;

/// Totals of a worker since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Datagrams received.
    pub packets_in: u64,
    /// Datagrams sent.
    pub packets_out: u64,
    /// Bytes of UDP payload received.
    pub bytes_in: u64,
    /// Bytes of UDP payload sent.
    pub bytes_out: u64,
    /// Datagrams dropped, for whatever reason.
    pub drops: u64,
}

/// The rates of one worker over the last two minutes.
#[derive(Clone, Debug, Default)]
pub struct RateSeries {
    last: Option<(Instant, Totals)>,
    points: VecDeque<RateView>,
}

impl RateSeries {
    /// Takes the totals of this moment. The first call gives no point; totals that went back (a new worker) start anew.
    pub fn record(&mut self, totals: Totals, now: Instant) {
        let before = self.last.replace((now, totals));
        let Some((then, before)) = before else { return };
        let elapsed_ms = now.saturating_duration_since(then).as_millis();
        let Some(point) = rates(before, totals, elapsed_ms) else { return };
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// Returns the newest rates; zero before there are any.
    pub fn current(&self) -> RateView {
        self.points.back().copied().unwrap_or_default()
    }

    /// Returns all points, oldest first; at most [`POINTS_MAX`].
    pub fn points(&self) -> Vec<RateView> {
        self.points.iter().copied().collect()
    }
}

fn rates(before: Totals, after: Totals, elapsed_ms: u128) -> Option<RateView> {
    let per_second = |before: u64, after: u64| -> Option<u64> {
        let scaled = u128::from(after.checked_sub(before)?) * 1000;
        u64::try_from(scaled.checked_div(elapsed_ms)?).ok()
    };
    Some(RateView {
        packets_in: per_second(before.packets_in, after.packets_in)?,
        packets_out: per_second(before.packets_out, after.packets_out)?,
        bytes_in: per_second(before.bytes_in, after.bytes_in)?,
        bytes_out: per_second(before.bytes_out, after.bytes_out)?,
        drops: per_second(before.drops, after.drops)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn totals(packets_in: u64) -> Totals {
        Totals { packets_in, bytes_in: packets_in * 1000, ..Totals::default() }
    }

    #[test]
    fn rates_are_scaled_to_one_second() {
        let start = crate::clock::now();
        let mut series = RateSeries::default();
        series.record(totals(100), start);
        assert_eq!(series.current(), RateView::default());
        series.record(totals(400), start + Duration::from_millis(1500));
        assert_eq!(series.current(), RateView { packets_in: 200, bytes_in: 200_000, ..RateView::default() });
    }

    #[test]
    fn totals_that_go_back_and_time_that_stands_give_no_point() {
        let start = crate::clock::now();
        let mut series = RateSeries::default();
        series.record(totals(100), start);
        series.record(totals(50), start + Duration::from_secs(1));
        series.record(totals(90), start + Duration::from_secs(1));
        assert_eq!(series.points(), []);
        series.record(totals(150), start + Duration::from_secs(2));
        assert_eq!(series.current().packets_in, 60);
    }

    #[test]
    fn the_series_is_bounded_and_keeps_the_newest() {
        let start = crate::clock::now();
        let mut series = RateSeries::default();
        for second in 0..300 {
            series.record(totals(second * second), start + Duration::from_secs(second));
        }
        let points = series.points();
        assert_eq!(points.len(), POINTS_MAX);
        assert_eq!(points.last().map(|p| p.packets_in), Some(299 * 299 - 298 * 298));
    }
}
