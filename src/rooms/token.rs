//! Reads a claim of a bearer token (RFC 7519) to know which room a request is about.
//!
//! Pure. Nothing is verified: a client that lies about its room reaches another node, where its token is worth as much as
//! on the right one. What is no token, or too long, names no room.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;

use super::key::{RequestView, raw_parameter};
use crate::config::settings::MemberPath;

/// Finds the claim of a request's token: that of `Authorization: Bearer` (RFC 6750 section 2.1), else of the query
/// parameter `access_token` (section 2.3).
pub(super) fn claim(request: &RequestView<'_>, members: &MemberPath) -> Option<String> {
    members.find(&payload(&of(request)?)?)
}

/// Finds the token of a request.
pub fn of<'a>(request: &RequestView<'a>) -> Option<Cow<'a, str>> {
    match (request.header)("authorization").and_then(bearer) {
        Some(token) => Some(Cow::Borrowed(token)),
        None => percent_decode_str(raw_parameter(request, "access_token")?).decode_utf8().ok(),
    }
}

/// The scheme's name is case-insensitive (RFC 9110 section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The middle one of the three parts of a signed token (RFC 7515 section 7.1).
fn payload(token: &str) -> Option<Vec<u8>> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    URL_SAFE_NO_PAD.decode(payload).ok()
}

/// A longer token is not looked at.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    fn found(authorization: Option<&str>, query: Option<&str>) -> Option<String> {
        let header = |name: &str| authorization.filter(|_| name == "authorization");
        let request = RequestView { path: "/rtc", query, header: &header, text: &|_| None };
        claim(&request, &MemberPath::new("video.room").unwrap())
    }

    #[test]
    fn the_bearers_token_names_the_room() {
        let (a, b) = (token(r#"{"video":{"room":"Blue Room"}}"#), token(r#"{"video":{"room":7}}"#));
        let no = [
            token(r#"{"video":{"room":["x"]}}"#),
            token(r#"{"video":{}}"#),
            token(r#"{"video":"room"}"#),
            token("no json"),
            "e30.!!.x".to_owned(),
            format!("{a}.more"),
            "one.two".to_owned(),
            format!("e30.{}.x", "A".repeat(TOKEN_BYTES_MAX)),
        ];
        assert_eq!(found(Some(&format!("Bearer {a}")), None).as_deref(), Some("Blue Room"));
        assert_eq!(found(Some(&format!("bearer  {b} ")), Some("access_token=x")).as_deref(), Some("7"));
        assert_eq!(found(None, Some(&format!("x=1&access_token={a}"))).as_deref(), Some("Blue Room"));
        assert_eq!(found(Some("Basic eA"), Some(&format!("access_token={a}"))).as_deref(), Some("Blue Room"));
        for token in no {
            assert_eq!(found(Some(&format!("Bearer {token}")), None), None, "{token:.40}");
        }
        assert_eq!(found(None, None), None);
        // Deep nesting is refused by the parser, not followed.
        assert_eq!(found(Some(&format!("Bearer {}", token(&"[".repeat(4000)))), None), None);
    }

    proptest! {
        #[test]
        fn no_token_is_too_strange(authorization in ".{0,200}", query in "(access_token=)?[ -~]{0,200}", payload in ".{0,80}") {
            let _ = found(Some(&authorization), Some(&query));
            let _ = found(Some(&format!("Bearer {}", token(&payload))), None);
        }
    }
}
