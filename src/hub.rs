//! Owner of the MCP server's processes and of the router between them and the peers.
//!
//! The router is pure; this file gives it its lines and carries out what it says. One short lock
//! guards it: a peer's message goes from the peer's own task straight into the pipe's buffer, an
//! answer from the pipe's task straight into the peer's outbox.

use crate::child::{Child, CommandLine, Pipes};
use crate::jsonrpc::{MAX_CHILD_DEPTH, Message};
use crate::permissions::Permit;
use crate::router::{Command, Exit, LANES, LaneId, Output, Router, SessionId};
use crate::transport::line::{LineError, LineReader};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::FusedFuture;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

/// While more than this waits for a child, in bytes, peers are not read.
const HIGH_WATER: usize = 1 << 20;

/// What a writer takes from an outbox at once, in bytes; one line may be longer.
const BATCH: usize = 256 * 1024;

/// How long the pipe of a process that has ended is still read: what it wrote last counts, but a
/// grandchild may hold the pipe open for ever.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Bounds of the hub.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest line from a child, in bytes.
    pub child_message: usize,
    /// Most bytes that may wait for one peer; then it is cut.
    pub outbox: usize,
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
    #[error("the MCP server '{command}' ended ({status}) before it answered anything{}; run it by itself to see why", last_words(.stderr))]
    Stillborn {
        /// The command.
        command: String,
        /// Its exit status.
        status: String,
        /// Its last line on stderr.
        stderr: Option<String>,
    },
    /// The process ended.
    #[error("the MCP server '{command}' ended ({status}){}", last_words(.stderr))]
    Exited {
        /// The command.
        command: String,
        /// Its exit status.
        status: String,
        /// Its last line on stderr.
        stderr: Option<String>,
    },
}

fn last_words(stderr: &Option<String>) -> String {
    stderr.as_ref().map_or_else(String::new, |line| {
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

#[derive(Debug, Default)]
struct State {
    router: Router,
    /// What waits for the processes; also the room for each event's outcome.
    out: Output,
    outboxes: HashMap<SessionId, Arc<Outbox>>,
    /// For each lane, whether its process is one that has said something.
    answered: [bool; LANES],
    stopped: bool,
}

impl Hub {
    /// A hub whose first process is started by [`Driver::run`].
    #[must_use]
    pub fn new(command: CommandLine, limits: Limits) -> (Self, Driver) {
        // Unbounded, but a lane can only be started when idle and stopped when not.
        let (commands, inbox) = mpsc::unbounded_channel();
        let shared = Shared {
            state: Mutex::default(),
            to_child: Default::default(),
            drained: Notify::new(),
            commands,
            limits,
        };
        let hub = Self(Arc::new(shared));
        (
            hub.clone(),
            Driver {
                hub,
                command,
                commands: inbox,
            },
        )
    }

    /// A session for a new peer.
    #[must_use]
    pub fn attach(&self) -> Session {
        let outbox = Arc::new(Outbox::new(self.0.limits.outbox));
        let mut state = self.0.lock();
        let id = state.router.attach();
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
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the router handle an event, and carries out what follows.
    fn handle(&self, event: impl FnOnce(&mut Router, &mut Output)) {
        let state = &mut *self.lock();
        event(&mut state.router, &mut state.out);
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

    fn is_congested(&self) -> bool {
        let state = self.lock();
        let waiting: usize = state.out.to_child.iter().map(Vec::len).sum();
        waiting + state.router.held() > HIGH_WATER
    }

    /// Waits until the processes have taken enough of what waits for them.
    async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            if !self.is_congested() {
                return;
            }
            drained.await;
        }
    }

    fn from_child(&self, lane: LaneId, line: Bytes) {
        match Message::read(line, MAX_CHILD_DEPTH) {
            Ok(message) => {
                self.lock().answered[lane.0] = true;
                self.handle(|router, out| router.from_child(lane, &message, out));
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "dropped a line of the MCP server's stdout that is no JSON-RPC message");
            }
        }
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

    /// Hands a message to the MCP server; waits while too much waits for it already.
    pub async fn send(&self, permit: Permit) {
        let shared = &self.hub.0;
        shared.room().await;
        shared.handle(|router, out| router.from_peer(self.id, &permit, out));
    }

    /// Queues a line of the proxy's own for the peer, newline included.
    pub fn reply(&self, line: Vec<u8>) {
        self.outbox.push(line.into());
    }

    /// Lines for the peer, in order; waits for the first.
    ///
    /// # Errors
    /// When the session was cut. What still waited is lost if the peer was slow.
    pub async fn receive(&self) -> Result<Vec<Bytes>, Cut> {
        self.outbox.take().await
    }

    /// How many requests of the peer still wait for an answer, in the child or in the outbox.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.hub.0.lock().router.owed(self.id) + self.outbox.lock().lines.len()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let shared = &self.hub.0;
        shared.lock().outboxes.remove(&self.id);
        shared.handle(|router, out| router.detach(self.id, out));
    }
}

/// Lines that wait for one peer, bounded in bytes.
#[derive(Debug)]
struct Outbox {
    queue: Mutex<Queue>,
    wake: Notify,
    limit: usize,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Bytes>,
    bytes: usize,
    cut: Option<Cut>,
}

impl Outbox {
    fn new(limit: usize) -> Self {
        Self {
            queue: Mutex::default(),
            wake: Notify::new(),
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
        queue.bytes += line.len();
        queue.lines.push_back(line);
        // An empty outbox takes any line: the bound is on what piles up.
        if queue.bytes > self.limit && queue.lines.len() > 1 {
            *queue = Queue {
                cut: Some(Cut::Slow),
                ..Queue::default()
            };
        }
        drop(queue);
        self.wake.notify_one();
    }

    fn cut(&self, cut: Cut) {
        self.lock().cut.get_or_insert(cut);
        self.wake.notify_one();
    }

    async fn take(&self) -> Result<Vec<Bytes>, Cut> {
        loop {
            {
                let mut queue = self.lock();
                let mut batch = Vec::new();
                let mut bytes = 0;
                while bytes < BATCH {
                    let Some(line) = queue.lines.pop_front() else {
                        break;
                    };
                    bytes += line.len();
                    batch.push(line);
                }
                queue.bytes -= bytes;
                if !batch.is_empty() {
                    return Ok(batch);
                }
                if let Some(cut) = queue.cut {
                    return Err(cut);
                }
            }
            self.wake.notified().await;
        }
    }
}

/// Runs the processes.
#[derive(Debug)]
pub struct Driver {
    hub: Hub,
    command: CommandLine,
    commands: mpsc::UnboundedReceiver<Command>,
}

impl Driver {
    /// Starts the first process, and others as the router asks for them, until `shutdown`
    /// completes; then stops them all and returns.
    ///
    /// # Errors
    /// When a process that is needed cannot be started or ends.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), HubError> {
        let mut lanes: JoinSet<Result<(), HubError>> = JoinSet::new();
        let mut stops: [watch::Sender<bool>; LANES] = Default::default();
        self.start(LaneId::FIRST, &mut lanes, &mut stops);
        let mut shutdown = std::pin::pin!(shutdown);
        let outcome = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                Some(command) = self.commands.recv() => match command {
                    Command::Start(lane) => self.start(lane, &mut lanes, &mut stops),
                    Command::Stop(lane) => drop(stops[lane.0].send_replace(true)),
                },
                Some(ended) = lanes.join_next() => match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(err)) => break Err(err),
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                },
            }
        };
        for stop in &stops {
            stop.send_replace(true);
        }
        while lanes.join_next().await.is_some() {}
        self.hub.stop_sessions();
        outcome
    }

    fn start(
        &self,
        lane: LaneId,
        lanes: &mut JoinSet<Result<(), HubError>>,
        stops: &mut [watch::Sender<bool>; LANES],
    ) {
        let (stop, stopped) = watch::channel(false);
        stops[lane.0] = stop;
        let shared = Arc::clone(&self.hub.0);
        lanes.spawn(run_lane(shared, lane, self.command.clone(), stopped));
    }
}

impl Hub {
    fn stop_sessions(&self) {
        let mut state = self.0.lock();
        state.stopped = true;
        for outbox in state.outboxes.values() {
            outbox.cut(Cut::Stopped);
        }
    }
}

/// One process of the MCP server, from start to end.
async fn run_lane(
    shared: Arc<Shared>,
    lane: LaneId,
    command: CommandLine,
    stopped: watch::Receiver<bool>,
) -> Result<(), HubError> {
    let name = command.to_string();
    let limit = shared.limits.child_message;
    let (mut child, Pipes { stdin, mut stdout }) =
        Child::spawn(&command, limit).map_err(|source| HubError::Start {
            command: name.clone(),
            source,
        })?;
    tracing::info!(pid = child.id(), lane = lane.0, "MCP server started");
    shared.lock().answered[lane.0] = false;
    let (status, asked_to_stop) =
        live(&shared, lane, &mut child, stdin, &mut stdout, stopped).await;
    let status = status.map_or_else(|err| err.to_string(), |status| status.to_string());
    let stderr = child.bury().await;
    tracing::info!(lane = lane.0, status, "MCP server ended");
    let exit = Exit {
        status: status.clone(),
        stderr: stderr.clone(),
    };
    shared.handle(|router, out| router.child_exited(lane, &exit, out));
    shared.drained.notify_waiters();
    if asked_to_stop {
        return Ok(());
    }
    let answered = shared.lock().answered[lane.0];
    Err(if answered {
        HubError::Exited {
            command: name,
            status,
            stderr,
        }
    } else {
        HubError::Stillborn {
            command: name,
            status,
            stderr,
        }
    })
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
            Ok(Some(line)) => shared.from_child(lane, line),
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
