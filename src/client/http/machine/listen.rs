//! The stream of a legacy server for messages that belong to no request.

use super::super::exchange::ExchangeId;
use super::stream::Stream;
use std::time::{Duration, Instant};

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// There is no session yet, or the server has no such stream.
    #[default]
    Off,
    /// To be opened at this time.
    Due(Instant),
    /// Opened, or being opened.
    On(ExchangeId),
}

/// Whether that stream is open.
#[derive(Debug, Default)]
pub(super) struct Listen {
    state: State,
    pub stream: Stream,
    /// The server has opened it in this session.
    pub was_open: bool,
    /// The server has refused our token since.
    pub refused: bool,
}

impl Listen {
    /// There is a new session.
    pub(super) fn start(&mut self, now: Instant) {
        self.stream = Stream::default();
        self.was_open = false;
        self.refused = false;
        self.state = State::Due(now);
    }

    /// The server has opened it.
    pub(super) fn opened(&mut self, now: Instant) {
        self.stream.opened(now);
        self.was_open = true;
        self.refused = false;
    }

    /// There is no session any more, or no such stream. Returns the exchange to abandon.
    pub(super) fn stop(&mut self) -> Option<ExchangeId> {
        match std::mem::take(&mut self.state) {
            State::On(exchange) => Some(exchange),
            State::Off | State::Due(_) => None,
        }
    }

    /// Reopens it at once. Returns the exchange to abandon.
    pub(super) fn reopen(&mut self, now: Instant) -> Option<ExchangeId> {
        self.hurry(now);
        let State::On(exchange) = self.state else {
            return None;
        };
        self.state = State::Due(now);
        Some(exchange)
    }

    /// If it waits to be opened, that is now.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let State::Due(time) = &mut self.state {
            *time = now.min(*time);
        }
    }

    /// True when it is to be opened now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Due(time) if time <= now)
    }

    /// When it is to be opened.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        match self.state {
            State::Due(time) => Some(time),
            State::Off | State::On(_) => None,
        }
    }

    /// It is being opened.
    pub(super) fn opening(&mut self, exchange: ExchangeId) {
        self.state = State::On(exchange);
    }

    /// It has ended, or could not be opened. It is opened again after a pause, of `wait` at least.
    pub(super) fn lost(&mut self, now: Instant, wait: Option<Duration>) {
        let wait = wait.unwrap_or_default().min(Duration::from_secs(600));
        self.state = State::Due(now + self.stream.lost(now).max(wait));
    }
}
