//! The router's other direction: what a process of the MCP server says, and to whom.

use super::addressee::Addressee;
use super::asks;
use super::changes::List;
use super::from_peer::OwnAnswer;
use super::levels::Level;
use super::listen_requests::changes_after_renewal;
use super::lists;
use super::pending::{Pending, Purpose};
use super::process::{Process, Service};
use super::{Output, ProcessId, Receiver, Router, SessionId};
use crate::jsonrpc::{Edit, Field, Kind, Message, Replacement, RequestId};
use serde::Deserialize;
use std::time::Instant;

impl Router {
    /// A message from a process; `now` is asked for only where something has to wait for its time.
    pub fn child_message(
        &mut self,
        process: ProcessId,
        message: &Message,
        now: impl FnOnce() -> Instant,
        out: &mut Output,
    ) {
        match message.kind() {
            Kind::Response(Some(id)) => match id.integer() {
                Some(ours) => self.answer(process, ours, message, out),
                None => tracing::debug!(%id, "dropped an answer to nothing that was asked"),
            },
            Kind::Response(_) => {
                // Some servers answer notifications so.
                tracing::debug!("dropped an answer of the MCP server without an id");
            }
            Kind::Request(id) => self.request_of_child(process, id, message, now, out),
            Kind::Notification => self.notification_of_child(process, message, now, out),
        }
    }

    fn answer(&mut self, process: ProcessId, ours: i64, message: &Message, out: &mut Output) {
        let state = &mut self.processes[process.0];
        state.answered(process, ours, self.next_id, out);
        if state.handshake_is_answered_by(ours) {
            self.handshake_answered(process, message, out);
            return;
        }
        if state.service == Service::Probing(ours) {
            self.discovered(process, message, out);
            return;
        }
        if state.service == Service::Returning(Some(ours)) {
            state.service = Service::Modern;
            self.renew_listen_requests(process, out);
            return;
        }
        state.forgotten.answered(ours);
        let agreed = message.result().is_some();
        if let Some(waiting) = state.subscriptions.answered(ours, agreed) {
            self.subscribed(process, ours, &waiting, message, out);
            return;
        }
        let Some(pending) = state.end(ours) else {
            tracing::debug!(
                id = ours,
                "dropped a late answer, or one to the router itself"
            );
            return;
        };
        let Some(session) = self.sessions.get_mut(&pending.session) else {
            return;
        };
        let waits = session.answered(&pending.id, ours);
        let mut list = None;
        let mut readable = true;
        let mut edits: Vec<Edit<'_>> = Vec::new();
        match &pending.purpose {
            Purpose::SetLevel(_) if message.result().is_none() => {
                session.level = None;
                // What it was told before was what the others want.
                let needed = self.most_verbose();
                self.processes[process.0].level = needed;
            }
            Purpose::ListTasks if message.result().is_some() => {
                let tasks = message.span(Field::Tasks).zip(message.raw(Field::Tasks));
                list =
                    tasks.map(|(span, raw)| (span, state.tasks.filter(raw, &session.profile.user)));
                readable = list.is_some();
            }
            Purpose::List(filter) => match filter.edits(message) {
                Ok(cuts) => edits = cuts,
                Err(_) => readable = false,
            },
            Purpose::Forward | Purpose::OfTask => {
                let made_task = state.tasks.note(message, &session.profile.user);
                if let Some(token) = pending.progress_token.filter(|_| made_task && waits) {
                    state.tasks.keep_progress(ours, pending.session, token);
                }
                for elicitation in asks::elicitations_required(message) {
                    let of = Addressee::new(pending.session, &session.owner);
                    state.asks.remember_elicitation(elicitation, of);
                }
            }
            _ => {}
        }
        if !waits {
            tracing::debug!(
                id = ours,
                "dropped the answer to a request that was cancelled"
            );
            return;
        }
        if !readable {
            let line = lists::unreadable(&pending.id);
            out.to_peer.push((pending.session, line.into()));
            return;
        }
        if let Some((span, list)) = &list {
            edits.push(Edit {
                span: *span,
                with: Replacement::Json(list),
            });
        }
        if let Some((quoted, span)) = message.subscription()
            && quoted.integer() == Some(ours)
        {
            edits.push(Edit {
                span: *span,
                with: Replacement::Id(&pending.id),
            });
        }
        edits.sort_by_key(|edit| edit.span.start);
        out.deliver(pending.session, message, Some(&pending.id), &edits);
    }

    /// The child has answered a `resources/subscribe`, and with it all who asked for the same
    /// meanwhile.
    fn subscribed(
        &mut self,
        process: ProcessId,
        via: i64,
        waiting: &[i64],
        answer: &Message,
        out: &mut Output,
    ) {
        for ours in waiting {
            let Some(Pending { session, id, .. }) = self.processes[process.0].end(*ours) else {
                continue;
            };
            let waits = match self.sessions.get_mut(&session) {
                Some(session) => session.answered(&id, *ours),
                None => false,
            };
            if !waits {
                continue;
            }
            if *ours == via || answer.result().is_none() {
                out.deliver(session, answer, Some(&id), &[]);
            } else {
                out.to_peer
                    .push((session, OwnAnswer::Done.to_line(&id).into()));
            }
        }
    }

    /// The legacy sessions that broadcasts go to.
    pub(super) fn receivers(&self, wanted: impl Fn(&super::Session) -> bool) -> Vec<SessionId> {
        let legacy = self
            .sessions
            .iter()
            .filter(|(_, session)| session.hears_broadcasts());
        legacy
            .filter(|(_, session)| wanted(session))
            .map(|(id, _)| *id)
            .collect()
    }

    fn notification_of_child(
        &mut self,
        process: ProcessId,
        message: &Message,
        now: impl FnOnce() -> Instant,
        out: &mut Output,
    ) {
        if message.subscription().is_some() {
            self.subscription_notification(process, message, now, out);
            return;
        }
        let receivers = match message.method() {
            "notifications/progress" => return self.progress(process, message, out),
            "notifications/cancelled" => return self.cancelled_by_child(process, message, out),
            "notifications/message" if self.processes[process.0].service != Service::Legacy => {
                // Log messages of a modern server belong to a request that wanted them, but do not
                // say to which (2026-07-28 server/utilities/logging): they are passed on only where
                // one peer alone has such a request in flight.
                let reader = self.processes[process.0].in_flight.only_log_reader();
                reader.into_iter().collect()
            }
            // Modern servers send nothing else without a subscription.
            _ if self.processes[process.0].service != Service::Legacy => Vec::new(),
            "notifications/message" => {
                let level = message
                    .text(Field::Level)
                    .and_then(|name| Level::parse(&name));
                let told = self.processes[process.0].level;
                let unasked = told.map(|_| Level::UNASKED);
                self.receivers(|session| {
                    let threshold = session.level.or(unasked);
                    threshold.is_none_or(|threshold| level.is_none_or(|level| level >= threshold))
                })
            }
            "notifications/resources/updated" => match message.text(Field::Uri) {
                Some(uri) => {
                    let mut interested =
                        self.processes[process.0].subscriptions.interested_in(&uri);
                    interested.retain(|id| self.may_hear(*id, message));
                    interested.into_iter().collect()
                }
                None => Vec::new(),
            },
            "notifications/tasks/status" | "notifications/tasks" => {
                match message.text(Field::TaskId) {
                    Some(task) => {
                        let tasks = &self.processes[process.0].tasks;
                        self.receivers(|session| tasks.is_owned_by(&task, &session.profile.user))
                    }
                    None => Vec::new(),
                }
            }
            "notifications/elicitation/complete" => self.elicitation_complete(process, message),
            _ => self.receivers(|_| true),
        };
        if receivers.is_empty() {
            tracing::debug!(
                method = message.method(),
                "dropped a notification that is for nobody"
            );
            return;
        }
        if !out.takes(message, None, &[]) {
            return;
        }
        let line = message.to_line(None, &[]);
        let to_all = receivers.into_iter().map(|session| (session, line.clone()));
        let Some(list) = List::of(message) else {
            out.to_peer.extend(to_all);
            return;
        };
        let now = now();
        for (session, line) in to_all {
            let receiver = Receiver::Session(session);
            self.tell_change(receiver, session, list, line, now, out);
        }
    }

    fn may_hear(&self, session: SessionId, message: &Message) -> bool {
        let session = self.sessions.get(&session);
        session.is_some_and(|session| session.profile.may_hear(message))
    }

    fn elicitation_complete(&mut self, process: ProcessId, message: &Message) -> Vec<SessionId> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Params {
            elicitation_id: String,
        }
        let params: Option<Params> = message
            .params()
            .and_then(|raw| serde_json::from_slice(raw).ok());
        let asked = params.and_then(|params| {
            self.processes[process.0]
                .asks
                .take_elicitation(&params.elicitation_id)
        });
        asked.into_iter().collect()
    }

    /// Progress goes to the peer whose request it is, under the token which that peer chose.
    fn progress(&mut self, process: ProcessId, message: &Message, out: &mut Output) {
        let quoted = message.quoted_id(Field::ProgressToken);
        let Process {
            in_flight, tasks, ..
        } = &self.processes[process.0];
        let token = quoted.as_ref().and_then(|(token, _)| token.integer());
        let asker = token.and_then(|ours| match in_flight.get(ours) {
            Some(pending) => {
                let session = self.sessions.get(&pending.session)?;
                let waits = session.waits_for(&pending.id, ours);
                let token = pending.progress_token.as_ref().filter(|_| waits)?;
                Some((pending.session, token))
            }
            None => tasks.progress_of(ours),
        });
        let (Some((_, span)), Some((session, token))) = (quoted, asker) else {
            tracing::debug!("dropped progress that nobody asked for");
            return;
        };
        let edit = Edit {
            span,
            with: Replacement::Id(token),
        };
        out.deliver(session, message, None, &[edit]);
    }

    /// The child takes a question back, or (2026-07-28) ends a subscription.
    fn cancelled_by_child(&mut self, process: ProcessId, message: &Message, out: &mut Output) {
        let Some((id, span)) = message.quoted_id(Field::RequestId) else {
            return;
        };
        let state = &mut self.processes[process.0];
        state.asks.drop_parked(&id);
        if let Some((ours, ask)) = state.asks.take_by_child_id(&id) {
            let ours = RequestId::Number(ours);
            let edit = Edit {
                span,
                with: Replacement::Id(&ours),
            };
            out.deliver(ask.of.session, message, None, &[edit]);
            return;
        }
        let Some(ours) = id.integer() else { return };
        let pending = state.in_flight.get(ours);
        if !pending.is_some_and(Pending::is_listening) {
            tracing::debug!("dropped a cancellation of a request that is not open");
            return;
        }
        if let Some(pending) = state.end(ours) {
            if let Some(session) = self.sessions.get_mut(&pending.session) {
                session.answered(&pending.id, ours);
            }
            let edit = Edit {
                span,
                with: Replacement::Id(&pending.id),
            };
            out.deliver(pending.session, message, None, &[edit]);
        }
    }

    /// What comes under a `subscriptions/listen`, whose id it quotes.
    fn subscription_notification(
        &mut self,
        process: ProcessId,
        message: &Message,
        now: impl FnOnce() -> Instant,
        out: &mut Output,
    ) {
        let Some((quoted, span)) = message.subscription() else {
            return;
        };
        let Some(ours) = quoted.integer() else {
            return;
        };
        let state = &mut self.processes[process.0];
        let again = message.method() == "notifications/subscriptions/acknowledged"
            && state.in_flight.acknowledge_listen(ours);
        let Some(pending) = state.in_flight.get(ours) else {
            tracing::debug!("dropped a notification of a subscription that has ended");
            return;
        };
        if again {
            if !pending.is_listening() {
                return;
            }
            let lines = changes_after_renewal(message, &pending.id);
            out.to_peer
                .extend(lines.into_iter().map(|line| (pending.session, line.into())));
            return;
        }
        let session = self.sessions.get(&pending.session);
        if !session.is_some_and(|session| session.waits_for(&pending.id, ours)) {
            tracing::debug!("dropped a notification of a subscription that was cancelled");
            return;
        }
        let foreign_task = message
            .text(Field::TaskId)
            .filter(|_| message.method().starts_with("notifications/tasks"));
        if foreign_task.is_some_and(|task| {
            !session.is_some_and(|session| state.tasks.is_owned_by(&task, &session.profile.user))
        }) {
            tracing::debug!("dropped the status of somebody else's task");
            return;
        }
        if !session.is_some_and(|session| session.profile.may_hear(message)) {
            tracing::debug!("dropped word of a resource that the peer may not subscribe to");
            return;
        }
        let edit = Edit {
            span: *span,
            with: Replacement::Id(&pending.id),
        };
        let to = pending.session;
        match List::of(message) {
            Some(list) if out.takes(message, None, &[edit]) => {
                let line = message.to_line(None, &[edit]);
                self.tell_change(
                    Receiver::Listen(process.0, ours),
                    to,
                    list,
                    line,
                    now(),
                    out,
                );
            }
            _ => {
                out.deliver(to, message, None, &[edit]);
            }
        }
    }
}
