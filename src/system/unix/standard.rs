//! Our own stdin and stdout as asynchronous byte streams.
//!
//! Hosts give us pipes (Python, Rust) or sockets (Node). These are polled like any connection, so
//! that no message waits for another thread; anything else (a terminal, a file) is read and written
//! by threads of the runtime's.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, fstat};
use rustix::net::{AddressFamily, getsockname};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

/// Our stdin.
#[derive(Debug)]
pub enum Input {
    /// A pipe, reopened.
    Pipe(pipe::Receiver),
    /// A socket.
    Socket(UnixStream),
    /// Anything else.
    Other(tokio::io::Stdin),
}

/// Our stdout.
#[derive(Debug)]
pub enum Output {
    /// A pipe, reopened.
    Pipe(pipe::Sender),
    /// A socket.
    Socket(UnixStream),
    /// Anything else.
    Other(tokio::io::Stdout),
}

/// Our stdin. Within a runtime.
#[must_use]
pub fn input() -> Input {
    let stdin = io::stdin();
    let polled = match kind(&stdin) {
        Some(FileType::Fifo) => pipe::OpenOptions::new()
            .open_receiver("/proc/self/fd/0")
            .map(Input::Pipe),
        Some(FileType::Socket) => socket(&stdin).map(Input::Socket),
        _ => Err(io::ErrorKind::Unsupported.into()),
    };
    polled.unwrap_or_else(|_| Input::Other(tokio::io::stdin()))
}

/// Our stdout. Within a runtime.
#[must_use]
pub fn output() -> Output {
    let stdout = io::stdout();
    let polled = match kind(&stdout) {
        Some(FileType::Fifo) => pipe::OpenOptions::new()
            .open_sender("/proc/self/fd/1")
            .map(Output::Pipe),
        Some(FileType::Socket) => socket(&stdout).map(Output::Socket),
        _ => Err(io::ErrorKind::Unsupported.into()),
    };
    polled.unwrap_or_else(|_| Output::Other(tokio::io::stdout()))
}

fn kind(stream: &impl AsFd) -> Option<FileType> {
    Some(FileType::from_raw_mode(fstat(stream).ok()?.st_mode))
}

/// Unlike a pipe a socket cannot be reopened, so it becomes non-blocking for all processes that
/// share it. It must not be our stderr as well: log lines would get lost.
fn socket(stream: &impl AsFd) -> io::Result<UnixStream> {
    let (own, stderr) = (fstat(stream)?, fstat(io::stderr())?);
    let shared = (own.st_dev, own.st_ino) == (stderr.st_dev, stderr.st_ino);
    if shared || getsockname(stream)?.address_family() != AddressFamily::UNIX {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let own: OwnedFd = stream.as_fd().try_clone_to_owned()?;
    let socket = std::os::unix::net::UnixStream::from(own);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

impl Output {
    /// Writes what is taken at once, without waiting.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::WouldBlock`] where nothing is taken at once.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => pipe.try_write(bytes),
            Self::Socket(socket) => socket.try_write(bytes),
            // A thread of the runtime's writes, and cannot be asked.
            Self::Other(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_read(context, buffer),
            Self::Socket(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Other(stdin) => Pin::new(stdin).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_write(context, bytes),
            Self::Socket(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Other(stdout) => Pin::new(stdout).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_flush(context),
            Self::Socket(socket) => Pin::new(socket).poll_flush(context),
            Self::Other(stdout) => Pin::new(stdout).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}
