//! Request ids and progress tokens: the same type on the wire, and the same rules.

use crate::json::{unescape, write_string};

/// The largest integer that every JSON reader keeps exactly, 2^53 − 1.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// So many digits has that.
const MAX_DIGITS: usize = 16;

/// The longest string id we keep, in bytes: ids wait in tables, and a peer must not fill those.
pub const MAX_ID_LENGTH: usize = 1024;

/// An id as JSON-RPC has it, compared as typed: `1` is not `"1"`.
///
/// MCP forbids `null` (2025-11-25 basic "Requests"); fractions are not ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RequestId {
    /// An integer within ±(2^53 − 1).
    Number(i64),
    /// A string of at most [`MAX_ID_LENGTH`] bytes.
    String(Box<str>),
}

impl RequestId {
    /// Reads an id from its JSON text; `None` when it is not one that we take.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Option<Self> {
        if raw.first() == Some(&b'"') {
            let text = unescape(raw)?;
            return (text.len() <= MAX_ID_LENGTH).then(|| Self::String(text.into()));
        }
        let (negative, digits) = match raw {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        if digits.is_empty() || digits.len() > MAX_DIGITS {
            return None;
        }
        let mut number = 0;
        for digit in digits {
            number = number * 10 + u64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        }
        let signed = if negative {
            -number.cast_signed()
        } else {
            number.cast_signed()
        };
        (number <= MAX_SAFE_INTEGER).then_some(Self::Number(signed))
    }

    /// Appends the JSON text of this id.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => write_integer(*number, out),
            Self::String(text) => write_string(text, out),
        }
    }
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
            Self::String(text) => write!(f, "{text:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_strings_or_safe_integers() {
        for good in [
            "0",
            "-7",
            "9007199254740991",
            "-9007199254740991",
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
        for bad in [
            "null",
            "1.0",
            "1e3",
            "1.5",
            "9007199254740992",
            "9223372036854775808",
            "true",
            "{}",
            "\"\\ud800\"",
            &long,
        ] {
            assert_eq!(RequestId::parse(bad.as_bytes()), None, "{bad}");
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
