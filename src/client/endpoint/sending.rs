//! Decides what is sent to the server next, and when.

use super::phase::Phase;
use super::{Action, Endpoint, HostPhase, PATIENCE, without_newline};
use crate::control::Control;
use bytes::Bytes;
use std::time::Instant;

impl Endpoint {
    /// The next action of the sending half, which has sent what the last one was about.
    pub(in crate::client) fn poll(&mut self, now: Instant) -> Action {
        let action = self.decide(now);
        self.is_sending = matches!(action, Action::Send(_));
        action
    }

    fn decide(&mut self, now: Instant) -> Action {
        if let Some(control) = self.control.take() {
            return send(&control);
        }
        let lines = self.take_lines(now);
        if lines.is_empty() {
            if self.is_goodbye_due() {
                return send(&Control::Leave {});
            }
            if self.is_done() {
                return Action::Finish;
            }
        }
        let (lines, acknowledge_at) = match &mut self.phase {
            Phase::Established(session) => {
                let draining = self.outbound.is_draining();
                session.acknowledge(self.outbound.receipts(), draining, lines, now)
            }
            _ => (lines, None),
        };
        if !lines.is_empty() {
            return Action::Send(lines);
        }
        self.complain(now);
        match self.phase.answer_by(self.began, self.outbound.is_holding()) {
            Some(by) if by <= now => self.on_overdue(now),
            answer_by => Action::Wait {
                read_host: self.may_read_host(),
                until: [acknowledge_at.or(answer_by), self.patience_until]
                    .into_iter()
                    .flatten()
                    .min(),
            },
        }
    }

    /// Tells the user once if `initialize` is still pending.
    fn complain(&mut self, now: Instant) {
        let is_late = self.patience_until.take_if(|until| *until <= now);
        if is_late.is_some() && self.pending.awaits_initialize() {
            tracing::warn!(
                "still no answer to 'initialize'; is this the port of an MCP server, and does that server start?"
            );
        }
    }

    /// True while the server accepts no lines.
    fn is_blocked(&self) -> bool {
        match &self.phase {
            Phase::Established(session) => session.said_goodbye || self.outbound.is_congested(),
            phase => phase.awaits_answer(),
        }
    }

    fn may_read_host(&self) -> bool {
        self.host < HostPhase::Finished
            && !self.is_blocked()
            && !self.outbound.is_holding()
            && self.outbound.has_room()
    }

    fn take_lines(&mut self, now: Instant) -> Vec<Bytes> {
        if self.is_blocked() {
            return Vec::new();
        }
        let batch = self.outbound.take();
        for line in batch.lines.iter().skip(batch.resent) {
            if self.pending.on_sent(&without_newline(line)) {
                self.patience_until = Some(now + PATIENCE);
            }
        }
        batch.lines
    }

    /// True once on a connection, when a goodbye is to be sent with no line before it.
    fn is_goodbye_due(&mut self) -> bool {
        let served = self.is_host_served() && !self.pending.expects_complaint();
        let leaves = self.host == HostPhase::Abandoned || served;
        match &mut self.phase {
            Phase::Established(session) if leaves && !session.said_goodbye => {
                session.said_goodbye = true;
                true
            }
            _ => false,
        }
    }

    fn on_overdue(&mut self, now: Instant) -> Action {
        match self.phase {
            Phase::Probing => {
                self.phase = Phase::Undecided;
                return self.decide(now);
            }
            Phase::Resuming => self.negotiation.timed_out(),
            _ => {}
        }
        Action::GiveUp
    }
}

fn send(control: &Control) -> Action {
    Action::Send(vec![control.to_line().into()])
}
