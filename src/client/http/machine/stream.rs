//! A stream of events over all its connections: where to resume it, and after which pause.

use crate::transport::sse;
use crate::utils::backoff;
use std::time::{Duration, Instant};

/// The default pause before a reconnection.
const RETRY: Duration = Duration::from_secs(1);

/// The longest pause that a server may ask for.
const MAX_RETRY: Duration = Duration::from_secs(600);

/// A connection that lasted this long counts as useful, even if nothing arrived.
const GOOD_WHILE: Duration = Duration::from_secs(15);

/// The state of a stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The id of the last complete event, if the server numbers them.
    pub last_event_id: Option<String>,
    retry: Option<Duration>,
    /// Useless connections in a row.
    pub failures: u32,
    /// When the connection was made, and whether anything has arrived on it.
    opened: Option<Instant>,
    carried: bool,
}

impl Stream {
    /// A connection was made.
    pub(super) fn opened(&mut self, now: Instant) {
        self.opened = Some(now);
        self.carried = false;
    }

    /// An event has come.
    pub(super) fn note(&mut self, event: &sse::Event) {
        self.carried = true;
        if let Some(id) = &event.id {
            self.last_event_id = Some(id.clone()).filter(|id| !id.is_empty());
        }
        if let Some(retry) = event.retry {
            self.retry = Some(retry.min(MAX_RETRY));
        }
    }

    /// The connection is gone, or could not be made. Returns the pause before the next one.
    pub(super) fn lost(&mut self, now: Instant) -> Duration {
        let lasted = self.opened.take().map(|opened| now.duration_since(opened));
        if self.carried || lasted.is_some_and(|lasted| lasted >= GOOD_WHILE) {
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
        }
        self.carried = false;
        let retry = self.retry.unwrap_or(RETRY);
        match self.failures {
            // The pause that the server requests is kept exactly: some rely on it.
            0 | 1 => retry,
            failures => retry.max(backoff::delay(RETRY, failures - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: Option<&str>, retry: Option<u64>) -> sse::Event {
        sse::Event {
            id: id.map(str::to_owned),
            retry: retry.map(Duration::from_millis),
            ..sse::Event::default()
        }
    }

    #[test]
    fn k8_the_pause_is_the_servers_and_grows_when_nothing_comes() {
        let now = Instant::now();
        let mut stream = Stream::default();
        stream.opened(now);
        stream.note(&event(Some("7"), Some(500)));
        assert_eq!(stream.lost(now), Duration::from_millis(500));
        assert_eq!(stream.last_event_id.as_deref(), Some("7"));
        let pauses: Vec<_> = (0..7).map(|_| stream.lost(now).as_millis()).collect();
        assert_eq!(pauses, [500, 2000, 4000, 8000, 16000, 30000, 30000]);
        stream.opened(now);
        assert_eq!(stream.lost(now + GOOD_WHILE), Duration::from_millis(500));
        assert_eq!(stream.failures, 0);
    }

    #[test]
    fn an_empty_id_takes_the_last_one_back_and_a_retry_has_a_bound() {
        let now = Instant::now();
        let mut stream = Stream::default();
        stream.note(&event(Some("7"), None));
        stream.note(&event(None, None));
        assert_eq!(stream.last_event_id.as_deref(), Some("7"));
        stream.note(&event(Some(""), Some(u64::MAX)));
        assert_eq!(stream.last_event_id, None);
        assert_eq!(stream.lost(now), MAX_RETRY);
    }
}
