//! A single test of one value.

use super::Claims;
use crate::json::{Number, Scalar};
use crate::permissions::pattern::Glob;
use crate::permissions::uri;

/// The result of a test on a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    No,
    /// It has another type, or programs read it in different ways: not enough to allow it, and not
    /// enough to exempt it from a block.
    Unsure,
    Yes,
}

impl Outcome {
    fn of(truth: bool) -> Self {
        if truth { Self::Yes } else { Self::No }
    }
}

/// A value in the file, or one from the peer's token.
#[derive(Debug)]
pub(super) enum Operand {
    Literal(Vec<Scalar<'static>>),
    /// By name, or by JSON Pointer.
    Claim(Box<str>),
}

impl Operand {
    fn values<'a>(&'a self, claims: &'a Claims) -> Option<&'a [Scalar<'static>]> {
        match self {
            Self::Literal(values) => Some(values),
            Self::Claim(name) => claims.get(name).map(|claim| &*claim.values),
        }
    }
}

/// What a value must be.
#[derive(Debug)]
pub(super) enum Test {
    Equals(Operand),
    In(Operand),
    Glob(Glob),
    /// A path or URI at or below one of these.
    Within(Operand),
    Min(Number),
    Max(Number),
    /// In code points.
    MinLength(u64),
    /// In code points.
    MaxLength(u64),
}

impl Test {
    /// The claim that it needs.
    pub(super) fn claim(&self) -> Option<&str> {
        match self {
            Self::Equals(Operand::Claim(name))
            | Self::In(Operand::Claim(name))
            | Self::Within(Operand::Claim(name)) => Some(name),
            _ => None,
        }
    }

    /// `value` is `None` for objects, arrays, and what readers disagree on.
    pub(super) fn check(&self, value: Option<&Scalar<'_>>, claims: &Claims) -> Outcome {
        let Some(value) = value else {
            return Outcome::Unsure;
        };
        match self {
            Self::Equals(operand) => match operand.values(claims) {
                Some([wanted]) => equals(wanted, value),
                _ => Outcome::Unsure,
            },
            Self::In(operand) => {
                let Some(values) = operand.values(claims) else {
                    return Outcome::Unsure;
                };
                let outcomes = values.iter().map(|wanted| equals(wanted, value));
                outcomes.max().unwrap_or(Outcome::No)
            }
            Self::Glob(glob) => on_text(value, |text| Outcome::of(glob.matches(text))),
            Self::Within(operand) => on_text(value, |text| within(operand.values(claims), text)),
            Self::Min(least) => on_number(value, |number| number >= least),
            Self::Max(most) => on_number(value, |number| number <= most),
            Self::MinLength(least) => on_length(value, |length| length >= *least),
            Self::MaxLength(most) => on_length(value, |length| length <= *most),
        }
    }
}

fn equals(wanted: &Scalar<'_>, value: &Scalar<'_>) -> Outcome {
    let same_type = std::mem::discriminant(wanted) == std::mem::discriminant(value);
    match wanted == value {
        true => Outcome::Yes,
        false if same_type || *value == Scalar::Null => Outcome::No,
        false => Outcome::Unsure,
    }
}

fn on_text(value: &Scalar<'_>, check: impl FnOnce(&str) -> Outcome) -> Outcome {
    match value {
        Scalar::Text(text) => check(text),
        Scalar::Null => Outcome::No,
        _ => Outcome::Unsure,
    }
}

fn on_length(value: &Scalar<'_>, check: impl FnOnce(u64) -> bool) -> Outcome {
    on_text(value, |text| {
        Outcome::of(check(text.chars().count() as u64))
    })
}

fn on_number(value: &Scalar<'_>, check: impl FnOnce(&Number) -> bool) -> Outcome {
    match value {
        Scalar::Number(number) => Outcome::of(check(number)),
        Scalar::Null => Outcome::No,
        _ => Outcome::Unsure,
    }
}

fn within(roots: Option<&[Scalar<'static>]>, path: &str) -> Outcome {
    let (Some(roots), true) = (roots, is_plain(path)) else {
        return Outcome::Unsure;
    };
    let mut outcome = Outcome::No;
    for root in roots {
        match root {
            // A claim may contain anything.
            Scalar::Text(root) if is_plain(root) => {
                let root = root.strip_suffix('/').unwrap_or(root);
                let rest = path.strip_prefix(root);
                if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                    return Outcome::Yes;
                }
                if uri::may_be_below(path, root) {
                    outcome = Outcome::Unsure;
                }
            }
            _ => outcome = Outcome::Unsure,
        }
    }
    outcome
}

/// True for an absolute path, or a URI, with only one meaning: without the segments `.` and `..`,
/// empty segments (except one trailing slash), backslashes and control characters, and without what decodes to these:
/// some servers decode paths, too.
pub(super) fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return uri::fault(path).is_none();
    }
    // All bytes are checked, which is faster than stopping at the first.
    let odd = |found, byte: &u8| found | (*byte == b'\\') | byte.is_ascii_control();
    if bytes.iter().fold(false, odd) || !path.is_ascii() && path.contains(uri::is_odd) {
        return false;
    }
    if uri::hides_a_path(path) {
        return false;
    }
    let starts = memchr::memchr_iter(b'/', bytes).map(|slash| slash + 1);
    let mut segments = starts.map(|start| bytes.get(start..).unwrap_or_default());
    segments.all(|rest| !is_odd_segment(rest))
}

/// True if `rest` starts with the segment `.` or `..`, or with an empty one that is not the last.
fn is_odd_segment(rest: &[u8]) -> bool {
    let after_dots = match rest {
        [b'.', b'.', after @ ..] | [b'.', after @ ..] => after,
        [b'/', ..] => return true,
        _ => return false,
    };
    matches!(after_dots, [] | [b'/', ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(paths: &[&str]) -> Test {
        let path = |path: &&str| Scalar::Text((*path).to_owned().into());
        Test::Within(Operand::Literal(paths.iter().map(path).collect()))
    }

    #[test]
    fn only_plain_paths_below_a_root_are_within() {
        let test = roots(&["/srv/public", "file:///srv/public/", "/"]);
        let narrow = roots(&["/srv/public", "file:///srv/public/"]);
        for (path, outcome) in [
            ("/srv/public", Outcome::Yes),
            ("/srv/public/", Outcome::Yes),
            ("/srv/public/a/b.txt", Outcome::Yes),
            ("/srv/public/...", Outcome::Yes),
            ("/srv/public/a%20b/100%/%c3%a4", Outcome::Yes),
            ("file:///srv/public/a", Outcome::Yes),
            ("/srv/publicity", Outcome::No),
            ("/srv", Outcome::No),
            ("/", Outcome::No),
            ("file:///srv/private/a", Outcome::No),
            ("/srv/public/../private", Outcome::Unsure),
            ("/srv/public/./a", Outcome::Unsure),
            ("/srv/public//a", Outcome::Unsure),
            ("//srv/public/a", Outcome::Unsure),
            ("/srv/public/a\\..\\b", Outcome::Unsure),
            ("/srv/public/a\nb", Outcome::Unsure),
            ("/srv/public/..", Outcome::Unsure),
            ("/srv/public/%2e%2e/private", Outcome::Unsure),
            ("/srv/public/.%2E/private", Outcome::Unsure),
            ("/srv/public/%252e%252e/private", Outcome::Unsure),
            ("/srv/public/..%2fprivate", Outcome::Unsure),
            ("/srv/public/..%5Cprivate", Outcome::Unsure),
            ("/srv/public/a%00", Outcome::Unsure),
            ("srv/public/a", Outcome::Unsure),
            ("~/a", Outcome::Unsure),
            ("", Outcome::Unsure),
            ("file:///srv/public/%2e%2e/private", Outcome::Unsure),
            ("FILE:///srv/public/a", Outcome::Unsure),
        ] {
            let value = Scalar::Text(path.into());
            let found = narrow.check(Some(&value), &Claims::default());
            assert_eq!(found, outcome, "{path}");
            let anywhere = test.check(Some(&value), &Claims::default());
            assert_eq!(
                anywhere == Outcome::Unsure,
                outcome == Outcome::Unsure,
                "{path}"
            );
        }
    }

    #[test]
    fn another_type_is_neither_allowed_nor_let_past_a_block() {
        let one = || Operand::Literal(vec![Scalar::read(b"1").unwrap()]);
        let number = |text: &str| Number::read(text.as_bytes()).unwrap();
        for (test, raw, outcome) in [
            (Test::Equals(one()), "1.0", Outcome::Yes),
            (Test::Equals(one()), "2", Outcome::No),
            (Test::Equals(one()), "null", Outcome::No),
            (Test::Equals(one()), "\"1\"", Outcome::Unsure),
            (Test::Equals(one()), "[1]", Outcome::Unsure),
            (Test::In(Operand::Literal(Vec::new())), "1", Outcome::No),
            (
                Test::Equals(Operand::Claim("sub".into())),
                "1",
                Outcome::Unsure,
            ),
            (Test::Min(number("1")), "0.9999999999999999999", Outcome::No),
            (
                Test::Min(number("1")),
                "1.0000000000000000000",
                Outcome::Yes,
            ),
            (
                Test::Max(number("9007199254740992")),
                "9007199254740993",
                Outcome::No,
            ),
            (Test::Max(number("1")), "\"0\"", Outcome::Unsure),
            (Test::MinLength(2), r#""\ud83d\ude00""#, Outcome::No),
            (Test::MaxLength(1), r#""\ud83d\ude00""#, Outcome::Yes),
            (Test::MaxLength(1), "1", Outcome::Unsure),
            (
                Test::Glob(Glob::new("a*").unwrap()),
                "\"a\\u0062\"",
                Outcome::Yes,
            ),
            (Test::Glob(Glob::new("a*").unwrap()), "\"b\"", Outcome::No),
            (
                Test::Glob(Glob::new("a*").unwrap()),
                "\"a\\u0000b\"",
                Outcome::Unsure,
            ),
            (
                Test::Glob(Glob::new("a*").unwrap()),
                "true",
                Outcome::Unsure,
            ),
        ] {
            let found = test.check(Scalar::read(raw.as_bytes()).as_ref(), &Claims::default());
            assert_eq!(found, outcome, "{test:?} of {raw}");
        }
    }
}
