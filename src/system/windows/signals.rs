//! The events that stop us. There is no event for a reload: restart the program instead.

use crate::system::asked::{Asked, HangUp};
use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

/// Ctrl-C, Ctrl-Break, the closing of the console, and the shutdown of the machine.
#[derive(Debug)]
pub struct Signals {
    interrupt: CtrlC,
    stop: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl Signals {
    /// Takes the events over from the system's default.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            stop: ctrl_break()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// Waits for the next event that asks us to stop. Cancel safe.
    pub async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.stop.recv() => "Ctrl-Break",
            _ = self.close.recv() => "the closing of the console",
            _ = self.shutdown.recv() => "the shutdown of the machine",
        }
    }

    /// The same. Cancel safe.
    pub async fn next(&mut self) -> Asked {
        Asked::Stop(self.stop().await)
    }
}

impl HangUp {
    /// There is no SIGHUP.
    #[must_use]
    pub fn at_start() -> Self {
        Self::Stop
    }
}
