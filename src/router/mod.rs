//! Routes messages between many peers and one MCP server, as a pure state machine.
//!
//! Events come in as method calls, actions go out through [`Output`]; no I/O, no clock. Peers
//! choose ids freely, so every request gets one of the router's own ids towards the child, which no
//! other open one has, and the peer's id is restored in the answer. Payloads are unchanged except for
//! members that quote an id or a token.
//!
//! # Invariants
//! 1. A request of a peer is answered exactly once, or its peer is gone, or the peer cancelled it.
//! 2. Nothing is delivered to a session that it does not belong to: answers, progress and
//!    subscriptions go to the requester, server requests to the peer that they are certainly for, or
//!    to none, tasks to their owner, broadcasts only to sessions that had their handshake.
//! 3. A peer can answer only server requests that were sent to it, once, and cancel only its own
//!    requests.
//! 4. A session, or all of one user, has at most [`MAX_IN_FLIGHT`] requests in flight, and [`MAX_CANCELLED`] cancelled
//!    ones that may still be answered; when it leaves, no state remains.
//! 5. A process sees `initialize` once unless it refused it, nothing of a legacy peer before it
//!    has answered, and `notifications/initialized` once, right after that.
//!
//! # Legacy and modern
//! Servers on the official SDKs serve either legacy peers (`initialize`) or modern ones
//! (2026-07-28, stateless) in one process, never both. So there are up to two processes. The
//! first one serves whichever of the two comes first, the second one starts when the other does.

mod addressee;
mod answers;
mod ask_client;
mod blame;
mod bounds;
mod changes;
mod delivery;
mod evidence;
mod exit;
mod from_child;
mod from_peer;
mod half_closed;
mod handshake;
mod in_flight;
mod isolated;
mod known_tools;
mod levels;
mod lifecycle;
mod listen_requests;
mod losses;
mod notifications;
mod openings;
mod output;
mod own_answer;
mod peers;
mod pending;
mod pinned;
mod process;
mod process_choice;
mod queue;
mod requesters;
mod requests;
mod revision;
mod rights;
mod server_requests;
mod session;
mod subscriptions;
mod tasks;
mod turns;
mod versions;
mod wire_ids;

pub use bounds::TooLarge;
pub use evidence::{Cause, Sender};
pub use exit::Exit;
pub use isolated::IsolatedRouter;
pub use known_tools::ToolsKnown;
pub use listen_requests::{MAX_LISTEN_REQUESTS, MAX_LISTEN_SIZE};
pub use losses::Loss;
pub use output::{Command, ForPeer, LineLimits, Output, PROCESSES, ProcessId};
pub use own_answer::tools_unknown;
pub use queue::{Room, Window};
pub use server_requests::can_be_asked;
pub use session::{Counted, Presence, Profile};

use crate::jsonrpc::{Code, ErrorData, Executed, Message, error_line};
use crate::permissions::Denial;
use blame::Blame;
use peers::{Peers, Receiver};
use process::{Process, Service};
use session::Session;
use std::time::Instant;

/// The most requests that one peer may have in flight, or all peers of one user together.
pub const MAX_IN_FLIGHT: usize = 16_384;

/// The most cancelled requests of one peer whose late answers are still recognized.
pub const MAX_CANCELLED: usize = 256;

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

/// The table of sessions, processes and requests in flight: dispatches each event to its process. `Debug`
/// shows only sizes, because it contains what peers have sent.
pub struct Router {
    peers: Peers,
    processes: [Process; PROCESSES],
    /// The server's error for `server/discover`, if it is not a modern one.
    legacy_only: Option<Message>,
    /// How many processes in a row have ended while they were probed for being modern.
    fatal_probes: u8,
    /// The senders whose messages have ended processes.
    blame: Blame,
    /// How much each process may have in flight.
    window: Window,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("sessions", &self.peers.sessions.len())
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

    /// The same; `window` bounds what each process has in flight.
    #[must_use]
    pub fn with_window(window: Window) -> Self {
        let ids = wire_ids::WireIds::default();
        let mut processes = ProcessId::ALL.map(|id| Process::new(id, window, ids.clone()));
        processes[ProcessId::FIRST.0].service = Service::Fresh;
        Self {
            peers: Peers::default(),
            processes,
            legacy_only: None,
            fatal_probes: 0,
            blame: Blame::default(),
            window,
        }
    }

    /// A new router that gives requests the ids which this one gave them: it tells a benchmark what will be answered.
    #[must_use]
    pub fn twin(&self) -> Self {
        let mut twin = Self::with_window(self.window);
        for (process, own) in twin.processes.iter_mut().zip(&self.processes) {
            process.ids.clone_from(&own.ids);
        }
        twin
    }

    fn process(&mut self, id: ProcessId) -> (&mut Process, &mut Peers) {
        // Every message comes by here; what else is numbered is little.
        if self.peers.numbers.are_due() {
            self.review_numbers();
        }
        (&mut self.processes[id.0], &mut self.peers)
    }

    fn review_numbers(&mut self) {
        let numbers = &self.peers.numbers;
        let processes = self.processes.iter();
        let open: Vec<i64> = processes
            .flat_map(|process| process.open_requests(numbers))
            .collect();
        self.peers.numbers.review(open);
    }

    /// Attaches a peer.
    pub fn attach(&mut self, profile: Profile) -> SessionId {
        self.attach_of_user(profile, &Counted::default())
    }

    /// The same; its requests and memory are counted in `counted`.
    pub fn attach_of_user(&mut self, profile: Profile, counted: &Counted) -> SessionId {
        self.peers.add(profile, counted)
    }

    /// Detaches a peer: its requests are cancelled at the child, its subscriptions end, server
    /// requests to it are answered with an error; late answers will be dropped.
    pub fn detach(&mut self, id: SessionId, out: &mut Output) {
        let Self {
            peers, processes, ..
        } = self;
        let Some(session) = peers.sessions.remove(&id) else {
            return;
        };
        self.blame.leave(&session.sender);
        for process in &mut *processes {
            let origin = session.origin(None, peers.numbers.newest);
            process.give_notifications(id, origin, out);
        }
        for (process, ours) in session.requests() {
            processes[process.0].abandon(ours, &session, peers.numbers.newest, out);
        }
        for process in processes {
            process.leave(id, &session, peers, out);
        }
    }

    /// Moves a peer away: its pending requests are answered with errors, and it is detached as by
    /// [`Router::detach`].
    pub fn release(&mut self, id: SessionId, out: &mut Output) {
        let Some(session) = self.peers.get(id) else {
            return;
        };
        let mut open: Vec<(ProcessId, i64)> = session.open().collect();
        open.sort_unstable_by_key(|(_, ours)| *ours);
        let data = ErrorData::new("session-moved", Executed::Unknown);
        let text = "The client has been given an MCP server of its own";
        for (process, ours) in open {
            if let Some(pending) = self.processes[process.0].in_flight.get(ours) {
                let line = error_line(Some(&pending.id), Code::InternalError, text, Some(&data));
                out.tell(id, line);
            }
        }
        self.detach(id, out);
    }

    /// Applies changed rights of a peer: refuses what waits, and ends the subscriptions, as far as they no longer
    /// allow it. Returns what has been refused or ended.
    #[must_use]
    pub fn set_rights(&mut self, id: SessionId, profile: Profile, out: &mut Output) -> Vec<Denial> {
        let Some(session) = self.peers.get_mut(id) else {
            return Vec::new();
        };
        let rights = profile.rights.clone();
        session.profile = profile;
        let (processes, peers) = (&mut self.processes, &mut self.peers);
        let applied = processes
            .iter_mut()
            .flat_map(|process| process.apply_rights(id, &rights, peers, out));
        applied.collect()
    }

    /// Notes whether a session's client is connected, which decides what waits for it.
    pub fn set_presence(&mut self, id: SessionId, presence: Presence, out: &mut Output) {
        let Some(session) = self.peers.get_mut(id) else {
            return;
        };
        session.presence = presence;
        if presence != Presence::Lost {
            self.ask_parked(id, out);
        }
    }

    /// Sends the server requests that waited for a session.
    fn ask_parked(&mut self, session: SessionId, out: &mut Output) {
        for process in &mut self.processes {
            process.ask_parked(session, &mut self.peers, out);
        }
    }

    /// How many requests of this peer are pending.
    #[must_use]
    pub fn pending_requests(&self, id: SessionId) -> usize {
        let processes = self.processes.iter();
        let waiting = processes.filter(|process| process.initialize_of(id).is_some());
        let session = self.peers.get(id);
        session.map_or(0, |session| session.in_flight() + waiting.count())
    }

    /// True while a request is pending that will be answered by itself, unlike
    /// `subscriptions/listen`.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        // Cancelled requests do not count, and some servers never answer them.
        let mut open = self.peers.sessions.values().flat_map(Session::open);
        let mut processes = self.processes.iter();
        open.any(|(process, ours)| self.processes[process.0].is_awaited(ours))
            || processes.any(|process| !process.openings.is_empty())
    }

    /// True while a process has ended, or is about to start.
    #[must_use]
    pub fn is_down(&self, process: ProcessId) -> bool {
        self.processes[process.0].down
    }

    /// True if there are modern peers, and no legacy ones.
    #[must_use]
    pub fn serves_modern_only(&self) -> bool {
        let modern = |service| matches!(service, Service::Modern | Service::Returning(_));
        let services = self.processes.each_ref().map(|process| process.service);
        services.into_iter().any(modern) && !services.contains(&Service::Legacy)
    }

    /// Bytes that are held for a handshake or a restart of this process; senders of more should
    /// wait, too.
    #[must_use]
    pub fn held(&self, process: ProcessId) -> usize {
        self.processes[process.0].waiting()
    }

    /// Sends a process the lines whose turn it is; to be called after each event and whenever lines have been
    /// written. True if there were any.
    pub fn advance(&mut self, process: ProcessId, out: &mut Output) -> bool {
        let (process, peers) = self.process(process);
        process.advance(peers, out)
    }

    /// True if so much of a peer is queued that its message should wait until there is less. What would not be queued
    /// does not wait for that, and nothing does while the process waits for an answer of this peer: that could come
    /// behind the message.
    #[must_use]
    pub fn is_full_for(&self, process: ProcessId, id: SessionId, message: &Message) -> bool {
        let process = &self.processes[process.0];
        process.queue.is_full_for(id)
            && from_peer::is_queued(message)
            && !process.server_requests.wait_for(id)
            && !process.goes_ahead(id, message)
    }

    /// The sessions that may be read again since the last call.
    pub fn take_room(&mut self, process: ProcessId) -> Room {
        self.processes[process.0].queue.take_room()
    }

    /// When the oldest open server request was sent.
    #[must_use]
    pub fn oldest_question(&self) -> Option<Instant> {
        let processes = self.processes.iter();
        let oldest = processes.filter_map(|process| process.server_requests.oldest());
        oldest.min()
    }

    /// Fails the server requests that were sent by then, and cancels them at their peers; late answers will
    /// be dropped.
    pub fn expire_questions(&mut self, asked_by: Instant, out: &mut Output) {
        for process in &mut self.processes {
            process.expire_questions(asked_by, out);
        }
    }

    /// When to call [`Router::tell_changes`].
    #[must_use]
    pub fn next_change(&self) -> Option<Instant> {
        self.peers.changes.next()
    }

    /// Sends peers the delayed notifications of changed lists that are due.
    pub fn tell_changes(&mut self, now: Instant, out: &mut Output) {
        for (receiver, line) in self.peers.changes.take_due(now) {
            let session = match receiver {
                Receiver::Session(id) => {
                    let session = self.peers.get(id);
                    session
                        .filter(|session| session.gets_broadcasts())
                        .map(|_| id)
                }
                Receiver::Listen(process, ours) => {
                    let pending = self.processes[process.0].in_flight.get(ours);
                    pending
                        .filter(|pending| pending.is_listening())
                        .map(|pending| pending.session)
                }
            };
            out.to_peer
                .extend(session.map(|session| (session, line.into())));
        }
    }
}

#[cfg(test)]
mod tests;
