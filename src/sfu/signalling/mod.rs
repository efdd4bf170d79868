//! Joining by WebSocket.

pub mod message;
mod rate;
pub(super) mod session;
