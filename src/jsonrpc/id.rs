//! Request ids and progress tokens: same type on the wire, same rules.

use crate::json::{unescape, write_string};

/// The largest integer that every JSON reader keeps exactly, 2^53 − 1.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The number of its digits.
const MAX_DIGITS: usize = 16;

/// The longest string id we keep, in bytes: ids are kept in tables, which a peer must not fill.
pub const MAX_ID_LENGTH: usize = 1024;

/// An id as JSON-RPC has it, compared as typed: `1` is neither `"1"` nor `1.0`.
///
/// MCP forbids `null` (2025-11-25 basic "Requests").
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RequestId {
    /// An integer within ±(2^53 − 1), written plainly.
    Number(i64),
    /// Any other number, as it was written, in at most [`MAX_ID_LENGTH`] bytes.
    OtherNumber(Box<str>),
    /// A string of at most [`MAX_ID_LENGTH`] bytes.
    String(Box<str>),
}

impl RequestId {
    /// The heap memory it uses, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Number(_) => 0,
            Self::OtherNumber(text) | Self::String(text) => text.len(),
        }
    }

    /// Parses an id from its JSON text; `None` when we do not accept it.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Option<Self> {
        match raw.first()? {
            b'"' => {
                let text = unescape(raw)?;
                (text.len() <= MAX_ID_LENGTH).then(|| Self::String(text.into()))
            }
            b'-' | b'0'..=b'9' => match parse_integer(raw) {
                Some(number) => Some(Self::Number(number)),
                None => Self::parse_other(raw),
            },
            _ => None,
        }
    }

    #[cold]
    fn parse_other(raw: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(raw).ok()?;
        let is_number = serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
        (is_number && raw.len() <= MAX_ID_LENGTH).then(|| Self::OtherNumber(text.into()))
    }

    /// The integer value, however it is written: some servers return an id as `"3"`, `3.0` or
    /// `1.073E9`. Only for ids that the proxy chose itself, which are all integers.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        let text = match self {
            Self::Number(number) => return Some(*number),
            Self::OtherNumber(text) | Self::String(text) => text,
        };
        if let Some(number) = parse_integer(text.as_bytes()) {
            return Some(number);
        }
        parse_float(text)
    }

    /// Appends the JSON text of this id.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => write_integer(*number, out),
            Self::OtherNumber(text) => out.extend_from_slice(text.as_bytes()),
            Self::String(text) => write_string(text, out),
        }
    }
}

/// Parses an integer within ±(2^53 − 1) that is written plainly: no fraction, no exponent, no
/// leading zero, no `-0`.
fn parse_integer(raw: &[u8]) -> Option<i64> {
    let (negative, digits) = match raw {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > MAX_DIGITS {
        return None;
    }
    if digits[0] == b'0' && (negative || digits.len() > 1) {
        return None;
    }
    let mut number = 0;
    for digit in digits {
        number = number * 10 + u64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    let signed = number.cast_signed();
    (number <= MAX_SAFE_INTEGER).then_some(if negative { -signed } else { signed })
}

/// Parses an integer that is written with a fraction or an exponent, as one of 2^53 or less can be.
fn parse_float(text: &str) -> Option<i64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<usize>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if exponent > MAX_DIGITS || mantissa.ends_with('.') {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let zeros = exponent.checked_sub(fraction.len())?;
    // A zero before the point is not the first digit of the integer.
    let whole = if whole == "0" && exponent > 0 {
        ""
    } else {
        whole
    };
    parse_integer(format!("{whole}{fraction}{}", "0".repeat(zeros)).as_bytes())
}

fn write_integer(number: i64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend(&digits[at..]);
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::OtherNumber(text) => f.write_str(text),
            Self::String(text) => write!(f, "{text:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_given_back_as_they_were_written() {
        for good in [
            "0",
            "-7",
            "9007199254740991",
            "-9007199254740991",
            "9007199254740992",
            "9223372036854775808",
            "-0",
            "1.0",
            "1e3",
            "1.5",
            "\"\"",
            "\"1\"",
            "\"é\"",
        ] {
            let id = RequestId::parse(good.as_bytes()).expect(good);
            let mut text = Vec::new();
            id.write(&mut text);
            assert_eq!(text, good.as_bytes());
        }
        let long = format!("\"{}\"", "x".repeat(MAX_ID_LENGTH + 1));
        let long_number = "1".repeat(MAX_ID_LENGTH + 1);
        for bad in [
            "null",
            "true",
            "{}",
            "",
            "01",
            "1.",
            "-",
            "1 2",
            "\"\\ud800\"",
            &long,
            &long_number,
        ] {
            assert_eq!(RequestId::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn an_id_that_comes_back_retyped_has_its_value() {
        let integer = |text: &str| RequestId::parse(text.as_bytes()).and_then(|id| id.integer());
        for same in [
            "3",
            "\"3\"",
            "3.0",
            "3.00",
            "\"3.0\"",
            "3e0",
            "3.0E0",
            "0.3e1",
            "\"3.0E0\"",
        ] {
            assert_eq!(integer(same), Some(3), "{same}");
        }
        for same in [
            "1073741823",
            "1.073741823E9",
            "1.073741823e+9",
            "1.0737418230e9",
            "10737418.23E2",
        ] {
            assert_eq!(integer(same), Some(1_073_741_823), "{same}");
        }
        for other in [
            "3.5", "3e-1", "3.55e1", "1e99", "1e18", "0.0e3", "\"e\"", "\"1e\"", "\".e1\"",
            "\"03\"", "\"\"", "\"3x\"", "\"3.\"", "-0", "\" 3\"",
        ] {
            assert_eq!(integer(other), None, "{other}");
        }
    }

    #[test]
    fn one_is_not_the_string_one() {
        assert_ne!(RequestId::parse(b"1"), RequestId::parse(b"\"1\""));
        assert_eq!(
            RequestId::parse(br#""\u0041""#),
            RequestId::parse(br#""A""#)
        );
    }
}
