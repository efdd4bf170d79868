//! Metrics of the cache.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::{counter, counter_vec, gauge};
use crate::telemetry::names;

/// Metrics of the cache.
#[derive(Clone, Debug)]
pub struct CacheMetrics {
    /// Requests of routes that keep answers, by what became of them.
    pub requests: IntCounterVec,
    /// Answers that are kept.
    pub objects: IntGauge,
    /// Their bytes, and those of answers that are only still read.
    pub bytes: IntGauge,
    /// Answers that were kept.
    pub stored: IntCounter,
    /// Answers that were not, by why.
    pub not_stored: IntCounterVec,
    /// Answers that went because there was no room.
    pub evicted: IntCounter,
    /// Requests that wait for another's fetch.
    pub waiting: IntGauge,
    /// Answers that were taken away by their URL.
    pub purged: IntCounter,
}

impl CacheMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        Self {
            requests: counter_vec(
                registry,
                names::CACHE_REQUESTS,
                "Requests of routes that keep answers, by what became of them",
                &["result"],
            ),
            objects: gauge(registry, names::CACHE_OBJECTS, "Answers that are kept"),
            bytes: gauge(registry, names::CACHE_BYTES, "Bytes of answers that are kept or still read"),
            stored: counter(registry, names::CACHE_STORED, "Answers that were kept"),
            not_stored: counter_vec(
                registry,
                names::CACHE_NOT_STORED,
                "Answers that were fetched to be kept and were not",
                &["reason"],
            ),
            evicted: counter(registry, names::CACHE_EVICTED, "Answers that went because there was no room"),
            waiting: gauge(registry, names::CACHE_WAITING, "Requests that wait for another's fetch"),
            purged: counter(registry, names::CACHE_PURGED, "Answers that were taken away by their URL"),
        }
    }
}
