//! Processes that the sessions of one user share.

use crate::hub::Hub;
use crate::utils::lock::lock;
use crate::utils::secret::Secret;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a process stays after the last session of its user has left.
const LINGER: Duration = Duration::from_secs(60);

/// The processes of all users, bounded by the places for isolated processes.
#[derive(Debug, Default)]
pub(super) struct Users {
    entries: Mutex<Vec<Entry>>,
    /// The tasks that run them.
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Entry {
    user: String,
    /// Its environment, which names the user.
    variables: Vec<(String, Secret)>,
    hub: Hub,
    sessions: watch::Sender<usize>,
}

/// A session's handle on the process that it shares.
#[derive(Debug)]
pub(super) struct Seat(watch::Sender<usize>);

impl Seat {
    fn take(sessions: &watch::Sender<usize>) -> Self {
        sessions.send_modify(|count| *count += 1);
        Self(sessions.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Keeps a process among those that sessions can join, until it is dropped.
#[derive(Debug)]
pub(super) struct Listing {
    users: Arc<Users>,
    sessions: watch::Sender<usize>,
}

impl Users {
    /// Runs a process that may outlive the session that started it.
    pub(super) fn spawn(&self, run: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(run);
    }

    /// Completes when all have ended.
    pub(super) async fn ended(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        while tasks.join_next().await.is_some() {}
    }

    /// The running process of this user with the same environment.
    pub(super) fn join(&self, user: &str, variables: &[(String, Secret)]) -> Option<(Hub, Seat)> {
        let entries = lock(&self.entries);
        let is_same = |(one, other): (&(String, Secret), &(String, Secret))| {
            one.0 == other.0 && one.1.expose() == other.1.expose()
        };
        let entry = entries.iter().find(|entry| {
            entry.user == user
                && entry.variables.len() == variables.len()
                && entry.variables.iter().zip(variables).all(is_same)
        })?;
        Some((entry.hub.clone(), Seat::take(&entry.sessions)))
    }

    /// Adds a process that has been started for a user.
    pub(super) fn list(
        self: &Arc<Self>,
        user: &str,
        variables: Vec<(String, Secret)>,
        hub: &Hub,
    ) -> (Listing, Seat) {
        let sessions = watch::Sender::new(0);
        let seat = Seat::take(&sessions);
        lock(&self.entries).push(Entry {
            user: user.to_owned(),
            variables,
            hub: hub.clone(),
            sessions: sessions.clone(),
        });
        let users = Arc::clone(self);
        (Listing { users, sessions }, seat)
    }
}

impl Listing {
    /// The table that it is in.
    pub(super) fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users)
    }

    /// Completes when no session has used the process for a while. None can join it afterwards.
    pub(super) async fn unneeded(&self) {
        let mut sessions = self.sessions.subscribe();
        loop {
            // This cannot fail: we hold the other end.
            drop(sessions.wait_for(|count| *count == 0).await);
            let back = sessions.wait_for(|count| *count > 0);
            if tokio::time::timeout(LINGER, back).await.is_err() && self.leave_if_empty() {
                return;
            }
        }
    }

    fn leave_if_empty(&self) -> bool {
        let mut entries = lock(&self.users.entries);
        let is_empty = *self.sessions.borrow() == 0;
        if is_empty {
            entries.retain(|entry| !entry.sessions.same_channel(&self.sessions));
        }
        is_empty
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        let mut entries = lock(&self.users.entries);
        entries.retain(|entry| !entry.sessions.same_channel(&self.sessions));
    }
}
