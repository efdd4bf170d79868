//! The media path: one worker per core, one UDP port, no locks.

pub mod host;
