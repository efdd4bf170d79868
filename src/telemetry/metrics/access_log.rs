//! Metrics of the access log.

use prometheus::{IntCounter, IntCounterVec, Registry};

use super::{counter, counter_vec};
use crate::telemetry::names;

/// Metrics of the access log.
#[derive(Clone, Debug)]
pub struct AccessLogMetrics {
    /// Lines that were written.
    pub lines: IntCounter,
    /// Lines that were lost, by reason.
    pub lines_dropped: IntCounterVec,
}

impl AccessLogMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        Self {
            lines: counter(registry, names::ACCESS_LOG_LINES, "Lines of the access log that were written"),
            lines_dropped: counter_vec(
                registry,
                names::ACCESS_LOG_LINES_DROPPED,
                "Lines of the access log that were lost",
                &["reason"],
            ),
        }
    }
}
