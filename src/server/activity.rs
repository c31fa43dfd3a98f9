//! Activity on a connection, and when it was last seen.

use super::phase::Phase;
use crate::hub::Session;
use crate::liveness::FOREVER;
use crate::transport::Pulse;
use crate::utils::lock::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long a half-closed connection is served, unless `--idle-timeout` is given.
const HALF_CLOSED: Duration = Duration::from_secs(3600);

/// Activity on a connection, and when it was last seen.
pub(super) struct Activity {
    /// How long it may be idle.
    limit: Option<Duration>,
    last: Mutex<Instant>,
    pub pulse: Pulse,
    /// Lines have been taken from the session and not yet been sent completely.
    sending: AtomicBool,
    phase: Mutex<Phase>,
    /// The connection is not read, because the MCP server takes nothing.
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

    /// True if the times of messages matter.
    pub(super) fn is_timed(&self) -> bool {
        self.limit.is_some()
    }

    /// Notes that a message has passed. Keepalives and other control lines do not count.
    pub(super) fn mark(&self) {
        if self.limit.is_none() {
            return;
        }
        *lock(&self.last) = Instant::now();
    }

    /// Notes whether lines are being sent.
    pub(super) fn set_sending(&self, sending: bool) {
        self.sending.store(sending, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// The phase of the connection.
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

    /// How long a half-closed connection is served.
    pub(super) fn half_closed_limit(&self) -> Duration {
        self.limit.unwrap_or(HALF_CLOSED)
    }

    /// Notes whether the connection is read: a peer that we do not read is not silent.
    pub(super) fn set_unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    pub(super) fn is_sending(&self) -> bool {
        self.sending.load(Ordering::Relaxed)
    }

    /// Waits until lines are being sent, or have been.
    pub(super) async fn wait(&self) {
        self.changed.notified().await;
    }

    /// Completes when no message has passed for too long and no request is pending.
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

    /// Completes when nothing has arrived for `limit`.
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
