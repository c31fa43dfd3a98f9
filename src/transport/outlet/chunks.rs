//! A queue of bytes before a byte stream, such as a pipe, that one task owns and only writes to.

use super::{Lendable, Outlet, Queue};
use crate::utils::chunks::Chunks;
use std::io;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// A byte stream that takes what it can without waiting.
pub trait TryWrite: AsyncWrite + Unpin {
    /// Writes as many bytes as it takes at once.
    ///
    /// # Errors
    /// What the system says, that it takes nothing now among it.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// Bytes that wait, large ones shared with the messages they came from.
#[derive(Debug, Default)]
pub struct ChunkQueue {
    /// What is to be written; after adding to it, see [`super::Locked::added`].
    pub waiting: Chunks,
    /// So many bytes are being written by the owner.
    writing: usize,
}

impl ChunkQueue {
    /// Bytes that have not been written.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.waiting.len() + self.writing
    }

    /// Drops what waits, for a sink that is gone.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<S: TryWrite> Queue<S> for ChunkQueue {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    fn try_write(&mut self, sink: &mut S, _: usize) -> io::Result<bool> {
        let Some(small) = self.waiting.only_small() else {
            return Ok(false);
        };
        // The owner, who goes on, meets the same error.
        let written = sink.try_write(small).unwrap_or(0);
        small.drain(..written);
        Ok(small.is_empty())
    }
}

impl<S: TryWrite> Outlet<S, ChunkQueue> {
    /// Owns the sink: writes what it did not take at once, and calls `on_progress` after that. Completes
    /// with the error of a sink that has failed; the sink is closed with this future.
    pub async fn drive(&self, sink: S, on_progress: impl Fn()) -> io::Error {
        let mut sink = Lendable::new(sink);
        let mut lines = Chunks::default();
        loop {
            if let Some(lease) = self.lend(&mut sink) {
                self.woken().await;
                drop(lease);
            }
            {
                let queue = &mut *self.lock();
                std::mem::swap(&mut lines, &mut queue.waiting);
                queue.writing = lines.len();
            }
            let written = write_all(&mut *sink, &lines).await;
            lines.clear();
            self.lock().writing = 0;
            on_progress();
            if let Err(err) = written {
                return err;
            }
        }
    }
}

async fn write_all(sink: &mut (impl AsyncWrite + Unpin), lines: &Chunks) -> io::Result<()> {
    for piece in lines.pieces() {
        sink.write_all(piece).await?;
    }
    sink.flush().await
}
