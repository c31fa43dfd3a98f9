//! What makes a session outlive its connection: both ends number the lines they send by counting,
//! keep what the other has not acknowledged, and send the rest again on a new connection.
//!
//! One state machine for both ends: no I/O, no clock. Control lines are not counted.
//!
//! # Invariants
//! 1. Every line that is pushed is received exactly once and in order, over any number of
//!    connections, as long as both ends keep their state.
//! 2. `acknowledged ≤ sent ≤ pushed`: an acknowledgement outside of that is refused.
//! 3. What is kept is what was pushed and not acknowledged (with `keep`), or not yet taken to be
//!    sent (without).
//!
//! The owner bounds what is kept by [`Replay::bytes`], in which each line costs [`LINE_COST`] beside
//! its own bytes: a bound in bytes is one in lines, too.

use crate::liveness::Receipts;
use crate::utils::rope::Pieces;
use bytes::Bytes;
use std::collections::VecDeque;

/// What is taken to be sent at once, in bytes; one line may be longer.
pub const BATCH: usize = 256 * 1024;

/// What a line costs while it is kept, beside its bytes: its place in the queue, its piece of memory.
pub const LINE_COST: usize = 96;

/// What a line costs while it is kept.
#[must_use]
pub fn cost(line: &impl Pieces) -> usize {
    line.length() + LINE_COST
}

/// Why the far end is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It has received more than was sent.
    #[error("it acknowledges {received} lines, but {sent} were sent")]
    NeverSent {
        /// What it says.
        received: u64,
        /// What is true.
        sent: u64,
    },
    /// It has received less than it had before.
    #[error("it acknowledges {received} lines after {acknowledged}")]
    Backwards {
        /// What it says.
        received: u64,
        /// What it said before.
        acknowledged: u64,
    },
}

/// Lines to send now. `Debug` shows how many, never what they say.
#[derive(PartialEq, Eq)]
pub struct Batch<L = Bytes> {
    /// The lines, in order.
    pub lines: Vec<L>,
    /// So many of them, the first ones, have been sent before.
    pub again: usize,
}

impl<L> std::fmt::Debug for Batch<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("lines", &self.lines.len())
            .field("again", &self.again)
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
            again: 0,
        }
    }
}

/// One end of a session. `Debug` shows its numbers, never its lines.
pub struct Replay<L = Bytes> {
    /// Keep lines until they are acknowledged. Without, they are forgotten as they are taken.
    keep: bool,
    kept: VecDeque<L>,
    kept_bytes: usize,
    /// The number of the first line kept, which is also how many were acknowledged (or taken).
    base: u64,
    /// How many lines have been taken on this connection.
    next: u64,
    /// How many lines have ever been taken.
    sent: u64,
    /// Bytes taken on this connection and not acknowledged (with `keep`).
    under_way: usize,
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
            under_way: 0,
            receipts: Receipts::default(),
        }
    }
}

impl<L: Pieces> Replay<L> {
    /// Keeps lines from here on. Nothing may have been taken yet that must come again.
    pub fn keep(&mut self) {
        self.keep = true;
        // Numbers count from the begin of the session.
        self.next -= self.base;
        self.sent -= self.base;
        self.base = 0;
    }

    /// Forgets lines as they are taken from here on, those that were taken already included: the
    /// far end knows nothing of acknowledgements.
    pub fn stop_keeping(&mut self) {
        self.keep = false;
        self.under_way = 0;
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

    /// Lets those that were never sent and that `hurries` holds for go before the others that were
    /// never sent. Gives how many those are.
    pub fn advance(&mut self, hurries: impl Fn(&L) -> bool) -> usize {
        let sent = (self.sent - self.base) as usize;
        let unsent = self.kept.split_off(sent);
        let (first, rest): (Vec<L>, Vec<L>) = unsent.into_iter().partition(hurries);
        let count = first.len();
        self.kept.extend(first.into_iter().chain(rest));
        count
    }

    /// Adds a line to be sent behind the first `ahead` that were never sent, and before the others.
    pub fn push_early(&mut self, line: L, ahead: usize) {
        self.kept_bytes += cost(&line);
        let sent = (self.sent - self.base) as usize;
        self.kept.insert((sent + ahead).min(self.kept.len()), line);
    }

    /// True where there is nothing that the far end has or has not received, nor we.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.receipts.received() == 0 && self.sent == 0 && self.kept.is_empty()
    }

    /// True where everything has been acknowledged, or, without keeping, sent.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.kept.is_empty()
    }

    /// True where lines are kept until they are acknowledged.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.keep
    }

    /// What is kept costs so much, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Lines that wait to be sent on this connection.
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
            batch.again += usize::from(self.next < self.sent);
            self.next += 1;
            self.sent = self.sent.max(self.next);
            if self.keep {
                self.under_way += line.length();
            } else {
                self.base = self.next;
                self.kept_bytes -= cost(&line);
            }
            batch.lines.push(line);
        }
        batch
    }

    /// The far end has received so many lines; they are forgotten.
    ///
    /// # Errors
    /// Numbers that cannot be. Nothing is changed then.
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
                self.under_way = self.under_way.saturating_sub(line.length());
            }
            self.kept_bytes -= cost(&line);
            self.base += 1;
        }
        self.next = self.next.max(self.base);
        Ok(())
    }

    /// A new connection, whose far end has received so many lines: the others are sent again.
    /// Gives how many those are.
    ///
    /// # Errors
    /// As [`Replay::acknowledge`].
    pub fn resume(&mut self, received: u64) -> Result<u64, Violation> {
        self.acknowledge(received)?;
        self.next = self.base;
        self.under_way = 0;
        Ok(self.sent - self.base)
    }

    /// The far end has received so many lines and will take no more: the others count as never
    /// sent. Gives those.
    ///
    /// # Errors
    /// As [`Replay::acknowledge`].
    pub fn unsend(&mut self, received: u64) -> Result<impl Iterator<Item = &L>, Violation> {
        self.acknowledge(received)?;
        let count = (self.sent - self.base) as usize;
        (self.next, self.sent) = (self.base, self.base);
        self.under_way = 0;
        Ok(self.kept.iter().take(count))
    }

    /// True where a resume with this number comes from a connection that is older than what has
    /// been heard since.
    #[must_use]
    pub fn is_outdated(&self, received: u64) -> bool {
        received < self.base
    }

    /// Bytes sent on this connection that are not acknowledged.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Lines that were never sent on any connection, for a session that begins anew.
    #[must_use]
    pub fn into_unsent(self) -> VecDeque<L> {
        let sent = (self.sent - self.base) as usize;
        self.kept.into_iter().skip(sent).collect()
    }
}

#[cfg(test)]
mod tests;
