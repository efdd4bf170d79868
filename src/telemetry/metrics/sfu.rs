//! Metrics of the embedded SFU's control side.

use prometheus::Registry;

/// Metrics of the embedded SFU's control side.
#[derive(Clone, Debug)]
pub struct SfuMetrics {}

impl SfuMetrics {
    pub(super) fn register(_registry: &Registry) -> Self {
        Self {}
    }
}
