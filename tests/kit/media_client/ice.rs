//! ICE of the media client: a full agent of one candidate that talks to a lite one (RFC 8445).
//!
//! Pure: messages in and out; the crate `stun` encodes and checks them.

use std::net::SocketAddr;

use stun::attributes::{
    ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute,
};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Getter, Message, Setter, is_message};
use stun::textattrs::TextAttribute;
use stun::xoraddr::XorMappedAddress;

use super::sdp::Credentials;

/// Priority of a peer-reflexive candidate (RFC 8445 section 5.1.2.1: type preference 110).
const PRIORITY: u32 = (110 << 24) | (0xffff << 8) | 255;
const TIE_BREAKER: u64 = 0x0123_4567_89ab_cdef;

/// Writes a connectivity check that nominates (RFC 8445 section 7.1).
pub(crate) fn check(local: &Credentials, remote: &Credentials) -> Vec<u8> {
    let raw = |typ, value: &[u8]| RawAttribute { typ, length: 0, value: value.to_vec() };
    let mut message = Message::new();
    message.new_transaction_id().expect("random bytes");
    let username = format!("{}:{}", remote.ufrag, local.ufrag);
    let setters: Vec<Box<dyn Setter>> = vec![
        Box::new(message.transaction_id),
        Box::new(BINDING_REQUEST),
        Box::new(TextAttribute::new(ATTR_USERNAME, username)),
        Box::new(raw(ATTR_PRIORITY, &PRIORITY.to_be_bytes())),
        Box::new(raw(ATTR_ICE_CONTROLLING, &TIE_BREAKER.to_be_bytes())),
        Box::new(raw(ATTR_USE_CANDIDATE, &[])),
        Box::new(MessageIntegrity::new_short_term_integrity(remote.password.clone())),
        Box::new(FINGERPRINT),
    ];
    message.build(&setters).expect("a legal message");
    message.raw
}

/// Reads an answer to a check: the address that the server saw.
///
/// # Errors
///
/// Says what is wrong with it: its type, its integrity (keyed with the server's password) or its fingerprint.
pub(crate) fn answer(bytes: &[u8], remote: &Credentials) -> Result<SocketAddr, String> {
    if !is_message(bytes) {
        return Err("not a STUN message".to_owned());
    }
    let mut message = Message::new();
    message.unmarshal_binary(bytes).map_err(|fault| format!("unreadable: {fault}"))?;
    if message.typ != BINDING_SUCCESS {
        return Err(format!("a {}", message.typ));
    }
    FINGERPRINT.check(&message).map_err(|fault| format!("fingerprint: {fault}"))?;
    MessageIntegrity::new_short_term_integrity(remote.password.clone())
        .check(&mut message)
        .map_err(|fault| format!("integrity: {fault}"))?;
    let mut mapped = XorMappedAddress::default();
    mapped.get_from(&message).map_err(|fault| format!("mapped address: {fault}"))?;
    Ok(SocketAddr::new(mapped.ip, mapped.port))
}
