//! Our own stdout: MCP messages and nothing else.

use crate::system::standard::{self, Output};
use crate::transport::outlet::{ChunkQueue, Flush, Outlet, TryWrite};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The most that may wait to be written, in bytes; beyond that the server is not read. One line may
/// be longer.
const MAX_UNWRITTEN: usize = 1 << 20;

/// Our stdout. What would block is written by a separate task, so that no line is cut off when
/// another one ends.
pub(in crate::client) struct HostOutput {
    shared: Arc<Stdout>,
    writer: JoinHandle<()>,
}

#[derive(Debug)]
struct Stdout {
    outlet: Outlet<Output, ChunkQueue>,
    /// Something has been written, or the host has closed our stdout.
    progress: Notify,
    /// The host has closed our stdout.
    closed: AtomicBool,
}

impl TryWrite for Output {
    fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Output::try_write(self, bytes)
    }
}

impl Stdout {
    /// Queues the parts of one line.
    fn push(&self, parts: &[&Bytes]) {
        // A closed stdout is noticed when the next line needs room.
        if !self.closed.load(Ordering::Acquire) {
            let mut queue = self.outlet.lock();
            for part in parts {
                queue.waiting.share(part, part);
            }
            queue.added(parts.iter().map(|part| part.len()).sum());
        }
    }
}

/// Lets the input answer the host directly.
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

    /// Waits until there is room for a line of `bytes`; false if the host has closed our stdout.
    /// Cancel safe.
    pub(in crate::client) async fn room(&self, bytes: usize) -> bool {
        let has_room = |unwritten| unwritten == 0 || unwritten + bytes <= MAX_UNWRITTEN;
        self.wait_until(has_room).await
    }

    /// Completes when the host has closed our stdout. Cancel safe.
    pub(in crate::client) async fn closed(&self) {
        self.wait_until(|_| false).await;
    }

    /// Waits until the unwritten rest satisfies the condition; false if the host has closed our stdout.
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
            // Registered before the check, so that no write is missed.
            let progress = self.shared.progress.notified();
            if let Some(answer) = check() {
                return answer;
            }
            progress.await;
        }
    }

    /// Queues a line without its newline, which is written with the next flush or earlier.
    pub(in crate::client) fn push(&self, line: &Bytes) {
        self.shared.push(&[line, &Bytes::from_static(b"\n")]);
    }

    /// A handle to answer lines that cannot be read.
    pub(in crate::client) fn replies(&self) -> Replies {
        Replies(Arc::clone(&self.shared))
    }

    /// Waits until everything is written, or the host has closed our stdout.
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
