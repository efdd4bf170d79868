//! Pure: pings of our own in somebody else's WebSocket (RFC 6455 sections 5.5.2 and 5.5.3), and the pongs they cause.
//!
//! A ping carries a tag that nobody else uses. The pong that answers it is taken out of the client's stream, since the
//! node asked for none; every other byte passes as it came. At most [`PONG_BYTES`] - 1 bytes are kept back, and only
//! while they may still become such a pong.

use std::borrow::Cow;

use super::ws_frame::Frames;

/// What tells our pings from those of the node.
pub type Tag = [u8; 8];

/// Length of a client's pong with our tag: two bytes of head, four of the masking key, the tag.
const PONG_BYTES: usize = 14;

/// Returns a ping for a client: a final frame without a mask.
pub fn ping_frame(tag: Tag) -> Vec<u8> {
    let mut frame = vec![0x89, 8];
    frame.extend_from_slice(&tag);
    frame
}

/// Takes the pongs that carry one tag out of a client's stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PongFilter {
    kept: [u8; PONG_BYTES],
    length: u8,
}

impl PongFilter {
    /// Follows the client's bytes with `frames` and returns those that pass. They are the same slice unless a pong is
    /// taken out, or may be about to.
    pub fn pass<'a>(&mut self, frames: &mut Frames, tag: Tag, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        // Nothing until the first byte that does not pass as it came.
        let mut passed: Option<Vec<u8>> = (self.length > 0).then(Vec::new);
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let between = self.length > 0 || frames.at_boundary();
            if between && self.fits(tag, byte) {
                passed.get_or_insert_with(|| bytes.get(..at).unwrap_or_default().to_vec());
                self.keep(byte);
                at += 1;
            } else if self.length > 0 {
                // Somebody else's frame after all.
                let kept = self.release(frames);
                passed.get_or_insert_default().extend_from_slice(&kept);
            } else {
                let taken = frames.next_frame(bytes.get(at..).unwrap_or_default());
                if let Some(passed) = &mut passed {
                    passed.extend_from_slice(bytes.get(at..at + taken).unwrap_or_default());
                }
                at += taken;
            }
        }
        passed.map_or(Cow::Borrowed(bytes), Cow::Owned)
    }

    /// Gives back what was kept: it passes after all, because the stream ends or a frame is to be put in.
    pub fn release(&mut self, frames: &mut Frames) -> Vec<u8> {
        let kept = self.kept.get(..usize::from(self.length)).unwrap_or_default().to_vec();
        self.length = 0;
        frames.advance(&kept);
        kept
    }

    /// Tells whether one more byte makes the kept ones the beginning of a pong with our tag.
    fn fits(&self, tag: Tag, byte: u8) -> bool {
        match self.length {
            // A final pong frame.
            0 => byte == 0x8a,
            // Masked, with as many bytes as the tag has.
            1 => byte == 0x88,
            2..=5 => true,
            at => {
                let at = usize::from(at - 6);
                let mask = self.kept.get(2 + at % 4).copied().unwrap_or_default();
                tag.get(at).is_some_and(|expected| byte ^ mask == *expected)
            }
        }
    }

    fn keep(&mut self, byte: u8) {
        if let Some(slot) = self.kept.get_mut(usize::from(self.length)) {
            *slot = byte;
            self.length += 1;
        }
        if usize::from(self.length) == PONG_BYTES {
            // Whole: it goes no further.
            self.length = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAG: Tag = *b"roomgate";

    fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x11, 0x22, 0x33, 0x44];
        let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap()];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
    }

    /// Passes the parts one by one, then what is kept at the end.
    fn through(parts: &[&[u8]]) -> Vec<u8> {
        let (mut filter, mut frames) = (PongFilter::default(), Frames::default());
        let mut passed = Vec::new();
        for part in parts {
            passed.extend_from_slice(&filter.pass(&mut frames, TAG, part));
        }
        passed.extend(filter.release(&mut frames));
        passed
    }

    #[test]
    fn our_pong_goes_and_every_other_frame_stays() {
        let ours = masked(10, &TAG);
        let unmasked = [&[0x8a, 8][..], &TAG].concat();
        for other in [
            masked(10, b"roomgatf"),
            masked(10, b"roomgat"),
            masked(10, b""),
            masked(9, &TAG),
            masked(2, &TAG),
            // A message that holds what looks like our pong.
            masked(2, &ours),
            unmasked,
        ] {
            assert_eq!(through(&[&other]), other);
            let stream = [&other[..], &ours, &other, &ours, &ours].concat();
            assert_eq!(through(&[&stream]), [&other[..], &other].concat(), "{other:?}");
        }
    }

    #[test]
    fn a_pong_between_two_fragments_is_found() {
        let (first, last) = ([&[0x01][..], &masked(0, b"ab")[1..]].concat(), masked(0, b"cd"));
        let stream = [&first[..], &masked(10, &TAG), &last].concat();
        assert_eq!(through(&[&stream]), [first, last].concat());
    }

    #[test]
    fn bytes_without_a_pong_are_not_copied() {
        let (mut filter, mut frames) = (PongFilter::default(), Frames::default());
        let stream = [masked(1, b"hello"), masked(2, &[7; 100])].concat();
        assert!(matches!(filter.pass(&mut frames, TAG, &stream), Cow::Borrowed(_)));
        assert!(frames.at_boundary());
    }

    #[test]
    fn a_beginning_of_a_pong_passes_when_the_stream_ends() {
        let ours = masked(10, &TAG);
        for cut in 1..ours.len() {
            assert_eq!(through(&[&ours[..cut]]), &ours[..cut]);
        }
    }

    #[test]
    fn a_ping_is_a_whole_frame() {
        let mut frames = Frames::default();
        let frame = ping_frame(TAG);
        assert_eq!(frames.next_frame(&frame), frame.len());
        assert!(frames.at_boundary());
    }

    proptest! {
        /// However the stream is cut, exactly our pongs are missing.
        #[test]
        fn cuts_change_nothing(
            kinds in proptest::collection::vec((0u8..4, proptest::collection::vec(any::<u8>(), 0..20)), 1..8),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            for (kind, payload) in &kinds {
                let frame = match kind {
                    0 => masked(10, &TAG),
                    1 => masked(10, payload),
                    2 => masked(1, payload),
                    _ => masked(10, &[&TAG[..7], &payload[..payload.len().min(1)]].concat()),
                };
                stream.extend_from_slice(&frame);
                if frame != masked(10, &TAG) {
                    expected.extend_from_slice(&frame);
                }
            }
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let parts: Vec<&[u8]> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(through(&parts), expected);
        }

        #[test]
        fn no_bytes_panic_and_none_is_made_up(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(through(&[&bytes]).len() <= bytes.len());
        }
    }
}
