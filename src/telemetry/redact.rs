//! Keeps secrets and people out of log lines.
//!
//! Pure. Addresses of clients are personal data: log lines carry the network, not the host.

use std::borrow::Cow;
use std::net::IpAddr;

use percent_encoding::percent_decode;

/// Returns an address with its host part set to zero: /24 for IPv4, /48 for IPv6.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[3..].fill(0);
            IpAddr::from(segments)
        }
    }
}

/// Returns a request target with the values of secret query parameters replaced.
///
/// `token`, `jwt`, `access_token` and `pwd` are secret, in any case.
pub fn target(target: &str) -> String {
    String::from_utf8_lossy(&url(target.as_bytes(), SECRET)).into_owned()
}

/// Returns a URL or request target in which the value of each query parameter named in `secret` is `[redacted]`.
///
/// Names are compared without regard to case and after percent-decoding, as a server may read them. A parameter that
/// carries another URL with such a parameter in it (`next=https%3A%2F%2F...%3Ftoken%3D...`) loses its whole value.
pub fn url<'a>(url: &'a [u8], secret: &[impl AsRef<str>]) -> Cow<'a, [u8]> {
    let Some(start) = url.iter().position(|b| matches!(b, b'?' | b'#')) else { return Cow::Borrowed(url) };
    let (path, query) = url.split_at(start);
    let mut shown: Option<Vec<u8>> = None;
    let mut at = path.len();
    for piece in query.split_inclusive(|b| SEPARATORS.contains(b)) {
        // Each piece but the last ends with the separator that follows it.
        let separator = usize::from(piece.last().is_some_and(|b| SEPARATORS.contains(b)));
        let (pair, separator) = piece.split_at(piece.len() - separator);
        if tells(pair, secret, DECODED_MAX) {
            let out = shown.get_or_insert_with(|| url.get(..at).unwrap_or_default().to_vec());
            if let Some(equals) = pair.iter().position(|b| *b == b'=') {
                out.extend_from_slice(pair.get(..=equals).unwrap_or_default());
            }
            out.extend_from_slice(REDACTED);
            out.extend_from_slice(separator);
        } else if let Some(out) = &mut shown {
            out.extend_from_slice(piece);
        }
        at += piece.len();
    }
    shown.map_or(Cow::Borrowed(url), Cow::Owned)
}

/// Whether one `name=value` names a secret, or its value does once it is decoded.
fn tells(pair: &[u8], secret: &[impl AsRef<str>], depth: u8) -> bool {
    let is_secret = |name: &[u8]| {
        let name: Cow<'_, [u8]> = percent_decode(name).into();
        secret.iter().any(|secret| name.trim_ascii().eq_ignore_ascii_case(secret.as_ref().as_bytes()))
    };
    if let Some(equals) = pair.iter().position(|b| *b == b'=')
        && is_secret(pair.get(..equals).unwrap_or_default())
    {
        return true;
    }
    if depth == 0 || !pair.contains(&b'%') {
        return false;
    }
    let decoded: Cow<'_, [u8]> = percent_decode(pair).into();
    decoded.split(|b| SEPARATORS.contains(b) || *b == b'=').count() > 1
        && pieces(&decoded).any(|piece| tells(piece, secret, depth - 1))
}

/// The parts of a decoded value that could be `name=value` to somebody, each name right in front of its `=`.
fn pieces(decoded: &[u8]) -> impl Iterator<Item = &[u8]> {
    decoded.split(|b| SEPARATORS.contains(b)).flat_map(|part| {
        // `next=token=abc`: what follows the first `=` is looked at too.
        let behind = part.iter().position(|b| *b == b'=').and_then(|equals| part.get(equals + 1..));
        std::iter::once(part).chain(behind)
    })
}

const SECRET: &[&str] = &["token", "jwt", "access_token", "pwd"];
const SEPARATORS: &[u8] = b"?&;#";
const REDACTED: &[u8] = b"[redacted]";
/// How often a value is decoded in search of a URL within a URL.
const DECODED_MAX: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_a_query_are_replaced_and_nothing_else() {
        for (input, expected) in [
            ("/a", "/a"),
            ("/a?", "/a?"),
            ("/a?room=x", "/a?room=x"),
            ("/a?room=x&token=abc", "/a?room=x&token=[redacted]"),
            ("/a?token=abc&room=x", "/a?token=[redacted]&room=x"),
            ("/a?JWT=abc&b", "/a?JWT=[redacted]&b"),
            ("/a?token=a&token=b&&", "/a?token=[redacted]&token=[redacted]&&"),
            ("/a?%74oken=abc", "/a?%74oken=[redacted]"),
            ("/a?tokens=abc&mytoken=d", "/a?tokens=abc&mytoken=d"),
            ("/a?token", "/a?token"),
            ("/a?x=1?token=abc", "/a?x=1?token=[redacted]"),
            ("/a?x=1;jwt=abc", "/a?x=1;jwt=[redacted]"),
            ("/a#jwt=abc", "/a#jwt=[redacted]"),
            ("/a?token%3Dabc", "/a?[redacted]"),
            ("/a?next=https%3A%2F%2Fb%2F%3Fjwt%3Dabc&c=1", "/a?next=[redacted]&c=1"),
            ("/a?next=%252F%253Faccess_token%253Dabc", "/a?next=[redacted]"),
            ("/a?x=100%&y=%zz", "/a?x=100%&y=%zz"),
            ("https://a/b?token=x#c", "https://a/b?token=[redacted]#c"),
        ] {
            assert_eq!(target(input), expected);
        }
    }

    #[test]
    fn an_address_keeps_its_network_only() {
        for (input, expected) in [
            ("203.0.113.77", "203.0.113.0"),
            ("::ffff:203.0.113.77", "203.0.113.0"),
            ("2001:db8:1:2::3", "2001:db8:1::"),
        ] {
            assert_eq!(network(input.parse().unwrap()), expected.parse::<IpAddr>().unwrap());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_secret_survives_whatever_is_around_it(
            before in "[a-z0-9=&;?%#/.]{0,20}", name in "(token|JWT|access_token|%6Awt)",
            after in "[a-z0-9&;?#]{0,10}",
        ) {
            let input = format!("/p?{before}&{name}=SECRETVALUE&{after}");
            let shown = target(&input);
            proptest::prop_assert!(!shown.contains("SECRETVALUE"), "{input} became {shown}");
        }
    }
}
