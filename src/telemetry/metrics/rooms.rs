//! Metrics of the room table.

use prometheus::Registry;

/// Metrics of the room table.
#[derive(Clone, Debug)]
pub struct RoomMetrics {}

impl RoomMetrics {
    pub(super) fn register(_registry: &Registry) -> Self {
        Self {}
    }
}
