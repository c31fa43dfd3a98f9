//! The requests that a process may answer, with counters that save iterating over them.

use super::SessionId;
use super::listen_requests::ListenRequest;
use super::pending::{Delivery, Pending, Purpose};
use crate::permissions::Rights;
use foldhash::HashMap;
use std::collections::BTreeMap;
use std::time::Instant;

/// Requests in flight, by number.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    requests: HashMap<i64, Pending>,
    /// Those that the process may be working on.
    given: Counts,
    /// Those that want log messages.
    log_readers: Counts,
    /// Those that are a `subscriptions/listen` which its peer has not cancelled.
    listen_requests: Counts,
}

impl InFlight {
    pub(super) fn insert(&mut self, ours: i64, pending: Pending) {
        if pending.delivery == Delivery::Given {
            self.given.add(pending.session);
        }
        if pending.wants_logs {
            self.log_readers.add(pending.session);
        }
        if pending.is_listening() {
            self.listen_requests.add(pending.session);
        }
        self.requests.insert(ours, pending);
    }

    pub(super) fn remove(&mut self, ours: i64) -> Option<Pending> {
        let pending = self.requests.remove(&ours)?;
        if pending.delivery == Delivery::Given {
            self.given.subtract(pending.session);
        }
        if pending.wants_logs {
            self.log_readers.subtract(pending.session);
        }
        if pending.is_listening() {
            self.listen_requests.subtract(pending.session);
        }
        Some(pending)
    }

    /// Notes that a queued request has been sent to the process.
    pub(super) fn give(&mut self, ours: i64, now: Option<Instant>) {
        if let Some(pending) = self.requests.get_mut(&ours)
            && pending.delivery != Delivery::Given
        {
            pending.delivery = Delivery::Given;
            pending.since = now;
            self.given.add(pending.session);
        }
    }

    /// Applies changed rights to a request.
    pub(super) fn apply_rights(&mut self, ours: i64, rights: &Rights) {
        if let Some(pending) = self.requests.get_mut(&ours) {
            pending.apply_rights(rights);
        }
    }

    /// True while the process may be working for this session, even on cancelled requests.
    pub(super) fn is_at_work_for(&self, session: SessionId) -> bool {
        self.given.of(session) > 0
    }

    pub(super) fn get(&self, ours: i64) -> Option<&Pending> {
        self.requests.get(&ours)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Pending)> {
        self.requests.iter().map(|(ours, pending)| (*ours, pending))
    }

    /// Takes all of them, in order of arrival.
    pub(super) fn take(&mut self) -> Vec<(i64, Pending)> {
        let Self { requests, .. } = std::mem::take(self);
        let mut requests: Vec<_> = requests.into_iter().collect();
        requests.sort_unstable_by_key(|(ours, _)| *ours);
        requests
    }

    /// Notes the acknowledgement of a `subscriptions/listen`; true if the peer has already had one.
    pub(super) fn acknowledge_listen(&mut self, ours: i64) -> bool {
        self.listen_mut(ours)
            .is_some_and(ListenRequest::acknowledge)
    }

    /// Notes that the peer has cancelled a request, if it is a `subscriptions/listen`.
    pub(super) fn cancel_listen(&mut self, ours: i64) {
        if let Some(pending) = self.requests.get_mut(&ours)
            && pending.is_listening()
            && let Purpose::Listen(listen) = &mut pending.purpose
        {
            listen.cancelled = true;
            self.listen_requests.subtract(pending.session);
        }
    }

    /// The `subscriptions/listen` whose process is gone, in order, to be renewed.
    pub(super) fn lost_listen_requests(&mut self) -> Vec<(i64, &mut ListenRequest)> {
        let purposes = self.requests.iter_mut();
        let lost = purposes.filter_map(|(ours, pending)| match &mut pending.purpose {
            Purpose::Listen(listen) if listen.lost => Some((*ours, &mut **listen)),
            _ => None,
        });
        let mut lost: Vec<_> = lost.collect();
        lost.sort_unstable_by_key(|(ours, _)| *ours);
        lost
    }

    fn listen_mut(&mut self, ours: i64) -> Option<&mut ListenRequest> {
        match &mut self.requests.get_mut(&ours)?.purpose {
            Purpose::Listen(listen) => Some(listen),
            _ => None,
        }
    }

    /// How many `subscriptions/listen` of a session are open.
    pub(super) fn listen_requests_of(&self, session: SessionId) -> usize {
        self.listen_requests.of(session)
    }

    /// The session with requests that want log messages, if there is just one.
    pub(super) fn only_log_reader(&self) -> Option<SessionId> {
        self.log_readers.only()
    }

    /// Every counter equals the count over all requests.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut counted = Self::default();
        for pending in self.requests.values() {
            if pending.delivery == Delivery::Given {
                counted.given.add(pending.session);
            }
            if pending.wants_logs {
                counted.log_readers.add(pending.session);
            }
            if pending.is_listening() {
                counted.listen_requests.add(pending.session);
            }
        }
        assert_eq!(self.given, counted.given);
        assert_eq!(self.log_readers, counted.log_readers);
        assert_eq!(self.listen_requests, counted.listen_requests);
    }
}

/// A number for each session.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts(BTreeMap<SessionId, usize>);

impl Counts {
    fn add(&mut self, session: SessionId) {
        *self.0.entry(session).or_default() += 1;
    }

    fn subtract(&mut self, session: SessionId) {
        if let Some(count) = self.0.get_mut(&session) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&session);
            }
        }
    }

    fn of(&self, session: SessionId) -> usize {
        self.0.get(&session).copied().unwrap_or_default()
    }

    /// The only session with a number above zero.
    fn only(&self) -> Option<SessionId> {
        let mut sessions = self.0.keys();
        let first = sessions.next();
        first.filter(|_| sessions.next().is_none()).copied()
    }
}
