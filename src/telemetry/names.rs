//! Every metric name, in one place. Dashboards depend on them: they are stable.
//!
//! No room, participant or address is ever a label.

// --- process ---
/// Gauge: 1, with the labels `version` and `edge`.
pub const BUILD_INFO: &str = "roomgate_build_info";
/// Gauge: spawned tasks that run.
pub const TASKS: &str = "roomgate_tasks";

// --- configuration ---
/// Counter, label `result` (`applied`, `rejected`): reloads.
pub const CONFIG_RELOADS: &str = "roomgate_config_reloads_total";
/// Gauge: generation of the running configuration, from 1.
pub const CONFIG_GENERATION: &str = "roomgate_config_generation";
/// Gauge: 1 if the last reload was applied, 0 if it was rejected.
pub const CONFIG_LAST_RELOAD_OK: &str = "roomgate_config_last_reload_success";

// --- edge ---

// --- rooms ---

// --- pool ---

// --- media ---

// --- sfu ---

// --- admin ---
