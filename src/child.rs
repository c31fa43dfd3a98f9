//! The MCP server process: spawn, feed, read, stop. No routing.

use crate::system::pipe::enlarge;
use crate::system::process::Tree;
use crate::system::reaper;
use crate::system::supervisor;
use crate::transport::line::{LineError, LineReader};
use crate::utils::last_lines::LastLines;
use crate::utils::lock::lock;
use crate::utils::secret::Secret;
use bytes::Bytes;
use std::env::consts::EXE_SUFFIX;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

/// The size of the pipe from a process that many peers share, in bytes: large messages are carried in fewer
/// turns. An unprivileged process may ask for this much (pipe(7)). The pipe to it keeps its size, because
/// what one peer has put there delays all others.
const PIPE: usize = 1 << 20;

/// How long to wait for a killed process when its handle is dropped.
const REAP: Duration = Duration::from_millis(100);

/// The longest line of the child's stderr that is passed on in one piece, in bytes.
const MAX_STDERR_LINE: usize = 8 * 1024;

/// How long to wait for the last lines on stderr after the process has exited; a grandchild may
/// hold the pipe open forever.
const STDERR_GRACE: Duration = Duration::from_millis(100);

/// ENOENT, and ERROR_FILE_NOT_FOUND.
const NO_SUCH_FILE: i32 = 2;

/// The command behind `--`.
#[derive(Clone, Debug)]
pub struct CommandLine {
    /// The program.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables that are set in its environment in addition to ours.
    pub variables: Vec<(String, Secret)>,
}

impl std::fmt::Display for CommandLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.program.to_string_lossy().fmt(f)
    }
}

impl CommandLine {
    /// A program and its arguments; `None` for an empty command line.
    #[must_use]
    pub fn of(words: Vec<std::ffi::OsString>) -> Option<Self> {
        let mut words = words.into_iter();
        Some(Self {
            program: words.next()?,
            arguments: words.collect(),
            variables: Vec::new(),
        })
    }

    /// What to do where [`CommandLine::find`] finds nothing.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        let words = self
            .program
            .to_str()
            .and_then(|typed| typed.split_once(' '));
        let alone = words.and_then(|(first, _)| Self::of(vec![first.into()]));
        if self.arguments.is_empty() && alone.is_some_and(|alone| alone.find().is_ok()) {
            "the command and its arguments are one word here; remove the quotes around them"
        } else {
            "check the command after '--'"
        }
    }

    /// Looks for the program where the system will look when it starts it, so that a typo is
    /// reported before any peer connects.
    ///
    /// # Errors
    /// That there is no such file.
    pub fn find(&self) -> io::Result<()> {
        let program = Path::new(&self.program);
        let exists = |path: PathBuf| {
            let mut full = path.clone().into_os_string();
            full.push(EXE_SUFFIX);
            path.exists() || Path::new(&full).exists()
        };
        let found = match std::env::var_os("PATH") {
            Some(path) if program.parent() == Some(Path::new("")) => {
                std::env::split_paths(&path).any(|folder| exists(folder.join(program)))
            }
            // Without a PATH, the system uses a default.
            None if program.parent() == Some(Path::new("")) => true,
            _ => exists(program.to_owned()),
        };
        if found {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(NO_SUCH_FILE))
        }
    }
}

/// A running MCP server. Dropping it kills it and what it has started.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    tree: Tree,
    stderr: JoinHandle<()>,
    last_lines: Arc<Mutex<LastLines>>,
}

/// The pipes to a child.
#[derive(Debug)]
pub struct Pipes {
    /// Takes lines.
    pub stdin: ChildStdin,
    /// Gives lines.
    pub stdout: LineReader<ChildStdout>,
}

impl Child {
    /// Starts the command. Lines of its stdout are bounded by `limit` bytes. `many` says that others like it
    /// run at the same time. Our own environment variables, secrets among them, are not passed on.
    ///
    /// # Errors
    /// The system's error, for instance that there is no such program.
    pub fn spawn(command: &CommandLine, limit: usize, many: bool) -> io::Result<(Self, Pipes)> {
        let mut builder = Command::new(&command.program);
        builder
            .args(&command.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("MCP_REMOTE_") || supervisor::VARIABLES.contains(&&*text) {
                builder.env_remove(name);
            }
        }
        for (name, value) in &command.variables {
            builder.env(name, value.expose());
        }
        let (mut process, tree) = Tree::start(&mut builder)?;
        let missing = || io::Error::other("a pipe of the process is missing");
        let stdin = process.stdin.take().ok_or_else(missing)?;
        let stdout = process.stdout.take().ok_or_else(missing)?;
        if !many {
            enlarge(&stdout, PIPE);
        }
        let stdout = LineReader::new(stdout, limit);
        let stderr = process.stderr.take().ok_or_else(missing)?;
        let last_lines = Arc::default();
        let stderr = tokio::spawn(pass_on(stderr, Arc::clone(&last_lines)));
        Ok((
            Self {
                process,
                tree,
                stderr,
                last_lines,
            },
            Pipes { stdin, stdout },
        ))
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Waits for the process to end. Cancel safe.
    ///
    /// # Errors
    /// The system's error.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Waits for the process, whose stdin has been closed, to exit; asks, then forces.
    ///
    /// # Errors
    /// The system's error.
    pub async fn stop(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.leave().await {
            return status;
        }
        self.terminate().await
    }

    /// Waits briefly for the process to exit. Cancel safe.
    pub async fn leave(&mut self) -> Option<io::Result<ExitStatus>> {
        let left = tokio::time::timeout(reaper::GRACE, self.process.wait());
        left.await.ok()
    }

    /// Ends a process that does not respond: asks once, then forces.
    ///
    /// # Errors
    /// The system's error.
    pub async fn terminate(&mut self) -> io::Result<ExitStatus> {
        self.tree.ask();
        if let Some(status) = self.leave().await {
            return status;
        }
        self.tree.kill();
        self.process.wait().await
    }

    /// Kills what the process has left behind, and returns its last lines on stderr.
    pub async fn reap(mut self) -> Option<String> {
        self.tree.end();
        if tokio::time::timeout(STDERR_GRACE, &mut self.stderr)
            .await
            .is_err()
        {
            self.stderr.abort();
        }
        lock(&self.last_lines).text()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.tree.end();
        self.stderr.abort();
        // If we exit next, not every container has an init that reaps what we leave. A drop cannot await.
        let deadline = Instant::now() + REAP;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Logs the child's stderr, however fast it writes, and keeps the last lines.
async fn pass_on(stderr: tokio::process::ChildStderr, last_lines: Arc<Mutex<LastLines>>) {
    let mut lines = LineReader::new(stderr, MAX_STDERR_LINE);
    loop {
        match lines.next().await {
            Ok(Some(line)) => report(&line, &last_lines),
            Ok(None) => break,
            Err(LineError::TooLong { .. }) => tracing::info!(target: "child", "(a very long line)"),
            Err(err) => {
                tracing::debug!(%err, "could not read the MCP server's stderr");
                break;
            }
        }
    }
    let rest = lines.rest();
    if !rest.is_empty() {
        report(&rest, &last_lines);
    }
}

fn report(line: &Bytes, last_lines: &Mutex<LastLines>) {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    tracing::info!(target: "child", "{text}");
    lock(last_lines).push(text);
}
