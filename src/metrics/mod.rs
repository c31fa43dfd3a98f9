//! Metrics of a running server, for Prometheus: counted by atomics, and only if requested (`--metrics`).
//! There is one set per process. No label has a value that a peer chooses.

mod histogram;
mod text;

pub use text::Now;

use crate::mcp::Method;
use histogram::Histogram;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

static METRICS: OnceLock<Metrics> = OnceLock::new();

/// Starts counting; `lost_log_lines` returns how many lines of the log were lost.
pub fn enable(lost_log_lines: fn() -> u64) {
    METRICS.get_or_init(|| Metrics::new(lost_log_lines));
}

/// The metrics, if they are counted.
#[must_use]
#[inline]
pub fn get() -> Option<&'static Metrics> {
    METRICS.get()
}

/// The time, if it is measured.
#[must_use]
#[inline]
pub fn clock() -> Option<Instant> {
    get().map(|_| Instant::now())
}

/// Counts a peer that is not admitted.
pub fn refused(why: AuthFailure) {
    if let Some(metrics) = get() {
        count(&metrics.failures[why.index()]);
    }
}

/// Observes how long a message took from its arrival until it was handed to the MCP server.
pub fn handed_over(arrived: Option<Instant>) {
    if let (Some(metrics), Some(arrived)) = (get(), arrived) {
        metrics.to_server.observe(arrived.elapsed());
    }
}

/// Observes how long a message of the MCP server took until it was queued for its peers.
pub fn queued(read: Option<Instant>) {
    if let (Some(metrics), Some(read)) = (get(), read) {
        metrics.to_client.observe(read.elapsed());
    }
}

/// How a peer is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Lines over TCP.
    Tcp,
    /// WebSocket.
    WebSocket,
    /// Streamable HTTP.
    Http,
    /// Lines over a Unix socket.
    Unix,
}

/// The outcome of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// The policy forbids it.
    Blocked,
    /// It is not a message, or not one that a peer may send.
    Invalid,
    /// There were too many.
    RateLimited,
    /// It names what belongs to another user, or there is no process for it.
    Refused,
}

/// Why a peer was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// The token is invalid.
    InvalidToken,
    /// The token has expired.
    Expired,
    /// The token, or its user, is revoked.
    Revoked,
    /// None was shown.
    NoToken,
    /// None was shown in time.
    Timeout,
    /// Its roles are insufficient.
    Roles,
}

/// Names for labels.
trait Label: Copy {
    const NAMES: &'static [&'static str];
    fn index(self) -> usize;
}

macro_rules! label {
    ($kind:ident: $($name:literal),*) => {
        impl Label for $kind {
            const NAMES: &'static [&'static str] = &[$($name),*];
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label!(Transport: "tcp", "websocket", "http", "unix");
label!(Verdict: "passed", "blocked", "invalid", "rate_limited", "refused");
label!(AuthFailure: "invalid_token", "expired", "revoked", "no_token", "timeout", "roles");

/// One row for each method of the catalogue, and these.
const OTHER: usize = Method::ALL.len();
const RESPONSE: usize = OTHER + 1;
const ROWS: usize = RESPONSE + 1;

type Counters<const N: usize> = [AtomicU64; N];

fn counters<const N: usize>() -> Counters<N> {
    std::array::from_fn(|_| AtomicU64::new(0))
}

/// All numbers.
#[derive(Debug)]
pub struct Metrics {
    connections: Counters<4>,
    open_connections: [AtomicI64; 4],
    open_sessions: [AtomicI64; 4],
    failures: Counters<6>,
    messages: [Counters<5>; ROWS],
    received: AtomicU64,
    sent: AtomicU64,
    to_server: Histogram,
    to_client: Histogram,
    server: Histogram,
    running: AtomicI64,
    starts: AtomicU64,
    restarts: AtomicU64,
    exits: AtomicU64,
    unasked_answers: AtomicU64,
    lost_audit_events: AtomicU64,
    /// In seconds since 1970; 0 where there is none, or it does not say.
    certificate_end: AtomicI64,
    lost_log_lines: fn() -> u64,
}

impl Metrics {
    fn new(lost_log_lines: fn() -> u64) -> Self {
        Self {
            connections: counters(),
            open_connections: Default::default(),
            open_sessions: Default::default(),
            failures: counters(),
            messages: std::array::from_fn(|_| counters()),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            to_server: Histogram::default(),
            to_client: Histogram::default(),
            server: Histogram::default(),
            running: AtomicI64::new(0),
            starts: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            exits: AtomicU64::new(0),
            unasked_answers: AtomicU64::new(0),
            lost_audit_events: AtomicU64::new(0),
            certificate_end: AtomicI64::new(0),
            lost_log_lines,
        }
    }

    /// A message of a peer, by its method; a response has none.
    pub fn message(&self, method: &str, verdict: Verdict) {
        let row = match method {
            "" => RESPONSE,
            method => Method::parse(method.as_bytes()).map_or(OTHER, |method| method as usize),
        };
        count(&self.messages[row][verdict.index()]);
    }

    /// Counts bytes of messages from a peer.
    pub fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes of messages for a peer.
    pub fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Observes how long the MCP server took for an answer.
    pub fn answered(&self, took: Duration) {
        self.server.observe(took);
    }

    /// A process is to take the place of another.
    pub fn restarted(&self) {
        count(&self.restarts);
    }

    /// A process that was needed has ended, shared or not.
    pub fn exited(&self) {
        count(&self.exits);
    }

    /// A shared process has answered what it was not asked.
    pub fn unasked(&self) {
        count(&self.unasked_answers);
    }

    /// An event is missing in the audit log.
    pub fn lost_audit_event(&self) {
        count(&self.lost_audit_events);
    }

    /// The certificate that is shown from now on is valid until then, in seconds since 1970.
    pub fn certificate_end(&self, seconds: Option<i64>) {
        let seconds = seconds.unwrap_or_default();
        self.certificate_end.store(seconds, Ordering::Relaxed);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Counts something for as long as it is kept.
#[derive(Debug)]
#[must_use]
pub struct Open(Option<&'static AtomicI64>);

impl Open {
    /// A connection.
    pub fn connection(transport: Transport) -> Self {
        let metrics = get();
        if let Some(metrics) = metrics {
            count(&metrics.connections[transport.index()]);
        }
        Self::new(metrics.map(|it| &it.open_connections[transport.index()]))
    }

    /// A session.
    pub fn session(transport: Transport) -> Self {
        Self::new(get().map(|metrics| &metrics.open_sessions[transport.index()]))
    }

    /// A process of the MCP server.
    pub fn process() -> Self {
        let metrics = get();
        if let Some(metrics) = metrics {
            count(&metrics.starts);
        }
        Self::new(metrics.map(|metrics| &metrics.running))
    }

    fn new(gauge: Option<&'static AtomicI64>) -> Self {
        if let Some(gauge) = gauge {
            gauge.fetch_add(1, Ordering::Relaxed);
        }
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(gauge) = self.0 {
            gauge.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
