//! The pipes to and from a process that we have started.

use std::io;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;
use tokio::process::{ChildStdin, ChildStdout};

/// Writes what the pipe takes at once, without waiting.
///
/// # Errors
/// What the system says; [`io::ErrorKind::WouldBlock`] where nothing is taken at once.
pub fn try_write(stdin: &ChildStdin, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::write(stdin, bytes)?)
}

/// How many bytes a process has not yet read of what was written to its stdin.
#[cfg(target_os = "linux")]
#[must_use]
pub fn unread(stdin: &ChildStdin) -> Option<u64> {
    rustix::io::ioctl_fionread(stdin).ok()
}

/// How many bytes a process has not yet read of what was written to its stdin: not every system tells.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn unread(_: &ChildStdin) -> Option<u64> {
    None
}

/// Sets the capacity of the pipe from a process, in bytes. A user has so much memory for pipes only; without
/// it they work as well.
#[cfg(target_os = "linux")]
pub fn enlarge(stdout: &ChildStdout, bytes: usize) {
    let _refused = rustix::pipe::fcntl_setpipe_size(stdout, bytes);
}

/// Pipes keep the size that they have.
#[cfg(not(target_os = "linux"))]
pub fn enlarge(_: &ChildStdout, _: usize) {}

/// Notices that a process has closed its stdin, even while nothing is written to it. It keeps our end open,
/// too.
#[derive(Debug)]
pub struct HangUp(Option<Sender>);

impl HangUp {
    /// Where the system is short of what that takes, only writing shows it.
    #[must_use]
    pub fn watch(stdin: &ChildStdin) -> Self {
        Self(watched(stdin))
    }

    /// Completes when the process has closed its stdin. Cancel safe.
    pub async fn happens(&self) {
        let Some(stdin) = &self.0 else {
            return std::future::pending().await;
        };
        if stdin.ready(Interest::ERROR).await.is_err() {
            // The runtime ends.
            std::future::pending().await
        }
    }
}

/// Polling a pipe whose reader is gone reports an error (poll(2)).
#[cfg(target_os = "linux")]
fn watched(stdin: &ChildStdin) -> Option<Sender> {
    use std::os::fd::AsFd;
    let stdin = stdin.as_fd().try_clone_to_owned().ok()?;
    Sender::from_owned_fd(stdin).ok()
}

/// Not every system tells.
#[cfg(not(target_os = "linux"))]
fn watched(_: &ChildStdin) -> Option<Sender> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;
    use std::time::Duration;
    use tokio::process::Command;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_closed_stdin_is_noticed_and_an_open_one_is_not() {
        let start = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).kill_on_drop(true);
            let mut process = command.stdin(Stdio::piped()).spawn().unwrap();
            let stdin = process.stdin.take().unwrap();
            (process, HangUp::watch(&stdin), stdin)
        };
        let (_process, closed, _stdin) = start("exec < /dev/null; exec sleep 60");
        closed.happens().await;
        // It stays closed.
        closed.happens().await;
        let (_process, open, _stdin) = start("exec sleep 60");
        let happens = tokio::time::timeout(Duration::from_millis(300), open.happens());
        assert!(happens.await.is_err());
    }
}
