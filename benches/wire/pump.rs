//! The yardstick: the smallest honest program that does the same I/O as `mcp-remote` and parses
//! nothing. It carries bytes, not messages: no authentication, no policy, one peer per child.

use crate::http_pump;
use futures_util::{FutureExt, SinkExt, StreamExt};
use memchr::memchr_iter;
use rustix::pipe::fcntl_setpipe_size;
use std::io;
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

/// The buffer size: the best in all figures between 8 KiB and 1 MiB, also for large messages.
pub const CHUNK: usize = 256 * 1024;

/// The size of the pipes to the child: this raised large messages from 358 to 631 MB/s.
pub const PIPE: usize = 1 << 20;

/// Listens like `mcp-remote server tcp|ws|http`; prints its port.
pub fn serve(transport: &str, command: &[String]) -> io::Result<()> {
    runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("listening on port {}", listener.local_addr()?.port());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let mut child = Command::new(&command[0])
                .args(&command[1..])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
            let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
            fcntl_setpipe_size(&stdin, PIPE)?;
            fcntl_setpipe_size(&stdout, PIPE)?;
            // A peer that disconnects ends this connection only.
            let _ended = match transport {
                "http" => http_pump::serve(stream, stdin, stdout).await,
                "ws" => frames(stream, stdin, stdout).await,
                _ => {
                    let (from_peer, to_peer) = stream.into_split();
                    both(from_peer, stdin, stdout, to_peer).await
                }
            };
        }
    })
}

/// Carries stdio to the server and back, like `mcp-remote client tcp|http`.
pub fn connect(transport: &str, port: u16) -> io::Result<()> {
    runtime()?.block_on(async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let stdin = Receiver::from_owned_fd(rustix::stdio::stdin().try_clone_to_owned()?)?;
        let stdout = Sender::from_owned_fd(rustix::stdio::stdout().try_clone_to_owned()?)?;
        if transport == "http" {
            return http_pump::connect(stream, stdin, stdout).await;
        }
        let (from_server, to_server) = stream.into_split();
        both(stdin, to_server, from_server, stdout).await
    })
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Until one of the two directions ends.
async fn both(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    back_from: impl AsyncRead + Unpin,
    back_to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    tokio::select! {
        ended = copy(from, to) => ended,
        ended = copy(back_from, back_to) => ended,
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// WebSocket frames to lines and back; frames that are ready share a write to the child.
async fn frames(
    stream: TcpStream,
    mut stdin: ChildStdin,
    mut stdout: ChildStdout,
) -> io::Result<()> {
    let socket = tokio_tungstenite::accept_async(stream)
        .await
        .map_err(io::Error::other)?;
    let (mut sink, mut source) = socket.split();
    let up = async {
        let mut lines = Vec::new();
        while let Some(frame) = source.next().await {
            lines.clear();
            lines.extend_from_slice(&frame.map_err(io::Error::other)?.into_data());
            while lines.len() < CHUNK
                && let Some(Some(Ok(frame))) = source.next().now_or_never()
            {
                lines.extend_from_slice(&frame.into_data());
            }
            stdin.write_all(&lines).await?;
        }
        Ok(())
    };
    let down = async {
        let (mut input, mut filled) = (vec![0; CHUNK], 0);
        loop {
            if filled == input.len() {
                input.resize(filled * 2, 0);
            }
            let read = stdout.read(&mut input[filled..]).await?;
            if read == 0 {
                return Ok(());
            }
            let mut start = 0;
            for end in memchr_iter(b'\n', &input[filled..filled + read]) {
                let end = filled + end + 1;
                let line = Bytes::copy_from_slice(&input[start..end]);
                let text = Utf8Bytes::try_from(line).map_err(io::Error::other)?;
                sink.feed(Message::Text(text))
                    .await
                    .map_err(io::Error::other)?;
                start = end;
            }
            sink.flush().await.map_err(io::Error::other)?;
            filled += read;
            input.copy_within(start..filled, 0);
            filled -= start;
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}
