//! Which connections are pending, and which is evicted for the next. No I/O, no clock: the time is passed in.

use crate::account::Network;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// How long a connection that has sent its first byte may take to authenticate before it can be evicted for
/// another of its address.
pub(super) const PROTECTED: Duration = Duration::from_millis(500);

/// Whether there is room for another connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// Once this one has been evicted.
    Evict(u64),
    /// All are protected, the first of them until then.
    FullUntil(Instant),
}

#[derive(Debug)]
struct Entry<T> {
    network: Network,
    signal: T,
    /// When it begins to count for its address.
    counts_from: Instant,
    /// Set by its first byte.
    protected_until: Option<Instant>,
}

/// Tells a connection that it has been evicted.
pub(super) trait Signal {
    fn go(self);
}

#[derive(Debug)]
pub(super) struct Table<T> {
    /// By age.
    all: BTreeMap<u64, Entry<T>>,
    counts: HashMap<Network, usize>,
    next: u64,
    limit: usize,
    limit_per_address: usize,
}

impl<T: Signal> Table<T> {
    pub(super) fn new(limit: usize, limit_per_address: usize) -> Self {
        Self {
            all: BTreeMap::new(),
            counts: HashMap::new(),
            next: 0,
            limit,
            limit_per_address,
        }
    }

    /// Whether a connection from this network can be admitted.
    pub(super) fn room(&self, network: Network, now: Instant) -> Room {
        if self.is_full_for(network, now)
            && let Some(number) = self.evictable(network, now)
        {
            return Room::Evict(number);
        }
        if self.all.len() < self.limit {
            return Room::Free;
        }
        self.victim(network, now)
    }

    /// Which connection is evicted for one from `network` when there is no room: one of the largest crowd, a
    /// silent one if there is any. A smaller crowd never gives way to a larger one, and a protected
    /// connection only to a crowd that stays smaller than its own.
    fn victim(&self, network: Network, now: Instant) -> Room {
        let own = self.count(network);
        let (mut best, mut full_until) = (None, None);
        for (number, entry) in &self.all {
            let crowd = self.count(entry.network);
            let class = match entry.protected_until {
                _ if crowd < own => continue,
                None => 0,
                Some(until) if until <= now => 1,
                Some(until) => {
                    full_until = Some(full_until.map_or(until, |least: Instant| least.min(until)));
                    if crowd <= own + 1 {
                        continue;
                    }
                    2
                }
            };
            let rank = (Reverse(crowd), class);
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, *number));
            }
        }
        match (best, full_until) {
            (Some((_, number)), _) => Room::Evict(number),
            (None, Some(until)) => Room::FullUntil(until),
            (None, None) => Room::Free,
        }
    }

    pub(super) fn insert(&mut self, network: Network, signal: T, counts_from: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.put(
            number,
            Entry {
                network,
                signal,
                counts_from,
                protected_until: None,
            },
        );
        number
    }

    fn put(&mut self, number: u64, entry: Entry<T>) {
        *self.counts.entry(entry.network).or_default() += 1;
        self.all.insert(number, entry);
    }

    pub(super) fn on_first_byte(&mut self, number: u64, now: Instant) {
        if let Some(entry) = self.all.get_mut(&number) {
            entry.protected_until.get_or_insert(now + PROTECTED);
        }
    }

    pub(super) fn moves(&mut self, number: u64, network: Network, now: Instant) {
        let Some(entry) = self.take(number) else {
            return;
        };
        if self.is_full_for(network, now) {
            let oldest = || self.of(network).map(|(number, _)| number).next();
            let number = self.evictable(network, now).or_else(oldest);
            number.into_iter().for_each(|number| self.evict(number));
        }
        let moved = Entry {
            network,
            counts_from: now,
            ..entry
        };
        self.put(number, moved);
    }

    /// True if as many of this network as it may have count for it.
    fn is_full_for(&self, network: Network, now: Instant) -> bool {
        let counted = || {
            self.of(network)
                .filter(|(_, entry)| now >= entry.counts_from)
        };
        self.count(network) >= self.limit_per_address && counted().count() >= self.limit_per_address
    }

    fn count(&self, network: Network) -> usize {
        self.counts.get(&network).copied().unwrap_or_default()
    }

    /// Those of a network, by age.
    fn of(&self, network: Network) -> impl Iterator<Item = (u64, &Entry<T>)> {
        let entries = self.all.iter().map(|(number, entry)| (*number, entry));
        entries.filter(move |(_, entry)| entry.network == network)
    }

    /// The oldest silent one of a network, else the oldest that is not protected.
    fn evictable(&self, network: Network, now: Instant) -> Option<u64> {
        let silent = self
            .of(network)
            .find(|(_, entry)| entry.protected_until.is_none());
        let unprotected =
            |(_, entry): &(u64, &Entry<T>)| entry.protected_until.is_some_and(|until| until <= now);
        let found = silent.or_else(|| self.of(network).find(unprotected));
        found.map(|(number, _)| number)
    }

    pub(super) fn evict_oldest(&mut self) {
        let oldest = self.all.keys().next().copied();
        oldest.into_iter().for_each(|oldest| self.evict(oldest));
    }

    pub(super) fn evict(&mut self, number: u64) {
        if let Some(entry) = self.take(number) {
            entry.signal.go();
        }
    }

    /// Removes one that is pending no more.
    pub(super) fn remove(&mut self, number: u64) {
        drop(self.take(number));
    }

    fn take(&mut self, number: u64) -> Option<Entry<T>> {
        let entry = self.all.remove(&number)?;
        if let Some(count) = self.counts.get_mut(&entry.network) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&entry.network);
            }
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
