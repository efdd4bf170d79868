//! The only place that reads a clock.
//!
//! Engines get time passed in, so that a run can be replayed from a seed. Shells call this once per batch.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Returns the monotonic time.
#[expect(clippy::disallowed_methods, reason = "this is the one place that may read it")]
pub fn now() -> Instant {
    Instant::now()
}

/// Returns the wall-clock time since the Unix epoch; zero if the clock stands before it.
///
/// Only certificates, tokens and log lines need it. Everything else uses [`now`].
#[expect(clippy::disallowed_methods, reason = "this is the one place that may read it")]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
