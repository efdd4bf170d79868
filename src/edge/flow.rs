//! Bytes on their way from one side of a connection to the other.
//!
//! Owns what the other side has not taken yet: at most one buffer of the thread's, and none while nothing waits. What
//! came is passed on before more is read, so a side that takes nothing stops the other one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers;

/// Bytes are added to the metric in steps of at least this, so that threads do not meet in it.
const COUNT_STEP: u64 = 64 * 1024;

/// One direction.
pub(super) struct Flow {
    /// Read and not yet taken by the other side. Empty and without memory while the direction is idle.
    waiting: Vec<u8>,
    at: usize,
    unflushed: bool,
    side: Side,
    /// Bytes read.
    total: u64,
    uncounted: u64,
    counter: IntCounter,
}

/// How far the source has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Open,
    /// It has ended; the other side is told when all is written.
    Ended,
    /// The other side has been told.
    Told,
}

impl Flow {
    pub(super) fn new(counter: IntCounter) -> Self {
        Self {
            waiting: Vec::new(),
            at: 0,
            unflushed: false,
            side: Side::Open,
            total: 0,
            uncounted: 0,
            counter,
        }
    }

    /// Bytes read from the source.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// Whether everything has gone out.
    pub(super) fn is_sent(&self) -> bool {
        self.waiting.is_empty() && !self.unflushed
    }

    /// What waits.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> &[u8] {
        self.waiting.get(self.at..).unwrap_or_default()
    }

    /// Puts bytes behind those that wait.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// Gives up what waits.
    pub(super) fn drop_waiting(&mut self) {
        self.waiting.clear();
        self.at = 0;
    }

    /// Counts bytes that came from the source.
    pub(super) fn count(&mut self, bytes: usize) {
        self.total += bytes as u64;
        self.uncounted += bytes as u64;
        if self.uncounted >= COUNT_STEP {
            self.counter.inc_by(std::mem::take(&mut self.uncounted));
        }
    }

    /// Moves bytes until the source has none, or the other side takes none. Ready when the direction is over. `pass` gets
    /// what was read, at the end of the source nothing, and sends of it what it wants.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        mut pass: impl FnMut(&mut Self, &mut Context<'_>, &mut W, &[u8]) -> io::Result<()>,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.poll_waiting(cx, to))?;
            match self.side {
                Side::Told => return Poll::Ready(Ok(())),
                Side::Ended => {
                    // A side that cannot be told any more is as good as told.
                    let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.side = Side::Told;
                }
                Side::Open => ready!(buffers::with_scratch(|scratch| {
                    let mut buf = ReadBuf::new(scratch);
                    ready!(Pin::new(&mut *from).poll_read(cx, &mut buf))?;
                    let bytes = buf.filled();
                    self.count(bytes.len());
                    if bytes.is_empty() {
                        self.side = Side::Ended;
                    }
                    Poll::Ready(pass(self, cx, to, bytes))
                }))?,
            }
        }
    }

    /// Writes what the other side takes at once; the rest waits.
    pub(super) fn send<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        bytes: &[u8],
    ) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    self.unflushed = true;
                    rest = rest.get(written..).unwrap_or_default();
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.waiting = buffers::take();
                    self.waiting.extend_from_slice(rest);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Writes what waits, then flushes.
    fn poll_waiting<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while self.at < self.waiting.len() {
            let rest = self.waiting.get(self.at..).unwrap_or_default();
            let written = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.at += written;
            self.unflushed = true;
        }
        if self.waiting.capacity() > 0 {
            buffers::give(std::mem::take(&mut self.waiting));
        }
        self.at = 0;
        if self.unflushed {
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.counter.inc_by(self.uncounted);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_that_are_not_taken_wait_and_stop_the_reading() {
        let (mut source, mut from) = tokio::io::duplex(1024 * 1024);
        let (mut to, mut sink) = tokio::io::duplex(1000);
        source.write_all(&vec![7; 100_000]).await.unwrap();
        let counter = IntCounter::new("bytes", "bytes").unwrap();
        let mut flow = Flow::new(counter.clone());
        let mut ends = 0;
        let mut poll = |flow: &mut Flow, cx: &mut Context<'_>| {
            flow.poll(cx, &mut from, &mut to, |flow, cx, to, bytes| {
                ends += u32::from(bytes.is_empty());
                flow.send(cx, to, bytes)
            })
        };
        std::future::poll_fn(|cx| {
            assert!(poll(&mut flow, cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let (waiting, total) = (flow.waiting.len(), flow.total);
        assert!(waiting <= buffers::BYTES && total <= 2 * buffers::BYTES as u64, "{waiting}, {total}");
        source.shutdown().await.unwrap();
        let drained = async {
            let mut all = Vec::new();
            sink.read_to_end(&mut all).await.unwrap();
            all.len()
        };
        let (done, count) = tokio::join!(std::future::poll_fn(|cx| poll(&mut flow, cx)), drained);
        done.unwrap();
        assert_eq!((count, ends, flow.waiting.capacity()), (100_000, 1, 0));
        drop(flow);
        assert_eq!(counter.get(), 100_000);
    }
}
