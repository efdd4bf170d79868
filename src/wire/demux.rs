//! Pure: what a datagram is, by its first byte (RFC 7983 section 7, RFC 9443 section 3).

/// The protocol of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// STUN (RFC 8489): 0 to 3.
    Stun,
    /// ZRTP (RFC 6189): 16 to 19.
    Zrtp,
    /// DTLS records: 20 to 63.
    Dtls,
    /// TURN ChannelData (RFC 8656): 64 to 79.
    ChannelData,
    /// QUIC: 80 to 127 and 192 to 255.
    Quic,
    /// RTP: 128 to 191 with a second byte outside 192 to 223.
    Rtp,
    /// RTCP: 128 to 191 with a second byte of 192 to 223 (RFC 5761 section 4).
    Rtcp,
    /// Nothing that shares this port.
    Unknown,
}

impl Class {
    /// Classifies a datagram; an empty one is [`Class::Unknown`].
    pub fn of(datagram: &[u8]) -> Self {
        let Some(&first) = datagram.first() else { return Self::Unknown };
        match first {
            0..=3 => Self::Stun,
            16..=19 => Self::Zrtp,
            20..=63 => Self::Dtls,
            64..=79 => Self::ChannelData,
            128..=191 => match datagram.get(1) {
                Some(192..=223) => Self::Rtcp,
                Some(_) => Self::Rtp,
                None => Self::Unknown,
            },
            80..=127 | 192..=255 => Self::Quic,
            4..=15 => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_byte_decides_at_both_sides_of_each_limit() {
        let check = |bytes: &[u8], class| assert_eq!(Class::of(bytes), class, "{bytes:?}");
        check(&[], Class::Unknown);
        for (first, class) in [
            (0, Class::Stun),
            (3, Class::Stun),
            (4, Class::Unknown),
            (15, Class::Unknown),
            (16, Class::Zrtp),
            (19, Class::Zrtp),
            (20, Class::Dtls),
            (63, Class::Dtls),
            (64, Class::ChannelData),
            (79, Class::ChannelData),
            (80, Class::Quic),
            (127, Class::Quic),
            (128, Class::Rtp),
            (191, Class::Rtp),
            (192, Class::Quic),
            (255, Class::Quic),
        ] {
            check(&[first, 0], class);
        }
        for (second, class) in
            [(191, Class::Rtp), (192, Class::Rtcp), (223, Class::Rtcp), (224, Class::Rtp), (96, Class::Rtp)]
        {
            check(&[0x80, second], class);
        }
        check(&[0x80], Class::Unknown);
    }
}
