//! Lines of the host.

use super::call::Link;
use super::{Action, Machine};
use crate::client::endpoint::{HostPhase, without_newline};
use crate::jsonrpc::{Field, Kind, MAX_CHILD_DEPTH, Message, unreadable_answer};
use crate::mcp::Method;
use bytes::Bytes;

impl Machine {
    /// Handles lines of the host, with their newlines.
    pub(in crate::client::http) fn on_host_lines(&mut self, lines: Vec<Bytes>) {
        self.host = self.host.max(HostPhase::Speaking);
        for line in lines {
            // The response to a renamed server request gets the server's id here.
            if let Some(line) = self.server_requests.on_host_line(line) {
                self.on_host_line(&line);
            }
        }
    }

    /// Notes that the host has closed our stdin.
    pub(in crate::client::http) fn on_host_end(&mut self) {
        self.host = self.host.max(HostPhase::Finished);
    }

    /// Leaves as soon as possible, even if the host has pending requests.
    pub(in crate::client::http) fn leave(&mut self) {
        self.host = HostPhase::Abandoned;
    }

    fn on_host_line(&mut self, line: &Bytes) {
        let body = without_newline(line);
        let message = match Message::read(body.clone(), MAX_CHILD_DEPTH) {
            Ok(message) => message,
            Err(refusal) => {
                for reply in refusal.replies() {
                    self.push_line(reply.into());
                }
                for id in refusal.answers() {
                    self.on_host_line(&unreadable_answer(id).into());
                }
                return;
            }
        };
        match message.kind() {
            Kind::Notification if message.mcp_method() == Some(Method::Cancelled) => {
                self.on_host_cancelled(message, body);
            }
            Kind::Response(_) if self.session.modern.is_some() && !self.session.established => {
                tracing::warn!(
                    "dropped an answer of the host: servers of this revision ask nothing"
                );
            }
            _ => {
                self.outgoing.push(message, body, false);
            }
        }
    }

    /// The host cancels a request.
    fn on_host_cancelled(&mut self, message: Message, body: Bytes) {
        let Some((id, _)) = message.quoted_id(Field::RequestId) else {
            return self.outgoing.push(message, body, false);
        };
        if self.outgoing.remove_request(&id) {
            return;
        }
        let Some(place) = self.calls.find(&id, None) else {
            // It may have been answered at the same moment.
            return;
        };
        match self.calls.get_mut(place) {
            Some(call) if call.modern => {
                // Closing the stream tells a modern server.
                let exchange = call.link.exchange();
                self.remove_call(place);
                if let Some(exchange) = exchange {
                    self.forget_exchange(exchange);
                    self.ends.push_back(Action::Abort(exchange));
                }
            }
            Some(call) => {
                call.cancelled = true;
                if matches!(call.link, Link::Waiting(_)) {
                    self.remove_call(place);
                }
                // The cancellation itself must not wait for the answer.
                self.clear_barrier(place);
                self.outgoing.push_cancellation(message, body, place);
            }
            None => {}
        }
    }
}
