//! What an SDP offer holds, read and bounded before the WebRTC engine sees it.
//!
//! Pure. Every fault is one sentence that a client's author can act on. Candidates of the client are taken out: an
//! ICE-lite server learns addresses from checked requests only, and they are personal data.
//!
//! RFC 8866 (SDP), RFC 8829 (offers), RFC 8839 (ICE), RFC 8842 (DTLS), RFC 8853 (simulcast).

use thiserror::Error;

use super::slots::Kind;
use crate::sfu::signalling::message::{LINES_MAX, MESSAGE_BYTES_MAX};

/// An offer that may be given to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// The description without candidates.
    pub(super) sdp: String,
    /// Its media lines, in order.
    pub(super) lines: Vec<OfferLine>,
    /// The client's ICE credentials.
    pub(super) ice: IceCredentials,
}

/// One media line of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OfferLine {
    /// Its `a=mid`.
    pub(super) mid: String,
    /// Audio or video.
    pub(super) kind: Kind,
    /// Whether the client sends on it.
    pub(super) sends: bool,
    /// Whether the client receives on it.
    pub(super) receives: bool,
}

/// ICE credentials of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IceCredentials {
    /// `a=ice-ufrag`.
    pub(super) ufrag: String,
    /// `a=ice-pwd`.
    pub(super) pwd: String,
}

/// Why an offer is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OfferFault {
    /// Longer than a message may be.
    #[error("the offer is longer than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// The first line is not `v=0`.
    #[error("the offer does not begin with v=0: this is not SDP")]
    NotSdp,
    /// Nothing to do.
    #[error("the offer has no m= line")]
    NoLines,
    /// Too many media lines.
    #[error("the offer has more than {LINES_MAX} m= lines")]
    TooManyLines,
    /// A kind of line that is not served.
    #[error("m={0} is not served: offer m=audio and m=video only")]
    Kind(String),
    /// A line without a mid, or two lines with the same one.
    #[error("each m= line needs its own a=mid")]
    Mid,
    /// A mid or rid that would not come back as it was sent.
    #[error("a=mid and a=rid take letters, digits and underscores, at most 16 and 8: {0:?}")]
    Name(String),
    /// The group names a line that is not there.
    #[error("a=group:BUNDLE names {0:?}, which no m= line has as its a=mid: is the offer cut off?")]
    Bundle(String),
    /// Too many SSRCs.
    #[error("the offer names more than {SSRCS_MAX} SSRCs")]
    TooManySsrcs,
    /// Too many simulcast layers.
    #[error("an m= line has more than {RIDS_MAX} rids")]
    TooManyRids,
    /// No usable ICE credentials.
    #[error("a=ice-ufrag and a=ice-pwd are missing or not as RFC 8839 section 5.4 has them")]
    Ice,
    /// The client wants to be the DTLS server.
    #[error("a=setup:passive is not served: offer a=setup:actpass")]
    Setup,
    /// No fingerprint, or one of a broken hash.
    #[error("a=fingerprint with sha-256 or better is missing")]
    Fingerprint,
    /// Sources named twice or on lines that do not send.
    #[error("track {0:?} is not a sending line of its kind, or its source is named twice")]
    Track(String),
    /// What the engine says.
    #[error("the offer cannot be answered: {0}")]
    Engine(String),
}

impl Offer {
    /// Reads an offer.
    ///
    /// # Errors
    ///
    /// See [`OfferFault`].
    pub(super) fn read(sdp: &str) -> Result<Self, OfferFault> {
        if sdp.len() > MESSAGE_BYTES_MAX {
            return Err(OfferFault::TooLong);
        }
        if sdp.lines().next().map(str::trim_end) != Some("v=0") {
            return Err(OfferFault::NotSdp);
        }
        let mut kept = String::with_capacity(sdp.len());
        let mut lines: Vec<Draft> = Vec::new();
        let mut session = Shared::default();
        let mut ssrcs: Vec<&str> = Vec::new();
        let mut bundled: Vec<&str> = Vec::new();
        for raw in sdp.lines() {
            let line = raw.trim_end();
            if line.is_empty() || line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
                continue;
            }
            kept.push_str(line);
            kept.push_str("\r\n");
            if let Some(m) = line.strip_prefix("m=") {
                if lines.len() >= LINES_MAX {
                    return Err(OfferFault::TooManyLines);
                }
                lines.push(Draft::new(m)?);
                continue;
            }
            let Some(attribute) = line.strip_prefix("a=") else { continue };
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            if let ("group", Some(mids)) = (name, value.strip_prefix("BUNDLE ")) {
                bundled.extend(mids.split(' ').filter(|mid| !mid.is_empty()).take(LINES_MAX + 1));
            }
            if name == "ssrc" {
                let ssrc = value.split(' ').next().unwrap_or_default();
                if !ssrcs.contains(&ssrc) {
                    if ssrcs.len() >= SSRCS_MAX {
                        return Err(OfferFault::TooManySsrcs);
                    }
                    ssrcs.push(ssrc);
                }
            }
            match lines.last_mut() {
                Some(draft) => draft.read(name, value)?,
                None => session.read(name, value)?,
            }
        }
        if lines.is_empty() {
            return Err(OfferFault::NoLines);
        }
        let ice = session.ice(lines.iter().map(|d| &d.shared)).ok_or(OfferFault::Ice)?;
        if !session.fingerprint && !lines.iter().any(|d| d.shared.fingerprint) {
            return Err(OfferFault::Fingerprint);
        }
        let lines: Vec<OfferLine> = lines.into_iter().map(Draft::line).collect::<Result<_, _>>()?;
        let twice = lines.iter().enumerate().any(|(i, l)| lines[..i].iter().any(|k| k.mid == l.mid));
        if twice {
            return Err(OfferFault::Mid);
        }
        if let Some(missing) = bundled.iter().find(|mid| !lines.iter().any(|line| line.mid == **mid)) {
            return Err(OfferFault::Bundle(missing.chars().take(32).collect()));
        }
        Ok(Self { sdp: kept, lines, ice })
    }
}

/// What stands at session or media level.
#[derive(Clone, Debug, Default)]
struct Shared {
    ufrag: Option<String>,
    pwd: Option<String>,
    fingerprint: bool,
}

impl Shared {
    fn read(&mut self, name: &str, value: &str) -> Result<(), OfferFault> {
        match name {
            "ice-ufrag" => self.ufrag = Some(value.to_owned()),
            "ice-pwd" => self.pwd = Some(value.to_owned()),
            "setup" if value == "passive" => return Err(OfferFault::Setup),
            "fingerprint" => {
                let hash = value.split(' ').next().unwrap_or_default();
                if !HASHES.iter().any(|h| h.eq_ignore_ascii_case(hash)) {
                    return Err(OfferFault::Fingerprint);
                }
                self.fingerprint = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the credentials of the session, or of the first line that has some.
    fn ice<'a>(&'a self, lines: impl Iterator<Item = &'a Self>) -> Option<IceCredentials> {
        let legal = |text: &str, least: usize| {
            text.len() >= least
                && text.len() <= 256
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
        };
        std::iter::once(self).chain(lines).find_map(|shared| {
            let (ufrag, pwd) = (shared.ufrag.as_deref()?, shared.pwd.as_deref()?);
            // RFC 8839 section 5.4: 4 to 256, and 22 to 256 ice-chars.
            (legal(ufrag, 4) && legal(pwd, 22))
                .then(|| IceCredentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() })
        })
    }
}

/// A media line while it is read.
#[derive(Clone, Debug)]
struct Draft {
    kind: Kind,
    rejected: bool,
    bundle_only: bool,
    mid: Option<String>,
    sends: bool,
    receives: bool,
    rids: usize,
    shared: Shared,
}

impl Draft {
    fn new(m: &str) -> Result<Self, OfferFault> {
        let mut words = m.split(' ');
        let kind = match words.next().unwrap_or_default() {
            "audio" => Kind::Audio,
            "video" => Kind::Video,
            other => return Err(OfferFault::Kind(other.chars().take(32).collect())),
        };
        let rejected = words.next() == Some("0");
        Ok(Self {
            kind,
            rejected,
            bundle_only: false,
            mid: None,
            sends: true,
            receives: true,
            rids: 0,
            shared: Shared::default(),
        })
    }

    fn read(&mut self, name: &str, value: &str) -> Result<(), OfferFault> {
        match name {
            "mid" => self.mid = Some(checked_name(value, MID_CHARS_MAX)?),
            "sendrecv" => (self.sends, self.receives) = (true, true),
            "sendonly" => (self.sends, self.receives) = (true, false),
            "recvonly" => (self.sends, self.receives) = (false, true),
            "inactive" => (self.sends, self.receives) = (false, false),
            "bundle-only" => self.bundle_only = true,
            "rid" => {
                checked_name(value.split(' ').next().unwrap_or_default(), RID_CHARS_MAX)?;
                self.rids += 1;
                if self.rids > RIDS_MAX {
                    return Err(OfferFault::TooManyRids);
                }
            }
            _ => self.shared.read(name, value)?,
        }
        Ok(())
    }

    fn line(self) -> Result<OfferLine, OfferFault> {
        let live = !self.rejected || self.bundle_only;
        Ok(OfferLine {
            mid: self.mid.ok_or(OfferFault::Mid)?,
            kind: self.kind,
            sends: self.sends && live,
            receives: self.receives && live,
        })
    }
}

fn checked_name(name: &str, chars_max: usize) -> Result<String, OfferFault> {
    let legal = !name.is_empty()
        && name.len() <= chars_max
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if legal { Ok(name.to_owned()) } else { Err(OfferFault::Name(name.chars().take(32).collect())) }
}

/// Puts other ICE credentials into an answer: the attributes, and the `ufrag` of each candidate.
pub(super) fn restamp(answer: &str, old: &IceCredentials, new: &IceCredentials) -> String {
    let mut stamped = String::with_capacity(answer.len());
    for line in answer.lines() {
        if line.starts_with("a=ice-ufrag:") {
            stamped.push_str("a=ice-ufrag:");
            stamped.push_str(&new.ufrag);
        } else if line.starts_with("a=ice-pwd:") {
            stamped.push_str("a=ice-pwd:");
            stamped.push_str(&new.pwd);
        } else if let (true, Some(rest)) =
            (line.starts_with("a=candidate:"), line.strip_suffix(old.ufrag.as_str()))
        {
            stamped.push_str(rest);
            stamped.push_str(&new.ufrag);
        } else {
            stamped.push_str(line);
        }
        stamped.push_str("\r\n");
    }
    stamped
}

/// SSRCs that one offer may name.
const SSRCS_MAX: usize = 64;
/// Simulcast layers of one line.
const RIDS_MAX: usize = 4;
const MID_CHARS_MAX: usize = 16;
const RID_CHARS_MAX: usize = 8;
// RFC 8122 section 5, without md2, md5, sha-1 and sha-224.
const HASHES: &[&str] = &["sha-256", "sha-384", "sha-512"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=sendonly\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=recvonly\r\n";

    #[test]
    fn lines_are_read_and_candidates_are_taken_out() {
        let offer = Offer::read(GOOD).unwrap();
        assert!(!offer.sdp.contains("candidate"));
        assert_eq!(offer.ice.ufrag, "abcd");
        let lines: Vec<_> =
            offer.lines.iter().map(|l| (l.mid.as_str(), l.kind, l.sends, l.receives)).collect();
        assert_eq!(lines, [("0", Kind::Audio, true, false), ("1", Kind::Video, false, true)]);
    }

    #[test]
    fn each_fault_has_its_reason() {
        let many = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:x\r\n".repeat(LINES_MAX);
        for (offer, expected) in [
            ("hello".to_owned(), OfferFault::NotSdp),
            ("v=0\r\na=ice-ufrag:abcd\r\n".to_owned(), OfferFault::NoLines),
            (format!("{GOOD}{many}"), OfferFault::TooManyLines),
            (format!("{GOOD}m=application 9 x y\r\n"), OfferFault::Kind("application".to_owned())),
            (GOOD.replace("a=mid:1", "a=mid:0"), OfferFault::Mid),
            (GOOD.replace("BUNDLE 0 1", "BUNDLE 0 1 2"), OfferFault::Bundle("2".to_owned())),
            (GOOD.replace("a=mid:1\r\n", ""), OfferFault::Mid),
            (GOOD.replace("a=mid:1", "a=mid:a-b"), OfferFault::Name("a-b".to_owned())),
            (GOOD.replace("abcd", "abc"), OfferFault::Ice),
            (GOOD.replace("actpass", "passive"), OfferFault::Setup),
            (GOOD.replace("sha-256", "sha-1"), OfferFault::Fingerprint),
            (GOOD.replace("a=fingerprint:sha-256 AA:BB\r\n", ""), OfferFault::Fingerprint),
            (format!("{GOOD}{}", "a=rid:h send\r\n".repeat(5)), OfferFault::TooManyRids),
            (
                GOOD.to_owned() + &(0..70).map(|i| format!("a=ssrc:{i} cname:x\r\n")).collect::<String>(),
                OfferFault::TooManySsrcs,
            ),
            ("v=0\r\n".to_owned() + &"a".repeat(MESSAGE_BYTES_MAX), OfferFault::TooLong),
        ] {
            assert_eq!(Offer::read(&offer), Err(expected));
        }
    }

    #[test]
    fn a_restamped_answer_carries_the_new_credentials_everywhere() {
        let old = IceCredentials { ufrag: "old1".to_owned(), pwd: "oldpwd".to_owned() };
        let new = IceCredentials { ufrag: "new1".to_owned(), pwd: "newpwd".to_owned() };
        let answer = "v=0\r\na=ice-ufrag:old1\r\na=ice-pwd:oldpwd\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host ufrag old1\r\n";
        let stamped = restamp(answer, &old, &new);
        assert!(!stamped.contains("old"), "{stamped}");
        assert_eq!(stamped.matches("new1").count(), 2);
        assert_eq!(stamped.matches("newpwd").count(), 1);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(v=0\r\n)?([mav]=[a-z:0-9 /-]{0,20}\r?\n){0,20}") {
            let _ = Offer::read(&text);
        }
    }
}
