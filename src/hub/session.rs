//! One peer's place at the hub, and the lines that wait for it there.

use super::Hub;
use super::attachment::Attachment;
use super::outbox::{Cut, Lines, Outbox};
use super::room::Room;
use super::routing::Routing;
use crate::jsonrpc::Message;
use crate::permissions::Permit;
use crate::replay::Replay;
use crate::router::{Counted, Output, Presence, Profile, SessionId, TooLarge};
use crate::transport::Writer;
use crate::transport::outlet::{Flush, Lease, Lendable};
use crate::utils::chunks::Line;
use std::sync::Arc;

/// What has become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It has been passed on or answered, or means nothing.
    Handled,
    /// It names a task of somebody else, and has been answered as if there were no such task.
    ForeignTask,
}

/// One peer's place at the hub. Dropping it ends it: its requests are cancelled.
#[derive(Debug)]
pub struct Session {
    attachment: Arc<Attachment>,
    pub(super) outbox: Arc<Outbox>,
}

impl Session {
    pub(super) fn new(id: SessionId, hub: Hub, outbox: Arc<Outbox>) -> Self {
        Self {
            attachment: Arc::new(Attachment::new(id, hub)),
            outbox,
        }
    }

    /// For logs.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.attachment.id()
    }

    /// Attaches it to another hub, where it has never been moved before. What it is still owed by the
    /// one that it leaves is answered with errors.
    pub fn move_to(&self, hub: &Hub, profile: Profile, counted: &Counted) {
        if self.attachment.has_moved() {
            return;
        }
        let (id, left) = (self.attachment.id(), self.attachment.hub());
        left.0.handle(|routing, out| routing.release(id, out));
        left.0.lock().outboxes.remove(&id);
        let id = hub.adopt(profile, counted, &self.outbox);
        self.attachment.move_to(id, hub.clone());
    }

    /// Room for a message among what waits for the MCP server; none while that is too much already.
    #[must_use]
    pub fn find_room(&self, message: &Message) -> Option<Room<'_>> {
        Room::find(self.attachment.hub(), self.attachment.id(), message)
    }

    /// The same, once there is some. Cancel safe.
    pub async fn room(&self, message: &Message) -> Room<'_> {
        let hub = self.attachment.hub();
        Room::wait_for(hub, self.attachment.id(), message, &self.outbox).await
    }

    /// True while the process that would serve this message has ended, or is about to start.
    #[must_use]
    pub fn is_down(&self, message: &Message) -> bool {
        let state = self.attachment.hub().0.lock();
        let process = state.routing.destination(self.attachment.id(), message);
        process.is_some_and(|process| state.routing.is_down(process))
    }

    /// Hands a message to the MCP server, which gets it with the next [`Flush::flush`]. `room` is what
    /// was found for it; what the proxy itself says needs none.
    ///
    /// # Errors
    /// The line for the MCP server would be too long: it gets nothing.
    pub fn send(&self, permit: &Permit, room: Option<Room<'_>>) -> Result<Sent, TooLarge> {
        let now = || tokio::time::Instant::now().into_std();
        let (id, hub) = (self.attachment.id(), self.attachment.hub());
        // The session may have moved meanwhile.
        let room = room.filter(|room| room.is_of(hub));
        let mut state = hub.0.lock();
        if let Some(room) = room {
            room.fill(&mut state);
        }
        let event = |routing: &mut Routing, out: &mut Output| {
            routing.peer_message(id, permit, now, out)?;
            if std::mem::take(&mut out.foreign_task) {
                Ok(Sent::ForeignTask)
            } else {
                Ok(Sent::Handled)
            }
        };
        hub.0.gather_in(&mut state, event)
    }

    /// The peer's rights have changed: subscriptions that they do not cover any more end.
    pub fn set_rights(&self, profile: Profile) {
        let (id, hub) = (self.attachment.id(), self.attachment.hub());
        hub.0
            .handle(|routing, out| routing.set_rights(id, profile, out));
    }

    /// Notes whether the client can be reached: the MCP server's questions are asked only then.
    pub fn set_presence(&self, presence: Presence) {
        let (id, hub) = (self.attachment.id(), self.attachment.hub());
        hub.0
            .handle(|routing, out| routing.set_presence(id, presence, out));
    }

    /// The peer says nothing more, though it still gets what it is owed: its subscriptions end, and it
    /// is asked nothing.
    pub fn half_closed(&self) {
        let (id, hub) = (self.attachment.id(), self.attachment.hub());
        hub.0.handle(|routing, out| routing.half_closed(id, out));
    }

    /// Queues a line of the proxy's own for the peer, newline included. It may wait for
    /// [`Flush::flush`].
    pub fn reply(&self, line: Vec<u8>) {
        if self.outbox.push(line.into()) {
            let hub = self.attachment.hub();
            hub.0.lock().ready.push(Arc::clone(&self.outbox));
        }
    }

    /// Notes that a line of `bytes` has been dealt with: it will be acknowledged to the peer.
    pub fn received(&self, bytes: usize) {
        self.outbox.received(bytes);
    }

    /// Lines for the peer, in order; none when there is only something to acknowledge.
    ///
    /// # Errors
    /// When the session was cut. What still waited is lost if the peer was slow.
    pub fn take(&self) -> Result<Vec<Line>, Cut> {
        self.outbox.take()
    }

    /// Waits until [`Session::take`] may have something new, or an acknowledgement is due.
    pub async fn changed(&self) {
        self.outbox.changed().await;
    }

    /// Lends the connection's writer to whoever has lines for the peer, which saves a turn of the
    /// peer's own task, unless there is something to do for that.
    pub fn lend<'a>(
        &'a self,
        writer: &'a mut Lendable<Writer>,
    ) -> Option<Lease<'a, Writer, Lines>> {
        self.outbox.lend(writer)
    }

    /// From here on the writer is not lent, so that its owner knows what has been sent.
    pub fn keep_writer(&self) {
        self.outbox.keep_writer();
    }

    /// Completes when the peer is cut because too much is kept for it, even where a write to it hangs.
    pub async fn overflowed(&self) -> Cut {
        match self.cut().await {
            Cut::Stopped => std::future::pending().await,
            cut => cut,
        }
    }

    /// Completes when nothing more will come for the peer. Cancel safe.
    pub async fn cut(&self) -> Cut {
        self.outbox.until_cut().await
    }

    /// Asks or tells the replay core of this session.
    pub fn replay<T>(&self, ask: impl FnOnce(&mut Replay<Line>) -> T) -> T {
        self.outbox.replay(ask)
    }

    /// The same for whoever does not own the session.
    pub fn watch(&self) -> Watch {
        Watch {
            attachment: Arc::clone(&self.attachment),
            outbox: Arc::clone(&self.outbox),
        }
    }

    /// How many requests of the peer still wait for an answer, in the child or in the outbox.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.attachment.in_flight() + self.outbox.unsent()
    }

    /// See [`Watch::is_settled`].
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.watch().is_settled()
    }
}

impl Flush for Session {
    /// Lets the MCP server have what was sent, and peers what waits for their writers.
    fn flush(&self) {
        self.attachment.hub().0.flush();
    }
}

/// A look at a session from outside.
#[derive(Clone, Debug)]
pub struct Watch {
    attachment: Arc<Attachment>,
    outbox: Arc<Outbox>,
}

impl Watch {
    /// See [`Replay::is_stale`].
    #[must_use]
    pub fn is_stale(&self, received: u64) -> bool {
        self.outbox.replay(|replay| replay.is_stale(received))
    }

    /// True where the peer waits for nothing and has all that it ever got.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.attachment.in_flight() == 0 && self.outbox.replay(|replay| replay.is_settled())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let (id, hub) = (self.attachment.id(), self.attachment.hub());
        hub.0.lock().outboxes.remove(&id);
        hub.0.handle(|routing, out| routing.detach(id, out));
    }
}
