//! Addresses of nodes: names are looked up when they are dialled and remembered for a few seconds.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::config::settings::Name;

/// An answer is used for this long; a node that moved is found again after it.
const FRESH: Duration = Duration::from_secs(5);
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Names remembered at once. At the cap the oldest answers go.
const NAMES_MAX: usize = 4096;
/// Addresses of one name that are tried; what a name server says beyond is not looked at.
const ADDRESSES_MAX: usize = 8;

/// Remembers what names stand for.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    known: Mutex<HashMap<(Name, u16), Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    /// In the order in which they are tried; at least one.
    addresses: Arc<[SocketAddr]>,
    /// The one that took a connection last.
    worked: Option<SocketAddr>,
    since: Instant,
}

impl Resolver {
    /// Returns the addresses of a host as it stands in the configuration, at least one, in the order in which they
    /// are to be tried: the one that worked last, then as the name server says.
    ///
    /// # Errors
    /// The name has no address, or the answer took too long.
    pub(super) async fn resolve(&self, host: &Name, port: u16) -> io::Result<Arc<[SocketAddr]>> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Arc::new([SocketAddr::new(address, port)]));
        }
        let now = clock::now();
        let known = self.known().get(&(host.clone(), port)).cloned();
        if let Some(known) = known.as_ref().filter(|known| now.duration_since(known.since) < FRESH) {
            return Ok(known.addresses.clone());
        }
        let lookup = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((&**host, port)));
        let answer = match lookup.await {
            Ok(Ok(addresses)) => Ok(addresses.take(ADDRESSES_MAX).collect::<Vec<_>>()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match (answer, known) {
            (Ok(addresses), _) if !addresses.is_empty() => Ok(self.remember(host, port, addresses, now)),
            // A name server that is away does not take the nodes along.
            (_, Some(known)) => Ok(known.addresses),
            (Ok(_), None) => Err(io::ErrorKind::NotFound.into()),
            (Err(error), None) => Err(error),
        }
    }

    /// Takes an answer, and returns it in the order in which it is to be tried.
    pub(super) fn remember(
        &self,
        host: &Name,
        port: u16,
        mut addresses: Vec<SocketAddr>,
        now: Instant,
    ) -> Arc<[SocketAddr]> {
        let key = (host.clone(), port);
        let mut table = self.known();
        let worked = table.get(&key).and_then(|known| known.worked);
        put_first(&mut addresses, worked);
        let addresses: Arc<[SocketAddr]> = addresses.into();
        if table.len() >= NAMES_MAX {
            table.retain(|_, known| now.duration_since(known.since) < FRESH);
        }
        if table.len() < NAMES_MAX {
            table.insert(key, Known { addresses: addresses.clone(), worked, since: now });
        }
        addresses
    }

    /// Notes which address took a connection: it is tried first from now on.
    pub(super) fn worked(&self, host: &Name, address: SocketAddr) {
        let mut table = self.known();
        let Some(known) = table.get_mut(&(host.clone(), address.port())) else { return };
        if known.worked != Some(address) {
            known.worked = Some(address);
            let mut addresses = known.addresses.to_vec();
            put_first(&mut addresses, known.worked);
            known.addresses = addresses.into();
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(Name, u16), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves an address to the front, if it is there; the others keep their order.
fn put_first(addresses: &mut [SocketAddr], first: Option<SocketAddr>) {
    if let Some(at) = addresses.iter().position(|address| Some(*address) == first)
        && let Some(front) = addresses.get_mut(..=at)
    {
        front.rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_worked_last_comes_first() {
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        for (first, expected) in [
            (None, [a, b, c]),
            (Some(a), [a, b, c]),
            (Some(b), [b, a, c]),
            (Some(c), [c, a, b]),
            (Some("192.0.2.1:1".parse().unwrap()), [a, b, c]),
        ] {
            let mut addresses = [a, b, c];
            put_first(&mut addresses, first);
            assert_eq!(addresses, expected, "{first:?}");
        }
    }

    #[tokio::test]
    async fn what_worked_stays_first_over_answers_and_an_address_needs_none() {
        let resolver = Resolver::default();
        let (host, now) = (Name::from("two.test"), clock::now());
        let [a, b] = [1, 2].map(|n| SocketAddr::from(([127, 0, 0, n], 80)));
        assert_eq!(*resolver.remember(&host, 80, vec![a, b], now), [a, b]);
        resolver.worked(&host, b);
        assert_eq!(*resolver.resolve(&host, 80).await.unwrap(), [b, a]);
        assert_eq!(*resolver.remember(&host, 80, vec![a, b], now), [b, a]);
        assert_eq!(*resolver.remember(&host, 80, vec![a], now), [a], "it is not there any more");
        for literal in ["::1", "[::1]"] {
            let found = resolver.resolve(&literal.into(), 80).await.unwrap();
            assert_eq!(*found, ["[::1]:80".parse().unwrap()]);
        }
    }
}
