//! From the process of an isolated session to its peer.

use super::{IsolatedRouter, MAX_ASKED, MAX_PROGRESS, unreachable};
use crate::json::Span;
use crate::jsonrpc::{Edit, Field, Kind, Message, Replacement, RequestId};
use crate::mcp::Method;
use crate::router::changes::List;
use crate::router::{Loss, Output, ProcessId, own_answer};
use std::time::Instant;

impl IsolatedRouter {
    /// Handles a message from the child; `now` is called only if something has to be delayed.
    pub fn child_message(
        &mut self,
        message: &Message,
        now: impl Fn() -> Instant,
        out: &mut Output,
    ) {
        match message.kind() {
            Kind::Request(id) => self.server_request(id, message, now, out),
            Kind::Response(Some(id)) if self.tools.asked() == Some(id) => {
                self.tools_told(message, now, out)
            }
            Kind::Response(Some(id)) => self.answer(id, message, out),
            Kind::Response(None) => self.pass_on(message, now, out),
            Kind::Notification => self.notification(message, now, out),
        }
    }

    /// The process has answered what it was asked about its tools.
    fn tools_told(&mut self, message: &Message, now: impl Fn() -> Instant, out: &mut Output) {
        let next = self.own_id();
        let first = ProcessId::FIRST;
        self.tools.answered(message, now(), || next, first, out);
    }

    /// Passes on a server request, if the peer can receive it.
    fn server_request(
        &mut self,
        id: &RequestId,
        message: &Message,
        now: impl Fn() -> Instant,
        out: &mut Output,
    ) {
        if self.is_kept_from(message.method()) {
            return out.answer(
                ProcessId::FIRST,
                &own_answer::nobody_to_ask(id, message.method()),
            );
        }
        if self.half_closed {
            return out.answer(ProcessId::FIRST, &unreachable(id));
        }
        if !out.takes(message, Some(id), &[]) {
            return out.answer(ProcessId::FIRST, &Loss::TOO_LARGE.request(id));
        }
        if self.asked.len() >= MAX_ASKED {
            self.asked.pop_front();
        }
        out.timed |= self.asked.is_empty();
        self.asked.push_back((id.clone(), now()));
        self.pass_on(message, now, out);
    }

    fn notification(&mut self, message: &Message, now: impl Fn() -> Instant, out: &mut Output) {
        match message.mcp_method() {
            Some(Method::ToolsChanged) => self.tools.outdate(),
            Some(Method::Progress) => return self.progress(message, out),
            Some(Method::Cancelled) => {
                if let Some((id, _)) = message.quoted_id(Field::RequestId) {
                    self.asked.retain(|(asked, _)| *asked != id);
                }
            }
            _ if !self.may_hear(message) => {
                tracing::debug!("dropped a notification that the peer may not get");
                return;
            }
            _ => {}
        }
        self.pass_on(message, now, out);
    }

    /// Sends the peer a message under the subscription that it quotes, by the peer's own id.
    fn pass_on(&mut self, message: &Message, now: impl Fn() -> Instant, out: &mut Output) {
        let subscription = self.subscription(message);
        let renamed = subscription.as_ref().filter(|(_, _, is_other)| *is_other);
        let edit = renamed.map(|(id, span, _)| Edit {
            span: *span,
            with: Replacement::Id(id),
        });
        let edits = edit.as_slice();
        // One under an unknown subscription is dropped.
        let is_known = message.subscription().is_none() || subscription.is_some();
        let list = List::of(message).filter(|_| is_known && out.takes(message, None, edits));
        let Some(list) = list else {
            out.deliver(Self::SESSION, message, message.id(), edits);
            return;
        };
        let line = message.to_line(None, edits);
        let receiver = subscription.map(|(id, _, _)| id);
        out.timed |= self.changes.is_empty();
        let line = self.changes.admit(receiver, list, line, now());
        out.to_peer
            .extend(line.map(|line| (Self::SESSION, line.into())));
    }

    /// Handles an answer of the child, under the peer's id or another spelling of it.
    fn answer(&mut self, id: &RequestId, message: &Message, out: &mut Output) {
        let id = retyped(id, |id| self.in_flight.contains_key(id));
        let Some((id, open)) = id.and_then(|id| self.close(&id)) else {
            tracing::debug!("dropped an answer that nobody waits for");
            return;
        };
        self.tools.tell_ready(out);
        if open.cancelled {
            tracing::debug!("dropped the answer to a request that was cancelled");
            return;
        }
        if let Some(token) = open.token
            && message.created_task().is_some()
        {
            self.of_tasks.push_back(token);
            if self.of_tasks.len() > MAX_PROGRESS {
                self.of_tasks.pop_front();
            }
        }
        // A server that changes the type of ids may mean the list that is pending under a similar
        // one.
        let mut alike = spellings(&id).into_iter().flatten();
        let alike = alike.find_map(|other| self.in_flight.get(&other)?.filter.as_ref());
        let edits = match open.filter.as_ref().or(alike) {
            Some(filter) => filter.edits(message).ok(),
            None => Some(Vec::new()),
        };
        match edits {
            Some(edits) => {
                out.deliver(Self::SESSION, message, Some(&id), &edits);
            }
            None => out.tell(Self::SESSION, own_answer::unreadable_list(&id)),
        }
    }

    /// Passes on progress if the peer has chosen its token and still waits.
    fn progress(&self, message: &Message, out: &mut Output) {
        let quoted = message.quoted_id(Field::ProgressToken);
        let is_good =
            |token: &RequestId| self.tokens.contains_key(token) || self.of_tasks.contains(token);
        let found = quoted.and_then(|(token, span)| Some((retyped(&token, is_good)?, span)));
        let Some((token, span)) = found else {
            tracing::debug!("dropped progress that nobody asked for");
            return;
        };
        let edit = Edit {
            span,
            with: Replacement::Id(&token),
        };
        out.deliver(Self::SESSION, message, None, &[edit]);
    }

    /// The subscription that a notification quotes, by the peer's own id, and whether that is
    /// spelled differently.
    fn subscription(&self, message: &Message) -> Option<(RequestId, Span, bool)> {
        let (quoted, span) = message.subscription()?;
        let id = retyped(quoted, |id| self.in_flight.contains_key(id))?;
        let is_other = id != *quoted;
        Some((id, *span, is_other))
    }

    fn is_kept_from(&self, method: &str) -> bool {
        let profile = self.profile.as_ref();
        profile.is_some_and(|profile| profile.is_kept_from(method))
    }

    fn may_hear(&self, message: &Message) -> bool {
        let profile = self.profile.as_ref();
        profile.is_some_and(|profile| profile.may_hear(message))
    }
}

/// The peer's spelling of `id`, if it `knows` it: some servers return a number as a string, or as `3.0`, and
/// vice versa.
fn retyped(id: &RequestId, knows: impl Fn(&RequestId) -> bool) -> Option<RequestId> {
    if knows(id) {
        return Some(id.clone());
    }
    spellings(id)?.into_iter().find(knows)
}

/// The other spellings of this id.
fn spellings(id: &RequestId) -> Option<[RequestId; 2]> {
    let number = id.integer()?;
    let text = number.to_string().into();
    Some([RequestId::Number(number), RequestId::String(text)])
}
