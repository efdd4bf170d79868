//! Pure: the PROXY protocol, version 1 and 2, read and written (haproxy.org, proxy-protocol.txt).
//!
//! It stands in front of everything else on a connection and says who the client is. Whether it may be believed is not
//! decided here. One reading only: what is not exactly a header is refused, never skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Largest header that is read, TLVs included: what the specification asks receivers to take at least.
pub const HEADER_MAX: usize = 536;

/// What was found at the front of the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan<'a> {
    /// A header may stand here; it is not whole yet.
    Partial,
    /// A header of this many bytes.
    Complete(Header<'a>, usize),
    /// No more bytes can make a header of it.
    Refused(Refusal),
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// 1 or 2.
    pub version: u8,
    /// Who speaks to whom. `None`: the connection is the sender's own (LOCAL, such as its health checks), or its
    /// addresses are of a kind that TCP does not have (UNKNOWN, UNSPEC, UNIX); then the socket's own count.
    pub addresses: Option<Addresses>,
    /// The TLVs of version 2, whole ones only.
    pub tlvs: &'a [u8],
}

/// Both ends of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Something else stands there.
    Missing,
    /// It begins like a header and is none.
    Malformed,
    /// It is longer than [`HEADER_MAX`].
    TooLarge,
}

impl Refusal {
    /// Returns the word for metrics. Stable.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Missing => "missing",
            Refusal::Malformed => "malformed",
            Refusal::TooLarge => "too_large",
        }
    }
}

/// Looks for a header at the front of all that was received so far.
pub fn scan(bytes: &[u8]) -> Scan<'_> {
    if begins(bytes, V2_SIGNATURE) {
        scan_v2(bytes)
    } else if begins(bytes, V1_SIGNATURE) {
        scan_v1(bytes)
    } else {
        Scan::Refused(Refusal::Missing)
    }
}

/// Tells whether `bytes` begins with `signature`, as far as there are bytes.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

fn scan_v1(bytes: &[u8]) -> Scan<'_> {
    let line = bytes.get(..V1_MAX).unwrap_or(bytes);
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        let whole = bytes.len() >= V1_MAX;
        return if whole { Scan::Refused(Refusal::Malformed) } else { Scan::Partial };
    };
    let text = line
        .get(..end)
        .and_then(|line| line.strip_suffix(b"\r"))
        .and_then(|line| std::str::from_utf8(line).ok());
    match text.and_then(v1_addresses) {
        Some(addresses) => Scan::Complete(Header { version: 1, addresses, tlvs: &[] }, end + 1),
        None => Scan::Refused(Refusal::Malformed),
    }
}

/// Reads a line without its end; `None`: malformed.
fn v1_addresses(line: &str) -> Option<Option<Addresses>> {
    let rest = line.strip_prefix("PROXY ")?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let mut words = rest.split(' ');
    let family = words.next()?;
    let (source, destination) = (words.next()?, words.next()?);
    let ip = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, destination) = (ip(source)?, ip(destination)?);
    let (source_port, destination_port) = (v1_port(words.next()?)?, v1_port(words.next()?)?);
    words.next().is_none().then_some(())?;
    Some(Some(Addresses {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    }))
}

fn v1_port(text: &str) -> Option<u16> {
    let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if plain { text.parse().ok() } else { None }
}

fn scan_v2(bytes: &[u8]) -> Scan<'_> {
    let Some((head, after)) = bytes.split_first_chunk::<V2_HEAD>() else { return Scan::Partial };
    let [.., command, family, high, low] = *head;
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Scan::Refused(Refusal::Malformed),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole = V2_HEAD + length;
    if whole > HEADER_MAX {
        return Scan::Refused(Refusal::TooLarge);
    }
    let Some(payload) = after.get(..length) else { return Scan::Partial };
    let header = |addresses, tlvs| Scan::Complete(Header { version: 2, addresses, tlvs }, whole);
    if local {
        return header(None, &[]);
    }
    let parsed = match family {
        UNSPEC => Some((None, &[][..])),
        TCP_OVER_IPV4 => ipv4(payload).map(|(addresses, tlvs)| (Some(addresses), tlvs)),
        TCP_OVER_IPV6 => ipv6(payload).map(|(addresses, tlvs)| (Some(addresses), tlvs)),
        UNIX_STREAM => payload.get(UNIX_BYTES..).map(|tlvs| (None, tlvs)),
        _ => None,
    };
    let whole_bytes = bytes.get(..whole).unwrap_or_default();
    match parsed {
        Some((addresses, tlvs)) if tlvs_are_whole(tlvs) && checksum_fits(whole_bytes, tlvs) => {
            header(addresses, tlvs)
        }
        Some(_) | None => Scan::Refused(Refusal::Malformed),
    }
}

fn ipv4(payload: &[u8]) -> Option<(Addresses, &[u8])> {
    let (source, rest) = payload.split_first_chunk::<4>()?;
    let (destination, rest) = rest.split_first_chunk::<4>()?;
    ports(IpAddr::from(*source), IpAddr::from(*destination), rest)
}

fn ipv6(payload: &[u8]) -> Option<(Addresses, &[u8])> {
    let (source, rest) = payload.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    ports(IpAddr::from(*source), IpAddr::from(*destination), rest)
}

fn ports(source: IpAddr, destination: IpAddr, rest: &[u8]) -> Option<(Addresses, &[u8])> {
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, rest) = rest.split_first_chunk::<2>()?;
    let addresses = Addresses {
        source: SocketAddr::new(source, u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(destination, u16::from_be_bytes(*destination_port)),
    };
    Some((addresses, rest))
}

/// The TLVs of a header: type and value.
#[derive(Clone, Copy, Debug)]
pub struct Tlvs<'a>(pub &'a [u8]);

impl<'a> Iterator for Tlvs<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[kind, high, low], rest) = self.0.split_first_chunk::<3>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        self.0 = rest;
        Some((kind, value))
    }
}

fn tlvs_are_whole(tlvs: &[u8]) -> bool {
    let mut left = Tlvs(tlvs);
    while left.next().is_some() {}
    left.0.is_empty()
}

/// Checks the CRC-32C of the whole header, if it has one: its own four bytes count as zeros.
fn checksum_fits(whole: &[u8], tlvs: &[u8]) -> bool {
    let mut at = whole.len() - tlvs.len();
    for (kind, value) in Tlvs(tlvs) {
        let from = at + 3;
        at = from + value.len();
        if kind != CRC32C {
            continue;
        }
        let Ok(expected) = <[u8; 4]>::try_from(value) else { return false };
        let bytes = whole.iter().enumerate().map(|(i, byte)| if (from..at).contains(&i) { 0 } else { *byte });
        if crc32c(bytes) != u32::from_be_bytes(expected) {
            return false;
        }
    }
    true
}

/// CRC-32C (RFC 9260 appendix A), bit by bit: a header is short.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// Writes a header of version 2 about a client's connection. IPv4 and IPv6 mixed become IPv6.
pub fn encode_v2(addresses: &Addresses) -> Vec<u8> {
    let Addresses { source, destination } = addresses;
    let mut header = V2_SIGNATURE.to_vec();
    header.push(0x21);
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            header.extend_from_slice(&[TCP_OVER_IPV4, 0, 12]);
            header.extend_from_slice(&source.octets());
            header.extend_from_slice(&destination.octets());
        }
        (source, destination) => {
            let v6 = |ip: IpAddr| match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            header.extend_from_slice(&[TCP_OVER_IPV6, 0, 36]);
            header.extend_from_slice(&v6(source).octets());
            header.extend_from_slice(&v6(destination).octets());
        }
    }
    header.extend_from_slice(&source.port().to_be_bytes());
    header.extend_from_slice(&destination.port().to_be_bytes());
    header
}

/// A header of version 2 for a connection of our own, such as a health check.
pub const LOCAL_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

const V1_SIGNATURE: &[u8] = b"PROXY ";
/// "PROXY UNKNOWN" with the longest addresses, CR and LF included.
const V1_MAX: usize = 107;
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length.
const V2_HEAD: usize = 16;
const UNSPEC: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
const UNIX_BYTES: usize = 216;
const CRC32C: u8 = 0x03;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(source: &str, destination: &str) -> Option<Addresses> {
        Some(Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    #[test]
    fn lines_of_version_1() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.7 203.0.113.1 56324 443\r\n", at("192.0.2.7:56324", "203.0.113.1:443")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n", at("[2001:db8::7]:1", "[2001:db8::1]:65535")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
        ] {
            let bytes = [line.as_bytes(), b"GET / HTTP/1.1\r\n"].concat();
            let header = Header { version: 1, addresses: expected, tlvs: &[] };
            assert_eq!(scan(&bytes), Scan::Complete(header, line.len()), "{line}");
            for end in 0..line.len() {
                assert_eq!(scan(&bytes[..end]), Scan::Partial, "{line} cut at {end}");
            }
        }
    }

    #[test]
    fn what_is_almost_version_1() {
        for line in [
            "PROXY TCP4 192.0.2.7 203.0.113.1 56324\r\n",
            "PROXY TCP4 192.0.2.7 203.0.113.1 56324 443 \r\n",
            "PROXY TCP4  192.0.2.7 203.0.113.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.7 203.0.113.1 56324 443\n",
            "PROXY TCP4 192.0.2.7 203.0.113.1 +5 443\r\n",
            "PROXY TCP4 192.0.2.7 203.0.113.1 05 443\r\n",
            "PROXY TCP4 192.0.2.7 203.0.113.1 65536 443\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 203.0.113.1 1 2\r\n",
            "PROXY UDP4 192.0.2.7 203.0.113.1 1 2\r\n",
            "PROXY tcp4 192.0.2.7 203.0.113.1 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(scan(line.as_bytes()), Scan::Refused(Refusal::Malformed), "{line}");
        }
        let endless = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
        assert_eq!(scan(&endless[..V1_MAX - 1]), Scan::Partial);
        assert_eq!(scan(&endless[..V1_MAX]), Scan::Refused(Refusal::Malformed));
        for other in ["GET / HTTP/1.1\r\n", "PROXX", "\x16\x03\x01", "\r\n\r\n\0\r\nQUIX", "proxy "] {
            assert_eq!(scan(other.as_bytes()), Scan::Refused(Refusal::Missing), "{other:?}");
        }
        assert_eq!(scan(b""), Scan::Partial);
    }

    /// A header of version 2.
    fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, payload].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 203, 0, 113, 1, 0xdc, 4, 1, 187];

    #[test]
    fn headers_of_version_2() {
        let v4 = at("192.0.2.7:56324", "203.0.113.1:443");
        let mut v6 = [0; 36];
        v6[..2].copy_from_slice(&[0x20, 0x01]);
        v6[31..].copy_from_slice(&[1, 0, 1, 0, 2]);
        let tlv = [2, 0, 3, b'a', b'.', b'b'];
        let with_tlv = [&V4[..], &tlv].concat();
        let unix = [&[0; UNIX_BYTES][..], &tlv].concat();
        for (name, bytes, addresses, tlvs) in [
            ("IPv4", v2(0x21, 0x11, &V4), v4, &[][..]),
            ("IPv4 with a TLV", v2(0x21, 0x11, &with_tlv), v4, &tlv),
            ("IPv6", v2(0x21, 0x21, &v6), at("[2001::]:1", "[::1]:2"), &[]),
            ("LOCAL", v2(0x20, 0x11, &V4), None, &[]),
            ("LOCAL with anything", v2(0x20, 0x77, b"anything"), None, &[]),
            ("UNSPEC", v2(0x21, 0x00, b"anything"), None, &[]),
            ("UNIX", v2(0x21, 0x31, &unix), None, &tlv),
            ("our own LOCAL", LOCAL_V2.to_vec(), None, &[]),
        ] {
            let whole = [&bytes[..], b"\x16\x03\x01"].concat();
            let header = Header { version: 2, addresses, tlvs };
            assert_eq!(scan(&whole), Scan::Complete(header, bytes.len()), "{name}");
            for end in 0..bytes.len() {
                assert_eq!(scan(&whole[..end]), Scan::Partial, "{name} cut at {end}");
            }
        }
    }

    #[test]
    fn what_is_almost_version_2() {
        let cut_tlv = [&V4[..], &[2, 0, 9, 1]].concat();
        let half_tlv = [&V4[..], &[2, 0]].concat();
        for (name, bytes) in [
            ("version 1", v2(0x11, 0x11, &V4)),
            ("another command", v2(0x22, 0x11, &V4)),
            ("a datagram", v2(0x21, 0x12, &V4)),
            ("another family", v2(0x21, 0x41, &V4)),
            ("too short for IPv4", v2(0x21, 0x11, &V4[..11])),
            ("too short for IPv6", v2(0x21, 0x21, &[0; 35])),
            ("a TLV beyond its end", v2(0x21, 0x11, &cut_tlv)),
            ("half a TLV", v2(0x21, 0x11, &half_tlv)),
        ] {
            assert_eq!(scan(&bytes), Scan::Refused(Refusal::Malformed), "{name}");
        }
        let largest = v2(0x20, 0, &[0; HEADER_MAX - V2_HEAD]);
        assert!(matches!(scan(&largest), Scan::Complete(_, HEADER_MAX)));
        let larger = v2(0x21, 0x11, &[0; HEADER_MAX - V2_HEAD + 1]);
        assert_eq!(scan(&larger[..V2_HEAD]), Scan::Refused(Refusal::TooLarge), "nobody waits for its end");
    }

    #[test]
    fn a_checksum_is_checked() {
        // RFC 9260 has none; this is the check value of CRC-32C.
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
        let payload = [&V4[..], &[2, 0, 1, b'a', CRC32C, 0, 4, 0, 0, 0, 0]].concat();
        let mut bytes = v2(0x21, 0x11, &payload);
        let sum = crc32c(bytes.iter().copied()).to_be_bytes();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&sum);
        assert!(matches!(scan(&bytes), Scan::Complete(..)));
        bytes[V2_HEAD] ^= 1;
        assert_eq!(scan(&bytes), Scan::Refused(Refusal::Malformed));
        let short = [&V4[..], &[CRC32C, 0, 2, 0, 0]].concat();
        assert_eq!(scan(&v2(0x21, 0x11, &short)), Scan::Refused(Refusal::Malformed));
    }

    fn address() -> impl Strategy<Value = SocketAddr> {
        let ip =
            prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
        (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(source in address(), destination in address(), behind in any::<Vec<u8>>()) {
            let addresses = Addresses { source, destination };
            let header = encode_v2(&addresses);
            let bytes = [&header[..], &behind].concat();
            let Scan::Complete(read, length) = scan(&bytes) else { panic!("{:?}", scan(&bytes)) };
            prop_assert_eq!((length, read.version, read.tlvs.len()), (header.len(), 2, 0));
            let read = read.addresses.unwrap();
            let canonical = |a: SocketAddr| (a.ip().to_canonical(), a.port());
            prop_assert_eq!(canonical(read.source), canonical(source));
            prop_assert_eq!(canonical(read.destination), canonical(destination));
        }

        #[test]
        fn any_bytes_are_survived_and_pieces_change_nothing(
            begin in 0usize..4, command in any::<u8>(), family in prop_oneof![Just(0x11u8), Just(0x21), any::<u8>()],
            length in 0u16..600, bytes in proptest::collection::vec(any::<u8>(), 0..700)
        ) {
            let head = match begin {
                0 => Vec::new(),
                1 => b"PROXY TCP4 ".to_vec(),
                2 => V2_SIGNATURE.to_vec(),
                _ => {
                    let [high, low] = length.to_be_bytes();
                    [V2_SIGNATURE, &[0x20 | command & 1, family, high, low]].concat()
                }
            };
            let bytes = [head, bytes].concat();
            let mut found = None;
            for end in 0..=bytes.len() {
                match scan(&bytes[..end]) {
                    Scan::Partial => prop_assert!(found.is_none() && end < HEADER_MAX),
                    Scan::Complete(header, length) => {
                        prop_assert!(length <= end && length <= HEADER_MAX && header.tlvs.len() < length);
                        let now = Scan::Complete(header, length);
                        prop_assert!(*found.get_or_insert(now) == now);
                    }
                    refused @ Scan::Refused(_) => prop_assert!(*found.get_or_insert(refused) == refused),
                }
            }
        }
    }
}
