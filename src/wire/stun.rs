//! Pure: bounded reading of STUN messages (RFC 8489), as far as routing needs it.
//!
//! Integrity is not checked here: only the owner of the session knows the password.

/// The message class (RFC 8489 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageClass {
    /// Asks for an answer.
    Request,
    /// Asks for none.
    Indication,
    /// Answers a request that was granted.
    Success,
    /// Answers a request that was refused.
    Error,
}

/// Ties an answer to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub [u8; 12]);

/// The USERNAME of an ICE check (RFC 8445 section 7.2.2): whom it is for, and whom it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Username<'a> {
    /// The receiver's ufrag.
    pub server: &'a [u8],
    /// The sender's ufrag.
    pub client: &'a [u8],
}

/// A well-formed STUN message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Request, indication, success or error.
    pub class: MessageClass,
    /// 1 is Binding.
    pub method: u16,
    /// Ties an answer to its request.
    pub transaction: TransactionId,
    /// `None` if there is no USERNAME.
    pub username: Option<Username<'a>>,
    /// Whether the sender asks for this pair to be used (RFC 8445 section 7.2.2).
    pub use_candidate: bool,
}

impl<'a> Message<'a> {
    /// Reads one message that fills the whole datagram.
    ///
    /// `None` if a length does not fit, the cookie is missing, a USERNAME comes twice or late, is longer than
    /// [`USERNAME_BYTES_MAX`] or is not made of two names.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (header, mut rest) = datagram.split_first_chunk::<HEADER_LEN>()?;
        let [t0, t1, l0, l1, c0, c1, c2, c3, transaction @ ..] = *header;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let kind = u16::from_be_bytes([t0, t1]);
        if kind & 0xC000 != 0
            || [c0, c1, c2, c3] != MAGIC_COOKIE
            || !length.is_multiple_of(4)
            || length != rest.len()
        {
            return None;
        }
        let mut username = None;
        let mut use_candidate = false;
        let mut sealed = false;
        while !rest.is_empty() {
            let (&[a0, a1, n0, n1], tail) = rest.split_first_chunk::<4>()?;
            let bytes = usize::from(u16::from_be_bytes([n0, n1]));
            let value = tail.get(..bytes)?;
            rest = tail.get(bytes.next_multiple_of(4)..)?;
            match u16::from_be_bytes([a0, a1]) {
                // What follows the seal is not the sender's word (RFC 8489 section 14.5).
                USERNAME if sealed || username.is_some() => return None,
                USERNAME => username = Some(Username::parse(value)?),
                USE_CANDIDATE if !sealed => use_candidate = true,
                MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 => sealed = true,
                _ => {}
            }
        }
        let class = match (kind >> 7 & 0b10) | (kind >> 4 & 0b01) {
            0b00 => MessageClass::Request,
            0b01 => MessageClass::Indication,
            0b10 => MessageClass::Success,
            _ => MessageClass::Error,
        };
        // Method bits stand around the two class bits (RFC 8489 figure 3).
        let method = (kind >> 2 & 0x0F80) | (kind >> 1 & 0x0070) | (kind & 0x000F);
        Some(Self { class, method, transaction: TransactionId(transaction), username, use_candidate })
    }
}

impl<'a> Username<'a> {
    fn parse(value: &'a [u8]) -> Option<Self> {
        if value.len() > USERNAME_BYTES_MAX {
            return None;
        }
        let mut names = value.splitn(2, |&byte| byte == b':');
        let (server, client) = (names.next()?, names.next()?);
        (!server.is_empty() && !client.is_empty()).then_some(Self { server, client })
    }
}

/// The method of ICE checks.
pub const BINDING: u16 = 1;

/// Largest USERNAME.
// RFC 8489 section 14.3: "MUST contain a UTF-8-encoded sequence of fewer than 509 bytes"; RFC 5389 allowed 513.
pub const USERNAME_BYTES_MAX: usize = 513;

/// Returns the transaction of a Binding success response without reading its attributes: for what we send ourselves.
pub fn success_transaction(datagram: &[u8]) -> Option<TransactionId> {
    let (header, _) = datagram.split_first_chunk::<HEADER_LEN>()?;
    let [0x01, 0x01, _, _, c0, c1, c2, c3, transaction @ ..] = *header else { return None };
    ([c0, c1, c2, c3] == MAGIC_COOKIE).then_some(TransactionId(transaction))
}

const HEADER_LEN: usize = 20;
// RFC 8489 section 5.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
// RFC 8489 section 18.3, RFC 8445 section 16.1.
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
const USE_CANDIDATE: u16 = 0x0025;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (attribute, value) in attributes {
            body.extend(attribute.to_be_bytes());
            body.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(MAGIC_COOKIE);
        bytes.extend([7; 12]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn sample_request_of_rfc_5769_is_read() {
        // RFC 5769 section 2.1.
        let bytes = [
            0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86,
            0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73,
            0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff,
            0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09,
            0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14,
            0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49,
            0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
        ];
        let read = Message::parse(&bytes).unwrap();
        assert_eq!((read.class, read.method), (MessageClass::Request, BINDING));
        assert_eq!(read.username, Some(Username { server: b"evtj", client: b"h6vY" }));
        assert_eq!(read.transaction.0[..4], [0xb7, 0xe7, 0xa7, 0x01]);
        assert!(!read.use_candidate);
    }

    #[test]
    fn class_and_method_are_untangled() {
        for (kind, class, method) in [
            (0x0001, MessageClass::Request, 1),
            (0x0011, MessageClass::Indication, 1),
            (0x0101, MessageClass::Success, 1),
            (0x0111, MessageClass::Error, 1),
            (0x0003, MessageClass::Request, 3),
            (0x3EEF, MessageClass::Request, 0xFFF),
        ] {
            let bytes = message(kind, &[]);
            let read = Message::parse(&bytes).unwrap();
            assert_eq!((read.class, read.method), (class, method), "{kind:#06x}");
            assert_eq!(success_transaction(&bytes).is_some(), kind == 0x0101);
        }
        assert_eq!(Message::parse(&message(0x4001, &[])), None);
    }

    #[test]
    fn username_comes_once_before_the_seal_and_has_two_names() {
        let seal: (u16, &[u8]) = (MESSAGE_INTEGRITY, &[0; 20]);
        let long = [b':'; USERNAME_BYTES_MAX + 1];
        let check = |attributes: &[(u16, &[u8])], good: bool| {
            assert_eq!(Message::parse(&message(1, attributes)).is_some(), good, "{attributes:?}");
        };
        check(&[(USERNAME, b"a:b"), seal, (0x8028, &[0; 4])], true);
        check(&[(USERNAME, b"a:b:c")], true);
        check(&[(USERNAME, b"a:b"), (USERNAME, b"a:b")], false);
        check(&[seal, (USERNAME, b"a:b")], false);
        for bad in [&b"ab"[..], b":b", b"a:", b"", &long] {
            check(&[(USERNAME, bad)], false);
        }
        let mut longest = vec![b'a'; USERNAME_BYTES_MAX];
        longest[1] = b':';
        check(&[(USERNAME, &longest)], true);
        let nominating = message(1, &[(USE_CANDIDATE, b""), seal]);
        assert!(Message::parse(&nominating).unwrap().use_candidate);
        let forged = message(1, &[seal, (USE_CANDIDATE, b"")]);
        assert!(!Message::parse(&forged).unwrap().use_candidate);
    }

    #[test]
    fn each_wrong_length_is_refused() {
        let good = message(1, &[(USERNAME, b"ab:cd")]);
        assert!(Message::parse(&good).is_some());
        for cut in 0..good.len() {
            assert_eq!(Message::parse(&good[..cut]), None, "{cut}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert_eq!(Message::parse(&longer), None);
        let mut overrun = good;
        overrun[23] = 9; // The padded value would end one word after the message.
        assert_eq!(Message::parse(&overrun), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::parse(&bytes);
            let _ = success_transaction(&bytes);
        }

        #[test]
        fn arbitrary_attributes_never_panic(kind in 0_u16..0x4000, body in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut bytes = message(kind, &[]);
            let body = &body[..body.len() / 4 * 4];
            bytes[2..4].copy_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
            bytes.extend(body);
            let _ = Message::parse(&bytes);
        }
    }
}
