//! Metrics of the embedded SFU's control side.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{counter_vec, gauge, gauge_vec};
use crate::telemetry::names;

/// Metrics of the embedded SFU's control side.
#[derive(Clone, Debug)]
pub struct SfuMetrics {
    /// Rooms with people in them, by worker.
    pub rooms: IntGaugeVec,
    /// Participants, by worker.
    pub participants: IntGaugeVec,
    /// RTP packets, by worker and direction.
    pub packets: IntCounterVec,
    /// RTP packets that were not forwarded, by worker and reason.
    pub packets_dropped: IntCounterVec,
    /// Joins, by worker.
    pub joined: IntCounterVec,
    /// Joins refused, by worker.
    pub joins_refused: IntCounterVec,
    /// Offers refused, by worker.
    pub offers_refused: IntCounterVec,
    /// Participants that ended, by worker and reason.
    pub ended: IntCounterVec,
    /// Keyframe requests, by worker and step.
    pub keyframes: IntCounterVec,
    /// ICE restarts, by worker.
    pub ice_restarts: IntCounterVec,
    /// Commands that a full queue did not take, by command.
    pub commands_dropped: IntCounterVec,
    /// Whether the last self-test passed, by worker.
    pub selftest_passed: IntGaugeVec,
    /// Self-tests, by worker and result.
    pub selftests: IntCounterVec,
    /// Open WebSockets.
    pub websockets: IntGauge,
    /// Ended WebSockets, by close code.
    pub websockets_ended: IntCounterVec,
    /// WHIP and WHEP resources.
    pub resources: IntGauge,
    /// WHIP and WHEP requests, by resource and status.
    pub requests: IntCounterVec,
}

impl SfuMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        let counter = |name, help, labels: &[&str]| counter_vec(registry, name, help, labels);
        Self {
            rooms: gauge_vec(registry, names::SFU_ROOMS, "Rooms with people in them", &["worker"]),
            participants: gauge_vec(registry, names::SFU_PARTICIPANTS, "Participants", &["worker"]),
            packets: counter(
                names::SFU_PACKETS,
                "RTP packets from and to participants",
                &["worker", "direction"],
            ),
            packets_dropped: counter(
                names::SFU_PACKETS_DROPPED,
                "RTP packets that were not forwarded",
                &["worker", "reason"],
            ),
            joined: counter(names::SFU_JOINED, "Participants that joined", &["worker"]),
            joins_refused: counter(names::SFU_JOINS_REFUSED, "Joins refused because of a bound", &["worker"]),
            offers_refused: counter(names::SFU_OFFERS_REFUSED, "SDP offers refused", &["worker"]),
            ended: counter(
                names::SFU_ENDED,
                "Participants that ended without having left",
                &["worker", "reason"],
            ),
            keyframes: counter(
                names::SFU_KEYFRAMES,
                "Keyframe requests wanted by receivers and asked of senders",
                &["worker", "step"],
            ),
            ice_restarts: counter(names::SFU_ICE_RESTARTS, "ICE restarts", &["worker"]),
            commands_dropped: counter(
                names::SFU_COMMANDS_DROPPED,
                "Commands that a worker's full queue did not take",
                &["command"],
            ),
            selftest_passed: gauge_vec(
                registry,
                names::SFU_SELFTEST_PASSED,
                "Whether the last self-test passed",
                &["worker"],
            ),
            selftests: counter(names::SFU_SELFTESTS, "Self-tests", &["worker", "result"]),
            websockets: gauge(registry, names::SFU_WEBSOCKETS, "Open WebSockets of participants"),
            websockets_ended: counter(
                names::SFU_WEBSOCKETS_ENDED,
                "WebSockets of participants that ended",
                &["code"],
            ),
            resources: gauge(registry, names::SFU_RESOURCES, "WHIP and WHEP resources"),
            requests: counter(
                names::SFU_REQUESTS,
                "Answered WHIP and WHEP requests",
                &["resource", "status"],
            ),
        }
    }
}

impl Default for SfuMetrics {
    /// Creates metrics of their own, in a registry that nobody reads.
    fn default() -> Self {
        Self::register(&Registry::new())
    }
}
