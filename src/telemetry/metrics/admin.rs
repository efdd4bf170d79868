//! Metrics of the admin server.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::{counter, counter_vec, gauge};
use crate::telemetry::names;

/// Metrics of the admin server.
#[derive(Clone, Debug)]
pub struct AdminMetrics {
    /// Open connections.
    pub connections: IntGauge,
    /// Failed accepts.
    pub accept_errors: IntCounter,
    /// Answered requests by class of status.
    pub requests: IntCounterVec,
    /// Refused requests by reason.
    pub refused: IntCounterVec,
}

impl AdminMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        Self {
            connections: gauge(registry, names::ADMIN_CONNECTIONS, "Open connections of the admin server"),
            accept_errors: counter(
                registry,
                names::ADMIN_ACCEPT_ERRORS,
                "Connections that the admin server could not accept",
            ),
            requests: counter_vec(
                registry,
                names::ADMIN_REQUESTS,
                "Requests that the admin server answered",
                &["code"],
            ),
            refused: counter_vec(
                registry,
                names::ADMIN_REFUSED,
                "Requests that the admin server refused",
                &["reason"],
            ),
        }
    }
}
