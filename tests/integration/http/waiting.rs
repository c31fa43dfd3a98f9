//! Requests that wait for room at the MCP server before they are sent.

use crate::common::{Setup, TestServer};
use crate::process::eventually;
use crate::support::http::{Http, Session, call, expect_stream, unanswered};
use serde_json::json;

/// A server that lets one request of each session run.
fn server() -> TestServer {
    let setup = Setup::new("http").env("RUST_LOG", "debug");
    setup.args(&["--max-in-flight", "1"]).start()
}

/// A session that has no room for further requests until the MCP server exits, and its pending requests.
fn full(server: &TestServer) -> (Session, [Http; 2]) {
    let session = Session::begin(server.port);
    let first = session.send("POST", &[], &call(1, json!({"name": "x", "silent": true})));
    server.wait_seen("silent");
    // More is in flight than fits: a change of the log level takes a place without waiting for it.
    let level = json!({"jsonrpc": "2.0", "id": 2, "method": "logging/setLevel", "params": {"level": "debug", "silent": true}});
    let second = session.send("POST", &[], &level.to_string());
    server.wait_seen("setLevel");
    (session, [first, second])
}

/// Sends a request that waits.
fn waiting(session: &Session, body: &str) -> Http {
    // Of two with the same id, one waits and one is refused.
    let mut both = [(); 2].map(|()| session.send("POST", &[], body));
    let refused = eventually("one of the two is refused", || {
        (0..2).find(|at| both[*at].has_more())
    });
    let answer = both[refused].answer();
    assert!(answer.body.contains("still in flight"), "{answer:?}");
    let [first, second] = both;
    if refused == 0 { second } else { first }
}

/// Makes room in all sessions.
fn make_room(server: &TestServer, pending: [Http; 2]) {
    let other = Session::begin(server.port);
    other.post(&call(1, json!({"name": "x", "exit": 3})));
    for mut pending in pending {
        pending.answer();
    }
}

/// Bug: its id was "still in flight" for as long as the session lived, which then never expired.
#[test]
fn a_client_that_hangs_up_meanwhile_can_use_the_id_again() {
    let server = server();
    let (session, pending) = full(&server);
    let body = call(7, json!({"name": "x"}));
    let waiting = waiting(&session, &body);
    let address = waiting.address();
    drop(waiting);
    let gone = |line: &&str| line.contains(&address) && line.contains("disconnected");
    eventually("the server notices", || {
        server.log.text().lines().find(gone).map(str::to_owned)
    });
    make_room(&server, pending);
    let answer = session.post(&body);
    assert_eq!(
        answer.json()["result"]["method"],
        "tools/call",
        "{answer:?}"
    );
}

/// Bug: it was sent once there was room, though the client had already been told that it was cancelled.
#[test]
fn a_request_that_is_cancelled_meanwhile_is_not_sent() {
    let server = server();
    let (session, pending) = full(&server);
    let mut waiting = waiting(&session, &call(7, json!({"name": "cancelled"})));
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
    let mut cancelling = session.send("POST", &[], &cancel.to_string());
    assert_eq!(waiting.answer().status(), 204);
    make_room(&server, pending);
    assert_eq!(cancelling.answer().status(), 202);
    let answer = session.post(&call(7, json!({"name": "y"})));
    assert_eq!(
        answer.json()["result"]["method"],
        "tools/call",
        "{answer:?}"
    );
    let seen = server.seen();
    assert!(!seen.contains(r#""cancelled""#), "{seen}");
}

/// The same if the session ends.
#[test]
fn a_request_whose_session_ends_meanwhile_is_not_sent() {
    let server = server();
    let (session, pending) = full(&server);
    let mut waiting = waiting(&session, &call(7, json!({"name": "ended"})));
    assert_eq!(session.send("DELETE", &[], "").answer().status(), 204);
    assert_eq!(waiting.answer().status(), 404);
    for mut pending in pending {
        assert_eq!(unanswered(&pending.answer()), "session-ended");
    }
    let seen = server.seen();
    assert!(!seen.contains(r#""ended""#), "{seen}");
}

/// Bug: it kept the session, so that the MCP server went on with the requests of one that had ended.
#[test]
fn a_notification_whose_session_ends_meanwhile_is_not_sent() {
    let server = server();
    let (session, pending) = full(&server);
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/own"}"#;
    let mut waiting = session.send("POST", &[], notification);
    let connected = format!("address={}", waiting.address());
    server.log.wait_for(&connected);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!waiting.has_more(), "it waits");
    assert_eq!(session.send("DELETE", &[], "").answer().status(), 204);
    for mut pending in pending {
        assert_eq!(unanswered(&pending.answer()), "session-ended");
    }
    assert_eq!(waiting.answer().status(), 404);
    server.wait_seen("notifications/cancelled");
    assert!(!server.seen().contains("notifications/own"));
}

/// Bug: it came on the stream of the request that waited.
#[test]
fn a_question_is_on_the_stream_of_a_request_that_the_server_has() {
    let server = server();
    let session = Session::begin(server.port);
    let asks =
        json!({"name": "asks", "ask": "elicitation/create", "laterMs": 4000, "silent": true});
    let _first = session.send("POST", &[], &call(1, asks));
    server.wait_seen("asks");
    let level = json!({"jsonrpc": "2.0", "id": 2, "method": "logging/setLevel", "params": {"level": "debug", "silent": true}});
    let mut second = session.send("POST", &[], &level.to_string());
    server.wait_seen("setLevel");
    let mut waiting = waiting(&session, &call(7, json!({"name": "x"})));
    let refused = waiting.answer().json();
    assert_eq!(refused["error"]["data"]["reason"], "too-many-waiting");
    expect_stream(&mut second);
    let events = [(); 2].map(|()| second.event().unwrap().data["method"].clone());
    assert_eq!(events, [json!(null), json!("elicitation/create")]);
}
