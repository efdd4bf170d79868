//! Pure: the frame headers of an HTTP/2 connection (RFC 9113 section 4.1), found in its bytes as they pass.
//!
//! Keeps at most eight bytes of a header that is not whole yet and a count of what is to be skipped; never a payload.
//! It judges nothing: a length that is too large is the codec's business.

/// Length of a frame header.
pub const HEADER_BYTES: usize = 9;

/// Types of frames (RFC 9113 section 6, RFC 9218 section 7.1).
pub mod kind {
    /// Body.
    pub const DATA: u8 = 0x0;
    /// Begins a header block.
    pub const HEADERS: u8 = 0x1;
    /// Order of streams, out of use.
    pub const PRIORITY: u8 = 0x2;
    /// Ends a stream at once.
    pub const RST_STREAM: u8 = 0x3;
    /// Settings, or that they were taken.
    pub const SETTINGS: u8 = 0x4;
    /// Asks for an answer, or is one.
    pub const PING: u8 = 0x6;
    /// No new streams.
    pub const GOAWAY: u8 = 0x7;
    /// More may be sent.
    pub const WINDOW_UPDATE: u8 = 0x8;
    /// Goes on with a header block.
    pub const CONTINUATION: u8 = 0x9;
    /// Order of answers.
    pub const PRIORITY_UPDATE: u8 = 0x10;
}

/// The stream ends with this DATA or HEADERS frame.
pub const END_STREAM: u8 = 0x1;
/// The header block ends with this frame.
pub const END_HEADERS: u8 = 0x4;
/// The payload of this DATA or HEADERS frame is padded.
pub const PADDED: u8 = 0x8;

/// One frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes of payload, at most 2^24 - 1.
    pub length: usize,
    /// One of [`kind`], or unknown.
    pub kind: u8,
    /// Flags; what they mean depends on the type.
    pub flags: u8,
    /// The stream; 0 for the connection.
    pub stream: u32,
}

impl FrameHead {
    /// Reads a header.
    pub fn parse(bytes: [u8; HEADER_BYTES]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2),
            kind,
            flags,
            // RFC 9113 section 4.1: the first bit means nothing.
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }

    /// Tells whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Follows one direction of a connection.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    header: [u8; HEADER_BYTES],
    have: usize,
    skip: usize,
}

impl Frames {
    /// Follows bytes whose first frame comes after `skip` others, such as the client's preface.
    pub fn after(skip: usize) -> Self {
        Self { skip, ..Self::default() }
    }

    /// Takes bytes up to the end of the next frame header and returns it; `None` when all bytes are taken.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<FrameHead> {
        let passed = self.skip.min(bytes.len());
        self.skip -= passed;
        *bytes = bytes.get(passed..).unwrap_or_default();
        while self.have < HEADER_BYTES {
            let (first, rest) = bytes.split_first()?;
            *bytes = rest;
            if let Some(slot) = self.header.get_mut(self.have) {
                *slot = *first;
            }
            self.have += 1;
        }
        let head = FrameHead::parse(self.header);
        self.have = 0;
        self.skip = head.length;
        Some(head)
    }

    /// Tells whether the bytes so far end where a frame ends.
    pub fn is_between(&self) -> bool {
        self.have == 0 && self.skip == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(frames: &mut Frames, mut bytes: &[u8]) -> Vec<FrameHead> {
        std::iter::from_fn(|| frames.next(&mut bytes)).collect()
    }

    fn frame(length: usize, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
        let length_bytes = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = length_bytes[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.resize(bytes.len() + length, 0x55);
        bytes
    }

    #[test]
    fn headers_are_found_behind_payloads() {
        let bytes = [
            b"preface".to_vec(),
            frame(0, kind::SETTINGS, 1, 0),
            frame(70_000, kind::DATA, END_STREAM, 0x8000_0001),
            frame(3, 0xee, 0xff, 7),
        ]
        .concat();
        let mut frames = Frames::after(7);
        let found = all(&mut frames, &bytes);
        assert_eq!(
            found.iter().map(|f| (f.length, f.kind, f.flags, f.stream)).collect::<Vec<_>>(),
            [(0, 4, 1, 0), (70_000, 0, 1, 1), (3, 0xee, 0xff, 7)]
        );
        assert!(frames.is_between());
        assert!(found[1].has(END_STREAM) && !found[1].has(PADDED));
    }

    #[test]
    fn a_frame_that_has_begun_is_no_boundary() {
        let mut frames = Frames::default();
        assert!(frames.is_between());
        for byte in &frame(2, kind::PING, 0, 0)[..10] {
            assert!(all(&mut frames, &[*byte]).len() <= 1);
            assert!(!frames.is_between());
        }
        assert!(all(&mut frames, &[0]).is_empty() && frames.is_between());
    }

    proptest! {
        #[test]
        fn any_split_finds_the_same(
            sizes in prop::collection::vec((0usize..40, any::<u8>(), any::<u8>(), any::<u32>()), 0..20),
            cuts in prop::collection::vec(1usize..30, 0..60),
            tail in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut bytes: Vec<u8> = sizes.iter().flat_map(|(n, k, f, s)| frame(*n, *k, *f, *s)).collect();
            bytes.extend(&tail);
            let whole = all(&mut Frames::default(), &bytes);
            prop_assert_eq!(&whole[..sizes.len()], &sizes.iter().map(|(length, kind, flags, stream)| FrameHead {
                length: *length, kind: *kind, flags: *flags, stream: *stream & 0x7fff_ffff,
            }).collect::<Vec<_>>()[..]);
            let (mut frames, mut rest, mut pieces) = (Frames::default(), &bytes[..], Vec::new());
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                pieces.extend(all(&mut frames, now));
                rest = later;
            }
            pieces.extend(all(&mut frames, rest));
            prop_assert_eq!(pieces, whole);
        }

        #[test]
        fn any_bytes_are_followed(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let whole = all(&mut Frames::default(), &bytes);
            let mut frames = Frames::default();
            let single: Vec<_> = bytes.iter().flat_map(|byte| all(&mut frames, &[*byte])).collect();
            prop_assert_eq!(single, whole);
        }
    }
}
