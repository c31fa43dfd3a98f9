//! One scene per promise.

use super::*;
use crate::router::{MAX_LISTEN_SIZE, MAX_LISTENS};
use serde_json::json;

const DISCOVER: &str = r#"{"jsonrpc":"2.0","id":"p","method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
const MODERN_CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
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
        user: None,
        blocked: vec!["roots/list"],
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

/// Two peers that asked for one resource before the child had answered the first of them each
/// reached the child, and the first to leave ended the subscription of both.
#[test]
fn who_subscribes_at_the_same_moment_shares_the_childs_answer() {
    let subscribe = |id: i32| {
        json!({"jsonrpc":"2.0","id":id,"method":"resources/subscribe","params":{"uri":"f:///d"}})
            .to_string()
    };
    let update =
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"f:///d"}}"#;
    let mut bench = Bench::default();
    let (a, b, c) = (bench.legacy("{}"), bench.legacy("{}"), bench.legacy("{}"));
    for (id, peer) in [a, b, c].into_iter().enumerate() {
        bench.peer(peer, &subscribe(id as i32));
    }
    let asked = bench.child_heard(0);
    assert_eq!(asked.len(), 1, "{asked:?}");
    // The child's answer is everybody's, so nobody can cancel it, nor take it along.
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}"#,
    );
    bench.detach(a);
    assert!(bench.child_heard(0).is_empty());
    bench.child(
        0,
        &json!({"jsonrpc":"2.0","id":asked[0]["id"],"result":{"own":"a"}}).to_string(),
    );
    assert_eq!(
        bench.peers_heard(),
        [
            (b, json!({"jsonrpc":"2.0","id":1,"result":{}})),
            (c, json!({"jsonrpc":"2.0","id":2,"result":{}}))
        ]
    );
    bench.child(0, update);
    assert_eq!(bench.peers_heard().len(), 2);
    bench.detach(b);
    assert!(bench.child_heard(0).is_empty());
    bench.detach(c);
    assert_eq!(bench.child_heard(0)[0]["method"], "resources/unsubscribe");

    // A refusal is everybody's, too, and the next one asks anew.
    let (a, b) = (bench.legacy("{}"), bench.legacy("{}"));
    bench.peer(a, &subscribe(1));
    bench.peer(b, &subscribe(1));
    let asked = bench.child_heard(0);
    assert_eq!(asked.len(), 1, "{asked:?}");
    bench.child(
        0,
        &json!({"jsonrpc":"2.0","id":asked[0]["id"],"error":{"code":1,"message":"no"}}).to_string(),
    );
    let told = bench.peers_heard();
    assert_eq!(told.len(), 2);
    assert!(
        told.iter()
            .all(|(_, line)| line["error"]["message"] == "no")
    );
    bench.child(0, update);
    assert!(bench.peers_heard().is_empty());

    // What a process had not agreed to when it died is not renewed: the peers were told no.
    bench.peer(a, &subscribe(1));
    bench.peer(b, &subscribe(1));
    bench.exit(0, true);
    assert_eq!(bench.peers_heard().len(), 2);
    bench.start(0);
    let handshake = bench.child_heard(0).remove(0);
    bench.child(
        0,
        &json!({"jsonrpc":"2.0","id":handshake["id"],"result":{}}).to_string(),
    );
    assert_eq!(bench.child_heard(0).len(), 1);
    assert!(bench.router.lanes[0].subscriptions.is_empty());
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
    let (modern, legacy) = (bench.modern(), bench.attach());
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

/// A peer's malformed question made every server look legacy, to everybody and for ever.
#[test]
fn no_peer_decides_what_era_the_server_is_of() {
    let mut bench = Bench::default();
    let (a, b) = (bench.attach(), bench.attach());
    bench.peer(a, r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#);
    let ours = bench.child_heard(0).remove(0);
    assert_eq!(
        ours["params"]["_meta"],
        json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "mcp-remote", "version": env!("CARGO_PKG_VERSION")},
            "io.modelcontextprotocol/clientCapabilities": {},
        })
    );
    bench.peer(b, LISTEN);
    assert!(bench.child_heard(0).is_empty());
    bench.child(
        0,
        &json!({"jsonrpc":"2.0","id":ours["id"],"result":{}}).to_string(),
    );
    let heard = bench.child_heard(0);
    assert_eq!(
        heard.iter().map(|line| &line["method"]).collect::<Vec<_>>(),
        ["server/discover", "subscriptions/listen"]
    );
    bench.child(
        0,
        &json!({"jsonrpc":"2.0","id":heard[0]["id"],"error":{"code":-32602,"message":"no _meta"}})
            .to_string(),
    );
    assert_eq!(bench.told(a)["error"]["code"], -32602);
    // It is still a modern server, which is asked no second time.
    bench.peer(b, &DISCOVER.replace("\"p\"", "2"));
    assert_eq!(bench.child_heard(0)[0]["method"], "server/discover");
    assert!(bench.commands().is_empty());
}

#[test]
fn a_probe_of_a_legacy_server_is_remembered_and_keeps_no_process() {
    let refusal = |id: &Value| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"Method not found"}}}}"#
        )
    };
    // First of all peers: the process is used for what comes next.
    let mut bench = Bench::default();
    let a = bench.attach();
    bench.peer(a, DISCOVER);
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(0, &refusal(&id));
    assert_eq!(bench.told(a)["error"]["code"], -32601);
    bench.shake_hands(a, "{}");
    let b = bench.attach();
    bench.peer(b, DISCOVER);
    assert_eq!(bench.told(b)["id"], "p");
    assert!(bench.commands().is_empty());
    // After a legacy peer: a second process, for as long as the question stands.
    let mut bench = Bench::default();
    bench.legacy("{}");
    let b = bench.attach();
    bench.peer(b, DISCOVER);
    assert_eq!(bench.commands(), [Command::Start(LaneId(1))]);
    bench.start(1);
    let id = bench.child_heard(1)[0]["id"].clone();
    bench.child(1, &refusal(&id));
    bench.told(b);
    assert_eq!(bench.commands(), [Command::Stop(LaneId(1))]);
    bench.exit(1, false);
    bench.shake_hands(b, "{}");
    // Who does not ask but goes ahead is served by what there is.
    let mut bench = Bench::default();
    let a = bench.attach();
    bench.peer(a, DISCOVER);
    let b = bench.attach();
    bench.peer(b, MODERN_CALL);
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(0, &refusal(&id));
    assert_eq!(bench.told(a)["id"], "p");
    let call = bench.child_heard(0).pop().unwrap();
    bench.child(0, &refusal(&call["id"]));
    assert_eq!(bench.told(b)["id"], 1);
}

/// Older servers on `rmcp` end when the first message is not `initialize`.
#[test]
fn a_server_that_ends_when_it_is_asked_for_its_era_is_legacy() {
    let mut bench = Bench::default();
    let (a, b) = (bench.attach(), bench.attach());
    bench.peer(a, DISCOVER);
    assert!(bench.router.is_probing(LaneId(0)));
    bench.exit(0, true);
    assert_eq!(bench.told(a)["error"]["message"], "MCP server exited");
    bench.start(0);
    assert!(bench.child_heard(0).is_empty());
    // Once may have been chance.
    bench.peer(b, DISCOVER);
    bench.exit(0, true);
    assert_eq!(bench.told(b)["error"]["code"], -32601);
    bench.start(0);
    bench.peer(a, DISCOVER);
    assert_eq!(bench.told(a)["error"]["code"], -32601);
    bench.shake_hands(a, "{}");
}

/// A notification before everything else ended a server on `rmcp`.
#[test]
fn a_process_without_handshake_hears_a_request_first() {
    let hello = r#"{"jsonrpc":"2.0","method":"x/hello","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let mut bench = Bench::default();
    let a = bench.attach();
    bench.peer(a, hello);
    let ours = bench.child_heard(0).remove(0);
    bench.child(
        0,
        &json!({"jsonrpc":"2.0","id":ours["id"],"result":{}}).to_string(),
    );
    bench.peer(a, hello);
    assert!(bench.child_heard(0).is_empty());
    bench.peer(a, MODERN_CALL);
    bench.peer(a, hello);
    let heard = bench.child_heard(0);
    assert_eq!(
        heard.iter().map(|line| &line["method"]).collect::<Vec<_>>(),
        ["tools/call", "x/hello"]
    );
    bench.exit(0, true);
    bench.told(a);
    bench.start(0);
    bench.peer(a, hello);
    assert!(bench.child_heard(0).is_empty());
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

fn acknowledgement(listen: &Value) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{}}},"notifications":{{"toolsListChanged":true}}}}}}"#,
        listen["id"]
    )
}

#[test]
fn an_open_listen_is_renewed_with_the_next_process() {
    let mut bench = Bench::default();
    let a = bench.modern();
    bench.peer(a, LISTEN);
    let listen = bench.child_heard(0).remove(0);
    bench.child(0, &acknowledgement(&listen));
    assert_eq!(
        bench.told(a)["method"],
        "notifications/subscriptions/acknowledged"
    );
    bench.exit(0, true);
    assert!(bench.peers_heard().is_empty());
    bench.start(0);
    assert_eq!(bench.child_heard(0), std::slice::from_ref(&listen));
    bench.child(0, &acknowledgement(&listen));
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

/// A client waits for the acknowledgement before it goes on; that of the next process was taken for
/// a second one, though the peer had not had the first.
#[test]
fn a_listen_that_was_not_acknowledged_when_the_process_died_is_afterwards() {
    let mut bench = Bench::default();
    let a = bench.modern();
    bench.peer(a, LISTEN);
    let listen = bench.child_heard(0).remove(0);
    bench.exit(0, true);
    bench.start(0);
    assert_eq!(bench.child_heard(0), std::slice::from_ref(&listen));
    bench.child(0, &acknowledgement(&listen));
    assert_eq!(
        bench.told(a)["method"],
        "notifications/subscriptions/acknowledged"
    );
}

/// One that came between two processes was sent twice, under one id.
#[test]
fn a_listen_that_comes_between_two_processes_is_sent_once() {
    let mut bench = Bench::default();
    let a = bench.modern();
    bench.exit(0, true);
    bench.peer(a, LISTEN);
    bench.start(0);
    let heard = bench.child_heard(0);
    assert_eq!(heard.len(), 1, "{heard:?}");
    bench.child(0, &acknowledgement(&heard[0]));
    assert_eq!(
        bench.told(a)["method"],
        "notifications/subscriptions/acknowledged"
    );
}

/// A listen that was renewed quoted its peer's own progress token, which may be the number of
/// somebody else's request.
#[test]
fn a_renewed_listen_has_its_progress_token_mapped() {
    let mut bench = Bench::default();
    let a = bench.modern();
    bench.peer(
        a,
        &LISTEN.replace(r#""_meta":{"#, r#""_meta":{"progressToken":1,"#),
    );
    let listen = bench.child_heard(0).remove(0);
    assert_eq!(listen["params"]["_meta"]["progressToken"], listen["id"]);
    bench.exit(0, true);
    bench.start(0);
    assert_eq!(bench.child_heard(0), [listen]);
}

/// A process that died in the middle of a renewed handshake, and a peer that said `initialize`
/// before the next one: that one was not told what the first knew.
#[test]
fn what_is_to_be_renewed_survives_a_death_in_the_handshake() {
    let mut bench = Bench::default();
    let a = bench.legacy("{}");
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"x:1"}}"#,
    );
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(0, &json!({"jsonrpc":"2.0","id":id,"result":{}}).to_string());
    bench.told(a);
    bench.exit(0, true);
    bench.start(0);
    assert_eq!(bench.child_heard(0)[0]["method"], "initialize");
    bench.exit(0, true);
    let b = bench.attach();
    bench.peer(b, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#);
    bench.start(0);
    let heard = bench.child_heard(0);
    assert_eq!(heard.len(), 1);
    bench.child(
        0,
        &json!({"jsonrpc":"2.0","id":heard[0]["id"],"result":{}}).to_string(),
    );
    assert_eq!(bench.told(b)["id"], 0);
    let heard = bench.child_heard(0);
    assert_eq!(
        heard.iter().map(|line| &line["method"]).collect::<Vec<_>>(),
        ["notifications/initialized", "resources/subscribe"]
    );
}

#[test]
fn a_modern_servers_logs_reach_the_only_peer_that_wants_them() {
    let mut bench = Bench::default();
    let (a, b) = (bench.modern(), bench.attach());
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
    let mut pipe = crate::router::Pipe::default();
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
