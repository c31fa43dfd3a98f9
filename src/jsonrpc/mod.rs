//! The one place where bytes become a message.
//!
//! [`Message::read`] takes one line and either understands it as exactly one JSON-RPC 2.0 request,
//! notification or response, or refuses it. [`Message::write`] writes a message again from what was
//! parsed, so that nothing reaches a child in the form in which a peer sent it. Payloads are copied,
//! never rebuilt. No I/O, no policy.

mod error;
mod field;
mod head;
mod id;
mod inner;
mod method;
mod outline;
mod read;
mod recover;
mod write;

pub use error::{
    Code, ErrorData, Executed, Measured, NO_DATA, error_line, is_too_large, refusal_line,
    too_large_line, unreadable_answer,
};
pub use id::{MAX_ID_LENGTH, RequestId};
pub use outline::{MAX_SEEN, Outline};
pub use recover::{Recovered, recover};
pub(crate) use write::{Edit, Replacement};

use crate::json::{self, Fault, Span, members, plain, plain_bytes, unescape};
use crate::mcp;
pub use crate::mcp::Field;
use bytes::Bytes;
use field::Fields;
use inner::quoted;
use method::MethodName;
use std::borrow::Cow;

/// How deep a peer's message may nest: what common readers accept.
pub const MAX_PEER_DEPTH: usize = 128;

/// How deep a child's message may nest.
pub const MAX_CHILD_DEPTH: usize = json::MAX_DEPTH;

/// The longest line that is ever read, in bytes, whatever the settings: positions in it are
/// kept in 32 bits.
pub const MAX_LINE: usize = 1 << 30;

/// Why a line that is nested too deep is refused.
const TOO_DEEP: &str = "nested too deep";

/// The kind of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Needs a response.
    Request(RequestId),
    /// Needs none.
    Notification,
    /// A response; an error may have no id.
    Response(Option<RequestId>),
}

/// One JSON-RPC message whose head has been read.
///
/// `Debug` shows the head only, never the payload.
#[derive(Clone)]
pub struct Message {
    line: Bytes,
    kind: Kind,
    method: MethodName,
    /// `params`, `result` or `error`.
    payload: Option<(&'static str, Span)>,
    fields: Fields,
    progress_token: Option<Box<(RequestId, Span)>>,
    subscription: Option<Box<(RequestId, Span)>>,
    related_task: Option<Span>,
    modern: bool,
    wants_logs: bool,
    /// A payload member with null for absent: it is not written.
    omitted: Option<Span>,
    /// Some byte of the line is a line end, or unusual white space, for some reader.
    needs_mending: bool,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("method", &self.method())
            .finish_non_exhaustive()
    }
}

/// Why a line is not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// [`Code::ParseError`] or [`Code::InvalidRequest`].
    pub code: Code,
    /// The messages on the line, as far as a lenient second pass can tell; at most
    /// [`MAX_SEEN`].
    pub about: Vec<Kind>,
    /// For the peer and the log; quotes nothing from the line.
    pub reason: &'static str,
    /// The line is longer than this many bytes.
    pub limit: Option<usize>,
}

impl Refusal {
    fn not_json(reason: &'static str) -> Self {
        Self {
            code: Code::ParseError,
            about: Vec::new(),
            reason,
            limit: None,
        }
    }

    fn invalid(reason: &'static str) -> Self {
        Self {
            code: Code::InvalidRequest,
            ..Self::not_json(reason)
        }
    }

    /// A line of more than `limit` bytes, which has been skipped: only its outline
    /// is known.
    #[must_use]
    pub fn too_long(limit: usize, outline: Outline) -> Self {
        Self {
            about: outline.kinds(),
            limit: Some(limit),
            ..Self::invalid("longer than --max-message-size")
        }
    }

    /// The memory its ids use, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let ids = self.about.iter().filter_map(|kind| match kind {
            Kind::Request(id) | Kind::Response(Some(id)) => Some(id.size()),
            _ => None,
        });
        ids.sum()
    }

    /// The id of the first request that was refused.
    #[must_use]
    pub fn id(&self) -> Option<&RequestId> {
        self.about.iter().find_map(|kind| match kind {
            Kind::Request(id) => Some(id),
            _ => None,
        })
    }

    /// The ids of the refused responses, whose requests will get no other response.
    pub fn answers(&self) -> impl Iterator<Item = &RequestId> {
        self.about.iter().filter_map(|kind| match kind {
            Kind::Response(id) => id.as_ref(),
            _ => None,
        })
    }

    /// The responses that the peer gets, one line each: one to every refused request, none to
    /// notifications and responses, and one without an id if nothing can be made out.
    #[must_use]
    pub fn replies(&self) -> Vec<Vec<u8>> {
        let reply = |id| match self.limit {
            Some(limit) => too_large_line(id, limit, Measured::AsRead),
            None => error_line(id, self.code, &self.text(), NO_DATA),
        };
        if self.about.is_empty() {
            return vec![reply(None)];
        }
        let requests = self.about.iter().filter_map(|kind| match kind {
            Kind::Request(id) => Some(reply(Some(id))),
            _ => None,
        });
        requests.collect()
    }

    /// The error message of those responses.
    #[must_use]
    pub fn text(&self) -> String {
        let kind = match self.code {
            Code::ParseError => "Parse error",
            _ => "Invalid Request",
        };
        format!("{kind}: {}", self.reason)
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Syntax => Self::not_json("not one JSON object"),
            Fault::Depth => Self::invalid(TOO_DEEP),
        }
    }
}

impl Message {
    /// A copy to keep: this one may be a small part of a large buffer.
    pub(crate) fn detached(&self) -> Self {
        Self {
            line: Bytes::copy_from_slice(&self.line),
            ..self.clone()
        }
    }

    /// The kind of this message.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The method; empty for a response.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_str()
    }

    /// The method, if it is one of MCP's.
    #[must_use]
    pub fn mcp_method(&self) -> Option<mcp::Method> {
        match self.method {
            MethodName::Mcp(method) => Some(method),
            MethodName::Other(_) => None,
        }
    }

    /// The id of a request or response.
    #[must_use]
    pub fn id(&self) -> Option<&RequestId> {
        match &self.kind {
            Kind::Request(id) => Some(id),
            Kind::Response(id) => id.as_ref(),
            Kind::Notification => None,
        }
    }

    /// True for a request whose `_meta` names the protocol version, as every request of
    /// 2026-07-28 does (basic "Metadata"), and for `server/discover`.
    #[must_use]
    pub fn is_modern(&self) -> bool {
        self.modern || self.mcp_method() == Some(mcp::Method::Discover)
    }

    /// True for a request under a notification's name, or a notification under the name of a
    /// request of MCP or with a progress token. Servers that look at the method alone would execute
    /// it, and what keeps peers apart (whose request is cancelled, whose task, whose progress) would
    /// not apply.
    pub(crate) fn is_misplaced(&self) -> bool {
        match &self.kind {
            Kind::Request(_) => mcp::is_notification_family(self.method()),
            Kind::Notification if mcp::is_notification_family(self.method()) => false,
            Kind::Notification => {
                self.progress_token.is_some() || mcp::is_request_family(self.method())
            }
            Kind::Response(_) => false,
        }
    }

    /// True when `_meta` asks for log messages (2026-07-28 server/utilities/logging).
    pub(crate) fn wants_logs(&self) -> bool {
        self.wants_logs
    }

    /// The length of the line from which this message was read, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.line.len()
    }

    /// That line.
    pub(crate) fn line(&self) -> &[u8] {
        &self.line
    }

    /// A string member of `params` that policy or router read, unescaped.
    #[must_use]
    pub fn text(&self, field: Field) -> Option<Cow<'_, str>> {
        let raw = self.raw(field)?;
        if self.fields.is_escaped(field) {
            unescape(raw)
        } else {
            plain(raw).map(Cow::Borrowed)
        }
    }

    /// The bytes of [`Message::text`], which is faster.
    pub(crate) fn text_bytes(&self, field: Field) -> Option<Cow<'_, [u8]>> {
        if !self.fields.is_escaped(field) {
            return plain_bytes(self.raw(field)?).map(Cow::Borrowed);
        }
        let text = self.text(field)?;
        Some(Cow::Owned(text.into_owned().into_bytes()))
    }

    /// The id or token in a member of `params`; for [`Field::ProgressToken`] of a request
    /// the one in `_meta`.
    #[must_use]
    pub fn quotes(&self, field: Field) -> Option<RequestId> {
        match (field, &self.kind) {
            (Field::ProgressToken, Kind::Request(_)) => {
                self.progress_token().map(|(token, _)| token.clone())
            }
            _ => self.quoted_id(field).map(|(id, _)| id),
        }
    }

    /// The JSON text of a member of `params` (or, for `_meta`, of `result`).
    pub(crate) fn raw(&self, field: Field) -> Option<&[u8]> {
        Some(self.span(field)?.of(&self.line))
    }

    /// The position of that member, for [`Edit`].
    pub(crate) fn span(&self, field: Field) -> Option<Span> {
        self.fields.get(field)
    }

    /// An id or token in a member of `params`, and its position.
    pub(crate) fn quoted_id(&self, field: Field) -> Option<(RequestId, Span)> {
        let span = self.fields.get(field)?;
        Some((quoted(span.of(&self.line))?, span))
    }

    /// `_meta.progressToken` of a request, and its position.
    pub(crate) fn progress_token(&self) -> Option<&(RequestId, Span)> {
        self.progress_token.as_deref()
    }

    /// The JSON text of `result`; `None` for anything but a successful response.
    pub(crate) fn result(&self) -> Option<&[u8]> {
        match self.payload {
            Some(("result", span)) => Some(span.of(&self.line)),
            _ => None,
        }
    }

    /// The position of `result` in its line, and that line.
    pub(crate) fn result_in_line(&self) -> Option<(Span, &[u8])> {
        match self.payload {
            Some(("result", span)) => Some((span, &self.line)),
            _ => None,
        }
    }

    /// The id of the subscription in `_meta`, and its position.
    pub(crate) fn subscription(&self) -> Option<&(RequestId, Span)> {
        self.subscription.as_deref()
    }

    /// The JSON text of `params`.
    pub(crate) fn params(&self) -> Option<&[u8]> {
        match self.payload {
            Some(("params", span)) => Some(span.of(&self.line)),
            _ => None,
        }
    }

    /// The id of the task that this response reports as created: in `task` (2025-11-25), or in the result
    /// itself (the extension of 2026-07-28).
    pub(crate) fn created_task(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Task {
            task_id: String,
        }
        let task: Option<Task> = self
            .raw(Field::Task)
            .and_then(|raw| serde_json::from_slice(raw).ok());
        task.map(|task| task.task_id)
            .or_else(|| self.text(Field::TaskId).map(|id| id.into_owned()))
    }

    /// The id of the task that `_meta` says the message belongs to (2025-11-25
    /// basic/utilities/tasks "Associating Task-Related Messages"); empty if it cannot be read.
    pub(crate) fn related_task(&self) -> Option<String> {
        let task = self.related_task?.of(&self.line);
        let id = members(task, ["taskId"]).and_then(|[id]| unescape(id?.of(task)));
        Some(id.unwrap_or_default().into_owned())
    }

    /// The JSON text of `error`; `None` for anything but an error response.
    pub(crate) fn error(&self) -> Option<&[u8]> {
        match self.payload {
            Some(("error", span)) => Some(span.of(&self.line)),
            _ => None,
        }
    }

    /// The `code` of an error response.
    pub(crate) fn error_code(&self) -> Option<i64> {
        #[derive(serde::Deserialize)]
        struct ErrorHead {
            code: i64,
        }
        let head: ErrorHead = serde_json::from_slice(self.error()?).ok()?;
        Some(head.code)
    }
}

#[cfg(test)]
mod tests;
