//! When a process gets its lines: at once, once it is ready for them, or one sender after the other.

use super::evidence::{Evidence, Origin};
use super::openings::Handshake;
use super::peers::Peers;
use super::pending::Delivery;
use super::process::{Process, Service};
use super::queue::{Place, Waiting};
use super::turns::{self, Turns};
use super::{Output, SessionId};
use crate::utils::chunks::Chunks;

/// How many bytes of notifications of a peer that leaves are sent out of turn, and how many of all such peers
/// are held for a process that is not ready.
const MAX_LEFT: usize = 16 * 1024;

impl Process {
    /// True while lines for the process are held here.
    pub(super) fn is_holding(&self) -> bool {
        self.down
            || matches!(self.handshake, Handshake::Sent(_))
            || matches!(self.service, Service::Probing(_) | Service::Returning(_))
    }

    /// The destination of lines for the child at present.
    pub(super) fn sink<'a>(&'a mut self, out: &'a mut Output) -> &'a mut Chunks {
        if self.is_holding() {
            &mut self.held
        } else {
            out.lines(self.id)
        }
    }

    /// Whether the request `ours`, which goes to [`Self::sink`], is sent now.
    pub(super) fn delivery(&mut self, ours: i64) -> Delivery {
        if !self.is_holding() {
            return Delivery::Given;
        }
        self.held_requests.push(ours);
        Delivery::Held
    }

    /// The destination of lines that change the shared state of the process, which stay in order; notes that
    /// `sender` has one.
    pub(super) fn shared_sink<'a>(
        &'a mut self,
        origin: Origin<'_>,
        out: &'a mut Output,
    ) -> &'a mut Chunks {
        self.note(origin);
        self.sink(out)
    }

    /// Notes a line of `origin`.
    pub(super) fn note(&mut self, origin: Origin<'_>) {
        let held = self.is_holding();
        let answerable = origin.request.is_some();
        self.evidence
            .note(origin.sender, held, answerable, origin.latest);
    }

    /// True if a line of a peer may be sent to the process, for which `unwritten` bytes are queued
    /// already.
    pub(super) fn takes_more(&self, unwritten: usize) -> bool {
        !self.is_holding() && unwritten < self.queue.window().bytes
    }

    /// Sends the process the line of the peer `from` that `write` writes, or queues it for its turn.
    pub(super) fn send_or_queue(
        &mut self,
        from: SessionId,
        origin: Origin<'_>,
        place: Place,
        out: &mut Output,
        write: impl FnOnce(&mut Chunks),
    ) -> Delivery {
        // While senders take turns, those are the only turns.
        let is_clear = self.turns.is_some()
            || (self.takes_more(out.unwritten(self.id)) && self.queue.is_clear_for(from, place));
        if !is_clear {
            let mut line = Chunks::default();
            write(&mut line);
            let waiting = Waiting {
                request: origin.request,
                place,
                _kept: origin.kept.piece(line.len()),
                line,
            };
            self.queue.push(from, waiting);
            return Delivery::Queued;
        }
        if let Some(request) = origin.request {
            self.queue.give(from, request, place);
        }
        self.engaged |= origin.request.is_some();
        write(self.sink_of(origin, out));
        match origin.request {
            Some(request) if self.holds(request) => Delivery::Held,
            _ => Delivery::Given,
        }
    }

    /// Sends the process the lines whose turn it is; true if there were any.
    pub(super) fn advance(&mut self, peers: &mut Peers, out: &mut Output) -> bool {
        let mut advanced = false;
        while self.takes_more(out.unwritten(self.id)) {
            let Some(next) = self.queue.pop() else {
                break;
            };
            let request = next.waiting.request;
            if request.is_some_and(|ours| self.refuse_waiting_call(ours, peers, out)) {
                // It has got an error.
            } else if let Some(session) = peers.get(next.session) {
                let origin = session.origin(request, peers.numbers.newest);
                self.give_next(origin, next.waiting, out);
            }
            advanced = true;
        }
        advanced
    }

    /// Sends the process a line that has waited for its turn.
    fn give_next(&mut self, origin: Origin<'_>, mut waiting: Waiting, out: &mut Output) {
        match waiting.request {
            Some(ours) => {
                self.in_flight.give(ours, out.now);
                self.engaged = true;
            }
            None if !self.takes_notifications() => {
                tracing::debug!("dropped a notification to a process that knows no client yet");
                return;
            }
            None => {}
        }
        self.note(origin);
        out.lines(self.id).append(&mut waiting.line);
    }

    /// Sends the process the queued notifications of a peer that leaves; its queued requests are dropped.
    pub(super) fn give_notifications(
        &mut self,
        from: SessionId,
        origin: Origin<'_>,
        out: &mut Output,
    ) {
        let mut room = MAX_LEFT.saturating_sub(self.held.len());
        for mut waiting in self.queue.leave(from) {
            let size = waiting.line.len();
            if waiting.request.is_none() && size <= room && self.takes_notifications() {
                room -= size;
                self.shared_sink(origin, out).append(&mut waiting.line);
            }
        }
    }

    /// Without a handshake, a request has to come first: notifications end some servers.
    pub(super) fn takes_notifications(&self) -> bool {
        let gets_handshake = self.is_successor || !matches!(self.handshake, Handshake::Needed);
        self.engaged || (self.service == Service::Legacy && gets_handshake)
    }

    /// The destination of other lines of a peer; notes that its sender has one.
    pub(super) fn sink_of<'a>(
        &'a mut self,
        origin: Origin<'_>,
        out: &'a mut Output,
    ) -> &'a mut Chunks {
        let holding = self.is_holding();
        let turns = self.turns.as_mut();
        let waits =
            turns.is_some_and(|turns| holding || !turns.admit(origin.sender, origin.request));
        if !waits {
            return self.shared_sink(origin, out);
        }
        // It is only queued while senders take turns.
        let turns = self.turns.get_or_insert_default();
        turns.queue(origin.sender, origin.session, origin.request)
    }

    /// Releases held lines to the process, unless it has closed its stdin: its end fails what is held.
    pub(super) fn release(&mut self, peers: &mut Peers, out: &mut Output) {
        if self.down {
            return;
        }
        self.evidence.release(peers.numbers.newest);
        out.lines(self.id).append(&mut self.held);
        for ours in std::mem::take(&mut self.held_requests) {
            self.in_flight.give(ours, out.now);
        }
        self.pass_turn(peers, out);
        self.tools.tell_ready(out);
    }

    /// Drops held lines.
    pub(super) fn discard(&mut self) {
        self.held = Chunks::default();
        self.held_requests.clear();
        self.queue.clear();
        self.evidence = Evidence::default();
        if let Some(turns) = &mut self.turns {
            turns.clear();
        }
    }

    /// Bytes that are held here for the process.
    pub(super) fn waiting(&self) -> usize {
        self.held.len() + self.opening_bytes() + self.turns.as_ref().map_or(0, Turns::len)
    }

    /// True for a request that waits for the turn of its sender.
    pub(super) fn holds(&self, request: i64) -> bool {
        self.turns
            .as_ref()
            .is_some_and(|turns| turns.holds(request))
    }

    /// True while senders take turns.
    pub(super) fn takes_turns(&self) -> bool {
        self.turns.is_some()
    }

    /// The process has answered the request `ours`.
    pub(super) fn answered(&mut self, ours: i64, peers: &mut Peers, out: &mut Output) {
        self.evidence.answered(ours);
        self.renewals.remove(&ours);
        if let Some(turns) = &mut self.turns
            && turns.answered(ours)
        {
            self.pass_turn(peers, out);
        }
    }

    /// Ends a turn that began before the last tick.
    pub(super) fn tick(&mut self, peers: &mut Peers, out: &mut Output) {
        if let Some(turns) = &mut self.turns
            && turns.tick()
        {
            self.pass_turn(peers, out);
        }
    }

    /// Ends the turns, unless the process is not ready for what waits: all lines are sent at once again.
    pub(super) fn end_turns(&mut self, peers: &mut Peers, out: &mut Output) {
        if self.is_holding() {
            return;
        }
        let mut turns = self.turns.take().unwrap_or_default();
        while let Some(next) = turns.pass() {
            self.begin_turn(next, peers, out);
        }
    }

    /// Begins the turn of the next sender of whom anything is sent.
    fn pass_turn(&mut self, peers: &mut Peers, out: &mut Output) {
        while !self.is_holding()
            && let Some(next) = self.turns.as_mut().and_then(Turns::pass)
        {
            if self.begin_turn(next, peers, out) {
                return;
            }
        }
    }

    /// Sends what a sender has waiting, except for calls of tools that have changed meanwhile; false if nothing is sent.
    fn begin_turn(
        &mut self,
        mut next: turns::Waiting,
        peers: &mut Peers,
        out: &mut Output,
    ) -> bool {
        let mut sends = false;
        for line in &mut next.lines {
            if let Some(request) = line.request {
                if self.refuse_waiting_call(request, peers, out) {
                    // It has got an error.
                    if let Some(turns) = &mut self.turns {
                        turns.answered(request);
                    }
                    continue;
                }
                if self.delivery(request) == Delivery::Given {
                    self.in_flight.give(request, out.now);
                }
            }
            let (held, answerable) = (self.is_holding(), line.request.is_some());
            let latest = peers.numbers.newest;
            self.evidence.note(&next.sender, held, answerable, latest);
            self.sink(out).append(&mut line.text);
            sends = true;
        }
        sends
    }
}
