//! Handshakes and eras: which process serves which peer.

use super::*;

#[test]
fn two_eras_get_two_processes() {
    let mut bench = Bench::default();
    let (modern, legacy) = (bench.modern(), bench.attach());
    bench.peer(modern, LISTEN);
    let listen = bench.child_heard(0).remove(0);
    bench.peer(legacy, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#);
    assert_eq!(bench.commands(), [Command::Start(ProcessId(1))]);
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
    // A broadcast of one era reaches no peer of the other.
    bench.child(
        0,
        r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
    );
    assert!(bench.peers_heard().is_empty());
}

/// Bug: a client that does not declare tasks was told that its task does not exist (SEP-2663).
#[test]
fn a_client_without_tasks_is_told_what_it_lacks() {
    let mut bench = Bench::default();
    let peer = bench.modern();
    let tasks = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    for (capabilities, code) in [(json!({}), -32021), (tasks.clone(), -32602)] {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        });
        let params = json!({"taskId": "T", "_meta": meta});
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": params});
        bench.peer(peer, &request.to_string());
        let error = &bench.told(peer)["error"];
        assert_eq!(error["code"], code);
        let required = &error["data"]["requiredCapabilities"];
        assert_eq!(required == &tasks, code == -32021, "{error}");
        assert!(bench.child_heard(0).is_empty());
    }
}

/// A peer's malformed question made every server look legacy, to all peers and forever.
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
    // It is still a modern server, which is not asked again.
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
    // After a legacy peer: a second process, for as long as the question is open.
    let mut bench = Bench::default();
    bench.legacy("{}");
    let b = bench.attach();
    bench.peer(b, DISCOVER);
    assert_eq!(bench.commands(), [Command::Start(ProcessId(1))]);
    bench.start(1);
    let id = bench.child_heard(1)[0]["id"].clone();
    bench.child(1, &refusal(&id));
    bench.told(b);
    assert_eq!(bench.commands(), [Command::Stop(ProcessId(1))]);
    bench.exit(1, false);
    bench.shake_hands(b, "{}");
    // A peer that does not ask first is served by what exists.
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

/// What waited for the outcome of the probe was answered with an error, though another process could serve it.
#[test]
fn what_waits_for_the_probe_of_a_legacy_server_goes_to_the_process_that_serves() {
    for fatal in [false, true] {
        let mut bench = Bench::default();
        bench.legacy("{}");
        let peer = bench.attach();
        let own = r#"{"jsonrpc":"2.0","method":"notifications/own"}"#;
        let subscribe = MODERN_CALL
            .replace("tools/call", "resources/subscribe")
            .replace(r#""id":1"#, r#""id":"s""#);
        for line in [MODERN_CALL, LISTEN, &subscribe, own] {
            bench.peer(peer, line);
        }
        bench.commands();
        bench.start(1);
        let probe = bench.child_heard(1).remove(0);
        assert!(bench.child_heard(0).is_empty());
        if fatal {
            bench.router.fatal_probes = 1;
            bench.exit(1, true);
        } else {
            let error = json!({"code":-32601,"message":"Method not found"});
            let answer = json!({"jsonrpc":"2.0","id":probe["id"],"error":error});
            bench.child(1, &answer.to_string());
            bench.exit(1, false);
        }
        // Subscriptions are counted by the process that is asked, so the peer has to ask again.
        let refused = bench.told(peer);
        assert_eq!(refused["id"], "s");
        assert_eq!(refused["error"]["data"]["executed"], "no");
        let heard = bench.child_heard(0);
        let methods: Vec<&Value> = heard.iter().map(|line| &line["method"]).collect();
        let expected = ["tools/call", "subscriptions/listen", "notifications/own"];
        assert_eq!(methods, expected, "{fatal}");
        for (line, id) in heard.iter().zip([json!(1), json!("listen-1")]) {
            let answer = json!({"jsonrpc":"2.0","id":line["id"],"result":{}});
            bench.child(0, &answer.to_string());
            assert_eq!(bench.told(peer)["id"], id);
        }
        assert_eq!(bench.router.pending_requests(peer), 0);
    }
}

/// Older `rmcp` servers exit when the first message is not `initialize`.
#[test]
fn a_server_that_ends_when_it_is_asked_for_its_era_is_legacy() {
    let mut bench = Bench::default();
    let (a, b) = (bench.attach(), bench.attach());
    bench.peer(a, DISCOVER);
    assert!(bench.router.is_probing(ProcessId(0)));
    bench.exit(0, true);
    assert_eq!(bench.told(a)["error"]["message"], "MCP server exited");
    bench.start(0);
    assert!(bench.child_heard(0).is_empty());
    // Once may have been a coincidence.
    bench.peer(b, DISCOVER);
    bench.exit(0, true);
    assert_eq!(bench.told(b)["error"]["code"], -32601);
    bench.start(0);
    bench.peer(a, DISCOVER);
    assert_eq!(bench.told(a)["error"]["code"], -32601);
    bench.shake_hands(a, "{}");
    // If legacy peers are already being served, no process is kept for it.
    let mut bench = Bench::default();
    bench.legacy("{}");
    let a = bench.attach();
    for _ in 0..2 {
        bench.peer(a, DISCOVER);
        bench.exit(1, true);
        bench.told(a);
    }
    assert_eq!(
        bench.commands(),
        [Command::Start(ProcessId(1)), Command::Stop(ProcessId(1))]
    );
}

/// A notification as the first message ended an `rmcp` server.
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
    let ours = bench.child_heard(0).remove(0);
    bench.peer(a, hello);
    let answer = json!({"jsonrpc":"2.0","id":ours["id"],"result":{}});
    bench.child(0, &answer.to_string());
    bench.peer(a, hello);
    assert!(bench.child_heard(0).is_empty());
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
    // A server without a handshake still gets the request.
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

/// The check for room was made on the process of a peer's last message.
#[test]
fn a_message_goes_where_it_says() {
    let mut bench = Bench::default();
    let legacy = bench.legacy(r#"{"sampling":{}}"#);
    let other = bench.attach();
    let to = |bench: &Bench, session, line: &str| {
        let process = bench.router.destination(session, permit(line).message());
        process.map(|process| process.0)
    };
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
    // No process serves that era yet: it is the one that will.
    assert_eq!(to(&bench, other, MODERN_CALL), Some(1));
    assert_eq!(to(&bench, other, call), Some(0));
    bench.peer(other, MODERN_CALL);
    for session in [legacy, other] {
        assert_eq!(to(&bench, session, MODERN_CALL), Some(1));
        assert_eq!(to(&bench, session, DISCOVER), Some(1));
    }
    // A message without an era goes to the same process as the last one with an era.
    assert_eq!(to(&bench, other, call), Some(1));
    assert_eq!(to(&bench, legacy, call), Some(0));
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    assert_eq!(to(&bench, other, cancel), Some(1));
    assert_eq!(to(&bench, legacy, cancel), None);
    bench.peer(legacy, call);
    bench.child(
        0,
        r#"{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage"}"#,
    );
    let question = bench.told(legacy)["id"].clone();
    let answer = json!({"jsonrpc":"2.0","id":question,"result":{}}).to_string();
    assert_eq!(to(&bench, legacy, &answer), Some(0));
    assert_eq!(to(&bench, other, &answer), None);
    let progress = json!({"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":question}});
    assert_eq!(to(&bench, legacy, &progress.to_string()), Some(0));
}

/// Each subscription is notified separately, and none that has ended.
#[test]
fn subscriptions_are_told_of_a_changed_list_once_a_second() {
    let mut bench = Bench::default();
    let peer = bench.modern();
    let listen = |id: &str| LISTEN.replace("listen-1", id);
    let mut ours = Vec::new();
    for id in ["kept", "cancelled"] {
        bench.peer(peer, &listen(id));
        ours.push(bench.child_heard(0).remove(0)["id"].clone());
    }
    let changed = |id: &Value, number: usize| {
        let meta = json!({"io.modelcontextprotocol/subscriptionId":id,"number":number});
        json!({"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":meta}})
    };
    for number in 0..3 {
        for ours in &ours {
            bench.child(0, &changed(ours, number).to_string());
        }
    }
    let told = bench.peers_heard();
    let expected = ["kept", "cancelled"].map(|id| (peer, changed(&json!(id), 0)));
    assert_eq!(told, expected);
    let cancel = json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"cancelled"}});
    bench.peer(peer, &cancel.to_string());
    let next = bench.router.next_change().unwrap();
    bench.router.tell_changes(next, &mut bench.out);
    assert_eq!(bench.told(peer), changed(&json!("kept"), 2));
}
