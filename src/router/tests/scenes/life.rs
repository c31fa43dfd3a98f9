//! A process ends, and another one follows.

mod listens;

use super::*;

fn acknowledgement(listen: &Value) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{}}},"notifications":{{"toolsListChanged":true}}}}}}"#,
        listen["id"]
    )
}

/// A modern peer with an acknowledged listen request, whose process has just ended.
fn listening_as_the_process_ends() -> (Bench, SessionId, Value) {
    let mut bench = Bench::default();
    let peer = bench.modern();
    bench.peer(peer, LISTEN);
    let listen = bench.child_heard(0).remove(0);
    bench.child(0, &acknowledgement(&listen));
    bench.told(peer);
    bench.exit(0, true);
    (bench, peer, listen)
}

/// The next modern process starts, and responds to the router's first request.
fn start_modern(bench: &mut Bench) {
    bench.start(0);
    let asked = bench.child_heard(0);
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0]["method"], "server/discover");
    let answer = json!({"jsonrpc":"2.0","id":asked[0]["id"],"result":{}});
    bench.child(0, &answer.to_string());
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
        json!({"source":"mcp-remote","reason":"child-exited","executed":"unknown","status":"signal: 9"})
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

/// A level that ended the process was sent to each of its successors.
#[test]
fn a_log_level_that_no_process_has_agreed_to_is_not_given_to_the_next() {
    let mut bench = Bench::default();
    let (a, b) = (bench.legacy("{}"), bench.legacy("{}"));
    let set = |level: &str| {
        json!({"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":level}})
            .to_string()
    };
    bench.peer(a, &set("error"));
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(0, &json!({"jsonrpc":"2.0","id":id,"result":{}}).to_string());
    bench.told(a);
    bench.peer(b, &set("debug"));
    assert_eq!(bench.child_heard(0)[0]["params"]["level"], "debug");
    bench.exit(0, true);
    bench.told(b);
    bench.start(0);
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(0, &json!({"jsonrpc":"2.0","id":id,"result":{}}).to_string());
    assert_eq!(bench.child_heard(0)[1]["params"]["level"], "error");
}

/// A client name may end a process, too; the next one needs no other client's name.
#[test]
fn a_handshake_that_ended_a_process_is_not_repeated() {
    let mut bench = Bench::default();
    let (a, b) = (bench.attach(), bench.attach());
    let initialize = |id: i32| {
        json!({"jsonrpc":"2.0","id":id,"method":"initialize","params":{"clientInfo":{"name":"poison","version":"1"}}})
            .to_string()
    };
    bench.peer(a, &initialize(1));
    assert_eq!(
        bench.child_heard(0)[0]["params"]["clientInfo"]["name"],
        "poison"
    );
    let cause = bench.router.cause_of_end(ProcessId(0), false);
    assert_eq!(cause, Cause::Sender(Sender::User("anybody".into())));
    bench.exit(0, true);
    assert_eq!(bench.told(a)["error"]["message"], "MCP server exited");
    // Even if a peer sends it again before the next process has started.
    bench.peer(b, &initialize(2));
    bench.start(0);
    let heard = bench.child_heard(0);
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0]["params"]["clientInfo"]["name"], "mcp-remote");
    assert_eq!(
        bench.router.cause_of_end(ProcessId(0), false),
        Cause::Itself
    );
    let answer = json!({"jsonrpc":"2.0","id":heard[0]["id"],"result":{}});
    bench.child(0, &answer.to_string());
    assert_eq!(bench.told(b)["id"], 2);
    assert_eq!(bench.child_heard(0).len(), 1);
    assert_eq!(
        bench.router.cause_of_end(ProcessId(0), false),
        Cause::Itself
    );
}

/// Two processes in a row have ended at their first message.
#[test]
fn a_process_may_be_told_nothing_of_what_its_predecessor_knew() {
    let (mut bench, a, _) = listening_as_the_process_ends();
    start_modern(&mut bench);
    assert_eq!(
        bench.router.cause_of_end(ProcessId(0), false),
        Cause::Renewal
    );
    bench.forget_and_exit(0);
    assert_eq!(bench.told(a)["error"]["message"], "MCP server exited");
    start_modern(&mut bench);
    assert!(bench.child_heard(0).is_empty());

    let mut bench = Bench::default();
    let a = bench.legacy("{}");
    let subscribe =
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"x:1"}}"#;
    bench.peer(a, subscribe);
    let id = bench.child_heard(0)[0]["id"].clone();
    let answer = json!({"jsonrpc":"2.0","id":id,"result":{}}).to_string();
    bench.child(0, &answer);
    bench.told(a);
    bench.forget_and_exit(0);
    bench.start(0);
    let initialize = bench.child_heard(0).remove(0);
    assert_eq!(initialize["params"]["clientInfo"]["name"], "mcp-remote");
    let answer = json!({"jsonrpc":"2.0","id":initialize["id"],"result":{}});
    bench.child(0, &answer.to_string());
    assert_eq!(bench.child_heard(0).len(), 1);
    assert!(bench.router.processes[0].subscriptions.is_empty());
}

/// Only the router waits for the responses: a process that sent none lost its predecessor's state.
#[test]
fn what_a_process_is_told_again_is_awaited() {
    let mut bench = Bench::default();
    let a = bench.legacy("{}");
    for (id, method, member) in [
        (1, "resources/subscribe", r#""uri":"x:1""#),
        (2, "logging/setLevel", r#""level":"info""#),
    ] {
        bench.peer(
            a,
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{member}}}}}"#),
        );
        let asked = bench.child_heard(0).remove(0);
        let answer = json!({"jsonrpc":"2.0","id":asked["id"],"result":{}}).to_string();
        bench.child(0, &answer);
        bench.told(a);
    }
    bench.exit(0, true);
    bench.start(0);
    let initialize = bench.child_heard(0).remove(0);
    bench.out.asked = Default::default();
    let answer = json!({"jsonrpc":"2.0","id":initialize["id"],"result":{}});
    bench.child(0, &answer.to_string());
    assert!(bench.out.asked[0]);
    let heard = bench.child_heard(0);
    for told in heard.iter().filter(|told| told.get("id").is_some()) {
        let (ours, method) = bench.router.awaited(ProcessId(0)).unwrap();
        assert_eq!(ours, bench.number(&told["id"]));
        assert_eq!(method, told["method"]);
        assert_eq!(
            bench.router.cause_of_end(ProcessId(0), true),
            Cause::Renewal
        );
        let answer = json!({"jsonrpc":"2.0","id":told["id"],"result":{}}).to_string();
        bench.child(0, &answer);
    }
    assert_eq!(bench.router.awaited(ProcessId(0)), None);
}

/// A process died in the middle of a repeated handshake, and a peer sent `initialize`
/// before the next one started: the next one did not get the state of the first.
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

/// With two active peers it was never known whose message ends processes.
#[test]
fn after_ends_that_nobody_can_explain_one_sender_is_heard_at_a_time() {
    let mut bench = Bench::default();
    let a = bench.legacy("{}");
    let b = bench.attach_user("bob");
    bench.shake_hands(b, "{}");
    let call = |id: i32| json!({"jsonrpc":"2.0","id":id,"method":"tools/call"}).to_string();
    bench.exit_as(0, true, false, true);
    // A message that comes before the process runs waits, too.
    for (peer, id) in [(a, 1), (b, 2), (a, 3)] {
        bench.peer(peer, &call(id));
    }
    bench.start(0);
    let answer = |bench: &mut Bench, id: &Value| {
        bench.child(0, &json!({"jsonrpc":"2.0","id":id,"result":{}}).to_string());
    };
    let init = bench.child_heard(0).remove(0)["id"].clone();
    answer(&mut bench, &init);
    let heard = bench.child_heard(0);
    assert_eq!(
        heard.len(),
        3,
        "what was initialized, and the turn of one: {heard:?}"
    );
    let blamed = |bench: &Bench| bench.router.cause_of_end(ProcessId(0), false);
    let sender = |user: &str| Cause::Sender(Sender::User(user.into()));
    assert_eq!(blamed(&bench), sender("anybody"));
    answer(&mut bench, &heard[1]["id"]);
    bench.told(a);
    assert!(bench.child_heard(0).is_empty());
    bench.peer(a, &call(4));
    let fourth = bench.child_heard(0).remove(0);
    for id in [&heard[2]["id"], &fourth["id"]] {
        answer(&mut bench, id);
        bench.told(a);
    }
    // It has all its responses: it is the other peer's turn.
    let heard = bench.child_heard(0);
    assert_eq!(heard.len(), 1);
    assert_eq!(blamed(&bench), sender("bob"));
    bench.peer(a, &call(5));
    let tick = |bench: &mut Bench| bench.router.tick(ProcessId(0), &mut bench.out);
    tick(&mut bench);
    assert!(bench.child_heard(0).is_empty());
    assert!(bench.router.held(ProcessId(0)) > 0);
    // A slow request does not hold up the others.
    tick(&mut bench);
    assert_eq!(bench.child_heard(0).len(), 1);
    assert_eq!(blamed(&bench), Cause::Unclear);
    // A notification has its turn, which ends only with the clock.
    tick(&mut bench);
    bench.peer(b, r#"{"jsonrpc":"2.0","method":"x/hello"}"#);
    bench.peer(a, &call(6));
    assert_eq!(bench.child_heard(0).len(), 1);
    tick(&mut bench);
    assert_eq!(bench.child_heard(0)[0]["method"], "x/hello");
    // In the end every peer is served.
    for (peer, id) in [(a, 7), (b, 8)] {
        bench.peer(peer, &call(id));
    }
    bench.router.end_turns(ProcessId(0), &mut bench.out);
    assert_eq!(bench.child_heard(0).len(), 2);
    bench.peer(b, &call(9));
    assert_eq!(bench.child_heard(0).len(), 1);
}

#[test]
fn half_closed_peer_has_no_listen_requests() {
    let mut bench = Bench::default();
    let a = bench.modern();
    bench.peer(a, LISTEN);
    let listen = bench.child_heard(0).remove(0);
    bench.child(0, &acknowledgement(&listen));
    bench.told(a);
    bench.router.half_closed(a, &mut bench.out);
    assert_eq!(bench.router.pending_requests(a), 0);
    let cancelled = bench.child_heard(0).remove(0);
    assert_eq!(cancelled["method"], "notifications/cancelled");
    assert_eq!(cancelled["params"]["requestId"], listen["id"]);
    bench.exit(0, true);
    start_modern(&mut bench);
    assert_eq!(bench.child_heard(0), [Value::Null; 0]);
}

/// Its messages waited for room in a queue that was gone.
#[test]
fn a_session_with_a_full_queue_is_read_again_once_its_process_has_ended() {
    for restarts in [true, false] {
        let mut bench = Bench::with_places(1);
        let peer = bench.legacy("{}");
        let filler = "x".repeat(1 << 20);
        let call = |id: u64, filler: &str| {
            let params = json!({"filler": filler});
            json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
                .to_string()
        };
        bench.peer(peer, &call(0, ""));
        bench.peer(peer, &call(1, &filler));
        let next = permit(&call(2, ""));
        let process = ProcessId::FIRST;
        let is_full = |bench: &Bench| bench.router.is_full_for(process, peer, next.message());
        assert!(is_full(&bench));
        bench.router.take_room(process);
        bench.exit(0, restarts);
        let room = bench.router.take_room(process);
        assert!(is_full(&bench) || room.for_all, "restarts: {restarts}");
        assert_eq!(is_full(&bench), restarts);
    }
}

/// Bug: the turns of a process that started slowly ended before it was sent anything, and what waited was sent to it even
/// if its peer had left by then.
#[test]
fn turns_do_not_end_before_they_have_begun() {
    let mut bench = Bench::default();
    let (gone, peer) = (bench.legacy_of("gone"), bench.legacy_of("peer"));
    bench.exit_as(0, true, false, true);
    bench.start(0);
    let initialize = bench.child_heard(0).remove(0)["id"].clone();
    for from in [gone, peer] {
        bench.peer(from, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
    }
    bench.router.end_turns(ProcessId::FIRST, &mut bench.out);
    bench.detach(gone);
    bench.done(&initialize);
    let heard = bench.child_heard(0);
    let methods: Vec<&Value> = heard.iter().map(|line| &line["method"]).collect();
    assert_eq!(methods, ["notifications/initialized", "tools/call"]);
}

/// Bug: what waited for the turn of its sender was executed though it had been cancelled, or its peer had left.
#[test]
fn what_waits_for_the_turn_of_its_sender_is_taken_back() {
    for leaves in [false, true] {
        let mut bench = Bench::default();
        let (other, peer) = (bench.legacy_of("other"), bench.legacy_of("peer"));
        bench.take_turns();
        let first = bench.call(other, 1);
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
        bench.peer(peer, call);
        if leaves {
            bench.detach(peer);
        } else {
            bench.peer(
                peer,
                r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
            );
        }
        bench.done(&first);
        bench.router.end_turns(ProcessId::FIRST, &mut bench.out);
        assert_eq!(bench.child_heard(0), [Value::Null; 0], "leaves: {leaves}");
        assert_eq!(bench.router.held(ProcessId::FIRST), 0);
        assert_eq!(bench.router.processes[0].forgotten.len(), 0);
        let told = bench.peers_heard();
        assert!(told.iter().all(|(to, _)| *to == other), "{told:?}");
    }
}
