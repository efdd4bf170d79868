//! Pure: who the client is when the connection comes from a proxy that is trusted, and what nodes are told of it.
//!
//! A trusted proxy says from where it got a request, in `X-Forwarded-For` or, without that, in `Forwarded` (RFC 7239).
//! The chain is read from the right: as long as an address is a trusted one, the next one left of it is believed; the
//! first that is not trusted is the client. What is malformed ends the chain: nothing left of it counts or is passed on.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::config::settings::IpNet;
use crate::wire::http_head::{host_name, is_token_byte};

/// Addresses of a chain that are looked at, from the right; what is left of them is cut off.
const CHAIN_MAX: usize = 32;

/// What a trusted peer said about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Via {
    /// The client: the rightmost address that is not trusted; without one, the leftmost.
    pub(super) client: SocketAddr,
    /// The chain as far as it is well formed, in the order of the header, without the peer itself.
    pub(super) chain: Vec<IpAddr>,
    /// How the client came to the outermost proxy, if that was said: over TLS or not.
    pub(super) tls: Option<bool>,
    /// Which host the client asked for, if that was said.
    pub(super) host: Option<Vec<u8>>,
}

/// Returns the name that a trusted peer gave a request, so that one name leads through the logs of both. One that is no
/// plain word of up to 128 bytes is passed over.
pub(super) fn request_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.:+/=@~".contains(&b);
    ((1..=128).contains(&id.len()) && id.bytes().all(legal)).then_some(id)
}

/// Reads what a peer says about a request; `None`: the peer is not trusted, and whatever it says does not count.
pub(super) fn via(headers: &HeaderMap, peer: SocketAddr, trusted: &[IpNet]) -> Option<Via> {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(&ip));
    if !is_trusted(peer.ip()) {
        return None;
    }
    let mut via = Via { client: peer, chain: Vec::new(), tls: None, host: None };
    let mut found = false;
    let mut hop = |node: Option<IpAddr>, via: &mut Via| -> bool {
        let Some(ip) = node else { return false };
        let client = !found;
        if client {
            via.client = SocketAddr::new(ip, 0);
            found = !is_trusted(ip);
        }
        via.chain.push(ip);
        client
    };
    if headers.contains_key(X_FORWARDED_FOR) {
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let words = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        for word in words.take(CHAIN_MAX) {
            let node = std::str::from_utf8(word).ok().and_then(|word| node(word.trim_matches([' ', '\t'])));
            if node.is_none() {
                break;
            }
            hop(node, &mut via);
        }
        via.tls = last(headers, X_FORWARDED_PROTO).and_then(is_tls);
        via.host =
            last(headers, X_FORWARDED_HOST).filter(|host| host_name(host).is_some()).map(<[u8]>::to_vec);
    } else {
        'lines: for line in headers.get_all(http::header::FORWARDED).iter().rev() {
            let Some(elements) = elements(line.as_bytes()) else { break };
            for element in elements.into_iter().rev() {
                if element.node.is_none() || via.chain.len() == CHAIN_MAX {
                    break 'lines;
                }
                // Of the client's own hop: what stands further left, the client may have written itself.
                if hop(element.node, &mut via) {
                    via.tls = element.tls;
                    via.host = element.host;
                }
            }
        }
    }
    via.chain.reverse();
    Some(via)
}

/// The last item of a list header.
fn last<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let line = headers.get_all(name).iter().next_back()?.as_bytes();
    line.rsplit(|byte| *byte == b',').next().map(<[u8]>::trim_ascii)
}

fn is_tls(proto: &[u8]) -> Option<bool> {
    // Some proxies name WebSockets by their own schemes.
    if proto.eq_ignore_ascii_case(b"https") || proto.eq_ignore_ascii_case(b"wss") {
        Some(true)
    } else if proto.eq_ignore_ascii_case(b"http") || proto.eq_ignore_ascii_case(b"ws") {
        Some(false)
    } else {
        None
    }
}

/// Reads an address, with a port or without: `192.0.2.7:1234`, `2001:db8::7`, `[2001:db8::7]:1234`.
fn node(text: &str) -> Option<IpAddr> {
    let ip = match (text.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
        (Ok(ip), _) => ip,
        (Err(_), Ok(address)) => address.ip(),
        (Err(_), Err(_)) => text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok()?,
    };
    Some(ip.to_canonical())
}

/// One hop of a `Forwarded` header.
#[derive(Debug, Default, PartialEq, Eq)]
struct Element {
    /// `None`: unknown, hidden, or not said.
    node: Option<IpAddr>,
    tls: Option<bool>,
    host: Option<Vec<u8>>,
}

/// Reads the last [`CHAIN_MAX`] elements of one line; `None`: the line is malformed (RFC 7239 section 4).
fn elements(line: &[u8]) -> Option<VecDeque<Element>> {
    let mut elements = VecDeque::new();
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        let mut element = Element::default();
        loop {
            rest = rest.trim_ascii_start();
            if !matches!(rest.first(), None | Some(b',' | b';')) {
                rest = pair(rest, &mut element)?.trim_ascii_start();
            }
            match rest.split_first() {
                Some((b';', after)) => rest = after,
                Some((b',', after)) => {
                    rest = after;
                    break;
                }
                Some(_) => return None,
                None => break,
            }
        }
        if elements.len() == CHAIN_MAX {
            elements.pop_front();
        }
        elements.push_back(element);
    }
    Some(elements)
}

/// Reads `name=value` and returns what follows.
fn pair<'l>(rest: &'l [u8], element: &mut Element) -> Option<&'l [u8]> {
    let end = rest.iter().position(|byte| !is_token_byte(*byte))?;
    let (name, after) = rest.split_at_checked(end)?;
    let after = after.strip_prefix(b"=")?;
    let (value, after) = value(after)?;
    if name.eq_ignore_ascii_case(b"for") {
        element.node = std::str::from_utf8(&value).ok().and_then(node);
    } else if name.eq_ignore_ascii_case(b"proto") {
        element.tls = is_tls(&value);
    } else if name.eq_ignore_ascii_case(b"host") {
        element.host = host_name(&value).map(|_| value);
    } else if name.is_empty() {
        return None;
    }
    Some(after)
}

/// Reads a token or a quoted string (RFC 9110 section 5.6.4) and returns what follows.
fn value(rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(mut quoted) = rest.strip_prefix(b"\"") else {
        let end = rest.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(rest.len());
        let (token, after) = rest.split_at_checked(end)?;
        return (!token.is_empty()).then(|| (token.to_vec(), after));
    };
    let mut value = Vec::new();
    loop {
        match quoted {
            [b'"', after @ ..] => return Some((value, after)),
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                value.push(*byte);
                quoted = after;
            }
            [] => return None,
        }
    }
}

/// Writes `X-Forwarded-For`: the chain, then the peer.
pub(super) fn x_forwarded_for(chain: &[IpAddr], peer: IpAddr) -> String {
    if chain.is_empty() {
        return peer.to_string();
    }
    let hops = chain.iter().chain([&peer]).map(IpAddr::to_string);
    hops.collect::<Vec<_>>().join(", ")
}

/// Writes `Forwarded`: the chain, then the peer. Host and protocol are those that the client used, so they stand with
/// the first hop.
pub(super) fn forwarded(chain: &[IpAddr], peer: IpAddr, tls: bool, host: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(96);
    for (i, hop) in chain.iter().chain([&peer]).enumerate() {
        if i > 0 {
            text.extend_from_slice(b", ");
        }
        match hop {
            IpAddr::V4(v4) => text.extend_from_slice(format!("for={v4}").as_bytes()),
            IpAddr::V6(v6) => text.extend_from_slice(format!("for=\"[{v6}]\"").as_bytes()),
        }
        if i > 0 {
            continue;
        }
        if !host.is_empty() {
            text.extend_from_slice(b";host=");
            quote(&mut text, host);
        }
        text.extend_from_slice(if tls { b";proto=https" } else { b";proto=http" });
    }
    text
}

fn quote(text: &mut Vec<u8>, value: &[u8]) {
    if value.iter().all(|byte| is_token_byte(*byte)) {
        return text.extend_from_slice(value);
    }
    text.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text.push(b'"');
}

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";
const X_FORWARDED_HOST: &str = "x-forwarded-host";

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn networks() -> Vec<IpNet> {
        ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).into()
    }

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn read(peer: &str, lines: &[(&str, &str)]) -> Option<(String, String)> {
        let via = via(&headers(lines), SocketAddr::new(peer.parse().unwrap(), 7), &networks())?;
        Some((via.client.ip().to_string(), x_forwarded_for(&via.chain, peer.parse().unwrap())))
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_trusted() {
        const XFF: &str = "X-Forwarded-For";
        for (peer, lines, expected) in [
            ("192.0.2.1", &[(XFF, "203.0.113.9")][..], None),
            ("10.0.0.1", &[], Some(("10.0.0.1", "10.0.0.1"))),
            ("10.0.0.1", &[(XFF, "203.0.113.9")], Some(("203.0.113.9", "203.0.113.9, 10.0.0.1"))),
            (
                "10.0.0.1",
                &[(XFF, "1.1.1.1, 203.0.113.9")],
                Some(("203.0.113.9", "1.1.1.1, 203.0.113.9, 10.0.0.1")),
            ),
            (
                "10.0.0.1",
                &[(XFF, "1.1.1.1,203.0.113.9 ,\t10.2.2.2")],
                Some(("203.0.113.9", "1.1.1.1, 203.0.113.9, 10.2.2.2, 10.0.0.1")),
            ),
            (
                "10.0.0.1",
                &[(XFF, "203.0.113.9"), (XFF, "10.2.2.2")],
                Some(("203.0.113.9", "203.0.113.9, 10.2.2.2, 10.0.0.1")),
            ),
            ("10.0.0.1", &[(XFF, "10.3.3.3, 10.2.2.2")], Some(("10.3.3.3", "10.3.3.3, 10.2.2.2, 10.0.0.1"))),
            // Malformed: it stops there, and nobody is told the rest.
            (
                "10.0.0.1",
                &[(XFF, "203.0.113.9, unknown, 10.2.2.2")],
                Some(("10.2.2.2", "10.2.2.2, 10.0.0.1")),
            ),
            ("10.0.0.1", &[(XFF, "bad, 203.0.113.9")], Some(("203.0.113.9", "203.0.113.9, 10.0.0.1"))),
            ("10.0.0.1", &[(XFF, "203.0.113.9, ")], Some(("10.0.0.1", "10.0.0.1"))),
            ("10.0.0.1", &[(XFF, "203.0.113.9:443")], Some(("203.0.113.9", "203.0.113.9, 10.0.0.1"))),
            ("10.0.0.1", &[(XFF, "[2001:db8::9]:443")], Some(("2001:db8::9", "2001:db8::9, 10.0.0.1"))),
            ("fd00::1", &[(XFF, "2001:db8::9")], Some(("2001:db8::9", "2001:db8::9, fd00::1"))),
            ("10.0.0.1", &[(XFF, "::ffff:10.2.2.2")], Some(("10.2.2.2", "10.2.2.2, 10.0.0.1"))),
            ("10.0.0.1", &[("Forwarded", "for=203.0.113.9")], Some(("203.0.113.9", "203.0.113.9, 10.0.0.1"))),
            (
                "10.0.0.1",
                &[("Forwarded", "For=\"[2001:db8::9]:443\";by=10.2.2.2, for=10.2.2.2")],
                Some(("2001:db8::9", "2001:db8::9, 10.2.2.2, 10.0.0.1")),
            ),
            ("10.0.0.1", &[("Forwarded", "for=203.0.113.9, for=_hidden")], Some(("10.0.0.1", "10.0.0.1"))),
            ("10.0.0.1", &[("Forwarded", "for=203.0.113.9, for=\"10.2.2.2")], Some(("10.0.0.1", "10.0.0.1"))),
            // What a proxy that speaks the older header lets through is the client's own.
            (
                "10.0.0.1",
                &[("Forwarded", "for=1.1.1.1"), (XFF, "203.0.113.9")],
                Some(("203.0.113.9", "203.0.113.9, 10.0.0.1")),
            ),
        ] {
            let expected = expected.map(|(client, chain)| (client.to_owned(), chain.to_owned()));
            assert_eq!(read(peer, lines), expected, "{peer} {lines:?}");
        }
        let long = vec!["10.2.2.2"; 1000].join(", ");
        let (client, chain) = read("10.0.0.1", &[(XFF, &long)]).unwrap();
        assert_eq!((client.as_str(), chain.matches("10.2.2.2").count()), ("10.2.2.2", CHAIN_MAX));
        let long = vec!["for=10.2.2.2"; 1000].join(", ");
        assert_eq!(read("10.0.0.1", &[("Forwarded", &long)]).unwrap().1, chain);
    }

    #[test]
    fn protocol_and_host_are_those_of_the_clients_hop() {
        let said = |lines: &[(&str, &str)]| {
            let via = via(&headers(lines), "10.0.0.1:7".parse().unwrap(), &networks()).unwrap();
            (via.tls, via.host.map(|host| String::from_utf8(host).unwrap()))
        };
        let host = |host: &str| Some(host.to_owned());
        let xff = ("X-Forwarded-For", "203.0.113.9");
        for (lines, expected) in [
            (&[xff][..], (None, None)),
            (
                &[xff, ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "a.example:8443")],
                (Some(true), host("a.example:8443")),
            ),
            (&[xff, ("X-Forwarded-Proto", "https, HTTP"), ("X-Forwarded-Host", "b d")], (Some(false), None)),
            (&[xff, ("X-Forwarded-Proto", "wss"), ("Forwarded", "host=x")], (Some(true), None)),
            (&[xff, ("X-Forwarded-Proto", "gopher")], (None, None)),
            (
                &[(
                    "Forwarded",
                    "for=1.1.1.1;proto=http;host=evil, for=203.0.113.9;proto=https;host=\"a.example:1\", for=10.2.2.2;proto=http",
                )],
                (Some(true), host("a.example:1")),
            ),
        ] {
            assert_eq!(said(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_written_is_what_rfc_7239_knows() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (chain, peer, tls, host, expected) in [
            (&[][..], "192.0.2.7", true, "meet.example", "for=192.0.2.7;host=meet.example;proto=https"),
            (
                &[],
                "2001:db8::7",
                false,
                "meet.example:80",
                "for=\"[2001:db8::7]\";host=\"meet.example:80\";proto=http",
            ),
            (
                &["203.0.113.9", "10.2.2.2"],
                "10.0.0.1",
                true,
                "",
                "for=203.0.113.9;proto=https, for=10.2.2.2, for=10.0.0.1",
            ),
            (&[], "192.0.2.7", true, "a\"b\\c", "for=192.0.2.7;host=\"a\\\"b\\\\c\";proto=https"),
        ] {
            let chain: Vec<IpAddr> = chain.iter().map(|hop| ip(hop)).collect();
            let text = forwarded(&chain, ip(peer), tls, host.as_bytes());
            assert_eq!(String::from_utf8(text.clone()).unwrap(), expected);
            let elements = elements(&text).unwrap();
            let read: Vec<_> = elements.iter().filter_map(|element| element.node).collect();
            assert_eq!(read, [&chain[..], &[ip(peer)]].concat());
            assert_eq!(elements[0].tls, Some(tls));
        }
    }

    proptest! {
        #[test]
        fn any_header_is_survived_and_bounded(
            xff in proptest::option::of("[0-9a-f.:, \\[\\]x]{0,80}"),
            forwarded in proptest::collection::vec("([a-z]{0,5}=?\"?[0-9a-f.:\\[\\]]{0,12}\"?[;, ]{0,2}){0,8}|[ -~]{0,60}", 0..3)
        ) {
            let mut map = HeaderMap::new();
            if let Some(xff) = &xff {
                map.append(X_FORWARDED_FOR, HeaderValue::from_str(xff).unwrap());
            }
            for line in &forwarded {
                map.append(http::header::FORWARDED, HeaderValue::from_str(line).unwrap());
            }
            let peer = "10.0.0.1:7".parse().unwrap();
            let via = via(&map, peer, &networks()).unwrap();
            prop_assert!(via.chain.len() <= CHAIN_MAX);
            prop_assert!(via.client == peer || via.chain.contains(&via.client.ip()));
            prop_assert_eq!(super::via(&map, "192.0.2.1:7".parse().unwrap(), &networks()), None);
        }
    }
}
