//! The MCP server's questions to its clients, and that none goes to the wrong client.

use crate::common::{BOTH, Setup, TestServer, now, request, token};
use crate::process::eventually;
use crate::wire::TestPeer;
use serde_json::{Value, json};

pub const ELICIT: &str = "elicitation/create";

pub fn login(server: &TestServer, user: &str) -> TestPeer {
    server.peer_with(&token(&json!({"user": user, "exp": now() + 3600})))
}

/// A legacy handshake of a client that can be asked.
pub fn shake_hands(peer: &mut TestPeer) {
    let params = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {"elicitation": {}, "roots": {"listChanged": true}},
        "clientInfo": {"name": "test", "version": "1"},
    });
    let answer = peer.ask("initialize", "initialize", params);
    assert!(answer["result"].is_object(), "{answer}");
    peer.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
}

pub fn able(server: &TestServer, user: &str) -> TestPeer {
    let mut peer = login(server, user);
    shake_hands(&mut peer);
    peer
}

/// The next message that is not a control line.
pub fn next_message(peer: &mut TestPeer) -> Value {
    loop {
        let message = peer.next();
        if message["method"] != "mcp-remote/ack" {
            return message;
        }
    }
}

fn refusals(server: &TestServer) -> usize {
    server.seen().matches("\"ambiguous-requester\"").count()
}

/// Makes a tool elicit, and gets a refusal of the question.
fn elicit_in_vain(server: &TestServer, peer: &mut TestPeer, id: &str) {
    let before = refusals(server);
    assert_eq!(peer.ask(id, "tools/call", json!({"ask": ELICIT}))["id"], id);
    eventually("the question is refused", || {
        (refusals(server) > before).then_some(())
    });
}

/// Makes a tool elicit, and gets the question.
fn elicit(server: &TestServer, peer: &mut TestPeer, id: &str) {
    let question = peer.ask(id, "tools/call", json!({"ask": ELICIT}));
    assert_eq!(question["method"], ELICIT, "{question}");
    let answer = format!("the answer to {id}");
    let result = json!({"action": "accept", "content": {"text": answer}});
    peer.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": result}).to_string());
    assert_eq!(peer.next()["id"], id);
    server.wait_seen(&answer);
}

/// A peer that keeps one call in flight got the question instead of the tool's caller, five times
/// out of five: "really delete production?".
#[test]
fn a_peer_with_a_call_in_flight_is_not_asked_in_anothers_place() {
    for transport in BOTH {
        let server = Setup::new(transport).secret().start();
        let mut victim = able(&server, "victim");
        elicit(&server, &mut victim, "alone");
        let mut weak = able(&server, "weak");
        weak.send(&request(
            1,
            "tools/call",
            json!({"silent": true, "of": "weak"}),
        ));
        server.wait_seen("\"weak\"");
        for call in 0..5 {
            // The youngest request is alternately the weak one's and the victim's.
            weak.send(&request(
                call + 10,
                "tools/call",
                json!({"silent": true, "n": call}),
            ));
            server.wait_seen(&format!("\"n\":{call}"));
            elicit_in_vain(&server, &mut victim, &format!("call {call}"));
        }
        assert_eq!(weak.ask("still", "ping", json!({}))["id"], "still");
        // What it leaves behind is not attributed to the victim, nor to the next peer.
        weak.reset();
        server.wait_seen("notifications/cancelled");
        elicit_in_vain(&server, &mut victim, "after it has left");
        let log = server.log.text();
        let warned = log.matches("--isolate=asking").count();
        assert_eq!(warned, 1, "once, and not for each: {log}");
        drop(victim);
        server.stop();
    }
}

/// Deadlock: the client's answer stood behind requests that were not read because others waited for their turn, and
/// these waited for the call that had asked.
#[test]
fn an_answer_is_read_behind_requests_that_wait() {
    for transport in BOTH {
        let one = &["--max-in-flight", "1"];
        let server = Setup::new(transport).secret().args(one).start();
        let mut peer = able(&server, "a");
        let asks = json!({"ask": ELICIT, "silent": true});
        let question = peer.ask(1, "tools/call", asks);
        assert_eq!(question["method"], ELICIT, "{question}");
        let big = json!({"filler": "x".repeat(1 << 20), "raw": "{}"});
        peer.send(&request(2, "tools/call", big));
        peer.send(&request(3, "tools/call", json!({})));
        let refused = peer.next();
        assert_eq!(refused["id"], 3);
        assert_eq!(refused["error"]["data"]["reason"], "too-many-waiting");
        let id = &question["id"];
        let text = json!({"text": "the answer behind them"});
        let result = json!({"action": "accept", "content": text});
        peer.send(&json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
        server.wait_seen("the answer behind them");
        peer.send(
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        );
        assert_eq!(peer.next()["id"], 2);
        drop(peer);
        server.stop();
    }
}

/// An ambiguous case is certain again when the process has responded, or is replaced.
#[test]
fn who_is_alone_at_work_is_asked() {
    for transport in BOTH {
        let server = Setup::new(transport).secret().start();
        let (mut a, mut b) = (able(&server, "a"), able(&server, "b"));
        elicit(&server, &mut a, "a, in its turn");
        elicit(&server, &mut b, "b, in its turn");
        a.send(&request(1, "tools/call", json!({"delayMs": 700})));
        server.wait_seen("delayMs");
        elicit_in_vain(&server, &mut b, "while a works");
        assert_eq!(a.next()["id"], 1);
        elicit(&server, &mut b, "after that");
        a.send(&request(2, "tools/call", json!({"silent": true})));
        server.wait_seen("silent");
        a.reset();
        server.wait_seen("notifications/cancelled");
        elicit_in_vain(&server, &mut b, "a has left");
        let exited = b.ask("exit", "tools/call", json!({"exit": 1}));
        assert_eq!(exited["error"]["data"]["reason"], "child-exited");
        elicit(&server, &mut b, "a new process");
    }
}

/// Roots are folders on one user's machine: a shared server sees no such capability.
#[test]
fn nobody_is_asked_for_roots_of_a_shared_server() {
    for transport in BOTH {
        let server = Setup::new(transport).start();
        let mut peer = server.peer();
        shake_hands(&mut peer);
        let initialize: Value = serde_json::from_str(&server.wait_seen("\"initialize\"")).unwrap();
        assert_eq!(
            initialize["params"]["capabilities"],
            json!({"sampling": {"context": {}, "tools": {}}, "elicitation": {"form": {}, "url": {}}})
        );
        peer.send(r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#);
        let answer = peer.ask(1, "tools/call", json!({"ask": "roots/list"}));
        assert_eq!(answer["id"], 1, "{answer}");
        let refusal: Value = serde_json::from_str(&server.wait_seen("\"asked\"")).unwrap();
        assert_eq!(refusal["error"]["code"], -32601);
        assert!(!server.seen().contains("list_changed"));
    }
}

/// A question to a session that waits for its client was kept for a minute, or forever.
#[test]
fn a_client_that_is_away_is_not_asked_and_one_that_is_back_at_once_is() {
    let server = Setup::new("tcp").secret().start();
    let begin = |later: u64, id: &str| {
        let mut peer = login(&server, "alice");
        let session = peer.resume(&Value::Null, 0)["params"]["session"].clone();
        shake_hands(&mut peer);
        let params = json!({"ask": ELICIT, "laterMs": later, "stderr": format!("asks {id}")});
        peer.send(&request(id, "tools/call", params));
        server.wait_seen(&format!("asks {id}"));
        drop(peer);
        session
    };
    let session = begin(1000, "soon");
    server.log.wait_for("waiting for the client to come back");
    server.log.wait_for("asks soon");
    assert_eq!(refusals(&server), 0);
    let mut peer = login(&server, "alice");
    assert_eq!(peer.resume(&session, 1)["params"]["resumed"], true);
    let mut lines = [next_message(&mut peer), next_message(&mut peer)];
    lines.sort_by_key(|line| line["id"] == "soon");
    assert_eq!(lines[0]["method"], ELICIT);
    assert_eq!(lines[1]["id"], "soon");
    peer.send(r#"{"jsonrpc":"2.0","method":"mcp-remote/leave"}"#);
    let session = begin(6000, "late");
    eventually("the question is refused", || {
        (refusals(&server) > 0).then_some(())
    });
    let mut peer = login(&server, "alice");
    assert_eq!(peer.resume(&session, 1)["params"]["resumed"], true);
    assert_eq!(next_message(&mut peer)["id"], "late");
}

/// A question without an answer kept its tool waiting for as long as its client stayed.
#[test]
fn a_question_that_is_not_answered_in_time_fails() {
    for (transport, isolate) in [("tcp", "never"), ("ws", "never"), ("tcp", "always")] {
        let isolate = format!("--isolate={isolate}");
        let server = Setup::new(transport)
            .secret()
            .args(&[&isolate, "--question-timeout", "300ms"])
            .start();
        let mut peer = able(&server, "slow");
        let question = peer.ask(1, "tools/call", json!({"ask": ELICIT}));
        assert_eq!(question["method"], ELICIT, "{question}");
        assert_eq!(peer.next()["id"], 1);
        let told = next_message(&mut peer);
        assert_eq!(told["method"], "notifications/cancelled", "{told}");
        assert_eq!(told["params"]["requestId"], question["id"]);
        let seen = server.wait_seen("question-timeout");
        assert!(seen.contains(r#""id":"asked""#), "{seen}");
        let late = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"late": true}});
        peer.send(&late.to_string());
        // An answer in time works, and the connection has continued.
        let question = peer.ask(2, "tools/call", json!({"ask": ELICIT}));
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"quick": true}});
        peer.send(&answer.to_string());
        assert_eq!(peer.next()["id"], 2);
        let seen = server.wait_seen("quick");
        assert!(!seen.contains("late"), "{seen}");
        drop(peer);
        server.stop();
    }
}
