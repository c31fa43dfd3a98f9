//! Who is subscribed to which resource of a legacy child, which knows one subscriber only.

use super::SessionId;
use std::collections::{BTreeMap, BTreeSet};

/// The most resources that one peer may be subscribed to.
pub(super) const MAX_PER_SESSION: usize = 1024;

/// The longest URI that may be subscribed to, in bytes.
pub(super) const MAX_URI: usize = 4096;

/// Subscribers by URI.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    topics: BTreeMap<String, Topic>,
    /// What the child was asked to agree to and has not answered, by the id it knows that by.
    asked: BTreeMap<i64, Asked>,
}

#[derive(Debug)]
struct Topic {
    subscribers: BTreeSet<SessionId>,
    consent: Consent,
}

/// What the child says to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consent {
    /// Yes.
    Given,
    /// It has been asked under this id.
    Asked(i64),
}

#[derive(Debug)]
struct Asked {
    uri: String,
    /// The requests that its answer answers, never none.
    waiting: Vec<i64>,
}

impl Subscriptions {
    /// Notes that `session` subscribes with the request `ours`, which is to be sent to the child
    /// where that is what it is asked under.
    pub(super) fn add(&mut self, uri: &str, session: SessionId, ours: i64) -> Consent {
        let topic = self.topics.entry(uri.to_owned()).or_insert(Topic {
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
                    let uri = uri.to_owned();
                    self.asked.insert(ours, Asked { uri, waiting });
                }
            }
        }
        topic.consent
    }

    /// The child has answered what it was asked under `via`: gives the requests that waited for it.
    pub(super) fn answered(&mut self, via: i64, agreed: bool) -> Option<Vec<i64>> {
        let Asked { uri, waiting } = self.asked.remove(&via)?;
        // Everybody may have left meanwhile, and others have come.
        if let Some(topic) = self.topics.get_mut(&uri)
            && topic.consent == Consent::Asked(via)
        {
            topic.consent = Consent::Given;
            if !agreed {
                self.topics.remove(&uri);
            }
        }
        Some(waiting)
    }

    /// Nobody waits for the answer to the request `ours` any more.
    pub(super) fn forget(&mut self, ours: i64, via: i64) {
        if let Some(asked) = self.asked.get_mut(&via) {
            asked.waiting.retain(|waiting| *waiting != ours);
            if asked.waiting.is_empty() {
                self.asked.remove(&via);
            }
        }
    }

    /// The child is gone: what it had not agreed to is over.
    pub(super) fn lapse(&mut self) {
        self.asked.clear();
        self.topics
            .retain(|_, topic| topic.consent == Consent::Given);
    }

    /// Notes that `session` does not subscribe any more; true when others still do.
    pub(super) fn remove(&mut self, uri: &str, session: SessionId) -> bool {
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

    /// What `session` is subscribed to.
    pub(super) fn of(&self, session: SessionId) -> Vec<String> {
        let own = self
            .topics
            .iter()
            .filter(|(_, topic)| topic.subscribers.contains(&session));
        own.map(|(uri, _)| uri.clone()).collect()
    }

    pub(super) fn count(&self, session: SessionId) -> usize {
        self.topics
            .values()
            .filter(|topic| topic.subscribers.contains(&session))
            .count()
    }

    /// Ends all subscriptions of a session; gives the URIs that nobody is subscribed to any more.
    pub(super) fn leave(&mut self, session: SessionId) -> Vec<String> {
        let mut orphaned = Vec::new();
        self.topics.retain(|uri, topic| {
            if topic.subscribers.remove(&session) && topic.subscribers.is_empty() {
                orphaned.push(uri.clone());
            }
            !topic.subscribers.is_empty()
        });
        orphaned
    }

    /// What the child has agreed to.
    pub(super) fn agreed(&self) -> impl Iterator<Item = &str> {
        let given = |topic: &Topic| topic.consent == Consent::Given;
        let agreed = self.topics.iter().filter(move |(_, topic)| given(topic));
        agreed.map(|(uri, _)| uri.as_str())
    }

    /// True when nothing is kept.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.asked.is_empty()
    }

    /// Who wants to know that `uri` changed: its subscribers, and those of a resource that it is
    /// part of (2025-11-25 schema, `ResourceUpdatedNotification`: "might be a sub-resource").
    pub(super) fn interested_in(&self, uri: &str) -> BTreeSet<SessionId> {
        let within = |base: &str| {
            uri.strip_prefix(base)
                .is_some_and(|rest| rest.is_empty() || base.ends_with('/') || rest.starts_with('/'))
        };
        let subscribed = self.topics.iter().filter(|(base, _)| within(base));
        subscribed
            .flat_map(|(_, topic)| topic.subscribers.iter().copied())
            .collect()
    }
}
