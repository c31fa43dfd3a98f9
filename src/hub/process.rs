//! One process of the MCP server, from start to end.

use super::Shared;
use super::deadline::overdue;
use super::restarts::{self, STABLE};
use super::stdin::{asked, feed};
use super::stdout::read;
use crate::backlog::Holder;
use crate::child::{Child, CommandLine, Pipes};
use crate::metrics::{self, Metrics, Open};
use crate::router::{Exit, ProcessId};
use crate::system::descriptors;
use crate::transport::line::LineReader;
use crate::utils::backoff;
use crate::utils::own_waker::own_waker;
use crate::utils::span::brief;
use futures_util::FutureExt;
use futures_util::future::FusedFuture;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How long the pipe of a process that has ended is still read: its last lines count, but a
/// grandchild may hold the pipe open forever.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The longest pause while the system lacks the resources to start a process.
const SHORTAGE_PAUSE: Duration = Duration::from_secs(2);

/// The length of a turn while a process gets the messages of one sender at a time; a sender has between one
/// and two of them.
const TURN: Duration = Duration::from_millis(250);

/// How a process ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub process: ProcessId,
    /// Its exit, or why it could not be started.
    pub outcome: io::Result<Exit>,
    pub lived: Duration,
    pub why: Why,
}

/// Why a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It exited by itself.
    Itself,
    /// It is no longer needed.
    Unneeded,
    /// It has not answered this method in time.
    Overdue(&'static str),
    /// It has closed its stdin.
    StdinClosed,
    /// It has closed its stdout.
    StdoutClosed,
}

impl Why {
    /// Completes its exit status for people; returns also the method that it has not answered in
    /// time.
    fn describe(self, status: String) -> (String, Option<&'static str>) {
        match self {
            Self::Overdue(method) => {
                let status = format!("no answer to '{method}' in time, {status}");
                (status, Some(method))
            }
            Self::StdinClosed => (format!("closed its stdin, {status}"), None),
            Self::StdoutClosed => (format!("closed its stdout, {status}"), None),
            Self::Itself | Self::Unneeded => (status, None),
        }
    }
}

/// One process of the MCP server, from start to end.
pub(super) async fn run(
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
    // Even a zero timer takes a millisecond.
    let pause = async {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = asked(stopped.clone()) => return early(Ok(Exit::default()), Why::Unneeded),
        () = pause => {}
    }
    let (isolated, holder) = begin(&shared, process);
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
    let pid = child.id();
    shared.lock().processes[process.0].pid = pid;
    tracing::info!(pid, "MCP server started");
    let _running = Open::process();
    shared.child_started(process);
    let (status, why) = live(&shared, process, &mut child, stdin, &mut stdout, stopped).await;
    let exit = exit(pid, child, status, why).await;
    Ended {
        process,
        outcome: Ok(exit),
        lived: started.elapsed(),
        why,
    }
}

/// Resets what is known of the last process; returns whether the new one is isolated, and the
/// holder of its memory.
fn begin(shared: &Shared, process: ProcessId) -> (bool, Holder) {
    let mut state = shared.lock();
    let known = &mut state.processes[process.0];
    (known.answered, known.alive, known.pid) = (false, None, None);
    (!state.routing.is_shared(), state.holder.clone())
}

/// Reaps a process that has ended, and logs it.
async fn exit(pid: Option<u32>, child: Child, status: io::Result<ExitStatus>, why: Why) -> Exit {
    let status = status.map_or_else(|err| err.to_string(), |status| status.to_string());
    let (status, overdue) = why.describe(status);
    let stderr = child.reap().await;
    match why {
        Why::Unneeded => tracing::info!(pid, status, "MCP server ended"),
        _ => {
            tracing::warn!(pid, status, "MCP server ended");
            metrics::get().into_iter().for_each(Metrics::exited);
        }
    }
    Exit {
        status,
        stderr,
        overdue,
        ..Exit::default()
    }
}

/// Starts a process; retries while the system lacks the resources for it.
async fn despite_shortage<T>(mut spawn: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut attempt = 0;
    loop {
        match spawn() {
            Err(err) if descriptors::is_shortage(&err) => {
                let pause = backoff::delay(restarts::PAUSE, attempt).min(SHORTAGE_PAUSE);
                tracing::warn!(%err, pause = %brief(pause), "could not start the MCP server, trying again");
                tokio::time::sleep(pause).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Pumps lines until the process has exited; returns its status, and why it ended.
async fn live(
    shared: &Shared,
    process: ProcessId,
    child: &mut Child,
    stdin: ChildStdin,
    stdout: &mut LineReader<ChildStdout>,
    stopped: watch::Receiver<bool>,
) -> (io::Result<ExitStatus>, Why) {
    let (closed, deaf, pid) = (Notify::new(), Notify::new(), child.id());
    let mut reading = own_waker(read(shared, process, stdout)).fuse();
    let feeding = own_waker(feed(shared, process, stdin, stopped.clone(), &deaf));
    let life = own_waker(async {
        tokio::select! {
            status = child.wait() => (status, Why::Itself),
            // Without its stdout it is useless.
            () = closed.notified() => match child.leave().await {
                Some(status) => (status, Why::Itself),
                None => {
                    tracing::warn!(pid, "MCP server has closed its stdout and lives on, ending it");
                    (child.terminate().await, Why::StdoutClosed)
                }
            },
            () = asked(stopped) => (child.stop().await, Why::Unneeded),
            method = overdue(shared, process) => (child.terminate().await, Why::Overdue(method)),
            () = deaf.notified() => {
                tracing::debug!(pid, "MCP server has closed its stdin");
                shared.lock().routing.stopped_reading(process);
                match child.leave().await {
                    Some(status) => (status, Why::Itself),
                    None => {
                        tracing::warn!(pid, "MCP server has closed its stdin and lives on, ending it");
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

/// If processes have ended at messages of an unknown sender, gives this one the messages of one sender at a
/// time, until it has lived long enough.
async fn take_turns(shared: &Shared, process: ProcessId) {
    let begin = Instant::now();
    // One that starts slowly has been sent nothing yet when it has lived long enough.
    while shared.lock().routing.takes_turns(process) {
        tokio::time::sleep(TURN).await;
        shared.handle(|routing, out| {
            if begin.elapsed() < STABLE {
                routing.next_turn(process, out);
            } else {
                routing.end_turns(process, out);
            }
        });
    }
}
