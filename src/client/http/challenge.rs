//! Describes a `WWW-Authenticate` challenge (RFC 9110 section 11.6, RFC 6750, RFC 9728) in words.
//!
//! Pure.

use crate::utils::shorten::shorten;
use std::fmt::Write;

/// The most of a value that is shown, in bytes.
const MAX_TOLD: usize = 200;

/// The description of a challenge.
pub(super) fn describe(challenge: &str) -> String {
    let scheme = challenge.split_whitespace().next().unwrap_or_default();
    let mut text = format!("it asks for '{}'", told(scheme));
    for (name, words) in [
        ("scope", "scope"),
        ("resource_metadata", "OAuth, described at"),
        ("realm", "realm"),
        ("error", "error"),
        ("error_description", "because"),
    ] {
        if let Some(value) = parameter(challenge, name) {
            // Writing to a string does not fail.
            let _ok = write!(text, ", {words} '{}'", told(&value));
        }
    }
    text
}

/// Escaped for a terminal.
fn told(value: &str) -> String {
    let plain: String = value
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    shorten(&plain, MAX_TOLD).to_owned()
}

/// The value of a parameter, quotes and escapes undone.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    loop {
        let (before, after) = rest.split_once('=')?;
        let key = before
            .rsplit([' ', ',', '\t'])
            .find(|word| !word.is_empty());
        let (value, next) = value(after.trim_start());
        if key.is_some_and(|key| key.eq_ignore_ascii_case(name)) {
            return Some(value);
        }
        rest = next;
    }
}

/// A value, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            character => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_told_in_words() {
        for (challenge, words) in [
            ("Bearer", "it asks for 'Bearer'"),
            ("", "it asks for ''"),
            (
                "Basic realm=\"a \\\"b\\\", c\"",
                "it asks for 'Basic', realm 'a \"b\", c'",
            ),
            (
                "Bearer error=\"invalid_token\", error_description=\"expired\", resource_metadata=\"https://a/.well-known/oauth-protected-resource\", scope=\"a b\"",
                "it asks for 'Bearer', scope 'a b', OAuth, described at 'https://a/.well-known/oauth-protected-resource', error 'invalid_token', because 'expired'",
            ),
            (
                "Bearer SCOPE=x,realm=y",
                "it asks for 'Bearer', scope 'x', realm 'y'",
            ),
            ("Bearer scope=\"open", "it asks for 'Bearer', scope 'open'"),
            ("Bearer my_scope=\"x\"", "it asks for 'Bearer'"),
            (
                "Bearer scope=\"\u{1b}[31m\"",
                "it asks for 'Bearer', scope '?[31m'",
            ),
        ] {
            assert_eq!(describe(challenge), words, "{challenge}");
        }
    }
}
