//! Text that must not be seen.

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
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
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
    /// The value of the flag.
    pub flag: Option<&'a Secret>,
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
        let (secret, origin) = if let Some(flag) = self.flag {
            (flag.clone(), "the command line".to_owned())
        } else if let Some(file) = self.file {
            (self.read_file(file)?, file.display().to_string())
        } else if let Some(value) = std::env::var_os(self.variable) {
            // A server must not come up open because its secret could not be read.
            let value = value.into_string().map_err(|_| SecretError::NotText {
                what: self.what,
                variable: self.variable,
            })?;
            (value.into(), self.variable.to_owned())
        } else if let Some(file) = std::env::var_os(format!("{}_FILE", self.variable)) {
            let path = Path::new(&file);
            (self.read_file(path)?, path.display().to_string())
        } else {
            return Ok(None);
        };
        if secret.expose().trim().is_empty() {
            return Err(SecretError::Empty {
                what: self.what,
                origin,
            });
        }
        Ok(Some(secret))
    }

    fn read_file(&self, path: &Path) -> Result<Secret, SecretError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(text.trim().to_owned().into()),
            Err(source) => Err(SecretError::Unreadable {
                what: self.what,
                path: path.display().to_string(),
                source,
            }),
        }
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
}
