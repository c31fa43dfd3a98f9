//! Our own stdin and stdout, which are the host's side of the wire.

use super::Lines;
use crate::transport::line::{LineError, LineReader};
use bytes::{BufMut, Bytes, BytesMut};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, Stdout};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

/// The most that waits to be sent, in bytes; then the host is not read.
const MAX_QUEUED: usize = 64 << 20;

/// The longest line from the host, in bytes. The server has its own, smaller limit.
const MAX_HOST_LINE: usize = MAX_QUEUED;

/// The most lines that are sent at once.
const MAX_BATCH: usize = 64;

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
        while lines.len() < MAX_BATCH {
            let Ok((line, _)) = self.queue.try_recv() else {
                break;
            };
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

    /// Completes when stdin has ended and nothing waits to be sent. Cancel safe.
    pub(super) async fn abandoned(&mut self) {
        if !self.ended && self.peeked.is_none() {
            match self.queue.recv().await {
                Some((line, _)) => self.peeked = Some(line),
                None => self.ended = true,
            }
        }
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
    let mut lines = LineReader::new(tokio::io::stdin(), MAX_HOST_LINE);
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
    let size = u32::try_from(with_end.len().min(MAX_QUEUED)).unwrap_or(u32::MAX);
    match Arc::clone(room).acquire_many_owned(size).await {
        Ok(permit) => sender.send((with_end.freeze(), permit)).is_ok(),
        Err(_) => false,
    }
}

/// stdout: MCP messages and nothing else.
pub(super) struct HostOutput {
    stdout: Stdout,
    line: Vec<u8>,
}

impl HostOutput {
    pub(super) fn new() -> Self {
        Self {
            stdout: tokio::io::stdout(),
            line: Vec::new(),
        }
    }

    /// Writes a line that comes without its newline, and flushes.
    pub(super) async fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.line.clear();
        self.line.extend_from_slice(line);
        self.line.push(b'\n');
        self.stdout.write_all(&self.line).await?;
        self.stdout.flush().await
    }

    /// Writes a line that has its newline.
    pub(super) async fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.stdout.write_all(line).await
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush().await
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
