//! Pure: what a TLS connection without HTTP/2 begins with: a STUN message, or what HTTP/1 will make of it.
//!
//! STUN begins with two zero bits (RFC 7983 section 7) and has the magic cookie behind its length (RFC 8489 section 5);
//! no HTTP request begins so. ChannelData shares its first bytes with letters, but cannot come first: a channel is bound
//! by STUN requests of the same connection (RFC 8656 section 12). So whatever is not STUN is HTTP's to answer or refuse.

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Too few to tell.
    Partial,
    /// A STUN message: TURN is spoken here.
    Stun,
    /// Anything else.
    Http,
}

/// Looks at all that was received so far.
pub fn first(bytes: &[u8]) -> First {
    match bytes {
        [] => First::Partial,
        [0..=3, rest @ ..] => match rest {
            // Message length: a multiple of 4, as every attribute is padded.
            [_, _, low, ..] if low & 3 != 0 => First::Http,
            [_, _, _, cookie @ ..] if !begins(cookie) => First::Http,
            [_, _, _, _, _, _, _, ..] => First::Stun,
            _ => First::Partial,
        },
        _ => First::Http,
    }
}

fn begins(cookie: &[u8]) -> bool {
    cookie.iter().zip(MAGIC_COOKIE).all(|(byte, expected)| *byte == expected)
}

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stun_is_told_as_soon_as_it_can_be() {
        let allocate = [0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42, 1, 2];
        for end in 0..allocate.len() {
            let expected = if end < 8 { First::Partial } else { First::Stun };
            assert_eq!(first(&allocate[..end]), expected, "{end}");
        }
        for (bytes, what) in [
            (&b"GET / HTTP/1.1"[..], "a request"),
            (b"\r\nGET", "an empty line in front"),
            (&[0x40, 0, 0, 4], "ChannelData cannot come first"),
            (&[4], "no STUN"),
            (&[0x16, 3, 1], "TLS in TLS"),
            (&[0, 1, 0, 3], "a length that no STUN message has"),
            (&[0, 1, 0, 0, 0x21, 0x13], "another cookie"),
            (&[0, 0, 0, 0, 0, 0, 0, 0], "zeros"),
        ] {
            assert_eq!(first(bytes), First::Http, "{what}");
        }
    }
}
