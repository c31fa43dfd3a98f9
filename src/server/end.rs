//! Why a connection or a session ends, and what is left to do then.

use super::access::Invalidated;
use super::stopping::Stopping;
use crate::backlog::Excess;
use crate::hub::Cut;
use crate::replay::Violation;

/// Why a connection or a session ends, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The client leaves, or has said all and got all.
    PeerLeft,
    /// A client that may come back has ended the connection.
    HungUp,
    /// The connection failed.
    ConnectionLost,
    /// The session goes on over another connection.
    Replaced,
    /// A line of the peer is longer than the limit.
    TooLong,
    /// The token is good no longer.
    Invalidated(Invalidated),
    /// The client acknowledges what cannot be.
    WrongCount,
    /// Too much has come that holds no message.
    Empty,
    /// Too many pings have come.
    Pings,
    /// Nothing has happened for `--idle-timeout`.
    Idle,
    /// A client that gives signs of life has given none.
    Silent,
    /// A peer that says no more has waited for too long.
    Overdue,
    /// The peer's queue is full.
    Slow,
    /// Too much memory is kept for clients, most of it for this one.
    Backlog,
    /// The server stops.
    Stopping,
    /// The MCP server of the peer has ended.
    ServerEnded,
    /// The session has waited for its client in vain.
    NotBack,
    /// The place of a session that waits is somebody else's now.
    PlaceNeeded,
}

impl Reason {
    /// What logs call it.
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
            Self::Silent => "nothing heard of it for too long",
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
    /// The session goes on with another connection, which is there already.
    Replaced,
    /// The session may go on with another connection.
    Lost,
    /// The session ends, and the connection is closed once the peer has got everything.
    Close,
    /// The session ends, and the connection is dropped at once with what it has buffered.
    Abort,
}

/// What a peer is told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FinalNotice {
    Nothing,
    /// A client that leaves is to know that its last words have been received.
    Acknowledge,
    /// A client that could resume need not come back: its session was idle.
    Idle,
    /// A line was longer than this limit.
    TooLong(usize),
    Invalidated(Invalidated),
    Violation(Violation),
    /// Too much has come that holds no message.
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
    /// An end of which the peer is told nothing.
    pub(super) fn new(disposition: Disposition, reason: Reason) -> Self {
        Self::with(disposition, reason, FinalNotice::Nothing)
    }

    /// An end of which the peer is told.
    pub(super) fn with(disposition: Disposition, reason: Reason, notice: FinalNotice) -> Self {
        Self {
            disposition,
            reason,
            notice,
        }
    }
}

/// Logs that the memory kept for a connection or session exceeds a bound; gives the reason of its end.
pub(super) fn warn_of_backlog(excess: Excess) -> Reason {
    tracing::warn!(
        kept = excess.held,
        limit = excess.bound,
        "too much is kept for clients (--max-backlog): ending the one with the largest backlog"
    );
    Reason::Backlog
}

/// Why nothing more comes for a peer. Logs it where that is the doing of others.
pub(super) fn why_cut(cut: Cut, stopping: &Stopping) -> Reason {
    match cut {
        Cut::Slow => Reason::Slow,
        Cut::Backlog(excess) => warn_of_backlog(excess),
        Cut::Stopped if stopping.has_begun() => Reason::Stopping,
        Cut::Stopped => Reason::ServerEnded,
    }
}
