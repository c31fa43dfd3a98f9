//! One scene per promise.

use super::*;
use crate::permissions::Policy;
use crate::router::{MAX_LISTEN_SIZE, MAX_LISTENS, Pipe};
use serde_json::json;

const LISTEN: &str = r#"{"jsonrpc":"2.0","id":"listen-1","method":"subscriptions/listen","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"},"notifications":{"toolsListChanged":true}}}"#;

#[test]
fn ids_and_progress_tokens_are_mapped_and_nothing_else_is_touched() {
    let mut bench = Bench::default();
    let (a, b) = (bench.legacy("{}"), bench.legacy("{}"));
    let call = r#"{"jsonrpc":"2.0","id":0,"method":"tools/call","params":{"_meta":{"progressToken":"0","x":0},"name":"t","arguments":{"id":0,"progressToken":"0"}}}"#;
    bench.peer(a, call);
    bench.peer(b, call);
    let lines = bench.child_heard(0);
    let ids: Vec<i64> = lines
        .iter()
        .map(|line| line["id"].as_i64().unwrap())
        .collect();
    assert_ne!(ids[0], ids[1]);
    for (line, id) in lines.iter().zip(&ids) {
        assert_eq!(
            line["params"],
            json!({"_meta":{"progressToken":id,"x":0},"name":"t","arguments":{"id":0,"progressToken":"0"}})
        );
    }
    bench.child(0, &format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{},"progress":1}}}}"#, ids[1]));
    assert_eq!(
        bench.told(b)["params"],
        json!({"progressToken":"0","progress":1})
    );
    bench.child(
        0,
        &format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"who":"b"}}}}"#,
            ids[1]
        ),
    );
    assert_eq!(
        bench.told(b),
        json!({"jsonrpc":"2.0","id":0,"result":{"who":"b"}})
    );
    bench.child(
        0,
        &format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":1,"message":"a"}}}}"#,
            ids[0]
        ),
    );
    assert_eq!(
        bench.told(a),
        json!({"jsonrpc":"2.0","id":0,"error":{"code":1,"message":"a"}})
    );
    // Late, doubled and foreign things reach nobody.
    for line in [
        format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, ids[0]),
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{},"progress":2}}}}"#,
            ids[1]
        ),
        r#"{"jsonrpc":"2.0","id":"0","result":{}}"#.into(),
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}"#.into(),
    ] {
        bench.child(0, &line);
    }
    assert!(bench.peers_heard().is_empty());
}

#[test]
fn an_id_in_flight_is_refused_and_ids_are_compared_as_typed() {
    let mut bench = Bench::default();
    let a = bench.legacy("{}");
    bench.peer(a, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    bench.peer(a, r#"{"jsonrpc":"2.0","id":"1","method":"ping"}"#);
    assert_eq!(bench.child_heard(0).len(), 2);
    bench.peer(a, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert!(bench.child_heard(0).is_empty());
    let refused = bench.told(a);
    assert_eq!(
        (&refused["id"], &refused["error"]["code"]),
        (&json!(1), &json!(-32600))
    );
}

#[test]
fn one_handshake_for_all_and_requests_before_it_are_held() {
    let mut bench = Bench::default();
    let (a, b, old) = (bench.attach(), bench.attach(), bench.attach());
    bench.peer(a, r#"{"jsonrpc":"2.0","id":5,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"x":1},"clientInfo":{"name":"first","version":"1"}}}"#);
    let lines = bench.child_heard(0);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["params"]["clientInfo"]["name"], "first");
    assert_eq!(lines[0]["params"]["protocolVersion"], "2025-11-25");
    assert!(lines[0]["params"]["capabilities"]["sampling"].is_object());
    bench.peer(b, r#"{"jsonrpc":"2.0","id":5,"method":"tools/list"}"#);
    bench.peer(old, r#"{"jsonrpc":"2.0","id":6,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{}}}"#);
    bench.peer(
        old,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    );
    assert!(bench.child_heard(0).is_empty());
    bench.child(0, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"protocolVersion":"2025-11-25","capabilities":{{}}}}}}"#, lines[0]["id"]));
    let methods: Vec<Value> = bench
        .child_heard(0)
        .iter()
        .map(|line| line["method"].clone())
        .collect();
    assert_eq!(methods, ["notifications/initialized", "tools/list"]);
    let told = bench.peers_heard();
    assert_eq!(
        told[0],
        (
            a,
            json!({"jsonrpc":"2.0","id":5,"result":{"protocolVersion":"2025-06-18","capabilities":{}}})
        )
    );
    assert_eq!(
        told[1],
        (
            old,
            json!({"jsonrpc":"2.0","id":6,"result":{"protocolVersion":"2024-11-05","capabilities":{}}})
        )
    );
    // Later ones are answered without asking the child.
    let late = bench.attach();
    bench.peer(late, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2099-01-01"}}"#);
    assert_eq!(bench.told(late)["result"]["protocolVersion"], "2025-11-25");
    assert!(bench.child_heard(0).is_empty());
}

#[test]
fn a_peer_without_handshake_is_served_after_the_routers_own() {
    let mut bench = Bench::default();
    let a = bench.attach();
    bench.peer(a, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let lines = bench.child_heard(0);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["params"]["clientInfo"]["name"], "mcp-remote");
    // A server that knows no handshake gets the request all the same.
    bench.child(
        0,
        &format!(
            r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32601,"message":"what?"}}}}"#,
            lines[0]["id"]
        ),
    );
    assert_eq!(bench.child_heard(0)[0]["method"], "tools/list");
    assert!(bench.peers_heard().is_empty());
}

#[test]
fn peers_cancel_their_own_requests_only() {
    let mut bench = Bench::default();
    let (a, b) = (bench.legacy("{}"), bench.legacy("{}"));
    bench.peer(a, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
    let ours = bench.child_heard(0)[0]["id"].clone();
    for foreign in [json!(1), ours.clone(), json!("1")] {
        bench.peer(b, &json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":foreign}}).to_string());
    }
    assert!(bench.child_heard(0).is_empty());
    bench.peer(a, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"why not"}}"#);
    assert_eq!(
        bench.child_heard(0)[0]["params"],
        json!({"requestId":ours,"reason":"why not"})
    );
    // Servers that answer nevertheless are heard.
    bench.child(
        0,
        &format!(r#"{{"jsonrpc":"2.0","id":{ours},"error":{{"code":0,"message":"cancelled"}}}}"#),
    );
    assert_eq!(bench.told(a)["id"], 1);
}

#[test]
fn a_leaving_peers_requests_are_cancelled() {
    let mut bench = Bench::default();
    let (a, b) = (bench.legacy("{}"), bench.legacy("{}"));
    bench.peer(a, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
    bench.peer(b, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
    let lines = bench.child_heard(0);
    bench.detach(a);
    let told = bench.child_heard(0);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["method"], "notifications/cancelled");
    assert_eq!(told[0]["params"]["requestId"], lines[0]["id"]);
    bench.child(
        0,
        &format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#,
            lines[0]["id"]
        ),
    );
    assert!(bench.peers_heard().is_empty());
}

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
    let kept = bench.router.attach(Profile {
        rights: rights(json!({"allowedMethods": ["*"], "blockedMethods": ["roots/list"]})),
        ..Profile::anybody()
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

#[test]
fn subscriptions_are_counted_per_uri() {
    let mut bench = Bench::default();
    let (a, b, c) = (bench.legacy("{}"), bench.legacy("{}"), bench.legacy("{}"));
    let subscribe =
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"f:///d"}}"#;
    let unsubscribe =
        r#"{"jsonrpc":"2.0","id":2,"method":"resources/unsubscribe","params":{"uri":"f:///d"}}"#;
    bench.peer(a, subscribe);
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(
        0,
        &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
    );
    bench.told(a);
    bench.peer(b, subscribe);
    assert_eq!(bench.told(b), json!({"jsonrpc":"2.0","id":1,"result":{}}));
    assert!(bench.child_heard(0).is_empty());
    for uri in ["f:///d", "f:///d/part"] {
        bench.child(0, &json!({"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":uri}}).to_string());
        let told: Vec<SessionId> = bench
            .peers_heard()
            .into_iter()
            .map(|(session, _)| session)
            .collect();
        assert_eq!(told, [a, b]);
    }
    bench.child(0, r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"f:///dd"}}"#);
    bench.peer(b, unsubscribe);
    assert_eq!(bench.told(b)["result"], json!({}));
    assert!(bench.child_heard(0).is_empty());
    bench.detach(a);
    assert_eq!(bench.child_heard(0)[0]["method"], "resources/unsubscribe");
    // A subscription that the child refuses does not count.
    bench.peer(c, subscribe);
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(
        0,
        &format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":""}}}}"#),
    );
    bench.told(c);
    bench.child(
        0,
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"f:///d"}}"#,
    );
    assert!(bench.peers_heard().is_empty());
}

#[test]
fn every_peer_has_its_log_level_and_the_child_the_most_verbose() {
    let mut bench = Bench::default();
    let (a, b, c) = (bench.legacy("{}"), bench.legacy("{}"), bench.legacy("{}"));
    let set = |level: &str| {
        json!({"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":level}})
            .to_string()
    };
    let say = |level: &str| {
        json!({"jsonrpc":"2.0","method":"notifications/message","params":{"level":level,"data":1}})
            .to_string()
    };
    let heard = |bench: &mut Bench, level: &str| -> Vec<SessionId> {
        bench.child(0, &say(level));
        bench
            .peers_heard()
            .into_iter()
            .map(|(session, _)| session)
            .collect()
    };
    assert_eq!(heard(&mut bench, "debug"), [a, b, c]);
    for (peer, level) in [(a, "error"), (b, "debug")] {
        bench.peer(peer, &set(level));
        let request = bench.child_heard(0).remove(0);
        assert_eq!(request["params"]["level"], level);
        bench.child(
            0,
            &format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#,
                request["id"]
            ),
        );
        assert_eq!(bench.told(peer)["result"], json!({}));
    }
    bench.peer(a, &set("warning"));
    assert_eq!(bench.told(a)["result"], json!({}));
    assert!(bench.child_heard(0).is_empty());
    assert_eq!(heard(&mut bench, "debug"), [b]);
    assert_eq!(heard(&mut bench, "info"), [b, c]);
    assert_eq!(heard(&mut bench, "warning"), [a, b, c]);
    bench.detach(b);
    assert_eq!(bench.child_heard(0)[0]["params"]["level"], "warning");
}

#[test]
fn two_eras_get_two_processes() {
    let mut bench = Bench::default();
    let (modern, legacy) = (bench.attach(), bench.attach());
    bench.peer(modern, LISTEN);
    let listen = bench.child_heard(0).remove(0);
    bench.peer(legacy, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#);
    assert_eq!(bench.commands(), [Command::Start(LaneId(1))]);
    assert_eq!(bench.child_heard(1)[0]["method"], "initialize");
    bench.start(1);
    // The subscription's id is mapped in the acknowledgement, notifications and the result.
    let ours = &listen["id"];
    for line in [
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{ours}}},"notifications":{{}}}}}}"#
        ),
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{ours}}}}}}}"#
        ),
    ] {
        bench.child(0, &line);
        let told = bench.told(modern);
        assert_eq!(
            told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
            "listen-1"
        );
    }
    bench.child(0, &format!(r#"{{"jsonrpc":"2.0","id":{ours},"result":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{ours}}},"resultType":"complete"}}}}"#));
    let told = bench.told(modern);
    assert_eq!(
        (
            &told["id"],
            &told["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"]
        ),
        (&json!("listen-1"), &json!("listen-1"))
    );
    // What is for everybody in one era is for nobody in the other.
    bench.child(
        0,
        r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
    );
    assert!(bench.peers_heard().is_empty());
}

#[test]
fn a_probe_of_a_legacy_server_is_remembered_and_keeps_no_process() {
    let probe = r#"{"jsonrpc":"2.0","id":"p","method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let refusal = |id: &Value| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"Method not found"}}}}"#
        )
    };
    // The router asks again in its own words, and believes that.
    let asks_again = |bench: &mut Bench, lane: usize| {
        let id = bench.child_heard(lane)[0]["id"].clone();
        bench.child(lane, &refusal(&id));
        assert!(bench.peers_heard().is_empty());
        let own = bench.child_heard(lane).remove(0);
        assert_eq!(own["method"], "server/discover");
        bench.child(lane, &refusal(&own["id"]));
    };
    // First of all peers: the process is used for what comes next.
    let mut bench = Bench::default();
    let a = bench.attach();
    bench.peer(a, probe);
    asks_again(&mut bench, 0);
    assert_eq!(bench.told(a)["error"]["code"], -32601);
    bench.shake_hands(a, "{}");
    let b = bench.attach();
    bench.peer(b, probe);
    assert_eq!(bench.told(b)["id"], "p");
    assert!(bench.commands().is_empty());
    // After a legacy peer: a second process, for as long as the question stands.
    let mut bench = Bench::default();
    bench.legacy("{}");
    let b = bench.attach();
    bench.peer(b, probe);
    assert_eq!(bench.commands(), [Command::Start(LaneId(1))]);
    bench.start(1);
    asks_again(&mut bench, 1);
    assert_eq!(bench.told(b)["id"], "p");
    assert_eq!(bench.commands(), [Command::Stop(LaneId(1))]);
    bench.exit(1, false);
    bench.shake_hands(b, "{}");
}

/// A peer that provoked an error with odd params made a modern server a legacy one for everybody, and
/// its error, with whatever that quotes, was what later peers got.
#[test]
fn one_peers_odd_probe_decides_nothing_for_the_others() {
    let odd = r#"{"jsonrpc":"2.0","id":"odd","method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":["hunter2"]}}}"#;
    let good = r#"{"jsonrpc":"2.0","id":"good","method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let mut bench = Bench::default();
    let (mallory, leaver, alice) = (bench.attach(), bench.attach(), bench.attach());
    bench.peer(mallory, odd);
    bench.peer(leaver, odd);
    let asked = bench.child_heard(0);
    for request in &asked {
        let id = &request["id"];
        bench.child(0, &format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32602,"message":"hunter2 is no text"}}}}"#));
    }
    // One question for both, and nobody is told anything yet.
    let own = bench.child_heard(0);
    assert_eq!(own.len(), 1);
    assert!(bench.peers_heard().is_empty());
    assert_eq!(bench.router.owed(mallory), 1);
    bench.detach(leaver);
    bench.child_heard(0);
    let id = &own[0]["id"];
    bench.child(
        0,
        &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"supportedVersions":[]}}}}"#),
    );
    assert_eq!(bench.told(mallory)["error"]["code"], -32602);
    assert_eq!(bench.router.owed(mallory), 0);
    bench.peer(alice, good);
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(
        0,
        &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
    );
    assert_eq!(bench.told(alice)["result"], json!({}));
    assert!(bench.commands().is_empty());
}

#[test]
fn tasks_belong_to_the_user_who_made_them() {
    let mut bench = Bench::default();
    let (alice, bob, alice_again) = (
        bench.attach_user("alice"),
        bench.attach_user("bob"),
        bench.attach_user("alice"),
    );
    for session in [alice, bob, alice_again] {
        bench.shake_hands(session, "{}");
    }
    bench.peer(
        alice,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","task":{}}}"#,
    );
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(0, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"task":{{"taskId":"T","status":"working"}}}}}}"#));
    bench.told(alice);
    for method in ["tasks/get", "tasks/result", "tasks/cancel", "tasks/update"] {
        let request =
            json!({"jsonrpc":"2.0","id":2,"method":method,"params":{"taskId":"T"}}).to_string();
        bench.peer(bob, &request);
        assert_eq!(bench.told(bob)["error"]["code"], -32602);
        assert!(bench.child_heard(0).is_empty());
        bench.peer(alice_again, &request);
        let id = bench.child_heard(0)[0]["id"].clone();
        bench.child(
            0,
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
        );
        bench.told(alice_again);
    }
    for (session, tasks) in [(alice, json!([{"taskId":"T"}])), (bob, json!([]))] {
        bench.peer(session, r#"{"jsonrpc":"2.0","id":3,"method":"tasks/list"}"#);
        let id = bench.child_heard(0)[0]["id"].clone();
        bench.child(0, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tasks":[{{"taskId":"other"}},{{"taskId":"T"}}],"nextCursor":"c"}}}}"#));
        assert_eq!(
            bench.told(session)["result"],
            json!({"tasks":tasks,"nextCursor":"c"})
        );
    }
    bench.child(0, r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"T","status":"completed"}}"#);
    let told: Vec<SessionId> = bench
        .peers_heard()
        .into_iter()
        .map(|(session, _)| session)
        .collect();
    assert_eq!(told, [alice, alice_again]);
}

/// Whoever got an answer with somebody else's task in it became its owner.
#[test]
fn an_answer_makes_nobody_the_owner_of_another_users_task() {
    let mut bench = Bench::default();
    let (alice, mallory) = (bench.attach_user("alice"), bench.attach_user("mallory"));
    for session in [alice, mallory] {
        bench.shake_hands(session, "{}");
        bench.peer(
            session,
            r#"{"jsonrpc":"2.0","id":1,"method":"x/echo","params":{"task":{"taskId":"T"}}}"#,
        );
        let id = bench.child_heard(0)[0]["id"].clone();
        bench.child(
            0,
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"task":{{"taskId":"T"}}}}}}"#),
        );
        bench.told(session);
    }
    let get = r#"{"jsonrpc":"2.0","id":2,"method":"tasks/get","params":{"taskId":"T"}}"#;
    bench.peer(mallory, get);
    assert_eq!(bench.told(mallory)["error"]["code"], -32602);
    bench.peer(alice, get);
    assert_eq!(bench.child_heard(0)[0]["method"], "tasks/get");
}

/// A list of tasks that could not be cut down was passed on as it was.
#[test]
fn a_list_of_tasks_that_cannot_be_read_is_withheld() {
    let mut bench = Bench::default();
    let session = bench.legacy("{}");
    for (outcome, code) in [
        (r#""result":{"tasks":[],"tasks":[{"taskId":"T"}]}"#, -32603),
        (r#""result":{"tasks":[],"Tasks":[{"taskId":"T"}]}"#, -32603),
        (r#""result":{"items":[{"taskId":"T"}]}"#, -32603),
        (r#""error":{"code":-32601,"message":"x"}"#, -32601),
    ] {
        bench.peer(session, r#"{"jsonrpc":"2.0","id":3,"method":"tasks/list"}"#);
        let id = bench.child_heard(0)[0]["id"].clone();
        bench.child(0, &format!(r#"{{"jsonrpc":"2.0","id":{id},{outcome}}}"#));
        assert_eq!(bench.told(session)["error"]["code"], code, "{outcome}");
    }
}

fn rights(role: Value) -> Rights {
    let file = json!({"permissions": {"r": role}}).to_string();
    Policy::parse(&file).unwrap().rights(&["r".to_owned()])
}

/// A subscription to a folder brought word of everything in it, blocked or not.
#[test]
fn no_peer_hears_of_a_resource_that_it_may_not_subscribe_to() {
    let role = json!({"allowedMethods": ["*"], "blockedResources": ["note:///secret*"]});
    let profile = Profile {
        rights: rights(role),
        ..Profile::anybody()
    };
    let mut bench = Bench::default();
    let (held, free) = (bench.router.attach(profile.clone()), bench.attach());
    let subscribe =
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"note:///"}}"#;
    for session in [held, free] {
        bench.shake_hands(session, "{}");
    }
    for session in [held, free] {
        bench.peer(session, subscribe);
    }
    for request in bench.child_heard(0) {
        let id = &request["id"];
        bench.child(
            0,
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
        );
    }
    bench.peers_heard();
    let hears = |bench: &mut Bench, uri: &str| {
        bench.child(0, &json!({"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":uri}}).to_string());
        let heard = bench.peers_heard();
        heard.into_iter().map(|(to, _)| to).collect::<Vec<_>>()
    };
    assert_eq!(hears(&mut bench, "note:///public"), [held, free]);
    assert_eq!(hears(&mut bench, "note:///secret/1"), [free]);
    // What is not plainly spelt might be anything.
    assert_eq!(hears(&mut bench, "note:///%73ecret"), [free]);
    // The same under a subscription of 2026-07-28 …
    let mut bench = Bench::default();
    let held = bench.router.attach(profile.clone());
    bench.peer(held, LISTEN);
    let id = bench.child_heard(0)[0]["id"].clone();
    let updated = |uri: &str| {
        json!({"jsonrpc":"2.0","method":"notifications/resources/updated","params":{
            "uri": uri, "_meta": {"io.modelcontextprotocol/subscriptionId": id},
        }})
    };
    bench.child(0, &updated("note:///secret/1").to_string());
    assert!(bench.peers_heard().is_empty());
    bench.child(0, &updated("note:///public").to_string());
    assert_eq!(bench.told(held)["params"]["uri"], "note:///public");
    // … and for a peer with a process of its own.
    let (mut pipe, mut out) = (Pipe::default(), Output::default());
    pipe.attach(profile);
    for (uri, passes) in [("note:///secret/1", false), ("note:///public", true)] {
        let line = updated(uri).to_string().into();
        let message = Message::read(line, MAX_CHILD_DEPTH).unwrap();
        pipe.child_message(&message, &mut out);
        assert_eq!(out.to_peer.drain(..).count(), usize::from(passes), "{uri}");
    }
}

/// A panic or a debug line must not show what peers send.
#[test]
fn debug_shows_no_content() {
    let mut bench = Bench::default();
    let session = bench.attach_user("alice");
    let (mut pipe, mut out) = (Pipe::default(), Output::default());
    pipe.attach(Profile::anybody());
    for line in [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"hunter2":1},"clientInfo":{"name":"hunter2","version":"1"}}}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"_meta":{"progressToken":"hunter2"},"name":"t","arguments":{"hunter2":"hunter2"}}}"#,
        r#"{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"note:///hunter2"}}"#,
        r#"{"jsonrpc":"2.0","id":4,"method":"tasks/get","params":{"taskId":"hunter2"}}"#,
        LISTEN.replace("true", r#""hunter2""#).as_str(),
        r#"{"jsonrpc":"2.0","method":"x/y","params":{"hunter2":1}}"#,
    ] {
        bench.peer(session, line);
        let permit = permit(line);
        pipe.peer_message(&permit, &mut out);
        let shown = format!(
            "{:?} {:?} {pipe:?} {out:?} {permit:?}",
            bench.router, bench.out
        );
        assert!(!shown.contains("hunter"), "{shown}");
        // Nor as bytes.
        assert!(!shown.contains("104, 117"), "{shown}");
        assert!(shown.contains("sessions: 1"), "{shown}");
    }
    let read = json!({"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"db://u:hunter2@h/"}});
    let message = Message::read(read.to_string().into(), MAX_PEER_DEPTH).unwrap();
    let none = json!({"allowedMethods": ["*"], "allowedResources": []});
    let denial = rights(none).decide(message).unwrap_err();
    assert!(!format!("{denial:?}").contains("hunter"), "{denial:?}");
}

#[test]
fn a_process_that_returns_learns_what_the_old_one_knew() {
    let mut bench = Bench::default();
    let (a, b) = (bench.legacy("{}"), bench.legacy("{}"));
    for (method, member, value) in [
        ("resources/subscribe", "uri", "f:///x"),
        ("logging/setLevel", "level", "error"),
    ] {
        bench.peer(
            a,
            &json!({"jsonrpc":"2.0","id":1,"method":method,"params":{member:value}}).to_string(),
        );
        let id = bench.child_heard(0)[0]["id"].clone();
        bench.child(
            0,
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
        );
        bench.told(a);
    }
    bench.peer(b, r#"{"jsonrpc":"2.0","id":9,"method":"tools/call"}"#);
    bench.exit(0, true);
    let error = bench.told(b);
    assert_eq!(error["id"], 9);
    assert_eq!(error["error"]["message"], "MCP server exited");
    assert_eq!(
        error["error"]["data"],
        json!({"source":"mcp-remote","reason":"child-exited","executed":"unknown","status":"signal: 9","stderr":"oops"})
    );
    bench.peer(b, r#"{"jsonrpc":"2.0","id":10,"method":"tools/list"}"#);
    assert!(bench.child_heard(0).is_empty());
    bench.start(0);
    let init = bench.child_heard(0);
    assert_eq!(init.len(), 1);
    assert_eq!(
        (&init[0]["method"], &init[0]["params"]["clientInfo"]["name"]),
        (&json!("initialize"), &json!("test"))
    );
    bench.child(0, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"capabilities":{{"tools":{{"listChanged":true}},"prompts":{{}}}}}}}}"#, init[0]["id"]));
    let methods: Vec<Value> = bench
        .child_heard(0)
        .iter()
        .map(|line| line["method"].clone())
        .collect();
    assert_eq!(
        methods,
        [
            "notifications/initialized",
            "logging/setLevel",
            "resources/subscribe",
            "tools/list"
        ]
    );
    let told = bench.peers_heard();
    assert_eq!(
        told.iter().map(|(session, _)| *session).collect::<Vec<_>>(),
        [a, b]
    );
    assert!(
        told.iter()
            .all(|(_, line)| line["method"] == "notifications/tools/list_changed")
    );
}

#[test]
fn an_open_listen_is_renewed_with_the_next_process() {
    let mut bench = Bench::default();
    let a = bench.attach();
    bench.peer(a, LISTEN);
    let listen = bench.child_heard(0).remove(0);
    bench.exit(0, true);
    assert!(bench.peers_heard().is_empty());
    bench.start(0);
    assert_eq!(bench.child_heard(0), std::slice::from_ref(&listen));
    bench.child(0, &format!(r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{}}},"notifications":{{"toolsListChanged":true}}}}}}"#, listen["id"]));
    let told = bench.told(a);
    assert_eq!(told["method"], "notifications/tools/list_changed");
    assert_eq!(
        told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        "listen-1"
    );
    // The server ends it; nothing stays.
    bench.child(
        0,
        &format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{}}}}}"#,
            listen["id"]
        ),
    );
    assert_eq!(bench.told(a)["params"]["requestId"], "listen-1");
    assert_eq!(bench.router.owed(a), 0);
}

#[test]
fn a_modern_servers_logs_reach_the_only_peer_that_wants_them() {
    let mut bench = Bench::default();
    let (a, b) = (bench.attach(), bench.attach());
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/logLevel":"info"}}}"#;
    let say =
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#;
    bench.peer(a, call);
    bench.child(0, say);
    bench.told(a);
    bench.peer(b, call);
    bench.child(0, say);
    assert!(bench.peers_heard().is_empty());
}

#[test]
fn requests_as_notifications_and_the_reverse_reach_no_child() {
    let mut bench = Bench::default();
    let a = bench.legacy("{}");
    let mut pipe = Pipe::default();
    let mut piped = Output::default();
    for (line, answered) in [
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"notifications/cancelled","params":{"requestId":1}}"#,
            true,
        ),
        (
            r#"{"jsonrpc":"2.0","id":2,"method":"notifications/initialized"}"#,
            true,
        ),
        (r#"{"jsonrpc":"2.0","method":"initialize"}"#, false),
        (
            r#"{"jsonrpc":"2.0","method":"tasks/cancel","params":{"taskId":"t"}}"#,
            false,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"resources/unsubscribe","params":{"uri":"x:1"}}"#,
            false,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"x/run","params":{"_meta":{"progressToken":1}}}"#,
            false,
        ),
    ] {
        bench.peer(a, line);
        pipe.peer_message(&permit(line), &mut piped);
        let heard = bench.peers_heard();
        assert_eq!(heard.len(), usize::from(answered), "{line}");
        assert!(
            heard
                .iter()
                .all(|(_, line)| line["error"]["code"] == -32600)
        );
        assert_eq!(std::mem::take(&mut piped.to_peer).len(), heard.len());
        assert!(bench.child_heard(0).is_empty(), "{line}");
        assert!(piped.to_child[0].is_empty(), "{line}");
    }
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","method":"x/changed","params":{"a":1}}"#,
    );
    assert_eq!(bench.child_heard(0)[0]["method"], "x/changed");
}

#[test]
fn what_a_peer_can_make_the_router_keep_is_bounded() {
    let mut bench = Bench::default();
    let a = bench.attach();
    bench.start(0);
    let listen = |id: usize, more: &str| {
        LISTEN
            .replace("\"listen-1\"", &id.to_string())
            .replace("\"notifications\"", &format!("{more}\"notifications\""))
    };
    for id in 0..MAX_LISTENS {
        bench.peer(a, &listen(id, ""));
    }
    assert!(bench.peers_heard().is_empty());
    bench.peer(a, &listen(1000, ""));
    assert_eq!(
        bench.told(a)["error"]["data"]["reason"],
        "too-many-subscriptions"
    );
    let b = bench.attach();
    let long = format!("\"x\":\"{}\",", "x".repeat(MAX_LISTEN_SIZE));
    bench.peer(b, &listen(1, &long));
    assert_eq!(
        bench.told(b)["error"]["data"]["reason"],
        "too-many-subscriptions"
    );
}
