//! The ids under which a process gets requests. Many users share it, and some servers print to stdout what a user has
//! written: whoever could guess the id of another one's request could write its answer.

use crate::jsonrpc::RequestId;
use foldhash::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Ids have this many bits behind the first, since some servers keep them in 31 and a sign.
const BITS: u32 = 30;
const HALF: u32 = BITS / 2;
const ID_MASK: i64 = (1 << BITS) - 1;
/// The first bit, so that all ids are equally long.
const FIRST: i64 = 1 << BITS;

/// An id that is as long as all others.
pub(super) const SOME_ID: RequestId = RequestId::Number(FIRST);
const HALF_MASK: u32 = (1 << HALF) - 1;

/// Four make a Feistel network a random permutation; more, since the halves are short.
const ROUNDS: u32 = 6;

/// So many younger requests make it unlikely that one is still worked on. Nearly all ids that are guessed stand for older
/// ones, or for none.
const LONG_AGO: i64 = 1 << 24;

/// True if the request with this number was made so long ago that no answer can still be expected.
pub(super) fn is_long_ago(number: i64, newest: i64) -> bool {
    newest - number >= LONG_AGO
}

/// The open requests are looked through whenever so many others have been numbered …
const REVIEW: i64 = 1 << 28;
/// … for those that are so old that another could get their id before the next time, which may be late.
const OLD: i64 = 1 << 29;

/// The numbers of requests. They never repeat, but their ids do after 2^30 others, except for those of open requests.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    pub newest: i64,
    /// The newest one when the open requests were last looked through.
    reviewed: i64,
    /// The old ones that were open then, by the part of them that makes the id.
    old: HashMap<i64, i64>,
}

impl Numbers {
    /// A number that was never used before, and whose id stands for nothing open.
    pub(super) fn next(&mut self) -> i64 {
        self.newest += 1;
        while self.old.contains_key(&(self.newest & ID_MASK)) {
            self.newest += 1;
        }
        self.newest
    }

    /// True if [`Numbers::review`] is to be called.
    pub(super) fn are_due(&self) -> bool {
        self.newest - self.reviewed >= REVIEW
    }

    /// Looks through the numbers of all open requests.
    pub(super) fn review(&mut self, open: impl IntoIterator<Item = i64>) {
        let open = open.into_iter();
        let old = open.filter(|number| self.newest - number >= OLD);
        self.old = old.map(|number| (number & ID_MASK, number)).collect();
        self.reviewed = self.newest;
    }

    /// The number that an id made of this part stands for.
    fn of_part(&self, part: i64) -> i64 {
        let old = self.old.get(&part).copied();
        old.unwrap_or_else(|| self.newest - ((self.newest - part) & ID_MASK))
    }
}

/// A secret order of all ids: that of a request is a permutation of its number (a Feistel network with `SipHash`, which
/// has random keys).
#[derive(Clone, Debug, Default)]
pub(super) struct WireIds(RandomState);

impl WireIds {
    /// The id of the request with this number.
    pub(super) fn of(&self, number: i64) -> RequestId {
        let (mut left, mut right) = halves(number & ID_MASK);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.mix(round, right));
        }
        RequestId::Number(FIRST | joined(left, right))
    }

    /// The number of the request with this id, if it is one that has been given out.
    pub(super) fn number(&self, id: &RequestId, numbers: &Numbers) -> Option<i64> {
        let id = id.integer().filter(|id| id & !ID_MASK == FIRST)?;
        let (mut left, mut right) = halves(id & ID_MASK);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.mix(round, left), left);
        }
        Some(numbers.of_part(joined(left, right))).filter(|number| *number > 0)
    }

    fn mix(&self, round: u32, half: u32) -> u32 {
        self.0.hash_one(round << HALF | half) as u32 & HALF_MASK
    }
}

fn halves(id: i64) -> (u32, u32) {
    let half = |id: i64| id as u32 & HALF_MASK;
    (half(id >> HALF), half(id))
}

fn joined(left: u32, right: u32) -> i64 {
    i64::from(left) << HALF | i64::from(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn up_to(newest: i64) -> Numbers {
        Numbers {
            newest,
            ..Numbers::default()
        }
    }

    proptest! {
        #[test]
        fn an_id_gives_its_number(newest in 1..i64::MAX / 2, age in 0..=ID_MASK) {
            let ids = WireIds::default();
            let number = newest - age;
            let id = ids.of(number);
            prop_assert!(id.integer().is_some_and(|id| (FIRST..2 * FIRST).contains(&id)));
            prop_assert_eq!(ids.number(&id, &up_to(newest)), Some(number).filter(|number| *number > 0));
        }

        /// However many requests come in between, no two open ones have the same id, and each is found by its own.
        #[test]
        fn an_id_stands_for_one_open_request(
            steps in prop::collection::vec((0..REVIEW, any::<bool>(), any::<prop::sample::Index>(), any::<bool>()), 1..60),
        ) {
            let (ids, mut numbers) = (WireIds::default(), Numbers::default());
            let mut open: BTreeSet<i64> = BTreeSet::new();
            for (others, meets, which, closes) in steps {
                if numbers.are_due() {
                    numbers.review(open.iter().copied());
                }
                let candidates: Vec<i64> = open.iter().copied().collect();
                let chosen = (!candidates.is_empty()).then(|| *which.get(&candidates));
                // The others have come and gone, sometimes just so many that the next number has the id of an open one.
                let ahead = chosen.map(|chosen| (chosen - numbers.newest - 1) & ID_MASK);
                numbers.newest += match ahead {
                    Some(ahead) if meets && ahead < REVIEW => ahead,
                    _ => others,
                };
                if closes && let Some(chosen) = chosen {
                    open.remove(&chosen);
                }
                let number = numbers.next();
                prop_assert!(open.last().is_none_or(|last| *last < number));
                open.insert(number);
                let known: BTreeSet<i64> = open.iter().filter_map(|open| ids.of(*open).integer()).collect();
                prop_assert_eq!(known.len(), open.len());
                for number in &open {
                    prop_assert_eq!(ids.number(&ids.of(*number), &numbers), Some(*number));
                }
            }
        }
    }

    /// Of the ids next to its own, somebody learns nothing about others.
    #[test]
    fn ids_cannot_be_guessed() {
        let (one, other) = (WireIds::default(), WireIds::default());
        let ids = |of: &WireIds| -> Vec<i64> {
            (1..1000)
                .filter_map(|number| of.of(number).integer())
                .collect()
        };
        let (one_ids, other_ids) = (ids(&one), ids(&other));
        let alike = one_ids.iter().zip(&other_ids).filter(|(a, b)| a == b);
        assert!(alike.count() < 3);
        let close = one_ids
            .windows(2)
            .filter(|pair| (pair[1] - pair[0]).abs() < 1 << 20);
        assert!(close.count() < 20);
        // Next to none of the numbers that somebody may try has been given out.
        let tried = (FIRST..FIRST + 100_000).map(RequestId::Number);
        let found = tried.filter(|id| one.number(id, &up_to(1000)).is_some());
        assert!(found.count() < 10);
        for id in [-FIRST, -1, 0, 1, FIRST - 1, 2 * FIRST, i64::MAX] {
            assert_eq!(
                one.number(&RequestId::Number(id), &up_to(i64::MAX / 2)),
                None,
                "{id}"
            );
        }
    }
}
