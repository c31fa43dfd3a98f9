//! From a process of the MCP server to peers.

use super::process::Service;
use super::{Output, ProcessId, Router};
use crate::jsonrpc::{Kind, Message};
use std::time::Instant;

impl Router {
    /// Handles a message from a process; `now` is called only if something has to be delayed.
    pub fn child_message(
        &mut self,
        process: ProcessId,
        message: &Message,
        now: impl FnOnce() -> Instant,
        out: &mut Output,
    ) {
        let (from, peers) = self.process(process);
        match message.kind() {
            Kind::Response(Some(id)) => match from.ids.number(id, &peers.numbers) {
                Some(ours) => self.answer(process, (ours, message), now, out),
                None => {
                    tracing::debug!(%id, "dropped an answer to nothing that was asked");
                    out.unasked = true;
                }
            },
            Kind::Response(_) => {
                // Some servers answer notifications this way.
                tracing::debug!("dropped an answer of the MCP server without an id");
            }
            Kind::Request(id) => from.server_request(id, message, now, peers, out),
            Kind::Notification => from.notification(message, now, peers, out),
        }
    }

    fn answer(
        &mut self,
        id: ProcessId,
        (ours, message): (i64, &Message),
        now: impl FnOnce() -> Instant,
        out: &mut Output,
    ) {
        let (process, peers) = self.process(id);
        process.answered(ours, peers, out);
        if process.handshake_is_answered_by(ours) {
            process.handshake_answered(message, peers, out);
        } else if process.service == Service::Probing(ours) {
            self.discovered(id, message, out);
        } else if process.service == Service::Returning(Some(ours)) {
            process.service = Service::Modern;
            process.renew_listen_requests(peers, out);
        } else if (process.tools.asked()).is_some_and(|id| *id == process.ids.of(ours)) {
            let next = || process.ids.of(peers.numbers.next());
            process.tools.answered(message, now(), next, id, out);
        } else {
            process.answer(ours, message, peers, out);
        }
    }
}
