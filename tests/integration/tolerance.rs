//! What hosts tolerate from a server, the proxy tolerates too: the requester gets the response, or at least an
//! error.

use crate::common::{BOTH, Setup, TestClient, request};
use crate::questions::{ELICIT, shake_hands};
use serde_json::{Value, json};

/// Writes, for each request, the line that its `params` ask for, with the id in place of `ID`.
const CHILD: &str = r#"
import json, sys
for line in sys.stdin.buffer:
    message = json.loads(line)
    if "id" not in message or "method" not in message:
        continue
    if message["method"] == "initialize":
        answer = '{"jsonrpc":"2.0","id":ID,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}'
    else:
        answer = message["params"]["line"]
    answer = answer.replace("ID", json.dumps(message["id"]))
    sys.stdout.buffer.write(answer.encode().replace(b"LATIN", b"\xe9") + b"\n")
    sys.stdout.buffer.flush()
"#;

/// The flags of a server whose peers share a process, and of one where each has its own.
const SHARED_AND_ISOLATED: [&[&str]; 2] = [&[], &["--isolate"]];

fn assert_answers(isolation: &[&str], cases: &[(&str, &Value)]) {
    for transport in BOTH {
        let server = Setup::new(transport)
            .args(isolation)
            .program(&["python3", "-c", CHILD])
            .start();
        let mut peer = server.peer();
        peer.initialize();
        for (at, (line, expected)) in (10..).zip(cases) {
            let answer = peer.ask(at, "tools/list", json!({"line": line}));
            assert_eq!(answer["id"], at, "{transport}: {line}");
            let outcome = match &answer["error"]["data"]["reason"] {
                Value::Null => &answer["result"],
                reason => reason,
            };
            let outcome = match &answer["error"]["message"] {
                Value::String(text) if outcome.is_null() => &json!(text),
                _ => outcome,
            };
            assert_eq!(&outcome, expected, "{transport}: {line}");
        }
    }
}

#[test]
fn an_answer_among_other_things_or_with_nulls_reaches_its_asker() {
    let ok = json!({"ok": true});
    let real_error = json!("the real error");
    let unreadable = json!("answer-unreadable");
    let mended = json!({"x": [null, null, null, "NaN"]});
    let replaced = json!({"x": "caf\u{fffd}"});
    let cases = [
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"ok":true},"error":null}"#,
            &ok,
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":null,"error":{"code":1,"message":"the real error"}}"#,
            &real_error,
        ),
        (
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"ok\":true}}",
            &ok,
        ),
        (
            "npm notice\r{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"ok\":true}}",
            &ok,
        ),
        (
            r#"Ready. {"jsonrpc":"2.0","id":ID,"result":{"ok":true}} (took 3 ms)"#,
            &ok,
        ),
        (r#"{"id":ID,"result":{"ok":true}}"#, &ok),
        (
            r#"{"jsonrpc":"2.0","id":999999,"result":{}}{"jsonrpc":"2.0","id":ID,"result":{"ok":true}}"#,
            &ok,
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"x":[NaN,Infinity,-Infinity,"NaN"]}}"#,
            &mended,
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"x":"cafLATIN"}}"#,
            &replaced,
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"x":nan}}"#,
            &unreadable,
        ),
        (
            r#"{"jsonrpc":"2.0","id":ID,"result":{"ok":true"#,
            &unreadable,
        ),
        (r#"{"id":ID,"result":{}"#, &unreadable),
    ];
    for isolation in SHARED_AND_ISOLATED {
        assert_answers(isolation, &cases);
    }
}

/// The one that chose the id has no other in flight that looks like it.
#[test]
fn an_id_that_comes_back_retyped_is_matched_by_its_value() {
    let ok = json!({"ok": true});
    let real_error = json!("the real error");
    let cases = [
        (r#"{"jsonrpc":"2.0","id":"ID","result":{"ok":true}}"#, &ok),
        (r#"{"jsonrpc":"2.0","id":ID.0,"result":{"ok":true}}"#, &ok),
        (r#"{"jsonrpc":"2.0","id":ID.00,"result":{"ok":true}}"#, &ok),
        (
            r#"{"jsonrpc":"2.0","id":"ID","error":{"code":1,"message":"the real error"}}"#,
            &real_error,
        ),
    ];
    for isolation in SHARED_AND_ISOLATED {
        assert_answers(isolation, &cases);
    }
}

/// The server waited for `--question-timeout`, or forever.
#[test]
fn an_answer_of_the_host_that_is_not_utf8_fails_its_question() {
    let answer = |id: &Value| {
        let line = json!({"jsonrpc": "2.0", "id": id, "result": {"action": "LATIN"}}).to_string();
        let (before, after) = line.split_once("LATIN").unwrap();
        [before.as_bytes(), b"\xe9", after.as_bytes(), b"\n"].concat()
    };
    for isolation in SHARED_AND_ISOLATED {
        let server = Setup::new("tcp").args(isolation).start();
        let mut peer = server.peer();
        shake_hands(&mut peer);
        let question = peer.ask(1, "tools/call", json!({"ask": ELICIT}));
        peer.raw(&answer(&question["id"]));
        assert_eq!(peer.next()["id"], 1);
        server.wait_seen("answer-unreadable");
    }
    for (transport, client) in [("tcp", "tcp"), ("ws", "ws"), ("http", "http")] {
        let server = Setup::new(transport).args(&["--isolate"]).start();
        let url = format!("http://127.0.0.1:{}/mcp", server.port);
        let mut client = match client {
            "http" => TestClient::http(&url, &[], &[]),
            _ => TestClient::start(transport, server.port, &[], None),
        };
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "h", "version": "1"}});
        assert_eq!(client.ask(0, "initialize", params)["id"], 0);
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        let question = client.ask(1, "tools/call", json!({"ask": ELICIT}));
        assert_eq!(question["method"], ELICIT, "{transport}: {question}");
        client.send_bytes(&answer(&question["id"]));
        assert_eq!(client.next()["id"], 1);
        server.wait_seen("answer-unreadable");
    }
}

/// The same the other way round.
#[test]
fn a_request_of_the_server_that_cannot_be_read_fails() {
    for isolation in SHARED_AND_ISOLATED {
        let server = Setup::new("tcp").args(isolation).start();
        let mut peer = server.peer();
        peer.initialize();
        let odd = r#"{"jsonrpc":"2.0","id":"odd","method":"roots/list","params":"none"}"#;
        peer.ask(1, "x", json!({"print": format!("{odd}\n")}));
        let answer = server.wait_seen(r#""id":"odd""#);
        assert!(answer.contains("-32600"), "{answer}");
    }
}

/// Some hosts drop the transport at a response to what they have cancelled, and at progress that
/// they do not know.
#[test]
fn what_comes_too_late_reaches_nobody() {
    for isolation in SHARED_AND_ISOLATED {
        let server = Setup::new("tcp").args(isolation).start();
        let mut peer = server.peer();
        let slow = json!({"delayMs": 500, "progress": 2, "_meta": {"progressToken": "slow"}});
        peer.send(&request(1, "tools/call", slow));
        for _ in 0..2 {
            assert_eq!(peer.next()["params"]["progressToken"], "slow");
        }
        peer.send(
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        );
        assert_eq!(peer.ask(2, "x", json!({"delayMs": 1000}))["id"], 2);
        // Unrequested progress.
        let stray = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"stray","progress":1}}"#;
        let params = json!({"print": format!("{stray}\n")});
        assert_eq!(peer.ask(3, "x", params)["id"], 3);
    }
}

#[test]
fn ids_of_any_number_are_given_back_as_they_were_written() {
    for transport in BOTH {
        let server = Setup::new(transport).start();
        let mut peer = server.peer();
        for id in ["9.0", "1e3", "18446744073709551615", "-0", "1.5"] {
            peer.send(&format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"ping","params":null}}"#
            ));
            let answer = peer.next_line().unwrap();
            assert!(
                answer.contains(&format!(r#""id":{id},"result""#)),
                "{answer}"
            );
        }
    }
}

#[test]
fn notifications_and_answers_that_are_refused_are_not_answered() {
    for transport in BOTH {
        let server = Setup::new(transport).start();
        let mut peer = server.peer();
        peer.ask(1, "ping", json!({}));
        for line in [
            r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"a":NaN}}"#,
            r#"{"jsonrpc":"1.0","method":"notifications/x"}"#,
            r#"{"jsonrpc":"2.0","id":7,"result":NaN}"#,
            r#"{"jsonrpc":"2.0","id":7,"error":"x"}"#,
        ] {
            peer.send(line);
        }
        assert_eq!(peer.ask(2, "ping", json!({}))["id"], 2, "{transport}");
    }
}

/// Bug: each line that a server wrote to stdout for its user was a warning, and so was each empty one.
#[test]
fn a_server_that_logs_to_stdout_does_not_fill_the_log() {
    for isolation in SHARED_AND_ISOLATED {
        let server = Setup::new("tcp").args(isolation).start();
        let mut peer = server.peer();
        peer.initialize();
        let junk = "Ready.\n\n".repeat(50);
        assert_eq!(peer.ask(1, "x", json!({"print": junk}))["id"], 1);
        server.log.wait_for("count=10");
        let log = server.log.text();
        let warnings = log.matches("that is no JSON-RPC message").count();
        assert_eq!(warnings, 2, "the first and the tenth: {log}");
        assert!(log.contains("belong on stderr"), "{log}");
    }
}

/// Refuses every version but its own, and names its own only if configured to.
const STRICT: &str = r#"
import json, sys
own, error = sys.argv[1], json.loads(sys.argv[2])
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if message["method"] != "initialize":
        answer["result"] = {}
    elif message["params"]["protocolVersion"] == own:
        answer["result"] = {"protocolVersion": own, "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
    else:
        answer["error"] = error
    print(json.dumps(answer), flush=True)
"#;

/// Hosts that request their own version work with such servers directly, but did not through the proxy.
#[test]
fn a_server_that_refuses_the_newest_version_is_asked_for_another() {
    let refusal = json!({"code": -32602, "message": "Unsupported protocol version"});
    let mut telling = refusal.clone();
    telling["data"] = json!({"supported": ["2025-03-26"], "requested": "2025-11-25"});
    // The host's version, the server's version, its error for the others.
    let cases = [
        ("2025-06-18", "2025-06-18", &refusal),
        ("2024-10-07", "2024-10-07", &refusal),
        ("2025-11-25", "2025-03-26", &telling),
        ("2024-11-05", "2025-03-26", &telling),
    ];
    for (asked, own, error) in cases {
        let server = Setup::new("tcp")
            .program(&["python3", "-c", STRICT, own, &error.to_string()])
            .start();
        for _ in 0..2 {
            let mut peer = server.peer();
            let params = json!({"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "h", "version": "1"}});
            let answer = peer.ask(1, "initialize", params);
            let told = std::cmp::min(asked, own);
            assert_eq!(answer["result"]["protocolVersion"], told, "{answer}");
            peer.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
            assert!(peer.ask(2, "tools/list", json!({}))["result"].is_object());
        }
    }
    // There is no way to learn its version.
    let server = Setup::new("tcp")
        .program(&["python3", "-c", STRICT, "2024-11-05", &refusal.to_string()])
        .start();
    assert_eq!(server.peer().initialize()["error"]["code"], -32602);
}
