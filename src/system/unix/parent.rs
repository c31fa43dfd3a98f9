//! The process that started us.

use std::os::unix::process::parent_id;
use std::time::Duration;

/// How often to look at what no event tells.
const CHECK: Duration = Duration::from_secs(1);

/// Completes when the process that started us has exited.
pub async fn exited() {
    let parent = parent_id();
    #[cfg(target_os = "linux")]
    if let Ok(()) = linux::exited(parent).await {
        return;
    }
    // Other systems, older kernels and some sandboxes have no event for it.
    let mut checks = tokio::time::interval(CHECK);
    while parent_id() == parent {
        checks.tick().await;
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::parent_id;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::io;
    use tokio::net::unix::pipe::Receiver;

    /// Completes when our parent has exited.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(super) async fn exited(parent: u32) -> io::Result<()> {
        let id = i32::try_from(parent).ok().and_then(Pid::from_raw);
        // A parent outside of our process namespace has no number here.
        let id = id.ok_or(io::ErrorKind::Unsupported)?;
        let process = pidfd_open(id, PidfdFlags::empty())?;
        if parent_id() != parent {
            // It had exited before, and its number may belong to another process.
            return Ok(());
        }
        // It is not read, and becomes readable as the end of a pipe does.
        let process = Receiver::from_owned_fd_unchecked(process)?;
        process.readable().await
    }
}
