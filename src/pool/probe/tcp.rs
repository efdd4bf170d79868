//! The smallest check: does the node take a TCP connection?

use std::time::Duration;

use crate::pool::NodeStream;
use crate::pool::dial::{Tls, dial};
use crate::pool::health::{CheckOutcome, FailReason};

/// Connects to a node and hangs up. `timeout` bounds resolving and connecting together.
pub async fn check(host: &str, port: u16, timeout: Duration) -> CheckOutcome {
    match tokio::time::timeout(timeout, connect(host, port, timeout, None)).await {
        Ok(Ok(_)) => CheckOutcome::Pass,
        Ok(Err(reason)) => CheckOutcome::Fail(reason),
        Err(_) => CheckOutcome::Fail(FailReason::Timeout(timeout)),
    }
}

/// Resolves a node's host and connects to the first address that answers within `timeout`.
pub(super) async fn connect(
    host: &str,
    port: u16,
    timeout: Duration,
    tls: Option<Tls<'_>>,
) -> Result<NodeStream, FailReason> {
    // An IPv6 address may be written as in a URL.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<_> =
        tokio::net::lookup_host((host, port)).await.map_err(|e| FailReason::resolve(&e))?.collect();
    dial(&addresses, timeout, tls).await.map(|(stream, _)| stream)
}
