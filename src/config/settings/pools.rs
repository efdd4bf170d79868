//! Pools: what they are made of, how nodes are checked, how rooms stick.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::Name;

/// A named set of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Its name.
    pub name: Name,
    /// What it is made of.
    pub nodes: PoolNodes,
    /// How rooms stick.
    pub sticky: StickySettings,
}

/// What a pool is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolNodes {
    /// HTTP services, by name.
    Http {
        /// The nodes.
        nodes: BTreeMap<Name, HttpNode>,
        /// Active check; `None`: a node is up until a connect to it fails.
        check: Option<CheckSettings>,
    },
    /// This process's own SFU workers, named `worker-0`, `worker-1`, ...
    Embedded {
        /// How many; `None` is one per core.
        workers: Option<u8>,
    },
}

/// One HTTP node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpNode {
    /// An IP address (IPv6 without brackets) or a DNS name in lower case, resolved when it is dialled.
    pub host: Name,
    /// TCP port.
    pub port: u16,
    /// Share of new rooms, relative to the other nodes. Default 100; 0 gets no new rooms.
    pub weight: u32,
}

/// An HTTP health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSettings {
    /// Path to GET; a status of 2xx passes.
    pub path: Name,
    /// Time between two checks of one node; jittered by a tenth. Default 2 s.
    pub every: Duration,
    /// Deadline of one check; never longer than `every`. Default 1 s.
    pub timeout: Duration,
    /// Passes in a row that bring a node up. Default 2.
    pub rise: NonZeroU32,
    /// Failures in a row that take a node down. Default 2.
    pub fall: NonZeroU32,
}

/// How rooms stick to their node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickySettings {
    /// A placement that nobody holds or touches ends after this. Default 5 min.
    pub linger: Duration,
}
