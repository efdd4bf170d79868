//! What operators see: log lines, metric names, redaction. For all parts; decides nothing.

pub mod log;
pub mod metrics;
pub mod names;
pub mod redact;
