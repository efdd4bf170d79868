//! Metrics of the HTTPS tier.

use prometheus::Registry;

/// Metrics of the HTTPS tier.
#[derive(Clone, Debug)]
pub struct EdgeMetrics {}

impl EdgeMetrics {
    pub(super) fn register(_registry: &Registry) -> Self {
        Self {}
    }
}
