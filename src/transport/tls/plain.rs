//! Plain text that notices when the far end speaks TLS.

use super::{ALERT, HANDSHAKE};
use crate::transport::foreign::WrongTransport;
use memchr::memmem;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The far end speaks TLS, and we do not.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the other end speaks TLS, and this one does not")]
pub struct Mismatch;

impl From<Mismatch> for io::Error {
    fn from(mismatch: Mismatch) -> Self {
        Self::new(io::ErrorKind::InvalidData, mismatch)
    }
}

/// True for an error that a [`Mismatch`] is the cause of.
#[must_use]
pub fn is_mismatch(err: &io::Error) -> bool {
    err.get_ref().is_some_and(|inner| inner.is::<Mismatch>())
}

/// A connection without TLS. Its first byte shows what the far end speaks, so there is no need to
/// wait for it separately.
pub struct Plain<S> {
    stream: S,
    /// The answer to a far end that speaks TLS, until its first byte has arrived.
    answer: Option<Vec<u8>>,
    /// Answers are HTTP, so one that begins as JSON comes from another kind of port.
    is_http: bool,
    /// Is called then, too, because not every reader reports its errors.
    notice: fn(),
}

impl<S> Plain<S> {
    /// A far end that turns out to speak TLS is sent `answer`, and reading fails.
    #[must_use]
    pub fn new(stream: S, answer: Vec<u8>) -> Self {
        Self {
            stream,
            answer: Some(answer),
            is_http: false,
            notice: || {},
        }
    }

    /// Has reading fail, too, where a port for lines answers what is no HTTP.
    #[must_use]
    pub fn for_http(mut self) -> Self {
        self.is_http = true;
        self
    }

    /// Has `notice` called when the far end turns out to speak TLS.
    #[must_use]
    pub fn noticed_by(mut self, notice: fn()) -> Self {
        self.notice = notice;
        self
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Plain<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if self.answer.is_none() {
            return Poll::Ready(Ok(()));
        }
        let first = buffer.filled().get(before).copied();
        let answer = first.and_then(|_| self.answer.take());
        if let (Some(HANDSHAKE | ALERT), Some(answer)) = (first, answer) {
            buffer.set_filled(before);
            // Nothing was sent before, so there is room; losing it does no harm.
            (self.notice)();
            let _told = Pin::new(&mut self.stream).poll_write(context, &answer);
            return Poll::Ready(Err(Mismatch.into()));
        }
        // Every answer over HTTP/1 begins with its name, perhaps after a line break.
        if self.is_http && first.is_some_and(|first| !matches!(first, b'H' | b'\r' | b'\n')) {
            // Only a port with TLS does not recognise our HTTP.
            let said = buffer.filled().get(before..).unwrap_or_default();
            let wants_tls = memmem::find(said, b"\"tls-required\"").is_some();
            buffer.set_filled(before);
            return Poll::Ready(Err(match first {
                Some(b'{') if wants_tls => Mismatch.into(),
                Some(b'{') => WrongTransport::Tcp.into(),
                _ => WrongTransport::NoHttp.into(),
            }));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Plain<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
