//! What the host is owed: its requests in flight, and what a new server must be told of the host.
//!
//! Pure: lines go in, verdicts come out.

use crate::control::Control;
use crate::jsonrpc::{
    Code, Edit, ErrorData, Executed, Field, Kind, MAX_CHILD_DEPTH, MAX_PEER_DEPTH, Message,
    Replacement, RequestId, error_line,
};
use crate::utils::rope::Pieces;
use bytes::Bytes;
use foldhash::HashMap;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, VecDeque};

/// A line from the server, read once.
pub(super) struct Arrived {
    pub line: Bytes,
    message: Option<Message>,
}

impl From<Bytes> for Arrived {
    fn from(line: Bytes) -> Self {
        let message = Message::read(line.clone(), MAX_CHILD_DEPTH).ok();
        Self { line, message }
    }
}

impl Arrived {
    /// What it says to us, if anything.
    pub(super) fn control(&self) -> Option<Control> {
        Control::from_message(self.message.as_ref()?)
    }

    /// True for what answers nothing in particular, as a server's word to all of a connection does.
    pub(super) fn is_for_nobody(&self) -> bool {
        let kind = self.message.as_ref().map(Message::kind);
        matches!(kind, None | Some(Kind::Response(None)))
    }
}

/// What to do with a line from the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Hand it to the host.
    Pass,
    /// Hand this to the host in its place, newline included.
    Change(Bytes),
    /// It is no JSON object, nor a batch of them: nothing for a host.
    Drop,
    /// It answers our own replay of the handshake; true when that went well.
    Replayed(bool),
}

/// Ids of the ledger's own requests begin so.
const OWN: &str = "mcp-remote/replay-";

/// Questions whose ids would be mistaken for those of earlier ones get ids that begin so.
const AGAIN: &str = "mcp-remote/again-";

/// The most questions of servers that are remembered, open ones and forgotten ones each; the oldest
/// go first.
const MAX_ASKED: usize = 1024;

/// A request of the host without an answer.
struct Open {
    /// Its place in the order of sending.
    place: u64,
    /// It stays open for as long as the host likes.
    listens: bool,
    /// It changes what a new server must be told.
    matters: Option<Message>,
}

/// A question of the server that the host has not answered.
#[derive(Debug)]
struct Question {
    /// As the host knows it.
    host: RequestId,
    /// As the server does.
    server: RequestId,
}

/// The table of one client.
#[derive(Default)]
pub(super) struct Ledger {
    in_flight: HashMap<RequestId, Open>,
    asked: VecDeque<Question>,
    /// Questions of servers that have forgotten us, as the host knows them: it may still answer, and
    /// a new server may ask something else under the same id.
    stale: VecDeque<RequestId>,
    /// Lines of the host that the server cannot read, and has not complained of.
    unreadable: usize,
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
    renamed: u64,
}

impl Ledger {
    /// A line of the host, newline included, as it is to be sent at some time; `None` for an answer
    /// to a question that nobody asks any more.
    pub(super) fn hear(&mut self, line: Bytes) -> Option<Bytes> {
        if self.asked.is_empty() && self.stale.is_empty() {
            return Some(line);
        }
        let Ok(message) = Message::read(without_end(&line), MAX_CHILD_DEPTH) else {
            return Some(line);
        };
        let Kind::Response(Some(id)) = message.kind() else {
            return Some(line);
        };
        let known = self.asked.iter().position(|asked| asked.host == *id);
        if let Some(asked) = known.and_then(|place| self.asked.remove(place)) {
            return Some(if asked.host == asked.server {
                line
            } else {
                message.to_line(Some(&asked.server), &[]).joined()
            });
        }
        if let Some(place) = self.stale.iter().position(|stale| stale == id) {
            self.stale.remove(place);
            return None;
        }
        Some(line)
    }

    /// A line of the host is about to be sent. What is no message is sent as well: the server
    /// will say what is wrong with it.
    pub(super) fn send(&mut self, line: &Bytes) {
        let Ok(message) = Message::read(line.clone(), MAX_PEER_DEPTH) else {
            self.unreadable += 1;
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
            Kind::Response(_) => {}
        }
    }

    /// A line that was sent has not been received, and never will be: it will be sent again.
    pub(super) fn unsend(&mut self, line: &Bytes) {
        let Ok(message) = Message::read(line.clone(), MAX_PEER_DEPTH) else {
            self.unreadable = self.unreadable.saturating_sub(1);
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

    /// True for lines that are nothing for a new server: our own, which are made anew, and answers to
    /// what another has asked.
    pub(super) fn is_past(&self, line: &Bytes) -> bool {
        let Ok(message) = Message::read(line.clone(), MAX_CHILD_DEPTH) else {
            return false;
        };
        match message.kind() {
            Kind::Request(id) => is_own(id),
            Kind::Notification => {
                self.initialized && message.method() == "notifications/initialized"
            }
            Kind::Response(_) => true,
        }
    }

    /// A line has come from the server.
    pub(super) fn receive(&mut self, arrived: &Arrived) -> Verdict {
        let Some(message) = &arrived.message else {
            // The gate is strict; the host may know better what it can read.
            return if is_json(&arrived.line) {
                Verdict::Pass
            } else {
                Verdict::Drop
            };
        };
        let id = match message.kind() {
            Kind::Response(Some(id)) => id,
            Kind::Response(None) => {
                self.unreadable = self.unreadable.saturating_sub(1);
                return Verdict::Pass;
            }
            Kind::Request(id) => return self.ask(id, message),
            Kind::Notification => return self.notified(message),
        };
        let succeeded = message.result().is_some();
        if let Some(open) = self.in_flight.remove(id) {
            if let (Some(request), true) = (open.matters, succeeded) {
                self.remember(request);
            }
            return Verdict::Pass;
        }
        match id {
            _ if !is_own(id) => {
                // It may have read more of a line than we have.
                self.unreadable = self.unreadable.saturating_sub(1);
                Verdict::Pass
            }
            _ if *id == self.own_id("initialize") => Verdict::Replayed(succeeded),
            _ => Verdict::Drop,
        }
    }

    /// A question of the server.
    fn ask(&mut self, id: &RequestId, question: &Message) -> Verdict {
        let mut host = id.clone();
        if self.stale.contains(id) {
            self.renamed += 1;
            host = RequestId::String(format!("{AGAIN}{}", self.renamed).into());
        }
        let verdict = if host == *id {
            Verdict::Pass
        } else {
            Verdict::Change(question.to_line(Some(&host), &[]).joined())
        };
        let server = id.clone();
        push_bounded(&mut self.asked, Question { host, server });
        verdict
    }

    /// A notification of the server, which may call off a question that goes by another name here.
    fn notified(&self, message: &Message) -> Verdict {
        let named = match message.method() {
            "notifications/cancelled" => message.quoted_id(Field::RequestId),
            _ => None,
        };
        let Some((id, span)) = named else {
            return Verdict::Pass;
        };
        match self.asked.iter().find(|asked| asked.server == id) {
            Some(asked) if asked.host != id => {
                let with = Replacement::Id(&asked.host);
                Verdict::Change(message.to_line(None, &[Edit { span, with }]).joined())
            }
            _ => Verdict::Pass,
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

    /// True while the server has not complained of everything that it cannot read.
    pub(super) fn is_misread(&self) -> bool {
        self.unreadable > 0
    }

    /// The server has forgotten the host: the errors for what was in flight, in order, and the
    /// cancellations of what it had asked.
    pub(super) fn lost(&mut self, message: &str, data: &ErrorData) -> Vec<Vec<u8>> {
        let mut owed: Vec<_> = self.in_flight.drain().collect();
        owed.sort_unstable_by_key(|(_, open)| open.place);
        let errors = owed
            .iter()
            .map(|(id, _)| error_line(Some(id), Code::InternalError, message, Some(data)));
        let cancel = |asked: &Question| {
            let mut line =
                b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":".to_vec();
            asked.host.write(&mut line);
            line.extend(b"}}\n");
            line
        };
        let lines = errors.chain(self.asked.iter().map(cancel)).collect();
        for asked in self.asked.drain(..) {
            push_bounded(&mut self.stale, asked.host);
        }
        self.unreadable = 0;
        lines
    }

    /// The `initialize` that tells a new server what the host told the old one; `None` when the
    /// host had not got that far, or speaks without a handshake.
    pub(super) fn replay(&mut self) -> Option<Bytes> {
        self.replays += 1;
        let id = self.own_id("initialize");
        Some(self.handshake.as_ref()?.to_line(Some(&id), &[]).joined())
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
            let id = self.own_id(&place.to_string());
            lines.push(request.to_line(Some(&id), &[]).joined());
        }
        lines
    }

    fn own_id(&self, what: &str) -> RequestId {
        RequestId::String(format!("{OWN}{}-{what}", self.replays).into())
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, entry: T) {
    if queue.len() >= MAX_ASKED {
        queue.pop_front();
    }
    queue.push_back(entry);
}

/// The line without its newline.
pub(super) fn without_end(line: &Bytes) -> Bytes {
    line.slice(..line.len().saturating_sub(1))
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

    fn arrived(text: &str) -> Arrived {
        bytes(text).into()
    }

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
            ledger.receive(&arrived(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#)),
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
        assert!(ledger.is_past(&initialized) && !ledger.is_past(&request));
        for line in [&request, &initialized] {
            ledger.unsend(line);
        }
        assert!(!ledger.is_past(&initialized));
        assert!(ledger.lost("Connection lost", &CONNECTION_LOST).is_empty());
        let own = bytes(r#"{"jsonrpc":"2.0","id":"mcp-remote/replay-1-0","method":"ping"}"#);
        assert!(ledger.is_past(&own));
        let answer = bytes(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        assert!(ledger.is_past(&answer));
    }

    /// Bug: the host's answer to a question of a server that was gone reached its successor, which
    /// had asked something else under the same id.
    #[test]
    fn answers_do_not_reach_other_questions() {
        let mut ledger = Ledger::default();
        let question = |id: &str, method: &str| {
            bytes(&format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#
            ))
        };
        let answer = |id: &str| {
            bytes(&format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n"
            ))
        };
        for id in ["0", "1", "2"] {
            let asked = question(id, "elicitation/create");
            assert_eq!(ledger.receive(&asked.into()), Verdict::Pass);
        }
        assert_eq!(ledger.hear(answer("1")), Some(answer("1")));
        let lines = ledger.lost("Connection lost", &CONNECTION_LOST);
        assert_eq!(lines.len(), 2);
        assert!(
            text(&lines[0])
                .ends_with("\"notifications/cancelled\",\"params\":{\"requestId\":0}}\n")
        );
        // The new server asks under ids that the host knows, and one that it has done with.
        let renamed = "\"mcp-remote/again-1\"";
        let Verdict::Change(asked) = ledger.receive(&question("0", "roots/list").into()) else {
            panic!("the host takes this for the other question");
        };
        assert_eq!(
            text(&asked).trim_end(),
            text(&question(renamed, "roots/list"))
        );
        assert_eq!(
            ledger.receive(&question("1", "roots/list").into()),
            Verdict::Pass
        );
        let cancelled = bytes(
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0,"reason":"x"}}"#,
        );
        let Verdict::Change(cancelled) = ledger.receive(&cancelled.into()) else {
            panic!("the host takes this for the other question");
        };
        assert_eq!(
            text(&cancelled).trim_end(),
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"mcp-remote/again-1","reason":"x"}}"#
        );
        // Late, and once; then the answer to the new one.
        assert_eq!(ledger.hear(answer("0")), None);
        assert_eq!(ledger.hear(answer(renamed)), Some(answer("0")));
        assert_eq!(ledger.hear(answer("1")), Some(answer("1")));
        assert_eq!(ledger.hear(answer("2")), None);
        assert_eq!(ledger.hear(answer("9")), Some(answer("9")));
    }

    /// Bug: a server that asked and asked filled the client's memory.
    #[test]
    fn questions_are_bounded() {
        let mut ledger = Ledger::default();
        for round in 0..3 {
            for id in 0..2 * MAX_ASKED {
                ledger.receive(&arrived(&format!(
                    r#"{{"jsonrpc":"2.0","id":"{round}-{id}","method":"ping"}}"#
                )));
            }
            assert_eq!(ledger.lost("x", &CONNECTION_LOST).len(), MAX_ASKED);
        }
        assert_eq!(ledger.stale.len(), MAX_ASKED);
    }

    /// Bug: `printf '{' | mcp-remote client …` could leave before the server had said what is wrong
    /// with it; and a request nested too deep was waited for in vain.
    #[test]
    fn a_complaint_is_waited_for() {
        let mut ledger = Ledger::default();
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":[{}]}}"#,
            "[".repeat(130) + &"]".repeat(130)
        );
        for line in ["{", r#"{"jsonrpc":"2.0","id":5}"#, &*deep] {
            ledger.send(&bytes(line));
        }
        assert_eq!(ledger.owed(), 0);
        for complaint in ["null", "5", "null"] {
            assert!(ledger.is_misread());
            let line = format!(
                r#"{{"jsonrpc":"2.0","id":{complaint},"error":{{"code":-32600,"message":"x"}}}}"#
            );
            assert_eq!(ledger.receive(&arrived(&line)), Verdict::Pass);
        }
        assert!(!ledger.is_misread());
    }

    #[test]
    fn what_is_no_json_is_dropped() {
        let mut ledger = Ledger::default();
        for line in ["", "\r", "Welcome!", "1", "{\"half", "{} {}", "{a: 1}"] {
            assert_eq!(ledger.receive(&arrived(line)), Verdict::Drop, "{line}");
        }
        for line in ["{}", " [{}]\r", r#"{"jsonrpc":"2.0","id":1.5,"result":{}}"#] {
            assert_eq!(ledger.receive(&arrived(line)), Verdict::Pass, "{line}");
        }
        let invalid = Bytes::from_static(b"{\"a\":\"\xff\"}");
        assert_eq!(ledger.receive(&invalid.into()), Verdict::Drop);
    }

    #[test]
    fn the_handshake_is_replayed_once_it_stood() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.replay(), None);
        ledger.send(&bytes(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#));
        assert_eq!(ledger.replay(), None);
        ledger.receive(&arrived(r#"{"jsonrpc":"2.0","id":0,"result":{}}"#));
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
        assert_eq!(ledger.receive(&answer.into()), Verdict::Replayed(true));
    }
}
