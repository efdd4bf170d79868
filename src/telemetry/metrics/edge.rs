//! Metrics of the HTTPS tier.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::access_log::AccessLogMetrics;
use super::cache::CacheMetrics;
use super::limits::LimitMetrics;
use super::{add, counter, counter_vec, gauge, gauge_vec};
use crate::telemetry::names;

/// Metrics of the HTTPS tier.
#[derive(Clone, Debug)]
pub struct EdgeMetrics {
    /// Client connections that are open.
    pub connections: IntGauge,
    /// Client connections that were accepted.
    pub connections_total: IntCounter,
    /// Client connections that were closed at once, because the bound was reached.
    pub connections_refused: IntCounterVec,
    /// Failures of accept itself.
    pub accept_errors: IntCounter,
    /// TLS handshakes by result.
    pub handshakes: IntCounterVec,
    /// TLS handshakes that resumed a session.
    pub tls_resumed: IntCounter,
    /// Files of TLS that were read again, by result.
    pub tls_loads: IntCounterVec,
    /// When certificates expire.
    pub certificate_expiry: IntGaugeVec,
    /// Certificates whose files cannot be used as they are now.
    pub certificate_failed: IntGaugeVec,
    /// Request heads that were refused, by reason.
    pub heads_refused: IntCounterVec,
    /// HTTP/2 connections that were ended because the client flooded, by kind of frame.
    pub h2_floods: IntCounterVec,
    /// Requests by class of status.
    pub requests: RequestCounters,
    /// From the request head to the head of the node's answer.
    pub response_seconds: Histogram,
    /// Connects to nodes that failed.
    pub connect_failures: IntCounter,
    /// Connects to nodes that this machine had no means to make, by what it lacked.
    pub local_errors: IntCounterVec,
    /// Tunnels that are open.
    pub tunnels: IntGauge,
    /// Tunnels that were opened.
    pub tunnels_total: IntCounter,
    /// Tunnels by why they ended.
    pub tunnels_closed: IntCounterVec,
    /// Bytes from clients through tunnels.
    pub tunnel_bytes_from_client: IntCounter,
    /// Bytes from nodes through tunnels.
    pub tunnel_bytes_from_node: IntCounter,
    /// Limits and bans.
    pub limits: LimitMetrics,
    /// The cache.
    pub cache: CacheMetrics,
    /// The access log.
    pub access_log: AccessLogMetrics,
    /// Connections that have to begin with a PROXY header, by what they began with.
    pub proxy_headers: IntCounterVec,
    /// TURN clients on TLS listeners.
    pub turn_streams: IntCounterVec,
    /// Streams to TCP pools that are open or being connected.
    pub l4_streams: IntGauge,
    /// Streams to TCP pools, by how they came there.
    pub l4_streams_total: IntCounterVec,
    /// Streams to TCP pools, by why they ended.
    pub l4_closed: IntCounterVec,
    /// Bytes from clients to TCP pools.
    pub l4_bytes_from_client: IntCounter,
    /// Bytes from TCP pools to clients.
    pub l4_bytes_from_node: IntCounter,
}

/// Requests by class of status.
#[derive(Clone, Debug)]
pub struct RequestCounters {
    classes: [IntCounter; CLASSES.len()],
}

impl RequestCounters {
    /// Counts a request by its status; 0 when the client left before it was answered.
    pub fn count(&self, status: u16) {
        let class = usize::from(status / 100);
        if let Some(counter) = self.classes.get(class).or(self.classes.first()) {
            counter.inc();
        }
    }
}

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

impl EdgeMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        let requests = counter_vec(registry, names::EDGE_REQUESTS, "Requests by their answer", &["class"]);
        let bytes = counter_vec(registry, names::EDGE_TUNNEL_BYTES, "Bytes through tunnels", &["direction"]);
        let l4_bytes =
            counter_vec(registry, names::EDGE_L4_BYTES, "Bytes of streams to TCP pools", &["direction"]);
        let response_seconds = Histogram::with_opts(
            HistogramOpts::new(
                names::EDGE_RESPONSE_SECONDS,
                "From the request head to the head of the node's answer",
            )
            .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0]),
        )
        .expect("the buckets rise");
        Self {
            connections: gauge(registry, names::EDGE_CONNECTIONS, "Client connections that are open"),
            connections_total: counter(
                registry,
                names::EDGE_CONNECTIONS_TOTAL,
                "Client connections that were accepted",
            ),
            connections_refused: counter_vec(
                registry,
                names::EDGE_CONNECTIONS_REFUSED,
                "Client connections that were closed at once",
                &["reason"],
            ),
            accept_errors: counter(registry, names::EDGE_ACCEPT_ERRORS, "Failures of accept itself"),
            handshakes: counter_vec(registry, names::EDGE_HANDSHAKES, "TLS handshakes", &["result"]),
            tls_resumed: counter(registry, names::TLS_RESUMED, "TLS handshakes that resumed a session"),
            tls_loads: counter_vec(
                registry,
                names::TLS_LOADS,
                "Files of TLS whose new content is in use, or cannot be used",
                &["result"],
            ),
            certificate_expiry: gauge_vec(
                registry,
                names::TLS_CERTIFICATE_EXPIRY,
                "When a certificate expires, in seconds since the Unix epoch",
                &["listener", "certificate"],
            ),
            certificate_failed: gauge_vec(
                registry,
                names::TLS_CERTIFICATE_FAILED,
                "Whether the files of a certificate cannot be used as they are now",
                &["listener", "certificate"],
            ),
            heads_refused: counter_vec(
                registry,
                names::EDGE_HEADS_REFUSED,
                "Request heads that were refused",
                &["reason"],
            ),
            h2_floods: counter_vec(
                registry,
                names::EDGE_H2_FLOODS,
                "HTTP/2 connections that were ended because the client flooded",
                &["kind"],
            ),
            requests: RequestCounters { classes: CLASSES.map(|class| requests.with_label_values(&[class])) },
            response_seconds: add(registry, response_seconds),
            connect_failures: counter(
                registry,
                names::EDGE_CONNECT_FAILURES,
                "Connects to nodes that failed",
            ),
            local_errors: counter_vec(
                registry,
                names::EDGE_LOCAL_ERRORS,
                "Connects to nodes that this machine had no means to make",
                &["reason"],
            ),
            tunnels: gauge(registry, names::EDGE_TUNNELS, "WebSocket tunnels that are open"),
            tunnels_total: counter(registry, names::EDGE_TUNNELS_TOTAL, "WebSocket tunnels that were opened"),
            tunnels_closed: counter_vec(
                registry,
                names::EDGE_TUNNELS_CLOSED,
                "WebSocket tunnels by why they ended",
                &["reason"],
            ),
            tunnel_bytes_from_client: bytes.with_label_values(&["from_client"]),
            limits: LimitMetrics::register(registry),
            cache: CacheMetrics::register(registry),
            access_log: AccessLogMetrics::register(registry),
            tunnel_bytes_from_node: bytes.with_label_values(&["from_node"]),
            proxy_headers: counter_vec(
                registry,
                names::EDGE_PROXY_HEADERS,
                "Connections that have to begin with a PROXY header",
                &["result"],
            ),
            turn_streams: counter_vec(
                registry,
                names::EDGE_TURN_STREAMS,
                "TURN clients on TLS listeners",
                &["result"],
            ),
            l4_streams: gauge(registry, names::EDGE_L4_STREAMS, "Streams to TCP pools"),
            l4_streams_total: counter_vec(
                registry,
                names::EDGE_L4_STREAMS_TOTAL,
                "Streams to TCP pools, by how they came there",
                &["way"],
            ),
            l4_closed: counter_vec(
                registry,
                names::EDGE_L4_CLOSED,
                "Streams to TCP pools by why they ended",
                &["reason"],
            ),
            l4_bytes_from_client: l4_bytes.with_label_values(&["from_client"]),
            l4_bytes_from_node: l4_bytes.with_label_values(&["from_node"]),
        }
    }
}
