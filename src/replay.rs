//! One end of a session that outlives its connections. Both ends number the lines they send by
//! counting, keep those that the other end has not acknowledged, and resend them on a new connection.
//!
//! The same state machine serves both ends: no I/O, no clock. Control lines are not counted.
//!
//! # Invariants
//! 1. Every line that is pushed is received exactly once and in order, over any number of
//!    connections, as long as both ends keep their state.
//! 2. `acknowledged ≤ sent ≤ pushed`: an acknowledgement outside of that is refused.
//! 3. Kept is what was pushed and has not been acknowledged (while keeping), or has not been taken
//!    to be sent (otherwise).
//!
//! The owner bounds what is kept by [`Replay::bytes`], in which each line costs [`LINE_COST`] on top of
//! its own bytes, so that a bound in bytes is one in lines, too.

use crate::liveness::Receipts;
use crate::utils::chunks::Pieces;
use bytes::Bytes;
use std::collections::VecDeque;

/// What is taken to be sent at once, in bytes; one line may be longer.
pub const BATCH: usize = 256 * 1024;

/// What a line costs while it is kept, on top of its bytes: its place in the queue, its allocation.
pub const LINE_COST: usize = 96;

/// What a line costs while it is kept, in bytes.
#[must_use]
pub fn cost(line: &impl Pieces) -> usize {
    line.length() + LINE_COST
}

/// A protocol violation of the far end: its number of received lines cannot be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It claims to have received more than was sent.
    #[error("it acknowledges {received} lines, but {sent} were sent")]
    NeverSent {
        /// The claimed number.
        received: u64,
        /// How many lines were sent.
        sent: u64,
    },
    /// It claims to have received less than it had acknowledged before.
    #[error("it acknowledges {received} lines after {acknowledged}")]
    Backwards {
        /// The claimed number.
        received: u64,
        /// The number acknowledged before.
        acknowledged: u64,
    },
}

/// Lines to send now. `Debug` shows how many there are, never their content.
#[derive(PartialEq, Eq)]
pub struct Batch<L = Bytes> {
    /// The lines, in order.
    pub lines: Vec<L>,
    /// How many of them, from the first on, have been sent before.
    pub resent: usize,
}

impl<L> std::fmt::Debug for Batch<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("lines", &self.lines.len())
            .field("resent", &self.resent)
            .finish()
    }
}

impl<L> std::fmt::Debug for Replay<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay")
            .field("kept", &self.kept.len())
            .field("base", &self.base)
            .field("sent", &self.sent)
            .field("receipts", &self.receipts)
            .finish_non_exhaustive()
    }
}

impl<L> Default for Batch<L> {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            resent: 0,
        }
    }
}

/// One end of a session. `Debug` shows its numbers, never the content of its lines.
pub struct Replay<L = Bytes> {
    /// Lines are kept until they are acknowledged. Otherwise they are dropped as they are taken.
    keep: bool,
    kept: VecDeque<L>,
    kept_bytes: usize,
    /// The number of the first line kept, and so how many were acknowledged (or taken).
    base: u64,
    /// How many lines have been taken on this connection.
    next: u64,
    /// How many lines have ever been taken.
    sent: u64,
    /// Bytes taken on this connection and not acknowledged, while keeping.
    in_flight: usize,
    /// What has been received from the far end.
    pub receipts: Receipts,
}

impl<L> Default for Replay<L> {
    fn default() -> Self {
        Self {
            keep: false,
            kept: VecDeque::new(),
            kept_bytes: 0,
            base: 0,
            next: 0,
            sent: 0,
            in_flight: 0,
            receipts: Receipts::default(),
        }
    }
}

impl<L: Pieces> Replay<L> {
    /// Keeps lines from here on. Lines that were taken before are not resent.
    pub fn start_keeping(&mut self) {
        self.keep = true;
        // Lines are numbered from here.
        self.next -= self.base;
        self.sent -= self.base;
        self.base = 0;
    }

    /// Drops lines as they are taken from here on, those that were taken already included: the far
    /// end does not acknowledge.
    pub fn stop_keeping(&mut self) {
        self.keep = false;
        self.in_flight = 0;
        while self.base < self.next {
            let Some(line) = self.kept.pop_front() else {
                break;
            };
            self.kept_bytes -= cost(&line);
            self.base += 1;
        }
    }

    /// Adds a line to be sent.
    pub fn push(&mut self, line: L) {
        self.kept_bytes += cost(&line);
        self.kept.push_back(line);
    }

    /// Moves the urgent ones among the lines that were never sent before the others. Returns their number.
    pub fn prioritize(&mut self, is_urgent: impl Fn(&L) -> bool) -> usize {
        let sent = (self.sent - self.base) as usize;
        let unsent = self.kept.split_off(sent);
        let (first, rest): (Vec<L>, Vec<L>) = unsent.into_iter().partition(is_urgent);
        let count = first.len();
        self.kept.extend(first.into_iter().chain(rest));
        count
    }

    /// Adds a line to be sent after the first `ahead` that were never sent, and before the others.
    pub fn push_ahead(&mut self, line: L, ahead: usize) {
        self.kept_bytes += cost(&line);
        let sent = (self.sent - self.base) as usize;
        self.kept.insert((sent + ahead).min(self.kept.len()), line);
    }

    /// True when no line has been sent, received or queued.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.receipts.received() == 0 && self.sent == 0 && self.kept.is_empty()
    }

    /// True when everything has been acknowledged, or, without keeping, taken to be sent.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.kept.is_empty()
    }

    /// True while lines are kept until they are acknowledged.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.keep
    }

    /// What the kept lines cost, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.kept_bytes
    }

    /// How many lines wait to be sent on this connection.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.kept.len() - (self.next - self.base) as usize
    }

    /// Takes lines to be sent, of at most `bytes` unless the first alone is longer.
    pub fn take(&mut self, bytes: usize) -> Batch<L> {
        let mut batch = Batch::default();
        let mut taken = 0;
        while taken < bytes {
            let line = if self.keep {
                self.kept.get((self.next - self.base) as usize).cloned()
            } else {
                self.kept.pop_front()
            };
            let Some(line) = line else { break };
            taken += line.length();
            batch.resent += usize::from(self.next < self.sent);
            self.next += 1;
            self.sent = self.sent.max(self.next);
            if self.keep {
                self.in_flight += line.length();
            } else {
                self.base = self.next;
                self.kept_bytes -= cost(&line);
            }
            batch.lines.push(line);
        }
        batch
    }

    /// Drops the lines that the far end has received.
    ///
    /// # Errors
    /// A number that cannot be right. Nothing is changed then.
    pub fn acknowledge(&mut self, received: u64) -> Result<(), Violation> {
        if received > self.sent {
            return Err(Violation::NeverSent {
                received,
                sent: self.sent,
            });
        }
        if received < self.base {
            return Err(Violation::Backwards {
                received,
                acknowledged: self.base,
            });
        }
        while self.base < received {
            let Some(line) = self.kept.pop_front() else {
                break;
            };
            if self.base < self.next {
                self.in_flight = self.in_flight.saturating_sub(line.length());
            }
            self.kept_bytes -= cost(&line);
            self.base += 1;
        }
        self.next = self.next.max(self.base);
        Ok(())
    }

    /// Begins a new connection, whose far end has `received` lines: the others will be resent.
    /// Returns their number.
    ///
    /// # Errors
    /// As [`Replay::acknowledge`].
    pub fn resume(&mut self, received: u64) -> Result<u64, Violation> {
        self.acknowledge(received)?;
        self.next = self.base;
        self.in_flight = 0;
        Ok(self.sent - self.base)
    }

    /// Notes that the far end has `received` lines and accepts no more: the others count as never sent.
    /// Returns these.
    ///
    /// # Errors
    /// As [`Replay::acknowledge`].
    pub fn rewind(&mut self, received: u64) -> Result<impl Iterator<Item = &L>, Violation> {
        self.acknowledge(received)?;
        let count = (self.sent - self.base) as usize;
        (self.next, self.sent) = (self.base, self.base);
        self.in_flight = 0;
        Ok(self.kept.iter().take(count))
    }

    /// True when a request to resume with this number is older than an acknowledgement that came
    /// after it.
    #[must_use]
    pub fn is_stale(&self, received: u64) -> bool {
        received < self.base
    }

    /// Bytes sent on this connection that have not been acknowledged.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The lines that were never sent on any connection, for a new session.
    #[must_use]
    pub fn into_unsent(self) -> VecDeque<L> {
        let sent = (self.sent - self.base) as usize;
        self.kept.into_iter().skip(sent).collect()
    }
}

#[cfg(test)]
mod tests;
