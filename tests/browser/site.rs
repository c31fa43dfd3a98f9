//! Malicious web sites, on this machine.

use crate::process::PATIENCE;
use serde_json::Value;
use std::io::{Read, Write, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// The time limit for a page, including the start of the browser.
const SLOW: Duration = Duration::from_secs(60);

/// A port, and the handler of its connections.
pub struct Port(TcpListener);

impl Port {
    pub fn new() -> Self {
        Self(TcpListener::bind(("127.0.0.1", 0)).unwrap())
    }

    pub fn number(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// The thread ends with the process.
    fn serve(self, serve: impl Fn(TcpStream) + Clone + Send + 'static) {
        thread::spawn(move || {
            for stream in self.0.incoming().flatten() {
                let serve = serve.clone();
                thread::spawn(move || serve(stream));
            }
        });
    }
}

/// The reports from the pages.
pub struct Reports {
    sender: Sender<Value>,
    reports: Receiver<Value>,
}

impl Reports {
    pub fn new() -> Self {
        let (sender, reports) = channel();
        Self { sender, reports }
    }

    pub fn next(&self) -> Value {
        self.reports.recv_timeout(SLOW).expect("a report")
    }

    /// Serves `page` at `/page/…`; everything else goes to the port `door`: a name of this site resolves to it
    /// once the page is loaded, as with DNS rebinding.
    pub fn serve(&self, port: Port, page: String, door: Option<u16>) {
        let sender = self.sender.clone();
        port.serve(move |mut stream| {
            let mut head = vec![0; 16 * 1024];
            let read = stream.read(&mut head).unwrap_or_default();
            head.truncate(read);
            if head.starts_with(b"GET /page/") {
                answer(stream, &page);
            } else if head.starts_with(b"POST /done ") {
                let report = report(&mut stream, head);
                answer(stream, "");
                drop(sender.send(report));
            } else if let Some(door) = door {
                relay(stream, &head, door);
            }
        });
    }
}

fn answer(mut stream: TcpStream, body: &str) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    // A browser that has gone away needs no response.
    drop(stream.write_all((head + body).as_bytes()));
}

/// The body of a request whose beginning has been read.
fn report(stream: &mut TcpStream, mut request: Vec<u8>) -> Value {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    loop {
        let text = String::from_utf8_lossy(&request);
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
        if let Some(report) = body.and_then(|body| serde_json::from_str(body).ok()) {
            return report;
        }
        let mut more = [0; 16 * 1024];
        let read = stream.read(&mut more).unwrap();
        assert!(read > 0, "half a report: {text}");
        request.extend(&more[..read]);
    }
}

fn relay(mut near: TcpStream, head: &[u8], door: u16) {
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", door)) else {
        return;
    };
    if far.write_all(head).is_err() {
        return;
    }
    let (mut back, mut forth) = (far.try_clone().unwrap(), near.try_clone().unwrap());
    thread::spawn(move || {
        drop(copy(&mut back, &mut forth));
        drop(forth.shutdown(Shutdown::Write));
    });
    drop(copy(&mut near, &mut far));
    drop(far.shutdown(Shutdown::Write));
}

/// A server that takes each line as a message, as ours once did: the pages' attacks must work there,
/// or the test proves nothing.
pub fn gullible(port: Port) -> Receiver<String> {
    let (sender, lines) = channel();
    port.serve(move |mut stream| {
        let mut text = Vec::new();
        let mut piece = [0; 16 * 1024];
        while let Ok(read @ 1..) = stream.read(&mut piece) {
            text.extend(&piece[..read]);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let is_message = serde_json::from_slice::<Value>(&line).is_ok();
                if is_message && sender.send(String::from_utf8(line).unwrap()).is_err() {
                    return;
                }
                let answer: &[u8] = if is_message { b"{}\n" } else { b"no\n" };
                drop(stream.write_all(answer));
            }
        }
    });
    lines
}
