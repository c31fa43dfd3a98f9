//! Places for connections and for processes of the MCP server, bounded in number for all together and
//! for each user.
//!
//! A session that waits for its client keeps its place. If all are taken, such a session gives way to a user
//! who has clearly fewer: the longest waiting one of the user who has most.

use crate::account::Account;
use crate::utils::lock::lock;
use crate::utils::tally::Tally;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::oneshot;

/// How many places there are.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For all.
    pub total: usize,
    /// For each user, or each address where there is no user; `None` where users are not told apart.
    pub per_user: Option<usize>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// All are taken.
    Full,
    /// The user has as many as a user may have.
    TooManyOfUser,
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    table: Mutex<Table<oneshot::Sender<()>>>,
}

/// One place; dropping it makes room.
#[derive(Debug)]
pub(super) struct Place {
    spot: Spot,
    of_user: Tally,
}

/// Identifies a place, whether or not it is still taken.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    number: u64,
    all: Arc<Places>,
}

/// The session at this place waits for its client; dropping this ends that.
#[derive(Debug)]
pub(super) struct Waiting {
    spot: Spot,
    needed: oneshot::Receiver<()>,
}

impl Places {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::new(Table::new(bounds)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table<oneshot::Sender<()>>> {
        lock(&self.table)
    }

    /// Takes a place, for which a waiting session may have to end.
    pub(super) fn take(self: &Arc<Self>, account: &Account) -> Result<Place, NoPlace> {
        let mut table = self.lock();
        let (number, gone) = table.enter(account)?;
        let of_user = table.tally(account);
        drop(table);
        if let Some(gone) = gone {
            // It may be about to end anyway.
            let _ended = gone.send(());
        }
        let all = Arc::clone(self);
        let spot = Spot { number, all };
        Ok(Place { spot, of_user })
    }
}

impl Place {
    pub(super) fn spot(&self) -> Spot {
        self.spot.clone()
    }

    /// A counter that all places of the same user share.
    pub(super) fn of_user(&self) -> Tally {
        self.of_user.clone()
    }
}

impl Spot {
    /// Notes that the session at this place waits for its client.
    pub(super) fn wait(self) -> Waiting {
        let (sender, needed) = oneshot::channel();
        self.all.lock().wait(self.number, sender);
        Waiting { spot: self, needed }
    }
}

impl Waiting {
    /// Completes when the place has been given to another user. Cancel safe.
    pub(super) async fn gives_way(&mut self) {
        if (&mut self.needed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.spot.all.lock().go_on(self.spot.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.spot.all.lock().leave(self.spot.number);
    }
}

/// The places of one account.
#[derive(Debug, Default)]
struct Held {
    places: usize,
    tally: Tally,
}

/// The owner of each place. `T` ends a waiting session.
#[derive(Debug)]
struct Table<T> {
    bounds: Bounds,
    /// The account of each place.
    taken: HashMap<u64, (Account, Option<u64>)>,
    counts: HashMap<Account, Held>,
    /// Places of waiting sessions, the longest waiting first.
    waiting: BTreeMap<u64, (u64, T)>,
    next: u64,
}

impl<T> Table<T> {
    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            taken: HashMap::new(),
            counts: HashMap::new(),
            waiting: BTreeMap::new(),
            next: 0,
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn count(&self, account: &Account) -> usize {
        self.counts.get(account).map_or(0, |held| held.places)
    }

    fn tally(&self, account: &Account) -> Tally {
        let held = self.counts.get(account);
        let held = held.filter(|_| self.bounds.per_user.is_some());
        held.map(|held| held.tally.clone()).unwrap_or_default()
    }

    /// Takes a new place; returns its number, and what ends the session that has to give way for
    /// it.
    fn enter(&mut self, account: &Account) -> Result<(u64, Option<T>), NoPlace> {
        let of_user = self.bounds.per_user.unwrap_or(usize::MAX);
        if self.count(account) >= of_user {
            return Err(NoPlace::TooManyOfUser);
        }
        let mut gone = None;
        if self.taken.len() >= self.bounds.total {
            let place = self.dispensable(account).ok_or(NoPlace::Full)?;
            gone = self.leave(place);
        }
        let number = self.fresh();
        self.taken.insert(number, (account.clone(), None));
        self.counts.entry(account.clone()).or_default().places += 1;
        Ok((number, gone))
    }

    /// The place that is given to `account`: of those whose sessions wait, the one that has waited
    /// longest of the account with the most places. With the place moved that account still has more,
    /// so it does not come back at once.
    fn dispensable(&self, account: &Account) -> Option<u64> {
        let enough = self.count(account) + 2;
        let mut most: Option<(usize, u64)> = None;
        for (number, _) in self.waiting.values() {
            let owner = self.taken.get(number).map(|(owner, _)| owner);
            let count = owner.map_or(0, |owner| self.count(owner));
            if count >= enough && most.is_none_or(|(known, _)| count > known) {
                most = Some((count, *number));
            }
        }
        most.map(|(_, number)| number)
    }

    fn wait(&mut self, number: u64, end: T) {
        let since = self.fresh();
        if let Some((_, waits)) = self.taken.get_mut(&number) {
            *waits = Some(since);
            self.waiting.insert(since, (number, end));
        }
    }

    fn go_on(&mut self, number: u64) -> Option<T> {
        let (_, waits) = self.taken.get_mut(&number)?;
        let (_, end) = self.waiting.remove(&waits.take()?)?;
        Some(end)
    }

    fn leave(&mut self, number: u64) -> Option<T> {
        let end = self.go_on(number);
        if let Some((account, _)) = self.taken.remove(&number)
            && let Some(held) = self.counts.get_mut(&account)
        {
            held.places -= 1;
            if held.places == 0 {
                self.counts.remove(&account);
            }
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user(name: &str) -> Account {
        Account::User(name.to_owned())
    }

    fn table(total: usize, per_user: usize) -> Table<&'static str> {
        let per_user = Some(per_user);
        Table::new(Bounds { total, per_user })
    }

    #[test]
    fn who_has_most_gives_way() {
        let mut table = table(6, 4);
        let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
        let a: Vec<u64> = (0..4).map(|_| table.enter(&alice).unwrap().0).collect();
        assert_eq!(table.enter(&alice), Err(NoPlace::TooManyOfUser));
        let b: Vec<u64> = (0..2).map(|_| table.enter(&bob).unwrap().0).collect();
        // No session waits.
        assert_eq!(table.enter(&carol), Err(NoPlace::Full));
        table.wait(b[0], "b0");
        table.wait(a[2], "a2");
        table.wait(a[1], "a1");
        assert_eq!(table.enter(&carol).map(|(_, gone)| gone), Ok(Some("a2")));
        // A session that is resumed no longer waits.
        assert_eq!(table.go_on(a[1]), Some("a1"));
        assert_eq!(table.enter(&carol), Err(NoPlace::Full));
        table.wait(a[1], "a1");
        // Alice has three now: too many compared with carol, who has one, but not with bob, who has
        // two.
        assert_eq!(table.enter(&bob), Err(NoPlace::Full));
        assert_eq!(table.enter(&carol).map(|(_, gone)| gone), Ok(Some("a1")));
        // All have two.
        assert_eq!(table.enter(&carol), Err(NoPlace::Full));
        assert_eq!(table.leave(a[1]), None, "it was given away");
        assert_eq!(table.leave(b[0]), Some("b0"));
        assert_eq!(table.enter(&alice).map(|(_, gone)| gone), Ok(None));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Enter(u8),
        Wait(prop::sample::Index),
        GoOn(prop::sample::Index),
        Leave(prop::sample::Index),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let any_place = any::<prop::sample::Index>;
        let event = prop_oneof![
            3 => (0u8..5).prop_map(Event::Enter),
            2 => any_place().prop_map(Event::Wait),
            1 => any_place().prop_map(Event::GoOn),
            1 => any_place().prop_map(Event::Leave),
        ];
        prop::collection::vec(event, 1..200)
    }

    proptest! {
        /// In any history the bounds hold, only waiting sessions are evicted, only for accounts that still have
        /// fewer after that, and an account with fewer than one that has a waiting session is admitted.
        #[test]
        fn the_bounds_hold(events in events(), total in 1usize..10, per_user in 1usize..6) {
            let mut table: Table<u64> = Table::new(Bounds { total, per_user: Some(per_user) });
            let mut places: Vec<(u64, Account)> = Vec::new();
            let mut waiting: Vec<u64> = Vec::new();
            for event in events {
                let at = |index: prop::sample::Index| (!places.is_empty()).then(|| index.index(places.len()));
                match event {
                    Event::Enter(name) => {
                        let account = user(&name.to_string());
                        let own = table.count(&account);
                        let most = waiting.iter().map(|number| {
                            let owner = &places.iter().find(|(known, _)| known == number).unwrap().1;
                            table.count(owner)
                        }).max();
                        let full = places.len() >= total;
                        match table.enter(&account) {
                            Ok((number, gone)) => {
                                prop_assert!(own < per_user);
                                prop_assert_eq!(gone.is_some(), full);
                                if let Some(gone) = gone {
                                    prop_assert!(waiting.contains(&gone));
                                    waiting.retain(|number| *number != gone);
                                    let owner = places.iter().position(|(known, _)| *known == gone).unwrap();
                                    let (_, owner) = places.remove(owner);
                                    prop_assert_eq!(Some(table.count(&owner) + 1), most);
                                    prop_assert!(table.count(&owner) >= table.count(&account));
                                }
                                places.push((number, account));
                            }
                            Err(NoPlace::TooManyOfUser) => prop_assert_eq!(own, per_user),
                            Err(NoPlace::Full) => {
                                prop_assert!(full && most.is_none_or(|most| most < own + 2));
                            }
                        }
                    }
                    Event::Wait(index) => if let Some(at) = at(index) {
                        let number = places[at].0;
                        if !waiting.contains(&number) {
                            table.wait(number, number);
                            waiting.push(number);
                        }
                    },
                    Event::GoOn(index) => if let Some(at) = at(index) {
                        let number = places[at].0;
                        prop_assert_eq!(table.go_on(number).is_some(), waiting.contains(&number));
                        waiting.retain(|known| *known != number);
                    },
                    Event::Leave(index) => if let Some(at) = at(index) {
                        let (number, _) = places.remove(at);
                        table.leave(number);
                        waiting.retain(|known| *known != number);
                    },
                }
                prop_assert_eq!(table.taken.len(), places.len());
                prop_assert_eq!(table.counts.values().map(|held| held.places).sum::<usize>(), places.len());
                prop_assert!(table.counts.values().all(|held| (1..=per_user).contains(&held.places)));
                prop_assert_eq!(table.waiting.len(), waiting.len());
                prop_assert!(places.len() <= total);
            }
        }
    }
}
