//! One answer that is kept: its head, and a body that may still be on its way.
//!
//! Whoever sends it reads the parts as they come; the parts are shared, never copied. A body of known length is found by
//! everybody at once; of another, only the client for whom it was fetched reads along, since it may turn out to be too
//! long to be kept.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use tokio::sync::watch;

use super::fresh::Terms;
use super::key::Varied;
use super::memory::Held;
use crate::edge::conditions::Validators;
use crate::edge::headers::is_hop_by_hop;

/// What a part costs beside its bytes.
pub(super) const PART_BYTES: u64 = 96;
/// What an answer costs beside its head and body: its places in the tables, rounded up.
const OBJECT_BYTES: u64 = 1024;

/// An answer that is kept.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) status: StatusCode,
    /// Without what speaks of one connection, of its length and of its age.
    pub(super) headers: HeaderMap,
    pub(super) terms: Terms,
    pub(super) varied: Varied,
    pub(super) body: Arc<Body>,
    /// The head's bytes.
    pub(super) held: Held,
}

/// The body of one or, after a revalidation, several answers.
#[derive(Debug)]
pub(super) struct Body {
    /// Its length, if it was said beforehand.
    pub(super) length: Option<u64>,
    parts: Mutex<Parts>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug)]
struct Parts {
    list: Vec<Bytes>,
    held: Held,
}

/// How far a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) bytes: u64,
    pub(super) end: End,
}

/// Whether a body goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// More may come.
    Open,
    /// This is all.
    Whole,
    /// The node broke it off.
    Broken,
    /// It is not kept after all; its first client goes on reading from the node.
    Handed,
}

impl Body {
    pub(super) fn new(length: Option<u64>, held: Held) -> Self {
        let (progress, _) = watch::channel(Progress { bytes: 0, end: End::Open });
        Self { length, parts: Mutex::new(Parts { list: Vec::new(), held }), progress }
    }

    pub(super) fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// What the parts hold.
    pub(super) fn held(&self) -> u64 {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).held.bytes()
    }

    /// Adds a part; `held` is what was taken for it, if that was not done before.
    pub(super) fn push(&self, part: Bytes, held: Option<Held>) {
        let length = part.len() as u64;
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.list.push(part);
        if let Some(held) = held {
            parts.held.join(held);
        }
        drop(parts);
        self.progress.send_modify(|progress| progress.bytes += length);
    }

    pub(super) fn end(&self, end: End) {
        self.progress.send_modify(|progress| progress.end = end);
    }

    /// The length that clients are told.
    pub(super) fn known_length(&self) -> Option<u64> {
        let progress = self.progress();
        self.length.or_else(|| (progress.end == End::Whole).then_some(progress.bytes))
    }

    /// Counts as somebody who reads until it is dropped.
    pub(super) fn want(&self) -> Wanted {
        Wanted { _progress: self.progress.subscribe() }
    }

    /// Ready while nobody reads it.
    pub(super) async fn unwanted(&self) {
        self.progress.closed().await;
    }

    /// Reads `count` bytes from `from` on, or all that comes.
    pub(super) fn read(self: &Arc<Self>, from: u64, count: Option<u64>) -> Reader {
        Reader {
            progress: self.progress.subscribe(),
            body: self.clone(),
            part: 0,
            skip: from,
            left: count.unwrap_or(u64::MAX),
        }
    }
}

/// Somebody who reads a body, or is about to.
pub(super) struct Wanted {
    _progress: watch::Receiver<Progress>,
}

/// Reads a body while it comes.
pub(super) struct Reader {
    body: Arc<Body>,
    progress: watch::Receiver<Progress>,
    part: usize,
    /// Bytes to pass over.
    skip: u64,
    /// Bytes to read.
    left: u64,
}

impl Reader {
    /// Waits for the next part. An end of [`End::Whole`] is also that of a range.
    ///
    /// # Errors
    /// How the body ended, when nothing more comes.
    pub(super) async fn next(&mut self) -> Result<Bytes, End> {
        loop {
            if self.left == 0 {
                return Err(End::Whole);
            }
            // What is seen of the end before the parts holds for them.
            let end = self.progress.borrow_and_update().end;
            if let Some(part) = self.take() {
                return Ok(part);
            }
            if end != End::Open {
                return Err(end);
            }
            // The sender lives in the body, which this reader holds.
            if self.progress.changed().await.is_err() {
                return Err(End::Broken);
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let parts = self.body.parts.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let part = parts.list.get(self.part)?;
            self.part += 1;
            let length = part.len() as u64;
            if self.skip >= length {
                self.skip -= length;
                continue;
            }
            let from = usize::try_from(self.skip).unwrap_or(usize::MAX).min(part.len());
            let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(part.len() - from);
            self.skip = 0;
            self.left -= count as u64;
            return Some(part.slice(from..from + count));
        }
    }
}

impl Object {
    /// By what a client may ask for it under conditions.
    pub(super) fn validators(&self, length: u64) -> Validators {
        let text = |name| self.headers.get(name).and_then(|value| value.to_str().ok());
        Validators {
            etag: text(header::ETAG).map(str::to_owned),
            modified: text(header::LAST_MODIFIED).and_then(|date| httpdate::parse_http_date(date).ok()),
            length,
        }
    }
}

/// Takes the headers of an answer that are kept.
pub(super) fn kept_headers(answer: &HeaderMap) -> HeaderMap {
    let nominated: Vec<&str> = answer
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let stays = |name: &str| {
        !is_hop_by_hop(name)
            && !matches!(name, "content-length" | "age")
            && !nominated.iter().any(|nominated| nominated.eq_ignore_ascii_case(name))
    };
    let kept = answer.iter().filter(|(name, _)| stays(name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Puts the headers of a 304 in place of those that are kept (RFC 9111 section 3.2). What describes the body stays.
pub(super) fn updated_headers(kept: &HeaderMap, answer: &HeaderMap) -> HeaderMap {
    let mut headers = kept.clone();
    let new = kept_headers(answer);
    for name in new.keys().filter(|name| !OF_THE_BODY.contains(&name.as_str())) {
        headers.remove(name);
        for value in new.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

const OF_THE_BODY: &[&str] = &["content-encoding", "content-type", "content-range", "content-length"];

/// What a head costs.
pub(super) fn head_bytes(url: &str, headers: &HeaderMap, varied: &Varied) -> u64 {
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64);
    let varied = varied.iter().map(|(name, value)| name.as_str().len() + value.len() + 64);
    // The URL stands in the table and in its queue, as one text.
    OBJECT_BYTES + (url.len() + lines.sum::<usize>() + varied.sum::<usize>()) as u64
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;

    fn body(length: Option<u64>) -> Arc<Body> {
        Arc::new(Body::new(length, Memory::default().take(0, 0).unwrap()))
    }

    async fn all(reader: &mut Reader) -> (Vec<u8>, End) {
        let mut whole = Vec::new();
        loop {
            match reader.next().await {
                Ok(part) => whole.extend_from_slice(&part),
                Err(end) => return (whole, end),
            }
        }
    }

    #[tokio::test]
    async fn parts_are_read_from_anywhere_to_anywhere() {
        let body = body(Some(10));
        for part in ["abc", "d", "", "efghij"] {
            body.push(Bytes::from_static(part.as_bytes()), None);
        }
        body.end(End::Whole);
        let whole = b"abcdefghij";
        for from in 0..=10usize {
            for count in 0..=10 - from {
                let mut reader = body.read(from as u64, Some(count as u64));
                let expected = (whole[from..from + count].to_vec(), End::Whole);
                assert_eq!(all(&mut reader).await, expected, "{from} {count}");
            }
        }
        assert_eq!(all(&mut body.read(0, None)).await, (whole.to_vec(), End::Whole));
    }

    #[tokio::test]
    async fn a_reader_waits_for_what_comes_and_learns_how_it_ended() {
        for end in [End::Whole, End::Broken, End::Handed] {
            let body = body(None);
            let mut reader = body.read(0, None);
            let writer = async {
                for part in ["a", "b", "c"] {
                    tokio::task::yield_now().await;
                    body.push(Bytes::from_static(part.as_bytes()), None);
                }
                body.end(end);
            };
            let ((), read) = tokio::join!(writer, all(&mut reader));
            assert_eq!(read, (b"abc".to_vec(), end));
        }
    }

    #[test]
    fn a_304_changes_what_does_not_describe_the_body() {
        let headers = |lines: &[(&'static str, &'static str)]| -> HeaderMap {
            lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        let answer = headers(&[
            ("content-type", "text/css"),
            ("content-length", "5"),
            ("etag", "\"a\""),
            ("cache-control", "max-age=1"),
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("age", "3"),
            ("x-old", "1"),
        ]);
        let kept = kept_headers(&answer);
        assert_eq!(kept.len(), 4, "{kept:?}");
        let fresh = headers(&[("cache-control", "max-age=9"), ("content-type", "x/y"), ("x-new", "1")]);
        let updated = updated_headers(&kept, &fresh);
        for (name, expected) in [
            ("content-type", Some("text/css")),
            ("cache-control", Some("max-age=9")),
            ("etag", Some("\"a\"")),
            ("x-new", Some("1")),
            ("x-old", Some("1")),
        ] {
            assert_eq!(updated.get(name).map(|v| v.to_str().unwrap()), expected, "{name}");
        }
    }
}
