//! Why a connection ended.

use crate::replay::Violation;
use crate::transport::foreign;
use crate::transport::line::LineError;
use crate::transport::tls;
use std::io;
use std::time::Duration;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// Nothing remains to be done: the host has left and has all its answers, or has closed our
    /// stdout.
    Done,
    /// The server has ended an idle session.
    Dismissed,
    /// The server refuses us, and says why.
    Rejected(String),
    /// TLS fails, or the transport is another one; retrying will not help.
    Mismatch(String),
    /// The connection is gone.
    Lost(Lost),
}

/// Why a connection was lost.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The server closed it.
    #[error("the server hung up")]
    HungUp,
    /// The server ended the session at once, before it had carried anything.
    #[error("the server ended the session before it carried a message")]
    Dismissed,
    /// The server did not confirm the session in time.
    #[error("the server does not answer")]
    NoAnswer,
    /// The server gave a reason before it closed the connection.
    #[error("{0}")]
    Notice(String),
    /// Nothing arrived for too long.
    #[error("nothing heard for {0:?}")]
    Silent(Duration),
    /// There is a newer token to connect with.
    #[error("the token has been renewed")]
    Renewed,
    /// The machine was suspended for longer than a server waits.
    #[error("this machine was asleep")]
    Asleep,
    /// The server breaks the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// A line could not be read or sent.
    #[error(transparent)]
    Line(#[from] LineError),
}

impl From<Lost> for End {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl From<io::Error> for End {
    fn from(err: io::Error) -> Self {
        match tls::explain(&err).or_else(|| foreign::explain(&err)) {
            Some(reason) => Self::Mismatch(reason),
            None => Self::Lost(LineError::from(err).into()),
        }
    }
}

impl From<LineError> for End {
    fn from(err: LineError) -> Self {
        match err {
            LineError::Io(err) => err.into(),
            err => Self::Lost(err.into()),
        }
    }
}
