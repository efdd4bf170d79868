//! Bytes and values: borrowed, bounded, pure. Nothing here panics on hostile bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod demux;
pub mod first_bytes;
pub mod h2_frames;
pub mod http_body;
pub mod http_head;
pub mod proxy_protocol;
pub mod rtp;
pub mod san;
pub mod stun;
pub mod ufrag;
pub mod ws_frame;
pub mod ws_ping;
