//! When a process gets which lines: at once, once it is ready for them, or one sender after the other.

use super::evidence::{Evidence, Sender};
use super::handshake::Handshake;
use super::lane::{Lane, Service};
use super::session::Session;
use super::turns::{Turns, Waiting};
use super::{LaneId, Output};
use crate::utils::rope::Rope;

/// Where a line for the process comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub sender: &'a Sender,
    /// Its id, if it is a request.
    pub request: Option<i64>,
    /// The newest id.
    pub latest: i64,
}

impl Lane {
    /// True while what is for the process waits here.
    fn is_holding(&self) -> bool {
        self.down
            || matches!(self.handshake, Handshake::Sent(_))
            || matches!(self.service, Service::Probing(_) | Service::Returning(_))
    }

    /// Where lines for the child go now.
    pub(super) fn sink<'a>(&'a mut self, lane: LaneId, out: &'a mut Output) -> &'a mut Rope {
        if self.is_holding() {
            &mut self.held
        } else {
            &mut out.to_child[lane.0]
        }
    }

    /// Where lines go that change what the process knows of all its peers, which stay in order; notes
    /// that `sender` has one.
    pub(super) fn shared_sink<'a>(
        &'a mut self,
        lane: LaneId,
        origin: Origin<'_>,
        out: &'a mut Output,
    ) -> &'a mut Rope {
        self.note(origin);
        self.sink(lane, out)
    }

    /// Notes that `origin` has had something to say.
    pub(super) fn note(&mut self, origin: Origin<'_>) {
        let held = self.is_holding();
        let answerable = origin.request.is_some();
        self.evidence
            .note(origin.sender, held, answerable, origin.latest);
    }

    /// Where other lines of a peer go; notes that its sender has one.
    pub(super) fn sink_of<'a>(
        &'a mut self,
        lane: LaneId,
        origin: Origin<'_>,
        out: &'a mut Output,
    ) -> &'a mut Rope {
        let holding = self.is_holding();
        let turns = self.turns.as_mut();
        let waits =
            turns.is_some_and(|turns| holding || !turns.admit(origin.sender, origin.request));
        if !waits {
            return self.shared_sink(lane, origin, out);
        }
        // There are turns, or it would not wait.
        let turns = self.turns.get_or_insert_default();
        turns.queue(origin.sender, origin.request)
    }

    /// Lets the process have what was held.
    pub(super) fn release(&mut self, lane: LaneId, latest: i64, out: &mut Output) {
        self.evidence.release(latest);
        out.to_child[lane.0].append(&mut self.held);
        self.pass_turn(lane, latest, out);
    }

    /// Forgets what was held.
    pub(super) fn discard(&mut self) {
        self.held = Rope::default();
        self.evidence = Evidence::default();
        if let Some(turns) = &mut self.turns {
            turns.clear();
        }
    }

    /// Bytes that wait here for the process.
    pub(super) fn waiting(&self) -> usize {
        self.held.len() + self.opening_bytes() + self.turns.as_ref().map_or(0, Turns::len)
    }

    /// True for a request that the process has not been given.
    pub(super) fn holds(&self, request: i64) -> bool {
        self.turns
            .as_ref()
            .is_some_and(|turns| turns.holds(request))
    }

    /// How many requests of this session the process has not been given. `lane` is this one.
    pub(super) fn held_of(&self, session: &Session, lane: LaneId) -> usize {
        if !self.takes_turns() {
            return 0;
        }
        let mine = session.requests().filter(|(of, _)| *of == lane);
        mine.filter(|(_, ours)| self.holds(*ours)).count()
    }

    /// True while one sender is heard at a time.
    pub(super) fn takes_turns(&self) -> bool {
        self.turns.is_some()
    }

    /// The process has answered the request `ours`.
    pub(super) fn answered(&mut self, lane: LaneId, ours: i64, latest: i64, out: &mut Output) {
        self.evidence.answered(ours);
        self.renewals.remove(&ours);
        if let Some(turns) = &mut self.turns
            && turns.answered(ours)
        {
            self.pass_turn(lane, latest, out);
        }
    }

    /// A turn that has begun before the last tick is over.
    pub(super) fn tick(&mut self, lane: LaneId, latest: i64, out: &mut Output) {
        if let Some(turns) = &mut self.turns
            && turns.tick()
        {
            self.pass_turn(lane, latest, out);
        }
    }

    /// All are heard at once again.
    pub(super) fn end_turns(&mut self, lane: LaneId, latest: i64, out: &mut Output) {
        let mut turns = self.turns.take().unwrap_or_default();
        while let Some(next) = turns.pass() {
            self.begin_turn(lane, next, latest, out);
        }
    }

    fn pass_turn(&mut self, lane: LaneId, latest: i64, out: &mut Output) {
        if !self.is_holding()
            && let Some(next) = self.turns.as_mut().and_then(Turns::pass)
        {
            self.begin_turn(lane, next, latest, out);
        }
    }

    fn begin_turn(&mut self, lane: LaneId, mut next: Waiting, latest: i64, out: &mut Output) {
        let (held, answerable) = (self.is_holding(), !next.unanswerable);
        self.evidence.note(&next.sender, held, answerable, latest);
        self.sink(lane, out).append(&mut next.lines);
    }
}
