//! The media path: one worker per core, one UDP port, no locks.
//!
//! [`Workers::start`] opens a socket per worker on the same port and runs a [`host::Host`] on each worker's thread.
//! The kernel spreads clients over the sockets by their address; the worker that receives a datagram finds its owner
//! by the ICE ufrag (STUN requests) or by the flow that an answered check has validated (everything else), and hands
//! the buffer over a ring if that is another worker.

pub mod addresses;
mod batch;
pub mod drops;
pub mod host;
mod identity;
pub mod relay;
mod report;
mod ring;
mod socket;
mod wake;
mod worker;
mod workers;

pub use identity::WorkerIdentity;
pub use report::WorkerReport;
pub use workers::{SendError, WorkerHandle, WorkerLimits, Workers, WorkersConfig};
