//! Metrics of nodes and checks.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{counter_vec, gauge, gauge_vec};
use crate::telemetry::names;

/// Metrics of nodes and checks.
#[derive(Clone, Debug)]
pub struct PoolMetrics {
    /// Whether each node can serve.
    pub node_up: IntGaugeVec,
    /// Checks by node and result.
    pub checks: IntCounterVec,
    /// Changes of state by node and new state.
    pub transitions: IntCounterVec,
    /// Open requests and streams by node.
    pub open: IntGaugeVec,
    /// Requests that wait for a node's first check.
    pub waiting: IntGauge,
    /// Lookups of nodes' names, by result.
    pub lookups: IntCounterVec,
}

/// The metrics of one node, looked up once.
#[derive(Clone, Debug)]
pub struct NodeMetrics {
    /// 1 if the node can serve.
    pub up: IntGauge,
    /// Checks that passed.
    pub passed: IntCounter,
    /// Checks that failed.
    pub failed: IntCounter,
    /// Checks that could not be made, for want of our own resources.
    pub unasked: IntCounter,
    /// Connects of requests that failed.
    pub connect_failed: IntCounter,
    /// Times it came up.
    pub went_up: IntCounter,
    /// Times it went down.
    pub went_down: IntCounter,
    /// Open requests and streams.
    pub open: IntGauge,
}

impl PoolMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        Self {
            node_up: gauge_vec(
                registry,
                names::POOL_NODE_UP,
                "Whether the node can serve",
                &["pool", "node"],
            ),
            checks: counter_vec(
                registry,
                names::POOL_CHECKS,
                "Checks of the node, and connects to it that failed",
                &["pool", "node", "result"],
            ),
            transitions: counter_vec(
                registry,
                names::POOL_TRANSITIONS,
                "Changes of the node's state",
                &["pool", "node", "to"],
            ),
            waiting: gauge(registry, names::POOL_WAITING, "Requests that wait for the first check of a node"),
            lookups: counter_vec(registry, names::POOL_LOOKUPS, "Lookups of the names of nodes", &["result"]),
            open: gauge_vec(
                registry,
                names::POOL_OPEN,
                "Open requests and streams on the node",
                &["pool", "node"],
            ),
        }
    }

    /// Returns the metrics of one node.
    pub fn node(&self, pool: &str, node: &str) -> NodeMetrics {
        let check = |result| self.checks.with_label_values(&[pool, node, result]);
        let transition = |to| self.transitions.with_label_values(&[pool, node, to]);
        NodeMetrics {
            up: self.node_up.with_label_values(&[pool, node]),
            passed: check(PASS),
            failed: check(FAIL),
            unasked: check(UNASKED),
            connect_failed: check(CONNECT_FAIL),
            went_up: transition(UP),
            went_down: transition(DOWN),
            open: self.open.with_label_values(&[pool, node]),
        }
    }

    /// Ends the series of a node that left the configuration, so that names do not pile up over reloads.
    pub fn forget(&self, pool: &str, node: &str) {
        // A series that is not there is none to remove.
        let _ = self.node_up.remove_label_values(&[pool, node]);
        let _ = self.open.remove_label_values(&[pool, node]);
        for result in [PASS, FAIL, UNASKED, CONNECT_FAIL] {
            let _ = self.checks.remove_label_values(&[pool, node, result]);
        }
        for to in [UP, DOWN] {
            let _ = self.transitions.remove_label_values(&[pool, node, to]);
        }
    }
}

const PASS: &str = "pass";
const FAIL: &str = "fail";
const UNASKED: &str = "unasked";
const CONNECT_FAIL: &str = "connect_fail";
const UP: &str = "up";
const DOWN: &str = "down";
