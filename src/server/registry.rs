//! The sessions that outlive their connections, by the key that the client knows.

use super::link::Link;
use crate::auth::Identity;
use crate::control::SessionKey;
use crate::hub::Watch;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Whose session it is: the user and the roles of the token, as they stand in it.
type Owner = (Option<String>, Vec<String>);

/// A new connection for a session, and how many lines its client has received.
pub(super) struct Handover {
    pub link: Link,
    pub received: u64,
}

/// All sessions that can be resumed, bounded in number.
#[derive(Debug)]
pub(super) struct Registry {
    slots: Mutex<HashMap<SessionKey, Slot>>,
    limit: usize,
}

#[derive(Debug)]
struct Slot {
    owner: Owner,
    watch: Watch,
    sender: mpsc::Sender<Handover>,
}

/// A session's place in the registry; leaving it is dropping this.
#[derive(Debug)]
pub(super) struct Registration {
    pub key: SessionKey,
    registry: Arc<Registry>,
    handovers: mpsc::Receiver<Handover>,
}

impl Registry {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            slots: Mutex::default(),
            limit,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new session of `identity`, if there is one left.
    pub(super) fn register(
        self: &Arc<Self>,
        identity: &Identity,
        watch: Watch,
    ) -> Option<Registration> {
        let mut slots = self.lock();
        if slots.len() >= self.limit {
            return None;
        }
        let key = SessionKey::generate();
        let (sender, handovers) = mpsc::channel(1);
        slots.insert(
            key.clone(),
            Slot {
                owner: owner(identity),
                watch,
                sender,
            },
        );
        Some(Registration {
            key,
            registry: Arc::clone(self),
            handovers,
        })
    }

    /// Gives a connection to the session `key`; gives it back where there is no such session, or
    /// it is somebody else's, or just getting another connection, or has got a later one.
    pub(super) fn hand_over(
        &self,
        key: &SessionKey,
        mut link: Link,
        received: u64,
    ) -> Result<(), Box<Link>> {
        let sender = match self.lock().get(key) {
            Some(slot)
                if slot.owner == owner(link.standing.identity())
                    && !slot.watch.is_outdated(received) =>
            {
                slot.sender.clone()
            }
            _ => return Err(Box::new(link)),
        };
        // Should the session end before it has taken the connection.
        link.trail.ends("its session has ended");
        let handover = Handover { link, received };
        sender
            .try_send(handover)
            .map_err(|err| Box::new(err.into_inner().link))
    }
}

fn owner(identity: &Identity) -> Owner {
    (identity.user.clone(), identity.roles.clone())
}

impl Registration {
    /// The next connection of this session. Cancel safe.
    pub(super) async fn handover(&mut self) -> Handover {
        match self.handovers.recv().await {
            Some(handover) => handover,
            // The registry holds the other end for as long as this exists.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.key);
    }
}
