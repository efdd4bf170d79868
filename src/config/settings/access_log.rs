//! The access log: where lines go and what stands in them.

use std::path::PathBuf;

use super::{Name, Secret};

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// Where lines go.
    pub target: LogTarget,
    /// How a line is written.
    pub format: LogFormat,
    /// How a client's address is written.
    pub ip: LogIp,
    /// Key of [`LogIp::Hashed`], as its 16 bytes; `None` draws one per process.
    pub key: Option<Secret>,
    /// Query parameters whose values are never written. Compared without regard to case.
    pub redact: Vec<Name>,
}

/// Where lines of the access log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// The process's standard output.
    Stdout,
    /// A file, or a FIFO that somebody reads.
    File(PathBuf),
}

/// How a line of the access log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// As Nginx's `combined`.
    Combined,
}

/// How a client's address is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogIp {
    /// As it is.
    Full,
    /// Its network: /24 for IPv4, /48 for IPv6.
    Truncated,
    /// A keyed hash: the same client is the same text, and nobody without the key can tell which.
    Hashed,
}
