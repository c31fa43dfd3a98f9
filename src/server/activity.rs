//! What happens on a connection, and when it last did.

use super::phase::Phase;
use crate::hub::Session;
use crate::liveness::FOREVER;
use crate::transport::Pulse;
use crate::utils::lock::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long a peer that says no more is served, where `--idle-timeout` says nothing else.
const HALF_CLOSED: Duration = Duration::from_secs(3600);

/// What happens on a connection, and when something last did.
pub(super) struct Activity {
    /// How long nothing may happen.
    limit: Option<Duration>,
    last: Mutex<Instant>,
    pub pulse: Pulse,
    /// Lines have been taken from the session and not yet been sent altogether.
    sending: AtomicBool,
    phase: Mutex<Phase>,
    /// The connection is not read, since the MCP server takes nothing.
    unread: AtomicBool,
    changed: tokio::sync::Notify,
    half_closes: tokio::sync::Notify,
}

impl Activity {
    pub(super) fn new(pulse: Pulse, limit: Option<Duration>) -> Self {
        Self {
            limit,
            last: Mutex::new(Instant::now()),
            pulse,
            sending: AtomicBool::new(false),
            phase: Mutex::default(),
            unread: AtomicBool::new(false),
            changed: tokio::sync::Notify::new(),
            half_closes: tokio::sync::Notify::new(),
        }
    }

    /// True where it counts when messages pass.
    pub(super) fn is_timed(&self) -> bool {
        self.limit.is_some()
    }

    /// A message has passed. Signs of life and other control lines are none.
    pub(super) fn mark(&self) {
        if self.limit.is_none() {
            return;
        }
        *lock(&self.last) = Instant::now();
    }

    /// Something is being sent, or has been.
    pub(super) fn set_sending(&self, sending: bool) {
        self.sending.store(sending, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// How far the connection has got.
    pub(super) fn phase(&self) -> Phase {
        *lock(&self.phase)
    }

    /// The connection enters this phase.
    pub(super) fn enter(&self, phase: Phase) {
        *lock(&self.phase) = phase;
        if phase == Phase::HalfClosed {
            self.half_closes.notify_one();
        }
    }

    /// Completes once when the peer ends its sending half.
    pub(super) async fn half_closes(&self) {
        self.half_closes.notified().await;
    }

    /// How long a peer that says no more is served.
    pub(super) fn half_closed_limit(&self) -> Duration {
        self.limit.unwrap_or(HALF_CLOSED)
    }

    /// Notes whether the connection is read: whom we do not read is not silent.
    pub(super) fn set_unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    pub(super) fn is_sending(&self) -> bool {
        self.sending.load(Ordering::Relaxed)
    }

    /// Waits until something is sent, or has been.
    pub(super) async fn wait(&self) {
        self.changed.notified().await;
    }

    /// Completes when no message has passed for too long and the peer waits for nothing.
    pub(super) async fn idle(&self, session: &Session) {
        let Some(limit) = self.limit else {
            return std::future::pending().await;
        };
        loop {
            until_still(&self.last, limit).await;
            if session.is_settled() {
                return;
            }
            tokio::time::sleep(limit).await;
        }
    }

    /// Completes when nothing has been heard for `limit`.
    pub(super) async fn silence(&self, limit: Option<Duration>) {
        let limit = limit.unwrap_or(FOREVER);
        loop {
            self.pulse.stop(limit).await;
            if !self.unread.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

async fn until_still(last: &Mutex<Instant>, limit: Duration) {
    loop {
        let last = *lock(last);
        if last.elapsed() >= limit {
            return;
        }
        tokio::time::sleep_until(last + limit).await;
    }
}
