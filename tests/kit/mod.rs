//! Parts that tests share.

pub mod edge_rig;
