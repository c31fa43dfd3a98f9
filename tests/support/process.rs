//! Running programs: [`Process`] does not outlive its test, [`Log`] is its stderr.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A hang is a failure, not a wait.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The binary, unaffected by the environment of the user who runs the tests.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-remote"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("MCP_REMOTE_") || matches!(&*name, "RUST_LOG" | "DEBUG") {
            command.env_remove(&*name);
        }
    }
    command
}

/// Waits until `condition` returns a value.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// True while a process with this id runs; a zombie does not count.
pub fn is_alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// A value of a process in /proc, such as `VmRSS` or `VmHWM`, in KiB.
pub fn memory(pid: u64, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(found, _)| *found == name).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Kills a process at once.
pub fn kill(pid: u64) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

/// Waits until a process has exited and been reaped.
pub fn wait_reaped(pid: u64) {
    let stat = format!("/proc/{pid}/stat");
    let gone = || (!std::path::Path::new(&stat).exists()).then_some(());
    eventually(&format!("process {pid} is reaped"), gone);
}

pub fn wait_gone(pid: u64) {
    eventually(&format!("process {pid} ends"), || {
        (!is_alive(pid)).then_some(())
    });
}

/// What a thread has read from a stream so far, so that waiting for more has a timeout.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<Seen>, Condvar)>);

#[derive(Default)]
struct Seen {
    text: String,
    ended: bool,
}

impl Log {
    fn read(stream: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let shared = log.clone();
        thread::spawn(move || {
            let mut lines = BufReader::new(stream);
            let mut line = Vec::new();
            let mut ended = false;
            while !ended {
                ended = !lines
                    .read_until(b'\n', &mut line)
                    .is_ok_and(|read| read > 0);
                let (seen, changed) = &*shared.0;
                let mut seen = seen.lock().unwrap();
                seen.text.push_str(&String::from_utf8_lossy(&line));
                seen.ended = ended;
                changed.notify_all();
                line.clear();
            }
        });
        log
    }

    fn wait_while(&self, mut wanting: impl FnMut(&Seen) -> bool) -> String {
        let (seen, changed) = &*self.0;
        let seen = seen.lock().unwrap();
        let waited = changed.wait_timeout_while(seen, PATIENCE, |seen| wanting(seen));
        waited.unwrap().0.text.clone()
    }

    /// All of it, so far.
    pub fn text(&self) -> String {
        self.wait_while(|_| false)
    }

    /// All of it, once the stream has ended.
    pub fn to_the_end(&self) -> String {
        self.wait_while(|seen| !seen.ended)
    }

    /// The first line that contains `part`, once it is there.
    pub fn wait_for(&self, part: &str) -> String {
        let find = |text: &str| {
            text.lines()
                .find(|line| line.contains(part))
                .map(str::to_owned)
        };
        let text = self.wait_while(|seen| !seen.ended && find(&seen.text).is_none());
        find(&text).unwrap_or_else(|| panic!("no {part:?} in the log:\n{text}"))
    }

    /// Waits until `part` occurs this many times, which must not be exceeded. A program's log lines
    /// may come after its responses.
    pub fn wait_for_times(&self, part: &str, times: usize) {
        let text = self.wait_while(|seen| !seen.ended && seen.text.matches(part).count() < times);
        assert_eq!(text.matches(part).count(), times, "{part:?} in:\n{text}");
    }
}

/// The output of a program that has exited.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Fails with one line that starts with `error: ` and contains `says`; bad usage may add an
/// explanation, but nothing goes to stdout.
pub fn assert_fails(outcome: &Outcome, code: i32, says: &str) {
    let errors: Vec<&str> = outcome
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{outcome:?}");
    assert_eq!(
        (outcome.code, outcome.stdout.as_str()),
        (Some(code), ""),
        "{outcome:?}"
    );
    assert!(
        outcome.stderr.contains(says),
        "{says:?} is not in {outcome:?}"
    );
    if code == 1 {
        assert_eq!(outcome.stderr.lines().last(), Some(errors[0]));
    }
}

/// Runs a command with this stdin until it exits.
pub fn run(command: &mut Command, stdin: &[u8]) -> Outcome {
    command.stdin(Stdio::piped());
    let mut process = Process::spawn(command);
    let stdout = process.child.stdout.take().unwrap();
    let (sender, stdout_text) = channel();
    thread::spawn(move || sender.send(std::io::read_to_string(stdout).unwrap()));
    let mut input = Stdin::of(&mut process);
    // A program that exits without reading does not fail the test.
    let _unread = input.write_all(stdin);
    drop(input);
    let status = process.wait();
    Outcome {
        code: status.code(),
        stdout: stdout_text.recv_timeout(PATIENCE).unwrap(),
        stderr: process.stderr.to_the_end(),
    }
}

/// A running program. Dropping it ends it; in a failing test its stderr is shown.
pub struct Process {
    pub child: Child,
    pub stderr: Log,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = Log::read(child.stderr.take().unwrap());
        Self { child, stderr }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the program ends", || child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Two signals end a server at once, including its child.
            self.signal(Signal::TERM);
            self.signal(Signal::INT);
            let deadline = Instant::now() + Duration::from_secs(5);
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(2));
            }
            let _ended = self.child.kill();
            let _ended = self.child.wait();
        }
        if thread::panicking() {
            let lines = self.stderr.text();
            let lines: Vec<&str> = lines.lines().collect();
            let last = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("--- stderr of {}\n{last}\n---", self.child.id());
        }
    }
}

/// The stdin of a program. A program that does not read fails the test, which would otherwise block forever in a write.
pub struct Stdin(ChildStdin);

impl Stdin {
    pub fn of(process: &mut Process) -> Self {
        let stdin = process.child.stdin.take().unwrap();
        let flags = fcntl_getfl(&stdin).unwrap();
        fcntl_setfl(&stdin, flags | OFlags::NONBLOCK).unwrap();
        Self(stdin)
    }

    /// Waits until the program has read everything.
    pub fn wait_read(&self) {
        eventually("all of stdin is read", || {
            (rustix::io::ioctl_fionread(&self.0).unwrap() == 0).then_some(())
        });
    }
}

impl Write for Stdin {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(err) if err.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            let patience = Timespec::try_from(PATIENCE).unwrap();
            let ready = poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], Some(&patience))?;
            assert!(ready > 0, "the program does not read its stdin");
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Complete lines of a stream, newlines included; a trailing partial line comes last.
pub fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
            if sender.send(std::mem::take(&mut line)).is_err() {
                return;
            }
        }
    });
    lines
}
