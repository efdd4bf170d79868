//! Roomgate: the edge of a video-conference service.
//!
//! One binary in place of Nginx, HAProxy and coturn: it ends HTTPS and WSS, keeps every participant of a room on the
//! same healthy node, and takes all media on one UDP port into the workers that host the rooms.
//!
//! The map, the words and the invariants are in `src/ARCHITECTURE.md`. Parts depend on each other in one direction:
//! `cli -> app -> admin -> edge -> sfu -> media -> rooms -> pool -> wire`, each on those after it only;
//! [`config::settings`], [`telemetry`], [`clock`] and [`tasks`] are for all. A test keeps it.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod edge;
pub mod media;
pub mod pool;
pub mod rooms;
pub mod sfu;
pub mod tasks;
pub mod telemetry;
pub mod wire;
