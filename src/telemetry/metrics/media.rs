//! Metrics of workers and flows: read from the workers' reports when somebody asks.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::telemetry::names;

/// One worker, as a scrape sees it.
pub trait MediaSource: Send + Sync {
    /// Returns the worker's values now.
    fn sample(&self) -> MediaSample;
}

/// Values of one worker. Counters count from the worker's start.
#[derive(Clone, Debug, Default)]
pub struct MediaSample {
    /// The worker's number.
    pub worker: u8,
    /// Whether its thread runs.
    pub running: bool,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Receive calls.
    pub receives: u64,
    /// Send calls.
    pub sends: u64,
    /// Datagrams sent together with others.
    pub datagrams_out_batched: u64,
    /// Datagrams handed to other workers.
    pub ring_out: u64,
    /// Datagrams taken from other workers.
    pub ring_in: u64,
    /// Datagrams dropped, by reason.
    pub drops: Vec<(&'static str, u64)>,
    /// Datagrams the kernel dropped before the worker saw them.
    pub socket_drops: u64,
    /// Validated flows.
    pub flows: u64,
    /// Unanswered STUN requests.
    pub pending: u64,
    /// Receive buffers made.
    pub buffers: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// 99th percentile of the loop's turns in the last second.
    pub turn_p99_seconds: f64,
    /// Longest turn in the last second.
    pub turn_max_seconds: f64,
}

/// Metrics of workers and flows.
#[derive(Clone)]
pub struct MediaMetrics {
    sources: Arc<ArcSwap<Vec<Arc<dyn MediaSource>>>>,
    descs: Arc<Vec<Desc>>,
}

impl MediaMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        let descs = FAMILIES
            .iter()
            .map(|family| {
                let labels = family.labels.iter().map(|&label| label.to_owned()).collect();
                Desc::new(family.name.to_owned(), family.help.to_owned(), labels, HashMap::new())
                    .expect("names.rs holds valid names")
            })
            .collect();
        super::add(registry, Self { sources: Arc::default(), descs: Arc::new(descs) })
    }

    /// Reads these workers from now on, in place of those before.
    pub fn watch(&self, workers: Vec<Arc<dyn MediaSource>>) {
        self.sources.store(Arc::new(workers));
    }
}

impl Default for MediaMetrics {
    /// Creates metrics of their own, in a registry that nobody reads.
    fn default() -> Self {
        Self::register(&Registry::new())
    }
}

impl std::fmt::Debug for MediaMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MediaMetrics").field("workers", &self.sources.load().len()).finish()
    }
}

impl Collector for MediaMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let samples = self.sources.load().iter().map(|source| source.sample()).collect::<Vec<_>>();
        FAMILIES.iter().filter_map(|family| family.collect(&samples)).collect()
    }
}

/// One metric: its name, kind and the values of one worker, each with its labels after `worker`.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    values: fn(&MediaSample) -> Vec<(&'static str, f64)>,
}

impl Family {
    fn collect(&self, samples: &[MediaSample]) -> Option<MetricFamily> {
        let metrics = samples
            .iter()
            .flat_map(|sample| (self.values)(sample).into_iter().map(|v| self.metric(sample, v)));
        let metrics = metrics.collect::<Vec<_>>();
        if metrics.is_empty() {
            return None; // The text encoder refuses empty families.
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind);
        family.set_metric(metrics);
        Some(family)
    }

    fn metric(&self, sample: &MediaSample, (second, value): (&str, f64)) -> Metric {
        let values = [sample.worker.to_string(), second.to_owned()];
        let mut labels = Vec::with_capacity(self.labels.len());
        for (name, value) in self.labels.iter().zip(values) {
            let mut label = LabelPair::default();
            label.set_name((*name).to_owned());
            label.set_value(value);
            labels.push(label);
        }
        // The exposition format wants labels in the order of their names.
        labels.sort_by(|a, b| a.name().cmp(b.name()));
        let mut metric = Metric::from_label(labels);
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus values are f64; exact up to 2^53")]
fn number(value: u64) -> f64 {
    value as f64
}

fn one(value: u64) -> Vec<(&'static str, f64)> {
    vec![("", number(value))]
}

fn both(received: u64, sent: u64) -> Vec<(&'static str, f64)> {
    vec![("in", number(received)), ("out", number(sent))]
}

const WORKER: &[&str] = &["worker"];
const DIRECTION: &[&str] = &["worker", "direction"];

const FAMILIES: &[Family] = &[
    Family {
        name: names::MEDIA_WORKER_UP,
        help: "Whether the worker's thread runs",
        kind: MetricType::GAUGE,
        labels: WORKER,
        values: |s| one(u64::from(s.running)),
    },
    Family {
        name: names::MEDIA_DATAGRAMS,
        help: "Datagrams through the media port",
        kind: MetricType::COUNTER,
        labels: DIRECTION,
        values: |s| both(s.datagrams_in, s.datagrams_out),
    },
    Family {
        name: names::MEDIA_BYTES,
        help: "UDP payload bytes through the media port",
        kind: MetricType::COUNTER,
        labels: DIRECTION,
        values: |s| both(s.bytes_in, s.bytes_out),
    },
    Family {
        name: names::MEDIA_SYSCALLS,
        help: "Receive and send system calls",
        kind: MetricType::COUNTER,
        labels: DIRECTION,
        values: |s| both(s.receives, s.sends),
    },
    Family {
        name: names::MEDIA_DATAGRAMS_BATCHED,
        help: "Datagrams sent together with others in one system call (GSO)",
        kind: MetricType::COUNTER,
        labels: WORKER,
        values: |s| one(s.datagrams_out_batched),
    },
    Family {
        name: names::MEDIA_RING_DATAGRAMS,
        help: "Datagrams that moved between workers",
        kind: MetricType::COUNTER,
        labels: DIRECTION,
        values: |s| both(s.ring_in, s.ring_out),
    },
    Family {
        name: names::MEDIA_DATAGRAMS_DROPPED,
        help: "Datagrams dropped by a worker",
        kind: MetricType::COUNTER,
        labels: &["worker", "reason"],
        values: |s| s.drops.iter().map(|&(reason, count)| (reason, number(count))).collect(),
    },
    Family {
        name: names::MEDIA_SOCKET_DROPPED,
        help: "Datagrams dropped by the kernel because a receive buffer was full",
        kind: MetricType::COUNTER,
        labels: WORKER,
        values: |s| one(s.socket_drops),
    },
    Family {
        name: names::MEDIA_FLOWS,
        help: "Validated flows",
        kind: MetricType::GAUGE,
        labels: WORKER,
        values: |s| one(s.flows),
    },
    Family {
        name: names::MEDIA_PENDING,
        help: "STUN requests whose answer has not been seen",
        kind: MetricType::GAUGE,
        labels: WORKER,
        values: |s| one(s.pending),
    },
    Family {
        name: names::MEDIA_BUFFERS,
        help: "Receive buffers made, 64 KiB each",
        kind: MetricType::GAUGE,
        labels: WORKER,
        values: |s| one(s.buffers),
    },
    Family {
        name: names::MEDIA_TURNS,
        help: "Turns of the worker's loop",
        kind: MetricType::COUNTER,
        labels: WORKER,
        values: |s| one(s.turns),
    },
    Family {
        name: names::MEDIA_TURN_P99_SECONDS,
        help: "99th percentile of the loop's turns in the last second",
        kind: MetricType::GAUGE,
        labels: WORKER,
        values: |s| vec![("", s.turn_p99_seconds)],
    },
    Family {
        name: names::MEDIA_TURN_MAX_SECONDS,
        help: "Longest turn of the loop in the last second",
        kind: MetricType::GAUGE,
        labels: WORKER,
        values: |s| vec![("", s.turn_max_seconds)],
    },
];

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    struct Fixed(MediaSample);

    impl MediaSource for Fixed {
        fn sample(&self) -> MediaSample {
            self.0.clone()
        }
    }

    #[test]
    fn scrape_reads_the_workers_that_are_watched() {
        let registry = Registry::new();
        let metrics = MediaMetrics::register(&registry);
        assert!(registry.gather().is_empty());
        let sample = |worker, drops| {
            let sample = MediaSample { worker, datagrams_in: 3, drops, ..MediaSample::default() };
            Arc::new(Fixed(sample)) as Arc<dyn MediaSource>
        };
        metrics.watch(vec![sample(0, vec![]), sample(1, vec![("forged", 5)])]);
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "roomgate_media_datagrams_total{direction=\"in\",worker=\"0\"} 3",
            "roomgate_media_datagrams_dropped_total{reason=\"forged\",worker=\"1\"} 5",
            "# TYPE roomgate_media_flows gauge",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
