//! Sends a process the messages of one sender at a time, for a while, if processes have ended because of an
//! unknown sender: the next end shows which.

use super::SessionId;
use super::evidence::Sender;
use crate::utils::chunks::Chunks;
use std::collections::{BTreeSet, VecDeque};

/// The current turn, and the lines that wait for theirs.
#[derive(Debug, Default)]
pub(super) struct Turns {
    current: Option<Turn>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Turn {
    sender: Sender,
    /// Its requests without an answer, by number.
    open: BTreeSet<i64>,
    /// It has lasted for a tick.
    is_old: bool,
}

/// What waits for the turn of one sender.
#[derive(Debug)]
pub(super) struct Waiting {
    pub sender: Sender,
    /// In order.
    pub lines: Vec<Line>,
}

/// A line of one of its sessions.
#[derive(Debug)]
pub(super) struct Line {
    pub session: SessionId,
    /// The number of a request.
    pub request: Option<i64>,
    pub text: Chunks,
}

impl Turns {
    /// True if a line of `sender`, a request with this number or a message without an answer, may be
    /// sent to the process now; else it belongs in [`Turns::queue`].
    pub(super) fn admit(&mut self, sender: &Sender, request: Option<i64>) -> bool {
        if self.current.is_none() && self.waiting.is_empty() {
            self.current = Some(Turn {
                sender: sender.clone(),
                open: BTreeSet::new(),
                is_old: false,
            });
        }
        match &mut self.current {
            Some(turn) if turn.sender == *sender => {
                turn.open.extend(request);
                true
            }
            _ => false,
        }
    }

    /// Where such a line of `session` waits.
    pub(super) fn queue(
        &mut self,
        sender: &Sender,
        session: SessionId,
        request: Option<i64>,
    ) -> &mut Chunks {
        let known = self
            .waiting
            .iter()
            .position(|known| known.sender == *sender);
        let at = known.unwrap_or(self.waiting.len());
        if known.is_none() {
            self.waiting.push_back(Waiting {
                sender: sender.clone(),
                lines: Vec::new(),
            });
        }
        let lines = &mut self.waiting[at].lines;
        let place = lines.len();
        lines.push(Line {
            session,
            request,
            text: Chunks::default(),
        });
        &mut lines[place].text
    }

    /// Drops the waiting lines of a session that `keep` is false for.
    pub(super) fn retain(&mut self, session: SessionId, mut keep: impl FnMut(&Line) -> bool) {
        for waiting in &mut self.waiting {
            waiting
                .lines
                .retain(|line| line.session != session || keep(line));
        }
        self.waiting.retain(|waiting| !waiting.lines.is_empty());
    }

    /// Drops a request that waits; false if it does not.
    pub(super) fn take_back(&mut self, request: i64) -> bool {
        let holds = self.holds(request);
        if holds {
            for waiting in &mut self.waiting {
                waiting.lines.retain(|line| line.request != Some(request));
            }
            self.waiting.retain(|waiting| !waiting.lines.is_empty());
        }
        holds
    }

    /// Begins the next turn, if lines wait for one.
    pub(super) fn pass(&mut self) -> Option<Waiting> {
        let next = self.waiting.pop_front();
        self.current = next.as_ref().map(|next| Turn {
            sender: next.sender.clone(),
            open: next.lines.iter().filter_map(|line| line.request).collect(),
            is_old: false,
        });
        next
    }

    /// Notes that time has passed; true if the turn has lasted long enough.
    pub(super) fn tick(&mut self) -> bool {
        let turn = self.current.as_mut();
        turn.is_none_or(|turn| std::mem::replace(&mut turn.is_old, true))
    }

    /// Notes that a request was answered; true if that ends the turn.
    pub(super) fn answered(&mut self, request: i64) -> bool {
        let turn = self.current.as_mut();
        turn.is_some_and(|turn| turn.open.remove(&request) && turn.open.is_empty())
    }

    /// True if this request waits for the turn of its sender.
    pub(super) fn holds(&self, request: i64) -> bool {
        let mut lines = self.waiting.iter().flat_map(|waiting| &waiting.lines);
        lines.any(|line| line.request == Some(request))
    }

    /// Drops waiting lines.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// The size of waiting lines, in bytes.
    pub(super) fn len(&self) -> usize {
        let lines = self.waiting.iter().flat_map(|waiting| &waiting.lines);
        lines.map(|line| line.text.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sender_at_a_time() {
        let [a, b, c] = ["a", "b", "c"].map(|user| Sender::User(user.into()));
        let mut turns = Turns::default();
        assert!(turns.admit(&a, Some(1)) && turns.admit(&a, Some(2)));
        let session = SessionId(1);
        for (sender, request) in [(&b, Some(3)), (&c, None), (&b, Some(4))] {
            assert!(!turns.admit(sender, request));
            turns.queue(sender, session, request).extend("line\n");
        }
        assert_eq!(turns.len(), 15);
        assert!(!turns.answered(1) && !turns.answered(3));
        assert!(turns.answered(2));
        let next = turns.pass().unwrap();
        let requests =
            |next: &Waiting| -> Vec<_> { next.lines.iter().map(|line| line.request).collect() };
        assert_eq!(next.sender, b);
        assert_eq!(requests(&next), [Some(3), Some(4)]);
        // A sender that has had its turn goes behind the others.
        assert!(turns.admit(&b, Some(5)) && !turns.admit(&a, Some(6)));
        turns.queue(&a, session, Some(6)).extend("line\n");
        assert!(!turns.answered(3) && !turns.answered(4) && turns.answered(5));
        let next = turns.pass().unwrap();
        assert_eq!((&next.sender, requests(&next)), (&c, vec![None]));
        // Messages without a response, or without one in time, end their turn by the clock.
        assert!(!turns.tick() && turns.tick());
        assert_eq!(turns.pass().unwrap().sender, a);
        assert!(turns.answered(6) && turns.pass().is_none());
        assert!(turns.tick() && turns.admit(&b, None));
    }

    #[test]
    fn lines_can_be_taken_back_by_session() {
        let [a, b] = ["a", "b"].map(|user| Sender::User(user.into()));
        let (one, other) = (SessionId(1), SessionId(2));
        let mut turns = Turns::default();
        assert!(turns.admit(&a, None));
        for (session, request) in [(one, Some(1)), (other, Some(2)), (one, None)] {
            turns.queue(&b, session, request).extend("line\n");
        }
        turns.retain(one, |line| line.request.is_none());
        assert!(!turns.holds(1) && turns.holds(2));
        assert_eq!(turns.len(), 10);
        assert!(!turns.take_back(1) && turns.take_back(2));
        assert_eq!(turns.len(), 5);
        turns.retain(one, |_| false);
        turns.retain(other, |_| false);
        assert!(turns.pass().is_none());
    }
}
