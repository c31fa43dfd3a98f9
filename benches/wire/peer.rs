//! One peer of the servers under test: blocking, and as cheap as possible. It checks that
//! each response is the next one expected.

use crate::{child, http};
use memchr::memchr;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{ChildStdin, ChildStdout};
use std::sync::Arc;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

/// How messages are framed.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Wire {
    #[default]
    Lines,
    WebSocket,
    Http,
}

impl Wire {
    /// The name of the command that serves it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lines => "tcp",
            Self::WebSocket => "ws",
            Self::Http => "http",
        }
    }
}

/// How the peer talks to its server.
#[derive(Clone, Default)]
pub struct Dialect {
    pub wire: Wire,
    /// The HTTP pump takes every message for a request, so no notification is sent.
    pub requests_only: bool,
    pub token: Option<String>,
    /// It requests a session, and acknowledges what it receives.
    pub resume: bool,
    pub tls: Option<Arc<ClientConfig>>,
}

/// What to ask for.
#[derive(Clone, Copy)]
pub enum Ask {
    /// A request of this many bytes, and a response of the same length.
    Echo(usize),
    /// A request of this many bytes, and a short response.
    Take(usize),
    /// A short request, and a response of this many bytes.
    Give(usize),
}

enum Stream {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Pipes(ChildStdin, ChildStdout),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::Pipes(_, stdout) => stdout.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
            Self::Pipes(stdin, _) => stdin.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(stream) => stream.flush(),
            Self::Tcp(_) | Self::Pipes(..) => Ok(()),
        }
    }
}

const ANSWER: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":";
const CONTROL: &[u8] = b"{\"jsonrpc\":\"2.0\",\"method\":\"mcp-remote/";
/// When received lines are acknowledged, as the client does.
const ACK_LINES: usize = 64;
const ACK_BYTES: usize = 1 << 20;
const READ: usize = 1 << 20;

/// One connection, after its handshake.
pub struct Peer {
    stream: Stream,
    dialect: Dialect,
    /// The headers of each request over HTTP, with the session once there is one.
    headers: String,
    has_session: bool,
    input: Vec<u8>,
    start: usize,
    filled: usize,
    searched: usize,
    out: Vec<u8>,
    asked: u64,
    answered: u64,
    received: u64,
    unacknowledged: (usize, usize),
}

impl Peer {
    /// Connects, authenticates and performs the handshake.
    pub fn connect(port: u16, dialect: &Dialect) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let stream = match &dialect.tls {
            None => Stream::Tcp(stream),
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let session = ClientConnection::new(Arc::clone(config), name);
                let session = session.map_err(io::Error::other)?;
                Stream::Tls(Box::new(StreamOwned::new(session, stream)))
            }
        };
        let mut peer = Self::over(stream, dialect.clone());
        if dialect.wire == Wire::WebSocket {
            peer.upgrade()?;
        }
        if dialect.wire == Wire::Http {
            peer.headers = dialect.token.as_ref().map_or_else(String::new, |token| {
                format!("Authorization: Bearer {token}\r\n")
            });
        } else if let Some(token) = &dialect.token {
            peer.say(token.as_bytes())?;
            peer.hear(b"\"authenticated\":true")?;
        }
        if dialect.resume {
            peer.say(br#"{"jsonrpc":"2.0","method":"mcp-remote/resume","params":{"session":null,"received":0}}"#)?;
            peer.hear(b"\"mcp-remote/resumed\"")?;
            peer.received = 0;
        }
        peer.shake_hands()?;
        Ok(peer)
    }

    /// Talks to a process over its pipes, and performs the handshake.
    pub fn on_pipes(stdin: ChildStdin, stdout: ChildStdout, dialect: Dialect) -> io::Result<Self> {
        let mut peer = Self::over(Stream::Pipes(stdin, stdout), dialect);
        peer.shake_hands()?;
        Ok(peer)
    }

    fn over(stream: Stream, dialect: Dialect) -> Self {
        Self {
            stream,
            dialect,
            headers: String::new(),
            has_session: false,
            input: Vec::new(),
            start: 0,
            filled: 0,
            searched: 0,
            out: Vec::new(),
            asked: 0,
            answered: 0,
            received: 0,
            unacknowledged: (0, 0),
        }
    }

    fn upgrade(&mut self) -> io::Result<()> {
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        self.stream.write_all(request.as_bytes())?;
        self.stream.flush()?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte)?;
            answer.extend(byte);
        }
        if answer.starts_with(b"HTTP/1.1 101") {
            Ok(())
        } else {
            Err(io::Error::other("no WebSocket"))
        }
    }

    fn shake_hands(&mut self) -> io::Result<()> {
        self.say(br#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#)?;
        self.hear(b"\"serverInfo\"")?;
        if !self.dialect.requests_only {
            self.say(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)?;
            if self.dialect.wire == Wire::Http {
                // Its response has no body.
                self.hear(b"")?;
            }
        }
        self.asked = 1;
        self.answered = 1;
        Ok(())
    }

    fn say(&mut self, line: &[u8]) -> io::Result<()> {
        self.queue(line.len() + 1, |out| out.extend_from_slice(line));
        self.flush()
    }

    fn hear(&mut self, text: &[u8]) -> io::Result<()> {
        loop {
            if let Some((start, end)) = self.line()? {
                let line = &self.input[start..end];
                if memchr::memmem::find(line, text).is_none() {
                    let line = String::from_utf8_lossy(line).into_owned();
                    return Err(io::Error::other(format!("unexpected: {line}")));
                }
                self.received += u64::from(!line.starts_with(CONTROL));
                return Ok(());
            }
            self.read()?;
        }
    }

    /// Queues a message of `length` bytes, newline included, which `write` appends without it.
    fn queue(&mut self, length: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let out = &mut self.out;
        if self.dialect.wire == Wire::Http {
            http::post(out, length, &self.headers);
        }
        if self.dialect.wire == Wire::WebSocket {
            // Masked with zeros: the same work for the server, none for the peer.
            out.push(0x81);
            match length {
                0..126 => out.push(0x80 | length as u8),
                126..0x1_0000 => {
                    out.push(0x80 | 126);
                    out.extend((length as u16).to_be_bytes());
                }
                _ => {
                    out.push(0x80 | 127);
                    out.extend((length as u64).to_be_bytes());
                }
            }
            out.extend([0; 4]);
        }
        let before = out.len();
        write(out);
        out.push(b'\n');
        debug_assert_eq!(out.len() - before, length);
    }

    /// Queues the next request.
    pub fn ask(&mut self, ask: Ask) {
        let id = self.asked;
        self.asked += 1;
        let (tool, bytes) = match ask {
            Ask::Echo(bytes) => ("echo", bytes),
            Ask::Take(bytes) => ("take", bytes),
            Ask::Give(_) => ("give", 0),
        };
        let give = match ask {
            Ask::Give(bytes) => format!("\"bytes\":{bytes},"),
            _ => String::new(),
        };
        let head = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"{tool}\",\"arguments\":{{{give}\"text\":\""
        );
        let text = bytes.saturating_sub(head.len() + 5);
        self.queue(head.len() + text + 5, |out| {
            out.extend_from_slice(head.as_bytes());
            child::fill(out, text);
            out.extend_from_slice(b"\"}}}");
        });
    }

    /// Flushes the queue.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.stream.flush()?;
        self.out.clear();
        self.out.shrink_to(READ);
        Ok(())
    }

    /// The number of requests in flight.
    pub fn owed(&self) -> u64 {
        self.asked - self.answered
    }

    /// Waits until something arrives; returns the number of responses in it.
    pub fn answers(&mut self) -> io::Result<usize> {
        let mut count = 0;
        self.read()?;
        while let Some((start, end)) = self.line()? {
            count += self.check(start, end)?;
        }
        Ok(count)
    }

    /// Sends one request and waits for the response.
    pub fn exchange(&mut self, ask: Ask) -> io::Result<()> {
        self.ask(ask);
        self.flush()?;
        while self.owed() > 0 {
            self.answers()?;
        }
        Ok(())
    }

    fn check(&mut self, start: usize, end: usize) -> io::Result<usize> {
        let line = &self.input[start..end];
        if self.dialect.wire == Wire::Http {
            http::check_answer(line, self.answered)?;
            self.answered += 1;
            return Ok(1);
        }
        let Some(rest) = line.strip_prefix(ANSWER) else {
            if line.starts_with(CONTROL) {
                return Ok(0);
            }
            let line = String::from_utf8_lossy(&line[..line.len().min(200)]);
            return Err(io::Error::other(format!("unexpected: {line}")));
        };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
        let id = digits.fold(0, |id, digit| id * 10 + u64::from(digit - b'0'));
        if id != self.answered || memchr::memmem::find(&rest[..40], b"\"result\":").is_none() {
            let line = String::from_utf8_lossy(&line[..line.len().min(200)]);
            return Err(io::Error::other(format!(
                "not the answer to {}: {line}",
                self.answered
            )));
        }
        self.answered += 1;
        self.received += 1;
        if self.dialect.resume {
            let (lines, bytes) = self.unacknowledged;
            self.unacknowledged = (lines + 1, bytes + line.len());
            if lines + 1 >= ACK_LINES || bytes + line.len() >= ACK_BYTES {
                self.unacknowledged = (0, 0);
                let ack = format!(
                    "{{\"jsonrpc\":\"2.0\",\"method\":\"mcp-remote/ack\",\"params\":{{\"received\":{}}}}}",
                    self.received
                );
                self.queue(ack.len() + 1, |out| out.extend_from_slice(ack.as_bytes()));
            }
        }
        Ok(1)
    }

    fn read(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.input.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.searched -= self.start;
            self.start = 0;
        }
        if self.input.len() < self.filled + 64 * 1024 {
            self.input.resize((self.filled * 2).max(64 * 1024), 0);
        }
        let room = self.input.len().min(self.filled + READ);
        let read = self.stream.read(&mut self.input[self.filled..room])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.filled += read;
        Ok(())
    }

    /// The next complete line, without its newline.
    fn line(&mut self) -> io::Result<Option<(usize, usize)>> {
        match self.dialect.wire {
            Wire::Lines => {}
            Wire::WebSocket => return Ok(self.frame()),
            Wire::Http => return self.response(),
        }
        let unseen = &self.input[self.searched..self.filled];
        let Some(at) = memchr(b'\n', unseen) else {
            self.searched = self.filled;
            return Ok(None);
        };
        let line = (self.start, self.searched + at);
        self.start = line.1 + 1;
        self.searched = self.start;
        Ok(Some(line))
    }

    /// Listens for messages that belong to no request; nothing is read then.
    pub fn listen(&mut self) -> io::Result<()> {
        http::get(&mut self.out, &self.headers);
        self.flush()?;
        while http::head(&self.input[self.start..self.filled])?.is_none() {
            self.read()?;
        }
        Ok(())
    }

    fn response(&mut self) -> io::Result<Option<(usize, usize)>> {
        let Some(response) = http::response(&self.input[self.start..self.filled])? else {
            return Ok(None);
        };
        if let (false, Some(session)) = (self.has_session, response.session) {
            self.has_session = true;
            self.headers += &format!("Mcp-Session-Id: {session}\r\n");
        }
        let message = (
            self.start + response.message.start,
            self.start + response.message.end,
        );
        self.start += response.end;
        self.searched = self.start;
        Ok(Some(message))
    }

    fn frame(&mut self) -> Option<(usize, usize)> {
        let bytes = &self.input[self.start..self.filled];
        let (header, length) = match *bytes.get(1)? {
            126 => (
                4,
                u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            ),
            127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
            length => (2, u64::from(length)),
        };
        let end = header + length as usize;
        if bytes.len() < end {
            return None;
        }
        let start = self.start + header;
        let whole = (start, self.start + end - 1);
        self.start += end;
        self.searched = self.start;
        Some(whole)
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Tls(stream) => stream.sock.as_fd(),
            Stream::Pipes(_, stdout) => stdout.as_fd(),
        }
    }
}
