//! What is known of why a process has ended: whose messages it had been given, and which of them it
//! had not answered.

use super::SessionId;
use crate::backlog::Sum;
use std::fmt;
use std::sync::Arc;

/// Where a line for the process comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub sender: &'a Sender,
    /// Its id, if it is a request.
    pub request: Option<i64>,
    /// The newest id.
    pub latest: i64,
    /// Counts the memory kept for its session.
    pub kept: &'a Sum,
}

/// Whom a message counts against: the user of the peer's token, or, where that names none, the session
/// alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sender {
    /// All sessions of one user.
    User(Arc<str>),
    /// A session without a user.
    Session(SessionId),
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user {user}"),
            Self::Session(id) => write!(f, "session {id}"),
        }
    }
}

/// Why a process has ended, as far as can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It had been given nothing of a peer.
    Itself,
    /// The same, and it was being asked for its era, which some legacy servers do not survive.
    Probe,
    /// It had been given nothing but what its predecessor knew.
    Renewal,
    /// The messages of this sender alone had not been answered.
    Sender(Sender),
    /// It had been given messages of peers, and nobody can say whose has ended it.
    Unclear,
}

/// Nobody, one sender, or more than one; which, is of no interest then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Senders {
    #[default]
    Nobody,
    One(Sender),
    Several,
}

impl Senders {
    fn add(&mut self, sender: &Sender) {
        match self {
            Self::Nobody => *self = Self::One(sender.clone()),
            Self::One(known) if known == sender => {}
            Self::One(_) | Self::Several => *self = Self::Several,
        }
    }

    fn join(&mut self, others: Self) {
        match others {
            Self::Nobody => {}
            Self::One(sender) => self.add(&sender),
            Self::Several => *self = Self::Several,
        }
    }
}

/// Messages of peers, by sender.
#[derive(Debug, Default)]
struct Messages {
    all: Senders,
    /// Those that have no answer, or whose answer is awaited no more.
    unanswerable: Senders,
}

impl Messages {
    fn add(&mut self, sender: &Sender, answerable: bool) {
        self.all.add(sender);
        if !answerable {
            self.unanswerable.add(sender);
        }
    }
}

/// What one process has been given.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    delivered: Messages,
    /// Not yet delivered.
    held: Messages,
    /// The newest id when something without an answer was last delivered: once a younger request is
    /// answered, the process has read that, and lived on.
    latest: i64,
    /// It has been told what its predecessor knew, or who its first client is.
    is_renewed: bool,
}

impl Evidence {
    /// Notes a message of `sender`, which is `held` or delivered. `latest` is the newest id.
    pub(super) fn note(&mut self, sender: &Sender, held: bool, answerable: bool, latest: i64) {
        if held {
            self.held.add(sender, answerable);
            return;
        }
        self.delivered.add(sender, answerable);
        if !answerable {
            self.latest = latest;
        }
    }

    /// What was held is delivered.
    pub(super) fn release(&mut self, latest: i64) {
        let Messages { all, unanswerable } = std::mem::take(&mut self.held);
        if unanswerable != Senders::Nobody {
            self.latest = latest;
        }
        self.delivered.all.join(all);
        self.delivered.unanswerable.join(unanswerable);
    }

    /// Notes that the process is told what its predecessor knew of its peers; `unanswered` where the
    /// answer to the request `latest` will show that it lives on.
    pub(super) fn renew(&mut self, unanswered: Option<i64>) {
        self.is_renewed = true;
        if let Some(latest) = unanswered {
            self.delivered.unanswerable = Senders::Several;
            self.latest = latest - 1;
        }
    }

    /// The process has answered the request `ours`.
    pub(super) fn answered(&mut self, ours: i64) {
        if ours > self.latest {
            self.delivered.unanswerable = Senders::Nobody;
        }
    }

    /// Why the process has ended: `introduced` is the peer whose `initialize` it has not answered,
    /// `open` are the senders of other requests that it has not answered, held ones included.
    pub(super) fn cause<'a>(
        &self,
        introduced: Option<&'a Sender>,
        open: impl Iterator<Item = &'a Sender>,
    ) -> Cause {
        if self.delivered.all == Senders::Nobody {
            return match introduced {
                Some(sender) => Cause::Sender(sender.clone()),
                None if self.is_renewed => Cause::Renewal,
                None => Cause::Itself,
            };
        }
        let mut suspects = self.delivered.unanswerable.clone();
        introduced
            .into_iter()
            .chain(open)
            .for_each(|sender| suspects.add(sender));
        if suspects == Senders::Nobody {
            suspects = self.delivered.all.clone();
        }
        match suspects {
            Senders::One(sender) => Cause::Sender(sender),
            Senders::Nobody | Senders::Several => Cause::Unclear,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn senders() -> [Sender; 2] {
        ["alice", "bob"].map(|user| Sender::User(user.into()))
    }

    fn cause(evidence: &Evidence, open: &[&Sender]) -> Cause {
        evidence.cause(None, open.iter().copied())
    }

    #[test]
    fn what_was_held_ended_no_process() {
        let [alice, bob] = senders();
        let mut evidence = Evidence::default();
        assert_eq!(cause(&evidence, &[]), Cause::Itself);
        evidence.note(&alice, true, true, 1);
        evidence.note(&bob, true, false, 1);
        assert_eq!(cause(&evidence, &[&alice]), Cause::Itself);
        let introduced = evidence.cause(Some(&bob), [&alice].into_iter());
        assert_eq!(introduced, Cause::Sender(bob.clone()));
        evidence.release(1);
        assert_eq!(cause(&evidence, &[&alice]), Cause::Unclear);
        // An older answer says nothing of what came later.
        evidence.answered(1);
        assert_eq!(cause(&evidence, &[&alice]), Cause::Unclear);
        evidence.answered(2);
        assert_eq!(cause(&evidence, &[&alice]), Cause::Sender(alice));
        assert_eq!(cause(&evidence, &[]), Cause::Unclear);
    }

    #[test]
    fn whoever_alone_has_no_answer_is_blamed() {
        let [alice, bob] = senders();
        let mut evidence = Evidence::default();
        evidence.note(&alice, false, true, 1);
        assert_eq!(cause(&evidence, &[]), Cause::Sender(alice.clone()));
        evidence.note(&bob, false, true, 2);
        assert_eq!(cause(&evidence, &[&bob]), Cause::Sender(bob.clone()));
        assert_eq!(cause(&evidence, &[&bob, &alice, &bob]), Cause::Unclear);
        // A notification may have ended it as well as a request.
        evidence.note(&alice, false, false, 2);
        assert_eq!(cause(&evidence, &[]), Cause::Sender(alice));
        assert_eq!(cause(&evidence, &[&bob]), Cause::Unclear);
        evidence.answered(3);
        assert_eq!(cause(&evidence, &[&bob]), Cause::Sender(bob));
    }

    #[test]
    fn what_is_renewed_belongs_to_nobody() {
        let [alice, _] = senders();
        let mut evidence = Evidence::default();
        evidence.renew(None);
        assert_eq!(cause(&evidence, &[]), Cause::Renewal);
        evidence.renew(Some(7));
        assert_eq!(cause(&evidence, &[]), Cause::Renewal);
        evidence.note(&alice, false, true, 8);
        evidence.answered(6);
        assert_eq!(cause(&evidence, &[&alice]), Cause::Unclear);
        evidence.answered(7);
        assert_eq!(cause(&evidence, &[&alice]), Cause::Sender(alice));
    }
}
