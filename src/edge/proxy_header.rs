//! Reads the PROXY header of a connection that has to begin with one.
//!
//! Which peers have to is the listener's `proxy_protocol.from`; nobody else's bytes are looked at. A connection without a
//! whole, well-formed header within [`DEADLINE`] is closed and counted, and nothing is answered.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::telemetry::metrics::EdgeMetrics;
use crate::wire::proxy_protocol::{Addresses, HEADER_MAX, Scan, Tlvs, scan};

/// From accept to the whole header.
const DEADLINE: Duration = Duration::from_secs(3);
/// TLV of a connection's name at the load balancer, at most 128 bytes.
const UNIQUE_ID: u8 = 0x05;

/// What a load balancer said of a connection.
#[derive(Debug)]
pub(crate) struct Proxied {
    /// The load balancer.
    pub(crate) via: SocketAddr,
    /// What the client connected to.
    pub(crate) destination: Option<SocketAddr>,
    /// The TLVs of version 2, at most [`HEADER_MAX`] bytes.
    pub(crate) tlvs: Box<[u8]>,
}

impl Proxied {
    /// Returns the load balancer's own name of the connection, for logs: printable, or in hexadecimal digits.
    pub(crate) fn unique_id(&self) -> Option<String> {
        let (_, id) = Tlvs(&self.tlvs).find(|(kind, _)| *kind == UNIQUE_ID)?;
        match std::str::from_utf8(id) {
            Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => Some(text.to_owned()),
            Ok(_) | Err(_) => Some(id.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

/// A connection at its first byte of its own.
pub(super) struct Arrived {
    pub(super) client: SocketAddr,
    pub(super) proxied: Option<Box<Proxied>>,
    /// What came behind the header.
    pub(super) received: BytesMut,
}

impl Arrived {
    /// A connection that speaks for itself.
    pub(super) fn direct(peer: SocketAddr) -> Self {
        Self { client: peer, proxied: None, received: BytesMut::new() }
    }
}

/// Reads the header; `None`: counted, and the connection is to be closed.
pub(super) async fn read(tcp: &mut TcpStream, peer: SocketAddr, metrics: &EdgeMetrics) -> Option<Arrived> {
    let mut received = BytesMut::with_capacity(HEADER_MAX);
    let whole = match tokio::time::timeout(DEADLINE, whole(tcp, &mut received)).await {
        Ok(whole) => whole,
        Err(_) => Err("timeout"),
    };
    let label = match &whole {
        Ok(Whole { addresses: None, .. }) => "local",
        Ok(Whole { version: 1, .. }) => "v1",
        Ok(_) => "v2",
        Err(why) => why,
    };
    metrics.proxy_headers.with_label_values(&[label]).inc();
    let Whole { addresses, tlvs, length, .. } = whole.ok()?;
    // What is left is copied, so that the rest of the buffer goes.
    let received = received.get(length..).map(BytesMut::from).unwrap_or_default();
    let client = addresses.map_or(peer, |a| SocketAddr::new(a.source.ip().to_canonical(), a.source.port()));
    let destination = addresses.map(|addresses| addresses.destination);
    Some(Arrived { client, proxied: Some(Box::new(Proxied { via: peer, destination, tlvs })), received })
}

struct Whole {
    version: u8,
    addresses: Option<Addresses>,
    tlvs: Box<[u8]>,
    length: usize,
}

async fn whole(tcp: &mut TcpStream, received: &mut BytesMut) -> Result<Whole, &'static str> {
    loop {
        match scan(received) {
            Scan::Complete(header, length) => {
                let (version, addresses) = (header.version, header.addresses);
                return Ok(Whole { version, addresses, tlvs: header.tlvs.into(), length });
            }
            Scan::Refused(refusal) => return Err(refusal.as_str()),
            // Never reached with a full buffer: a header is no longer than that.
            Scan::Partial if received.len() >= HEADER_MAX => return Err("too_large"),
            Scan::Partial => {}
        }
        let room = HEADER_MAX - received.len();
        let read: io::Result<usize> = (&mut *tcp).take(room as u64).read_buf(received).await;
        if !matches!(read, Ok(n) if n > 0) {
            return Err("closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_balancers_name_of_a_connection_can_be_logged() {
        for (tlvs, expected) in [
            (&[][..], None),
            (&[2, 0, 1, b'a'], None),
            (&[2, 0, 1, b'a', 5, 0, 2, b'i', b'd'], Some("id")),
            (&[5, 0, 2, b'\n', 0xff], Some("0aff")),
        ] {
            let proxied =
                Proxied { via: SocketAddr::from(([10, 0, 0, 1], 1)), destination: None, tlvs: tlvs.into() };
            assert_eq!(proxied.unique_id().as_deref(), expected);
        }
    }
}
