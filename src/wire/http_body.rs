//! Pure: the chunked transfer coding (RFC 9112 section 7.1), followed strictly.
//!
//! Used to know where a body ends and to take the chunks' framing away. Like the head check it knows one reading
//! only: bare LF, white space around a size and sizes beyond 60 bits are errors.

use std::ops::Range;

/// Largest chunk extension, in bytes of its line.
const LINE_MAX: usize = 256;
/// Largest trailer section.
const TRAILER_MAX: usize = 8 * 1024;

/// Follows a chunked body. `Done` after the trailer section's empty line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    state: State,
}

/// The bytes are not a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed chunked body")]
pub struct BadChunk;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the size line: value so far, digits so far.
    Size { value: u64, digits: u8 },
    /// In a chunk extension: value of the size, bytes so far.
    Extension { value: u64, bytes: usize },
    /// After the CR of the size line.
    SizeLf { value: u64 },
    /// In the data.
    Data { left: u64 },
    /// Before the CR that follows the data.
    DataCr,
    /// Before the LF that follows the data.
    DataLf,
    /// At the start of a trailer line: bytes of the section so far.
    TrailerStart { bytes: usize },
    /// In a trailer line.
    Trailer { bytes: usize },
    /// After the CR of a trailer line.
    TrailerLf { bytes: usize },
    /// After the CR of the last line.
    LastLf,
    /// Over.
    Done,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { state: State::Size { value: 0, digits: 0 } }
    }
}

impl Chunks {
    /// Tells whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes bytes up to the end of the next run of data, of `bytes`, or of the body.
    ///
    /// Returns how many bytes were taken and which of them are data; takes none after the end.
    ///
    /// # Errors
    /// The bytes are not a chunked body; nothing after them can be trusted.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<(usize, Range<usize>), BadChunk> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let State::Data { left } = self.state {
                let room = bytes.len() - at;
                let run = usize::try_from(left).map_or(room, |left| left.min(room));
                let left = left - run as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                return Ok((at + run, at..at + run));
            }
            if self.state == State::Done {
                break;
            }
            self.state = self.step(byte)?;
            at += 1;
        }
        Ok((at, at..at))
    }

    fn step(&self, byte: u8) -> Result<State, BadChunk> {
        Ok(match (self.state, byte) {
            (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == 15 {
                    return Err(BadChunk);
                }
                let digit = (byte as char).to_digit(16).ok_or(BadChunk)?;
                State::Size { value: value * 16 + u64::from(digit), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(BadChunk),
            (State::Size { value, .. }, b'\r') => State::SizeLf { value },
            (State::Size { value, .. }, b';') => State::Extension { value, bytes: 1 },
            (State::Extension { value, .. }, b'\r') => State::SizeLf { value },
            (State::Extension { value, bytes }, _) if bytes < LINE_MAX && is_text(byte) => {
                State::Extension { value, bytes: bytes + 1 }
            }
            (State::SizeLf { value: 0 }, b'\n') => State::TrailerStart { bytes: 0 },
            (State::SizeLf { value }, b'\n') => State::Data { left: value },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { value: 0, digits: 0 },
            (State::TrailerStart { .. }, b'\r') => State::LastLf,
            (State::TrailerStart { .. }, b' ' | b'\t') => return Err(BadChunk),
            (State::Trailer { bytes }, b'\r') => State::TrailerLf { bytes },
            (State::TrailerStart { bytes } | State::Trailer { bytes }, _)
                if bytes < TRAILER_MAX && is_text(byte) =>
            {
                State::Trailer { bytes: bytes + 1 }
            }
            (State::TrailerLf { bytes }, b'\n') => State::TrailerStart { bytes },
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(BadChunk),
        })
    }
}

fn is_text(byte: u8) -> bool {
    (byte >= 0x20 && byte != 0x7f) || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(mut bytes: &[u8]) -> Result<(Vec<u8>, bool, usize), BadChunk> {
        let (mut chunks, mut data, all) = (Chunks::default(), Vec::new(), bytes.len());
        while !bytes.is_empty() && !chunks.is_done() {
            let (taken, range) = chunks.advance(bytes)?;
            data.extend_from_slice(&bytes[range]);
            bytes = &bytes[taken..];
        }
        Ok((data, chunks.is_done(), all - bytes.len()))
    }

    #[test]
    fn bodies_end_where_they_end() {
        for (input, data, taken) in [
            ("0\r\n\r\nGET /", "", 5),
            ("3\r\nabc\r\n0\r\n\r\nGET", "abc", 13),
            ("A;x=\"y\"\r\n0123456789\r\n0\r\nT: 1\r\nU: 2\r\n\r\n", "0123456789", 40),
        ] {
            let (got, done, n) = decode(input.as_bytes()).unwrap();
            assert_eq!(
                (got.as_slice(), done, n),
                (data.as_bytes(), true, taken.min(input.len())),
                "{input:?}"
            );
        }
    }

    #[test]
    fn second_readings_are_errors() {
        for input in [
            "\r\n",
            "3\nabc",
            " 3\r\nabc\r\n",
            "3 \r\nabc\r\n",
            "0x3\r\n",
            "+3\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n0",
            "1000000000000000\r\n",
            "0\r\n\n",
            "0\r\n folded\r\n\r\n",
            "3;a\nb\r\n",
            "0\r\nT: \0\r\n\r\n",
            "-1\r\n",
        ] {
            assert_eq!(decode(input.as_bytes()), Err(BadChunk), "{input:?}");
        }
        let long = format!("1;{}\r\n", "x".repeat(LINE_MAX));
        assert_eq!(decode(long.as_bytes()), Err(BadChunk));
        let trailers = format!("0\r\n{}", "T: 1\r\n".repeat(TRAILER_MAX));
        assert_eq!(decode(trailers.as_bytes()), Err(BadChunk));
    }

    proptest! {
        #[test]
        fn what_is_chunked_comes_back(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..6), tail in ".{0,8}") {
            let mut wire = Vec::new();
            for part in &parts {
                wire.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                wire.extend_from_slice(part);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let whole = wire.len();
            wire.extend_from_slice(tail.as_bytes());
            let (data, done, taken) = decode(&wire).unwrap();
            prop_assert_eq!(data, parts.concat());
            prop_assert!(done);
            prop_assert_eq!(taken, whole);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = decode(&bytes);
        }
    }
}
