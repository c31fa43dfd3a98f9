//! File descriptors: as many as the system lets us have, and a reserve of them.
//!
//! Connections may take all others. The reserve is for what must still work then: restarting the
//! MCP server, reopening the audit log, reloading the policy.

use crate::utils::lock::lock;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, OnceLock};

/// Enough to start a process: three pipes, a pipe that tells of its start, a handle on it; and to read
/// a file meanwhile.
const RESERVE: usize = 16;

/// What a running MCP server takes: three pipes, one of them twice, and a handle on it.
const EACH_CHILD: u64 = 5;

/// What the server takes for itself: its standard streams, listeners, signals, logs.
const OURS: u64 = 24;

/// Some systems refuse more than this while they call the hard limit infinite.
const MODEST: u64 = 10_240;

static LIMITS: OnceLock<Limits> = OnceLock::new();
static HELD: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Limits {
    original: Rlimit,
    raised: Rlimit,
}

/// Raises the soft limit of this process to the hard one, and sets the reserve aside.
pub fn raise() {
    let original = getrlimit(Resource::Nofile);
    let candidates = [original.maximum, Some(MODEST)];
    let raised = candidates.into_iter().find_map(|current| {
        let wanted = Rlimit {
            current,
            maximum: original.maximum,
        };
        let more = original
            .current
            .is_some_and(|now| current.is_none_or(|then| then > now));
        (more && setrlimit(Resource::Nofile, wanted).is_ok()).then_some(wanted)
    });
    let raised = raised.unwrap_or(original);
    let _again = LIMITS.set(Limits { original, raised });
    restore();
}

/// The limit of this process, if this many sockets and children may need more than that.
#[must_use]
pub fn shortfall(sockets: u64, children: u64) -> Option<Shortfall> {
    let limit = LIMITS.get()?.raised.current?;
    let children = children.saturating_mul(EACH_CHILD);
    let needed = sockets + children + OURS + RESERVE as u64;
    (needed > limit).then_some(Shortfall { limit, needed })
}

/// Fewer descriptors than may be needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// The limit.
    pub limit: u64,
    /// How many may be needed.
    pub needed: u64,
}

fn held() -> MutexGuard<'static, Vec<OwnedFd>> {
    lock(&HELD)
}

/// Fills up what has been taken of the reserve; true where all of it is there.
pub fn restore() -> bool {
    if LIMITS.get().is_none() {
        return true;
    }
    let mut held = held();
    while held.len() < RESERVE {
        match rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(descriptor) => held.push(descriptor),
            Err(Errno::MFILE | Errno::NFILE) => return false,
            // Without a reserve everything works as long as there are others.
            Err(_) => break,
        }
    }
    true
}

/// Lets `task` have the reserve.
pub fn with_reserve<T>(task: impl FnOnce() -> T) -> T {
    held().clear();
    let outcome = task();
    restore();
    outcome
}

/// Starts a process by `start`, with the reserve if need be. It gets the limit that we were started
/// with: programs that use select(2), or close whatever might be open, do not like a high one.
///
/// # Errors
/// Those of `start`.
pub fn start<T>(
    mut start: impl FnMut() -> io::Result<T>,
    pid: impl FnOnce(&T) -> Option<Pid>,
) -> io::Result<T> {
    let Some(Limits { original, raised }) = LIMITS.get() else {
        return start();
    };
    // Our own limit is what it inherits. What is open already does not mind.
    let lowered = setrlimit(Resource::Nofile, *original).is_ok();
    let started = start();
    if lowered && let Err(err) = setrlimit(Resource::Nofile, *raised) {
        tracing::warn!(%err, "could not raise the limit on file descriptors again");
    }
    match started {
        Err(err) if is_exhausted(&err) => {}
        outcome => return outcome,
    }
    // Above the original limit it cannot inherit that, and gets it a moment after its start.
    let started = with_reserve(start)?;
    if let Some(pid) = pid(&started) {
        limit(pid, *original);
    }
    Ok(started)
}

#[cfg(target_os = "linux")]
fn limit(pid: Pid, original: Rlimit) {
    if let Err(err) = rustix::process::prlimit(Some(pid), Resource::Nofile, original) {
        tracing::debug!(%err, "the MCP server keeps our limit on file descriptors");
    }
}

#[cfg(not(target_os = "linux"))]
fn limit(_pid: Pid, _original: Rlimit) {
    tracing::debug!("the MCP server keeps our limit on file descriptors");
}

/// True where there are no more descriptors, for this process or for all.
fn is_exhausted(err: &io::Error) -> bool {
    matches!(Errno::from_io_error(err), Some(Errno::MFILE | Errno::NFILE))
}

/// That this process may have no more descriptors.
#[must_use]
pub fn none_left() -> io::Error {
    Errno::MFILE.into()
}

/// True where the system is short of descriptors, processes or memory: that passes.
#[must_use]
pub fn is_shortage(err: &io::Error) -> bool {
    is_exhausted(err) || matches!(Errno::from_io_error(err), Some(Errno::AGAIN | Errno::NOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_no_fault_of_the_program() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM] {
            assert!(is_shortage(&errno.into()), "{errno}");
        }
        for errno in [Errno::NOENT, Errno::ACCESS, Errno::NOEXEC, Errno::PERM] {
            assert!(!is_shortage(&errno.into()), "{errno}");
        }
        assert!(!is_shortage(&io::Error::other("no errno")));
    }
}
