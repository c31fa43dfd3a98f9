//! Bounds on lines as they are written, which may be longer than the lines that were read: some
//! characters become escapes, and ids are replaced by longer ones.

use super::losses::Loss;
use super::{Output, ProcessId, Router, SessionId, process};
use crate::jsonrpc::{
    Code, Edit, ErrorData, Executed, Field, Kind, Message, Replacement, RequestId, error_line,
};

/// The longest lines, in bytes, their newlines not counted.
#[derive(Clone, Copy, Debug)]
pub struct LineLimits {
    /// Of what a peer has said, for a process.
    pub to_child: usize,
    /// For a peer.
    pub to_peer: usize,
}

impl Default for LineLimits {
    /// No bounds.
    fn default() -> Self {
        Self {
            to_child: usize::MAX,
            to_peer: usize::MAX,
        }
    }
}

/// A peer's message was not passed on: the line for the process would be longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The bound, in bytes.
    pub limit: usize,
}

/// The most ids that the router takes for itself before a peer's request gets its own: to ask for the
/// era, and for the handshake.
const IDS_BEFORE: usize = 2;

/// The longest text that takes the place of a log level.
const LONGEST_LEVEL: Replacement<'static> = Replacement::Json(b"\"emergency\"");

impl Output {
    /// Sends a peer what a process has said. Where the line would be longer than the peer takes, an
    /// answer is replaced by an error; anything else is dropped. True where it is sent as it is.
    pub(super) fn deliver(
        &mut self,
        to: SessionId,
        message: &Message,
        id: Option<&RequestId>,
        edits: &[Edit<'_>],
    ) -> bool {
        if self.takes(message, id, edits) {
            self.to_peer.push((to, message.to_line(id, edits)));
            return true;
        }
        if let (Kind::Response(_), Some(id)) = (message.kind(), id) {
            self.to_peer.push((to, Loss::TOO_LARGE.answer(id).into()));
        }
        false
    }

    /// False, with a log line, where the line for a peer would be too long.
    pub(super) fn takes(
        &self,
        message: &Message,
        id: Option<&RequestId>,
        edits: &[Edit<'_>],
    ) -> bool {
        let limit = self.limits.to_peer;
        let fits = !message.outgrows(limit, id, edits);
        if !fits {
            tracing::error!(
                limit,
                "dropped a message of the MCP server: the line for the client would be too long"
            );
        }
        fits
    }

    /// For a peer's answer that is too long for the process: answers the question with an error.
    pub(super) fn answer_too_large(&mut self, process: ProcessId, id: &RequestId) {
        let data = ErrorData::new("answer-too-large", Executed::Unknown);
        let text = "The client's answer is too large";
        self.answer(
            process,
            &error_line(Some(id), Code::InternalError, text, Some(&data)),
        );
    }
}

impl Router {
    /// Refuses a peer's message whose line for the process would be too long, before it has changed
    /// anything. An answer that is refused fails the question that it was for.
    #[cold]
    pub(super) fn check_length(
        &mut self,
        from: SessionId,
        message: &Message,
        out: &mut Output,
    ) -> Result<(), TooLarge> {
        let limit = out.limits.to_child;
        let fits = match message.kind() {
            Kind::Request(_) => {
                let id = self.id_at_most();
                !message.outgrows(limit, Some(&id), &request_edits(message, &id))
                    && fits_when_told_again(message, limit)
            }
            Kind::Notification => {
                let id = self.id_at_most();
                let edit = match message.method() {
                    "notifications/cancelled" => quoted(message, Field::RequestId, &id),
                    "notifications/progress" => self.progress_edit(from, message),
                    _ => None,
                };
                !message.outgrows(limit, None, edit.as_slice())
            }
            Kind::Response(id) => self.fits_answer(from, id.as_ref(), message, out),
        };
        if fits {
            Ok(())
        } else {
            Err(TooLarge { limit })
        }
    }

    /// An id at least as long as that which the next request gets.
    fn id_at_most(&self) -> RequestId {
        let parked: usize = self
            .processes
            .iter()
            .map(|process| process.asks.parked())
            .sum();
        let before = i64::try_from(IDS_BEFORE + parked).unwrap_or(i64::MAX);
        RequestId::Number(self.next_id.saturating_add(before).saturating_add(1))
    }

    fn progress_edit<'a>(&'a self, from: SessionId, message: &Message) -> Option<Edit<'a>> {
        let Some((RequestId::Number(ours), span)) = message.quoted_id(Field::ProgressToken) else {
            return None;
        };
        let mut asked = self
            .processes
            .iter()
            .filter_map(|process| process.asks.get(ours, from));
        let token = asked.find_map(|ask| ask.progress_token.as_ref())?;
        let with = Replacement::Id(token);
        Some(Edit { span, with })
    }

    fn fits_answer(
        &mut self,
        from: SessionId,
        id: Option<&RequestId>,
        message: &Message,
        out: &mut Output,
    ) -> bool {
        let Some(RequestId::Number(ours)) = id else {
            return true;
        };
        for process in ProcessId::ALL {
            let asks = &mut self.processes[process.0].asks;
            let Some(ask) = asks.get(*ours, from) else {
                continue;
            };
            let fits = !message.outgrows(out.limits.to_child, Some(&ask.id), &[]);
            if !fits && let Some(ask) = asks.take(*ours, from) {
                out.answer_too_large(process, &ask.id);
            }
            return fits;
        }
        true
    }
}

/// What a request is changed in, at most, where its process gets it under `id`.
fn request_edits<'a>(message: &Message, id: &'a RequestId) -> Vec<Edit<'a>> {
    let mut edits = Vec::new();
    if let Some((_, span)) = message.progress_token() {
        let with = Replacement::Id(id);
        edits.push(Edit { span: *span, with });
    }
    if let (Some(span), "logging/setLevel") = (message.span(Field::Level), message.method()) {
        let with = LONGEST_LEVEL;
        edits.push(Edit { span, with });
    }
    edits.sort_by_key(|edit| edit.span.start);
    edits
}

fn quoted<'a>(message: &Message, field: Field, id: &'a RequestId) -> Option<Edit<'a>> {
    let (_, span) = message.quoted_id(field)?;
    let with = Replacement::Id(id);
    Some(Edit { span, with })
}

/// True where the lines that the router makes itself of parts of a request, then and for each process
/// that follows, are no longer than `limit` either.
fn fits_when_told_again(message: &Message, limit: usize) -> bool {
    match message.method() {
        "resources/subscribe" => message
            .text(Field::Uri)
            .is_none_or(|uri| process::fits_request("resources/unsubscribe", "uri", &uri, limit)),
        _ => true,
    }
}
