//! Metrics of nodes and checks.

use prometheus::Registry;

/// Metrics of nodes and checks.
#[derive(Clone, Debug)]
pub struct PoolMetrics {}

impl PoolMetrics {
    pub(super) fn register(_registry: &Registry) -> Self {
        Self {}
    }
}
