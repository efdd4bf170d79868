//! Conditional and partial requests for one representation: a file, or an answer that is kept (RFC 9110 sections 13, 14).
//!
//! Headers, tag, time and length are passed in; what is to be sent comes out. No clock is read.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

/// What is known of a representation.
#[derive(Clone, Debug)]
pub(super) struct Validators {
    /// Its entity tag, with quotes; a weak one begins with `W/`.
    pub(super) etag: Option<String>,
    /// When it was changed, in whole seconds.
    pub(super) modified: Option<SystemTime>,
    /// Its length.
    pub(super) length: u64,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// 200 and everything.
    Whole,
    /// 206 and these bytes: from, and how many.
    Part(u64, u64),
    /// 304.
    NotModified,
    /// 412.
    Failed,
    /// 416.
    Unsatisfiable,
}

/// Decides what a GET or HEAD gets, in the order of RFC 9110 section 13.2.2.
pub(super) fn decide(headers: &HeaderMap, file: &Validators) -> Sent {
    if headers.contains_key(header::IF_MATCH) {
        if !matches(headers, &header::IF_MATCH, file, true) {
            return Sent::Failed;
        }
    } else if is_dated(headers, &header::IF_UNMODIFIED_SINCE, file, |modified, date| modified > date) {
        return Sent::Failed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if matches(headers, &header::IF_NONE_MATCH, file, false) {
            return Sent::NotModified;
        }
    } else if is_dated(headers, &header::IF_MODIFIED_SINCE, file, |modified, date| modified <= date) {
        return Sent::NotModified;
    }
    match text(headers, &header::RANGE) {
        Some(range) if still_the_same(headers, file) => part(range, file.length),
        Some(_) | None => Sent::Whole,
    }
}

/// RFC 9110 section 13.1.5: a part is of use only if the rest is of the same file.
fn still_the_same(headers: &HeaderMap, file: &Validators) -> bool {
    match text(headers, &header::IF_RANGE) {
        None => !headers.contains_key(header::IF_RANGE),
        // A weak tag says too little for a part to fit (RFC 9110 section 13.1.5).
        Some(tag) if tag.starts_with('"') => file.etag.as_deref() == Some(tag),
        Some(tag) if tag.starts_with("W/") => false,
        Some(when) => httpdate::parse_http_date(when).is_ok_and(|when| file.modified == Some(when)),
    }
}

/// Reads one range of bytes; several, or what is malformed, get the whole file.
fn part(range: &str, length: u64) -> Sent {
    let Some(spec) = range.strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else {
        return Sent::Whole;
    };
    let Some((first, last)) = spec.trim().split_once('-') else { return Sent::Whole };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if last < first => Sent::Whole,
        (Some(first), last) if first < length => {
            if last.is_none() && !spec.trim().ends_with('-') {
                return Sent::Whole;
            }
            let end = last.map_or(length, |last| last.saturating_add(1).min(length));
            Sent::Part(first, end - first)
        }
        (Some(_), _) => Sent::Unsatisfiable,
        (None, Some(0)) if first.is_empty() => Sent::Unsatisfiable,
        (None, Some(suffix)) if first.is_empty() && length > 0 => {
            let count = suffix.min(length);
            Sent::Part(length - count, count)
        }
        (None, Some(_)) if first.is_empty() => Sent::Unsatisfiable,
        (None, _) => Sent::Whole,
    }
}

/// Compares entity tags, strongly or weakly (RFC 9110 section 8.8.3.2).
fn matches(headers: &HeaderMap, name: &HeaderName, file: &Validators, strongly: bool) -> bool {
    let own = file.etag.as_deref();
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).any(|tag| match own {
        _ if tag == "*" => true,
        None => false,
        Some(own) if strongly => tag == own && !own.starts_with("W/"),
        Some(own) => opaque(tag) == opaque(own),
    })
}

/// Compares when the representation was changed with a date of the request, if both are known.
fn is_dated(
    headers: &HeaderMap,
    name: &HeaderName,
    file: &Validators,
    holds: impl Fn(SystemTime, SystemTime) -> bool,
) -> bool {
    file.modified.zip(date(headers, name)).is_some_and(|(modified, date)| holds(modified, date))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(text(headers, name)?).ok()
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Makes validators of what the file system says; `since` is the time of the last change since 1970.
pub(super) fn validators(since: Duration, length: u64) -> Validators {
    Validators {
        etag: Some(format!("\"{:x}-{length:x}\"", since.as_nanos())),
        modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())),
        length,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(lines: &[(&'static str, &str)]) -> Sent {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        // 1994-11-15 12:45:26 GMT.
        decide(&headers, &validators(Duration::from_secs(784_903_526), 100))
    }

    const THEN: &str = "Tue, 15 Nov 1994 12:45:26 GMT";
    const BEFORE: &str = "Tue, 15 Nov 1994 12:45:25 GMT";

    #[test]
    fn conditions_are_taken_in_their_order() {
        let tag = validators(Duration::from_secs(784_903_526), 100).etag.unwrap();
        let (weak, other) = (format!("W/{tag}"), "\"x\"");
        for (lines, expected) in [
            (vec![], Sent::Whole),
            (vec![("if-none-match", tag.as_str())], Sent::NotModified),
            (vec![("if-none-match", weak.as_str())], Sent::NotModified),
            (vec![("if-none-match", "*")], Sent::NotModified),
            (vec![("if-none-match", other), ("if-modified-since", THEN)], Sent::Whole),
            (vec![("if-modified-since", THEN)], Sent::NotModified),
            (vec![("if-modified-since", BEFORE)], Sent::Whole),
            (vec![("if-modified-since", "yesterday")], Sent::Whole),
            (vec![("if-match", tag.as_str())], Sent::Whole),
            (vec![("if-match", weak.as_str())], Sent::Failed),
            (vec![("if-match", other)], Sent::Failed),
            (vec![("if-unmodified-since", BEFORE)], Sent::Failed),
            (vec![("if-unmodified-since", THEN)], Sent::Whole),
            (vec![("if-match", other), ("if-none-match", tag.as_str())], Sent::Failed),
            (vec![("range", "bytes=0-9"), ("if-range", tag.as_str())], Sent::Part(0, 10)),
            (vec![("range", "bytes=0-9"), ("if-range", weak.as_str())], Sent::Whole),
            (vec![("range", "bytes=0-9"), ("if-range", THEN)], Sent::Part(0, 10)),
            (vec![("range", "bytes=0-9"), ("if-range", BEFORE)], Sent::Whole),
            (vec![("range", "bytes=0-9"), ("if-none-match", tag.as_str())], Sent::NotModified),
        ] {
            assert_eq!(ask(&lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_not_known_or_weak_decides_less() {
        let file =
            |etag: Option<&str>| Validators { etag: etag.map(str::to_owned), modified: None, length: 100 };
        let ask = |etag, lines: &[(&'static str, &str)]| {
            let lines = lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            decide(&lines.collect(), &file(etag))
        };
        for (etag, lines, expected) in [
            (Some("W/\"a\""), vec![("if-none-match", "\"a\"")], Sent::NotModified),
            (Some("W/\"a\""), vec![("if-none-match", "W/\"a\"")], Sent::NotModified),
            (Some("W/\"a\""), vec![("if-match", "W/\"a\"")], Sent::Failed),
            (Some("W/\"a\""), vec![("range", "bytes=0-9"), ("if-range", "W/\"a\"")], Sent::Whole),
            (None, vec![("if-none-match", "\"a\"")], Sent::Whole),
            (None, vec![("if-none-match", "*")], Sent::NotModified),
            (None, vec![("if-modified-since", THEN)], Sent::Whole),
            (None, vec![("range", "bytes=0-9"), ("if-range", THEN)], Sent::Whole),
            (None, vec![("range", "bytes=0-9")], Sent::Part(0, 10)),
        ] {
            assert_eq!(ask(etag, &lines), expected, "{etag:?} {lines:?}");
        }
    }

    #[test]
    fn one_range_is_taken() {
        for (range, expected) in [
            ("bytes=0-0", Sent::Part(0, 1)),
            ("bytes=0-", Sent::Part(0, 100)),
            ("bytes=10-19", Sent::Part(10, 10)),
            ("bytes=99-200", Sent::Part(99, 1)),
            ("bytes=-1", Sent::Part(99, 1)),
            ("bytes=-200", Sent::Part(0, 100)),
            ("bytes=100-", Sent::Unsatisfiable),
            ("bytes=-0", Sent::Unsatisfiable),
            ("bytes=18446744073709551616-", Sent::Unsatisfiable),
            ("bytes=9-8", Sent::Whole),
            ("bytes=0-1,5-6", Sent::Whole),
            ("bytes=a-b", Sent::Whole),
            ("bytes=5", Sent::Whole),
            ("bytes=5-x", Sent::Whole),
            ("lines=1-2", Sent::Whole),
            ("bytes=-", Sent::Whole),
        ] {
            assert_eq!(ask(&[("range", range)]), expected, "{range}");
        }
    }
}
