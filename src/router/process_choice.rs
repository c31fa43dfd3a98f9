//! Which process serves whom: servers on the official SDKs serve peers of one era in one process,
//! so each era has its own.
//!
//! Before the first modern peer is served, the router asks by itself whether the server is modern,
//! so that the answer does not depend on what a peer may send: a malformed `server/discover` would
//! make every server look legacy.

use super::pending::{Delivery, Pending, Purpose};
use super::process::{self, Service};
use super::{Command, Output, ProcessId, Router, SessionId};
use crate::jsonrpc::{Code, Field, Kind, MAX_CHILD_DEPTH, Message, NO_DATA, RequestId, error_line};

/// How many processes in a row may end while they are asked for their era; then that is taken for
/// an answer: some legacy servers end when the first message is not `initialize`.
const MAX_FATAL_PROBES: u8 = 2;

impl Router {
    /// The process that serves `message`, which is started where there is none.
    pub(super) fn process_for(
        &mut self,
        from: SessionId,
        message: &Message,
        out: &mut Output,
    ) -> ProcessId {
        let modern = self.is_modern(from, message);
        if let Some(session) = self.sessions.get_mut(&from) {
            session.modern = modern;
        }
        let modern = modern && self.legacy_only.is_none();
        let process = match self.serving(modern) {
            Some(process) => process,
            None => self.claim_for(modern, out),
        };
        if let Some(session) = self.sessions.get_mut(&from) {
            session.uses[process.0] = true;
        }
        process
    }

    /// True for a message of a modern peer, as far as it has told.
    fn is_modern(&self, from: SessionId, message: &Message) -> bool {
        let session = self.sessions.get(&from);
        match message.method() {
            "initialize" => false,
            _ => message.is_modern() || session.is_some_and(|session| session.modern),
        }
    }

    /// The process that serves peers of this era, if one does.
    fn serving(&self, modern: bool) -> Option<ProcessId> {
        let serves = |process: &ProcessId| match self.processes[process.0].service {
            Service::Legacy => !modern,
            Service::Modern | Service::Probing(_) | Service::Returning(_) => modern,
            Service::Idle | Service::Fresh => false,
        };
        ProcessId::ALL.into_iter().find(serves)
    }

    /// Where a message would go now, if anywhere.
    #[must_use]
    pub fn destination(&self, from: SessionId, message: &Message) -> Option<ProcessId> {
        let asked = |id: &RequestId| {
            let RequestId::Number(ours) = id else {
                return None;
            };
            let mut processes = ProcessId::ALL.into_iter();
            processes.find(|process| self.processes[process.0].asks.get(*ours, from).is_some())
        };
        match (message.kind(), message.method()) {
            (Kind::Response(id), _) => asked(id.as_ref()?),
            (Kind::Notification, "notifications/progress") => {
                asked(&message.quoted_id(Field::ProgressToken)?.0)
            }
            (Kind::Notification, "notifications/cancelled") => {
                let (id, _) = message.quoted_id(Field::RequestId)?;
                Some(self.sessions.get(&from)?.find(&id)?.0)
            }
            _ => {
                let modern = self.is_modern(from, message) && self.legacy_only.is_none();
                Some(self.serving(modern).unwrap_or_else(|| self.unclaimed()))
            }
        }
    }

    fn claim_for(&mut self, modern: bool, out: &mut Output) -> ProcessId {
        let process = self.claim(out);
        if modern {
            let ours = self.fresh_id();
            let state = &mut self.processes[process.0];
            state.service = Service::Probing(ours);
            process::send_discover(process, ours, out);
        } else {
            self.processes[process.0].service = Service::Legacy;
        }
        process
    }

    /// A process that serves nobody yet.
    fn claim(&mut self, out: &mut Output) -> ProcessId {
        let process = self.unclaimed();
        if self.processes[process.0].service != Service::Fresh {
            self.processes[process.0].down = true;
            out.commands.push(Command::Start(process));
        }
        process
    }

    fn unclaimed(&self) -> ProcessId {
        let find = |service| {
            ProcessId::ALL
                .into_iter()
                .find(|process| self.processes[process.0].service == service)
        };
        // There are as many processes as eras: were neither idle, one of them would serve this era.
        let idle = || find(Service::Idle).unwrap_or(ProcessId::FIRST);
        find(Service::Fresh).unwrap_or_else(idle)
    }

    /// True while the process is asked for its era.
    #[must_use]
    pub fn is_probing(&self, process: ProcessId) -> bool {
        matches!(self.processes[process.0].service, Service::Probing(_))
    }

    /// The server has told its era. Errors of 2026-07-28's own range come from modern servers only
    /// (basic "Error Codes").
    pub(super) fn discovered(&mut self, process: ProcessId, answer: &Message, out: &mut Output) {
        self.fatal_probes = 0;
        let modern = answer.result().is_some()
            || answer
                .error_code()
                .is_some_and(|code| (-32099..=-32020).contains(&code));
        if modern {
            let state = &mut self.processes[process.0];
            state.service = Service::Modern;
            state.release(process, self.next_id, out);
            return;
        }
        self.legacy_only = Some(answer.detached());
        self.answer_discovers(process, out);
        if self.serves_legacy() {
            out.commands.push(Command::Stop(process));
            return;
        }
        let state = &mut self.processes[process.0];
        state.service = Service::Fresh;
        // Whoever does not ask but goes ahead gets the server's own word on it.
        if state.in_flight.is_empty() {
            state.forgotten.clear();
            state.discard();
        } else {
            state.release(process, self.next_id, out);
        }
    }

    /// The process has ended before it told its era.
    pub(super) fn probe_was_fatal(&mut self, process: ProcessId, out: &mut Output) {
        self.fatal_probes += 1;
        if self.fatal_probes < MAX_FATAL_PROBES {
            return;
        }
        let text = "Method not found: the MCP server ends when it is asked";
        let line = error_line(
            Some(&RequestId::Number(0)),
            Code::MethodNotFound,
            text,
            NO_DATA,
        );
        self.legacy_only = Message::read(line.into(), MAX_CHILD_DEPTH).ok();
        self.answer_discovers(process, out);
        if self.serves_legacy() {
            out.commands.push(Command::Stop(process));
        }
    }

    fn serves_legacy(&self) -> bool {
        self.processes
            .iter()
            .any(|process| process.service == Service::Legacy)
    }

    /// Whoever asks a process whether the server is modern is told that it is not.
    fn answer_discovers(&mut self, process: ProcessId, out: &mut Output) {
        let Some(error) = &self.legacy_only else {
            return;
        };
        let state = &mut self.processes[process.0];
        let is_discover = |pending: &Pending| matches!(pending.purpose, Purpose::Discover);
        let asked = state.in_flight.iter();
        let asked = asked.filter(|(_, pending)| is_discover(pending));
        let mut asked: Vec<i64> = asked.map(|(ours, _)| ours).collect();
        asked.sort_unstable();
        for ours in asked {
            let Some(pending) = state.end(ours) else {
                continue;
            };
            let Some(session) = self.sessions.get_mut(&pending.session) else {
                continue;
            };
            if pending.delivery != Delivery::Queued {
                // What was held may still be passed on.
                state.note(session.origin(None, self.next_id));
                let owner = &session.owner;
                state.forgotten.insert(ours, pending.session, owner);
            }
            if session.answered(&pending.id, ours) {
                out.deliver(pending.session, error, Some(&pending.id), &[]);
            }
        }
    }
}
