//! Drops events, so that waiting and kept ones stay within their bounds.

use super::stream::Stream;
use super::{GENERAL, Streams};
use crate::replay::cost;
use std::time::{Duration, Instant};

/// The most events that wait for a client that does not listen.
pub(super) const MAX_HELD: usize = 256;

/// The most streams that are kept when they have ended.
pub(super) const MAX_ENDED: usize = 64;

impl Streams {
    /// Forgets the ended streams whose clients have not come back.
    pub fn sweep(&mut self, now: Instant) {
        let is_ended = |stream: &Stream| stream.over && stream.reader.is_none();
        let mut ended: Vec<(Option<Instant>, u64)> = self
            .streams
            .iter()
            .filter(|(number, stream)| **number != GENERAL && is_ended(stream))
            .map(|(number, stream)| (stream.left, *number))
            .collect();
        ended.sort_unstable();
        let too_many = ended.len().saturating_sub(MAX_ENDED);
        for (at, (left, number)) in ended.into_iter().enumerate() {
            let elapsed = left.map_or(Duration::ZERO, |left| now.saturating_duration_since(left));
            if at < too_many || elapsed >= self.bounds.window {
                self.remove(number);
            }
        }
    }

    pub(super) fn count(&mut self) {
        self.backlog.set(self.waiting + self.kept_here);
    }

    pub(super) fn keep(&mut self, bytes: usize) {
        self.kept_here += bytes;
        self.kept.set(self.kept_here);
        self.count();
        self.trim();
    }

    pub(super) fn forget(&mut self, bytes: usize) {
        self.kept_here -= bytes;
        self.kept.set(self.kept_here);
        self.count();
    }

    /// Forgets what has been sent, the oldest stream first, until the bounds hold.
    pub(super) fn trim(&mut self) {
        if !self.keeps_too_much() {
            return;
        }
        let numbers: Vec<u64> = self.streams.keys().copied().collect();
        for number in numbers {
            while self.keeps_too_much() {
                if !self.forget_first(number) {
                    break;
                }
            }
        }
    }

    fn keeps_too_much(&self) -> bool {
        self.kept_here > self.bounds.kept || self.kept.sum() > self.bounds.kept_of_all
    }

    /// Forgets the first event of a stream, if that has been sent.
    pub(super) fn forget_first(&mut self, number: u64) -> bool {
        let Some(stream) = self.streams.get_mut(&number) else {
            return false;
        };
        if stream.first >= stream.unsent {
            return false;
        }
        let Some((line, _)) = stream.events.pop_front() else {
            return false;
        };
        stream.first += 1;
        self.forget(cost(&line));
        true
    }

    /// After an event has been added to this stream.
    pub(super) fn limit(&mut self, number: u64) {
        self.count();
        let held = self
            .streams
            .get(&GENERAL)
            .map_or(0, |stream| match stream.reader {
                None => stream.end() - stream.unsent,
                Some(_) => 0,
            });
        if number == GENERAL && held > MAX_HELD as u64 {
            self.drop_unsent(GENERAL, 1);
        }
        while self.waiting > self.bounds.waiting {
            // A single event is never too slow.
            let slow = self.streams.iter();
            let slow = slow.filter(|(_, stream)| stream.end() - stream.unsent > 1);
            let fullest = slow.max_by_key(|(_, stream)| stream.waiting());
            let Some((fullest, stream)) = fullest.map(|(number, stream)| (*number, stream)) else {
                return;
            };
            let count = stream.end() - stream.unsent;
            tracing::warn!("a client reads one of its streams too slowly, and that ends");
            self.drop_unsent(fullest, count);
            if let Some(stream) = self.streams.get_mut(&fullest) {
                let request = stream.request.clone();
                stream.over = fullest != GENERAL;
                stream.resumable &= fullest == GENERAL;
                stream.wake();
                if fullest == GENERAL {
                    stream.reader = None;
                }
                // Another request may have its id by now.
                if let Some(request) = request
                    && self.requests.get(&request) == Some(&fullest)
                {
                    self.end_request(&request);
                }
            }
        }
    }

    /// Drops this many unsent events, the oldest first.
    pub(super) fn drop_unsent(&mut self, number: u64, count: u64) {
        while self.forget_first(number) {}
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        for _ in 0..count {
            let Some((line, _)) = stream.events.pop_front() else {
                break;
            };
            self.waiting -= cost(&line);
            stream.first += 1;
            stream.unsent = stream.first;
        }
        self.count();
    }

    /// Drops what waits and what is kept, on all streams.
    pub fn drop_all(&mut self) {
        let numbers: Vec<u64> = self.streams.keys().copied().collect();
        for number in numbers {
            self.empty(number);
        }
    }

    pub(super) fn empty(&mut self, number: u64) {
        self.drop_unsent(number, u64::MAX);
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.empty(number);
        self.streams.remove(&number);
    }
}
