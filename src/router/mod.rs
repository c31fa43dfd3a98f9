//! Who gets what: many peers on one MCP server, as a pure state machine.
//!
//! Events come in as method calls, what is to be done goes out through [`Output`]; no I/O, no
//! clock. Peers choose ids as they like, so every request gets an id of the router's own towards
//! the child, never used twice, and the peer's id is put back into the answer. Payloads are not
//! touched but for the members that quote an id or a token.
//!
//! # Invariants
//! 1. A request of a peer is answered exactly once, or its peer is gone, or the peer cancelled it.
//! 2. Nothing is delivered to a session that it does not belong to: answers, progress and
//!    subscriptions go to the asker, questions of the child to one peer that can answer them,
//!    tasks to their owner, broadcasts only to sessions that had their handshake.
//! 3. A peer can answer only what it was asked, once, and cancel only what it asked.
//! 4. A session has at most [`MAX_IN_FLIGHT`] requests in flight, and [`MAX_CANCELLED`] cancelled
//!    ones that may still be answered; when it leaves, nothing of it stays.
//! 5. A process sees `initialize` once unless it refused it, nothing of a legacy peer before it
//!    has answered, and `notifications/initialized` once, right after that.
//!
//! # Eras
//! Servers on the official SDKs serve either legacy peers (`initialize`) or modern ones
//! (2026-07-28, stateless) in one process, never both. So there are two lanes, each a process. The
//! first process serves whichever era comes first, the second lane starts when the other one does.

mod asks;
mod from_child;
mod lane;
mod levels;
mod lists;
mod pipe;
mod revise;
mod session;
mod subscriptions;
mod tasks;

pub use pipe::Pipe;
pub use session::{ASKED_OF_PEERS, Profile};

use crate::jsonrpc::{
    Code, Edit, ErrorData, Executed, Field, Kind, Message, NO_DATA, Replacement, RequestId,
    error_line,
};
use crate::permissions::Permit;
use asks::Ask;
use bytes::Bytes;
use lane::{Handshake, Lane, Pending, Purpose, Service};
use levels::Level;
use session::Session;
use std::collections::BTreeMap;

/// The most requests that one peer may have in flight.
pub const MAX_IN_FLIGHT: usize = 16_384;

/// The most `subscriptions/listen` that one peer may have open.
pub const MAX_LISTENS: usize = 256;

/// The longest of them, in bytes.
pub const MAX_LISTEN_SIZE: usize = 64 * 1024;

/// The most cancelled requests of one peer whose answer we still look out for.
pub const MAX_CANCELLED: usize = 256;

/// The newest revision with an `initialize` handshake: what the router asks every server for, so
/// that what a server offers does not depend on who came first.
const NEWEST_LEGACY: &str = "2025-11-25";

/// The revisions with an `initialize` handshake, oldest first.
const LEGACY_REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", NEWEST_LEGACY];

/// The first revision without one.
const OLDEST_MODERN: &str = "2026-07-28";

/// Why requests of a peer that leaves are cancelled.
const PEER_LEFT: &str = "the client has disconnected";

/// One peer, for as long as it lives. Never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// What an event leads to. `Debug` shows how much, never what.
#[derive(Default)]
pub struct Output {
    /// Whole lines for each lane's process.
    pub to_child: [Vec<u8>; LANES],
    /// Whole lines for peers, in order.
    pub to_peer: Vec<(SessionId, Bytes)>,
    /// Processes to start and stop.
    pub commands: Vec<Command>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("to_child", &self.to_child.each_ref().map(Vec::len))
            .field("to_peer", &self.to_peer.len())
            .field("commands", &self.commands)
            .finish()
    }
}

/// How a process ended, for the errors that its peers get.
#[derive(Clone, Debug, Default)]
pub struct Exit {
    /// Exit status or signal, as text.
    pub status: String,
    /// The last line it wrote on stderr.
    pub stderr: Option<String>,
    /// Another process will take its place: [`Router::child_started`] follows.
    pub restarts: bool,
}

impl Exit {
    /// The error for a request that the process will not answer.
    fn error_line(&self, id: &RequestId) -> Bytes {
        let data = ErrorData::new("child-exited", Executed::Unknown)
            .with_exit(self.status.clone(), self.stderr.clone());
        error_line(
            Some(id),
            Code::InternalError,
            "MCP server exited",
            Some(&data),
        )
        .into()
    }
}

/// The answer to a message whose method is of the other kind: none to a notification.
fn misplaced(message: &Message) -> Option<Bytes> {
    tracing::debug!("dropped a request under a notification's name, or the reverse");
    let text = "Invalid Request: a notification has no id";
    let answer = |id| error_line(Some(id), Code::InvalidRequest, text, NO_DATA).into();
    message.id().map(answer)
}

/// The table of sessions, lanes and requests in flight. `Debug` shows its size: it holds what peers
/// have sent.
pub struct Router {
    /// In order of arrival, so that broadcasts and choices are the same every time.
    sessions: BTreeMap<SessionId, Session>,
    lanes: [Lane; LANES],
    next_session: u64,
    next_id: i64,
    /// The error with which the server answered `server/discover`, if it is not a modern one.
    legacy_only: Option<Message>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
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
            sessions: BTreeMap::new(),
            lanes,
            next_session: 0,
            next_id: 0,
            legacy_only: None,
        }
    }

    /// A peer has come.
    pub fn attach(&mut self, profile: Profile) -> SessionId {
        self.next_session += 1;
        let id = SessionId(self.next_session);
        self.sessions.insert(id, Session::new(profile));
        id
    }

    /// A peer has gone: its requests are cancelled at the child, its subscriptions ended, its
    /// questions answered with an error; late answers will be dropped.
    pub fn detach(&mut self, id: SessionId, out: &mut Output) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        for (lane, ours) in session.requests() {
            if self.lanes[lane.0].in_flight.remove(&ours).is_some() {
                self.lanes[lane.0].cancel(lane, ours, PEER_LEFT, out);
            }
        }
        for lane in LaneId::ALL {
            self.lanes[lane.0].forget_waiting(id);
            for uri in self.lanes[lane.0].subscriptions.leave(id) {
                let ours = self.fresh_id();
                self.lanes[lane.0].tell(lane, ours, "resources/unsubscribe", "uri", &uri, out);
            }
            for ask in self.lanes[lane.0].asks.leave(id) {
                let line = error_line(Some(&ask.id), Code::InternalError, PEER_LEFT, NO_DATA);
                out.to_child[lane.0].extend(line);
            }
            self.lower_level(lane, out);
            self.ask_parked(lane, out);
        }
    }

    /// How many requests of this peer wait for an answer.
    #[must_use]
    pub fn owed(&self, id: SessionId) -> usize {
        let waiting = self
            .lanes
            .iter()
            .filter(|lane| lane.initialize_of(id).is_some())
            .count();
        self.sessions
            .get(&id)
            .map_or(0, |session| session.in_flight() + waiting)
    }

    /// True while a request waits for an answer that will come by itself, which those of
    /// `subscriptions/listen` do not.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let pending = self.lanes.iter().flat_map(|lane| lane.in_flight.values());
        let mut awaited = pending
            .filter(|pending| !matches!(pending.purpose, Purpose::Listen(_) | Purpose::Renewed(_)));
        awaited.next().is_some()
            || self
                .lanes
                .iter()
                .any(|lane| matches!(lane.handshake, Handshake::Sent(_)))
    }

    /// The lane that a peer's messages go to, as far as it has told.
    #[must_use]
    pub fn lane_of(&self, id: SessionId) -> LaneId {
        let modern = self.sessions.get(&id).is_some_and(|session| session.modern);
        let serves = |lane: &LaneId| match self.lanes[lane.0].service {
            Service::Legacy => !modern,
            Service::Modern | Service::Probing => modern,
            Service::Idle | Service::Fresh => false,
        };
        LaneId::ALL
            .into_iter()
            .find(serves)
            .unwrap_or(LaneId::FIRST)
    }

    /// Bytes that wait inside the router for a handshake or a restart of this lane; what sends
    /// more should wait, too.
    #[must_use]
    pub fn held(&self, lane: LaneId) -> usize {
        self.lanes[lane.0].held.len()
    }

    /// A message that the policy has let through.
    pub fn peer_message(&mut self, from: SessionId, permit: &Permit, out: &mut Output) {
        let message = permit.message();
        if message.is_misplaced() {
            out.to_peer
                .extend(misplaced(message).map(|line| (from, line)));
            return;
        }
        match message.kind() {
            Kind::Request(id) => self.request(from, id, permit, out),
            Kind::Notification => self.notification(from, message, out),
            Kind::Response(id) => self.answer_of_peer(from, id.as_ref(), message, out),
        }
    }

    fn request(&mut self, from: SessionId, id: &RequestId, permit: &Permit, out: &mut Output) {
        let message = permit.message();
        let Some(session) = self.sessions.get(&from) else {
            return;
        };
        let opening = self.lanes.iter().find_map(|lane| lane.initialize_of(from));
        if let Err(error) = session.check_new(id, message.method() == "initialize", opening) {
            out.to_peer.push((from, error.into()));
            return;
        }
        if let (Some(error), "server/discover") = (&self.legacy_only, message.method()) {
            out.to_peer.push((from, error.to_line(Some(id), &[])));
            return;
        }
        let lane = self.lane_for(from, message, out);
        if message.method() == "initialize" {
            self.initialize(lane, from, id, message, out);
            return;
        }
        self.open_handshake(lane, None, out);
        let purpose = match self.prepare(lane, from, permit) {
            Ok(purpose) => purpose,
            Err(answer) => {
                let line = answer.to_line(id);
                out.to_peer.push((from, line.into()));
                return;
            }
        };
        let ours = self.fresh_id();
        let Some(session) = self.sessions.get_mut(&from) else {
            return;
        };
        session.insert(id.clone(), lane, ours);
        let level = match purpose {
            Purpose::SetLevel(level) => Some(format!("\"{}\"", level.name())),
            _ => None,
        };
        let token = message.progress_token();
        let state = &mut self.lanes[lane.0];
        state.in_flight.insert(
            ours,
            Pending {
                session: from,
                id: id.clone(),
                progress_token: token.map(|(token, _)| token.clone()),
                wants_logs: message.wants_logs(),
                purpose,
            },
        );
        let ours = RequestId::Number(ours);
        let mut edits: Vec<Edit<'_>> = Vec::new();
        if let Some((_, span)) = token {
            edits.push(Edit {
                span: *span,
                with: Replacement::Id(&ours),
            });
        }
        if let (Some(level), Some(span)) = (&level, message.span(Field::Level)) {
            edits.push(Edit {
                span,
                with: Replacement::Json(level.as_bytes()),
            });
            edits.sort_by_key(|edit| edit.span.start);
        }
        message.write(Some(&ours), &edits, state.sink(lane, out));
    }

    /// What is special about a request; some the router answers itself.
    fn prepare(
        &mut self,
        lane: LaneId,
        from: SessionId,
        permit: &Permit,
    ) -> Result<Purpose, OwnAnswer> {
        if let Some(filter) = permit.list() {
            return Ok(Purpose::List(filter.clone()));
        }
        let message = permit.message();
        let legacy = self.lanes[lane.0].service == Service::Legacy;
        match message.method() {
            "server/discover" => Ok(Purpose::Discover),
            "subscriptions/listen" if self.may_listen(lane, from, message) => {
                Ok(Purpose::Listen(Box::new(message.detached())))
            }
            "subscriptions/listen" => Err(OwnAnswer::TooManySubscriptions),
            "resources/subscribe" if legacy => self.subscribe(lane, from, message),
            "resources/unsubscribe" if legacy => self.unsubscribe(lane, from, message),
            "logging/setLevel" if legacy => self.set_level(lane, from, message),
            "tasks/list" => Ok(Purpose::ListTasks),
            method if method.starts_with("tasks/") => {
                let owner = self
                    .sessions
                    .get(&from)
                    .map(|session| &session.profile.user);
                let task = message.text(Field::TaskId);
                let tasks = &self.lanes[lane.0].tasks;
                match (task, owner) {
                    (Some(task), Some(owner)) if tasks.is_owned_by(&task, owner) => {
                        Ok(Purpose::Forward)
                    }
                    _ => Err(OwnAnswer::NoSuchTask),
                }
            }
            _ => Ok(Purpose::Forward),
        }
    }

    /// Listens are kept for the next process, so what one peer can make us keep is bounded.
    fn may_listen(&self, lane: LaneId, from: SessionId, message: &Message) -> bool {
        let in_flight = &self.lanes[lane.0].in_flight;
        let is_listen = |ours: &i64| {
            let pending = in_flight.get(ours).map(|pending| &pending.purpose);
            matches!(pending, Some(Purpose::Listen(_) | Purpose::Renewed(_)))
        };
        let session = self.sessions.get(&from);
        message.size() <= MAX_LISTEN_SIZE
            && session.is_some_and(|session| {
                session.in_flight() < MAX_LISTENS
                    || session
                        .requests()
                        .filter(|(_, ours)| is_listen(ours))
                        .count()
                        < MAX_LISTENS
            })
    }

    fn subscribe(
        &mut self,
        lane: LaneId,
        from: SessionId,
        message: &Message,
    ) -> Result<Purpose, OwnAnswer> {
        let Some(uri) = message.text(Field::Uri) else {
            return Ok(Purpose::Forward);
        };
        let subscriptions = &mut self.lanes[lane.0].subscriptions;
        if uri.len() > subscriptions::MAX_URI
            || subscriptions.count(from) >= subscriptions::MAX_PER_SESSION
        {
            return Err(OwnAnswer::TooManySubscriptions);
        }
        if subscriptions.add(&uri, from) {
            return Err(OwnAnswer::Done);
        }
        Ok(Purpose::Subscribe(uri.into_owned()))
    }

    fn unsubscribe(
        &mut self,
        lane: LaneId,
        from: SessionId,
        message: &Message,
    ) -> Result<Purpose, OwnAnswer> {
        let Some(uri) = message.text(Field::Uri) else {
            return Ok(Purpose::Forward);
        };
        let shared = self.lanes[lane.0].subscriptions.remove(&uri, from);
        if shared {
            Err(OwnAnswer::Done)
        } else {
            Ok(Purpose::Forward)
        }
    }

    fn set_level(
        &mut self,
        lane: LaneId,
        from: SessionId,
        message: &Message,
    ) -> Result<Purpose, OwnAnswer> {
        let asked = message
            .text(Field::Level)
            .and_then(|name| Level::parse(&name));
        let Some(asked) = asked else {
            return Ok(Purpose::Forward);
        };
        // Noted before the child agrees, so that two peers that ask at once both count.
        if let Some(session) = self.sessions.get_mut(&from) {
            session.level = Some(asked);
        }
        let needed = self.most_verbose().unwrap_or(asked);
        let told = &mut self.lanes[lane.0].level;
        if told.replace(needed) == Some(needed) {
            return Err(OwnAnswer::Done);
        }
        Ok(Purpose::SetLevel(needed))
    }

    fn most_verbose(&self) -> Option<Level> {
        self.sessions
            .values()
            .filter_map(|session| session.level)
            .min()
    }

    /// Tells the child a less verbose level when whoever wanted more has left.
    fn lower_level(&mut self, lane: LaneId, out: &mut Output) {
        let (Some(current), Some(needed)) = (self.lanes[lane.0].level, self.most_verbose()) else {
            return;
        };
        if needed > current {
            let ours = self.fresh_id();
            let state = &mut self.lanes[lane.0];
            state.level = Some(needed);
            state.tell(lane, ours, "logging/setLevel", "level", needed.name(), out);
        }
    }

    fn notification(&mut self, from: SessionId, message: &Message, out: &mut Output) {
        match message.method() {
            // The router has said it for everybody.
            "notifications/initialized" => {
                if let Some(session) = self.sessions.get_mut(&from) {
                    session.ready = true;
                }
                for lane in LaneId::ALL {
                    self.ask_parked(lane, out);
                }
            }
            "notifications/cancelled" => self.cancelled_by_peer(from, message, out),
            "notifications/progress" => self.progress_of_peer(from, message, out),
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
        let found =
            quoted.and_then(|(id, span)| Some((session.find(&id)?, session.cancel(&id), span)));
        let Some(((lane, ours), forgotten, span)) = found else {
            tracing::debug!(session = %from, "dropped a cancellation of nothing in flight");
            return;
        };
        if let Some((lane, ours)) = forgotten {
            self.lanes[lane.0].in_flight.remove(&ours);
        }
        let state = &mut self.lanes[lane.0];
        if let Some(pending) = state.in_flight.get_mut(&ours)
            && matches!(pending.purpose, Purpose::Listen(_) | Purpose::Renewed(_))
        {
            pending.purpose = Purpose::Forward;
        }
        let ours = RequestId::Number(ours);
        let edit = Edit {
            span,
            with: Replacement::Id(&ours),
        };
        message.write(None, &[edit], state.sink(lane, out));
    }

    /// Progress on what the child asked of this peer.
    fn progress_of_peer(&mut self, from: SessionId, message: &Message, out: &mut Output) {
        let Some((RequestId::Number(ours), span)) = message.quoted_id(Field::ProgressToken) else {
            return;
        };
        for lane in LaneId::ALL {
            let state = &self.lanes[lane.0];
            let token = state
                .asks
                .get(ours, from)
                .and_then(|ask| ask.progress_token.clone());
            if let Some(token) = token {
                let edit = Edit {
                    span,
                    with: Replacement::Id(&token),
                };
                message.write(None, &[edit], &mut out.to_child[lane.0]);
                return;
            }
        }
        tracing::debug!(session = %from, "dropped progress on nothing that was asked");
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
            for lane in LaneId::ALL {
                let state = &mut self.lanes[lane.0];
                if let Some(Ask { id, .. }) = state.asks.take(*ours, from) {
                    // Not held with the rest: a child may ask before it answers `initialize`.
                    message.write(Some(&id), &[], &mut out.to_child[lane.0]);
                    return;
                }
            }
        }
        tracing::debug!(session = %from, "dropped an answer that nobody asked for");
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
        self.lanes[lane.0].down = true;
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
        if let Some(session) = self.sessions.get_mut(&from) {
            let capabilities = message.raw(Field::Capabilities);
            session.capabilities = capabilities
                .and_then(|raw| serde_json::from_slice(raw).ok())
                .unwrap_or_default();
        }
        let requested = message
            .text(Field::ProtocolVersion)
            .map(|text| text.into_owned());
        let state = &mut self.lanes[lane.0];
        if let Handshake::Done(answer) = &state.handshake {
            out.to_peer.push((
                from,
                lane::answer_initialize(answer, id, requested.as_deref()),
            ));
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
        if state.service == Service::Legacy && due {
            let ours = self.fresh_id();
            let client = message.and_then(|message| message.carry(Field::ClientInfo));
            self.lanes[lane.0].send_initialize(lane, ours, client, false, out);
        }
    }

    /// A lane's process has ended: everybody who waits for it gets an error. Where another one
    /// follows, the handshake, log level and subscriptions are kept for it.
    pub fn child_exited(&mut self, lane: LaneId, exit: &Exit, out: &mut Output) {
        let mut old = std::mem::take(&mut self.lanes[lane.0]);
        out.to_child[lane.0].clear();
        let mut in_flight: Vec<_> = std::mem::take(&mut old.in_flight).into_iter().collect();
        in_flight.sort_unstable_by_key(|(ours, _)| *ours);
        for (ours, pending) in in_flight {
            let Some(session) = self.sessions.get_mut(&pending.session) else {
                continue;
            };
            if exit.restarts && matches!(pending.purpose, Purpose::Listen(_) | Purpose::Renewed(_))
            {
                self.lanes[lane.0].in_flight.insert(ours, pending);
            } else if session.answered(&pending.id, ours) {
                out.to_peer
                    .push((pending.session, exit.error_line(&pending.id)));
            }
        }
        for (ours, ask) in old.asks.all() {
            let mut line = Vec::new();
            lane::write_cancelled(ours, "the MCP server has exited", &mut line);
            out.to_peer.push((ask.session, line.into()));
        }
        let handshake = match std::mem::take(&mut old.handshake) {
            Handshake::Sent(sent) => {
                let errors = sent
                    .waiting
                    .iter()
                    .map(|(session, id, _)| (*session, exit.error_line(id)));
                out.to_peer.extend(errors);
                if sent.renewal {
                    Handshake::Refused
                } else {
                    Handshake::Needed
                }
            }
            other => other,
        };
        if exit.restarts {
            let service = match old.service {
                Service::Probing => Service::Fresh,
                other => other,
            };
            let in_flight = std::mem::take(&mut self.lanes[lane.0].in_flight);
            self.lanes[lane.0] = old.renewed(service, handshake, in_flight);
        }
    }

    /// A lane's process has started. What its predecessor knew is told to it.
    pub fn child_started(&mut self, lane: LaneId, out: &mut Output) {
        let state = &mut self.lanes[lane.0];
        state.down = false;
        // After a restart these are the handshakes that stood, or were being renewed.
        let renew = state.service == Service::Legacy
            && matches!(state.handshake, Handshake::Done(_) | Handshake::Refused);
        if renew {
            let ours = self.fresh_id();
            self.lanes[lane.0].send_initialize(lane, ours, None, true, out);
            return;
        }
        if state.service == Service::Legacy && matches!(state.handshake, Handshake::Sent(_)) {
            return;
        }
        let mut listens: Vec<i64> = Vec::new();
        for (ours, pending) in &mut state.in_flight {
            if let Purpose::Listen(message) | Purpose::Renewed(message) = &pending.purpose {
                pending.purpose = Purpose::Renewed(message.clone());
                listens.push(*ours);
            }
        }
        listens.sort_unstable();
        for ours in listens {
            if let Some(Pending {
                purpose: Purpose::Renewed(message),
                ..
            }) = state.in_flight.get(&ours)
            {
                message.write(
                    Some(&RequestId::Number(ours)),
                    &[],
                    &mut out.to_child[lane.0],
                );
            }
        }
        out.to_child[lane.0].append(&mut state.held);
    }
}

/// The answer to a question of the child that no peer can be asked.
fn nobody_to_ask(id: &RequestId, method: &str) -> Vec<u8> {
    let text = format!("Method not found: no connected client can take '{method}'");
    error_line(Some(id), Code::MethodNotFound, &text, NO_DATA)
}

/// Requests that the router answers itself.
enum OwnAnswer {
    /// `{}`: what was asked for is so already.
    Done,
    NoSuchTask,
    TooManySubscriptions,
}

impl OwnAnswer {
    fn to_line(&self, id: &RequestId) -> Vec<u8> {
        match self {
            Self::Done => {
                let mut line = b"{\"jsonrpc\":\"2.0\",\"id\":".to_vec();
                id.write(&mut line);
                line.extend(b",\"result\":{}}\n");
                line
            }
            Self::NoSuchTask => tasks::unknown(id),
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

#[cfg(test)]
mod tests;
