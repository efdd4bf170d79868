//! Pure: the head of an HTTP/1 message (RFC 9112), checked as raw bytes before any parser acts on it.
//!
//! Two servers that read one message differently can be played against each other. So this file knows one reading
//! only: whatever has a second one is refused, and the connection with it. It never repairs a message.

use std::ops::Range;

/// Largest number of header lines; one more is [`Refusal::TooManyHeaders`].
pub const HEADERS_MAX: usize = 100;
/// Longest request target in bytes: what the types of the `http` crate hold. RFC 9110 section 4.1 asks for 8000 at least.
pub const TARGET_BYTES_MAX: usize = 65_534;

/// What was found at the front of the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The head is not whole yet.
    Partial,
    /// The head ends after this many bytes.
    Complete(usize),
    /// No more bytes can make it right.
    Refused(Refusal),
}

/// Looks for the end of a head while bytes arrive; each byte is looked at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    at: usize,
    line: usize,
}

impl HeadScan {
    /// Continues over `bytes`, which starts with everything seen before.
    pub fn advance(&mut self, bytes: &[u8]) -> Scan {
        while let Some(found) = bytes.get(self.at..).and_then(|rest| rest.iter().position(|b| *b == b'\n')) {
            let end = self.at + found;
            if end == 0 || bytes.get(end - 1) != Some(&b'\r') {
                return Scan::Refused(Refusal::BareLf);
            }
            let empty = end - 1 == self.line;
            self.at = end + 1;
            self.line = self.at;
            if empty {
                return Scan::Complete(self.at);
            }
        }
        self.at = bytes.len();
        Scan::Partial
    }
}

/// How the end of a message's body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A request head that has exactly one reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Minor version of HTTP/1.
    pub minor: u8,
    /// Where the method stands.
    pub method: Range<usize>,
    /// Where the target stands.
    pub target: Range<usize>,
    /// Where the value of `Host` stands; `None` only for HTTP/1.0.
    pub host: Option<Range<usize>>,
    /// Where the body ends.
    pub framing: Framing,
}

/// Why a head is refused. The client gets [`Refusal::status`] and the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A line ends in LF alone.
    BareLf,
    /// A CR that no LF follows.
    BareCr,
    /// The request line is not `method SP target SP version`.
    RequestLine,
    /// The target holds a byte that RFC 3986 does not allow, or has a form that the method does not.
    Target,
    /// A target longer than [`TARGET_BYTES_MAX`].
    TargetTooLong,
    /// `CONNECT`: this is not a forward proxy.
    Connect,
    /// HTTP, but neither 1.0 nor 1.1.
    Version,
    /// A header line continues on the next one (RFC 9112 section 5.2).
    ObsFold,
    /// White space between a header's name and its colon (RFC 9112 section 5.1).
    SpaceBeforeColon,
    /// A header line without a colon, or with a name that is not a token.
    HeaderName,
    /// A control byte in a header's value.
    HeaderValue,
    /// More than [`HEADERS_MAX`] header lines.
    TooManyHeaders,
    /// Longer than the listener or the site allows.
    TooLarge,
    /// `Content-Length` beside `Transfer-Encoding` (RFC 9112 section 6.3).
    LengthWithEncoding,
    /// `Content-Length` that is not one plain number.
    Length,
    /// `Transfer-Encoding` other than one `chunked`, or in HTTP/1.0.
    Encoding,
    /// No `Host` in HTTP/1.1 (RFC 9112 section 3.2).
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// `Host` that is not a host name or address with an optional port.
    Host,
    /// The target's authority and `Host` differ.
    HostMismatch,
    /// The head did not arrive in time.
    Timeout,
}

impl Refusal {
    /// Every kind, for the metric's labels.
    pub const ALL: [Refusal; 21] = [
        Refusal::BareLf,
        Refusal::BareCr,
        Refusal::RequestLine,
        Refusal::Target,
        Refusal::TargetTooLong,
        Refusal::Connect,
        Refusal::Version,
        Refusal::ObsFold,
        Refusal::SpaceBeforeColon,
        Refusal::HeaderName,
        Refusal::HeaderValue,
        Refusal::TooManyHeaders,
        Refusal::TooLarge,
        Refusal::LengthWithEncoding,
        Refusal::Length,
        Refusal::Encoding,
        Refusal::HostMissing,
        Refusal::HostRepeated,
        Refusal::Host,
        Refusal::HostMismatch,
        Refusal::Timeout,
    ];

    /// Label for metrics. Stable: dashboards depend on it.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::BareLf => "bare_lf",
            Refusal::BareCr => "bare_cr",
            Refusal::RequestLine => "request_line",
            Refusal::Target => "target",
            Refusal::TargetTooLong => "target_too_long",
            Refusal::Connect => "connect",
            Refusal::Version => "version",
            Refusal::ObsFold => "obs_fold",
            Refusal::SpaceBeforeColon => "space_before_colon",
            Refusal::HeaderName => "header_name",
            Refusal::HeaderValue => "header_value",
            Refusal::TooManyHeaders => "too_many_headers",
            Refusal::TooLarge => "too_large",
            Refusal::LengthWithEncoding => "length_with_encoding",
            Refusal::Length => "length",
            Refusal::Encoding => "encoding",
            Refusal::HostMissing => "host_missing",
            Refusal::HostRepeated => "host_repeated",
            Refusal::Host => "host",
            Refusal::HostMismatch => "host_mismatch",
            Refusal::Timeout => "timeout",
        }
    }

    /// What the client is told.
    pub fn message(self) -> &'static str {
        match self {
            Refusal::BareLf => "a line ends in LF without CR",
            Refusal::BareCr => "a CR without LF",
            Refusal::RequestLine => "malformed request line",
            Refusal::Target => "malformed request target",
            Refusal::TargetTooLong => "request target longer than 65534 bytes",
            Refusal::Connect => "CONNECT is not served here",
            Refusal::Version => "only HTTP/1.0, HTTP/1.1 and HTTP/2 are served here",
            Refusal::ObsFold => "a header continues on the next line",
            Refusal::SpaceBeforeColon => "white space before the colon of a header",
            Refusal::HeaderName => "malformed header name",
            Refusal::HeaderValue => "control byte in a header",
            Refusal::TooManyHeaders => "too many headers",
            Refusal::TooLarge => "request head too large",
            Refusal::LengthWithEncoding => "Content-Length together with Transfer-Encoding",
            Refusal::Length => "malformed or repeated Content-Length",
            Refusal::Encoding => "malformed or repeated Transfer-Encoding",
            Refusal::HostMissing => "no Host",
            Refusal::HostRepeated => "more than one Host",
            Refusal::Host => "malformed Host",
            Refusal::HostMismatch => "Host differs from the request target",
            Refusal::Timeout => "the request head took too long",
        }
    }

    /// Status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Refusal::TooManyHeaders | Refusal::TooLarge => 431,
            Refusal::TargetTooLong => 414,
            Refusal::Connect => 405,
            Refusal::Version => 505,
            Refusal::Timeout => 408,
            Refusal::BareLf
            | Refusal::BareCr
            | Refusal::RequestLine
            | Refusal::Target
            | Refusal::ObsFold
            | Refusal::SpaceBeforeColon
            | Refusal::HeaderName
            | Refusal::HeaderValue
            | Refusal::LengthWithEncoding
            | Refusal::Length
            | Refusal::Encoding
            | Refusal::HostMissing
            | Refusal::HostRepeated
            | Refusal::Host
            | Refusal::HostMismatch => 400,
        }
    }
}

/// Checks a whole request head: everything up to and with the empty line.
///
/// # Errors
/// The first thing that has a second reading, or none.
pub fn check_request(head: &[u8]) -> Result<RequestHead, Refusal> {
    let mut lines = Lines { head, at: 0 };
    let line = lines.next_line()?.ok_or(Refusal::RequestLine)?;
    let (method, target, minor) = request_line(head, line)?;

    let mut framing = Framing::None;
    let (mut length_seen, mut encoding_seen) = (false, false);
    let mut host: Option<Range<usize>> = None;
    let mut count = 0usize;
    while let Some(line) = lines.next_line()? {
        count += 1;
        if count > HEADERS_MAX {
            return Err(Refusal::TooManyHeaders);
        }
        let (name, value) = header_line(head, line)?;
        let (name, value_bytes) = (part(head, &name), part(head, &value));
        if name.eq_ignore_ascii_case(b"host") {
            if host.replace(value).is_some() {
                return Err(Refusal::HostRepeated);
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if std::mem::replace(&mut length_seen, true) {
                return Err(Refusal::Length);
            }
            framing = Framing::Length(decimal(value_bytes).ok_or(Refusal::Length)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // RFC 9112 section 6.1: HTTP/1.0 has no transfer codings.
            if std::mem::replace(&mut encoding_seen, true)
                || minor == 0
                || !value_bytes.eq_ignore_ascii_case(b"chunked")
            {
                return Err(Refusal::Encoding);
            }
        }
    }
    if lines.at != head.len() {
        return Err(Refusal::RequestLine);
    }
    if length_seen && encoding_seen {
        return Err(Refusal::LengthWithEncoding);
    }
    if encoding_seen {
        framing = Framing::Chunked;
    }
    match &host {
        None if minor == 1 => return Err(Refusal::HostMissing),
        None => {}
        Some(range) => {
            host_name(part(head, range)).ok_or(Refusal::Host)?;
        }
    }
    check_target(part(head, &method), part(head, &target), host.as_ref().map(|r| part(head, r)))?;
    Ok(RequestHead { minor, method, target, host, framing })
}

/// A response head: what a node answered to a WebSocket handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// Status code, 100 to 999.
    pub status: u16,
    /// Names and values in their order.
    pub headers: Vec<(&'a [u8], &'a [u8])>,
    /// Where the body ends; `None` for "when the connection closes". Says nothing for 1xx, 204 and 304.
    pub framing: Option<Framing>,
}

impl<'a> ResponseHead<'a> {
    /// Returns the first value of a header. `name` is lower case.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| *v)
    }
}

/// Reads a whole response head, by the same rules as a request's.
///
/// # Errors
/// As [`check_request`].
pub fn parse_response(head: &[u8]) -> Result<ResponseHead<'_>, Refusal> {
    let mut lines = Lines { head, at: 0 };
    let line = lines.next_line()?.ok_or(Refusal::RequestLine)?;
    let status_line = part(head, &line);
    let rest = status_line.strip_prefix(b"HTTP/1.").ok_or(Refusal::Version)?;
    let (Some(b'0' | b'1'), Some(b' '), Some(code)) = (rest.first(), rest.get(1), rest.get(2..5)) else {
        return Err(Refusal::RequestLine);
    };
    let status = decimal(code).and_then(|n| u16::try_from(n).ok()).filter(|n| *n >= 100);
    let status = status.ok_or(Refusal::RequestLine)?;
    if !matches!(rest.get(5), None | Some(b' ')) {
        return Err(Refusal::RequestLine);
    }
    let mut headers = Vec::new();
    let (mut length, mut chunked) = (None, false);
    while let Some(line) = lines.next_line()? {
        if headers.len() == HEADERS_MAX {
            return Err(Refusal::TooManyHeaders);
        }
        let (name, value) = header_line(head, line)?;
        let (name, value) = (part(head, &name), part(head, &value));
        if name.eq_ignore_ascii_case(b"content-length") {
            let number = decimal(value).ok_or(Refusal::Length)?;
            if length.replace(number).is_some_and(|before| before != number) {
                return Err(Refusal::Length);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::Encoding);
            }
            chunked = true;
        }
        headers.push((name, value));
    }
    let framing = match (chunked, length) {
        (true, Some(_)) => return Err(Refusal::LengthWithEncoding),
        (true, None) => Some(Framing::Chunked),
        (false, Some(n)) => Some(Framing::Length(n)),
        (false, None) => None,
    };
    Ok(ResponseHead { status, headers, framing })
}

/// Returns the host of a `Host` or `:authority` value without its port, in lower case and without a trailing dot;
/// `None` if it is not a host name or address with an optional port.
pub fn host_name(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
        (text.get(..address.len() + 2)?, port)
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        // RFC 1035 section 2.3.4: 255 octets, so 253 characters.
        if host.is_empty() || host.len() > 253 || !host.bytes().all(legal) || host.starts_with('.') {
            return None;
        }
        (host, port)
    };
    if let Some(port) = port {
        if port.is_empty() || port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        port.parse::<u16>().ok()?;
    }
    Some(host.to_ascii_lowercase())
}

/// Tells whether a comma-separated header value holds a token, in any case.
pub fn has_token(value: &[u8], token: &str) -> bool {
    value.split(|b| *b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Tells whether a byte may stand in a token (RFC 9110 section 5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Lines of a head, without their CR LF. The empty line ends them.
struct Lines<'a> {
    head: &'a [u8],
    at: usize,
}

impl Lines<'_> {
    /// Returns where the next line stands, or `None` at the empty line.
    fn next_line(&mut self) -> Result<Option<Range<usize>>, Refusal> {
        let start = self.at;
        let rest = self.head.get(start..).unwrap_or_default();
        let Some(found) = rest.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
            return Err(Refusal::RequestLine);
        };
        if rest.get(found) == Some(&b'\n') {
            return Err(Refusal::BareLf);
        }
        if rest.get(found + 1) != Some(&b'\n') {
            return Err(Refusal::BareCr);
        }
        self.at = start + found + 2;
        Ok(if found == 0 { None } else { Some(start..start + found) })
    }
}

fn request_line(head: &[u8], line: Range<usize>) -> Result<(Range<usize>, Range<usize>, u8), Refusal> {
    let start = line.start;
    let bytes = part(head, &line);
    let mut parts = bytes.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::RequestLine);
    };
    if method.is_empty()
        || method.len() > 32
        || !method.iter().all(|b| is_token_byte(*b))
        || target.is_empty()
    {
        return Err(Refusal::RequestLine);
    }
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        other => {
            let http = other.len() == 8 && other.starts_with(b"HTTP/");
            return Err(if http { Refusal::Version } else { Refusal::RequestLine });
        }
    };
    let method_end = start + method.len();
    let target_end = method_end + 1 + target.len();
    Ok((start..method_end, method_end + 1..target_end, minor))
}

/// Checks a request target (RFC 9112 section 3.2) against the method and the `Host`, if there is one.
///
/// # Errors
/// `CONNECT`, a byte that does not belong there, a form that the method does not have, or another host.
pub fn check_target(method: &[u8], target: &[u8], host: Option<&[u8]>) -> Result<(), Refusal> {
    if method == b"CONNECT" {
        return Err(Refusal::Connect);
    }
    if target.len() > TARGET_BYTES_MAX {
        return Err(Refusal::TargetTooLong);
    }
    // A fragment never travels; the others are not in RFC 3986 and servers disagree about them.
    let legal = |b: &u8| (0x21..0x7f).contains(b) && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b'#');
    if !target.iter().all(legal) {
        return Err(Refusal::Target);
    }
    if target.first() == Some(&b'/') || (target == b"*" && method == b"OPTIONS") {
        return Ok(());
    }
    // RFC 9112 section 3.2.2: absolute-form.
    let scheme_end = target.windows(3).position(|w| w == b"://").ok_or(Refusal::Target)?;
    let (scheme, rest) = (part(target, &(0..scheme_end)), part(target, &(scheme_end + 3..target.len())));
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Refusal::Target);
    }
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let authority = part(rest, &(0..end));
    host_name(authority).ok_or(Refusal::Target)?;
    if host.is_some_and(|host| host != authority) {
        return Err(Refusal::HostMismatch);
    }
    Ok(())
}

fn header_line(head: &[u8], line: Range<usize>) -> Result<(Range<usize>, Range<usize>), Refusal> {
    let start = line.start;
    let bytes = part(head, &line);
    if matches!(bytes.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::ObsFold);
    }
    let colon = bytes.iter().position(|b| *b == b':').ok_or(Refusal::HeaderName)?;
    let name = part(bytes, &(0..colon));
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(Refusal::SpaceBeforeColon);
    }
    if name.is_empty() || !name.iter().all(|b| is_token_byte(*b)) {
        return Err(Refusal::HeaderName);
    }
    let value = part(bytes, &(colon + 1..bytes.len()));
    // RFC 9110 section 5.5: visible bytes, SP, HTAB and obs-text.
    if value.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f) {
        return Err(Refusal::HeaderValue);
    }
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let lead = value.iter().take_while(|b| blank(b)).count();
    let tail = part(value, &(lead..value.len())).iter().rev().take_while(|b| blank(b)).count();
    Ok((start..start + colon, start + colon + 1 + lead..line.end - tail))
}

/// Returns a part of the bytes; empty if it does not lie within them.
fn part<'a>(bytes: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    bytes.get(range.clone()).unwrap_or_default()
}

/// Reads a plain decimal number of at most 18 digits.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0u64, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u64::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(head: &str, expected: Refusal) {
        assert_eq!(check_request(head.as_bytes()), Err(expected), "{head:?}");
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        let table = [
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Refusal::LengthWithEncoding,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                Refusal::LengthWithEncoding,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                Refusal::Encoding,
            ),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n", Refusal::Encoding),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Refusal::Encoding),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", Refusal::Encoding),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", Refusal::HeaderValue),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", Refusal::Encoding),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::Encoding),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", Refusal::Length),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", Refusal::Length),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", Refusal::Length),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", Refusal::Length),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", Refusal::Length),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", Refusal::Length),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", Refusal::Length),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n", Refusal::ObsFold),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Refusal::ObsFold),
            ("GET / HTTP/1.1\nHost: a\n\n", Refusal::BareLf),
            ("GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", Refusal::BareLf),
            ("GET / HTTP/1.1\r\nHost: a\rX: 1\r\n\r\n", Refusal::BareCr),
            ("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::BareCr),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", Refusal::HeaderValue),
            ("GET / HTTP/1.1\r\nHost: a\r\nX\0: 1\r\n\r\n", Refusal::HeaderName),
            ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Target),
            ("GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Target),
            ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Target),
            ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Target),
            ("GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Target),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Target),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Target),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Target),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Refusal::Connect),
            ("GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", Refusal::SpaceBeforeColon),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Refusal::SpaceBeforeColon),
            ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Refusal::HeaderName),
            ("GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", Refusal::HeaderName),
            ("GET / HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n", Refusal::HeaderName),
            ("GET / HTTP/1.1\r\n\r\n", Refusal::HostMissing),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Refusal::HostRepeated),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Refusal::Host),
            ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", Refusal::Host),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Refusal::Host),
            ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Refusal::Host),
            ("GET / HTTP/1.1\r\nHost: a:70000\r\n\r\n", Refusal::Host),
            ("GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n", Refusal::Host),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Refusal::Host),
            ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::HostMismatch),
            ("GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::HostMismatch),
            ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Target),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::RequestLine),
            ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Refusal::RequestLine),
            ("GET /\r\nHost: a\r\n\r\n", Refusal::RequestLine),
            (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::RequestLine),
            ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::RequestLine),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::RequestLine),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", Refusal::RequestLine),
            ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Refusal::Version),
            ("PRI * HTTP/2.0\r\n\r\n", Refusal::Version),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nmore", Refusal::RequestLine),
        ];
        for (head, expected) in table {
            refused(head, expected);
        }
        let many = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(n - 1));
        refused(&many(HEADERS_MAX + 1), Refusal::TooManyHeaders);
        assert!(check_request(many(HEADERS_MAX).as_bytes()).is_ok());
    }

    #[test]
    fn what_has_one_reading_passes() {
        let table = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
            ("GET / HTTP/1.0\r\n\r\n", Framing::None),
            (
                "POST /a?b={c}|d HTTP/1.1\r\nhOsT:\t a.example:8443 \r\nContent-Length: 07\r\n\r\n",
                Framing::Length(7),
            ),
            ("POST / HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: Chunked\r\n\r\n", Framing::Chunked),
            ("GET http://a:80/x HTTP/1.1\r\nHost: a:80\r\nX:\r\n\r\n", Framing::None),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n", Framing::None),
        ];
        for (head, framing) in table {
            let checked = check_request(head.as_bytes()).unwrap_or_else(|r| panic!("{head:?}: {r:?}"));
            assert_eq!(checked.framing, framing, "{head:?}");
        }
    }

    #[test]
    fn ranges_point_at_method_target_and_host() {
        let head = b"POST /x?y HTTP/1.1\r\nHost:  a.b:1 \r\n\r\n";
        let checked = check_request(head).unwrap();
        assert_eq!(&head[checked.method], b"POST");
        assert_eq!(&head[checked.target], b"/x?y");
        assert_eq!(&head[checked.host.unwrap()], b"a.b:1");
    }

    #[test]
    fn a_host_loses_port_case_and_final_dot() {
        for (input, expected) in [
            ("Meet.Example.com:8443", Some("meet.example.com")),
            ("meet.example.com.", Some("meet.example.com")),
            ("127.0.0.1:80", Some("127.0.0.1")),
            ("[::1]:80", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("a:", None),
            (".", None),
            ("[::1]80", None),
            ("a/b", None),
        ] {
            assert_eq!(host_name(input.as_bytes()).as_deref(), expected, "{input}");
        }
    }

    #[test]
    fn the_end_is_found_byte_by_byte() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        let mut scan = HeadScan::default();
        for n in 0..head.len() - 5 {
            assert_eq!(scan.advance(&head[..n]), Scan::Partial, "after {n} bytes");
        }
        assert_eq!(scan.advance(head), Scan::Complete(head.len() - 4));
        assert_eq!(HeadScan::default().advance(b"GET /\nHost"), Scan::Refused(Refusal::BareLf));
    }

    #[test]
    fn a_response_head_is_read() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        let response = parse_response(head).unwrap();
        assert_eq!((response.status, response.framing), (101, None));
        assert_eq!(response.get("upgrade"), Some(&b"websocket"[..]));
        for (head, framing) in [
            ("HTTP/1.0 404\r\nContent-Length: 3\r\n\r\n", Some(Framing::Length(3))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Some(Framing::Chunked)),
        ] {
            assert_eq!(parse_response(head.as_bytes()).unwrap().framing, framing);
        }
        for head in [
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 20\r\n\r\n",
            "HTTP/1.1 099 \r\n\r\n",
            "x\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
        ] {
            assert!(parse_response(head.as_bytes()).is_err(), "{head:?}");
        }
    }

    /// Kinds that a lenient parser lets through and this one refuses on purpose.
    fn stricter_on_purpose(refusal: Refusal) -> bool {
        !matches!(refusal, Refusal::HeaderName | Refusal::HeaderValue)
    }

    fn nearly_a_head() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just("GET / HTTP/1.1\r\n".to_owned()),
            Just("Host: a\r\n".to_owned()),
            Just("Content-Length: 3\r\n".to_owned()),
            Just("Transfer-Encoding: chunked\r\n".to_owned()),
            Just("\r\n".to_owned()),
            Just(" ".to_owned()),
            Just(":".to_owned()),
            "[ -~]{0,8}",
            "[a-zA-Z-]{1,8}: [ -~\\t]{0,12}\r\n",
            Just("\0".to_owned()),
            Just("\n".to_owned()),
        ];
        (proptest::collection::vec(piece, 0..8), any::<bool>()).prop_map(|(pieces, whole)| {
            let mut text = pieces.concat();
            if whole {
                text = format!("GET / HTTP/1.1\r\nHost: a\r\n{text}\r\n");
            }
            text.into_bytes()
        })
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = check_request(&bytes);
            let _ = parse_response(&bytes);
            let _ = host_name(&bytes);
            let _ = HeadScan::default().advance(&bytes);
        }

        #[test]
        fn agrees_with_httparse_but_for_what_it_refuses_on_purpose(bytes in nearly_a_head()) {
            let mut headers = [httparse::EMPTY_HEADER; 256];
            let mut oracle = httparse::Request::new(&mut headers);
            let parsed = oracle.parse(&bytes);
            match check_request(&bytes) {
                Ok(head) => {
                    prop_assert_eq!(parsed, Ok(httparse::Status::Complete(bytes.len())));
                    prop_assert_eq!(oracle.path.map(str::as_bytes), Some(&bytes[head.target]));
                    prop_assert_eq!(oracle.version, Some(head.minor));
                }
                Err(refusal) => {
                    let accepted = parsed == Ok(httparse::Status::Complete(bytes.len()));
                    prop_assert!(!accepted || stricter_on_purpose(refusal), "{:?}", refusal);
                }
            }
        }

        #[test]
        fn scanning_in_pieces_is_scanning_at_once(bytes in nearly_a_head(), cut in 0usize..64) {
            let mut at_once = HeadScan::default();
            let mut in_pieces = HeadScan::default();
            let first = in_pieces.advance(&bytes[..cut.min(bytes.len())]);
            let last = if first == Scan::Partial { in_pieces.advance(&bytes) } else { first };
            prop_assert_eq!(at_once.advance(&bytes), last);
        }
    }
}
