//! The smallest check: does the node take a TCP connection?

use std::sync::Arc;
use std::time::Duration;

use crate::config::settings::Name;
use crate::pool::NodeStream;
use crate::pool::dial::{Tls, dial};
use crate::pool::health::{CheckOutcome, FailReason};
use crate::pool::resolve::Resolver;
use crate::wire::proxy_protocol::LOCAL_V2;

/// Connects to a node and hangs up. `timeout` bounds resolving and connecting together. `announced`: the connection begins
/// with a PROXY header that says that it is our own.
pub async fn check(
    resolver: &Arc<Resolver>,
    host: &Name,
    port: u16,
    announced: bool,
    timeout: Duration,
) -> CheckOutcome {
    match tokio::time::timeout(timeout, connect(resolver, host, port, announced, timeout, None)).await {
        Ok(Ok(_)) => CheckOutcome::Pass,
        Ok(Err(reason)) => CheckOutcome::Fail(reason),
        Err(_) => CheckOutcome::Fail(FailReason::Timeout(timeout)),
    }
}

/// Resolves a node's host and connects to the first address that answers within `timeout`.
pub(super) async fn connect(
    resolver: &Arc<Resolver>,
    host: &Name,
    port: u16,
    announced: bool,
    timeout: Duration,
    tls: Option<Tls<'_>>,
) -> Result<NodeStream, FailReason> {
    let addresses = resolver.resolve(host, port).await.map_err(|error| FailReason::resolve(&error))?;
    let first = announced.then_some(LOCAL_V2);
    dial(&addresses, timeout, first, tls).await.map(|(stream, _)| stream)
}
