//! The one place where bytes become a message.
//!
//! [`Message::read`] takes one line and either understands it as exactly one JSON-RPC 2.0 request,
//! notification or response, or refuses it. [`Message::write`] writes a message anew from what was
//! understood, so that nothing a peer sent reaches a child as it was sent. Payloads are carried,
//! never rebuilt. No I/O, no policy.

mod error;
mod field;
mod id;
mod outline;
mod scan;
mod strict;

pub use error::{Code, ErrorData, Executed, NO_DATA, error_line, refusal_line};
pub use field::Field;
pub(crate) use field::{IN_NOTIFICATIONS, IN_REF};
pub use id::{MAX_ID_LENGTH, RequestId};
pub use outline::Outline;
pub(crate) use scan::{Span, unescape, write_string};
pub(crate) use strict::{elements, members};

use crate::utils::rope::{Line, Rope};
use bytes::Bytes;
use field::Fields;
use scan::{Fault, Quoted, Scanner};
use std::borrow::Cow;

/// How deep a peer's message may nest: what common readers take without complaint.
pub const MAX_PEER_DEPTH: usize = 128;

/// What a line that is written takes at once; more is rarely copied.
const MAX_RESERVED: usize = 4096;

/// How deep a child's message may nest.
pub const MAX_CHILD_DEPTH: usize = scan::MAX_DEPTH;

/// The longest line that is ever read, in bytes, whatever the settings: where things stand in it is
/// kept in 32 bits.
pub const MAX_LINE: usize = 1 << 30;

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wants an answer.
    Request(RequestId),
    /// Wants none.
    Notification,
    /// Answers; an error answer may have no id.
    Response(Option<RequestId>),
}

/// One JSON-RPC message whose head has been read.
///
/// `Debug` shows the head only, never the payload.
#[derive(Clone)]
pub struct Message {
    line: Bytes,
    kind: Kind,
    /// Borrowed where it is one of MCP's.
    method: Cow<'static, str>,
    /// `params`, `result` or `error`.
    payload: Option<(&'static str, Span)>,
    fields: Fields,
    progress_token: Option<Box<(RequestId, Span)>>,
    subscription: Option<Box<(RequestId, Span)>>,
    related_task: Option<Span>,
    modern: bool,
    wants_logs: bool,
    /// Some byte of the line would end a line, or is odd white space, for some reader.
    needs_mending: bool,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// Why a line is not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// [`Code::ParseError`] or [`Code::InvalidRequest`].
    pub code: Code,
    /// The id to answer with, when there was a valid one.
    pub id: Option<RequestId>,
    /// For the peer and the log; quotes nothing of the line.
    pub reason: &'static str,
}

impl Refusal {
    fn not_json(reason: &'static str) -> Self {
        Self {
            code: Code::ParseError,
            id: None,
            reason,
        }
    }

    fn invalid(reason: &'static str) -> Self {
        Self {
            code: Code::InvalidRequest,
            id: None,
            reason,
        }
    }

    /// The answer that the peer gets, as one line.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let kind = match self.code {
            Code::ParseError => "Parse error",
            _ => "Invalid Request",
        };
        error_line(
            self.id.as_ref(),
            self.code,
            &format!("{kind}: {}", self.reason),
            NO_DATA,
        )
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Syntax => Self::not_json("not one JSON object"),
            Fault::Depth => Self::invalid("nested too deep"),
        }
    }
}

/// A member of the outermost object that means something.
#[derive(Clone, Copy)]
enum Member {
    Jsonrpc,
    Id,
    Method,
    Params,
    Result,
    Error,
}

impl Member {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Jsonrpc, "jsonrpc"),
        (Self::Id, "id"),
        (Self::Method, "method"),
        (Self::Params, "params"),
        (Self::Result, "result"),
        (Self::Error, "error"),
    ];

    /// Which one `name` is or looks like, and whether it is exactly that.
    #[inline(always)]
    fn recognise(name: &[u8]) -> Option<(Self, bool)> {
        let exactly = match name {
            b"jsonrpc" => Self::Jsonrpc,
            b"id" => Self::Id,
            b"method" => Self::Method,
            b"params" => Self::Params,
            b"result" => Self::Result,
            b"error" => Self::Error,
            _ => return Some((Self::alike(name)?, false)),
        };
        Some((exactly, true))
    }

    #[inline(never)]
    fn alike(name: &[u8]) -> Option<Self> {
        let alike = |(_, known): &&(Self, &str)| field::folds_to(name, known);
        Self::ALL.iter().find(alike).map(|(member, _)| *member)
    }
}

/// The members of the outermost object, as found.
#[derive(Default)]
struct Head {
    spans: [Option<Span>; Member::ALL.len()],
    /// The last `method`, if it is a string.
    method_text: Option<Quoted>,
    /// A known member stood twice or under a look-alike name.
    spoiled: bool,
    id_spoiled: bool,
}

impl Head {
    fn get(&self, member: Member) -> Option<Span> {
        self.spans[member as usize]
    }

    fn note(&mut self, member: Member, exact: bool, span: Span) {
        let twice = self.spans[member as usize].is_some();
        if exact {
            self.spans[member as usize] = Some(span);
        }
        if twice || !exact {
            self.spoiled = true;
            self.id_spoiled |= matches!(member, Member::Id);
        }
    }
}

impl Message {
    /// Reads one line (without its newline), nested at most `depth` deep.
    ///
    /// # Errors
    /// A [`Refusal`] that says what to answer. The line is then not to be passed on in any form.
    pub fn read(line: Bytes, depth: usize) -> Result<Self, Refusal> {
        if line.len() > MAX_LINE {
            return Err(Refusal::invalid("longer than any message may be"));
        }
        let mut scanner = Scanner::new(&line, depth);
        let mut head = Head::default();
        let mut inner = Inner::default();
        let odd = match scanner.next_kind() {
            Some(b'{') => None,
            Some(b'[') => Some("batches are not supported"),
            _ => Some("not a JSON object"),
        };
        if let Some(reason) = odd {
            scanner.value()?;
            Self::end(&mut scanner, &line)?;
            return Err(Refusal::invalid(reason));
        }
        scanner.object(|scanner, key| {
            let known = Member::recognise(&key.text(&line));
            let span = match (known, scanner.next_kind()) {
                (Some((Member::Method, true)), Some(b'"')) => {
                    let quoted = scanner.string()?;
                    head.method_text = Some(quoted);
                    quoted.span
                }
                (Some((Member::Params | Member::Result, true)), Some(b'{')) => {
                    inner.members(scanner, &line)?
                }
                _ => scanner.value()?,
            };
            if let Some((member, exact)) = known {
                head.note(member, exact, span);
            }
            Ok::<(), Refusal>(())
        })?;
        Self::end(&mut scanner, &line)?;
        let needs_mending =
            scanner.has_odd_white() || scanner.is_not_ascii() && has_unicode_line_end(&line);
        Self::assemble(line, &head, inner, needs_mending)
    }

    fn end(scanner: &mut Scanner<'_>, line: &[u8]) -> Result<(), Refusal> {
        scanner.end()?;
        // Outside of strings everything has been found to be ASCII.
        if scanner.is_not_ascii() && simdutf8::basic::from_utf8(line).is_err() {
            return Err(Refusal::not_json("not UTF-8"));
        }
        Ok(())
    }

    fn assemble(
        line: Bytes,
        head: &Head,
        inner: Inner,
        needs_mending: bool,
    ) -> Result<Self, Refusal> {
        let id = match head.get(Member::Id) {
            Some(span) if !head.id_spoiled => RequestId::parse(span.of(&line)),
            _ => None,
        };
        // An answer is refused without its id: the id names a request of the other side.
        let answer = head.get(Member::Result).is_some() || head.get(Member::Error).is_some();
        let refuse = |reason| Refusal {
            id: if answer { None } else { id.clone() },
            ..Refusal::invalid(reason)
        };
        if head.spoiled {
            return Err(refuse("a member stands twice or under a look-alike name"));
        }
        if head.get(Member::Jsonrpc).map(|span| span.of(&line)) != Some(b"\"2.0\"") {
            return Err(refuse("jsonrpc is not \"2.0\""));
        }
        let null_id = head
            .get(Member::Id)
            .is_some_and(|span| span.of(&line) == b"null");
        if head.get(Member::Id).is_some() && id.is_none() && !(null_id && answer) {
            return Err(refuse("id is not a string or an integer"));
        }
        let method = match head.get(Member::Method) {
            Some(_) if answer => return Err(refuse("method beside result or error")),
            Some(_) => {
                let method = head.method_text.and_then(|text| read_method(text, &line));
                Some(method.ok_or_else(|| refuse("method is not a string"))?)
            }
            None => None,
        };
        // Text ends there for readers in C.
        if method.as_ref().is_some_and(|method| method.contains('\0')) {
            return Err(refuse("method holds a NUL"));
        }
        let (kind, payload) = match (&method, head.get(Member::Result), head.get(Member::Error)) {
            (Some(_), ..) => {
                let kind = id.clone().map_or(Kind::Notification, Kind::Request);
                (kind, head.get(Member::Params).map(|span| ("params", span)))
            }
            (None, Some(_), Some(_)) => return Err(refuse("result beside error")),
            (None, Some(result), None) => match id.clone() {
                Some(id) => (Kind::Response(Some(id)), Some(("result", result))),
                None => return Err(refuse("a result without an id")),
            },
            (None, None, Some(error)) => (Kind::Response(id.clone()), Some(("error", error))),
            (None, None, None) => return Err(refuse("neither method nor result nor error")),
        };
        if let Some(("params", span)) = payload
            && !matches!(span.of(&line).first(), Some(b'{' | b'['))
        {
            return Err(refuse("params is neither an object nor an array"));
        }
        if payload.is_none() && answer
            || payload.is_some_and(|(name, span)| {
                name == "error" && span.of(&line).first() != Some(&b'{')
            })
        {
            return Err(refuse("error is not an object"));
        }
        if let Some(reason) = inner.fault(method.as_deref(), &line) {
            return Err(refuse(reason));
        }
        Ok(Self {
            kind,
            method: method.unwrap_or_default(),
            payload,
            fields: inner.fields,
            progress_token: inner.progress_token,
            subscription: inner.subscription,
            related_task: inner.related_task,
            modern: inner.modern,
            wants_logs: inner.wants_logs,
            needs_mending,
            line,
        })
    }

    /// A copy to be kept: this one may be a small part of a large piece of memory.
    pub(crate) fn detached(&self) -> Self {
        Self {
            line: Bytes::copy_from_slice(&self.line),
            ..self.clone()
        }
    }

    /// What this message is.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The method; empty for a response.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
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
        self.modern || &*self.method == "server/discover"
    }

    /// True for a request under a notification's name, or a notification under the name of a
    /// request of MCP or with a progress token. Servers that look at the method alone would act on
    /// it, and what keeps peers apart (whose request is cancelled, whose task, whose progress) would
    /// not apply.
    pub(crate) fn is_misplaced(&self) -> bool {
        /// First parts of the names of MCP's requests, all revisions.
        const REQUESTS: [&str; 13] = [
            "initialize",
            "ping",
            "tools",
            "prompts",
            "resources",
            "completion",
            "logging",
            "tasks",
            "sampling",
            "elicitation",
            "roots",
            "server",
            "subscriptions",
        ];
        let is_of = |family: &str| {
            let rest = self.method.strip_prefix(family);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match &self.kind {
            Kind::Request(_) => is_of("notifications"),
            Kind::Notification if is_of("notifications") => false,
            Kind::Notification => self.progress_token.is_some() || REQUESTS.into_iter().any(is_of),
            Kind::Response(_) => false,
        }
    }

    /// True when `_meta` asks for log messages (2026-07-28 server/utilities/logging).
    pub(crate) fn wants_logs(&self) -> bool {
        self.wants_logs
    }

    /// The length of the line that this message was read from, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.line.len()
    }

    /// That line.
    pub(crate) fn line(&self) -> &[u8] {
        &self.line
    }

    /// A string member of `params` that policy or router read, escapes undone.
    #[must_use]
    pub fn text(&self, field: Field) -> Option<std::borrow::Cow<'_, str>> {
        let raw = self.raw(field)?;
        if self.fields.is_escaped(field) {
            scan::unescape(raw)
        } else {
            scan::plain(raw).map(Cow::Borrowed)
        }
    }

    /// The id or token that a member of `params` quotes; for [`Field::ProgressToken`] of a request
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

    /// Where that member stands, for [`Edit`].
    pub(crate) fn span(&self, field: Field) -> Option<Span> {
        self.fields.get(field)
    }

    /// An id or token that a member of `params` quotes, and where.
    pub(crate) fn quoted_id(&self, field: Field) -> Option<(RequestId, Span)> {
        let span = self.fields.get(field)?;
        Some((quoted(span.of(&self.line))?, span))
    }

    /// `_meta.progressToken` of a request, and where it stands.
    pub(crate) fn progress_token(&self) -> Option<&(RequestId, Span)> {
        self.progress_token.as_deref()
    }

    /// The JSON text of `result`; `None` for anything but a success.
    pub(crate) fn result(&self) -> Option<&[u8]> {
        match self.payload {
            Some(("result", span)) => Some(span.of(&self.line)),
            _ => None,
        }
    }

    /// Where `result` stands in its line, and that line.
    pub(crate) fn result_in_line(&self) -> Option<(Span, &[u8])> {
        match self.payload {
            Some(("result", span)) => Some((span, &self.line)),
            _ => None,
        }
    }

    /// The id of the subscription that `_meta` quotes, and where it stands.
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

    /// The id of the task that this answer says was made: in `task` (2025-11-25), or in the result
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
    /// basic/utilities/tasks "Associating Task-Related Messages"); empty where that cannot be read.
    pub(crate) fn related_task(&self) -> Option<String> {
        let task = self.related_task?.of(&self.line);
        let id = members(task, ["taskId"]).and_then(|[id]| scan::unescape(id?.of(task)));
        Some(id.unwrap_or_default().into_owned())
    }

    /// The JSON text of `error`; `None` for anything but a failure.
    pub(crate) fn error(&self) -> Option<&[u8]> {
        match self.payload {
            Some(("error", span)) => Some(span.of(&self.line)),
            _ => None,
        }
    }

    /// The `code` of an error answer.
    pub(crate) fn error_code(&self) -> Option<i64> {
        #[derive(serde::Deserialize)]
        struct ErrorHead {
            code: i64,
        }
        let head: ErrorHead = serde_json::from_slice(self.error()?).ok()?;
        Some(head.code)
    }

    /// A copy of the JSON text of a member of `params`, fit to be written into another line.
    pub(crate) fn carry(&self, field: Field) -> Option<Vec<u8>> {
        let mut text = Rope::default();
        self.copy(self.span(field)?, &mut text);
        Some(text.into_pieces().concat())
    }

    /// Appends this message as one line with its newline: `id` in the place of its own, each edit
    /// in the place of its span. Edits must be in order and lie inside the payload.
    pub(crate) fn write(&self, id: Option<&RequestId>, edits: &[Edit<'_>], out: &mut Rope) {
        let head = out.small();
        head.reserve(self.line.len().min(MAX_RESERVED) + 32);
        head.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
        match (&self.kind, id) {
            (Kind::Notification, _) => {}
            (_, Some(id)) => {
                head.extend_from_slice(b",\"id\":");
                id.write(head);
            }
            (_, None) => head.extend_from_slice(b",\"id\":null"),
        }
        match &self.method {
            _ if matches!(self.kind, Kind::Response(_)) => {}
            // MCP's own have nothing to escape.
            Cow::Borrowed(known) => {
                head.extend_from_slice(b",\"method\":\"");
                head.extend_from_slice(known.as_bytes());
                head.push(b'"');
            }
            Cow::Owned(method) => {
                head.extend_from_slice(b",\"method\":");
                write_string(method, head);
            }
        }
        if let Some((name, span)) = self.payload {
            head.extend_from_slice(b",\"");
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b"\":");
            let mut at = span.start;
            for edit in edits {
                self.copy(
                    Span {
                        start: at,
                        end: edit.span.start,
                    },
                    out,
                );
                edit.with.write(out.small());
                at = edit.span.end;
            }
            self.copy(
                Span {
                    start: at,
                    end: span.end,
                },
                out,
            );
        }
        out.extend(b"}\n");
    }

    /// As [`Message::write`], into a line of its own.
    pub(crate) fn to_line(&self, id: Option<&RequestId>, edits: &[Edit<'_>]) -> Line {
        let mut line = Rope::default();
        self.write(id, edits, &mut line);
        line.into()
    }

    fn copy(&self, span: Span, out: &mut Rope) {
        let text = span.of(&self.line);
        if self.needs_mending {
            mend(text, out.small());
        } else {
            out.share(&self.line, text);
        }
    }
}

/// What [`Message::write`] puts in the place of a part of the payload.
pub(crate) struct Edit<'a> {
    pub span: Span,
    pub with: Replacement<'a>,
}

/// An id, or JSON text.
pub(crate) enum Replacement<'a> {
    Id(&'a RequestId),
    Json(&'a [u8]),
}

impl Replacement<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Id(id) => id.write(out),
            Self::Json(text) => out.extend_from_slice(text),
        }
    }
}

/// What is found inside `params` or `result` while the line is read once.
#[derive(Default)]
struct Inner {
    fields: Fields,
    progress_token: Option<Box<(RequestId, Span)>>,
    subscription: Option<Box<(RequestId, Span)>>,
    related_task: Option<Span>,
    modern: bool,
    wants_logs: bool,
    meta_fault: Option<&'static str>,
}

impl Inner {
    fn members(&mut self, scanner: &mut Scanner<'_>, line: &[u8]) -> Result<Span, Fault> {
        scanner.spanned(|scanner| {
            scanner.object(|scanner, key| {
                let found = Fields::recognise(&key.text(line));
                let kind = scanner.next_kind();
                let mut plain = true;
                let span = match (found, kind) {
                    (Some((Field::Meta, true)), Some(b'{')) => self.meta(scanner, line)?,
                    (Some(_), Some(b'"')) => {
                        let quoted = scanner.string()?;
                        plain = quoted.plain;
                        quoted.span
                    }
                    _ => scanner.value()?,
                };
                if matches!(found, Some((Field::Meta, true))) && !matches!(kind, Some(b'{' | b'n'))
                {
                    self.meta_fault = Some("_meta is not an object");
                }
                if let Some((field, exact)) = found {
                    self.fields.note(field, exact, span, plain);
                }
                Ok::<(), Fault>(())
            })
        })
    }

    fn meta(&mut self, scanner: &mut Scanner<'_>, line: &[u8]) -> Result<Span, Fault> {
        scanner.spanned(|scanner| {
            scanner.object(|scanner, key| {
                let span = scanner.value()?;
                let name = key.text(line);
                match Fields::recognise(&name) {
                    Some((Field::ProgressToken, true)) if self.progress_token.is_none() => {
                        match quoted(span.of(line)) {
                            Some(token) => self.progress_token = Some((token, span).into()),
                            None => {
                                self.meta_fault =
                                    Some("progressToken is not a string or an integer")
                            }
                        }
                    }
                    Some((Field::ProgressToken, _)) => {
                        self.meta_fault =
                            Some("progressToken stands twice or under a look-alike name");
                    }
                    _ => self.modern_meta(&name, span, line),
                }
                Ok::<(), Fault>(())
            })
        })
    }

    /// The members of `_meta` that MCP names; each counts under its exact name only, and
    /// once.
    fn modern_meta(&mut self, name: &[u8], span: Span, line: &[u8]) {
        let twice = match name.strip_prefix(b"io.modelcontextprotocol/") {
            Some(b"protocolVersion") => std::mem::replace(&mut self.modern, true),
            Some(b"logLevel") => std::mem::replace(&mut self.wants_logs, true),
            Some(b"subscriptionId") => {
                let first = RequestId::parse(span.of(line)).map(|id| (id, span).into());
                std::mem::replace(&mut self.subscription, first).is_some()
            }
            Some(b"related-task") => self.related_task.replace(span).is_some(),
            _ => false,
        };
        if twice {
            self.meta_fault = Some("a member of _meta stands twice");
        }
    }

    /// What makes a message with this method invalid, if anything.
    fn fault(&self, method: Option<&str>, line: &[u8]) -> Option<&'static str> {
        let read = method.map_or(&[][..], field::read_by);
        let spoiled = self.fields.is_spoiled(Field::Meta)
            || read.iter().any(|field| self.fields.is_spoiled(*field))
            || method.is_some_and(|method| strict::is_spoiled_within(method, &self.fields, line));
        if spoiled && method.is_some() {
            return Some("a member of params stands twice or under a look-alike name");
        }
        // Half a surrogate pair: Go reads another text than Python and Node do. NUL: C does.
        let no_text = |field: &Field| {
            let raw = self.fields.get(*field).map(|span| span.of(line));
            self.fields.is_escaped(*field)
                && raw.is_some_and(|raw| scan::unescape(raw).is_none_or(|text| text.contains('\0')))
        };
        if read.iter().any(no_text) {
            return Some("a member of params holds half a surrogate pair, or a NUL");
        }
        self.meta_fault.filter(|_| method.is_some())
    }
}

/// A method, escapes undone; `None` for what is no string. Those of MCP need no memory of their own.
fn read_method(quoted: Quoted, line: &[u8]) -> Option<Cow<'static, str>> {
    if let Some(known) = field::known_method(&quoted.text(line)) {
        return Some(Cow::Borrowed(known));
    }
    scan::unescape(quoted.span.of(line)).map(|text| Cow::Owned(text.into_owned()))
}

/// An id or token that stands in a payload, which may reach the child as it is: there `-0` would be
/// an integer to some readers only.
fn quoted(raw: &[u8]) -> Option<RequestId> {
    RequestId::parse(raw).filter(|_| raw != b"-0")
}

/// A JSON array with only those elements that `keep` is true of, their text unchanged. What is no
/// array becomes an empty one.
pub(crate) fn filter_array(list: &[u8], mut keep: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut kept = b"[".to_vec();
    let mut scanner = Scanner::new(list, scan::MAX_DEPTH);
    let read = scanner.array(|scanner| {
        let element = scanner.value()?.of(list);
        if keep(element) {
            if kept.len() > 1 {
                kept.push(b',');
            }
            kept.extend_from_slice(element);
        }
        Ok::<(), Fault>(())
    });
    if read.is_err() {
        kept.truncate(1);
    }
    kept.push(b']');
    kept
}

/// True when the line holds U+0085, U+2028 or U+2029, which end a line for some readers.
fn has_unicode_line_end(line: &[u8]) -> bool {
    [&b"\xc2\x85"[..], b"\xe2\x80\xa8", b"\xe2\x80\xa9"]
        .iter()
        .any(|end| memchr::memmem::find(line, end).is_some())
}

/// Copies valid JSON so that no reader finds the end of a line in it: control characters can only
/// stand between values there, U+0085, U+2028 and U+2029 only inside strings.
fn mend(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (0..=0x1f, _) => out.push(b' '),
            (0xc2, [0x85, tail @ ..]) => {
                out.extend(b"\\u0085");
                rest = tail;
            }
            (0xe2, [0x80, end @ (0xa8 | 0xa9), tail @ ..]) => {
                out.extend(if *end == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                rest = tail;
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests;
