//! Bytes and values: borrowed, bounded, pure. Nothing here panics on hostile bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod ufrag;
