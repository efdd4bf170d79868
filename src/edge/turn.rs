//! TURN over TLS on a listener with `turn`: tells it from HTTP by its first bytes and hands it to a TURN server.
//!
//! Owns the seam and no protocol: who serves TURN is plugged in ([`super::Edge::serve_turn_with`]). As long as nobody is,
//! such connections are closed and counted.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use pingora::protocols::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::front_door::Shard;
use super::stream::FrontStream;
use crate::config::settings::Name;
use crate::wire::first_bytes::{self, First};

/// Serves TURN over streams.
pub trait TurnServer: fmt::Debug + Send + Sync {
    /// Serves one client until it ends. The connection counts as open, and the process waits for it, until then.
    fn serve(&self, stream: TurnStream) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The connection of a TURN client whose TLS has ended here. Reads begin with its first STUN message.
pub struct TurnStream {
    stream: Box<FrontStream>,
}

impl TurnStream {
    /// Returns the client.
    pub fn client(&self) -> SocketAddr {
        self.stream.meta().peer
    }

    /// Returns the name of the listener that it came to.
    pub fn listener(&self) -> Name {
        self.stream.meta().listener.name()
    }
}

impl fmt::Debug for TurnStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnStream").field("listener", &self.listener()).finish_non_exhaustive()
    }
}

impl AsyncRead for TurnStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TurnStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

/// Serves a connection that begins with STUN, and returns one that does not: HTTP's. `None`: it has ended.
pub(super) async fn serve(shard: &Shard, mut stream: Box<FrontStream>) -> Option<Box<FrontStream>> {
    match first(shard, &mut stream).await {
        First::Http => return Some(stream),
        First::Partial => Shutdown::shutdown(&mut *stream).await,
        First::Stun => {
            let served = &shard.shared.parts.metrics.turn_streams;
            match shard.shared.turn.get() {
                Some(server) => {
                    served.with_label_values(&["served"]).inc();
                    server.serve(TurnStream { stream }).await;
                }
                None => {
                    served.with_label_values(&["refused"]).inc();
                    Shutdown::shutdown(&mut *stream).await;
                }
            }
        }
    }
    None
}

/// Waits for the first bytes as HTTP does: without cost, and as long as HTTP would.
async fn first(shard: &Shard, stream: &mut FrontStream) -> First {
    let limits = stream.meta().listener.limits();
    let mut received = BytesMut::new();
    let silent = tokio::select! {
        biased;
        read = tokio::time::timeout(limits.idle_timeout, stream.fill(&mut received)) => !matches!(read, Ok(Ok(n)) if n > 0),
        () = shard.stopping.cancelled() => true,
    };
    if silent {
        return First::Partial;
    }
    let told = async {
        loop {
            let first = first_bytes::first(&received);
            if first != First::Partial || !matches!(stream.fill(&mut received).await, Ok(n) if n > 0) {
                return first;
            }
        }
    };
    let first = tokio::time::timeout(limits.head_timeout, told).await.unwrap_or(First::Partial);
    stream.put_back(received);
    first
}
