//! Tells browsers which pages of other origins may read an answer (CORS; Fetch section 3.2).
//!
//! Pure. What the node says of it is replaced: two opinions in one answer are none to a browser.

use http::header::{self, HeaderName};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::config::settings::{Cors, Name};

/// Tells whether a request only asks what a page may do (Fetch section 3.2.2).
pub(super) fn is_preflight(request: &RequestHeader) -> bool {
    request.method == http::Method::OPTIONS
        && request.headers.contains_key(header::ORIGIN)
        && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Puts the headers of any answer in place.
pub(super) fn apply(
    cors: &Cors,
    request: &RequestHeader,
    response: &mut ResponseHeader,
) -> pingora::Result<()> {
    for name in THEIRS {
        response.remove_header(name);
    }
    if cors.origins.is_some() && !varies(response) {
        // Also of an answer that nobody else may read: a cache must not give it to one who may.
        response.append_header(header::VARY, "Origin")?;
    }
    let Some(allowed) = allowed(cors, request) else { return Ok(()) };
    response.insert_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed)?;
    if cors.credentials {
        response.insert_header(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true")?;
    }
    if !cors.expose.is_empty() {
        response.insert_header(header::ACCESS_CONTROL_EXPOSE_HEADERS, joined(&cors.expose))?;
    }
    Ok(())
}

/// Adds what only the answer to a preflight says. To an origin that is not let in it says nothing.
pub(super) fn answer_preflight(
    cors: &Cors,
    request: &RequestHeader,
    response: &mut ResponseHeader,
) -> pingora::Result<()> {
    if allowed(cors, request).is_none() {
        return Ok(());
    }
    let methods: Vec<&str> = cors.methods.iter().map(http::Method::as_str).collect();
    response.insert_header(header::ACCESS_CONTROL_ALLOW_METHODS, methods.join(", "))?;
    if !cors.headers.is_empty() {
        response.insert_header(header::ACCESS_CONTROL_ALLOW_HEADERS, joined(&cors.headers))?;
    }
    response.insert_header(header::ACCESS_CONTROL_MAX_AGE, cors.max_age.as_secs().to_string())?;
    Ok(())
}

/// The origin as the answer names it.
fn allowed<'c>(cors: &'c Cors, request: &RequestHeader) -> Option<&'c str> {
    let Some(origins) = &cors.origins else { return Some("*") };
    let origin = request.headers.get(header::ORIGIN)?.as_bytes();
    origins.iter().find(|known| known.as_bytes() == origin).map(|known| &**known)
}

fn varies(response: &ResponseHeader) -> bool {
    let values = response.headers.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok());
    let mut names = values.flat_map(|value| value.split(',')).map(str::trim);
    names.any(|name| name == "*" || name.eq_ignore_ascii_case("origin"))
}

fn joined(names: &[Name]) -> String {
    names.join(", ")
}

/// What a node may have said.
const THEIRS: &[HeaderName] = &[
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answered(cors: &Cors, origin: Option<&str>) -> Vec<String> {
        let mut request = RequestHeader::build("OPTIONS", b"/a", None).unwrap();
        if let Some(origin) = origin {
            request.insert_header("Origin", origin).unwrap();
        }
        let mut response = ResponseHeader::build(204, None).unwrap();
        response.insert_header("Access-Control-Allow-Origin", "https://the.node").unwrap();
        response.insert_header("Vary", "Accept-Encoding").unwrap();
        apply(cors, &request, &mut response).unwrap();
        answer_preflight(cors, &request, &mut response).unwrap();
        let lines = response.headers.iter();
        let mut lines: Vec<String> = lines.map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn an_origin_that_is_let_in_is_told_what_it_may_do_and_another_nothing() {
        let listed = Cors {
            origins: Some(vec!["https://a.example".into(), "https://b.example".into()]),
            methods: vec![http::Method::GET, http::Method::DELETE],
            headers: vec!["Authorization".into(), "X-A".into()],
            expose: vec!["X-B".into()],
            credentials: true,
            max_age: Duration::from_secs(60),
        };
        assert_eq!(
            answered(&listed, Some("https://b.example")),
            [
                "access-control-allow-credentials: true",
                "access-control-allow-headers: Authorization, X-A",
                "access-control-allow-methods: GET, DELETE",
                "access-control-allow-origin: https://b.example",
                "access-control-expose-headers: X-B",
                "access-control-max-age: 60",
                "vary: Accept-Encoding",
                "vary: Origin",
            ]
        );
        for origin in [None, Some("https://c.example"), Some("https://a.example.evil"), Some("null")] {
            assert_eq!(answered(&listed, origin), ["vary: Accept-Encoding", "vary: Origin"], "{origin:?}");
        }
        let any = Cors { origins: None, credentials: false, headers: vec![], expose: vec![], ..listed };
        assert_eq!(
            answered(&any, Some("null")),
            [
                "access-control-allow-methods: GET, DELETE",
                "access-control-allow-origin: *",
                "access-control-max-age: 60",
                "vary: Accept-Encoding",
            ]
        );
    }
}
