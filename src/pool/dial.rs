//! Dials a node: each address of its name in turn, until one answers or the time is over.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::health::{FailReason, LocalFault};
use super::stream::NodeStream;
use super::tls::NodeTls;
use crate::clock;
use crate::config::settings::Protocol;

/// What comes after the TCP connection.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// Whom to trust.
    pub policy: &'a NodeTls,
    /// The node's host.
    pub host: &'a str,
    /// What is wished for in the handshake.
    pub protocol: Protocol,
}

/// Connects to the first address that answers, with TLS if that is asked for, and returns which one it was. Each
/// address gets an equal share of what is left of `timeout`, handshake included, so that one that swallows everything
/// does not hide the next. `first` goes out before anything else: a PROXY header.
///
/// # Errors
/// No address answered: what that says about the node.
pub async fn dial(
    addresses: &[SocketAddr],
    timeout: Duration,
    first: Option<&[u8]>,
    tls: Option<Tls<'_>>,
) -> Result<(NodeStream, SocketAddr), FailReason> {
    let started = clock::now();
    let mut failed: Option<Failed> = None;
    for (tried, &address) in addresses.iter().enumerate() {
        let left = timeout.saturating_sub(clock::now().saturating_duration_since(started));
        let connected =
            tokio::time::timeout(share(left, addresses.len() - tried), connect(address, first, tls));
        let reason = match connected.await {
            Ok(Ok(stream)) => return Ok((stream, address)),
            Ok(Err(reason)) => reason,
            Err(_) => FailReason::Timeout(timeout),
        };
        let fault = Failed { address, reason };
        if fault.weight() == Weight::Final {
            return Err(fault.reason);
        }
        failed = Some(match failed {
            Some(before) => before.or(fault),
            None => fault,
        });
    }
    Err(failed.map_or_else(|| FailReason::Resolve("no address".to_owned()), |failed| failed.reason))
}

async fn connect(
    address: SocketAddr,
    first: Option<&[u8]>,
    tls: Option<Tls<'_>>,
) -> Result<NodeStream, FailReason> {
    let mut tcp = TcpStream::connect(address).await.map_err(|error| FailReason::connect(&error))?;
    if let Some(bytes) = first {
        // A fresh connection takes these few bytes at once.
        tcp.write_all(bytes).await.map_err(|error| FailReason::connect(&error))?;
    }
    let Some(Tls { policy, host, protocol }) = tls else { return Ok(NodeStream::Tcp(tcp)) };
    policy.handshake(host, protocol, tcp).await.map(|tls| NodeStream::Tls(Box::new(tls)))
}

fn share(left: Duration, addresses: usize) -> Duration {
    left / u32::try_from(addresses.max(1)).unwrap_or(u32::MAX)
}

/// One address that did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failed {
    address: SocketAddr,
    reason: FailReason,
}

/// How much a failure counts when all addresses failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// A machine without IPv6 says of every IPv6 address that it has no local one for it.
    Nothing,
    /// The address was asked.
    Asked,
    /// It could not be asked: the node may be well.
    Unasked,
    /// None could be asked.
    Final,
}

impl Failed {
    fn weight(&self) -> Weight {
        match (&self.reason, self.address) {
            (FailReason::Local(LocalFault::Ports), SocketAddr::V6(_)) => Weight::Nothing,
            (FailReason::Local(LocalFault::Ports), SocketAddr::V4(_)) => Weight::Unasked,
            (FailReason::Local(LocalFault::Descriptors | LocalFault::Memory), _) => Weight::Final,
            _ => Weight::Asked,
        }
    }

    /// Returns the one of two that speaks for the node.
    fn or(self, later: Self) -> Self {
        if later.weight() >= self.weight() { later } else { self }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_node_is_judged_only_by_addresses_that_were_asked() {
        let (v4, v6) = ("127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap());
        let (ports, memory) = (FailReason::Local(LocalFault::Ports), FailReason::Local(LocalFault::Memory));
        let (refused, late) = (FailReason::ConnectRefused, FailReason::Timeout(Duration::from_secs(1)));
        for (first, second, expected) in [
            ((v6, &refused), (v4, &late), &late),
            ((v6, &ports), (v4, &refused), &refused),
            ((v4, &refused), (v6, &ports), &refused),
            ((v6, &refused), (v4, &ports), &ports),
            ((v4, &ports), (v6, &refused), &ports),
            ((v6, &ports), (v6, &ports), &ports),
            ((v4, &refused), (v4, &memory), &memory),
        ] {
            let failed =
                |(address, reason): (SocketAddr, &FailReason)| Failed { address, reason: reason.clone() };
            assert_eq!(&failed(first).or(failed(second)).reason, expected, "{first:?} {second:?}");
        }
    }

    #[test]
    fn addresses_share_the_time() {
        let second = Duration::from_secs(1);
        assert_eq!(share(second, 1), second);
        assert_eq!(share(second, 4), second / 4);
        assert_eq!(share(Duration::ZERO, 2), Duration::ZERO);
    }

    #[tokio::test]
    async fn the_next_address_is_tried_and_the_last_failure_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let long = Duration::from_secs(10);
        assert_eq!(dial(&[closed, there], long, None, None).await.unwrap().1, there);
        assert_eq!(dial(&[closed, closed], long, None, None).await.unwrap_err(), FailReason::ConnectRefused);
        assert!(matches!(dial(&[], long, None, None).await, Err(FailReason::Resolve(_))));
    }
}
