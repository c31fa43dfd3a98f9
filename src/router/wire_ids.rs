//! The ids under which a process gets requests. Many users share it, and some servers print to stdout what a user has
//! written: whoever could guess the id of another one's request could write its answer.

use crate::jsonrpc::RequestId;
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

/// A secret order of all ids: that of a request is a permutation of its number (a Feistel network with `SipHash`, which
/// has random keys). An id is used again after 2^30 others.
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

    /// The number of the request with this id, if it is one that has been given out; `newest` is the newest number.
    pub(super) fn number(&self, id: &RequestId, newest: i64) -> Option<i64> {
        let id = id.integer().filter(|id| id & !ID_MASK == FIRST)?;
        let (mut left, mut right) = halves(id & ID_MASK);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.mix(round, left), left);
        }
        let age = (newest - joined(left, right)) & ID_MASK;
        Some(newest - age).filter(|number| *number > 0)
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

    proptest! {
        #[test]
        fn an_id_gives_its_number(newest in 1..i64::MAX / 2, age in 0..=ID_MASK) {
            let ids = WireIds::default();
            let number = newest - age;
            let id = ids.of(number);
            prop_assert!(id.integer().is_some_and(|id| (FIRST..2 * FIRST).contains(&id)));
            prop_assert_eq!(ids.number(&id, newest), Some(number).filter(|number| *number > 0));
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
        let found = tried.filter(|id| one.number(id, 1000).is_some());
        assert!(found.count() < 10);
        for id in [-FIRST, -1, 0, 1, FIRST - 1, 2 * FIRST, i64::MAX] {
            assert_eq!(
                one.number(&RequestId::Number(id), i64::MAX / 2),
                None,
                "{id}"
            );
        }
    }
}
