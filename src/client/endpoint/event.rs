//! What an endpoint tells its owner.

use crate::client::end::End;
use bytes::Bytes;
use std::time::Instant;

/// What the server is to us on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum News {
    /// It goes on where the last connection was lost; so many lines are resent.
    Resumed {
        /// How many.
        resent: u64,
    },
    /// It knows nothing of us; so many requests have failed.
    Started { failed: usize },
}

/// What is to be done next about sending.
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(in crate::client) enum Action {
    /// Send these lines, and ask again.
    Send(Vec<Bytes>),
    /// Wait for an event, and ask again at this time at the latest.
    Wait {
        /// Whether the host may be read.
        read_host: bool,
        until: Option<Instant>,
    },
    /// Give the connection up: the server has not answered in time.
    GiveUp,
    /// Close the connection: nothing more is to be done.
    Finish,
}

/// What a line from the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Reception {
    /// It was for us.
    Handled,
    /// It is a message, to be given to [`deliver`](super::Endpoint::deliver) when the host has room for it.
    Message,
}

/// How a connection ended, and what it was good for.
#[derive(Debug)]
pub(in crate::client) struct Ended {
    pub end: End,
    /// The server has said what it is.
    pub introduced: bool,
    /// A message has been delivered, in one direction or the other.
    pub carried: bool,
}
