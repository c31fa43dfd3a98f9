//! Keys that come from a URL: when to fetch them, and which peers wait for that.

use crate::auth::{Ended, Refetch, Step};
use crate::utils::lock::lock;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How long a peer waits for a key; hosts are impatient.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Connects the peers that show tokens with the task that fetches keys.
#[derive(Debug)]
pub struct KeyRefresh {
    refetch: Mutex<Refetch>,
    since: Instant,
    wake: Notify,
    /// The number of the last fetch that has ended.
    ended: watch::Sender<u64>,
}

impl KeyRefresh {
    /// For a set that has just been fetched, whose keys are valid for `max_age` after each successful fetch.
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

    /// Requests a fetch for a key that is not in the set, and waits for it, within bounds. If the last fetch
    /// is too recent, it does not wait, and the set is fetched later. Cancel safe.
    pub(super) async fn unknown_key(&self) {
        let number = self.refetch().unknown_key(self.since.elapsed());
        self.wake.notify_one();
        if let Some(number) = number {
            let mut ended = self.ended.subscribe();
            let ended = ended.wait_for(|ended| *ended >= number);
            let _late = tokio::time::timeout(MAX_WAIT, ended).await;
        }
    }

    /// Requests a fetch now.
    pub fn demand(&self) {
        self.refetch().demand();
        self.wake.notify_one();
    }

    /// Waits for the next step. [`Step::Fetch`] is followed by [`KeyRefresh::ended`]. Cancel safe.
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

    /// Notes that a fetch has ended, after its keys have been applied.
    pub fn ended(&self, is_good: bool) -> Ended {
        let mut refetch = self.refetch();
        self.ended.send_replace(refetch.number());
        refetch.ended(self.since.elapsed(), is_good)
    }
}
