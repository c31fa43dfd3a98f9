//! Bytes on the wire, as lines: [`Connection`] before a peer is known, [`Reader`] and [`Writer`]
//! after. Closed enums over the transports; of JSON they know where a message ends, and the outline of one
//! that is too long.

pub mod empty;
pub mod foreign;
pub mod line;
pub mod outlet;
pub mod proxy_header;
pub mod socket;
pub mod sse;
pub mod tcp;
pub mod tls;
pub mod websocket;

use crate::backlog::Part;
use crate::jsonrpc::Outline;
use crate::liveness::Silence;
use crate::utils::chunks::Pieces;
use bytes::Bytes;
use line::{LineError, LineReader, LineWriter};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use websocket::{WebSocket, WebSocketReader, WebSocketWriter};

/// How long a closing connection may take to receive our last line.
const LINGER: Duration = Duration::from_secs(1);

/// The most that [`Writer::try_send`] takes, in bytes.
pub const SMALL: usize = 32 * 1024;

/// Notes every arrival on a stream, even in the middle of a long line.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicUsize>);

impl Pulse {
    /// Something has arrived.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Completes when nothing has arrived for `limit`, or a little longer.
    pub async fn stop(&self, limit: Duration) {
        let beats = || self.0.load(Ordering::Relaxed);
        let now = || Instant::now().into_std();
        let mut silence = Silence::new(limit, beats(), now());
        while !silence.is_over_limit(beats(), now()) {
            tokio::time::sleep(silence.pace()).await;
        }
    }
}

/// A byte stream under a transport.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A byte stream of any kind.
pub type BoxedStream = Box<dyn Stream>;

type ReadHalf = tokio::io::ReadHalf<BoxedStream>;
type WriteHalf = tokio::io::WriteHalf<BoxedStream>;

/// Which transport a command speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Lines over TCP.
    Tcp,
    /// Frames over WebSocket.
    WebSocket,
    /// Lines over a Unix socket.
    Unix,
}

impl From<Protocol> for crate::metrics::Transport {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::WebSocket => Self::WebSocket,
            Protocol::Unix => Self::Unix,
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::WebSocket => "WebSocket",
            Self::Unix => "Unix",
        })
    }
}

/// An open connection in one piece, as the token exchange needs it.
pub enum Connection {
    /// Lines over a byte stream.
    Line(LineReader<ReadHalf>, LineWriter<WriteHalf>),
    /// Frames over WebSocket.
    WebSocket(Box<WebSocket>),
}

impl Connection {
    /// Lines of at most `limit` bytes over `stream`.
    #[must_use]
    pub fn over_stream(stream: BoxedStream, limit: usize) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self::Line(LineReader::new(read, limit), LineWriter::new(write))
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// The stream's error, or a line over the limit.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        match self {
            Self::Line(reader, _) => reader.next().await,
            Self::WebSocket(socket) => socket.next().await,
        }
    }

    /// Sends one line, which ends with its newline.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn send(&mut self, line: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Line(_, writer) => writer.send(&[Bytes::from(line)]).await,
            Self::WebSocket(socket) => socket.send(line).await,
        }
    }

    /// Closes so that the far end can still read what was sent: further input is discarded for up
    /// to a second, since closing with unread bytes resets a TCP connection.
    pub async fn close(mut self) {
        let drain = async {
            match &mut self {
                Self::Line(reader, writer) => {
                    if writer.close().await.is_ok() {
                        reader.discard().await;
                    }
                }
                Self::WebSocket(socket) => socket.close().await,
            }
        };
        // A peer that does not close in time is dropped.
        let _slow = tokio::time::timeout(LINGER, drain).await;
    }

    /// Sends one line, which ends with its newline, and closes.
    pub async fn close_with(mut self, line: Vec<u8>) {
        let sent = tokio::time::timeout(LINGER, self.send(line)).await;
        if let Ok(Ok(())) = sent {
            self.close().await;
        }
    }

    /// Sets the limit of lines, and splits into halves for reading and writing.
    #[must_use]
    pub fn split(self, limit: usize) -> (Reader, Writer) {
        match self {
            Self::Line(mut reader, writer) => {
                reader.set_limit(limit);
                (Reader::Line(reader), Writer::Line(writer))
            }
            Self::WebSocket(socket) => {
                let (reader, writer) = socket.split(limit);
                (
                    Reader::WebSocket(Box::new(reader)),
                    Writer::WebSocket(writer),
                )
            }
        }
    }
}

/// The receiving half of a connection.
pub enum Reader {
    /// Lines over a byte stream.
    Line(LineReader<ReadHalf>),
    /// Frames over WebSocket.
    WebSocket(Box<WebSocketReader>),
}

impl Reader {
    /// The counter of arrivals.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        match self {
            Self::Line(reader) => reader.pulse(),
            Self::WebSocket(reader) => reader.pulse(),
        }
    }

    /// Counts as `held` the memory of incomplete lines.
    pub fn hold(&mut self, held: Part) {
        match self {
            Self::Line(reader) => reader.hold(held),
            Self::WebSocket(reader) => reader.hold(held),
        }
    }

    /// The next line; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// The stream's error, a line over the limit, or (WebSocket) a silence that is too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        match self {
            Self::Line(reader) => reader.next().await,
            Self::WebSocket(reader) => reader.next().await,
        }
    }

    /// Reads to the end of a line of which [`Reader::next`] has said that it is too long, and follows it
    /// in `outline`; false where the stream ends before the line does. Cancel safe.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn skip(&mut self, outline: &mut Outline) -> io::Result<bool> {
        match self {
            Self::Line(reader) => reader.skip(|piece| outline.see(piece)).await,
            Self::WebSocket(reader) => {
                *outline = reader.skipped();
                Ok(true)
            }
        }
    }
}

/// The sending half of a connection.
pub enum Writer {
    /// Lines over a byte stream.
    Line(LineWriter<WriteHalf>),
    /// Frames over WebSocket.
    WebSocket(WebSocketWriter),
}

impl Writer {
    /// Sends lines, each with its newline, and flushes.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn send(&mut self, lines: &[impl Pieces]) -> io::Result<()> {
        match self {
            Self::Line(writer) => writer.send(lines).await,
            Self::WebSocket(writer) => writer.send(lines).await,
        }
    }

    /// As [`Writer::send`], as far as the connection takes it at once, for lines of at most
    /// [`SMALL`] bytes in all. True when that was everything; the rest goes out with the next call of
    /// any kind.
    ///
    /// # Errors
    /// The stream's error.
    pub fn try_send(&mut self, lines: &[impl Pieces]) -> io::Result<bool> {
        match self {
            Self::Line(writer) => writer.try_send(lines),
            Self::WebSocket(writer) => writer.try_send(lines),
        }
    }

    /// Sends what is left of earlier calls. Cancel safe.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Line(writer) => writer.flush().await,
            Self::WebSocket(writer) => writer.flush().await,
        }
    }

    /// Sends a ping if the transport has one; else detects whether the far end is gone.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn ping(&mut self) -> io::Result<()> {
        match self {
            Self::Line(writer) => writer.probe().await,
            Self::WebSocket(writer) => writer.ping().await,
        }
    }

    /// Probes whether a far end that has closed its sending half is gone altogether: if so, the next call
    /// fails.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn probe_half_closed(&mut self) -> io::Result<()> {
        match self {
            Self::Line(writer) => writer.send_space().await,
            Self::WebSocket(writer) => writer.ping().await,
        }
    }

    /// Closes the sending half.
    ///
    /// # Errors
    /// The stream's error.
    pub async fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Line(writer) => writer.close().await,
            Self::WebSocket(writer) => writer.close().await,
        }
    }
}

/// Sends the last lines and closes, as [`Connection::close`] does.
pub async fn close(reader: Reader, mut writer: Writer, last_words: &[Bytes]) {
    // Boxed, so that callers' futures stay small.
    let drain = Box::pin(async {
        if writer.send(last_words).await.is_err() || writer.close().await.is_err() {
            return;
        }
        match (reader, writer) {
            (Reader::WebSocket(reader), Writer::WebSocket(writer)) => reader.discard(writer).await,
            (Reader::Line(mut reader), _) => reader.discard().await,
            (Reader::WebSocket(_), _) => {}
        }
    });
    let _slow = tokio::time::timeout(LINGER, drain).await;
}
