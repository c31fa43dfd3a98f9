//! Requests for a session other than messages: to listen, to resume a stream, to end.

use super::feed;
use super::reader::Reader;
use super::reply::{self, Reply};
use super::revive;
use super::session::HttpSession;
use super::visitor::{Bearer, Visitor};
use crate::http::{COMMENT, Denied, EventId, Head};
use crate::mcp::Revision;
use bytes::Bytes;
use hyper::StatusCode;
use std::sync::Arc;

/// The session with the id that a request names, revived if another server process began it.
///
/// # Errors
/// It has ended, or is another owner's.
pub(super) async fn find(
    visitor: &Visitor,
    bearer: &Bearer,
    head: &Head<'_>,
    id: &str,
) -> Result<Arc<HttpSession>, Reply> {
    let http_sessions = &visitor.http_sessions;
    let found = http_sessions.find(&bearer.owner, id);
    let widened = || http_sessions.widen(&bearer.owner, &bearer.authorization(), id);
    match found.or_else(widened) {
        Some(session) if !session.is_ready() => revive::revived(visitor, session).await,
        Some(session) if session.is_over() => Err(reply::session_ended()),
        Some(session) => Ok(session),
        None if http_sessions.knows(id) => {
            bearer.refusals.foreign_session();
            Err(reply::session_ended())
        }
        None => Box::pin(revive::revive(visitor, bearer, head, id)).await,
    }
}

/// The session that a GET or DELETE names, which are meaningless without one.
async fn named(
    visitor: &Visitor,
    bearer: &Bearer,
    head: &Head<'_>,
) -> Result<Arc<HttpSession>, Reply> {
    let id = head.session_id.text().map_err(reply::bad_header)?;
    find(visitor, bearer, head, id.ok_or_else(reply::no_session)?).await
}

/// For GET and DELETE.
fn needs_sessions(head: &Head<'_>) -> Result<(), Reply> {
    let named = head.protocol_version.text().map_err(reply::bad_header)?;
    if named == Some(Revision::NEWEST.name()) && !head.session_id.is_present() {
        return Err(reply::not_allowed("POST"));
    }
    head.session_version().map_err(reply::denied)?;
    Ok(())
}

/// Answers GET: with the stream of messages that belong to no request, or the rest of another
/// stream.
pub(super) async fn listen(
    visitor: &Visitor,
    bearer: &Bearer,
    head: &Head<'_>,
) -> Result<Reply, Reply> {
    needs_sessions(head)?;
    if !head.accepts.stream {
        return Err(reply::not_acceptable());
    }
    let session = named(visitor, bearer, head).await?;
    let authorization = bearer.authorization();
    let used = session.uses(&bearer.owner, &authorization);
    used.ok_or_else(reply::session_ended)?;
    let last = head.last_event_id.text().map_err(reply::bad_header)?;
    let attach = || match last {
        None => Some(session.streams().listen()),
        Some(id) => session.streams().resume(EventId::parse(id)?).ok(),
    };
    let reading = session.for_owner(&bearer.owner, attach);
    let reading = reading.ok_or_else(reply::session_ended)?.ok_or_else(|| {
        let reason = "what followed this Last-Event-ID is not kept any more";
        let denied = Denied::plain(StatusCode::BAD_REQUEST, "event-unknown", reason);
        reply::denied(denied)
    })?;
    let mut source = Reader::new(&session, reading, authorization);
    source.is_resumable = true;
    let begin = vec![Bytes::from_static(COMMENT)];
    let pace = visitor.context.settings.keepalive_interval;
    Ok(reply::events(feed::events(source, begin, pace)))
}

/// Answers DELETE: the session ends.
pub(super) async fn delete(
    visitor: &Visitor,
    bearer: &Bearer,
    head: &Head<'_>,
) -> Result<Reply, Reply> {
    needs_sessions(head)?;
    let session = named(visitor, bearer, head).await?;
    session.end("its client has ended it");
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
