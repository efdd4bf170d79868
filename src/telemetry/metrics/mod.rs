//! The process's metrics, one struct per part. A part receives its own struct and nothing else.

mod access_log;
mod admin;
mod cache;
mod config;
mod edge;
mod limits;
mod media;
mod pool;
mod process;
mod rooms;
mod sfu;

pub use access_log::AccessLogMetrics;
pub use admin::AdminMetrics;
pub use cache::CacheMetrics;
pub use config::ConfigMetrics;
pub use edge::EdgeMetrics;
pub use limits::LimitMetrics;
pub use media::{MediaMetrics, MediaSample, MediaSource};
pub use pool::{NodeMetrics, PoolMetrics};
pub use process::ProcessMetrics;
pub use rooms::RoomMetrics;
pub use sfu::SfuMetrics;

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// All metrics and the registry they are read from.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Read by `/metrics`.
    pub registry: Registry,
    /// The process itself.
    pub process: ProcessMetrics,
    /// Configuration and reloads.
    pub config: ConfigMetrics,
    /// The HTTPS tier.
    pub edge: EdgeMetrics,
    /// The room table.
    pub rooms: RoomMetrics,
    /// Nodes and checks.
    pub pool: PoolMetrics,
    /// Workers and flows.
    pub media: MediaMetrics,
    /// The embedded SFU's control side.
    pub sfu: SfuMetrics,
    /// The operator's endpoint.
    pub admin: AdminMetrics,
}

impl Metrics {
    /// Registers everything in a new registry.
    pub fn new() -> Self {
        let registry = Registry::new();
        Self {
            process: ProcessMetrics::register(&registry),
            config: ConfigMetrics::register(&registry),
            edge: EdgeMetrics::register(&registry),
            rooms: RoomMetrics::register(&registry),
            pool: PoolMetrics::register(&registry),
            media: MediaMetrics::register(&registry),
            sfu: SfuMetrics::register(&registry),
            admin: AdminMetrics::register(&registry),
            registry,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Registers a counter.
pub(crate) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    add(registry, IntCounter::new(name, help).expect("names.rs holds valid names"))
}

/// Registers a counter with labels.
pub(crate) fn counter_vec(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    add(registry, IntCounterVec::new(Opts::new(name, help), labels).expect("names.rs holds valid names"))
}

/// Registers a gauge.
pub(crate) fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    add(registry, IntGauge::new(name, help).expect("names.rs holds valid names"))
}

/// Registers a gauge with labels.
pub(crate) fn gauge_vec(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    add(registry, IntGaugeVec::new(Opts::new(name, help), labels).expect("names.rs holds valid names"))
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect("each name is registered once");
    collector
}
