//! One connection of a session, from its first message to its end: picks events, and applies
//! [`Rules`].

use super::access::{Authorization, invalidated};
use super::activity::Activity;
use super::context::Context;
use super::downstream::Downstream;
use super::end::{End, FinalNotice, warn_of_backlog, why_cut};
use super::intake::{Intake, Line};
use super::link::Link;
use super::phase::{Event, Phase, Rules, Step};
use super::rate::UserLimit;
use super::refusals::Refusals;
use super::registry::{Handover, Registration};
use super::sharing::Placement;
use super::upstream::{Records, upstream};
use crate::backlog::Holder;
use crate::control::Control;
use crate::handshake;
use crate::hub::Session;
use crate::jsonrpc::{Code, Measured, NO_DATA, error_line, too_large_line};
use crate::transport::Reader;
use crate::transport::empty::Empties;
use crate::transport::line::LineError;
use crate::transport::outlet::Batch;
use crate::utils::own_waker::own_waker;
use bytes::Bytes;
use std::collections::VecDeque;

/// The first line of a connection.
pub(super) enum First {
    /// A line of the peer that has already been read.
    Read(Line),
    /// A line for the client.
    Send(Bytes),
}

/// The session that a connection serves.
#[derive(Clone, Copy)]
pub(super) struct Carrier<'a> {
    pub placement: &'a Placement,
    pub context: &'a Context,
    /// Its place in the registry, if it can be resumed.
    pub registration: Option<&'a Registration>,
}

/// A connection that has ended.
pub(super) struct Ended {
    pub end: End,
    /// The last line to send.
    pub last_words: Option<Bytes>,
    /// The connection that replaces it.
    pub handover: Option<Handover>,
}

impl Carrier<'_> {
    /// Carries messages both ways until one side ends.
    pub(super) async fn carry(self, link: &mut Link, first: First) -> Ended {
        let Link {
            reader,
            writer,
            authorization,
            address,
            trail,
            holder,
            ..
        } = link;
        let (read, send) = match first {
            First::Read(line) => (Some(line), None),
            First::Send(line) => (None, Some(line)),
        };
        let (session, settings) = (&self.placement.session, &self.context.settings);
        let activity = Activity::new(reader.pulse(), settings.idle_timeout);
        let rules = Rules {
            resumable: self.registration.is_some(),
            has_halves: matches!(reader, Reader::Line(_)),
        };
        let (end, handover) = {
            let mut user_limit = UserLimit::new(
                self.context.rates.as_ref(),
                authorization.identity(),
                *address,
            );
            let refusals = Refusals::new(&*trail);
            let records = Records {
                trail,
                refusals: &refusals,
            };
            // Lent to their future, because it would store twice what it owns.
            let mut intake = self.intake(reader, read, &activity, holder);
            let mut at_intake = authorization.clone();
            let down = Downstream {
                session,
                activity: &activity,
                resumable: rules.resumable,
                stopping: &self.context.stopping,
                keepalive: settings.keepalive_interval,
            };
            let from_peer = upstream(
                &mut intake,
                self.placement,
                &mut at_intake,
                &mut user_limit,
                records,
            );
            let from_peer = own_waker(from_peer);
            let to_peer = own_waker(down.run(&mut *writer, send));
            let others = own_waker(self.others(authorization, holder, &activity, records));
            drive(rules, (from_peer, to_peer, others), session, &activity).await
        };
        // No line can follow half a line.
        let last_words = last_words(end.notice, session).filter(|_| !activity.is_sending());
        Ended {
            end,
            last_words,
            handover,
        }
    }

    fn intake<'c>(
        self,
        reader: &'c mut Reader,
        read: Option<Line>,
        activity: &'c Activity,
        holder: &Holder,
    ) -> Intake<'c>
    where
        Self: 'c,
    {
        Intake {
            reader,
            read,
            too_long: None,
            session: &self.placement.session,
            activity,
            resumable: self.registration.is_some(),
            batch: Batch::new(&self.placement.session),
            ahead: VecDeque::new(),
            bytes: 0,
            current: 0,
            kept: holder.part(),
            empties: Empties::default(),
            room_ahead: &self.context.room_ahead,
        }
    }

    /// Rare events besides messages.
    async fn others(
        self,
        authorization: &mut Authorization,
        holder: &Holder,
        activity: &Activity,
        records: Records<'_>,
    ) -> Event {
        let session = &self.placement.session;
        let timeout = self.context.settings.keepalive_timeout;
        let timeout = self.registration.map(|_| timeout);
        tokio::select! {
            handover = next_handover(self.registration) => Event::Replaced(handover),
            never = records.refusals.report() => match never {},
            cut = session.overflowed() => Event::Cut(why_cut(cut, &self.context.stopping)),
            excess = holder.evicted() => {
                warn_of_backlog(excess);
                Event::Backlog
            }
            invalidated = invalidated(authorization, Some((session, records.trail))) => Event::Invalidated(invalidated),
            () = activity.idle(session) => Event::Idle,
            () = activity.silence(timeout) => Event::Silent,
        }
    }
}

async fn next_handover(registration: Option<&Registration>) -> Handover {
    match registration {
        Some(registration) => registration.handover().await,
        None => std::future::pending().await,
    }
}

/// Picks events until one ends the connection; returns the connection that replaces it.
async fn drive(
    rules: Rules,
    (mut from_peer, mut to_peer, mut others): (
        impl Future<Output = Event> + Unpin,
        impl Future<Output = Event> + Unpin,
        impl Future<Output = Event> + Unpin,
    ),
    session: &Session,
    activity: &Activity,
) -> (End, Option<Handover>) {
    loop {
        let half_closed = activity.phase() == Phase::HalfClosed;
        let event = tokio::select! {
            biased;
            event = &mut from_peer, if !half_closed => event,
            event = &mut to_peer => event,
            event = &mut others => event,
            () = everything_sent(session, activity), if half_closed => Event::Settled,
            () = tokio::time::sleep(activity.half_closed_limit()), if half_closed => Event::Overdue,
        };
        log(&event);
        match (rules.on(&event), event) {
            (Step::Enter(phase), _) => {
                activity.enter(phase);
                session.half_closed();
                session.keep_writer();
            }
            (Step::End(end), Event::Replaced(handover)) => return (end, Some(handover)),
            (Step::End(end), _) => return (end, None),
        }
    }
}

/// Completes when the peer has no pending requests and has received everything.
async fn everything_sent(session: &Session, activity: &Activity) {
    while session.pending_requests() > 0 || activity.is_sending() {
        activity.wait().await;
    }
}

fn log(event: &Event) {
    match event {
        Event::Empty => {
            let reason = TOO_MANY_EMPTY;
            tracing::warn!(reason, "connection ended");
        }
        Event::Unreadable(err @ LineError::Pings) => tracing::warn!(%err, "connection ended"),
        Event::Unreadable(err) => tracing::debug!(%err, "connection lost"),
        _ => {}
    }
}

const TOO_MANY_EMPTY: &str = "too many empty lines, empty frames or acknowledgements";

/// The last line for a peer.
fn last_words(notice: FinalNotice, session: &Session) -> Option<Bytes> {
    let received = || session.replay(|replay| replay.receipts.acknowledge());
    let invalid = |text: String| {
        let text = format!("Invalid Request: {text}");
        error_line(None, Code::InvalidRequest, &text, NO_DATA)
    };
    let line = match notice {
        FinalNotice::Nothing => return None,
        FinalNotice::Acknowledge => {
            let received = received();
            Control::Ack { received }.to_line()
        }
        FinalNotice::Idle => {
            let (received, idle) = (received(), true);
            Control::Drain { received, idle }.to_line()
        }
        FinalNotice::TooLong(limit) => too_large_line(None, limit, Measured::AsRead),
        FinalNotice::Invalidated(invalidated) => {
            handshake::authentication_failed(invalidated.reason())
        }
        FinalNotice::Violation(violation) => invalid(violation.to_string()),
        FinalNotice::Empty => invalid(TOO_MANY_EMPTY.to_owned()),
    };
    Some(line.into())
}
