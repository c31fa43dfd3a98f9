//! The subscribers of each resource of a legacy child, which sees only one subscriber.

use super::SessionId;
use crate::backlog::{Piece, Sum};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most resources that one peer may be subscribed to.
pub(super) const MAX_PER_SESSION: usize = 1024;

/// The longest URI that may be subscribed to, in bytes.
pub(super) const MAX_URI: usize = 4096;

/// The memory of a subscription besides its URI, in bytes: its entries in the tables.
const PLACES: usize = 256;

/// Subscribers by URI.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    topics: BTreeMap<Arc<str>, Topic>,
    /// The same, by subscriber.
    sessions: BTreeMap<SessionId, BTreeMap<Arc<str>, Piece>>,
    /// Subscriptions that the child has not confirmed yet, by number.
    asked: BTreeMap<i64, Asked>,
}

#[derive(Debug)]
struct Topic {
    subscribers: BTreeSet<SessionId>,
    consent: Consent,
}

/// The child's answer to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consent {
    /// Confirmed.
    Given,
    /// Pending as the request with this number.
    Asked(i64),
}

#[derive(Debug)]
struct Asked {
    uri: Arc<str>,
    /// The requests that its answer will answer, never empty.
    waiting: Vec<i64>,
}

impl Subscriptions {
    /// Notes that `session` subscribes with the request `ours`, which must be sent to the child if
    /// it is the one that the subscription is pending under. `kept` counts the memory.
    pub(super) fn add(&mut self, uri: &str, session: SessionId, ours: i64, kept: &Sum) -> Consent {
        let known = self.topics.get_key_value(uri);
        let uri = known.map_or_else(|| Arc::from(uri), |(uri, _)| Arc::clone(uri));
        let own = self.sessions.entry(session).or_default();
        let piece = || kept.piece(uri.len() + PLACES);
        own.entry(Arc::clone(&uri)).or_insert_with(piece);
        let topic = self.topics.entry(Arc::clone(&uri)).or_insert(Topic {
            subscribers: BTreeSet::new(),
            consent: Consent::Asked(ours),
        });
        topic.subscribers.insert(session);
        if let Consent::Asked(via) = topic.consent {
            match self.asked.get_mut(&via) {
                Some(asked) => asked.waiting.push(ours),
                None => {
                    topic.consent = Consent::Asked(ours);
                    let waiting = vec![ours];
                    self.asked.insert(ours, Asked { uri, waiting });
                }
            }
        }
        topic.consent
    }

    /// The child has answered the request `via`: returns the requests that waited for it.
    pub(super) fn answered(&mut self, via: i64, agreed: bool) -> Option<Vec<i64>> {
        let Asked { uri, waiting } = self.asked.remove(&via)?;
        // All subscribers may have left meanwhile, and others may have come.
        if let Some(topic) = self.topics.get_mut(&uri)
            && topic.consent == Consent::Asked(via)
        {
            topic.consent = Consent::Given;
            if !agreed {
                self.close(&uri);
            }
        }
        Some(waiting)
    }

    /// The numbers of the requests that the child has not answered yet.
    pub(super) fn asked(&self) -> impl Iterator<Item = i64> {
        self.asked.keys().copied()
    }

    /// Notes that the answer to the request `ours` is no longer awaited.
    pub(super) fn forget(&mut self, ours: i64, via: i64) {
        if let Some(asked) = self.asked.get_mut(&via) {
            asked.waiting.retain(|waiting| *waiting != ours);
            if asked.waiting.is_empty() {
                self.asked.remove(&via);
            }
        }
    }

    /// The child is gone: drops the subscriptions that it had not confirmed.
    pub(super) fn invalidate(&mut self) {
        for Asked { uri, .. } in std::mem::take(&mut self.asked).into_values() {
            let topic = self.topics.get(&uri);
            if topic.is_some_and(|topic| topic.consent != Consent::Given) {
                self.close(&uri);
            }
        }
    }

    /// Removes the subscription of `session`; true if others are still subscribed.
    pub(super) fn remove(&mut self, uri: &str, session: SessionId) -> bool {
        if let Some(own) = self.sessions.get_mut(&session) {
            own.remove(uri);
            if own.is_empty() {
                self.sessions.remove(&session);
            }
        }
        let Some(topic) = self.topics.get_mut(uri) else {
            return false;
        };
        topic.subscribers.remove(&session);
        let others = !topic.subscribers.is_empty();
        if !others {
            self.topics.remove(uri);
        }
        others
    }

    /// The URIs that `session` is subscribed to.
    pub(super) fn of(&self, session: SessionId) -> Vec<Arc<str>> {
        let own = self.sessions.get(&session);
        own.into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    pub(super) fn count(&self, session: SessionId) -> usize {
        self.sessions.get(&session).map_or(0, BTreeMap::len)
    }

    /// Ends all subscriptions of a session; returns the URIs without any subscriber left.
    pub(super) fn leave(&mut self, session: SessionId) -> Vec<Arc<str>> {
        let mut own = self.of(session);
        own.retain(|uri| !self.remove(uri, session));
        own
    }

    /// Removes `uri`, which has no subscribers left.
    fn close(&mut self, uri: &str) {
        let topic = self.topics.remove(uri);
        for session in topic.into_iter().flat_map(|topic| topic.subscribers) {
            self.remove(uri, session);
        }
    }

    /// The confirmed subscriptions.
    pub(super) fn agreed(&self) -> impl Iterator<Item = &str> {
        let given = |topic: &Topic| topic.consent == Consent::Given;
        let agreed = self.topics.iter().filter(move |(_, topic)| given(topic));
        agreed.map(|(uri, _)| &**uri)
    }

    /// True if there are none.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.sessions.is_empty() && self.asked.is_empty()
    }

    /// The sessions to notify that `uri` changed: its subscribers, and those of a resource that it
    /// is part of (2025-11-25 schema, `ResourceUpdatedNotification`: "might be a sub-resource").
    pub(super) fn interested_in(&self, uri: &str) -> BTreeSet<SessionId> {
        let slashes = uri.match_indices('/').map(|(at, _)| at);
        let parents = slashes.flat_map(|at| [uri.get(..at), uri.get(..=at)]);
        let bases = parents.flatten().chain([uri]);
        let topics = bases.filter_map(|base| self.topics.get(base));
        topics
            .flat_map(|topic| topic.subscribers.iter().copied())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Subscribers are found without iterating over all resources.
        #[test]
        fn updates_of_parts_are_for_subscribers_of_the_whole(
            bases in prop::collection::vec("[ab/:]{0,6}", 0..8),
            uri in "[ab/:]{0,8}",
        ) {
            let mut subscriptions = Subscriptions::default();
            let mut expected = BTreeSet::new();
            for (at, base) in (0u64..).zip(&bases) {
                subscriptions.add(base, SessionId(at), at as i64, &Sum::default());
                let within = uri.strip_prefix(base.as_str()).is_some_and(|rest| {
                    rest.is_empty() || base.ends_with('/') || rest.starts_with('/')
                });
                if within {
                    expected.insert(SessionId(at));
                }
            }
            prop_assert_eq!(subscriptions.interested_in(&uri), expected);
            for at in (0u64..).take(bases.len()) {
                subscriptions.leave(SessionId(at));
            }
            subscriptions.invalidate();
            prop_assert!(subscriptions.is_empty());
        }
    }
}
