//! Configuration: YAML with positions in, legal values out.

pub mod settings;
