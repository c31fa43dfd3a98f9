//! The signals that stop us, or make us read our files again.

use crate::system::asked::{Asked, HangUp};
use std::fs::File;
use std::io::IsTerminal;
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

impl HangUp {
    /// Decides by how the program was started; to be called before [`Signals::listen`].
    #[must_use]
    pub fn at_start() -> Self {
        let by_hand = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
        // Only a terminal that controls us sends the signal as it closes.
        let controlled = || File::open("/dev/tty").is_ok();
        if by_hand && controlled() && !is_ignored() {
            Self::Stop
        } else {
            Self::Reload
        }
    }
}

/// True if SIGHUP was ignored when we were started, as with `nohup`.
fn is_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hang_up(&status))
}

/// Reads the mask of ignored signals, in which SIGHUP is the lowest bit.
fn ignores_hang_up(status: &str) -> bool {
    let mut masks = status
        .lines()
        .filter_map(|line| line.strip_prefix("SigIgn:"));
    let mask = masks
        .next()
        .map(|mask| u64::from_str_radix(mask.trim(), 16));
    matches!(mask, Some(Ok(mask)) if mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hang_up_is_seen() {
        for (status, ignored) in [
            ("Name:\tx\nSigIgn:\t0000000000000001\n", true),
            ("SigIgn:\t0000000000001001\n", true),
            (
                "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n",
                false,
            ),
            ("SigIgn:\t?\n", false),
            ("", false),
        ] {
            assert_eq!(ignores_hang_up(status), ignored, "{status}");
        }
    }
}
