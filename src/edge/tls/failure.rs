//! Why a handshake failed, in a word for a metric.
//!
//! Pure: an error in, a label out. The set of labels is closed, so that no client can make new ones.

use std::io;

use rustls::{Error, InvalidMessage, PeerIncompatible};

/// Returns the label of an error that ended a handshake.
pub(crate) fn kind(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => kind_of(error),
        None if error.kind() == io::ErrorKind::InvalidData => "failed",
        None => "closed",
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library's list grows; what is new is `failed`")]
fn kind_of(error: &Error) -> &'static str {
    match error {
        // What a browser or a scanner gets that speaks HTTP or SSH here.
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "not_tls",
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_)
        | Error::PeerSentOversizedRecord
        | Error::DecryptError => "malformed",
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => "version",
        Error::PeerIncompatible(_) => "nothing_in_common",
        Error::NoApplicationProtocol => "protocol",
        Error::NoCertificatesPresented | Error::InvalidCertificate(_) => "client_certificate",
        // It did not like us: an unknown authority, most of the time.
        Error::AlertReceived(_) => "alert",
        _ => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{AlertDescription, CertificateError};

    #[test]
    fn every_kind_has_its_label() {
        let tls = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        for (error, expected) in [
            (tls(Error::InvalidMessage(InvalidMessage::InvalidContentType)), "not_tls"),
            (tls(Error::InvalidMessage(InvalidMessage::InvalidCcs)), "malformed"),
            (tls(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered)), "version"),
            (tls(Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon)), "nothing_in_common"),
            (tls(Error::NoApplicationProtocol), "protocol"),
            (tls(Error::NoCertificatesPresented), "client_certificate"),
            (tls(Error::InvalidCertificate(CertificateError::Expired)), "client_certificate"),
            (tls(Error::AlertReceived(AlertDescription::UnknownCA)), "alert"),
            (tls(Error::FailedToGetRandomBytes), "failed"),
            (io::ErrorKind::UnexpectedEof.into(), "closed"),
            (io::ErrorKind::InvalidData.into(), "failed"),
        ] {
            assert_eq!(kind(&error), expected, "{error}");
        }
    }
}
