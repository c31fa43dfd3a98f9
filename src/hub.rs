//! Owner of the MCP server's processes and of the router between them and the peers: starts,
//! feeds and reads them, and starts them again.
//!
//! The router is pure; this file gives it its lines and carries out what it says. One short lock
//! guards it: a peer's message goes from the peer's own task straight into the pipe's buffer, an
//! answer from the pipe's task straight into the peer's outbox.

use crate::child::{Child, CommandLine, Pipes};
use crate::control::PREFIX;
use crate::jsonrpc::{MAX_CHILD_DEPTH, Message};
use crate::permissions::Permit;
use crate::replay::Replay;
use crate::router::{Command, Exit, LANES, LaneId, Output, Pipe, Profile, Router, SessionId};
use crate::transport::line::{LineError, LineReader};
use crate::utils::backoff;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::FusedFuture;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// While more than this waits for a child, in bytes, peers are not read.
const HIGH_WATER: usize = 1 << 20;

/// What a writer takes from an outbox at once, in bytes; one line may be longer.
const BATCH: usize = 256 * 1024;

/// How long the pipe of a process that has ended is still read: what it wrote last counts, but a
/// grandchild may hold the pipe open for ever.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The pause before the first restart; it doubles from restart to restart.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// How often to look whether everything is answered, while the server waits for that to stop.
const IDLE_CHECK: Duration = Duration::from_millis(20);

/// A process that lived so long was all right: restarts are counted anew.
const STABLE: Duration = Duration::from_secs(10);

/// Told to the peers of a process that never worked, besides the answers to their requests.
const NOT_STARTED: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32603,\"message\":\"The MCP server could not be started\",\"data\":{\"source\":\"mcp-remote\",\"reason\":\"child-not-started\",\"executed\":\"no\"}}}\n";

/// Bounds of the hub.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest line from a child, in bytes.
    pub child_message: usize,
    /// Most bytes that may wait for one peer; then it is cut.
    pub outbox: usize,
    /// How often a process that ends is started again, in a row.
    pub restarts: u32,
}

/// Why the hub ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The command does not run.
    #[error("could not start the MCP server '{command}': {source}; check the command after '--'")]
    Start {
        /// The command.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The process ended before it answered anything.
    #[error("the MCP server '{command}' ended ({}) before it answered anything{}; run it by itself to see why", .exit.status, last_words(.exit))]
    Stillborn {
        /// The command.
        command: String,
        /// How it ended.
        exit: Exit,
    },
    /// The process ended, and too often.
    #[error("the MCP server '{command}' ended ({}) and will not be started again{}; run it by itself to see why, or raise --max-restarts", .exit.status, last_words(.exit))]
    Exited {
        /// The command.
        command: String,
        /// How it ended.
        exit: Exit,
    },
}

fn last_words(exit: &Exit) -> String {
    exit.stderr.as_ref().map_or_else(String::new, |line| {
        format!("; its last line on stderr: {line}")
    })
}

/// Why a session got no further lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The peer reads too slowly: its queue is full.
    Slow,
    /// The server stops.
    Stopped,
}

/// A handle on the hub.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There are lines for the lane's process.
    to_child: [Notify; LANES],
    /// Lines for a process have been written.
    drained: Notify,
    commands: mpsc::UnboundedSender<Command>,
    limits: Limits,
}

/// Who decides: the router of a shared child, or the pipe of an isolated one.
#[derive(Debug)]
enum Core {
    Shared(Box<Router>),
    Isolated(Pipe),
}

#[derive(Debug)]
struct State {
    core: Core,
    /// What waits for the processes; also the room for each event's outcome.
    out: Output,
    outboxes: HashMap<SessionId, Arc<Outbox>>,
    /// For each lane, whether its process is one that has said something.
    answered: [bool; LANES],
    stopped: bool,
}

impl Hub {
    /// A hub that many peers share; its first process is started by [`Driver::run`].
    #[must_use]
    pub fn shared(command: CommandLine, limits: Limits) -> (Self, Driver) {
        Self::new(Core::Shared(Box::default()), command, limits)
    }

    /// A hub for one session, whose process is not started again when it ends.
    #[must_use]
    pub fn isolated(command: CommandLine, limits: Limits) -> (Self, Driver) {
        Self::new(Core::Isolated(Pipe::default()), command, limits)
    }

    fn new(core: Core, command: CommandLine, limits: Limits) -> (Self, Driver) {
        // Unbounded, but a lane can only be started when idle and stopped when not.
        let (commands, inbox) = mpsc::unbounded_channel();
        let state = State {
            core,
            out: Output::default(),
            outboxes: HashMap::new(),
            answered: [false; LANES],
            stopped: false,
        };
        let hub = Self(Arc::new(Shared {
            state: Mutex::new(state),
            to_child: Default::default(),
            drained: Notify::new(),
            commands,
            limits,
        }));
        let driver = Driver {
            hub: hub.clone(),
            command,
            commands: inbox,
            lanes: Default::default(),
            running: JoinSet::new(),
        };
        (hub, driver)
    }

    /// A session for a new peer.
    #[must_use]
    pub fn attach(&self, profile: Profile) -> Session {
        let outbox = Arc::new(Outbox::new(self.0.limits.outbox));
        let mut state = self.0.lock();
        let id = match &mut state.core {
            Core::Shared(router) => router.attach(profile),
            Core::Isolated(pipe) => pipe.attach(profile),
        };
        if state.stopped {
            outbox.cut(Cut::Stopped);
        }
        state.outboxes.insert(id, Arc::clone(&outbox));
        Session {
            id,
            hub: self.clone(),
            outbox,
        }
    }

    /// True while a request waits for an answer that will come by itself.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match &self.0.lock().core {
            Core::Shared(router) => router.is_busy(),
            Core::Isolated(pipe) => pipe.owed() > 0,
        }
    }

    /// Completes when nothing is under way any more, or after `limit`.
    pub async fn idle(&self, limit: Duration) {
        let idle = async {
            while self.is_busy() {
                tokio::time::sleep(IDLE_CHECK).await;
            }
        };
        // What is still under way then is answered with an error.
        let _busy = tokio::time::timeout(limit, idle).await;
    }

    fn tell_everybody(&self, line: &'static [u8]) {
        for outbox in self.0.lock().outboxes.values() {
            outbox.push(Bytes::from_static(line));
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the core handle an event, and carries out what follows.
    fn handle(&self, event: impl FnOnce(&mut Core, &mut Output)) {
        let state = &mut *self.lock();
        event(&mut state.core, &mut state.out);
        for (session, line) in state.out.to_peer.drain(..) {
            if let Some(outbox) = state.outboxes.get(&session) {
                outbox.push(line);
            }
        }
        for command in state.out.commands.drain(..) {
            // Without a driver the server is stopping.
            let _stopping = self.commands.send(command);
        }
        for (lane, wake) in state.out.to_child.iter().zip(&self.to_child) {
            if !lane.is_empty() {
                wake.notify_one();
            }
        }
    }

    /// True while too much waits for the process that serves this session.
    fn is_congested(&self, session: SessionId) -> bool {
        let state = self.lock();
        let (lane, held) = match &state.core {
            Core::Shared(router) => {
                let lane = router.lane_of(session);
                (lane, router.held(lane))
            }
            Core::Isolated(_) => (LaneId::FIRST, 0),
        };
        state.out.to_child[lane.0].len() + held > HIGH_WATER
    }

    /// Waits until the process has taken enough of what waits for it.
    async fn room(&self, session: SessionId) {
        loop {
            let drained = self.drained.notified();
            if !self.is_congested(session) {
                return;
            }
            drained.await;
        }
    }

    fn child_message(&self, lane: LaneId, line: Bytes) {
        match Message::read(line, MAX_CHILD_DEPTH) {
            Ok(message) if message.method().starts_with(PREFIX) => {
                tracing::warn!(
                    "dropped a line of the MCP server that reads as one of the proxy's own"
                );
            }
            Ok(message) => {
                self.lock().answered[lane.0] = true;
                self.handle(|core, out| match core {
                    Core::Shared(router) => router.child_message(lane, &message, out),
                    Core::Isolated(pipe) => pipe.child_message(&message, out),
                });
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "dropped a line of the MCP server's stdout that is no JSON-RPC message");
            }
        }
    }

    fn child_exited(&self, lane: LaneId, exit: &Exit) {
        self.handle(|core, out| match core {
            Core::Shared(router) => router.child_exited(lane, exit, out),
            Core::Isolated(pipe) => pipe.child_exited(exit, out),
        });
        self.drained.notify_waiters();
    }
}

/// One peer's place at the hub. Dropping it ends it: its requests are cancelled.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    hub: Hub,
    outbox: Arc<Outbox>,
}

impl Session {
    /// For logs.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Waits while too much waits for the MCP server already. Cancel safe.
    pub async fn room(&self) {
        self.hub.0.room(self.id).await;
    }

    /// Hands a message to the MCP server.
    pub fn send(&self, permit: &Permit) {
        self.hub.0.handle(|core, out| match core {
            Core::Shared(router) => router.peer_message(self.id, permit, out),
            Core::Isolated(pipe) => pipe.peer_message(permit, out),
        });
    }

    /// The peer's rights have changed: subscriptions that they do not cover any more end.
    pub fn revise(&self, profile: Profile) {
        self.hub.0.handle(|core, out| match core {
            Core::Shared(router) => router.revise(self.id, profile, out),
            Core::Isolated(pipe) => pipe.revise(profile),
        });
    }

    /// Queues a line of the proxy's own for the peer, newline included.
    pub fn reply(&self, line: Vec<u8>) {
        self.outbox.push(line.into());
    }

    /// Notes that a line of `bytes` has been dealt with: it will be acknowledged to the peer.
    pub fn received(&self, bytes: usize) {
        let mut queue = self.outbox.lock();
        let first = !queue.replay.is_untold();
        if queue.replay.receive(bytes) || first {
            self.outbox.wake.notify_one();
        }
    }

    /// Lines for the peer, in order; none when there is only something to acknowledge.
    ///
    /// # Errors
    /// When the session was cut. What still waited is lost if the peer was slow.
    pub fn take(&self) -> Result<Vec<Bytes>, Cut> {
        let mut queue = self.outbox.lock();
        let batch = queue.replay.take(BATCH);
        match queue.cut {
            Some(cut) if batch.lines.is_empty() => Err(cut),
            _ => Ok(batch.lines),
        }
    }

    /// Waits until [`Session::take`] may have something new, or an acknowledgement is due.
    pub async fn changed(&self) {
        self.outbox.wake.notified().await;
    }

    /// Completes when the peer is cut because it reads too slowly, even where a write to it hangs.
    pub async fn overflowed(&self) {
        loop {
            let changed = self.outbox.overflow.notified();
            if self.outbox.lock().cut == Some(Cut::Slow) {
                return;
            }
            changed.await;
        }
    }

    /// Asks or tells the replay core of this session.
    pub fn replay<T>(&self, ask: impl FnOnce(&mut Replay) -> T) -> T {
        ask(&mut self.outbox.lock().replay)
    }

    /// The same for whoever does not own the session.
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.outbox))
    }

    /// How many requests of the peer still wait for an answer, in the child or in the outbox.
    #[must_use]
    pub fn owed(&self) -> usize {
        let in_flight = match &self.hub.0.lock().core {
            Core::Shared(router) => router.owed(self.id),
            Core::Isolated(pipe) => pipe.owed(),
        };
        in_flight + self.outbox.lock().replay.waiting()
    }
}

/// A look at a session's numbers from outside.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Outbox>);

impl Watch {
    /// See [`Replay::is_outdated`].
    #[must_use]
    pub fn is_outdated(&self, received: u64) -> bool {
        self.0.lock().replay.is_outdated(received)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let shared = &self.hub.0;
        shared.lock().outboxes.remove(&self.id);
        shared.handle(|core, out| match core {
            Core::Shared(router) => router.detach(self.id, out),
            // Its process ends with it.
            Core::Isolated(_) => {}
        });
    }
}

/// Lines that wait for one peer, or for its acknowledgement, bounded in bytes.
#[derive(Debug)]
struct Outbox {
    queue: Mutex<Queue>,
    wake: Notify,
    overflow: Notify,
    limit: usize,
}

#[derive(Debug, Default)]
struct Queue {
    replay: Replay,
    cut: Option<Cut>,
}

impl Outbox {
    fn new(limit: usize) -> Self {
        Self {
            queue: Mutex::default(),
            wake: Notify::new(),
            overflow: Notify::new(),
            limit,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Bytes) {
        let mut queue = self.lock();
        if queue.cut.is_some() {
            return;
        }
        // An empty outbox takes any line: the bound is on what piles up.
        if queue.replay.bytes() > 0 && queue.replay.bytes() + line.len() > self.limit {
            *queue = Queue {
                cut: Some(Cut::Slow),
                ..Queue::default()
            };
            self.overflow.notify_waiters();
        } else {
            queue.replay.push(line);
        }
        drop(queue);
        self.wake.notify_one();
    }

    fn cut(&self, cut: Cut) {
        self.lock().cut.get_or_insert(cut);
        self.wake.notify_one();
    }
}

/// Runs the processes.
#[derive(Debug)]
pub struct Driver {
    hub: Hub,
    command: CommandLine,
    commands: mpsc::UnboundedReceiver<Command>,
    lanes: [Run; LANES],
    running: JoinSet<Ended>,
}

/// What the driver knows of a lane.
#[derive(Debug, Default)]
struct Run {
    stop: watch::Sender<bool>,
    active: bool,
    /// A process of this lane has answered something.
    proven: bool,
    /// Processes in a row that did not live for long.
    failures: u32,
}

/// How a lane's process ended.
#[derive(Debug)]
struct Ended {
    lane: LaneId,
    outcome: io::Result<Exit>,
    lived: Duration,
    asked_to_stop: bool,
}

impl Driver {
    /// Starts the first process, and others as the router asks for them, until `shutdown`
    /// completes; then stops them all and returns.
    ///
    /// # Errors
    /// When a process that is needed cannot be started, or ends too often.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), HubError> {
        self.start(LaneId::FIRST, Duration::ZERO);
        let mut shutdown = std::pin::pin!(shutdown);
        let outcome = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                Some(command) = self.commands.recv() => match command {
                    Command::Start(lane) => self.start(lane, Duration::ZERO),
                    Command::Stop(lane) => drop(self.lanes[lane.0].stop.send_replace(true)),
                },
                Some(ended) = self.running.join_next() => match ended {
                    Ok(ended) => if let Err(err) = self.ended(ended) { break Err(err) },
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                },
            }
        };
        for lane in &self.lanes {
            lane.stop.send_replace(true);
        }
        while let Some(ended) = self.running.join_next().await {
            if let Ok(Ended {
                lane,
                outcome: Ok(exit),
                ..
            }) = ended
            {
                self.hub.0.child_exited(lane, &exit);
            }
        }
        if let Err(HubError::Start { .. } | HubError::Stillborn { .. }) = &outcome {
            self.hub.tell_everybody(NOT_STARTED);
        }
        self.hub.stop_sessions();
        outcome
    }

    fn start(&mut self, lane: LaneId, pause: Duration) {
        let run = &mut self.lanes[lane.0];
        let (stop, stopped) = watch::channel(false);
        run.stop = stop;
        run.active = true;
        let shared = Arc::clone(&self.hub.0);
        self.running
            .spawn(run_lane(shared, lane, self.command.clone(), stopped, pause));
    }

    /// A process has ended: tells the router, and starts the next one, unless that makes no sense.
    fn ended(&mut self, ended: Ended) -> Result<(), HubError> {
        let Ended {
            lane,
            outcome,
            lived,
            asked_to_stop,
        } = ended;
        let isolated = matches!(self.hub.0.lock().core, Core::Isolated(_));
        let answered = self.hub.0.lock().answered[lane.0];
        let needed = !self
            .lanes
            .iter()
            .enumerate()
            .any(|(other, run)| other != lane.0 && run.active);
        let run = &mut self.lanes[lane.0];
        run.proven |= answered;
        run.failures = if lived >= STABLE { 1 } else { run.failures + 1 };
        let again =
            run.proven && !asked_to_stop && !isolated && run.failures <= self.hub.0.limits.restarts;
        let command = self.command.to_string();
        let (mut exit, start_error) = match outcome {
            Ok(exit) => (exit, None),
            Err(err) => (
                Exit {
                    status: err.to_string(),
                    ..Exit::default()
                },
                Some(err),
            ),
        };
        exit.restarts = again;
        self.hub.0.child_exited(lane, &exit);
        if again {
            let pause = backoff::delay(RESTART_PAUSE, run.failures - 1);
            tracing::warn!(
                lane = lane.0,
                status = exit.status,
                ?pause,
                "MCP server ended, starting it again"
            );
            self.start(lane, pause);
            return Ok(());
        }
        run.active = false;
        if asked_to_stop {
            return Ok(());
        }
        if !needed {
            // Peers of the other era are served all the same; a new request tries again.
            tracing::error!(
                lane = lane.0,
                status = exit.status,
                "MCP server ended and is not started again"
            );
            run.failures = 0;
            return Ok(());
        }
        Err(match (start_error, run.proven) {
            (Some(source), _) => HubError::Start { command, source },
            (None, false) => HubError::Stillborn { command, exit },
            (None, true) => HubError::Exited { command, exit },
        })
    }
}

/// One process of the MCP server, from start to end.
async fn run_lane(
    shared: Arc<Shared>,
    lane: LaneId,
    command: CommandLine,
    stopped: watch::Receiver<bool>,
    pause: Duration,
) -> Ended {
    let early = |outcome, asked_to_stop| Ended {
        lane,
        outcome,
        lived: Duration::ZERO,
        asked_to_stop,
    };
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = asked(stopped.clone()) => return early(Ok(Exit::default()), true),
    }
    shared.lock().answered[lane.0] = false;
    let (mut child, Pipes { stdin, mut stdout }) =
        match Child::spawn(&command, shared.limits.child_message) {
            Ok(spawned) => spawned,
            Err(err) => return early(Err(err), false),
        };
    let started = Instant::now();
    tracing::info!(pid = child.id(), lane = lane.0, "MCP server started");
    shared.handle(|core, out| match core {
        Core::Shared(router) => router.child_started(lane, out),
        Core::Isolated(_) => {}
    });
    let (status, asked_to_stop) =
        live(&shared, lane, &mut child, stdin, &mut stdout, stopped).await;
    let status = status.map_or_else(|err| err.to_string(), |status| status.to_string());
    let stderr = child.bury().await;
    tracing::info!(lane = lane.0, status, "MCP server ended");
    let exit = Exit {
        status,
        stderr,
        restarts: false,
    };
    Ended {
        lane,
        outcome: Ok(exit),
        lived: started.elapsed(),
        asked_to_stop,
    }
}

/// Pumps lines until the process is gone; gives its status, and whether it was asked to leave.
async fn live(
    shared: &Shared,
    lane: LaneId,
    child: &mut Child,
    stdin: tokio::process::ChildStdin,
    stdout: &mut LineReader<tokio::process::ChildStdout>,
    stopped: watch::Receiver<bool>,
) -> (io::Result<std::process::ExitStatus>, bool) {
    let closed = Notify::new();
    let mut reading = std::pin::pin!(read(shared, lane, stdout).fuse());
    let feeding = feed(shared, lane, stdin, stopped.clone());
    let life = async {
        tokio::select! {
            status = child.wait() => return (status, false),
            // Without stdout it is of no use to anybody.
            () = closed.notified() => return (child.stop().await, false),
            () = asked(stopped) => {}
        }
        (child.stop().await, true)
    };
    let pump = async {
        let read_all = async {
            (&mut reading).await;
            closed.notify_one();
        };
        tokio::join!(feeding, read_all);
        std::future::pending::<std::convert::Infallible>().await
    };
    let end = tokio::select! {
        end = life => end,
        never = pump => match never {},
    };
    if !reading.is_terminated() {
        let _held_open = tokio::time::timeout(LAST_WORDS, reading).await;
    }
    end
}

/// Completes when the lane is asked to stop.
async fn asked(mut stopped: watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Gives a process its lines, and closes its stdin when it is asked to leave. When the process
/// does not take them any more, waits: its exit or the end of its stdout will be noticed.
async fn feed(
    shared: &Shared,
    lane: LaneId,
    mut stdin: tokio::process::ChildStdin,
    stopped: watch::Receiver<bool>,
) {
    let write = async {
        loop {
            let lines = std::mem::take(&mut shared.lock().out.to_child[lane.0]);
            if lines.is_empty() {
                shared.to_child[lane.0].notified().await;
                continue;
            }
            let written = stdin.write_all(&lines).await;
            shared.drained.notify_waiters();
            if let Err(err) = written {
                tracing::debug!(%err, "the MCP server does not read its stdin any more");
                return std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = asked(stopped) => {}
    }
}

/// Reads a process's lines to the end of its stdout.
async fn read(shared: &Shared, lane: LaneId, stdout: &mut LineReader<tokio::process::ChildStdout>) {
    loop {
        match stdout.next().await {
            Ok(Some(line)) => shared.child_message(lane, line),
            Ok(None) => return,
            Err(err @ LineError::TooLong { .. }) => {
                tracing::error!(%err, "dropped a message of the MCP server; its asker will wait in vain");
            }
            Err(err) => {
                tracing::debug!(%err, "could not read the MCP server's stdout");
                return;
            }
        }
    }
}
