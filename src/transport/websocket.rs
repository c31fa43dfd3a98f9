//! WebSocket: the upgrade, frames as lines, pings.
//!
//! A frame may hold several lines, part of a line (the rest follows in the next frame), or a
//! message without its newline; binary frames count as text.

use super::line::{LineError, read_much};
use super::{BoxedStream, Pulse, tls};
use crate::utils::bucket::{Bucket, Pace};
use crate::utils::rope::Pieces;
use crate::utils::secret::Secret;
use crate::utils::spare;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{
    HeaderMap, HeaderValue, Response as HttpResponse, StatusCode, header,
};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

/// The pace of pings.
pub const PING_EVERY: Duration = Duration::from_secs(30);

/// A peer that is not heard of for so long, pongs included, is gone.
const SILENCE: Duration = Duration::from_secs(90);

/// A peer may ping so often in a second …
const PINGS_PER_SECOND: u32 = 10;
/// … and so often at once. Each ping costs us a pong, which waits in memory where the peer does
/// not read.
const PING_BURST: u32 = 100;

/// The most of a refused origin that is told and logged, in characters.
const MAX_LOGGED_ORIGIN: usize = 256;

/// The subprotocol that MCP clients offer.
const SUBPROTOCOL: &str = "mcp";

/// What the library reads at once, from what has been read ahead of it. One such buffer lives as long
/// as its connection, and so much room it has behind a frame.
const READ_BUFFER: usize = 1024;

/// What the library gathers before it writes.
const WRITE_BUFFER: usize = 8 * 1024;

/// What is thrown away at once.
const DISCARDED: usize = 8 * 1024;

/// So much of such a line is masked at once.
const MASKED: usize = 64 * 1024;

/// A line of so many bytes goes out as its own frame, piece by piece: the library would keep room for
/// all of it, for as long as the connection lives.
const LARGE: usize = 64 * 1024;

/// A byte stream that hands out no more than its allowance, so that a stranger cannot make the
/// layer above gather a large frame.
pub struct Metered<S> {
    stream: S,
    allowance: Option<usize>,
    pulse: Pulse,
    /// What has been read and not yet been handed out: the library asks for little at once.
    ahead: Bytes,
    /// A frame is being written without the library, which has to wait.
    busy: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.allowance == Some(0) {
            return Poll::Ready(Err(io::Error::other("too much before authentication")));
        }
        let before = buffer.filled().len();
        if self.allowance.is_some() {
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        } else if self.ahead.is_empty() {
            let later = read_much(Pin::new(&mut self.stream), context, buffer);
            self.ahead = ready!(later)?;
        } else {
            let length = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(length));
        }
        let read = buffer.filled().len().saturating_sub(before);
        self.allowance = self.allowance.map(|left| left.saturating_sub(read));
        if read > 0 {
            self.pulse.beat();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Whoever makes it busy flushes the library afterwards.
        if self.busy {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

type Socket = WebSocketStream<Metered<BoxedStream>>;

/// What the upgrade request said beyond the upgrade.
#[derive(Debug, Default)]
pub struct Upgrade {
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<Secret>,
}

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// A web page asked, from an origin that is not allowed.
    #[error("origin '{0}' is not allowed")]
    Origin(String),
    /// A token in the URL, which ends up in the logs and histories of whatever lies between.
    #[error("a token in the URL; it belongs in 'Authorization: Bearer' or in the first frame")]
    TokenInUrl,
    /// Not a WebSocket upgrade, or it failed.
    #[error(transparent)]
    Failed(Box<tungstenite::Error>),
}

impl UpgradeError {
    /// The same for a client, to whom every failure is one of the connection.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Failed(err) => match *err {
                tungstenite::Error::Http(answer) if wants_tls(&answer) => tls::Mismatch.into(),
                err => to_io(err),
            },
            Self::Origin(_) | Self::TokenInUrl => io::Error::other(self),
        }
    }
}

/// Servers that speak TLS say so to plain HTTP, in their own words: ours "TLS", most others "HTTPS".
fn wants_tls(answer: &HttpResponse<Option<Vec<u8>>>) -> bool {
    let body = answer.body().as_deref().unwrap_or_default();
    let body = String::from_utf8_lossy(body);
    answer.status() == StatusCode::BAD_REQUEST
        && ["TLS", "HTTPS"].iter().any(|word| body.contains(word))
}

/// A WebSocket in one piece.
pub struct WebSocket {
    socket: Socket,
    lines: Lines,
    /// Which end this is: frames of a client are masked.
    masks: bool,
}

impl WebSocket {
    /// Answers the upgrade of a client. Until [`WebSocket::split`] the client may send
    /// `allowance` bytes at most, later messages of at most `limit`.
    ///
    /// # Errors
    /// A request that is no upgrade, or comes from a web page that is not allowed; it has been
    /// answered.
    pub async fn accept(
        stream: BoxedStream,
        allowance: Option<usize>,
        limit: usize,
        allowed_origins: &[String],
    ) -> Result<(Self, Upgrade), UpgradeError> {
        let mut upgrade = Upgrade::default();
        let mut refused = None;
        let stream = Metered {
            stream,
            allowance,
            pulse: Pulse::default(),
            ahead: Bytes::new(),
            busy: false,
        };
        // The shape of the callback's error is the library's.
        #[allow(clippy::result_large_err)]
        let on_request = |request: &Request, response: Response| {
            let refuse = |status, text: &str| {
                let mut response = ErrorResponse::new(Some(text.to_owned()));
                *response.status_mut() = status;
                Err(response)
            };
            if let Some(origin) = refused_origin(request.headers(), allowed_origins) {
                refused = Some(UpgradeError::Origin(origin));
                return refuse(StatusCode::FORBIDDEN, "this origin is not allowed\n");
            }
            if request.uri().query().is_some_and(has_token) {
                refused = Some(UpgradeError::TokenInUrl);
                let text = "a token does not belong in a URL; send 'Authorization: Bearer', or the token as the first frame\n";
                return refuse(StatusCode::BAD_REQUEST, text);
            }
            upgrade.bearer = bearer(request.headers());
            Ok(with_subprotocol(request.headers(), response))
        };
        let config = config(limit);
        match tokio_tungstenite::accept_hdr_async_with_config(stream, on_request, Some(config))
            .await
        {
            Ok(socket) => Ok((
                Self {
                    socket,
                    lines: Lines::default(),
                    masks: false,
                },
                upgrade,
            )),
            Err(err) => Err(refused.unwrap_or_else(|| UpgradeError::Failed(Box::new(err)))),
        }
    }

    /// Upgrades a connection to a server; `url` names the host and path.
    ///
    /// # Errors
    /// What the server or the stream says.
    pub async fn connect(
        stream: BoxedStream,
        url: &str,
        limit: usize,
    ) -> Result<Self, UpgradeError> {
        // No subprotocol is offered: the library would refuse servers that do not take it up.
        let stream = Metered {
            stream,
            allowance: None,
            pulse: Pulse::default(),
            ahead: Bytes::new(),
            busy: false,
        };
        match tokio_tungstenite::client_async_with_config(url, stream, Some(config(limit))).await {
            Ok((socket, _)) => Ok(Self {
                socket,
                lines: Lines::default(),
                masks: true,
            }),
            Err(err) => Err(UpgradeError::Failed(Box::new(err))),
        }
    }

    /// The next line, as [`WebSocketReader::next`].
    ///
    /// # Errors
    /// What the stream says.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        next_line(&mut self.socket, &mut self.lines).await
    }

    /// Sends one line as one frame.
    ///
    /// # Errors
    /// What the stream says.
    pub async fn send(&mut self, line: Vec<u8>) -> io::Result<()> {
        self.socket.send(text(line.into())?).await.map_err(to_io)
    }

    /// Says goodbye and waits for the far end to hang up.
    pub async fn close(&mut self) {
        if self.socket.close(None).await.is_ok() {
            hear_out(&mut self.socket).await;
        }
    }

    /// Lifts the allowance; reading and writing go on side by side. Lines may be `limit` long.
    #[must_use]
    pub fn split(mut self, limit: usize) -> (WebSocketReader, WebSocketWriter) {
        self.socket.get_mut().allowance = None;
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

/// The origin of a web page that may not come in. Programs send no `Origin`.
fn refused_origin(headers: &HeaderMap, allowed: &[String]) -> Option<String> {
    let origin = String::from_utf8_lossy(headers.get(header::ORIGIN)?.as_bytes()).into_owned();
    let refused = !allowed.contains(&origin);
    refused.then(|| origin.chars().take(MAX_LOGGED_ORIGIN).collect())
}

/// True when one of the parameters of a query is a token by its name.
fn has_token(query: &str) -> bool {
    let names = query
        .split(['&', ';'])
        .filter_map(|pair| pair.split('=').next());
    let is_token = |name: &str| {
        ["token", "access_token", "jwt"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    };
    names.into_iter().any(is_token)
}

fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim().to_owned().into())
}

fn with_subprotocol(headers: &HeaderMap, mut response: Response) -> Response {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut names = offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    if names.any(|name| name.trim() == SUBPROTOCOL) {
        let chosen = HeaderValue::from_static(SUBPROTOCOL);
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    response
}

/// A socket that is read and written side by side.
#[derive(Clone)]
struct Shared(Arc<Mutex<Socket>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Socket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    pulse: Pulse,
}

impl WebSocketReader {
    /// Beats with every read.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// The next line; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// What the stream says, a line over the limit, or silence for too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            if let Some(line) = self.lines.pop() {
                return line.map(Some);
            }
            // A long frame on a slow connection is no silence.
            let socket = &self.socket;
            let next = poll_fn(|context| socket.lock().poll_next_unpin(context));
            let frame = tokio::select! {
                biased;
                frame = next => frame,
                () = self.pulse.stop(SILENCE.saturating_sub(self.heard.elapsed())) => {
                    return Err(LineError::Silent(SILENCE));
                }
            };
            self.heard = Instant::now();
            if let Some(Ok(Message::Ping(_))) = frame {
                let pace = Pace::new(PINGS_PER_SECOND, PING_BURST);
                if self.pings.take(&pace, self.heard.into_std()).is_err() {
                    return Err(LineError::Pings);
                }
            }
            if !self.lines.push_frame(frame)? {
                return Ok(None);
            }
            let frame = &self.lines.rest;
            self.large.1 += frame.len();
            if frame.len() >= LARGE {
                self.large = (frame.clone(), 0);
            } else if self.large.1 > READ_BUFFER && !self.large.0.is_empty() {
                spare::used(self.large.0.len());
                self.large.0 = Bytes::new();
            }
        }
    }

    /// Throws away what still comes, until the end. `writer` is the other half of this.
    pub async fn discard(self, writer: WebSocketWriter) {
        drop(writer);
        if let Some(socket) = Arc::into_inner(self.socket.0) {
            hear_out(&mut socket.into_inner().unwrap_or_else(PoisonError::into_inner)).await;
        }
    }
}

/// Throws away what still comes. Where the frames have become unreadable (one was too long, say)
/// the bytes behind them are read as well: closing on unread bytes would reset the connection, and
/// our last words with it.
async fn hear_out(socket: &mut Socket) {
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
    /// What the stream says.
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
    /// What the stream says.
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
    /// What the stream says.
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
    /// What the stream says.
    pub async fn ping(&mut self) -> io::Result<()> {
        self.feed(Message::Ping(Bytes::new())).await?;
        self.flush().await
    }

    /// Sends a close frame.
    ///
    /// # Errors
    /// What the stream says.
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
        if !lines.push_frame(frame)? {
            return Ok(None);
        }
    }
}

/// Makes lines of frames, one at a time: a frame of nothing but newlines is no larger in here than
/// on the wire.
struct Lines {
    /// What has not been looked at yet of the last frame.
    rest: Bytes,
    /// The beginning of a line whose end has not come.
    partial: BytesMut,
    balance: Balance,
    limit: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            rest: Bytes::new(),
            partial: BytesMut::new(),
            balance: Balance::default(),
            limit: usize::MAX,
        }
    }
}

impl Lines {
    /// The next line of the last frame; `None` when another frame is needed.
    fn pop(&mut self) -> Option<Result<Bytes, LineError>> {
        if let Some(end) = memchr::memchr(b'\n', &self.rest) {
            let mut line = self.rest.split_to(end + 1);
            line.truncate(end);
            return Some(self.end_line(line));
        }
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return None;
        }
        // No newline: a whole message, or the beginning of one?
        self.balance.read(&rest);
        if self.balance.is_whole() {
            return Some(self.end_line(rest));
        }
        if self.partial.len() + rest.len() > self.limit {
            return Some(Err(LineError::TooLong { limit: self.limit }));
        }
        self.partial.extend_from_slice(&rest);
        None
    }

    /// Takes a frame, after [`Lines::pop`] has given all of the last one; false at the end of the
    /// stream.
    fn push_frame(
        &mut self,
        frame: Option<Result<Message, tungstenite::Error>>,
    ) -> Result<bool, LineError> {
        match frame {
            Some(Ok(Message::Text(text))) => self.rest = text.into(),
            Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed)) | None => {
                return Ok(false);
            }
            Some(Err(tungstenite::Error::Capacity(_))) => {
                return Err(LineError::TooLong { limit: self.limit });
            }
            Some(Err(err)) => return Err(to_io(err).into()),
        }
        Ok(true)
    }

    fn end_line(&mut self, end: Bytes) -> Result<Bytes, LineError> {
        self.balance = Balance::default();
        let line = if self.partial.is_empty() {
            end
        } else {
            self.partial.extend_from_slice(&end);
            self.partial.split().freeze()
        };
        if line.len() > self.limit {
            return Err(LineError::TooLong { limit: self.limit });
        }
        spare::used(line.len());
        Ok(line)
    }
}

/// Counts brackets, to tell a whole message from the beginning of one. What is no object or list
/// cannot be a message, whole or not, so it counts as whole.
#[derive(Default)]
struct Balance {
    begun: bool,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Balance {
    fn read(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        while let Some((byte, rest)) = bytes.split_first() {
            bytes = rest;
            match (self.in_string, byte) {
                (true, _) if self.escaped => self.escaped = false,
                (true, b'\\') => self.escaped = true,
                (_, b'"') => self.in_string = !self.in_string,
                (false, b'{' | b'[') => self.depth += 1,
                (false, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            self.begun |= !byte.is_ascii_whitespace();
            if self.in_string && !self.escaped {
                let end = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
                bytes = bytes.get(end..).unwrap_or_default();
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.begun && self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(frames: &[&str]) -> Vec<String> {
        let mut lines = Lines {
            limit: 1000,
            ..Lines::default()
        };
        let mut read = Vec::new();
        for frame in frames {
            lines.rest = Bytes::copy_from_slice(frame.as_bytes());
            while let Some(line) = lines.pop() {
                read.push(String::from_utf8(line.unwrap().to_vec()).unwrap());
            }
        }
        read
    }

    #[test]
    fn what_is_masked_in_parts_is_masked_alike() {
        let plain: Vec<u8> = (0..=255).collect();
        let key = [1, 2, 4, 8];
        let expected: Vec<u8> = plain
            .iter()
            .zip(key.iter().cycle())
            .map(|(a, b)| a ^ b)
            .collect();
        for cut in 0..plain.len() {
            let mut masked = plain.clone();
            let (first, second) = masked.split_at_mut(cut);
            let mut key = key;
            mask(first, key);
            key.rotate_left(cut % 4);
            mask(second, key);
            assert_eq!(masked, expected, "cut at {cut}");
        }
    }

    #[test]
    fn debug_does_not_show_the_token() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::AUTHORIZATION,
            HeaderValue::from_static("Bearer hunter2"),
        );
        let upgrade = Upgrade {
            bearer: bearer(&headers),
        };
        assert!(
            upgrade
                .bearer
                .as_ref()
                .is_some_and(|token| token.expose() == "hunter2")
        );
        assert!(!format!("{upgrade:?}").contains("hunter"));
    }

    #[test]
    fn tokens_in_queries_are_seen() {
        for (query, seen) in [
            ("token=x", true),
            ("a=b&access_token=x", true),
            ("a;JWT=x&b", true),
            ("token", true),
            ("", false),
            ("tokens=x&a=token&max_token=1", false),
        ] {
            assert_eq!(has_token(query), seen, "{query}");
        }
    }

    #[test]
    fn frames_become_lines() {
        assert_eq!(lines_of(&["{\"a\":1}\n"]), ["{\"a\":1}"]);
        assert_eq!(lines_of(&["{\"a\":1}"]), ["{\"a\":1}"]);
        assert_eq!(
            lines_of(&["{\"a\":1}\n{}\n[]\n"]),
            ["{\"a\":1}", "{}", "[]"]
        );
        assert_eq!(
            lines_of(&["{\"a\":\"}\\\"", "\"}", "{}"]),
            ["{\"a\":\"}\\\"\"}", "{}"]
        );
        assert_eq!(
            lines_of(&["{\"a\":", "1}\n{\"b\":", "2}"]),
            ["{\"a\":1}", "{\"b\":2}"]
        );
        assert_eq!(lines_of(&["token"]), ["token"]);
        assert_eq!(lines_of(&["{"]), Vec::<String>::new());
        assert_eq!(lines_of(&["{", "oops\n{}"]), ["{oops", "{}"]);
        assert_eq!(lines_of(&["", "\r\n"]), ["\r"]);
    }

    /// In virtual time.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_even_ping_is_gone() {
        let (near, far) = tokio::io::duplex(4096);
        let (server, client) = tokio::join!(
            WebSocket::accept(Box::new(far), None, 1000, &[]),
            WebSocket::connect(Box::new(near), "ws://localhost/", 1000),
        );
        let (mut reader, _writer) = server.unwrap().0.split(1000);
        let (_reader, mut writer) = client.unwrap().split(1000);
        let pings = async {
            for _ in 0..5 {
                tokio::time::sleep(SILENCE - Duration::from_secs(10)).await;
                writer.ping().await.unwrap();
            }
            Instant::now()
        };
        let silence = async {
            let read = reader.next().await;
            assert!(matches!(read, Err(LineError::Silent(SILENCE))), "{read:?}");
            Instant::now()
        };
        let (last, found) = tokio::join!(pings, silence);
        let silent = found - last;
        assert!(
            silent >= SILENCE && silent < SILENCE * 17 / 16 + Duration::from_secs(1),
            "{silent:?}"
        );
    }
}
