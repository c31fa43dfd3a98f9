//! The life of a process as the router sees it: its start, its end, and what its successor is told.

use super::in_flight::InFlight;
use super::openings::{Handshake, Opening};
use super::pending::{Delivery, Purpose};
use super::process::{self, Process, Service};
use super::{Cause, Exit, Output, ProcessId, Router};
use crate::jsonrpc::RequestId;
use crate::utils::chunks::Chunks;

impl Router {
    /// Why this process has ended, to be asked before [`Router::child_exited`]; `overdue`
    /// where it was ended because it had not answered in time.
    #[must_use]
    pub fn cause_of_end(&self, process: ProcessId, overdue: bool) -> Cause {
        let state = &self.processes[process.0];
        if overdue && state.open_renewal().is_some() {
            return Cause::Renewal;
        }
        let introduced = match &state.handshake {
            Handshake::Sent(sent) => sent.introduced.as_ref(),
            _ => None,
        };
        let open = state.in_flight.iter().filter_map(|(ours, pending)| {
            let session = self.sessions.get(&pending.session)?;
            let is_confirmed =
                matches!(&pending.purpose, Purpose::Listen(listen) if listen.confirmed);
            let is_open = session.waits_for(&pending.id, ours)
                && !is_confirmed
                && pending.delivery == Delivery::Given;
            is_open.then_some(&session.sender)
        });
        match state.evidence.cause(introduced, open) {
            Cause::Itself if self.is_probing(process) => Cause::Probe,
            cause => cause,
        }
    }

    /// A process has ended: everybody who waits for it gets an error. Where another one
    /// follows, the handshake is kept for it, and of log level and subscriptions what the process has
    /// agreed to.
    pub fn child_exited(&mut self, process: ProcessId, exit: &Exit, out: &mut Output) {
        if self.is_probing(process) && self.legacy_only.is_none() {
            self.probe_was_fatal(process, out);
        }
        let mut old = std::mem::replace(&mut self.processes[process.0], Process::new(self.window));
        old.subscriptions.lapse();
        let _lost = out.take(process, Chunks::default());
        let kept = self.end_requests(&mut old, exit, out);
        for (ours, ask) in old.asks.all() {
            let mut line = Chunks::default();
            process::write_cancelled(
                &RequestId::Number(ours),
                "the MCP server has exited",
                &mut line,
            );
            out.to_peer.push((ask.of.session, line.into()));
        }
        for opening in lost_openings(&mut old, exit) {
            out.to_peer
                .push((opening.session, exit.error_line(&opening.id)));
        }
        if exit.restarts {
            self.processes[process.0] = old.renewed(kept, exit);
        }
    }

    /// Answers what the process has not answered; gives what its successor is still asked.
    fn end_requests(&mut self, old: &mut Process, exit: &Exit, out: &mut Output) -> InFlight {
        let modern = matches!(old.service, Service::Modern | Service::Returning(_));
        let renews = exit.restarts && !exit.forgets && modern;
        // What no process has been given has ended none. But where it is not known who ends them, or whom
        // the next one serves, all begin anew, and whoever waits for an overdue one has waited long enough.
        let hands_on = exit.restarts
            && !exit.suspicious
            && exit.overdue.is_none()
            && !matches!(old.service, Service::Probing(_));
        let mut kept = InFlight::default();
        let mut level_is_open = false;
        for (ours, mut pending) in old.in_flight.take() {
            let Some(session) = self.sessions.get_mut(&pending.session) else {
                continue;
            };
            if let Purpose::SetLevel(_) = pending.purpose {
                session.level = None;
                level_is_open = true;
            }
            if pending.delivery == Delivery::Queued
                && hands_on
                && !matches!(pending.purpose, Purpose::OfTask)
                && !self.blame.knows(&session.sender)
            {
                kept.insert(ours, pending);
                continue;
            }
            if pending.delivery == Delivery::Queued {
                old.queue.take_back(pending.session, ours);
            }
            match &mut pending.purpose {
                Purpose::Listen(listen) if renews && listen.is_renewable() => {
                    listen.lost = true;
                    kept.insert(ours, pending);
                }
                _ if session.answered(&pending.id, ours) => {
                    out.to_peer.push((pending.session, exit.error_of(&pending)));
                }
                _ => {}
            }
        }
        if !hands_on {
            old.queue.clear();
        }
        if level_is_open {
            // What it was told before was what the others want.
            old.level = self.most_verbose();
        }
        kept
    }

    /// What the router itself has asked this process that it has not answered: the id, and
    /// the method.
    #[must_use]
    pub fn awaited(&self, process: ProcessId) -> Option<(i64, &'static str)> {
        let state = &self.processes[process.0];
        match (state.service, &state.handshake) {
            (Service::Probing(ours) | Service::Returning(Some(ours)), _) => {
                Some((ours, "server/discover"))
            }
            (_, Handshake::Sent(sent)) => Some((sent.ours, "initialize")),
            _ => state.open_renewal(),
        }
    }

    /// True where a process hears one sender at a time: [`Router::tick`] is to be called now and then,
    /// and [`Router::end_turns`] once it has lived for long enough.
    #[must_use]
    pub fn takes_turns(&self, process: ProcessId) -> bool {
        self.processes[process.0].takes_turns()
    }

    /// Some time has passed: who has had its turn since the last tick has had it for long enough.
    pub fn tick(&mut self, process: ProcessId, out: &mut Output) {
        self.processes[process.0].tick(process, self.next_id, out);
    }

    /// The process is all right: it hears everybody.
    pub fn end_turns(&mut self, process: ProcessId, out: &mut Output) {
        self.processes[process.0].end_turns(process, self.next_id, out);
    }

    /// A process has started. What its predecessor knew is told to it once it has answered a
    /// request of the router's own: one that ends before that ends by itself.
    pub fn child_started(&mut self, process: ProcessId, out: &mut Output) {
        let probing = self.is_probing(process);
        let state = &mut self.processes[process.0];
        state.down = false;
        if probing || matches!(state.handshake, Handshake::Sent(_)) {
            return;
        }
        if state.service == Service::Returning(None) {
            let ours = self.fresh_id();
            self.processes[process.0].service = Service::Returning(Some(ours));
            process::send_discover(process, ours, out);
        } else if state.is_successor {
            self.begin_handshake(process, None, out);
        } else {
            state.release(process, self.next_id, out);
        }
    }
}

/// Takes those who do not wait for another process: the one that this has ended at, and all where none
/// follows or they have waited for long enough.
fn lost_openings(process: &mut Process, exit: &Exit) -> Vec<Opening> {
    if !exit.restarts || exit.overdue.is_some() {
        return std::mem::take(&mut process.openings);
    }
    let asked = match &process.handshake {
        Handshake::Sent(sent) if sent.introduced.is_some() => sent.requester,
        _ => None,
    };
    let lost = asked.and_then(|session| process.take_opening(session));
    lost.into_iter().collect()
}
