//! Why the hub ended by itself.

use crate::router::Exit;
use std::io;

/// Why the hub ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The command does not run.
    #[error("could not start the MCP server '{command}'")]
    Start {
        /// The command.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The process ended before it answered anything.
    #[error("the MCP server '{command}' ended ({}) before it answered anything{}", .exit.status, last_words(.exit))]
    ExitedBeforeResponding {
        /// The command.
        command: String,
        /// How it ended.
        exit: Exit,
    },
    /// The process ended, and too often.
    #[error("the MCP server '{command}' ended ({}) and will not be started again{}", .exit.status, last_words(.exit))]
    Exited {
        /// The command.
        command: String,
        /// How it ended.
        exit: Exit,
    },
}

impl HubError {
    /// What the user can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Start { .. } => "check the command after '--'",
            Self::ExitedBeforeResponding { .. } => "run it by itself to see why",
            Self::Exited { .. } => "run it by itself to see why, or raise --max-restarts",
        }
    }
}

fn last_words(exit: &Exit) -> String {
    exit.stderr.as_ref().map_or_else(String::new, |line| {
        format!("; its last lines on stderr: {line}")
    })
}
