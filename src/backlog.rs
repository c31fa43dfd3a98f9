//! Bounds the memory kept for all clients together, and for each user: lines that wait to be sent or
//! acknowledged, lines read in part, requests in flight, and what waits for an isolated process.
//!
//! [`Budget`] is the table, without I/O. When a bound is exceeded, the holder with the most bytes is
//! evicted, which its own task carries out.

use crate::account::Account;
use crate::utils::{lock::lock, spare};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use tokio::sync::Notify;

/// Changes smaller than this many bytes are not counted, so that short lines cost no locking.
const STEP: usize = 4 * 1024;

/// The most bytes that may be kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For all clients together.
    pub total: usize,
    /// For each user, or each address where there is no user; `None` where users are not told apart.
    pub per_user: Option<usize>,
}

/// Why a holder is evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// How many bytes it held.
    pub held: usize,
    /// The bound that was exceeded, in bytes.
    pub bound: usize,
}

/// Counts the memory kept for all clients. Clones are the same count.
#[derive(Clone, Debug)]
pub struct Backlog(Arc<Mutex<Budget<Arc<Eviction>>>>);

/// A session or connection that memory is kept for. The default one is not counted.
#[derive(Clone, Debug, Default)]
pub struct Holder(Option<Arc<Entry>>);

/// One part of what a [`Holder`] holds. Dropping it sets it to zero.
#[derive(Debug, Default)]
pub struct Part {
    holder: Holder,
    counted: usize,
}

/// A part that is the sum of many [`Piece`]s. Clones are the same sum; the default one is not counted.
#[derive(Clone, Debug, Default)]
pub struct Sum(Option<Arc<Summed>>);

#[derive(Debug)]
struct Summed {
    bytes: AtomicUsize,
    /// How many of them the part counts: looked at without its lock.
    counted: AtomicUsize,
    part: Mutex<Part>,
}

/// What one request, say, adds to a [`Sum`], until it is dropped.
#[derive(Debug, Default)]
pub struct Piece {
    sum: Sum,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    backlog: Backlog,
    eviction: Arc<Eviction>,
}

/// Tells a holder's task that it is evicted.
#[derive(Debug, Default)]
struct Eviction {
    excess: OnceLock<Excess>,
    changed: Notify,
}

impl Eviction {
    fn begin(&self, excess: Excess) {
        // A holder leaves the table when it is evicted, so this is the only time.
        let _first = self.excess.set(excess);
        self.changed.notify_waiters();
    }
}

impl Backlog {
    /// Nothing is kept yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Mutex::new(Budget::new(bounds))))
    }

    fn lock(&self) -> MutexGuard<'_, Budget<Arc<Eviction>>> {
        lock(&self.0)
    }

    /// How much there is, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        lock(&self.0).total
    }

    /// A new holder, which holds nothing yet.
    #[must_use]
    pub fn holder(&self, account: Account) -> Holder {
        let eviction = Arc::<Eviction>::default();
        let number = self.lock().enter(account, Arc::clone(&eviction));
        Holder(Some(Arc::new(Entry {
            number,
            backlog: self.clone(),
            eviction,
        })))
    }
}

impl Holder {
    /// A new part of what it holds, of zero bytes.
    #[must_use]
    pub fn part(&self) -> Part {
        Part {
            holder: self.clone(),
            counted: 0,
        }
    }

    /// A new part of what it holds, of no pieces.
    #[must_use]
    pub fn sum(&self) -> Sum {
        Sum(self.0.as_ref().map(|_| {
            Arc::new(Summed {
                bytes: AtomicUsize::new(0),
                counted: AtomicUsize::new(0),
                part: Mutex::new(self.part()),
            })
        }))
    }

    /// Completes when it must release everything it holds. Cancel safe.
    pub async fn evicted(&self) -> Excess {
        let Some(entry) = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            // Registered before the check, so that no eviction is missed.
            let changed = entry.eviction.changed.notified();
            if let Some(excess) = entry.eviction.excess.get() {
                return *excess;
            }
            changed.await;
        }
    }
}

impl Part {
    /// Sets the size of this part, in bytes.
    pub fn set(&mut self, bytes: usize) {
        if bytes.abs_diff(self.counted) >= STEP {
            self.count(bytes);
        }
    }

    fn count(&mut self, bytes: usize) {
        let Some(entry) = &self.holder.0 else {
            return;
        };
        let mut budget = entry.backlog.lock();
        let evicted = budget.change(entry.number, self.counted, bytes);
        let fallen = budget.fallen();
        drop(budget);
        spare::used(fallen);
        self.counted = bytes;
        for (eviction, excess) in evicted {
            eviction.begin(excess);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.counted > 0 {
            self.count(0);
        }
    }
}

impl Sum {
    /// Adds a piece.
    #[must_use]
    pub fn piece(&self, bytes: usize) -> Piece {
        if let Some(summed) = &self.0 {
            summed.count(summed.bytes.fetch_add(bytes, Relaxed) + bytes);
        }
        Piece {
            sum: self.clone(),
            bytes,
        }
    }
}

impl Summed {
    fn count(&self, bytes: usize) {
        if bytes.abs_diff(self.counted.load(Relaxed)) >= STEP {
            self.update();
        }
    }

    #[cold]
    fn update(&self) {
        let mut part = lock(&self.part);
        // Another thread may have changed it since.
        part.set(self.bytes.load(Relaxed));
        self.counted.store(part.counted, Relaxed);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(summed) = &self.sum.0 {
            summed.count(summed.bytes.fetch_sub(self.bytes, Relaxed) - self.bytes);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut budget = self.backlog.lock();
        budget.leave(self.number);
        spare::used(budget.fallen());
    }
}

/// How many bytes each holder holds. `T` reaches a holder that is evicted.
#[derive(Debug)]
struct Budget<T> {
    bounds: Bounds,
    /// By age.
    holders: BTreeMap<u64, Held<T>>,
    by_account: HashMap<Arc<Account>, usize>,
    total: usize,
    /// The peak of `total` since [`Budget::fallen`] last returned more than 0.
    peak: usize,
    next: u64,
}

#[derive(Debug)]
struct Held<T> {
    account: Arc<Account>,
    bytes: usize,
    handle: T,
}

impl<T> Budget<T> {
    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            holders: BTreeMap::new(),
            by_account: HashMap::new(),
            total: 0,
            peak: 0,
            next: 0,
        }
    }

    /// By how many bytes the total is below its peak, once it is as much as a large message: many short
    /// lines leave as much behind in the allocator as a long one does. Else 0.
    fn fallen(&mut self) -> usize {
        self.peak = self.peak.max(self.total);
        let fallen = self.peak - self.total;
        if fallen < spare::LARGE {
            return 0;
        }
        self.peak = self.total;
        fallen
    }

    fn enter(&mut self, account: Account, handle: T) -> u64 {
        self.next += 1;
        let held = Held {
            account: Arc::new(account),
            bytes: 0,
            handle,
        };
        self.holders.insert(self.next, held);
        self.next
    }

    /// Changes a part of this holder from `before` to `after` bytes. Gives the holders to evict.
    fn change(&mut self, number: u64, before: usize, after: usize) -> Vec<(T, Excess)> {
        // An evicted holder has left the table: what it still holds is about to be released.
        let Some(held) = self.holders.get_mut(&number) else {
            return Vec::new();
        };
        held.bytes = held.bytes - before + after;
        let account = Arc::clone(&held.account);
        self.total = self.total - before + after;
        let own = self.by_account.entry(Arc::clone(&account)).or_default();
        *own = *own - before + after;
        if *own == 0 {
            self.by_account.remove(&account);
        }
        let mut evicted = Vec::new();
        if after > before {
            if let Some(share) = self.bounds.per_user {
                while self
                    .by_account
                    .get(&account)
                    .is_some_and(|own| *own > share)
                {
                    evicted.extend(self.evict(share, |held| held.account == account));
                }
            }
            while self.total > self.bounds.total {
                evicted.extend(self.evict(self.bounds.total, |_| true));
            }
        }
        evicted
    }

    /// Removes the largest of these holders, the youngest among equals.
    fn evict(&mut self, bound: usize, among: impl Fn(&Held<T>) -> bool) -> Option<(T, Excess)> {
        let holders = self.holders.iter().filter(|(_, held)| among(held));
        let (number, _) = holders.max_by_key(|(_, held)| held.bytes)?;
        let held = self.leave(*number)?;
        let excess = Excess {
            held: held.bytes,
            bound,
        };
        Some((held.handle, excess))
    }

    fn leave(&mut self, number: u64) -> Option<Held<T>> {
        let held = self.holders.remove(&number)?;
        self.total -= held.bytes;
        if let Some(own) = self.by_account.get_mut(&held.account) {
            *own -= held.bytes;
            if *own == 0 {
                self.by_account.remove(&held.account);
            }
        }
        Some(held)
    }
}

#[cfg(test)]
mod tests;
