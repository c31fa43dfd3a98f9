//! JSON scalars, compared exactly: numbers by value, however they are written and however large, strings
//! by code points.

use super::span::unescape;
use std::borrow::Cow;
use std::cmp::Ordering;

/// A JSON value that is neither an object nor an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    /// Parses valid JSON. `None` for objects and arrays, and for what readers disagree on: strings
    /// with a lone surrogate or a NUL, numbers whose exponent has more than 17 digits.
    pub(crate) fn read(raw: &'a [u8]) -> Option<Self> {
        match raw.first()? {
            b'n' => Some(Self::Null),
            b't' => Some(Self::Bool(true)),
            b'f' => Some(Self::Bool(false)),
            b'"' => unescape(raw)
                .filter(|text| memchr::memchr(0, text.as_bytes()).is_none())
                .map(Self::Text),
            b'{' | b'[' => None,
            _ => Number::read(raw).map(Self::Number),
        }
    }

    pub(crate) fn into_owned(self) -> Scalar<'static> {
        match self {
            Self::Null => Scalar::Null,
            Self::Bool(truth) => Scalar::Bool(truth),
            Self::Number(number) => Scalar::Number(number),
            Self::Text(text) => Scalar::Text(text.into_owned().into()),
        }
    }
}

/// A decimal number: 0.`digits` × 10^`exponent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    negative: bool,
    /// Without leading and trailing zeros; empty for zero.
    digits: Box<[u8]>,
    exponent: i64,
}

/// Longer exponents are rejected, so that their sums do not overflow.
const MAX_EXPONENT_DIGITS: usize = 17;

/// Integers with more digits are written with an exponent.
const MAX_WHOLE: usize = 400;

impl Number {
    /// Parses a valid JSON number.
    pub(crate) fn read(raw: &[u8]) -> Option<Self> {
        let (negative, rest) = match raw {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let end = rest.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (mantissa, written) = match end {
            Some(at) => (&rest[..at], read_exponent(&rest[at + 1..])?),
            None => (rest, 0),
        };
        let point = memchr::memchr(b'.', mantissa).unwrap_or(mantissa.len());
        let mut digits: Vec<u8> = mantissa.to_vec();
        digits.retain(u8::is_ascii_digit);
        let leading = digits.iter().take_while(|digit| **digit == b'0').count();
        let length = digits
            .iter()
            .rposition(|digit| *digit != b'0')
            .map_or(0, |last| last + 1);
        if length == 0 {
            return Some(Self {
                negative: false,
                digits: Box::default(),
                exponent: 0,
            });
        }
        let exponent = i64::try_from(point).ok()? - i64::try_from(leading).ok()? + written;
        Some(Self {
            negative,
            digits: digits.get(leading..length)?.into(),
            exponent,
        })
    }

    /// Writes it as JSON: without a point or an exponent if it is an integer and not too long, otherwise
    /// with both.
    pub(crate) fn to_json(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let digits: String = self.digits.iter().map(|digit| char::from(*digit)).collect();
        let zeros = usize::try_from(self.exponent)
            .ok()
            .filter(|length| *length <= MAX_WHOLE)
            .and_then(|length| length.checked_sub(digits.len()));
        match zeros {
            Some(_) if digits.is_empty() => "0".to_owned(),
            Some(zeros) => format!("{sign}{digits}{}", "0".repeat(zeros)),
            None => format!("{sign}0.{digits}e{}", self.exponent),
        }
    }

    fn compare_sizes(&self, other: &Self) -> Ordering {
        match (self.digits.is_empty(), other.digits.is_empty()) {
            (false, false) => self
                .exponent
                .cmp(&other.exponent)
                .then_with(|| self.digits.cmp(&other.digits)),
            (mine, theirs) => theirs.cmp(&mine),
        }
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.compare_sizes(other),
            (true, true) => other.compare_sizes(self),
            (mine, theirs) => theirs.cmp(&mine),
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn read_exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] | digits => (1, digits),
    };
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let digits = digits.get(zeros..)?;
    if digits.len() > MAX_EXPONENT_DIGITS {
        return None;
    }
    let value = |sum, digit: &u8| sum * 10 + i64::from(digit - b'0');
    Some(sign * digits.iter().fold(0, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Number {
        Number::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn numbers_are_compared_by_value() {
        for same in [
            &["1", "1.0", "1e0", "10e-1", "0.1E+1", "1.000e00"][..],
            &["0", "-0", "0.000", "0e99", "-0e-5"],
            &[
                "9007199254740993",
                "9007199254740993.0",
                "9.007199254740993e15",
            ],
            &["-12.5", "-125e-1"],
        ] {
            for pair in same.windows(2) {
                assert_eq!(number(pair[0]), number(pair[1]), "{pair:?}");
            }
        }
        let ascending = [
            "-1e400",
            "-9007199254740993",
            "-9007199254740992",
            "-1",
            "-0.1",
            "0",
            "1e-400",
            "0.09",
            "0.1",
            "1",
            "1.0000000000000000000001",
            "9007199254740992",
            "9007199254740993",
            "1e400",
            "10e400",
        ];
        for pair in ascending.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for (text, written) in [
            ("-0.0", "0"),
            ("42.0", "42"),
            ("-4.2e3", "-4200"),
            ("1e-400", "0.1e-399"),
            ("42.5", "0.425e2"),
            ("18446744073709551617.00", "18446744073709551617"),
            ("1e99999999999999999", "0.1e100000000000000000"),
        ] {
            assert_eq!(number(text).to_json(), written);
        }
        let long = format!("-{}", "9".repeat(MAX_WHOLE + 1));
        for text in [&long, &long[1..MAX_WHOLE], "1e399", "1e400"] {
            assert_eq!(number(&number(text).to_json()), number(text), "{text}");
        }
    }

    #[test]
    fn exponents_that_no_reader_holds_are_not_read() {
        assert!(Number::read(b"1e99999999999999999").is_some());
        assert!(Number::read(b"1e-00000000000000000000000007").is_some());
        assert!(Number::read(b"1e100000000000000000").is_none());
        assert!(Number::read(b"1e-100000000000000000").is_none());
    }

    #[test]
    fn what_readers_disagree_on_is_no_scalar() {
        for raw in [r#""a\u0000b""#, r#""\ud800""#, "{}", "[1]"] {
            assert_eq!(Scalar::read(raw.as_bytes()), None, "{raw}");
        }
        let escaped = Scalar::read(br#""\u0061\/b""#);
        assert_eq!(escaped, Some(Scalar::Text("a/b".into())));
    }

    proptest! {
        #[test]
        fn order_is_that_of_integers(a in any::<i64>(), b in any::<i64>(), zeros in 0usize..4) {
            let written = format!("{b}.{}", "0".repeat(zeros + 1));
            prop_assert_eq!(number(&a.to_string()).cmp(&number(&written)), a.cmp(&b));
        }

        #[test]
        fn order_is_that_of_scaled_integers(a in any::<i32>(), b in any::<i32>(), e in 0i32..8) {
            let scaled = number(&format!("{a}e-{e}")).cmp(&number(&b.to_string()));
            prop_assert_eq!(scaled, i128::from(a).cmp(&(i128::from(b) * 10i128.pow(e as u32))));
        }
    }
}
