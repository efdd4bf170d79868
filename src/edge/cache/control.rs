//! Reads `Cache-Control` (RFC 9111 section 5.2), of requests and of answers.
//!
//! Pure: header values in, what they say out; whatever the bytes, it takes time linear in them and allocates nothing.

use std::time::Duration;

use http::{HeaderMap, header};

/// Longer times are this one: a year (RFC 9111 section 1.2.2 wants at least 2^31 s to be understood, not to be waited).
pub const YEAR: Duration = Duration::from_secs(31_536_000);

/// What `Cache-Control` says. Directives that mean nothing here are passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// It is there at all.
    pub is_there: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache`, with or without names of fields: the fields alone could be left out, but who says so means secrets.
    pub no_cache: bool,
    /// `private`, with or without names of fields.
    pub private: bool,
    /// `must-revalidate` or `proxy-revalidate`.
    pub must_revalidate: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
    /// `max-age`; what is no number is zero.
    pub max_age: Option<Duration>,
    /// `s-maxage`, likewise.
    pub shared_max_age: Option<Duration>,
    /// `min-fresh`, likewise.
    pub min_fresh: Option<Duration>,
    /// `stale-while-revalidate` (RFC 5861), likewise.
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861), likewise.
    pub stale_if_error: Option<Duration>,
}

impl Control {
    /// Reads all fields of that name; the first of several equal directives counts (RFC 9111 section 4.2.1).
    pub fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for value in headers.get_all(header::CACHE_CONTROL) {
            control.read(value.as_bytes());
        }
        // RFC 9111 section 5.4: a request of HTTP/1.0 says it so.
        if !control.is_there
            && let Some(pragma) = headers.get(header::PRAGMA)
            && pragma.as_bytes().eq_ignore_ascii_case(b"no-cache")
        {
            control.no_cache = true;
        }
        control
    }

    fn read(&mut self, value: &[u8]) {
        self.is_there = true;
        let mut rest = value;
        while !rest.is_empty() {
            let (directive, behind) = split(rest);
            rest = behind;
            let at = directive.iter().position(|b| *b == b'=');
            let (name, argument) = match at.and_then(|at| directive.split_at_checked(at)) {
                Some((name, argument)) => (name.trim_ascii(), argument.get(1..).map(<[u8]>::trim_ascii)),
                None => (directive.trim_ascii(), None),
            };
            self.take(name, argument);
        }
    }

    fn take(&mut self, name: &[u8], argument: Option<&[u8]>) {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        let flags = [
            ("no-store", &mut self.no_store),
            ("no-cache", &mut self.no_cache),
            ("private", &mut self.private),
            ("must-revalidate", &mut self.must_revalidate),
            ("only-if-cached", &mut self.only_if_cached),
        ];
        for (word, flag) in flags {
            *flag |= is(word);
        }
        self.must_revalidate |= is("proxy-revalidate");
        let times = [
            ("max-age", &mut self.max_age),
            ("s-maxage", &mut self.shared_max_age),
            ("min-fresh", &mut self.min_fresh),
            ("stale-while-revalidate", &mut self.stale_while_revalidate),
            ("stale-if-error", &mut self.stale_if_error),
        ];
        for (word, time) in times {
            if is(word) && time.is_none() {
                *time = Some(seconds(argument.unwrap_or_default()));
            }
        }
    }
}

/// Splits at the first comma outside of quotes.
fn split(value: &[u8]) -> (&[u8], &[u8]) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                let (directive, rest) = value.split_at_checked(at).unwrap_or((value, &[]));
                return (directive, rest.get(1..).unwrap_or_default());
            }
            _ => {}
        }
    }
    (value, &[])
}

/// Reads delta-seconds (RFC 9111 section 1.2.2), also in quotes; what is none is zero.
pub(super) fn seconds(text: &[u8]) -> Duration {
    let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Duration::ZERO;
    }
    let number = text
        .iter()
        .fold(0u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Duration::from_secs(number).min(YEAR)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&str]) -> Control {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("cache-control", value.parse().unwrap());
        }
        Control::of(&headers)
    }

    #[test]
    fn directives_are_read() {
        let there = Control { is_there: true, ..Control::default() };
        let s = |n| Some(Duration::from_secs(n));
        for (values, expected) in [
            (&[][..], Control::default()),
            (&[""], there),
            (&["public, max-age=60"], Control { max_age: s(60), ..there }),
            (&["MAX-AGE=60"], Control { max_age: s(60), ..there }),
            (&["max-age=60", "max-age=70"], Control { max_age: s(60), ..there }),
            (&["max-age=60", "private"], Control { max_age: s(60), private: true, ..there }),
            (&["max-age=\"60\""], Control { max_age: s(60), ..there }),
            (&["max-age = 60"], Control { max_age: s(60), ..there }),
            (&["max-age=6 0"], Control { max_age: s(0), ..there }),
            (&["max-age=-1"], Control { max_age: s(0), ..there }),
            (&["max-age"], Control { max_age: s(0), ..there }),
            (&["max-age=99999999999999999999999"], Control { max_age: Some(YEAR), ..there }),
            (&["s-maxage=1,max-age=2"], Control { shared_max_age: s(1), max_age: s(2), ..there }),
            (&["private=\"set-cookie, x\", no-store"], Control { private: true, no_store: true, ..there }),
            (&["no-cache=\"x\\\", no-store\""], Control { no_cache: true, ..there }),
            (&["x=\"no-store\", y"], there),
            (&["no-storey, xno-cache"], there),
            (&["proxy-revalidate"], Control { must_revalidate: true, ..there }),
            (
                &["stale-while-revalidate=5, stale-if-error=6, min-fresh=7, only-if-cached"],
                Control {
                    stale_while_revalidate: s(5),
                    stale_if_error: s(6),
                    min_fresh: s(7),
                    only_if_cached: true,
                    ..there
                },
            ),
        ] {
            assert_eq!(read(values), expected, "{values:?}");
        }
    }

    #[test]
    fn pragma_is_heard_where_nothing_else_speaks() {
        let mut headers = HeaderMap::new();
        headers.insert("pragma", "No-Cache".parse().unwrap());
        assert!(Control::of(&headers).no_cache);
        headers.insert("cache-control", "max-age=1".parse().unwrap());
        assert!(!Control::of(&headers).no_cache);
    }

    proptest! {
        #[test]
        fn a_secret_directive_is_found_among_any_others(before in "[a-z=0-9 ,-]{0,20}", after in "[ -~]{0,20}") {
            let value = format!("{before},no-store,{after}");
            prop_assert!(read(&[&value]).no_store, "{}", value);
        }
    }
}
