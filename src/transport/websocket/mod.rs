//! WebSocket: the upgrade, frames as lines, pings.
//!
//! A frame may hold several lines, part of a line (the rest follows in the next frame), or a
//! message without its newline; binary frames count as text.

mod frames;
mod lines;
mod metered;
pub mod request;
mod upgrade;

pub use upgrade::{Accepted, Upgrade, UpgradeError};

use super::empty::Empties;
use super::line::LineError;
use super::{BoxedStream, Pulse};
use crate::backlog::Part;
use crate::jsonrpc::Outline;
use crate::utils::bucket::{Bucket, Pace};
use crate::utils::chunks::Pieces;
use crate::utils::lock::{lock, unpoisoned};
use crate::utils::spare;
use bytes::Bytes;
use frames::{Frames, SMALL};
use futures_util::{SinkExt, StreamExt};
use lines::Lines;
use metered::Metered;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::coop::consume_budget;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

/// The interval of pings.
pub const PING_EVERY: Duration = Duration::from_secs(30);

/// A peer from which nothing arrives for this long, pongs included, is gone.
const SILENCE: Duration = Duration::from_secs(90);

/// How often a peer may ping per second …
const PINGS_PER_SECOND: u32 = 10;
/// … and in a burst. Each ping costs us a pong, which waits in memory if the peer does not read.
const PING_BURST: u32 = 100;

/// What the library reads at once, from what has been read ahead of it. One such buffer lives as long
/// as its connection, and so much room it has behind a frame.
const READ_BUFFER: usize = 1024;

/// What the library gathers before it writes.
const WRITE_BUFFER: usize = 8 * 1024;

/// What is thrown away at once.
const DISCARDED: usize = 8 * 1024;

/// How much of such a line is masked at once.
const MASKED: usize = 64 * 1024;

/// A line of this many bytes is sent as its own frame, piece by piece: the library would keep a buffer of
/// that size for as long as the connection lives.
const LARGE: usize = 64 * 1024;

type Socket = WebSocketStream<Metered<BoxedStream>>;

/// A WebSocket in one piece.
pub struct WebSocket {
    socket: Socket,
    lines: Lines,
    /// Which end this is: frames of a client are masked.
    masks: bool,
}

impl WebSocket {
    /// The next line, as [`WebSocketReader::next`].
    ///
    /// # Errors
    /// The stream's error.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        next_line(&mut self.socket, &mut self.lines).await
    }

    /// Sends one line as one frame.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn send(&mut self, line: Vec<u8>) -> io::Result<()> {
        self.socket.send(text(line.into())?).await.map_err(to_io)
    }

    /// Says goodbye and waits for the far end to hang up.
    pub async fn close(&mut self) {
        if self.socket.close(None).await.is_ok() {
            read_to_end_of_socket(&mut self.socket).await;
        }
    }

    /// Lifts the allowance; reading and writing go on side by side. Lines may be `limit` long.
    #[must_use]
    pub fn split(mut self, limit: usize) -> (WebSocketReader, WebSocketWriter) {
        self.socket.get_mut().allowance = None;
        // One byte more than the longest line, for its newline.
        self.socket.get_mut().cut(limit.saturating_add(1));
        self.lines.limit = limit;
        let pulse = self.socket.get_ref().pulse.clone();
        let masks = self.masks;
        let socket = Shared(Arc::new(Mutex::new(self.socket)));
        let writer = WebSocketWriter {
            socket: socket.clone(),
            masks,
        };
        let reader = WebSocketReader {
            socket,
            pulse,
            large: (Bytes::new(), 0),
            lines: self.lines,
            heard: Instant::now(),
            pings: Bucket::default(),
            empties: Empties::default(),
            is_small: false,
            is_between: false,
        };
        (reader, writer)
    }
}

fn config(limit: usize) -> WebSocketConfig {
    // One byte more than the longest line, for its newline.
    let limit = limit.saturating_add(1);
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit))
}

/// A socket that is read and written side by side.
#[derive(Clone)]
struct Shared(Arc<Mutex<Socket>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Socket> {
        lock(&self.0)
    }
}

/// The receiving half.
pub struct WebSocketReader {
    socket: Shared,
    /// The last large frame, and what has come since: while it is held, the library cannot use its
    /// memory again, and takes other memory for what comes next.
    large: (Bytes, usize),
    lines: Lines,
    heard: Instant,
    pings: Bucket,
    /// Counts small frames that end no line.
    empties: Empties,
    /// The last message was a small frame, and no line has come of it yet.
    is_small: bool,
    /// The last message has been handed over, and the next one has not begun.
    is_between: bool,
    pulse: Pulse,
}

impl WebSocketReader {
    /// Notes every read.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Counts as `held` what is kept of messages.
    pub fn hold(&mut self, held: Part) {
        self.socket.lock().get_mut().hold(held);
    }

    /// The next line; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// The stream's error, a line over the limit, or a silence that is too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        // Lines that have already arrived must not starve other tasks.
        consume_budget().await;
        loop {
            if let Some(line) = self.lines.pop() {
                if std::mem::take(&mut self.is_small) {
                    self.empties.discount();
                }
                return line.map(Some);
            }
            let between = std::mem::take(&mut self.is_between);
            let mut kept = between.then(|| self.lines.partial() + self.large.0.len());
            // A long frame on a slow connection is not silence.
            let (socket, empties) = (&self.socket, &mut self.empties);
            let next = poll_fn(|context| {
                let mut socket = socket.lock();
                if let Some(kept) = kept.take() {
                    socket.get_mut().begin_message(kept);
                }
                let small = socket.get_mut().take_small();
                if small > 0 && !empties.count(small, Instant::now().into_std()) {
                    return Poll::Ready(Err(LineError::Empty));
                }
                socket.poll_next_unpin(context).map(Ok)
            });
            let frame = tokio::select! {
                biased;
                frame = next => frame?,
                () = self.pulse.stop(SILENCE.saturating_sub(self.heard.elapsed())) => {
                    return Err(LineError::Silent(SILENCE));
                }
            };
            self.heard = Instant::now();
            self.is_between = true;
            if let Some(Ok(Message::Ping(_))) = frame {
                let pace = Pace::new(PINGS_PER_SECOND, PING_BURST);
                if self.pings.take(&pace, self.heard.into_std()).is_err() {
                    return Err(LineError::Pings);
                }
            }
            if let Some(Ok(Message::Text(_) | Message::Binary(_))) = frame {
                self.lines.continues = self.socket.lock().get_mut().next_continues();
            }
            if !self.lines.push_frame(frame)? {
                return Ok(None);
            }
            let frame = &self.lines.rest;
            self.is_small = (1..SMALL).contains(&frame.len());
            self.large.1 += frame.len();
            if frame.len() >= LARGE {
                self.large = (frame.clone(), 0);
            } else if self.large.1 > READ_BUFFER && !self.large.0.is_empty() {
                spare::used(self.large.0.len());
                self.large.0 = Bytes::new();
            }
        }
    }

    /// The outline of the last line that was too long.
    pub fn skipped(&mut self) -> Outline {
        std::mem::take(&mut self.lines.skipped)
    }

    /// Discards further input, until the end. `writer` is the other half of this.
    pub async fn discard(self, writer: WebSocketWriter) {
        drop(writer);
        if let Some(socket) = Arc::into_inner(self.socket.0) {
            read_to_end_of_socket(&mut unpoisoned(socket.into_inner())).await;
        }
    }
}

/// Throws away what still comes. Where the frames have become unreadable (one was too long, say)
/// the bytes behind them are read as well: closing on unread bytes would reset the connection, and
/// our last words with it.
async fn read_to_end_of_socket(socket: &mut Socket) {
    while let Some(Ok(_)) = socket.next().await {}
    let stream = socket.get_mut();
    stream.allowance = None;
    if stream.shutdown().await.is_ok() {
        let mut buffer = vec![0; DISCARDED];
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    }
}

/// The sending half.
pub struct WebSocketWriter {
    socket: Shared,
    masks: bool,
}

impl WebSocketWriter {
    /// Sends each line as one text frame, newline included, and flushes once.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn send(&mut self, lines: &[impl Pieces]) -> io::Result<()> {
        for line in lines {
            let length = line.length();
            if length < LARGE {
                self.feed(text(line.joined())?).await?;
            } else {
                self.flush().await?;
                self.send_large(length, line.pieces()).await?;
            }
            spare::used(length);
        }
        self.flush().await
    }

    /// As [`WebSocketWriter::send`], as far as the stream takes it at once, for lines of less than
    /// [`LARGE`] bytes. True when that was everything; the rest goes out with the next call of any kind.
    ///
    /// # Errors
    /// The stream's error.
    pub fn try_send(&mut self, lines: &[impl Pieces]) -> io::Result<bool> {
        let mut socket = self.socket.lock();
        for line in lines {
            // What is sent to a socket that is not ready waits in its memory.
            socket
                .start_send_unpin(text(line.joined())?)
                .map_err(to_io)?;
        }
        let mut context = Context::from_waker(Waker::noop());
        match socket.poll_flush_unpin(&mut context) {
            Poll::Ready(flushed) => flushed.map(|()| true).map_err(to_io),
            Poll::Pending => Ok(false),
        }
    }

    async fn feed(&mut self, message: Message) -> io::Result<()> {
        poll_fn(|context| self.socket.lock().poll_ready_unpin(context))
            .await
            .and_then(|()| self.socket.lock().start_send_unpin(message))
            .map_err(to_io)
    }

    /// Sends what is left of earlier calls. Cancel safe.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| self.socket.lock().poll_flush_unpin(context))
            .await
            .map_err(to_io)
    }

    /// Sends a line of at least [`LARGE`] bytes, which is UTF-8, past the library. Nothing may be left
    /// to flush.
    async fn send_large(&mut self, length: usize, pieces: &[Bytes]) -> io::Result<()> {
        // A whole text frame, its length in 64 bits (RFC 6455, section 5.2).
        let mut head = vec![0x81, 127];
        head.extend((length as u64).to_be_bytes());
        self.socket.lock().get_mut().busy = true;
        if self.masks {
            let mut key = [0; 4];
            rand::fill(&mut key);
            head[1] |= 0x80;
            head.extend(key);
            self.write_all(&head).await?;
            for part in pieces.iter().flat_map(|piece| piece.chunks(MASKED)) {
                let mut part = part.to_vec();
                mask(&mut part, key);
                key.rotate_left(part.len() % 4);
                self.write_all(&part).await?;
            }
        } else {
            self.write_all(&head).await?;
            for piece in pieces {
                self.write_all(piece).await?;
            }
        }
        self.socket.lock().get_mut().busy = false;
        Ok(())
    }

    /// Writes to the stream under the library.
    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|context| {
                let mut socket = self.socket.lock();
                Pin::new(&mut socket.get_mut().stream).poll_write(context, bytes)
            });
            let written = written.await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends a ping.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn ping(&mut self) -> io::Result<()> {
        self.feed(Message::Ping(Bytes::new())).await?;
        self.flush().await
    }

    /// Sends a close frame.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn close(&mut self) -> io::Result<()> {
        let closed = poll_fn(|context| self.socket.lock().poll_close_unpin(context));
        match closed.await {
            Err(tungstenite::Error::ConnectionClosed) | Ok(()) => Ok(()),
            Err(err) => Err(to_io(err)),
        }
    }
}

/// Masks what begins where `key` does (RFC 6455, section 5.3).
fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let (words, rest) = bytes.as_chunks_mut();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(key)).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

fn text(line: Bytes) -> io::Result<Message> {
    let text =
        Utf8Bytes::try_from(line).map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))?;
    Ok(Message::Text(text))
}

fn to_io(err: tungstenite::Error) -> io::Error {
    match err {
        tungstenite::Error::Io(err) => err,
        other => io::Error::other(other),
    }
}

async fn next_line(socket: &mut Socket, lines: &mut Lines) -> Result<Option<Bytes>, LineError> {
    loop {
        if let Some(line) = lines.pop() {
            return line.map(Some);
        }
        let frame = socket.next().await;
        if let Some(Ok(Message::Text(_) | Message::Binary(_))) = frame {
            lines.continues = socket.get_mut().next_continues();
        }
        if !lines.push_frame(frame)? {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests;
