//! Answers of the router itself, on behalf of a process or of a peer.

use super::tasks;
use crate::jsonrpc::{Code, ErrorData, Executed, Message, NO_DATA, RequestId, error_line};
use crate::utils::chunks::Line;
use crate::utils::shorten::shorten;
use std::time::Duration;

/// The most of a method's name that an answer quotes, in bytes.
const MAX_NAME: usize = 1024;

/// When to try again what was refused only because of what else happens at present.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The answer to a request that is not sent to its process.
pub(super) enum OwnAnswer {
    /// `{}`: the request has no further effect.
    Done,
    NoSuchTask {
        /// It belongs to another user.
        foreign: bool,
        /// The client does not say that it knows tasks at all.
        undeclared: bool,
    },
    NoSuchMethod,
    TooManySubscriptions,
    /// The shared process does not get it.
    InvalidParams(&'static str),
}

impl OwnAnswer {
    pub(super) fn to_line(&self, id: &RequestId) -> Vec<u8> {
        match self {
            Self::Done => {
                let mut line = b"{\"jsonrpc\":\"2.0\",\"id\":".to_vec();
                id.write(&mut line);
                line.extend(b",\"result\":{}}\n");
                line
            }
            Self::NoSuchTask {
                undeclared: true, ..
            } => tasks::undeclared(id),
            Self::NoSuchTask { .. } => tasks::unknown(id),
            Self::NoSuchMethod => {
                let text = "Method not found: it is not part of MCP 2026-07-28";
                error_line(Some(id), Code::MethodNotFound, text, NO_DATA)
            }
            Self::InvalidParams(reason) => invalid_params(id, reason),
            Self::TooManySubscriptions => {
                let data = ErrorData::new("too-many-subscriptions", Executed::No);
                let text = "Too many subscriptions";
                error_line(Some(id), Code::InternalError, text, Some(&data))
            }
        }
    }
}

/// The answer to a message whose method is of the other kind; `None` for a notification.
pub(super) fn misplaced(message: &Message) -> Option<Line> {
    tracing::debug!("dropped a request under a notification's name, or the reverse");
    let text = "Invalid Request: a notification has no id";
    let answer = |id| error_line(Some(id), Code::InvalidRequest, text, NO_DATA).into();
    message.id().map(answer)
}

/// The error for a request whose params are invalid for the router or for MCP.
pub(super) fn invalid_params(id: &RequestId, reason: &str) -> Vec<u8> {
    let text = format!("Invalid params: {reason}");
    error_line(Some(id), Code::InvalidParams, &text, NO_DATA)
}

/// The error for a server request that no peer can receive.
pub(super) fn nobody_to_ask(id: &RequestId, method: &str) -> Vec<u8> {
    let method = shorten(method, MAX_NAME);
    let text = format!("Method not found: no connected client can take '{method}'");
    error_line(Some(id), Code::MethodNotFound, &text, NO_DATA)
}

/// The answer to a call of a pinned tool while the tools of the process are not known.
#[must_use]
pub fn tools_unknown(id: &RequestId) -> Vec<u8> {
    let data = ErrorData::new("tools-unknown", Executed::No);
    let text = "The MCP server has not said what its tools are, so none of them can be called (--pin-tools)";
    error_line(Some(id), Code::InternalError, text, Some(&data))
}

/// The error for a request that would wait behind many others of its session, while the process waits for an answer
/// that the client may send after it.
pub(super) fn too_many_waiting(id: &RequestId) -> Vec<u8> {
    let data = ErrorData::new("too-many-waiting", Executed::No);
    let data = data.with_retry_after(RETRY_AFTER);
    let text = "Too many requests of this client wait, and the MCP server waits for its answer to a question";
    error_line(Some(id), Code::InternalError, text, Some(&data))
}

/// The answer to a call of a pinned tool whose turn comes after the tools may have changed.
pub(super) fn tools_changed(id: &RequestId) -> Vec<u8> {
    let data = ErrorData::new("tools-unknown", Executed::No).with_retry_after(RETRY_AFTER);
    let text =
        "The MCP server's tools may have changed while this call waited; try again (--pin-tools)";
    error_line(Some(id), Code::InternalError, text, Some(&data))
}

/// The error that replaces a list which might contain items that the peer may not see.
pub(super) fn unreadable_list(id: &RequestId) -> Vec<u8> {
    tracing::warn!(
        "withheld a list of the MCP server that cannot be cut down: it is not the list that was asked for, or members stand twice"
    );
    let data = ErrorData::new("unreadable-list", Executed::Unknown);
    let text = "The MCP server's list cannot be read";
    error_line(Some(id), Code::InternalError, text, Some(&data))
}
