//! Which answers are compressed on their way to the client. The coding itself is Pingora's: gzip, Brotli, Zstandard.
//!
//! Only where a route says so: what a client sent beside what it may not know must not share a compressed answer (the
//! BREACH attack), and a compressor gathers what should be sent as it comes. So it is for files, not for polls.

use http::{HeaderMap, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::compression::ResponseCompression;
use pingora::proxy::Session;

use super::proxy::Request;

/// A middle way between time and size, for all three.
const LEVEL: u32 = 5;
/// Shorter answers are sent as they are.
const BYTES_MIN: u64 = 512;

/// Prepares the session of a request whose route compresses.
pub(super) fn prepare(session: &mut Session, ctx: &Request) {
    let wanted = ctx.matched.as_ref().is_some_and(|matched| matched.route.compress);
    if !wanted {
        return;
    }
    let request = session.req_header().clone();
    if let Some(module) = session.downstream_modules_ctx.get_mut::<ResponseCompression>()
        && module.is_header_phase()
    {
        module.adjust_level(LEVEL);
        module.request_filter(&request);
    }
}

/// Takes the compression back if this answer is none to be compressed. Comes before the head is written.
pub(super) fn reconsider(session: &mut Session, ctx: &Request, response: &ResponseHeader) {
    let wanted = ctx.matched.as_ref().is_some_and(|matched| matched.route.compress);
    if wanted
        && !is_worth_it(session.req_header(), response)
        && let Some(module) = session.downstream_modules_ctx.get_mut::<ResponseCompression>()
        && module.is_header_phase()
    {
        module.adjust_level(0);
    }
}

fn is_worth_it(request: &RequestHeader, response: &ResponseHeader) -> bool {
    let headers = &response.headers;
    let long = headers.get(header::CONTENT_LENGTH).is_none_or(|length| {
        length.to_str().ok().and_then(|l| l.parse().ok()).is_some_and(|l: u64| l >= BYTES_MIN)
    });
    let status = !matches!(
        response.status,
        StatusCode::PARTIAL_CONTENT
            | StatusCode::NOT_MODIFIED
            | StatusCode::NO_CONTENT
            | StatusCode::RANGE_NOT_SATISFIABLE
    );
    // HTTP/1.0 knows no chunks, and a compressed answer has no length.
    request.version != Version::HTTP_10
        && status
        && long
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && !says(headers, "no-transform")
        && text(headers, &header::CONTENT_TYPE).is_some_and(is_compressible)
}

/// What is text in one way or another. Pictures, sounds and archives are packed already.
fn is_compressible(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/") && essence != "text/event-stream"
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || TYPES.contains(&essence.as_str())
}

const TYPES: &[&str] = &[
    "application/javascript",
    "application/json",
    "application/wasm",
    "application/xml",
    "image/svg+xml",
    "image/x-icon",
    "image/vnd.microsoft.icon",
    "font/ttf",
    "font/otf",
];

fn says(headers: &HeaderMap, directive: &str) -> bool {
    let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(directive))
}

fn text<'h>(headers: &'h HeaderMap, name: &http::HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_worth_it_is_compressed() {
        let request = |version| {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request.set_version(version);
            request
        };
        let html = ("content-type", "text/html; charset=utf-8");
        let long = ("content-length", "512");
        for (status, lines, expected) in [
            (200, vec![html, long], true),
            (200, vec![html], true),
            (200, vec![html, ("content-length", "511")], false),
            (200, vec![("content-type", "image/png"), long], false),
            (200, vec![("content-type", "image/svg+xml"), long], true),
            (200, vec![("content-type", "application/wasm"), long], true),
            (200, vec![("content-type", "application/manifest+json"), long], true),
            (200, vec![("content-type", "text/event-stream")], false),
            (200, vec![long], false),
            (200, vec![html, long, ("content-encoding", "br")], false),
            (200, vec![html, long, ("cache-control", "public, No-Transform")], false),
            (206, vec![html, long, ("content-range", "bytes 0-511/9999")], false),
            (304, vec![html], false),
            (404, vec![html, long], true),
        ] {
            let mut response = ResponseHeader::build(status, None).unwrap();
            for (name, value) in &lines {
                response.append_header(*name, *value).unwrap();
            }
            assert_eq!(is_worth_it(&request(Version::HTTP_11), &response), expected, "{status} {lines:?}");
            assert!(!is_worth_it(&request(Version::HTTP_10), &response), "{status} {lines:?}");
        }
    }
}
