//! A connection to a node: TCP, or TLS over it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A connection to a node.
#[derive(Debug)]
pub enum NodeStream {
    /// Without TLS.
    Tcp(TcpStream),
    /// With TLS, after its handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

impl NodeStream {
    /// Returns the socket.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            NodeStream::Tcp(tcp) => tcp,
            NodeStream::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Returns whether the node chose HTTP/2 in the handshake.
    pub fn chose_h2(&self) -> bool {
        match self {
            NodeStream::Tcp(_) => false,
            NodeStream::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

impl AsyncRead for NodeStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            NodeStream::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            NodeStream::Tls(tls) => match ready!(Pin::new(tls).poll_read(cx, buf)) {
                // Many servers end without a close_notify. What is read here has lengths or frames of its own, so a
                // cut is seen by whoever reads it.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                read => Poll::Ready(read),
            },
        }
    }
}

impl AsyncWrite for NodeStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            NodeStream::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            NodeStream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            NodeStream::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            NodeStream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            NodeStream::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            NodeStream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
