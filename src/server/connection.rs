//! One connection of a session, from its first message to its end.

use super::access::{Lapse, lapse};
use super::activity::Activity;
use super::context::Context;
use super::downstream::Downstream;
use super::end::{End, cut_off, warn_of_backlog};
use super::link::Link;
use super::rate::Ticket;
use super::refusals::Refusals;
use super::registry::{Handover, Registration};
use super::sharing::Placement;
use super::upstream::{HALF_CLOSED, Intake, Records, UpstreamEnd, upstream};
use crate::backlog::Excess;
use crate::control::Control;
use crate::handshake;
use crate::hub::Cut;
use crate::jsonrpc::{Code, Measured, NO_DATA, error_line, too_large_line};
use crate::transport::Reader;
use crate::transport::empty::Empties;
use crate::transport::line::LineError;
use crate::utils::apart::apart;
use bytes::Bytes;
use std::collections::VecDeque;

/// What ends a connection besides what is said on it.
enum Trouble {
    Replaced(Handover),
    Overflow(Cut),
    /// Too much memory is kept for all clients, most of it for what this connection has sent.
    Backlog(Excess),
    Lapse(Lapse),
    Idle,
    Silence,
}

/// Carries messages both ways until one side ends; gives what is still to be said then.
pub(super) async fn carry(
    link: &mut Link,
    read: Option<Bytes>,
    placement: &Placement,
    context: &Context,
    registration: Option<&Registration>,
    first: Option<Bytes>,
) -> (End, Vec<Bytes>) {
    let session = &placement.session;
    let resumable = registration.is_some();
    let Link {
        reader,
        writer,
        standing,
        address,
        trail,
        holder,
        ..
    } = link;
    let settings = &context.settings;
    let activity = Activity::new(reader.pulse(), settings.idle_timeout);
    let mut last_words: Vec<Bytes> = Vec::new();
    let half_open = matches!(reader, Reader::Line(_)) && !resumable;
    let end = {
        let intake = Intake {
            reader,
            read,
            session,
            activity: &activity,
            resumable,
            ahead: VecDeque::new(),
            bytes: 0,
            current: 0,
            kept: holder.part(),
            empties: Empties::default(),
            room_ahead: &context.room_ahead,
        };
        let ticket = Ticket::new(context.rates.as_ref(), standing.identity(), *address);
        let refusals = Refusals::new(&*trail);
        let records = Records {
            trail,
            refusals: &refusals,
        };
        let upstream = apart(upstream(
            intake,
            placement,
            standing.clone(),
            ticket,
            records,
        ));
        let down = Downstream {
            session,
            activity: &activity,
            resumable,
            stopping: &context.stopping,
            keepalive: settings.keepalive_interval,
        };
        let mut downstream = apart(down.run(&mut *writer, first));
        // Rarely does one of these happen.
        let trouble = apart(async {
            tokio::select! {
                handover = next_handover(registration) => Trouble::Replaced(handover),
                never = refusals.report() => match never {},
                cut = session.overflowed() => Trouble::Overflow(cut),
                excess = holder.evicted() => Trouble::Backlog(excess),
                lapse = lapse(standing, session) => Trouble::Lapse(lapse),
                () = activity.idle(session) => Trouble::Idle,
                () = activity.silence(resumable.then_some(settings.keepalive_timeout)) => Trouble::Silence,
            }
        });
        tokio::select! {
            biased;
            end = upstream => match end {
                UpstreamEnd::HalfClosed if half_open => {
                    session.keep_writer();
                    let answered = async {
                        while session.owed() > 0 || activity.is_sending() {
                            activity.wait().await;
                        }
                    };
                    tokio::select! {
                        () = answered => {}
                        _ = &mut downstream => {}
                        () = tokio::time::sleep(HALF_CLOSED) => {}
                    }
                    End::Leave("the peer has left")
                }
                UpstreamEnd::HalfClosed if resumable => End::Lost("the peer has hung up"),
                UpstreamEnd::HalfClosed => End::Leave("the peer has left"),
                UpstreamEnd::Left => {
                    // So that the client knows that its last words have been heard.
                    let received = session.replay(|replay| replay.receipts.acknowledge());
                    last_words.push(Control::Ack { received }.to_line().into());
                    End::Leave("the peer has left")
                }
                UpstreamEnd::TooLong(limit) => {
                    last_words.push(too_large_line(None, limit, Measured::AsRead).into());
                    End::Leave("a message is too long")
                }
                UpstreamEnd::Lapsed(lapse) => barred(lapse, &mut last_words),
                UpstreamEnd::Violation(violation) => {
                    let text = format!("Invalid Request: {violation}");
                    last_words.push(error_line(None, Code::InvalidRequest, &text, NO_DATA).into());
                    End::Leave("the client counts wrongly")
                }
                UpstreamEnd::Empty => {
                    let text = "too many empty lines, empty frames or acknowledgements";
                    tracing::warn!(reason = text, "connection ended");
                    let text = format!("Invalid Request: {text}");
                    last_words.push(error_line(None, Code::InvalidRequest, &text, NO_DATA).into());
                    End::Leave("too much without a message")
                }
                UpstreamEnd::Lost(err @ LineError::Pings) => {
                    tracing::warn!(%err, "connection ended");
                    End::Leave("too many pings")
                }
                UpstreamEnd::Lost(err) => {
                    tracing::debug!(%err, "connection lost");
                    End::Lost("connection lost")
                }
            },
            end = &mut downstream => end,
            trouble = trouble => match trouble {
                Trouble::Replaced(handover) => End::Replaced(handover),
                Trouble::Overflow(cut) => cut_off(cut, &context.stopping),
                Trouble::Backlog(excess) => {
                    let reason = warn_of_backlog(excess);
                    // What the session itself keeps is counted apart.
                    if resumable {
                        End::Lost(reason)
                    } else {
                        End::Abort(reason)
                    }
                }
                Trouble::Lapse(lapse) => barred(lapse, &mut last_words),
                Trouble::Idle => {
                    if resumable {
                        let received = session.replay(|replay| replay.receipts.acknowledge());
                        let idle = true;
                        last_words.push(Control::Drain { received, idle }.to_line().into());
                    }
                    End::Leave("idle for too long")
                }
                Trouble::Silence => End::Lost("nothing heard of it for too long"),
            },
        }
    };
    // Whatever it says, the connection ends.
    drop(session.take_back(writer));
    // Half a line cannot be followed by another.
    let last_words = if activity.is_sending() {
        Vec::new()
    } else {
        last_words
    };
    (end, last_words)
}

async fn next_handover(registration: Option<&Registration>) -> Handover {
    match registration {
        Some(registration) => registration.handover().await,
        None => std::future::pending().await,
    }
}

/// The peer's token is good no longer.
fn barred(lapse: Lapse, last_words: &mut Vec<Bytes>) -> End {
    last_words.push(handshake::authentication_failed(lapse.reason()).into());
    End::Leave(lapse.name())
}
