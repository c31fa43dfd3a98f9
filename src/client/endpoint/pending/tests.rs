use super::super::server_requests::MAX_REMEMBERED;
use super::*;

const LOST: Failure = Failure::CONNECTION_LOST;

fn server_line(text: &str) -> ServerLine {
    bytes(text).into()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn text(line: &[u8]) -> &str {
    std::str::from_utf8(line).unwrap()
}

#[test]
fn requests_in_flight_fail_in_order_when_the_connection_is_lost() {
    let mut pending = Pending::default();
    for id in ["7", "\"7\"", "0"] {
        pending.on_sent(&bytes(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#
        )));
    }
    assert_eq!(
        pending.on_server_line(&server_line(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#)),
        Verdict::Pass
    );
    assert_eq!(pending.awaited(), 2);
    let errors = pending.fail_all(&LOST, Executed::Unknown);
    assert_eq!(pending.awaited(), 0);
    assert!(text(&errors[0]).starts_with(
        r#"{"jsonrpc":"2.0","id":"7","error":{"code":-32603,"message":"Connection lost""#
    ));
    assert!(text(&errors[1]).contains(r#""id":0"#));
    assert!(text(&errors[1]).contains(r#""reason":"connection-lost","executed":"unknown""#));
}

#[test]
fn a_cancelled_request_is_not_awaited() {
    let mut pending = Pending::default();
    pending.on_sent(&bytes(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#));
    pending.on_sent(&bytes(
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    ));
    assert_eq!(pending.awaited(), 0);
}

#[test]
fn a_subscription_is_not_awaited() {
    let mut pending = Pending::default();
    pending.on_sent(&bytes(
        r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen"}"#,
    ));
    assert_eq!(pending.awaited(), 0);
    assert_eq!(pending.fail_all(&LOST, Executed::Unknown).len(), 1);
    assert_eq!(pending.awaited(), 0);
}

#[test]
fn a_line_that_was_not_received_does_not_fail() {
    let mut pending = Pending::default();
    let request = bytes(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
    let initialized = bytes(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    for line in [&request, &initialized] {
        pending.on_sent(line);
    }
    assert!(pending.is_obsolete(&initialized) && !pending.is_obsolete(&request));
    for line in [&request, &initialized] {
        pending.on_unsent(line);
    }
    assert!(!pending.is_obsolete(&initialized));
    assert!(pending.fail_all(&LOST, Executed::Unknown).is_empty());
    let own = bytes(r#"{"jsonrpc":"2.0","id":"mcp-remote/replay-1-0","method":"ping"}"#);
    assert!(pending.is_obsolete(&own));
    let answer = bytes(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert!(pending.is_obsolete(&answer));
}

/// Bug: the host's answer to a question from a server that was gone reached its successor, which
/// had asked something else under the same id.
#[test]
fn a_response_does_not_reach_the_request_of_another_server() {
    let mut pending = Pending::default();
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
        assert_eq!(pending.on_server_line(&asked.into()), Verdict::Pass);
    }
    assert_eq!(pending.on_host_line(answer("1")), Some(answer("1")));
    let lines = pending.fail_all(&LOST, Executed::Unknown);
    assert_eq!(lines.len(), 2);
    assert!(
        text(&lines[0]).ends_with("\"notifications/cancelled\",\"params\":{\"requestId\":0}}\n")
    );
    // The new server uses ids that the host has pending, and one that it has already answered.
    let renamed = "\"mcp-remote/again-1\"";
    let Verdict::Change(asked) = pending.on_server_line(&question("0", "roots/list").into()) else {
        panic!("the host takes this for the other question");
    };
    assert_eq!(
        text(&asked).trim_end(),
        text(&question(renamed, "roots/list"))
    );
    assert_eq!(
        pending.on_server_line(&question("1", "roots/list").into()),
        Verdict::Pass
    );
    let cancelled = bytes(
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0,"reason":"x"}}"#,
    );
    let Verdict::Change(cancelled) = pending.on_server_line(&cancelled.into()) else {
        panic!("the host takes this for the other question");
    };
    assert_eq!(
        text(&cancelled).trim_end(),
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"mcp-remote/again-1","reason":"x"}}"#
    );
    // The late answer is dropped, once; then comes the answer to the new question.
    assert_eq!(pending.on_host_line(answer("0")), None);
    assert_eq!(pending.on_host_line(answer(renamed)), Some(answer("0")));
    assert_eq!(pending.on_host_line(answer("1")), Some(answer("1")));
    assert_eq!(pending.on_host_line(answer("2")), None);
    assert_eq!(pending.on_host_line(answer("9")), Some(answer("9")));
}

/// Bug: a server that kept asking filled the client's memory.
#[test]
fn remembered_server_requests_are_bounded() {
    let mut pending = Pending::default();
    for round in 0..3 {
        for id in 0..2 * MAX_REMEMBERED {
            pending.on_server_line(&server_line(&format!(
                r#"{{"jsonrpc":"2.0","id":"{round}-{id}","method":"ping"}}"#
            )));
        }
        assert_eq!(
            pending.fail_all(&LOST, Executed::Unknown).len(),
            MAX_REMEMBERED
        );
    }
    assert_eq!(pending.server_requests.abandoned(), MAX_REMEMBERED);
}

/// Bug: `printf '{' | mcp-remote client …` could exit before the server had reported the error,
/// and the client waited forever for a request that was nested too deep.
#[test]
fn a_complaint_about_an_unparsable_line_is_expected() {
    let mut pending = Pending::default();
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":[{}]}}"#,
        "[".repeat(130) + &"]".repeat(130)
    );
    for line in ["{", r#"{"jsonrpc":"2.0","id":5}"#, &*deep] {
        pending.on_sent(&bytes(line));
    }
    assert_eq!(pending.awaited(), 0);
    for complaint in ["null", "5", "null"] {
        assert!(pending.expects_complaint());
        let line = format!(
            r#"{{"jsonrpc":"2.0","id":{complaint},"error":{{"code":-32600,"message":"x"}}}}"#
        );
        assert_eq!(pending.on_server_line(&server_line(&line)), Verdict::Pass);
    }
    assert!(!pending.expects_complaint());
}

#[test]
fn lines_that_are_not_json_are_dropped() {
    let mut pending = Pending::default();
    for line in ["", "\r", "Welcome!", "1", "{\"half", "{} {}", "{a: 1}"] {
        assert_eq!(
            pending.on_server_line(&server_line(line)),
            Verdict::Drop,
            "{line}"
        );
    }
    for line in ["{}", " [{}]\r", r#"{"jsonrpc":"2.0","id":1.5,"result":{}}"#] {
        assert_eq!(
            pending.on_server_line(&server_line(line)),
            Verdict::Pass,
            "{line}"
        );
    }
    let invalid = Bytes::from_static(b"{\"a\":\"\xff\"}");
    assert_eq!(pending.on_server_line(&invalid.into()), Verdict::Drop);
}

#[test]
fn initialize_is_repeated_once_it_has_succeeded() {
    let mut pending = Pending::default();
    assert_eq!(pending.rejoin().initialize_again(), None);
    pending.on_sent(&bytes(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#));
    assert_eq!(pending.rejoin().initialize_again(), None);
    pending.on_server_line(&server_line(r#"{"jsonrpc":"2.0","id":0,"result":{}}"#));
    assert!(pending.rejoin().rest().is_empty());
    pending.on_sent(&bytes(
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    ));
    let replay = pending.rejoin().initialize_again().unwrap();
    assert_eq!(
        text(&replay),
        "{\"jsonrpc\":\"2.0\",\"id\":\"mcp-remote/replay-3-initialize\",\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-06-18\"}}\n"
    );
    assert_eq!(pending.rejoin().rest().len(), 1);
    assert_eq!(pending.awaited(), 0);
    let answer = bytes(r#"{"jsonrpc":"2.0","id":"mcp-remote/replay-3-initialize","result":{}}"#);
    assert_eq!(
        pending.on_server_line(&answer.into()),
        Verdict::Rejoined(true)
    );
}
