//! Routes messages between peers and processes: by the router of a shared MCP server, or by that of
//! an isolated one. Nothing else in the hub knows which of the two it is.

use crate::jsonrpc::Message;
use crate::permissions::{Denial, Permit, PinnedCall};
use crate::router::{
    Cause, Counted, Exit, IsolatedRouter, Output, Presence, ProcessId, Profile, Room, Router,
    SessionId, TooLarge, ToolsKnown, Window,
};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) enum Routing {
    Shared(Box<Router>),
    Isolated(Box<IsolatedRouter>),
}

impl Routing {
    /// `window` bounds what each process has in flight.
    pub(super) fn shared(window: Window) -> Self {
        Self::Shared(Box::new(Router::with_window(window)))
    }

    pub(super) fn isolated() -> Self {
        Self::Isolated(Box::default())
    }

    /// True if many peers share the process, so that it is restarted when it ends.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    pub(super) fn attach(&mut self, profile: Profile, counted: &Counted) -> SessionId {
        match self {
            Self::Shared(router) => router.attach_of_user(profile, counted),
            Self::Isolated(router) => router.attach(profile, counted),
        }
    }

    pub(super) fn detach(&mut self, id: SessionId, out: &mut Output) {
        match self {
            Self::Shared(router) => router.detach(id, out),
            // Its process ends with it.
            Self::Isolated(_) => {}
        }
    }

    /// As [`Routing::detach`], but pending requests of the session get an error.
    pub(super) fn release(&mut self, id: SessionId, out: &mut Output) {
        match self {
            Self::Shared(router) => router.release(id, out),
            Self::Isolated(_) => {}
        }
    }

    /// See [`Router::half_closed`].
    pub(super) fn half_closed(&mut self, id: SessionId, out: &mut Output) {
        match self {
            Self::Shared(router) => router.half_closed(id, out),
            Self::Isolated(router) => router.half_closed(out),
        }
    }

    pub(super) fn peer_message(
        &mut self,
        from: SessionId,
        permit: &Permit,
        now: impl FnOnce() -> Instant,
        out: &mut Output,
    ) -> Result<(), TooLarge> {
        match self {
            Self::Shared(router) => {
                if router.refuses(from, permit, now, out) {
                    return Ok(());
                }
                router.peer_message(from, permit, out)
            }
            Self::Isolated(router) => router.peer_message(permit, out),
        }
    }

    /// See [`Router::learn_tools`].
    pub(super) fn learn_tools(
        &mut self,
        from: SessionId,
        call: (&Message, &PinnedCall),
        now: Instant,
        out: &mut Output,
    ) -> ToolsKnown {
        match self {
            Self::Shared(router) => router.learn_tools(from, call, now, out),
            Self::Isolated(router) => router.learn_tools(call, now, out),
        }
    }

    /// See [`Router::give_up_tools`].
    pub(super) fn give_up_tools(&mut self, from: SessionId, message: &Message, out: &mut Output) {
        match self {
            Self::Shared(router) => router.give_up_tools(from, message, out),
            Self::Isolated(router) => router.give_up_tools(out),
        }
    }

    /// See [`Router::advance`].
    pub(super) fn advance(&mut self, process: ProcessId, out: &mut Output) -> bool {
        match self {
            Self::Shared(router) => router.advance(process, out),
            Self::Isolated(_) => false,
        }
    }

    /// See [`Router::is_full_for`].
    pub(super) fn is_full_for(&self, process: ProcessId, id: SessionId, message: &Message) -> bool {
        match self {
            Self::Shared(router) => router.is_full_for(process, id, message),
            Self::Isolated(_) => false,
        }
    }

    /// See [`Router::take_room`].
    pub(super) fn take_room(&mut self, process: ProcessId) -> Room {
        match self {
            Self::Shared(router) => router.take_room(process),
            Self::Isolated(_) => Room::default(),
        }
    }

    pub(super) fn set_rights(
        &mut self,
        id: SessionId,
        profile: Profile,
        out: &mut Output,
    ) -> Vec<Denial> {
        match self {
            Self::Shared(router) => router.set_rights(id, profile, out),
            Self::Isolated(router) => {
                router.set_rights(profile);
                Vec::new()
            }
        }
    }

    pub(super) fn set_presence(&mut self, id: SessionId, presence: Presence, out: &mut Output) {
        match self {
            Self::Shared(router) => router.set_presence(id, presence, out),
            // There is only one peer, so server requests simply wait with its other lines.
            Self::Isolated(_) => {}
        }
    }

    /// True while a request waits for an answer that will come by itself.
    pub(super) fn is_busy(&self) -> bool {
        match self {
            Self::Shared(router) => router.is_busy(),
            Self::Isolated(router) => router.pending_requests() > 0,
        }
    }

    /// How many requests of this peer wait for an answer.
    pub(super) fn pending_requests(&self, id: SessionId) -> usize {
        match self {
            Self::Shared(router) => router.pending_requests(id),
            Self::Isolated(router) => router.pending_requests(),
        }
    }

    /// The process that a peer's message would go to now, if any.
    pub(super) fn destination(&self, from: SessionId, message: &Message) -> Option<ProcessId> {
        match self {
            Self::Shared(router) => router.destination(from, message),
            Self::Isolated(_) => Some(ProcessId::FIRST),
        }
    }

    /// See [`Router::cancels`].
    pub(super) fn cancels(&self, from: SessionId, message: &Message) -> bool {
        match self {
            Self::Shared(router) => router.cancels(from, message),
            // Messages wait only for their process to read, and so would this.
            Self::Isolated(_) => false,
        }
    }

    /// The bytes that wait here for a process.
    pub(super) fn held(&self, process: ProcessId) -> usize {
        match self {
            Self::Shared(router) => router.held(process),
            Self::Isolated(_) => 0,
        }
    }

    /// The request that this process has to answer in time: one of the router's own, or the first request of
    /// an isolated peer.
    pub(super) fn awaited(&self, process: ProcessId) -> Option<(i64, &'static str)> {
        match self {
            Self::Shared(router) => router.awaited(process),
            Self::Isolated(router) => router.awaited(),
        }
    }

    /// True while this process has ended and the next has not started.
    pub(super) fn is_down(&self, process: ProcessId) -> bool {
        match self {
            Self::Shared(router) => router.is_down(process),
            Self::Isolated(_) => false,
        }
    }

    /// See [`Router::serves_modern_only`].
    pub(super) fn serves_modern_only(&self) -> bool {
        match self {
            Self::Shared(router) => router.serves_modern_only(),
            Self::Isolated(_) => false,
        }
    }

    /// Why a process has ended by itself, and for how long the sender that caused it is refused
    /// from now on.
    pub(super) fn cause_of_end(
        &mut self,
        process: ProcessId,
        overdue: bool,
        now: Instant,
    ) -> (Cause, Option<Duration>) {
        let Self::Shared(router) = self else {
            return (Cause::Itself, None);
        };
        let cause = router.cause_of_end(process, overdue);
        let refused = match &cause {
            Cause::Sender(sender) => Some(router.blame(sender, now)),
            _ => None,
        };
        (cause, refused)
    }

    /// True if this process gets the messages of one sender at a time.
    pub(super) fn takes_turns(&self, process: ProcessId) -> bool {
        match self {
            Self::Shared(router) => router.takes_turns(process),
            Self::Isolated(_) => false,
        }
    }

    pub(super) fn next_turn(&mut self, process: ProcessId, out: &mut Output) {
        match self {
            Self::Shared(router) => router.tick(process, out),
            Self::Isolated(_) => {}
        }
    }

    pub(super) fn end_turns(&mut self, process: ProcessId, out: &mut Output) {
        match self {
            Self::Shared(router) => router.end_turns(process, out),
            Self::Isolated(_) => {}
        }
    }

    /// See [`Router::stopped_reading`].
    pub(super) fn stopped_reading(&mut self, process: ProcessId) {
        match self {
            Self::Shared(router) => router.stopped_reading(process),
            // Its only peer waits for it anyway.
            Self::Isolated(_) => {}
        }
    }

    pub(super) fn child_started(&mut self, process: ProcessId, out: &mut Output) {
        match self {
            Self::Shared(router) => router.child_started(process, out),
            Self::Isolated(_) => {}
        }
    }

    pub(super) fn child_message(
        &mut self,
        process: ProcessId,
        message: &Message,
        now: impl Fn() -> Instant,
        out: &mut Output,
    ) {
        match self {
            Self::Shared(router) => router.child_message(process, message, now, out),
            Self::Isolated(router) => router.child_message(message, now, out),
        }
    }

    /// See [`Router::next_change`].
    pub(super) fn next_change(&self) -> Option<Instant> {
        match self {
            Self::Shared(router) => router.next_change(),
            Self::Isolated(router) => router.next_change(),
        }
    }

    /// See [`Router::tell_changes`].
    pub(super) fn tell_changes(&mut self, now: Instant, out: &mut Output) {
        match self {
            Self::Shared(router) => router.tell_changes(now, out),
            Self::Isolated(router) => router.tell_changes(now, out),
        }
    }

    /// See [`Router::oldest_question`].
    pub(super) fn oldest_question(&self) -> Option<Instant> {
        match self {
            Self::Shared(router) => router.oldest_question(),
            Self::Isolated(router) => router.oldest_question(),
        }
    }

    /// See [`Router::expire_questions`].
    pub(super) fn expire_questions(&mut self, asked_by: Instant, out: &mut Output) {
        match self {
            Self::Shared(router) => router.expire_questions(asked_by, out),
            Self::Isolated(router) => router.expire_questions(asked_by, out),
        }
    }

    pub(super) fn child_exited(&mut self, process: ProcessId, exit: &Exit, out: &mut Output) {
        match self {
            Self::Shared(router) => router.child_exited(process, exit, out),
            Self::Isolated(router) => router.child_exited(exit, out),
        }
    }
}
