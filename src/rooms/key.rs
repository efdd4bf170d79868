//! Decides which room a request names.
//!
//! Pure: the request's parts are passed in as they stood on the wire, a normalised key comes out. Two spellings of one
//! room must meet in one key, since a room that is split is the one thing that may not happen; two rooms that share a
//! key merely share a node.
//!
//! A key is made as the Jitsi client makes its own (percent-decode, NFKC, lower case), with two differences: it is
//! decoded up to twice, because some clients encode what is encoded already, and what is left after that is refused
//! rather than guessed at.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use unicode_normalization::UnicodeNormalization;

use super::token;
use crate::config::settings::{PathRule, RoomRule, Template};

/// The normalised name of a room within its scope: 1 to 256 bytes without percent escapes or control characters.
///
/// Below a Jitsi tenant it is `tenant/room`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey(Arc<str>);

impl RoomKey {
    /// Normalises a name as it may stand in a path: percent-encoded or not.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn new(name: &str) -> Result<Self, KeyError> {
        let key = normalise(name, Plus::Literal)?;
        if key.is_empty() { Err(KeyError::Empty) } else { Self::checked(&key) }
    }

    /// Returns the key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes a text that is normalised already.
    pub(super) fn checked(key: &str) -> Result<Self, KeyError> {
        if key.len() > KEY_BYTES_MAX { Err(KeyError::TooLong) } else { Ok(Self(Arc::from(key))) }
    }
}

impl fmt::Display for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomKey({:?})", &*self.0)
    }
}

impl AsRef<str> for RoomKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Why a request's room name is refused. The edge answers 400 with this text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum KeyError {
    /// The name is empty.
    #[error("the room name is empty")]
    Empty,
    /// The normalised name is too long.
    #[error("the room name is longer than {KEY_BYTES_MAX} bytes")]
    TooLong,
    /// An escape is left after decoding twice.
    #[error("the room name is percent-encoded more than twice")]
    Escape,
    /// The decoded bytes are not text.
    #[error("the room name is not UTF-8")]
    NotUtf8,
    /// The name holds a control character.
    #[error("the room name holds a control character")]
    Control,
}

impl KeyError {
    /// Returns the label for metrics. Stable: dashboards depend on it.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyError::Empty => "empty",
            KeyError::TooLong => "too_long",
            KeyError::Escape => "escape",
            KeyError::NotUtf8 => "not_utf8",
            KeyError::Control => "control",
        }
    }
}

/// The parts of a request that may name a room.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// The path as it was sent: percent-encoded, without the query.
    pub path: &'a str,
    /// The query as it was sent, without the `?`.
    pub query: Option<&'a str>,
    /// Finds a header by its name in lower case.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
    /// Puts values in a template; `None` if something that it names is empty.
    pub text: &'a dyn Fn(&Template) -> Option<String>,
}

impl fmt::Debug for RequestView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestView")
            .field("path", &self.path)
            .field("query", &self.query)
            .finish_non_exhaustive()
    }
}

/// Finds the room of a request: the first rule that hits decides. `None`: the request has no room.
///
/// A rule whose place is there but empty (`?room=`) does not hit.
///
/// # Errors
/// What is wrong with the name that was found; later rules are not asked.
pub fn room_of(rules: &[RoomRule], request: &RequestView<'_>) -> Result<Option<RoomKey>, KeyError> {
    for rule in rules {
        let key = match rule {
            RoomRule::Query(name) => query_parameter(request, name, "")?,
            RoomRule::Path(PathRule::Last) => segments(request.path).next_back().map_or(Ok(None), room)?,
            RoomRule::Path(PathRule::First) => segments(request.path).next().map_or(Ok(None), room)?,
            RoomRule::Header(name) => (request.header)(name).map(str::trim).map_or(Ok(None), room)?,
            RoomRule::Cookie(name) => cookie(request, name).map_or(Ok(None), room)?,
            RoomRule::Text(text) => (request.text)(text).as_deref().map_or(Ok(None), room)?,
            RoomRule::Claim(members) => token::claim(request, members).as_deref().map_or(Ok(None), room)?,
            RoomRule::Jitsi => super::jitsi::room_of(request)?,
            RoomRule::Conference => conference(request.path).map_or(Ok(None), room)?,
        };
        if key.is_some() {
            return Ok(key);
        }
    }
    Ok(None)
}

/// Returns the name that a rule finds as it was sent, for people to read: [`room_of`] decides.
pub fn as_sent(rule: &RoomRule, request: &RequestView<'_>) -> Option<String> {
    let found = match rule {
        RoomRule::Query(name) => raw_parameter(request, name),
        RoomRule::Path(PathRule::Last) => segments(request.path).next_back(),
        RoomRule::Path(PathRule::First) => segments(request.path).next(),
        RoomRule::Header(name) => (request.header)(name).map(str::trim),
        RoomRule::Cookie(name) => cookie(request, name),
        RoomRule::Text(text) => return (request.text)(text),
        RoomRule::Claim(members) => return token::claim(request, members),
        RoomRule::Jitsi => raw_parameter(request, "room").or_else(|| segments(request.path).next_back()),
        RoomRule::Conference => conference(request.path),
    };
    found.map(str::to_owned)
}

/// Makes a key of one part of a request; `None` if the part is empty.
pub(super) fn room(raw: &str) -> Result<Option<RoomKey>, KeyError> {
    let key = normalise(raw, Plus::Literal)?;
    if key.is_empty() { Ok(None) } else { RoomKey::checked(&key).map(Some) }
}

/// Makes a key of the first parameter of that name which is not empty, below `tenant` (normalised, empty or ending in
/// a slash).
pub(super) fn query_parameter(
    request: &RequestView<'_>,
    name: &str,
    tenant: &str,
) -> Result<Option<RoomKey>, KeyError> {
    let Some(raw) = raw_parameter(request, name) else { return Ok(None) };
    let key = normalise(raw, Plus::Space)?;
    if key.is_empty() { Ok(None) } else { RoomKey::checked(&format!("{tenant}{key}")).map(Some) }
}

/// Finds the first parameter of that name which is not empty, as it was sent.
pub(super) fn raw_parameter<'a>(request: &RequestView<'a>, name: &str) -> Option<&'a str> {
    let pairs = request.query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, value)| !value.is_empty() && decoded_is(key, name)).map(|(_, value)| value).next()
}

/// Yields the segments of a path that are not empty, as they were sent.
pub(super) fn segments(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// Makes the text of a key, of any length from 0: decoded at most twice, then NFKC and lower case until it is stable.
///
/// It is idempotent, and all spellings of one name meet in it.
pub(super) fn normalise(raw: &str, plus: Plus) -> Result<String, KeyError> {
    // A form's own decoding turns `+` into a space before it looks at escapes.
    let raw = match plus {
        Plus::Space if raw.contains('+') => Cow::Owned(raw.replace('+', " ")),
        Plus::Space | Plus::Literal => Cow::Borrowed(raw),
    };
    let once = percent_decode_str(&raw).decode_utf8().map_err(|_| KeyError::NotUtf8)?;
    let twice = percent_decode_str(&once).decode_utf8().map_err(|_| KeyError::NotUtf8)?;
    if twice.len() > DECODED_BYTES_MAX {
        return Err(KeyError::TooLong);
    }
    let key = fold(&twice);
    // Full-width characters may have become an escape only now: looked for at the end.
    if holds_escape(&key) {
        Err(KeyError::Escape)
    } else if key.chars().any(char::is_control) {
        Err(KeyError::Control)
    } else if key.len() > KEY_BYTES_MAX {
        Err(KeyError::TooLong)
    } else {
        Ok(key)
    }
}

/// What a `+` means where a name was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plus {
    /// A plus: in paths, headers and cookies.
    Literal,
    /// A space: in queries, as forms send it.
    Space,
}

/// NFKC and lower case, until neither changes anything.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut text = text.nfkc().collect::<String>().to_lowercase();
    loop {
        let next = text.nfkc().collect::<String>().to_lowercase();
        if next == text {
            return text;
        }
        text = next;
    }
}

fn holds_escape(text: &str) -> bool {
    text.as_bytes()
        .windows(3)
        .any(|w| matches!(w, [b'%', high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()))
}

fn decoded_is(raw: &str, name: &str) -> bool {
    if raw.contains(['%', '+']) {
        let raw = raw.replace('+', " ");
        percent_decode_str(&raw).eq(name.bytes())
    } else {
        raw == name
    }
}

/// Finds a cookie (RFC 6265 section 4.2.1) as it was sent, without quotes.
fn cookie<'a>(request: &RequestView<'a>, name: &str) -> Option<&'a str> {
    let pairs = (request.header)("cookie")?.split(';').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().trim_matches('"'))
        .find(|value| !value.is_empty())
}

/// `/rooms/{room}` and everything below it.
fn conference(path: &str) -> Option<&str> {
    let mut segments = segments(path);
    if segments.next() == Some("rooms") { segments.next() } else { None }
}

/// A longer key is refused.
pub const KEY_BYTES_MAX: usize = 256;

/// Bounds the work of folding. NFKC makes a text some four times shorter at most, so that nothing longer could fit.
const DECODED_BYTES_MAX: usize = 16 * KEY_BYTES_MAX;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Vector {
        rule: String,
        path: String,
        query: Option<String>,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        key: Option<String>,
        error: Option<String>,
        #[serde(rename = "why")]
        _why: Option<String>,
    }

    fn rules(text: &str) -> Vec<RoomRule> {
        text.split_whitespace()
            .map(|rule| match rule.split_once(':').unwrap_or((rule, "")) {
                ("query", name) => RoomRule::Query(name.into()),
                ("header", name) => RoomRule::Header(name.into()),
                ("cookie", name) => RoomRule::Cookie(name.into()),
                ("path", "last") => RoomRule::Path(PathRule::Last),
                ("path", "first") => RoomRule::Path(PathRule::First),
                ("jitsi", "") => RoomRule::Jitsi,
                ("conference", "") => RoomRule::Conference,
                other => panic!("no such rule: {other:?}"),
            })
            .collect()
    }

    #[test]
    fn each_vector_names_its_room() {
        let vectors: Vec<Vector> =
            serde_json::from_str(include_str!("../../tests/kit/room_vectors.json")).unwrap();
        for vector in &vectors {
            let header = |name: &str| vector.headers.get(name).map(String::as_str);
            let request = RequestView {
                path: &vector.path,
                query: vector.query.as_deref(),
                header: &header,
                text: &|_| None,
            };
            let found = room_of(&rules(&vector.rule), &request);
            let expected = match &vector.error {
                Some(error) => Err(error.as_str()),
                None => Ok(vector.key.as_deref()),
            };
            let found = found.as_ref().map(|key| key.as_ref().map(RoomKey::as_str)).map_err(|e| e.as_str());
            assert_eq!(found, expected, "{vector:?}");
        }
    }

    fn path_key(path: &str) -> Result<Option<RoomKey>, KeyError> {
        room_of(&[RoomRule::Jitsi], &RequestView { path, query: None, header: &|_| None, text: &|_| None })
    }

    fn query_key(query: &str) -> Result<Option<RoomKey>, KeyError> {
        let request =
            RequestView { path: "/xmpp-websocket", query: Some(query), header: &|_| None, text: &|_| None };
        room_of(&[RoomRule::Jitsi], &request)
    }

    fn encode(text: &str) -> String {
        utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
    }

    /// What the Jitsi client sends for a room, decoded: `decodeURIComponent`, NFKC, lower case.
    fn as_the_client_does(name: &str) -> String {
        name.nfkc().collect::<String>().to_lowercase()
    }

    #[test]
    fn a_key_is_refused_when_nothing_is_left() {
        assert_eq!(RoomKey::new(""), Err(KeyError::Empty));
        assert_eq!(RoomKey::new("Room").unwrap().as_str(), "room");
    }

    proptest! {
        #[test]
        fn normalising_is_idempotent(raw in ".{0,80}") {
            if let Ok(key) = RoomKey::new(&raw) {
                prop_assert_eq!(RoomKey::new(key.as_str()), Ok(key));
            }
        }

        #[test]
        fn normalising_escapes_is_idempotent(raw in "(%[0-9a-fA-F]{2}|%25|[a-zA-Z%+/]|\\PC){0,40}") {
            if let Ok(key) = RoomKey::new(&raw) {
                prop_assert!(!key.as_str().is_empty() && key.as_str().len() <= KEY_BYTES_MAX);
                prop_assert!(!holds_escape(key.as_str()));
                prop_assert_eq!(RoomKey::new(key.as_str()), Ok(key));
            }
        }

        #[test]
        fn all_spellings_meet(name in "[\\PC&&[^%]]{1,24}") {
            let Ok(key) = RoomKey::new(&encode(&name)) else { return Ok(()) };
            let spellings = [
                name.clone(),
                as_the_client_does(&name),
                name.nfc().collect(),
                name.nfd().collect(),
                name.nfkc().collect(),
                name.nfkd().collect(),
            ];
            for spelling in &spellings {
                let once = encode(spelling);
                let twice = encode(&once);
                for path in [&once, &twice, &once.to_lowercase()] {
                    prop_assert_eq!(path_key(&format!("/{path}")), Ok(Some(key.clone())), "path {:?}", path);
                    prop_assert_eq!(query_key(&format!("room={path}")), Ok(Some(key.clone())), "query {:?}", path);
                }
            }
        }

        #[test]
        fn ascii_case_meets(name in "[a-zA-Z0-9_.-]{1,30}") {
            prop_assume!(path_key(&format!("/{name}")).unwrap().is_some());
            let upper = path_key(&format!("/{}", name.to_uppercase())).unwrap();
            let lower = path_key(&format!("/{}", name.to_lowercase())).unwrap();
            prop_assume!(upper.is_some() && lower.is_some());
            prop_assert_eq!(upper, lower);
        }

        #[test]
        fn a_page_meets_its_stream(tenant in "[a-zA-Z0-9é]{1,12}", name in "[a-zA-Z0-9äß ]{1,12}", twice in any::<bool>()) {
            let (t, r) = (encode(&tenant), encode(&name));
            let r = if twice { encode(&r) } else { r };
            let page = path_key(&format!("/{t}/{r}")).unwrap();
            for endpoint in ["http-bind", "xmpp-websocket", "conference-request/v1", "_unlock", "config.js"] {
                let path = format!("/{}/{endpoint}", t.to_lowercase());
                let query = format!("room={}", encode(&as_the_client_does(&name)));
                let request = RequestView { path: &path, query: Some(&query), header: &|_| None, text: &|_| None };
                prop_assert_eq!(&room_of(&[RoomRule::Jitsi], &request).unwrap(), &page);
            }
        }

        #[test]
        fn nothing_panics(path in ".{0,60}", query in prop::option::of(".{0,60}"), header in prop::option::of(".{0,30}")) {
            let rules = rules("query:room header:x cookie:room path:first path:last jitsi conference");
            for rule in &rules {
                let request = RequestView { path: &path, query: query.as_deref(), header: &|_| header.as_deref(), text: &|_| None };
                let _ = room_of(std::slice::from_ref(rule), &request);
            }
        }
    }
}
