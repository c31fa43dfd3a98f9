//! What an endpoint tells its owner.

use crate::client::end::End;
use bytes::Bytes;
use std::time::Instant;

/// The relation to the server on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum News {
    /// It continues the session; lines are resent.
    Resumed {
        /// How many.
        resent: u64,
    },
    /// It does not know the session; requests have failed.
    Started { failed: usize },
}

/// The next action of the sending half.
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(in crate::client) enum Action {
    /// Send these lines, and poll again.
    Send(Vec<Bytes>),
    /// Wait for an event, and poll again at this time at the latest.
    Wait {
        /// Whether the host may be read.
        read_host: bool,
        until: Option<Instant>,
    },
    /// Abandon the connection: the server has not answered in time.
    GiveUp,
    /// Close the connection: nothing remains to be done.
    Finish,
}

/// The kind of a line from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Reception {
    /// A control line, already handled.
    Handled,
    /// A message, to be passed to [`deliver`](super::Endpoint::deliver) when the host has room for it.
    Message,
}

/// How a connection ended, and what it achieved.
#[derive(Debug)]
pub(in crate::client) struct Ended {
    pub end: End,
    /// The server has shown its kind.
    pub introduced: bool,
    /// A message has been delivered, in one direction or the other.
    pub carried: bool,
}
