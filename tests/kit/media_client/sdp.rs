//! Session descriptions of the media client: writes offers, reads answers (RFC 8829, RFC 8866).
//!
//! Pure: text and values.

use std::fmt::Write;
use std::net::SocketAddr;

/// One m-line of the offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) kind: Kind,
    pub(crate) direction: Direction,
}

/// What a line carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Audio,
    Video,
}

impl Kind {
    /// Payload type in the offer: Opus or VP8.
    pub(crate) fn payload_type(self) -> u8 {
        match self {
            Kind::Audio => 111,
            Kind::Video => 96,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Audio => "audio",
            Kind::Video => "video",
        }
    }
}

/// Who sends on a line, as the offerer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Send,
    Receive,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Direction::Send => "sendonly",
            Direction::Receive => "recvonly",
        }
    }
}

/// ICE credentials of one side (RFC 8839 section 5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) ufrag: String,
    pub(crate) password: String,
}

/// Id of the RTP header extension that names the line (RFC 9143 section 15).
pub(crate) const MID_EXTENSION: u8 = 4;

/// SSRC of the line with this index, in every offer of this client.
pub(crate) fn ssrc(base: u32, line: usize) -> u32 {
    base + u32::try_from(line).expect("few lines") * 2
}

/// What an offer is made of.
#[derive(Clone, Debug)]
pub(crate) struct Offer<'a> {
    pub(crate) lines: &'a [Line],
    pub(crate) credentials: &'a Credentials,
    /// SHA-256 of the certificate, as `AB:CD:...`.
    pub(crate) fingerprint: &'a str,
    /// SSRC of line 0.
    pub(crate) ssrc_base: u32,
    /// Grows with every offer of a session.
    pub(crate) version: u32,
}

impl Offer<'_> {
    /// Writes the description.
    pub(crate) fn text(&self) -> String {
        let mut sdp = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            sdp.write_fmt(text).expect("a string takes everything");
            sdp.push_str("\r\n");
        };
        let mids: Vec<String> = (0..self.lines.len()).map(|mid| mid.to_string()).collect();
        line(format_args!("v=0"));
        line(format_args!("o=- 4611730000000000001 {} IN IP4 127.0.0.1", self.version));
        line(format_args!("s=-"));
        line(format_args!("t=0 0"));
        line(format_args!("a=group:BUNDLE {}", mids.join(" ")));
        line(format_args!("a=extmap-allow-mixed"));
        line(format_args!("a=msid-semantic: WMS"));
        for (index, media) in self.lines.iter().enumerate() {
            let payload_type = media.kind.payload_type();
            line(format_args!("m={} 9 UDP/TLS/RTP/SAVPF {payload_type}", media.kind.name()));
            line(format_args!("c=IN IP4 0.0.0.0"));
            line(format_args!("a=rtcp:9 IN IP4 0.0.0.0"));
            line(format_args!("a=ice-ufrag:{}", self.credentials.ufrag));
            line(format_args!("a=ice-pwd:{}", self.credentials.password));
            line(format_args!("a=ice-options:trickle"));
            line(format_args!("a=fingerprint:sha-256 {}", self.fingerprint));
            line(format_args!("a=setup:actpass"));
            line(format_args!("a=mid:{index}"));
            line(format_args!("a=extmap:{MID_EXTENSION} urn:ietf:params:rtp-hdrext:sdes:mid"));
            line(format_args!("a={}", media.direction.name()));
            line(format_args!("a=rtcp-mux"));
            line(format_args!("a=rtcp-rsize"));
            match media.kind {
                Kind::Audio => {
                    line(format_args!("a=rtpmap:{payload_type} opus/48000/2"));
                    line(format_args!("a=fmtp:{payload_type} minptime=10;useinbandfec=1"));
                }
                Kind::Video => {
                    line(format_args!("a=rtpmap:{payload_type} VP8/90000"));
                    for feedback in ["ccm fir", "nack", "nack pli"] {
                        line(format_args!("a=rtcp-fb:{payload_type} {feedback}"));
                    }
                }
            }
            if media.direction == Direction::Send {
                let ssrc = ssrc(self.ssrc_base, index);
                line(format_args!("a=msid:kit track{index}"));
                line(format_args!("a=ssrc:{ssrc} cname:kit"));
                line(format_args!("a=ssrc:{ssrc} msid:kit track{index}"));
            }
        }
        sdp
    }
}

/// What the client needs from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) credentials: Credentials,
    /// UDP host candidates, in their order.
    pub(crate) candidates: Vec<SocketAddr>,
    pub(crate) fingerprint: String,
    pub(crate) ice_lite: bool,
    pub(crate) setup: String,
    pub(crate) lines: Vec<AnswerLine>,
}

/// One m-line of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnswerLine {
    pub(crate) mid: String,
    /// `sendonly` and so on, as the answerer sees it.
    pub(crate) direction: String,
    /// Payload types, the preferred one first.
    pub(crate) payload_types: Vec<u8>,
    /// Id of the extension that names the line, if it was taken.
    pub(crate) mid_extension: Option<u8>,
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// Says what is missing.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let all =
            |name: &'static str| text.lines().filter_map(move |line| line.trim_end().strip_prefix(name));
        let first = |name| all(name).next().map(str::to_owned).ok_or(format!("no {name} in {text}"));
        let mut lines: Vec<AnswerLine> = Vec::new();
        for line in text.lines().map(str::trim_end) {
            if let Some(media) = line.strip_prefix("m=") {
                let payload_types =
                    media.split(' ').skip(3).filter_map(|format| format.parse().ok()).collect();
                let (mid, direction) = (String::new(), "sendrecv".to_owned());
                lines.push(AnswerLine { mid, direction, payload_types, mid_extension: None });
            } else if let Some(media) = lines.last_mut() {
                if let Some(mid) = line.strip_prefix("a=mid:") {
                    media.mid = mid.to_owned();
                } else if ["a=sendonly", "a=recvonly", "a=sendrecv", "a=inactive"].contains(&line) {
                    media.direction = line[2..].to_owned();
                } else if let Some((id, _)) = line
                    .strip_prefix("a=extmap:")
                    .and_then(|rest| rest.split_once(" urn:ietf:params:rtp-hdrext:sdes:mid"))
                {
                    media.mid_extension = id.split('/').next().and_then(|id| id.parse().ok());
                }
            }
        }
        let mut candidates = Vec::new();
        for candidate in all("a=candidate:") {
            let fields: Vec<&str> = candidate.split(' ').collect();
            if let [_, "1", transport, _, host, port, "typ", "host", ..] = fields[..]
                && transport.eq_ignore_ascii_case("udp")
            {
                let host = host.parse().map_err(|_| format!("candidate {candidate}"))?;
                let candidate =
                    SocketAddr::new(host, port.parse().map_err(|_| format!("candidate {candidate}"))?);
                if !candidates.contains(&candidate) {
                    candidates.push(candidate);
                }
            }
        }
        Ok(Self {
            credentials: Credentials { ufrag: first("a=ice-ufrag:")?, password: first("a=ice-pwd:")? },
            candidates,
            fingerprint: first("a=fingerprint:sha-256 ")?.to_uppercase(),
            ice_lite: all("a=ice-lite").next().is_some(),
            setup: first("a=setup:")?,
            lines,
        })
    }
}
