//! Processes under test: starting them, their cost, stopping them.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process that dies with its handle.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may already have exited.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Process {
    /// Starts a server and waits for the line that ends with its port.
    pub fn serve(command: &mut Command) -> io::Result<(Self, u16)> {
        let mut process = Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()?,
        );
        let stdout = process.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let port = line
            .trim()
            .rsplit(' ')
            .next()
            .and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| io::Error::other("the server did not say its port"))?;
        Ok((process, port))
    }

    /// The CPU time of all its threads.
    pub fn cpu(&self) -> io::Result<Duration> {
        cpu(self.0.id())
    }

    /// The same, including its child processes.
    pub fn cpu_with_children(&self) -> io::Result<Duration> {
        let mut spent = self.cpu()?;
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let children = fs::read_to_string(task?.path().join("children"))?;
            for child in children.split_ascii_whitespace() {
                spent += cpu(child.parse().map_err(io::Error::other)?)?;
            }
        }
        Ok(spent)
    }

    /// Its current memory, in bytes.
    pub fn resident(&self) -> io::Result<u64> {
        self.status("VmRSS:")
    }

    /// Its peak memory, in bytes.
    pub fn peak(&self) -> io::Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = value.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
        let kibibytes: u64 = kibibytes.ok_or(io::ErrorKind::InvalidData)?;
        Ok(kibibytes * 1024)
    }

    /// Resets [`Process::peak`].
    pub fn reset_peak(&self) -> io::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.0.id()), "5")
    }
}

fn cpu(process: u32) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let spent = text.split(' ').next().and_then(|word| word.parse().ok());
        nanoseconds += spent.unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}
