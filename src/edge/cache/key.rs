//! By what a kept answer is found: its URL, its way to the node, and the request headers that it varies by.
//!
//! Pure. The URL is the client's, with the host as it was sent: a node may put it into what it answers. What else a
//! client can say, and no key holds, does not reach the node when an answer is fetched to be kept: [`for_keeping`].

use std::hash::{DefaultHasher, Hash, Hasher};

use http::{HeaderMap, HeaderName, Uri, header};

use crate::config::settings::{Action, HeaderEdits, RouteSettings, Template};
use crate::edge::headers::{is_hop_by_hop, takes_encoding};

/// Longest URL of an answer that is kept, in bytes.
pub(super) const URL_BYTES_MAX: usize = 4096;
/// Most headers that an answer may vary by.
const VARY_MAX: usize = 8;
/// Longest value of such a header, normalised.
const VARY_BYTES_MAX: usize = 1024;

/// Writes the URL of a request. `None`: it is none that is kept.
pub(super) fn url(tls: bool, host: &[u8], target: &[u8]) -> Option<String> {
    let (host, target) = (std::str::from_utf8(host).ok()?, std::str::from_utf8(target).ok()?);
    let scheme = if tls { "https" } else { "http" };
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(if tls { ":443" } else { ":80" }).unwrap_or(&host);
    let legal = !host.is_empty() && !host.contains(['/', '@', '?']) && target.starts_with('/');
    let length = scheme.len() + "://".len() + host.len() + target.len();
    (legal && length <= URL_BYTES_MAX).then(|| format!("{scheme}://{host}{target}"))
}

/// Reads a URL as an operator writes it.
///
/// # Errors
/// What is wrong with it, in one line.
pub(super) fn read_url(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is no URL; write https://HOST/PATH");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        Some(_) | None => return Err(wrong()),
    };
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let host = uri.authority().map(|authority| authority.as_str().as_bytes()).unwrap_or_default();
    url(tls, host, target.as_bytes()).ok_or_else(wrong)
}

/// Tells ways to nodes apart: an answer is kept for the pool, the service and the path that it came from, for what the route
/// tells the node beside the client's own headers, and for the host that a trusted peer told of.
pub(super) fn way(route: &RouteSettings, told_host: &[u8]) -> u64 {
    let Action::Proxy { pool, service, node } = &route.action else { return 0 };
    let text = |template: &Option<Template>| template.as_ref().map(|template| template.as_str().to_owned());
    let mut hasher = DefaultHasher::new();
    (pool, service, text(node), text(&route.rewrite), text(&route.service_rewrite), told_host)
        .hash(&mut hasher);
    let HeaderEdits { remove, set, add, default } = &route.request_headers;
    remove.hash(&mut hasher);
    for edits in [set, add, default] {
        edits.len().hash(&mut hasher);
        edits.iter().for_each(|(name, value)| (name, value.as_str()).hash(&mut hasher));
    }
    hasher.finish()
}

/// Request headers and their values, by which an answer varies.
pub(super) type Varied = Vec<(HeaderName, Vec<u8>)>;

/// Returns by what an answer varies, with the values of its request. `None`: by everything, by secrets, or by more than
/// is kept.
pub(super) fn varied(answer: &HeaderMap, request: &HeaderMap) -> Option<Varied> {
    let mut varied = Varied::new();
    for value in answer.get_all(header::VARY) {
        for name in value.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|_| name != "*")?;
            if OF_ONE_CLIENT.contains(&name.as_str()) || varied.len() == VARY_MAX {
                return None;
            }
            let value = normalised(&name, request);
            if value.len() > VARY_BYTES_MAX {
                return None;
            }
            if !varied.iter().any(|(known, _)| *known == name) {
                varied.push((name, value));
            }
        }
    }
    // Many a server forgets to say it.
    let encoded = answer.contains_key(header::CONTENT_ENCODING);
    if encoded && !varied.iter().any(|(name, _)| *name == header::ACCEPT_ENCODING) {
        let value = normalised(&header::ACCEPT_ENCODING, request);
        varied.push((header::ACCEPT_ENCODING, value));
    }
    Some(varied)
}

/// Tells whether a request is one for which the answer was made (RFC 9111 section 4.1).
pub(super) fn fits(varied: &Varied, request: &HeaderMap) -> bool {
    varied.iter().all(|(name, value)| normalised(name, request) == *value)
}

/// One text for all spellings of a header.
fn normalised(name: &HeaderName, request: &HeaderMap) -> Vec<u8> {
    if *name == header::ACCEPT_ENCODING {
        return encodings(request).into_bytes();
    }
    let mut text = Vec::new();
    let values = request.get_all(name).iter();
    for part in values.flat_map(|value| value.as_bytes().split(|b| *b == b',')) {
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(part.trim_ascii());
    }
    text
}

/// The encodings that a client takes, of those that are of use; a node is asked for these, and told in this order.
pub(super) fn encodings(request: &HeaderMap) -> String {
    let taken: Vec<&str> =
        ["br", "gzip", "zstd"].into_iter().filter(|name| takes_encoding(request, name)).collect();
    taken.join(", ")
}

/// What a client's request loses before it is sent in order to keep the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stripped {
    /// Names of headers that do not go to the node.
    pub(super) names: Vec<HeaderName>,
    /// The answer to what is left may be another one than the client asked for: if it cannot be kept, the client's own
    /// request has to be made.
    pub(super) asks_less: bool,
}

/// Finds what must not take part in an answer for everybody.
pub(super) fn for_keeping(request: &HeaderMap) -> Stripped {
    let nominated: Vec<&str> = request
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let of_one_client = |name: &str| ONE_CLIENT.contains(&name);
    let names: Vec<HeaderName> = request
        .keys()
        .filter(|name| {
            let name = name.as_str();
            of_one_client(name)
                || UNKEYED.contains(&name.replace('_', "-").as_str())
                || is_hop_by_hop(name)
                || nominated.iter().any(|nominated| nominated.eq_ignore_ascii_case(name))
        })
        .cloned()
        .collect();
    let asks_less = names.iter().any(|name| of_one_client(name.as_str()));
    Stripped { names, asks_less }
}

/// What an answer must not differ by, since every client has its own.
const OF_ONE_CLIENT: &[&str] =
    &["cookie", "authorization", "x-forwarded-for", "forwarded", "x-real-ip", "x-request-id"];

/// What makes an answer one for this client.
const ONE_CLIENT: &[&str] =
    &["cookie", "range", "if-range", "if-none-match", "if-modified-since", "x-http-method-override"];

/// Headers in which some servers read another path, host or method than the request has: what they lead to would be kept
/// under the wrong URL ("Practical Web Cache Poisoning", James Kettle, 2018).
const UNKEYED: &[&str] = &[
    "x-original-url",
    "x-rewrite-url",
    "x-original-host",
    "x-host",
    "x-forwarded-server",
    "x-forwarded-prefix",
    "x-forwarded-path",
    "x-forwarded-scheme",
    "x-http-method",
    "x-method-override",
    "cache-control",
    "pragma",
    "expect",
    "content-length",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_url_is_scheme_host_path_and_query() {
        for (tls, host, target, expected) in [
            (true, "Meet.Test", "/a?b", Some("https://meet.test/a?b")),
            (true, "meet.test:443", "/A", Some("https://meet.test/A")),
            (false, "meet.test:443", "/", Some("http://meet.test:443/")),
            (false, "meet.test:80", "/", Some("http://meet.test/")),
            (true, "[2001:db8::1]:8443", "/", Some("https://[2001:db8::1]:8443/")),
            (true, "", "/", None),
            (true, "a/b", "/", None),
            (true, "a", "*", None),
        ] {
            assert_eq!(url(tls, host.as_bytes(), target.as_bytes()).as_deref(), expected, "{host} {target}");
        }
        assert_eq!(url(true, b"a", b"/\xff"), None);
        let long = format!("/{}", "x".repeat(URL_BYTES_MAX - "https://a/".len()));
        assert!(url(true, b"a", long.as_bytes()).is_some());
        assert_eq!(url(true, b"a", format!("{long}x").as_bytes()), None);
    }

    #[test]
    fn an_operator_writes_the_same_url() {
        for (text, expected) in [
            ("https://Meet.Test:443/a?b=c", Some("https://meet.test/a?b=c")),
            ("HTTP://meet.test", Some("http://meet.test/")),
            ("meet.test/a", None),
            ("/a", None),
            ("ftp://meet.test/", None),
            ("https://user@meet.test/", None),
            ("", None),
        ] {
            assert_eq!(read_url(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn an_answer_fits_requests_like_its_own() {
        for (vary, first, second, expected) in [
            (&[][..], vec![("accept-language", "de")], vec![("accept-language", "en")], Some(true)),
            (
                &["Accept-Language"],
                vec![("accept-language", "de")],
                vec![("accept-language", "en")],
                Some(false),
            ),
            (
                &["accept-language"],
                vec![("accept-language", "de,  en")],
                vec![("accept-language", "de, en")],
                Some(true),
            ),
            (
                &["accept-language"],
                vec![("accept-language", "de"), ("accept-language", "en")],
                vec![("accept-language", "de,en")],
                Some(true),
            ),
            (&["accept-language"], vec![], vec![("accept-language", "")], Some(true)),
            (
                &["Accept-Encoding"],
                vec![("accept-encoding", "gzip, br;q=0.5")],
                vec![("accept-encoding", "br,GZIP,deflate")],
                Some(true),
            ),
            (
                &["Accept-Encoding"],
                vec![("accept-encoding", "gzip")],
                vec![("accept-encoding", "gzip;q=0")],
                Some(false),
            ),
            (&["Origin, Accept-Encoding"], vec![("origin", "a")], vec![("origin", "b")], Some(false)),
            (&["Origin", "Accept-Encoding"], vec![("origin", "a")], vec![("origin", "a")], Some(true)),
            (&["*"], vec![], vec![], None),
            (&["Origin, *"], vec![], vec![], None),
            (&["Cookie"], vec![], vec![], None),
            (&["authorization"], vec![], vec![], None),
            (&["a b"], vec![], vec![], None),
            (&["a,b,c,d,e,f,g,h,i"], vec![], vec![], None),
        ] {
            let vary: Vec<(&'static str, &str)> = vary.iter().map(|value| ("vary", *value)).collect();
            let varied = varied(&headers(&vary), &headers(&first));
            let found = varied.map(|varied| fits(&varied, &headers(&second)));
            assert_eq!(found, expected, "{vary:?} {first:?} {second:?}");
        }
        let (gzip, none) = (headers(&[("accept-encoding", "gzip")]), headers(&[]));
        let encoded = varied(&headers(&[("content-encoding", "gzip")]), &gzip).unwrap();
        assert!(
            fits(&encoded, &gzip) && !fits(&encoded, &none),
            "an encoded answer is for those who take it"
        );
        let long = "x".repeat(VARY_BYTES_MAX + 1);
        assert_eq!(varied(&headers(&[("vary", "origin")]), &headers(&[("origin", &long)])), None);
    }

    #[test]
    fn what_no_key_holds_does_not_reach_the_node() {
        let request = headers(&[
            ("host", "a"),
            ("accept", "*/*"),
            ("user-agent", "x"),
            ("x-original-url", "/admin"),
            ("x_rewrite_url", "/admin"),
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("cache-control", "no-cache"),
        ]);
        let mut stripped = for_keeping(&request);
        stripped.names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        let names: Vec<&str> = stripped.names.iter().map(HeaderName::as_str).collect();
        assert_eq!(names, ["cache-control", "connection", "te", "x-mine", "x-original-url", "x_rewrite_url"]);
        assert!(!stripped.asks_less);
        for name in ONE_CLIENT {
            let stripped = for_keeping(&headers(&[(name, "x")]));
            assert!(stripped.asks_less && stripped.names.len() == 1, "{name}");
        }
    }
}
