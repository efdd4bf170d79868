//! Addresses of nodes: names are looked up when they are dialled and remembered for a few seconds.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::config::settings::Name;

/// An answer is used for this long; a node that moved is found again after it.
const FRESH: Duration = Duration::from_secs(5);
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Names remembered at once. At the cap the oldest answers go.
const NAMES_MAX: usize = 4096;

/// Remembers what names stand for.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    known: Mutex<HashMap<(Name, u16), Known>>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    address: SocketAddr,
    since: Instant,
}

impl Resolver {
    /// Returns the first address of a host as it stands in the configuration.
    ///
    /// # Errors
    /// The name has no address, or the answer took too long.
    pub(super) async fn resolve(&self, host: &Name, port: u16) -> io::Result<SocketAddr> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(SocketAddr::new(address, port));
        }
        let key = (host.clone(), port);
        let now = clock::now();
        let known = self.known().get(&key).copied();
        if let Some(known) = known.filter(|known| now.duration_since(known.since) < FRESH) {
            return Ok(known.address);
        }
        let lookup = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((&**host, port)));
        let answer = match lookup.await {
            Ok(Ok(mut addresses)) => addresses.next().ok_or(io::ErrorKind::NotFound.into()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match (answer, known) {
            (Ok(address), _) => {
                let mut table = self.known();
                if table.len() >= NAMES_MAX {
                    table.retain(|_, known| now.duration_since(known.since) < FRESH);
                }
                if table.len() < NAMES_MAX {
                    table.insert(key, Known { address, since: now });
                }
                Ok(address)
            }
            // A name server that is away does not take the nodes along.
            (Err(_), Some(known)) => Ok(known.address),
            (Err(error), None) => Err(error),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(Name, u16), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
