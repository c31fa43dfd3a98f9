//! The only way in which lines are written: directly by their producer, as long as the sink does
//! not block, else by the task that owns the sink.
//!
//! The owner lends the sink to its [`Outlet`] while it has nothing to do with it. Then a producer's
//! line needs no wake-up of another task. What the sink does not take at once waits, and the owner is
//! woken to write it; until it has lent the sink again, new lines wait behind.

mod batch;
mod chunks;

pub use batch::{Batch, Flush};
pub use chunks::{ChunkQueue, TryWrite};

use crate::utils::lock::lock;
use crate::utils::signal::Signal;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard};

/// From this many gathered bytes on, they are written before more is gathered, so that their reader
/// can start early. Fewer would cost more system calls than that is worth.
pub const EARLY: usize = 4096;

/// What waits for a sink.
pub trait Queue<S> {
    /// True when the owner has nothing to write, and may lend the sink.
    fn is_idle(&self) -> bool;

    /// Writes to the sink what it takes at once, of `gathered` bytes that have been queued since the
    /// sink was idle. False where the owner has to go on.
    ///
    /// # Errors
    /// What the sink says; the owner gets it from [`Lease::end`].
    fn try_write(&mut self, sink: &mut S, gathered: usize) -> io::Result<bool>;
}

/// A queue before a sink, which producers write to themselves while its owner lends it.
pub struct Outlet<S, Q> {
    state: Mutex<State<S, Q>>,
    /// There is something to do for the owner.
    owner: Signal,
}

struct State<S, Q> {
    queue: Q,
    place: Place<S>,
}

/// Where the sink is.
#[derive(Default)]
enum Place<S> {
    /// With its owner, or there is none.
    #[default]
    Owned,
    /// Here; so many bytes have been queued and not yet written.
    Lent { sink: S, gathered: usize },
    /// Here, but the owner has been woken to take it back and go on.
    Recalled { sink: S, outcome: io::Result<()> },
}

impl<S, Q: Queue<S>> Outlet<S, Q> {
    /// An outlet with this queue, and no sink yet.
    pub fn new(queue: Q) -> Self {
        Self {
            state: Mutex::new(State {
                queue,
                place: Place::Owned,
            }),
            owner: Signal::new(),
        }
    }

    /// The queue. After something has been added to it, call [`Locked::added`].
    pub fn lock(&self) -> Locked<'_, S, Q> {
        Locked {
            state: lock(&self.state),
            owner: &self.owner,
        }
    }

    /// Wakes the owner.
    pub fn wake(&self) {
        self.owner.raise();
    }

    /// For the owner: waits until there is something to do. Cancel safe.
    pub async fn woken(&self) {
        self.owner.wait().await;
    }

    /// For the owner: lends the sink to producers until the lease ends. `None` where the queue says
    /// that the owner still has to write.
    pub fn lend<'a>(&'a self, sink: &'a mut Lendable<S>) -> Option<Lease<'a, S, Q>> {
        let state = &mut *self.lock().state;
        if !state.queue.is_idle() || !matches!(state.place, Place::Owned) {
            return None;
        }
        state.place = Place::Lent {
            sink: sink.0.take()?,
            gathered: 0,
        };
        Some(Lease { outlet: self, sink })
    }
}

impl<S, Q> std::fmt::Debug for Outlet<S, Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

impl<S, Q: Queue<S>> Flush for Outlet<S, Q> {
    fn flush(&self) {
        self.lock().flush();
    }
}

/// A locked [`Outlet`], through which its queue is seen.
pub struct Locked<'a, S, Q> {
    state: MutexGuard<'a, State<S, Q>>,
    owner: &'a Signal,
}

impl<S, Q: Queue<S>> Locked<'_, S, Q> {
    /// Notes that `bytes` have been added to the queue: they are written with the next
    /// [`Locked::flush`], or earlier. True for the first ones since the last flush.
    pub fn added(&mut self, bytes: usize) -> bool {
        let Place::Lent { gathered, .. } = &mut self.state.place else {
            self.owner.raise();
            return false;
        };
        let first = *gathered == 0;
        *gathered += bytes;
        if *gathered >= EARLY {
            self.flush();
            return false;
        }
        first
    }

    /// Writes what has been added, as far as the sink takes it at once; the rest is for the owner.
    pub fn flush(&mut self) {
        let State { queue, place } = &mut *self.state;
        let Place::Lent { sink, gathered } = place else {
            return;
        };
        if *gathered == 0 {
            return;
        }
        match queue.try_write(sink, *gathered) {
            Ok(true) => *gathered = 0,
            Ok(false) => self.stop(Ok(())),
            Err(err) => self.stop(Err(err)),
        }
    }

    /// Wakes the owner, which alone writes until it has lent the sink again.
    pub fn recall(&mut self) {
        self.stop(Ok(()));
    }

    fn stop(&mut self, outcome: io::Result<()>) {
        self.state.place = match std::mem::take(&mut self.state.place) {
            Place::Lent { sink, .. } => Place::Recalled { sink, outcome },
            other => other,
        };
        self.owner.raise();
    }

    /// The sink, while producers may write to it.
    #[must_use]
    pub fn lent(&self) -> Option<&S> {
        match &self.state.place {
            Place::Lent { sink, .. } => Some(sink),
            Place::Owned | Place::Recalled { .. } => None,
        }
    }

    /// True while the owner still has to take back a sink that may hold the rest of a write.
    #[must_use]
    pub fn is_recalled(&self) -> bool {
        matches!(self.state.place, Place::Recalled { .. })
    }
}

impl<S, Q> Deref for Locked<'_, S, Q> {
    type Target = Q;

    fn deref(&self) -> &Q {
        &self.state.queue
    }
}

impl<S, Q> DerefMut for Locked<'_, S, Q> {
    fn deref_mut(&mut self) -> &mut Q {
        &mut self.state.queue
    }
}

/// A sink that its owner can lend. While it is lent, the lease borrows this.
pub struct Lendable<S>(Option<S>);

impl<S> Lendable<S> {
    /// A sink that is not lent.
    pub fn new(sink: S) -> Self {
        Self(Some(sink))
    }

    /// The sink.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.0.expect(RETURNED)
    }
}

const RETURNED: &str = "a lease returns the sink when it ends, and borrows this until then";

impl<S> Deref for Lendable<S> {
    type Target = S;

    fn deref(&self) -> &S {
        self.0.as_ref().expect(RETURNED)
    }
}

impl<S> DerefMut for Lendable<S> {
    fn deref_mut(&mut self) -> &mut S {
        self.0.as_mut().expect(RETURNED)
    }
}

/// As long as this lives, producers may write to the sink. The owner has it back afterwards.
pub struct Lease<'a, S, Q: Queue<S>> {
    outlet: &'a Outlet<S, Q>,
    sink: &'a mut Lendable<S>,
}

impl<S, Q: Queue<S>> Lease<'_, S, Q> {
    /// Takes the sink back. True where producers were stopped before everything was written, so that
    /// the sink itself may hold bytes to be flushed.
    ///
    /// # Errors
    /// What the sink said to a producer.
    pub fn end(mut self) -> io::Result<bool> {
        self.take_back()
    }

    fn take_back(&mut self) -> io::Result<bool> {
        match std::mem::take(&mut self.outlet.lock().state.place) {
            Place::Owned => Ok(false),
            Place::Lent { sink, .. } => {
                self.sink.0 = Some(sink);
                Ok(false)
            }
            Place::Recalled { sink, outcome } => {
                self.sink.0 = Some(sink);
                outcome.map(|()| true)
            }
        }
    }
}

impl<S, Q: Queue<S>> Drop for Lease<'_, S, Q> {
    fn drop(&mut self) {
        // An owner that stops here ignores the sink's error.
        let _outcome = self.take_back();
    }
}

#[cfg(test)]
mod tests;
