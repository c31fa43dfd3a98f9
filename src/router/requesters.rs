//! The requesters that a process may still be working for after the router has forgotten their
//! requests: a server request may be on behalf of any of them.

use super::SessionId;
use super::tasks::Owner;
use foldhash::HashMap;
use std::sync::Arc;

/// The most forgotten requests of one process that are remembered one by one.
const MAX_FORGOTTEN: usize = 1024;

/// Requests that are no longer awaited and that a process has not answered: their session has
/// ended, or has cancelled too many for the router to track.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    requests: HashMap<i64, Requester>,
    /// The requesters of those beyond the bound, which count until the process ends.
    beyond: Owners,
    /// The same for those that want log messages.
    beyond_with_logs: Owners,
}

#[derive(Debug)]
pub(super) struct Requester {
    pub session: SessionId,
    pub owner: Arc<Owner>,
    /// The request wants log messages.
    pub wants_logs: bool,
}

impl Requester {
    /// True for `session`, and for an earlier session of the same owner.
    fn is(
        &self,
        session: SessionId,
        owner: &Owner,
        is_attached: impl Fn(SessionId) -> bool,
    ) -> bool {
        self.session == session || (*self.owner == *owner && !is_attached(self.session))
    }
}

impl Forgotten {
    pub(super) fn insert(&mut self, ours: i64, requester: Requester) {
        if self.requests.len() >= MAX_FORGOTTEN {
            self.beyond.add(&requester.owner);
            if requester.wants_logs {
                self.beyond_with_logs.add(&requester.owner);
            }
            return;
        }
        self.requests.insert(ours, requester);
    }

    /// The process has answered the request; true if it was one of these.
    pub(super) fn answered(&mut self, ours: i64) -> bool {
        self.requests.remove(&ours).is_some()
    }

    /// The numbers of those that are remembered one by one.
    pub(super) fn numbers(&self) -> impl Iterator<Item = i64> {
        self.requests.keys().copied()
    }

    /// True if all were made by `session`, or by earlier sessions of the same owner.
    pub(super) fn are_of(
        &self,
        session: SessionId,
        owner: &Owner,
        is_attached: impl Fn(SessionId) -> bool,
    ) -> bool {
        let mut requests = self.requests.values();
        self.beyond.are_all(owner)
            && requests.all(|requester| requester.is(session, owner, &is_attached))
    }

    /// The same for those that want log messages.
    pub(super) fn logs_are_of(
        &self,
        session: SessionId,
        owner: &Owner,
        is_attached: impl Fn(SessionId) -> bool,
    ) -> bool {
        let requests = self.requests.values();
        let mut with_logs = requests.filter(|requester| requester.wants_logs);
        self.beyond_with_logs.are_all(owner)
            && with_logs.all(|requester| requester.is(session, owner, &is_attached))
    }

    /// They were never sent to the process.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }
}

/// The owners of some sessions, as far as needed to tell whether there is more than one.
#[derive(Debug, Default)]
pub(super) enum Owners {
    #[default]
    Nobody,
    One(Arc<Owner>),
    Several,
}

impl Owners {
    pub(super) fn add(&mut self, owner: &Arc<Owner>) {
        *self = match self {
            Self::Nobody => Self::One(Arc::clone(owner)),
            Self::One(known) if known == owner => return,
            _ => Self::Several,
        };
    }

    /// True if there is no other owner among them.
    pub(super) fn are_all(&self, owner: &Owner) -> bool {
        match self {
            Self::Nobody => true,
            Self::One(known) => **known == *owner,
            Self::Several => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Arc<Owner> {
        Arc::new(Some(name.to_owned()))
    }

    fn requester(session: SessionId, owner: &Arc<Owner>) -> Requester {
        Requester {
            session,
            owner: Arc::clone(owner),
            wants_logs: false,
        }
    }

    /// A request without log messages has none, however many there are.
    #[test]
    fn only_requests_that_want_logs_make_them_ambiguous() {
        let (alice, bob) = (owner("alice"), owner("bob"));
        let (gone, here) = (SessionId(1), SessionId(2));
        let is_attached = |session| session == here;
        for already in [0, MAX_FORGOTTEN] {
            let mut forgotten = Forgotten::default();
            for ours in 0..=i64::try_from(already).unwrap() {
                forgotten.insert(ours, requester(gone, &alice));
            }
            assert!(forgotten.logs_are_of(here, &bob, is_attached));
            let wants_logs = true;
            let other = requester(gone, &alice);
            forgotten.insert(
                -1,
                Requester {
                    wants_logs,
                    ..other
                },
            );
            assert!(!forgotten.logs_are_of(here, &bob, is_attached));
            assert!(forgotten.logs_are_of(here, &alice, is_attached));
        }
    }

    #[test]
    fn what_is_beyond_the_bound_counts_for_its_owner_until_the_process_ends() {
        let (alice, bob) = (owner("alice"), owner("bob"));
        let (gone, here) = (SessionId(1), SessionId(2));
        let is_attached = |session| session == here;
        let mut forgotten = Forgotten::default();
        let count = i64::try_from(MAX_FORGOTTEN).unwrap() + 1;
        for ours in 0..count {
            forgotten.insert(ours, requester(gone, &alice));
        }
        assert_eq!(forgotten.len(), MAX_FORGOTTEN);
        assert!(forgotten.are_of(here, &alice, is_attached));
        assert!(!forgotten.are_of(here, &bob, is_attached));
        for ours in 0..count {
            forgotten.answered(ours);
        }
        assert_eq!(forgotten.len(), 0);
        assert!(forgotten.are_of(here, &alice, is_attached));
        assert!(!forgotten.are_of(here, &bob, is_attached));
    }

    #[test]
    fn another_session_of_the_same_owner_counts_while_it_is_there() {
        let alice = owner("alice");
        let (other, here) = (SessionId(1), SessionId(2));
        let mut forgotten = Forgotten::default();
        forgotten.insert(1, requester(other, &alice));
        assert!(!forgotten.are_of(here, &alice, |_| true));
        assert!(forgotten.are_of(here, &alice, |session| session != other));
    }
}
