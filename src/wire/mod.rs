//! Bytes and values: borrowed, bounded, pure. Nothing here panics on hostile bytes.
