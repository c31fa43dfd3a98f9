//! Sessions that began before a restart of this program: if all lost state can be restored, the client keeps
//! its session. The client's handshake is repeated with the new MCP server.
//!
//! That is possible if all share one MCP server that has no subscriptions, log levels or tasks: which of
//! those a client had asked for is lost.

use super::super::access::Authorization;
use super::begin;
use super::gate::{self, Stopped};
use super::ids::{self, New};
use super::reader::Reader;
use super::reply::{self, Reply};
use super::session::{HttpSession, Tentative};
use super::visitor::{Bearer, Visitor};
use crate::http::Head;
use crate::jsonrpc::{Code, MAX_CHILD_DEPTH, MAX_PEER_DEPTH, Message};
use crate::mcp::Revision;
use crate::permissions::Permit;
use crate::utils::chunks::{Line, Pieces};
use bytes::Bytes;
use hyper::StatusCode;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How long the MCP server may take to answer `initialize`.
const PATIENCE: Duration = Duration::from_secs(10);

const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// Revives the session with this id, which began before this process.
///
/// # Errors
/// It cannot be revived, or not now.
pub(super) async fn revive(
    visitor: &Visitor,
    bearer: &Bearer,
    head: &Head<'_>,
    id: &str,
) -> Result<Arc<HttpSession>, Reply> {
    let http_sessions = &visitor.http_sessions;
    let begun_with = ids::begun_with(&visitor.context, &bearer.owner, http_sessions.since, id);
    let begun_with = begun_with.ok_or_else(reply::session_ended)?;
    // The first of several concurrent requests of a client revives its session.
    let mut revived = http_sessions.revived.lock().await;
    if let Some(session) = http_sessions.find(&bearer.owner, id) {
        return if session.is_over() {
            Err(later())
        } else {
            Ok(session)
        };
    }
    if !revived.may(id) {
        return Err(reply::session_ended());
    }
    let mut authorization = bearer.authorization();
    // It may have waited for others.
    if !authorization.holds() {
        return Err(reply::unauthorized(true));
    }
    let line = [
        br#"{"jsonrpc":"2.0","id":"mcp-remote/revive","method":"initialize","params":"#,
        &*begun_with,
        b"}",
    ];
    let initialize = permit(&authorization, line.concat().into())?;
    let initialized = permit(&authorization, Bytes::from_static(INITIALIZED)).ok();
    let new = New {
        id: id.into(),
        is_revived: true,
    };
    let session = begin::begin(visitor, bearer, &authorization, new)?;
    let tentative = Tentative::new(&session);
    let answer = ask(&session, bearer, &authorization, &initialize).await?;
    let answer = Message::read(answer.joined(), MAX_CHILD_DEPTH).map_err(|_| later())?;
    if answer.error_code() == Some(Code::InternalError as i64) {
        // It is starting, or cannot be started.
        return Err(later());
    }
    if !renews_all(&answer, head) {
        revived.note(id);
        return Err(reply::session_ended());
    }
    if let Some(permit) = initialized {
        let told = gate::hand_over(&session.placement, bearer, &authorization, &permit).await;
        told.map_err(stopped)?;
    }
    revived.note(id);
    tentative.survives();
    session.mark_ready();
    tracing::info!("a session from before the restart goes on");
    Ok(session)
}

/// Waits until a session is revived by another request.
///
/// # Errors
/// It could not be revived.
pub(super) async fn revived(
    visitor: &Visitor,
    session: Arc<HttpSession>,
) -> Result<Arc<HttpSession>, Reply> {
    drop(visitor.http_sessions.revived.lock().await);
    if session.is_over() || !session.is_ready() {
        return Err(later());
    }
    Ok(session)
}

fn permit(authorization: &Authorization, line: Bytes) -> Result<Permit, Reply> {
    let message = Message::read(line, MAX_PEER_DEPTH).map_err(|_| reply::session_ended())?;
    let permit = authorization.rights().decide(message);
    permit.map_err(|_| reply::session_ended())
}

async fn ask(
    session: &Arc<HttpSession>,
    bearer: &Bearer,
    authorization: &Authorization,
    permit: &Permit,
) -> Result<Line, Reply> {
    let opened = session.streams().open(permit.message(), false);
    let opened = opened.map_err(|_| later())?;
    let mut reader = Reader::new(session, opened, authorization.clone());
    let sent = gate::hand_over(&session.placement, bearer, authorization, permit).await;
    sent.map_err(stopped)?;
    match tokio::time::timeout(PATIENCE, reader.next()).await {
        Ok(Ok(event)) => Ok(event.line),
        _ => Err(later()),
    }
}

/// True if the MCP server's answer to the repeated `initialize` leaves the session as the client
/// knew it.
fn renews_all(answer: &Message, head: &Head<'_>) -> bool {
    let result: Option<Value> = answer
        .result()
        .and_then(|result| serde_json::from_slice(result).ok());
    let Some(result) = result else { return false };
    // Clients that name no revision speak the oldest one.
    let named = head.session_version().ok().flatten();
    let named = named.unwrap_or(Revision::V2025_03_26).name();
    let offers = |pointer: &str| {
        let offer = result.pointer(pointer);
        offer.is_some_and(|offer| !offer.is_null() && *offer != false)
    };
    let lost = [
        "/capabilities/logging",
        "/capabilities/tasks",
        "/capabilities/resources/subscribe",
    ];
    result["protocolVersion"] == named && !lost.into_iter().any(offers)
}

fn stopped(stopped: Stopped) -> Reply {
    reply::later(stopped.reply(StatusCode::SERVICE_UNAVAILABLE))
}

fn later() -> Reply {
    reply::later(reply::empty(StatusCode::SERVICE_UNAVAILABLE))
}
