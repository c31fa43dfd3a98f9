//! The life of the MCP server's processes: starts, feeds and reads them, and starts them again.

use super::deadline::{keep_time, overdue};
use super::error::HubError;
use super::restarts::{self, End, Next, Restarts, STABLE};
use super::stdin::{asked, feed};
use super::stdout::read;
use super::{Hub, Shared};
use crate::child::{Child, CommandLine, Pipes};
use crate::metrics::{self, Open};
use crate::router::{Cause, Command, Exit, PROCESSES, ProcessId};
use crate::system::descriptors;
use crate::transport::line::LineReader;
use crate::utils::backoff;
use crate::utils::own_waker::own_waker;
use futures_util::FutureExt;
use futures_util::future::FusedFuture;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
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

/// Runs the processes.
#[derive(Debug)]
pub struct Driver {
    hub: Hub,
    command: CommandLine,
    commands: mpsc::UnboundedReceiver<Command>,
    processes: [Run; PROCESSES],
    running: JoinSet<Ended>,
}

/// What the driver knows of a process.
#[derive(Debug, Default)]
struct Run {
    stop: watch::Sender<bool>,
    active: bool,
    restarts: Restarts,
}

/// How a process ended.
#[derive(Debug)]
struct Ended {
    process: ProcessId,
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
    StdinClosed,
}

impl Why {
    /// The status of a process that ended so, for people, and what it had not answered in time.
    fn describe(self, status: String) -> (String, Option<&'static str>) {
        match self {
            Self::Overdue(method) => {
                let status = format!("no answer to '{method}' in time, {status}");
                (status, Some(method))
            }
            Self::StdinClosed => (format!("closed its stdin, {status}"), None),
            Self::Itself | Self::Unneeded => (status, None),
        }
    }
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
            processes: Default::default(),
            running: JoinSet::new(),
        }
    }

    /// Starts the first process, and others as the router asks for them, until `shutdown`
    /// completes; then stops them all and returns.
    ///
    /// # Errors
    /// When a process that is needed cannot be started, or ends too often.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), HubError> {
        self.start(ProcessId::FIRST, Duration::ZERO);
        let mut shutdown = std::pin::pin!(shutdown);
        let shared = Arc::clone(&self.hub.0);
        let mut timers = std::pin::pin!(keep_time(&shared));
        let outcome = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                never = &mut timers => match never {},
                Some(command) = self.commands.recv() => match command {
                    Command::Start(process) => self.start(process, Duration::ZERO),
                    Command::Stop(process) => drop(self.processes[process.0].stop.send_replace(true)),
                },
                Some(ended) = self.running.join_next() => match ended {
                    Ok(ended) => if let Err(err) = self.ended(ended) { break Err(err) },
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                },
            }
        };
        for process in &self.processes {
            process.stop.send_replace(true);
        }
        while let Some(ended) = self.running.join_next().await {
            if let Ok(Ended {
                process,
                outcome: Ok(exit),
                ..
            }) = ended
            {
                self.hub.0.child_exited(process, &exit);
            }
        }
        if let Err(HubError::Start { .. } | HubError::ExitedBeforeResponding { .. }) = &outcome {
            self.hub.tell_everybody(NOT_STARTED);
        }
        self.hub.stop_sessions();
        outcome
    }

    fn start(&mut self, process: ProcessId, pause: Duration) {
        let run = &mut self.processes[process.0];
        let (stop, stopped) = watch::channel(false);
        run.stop = stop;
        run.active = true;
        let shared = Arc::clone(&self.hub.0);
        self.running.spawn(run_process(
            shared,
            process,
            self.command.clone(),
            stopped,
            pause,
        ));
    }

    /// A process has ended: tells the router, and starts the next one, unless that makes no sense.
    fn ended(&mut self, ended: Ended) -> Result<(), HubError> {
        let Ended {
            process,
            outcome,
            lived,
            why,
        } = ended;
        let (mut exit, start_error) = match outcome {
            Ok(exit) => (exit, None),
            Err(err) => {
                let status = err.to_string();
                let exit = Exit {
                    status,
                    ..Exit::default()
                };
                (exit, Some(err))
            }
        };
        let next = if why == Why::Unneeded {
            Next::GiveUp
        } else {
            let overdue = exit.overdue.is_some();
            self.next(process, lived, start_error.is_some(), overdue)
        };
        if let Next::Start {
            pause,
            forgets,
            suspicious,
        } = next
        {
            warn_of_restart(process, &exit, pause, forgets);
            (exit.restarts, exit.forgets, exit.suspicious) = (true, forgets, suspicious);
            if let Some(metrics) = metrics::get() {
                metrics.restarted();
            }
            self.hub.0.child_exited(process, &exit);
            self.start(process, pause);
            return Ok(());
        }
        self.hub.0.child_exited(process, &exit);
        self.processes[process.0].active = false;
        match why {
            Why::Unneeded => Ok(()),
            _ => self.given_up(process, exit, start_error),
        }
    }

    /// A process that has ended is not started again, which is an error unless another one serves.
    fn given_up(
        &mut self,
        process: ProcessId,
        exit: Exit,
        start_error: Option<io::Error>,
    ) -> Result<(), HubError> {
        let needed = !self.processes.iter().any(|run| run.active);
        let run = &mut self.processes[process.0];
        if !needed {
            // Legacy or modern peers are served all the same; a new request of the others tries again.
            tracing::error!(
                process = process.0,
                status = exit.status,
                "MCP server ended and is not started again"
            );
            run.restarts.reset();
            return Ok(());
        }
        let command = self.command.to_string();
        Err(match (start_error, run.restarts.is_proven()) {
            (Some(source), _) => HubError::Start { command, source },
            (None, false) => HubError::ExitedBeforeResponding { command, exit },
            (None, true) => HubError::Exited { command, exit },
        })
    }

    /// What follows a process that has ended by itself; whoever is to blame is refused from now on.
    fn next(
        &mut self,
        process: ProcessId,
        lived: Duration,
        failed_to_start: bool,
        overdue: bool,
    ) -> Next {
        let state = &mut *self.hub.0.lock();
        let answered = state.processes[process.0].answered;
        let limit = match state.routing.is_shared() {
            true => self.hub.0.limits.restarts,
            // The session ends with its process.
            false => 0,
        };
        let (cause, refused) = if failed_to_start {
            (Cause::Itself, None)
        } else {
            let now = Instant::now().into_std();
            state.routing.cause_of_end(process, overdue, now)
        };
        if let Cause::Sender(sender) = &cause {
            tracing::warn!(process = process.0, %sender, ?refused, "MCP server ended at a message of this peer");
        }
        let end = End {
            cause: &cause,
            answered,
            lived,
            overdue,
        };
        self.processes[process.0].restarts.ended(end, limit)
    }
}

fn warn_of_restart(process: ProcessId, exit: &Exit, pause: Duration, forgets: bool) {
    tracing::warn!(
        process = process.0,
        status = exit.status,
        ?pause,
        "MCP server ended, starting it again"
    );
    if forgets {
        tracing::warn!(
            process = process.0,
            "the next process is told of no subscriptions and no log level: the last ones ended soon after"
        );
    }
}

/// One process of the MCP server, from start to end.
async fn run_process(
    shared: Arc<Shared>,
    process: ProcessId,
    command: CommandLine,
    stopped: watch::Receiver<bool>,
    pause: Duration,
) -> Ended {
    let early = |outcome, why| Ended {
        process,
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
        let known = &mut state.processes[process.0];
        (known.answered, known.alive) = (false, None);
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
    tracing::info!(pid = child.id(), process = process.0, "MCP server started");
    let _running = Open::process();
    shared.handle(|routing, out| routing.child_started(process, out));
    let (status, why) = live(&shared, process, &mut child, stdin, &mut stdout, stopped).await;
    let status = status.map_or_else(|err| err.to_string(), |status| status.to_string());
    let (status, overdue) = why.describe(status);
    let stderr = child.reap().await;
    tracing::info!(process = process.0, status, "MCP server ended");
    let exit = Exit {
        status,
        stderr,
        overdue,
        ..Exit::default()
    };
    Ended {
        process,
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
    process: ProcessId,
    child: &mut Child,
    stdin: ChildStdin,
    stdout: &mut LineReader<tokio::process::ChildStdout>,
    stopped: watch::Receiver<bool>,
) -> (io::Result<std::process::ExitStatus>, Why) {
    let (closed, deaf) = (Notify::new(), Notify::new());
    let mut reading = own_waker(read(shared, process, stdout)).fuse();
    let feeding = own_waker(feed(shared, process, stdin, stopped.clone(), &deaf));
    let life = own_waker(async {
        tokio::select! {
            status = child.wait() => (status, Why::Itself),
            // Without stdout it is of no use to anybody.
            () = closed.notified() => (child.stop().await, Why::Itself),
            () = asked(stopped) => (child.stop().await, Why::Unneeded),
            method = overdue(shared, process) => (child.terminate().await, Why::Overdue(method)),
            () = deaf.notified() => {
                tracing::debug!(process = process.0, "MCP server has closed its stdin");
                shared.lock().routing.stopped_reading(process);
                match child.leave().await {
                    Some(status) => (status, Why::Itself),
                    None => {
                        tracing::warn!(process = process.0, "MCP server has closed its stdin and lives on, ending it");
                        (child.terminate().await, Why::StdinClosed)
                    }
                }
            }
        }
    });
    let pump = async {
        let read_all = async {
            (&mut reading).await;
            closed.notify_one();
        };
        tokio::join!(feeding, read_all, own_waker(take_turns(shared, process)));
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
async fn take_turns(shared: &Shared, process: ProcessId) {
    let goes_on = shared.lock().routing.takes_turns(process);
    if !goes_on {
        return;
    }
    let begin = Instant::now();
    while begin.elapsed() < STABLE {
        tokio::time::sleep(TURN).await;
        shared.handle(|routing, out| routing.next_turn(process, out));
    }
    shared.handle(|routing, out| routing.end_turns(process, out));
}
