//! Pure: where WebSocket frames begin and end (RFC 6455 section 5.2), and close frames.
//! Pings of our own and their pongs are in [`super::ws_ping`].
//!
//! Nothing is buffered and no payload is looked at: the tracker counts, so that a close frame can be put between two
//! frames of somebody else's stream.

/// Follows the frames of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    state: State,
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Between two frames.
    #[default]
    Boundary,
    /// The opcode was read; the second byte comes next.
    Length { opcode: u8 },
    /// Bytes of an extended length, then of the mask, then the payload.
    Extended { opcode: u8, left: u8, value: u64, mask: bool },
    /// Bytes of the masking key.
    Mask { opcode: u8, left: u8, length: u64 },
    /// Bytes of the payload.
    Payload { opcode: u8, left: u64 },
    /// A length with its highest bit set: the stream cannot be followed any more.
    Lost,
}

impl Frames {
    /// Tells whether a frame may be put in now. Control frames may stand between the fragments of a message
    /// (RFC 6455 section 5.4).
    pub fn at_boundary(&self) -> bool {
        self.state == State::Boundary
    }

    /// Tells whether a whole close frame has passed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Follows bytes that pass.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.step(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Follows bytes up to the end of the frame that is under way, and returns how many those are; 0 at a boundary.
    pub fn finish_frame(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.at_boundary() {
            at += self.step(bytes.get(at..).unwrap_or_default());
        }
        at
    }

    /// Follows bytes up to the end of a frame: of the one under way, or of the one that begins with them.
    pub fn next_frame(&mut self, bytes: &[u8]) -> usize {
        let first = self.step(bytes);
        first + self.finish_frame(bytes.get(first..).unwrap_or_default())
    }

    /// Takes at least one byte of `bytes`, or none if there is none.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let Some(&byte) = bytes.first() else { return 0 };
        self.state = match self.state {
            State::Boundary => State::Length { opcode: byte & 0x0f },
            State::Length { opcode } => {
                let mask = byte & 0x80 != 0;
                match byte & 0x7f {
                    126 => State::Extended { opcode, left: 2, value: 0, mask },
                    127 => State::Extended { opcode, left: 8, value: 0, mask },
                    length => self.after_length(opcode, u64::from(length), mask),
                }
            }
            State::Extended { opcode, left, value, mask } => {
                if left == 8 && byte & 0x80 != 0 {
                    State::Lost
                } else {
                    let value = (value << 8) | u64::from(byte);
                    match left - 1 {
                        0 => self.after_length(opcode, value, mask),
                        left => State::Extended { opcode, left, value, mask },
                    }
                }
            }
            State::Mask { opcode, left: 1, length } => self.payload(opcode, length),
            State::Mask { opcode, left, length } => State::Mask { opcode, left: left - 1, length },
            State::Payload { opcode, left } => {
                let run = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.state = self.payload(opcode, left - run as u64);
                return run;
            }
            State::Lost => return bytes.len(),
        };
        1
    }

    fn after_length(&mut self, opcode: u8, length: u64, mask: bool) -> State {
        if mask { State::Mask { opcode, left: 4, length } } else { self.payload(opcode, length) }
    }

    fn payload(&mut self, opcode: u8, left: u64) -> State {
        if left > 0 {
            return State::Payload { opcode, left };
        }
        self.closed |= opcode == OPCODE_CLOSE;
        State::Boundary
    }
}

/// Returns a close frame. `mask` is needed from client to server (RFC 6455 section 5.3).
pub fn close_frame(code: CloseCode, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut payload = code.number().to_be_bytes().to_vec();
    payload.extend_from_slice(code.reason().as_bytes());
    // Every reason is short: one length byte is enough (RFC 6455 section 5.5 allows 125).
    let length = u8::try_from(payload.len()).unwrap_or(125).min(125);
    payload.truncate(usize::from(length));
    let mut frame = vec![0x80 | OPCODE_CLOSE];
    match mask {
        None => frame.push(length),
        Some(mask) => {
            frame.push(0x80 | length);
            frame.extend_from_slice(&mask);
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
    }
    frame.extend_from_slice(&payload);
    frame
}

/// Why a tunnel is closed by this edge (RFC 6455 section 7.4.1, and the registry of its codes), with a reason of at most
/// 123 bytes that the peer may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// 1001: the edge stops, or the tunnel was silent for too long.
    GoingAway(&'static str),
    /// 1008: this client may not be here.
    PolicyViolation(&'static str),
    /// 1012: the room has lost its node or moves; a client that comes again reaches the right one.
    ServiceRestart(&'static str),
    /// 1013: there is no room for this client now.
    TryAgainLater(&'static str),
}

impl CloseCode {
    /// Returns the code that an operator may close tunnels with, by its number on the wire.
    pub fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1001 => Self::GoingAway("edge leaves"),
            1008 => Self::PolicyViolation("not allowed"),
            1012 => Self::ServiceRestart("room moves"),
            1013 => Self::TryAgainLater("full"),
            _ => return None,
        })
    }

    /// The code on the wire.
    pub fn number(self) -> u16 {
        match self {
            Self::GoingAway(_) => 1001,
            Self::PolicyViolation(_) => 1008,
            Self::ServiceRestart(_) => 1012,
            Self::TryAgainLater(_) => 1013,
        }
    }

    /// The reason that goes with it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::GoingAway(reason)
            | Self::PolicyViolation(reason)
            | Self::ServiceRestart(reason)
            | Self::TryAgainLater(reason) => reason,
        }
    }
}

const OPCODE_CLOSE: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(opcode: u8, length: usize, mask: bool) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        let bit = if mask { 0x80 } else { 0 };
        match length {
            0..=125 => frame.push(bit | u8::try_from(length).unwrap()),
            126..=0xffff => {
                frame.push(bit | 126);
                frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(bit | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        if mask {
            frame.extend_from_slice(&[1, 2, 3, 4]);
        }
        frame.resize(frame.len() + length, 0x88);
        frame
    }

    #[test]
    fn boundaries_are_where_frames_end() {
        for length in [0, 1, 125, 126, 0xffff, 0x1_0000] {
            for mask in [false, true] {
                let bytes = frame(2, length, mask);
                let mut frames = Frames::default();
                frames.advance(&bytes[..bytes.len() - 1]);
                assert!(!frames.at_boundary(), "{length} {mask}");
                frames.advance(&bytes[bytes.len() - 1..]);
                assert!(frames.at_boundary() && !frames.is_closed(), "{length} {mask}");
            }
        }
    }

    #[test]
    fn a_close_frame_is_seen_when_it_is_whole() {
        for mask in [None, Some([9, 8, 7, 6])] {
            let bytes = close_frame(CloseCode::GoingAway("edge stops"), mask);
            let mut frames = Frames::default();
            frames.advance(&bytes[..bytes.len() - 1]);
            assert!(!frames.is_closed());
            frames.advance(&bytes[bytes.len() - 1..]);
            assert!(frames.is_closed() && frames.at_boundary());
        }
    }

    #[test]
    fn a_close_frame_carries_its_code() {
        let plain = close_frame(CloseCode::ServiceRestart("node down"), None);
        assert_eq!(plain[..4], [0x88, 11, 0x03, 0xf4]);
        let masked = close_frame(CloseCode::ServiceRestart("node down"), Some([0xff; 4]));
        assert_eq!(masked[..8], [0x88, 0x8b, 0xff, 0xff, 0xff, 0xff, 0xfc, 0x0b]);
    }

    #[test]
    fn the_codes_of_an_operator_are_four() {
        let known: Vec<u16> = (0..=u16::MAX).filter(|n| CloseCode::from_number(*n).is_some()).collect();
        assert_eq!(known, [1001, 1008, 1012, 1013]);
        assert!(known.iter().all(|n| CloseCode::from_number(*n).map(CloseCode::number) == Some(*n)));
    }

    #[test]
    fn an_impossible_length_never_reaches_a_boundary() {
        let mut frames = Frames::default();
        frames.advance(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        frames.advance(&[0; 100]);
        assert!(!frames.at_boundary());
    }

    proptest! {
        #[test]
        fn finishing_a_frame_stops_at_the_next_boundary(lengths in proptest::collection::vec(0usize..300, 1..5), cut in any::<prop::sample::Index>(), mask in any::<bool>()) {
            let frames: Vec<Vec<u8>> = lengths.iter().map(|n| frame(1, *n, mask)).collect();
            let bytes = frames.concat();
            let cut = cut.index(bytes.len());
            let mut tracker = Frames::default();
            tracker.advance(&bytes[..cut]);
            let end = cut + tracker.finish_frame(&bytes[cut..]);
            let ends: Vec<usize> = frames.iter().scan(0, |at, f| { *at += f.len(); Some(*at) }).collect();
            let expected = if cut == 0 { 0 } else { ends.into_iter().find(|e| *e >= cut).unwrap() };
            prop_assert_eq!(end, expected);
            prop_assert!(tracker.at_boundary());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            Frames::default().advance(&bytes);
            Frames::default().finish_frame(&bytes);
        }
    }
}
