//! What a certificate says: until when, and who its subject is, as text for a header.
//!
//! Pure. The text is RFC 4514's (`CN=alice,O=Example`, the most specific name first), in printable ASCII whatever stands
//! in the certificate: the bytes of anything else are escaped, so that no name can end a header or begin another.

use std::fmt::Write as _;

use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Longest subject; a certificate with a longer one is not usable.
const BYTES_MAX: usize = 4096;

/// Returns when a DER certificate expires, in seconds since the Unix epoch; `None` if it is no certificate.
pub(super) fn not_after(certificate: &[u8]) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}

/// Returns the subject of a DER certificate; `None` if it is no certificate or its subject is too long.
pub(super) fn of(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut parts = Vec::new();
    for names in certificate.subject().iter() {
        let mut part = String::new();
        for (number, attribute) in names.iter().enumerate() {
            if number > 0 {
                part.push('+');
            }
            let id = attribute.attr_type().to_id_string();
            match short_name(&id).zip(text(attribute.attr_value())) {
                Some((name, value)) => {
                    part.push_str(name);
                    part.push('=');
                    escape(&value, &mut part);
                }
                None => {
                    part.push_str(&id);
                    part.push_str("=#");
                    // Of a value without a form of its own, its bytes.
                    attribute.attr_value().data.iter().for_each(|byte| {
                        let _ = write!(part, "{byte:02X}");
                    });
                }
            }
        }
        parts.push(part);
    }
    parts.reverse();
    let subject = parts.join(",");
    (subject.len() <= BYTES_MAX).then_some(subject)
}

/// The names of RFC 4514 section 3, and those that OpenSSL and Nginx write too.
fn short_name(id: &str) -> Option<&'static str> {
    Some(match id {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "GN",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

fn text(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    let tag = value.header.tag();
    if [Tag::Utf8String, Tag::PrintableString, Tag::Ia5String, Tag::NumericString].contains(&tag) {
        return std::str::from_utf8(bytes).ok().map(str::to_owned);
    }
    if tag == Tag::BmpString {
        let units: Vec<u16> =
            bytes.chunks(2).filter_map(|pair| Some(u16::from_be_bytes(pair.try_into().ok()?))).collect();
        return String::from_utf16(&units).ok();
    }
    None
}

/// RFC 4514 section 2.4.
fn escape(value: &str, out: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let is_edge_space = c == ' ' && (at == 0 || at == last);
        if matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=')
            || is_edge_space
            || (c == '#' && at == 0)
        {
            out.push('\\');
            out.push(c);
        } else if c.is_ascii_graphic() || c == ' ' {
            out.push(c);
        } else {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
                let _ = write!(out, "\\{byte:02X}");
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{DnType, DnValue};

    fn certificate(names: &[(DnType, DnValue)]) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.not_after = rcgen::date_time_ymd(2030, 1, 2);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.to_owned())
    }

    #[test]
    fn a_subject_is_text_that_no_header_can_break_on() {
        let der = certificate(&[
            (DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap())),
            (DnType::OrganizationName, utf8("Ex, Inc. = \"best\"")),
            (DnType::CommonName, utf8(" Zoë\r\nX-Admin: yes ")),
        ]);
        let expected = "CN=\\ Zo\\C3\\AB\\0D\\0AX-Admin: yes\\ ,O=Ex\\, Inc. \\= \\\"best\\\",C=DE";
        assert_eq!(of(&der).unwrap(), expected);
        let bmp = DnValue::BmpString("Zo".try_into().unwrap());
        let id = DnType::CustomDnType(vec![1, 2, 3, 4]);
        assert_eq!(
            of(&certificate(&[(DnType::CommonName, bmp), (id, utf8("ab"))])).unwrap(),
            "1.2.3.4=#6162,CN=Zo"
        );
        assert_eq!(of(&certificate(&[(DnType::CommonName, utf8(&"x".repeat(5000)))])), None);
        assert_eq!(of(&certificate(&[])).as_deref(), Some(""));
    }

    #[test]
    fn a_certificate_says_when_it_expires() {
        assert_eq!(not_after(&certificate(&[])), Some(1_893_542_400));
        assert_eq!(not_after(b"no certificate"), None);
    }

    proptest! {
        #[test]
        fn a_subject_is_printable(name in any::<String>(), cut in 0usize..300) {
            let der = certificate(&[(DnType::CommonName, utf8(&name))]);
            if let Some(subject) = of(&der) {
                prop_assert!(subject.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
            }
            let _ = of(&der[..cut.min(der.len())]);
        }
    }
}
