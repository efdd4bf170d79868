//! Integration tests over loopback: one binary, one module per behaviour.

#[path = "../kit/mod.rs"]
mod kit;

mod pool_follows_its_nodes;
mod rooms_simulation;
mod rooms_under_threads;
