//! Requests and what belongs to them: each peer has its own.

use super::*;
use crate::permissions::Policy;
use crate::router::{Counted, MAX_IN_FLIGHT, MAX_LISTEN_REQUESTS, MAX_LISTEN_SIZE};
use crate::utils::tally::Tally;

/// Bug: a peer that reused the id of a cancelled request could take the late response to the first
/// for the response to the second.
#[test]
fn an_id_that_is_used_again_gets_its_own_answer() {
    let mut bench = Bench::default();
    let peer = bench.legacy("{}");
    let call = r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"_meta":{"progressToken":3},"name":"t"}}"#;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}"#;
    for line in [call, cancel, call] {
        bench.peer(peer, line);
    }
    let heard = bench.child_heard(0);
    let (first, second) = (&heard[0]["id"], &heard[2]["id"]);
    for (id, who) in [(first, "first"), (second, "second")] {
        let params = json!({"progressToken": id, "progress": 1, "who": who});
        let progress = json!({"jsonrpc":"2.0","method":"notifications/progress","params":params});
        bench.child(0, &progress.to_string());
        let answer = json!({"jsonrpc":"2.0","id":id,"result":{"who":who}});
        bench.child(0, &answer.to_string());
    }
    let heard: Vec<Value> = bench
        .peers_heard()
        .into_iter()
        .map(|(_, line)| line)
        .collect();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!(
        heard[0]["params"],
        json!({"progressToken":3,"progress":1,"who":"second"})
    );
    assert_eq!(
        heard[1],
        json!({"jsonrpc":"2.0","id":3,"result":{"who":"second"}})
    );
}

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
    // Late, duplicate and foreign messages reach no peer.
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

/// More connections do not give a user more requests in flight, on one process or on several.
#[test]
fn the_requests_of_a_user_are_counted_together() {
    let mut bench = Bench::default();
    let (alice, bob) = (Tally::default(), Tally::default());
    let counted = |of_user: &Tally| Counted {
        of_user: of_user.clone(),
        ..Counted::default()
    };
    let mut attach = |of| {
        let router = &mut bench.router;
        router.attach_of_user(Profile::anybody(), &counted(of))
    };
    let (a, b, other) = (attach(&alice), attach(&alice), attach(&bob));
    let (mut isolated, mut out) = (IsolatedRouter::default(), Output::default());
    isolated.attach(Profile::anybody(), &counted(&alice));
    let request = |id: usize| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x"}}"#);
    for id in 1..MAX_IN_FLIGHT {
        bench.peer(a, &request(id));
    }
    assert_eq!(
        isolated.peer_message(&permit(&request(0)), &mut out),
        Ok(())
    );
    assert_eq!(alice.sum(), MAX_IN_FLIGHT);
    assert!(bench.peers_heard().is_empty() && out.to_peer.is_empty());
    assert_eq!(
        isolated.peer_message(&permit(&request(1)), &mut out),
        Ok(())
    );
    assert_eq!(out.to_peer.len(), 1);
    bench.peer(b, &request(0));
    bench.peer(other, &request(0));
    let refused = bench.told(b);
    assert_eq!(refused["error"]["data"]["reason"], "too-many-requests");
    // Whatever ends a request makes room for another.
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#,
    );
    bench.peer(b, &request(0));
    assert!(bench.peers_heard().is_empty());
    bench.peer(b, &request(1));
    assert_eq!(bench.told(b)["id"], 1);
    isolated.child_exited(&Exit::default(), &mut out);
    bench.peer(b, &request(2));
    bench.detach(a);
    assert_eq!((alice.sum(), bob.sum()), (2, 1));
    bench.exit(0, false);
    assert_eq!((alice.sum(), bob.sum()), (0, 0));
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
    // Some hosts take a response to a request they have cancelled for a transport error.
    bench.child(
        0,
        &format!(r#"{{"jsonrpc":"2.0","id":{ours},"error":{{"code":0,"message":"cancelled"}}}}"#),
    );
    assert!(bench.peers_heard().is_empty());
    let subscribe =
        r#"{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"x:1"}}"#;
    for peer in [a, b] {
        bench.peer(peer, subscribe);
    }
    let ours = bench.child_heard(0)[0]["id"].clone();
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#,
    );
    bench.child(
        0,
        &format!(r#"{{"jsonrpc":"2.0","id":{ours},"result":{{}}}}"#),
    );
    assert_eq!(bench.told(b)["id"], 2);
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
fn requests_as_notifications_and_the_reverse_reach_no_child() {
    let mut bench = Bench::default();
    let a = bench.legacy("{}");
    let mut isolated = crate::router::IsolatedRouter::default();
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
        assert_eq!(isolated.peer_message(&permit(line), &mut piped), Ok(()));
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

/// A process applies one peer's setting to all peers, so an invalid one must not reach it.
#[test]
fn params_that_would_change_what_others_get_are_checked() {
    let (bad_level, bad_uri) = ("level must be one of debug, ", "uri must be a string");
    for (method, params, reason) in [
        ("logging/setLevel", r#"{"level":"loud"}"#, bad_level),
        ("logging/setLevel", r#"{"level":"DEBUG"}"#, bad_level),
        ("logging/setLevel", r#"{"level":0}"#, bad_level),
        ("logging/setLevel", "{}", bad_level),
        ("logging/setLevel", r#"["debug"]"#, bad_level),
        ("resources/subscribe", r#"{"uri":["x:1"]}"#, bad_uri),
        ("resources/unsubscribe", r#"{"uri":["x:1"]}"#, bad_uri),
        ("resources/unsubscribe", "{}", bad_uri),
    ] {
        let mut bench = Bench::default();
        let (a, b) = (bench.legacy("{}"), bench.legacy("{}"));
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        bench.peer(a, &line);
        let error = bench.told(a)["error"].take();
        assert_eq!(error["code"], -32602, "{line}");
        let text = error["message"].as_str().unwrap();
        assert!(
            text.starts_with(&format!("Invalid params: {reason}")),
            "{text}"
        );
        assert!(bench.child_heard(0).is_empty(), "{line}");
        assert_eq!(
            (
                bench.router.pending_requests(a),
                bench.router.pending_requests(b)
            ),
            (0, 0)
        );
    }
    // A modern process has no level of its own.
    let mut bench = Bench::default();
    let peer = bench.modern();
    bench.peer(
        peer,
        r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}"#,
    );
    assert_eq!(bench.told(peer)["error"]["code"], -32601);
    assert!(bench.child_heard(0).is_empty());
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
    for id in 0..MAX_LISTEN_REQUESTS {
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

/// Servers need not respond to what was cancelled; ours waited for that until draining timed out.
#[test]
fn nobody_waits_for_what_was_cancelled() {
    let mut bench = Bench::default();
    let a = bench.legacy("{}");
    bench.peer(a, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
    assert!(bench.router.is_busy());
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    );
    assert!(!bench.router.is_busy());
}

/// Bug: what waited for its turn was sent although a reloaded policy forbade it.
#[test]
fn what_waits_is_held_to_changed_rights() {
    let mut bench = Bench::with_places(1);
    let (peer, other) = (bench.legacy("{}"), bench.legacy("{}"));
    let call = |id: u32, tool: &str| {
        let params = json!({"name": tool});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
    };
    for session in [peer, other] {
        for (id, tool) in [(1, "x"), (2, "rm"), (3, "x")] {
            bench.peer(session, &call(id, tool));
        }
        bench.peer(session, r#"{"jsonrpc":"2.0","method":"notifications/odd"}"#);
    }
    let first: Vec<Value> = bench.child_heard(0);
    assert_eq!(first.len(), 2, "{first:?}");
    let denials = bench.router.set_rights(peer, without_rm(), &mut bench.out);
    let denied: Vec<_> = denials.iter().map(|denial| &*denial.method).collect();
    assert_eq!(denied, ["tools/call", "notifications/odd"]);
    let refused = bench.told(peer);
    assert_eq!(
        (&refused["id"], &refused["error"]["code"]),
        (&json!(2), &json!(-32601))
    );
    for answered in first {
        let answer = json!({"jsonrpc": "2.0", "id": answered["id"], "result": {}});
        bench.child(0, &answer.to_string());
    }
    let sent: Vec<Value> = bench.child_heard(0);
    let tools: Vec<_> = sent
        .iter()
        .map(|line| line["params"]["name"].as_str())
        .collect();
    // One of each, and nothing of what the one may not do any more.
    assert_eq!(tools, [Some("x"), Some("rm")]);
}

/// The profile of a peer that may no longer call the tool `rm`, nor anything but tools.
fn without_rm() -> Profile {
    let rules = json!({"allowedMethods": ["tools/*"], "blockedTools": ["rm"]});
    let policy = json!({"permissions": {"user": rules}}).to_string();
    let rights = Policy::parse(&policy).unwrap().rights(&["user".to_owned()]);
    Profile {
        rights,
        ..Profile::anybody()
    }
}

/// The same while senders take turns.
#[test]
fn what_waits_for_the_turn_of_its_sender_is_held_to_changed_rights() {
    let mut bench = Bench::default();
    let (other, peer) = (bench.legacy_of("other"), bench.legacy_of("peer"));
    bench.take_turns();
    let first = bench.call(other, 1);
    for (id, tool) in [(1, "rm"), (2, "x")] {
        let params = json!({"name": tool});
        let line = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
        bench.peer(peer, &line.to_string());
    }
    assert!(
        bench.child_heard(0).is_empty(),
        "it is the other one's turn"
    );
    let denials = bench.router.set_rights(peer, without_rm(), &mut bench.out);
    assert_eq!(denials.len(), 1);
    let refused = bench.told(peer);
    assert_eq!(
        (&refused["id"], &refused["error"]["code"]),
        (&json!(1), &json!(-32601))
    );
    bench.done(&first);
    let sent = bench.child_heard(0);
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(sent[0]["params"]["name"], "x");
    assert_eq!(bench.router.pending_requests(peer), 1);
}

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

fn tools(id: &Value) -> String {
    let tools = json!([{"name": "rm"}, {"name": "x"}]);
    json!({"jsonrpc": "2.0", "id": id, "result": {"tools": tools}}).to_string()
}

fn names(list: &Value) -> Vec<&str> {
    let tools = list["result"]["tools"].as_array().unwrap().iter();
    tools.map(|tool| tool["name"].as_str().unwrap()).collect()
}

/// A list was cut down to what was allowed when it was asked for.
#[test]
fn a_list_shows_what_is_allowed_when_it_comes() {
    let mut bench = Bench::with_places(1);
    let peer = bench.legacy("{}");
    bench.peer(peer, LIST);
    bench.peer(peer, &LIST.replace("\"id\":1", "\"id\":2"));
    let first = bench.child_heard(0).remove(0)["id"].clone();
    let _denials = bench.router.set_rights(peer, without_rm(), &mut bench.out);
    bench.child(0, &tools(&first));
    assert_eq!(names(&bench.told(peer)), ["x"]);
    let second = bench.child_heard(0).remove(0)["id"].clone();
    let _denials = bench
        .router
        .set_rights(peer, Profile::anybody(), &mut bench.out);
    bench.child(0, &tools(&second));
    assert_eq!(names(&bench.told(peer)), ["rm", "x"]);

    let (mut isolated, mut out) = (IsolatedRouter::default(), Output::default());
    isolated.attach(Profile::anybody(), &Counted::default());
    isolated.peer_message(&permit(LIST), &mut out).unwrap();
    isolated.set_rights(without_rm());
    let answer = Message::read(tools(&json!(1)).into(), MAX_CHILD_DEPTH).unwrap();
    isolated.child_message(&answer, Instant::now, &mut out);
    let line = out.to_peer.remove(0).1.line.joined();
    assert_eq!(names(&serde_json::from_slice(&line).unwrap()), ["x"]);
}
