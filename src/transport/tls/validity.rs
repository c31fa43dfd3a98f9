//! Until when a certificate is valid: the little of X.509 that the TLS library does not tell.

use super::subject::element;

/// Seconds of a day.
const DAY: i64 = 86_400;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The last second of a certificate, in seconds since 1970. `None` where it cannot be read.
#[must_use]
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let mut rest = certificate;
    let (SEQUENCE, mut outer) = element(&mut rest)? else {
        return None;
    };
    let (SEQUENCE, mut signed) = element(&mut outer)? else {
        return None;
    };
    let (tag, _) = element(&mut signed)?;
    if tag == VERSION {
        let _serial = element(&mut signed)?;
    }
    let (_algorithm, _issuer) = (element(&mut signed)?, element(&mut signed)?);
    let (_, mut validity) = element(&mut signed)?;
    let _not_before = element(&mut validity)?;
    let (tag, text) = element(&mut validity)?;
    seconds(tag, std::str::from_utf8(text).ok()?)
}

/// `YYMMDDhhmmssZ`, of the years 1950 to 2049, or `YYYYMMDDhhmmssZ` (RFC 5280 section 4.1.2.5).
fn seconds(tag: u8, text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year: i64 = digits.get(..2)?.parse().ok()?;
            (
                if year < 50 { 2000 + year } else { 1900 + year },
                &digits[2..],
            )
        }
        (GENERALIZED_TIME, 14) => (digits.get(..4)?.parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    let time = part(4)? * 3600 + part(6)? * 60 + part(8)?;
    let sound = (1..=12).contains(&month) && (1..=31).contains(&day);
    sound.then(|| days(year, month, day) * DAY + time)
}

/// Days since 1970-01-01 of a date of the Gregorian calendar; years begin in March, so that the day which
/// not all of them have is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let of_years = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    of_years + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    #[test]
    fn times_are_read() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (GENERALIZED_TIME, "20000229120000Z", Some(951_825_600)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (UTC_TIME, "7001010000Z", None),
            (UTC_TIME, "701301000000Z", None),
            (UTC_TIME, "70010100000xZ", None),
            (GENERALIZED_TIME, "700101000000Z", None),
            (0x0c, "700101000000Z", None),
        ] {
            assert_eq!(seconds(tag, text), expected, "{text}");
        }
    }

    #[test]
    fn certificates_tell_their_end() {
        for (year, expected) in [(2031, 1_925_078_400), (2075, 3_313_612_800)] {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, 1, 2);
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(not_after(certificate.der()), Some(expected));
        }
        assert_eq!(not_after(b""), None);
        assert_eq!(not_after(&[0x30, 0x82, 1]), None);
    }
}
