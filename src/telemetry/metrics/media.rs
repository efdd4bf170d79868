//! Metrics of workers and flows.

use prometheus::Registry;

/// Metrics of workers and flows.
#[derive(Clone, Debug)]
pub struct MediaMetrics {}

impl MediaMetrics {
    pub(super) fn register(_registry: &Registry) -> Self {
        Self {}
    }
}
