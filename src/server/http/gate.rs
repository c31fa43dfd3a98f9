//! A posted message on its way to the MCP server: through the rate limit and the policy, like every line on
//! other transports.

use super::super::access::Authorization;
use super::super::isolated;
use super::super::passed::passed;
use super::super::rate::UserLimit;
use super::super::sharing::Placement;
use super::reply::{self, Reply};
use super::visitor::{Bearer, Visitor};
use crate::control::PREFIX;
use crate::http::is_scope;
use crate::hub::{Room, Sent};
use crate::jsonrpc::{
    Code, ErrorData, Executed, Kind, Measured, Message, NO_DATA, RequestId, error_line,
    too_large_line,
};
use crate::metrics;
use crate::permissions::{Denial, Permit};
use crate::router::{self, TooLarge};
use crate::transport::outlet::Flush;
use hyper::StatusCode;
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Why a message does not pass.
pub(super) struct Stopped {
    /// The error response; `None` if it is not a request.
    pub line: Option<Vec<u8>>,
    /// The code of that error.
    pub code: Code,
    /// What the token lacks (OAuth).
    pub challenge: Option<HeaderValue>,
    /// The client should retry later.
    pub later: bool,
    /// The status, if it does not depend on the revision.
    pub status: Option<StatusCode>,
}

impl Stopped {
    /// The HTTP response, with `status` if the message has an error.
    pub(super) fn reply(self, status: StatusCode) -> Reply {
        let status = match (self.status, &self.challenge) {
            (Some(StatusCode::UNAUTHORIZED), _) => return reply::unauthorized(true),
            (_, Some(_)) => StatusCode::FORBIDDEN,
            (own, None) => own.unwrap_or(status),
        };
        let mut reply = match self.line {
            Some(line) => reply::json(status, &line.into()),
            // A message without an id is dropped, as on the other transports.
            None => reply::empty(self.status.unwrap_or(StatusCode::ACCEPTED)),
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
            status: None,
        }
    }
}

/// Applies the rate limit to a body: a request beyond it is refused, everything else waits, also what is not a message.
pub(super) async fn limit(
    visitor: &Visitor,
    bearer: &Bearer,
    authorization: &Authorization,
    message: Option<&Message>,
) -> Result<(), Stopped> {
    let identity = authorization.identity();
    let mut user_limit = UserLimit::new(visitor.context.rates.as_ref(), identity, bearer.address);
    if let Some(message) = message
        && let Kind::Request(id) = message.kind()
    {
        return user_limit.take().map_err(|wait| {
            bearer.refusals.rate_limited(message);
            rate_limited(id, wait)
        });
    }
    user_limit.wait().await;
    Ok(())
}

/// Applies the policy to a message.
pub(super) fn judge(
    visitor: &Visitor,
    bearer: &Bearer,
    authorization: &Authorization,
    message: Message,
) -> Result<Permit, Stopped> {
    if message.method().starts_with(PREFIX) {
        bearer.refusals.reserved(&message);
        let text = "Method not found: this prefix is the proxy's own";
        let id = request_id(&message);
        let stopped = Stopped::new(id, Code::MethodNotFound, text, None);
        return Err(stopped);
    }
    let challenge = lacks(visitor, authorization, &message);
    let judged = authorization.rights().decide(message);
    judged.map_err(|denial| denied(&denial, bearer, challenge))
}

/// Puts a denial on record; gives what is answered.
fn denied(denial: &Denial, bearer: &Bearer, challenge: Option<HeaderValue>) -> Stopped {
    bearer.refusals.blocked(denial);
    Stopped {
        line: denial.to_line(),
        code: denial.code(),
        challenge,
        later: false,
        status: None,
    }
}

/// The challenge for a request that a token with a further role could make, for clients that can request one.
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

/// How long a message waits for a process that is restarting.
const RESTART: Duration = Duration::from_secs(10);

fn restarting(message: &Message) -> Stopped {
    let data = ErrorData::new("child-restarting", Executed::No);
    let text = "The MCP server is being started again";
    let id = request_id(message);
    Stopped {
        later: true,
        status: Some(StatusCode::SERVICE_UNAVAILABLE),
        ..Stopped::new(id, Code::InternalError, text, Some(&data))
    }
}

/// The answer to a call of a pinned tool if the tools of the MCP server are not known.
fn tools_unknown(message: &Message) -> Stopped {
    Stopped {
        line: request_id(message).map(router::tools_unknown),
        code: Code::InternalError,
        challenge: None,
        later: true,
        status: None,
    }
}

/// A message that the MCP server has room for.
pub(super) struct Ready<'a> {
    placement: &'a Placement,
    permit: &'a Permit,
    room: Option<Room<'a>>,
    arrived: Option<Instant>,
}

/// Waits until the MCP server has room for a message. Cancel safe.
pub(super) async fn ready<'a>(
    placement: &'a Placement,
    permit: &'a Permit,
) -> Result<Ready<'a>, Stopped> {
    let arrived = metrics::clock();
    let (session, message) = (&placement.session, permit.message());
    // A new process of its own has room even if the shared one has none.
    let room = if placement.moves_with(message) {
        None
    } else {
        if session.is_down(message) && timeout(RESTART, session.up(message)).await.is_err() {
            return Err(restarting(message));
        }
        if let Some(call) = permit.pinned()
            && !Box::pin(session.learn_tools(message, call)).await
        {
            return Err(tools_unknown(message));
        }
        Some(session.room(message).await)
    };
    Ok(Ready {
        placement,
        permit,
        room,
        arrived,
    })
}

impl Ready<'_> {
    /// Hands the message to the MCP server.
    pub(super) fn send(
        self,
        bearer: &Bearer,
        authorization: &Authorization,
    ) -> Result<(), Stopped> {
        let (session, message) = (&self.placement.session, self.permit.message());
        let renewed = judge_again(bearer, authorization, message)?;
        let (authorization, permit) = match &renewed {
            Some((authorization, permit)) => (authorization, permit),
            None => (authorization, self.permit),
        };
        if let Err(why) = self.placement.decide(permit, || authorization.profile()) {
            bearer.refusals.no_process(message, isolated::reason(why));
            let id = request_id(message);
            return Err(Stopped {
                line: id.map(|id| isolated::refusal(why, Some(id))),
                code: Code::InternalError,
                challenge: None,
                later: true,
                status: None,
            });
        }
        let sent = session.send(permit, self.room);
        session.flush();
        match sent {
            Ok(Sent::Handled) => {
                metrics::handed_over(self.arrived);
                passed(&bearer.trail, message, authorization.rights());
                Ok(())
            }
            Ok(Sent::ForeignTask) => {
                bearer.refusals.foreign_task(message);
                Ok(())
            }
            Ok(Sent::Withheld) => Err(denied(&permit.withheld(), bearer, None)),
            Err(TooLarge { limit }) => {
                bearer.refusals.too_large(message);
                let id = request_id(message);
                Err(Stopped {
                    line: id.map(|id| too_large_line(Some(id), limit, Measured::AsWritten)),
                    code: Code::InvalidRequest,
                    challenge: None,
                    later: false,
                    status: None,
                })
            }
        }
    }
}

/// Hands a message to the MCP server, once there is room for it.
pub(super) async fn hand_over(
    placement: &Placement,
    bearer: &Bearer,
    authorization: &Authorization,
    permit: &Permit,
) -> Result<(), Stopped> {
    ready(placement, permit).await?.send(bearer, authorization)
}

/// Judges a message again if the policy or the accepted tokens have changed since, while it waited.
fn judge_again(
    bearer: &Bearer,
    authorization: &Authorization,
    message: &Message,
) -> Result<Option<(Authorization, Permit)>, Stopped> {
    if authorization.is_current() {
        return Ok(None);
    }
    let mut authorization = authorization.clone();
    if !authorization.holds() {
        return Err(Stopped {
            status: Some(StatusCode::UNAUTHORIZED),
            ..Stopped::new(None, Code::AuthenticationFailed, "", None)
        });
    }
    match authorization.rights().decide(message.clone()) {
        Ok(permit) => Ok(Some((authorization, permit))),
        Err(denial) => Err(denied(&denial, bearer, None)),
    }
}

/// The error for a request whose id is already in use by a pending one.
pub(super) fn still_in_flight(message: &Message) -> Stopped {
    let text = "Invalid Request: a request with this id is still in flight";
    let line = error_line(message.id(), Code::InvalidRequest, text, NO_DATA);
    Stopped {
        line: Some(line),
        code: Code::InvalidRequest,
        challenge: None,
        later: false,
        status: None,
    }
}
