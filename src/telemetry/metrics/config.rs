//! Metrics of the configuration.

use prometheus::{IntCounterVec, IntGauge, Registry};

use super::{counter_vec, gauge};
use crate::telemetry::names;

/// Metrics of the configuration.
#[derive(Clone, Debug)]
pub struct ConfigMetrics {
    /// Reloads by result.
    pub reloads: IntCounterVec,
    /// Generation of the running configuration.
    pub generation: IntGauge,
    /// Whether the last reload was applied.
    pub last_reload_ok: IntGauge,
}

impl ConfigMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        let reloads =
            counter_vec(registry, names::CONFIG_RELOADS, "Reloads of the configuration", &["result"]);
        // There from the start, so that a first rejection is a rise and not a new series.
        for result in ["applied", "rejected"] {
            reloads.with_label_values(&[result]);
        }
        Self {
            reloads,
            generation: gauge(registry, names::CONFIG_GENERATION, "Generation of the running configuration"),
            last_reload_ok: gauge(
                registry,
                names::CONFIG_LAST_RELOAD_OK,
                "Whether the last reload was applied",
            ),
        }
    }
}
