//! The life of a process as the router sees it: its start, its end, and the state that its
//! successor gets.

use super::blame::Blame;
use super::in_flight::InFlight;
use super::listen_requests::LISTEN;
use super::openings::{Handshake, Opening};
use super::peers::Peers;
use super::pending::{Delivery, Pending, Purpose};
use super::process::{self, Process, Service};
use super::{Cause, Exit, Output, ProcessId, Router};
use crate::jsonrpc::RequestId;
use crate::utils::chunks::Chunks;

impl Router {
    /// Why this process has ended, to be called before [`Router::child_exited`]; `overdue` if it was ended
    /// because it missed a deadline.
    #[must_use]
    pub fn cause_of_end(&self, process: ProcessId, overdue: bool) -> Cause {
        self.processes[process.0].cause_of_end(overdue, &self.peers)
    }

    /// A process has ended: its pending requests get an error. If another one follows, it gets the
    /// handshake, and the log level and subscriptions that this process had confirmed.
    pub fn child_exited(&mut self, id: ProcessId, exit: &Exit, out: &mut Output) {
        if self.is_probing(id) && self.legacy_only.is_none() {
            self.probe_was_fatal(id, out);
        }
        let fresh = Process::new(id, self.window, self.processes[id.0].ids.clone());
        let mut old = std::mem::replace(&mut self.processes[id.0], fresh);
        // Calls that wait for its list of tools have to request that of the next process.
        out.learned = true;
        old.subscriptions.invalidate();
        let _lost = out.take(id, Chunks::default());
        let kept = old.end_requests(exit, &self.blame, &mut self.peers, out);
        for (ours, request) in old.server_requests.all() {
            let mut line = Chunks::default();
            let (ours, reason) = (RequestId::Number(ours), "the MCP server has exited");
            process::write_cancelled(&ours, reason, &mut line);
            out.tell(request.of.session, line);
        }
        for opening in old.take_lost_openings(exit) {
            out.tell(opening.session, exit.error_line(&opening.id));
        }
        if exit.restarts {
            self.processes[id.0] = old.renewed(kept, exit);
        } else {
            // Messages that have waited for room in its queue go elsewhere.
            self.processes[id.0].queue.clear();
        }
    }

    /// The router's own request that this process has not answered: its number, and the method.
    #[must_use]
    pub fn awaited(&self, process: ProcessId) -> Option<(i64, &'static str)> {
        let process = &self.processes[process.0];
        match (process.service, &process.handshake) {
            (Service::Probing(ours) | Service::Returning(Some(ours)), _) => {
                Some((ours, "server/discover"))
            }
            (_, Handshake::Sent(sent)) => Some((sent.ours, "initialize")),
            _ => process.open_renewal(),
        }
    }

    /// The process has closed its stdin: lines for it wait for its successor.
    pub fn stopped_reading(&mut self, process: ProcessId) {
        self.processes[process.0].down = true;
    }

    /// True if a process gets the messages of one sender at a time: [`Router::tick`] is to be called
    /// periodically, and [`Router::end_turns`] once it has lived long enough.
    #[must_use]
    pub fn takes_turns(&self, process: ProcessId) -> bool {
        self.processes[process.0].takes_turns()
    }

    /// Advances the turns: a sender whose turn began before the last tick has had it for long
    /// enough.
    pub fn tick(&mut self, process: ProcessId, out: &mut Output) {
        let (process, peers) = self.process(process);
        process.tick(peers, out);
    }

    /// Ends the turns: the process is healthy, and gets the messages of all senders. Does nothing while it is not ready
    /// for them.
    pub fn end_turns(&mut self, process: ProcessId, out: &mut Output) {
        let (process, peers) = self.process(process);
        process.end_turns(peers, out);
    }

    /// A process has started.
    pub fn child_started(&mut self, process: ProcessId, out: &mut Output) {
        let (process, peers) = self.process(process);
        process.started(peers, out);
    }
}

impl Process {
    /// It gets its predecessor's state once it has answered one of the router's own requests: if it ends
    /// before, that is its own failure.
    fn started(&mut self, peers: &mut Peers, out: &mut Output) {
        self.down = false;
        if self.is_probing() || matches!(self.handshake, Handshake::Sent(_)) {
            return;
        }
        if self.service == Service::Returning(None) {
            let ours = peers.numbers.next();
            self.service = Service::Returning(Some(ours));
            process::send_discover(self.id, &self.ids.of(ours), out);
        } else if self.is_successor {
            self.begin_handshake(None, peers, out);
        } else {
            self.release(peers, out);
        }
    }

    /// Sends the listen requests of the last process to this one, and the lines that were held for
    /// it.
    pub(super) fn renew_listen_requests(&mut self, peers: &mut Peers, out: &mut Output) {
        for (ours, listen) in self.in_flight.lost_listen_requests() {
            self.engaged = true;
            self.evidence.renew(None);
            self.renewals.insert(ours, LISTEN);
            out.note_asked(self.id);
            listen.renew(&self.ids.of(ours), out.lines(self.id));
        }
        self.release(peers, out);
    }

    fn cause_of_end(&self, overdue: bool, peers: &Peers) -> Cause {
        if overdue && self.open_renewal().is_some() {
            return Cause::Renewal;
        }
        let introduced = match &self.handshake {
            Handshake::Sent(sent) => sent.introduced.as_ref(),
            _ => None,
        };
        let open = self.in_flight.iter().filter_map(|(ours, pending)| {
            let session = peers.get(pending.session)?;
            let is_confirmed =
                matches!(&pending.purpose, Purpose::Listen(listen) if listen.confirmed);
            let is_open = session.waits_for(&pending.id, ours)
                && !is_confirmed
                && pending.delivery == Delivery::Given;
            is_open.then_some(&session.sender)
        });
        match self.evidence.cause(introduced, open) {
            Cause::Itself if self.is_probing() => Cause::Probe,
            cause => cause,
        }
    }

    /// Fails its pending requests; returns those that its successor still gets.
    fn end_requests(
        &mut self,
        exit: &Exit,
        blame: &Blame,
        peers: &mut Peers,
        out: &mut Output,
    ) -> InFlight {
        let modern = matches!(self.service, Service::Modern | Service::Returning(_));
        let renews = exit.restarts && !exit.forgets && modern;
        // A request that was never sent has ended no process. But if it is unknown who ends them, or whom the
        // next one serves, all start over, and requests for an overdue one have waited long enough.
        let hands_on = exit.restarts
            && !exit.suspicious
            && exit.overdue.is_none()
            && !matches!(self.service, Service::Probing(_));
        let mut kept = InFlight::default();
        let mut level_is_open = false;
        for (ours, mut pending) in self.in_flight.take() {
            let Some(session) = peers.get_mut(pending.session) else {
                continue;
            };
            if let Purpose::SetLevel { asked, .. } = pending.purpose {
                session.level_answered(asked, false);
                level_is_open = true;
            }
            if hands_on && pending.can_be_handed_on() && !blame.knows(&session.sender) {
                kept.insert(ours, pending);
                continue;
            }
            if pending.delivery == Delivery::Queued {
                self.queue.take_back(pending.session, ours);
            }
            match &mut pending.purpose {
                Purpose::Listen(listen) if renews && listen.is_renewable() => {
                    listen.lost = true;
                    kept.insert(ours, pending);
                }
                _ if session.answered(&pending.id, ours) => {
                    out.tell(pending.session, exit.error_of(&pending));
                }
                _ => {}
            }
        }
        if !hands_on {
            self.queue.clear();
        }
        if level_is_open {
            // The sessions want what they wanted before.
            self.level = peers.most_verbose();
        }
        kept
    }

    /// Takes those that do not wait for another process: the one that has ended this one, or all, if none
    /// follows or they have waited long enough.
    fn take_lost_openings(&mut self, exit: &Exit) -> Vec<Opening> {
        if !exit.restarts || exit.overdue.is_some() {
            return std::mem::take(&mut self.openings);
        }
        let asked = match &self.handshake {
            Handshake::Sent(sent) if sent.introduced.is_some() => sent.requester,
            _ => None,
        };
        let lost = asked.and_then(|session| self.take_opening(session));
        lost.into_iter().collect()
    }
}

impl Pending {
    /// True if the process was never sent it, so that its successor can be.
    fn can_be_handed_on(&self) -> bool {
        self.delivery == Delivery::Queued && !matches!(self.purpose, Purpose::OfTask)
    }
}
