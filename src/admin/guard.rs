//! Who may ask the admin server: decides on one request head.
//!
//! Pure: headers in, a verdict out. Three dangers: a page that rebinds its own name to this address (the Host must
//! be an address of ours), a page that posts across sites (Origin, Sec-Fetch-Site and the content type must fit), and
//! somebody on the network without a token.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};

use crate::config::settings::{AdminSettings, Name, Secret};

/// What the guard knows of one request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Whether the method changes nothing (GET, HEAD).
    pub reads: bool,
    /// Whether the path is open to everybody who can reach the address: health and the page's own files.
    pub open: bool,
    /// The values of all Host headers.
    pub host: &'a [&'a str],
    /// The value of Origin.
    pub origin: Option<&'a str>,
    /// The value of Sec-Fetch-Site.
    pub fetch_site: Option<&'a str>,
    /// The value of Content-Type.
    pub content_type: Option<&'a str>,
    /// Whether the request says that a body follows.
    pub has_body: bool,
    /// The value of Authorization.
    pub authorization: Option<&'a str>,
    /// The address that the client connected to.
    pub local: SocketAddr,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No Host, several, or one that is no host.
    BadHost,
    /// The Host is none of ours.
    ForeignHost,
    /// The Origin is not the Host.
    ForeignOrigin,
    /// The browser says that another site sends this.
    CrossSite,
    /// A body that is not JSON.
    NotJson,
    /// No token.
    NoToken,
    /// A token that is none of ours.
    WrongToken,
}

impl Refusal {
    /// Label for metrics. Stable: dashboards depend on it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadHost => "bad_host",
            Self::ForeignHost => "foreign_host",
            Self::ForeignOrigin => "foreign_origin",
            Self::CrossSite => "cross_site",
            Self::NotJson => "not_json",
            Self::NoToken => "no_token",
            Self::WrongToken => "wrong_token",
        }
    }

    /// HTTP status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::BadHost => 400,
            Self::ForeignHost => 421,
            Self::ForeignOrigin | Self::CrossSite => 403,
            Self::NotJson => 415,
            Self::NoToken | Self::WrongToken => 401,
        }
    }

    /// One sentence that names the fault and the cure.
    pub fn message(self) -> &'static str {
        match self {
            Self::BadHost => "the request needs exactly one Host header that names a host",
            Self::ForeignHost => {
                "this Host is not an address of the admin server: use localhost, a loopback address or an address of admin.bind"
            }
            Self::ForeignOrigin => {
                "the Origin is another one than the Host: open the page at its own address"
            }
            Self::CrossSite => "another site may not send this request",
            Self::NotJson => "a body must be JSON with the content type application/json",
            Self::NoToken => {
                "this address asks for a token: send `Authorization: Bearer ...` with one of admin.tokens"
            }
            Self::WrongToken => "the token is none of admin.tokens",
        }
    }
}

/// Decides who may ask.
#[derive(Clone, Debug)]
pub struct Guard {
    bind: Vec<IpAddr>,
    tokens: BTreeMap<Name, Secret>,
}

impl Guard {
    /// Takes the addresses and tokens of the settings.
    pub fn new(settings: &AdminSettings) -> Self {
        let bind = settings.bind.iter().map(|address| address.ip().to_canonical()).collect();
        Self { bind, tokens: settings.tokens.clone() }
    }

    /// Returns the same guard with other tokens: the addresses are those that the process listens on.
    #[must_use]
    pub fn with_tokens(&self, tokens: &BTreeMap<Name, Secret>) -> Self {
        Self { bind: self.bind.clone(), tokens: tokens.clone() }
    }

    /// Returns the name of the token that the request carries, or `None` when none is asked for.
    ///
    /// # Errors
    ///
    /// The first reason to refuse, Host before Origin before body before token.
    pub fn check(&self, ask: &Ask<'_>) -> Result<Option<Name>, Refusal> {
        let [host] = ask.host else { return Err(Refusal::BadHost) };
        let authority = Authority::parse(host).ok_or(Refusal::BadHost)?;
        if !self.is_ours(&authority, ask.local) {
            return Err(Refusal::ForeignHost);
        }
        if let Some(origin) = ask.origin {
            let same = origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"))
                .is_some_and(|origin| origin.eq_ignore_ascii_case(host));
            if !same {
                return Err(Refusal::ForeignOrigin);
            }
        }
        if !ask.reads {
            // A form cannot send JSON, and a page of another site cannot without a preflight, which is never granted.
            if !ask.fetch_site.is_none_or(|site| site == "same-origin" || site == "none") {
                return Err(Refusal::CrossSite);
            }
            let json = ask.content_type.map(is_json);
            if json == Some(false) || (ask.has_body && json.is_none()) {
                return Err(Refusal::NotJson);
            }
        }
        if ask.open || self.tokens.is_empty() {
            return Ok(None);
        }
        let token = ask.authorization.and_then(bearer).ok_or(Refusal::NoToken)?;
        self.holder(token.as_bytes()).map(Some).ok_or(Refusal::WrongToken)
    }

    // An IP address in Host cannot be rebound, so any address that the client really connected to is ours.
    fn is_ours(&self, authority: &Authority<'_>, local: SocketAddr) -> bool {
        match authority {
            Authority::Address(ip) => {
                ip.is_loopback() || *ip == local.ip().to_canonical() || self.bind.contains(ip)
            }
            Authority::Name(name) => name.eq_ignore_ascii_case("localhost"),
        }
    }

    // Looks at every token, whichever fits: the time tells nothing of where the first difference is.
    fn holder(&self, token: &[u8]) -> Option<Name> {
        let mut holder = None;
        for (name, secret) in &self.tokens {
            if equal(secret.expose(), token) {
                holder = Some(Name::clone(name));
            }
        }
        holder
    }
}

enum Authority<'a> {
    Address(IpAddr),
    Name(&'a str),
}

impl<'a> Authority<'a> {
    // RFC 3986 section 3.2: host, or [host], with or without :port.
    fn parse(host: &'a str) -> Option<Self> {
        if let Some(rest) = host.strip_prefix('[') {
            let (inside, port) = rest.split_once(']')?;
            if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
                return None;
            }
            let address: std::net::Ipv6Addr = inside.parse().ok()?;
            return Some(Self::Address(IpAddr::V6(address).to_canonical()));
        }
        let name = match host.split_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => return None,
            None => host,
        };
        if let Ok(address) = name.parse::<std::net::Ipv4Addr>() {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        (!name.is_empty() && name.bytes().all(legal)).then_some(Self::Name(name))
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

// RFC 9110 section 11.1: the scheme is compared without regard to case.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

// Compares in a time that depends on the lengths only.
fn equal(secret: &[u8], token: &[u8]) -> bool {
    let mut difference = u8::from(secret.len() != token.len()) | u8::from(secret.is_empty());
    for (index, byte) in token.iter().enumerate() {
        let other = secret.get(index).copied().unwrap_or_default();
        difference |= black_box(byte ^ other);
    }
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "127.0.0.1:9180";

    fn guard(bind: &[&str], tokens: &[(&str, &str)]) -> Guard {
        Guard::new(&AdminSettings {
            bind: bind.iter().map(|address| address.parse().unwrap()).collect(),
            tokens: tokens
                .iter()
                .map(|(name, value)| (Name::from(*name), Secret::new("env:T", value.as_bytes().to_vec())))
                .collect(),
        })
    }

    fn get<'a>(host: &'a [&'a str]) -> Ask<'a> {
        Ask {
            reads: true,
            open: false,
            host,
            origin: None,
            fetch_site: None,
            content_type: None,
            has_body: false,
            authorization: None,
            local: LOCAL.parse().unwrap(),
        }
    }

    #[test]
    fn only_our_own_hosts_are_answered() {
        let guard = guard(&["127.0.0.1:9180", "10.0.0.10:9180"], &[]);
        for (host, expected) in [
            (&["localhost:9180"][..], Ok(None)),
            (&["LocalHost"], Ok(None)),
            (&["127.0.0.1:9180"], Ok(None)),
            (&["127.8.9.1"], Ok(None)),
            (&["[::1]:9180"], Ok(None)),
            (&["[::ffff:127.0.0.1]"], Ok(None)),
            (&["10.0.0.10:9180"], Ok(None)),
            (&["10.0.0.11:9180"], Err(Refusal::ForeignHost)),
            (&["evil.example"], Err(Refusal::ForeignHost)),
            (&["localhost.evil.example"], Err(Refusal::ForeignHost)),
            (&["127.0.0.1.evil.example"], Err(Refusal::ForeignHost)),
            (&["localhost", "localhost"], Err(Refusal::BadHost)),
            (&[], Err(Refusal::BadHost)),
            (&[""], Err(Refusal::BadHost)),
            (&["localhost:"], Err(Refusal::BadHost)),
            (&["localhost:99999"], Err(Refusal::BadHost)),
            (&["localhost:80@evil.example"], Err(Refusal::BadHost)),
            (&["a/b"], Err(Refusal::BadHost)),
            (&["[::1"], Err(Refusal::BadHost)),
        ] {
            assert_eq!(guard.check(&get(host)), expected, "{host:?}");
        }
    }

    #[test]
    fn a_wildcard_bind_answers_to_the_address_that_was_asked() {
        let guard = guard(&["[::]:9180"], &[]);
        let mut ask = get(&["192.0.2.7:9180"]);
        assert_eq!(guard.check(&ask), Err(Refusal::ForeignHost));
        ask.local = "[::ffff:192.0.2.7]:9180".parse().unwrap();
        assert_eq!(guard.check(&ask), Ok(None));
    }

    #[test]
    fn an_origin_must_be_the_host() {
        let guard = guard(&[LOCAL], &[]);
        for (origin, expected) in [
            ("http://localhost:9180", Ok(None)),
            ("https://LOCALHOST:9180", Ok(None)),
            ("http://localhost", Err(Refusal::ForeignOrigin)),
            ("http://127.0.0.1:9180", Err(Refusal::ForeignOrigin)),
            ("http://evil.example", Err(Refusal::ForeignOrigin)),
            ("null", Err(Refusal::ForeignOrigin)),
            ("", Err(Refusal::ForeignOrigin)),
        ] {
            let ask = Ask { origin: Some(origin), ..get(&["localhost:9180"]) };
            assert_eq!(guard.check(&ask), expected, "{origin}");
        }
    }

    #[test]
    fn a_form_of_another_site_cannot_post() {
        let guard = guard(&[LOCAL], &[]);
        for (fetch_site, content_type, has_body, expected) in [
            (None, None, false, Ok(None)),
            (Some("same-origin"), None, false, Ok(None)),
            (Some("none"), Some("application/json"), true, Ok(None)),
            (None, Some("Application/JSON; charset=utf-8"), true, Ok(None)),
            (Some("cross-site"), None, false, Err(Refusal::CrossSite)),
            (Some("same-site"), Some("application/json"), true, Err(Refusal::CrossSite)),
            (None, Some("application/x-www-form-urlencoded"), true, Err(Refusal::NotJson)),
            (None, Some("text/plain"), false, Err(Refusal::NotJson)),
            (None, None, true, Err(Refusal::NotJson)),
        ] {
            let ask = Ask { reads: false, fetch_site, content_type, has_body, ..get(&["localhost:9180"]) };
            assert_eq!(guard.check(&ask), expected, "{fetch_site:?} {content_type:?} {has_body}");
        }
    }

    #[test]
    fn tokens_are_asked_for_once_there_are_some() {
        let guard = guard(&["10.0.0.10:9180"], &[("grafana", "abc123"), ("ops", "xyz")]);
        for (authorization, expected) in [
            (Some("Bearer abc123"), Ok(Some(Name::from("grafana")))),
            (Some("bearer  xyz "), Ok(Some(Name::from("ops")))),
            (Some("Bearer abc124"), Err(Refusal::WrongToken)),
            (Some("Bearer abc12"), Err(Refusal::WrongToken)),
            (Some("Bearer abc1234"), Err(Refusal::WrongToken)),
            (Some("Bearer "), Err(Refusal::NoToken)),
            (Some("Basic abc123"), Err(Refusal::NoToken)),
            (None, Err(Refusal::NoToken)),
        ] {
            let ask = Ask { authorization, ..get(&["10.0.0.10:9180"]) };
            assert_eq!(guard.check(&ask), expected, "{authorization:?}");
        }
        assert_eq!(guard.check(&Ask { open: true, ..get(&["10.0.0.10:9180"]) }), Ok(None));
        // An open path is open to our own hosts only.
        assert_eq!(guard.check(&Ask { open: true, ..get(&["evil.example"]) }), Err(Refusal::ForeignHost));
    }

    #[test]
    fn an_empty_secret_lets_nobody_in() {
        let guard = guard(&[LOCAL], &[("empty", "")]);
        let ask = Ask { authorization: Some("Bearer x"), ..get(&["localhost"]) };
        assert_eq!(guard.check(&ask), Err(Refusal::WrongToken));
        assert!(!equal(b"", b""));
    }
}
