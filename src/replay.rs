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

use bytes::Bytes;
use std::collections::VecDeque;

/// An acknowledgement goes out after so many lines …
pub const ACK_LINES: u64 = 64;
/// … or so many bytes of unacknowledged receipt.
pub const ACK_BYTES: usize = 1 << 20;

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
#[derive(Default, PartialEq, Eq)]
pub struct Batch {
    /// The lines, in order.
    pub lines: Vec<Bytes>,
    /// So many of them, the first ones, have been sent before.
    pub again: usize,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("lines", &self.lines.len())
            .field("again", &self.again)
            .finish()
    }
}

/// One end of a session. `Debug` shows its numbers, never its lines.
#[derive(Default)]
pub struct Replay {
    /// Keep lines until they are acknowledged. Without, they are forgotten as they are taken.
    keep: bool,
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    /// The number of the first line kept, which is also how many were acknowledged (or taken).
    base: u64,
    /// How many lines have been taken on this connection.
    next: u64,
    /// How many lines have ever been taken.
    sent: u64,
    /// Bytes taken on this connection and not acknowledged (with `keep`).
    under_way: usize,
    received: u64,
    /// How many of the received the far end knows of.
    told: u64,
    untold_bytes: usize,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay")
            .field("kept", &self.kept.len())
            .field("base", &self.base)
            .field("sent", &self.sent)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl Replay {
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
            self.kept_bytes -= line.len();
            self.base += 1;
        }
    }

    /// Adds a line to be sent.
    pub fn push(&mut self, line: Bytes) {
        self.kept_bytes += line.len();
        self.kept.push_back(line);
    }

    /// Bytes that are kept.
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
    pub fn take(&mut self, bytes: usize) -> Batch {
        let mut batch = Batch::default();
        let mut taken = 0;
        while taken < bytes {
            let line = if self.keep {
                self.kept.get((self.next - self.base) as usize).cloned()
            } else {
                self.kept.pop_front()
            };
            let Some(line) = line else { break };
            taken += line.len();
            batch.again += usize::from(self.next < self.sent);
            self.next += 1;
            self.sent = self.sent.max(self.next);
            if self.keep {
                self.under_way += line.len();
            } else {
                self.base = self.next;
                self.kept_bytes -= line.len();
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
                self.under_way = self.under_way.saturating_sub(line.len());
            }
            self.kept_bytes -= line.len();
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
    pub fn unsend(&mut self, received: u64) -> Result<impl Iterator<Item = &Bytes>, Violation> {
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

    /// A line of `bytes` has been received. True when the far end should be told at once.
    pub fn receive(&mut self, bytes: usize) -> bool {
        self.received += 1;
        self.untold_bytes += bytes;
        self.is_due()
    }

    /// True when something has been received that the far end has not been told of.
    #[must_use]
    pub fn is_untold(&self) -> bool {
        self.received > self.told
    }

    /// True when so much has been received that the far end should be told at once.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.received - self.told >= ACK_LINES || self.untold_bytes >= ACK_BYTES
    }

    /// How many lines have been received: the number to tell the far end, who then knows.
    pub fn tell(&mut self) -> u64 {
        self.told = self.received;
        self.untold_bytes = 0;
        self.received
    }

    /// Lines that were never sent on any connection, for a session that begins anew.
    #[must_use]
    pub fn into_unsent(self) -> VecDeque<Bytes> {
        let sent = (self.sent - self.base) as usize;
        self.kept.into_iter().skip(sent).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(number: u32) -> Bytes {
        Bytes::from(format!("{number}\n"))
    }

    #[test]
    fn debug_shows_no_line() {
        let mut end = Replay::default();
        end.push(Bytes::from_static(b"hunter2\n"));
        let before = format!("{end:?}");
        let shown = before + &format!("{:?} {end:?}", end.take(100));
        assert!(
            !shown.contains("hunter") && shown.contains("lines: 1"),
            "{shown}"
        );
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let mut end = Replay::default();
        end.keep();
        for number in 0..3 {
            end.push(line(number));
        }
        assert_eq!(
            end.acknowledge(1),
            Err(Violation::NeverSent {
                received: 1,
                sent: 0
            })
        );
        assert_eq!(end.take(1).lines.len(), 1);
        end.acknowledge(1).unwrap();
        assert_eq!(
            end.acknowledge(0),
            Err(Violation::Backwards {
                received: 0,
                acknowledged: 1
            })
        );
        assert_eq!(
            end.resume(2),
            Err(Violation::NeverSent {
                received: 2,
                sent: 1
            })
        );
        assert_eq!((end.waiting(), end.bytes()), (2, 4));
    }

    #[test]
    fn acknowledgements_are_due_by_lines_and_by_bytes() {
        let mut end = Replay::default();
        assert!(!end.is_untold());
        assert!((1..ACK_LINES).all(|_| !end.receive(1)));
        assert!(end.receive(1));
        assert_eq!(end.tell(), ACK_LINES);
        assert!(!end.is_untold());
        assert!(end.receive(ACK_BYTES));
    }

    #[test]
    fn without_keeping_lines_are_gone_as_they_are_taken() {
        let mut end = Replay::default();
        end.push(line(0));
        end.push(line(1));
        assert_eq!(
            end.take(1),
            Batch {
                lines: vec![line(0)],
                again: 0
            }
        );
        assert_eq!((end.waiting(), end.bytes()), (1, 2));
        end.keep();
        assert_eq!(
            end.take(9),
            Batch {
                lines: vec![line(1)],
                again: 0
            }
        );
        assert_eq!(end.bytes(), 2);
        end.acknowledge(1).unwrap();
        assert_eq!(end.bytes(), 0);
    }

    #[test]
    fn what_a_far_end_that_stops_has_not_received_was_never_sent() {
        let mut end = Replay::default();
        end.keep();
        (0..4).for_each(|number| end.push(line(number)));
        assert_eq!(end.take(6).lines.len(), 3);
        assert_eq!(end.under_way(), 6);
        let unsent: Vec<Bytes> = end.unsend(1).unwrap().cloned().collect();
        assert_eq!(unsent, [line(1), line(2)]);
        assert_eq!(end.under_way(), 0);
        assert!(end.is_outdated(0) && !end.is_outdated(1));
        assert!(end.unsend(2).is_err());
        assert_eq!(end.into_unsent(), [line(1), line(2), line(3)]);
    }

    /// What can happen to two ends and the wire between them.
    #[derive(Clone, Debug)]
    enum Event {
        Push { right: bool },
        Take { right: bool, bytes: usize },
        Deliver { right: bool },
        Tell { right: bool },
        Cut,
    }

    /// One direction of the wire: lines with their payload, and acknowledgements.
    #[derive(Default)]
    struct Wire(VecDeque<Result<Bytes, u64>>);

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

        /// Two ends, a wire that loses whatever is on it: any interleaving of send, receive,
        /// acknowledge, cut and resume delivers every line once and in order.
        #[test]
        fn nothing_is_lost_or_doubled(events in prop::collection::vec(prop_oneof![
            3 => any::<bool>().prop_map(|right| Event::Push { right }),
            4 => (any::<bool>(), 1usize..30).prop_map(|(right, bytes)| Event::Take { right, bytes }),
            6 => any::<bool>().prop_map(|right| Event::Deliver { right }),
            2 => any::<bool>().prop_map(|right| Event::Tell { right }),
            1 => Just(Event::Cut),
        ], 0..200)) {
            let mut ends = [Replay::default(), Replay::default()];
            // wires[n] carries what end n sends.
            let mut wires = [Wire::default(), Wire::default()];
            let mut pushed = [0u32; 2];
            let mut got: [Vec<Bytes>; 2] = Default::default();
            ends.iter_mut().for_each(Replay::keep);
            let deliver = |to: usize, ends: &mut [Replay; 2], wires: &mut [Wire; 2], got: &mut [Vec<Bytes>; 2]| {
                match wires[1 - to].0.pop_front() {
                    Some(Ok(line)) => {
                        ends[to].receive(line.len());
                        got[to].push(line);
                    }
                    Some(Err(received)) => ends[to].acknowledge(received).unwrap(),
                    None => {}
                }
            };
            let cut = |ends: &mut [Replay; 2], wires: &mut [Wire; 2]| {
                *wires = Default::default();
                for end in 0..2 {
                    let received = ends[1 - end].tell();
                    ends[end].resume(received).unwrap();
                }
            };
            for event in events {
                match event {
                    Event::Push { right } => {
                        let end = usize::from(right);
                        ends[end].push(line(pushed[end]));
                        pushed[end] += 1;
                    }
                    Event::Take { right, bytes } => {
                        let end = usize::from(right);
                        let batch = ends[end].take(bytes);
                        prop_assert!(batch.again <= batch.lines.len());
                        wires[end].0.extend(batch.lines.into_iter().map(Ok));
                    }
                    Event::Deliver { right } => deliver(usize::from(right), &mut ends, &mut wires, &mut got),
                    Event::Tell { right } => {
                        let end = usize::from(right);
                        let received = ends[end].tell();
                        wires[end].0.push_back(Err(received));
                    }
                    Event::Cut => cut(&mut ends, &mut wires),
                }
            }
            cut(&mut ends, &mut wires);
            for end in 0..2 {
                let batch = ends[end].take(usize::MAX);
                wires[end].0.extend(batch.lines.into_iter().map(Ok));
                while !wires[end].0.is_empty() {
                    deliver(1 - end, &mut ends, &mut wires, &mut got);
                }
                let received = ends[1 - end].tell();
                ends[end].acknowledge(received).unwrap();
                prop_assert_eq!(ends[end].bytes(), 0);
                let expected: Vec<Bytes> = (0..pushed[end]).map(line).collect();
                prop_assert_eq!(&got[1 - end], &expected);
            }
        }
    }
}
