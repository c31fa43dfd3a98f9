//! A hostile neighbour: one peer with the least role does everything it can, at random, beside five
//! active SDK clients. `CHAOS_NEIGHBOUR=120 CHAOS_SEEDS=20 cargo test --test chaos neighbour -- --nocapture`
//! runs two minutes of it for each of 20 seeds, per transport, shared and isolated.

use crate::common::{Setup, TestServer, client_command, example, token};
use crate::load::{Seed, seeds};
use crate::process::PATIENCE;
use crate::wire::{PONG, TEXT, TestPeer};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rmcp::RoleClient;
use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RunningService};
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

type Client = RunningService<RoleClient, ()>;

const CLIENTS: usize = 5;

/// How often the neighbour comes; in between it is at another server.
const ROUNDS: u32 = 4;

/// How much slower than alone the clients' calls may be, also at the 99th percentile …
const SLOWER: u32 = 10;

/// … if it is slow at all: what a busy machine's scheduler may add to any call.
const NOISE: Duration = Duration::from_millis(100);

/// The number of calls needed for a 99th percentile.
const ENOUGH: usize = 1_000;

/// What `docs/limits.md` allows a server with these flags when all peers read their responses, in MiB:
/// a message of each of 16 connections, what waits for its turn, and the program itself.
const MOST_MIB: u64 = 16 * 9 + 64 + 32;

/// What may remain of it afterwards, in MiB.
const KEPT_MIB: u64 = 4;

fn length() -> Duration {
    let seconds = std::env::var("CHAOS_NEIGHBOUR");
    let seconds = seconds.ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

fn token_of(user: &str, role: &str) -> String {
    token(&json!({"user": user, "roles": [role]}))
}

fn server(transport: &'static str, flags: &[&str]) -> TestServer {
    let policy = json!({"permissions": {
        "worker": {"allowedMethods": ["*"]},
        "readonly": {
            "allowedMethods": [
                "initialize", "server/discover", "ping", "tools/list", "prompts/list", "resources/*",
                "logging/setLevel", "subscriptions/listen", "tasks/*",
            ],
            "blockedMethods": ["tools/call"],
        },
    }});
    Setup::new(transport)
        .policy(&policy)
        .args(&[
            "--max-connections",
            "16",
            "--max-pending",
            "8",
            "--resume-window",
            "2s",
        ])
        .args(flags)
        .program(&[example("notes_server").to_str().unwrap()])
        .start()
}

async fn connect(transport: &str, server: &TestServer, number: usize) -> Client {
    let mut command = tokio::process::Command::from(client_command(transport, server.port));
    let user = format!("worker-{number}");
    command.env("MCP_REMOTE_JWT_TOKEN", token_of(&user, "worker"));
    let builder = TokioChildProcess::builder(command).stderr(Stdio::null());
    let (child, _) = builder.spawn().unwrap();
    let mode = match number % 2 {
        0 => ClientLifecycleMode::Initialize,
        _ => ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        },
    };
    let connected = tokio::time::timeout(PATIENCE, ().serve_with_lifecycle(child, mode));
    connected.await.expect("no hang").expect("a session")
}

async fn call(client: &Client, tool: &'static str, arguments: Value) -> Value {
    let params = CallToolRequestParams::new(tool);
    let params = params.with_arguments(arguments.as_object().unwrap().clone());
    let called = tokio::time::timeout(PATIENCE, client.call_tool(params));
    let result = called.await.expect("no hang").expect("an answer");
    serde_json::to_value(result.content).unwrap()[0]["text"].take()
}

/// Writes notes and reads them back until the time is over; returns how long each call took.
async fn work(client: &Client, number: usize, length: Duration) -> Vec<Duration> {
    let (began, mut times) = (Instant::now(), Vec::new());
    let name = format!("worker-{number}");
    for round in 0u64.. {
        if began.elapsed() >= length {
            break;
        }
        let text = format!("round {round} of {number}");
        let asked = Instant::now();
        call(client, "write_note", json!({"name": name, "text": text})).await;
        times.push(asked.elapsed());
        let asked = Instant::now();
        let read = call(client, "read_note", json!({"name": name})).await;
        times.push(asked.elapsed());
        assert_eq!(read, json!(text), "another's note");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    times
}

async fn all_work(clients: &[Client], length: Duration) -> Vec<Duration> {
    let clients = clients.iter().enumerate();
    let working = clients.map(|(number, client)| work(client, number, length));
    futures_util::future::join_all(working).await.concat()
}

/// The neighbour: connects, does something, continues or leaves.
struct Neighbour<'a> {
    transport: &'static str,
    port: u16,
    random: StdRng,
    stop: &'a AtomicBool,
    next_id: u64,
}

impl Neighbour<'_> {
    fn run(mut self) {
        let mut peers: Vec<TestPeer> = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            if peers.len() < 6 && self.random.random_bool(0.3) {
                peers.extend(self.connect());
            }
            if peers.is_empty() {
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            let at = self.random.random_range(0..peers.len());
            // A connection that the server has closed, or does not read, is dropped.
            if !self.act(&mut peers[at]) || self.random.random_bool(0.1) {
                peers.swap_remove(at);
            }
        }
    }

    fn connect(&mut self) -> Option<TestPeer> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let mut peer = TestPeer::over(stream);
        peer.give_up_soon();
        if self.random.random_bool(0.2) {
            // Sends nothing, or half a token.
            peer.try_raw(b"eyJ");
            return Some(peer);
        }
        if self.transport == "ws" && !peer.try_upgrade() {
            return None;
        }
        peer.try_send(&token_of("mallory", "readonly"));
        if self.random.random_bool(0.5) {
            let session = json!({"session": null, "received": 0});
            let resume =
                json!({"jsonrpc": "2.0", "method": "mcp-remote/resume", "params": session});
            peer.try_send(&resume.to_string());
        }
        Some(peer)
    }

    /// Does one thing; false when the connection is no longer usable.
    fn act(&mut self, peer: &mut TestPeer) -> bool {
        match self.random.random_range(0..20) {
            0 => self.ping_with_what_grows(peer),
            1 => self.initialize(peer),
            2 => {
                let level = ["debug", "emergency", "loudest"][self.random.random_range(0..3)];
                self.ask(peer, "logging/setLevel", &json!({"level": level}))
            }
            3 => (0..2000).all(|_| self.ask(peer, "ping", &json!({}))),
            4 => (0..500).all(|_| self.ask(peer, "tools/list", &json!({}))),
            5 => (0..500).all(|_| self.ask(peer, "tools/call", &json!({"name": "delete_note"}))),
            6 => (0..2000).all(|_| peer.try_send("nonsense")),
            7 if self.transport == "ws" => {
                (0..5000).all(|_| peer.try_frame(TEXT, b"") && peer.try_frame(PONG, b"x"))
            }
            7 => peer.try_raw(&[b'\n'; 100_000]),
            8 => {
                let half = vec![b'x'; self.random.random_range(1..4 << 20)];
                let _half_a_line = peer.try_raw(&half);
                false
            }
            9 => (0..200).all(|_| {
                let uri = format!("note:///{}", self.next_id);
                self.ask(peer, "resources/subscribe", &json!({"uri": uri}))
            }),
            10 => self.listen(peer),
            11 => (0..50).all(|id| {
                let params = json!({"requestId": id});
                tell(
                    peer,
                    &json!({"method": "notifications/cancelled", "params": params}),
                )
            }),
            12 => (0..50).all(|id| tell(peer, &json!({"id": id, "result": {"forged": true}}))),
            13 => (0..50).all(|_| self.ask(peer, "tasks/get", &json!({"taskId": "another's"}))),
            14 => peer.try_raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            15 => self.ask(peer, "server/discover", &json!({})),
            16 => (0..500).all(|_| self.ask_and_cancel(peer)),
            17 => false,
            18 => {
                let pause = self.random.random_range(1..50);
                thread::sleep(Duration::from_millis(pause));
                true
            }
            _ => {
                peer.drain();
                true
            }
        }
    }

    fn ask(&mut self, peer: &mut TestPeer, method: &str, params: &Value) -> bool {
        self.next_id += 1;
        let id = self.next_id;
        tell(peer, &json!({"id": id, "method": method, "params": params}))
    }

    /// Some characters grow when they are written.
    fn ping_with_what_grows(&mut self, peer: &mut TestPeer) -> bool {
        let text = "\u{85}".repeat(self.random.random_range(1..2_000_000));
        self.ask(peer, "ping", &json!({"x": text}))
    }

    fn initialize(&mut self, peer: &mut TestPeer) -> bool {
        let is_wrong = self.random.random_bool(0.5);
        let client = if is_wrong { json!(5) } else { client_info() };
        let hello = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {}, "sampling": {}},
            "clientInfo": client,
        });
        self.ask(peer, "initialize", &hello)
            && tell(peer, &json!({"method": "notifications/initialized"}))
    }

    fn listen(&mut self, peer: &mut TestPeer) -> bool {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": client_info(),
        });
        let what = match self.random.random_range(0..3) {
            0 => json!({"toolsListChanged": true}),
            1 => json!({"resourceSubscriptions": ["note:///x"]}),
            _ => json!(7),
        };
        let params = json!({"_meta": meta, "notifications": what});
        self.ask(peer, "subscriptions/listen", &params)
    }

    fn ask_and_cancel(&mut self, peer: &mut TestPeer) -> bool {
        let asked = self.ask(peer, "tools/list", &json!({}));
        let params = json!({"requestId": self.next_id});
        asked
            && tell(
                peer,
                &json!({"method": "notifications/cancelled", "params": params}),
            )
    }
}

fn client_info() -> Value {
    json!({"name": "mallory", "version": "1"})
}

fn tell(peer: &mut TestPeer, message: &Value) -> bool {
    let mut message = message.clone();
    message["jsonrpc"] = json!("2.0");
    peer.try_send(&message.to_string())
}

/// The clients' latencies while the neighbour is at `port`.
fn work_beside(
    (transport, port): (&'static str, u16),
    seed: u64,
    work: impl FnOnce() -> Vec<Duration>,
) -> Vec<Duration> {
    let stop = AtomicBool::new(false);
    let neighbour = Neighbour {
        transport,
        port,
        random: StdRng::seed_from_u64(seed),
        stop: &stop,
        next_id: 0,
    };
    thread::scope(|scope| {
        scope.spawn(|| neighbour.run());
        let times = work();
        stop.store(true, Ordering::Relaxed);
        times
    })
}

/// The memory a process has written to, in MiB: read-only pages of the program may stay.
fn kept(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    number.unwrap() / 1024
}

/// The median and the 99th percentile.
fn percentiles(mut times: Vec<Duration>) -> [Duration; 2] {
    times.sort_unstable();
    assert!(!times.is_empty(), "no calls");
    [50, 99].map(|percent| times[times.len() * percent / 100])
}

/// "Alone" is beside a neighbour of another server: it uses the same share of the machine.
fn beside_a_hostile_neighbour(transport: &'static str, flags: &[&str], seed: u64) {
    let _seed = Seed(seed, transport);
    let (server, other) = (server(transport, flags), server(transport, flags));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let clients = runtime.block_on(async {
        let connecting = (0..CLIENTS).map(|number| connect(transport, &server, number));
        futures_util::future::join_all(connecting).await
    });
    let work = || runtime.block_on(all_work(&clients, length() / (2 * ROUNDS)));
    work();
    let before = kept(server.pid());
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let seed = seed * 1_000 + u64::from(round);
        alone.extend(work_beside((transport, other.port), seed, work));
        beside.extend(work_beside((transport, server.port), seed, work));
    }
    let calls = alone.len().min(beside.len());
    let (alone, beside) = (percentiles(alone), percentiles(beside));
    let peak = server.peak() >> 10;
    let mut after = kept(server.pid());
    let settled = Instant::now();
    while after > before + KEPT_MIB && settled.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(100));
        after = kept(server.pid());
    }
    println!(
        "{transport} {flags:?} seed {seed}: {calls} calls; median and p99 {alone:?} alone, {beside:?} beside; \
         {before} MiB before, {peak} at the peak, {after} after"
    );
    // If a busy machine allows few calls, the 99th percentile is only one or two of them.
    let judged = if calls < ENOUGH { 1 } else { 2 };
    for (alone, beside) in alone.iter().zip(beside).take(judged) {
        let allowed = (*alone * SLOWER).max(NOISE);
        assert!(beside <= allowed, "{alone:?} alone, {beside:?} beside");
    }
    assert!(peak < MOST_MIB, "{peak} MiB");
    assert!(after <= before + KEPT_MIB, "{after} MiB stay");
    for client in clients {
        runtime.block_on(client.cancel()).unwrap();
    }
    crate::load::stop(server);
    crate::load::stop(other);
}

#[test]
fn five_clients_work_beside_a_hostile_neighbour() {
    for seed in seeds(&[1]) {
        for (transport, flags) in [("tcp", &[][..]), ("ws", &[]), ("tcp", &["--isolate"])] {
            beside_a_hostile_neighbour(transport, flags, seed);
        }
    }
}
