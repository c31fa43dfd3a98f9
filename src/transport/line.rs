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

/// How much is read at once. So much memory is enough for all connections of a thread: what has
/// arrived is copied to the connection it belongs to, so that one on which nothing arrives holds none.
const READ_SIZE: usize = 64 * 1024;

/// A line that is longer than this so far is read straight into its own buffer.
const LONG: usize = READ_SIZE;

/// How much of a long line is read at once, at most.
const LONG_READ_SIZE: usize = 1 << 20;

/// A buffer that is larger than this does not outlive its lines.
const KEPT: usize = 1024;

thread_local! {
    static ARRIVED: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

/// So much of a line that is skipped is looked at before others get their turn.
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
    /// The far end sends more than makes sense of what holds no message.
    #[error("too many empty frames")]
    Empty,
    /// Nothing was heard for too long.
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
    /// So many bytes of the buffer are known to hold no newline.
    searched: usize,
    /// The length of the last long line: the next one may be as long, and a buffer that grows step by
    /// step is copied each time.
    expected: usize,
    limit: usize,
    /// Lines are given with their newlines.
    with_ends: bool,
    /// The line under way is too long: it is thrown away up to its end.
    skipping: bool,
    pulse: Pulse,
    /// Counts a long line while it is not whole.
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

    /// Gives lines with their newlines, which the limit does not count.
    #[must_use]
    pub fn with_ends(mut self) -> Self {
        self.with_ends = true;
        self
    }

    /// Beats with every read.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Counts as `held` what has been read of a long line that is not whole.
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
    /// What the stream says, or a line over the limit; after that, reading goes on behind it.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        // Lines that have already arrived must not keep all other tasks waiting.
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
        // Whoever keeps the line must not keep much more than that with it.
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
            // With some room for one that is a little longer.
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
    /// What the stream says.
    pub async fn skip(&mut self, mut see: impl FnMut(&[u8])) -> io::Result<bool> {
        while self.skipping {
            if self.buffer.is_empty() {
                if self.buffer.capacity() > READ_SIZE {
                    // The memory of what has been seen goes, too.
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

    /// What stood behind the last newline when the stream ended.
    pub fn rest(&mut self) -> Bytes {
        self.searched = 0;
        self.buffer.split().freeze()
    }

    /// Reads to the end of the stream and throws everything away.
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
    /// So many of these have been written.
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
    /// What the stream says.
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
    /// What the stream says.
    pub async fn send_space(&mut self) -> io::Result<()> {
        self.gathered.push(b' ');
        self.flush().await
    }

    /// Sends lines, each with its newline, and flushes. Small ones share a write.
    ///
    /// # Errors
    /// What the stream says.
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

    /// As [`LineWriter::send`], as far as the stream takes it at once. True when that was everything;
    /// the rest goes out with the next call of any kind.
    ///
    /// # Errors
    /// What the stream says.
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
    /// What the stream says.
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

    /// Says that nothing more will come.
    ///
    /// # Errors
    /// What the stream says.
    pub async fn close(&mut self) -> io::Result<()> {
        self.write_gathered().await?;
        self.stream.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a reader with `limit` makes of `bytes` that arrive in pieces; `None` stands for a line
    /// that was too long.
    fn read_in_pieces(
        bytes: &[u8],
        cuts: &[usize],
        limit: usize,
    ) -> (Vec<Option<Vec<u8>>>, Vec<u8>) {
        let mut builder = tokio_test_stream(bytes, cuts);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut reader = LineReader::new(&mut builder, limit);
            let mut lines = Vec::new();
            loop {
                match reader.next().await {
                    Ok(Some(line)) => lines.push(Some(line.to_vec())),
                    Ok(None) => return (lines, reader.rest().to_vec()),
                    Err(LineError::TooLong { .. }) => lines.push(None),
                    Err(other) => panic!("{other}"),
                }
            }
        })
    }

    #[tokio::test]
    async fn debug_shows_no_bytes() {
        let mut reader = LineReader::new(&b"one\nhunter2"[..], 100);
        assert_eq!(reader.next().await.unwrap().unwrap(), "one");
        let shown = format!("{reader:?}");
        assert!(
            !shown.contains("hunter") && shown.contains("buffered: 7"),
            "{shown}"
        );
    }

    /// Bug: whoever had sent many short lines kept all other tasks waiting until they were read.
    #[tokio::test]
    async fn others_have_their_turns_between_lines() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        const LINES: usize = 20_000;
        let turns = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&turns);
        let others = tokio::spawn(async move {
            loop {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let stream = b"x\n".repeat(LINES);
        let mut reader = LineReader::new(&*stream, 100);
        let mut read = 0;
        while reader.next().await.unwrap().is_some() {
            read += 1;
        }
        others.abort();
        assert_eq!(read, LINES);
        // The budget of a turn.
        let expected = LINES / 128;
        let turns = turns.load(Ordering::Relaxed);
        assert!(turns >= expected, "{turns} turns, not {expected}");
    }

    struct Pieces(std::collections::VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            if let Some(mut piece) = self.0.pop_front() {
                let rest = piece.split_off(piece.len().min(buffer.remaining()));
                buffer.put_slice(&piece);
                if !rest.is_empty() {
                    self.0.push_front(rest);
                }
            }
            std::task::Poll::Ready(Ok(()))
        }
    }

    fn tokio_test_stream(bytes: &[u8], cuts: &[usize]) -> Pieces {
        let mut pieces = std::collections::VecDeque::new();
        let mut rest = bytes;
        for cut in cuts {
            let (piece, tail) = rest.split_at((*cut).min(rest.len()));
            if !piece.is_empty() {
                pieces.push_back(piece.to_vec());
            }
            rest = tail;
        }
        if !rest.is_empty() {
            pieces.push_back(rest.to_vec());
        }
        Pieces(pieces)
    }

    proptest! {
        /// Any split of any byte stream gives the same lines.
        #[test]
        fn splits_do_not_matter(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..300),
            cuts in prop::collection::vec(1usize..40, 0..40),
            limit in 1usize..40,
        ) {
            let mut expected: Vec<Option<Vec<u8>>> = bytes
                .split(|byte| *byte == b'\n')
                .map(|line| (line.len() <= limit).then(|| line.to_vec()))
                .collect();
            let last = expected.pop().unwrap();
            let (mut lines, rest) = read_in_pieces(&bytes, &cuts, limit);
            match last {
                Some(last) => prop_assert_eq!(rest, last),
                // Too long and never ended: reported once, as far as it was read.
                None => prop_assert_eq!(lines.pop(), Some(None)),
            }
            prop_assert_eq!(lines, expected);
        }
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_shown_and_skipped() {
        let bytes = [b"one\n", &[b'x'; 40][..], b"\ntwo\n", &[b'y'; 40], b"end"].concat();
        for cuts in [&[][..], &[1; 80], &[4, 7, 33, 9], &[44, 1, 3]] {
            let mut stream = tokio_test_stream(&bytes, cuts);
            let mut reader = LineReader::new(&mut stream, 8);
            assert_eq!(reader.next().await.unwrap().unwrap(), "one");
            assert!(matches!(
                reader.next().await,
                Err(LineError::TooLong { .. })
            ));
            let mut seen = Vec::new();
            assert!(
                reader
                    .skip(|piece| seen.extend_from_slice(piece))
                    .await
                    .unwrap()
            );
            assert_eq!(seen, [b'x'; 40]);
            assert_eq!(reader.next().await.unwrap().unwrap(), "two");
            assert!(matches!(
                reader.next().await,
                Err(LineError::TooLong { .. })
            ));
            seen.clear();
            assert!(
                !reader
                    .skip(|piece| seen.extend_from_slice(piece))
                    .await
                    .unwrap()
            );
            assert_eq!(seen, [&[b'y'; 40][..], b"end"].concat());
        }
    }

    #[tokio::test]
    async fn a_second_long_line_is_not_copied_while_it_grows() {
        let (mut near, far) = tokio::io::duplex(READ_SIZE);
        let mut reader = LineReader::new(far, usize::MAX);
        let mut line = vec![b'x'; 10 * LONG];
        line.push(b'\n');
        let (written, read) = tokio::join!(near.write_all(&line), reader.next());
        written.unwrap();
        assert_eq!(read.unwrap().unwrap().len(), 10 * LONG);
        let begin = async {
            near.write_all(&line[..2 * LONG]).await.unwrap();
            drop(near);
        };
        let ((), read) = tokio::join!(begin, reader.next());
        assert_eq!(read.unwrap(), None);
        let capacity = reader.buffer.capacity();
        assert!(capacity >= line.len(), "{capacity}");
    }

    /// Bug: a line of 64 KiB kept the memory of the long one that had come before it.
    #[tokio::test]
    async fn a_line_keeps_little_more_memory_than_its_own() {
        let lengths = [10 * LONG, LONG + 1, 10, 10 * LONG, 2 * LONG];
        for piece in [1000, usize::MAX] {
            let (mut near, far) = tokio::io::duplex(READ_SIZE);
            let write = async {
                for length in lengths {
                    let mut line = vec![b'x'; length];
                    line.push(b'\n');
                    for part in line.chunks(piece.min(line.len())) {
                        near.write_all(part).await.unwrap();
                    }
                }
            };
            let read = async {
                let mut reader = LineReader::new(far, usize::MAX);
                for length in lengths {
                    let line = reader.next().await.unwrap().unwrap();
                    assert_eq!(line.len(), length);
                    let memory = line.try_into_mut().map(|line| line.capacity());
                    // Where it is shared, it is with what is under way.
                    if let Ok(memory) = memory {
                        assert!(memory <= 2 * (length + READ_SIZE), "{memory} for {length}");
                    }
                }
            };
            tokio::join!(write, read);
        }
    }

    #[tokio::test]
    async fn what_follows_a_long_line_does_not_keep_it() {
        // Of a buffer that doubles, little is left behind it.
        const LENGTH: usize = 31 * LONG / 2;
        let text = [vec![b'x'; LENGTH], b"\nnext\n".to_vec()].concat();
        let mut reader = LineReader::new(&*text, usize::MAX);
        let long = reader.next().await.unwrap().unwrap();
        let next = reader.next().await.unwrap().unwrap();
        assert_eq!((long.len(), &*next), (LENGTH, &b"next"[..]));
        assert_ne!(long.as_ptr_range().end.wrapping_add(1), next.as_ptr());
    }

    #[tokio::test]
    async fn lines_are_written_in_order_whatever_their_size() {
        let (near, far) = tokio::io::duplex(8);
        let lines: Vec<Bytes> = [1, 20_000, 3, 15_000, 2_000, 40_000]
            .iter()
            .enumerate()
            .map(|(at, size)| Bytes::from([vec![b'a' + at as u8; *size], vec![b'\n']].concat()))
            .collect();
        let expected: Vec<Bytes> = lines
            .iter()
            .map(|line| line.slice(..line.len() - 1))
            .collect();
        let send = async move {
            let mut writer = LineWriter::new(near);
            writer.send(&lines).await.unwrap();
            writer.close().await.unwrap();
        };
        let receive = async move {
            let mut reader = LineReader::new(far, 1 << 20);
            let mut lines = Vec::new();
            while let Some(line) = reader.next().await.unwrap() {
                lines.push(line);
            }
            lines
        };
        let ((), received) = tokio::join!(send, receive);
        assert_eq!(received, expected);
    }
}
