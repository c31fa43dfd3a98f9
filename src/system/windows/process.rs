//! Processes that we start, each in a job object: closing the last handle to it, which the system does
//! too when we end, kills the process and all that it has started.

use std::io;
use tokio::process::{Child, Command};
use win32job::{Job, JobError};

/// The shell that runs a line of a user's: its name and the flag before the line.
pub const SHELL: [&str; 2] = ["cmd", "/C"];

/// The job of a process that we have started.
#[derive(Debug)]
pub struct Group(Option<Job>);

impl Group {
    /// Starts a process in a job of its own. What it has started before it was in the job, within the
    /// first moment, is not.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(command: &mut Command) -> io::Result<(Child, Self)> {
        let job = job().map_err(io::Error::other)?;
        let process = command.spawn()?;
        if let Some(handle) = process.raw_handle() {
            let assigned = job.assign_process(handle as isize);
            assigned.map_err(io::Error::other)?;
        }
        Ok((process, Self(Some(job))))
    }

    /// Kills the processes of the job.
    pub fn kill(&mut self) {
        self.0 = None;
    }
}

fn job() -> Result<Job, JobError> {
    let job = Job::create()?;
    let mut limits = job.query_extended_limit_info()?;
    limits.limit_kill_on_job_close();
    job.set_extended_limit_info(&limits)?;
    Ok(job)
}

/// An MCP server, and all that descends from it.
#[derive(Debug)]
pub struct Tree(Group);

impl Tree {
    /// Starts an MCP server.
    ///
    /// # Errors
    /// What the system says, for instance that there is no such program.
    pub fn start(command: &mut Command) -> io::Result<(Child, Self)> {
        let (process, group) = Group::start(command)?;
        Ok((process, Self(group)))
    }

    /// Windows has no signal that asks a process without a window to end; the end of its stdin has asked.
    pub fn ask(&self) {}

    /// Kills the process and all that it has started.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Kills what is left.
    pub fn end(&mut self) {
        self.0.kill();
    }
}
