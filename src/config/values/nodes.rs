//! Nodes: where they are, what they offer, how they are checked.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Host, Ident, Wrong, parse_port, value};
use crate::config::fault::quote;
use crate::config::read::{NameRule, Read, Reader};
use crate::config::settings::{Name, Service};
use crate::config::tree::Node;

text_value! {
    /// Where a node is: `http://host:port`, `https://host:port`, or `tcp://host:port`.
    NodeUrl(NodeAt), "a URL",
    { "type": "string", "pattern": "^(https?|tcp)://", "examples": ["http://10.0.1.11:80", "https://s1.example.com", "tcp://10.0.0.30:5349"] },
    parse_node_url
}
text_value! {
    /// Host of a node with named services.
    NodeHost(Name), "a host", { "type": "string", "minLength": 1, "examples": ["10.0.1.11", "s1.example.com"] },
    parse_node_host
}
text_value! {
    /// Where a service of a node is: its port, or `https:PORT` over TLS.
    ServicePort(Service), "a port",
    { "type": ["integer", "string"], "minimum": 1, "maximum": 65535, "pattern": "^(https?:)?[0-9]+$" },
    parse_service
}
text_value! {
    /// Name of a region or release. A plain number is a name here.
    Label(Name), "a name", { "type": ["string", "number"], "examples": ["eu-central", "1234"] }, parse_label
}
text_value! {
    /// Host header of a check.
    ProbeHost(Name), "a host", { "type": "string", "minLength": 1, "examples": ["meet.example.com"] }, parse_probe_host
}
text_value! {
    /// Text that an answer holds.
    ProbeText(Name), "a text", { "type": "string", "minLength": 1, "maxLength": 256 }, parse_probe_text
}
text_value! {
    /// Path of a check's request.
    CheckPath(Name), "a path that begins with \"/\"", { "type": "string", "pattern": "^/" }, parse_check_path
}

fn parse_check_path(text: &str) -> Result<Name, Wrong> {
    if let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) {
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        return Err((
            "a URL".to_owned(),
            format!("only its path, {}: the node's address is known", quote(path)),
        ));
    }
    if !text.starts_with('/') {
        return Err(("not a path".to_owned(), format!("write {}", quote(&format!("/{text}")))));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err(("not a path".to_owned(), "percent-encode what is not printable ASCII".to_owned()));
    }
    Ok(Arc::from(text))
}

fn parse_probe_host(text: &str) -> Result<Name, Wrong> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if (1..=253).contains(&text.len()) && text.bytes().all(legal) {
        return Ok(Arc::from(text));
    }
    Err(("not a host".to_owned(), "as in a URL, such as \"meet.example.com\"".to_owned()))
}

fn parse_probe_text(text: &str) -> Result<Name, Wrong> {
    if (1..=256).contains(&text.len()) {
        return Ok(Arc::from(text));
    }
    Err(("no text to look for".to_owned(), "1 to 256 bytes".to_owned()))
}

fn parse_label(text: &str) -> Result<Name, Wrong> {
    Ident::check(text).map(|()| Arc::from(text)).map_err(|(_, cure)| ("not a name".to_owned(), cure))
}

fn parse_service(text: &str) -> Result<Service, Wrong> {
    let (tls, port) = match text.split_once(':') {
        Some(("https", port)) => (true, port),
        Some(("http", port)) => (false, port),
        Some(_) => return Err(("not a port".to_owned(), "1 to 65535, or \"https:443\" over TLS".to_owned())),
        None => (false, text),
    };
    match parse_port(port) {
        Some(port) if port > 0 => Ok(Service { port, tls }),
        Some(_) | None => Err(("not a port".to_owned(), "1 to 65535".to_owned())),
    }
}

fn parse_node_host(text: &str) -> Result<Name, Wrong> {
    let wrong = |cure: &str| Err(("not the host of a node".to_owned(), cure.to_owned()));
    if text.contains("://") {
        return wrong("only the host; or write the whole as `url`");
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<Ipv6Addr>().is_err() && text.contains(':') {
        return wrong("without a port: each service has its own, as in `web: 80`");
    }
    checked_host(bare).or_else(|cure| wrong(&cure))
}

/// Takes a host without brackets: an IP address, or a name in lower case.
fn checked_host(host: &str) -> Result<Name, String> {
    let host = host.to_ascii_lowercase();
    if host.parse::<IpAddr>().is_err() {
        if Host::check(&host).is_err() || host == "*" {
            return Err("a host is a name or an IP address".to_owned());
        }
        if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err("not an IPv4 address".to_owned());
        }
    }
    Ok(Arc::from(host))
}

/// What a node speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Scheme {
    Http,
    /// Nobody's business: bytes pass as they are.
    Tcp,
}

/// A URL of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct NodeAt {
    pub(in crate::config) scheme: Scheme,
    pub(in crate::config) host: Name,
    pub(in crate::config) service: Service,
}

fn parse_node_url(text: &str) -> Result<NodeAt, Wrong> {
    let wrong = |cure: String| Err(("not the URL of a node".to_owned(), cure));
    let (scheme, tls, rest) = match text.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, false, rest),
        Some(("https", rest)) => (Scheme::Http, true, rest),
        Some(("tcp", rest)) => (Scheme::Tcp, false, rest),
        Some(_) => {
            let cure = "\"http://10.0.1.11:80\", \"https://10.0.1.11:443\" or \"tcp://10.0.0.30:5349\"";
            return Err(("scheme must be http, https or tcp".to_owned(), cure.to_owned()));
        }
        None => return wrong(format!("write {}", quote(&format!("http://{text}")))),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return wrong("only host and port: requests keep their own path".to_owned());
    }
    if rest.contains('@') {
        return wrong("without a user".to_owned());
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((host, "")) if host.parse::<Ipv6Addr>().is_ok() => (host, None),
            Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() && port.starts_with(':') => {
                (host, Some(&port[1..]))
            }
            Some(_) | None => {
                return wrong("an IPv6 address stands in brackets: \"http://[::1]:80\"".to_owned());
            }
        },
        None => match rest.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return wrong("an IPv6 address stands in brackets: \"http://[::1]:80\"".to_owned());
            }
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = match port {
        None if tls => 443,
        None if scheme == Scheme::Tcp => {
            return wrong("a port is missing: TCP has none of its own".to_owned());
        }
        None => 80,
        Some(port) => match parse_port(port) {
            Some(port) if port > 0 => port,
            Some(_) | None => return wrong("a port is 1 to 65535".to_owned()),
        },
    };
    checked_host(host).map(|host| NodeAt { scheme, host, service: Service { port, tls } }).or_else(wrong)
}

/// Writes host and service as the file has them.
pub(in crate::config) fn show_node_url(host: &str, service: Service) -> String {
    let (scheme, port) = (if service.tls { "https" } else { "http" }, service.port);
    if host.contains(':') {
        format!("{scheme}://[{host}]:{port}")
    } else {
        format!("{scheme}://{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_by_url() {
        for (text, scheme, host, port) in [
            ("http://127.0.0.1:9001", Scheme::Http, "127.0.0.1", 9001),
            ("http://s1.example.com/", Scheme::Http, "s1.example.com", 80),
            ("http://S1:8080", Scheme::Http, "s1", 8080),
            ("http://[::1]:81", Scheme::Http, "::1", 81),
            ("http://[2001:db8::1]", Scheme::Http, "2001:db8::1", 80),
            ("tcp://T1:5349", Scheme::Tcp, "t1", 5349),
            ("tcp://[::1]:5349", Scheme::Tcp, "::1", 5349),
        ] {
            let expected = NodeAt { scheme, host: Arc::from(host), service: Service::plain(port) };
            assert_eq!(parse_node_url(text), Ok(expected), "{text}");
        }
        for (text, wrong) in [
            ("udp://a:443", "scheme must be http"),
            ("tcp://a", "a port is missing"),
            ("tcp://a:443/path", "only host and port"),
            ("a:80", "write \"http://a:80\""),
            ("http://a:80/path", "only host and port"),
            ("http://u@a:80", "without a user"),
            ("http://a:0", "a port is 1 to 65535"),
            ("http://a:70000", "a port is 1 to 65535"),
            ("http://", "a host is a name"),
            ("http://:80", "a host is a name"),
            ("http://a b", "a host is a name"),
            ("http://*:80", "a host is a name"),
            ("http://1.2.3.400:80", "a host is a name"),
            ("http://::1:80", "an IPv6 address"),
            ("http://[::1]x", "an IPv6 address"),
            ("http://[x]:80", "an IPv6 address"),
        ] {
            let (message, cure) = parse_node_url(text).unwrap_err();
            assert!(message.starts_with(wrong) || cure.starts_with(wrong), "{text}: {message}; {cure}");
        }
    }

    #[test]
    fn services_and_nodes_over_tls() {
        let tls = |port| Service { port, tls: true };
        for (text, service) in
            [("80", Service::plain(80)), ("http:81", Service::plain(81)), ("https:443", tls(443))]
        {
            assert_eq!(parse_service(text), Ok(service), "{text}");
        }
        for text in ["0", "65536", "tcp:80", "https:", "https:0", "443:https", "https://a:443", "-1", ""] {
            assert!(parse_service(text).is_err(), "{text}");
        }
        for (text, host, port) in [
            ("https://s1.test", "s1.test", 443),
            ("https://[::1]:8443", "::1", 8443),
            ("https://A:80/", "a", 80),
        ] {
            let parsed = parse_node_url(text).unwrap();
            let expected = NodeAt { scheme: Scheme::Http, host: Arc::from(host), service: tls(port) };
            assert_eq!(parsed, expected, "{text}");
            assert_eq!(parse_node_url(&show_node_url(&parsed.host, parsed.service)), Ok(parsed));
        }
    }

    #[test]
    fn hosts_of_nodes() {
        for (text, host) in [
            ("10.0.1.11", "10.0.1.11"),
            ("S1.example.com", "s1.example.com"),
            ("::1", "::1"),
            ("[2001:db8::1]", "2001:db8::1"),
        ] {
            assert_eq!(parse_node_host(text), Ok(Arc::from(host)), "{text}");
        }
        for (text, cure) in [
            ("http://a", "only the host"),
            ("a:80", "without a port"),
            ("[::1]:80", "without a port"),
            ("*", "a host is a name"),
            ("a b", "a host is a name"),
            ("", "a host is a name"),
            ("1.2.3.400", "a host is a name"),
        ] {
            let (_, found) = parse_node_host(text).unwrap_err();
            assert!(found.starts_with(cure), "{text}: {found}");
        }
    }
}
