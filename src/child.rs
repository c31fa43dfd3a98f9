//! The MCP server process: spawn, feed, read, stop. No routing.

use crate::system::pipe::enlarge;
use crate::system::process::Tree;
use crate::system::reaper;
use crate::system::supervisor;
use crate::transport::line::{LineError, LineReader};
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

/// The size of the pipe from a process that many peers share, in bytes: large messages are carried in
/// fewer turns. What every user may ask for (pipe(7)). The one to it keeps its size: what one peer has
/// put there stands before what all others say.
const PIPE: usize = 1 << 20;

/// How long a killed process is waited for where its handle is just dropped.
const REAP: Duration = Duration::from_millis(100);

/// The longest line of the child's stderr that is passed on in one piece, in bytes.
const MAX_STDERR_LINE: usize = 8 * 1024;

/// How long the last words on stderr may take to arrive once the process is gone; a grandchild
/// may hold the pipe open for ever.
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
    /// Variables that are set in its environment, beside those of our own.
    pub variables: Vec<(String, Secret)>,
}

impl std::fmt::Display for CommandLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.program.to_string_lossy().fmt(f)
    }
}

impl CommandLine {
    /// A program and its arguments; `None` where there are no words.
    #[must_use]
    pub fn of(words: Vec<std::ffi::OsString>) -> Option<Self> {
        let mut words = words.into_iter();
        Some(Self {
            program: words.next()?,
            arguments: words.collect(),
            variables: Vec::new(),
        })
    }

    /// Looks for the program where the system will look when it starts it, so that a typing error
    /// is told before anybody connects.
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
            // The system has a path of its own where there is none.
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
    last_words: Arc<Mutex<Option<String>>>,
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
    /// Starts the command. Lines of its stdout are bounded by `limit` bytes. `many` says that others
    /// like it run at the same time. What is ours in the environment, secrets among them, is not passed on.
    ///
    /// # Errors
    /// What the system says, for instance that there is no such program.
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
        let last_words = Arc::default();
        let stderr = tokio::spawn(pass_on(stderr, Arc::clone(&last_words)));
        Ok((
            Self {
                process,
                tree,
                stderr,
                last_words,
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
    /// What the system says.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Waits for the process, whose stdin has been closed, to leave by itself; asks, then forces.
    ///
    /// # Errors
    /// What the system says.
    pub async fn stop(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.leave().await {
            return status;
        }
        self.terminate().await
    }

    /// Waits a little for the process to leave by itself. Cancel safe.
    pub async fn leave(&mut self) -> Option<io::Result<ExitStatus>> {
        let left = tokio::time::timeout(reaper::GRACE, self.process.wait());
        left.await.ok()
    }

    /// Ends a process that does not do its work: asks once, then forces.
    ///
    /// # Errors
    /// What the system says.
    pub async fn terminate(&mut self) -> io::Result<ExitStatus> {
        self.tree.ask();
        if let Some(status) = self.leave().await {
            return status;
        }
        self.tree.kill();
        self.process.wait().await
    }

    /// Kills what the process has left behind, and tells its last line on stderr.
    pub async fn reap(mut self) -> Option<String> {
        self.tree.end();
        if tokio::time::timeout(STDERR_GRACE, &mut self.stderr)
            .await
            .is_err()
        {
            self.stderr.abort();
        }
        lock(&self.last_words).take()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.tree.end();
        self.stderr.abort();
        // When we end next, not every container has somebody who reaps what we leave.
        let deadline = Instant::now() + REAP;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Turns the child's stderr into log lines, however fast it writes, and remembers the last.
async fn pass_on(stderr: tokio::process::ChildStderr, last_words: Arc<Mutex<Option<String>>>) {
    let mut lines = LineReader::new(stderr, MAX_STDERR_LINE);
    loop {
        match lines.next().await {
            Ok(Some(line)) => report(&line, &last_words),
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
        report(&rest, &last_words);
    }
}

fn report(line: &Bytes, last_words: &Mutex<Option<String>>) {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    tracing::info!(target: "child", "{text}");
    if !text.is_empty() {
        *lock(last_words) = Some(text.to_owned());
    }
}
