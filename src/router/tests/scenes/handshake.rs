//! What peers send in `initialize`, and which peers get the process's response to it.

use super::*;

fn initialize(id: i32, client: Value) -> String {
    json!({"jsonrpc":"2.0","id":id,"method":"initialize","params":{"protocolVersion":"2025-11-25","clientInfo":client}})
        .to_string()
}

fn named(id: i32, name: &str) -> String {
    initialize(id, json!({"name":name,"version":"1"}))
}

/// The only line that the process has received, which is `initialize`: its id and the client it names.
fn asked(bench: &mut Bench) -> (Value, String) {
    let heard = bench.child_heard(0);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0]["method"], "initialize");
    let name = heard[0]["params"]["clientInfo"]["name"].as_str().unwrap();
    (heard[0]["id"].clone(), name.to_owned())
}

fn refuse(bench: &mut Bench, id: &Value) {
    let error = json!({"code":-32602,"message":"what client is that?"});
    bench.child(
        0,
        &json!({"jsonrpc":"2.0","id":id,"error":error}).to_string(),
    );
}

fn accept(bench: &mut Bench, id: &Value) {
    bench.child(0, &json!({"jsonrpc":"2.0","id":id,"result":{}}).to_string());
}

/// An error caused by one peer's handshake went to all peers that waited for the same response.
#[test]
fn a_refused_handshake_is_answered_to_its_peer() {
    let mut bench = Bench::default();
    let [a, b, c, gone] = std::array::from_fn(|_| bench.attach());
    for (peer, name) in [(a, "a"), (gone, "gone"), (b, "b"), (c, "c")] {
        bench.peer(peer, &named(1, name));
    }
    bench.peer(c, r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#);
    let (id, name) = asked(&mut bench);
    assert_eq!(name, "a");
    refuse(&mut bench, &id);
    assert_eq!(bench.told(a)["error"]["code"], -32602);
    // A handshake that is refused after its sender has left.
    let (id, name) = asked(&mut bench);
    assert_eq!(name, "gone");
    bench.detach(gone);
    refuse(&mut bench, &id);
    assert!(bench.peers_heard().is_empty());
    let (id, name) = asked(&mut bench);
    assert_eq!((&*name, bench.router.pending_requests(c)), ("b", 2));
    accept(&mut bench, &id);
    let told = bench.peers_heard();
    assert_eq!(
        told.iter().map(|(peer, _)| *peer).collect::<Vec<_>>(),
        [b, c]
    );
    assert!(told.iter().all(|(_, line)| line["result"].is_object()));
    let heard = bench.child_heard(0);
    assert_eq!(
        heard.iter().map(|line| &line["method"]).collect::<Vec<_>>(),
        ["notifications/initialized", "tools/list"]
    );
}

/// After the last refusal everything else is passed on, and the next peer's handshake is sent again.
#[test]
fn when_all_are_refused_the_rest_goes_on() {
    let mut bench = Bench::default();
    let (a, b) = (bench.attach(), bench.attach());
    bench.peer(b, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    bench.peer(a, &named(1, "a"));
    let (id, name) = asked(&mut bench);
    assert_eq!(name, "mcp-remote");
    refuse(&mut bench, &id);
    let (id, name) = asked(&mut bench);
    assert_eq!(name, "a");
    refuse(&mut bench, &id);
    assert_eq!(bench.told(a)["id"], 1);
    assert_eq!(bench.child_heard(0)[0]["method"], "tools/list");
    bench.peer(a, &named(2, "another"));
    let (id, name) = asked(&mut bench);
    assert_eq!(name, "another");
    accept(&mut bench, &id);
    assert_eq!(bench.told(a)["id"], 2);
}

/// The process that one peer's handshake has ended is not the last: the others wait for the next.
#[test]
fn an_exit_in_the_handshake_is_answered_to_its_peer() {
    let mut bench = Bench::default();
    let [a, b, c] = std::array::from_fn(|_| bench.attach());
    for (peer, name) in [(a, "a"), (b, "b"), (c, "c")] {
        bench.peer(peer, &named(1, name));
    }
    asked(&mut bench);
    bench.exit(0, true);
    assert_eq!(bench.told(a)["error"]["data"]["reason"], "child-exited");
    bench.start(0);
    let (id, name) = asked(&mut bench);
    assert_eq!(name, "mcp-remote");
    bench.detach(b);
    // With the router's own handshake no peer is to blame.
    bench.exit(0, true);
    assert!(bench.peers_heard().is_empty() && bench.router.is_busy());
    bench.start(0);
    let (again, _) = asked(&mut bench);
    assert_ne!(id, again);
    accept(&mut bench, &again);
    assert!(bench.told(c)["result"].is_object());
    // If no other process follows, they all get the error.
    let mut bench = Bench::default();
    let (a, b) = (bench.attach(), bench.attach());
    bench.peer(a, &named(1, "a"));
    bench.peer(b, &named(1, "b"));
    bench.exit(0, false);
    assert_eq!(bench.peers_heard().len(), 2);
    assert!(!bench.router.is_busy());
}

#[test]
fn what_is_read_of_it_is_checked_first() {
    let params = |member: &str, value: &Value| {
        let params = json!({member: value});
        json!({"jsonrpc":"2.0","id":1,"method":"initialize","params":params}).to_string()
    };
    let bad = [
        ("clientInfo", json!(5)),
        ("clientInfo", json!([])),
        ("clientInfo", json!(["name", "1"])),
        ("clientInfo", json!({"name":5,"version":"1"})),
        ("clientInfo", json!({"name":"x","version":{}})),
        ("clientInfo", json!({"name":null,"version":"1"})),
        ("capabilities", json!("sampling")),
        ("capabilities", json!([])),
        ("protocolVersion", json!(20251125)),
    ];
    for (member, value) in bad {
        let mut bench = Bench::default();
        let a = bench.attach();
        bench.peer(a, &params(member, &value));
        let error = bench.told(a)["error"].clone();
        assert_eq!(error["code"], -32602, "{member}: {value}");
        let text = error["message"].as_str().unwrap();
        assert!(
            text.starts_with(&format!("Invalid params: {member} must be")),
            "{text}"
        );
        assert!(bench.child_heard(0).is_empty());
        assert_eq!(bench.router.pending_requests(a), 0);
    }
    let good = [
        ("clientInfo", json!({})),
        ("clientInfo", json!({"name":"x"})),
        (
            "clientInfo",
            json!({"name":"x","version":"1","icons":7,"Title":null}),
        ),
        ("clientInfo", json!(null)),
        ("capabilities", json!({"sampling":5,"experimental":[]})),
        ("capabilities", json!(null)),
        ("protocolVersion", json!("1")),
        ("protocolVersion", json!(null)),
        ("other", json!(5)),
    ];
    for (member, value) in good {
        let mut bench = Bench::default();
        let a = bench.attach();
        bench.peer(a, &params(member, &value));
        let heard = bench.child_heard(0);
        assert_eq!(heard.len(), 1, "{member}: {value}");
        let client = &heard[0]["params"]["clientInfo"];
        let quoted = member == "clientInfo" && !value.is_null();
        assert_eq!(*client == value, quoted, "{client}");
        accept(&mut bench, &heard[0]["id"]);
        assert!(bench.told(a)["result"].is_object());
    }
}

/// Each waiting one is kept, and what is kept is counted.
#[test]
fn a_long_client_info_is_not_quoted() {
    let mut bench = Bench::default();
    let (a, b) = (bench.attach(), bench.attach());
    bench.peer(
        a,
        &initialize(
            1,
            json!({"name":"x","version":"1","icons":"x".repeat(64 * 1024)}),
        ),
    );
    let (id, name) = asked(&mut bench);
    assert_eq!((&*name, bench.router.held(ProcessId(0))), ("mcp-remote", 0));
    bench.peer(
        b,
        &initialize(
            1,
            json!({"name":"x","version":"1","icons":"x".repeat(60 * 1024)}),
        ),
    );
    assert!(bench.router.held(ProcessId(0)) > 60 * 1024);
    accept(&mut bench, &id);
    assert_eq!(bench.router.held(ProcessId(0)), 0);
    assert_eq!(bench.peers_heard().len(), 2);
}

fn version_asked(bench: &mut Bench) -> (Value, String) {
    let heard = bench.child_heard(0).remove(0);
    let version = heard["params"]["protocolVersion"].as_str().unwrap();
    (heard["id"].clone(), version.to_owned())
}

/// Some servers refuse an unknown version instead of answering with one they support.
#[test]
fn a_version_that_is_refused_is_followed_by_others() {
    let mut bench = Bench::default();
    let [a, b] = std::array::from_fn(|_| bench.attach());
    for peer in [a, b] {
        bench.peer(peer, r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2024-11-05","clientInfo":{"name":"a","version":"1"}}}"#);
    }
    let refuse = |bench: &mut Bench, id: &Value, data: Value| {
        let error = json!({"code":-32602,"message":"Unsupported protocol version","data":data});
        let line = json!({"jsonrpc":"2.0","id":id,"error":error});
        bench.child(0, &line.to_string());
    };
    let (id, version) = version_asked(&mut bench);
    assert_eq!(version, "2025-11-25");
    refuse(&mut bench, &id, json!({"supported":["2025-03-26"]}));
    let (id, version) = version_asked(&mut bench);
    assert_eq!(version, "2025-03-26");
    refuse(&mut bench, &id, json!(null));
    let (id, version) = version_asked(&mut bench);
    assert_eq!(version, "2024-11-05");
    assert!(bench.peers_heard().is_empty());
    let result = json!({"protocolVersion":"2024-11-05","capabilities":{}});
    bench.child(
        0,
        &json!({"jsonrpc":"2.0","id":id,"result":result}).to_string(),
    );
    assert_eq!(bench.peers_heard().len(), 2);
    assert_eq!(
        bench.child_heard(0)[0]["method"],
        "notifications/initialized"
    );
    // The next process gets that version first; one that supports a newer one gets the newest.
    bench.exit(0, true);
    bench.start(0);
    let (id, version) = version_asked(&mut bench);
    assert_eq!(version, "2024-11-05");
    refuse(&mut bench, &id, json!(null));
    assert_eq!(version_asked(&mut bench).1, "2025-11-25");
}

/// A waiting peer has waited long enough, whether or not another process follows.
#[test]
fn a_process_that_does_not_answer_in_time_is_an_error_for_all_who_wait() {
    let mut bench = Bench::default();
    assert_eq!(bench.router.awaited(ProcessId(0)), None);
    let [a, b, c] = std::array::from_fn(|_| bench.attach());
    bench.peer(a, &named(1, "a"));
    bench.peer(b, &named(1, "b"));
    bench.peer(c, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let (id, _) = asked(&mut bench);
    let awaited = bench.router.awaited(ProcessId(0));
    assert_eq!(awaited, Some((bench.number(&id), "initialize")));
    assert!(std::mem::take(&mut bench.out.asked)[0]);
    let exit = Exit {
        overdue: Some("initialize"),
        restarts: true,
        ..Exit::default()
    };
    bench
        .router
        .child_exited(ProcessId(0), &exit, &mut bench.out);
    let told = bench.peers_heard();
    assert_eq!(told.len(), 3);
    for (_, line) in told {
        assert_eq!(line["error"]["data"]["reason"], "handshake-timeout");
    }
    bench.start(0);
    let (id, _) = asked(&mut bench);
    assert!(std::mem::take(&mut bench.out.asked)[0]);
    accept(&mut bench, &id);
    assert_eq!(bench.router.awaited(ProcessId(0)), None);
    assert!(bench.peers_heard().is_empty());
}

/// Bug: what was held for the end of a handshake was sent to a process that had closed its stdin meanwhile, and was lost.
#[test]
fn what_is_held_is_not_sent_to_a_process_that_does_not_read() {
    let mut bench = Bench::default();
    let peer = bench.attach();
    let subscribe =
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"x:y"}}"#;
    bench.peer(peer, subscribe);
    let initialize = bench.child_heard(0).remove(0);
    assert_eq!(initialize["method"], "initialize");
    bench.router.stopped_reading(ProcessId::FIRST);
    bench.done(&initialize["id"]);
    let heard = bench.child_heard(0);
    let is_lost = |line: &Value| line["method"] == "resources/subscribe";
    assert!(!heard.iter().any(is_lost), "{heard:?}");
    bench.exit(0, true);
    assert_eq!(bench.told(peer)["error"]["data"]["executed"], "no");
}
