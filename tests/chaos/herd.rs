//! Thousands of clients that reconnect at once, from one address.

use crate::certificates::Files;
use crate::common::{Setup, TestServer, request, token_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use std::io;
use std::net::TcpStream as Silent;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// How many clients connect, unless `CHAOS_HERD` sets another number.
const HERD: usize = 2_000;

/// How many silent connections are held open beside them.
const FLOOD: usize = 2_000;

/// All start within this time.
const WITHIN: Duration = Duration::from_millis(100);

/// How long a client may take to get in: all of them fail by then, or none.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Door {
    Tcp,
    Tls,
    WebSocket,
    Http,
}

impl Door {
    fn transport(self) -> &'static str {
        match self {
            Self::Tcp | Self::Tls => "tcp",
            Self::WebSocket => "ws",
            Self::Http => "http",
        }
    }

    /// What a client sends first, and what it sends after this response.
    fn hello(self, token: &str) -> [(Vec<u8>, &'static str); 2] {
        const IN: &str = "\"serverInfo\"";
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "herd", "version": "1"}});
        let initialize = request(0, "initialize", params);
        let head = |line: &str, rest: &str| {
            format!(
                "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{rest}\r\n\r\n"
            )
        };
        match self {
            Self::Tcp | Self::Tls => [
                (format!("{token}\n").into(), "\"authenticated\":true"),
                (format!("{initialize}\n").into(), IN),
            ],
            Self::Http => {
                let length = initialize.len();
                let rest = format!(
                    "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: {length}"
                );
                let request = head("POST /mcp", &rest) + &initialize;
                [(request.into(), IN), (Vec::new(), "")]
            }
            Self::WebSocket => {
                let rest = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
                let upgrade = head("GET /", rest).into_bytes();
                // One text frame with a zero mask.
                let mut frame = vec![0x81, 0xfe];
                frame.extend(u16::try_from(initialize.len()).unwrap().to_be_bytes());
                frame.extend([0; 4]);
                frame.extend(initialize.as_bytes());
                [(upgrade, " 101 "), (frame, IN)]
            }
        }
    }
}

/// A connection that has received the response to its `initialize`.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn come_in(
    port: u16,
    hello: &[(Vec<u8>, &str)],
    tls: Option<&TlsConnector>,
) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut stream: Box<dyn Stream> = match tls {
        Some(tls) => {
            let name = ServerName::try_from("localhost").unwrap();
            Box::new(tls.connect(name, stream).await?)
        }
        None => Box::new(stream),
    };
    let mut read = Vec::new();
    for (said, answer) in hello {
        stream.write_all(said).await?;
        while !String::from_utf8_lossy(&read).contains(answer) {
            if stream.read_buf(&mut read).await? == 0 {
                let read = String::from_utf8_lossy(&read);
                return Err(io::Error::other(format!("closed after {read:?}")));
            }
        }
    }
    Ok(stream)
}

/// All clients connect; returns how long each took from its own start, and all of them together.
fn herd(
    server: &TestServer,
    count: usize,
    door: Door,
    tls: Option<&TlsConnector>,
) -> (Vec<Duration>, Duration) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (port, hello) = (server.port, door.hello(&token_with(&["user"])));
    let began = Instant::now();
    runtime.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for number in 0..count {
            let (hello, tls) = (hello.clone(), tls.cloned());
            all.spawn(async move {
                let at = WITHIN * number as u32 / count as u32;
                tokio::time::sleep(at).await;
                let coming = come_in(port, &hello, tls.as_ref());
                let came = tokio::time::timeout(PATIENCE, coming).await;
                let stream = came.map_err(io::Error::other).flatten();
                (stream, began.elapsed() - at)
            });
        }
        let (mut times, mut failed, mut held) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(came) = all.join_next().await {
            let (stream, time) = came.unwrap();
            times.push(time);
            match stream {
                Ok(stream) => held.push(stream),
                Err(err) => failed.push(err.to_string()),
            }
        }
        let (lost, first) = (failed.len(), failed.first());
        assert_eq!(lost, 0, "{door:?}: not in: {first:?}");
        times.sort_unstable();
        (times, began.elapsed())
    })
}

/// Sends requests over TCP, one after the other, until `stop`; returns how long each took.
fn work(port: u16, tls: Option<&TlsConnector>, stop: &AtomicBool) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let hello = Door::Tcp.hello(&token_with(&["user"]));
        let stream = come_in(port, &hello, tls).await.unwrap();
        let mut stream = BufStream::new(stream);
        let mut times = Vec::new();
        let mut line = String::new();
        for id in 1.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let ping = format!("{}\n", request(id, "ping", json!({})));
            let began = Instant::now();
            stream.write_all(ping.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            // The rest of the handshake, and the response.
            while !line.contains(&format!("\"id\":{id},")) {
                line.clear();
                assert_ne!(stream.read_line(&mut line).await.unwrap(), 0);
            }
            times.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.sort_unstable();
        times
    })
}

/// Opens silent connections, until `stop`.
fn flood(port: u16, stop: &AtomicBool) {
    let mut held = std::collections::VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        if let Ok(stream) = Silent::connect(("127.0.0.1", port)) {
            held.push_back(stream);
        }
        if held.len() > FLOOD {
            held.pop_front();
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn percentile(sorted: &[Duration], part: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

/// As many file descriptors for this process as the system allows.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most).unwrap();
}

fn run(door: Door, count: usize, flooded: bool) {
    raise_file_limit();
    let files = (door == Door::Tls).then(Files::new);
    let setup = match &files {
        Some(files) => files.server("tcp"),
        None => Setup::new(door.transport()),
    };
    let many = (count + 100).to_string();
    let args = ["--max-connections", &many, "--max-per-user", &many];
    let server = setup.secret().args(&args);
    // The peer at work always uses TCP.
    let (server, port) = match door {
        Door::Tcp | Door::Tls => {
            let server = server.start();
            let port = server.port;
            (server, port)
        }
        Door::WebSocket | Door::Http => {
            let server = server.args(&["--listen", "tcp://127.0.0.1:0"]).start();
            let port = server.next_listener().parse().unwrap();
            (server, port)
        }
    };
    let tls = files.as_ref().map(Files::connector);
    let stop = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let guard = Stop(stop);
        let worker = scope.spawn(|| work(port, tls.as_ref(), stop));
        if flooded {
            scope.spawn(|| flood(server.port, stop));
        }
        let (times, whole) = herd(&server, count, door, tls.as_ref());
        drop(guard);
        let at_work = percentile(&worker.join().unwrap(), 0.99);
        println!(
            "{door:?}{}: {count} in after {whole:.2?}; one takes {:.2?} (median), {:.2?} (p99); a peer at work: {at_work:.2?} (p99)",
            if flooded { " beside a flood" } else { "" },
            percentile(&times, 0.5),
            percentile(&times, 0.99),
        );
    });
}

/// Bug: when many clients reconnected at once, later ones evicted earlier ones.
#[test]
fn a_herd_comes_in_whole() {
    let count = std::env::var("CHAOS_HERD").ok();
    let count = count.map_or(HERD, |text| text.parse().unwrap());
    for door in [Door::Tcp, Door::Tls, Door::WebSocket, Door::Http] {
        for flooded in [false, true] {
            run(door, count, flooded);
        }
    }
}
