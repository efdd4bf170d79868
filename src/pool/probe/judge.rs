//! Decides whether an answer is the one of a service that is well.
//!
//! Pure. A web container answers 200 with a page for any path, so a status says little about what stands behind it.

use crate::config::settings::ProbeKind;
use crate::pool::health::FailReason;

/// What a service answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The Content-Type, in lower case; empty if there is none.
    pub content_type: String,
    /// The body's first bytes, at most [`BODY_BYTES_MAX`].
    pub body: Vec<u8>,
}

impl Answer {
    /// Adds a part of the body; false: it talks, and what more it says is of no interest.
    pub(super) fn add(&mut self, data: &[u8]) -> bool {
        let room = BODY_BYTES_MAX.saturating_sub(self.body.len());
        self.body.extend_from_slice(data.get(..room).unwrap_or(data));
        data.len() <= room
    }
}

/// Judges an answer to a probe.
///
/// # Errors
/// What is wrong with it, in words for the operator.
pub fn judge(kind: &ProbeKind, answer: &Answer) -> Result<(), FailReason> {
    let expected = match kind {
        ProbeKind::Http { status: Some(status), .. } => answer.status == *status,
        ProbeKind::Http { status: None, .. } | ProbeKind::Bosh | ProbeKind::Jicofo => {
            (200..300).contains(&answer.status)
        }
    };
    if !expected {
        return Err(FailReason::Status(answer.status));
    }
    let wrong = |what: &str| Err(FailReason::Content(what.to_owned()));
    match kind {
        ProbeKind::Http { body: None, .. } => Ok(()),
        ProbeKind::Http { body: Some(text), .. } => {
            if contains(&answer.body, text.as_bytes()) {
                Ok(())
            } else {
                Err(FailReason::Content(format!("the answer does not hold \"{text}\"")))
            }
        }
        ProbeKind::Bosh if is_bosh(&answer.body) => Ok(()),
        ProbeKind::Bosh if is_page(answer) => wrong("a web page, and no BOSH answer"),
        ProbeKind::Bosh => wrong("no BOSH answer"),
        ProbeKind::Jicofo if is_page(answer) => wrong("a web page, and not Jicofo's health"),
        ProbeKind::Jicofo => Ok(()),
    }
}

/// XEP-0124 section 4: an answer is a `body` element of this namespace.
fn is_bosh(body: &[u8]) -> bool {
    let mut body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    if body.starts_with(b"<?xml") {
        let Some(end) = body.iter().position(|b| *b == b'>') else { return false };
        body = body.get(end + 1..).unwrap_or_default().trim_ascii_start();
    }
    let Some(rest) = body.strip_prefix(b"<body") else { return false };
    let Some(end) = rest.iter().position(|b| *b == b'>') else { return false };
    let tag = rest.get(..end).unwrap_or_default();
    tag.first().is_some_and(|b| b.is_ascii_whitespace() || *b == b'/') && contains(tag, BOSH)
}

fn is_page(answer: &Answer) -> bool {
    let html = |kind: &str| answer.content_type.starts_with(kind);
    let body = answer.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answer.body).trim_ascii_start();
    let begins = |tag: &[u8]| body.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
    html("text/html") || html("application/xhtml") || begins(b"<!doctype") || begins(b"<html")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

/// More of a body is not read.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

const BOSH: &[u8] = b"http://jabber.org/protocol/httpbind";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HTTP: ProbeKind = ProbeKind::Http { status: None, body: None };
    const PROSODY: &str = "<body xmlns:stream='http://etherx.jabber.org/streams' type='terminate' \
                           xmlns='http://jabber.org/protocol/httpbind' condition='improper-addressing'/>";
    const PAGE: &str =
        "<!DOCTYPE html>\n<html><body>It works! http://jabber.org/protocol/httpbind</body></html>";

    fn answer(status: u16, content_type: &str, body: &str) -> Answer {
        Answer { status, content_type: content_type.to_owned(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn each_service_is_known_by_its_own_answer() {
        let with = |status, body: Option<&str>| ProbeKind::Http { status, body: body.map(Into::into) };
        for (kind, status, content_type, body, expected) in [
            (HTTP, 200, "text/html", PAGE, ""),
            (HTTP, 299, "", "", ""),
            (HTTP, 302, "", "", "status 302"),
            (with(Some(404), None), 404, "", "", ""),
            (with(Some(404), None), 200, "", "", "status 200"),
            (with(None, Some("works")), 200, "", PAGE, ""),
            (with(None, Some("ready")), 200, "", PAGE, "the answer does not hold \"ready\""),
            (with(Some(503), Some("works")), 503, "", PAGE, ""),
            (ProbeKind::Bosh, 200, "text/xml; charset=utf-8", PROSODY, ""),
            (
                ProbeKind::Bosh,
                200,
                "text/xml",
                "<?xml version='1.0'?>\n<body type='terminate' xmlns=\"http://jabber.org/protocol/httpbind\">",
                "",
            ),
            (ProbeKind::Bosh, 200, "text/html", PAGE, "a web page, and no BOSH answer"),
            (ProbeKind::Bosh, 200, "", "ok", "no BOSH answer"),
            (ProbeKind::Bosh, 200, "", "<body>http://jabber.org/protocol/httpbind", "no BOSH answer"),
            (
                ProbeKind::Bosh,
                200,
                "",
                "<bodyx xmlns='http://jabber.org/protocol/httpbind'>",
                "no BOSH answer",
            ),
            (ProbeKind::Bosh, 404, "text/html", PAGE, "status 404"),
            (ProbeKind::Jicofo, 200, "application/json", "{}", ""),
            (ProbeKind::Jicofo, 200, "", "", ""),
            (ProbeKind::Jicofo, 200, "text/html; charset=utf-8", "", "a web page, and not Jicofo's health"),
            (ProbeKind::Jicofo, 200, "", " <HTML>", "a web page, and not Jicofo's health"),
            (ProbeKind::Jicofo, 500, "application/json", "{}", "status 500"),
        ] {
            let judged = judge(&kind, &answer(status, content_type, body));
            let found = judged.err().map(|reason| reason.to_string()).unwrap_or_default();
            assert_eq!(found, expected, "{kind:?} {status} {body}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic_and_none_without_the_namespace_are_bosh(
            body in proptest::collection::vec(any::<u8>(), 0..200), start in 0usize..4
        ) {
            let start = [&b""[..], b"<body ", b"<?xml", b"<body xmlns='http://jabber.org/protocol/"][start];
            let body = [start, &body].concat();
            let known = contains(&body, BOSH);
            let answer = Answer { status: 200, content_type: String::new(), body };
            prop_assert!(judge(&ProbeKind::Bosh, &answer).is_err() || known);
            let _ = judge(&ProbeKind::Jicofo, &answer);
        }
    }
}
