//! Newline frames over any byte stream: TCP, the child's pipes, our own stdio.

use super::Pulse;
use crate::backlog::Part;
use crate::utils::chunks::Pieces;
use crate::utils::spare;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::coop::consume_budget;

/// How much is read at once. All connections of a thread share this buffer: what has arrived is copied to its
/// connection, so that an idle one holds no memory.
const READ_SIZE: usize = 64 * 1024;

/// A line that is already longer than this is read directly into its own buffer.
const LONG: usize = READ_SIZE;

/// How much of a long line is read at once, at most.
const LONG_READ_SIZE: usize = 1 << 20;

/// A buffer that is larger than this does not outlive its lines.
const KEPT: usize = 1024;

thread_local! {
    static ARRIVED: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

/// How much of a line is skipped before other tasks get their turn.
const SKIP_SIZE: usize = 256 * 1024;

/// Lines up to this size are gathered into one write.
const GATHER_SIZE: usize = 64 * 1024;

/// Why no line could be read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The line is longer than the limit. Reading on skips the rest of it.
    #[error("a line is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// A WebSocket message is longer than the limit, and what follows cannot be read.
    #[error("a WebSocket message is longer than {limit} bytes")]
    TooLongFrame {
        /// The limit.
        limit: usize,
    },
    /// The far end pings more often than makes sense.
    #[error("too many pings")]
    Pings,
    /// The far end sends too much that is not a message.
    #[error("too many empty frames")]
    Empty,
    /// Nothing has arrived for too long.
    #[error("nothing heard for {0:?}")]
    Silent(std::time::Duration),
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Cuts a byte stream into lines. `Debug` does not show what has been read.
pub struct LineReader<R> {
    stream: R,
    buffer: BytesMut,
    /// How many bytes of the buffer are known to contain no newline.
    searched: usize,
    /// The length of the last long line: the next one may be as long, and a buffer that grows step by
    /// step is copied each time.
    expected: usize,
    limit: usize,
    /// Lines are given with their newlines.
    with_ends: bool,
    /// The current line is too long: it is discarded up to its end.
    skipping: bool,
    pulse: Pulse,
    /// Counts a long line while it is incomplete.
    held: Part,
}

impl<R> std::fmt::Debug for LineReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineReader")
            .field("buffered", &self.buffer.len())
            .finish_non_exhaustive()
    }
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Reads lines of at most `limit` bytes from `stream`; that bounds the buffer too.
    pub fn new(stream: R, limit: usize) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            searched: 0,
            expected: 0,
            limit,
            with_ends: false,
            skipping: false,
            pulse: Pulse::default(),
            held: Part::default(),
        }
    }

    /// Returns lines with their newlines, which the limit does not count.
    #[must_use]
    pub fn with_ends(mut self) -> Self {
        self.with_ends = true;
        self
    }

    /// Notes every read.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Counts as `held` the part of an incomplete long line that was read.
    pub fn hold(&mut self, held: Part) {
        self.held = held;
    }

    /// Changes the limit for what has not been read yet.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The next line, without its newline unless that was asked for; `None` at the end of the
    /// stream. Half a line at the end stays in the reader, see [`LineReader::rest`]. Cancel safe.
    ///
    /// # Errors
    /// The stream's error, or a line over the limit, after which reading continues.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        // Lines that have already arrived must not starve other tasks.
        consume_budget().await;
        loop {
            if let Some(line) = self.buffered() {
                self.held.set(self.buffer.len());
                return line.map(Some);
            }
            if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
                self.buffer = BytesMut::new();
            }
            self.held.set(self.buffer.len());
            if self.fill().await? == 0 {
                return Ok(None);
            }
            self.pulse.beat();
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        if self.buffer.len() < LONG {
            return poll_fn(|context| self.poll_fill(context)).await;
        }
        let length = self.buffer.len();
        if length == self.buffer.capacity() {
            let more = length.min(LONG_READ_SIZE);
            let expected = self.expected.saturating_sub(length);
            self.buffer.reserve(more.max(expected));
        }
        self.stream.read_buf(&mut self.buffer).await
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ARRIVED.with_borrow_mut(|arrived| {
            let mut read = ReadBuf::new(arrived);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut read))?;
            self.buffer.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
    }

    /// A line that has already arrived.
    pub fn buffered(&mut self) -> Option<Result<Bytes, LineError>> {
        let unseen = self.buffer.get(self.searched..).unwrap_or_default();
        let end = memchr::memchr(b'\n', unseen).map(|at| self.searched + at);
        if self.skipping {
            let cut = end.map_or(self.buffer.len(), |end| end + 1);
            drop(self.buffer.split_to(cut));
            self.searched = 0;
            self.skipping = end.is_none();
            return end.and_then(|_| self.buffered());
        }
        let length = end.unwrap_or(self.buffer.len());
        if length > self.limit {
            self.skipping = true;
            return Some(Err(LineError::TooLong { limit: self.limit }));
        }
        let Some(end) = end else {
            self.searched = self.buffer.len();
            return None;
        };
        let length = if self.with_ends { end + 1 } else { end };
        // Keeping the line must not keep much more memory than its length.
        let line = if self.buffer.capacity() > 2 * (end + READ_SIZE) {
            let line = self.buffer.get(..length).unwrap_or_default();
            let line = Bytes::copy_from_slice(line);
            self.buffer.advance(end + 1);
            line
        } else {
            let mut line = self.buffer.split_to(end + 1);
            line.truncate(length);
            if end >= LONG && self.buffer.len() < end {
                self.buffer = BytesMut::from(&*self.buffer);
            }
            line.freeze()
        };
        self.searched = 0;
        if end >= LONG {
            // With some spare room for one that is a little longer.
            self.expected = end + KEPT;
        }
        spare::used(end);
        if end > KEPT && self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Some(Ok(line))
    }

    /// Reads the rest of a line that is too long, in bounded memory, and shows it to `see` from its
    /// start, each piece once; false where the stream ends before the line does. Cancel safe.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn skip(&mut self, mut see: impl FnMut(&[u8])) -> io::Result<bool> {
        while self.skipping {
            if self.buffer.is_empty() {
                if self.buffer.capacity() > READ_SIZE {
                    // The memory of what was shown is released, too.
                    self.buffer = BytesMut::new();
                    self.held.set(0);
                }
                self.buffer.reserve(READ_SIZE);
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Ok(false);
                }
                self.pulse.beat();
            }
            let next = self.buffer.get(..self.buffer.len().min(SKIP_SIZE));
            let next = next.unwrap_or_default();
            let end = memchr::memchr(b'\n', next);
            let length = end.map_or(next.len(), |end| end + 1);
            let mut piece = self.buffer.split_to(length);
            piece.truncate(end.unwrap_or(length));
            self.searched = 0;
            self.skipping = end.is_none();
            see(&piece);
            drop(piece);
            if self.skipping {
                tokio::task::yield_now().await;
            }
        }
        Ok(true)
    }

    /// What followed the last newline when the stream ended.
    pub fn rest(&mut self) -> Bytes {
        self.searched = 0;
        self.buffer.split().freeze()
    }

    /// Reads to the end of the stream and discards everything.
    pub async fn discard(&mut self) {
        // A long line read in part would be kept until the end.
        self.buffer = BytesMut::new();
        loop {
            self.buffer.clear();
            match self.fill().await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

/// Shows `take` what has arrived, and gives how much that is, and what `take` says that it has not taken.
pub(super) fn read_much(
    stream: Pin<&mut impl AsyncRead>,
    context: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> usize,
) -> Poll<io::Result<(usize, Bytes)>> {
    ARRIVED.with_borrow_mut(|arrived| {
        let mut read = ReadBuf::new(arrived);
        ready!(stream.poll_read(context, &mut read))?;
        let read = read.filled();
        let later = read.get(take(read)..).unwrap_or_default();
        Poll::Ready(Ok((read.len(), Bytes::copy_from_slice(later))))
    })
}

/// Writes lines to a byte stream.
pub struct LineWriter<W> {
    stream: W,
    gathered: Vec<u8>,
    /// How many of these have been written.
    written: usize,
}

impl<W: AsyncWrite + Unpin> LineWriter<W> {
    /// Writes to `stream`.
    pub fn new(stream: W) -> Self {
        Self {
            stream,
            gathered: Vec::new(),
            written: 0,
        }
    }

    /// Writes nothing, which fails where the system has found out that the far end is gone.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn probe(&mut self) -> io::Result<()> {
        poll_fn(
            |context| match Pin::new(&mut self.stream).poll_write(context, &[]) {
                Poll::Ready(Err(err)) => Poll::Ready(Err(err)),
                Poll::Ready(Ok(_)) | Poll::Pending => Poll::Ready(Ok(())),
            },
        )
        .await
    }

    /// Sends a space, which JSON allows before a message: a far end that has closed altogether answers it
    /// with a reset, one that has only ended its sending half reads on.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn send_space(&mut self) -> io::Result<()> {
        self.gathered.push(b' ');
        self.flush().await
    }

    /// Sends lines, each with its newline, and flushes. Small ones share a write.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn send(&mut self, lines: &[impl Pieces]) -> io::Result<()> {
        for line in lines {
            for piece in line.pieces() {
                if self.gathered.len() + piece.len() > GATHER_SIZE {
                    self.write_gathered().await?;
                }
                if piece.len() > GATHER_SIZE {
                    self.stream.write_all(piece).await?;
                    spare::used(piece.len());
                } else {
                    self.gathered.extend_from_slice(piece);
                }
            }
        }
        self.flush().await
    }

    /// As [`LineWriter::send`], as much as the stream takes without blocking. True when that was everything;
    /// the rest goes out with the next call of any kind.
    ///
    /// # Errors
    /// The stream's error.
    pub fn try_send(&mut self, lines: &[impl Pieces]) -> io::Result<bool> {
        for piece in lines.iter().flat_map(Pieces::pieces) {
            self.gathered.extend_from_slice(piece);
        }
        self.flush()
            .now_or_never()
            .transpose()
            .map(|sent| sent.is_some())
    }

    /// Sends what is left of earlier calls. Cancel safe.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.write_gathered().await?;
        self.gathered.shrink_to(KEPT);
        self.stream.flush().await
    }

    async fn write_gathered(&mut self) -> io::Result<()> {
        while let Some(rest @ [_, ..]) = self.gathered.get(self.written..) {
            match self.stream.write(rest).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.written += written,
            }
        }
        self.gathered.clear();
        self.written = 0;
        Ok(())
    }

    /// Closes the sending half.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn close(&mut self) -> io::Result<()> {
        self.write_gathered().await?;
        self.stream.shutdown().await
    }
}

#[cfg(test)]
mod tests;
