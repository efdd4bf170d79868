//! Pure: the DNS names of a certificate (RFC 5280 section 4.2.1.6).
//!
//! Walks the DER of an X.509 certificate down to its subject alternative names and nothing else. It decides which
//! certificate answers an SNI; whether the certificate is any good is the client's question.

/// Returns the DNS names of a DER certificate, in lower case, at most [`NAMES_MAX`]; empty if there are none or the
/// bytes are not a certificate.
pub fn dns_names(certificate: &[u8]) -> Vec<String> {
    names(certificate).unwrap_or_default()
}

/// Names read from one certificate at most.
pub const NAMES_MAX: usize = 1000;

fn names(certificate: &[u8]) -> Option<Vec<String>> {
    let (whole, _) = expect(certificate, SEQUENCE)?;
    let (mut body, _) = expect(whole, SEQUENCE)?;
    // TBSCertificate: the extensions are the last field, under the context tag 3.
    let extensions = loop {
        let (tag, value, rest) = element(body)?;
        if tag == EXTENSIONS {
            break value;
        }
        body = rest;
    };
    let (mut list, _) = expect(extensions, SEQUENCE)?;
    while !list.is_empty() {
        let (extension, rest) = expect(list, SEQUENCE)?;
        list = rest;
        let (id, after) = expect(extension, OBJECT_IDENTIFIER)?;
        if id != SUBJECT_ALT_NAME {
            continue;
        }
        // `critical` may stand between the identifier and the value.
        let (tag, value, after) = element(after)?;
        let value = if tag == BOOLEAN { expect(after, OCTET_STRING)?.0 } else { value };
        let (mut general, _) = expect(value, SEQUENCE)?;
        let mut found = Vec::new();
        while !general.is_empty() && found.len() < NAMES_MAX {
            let (tag, value, rest) = element(general)?;
            general = rest;
            if tag == DNS_NAME
                && let Ok(name) = std::str::from_utf8(value)
            {
                found.push(name.to_ascii_lowercase());
            }
        }
        return Some(found);
    }
    None
}

fn expect(bytes: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (tag, value, rest) = element(bytes)?;
    (tag == expected).then_some((value, rest))
}

/// Returns tag, value and what follows. Lengths of up to 3 bytes: a certificate is smaller than 16 MiB.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |sum, b| sum << 8 | usize::from(*b)), rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const BOOLEAN: u8 = 0x01;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate(names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        rcgen::generate_simple_self_signed(names).unwrap().cert.der().to_vec()
    }

    #[test]
    fn names_come_in_order_and_addresses_do_not() {
        let der = certificate(&["Meet.example.com", "*.example.com", "127.0.0.1"]);
        assert_eq!(dns_names(&der), ["meet.example.com", "*.example.com"]);
    }

    #[test]
    fn many_names_need_a_long_length() {
        let names: Vec<String> = (0..500).map(|n| format!("host-{n}.example.com")).collect();
        let refs: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(dns_names(&certificate(&refs)), names);
    }

    #[test]
    fn cut_certificates_have_no_names_or_fewer() {
        let der = certificate(&["a.example"]);
        for cut in 0..der.len() {
            assert!(dns_names(&der[..cut]).is_empty());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            dns_names(&bytes);
        }
    }
}
