//! When each end of a session acknowledges received lines, sends a keepalive, and considers the
//! other end dead.
//!
//! Both ends keep the same schedule. Pure: no I/O and no clock, the time comes in.

use std::time::{Duration, Instant};

/// An acknowledgement is sent after at most this many received lines …
pub const ACK_LINES: u64 = 64;
/// … or this many bytes of them …
pub const ACK_BYTES: usize = 1 << 20;
/// … or this much time.
pub const ACK_AFTER: Duration = Duration::from_secs(1);

/// From this many lines on, an acknowledgement is sent along with the next line: on its own it
/// would cost as much as that line.
const ACK_ALONG: u64 = ACK_LINES / 2;

/// The longest time that tokio's timers can wait for without overflow.
pub const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How many times a silent connection is checked before it counts as dead.
const LOOKS: u32 = 16;

/// How soon received lines have to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// There is nothing to acknowledge.
    Nothing,
    /// Within [`ACK_AFTER`].
    Soon,
    /// Together with the next line that is sent, or within [`ACK_AFTER`].
    WithNextLine,
    /// Before anything else is sent.
    Now,
}

/// The lines that one end has received, and how many of them it has acknowledged.
#[derive(Debug, Default)]
pub struct Receipts {
    received: u64,
    acknowledged: u64,
    unacknowledged_bytes: usize,
}

impl Receipts {
    /// Counts a received line of `bytes`. True if the schedule has to be checked again: this is the first
    /// line to acknowledge, or the one that makes it urgent.
    pub fn count(&mut self, bytes: usize) -> bool {
        let before = self.urgency();
        self.received += 1;
        self.unacknowledged_bytes += bytes;
        before == Urgency::Nothing || before < Urgency::Now && self.urgency() == Urgency::Now
    }

    /// How soon they have to be acknowledged.
    #[must_use]
    pub fn urgency(&self) -> Urgency {
        match self.received - self.acknowledged {
            0 => Urgency::Nothing,
            ACK_LINES.. => Urgency::Now,
            _ if self.unacknowledged_bytes >= ACK_BYTES => Urgency::Now,
            ACK_ALONG.. => Urgency::WithNextLine,
            _ => Urgency::Soon,
        }
    }

    /// How many lines have been received: the number to be sent, which acknowledges all of them.
    pub fn acknowledge(&mut self) -> u64 {
        self.acknowledged = self.received;
        self.unacknowledged_bytes = 0;
        self.received
    }

    /// How many lines have been received.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }
}

/// When to send the next acknowledgement, which is also the keepalive.
#[derive(Debug)]
pub struct Schedule {
    /// The interval of keepalives.
    keepalive: Duration,
    /// When the next keepalive is due.
    keepalive_at: Instant,
    /// When what has been received must be acknowledged.
    ack_at: Option<Instant>,
}

/// What a [`Schedule`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send an acknowledgement now.
    Now,
    /// Ask again at this time, or earlier when something has been received.
    At(Instant),
}

impl Schedule {
    /// The schedule of a connection that begins `now`.
    #[must_use]
    pub fn new(keepalive: Duration, now: Instant) -> Self {
        let keepalive = keepalive.min(FOREVER);
        Self {
            keepalive,
            keepalive_at: now + keepalive,
            ack_at: None,
        }
    }

    /// When to send the next acknowledgement, given how urgent that is.
    pub fn due(&mut self, urgency: Urgency, now: Instant) -> Due {
        self.ack_at = match urgency {
            Urgency::Nothing => None,
            _ => self.ack_at.or(Some(now + ACK_AFTER)),
        };
        let at = self
            .ack_at
            .map_or(self.keepalive_at, |at| at.min(self.keepalive_at));
        if urgency == Urgency::Now || at <= now {
            Due::Now
        } else {
            Due::At(at)
        }
    }

    /// Notes that an acknowledgement has been sent.
    pub fn sent(&mut self, now: Instant) {
        self.ack_at = None;
        self.keepalive_at = now + self.keepalive;
    }
}

/// Detects that a connection has been silent for too long, from a counter of arrivals: timing each
/// arrival would cost more than an occasional check.
#[derive(Debug)]
pub struct Silence {
    limit: Duration,
    arrivals: usize,
    heard: Instant,
}

impl Silence {
    /// Begins with `arrivals` so far.
    #[must_use]
    pub fn new(limit: Duration, arrivals: usize, now: Instant) -> Self {
        Self {
            limit,
            arrivals,
            heard: now,
        }
    }

    /// True when nothing has arrived for as long as the limit; found up to two [`Silence::pace`]s later.
    pub fn is_over_limit(&mut self, arrivals: usize, now: Instant) -> bool {
        if arrivals != self.arrivals {
            self.arrivals = arrivals;
            self.heard = now;
        }
        now.saturating_duration_since(self.heard) >= self.limit
    }

    /// How long to wait between two checks.
    #[must_use]
    pub fn pace(&self) -> Duration {
        self.limit / LOOKS
    }
}

#[cfg(test)]
mod tests;
