//! One direction of the router: what a peer says, and what of it the MCP server gets to hear.

use super::asks::Ask;
use super::levels::{self, Level};
use super::listen_requests::ListenRequest;
use super::pending::{Delivery, Pending, Purpose};
use super::process::Service;
use super::subscriptions::Consent;
use super::{
    Output, ProcessId, Router, SessionId, TooLarge, handshake, invalid_params, misplaced, pending,
    subscriptions, tasks,
};
use crate::jsonrpc::{
    Code, Edit, ErrorData, Executed, Field, Kind, Message, NO_DATA, Replacement, RequestId,
    error_line,
};
use crate::permissions::Permit;
use crate::utils::chunks::Chunks;
use std::sync::Arc;

/// While so many bytes wait to be written to a process, peers' progress on its questions is dropped: it
/// waits for no turn.
const MAX_PROGRESS: usize = 64 * 1024;

impl Router {
    /// A message that the policy has let through.
    ///
    /// # Errors
    /// The process would be sent a line that is too long; nothing has been changed by the message.
    pub fn peer_message(
        &mut self,
        from: SessionId,
        permit: &Permit,
        out: &mut Output,
    ) -> Result<(), TooLarge> {
        let message = permit.message();
        if message.is_misplaced() {
            out.to_peer
                .extend(misplaced(message).map(|line| (from, line)));
            return Ok(());
        }
        if message.may_outgrow(out.limits.to_child) {
            self.check_length(from, message, out)?;
        }
        match message.kind() {
            Kind::Request(id) => self.request(from, id, permit, out),
            Kind::Notification => self.notification(from, message, out),
            Kind::Response(id) => self.answer_of_peer(from, id.as_ref(), message, out),
        }
        Ok(())
    }

    fn request(&mut self, from: SessionId, id: &RequestId, permit: &Permit, out: &mut Output) {
        let message = permit.message();
        let Some(session) = self.sessions.get_mut(&from) else {
            return;
        };
        // The late answer to the one must not be taken for the answer to the other.
        if let Some((process, ours)) = session.take_cancelled(id) {
            let owner = Arc::clone(&session.owner);
            self.forget(process, ours, &owner);
        }
        let Some(session) = self.sessions.get(&from) else {
            return;
        };
        let opening = self
            .processes
            .iter()
            .find_map(|process| process.initialize_of(from));
        if let Err(error) = session.check_new(id, message.method() == "initialize", opening) {
            out.to_peer.push((from, error.into()));
            return;
        }
        if let (Some(error), "server/discover") = (&self.legacy_only, message.method()) {
            out.deliver(from, error, Some(id), &[]);
            return;
        }
        if message.method() == "initialize"
            && let Err(reason) = handshake::check(message)
        {
            let line = invalid_params(id, reason);
            out.to_peer.push((from, line.into()));
            return;
        }
        let process = self.process_for(from, message, out);
        if message.method() == "initialize" {
            self.initialize(process, from, id, message, out);
            return;
        }
        self.open_handshake(process, None, out);
        // Who goes ahead with its handshake done can be asked, whatever it has not said.
        if message.method() != "ping"
            && self
                .sessions
                .get(&from)
                .is_some_and(|session| session.initialized)
        {
            self.is_ready(from, out);
        }
        let ours = self.fresh_id();
        let purpose = match self.prepare(process, from, ours, permit) {
            Ok(purpose) => purpose,
            Err(answer) => {
                out.foreign_task = matches!(answer, OwnAnswer::NoSuchTask { foreign: true });
                let line = answer.to_line(id);
                out.to_peer.push((from, line.into()));
                return;
            }
        };
        let Some(session) = self.sessions.get_mut(&from) else {
            return;
        };
        session.insert(id.clone(), process, ours);
        let is_shared = purpose.is_shared();
        let level = match purpose {
            Purpose::SetLevel(level) => Some(format!("\"{}\"", level.name())),
            _ => None,
        };
        let token = message.progress_token();
        let state = &mut self.processes[process.0];
        let size = pending::size(id, token.map(|(token, _)| token), &purpose);
        let takes_place = !matches!(purpose, Purpose::Listen(_));
        let mut pending = Pending {
            session: from,
            id: id.clone(),
            progress_token: token.map(|(token, _)| token.clone()),
            wants_logs: message.wants_logs(),
            delivery: Delivery::Given,
            purpose,
            _kept: session.kept.piece(size),
        };
        if !pending.is_sent(ours) {
            state.in_flight.insert(ours, pending);
            return;
        }
        let origin = session.origin(Some(ours), self.next_id);
        let number = RequestId::Number(ours);
        let mut edits: Vec<Edit<'_>> = Vec::new();
        if let Some((_, span)) = token {
            edits.push(Edit {
                span: *span,
                with: Replacement::Id(&number),
            });
        }
        if let (Some(level), Some(span)) = (&level, message.span(Field::Level)) {
            edits.push(Edit {
                span,
                with: Replacement::Json(level.as_bytes()),
            });
            edits.sort_by_key(|edit| edit.span.start);
        }
        let write = |line: &mut Chunks| message.write(Some(&number), &edits, line);
        if is_shared {
            // All peers' changes reach the process in order, and take up a place all the same.
            state.queue.give(from, ours);
            state.engaged = true;
            write(state.shared_sink(process, origin, out));
        } else {
            pending.delivery = state.say(process, from, origin, takes_place, out, write);
        }
        state.in_flight.insert(ours, pending);
    }

    /// What is special about a request; some the router answers itself.
    fn prepare(
        &mut self,
        process: ProcessId,
        from: SessionId,
        ours: i64,
        permit: &Permit,
    ) -> Result<Purpose, OwnAnswer> {
        if let Some(filter) = permit.list() {
            return Ok(Purpose::List(filter.clone()));
        }
        let message = permit.message();
        let related = message.related_task();
        if let Some(task) = &related
            && !self.owns(process, from, task)
        {
            return Err(self.no_such_task(process, task));
        }
        let legacy = self.processes[process.0].service == Service::Legacy;
        match message.method() {
            "server/discover" => Ok(Purpose::Discover),
            "subscriptions/listen" if legacy => Ok(Purpose::Forward),
            "subscriptions/listen" if self.may_listen(process, from, message) => {
                Ok(Purpose::Listen(Box::new(ListenRequest::new(message))))
            }
            "subscriptions/listen" => Err(OwnAnswer::TooManySubscriptions),
            "resources/subscribe" if legacy => self.subscribe(process, from, ours, message),
            "resources/unsubscribe" if legacy => self.unsubscribe(process, from, message),
            "logging/setLevel" if legacy => self.set_level(process, from, message),
            // It would hold for all peers, which say with each request what they want (2026-07-28).
            "logging/setLevel" => Err(OwnAnswer::NoSuchMethod),
            "tasks/list" => Ok(Purpose::ListTasks),
            method if method.starts_with("tasks/") => match message.text(Field::TaskId) {
                Some(task) if self.owns(process, from, &task) => Ok(Purpose::OfTask),
                Some(task) => Err(self.no_such_task(process, &task)),
                None => Err(OwnAnswer::NoSuchTask { foreign: false }),
            },
            _ if related.is_some() => Ok(Purpose::OfTask),
            _ => Ok(Purpose::Forward),
        }
    }

    /// The answer where a task is unknown, or somebody else's.
    fn no_such_task(&self, process: ProcessId, task: &str) -> OwnAnswer {
        let foreign = self.processes[process.0].tasks.owner(task).is_some();
        OwnAnswer::NoSuchTask { foreign }
    }

    /// A peer can be asked from now on.
    fn is_ready(&mut self, peer: SessionId, out: &mut Output) {
        match self.sessions.get_mut(&peer) {
            Some(session) if !session.ready => session.ready = true,
            _ => return,
        }
        self.ask_parked(peer, out);
    }

    fn subscribe(
        &mut self,
        process: ProcessId,
        from: SessionId,
        ours: i64,
        message: &Message,
    ) -> Result<Purpose, OwnAnswer> {
        let uri = message.text(Field::Uri).ok_or(NO_URI)?;
        let Some(session) = self.sessions.get(&from) else {
            return Err(OwnAnswer::Done);
        };
        let subscriptions = &mut self.processes[process.0].subscriptions;
        if uri.len() > subscriptions::MAX_URI
            || subscriptions.count(from) >= subscriptions::MAX_PER_SESSION
        {
            return Err(OwnAnswer::TooManySubscriptions);
        }
        match subscriptions.add(&uri, from, ours, &session.kept) {
            Consent::Given => Err(OwnAnswer::Done),
            Consent::Asked(via) => Ok(Purpose::Subscribe { via }),
        }
    }

    fn unsubscribe(
        &mut self,
        process: ProcessId,
        from: SessionId,
        message: &Message,
    ) -> Result<Purpose, OwnAnswer> {
        let uri = message.text(Field::Uri).ok_or(NO_URI)?;
        let shared = self.processes[process.0].subscriptions.remove(&uri, from);
        if shared {
            Err(OwnAnswer::Done)
        } else {
            Ok(Purpose::Unsubscribe)
        }
    }

    fn set_level(
        &mut self,
        process: ProcessId,
        from: SessionId,
        message: &Message,
    ) -> Result<Purpose, OwnAnswer> {
        let asked = Level::asked(message).ok_or(OwnAnswer::InvalidParams(levels::UNKNOWN))?;
        // Noted before the child agrees, so that two peers that ask at once both count.
        if let Some(session) = self.sessions.get_mut(&from) {
            session.level = Some(asked);
        }
        let needed = self.most_verbose().unwrap_or(asked);
        let told = &mut self.processes[process.0].level;
        if told.replace(needed) == Some(needed) {
            return Err(OwnAnswer::Done);
        }
        Ok(Purpose::SetLevel(needed))
    }

    pub(super) fn most_verbose(&self) -> Option<Level> {
        self.sessions
            .values()
            .filter_map(|session| session.level)
            .min()
    }

    /// Tells the child a less verbose level when whoever wanted more has left.
    pub(super) fn lower_level(&mut self, process: ProcessId, out: &mut Output) {
        let (Some(current), Some(needed)) = (self.processes[process.0].level, self.most_verbose())
        else {
            return;
        };
        if needed > current {
            let ours = self.fresh_id();
            let state = &mut self.processes[process.0];
            state.level = Some(needed);
            state.tell(
                process,
                ours,
                "logging/setLevel",
                "level",
                needed.name(),
                out,
            );
        }
    }

    fn notification(&mut self, from: SessionId, message: &Message, out: &mut Output) {
        match message.method() {
            // The router has said it for everybody.
            "notifications/initialized" => self.is_ready(from, out),
            "notifications/cancelled" => self.cancelled_by_peer(from, message, out),
            "notifications/progress" => self.progress_of_peer(from, message, out),
            // A shared child has been told of no roots.
            "notifications/roots/list_changed" => {}
            _ => {
                let process = self.process_for(from, message, out);
                self.open_handshake(process, None, out);
                let state = &mut self.processes[process.0];
                if !state.takes_notifications() && state.in_flight.is_empty() {
                    tracing::debug!("dropped a notification to a process that knows no client yet");
                    return;
                }
                if let Some(session) = self.sessions.get(&from) {
                    let origin = session.origin(None, self.next_id);
                    let write = |line: &mut Chunks| message.write(None, &[], line);
                    state.say(process, from, origin, false, out, write);
                }
            }
        }
    }

    /// A peer may cancel its own requests and no others; `initialize` not at all (2025-11-25
    /// basic/utilities/cancellation).
    fn cancelled_by_peer(&mut self, from: SessionId, message: &Message, out: &mut Output) {
        let Some(session) = self.sessions.get_mut(&from) else {
            return;
        };
        let quoted = message.quoted_id(Field::RequestId);
        let found =
            quoted.and_then(|(id, span)| Some((session.find(&id)?, session.cancel(&id), span)));
        let Some(((process, ours), forgotten, span)) = found else {
            tracing::debug!(session = %from, "dropped a cancellation of nothing in flight");
            return;
        };
        if let Some((process, ours)) = forgotten {
            let owner = Arc::clone(&session.owner);
            self.forget(process, ours, &owner);
        }
        let Some(session) = self.sessions.get_mut(&from) else {
            return;
        };
        let state = &mut self.processes[process.0];
        if let Some(pending) = state.in_flight.get(ours)
            && !pending.is_cancellable()
        {
            if pending.delivery == Delivery::Queued || matches!(pending.purpose, Purpose::Listen(_))
            {
                session.answered(&pending.id, ours);
                state.end(ours);
            }
            return;
        }
        state.in_flight.cancel_listen(ours);
        // Some servers never answer what was cancelled.
        state.queue.close(from, ours);
        let origin = session.origin(None, self.next_id);
        let ours = RequestId::Number(ours);
        let edit = Edit {
            span,
            with: Replacement::Id(&ours),
        };
        message.write(None, &[edit], state.sink_of(process, origin, out));
    }

    /// Progress on what the child asked of this peer.
    fn progress_of_peer(&mut self, from: SessionId, message: &Message, out: &mut Output) {
        let Some((RequestId::Number(ours), span)) = message.quoted_id(Field::ProgressToken) else {
            return;
        };
        for process in ProcessId::ALL {
            let state = &self.processes[process.0];
            let token = state
                .asks
                .get(ours, from)
                .and_then(|ask| ask.progress_token.clone());
            if let Some(token) = token {
                if out.to_child[process.0].len() >= MAX_PROGRESS {
                    tracing::debug!("dropped progress for a process that reads too slowly");
                    return;
                }
                let edit = Edit {
                    span,
                    with: Replacement::Id(&token),
                };
                self.note_direct(process, from);
                message.write(None, &[edit], &mut out.to_child[process.0]);
                return;
            }
        }
        tracing::debug!(session = %from, "dropped progress on nothing that was asked");
    }

    /// Notes that the process gets something of a peer at once, whatever it waits for.
    fn note_direct(&mut self, process: ProcessId, from: SessionId) {
        if let Some(session) = self.sessions.get(&from) {
            let evidence = &mut self.processes[process.0].evidence;
            evidence.note(&session.sender, false, false, self.next_id);
        }
    }

    /// An answer passes where this peer was asked that very question, once.
    fn answer_of_peer(
        &mut self,
        from: SessionId,
        id: Option<&RequestId>,
        message: &Message,
        out: &mut Output,
    ) {
        if let Some(RequestId::Number(ours)) = id {
            for process in ProcessId::ALL {
                let state = &mut self.processes[process.0];
                if let Some(Ask { id, .. }) = state.asks.take(*ours, from) {
                    self.note_direct(process, from);
                    // Not held with the rest: a child may ask before it answers `initialize`.
                    message.write(Some(&id), &[], &mut out.to_child[process.0]);
                    return;
                }
            }
        }
        tracing::debug!(session = %from, "dropped an answer that nobody asked for");
    }
}

/// Requests that the router answers itself.
pub(super) enum OwnAnswer {
    /// `{}`: what was asked for is so already.
    Done,
    NoSuchTask {
        /// It is somebody else's.
        foreign: bool,
    },
    NoSuchMethod,
    TooManySubscriptions,
    /// The process, which is everybody's, is not asked.
    InvalidParams(&'static str),
}

/// A process may read something else as a URI, and change what others are subscribed to.
const NO_URI: OwnAnswer = OwnAnswer::InvalidParams("uri must be a string");

impl OwnAnswer {
    pub(super) fn to_line(&self, id: &RequestId) -> Vec<u8> {
        match self {
            Self::Done => {
                let mut line = b"{\"jsonrpc\":\"2.0\",\"id\":".to_vec();
                id.write(&mut line);
                line.extend(b",\"result\":{}}\n");
                line
            }
            Self::NoSuchTask { .. } => tasks::unknown(id),
            Self::NoSuchMethod => {
                let text = "Method not found: it is not part of MCP 2026-07-28";
                error_line(Some(id), Code::MethodNotFound, text, NO_DATA)
            }
            Self::InvalidParams(reason) => invalid_params(id, reason),
            Self::TooManySubscriptions => {
                let data = ErrorData::new("too-many-subscriptions", Executed::No);
                error_line(
                    Some(id),
                    Code::InternalError,
                    "Too many subscriptions",
                    Some(&data),
                )
            }
        }
    }
}
