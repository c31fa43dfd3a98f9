//! Tokens that are called back before they expire: the list in its file.

use std::collections::HashSet;

/// Tokens that no longer count, by their `jti` claim or by their user.
#[derive(Debug, Default)]
pub struct Revocations {
    ids: HashSet<String>,
    users: HashSet<String>,
}

/// Why a line of the list is invalid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct RevocationError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: RevocationFault,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationFault {
    /// A prefix without a value.
    #[error("nothing behind '{0}:'")]
    Empty(&'static str),
    /// An id has no spaces, so this is something else.
    #[error("white space in an id; use one line for each entry, and for each comment")]
    Spaces,
    /// A comment after a user would be taken for a part of the name.
    #[error("' #' behind a user; a comment needs a line of its own")]
    Comment,
    /// Neither `jti:` nor `user:`, but it looks as if something like it was meant.
    #[error(
        "it begins with neither 'jti:' nor 'user:'; write 'jti:' before an id that has a colon"
    )]
    Kind,
}

impl Revocations {
    /// Reads the list: on each line `jti:ID`, `user:NAME`, or an id alone; lines that begin with
    /// `#`, and empty ones, do not count.
    ///
    /// # Errors
    /// The first line that is none of these: a revocation that is misspelt revokes nothing.
    pub fn parse(text: &str) -> Result<Self, RevocationError> {
        let mut list = Self::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let fail = |fault| RevocationError {
                    line: at + 1,
                    fault,
                };
                list.insert(line).map_err(fail)?;
            }
        }
        Ok(list)
    }

    fn insert(&mut self, entry: &str) -> Result<(), RevocationFault> {
        let (kind, name) = entry.split_once(':').unwrap_or(("jti", entry));
        let name = name.trim();
        match kind {
            "jti" if name.is_empty() => Err(RevocationFault::Empty("jti")),
            "jti" if name.contains(char::is_whitespace) => Err(RevocationFault::Spaces),
            "jti" => {
                self.ids.insert(name.to_owned());
                Ok(())
            }
            "user" if name.is_empty() => Err(RevocationFault::Empty("user")),
            "user" if name.contains(" #") || name.contains("\t#") => Err(RevocationFault::Comment),
            "user" => {
                self.users.insert(name.to_owned());
                Ok(())
            }
            _ => Err(RevocationFault::Kind),
        }
    }

    /// True when a token with this id and this user is revoked.
    #[must_use]
    pub fn has(&self, id: Option<&str>, user: Option<&str>) -> bool {
        id.is_some_and(|id| self.ids.contains(id))
            || user.is_some_and(|user| self.users.contains(user))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len() + self.users.len()
    }

    /// True when nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_users_are_listed() {
        let text = "# stolen\n\njti:a1\n  a2  \r\njti: urn:x:1\nuser:Alice Smith\n user: bob \n#user:carol\na1";
        let list = Revocations::parse(text).unwrap();
        assert_eq!(list.len(), 5);
        for (id, user, revoked) in [
            (Some("a1"), None, true),
            (Some("a2"), Some("carol"), true),
            (Some("urn:x:1"), None, true),
            (None, Some("Alice Smith"), true),
            (Some("a3"), Some("bob"), true),
            (Some("bob"), Some("a1"), false),
            (Some("A1"), Some("Bob"), false),
            (None, None, false),
            (Some(""), Some(""), false),
        ] {
            assert_eq!(list.has(id, user), revoked, "{id:?} {user:?}");
        }
        assert!(Revocations::parse("").unwrap().is_empty());
    }

    #[test]
    fn a_bad_line_is_named() {
        use RevocationFault::{Comment, Empty, Kind, Spaces};
        for (text, line, fault) in [
            ("jti:", 1, Empty("jti")),
            ("a\n\nuser: ", 3, Empty("user")),
            ("a b", 1, Spaces),
            ("jti:a # stolen", 1, Spaces),
            ("# x\nuser:bob # fired", 2, Comment),
            ("usr:bob", 1, Kind),
            ("User:bob", 1, Kind),
            (":bob", 1, Kind),
            ("{\"jti\": \"a\"}", 1, Kind),
        ] {
            let error = Revocations::parse(text).unwrap_err();
            assert_eq!(error, RevocationError { line, fault }, "{text:?}");
        }
        let error = Revocations::parse("a\nusr:bob").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("line 2: it begins with neither")
        );
    }
}
