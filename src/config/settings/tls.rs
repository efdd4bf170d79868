//! TLS: how a listener ends it, and whom a site lets in by certificate.
//!
//! Pure: files are named here and read elsewhere; the one thing that is understood here is the text of ticket keys.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Name, Settings};

/// How a listener ends TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSettings {
    /// A certificate made at start, for the demo; everything else as by default.
    SelfSigned,
    /// Certificates from files.
    Certificates(CertificateSettings),
}

/// Certificates of a listener, and how it speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSettings {
    /// Chosen by SNI and by what the client can verify; the first one answers when no name matches.
    pub files: Vec<CertificateFiles>,
    /// What happens when no name matches.
    pub unknown_name: UnknownName,
    /// Versions and suites.
    pub profile: TlsProfile,
    /// Session tickets.
    pub tickets: TicketSettings,
}

/// A PEM chain and its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificateFiles {
    /// Chain, leaf first.
    pub cert: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1 key of the leaf.
    pub key: PathBuf,
}

/// What a client gets whose name no certificate has, or that names none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownName {
    /// The first certificate.
    #[default]
    Default,
    /// The alert unrecognized_name.
    Refuse,
}

/// Versions and suites, by Mozilla's guideline 5.7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsProfile {
    /// TLS 1.2 and 1.3.
    #[default]
    Intermediate,
    /// TLS 1.3 only.
    Modern,
}

/// Session tickets of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketSettings {
    /// Keys shared by several edges; `None` draws them in this process.
    pub keys: Option<TicketKeys>,
    /// Lifetime of a ticket; and of a key, when keys are drawn here. Default 12 h, at least a minute, at most 7 days.
    pub rotate: Duration,
}

impl Default for TicketSettings {
    fn default() -> Self {
        Self { keys: None, rotate: Duration::from_secs(43_200) }
    }
}

/// Secrets of session tickets: the first encrypts, all decrypt. `Debug` shows where they came from, never a value.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKeys {
    /// `file:...` or `env:...`, as the file has it.
    pub reference: Name,
    /// The file, if it is one: it is read again when it changes.
    pub path: Option<PathBuf>,
    keys: Arc<[[u8; TICKET_KEY_BYTES]]>,
}

/// Length of a ticket's secret.
pub const TICKET_KEY_BYTES: usize = 32;
/// Most secrets of one file.
pub const TICKET_KEYS_MAX: usize = 16;

impl TicketKeys {
    /// Reads keys from text: one a line, 64 hexadecimal digits; empty lines and those that begin with `#` are skipped.
    ///
    /// # Errors
    /// What is wrong, without a word of the text.
    pub fn parse(reference: Name, path: Option<PathBuf>, text: &[u8]) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (number, line) in text.split(|b| *b == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            keys.push(key(line).ok_or_else(|| {
                format!("line {} is not a key of {} hexadecimal digits", number + 1, TICKET_KEY_BYTES * 2)
            })?);
            if keys.len() > TICKET_KEYS_MAX {
                return Err(format!("more than {TICKET_KEYS_MAX} keys"));
            }
        }
        if keys.is_empty() {
            return Err("no key in it".to_owned());
        }
        Ok(Self { reference, path, keys: keys.into() })
    }

    /// Returns the secrets, the one that encrypts first. Never log them.
    pub fn expose(&self) -> &[[u8; TICKET_KEY_BYTES]] {
        &self.keys
    }
}

fn key(digits: &[u8]) -> Option<[u8; TICKET_KEY_BYTES]> {
    let mut key = [0; TICKET_KEY_BYTES];
    if digits.len() != key.len() * 2 {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte =
            u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| !p.starts_with('+'))?, 16).ok()?;
    }
    Some(key)
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKeys({}, {})", self.reference, self.keys.len())
    }
}

/// Whom a site lets in by certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificateSettings {
    /// PEM certificates of the authorities.
    pub ca: PathBuf,
    /// Whether a certificate must be shown.
    pub mode: ClientCertificateMode,
    /// Header in which nodes are told the subject, lower case; client copies are dropped on every site.
    pub header: Option<Name>,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificateMode {
    /// A client without one is refused.
    Required,
    /// A client may come without one. One that cannot be verified is refused all the same.
    Optional,
}

impl Settings {
    /// Returns every file that TLS is made of, each once and sorted: what must be watched.
    pub fn tls_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for listener in self.listeners.values() {
            let Some(TlsSettings::Certificates(tls)) = &listener.tls else { continue };
            for CertificateFiles { cert, key } in &tls.files {
                files.extend([cert.clone(), key.clone()]);
            }
            files.extend(tls.tickets.keys.as_ref().and_then(|keys| keys.path.clone()));
        }
        files.extend(self.sites.iter().filter_map(|site| Some(site.client_certificate.as_ref()?.ca.clone())));
        files.sort();
        files.dedup();
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticket_keys_are_lines_of_hexadecimal_digits() {
        let one = "00".repeat(31) + "Ff";
        let parse = |text: &str| TicketKeys::parse("file:t".into(), None, text.as_bytes());
        let good = parse(&format!("# ours\n\n{one}\r\n{}\n", "ab".repeat(32))).unwrap();
        assert_eq!(good.expose().len(), 2);
        assert_eq!((good.expose()[0][0], good.expose()[0][31], good.expose()[1][7]), (0, 255, 0xab));
        assert!(!format!("{good:?}").contains("171"), "{good:?}");
        for (text, part) in [
            (String::new(), "no key"),
            ("# only\n".to_owned(), "no key"),
            (format!("{one}\n{}", &one[1..]), "line 2"),
            ("+1".repeat(32), "line 1"),
            ("zz".repeat(32), "line 1"),
            ([one.as_str(); 17].join("\n"), "more than 16"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
