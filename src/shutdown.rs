//! The signals that stop us, or make us read our files again.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, SIGINT and SIGHUP.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Takes the signals over from the system's default.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal that asks us to stop, SIGHUP included. Cancel safe.
    pub async fn stop(&mut self) -> &'static str {
        match self.next().await {
            Asked::Stop(signal) => signal,
            Asked::HangUp => "SIGHUP",
        }
    }

    /// Waits for the next signal; what SIGHUP means is the caller's decision. Cancel safe.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hang_up.recv() => Asked::HangUp,
        }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To stop; which signal it was, for the log.
    Stop(&'static str),
    /// The terminal has closed, or somebody wants the files to be read again.
    HangUp,
}
