//! Log lines: human on a terminal, JSON otherwise.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging to standard error. `ROOMGATE_LOG` overrides the filter (`roomgate=debug`, say).
///
/// Pingora logs one line per failed handshake and per refused request at its own levels; the edge counts those
/// instead, so Pingora's targets are off by default. The WebRTC engine warns of what is odd in a client's offer: that
/// is the client's matter, as is what the HTTP/2 codec says of a flood.
pub fn init() {
    let filter = EnvFilter::try_from_env("ROOMGATE_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let registry = tracing_subscriber::registry().with(filter);
    // A second call (tests in one process) keeps the first subscriber.
    let _ = if std::io::stderr().is_terminal() {
        registry
            .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false))
            .try_init()
    } else {
        registry
            .with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr))
            .try_init()
    };
}

const DEFAULT_FILTER: &str =
    "info,pingora=off,pingora_core=off,pingora_proxy=off,h2=error,str0m=error,is=error,dimpl=error";
