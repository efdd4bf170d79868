//! Metrics of limits and bans.

use prometheus::{IntCounterVec, IntGauge, Registry};

use super::{counter_vec, gauge};
use crate::telemetry::names;

/// Metrics of limits and bans.
#[derive(Clone, Debug)]
pub struct LimitMetrics {
    /// What was beyond a limit, by limit and what came of it.
    pub limited: IntCounterVec,
    /// What was let through because a table was full, by table.
    pub table_full: IntCounterVec,
    /// Bans that are in force, or have ended and were not yet looked at.
    pub bans: IntGauge,
    /// Bans that were added, by who asked for them.
    pub bans_added: IntCounterVec,
}

impl LimitMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        Self {
            limited: counter_vec(
                registry,
                names::EDGE_LIMITED,
                "Connections and requests that were beyond a limit",
                &["limit", "action"],
            ),
            table_full: counter_vec(
                registry,
                names::EDGE_LIMIT_TABLE_FULL,
                "What was let through unlimited because a table was full",
                &["table"],
            ),
            bans: gauge(registry, names::EDGE_BANS, "Bans in force"),
            bans_added: counter_vec(registry, names::EDGE_BANS_ADDED, "Bans that were added", &["by"]),
        }
    }
}
