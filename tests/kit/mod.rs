//! Parts that tests share: the binary as a process, nodes, clients, a browser, and the room checker.
//!
//! Everything is on loopback and on ports that the kernel chose. Nothing sleeps for a guess: [`until`] asks again until
//! a deadline, [`within`] bounds what should end by itself; both panic with what they waited for.

pub(crate) mod backends;
pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod conference;
pub(crate) mod config;
pub(crate) mod edge_rig;
pub(crate) mod h2_raw;
pub(crate) mod janus;
pub(crate) mod media_client;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod prosody;
pub(crate) mod rooms;
pub(crate) mod tcp_node;
pub(crate) mod tls;
pub(crate) mod tools;

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

/// Time for what is done at once, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Waits for a future, at most `limit`.
pub(crate) async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}

/// Asks every 20 ms until the answer is `Ok`, at most `limit`; the last `Err` is part of the panic.
pub(crate) async fn until<T, E, F, A>(limit: Duration, what: &str, mut ask: A) -> T
where
    E: Debug,
    F: Future<Output = Result<T, E>>,
    A: FnMut() -> F,
{
    let deadline = Instant::now() + limit;
    loop {
        let not_yet = match ask().await {
            Ok(value) => return value,
            Err(not_yet) => not_yet,
        };
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}; last answer: {not_yet:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Tells whether tests that take minutes run; says so when they do not.
pub(crate) fn long(test: &str) -> bool {
    let long = std::env::var_os("ROOMGATE_LONG").is_some_and(|v| v == "1");
    if !long {
        eprintln!("{test}: runs under scripts/test --long only (ROOMGATE_LONG=1)");
    }
    long
}
