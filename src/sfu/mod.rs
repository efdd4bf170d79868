//! The embedded SFU: rooms of participants on a worker, and how they join.

pub mod signalling;
