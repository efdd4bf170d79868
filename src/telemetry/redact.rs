//! Keeps secrets and people out of log lines.
//!
//! Pure. Addresses of clients are personal data: log lines carry the network, not the host.

use std::net::IpAddr;

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
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let parts: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if SECRET.iter().any(|s| name.eq_ignore_ascii_case(s)) => {
                format!("{name}=[redacted]")
            }
            Some(_) | None => pair.to_owned(),
        })
        .collect();
    format!("{path}?{}", parts.join("&"))
}

const SECRET: &[&str] = &["token", "jwt", "access_token", "pwd"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_a_query_are_replaced_and_nothing_else() {
        for (input, expected) in [
            ("/a", "/a"),
            ("/a?room=x", "/a?room=x"),
            ("/a?room=x&token=abc", "/a?room=x&token=[redacted]"),
            ("/a?JWT=abc&b", "/a?JWT=[redacted]&b"),
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
}
