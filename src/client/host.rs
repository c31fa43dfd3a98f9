//! Our own stdin and stdout, which are the host's side of the wire.

use super::Lines;
use crate::replay::LINE_COST;
use crate::transport::line::{LineError, LineReader};
use crate::transport::stdio;
use bytes::{BufMut, Bytes, BytesMut};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

/// The most that waits to be sent, in bytes; then the host is not read.
const MAX_QUEUED: usize = 64 << 20;

/// The longest line from the host, in bytes. The server has its own, smaller limit.
const MAX_HOST_LINE: usize = MAX_QUEUED;

/// The most lines that are sent at once.
const MAX_BATCH: usize = 64;

/// The most bytes that are sent at once; one line may be longer.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// The most that waits to be written to stdout, in bytes; then the server is not read. One line
/// may be longer.
const MAX_UNWRITTEN: usize = 1 << 20;

/// Lines are gathered up to this size before they are written.
const MAX_GATHERED: usize = 64 * 1024;

/// A clock that runs ahead of the timers by so much tells that the machine was asleep.
const ASLEEP: Duration = Duration::from_secs(10);

/// How often to look whether our parent is still there.
const PARENT_CHECK: Duration = Duration::from_secs(1);

/// Lines of the host, read ahead while there is no connection.
pub(super) struct HostInput {
    queue: mpsc::UnboundedReceiver<(Bytes, OwnedSemaphorePermit)>,
    /// Taken from the queue, not yet sent.
    peeked: Option<Bytes>,
    ended: bool,
    reader: JoinHandle<()>,
}

impl HostInput {
    /// Starts to read stdin.
    pub(super) fn start() -> Self {
        // Unbounded in lines, but each holds a part of MAX_QUEUED.
        let (sender, queue) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read(sender));
        Self {
            queue,
            peeked: None,
            ended: false,
            reader,
        }
    }

    /// Lines with their newlines, waiting for the first; `None` when stdin has ended. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Lines> {
        let first = match self.peeked.take() {
            Some(line) => line,
            None => self.queue.recv().await?.0,
        };
        let mut lines = vec![first];
        let mut bytes = lines.iter().map(Bytes::len).sum::<usize>();
        // What stays here counts towards the bound on what waits.
        while lines.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            let Ok((line, _)) = self.queue.try_recv() else {
                break;
            };
            bytes += line.len();
            lines.push(line);
        }
        Some(lines)
    }

    /// A line that waits, without its newline.
    pub(super) fn try_next(&mut self) -> Option<Bytes> {
        let line = self
            .peeked
            .take()
            .or_else(|| self.queue.try_recv().ok().map(|(line, _)| line))?;
        Some(line.slice(..line.len().saturating_sub(1)))
    }

    /// Completes when the host has said something, or stdin has ended. Cancel safe.
    pub(super) async fn stirs(&mut self) {
        if !self.ended && self.peeked.is_none() {
            match self.queue.recv().await {
                Some((line, _)) => self.peeked = Some(line),
                None => self.ended = true,
            }
        }
    }

    /// True when stdin is known to have ended, and nothing waits to be sent.
    pub(super) fn has_left(&self) -> bool {
        self.ended && self.peeked.is_none()
    }

    /// Completes when stdin has ended and nothing waits to be sent. Cancel safe.
    pub(super) async fn abandoned(&mut self) {
        self.stirs().await;
        if self.peeked.is_some() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for HostInput {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(sender: mpsc::UnboundedSender<(Bytes, OwnedSemaphorePermit)>) {
    let room = Arc::new(Semaphore::new(MAX_QUEUED));
    let mut lines = LineReader::new(stdio::input(), MAX_HOST_LINE);
    loop {
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(LineError::TooLong { limit }) => {
                tracing::error!(limit, "dropped a message of the host that is too long");
                continue;
            }
            Err(err) => {
                tracing::error!(%err, "could not read stdin");
                return;
            }
        };
        if !queue(&sender, &room, &line).await {
            return;
        }
    }
    // `printf '{…}' | mcp-remote client …` has no newline at its end, and means it.
    let rest = lines.rest();
    if !rest.is_empty() {
        queue(&sender, &room, &rest).await;
    }
}

async fn queue(
    sender: &mpsc::UnboundedSender<(Bytes, OwnedSemaphorePermit)>,
    room: &Arc<Semaphore>,
    line: &Bytes,
) -> bool {
    if line.iter().all(u8::is_ascii_whitespace) {
        return true;
    }
    let mut with_end = BytesMut::with_capacity(line.len() + 1);
    with_end.put_slice(line);
    with_end.put_u8(b'\n');
    let size = (with_end.len() + LINE_COST).min(MAX_QUEUED);
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    match Arc::clone(room).acquire_many_owned(size).await {
        Ok(permit) => sender.send((with_end.freeze(), permit)).is_ok(),
        Err(_) => false,
    }
}

/// stdout: MCP messages and nothing else. A task of its own writes it, so that no line is cut off
/// because something else happens meanwhile.
pub(super) struct HostOutput {
    queue: mpsc::UnboundedSender<(Bytes, Option<OwnedSemaphorePermit>)>,
    room: Arc<Semaphore>,
    writer: JoinHandle<()>,
}

impl HostOutput {
    pub(super) fn start() -> Self {
        // Unbounded in lines, but each holds a part of MAX_UNWRITTEN, the few errors that the
        // client makes itself excepted.
        let (queue, lines) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(MAX_UNWRITTEN));
        let writer = tokio::spawn(write(lines, Arc::clone(&room)));
        Self {
            queue,
            room,
            writer,
        }
    }

    /// Waits until there is room for a line of `bytes`; `None` when the host reads no more.
    pub(super) async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let share = (bytes + LINE_COST).min(MAX_UNWRITTEN);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        Arc::clone(&self.room).acquire_many_owned(share).await.ok()
    }

    /// Completes when the host reads no more. Cancel safe.
    pub(super) async fn closed(&self) {
        self.queue.closed().await;
    }

    /// Hands over a line without its newline.
    pub(super) fn push(&self, line: Bytes, room: Option<OwnedSemaphorePermit>) {
        // A host that has hung up is noticed by whoever asks for room.
        let _hung_up = self.queue.send((line, room));
    }

    /// Waits until everything is written.
    pub(super) async fn finish(self) {
        drop(self.queue);
        let _panicked = self.writer.await;
    }
}

async fn write(
    mut lines: mpsc::UnboundedReceiver<(Bytes, Option<OwnedSemaphorePermit>)>,
    room: Arc<Semaphore>,
) {
    let mut stdout = stdio::output();
    let mut gathered = Vec::new();
    while let Some((line, _share)) = lines.recv().await {
        gathered.clear();
        gathered.extend_from_slice(&line);
        gathered.push(b'\n');
        let mut shares = Vec::new();
        while gathered.len() < MAX_GATHERED {
            let Ok((line, share)) = lines.try_recv() else {
                break;
            };
            gathered.extend_from_slice(&line);
            gathered.push(b'\n');
            shares.push(share);
        }
        let written = stdout.write_all(&gathered).await;
        if written.is_err() || stdout.flush().await.is_err() {
            room.close();
            return;
        }
        gathered.shrink_to(MAX_GATHERED);
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
