//! Every metric name, in one place. Dashboards depend on them: they are stable.
//!
//! No room, participant or address is ever a label.

// --- process ---
/// Gauge: 1, with the labels `version` and `edge`.
pub const BUILD_INFO: &str = "roomgate_build_info";
/// Gauge: spawned tasks that run.
pub const TASKS: &str = "roomgate_tasks";

// --- configuration ---
/// Counter, label `result` (`applied`, `rejected`, `unchanged`): reloads.
pub const CONFIG_RELOADS: &str = "roomgate_config_reloads_total";
/// Gauge: generation of the running configuration, from 1.
pub const CONFIG_GENERATION: &str = "roomgate_config_generation";
/// Gauge: 1 if the last reload was applied, 0 if it was rejected.
pub const CONFIG_LAST_RELOAD_OK: &str = "roomgate_config_last_reload_success";

// --- edge ---

// --- rooms ---
/// Gauge: rooms that have a place.
pub const ROOMS_PLACED: &str = "roomgate_rooms_placed";
/// Gauge: rooms that an open stream holds.
pub const ROOMS_HELD: &str = "roomgate_rooms_held";
/// Counter: places granted to rooms that had none.
pub const ROOMS_GRANTED: &str = "roomgate_rooms_granted_total";
/// Counter, label `reason` (`node_down`, `node_removed`): rooms placed anew.
pub const ROOMS_REPLACED: &str = "roomgate_rooms_replaced_total";
/// Counter: places that ended after their linger.
pub const ROOMS_EXPIRED: &str = "roomgate_rooms_expired_total";
/// Counter: rooms placed without being kept, because the table was full.
pub const ROOMS_TABLE_FULL: &str = "roomgate_rooms_table_full_total";
/// Counter: requests for a room whose pool has no node that can serve.
pub const ROOMS_NO_NODE: &str = "roomgate_rooms_no_node_total";
/// Counter, label `reason` (`too_long`, `escape`, `not_utf8`, `control`): room names that were refused.
pub const ROOMS_KEY_ERRORS: &str = "roomgate_rooms_key_errors_total";

// --- pool ---
/// Gauge, labels `pool`, `node`: 1 if the node can serve.
pub const POOL_NODE_UP: &str = "roomgate_pool_node_up";
/// Counter, labels `pool`, `node`, `result` (`pass`, `fail`, `connect_fail`): checks, and connects that failed.
pub const POOL_CHECKS: &str = "roomgate_pool_checks_total";
/// Counter, labels `pool`, `node`, `to` (`up`, `down`): changes of a node's state.
pub const POOL_TRANSITIONS: &str = "roomgate_pool_transitions_total";
/// Gauge, labels `pool`, `node`: open requests and streams.
pub const POOL_OPEN: &str = "roomgate_pool_open";

// --- media ---

// --- sfu ---

// --- admin ---
