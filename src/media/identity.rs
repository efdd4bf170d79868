//! Pure: who a worker is, as its sessions' ICE credentials and candidates say it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::host::SessionKey;
use crate::wire::ufrag::{Ufrag, UfragCodec};

/// What a host needs to know of the worker it runs on.
#[derive(Clone, Debug)]
pub struct WorkerIdentity {
    /// This edge; 0 when the file has no `edges`.
    pub edge: u16,
    /// This worker, from 0.
    pub worker: u8,
    /// This process, random at start; 24 bits.
    pub generation: u32,
    /// Encrypts the ufrags of this process.
    pub codec: Arc<UfragCodec>,
    /// The host candidates that answers name, in order of preference; never empty.
    pub candidates: Vec<SocketAddr>,
}

impl WorkerIdentity {
    /// Returns the ICE ufrag of a session's credentials: 23 characters.
    ///
    /// Keys are never used twice in a process (40 bits, counted up), so two ufrags never name the same credentials.
    pub fn mint(&self, key: SessionKey) -> String {
        self.codec.encode(&Ufrag {
            edge: self.edge,
            worker: self.worker,
            flags: 0,
            generation: self.generation,
            nonce: key.0,
        })
    }
}
