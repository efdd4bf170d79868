//! How the WebRTC engine is set up: what is offered to clients, and the one certificate of this process.

use std::panic::catch_unwind;
use std::time::Instant;

use str0m::change::SdpOffer;
use str0m::config::DtlsCert;
use str0m::{IceCreds, Rtc, RtcConfig};

use super::offer::{IceCredentials, Offer, OfferFault};

/// What all sessions of the process share.
#[derive(Clone)]
pub struct Engine {
    certificate: DtlsCert,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Makes the DTLS certificate of this process: ECDSA P-256, self-signed; clients check it by the fingerprint in
    /// the answer, which they got over TLS (RFC 8827 section 6.5).
    ///
    /// # Errors
    ///
    /// When the key or the certificate cannot be made.
    pub fn new() -> Result<Self, rcgen::Error> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let params = rcgen::CertificateParams::new(vec!["roomgate".to_owned()])?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate: DtlsCert {
                certificate: certificate.der().to_vec(),
                private_key: key.serialize_der(),
            },
        })
    }

    /// Makes the engine of one session.
    pub(super) fn build(&self, ice: &IceCredentials, now: Instant) -> Rtc {
        RtcConfig::new()
            .set_rtp_mode(true)
            .set_ice_lite(true)
            .set_dtls_cert(self.certificate.clone())
            .set_local_ice_credentials(IceCreds { ufrag: ice.ufrag.clone(), pass: ice.pwd.clone() })
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .enable_h264(true)
            .set_stats_interval(None)
            .set_send_buffer_video(RTX_PACKETS)
            .set_sctp_max_buffered_amount(1)
            .build(now)
    }
}

/// Says whether the engine can read an offer, without one.
pub(super) fn parses(offer: &Offer) -> Result<(), OfferFault> {
    match catch_unwind(|| SdpOffer::from_sdp_string(&offer.sdp)) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(OfferFault::Engine(error.to_string().chars().take(200).collect())),
        Err(_) => Err(OfferFault::Engine("internal fault".to_owned())),
    }
}

/// Video packets of a receive line that a NACK can still bring back: about 3 s at 1.5 Mb/s.
const RTX_PACKETS: usize = 512;
