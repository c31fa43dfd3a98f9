//! Calls of pinned tools, which wait until the tools of their process are known.

use super::known_tools::ToolsKnown;
use super::peers::Peers;
use super::process::{Process, Service};
use super::{Output, Router, SessionId, own_answer};
use crate::jsonrpc::Message;
use crate::permissions::PinnedCall;
use std::time::Instant;

impl Router {
    /// Whether the tools of the process that would serve a call are known. `message` is the call. Starts the process
    /// and requests its list if necessary.
    pub fn learn_tools(
        &mut self,
        from: SessionId,
        (message, call): (&Message, &PinnedCall),
        now: Instant,
        out: &mut Output,
    ) -> ToolsKnown {
        let process = self.process_for(from, message, out);
        let (process, peers) = self.process(process);
        process.open_handshake(None, peers, out);
        if process.is_holding() {
            return process.tools.wait();
        }
        if process.tools.is_due(call, now) {
            let id = process.ids.of(peers.numbers.next());
            let is_modern = process.service == Service::Modern;
            let lines = out.lines(process.id);
            process.tools.ask(id, call, is_modern, lines);
        }
        process.tools.state(call)
    }

    /// The process that would serve this message has not answered with its list in time.
    pub fn give_up_tools(&mut self, from: SessionId, message: &Message, out: &mut Output) {
        if let Some(process) = self.destination(from, message) {
            self.processes[process.0].tools.give_up(out);
        }
    }
}

impl Process {
    /// Refuses a call that has waited for its turn if its tool has changed meanwhile, or the tools are not known any more;
    /// true if it has been refused.
    pub(super) fn refuse_waiting_call(
        &mut self,
        ours: i64,
        peers: &mut Peers,
        out: &mut Output,
    ) -> bool {
        let call = self.in_flight.get(ours);
        let call = call.and_then(|pending| pending.pinned.as_deref());
        if call.is_none_or(|call| self.tools.judge(call) == Some(true)) {
            return false;
        }
        if let Some(pending) = self.in_flight.remove(ours) {
            self.queue.close(pending.session, ours);
            let session = peers.get_mut(pending.session);
            if session.is_some_and(|session| session.answered(&pending.id, ours)) {
                out.tell(pending.session, own_answer::tools_changed(&pending.id));
            }
        }
        true
    }
}
