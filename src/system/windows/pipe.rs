//! The pipes to and from a process that we have started: threads of the runtime's read and write them.

use std::io;
use tokio::process::{ChildStdin, ChildStdout};

/// A thread writes, and cannot be asked.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`], always.
pub fn try_write(_stdin: &ChildStdin, _bytes: &[u8]) -> io::Result<usize> {
    Err(io::ErrorKind::WouldBlock.into())
}

/// Windows does not tell.
#[must_use]
pub fn unread(_: &ChildStdin) -> Option<u64> {
    None
}

/// Pipes keep the size that they have.
pub fn enlarge(_stdout: &ChildStdout, _bytes: usize) {}

/// Would notice that a process has closed its stdin: only writing to it shows that.
#[derive(Debug)]
pub struct HangUp;

impl HangUp {
    /// Nothing is watched.
    #[must_use]
    pub fn watch(_stdin: &ChildStdin) -> Self {
        Self
    }

    /// Never completes.
    pub async fn happens(&self) {
        std::future::pending().await
    }
}
