//! Starts the processes of the MCP server, and starts them again.

use super::deadline::keep_time;
use super::error::HubError;
use super::process::{self, Ended, Why};
use super::restarts::{End, Next, Restarts};
use super::{Hub, ProcessState};
use crate::child::CommandLine;
use crate::metrics;
use crate::router::{Cause, Command, Exit, PROCESSES, ProcessId};
use crate::utils::span::brief;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Sent to the peers of a process that never worked, besides the answers to their requests.
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
        self.running.spawn(process::run(
            shared,
            process,
            self.command.clone(),
            stopped,
            pause,
        ));
    }

    /// Handles the end of a process: tells the router, and starts the next one, unless that is
    /// pointless.
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
            warn_of_restart(self.pid(process), &exit, pause, forgets);
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

    /// For logs: the number of the process that runs, or has run last; `None` if it could not be started.
    fn pid(&self, process: ProcessId) -> Option<u32> {
        self.hub.0.lock().processes[process.0].pid
    }

    /// A process that has ended is not started again, which is an error unless another one serves.
    fn given_up(
        &mut self,
        process: ProcessId,
        exit: Exit,
        start_error: Option<io::Error>,
    ) -> Result<(), HubError> {
        let needed = !self.processes.iter().any(|run| run.active);
        let pid = self.pid(process);
        let run = &mut self.processes[process.0];
        if !needed {
            // Peers of the other protocol generation are still served; a new request of these tries again.
            tracing::error!(
                pid,
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

    /// Decides what follows a process that has ended by itself; a sender that caused it is refused from now
    /// on.
    fn next(
        &mut self,
        process: ProcessId,
        lived: Duration,
        failed_to_start: bool,
        overdue: bool,
    ) -> Next {
        let state = &mut *self.hub.0.lock();
        let ProcessState { answered, pid, .. } = state.processes[process.0];
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
            // The first few are forgiven.
            let refused = refused.filter(|time| !time.is_zero());
            let refused_for = refused.map(|time| tracing::field::display(brief(time)));
            tracing::warn!(pid, %sender, refused_for, "MCP server ended at a message of this peer");
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

fn warn_of_restart(pid: Option<u32>, exit: &Exit, pause: Duration, forgets: bool) {
    // That it ended is a warning of its own.
    tracing::info!(
        pid,
        status = exit.status,
        pause = %brief(pause),
        "MCP server ended, starting it again"
    );
    if forgets {
        tracing::warn!(
            pid,
            "the next process is told of no subscriptions and no log level: the last ones ended soon after"
        );
    }
}
