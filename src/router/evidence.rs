//! Evidence of why a process has ended: whose messages it was sent, and which of them it had not
//! answered.

use super::SessionId;
use crate::backlog::Sum;
use std::fmt;
use std::sync::Arc;

/// The origin of a line for the process.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub session: SessionId,
    pub sender: &'a Sender,
    /// Its number, if it is a request.
    pub request: Option<i64>,
    /// The newest number.
    pub latest: i64,
    /// Counts the memory of its session.
    pub kept: &'a Sum,
}

/// The sender that a message counts against: the user of the peer's token, or the session alone if there is
/// no user.
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

/// Why a process has ended, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was sent nothing from peers.
    Itself,
    /// The same, while it was probed for its protocol generation, which some legacy servers do not
    /// survive.
    Probe,
    /// It was sent nothing but the state of its predecessor, or requests of our own.
    Renewal,
    /// Only messages of this sender were unanswered.
    Sender(Sender),
    /// It was sent messages of several senders, and it is unknown whose has ended it.
    Unclear,
}

/// No sender, one, or several, which are not distinguished.
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
    /// Those that have no answer, or whose answer is no longer awaited.
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

/// What one process was sent.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    delivered: Messages,
    /// Not yet delivered.
    held: Messages,
    /// The newest number when a message without an answer was last delivered: once a younger request is
    /// answered, the process has survived that message.
    latest: i64,
    /// It was sent the state of its predecessor, the identity of its first client, or another request of our own.
    is_renewed: bool,
}

impl Evidence {
    /// Notes a message of `sender`, which is `held` or delivered. `latest` is the newest number.
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

    /// Held messages have been delivered.
    pub(super) fn release(&mut self, latest: i64) {
        let Messages { all, unanswerable } = std::mem::take(&mut self.held);
        if unanswerable != Senders::Nobody {
            self.latest = latest;
        }
        self.delivered.all.join(all);
        self.delivered.unanswerable.join(unanswerable);
    }

    /// Notes that the process is sent its predecessor's state, or a request of our own; `unanswered` if the answer to the
    /// request `latest` will show that it survives that.
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
    /// `open` are the senders of other unanswered requests.
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
        // An older response proves nothing about what came later.
        evidence.answered(1);
        assert_eq!(cause(&evidence, &[&alice]), Cause::Unclear);
        evidence.answered(2);
        assert_eq!(cause(&evidence, &[&alice]), Cause::Sender(alice));
        assert_eq!(cause(&evidence, &[]), Cause::Unclear);
    }

    #[test]
    fn the_only_sender_without_an_answer_is_blamed() {
        let [alice, bob] = senders();
        let mut evidence = Evidence::default();
        evidence.note(&alice, false, true, 1);
        assert_eq!(cause(&evidence, &[]), Cause::Sender(alice.clone()));
        evidence.note(&bob, false, true, 2);
        assert_eq!(cause(&evidence, &[&bob]), Cause::Sender(bob.clone()));
        assert_eq!(cause(&evidence, &[&bob, &alice, &bob]), Cause::Unclear);
        // A notification may have ended it just as well as a request.
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
