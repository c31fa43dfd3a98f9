//! Who is subscribed to which resource of a legacy child, which knows one subscriber only.

use super::SessionId;
use std::collections::{BTreeMap, BTreeSet};

/// The most resources that one peer may be subscribed to.
pub(super) const MAX_PER_SESSION: usize = 1024;

/// The longest URI that may be subscribed to, in bytes.
pub(super) const MAX_URI: usize = 4096;

/// Subscribers by URI.
#[derive(Default)]
pub(super) struct Subscriptions(BTreeMap<String, Topic>);

#[derive(Default)]
struct Topic {
    subscribers: BTreeSet<SessionId>,
    /// The child has agreed.
    confirmed: bool,
}

impl Subscriptions {
    /// Notes that `session` subscribes; true when the child has agreed to it for somebody already.
    pub(super) fn add(&mut self, uri: &str, session: SessionId) -> bool {
        let topic = self.0.entry(uri.to_owned()).or_default();
        topic.subscribers.insert(session);
        topic.confirmed
    }

    /// The child has agreed.
    pub(super) fn confirm(&mut self, uri: &str) {
        if let Some(topic) = self.0.get_mut(uri) {
            topic.confirmed = true;
        }
    }

    /// Notes that `session` does not subscribe any more; true when others still do.
    pub(super) fn remove(&mut self, uri: &str, session: SessionId) -> bool {
        let Some(topic) = self.0.get_mut(uri) else {
            return false;
        };
        topic.subscribers.remove(&session);
        let others = !topic.subscribers.is_empty();
        if !others {
            self.0.remove(uri);
        }
        others
    }

    /// What `session` is subscribed to.
    pub(super) fn of(&self, session: SessionId) -> Vec<String> {
        let own = self
            .0
            .iter()
            .filter(|(_, topic)| topic.subscribers.contains(&session));
        own.map(|(uri, _)| uri.clone()).collect()
    }

    pub(super) fn count(&self, session: SessionId) -> usize {
        self.0
            .values()
            .filter(|topic| topic.subscribers.contains(&session))
            .count()
    }

    /// Ends all subscriptions of a session; gives the URIs that nobody is subscribed to any more.
    pub(super) fn leave(&mut self, session: SessionId) -> Vec<String> {
        let mut orphaned = Vec::new();
        self.0.retain(|uri, topic| {
            if topic.subscribers.remove(&session) && topic.subscribers.is_empty() {
                orphaned.push(uri.clone());
            }
            !topic.subscribers.is_empty()
        });
        orphaned
    }

    pub(super) fn uris(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Who wants to know that `uri` changed: its subscribers, and those of a resource that it is
    /// part of (2025-11-25 schema, `ResourceUpdatedNotification`: "might be a sub-resource").
    pub(super) fn interested_in(&self, uri: &str) -> BTreeSet<SessionId> {
        let within = |base: &str| {
            uri.strip_prefix(base)
                .is_some_and(|rest| rest.is_empty() || base.ends_with('/') || rest.starts_with('/'))
        };
        let subscribed = self.0.iter().filter(|(base, _)| within(base));
        subscribed
            .flat_map(|(_, topic)| topic.subscribers.iter().copied())
            .collect()
    }
}
