//! The sessions of clients over HTTP, by owner and id, bounded in number.
//!
//! An id is looked up among the sessions of its owner only, so that no one learns anything about other users'
//! sessions, not even from the time it takes.

use foldhash::{HashMap, HashMapExt};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

/// There is no room for a further session: all are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// All sessions. `O` is the owner of one, `T` its state.
#[derive(Debug)]
pub struct Sessions<O, T> {
    owners: HashMap<O, HashMap<Arc<str>, T>>,
    count: usize,
    limit: usize,
    limit_per_owner: usize,
}

impl<O: Clone + Eq + Hash, T> Sessions<O, T> {
    /// With at most this many sessions, in total and per owner.
    #[must_use]
    pub fn new(limit: usize, limit_per_owner: usize) -> Self {
        Self {
            owners: HashMap::new(),
            count: 0,
            limit,
            limit_per_owner,
        }
    }

    /// A new session of `owner`, with an id that none has. Where there are too many, the one that has been idle for
    /// longest ends, and is given: of the owner's own where he has too many, else of the owner who has
    /// most. `idle` tells since when one has been idle.
    ///
    /// # Errors
    /// None of those is idle.
    pub fn insert(
        &mut self,
        owner: &O,
        id: Arc<str>,
        value: T,
        idle: impl Fn(&T) -> Option<Instant>,
    ) -> Result<Option<T>, Full> {
        let own = self.owners.get(owner).map_or(0, HashMap::len);
        let crowd = if own >= self.limit_per_owner {
            Some(owner.clone())
        } else if self.count >= self.limit {
            let most = self
                .owners
                .iter()
                .max_by_key(|(_, sessions)| sessions.len());
            Some(most.ok_or(Full)?.0.clone())
        } else {
            None
        };
        let gone = match crowd {
            Some(crowd) => Some(self.take_idle(&crowd, idle).ok_or(Full)?),
            None => None,
        };
        let sessions = self.owners.entry(owner.clone()).or_default();
        if sessions.insert(id, value).is_none() {
            self.count += 1;
        }
        Ok(gone)
    }

    fn take_idle(&mut self, owner: &O, idle: impl Fn(&T) -> Option<Instant>) -> Option<T> {
        let sessions = self.owners.get(owner)?;
        let idle = sessions
            .iter()
            .filter_map(|(id, value)| Some((idle(value)?, id)));
        let (_, id) = idle.min()?;
        let id = Arc::clone(id);
        self.remove(owner, &id)
    }

    /// The session of this owner with this id.
    #[must_use]
    pub fn get(&self, owner: &O, id: &str) -> Option<&T> {
        self.owners.get(owner)?.get(id)
    }

    /// Gives `to` the session with this id of another owner, of whom `may` has to hold, and who loses it; and whether it
    /// was another's until now. `None` where there is none, or `to` has as many as an owner may have.
    pub fn hand_over(&mut self, to: &O, id: &str, may: impl Fn(&O) -> bool) -> Option<(&T, bool)> {
        if self.get(to, id).is_some() {
            return self.get(to, id).map(|value| (value, false));
        }
        if self.owners.get(to).map_or(0, HashMap::len) >= self.limit_per_owner {
            return None;
        }
        let mut owners = self.owners.iter();
        let found = owners.find(|(owner, own)| own.contains_key(id) && may(owner));
        let from = found?.0.clone();
        let value = self.remove(&from, id)?;
        self.count += 1;
        let own = self.owners.entry(to.clone()).or_default();
        Some((own.entry(id.into()).or_insert(value), true))
    }

    /// True if there is a session with this id, of any owner. Checks all sessions, so that the time it
    /// takes reveals nothing.
    #[must_use]
    pub fn is_known(&self, id: &str) -> bool {
        let found = self.owners.values().filter(|own| own.contains_key(id));
        found.count() > 0
    }

    /// Removes it.
    pub fn remove(&mut self, owner: &O, id: &str) -> Option<T> {
        let sessions = self.owners.get_mut(owner)?;
        let gone = sessions.remove(id)?;
        self.count -= 1;
        if sessions.is_empty() {
            self.owners.remove(owner);
        }
        Some(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn owner(name: &str) -> (Option<String>, Vec<String>) {
        (Some(name.to_owned()), vec!["user".to_owned()])
    }

    #[test]
    fn ids_are_their_owners() {
        let mut sessions = Sessions::new(8, 8);
        let (alice, bob) = (owner("alice"), owner("bob"));
        let admin = (alice.0.clone(), vec!["admin".to_owned()]);
        let id = "x".to_owned();
        let gone = sessions.insert(&alice, id.as_str().into(), id.clone(), |_| None);
        assert_eq!(gone, Ok(None));
        assert_eq!(sessions.get(&alice, &id), Some(&id));
        assert_eq!(sessions.get(&bob, &id), None);
        assert!(sessions.is_known(&id) && !sessions.is_known("other"));
        assert_eq!(sessions.get(&admin, &id), None);
        assert_eq!(sessions.hand_over(&admin, &id, |_| false), None);
        assert_eq!(sessions.hand_over(&admin, "other", |_| true), None);
        let handed = sessions.hand_over(&admin, &id, |owner| *owner == alice);
        assert_eq!(handed, Some((&id, true)));
        // Bug: of two requests that came at once with the token of the new owner, one was told that there is none.
        let again = sessions.hand_over(&admin, &id, |owner| *owner == alice);
        assert_eq!(again, Some((&id, false)));
        assert_eq!(sessions.get(&alice, &id), None);
        sessions.limit_per_owner = 0;
        assert_eq!(sessions.hand_over(&alice, &id, |_| true), None);
        sessions.limit_per_owner = 8;
        assert!(sessions.hand_over(&alice, &id, |_| true).is_some());
        assert_eq!(sessions.count, 1);
        assert_eq!(sessions.remove(&bob, &id), None);
        assert_eq!(sessions.remove(&alice, &id), Some(id.clone()));
        assert_eq!(sessions.get(&alice, &id), None);
        assert!(sessions.owners.is_empty());
    }

    proptest! {
        /// The bounds hold; only idle sessions end: the longest idle one of the owner with the most, or of
        /// the requesting owner.
        #[test]
        fn the_bounds_hold(steps in prop::collection::vec((0u8..4, 0u64..100, any::<bool>()), 1..200), limit in 1usize..8, each in 1usize..5) {
            let start = Instant::now();
            let mut sessions: Sessions<_, (u8, Option<Instant>)> = Sessions::new(limit, each);
            for (number, (who, at, busy)) in steps.into_iter().enumerate() {
                let since = (!busy).then(|| start + Duration::from_millis(at));
                let owned: Vec<usize> = (0..4u8).map(|who| {
                    sessions.owners.get(&owner(&who.to_string())).map_or(0, HashMap::len)
                }).collect();
                let result = sessions.insert(&owner(&who.to_string()), number.to_string().into(), (who, since), |(_, idle)| *idle);
                let (own, all) = (owned[usize::from(who)], owned.iter().sum::<usize>());
                match result {
                    Ok(None) => prop_assert!(own < each && all < limit),
                    Ok(Some((gone, idle))) => {
                        prop_assert!(idle.is_some());
                        if own >= each {
                            prop_assert_eq!(gone, who);
                        } else {
                            prop_assert_eq!(Some(&owned[usize::from(gone)]), owned.iter().max());
                        }
                    }
                    Err(Full) => prop_assert!(own >= each || all >= limit),
                }
                prop_assert!(sessions.count <= limit);
                prop_assert!(sessions.owners.values().all(|of| of.len() <= each && !of.is_empty()));
                prop_assert_eq!(sessions.owners.values().map(HashMap::len).sum::<usize>(), sessions.count);
            }
        }
    }
}
