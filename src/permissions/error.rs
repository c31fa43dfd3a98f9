//! Why a policy file is not valid, and where.

use std::fmt;

/// Why a policy file is invalid, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// A member has the wrong type.
    #[error("{place} must be {expected}")]
    WrongType {
        /// Where in the file.
        place: String,
        /// The expected type.
        expected: &'static str,
    },
    /// An unknown member.
    #[error("unknown key '{key}' in {place} ({position}); {}", remedy(key, known))]
    UnknownKey {
        /// The key.
        key: String,
        /// Where in the file.
        place: String,
        /// Where exactly.
        position: Position,
        /// The known keys.
        known: Vec<&'static str>,
    },
    /// A duplicate member.
    #[error("'{key}' stands twice in {place} ({position})")]
    Twice {
        /// The key.
        key: String,
        /// Where in the file.
        place: String,
        /// Where exactly, the second time.
        position: Position,
    },
    /// A required member is missing.
    #[error("{place} has no '{key}'")]
    Missing {
        /// The key.
        key: &'static str,
        /// Where in the file.
        place: String,
    },
    /// A method pattern with a `*` in the wrong place.
    #[error("{place}: '{pattern}' is not a method, a family such as 'tools/*', or '*'")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// Where in the file.
        place: String,
    },
    /// An empty pattern.
    #[error("{place}: a pattern is empty")]
    Empty {
        /// Where in the file.
        place: String,
    },
}

/// A place in the text of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Counted from 1.
    pub line: usize,
    /// The character of the line, counted from 1.
    pub column: usize,
}

impl Position {
    /// The position of `part`, which must be a slice of the same text.
    pub(super) fn of(part: &str, file: &str) -> Self {
        let at = (part.as_ptr() as usize).saturating_sub(file.as_ptr() as usize);
        let before = file.get(..at).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            line: 1 + memchr::memchr_iter(b'\n', before.as_bytes()).count(),
            column: 1 + line.chars().count(),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// The known key that was meant, where one is near, else all of them.
fn remedy(key: &str, known: &[&str]) -> String {
    let plain = |key: &str| key.to_lowercase().replace(['_', '-', ' '], "");
    let distance = |known: &&&str| strsim::osa_distance(&plain(key), &plain(known));
    match known.iter().min_by_key(distance) {
        Some(nearest) if distance(&nearest) <= nearest.len() / 4 => {
            format!("did you mean '{nearest}'?")
        }
        _ => {
            let quoted: Vec<String> = known.iter().map(|key| format!("'{key}'")).collect();
            format!("known are {}", quoted.join(", "))
        }
    }
}
