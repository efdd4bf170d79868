//! Puts members in place in the JSON object of an answer.
//!
//! Pure. The body is held until it ends, up to a bound; one that is longer, or no object, passes as it is.

use http::{StatusCode, header};
use pingora::http::ResponseHeader;

use bytes::Bytes;

/// An answer that is held until it can be changed.
#[derive(Debug)]
pub(super) struct JsonEdit {
    members: Vec<(String, String)>,
    held: Vec<u8>,
}

impl JsonEdit {
    /// Looks at the head, and takes away what would not be true of another body. `None`: only JSON of status 200 that is not
    /// encoded is changed.
    pub(super) fn begin(response: &mut ResponseHeader, members: Vec<(String, String)>) -> Option<Self> {
        let content_type = response.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let json = essence.eq_ignore_ascii_case("application/json");
        if response.status != StatusCode::OK
            || !json
            || response.headers.contains_key(header::CONTENT_ENCODING)
        {
            return None;
        }
        for name in [header::CONTENT_LENGTH, header::ETAG, header::LAST_MODIFIED, header::ACCEPT_RANGES] {
            response.remove_header(&name);
        }
        // Its length is not known yet.
        response.insert_header(header::TRANSFER_ENCODING, "chunked").ok()?;
        Some(Self { members, held: Vec::new() })
    }

    /// Takes the next part of the body. `Some`: it is too long to be changed, this is all of it so far, and the rest passes.
    pub(super) fn take(&mut self, part: &[u8]) -> Option<Bytes> {
        self.held.extend_from_slice(part);
        (self.held.len() > BODY_BYTES_MAX).then(|| Bytes::from(std::mem::take(&mut self.held)))
    }

    /// Returns the body as the client gets it.
    pub(super) fn end(self) -> Bytes {
        let Ok(mut object) = serde_json::from_slice::<serde_json::Map<_, _>>(&self.held) else {
            return Bytes::from(self.held);
        };
        for (name, value) in self.members {
            object.insert(name, value.into());
        }
        serde_json::to_vec(&object).map_or_else(|_| Bytes::from(self.held), Bytes::from)
    }
}

/// A longer body passes as it is.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(headers: &[(&'static str, &str)], parts: &[&str]) -> Option<(String, ResponseHeader)> {
        let mut response = ResponseHeader::build(200, None).unwrap();
        headers.iter().for_each(|(name, value)| response.insert_header(*name, *value).unwrap());
        let members = vec![("endpoint".to_owned(), "wss://a/ws?group=\"x\"".to_owned())];
        let mut edit = JsonEdit::begin(&mut response, members)?;
        let mut body = Vec::new();
        for part in parts {
            body.extend_from_slice(&edit.take(part.as_bytes()).unwrap_or_default());
        }
        body.extend_from_slice(&edit.end());
        Some((String::from_utf8(body).unwrap(), response))
    }

    #[test]
    fn members_are_put_in_place_and_everything_else_stays() {
        const JSON: (&str, &str) = ("Content-Type", "application/json");
        let (body, head) = edited(
            &[JSON, ("Content-Length", "9"), ("ETag", "x")],
            &["{\"name\":\"g\",\"end", "point\":\"y\",\"n\":[1]}"],
        )
        .unwrap();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body, serde_json::json!({ "name": "g", "endpoint": "wss://a/ws?group=\"x\"", "n": [1] }));
        assert!(!head.headers.contains_key("content-length") && !head.headers.contains_key("etag"));
        for body in ["", "[1]", "no json", "{\"a\":", "null"] {
            assert_eq!(edited(&[JSON], &[body]).unwrap().0, body);
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(BODY_BYTES_MAX));
        assert_eq!(
            edited(&[JSON], &[&long[..70_000.min(long.len())], &long[70_000.min(long.len())..]]).unwrap().0,
            long
        );
        assert!(edited(&[("Content-Type", "text/html")], &[]).is_none());
        assert!(edited(&[JSON, ("Content-Encoding", "gzip")], &[]).is_none());
    }
}
