//! What clients can be asked, and what their policy permits.

use super::*;

#[test]
fn a_peer_that_cannot_answer_is_not_replaced_by_another() {
    let mut bench = Bench::default();
    let (poor, _rich) = (bench.legacy("{}"), bench.legacy(SAMPLING));
    bench.call(poor, 1);
    bench.child(0, SAMPLE);
    assert!(bench.peers_heard().is_empty());
    assert_eq!(bench.child_heard(0)[0]["error"]["code"], -32601);
}

/// The roots of one user's machine replaced the server's own for all users.
#[test]
fn nobody_is_asked_for_roots() {
    let mut bench = Bench::default();
    let a = bench.attach();
    bench.peer(a, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"roots":{"listChanged":true}}}}"#);
    let initialize = bench.child_heard(0).remove(0);
    assert_eq!(
        initialize["params"]["capabilities"],
        json!({"sampling":{"context":{},"tools":{}},"elicitation":{"form":{},"url":{}}})
    );
    bench.done(&initialize["id"]);
    bench.told(a);
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    );
    bench.child_heard(0);
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#,
    );
    assert!(bench.child_heard(0).is_empty());
    bench.call(a, 1);
    bench.child(0, r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#);
    assert!(bench.peers_heard().is_empty());
    assert_eq!(bench.child_heard(0)[0]["error"]["code"], -32601);
}

#[test]
fn a_policy_can_keep_questions_from_a_peer() {
    let mut bench = Bench::default();
    let policy = r#"{"permissions":{"r":{"allowedMethods":["*"],"blockedMethods":["sampling/createMessage"]}}}"#;
    let policy = Policy::parse(policy).unwrap();
    let kept = bench.router.attach(Profile {
        rights: policy.rights(&["r".to_owned()]),
        ..Profile::anybody()
    });
    bench.shake_hands(kept, SAMPLING);
    bench.child(0, SAMPLE);
    assert_eq!(bench.child_heard(0)[0]["error"]["code"], -32601);
}

#[test]
fn elicitation_goes_by_mode_and_its_completion_to_the_same_peer() {
    let mut bench = Bench::default();
    let form = bench.legacy(r#"{"elicitation":{}}"#);
    let url = bench.legacy(r#"{"elicitation":{"url":{}}}"#);
    let call = bench.call(form, 1);
    bench.child(0, r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"m","requestedSchema":{}}}"#);
    bench.told(form);
    bench.done(&call);
    bench.told(form);
    bench.call(url, 1);
    bench.child(0, r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"m","requestedSchema":{}}}"#);
    assert_eq!(bench.child_heard(0)[0]["error"]["code"], -32601);
    bench.child(0, r#"{"jsonrpc":"2.0","id":2,"method":"elicitation/create","params":{"mode":"url","elicitationId":"e1","url":"https://x"}}"#);
    bench.told(url);
    let complete = r#"{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"e1"}}"#;
    bench.child(0, complete);
    bench.told(url);
    bench.child(0, complete);
    assert!(bench.peers_heard().is_empty());
}

/// The id of an elicitation that came in an error was not known when it completed.
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

/// A question waited forever for a peer that did not send `notifications/initialized`, and so did
/// the peer's own request.
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
