//! Says of what happens again and again how often it has, ever more seldom.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that is worth a line at the first, the tenth, the hundredth and so on.
#[derive(Debug, Default)]
pub struct Seldom(AtomicU64);

impl Seldom {
    /// Nothing so far.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one more; gives the count where it is worth a line.
    pub fn count(&self) -> Option<u64> {
        let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        let is_due = 10u64.checked_pow(count.ilog10()) == Some(count);
        is_due.then_some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_rare() {
        let seldom = Seldom::new();
        let said: Vec<u64> = (0..1234).filter_map(|_| seldom.count()).collect();
        assert_eq!(said, [1, 10, 100, 1000]);
    }
}
