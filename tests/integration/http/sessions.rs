//! The revisions with sessions: 2025-03-26, 2025-06-18 and 2025-11-25.

use crate::common::{Setup, TestServer, token, token_with};
use crate::process::eventually;
use crate::support::http::{Event, Http, INITIALIZE, Session, VERSION, call};
use serde_json::json;

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

fn messages(events: &[Event]) -> Vec<&str> {
    let message = |event: &Event| match event.data["method"].as_str() {
        Some("notifications/progress") => "progress",
        Some(_) => "other",
        None if event.data.is_null() => "nothing",
        None => "answer",
    };
    let words = events.iter().map(message);
    words
        .map(|word| word as &str)
        .collect::<Vec<&'static str>>()
}

/// L1, L6, L7, L8, L16, L24, L25, L26, L27, L28, L29, L30
#[test]
fn a_session_from_begin_to_end() {
    let server = TestServer::start("http");
    let session = Session::begin(server.port);
    assert!(session.id.len() >= 32 && session.id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
    let listed = session.post(LIST);
    assert_eq!(
        (listed.status(), &listed.json()["id"]),
        (200, &json!(1)),
        "L8"
    );
    assert_eq!(
        listed.head.header("content-type"),
        Some("application/json"),
        "L8"
    );
    assert_eq!(listed.head.header("mcp-session-id"), None, "L24");
    for body in [
        r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#,
        r#"{"jsonrpc":"2.0","id":"never asked","result":{}}"#,
    ] {
        let told = session.post(body);
        assert_eq!((told.status(), told.body.as_str()), (202, ""), "L6");
    }
    for body in [
        "",
        "{",
        "[]",
        "[{}]",
        "1",
        r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#,
    ] {
        let refused = session.post(body);
        assert_eq!(refused.status(), 400, "L7, L9: {body}");
        assert!(
            refused.code() == -32700 || refused.code() == -32600,
            "{refused:?}"
        );
    }
    for (name, value, status) in [
        (VERSION, "2025-03-26", 200),
        (VERSION, "2025-06-18", 200),
        (VERSION, "", 200),
        (VERSION, "2025-11-24", 400),
        (VERSION, "x", 400),
        ("mcp-protocol-version", "2025-11-25", 200),
    ] {
        let mut http = Http::connect(server.port);
        let answer = http.post(&[("MCP-SESSION-ID", &session.id), (name, value)], LIST);
        assert_eq!(answer.status(), status, "L28, L29, L30: {name}: {value}");
    }
    for method in ["POST", "GET", "DELETE"] {
        let mut http = Http::connect(server.port);
        http.send(method, &[], LIST);
        assert_eq!(http.answer().status(), 400, "L25: {method}");
        let mut http = Http::connect(server.port);
        let foreign = "0".repeat(32);
        http.send(method, &[("Mcp-Session-Id", &foreign)], LIST);
        assert_eq!(http.answer().status(), 404, "L26: {method}");
    }
    let other = session.send("PUT", &[], "").answer();
    assert_eq!(other.status(), 405, "L16");
    assert_eq!(
        other.head.header("allow"),
        Some("GET, POST, DELETE, OPTIONS")
    );
    let mut general = session.listen("");
    assert_eq!(
        session.send("DELETE", &[], "").answer().status(),
        204,
        "L27"
    );
    assert_eq!(general.event(), None);
    for method in ["POST", "GET", "DELETE"] {
        assert_eq!(
            session.send(method, &[], LIST).answer().status(),
            404,
            "L26: {method}"
        );
    }
}

/// Bug: the session had no id, and ended at once, if the MCP server said something before it answered `initialize`.
#[test]
fn what_comes_before_the_session_waits_for_a_listener() {
    let early = r#""version":"1","notify":"notifications/message""#;
    let initialize = INITIALIZE.replace(r#""version":"1""#, early);
    for isolate in ["--isolate=always", "--isolate=asking"] {
        let server = Setup::new("http").args(&[isolate]).start();
        for accepts in [
            "application/json, text/event-stream",
            "text/event-stream",
            "application/json",
        ] {
            let answer = Http::connect(server.port).post(&[("Accept", accepts)], &initialize);
            assert!(answer.body.contains(r#""id":"i""#), "{answer:?}");
            let is_json = answer.head.header("content-type") == Some("application/json");
            assert_eq!(is_json, accepts.contains("json"), "{answer:?}");
            let id = answer.head.header("mcp-session-id");
            let session = Session {
                port: server.port,
                id: id.expect("a session").to_owned(),
                version: "2025-11-25",
                token: String::new(),
            };
            let early = session.listen("").event().unwrap();
            assert_eq!(early.data["method"], "notifications/message");
            assert_eq!(session.post(LIST).status(), 200);
        }
    }
}

/// L10, L12, L13, L17, L18, L19, L20, L21
#[test]
fn every_message_has_one_stream() {
    let server = TestServer::start("http");
    let session = Session::begin(server.port);
    let mut general = session.listen("");
    let first = call(
        1,
        json!({"name": "x", "progress": 2, "delayMs": 300, "_meta": {"progressToken": "a"}}),
    );
    let second = call(
        2,
        json!({"name": "x", "progress": 1, "_meta": {"progressToken": "b"}}),
    );
    let mut first = session.stream(&first);
    let second = session.stream(&second).events();
    let first = first.events();
    assert_eq!(
        messages(&first),
        ["nothing", "progress", "progress", "answer"],
        "L10, L12, L13"
    );
    assert_eq!(messages(&second), ["nothing", "progress", "answer"]);
    for (events, token) in [(&first, "a"), (&second, "b")] {
        assert_eq!(events[1].data["params"]["progressToken"], token, "L19");
    }
    let told = session.post(&call(
        3,
        json!({"name": "x", "notify": "notifications/tools/list_changed"}),
    ));
    assert_eq!(told.json()["id"], 3);
    let changed = general.event().unwrap();
    assert_eq!(
        changed.data["method"], "notifications/tools/list_changed",
        "L17, L18"
    );
    let mut ids: Vec<_> = first
        .iter()
        .chain(&second)
        .chain([&changed])
        .map(|event| event.id.clone())
        .collect();
    assert!(ids.iter().all(Option::is_some));
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "L20");
    let stream = |event: &Event| {
        event
            .id
            .as_ref()
            .unwrap()
            .split('-')
            .next()
            .unwrap()
            .to_owned()
    };
    assert!(
        first.iter().all(|event| stream(event) == stream(&first[0])),
        "L21"
    );
    assert_ne!(stream(&first[0]), stream(&changed), "L21");
}

/// L10: only 2025-11-25 has events without a message.
#[test]
fn older_clients_get_no_event_without_a_message() {
    let server = TestServer::start("http");
    let mut session = Session::begin(server.port);
    session.version = "2025-06-18";
    let body = call(
        1,
        json!({"name": "x", "progress": 1, "_meta": {"progressToken": 1}}),
    );
    assert_eq!(
        messages(&session.stream(&body).events()),
        ["progress", "answer"]
    );
}

/// L15, L22, L23
#[test]
fn a_client_that_comes_back_gets_the_rest() {
    let server = TestServer::start("http");
    let session = Session::begin(server.port);
    let body = call(
        1,
        json!({"name": "x", "progress": 1, "delayMs": 300, "_meta": {"progressToken": 1}}),
    );
    let mut lost = session.stream(&body);
    let before_all = lost.event().unwrap().id.unwrap();
    let progress = lost.event().unwrap();
    drop(lost);
    let other = call(
        2,
        json!({"name": "x", "progress": 1, "_meta": {"progressToken": 2}}),
    );
    assert_eq!(session.stream(&other).events().len(), 3);
    let rest = session.listen(progress.id.as_ref().unwrap()).events();
    assert_eq!(messages(&rest), ["answer"], "L15, L22, L23");
    assert_eq!(rest[0].data["id"], 1);
    let all = session.listen(&before_all).events();
    assert_eq!(all, [progress, rest[0].clone()]);
    assert!(!server.seen().contains("notifications/cancelled"), "L15");
    for bad in ["x", "99-1", "0-99"] {
        let answer = session.send("GET", &[("Last-Event-ID", bad)], "").answer();
        assert_eq!(answer.status(), 400, "{bad}");
    }
}

/// A client that has lost its stream without noticing must not be locked out.
#[test]
fn a_second_listener_takes_the_stream_over() {
    let server = TestServer::start("http");
    let session = Session::begin(server.port);
    let (mut old, mut new) = (session.listen(""), session.listen(""));
    assert_eq!(old.event(), None);
    session.post(&call(
        1,
        json!({"name": "x", "notify": "notifications/prompts/list_changed"}),
    ));
    let changed = new.event().unwrap();
    drop(new);
    session.post(&call(
        2,
        json!({"name": "x", "notify": "notifications/tools/list_changed"}),
    ));
    let mut again = session.listen(changed.id.as_ref().unwrap());
    assert_eq!(
        again.event().unwrap().data["method"],
        "notifications/tools/list_changed"
    );
}

/// The MCP server's question comes on the stream of the request that caused it, and the answer goes back.
#[test]
fn questions_are_asked_and_answered() {
    let server = TestServer::start("http");
    let session = Session::begin(server.port);
    let body = call(
        1,
        json!({"name": "x", "ask": "elicitation/create", "delayMs": 1000}),
    );
    let mut stream = session.stream(&body);
    assert!(stream.event().unwrap().data.is_null());
    let question = stream.event().unwrap().data;
    assert_eq!(question["method"], "elicitation/create");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}});
    assert_eq!(session.post(&answer.to_string()).status(), 202);
    server.wait_seen(r#""id":"asked","result":{"action":"accept"}"#);
    assert_eq!(stream.event().unwrap().data["id"], 1);
    assert_eq!(stream.event(), None);
}

/// A long silence is filled with comments, so that intermediaries do not cut the connection.
#[test]
fn a_slow_answer_gets_a_stream_with_comments() {
    let server = Setup::new("http")
        .args(&["--keepalive-interval", "200ms"])
        .start();
    let session = Session::begin(server.port);
    let mut stream = session.stream(&call(1, json!({"name": "x", "delayMs": 3000})));
    let mut text = String::new();
    while !text.contains("\"result\"") {
        text.push_str(&stream.line());
        text.push('\n');
    }
    assert!(text.matches("\n:\n").count() >= 2, "{text}");
}

#[test]
fn what_is_cancelled_ends_without_an_answer() {
    let server = TestServer::start("http");
    let session = Session::begin(server.port);
    let mut stream = session.stream(&call(
        7,
        json!({"name": "x", "progress": 1, "silent": true, "_meta": {"progressToken": 1}}),
    ));
    assert_eq!(stream.event().unwrap().data, json!(null));
    assert_eq!(messages(&[stream.event().unwrap()]), ["progress"]);
    let twice = session.post(&call(7, json!({"name": "x"})));
    assert!(twice.body.contains("still in flight"), "{twice:?}");
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
    assert_eq!(session.post(&cancel.to_string()).status(), 202);
    assert_eq!(stream.event(), None);
    server.wait_seen("notifications/cancelled");
    assert_eq!(session.post(&call(7, json!({"name": "x"}))).json()["id"], 7);
}

/// L5, L31
#[test]
fn sessions_are_their_owners() {
    let server = Setup::new("http").secret().start();
    let alice = token_with(&["user"]);
    let session = Session::begin_with(server.port, &alice);
    let bob = token(&json!({"user": "bob", "roles": ["user"]}));
    let admin = token_with(&["admin"]);
    for (token, status) in [
        (format!("Bearer {alice}"), 200),
        (
            format!(
                "bearer {}",
                token(&json!({"user": "alice", "roles": ["user"]}))
            ),
            200,
        ),
        (format!("Bearer {bob}"), 404),
        (format!("Bearer {admin}"), 404),
        ("Bearer x".to_owned(), 401),
        (alice.clone(), 401),
        (String::new(), 401),
    ] {
        let mut http = Http::connect(server.port);
        let named = [
            ("Mcp-Session-Id", session.id.as_str()),
            ("Authorization", token.as_str()),
        ];
        let answer = http.post(&named, LIST);
        assert_eq!(answer.status(), status, "{answer:?}");
        let challenge = answer.head.header("www-authenticate");
        match (status, token.is_empty()) {
            (401, true) => assert_eq!(challenge, Some("Bearer")),
            (401, false) => assert_eq!(challenge, Some("Bearer error=\"invalid_token\"")),
            _ => assert_eq!(challenge, None),
        }
    }
    // One connection may carry the requests of many clients, as behind a reverse proxy.
    let mut http = Http::connect(server.port);
    for (token, status) in [(&alice, 200), (&bob, 404), (&alice, 200)] {
        let bearer = format!("Bearer {token}");
        let named = [
            ("Mcp-Session-Id", session.id.as_str()),
            ("Authorization", &bearer),
        ];
        assert_eq!(http.post(&named, LIST).status(), status);
    }
    let mut http = Http::connect(server.port);
    http.raw(b"POST /mcp?access_token=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(http.answer().status(), 400);
    let log = server.stop();
    let named = "refused a request: the session that it names belongs to another user";
    let warnings = log.lines().filter(|line| line.contains(named));
    assert_eq!(warnings.count(), 3, "{log}");
}

#[test]
fn the_policy_holds_and_a_revoked_token_ends_its_session() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("revoked");
    std::fs::write(&list, "").unwrap();
    let policy = json!({"permissions": {"user": {"allowedMethods": ["initialize", "tools/*"], "blockedTools": ["rm"]}}});
    let list_path = list.display().to_string();
    let server = Setup::new("http")
        .policy(&policy)
        .args(&["--revoked", &list_path])
        .start();
    let session = Session::begin_with(server.port, &token_with(&["user"]));
    let denied = session.post(&call(1, json!({"name": "rm"})));
    assert_eq!(
        (denied.status(), denied.code(), &denied.json()["id"]),
        (200, -32601, &json!(1))
    );
    let vanished = session.post(r#"{"jsonrpc":"2.0","method":"notifications/secret"}"#);
    assert_eq!(vanished.status(), 202);
    let mut general = session.listen("");
    std::fs::write(&list, "user:alice\n").unwrap();
    server.reload();
    assert_eq!(general.event(), None);
    assert_eq!(session.post(LIST).status(), 401);
    let seen = server.seen();
    assert!(
        !seen.contains("\"rm\"") && !seen.contains("notifications/secret"),
        "{seen}"
    );
}

/// Bug: a message that waited for the MCP server was judged by the policy from before it waited.
#[test]
fn a_request_that_waits_is_held_to_the_reloaded_policy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.json");
    let path = file.display().to_string();
    let policy = |blocked: &str| {
        let rules = json!({"allowedMethods": ["*"], "blockedTools": [blocked]});
        let policy = json!({"permissions": {"user": rules}});
        std::fs::write(&file, policy.to_string()).unwrap();
    };
    policy("nothing");
    let setup = Setup::new("http").secret();
    let server = setup
        .args(&["--permissions-config", &path, "--max-in-flight", "1"])
        .start();
    let token = token_with(&["user"]);
    let [waiting, other] = [(); 2].map(|()| Session::begin_with(server.port, &token));
    // More is in flight than fits: a change of the log level takes a place without waiting for it.
    let mut first = waiting.send("POST", &[], &call(1, json!({"name": "x", "silent": true})));
    server.wait_seen("silent");
    let level = json!({"jsonrpc": "2.0", "id": 2, "method": "logging/setLevel", "params": {"level": "debug", "silent": true}});
    let mut second = waiting.send("POST", &[], &level.to_string());
    server.wait_seen("setLevel");
    let mut third = waiting.send("POST", &[], &call(3, json!({"name": "rm"})));
    assert_eq!(other.post(LIST).status(), 200);
    policy("rm");
    server.reload();
    other.post(&call(4, json!({"name": "x", "exit": 3})));
    assert_eq!(
        first.answer().json()["error"]["data"]["reason"],
        "child-exited"
    );
    assert_eq!(second.answer().json()["id"], 2);
    assert_eq!(third.answer().code(), -32601);
    assert!(!server.seen().contains("\"rm\""));
}

#[test]
fn requests_in_flight_are_answered_when_the_server_stops() {
    let server = TestServer::start("http");
    let session = Session::begin(server.port);
    let mut stream = session.send("POST", &[], &call(1, json!({"name": "x", "delayMs": 500})));
    let mut general = session.listen("");
    server.wait_seen("delayMs");
    let log = server.stop();
    assert_eq!(stream.answer().json()["id"], 1, "{log}");
    assert_eq!(general.event(), None);
    assert!(!log.contains("did not take their last messages"), "{log}");
}

#[test]
fn each_client_that_can_be_asked_gets_its_own_process() {
    let server = Setup::new("http").args(&["--isolate=asking"]).start();
    let (one, two) = (Session::begin(server.port), Session::begin(server.port));
    assert_eq!(
        (one.post(LIST).status(), two.post(LIST).status()),
        (200, 200)
    );
    // The shared one, and one each.
    server.log.wait_for_times("MCP server started", 3);
    assert_eq!(one.send("DELETE", &[], "").answer().status(), 204);
    let ended = || server.log.text().matches("MCP server ended").count();
    eventually("the process ends with its session", || {
        (ended() == 1).then_some(())
    });
    assert_eq!(two.post(LIST).status(), 200);
}
