//! Connections that are not authenticated yet, bounded in number, in total and for each address.
//!
//! Where there are too many, one that has said nothing gives way to the newest, the oldest first: who has a
//! token shows it at once and is pending no more, so a flood of silent connections pushes out its own kind.
//! It is one of the address that has most of them, so that one address does not push out the others.
//!
//! One that has begun to speak gives way to no other of its address for [`PROTECTED`]: where thousands of clients
//! come back at once, the next ones wait in the listen queue instead. The bound for one address counts those
//! that have had time to speak: a client opens many connections at once over HTTP, and a reverse proxy those of
//! all its clients.

use crate::account::{Address, Network};
use crate::utils::lock::lock;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// How long one that has begun to speak may take to show who it is, before it gives way like the others.
const PROTECTED: Duration = Duration::from_millis(500);

/// All pending connections.
#[derive(Debug)]
pub(super) struct PendingConnections {
    table: Mutex<Table<oneshot::Sender<()>>>,
    left: Notify,
}

/// One pending connection; dropping it makes room.
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
            left: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table<oneshot::Sender<()>>> {
        lock(&self.table)
    }

    /// A place for a new connection, for which others may have to go. It waits, at most for [`PROTECTED`], while
    /// all of them are being served. The connection does not count against the bound for its address while `grace`
    /// lasts. Cancel safe.
    pub(super) async fn enter(
        self: &Arc<Self>,
        address: Address,
        grace: Duration,
    ) -> PendingConnection {
        let network = Network::of(address);
        loop {
            let full_until = match self.try_enter(network, grace) {
                Ok(entered) => return entered,
                Err(full_until) => full_until,
            };
            let later = tokio::time::sleep_until(full_until.into());
            tokio::select! {
                () = later => {}
                () = self.left.notified() => {}
            }
        }
    }

    /// A place, or until when there is none at the longest.
    fn try_enter(
        self: &Arc<Self>,
        network: Network,
        grace: Duration,
    ) -> Result<PendingConnection, Instant> {
        let mut table = self.lock();
        let now = Instant::now();
        loop {
            match table.room(network, now) {
                Room::Free => break,
                Room::After(number) => table.push_out(number),
                Room::NoneUntil(later) => return Err(later),
            }
        }
        let (sender, pushed_out) = oneshot::channel();
        let number = table.insert(network, sender, now + grace);
        Ok(PendingConnection {
            number,
            all: Arc::clone(self),
            pushed_out,
        })
    }

    /// Pushes out the oldest of all, to get its file descriptor.
    pub(super) fn push_out_oldest(&self) {
        let mut table = self.lock();
        if let Some(oldest) = table.all.keys().next().copied() {
            table.push_out(oldest);
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

/// The position of a pending connection in the table.
#[derive(Debug)]
pub(super) struct Spot {
    number: u64,
    all: Arc<PendingConnections>,
}

impl Spot {
    /// Its first byte has come.
    pub(super) fn speaks(&self) {
        self.all.lock().speaks(self.number, Instant::now());
    }

    /// Counts the connection for the client behind a proxy, for which another one of that address may have to
    /// give way.
    pub(super) fn is_of(&self, address: Address) {
        let mut table = self.all.lock();
        table.moves(self.number, Network::of(address), Instant::now());
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        self.all.lock().leave(self.number);
        self.all.left.notify_one();
    }
}

/// Whether there is room for one more.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    Free,
    /// When this one has gone.
    After(u64),
    /// Nor can one be made before then.
    NoneUntil(Instant),
}

#[derive(Debug)]
struct Entry<T> {
    network: Network,
    /// Tells it that it has to go.
    signal: T,
    /// From when on it counts for its address.
    counts_from: Instant,
    /// Until when it is protected, where it has begun to speak.
    protected_until: Option<Instant>,
}

/// Takes the signal that a connection has to go.
trait Signal {
    fn go(self);
}

impl Signal for oneshot::Sender<()> {
    fn go(self) {
        // One that has been served meanwhile does not listen any more.
        let _served = self.send(());
    }
}

#[derive(Debug)]
struct Table<T> {
    /// By age.
    all: BTreeMap<u64, Entry<T>>,
    counts: HashMap<Network, usize>,
    next: u64,
    limit: usize,
    limit_per_address: usize,
}

impl<T: Signal> Table<T> {
    fn new(limit: usize, limit_per_address: usize) -> Self {
        Self {
            all: BTreeMap::new(),
            counts: HashMap::new(),
            next: 0,
            limit,
            limit_per_address,
        }
    }

    /// Whether one from this network can come in.
    fn room(&self, network: Network, now: Instant) -> Room {
        if self.is_full_for(network, now)
            && let Ok(number) = self.to_go_of(network, now)
        {
            return Room::After(number);
        }
        if self.all.len() < self.limit {
            return Room::Free;
        }
        let Some(crowd) = self.largest_crowd() else {
            return Room::Free;
        };
        match self.to_go_of(crowd, now) {
            Ok(number) => Room::After(number),
            Err(Some((oldest, _))) if crowd != network => Room::After(oldest),
            Err(Some((_, until))) => Room::NoneUntil(until),
            Err(None) => Room::Free,
        }
    }

    fn insert(&mut self, network: Network, signal: T, counts_from: Instant) -> u64 {
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

    fn speaks(&mut self, number: u64, now: Instant) {
        if let Some(entry) = self.all.get_mut(&number) {
            entry.protected_until.get_or_insert(now + PROTECTED);
        }
    }

    fn moves(&mut self, number: u64, network: Network, now: Instant) {
        let Some(entry) = self.leave(number) else {
            return;
        };
        if self.is_full_for(network, now) {
            let oldest = self.of(network).map(|(number, _)| number).next();
            oldest.into_iter().for_each(|oldest| self.push_out(oldest));
        }
        let moved = Entry {
            network,
            counts_from: now,
            ..entry
        };
        self.put(number, moved);
    }

    /// True where a network has as many that have had time to speak as it may have.
    fn is_full_for(&self, network: Network, now: Instant) -> bool {
        let settled = || {
            self.of(network)
                .filter(|(_, entry)| now >= entry.counts_from)
        };
        self.count(network) >= self.limit_per_address && settled().count() >= self.limit_per_address
    }

    fn count(&self, network: Network) -> usize {
        self.counts.get(&network).copied().unwrap_or_default()
    }

    /// The network with the most entries; among equals that of the oldest entry.
    fn largest_crowd(&self) -> Option<Network> {
        let most = self.counts.values().max()?;
        let mut networks = self.all.values().map(|entry| entry.network);
        networks.find(|network| self.count(*network) == *most)
    }

    /// Those of a network, by age.
    fn of(&self, network: Network) -> impl Iterator<Item = (u64, &Entry<T>)> {
        let entries = self.all.iter().map(|(number, entry)| (*number, entry));
        entries.filter(move |(_, entry)| entry.network == network)
    }

    /// The one of a network that goes next: the oldest that says nothing, else the oldest that is not protected.
    ///
    /// # Errors
    /// All are protected; the one that is not for longest, and until when it is.
    fn to_go_of(&self, network: Network, now: Instant) -> Result<u64, Option<(u64, Instant)>> {
        let mut first = None;
        for (number, entry) in self.of(network) {
            match entry.protected_until {
                None => return Ok(number),
                Some(until) if first.is_none_or(|(_, least)| until < least) => {
                    first = Some((number, until));
                }
                Some(_) => {}
            }
        }
        match first {
            Some((number, until)) if until <= now => Ok(number),
            first => Err(first),
        }
    }

    fn push_out(&mut self, number: u64) {
        if let Some(entry) = self.leave(number) {
            entry.signal.go();
        }
    }

    fn leave(&mut self, number: u64) -> Option<Entry<T>> {
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// Those that have been told to go, in order.
    type Gone = Rc<RefCell<Vec<&'static str>>>;

    struct Named(&'static str, Gone);

    impl Signal for Named {
        fn go(self) {
            self.1.borrow_mut().push(self.0);
        }
    }

    fn address(last: u8) -> Network {
        Network::Ip([192, 0, 2, last].into())
    }

    /// A table, and a clock that is set by hand.
    struct Scene {
        table: Table<Named>,
        now: Instant,
        grace: Duration,
        gone: Gone,
    }

    impl Scene {
        fn new(limit: usize, limit_per_address: usize, grace: Duration) -> Self {
            Self {
                table: Table::new(limit, limit_per_address),
                now: Instant::now(),
                grace,
                gone: Gone::default(),
            }
        }

        /// One comes in, and these go for it; `None` where it has to wait.
        fn enter(&mut self, name: &'static str, from: u8) -> Option<Vec<&'static str>> {
            loop {
                match self.table.room(address(from), self.now) {
                    Room::Free => break,
                    Room::After(number) => self.table.push_out(number),
                    Room::NoneUntil(later) => {
                        assert!(later > self.now);
                        return None;
                    }
                }
            }
            let signal = Named(name, Rc::clone(&self.gone));
            self.table
                .insert(address(from), signal, self.now + self.grace);
            Some(self.gone.take())
        }

        fn number(&self, name: &str) -> u64 {
            let mut all = self.table.all.iter();
            *all.find(|(_, entry)| entry.signal.0 == name).unwrap().0
        }

        fn speaks(&mut self, name: &str) {
            self.table.speaks(self.number(name), self.now);
        }
    }

    #[test]
    fn the_oldest_of_a_crowd_gives_way() {
        let mut scene = Scene::new(4, 2, Duration::ZERO);
        for (name, from, gone) in [
            ("1a", 1, None),
            ("2a", 2, None),
            ("2b", 2, None),
            ("2c", 2, Some("2a")),
            ("3a", 3, None),
            // Full: the oldest of the largest network gives way, not the oldest of all.
            ("4a", 4, Some("2b")),
            // All networks are equal: now the oldest of all gives way.
            ("5a", 5, Some("1a")),
        ] {
            assert_eq!(
                scene.enter(name, from),
                Some(Vec::from_iter(gone)),
                "{name}"
            );
        }
        let number = scene.number("2c");
        assert!(scene.table.leave(number).is_some());
        assert!(scene.table.leave(number).is_none());
        assert_eq!(scene.enter("6a", 6), Some(vec![]));
    }

    #[test]
    fn who_has_had_no_time_to_speak_does_not_count_for_its_address() {
        let second = Duration::from_secs(1);
        let mut scene = Scene::new(6, 2, second);
        for name in ["a", "b", "c", "d"] {
            assert_eq!(scene.enter(name, 1), Some(vec![]));
        }
        scene.now += second;
        assert_eq!(scene.enter("x", 2), Some(vec![]));
        // Of those that have had their time one is left.
        assert_eq!(scene.enter("e", 1), Some(vec!["a", "b", "c"]));
        assert_eq!(scene.enter("f", 1), Some(vec![]));
        assert_eq!(scene.enter("y", 2), Some(vec![]));
        assert_eq!(scene.enter("z", 2), Some(vec![]));
        // In all there may be no more.
        assert_eq!(scene.enter("g", 1), Some(vec!["d"]));
    }

    #[test]
    fn who_speaks_gives_way_to_no_other_of_its_crowd_for_a_while() {
        let mut scene = Scene::new(3, 3, Duration::from_secs(1));
        for name in ["a", "b", "c"] {
            assert_eq!(scene.enter(name, 1), Some(vec![]));
        }
        scene.speaks("a");
        assert_eq!(scene.enter("d", 1), Some(vec!["b"]));
        scene.speaks("c");
        scene.speaks("d");
        assert_eq!(scene.enter("e", 1), None);
        // Another address does not wait for the crowd.
        assert_eq!(scene.enter("x", 2), Some(vec!["a"]));
        assert_eq!(scene.enter("e", 1), None);
        scene.now += PROTECTED;
        assert_eq!(scene.enter("e", 1), Some(vec!["c"]));
    }

    #[test]
    fn who_comes_through_a_proxy_is_counted_where_he_is() {
        let mut scene = Scene::new(9, 2, Duration::from_secs(3600));
        let mut come = |name: &'static str, from: u8| {
            assert_eq!(scene.enter(name, 9), Some(vec![]), "{name}");
            let number = scene.number(name);
            scene.speaks(name);
            scene.table.moves(number, address(from), scene.now);
            scene.gone.take()
        };
        assert_eq!(come("1a", 1), [""; 0]);
        assert_eq!(come("1b", 1), [""; 0]);
        assert_eq!(come("2a", 2), [""; 0]);
        assert_eq!(come("1c", 1), ["1a"]);
        assert_eq!(come("2b", 2), [""; 0]);
        assert_eq!(come("2c", 2), ["2a"]);
        assert_eq!(scene.table.count(address(9)), 0);
        assert_eq!(scene.table.all.len(), 4);
        scene.table.moves(77, address(1), scene.now);
        assert_eq!(scene.table.all.len(), 4);
    }

    #[derive(Clone, Debug)]
    enum Event {
        Comes(u8),
        Speaks(prop::sample::Index),
        Leaves(prop::sample::Index),
        Passes(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0u8..6).prop_map(Event::Comes),
            2 => any::<prop::sample::Index>().prop_map(Event::Speaks),
            1 => any::<prop::sample::Index>().prop_map(Event::Leaves),
            1 => (0u64..400).prop_map(Event::Passes),
        ]
    }

    proptest! {
        #[test]
        fn the_bounds_hold(events in prop::collection::vec(event(), 1..300), limit in 1usize..12, each in 1usize..6) {
            let mut scene = Scene::new(limit, each, Duration::from_millis(50));
            for event in events {
                let numbers: Vec<u64> = scene.table.all.keys().copied().collect();
                match event {
                    Event::Comes(who) => {
                        let protected = scene.table.all.values().all(|entry| {
                            entry.protected_until.is_some_and(|until| until > scene.now)
                        });
                        let full = numbers.len() == limit;
                        let entered = scene.enter("", who).is_some();
                        prop_assert!(entered || full, "it waits where there is room");
                        prop_assert!(entered || scene.table.to_go_of(address(who), scene.now).is_err());
                        prop_assert!(!(entered && full && protected) || scene.table.all.len() == limit);
                    }
                    Event::Speaks(pick) if !numbers.is_empty() => {
                        scene.table.speaks(*pick.get(&numbers), scene.now);
                    }
                    Event::Leaves(pick) if !numbers.is_empty() => {
                        scene.table.leave(*pick.get(&numbers));
                    }
                    Event::Passes(time) => scene.now += Duration::from_millis(time),
                    _ => {}
                }
                prop_assert!(scene.table.all.len() <= limit);
                prop_assert!(scene.table.counts.values().all(|count| *count > 0));
                prop_assert_eq!(scene.table.counts.values().sum::<usize>(), scene.table.all.len());
            }
        }
    }
}
