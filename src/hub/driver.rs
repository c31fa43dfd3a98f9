//! The life of the MCP server's processes: starts, feeds and reads them, and starts them again.

use super::deadline::{keep_time, overdue};
use super::hang_up::HangUp;
use super::restarts::{self, End, Next, Restarts, STABLE};
use super::{Hub, IdleStdin, Shared};
use crate::child::{Child, CommandLine, Pipes};
use crate::descriptors;
use crate::jsonrpc::Outline;
use crate::router::{Cause, Command, Exit, LANES, LaneId, Loss};
use crate::transport::line::{LineError, LineReader};
use crate::utils::apart::apart;
use crate::utils::backoff;
use crate::utils::before_waits::before_waits;
use crate::utils::rope::Rope;
use futures_util::FutureExt;
use futures_util::future::FusedFuture;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long the pipe of a process that has ended is still read: what it wrote last counts, but a
/// grandchild may hold the pipe open for ever.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The longest pause while the system is too short of something to start a process.
const SHORTAGE_PAUSE: Duration = Duration::from_secs(2);

/// How long a sender may take, at least and twice that at most, while processes hear one at a time.
const TURN: Duration = Duration::from_millis(250);

/// Told to the peers of a process that never worked, besides the answers to their requests.
const NOT_STARTED: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32603,\"message\":\"The MCP server could not be started\",\"data\":{\"source\":\"mcp-remote\",\"reason\":\"child-not-started\",\"executed\":\"no\"}}}\n";

/// Why the hub ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The command does not run.
    #[error("could not start the MCP server '{command}'")]
    Start {
        /// The command.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The process ended before it answered anything.
    #[error("the MCP server '{command}' ended ({}) before it answered anything{}", .exit.status, last_words(.exit))]
    Stillborn {
        /// The command.
        command: String,
        /// How it ended.
        exit: Exit,
    },
    /// The process ended, and too often.
    #[error("the MCP server '{command}' ended ({}) and will not be started again{}", .exit.status, last_words(.exit))]
    Exited {
        /// The command.
        command: String,
        /// How it ended.
        exit: Exit,
    },
}

impl HubError {
    /// What the user can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Start { .. } => "check the command after '--'",
            Self::Stillborn { .. } => "run it by itself to see why",
            Self::Exited { .. } => "run it by itself to see why, or raise --max-restarts",
        }
    }
}

fn last_words(exit: &Exit) -> String {
    exit.stderr.as_ref().map_or_else(String::new, |line| {
        format!("; its last line on stderr: {line}")
    })
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
    restarts: Restarts,
}

/// How a lane's process ended.
#[derive(Debug)]
struct Ended {
    lane: LaneId,
    outcome: io::Result<Exit>,
    lived: Duration,
    why: Why,
}

/// Who ended a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It has ended.
    Itself,
    /// Nobody needs it any more.
    Unneeded,
    /// It has not answered this in time.
    Overdue(&'static str),
    /// It has closed its stdin.
    Deaf,
}

impl Driver {
    pub(super) fn new(
        hub: Hub,
        command: CommandLine,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            hub,
            command,
            commands,
            lanes: Default::default(),
            running: JoinSet::new(),
        }
    }

    /// Starts the first process, and others as the router asks for them, until `shutdown`
    /// completes; then stops them all and returns.
    ///
    /// # Errors
    /// When a process that is needed cannot be started, or ends too often.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), HubError> {
        self.start(LaneId::FIRST, Duration::ZERO);
        let mut shutdown = std::pin::pin!(shutdown);
        let shared = Arc::clone(&self.hub.0);
        let mut timers = std::pin::pin!(keep_time(&shared));
        let outcome = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                never = &mut timers => match never {},
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
            why,
        } = ended;
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
        let next = if why == Why::Unneeded {
            Next::GiveUp
        } else {
            self.next(lane, lived, start_error.is_some(), exit.overdue.is_some())
        };
        if let Next::Start {
            pause,
            forgets,
            suspicious,
        } = next
        {
            tracing::warn!(
                lane = lane.0,
                status = exit.status,
                ?pause,
                "MCP server ended, starting it again"
            );
            if forgets {
                tracing::warn!(
                    lane = lane.0,
                    "the next process is told of no subscriptions and no log level: the last ones ended soon after"
                );
            }
            exit.restarts = true;
            exit.forgets = forgets;
            exit.suspicious = suspicious;
            self.hub.0.child_exited(lane, &exit);
            self.start(lane, pause);
            return Ok(());
        }
        self.hub.0.child_exited(lane, &exit);
        let mut lanes = self.lanes.iter().enumerate();
        let needed = !lanes.any(|(other, run)| other != lane.0 && run.active);
        let run = &mut self.lanes[lane.0];
        run.active = false;
        if why == Why::Unneeded {
            return Ok(());
        }
        if !needed {
            // Peers of the other era are served all the same; a new request tries again.
            tracing::error!(
                lane = lane.0,
                status = exit.status,
                "MCP server ended and is not started again"
            );
            run.restarts.reset();
            return Ok(());
        }
        let command = self.command.to_string();
        Err(match (start_error, run.restarts.is_proven()) {
            (Some(source), _) => HubError::Start { command, source },
            (None, false) => HubError::Stillborn { command, exit },
            (None, true) => HubError::Exited { command, exit },
        })
    }

    /// What follows a process that has ended by itself; whoever is to blame is refused from now on.
    fn next(
        &mut self,
        lane: LaneId,
        lived: Duration,
        failed_to_start: bool,
        overdue: bool,
    ) -> Next {
        let state = &mut *self.hub.0.lock();
        let answered = state.answered[lane.0];
        let limit = match state.routing.is_shared() {
            true => self.hub.0.limits.restarts,
            // The session ends with its process.
            false => 0,
        };
        let (cause, refused) = if failed_to_start {
            (Cause::Itself, None)
        } else {
            let now = Instant::now().into_std();
            state.routing.cause_of_end(lane, overdue, now)
        };
        if let Cause::Sender(sender) = &cause {
            tracing::warn!(lane = lane.0, %sender, ?refused, "MCP server ended at a message of this peer");
        }
        let end = End {
            cause: &cause,
            answered,
            lived,
            overdue,
        };
        self.lanes[lane.0].restarts.ended(end, limit)
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
    let early = |outcome, why| Ended {
        lane,
        outcome,
        lived: Duration::ZERO,
        why,
    };
    // A timer takes a millisecond even for nothing.
    let pause = async {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = asked(stopped.clone()) => return early(Ok(Exit::default()), Why::Unneeded),
        () = pause => {}
    }
    let (isolated, holder) = {
        let mut state = shared.lock();
        state.answered[lane.0] = false;
        state.alive[lane.0] = None;
        (!state.routing.is_shared(), state.holder.clone())
    };
    let spawn = || Child::spawn(&command, shared.limits.child_message, isolated);
    let spawned = tokio::select! {
        () = asked(stopped.clone()) => return early(Ok(Exit::default()), Why::Unneeded),
        spawned = despite_shortage(spawn) => spawned,
    };
    let (mut child, Pipes { stdin, mut stdout }) = match spawned {
        Ok(spawned) => spawned,
        Err(err) => return early(Err(err), Why::Itself),
    };
    stdout.hold(holder.part());
    let started = Instant::now();
    tracing::info!(pid = child.id(), lane = lane.0, "MCP server started");
    shared.handle(|routing, out| routing.child_started(lane, out));
    let (status, why) = live(&shared, lane, &mut child, stdin, &mut stdout, stopped).await;
    let mut status = status.map_or_else(|err| err.to_string(), |status| status.to_string());
    let mut overdue = None;
    match why {
        Why::Overdue(method) => {
            status = format!("no answer to '{method}' in time, {status}");
            overdue = Some(method);
        }
        Why::Deaf => status = format!("closed its stdin, {status}"),
        Why::Itself | Why::Unneeded => {}
    }
    let stderr = child.bury().await;
    tracing::info!(lane = lane.0, status, "MCP server ended");
    let exit = Exit {
        status,
        stderr,
        overdue,
        ..Exit::default()
    };
    Ended {
        lane,
        outcome: Ok(exit),
        lived: started.elapsed(),
        why,
    }
}

/// Starts a process; while the system is short of what that takes, tries again and again.
async fn despite_shortage<T>(mut spawn: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut attempt = 0;
    loop {
        match spawn() {
            Err(err) if descriptors::is_shortage(&err) => {
                let pause = backoff::delay(restarts::PAUSE, attempt).min(SHORTAGE_PAUSE);
                tracing::warn!(%err, ?pause, "could not start the MCP server, trying again");
                tokio::time::sleep(pause).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Pumps lines until the process is gone; gives its status, and who ended it.
async fn live(
    shared: &Shared,
    lane: LaneId,
    child: &mut Child,
    stdin: ChildStdin,
    stdout: &mut LineReader<tokio::process::ChildStdout>,
    stopped: watch::Receiver<bool>,
) -> (io::Result<std::process::ExitStatus>, Why) {
    let (closed, deaf) = (Notify::new(), Notify::new());
    let mut reading = apart(read(shared, lane, stdout)).fuse();
    let feeding = apart(feed(shared, lane, stdin, stopped.clone(), &deaf));
    let life = apart(async {
        tokio::select! {
            status = child.wait() => (status, Why::Itself),
            // Without stdout it is of no use to anybody.
            () = closed.notified() => (child.stop().await, Why::Itself),
            () = asked(stopped) => (child.stop().await, Why::Unneeded),
            method = overdue(shared, lane) => (child.terminate().await, Why::Overdue(method)),
            () = deaf.notified() => match child.leave().await {
                Some(status) => (status, Why::Itself),
                None => {
                    tracing::warn!(lane = lane.0, "MCP server has closed its stdin and lives on, ending it");
                    (child.terminate().await, Why::Deaf)
                }
            }
        }
    });
    let pump = async {
        let read_all = async {
            (&mut reading).await;
            closed.notify_one();
        };
        tokio::join!(feeding, read_all, apart(take_turns(shared, lane)));
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

/// Where nobody knows at whose messages processes end, lets this one hear one sender after the other,
/// until it has lived for long enough.
async fn take_turns(shared: &Shared, lane: LaneId) {
    let goes_on = shared.lock().routing.takes_turns(lane);
    if !goes_on {
        return;
    }
    let begin = Instant::now();
    while begin.elapsed() < STABLE {
        tokio::time::sleep(TURN).await;
        shared.handle(|routing, out| routing.next_turn(lane, out));
    }
    shared.handle(|routing, out| routing.end_turns(lane, out));
}

/// Completes when the lane is asked to stop.
async fn asked(mut stopped: watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Gives a process its lines, and closes its stdin when it is asked to leave. When the process
/// does not take them any more, says so.
async fn feed(
    shared: &Shared,
    lane: LaneId,
    stdin: ChildStdin,
    stopped: watch::Receiver<bool>,
    deaf: &Notify,
) {
    let lent = Lent { shared, lane };
    let hang_up = HangUp::watch(&stdin);
    lent.put(stdin);
    let write = async {
        let mut lines = Rope::default();
        loop {
            let Some(mut stdin) = lent.take(&mut lines) else {
                shared.to_child[lane.0].wait().await;
                continue;
            };
            let written = write_all(&mut stdin, &lines).await;
            lines.clear();
            shared.written();
            shared.drained.notify_waiters();
            if let Err(err) = written {
                tracing::debug!(%err, "the MCP server does not read its stdin any more");
                return;
            }
            lent.put(stdin);
            shared.flush();
        }
    };
    tokio::select! {
        () = write => {}
        () = apart(asked(stopped)) => return,
        () = hang_up.happens() => {}
    }
    deaf.notify_one();
    drop((lent, hang_up));
    std::future::pending().await
}

/// The stdin of a process, which others may write to while there is nothing to feed to it. It is closed
/// when this is dropped.
struct Lent<'a> {
    shared: &'a Shared,
    lane: LaneId,
}

impl Lent<'_> {
    fn put(&self, stdin: ChildStdin) {
        let full = false;
        self.shared.lock().idle_stdin[self.lane.0] = Some(IdleStdin { stdin, full });
    }

    /// Takes it back with the lines that wait for the process, if some do; `lines` is empty.
    fn take(&self, lines: &mut Rope) -> Option<ChildStdin> {
        let state = &mut *self.shared.lock();
        if state.out.to_child[self.lane.0].is_empty() {
            return None;
        }
        *lines = state.out.take(self.lane, std::mem::take(lines));
        state.writing = lines.len();
        state.count_waiting();
        state.idle_stdin[self.lane.0].take().map(|idle| idle.stdin)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.shared.lock().idle_stdin[self.lane.0] = None;
    }
}

async fn write_all(stdin: &mut ChildStdin, lines: &Rope) -> io::Result<()> {
    for piece in lines.pieces() {
        stdin.write_all(piece).await?;
    }
    Ok(())
}

/// Reads a process's lines to the end of its stdout.
async fn read(shared: &Shared, lane: LaneId, stdout: &mut LineReader<tokio::process::ChildStdout>) {
    read_lines(shared, lane, stdout).await;
    shared.flush();
}

async fn read_lines(
    shared: &Shared,
    lane: LaneId,
    stdout: &mut LineReader<tokio::process::ChildStdout>,
) {
    let mut silent = true;
    loop {
        let next = async {
            shared.heard_out(lane).await;
            stdout.next().await
        };
        // What the process has written together is handed over together.
        let line = before_waits(next, || shared.flush()).await;
        if std::mem::take(&mut silent) {
            shared.lock().alive[lane.0].get_or_insert_with(Instant::now);
            shared.asked[lane.0].raise();
        }
        match line {
            Ok(Some(line)) => shared.child_message(lane, line),
            Ok(None) => return,
            Err(err @ LineError::TooLong { .. }) => {
                // This may take long.
                shared.flush();
                let mut outline = Outline::default();
                match stdout.skip(|piece| outline.see(piece)).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(err) => return unreadable(&err),
                }
                tracing::error!(%err, "dropped a message of the MCP server");
                shared.child_unread(lane, outline.kind(), &Loss::TOO_LARGE);
            }
            Err(err) => return unreadable(&err),
        }
    }
}

fn unreadable(err: &dyn std::error::Error) {
    tracing::debug!(%err, "could not read the MCP server's stdout");
}
