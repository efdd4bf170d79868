//! Pure: bounded reading of RTP (RFC 3550, RFC 8285) and RTCP headers.
//!
//! It works on SRTP and SRTCP too: only what stays in clear there is read. Padding counts on plain payloads only.

/// A well-formed RTP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The last packet of a video frame, the first of a talk spurt.
    pub marker: bool,
    /// 7 bits.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Media time.
    pub timestamp: u32,
    /// The source.
    pub ssrc: u32,
    /// Whether the payload ends with padding, the last byte of which is its length.
    pub padding: bool,
    /// The header extension.
    pub extension: Option<Extension<'a>>,
    csrcs: &'a [u8],
    len: usize,
}

impl<'a> Header<'a> {
    /// Reads a header and returns it with the bytes after it.
    ///
    /// `None` if it is not version 2, or CSRCs, the extension or an element of it overrun what holds them. What is
    /// accepted here is safe for readers that check less.
    pub fn parse(datagram: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3], rest) =
            datagram.split_first_chunk::<12>()?;
        if first >> 6 != VERSION {
            return None;
        }
        let (csrcs, rest) = rest.split_at_checked(usize::from(first & 0x0F) * 4)?;
        let (extension, payload) = if first & 0x10 == 0 {
            (None, rest)
        } else {
            let (&[p0, p1, n0, n1], rest) = rest.split_first_chunk::<4>()?;
            let words = usize::from(u16::from_be_bytes([n0, n1]));
            let (data, rest) = rest.split_at_checked(words * 4)?;
            let extension = Extension { profile: u16::from_be_bytes([p0, p1]), data };
            extension.check()?;
            (Some(extension), rest)
        };
        let header = Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7F,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            padding: first & 0x20 != 0,
            extension,
            csrcs,
            len: datagram.len() - payload.len(),
        };
        Some((header, payload))
    }

    /// Returns the contributing sources, at most 15.
    pub fn csrcs(&self) -> impl Iterator<Item = u32> + 'a {
        self.csrcs.as_chunks::<4>().0.iter().map(|&csrc| u32::from_be_bytes(csrc))
    }

    /// Returns the length of the header in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Cuts the padding off a plain payload. `None` if it is longer than the payload, or zero.
    pub fn unpad(&self, payload: &'a [u8]) -> Option<&'a [u8]> {
        if !self.padding {
            return Some(payload);
        }
        let padding = usize::from(*payload.last()?);
        if padding == 0 {
            return None;
        }
        payload.get(..payload.len().checked_sub(padding)?)
    }
}

/// A header extension whose elements fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Says how `data` is to be read.
    pub profile: u16,
    /// Whole words.
    pub data: &'a [u8],
}

impl<'a> Extension<'a> {
    /// Returns the elements of a one-byte or two-byte extension (RFC 8285); nothing for other profiles.
    pub fn elements(&self) -> Elements<'a> {
        let form = match self.profile {
            ONE_BYTE => Form::OneByte,
            // The low four bits are the application's (RFC 8285 section 4.3).
            TWO_BYTE..=TWO_BYTE_LAST => Form::TwoByte,
            _ => Form::Other,
        };
        Elements { form, data: self.data, overrun: false }
    }

    fn check(&self) -> Option<()> {
        let mut elements = self.elements();
        elements.by_ref().for_each(drop);
        (!elements.overrun).then_some(())
    }
}

/// One element of a header extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// As negotiated in SDP.
    pub id: u8,
    /// Its value.
    pub data: &'a [u8],
}

/// Walks the elements of a header extension.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    form: Form,
    data: &'a [u8],
    /// Whether an element did not fit, or may not be.
    overrun: bool,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    OneByte,
    TwoByte,
    Other,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, rest) = self.data.split_first()?;
            self.data = rest;
            let (id, len) = match self.form {
                Form::Other => {
                    self.data = &[];
                    return None;
                }
                _ if first == 0 => continue, // Padding between elements.
                Form::OneByte => (first >> 4, usize::from(first & 0x0F) + 1),
                Form::TwoByte => {
                    let Some((&len, rest)) = rest.split_first() else {
                        self.overrun = true;
                        return None;
                    };
                    self.data = rest;
                    (first, usize::from(len))
                }
            };
            if matches!(self.form, Form::OneByte) {
                // RFC 8285 section 4.2: 15 ends the extension.
                if id == 15 {
                    self.data = &[];
                    return None;
                }
                // So does 0 with a length. No sender may write it, and readers that go on behind it overrun.
                if id == 0 {
                    self.overrun = true;
                    return None;
                }
            }
            let Some((data, rest)) = self.data.split_at_checked(len) else {
                self.overrun = true;
                self.data = &[];
                return None;
            };
            self.data = rest;
            return Some(Element { id, data });
        }
    }
}

/// The header of the first RTCP packet of a compound; all that is in clear in SRTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcpHeader {
    /// Whether the packet ends with padding.
    pub padding: bool,
    /// Report count or feedback type; 5 bits.
    pub count: u8,
    /// 192 to 223 on this port.
    pub packet_type: u8,
    /// Length of the packet in bytes, header included.
    pub len: usize,
    /// Who sends it.
    pub ssrc: u32,
}

impl RtcpHeader {
    /// Reads the header and the sender's SSRC. `None` if it is not version 2 or the packet overruns the datagram.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let &[first, packet_type, n0, n1, c0, c1, c2, c3] = datagram.first_chunk::<8>()?;
        let len = (usize::from(u16::from_be_bytes([n0, n1])) + 1) * 4;
        (first >> 6 == VERSION && len <= datagram.len()).then_some(Self {
            padding: first & 0x20 != 0,
            count: first & 0x1F,
            packet_type,
            len,
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
        })
    }
}

const VERSION: u8 = 2;
// RFC 8285 sections 4.2 and 4.3.
const ONE_BYTE: u16 = 0xBEDE;
const TWO_BYTE: u16 = 0x1000;
const TWO_BYTE_LAST: u16 = 0x100F;

#[cfg(test)]
mod tests {
    use ::rtp::extension::HeaderExtension;
    use proptest::prelude::*;
    use webrtc_util::marshal::{Marshal, Unmarshal};

    use super::*;

    /// Compares our reading of `bytes` with that of crate `rtp`; call it only with headers we accept.
    fn agrees_with_oracle(bytes: &[u8]) {
        let (ours, payload) = Header::parse(bytes).unwrap();
        let theirs = ::rtp::header::Header::unmarshal(&mut &bytes[..]).unwrap();
        assert_eq!(theirs.version, 2);
        assert_eq!(theirs.marker, ours.marker);
        assert_eq!(theirs.payload_type, ours.payload_type);
        assert_eq!(theirs.sequence_number, ours.sequence);
        assert_eq!(theirs.timestamp, ours.timestamp);
        assert_eq!(theirs.ssrc, ours.ssrc);
        assert_eq!(theirs.padding, ours.padding);
        assert_eq!(theirs.csrc, ours.csrcs().collect::<Vec<_>>());
        assert_eq!(theirs.extension, ours.extension.is_some());
        assert_eq!(ours.len() + payload.len(), bytes.len());
        let Some(extension) = ours.extension else { return };
        assert_eq!(theirs.extension_profile, extension.profile);
        let elements = extension.elements().map(|e| (e.id, e.data.to_vec())).collect::<Vec<_>>();
        if extension.profile == ONE_BYTE || extension.profile == TWO_BYTE {
            let all = theirs.extensions.iter().map(|e| (e.id, e.payload.to_vec()));
            assert_eq!(all.collect::<Vec<_>>(), elements);
        } else {
            assert_eq!(theirs.extensions[0].payload, extension.data);
        }
    }

    #[test]
    fn whole_header_is_read() {
        let bytes = [
            0xB1, 0xE0, 0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, // one CSRC
            0xBE, 0xDE, 0, 2, 0x10, 0xAA, 0x21, 0xBB, 0xCC, 0, 0, 0, // ids 1 and 2, padding
            9, 9, 0, 2,
        ];
        let (header, payload) = Header::parse(&bytes).unwrap();
        assert!(header.marker && header.padding);
        assert_eq!((header.payload_type, header.sequence, header.timestamp, header.ssrc), (96, 0x1234, 1, 2));
        assert_eq!(header.csrcs().collect::<Vec<_>>(), [3]);
        assert_eq!(header.len(), 28);
        let elements = header.extension.unwrap().elements().collect::<Vec<_>>();
        assert_eq!(elements, [Element { id: 1, data: &[0xAA] }, Element { id: 2, data: &[0xBB, 0xCC] }]);
        assert_eq!(header.unpad(payload), Some(&[9, 9][..]));
        assert_eq!(header.unpad(&[0]), None);
        assert_eq!(header.unpad(&[2]), None);
        assert_eq!(header.unpad(&[]), None);
        agrees_with_oracle(&bytes);
        for cut in 0..28 {
            assert_eq!(Header::parse(&bytes[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn overruns_inside_an_extension_are_refused() {
        let packet = |profile: u16, data: [u8; 4]| {
            let mut bytes = vec![0x90, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            bytes.extend(profile.to_be_bytes());
            bytes.extend([0, 1]);
            bytes.extend(data);
            bytes.extend([0; 300]);
            bytes
        };
        for (profile, data, good) in [
            (ONE_BYTE, [0x12, 1, 2, 3], true),
            (ONE_BYTE, [0x13, 1, 2, 3], false),
            (ONE_BYTE, [0xFF, 1, 2, 3], true),  // 15 ends the extension.
            (ONE_BYTE, [0x02, 1, 2, 3], false), // 0 with a length.
            (TWO_BYTE, [1, 2, 9, 9], true),
            (TWO_BYTE, [1, 3, 9, 9], false),
            (TWO_BYTE, [0, 0, 0, 1], false), // An id without its length.
            (TWO_BYTE_LAST, [1, 3, 9, 9], false),
            (0xC0DE, [0xFF; 4], true), // Cryptex (RFC 9335): nothing to read.
        ] {
            let bytes = packet(profile, data);
            assert_eq!(Header::parse(&bytes).is_some(), good, "{profile:#06x} {data:?}");
        }
    }

    #[test]
    fn rtcp_length_must_fit() {
        let bytes = [0x81, 201, 0, 1, 0, 0, 0, 7];
        let expected = RtcpHeader { padding: false, count: 1, packet_type: 201, len: 8, ssrc: 7 };
        assert_eq!(RtcpHeader::parse(&bytes), Some(expected));
        assert_eq!(RtcpHeader::parse(&[0x81, 201, 0, 2, 0, 0, 0, 7]), None);
        assert_eq!(RtcpHeader::parse(&[0x41, 201, 0, 1, 0, 0, 0, 7]), None);
        assert_eq!(RtcpHeader::parse(&bytes[..7]), None);
    }

    proptest! {
        // Rare shapes of extensions are what this is for.
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

        #[test]
        fn what_we_accept_the_oracle_reads_alike(
            first in 0x80_u8..0xC0,
            profile in prop_oneof![Just(ONE_BYTE), Just(TWO_BYTE), Just(0xC0DE_u16), any::<u16>()],
            words in 0_u16..6,
            tail in proptest::collection::vec(prop_oneof![Just(0_u8), 0_u8..0x24, any::<u8>()], 0..80),
            second: u8,
        ) {
            let mut bytes = vec![first, second, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
            bytes.extend(vec![0xAB; usize::from(first & 0x0F) * 4]);
            bytes.extend(profile.to_be_bytes());
            bytes.extend(words.to_be_bytes());
            bytes.extend(tail);
            if Header::parse(&bytes).is_some() {
                agrees_with_oracle(&bytes);
            }
        }

        #[test]
        fn what_the_oracle_writes_we_read(
            elements in proptest::collection::vec((1_u8..15, proptest::collection::vec(any::<u8>(), 1..17)), 0..6),
            csrc in proptest::collection::vec(any::<u32>(), 0..15),
            (sequence_number, timestamp, ssrc) in any::<(u16, u32, u32)>(),
        ) {
            let mut header = ::rtp::header::Header { version: 2, csrc, sequence_number, timestamp, ssrc, ..Default::default() };
            let mut ids = std::collections::BTreeSet::new();
            for (id, data) in elements {
                if ids.insert(id) {
                    header.set_extension(id, data.into()).unwrap();
                }
            }
            agrees_with_oracle(&header.marshal().unwrap());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Some((header, payload)) = Header::parse(&bytes) {
                let _ = header.unpad(payload);
                prop_assert!(header.len() <= bytes.len());
            }
            let _ = RtcpHeader::parse(&bytes);
        }
    }

    /// Keeps the oracle's extension trait in use: its one-byte audio level reads as ours does.
    #[test]
    fn audio_level_reads_alike() {
        use ::rtp::extension::audio_level_extension::AudioLevelExtension;
        let level = HeaderExtension::AudioLevel(AudioLevelExtension { level: 30, voice: true });
        let mut header = ::rtp::header::Header { version: 2, ..Default::default() };
        header.set_extension(1, level.marshal().unwrap()).unwrap();
        let bytes = header.marshal().unwrap();
        let (read, _) = Header::parse(&bytes).unwrap();
        let elements = read.extension.unwrap().elements().collect::<Vec<_>>();
        assert_eq!(elements, [Element { id: 1, data: &[0x80 | 30] }]);
    }
}
