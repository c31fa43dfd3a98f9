//! Bounds on lines as they are written, which may be longer than the lines that were read: some
//! characters become escapes, and ids are replaced by longer ones.

use super::wire_ids::SOME_ID;
use super::{Output, Router, SessionId, process, requests};
use crate::jsonrpc::{Edit, Field, Kind, Message, Replacement, RequestId};
use crate::mcp::Method;

/// A peer's message was not passed on: the line for the process would be longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The bound, in bytes.
    pub limit: usize,
}

/// The longest text that replaces a log level.
const LONGEST_LEVEL: Replacement<'static> = Replacement::Json(b"\"emergency\"");

impl Router {
    /// Refuses a peer's message whose line for the process would be too long, before it has changed
    /// any state. A refused answer fails its server request.
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
                !message.outgrows(
                    limit,
                    Some(&SOME_ID),
                    &requests::edits(message, &SOME_ID, LONGEST_LEVEL),
                ) && fits_when_told_again(message, limit)
            }
            Kind::Notification => {
                let edit = match message.mcp_method() {
                    Some(Method::Cancelled) => quoted(message, Field::RequestId, &SOME_ID),
                    Some(Method::Progress) => self.progress_edit(from, message),
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

    fn progress_edit<'a>(&'a self, from: SessionId, message: &Message) -> Option<Edit<'a>> {
        let Some((RequestId::Number(ours), span)) = message.quoted_id(Field::ProgressToken) else {
            return None;
        };
        let mut asked = self
            .processes
            .iter()
            .filter_map(|process| process.server_requests.get(ours, from));
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
        for process in &mut self.processes {
            let Some(request) = process.server_requests.get(*ours, from) else {
                continue;
            };
            let fits = !message.outgrows(out.limits.to_child, Some(&request.id), &[]);
            if !fits && let Some(request) = process.server_requests.take(*ours, from) {
                out.answer_too_large(process.id, &request.id);
            }
            return fits;
        }
        true
    }
}

fn quoted<'a>(message: &Message, field: Field, id: &'a RequestId) -> Option<Edit<'a>> {
    let (_, span) = message.quoted_id(field)?;
    let with = Replacement::Id(id);
    Some(Edit { span, with })
}

/// True if the lines that the router itself builds from parts of a request, now and for later processes, are
/// no longer than `limit` either.
fn fits_when_told_again(message: &Message, limit: usize) -> bool {
    match message.mcp_method() {
        Some(Method::Subscribe) => message
            .text(Field::Uri)
            .is_none_or(|uri| process::fits_request("resources/unsubscribe", "uri", &uri, limit)),
        _ => true,
    }
}
