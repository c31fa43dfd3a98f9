//! The protocol versions that are requested from a process, one after the other, while it refuses them. Most
//! servers answer the newest with the one they support; some refuse versions that they do not know.

use super::revision::{MODERN, Revision};

/// The most versions that are requested from one process in a row.
const MAX_ASKED: usize = 6;

/// How much of an error is searched for versions, in bytes.
const MAX_READ: usize = 4096;

/// A protocol version with a handshake, known to us or not: a date, like all versions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(String);

impl Version {
    /// The length of a version, in bytes.
    pub(super) const LENGTH: usize = MODERN.len();

    pub(super) fn newest() -> Self {
        Self(Revision::NEWEST.name().to_owned())
    }

    /// `None` if it is not a date, or has no handshake.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let pattern = "dddd-dd-dd";
        let is_date = text.len() == pattern.len()
            && text
                .bytes()
                .zip(pattern.bytes())
                .all(|(byte, kind)| match kind {
                    b'd' => byte.is_ascii_digit(),
                    _ => byte == kind,
                });
        (is_date && text < MODERN).then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The versions that were requested in one handshake; the last one is not answered yet.
#[derive(Debug)]
pub(super) struct Asked(Vec<Version>);

impl Asked {
    /// Asks for `first`.
    pub(super) fn new(first: Version) -> Self {
        Self(vec![first])
    }

    /// The version that is requested now.
    pub(super) fn current(&self) -> Version {
        self.0.last().cloned().unwrap_or_else(Version::newest)
    }

    /// Goes on to the next version after a refusal, if there is one: the newest that the `error` names,
    /// then that of the peer whose `initialize` it is, then the newest of all.
    pub(super) fn advance(&mut self, error: &[u8], own: Option<&Version>) -> Option<Version> {
        if self.0.len() >= MAX_ASKED {
            return None;
        }
        let named = named(error);
        let newest = Version::newest();
        let mut candidates = named.iter().chain(own).chain([&newest]);
        let next = candidates.find(|version| !self.0.contains(version))?;
        self.0.push(next.clone());
        Some(next.clone())
    }
}

/// The versions that an error names anywhere, in `data.supported` or in its text, the newest first.
fn named(error: &[u8]) -> Vec<Version> {
    let read = error.get(..MAX_READ).unwrap_or(error);
    let mut found: Vec<Version> = read
        .windows(Version::LENGTH)
        .filter_map(|window| Version::parse(std::str::from_utf8(window).ok()?))
        .collect();
    found.sort_unstable();
    found.dedup();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    /// The versions that are requested after the newest, while each is refused with this error.
    fn asked(error: &str, own: Option<&str>) -> Vec<String> {
        let own = own.map(version);
        let mut asked = Asked::new(Version::newest());
        let next = || asked.advance(error.as_bytes(), own.as_ref());
        std::iter::from_fn(next).map(|version| version.0).collect()
    }

    #[test]
    fn versions_are_dates_before_the_modern_one() {
        for text in ["2024-11-05", "2024-10-07", "2025-11-25"] {
            assert_eq!(version(text).as_str(), text);
        }
        for text in [
            "",
            "1",
            "2025-11",
            "2025-11-255",
            "2025_11_25",
            "2026-07-28",
            "latest-one",
        ] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_error_names_is_asked_for_then_what_the_peer_wants() {
        let data = r#"{"code":-32602,"message":"no","data":{"supported":["2024-11-05","2025-06-18","2026-07-28"],"requested":"2025-11-25"}}"#;
        assert_eq!(asked(data, None), ["2025-06-18", "2024-11-05"]);
        assert_eq!(
            asked(data, Some("2025-03-26")),
            ["2025-06-18", "2024-11-05", "2025-03-26"]
        );
        let text = r#"{"code":-32602,"message":"unsupported, use 2024-10-07"}"#;
        assert_eq!(asked(text, Some("2024-10-07")), ["2024-10-07"]);
        let silent = r#"{"code":-32602,"message":"Invalid params"}"#;
        assert_eq!(asked(silent, Some("2025-06-18")), ["2025-06-18"]);
        assert!(asked(silent, None).is_empty());
        assert!(asked(silent, Some("2025-11-25")).is_empty());
    }

    #[test]
    fn there_is_an_end_of_it() {
        let many: String = (10..60).map(|day| format!("20{day}-01-01 ")).collect();
        assert_eq!(asked(&many, None).len(), MAX_ASKED - 1);
        let late = format!("{}2024-11-05", " ".repeat(MAX_READ));
        assert!(asked(&late, None).is_empty());
        // The first version for a successor is that of its predecessor.
        let mut successor = Asked::new(version("2024-11-05"));
        assert_eq!(successor.current(), version("2024-11-05"));
        assert_eq!(successor.advance(b"", None), Some(Version::newest()));
    }
}
