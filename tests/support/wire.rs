//! Raw ends of the wire, written by hand so that they can misbehave: [`TestPeer`] and [`Acceptor`].

use super::common::request;
use super::process::{PATIENCE, eventually};
use serde_json::Value;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// The WebSocket upgrade request.
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// One end of a connection: lines over TCP, or frames over WebSocket.
pub struct TestPeer {
    stream: TcpStream,
    input: BufReader<TcpStream>,
    websocket: bool,
    /// Clients mask their frames, servers do not.
    masks: bool,
}

impl TestPeer {
    pub fn connect(transport: &str, port: u16) -> Self {
        if transport == "tcp" {
            return Self::over(TcpStream::connect(("127.0.0.1", port)).unwrap());
        }
        let (head, peer) = Self::upgrade(port, "");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        peer
    }

    /// A connection that has been made in some other way.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            input: BufReader::new(stream.try_clone().unwrap()),
            stream,
            websocket: false,
            masks: false,
        }
    }

    /// Requests a WebSocket with these additional headers; also returns the head of the response.
    pub fn upgrade(port: u16, headers: &str) -> (String, Self) {
        Self::upgrade_at(port, "/", headers)
    }

    /// The same at this path.
    pub fn upgrade_at(port: u16, path: &str, headers: &str) -> (String, Self) {
        let mut peer = Self::connect("tcp", port);
        let head = peer.switch(path, headers);
        (head, peer)
    }

    /// The same on this connection; returns the head of the response.
    pub fn switch(&mut self, path: &str, headers: &str) -> String {
        let text = UPGRADE.replacen("\r\n\r\n", &format!("\r\n{headers}\r\n"), 1);
        let text = text.replacen("GET / ", &format!("GET {path} "), 1);
        self.raw(text.as_bytes());
        self.websocket = true;
        self.masks = true;
        self.head()
    }

    /// Posts a message whose response has a length; returns the head and the body.
    pub fn post(&mut self, path: &str, headers: &str, body: &str) -> (String, String) {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Type: application/json\r\n\
             Accept: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.raw(head.as_bytes());
        let head = self.head();
        let mut lines = head.lines();
        let length = lines.find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.input.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && self.input.read_line(&mut head).unwrap() > 0 {}
        head
    }

    /// Raw bytes on the socket.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Raw bytes on the socket, unless the far end has closed it.
    pub fn try_raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// From here on nothing blocks on the far end for long.
    pub fn give_up_soon(&mut self) {
        let soon = Some(Duration::from_millis(200));
        self.stream.set_read_timeout(soon).unwrap();
        self.stream.set_write_timeout(soon).unwrap();
    }

    /// As [`TestPeer::upgrade`], on an open connection; false if the far end refuses.
    pub fn try_upgrade(&mut self) -> bool {
        let asked = self.try_raw(UPGRADE.as_bytes());
        let mut head = String::new();
        while asked && !head.ends_with("\r\n\r\n") {
            if self.input.read_line(&mut head).unwrap_or(0) == 0 {
                return false;
            }
        }
        self.websocket = true;
        self.masks = true;
        head.starts_with("HTTP/1.1 101 ")
    }

    /// As [`TestPeer::send`], unless the far end has closed the connection or does not read it.
    pub fn try_send(&mut self, line: &str) -> bool {
        if self.websocket {
            self.try_frame(TEXT, line.as_bytes())
        } else {
            self.try_raw(format!("{line}\n").as_bytes())
        }
    }

    /// As [`TestPeer::frame`], unless the far end has closed the connection or does not read it.
    pub fn try_frame(&mut self, opcode: u8, payload: &[u8]) -> bool {
        let frame = self.framed(0x80 | opcode, payload);
        self.try_raw(&frame)
    }

    /// Reads what has arrived and discards it.
    pub fn drain(&mut self) {
        while self.input.fill_buf().is_ok_and(|bytes| !bytes.is_empty()) {
            let read = self.input.buffer().len();
            self.input.consume(read);
        }
    }

    /// A line, or a text frame without a newline.
    pub fn send(&mut self, line: &str) {
        if self.websocket {
            self.frame(TEXT, line.as_bytes());
        } else {
            self.raw(format!("{line}\n").as_bytes());
        }
    }

    pub fn frame(&mut self, opcode: u8, payload: &[u8]) {
        self.fragment(0x80 | opcode, payload);
    }

    /// A frame whose first byte is `head`: the end flag and the opcode.
    pub fn fragment(&mut self, head: u8, payload: &[u8]) {
        let frame = self.framed(head, payload);
        self.raw(&frame);
    }

    fn framed(&self, head: u8, payload: &[u8]) -> Vec<u8> {
        let mask = if self.masks { 0x80 } else { 0 };
        let mut frame = vec![head];
        match payload.len() {
            length @ 0..126 => frame.push(mask | length as u8),
            length @ 126..0x1_0000 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if self.masks {
            frame.extend(MASK);
            frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
        } else {
            frame.extend(payload);
        }
        frame
    }

    /// This many raw bytes.
    pub fn read_raw(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.input.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The next frame, except pings and pongs; `None` at EOF.
    pub fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            match self.next_any_frame() {
                Some((PING | PONG, _)) => {}
                other => return other,
            }
        }
    }

    pub fn next_any_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        match self.input.read_exact(&mut head) {
            Err(err) if err.kind() == ErrorKind::UnexpectedEof => return None,
            outcome => outcome.unwrap(),
        }
        let number = |bytes: Vec<u8>| bytes.iter().fold(0, |sum, b| sum << 8 | usize::from(*b));
        let length = match head[1] & 0x7f {
            126 => number(self.read_raw(2)),
            127 => number(self.read_raw(8)),
            length => usize::from(length),
        };
        let mask = (head[1] & 0x80 != 0).then(|| self.read_raw(4));
        let mut payload = self.read_raw(length);
        if let Some(mask) = mask {
            let pairs = payload.iter_mut().zip(mask.iter().cycle());
            pairs.for_each(|(byte, mask)| *byte ^= mask);
        }
        Some((head[0] & 0x0f, payload))
    }

    /// The next line without its newline, or the next text frame, which must be one line from one of our
    /// servers; `None` at EOF.
    pub fn next_line(&mut self) -> Option<String> {
        let line = if self.websocket {
            match self.next_frame() {
                Some((TEXT, payload)) => String::from_utf8(payload).unwrap(),
                Some((CLOSE, _)) | None => return None,
                Some(other) => panic!("{other:?}"),
            }
        } else {
            let mut line = String::new();
            self.input.read_line(&mut line).unwrap();
            // A peer that has closed its sending half may get spaces.
            if line.trim_matches(' ').is_empty() {
                return None;
            }
            line
        };
        let text = line.strip_suffix('\n');
        let text = text.unwrap_or_else(|| panic!("no newline: {line:?}"));
        Some(text.to_owned())
    }

    /// Everything until EOF.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.input.read_to_end(&mut rest).unwrap();
        String::from_utf8_lossy(&rest).into_owned()
    }

    pub fn next(&mut self) -> Value {
        let line = self.next_line().expect("a message, not the end");
        serde_json::from_str(&line).unwrap_or_else(|err| panic!("{line:?}: {err}"))
    }

    /// Sends a request and returns what comes next.
    pub fn ask(&mut self, id: impl Into<Value>, method: &str, params: Value) -> Value {
        self.send(&request(id, method, params));
        self.next()
    }

    /// Sends a token and returns the reply.
    pub fn login(&mut self, token: &str) -> Value {
        self.send(token);
        self.next()
    }

    /// Sends a first line that reaches no other peer, so that what follows is not the
    /// first line, which is checked more strictly.
    pub fn begin(&mut self) {
        self.send("{}");
        let answer = self.next();
        assert_eq!(answer["error"]["code"], -32600, "{answer}");
    }

    /// A legacy handshake.
    pub fn initialize(&mut self) -> Value {
        let params = serde_json::json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        });
        let answer = self.ask("initialize", "initialize", params);
        self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        answer
    }

    /// Requests a new session, or an earlier one, as our client does; returns the reply.
    pub fn resume(&mut self, session: &Value, received: u64) -> Value {
        let params = serde_json::json!({"session": session, "received": received});
        let line =
            serde_json::json!({"jsonrpc": "2.0", "method": "mcp-remote/resume", "params": params});
        self.send(&line.to_string());
        self.next()
    }

    /// Sends these bytes repeatedly until the connection breaks.
    pub fn drip(&self, bytes: &'static [u8]) {
        let mut stream = self.stream.try_clone().unwrap();
        thread::spawn(move || {
            while stream.write_all(bytes).is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        });
    }

    /// True when something has arrived, or arrives shortly.
    pub fn has_more(&mut self) -> bool {
        let little = Some(Duration::from_millis(100));
        self.stream.set_read_timeout(little).unwrap();
        let more = !self.input.buffer().is_empty() || self.stream.peek(&mut [0]).is_ok();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        more
    }

    /// True when something has arrived.
    pub fn is_readable(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let readable = !self.input.buffer().is_empty() || self.stream.peek(&mut [0]).is_ok();
        self.stream.set_nonblocking(false).unwrap();
        readable
    }

    /// Waits until something has arrived, without consuming it.
    pub fn wait_readable(&self) {
        self.stream.peek(&mut [0]).unwrap();
    }

    /// Nothing comes except EOF.
    pub fn assert_closed(&mut self) {
        assert_eq!(self.next_line(), None);
    }

    /// Another handle to the sending half.
    pub fn sender(&self) -> Self {
        let stream = self.stream.try_clone().unwrap();
        Self {
            input: BufReader::new(stream.try_clone().unwrap()),
            stream,
            websocket: self.websocket,
            masks: self.masks,
        }
    }

    /// Is gone at once, as if its machine crashed: the server sees a reset.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Sends no more, but still listens.
    pub fn shut_down(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// A foreign server, for our client.
pub struct Acceptor {
    listener: TcpListener,
    transport: &'static str,
}

impl Acceptor {
    pub fn new(transport: &'static str) -> Self {
        Self::at(transport, 0)
    }

    pub fn at(transport: &'static str, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        // So that waiting for a client has a timeout.
        listener.set_nonblocking(true).unwrap();
        Self {
            listener,
            transport,
        }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// The next connection, upgraded if needed.
    pub fn accept(&self) -> TestPeer {
        let (stream, _) = eventually("a client connects", || self.listener.accept().ok());
        stream.set_nonblocking(false).unwrap();
        let mut peer = TestPeer::over(stream);
        if self.transport == "ws" {
            let head = peer.head();
            let key = head
                .lines()
                .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
            let key = derive_accept_key(key.expect(&head).as_bytes());
            peer.raw(
                format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                     Connection: Upgrade\r\nSec-WebSocket-Accept: {key}\r\n\r\n"
                )
                .as_bytes(),
            );
            peer.websocket = true;
        }
        peer
    }
}
