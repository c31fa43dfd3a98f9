//! Keys that come from a URL: who waits for a fetch, and when the next one is.

use crate::auth::{Ended, Refetch, Step};
use crate::utils::lock::lock;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How long a peer waits for a key; it gets no answer meanwhile, and hosts are impatient.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Between those who show tokens and the one who fetches keys.
#[derive(Debug)]
pub struct KeyRefresh {
    refetch: Mutex<Refetch>,
    since: Instant,
    wake: Notify,
    /// The number of the last fetch that has ended.
    ended: watch::Sender<u64>,
}

impl KeyRefresh {
    /// For a set that has just been fetched, with keys that count for `max_age` after each good fetch.
    #[must_use]
    pub fn new(max_age: Duration) -> Self {
        let refetch = Refetch::new(max_age);
        Self {
            ended: watch::Sender::new(refetch.number()),
            refetch: Mutex::new(refetch),
            since: Instant::now(),
            wake: Notify::new(),
        }
    }

    fn refetch(&self) -> MutexGuard<'_, Refetch> {
        lock(&self.refetch)
    }

    /// Has the set fetched for a key that is not in it, and waits for that, within bounds. Where the last
    /// fetch is too recent it does not wait, and the set is fetched later. Cancel safe.
    pub(super) async fn unknown_key(&self) {
        let number = self.refetch().unknown_key(self.since.elapsed());
        self.wake.notify_one();
        if let Some(number) = number {
            let mut ended = self.ended.subscribe();
            let ended = ended.wait_for(|ended| *ended >= number);
            let _late = tokio::time::timeout(MAX_WAIT, ended).await;
        }
    }

    /// Has the set fetched at once.
    pub fn demand(&self) {
        self.refetch().demand();
        self.wake.notify_one();
    }

    /// Waits for what is to be done next. [`Step::Fetch`] is followed by [`KeyRefresh::ended`]. Cancel safe.
    pub async fn next(&self) -> Step {
        loop {
            let due = {
                let mut refetch = self.refetch();
                if let Some(step) = refetch.step(self.since.elapsed()) {
                    return step;
                }
                refetch.due()
            };
            tokio::select! {
                () = tokio::time::sleep_until(self.since + due) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// The fetch has ended, and what it has brought counts by now.
    pub fn ended(&self, is_good: bool) -> Ended {
        let mut refetch = self.refetch();
        self.ended.send_replace(refetch.number());
        refetch.ended(self.since.elapsed(), is_good)
    }
}
