//! Why a policy file is not valid, and where.

use std::fmt;

/// Why a policy file is not one; says where.
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
        /// What belongs there.
        expected: &'static str,
    },
    /// A member that we do not know.
    #[error("unknown key '{key}' in {place} ({position}); {}", remedy(key, known))]
    UnknownKey {
        /// The key.
        key: String,
        /// Where in the file.
        place: String,
        /// Where exactly.
        position: Position,
        /// What may stand there.
        known: Vec<&'static str>,
    },
    /// A member that stands twice.
    #[error("'{key}' stands twice in {place} ({position})")]
    Twice {
        /// The key.
        key: String,
        /// Where in the file.
        place: String,
        /// Where exactly, the second time.
        position: Position,
    },
    /// A member that must be there.
    #[error("{place} has no '{key}'")]
    Missing {
        /// The key.
        key: &'static str,
        /// Where in the file.
        place: String,
    },
    /// A pattern of a method with a `*` in a place where it has no meaning.
    #[error("{place}: '{pattern}' is not a method, a family such as 'tools/*', or '*'")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// Where in the file.
        place: String,
    },
    /// A pattern without a text.
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
    /// Where `part` begins. It is a piece of that very text, so its place is the distance between the
    /// two.
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
