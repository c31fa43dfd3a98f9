mod any_server;
mod model;
mod refused;

use super::negotiation::MAX_UNANSWERED;
use super::*;
use crate::client::settings::CONNECT_TIMEOUT;
use crate::control::SessionKey;
use crate::jsonrpc::{Measured, too_large_line};
use serde_json::{Value, json};

fn key(number: usize) -> SessionKey {
    let line = json!({"jsonrpc": "2.0", "method": "mcp-remote/resume",
        "params": {"session": format!("session {number}"), "received": 0}});
    match Control::read(line.to_string().as_bytes()) {
        Some(Control::Resume {
            session: Some(key), ..
        }) => key,
        other => panic!("{other:?}"),
    }
}

fn line(message: &Value) -> Bytes {
    format!("{message}\n").into()
}

fn request(id: u64) -> Bytes {
    line(&json!({"jsonrpc": "2.0", "id": id, "method": "x"}))
}

fn response(id: &Value) -> Bytes {
    line(&json!({"jsonrpc": "2.0", "id": id, "result": {}}))
}

fn resume(session: Option<SessionKey>, received: u64) -> Bytes {
    Control::Resume { session, received }.to_line().into()
}

fn resumed(number: usize, received: u64, resumed: bool) -> Bytes {
    let session = Some(key(number));
    let control = Control::Resumed {
        session,
        received,
        resumed,
    };
    control.to_line().into()
}

fn ack(received: u64) -> Bytes {
    Control::Ack { received }.to_line().into()
}

fn drain(received: u64, idle: bool) -> Bytes {
    Control::Drain { received, idle }.to_line().into()
}

fn leave() -> Bytes {
    Control::Leave {}.to_line().into()
}

const SECOND: Duration = Duration::from_secs(1);
const KEEPALIVE: Duration = Duration::from_secs(15);

/// An endpoint, and the current time.
struct Rig {
    endpoint: Endpoint,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            endpoint: Endpoint::new(KEEPALIVE, now),
            now,
        }
    }

    /// One with a session.
    fn established() -> Self {
        let mut rig = Self::new();
        rig.connect(Offer::Promised);
        assert_eq!(rig.sent(), [resume(None, 0)]);
        rig.hears(resumed(0, 0, false));
        rig
    }

    fn connect(&mut self, offer: Offer) {
        self.endpoint.on_connect(offer, self.now);
    }

    /// The connection is lost, and will be replaced.
    fn lose(&mut self) {
        self.endpoint.on_disconnect(Lost::HungUp.into());
        self.endpoint.prepare_reconnect();
    }

    fn say(&mut self, line: Bytes) {
        self.endpoint.on_host_lines(vec![line]);
    }

    fn poll(&mut self) -> Action {
        self.endpoint.poll(self.now)
    }

    /// Everything that is sent now.
    fn sent(&mut self) -> Vec<Bytes> {
        let mut sent = Vec::new();
        while let Action::Send(lines) = self.poll() {
            sent.extend(lines);
        }
        sent
    }

    /// The time until there is something to do.
    fn waits(&mut self) -> Option<Duration> {
        match self.poll() {
            Action::Wait { until, .. } => until.map(|until| until - self.now),
            other => panic!("{other:?}"),
        }
    }

    fn reads_host(&mut self) -> bool {
        matches!(self.poll(), Action::Wait { read_host, .. } if read_host)
    }

    /// A line of the server, with its newline.
    fn receive(&mut self, line: &Bytes) -> Result<(), End> {
        let line = ServerLine::from(without_newline(line));
        if self.endpoint.on_server_line(&line)? == Reception::Message {
            self.endpoint.deliver(line);
        }
        Ok(())
    }

    fn hears(&mut self, line: Bytes) {
        self.receive(&line).unwrap();
    }

    fn told(&mut self) -> Vec<Bytes> {
        self.endpoint.take_for_host().collect()
    }
}

/// Bug: when a server that cannot resume replaced one that can, and sent nothing by
/// itself, the client kept asking it to resume, and the host waited forever.
#[test]
fn a_server_that_never_answers_is_not_asked_for_ever() {
    let mut rig = Rig::established();
    rig.say(request(0));
    assert_eq!(rig.sent(), [request(0)]);
    for _ in 0..MAX_UNANSWERED {
        rig.lose();
        rig.connect(Offer::Possible);
        assert_eq!(rig.sent(), [resume(Some(key(0)), 0)]);
        assert_eq!(rig.waits(), Some(CONNECT_TIMEOUT));
        rig.now += CONNECT_TIMEOUT;
        assert_eq!(rig.poll(), Action::GiveUp);
        assert!(rig.told().is_empty());
    }
    rig.lose();
    let told = rig.told();
    assert!(std::str::from_utf8(&told[0]).unwrap().contains("\"id\":0,"));
    rig.connect(Offer::Possible);
    // A moment later the client concludes that the server does not support sessions.
    rig.say(request(1));
    assert_eq!(rig.sent(), [resume(None, 0)]);
    assert_eq!(rig.waits(), Some(SECOND));
    rig.now += SECOND;
    assert_eq!(rig.sent(), [request(1)]);
    // Once that is known, it does not wait.
    rig.hears(response(&json!(1)));
    rig.lose();
    rig.connect(Offer::Possible);
    rig.say(request(2));
    assert_eq!(rig.sent(), [resume(None, 0), request(2)]);
    assert_eq!(rig.waits(), None);
}

#[test]
fn responses_overtake_what_waits_for_the_next_server() {
    let mut rig = Rig::established();
    let asked = json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create"});
    rig.hears(line(&asked));
    assert_eq!(rig.told(), [without_newline(&line(&asked))]);
    rig.say(request(0));
    rig.say(request(1));
    assert_eq!(rig.sent(), [request(0), request(1)]);
    rig.hears(drain(1, false));
    assert_eq!(rig.sent(), [drain(1, false)]);
    rig.say(request(2));
    rig.say(response(&json!("q")));
    assert_eq!(rig.sent(), [response(&json!("q"))]);
    assert!(rig.reads_host());
    // The next one gets the rest, and no response.
    rig.lose();
    rig.connect(Offer::Promised);
    assert_eq!(rig.sent(), [resume(Some(key(0)), 1)]);
    rig.hears(resumed(1, 0, false));
    assert_eq!(rig.sent(), [request(1), request(2)]);
}

#[test]
fn a_host_that_has_left_is_served_before_the_last_line_is_acknowledged() {
    let mut rig = Rig::established();
    rig.say(line(
        &json!({"jsonrpc": "2.0", "method": "notifications/x"}),
    ));
    rig.endpoint.on_host_end();
    assert!(!rig.endpoint.is_host_served(), "it has not been sent");
    assert_eq!(rig.sent().len(), 2, "with a goodbye");
    assert!(rig.endpoint.is_host_served());
    assert!(!rig.endpoint.is_done(), "it may be lost");
    assert!(!rig.reads_host());
    rig.hears(ack(1));
    assert_eq!(rig.poll(), Action::Finish);
}

#[test]
fn a_host_that_is_abandoned_is_not_read_after_the_goodbye() {
    let mut rig = Rig::established();
    rig.say(request(0));
    rig.endpoint.leave();
    assert_eq!(rig.sent(), [request(0), leave()]);
    rig.say(request(1));
    assert_eq!(rig.sent(), [""; 0], "the server has ended the session");
    assert!(!rig.reads_host());
    // Without a connection there is no server to notify.
    rig.endpoint.on_disconnect(Lost::HungUp.into());
    assert!(rig.endpoint.is_done());
}

#[test]
fn a_server_that_is_lost_after_the_last_answer_ends_the_client() {
    let mut rig = Rig::new();
    rig.connect(Offer::Nothing { admitted: false });
    rig.say(request(0));
    assert_eq!(rig.sent(), [request(0)]);
    rig.endpoint.on_host_end();
    rig.hears(response(&json!(0)));
    let ended = rig.endpoint.on_disconnect(Lost::HungUp.into());
    assert!(matches!(ended.end, End::Done) && ended.introduced);
}

#[test]
fn a_connection_tells_whether_it_has_carried_anything() {
    let carried = |event: &dyn Fn(&mut Rig)| {
        let mut rig = Rig::established();
        rig.say(request(0));
        event(&mut rig);
        let ended = rig.endpoint.on_disconnect(Lost::HungUp.into());
        (matches!(ended.end, End::Dismissed), ended.carried)
    };
    assert_eq!(carried(&|rig| rig.hears(drain(0, true))), (true, false));
    assert_eq!(carried(&|rig| rig.hears(drain(0, false))), (false, false));
    assert_eq!(carried(&|rig| rig.hears(ack(0))), (false, false));
    let acknowledged = carried(&|rig| {
        assert_eq!(rig.sent(), [request(0)]);
        rig.hears(ack(1));
    });
    assert_eq!(acknowledged, (false, true));
    let received = carried(&|rig| {
        rig.hears(response(&json!(0)));
        rig.hears(drain(0, true));
    });
    assert_eq!(received, (true, true));
}

#[test]
fn received_lines_are_acknowledged_within_a_second_and_signs_of_life_go_on() {
    let mut rig = Rig::established();
    assert_eq!(rig.waits(), Some(KEEPALIVE));
    rig.hears(line(
        &json!({"jsonrpc": "2.0", "method": "notifications/x"}),
    ));
    assert!(rig.endpoint.take_needs_poll());
    assert_eq!(rig.waits(), Some(SECOND));
    rig.now += SECOND;
    assert_eq!(rig.sent(), [ack(1)]);
    assert_eq!(rig.waits(), Some(KEEPALIVE));
    rig.now += KEEPALIVE;
    assert_eq!(rig.sent(), [ack(1)]);
    for _ in 0..40 {
        rig.hears(line(
            &json!({"jsonrpc": "2.0", "method": "notifications/x"}),
        ));
    }
    rig.say(request(0));
    assert_eq!(rig.sent(), [ack(41), request(0)], "along with a line");
}

/// Bug: a client on the port of another service, such as SSH, said that it was connected and waited for an hour.
#[test]
fn a_port_without_mcp_is_left_at_its_first_line() {
    let ssh = Bytes::from_static(b"SSH-2.0-OpenSSH_9.2\r\n");
    let mut rig = Rig::new();
    rig.connect(Offer::Possible);
    let Err(End::Mismatch(reason)) = rig.receive(&ssh) else {
        panic!();
    };
    assert!(reason.contains("'SSH-2.0-OpenSSH_9.2'"), "{reason}");
    assert_eq!(rig.endpoint.take_news(), None, "it is not connected");
    // A server has been there: it may be on its way back.
    let mut rig = Rig::established();
    rig.lose();
    rig.connect(Offer::Possible);
    assert!(matches!(rig.receive(&ssh), Err(End::Lost(_))));
    // What an MCP server prints later is passed over.
    let mut rig = Rig::new();
    rig.connect(Offer::Possible);
    rig.hears(Bytes::from_static(b"\r\n"));
    rig.hears(Bytes::from_static(
        b"[{\"jsonrpc\":\"2.0\",\"method\":\"x\"}]\n",
    ));
    rig.hears(ssh);
    assert_eq!(rig.told().len(), 1);
}

#[test]
fn the_user_is_told_once_if_initialize_is_not_answered() {
    let initialize = || line(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize"}));
    for is_answered in [false, true] {
        let mut rig = Rig::new();
        rig.connect(Offer::Nothing { admitted: false });
        rig.now += PATIENCE;
        rig.say(initialize());
        assert_eq!(rig.sent(), [initialize()]);
        assert_eq!(rig.waits(), Some(PATIENCE));
        if is_answered {
            rig.hears(response(&json!(0)));
        }
        assert_eq!(rig.endpoint.pending.awaits_initialize(), !is_answered);
        rig.now += PATIENCE;
        assert_eq!(rig.waits(), None, "it is over");
    }
}

/// Bug: a token that was renewed while a notification was being written lost it, where there is no session.
#[test]
fn a_connection_is_not_replaced_while_a_line_is_being_written() {
    let mut rig = Rig::new();
    rig.connect(Offer::Nothing { admitted: true });
    assert!(rig.endpoint.may_move());
    let notification = line(&json!({"jsonrpc": "2.0", "method": "notifications/x"}));
    rig.say(notification.clone());
    assert!(!rig.endpoint.may_move(), "it waits");
    assert_eq!(rig.poll(), Action::Send(vec![notification]));
    assert!(!rig.endpoint.may_move(), "it is being written");
    assert!(rig.reads_host());
    assert!(rig.endpoint.may_move());
    rig.say(request(0));
    rig.sent();
    assert!(!rig.endpoint.may_move(), "its answer is awaited");
}

#[test]
fn errors_that_answer_no_request_end_a_connection_without_a_session() {
    let refused = json!({"jsonrpc": "2.0", "error": {"code": -32002,
        "message": "Authentication failed", "data": {"reason": "Token expired"}}});
    let notice = |reason: &str| {
        json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32603, "message": "Full",
            "data": {"source": "mcp-remote", "reason": reason}}})
    };
    // As a server writes it.
    let text = |message: &Value| -> Bytes {
        let error = &message["error"];
        let id = if message["error"]["code"] == -32002 {
            ""
        } else {
            "\"id\":null,"
        };
        format!("{{\"jsonrpc\":\"2.0\",{id}\"error\":{error}}}\n").into()
    };
    let plain = |message: &Value| {
        let mut rig = Rig::new();
        rig.connect(Offer::Possible);
        rig.receive(&text(message))
    };
    assert!(matches!(plain(&refused), Err(End::Rejected(reason)) if reason.contains("expired")));
    let full = plain(&notice("too-many-connections"));
    assert!(matches!(full, Err(End::Lost(Lost::Notice(text))) if text == "Full"));
    for (line, says) in [
        (notice("tls-required"), "--tls"),
        (notice("wrong-transport"), "client ws"),
    ] {
        let Err(End::Mismatch(reason)) = plain(&line) else {
            panic!("{line}");
        };
        assert!(reason.contains(says), "{reason}");
    }
    // In a session the MCP server may have written them.
    let mut rig = Rig::established();
    for reason in ["too-many-connections", "tls-required"] {
        rig.hears(text(&notice(reason)));
    }
    assert!(rig.told().is_empty());
    assert_eq!(rig.waits(), Some(SECOND));
    rig.now += SECOND;
    assert_eq!(rig.sent(), [ack(2)], "they are counted");
    assert!(matches!(
        rig.receive(&text(&refused)),
        Err(End::Rejected(_))
    ));
}

#[test]
fn lines_of_the_host_that_cannot_be_sent_are_answered_or_dropped() {
    let mut rig = Rig::established();
    rig.say(Bytes::from_static(b"{\"a\":\"\xff\"}\n"));
    rig.say(ack(1));
    assert!(rig.sent().is_empty());
    let told = rig.told();
    assert_eq!(told.len(), 1);
    assert!(std::str::from_utf8(&told[0]).unwrap().contains("-32700"));
    // Bug: a server hung up on such a first line, and with it went everything else.
    for (junk, code) in [
        ("hello from my wrapper\n", "-32700"),
        ("{\n", "-32700"),
        ("[]\n", "-32600"),
        ("1\n", "-32600"),
    ] {
        rig.say(Bytes::from_static(junk.as_bytes()));
        let told = rig.told();
        assert_eq!(told.len(), 1, "{junk}");
        let told = std::str::from_utf8(&told[0]).unwrap();
        assert!(
            told.contains(code) && told.contains("\"id\":null"),
            "{told}"
        );
        assert!(rig.sent().is_empty(), "{junk}");
    }
    // Bug: a request with a byte of Latin-1 was answered without its id, and its host waited.
    rig.say(Bytes::from_static(
        b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"x\",\"params\":{\"a\":\"caf\xe9\"}}\n",
    ));
    rig.say(Bytes::from_static(
        b"{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":{\"a\":\"caf\xe9\"}}\n",
    ));
    assert!(rig.sent().is_empty());
    let told = rig.told();
    assert_eq!(told.len(), 1, "a notification is not answered");
    let answer: Value = serde_json::from_slice(&told[0]).unwrap();
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(7), &json!(-32700))
    );
}
