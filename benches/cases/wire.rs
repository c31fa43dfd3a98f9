//! A connection that never blocks: it repeats the same line, and discards what is sent.

use bytes::Bytes;
use futures_util::FutureExt;
use mcp_remote::transport::websocket::WebSocket;
use mcp_remote::transport::{Connection, Reader, Writer};
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How lines are framed.
#[derive(Clone, Copy, Debug)]
pub enum Transport {
    /// By newlines.
    Lines,
    /// As masked WebSocket frames, sent by a client and read by a server.
    WebSocket,
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const LIMIT: usize = 1 << 24;

impl Transport {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Lines, Self::WebSocket];

    /// A connection over which `line` comes, with its newline.
    pub fn connection(self, line: &[u8]) -> (Reader, Writer) {
        let mut wire = Wire::default();
        let connection = match self {
            Self::Lines => {
                wire.repeated = [line, b"\n"].concat().into();
                Connection::over_stream(Box::new(wire), LIMIT)
            }
            Self::WebSocket => {
                wire.opening = Bytes::from_static(UPGRADE.as_bytes());
                wire.repeated = frame(&[line, b"\n"].concat()).into();
                let accepted = WebSocket::accept(Box::new(wire), Bytes::new(), None, LIMIT, &[]);
                let accepted = accepted.now_or_never().expect("the request is there");
                let (socket, _) = accepted.expect("an upgrade");
                Connection::WebSocket(Box::new(socket))
            }
        };
        connection.split(LIMIT)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lines => "lines",
            Self::WebSocket => "websocket",
        })
    }
}

/// A text frame as clients send it (RFC 6455, section 5.2).
fn frame(payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![0x81];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ ..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

#[derive(Default)]
struct Wire {
    opening: Bytes,
    repeated: Bytes,
    /// The unread rest of the current line.
    rest: Bytes,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            self.rest = match std::mem::take(&mut self.opening) {
                opening if opening.is_empty() => self.repeated.clone(),
                opening => opening,
            };
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(std::hint::black_box(bytes).len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
