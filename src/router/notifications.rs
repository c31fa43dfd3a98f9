//! Notifications of a process, and their receivers.

use super::changes::List;
use super::levels::Level;
use super::peers::{Peers, Receiver};
use super::pending::{Pending, Purpose};
use super::process::{Process, Service};
use super::{Output, SessionId};
use crate::jsonrpc::{Edit, Field, Message, Replacement, RequestId};
use crate::mcp::Method;
use serde::Deserialize;
use std::time::Instant;

impl Process {
    /// Handles a notification of the process; `now` is called only if it may be delayed.
    pub(super) fn notification(
        &mut self,
        message: &Message,
        now: impl FnOnce() -> Instant,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        if message.mcp_method() == Some(Method::ToolsChanged) {
            self.tools.outdate();
        }
        if message.subscription().is_some() {
            return self.subscription_notification(message, now, peers, out);
        }
        match message.mcp_method() {
            Some(Method::Progress) => return self.progress(message, peers, out),
            Some(Method::Cancelled) => return self.cancelled(message, peers, out),
            _ => {}
        }
        let receivers = self.receivers(message, peers);
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
            to_all.for_each(|(session, line)| out.tell(session, line));
            return;
        };
        let now = now();
        for (session, line) in to_all {
            let receiver = Receiver::Session(session);
            peers.tell_change(receiver, session, list, line, now, out);
        }
    }

    /// The receivers of a notification that quotes no request and no subscription.
    fn receivers(&mut self, message: &Message, peers: &Peers) -> Vec<SessionId> {
        match message.mcp_method() {
            Some(Method::LogMessage) if self.service != Service::Legacy => {
                // Log messages of a modern server belong to a request that wanted them, but do not
                // say to which (2026-07-28 server/utilities/logging): they are passed on only if
                // just one peer has such a request in flight, or has had one that may still be worked on.
                let reader = self.in_flight.only_log_reader();
                let certain = reader.filter(|id| self.logs_are_of(*id, message, peers));
                certain.into_iter().collect()
            }
            // Modern servers send nothing else without a subscription.
            _ if self.service != Service::Legacy => Vec::new(),
            Some(Method::LogMessage) => {
                let level = message
                    .text(Field::Level)
                    .and_then(|name| Level::parse(&name));
                let unasked = self.level.map(|_| Level::UNASKED);
                peers.receivers(|session| {
                    if !session.profile.may_hear(message) {
                        return false;
                    }
                    let threshold = session.level.or(unasked);
                    threshold.is_none_or(|threshold| level.is_none_or(|level| level >= threshold))
                })
            }
            Some(Method::ResourceUpdated) => {
                let uri = message.text(Field::Uri);
                let interested = uri.map(|uri| self.subscriptions.interested_in(&uri));
                let mut interested = interested.unwrap_or_default();
                interested.retain(|id| peers.may_hear(*id, message));
                interested.into_iter().collect()
            }
            Some(Method::TaskStatus | Method::TaskChanged) => match message.text(Field::TaskId) {
                Some(task) => {
                    let is_own = |user: &_| self.tasks.is_owned_by(&task, user);
                    peers.receivers(|session| is_own(&session.profile.user))
                }
                None => Vec::new(),
            },
            Some(Method::ElicitationComplete) => self.elicitation_complete(message),
            _ => peers.receivers(|_| true),
        }
    }

    /// True if a log message of a modern process can be about the requests of this session alone, and it may get it.
    fn logs_are_of(&self, id: SessionId, message: &Message, peers: &Peers) -> bool {
        peers.get(id).is_some_and(|session| {
            let is_attached = |session| peers.sessions.contains_key(&session);
            session.profile.may_hear(message)
                && (self.forgotten).logs_are_of(id, &session.owner, is_attached)
        })
    }

    fn elicitation_complete(&mut self, message: &Message) -> Vec<SessionId> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Params {
            elicitation_id: String,
        }
        let params: Option<Params> = message
            .params()
            .and_then(|raw| serde_json::from_slice(raw).ok());
        let asked = params.and_then(|params| {
            self.server_requests
                .take_elicitation(&params.elicitation_id)
        });
        asked.into_iter().collect()
    }

    /// Progress goes to the peer of the request, under the peer's own token.
    fn progress(&self, message: &Message, peers: &Peers, out: &mut Output) {
        let quoted = message.quoted_id(Field::ProgressToken);
        let token = quoted.as_ref();
        let token = token.and_then(|(token, _)| self.ids.number(token, &peers.numbers));
        let asker = token.and_then(|ours| match self.in_flight.get(ours) {
            Some(pending) => {
                let session = peers.get(pending.session)?;
                let waits = session.waits_for(&pending.id, ours);
                let token = pending.progress_token.as_ref().filter(|_| waits)?;
                Some((pending.session, token))
            }
            None => self.tasks.progress_of(ours),
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

    /// The child cancels a server request, or (2026-07-28) ends a subscription.
    fn cancelled(&mut self, message: &Message, peers: &mut Peers, out: &mut Output) {
        let Some((id, span)) = message.quoted_id(Field::RequestId) else {
            return;
        };
        self.server_requests.drop_parked(&id);
        if let Some((ours, request)) = self.server_requests.take_by_child_id(&id) {
            let ours = RequestId::Number(ours);
            let edit = Edit {
                span,
                with: Replacement::Id(&ours),
            };
            out.deliver(request.of.session, message, None, &[edit]);
            return;
        }
        let Some(ours) = self.ids.number(&id, &peers.numbers) else {
            return;
        };
        // Its peer may have left meanwhile.
        self.forgotten.answered(ours);
        let pending = self.in_flight.get(ours);
        if !pending.is_some_and(|pending| matches!(pending.purpose, Purpose::Listen(_))) {
            tracing::debug!("dropped a cancellation of a request that is not open");
            return;
        }
        if let Some(pending) = self.end(ours) {
            let session = peers.get_mut(pending.session);
            if !session.is_some_and(|session| session.answered(&pending.id, ours)) {
                // Its peer has cancelled it.
                return;
            }
            let edit = Edit {
                span,
                with: Replacement::Id(&pending.id),
            };
            out.deliver(pending.session, message, None, &[edit]);
        }
    }

    /// Handles a notification under a `subscriptions/listen`, whose id it quotes.
    fn subscription_notification(
        &mut self,
        message: &Message,
        now: impl FnOnce() -> Instant,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        let Some((quoted, span)) = message.subscription() else {
            return;
        };
        let Some(ours) = self.ids.number(quoted, &peers.numbers) else {
            return;
        };
        let again = message.mcp_method() == Some(Method::SubscriptionAcknowledged)
            && self.in_flight.acknowledge_listen(ours);
        let Some(pending) = self.in_flight.get(ours) else {
            tracing::debug!("dropped a notification of a subscription that has ended");
            return;
        };
        if again {
            return pending.tell_missed_changes(message, out);
        }
        if let Err(reason) = self.check_subscription(ours, pending, message, peers) {
            tracing::debug!("dropped a notification of a subscription: {reason}");
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
                let receiver = Receiver::Listen(self.id, ours);
                peers.tell_change(receiver, to, list, line, now(), out);
            }
            _ => {
                out.deliver(to, message, None, &[edit]);
            }
        }
    }

    /// Why the peer of a subscription does not get this under it.
    fn check_subscription(
        &self,
        ours: i64,
        pending: &Pending,
        message: &Message,
        peers: &Peers,
    ) -> Result<(), &'static str> {
        let session = peers.get(pending.session);
        let waits = session.filter(|session| session.waits_for(&pending.id, ours));
        let session = waits.ok_or("it was cancelled")?;
        let task = message
            .text(Field::TaskId)
            .filter(|_| message.method().starts_with("notifications/tasks"));
        if task.is_some_and(|task| !self.tasks.is_owned_by(&task, &session.profile.user)) {
            return Err("the task is somebody else's");
        }
        if !session.profile.may_hear(message) {
            return Err("the peer may not subscribe to the resource");
        }
        Ok(())
    }
}

impl Pending {
    /// After a subscription was renewed with a new process: notifies the peer, which has already
    /// had its `acknowledgement`, of changes that it may have missed.
    pub(super) fn tell_missed_changes(&self, acknowledgement: &Message, out: &mut Output) {
        if self.is_listening() {
            for line in changes_after_renewal(acknowledgement, &self.id) {
                out.tell(self.session, line);
            }
        }
    }
}

fn changes_after_renewal(acknowledgement: &Message, id: &RequestId) -> Vec<Vec<u8>> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Filter {
        tools_list_changed: bool,
        prompts_list_changed: bool,
        resources_list_changed: bool,
    }
    #[derive(Deserialize)]
    struct Params {
        #[serde(default)]
        notifications: Filter,
    }
    let params: Option<Params> = acknowledgement
        .params()
        .and_then(|raw| serde_json::from_slice(raw).ok());
    let Some(Params { notifications }) = params else {
        return Vec::new();
    };
    [
        ("tools", notifications.tools_list_changed),
        ("prompts", notifications.prompts_list_changed),
        ("resources", notifications.resources_list_changed),
    ]
    .into_iter()
    .filter(|(_, promised)| *promised)
    .map(|(family, _)| {
        let mut line = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/{family}/list_changed\",\"params\":{{\"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":").into_bytes();
        id.write(&mut line);
        line.extend(b"}}}\n");
        line
    })
    .collect()
}
