//! The beginning of a session over HTTP.

use super::super::access::Authorization;
use super::super::isolated;
use super::super::sharing::Party;
use super::ids::{self, New};
use super::reply::{self, Reply};
use super::session::{self, HttpSession};
use super::visitor::{Bearer, Visitor};
use crate::handshake::Refused;
use crate::http::Streams;
use crate::jsonrpc::{Code, ErrorData, Executed, refusal_line};
use crate::metrics::Transport;
use hyper::StatusCode;
use std::sync::Arc;
use tracing::Instrument;

/// Begins a session.
///
/// # Errors
/// There are too many, or the server is stopping.
pub(super) fn begin(
    visitor: &Visitor,
    bearer: &Bearer,
    authorization: &Authorization,
    new: New,
) -> Result<Arc<HttpSession>, Reply> {
    let context = &visitor.context;
    let http_sessions = &visitor.http_sessions;
    let busy =
        |line: Vec<u8>| reply::later(reply::json(StatusCode::SERVICE_UNAVAILABLE, &line.into()));
    if context.stopping.has_begun() {
        return Err(reply::refused(&Refused::Stopping));
    }
    let party = Party {
        authorization,
        address: bearer.address,
        transport: Transport::Http,
        counted: context.counted(authorization, bearer.address, bearer.of_user.clone()),
    };
    let holder = party.counted.holder.clone();
    let placed = context.sharing.place(party);
    let placement = placed.map_err(|why| busy(isolated::refusal(why, None)))?;
    let owner = bearer.owner.clone();
    let mut streams = Streams::new(http_sessions.bounds, &http_sessions.kept, holder.part());
    if new.is_revived {
        streams = streams.revived(ids::now());
    }
    let New { id, is_revived } = new;
    let session = HttpSession::new(
        (owner.clone(), Arc::clone(&id)),
        placement,
        Arc::clone(&bearer.trail),
        streams,
        authorization.clone(),
    );
    let session = Arc::new(if is_revived {
        session.awaiting_revival()
    } else {
        session
    });
    let inserted = http_sessions
        .lock()
        .insert(&owner, id, Arc::clone(&session), |known| known.idle_since());
    let Ok(gone) = inserted else {
        let data = ErrorData::new("too-many-sessions", Executed::No);
        let text = "Too many sessions (--max-sessions)";
        return Err(busy(refusal_line(Code::InternalError, text, &data)));
    };
    if let Some(gone) = gone {
        tracing::info!("too many sessions: the one that was idle for longest ends");
        gone.end("another one needs its place");
    }
    spawn(visitor, &session);
    Ok(session)
}

/// Serves a session in a task of its own.
fn spawn(visitor: &Visitor, session: &Arc<HttpSession>) {
    let number = session.placement.session.id();
    let span = tracing::info_span!("session", id = %number);
    let http_sessions = Arc::clone(&visitor.http_sessions);
    let forget = move |session: &HttpSession| http_sessions.remove(session);
    let life = session::live(Arc::clone(session), Arc::clone(&visitor.context), forget);
    visitor.http_sessions.spawn(life.instrument(span));
}
