//! A posted message on its way to the MCP server: through the rate limit and the policy, as every line of
//! every peer.

use super::super::access::Authorization;
use super::super::isolated;
use super::super::passed::passed;
use super::super::rate::UserLimit;
use super::super::sharing::Placement;
use super::reply::{self, Reply};
use super::visitor::{Bearer, Visitor};
use crate::control::PREFIX;
use crate::http::is_scope;
use crate::hub::{Sent, Session};
use crate::jsonrpc::{
    Code, ErrorData, Executed, Kind, MAX_PEER_DEPTH, Measured, Message, NO_DATA, RequestId,
    error_line, too_large_line, unreadable_answer,
};
use crate::metrics;
use crate::permissions::Permit;
use crate::router::TooLarge;
use crate::transport::outlet::Flush;
use hyper::StatusCode;
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};
use std::time::Duration;
use tokio::time::Instant;

/// Why a message does not pass.
pub(super) struct Stopped {
    /// The answer to it; none where it is no request.
    pub line: Option<Vec<u8>>,
    /// The code of that.
    pub code: Code,
    /// What the token lacks (OAuth).
    pub challenge: Option<HeaderValue>,
    /// It makes sense to try again.
    pub later: bool,
    /// The MCP server is not there.
    pub is_down: bool,
}

impl Stopped {
    /// The answer, with `status` where it is an error of a message.
    pub(super) fn reply(self, status: StatusCode) -> Reply {
        let status = match &self.challenge {
            Some(_) => StatusCode::FORBIDDEN,
            None if self.is_down => StatusCode::SERVICE_UNAVAILABLE,
            None => status,
        };
        let mut reply = match self.line {
            Some(line) => reply::json(status, &line.into()),
            None if self.is_down => reply::empty(status),
            // What is not passed on vanishes, as it does on the other transports.
            None => reply::empty(StatusCode::ACCEPTED),
        };
        if let Some(challenge) = self.challenge {
            reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if self.later {
            reply::later(reply)
        } else {
            reply
        }
    }

    fn new(id: Option<&RequestId>, code: Code, text: &str, data: Option<&ErrorData>) -> Self {
        Self {
            line: id.map(|id| error_line(Some(id), code, text, data)),
            code,
            challenge: None,
            later: false,
            is_down: false,
        }
    }
}

/// Counts a message and judges it.
pub(super) async fn judge(
    visitor: &Visitor,
    bearer: &Bearer,
    authorization: &Authorization,
    message: Message,
) -> Result<Permit, Stopped> {
    let identity = authorization.identity();
    let mut user_limit = UserLimit::new(visitor.context.rates.as_ref(), identity, bearer.address);
    match message.kind() {
        Kind::Request(id) => {
            if let Err(wait) = user_limit.take() {
                bearer.refusals.rate_limited(&message);
                return Err(rate_limited(id, wait));
            }
        }
        _ => user_limit.wait().await,
    }
    if message.method().starts_with(PREFIX) {
        bearer.refusals.reserved(&message);
        let text = "Method not found: this prefix is the proxy's own";
        let id = request_id(&message);
        let stopped = Stopped::new(id, Code::MethodNotFound, text, None);
        return Err(stopped);
    }
    let challenge = lacks(visitor, authorization, &message);
    authorization.rights().decide(message).map_err(|denial| {
        bearer.refusals.blocked(&denial);
        Stopped {
            line: denial.to_line(),
            code: denial.code(),
            challenge,
            later: false,
            is_down: false,
        }
    })
}

/// What is said of a request that a token with a further role could make, to clients that can ask for one.
fn lacks(
    visitor: &Visitor,
    authorization: &Authorization,
    message: &Message,
) -> Option<HeaderValue> {
    let resource = visitor
        .site
        .resource
        .as_ref()
        .filter(|it| it.has_scopes())?;
    let Kind::Request(_) = message.kind() else {
        return None;
    };
    let present = &authorization.identity().roles;
    let missing = authorization.missing_role(message, is_scope)?;
    resource.lacks(&missing, present)
}

fn request_id(message: &Message) -> Option<&RequestId> {
    match message.kind() {
        Kind::Request(id) => Some(id),
        _ => None,
    }
}

fn rate_limited(id: &RequestId, wait: Duration) -> Stopped {
    let data = ErrorData::new("rate-limited", Executed::No).with_retry_after(wait);
    let text = "Too many requests per second";
    Stopped {
        later: true,
        ..Stopped::new(Some(id), Code::InternalError, text, Some(&data))
    }
}

/// How long a message waits for a process that is being started.
const RESTART: Duration = Duration::from_secs(10);

/// How often to look whether it is there.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until the process that serves this session is there. Gives false where that takes too long.
async fn is_up(session: &Session, message: &Message) -> bool {
    let begun = Instant::now();
    while session.is_down(message) {
        if begun.elapsed() >= RESTART {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

fn restarting(message: &Message) -> Stopped {
    let data = ErrorData::new("child-restarting", Executed::No);
    let text = "The MCP server is being started again";
    let id = request_id(message);
    Stopped {
        later: true,
        is_down: true,
        ..Stopped::new(id, Code::InternalError, text, Some(&data))
    }
}

/// Hands a message to the MCP server, once that has room for it.
pub(super) async fn hand_over(
    placement: &Placement,
    bearer: &Bearer,
    authorization: &Authorization,
    permit: &Permit,
) -> Result<(), Stopped> {
    let arrived = metrics::clock();
    let (session, message) = (&placement.session, permit.message());
    // A process of its own takes what another one does not.
    let room = if placement.moves_with(message) {
        None
    } else {
        if !is_up(session, message).await {
            return Err(restarting(message));
        }
        Some(session.room(message).await)
    };
    if let Err(why) = placement.decide(permit, || authorization.profile()) {
        bearer.refusals.no_process(message, isolated::reason(why));
        let id = request_id(message);
        return Err(Stopped {
            line: id.map(|id| isolated::refusal(why, Some(id))),
            code: Code::InternalError,
            challenge: None,
            later: true,
            is_down: false,
        });
    }
    let sent = session.send(permit, room);
    session.flush();
    match sent {
        Ok(Sent::Handled) => {
            metrics::handed_over(arrived);
            passed(&bearer.trail, message, authorization.rights());
            Ok(())
        }
        Ok(Sent::ForeignTask) => {
            bearer.refusals.foreign_task(message);
            Ok(())
        }
        Err(TooLarge { limit }) => {
            bearer.refusals.too_large(message);
            let id = request_id(message);
            Err(Stopped {
                line: id.map(|id| too_large_line(Some(id), limit, Measured::AsWritten)),
                code: Code::InvalidRequest,
                challenge: None,
                later: false,
                is_down: false,
            })
        }
    }
}

/// The MCP server waits for an answer that cannot be read: it gets an error in its place.
pub(super) fn answer_unreadable(
    placement: &Placement,
    authorization: &Authorization,
    id: &RequestId,
) {
    let line = unreadable_answer(id);
    let message = Message::read(line.into(), MAX_PEER_DEPTH).ok();
    if let Some(permit) = message.and_then(|message| authorization.rights().decide(message).ok()) {
        // It is short.
        let _sent = placement.session.send(&permit, None);
        placement.session.flush();
    }
}

/// The answer to a request whose id is that of another one that runs.
pub(super) fn still_in_flight(message: &Message) -> Stopped {
    let text = "Invalid Request: a request with this id is still in flight";
    let line = error_line(message.id(), Code::InvalidRequest, text, NO_DATA);
    Stopped {
        line: Some(line),
        code: Code::InvalidRequest,
        challenge: None,
        later: false,
        is_down: false,
    }
}
