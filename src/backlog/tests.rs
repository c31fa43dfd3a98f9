use super::*;
use futures_util::FutureExt;
use proptest::prelude::*;

fn user(name: u8) -> Account {
    Account::User(name.to_string())
}

/// The bytes counted, and the holders.
fn kept(backlog: &Backlog) -> (usize, usize) {
    let budget = backlog.lock();
    (budget.total, budget.holders.len())
}

/// The evicted holders, by handle.
fn change(budget: &mut Budget<u8>, number: u64, before: usize, after: usize) -> Vec<u8> {
    let evicted = budget.change(number, before, after);
    evicted.into_iter().map(|(handle, _)| handle).collect()
}

#[test]
fn largest_holder_is_evicted() {
    let mut budget = Budget::new(Bounds {
        total: 100,
        per_user: Some(60),
    });
    let a: Vec<u64> = (0..3).map(|at| budget.enter(user(1), at)).collect();
    let b = budget.enter(user(2), 10);
    let c = budget.enter(user(3), 20);
    const NOBODY: [u8; 0] = [];
    assert_eq!(change(&mut budget, a[0], 0, 20), NOBODY);
    assert_eq!(change(&mut budget, a[1], 0, 30), NOBODY);
    assert_eq!(change(&mut budget, b, 0, 40), NOBODY);
    // The user exceeds its share, so one of its own holders is evicted, though another's is larger.
    let excess = Excess {
        held: 30,
        bound: 60,
    };
    assert_eq!(budget.change(a[2], 0, 11), [(1, excess)]);
    // The total is exceeded: the largest holder is evicted, not the one that has grown.
    let excess = Excess {
        held: 40,
        bound: 100,
    };
    assert_eq!(budget.change(c, 0, 30), [(10, excess)]);
    assert_eq!(change(&mut budget, c, 30, 35), NOBODY);
    // An evicted holder is no longer counted.
    assert_eq!(change(&mut budget, b, 40, 50), NOBODY);
    assert_eq!(budget.total, 20 + 11 + 35);
    assert!(budget.leave(b).is_none());
    // A decrease never evicts; among equals the youngest is evicted.
    budget.bounds.total = 10;
    assert_eq!(change(&mut budget, c, 35, 20), NOBODY);
    assert_eq!(change(&mut budget, a[2], 11, 12), [20, 0, 2]);
    assert_eq!(budget.total, 0);
}

#[test]
fn what_falls_in_small_steps_is_noticed() {
    let mut budget = Budget::new(Bounds {
        total: usize::MAX,
        per_user: None,
    });
    let holder = budget.enter(user(1), 0);
    let step = spare::LARGE / 4;
    let mut held = 0;
    let mut set = |now| {
        budget.change(holder, std::mem::replace(&mut held, now), now);
        budget.fallen()
    };
    assert_eq!([9, 8, 7, 6].map(|steps| set(steps * step)), [0; 4]);
    assert_eq!(set(5 * step), spare::LARGE);
    assert_eq!([4, 3, 2].map(|steps| set(steps * step)), [0; 3]);
    assert_eq!(
        [3, 2, 1].map(|steps| set(steps * step)),
        [0, 0, spare::LARGE]
    );
    budget.leave(holder);
    assert_eq!(budget.fallen(), 0);
}

#[test]
fn holder_learns_of_its_eviction() {
    let backlog = Backlog::new(Bounds {
        total: 10 * STEP,
        per_user: None,
    });
    let (a, b) = (backlog.holder(user(1)), backlog.holder(user(2)));
    let (mut first, mut second, mut other) = (a.part(), a.part(), b.part());
    first.set(4 * STEP);
    first.set(4 * STEP + 1);
    second.set(3 * STEP);
    other.set(3 * STEP);
    assert_eq!(kept(&backlog), (10 * STEP, 2));
    assert_eq!(a.evicted().now_or_never(), None);
    other.set(4 * STEP);
    let excess = Excess {
        held: 7 * STEP,
        bound: 10 * STEP,
    };
    assert_eq!(a.evicted().now_or_never(), Some(excess));
    assert_eq!(b.evicted().now_or_never(), None);
    assert_eq!(kept(&backlog), (4 * STEP, 1));
    first.set(0);
    drop((first, second, a));
    assert_eq!(kept(&backlog), (4 * STEP, 1));
    drop((other, b));
    assert_eq!(kept(&backlog), (0, 0));
    let mut uncounted = Part::default();
    uncounted.set(usize::MAX);
    assert_eq!(Holder::default().evicted().now_or_never(), None);
}

#[test]
fn pieces_add_up() {
    let backlog = Backlog::new(Bounds {
        total: 10 * STEP,
        per_user: None,
    });
    let holder = backlog.holder(user(1));
    let sum = holder.sum();
    let mut pieces: Vec<Piece> = (0..2 * STEP).map(|_| sum.piece(3)).collect();
    assert!((5 * STEP..7 * STEP).contains(&kept(&backlog).0));
    pieces.truncate(STEP);
    assert!((2 * STEP..4 * STEP).contains(&kept(&backlog).0));
    drop(sum);
    assert_eq!(holder.evicted().now_or_never(), None);
    pieces.push(pieces[0].sum.piece(8 * STEP));
    assert!(holder.evicted().now_or_never().is_some());
    drop((pieces, holder));
    assert_eq!(kept(&backlog), (0, 0));
    drop(Sum::default().piece(usize::MAX));
}

proptest! {
    /// Both bounds hold after every step, and only the largest of the holders that count
    /// against an exceeded bound is evicted.
    #[test]
    fn bounds_hold_after_every_change(
        steps in prop::collection::vec((any::<prop::sample::Index>(), 0usize..50), 1..200),
        total in 1usize..100,
        per_user in prop::option::of(1usize..60),
    ) {
        let mut budget = Budget::new(Bounds { total, per_user });
        let mut holders: Vec<(u64, Account, usize)> = Vec::new();
        for at in 0..8 {
            let account = user(at % 3);
            holders.push((budget.enter(account.clone(), u64::from(at) + 1), account, 0));
        }
        for (who, after) in steps {
            if holders.is_empty() {
                break;
            }
            let at = who.index(holders.len());
            let (number, account, before) = holders[at].clone();
            holders[at].2 = after;
            for (gone, _) in budget.change(number, before, after) {
                let of_user = |account: &Account| {
                    let own = holders.iter().filter(|(_, of, _)| of == account);
                    own.map(|(.., bytes)| bytes).sum::<usize>()
                };
                let share = per_user.is_some_and(|share| of_user(&account) > share);
                let all: usize = holders.iter().map(|(.., bytes)| bytes).sum();
                prop_assert!(share || all > total);
                let among = |of: &Account| !share || *of == account;
                let most = holders.iter().filter(|(_, of, _)| among(of)).map(|(.., bytes)| *bytes).max();
                let at = holders.iter().position(|(number, ..)| *number == gone).unwrap();
                let (_, of, bytes) = holders.remove(at);
                prop_assert!(among(&of) && Some(bytes) == most);
            }
            let all: usize = holders.iter().map(|(.., bytes)| bytes).sum();
            prop_assert_eq!(budget.total, all);
            prop_assert!(all <= total);
            prop_assert_eq!(budget.by_account.values().sum::<usize>(), all);
            let share = per_user.unwrap_or(usize::MAX);
            prop_assert!(budget.by_account.values().all(|own| (1..=share).contains(own)));
        }
    }
}
