//! Our own stdout: MCP messages and nothing else.

use crate::system::standard::{self, Output};
use crate::transport::outlet::{ChunkQueue, Flush, Outlet, TryWrite};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The most that waits to be written, in bytes; then the server is not read. One line may be longer.
const MAX_UNWRITTEN: usize = 1 << 20;

/// Our stdout. What it does not take at once is written by a task of its own, so that no line is cut
/// off when something else ends.
pub(in crate::client) struct HostOutput {
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

impl TryWrite for Output {
    fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Output::try_write(self, bytes)
    }
}

impl Stdout {
    /// Hands over the parts of one line.
    fn push(&self, parts: &[&Bytes]) {
        // That the host reads no more shows when the next line needs room.
        if !self.closed.load(Ordering::Acquire) {
            let mut queue = self.outlet.lock();
            for part in parts {
                queue.waiting.share(part, part);
            }
            queue.added(parts.iter().map(|part| part.len()).sum());
        }
    }
}

/// Answers the host without the rest of the client.
#[derive(Debug)]
pub(in crate::client) struct Replies(Arc<Stdout>);

impl Replies {
    /// Writes a line, which has its newline.
    pub(super) fn send(&self, line: &Bytes) {
        self.0.push(&[line]);
        self.0.outlet.flush();
    }
}

impl HostOutput {
    /// Our stdout. Within a runtime.
    pub(in crate::client) fn start() -> Self {
        let shared = Arc::new(Stdout {
            outlet: Outlet::new(ChunkQueue::default()),
            progress: Notify::new(),
            closed: AtomicBool::new(false),
        });
        let stdout = Arc::clone(&shared);
        let writer = tokio::spawn(async move {
            let on_progress = || stdout.progress.notify_waiters();
            let failure = stdout.outlet.drive(standard::output(), on_progress).await;
            tracing::debug!(%failure, "could not write to stdout");
            stdout.closed.store(true, Ordering::Release);
            stdout.progress.notify_waiters();
        });
        Self { shared, writer }
    }

    /// Waits until there is room for a line of `bytes`; false when the host reads no more. Cancel
    /// safe.
    pub(in crate::client) async fn room(&self, bytes: usize) -> bool {
        let has_room = |unwritten| unwritten == 0 || unwritten + bytes <= MAX_UNWRITTEN;
        self.wait_until(has_room).await
    }

    /// Completes when the host reads no more. Cancel safe.
    pub(in crate::client) async fn closed(&self) {
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
    pub(in crate::client) fn push(&self, line: &Bytes) {
        self.shared.push(&[line, &Bytes::from_static(b"\n")]);
    }

    /// A way to answer what cannot even be read.
    pub(in crate::client) fn replies(&self) -> Replies {
        Replies(Arc::clone(&self.shared))
    }

    /// Waits until everything is written, or the host reads no more.
    pub(in crate::client) async fn finish(self) {
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
