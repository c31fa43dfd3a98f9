//! Text that must not be seen.

use super::text;
use std::path::Path;

/// A secret or a token. `Debug` shows nothing of it, and there is no `Display`.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True for the same secret, in a time that does not tell how much of it is the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.is(other.expose())
    }

    /// The same for a text that somebody has shown.
    #[must_use]
    pub fn is(&self, shown: &str) -> bool {
        let (one, other) = (self.0.as_bytes(), shown.as_bytes());
        let pairs = one.iter().zip(other);
        one.len() == other.len() && pairs.fold(0, |found, (one, other)| found | (one ^ other)) == 0
    }

    /// The most bits of randomness that a text like this can hold: 4 per character where all are
    /// hexadecimal digits, 6 where they are base64, else 8 per byte.
    #[must_use]
    pub fn bits(&self) -> usize {
        let text = self.0.trim().trim_end_matches('=').as_bytes();
        let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
        let per_byte = if text.iter().all(u8::is_ascii_hexdigit) {
            4
        } else if text.iter().all(base64) {
            6
        } else {
            8
        };
        text.len() * per_byte
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

/// Why no secret could be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Given, but empty.
    #[error("the {what} from {origin} is empty; generate one, or leave it out altogether")]
    Empty {
        /// `JWT secret` or `JWT token`.
        what: &'static str,
        /// The flag, variable or file.
        origin: String,
    },
    /// The environment variable holds something else.
    #[error("the {what} in {variable} is not UTF-8 text; generate one, or leave it out altogether")]
    NotText {
        /// `JWT secret` or `JWT token`.
        what: &'static str,
        /// The variable.
        variable: &'static str,
    },
    /// The file is not there, or not text.
    #[error("could not read the {what} from {path}: {source}")]
    Unreadable {
        /// `JWT secret` or `JWT token`.
        what: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where a secret may come from: the first of flag, file, `VARIABLE` and `VARIABLE_FILE` that is
/// given counts.
#[derive(Debug)]
pub struct Sources<'a> {
    /// What it is called in messages.
    pub what: &'static str,
    /// The environment variable.
    pub variable: &'static str,
    /// The values of the flag, which may be repeated.
    pub flags: &'a [Secret],
    /// The value of the flag that names a file.
    pub file: Option<&'a Path>,
}

impl Sources<'_> {
    /// Reads the secret; `None` when no source is given. White space around it does not count in
    /// files, where editors leave a newline.
    ///
    /// # Errors
    /// An empty secret, or a file that cannot be read.
    pub fn read(&self) -> Result<Option<Secret>, SecretError> {
        let read = self.find(|text| vec![text.trim().to_owned().into()])?;
        Ok(read.and_then(|secrets| secrets.into_iter().next()))
    }

    /// Reads all the secrets there are, never an empty list; `None` when no source is given. A
    /// file holds one per line; white space around them and empty lines do not count.
    ///
    /// # Errors
    /// An empty secret, or a file that has none or cannot be read.
    pub fn read_all(&self) -> Result<Option<Vec<Secret>>, SecretError> {
        let line = |line: &str| Some(line.trim().to_owned()).filter(|line| !line.is_empty());
        self.find(|text| text.lines().filter_map(line).map(Secret::from).collect())
    }

    fn find(
        &self,
        split: impl Fn(&str) -> Vec<Secret>,
    ) -> Result<Option<Vec<Secret>>, SecretError> {
        let (secrets, origin) = if !self.flags.is_empty() {
            (self.flags.to_vec(), "the command line".to_owned())
        } else if let Some(file) = self.file {
            (split(&self.read_file(file)?), file.display().to_string())
        } else if let Some(value) = std::env::var_os(self.variable) {
            // A server must not come up open because its secret could not be read.
            let value = value.into_string().map_err(|_| SecretError::NotText {
                what: self.what,
                variable: self.variable,
            })?;
            (vec![value.into()], self.variable.to_owned())
        } else if let Some(file) = std::env::var_os(format!("{}_FILE", self.variable)) {
            let path = Path::new(&file);
            (split(&self.read_file(path)?), path.display().to_string())
        } else {
            return Ok(None);
        };
        let empty = |secret: &Secret| secret.expose().trim().is_empty();
        if secrets.is_empty() || secrets.iter().any(empty) {
            return Err(SecretError::Empty {
                what: self.what,
                origin,
            });
        }
        Ok(Some(secrets))
    }

    fn read_file(&self, path: &Path) -> Result<String, SecretError> {
        text::read(path).map_err(|source| SecretError::Unreadable {
            what: self.what,
            path: path.display().to_string(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn the_size_of_a_secret_is_estimated() {
        for (text, bits) in [
            ("", 0),
            ("hunter2", 42),
            ("0123456789abcdef0123456789ABCDEF", 128),
            ("dGhpcyBpcyBleGFjdGx5IDMyIGJ5dGVzIGxvbmchIT0=", 258),
            ("dGhpcyBpcyBleGFjdGx5IDMyIGJ5dGVzIGxvbmchIT0", 258),
            ("correct horse battery staple", 224),
        ] {
            assert_eq!(Secret::from(text.to_owned()).bits(), bits, "{text}");
        }
    }

    #[test]
    fn a_file_may_hold_several_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets");
        let sources = Sources {
            what: "JWT secret",
            variable: "MCP_REMOTE_NO_SUCH_VARIABLE",
            flags: &[],
            file: Some(&file),
        };
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let secrets = sources.read_all().map(Option::unwrap_or_default);
            secrets.map(|secrets| secrets.iter().map(|s| s.expose().to_owned()).collect())
        };
        for (text, secrets) in [
            ("one", &["one"][..]),
            ("one\n", &["one"]),
            ("new key \t\r\n\n  \nold\n\n", &["new key", "old"]),
        ] {
            let read: Result<Vec<String>, _> = read(text);
            assert_eq!(read.unwrap(), secrets, "{text:?}");
        }
        for text in ["", "\n", " \n\t\n"] {
            let read: Result<Vec<String>, _> = read(text);
            assert!(
                read.unwrap_err().to_string().contains("is empty"),
                "{text:?}"
            );
        }
    }
}
