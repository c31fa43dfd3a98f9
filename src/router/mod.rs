//! Who gets what: many peers on one MCP server, as a pure state machine.
//!
//! Events come in as method calls, what is to be done goes out through [`Output`]; no I/O, no
//! clock. Peers choose ids as they like, so every request gets an id of the router's own towards
//! the child, never used twice, and the peer's id is put back into the answer.
//!
//! # Invariants
//! 1. A request of a peer is answered exactly once, or its peer is gone, or the peer cancelled it.
//! 2. Nothing is delivered to a session that it does not belong to: answers and progress go to the
//!    asker, broadcasts only to sessions that the handshake was answered for.
//! 3. A session has at most [`MAX_IN_FLIGHT`] requests in flight, and at most
//!    [`MAX_CANCELLED`] cancelled ones that may still be answered; when it leaves, nothing of it
//!    stays.
//! 4. A child sees `initialize` at most once in its life unless it refused it, nothing of a legacy
//!    peer before that is answered, and `notifications/initialized` once, right after the answer.
//!
//! # Eras
//! Servers on the official SDKs serve either legacy peers (`initialize`) or modern ones
//! (2026-07-28, stateless) in one process, never both. So there are two lanes, each a process. The
//! first process serves whichever era comes first, the second lane starts when the other one does.

mod lane;
mod session;

use crate::jsonrpc::{
    Code, Edit, ErrorData, Executed, Field, Kind, Message, NO_DATA, Replacement, RequestId,
    error_line,
};
use crate::permissions::Permit;
use bytes::Bytes;
use lane::{Handshake, Lane, Pending, Purpose, Service};
use session::Session;
use std::collections::HashMap;

/// The most requests that one peer may have in flight.
pub const MAX_IN_FLIGHT: usize = 16_384;

/// The most cancelled requests of one peer whose answer we still look out for.
pub const MAX_CANCELLED: usize = 256;

/// The newest revision with an `initialize` handshake: what the router asks every server for, so
/// that what a server offers does not depend on who came first.
const NEWEST_LEGACY: &str = "2025-11-25";

/// The revisions with an `initialize` handshake, oldest first.
const LEGACY_REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", NEWEST_LEGACY];

/// One peer, for as long as it lives. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u64);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One of the two processes, 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaneId(pub(crate) usize);

/// How many lanes there are.
pub const LANES: usize = 2;

impl LaneId {
    /// The lane whose process starts with the server.
    pub const FIRST: Self = Self(0);

    /// Both.
    pub const ALL: [Self; LANES] = [Self(0), Self(1)];
}

/// What to do about a lane's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start it; lines for it are already waiting.
    Start(LaneId),
    /// Nobody needs it any more.
    Stop(LaneId),
}

/// What an event leads to.
#[derive(Debug, Default)]
pub struct Output {
    /// Whole lines for each lane's process.
    pub to_child: [Vec<u8>; LANES],
    /// Whole lines for peers, in order.
    pub to_peer: Vec<(SessionId, Bytes)>,
    /// Processes to start and stop.
    pub commands: Vec<Command>,
}

/// How a process ended, for the errors that its peers get.
#[derive(Clone, Debug, Default)]
pub struct Exit {
    /// Exit status or signal, as text.
    pub status: String,
    /// The last line it wrote on stderr.
    pub stderr: Option<String>,
}

/// The table of sessions, lanes and requests in flight.
#[derive(Debug)]
pub struct Router {
    sessions: HashMap<SessionId, Session>,
    lanes: [Lane; LANES],
    next_session: u64,
    next_id: i64,
    /// The error with which the server answered `server/discover`, if it is not a modern one.
    legacy_only: Option<Message>,
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl Router {
    /// A router whose first lane is about to start.
    #[must_use]
    pub fn new() -> Self {
        let mut lanes = [Lane::default(), Lane::default()];
        lanes[LaneId::FIRST.0].service = Service::Fresh;
        Self {
            sessions: HashMap::new(),
            lanes,
            next_session: 0,
            next_id: 0,
            legacy_only: None,
        }
    }

    /// A peer has come.
    pub fn attach(&mut self) -> SessionId {
        self.next_session += 1;
        let id = SessionId(self.next_session);
        self.sessions.insert(id, Session::default());
        id
    }

    /// A peer has gone: its requests are cancelled at the child, late answers will be dropped.
    pub fn detach(&mut self, id: SessionId, out: &mut Output) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        for (lane, ours) in session.requests() {
            let lane_state = &mut self.lanes[lane.0];
            if lane_state.in_flight.remove(&ours).is_some() {
                lane_state.cancel(lane, ours, Some("the client has disconnected"), out);
            }
        }
        for lane in &mut self.lanes {
            lane.forget_waiting(id);
        }
    }

    /// How many requests of this peer wait for an answer.
    #[must_use]
    pub fn owed(&self, id: SessionId) -> usize {
        let waiting = self
            .lanes
            .iter()
            .map(|lane| lane.waiting_for(id))
            .sum::<usize>();
        self.sessions
            .get(&id)
            .map_or(0, |session| session.in_flight() + waiting)
    }

    /// Bytes that wait inside the router for a handshake to end; what sends more should wait too.
    #[must_use]
    pub fn held(&self) -> usize {
        self.lanes.iter().map(|lane| lane.held.len()).sum()
    }

    /// A message that the policy has let through.
    pub fn from_peer(&mut self, from: SessionId, permit: &Permit, out: &mut Output) {
        let message = permit.message();
        match message.kind() {
            Kind::Request(id) => self.request(from, id, message, out),
            Kind::Notification => self.notification(from, message, out),
            Kind::Response(_) => {
                tracing::debug!(session = %from, "dropped an answer that nobody asked for");
            }
        }
    }

    fn request(&mut self, from: SessionId, id: &RequestId, message: &Message, out: &mut Output) {
        let Some(session) = self.sessions.get_mut(&from) else {
            return;
        };
        let waits = |lane: &Lane| lane.waiting_for(from) > 0;
        let twice = message.method() == "initialize" && self.lanes.iter().any(waits);
        if let Err(error) = session.check_new(id, twice) {
            out.to_peer.push((from, error.into()));
            return;
        }
        if message.method() == "server/discover" {
            if let Some(error) = &self.legacy_only {
                let mut line = Vec::new();
                error.write(Some(id), &[], &mut line);
                out.to_peer.push((from, line.into()));
                return;
            }
        }
        let lane = self.lane_for(from, message, out);
        if message.method() == "initialize" {
            self.initialize(lane, from, id, message, out);
            return;
        }
        self.open_handshake(lane, None, out);
        let ours = self.fresh_id();
        let Some(session) = self.sessions.get_mut(&from) else {
            return;
        };
        session.insert(id.clone(), lane, ours);
        let purpose = match message.method() {
            "server/discover" => Purpose::Discover,
            _ => Purpose::Forward,
        };
        let token = message.progress_token();
        let state = &mut self.lanes[lane.0];
        state.in_flight.insert(
            ours,
            Pending {
                session: from,
                id: id.clone(),
                progress_token: token.map(|(token, _)| token.clone()),
                purpose,
            },
        );
        let ours = RequestId::Number(ours);
        let edit = token.map(|(_, span)| Edit {
            span: *span,
            with: Replacement::Id(&ours),
        });
        message.write(Some(&ours), edit.as_slice(), state.sink(lane, out));
    }

    fn notification(&mut self, from: SessionId, message: &Message, out: &mut Output) {
        match message.method() {
            // The router has said it for everybody.
            "notifications/initialized" => {}
            "notifications/cancelled" => self.cancelled_by_peer(from, message, out),
            // Progress answers a request of the child; none is routed to peers.
            "notifications/progress" => {
                tracing::debug!(session = %from, "dropped progress on nothing that was asked");
            }
            _ => {
                let lane = self.lane_for(from, message, out);
                self.open_handshake(lane, None, out);
                message.write(None, &[], self.lanes[lane.0].sink(lane, out));
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
        let found = quoted.and_then(|(id, span)| Some((session.cancel(&id)?, span)));
        let Some(((lane, ours, evicted), span)) = found else {
            tracing::debug!(session = %from, "dropped a cancellation of nothing in flight");
            return;
        };
        if let Some((lane, ours)) = evicted {
            self.lanes[lane.0].in_flight.remove(&ours);
        }
        let ours = RequestId::Number(ours);
        let edit = Edit {
            span,
            with: Replacement::Id(&ours),
        };
        message.write(None, &[edit], self.lanes[lane.0].sink(lane, out));
    }

    /// The lane that serves `message`, starting its process where there is none.
    fn lane_for(&mut self, from: SessionId, message: &Message, out: &mut Output) -> LaneId {
        let before = self
            .sessions
            .get(&from)
            .is_some_and(|session| session.modern);
        let modern = match message.method() {
            "initialize" => false,
            _ => message.is_modern() || before,
        };
        if let Some(session) = self.sessions.get_mut(&from) {
            session.modern = modern;
        }
        if modern && self.legacy_only.is_none() {
            let probe = message.method() == "server/discover";
            let service = if probe {
                Service::Probing
            } else {
                Service::Modern
            };
            self.claim(
                |service| matches!(service, Service::Modern | Service::Probing),
                service,
                out,
            )
        } else {
            self.claim(|service| service == Service::Legacy, Service::Legacy, out)
        }
    }

    fn claim(
        &mut self,
        serves: impl Fn(Service) -> bool,
        becomes: Service,
        out: &mut Output,
    ) -> LaneId {
        let find = |wanted: &dyn Fn(Service) -> bool| {
            LaneId::ALL
                .into_iter()
                .find(|lane| wanted(self.lanes[lane.0].service))
        };
        if let Some(lane) = find(&serves) {
            return lane;
        }
        if let Some(lane) = find(&|service| service == Service::Fresh) {
            self.lanes[lane.0].service = becomes;
            return lane;
        }
        // Two eras, two lanes: were none idle, one would serve this era and have been found.
        let lane = find(&|service| service == Service::Idle).unwrap_or(LaneId::FIRST);
        self.lanes[lane.0].service = becomes;
        out.commands.push(Command::Start(lane));
        lane
    }

    fn fresh_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    fn initialize(
        &mut self,
        lane: LaneId,
        from: SessionId,
        id: &RequestId,
        message: &Message,
        out: &mut Output,
    ) {
        let requested = message
            .text(Field::ProtocolVersion)
            .map(|text| text.into_owned());
        if let Handshake::Done(answer) = &self.lanes[lane.0].handshake {
            let line = lane::answer_initialize(answer, id, requested.as_deref());
            out.to_peer.push((from, line));
            if let Some(session) = self.sessions.get_mut(&from) {
                session.initialized = true;
            }
            return;
        }
        self.open_handshake(lane, Some(message), out);
        self.lanes[lane.0].wait_for_handshake(from, id.clone(), requested);
    }

    /// Sends `initialize` to a legacy lane that needs it: for the peer whose `message` this is, or
    /// in the router's own name where a peer goes ahead without one.
    fn open_handshake(&mut self, lane: LaneId, message: Option<&Message>, out: &mut Output) {
        let state = &self.lanes[lane.0];
        let due = match state.handshake {
            Handshake::Needed => true,
            Handshake::Refused => message.is_some(),
            Handshake::Sent(_) | Handshake::Done(_) => false,
        };
        if state.service != Service::Legacy || !due {
            return;
        }
        let ours = self.fresh_id();
        let client = message.and_then(|message| message.carry(Field::ClientInfo));
        self.lanes[lane.0].send_initialize(lane, ours, client.as_deref(), out);
    }

    /// A message from a lane's process.
    pub fn from_child(&mut self, lane: LaneId, message: &Message, out: &mut Output) {
        match message.kind() {
            Kind::Response(Some(RequestId::Number(ours))) => self.answer(lane, *ours, message, out),
            Kind::Response(_) => {
                tracing::warn!("the MCP server answered with an id that we never sent")
            }
            Kind::Request(id) => self.request_of_child(lane, id, message, out),
            Kind::Notification => self.notification_of_child(lane, message, out),
        }
    }

    fn answer(&mut self, lane: LaneId, ours: i64, message: &Message, out: &mut Output) {
        let state = &mut self.lanes[lane.0];
        if state.handshake.is_answered_by(ours) {
            self.handshake_answered(lane, message, out);
            return;
        }
        let Some(pending) = state.in_flight.remove(&ours) else {
            tracing::debug!(id = ours, "dropped a late answer");
            return;
        };
        if let Some(session) = self.sessions.get_mut(&pending.session) {
            session.answered(&pending.id, ours);
        }
        let mut line = Vec::new();
        message.write(Some(&pending.id), &[], &mut line);
        out.to_peer.push((pending.session, line.into()));
        if pending.purpose == Purpose::Discover && self.lanes[lane.0].service == Service::Probing {
            self.discovered(lane, message, out);
        }
    }

    /// The first answer to `server/discover` tells what the server is. Errors of 2026-07-28's own
    /// range come from modern servers only (basic "Error Codes").
    fn discovered(&mut self, lane: LaneId, answer: &Message, out: &mut Output) {
        let modern = answer.result().is_some()
            || answer
                .error_code()
                .is_some_and(|code| (-32099..=-32020).contains(&code));
        if modern {
            self.lanes[lane.0].service = Service::Modern;
            return;
        }
        self.legacy_only = Some(answer.clone());
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
        for (session, id, requested) in self.lanes[lane.0].end_handshake(lane, answer, out) {
            let line = lane::answer_initialize(answer, &id, requested.as_deref());
            out.to_peer.push((session, line));
            if let Some(session) = self.sessions.get_mut(&session) {
                session.initialized |= answer.result().is_some();
            }
        }
    }

    fn request_of_child(
        &mut self,
        lane: LaneId,
        id: &RequestId,
        message: &Message,
        out: &mut Output,
    ) {
        let to_child = &mut out.to_child[lane.0];
        if message.method() == "ping" {
            to_child.extend(b"{\"jsonrpc\":\"2.0\",\"id\":");
            id.write(to_child);
            to_child.extend(b",\"result\":{}}\n");
        } else {
            let text = format!(
                "Method not found: no connected client takes '{}'",
                message.method()
            );
            to_child.extend(error_line(Some(id), Code::MethodNotFound, &text, NO_DATA));
        }
    }

    fn notification_of_child(&mut self, lane: LaneId, message: &Message, out: &mut Output) {
        match message.method() {
            "notifications/progress" => self.progress(lane, message, out),
            "notifications/cancelled" => {
                tracing::debug!("dropped a cancellation of a request that went to nobody");
            }
            _ => {
                let mut line = Vec::new();
                message.write(None, &[], &mut line);
                let line = Bytes::from(line);
                let modern = self.lanes[lane.0].service != Service::Legacy;
                let mut receivers: Vec<SessionId> = self
                    .sessions
                    .iter()
                    .filter(|(_, session)| session.initialized && session.modern == modern)
                    .map(|(id, _)| *id)
                    .collect();
                receivers.sort_unstable();
                out.to_peer
                    .extend(receivers.into_iter().map(|id| (id, line.clone())));
            }
        }
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
        let mut line = Vec::new();
        let edit = Edit {
            span,
            with: Replacement::Id(token),
        };
        message.write(None, &[edit], &mut line);
        out.to_peer.push((pending.session, line.into()));
    }

    /// A lane's process has ended: everybody who waits for it gets an error.
    pub fn child_exited(&mut self, lane: LaneId, exit: &Exit, out: &mut Output) {
        let state = std::mem::take(&mut self.lanes[lane.0]);
        let data = ErrorData::new("child-exited", Executed::Unknown)
            .with_exit(exit.status.clone(), exit.stderr.clone());
        let fail = |id: &RequestId| {
            error_line(
                Some(id),
                Code::InternalError,
                "MCP server exited",
                Some(&data),
            )
        };
        let mut in_flight: Vec<_> = state.in_flight.into_iter().collect();
        in_flight.sort_unstable_by_key(|(ours, _)| *ours);
        for (ours, pending) in in_flight {
            let Some(session) = self.sessions.get_mut(&pending.session) else {
                continue;
            };
            if session.answered(&pending.id, ours) {
                out.to_peer
                    .push((pending.session, fail(&pending.id).into()));
            }
        }
        if let Handshake::Sent(sent) = state.handshake {
            let lines = sent
                .waiting
                .into_iter()
                .map(|(session, id, _)| (session, fail(&id).into()));
            out.to_peer.extend(lines);
        }
        out.to_child[lane.0].clear();
    }
}

#[cfg(test)]
mod tests;
