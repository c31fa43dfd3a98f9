//! The sessions that outlive their connections, by the key that the client knows.

use super::link::Link;
use super::owner::Owner;
use super::refusals::FOREIGN_SESSION;
use crate::control::SessionKey;
use crate::hub::Watch;
use crate::utils::lock::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// How often to check whether any client is still awaited, while the server stops. Not an event: it matters
/// once in the life of a server, and every session would have to signal it.
const CHECK: Duration = Duration::from_millis(20);

/// A new connection for a session, and how many lines its client has received.
pub(super) struct Handover {
    pub link: Box<Link>,
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
    /// It has no connection.
    waits: bool,
    next: Arc<Next>,
}

/// The latest connection for a session; its client has abandoned earlier ones.
#[derive(Debug, Default)]
struct Next {
    handover: Mutex<Option<Handover>>,
    come: Notify,
}

/// A session's place in the registry; dropping this leaves it.
#[derive(Debug)]
pub(super) struct Registration {
    pub key: SessionKey,
    registry: Arc<Registry>,
    next: Arc<Next>,
}

impl Registry {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            slots: Mutex::default(),
            limit,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Slot>> {
        lock(&self.slots)
    }

    /// Takes a place for a new session of `owner`, if there is one.
    pub(super) fn register(self: &Arc<Self>, owner: &Owner, watch: Watch) -> Option<Registration> {
        let mut slots = self.lock();
        if slots.len() >= self.limit {
            return None;
        }
        let key = SessionKey::generate();
        let next = Arc::<Next>::default();
        slots.insert(
            key.clone(),
            Slot {
                owner: owner.clone(),
                watch,
                waits: false,
                next: Arc::clone(&next),
            },
        );
        Some(Registration {
            key,
            registry: Arc::clone(self),
            next,
        })
    }

    /// Hands a connection to the session `key`; returns it if there is no such session, if the
    /// session belongs to another user, which is recorded, or if it has a later connection.
    pub(super) fn hand_over(
        &self,
        key: &SessionKey,
        mut link: Box<Link>,
        received: u64,
    ) -> Result<(), Box<Link>> {
        // The lock is held to the end, so that a session that ends meanwhile takes the connection
        // with it.
        let slots = self.lock();
        let Some(slot) = slots.get(key) else {
            return Err(link);
        };
        if slot.owner != link.owner {
            tracing::warn!(
                session = key.short(),
                "refused to resume: {FOREIGN_SESSION}"
            );
            link.trail.refused(&FOREIGN_SESSION);
            return Err(link);
        }
        if slot.watch.is_stale(received) {
            return Err(link);
        }
        // In case the session ends before it has taken the connection.
        link.trail.ends("its session has ended");
        *slot.next.lock() = Some(Handover { link, received });
        slot.next.come.notify_one();
        Ok(())
    }

    /// True if `owner` has a session that can be resumed.
    pub(super) fn knows(&self, owner: &Owner) -> bool {
        self.lock().values().any(|slot| slot.owner == *owner)
    }

    /// Completes when no session with pending answers waits for its client.
    pub(super) async fn nobody_awaited(&self) {
        let awaited = |slot: &Slot| slot.waits && !slot.watch.is_settled();
        while self.lock().values().any(awaited) {
            tokio::time::sleep(CHECK).await;
        }
    }
}

impl Next {
    fn lock(&self) -> MutexGuard<'_, Option<Handover>> {
        lock(&self.handover)
    }
}

impl Registration {
    /// Waits for the next connection of this session. Cancel safe.
    pub(super) async fn handover(&self) -> Handover {
        loop {
            if let Some(handover) = self.next.lock().take() {
                return handover;
            }
            self.next.come.notified().await;
        }
    }

    /// Notes whether the session has a connection.
    pub(super) fn set_waiting(&self, waits: bool) {
        if let Some(slot) = self.registry.lock().get_mut(&self.key) {
            slot.waits = waits;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.key);
    }
}

impl std::fmt::Debug for Handover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handover")
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::access::{Access, Authorization};
    use super::super::environment::Environment;
    use super::*;
    use crate::account::Address;
    use crate::audit::{Log, Trail};
    use crate::auth::Identity;
    use crate::backlog;
    use crate::child::CommandLine;
    use crate::hub::{Deadlines, Hub, Limits};
    use crate::permissions::Rights;
    use crate::router::{Counted, LineLimits, Profile};
    use crate::transport::Connection;
    use crate::transport::outlet::Lendable;
    use tokio::io::{AsyncReadExt, DuplexStream};

    /// A connection, and its far end.
    fn link(user: &str) -> (Box<Link>, DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        let (reader, writer) = Connection::over_stream(Box::new(near), 1024).split(1024);
        let access = Access {
            tls: None,
            requirements: None,
            key_refresh: None,
            policy: None,
            pins: None,
        };
        let identity = Identity {
            user: Some(user.to_owned()),
            ..Identity::default()
        };
        let rights = Rights::everything();
        let owner = Owner::new(&identity, &rights, None, &Environment::default());
        let (_, access) = tokio::sync::watch::channel(Arc::new(access));
        let address = Address::Unix;
        let link = Box::new(Link {
            reader,
            writer: Lendable::new(writer),
            authorization: Authorization::new(access, identity),
            address,
            transport: crate::metrics::Transport::Unix,
            trail: Trail::new(&Log::default(), 1, address),
            place: None,
            owner,
            holder: backlog::Holder::default(),
        });
        (link, far)
    }

    fn registry(limit: usize) -> (Arc<Registry>, crate::hub::Session) {
        let command = CommandLine {
            program: "true".into(),
            arguments: Vec::new(),
            variables: Vec::new(),
        };
        let limits = Limits {
            child_message: 1024,
            lines: LineLimits::default(),
            outbox: 1024,
            deadlines: Deadlines {
                handshake: Duration::from_secs(60),
                start: Duration::from_secs(60),
                question: Duration::from_secs(60),
            },
            restarts: 0,
            in_flight: 1,
        };
        let (hub, _) = Hub::isolated(command, limits);
        (
            Arc::new(Registry::new(limit)),
            hub.attach(Profile::anybody(), &Counted::default()),
        )
    }

    async fn is_closed(far: &mut DuplexStream) -> bool {
        let read = tokio::time::timeout(Duration::from_secs(1), far.read(&mut [0])).await;
        matches!(read, Ok(Ok(0)))
    }

    /// Bug: a client that came back twice in a row, before its session noticed, was told
    /// that the session does not exist.
    #[tokio::test]
    async fn the_latest_connection_is_the_one() {
        let (registry, session) = registry(1);
        let (first, mut first_far) = link("alice");
        let (second, mut second_far) = link("alice");
        let registration = registry.register(&first.owner, session.watch()).unwrap();
        let key = registration.key.clone();
        assert!(registry.hand_over(&key, first, 0).is_ok());
        assert!(registry.hand_over(&key, second, 0).is_ok());
        assert!(is_closed(&mut first_far).await);
        let handover = registration.handover().await;
        assert!(!is_closed(&mut second_far).await);
        drop(handover);
        assert!(is_closed(&mut second_far).await);
    }

    #[tokio::test]
    async fn places_are_bounded_and_belong_to_somebody() {
        let (registry, session) = registry(1);
        let (alice, _far) = link("alice");
        let (bob, mut bob_far) = link("bob");
        let owner = alice.owner.clone();
        let registration = registry.register(&owner, session.watch()).unwrap();
        assert!(registry.register(&owner, session.watch()).is_none());
        assert!(registry.knows(&owner) && !registry.knows(&bob.owner));
        let key = registration.key.clone();
        let bob = registry.hand_over(&key, bob, 0).unwrap_err();
        assert!(registry.hand_over(&SessionKey::generate(), bob, 0).is_err());
        assert!(is_closed(&mut bob_far).await);
        // A session that ends closes a connection that was on its way to it.
        let (again, mut again_far) = link("alice");
        assert!(registry.hand_over(&key, again, 0).is_ok());
        drop(registration);
        assert!(is_closed(&mut again_far).await);
        assert!(!registry.knows(&owner));
        assert!(registry.hand_over(&key, alice, 0).is_err());
    }
}
