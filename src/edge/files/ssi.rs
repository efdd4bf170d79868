//! Server-side includes, as far as Jitsi Meet's pages use them: `include virtual`, `echo var`.
//!
//! Pure: bytes in, bytes out; what is included comes from a function that is passed in. Any other directive stays as it
//! is, and so does one that is cut off. Bounds: depth, and bytes of the whole page.

/// Includes within includes, the page itself not counted.
const DEPTH_MAX: usize = 4;
/// Largest page, everything included.
pub(super) const PAGE_BYTES_MAX: usize = 8 << 20;

/// Where a page gets what it asks for.
pub(super) trait Source {
    /// Returns a file by its path from the top of the folder; `None`: it is not there or may not be read.
    fn include(&mut self, path: &str) -> Option<Vec<u8>>;
    /// Returns a variable; `None`: it is not defined.
    fn variable(&self, name: &str) -> Option<&str>;
}

/// A page that is too large, or includes itself too deeply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Excess {
    /// The page is too long.
    #[error("the page is longer than {PAGE_BYTES_MAX} bytes with all that it includes")]
    Bytes,
    /// Includes are nested too deeply.
    #[error("includes are nested deeper than {DEPTH_MAX}")]
    Depth,
}

/// Carries out the directives of a page.
///
/// # Errors
/// The page exceeds a bound.
pub(super) fn expand(page: &[u8], source: &mut dyn Source) -> Result<Vec<u8>, Excess> {
    let mut out = Vec::with_capacity(page.len());
    expand_into(&mut out, page, source, 0)?;
    Ok(out)
}

fn expand_into(out: &mut Vec<u8>, page: &[u8], source: &mut dyn Source, depth: usize) -> Result<(), Excess> {
    let mut rest = page;
    while let Some(begin) = find(rest, BEGIN) {
        let (before, from) = rest.split_at(begin);
        put(out, before)?;
        let Some(end) = find(from, END) else {
            rest = from;
            break;
        };
        let (whole, after) = from.split_at(end + END.len());
        let inner = whole.get(BEGIN.len()..end).unwrap_or_default();
        match directive(inner) {
            Some(Directive::Include(path)) => {
                if depth >= DEPTH_MAX {
                    return Err(Excess::Depth);
                }
                // What is not there leaves nothing: a page without a part beats no page.
                if let Some(text) = source.include(&path) {
                    expand_into(out, &text, source, depth + 1)?;
                }
            }
            Some(Directive::Echo { name, default, raw }) => {
                let text = source.variable(&name).map_or(default.as_str(), |text| text);
                if raw { put(out, text.as_bytes())? } else { put(out, escaped(text).as_bytes())? }
            }
            None => put(out, whole)?,
        }
        rest = after;
    }
    put(out, rest)
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Excess> {
    if out.len() + bytes.len() > PAGE_BYTES_MAX {
        return Err(Excess::Bytes);
    }
    out.extend_from_slice(bytes);
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Directive {
    Include(String),
    Echo { name: String, default: String, raw: bool },
}

/// Reads what stands between `<!--#` and `-->`; `None`: nothing that is carried out here.
fn directive(inner: &[u8]) -> Option<Directive> {
    let inner = std::str::from_utf8(inner).ok()?.trim();
    let (command, mut rest) = inner.split_once(char::is_whitespace)?;
    let mut parameters = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            break;
        }
        let (name, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (text, after) = value.get(1..)?.split_once(quote)?;
        parameters.push((name.trim(), text));
        rest = after;
    }
    let get = |name: &str| parameters.iter().find(|(n, _)| *n == name).map(|(_, text)| (*text).to_owned());
    match command {
        "include" => get("virtual").map(Directive::Include),
        // As Nginx has it: escaped unless it is said otherwise.
        "echo" => Some(Directive::Echo {
            name: get("var")?,
            default: get("default").unwrap_or_else(|| "(none)".to_owned()),
            raw: get("encoding").as_deref() == Some("none"),
        }),
        _ => None,
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

const BEGIN: &[u8] = b"<!--#";
const END: &[u8] = b"-->";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    struct Files {
        files: BTreeMap<&'static str, &'static str>,
        variables: BTreeMap<&'static str, &'static str>,
    }

    impl Source for Files {
        fn include(&mut self, path: &str) -> Option<Vec<u8>> {
            self.files.get(path).map(|text| text.as_bytes().to_vec())
        }
        fn variable(&self, name: &str) -> Option<&str> {
            self.variables.get(name).copied()
        }
    }

    fn files() -> Files {
        Files {
            files: BTreeMap::from([
                ("/title.html", "<title>Meet</title>"),
                ("/base.html", "<base href=\"/<!--# echo var=\"subdir\" default=\"\" -->\">"),
                ("/self.html", "<!--#include virtual=\"/self.html\" -->"),
                ("/two.html", "[<!--#include virtual='/base.html'-->]"),
            ]),
            variables: BTreeMap::from([("subdir", "a&b/"), ("empty", "")]),
        }
    }

    #[test]
    fn directives_are_carried_out_and_others_stay() {
        for (page, expected) in [
            ("", ""),
            ("<p>", "<p>"),
            ("a<!--#include virtual=\"/title.html\" -->b", "a<title>Meet</title>b"),
            ("<!--# include virtual=\"/two.html\" -->", "[<base href=\"/a&amp;b/\">]"),
            ("<!--# include virtual=\"/none.html\" -->x", "x"),
            ("<!--# echo var=\"subdir\" -->", "a&amp;b/"),
            ("<!--# echo var=\"subdir\" encoding=\"none\" -->", "a&b/"),
            ("<!--# echo var=\"empty\" default=\"d\" -->", ""),
            ("<!--# echo var=\"other\" default=\"d\" -->", "d"),
            ("<!--# echo var=\"other\" -->", "(none)"),
            ("<!-- a comment -->", "<!-- a comment -->"),
            ("<!--# if expr=\"$x\" -->y<!--# endif -->", "<!--# if expr=\"$x\" -->y<!--# endif -->"),
            ("<!--# echo var=x -->", "<!--# echo var=x -->"),
            ("<!--# echo var=\"x", "<!--# echo var=\"x"),
        ] {
            let out = expand(page.as_bytes(), &mut files()).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{page}");
        }
    }

    #[test]
    fn a_page_that_includes_itself_ends() {
        assert_eq!(expand(b"<!--#include virtual=\"/self.html\" -->", &mut files()), Err(Excess::Depth));
    }

    #[test]
    fn a_page_that_multiplies_ends() {
        struct Many;
        impl Source for Many {
            fn include(&mut self, _: &str) -> Option<Vec<u8>> {
                Some(b"<!--#include virtual=\"x\"-->".repeat(1000).into_iter().chain([b'x'; 4096]).collect())
            }
            fn variable(&self, _: &str) -> Option<&str> {
                None
            }
        }
        assert!(expand(b"<!--#include virtual=\"x\"-->", &mut Many).is_err());
        let large = vec![b'x'; PAGE_BYTES_MAX];
        assert_eq!(expand(&large, &mut files()).unwrap().len(), PAGE_BYTES_MAX);
        assert_eq!(expand(&[large, vec![b'x']].concat(), &mut files()), Err(Excess::Bytes));
    }

    proptest! {
        #[test]
        fn what_has_no_directive_stays_byte_for_byte(page in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assume!(find(&page, BEGIN).is_none());
            prop_assert_eq!(expand(&page, &mut files()).unwrap(), page);
        }

        #[test]
        fn no_page_is_a_fault(page in "(<!--#|-->|include|echo| |virtual=|var=|\"|'|/self.html|x){0,30}") {
            let _ = expand(page.as_bytes(), &mut files());
        }
    }
}
