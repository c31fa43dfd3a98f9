//! What lies between the WebSocket library and the stream.

use super::frames::{Begun, Frames};
use crate::backlog::Part;
use crate::transport::Pulse;
use crate::transport::line::read_much;
use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

/// A byte stream that hands out no more than its allowance, so that an unauthenticated peer cannot make the
/// layer above buffer a large frame, and that yields to other tasks between frames, since the layer above
/// keeps reading until a message is complete.
pub(super) struct Metered<S> {
    pub stream: S,
    pub allowance: Option<usize>,
    pub pulse: Pulse,
    /// What has been read and not yet been handed out: the library asks for little at once.
    ahead: Bytes,
    /// A frame is being written without the library, which has to wait.
    pub busy: bool,
    /// Counts and cuts the frames that come; `None` before the upgrade, and at a client.
    pub frames: Option<Frames>,
    /// Counts what is kept of messages.
    held: Part,
    /// How much the layers above keep beside the message under way.
    kept: usize,
    /// How much has been handed out of the message under way.
    message: usize,
    /// How many small frames have arrived that were not queried yet.
    small: usize,
    /// How many frames have been handed out that were not charged to the task's budget yet.
    unpaid: usize,
}

impl<S> Metered<S> {
    /// `ahead` has been read from the stream already.
    pub(super) fn new(stream: S, ahead: Bytes, allowance: Option<usize>) -> Self {
        Self {
            stream,
            allowance,
            pulse: Pulse::default(),
            ahead,
            busy: false,
            frames: None,
            held: Part::default(),
            kept: 0,
            message: 0,
            small: 0,
            unpaid: 0,
        }
    }

    /// Counts as `held` what is kept of messages.
    pub(super) fn hold(&mut self, held: Part) {
        self.held = held;
    }

    /// The last message has been handed over; so much of it, and of those before, is still kept.
    pub(super) fn begin_message(&mut self, kept: usize) {
        self.kept = kept;
        self.message = 0;
        self.held.set(kept);
    }

    /// From now on messages come in their fragments, and those of more than `limit` bytes in pieces.
    pub(super) fn cut(&mut self, limit: usize) {
        if let Some(frames) = &mut self.frames {
            frames.limit = Some(limit);
        }
    }

    /// True where the message goes on behind the next data frame that the library gives.
    pub(super) fn next_continues(&mut self) -> bool {
        self.frames.as_mut().is_some_and(Frames::next_continues)
    }

    /// How many small frames have come since the last call.
    pub(super) fn take_small(&mut self) -> usize {
        std::mem::take(&mut self.small)
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
        let this = &mut *self;
        let before = buffer.filled().len();
        // Half a head leaves nothing to hand out.
        while buffer.filled().len() == before {
            while this.unpaid > 0 {
                ready!(coop::poll_proceed(context)).made_progress();
                this.unpaid -= 1;
            }
            let ended = !ready!(this.poll_more(context, buffer))?;
            if ended {
                break;
            }
            this.pulse.beat();
        }
        let read = buffer.filled().len().saturating_sub(before);
        this.allowance = this.allowance.map(|left| left.saturating_sub(read));
        if read > 0 {
            this.message += read;
            let held = this.kept + this.message;
            this.held.set(held);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Metered<S> {
    /// Hands out some of what has been read, or reads; false at the end of the stream.
    fn poll_more(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let mut begun = Begun::default();
        let frames = &mut self.frames;
        let more = if !self.ahead.is_empty() || frames.as_ref().is_some_and(Frames::is_staged) {
            let taken = pass(frames, &self.ahead, buffer, &mut begun);
            self.ahead.advance(taken);
            true
        } else if self.allowance.is_some() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            let read = buffer.filled().get(before..).unwrap_or_default();
            if let Some(frames) = frames {
                begun = frames.see(read);
            }
            !read.is_empty()
        } else {
            let stream = Pin::new(&mut self.stream);
            let read = read_much(stream, context, |read| {
                pass(frames, read, buffer, &mut begun)
            });
            let (read, later) = ready!(read)?;
            self.ahead = later;
            read > 0
        };
        self.small += begun.small;
        self.unpaid += begun.all;
        Poll::Ready(Ok(more))
    }
}

/// Hands out as much of `bytes` as there is room for; gives how much of them that was.
fn pass(
    frames: &mut Option<Frames>,
    bytes: &[u8],
    buffer: &mut ReadBuf<'_>,
    begun: &mut Begun,
) -> usize {
    match frames {
        Some(frames) => frames.pass(bytes, buffer, begun),
        None => {
            let length = bytes.len().min(buffer.remaining());
            buffer.put_slice(bytes.get(..length).unwrap_or_default());
            length
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // The writer that sets this flushes the library afterwards.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::AsyncReadExt;

    /// Bug: a peer that sent frames without a message kept all others waiting until everything it had sent
    /// was read.
    #[tokio::test]
    async fn others_have_their_turns_between_frames() {
        const FRAMES: usize = 20_000;
        // Empty, masked fragments of a message that does not end.
        let stream = [0, 0x80, 1, 2, 3, 4].repeat(FRAMES);
        let mut metered = Metered::new(
            tokio::io::join(&*stream, tokio::io::sink()),
            Bytes::new(),
            None,
        );
        metered.frames = Some(Frames::default());
        let turns = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&turns);
        let others = tokio::spawn(async move {
            loop {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let mut buffer = [0; 1024];
        while metered.read(&mut buffer).await.unwrap() > 0 {}
        others.abort();
        assert_eq!(metered.take_small(), FRAMES);
        // The budget of a turn.
        let expected = FRAMES / 128;
        let turns = turns.load(Ordering::Relaxed);
        assert!(turns >= expected, "{turns} turns, not {expected}");
    }
}
