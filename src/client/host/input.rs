//! Our own stdin.

use super::output::Replies;
use crate::jsonrpc::{Outline, Refusal};
use crate::replay::cost;
use crate::system::standard::{self, Input};
use crate::transport::line::{LineError, LineReader};
use bytes::Bytes;
use std::collections::VecDeque;

/// Lines, each with its newline.
pub(in crate::client) type Lines = Vec<Bytes>;

/// The most that is read ahead of a connection, in bytes; beyond that the host is not read.
pub(in crate::client) const MAX_QUEUED: usize = 64 << 20;

/// The longest line from the host, in bytes; a longer one is skipped and answered. The server has its own,
/// smaller limit.
const MAX_HOST_LINE: usize = MAX_QUEUED;

/// The most lines that are taken at once.
const MAX_BATCH: usize = 64;

/// The most bytes that are taken at once; one line may be longer.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Lines of the host. They are read on demand, and ahead while there is no connection.
pub(in crate::client) struct HostInput {
    stdin: LineReader<Input>,
    /// Read ahead, each with its newline.
    queue: VecDeque<Bytes>,
    /// The size of the queue, in bytes.
    queued: usize,
    ended: bool,
    /// What is known of a line that is being skipped.
    skipped: Option<Outline>,
    replies: Replies,
}

impl HostInput {
    /// Our stdin. Within a runtime. A line that is too long gets its answer through `replies`.
    pub(in crate::client) fn start(replies: Replies) -> Self {
        Self {
            stdin: LineReader::new(standard::input(), MAX_HOST_LINE).with_ends(),
            queue: VecDeque::new(),
            queued: 0,
            ended: false,
            skipped: None,
            replies,
        }
    }

    /// Waits for a line, and returns it with further ones that have arrived; `None` when stdin has
    /// ended. Cancel safe.
    pub(in crate::client) async fn next(&mut self) -> Option<Lines> {
        let first = match self.pop_queue() {
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

    /// A line that has arrived.
    fn try_next(&mut self) -> Option<Bytes> {
        if let Some(line) = self.pop_queue() {
            return Some(line);
        }
        while self.skipped.is_none() {
            match self.stdin.buffered()? {
                Ok(line) if is_blank(&line) => {}
                Ok(line) => return Some(line),
                Err(err) => self.skip(&err),
            }
        }
        None
    }

    /// Begins to skip a line that is too long.
    fn skip(&mut self, err: &LineError) {
        tracing::error!(%err, "dropped a message of the host");
        self.skipped = Some(Outline::default());
    }

    fn pop_queue(&mut self) -> Option<Bytes> {
        let line = self.queue.pop_front()?;
        self.queued -= cost(&line);
        Some(line)
    }

    /// The next line of stdin. Cancel safe.
    async fn read(&mut self) -> Option<Bytes> {
        while !self.ended {
            if let Some(outline) = &mut self.skipped {
                let skipped = self.stdin.skip(|piece| outline.see(piece)).await;
                let outline = self.skipped.take().unwrap_or_default();
                for reply in Refusal::too_long(MAX_HOST_LINE, outline).replies() {
                    self.replies.send(&reply.into());
                }
                self.ended = !matches!(skipped, Ok(true));
                continue;
            }
            let line = match self.stdin.next().await {
                Ok(Some(line)) => line,
                Ok(None) => {
                    self.ended = true;
                    // A last line without newline counts, as in `printf '{…}' | mcp-remote client
                    // …`.
                    let rest = self.stdin.rest();
                    [&rest, &b"\n"[..]].concat().into()
                }
                Err(LineError::Io(err)) => {
                    tracing::error!(%err, "could not read stdin");
                    self.ended = true;
                    break;
                }
                Err(err) => {
                    self.skip(&err);
                    continue;
                }
            };
            if !is_blank(&line) {
                return Some(line);
            }
        }
        None
    }

    /// Reads a line ahead.
    async fn read_ahead(&mut self) {
        if let Some(line) = self.read().await {
            self.queued += cost(&line);
            self.queue.push_back(line);
        }
    }

    /// Completes when a line has arrived, or stdin has ended. Cancel safe.
    pub(in crate::client) async fn ready(&mut self) {
        if self.queue.is_empty() {
            self.read_ahead().await;
        }
    }

    /// True if stdin has ended and every line has been taken.
    pub(in crate::client) fn is_finished(&self) -> bool {
        self.ended && self.queue.is_empty()
    }

    /// Completes when stdin has ended and every line has been taken; reads ahead meanwhile. Cancel safe.
    pub(in crate::client) async fn finished(&mut self) {
        while !self.ended && self.queued < MAX_QUEUED {
            self.read_ahead().await;
        }
        if !self.is_finished() {
            std::future::pending::<()>().await;
        }
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}
