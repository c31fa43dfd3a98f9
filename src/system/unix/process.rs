//! Processes that we start, each in a process group of its own.

use super::descriptors;
use super::orphans::Descendants;
use super::reaper;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use tokio::process::{Child, Command};

/// The shell that runs a line of a user's: its name and the flag before the line.
pub const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// The group of a process that we have started.
#[derive(Debug)]
pub struct Group(Option<Pid>);

impl Group {
    /// Starts a process in a group of its own.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(command: &mut Command) -> io::Result<(Child, Self)> {
        let process = command.process_group(0).spawn()?;
        let group = Self(pid(&process));
        Ok((process, group))
    }

    /// Kills the group, whose leader must not have been waited for: its number may then be reused.
    pub fn kill(&mut self) {
        signal(self.0, Signal::KILL);
    }
}

/// An MCP server, and all that descends from it.
#[derive(Debug)]
pub struct Tree {
    group: Option<Pid>,
    descendants: Descendants,
}

impl Tree {
    /// Starts an MCP server, with the reserve of descriptors if need be.
    ///
    /// # Errors
    /// What the system says, for instance that there is no such program.
    pub fn start(command: &mut Command) -> io::Result<(Child, Self)> {
        command.process_group(0);
        let (process, descendants) = Descendants::start(
            |variable| {
                command.env(variable, "");
                descriptors::start(|| command.spawn(), pid)
            },
            pid,
        )?;
        let group = pid(&process);
        if let Some(group) = group {
            reaper::watch(group);
        }
        Ok((process, Self { group, descendants }))
    }

    /// Asks the process and its group to end.
    pub fn ask(&self) {
        signal(self.group, Signal::TERM);
    }

    /// Kills the process and its group.
    pub fn kill(&mut self) {
        signal(self.group, Signal::KILL);
    }

    /// Kills what is left in the group, once: its number may soon be reused. Then kills what has left the
    /// group.
    pub fn end(&mut self) {
        self.kill();
        if let Some(group) = self.group.take() {
            reaper::forget(group);
        }
        self.descendants.end();
    }
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // Fails if the group is empty, which is what we want.
        let _gone = kill_process_group(group, signal);
    }
}

fn pid(process: &Child) -> Option<Pid> {
    process.id().and_then(|id| Pid::from_raw(id.cast_signed()))
}
