//! Reads a wish to take away what the cache keeps, as it comes to `/api/v1/cache/purge`.
//!
//! Pure: bytes in, a wish or one sentence for the operator out.

use serde::Deserialize;

use super::view::Purge;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    url: Option<String>,
    prefix: Option<String>,
}

/// Reads the body of a `POST`. What the URL itself is worth is judged by the edge.
///
/// # Errors
///
/// What is wrong, and the cure.
pub(super) fn read(body: &[u8]) -> Result<Purge, String> {
    let body: Body = serde_json::from_slice(body).map_err(|error| format!("the body: {error}; {FORM}"))?;
    match (body.url, body.prefix) {
        (Some(url), None) => Ok(Purge { url, below: false }),
        (None, Some(url)) => Ok(Purge { url, below: true }),
        (None, None) => Err(format!("the body says nothing of what; {FORM}")),
        (Some(_), Some(_)) => Err(format!("the body says `url` and `prefix`; {FORM}")),
    }
}

const FORM: &str = "{ \"url\": \"https://HOST/PATH?QUERY\" }, or { \"prefix\": \"https://HOST/PATH\" } for all that begin with it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_read_or_its_fault_is_named() {
        let purge = |url: &str, below| Ok(Purge { url: url.to_owned(), below });
        for (body, expected) in [
            (r#"{"url":"https://a/b"}"#, purge("https://a/b", false)),
            (r#"{"prefix":"https://a/"}"#, purge("https://a/", true)),
            ("{}", Err("the body says nothing")),
            (r#"{"url":"a","prefix":"b"}"#, Err("the body says `url` and `prefix`")),
            (r#"{"uri":"a"}"#, Err("the body: unknown field `uri`")),
            ("", Err("the body: EOF")),
        ] {
            match (read(body.as_bytes()), expected) {
                (Err(wrong), Err(expected)) => assert!(wrong.starts_with(expected), "{body}: {wrong}"),
                (read, expected) => assert_eq!(read, expected.map_err(str::to_owned), "{body}"),
            }
        }
    }
}
