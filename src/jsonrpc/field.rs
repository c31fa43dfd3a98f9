//! How the member names that policy and router read are recognised.
//!
//! Children parse names leniently: Go folds case (U+017F and U+212A included), Go's second JSON
//! package also skips `_` and `-`, Python's SDK takes `request_id` for `requestId` and `meta` for
//! `_meta`, and for C readers a name ends at a NUL. A member that some child would take for one
//! of ours, but that we would not, is a way past the gate, so such a name is recognised as a
//! look-alike and makes the message invalid.

use crate::json::{Fault, Scanner, Span, looks_like_folded};
use crate::mcp::{FIELDS, Field};

const COUNT: usize = FIELDS.len();

/// True for a byte with which a name that looks like one of ours may start.
fn is_initial(byte: u8) -> bool {
    matches!(
        byte.to_ascii_lowercase(),
        b'_' | b'-' | b'c' | b'l' | b'm' | b'n' | b'p' | b'r' | b't' | b'u'
    )
}

/// Members found in one object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    spans: [Span; COUNT],
    /// A bit for each that was found.
    seen: u32,
    /// A bit for each that is duplicated or has a look-alike name: some reader would see another
    /// value than we do.
    spoiled: u32,
    /// A bit for each that is a string with an escape: only such a string may have a text that
    /// readers disagree on.
    escaped: u32,
}

impl Fields {
    /// Parses a key and its colon, and returns the field it is or looks like, as
    /// [`Fields::recognise`].
    #[inline(always)]
    pub(super) fn next(
        scanner: &mut Scanner<'_>,
        line: &[u8],
    ) -> Result<Option<(Field, bool)>, Fault> {
        // Most messages have no others.
        let plain = match scanner.second() {
            Some(b'n') => scanner
                .eat_all(b"\"name\":")
                .then_some(Some((Field::Name, true))),
            Some(b'_') => scanner
                .eat_all(b"\"_meta\":")
                .then_some(Some((Field::Meta, true))),
            Some(b'u') => scanner
                .eat_all(b"\"uri\":")
                .then_some(Some((Field::Uri, true))),
            Some(b'a') => scanner.eat_all(b"\"arguments\":").then_some(None),
            Some(b'c') => scanner.eat_all(b"\"content\":").then_some(None),
            _ => None,
        };
        if let Some(found) = plain {
            return Ok(found);
        }
        let key = scanner.key()?;
        Ok(Self::recognise(&key.text(line)))
    }

    /// The field that `name` is or looks like, and whether it matches exactly; `None` for a name that
    /// no reader confuses with ours.
    #[inline(never)]
    pub(crate) fn recognise(name: &[u8]) -> Option<(Field, bool)> {
        if !is_initial(*name.first()?) {
            return None;
        }
        if let Some(field) = Field::parse(name) {
            return Some((field, true));
        }
        Some((Self::alike(name)?, false))
    }

    #[inline(never)]
    fn alike(name: &[u8]) -> Option<Field> {
        // Most names are already folded.
        let folded = name.iter().all(u8::is_ascii_lowercase);
        let alike = |(_, known): &&(Field, &str)| {
            if folded {
                name == known.as_bytes()
            } else {
                looks_like_folded(name, known)
            }
        };
        FIELDS.iter().find(alike).map(|(field, _)| *field)
    }

    /// Records that `field` is at `span`, under its exact name or not; `plain` if it is not a string
    /// with escapes.
    pub(crate) fn note(&mut self, field: Field, exact: bool, span: Span, plain: bool) {
        let bit = 1 << field as u32;
        if !plain {
            self.escaped |= bit;
        }
        if !exact || self.seen & bit != 0 {
            self.spoiled |= bit;
        }
        self.seen |= bit;
        self.spans[field as usize] = span;
    }

    pub(crate) fn get(&self, field: Field) -> Option<Span> {
        let bit = 1 << field as u32;
        (self.seen & !self.spoiled & bit != 0).then(|| self.spans[field as usize])
    }

    pub(crate) fn is_spoiled(&self, field: Field) -> bool {
        self.spoiled & (1 << field as u32) != 0
    }

    /// True for a string that contains an escape.
    pub(crate) fn is_escaped(&self, field: Field) -> bool {
        self.escaped & (1 << field as u32) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_are_recognised() {
        let of = |name: &str| Fields::recognise(name.as_bytes());
        assert_eq!(of("name"), Some((Field::Name, true)));
        assert_eq!(of("Name"), Some((Field::Name, false)));
        assert_eq!(of("ta\u{17f}\u{212a}Id"), Some((Field::TaskId, false)));
        assert_eq!(of("request_id"), Some((Field::RequestId, false)));
        assert_eq!(of("meta"), Some((Field::Meta, false)));
        assert_eq!(of("_meta"), Some((Field::Meta, true)));
        assert_eq!(of("name\0x"), Some((Field::Name, false)));
        // The last two are skipped unchanged.
        for other in [
            "names",
            "",
            "námé",
            "\u{17f}",
            "task\u{c5}",
            "arguments",
            "content",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn every_name_begins_as_names_do() {
        for (_, folded) in FIELDS {
            assert!(is_initial(folded.as_bytes()[0]), "{folded}");
        }
    }

    #[test]
    fn a_field_seen_twice_is_spoiled() {
        let span = Span { start: 0, end: 1 };
        let mut fields = Fields::default();
        fields.note(Field::Uri, true, span, true);
        assert_eq!(fields.get(Field::Uri), Some(span));
        fields.note(Field::Uri, true, span, true);
        assert!(fields.is_spoiled(Field::Uri));
        fields.note(Field::Name, false, span, true);
        assert!(fields.is_spoiled(Field::Name) && fields.get(Field::Name).is_none());
    }
}
