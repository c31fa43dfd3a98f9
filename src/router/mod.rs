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
//!    subscriptions go to the asker, questions of the child to the peer that they are certainly
//!    for, or to nobody, tasks to their owner, broadcasts only to sessions that had their handshake.
//! 3. A peer can answer only what it was asked, once, and cancel only what it asked.
//! 4. A session, or all of one user, has at most [`MAX_IN_FLIGHT`] requests in flight, and [`MAX_CANCELLED`] cancelled
//!    ones that may still be answered; when it leaves, nothing of it stays.
//! 5. A process sees `initialize` once unless it refused it, nothing of a legacy peer before it
//!    has answered, and `notifications/initialized` once, right after that.
//!
//! # Eras
//! Servers on the official SDKs serve either legacy peers (`initialize`) or modern ones
//! (2026-07-28, stateless) in one process, never both. So there are up to two processes. The
//! first one serves whichever era comes first, the second one starts when the other does.

mod addressee;
mod asks;
mod blame;
mod bounds;
mod changes;
mod delivery;
mod evidence;
mod from_child;
mod from_peer;
mod half_closed;
mod handshake;
mod in_flight;
mod isolated;
mod levels;
mod life;
mod listen_requests;
mod lists;
mod losses;
mod openings;
mod pending;
mod process;
mod process_choice;
mod questions;
mod queue;
mod requesters;
mod revision;
mod rights;
mod session;
mod subscriptions;
mod tasks;
mod turns;
mod versions;

pub use asks::can_be_asked;
pub use bounds::{LineLimits, TooLarge};
pub use evidence::{Cause, Sender};
pub use isolated::IsolatedRouter;
pub use listen_requests::{MAX_LISTEN_REQUESTS, MAX_LISTEN_SIZE};
pub use losses::Loss;
pub use queue::{Room, Window};
pub use session::{Counted, Presence, Profile};

use crate::jsonrpc::{Code, ErrorData, Executed, Message, NO_DATA, RequestId, error_line};
use crate::utils::chunks::{Chunks, Line};
use crate::utils::shorten::shorten;
use blame::Blame;
use changes::Changes;
use pending::{Delivery, Pending, Purpose};
use process::{Process, Service};
use session::Session;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most requests that one peer may have in flight, or all peers of one user together.
pub const MAX_IN_FLIGHT: usize = 16_384;

/// The most cancelled requests of one peer whose answer we still look out for.
pub const MAX_CANCELLED: usize = 256;

/// The most of a method's name that an answer quotes, in bytes.
const MAX_NAME: usize = 1024;

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
pub struct ProcessId(pub(crate) usize);

/// How many processes there can be.
pub const PROCESSES: usize = 2;

impl ProcessId {
    /// The one that starts with the server.
    pub const FIRST: Self = Self(0);

    /// Both.
    pub const ALL: [Self; PROCESSES] = [Self(0), Self(1)];
}

/// What to do about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start it; lines for it are already waiting.
    Start(ProcessId),
    /// Nobody needs it any more.
    Stop(ProcessId),
}

/// What an event leads to. `Debug` shows how much, never what.
#[derive(Default)]
pub struct Output {
    /// Whole lines for each process.
    pub to_child: [Chunks; PROCESSES],
    /// Whole lines for peers, in order.
    pub to_peer: Vec<(SessionId, Line)>,
    /// Processes to start and stop.
    pub commands: Vec<Command>,
    /// Which processes have just been asked something that they have to answer in time: see
    /// [`Router::awaited`].
    pub asked: [bool; PROCESSES],
    /// Something waits for its time: see [`Router::oldest_question`] and [`Router::next_change`].
    pub timed: bool,
    /// How many bytes of `to_child` answer what the process itself has asked: one that asks and does
    /// not read must not fill our memory.
    pub answers: [usize; PROCESSES],
    /// The message of a peer has named a task of somebody else, which reads like one that never was.
    pub foreign_task: bool,
    limits: LineLimits,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("to_child", &self.to_child.each_ref().map(Chunks::len))
            .field("to_peer", &self.to_peer.len())
            .field("commands", &self.commands)
            .finish()
    }
}

impl Output {
    /// With bounds on the lines that are written.
    #[must_use]
    pub fn new(limits: LineLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Answers a process in the place of a peer.
    pub fn answer(&mut self, process: ProcessId, line: &[u8]) {
        self.to_child[process.0].extend(line);
        self.answers[process.0] += line.len();
    }

    /// Takes what waits for a process, and leaves `spare` for what comes next.
    #[must_use]
    pub fn take(&mut self, process: ProcessId, spare: Chunks) -> Chunks {
        self.answers[process.0] = 0;
        std::mem::replace(&mut self.to_child[process.0], spare)
    }
}

/// How a process ended, for the errors that its peers get.
#[derive(Clone, Debug, Default)]
pub struct Exit {
    /// Exit status or signal, as text.
    pub status: String,
    /// The last line it wrote on stderr.
    pub stderr: Option<String>,
    /// It was ended because it had not answered this in time.
    pub overdue: Option<&'static str>,
    /// Another process will take its place: [`Router::child_started`] follows.
    pub restarts: bool,
    /// That one is told nothing of what this one knew of its peers: it may have ended at that.
    pub forgets: bool,
    /// That one hears one sender at a time, as long as it is asked to with [`Router::tick`]: nobody
    /// knows at whose message this one and others have ended.
    pub suspicious: bool,
}

impl Exit {
    /// The error for a request that the process will not answer.
    fn error_of(&self, pending: &Pending) -> Line {
        let executed = match pending.delivery {
            Delivery::Given => Executed::Unknown,
            Delivery::Queued | Delivery::Held => Executed::No,
        };
        self.error(&pending.id, executed)
    }

    /// The same for an `initialize`.
    fn error_line(&self, id: &RequestId) -> Line {
        self.error(id, Executed::Unknown)
    }

    fn error(&self, id: &RequestId, executed: Executed) -> Line {
        let (text, data) = match self.overdue {
            None => {
                let data = ErrorData::new("child-exited", executed);
                ("MCP server exited".into(), data)
            }
            Some(method) => {
                let text = format!("The MCP server did not answer '{method}' in time");
                (text, ErrorData::new("handshake-timeout", executed))
            }
        };
        let data = data.with_exit(self.status.clone(), self.stderr.clone());
        error_line(Some(id), Code::InternalError, &text, Some(&data)).into()
    }
}

/// The answer to a message whose method is of the other kind: none to a notification.
fn misplaced(message: &Message) -> Option<Line> {
    tracing::debug!("dropped a request under a notification's name, or the reverse");
    let text = "Invalid Request: a notification has no id";
    let answer = |id| error_line(Some(id), Code::InvalidRequest, text, NO_DATA).into();
    message.id().map(answer)
}

/// The answer to a request whose params are not what the router, or MCP, takes.
fn invalid_params(id: &RequestId, reason: &str) -> Vec<u8> {
    let text = format!("Invalid params: {reason}");
    error_line(Some(id), Code::InvalidParams, &text, NO_DATA)
}

/// The table of sessions, processes and requests in flight. `Debug` shows its size: it holds what peers
/// have sent.
pub struct Router {
    /// In order of arrival, so that broadcasts and choices are the same every time.
    sessions: BTreeMap<SessionId, Session>,
    processes: [Process; PROCESSES],
    next_session: u64,
    next_id: i64,
    /// The error with which the server answered `server/discover`, if it is not a modern one.
    legacy_only: Option<Message>,
    /// So many processes in a row have ended while they were asked for their era.
    fatal_probes: u8,
    /// So many questions were refused because it was not certain whom they are for.
    refused_questions: u64,
    /// Whose messages have ended processes.
    blame: Blame,
    /// What peers have just been told of lists that have changed.
    changes: Changes<Receiver>,
    /// How much each process is given ahead.
    window: Window,
}

/// Who is told of a list that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Receiver {
    Session(SessionId),
    /// The peer of a `subscriptions/listen`, by the id that this process knows it by.
    Listen(usize, i64),
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
    /// A router whose first process is about to start.
    #[must_use]
    pub fn new() -> Self {
        Self::with_window(Window::default())
    }

    /// The same; each process is given so much ahead.
    #[must_use]
    pub fn with_window(window: Window) -> Self {
        let mut processes = [Process::new(window), Process::new(window)];
        processes[ProcessId::FIRST.0].service = Service::Fresh;
        Self {
            sessions: BTreeMap::new(),
            processes,
            next_session: 0,
            next_id: 0,
            legacy_only: None,
            fatal_probes: 0,
            refused_questions: 0,
            blame: Blame::default(),
            changes: Changes::default(),
            window,
        }
    }

    /// A peer has come.
    pub fn attach(&mut self, profile: Profile) -> SessionId {
        self.attach_of_user(profile, &Counted::default())
    }

    /// The same; its requests and the memory kept for it are counted.
    pub fn attach_of_user(&mut self, profile: Profile, counted: &Counted) -> SessionId {
        self.next_session += 1;
        let id = SessionId(self.next_session);
        self.sessions.insert(id, Session::new(id, profile, counted));
        id
    }

    /// A peer has gone: its requests are cancelled at the child, its subscriptions ended, its
    /// questions answered with an error; late answers will be dropped.
    pub fn detach(&mut self, id: SessionId, out: &mut Output) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        self.blame.leave(&session.sender);
        for process in ProcessId::ALL {
            let origin = session.origin(None, self.next_id);
            self.processes[process.0].give_notifications(process, id, origin, out);
        }
        for (process, ours) in session.requests() {
            self.abandon(process, ours, &session, out);
        }
        for process in ProcessId::ALL {
            if session.uses[process.0] {
                self.processes[process.0].departed.add(&session.owner);
            }
            self.processes[process.0].take_opening(id);
            self.processes[process.0].tasks.leave(id);
            self.end_subscriptions(process, id, out);
            self.lower_level(process, out);
        }
    }

    /// A peer goes on elsewhere: what it is still owed is answered with errors, and it has gone from
    /// here as by [`Router::detach`].
    pub fn release(&mut self, id: SessionId, out: &mut Output) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let mut open: Vec<(ProcessId, i64)> = session.open().collect();
        open.sort_unstable_by_key(|(_, ours)| *ours);
        let data = ErrorData::new("session-moved", Executed::Unknown);
        let text = "The client has been given an MCP server of its own";
        for (process, ours) in open {
            if let Some(pending) = self.processes[process.0].in_flight.get(ours) {
                let line = error_line(Some(&pending.id), Code::InternalError, text, Some(&data));
                out.to_peer.push((id, line.into()));
            }
        }
        self.detach(id, out);
    }

    /// Forgets a request that nobody waits for any more, but not that the process may be working on
    /// it.
    fn forget(
        &mut self,
        process: ProcessId,
        ours: i64,
        owner: &Arc<tasks::Owner>,
    ) -> Option<Pending> {
        let state = &mut self.processes[process.0];
        let pending = state.forget(ours)?;
        if pending.is_sent(ours) {
            state.forgotten.insert(ours, pending.session, owner);
        }
        Some(pending)
    }

    /// How many requests of this peer wait for an answer.
    #[must_use]
    pub fn owed(&self, id: SessionId) -> usize {
        let waiting = self
            .processes
            .iter()
            .filter(|process| process.initialize_of(id).is_some())
            .count();
        self.sessions
            .get(&id)
            .map_or(0, |session| session.in_flight() + waiting)
    }

    /// True while a request waits for an answer that will come by itself, which those of
    /// `subscriptions/listen` do not.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        // Nobody waits for what was cancelled, and some servers never answer that.
        let mut open = self.sessions.values().flat_map(Session::open);
        let is_awaited = |(process, ours): (ProcessId, i64)| {
            let pending = self.processes[process.0].in_flight.get(ours);
            pending.is_some_and(|pending| !matches!(pending.purpose, Purpose::Listen(_)))
        };
        open.any(is_awaited)
            || self
                .processes
                .iter()
                .any(|process| !process.openings.is_empty())
    }

    /// True while a process has ended, or is about to start.
    #[must_use]
    pub fn is_down(&self, process: ProcessId) -> bool {
        self.processes[process.0].down
    }

    /// True where there are modern peers, and none of the other kind.
    #[must_use]
    pub fn serves_modern_only(&self) -> bool {
        let modern =
            |process: &Process| matches!(process.service, Service::Modern | Service::Returning(_));
        let legacy = |process: &Process| process.service == Service::Legacy;
        self.processes.iter().any(modern) && !self.processes.iter().any(legacy)
    }

    /// Bytes that wait inside the router for a handshake or a restart of this process; what sends
    /// more should wait, too.
    #[must_use]
    pub fn held(&self, process: ProcessId) -> usize {
        self.processes[process.0].waiting()
    }

    /// Gives a process the lines whose turn it is, to be called after each event and whenever lines have
    /// been written. True where there was one.
    pub fn advance(&mut self, process: ProcessId, out: &mut Output) -> bool {
        let mut advanced = false;
        let state = &mut self.processes[process.0];
        while state.takes_more(out.to_child[process.0].len()) {
            let Some(next) = state.queue.pop() else {
                break;
            };
            if let Some(session) = self.sessions.get(&next.session) {
                let origin = session.origin(next.waiting.request, self.next_id);
                state.give_next(process, origin, next.waiting, out);
            }
            advanced = true;
        }
        advanced
    }

    /// True where so much of a peer waits for its turn that it should not be read on.
    #[must_use]
    pub fn is_full_for(&self, process: ProcessId, id: SessionId) -> bool {
        self.processes[process.0].queue.is_full_for(id)
    }

    /// Who may be read on since this was last called.
    pub fn take_room(&mut self, process: ProcessId) -> Room {
        self.processes[process.0].queue.take_room()
    }

    fn fresh_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }
}

/// The answer to a question of the child that no peer can be asked.
fn nobody_to_ask(id: &RequestId, method: &str) -> Vec<u8> {
    let method = shorten(method, MAX_NAME);
    let text = format!("Method not found: no connected client can take '{method}'");
    error_line(Some(id), Code::MethodNotFound, &text, NO_DATA)
}

#[cfg(test)]
mod tests;
