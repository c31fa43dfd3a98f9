//! When messages may be posted while the server cannot be reached.

use super::super::exchange::ExchangeId;
use crate::client::retry::Retry;
use crate::client::settings::Reconnect;
use std::time::{Duration, Instant};

/// The longest pause that a server may ask for before a message is posted again.
const MAX_PAUSE: Duration = Duration::from_secs(600);

/// Whether and when to try again.
pub(super) struct Dialing {
    /// `None` if reconnecting is not allowed.
    retry: Option<Retry>,
    /// Jitters the pauses.
    jitter: fn(Duration) -> Duration,
    not_before: Option<Instant>,
    /// The one exchange that probes whether the server can be reached again.
    probe: Option<ExchangeId>,
}

impl Dialing {
    pub(super) fn new(reconnect: Option<Reconnect>, jitter: fn(Duration) -> Duration) -> Self {
        Self {
            retry: reconnect.map(Retry::new),
            jitter,
            not_before: None,
            probe: None,
        }
    }

    /// True when a message may be posted now.
    pub(super) fn may_post(&self, now: Instant) -> bool {
        self.probe.is_none() && self.not_before.is_none_or(|time| time <= now)
    }

    /// When that changes by itself.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.probe.is_none())
    }

    /// A message is being posted. True if that probes whether the server can be reached again.
    pub(super) fn posting(&mut self, exchange: ExchangeId) -> bool {
        self.not_before = None;
        let is_probe = self.failures() > 0;
        if is_probe {
            self.probe = Some(exchange);
        }
        is_probe
    }

    /// The server can be reached.
    pub(super) fn succeeded(&mut self) {
        self.probe = None;
        if let Some(retry) = &mut self.retry {
            retry.succeeded();
        }
    }

    /// Notes that this exchange has had an event.
    pub(super) fn on_event_of(&mut self, exchange: ExchangeId) {
        self.probe.take_if(|probe| *probe == exchange);
    }

    /// Notes that the server could not be reached, or asks to retry after `wait`. False if there were too
    /// many attempts.
    pub(super) fn failed(&mut self, now: Instant, wait: Option<Duration>) -> bool {
        let wait = wait.unwrap_or_default().min(MAX_PAUSE);
        // Concurrent exchanges fail together: that counts as one failure.
        let is_known = self.probe.is_some() || self.not_before.is_some_and(|time| time > now);
        let pause = match &mut self.retry {
            None => return false,
            Some(_) if is_known => Duration::ZERO,
            Some(retry) => match retry.failed() {
                Some(pause) => (self.jitter)(pause),
                None => return false,
            },
        };
        self.not_before = self.not_before.max(Some(now + wait.max(pause)));
        true
    }

    /// True if reconnecting is allowed.
    pub(super) fn may_retry(&self) -> bool {
        self.retry.is_some()
    }

    /// How many attempts have failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.retry.as_ref().map_or(0, Retry::failures)
    }
}
