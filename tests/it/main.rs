//! Integration tests over loopback: one binary, one module per behaviour.

#[path = "../kit/mod.rs"]
mod kit;

mod edge_head_guard;
mod edge_proxy;
mod edge_tunnel;
