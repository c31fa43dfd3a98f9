//! Our own stdin and stdout, which are the host's side of the wire.

use super::Lines;
use crate::replay::cost;
use crate::transport::line::{LineError, LineReader};
use crate::transport::stdio::{self, Input, Output};
use crate::utils::rope::Rope;
use crate::utils::signal::Signal;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The most that is read ahead of a connection, in bytes; then the host is not read.
pub(super) const MAX_QUEUED: usize = 64 << 20;

/// The longest line from the host, in bytes. The server has its own, smaller limit.
const MAX_HOST_LINE: usize = MAX_QUEUED;

/// The most lines that are sent at once.
const MAX_BATCH: usize = 64;

/// The most bytes that are sent at once; one line may be longer.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// The most that waits to be written to stdout, in bytes; then the server is not read. One line
/// may be longer.
const MAX_UNWRITTEN: usize = 1 << 20;

/// A clock that runs ahead of the timers by so much tells that the machine was asleep.
const ASLEEP: Duration = Duration::from_secs(10);

/// How often to look whether our parent is still there.
const PARENT_CHECK: Duration = Duration::from_secs(1);

/// Lines of the host. They are read when they are asked for, and ahead of that while there is no
/// connection.
pub(super) struct HostInput {
    stdin: LineReader<Input>,
    /// Read ahead, each with its newline.
    ahead: VecDeque<Bytes>,
    /// What those cost, in bytes.
    cost: usize,
    ended: bool,
}

impl HostInput {
    /// Our stdin. Within a runtime.
    pub(super) fn start() -> Self {
        Self {
            stdin: LineReader::new(stdio::input(), MAX_HOST_LINE).with_ends(),
            ahead: VecDeque::new(),
            cost: 0,
            ended: false,
        }
    }

    /// Lines with their newlines, waiting for the first; `None` when stdin has ended. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Lines> {
        let first = match self.take() {
            Some(line) => line,
            None => self.read().await?,
        };
        let mut bytes = first.len();
        let mut lines = vec![first];
        while lines.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            let Some(line) = self.try_next() else { break };
            bytes += line.len();
            lines.push(line);
        }
        Some(lines)
    }

    /// A line with its newline that has arrived.
    pub(super) fn try_next(&mut self) -> Option<Bytes> {
        if let Some(line) = self.take() {
            return Some(line);
        }
        while let Some(read) = self.stdin.buffered() {
            if let Some(line) = whole(read) {
                return Some(line);
            }
        }
        None
    }

    fn take(&mut self) -> Option<Bytes> {
        let line = self.ahead.pop_front()?;
        self.cost -= cost(&line);
        Some(line)
    }

    /// The next line of stdin. Cancel safe.
    async fn read(&mut self) -> Option<Bytes> {
        while !self.ended {
            let read = match self.stdin.next().await {
                Ok(Some(line)) => Ok(line),
                Ok(None) => {
                    self.ended = true;
                    // `printf '{…}' | mcp-remote client …` has no newline at its end, and means it.
                    let rest = self.stdin.rest();
                    Ok([&rest, &b"\n"[..]].concat().into())
                }
                Err(LineError::Io(err)) => {
                    tracing::error!(%err, "could not read stdin");
                    self.ended = true;
                    break;
                }
                Err(err) => Err(err),
            };
            if let Some(line) = whole(read) {
                return Some(line);
            }
        }
        None
    }

    /// Reads a line ahead.
    async fn read_ahead(&mut self) {
        if let Some(line) = self.read().await {
            self.cost += cost(&line);
            self.ahead.push_back(line);
        }
    }

    /// Completes when the host has said something, or stdin has ended. Cancel safe.
    pub(super) async fn stirs(&mut self) {
        if self.ahead.is_empty() {
            self.read_ahead().await;
        }
    }

    /// True when stdin is known to have ended, and nothing waits to be sent.
    pub(super) fn has_left(&self) -> bool {
        self.ended && self.ahead.is_empty()
    }

    /// Completes when stdin has ended and nothing waits to be sent; reads ahead meanwhile. Cancel safe.
    pub(super) async fn abandoned(&mut self) {
        while !self.ended && self.cost < MAX_QUEUED {
            self.read_ahead().await;
        }
        if !self.has_left() {
            std::future::pending::<()>().await;
        }
    }
}

/// A line that is worth to be sent.
fn whole(read: Result<Bytes, LineError>) -> Option<Bytes> {
    match read {
        Ok(line) => (!line.iter().all(u8::is_ascii_whitespace)).then_some(line),
        Err(err) => {
            tracing::error!(%err, "dropped a message of the host");
            None
        }
    }
}

/// stdout: MCP messages and nothing else. What it does not take at once is written by a task of its
/// own, so that no line is cut off because something else happens meanwhile.
pub(super) struct HostOutput {
    shared: Arc<Unwritten>,
    writer: JoinHandle<()>,
}

/// What waits to be written to stdout.
#[derive(Default)]
struct Unwritten {
    state: Mutex<Unsaid>,
    /// There is something to do for the task that writes.
    wake: Signal,
    /// Something has been written, or never will be.
    changed: Notify,
}

#[derive(Default)]
struct Unsaid {
    lines: Rope,
    /// So many bytes are being written.
    under_way: usize,
    /// stdout itself, while nothing is being written.
    idle: Option<Output>,
    /// The host reads no more.
    closed: bool,
    /// Nothing more will come.
    finished: bool,
}

impl Unwritten {
    fn lock(&self) -> MutexGuard<'_, Unsaid> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostOutput {
    /// Our stdout. Within a runtime.
    pub(super) fn start() -> Self {
        let shared = Arc::new(Unwritten::default());
        let writer = tokio::spawn(write(stdio::output(), Arc::clone(&shared)));
        Self { shared, writer }
    }

    /// Waits until there is room for a line of `bytes`; false when the host reads no more. Cancel
    /// safe.
    pub(super) async fn room(&self, bytes: usize) -> bool {
        loop {
            if let Some(answer) = self.may_push(bytes) {
                return answer;
            }
            self.flush();
            let changed = self.shared.changed.notified();
            if let Some(answer) = self.may_push(bytes) {
                return answer;
            }
            changed.await;
        }
    }

    fn may_push(&self, bytes: usize) -> Option<bool> {
        let state = self.shared.lock();
        let unwritten = state.lines.len() + state.under_way;
        let room = unwritten == 0 || unwritten + bytes <= MAX_UNWRITTEN;
        if state.closed {
            Some(false)
        } else {
            room.then_some(true)
        }
    }

    /// Completes when the host reads no more. Cancel safe.
    pub(super) async fn closed(&self) {
        loop {
            let changed = self.shared.changed.notified();
            if self.shared.lock().closed {
                return;
            }
            changed.await;
        }
    }

    /// Hands over a line without its newline, which is written with the next [`HostOutput::flush`].
    pub(super) fn push(&self, line: &Bytes) {
        let mut state = self.shared.lock();
        // A host that has hung up is noticed by whoever asks for room.
        if !state.closed {
            state.lines.share(line, line);
            state.lines.extend(b"\n");
        }
    }

    /// Writes what was handed over, at once where stdout takes it.
    pub(super) fn flush(&self) {
        let state = &mut *self.shared.lock();
        if state.lines.is_empty() {
            return;
        }
        if let Some(stdout) = &state.idle
            && let Some(small) = state.lines.only_small()
            && let Ok(written) = stdout.try_write(small)
        {
            small.drain(..written);
        }
        if !state.lines.is_empty() {
            self.shared.wake.raise();
        }
    }

    /// Waits until everything is written.
    pub(super) async fn finish(self) {
        self.shared.lock().finished = true;
        self.shared.wake.raise();
        let _panicked = self.writer.await;
    }
}

/// Writes what stdout did not take at once; meanwhile, lends it to whoever has more.
async fn write(stdout: Output, shared: Arc<Unwritten>) {
    let mut lines = Rope::default();
    shared.lock().idle = Some(stdout);
    loop {
        let taken = {
            let state = &mut *shared.lock();
            if state.lines.is_empty() && state.finished {
                return;
            }
            std::mem::swap(&mut lines, &mut state.lines);
            state.under_way = lines.len();
            if lines.is_empty() {
                None
            } else {
                state.idle.take()
            }
        };
        let Some(mut stdout) = taken else {
            shared.wake.wait().await;
            continue;
        };
        let written = write_all(&mut stdout, &lines).await;
        lines.clear();
        let closed = written.is_err();
        {
            let state = &mut *shared.lock();
            state.under_way = 0;
            state.closed = closed;
            state.idle = (!closed).then_some(stdout);
        }
        shared.changed.notify_waiters();
        if closed {
            return;
        }
    }
}

async fn write_all(stdout: &mut Output, lines: &Rope) -> io::Result<()> {
    for piece in lines.pieces() {
        stdout.write_all(piece).await?;
    }
    stdout.flush().await
}

/// Completes when the process that started us is gone: nobody reads our answers then, even where
/// something else holds our stdin open.
pub(super) async fn parent_gone() {
    let parent = std::os::unix::process::parent_id();
    let mut checks = tokio::time::interval(PARENT_CHECK);
    while std::os::unix::process::parent_id() == parent {
        checks.tick().await;
    }
}

/// Completes when the machine has been asleep: timers do not run then, the `clock` does.
pub(super) async fn slept(clock: impl Fn() -> SystemTime) {
    let mut checks = tokio::time::interval(PARENT_CHECK);
    loop {
        let (timer, begin) = (tokio::time::Instant::now(), clock());
        checks.tick().await;
        checks.tick().await;
        // A clock that was set back says nothing.
        let passed = clock().duration_since(begin).unwrap_or_default();
        if passed > timer.elapsed() + ASLEEP {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    /// When it is noticed that the clock jumps by so many seconds, after 100 s.
    async fn noticed(jump: i64) -> Option<u64> {
        let began = Instant::now();
        let clock = || {
            let passed = began.elapsed();
            let jumped: i64 = if passed.as_secs() < 100 { 0 } else { jump };
            let seconds = (1 << 30) + jumped;
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs()) + passed
        };
        let day = Duration::from_secs(24 * 3600);
        let slept = tokio::time::timeout(day, slept(clock)).await;
        slept.ok().map(|()| began.elapsed().as_secs())
    }

    /// A laptop that is closed for an hour, in virtual time; and clocks that are set.
    #[tokio::test(start_paused = true)]
    async fn a_machine_that_was_asleep_is_known_by_its_clock() {
        let noticed_at = noticed(3600).await.unwrap();
        assert!((100..=103).contains(&noticed_at), "{noticed_at}");
        for set in [5, -5, -3600] {
            assert_eq!(noticed(set).await, None, "a clock was set by {set} s");
        }
    }
}
