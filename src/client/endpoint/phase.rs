//! How far a connection, and the host, have got.

use crate::client::settings::CONNECT_TIMEOUT;
use crate::control::Control;
use crate::liveness::{Due, Receipts, Schedule, Urgency};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// How long a server that may not know sessions may take to answer an offer. One of ours answers at
/// once.
const OFFER_TIMEOUT: Duration = Duration::from_secs(1);

/// What the server has told about sessions on this connection.
#[derive(Debug, Default)]
pub(super) enum Phase {
    /// There is no connection.
    #[default]
    Disconnected,
    /// We have asked to resume our session. Nothing is sent before the answer, since the server may
    /// have forgotten it.
    Resuming,
    /// We have offered a session to a server that has promised to answer. Nothing is sent before.
    Offering,
    /// We have offered a session to a server that may not know what that is. Nothing is sent for a
    /// moment.
    Probing,
    /// Nothing has come from the server yet. Lines are sent, and kept in case it knows sessions.
    Undecided,
    /// There is no session on this connection.
    Plain,
    /// There is a session.
    Established(Established),
}

impl Phase {
    /// True while nothing may be sent, since the server's first line decides what.
    pub(super) fn awaits_answer(&self) -> bool {
        matches!(self, Self::Resuming | Self::Offering | Self::Probing)
    }

    /// When the server has to have answered on a connection that began then, if we wait for that.
    /// `holding` is whether lines are held back until it has answered our `initialize`.
    pub(super) fn answer_by(&self, began: Instant, holding: bool) -> Option<Instant> {
        match self {
            Self::Resuming | Self::Offering => Some(began + CONNECT_TIMEOUT),
            Self::Probing => Some(began + OFFER_TIMEOUT),
            Self::Undecided | Self::Plain => holding.then(|| began + CONNECT_TIMEOUT),
            Self::Disconnected | Self::Established(_) => None,
        }
    }
}

/// A session, on one connection.
#[derive(Debug)]
pub(super) struct Established {
    schedule: Schedule,
    pub drain: Drain,
    /// We have said that we leave: nothing more is sent.
    pub said_goodbye: bool,
}

impl Established {
    pub(super) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            drain: Drain::No,
            said_goodbye: false,
        }
    }

    /// Puts an acknowledgement before `lines` if one is due, and tells when the next one is.
    pub(super) fn acknowledge(
        &mut self,
        receipts: &mut Receipts,
        draining: bool,
        mut lines: Vec<Bytes>,
        now: Instant,
    ) -> (Vec<Bytes>, Option<Instant>) {
        let urgency = match receipts.urgency() {
            // A server that drains waits for it.
            Urgency::Soon | Urgency::WithNextLine if draining => Urgency::Now,
            Urgency::WithNextLine if !lines.is_empty() => Urgency::Now,
            urgency => urgency,
        };
        match self.schedule.due(urgency, now) {
            Due::At(time) => (lines, Some(time)),
            Due::Now => {
                let received = receipts.acknowledge();
                lines.insert(0, Control::Ack { received }.to_line().into());
                self.schedule.sent(now);
                (lines, None)
            }
        }
    }
}

/// Whether the server ends the connection soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    /// It does not.
    No,
    /// It stops: what it has not received is for the next server.
    Stopping,
    /// It ends an idle session, and stays.
    Idle,
}

/// How far the host has got. It only ever goes forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::client) enum HostPhase {
    /// It has said nothing yet.
    #[default]
    Silent,
    /// It has said something.
    Speaking,
    /// It says nothing more; it may still wait for answers.
    Finished,
    /// We have been told to leave, whatever it waits for.
    Abandoned,
}
