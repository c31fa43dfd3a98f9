//! Lines that one end refuses as too long: they get an error, and are never sent again.

use super::*;

fn padded(id: u64, method: &str, pad: usize) -> Bytes {
    let params = json!({"uri": format!("x:{id}"), "pad": "x".repeat(pad)});
    line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
}

/// What a server sends before it disconnects.
fn too_large(limit: usize) -> Bytes {
    too_large_line(None, limit, Measured::AsRead).into()
}

impl Rig {
    /// The server refuses a line and disconnects; the next one has no state. Returns what the next one receives.
    fn refused(&mut self, limit: usize, number: usize) -> Vec<Bytes> {
        self.hears(too_large(limit));
        self.lose();
        self.start(number)
    }

    fn start(&mut self, number: usize) -> Vec<Bytes> {
        self.connect(Offer::Promised);
        assert_eq!(self.sent(), [resume(None, 0)]);
        self.hears(resumed(number, 0, false));
        self.sent()
    }

    /// Responds to one of our requests, or of the host's.
    fn answer(&mut self, request: &Bytes) {
        let request: Value = serde_json::from_slice(request).unwrap();
        self.hears(response(&request["id"]));
    }

    /// The ids that the host gets errors for, and the reasons.
    fn told_why(&mut self) -> Vec<(Value, String)> {
        let read = |line: &Bytes| {
            let line: Value = serde_json::from_slice(line).unwrap();
            let reason = line["error"]["data"]["reason"].as_str();
            (line["id"].clone(), reason.unwrap_or_default().to_owned())
        };
        self.told().iter().map(read).collect()
    }
}

#[test]
fn lines_that_the_server_refuses_are_answered_and_not_sent_again() {
    let mut rig = Rig::established();
    rig.say(padded(1, "x", 0));
    rig.say(padded(2, "x", 500));
    assert_eq!(rig.sent().len(), 2);
    // These have not been sent; the last needs no response.
    rig.say(padded(3, "x", 500));
    rig.say(padded(4, "x", 0));
    let note = json!({"jsonrpc": "2.0", "method": "x", "params": ["x".repeat(500)]});
    rig.say(line(&note));
    assert_eq!(rig.refused(200, 1), [padded(4, "x", 0)]);
    let large = || "message-too-large".to_owned();
    let expected = [
        (json!(2), large()),
        (json!(1), "connection-lost".to_owned()),
        (json!(3), large()),
    ];
    assert_eq!(rig.told_why(), expected);
}

/// The server's last line ends the session only if it then disconnects: the MCP server may have
/// written it.
#[test]
fn an_error_that_is_followed_by_others_refuses_nothing() {
    let mut rig = Rig::established();
    rig.say(padded(1, "x", 500));
    assert_eq!(rig.sent().len(), 1);
    rig.hears(too_large(100));
    rig.hears(ack(1));
    rig.lose();
    assert!(rig.told().is_empty());
    rig.connect(Offer::Promised);
    assert_eq!(rig.sent(), [resume(Some(key(0)), 1)]);
}

/// Also without a session, and when no other connection is made.
#[test]
fn a_refused_line_is_answered_without_a_session() {
    let mut rig = Rig::new();
    rig.connect(Offer::Nothing { admitted: false });
    rig.say(padded(1, "x", 500));
    rig.say(padded(2, "x", 0));
    assert_eq!(rig.sent().len(), 2);
    rig.endpoint.on_host_end();
    let end = rig.receive(&too_large(100)).unwrap_err();
    assert!(matches!(rig.endpoint.on_disconnect(end).end, End::Done));
    let expected = [
        (json!(1), "message-too-large".to_owned()),
        (json!(2), "connection-lost".to_owned()),
    ];
    assert_eq!(rig.told_why(), expected);
}

/// Bug: our copies of the host's lines are longer than the originals, because of their ids. A server that
/// refused one received it again, in one session after another.
#[test]
fn what_a_new_server_refuses_to_be_told_is_forgotten() {
    let mut rig = Rig::established();
    let told = [
        padded(1, "initialize", 20),
        padded(2, "resources/subscribe", 100),
        padded(3, "resources/subscribe", 0),
    ];
    told.iter().for_each(|line| rig.say(line.clone()));
    let longest = rig.sent().iter().map(Bytes::len).max().unwrap();
    told.iter().for_each(|line| rig.answer(line));
    rig.endpoint.negotiation.forget();
    rig.lose();
    let again = rig.start(1);
    assert!(again.len() == 1 && again[0].len() < longest, "{again:?}");
    rig.answer(&again[0]);
    let again = rig.sent();
    assert!(again.len() == 2 && again[0].len() > longest, "{again:?}");
    // The handshake fits, and one of the two subscriptions.
    let again = rig.refused(longest - 1, 2);
    assert_eq!(again.len(), 1);
    rig.answer(&again[0]);
    let again = rig.sent();
    assert_eq!(again.len(), 1);
    assert!(std::str::from_utf8(&again[0]).unwrap().contains("x:3"));
    // Now not even the handshake fits.
    assert!(rig.refused(100, 3).is_empty());
    rig.say(request(5));
    assert_eq!(rig.sent(), [request(5)]);
}

/// A line from the server that is too long would come again: in the same session, or in response to the
/// same request.
#[test]
fn what_a_server_answers_with_a_line_that_is_too_long_is_not_asked_again() {
    let overrun = |rig: &mut Rig| {
        let end = LineError::TooLong { limit: 100 }.into();
        rig.endpoint.on_disconnect(end);
        rig.endpoint.prepare_reconnect();
    };
    let mut rig = Rig::established();
    let told = [
        padded(1, "initialize", 0),
        padded(2, "resources/subscribe", 0),
        padded(3, "resources/subscribe", 0),
        padded(4, "logging/setLevel", 0),
    ];
    for line in &told {
        rig.say(line.clone());
        assert_eq!(rig.sent(), std::slice::from_ref(line));
        rig.answer(line);
    }
    rig.told();
    rig.say(request(5));
    assert_eq!(rig.sent(), [request(5)]);
    overrun(&mut rig);
    assert_eq!(rig.told_why(), [(json!(5), "connection-lost".to_owned())]);
    let initialize = rig.start(1);
    rig.answer(&initialize[0]);
    let again = rig.sent();
    assert_eq!(again.len(), 3);
    rig.answer(&again[0]);
    rig.answer(&again[1]);
    overrun(&mut rig);
    let initialize = rig.start(2);
    rig.answer(&initialize[0]);
    assert_eq!(rig.sent().len(), 2, "one has not been answered");
    overrun(&mut rig);
    assert_eq!(rig.start(3).len(), 1);
    overrun(&mut rig);
    assert!(rig.start(4).is_empty());
}
