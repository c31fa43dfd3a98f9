//! The phases of a connection, and what each event means in them. Pure: no I/O and no clock.
//!
//! A connection that is not authenticated is an `Unauthenticated`, and a session that waits for its
//! client has no connection; in between, a connection is in one of these phases.

use super::access::Invalidated;
use super::end::{Disposition, End, FinalNotice, Reason};
use super::registry::Handover;
use crate::replay::Violation;
use crate::transport::line::LineError;

/// The phase of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages pass both ways.
    #[default]
    Serving,
    /// The client has been told that nothing more is accepted. What arrives is for the next server.
    Draining,
    /// The client has confirmed that: only answers arrive now.
    Drained,
    /// The peer has closed its sending half, and still gets pending answers.
    HalfClosed,
}

impl Phase {
    /// True once the client has been told that nothing more is accepted.
    pub(super) fn is_draining(self) -> bool {
        matches!(self, Self::Draining | Self::Drained)
    }

    /// Notes that the client has been told that nothing more is accepted.
    pub(super) fn told_to_drain(self) -> Self {
        match self {
            Self::Serving => Self::Draining,
            other => other,
        }
    }

    /// Notes that the client has confirmed it.
    pub(super) fn drain_read(self) -> Self {
        match self {
            Self::Draining => Self::Drained,
            other => other,
        }
    }
}

/// An event on a connection.
#[derive(Debug)]
pub(super) enum Event {
    /// The peer has closed its sending half; it may still read.
    HalfClosed,
    /// The client has said goodbye.
    Left,
    /// A line of the peer is longer than this.
    TooLong(usize),
    Violation(Violation),
    /// Too many lines have come that are not messages.
    Empty,
    /// The peer cannot be read.
    Unreadable(LineError),
    /// The peer cannot be written to.
    Unwritable,
    /// The token is no longer valid.
    Invalidated(Invalidated),
    /// The session gets no further lines, for this reason.
    Cut(Reason),
    /// The session has another connection.
    Replaced(Handover),
    /// The memory for all clients exceeds its bound, and this connection's input takes most of it.
    Backlog,
    /// The connection has been idle for too long.
    Idle,
    /// The keepalives of the client have stopped.
    Silent,
    /// A half-closed peer has received all its answers …
    Settled,
    /// … or has waited for them for too long.
    Overdue,
}

/// The properties of a connection that matter besides its phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Its client can resume the session on another connection.
    pub resumable: bool,
    /// Its transport can be half-closed.
    pub has_halves: bool,
}

/// The consequence of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The connection continues in this phase.
    Enter(Phase),
    /// It ends.
    End(End),
}

impl Rules {
    /// The consequence of this event.
    pub(super) fn on(self, event: &Event) -> Step {
        match event {
            Event::HalfClosed if self.resumable => {
                Step::End(End::new(Disposition::Lost, Reason::HungUp))
            }
            Event::HalfClosed if self.has_halves => Step::Enter(Phase::HalfClosed),
            event => Step::End(self.end(event)),
        }
    }

    fn end(self, event: &Event) -> End {
        let told = |reason, notice| End::with(Disposition::Close, reason, notice);
        match event {
            Event::HalfClosed | Event::Settled => End::new(Disposition::Close, Reason::PeerLeft),
            Event::Left => told(Reason::PeerLeft, FinalNotice::Acknowledge),
            Event::TooLong(limit) => told(Reason::TooLong, FinalNotice::TooLong(*limit)),
            Event::Violation(violation) => {
                told(Reason::WrongCount, FinalNotice::Violation(*violation))
            }
            Event::Empty => told(Reason::Empty, FinalNotice::Empty),
            Event::Unreadable(LineError::Pings) => End::new(Disposition::Close, Reason::Pings),
            Event::Unreadable(_) | Event::Unwritable => {
                End::new(Disposition::Lost, Reason::ConnectionLost)
            }
            Event::Invalidated(why) => {
                // Many clients get a new token only once they learn that the old one has expired.
                let may_return = self.resumable && *why == Invalidated::Expired;
                let disposition = match may_return {
                    true => Disposition::Lost,
                    false => Disposition::Close,
                };
                let notice = FinalNotice::Invalidated(*why);
                End::with(disposition, Reason::Invalidated(*why), notice)
            }
            Event::Cut(Reason::Backlog) => End::new(Disposition::Abort, Reason::Backlog),
            Event::Cut(reason) => End::new(Disposition::Close, *reason),
            Event::Replaced(_) => End::new(Disposition::Replaced, Reason::Replaced),
            // The memory of the session itself is counted separately.
            Event::Backlog if self.resumable => End::new(Disposition::Lost, Reason::Backlog),
            Event::Backlog => End::new(Disposition::Abort, Reason::Backlog),
            Event::Idle if self.resumable => told(Reason::Idle, FinalNotice::Idle),
            Event::Idle => End::new(Disposition::Close, Reason::Idle),
            Event::Silent => End::new(Disposition::Lost, Reason::Silent),
            Event::Overdue => End::new(Disposition::Close, Reason::Overdue),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Rules = Rules {
        resumable: false,
        has_halves: true,
    };

    const RESUMABLE: Rules = Rules {
        resumable: true,
        has_halves: true,
    };

    fn end(rules: Rules, event: &Event) -> (Disposition, Reason) {
        match rules.on(event) {
            Step::End(end) => (end.disposition, end.reason),
            Step::Enter(phase) => panic!("enters {phase:?}"),
        }
    }

    #[test]
    fn half_closed_peer_is_served_where_its_transport_has_halves() {
        let event = Event::HalfClosed;
        assert_eq!(PLAIN.on(&event), Step::Enter(Phase::HalfClosed));
        let whole = Rules {
            has_halves: false,
            ..PLAIN
        };
        assert_eq!(end(whole, &event), (Disposition::Close, Reason::PeerLeft));
        // A client that can resume will come back for its responses.
        assert_eq!(end(RESUMABLE, &event), (Disposition::Lost, Reason::HungUp));
    }

    #[test]
    fn half_closed_peer_ends_once_it_has_everything_or_waited_too_long() {
        assert_eq!(
            end(PLAIN, &Event::Settled),
            (Disposition::Close, Reason::PeerLeft)
        );
        assert_eq!(
            end(PLAIN, &Event::Overdue),
            (Disposition::Close, Reason::Overdue)
        );
    }

    #[test]
    fn session_outlives_only_what_is_no_fault_of_its_client() {
        let lost = [
            Event::Unreadable(LineError::Empty),
            Event::Unwritable,
            Event::Silent,
            Event::Backlog,
            Event::Invalidated(Invalidated::Expired),
        ];
        for event in lost {
            assert_eq!(end(RESUMABLE, &event).0, Disposition::Lost, "{event:?}");
        }
        let faults = [
            Event::Left,
            Event::TooLong(1),
            Event::Empty,
            Event::Unreadable(LineError::Pings),
            Event::Invalidated(Invalidated::Revoked),
            Event::Cut(Reason::Slow),
            Event::Idle,
        ];
        for event in faults {
            assert_eq!(end(RESUMABLE, &event).0, Disposition::Close, "{event:?}");
        }
    }

    #[test]
    fn session_that_cannot_be_resumed_ends_with_its_token() {
        let expired = Event::Invalidated(Invalidated::Expired);
        assert_eq!(end(PLAIN, &expired).0, Disposition::Close);
    }

    #[test]
    fn connection_with_too_large_a_backlog_is_dropped_with_it() {
        assert_eq!(
            end(PLAIN, &Event::Backlog),
            (Disposition::Abort, Reason::Backlog)
        );
        let cut = Event::Cut(Reason::Backlog);
        assert_eq!(end(RESUMABLE, &cut), (Disposition::Abort, Reason::Backlog));
    }

    #[test]
    fn only_a_client_that_can_resume_is_told_that_it_was_idle() {
        let notice = |rules: Rules| match rules.on(&Event::Idle) {
            Step::End(end) => end.notice,
            Step::Enter(_) => unreachable!(),
        };
        assert_eq!(notice(RESUMABLE), FinalNotice::Idle);
        assert_eq!(notice(PLAIN), FinalNotice::Nothing);
    }

    #[test]
    fn drain_is_read_only_after_it_was_told() {
        assert_eq!(Phase::Serving.drain_read(), Phase::Serving);
        let told = Phase::Serving.told_to_drain();
        assert_eq!(told, Phase::Draining);
        assert_eq!(told.drain_read(), Phase::Drained);
        assert_eq!(Phase::Drained.told_to_drain(), Phase::Drained);
        assert_eq!(Phase::HalfClosed.told_to_drain(), Phase::HalfClosed);
    }
}
