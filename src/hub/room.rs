//! Room for messages of peers in the queue of a process: reserved where a message will wait, before it is
//! queued, whether or not its sender stays connected.

use super::{HIGH_WATER, Hub, Outbox, State};
use crate::jsonrpc::Message;
use crate::router::{ProcessId, SessionId};

/// Room for one message. Dropping it releases it to others.
#[derive(Debug)]
pub struct Room<'a> {
    hub: &'a Hub,
    process: ProcessId,
    bytes: usize,
}

impl<'a> Room<'a> {
    /// Reserves room for a message where it would go now; `None` while too much waits there
    /// already, or too much of this peer.
    pub(super) fn find(hub: &'a Hub, from: SessionId, message: &Message) -> Option<Self> {
        let state = &mut *hub.0.lock();
        let process = state.routing.destination(from, message);
        // A message for no process needs no room.
        let (process, bytes) =
            process.map_or((ProcessId::FIRST, 0), |process| (process, message.size()));
        if state.routing.is_full_for(process, from, message) {
            return None;
        }
        if bytes > 0 && !state.has_room(process) {
            state.processes[process.0].awaits_room = true;
            return None;
        }
        state.processes[process.0].reserved += bytes;
        Some(Self {
            hub,
            process,
            bytes,
        })
    }

    /// Waits for room and reserves it. Cancel safe.
    pub(super) async fn wait_for(
        hub: &'a Hub,
        from: SessionId,
        message: &Message,
        outbox: &Outbox,
    ) -> Self {
        loop {
            if let Some(room) = Self::find(hub, from, message) {
                return room;
            }
            // Check again after registering: room may have been released before.
            let drained = hub.0.drained.notified();
            let has_room = outbox.room();
            if let Some(room) = Self::find(hub, from, message) {
                return room;
            }
            tokio::select! {
                () = drained => {}
                () = has_room => {}
            }
        }
    }

    /// Releases it, as the message is queued in the same step.
    pub(super) fn fill(mut self, state: &mut State) {
        state.processes[self.process.0].reserved -= std::mem::take(&mut self.bytes);
    }

    /// True if it is in the queue of a process of this hub.
    pub(super) fn is_of(&self, hub: &Hub) -> bool {
        std::sync::Arc::ptr_eq(&self.hub.0, &hub.0)
    }
}

impl State {
    /// False while too much waits for a process.
    pub(super) fn has_room(&self, process: ProcessId) -> bool {
        let waiting = self.out.unwritten(process) + self.routing.held(process);
        waiting + self.processes[process.0].reserved <= HIGH_WATER
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.hub.0.lock().processes[self.process.0].reserved -= self.bytes;
            self.hub.0.drained.notify_waiters();
        }
    }
}
