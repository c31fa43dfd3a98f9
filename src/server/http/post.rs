//! A posted message: parsed, and served on its own or in its session.

use super::super::access::Authorization;
use super::begin;
use super::feed::{self, Patience};
use super::gate::{self, Stopped};
use super::ids::New;
use super::in_place;
use super::listen;
use super::reader::{End, Reader, Unsent};
use super::reply::{self, Reply, Unanswered};
use super::session::{HttpSession, Tentative};
use super::stateless;
use super::visitor::{Bearer, Visitor};
use crate::http::{Accepts, Denied, Era, Head, SESSION_ID, era, status_of, write_event};
use crate::jsonrpc::{
    ErrorData, Executed, Field, Kind, MAX_CHILD_DEPTH, MAX_PEER_DEPTH, Message, Refusal,
    refusal_line,
};
use crate::mcp::{Method, Revision};
use crate::permissions::Permit;
use crate::utils::chunks::{Line, Pieces};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use std::sync::Arc;
use std::time::Duration;

/// Serves the message in this body.
pub(super) async fn post(
    visitor: &Visitor,
    bearer: &Bearer,
    head: &Head<'_>,
    line: Bytes,
) -> Result<Reply, Reply> {
    if !head.accepts.json && !head.accepts.stream {
        return Err(reply::not_acceptable());
    }
    let read = Message::read(line, MAX_PEER_DEPTH);
    let mut authorization = bearer.authorization();
    let message = read.as_ref().ok();
    let limited = gate::limit(visitor, bearer, &authorization, message).await;
    limited.map_err(stopped)?;
    // The body may have taken its time, and the rate limit, too.
    if !authorization.holds() {
        return Err(reply::unauthorized(true));
    }
    let message = match read {
        Ok(message) => message,
        Err(refusal) => {
            return Err(unreadable(visitor, bearer, head, &authorization, &refusal));
        }
    };
    let era = era(head, &message).map_err(|denied| {
        bearer.refusals.unfit(&message, denied.reason);
        reply::denied(denied)
    });
    match era? {
        Era::Stateless => stateless::serve(visitor, bearer, head, authorization, message).await,
        Era::Session => in_session(visitor, bearer, head, authorization, message).await,
    }
}

/// The reply to a body that is not a message.
fn unreadable(
    visitor: &Visitor,
    bearer: &Bearer,
    head: &Head<'_>,
    authorization: &Authorization,
    refusal: &Refusal,
) -> Reply {
    bearer.refusals.invalid(refusal);
    if let Ok(Some(id)) = head.session_id.text()
        && let Some(session) = visitor.http_sessions.find(&bearer.owner, id)
    {
        for id in refusal.answers() {
            in_place::answer_unreadable(&session.placement, authorization, id);
        }
    }
    match refusal.replies().into_iter().next() {
        Some(line) if refusal.id().is_some() => {
            reply::json(status_of(Some(refusal.code as i64)), &line.into())
        }
        _ => {
            let mut denied = Denied::plain(StatusCode::BAD_REQUEST, "no-message", refusal.reason);
            let text = refusal.text();
            let data = ErrorData::new("no-message", Executed::No);
            denied.line = refusal_line(refusal.code, &text, &data);
            reply::denied(denied)
        }
    }
}

/// Before 2026-07-28 an error response has status 200.
fn stopped(stopped: Stopped) -> Reply {
    stopped.reply(StatusCode::OK)
}

async fn in_session(
    visitor: &Visitor,
    bearer: &Bearer,
    head: &Head<'_>,
    mut authorization: Authorization,
    message: Message,
) -> Result<Reply, Reply> {
    let version = head.session_version().map_err(reply::denied)?;
    let begins = matches!(message.kind(), Kind::Request(_))
        && message.mcp_method() == Some(Method::Initialize);
    let named = head.session_id.text().map_err(reply::bad_header)?;
    let known = match named {
        Some(id) => Some(listen::find(visitor, bearer, head, id).await?),
        None if begins => None,
        None => return Err(reply::no_session()),
    };
    // It may have waited for its session.
    if !authorization.holds() {
        return Err(reply::unauthorized(true));
    }
    let permit = gate::judge(visitor, bearer, &authorization, message);
    let permit = permit.map_err(stopped)?;
    let message = permit.message();
    let is_new = known.is_none();
    let session = match known {
        Some(session) => session,
        None => {
            let new = New::begun_with(&visitor.context, &bearer.owner, message);
            begin::begin(visitor, bearer, &authorization, new)?
        }
    };
    let used = session.uses(&bearer.owner, &authorization);
    used.ok_or_else(reply::session_ended)?;
    if !matches!(message.kind(), Kind::Request(_)) {
        return tell(&session, bearer, &authorization, &permit).await;
    }
    let way = Way {
        accepts: head.accepts,
        patience: (!begins).then_some(&visitor.patience),
        primes: version.is_some_and(|version| version >= Revision::V2025_11_25),
        pace: visitor.context.settings.keepalive_interval,
    };
    // Ends a session whose `initialize` fails or is abandoned.
    let tentative = is_new.then(|| Tentative::new(&session));
    let (mut reply, answer) = ask(&session, bearer, authorization, &permit, way).await?;
    if let (Some(tentative), Some(answer)) = (tentative, answer)
        && is_result(&answer)
    {
        tentative.survives();
        if let Ok(id) = HeaderValue::from_str(&session.id) {
            reply.headers_mut().insert(SESSION_ID, id);
        }
    }
    Ok(reply)
}

/// Passes on a notification or an answer.
async fn tell(
    session: &HttpSession,
    bearer: &Bearer,
    authorization: &Authorization,
    permit: &Permit,
) -> Result<Reply, Reply> {
    let message = permit.message();
    if message.mcp_method() == Some(Method::Cancelled)
        && let Some(id) = message.quotes(Field::RequestId)
    {
        session.cancel(&id);
    }
    let sent = tokio::select! {
        biased;
        sent = gate::hand_over(&session.placement, bearer, authorization, permit) => sent,
        () = session.ended() => return Err(reply::session_ended()),
    };
    sent.map_err(stopped)?;
    Ok(reply::empty(StatusCode::ACCEPTED))
}

/// Passes on a request, and waits for the first message. Returns also the answer, if it is one.
async fn ask(
    session: &Arc<HttpSession>,
    bearer: &Bearer,
    authorization: Authorization,
    permit: &Permit,
    way: Way<'_>,
) -> Result<(Reply, Option<Line>), Reply> {
    let message = permit.message();
    // What comes before the answer to `initialize` waits for a GET: until it knows its session, a client can
    // answer nothing, and whether there is one depends on the answer.
    let takes_all = way.accepts.stream && message.mcp_method() != Some(Method::Initialize);
    let open = || session.streams().open(message, takes_all);
    let opened = session.for_owner(&bearer.owner, open);
    let Ok(reading) = opened.ok_or_else(reply::session_ended)? else {
        return Err(stopped(gate::still_in_flight(message)));
    };
    let reader = Reader::new(session, reading, authorization);
    let sent = Unsent::new(&reader).send(bearer, permit).await;
    let executed = sent.map_err(stopped)?;
    answer(reader, way, message, executed).await
}

/// How a request is answered.
struct Way<'a> {
    accepts: Accepts,
    /// How long the answer may take before a stream of events begins; `None` for any time.
    patience: Option<&'a Patience>,
    /// The stream begins with an id.
    primes: bool,
    /// The interval of keepalives on a stream.
    pace: Duration,
}

/// Waits for the first message: the answer is sent as JSON, anything else begins a stream. Returns
/// also the answer, if it is one. `executed` tells whether the request has been sent.
async fn answer(
    mut reader: Reader,
    way: Way<'_>,
    request: &Message,
    executed: Executed,
) -> Result<(Reply, Option<Line>), Reply> {
    let first = match way.patience.filter(|_| way.accepts.stream) {
        Some(patience) => reader.next_within(patience).await,
        None => Some(reader.next().await),
    };
    let event = match first {
        Some(Ok(event)) => Some(event),
        // Another token has taken the stream over, and the client gets an id to resume it with.
        Some(Err(End::Displaced)) if way.primes && way.accepts.stream => None,
        Some(Err(end)) => return Err(unanswered(reader, end, &way, request, executed)),
        None => None,
    };
    let answer = event.as_ref().filter(|event| event.is_answer);
    let answer = answer.map(|event| event.line.clone());
    if let Some(line) = &answer
        && way.accepts.json
    {
        return Ok((reply::json(StatusCode::OK, line), answer));
    }
    let before_all = reader.make_resumable();
    reader.is_resumable = way.primes || event.is_some();
    let mut begin = Vec::new();
    if way.primes {
        begin.push(write_event(Some(before_all), None));
    }
    if let Some(event) = event {
        begin.push(write_event(Some(event.id), Some(&event.line)));
    }
    let events = feed::events(reader, begin, way.pace);
    Ok((reply::events(events), answer))
}

/// The reply to a request whose stream has ended without an answer.
fn unanswered(
    reader: Reader,
    end: End,
    way: &Way<'_>,
    request: &Message,
    executed: Executed,
) -> Reply {
    let (why, not_sent) = match end {
        End::TokenInvalid => (Unanswered::TokenInvalid, reply::unauthorized(true)),
        End::SessionOver | End::Displaced => (Unanswered::SessionEnded, reply::session_ended()),
        // It has been cancelled.
        End::Finished => return reply::empty(StatusCode::NO_CONTENT),
    };
    if executed == Executed::No {
        return not_sent;
    }
    let line = why.line(request.id());
    if way.accepts.json {
        return reply::json(StatusCode::OK, &line);
    }
    let begin = vec![write_event(None, Some(&line))];
    reply::events(feed::events(reader, begin, way.pace))
}

fn is_result(line: &Line) -> bool {
    let message = Message::read(line.joined(), MAX_CHILD_DEPTH);
    message.is_ok_and(|message| message.result().is_some())
}
