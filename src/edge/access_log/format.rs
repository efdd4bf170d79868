//! One line of the access log, as JSON or as Nginx's `combined`.
//!
//! Pure. Every byte of a client is escaped, so that a line is one line whatever was sent; long texts are cut. What is
//! known when a request begins to be answered is written at once and kept ([`Line`]); what is known at its end is put
//! in then, so that a WebSocket of hours keeps a text and no configuration.

use std::fmt::Write;
use std::hash::Hasher;
use std::net::IpAddr;
use std::time::Duration;

use siphasher::sip::SipHasher24;

use crate::config::settings::{LogFormat, LogIp, Name};
use crate::telemetry::redact;

/// Bytes of one text of a client in a line; more is cut.
const TEXT_MAX: usize = 4096;
/// Stands behind a text that was cut.
const CUT: &str = "...";

/// What is known of a request when its answer begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record<'a> {
    /// When it began, since the Unix epoch.
    pub(crate) at: Duration,
    /// The client as it may be shown; see [`client`].
    pub(crate) client: &'a str,
    pub(crate) listener: &'a str,
    pub(crate) site: Option<&'a str>,
    pub(crate) host: &'a [u8],
    pub(crate) room: Option<&'a str>,
    pub(crate) pool: Option<&'a str>,
    pub(crate) node: Option<&'a str>,
    /// Where the node stands, if its pool says so.
    pub(crate) region: Option<&'a str>,
    /// What the site did with it.
    pub(crate) route: Option<&'a str>,
    pub(crate) method: &'a str,
    pub(crate) target: &'a [u8],
    pub(crate) http: &'a str,
    pub(crate) status: u16,
    pub(crate) referer: Option<&'a [u8]>,
    pub(crate) user_agent: Option<&'a [u8]>,
    pub(crate) request_id: &'a str,
    pub(crate) tls: Option<Tls>,
    /// From the request's head to the head of the node's answer.
    pub(crate) head_took: Option<Duration>,
    /// What became of it in the cache, if its route has one.
    pub(crate) cache: Option<&'static str>,
}

/// How a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) version: &'static str,
    pub(crate) cipher: &'static str,
    pub(crate) resumed: bool,
}

/// What is known at the end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct End {
    /// Bytes of the body, or through the WebSocket, from the client; `None`: nobody counted.
    pub(crate) bytes_in: Option<u64>,
    /// And to the client.
    pub(crate) bytes_out: Option<u64>,
    /// Since the request began.
    pub(crate) took: Duration,
    /// Why a WebSocket ended; `None` for a request.
    pub(crate) tunnel: Option<&'static str>,
}

/// A line that waits for its end.
#[derive(Debug)]
pub(crate) struct Line {
    format: LogFormat,
    before: Box<str>,
    after: Box<str>,
}

impl Line {
    /// Writes what is known; the values of query parameters in `secret` are not in it.
    pub(crate) fn begin(format: LogFormat, secret: &[Name], record: &Record<'_>) -> Self {
        let target = redact::url(record.target, secret);
        let referer = record.referer.map(|referer| redact::url(referer, secret));
        let (before, after) = match format {
            LogFormat::Json => (json(record, &target, referer.as_deref()), String::new()),
            LogFormat::Combined => combined(record, &target, referer.as_deref()),
        };
        Self { format, before: before.into(), after: after.into() }
    }

    /// Returns the whole line with its line break.
    pub(crate) fn end(&self, end: &End) -> String {
        let mut line = String::with_capacity(self.before.len() + self.after.len() + 120);
        line.push_str(&self.before);
        match self.format {
            LogFormat::Json => {
                for (name, bytes) in [("bytes_in", end.bytes_in), ("bytes_out", end.bytes_out)] {
                    if let Some(bytes) = bytes {
                        put(&mut line, format_args!(",\"{name}\":{bytes}"));
                    }
                }
                millis(&mut line, "took_ms", end.took);
                if let Some(why) = end.tunnel {
                    text(&mut line, "websocket_end", why);
                }
                line.push('}');
            }
            LogFormat::Combined => match end.bytes_out {
                Some(bytes) => put(&mut line, format_args!("{bytes}")),
                None => line.push('-'),
            },
        }
        line.push_str(&self.after);
        line.push('\n');
        line
    }
}

/// Returns a client's address as it may be shown. `key` is for [`LogIp::Hashed`].
pub(crate) fn client(address: IpAddr, ip: LogIp, key: &[u8; 16]) -> String {
    let address = address.to_canonical();
    match ip {
        LogIp::Full => address.to_string(),
        LogIp::Truncated => redact::network(address).to_string(),
        LogIp::Hashed => {
            let mut hasher = SipHasher24::new_with_key(key);
            match address {
                IpAddr::V4(v4) => hasher.write(&v4.octets()),
                IpAddr::V6(v6) => hasher.write(&v6.octets()),
            }
            format!("{:016x}", hasher.finish())
        }
    }
}

fn json(record: &Record<'_>, target: &[u8], referer: Option<&[u8]>) -> String {
    let mut line = String::with_capacity(512);
    line.push_str("{\"time\":\"");
    let date = Date::of(record.at);
    let Date { year, month, day, hour, minute, second } = date;
    let ms = record.at.subsec_millis();
    put(
        &mut line,
        format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z\""),
    );
    text(&mut line, "client", record.client);
    text(&mut line, "listener", record.listener);
    for (name, value) in [
        ("site", record.site),
        ("route", record.route),
        ("room", record.room),
        ("pool", record.pool),
        ("node", record.node),
        ("region", record.region),
    ] {
        if let Some(value) = value {
            text(&mut line, name, value);
        }
    }
    bytes(&mut line, "host", record.host);
    text(&mut line, "method", record.method);
    bytes(&mut line, "target", target);
    text(&mut line, "http", record.http);
    put(&mut line, format_args!(",\"status\":{}", record.status));
    for (name, value) in [("referer", referer), ("user_agent", record.user_agent)] {
        if let Some(value) = value {
            bytes(&mut line, name, value);
        }
    }
    text(&mut line, "request_id", record.request_id);
    if let Some(Tls { version, cipher, resumed }) = record.tls {
        text(&mut line, "tls", version);
        text(&mut line, "cipher", cipher);
        put(&mut line, format_args!(",\"resumed\":{resumed}"));
    }
    if let Some(took) = record.head_took {
        millis(&mut line, "head_ms", took);
    }
    if let Some(cache) = record.cache {
        text(&mut line, "cache", cache);
    }
    line
}

/// Before and behind the number of bytes.
fn combined(record: &Record<'_>, target: &[u8], referer: Option<&[u8]>) -> (String, String) {
    let mut before = String::with_capacity(256);
    let Date { year, month, day, hour, minute, second } = Date::of(record.at);
    let month = MONTHS.iter().zip(1..).find(|(_, number)| *number == month).map_or("", |(name, _)| name);
    put(
        &mut before,
        format_args!(
            "{} - - [{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000] \"",
            record.client
        ),
    );
    // As Nginx: a request that could not be read is an empty one.
    if !record.method.is_empty() {
        hexed(&mut before, record.method.as_bytes());
        before.push(' ');
        hexed(&mut before, target);
        put(&mut before, format_args!(" {}", record.http));
    }
    put(&mut before, format_args!("\" {} ", record.status));
    let mut after = String::with_capacity(128);
    for value in [referer, record.user_agent] {
        after.push_str(" \"");
        match value {
            Some(value) if !value.is_empty() => hexed(&mut after, value),
            Some(_) | None => after.push('-'),
        }
        after.push('"');
    }
    (before, after)
}

/// Adds `,"name":"value"`.
fn text(line: &mut String, name: &str, value: &str) {
    put(line, format_args!(",\"{name}\":\""));
    let cut = value.floor_char_boundary(TEXT_MAX);
    for c in value[..cut].chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            // Some readers take these for ends of lines.
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                put(line, format_args!("\\u{:04x}", u32::from(c)));
            }
            c => line.push(c),
        }
    }
    if cut < value.len() {
        line.push_str(CUT);
    }
    line.push('"');
}

fn bytes(line: &mut String, name: &str, value: &[u8]) {
    // No more is decoded than can be shown.
    let shown = value.get(..TEXT_MAX + 4).unwrap_or(value);
    text(line, name, &String::from_utf8_lossy(shown));
}

/// Adds text as Nginx escapes it.
fn hexed(line: &mut String, value: &[u8]) {
    for byte in value.iter().take(TEXT_MAX) {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => put(line, format_args!("\\x{byte:02X}")),
            _ => line.push(char::from(*byte)),
        }
    }
    if value.len() > TEXT_MAX {
        line.push_str(CUT);
    }
}

/// Adds `,"name":12.345`, in milliseconds.
fn millis(line: &mut String, name: &str, took: Duration) {
    let micros = took.as_micros();
    put(line, format_args!(",\"{name}\":{}.{:03}", micros / 1000, micros % 1000));
}

fn put(line: &mut String, what: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = line.write_fmt(what);
}

/// A moment in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Date {
    year: u64,
    /// From 1.
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Date {
    /// The civil date of a time since the epoch (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    fn of(at: Duration) -> Self {
        let (days, rest) = (at.as_secs() / 86_400, at.as_secs() % 86_400);
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // March is the first month here, so that the leap day is the year's last.
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        Self { year, month, day, hour: rest / 3600, minute: rest / 60 % 60, second: rest % 60 }
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret() -> Vec<Name> {
        ["token", "jwt", "access_token"].map(Name::from).to_vec()
    }

    fn record() -> Record<'static> {
        Record {
            at: Duration::from_millis(1_795_779_783_042),
            client: "203.0.113.7",
            listener: "https",
            site: Some("meet.example.com"),
            host: b"meet.example.com",
            room: Some("standup"),
            pool: Some("shards"),
            node: Some("s1"),
            region: Some("eu"),
            route: Some("websocket"),
            method: "GET",
            target: b"/xmpp-websocket?room=standup&token=abc",
            http: "HTTP/1.1",
            status: 101,
            referer: Some(b"https://meet.example.com/standup?jwt=abc"),
            user_agent: Some(b"Firefox \"1\""),
            request_id: "0123",
            tls: Some(Tls { version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384", resumed: true }),
            head_took: Some(Duration::from_micros(1_234)),
            cache: Some("miss"),
        }
    }

    const END: End = End {
        bytes_in: Some(10),
        bytes_out: Some(20),
        took: Duration::from_millis(61_500),
        tunnel: Some("ended"),
    };

    #[test]
    fn a_json_line_has_every_field_and_no_token() {
        let line = Line::begin(LogFormat::Json, &secret(), &record()).end(&END);
        assert_eq!(
            line,
            concat!(
                r#"{"time":"2026-11-27T11:43:03.042Z","client":"203.0.113.7","listener":"https","site":"meet.example.com","#,
                r#""route":"websocket","room":"standup","pool":"shards","node":"s1","region":"eu","host":"meet.example.com","method":"GET","#,
                r#""target":"/xmpp-websocket?room=standup&token=[redacted]","http":"HTTP/1.1","status":101,"#,
                r#""referer":"https://meet.example.com/standup?jwt=[redacted]","user_agent":"Firefox \"1\"","#,
                r#""request_id":"0123","tls":"TLSv1.3","cipher":"TLS_AES_256_GCM_SHA384","resumed":true,"head_ms":1.234,"cache":"miss","#,
                r#""bytes_in":10,"bytes_out":20,"took_ms":61500.000,"websocket_end":"ended"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_combined_line_is_that_of_nginx() {
        let line = Line::begin(LogFormat::Combined, &secret(), &record()).end(&END);
        assert_eq!(
            line,
            concat!(
                r#"203.0.113.7 - - [27/Nov/2026:11:43:03 +0000] "GET /xmpp-websocket?room=standup&token=[redacted] HTTP/1.1" "#,
                r#"101 20 "https://meet.example.com/standup?jwt=[redacted]" "Firefox \x221\x22""#,
                "\n"
            )
        );
        let refused = Record { client: "203.0.113.7", status: 400, ..Record::default() };
        let line = Line::begin(LogFormat::Combined, &[], &refused).end(&End::default());
        assert_eq!(line, "203.0.113.7 - - [01/Jan/1970:00:00:00 +0000] \"\" 400 - \"-\" \"-\"\n");
    }

    #[test]
    fn an_address_is_shown_as_the_operator_wants_it() {
        let key = [7; 16];
        let shown = |address: &str, ip| client(address.parse().unwrap(), ip, &key);
        assert_eq!(shown("::ffff:203.0.113.7", LogIp::Full), "203.0.113.7");
        assert_eq!(shown("203.0.113.7", LogIp::Truncated), "203.0.113.0");
        assert_eq!(shown("2001:db8:1:2::7", LogIp::Truncated), "2001:db8:1::");
        let hashed = shown("203.0.113.7", LogIp::Hashed);
        assert_eq!(hashed, shown("::ffff:203.0.113.7", LogIp::Hashed));
        assert!(hashed.len() == 16 && hashed != shown("203.0.113.8", LogIp::Hashed), "{hashed}");
        assert_ne!(hashed, client("203.0.113.7".parse().unwrap(), LogIp::Hashed, &[8; 16]));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, (1970, 1, 1, 0, 0, 0)),
            (951_782_399, (2000, 2, 28, 23, 59, 59)),
            (951_782_400, (2000, 2, 29, 0, 0, 0)),
            (4_107_542_400, (2100, 3, 1, 0, 0, 0)),
            (1_795_779_783, (2026, 11, 27, 11, 43, 3)),
        ] {
            let Date { year, month, day, hour, minute, second } = Date::of(Duration::from_secs(seconds));
            assert_eq!((year, month, day, hour, minute, second), expected, "{seconds}");
        }
    }

    proptest! {
        #[test]
        fn a_line_is_one_line_and_what_readers_expect(
            target in proptest::collection::vec(any::<u8>(), 0..6000),
            agent in proptest::collection::vec(any::<u8>(), 0..300),
            room in "\\PC{0,40}",
            host in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let record = Record {
                target: &target, user_agent: Some(&agent), referer: Some(&target), room: Some(&room), host: &host,
                method: "GET", http: "HTTP/1.1", ..Record::default()
            };
            let line = Line::begin(LogFormat::Json, &secret(), &record).end(&END);
            prop_assert!(line.ends_with('\n') && !line[..line.len() - 1].contains(is_break));
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert!(value["target"].as_str().unwrap().len() <= TEXT_MAX + CUT.len());
            let cut = room.floor_char_boundary(TEXT_MAX);
            prop_assert_eq!(value["room"].as_str().unwrap(), &room[..cut]);
            let line = Line::begin(LogFormat::Combined, &secret(), &record).end(&END);
            prop_assert!(line.bytes().rev().skip(1).all(|b| (0x20..0x7f).contains(&b)), "{line}");
            // Quotes are ours alone: three quoted fields.
            prop_assert_eq!(line.matches('"').count(), 6);
        }
    }

    fn is_break(c: char) -> bool {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
    }
}
