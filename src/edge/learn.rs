//! Reads the name of a room out of an answer: a server that makes up names itself tells them to its client, and what the
//! client asks afterwards has to go to the same node.
//!
//! Pure. The answer passes as it is; a copy of its first bytes is kept until it ends.

use http::{StatusCode, header};
use pingora::http::ResponseHeader;

use crate::config::settings::Learn;
use crate::rooms::RoomKey;

/// An answer that may name a room.
#[derive(Debug, Default)]
pub(super) struct Learning {
    body: Vec<u8>,
    /// It is longer than anybody would make it for a name.
    too_long: bool,
}

impl Learning {
    /// Looks at the head: only JSON of status 200 that is not encoded names anything.
    pub(super) fn begin(response: &ResponseHeader) -> Option<Self> {
        let content_type = response.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let json = essence.eq_ignore_ascii_case("application/json");
        let plain = !response.headers.contains_key(header::CONTENT_ENCODING);
        (response.status == StatusCode::OK && json && plain).then(Self::default)
    }

    /// Takes the next part of the body.
    pub(super) fn take(&mut self, part: &[u8]) {
        if self.too_long || self.body.len() + part.len() > BODY_BYTES_MAX {
            *self = Self { body: Vec::new(), too_long: true };
        } else {
            self.body.extend_from_slice(part);
        }
    }

    /// Returns the room that the whole answer names; `None`: none, or one whose name cannot be one.
    pub(super) fn room(&self, rule: &Learn) -> Option<RoomKey> {
        let name = rule.json.find(&self.body)?;
        RoomKey::new(&format!("{}{name}", rule.before)).ok()
    }
}

/// A longer answer names nothing.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::MemberPath;

    fn answer(status: u16, headers: &[(&'static str, &str)], parts: &[&str]) -> Option<String> {
        let mut response = ResponseHeader::build(status, None).unwrap();
        headers.iter().for_each(|(name, value)| response.insert_header(*name, *value).unwrap());
        let mut learning = Learning::begin(&response)?;
        parts.iter().for_each(|part| learning.take(part.as_bytes()));
        let rule = Learn { json: MemberPath::new("data.id").unwrap(), before: "session/".into() };
        learning.room(&rule).map(|key| key.to_string())
    }

    #[test]
    fn an_answer_names_a_room_or_nothing() {
        const JSON: &[(&str, &str)] = &[("Content-Type", "application/json; charset=utf-8")];
        let found = |parts: &[&str]| answer(200, JSON, parts);
        assert_eq!(found(&["{\"data\": {\"id\": 12", "34}}"]).as_deref(), Some("session/1234"));
        assert_eq!(found(&["{\"data\": {\"id\": \"Ab\"}}"]).as_deref(), Some("session/ab"));
        for body in [
            "",
            "{}",
            "{\"data\": {\"id\": -1}}",
            "{\"data\": {\"id\": 1.5}}",
            "{\"data\": {\"id\": null}}",
            "[1]",
            "{\"data\": 1}",
        ] {
            assert_eq!(found(&[body]), None, "{body}");
        }
        let long = "x".repeat(BODY_BYTES_MAX);
        assert_eq!(found(&["{\"data\": {\"id\": 1}, \"more\": \"", &long, "\"}"]), None);
        let body: &[&str] = &["{\"data\": {\"id\": 1}}"];
        assert_eq!(answer(201, JSON, body), None);
        assert_eq!(answer(200, &[("Content-Type", "text/plain")], body), None);
        assert_eq!(answer(200, &[JSON[0], ("Content-Encoding", "gzip")], body), None);
        assert_eq!(answer(200, &[], body), None);
    }
}
