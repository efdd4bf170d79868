//! The codecs that pass, and where a decoder may begin.
//!
//! Pure. Payload types are each client's own; packets are matched between sender and receiver by codec.

use str0m::format::{Codec as Str0mCodec, PayloadParams};
use str0m::media::Pt;
use str0m::rtp::Vp8Descriptor;

/// A codec as far as forwarding must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 7741.
    Vp8,
    /// RFC 6184.
    H264 {
        /// `profile-level-id` without its level.
        profile: u16,
        /// `packetization-mode`.
        mode: u8,
    },
}

impl Codec {
    /// Returns the codec of negotiated parameters; `None` for one that is not forwarded.
    pub(super) fn of(params: &PayloadParams) -> Option<Self> {
        let spec = params.spec();
        #[expect(clippy::wildcard_enum_match_arm, reason = "only what the session offers can be forwarded")]
        match spec.codec {
            Str0mCodec::Opus => Some(Self::Opus),
            Str0mCodec::Vp8 => Some(Self::Vp8),
            Str0mCodec::H264 => Some(Self::H264 {
                // RFC 6184 section 8.1: profile_idc, profile-iop, level_idc; the default is Baseline.
                profile: u16::try_from((spec.format.profile_level_id.unwrap_or(0x0042_000a) >> 8) & 0xffff)
                    .unwrap_or(0x4200),
                mode: spec.format.packetization_mode.unwrap_or(0),
            }),
            _ => None,
        }
    }

    /// Returns the RTP clock in Hz.
    pub(super) fn clock(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Vp8 | Self::H264 { .. } => 90_000,
        }
    }

    /// Returns whether a receiver must begin at a keyframe.
    pub(super) fn needs_keyframe(self) -> bool {
        match self {
            Self::Opus => false,
            Self::Vp8 | Self::H264 { .. } => true,
        }
    }
}

/// What a payload says about itself, read once a packet and used for all its receivers.
#[derive(Clone, Copy, Debug)]
pub(super) struct PayloadView {
    /// Whether a decoder may begin here.
    pub(super) keyframe: bool,
    /// VP8 only: what must be continuous for the receiver.
    pub(super) vp8: Option<Vp8Descriptor>,
    /// Pixels of the picture that begins here: of VP8 keyframes that are not encrypted end to end.
    pub(super) pixels: Option<u32>,
}

impl PayloadView {
    /// Reads a payload; `None` when it is malformed. An empty payload is padding and passes.
    pub(super) fn read(codec: Codec, payload: &[u8]) -> Option<Self> {
        match codec {
            Codec::Opus => Some(Self { keyframe: false, vp8: None, pixels: None }),
            Codec::Vp8 if payload.is_empty() => Some(Self { keyframe: false, vp8: None, pixels: None }),
            Codec::Vp8 => {
                let descriptor = Vp8Descriptor::parse(payload).ok()?;
                let keyframe = descriptor.starts_keyframe(payload);
                let pixels = keyframe.then(|| vp8_pixels(payload)).flatten();
                Some(Self { keyframe, vp8: Some(descriptor), pixels })
            }
            Codec::H264 { .. } => {
                Some(Self { keyframe: h264_starts_keyframe(payload), vp8: None, pixels: None })
            }
        }
    }
}

/// Returns the payload type that a receiver knows for `codec`: the same profile if it has it, else one that differs
/// in the profile only, else one whose packetization mode takes what the sender's makes.
pub(super) fn payload_type(known: &[(Codec, Pt)], codec: Codec) -> Option<Pt> {
    let exact = known.iter().find(|(k, _)| *k == codec);
    let with_mode =
        |wanted: u8| known.iter().find(|(k, _)| matches!(k, Codec::H264 { mode, .. } if *mode == wanted));
    let close = || match codec {
        // RFC 6184 section 6.3: the non-interleaved mode takes single NAL unit packets too.
        Codec::H264 { mode: 0, .. } => with_mode(0).or_else(|| with_mode(1)),
        Codec::H264 { mode, .. } => with_mode(mode),
        Codec::Opus | Codec::Vp8 => None,
    };
    exact.or_else(close).map(|(_, pt)| *pt)
}

/// Returns width times height of the VP8 keyframe that a payload starts.
fn vp8_pixels(payload: &[u8]) -> Option<u32> {
    // RFC 7741 section 4.2: at most 6 bytes of descriptor; RFC 6386 section 9.1: 3 bytes of tag, the start code, then
    // 14 bits each of width and height, each below 2 bits of scaling.
    let start = payload.get(..12).unwrap_or(payload);
    let at = start.windows(3).position(|code| code == VP8_START_CODE)?;
    let [width_low, width_high, height_low, height_high] = *payload.get(at + 3..at + 7)? else { return None };
    let width = u32::from(u16::from_le_bytes([width_low, width_high]) & 0x3fff);
    let height = u32::from(u16::from_le_bytes([height_low, height_high]) & 0x3fff);
    Some(width * height)
}

/// Returns whether an H.264 payload starts a sequence parameter set or an IDR picture.
fn h264_starts_keyframe(payload: &[u8]) -> bool {
    let nal_type = |byte: &u8| byte & 0x1f;
    let begins = |t: u8| t == NAL_SPS || t == NAL_IDR;
    let Some(first) = payload.first().map(nal_type) else { return false };
    match first {
        // RFC 6184 section 5.7.1: STAP-A, each unit behind its 16-bit size.
        NAL_STAP_A => {
            let mut rest = payload.get(1..).unwrap_or_default();
            while let [high, low, unit @ ..] = rest {
                let size = usize::from(u16::from_be_bytes([*high, *low]));
                if unit.first().map(nal_type).is_some_and(begins) {
                    return true;
                }
                rest = unit.get(size..).unwrap_or_default();
            }
            false
        }
        // RFC 6184 section 5.8: FU-A; the start bit and the type of the unit are in the second byte.
        NAL_FU_A => payload.get(1).is_some_and(|fu| fu & 0x80 != 0 && begins(nal_type(fu))),
        single => begins(single),
    }
}

const VP8_START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];
const NAL_IDR: u8 = 5;
const NAL_SPS: u8 = 7;
const NAL_STAP_A: u8 = 24;
const NAL_FU_A: u8 = 28;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_size_of_a_vp8_keyframe_is_read_behind_any_descriptor() {
        let picture = [0x50, 0x01, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x41];
        for descriptor in [&[0x10][..], &[0x90, 0x80, 0x05], &[0x90, 0xe0, 0x85, 0x05, 0x07, 0x20]] {
            let payload = [descriptor, &picture].concat();
            let view = PayloadView::read(Codec::Vp8, &payload).unwrap();
            assert_eq!((view.keyframe, view.pixels), (true, Some(640 * 480)), "{descriptor:x?}");
            let cut = PayloadView::read(Codec::Vp8, &payload[..payload.len() - 1]).unwrap();
            assert_eq!(cut.pixels, None);
        }
        let later =
            PayloadView::read(Codec::Vp8, &[0x10, 0x51, 0x01, 0x00, 0x9d, 0x01, 0x2a, 1, 1, 1, 1]).unwrap();
        assert_eq!((later.keyframe, later.pixels), (false, None));
    }

    #[test]
    fn h264_keyframes_are_found_in_all_three_packings() {
        for (payload, expected) in [
            (&[][..], false),
            (&[0x67, 0x42], true),
            (&[0x65, 0x88], true),
            (&[0x41, 0x9a], false),
            (&[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xce], true),
            (&[0x78, 0, 2, 0x41, 0x42], false),
            (&[0x78, 0xff], false),
            (&[0x7c, 0x85], true),
            (&[0x7c, 0x05], false),
            (&[0x7c, 0x81], false),
        ] {
            assert_eq!(h264_starts_keyframe(payload), expected, "{payload:x?}");
        }
    }

    #[test]
    fn vp8_keyframes_begin_in_the_first_partition_only() {
        for (payload, expected) in [
            (&[0x10, 0x00, 0, 0, 0x9d, 1, 0x2a][..], true),
            (&[0x10, 0x01, 0, 0], false),
            (&[0x00, 0x00, 0, 0], false),
        ] {
            let view = PayloadView::read(Codec::Vp8, payload).unwrap();
            assert_eq!(view.keyframe, expected, "{payload:x?}");
        }
        assert!(PayloadView::read(Codec::Vp8, &[0x90]).is_none());
        assert!(PayloadView::read(Codec::Vp8, &[]).is_some());
    }

    #[test]
    fn a_payload_type_is_matched_by_codec_then_by_mode() {
        let known = [
            (Codec::H264 { profile: 0x42e0, mode: 0 }, Pt::from(100)),
            (Codec::H264 { profile: 0x42e0, mode: 1 }, Pt::from(101)),
            (Codec::Vp8, Pt::from(96)),
        ];
        for (codec, expected) in [
            (Codec::Vp8, Some(96)),
            (Codec::Opus, None),
            (Codec::H264 { profile: 0x42e0, mode: 1 }, Some(101)),
            (Codec::H264 { profile: 0x6400, mode: 1 }, Some(101)),
            (Codec::H264 { profile: 0x6400, mode: 2 }, None),
        ] {
            assert_eq!(payload_type(&known, codec).map(|pt| *pt), expected, "{codec:?}");
        }
        // Single NAL units go where more is taken, not the other way round.
        let single = Codec::H264 { profile: 0x42e0, mode: 0 };
        assert_eq!(payload_type(&known[1..], single).map(|pt| *pt), Some(101));
        assert_eq!(payload_type(&known[..1], Codec::H264 { profile: 0x42e0, mode: 1 }), None);
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload in prop::collection::vec(any::<u8>(), 0..64)) {
            for codec in [Codec::Opus, Codec::Vp8, Codec::H264 { profile: 0, mode: 1 }] {
                let _ = PayloadView::read(codec, &payload);
            }
        }
    }
}
