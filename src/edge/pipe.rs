//! One direction of a tunnel: reads, follows frames, writes on, and puts frames of our own between those that pass.
//!
//! Owns what the other side has not taken yet: at most one buffer of the thread's, and none while nothing waits. What
//! came is passed on before more is read, so a side that takes nothing stops the other one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers;
use crate::wire::ws_frame::Frames;
use crate::wire::ws_ping::{PongFilter, Tag};

/// Bytes are added to the metric in steps of at least this, so that threads do not meet in it.
const COUNT_STEP: u64 = 64 * 1024;

/// One direction.
pub(super) struct Pipe {
    /// Read and not yet taken by the other side. Empty and without memory while the direction is idle.
    waiting: Vec<u8>,
    at: usize,
    unflushed: bool,
    side: Side,
    mode: Mode,
    frames: Frames,
    /// Takes the pongs to our pings out, once there was one.
    pongs: Option<Box<PongFilter>>,
    /// Bytes read.
    total: u64,
    /// Of these, bytes of pongs to our pings.
    taken_out: u64,
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

#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    /// Everything passes.
    Pass,
    /// The frame under way passes, then this frame goes out, then everything passes.
    PutIn(Box<[u8]>),
    /// The frame under way passes, then this close frame goes out.
    FinishFrame(Box<[u8]>),
    /// Nothing passes any more; frames are still followed.
    Discard,
}

/// What becomes of bytes that were read: `head` of them pass, then a frame of ours, then the others if `tail`.
#[derive(Debug, PartialEq, Eq)]
struct Admitted {
    head: usize,
    frame: Option<Box<[u8]>>,
    tail: bool,
}

impl Pipe {
    pub(super) fn new(counter: IntCounter) -> Self {
        Self {
            waiting: Vec::new(),
            at: 0,
            unflushed: false,
            side: Side::Open,
            mode: Mode::Pass,
            frames: Frames::default(),
            pongs: None,
            total: 0,
            taken_out: 0,
            uncounted: 0,
            counter,
        }
    }

    /// Begins with a head that is no frame, and frames that came with it.
    pub(super) fn greet(&mut self, head: Vec<u8>, frames: &[u8]) {
        self.frames.advance(frames);
        self.count(frames.len());
        self.waiting = head;
        self.waiting.extend_from_slice(frames);
    }

    /// Bytes read from the source.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Bytes of the tunnel: those read, without pongs to our pings.
    pub(super) fn moved(&self) -> u64 {
        self.total - self.taken_out
    }

    /// Whether the source's close frame has passed.
    pub(super) fn is_closed(&self) -> bool {
        self.frames.is_closed()
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// Whether everything that was read, and every frame that was put in, has gone out.
    pub(super) fn is_sent(&self) -> bool {
        self.waiting.is_empty() && !self.unflushed && !matches!(self.mode, Mode::PutIn(_))
    }

    pub(super) fn is_discarding(&self) -> bool {
        self.mode == Mode::Discard
    }

    /// Lets nothing pass any more.
    pub(super) fn discard(&mut self) {
        self.mode = Mode::Discard;
    }

    /// Gives up what waits.
    pub(super) fn drop_waiting(&mut self) {
        self.waiting.clear();
        self.at = 0;
    }

    /// From here on pongs to our pings do not pass.
    pub(super) fn take_pongs(&mut self) {
        self.pongs.get_or_insert_default();
    }

    /// Puts a frame of ours behind the frame under way; only while everything passes.
    pub(super) fn put_in(&mut self, frame: Vec<u8>) {
        if self.mode != Mode::Pass || self.frames.is_closed() || self.side != Side::Open {
            return;
        }
        if self.frames.at_boundary() {
            self.waiting.extend_from_slice(&frame);
        } else {
            self.mode = Mode::PutIn(frame.into());
        }
    }

    /// Puts a close frame behind the frame under way. Does nothing if this direction has said goodbye itself.
    pub(super) fn say_close(&mut self, frame: Vec<u8>) {
        self.release_pong();
        self.mode = if self.frames.is_closed() || self.side != Side::Open {
            Mode::Discard
        } else if self.frames.at_boundary() {
            self.waiting.extend_from_slice(&frame);
            Mode::Discard
        } else {
            Mode::FinishFrame(frame.into())
        };
    }

    /// Lets pass what was kept back because it may have become a pong.
    fn release_pong(&mut self) {
        if let Some(mut pongs) = self.pongs.take() {
            let kept = pongs.release(&mut self.frames);
            self.taken_out -= kept.len() as u64;
            self.waiting.extend_from_slice(&kept);
        }
    }

    fn count(&mut self, bytes: usize) {
        self.total += bytes as u64;
        self.uncounted += bytes as u64;
        if self.uncounted >= COUNT_STEP {
            self.counter.inc_by(std::mem::take(&mut self.uncounted));
        }
    }

    /// Moves bytes until the source has none, or the other side takes none. Ready when the direction is over.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        tag: Tag,
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
                Side::Open => ready!(self.poll_move(cx, from, to, tag))?,
            }
        }
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

    /// Reads once and writes at once what the other side takes.
    fn poll_move<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        tag: Tag,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        buffers::with_scratch(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(from).poll_read(cx, &mut buf))?;
            let bytes = buf.filled();
            if bytes.is_empty() {
                self.release_pong();
                self.side = Side::Ended;
                return Poll::Ready(Ok(()));
            }
            self.count(bytes.len());
            let Some(mut pongs) = self.pongs.take() else {
                let admitted = self.admit(bytes);
                return self.poll_pass(cx, to, bytes, admitted);
            };
            // Where pongs are taken out no frame is put in: that is the other direction.
            let passed = pongs.pass(&mut self.frames, tag, bytes);
            self.pongs = Some(pongs);
            // What was kept back before and passes now makes it the smaller.
            self.taken_out = (self.taken_out + bytes.len() as u64).saturating_sub(passed.len() as u64);
            let all = Admitted { head: passed.len(), frame: None, tail: false };
            self.poll_pass(cx, to, &passed, all)
        })
    }

    /// Writes what passes of the bytes; what the other side does not take at once waits.
    fn poll_pass<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        bytes: &[u8],
        admitted: Admitted,
    ) -> Poll<io::Result<()>> {
        let (head, tail) = bytes.split_at_checked(admitted.head).unwrap_or((bytes, &[]));
        let mut rest = head;
        while !rest.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.unflushed = true;
                    rest = rest.get(written..).unwrap_or_default();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if !rest.is_empty() || admitted.frame.is_some() {
            self.waiting = buffers::take();
            self.waiting.extend_from_slice(rest);
            self.waiting.extend_from_slice(&admitted.frame.unwrap_or_default());
            if admitted.tail {
                self.waiting.extend_from_slice(tail);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Follows frames and decides what passes, and where a frame of ours goes.
    fn admit(&mut self, bytes: &[u8]) -> Admitted {
        match &self.mode {
            Mode::Pass => {
                self.frames.advance(bytes);
                Admitted { head: bytes.len(), frame: None, tail: false }
            }
            Mode::PutIn(_) | Mode::FinishFrame(_) => {
                let head = self.frames.finish_frame(bytes);
                if !self.frames.at_boundary() {
                    return Admitted { head, frame: None, tail: false };
                }
                // The source's own close frame may be the one under way: nothing goes behind it.
                let closed = self.frames.is_closed();
                let last = matches!(self.mode, Mode::FinishFrame(_));
                let next = if last { Mode::Discard } else { Mode::Pass };
                let frame = match std::mem::replace(&mut self.mode, next) {
                    Mode::PutIn(frame) | Mode::FinishFrame(frame) => (!closed).then_some(frame),
                    Mode::Pass | Mode::Discard => None,
                };
                self.frames.advance(bytes.get(head..).unwrap_or_default());
                match (last, frame) {
                    (true, frame) => Admitted { head, frame, tail: false },
                    (false, Some(frame)) => Admitted { head, frame: Some(frame), tail: true },
                    (false, None) => Admitted { head: bytes.len(), frame: None, tail: false },
                }
            }
            Mode::Discard => {
                self.frames.advance(bytes);
                Admitted { head: 0, frame: None, tail: false }
            }
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.counter.inc_by(self.uncounted);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn pipe() -> Pipe {
        Pipe::new(IntCounter::new("bytes", "bytes").unwrap())
    }

    fn admitted(head: usize, frame: Option<&[u8]>, tail: bool) -> Admitted {
        Admitted { head, frame: frame.map(Into::into), tail }
    }

    #[test]
    fn a_ping_goes_between_two_frames_and_everything_else_passes() {
        let mut down = pipe();
        down.frames.advance(&[0x82, 3, 1]);
        down.put_in(vec![0x89, 0]);
        assert!(!down.is_sent(), "it waits for the frame under way");
        assert_eq!(down.admit(&[2]), admitted(1, None, false));
        assert_eq!(down.admit(&[3, 0x82, 1, 9]), admitted(1, Some(&[0x89, 0]), true));
        assert_eq!(down.admit(&[0x82, 1, 9]), admitted(3, None, false));
        down.put_in(vec![0x89, 0]);
        assert_eq!(down.waiting, [0x89, 0], "between frames it goes at once");
        // A close frame takes the place of a ping that has not left.
        let mut down = pipe();
        down.frames.advance(&[0x82, 3, 1]);
        down.put_in(vec![0x89, 0]);
        down.say_close(vec![0x88, 0]);
        assert_eq!(down.admit(&[2, 3]), admitted(2, Some(&[0x88, 0]), false));
        // And none goes behind the source's own close frame.
        let mut down = pipe();
        down.frames.advance(&[0x88]);
        down.put_in(vec![0x89, 0]);
        assert_eq!(down.admit(&[0]), admitted(1, None, false));
    }

    #[tokio::test]
    async fn pongs_to_our_pings_are_taken_out() {
        const TAG: Tag = *b"roomgate";
        let (mut source, mut from) = tokio::io::duplex(1024);
        let (mut to, mut sink) = tokio::io::duplex(1024);
        let mut up = pipe();
        up.take_pongs();
        let pong = [&[0x8a, 0x88, 0, 0, 0, 0][..], &TAG].concat();
        let text = [0x81, 0x81, 0, 0, 0, 0, b'x'];
        source.write_all(&[&text[..], &pong, &text, &pong[..5]].concat()).await.unwrap();
        source.shutdown().await.unwrap();
        std::future::poll_fn(|cx| up.poll(cx, &mut from, &mut to, TAG)).await.unwrap();
        drop(to);
        let mut all = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut sink, &mut all).await.unwrap();
        assert_eq!(all, [&text[..], &text, &pong[..5]].concat());
        assert_eq!((up.total(), up.moved()), (33, 19));
    }

    #[test]
    fn a_close_frame_goes_between_two_frames() {
        let mut down = pipe();
        down.frames.advance(&[0x82, 3, 1]);
        down.say_close(vec![0x88, 0]);
        assert_eq!(down.mode, Mode::FinishFrame([0x88, 0].into()));
        // The rest of the frame passes, the next frame does not.
        assert_eq!(down.admit(&[2, 3, 0x82, 1, 9]), admitted(2, Some(&[0x88, 0]), false));
        assert_eq!(down.admit(&[0x82, 1, 9]), admitted(0, None, false));
    }

    #[test]
    fn nothing_is_added_behind_a_close_frame() {
        let mut down = pipe();
        assert_eq!(down.admit(&[0x88, 0]), admitted(2, None, false));
        down.say_close(vec![0x88, 0]);
        assert!(down.waiting.is_empty() && down.mode == Mode::Discard);
        let mut down = pipe();
        down.frames.advance(&[0x88]);
        down.say_close(vec![0x88, 0]);
        assert_eq!(down.admit(&[0]), admitted(1, None, false));
    }

    #[tokio::test]
    async fn bytes_that_are_not_taken_wait_and_stop_the_reading() {
        let (mut source, mut from) = tokio::io::duplex(1024 * 1024);
        let (mut to, mut sink) = tokio::io::duplex(1000);
        source.write_all(&vec![7; 100_000]).await.unwrap();
        let mut down = pipe();
        let poll = std::future::poll_fn(|cx| {
            assert!(down.poll(cx, &mut from, &mut to, Tag::default()).is_pending());
            Poll::Ready(())
        });
        poll.await;
        assert!(
            down.waiting.len() <= buffers::BYTES && down.total <= 2 * buffers::BYTES as u64,
            "{}",
            down.total
        );
        source.shutdown().await.unwrap();
        let drained = async {
            let mut all = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut sink, &mut all).await.unwrap();
            all.len()
        };
        let (done, count) = tokio::join!(
            std::future::poll_fn(|cx| down.poll(cx, &mut from, &mut to, Tag::default())),
            drained
        );
        done.unwrap();
        assert_eq!((count, down.waiting.capacity()), (100_000, 0));
    }
}
