//! The router's other direction: what a process of the MCP server says, and to whom.

use super::asks::{self, Ask, Need};
use super::lane::{self, Probe, Purpose, Service};
use super::levels::Level;
use super::lists;
use super::{Command, LaneId, Output, Router, SessionId};
use crate::jsonrpc::{Edit, Field, Kind, Message, Replacement, RequestId};
use serde::Deserialize;

impl Router {
    /// A message from a lane's process.
    pub fn child_message(&mut self, lane: LaneId, message: &Message, out: &mut Output) {
        match message.kind() {
            Kind::Response(Some(RequestId::Number(ours))) => self.answer(lane, *ours, message, out),
            Kind::Response(_) => {
                tracing::warn!("the MCP server answered with an id that was never sent");
            }
            Kind::Request(id) => self.request_of_child(lane, id, message, out),
            Kind::Notification => self.notification_of_child(lane, message, out),
        }
    }

    fn answer(&mut self, lane: LaneId, ours: i64, message: &Message, out: &mut Output) {
        let state = &mut self.lanes[lane.0];
        if state.handshake_is_answered_by(ours) {
            self.handshake_answered(lane, message, out);
            return;
        }
        if let Some(probe) = state.probe.take_if(|probe| probe.ours == ours) {
            self.probed(lane, message, probe, out);
            return;
        }
        if state.service == Service::Probing
            && self.legacy_only.is_none()
            && let Some(pending) = state.in_flight.get(&ours)
            && matches!(pending.purpose, Purpose::Discover)
            && !is_modern(message)
        {
            self.doubt(lane, ours, message, out);
            return;
        }
        let Some(pending) = state.in_flight.remove(&ours) else {
            tracing::debug!(
                id = ours,
                "dropped a late answer, or one to the router itself"
            );
            return;
        };
        let Some(session) = self.sessions.get_mut(&pending.session) else {
            return;
        };
        session.answered(&pending.id, ours);
        let mut list = None;
        let mut edits: Vec<Edit<'_>> = Vec::new();
        match &pending.purpose {
            Purpose::Subscribe(uri) => match message.result() {
                Some(_) => state.subscriptions.confirm(uri),
                None => drop(state.subscriptions.remove(uri, pending.session)),
            },
            Purpose::SetLevel(_) if message.result().is_none() => {
                session.level = None;
                state.level = None;
            }
            Purpose::ListTasks if message.result().is_some() => {
                let (Some(span), Some(raw)) =
                    (message.span(Field::Tasks), message.raw(Field::Tasks))
                else {
                    let line = lists::unreadable(&pending.id);
                    out.to_peer.push((pending.session, line.into()));
                    return;
                };
                list = Some((span, state.tasks.filter(raw, &session.profile.user)));
            }
            Purpose::List(filter) => match filter.edits(message) {
                Ok(cuts) => edits = cuts,
                Err(_) => {
                    let line = lists::unreadable(&pending.id);
                    out.to_peer.push((pending.session, line.into()));
                    return;
                }
            },
            Purpose::Forward => state.tasks.note(message, &session.profile.user),
            _ => {}
        }
        if let Some((span, list)) = &list {
            edits.push(Edit {
                span: *span,
                with: Replacement::Json(list),
            });
        }
        if let Some((RequestId::Number(quoted), span)) = message.subscription()
            && *quoted == ours
        {
            edits.push(Edit {
                span: *span,
                with: Replacement::Id(&pending.id),
            });
        }
        edits.sort_by_key(|edit| edit.span.start);
        out.to_peer
            .push((pending.session, message.to_line(Some(&pending.id), &edits)));
        if matches!(pending.purpose, Purpose::Discover) && state.service == Service::Probing {
            state.service = Service::Modern;
        }
    }

    /// An answer to `server/discover` reads as if the server were a legacy one. What a peer has asked
    /// may be odd, and what follows holds for all of them, so the router asks once more, in its own
    /// words, before it passes that answer on.
    fn doubt(&mut self, lane: LaneId, ours: i64, answer: &Message, out: &mut Output) {
        let fresh = self.next_id + 1;
        let state = &mut self.lanes[lane.0];
        let probe = state.probe.get_or_insert_with(|| {
            lane::write_discover(fresh, &mut out.to_child[lane.0]);
            self.next_id = fresh;
            Probe {
                ours: fresh,
                held: Vec::new(),
            }
        });
        probe.held.push((ours, answer.detached()));
    }

    /// The answer to the router's own `server/discover` tells what the server is.
    fn probed(&mut self, lane: LaneId, answer: &Message, probe: Probe, out: &mut Output) {
        if is_modern(answer) {
            self.lanes[lane.0].service = Service::Modern;
        } else if self.lanes[lane.0].service == Service::Probing {
            self.found_legacy(lane, answer, out);
        }
        for (ours, answer) in probe.held {
            self.answer(lane, ours, &answer, out);
        }
    }

    fn found_legacy(&mut self, lane: LaneId, answer: &Message, out: &mut Output) {
        self.legacy_only = Some(answer.detached());
        if self
            .lanes
            .iter()
            .any(|lane| lane.service == Service::Legacy)
        {
            out.commands.push(Command::Stop(lane));
        } else {
            self.lanes[lane.0].service = Service::Fresh;
        }
    }

    fn handshake_answered(&mut self, lane: LaneId, answer: &Message, out: &mut Output) {
        let next_id = &mut self.next_id;
        let fresh_id = || {
            *next_id += 1;
            *next_id
        };
        let Some(sent) = self.lanes[lane.0].end_handshake(lane, answer, fresh_id, out) else {
            return;
        };
        if sent.renewal && answer.result().is_some() {
            self.announce_changes(answer, out);
        }
        for (session, id, requested) in sent.waiting {
            out.to_peer.push((
                session,
                lane::answer_initialize(answer, &id, requested.as_deref()),
            ));
            if let Some(session) = self.sessions.get_mut(&session) {
                session.initialized |= answer.result().is_some();
            }
        }
    }

    /// A new process may offer other things than the old one: peers that were promised word of it
    /// get word.
    fn announce_changes(&mut self, answer: &Message, out: &mut Output) {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Promise {
            list_changed: bool,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Capabilities {
            tools: Promise,
            prompts: Promise,
            resources: Promise,
        }
        let raw = answer.raw(Field::Capabilities);
        let promised: Capabilities = raw
            .and_then(|raw| serde_json::from_slice(raw).ok())
            .unwrap_or_default();
        for (family, promise) in [
            ("tools", promised.tools),
            ("prompts", promised.prompts),
            ("resources", promised.resources),
        ] {
            if promise.list_changed {
                let line = format!(
                    "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/{family}/list_changed\"}}\n"
                );
                let line = bytes::Bytes::from(line);
                for session in self.receivers(|_| true) {
                    out.to_peer.push((session, line.clone()));
                }
            }
        }
    }

    /// The legacy sessions that broadcasts go to.
    fn receivers(&self, wanted: impl Fn(&super::Session) -> bool) -> Vec<SessionId> {
        let legacy = self
            .sessions
            .iter()
            .filter(|(_, session)| session.initialized && !session.modern);
        legacy
            .filter(|(_, session)| wanted(session))
            .map(|(id, _)| *id)
            .collect()
    }

    fn request_of_child(
        &mut self,
        lane: LaneId,
        id: &RequestId,
        message: &Message,
        out: &mut Output,
    ) {
        if message.method() == "ping" {
            let line = super::OwnAnswer::Done.to_line(id);
            out.to_child[lane.0].extend(line);
            return;
        }
        let need = Need::of(message);
        let chosen = need
            .as_ref()
            .and_then(|need| self.choose(lane, need, message.method()));
        match (need, chosen) {
            (Some(need), Some(Chosen::Ready(session))) if !self.lanes[lane.0].asks.is_full() => {
                self.ask(lane, session, need, id, message, out);
            }
            (_, Some(Chosen::Unready))
                if self.lanes[lane.0].asks.parked.len() < asks::MAX_PARKED =>
            {
                self.lanes[lane.0].asks.parked.push(message.clone());
            }
            _ => {
                out.to_child[lane.0].extend(super::nobody_to_ask(id, message.method()));
            }
        }
    }

    /// Who is to be asked: of the peers with requests in flight on this lane, the one with the
    /// youngest that can answer; where nothing is in flight, or the question is about nobody's
    /// call, the first that can.
    fn choose(&self, lane: LaneId, need: &Need, method: &str) -> Option<Chosen> {
        let able = self.sessions.iter().filter(|(_, session)| {
            session.initialized
                && !session.modern
                && !session.profile.is_kept_from(method)
                && need.is_met_by(&session.capabilities)
        });
        let busy = self
            .sessions
            .values()
            .any(|session| session.youngest(lane).is_some());
        let candidates = able.filter(|(_, session)| {
            need.concerns_anybody() || !busy || session.youngest(lane).is_some()
        });
        let best = candidates.max_by_key(|(id, session)| {
            (
                session.ready,
                session.youngest(lane),
                std::cmp::Reverse(**id),
            )
        });
        best.map(|(id, session)| {
            if session.ready {
                Chosen::Ready(*id)
            } else {
                Chosen::Unready
            }
        })
    }

    fn ask(
        &mut self,
        lane: LaneId,
        session: SessionId,
        need: Need,
        id: &RequestId,
        message: &Message,
        out: &mut Output,
    ) {
        let ours = self.fresh_id();
        let token = message.progress_token();
        let asks = &mut self.lanes[lane.0].asks;
        asks.insert(
            ours,
            Ask {
                session,
                id: id.clone(),
                progress_token: token.map(|(token, _)| token.clone()),
            },
        );
        if let Need::Url {
            elicitation: Some(elicitation),
        } = need
        {
            asks.remember_elicitation(elicitation, session);
        }
        let ours = RequestId::Number(ours);
        let edit = token.map(|(_, span)| Edit {
            span: *span,
            with: Replacement::Id(&ours),
        });
        out.to_peer
            .push((session, message.to_line(Some(&ours), edit.as_slice())));
    }

    /// Tries again to ask what nobody was ready for.
    pub(super) fn ask_parked(&mut self, lane: LaneId, out: &mut Output) {
        for message in std::mem::take(&mut self.lanes[lane.0].asks.parked) {
            if let Kind::Request(id) = message.kind() {
                self.request_of_child(lane, id, &message, out);
            }
        }
    }

    fn notification_of_child(&mut self, lane: LaneId, message: &Message, out: &mut Output) {
        if message.subscription().is_some() {
            self.subscription_notification(lane, message, out);
            return;
        }
        let receivers = match message.method() {
            "notifications/progress" => return self.progress(lane, message, out),
            "notifications/cancelled" => return self.cancelled_by_child(lane, message, out),
            "notifications/message" if self.lanes[lane.0].service != Service::Legacy => {
                self.only_log_reader(lane)
            }
            // Modern servers send nothing else without a subscription.
            _ if self.lanes[lane.0].service != Service::Legacy => Vec::new(),
            "notifications/message" => {
                let level = message
                    .text(Field::Level)
                    .and_then(|name| Level::parse(&name));
                let told = self.lanes[lane.0].level;
                let unasked = told.map(|_| Level::UNASKED);
                self.receivers(|session| {
                    let threshold = session.level.or(unasked);
                    threshold.is_none_or(|threshold| level.is_none_or(|level| level >= threshold))
                })
            }
            "notifications/resources/updated" => match message.text(Field::Uri) {
                Some(uri) => {
                    let mut interested = self.lanes[lane.0].subscriptions.interested_in(&uri);
                    interested.retain(|id| self.may_hear(*id, message));
                    interested.into_iter().collect()
                }
                None => Vec::new(),
            },
            "notifications/tasks/status" | "notifications/tasks" => {
                match message.text(Field::TaskId) {
                    Some(task) => {
                        let tasks = &self.lanes[lane.0].tasks;
                        self.receivers(|session| tasks.is_owned_by(&task, &session.profile.user))
                    }
                    None => Vec::new(),
                }
            }
            "notifications/elicitation/complete" => self.elicitation_complete(lane, message),
            _ => self.receivers(|_| true),
        };
        if receivers.is_empty() {
            tracing::debug!(
                method = message.method(),
                "dropped a notification that is for nobody"
            );
            return;
        }
        let line = message.to_line(None, &[]);
        out.to_peer
            .extend(receivers.into_iter().map(|session| (session, line.clone())));
    }

    /// Log messages of a modern server belong to a request that wanted them, but do not say to
    /// which (2026-07-28 server/utilities/logging): they are passed on only where one peer alone
    /// has such a request in flight.
    fn only_log_reader(&self, lane: LaneId) -> Vec<SessionId> {
        let wanting = self.lanes[lane.0]
            .in_flight
            .values()
            .filter(|pending| pending.wants_logs);
        let mut sessions: Vec<SessionId> = wanting.map(|pending| pending.session).collect();
        sessions.sort_unstable();
        sessions.dedup();
        if sessions.len() > 1 {
            Vec::new()
        } else {
            sessions
        }
    }

    fn may_hear(&self, session: SessionId, message: &Message) -> bool {
        let session = self.sessions.get(&session);
        session.is_some_and(|session| session.profile.may_hear(message))
    }

    fn elicitation_complete(&mut self, lane: LaneId, message: &Message) -> Vec<SessionId> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Params {
            elicitation_id: String,
        }
        let params: Option<Params> = message
            .params()
            .and_then(|raw| serde_json::from_slice(raw).ok());
        let asked = params.and_then(|params| {
            self.lanes[lane.0]
                .asks
                .take_elicitation(&params.elicitation_id)
        });
        asked.into_iter().collect()
    }

    /// Progress goes to the peer whose request it is, under the token which that peer chose.
    fn progress(&mut self, lane: LaneId, message: &Message, out: &mut Output) {
        let quoted = message.quoted_id(Field::ProgressToken);
        let pending = quoted.as_ref().and_then(|(token, _)| match token {
            RequestId::Number(ours) => self.lanes[lane.0].in_flight.get(ours),
            RequestId::String(_) => None,
        });
        let token = pending.and_then(|pending| pending.progress_token.as_ref());
        let (Some((_, span)), Some(pending), Some(token)) = (quoted, pending, token) else {
            tracing::debug!("dropped progress that nobody asked for");
            return;
        };
        let edit = Edit {
            span,
            with: Replacement::Id(token),
        };
        out.to_peer
            .push((pending.session, message.to_line(None, &[edit])));
    }

    /// The child takes a question back, or (2026-07-28) ends a subscription.
    fn cancelled_by_child(&mut self, lane: LaneId, message: &Message, out: &mut Output) {
        let Some((id, span)) = message.quoted_id(Field::RequestId) else {
            return;
        };
        let state = &mut self.lanes[lane.0];
        state.asks.parked.retain(|parked| parked.id() != Some(&id));
        if let Some((ours, ask)) = state.asks.take_by_child_id(&id) {
            let ours = RequestId::Number(ours);
            let edit = Edit {
                span,
                with: Replacement::Id(&ours),
            };
            out.to_peer
                .push((ask.session, message.to_line(None, &[edit])));
            return;
        }
        let RequestId::Number(ours) = id else { return };
        let is_listen =
            |purpose: &Purpose| matches!(purpose, Purpose::Listen(_) | Purpose::Renewed(_));
        if !state
            .in_flight
            .get(&ours)
            .is_some_and(|pending| is_listen(&pending.purpose))
        {
            tracing::debug!("dropped a cancellation of a request that is not open");
            return;
        }
        if let Some(pending) = state.in_flight.remove(&ours) {
            if let Some(session) = self.sessions.get_mut(&pending.session) {
                session.answered(&pending.id, ours);
            }
            let edit = Edit {
                span,
                with: Replacement::Id(&pending.id),
            };
            out.to_peer
                .push((pending.session, message.to_line(None, &[edit])));
        }
    }

    /// What comes under a `subscriptions/listen`, whose id it quotes.
    fn subscription_notification(&mut self, lane: LaneId, message: &Message, out: &mut Output) {
        let Some((RequestId::Number(ours), span)) = message.subscription() else {
            return;
        };
        let state = &mut self.lanes[lane.0];
        let Some(pending) = state.in_flight.get_mut(ours) else {
            tracing::debug!("dropped a notification of a subscription that has ended");
            return;
        };
        if message.method() == "notifications/subscriptions/acknowledged"
            && let Purpose::Renewed(request) = &pending.purpose
        {
            pending.purpose = Purpose::Listen(request.clone());
            let lines = changes_after_renewal(message, &pending.id);
            out.to_peer
                .extend(lines.into_iter().map(|line| (pending.session, line.into())));
            return;
        }
        let session = self.sessions.get(&pending.session);
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
        out.to_peer
            .push((pending.session, message.to_line(None, &[edit])));
    }
}

/// True for an answer to `server/discover` that only a modern server gives. Errors of 2026-07-28's
/// own range come from those only (basic "Error Codes").
fn is_modern(answer: &Message) -> bool {
    let code = answer.error_code();
    answer.result().is_some() || code.is_some_and(|code| (-32099..=-32020).contains(&code))
}

/// Whether the peer that is to be asked has finished its handshake.
enum Chosen {
    Ready(SessionId),
    Unready,
}

/// For a subscription that was renewed with a new process: what the peer may have missed.
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
