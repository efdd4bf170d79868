//! Pure: budgets of one HTTP/2 connection for frames that cost the edge work and bring nobody anything.
//!
//! Each kind has a token bucket, generous enough for a browser that loads, cancels and reloads a page of a hundred
//! streams; they scale together with the listener's `limits.resets`. A stream that this side has to reset costs the same
//! as one that the client resets ("MadeYouReset", CVE-2025-8671), from the same bucket. The first frame beyond a budget
//! is the end of the connection. Decides nothing about single requests.

use std::time::Instant;

use crate::wire::h2_frames::{END_HEADERS, END_STREAM, FrameHead, Frames, HEADER_BYTES, PADDED, kind};

/// The client's preface, before its first frame (RFC 9113 section 3.4).
const PREFACE_BYTES: usize = 24;
/// CONTINUATION frames of one header block. The largest head fills eight frames.
const CONTINUATIONS_MAX: u32 = 16;
/// The budgets below are for this value of the setting.
const PER: u64 = 100;
/// Tokens that may be saved up by requests and answers: a client may answer a whole window of data at once.
const SAVED_MAX: u64 = 20_000;
/// A DATA frame of this length earns window updates; shorter ones are how a client with a window of one byte makes
/// this side work.
const EARNING_BYTES: usize = 512;
/// RFC 9113 section 7.
const ENHANCE_YOUR_CALM: u8 = 0xb;
/// Tokens are counted in thousandths: what a rate per second gives in a millisecond.
const ONE: u64 = 1000;

/// What a client floods with; ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    /// RST_STREAM frames.
    Reset,
    /// Frames that make this side reset streams.
    ResetSent,
    /// SETTINGS frames.
    Settings,
    /// PING frames.
    Ping,
    /// PRIORITY and PRIORITY_UPDATE frames.
    Priority,
    /// WINDOW_UPDATE frames beyond what was sent to the client.
    WindowUpdate,
    /// CONTINUATION frames in one header block.
    Continuation,
    /// Frames without content: DATA that ends nothing, parts of a header block.
    Empty,
    /// Frames of types that say nothing here.
    Unknown,
    /// The codec has ended the connection for bounds of its own, such as streams that were reset before they were looked
    /// at.
    Codec,
}

impl Flood {
    /// Label of the metric.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Flood::Reset => "reset",
            Flood::ResetSent => "reset_sent",
            Flood::Settings => "settings",
            Flood::Ping => "ping",
            Flood::Priority => "priority",
            Flood::WindowUpdate => "window_update",
            Flood::Continuation => "continuation",
            Flood::Empty => "empty",
            Flood::Unknown => "unknown",
            Flood::Codec => "codec",
        }
    }

    /// The bucket it is taken from, how much that holds, and what it regains each second.
    fn budget(self) -> (usize, u64, u64) {
        match self {
            Flood::Reset | Flood::ResetSent => (0, 100, 50),
            Flood::Settings => (1, 20, 2),
            Flood::Ping => (2, 100, 50),
            Flood::Priority => (3, 200, 100),
            Flood::WindowUpdate => (4, 400, 100),
            Flood::Empty => (5, 100, 50),
            Flood::Unknown => (6, 100, 50),
            // Without a bucket.
            Flood::Continuation | Flood::Codec => (BUCKETS, 0, 0),
        }
    }
}

const BUCKETS: usize = 7;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Thousandths of a token.
    level: u64,
    /// When the level was right, in milliseconds of the connection's life.
    at: u64,
}

/// The budgets of one connection.
#[derive(Debug)]
pub(crate) struct H2Guard {
    began: Instant,
    scale: u64,
    received: Frames,
    sent: Frames,
    buckets: [Option<Bucket>; BUCKETS],
    continuations: u32,
    last_stream: u32,
    goodbye_said: bool,
}

impl H2Guard {
    /// `resets`: how many streams may have been reset at once.
    pub(crate) fn new(resets: u32, now: Instant) -> Self {
        Self {
            began: now,
            scale: u64::from(resets),
            received: Frames::after(PREFACE_BYTES),
            sent: Frames::default(),
            buckets: [None; BUCKETS],
            continuations: 0,
            last_stream: 0,
            goodbye_said: false,
        }
    }

    /// Counts what the client sent, the preface included.
    ///
    /// # Errors
    /// A budget is spent; nothing of these bytes may be acted on.
    pub(crate) fn received(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        let at = self.age(now);
        let mut last_stream = self.last_stream;
        while let Some(frame) = self.received.next(&mut bytes) {
            if frame.kind == kind::HEADERS {
                last_stream = last_stream.max(frame.stream);
            }
            self.judge(frame, at)?;
        }
        // Streams of refused bytes were not processed: the farewell does not name them.
        self.last_stream = last_stream;
        Ok(())
    }

    /// Counts what goes to the client.
    ///
    /// # Errors
    /// A budget is spent, or the codec says that one of its own is.
    pub(crate) fn sent(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        let at = self.age(now);
        let mut flood = Ok(());
        while let Some(frame) = self.sent.next(&mut bytes) {
            match frame.kind {
                kind::RST_STREAM => flood = flood.and(self.charge(Flood::ResetSent, at)),
                kind::DATA if frame.length >= EARNING_BYTES || frame.has(END_STREAM) => {
                    self.earn(Flood::WindowUpdate, 2);
                }
                // The codec writes its frames whole; in a part of one the reason is not looked for.
                kind::GOAWAY if bytes.get(4..8) == Some(&[0, 0, 0, ENHANCE_YOUR_CALM]) => {
                    self.goodbye_said = true;
                    flood = flood.and(Err(Flood::Codec));
                }
                _ => {}
            }
        }
        flood
    }

    /// Returns a GOAWAY frame that says why, unless it was sent already or would land inside another frame.
    pub(crate) fn farewell(&self) -> Option<[u8; HEADER_BYTES + 8]> {
        let [s0, s1, s2, s3] = self.last_stream.to_be_bytes();
        let frame = [0, 0, 8, kind::GOAWAY, 0, 0, 0, 0, 0, s0, s1, s2, s3, 0, 0, 0, ENHANCE_YOUR_CALM];
        (self.sent.is_between() && !self.goodbye_said).then_some(frame)
    }

    fn age(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    fn judge(&mut self, frame: FrameHead, at: u64) -> Result<(), Flood> {
        match frame.kind {
            kind::DATA => {
                // One byte of a padded frame is the length of its padding.
                let bytes = frame.length - usize::from(frame.has(PADDED)).min(frame.length);
                if bytes == 0 && !frame.has(END_STREAM) { self.charge(Flood::Empty, at) } else { Ok(()) }
            }
            kind::HEADERS => {
                self.continuations = 0;
                // A client may widen the window of every stream that it opens, and say how urgent it is.
                self.earn(Flood::WindowUpdate, 1);
                self.earn(Flood::Priority, 1);
                if frame.length == 0 && !frame.has(END_HEADERS) {
                    self.charge(Flood::Empty, at)
                } else {
                    Ok(())
                }
            }
            kind::CONTINUATION => {
                self.continuations += 1;
                if self.continuations > CONTINUATIONS_MAX { Err(Flood::Continuation) } else { Ok(()) }
            }
            kind::PRIORITY | kind::PRIORITY_UPDATE => self.charge(Flood::Priority, at),
            kind::RST_STREAM => self.charge(Flood::Reset, at),
            kind::SETTINGS => self.charge(Flood::Settings, at),
            kind::PING => self.charge(Flood::Ping, at),
            kind::WINDOW_UPDATE => self.charge(Flood::WindowUpdate, at),
            _ => self.charge(Flood::Unknown, at),
        }
    }

    /// Takes one token.
    fn charge(&mut self, flood: Flood, at: u64) -> Result<(), Flood> {
        let (index, burst, rate) = flood.budget();
        let full = burst * self.scale * ONE / PER;
        let Some(bucket) = self.buckets.get_mut(index) else { return Err(flood) };
        let bucket = bucket.get_or_insert(Bucket { level: full, at });
        if bucket.level < full {
            let regained = at.saturating_sub(bucket.at).saturating_mul(rate * self.scale) / PER;
            bucket.level = bucket.level.saturating_add(regained).min(full);
        }
        bucket.at = at;
        bucket.level = bucket.level.checked_sub(ONE).ok_or(flood)?;
        Ok(())
    }

    /// Gives tokens, also beyond what the bucket holds by itself.
    fn earn(&mut self, flood: Flood, tokens: u64) {
        let (index, burst, _) = flood.budget();
        let full = burst * self.scale * ONE / PER;
        if let Some(bucket) = self.buckets.get_mut(index) {
            let bucket = bucket.get_or_insert(Bucket { level: full, at: 0 });
            bucket.level = (bucket.level + tokens * ONE).min(full + SAVED_MAX * ONE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn start() -> Instant {
        crate::clock::now()
    }

    fn guard(now: Instant) -> H2Guard {
        let mut guard = H2Guard::new(100, now);
        guard.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", now).unwrap();
        guard
    }

    fn frame(length: u16, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
        let [l1, l2] = length.to_be_bytes();
        let mut bytes = vec![0, l1, l2, kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.resize(bytes.len() + usize::from(length), 0);
        bytes
    }

    /// How many such frames pass at once, and what then ends the connection.
    fn passes(bytes: &[u8], ours: bool) -> (u32, Flood) {
        let now = start();
        let mut guard = guard(now);
        for n in 0..100_000 {
            let result = if ours { guard.sent(bytes, now) } else { guard.received(bytes, now) };
            if let Err(flood) = result {
                return (n, flood);
            }
        }
        panic!("no flood in 100 000 frames");
    }

    #[test]
    fn each_kind_has_its_budget() {
        for (bytes, ours, expected) in [
            (frame(4, kind::RST_STREAM, 0, 1), false, (100, Flood::Reset)),
            (frame(4, kind::RST_STREAM, 0, 1), true, (100, Flood::ResetSent)),
            (frame(0, kind::SETTINGS, 0, 0), false, (20, Flood::Settings)),
            (frame(8, kind::PING, 0, 0), false, (100, Flood::Ping)),
            (frame(8, kind::PING, 1, 0), false, (100, Flood::Ping)),
            (frame(5, kind::PRIORITY, 0, 3), false, (200, Flood::Priority)),
            (frame(5, kind::PRIORITY_UPDATE, 0, 0), false, (200, Flood::Priority)),
            (frame(4, kind::WINDOW_UPDATE, 0, 0), false, (400, Flood::WindowUpdate)),
            (frame(0, kind::DATA, 0, 1), false, (100, Flood::Empty)),
            (frame(1, kind::DATA, PADDED, 1), false, (100, Flood::Empty)),
            (frame(0, kind::HEADERS, 0, 1), false, (100, Flood::Empty)),
            (frame(2, kind::CONTINUATION, 0, 1), false, (16, Flood::Continuation)),
            (frame(3, 0xbb, 0, 0), false, (100, Flood::Unknown)),
            (frame(8, kind::GOAWAY, 0, 0), false, (100, Flood::Unknown)),
        ] {
            assert_eq!(passes(&bytes, ours), expected, "{bytes:?}");
        }
    }

    #[test]
    fn resets_of_both_sides_are_one_budget() {
        let now = start();
        let mut guard = guard(now);
        let reset = frame(4, kind::RST_STREAM, 0, 1);
        for _ in 0..50 {
            guard.received(&reset, now).unwrap();
            guard.sent(&reset, now).unwrap();
        }
        assert_eq!(guard.sent(&reset, now), Err(Flood::ResetSent));
        assert_eq!(guard.received(&reset, now), Err(Flood::Reset));
        assert_eq!(guard.received(&reset, now + Duration::from_millis(20)), Ok(()), "50 a second come back");
    }

    #[test]
    fn the_setting_scales_every_budget() {
        let now = start();
        let mut guard = H2Guard::new(1000, now);
        guard.received(&[0; PREFACE_BYTES], now).unwrap();
        for _ in 0..200 {
            guard.received(&frame(0, kind::SETTINGS, 0, 0), now).unwrap();
        }
        assert!(guard.received(&frame(0, kind::SETTINGS, 0, 0), now).is_err());
    }

    #[test]
    fn a_busy_browser_never_reaches_a_budget() {
        let mut now = start();
        let mut guard = guard(now);
        guard.received(&frame(18, kind::SETTINGS, 0, 0), now).unwrap();
        let mut stream = 1;
        // A page of 100 streams, abandoned and loaded again every two seconds, for ten minutes.
        for _ in 0..300 {
            for _ in 0..100 {
                let mut bytes = frame(200, kind::HEADERS, END_HEADERS | END_STREAM, stream);
                bytes.extend(frame(4, kind::WINDOW_UPDATE, 0, stream));
                bytes.extend(frame(4, kind::PRIORITY_UPDATE, 0, 0));
                guard.received(&bytes, now).unwrap();
                stream += 2;
            }
            for _ in 0..1000 {
                guard.sent(&frame(16_384, kind::DATA, 0, 1), now).unwrap();
            }
            for _ in 0..2000 {
                guard.received(&frame(4, kind::WINDOW_UPDATE, 0, 1), now).unwrap();
            }
            for _ in 0..100 {
                guard.received(&frame(4, kind::RST_STREAM, 0, 1), now).unwrap();
            }
            guard.received(&frame(8, kind::PING, 0, 0), now).unwrap();
            now += Duration::from_secs(2);
        }
        // An upload, the largest head, and trailers.
        for _ in 0..100_000 {
            guard.received(&frame(1, kind::DATA, 0, stream), now).unwrap();
        }
        for _ in 0..8 {
            guard.received(&frame(16_384, kind::CONTINUATION, 0, stream), now).unwrap();
        }
        guard.received(&frame(0, kind::DATA, END_STREAM, stream), now).unwrap();
    }

    #[test]
    fn the_codecs_own_farewell_is_a_flood_and_said_once() {
        let now = start();
        let mut guard = guard(now);
        let goaway = |code: u8| {
            let mut bytes = frame(8, kind::GOAWAY, 0, 0);
            bytes[16] = code;
            bytes
        };
        assert_eq!(guard.sent(&goaway(0), now), Ok(()), "a shutdown is none");
        assert!(guard.farewell().is_some());
        assert_eq!(guard.sent(&goaway(ENHANCE_YOUR_CALM), now), Err(Flood::Codec));
        assert_eq!(guard.farewell(), None);
    }

    #[test]
    fn a_window_of_one_byte_earns_nothing() {
        let now = start();
        let mut guard = guard(now);
        let mut updates = 0;
        while guard.received(&frame(4, kind::WINDOW_UPDATE, 0, 1), now).is_ok() {
            guard.sent(&frame(1, kind::DATA, 0, 1), now).unwrap();
            updates += 1;
        }
        assert_eq!(updates, 400);
    }

    #[test]
    fn the_farewell_names_the_last_stream_that_was_taken() {
        let now = start();
        let mut guard = guard(now);
        guard.received(&frame(3, kind::HEADERS, END_HEADERS, 7), now).unwrap();
        let mut flood = frame(3, kind::HEADERS, END_HEADERS, 9);
        for _ in 0..101 {
            flood.extend(frame(4, kind::RST_STREAM, 0, 9));
        }
        assert_eq!(guard.received(&flood, now), Err(Flood::Reset));
        let farewell = guard.farewell().unwrap();
        assert_eq!(farewell, [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0xb]);
        guard.sent(&frame(4, kind::DATA, 0, 7)[..11], now).unwrap();
        assert_eq!(guard.farewell(), None, "a frame is under way");
    }
}
