//! What becomes of one packet for one receiver: dropped, or forwarded as part of one continuous stream.
//!
//! Pure: one [`Rewriter`] a slot. A slot has one SSRC for its whole life while the streams behind it change: another
//! participant, another simulcast layer, a sender that began anew. The receiver sees sequence numbers, timestamps and
//! VP8 picture ids that go on; holes that the network made stay holes, so that a late repair still fits. A switch to
//! another video stream happens on a keyframe only; until then packets of the new stream are dropped.
//!
//! RFC 3550 section 5.1 (sequence number, timestamp); RFC 7741 section 4.2 (PictureID, TL0PICIDX, KEYIDX).

use std::time::{Duration, Instant};

use str0m::rtp::{Vp8Descriptor, Vp8Patch};

use super::codec::{Codec, PayloadView};

/// Names one incoming RTP stream: a source and the SSRC that it comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamKey {
    /// The source's number on this worker; never used twice.
    pub(super) source: u64,
    /// The SSRC of the layer.
    pub(super) ssrc: u32,
}

/// One packet as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    /// Which stream it belongs to.
    pub(super) stream: StreamKey,
    /// Whether this is the layer that receivers are to be given.
    pub(super) wanted: bool,
    /// Extended sequence number.
    pub(super) seq: u64,
    /// RTP timestamp.
    pub(super) time: u32,
    /// Its codec.
    pub(super) codec: Codec,
    /// What its payload says.
    pub(super) view: PayloadView,
    /// When it came.
    pub(super) now: Instant,
}

/// What the packet carries towards the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    /// Extended sequence number, below 65 536 for the first packet of the slot's life.
    pub(super) seq: u64,
    /// RTP timestamp.
    pub(super) time: u32,
    /// Changes to the VP8 payload descriptor.
    pub(super) patch: Option<Vp8Patch>,
}

/// What becomes of the packet.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send it as told.
    Forward(Outgoing),
    /// The slot waits for a keyframe of this stream: ask for one.
    AwaitKeyframe,
    /// It is from another layer, or older than the switch.
    Drop,
}

/// Makes one continuous stream of many.
#[derive(Clone, Debug)]
pub(super) struct Rewriter {
    current: Option<Current>,
    // The highest that was sent; `seq` is the next to use before the first packet.
    seq: u64,
    time: u32,
    sent: Option<Instant>,
    picture: Picture,
}

/// How the stream that runs now maps to the outgoing one.
#[derive(Clone, Copy, Debug)]
struct Current {
    stream: StreamKey,
    // The incoming sequence number that the switch happened on, and what it became.
    first_in: u64,
    first_out: u64,
    highest_in: u64,
    time_offset: u32,
    picture: Picture,
}

/// VP8 values: as last sent (in `Rewriter`), or the offset from incoming to outgoing (in `Current`).
#[derive(Clone, Copy, Debug, Default)]
struct Picture {
    id: u16,
    tl0: u8,
    key: u8,
}

impl Rewriter {
    /// Creates one for a new slot. `seq` and `time` are where its stream begins (RFC 3550 section 5.1: random).
    pub(super) fn new(seq: u16, time: u32) -> Self {
        // The upper half is left free: a receiver that joins late must not see a wrap at once (RFC 3711 section 3.3.1).
        let seq = u64::from(seq & 0x7fff);
        Self { current: None, seq, time, sent: None, picture: Picture::default() }
    }

    /// Forgets the stream that runs now, because the slot points elsewhere. What was sent stays known.
    pub(super) fn stop(&mut self) {
        self.current = None;
    }

    /// Decides about one packet.
    pub(super) fn rewrite(&mut self, packet: &Incoming) -> Verdict {
        let mut current = match self.current {
            Some(current) if current.stream == packet.stream && current.is_stale(packet.seq) => {
                return Verdict::Drop;
            }
            Some(current) if current.stream == packet.stream && current.goes_on(packet.seq) => current,
            Some(_) | None if !packet.wanted => return Verdict::Drop,
            Some(_) | None if packet.codec.needs_keyframe() && !packet.view.keyframe => {
                return Verdict::AwaitKeyframe;
            }
            Some(_) | None => self.switch(packet),
        };
        current.highest_in = current.highest_in.max(packet.seq);
        let seq = current.first_out + (packet.seq - current.first_in);
        let time = packet.time.wrapping_add(current.time_offset);
        let patch = match packet.view.vp8 {
            Some(descriptor) => self.patch(&current, &descriptor, seq),
            None => None,
        };
        self.current = Some(current);
        if self.sent.is_none() || seq > self.seq {
            self.seq = seq;
            self.time = time;
            self.sent = Some(packet.now);
        }
        Verdict::Forward(Outgoing { seq, time, patch })
    }

    /// Begins to map a new stream behind what was sent.
    fn switch(&self, packet: &Incoming) -> Current {
        let view = packet.view.vp8;
        let id = view.and_then(|v| v.picture_id()).unwrap_or_default();
        let tl0 = view.and_then(|v| v.tl0_pic_idx()).unwrap_or_default();
        let key = view.and_then(|v| v.key_idx()).unwrap_or_default();
        let (first_out, time) = match self.sent {
            Some(sent) => {
                (self.seq + 1, self.time.wrapping_add(ticks(packet.now.duration_since(sent), packet.codec)))
            }
            None => (self.seq, self.time),
        };
        Current {
            stream: packet.stream,
            first_in: packet.seq,
            first_out,
            highest_in: packet.seq,
            time_offset: time.wrapping_sub(packet.time),
            picture: Picture {
                id: self.picture.id.wrapping_add(1).wrapping_sub(id),
                tl0: self.picture.tl0.wrapping_add(1).wrapping_sub(tl0),
                key: self.picture.key.wrapping_add(1).wrapping_sub(key),
            },
        }
    }

    /// Makes the picture ids of one packet go on from those that were sent.
    fn patch(&mut self, current: &Current, descriptor: &Vp8Descriptor, seq: u64) -> Option<Vp8Patch> {
        let newest = self.sent.is_none() || seq > self.seq;
        let mut patch = descriptor.patch();
        let mut any = false;
        if let Some(id) = descriptor.picture_id() {
            let out = id.wrapping_add(current.picture.id) & 0x7fff;
            // A descriptor with a 7-bit id has no room for more.
            let fits = descriptor.patch().picture_id(out).build().is_ok();
            patch = patch.picture_id(if fits { out } else { out & 0x7f });
            any = true;
            if newest {
                self.picture.id = out;
            }
        }
        if let Some(tl0) = descriptor.tl0_pic_idx() {
            let out = tl0.wrapping_add(current.picture.tl0);
            patch = patch.tl0_pic_idx(out);
            any = true;
            if newest {
                self.picture.tl0 = out;
            }
        }
        if let Some(key) = descriptor.key_idx() {
            let out = key.wrapping_add(current.picture.key) & 0x1f;
            patch = patch.key_idx(out);
            any = true;
            if newest {
                self.picture.key = out;
            }
        }
        if any { patch.build().ok() } else { None }
    }
}

impl Current {
    /// Returns whether a packet is from before the switch, or too old to be of use.
    fn is_stale(&self, seq: u64) -> bool {
        seq < self.first_in || seq + JUMP_MAX < self.highest_in
    }

    /// Returns whether a sequence number goes on with the stream. After a jump, a receiver could not tell how often
    /// the 16-bit number wrapped (RFC 3711 section 3.3.1), so the stream is taken for a new one.
    fn goes_on(&self, seq: u64) -> bool {
        seq <= self.highest_in + JUMP_MAX
    }
}

/// Returns how far the RTP clock runs in `pause`; at least one video frame at 30 per second, at most an hour.
fn ticks(pause: Duration, codec: Codec) -> u32 {
    let least = codec.clock() / 30;
    let pause = pause.min(Duration::from_secs(3600));
    let ticks = pause.as_millis() * u128::from(codec.clock()) / 1000;
    u32::try_from(ticks).unwrap_or(u32::MAX).max(least)
}

/// Largest step of sequence numbers within one stream.
const JUMP_MAX: u64 = 10_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: StreamKey = StreamKey { source: 1, ssrc: 11 };
    const B: StreamKey = StreamKey { source: 2, ssrc: 22 };

    fn audio(stream: StreamKey, seq: u64, time: u32, now: Instant) -> Incoming {
        let view = PayloadView { keyframe: false, vp8: None, pixels: None };
        Incoming { stream, wanted: true, seq, time, codec: Codec::Opus, view, now }
    }

    fn video(stream: StreamKey, seq: u64, key: bool, picture: u16, now: Instant) -> Incoming {
        let payload = vp8(key, picture, 7);
        let view = PayloadView::read(Codec::Vp8, &payload).unwrap();
        Incoming { stream, wanted: true, seq, time: 3000 * u32::from(picture), codec: Codec::Vp8, view, now }
    }

    /// A VP8 payload with a 15-bit picture id, TL0PICIDX and KEYIDX.
    fn vp8(key: bool, picture: u16, tl0: u8) -> Vec<u8> {
        let [high, low] = picture.to_be_bytes();
        vec![0x90, 0xf0, 0x80 | high, low, tl0, 3, u8::from(!key), 0, 0, 0x9d, 1, 0x2a]
    }

    fn forwarded(verdict: Verdict) -> Outgoing {
        match verdict {
            Verdict::Forward(out) => out,
            Verdict::AwaitKeyframe | Verdict::Drop => panic!("{verdict:?}"),
        }
    }

    #[test]
    fn audio_goes_on_across_a_switch() {
        let start = crate::clock::now();
        let mut slot = Rewriter::new(100, 5000);
        assert_eq!(
            forwarded(slot.rewrite(&audio(A, 7, 960, start))),
            Outgoing { seq: 100, time: 5000, patch: None }
        );
        let later = start + Duration::from_millis(20);
        assert_eq!(forwarded(slot.rewrite(&audio(A, 8, 1920, later))).seq, 101);
        let out = forwarded(slot.rewrite(&audio(B, 60_000, 77, later + Duration::from_millis(100))));
        assert_eq!(out, Outgoing { seq: 102, time: 5000 + 960 + 4800, patch: None });
    }

    #[test]
    fn holes_stay_and_late_packets_fit_in() {
        let start = crate::clock::now();
        let mut slot = Rewriter::new(10, 0);
        for (seq, expected) in [(50, 10), (53, 13), (51, 11), (52, 12), (54, 14)] {
            assert_eq!(forwarded(slot.rewrite(&audio(A, seq, 0, start))).seq, expected);
        }
    }

    #[test]
    fn what_is_older_than_the_switch_is_dropped() {
        let start = crate::clock::now();
        let mut slot = Rewriter::new(10, 0);
        let _ = slot.rewrite(&audio(A, 50, 0, start));
        assert_eq!(slot.rewrite(&audio(A, 49, 0, start)), Verdict::Drop);
    }

    #[test]
    fn video_switches_on_a_keyframe_only() {
        let start = crate::clock::now();
        let mut slot = Rewriter::new(0, 0);
        assert_eq!(slot.rewrite(&video(A, 1, false, 9, start)), Verdict::AwaitKeyframe);
        assert_eq!(forwarded(slot.rewrite(&video(A, 2, true, 10, start))).seq, 0);
        assert_eq!(slot.rewrite(&video(B, 900, false, 500, start)), Verdict::AwaitKeyframe);
        assert_eq!(forwarded(slot.rewrite(&video(A, 3, false, 11, start))).seq, 1);
        assert_eq!(forwarded(slot.rewrite(&video(B, 901, true, 501, start))).seq, 2);
        let left = Incoming { wanted: false, ..video(A, 4, false, 12, start) };
        assert_eq!(slot.rewrite(&left), Verdict::Drop);
    }

    #[test]
    fn vp8_ids_go_on_across_a_switch() {
        let start = crate::clock::now();
        let mut slot = Rewriter::new(0, 0);
        let _ = slot.rewrite(&video(A, 1, true, 0x7ffe, start));
        let _ = slot.rewrite(&video(A, 2, false, 0x7fff, start));
        let first = (slot.picture.id, slot.picture.tl0, slot.picture.key);
        let out = forwarded(slot.rewrite(&video(B, 70, true, 3, start)));
        let next = ((first.0 + 1) & 0x7fff, first.1.wrapping_add(1), (first.2 + 1) & 0x1f);
        assert_eq!((slot.picture.id, slot.picture.tl0, slot.picture.key), next);
        let payload = vp8(true, 3, 7);
        let descriptor = Vp8Descriptor::parse(&payload).unwrap();
        let expected =
            descriptor.patch().picture_id(next.0).tl0_pic_idx(next.1).key_idx(next.2).build().unwrap();
        assert_eq!(out.patch, Some(expected));
    }

    #[test]
    fn a_jump_is_a_new_stream() {
        let start = crate::clock::now();
        let mut slot = Rewriter::new(0, 0);
        let _ = slot.rewrite(&audio(A, 1, 0, start));
        assert_eq!(forwarded(slot.rewrite(&audio(A, 1_000_000, 0, start))).seq, 1);
        let _ = slot.rewrite(&video(B, 5, true, 0, start));
        assert_eq!(slot.rewrite(&video(B, 500_000, false, 0, start)), Verdict::AwaitKeyframe);
    }

    proptest! {
        #[test]
        fn what_is_sent_has_no_repeats_and_no_wild_jumps(
            packets in prop::collection::vec((any::<bool>(), 0u64..1 << 40, any::<u32>(), any::<bool>(), 0u64..3), 1..200),
        ) {
            let start = crate::clock::now();
            let mut slot = Rewriter::new(u16::MAX, 0);
            let mut last: Option<u64> = None;
            let mut seen = std::collections::BTreeSet::new();
            for (i, (which, jump, time, key, step)) in packets.into_iter().enumerate() {
                let stream = if which { A } else { B };
                let seq = if jump % 7 == 0 { jump } else { i as u64 * 3 + step };
                let now = start + Duration::from_millis(i as u64);
                let mut packet = audio(stream, seq, time, now);
                packet.view.keyframe = key;
                if let Verdict::Forward(out) = slot.rewrite(&packet) {
                    match last {
                        None => prop_assert!(out.seq < 65_536),
                        Some(last) => prop_assert!(out.seq <= last + JUMP_MAX + 1 && out.seq + JUMP_MAX >= last),
                    }
                    // The same incoming packet twice is filtered before; here each number is new by construction
                    // unless the stream repeats one.
                    seen.insert(out.seq);
                    last = Some(last.unwrap_or(0).max(out.seq));
                }
            }
        }
    }
}
