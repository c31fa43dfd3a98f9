//! Why a connection or a session ends, and what remains to be done then.

use super::access::Invalidated;
use super::stopping::Stopping;
use crate::backlog::Excess;
use crate::hub::Cut;
use crate::replay::Violation;

/// Why a connection or a session ends, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The client leaves, or has closed its half and received everything.
    PeerLeft,
    /// A client that may resume has ended the connection.
    HungUp,
    /// The connection failed.
    ConnectionLost,
    /// The session goes on over another connection.
    Replaced,
    /// A line of the peer is longer than the limit.
    TooLong,
    /// The token is no longer valid.
    Invalidated(Invalidated),
    /// The client sends an impossible acknowledgement.
    WrongCount,
    /// Too many lines have come that are not messages.
    Empty,
    /// Too many pings have come.
    Pings,
    /// Nothing has happened for `--idle-timeout`.
    Idle,
    /// The keepalives of the client have stopped.
    Silent,
    /// A half-closed peer has waited for too long.
    Overdue,
    /// The peer's queue is full.
    Slow,
    /// Too much memory is kept for clients, most of it for this one.
    Backlog,
    /// The server is stopping.
    Stopping,
    /// The MCP server of the peer has ended.
    ServerEnded,
    /// The client has not come back in time.
    NotBack,
    /// The place of a waiting session was given to another one.
    PlaceNeeded,
}

impl Reason {
    /// Its name in logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PeerLeft => "the peer has left",
            Self::HungUp => "the peer has hung up",
            Self::ConnectionLost => "connection lost",
            Self::Replaced => "its session goes on over another connection",
            Self::TooLong => "a message is too long",
            Self::Invalidated(invalidated) => invalidated.name(),
            Self::WrongCount => "the client counts wrongly",
            Self::Empty => "too much without a message",
            Self::Pings => "too many pings",
            Self::Idle => "idle for too long",
            Self::Silent => "nothing received from it for too long",
            Self::Overdue => "it has said all, and its answers take too long",
            Self::Slow => "it reads too slowly, its queue is full",
            Self::Backlog => "too much is kept for clients, most of it for this one",
            Self::Stopping => "the server stops",
            Self::ServerEnded => "its MCP server has ended",
            Self::NotBack => "the client has not come back",
            Self::PlaceNeeded => "its place is needed",
        }
    }
}

/// What is done with a connection that ends, and with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// The session continues on another connection, which exists already.
    Replaced,
    /// The session may continue on another connection.
    Lost,
    /// The session ends, and the connection is closed once the peer has received everything.
    Close,
    /// The session ends, and the connection is dropped at once with what it has buffered.
    Abort,
}

/// The last thing a peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FinalNotice {
    Nothing,
    /// Confirms to a client that leaves that its last lines have been received.
    Acknowledge,
    /// Tells a client that could resume not to come back: its session was idle.
    Idle,
    /// A line was longer than this limit.
    TooLong(usize),
    Invalidated(Invalidated),
    Violation(Violation),
    /// Too many lines have come that are not messages.
    Empty,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub disposition: Disposition,
    pub reason: Reason,
    pub notice: FinalNotice,
}

impl End {
    /// An end without a last line.
    pub(super) fn new(disposition: Disposition, reason: Reason) -> Self {
        Self::with(disposition, reason, FinalNotice::Nothing)
    }

    /// An end with a last line.
    pub(super) fn with(disposition: Disposition, reason: Reason, notice: FinalNotice) -> Self {
        Self {
            disposition,
            reason,
            notice,
        }
    }
}

/// Logs that the memory for a connection or session exceeds a bound; returns the reason for its end.
pub(super) fn warn_of_backlog(excess: Excess) -> Reason {
    tracing::warn!(
        kept = excess.held,
        limit = excess.bound,
        "too much is kept for clients (--max-backlog): ending the one with the largest backlog"
    );
    Reason::Backlog
}

/// Why nothing more comes for a peer; logged unless the peer itself caused it.
pub(super) fn why_cut(cut: Cut, stopping: &Stopping) -> Reason {
    match cut {
        Cut::Slow => Reason::Slow,
        Cut::Backlog(excess) => warn_of_backlog(excess),
        Cut::Stopped if stopping.has_begun() => Reason::Stopping,
        Cut::Stopped => Reason::ServerEnded,
    }
}
