use super::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;

/// The evicted ones, in order.
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

/// A table, and a manual clock.
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

    /// One arrives, and these are evicted for it; `None` if it has to wait.
    fn enter(&mut self, name: &'static str, from: u8) -> Option<Vec<&'static str>> {
        loop {
            match self.table.room(address(from), self.now) {
                Room::Free => break,
                Room::Evict(number) => self.table.evict(number),
                Room::FullUntil(later) => {
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

    fn on_first_byte(&mut self, name: &str) {
        self.table.on_first_byte(self.number(name), self.now);
    }
}

#[test]
fn the_oldest_silent_connection_of_the_largest_crowd_is_evicted() {
    let mut scene = Scene::new(4, 2, Duration::ZERO);
    for (name, from, gone) in [
        ("1a", 1, None),
        ("2a", 2, None),
        ("2b", 2, None),
        ("2c", 2, Some("2a")),
        ("3a", 3, None),
        // Full: the oldest of the largest network is evicted, not the oldest of all.
        ("4a", 4, Some("2b")),
        // All networks are equal: now the oldest of all is evicted.
        ("5a", 5, Some("1a")),
    ] {
        assert_eq!(
            scene.enter(name, from),
            Some(Vec::from_iter(gone)),
            "{name}"
        );
    }
    let number = scene.number("2c");
    assert!(scene.table.take(number).is_some());
    assert!(scene.table.take(number).is_none());
    assert_eq!(scene.enter("6a", 6), Some(vec![]));
}

#[test]
fn a_connection_does_not_count_for_its_address_during_its_grace_period() {
    let second = Duration::from_secs(1);
    let mut scene = Scene::new(6, 2, second);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(scene.enter(name, 1), Some(vec![]));
    }
    scene.now += second;
    assert_eq!(scene.enter("x", 2), Some(vec![]));
    // Of those past their deadline, one is left.
    assert_eq!(scene.enter("e", 1), Some(vec!["a", "b", "c"]));
    assert_eq!(scene.enter("f", 1), Some(vec![]));
    assert_eq!(scene.enter("y", 2), Some(vec![]));
    assert_eq!(scene.enter("z", 2), Some(vec![]));
    // The total is at its limit.
    assert_eq!(scene.enter("g", 1), Some(vec!["d"]));
}

#[test]
fn a_connection_that_has_spoken_is_protected_from_its_own_crowd() {
    let mut scene = Scene::new(3, 3, Duration::from_secs(1));
    for name in ["a", "b", "c"] {
        assert_eq!(scene.enter(name, 1), Some(vec![]));
    }
    scene.on_first_byte("a");
    assert_eq!(scene.enter("d", 1), Some(vec!["b"]));
    scene.on_first_byte("c");
    scene.on_first_byte("d");
    assert_eq!(scene.enter("e", 1), None);
    // Another address does not wait for the crowd.
    assert_eq!(scene.enter("x", 2), Some(vec!["a"]));
    assert_eq!(scene.enter("e", 1), None);
    scene.now += PROTECTED;
    assert_eq!(scene.enter("e", 1), Some(vec!["c"]));
}

/// Bug: with one connection per address, the oldest was evicted although it was being authenticated.
#[test]
fn a_connection_that_has_spoken_is_protected_from_silent_ones_of_many_addresses() {
    let mut scene = Scene::new(3, 3, Duration::ZERO);
    for (name, from) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(scene.enter(name, from), Some(vec![]));
    }
    scene.on_first_byte("a");
    assert_eq!(scene.enter("d", 4), Some(vec!["b"]));
    assert_eq!(scene.enter("e", 5), Some(vec!["c"]));
    // It is one of many at work: the next one waits.
    scene.on_first_byte("d");
    scene.on_first_byte("e");
    assert_eq!(scene.enter("f", 6), None);
    scene.now += PROTECTED;
    assert_eq!(scene.enter("f", 6), Some(vec!["a"]));
}

#[test]
fn a_small_crowd_does_not_give_way_to_a_larger_one() {
    let mut scene = Scene::new(4, 4, Duration::from_secs(1));
    for (name, from) in [("a", 1), ("b", 1), ("c", 1), ("x", 2)] {
        assert_eq!(scene.enter(name, from), Some(vec![]));
    }
    for name in ["a", "b", "c"] {
        scene.on_first_byte(name);
    }
    assert_eq!(scene.enter("d", 1), None);
    assert_eq!(scene.enter("y", 3), Some(vec!["a"]));
    assert_eq!(scene.enter("z", 2), Some(vec!["x"]));
}

#[test]
fn a_connection_through_a_proxy_counts_for_its_client() {
    let mut scene = Scene::new(9, 2, Duration::from_secs(3600));
    let mut come = |name: &'static str, from: u8| {
        assert_eq!(scene.enter(name, 9), Some(vec![]), "{name}");
        let number = scene.number(name);
        scene.on_first_byte(name);
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
                    prop_assert!(entered || scene.table.evictable(address(who), scene.now).is_none());
                    prop_assert!(!(entered && full && protected) || scene.table.all.len() == limit);
                }
                Event::Speaks(pick) if !numbers.is_empty() => {
                    scene.table.on_first_byte(*pick.get(&numbers), scene.now);
                }
                Event::Leaves(pick) if !numbers.is_empty() => {
                    scene.table.take(*pick.get(&numbers));
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
