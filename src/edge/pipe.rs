//! One direction of a tunnel: follows frames, and puts frames of our own between those that pass.

use std::io;
use std::task::{Context, Poll};

use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite};

use super::flow::{Flow, Side};
use crate::wire::ws_frame::Frames;
use crate::wire::ws_ping::{PongFilter, Tag};

/// One direction.
pub(super) struct Pipe {
    flow: Flow,
    framing: Framing,
}

/// Decides what passes.
#[derive(Default)]
struct Framing {
    mode: Mode,
    frames: Frames,
    /// Takes the pongs to our pings out, once there was one.
    pongs: Option<Box<PongFilter>>,
    /// Bytes of pongs to our pings.
    taken_out: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// Everything passes.
    #[default]
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
        Self { flow: Flow::new(counter), framing: Framing::default() }
    }

    /// Begins with a head that is no frame, and frames that came with it.
    pub(super) fn greet(&mut self, head: &[u8], frames: &[u8]) {
        self.framing.frames.advance(frames);
        self.flow.count(frames.len());
        self.flow.append(head);
        self.flow.append(frames);
    }

    /// Bytes read from the source.
    pub(super) fn total(&self) -> u64 {
        self.flow.total()
    }

    /// Bytes of the tunnel: those read, without pongs to our pings.
    pub(super) fn moved(&self) -> u64 {
        self.flow.total() - self.framing.taken_out
    }

    /// Whether the source's close frame has passed.
    pub(super) fn is_closed(&self) -> bool {
        self.framing.frames.is_closed()
    }

    pub(super) fn side(&self) -> Side {
        self.flow.side()
    }

    /// Whether everything that was read, and every frame that was put in, has gone out.
    pub(super) fn is_sent(&self) -> bool {
        self.flow.is_sent() && !matches!(self.framing.mode, Mode::PutIn(_))
    }

    pub(super) fn is_discarding(&self) -> bool {
        self.framing.mode == Mode::Discard
    }

    /// Lets nothing pass any more.
    pub(super) fn discard(&mut self) {
        self.framing.mode = Mode::Discard;
    }

    /// Gives up what waits.
    pub(super) fn drop_waiting(&mut self) {
        self.flow.drop_waiting();
    }

    /// From here on pongs to our pings do not pass.
    pub(super) fn take_pongs(&mut self) {
        self.framing.pongs.get_or_insert_default();
    }

    /// Whether the source has said goodbye.
    fn has_ended(&self) -> bool {
        self.framing.frames.is_closed() || self.flow.side() != Side::Open
    }

    /// Puts a frame of ours behind the frame under way; only while everything passes.
    pub(super) fn put_in(&mut self, frame: Vec<u8>) {
        if self.framing.mode != Mode::Pass || self.has_ended() {
            return;
        }
        if self.framing.frames.at_boundary() {
            self.flow.append(&frame);
        } else {
            self.framing.mode = Mode::PutIn(frame.into());
        }
    }

    /// Puts a close frame behind the frame under way. Does nothing if this direction has said goodbye itself.
    pub(super) fn say_close(&mut self, frame: Vec<u8>) {
        self.framing.release_pong(&mut self.flow);
        self.framing.mode = if self.has_ended() {
            Mode::Discard
        } else if self.framing.frames.at_boundary() {
            self.flow.append(&frame);
            Mode::Discard
        } else {
            Mode::FinishFrame(frame.into())
        };
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
        let Self { flow, framing } = self;
        flow.poll(cx, from, to, |flow, cx, to, bytes| framing.pass(flow, cx, to, bytes, tag))
    }
}

impl Framing {
    /// Sends what passes of the bytes; none are the end of the source.
    fn pass<W: AsyncWrite + Unpin>(
        &mut self,
        flow: &mut Flow,
        cx: &mut Context<'_>,
        to: &mut W,
        bytes: &[u8],
        tag: Tag,
    ) -> io::Result<()> {
        if bytes.is_empty() {
            self.release_pong(flow);
            return Ok(());
        }
        if let Some(pongs) = &mut self.pongs {
            // Where pongs are taken out no frame is put in: that is the other direction.
            let passed = pongs.pass(&mut self.frames, tag, bytes);
            // What was kept back before and passes now makes it the smaller.
            self.taken_out = (self.taken_out + bytes.len() as u64).saturating_sub(passed.len() as u64);
            return flow.send(cx, to, &passed);
        }
        let admitted = self.admit(bytes);
        let (head, tail) = bytes.split_at_checked(admitted.head).unwrap_or((bytes, &[]));
        flow.send(cx, to, head)?;
        if let Some(frame) = admitted.frame {
            flow.append(&frame);
            if admitted.tail {
                flow.append(tail);
            }
        }
        Ok(())
    }

    /// Lets pass what was kept back because it may have become a pong.
    fn release_pong(&mut self, flow: &mut Flow) {
        if let Some(mut pongs) = self.pongs.take() {
            let kept = pongs.release(&mut self.frames);
            self.taken_out -= kept.len() as u64;
            flow.append(&kept);
        }
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
        down.framing.frames.advance(&[0x82, 3, 1]);
        down.put_in(vec![0x89, 0]);
        assert!(!down.is_sent(), "it waits for the frame under way");
        assert_eq!(down.framing.admit(&[2]), admitted(1, None, false));
        assert_eq!(down.framing.admit(&[3, 0x82, 1, 9]), admitted(1, Some(&[0x89, 0]), true));
        assert_eq!(down.framing.admit(&[0x82, 1, 9]), admitted(3, None, false));
        down.put_in(vec![0x89, 0]);
        assert_eq!(down.flow.waiting(), [0x89, 0], "between frames it goes at once");
        // A close frame takes the place of a ping that has not left.
        let mut down = pipe();
        down.framing.frames.advance(&[0x82, 3, 1]);
        down.put_in(vec![0x89, 0]);
        down.say_close(vec![0x88, 0]);
        assert_eq!(down.framing.admit(&[2, 3]), admitted(2, Some(&[0x88, 0]), false));
        // And none goes behind the source's own close frame.
        let mut down = pipe();
        down.framing.frames.advance(&[0x88]);
        down.put_in(vec![0x89, 0]);
        assert_eq!(down.framing.admit(&[0]), admitted(1, None, false));
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
        down.framing.frames.advance(&[0x82, 3, 1]);
        down.say_close(vec![0x88, 0]);
        assert_eq!(down.framing.mode, Mode::FinishFrame([0x88, 0].into()));
        // The rest of the frame passes, the next frame does not.
        assert_eq!(down.framing.admit(&[2, 3, 0x82, 1, 9]), admitted(2, Some(&[0x88, 0]), false));
        assert_eq!(down.framing.admit(&[0x82, 1, 9]), admitted(0, None, false));
    }

    #[test]
    fn nothing_is_added_behind_a_close_frame() {
        let mut down = pipe();
        assert_eq!(down.framing.admit(&[0x88, 0]), admitted(2, None, false));
        down.say_close(vec![0x88, 0]);
        assert!(down.flow.waiting().is_empty() && down.framing.mode == Mode::Discard);
        let mut down = pipe();
        down.framing.frames.advance(&[0x88]);
        down.say_close(vec![0x88, 0]);
        assert_eq!(down.framing.admit(&[0]), admitted(1, None, false));
    }
}
