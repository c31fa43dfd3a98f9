//! What lies between the WebSocket library and the stream.

use crate::transport::Pulse;
use crate::transport::line::read_much;
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream that hands out no more than its allowance, so that a stranger cannot make the
/// layer above gather a large frame.
pub(super) struct Metered<S> {
    pub stream: S,
    pub allowance: Option<usize>,
    pub pulse: Pulse,
    /// What has been read and not yet been handed out: the library asks for little at once.
    ahead: Bytes,
    /// A frame is being written without the library, which has to wait.
    pub busy: bool,
}

impl<S> Metered<S> {
    pub fn new(stream: S, allowance: Option<usize>) -> Self {
        Self {
            stream,
            allowance,
            pulse: Pulse::default(),
            ahead: Bytes::new(),
            busy: false,
        }
    }
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
