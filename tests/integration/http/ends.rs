//! When sessions end, and why.

use crate::common::{Setup, TestServer};
use crate::process::eventually;
use crate::support::http::{Http, INITIALIZE, Session, call, unanswered};
use serde_json::json;
use std::time::{Duration, Instant};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

#[test]
fn a_session_without_a_request_ends_in_time() {
    let server = Setup::new("http")
        .args(&["--idle-timeout", "300ms"])
        .start();
    let session = Session::begin(server.port);
    eventually("the session ends", || {
        std::thread::sleep(std::time::Duration::from_millis(700));
        (session.post(LIST).status() == 404).then_some(())
    });
}

/// Bug: a request that was never answered kept its session for as long as the server ran.
#[test]
fn a_session_whose_client_has_left_a_request_ends_in_time() {
    let server = Setup::new("http")
        .args(&["--idle-timeout", "300ms"])
        .start();
    let session = Session::begin(server.port);
    let request = session.send("POST", &[], &call(1, json!({"name": "x", "silent": true})));
    server.wait_seen("silent");
    drop(request);
    server.log.wait_for("session ends");
    server.wait_seen("notifications/cancelled");
    assert_eq!(session.post(LIST).status(), 404);
}

/// Bug: a request that was being executed when its session ended was said not to be, so clients sent it again.
#[test]
fn a_request_whose_session_ends_may_have_been_executed() {
    let server = TestServer::start("http");
    for accepts in ["application/json", "text/event-stream"] {
        let session = Session::begin(server.port);
        let silent = call(1, json!({"name": accepts, "silent": true}));
        let mut pending = session.send("POST", &[("Accept", accepts)], &silent);
        server.wait_seen(&format!("{accepts:?}"));
        assert_eq!(session.send("DELETE", &[], "").answer().status(), 204);
        assert_eq!(unanswered(&pending.answer()), "session-ended");
        assert_eq!(session.post(LIST).status(), 404);
    }
}

/// Bug: no other could take its place either.
#[test]
fn a_session_whose_client_has_left_a_request_gives_way() {
    let server = Setup::new("http").args(&["--max-sessions", "1"]).start();
    let session = Session::begin(server.port);
    let request = session.send("POST", &[], &call(1, json!({"name": "x", "silent": true})));
    server.wait_seen("silent");
    let begin = || Http::connect(server.port).post(&[], INITIALIZE).status();
    assert_eq!(begin(), 503, "its client still waits");
    drop(request);
    eventually("another session begins", || (begin() == 200).then_some(()));
    server.wait_seen("notifications/cancelled");
    assert_eq!(session.post(LIST).status(), 404);
}

/// Bug: it was idle since its last message, so it ended as soon as a client that had listened for long let go of its stream.
#[test]
fn a_session_is_idle_from_the_end_of_its_last_stream_on() {
    let limit = Duration::from_secs(1);
    let server = Setup::new("http")
        .args(&["--idle-timeout", "1s", "--keepalive-interval", "100ms"])
        .start();
    let mut stream = Session::begin(server.port).listen("");
    let began = Instant::now();
    while began.elapsed() < limit * 3 / 2 {
        // A comment.
        stream.line();
    }
    drop(stream);
    let left = Instant::now();
    server.log.wait_for("session ends");
    assert!(left.elapsed() >= limit, "{:?}", left.elapsed());
}

/// Bug: the log gave one reason for all of these.
#[test]
fn the_log_says_why_a_session_ends() {
    let server = Setup::new("http").args(&["--max-sessions", "1"]).start();
    let ends = |reason: &str| {
        let line = server.log.wait_for(reason);
        assert!(line.contains("session ends"), "{line}");
    };
    let refused = INITIALIZE.replace(r#""version":"1""#, r#""version":"1","refuse":true"#);
    let answer = Http::connect(server.port).post(&[], &refused);
    assert_eq!(answer.code(), -32602, "{answer:?}");
    ends("it has not begun: 'initialize' has failed, or its client has left");
    let first = Session::begin(server.port);
    assert_eq!(first.send("DELETE", &[], "").answer().status(), 204);
    ends("its client has ended it");
    let _second = Session::begin(server.port);
    let _third = Session::begin(server.port);
    ends("another one needs its place");
}
