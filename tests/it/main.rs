//! Integration tests over loopback: one binary, one module per behaviour.
//!
//! `conference_e2e` and the modules below `kit` that start the binary test the whole system; the others test one part
//! through its real shell. A test that takes minutes runs under `scripts/test --long` only (`ROOMGATE_LONG=1`).
#![expect(clippy::disallowed_methods, reason = "tests run on real time and end with their runtime")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "../kit/mod.rs"]
mod kit;

mod access_log;
mod admin;
mod answers;
mod auth;
mod bans;
mod bench_edge;
mod cache;
mod conference_e2e;
mod corpora;
mod drain;
mod edge_conference;
mod edge_head_guard;
mod edge_node_tls;
mod edge_proxy;
mod edge_tunnel;
mod edge_tunnel_bytes;
mod edge_tunnel_orders;
mod files;
mod forwarded;
mod front_door;
mod front_door_descriptors;
mod front_door_passthrough;
mod front_door_proxy_protocol;
mod front_door_tcp;
mod h2_attacks;
mod h2_limits;
mod health;
mod janus;
mod jitsi_preset;
mod kit_media;
mod limits;
mod malformed;
mod media_datagrams;
mod media_workers;
mod memory;
mod pool_checks;
mod pool_follows_its_nodes;
mod presets;
mod prosody;
mod readme;
mod reload;
mod rooms_simulation;
mod rooms_under_threads;
mod routes;
mod sfu_over_sockets;
mod sfu_resources;
mod sfu_restart;
mod sfu_rig;
mod sfu_selftest;
mod sfu_websockets;
mod shutdown;
mod signalling;
mod slowhttptest;
mod sticky_rooms;
mod tidy;
mod tls_acme;
mod tls_certificates;
mod tls_clients;
mod tls_profiles;
mod tls_sslyze;
mod tls_tickets;
mod varnishtest;
mod whip;
