//! The certificate of the demo: made in this process, for this machine's names.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;

use super::{TlsError, load};

/// Makes the demo certificate once; it stays for the life of the process, so that a browser's exception holds through
/// reloads.
pub(super) fn self_signed() -> Result<Arc<CertifiedKey>, TlsError> {
    static MADE: OnceLock<Arc<CertifiedKey>> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made.clone());
    }
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    for name in machine_names() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "Roomgate demo");
    let today = i64::try_from(crate::clock::wall().as_secs() / 86_400).unwrap_or_default();
    let date = |days: i64| {
        let (year, month, day) = civil(days);
        rcgen::date_time_ymd(year, month, day)
    };
    params.not_before = date(today - 1);
    // Browsers refuse leaves that live longer than 398 days.
    params.not_after = date(today + 390);
    let key = rcgen::KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|reason| TlsError::Tls(rustls::Error::General(reason.to_owned())))?;
    let made = CertifiedKey::from_der(vec![certificate.der().clone()], key, &load::provider())?;
    Ok(MADE.get_or_init(|| Arc::new(made)).clone())
}

/// The host's name and the addresses of its interfaces.
fn machine_names() -> Vec<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_ascii_lowercase();
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    let host = (!host.is_empty() && host.len() <= 253 && host.bytes().all(legal)).then_some(host);
    let addresses = if_addrs::get_if_addrs().unwrap_or_default().into_iter().map(|i| i.ip());
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => true,
        // Link-local addresses need a zone, which no certificate can carry.
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    host.into_iter().chain(addresses.filter(usable).take(64).map(|ip| ip.to_string())).collect()
}

/// Turns days since 1970-01-01 into a date of the Gregorian calendar.
fn civil(days: i64) -> (i32, u8, u8) {
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let mut left = days.max(0);
    let mut year = 1970;
    while left >= 365 + i64::from(leap(year)) {
        left -= 365 + i64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1u8;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (i32::try_from(year).unwrap_or(i32::MAX), month.min(12), u8::try_from(left + 1).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::san;

    #[test]
    fn the_demo_certificate_names_this_machine_and_stays() {
        let first = self_signed().unwrap();
        assert!(Arc::ptr_eq(&first, &self_signed().unwrap()));
        let names = san::dns_names(first.end_entity_cert().unwrap());
        assert!(names.contains(&"localhost".to_owned()), "{names:?}");
    }

    #[test]
    fn days_become_dates() {
        for (days, expected) in
            [(0, (1970, 1, 1)), (58, (1970, 2, 28)), (19_782, (2024, 2, 29)), (20_819, (2027, 1, 1))]
        {
            assert_eq!(civil(days), expected);
        }
    }
}
