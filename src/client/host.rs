//! Our own stdin and stdout, which are the host's side of the wire.

use super::Lines;
use crate::replay::cost;
use crate::transport::line::{LineError, LineReader};
use crate::transport::outlet::{ChunkQueue, Flush, Outlet};
use crate::transport::stdio::{self, Input, Output};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
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
    shared: Arc<Stdout>,
    writer: JoinHandle<()>,
}

#[derive(Debug)]
struct Stdout {
    outlet: Outlet<Output, ChunkQueue>,
    /// Something has been written, or the host reads no more.
    progress: Notify,
    /// The host reads no more.
    closed: AtomicBool,
}

impl HostOutput {
    /// Our stdout. Within a runtime.
    pub(super) fn start() -> Self {
        let shared = Arc::new(Stdout {
            outlet: Outlet::new(ChunkQueue::default()),
            progress: Notify::new(),
            closed: AtomicBool::new(false),
        });
        let stdout = Arc::clone(&shared);
        let writer = tokio::spawn(async move {
            let failure = stdout.outlet.drive(stdio::output(), &stdout.progress).await;
            tracing::debug!(%failure, "the host does not read our stdout any more");
            stdout.closed.store(true, Ordering::Release);
            stdout.progress.notify_waiters();
        });
        Self { shared, writer }
    }

    /// Waits until there is room for a line of `bytes`; false when the host reads no more. Cancel
    /// safe.
    pub(super) async fn room(&self, bytes: usize) -> bool {
        let has_room = |unwritten| unwritten == 0 || unwritten + bytes <= MAX_UNWRITTEN;
        self.wait_until(has_room).await
    }

    /// Completes when the host reads no more. Cancel safe.
    pub(super) async fn closed(&self) {
        self.wait_until(|_| false).await;
    }

    /// Waits until so much is written that what is left meets the condition; false when the host reads
    /// no more.
    async fn wait_until(&self, condition: impl Fn(usize) -> bool) -> bool {
        let check = || {
            if self.shared.closed.load(Ordering::Acquire) {
                return Some(false);
            }
            condition(self.shared.outlet.lock().unwritten()).then_some(true)
        };
        loop {
            if let Some(answer) = check() {
                return answer;
            }
            self.flush();
            // Before the second look: what is written after that is not missed.
            let progress = self.shared.progress.notified();
            if let Some(answer) = check() {
                return answer;
            }
            progress.await;
        }
    }

    /// Hands over a line without its newline, which is written with the next flush or earlier.
    pub(super) fn push(&self, line: &Bytes) {
        // A host that has hung up is noticed by whoever asks for room.
        if !self.shared.closed.load(Ordering::Acquire) {
            let mut queue = self.shared.outlet.lock();
            queue.waiting.share(line, line);
            queue.waiting.extend(b"\n");
            queue.added(line.len() + 1);
        }
    }

    /// Waits until everything is written, or the host reads no more.
    pub(super) async fn finish(self) {
        self.wait_until(|unwritten| unwritten == 0).await;
        self.writer.abort();
        let _aborted = self.writer.await;
    }
}

impl Flush for HostOutput {
    fn flush(&self) {
        self.shared.outlet.flush();
    }
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
