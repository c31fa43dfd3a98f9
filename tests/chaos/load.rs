//! A host that sends many requests, and checks every response, and what the MCP server has executed.

use crate::common::{Setup, TestClient, TestServer, example, request, token_with};
use crate::process::PATIENCE;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Reconnect fast, never give up, and detect silence soon.
pub const AGAIN: &[&str] = &[
    "--auto-reconnect",
    "--reconnect-delay",
    "10",
    "--max-attempts",
    "0",
];
pub const ALERT: &[&str] = &[
    "--keepalive-interval",
    "300ms",
    "--keepalive-timeout",
    "1500ms",
];

/// The seeds to run: these, or those from the environment.
pub fn seeds(default: &[u64]) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match (number("CHAOS_SEED"), number("CHAOS_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => (1..=count).collect(),
        (None, None) => default.to_vec(),
    }
}

/// Reports the seed when a test fails.
pub struct Seed(pub u64, pub &'static str);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- failed over {} with CHAOS_SEED={}", self.1, self.0);
        }
    }
}

/// What the MCP server has logged.
pub struct Tally {
    folder: TempDir,
}

impl Tally {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("tally")
    }

    /// A server in front of a tally server with this log.
    pub fn server(&self, transport: &'static str) -> Setup {
        let path = |path: &Path| path.display().to_string();
        let child = path(&example("tally_server"));
        Setup::new(transport)
            .program(&[&child, "--log", &path(&self.path())])
            .args(ALERT)
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap_or_default()
    }

    /// The numbers of the requests of `client` that were executed, in order.
    pub fn executed(&self, client: u64) -> Vec<u64> {
        let begin = format!("run {client} ");
        self.text()
            .lines()
            .filter_map(|line| line.strip_prefix(&begin))
            .map(|rest| rest.split(' ').next().unwrap().parse().unwrap())
            .collect()
    }
}

/// 1 byte to 1 MiB, mostly small.
pub fn size(random: &mut StdRng) -> usize {
    match random.random_range(0..1000) {
        0..700 => random.random_range(1..256),
        700..930 => random.random_range(256..8 << 10),
        930..990 => random.random_range(8 << 10..64 << 10),
        990..998 => random.random_range(64 << 10..512 << 10),
        _ => random.random_range(512 << 10..=1 << 20),
    }
}

fn delay(random: &mut StdRng) -> u64 {
    match random.random_range(0..100) {
        0..70 => 0,
        70..99 => random.random_range(1..50),
        _ => random.random_range(50..400),
    }
}

/// FNV-1a, as in the tally server.
fn checksum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn blob(seed: u64, size: usize) -> String {
    let word = format!("{seed:x}.");
    let mut text = word.repeat(size / word.len() + 1);
    text.truncate(size);
    text
}

struct Asked {
    sum: u64,
    reply: usize,
}

/// The outcomes of requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub answered: usize,
    pub failed: usize,
    pub notes: u64,
}

/// The totals of a load, where nothing may be lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Toll {
    pub runs: usize,
    pub requests: u64,
    pub cuts: usize,
    /// Requests that were not executed, and notifications that did not arrive.
    pub lost: u64,
    /// Requests that were executed or answered twice, and duplicate notifications.
    pub doubled: u64,
    /// Requests without a response.
    pub hung: u64,
    /// Requests that were executed out of order.
    pub disordered: u64,
}

impl std::ops::AddAssign for Toll {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.requests += other.requests;
        self.cuts += other.cuts;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.hung += other.hung;
        self.disordered += other.disordered;
    }
}

impl std::fmt::Display for Toll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} requests, {} cuts: {} lost, {} doubled, {} hung, {} out of order",
            self.requests, self.cuts, self.lost, self.doubled, self.hung, self.disordered
        )
    }
}

impl Toll {
    /// Nothing forbidden has happened.
    pub fn is_nothing(&self) -> bool {
        self.lost + self.doubled + self.hung + self.disordered == 0
    }
}

/// A client of the program, and the host that it serves.
pub struct Host {
    pub client: TestClient,
    pub number: u64,
    pub counts: Counts,
    open: HashMap<u64, Asked>,
    next: u64,
    /// Errors are allowed, and notification numbers may restart.
    pub loses: bool,
    /// Violations are counted, see [`Host::toll`].
    pub tolerant: bool,
    /// The numbers of requests that got an error.
    pub failed: Vec<u64>,
    /// Those of them that were reported as not executed.
    pub not_executed: Vec<u64>,
    /// Uses 2026-07-28.
    pub modern: bool,
    lost: u64,
    doubled: u64,
    hung: u64,
}

impl Host {
    pub fn start(transport: &str, port: u16, number: u64, auth: bool) -> Self {
        Self::start_with(transport, port, number, auth, &[])
    }

    /// With more flags for the client.
    pub fn start_with(
        transport: &str,
        port: u16,
        number: u64,
        auth: bool,
        flags: &[String],
    ) -> Self {
        let token = auth.then(|| token_with(&["user"]));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let args = [AGAIN, ALERT, &flags].concat();
        let client = TestClient::start(transport, port, &args, token.as_deref());
        Self::of(client, number)
    }

    /// Number 1, over HTTP.
    pub fn over_http(port: u16, token: &str) -> Self {
        let url = format!("http://127.0.0.1:{port}/mcp");
        let client = TestClient::http(
            &url,
            AGAIN,
            &[
                ("MCP_REMOTE_JWT_TOKEN", token),
                ("RUST_LOG", "mcp_remote=debug"),
            ],
        );
        Self::of(client, 1)
    }

    fn of(client: TestClient, number: u64) -> Self {
        Self {
            client,
            number,
            counts: Counts::default(),
            open: HashMap::new(),
            next: 0,
            loses: false,
            tolerant: false,
            failed: Vec::new(),
            not_executed: Vec::new(),
            modern: false,
            lost: 0,
            doubled: 0,
            hung: 0,
        }
    }

    /// The totals, once everything has finished.
    pub fn toll(&self, tally: &Tally, cuts: usize) -> Toll {
        let executed = tally.executed(self.number);
        let once: HashSet<u64> = executed.iter().copied().collect();
        let missing = (0..self.next).filter(|n| !once.contains(n)).count() as u64;
        let backwards = executed.windows(2).filter(|pair| pair[1] < pair[0]);
        Toll {
            runs: 1,
            requests: self.next,
            cuts,
            lost: self.lost + missing + self.next.saturating_sub(self.counts.notes),
            doubled: self.doubled + (executed.len() - once.len()) as u64,
            hung: self.hung,
            disordered: backwards.count() as u64,
        }
    }

    /// The legacy handshake, and the other messages that set up a session.
    pub fn initialize(&mut self) {
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "host", "version": "1"}});
        let answer = self.client.ask("init", "initialize", params);
        assert_eq!(answer["result"]["serverInfo"]["name"], "tally", "{answer}");
        self.client
            .send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        let answer = self
            .client
            .ask("level", "logging/setLevel", json!({"level": "warning"}));
        assert!(answer["result"].is_object(), "{answer}");
        let answer = self
            .client
            .ask("uri", "resources/subscribe", json!({"uri": "tally:///x"}));
        assert!(answer["result"].is_object(), "{answer}");
    }

    /// Sends one more request.
    pub fn ask(&mut self, random: &mut StdRng) {
        let (n, pad, reply) = (self.next, size(random), size(random));
        let delay = delay(random);
        self.ask_sized(n, pad, reply, delay);
    }

    pub fn ask_sized(&mut self, n: u64, pad: usize, reply: usize, delay: u64) {
        let pad = blob(n + 7, pad);
        let mut params = json!({"client": self.number, "n": n, "pad": pad, "reply": reply,
            "delayMs": delay, "note": true, "_meta": {"progressToken": n}});
        if self.modern {
            params["name"] = json!("tally");
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        }
        self.client.send(&request(n, "tools/call", params));
        let sum = checksum(&pad);
        self.open.insert(n, Asked { sum, reply });
        self.next = n + 1;
    }

    pub fn asked(&self) -> u64 {
        self.next
    }

    pub fn owed(&self) -> usize {
        self.open.len()
    }

    /// Processes what has arrived, without waiting.
    pub fn hear(&mut self) {
        while let Some(message) = self.client.try_next() {
            self.check(&message);
        }
    }

    /// Waits until this many notifications have arrived.
    pub fn hear_notes(&mut self, count: u64) {
        while self.counts.notes < count {
            let message = self.client.next();
            self.check(&message);
        }
    }

    /// Waits until at most `owed` requests are without a response.
    pub fn hear_until(&mut self, owed: usize) {
        self.hear_until_within(owed, PATIENCE);
    }

    /// The same, with this timeout for each message.
    pub fn hear_until_within(&mut self, owed: usize, patience: Duration) {
        let mut heard = Instant::now();
        while self.open.len() > owed {
            if let Some(message) = self.client.next_within(Duration::from_millis(50)) {
                self.check(&message);
                heard = Instant::now();
            }
            if heard.elapsed() >= patience {
                assert!(
                    self.tolerant,
                    "hung: {} requests without an answer, {:?} …",
                    self.open.len(),
                    self.open.keys().min()
                );
                self.hung += self.open.len() as u64;
                self.open.clear();
            }
        }
    }

    fn check(&mut self, message: &Value) {
        if message["method"] == "notifications/progress" {
            let number = message["params"]["progress"].as_u64().unwrap();
            if self.loses && number < self.counts.notes {
                self.counts.notes = number;
            }
            if self.loses {
                assert!(number >= self.counts.notes, "{message}");
                self.counts.notes = number;
            }
            if self.tolerant {
                self.lost += number.saturating_sub(self.counts.notes);
                self.doubled += u64::from(number < self.counts.notes);
                self.counts.notes = self.counts.notes.max(number + 1);
                return;
            }
            assert_eq!(
                number, self.counts.notes,
                "a notification is lost or doubled"
            );
            self.counts.notes += 1;
            return;
        }
        let method = message["method"].as_str().unwrap_or_default();
        assert!(!method.starts_with("mcp-remote/"), "{message}");
        let n = message["id"]
            .as_u64()
            .unwrap_or_else(|| panic!("{message}"));
        let Some(asked) = self.open.remove(&n) else {
            assert!(self.tolerant, "answered twice: {n}");
            self.doubled += 1;
            return;
        };
        let result = &message["result"];
        if message["error"].is_object() {
            assert!(self.loses, "{message}");
            assert_eq!(message["error"]["code"], -32603, "{message}");
            assert_eq!(
                message["error"]["data"]["source"], "mcp-remote",
                "{message}"
            );
            self.counts.failed += 1;
            self.failed.push(n);
            if message["error"]["data"]["executed"] == "no" {
                self.not_executed.push(n);
            }
            return;
        }
        assert_eq!(result["n"], n, "somebody else's answer");
        assert_eq!(result["client"], self.number, "somebody else's answer");
        assert_eq!(
            result["sum"], asked.sum,
            "the request was changed on the way"
        );
        let right = result["blob"].as_str() == Some(&*blob(n, asked.reply));
        assert!(right, "the answer was changed on the way");
        self.counts.answered += 1;
    }

    /// Leaves, with nothing pending.
    pub fn leave(&mut self) {
        self.client.close_stdin();
        let began = Instant::now();
        assert_eq!(self.client.wait(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(3), "slow to leave");
    }
}

/// Stops a server gracefully.
pub fn stop(server: TestServer) {
    let log = server.stop();
    assert!(!log.contains("panicked"), "{log}");
}
