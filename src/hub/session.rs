//! One peer's place at the hub, and the lines that wait for it there.

use super::Hub;
use super::attachment::Attachment;
use super::learning;
use super::outbox::{Cut, Lines, Outbox};
use super::room::Room;
use super::routing::Routing;
use crate::jsonrpc::Message;
use crate::permissions::{Denial, Permit, PinnedCall};
use crate::replay::Replay;
use crate::router::{Counted, ForPeer, Output, Presence, Profile, SessionId, TooLarge};
use crate::transport::Writer;
use crate::transport::outlet::{Flush, Lease, Lendable};
use crate::utils::chunks::Line;
use std::sync::Arc;

/// The outcome of sending a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It has been passed on, answered or dropped.
    Handled,
    /// It names another user's task, and has been answered as if there were no such task.
    ForeignTask,
    /// It calls a tool that has changed since the tools were accepted, and has been dropped.
    Withheld,
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

    /// Moves it to another hub, which is possible once. Requests that are pending at the old one are answered
    /// with errors.
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

    /// Reserves room for a message in the queue of the MCP server; `None` while that is full.
    #[must_use]
    pub fn find_room(&self, message: &Message) -> Option<Room<'_>> {
        Room::find(self.attachment.hub(), self.attachment.id(), message)
    }

    /// Waits for room and reserves it. Cancel safe.
    pub async fn room(&self, message: &Message) -> Room<'_> {
        let hub = self.attachment.hub();
        Room::wait_for(hub, self.attachment.id(), message, &self.outbox).await
    }

    /// Completes when the process that would serve this message is running. Cancel safe.
    pub async fn up(&self, message: &Message) {
        loop {
            let hub = self.attachment.hub();
            // Before the check, so that no start in between is missed.
            let started = hub.0.started.notified();
            if !self.is_down(message) {
                return;
            }
            started.await;
        }
    }

    /// Waits until the tools of the process that would serve a call are known; requests its list if necessary.
    /// `message` is the call of a pinned tool. False if the process does not answer with a list, or not within
    /// `--handshake-timeout`. Cancel safe.
    pub async fn learn_tools(&self, message: &Message, call: &PinnedCall) -> bool {
        let at = (self.attachment.hub(), self.attachment.id());
        learning::learn_tools(at, (message, call), &self.outbox).await
    }

    /// True while the process that would serve this message has ended, or is about to start.
    #[must_use]
    pub fn is_down(&self, message: &Message) -> bool {
        let state = self.attachment.hub().0.lock();
        let process = state.routing.destination(self.attachment.id(), message);
        process.is_some_and(|process| state.routing.is_down(process))
    }

    /// Hands a message to the MCP server, which gets it with the next [`Flush::flush`]. `room` was reserved
    /// for it; messages of the proxy itself need none.
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
            } else if std::mem::take(&mut out.withheld) {
                Ok(Sent::Withheld)
            } else {
                Ok(Sent::Handled)
            }
        };
        hub.0.gather_in(&mut state, event)
    }

    /// Hands over a cancellation of a request that is in flight at a shared MCP server, ahead of messages that wait; false
    /// for any other message, and where it has to wait, too.
    #[must_use]
    pub fn cancel_ahead(&self, permit: &Permit) -> bool {
        let (id, hub) = (self.attachment.id(), self.attachment.hub());
        let message = permit.message();
        let is_due = hub.0.lock().routing.cancels(id, message);
        let room = is_due.then(|| self.find_room(message)).flatten();
        let is_sent = room.is_some_and(|room| self.send(permit, Some(room)).is_ok());
        hub.0.flush();
        is_sent
    }

    /// Applies changed rights of the peer: refuses what waits for the MCP server, and ends subscriptions, as far as
    /// they no longer cover it. Returns what has been refused or ended.
    #[must_use]
    pub fn set_rights(&self, profile: Profile) -> Vec<Denial> {
        let (id, hub) = (self.attachment.id(), self.attachment.hub());
        let refused = hub
            .0
            .gather(|routing, out| routing.set_rights(id, profile, out));
        hub.0.flush();
        refused
    }

    /// Notes whether the client can be reached, without which it gets no server requests.
    pub fn set_presence(&self, presence: Presence) {
        let (id, hub) = (self.attachment.id(), self.attachment.hub());
        {
            let state = &mut *hub.0.lock();
            state.routing.set_presence(id, presence, &mut state.out);
            // Each request over HTTP changes it, but there are rarely server requests that have waited for that.
            if state.out.is_empty() {
                return;
            }
        }
        hub.0.handle(|_, _| ());
    }

    /// Notes that the peer has closed its sending half: it still gets pending answers, but its subscriptions
    /// end and it gets no server requests.
    pub fn half_closed(&self) {
        let (id, hub) = (self.attachment.id(), self.attachment.hub());
        hub.0.handle(|routing, out| routing.half_closed(id, out));
    }

    /// Queues one of the proxy's own lines for the peer, newline included. It may wait for
    /// [`Flush::flush`].
    pub fn reply(&self, line: Vec<u8>) {
        if self.outbox.push(Line::from(line).into()) {
            let hub = self.attachment.hub();
            hub.0.lock().ready.push(Arc::clone(&self.outbox));
        }
    }

    /// Notes that a line of `bytes` has been processed: it will be acknowledged to the peer.
    pub fn received(&self, bytes: usize) {
        self.outbox.received(bytes);
    }

    /// Passes each line for the peer to `deliver` at once, which saves a switch to another task: none waits here
    /// from now on. `deliver` is called while the hub is locked, so it must not use the hub.
    pub fn deliver_to(&self, deliver: impl FnMut(ForPeer) + Send + 'static) {
        self.outbox.deliver_to(deliver);
    }

    /// Lines for the peer, in order; none when there is only something to acknowledge.
    ///
    /// # Errors
    /// The session was ended. Queued lines are lost if the peer was too slow.
    pub fn take(&self) -> Result<Vec<Line>, Cut> {
        self.outbox.take()
    }

    /// Waits until [`Session::take`] may have something new, or an acknowledgement is due.
    pub async fn changed(&self) {
        self.outbox.changed().await;
    }

    /// Lets other tasks write to the connection directly, which saves a switch to the peer's own
    /// task, unless that has something to do.
    pub fn lend<'a>(
        &'a self,
        writer: &'a mut Lendable<Writer>,
    ) -> Option<Lease<'a, Writer, Lines>> {
        self.outbox.lend(writer)
    }

    /// From here on only the peer's own task writes, so that it knows what has been sent.
    pub fn keep_writer(&self) {
        self.outbox.keep_writer();
    }

    /// Completes when the peer is evicted because too much is queued for it, even while a write to it hangs.
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

    /// Accesses the replay core of this session.
    pub fn replay<T>(&self, ask: impl FnOnce(&mut Replay<Line>) -> T) -> T {
        self.outbox.replay(ask)
    }

    /// A handle on the session's state that does not own it.
    pub fn watch(&self) -> Watch {
        Watch {
            attachment: Arc::clone(&self.attachment),
            outbox: Arc::clone(&self.outbox),
        }
    }

    /// How many requests of the peer are pending, in the child or in the outbox.
    #[must_use]
    pub fn pending_requests(&self) -> usize {
        self.attachment.in_flight() + self.outbox.unsent()
    }

    /// See [`Watch::is_settled`].
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.watch().is_settled()
    }
}

impl Flush for Session {
    /// Writes what was sent to the MCP server, and what waits for peers.
    fn flush(&self) {
        self.attachment.hub().0.flush();
    }
}

/// A view of a session from outside.
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

    /// True if the peer has no pending requests and has acknowledged everything.
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
