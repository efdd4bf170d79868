//! Bytes and values: borrowed, bounded, pure. Nothing here panics on hostile bytes.

pub mod http_body;
pub mod http_head;
pub mod san;
pub mod ws_frame;
