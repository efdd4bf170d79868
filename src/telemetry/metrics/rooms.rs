//! Metrics of the room table.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::{counter, counter_vec, gauge};
use crate::telemetry::names;

/// Metrics of the room table.
#[derive(Clone, Debug)]
pub struct RoomMetrics {
    /// Rooms that have a place.
    pub placed: IntGauge,
    /// Rooms that somebody holds.
    pub held: IntGauge,
    /// Places granted to rooms that had none.
    pub granted: IntCounter,
    /// Rooms placed anew, by reason.
    pub replaced: IntCounterVec,
    /// Places that ended because nobody held or touched the room for its linger.
    pub expired: IntCounter,
    /// Rooms placed without being kept, because the table was full.
    pub table_full: IntCounter,
    /// Requests for a room whose pool has no node that can serve.
    pub no_node: IntCounter,
    /// Room names that were refused, by reason.
    pub key_errors: IntCounterVec,
}

impl RoomMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        Self {
            placed: gauge(registry, names::ROOMS_PLACED, "Rooms that have a place"),
            held: gauge(registry, names::ROOMS_HELD, "Rooms held by an open stream"),
            granted: counter(registry, names::ROOMS_GRANTED, "Places granted to new rooms"),
            replaced: counter_vec(registry, names::ROOMS_REPLACED, "Rooms placed anew", &["reason"]),
            expired: counter(registry, names::ROOMS_EXPIRED, "Places that ended after their linger"),
            table_full: counter(
                registry,
                names::ROOMS_TABLE_FULL,
                "Rooms placed without being kept: the table was full",
            ),
            no_node: counter(registry, names::ROOMS_NO_NODE, "Requests for a room that no node can serve"),
            key_errors: counter_vec(
                registry,
                names::ROOMS_KEY_ERRORS,
                "Room names that were refused",
                &["reason"],
            ),
        }
    }
}
