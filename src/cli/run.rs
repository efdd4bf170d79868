//! `roomgate run`: starts the edge and stays until a signal ends it.

use std::io::Write;

use super::check::print_faults;
use super::{Exit, RunArgs};
use crate::app::{App, Origin};
use crate::telemetry::log;

/// Runs until SIGTERM or SIGINT. Without a file: the built-in default.
pub fn run(args: RunArgs, err: &mut dyn Write) -> Exit {
    log::init();
    // Pingora's TLS links a second provider: the process has one, chosen here and first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    raise_descriptor_limit();
    let origin = Origin { path: args.config, edge: args.edge };
    let loaded = match origin.load() {
        Ok(loaded) => loaded,
        Err(faults) => {
            // A reader of the faults that went away changes nothing about them.
            return print_faults(&faults, err).unwrap_or(Exit::Usage);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the control runtime did not start");
            return Exit::Failure;
        }
    };
    let ended = runtime.block_on(App::run(loaded, origin));
    runtime.shutdown_background();
    match ended {
        Ok(()) => Exit::Ok,
        Err(error) => {
            tracing::error!("did not start: {error:#}");
            Exit::Failure
        }
    }
}

/// Raises the soft descriptor limit to the hard limit: a tunnel takes two.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum }) {
        Ok(()) => tracing::info!(from = before.current, to = before.maximum, "descriptor limit raised"),
        Err(error) => {
            tracing::warn!(limit = before.current, %error, "the descriptor limit could not be raised")
        }
    }
}

/// Admin, checks, watches, reloads: light work. Traffic has its own threads.
const CONTROL_THREADS: usize = 2;
