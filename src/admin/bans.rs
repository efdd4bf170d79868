//! Reads a wish to ban somebody, or to end a ban, as it comes to `/api/v1/bans`.
//!
//! Pure: bytes in, a wish or one sentence for the operator out.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::view::AddBan;
use crate::config;

/// A ban's shortest and longest time.
const LASTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);
/// Characters of a reason.
const REASON_MAX: usize = 200;
/// Shortest prefixes: who means more people than that means something else.
const PREFIX_MIN: (u8, u8) = (8, 16);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    network: String,
    #[serde(default)]
    reason: String,
    #[serde(rename = "for")]
    lasts: String,
}

/// Reads the body of a `POST`.
///
/// # Errors
///
/// What is wrong, and the cure.
pub(super) fn read(body: &[u8]) -> Result<AddBan, String> {
    let body: Body = serde_json::from_slice(body).map_err(|error| format!("the body: {error}; {FORM}"))?;
    let network = network(&body.network)?;
    let shortest = if network.addr().is_ipv6() { PREFIX_MIN.1 } else { PREFIX_MIN.0 };
    if network.prefix_len() < shortest {
        return Err(format!("network: {network} is most of the world; a ban is for /{shortest} at most"));
    }
    let lasts = config::duration(&body.lasts).filter(|lasts| LASTS.contains(lasts));
    let lasts = lasts
        .ok_or_else(|| format!("for: {:?} is not a time from 1s to 365d, such as \"10m\"", body.lasts))?;
    if body.reason.chars().count() > REASON_MAX {
        return Err(format!("reason: longer than {REASON_MAX} characters"));
    }
    Ok(AddBan { network, reason: body.reason, lasts })
}

/// Reads the network of a `DELETE` from its query.
///
/// # Errors
///
/// What is wrong, and the cure.
pub(super) fn read_network(query: Option<&str>) -> Result<IpNet, String> {
    let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    match pairs.find(|(key, _)| key == "network") {
        Some((_, text)) => network(&text),
        None => Err("the query says nothing of who: ?network=192.0.2.7".to_owned()),
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical())));
    network
        .map(|network| network.trunc())
        .map_err(|_| format!("network: {text:?} is not an address or a network, such as \"192.0.2.0/24\""))
}

const FORM: &str =
    "{ \"network\": \"192.0.2.7\", \"for\": \"10m\", \"reason\": \"...\" }, the reason as wished";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_read() {
        for (body, network, reason, seconds) in [
            (r#"{"network":"192.0.2.7","for":"10m"}"#, "192.0.2.7/32", "", 600),
            (r#"{"network":"192.0.2.7/24","for":"1h","reason":"spam"}"#, "192.0.2.0/24", "spam", 3600),
            (r#"{"network":"2001:db8::/32","for":"1d"}"#, "2001:db8::/32", "", 86_400),
            (r#"{"network":"::ffff:192.0.2.7","for":"1s"}"#, "192.0.2.7/32", "", 1),
        ] {
            let wish = read(body.as_bytes()).unwrap_or_else(|wrong| panic!("{body}: {wrong}"));
            assert_eq!(wish.network.to_string(), network);
            assert_eq!((&*wish.reason, wish.lasts.as_secs()), (reason, seconds));
        }
        assert_eq!(read_network(Some("a=b&network=2001%3Adb8%3A%3A%2F32")).unwrap().prefix_len(), 32);
    }

    #[test]
    fn a_wrong_wish_is_named() {
        let long = format!(r#"{{"network":"192.0.2.7","for":"1m","reason":"{}"}}"#, "x".repeat(201));
        for (body, expected) in [
            ("", "the body: EOF"),
            (r#"{"network":"192.0.2.7"}"#, "the body: missing field `for`"),
            (r#"{"network":"192.0.2.7","for":"1m","who":"x"}"#, "the body: unknown field `who`"),
            (r#"{"network":"me","for":"1m"}"#, "network: \"me\" is not"),
            (r#"{"network":"0.0.0.0/0","for":"1m"}"#, "network: 0.0.0.0/0 is most"),
            (r#"{"network":"2001::/8","for":"1m"}"#, "network: 2000::/8 is most"),
            (r#"{"network":"192.0.2.7","for":"ever"}"#, "for: \"ever\" is not"),
            (r#"{"network":"192.0.2.7","for":"0s"}"#, "for: \"0s\" is not"),
            (&long, "reason: longer than 200"),
        ] {
            let wrong = read(body.as_bytes()).unwrap_err();
            assert!(wrong.starts_with(expected), "{body}: {wrong}");
        }
        for query in [None, Some("limit=1"), Some("network=x")] {
            assert!(read_network(query).is_err(), "{query:?}");
        }
    }
}
