//! Replies, as hyper sends them.

use crate::handshake::Refused;
use crate::http::{BadHeader, Denied};
use crate::jsonrpc::{Code, ErrorData, Executed, RequestId, error_line};
use crate::transport::websocket::Accepted;
use crate::utils::chunks::{Line, Pieces};
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use std::convert::Infallible;

/// A reply to a request: complete, or a stream of events.
pub(super) type Reply = Response<Either<Full<Bytes>, UnsyncBoxBody<Bytes, Infallible>>>;

/// Asks nginx, and other proxies that honor this header, not to buffer events.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The value of `Retry-After`, in seconds.
const LATER: HeaderValue = HeaderValue::from_static("1");

/// A reply without a body.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Either::Left(Full::default()));
    *reply.status_mut() = status;
    reply
}

/// One JSON-RPC message.
pub(super) fn json(status: StatusCode, line: &Line) -> Reply {
    bytes(status, JSON, line.joined())
}

fn bytes(status: StatusCode, kind: HeaderValue, body: Bytes) -> Reply {
    let mut reply = Response::new(Either::Left(Full::new(body)));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, NO_STORE);
    reply
}

/// The metadata of the protected resource (OAuth).
pub(super) fn metadata(metadata: Bytes) -> Reply {
    bytes(StatusCode::OK, JSON, metadata)
}

/// Metrics for Prometheus.
pub(super) fn metrics(text: String) -> Reply {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    bytes(StatusCode::OK, HeaderValue::from_static(kind), text.into())
}

/// Plain text for people.
pub(super) fn text(status: StatusCode, text: &'static str) -> Reply {
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    bytes(status, kind, Bytes::from_static(text.as_bytes()))
}

/// Events, as they come.
pub(super) fn events(
    events: impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static,
) -> Reply {
    let mut reply = Response::new(Either::Right(StreamBody::new(events).boxed_unsync()));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    reply
}

/// A refusal without a body of its own.
pub(super) fn denied(denied: Denied) -> Reply {
    json(denied.status, &denied.line.into())
}

/// A header has no value.
pub(super) fn bad_header(bad: BadHeader) -> Reply {
    denied(bad.into())
}

/// The request needs a session and names none.
pub(super) fn no_session() -> Reply {
    let reason = "there is no Mcp-Session-Id; a session begins with 'initialize'";
    denied(Denied::plain(StatusCode::BAD_REQUEST, "no-session", reason))
}

/// The session has ended, never existed, or belongs to another user.
pub(super) fn session_ended() -> Reply {
    let reason = "there is no such session; a new one begins with 'initialize'";
    denied(Denied::plain(
        StatusCode::NOT_FOUND,
        "session-ended",
        reason,
    ))
}

/// Why a request gets no answer, though the MCP server has it and may execute it. The client must not send it again,
/// as 401, 404 or 503 would ask it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Its token is no longer valid.
    TokenInvalid,
    /// Its session has ended, or belongs to a token with more roles.
    SessionEnded,
    /// Outside sessions: the server has stopped or dropped it.
    Dropped,
}

impl Unanswered {
    /// The error for the request.
    pub(super) fn line(self, id: Option<&RequestId>) -> Line {
        let (data, text) = match self {
            Self::TokenInvalid => (
                ErrorData::new("token-invalid", Executed::Unknown),
                "No answer: the token of this request is no longer valid",
            ),
            Self::SessionEnded => (
                ErrorData::new("session-ended", Executed::Unknown),
                "No answer: the session has ended",
            ),
            Self::Dropped => (
                ErrorData::new("request-dropped", Executed::Unknown),
                "No answer: the server has dropped it",
            ),
        };
        error_line(id, Code::InternalError, text, Some(&data)).into()
    }
}

/// The client accepts none of the available types.
pub(super) fn not_acceptable() -> Reply {
    let reason = "the client has to accept application/json or text/event-stream";
    let status = StatusCode::NOT_ACCEPTABLE;
    denied(Denied::plain(status, "not-acceptable", reason))
}

/// Closes the connection after this reply.
pub(super) fn last(mut reply: Reply) -> Reply {
    let close = HeaderValue::from_static("close");
    reply.headers_mut().insert(CONNECTION, close);
    reply
}

/// Asks the client to retry a little later.
pub(super) fn later(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(RETRY_AFTER, LATER);
    reply
}

/// The method is not allowed on this path.
pub(super) fn not_allowed(methods: &'static str) -> Reply {
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    let methods = HeaderValue::from_static(methods);
    reply.headers_mut().insert(ALLOW, methods);
    reply
}

/// Switches to WebSocket.
pub(super) fn switching(accepted: Accepted) -> Reply {
    let mut reply = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted.key);
    if let Some(subprotocol) = accepted.subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    reply
}

/// The request has no valid token: `shown` tells whether it has one at all.
pub(super) fn unauthorized(shown: bool) -> Reply {
    let reason = "a token is needed, in 'Authorization: Bearer'";
    let mut reply = denied(Denied::plain(StatusCode::UNAUTHORIZED, "no-token", reason));
    challenge(&mut reply, if shown { INVALID } else { "Bearer" });
    reply
}

const INVALID: &str = "Bearer error=\"invalid_token\"";

fn challenge(reply: &mut Reply, challenge: &'static str) {
    let challenge = HeaderValue::from_static(challenge);
    reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
}

/// The refusal of a peer that is not admitted.
pub(super) fn refused(refused: &Refused) -> Reply {
    let line = refused.to_line().unwrap_or_default();
    let with = |status| json(status, &line.clone().into());
    match refused {
        Refused::Roles { .. } => {
            let mut reply = with(StatusCode::FORBIDDEN);
            challenge(&mut reply, "Bearer error=\"insufficient_scope\"");
            reply
        }
        Refused::Full | Refused::Stopping => last(later(with(StatusCode::SERVICE_UNAVAILABLE))),
        Refused::TooManyOfUser => last(later(with(StatusCode::TOO_MANY_REQUESTS))),
        _ => {
            let mut reply = with(StatusCode::UNAUTHORIZED);
            challenge(&mut reply, INVALID);
            reply
        }
    }
}
