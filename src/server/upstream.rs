//! From the peer to the MCP server.

use super::access::Authorization;
use super::intake::{Admitted, Arrived, Intake};
use super::isolated;
use super::passed::passed;
use super::phase::{Event, Phase};
use super::rate::UserLimit;
use super::refusals::Refusals;
use super::sharing::Placement;
use crate::audit::Trail;
use crate::control::PREFIX;
use crate::hub::{Room, Sent, Session};
use crate::jsonrpc::{
    Code, ErrorData, Executed, Kind, MAX_PEER_DEPTH, Measured, Message, NO_DATA, Refusal,
    RequestId, error_line, too_large_line, unreadable_answer,
};
use crate::metrics;
use crate::permissions::{Denial, Permit, Rights};
use crate::router::{TooLarge, tools_unknown};
use std::time::Duration;

/// Records what became of each message.
#[derive(Clone, Copy)]
pub(super) struct Records<'a> {
    pub trail: &'a Trail,
    pub refusals: &'a Refusals<&'a Trail>,
}

/// From the peer to the MCP server, each line through the gate and the policy.
pub(super) async fn upstream(
    intake: &mut Intake<'_>,
    placement: &Placement,
    authorization: &mut Authorization,
    user_limit: &mut UserLimit<'_>,
    records: Records<'_>,
) -> Event {
    match carry_upstream(intake, placement, authorization, user_limit, records).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

async fn carry_upstream(
    intake: &mut Intake<'_>,
    placement: &Placement,
    authorization: &mut Authorization,
    user_limit: &mut UserLimit<'_>,
    records: Records<'_>,
) -> Result<std::convert::Infallible, Event> {
    loop {
        let arrived = intake.next().await?;
        let Arrived {
            handed_over,
            size,
            at,
            message,
            ..
        } = arrived;
        if !intake.on_control(arrived.control)? {
            continue;
        }
        match &message {
            None => intake.empty()?,
            Some(_) if intake.activity.phase() == Phase::Draining => continue,
            Some(_) => intake.activity.mark(),
        }
        let Admitted {
            allowance,
            room,
            knows_tools,
        } = match &message {
            Some(message) if !handed_over => {
                let rights = authorization.rights();
                let admit = intake.admit(message, placement, rights, user_limit);
                admit.await?
            }
            _ => Admitted::default(),
        };
        // The server may have begun to stop meanwhile.
        if intake.activity.phase() == Phase::Draining {
            continue;
        }
        authorization.renew().map_err(Event::Invalidated)?;
        match (message, allowance) {
            (None, _) => {}
            (Some(Ok(message)), _) if handed_over => {
                passed(records.trail, &message, authorization.rights());
            }
            (Some(message), Ok(())) if !knows_tools => {
                let id = message.as_ref().ok().and_then(Message::id);
                id.into_iter()
                    .for_each(|id| intake.session.reply(tools_unknown(id)));
            }
            (Some(message), Ok(())) => {
                if let Some(permit) = pass(message, intake.session, authorization.rights(), records)
                {
                    send(&permit, room, placement, authorization, records);
                    metrics::handed_over(at);
                }
            }
            (Some(message), Err(wait)) => refuse_for_now(&message, wait, intake.session, records),
        }
        if intake.resumable && intake.activity.phase() != Phase::Draining {
            // No await stands between the hand-over above and this: a line is either both handed
            // over and counted, or neither.
            intake.session.received(size);
        }
    }
}

/// Hands a message to the MCP server, which may have to be started for it. A request that is too long once
/// written is answered with an error.
fn send(
    permit: &Permit,
    room: Option<Room<'_>>,
    placement: &Placement,
    authorization: &Authorization,
    records: Records<'_>,
) {
    let (session, message) = (&placement.session, permit.message());
    if let Err(why) = placement.decide(permit, || authorization.profile()) {
        records.refusals.no_process(message, isolated::reason(why));
        session.reply(isolated::refusal(why, message.id()));
        return;
    }
    match session.send(permit, room) {
        Ok(Sent::Handled) => passed(records.trail, message, authorization.rights()),
        Ok(Sent::ForeignTask) => records.refusals.foreign_task(message),
        Ok(Sent::Withheld) => block(&permit.withheld(), session, records),
        Err(TooLarge { limit }) => {
            records.refusals.too_large(message);
            if let Kind::Request(id) = message.kind() {
                session.reply(too_large_line(Some(id), limit, Measured::AsWritten));
            }
        }
    }
}

/// Answers a request that exceeds the rate limit.
fn refuse_for_now(
    message: &Result<Message, Refusal>,
    wait: Duration,
    session: &Session,
    records: Records<'_>,
) {
    if let Ok(message) = message
        && let Some(id) = message.id()
    {
        records.refusals.rate_limited(message);
        session.reply(rate_limited(id, wait));
    }
}

fn rate_limited(id: &RequestId, wait: Duration) -> Vec<u8> {
    let data = ErrorData::new("rate-limited", Executed::No).with_retry_after(wait);
    let text = "Too many requests per second";
    error_line(Some(id), Code::InternalError, text, Some(&data))
}

/// Applies the policy to a message; if it does not pass, it has been answered.
fn pass(
    message: Result<Message, Refusal>,
    session: &Session,
    rights: &Rights,
    records: Records<'_>,
) -> Option<Permit> {
    let message = match message {
        Ok(message) => message,
        Err(refusal) => {
            records.refusals.invalid(&refusal);
            refuse(&refusal, session, rights);
            return None;
        }
    };
    if message.method().starts_with(PREFIX) {
        records.refusals.reserved(&message);
        if let Kind::Request(id) = message.kind() {
            let text = "Method not found: this prefix is the proxy's own";
            session.reply(error_line(Some(id), Code::MethodNotFound, text, NO_DATA));
        }
        return None;
    }
    match rights.decide(message) {
        Ok(permit) => Some(permit),
        Err(denial) => {
            block(&denial, session, records);
            None
        }
    }
}

fn block(denial: &Denial, session: &Session, records: Records<'_>) {
    records.refusals.blocked(denial);
    if let Some(line) = denial.to_line() {
        session.reply(line);
    }
}

fn refuse(refusal: &Refusal, session: &Session, rights: &Rights) {
    for line in refusal.replies() {
        session.reply(line);
    }
    // The MCP server waits for an answer that cannot be parsed: it gets an error instead.
    for id in refusal.answers() {
        let line = unreadable_answer(id);
        let message = Message::read(line.into(), MAX_PEER_DEPTH).ok();
        if let Some(permit) = message.and_then(|message| rights.decide(message).ok()) {
            // It is short.
            let _sent = session.send(&permit, None);
        }
    }
}
