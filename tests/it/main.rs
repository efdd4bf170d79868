//! Integration tests over loopback: one binary, one module per behaviour.

#![expect(clippy::disallowed_methods, reason = "tests run on real time and end with their runtime")]
#![expect(clippy::unwrap_used, reason = "what fails here is meant to fail the test")]

#[path = "../kit/mod.rs"]
mod kit;

mod edge_conference;
mod edge_head_guard;
mod edge_proxy;
mod edge_tunnel;
mod media_datagrams;
mod pool_follows_its_nodes;
mod rooms_simulation;
mod rooms_under_threads;
