//! Kinds of values that a configuration holds: durations, sizes, addresses, names, words.
//!
//! Pure. Each knows how it is read, how it is written and how the schema describes it.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::fault::{known, quote};
use super::read::{NameRule, Read, Reader};
use super::settings::Name;
use super::tree::{Kind, Node, ScalarType};

/// Declares an enum of fixed words.
macro_rules! words {
    ($(#[doc = $about:literal])+ $name:ident, $what:literal { $( $word:literal => $variant:ident ),+ $(,)? }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::config) enum $name {
            $( #[doc = concat!("`", $word, "`")] $variant ),+
        }

        impl $name {
            pub(in crate::config) const WORDS: &'static [&'static str] = &[$($word),+];

            pub(in crate::config) fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word ),+ }
            }

            pub(in crate::config) fn find(text: &str) -> Option<Self> {
                match text { $( $word => Some(Self::$variant), )+ _ => None }
            }
        }

        impl Read for $name {
            fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
                let Kind::Scalar(scalar) = &node.kind else {
                    reader.wrong(node, $what, known("", Self::WORDS.iter().copied()));
                    return None;
                };
                let text = &scalar.text;
                let word = Self::find(text);
                let wrong = || (concat!("not ", $what).to_owned(), known(text, Self::WORDS.iter().copied()));
                value(node, reader, text, word.ok_or_else(wrong))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "enum": Self::WORDS })
            }
        }
    };
}

/// Declares a kind of value that is one text with a rule.
macro_rules! text_value {
    ($(#[doc = $about:literal])+ $name:ident($inner:ty), $what:literal, $schema:tt, $parse:path) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(in crate::config) struct $name(pub(in crate::config) $inner);

        impl Read for $name {
            fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
                let text = &reader.scalar(node, $what)?.text;
                value(node, reader, text, $parse(text).map(Self))
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

pub(super) mod flag;
pub(super) mod log;
pub(super) mod network;
mod nodes;
pub(super) mod rate;
pub(super) mod routes;

pub(super) use nodes::{
    CheckPath, Label, NodeHost, NodeUrl, ProbeHost, ProbeText, Scheme, ServicePort, show_node_url,
};

/// Message and cure.
pub(super) type Wrong = (String, String);

/// A duration in a whole number of one unit, between `MIN` milliseconds and `MAX` seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time<const MIN: u64, const MAX: u64>(pub(super) Duration);

impl<const MIN: u64, const MAX: u64> Time<MIN, MAX> {
    pub(super) const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    fn range() -> String {
        format!("{} to {}", show_time(Duration::from_millis(MIN)), show_time(Duration::from_secs(MAX)))
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if digits == 0 {
            return Err(("not a duration".to_owned(), TIME_CURE.to_owned()));
        }
        let Some((_, ms)) = TIME_UNITS.iter().find(|(name, _)| *name == unit) else {
            let message = if unit.is_empty() { "a duration without a unit" } else { "not a duration" };
            let cure = if unit.is_empty() {
                format!("\"{number}s\", perhaps: {TIME_CURE}")
            } else {
                TIME_CURE.to_owned()
            };
            return Err((message.to_owned(), cure));
        };
        let ms = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(*ms))
            .filter(|ms| (MIN..=MAX * 1000).contains(ms));
        ms.map(|ms| Self(Duration::from_millis(ms))).ok_or_else(|| ("out of range".to_owned(), Self::range()))
    }
}

/// Reads a duration as the file has it, up to a week.
pub(super) fn parse_time(text: &str) -> Option<Duration> {
    Time::<0, 604_800>::parse(text).ok().map(|time| time.0)
}

/// Writes a duration in the largest unit that fits.
pub(super) fn show_time(time: Duration) -> String {
    let ms = time.as_millis();
    let unit = TIME_UNITS
        .iter()
        .rev()
        .find(|(_, unit)| ms >= u128::from(*unit) && ms.is_multiple_of(u128::from(*unit)));
    match unit {
        Some((name, unit)) => format!("{}{name}", ms / u128::from(*unit)),
        None => "0s".to_owned(),
    }
}

impl<const MIN: u64, const MAX: u64> Read for Time<MIN, MAX> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let text = &reader.scalar(node, "a duration")?.text;
        value(node, reader, text, Self::parse(text))
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Time<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&show_time(self.0))
    }
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Time<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Time_{MIN}_{MAX}").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let range = Self::range();
        json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$", "x-roomgate-range": range })
    }
}

/// A number of bytes with its unit, between `MIN` and `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size<const MIN: u64, const MAX: u64>(pub(super) u64);

impl<const MIN: u64, const MAX: u64> Size<MIN, MAX> {
    fn parse(text: &str) -> Result<Self, Wrong> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if digits == 0 {
            return Err(("not a size".to_owned(), SIZE_CURE.to_owned()));
        }
        let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
            if unit.is_empty() {
                let bytes = number.parse().unwrap_or(0);
                let cure = format!("write \"{}\": {SIZE_CURE}", show_size(bytes));
                return Err(("a size without a unit".to_owned(), cure));
            }
            let binary = SIZE_UNITS
                .iter()
                .rev()
                .find(|(name, _)| name[..1].eq_ignore_ascii_case(&unit[..unit.floor_char_boundary(1)]));
            let cure = match binary {
                Some((name, _)) => format!("did you mean \"{number}{name}\"? {SIZE_CURE}"),
                None => SIZE_CURE.to_owned(),
            };
            return Err(("not a size".to_owned(), cure));
        };
        let bytes = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(*factor))
            .filter(|n| (MIN..=MAX).contains(n));
        bytes
            .map(Self)
            .ok_or_else(|| ("out of range".to_owned(), format!("{} to {}", show_size(MIN), show_size(MAX))))
    }
}

/// Writes a size in the largest unit that fits.
pub(super) fn show_size(bytes: u64) -> String {
    let unit = SIZE_UNITS.iter().rev().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match unit {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => "0B".to_owned(),
    }
}

impl<const MIN: u64, const MAX: u64> Read for Size<MIN, MAX> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let text = &reader.scalar(node, "a size")?.text;
        value(node, reader, text, Self::parse(text))
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Size<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&show_size(self.0))
    }
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Size<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Size_{MIN}_{MAX}").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let range = format!("{} to {}", show_size(MIN), show_size(MAX));
        json_schema!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$", "x-roomgate-range": range })
    }
}

/// A whole number between `MIN` and `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Count<const MIN: u32, const MAX: u32>(pub(super) u32);

impl<const MIN: u32, const MAX: u32> Count<MIN, MAX> {
    fn range() -> String {
        if MIN == MAX { format!("it is {MIN}") } else { format!("{MIN} to {MAX}") }
    }
}

impl<const MIN: u32, const MAX: u32> Read for Count<MIN, MAX> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let expected = "a whole number";
        match reader.scalar(node, expected)?.scalar_type() {
            ScalarType::Int(int) => {
                let count = u32::try_from(int).ok().filter(|n| (MIN..=MAX).contains(n)).map(Self);
                let wrong = || ("out of range".to_owned(), Self::range());
                value(node, reader, &int.to_string(), count.ok_or_else(wrong))
            }
            ScalarType::Text | ScalarType::Float | ScalarType::Bool | ScalarType::Nothing => {
                reader.wrong(node, expected, Self::range());
                None
            }
        }
    }
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Count<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Count_{MIN}_{MAX}").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

words! {
    /// Preset of a site.
    AppWord, "a preset" {
        "jitsi" => Jitsi,
        "conference" => Conference,
        "livekit" => Livekit,
        "janus" => Janus,
        "galene" => Galene,
    }
}
words! {
    /// A rule of how requests name their room that has a name of its own.
    RoomWord, "a rule" { "jitsi" => Jitsi, "conference" => Conference }
}
words! {
    /// What requests speak to nodes.
    ProtocolWord, "a protocol" { "h1" => H1, "h2" => H2 }
}
words! {
    /// Where placements are kept.
    StoreWord, "a store" { "memory" => Memory }
}
words! {
    /// What a listener redirects to.
    RedirectWord, "a redirect" { "https" => Https }
}
words! {
    /// What a client gets whose name no certificate has.
    UnknownNameWord, "an answer to unknown names" { "default" => Default, "refuse" => Refuse }
}
words! {
    /// Versions and suites of TLS.
    ProfileWord, "a TLS profile" { "intermediate" => Intermediate, "modern" => Modern }
}
words! {
    /// Whether clients must show a certificate.
    ClientModeWord, "a rule for client certificates" { "required" => Required, "optional" => Optional }
}
words! {
    /// What a request does for the place of its room.
    PlaceWord, "a way of placing" { "always" => Always, "known" => Known, "never" => Never }
}
words! {
    /// A version of the PROXY protocol.
    ProxyVersionWord, "a version of the PROXY protocol that is written" { "v2" => V2 }
}
words! {
    /// What a TCP node is asked.
    TcpCheckWord, "a check of a TCP node" { "connect" => Connect }
}
words! {
    /// A part of the path.
    PathWord, "a part of the path" { "last" => Last, "first" => First }
}

text_value! {
    /// An address to listen on: `:8443`, `127.0.0.1:9180`, `[::1]:80`.
    Bind(SocketAddr), "an address with a port",
    { "type": "string", "pattern": ":[0-9]+$", "examples": [":8443", "127.0.0.1:9180", "[::1]:80"] }, parse_bind
}
text_value! {
    /// An address told to clients, with or without a port.
    Advertised((IpAddr, Option<u16>)), "an IP address",
    { "type": "string", "examples": ["203.0.113.10", "203.0.113.10:10000", "2001:db8::10"] }, parse_advertised
}
text_value! {
    /// A public IP address of an edge.
    PublicIp(IpAddr), "an IP address",
    { "type": "string", "examples": ["203.0.113.10", "2001:db8::10"] }, parse_public
}
text_value! {
    /// A file, relative to the folder of the configuration.
    FilePath(String), "a path", { "type": "string", "minLength": 1 }, parse_path
}
text_value! {
    /// Name of a query parameter.
    QueryName(Name), "the name of a query parameter", { "type": "string", "minLength": 1, "maxLength": 64 },
    parse_parameter
}
text_value! {
    /// Name of a header or cookie, an RFC 9110 token.
    TokenName(Name), "a name", { "type": "string", "minLength": 1, "maxLength": 64 }, parse_token
}

impl Serialize for Bind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&show_bind(self.0))
    }
}

impl Serialize for QueryName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Serialize for FilePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Serialize for PublicIp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A name that refers to a pool. A plain number is a name here, as it is where the pool is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PoolRef(pub(super) Name);

impl Read for PoolRef {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        Some(Self(Arc::from(reader.scalar(node, "the name of a pool")?.text.as_str())))
    }
}

impl JsonSchema for PoolRef {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "PoolRef".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// Names of listeners, pools, nodes, edges and tokens.
#[derive(Clone, Debug)]
pub(super) enum Ident {}

impl NameRule for Ident {
    const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";

    fn check(name: &str) -> Result<(), Wrong> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if first && name.len() <= 64 && name.bytes().all(legal) {
            return Ok(());
        }
        let cure = "1 to 64 letters, digits, \".\", \"_\" or \"-\", a letter or digit first";
        Err((format!("{} is not a name", quote(name)), cure.to_owned()))
    }
}

/// Names of sites: a host as a browser sends it, `*.` before one, or `*`.
#[derive(Clone, Debug)]
pub(super) enum Host {}

impl NameRule for Host {
    const PATTERN: &'static str = r"^(\*|\[[0-9a-f:.]+\]|(\*\.)?[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?)$";

    fn check(name: &str) -> Result<(), Wrong> {
        let wrong = |cure: String| Err((format!("{} is not a host name", quote(name)), cure));
        if name == "*" {
            return Ok(());
        }
        let whole = name;
        let name = name.strip_prefix("*.").unwrap_or(name);
        if let Some(inner) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return match inner.parse::<Ipv6Addr>() {
                Ok(ip) if ip.to_string() == inner => Ok(()),
                Ok(ip) => wrong(format!("write \"[{ip}]\"")),
                Err(_) => wrong("an IPv6 address stands in brackets".to_owned()),
            };
        }
        if name.contains('*') {
            return wrong("\"*.\" stands at the beginning, or \"*\" alone for every other host".to_owned());
        }
        if name.contains('/') {
            return wrong("only the host: neither scheme nor path".to_owned());
        }
        if name.parse::<Ipv6Addr>().is_ok() {
            return wrong(format!("write \"[{name}]\""));
        }
        if let Some((host, port)) = name.rsplit_once(':') {
            let digits = port.bytes().all(|b| b.is_ascii_digit());
            return wrong(if digits {
                format!("without the port: {}", quote(host))
            } else {
                HOST_CURE.to_owned()
            });
        }
        // As a browser would send it: lower case, and international names in their ASCII form.
        let sent = match url::Host::parse(name.trim_end_matches('.')) {
            Ok(host) => host.to_string(),
            Err(_) => return wrong(HOST_CURE.to_owned()),
        };
        if sent != name {
            let star = if whole == name { "" } else { "*." };
            return wrong(format!("browsers send {}", quote(&format!("{star}{sent}"))));
        }
        let label = |label: &str| {
            let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
            (1..=63).contains(&label.len())
                && label.bytes().all(legal)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() <= 253 && name.split('.').all(label) { Ok(()) } else { wrong(HOST_CURE.to_owned()) }
    }
}

/// Names that a ClientHello may ask for: exact, or one label and a name.
#[derive(Clone, Debug)]
pub(super) enum SniName {}

impl NameRule for SniName {
    const PATTERN: &'static str = r"^(\*\.)?[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?$";

    fn check(name: &str) -> Result<(), Wrong> {
        let bare = name.strip_prefix("*.").unwrap_or(name);
        // RFC 6066 section 3: neither an address nor anything else but a name.
        if bare == "*" || bare.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            let cure = "\"turn.example.com\", or \"*.example.com\" for one label in front";
            return Err((format!("{} is not a name that clients ask for", quote(name)), cure.to_owned()));
        }
        Host::check(bare)
    }
}

/// Adds the fault of a value, or returns it.
pub(super) fn value<T>(node: &Node, reader: &mut Reader, text: &str, parsed: Result<T, Wrong>) -> Option<T> {
    match parsed {
        Ok(value) => Some(value),
        Err((message, cure)) => {
            let message = format!("{}: {}: {message}", reader.path(), quote(text));
            reader.fault(node.at, message, cure);
            None
        }
    }
}

fn parse_bind(text: &str) -> Result<SocketAddr, Wrong> {
    let wrong = |cure: &str| Err(("not an address to listen on".to_owned(), cure.to_owned()));
    if let Some(port) = text.strip_prefix(':') {
        return match parse_port(port) {
            Some(port) => Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
            None => wrong("a port is 0 to 65535"),
        };
    }
    if let Some(port) = parse_port(text) {
        return wrong(&format!("write \":{port}\""));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return wrong(&format!("a port is missing: \"{}\"", SocketAddr::new(ip, 8443)));
    }
    match text.rsplit_once(':') {
        Some((ip, port)) if ip.parse::<Ipv6Addr>().is_ok() && parse_port(port).is_some() => {
            wrong(&format!("an IPv6 address stands in brackets: \"[{ip}]:{port}\""))
        }
        Some(("*", port)) => wrong(&format!("write \":{port}\" for every address")),
        Some(("localhost", port)) => wrong(&format!("write \"127.0.0.1:{port}\" or \"[::1]:{port}\"")),
        Some((ip, port)) if ip.parse::<IpAddr>().is_ok() && parse_port(port).is_none() => {
            wrong("a port is 0 to 65535")
        }
        Some(_) | None => wrong("\":8443\" for every address, or \"127.0.0.1:8443\", or \"[::1]:8443\""),
    }
}

/// Writes an address as the file has it: every address is `:port`.
pub(super) fn show_bind(address: SocketAddr) -> String {
    if address.ip() == Ipv6Addr::UNSPECIFIED { format!(":{}", address.port()) } else { address.to_string() }
}

fn parse_port(text: &str) -> Option<u16> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn parse_advertised(text: &str) -> Result<(IpAddr, Option<u16>), Wrong> {
    let (ip, port) = match (text.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
        (Ok(ip), _) => (ip, None),
        (Err(_), Ok(address)) => (address.ip(), Some(address.port())),
        (Err(_), Err(_)) => {
            let cure = "\"203.0.113.10\", \"203.0.113.10:10000\" or \"[2001:db8::10]:10000\"";
            return Err(("not an IP address".to_owned(), cure.to_owned()));
        }
    };
    if port == Some(0) {
        return Err(("port 0".to_owned(), "clients need the port they can reach".to_owned()));
    }
    reachable(ip).map(|ip| (ip, port))
}

fn parse_public(text: &str) -> Result<IpAddr, Wrong> {
    match text.parse::<IpAddr>() {
        Ok(ip) => reachable(ip),
        Err(_) => Err(("not an IP address".to_owned(), "\"203.0.113.10\" or \"2001:db8::10\"".to_owned())),
    }
}

fn reachable(ip: IpAddr) -> Result<IpAddr, Wrong> {
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(("no client can send to it".to_owned(), "the address of one machine".to_owned()));
    }
    Ok(ip.to_canonical())
}

fn parse_path(text: &str) -> Result<String, Wrong> {
    if text.is_empty() { Err(("an empty path".to_owned(), String::new())) } else { Ok(text.to_owned()) }
}

fn parse_parameter(text: &str) -> Result<Name, Wrong> {
    let legal = |b: u8| b.is_ascii_graphic() && !matches!(b, b'&' | b'=' | b'#' | b'?' | b'%' | b'+');
    token(text, legal)
}

fn parse_token(text: &str) -> Result<Name, Wrong> {
    // RFC 9110 section 5.6.2.
    token(text, |b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn token(text: &str, legal: impl Fn(u8) -> bool) -> Result<Name, Wrong> {
    if (1..=64).contains(&text.len()) && text.bytes().all(legal) {
        return Ok(Arc::from(text));
    }
    Err(("not a name".to_owned(), "1 to 64 letters, digits and \"-\"".to_owned()))
}

const TIME_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const TIME_CURE: &str = "a whole number and ms, s, m, h or d";
const SIZE_UNITS: &[(&str, u64)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const SIZE_CURE: &str = "a whole number and B, KiB, MiB or GiB";
const HOST_CURE: &str = "a host name in lower case, such as \"meet.example.com\", or \"*\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        type T = Time<1, 86_400>;
        for (text, ms) in
            [("5m", 300_000), ("200ms", 200), ("1h", 3_600_000), ("1d", 86_400_000), ("90s", 90_000)]
        {
            assert_eq!(T::parse(text), Ok(Time(Duration::from_millis(ms))), "{text}");
            let shown = show_time(Duration::from_millis(ms));
            assert_eq!(T::parse(&shown), Ok(Time(Duration::from_millis(ms))), "{shown}");
        }
        for (text, message) in [
            ("5", "a duration without a unit"),
            ("s", "not a duration"),
            ("1.5s", "not a duration"),
            ("-1s", "not a duration"),
            ("5 m", "not a duration"),
            ("1h30m", "not a duration"),
            ("0s", "out of range"),
            ("2d", "out of range"),
            ("99999999999999999999s", "out of range"),
            ("", "not a duration"),
        ] {
            assert_eq!(T::parse(text).unwrap_err().0, message, "{text}");
        }
        assert_eq!(show_time(Duration::ZERO), "0s");
        assert_eq!(show_time(Duration::from_secs(90)), "90s");
        assert_eq!(show_time(Duration::from_secs(300)), "5m");
    }

    #[test]
    fn sizes() {
        type S = Size<1024, { 1 << 20 }>;
        assert_eq!(S::parse("32KiB"), Ok(Size(32 << 10)));
        assert_eq!(S::parse("1MiB"), Ok(Size(1 << 20)));
        assert_eq!(S::parse("1500B"), Ok(Size(1500)));
        for (text, cure) in [
            ("32k", "did you mean \"32KiB\"?"),
            ("32KB", "did you mean \"32KiB\"?"),
            ("32mb", "did you mean \"32MiB\"?"),
            ("32ü", SIZE_CURE),
            ("32768", "write \"32KiB\""),
            ("x", SIZE_CURE),
            ("2MiB", "1KiB to 1MiB"),
            ("1B", "1KiB to 1MiB"),
        ] {
            let wrong = S::parse(text).unwrap_err();
            assert!(wrong.1.starts_with(cure), "{text}: {wrong:?}");
        }
        assert_eq!(show_size(131_072), "128KiB");
    }

    #[test]
    fn addresses_to_listen_on() {
        for (text, expected) in [
            (":8443", "[::]:8443"),
            ("127.0.0.1:9180", "127.0.0.1:9180"),
            ("[::1]:80", "[::1]:80"),
            (":0", "[::]:0"),
        ] {
            let bind = parse_bind(text).unwrap();
            assert_eq!(bind.to_string(), expected);
            assert_eq!(show_bind(bind), text);
        }
        for (text, cure) in [
            ("8443", "write \":8443\""),
            (":65536", "a port is 0 to 65535"),
            (":+1", "a port is 0 to 65535"),
            ("127.0.0.1", "a port is missing: \"127.0.0.1:8443\""),
            ("[::1]", "a port is missing: \"[::1]:8443\""),
            ("127.0.0.1:x", "a port is 0 to 65535"),
            ("localhost:80", "write \"127.0.0.1:80\" or \"[::1]:80\""),
            ("*:80", "write \":80\" for every address"),
            ("example.com:80", "\":8443\" for every address"),
            ("", "\":8443\" for every address"),
        ] {
            let wrong = parse_bind(text).unwrap_err();
            assert!(wrong.1.starts_with(cure), "{text}: {wrong:?}");
        }
    }

    #[test]
    fn names_of_sites() {
        for name in [
            "*",
            "meet.example.com",
            "*.example.com",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "a_b.c",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(Host::check(name), Ok(()), "{name}");
        }
        for (name, cure) in [
            ("Meet.example.com", "browsers send \"meet.example.com\""),
            ("bücher.example", "browsers send \"xn--bcher-kva.example\""),
            ("meet.example.com.", "browsers send \"meet.example.com\""),
            ("meet.example.com:443", "without the port: \"meet.example.com\""),
            ("https://meet", "only the host"),
            ("a.*.example.com", "\"*.\" stands at the beginning"),
            ("*.Example.com", "browsers send \"*.example.com\""),
            ("::1", "write \"[::1]\""),
            ("[::01]", "write \"[::1]\""),
            ("a..b", "a host name in lower case"),
            ("-a", "a host name in lower case"),
            ("", "a host name in lower case"),
            ("0x7f.1", "browsers send \"127.0.0.1\""),
        ] {
            let wrong = Host::check(name).unwrap_err();
            assert!(wrong.1.starts_with(cure), "{name}: {wrong:?}");
        }
    }

    #[test]
    fn advertised_addresses() {
        assert_eq!(parse_advertised("203.0.113.1").unwrap(), ("203.0.113.1".parse().unwrap(), None));
        assert_eq!(parse_advertised("[2001:db8::1]:5").unwrap(), ("2001:db8::1".parse().unwrap(), Some(5)));
        for text in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "host", "1.2.3.4:0", ""] {
            assert!(parse_advertised(text).is_err(), "{text}");
        }
    }
}
