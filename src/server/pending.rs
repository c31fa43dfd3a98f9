//! Connections that have not shown yet who they are, bounded in number, for one address and
//! altogether.
//!
//! Where there are too many, the oldest gives way to the newest: whoever has a token shows it at
//! once and is pending no more, so a flood of silent connections pushes out its own kind. The
//! oldest of the address that has most of them, so that one address does not push out the others.
//!
//! Over HTTP a client opens many connections at once, one for each request that runs, and a reverse proxy
//! those of all its clients: there the bound for one address counts those that have had time to speak.

use crate::account::{Address, Network};
use crate::utils::lock::lock;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// All of them.
#[derive(Debug)]
pub(super) struct PendingConnections {
    table: Mutex<Table<oneshot::Sender<()>>>,
}

/// One of them; dropping it makes room.
#[derive(Debug)]
pub(super) struct PendingConnection {
    number: u64,
    all: Arc<PendingConnections>,
    pushed_out: oneshot::Receiver<()>,
}

impl PendingConnections {
    pub(super) fn new(limit: usize, limit_per_address: usize) -> Self {
        Self {
            table: Mutex::new(Table::new(limit, limit_per_address)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table<oneshot::Sender<()>>> {
        lock(&self.table)
    }

    /// A place for a new connection, always; another may have to go for it. It does not count against the
    /// bound for its address while `grace` lasts.
    pub(super) fn enter(self: &Arc<Self>, address: Address, grace: Duration) -> PendingConnection {
        let (sender, pushed_out) = oneshot::channel();
        let (number, gone) = self
            .lock()
            .enter(Network::of(address), sender, Instant::now(), grace);
        if let Some(gone) = gone {
            // Whoever has been served meanwhile does not listen any more.
            let _served = gone.send(());
        }
        PendingConnection {
            number,
            all: Arc::clone(self),
            pushed_out,
        }
    }

    /// Pushes out the oldest of all, to get its file descriptor.
    pub(super) fn push_out_oldest(&self) {
        let oldest = self.lock().remove_oldest();
        if let Some(gone) = oldest {
            let _served = gone.send(());
        }
    }
}

impl PendingConnection {
    pub(super) fn spot(&self) -> Spot {
        Spot {
            number: self.number,
            all: Arc::clone(&self.all),
        }
    }

    /// Completes when this connection has to give way. Cancel safe.
    pub(super) async fn pushed_out(&mut self) {
        if (&mut self.pushed_out).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Where a pending connection stands among the others.
#[derive(Debug)]
pub(super) struct Spot {
    number: u64,
    all: Arc<PendingConnections>,
}

impl Spot {
    /// It turns out that a proxy speaks for somebody at this address: it is counted there, and another of
    /// that address may have to go for it.
    pub(super) fn is_of(&self, address: Address) {
        let moved = Network::of(address);
        let gone = self.all.lock().moves(self.number, moved, Instant::now());
        if let Some(gone) = gone {
            let _served = gone.send(());
        }
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        self.all.lock().leave(self.number);
    }
}

#[derive(Debug)]
struct Table<T> {
    /// By age, each with the time from which it counts for its address.
    all: BTreeMap<u64, (Network, T, Instant)>,
    counts: HashMap<Network, usize>,
    next: u64,
    limit: usize,
    limit_per_address: usize,
}

impl<T> Table<T> {
    fn new(limit: usize, limit_per_address: usize) -> Self {
        Self {
            all: BTreeMap::new(),
            counts: HashMap::new(),
            next: 0,
            limit,
            limit_per_address,
        }
    }

    fn enter(
        &mut self,
        network: Network,
        entry: T,
        now: Instant,
        grace: Duration,
    ) -> (u64, Option<T>) {
        let crowd = if self.count(network) >= self.limit_per_address
            && self.settled(network, now) >= self.limit_per_address
        {
            Some(network)
        } else if self.all.len() >= self.limit {
            self.largest_crowd()
        } else {
            None
        };
        let gone = crowd.and_then(|crowd| self.remove_oldest_of(crowd));
        let number = self.next;
        self.next += 1;
        self.all.insert(number, (network, entry, now + grace));
        *self.counts.entry(network).or_default() += 1;
        (number, gone)
    }

    fn moves(&mut self, number: u64, network: Network, now: Instant) -> Option<T> {
        let entry = self.leave(number)?;
        let is_full = self.settled(network, now) >= self.limit_per_address;
        let gone = is_full.then(|| self.remove_oldest_of(network)).flatten();
        self.all.insert(number, (network, entry, now));
        *self.counts.entry(network).or_default() += 1;
        gone
    }

    /// How many of a network have had time to speak; at most as many as there may be.
    fn settled(&self, network: Network, now: Instant) -> usize {
        let own = self.all.values().filter(|(of, ..)| *of == network);
        let settled = own.filter(|(_, _, counts_from)| now >= *counts_from);
        settled.take(self.limit_per_address).count()
    }

    fn count(&self, network: Network) -> usize {
        self.counts.get(&network).copied().unwrap_or_default()
    }

    /// The network with the most entries; among equals that of the oldest entry.
    fn largest_crowd(&self) -> Option<Network> {
        let most = self.counts.values().max()?;
        let mut networks = self.all.values().map(|(network, ..)| *network);
        networks.find(|network| self.count(*network) == *most)
    }

    fn remove_oldest_of(&mut self, network: Network) -> Option<T> {
        let mut entries = self.all.iter();
        let number = *entries.find(|(_, (of, ..))| *of == network)?.0;
        self.leave(number)
    }

    fn remove_oldest(&mut self) -> Option<T> {
        let number = *self.all.keys().next()?;
        self.leave(number)
    }

    fn leave(&mut self, number: u64) -> Option<T> {
        let (network, entry, _) = self.all.remove(&number)?;
        if let Some(count) = self.counts.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&network);
            }
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(last: u8) -> Network {
        Network::Ip([192, 0, 2, last].into())
    }

    #[test]
    fn the_oldest_of_a_crowd_gives_way() {
        let (mut table, now) = (Table::new(4, 2), Instant::now());
        assert_eq!(
            table.enter(address(1), "1a", now, Duration::ZERO),
            (0, None)
        );
        assert_eq!(
            table.enter(address(2), "2a", now, Duration::ZERO),
            (1, None)
        );
        assert_eq!(
            table.enter(address(2), "2b", now, Duration::ZERO),
            (2, None)
        );
        assert_eq!(
            table.enter(address(2), "2c", now, Duration::ZERO),
            (3, Some("2a"))
        );
        assert_eq!(
            table.enter(address(3), "3a", now, Duration::ZERO),
            (4, None)
        );
        // Full: not the oldest of all goes, but the oldest of the largest crowd.
        assert_eq!(
            table.enter(address(4), "4a", now, Duration::ZERO),
            (5, Some("2b"))
        );
        // No crowd any more: now the oldest goes.
        assert_eq!(
            table.enter(address(5), "5a", now, Duration::ZERO),
            (6, Some("1a"))
        );
        assert_eq!(table.leave(3), Some("2c"));
        assert_eq!(table.leave(3), None);
        assert_eq!(
            table.enter(address(6), "6a", now, Duration::ZERO),
            (7, None)
        );
        assert_eq!(table.remove_oldest(), Some("3a"));
    }

    #[test]
    fn who_has_had_no_time_to_speak_does_not_count_for_its_address() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut table = Table::new(6, 2);
        for entry in ["a", "b", "c", "d"] {
            assert_eq!(table.enter(address(1), entry, start, second).1, None);
        }
        let later = start + second;
        assert_eq!(table.enter(address(2), "x", later, second).1, None);
        assert_eq!(table.enter(address(1), "e", later, second).1, Some("a"));
        assert_eq!(table.enter(address(1), "f", later, second).1, Some("b"));
        // Two of those that have had their time are left. In all there may be no more.
        assert_eq!(table.enter(address(2), "y", later, second).1, None);
        assert_eq!(table.enter(address(2), "z", later, second).1, Some("c"));
    }

    #[test]
    fn who_comes_through_a_proxy_is_counted_where_he_is() {
        let (mut table, now) = (Table::new(9, 2), Instant::now());
        let hour = Duration::from_secs(3600);
        let mut come = |entry: &'static str, from: u8| {
            let (number, gone) = table.enter(address(9), entry, now, hour);
            assert_eq!(gone, None, "{entry}");
            table.moves(number, address(from), now)
        };
        assert_eq!(come("1a", 1), None);
        assert_eq!(come("1b", 1), None);
        assert_eq!(come("2a", 2), None);
        assert_eq!(come("1c", 1), Some("1a"));
        assert_eq!(come("2b", 2), None);
        assert_eq!(come("2c", 2), Some("2a"));
        assert_eq!(table.count(address(9)), 0);
        assert_eq!(table.all.len(), 4);
        assert_eq!(table.moves(77, address(1), now), None);
    }

    proptest! {
        #[test]
        fn the_bounds_hold(events in prop::collection::vec((0u8..6, any::<bool>(), any::<prop::sample::Index>()), 1..300), limit in 1usize..12, each in 1usize..6) {
            let (mut table, now) = (Table::new(limit, each), Instant::now());
            for (who, comes, pick) in events {
                if comes {
                    let (number, _) = table.enter(address(who), (), now, Duration::ZERO);
                    prop_assert!(table.all.contains_key(&number));
                } else if !table.all.is_empty() {
                    let numbers: Vec<u64> = table.all.keys().copied().collect();
                    table.leave(numbers[pick.index(numbers.len())]);
                }
                prop_assert!(table.all.len() <= limit);
                prop_assert!(table.counts.values().all(|count| (1..=each).contains(count)));
                prop_assert_eq!(table.counts.values().sum::<usize>(), table.all.len());
            }
        }
    }
}
