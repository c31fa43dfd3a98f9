//! Unix sockets, which tokio does not support on Windows: using one is an error.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

fn unsupported() -> io::Error {
    let text = "this program has no Unix sockets on Windows; use tcp, ws or http";
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// A listener, of which there is none.
#[derive(Debug)]
pub struct Listener(Infallible);

impl Listener {
    /// # Errors
    /// Always.
    pub fn bind(_path: &Path) -> io::Result<Self> {
        Err(unsupported())
    }

    /// # Errors
    /// None: there is no socket.
    pub fn inherited(socket: Infallible) -> io::Result<Self> {
        match socket {}
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self.0 {}
    }

    /// The next connection.
    ///
    /// # Errors
    /// None: there is no listener.
    pub fn poll_accept(&self, _context: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        match self.0 {}
    }
}

/// A connection, of which there is none.
#[derive(Debug)]
pub struct Stream(Infallible);

/// # Errors
/// None: there is no connection.
pub async fn peek(stream: &Stream) -> io::Result<usize> {
    match stream.0 {}
}

/// # Errors
/// Always.
pub async fn connect(_path: &Path) -> io::Result<Stream> {
    Err(unsupported())
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        _buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        _bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}
