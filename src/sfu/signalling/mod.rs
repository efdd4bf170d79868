//! Joining by WebSocket.

pub mod message;
