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

/// A queued line.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The id of a request.
    pub request: Option<i64>,
    /// It is a request that occupies a place in the window of its session until it is answered.
    pub takes_place: bool,
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
    /// Requests that occupy a place.
    given: SmallVec<[i64; 4]>,
    /// It is in the order of turns.
    has_turn: bool,
}

impl Share {
    /// True if the first line may be sent.
    fn may_go(&self, window: Window) -> bool {
        let first = self.lines.front();
        first.is_some_and(|first| !first.takes_place || self.given.len() < window.requests)
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

    /// True if a line of `session` may be sent at once.
    pub(super) fn is_clear_for(&self, session: SessionId, takes_place: bool) -> bool {
        self.turns.is_empty()
            && self.shares.get(&session).is_none_or(|share| {
                share.lines.is_empty() && (!takes_place || share.given.len() < self.window.requests)
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
            share.lines.push_back(waiting);
        });
    }

    /// Takes the line whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Next> {
        let session = self.turns.pop_front()?;
        let waiting = self.change(session, |share| {
            share.has_turn = false;
            let waiting = share.lines.pop_front()?;
            share.bytes -= waiting.line.len();
            share
                .given
                .extend(waiting.request.filter(|_| waiting.takes_place));
            Some(waiting)
        })?;
        Some(Next { session, waiting })
    }

    /// Notes that a request was sent that was not queued.
    pub(super) fn give(&mut self, session: SessionId, request: i64) {
        self.change(session, |share| share.given.push(request));
    }

    /// Notes that a request which was sent is over.
    pub(super) fn close(&mut self, session: SessionId, request: i64) {
        self.change(session, |share| {
            let mut given = share.given.iter();
            if let Some(at) = given.position(|given| *given == request) {
                share.given.swap_remove(at);
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

    /// Removes a session; returns its queued lines.
    pub(super) fn leave(&mut self, session: SessionId) -> VecDeque<Waiting> {
        self.change(session, |share| {
            share.given.clear();
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
        if share.lines.is_empty() && share.given.is_empty() {
            self.shares.remove(&session);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn waiting(request: Option<i64>, bytes: usize) -> Waiting {
        let mut line = Chunks::default();
        line.extend(vec![b'x'; bytes]);
        Waiting {
            request,
            takes_place: request.is_some(),
            line,
            _kept: Piece::default(),
        }
    }

    fn queue(requests: usize) -> Queue {
        let window = Window {
            requests,
            ..Window::default()
        };
        Queue::new(window)
    }

    fn popped(queue: &mut Queue) -> Option<(u64, Option<i64>)> {
        let next = queue.pop()?;
        Some((next.session.0, next.waiting.request))
    }

    #[test]
    fn one_line_of_each_after_the_other() {
        let (flooder, other) = (SessionId(1), SessionId(2));
        let mut queue = queue(2);
        (0..5).for_each(|request| queue.push(flooder, waiting(Some(request), 1)));
        assert_eq!(popped(&mut queue), Some((1, Some(0))));
        queue.push(other, waiting(Some(10), 1));
        queue.push(other, waiting(None, 1));
        assert!(!queue.is_clear_for(other, false) && !queue.is_clear_for(SessionId(3), true));
        assert_eq!(popped(&mut queue), Some((1, Some(1))));
        assert_eq!(popped(&mut queue), Some((2, Some(10))));
        assert_eq!(popped(&mut queue), Some((2, None)));
        // The flooding session waits for a response, and no other session waits behind it.
        assert_eq!(popped(&mut queue), None);
        assert!(queue.is_clear_for(other, true) && !queue.is_clear_for(flooder, false));
        queue.give(other, 11);
        assert!(queue.is_clear_for(other, false) && !queue.is_clear_for(other, true));
        queue.close(flooder, 1);
        queue.take_back(flooder, 2);
        assert_eq!(popped(&mut queue), Some((1, Some(3))));
        assert_eq!(queue.leave(flooder).len(), 1);
        assert_eq!((queue.bytes, queue.turns.len()), (0, 0));
    }

    #[test]
    fn a_peer_with_a_long_queue_is_not_read_until_it_is_shorter() {
        let (peer, other) = (SessionId(1), SessionId(2));
        let mut queue = queue(1);
        let room = |queue: &mut Queue| queue.take_room().sessions;
        queue.push(peer, waiting(None, 2 * MAX_BYTES));
        assert!(queue.is_full_for(peer) && !queue.is_full_for(other));
        queue.pop();
        assert!(!queue.is_full_for(peer) && room(&mut queue) == [peer]);
        let lines = i64::try_from(MAX_LINES).unwrap();
        (0..lines).for_each(|request| queue.push(peer, waiting(Some(request), 1)));
        assert!(queue.is_full_for(peer));
        queue.take_back(peer, 7);
        assert!(!queue.is_full_for(peer) && room(&mut queue) == [peer]);
        // Lines that are not queued take up places, too.
        (1000..1002).for_each(|request| queue.give(other, request));
        assert!(queue.is_full_for(other));
        queue.close(other, 1000);
        assert!(!queue.is_full_for(other) && room(&mut queue) == [other]);
        // The total limit.
        for session in 10..10 + (MAX_ALL_BYTES / MAX_BYTES) as u64 {
            queue.push(SessionId(session), waiting(None, MAX_BYTES));
        }
        assert!(queue.is_full_for(peer) && !queue.is_full_for(SessionId(9)));
        assert!(!queue.take_room().for_all);
        let mut queue = queue.renewed();
        assert!(queue.take_room().for_all && queue.is_full_for(peer));
        queue.leave(SessionId(10));
        assert!(queue.take_room().for_all && !queue.is_full_for(peer));
    }

    #[test]
    fn a_peer_whose_last_line_has_gone_has_room_even_if_the_others_leave_none() {
        let (hanging, other) = (SessionId(1), SessionId(2));
        let mut queue = queue(1);
        queue.give(hanging, 0);
        queue.push(hanging, waiting(Some(1), MAX_ALL_BYTES));
        queue.push(other, waiting(None, 1));
        assert!(queue.is_full_for(other));
        assert_eq!(popped(&mut queue), Some((2, None)));
        assert!(queue.bytes >= MAX_ALL_BYTES && !queue.is_full_for(other));
        assert_eq!(queue.take_room().sessions, [other]);
    }

    #[derive(Clone, Debug)]
    enum Event {
        Push { session: u64, is_request: bool },
        Pop,
        Answer { pick: usize },
        TakeBack { pick: usize },
        Leave { session: u64 },
        Renew,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0u64..4, any::<bool>()).prop_map(|(session, is_request)| Event::Push { session, is_request }),
            6 => Just(Event::Pop),
            3 => any::<usize>().prop_map(|pick| Event::Answer { pick }),
            1 => any::<usize>().prop_map(|pick| Event::TakeBack { pick }),
            1 => (0u64..4).prop_map(|session| Event::Leave { session }),
            1 => Just(Event::Renew),
        ]
    }

    proptest! {
        /// The lines of each session stay in order, none has more requests in flight than there are
        /// places, and between two lines of one session every other session with a line ready gets one through.
        #[test]
        fn turns_are_fair(events in prop::collection::vec(event(), 1..300), window in 1usize..4) {
            let mut queue = queue(window);
            let mut lines: BTreeMap<u64, VecDeque<(Option<i64>, usize)>> = BTreeMap::new();
            let mut given: Vec<(u64, i64)> = Vec::new();
            // How often others have had a turn since this session was ready.
            let mut passed: BTreeMap<u64, BTreeMap<u64, usize>> = BTreeMap::new();
            for (at, event) in events.into_iter().enumerate() {
                let number = i64::try_from(at).unwrap();
                match event {
                    Event::Push { session, is_request } => {
                        let request = is_request.then_some(number);
                        queue.push(SessionId(session), waiting(request, at));
                        lines.entry(session).or_default().push_back((request, at));
                    }
                    Event::Pop => {
                        let next = queue.pop();
                        let mut passing = passed.keys();
                        prop_assert_eq!(next.is_none(), passing.next().is_none());
                        if let Some(Next { session, waiting }) = next {
                            let session = session.0;
                            let expected = lines.get_mut(&session).and_then(VecDeque::pop_front);
                            prop_assert_eq!(expected, Some((waiting.request, waiting.line.len())));
                            given.extend(waiting.request.map(|request| (session, request)));
                            passed.remove(&session);
                            for (other, turns) in &mut passed {
                                let turns = turns.entry(session).or_default();
                                *turns += 1;
                                prop_assert!(*turns <= 1, "{} passed {} twice", session, other);
                            }
                        }
                    }
                    Event::Answer { pick } if !given.is_empty() => {
                        let (session, request) = given.swap_remove(pick % given.len());
                        queue.close(SessionId(session), request);
                    }
                    Event::TakeBack { pick } => {
                        let requests: Vec<(u64, i64)> = lines.iter().flat_map(|(session, lines)| {
                            lines.iter().filter_map(|(request, _)| request.map(|request| (*session, request)))
                        }).collect();
                        if let Some((session, request)) = requests.get(pick % requests.len().max(1)) {
                            queue.take_back(SessionId(*session), *request);
                            let own = lines.get_mut(session).unwrap();
                            own.retain(|(known, _)| *known != Some(*request));
                        }
                    }
                    Event::Leave { session } => {
                        let left = queue.leave(SessionId(session));
                        let own = lines.remove(&session).unwrap_or_default();
                        prop_assert_eq!(left.len(), own.len());
                        given.retain(|(known, _)| *known != session);
                    }
                    Event::Renew => {
                        queue = queue.renewed();
                        given.clear();
                        passed.clear();
                    }
                    Event::Answer { .. } => {}
                }
                for session in 0..4 {
                    let open = given.iter().filter(|(known, _)| *known == session).count();
                    prop_assert!(open <= window);
                    let first = lines.get(&session).and_then(VecDeque::front);
                    if first.is_some_and(|(request, _)| request.is_none() || open < window) {
                        passed.entry(session).or_default();
                    } else {
                        passed.remove(&session);
                    }
                }
                let bytes: usize = lines.values().flatten().map(|(_, bytes)| bytes).sum();
                prop_assert_eq!(queue.bytes, bytes);
            }
        }
    }
}
