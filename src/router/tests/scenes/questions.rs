//! What the server asks, and who is asked.

use super::*;
use crate::permissions::Policy;

#[test]
fn questions_go_to_the_peer_that_is_at_work_and_its_answer_comes_back() {
    let mut bench = Bench::default();
    let (poor, rich, idle) = (
        bench.legacy("{}"),
        bench.legacy(r#"{"sampling":{}}"#),
        bench.legacy(r#"{"sampling":{}}"#),
    );
    bench.peer(rich, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
    bench.peer(poor, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
    let calls = bench.child_heard(0);
    bench.child(0, r#"{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{"_meta":{"progressToken":"p"},"messages":[]}}"#);
    let question = bench.told(rich);
    let ours = question["id"].clone();
    assert_eq!(question["params"]["_meta"]["progressToken"], ours);
    let answer = json!({"jsonrpc":"2.0","id":ours,"result":{"text":"hi"}}).to_string();
    // Nobody else can answer it, nor the one that was asked under the child's own id.
    bench.peer(idle, &answer);
    bench.peer(rich, r#"{"jsonrpc":"2.0","id":"q","result":{}}"#);
    assert!(bench.child_heard(0).is_empty());
    bench.peer(rich, &json!({"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":ours,"progress":1}}).to_string());
    assert_eq!(bench.child_heard(0)[0]["params"]["progressToken"], "p");
    bench.peer(rich, &answer);
    assert_eq!(
        bench.child_heard(0)[0],
        json!({"jsonrpc":"2.0","id":"q","result":{"text":"hi"}})
    );
    bench.peer(rich, &answer);
    assert!(bench.child_heard(0).is_empty());
    // With only the poor one at work, the question is not shown to an uninvolved peer.
    bench.child(
        0,
        &format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#,
            calls[0]["id"]
        ),
    );
    bench.told(rich);
    bench.child(
        0,
        r#"{"jsonrpc":"2.0","id":"q2","method":"sampling/createMessage","params":{}}"#,
    );
    assert!(bench.peers_heard().is_empty());
    assert_eq!(bench.child_heard(0)[0]["error"]["code"], -32601);
    // A peer that leaves in between yields an error.
    bench.child(
        0,
        &format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#,
            calls[1]["id"]
        ),
    );
    bench.told(poor);
    bench.child(
        0,
        r#"{"jsonrpc":"2.0","id":"q3","method":"sampling/createMessage","params":{}}"#,
    );
    bench.told(rich);
    bench.detach(rich);
    let error = bench.child_heard(0).remove(0);
    assert_eq!(
        (&error["id"], &error["error"]["code"]),
        (&json!("q3"), &json!(-32603))
    );
}

#[test]
fn a_question_waits_for_the_end_of_the_handshake_and_can_be_taken_back() {
    let mut bench = Bench::default();
    let a = bench.attach();
    bench.peer(a, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"roots":{}}}}"#);
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(
        0,
        &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
    );
    bench.child(0, r#"{"jsonrpc":"2.0","id":0,"method":"roots/list"}"#);
    bench.child(0, r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#);
    bench.child(
        0,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    );
    bench.told(a);
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    );
    let question = bench.told(a);
    assert_eq!(question["method"], "roots/list");
    bench.child(
        0,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}"#,
    );
    assert_eq!(bench.told(a)["params"]["requestId"], question["id"]);
    bench.child(0, r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#);
    bench
        .child_heard(0)
        .iter()
        .find(|line| **line == json!({"jsonrpc":"2.0","id":2,"result":{}}))
        .unwrap();
}

#[test]
fn a_policy_can_keep_questions_from_a_peer() {
    let mut bench = Bench::default();
    let policy =
        r#"{"permissions":{"r":{"allowedMethods":["*"],"blockedMethods":["roots/list"]}}}"#;
    let policy = Policy::parse(policy).unwrap();
    let kept = bench.router.attach(Profile {
        user: None,
        rights: policy.rights(&["r".to_owned()]),
    });
    bench.shake_hands(kept, r#"{"roots":{}}"#);
    bench.child(0, r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#);
    assert_eq!(bench.child_heard(0)[0]["error"]["code"], -32601);
}

#[test]
fn elicitation_goes_by_mode_and_its_completion_to_the_same_peer() {
    let mut bench = Bench::default();
    let form = bench.legacy(r#"{"elicitation":{}}"#);
    let url = bench.legacy(r#"{"elicitation":{"url":{}}}"#);
    bench.child(0, r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"m","requestedSchema":{}}}"#);
    bench.told(form);
    bench.child(0, r#"{"jsonrpc":"2.0","id":2,"method":"elicitation/create","params":{"mode":"url","elicitationId":"e1","url":"https://x"}}"#);
    bench.told(url);
    let complete = r#"{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"e1"}}"#;
    bench.child(0, complete);
    bench.told(url);
    bench.child(0, complete);
    assert!(bench.peers_heard().is_empty());
}

/// The id of an elicitation that came in an error was not known when it was complete.
#[test]
fn an_elicitation_that_an_error_asks_for_is_reported_to_that_peer() {
    let mut bench = Bench::default();
    let (a, _b) = (bench.legacy("{}"), bench.legacy("{}"));
    bench.peer(a, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
    let id = bench.child_heard(0)[0]["id"].clone();
    let required = json!({"elicitations":[{"mode":"url","elicitationId":"e1","url":"https://x"}]});
    bench.child(
        0,
        &json!({"jsonrpc":"2.0","id":id,"error":{"code":-32042,"message":"","data":required}})
            .to_string(),
    );
    assert_eq!(bench.told(a)["error"]["code"], -32042);
    let complete = r#"{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"e1"}}"#;
    bench.child(0, complete);
    assert_eq!(bench.told(a)["params"]["elicitationId"], "e1");
    bench.child(0, complete);
    assert!(bench.peers_heard().is_empty());
}

/// A question waited for ever for a peer that did not say `notifications/initialized`, and with the
/// question the peer's own request.
#[test]
fn a_peer_that_goes_ahead_can_be_asked() {
    let mut bench = Bench::default();
    let a = bench.attach();
    bench.peer(a, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"sampling":{}}}}"#);
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(0, &json!({"jsonrpc":"2.0","id":id,"result":{}}).to_string());
    bench.told(a);
    bench.peer(a, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    bench.child(
        0,
        r#"{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{}}"#,
    );
    assert!(bench.peers_heard().is_empty());
    bench.peer(a, r#"{"jsonrpc":"2.0","id":2,"method":"tools/call"}"#);
    assert_eq!(bench.told(a)["method"], "sampling/createMessage");
}

/// Whoever came first was asked for its roots, though another had said that its own had changed.
#[test]
fn the_roots_that_have_changed_are_asked_for() {
    let mut bench = Bench::default();
    let (first, second) = (
        bench.legacy(r#"{"roots":{}}"#),
        bench.legacy(r#"{"roots":{}}"#),
    );
    bench.peer(
        second,
        r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#,
    );
    for (id, asked) in [(1, second), (2, first)] {
        bench.child(
            0,
            &json!({"jsonrpc":"2.0","id":id,"method":"roots/list"}).to_string(),
        );
        bench.told(asked);
    }
}

/// Each of them may be as long as a message of the server: 64 MiB.
#[test]
fn questions_that_wait_are_few_and_short() {
    let mut bench = Bench::default();
    let a = bench.attach();
    bench.peer(a, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"sampling":{}}}}"#);
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(0, &json!({"jsonrpc":"2.0","id":id,"result":{}}).to_string());
    bench.child_heard(0);
    let ask = |id: usize, text: &str| {
        json!({"jsonrpc":"2.0","id":id,"method":"sampling/createMessage","params":{"text":text}})
            .to_string()
    };
    bench.child(0, &ask(0, &"x".repeat(64 * 1024)));
    assert_eq!(bench.child_heard(0)[0]["error"]["code"], -32601);
    for id in 0..100 {
        bench.child(0, &ask(id, ""));
    }
    assert_eq!(bench.child_heard(0).len(), 100 - 64);
}
