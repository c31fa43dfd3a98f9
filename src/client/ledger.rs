//! What the host is owed: its requests in flight, and what a new server must be told of the host.
//!
//! Pure: lines go in, verdicts come out.

use crate::jsonrpc::{
    Code, ErrorData, Executed, Field, Kind, MAX_CHILD_DEPTH, Message, RequestId, error_line,
};
use bytes::Bytes;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, HashMap, HashSet};

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

/// Ids of the ledger's own requests begin so.
const OWN: &str = "mcp-remote/replay-";

/// A request of the host without an answer.
struct Open {
    /// Its place in the order of sending.
    place: u64,
    /// It stays open for as long as the host likes.
    listens: bool,
    /// It changes what a new server must be told.
    matters: Option<Message>,
}

/// The table of one client.
#[derive(Default)]
pub(super) struct Ledger {
    in_flight: HashMap<RequestId, Open>,
    /// Questions of the server that the host has not answered.
    asked: HashSet<RequestId>,
    sent: u64,
    /// The host's `initialize`, once it has been answered with a result.
    handshake: Option<Message>,
    /// The host has sent `notifications/initialized`.
    initialized: bool,
    /// Its `logging/setLevel`, answered likewise.
    level: Option<Message>,
    /// Its `resources/subscribe`, answered likewise, by URI.
    subscriptions: BTreeMap<String, Message>,
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
            Kind::Request(id) if is_own(id) => {}
            Kind::Request(id) => {
                self.sent += 1;
                let id = id.clone();
                let listens = message.method() == "subscriptions/listen";
                let matters = matches!(
                    message.method(),
                    "initialize"
                        | "logging/setLevel"
                        | "resources/subscribe"
                        | "resources/unsubscribe"
                );
                let open = Open {
                    place: self.sent,
                    listens,
                    matters: matters.then_some(message),
                };
                self.in_flight.insert(id, open);
            }
            Kind::Notification => match message.method() {
                "notifications/initialized" => self.initialized = true,
                "notifications/cancelled" => {
                    if let Some((id, _)) = message.quoted_id(Field::RequestId) {
                        self.in_flight.remove(&id);
                    }
                }
                _ => {}
            },
            Kind::Response(Some(id)) => drop(self.asked.remove(id)),
            Kind::Response(None) => {}
        }
    }

    /// A line that was sent has not been received, and never will be: it will be sent again.
    pub(super) fn unsend(&mut self, line: &Bytes) {
        let Ok(message) = Message::read(line.clone(), MAX_CHILD_DEPTH) else {
            return;
        };
        match message.kind() {
            Kind::Request(id) => drop(self.in_flight.remove(id)),
            Kind::Notification if message.method() == "notifications/initialized" => {
                self.initialized = false;
            }
            Kind::Notification | Kind::Response(_) => {}
        }
    }

    /// True for lines of our own that are made anew when they are needed again.
    pub(super) fn is_replayed(&self, line: &Bytes) -> bool {
        let Ok(message) = Message::read(line.clone(), MAX_CHILD_DEPTH) else {
            return false;
        };
        match message.kind() {
            Kind::Request(id) => is_own(id),
            Kind::Notification => {
                self.initialized && message.method() == "notifications/initialized"
            }
            Kind::Response(_) => false,
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
        let id = match message.kind() {
            Kind::Response(Some(id)) => id,
            Kind::Request(id) => {
                self.asked.insert(id.clone());
                return Verdict::Pass;
            }
            _ => return Verdict::Pass,
        };
        let succeeded = message.result().is_some();
        if let Some(open) = self.in_flight.remove(id) {
            if let (Some(request), true) = (open.matters, succeeded) {
                self.remember(request);
            }
            return Verdict::Pass;
        }
        match id {
            _ if !is_own(id) => Verdict::Pass,
            _ if *id == self.own_id("initialize") => Verdict::Replayed(succeeded),
            _ => Verdict::Drop,
        }
    }

    fn remember(&mut self, request: Message) {
        let uri = request.text(Field::Uri).map(|uri| uri.into_owned());
        match (request.method(), uri) {
            ("initialize", _) => self.handshake = Some(request),
            ("logging/setLevel", _) => self.level = Some(request),
            ("resources/subscribe", Some(uri)) => drop(self.subscriptions.insert(uri, request)),
            ("resources/unsubscribe", Some(uri)) => drop(self.subscriptions.remove(&uri)),
            _ => {}
        }
    }

    /// How many requests of the host wait for an answer that will come by itself.
    pub(super) fn owed(&self) -> usize {
        self.in_flight.values().filter(|open| !open.listens).count()
    }

    /// How many requests of the host wait for an answer.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The server has forgotten the host: the errors for what was in flight, in order, and the
    /// cancellations of what it had asked.
    pub(super) fn lost(&mut self, message: &str, data: &ErrorData) -> Vec<Vec<u8>> {
        let mut owed: Vec<_> = self.in_flight.drain().collect();
        owed.sort_unstable_by_key(|(_, open)| open.place);
        let errors = owed
            .iter()
            .map(|(id, _)| error_line(Some(id), Code::InternalError, message, Some(data)));
        let cancel = |id: RequestId| {
            let mut line =
                b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":".to_vec();
            id.write(&mut line);
            line.extend(b"}}\n");
            line
        };
        errors.chain(self.asked.drain().map(cancel)).collect()
    }

    /// The `initialize` that tells a new server what the host told the old one; `None` when the
    /// host had not got that far, or speaks without a handshake.
    pub(super) fn replay(&mut self) -> Option<Bytes> {
        self.replays += 1;
        let id = self.own_id("initialize");
        Some(self.handshake.as_ref()?.to_line(Some(&id), &[]))
    }

    /// What follows the replayed `initialize`.
    pub(super) fn replay_rest(&self) -> Vec<Bytes> {
        let initialized = b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n";
        let mut lines = Vec::new();
        if self.initialized {
            lines.push(Bytes::from_static(initialized));
        }
        for (place, request) in self
            .level
            .iter()
            .chain(self.subscriptions.values())
            .enumerate()
        {
            lines.push(request.to_line(Some(&self.own_id(&place.to_string())), &[]));
        }
        lines
    }

    fn own_id(&self, what: &str) -> RequestId {
        RequestId::String(format!("{OWN}{}-{what}", self.replays).into())
    }
}

/// True for ids of the ledger's own requests.
fn is_own(id: &RequestId) -> bool {
    matches!(id, RequestId::String(text) if text.starts_with(OWN))
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
    fn what_was_not_received_is_not_lost() {
        let mut ledger = Ledger::default();
        let request = bytes(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
        let initialized = bytes(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        for line in [&request, &initialized] {
            ledger.send(line);
        }
        assert!(ledger.is_replayed(&initialized) && !ledger.is_replayed(&request));
        for line in [&request, &initialized] {
            ledger.unsend(line);
        }
        assert!(!ledger.is_replayed(&initialized));
        assert!(ledger.lost("Connection lost", &CONNECTION_LOST).is_empty());
        let own = bytes(r#"{"jsonrpc":"2.0","id":"mcp-remote/replay-1-0","method":"ping"}"#);
        assert!(ledger.is_replayed(&own));
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
        assert!(ledger.replay_rest().is_empty());
        ledger.send(&bytes(
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        ));
        let replay = ledger.replay().unwrap();
        assert_eq!(
            text(&replay),
            "{\"jsonrpc\":\"2.0\",\"id\":\"mcp-remote/replay-3-initialize\",\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-06-18\"}}\n"
        );
        assert_eq!(ledger.replay_rest().len(), 1);
        assert_eq!(ledger.owed(), 0);
        let answer =
            bytes(r#"{"jsonrpc":"2.0","id":"mcp-remote/replay-3-initialize","result":{}}"#);
        assert_eq!(ledger.receive(&answer), Verdict::Replayed(true));
    }
}
