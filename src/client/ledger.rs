//! What the host is owed: its requests in flight, and the handshake to replay on a new connection.
//!
//! Pure: lines go in, verdicts come out.

use crate::jsonrpc::{
    Code, ErrorData, Executed, Field, Kind, MAX_CHILD_DEPTH, Message, RequestId, error_line,
};
use bytes::Bytes;
use serde::de::IgnoredAny;
use std::collections::{HashMap, HashSet};

/// What to do with a line from the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Hand it to the host.
    Pass,
    /// It is no JSON object, nor a batch of them: nothing for a host.
    Drop,
    /// It answers our own replay of the handshake; true when that went well.
    Replayed(bool),
}

/// The table of one client.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Requests of the host without an answer, with their place in the order of sending.
    in_flight: HashMap<RequestId, u64>,
    /// Those among them that stay open for as long as the host likes.
    listens: HashSet<RequestId>,
    sent: u64,
    /// The host's `initialize`, once it has been answered with a result.
    handshake: Option<Message>,
    /// The same, while the answer is awaited.
    opening: Option<Message>,
    /// The host has sent `notifications/initialized`.
    initialized: bool,
    replays: u64,
}

impl Ledger {
    /// A line of the host is about to be sent. What is no message is sent as well: the server
    /// will say what is wrong with it.
    pub(super) fn send(&mut self, line: &Bytes) {
        let Ok(message) = Message::read(line.clone(), MAX_CHILD_DEPTH) else {
            return;
        };
        match message.kind() {
            Kind::Request(id) => {
                self.sent += 1;
                self.in_flight.insert(id.clone(), self.sent);
                match message.method() {
                    "subscriptions/listen" => drop(self.listens.insert(id.clone())),
                    "initialize" => self.opening = Some(message),
                    _ => {}
                }
            }
            Kind::Notification => match message.method() {
                "notifications/initialized" => self.initialized = true,
                "notifications/cancelled" => {
                    if let Some((id, _)) = message.quoted_id(Field::RequestId) {
                        self.in_flight.remove(&id);
                        self.listens.remove(&id);
                    }
                }
                _ => {}
            },
            Kind::Response(_) => {}
        }
    }

    /// A line has come from the server.
    pub(super) fn receive(&mut self, line: &Bytes) -> Verdict {
        let Ok(message) = Message::read(line.clone(), MAX_CHILD_DEPTH) else {
            // The gate is strict; the host may know better what it can read.
            return if is_json(line) {
                Verdict::Pass
            } else {
                Verdict::Drop
            };
        };
        let Kind::Response(Some(id)) = message.kind() else {
            return Verdict::Pass;
        };
        let succeeded = message.result().is_some();
        if self.in_flight.remove(id).is_some() {
            self.listens.remove(id);
            if self
                .opening
                .as_ref()
                .is_some_and(|opening| opening.id() == Some(id))
            {
                let opening = self.opening.take();
                self.handshake = if succeeded {
                    opening
                } else {
                    self.handshake.take()
                };
            }
            return Verdict::Pass;
        }
        if *id == self.replay_id() {
            Verdict::Replayed(succeeded)
        } else {
            Verdict::Pass
        }
    }

    /// How many requests of the host wait for an answer that will come by itself.
    pub(super) fn owed(&self) -> usize {
        self.in_flight.len() - self.listens.len()
    }

    /// The connection is lost: the errors that the host gets for what was in flight, in order.
    pub(super) fn lost(&mut self, message: &str, data: &ErrorData) -> Vec<Vec<u8>> {
        self.opening = None;
        self.listens.clear();
        let mut owed: Vec<_> = self.in_flight.drain().collect();
        owed.sort_unstable_by_key(|(_, place)| *place);
        owed.iter()
            .map(|(id, _)| error_line(Some(id), Code::InternalError, message, Some(data)))
            .collect()
    }

    /// The `initialize` that tells a new connection what the host told the old one; `None` when
    /// the host had not got that far, or speaks without a handshake.
    pub(super) fn replay(&mut self) -> Option<Vec<u8>> {
        self.replays += 1;
        let mut line = Vec::new();
        self.handshake
            .as_ref()?
            .write(Some(&self.replay_id()), &[], &mut line);
        Some(line)
    }

    /// What follows the replayed `initialize`.
    pub(super) fn replay_end(&self) -> Option<Bytes> {
        let line = b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n";
        self.initialized.then(|| Bytes::from_static(line))
    }

    fn replay_id(&self) -> RequestId {
        RequestId::String(format!("mcp-remote/replay-{}", self.replays).into())
    }
}

/// True for a JSON object or array.
fn is_json(line: &[u8]) -> bool {
    matches!(line.trim_ascii_start().first(), Some(b'{' | b'['))
        && std::str::from_utf8(line).is_ok()
        && serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// For requests that may or may not have reached the server.
pub(super) const CONNECTION_LOST: ErrorData = ErrorData::new("connection-lost", Executed::Unknown);

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn text(line: &[u8]) -> &str {
        std::str::from_utf8(line).unwrap()
    }

    #[test]
    fn what_is_owed_is_answered_in_order_when_the_connection_is_lost() {
        let mut ledger = Ledger::default();
        for id in ["7", "\"7\"", "0"] {
            ledger.send(&bytes(&format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#
            )));
        }
        assert_eq!(
            ledger.receive(&bytes(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#)),
            Verdict::Pass
        );
        assert_eq!(ledger.owed(), 2);
        let errors = ledger.lost("Connection lost", &CONNECTION_LOST);
        assert_eq!(ledger.owed(), 0);
        assert!(text(&errors[0]).starts_with(
            r#"{"jsonrpc":"2.0","id":"7","error":{"code":-32603,"message":"Connection lost""#
        ));
        assert!(text(&errors[1]).contains(r#""id":0"#));
        assert!(text(&errors[1]).contains(r#""reason":"connection-lost","executed":"unknown""#));
    }

    #[test]
    fn cancelled_requests_are_not_owed() {
        let mut ledger = Ledger::default();
        ledger.send(&bytes(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#));
        ledger.send(&bytes(
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        ));
        assert_eq!(ledger.owed(), 0);
    }

    #[test]
    fn an_open_subscription_holds_nobody_back() {
        let mut ledger = Ledger::default();
        ledger.send(&bytes(
            r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen"}"#,
        ));
        assert_eq!(ledger.owed(), 0);
        assert_eq!(ledger.lost("Connection lost", &CONNECTION_LOST).len(), 1);
        assert_eq!(ledger.owed(), 0);
    }

    #[test]
    fn what_is_no_json_is_dropped() {
        let mut ledger = Ledger::default();
        for line in ["", "\r", "Welcome!", "1", "{\"half", "{} {}", "{a: 1}"] {
            assert_eq!(ledger.receive(&bytes(line)), Verdict::Drop, "{line}");
        }
        for line in ["{}", " [{}]\r", r#"{"jsonrpc":"2.0","id":1.5,"result":{}}"#] {
            assert_eq!(ledger.receive(&bytes(line)), Verdict::Pass, "{line}");
        }
        let invalid = Bytes::from_static(b"{\"a\":\"\xff\"}");
        assert_eq!(ledger.receive(&invalid), Verdict::Drop);
    }

    #[test]
    fn the_handshake_is_replayed_once_it_stood() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.replay(), None);
        ledger.send(&bytes(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#));
        assert_eq!(ledger.replay(), None);
        ledger.receive(&bytes(r#"{"jsonrpc":"2.0","id":0,"result":{}}"#));
        assert_eq!(ledger.replay_end(), None);
        ledger.send(&bytes(
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        ));
        let replay = ledger.replay().unwrap();
        assert_eq!(
            text(&replay),
            "{\"jsonrpc\":\"2.0\",\"id\":\"mcp-remote/replay-3\",\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-06-18\"}}\n"
        );
        assert!(ledger.replay_end().is_some());
        assert_eq!(ledger.owed(), 0);
        let answer = bytes(r#"{"jsonrpc":"2.0","id":"mcp-remote/replay-3","result":{}}"#);
        assert_eq!(ledger.receive(&answer), Verdict::Replayed(true));
    }
}
