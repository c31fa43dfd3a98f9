//! Calls of pinned tools, and the tool lists of their process.

use super::*;
use crate::permissions::{PinnedTools, Pins};
use crate::router::ToolsKnown;
use std::sync::Arc;

const LIST_CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

fn rights() -> Rights {
    let tool = json!({"name": "t", "description": "good"});
    let pinned = PinnedTools::of([("t", &tool)]);
    let pins = Pins::new(pinned, Arc::new(|_, _| {}));
    Rights::everything().pinned(Some(pins.into()))
}

fn call(id: u32) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "t"}}).to_string()
}

impl Bench {
    fn learn(&mut self, from: SessionId, rights: &Rights) -> ToolsKnown {
        let message = Message::read(call(0).into(), MAX_PEER_DEPTH).unwrap();
        let call = rights.pinned_call(&message).unwrap();
        let Self { router, out, clock } = self;
        router.learn_tools(from, (&message, &call), clock.0, out)
    }

    fn call_pinned(&mut self, from: SessionId, rights: &Rights, id: u32) {
        let message = Message::read(call(id).into(), MAX_PEER_DEPTH).unwrap();
        let permit = rights.decide(message).unwrap();
        let sent = self.router.peer_message(from, &permit, &mut self.out);
        assert_eq!(sent, Ok(()));
    }

    /// The methods and ids of what the process has been sent.
    fn methods_asked(&mut self) -> Vec<(String, Value)> {
        let lines = self.child_heard(0).into_iter();
        let asked = |line: Value| {
            (
                line["method"].as_str().unwrap().to_owned(),
                line["id"].clone(),
            )
        };
        lines.map(asked).collect()
    }

    /// The process, which has only been asked for its tools, responds with the complete list.
    fn lists(&mut self, description: &str) {
        let asked = self.methods_asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!(asked[0].0, "tools/list");
        let tools = json!([{"name": "t", "description": description}]);
        let answer = json!({"jsonrpc": "2.0", "id": asked[0].1, "result": {"tools": tools}});
        self.child(0, &answer.to_string());
    }
}

#[test]
fn the_list_is_read_again_where_it_changes_meanwhile_but_not_for_ever() {
    let (mut bench, rights) = (Bench::default(), rights());
    let peer = bench.legacy("{}");
    let asked = ToolsKnown::Asked { failures: 0 };
    assert_eq!(bench.learn(peer, &rights), asked);
    for _ in 0..4 {
        bench.child(0, LIST_CHANGED);
        bench.lists("good");
        assert_eq!(bench.learn(peer, &rights), asked);
        assert!(!std::mem::take(&mut bench.out.learned));
    }
    bench.child(0, LIST_CHANGED);
    bench.lists("good");
    assert!(std::mem::take(&mut bench.out.learned));
    assert_eq!(bench.learn(peer, &rights), ToolsKnown::Yes);
}

/// Another process may list something else: one of another user, for example.
#[test]
fn each_process_answers_for_its_own_tools() {
    let rights = rights();
    let [mut evil, mut good] = [Bench::default(), Bench::default()];
    let peers = [evil.legacy("{}"), good.legacy("{}")];
    evil.learn(peers[0], &rights);
    good.learn(peers[1], &rights);
    evil.lists("evil");
    good.lists("good");
    evil.call_pinned(peers[0], &rights, 1);
    assert!(std::mem::take(&mut evil.out.withheld));
    assert_eq!(evil.methods_asked(), []);
    good.call_pinned(peers[1], &rights, 1);
    assert!(!good.out.withheld);
    assert_eq!(good.methods_asked()[0].0, "tools/call");
    // A reloaded file counts as a new one.
    let renewed = self::rights();
    good.call_pinned(peers[1], &renewed, 2);
    assert_eq!(
        good.told(peers[1])["error"]["data"]["reason"],
        "tools-unknown"
    );
    assert_eq!(
        good.learn(peers[1], &renewed),
        ToolsKnown::Asked { failures: 0 }
    );
}

#[test]
fn an_old_list_counts_until_there_is_another() {
    let (mut bench, rights) = (Bench::default(), rights());
    let peer = bench.legacy("{}");
    bench.learn(peer, &rights);
    bench.lists("good");
    bench.clock.0 += Duration::from_secs(59);
    assert_eq!(bench.learn(peer, &rights), ToolsKnown::Yes);
    assert_eq!(bench.methods_asked(), []);
    bench.clock.0 += Duration::from_secs(1);
    assert_eq!(bench.learn(peer, &rights), ToolsKnown::Yes);
    bench.call_pinned(peer, &rights, 1);
    let asked = bench.methods_asked();
    let methods: Vec<&str> = asked.iter().map(|(method, _)| method.as_str()).collect();
    assert_eq!(methods, ["tools/list", "tools/call"]);
    // Its response is unusable: from here on nothing is known.
    let answer = json!({"jsonrpc": "2.0", "id": asked[0].1, "result": {"tools": 1}});
    bench.child(0, &answer.to_string());
    let failed = ToolsKnown::Asked { failures: 1 };
    assert_eq!(bench.learn(peer, &rights), failed);
    bench.call_pinned(peer, &rights, 2);
    assert_eq!(bench.told(peer)["error"]["data"]["executed"], "no");
    bench.lists("good");
    assert_eq!(bench.learn(peer, &rights), ToolsKnown::Yes);
}

/// A call that waits for its turn is checked against what is known at that time, also by the next process.
#[test]
fn calls_that_wait_are_judged_when_their_turn_comes() {
    for restart in [false, true] {
        let (mut bench, rights) = (Bench::with_places(1), rights());
        let peer = bench.legacy("{}");
        bench.learn(peer, &rights);
        bench.lists("good");
        (1..4).for_each(|id| bench.call_pinned(peer, &rights, id));
        let first = bench.methods_asked();
        assert_eq!(first.len(), 1);
        if restart {
            bench.exit(0, true);
            assert_eq!(bench.told(peer)["id"], 1);
            bench.start(0);
            let initialize = bench.child_heard(0).remove(0);
            let answer = json!({"jsonrpc": "2.0", "id": initialize["id"], "result": {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}});
            bench.child(0, &answer.to_string());
        } else {
            bench.child(0, LIST_CHANGED);
            let answer = json!({"jsonrpc": "2.0", "id": first[0].1, "result": {}});
            bench.child(0, &answer.to_string());
            let told = bench.peers_heard();
            assert_eq!(told.last().unwrap().1["id"], 1);
        }
        let asked = bench.methods_asked();
        assert!(
            asked.iter().all(|(method, _)| method != "tools/call"),
            "{asked:?}"
        );
        let told = bench.peers_heard();
        let told: Vec<_> = told
            .iter()
            .map(|(_, line)| (&line["id"], &line["error"]["data"]))
            .collect();
        let changed = json!({
            "source": "mcp-remote",
            "reason": "tools-unknown",
            "executed": "no",
            "retryAfterMs": 1000,
        });
        assert_eq!(told, [(&json!(2), &changed), (&json!(3), &changed)]);
        // Their places are free again.
        bench.learn(peer, &rights);
        bench.lists("good");
        bench.call_pinned(peer, &rights, 4);
        assert_eq!(bench.methods_asked()[0].0, "tools/call");
        assert_eq!(bench.router.pending_requests(peer), 1);
    }
}

/// A process is not asked before its handshake is done.
#[test]
fn nothing_is_asked_before_the_process_is_ready() {
    let (mut bench, rights) = (Bench::default(), rights());
    let peer = bench.attach();
    assert_eq!(bench.learn(peer, &rights), ToolsKnown::NotReady);
    let heard = bench.child_heard(0);
    assert_eq!(
        (heard.len(), &heard[0]["method"]),
        (1, &json!("initialize"))
    );
    bench.call_pinned(peer, &rights, 1);
    assert_eq!(bench.told(peer)["error"]["data"]["reason"], "tools-unknown");
    assert!(!bench.out.learned);
    let answer = json!({"jsonrpc": "2.0", "id": heard[0]["id"], "result": {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}});
    bench.child(0, &answer.to_string());
    assert!(std::mem::take(&mut bench.out.learned), "who waits is told");
    assert_eq!(bench.child_heard(0).len(), 1, "notifications/initialized");
    assert_eq!(
        bench.learn(peer, &rights),
        ToolsKnown::Asked { failures: 0 }
    );
    bench.lists("good");
    bench.call_pinned(peer, &rights, 2);
    assert_eq!(bench.methods_asked()[0].0, "tools/call");
}

/// Bug: a call that waited for the turn of its sender was sent although its tool had changed meanwhile.
#[test]
fn calls_that_wait_for_the_turn_of_their_sender_are_judged_then() {
    let (mut bench, rights) = (Bench::default(), rights());
    let (other, peer) = (bench.legacy_of("other"), bench.legacy_of("peer"));
    bench.take_turns();
    bench.learn(peer, &rights);
    bench.lists("good");
    for changes in [true, false] {
        let first = bench.call(other, 1);
        bench.call_pinned(peer, &rights, 1);
        assert_eq!(bench.methods_asked(), [], "it is the other one's turn");
        if changes {
            bench.child(0, LIST_CHANGED);
        }
        bench.peers_heard();
        bench.done(&first);
        let told = bench.peers_heard();
        let asked = bench.methods_asked();
        if changes {
            assert_eq!(asked, []);
            let refused = told.iter().find(|(to, _)| *to == peer).unwrap();
            assert_eq!(refused.1["error"]["data"]["reason"], "tools-unknown");
            assert_eq!(bench.router.pending_requests(peer), 0);
            bench.learn(peer, &rights);
            bench.lists("good");
        } else {
            assert_eq!(asked[0].0, "tools/call");
        }
    }
}

/// Bug: a call that came first, from a modern client, waited for a legacy server until `--start-timeout`.
#[test]
fn a_call_that_waits_for_the_probe_of_a_legacy_server_goes_on() {
    let (mut bench, rights) = (Bench::default(), rights());
    let peer = bench.attach();
    let line = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}});
    let message = Message::read(line.to_string().into(), MAX_PEER_DEPTH).unwrap();
    let call = rights.pinned_call(&message).unwrap();
    let learn = |bench: &mut Bench| {
        let Bench { router, out, clock } = bench;
        router.learn_tools(peer, (&message, &call), clock.0, out)
    };
    assert_eq!(learn(&mut bench), ToolsKnown::NotReady);
    let probe = bench.child_heard(0).remove(0);
    assert_eq!(probe["method"], "server/discover");
    let error = json!({"code": -32601, "message": "no"});
    let answer = json!({"jsonrpc": "2.0", "id": probe["id"], "error": error});
    bench.child(0, &answer.to_string());
    assert!(std::mem::take(&mut bench.out.learned), "who waits is told");
    assert_eq!(learn(&mut bench), ToolsKnown::NotReady);
    assert_eq!(bench.child_heard(0)[0]["method"], "initialize");
}
