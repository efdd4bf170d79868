//! Reads a connection's ClientHello and keeps its bytes, so that it can still be passed on as it came.

use std::io;

use bytes::BytesMut;
use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Most bytes until a ClientHello is whole, record headers included. Browsers send about 2 KiB.
const HELLO_MAX: usize = 16 * 1024;
/// How much is read at once.
const PART: usize = 4 * 1024;

/// Reads until the ClientHello is whole, over as many segments and records as it takes. `received` is what has come
/// already. Returns all bytes so far, too. The caller sees to the deadline.
///
/// # Errors
/// The client closed (`UnexpectedEof`), or what it sent is no ClientHello or too long (`InvalidData`); then it has been
/// told so.
pub(super) async fn read(tcp: &mut TcpStream, mut received: BytesMut) -> io::Result<(Accepted, BytesMut)> {
    let mut acceptor = Acceptor::default();
    let mut fed = 0;
    loop {
        while let Some(mut rest) = received.get(fed..).filter(|rest| !rest.is_empty()) {
            match acceptor.read_tls(&mut rest)? {
                0 => return Err(io::ErrorKind::InvalidData.into()),
                n => fed += n,
            }
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok((accepted, received)),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                let _ = alert.write_all(&mut bytes);
                let _ = tcp.write_all(&bytes).await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        let room = HELLO_MAX.saturating_sub(received.len()).min(PART);
        if room == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a ClientHello that does not end"));
        }
        received.reserve(room);
        if (&mut *tcp).take(room as u64).read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
