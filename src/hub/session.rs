//! One peer's place at the hub, and the lines that wait for it there.

use super::{Core, Hub};
use crate::permissions::Permit;
use crate::replay::{Replay, cost};
use crate::router::{Profile, SessionId};
use crate::utils::rope::Line;
use crate::utils::signal::Signal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What a writer takes from an outbox at once, in bytes; one line may be longer.
const BATCH: usize = 256 * 1024;

/// Why a session got no further lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The peer reads too slowly: its queue is full.
    Slow,
    /// The server stops.
    Stopped,
}

/// One peer's place at the hub. Dropping it ends it: its requests are cancelled.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    hub: Hub,
    outbox: Arc<Outbox>,
}

impl Session {
    pub(super) fn new(id: SessionId, hub: Hub, outbox: Arc<Outbox>) -> Self {
        Self { id, hub, outbox }
    }

    /// For logs.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// False while too much waits for the MCP server already.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.hub.0.is_congested(self.id)
    }

    /// Waits while too much waits for the MCP server already. Cancel safe.
    pub async fn room(&self) {
        self.hub.0.room(self.id).await;
    }

    /// Hands a message to the MCP server, which gets it with the next [`Session::flush`].
    pub fn send(&self, permit: &Permit) {
        self.hub.0.gather(|core, out| match core {
            Core::Shared(router) => router.peer_message(self.id, permit, out),
            Core::Isolated(pipe) => pipe.peer_message(permit, out),
        });
    }

    /// Lets the MCP server have what was sent.
    pub fn flush(&self) {
        self.hub.0.flush();
    }

    /// The peer's rights have changed: subscriptions that they do not cover any more end.
    pub fn revise(&self, profile: Profile) {
        self.hub.0.handle(|core, out| match core {
            Core::Shared(router) => router.revise(self.id, profile, out),
            Core::Isolated(pipe) => pipe.revise(profile),
        });
    }

    /// Queues a line of the proxy's own for the peer, newline included.
    pub fn reply(&self, line: Vec<u8>) {
        self.outbox.push(line.into());
    }

    /// Notes that a line of `bytes` has been dealt with: it will be acknowledged to the peer.
    pub fn received(&self, bytes: usize) {
        let mut queue = self.outbox.lock();
        let first = !queue.replay.is_untold();
        if queue.replay.receive(bytes) || first {
            self.outbox.wake.raise();
        }
    }

    /// Lines for the peer, in order; none when there is only something to acknowledge.
    ///
    /// # Errors
    /// When the session was cut. What still waited is lost if the peer was slow.
    pub fn take(&self) -> Result<Vec<Line>, Cut> {
        let mut queue = self.outbox.lock();
        let batch = queue.replay.take(BATCH);
        match queue.cut {
            Some(cut) if batch.lines.is_empty() => Err(cut),
            _ => Ok(batch.lines),
        }
    }

    /// Waits until [`Session::take`] may have something new, or an acknowledgement is due.
    pub async fn changed(&self) {
        self.outbox.wake.wait().await;
    }

    /// Completes when the peer is cut because it reads too slowly, even where a write to it hangs.
    pub async fn overflowed(&self) {
        while self.cut().await != Cut::Slow {
            std::future::pending::<()>().await;
        }
    }

    /// Completes when nothing more will come for the peer. Cancel safe.
    pub async fn cut(&self) -> Cut {
        loop {
            let changed = self.outbox.cut_off.notified();
            if let Some(cut) = self.outbox.lock().cut {
                return cut;
            }
            changed.await;
        }
    }

    /// Asks or tells the replay core of this session.
    pub fn replay<T>(&self, ask: impl FnOnce(&mut Replay<Line>) -> T) -> T {
        ask(&mut self.outbox.lock().replay)
    }

    /// The same for whoever does not own the session.
    pub fn watch(&self) -> Watch {
        Watch {
            id: self.id,
            hub: self.hub.clone(),
            outbox: Arc::clone(&self.outbox),
        }
    }

    /// How many requests of the peer still wait for an answer, in the child or in the outbox.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.hub.in_flight(self.id) + self.outbox.lock().replay.waiting()
    }

    /// See [`Watch::is_settled`].
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.watch().is_settled()
    }
}

/// A look at a session from outside.
#[derive(Clone, Debug)]
pub struct Watch {
    id: SessionId,
    hub: Hub,
    outbox: Arc<Outbox>,
}

impl Watch {
    /// See [`Replay::is_outdated`].
    #[must_use]
    pub fn is_outdated(&self, received: u64) -> bool {
        self.outbox.lock().replay.is_outdated(received)
    }

    /// True where the peer waits for nothing and has all that it ever got.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.hub.in_flight(self.id) == 0 && self.outbox.lock().replay.is_settled()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let shared = &self.hub.0;
        shared.lock().outboxes.remove(&self.id);
        shared.handle(|core, out| match core {
            Core::Shared(router) => router.detach(self.id, out),
            // Its process ends with it.
            Core::Isolated(_) => {}
        });
    }
}

/// Lines that wait for one peer, or for its acknowledgement, bounded in bytes.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    wake: Signal,
    cut_off: Notify,
    limit: usize,
}

#[derive(Debug, Default)]
struct Queue {
    replay: Replay<Line>,
    cut: Option<Cut>,
}

impl Outbox {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            queue: Mutex::default(),
            wake: Signal::default(),
            cut_off: Notify::new(),
            limit,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while a peer that acknowledges has not acknowledged everything.
    pub(super) fn awaits(&self) -> bool {
        let queue = self.lock();
        queue.replay.keeps() && !queue.replay.is_settled()
    }

    pub(super) fn push(&self, line: Line) {
        let mut queue = self.lock();
        if queue.cut.is_some() {
            return;
        }
        // An empty outbox takes any line: the bound is on what piles up.
        if queue.replay.bytes() > 0 && queue.replay.bytes() + cost(&line) > self.limit {
            *queue = Queue {
                cut: Some(Cut::Slow),
                ..Queue::default()
            };
            self.cut_off.notify_waiters();
        } else {
            queue.replay.push(line);
        }
        drop(queue);
        self.wake.raise();
    }

    pub(super) fn cut(&self, cut: Cut) {
        self.lock().cut.get_or_insert(cut);
        self.cut_off.notify_waiters();
        self.wake.raise();
    }
}
