//! Why a command failed, and what its process ends with.

use super::logs;
use crate::utils::chain::Chain;
use crate::utils::escape::escape;
use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// What a process of this program ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// All is done. Of `check`: all that was asked about is allowed.
    Done = 0,
    /// It failed. Of `check`: something that was asked about is denied.
    Failed = 1,
    /// An argument, or a file that it names, is invalid.
    Usage = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed. As text it is one line: the error, its causes, and the remedy.
#[derive(Debug)]
pub(super) struct Failure {
    error: Box<dyn Error + Send + Sync>,
    remedy: Option<&'static str>,
    exit: Exit,
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(err: E) -> Self {
        Self {
            error: err.into(),
            remedy: None,
            exit: Exit::Failed,
        }
    }
}

impl Failure {
    /// One that no other error has caused.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self {
            error: text.into().into(),
            remedy: None,
            exit: Exit::Failed,
        }
    }

    /// The arguments contradict each other.
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            ..Self::new(text)
        }
    }

    /// What the process ends with.
    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    /// What did not work, and the error that was the cause.
    pub(super) fn caused(
        text: impl Into<String>,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::from(Caused {
            text: text.into(),
            source: source.into(),
        })
    }

    /// The same as one of the command line.
    pub(super) fn into_usage(mut self) -> Self {
        self.exit = Exit::Usage;
        self
    }

    /// Adds what the user can do about it.
    pub(super) fn with_remedy(mut self, remedy: Option<&'static str>) -> Self {
        self.remedy = remedy;
        self
    }

    /// Prints it to stderr, control characters escaped.
    pub(super) fn print(&self) {
        let line = self.to_string().replace('\n', " ");
        logs::write_stderr(format!("error: {}", escape(&line)));
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Chain(&*self.error).fmt(f)?;
        match self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// An error with the operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Caused {
    text: String,
    source: Box<dyn Error + Send + Sync>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_shows_causes_and_remedy_and_keeps_the_source() {
        let cause = std::io::Error::other("disk on fire");
        let failure = Failure::caused("could not read x", cause).with_remedy(Some("call 112"));
        assert_eq!(
            failure.to_string(),
            "could not read x: disk on fire; call 112"
        );
        let source = failure.error.source().unwrap();
        assert!(source.is::<std::io::Error>());
    }
}
