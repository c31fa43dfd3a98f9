//! How loose JSON readers compare the names of members.

/// The first character of `name` as Go's `encoding/json` folds it, and the rest. `None` for one
/// that occurs in none of our names.
fn fold_first(name: &[u8]) -> Option<(u8, &[u8])> {
    match name {
        // U+017F and U+212A.
        [0xc5, 0xbf, rest @ ..] => Some((b's', rest)),
        [0xe2, 0x84, 0xaa, rest @ ..] => Some((b'k', rest)),
        [first, rest @ ..] if first.is_ascii() => Some((first.to_ascii_lowercase(), rest)),
        _ => None,
    }
}

/// A name as the most lenient reader sees it, byte by byte.
struct Folded<'a>(&'a [u8]);

impl Iterator for Folded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        loop {
            // None of our names has this byte.
            let (folded, rest) = match self.0 {
                [] => return None,
                name => fold_first(name).unwrap_or((0xff, &[])),
            };
            self.0 = rest;
            match folded {
                0 => return None,
                b'_' | b'-' => {}
                folded => return Some(folded),
            }
        }
    }
}

/// True when the most lenient reader takes `name` for `known`.
pub(crate) fn looks_like(name: &[u8], known: &str) -> bool {
    Folded(name).eq(Folded(known.as_bytes()))
}

/// A name of any characters as the most lenient reader takes it: up to a NUL, without `_` and `-`, case folded.
pub(crate) fn fold(name: &str) -> String {
    name.chars()
        .take_while(|c| *c != '\0')
        .filter(|c| !matches!(c, '_' | '-'))
        // The capital 'ẞ' is its own upper case, and 'ß' has another.
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

/// True when `name` equals `exact` (ASCII, lower case) once case is folded as Go does.
pub(crate) fn folds_to(mut name: &[u8], exact: &str) -> bool {
    exact.bytes().all(|byte| {
        fold_first(name).is_some_and(|(folded, rest)| {
            name = rest;
            folded == byte
        })
    }) && name.is_empty()
}

/// As [`looks_like`], for a `known` that is already folded.
pub(crate) fn looks_like_folded(name: &[u8], known: &str) -> bool {
    Folded(name).eq(known.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bug: 'ẞ' (U+1E9E) and 'ß' were two letters, and one for Go.
    #[test]
    fn the_cases_of_a_letter_are_one() {
        for letter in '\0'..=char::MAX {
            let cases = [
                letter.to_lowercase().to_string(),
                letter.to_uppercase().to_string(),
            ];
            let letter = letter.to_string();
            for case in cases.iter().filter(|case| **case != letter) {
                assert_eq!(fold(case), fold(&letter), "{letter}");
            }
        }
    }
}
