//! Bytes into lines, over a plain stream and over WebSocket: however they are split, nothing is lost,
//! duplicated, reordered or too long.

use bytes::Bytes;
use mcp_remote::transport::line::{LineError, LineReader};
use mcp_remote::transport::websocket::WebSocket;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Returns its pieces one by one, then ends; accepts all writes.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// Each piece costs a full turn, and thousands of them find no more than this many.
const MAX_PIECES: usize = 64;

/// The first byte selects the transport, the second a limit or the size of pieces.
pub fn run(data: &[u8]) {
    let [kind, size, rest @ ..] = data else {
        return;
    };
    let rest = &rest[..rest.len().min(1024)];
    if kind & 1 == 0 {
        stream(rest, usize::from(*size), usize::from(kind >> 1) + 1);
    } else {
        websocket(rest, usize::from(*size) + 1);
    }
}

/// Pieces of `size`, or larger ones if these would be too many.
fn pieces(bytes: &[u8], size: usize) -> impl Iterator<Item = Vec<u8>> {
    let size = size.max(bytes.len().div_ceil(MAX_PIECES));
    bytes.chunks(size).map(<[u8]>::to_vec)
}

fn stream(bytes: &[u8], limit: usize, size: usize) {
    let mut reader = LineReader::new(Pieces(pieces(bytes, size).collect()), limit);
    let mut lines: Vec<Option<Vec<u8>>> = Vec::new();
    block_on(async {
        loop {
            match reader.next().await {
                Ok(Some(line)) => lines.push(Some(line.to_vec())),
                Ok(None) => return,
                Err(LineError::TooLong { .. }) => lines.push(None),
                Err(other) => panic!("{other}"),
            }
        }
    });
    let judged = |line: &[u8]| (line.len() <= limit).then(|| line.to_vec());
    let mut expected: Vec<_> = bytes.split(|byte| *byte == b'\n').map(judged).collect();
    match expected.pop().expect("split gives at least one") {
        Some(last) => assert_eq!(reader.rest(), last),
        // Reported as soon as it was too long, and only once.
        None => assert_eq!(lines.pop(), Some(None)),
    }
    assert_eq!(lines, expected);
}

/// Each frame: its first byte, the length of its payload, the payload.
fn websocket(mut bytes: &[u8], size: usize) {
    let (mut wire, mut data) = (Vec::new(), Vec::new());
    while let [head, length, rest @ ..] = bytes {
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        bytes = rest;
        wire.push(*head);
        // Masked with zeros, so that the payload stays readable.
        if payload.len() < 126 {
            wire.push(0x80 | payload.len() as u8);
        } else {
            wire.extend([0x80 | 126, 0, payload.len() as u8]);
        }
        wire.extend([0; 4]);
        wire.extend(payload);
        if head & 0x0f <= 2 {
            data.extend(payload.iter().copied().filter(|byte| *byte != b'\n'));
        }
    }
    // A client waits for the response to its upgrade.
    let pieces = std::iter::once(UPGRADE.to_vec()).chain(pieces(&wire, size));
    let pieces = Pieces(pieces.collect());
    let limit = 300;
    let mut read = Vec::new();
    block_on(async {
        let Ok((socket, _)) =
            WebSocket::accept(Box::new(pieces), Bytes::new(), None, limit, &[]).await
        else {
            panic!("the upgrade is a good one");
        };
        let (mut reader, _writer) = socket.split(limit);
        while let Ok(Some(line)) = reader.next().await {
            assert!(line.len() <= limit && !line.contains(&b'\n'));
            read.extend_from_slice(&line);
        }
    });
    assert!(data.starts_with(&read), "{data:?} became {read:?}");
}
