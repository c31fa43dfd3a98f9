//! The lines that wait to be written: bounded, so that a disk that does not keep up costs lines,
//! which are counted, and never blocks a peer.

use super::event::{Event, Who};
use crate::utils::lock::{lock, unpoisoned};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

/// While more than this waits, in bytes, further events are lost.
const LIMIT: usize = 4 << 20;

/// Connects the tasks that record events with the thread that writes them.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// How many they are.
    count: u64,
    /// Events that found the queue full. From then on nothing is taken in until the writer has
    /// come for what waits, so that all of these are missing in one place.
    lost: u64,
    /// Lines that the writer has taken and not written yet.
    in_hand: u64,
    /// The file is to be reopened; how many bytes, and lines, belong in the old one.
    reopen: Option<(usize, u64)>,
    closed: bool,
    /// The writer waits for lines, and has to be woken.
    idle: bool,
    /// The writer is gone.
    gone: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue(…)")
    }
}

/// What the writer has to do, in this order.
pub(super) struct Work {
    /// To be written.
    pub lines: Vec<u8>,
    /// How many events are missing after them.
    pub lost: u64,
    /// The file is to be reopened then.
    pub reopen: bool,
    /// The queue is closed.
    pub last: bool,
}

/// What a writer that is stuck is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// To try another file.
    pub reopen: bool,
    /// To come to an end.
    pub close: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Takes an event, or counts it as lost. False for the first that is.
    pub(super) fn push(&self, event: &Event<'_>, who: &Who) -> bool {
        let mut state = self.lock();
        if state.lost > 0 || state.lines.len() >= LIMIT {
            state.lost += 1;
            if let Some(metrics) = crate::metrics::get() {
                metrics.lost_audit_event();
            }
            return state.lost > 1;
        }
        // Under the lock, so that lines are in the order of their times.
        event.write(SystemTime::now(), who, &mut state.lines);
        state.count += 1;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        if idle {
            self.changed.notify_all();
        }
        true
    }

    /// Lines that are pushed from now on belong in another file.
    pub(super) fn reopen(&self) {
        let mut state = self.lock();
        let place = (state.lines.len(), state.count);
        state.reopen.get_or_insert(place);
        drop(state);
        self.changed.notify_all();
    }

    /// The queue is closed.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// For the writer, which has written all it took: waits for work.
    pub(super) fn next(&self) -> Work {
        let mut state = self.lock();
        state.in_hand = 0;
        let waited = self.changed.wait_while(state, |state| {
            let nothing = state.lines.is_empty() && state.lost == 0;
            state.idle = nothing && state.reopen.is_none() && !state.closed;
            state.idle
        });
        let mut state = unpoisoned(waited);
        let reopen = state.reopen.take();
        let (rest, left) = match reopen {
            Some((place, before)) => (state.lines.split_off(place), state.count - before),
            None => (Vec::new(), 0),
        };
        let lines = std::mem::replace(&mut state.lines, rest);
        let all = left == 0;
        let lost = if all {
            std::mem::take(&mut state.lost)
        } else {
            0
        };
        state.in_hand = std::mem::replace(&mut state.count, left) - left + lost;
        Work {
            lines,
            lost,
            reopen: reopen.is_some(),
            last: state.closed && all,
        }
    }

    /// For the writer, which could not write all it took: waits for `pause`, or until the file is
    /// to be reopened, or waiting is pointless.
    pub(super) fn pause(&self, pause: Duration) -> Asked {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, pause, |state| {
            state.reopen.is_none() && !state.closed
        });
        let (mut state, _) = unpoisoned(waited);
        Asked {
            reopen: state.reopen.take().is_some(),
            close: state.closed,
        }
    }

    /// For the writer: it stops, and has not written `unwritten` of the events that it took.
    pub(super) fn leave(&self, unwritten: u64) {
        let mut state = self.lock();
        state.in_hand = unwritten;
        state.gone = true;
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until the writer has stopped, but not for longer than `patience`; returns how many
    /// events were not written.
    pub(super) fn drained(&self, patience: Duration) -> u64 {
        let state = self.lock();
        let waited = self
            .changed
            .wait_timeout_while(state, patience, |state| !state.gone);
        let (state, _) = unpoisoned(waited);
        state.in_hand + state.lost + state.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(lines: &[u8]) -> u64 {
        memchr::memchr_iter(b'\n', lines).count() as u64
    }

    fn push(queue: &Queue, count: usize) -> usize {
        let nobody = Who::default();
        let taken = (0..count).map(|_| queue.push(&Event::Connect, &nobody));
        taken.filter(|taken| *taken).count()
    }

    #[test]
    fn what_finds_no_room_is_counted_in_one_place() {
        let queue = Queue::default();
        push(&queue, 1);
        let length = queue.next().lines.len();
        // One line may begin below the limit and end above it.
        let room = LIMIT.div_ceil(length);
        assert_eq!(push(&queue, room), room);
        // It is reported once.
        assert_eq!(push(&queue, 10), 9);
        let work = queue.next();
        assert_eq!((count(&work.lines), work.lost), (room as u64, 10));
        push(&queue, 1);
        let work = queue.next();
        assert_eq!((count(&work.lines), work.lost), (1, 0));
    }

    #[test]
    fn what_comes_after_a_rotation_belongs_in_the_new_file() {
        let queue = Queue::default();
        push(&queue, 2);
        queue.reopen();
        push(&queue, 3);
        // Before the first has been carried out: the same.
        queue.reopen();
        let work = queue.next();
        assert_eq!((count(&work.lines), work.reopen), (2, true));
        let work = queue.next();
        assert_eq!((count(&work.lines), work.reopen), (3, false));
        queue.reopen();
        let work = queue.next();
        assert_eq!((count(&work.lines), work.reopen), (0, true));
    }

    #[test]
    fn what_is_not_written_at_the_end_is_counted() {
        let queue = Queue::default();
        push(&queue, 2);
        let work = queue.next();
        assert!(!work.last);
        push(&queue, 3);
        queue.close();
        // As if the disk were hanging.
        assert_eq!(queue.drained(Duration::ZERO), 5);
        assert!(queue.pause(Duration::from_secs(3600)).close);
        let work = queue.next();
        assert!(work.last);
        queue.leave(1);
        assert_eq!(queue.drained(Duration::from_secs(3600)), 1);
    }
}
