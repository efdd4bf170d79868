//! Metrics of the process.

use prometheus::{IntGauge, IntGaugeVec, Registry};

use super::{gauge, gauge_vec};
use crate::telemetry::names;

/// Metrics of the process.
#[derive(Clone, Debug)]
pub struct ProcessMetrics {
    build_info: IntGaugeVec,
    /// Spawned tasks that run.
    pub tasks: IntGauge,
}

impl ProcessMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        Self {
            build_info: gauge_vec(registry, names::BUILD_INFO, "What runs here", &["version", "edge"]),
            tasks: gauge(registry, names::TASKS, "Spawned tasks that run"),
        }
    }

    /// Says what runs here; `edge` is empty when the configuration has no `edges`.
    pub fn say_build(&self, edge: &str) {
        self.build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), edge]).set(1);
    }
}
