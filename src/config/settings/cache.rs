//! The cache: how much it keeps, and what a route lets it keep.

use std::time::Duration;

/// Bounds of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Most memory for answers, those that clients still read included. Default 256 MiB.
    pub memory_bytes_max: u64,
    /// Longest body that is kept. Default 8 MiB.
    pub object_bytes_max: u64,
}

/// What the answers of a route are kept by, where they do not say it themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheRule {
    /// How long an answer is fresh that says nothing of it; `None`: it is not kept.
    pub fresh_for: Option<Duration>,
    /// How long an answer is fresh at most, whatever it says.
    pub fresh_max: Option<Duration>,
    /// How long after that it may be used while the node is asked anew (RFC 5861 section 3). Zero: not.
    pub stale: Duration,
    /// How long after that it may be used when no node can serve (RFC 5861 section 4). Zero: not.
    pub stale_if_error: Duration,
}
