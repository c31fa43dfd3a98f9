//! Owner of the MCP server's processes and of the router between them and the peers.
//!
//! The router is pure; this module feeds it lines and carries out its decisions. One short lock guards it: a
//! peer's message goes from the peer's own task straight into the pipe, or, where that is full, into its
//! buffer; an answer from the pipe's task straight into the peer's connection, or, where that takes no more,
//! into its outbox.

mod attachment;
mod deadline;
mod driver;
mod error;
mod from_child;
mod learning;
mod outbox;
mod process;
mod restarts;
mod room;
mod routing;
mod session;
mod stdin;
mod stdout;

pub use deadline::Deadlines;
pub use driver::Driver;
pub use error::HubError;
pub use outbox::{Cut, Lines};
pub use room::Room;
pub use session::{Sent, Session, Watch};

use crate::backlog::{Holder, Part};
use crate::child::CommandLine;
use crate::metrics;
use crate::router::{
    Command, Counted, Exit, LineLimits, Output, PROCESSES, ProcessId, Profile, SessionId, Window,
};
use crate::transport::outlet::{ChunkQueue, EARLY, Flush, Outlet};
use crate::utils::chunks::Line;
use crate::utils::lock::lock;
use crate::utils::seldom::Seldom;
use crate::utils::signal::Signal;
use bytes::Bytes;
use foldhash::{HashMap, HashMapExt};
use outbox::Outbox;
use routing::Routing;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::process::ChildStdin;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// While more than this waits for a child, in bytes, peers are not read; nor is the child, if that much of it
/// is answers to its own requests.
const HIGH_WATER: usize = 1 << 20;

/// How often to check for pending requests while the server stops. Not an event: every answer and
/// acknowledgement would have to signal what matters once in the life of a server.
const IDLE_CHECK: Duration = Duration::from_millis(20);

/// Bounds of the hub.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest line from a child, in bytes.
    pub child_message: usize,
    /// Longest lines as they are written.
    pub lines: LineLimits,
    /// Most bytes that may wait for one peer; beyond that it is disconnected.
    pub outbox: usize,
    /// How long a process may take to start, and to answer the router's own requests.
    pub deadlines: Deadlines,
    /// How many times in a row a process that ends by itself is restarted; 0 for never.
    pub restarts: u32,
    /// How many requests of one session a shared process may have in flight; more of them wait.
    pub in_flight: usize,
}

/// A handle on the hub.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Shared>);

/// A handle that does not keep the hub.
#[derive(Clone, Debug)]
pub struct WeakHub(Weak<Shared>);

impl WeakHub {
    /// The hub, if anyone still keeps it.
    #[must_use]
    pub fn upgrade(&self) -> Option<Hub> {
        self.0.upgrade().map(Hub)
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The stdin of each process, and what waits for it.
    stdin: [Outlet<ChildStdin, ChunkQueue>; PROCESSES],
    /// The router has sent a request of its own, or the process gives its first sign of life.
    asked: [Signal; PROCESSES],
    /// There is a new earliest timer.
    timed: Signal,
    /// Lines for a process have been written.
    drained: Notify,
    /// The list of tools of a process is known, or may be requested again.
    learned: Notify,
    /// A process has started or ended, or a session has moved to another hub.
    started: Notify,
    /// Counts lines of all processes that were not messages …
    junk: Seldom,
    /// … those that were not JSON …
    mended: Seldom,
    /// … and those that answered what was not asked.
    unasked: Seldom,
    commands: mpsc::UnboundedSender<Command>,
    limits: Limits,
}

#[derive(Debug)]
struct State {
    routing: Routing,
    /// What waits for the processes; reused for the output of each event.
    out: Output,
    outboxes: HashMap<SessionId, Arc<Outbox>>,
    /// Those whose lines the next flush writes directly.
    ready: Vec<Arc<Outbox>>,
    processes: [ProcessState; PROCESSES],
    stopped: bool,
    /// Accounts for what an isolated process keeps for its only session …
    holder: Holder,
    /// … and what waits for that process.
    waiting: Part,
}

/// What the hub knows of a process.
#[derive(Clone, Copy, Debug, Default)]
struct ProcessState {
    /// The bytes that messages on their way to it will take.
    reserved: usize,
    /// A peer waits for room in the queue.
    awaits_room: bool,
    /// Its number in the system; that of the last one until the next has started.
    pid: Option<u32>,
    /// When it gave its first sign of life.
    alive: Option<Instant>,
    /// It has written a message.
    answered: bool,
}

impl Hub {
    /// A hub that many peers share; its first process is started by [`Driver::run`].
    #[must_use]
    pub fn shared(command: CommandLine, limits: Limits) -> (Self, Driver) {
        let window = Window {
            requests: limits.in_flight,
            bytes: EARLY,
        };
        Self::new(Routing::shared(window), command, limits)
    }

    /// A hub for one session, whose process is not started again when it ends.
    #[must_use]
    pub fn isolated(command: CommandLine, limits: Limits) -> (Self, Driver) {
        Self::new(Routing::isolated(), command, limits)
    }

    fn new(routing: Routing, command: CommandLine, limits: Limits) -> (Self, Driver) {
        // Unbounded, but a process can only be started when there is none and stopped when not.
        let (commands, inbox) = mpsc::unbounded_channel();
        let state = State {
            routing,
            out: Output::new(limits.lines),
            outboxes: HashMap::new(),
            ready: Vec::new(),
            processes: Default::default(),
            stopped: false,
            holder: Holder::default(),
            waiting: Part::default(),
        };
        let hub = Self(Arc::new(Shared {
            state: Mutex::new(state),
            stdin: std::array::from_fn(|_| Outlet::new(ChunkQueue::default())),
            asked: Default::default(),
            timed: Signal::new(),
            drained: Notify::new(),
            started: Notify::new(),
            learned: Notify::new(),
            junk: Seldom::new(),
            mended: Seldom::new(),
            unasked: Seldom::new(),
            commands,
            limits,
        }));
        let driver = Driver::new(hub.clone(), command, inbox);
        (hub, driver)
    }

    /// A handle that does not keep it.
    #[must_use]
    pub fn downgrade(&self) -> WeakHub {
        WeakHub(Arc::downgrade(&self.0))
    }

    /// A session for a new peer.
    #[must_use]
    pub fn attach(&self, profile: Profile, counted: &Counted) -> Session {
        let outbox = Arc::new(Outbox::new(self.0.limits.outbox, counted.holder.clone()));
        let id = self.adopt(profile, counted, &outbox);
        Session::new(id, self.clone(), outbox)
    }

    /// Serves the peer behind this outbox.
    fn adopt(&self, profile: Profile, counted: &Counted, outbox: &Arc<Outbox>) -> SessionId {
        let mut state = self.0.lock();
        let id = state.routing.attach(profile, counted);
        if state.stopped {
            outbox.cut(Cut::Stopped);
        }
        if !state.routing.is_shared() {
            state.holder = counted.holder.clone();
            state.waiting = state.holder.part();
        }
        state.outboxes.insert(id, Arc::clone(outbox));
        id
    }

    /// True while a request waits for an answer that will come by itself, or a peer that
    /// acknowledges has not acknowledged everything.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let state = self.0.lock();
        state.routing.is_busy() || state.outboxes.values().any(|outbox| outbox.awaits())
    }

    /// See [`crate::router::Router::serves_modern_only`].
    #[must_use]
    pub fn serves_modern_only(&self) -> bool {
        self.0.lock().routing.serves_modern_only()
    }

    /// How many lines wait for its clients.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let state = self.0.lock();
        state.outboxes.values().map(|outbox| outbox.unsent()).sum()
    }

    fn in_flight(&self, session: SessionId) -> usize {
        self.0.lock().routing.pending_requests(session)
    }

    /// Completes when no request is pending any more, or after `limit`.
    pub async fn idle(&self, limit: Duration) {
        let idle = async {
            while self.is_busy() {
                tokio::time::sleep(IDLE_CHECK).await;
            }
        };
        // Requests that are still pending then are answered with an error.
        let _busy = tokio::time::timeout(limit, idle).await;
    }

    fn tell_everybody(&self, line: &'static [u8]) {
        for outbox in self.0.lock().outboxes.values() {
            let line = Line::from(Bytes::from_static(line));
            if outbox.push(line.into()) {
                outbox.deliver();
            }
        }
    }

    fn stop_sessions(&self) {
        let mut state = self.0.lock();
        state.stopped = true;
        for outbox in state.outboxes.values() {
            outbox.cut(Cut::Stopped);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Lets the router handle an event, and carries out its decisions.
    fn handle(&self, event: impl FnOnce(&mut Routing, &mut Output)) {
        self.gather(event);
        self.flush();
    }

    /// As [`Shared::handle`], but writes may wait for [`Shared::flush`].
    fn gather<T>(&self, event: impl FnOnce(&mut Routing, &mut Output) -> T) -> T {
        self.gather_in(&mut self.lock(), event)
    }

    fn gather_in<T>(
        &self,
        state: &mut State,
        event: impl FnOnce(&mut Routing, &mut Output) -> T,
    ) -> T {
        state.out.now = metrics::clock();
        let outcome = event(&mut state.routing, &mut state.out);
        self.carry_out(state);
        outcome
    }

    /// Carries out the decisions of the router; writes may wait for [`Shared::flush`].
    fn carry_out(&self, state: &mut State) {
        if let (Some(metrics), Some(took)) = (metrics::get(), state.out.took.take()) {
            metrics.answered(took);
        }
        if std::mem::take(&mut state.out.unasked) {
            self.note_unasked();
        }
        self.tell_room(state);
        for (session, for_peer) in state.out.to_peer.drain(..) {
            if let Some(outbox) = state.outboxes.get(&session)
                && outbox.push(for_peer)
            {
                state.ready.push(Arc::clone(outbox));
            }
        }
        for process in ProcessId::ALL {
            self.queue(state, process);
            if std::mem::take(&mut state.out.asked[process.0]) {
                self.asked[process.0].raise();
            }
        }
        if std::mem::take(&mut state.out.timed) {
            self.timed.raise();
        }
        if std::mem::take(&mut state.out.learned) {
            self.learned.notify_waiters();
        }
        for command in state.out.commands.drain(..) {
            // Without a driver the server is stopping.
            let _stopping = self.commands.send(command);
        }
    }

    /// Wakes the peers that may be read again.
    fn tell_room(&self, state: &mut State) {
        for process in ProcessId::ALL {
            let room = state.routing.take_room(process);
            for outbox in room.sessions.iter().filter_map(|id| state.outboxes.get(id)) {
                outbox.has_room();
            }
            if room.for_all {
                self.drained.notify_waiters();
            }
        }
    }

    /// Moves the lines for a process into the queue of its stdin.
    fn queue(&self, state: &mut State, process: ProcessId) {
        let lines = state.out.lines(process);
        if lines.is_empty() {
            return;
        }
        let bytes = lines.len();
        let mut queue = self.stdin[process.0].lock();
        queue.waiting.append(lines);
        queue.added(bytes);
        state.note_queued(process, &queue);
    }

    /// Writes what waits for a process, as much as its stdin takes without blocking.
    fn write(&self, state: &mut State, process: ProcessId) {
        let mut queue = self.stdin[process.0].lock();
        queue.flush();
        state.note_queued(process, &queue);
    }

    /// Notes that lines have been written that the stdin of a process did not take at first.
    fn written(&self, process: ProcessId) {
        self.lock()
            .note_queued(process, &self.stdin[process.0].lock());
        self.drained.notify_waiters();
        self.flush();
    }

    /// Waits while too many answers are queued for a process that keeps sending requests.
    async fn wait_for_answers_written(&self, process: ProcessId) {
        let goes_on = || self.lock().out.answers[process.0] > HIGH_WATER;
        while goes_on() {
            let drained = self.drained.notified();
            if goes_on() {
                drained.await;
            }
        }
    }

    fn child_started(&self, process: ProcessId) {
        self.handle(|routing, out| routing.child_started(process, out));
        self.started.notify_waiters();
    }

    fn child_exited(&self, process: ProcessId, exit: &Exit) {
        self.handle(|routing, out| {
            // It will not read what is still queued.
            self.stdin[process.0].lock().clear();
            out.queued[process.0] = 0;
            routing.child_exited(process, exit, out);
        });
        // If none follows, another one may serve what has waited for it.
        self.started.notify_waiters();
    }
}

impl Flush for Shared {
    /// Writes queued lines to processes and peers directly, if they take them without blocking, which saves a
    /// task switch.
    fn flush(&self) {
        let state = &mut *self.lock();
        state.deliver();
        for process in ProcessId::ALL {
            if state.out.queued[process.0] > 0 {
                self.write(state, process);
            }
            while state.routing.advance(process, &mut state.out) {
                self.carry_out(state);
                self.write(state, process);
            }
            if state.processes[process.0].awaits_room && state.has_room(process) {
                state.processes[process.0].awaits_room = false;
                self.drained.notify_waiters();
            }
        }
        self.tell_room(state);
        // A line whose turn has come may have been refused.
        state.deliver();
    }
}

impl State {
    /// Writes the lines that are ready for peers.
    fn deliver(&mut self) {
        for outbox in self.ready.drain(..) {
            outbox.deliver();
        }
    }

    /// Tells the router how much waits for a process. What waits for an isolated process is charged to its
    /// session; the rest has a separate bound.
    fn note_queued(&mut self, process: ProcessId, queue: &ChunkQueue) {
        let queued = queue.unwritten();
        self.out.queued[process.0] = queued;
        if queued == 0 {
            self.out.answers[process.0] = 0;
        }
        if process == ProcessId::FIRST {
            self.waiting.set(queued);
        }
    }
}
