//! What cleans up when we cannot: a process of our own that outlives a server that was killed.
//!
//! A server that is told to stop ends its MCP servers itself. One that is killed (SIGKILL, out of
//! memory) cannot, and an MCP server that does not mind the end of its stdin would stay for ever.
//! So the server keeps a pipe to a reaper, which knows the process groups; when the pipe ends
//! without a word, the reaper does what the server would have done.

use super::orphans;
use crate::utils::lock::lock;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use std::collections::BTreeSet;
use std::io::{BufRead, PipeWriter, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// How long a process group may take to leave once its stdin is closed, and again after SIGTERM.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// The hidden subcommand that is the reaper.
pub const COMMAND: &str = "reap-orphans";

/// Our end of the pipe; `None` when there is no reaper.
static PIPE: OnceLock<Option<Mutex<PipeWriter>>> = OnceLock::new();

/// Tells the reaper of a process group that is ours.
pub(crate) fn watch(group: Pid) {
    tell('+', group);
}

/// Tells the reaper that a process group is gone.
pub(crate) fn forget(group: Pid) {
    tell('-', group);
}

fn tell(sign: char, group: Pid) {
    let Some(pipe) = PIPE.get_or_init(start) else {
        return;
    };
    let mut pipe = lock(pipe);
    // A few bytes into a pipe that is read soon: this does not block.
    if let Err(err) = writeln!(pipe, "{sign}{}", group.as_raw_nonzero()) {
        tracing::debug!(%err, "the reaper is gone");
    }
}

fn start() -> Option<Mutex<PipeWriter>> {
    let started = std::io::pipe().and_then(|(words, mut pipe)| {
        writeln!(pipe, "={}", orphans::prefix())?;
        // A process must be waited for only where it was started.
        std::thread::Builder::new().spawn(move || {
            let ended = orphans::start_helper(|| reaper()?.stdin(words).spawn())
                .and_then(|mut reaper| reaper.wait());
            ended.map_err(|err| warn(&err))
        })?;
        Ok(Mutex::new(pipe))
    });
    started.map_err(|err| warn(&err)).ok()
}

fn warn(err: &std::io::Error) {
    tracing::warn!(%err, "no reaper: MCP servers may outlive a server that is killed");
}

fn reaper() -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(COMMAND)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Signals to our group, such as Ctrl-C, are not for it.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    Ok(command)
}

/// The reaper itself: reads process groups from `input` until that ends, then ends those groups and
/// what has left them.
///
/// # Errors
/// What reading says; the groups have been ended all the same.
pub fn run(input: impl BufRead) -> std::io::Result<()> {
    let (mut groups, mut prefix) = (BTreeSet::new(), None);
    let mut outcome = Ok(());
    for line in input.lines() {
        let line = match line {
            Ok(line) => line,
            Err(err) => {
                outcome = Err(err);
                break;
            }
        };
        if let Some(name) = line.strip_prefix('=').filter(|name| !name.is_empty()) {
            prefix = Some(name.to_owned());
        }
        let group = line.get(1..).and_then(|digits| digits.parse().ok());
        match (line.as_bytes().first(), group) {
            (Some(b'+'), Some(group)) => drop(groups.insert(group)),
            (_, Some(group)) => drop(groups.remove(&group)),
            _ => {}
        }
    }
    let groups: Vec<Pid> = groups.into_iter().filter_map(Pid::from_raw).collect();
    for signal in [Signal::TERM, Signal::KILL] {
        if wait(&groups) {
            break;
        }
        for group in &groups {
            // Fails when the group has left meanwhile.
            let _gone = kill_process_group(*group, signal);
        }
    }
    let gone = || prefix.as_deref().is_none_or(orphans::kill_marked);
    let _held_by_the_kernel = wait_until(gone);
    outcome
}

/// Waits for all groups to leave; true when they have.
fn wait(groups: &[Pid]) -> bool {
    let is_gone = |group: &Pid| test_kill_process_group(*group).is_err();
    wait_until(|| groups.iter().all(is_gone))
}

fn wait_until(gone: impl Fn() -> bool) -> bool {
    // No event tells that a group which is not made of our children has ended.
    let step = Duration::from_millis(50);
    for _ in 0..GRACE.as_millis() / step.as_millis() {
        if gone() {
            return true;
        }
        std::thread::sleep(step);
    }
    false
}
