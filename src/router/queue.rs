//! Lines of peers that wait for a process: sessions take turns, one line each, so that none waits behind
//! everything that another one has sent before.

use super::SessionId;
use crate::backlog::Piece;
use crate::utils::chunks::Chunks;
use foldhash::HashMap;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// A session with this many lines in the queue …
const MAX_LINES: usize = 256;
/// … or this many bytes is not read. An empty queue takes a line of any length.
const MAX_BYTES: usize = 1 << 20;

/// While all sessions together have this many bytes in the queue, none that has any is read. With what is
/// read ahead of them that makes 64 MiB.
const MAX_ALL_BYTES: usize = 16 << 20;

/// The most pings of a session that go ahead of its other requests; further ones wait like these.
const MAX_PINGS: usize = 4;

/// How much a process may have in flight; more is queued.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The most unanswered requests of one session.
    pub requests: usize,
    /// Lines are sent while fewer bytes than this wait to be written to it.
    pub bytes: usize,
}

impl Default for Window {
    /// No bounds.
    fn default() -> Self {
        Self {
            requests: usize::MAX,
            bytes: usize::MAX,
        }
    }
}

/// Which place a line occupies until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// None: it has no answer, or waits for it as long as the peer likes.
    None,
    /// One in the window of its session.
    InWindow,
    /// One of a few for pings, which show that the process still answers, and so wait behind no other request of their
    /// session.
    Ping,
}

/// A queued line.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The number of a request.
    pub request: Option<i64>,
    pub place: Place,
    pub line: Chunks,
    /// Counts the memory of the line.
    pub _kept: Piece,
}

/// A line whose turn has come.
#[derive(Debug)]
pub(super) struct Next {
    pub session: SessionId,
    pub waiting: Waiting,
}

/// Lines by session, and the requests that were sent to the process.
#[derive(Debug, Default)]
pub(super) struct Queue {
    shares: HashMap<SessionId, Share>,
    /// Sessions whose first line may be sent, in the order of their turns.
    turns: VecDeque<SessionId>,
    bytes: usize,
    window: Window,
    /// Sessions that may be read again, or all.
    room: Room,
}

/// Sessions that have room again since the last call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// These sessions.
    pub sessions: Vec<SessionId>,
    /// Any session.
    pub for_all: bool,
}

/// The lines of one session.
#[derive(Debug, Default)]
struct Share {
    lines: VecDeque<Waiting>,
    bytes: usize,
    /// Requests that occupy a place in the window …
    given: SmallVec<[i64; 4]>,
    /// … or one for pings.
    pings: SmallVec<[i64; MAX_PINGS]>,
    /// It is in the order of turns.
    has_turn: bool,
}

impl Share {
    /// True if the first line may be sent.
    fn may_go(&self, window: Window) -> bool {
        let first = self.lines.front();
        first.is_some_and(|first| self.has_place(first.place, window))
    }

    fn has_place(&self, place: Place, window: Window) -> bool {
        place != Place::InWindow || self.given.len() < window.requests
    }

    /// How many pings are first in the queue.
    fn queued_pings(&self) -> usize {
        let lines = self.lines.iter();
        lines.take_while(|line| line.place == Place::Ping).count()
    }

    /// Notes that a request was sent.
    fn give(&mut self, request: i64, place: Place) {
        match place {
            Place::None => {}
            Place::InWindow => self.given.push(request),
            Place::Ping => self.pings.push(request),
        }
    }

    /// True if its session should not be read while `all` bytes are queued. Requests that are not queued may occupy
    /// more places than there are.
    fn is_full(&self, window: Window, all: usize) -> bool {
        self.lines.len() >= MAX_LINES
            || self.bytes >= MAX_BYTES
            || self.given.len() > window.requests
            || (all >= MAX_ALL_BYTES && self.bytes > 0)
    }
}

impl Queue {
    pub(super) fn new(window: Window) -> Self {
        Self {
            window,
            ..Self::default()
        }
    }

    pub(super) fn window(&self) -> Window {
        self.window
    }

    /// The same lines for another process, which was sent nothing yet. All sessions have room again, as far
    /// as those lines leave any.
    pub(super) fn renewed(mut self) -> Self {
        self.turns.clear();
        self.shares.retain(|_, share| {
            share.given.clear();
            share.pings.clear();
            share.has_turn = !share.lines.is_empty();
            share.has_turn
        });
        self.turns.extend(self.shares.keys());
        self.turns.make_contiguous().sort_unstable();
        self.room.for_all = true;
        self
    }

    /// Drops lines before the first request of each session: without a handshake, a request has to come
    /// first.
    pub(super) fn drop_leading_notifications(&mut self) {
        for share in self.shares.values_mut() {
            while share
                .lines
                .front()
                .is_some_and(|first| first.request.is_none())
            {
                let size = share.lines.pop_front().map_or(0, |first| first.line.len());
                share.bytes -= size;
                self.bytes -= size;
            }
        }
    }

    /// Drops all lines.
    pub(super) fn clear(&mut self) {
        self.shares.clear();
        self.turns.clear();
        self.bytes = 0;
        self.room.for_all = true;
    }

    /// True if a ping of `session` may go ahead of its other requests.
    pub(super) fn takes_ping(&self, session: SessionId) -> bool {
        let share = self.shares.get(&session);
        share.is_none_or(|share| share.queued_pings() + share.pings.len() < MAX_PINGS)
    }

    /// True if a line of `session` may be sent at once.
    pub(super) fn is_clear_for(&self, session: SessionId, place: Place) -> bool {
        self.turns.is_empty()
            && self.shares.get(&session).is_none_or(|share| {
                (place == Place::Ping || share.lines.is_empty())
                    && share.has_place(place, self.window)
            })
    }

    /// True if `session` has so much in the queue that it should not be read.
    pub(super) fn is_full_for(&self, session: SessionId) -> bool {
        let share = self.shares.get(&session);
        share.is_some_and(|share| share.is_full(self.window, self.bytes))
    }

    /// Lets a session with a full queue be looked at again.
    pub(super) fn look_again(&mut self, session: SessionId) {
        if self.is_full_for(session) {
            self.room.sessions.push(session);
        }
    }

    /// Sessions that have room again since the last call.
    pub(super) fn take_room(&mut self) -> Room {
        std::mem::take(&mut self.room)
    }

    /// Queues a line of `session`.
    pub(super) fn push(&mut self, session: SessionId, waiting: Waiting) {
        self.change(session, |share| {
            share.bytes += waiting.line.len();
            let at = match waiting.place {
                Place::Ping => share.queued_pings(),
                Place::None | Place::InWindow => share.lines.len(),
            };
            share.lines.insert(at, waiting);
        });
    }

    /// Takes the line whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Next> {
        let session = self.turns.pop_front()?;
        let waiting = self.change(session, |share| {
            share.has_turn = false;
            let waiting = share.lines.pop_front()?;
            share.bytes -= waiting.line.len();
            if let Some(request) = waiting.request {
                share.give(request, waiting.place);
            }
            Some(waiting)
        })?;
        Some(Next { session, waiting })
    }

    /// Notes that a request was sent that was not queued.
    pub(super) fn give(&mut self, session: SessionId, request: i64, place: Place) {
        self.change(session, |share| share.give(request, place));
    }

    /// Notes that a request which was sent is over.
    pub(super) fn close(&mut self, session: SessionId, request: i64) {
        self.change(session, |share| {
            for places in [&mut share.given, &mut share.pings] {
                if let Some(at) = places.iter().position(|given| *given == request) {
                    places.swap_remove(at);
                }
            }
        });
    }

    /// Removes a queued request.
    pub(super) fn take_back(&mut self, session: SessionId, request: i64) {
        self.change(session, |share| {
            let mut lines = share.lines.iter();
            let at = lines.position(|waiting| waiting.request == Some(request));
            if let Some(waiting) = at.and_then(|at| share.lines.remove(at)) {
                share.bytes -= waiting.line.len();
            }
        });
    }

    /// Drops the queued lines of a session that `keep` is false for.
    pub(super) fn retain(&mut self, session: SessionId, keep: impl FnMut(&Waiting) -> bool) {
        self.change(session, |share| {
            share.lines.retain(keep);
            share.bytes = share.lines.iter().map(|waiting| waiting.line.len()).sum();
        });
    }

    /// The sessions with queued lines, in order of arrival.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        let mut sessions: Vec<_> = self.shares.keys().copied().collect();
        sessions.sort_unstable();
        sessions
    }

    /// Removes a session; returns its queued lines.
    pub(super) fn leave(&mut self, session: SessionId) -> VecDeque<Waiting> {
        self.change(session, |share| {
            share.given.clear();
            share.pings.clear();
            share.bytes = 0;
            std::mem::take(&mut share.lines)
        })
    }

    /// Changes the lines of a session and updates its turn; notes sessions that have room now.
    fn change<T>(&mut self, session: SessionId, change: impl FnOnce(&mut Share) -> T) -> T {
        let share = self.shares.entry(session).or_default();
        let before = self.bytes;
        let (bytes, was_full) = (share.bytes, share.is_full(self.window, before));
        let changed = change(share);
        self.bytes = before - bytes + share.bytes;
        if was_full && !share.is_full(self.window, self.bytes) {
            self.room.sessions.push(session);
        }
        self.room.for_all |= before >= MAX_ALL_BYTES && self.bytes < MAX_ALL_BYTES;
        match (share.may_go(self.window), share.has_turn) {
            (true, false) => {
                share.has_turn = true;
                self.turns.push_back(session);
            }
            // It was removed from the middle.
            (false, true) => {
                share.has_turn = false;
                self.turns.retain(|waiting| *waiting != session);
            }
            _ => {}
        }
        if share.lines.is_empty() && share.given.is_empty() && share.pings.is_empty() {
            self.shares.remove(&session);
        }
        changed
    }
}

#[cfg(test)]
mod tests;
