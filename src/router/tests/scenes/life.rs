//! A process ends, and another one follows.

use super::*;

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

/// One that was renewed and then cancelled was acknowledged a second time.
#[test]
fn a_renewed_listen_that_is_cancelled_is_not_heard_of_again() {
    let mut bench = Bench::default();
    let a = bench.modern();
    bench.peer(a, LISTEN);
    let listen = bench.child_heard(0).remove(0);
    bench.child(0, &acknowledgement(&listen));
    bench.told(a);
    bench.exit(0, true);
    bench.start(0);
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"listen-1"}}"#,
    );
    bench.child(0, &acknowledgement(&listen));
    assert!(bench.peers_heard().is_empty());
    bench.exit(0, true);
    bench.start(0);
    assert!(bench.router.lanes[0].in_flight.is_empty());
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

/// A process was told to cancel what it had never heard of, first of all, which ends some servers.
#[test]
fn a_listen_that_ends_between_two_processes_is_not_cancelled() {
    for leaves in [true, false] {
        let mut bench = Bench::default();
        let a = bench.modern();
        bench.peer(a, LISTEN);
        bench.child_heard(0);
        bench.exit(0, true);
        if leaves {
            bench.detach(a);
        } else {
            bench.peer(a, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"listen-1"}}"#);
        }
        bench.start(0);
        assert!(bench.child_heard(0).is_empty());
        assert!(bench.router.lanes[0].in_flight.is_empty());
    }
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
