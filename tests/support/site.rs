//! An HTTP server whose every response the test writes, byte by byte.

use super::process::PATIENCE;
use serde_json::Value;
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// A request that waits for its response.
pub struct Exchange {
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Value,
    wire: Box<dyn Wire>,
    socket: TcpStream,
}

impl Exchange {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| &**value);
        assert!(found.next().is_none(), "two headers '{name}'");
        value
    }

    pub fn rpc(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    /// Writes bytes unchanged.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.wire.write_all(bytes).unwrap();
        self.wire.flush().unwrap();
    }

    /// The same, for a client that may have closed the connection.
    pub fn try_raw(&mut self, bytes: &[u8]) {
        let written = self.wire.write_all(bytes);
        let _gone = written.and_then(|()| self.wire.flush());
    }

    /// Responds, and closes the connection.
    pub fn answer(mut self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
        );
        self.raw(head.as_bytes());
    }

    pub fn json(self, headers: &str, body: &Value) {
        let headers = format!("Content-Type: application/json\r\n{headers}");
        self.answer(200, &headers, &body.to_string());
    }

    /// Responds with a result under the id of the request.
    pub fn result(self, result: &Value) {
        let body = serde_json::json!({"jsonrpc":"2.0","id":self.body["id"],"result":result});
        self.json("", &body);
    }

    pub fn status(self, status: u16) {
        self.answer(status, "", "");
    }

    /// Starts a stream of events, which ends with the connection.
    pub fn open(&mut self, headers: &str) {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n{headers}\r\n"
        );
        self.raw(head.as_bytes());
    }

    pub fn event(&mut self, data: &Value) {
        self.raw(format!("data: {data}\n\n").as_bytes());
    }

    /// Waits until the client has closed the connection.
    pub fn wait_closed(mut self) {
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let read = self.wire.read(&mut [0]);
        assert!(matches!(read, Ok(0) | Err(_)), "more was sent");
    }

    /// Forwards bytes to a port of this machine, as a proxy does after CONNECT.
    pub fn tunnel(mut self, port: u16) {
        self.raw(b"HTTP/1.1 200 Connection established\r\n\r\n");
        let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let ways = [
            (self.socket.try_clone().unwrap(), far.try_clone().unwrap()),
            (far, self.socket),
        ];
        for (mut from, mut to) in ways {
            thread::spawn(move || {
                let _cut = std::io::copy(&mut from, &mut to);
                let _closed = to.shutdown(Shutdown::Write);
            });
        }
    }

    /// True when nothing comes for a moment, and the connection stays open.
    pub fn stays_open(&mut self) -> bool {
        self.socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        self.wire.read(&mut [0]).is_err()
    }
}

pub struct Site {
    pub port: u16,
    requests: Receiver<Exchange>,
    waiting: RefCell<Vec<Exchange>>,
}

impl Site {
    pub fn start() -> Self {
        Self::on(0)
    }

    pub fn on(port: u16) -> Self {
        Self::serve(port, |socket| Box::new(socket))
    }

    pub fn start_tls(config: ServerConfig) -> Self {
        let config = Arc::new(config);
        Self::serve(0, move |socket| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            Box::new(StreamOwned::new(connection, socket))
        })
    }

    fn serve(port: u16, wrap: impl Fn(TcpStream) -> Box<dyn Wire> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = channel();
        let wrap = Arc::new(wrap);
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (sender, wrap) = (sender.clone(), Arc::clone(&wrap));
                thread::spawn(move || receive(socket.unwrap(), &*wrap, &sender));
            }
        });
        Self {
            port,
            requests,
            waiting: RefCell::default(),
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    /// Passes each request to `act`, for as long as this process lives.
    pub fn each(self, mut act: impl FnMut(Exchange) + Send + 'static) {
        thread::spawn(move || self.requests.into_iter().for_each(&mut act));
    }

    /// The next request, which must come.
    pub fn next(&self) -> Exchange {
        self.take(|_| true)
    }

    /// The next request that matches; others wait.
    pub fn take(&self, is_meant: impl Fn(&Exchange) -> bool) -> Exchange {
        let deadline = Instant::now() + PATIENCE;
        let mut waiting = self.waiting.borrow_mut();
        loop {
            if let Some(at) = waiting.iter().position(&is_meant) {
                return waiting.remove(at);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let next = self.requests.recv_timeout(left);
            waiting.push(next.expect("a request comes"));
        }
    }

    /// True when no request comes for a moment, and none waits.
    pub fn is_quiet(&self) -> bool {
        let next = self.requests.recv_timeout(Duration::from_millis(200));
        self.waiting.borrow().is_empty() && next.is_err()
    }
}

fn receive(
    socket: TcpStream,
    wrap: &dyn Fn(TcpStream) -> Box<dyn Wire>,
    sender: &Sender<Exchange>,
) {
    let wire = wrap(socket.try_clone().unwrap());
    let mut reader = BufReader::new(wire);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let headers: Vec<(String, String)> = head[1..]
        .iter()
        .map(|line| {
            line.split_once(": ")
                .unwrap_or((line.trim_end_matches(':'), ""))
        })
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let mut words = head[0].split(' ');
    let exchange = Exchange {
        method: words.next().unwrap().to_owned(),
        target: words.next().unwrap().to_owned(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
        wire: Box::new(reader.into_inner()),
        socket,
    };
    let _over = sender.send(exchange);
}
