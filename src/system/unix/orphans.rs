//! Descendants of MCP servers that have left their process group: daemons, browsers, whatever calls
//! `setsid`.
//!
//! On Linux the server is a child subreaper (prctl(2)): a descendant whose parent has ended becomes
//! our own child, an orphan. Each MCP server has a variable of its own in its environment, which its
//! descendants inherit, so an orphan tells whose it is. Those of no running MCP server are ended, and
//! all are reaped. Elsewhere, only process groups are ended.

use crate::utils::lock::lock;
use crate::utils::random_hex;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};
use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// How long orphans may take to be gone when the server stops; one that the kernel holds cannot be.
const PATIENCE: Duration = Duration::from_secs(1);

/// The pause between two looks at orphans that have been killed. Not an event: the runtime, which hears signals,
/// has ended by then.
const STEP: Duration = Duration::from_millis(5);

static FAMILY: LazyLock<Mutex<Family>> = LazyLock::new(|| {
    Mutex::new(Family {
        prefix: format!("_MCP_CHILD_{}_", random_hex(16)),
        adopts: false,
        has_no_others: false,
        started: HashSet::new(),
        running: HashSet::new(),
        next: 0,
    })
});

#[derive(Debug)]
struct Family {
    /// The unique prefix of our variables.
    prefix: String,
    /// Orphans become our children.
    adopts: bool,
    /// Every child that we have not started is an orphan of an MCP server.
    has_no_others: bool,
    /// Our children whose end is awaited elsewhere.
    started: HashSet<Pid>,
    /// The numbers of the MCP servers that run.
    running: HashSet<u64>,
    next: u64,
}

fn family() -> MutexGuard<'static, Family> {
    lock(&FAMILY)
}

/// Makes orphans our children from now on, where the system can.
pub fn adopt() {
    let Some(children) = children() else {
        return tracing::debug!("processes that leave the group of their MCP server are not ended");
    };
    // The init process of a container gets everybody's orphans, and a shell that has become us by
    // `exec` may have had children.
    family().has_no_others = children.is_empty() && getpid() != Pid::INIT;
    match become_subreaper() {
        Ok(()) => family().adopts = true,
        Err(err) => tracing::debug!(%err, "could not become a subreaper"),
    }
}

#[cfg(target_os = "linux")]
fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(getpid()))?)
}

#[cfg(not(target_os = "linux"))]
fn become_subreaper() -> io::Result<()> {
    Err(rustix::io::Errno::NOSYS.into())
}

/// What descends from one MCP server. Ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Descendants {
    number: u64,
    process: Option<Pid>,
}

impl Descendants {
    /// Starts an MCP server by `start`, with the variable of this name in its environment.
    pub(crate) fn start<T>(
        start: impl FnOnce(&str) -> io::Result<T>,
        pid: impl FnOnce(&T) -> Option<Pid>,
    ) -> io::Result<(T, Self)> {
        // Locked, so that the process is not taken for an orphan before it is known.
        let mut family = family();
        let number = family.next;
        let started = start(&format!("{}{number}", family.prefix))?;
        let process = pid(&started);
        family.next += 1;
        family.started.extend(process);
        family.running.insert(number);
        Ok((started, Self { number, process }))
    }

    /// Kills those that are orphans, and from now on each as it becomes one.
    pub(crate) fn end(&self) {
        let mut family = family();
        if family.running.remove(&self.number) {
            family.sweep();
        }
    }
}

impl Drop for Descendants {
    fn drop(&mut self) {
        self.end();
        if let Some(process) = self.process {
            family().started.remove(&process);
        }
    }
}

/// Starts a process of our own, which is no MCP server.
pub(crate) fn start_helper(
    start: impl FnOnce() -> io::Result<std::process::Child>,
) -> io::Result<std::process::Child> {
    let mut family = family();
    let started = start()?;
    let pid = Pid::from_raw(started.id().cast_signed());
    family.started.extend(pid);
    Ok(started)
}

/// The variables that our MCP servers have begin so.
pub(crate) fn prefix() -> String {
    family().prefix.clone()
}

/// Reaps orphans, and ends those whose MCP server has ended.
///
/// # Errors
/// What the system says when we ask for the signal that tells of them.
///
/// # Cancel safety
/// It may be dropped at any time.
pub async fn watch() -> io::Result<Infallible> {
    let mut ended = signal(SignalKind::child())?;
    loop {
        family().sweep();
        if ended.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits until the orphans of MCP servers that have ended are gone.
pub fn finish() {
    let deadline = Instant::now() + PATIENCE;
    while family().sweep() > 0 {
        if Instant::now() >= deadline {
            return tracing::warn!("processes that an MCP server started do not end");
        }
        std::thread::sleep(STEP);
    }
}

impl Family {
    /// Reaps orphans and kills those of no running MCP server; gives how many of these there still
    /// are. Killing one makes its children orphans in turn.
    fn sweep(&self) -> usize {
        if !self.adopts {
            return 0;
        }
        let orphans = children().unwrap_or_default();
        let mut ending = 0;
        for orphan in orphans
            .into_iter()
            .filter(|pid| !self.started.contains(pid))
        {
            let lives = matches!(waitpid(Some(orphan), WaitOptions::NOHANG), Ok(None));
            if lives && self.is_left_behind(orphan) {
                // It is not reaped, so the number is still its own.
                let _not_permitted = kill_process(orphan, Signal::KILL);
                ending += 1;
            }
        }
        ending
    }

    fn is_left_behind(&self, orphan: Pid) -> bool {
        match number(orphan, &self.prefix) {
            Some(number) => !self.running.contains(&number),
            // It has cleared its environment. Where no MCP server runs it belongs to none that does.
            None => self.has_no_others && self.running.is_empty(),
        }
    }
}

/// The number of the MCP server that a process descends from, where its environment tells.
fn number(process: Pid, prefix: &str) -> Option<u64> {
    let path = format!("/proc/{}/environ", process.as_raw_nonzero());
    let environment = std::fs::read(path).ok()?;
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(prefix.as_bytes()))?;
    let digits = value.split(|byte| *byte == b'=').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Our children; `None` where the system does not tell.
fn children() -> Option<Vec<Pid>> {
    let mut children = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let path = thread.ok()?.path().join("children");
        match std::fs::read_to_string(path) {
            Ok(list) => children.extend(list.split_whitespace().filter_map(pid)),
            // The thread has ended meanwhile, and its children have become another's.
            Err(err) if err.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
            Err(_) => return None,
        }
    }
    Some(children)
}

fn pid(digits: &str) -> Option<Pid> {
    digits.parse().ok().and_then(Pid::from_raw)
}

/// Kills every process whose environment has a variable that begins with `prefix`, for a server that
/// was killed. True when there was none.
pub(crate) fn kill_marked(prefix: &str) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let marked = processes
        .filter_map(|entry| pid(entry.file_name().to_str()?))
        .filter(|process| number(*process, prefix).is_some());
    let mut none = true;
    for process in marked {
        none = false;
        let _not_permitted = kill_process(process, Signal::KILL);
    }
    none
}
