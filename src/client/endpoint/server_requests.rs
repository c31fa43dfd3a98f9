//! The server's requests to the host, and the host's responses to them.

use super::line::{Verdict, without_newline};
use crate::jsonrpc::{Edit, Kind, MAX_CHILD_DEPTH, Message, Replacement, RequestId};
use crate::mcp::Field;
use crate::utils::chunks::Pieces;
use bytes::Bytes;
use std::collections::VecDeque;

/// Server requests whose ids could be confused with earlier ones get ids with this prefix.
const RENAMED: &str = "mcp-remote/again-";

/// How many are remembered, open ones and abandoned ones each; the oldest are forgotten first.
pub(super) const MAX_REMEMBERED: usize = 1024;

/// A request that the host has not answered.
#[derive(Debug)]
struct ServerRequest {
    /// Its id at the host.
    host: RequestId,
    /// Its id at the server.
    server: RequestId,
}

/// The server's requests to the host.
#[derive(Debug, Default)]
pub(in crate::client) struct ServerRequests {
    open: VecDeque<ServerRequest>,
    /// Requests of servers that have forgotten them, by their ids at the host: it may still respond, and a
    /// new server may use the same id for another request.
    abandoned: VecDeque<RequestId>,
    renamed: u64,
}

impl ServerRequests {
    /// A line of the host as it is to be sent, with the server's id if it responds to a renamed
    /// request; `None` for a response to an abandoned request.
    pub(in crate::client) fn on_host_line(&mut self, line: Bytes) -> Option<Bytes> {
        if self.open.is_empty() && self.abandoned.is_empty() {
            return Some(line);
        }
        let Ok(message) = Message::read(without_newline(&line), MAX_CHILD_DEPTH) else {
            return Some(line);
        };
        let Kind::Response(Some(id)) = message.kind() else {
            return Some(line);
        };
        let open = self.open.iter().position(|request| request.host == *id);
        if let Some(request) = open.and_then(|place| self.open.remove(place)) {
            return Some(if request.host == request.server {
                line
            } else {
                message.to_line(Some(&request.server), &[]).joined()
            });
        }
        if let Some(place) = self.abandoned.iter().position(|abandoned| abandoned == id) {
            self.abandoned.remove(place);
            return None;
        }
        Some(line)
    }

    /// A request of the server, under an id that the host does not know yet.
    pub(in crate::client) fn on_request(&mut self, id: &RequestId, request: &Message) -> Verdict {
        let mut host = id.clone();
        if self.abandoned.contains(id) {
            self.renamed += 1;
            host = RequestId::String(format!("{RENAMED}{}", self.renamed).into());
        }
        let verdict = if host == *id {
            Verdict::Pass
        } else {
            Verdict::Change(request.to_line(Some(&host), &[]).joined())
        };
        let server = id.clone();
        push_bounded(&mut self.open, ServerRequest { host, server });
        verdict
    }

    /// A cancellation by the server, whose request may have another id here.
    pub(in crate::client) fn on_cancelled(&self, message: &Message) -> Verdict {
        let Some((id, span)) = message.quoted_id(Field::RequestId) else {
            return Verdict::Pass;
        };
        match self.open.iter().find(|request| request.server == id) {
            Some(request) if request.host != id => {
                let with = Replacement::Id(&request.host);
                Verdict::Change(message.to_line(None, &[Edit { span, with }]).joined())
            }
            _ => Verdict::Pass,
        }
    }

    /// The server has forgotten its requests: returns their cancellations for the host.
    pub(in crate::client) fn abandon(&mut self) -> Vec<Vec<u8>> {
        let lines = self.open.iter().map(cancellation).collect();
        for request in self.open.drain(..) {
            push_bounded(&mut self.abandoned, request.host);
        }
        lines
    }

    /// How many abandoned requests are remembered.
    #[cfg(test)]
    pub(super) fn abandoned(&self) -> usize {
        self.abandoned.len()
    }
}

fn cancellation(request: &ServerRequest) -> Vec<u8> {
    let mut line =
        b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":"
            .to_vec();
    request.host.write(&mut line);
    line.extend(b"}}\n");
    line
}

fn push_bounded<T>(queue: &mut VecDeque<T>, entry: T) {
    if queue.len() >= MAX_REMEMBERED {
        queue.pop_front();
    }
    queue.push_back(entry);
}
