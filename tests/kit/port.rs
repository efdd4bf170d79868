//! A port that is kept for somebody who is not there yet, or not there any more.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A TCP port of this machine that no other test gets while this lives. Connects to it are refused until somebody listens on
/// it who shares addresses (`SO_REUSEADDR`), as Tokio and Prosody do.
pub(crate) struct Port(Socket);

impl Port {
    /// Keeps any free port.
    pub(crate) fn free() -> Self {
        Self::of(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port")
    }

    /// Keeps this one.
    pub(crate) fn of(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        Ok(Self(socket))
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound")
    }
}
