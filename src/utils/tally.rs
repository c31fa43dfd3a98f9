//! A count that many add to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The sum of its [`Share`]s. Clones are the same count.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<AtomicUsize>);

/// What one contributes to a [`Tally`], until it is dropped.
#[derive(Debug, Default)]
pub struct Share {
    all: Tally,
    own: usize,
}

impl Tally {
    /// A share of nothing so far.
    #[must_use]
    pub fn share(&self) -> Share {
        Share {
            all: self.clone(),
            own: 0,
        }
    }

    /// The sum of all shares.
    #[must_use]
    pub fn sum(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Sets how much this one contributes.
    pub fn set(&mut self, own: usize) {
        // Wraps where it has become less, and the sum is right again.
        let change = own.wrapping_sub(self.own);
        self.all.0.fetch_add(change, Ordering::Relaxed);
        self.own = own;
    }

    /// The sum of all shares.
    #[must_use]
    pub fn sum(&self) -> usize {
        self.all.sum()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        let tally = Tally::default();
        let (mut a, mut b) = (tally.share(), tally.share());
        a.set(3);
        b.set(5);
        a.set(1);
        assert_eq!((tally.sum(), a.sum()), (6, 6));
        drop(b);
        assert_eq!(tally.sum(), 1);
        assert_eq!(Share::default().sum(), 0);
    }
}
