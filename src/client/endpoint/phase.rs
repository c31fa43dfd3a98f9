//! The phases of a connection, and of the host.

use crate::client::settings::CONNECT_TIMEOUT;
use crate::control::Control;
use crate::liveness::{Due, Receipts, Schedule, Urgency};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// How long a server that may not support sessions may take to answer an offer. An mcp-remote
/// server answers at once.
const OFFER_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of the session on this connection.
#[derive(Debug, Default)]
pub(super) enum Phase {
    /// There is no connection.
    #[default]
    Disconnected,
    /// We have asked to resume our session. Nothing is sent before the answer, because the server
    /// may have forgotten it.
    Resuming,
    /// We have offered a session to a server that has promised to answer. Nothing is sent before.
    Offering,
    /// We have offered a session to a server that may not support that. Nothing is sent for a
    /// moment.
    Probing,
    /// Nothing has arrived from the server yet. Lines are sent, and kept in case it supports
    /// sessions.
    Undecided,
    /// There is no session on this connection.
    Plain,
    /// There is a session.
    Established(Established),
}

impl Phase {
    /// True while nothing may be sent, because the server's first line decides what.
    pub(super) fn awaits_answer(&self) -> bool {
        matches!(self, Self::Resuming | Self::Offering | Self::Probing)
    }

    /// The deadline for the server's answer on a connection that began then, if we wait for one.
    /// `holding` tells whether lines are held until it has answered our `initialize`.
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
    /// We have said goodbye: nothing more is sent.
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

    /// Prepends an acknowledgement to `lines` if one is due, and returns when the next one is.
    pub(super) fn acknowledge(
        &mut self,
        receipts: &mut Receipts,
        draining: bool,
        mut lines: Vec<Bytes>,
        now: Instant,
    ) -> (Vec<Bytes>, Option<Instant>) {
        let urgency = match receipts.urgency() {
            // A draining server waits for it.
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
    /// It stops: lines that it has not received are for the next server.
    Stopping,
    /// It ends an idle session, and keeps running.
    Idle,
}

/// The phase of the host, which only advances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::client) enum HostPhase {
    /// It has sent nothing yet.
    #[default]
    Silent,
    /// It has sent something.
    Speaking,
    /// It has closed our stdin; it may still wait for answers.
    Finished,
    /// We have been told to leave, even if requests are pending.
    Abandoned,
}
