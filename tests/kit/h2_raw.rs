//! HTTP/2 by hand: frames and header blocks as a test spells them, right or wrong.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::edge_rig::{DEADLINE, Rig};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

pub(crate) const ENHANCE_YOUR_CALM: u32 = 0xb;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Writes one frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Writes a header block: every field literally, nothing indexed (RFC 7541 section 6.2.2).
pub(crate) fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        string(&mut bytes, name.as_ref());
        string(&mut bytes, value.as_ref());
    }
    bytes
}

fn string(bytes: &mut Vec<u8>, text: &[u8]) {
    // RFC 7541 section 5.1, with a prefix of seven bits.
    if let Some(small) = u8::try_from(text.len()).ok().filter(|n| *n < 127) {
        bytes.push(small);
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).unwrap());
    }
    bytes.extend(text);
}

/// A frame that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Status of an answer that is the first on its connection.
    pub(crate) fn status(&self) -> Option<u16> {
        if self.kind != HEADERS {
            return None;
        }
        match *self.payload.as_slice() {
            // RFC 7541 appendix A.
            [indexed @ 0x88..=0x8e, ..] => {
                Some([200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)])
            }
            [0x08 | 0x18 | 0x48, length, ref rest @ ..] => {
                let text = rest.get(..usize::from(length & 0x7f))?;
                if length & 0x80 == 0 {
                    return std::str::from_utf8(text).ok()?.parse().ok();
                }
                Some(huffman_digits(text))
            }
            _ => None,
        }
    }

    /// Error code of RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> Option<u32> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }
}

/// Three digits in the code of RFC 7541 appendix B.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0u16, |n, bit| n << 1 | u16::from(*bit));
    let (mut at, mut value) = (0, 0);
    for _ in 0..3 {
        let short = number(&bits[at..at + 5]);
        let digit = if short < 3 {
            at += 5;
            short
        } else {
            at += 6;
            number(&bits[at - 6..at]) - 0b01_1001 + 3
        };
        value = value * 10 + digit;
    }
    value
}

/// A client connection that does nothing by itself.
pub(crate) struct RawHttp2 {
    stream: TlsStream<TcpStream>,
    received: Vec<u8>,
}

impl RawHttp2 {
    /// Connects; sends the preface and empty settings.
    pub(crate) async fn open(rig: &Rig) -> Self {
        let mut client = Self { stream: rig.tls("h2").await, received: Vec::new() };
        client.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        client
    }

    /// Sends bytes; whether they arrive is the edge's decision.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = tokio::time::timeout(DEADLINE, self.stream.write_all(bytes)).await;
        let _ = self.stream.flush().await;
    }

    /// The next frame; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let read = async {
            loop {
                if let [l0, l1, l2, kind, flags, s0, s1, s2, s3, rest @ ..] = &*self.received {
                    let length = usize::from(*l0) << 16 | usize::from(*l1) << 8 | usize::from(*l2);
                    if let Some(payload) = rest.get(..length) {
                        let frame = Frame {
                            kind: *kind,
                            flags: *flags,
                            stream: u32::from_be_bytes([*s0, *s1, *s2, *s3]),
                            payload: payload.to_vec(),
                        };
                        self.received.drain(..9 + length);
                        return Some(frame);
                    }
                }
                if !matches!(self.stream.read_buf(&mut self.received).await, Ok(n) if n > 0) {
                    return None;
                }
            }
        };
        tokio::time::timeout(DEADLINE, read).await.expect("a frame, or the end, within the deadline")
    }

    /// Reads until a frame satisfies `holds`; `None` when the connection ends before.
    pub(crate) async fn find(&mut self, holds: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if holds(&frame) {
                return Some(frame);
            }
        }
    }

    /// Reads all that comes until the connection ends.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }
}
