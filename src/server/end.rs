//! How a connection ends, and why.

use super::registry::Handover;
use super::stopping::Stopping;
use crate::backlog::Excess;
use crate::hub::Cut;

/// How a connection ended.
pub(super) enum End {
    /// The session goes on with another connection.
    Replaced(Handover),
    /// The session ends with it, for this reason.
    Leave(&'static str),
    /// The session ends, and the connection is dropped at once with what it has buffered.
    Abort(&'static str),
    /// The session may go on with another connection.
    Lost(&'static str),
}

/// Logs that the memory kept for a connection or session exceeds a bound; gives the reason of its end.
pub(super) fn warn_of_backlog(excess: Excess) -> &'static str {
    tracing::warn!(
        kept = excess.held,
        limit = excess.bound,
        "too much is kept for clients (--max-backlog): ending the one with the largest backlog"
    );
    "too much is kept for clients, most of it for this one"
}

/// Ends a connection where nothing more comes for the peer.
pub(super) fn cut_off(cut: Cut, stopping: &Stopping) -> End {
    let reason = why_cut(cut, stopping);
    match cut {
        Cut::Backlog(_) => End::Abort(reason),
        Cut::Slow | Cut::Stopped => End::Leave(reason),
    }
}

/// Why nothing more comes for a peer, for the log.
pub(super) fn why_cut(cut: Cut, stopping: &Stopping) -> &'static str {
    match cut {
        Cut::Slow => "it reads too slowly, its queue is full",
        Cut::Backlog(excess) => warn_of_backlog(excess),
        Cut::Stopped => stopping.why_cut(),
    }
}
