//! Our own stdin and stdout as asynchronous byte streams: threads of the runtime's read and write them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncWrite, Stdin, Stdout};

/// Our stdin.
pub type Input = Stdin;

/// Our stdout.
#[derive(Debug)]
pub struct Output(Stdout);

/// Our stdin. Within a runtime.
#[must_use]
pub fn input() -> Input {
    tokio::io::stdin()
}

/// Our stdout. Within a runtime.
#[must_use]
pub fn output() -> Output {
    Output(tokio::io::stdout())
}

impl Output {
    /// A thread writes, and cannot be asked.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`], always.
    pub fn try_write(&self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }
}
