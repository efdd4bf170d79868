//! Headers that this edge writes, and those of clients that it never lets through.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};

use super::route::{Goes, Values};
use crate::config::settings::HeaderEdits;

use super::forwarded::{self, Via};
use crate::config::settings::Name;
use crate::wire::http_head::{self, Refusal};

/// Client copies of what only an edge may say: dropped on entry, whatever stands in them.
const OURS: &[&str] = &[
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "forwarded",
    "x-room",
    "x-group",
    "x-sticktoken",
    "x-sticktokenflag",
    "x-proxy-region",
    "x-proxy-host",
    "x-request-id",
];

/// What this edge says about where a request came from.
pub(super) struct Origin<'a> {
    /// Who connected; behind a PROXY header, its client.
    pub(super) peer: SocketAddr,
    /// What a trusted peer said of the request.
    pub(super) via: Option<&'a Via>,
    /// Whether it came over TLS.
    pub(super) tls: bool,
    /// `Host` or `:authority` as the client wrote it.
    pub(super) host: &'a [u8],
    /// The request's id.
    pub(super) id: &'a str,
}

/// Drops what clients may not say and adds `X-Forwarded-For`, `-Proto`, `-Host`, `Forwarded` (RFC 7239) and
/// `X-Request-Id`. What a trusted peer said of these is kept, and the peer added to it.
pub(super) fn rewrite(request: &mut RequestHeader, origin: &Origin<'_>) -> pingora::Result<()> {
    for name in forged(&request.headers) {
        request.remove_header(&name);
    }
    let peer = origin.peer.ip();
    let chain = origin.via.map_or(&[][..], |via| &via.chain);
    let tls = origin.via.and_then(|via| via.tls).unwrap_or(origin.tls);
    let host = origin.via.and_then(|via| via.host.as_deref()).unwrap_or(origin.host);
    request.insert_header("X-Forwarded-For", forwarded::x_forwarded_for(chain, peer))?;
    request.insert_header("X-Forwarded-Proto", if tls { "https" } else { "http" })?;
    if let Ok(forwarded) = HeaderValue::from_bytes(&forwarded::forwarded(chain, peer, tls, host)) {
        request.insert_header("Forwarded", forwarded)?;
    }
    request.insert_header("X-Request-Id", origin.id)?;
    if let Ok(host) = HeaderValue::from_bytes(host)
        && !host.is_empty()
    {
        request.insert_header("X-Forwarded-Host", host)?;
    }
    Ok(())
}

/// Tells a node who the client is, in the headers that sites of this edge use for that. What the client wrote there is
/// dropped, whatever site it asks for.
pub(super) fn identify(
    request: &mut RequestHeader,
    client_headers: &[Name],
    own: Option<(&str, &HeaderValue)>,
) -> pingora::Result<()> {
    if client_headers.is_empty() {
        return Ok(());
    }
    let is_client = |name: &str| client_headers.iter().any(|header| looks_like(name, header));
    let forged: Vec<HeaderName> =
        request.headers.keys().filter(|name| is_client(name.as_str())).cloned().collect();
    for name in forged {
        request.remove_header(&name);
    }
    if let Some((name, subject)) = own {
        request.insert_header(name.to_owned(), subject.clone())?;
    }
    Ok(())
}

/// Tells whether some server may read one name as the other: some take `X_Room` for `X-Room`.
fn looks_like(name: &str, header: &str) -> bool {
    let plain = |b: u8| if b == b'_' { b'-' } else { b };
    name.len() == header.len() && name.bytes().zip(header.bytes()).all(|(a, b)| plain(a) == plain(b))
}

/// Changes the headers of a request or of an answer as a route says. A value that no header can carry is left out.
pub(super) fn edit(headers: &mut impl Edited, edits: &HeaderEdits, values: &Values<'_>) {
    let HeaderEdits { remove, set, add, default } = edits;
    let value = |template| HeaderValue::from_str(&values.expand(template, Goes::Header)).ok();
    for name in remove {
        headers.take_away(name);
    }
    for (name, template) in set {
        match value(template) {
            Some(value) if !value.is_empty() => headers.put(name, value),
            Some(_) | None => headers.take_away(name),
        }
    }
    for (name, value) in add.iter().filter_map(|(name, template)| Some((name, value(template)?))) {
        headers.put_beside(name, value);
    }
    for (name, template) in default {
        if !headers.has(name)
            && let Some(value) = value(template).filter(|value| !value.is_empty())
        {
            headers.put(name, value);
        }
    }
}

/// Pingora's two heads, which share no trait of their own.
pub(super) trait Edited {
    fn has(&self, name: &HeaderName) -> bool;
    fn take_away(&mut self, name: &HeaderName);
    fn put(&mut self, name: &HeaderName, value: HeaderValue);
    fn put_beside(&mut self, name: &HeaderName, value: HeaderValue);
}

macro_rules! edited {
    ($head:ty) => {
        impl Edited for $head {
            fn has(&self, name: &HeaderName) -> bool {
                self.headers.contains_key(name)
            }
            fn take_away(&mut self, name: &HeaderName) {
                self.remove_header(name);
            }
            fn put(&mut self, name: &HeaderName, value: HeaderValue) {
                // Name and value are legal: only their number has a bound.
                let _ = self.insert_header(name.clone(), value);
            }
            fn put_beside(&mut self, name: &HeaderName, value: HeaderValue) {
                let _ = self.append_header(name.clone(), value);
            }
        }
    };
}
edited!(RequestHeader);
edited!(ResponseHeader);

/// Returns how long a head is, or would be as HTTP/1.1 text.
pub(super) fn head_bytes(request: &RequestHeader) -> usize {
    const LINE: usize = " HTTP/1.1\r\n".len() + " ".len();
    const FIELD: usize = ": \r\n".len();
    let line = request.method.as_str().len() + request.raw_path().len() + LINE;
    let host = request.uri.authority().map_or(0, |a| "host".len() + FIELD + a.as_str().len());
    let fields = request.headers.iter().map(|(name, value)| name.as_str().len() + FIELD + value.len());
    line + host + fields.sum::<usize>() + "\r\n".len()
}

/// Checks what the HTTP/2 codec lets through and HTTP/1 would not: the same things are refused on both.
pub(super) fn check_http2(method: &[u8], path: &[u8], fields: usize) -> Result<(), Refusal> {
    http_head::check_target(method, path, None)?;
    // Absolute-form passes the check; on HTTP/2 a path is a path (RFC 9113 section 8.3.1).
    if !path.starts_with(b"/") && path != b"*" {
        return Err(Refusal::Target);
    }
    if fields > http_head::HEADERS_MAX {
        return Err(Refusal::TooManyHeaders);
    }
    Ok(())
}

/// Makes one field of several `Cookie` fields, as HTTP/2 clients send them (RFC 9113 section 8.2.3): rules and nodes
/// know one.
pub(super) fn join_cookies(request: &mut RequestHeader) {
    let mut cookies = request.headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    // Parts of legal values make a legal value.
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        let _ = request.insert_header(header::COOKIE, joined);
    }
}

/// Finds headers that look like ours to somebody: some servers read `X_Room` and `X-Room` as one.
fn forged(headers: &HeaderMap) -> Vec<HeaderName> {
    let is_ours = |name: &str| {
        OURS.contains(&name) || (name.contains('_') && OURS.contains(&name.replace('_', "-").as_str()))
    };
    headers.keys().filter(|name| is_ours(name.as_str())).cloned().collect()
}

/// Tells whether a client takes an encoding, by its own word (RFC 9110 section 12.5.3); `*` is not heard.
pub(super) fn takes_encoding(headers: &HeaderMap, encoding: &str) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| {
        let (name, weight) = item.split_once(';').unwrap_or((item, ""));
        let none = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
        !none && name.trim().eq_ignore_ascii_case(encoding)
    })
}

/// Tells whether a header speaks about one connection only (RFC 9110 section 7.6.1), by its lower-case name.
pub(super) fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Returns a whole HTTP/1.1 answer of plain text after which the connection closes.
pub(super) fn plain_answer(status: u16, text: &str) -> Vec<u8> {
    let reason = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Error");
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}\n",
        text.len() + 1
    )
    .into_bytes()
}

/// Returns the host that a request is for, as the client wrote it: `:authority`, else `Host`.
pub(super) fn host_of(request: &RequestHeader) -> &[u8] {
    request
        .uri
        .authority()
        .map(|a| a.as_str().as_bytes())
        .unwrap_or_else(|| request.headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_copies_of_our_headers_are_replaced() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for name in OURS.iter().copied().chain(["X_Room", "X_Forwarded-For", "X-Other", "Cookie"]) {
            request.append_header(name.to_owned(), "forged").unwrap();
        }
        let origin = Origin {
            peer: "192.0.2.7:1".parse().unwrap(),
            via: None,
            tls: true,
            host: b"meet.example",
            id: "abc",
        };
        rewrite(&mut request, &origin).unwrap();
        let mut left: Vec<(String, String)> = request
            .headers
            .iter()
            .map(|(n, v)| (n.as_str().to_owned(), v.to_str().unwrap().to_owned()))
            .collect();
        left.sort();
        let expected = [
            ("cookie", "forged"),
            ("forwarded", "for=192.0.2.7;host=meet.example;proto=https"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-host", "meet.example"),
            ("x-forwarded-proto", "https"),
            ("x-other", "forged"),
            ("x-request-id", "abc"),
        ];
        assert_eq!(left, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn only_this_edge_says_who_a_client_is() {
        let headers = [Name::from("x-client-subject"), Name::from("x_who")];
        let subject = HeaderValue::from_static("CN=alice");
        for own in [None, Some(("x-client-subject", &subject))] {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            for name in ["X-Client-Subject", "X_Client-Subject", "X-Who", "X-Whom"] {
                request.append_header(name, "CN=admin").unwrap();
            }
            identify(&mut request, &headers, own).unwrap();
            assert_eq!(request.headers.get("x-client-subject"), own.map(|(_, subject)| subject));
            assert_eq!(request.headers.len(), 1 + usize::from(own.is_some()), "{:?}", request.headers);
        }
    }

    #[test]
    fn a_head_is_as_long_as_its_text() {
        let mut request = RequestHeader::build("GET", b"/a?b=c", None).unwrap();
        request.append_header("host", "meet.example").unwrap();
        request.append_header("x-a", "").unwrap();
        assert_eq!(head_bytes(&request), "GET /a?b=c HTTP/1.1\r\nhost: meet.example\r\nx-a: \r\n\r\n".len());
    }

    #[test]
    fn several_cookie_fields_become_one() {
        for (fields, expected) in [
            (&[][..], None),
            (&["a=1; b=2"], Some("a=1; b=2")),
            (&["a=1", "b=2", "c=3"], Some("a=1; b=2; c=3")),
        ] {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            for field in fields {
                request.append_header("cookie", *field).unwrap();
            }
            join_cookies(&mut request);
            let left: Vec<_> =
                request.headers.get_all("cookie").iter().map(|v| v.to_str().unwrap()).collect();
            assert_eq!(left, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn over_http2_a_head_obeys_the_rules_of_http1() {
        for (method, path, fields, expected) in [
            ("GET", "/a?b=c", 1, Ok(())),
            ("OPTIONS", "*", 1, Ok(())),
            ("GET", "*", 1, Err(Refusal::Target)),
            ("GET", "/a b", 1, Err(Refusal::Target)),
            ("GET", "/a\\b", 1, Err(Refusal::Target)),
            ("GET", "a", 1, Err(Refusal::Target)),
            ("GET", "", 1, Err(Refusal::Target)),
            ("GET", "http://a/", 1, Err(Refusal::Target)),
            ("CONNECT", "/", 1, Err(Refusal::Connect)),
            ("GET", "/", http_head::HEADERS_MAX, Ok(())),
            ("GET", "/", http_head::HEADERS_MAX + 1, Err(Refusal::TooManyHeaders)),
        ] {
            assert_eq!(check_http2(method.as_bytes(), path.as_bytes(), fields), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_plain_answer_counts_its_bytes() {
        let text = String::from_utf8(plain_answer(431, "too large")).unwrap();
        assert!(text.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{text}");
        assert!(text.contains("Content-Length: 10\r\n") && text.ends_with("\r\n\r\ntoo large\n"), "{text}");
    }
}
