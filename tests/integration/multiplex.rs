//! Many peers on one child: each gets exactly its own responses.

use crate::common::{BOTH, Setup, TestServer, request};
use crate::metrics;
use crate::process::eventually;
use crate::wire::TestPeer;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::thread;

const CANCELLED: &str = "notifications/cancelled";

fn cancel(id: &Value) -> String {
    let params = json!({"requestId": id, "reason": "changed my mind"});
    json!({"jsonrpc": "2.0", "method": CANCELLED, "params": params}).to_string()
}

/// The id by which the child knows the request with this method.
fn id_at_child(server: &TestServer, method: &str) -> Value {
    let line = server.wait_seen(&format!("\"{method}\""));
    serde_json::from_str::<Value>(&line).unwrap()["id"].take()
}

fn cancelled_at_child(server: &TestServer) -> Vec<Value> {
    let seen = server.seen();
    let messages = seen
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let cancelled = messages.filter(|message| message["method"] == CANCELLED);
    cancelled
        .map(|mut message| message["params"]["requestId"].take())
        .collect()
}

#[test]
fn ids_come_back_as_they_were() {
    let ids = [
        "0",
        r#""""#,
        r#""0""#,
        "1",
        r#""1""#,
        "-1",
        "-0",
        "1.50",
        "9007199254740991",
        "-9007199254740991",
        "18446744073709551616",
        r#""☃ é""#,
        r#""\"\\/ mcp-remote/replay-1""#,
        &format!("{:?}", "x".repeat(1024)),
    ];
    for transport in BOTH {
        let server = TestServer::start(transport);
        let mut peers = [server.peer(), server.peer()];
        for (id, peer) in ids.iter().flat_map(|id| [(id, 0), (id, 1)]) {
            let peer = &mut peers[peer];
            peer.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x"}}"#));
            let line = peer.next_line().unwrap();
            let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#);
            assert!(line.starts_with(&head), "{id}: {line}");
        }
        let escaped = r#""\n\u0041\/""#;
        peers[0].send(&format!(
            r#"{{"jsonrpc":"2.0","id":{escaped},"method":"x"}}"#
        ));
        assert_eq!(peers[0].next()["id"], "\nA/");
    }
}

#[test]
fn an_id_in_flight_is_not_taken_twice() {
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    for (id, other) in [
        (json!(1), json!("1")),
        (json!("a"), json!("A")),
        (json!(0), json!("")),
    ] {
        peer.send(&request(id.clone(), "first", json!({"delayMs": 200})));
        let answer = peer.ask(id.clone(), "second", json!({}));
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&id, &json!(-32600)),
            "{answer}"
        );
        // With another type, it is another id; and another peer's ids are its own.
        let answer = peer.ask(other.clone(), "third", json!({}));
        assert_eq!(
            (&answer["id"], &answer["result"]["method"]),
            (&other, &json!("third"))
        );
        let answer = server.peer().ask(id.clone(), "fourth", json!({}));
        assert_eq!(
            (&answer["id"], &answer["result"]["method"]),
            (&id, &json!("fourth"))
        );
        assert_eq!(peer.next()["result"]["method"], "first");
        // Once it has its response, it is free.
        assert_eq!(
            peer.ask(id, "fifth", json!({}))["result"]["method"],
            "fifth"
        );
    }
    assert!(!server.seen().contains("second"));
}

/// Five peers, the same ids, random delays, progress with the same tokens.
#[test]
fn answers_are_never_mixed() {
    const REQUESTS: u64 = 120;
    for transport in BOTH {
        let server = TestServer::start(transport);
        let peers: Vec<TestPeer> = (0..5).map(|_| server.peer()).collect();
        let threads = peers.into_iter().enumerate().map(|(name, mut peer)| {
            thread::spawn(move || {
                let mut random = name as u64 + 1;
                for id in 0..REQUESTS {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let meta = json!({"progressToken": id});
                    let params = json!({"peer": name, "id": id, "delayMs": random >> 58, "progress": 2, "_meta": meta});
                    peer.send(&request(id, "x", params));
                }
                let mut progress: HashMap<u64, u64> = HashMap::new();
                let mut answered = 0;
                while answered < REQUESTS {
                    let message = peer.next();
                    if message["method"] == "notifications/progress" {
                        let token = message["params"]["progressToken"].as_u64().unwrap();
                        *progress.entry(token).or_default() += 1;
                        continue;
                    }
                    let params = &message["result"]["params"];
                    assert_eq!((&params["peer"], &params["id"]), (&json!(name), &message["id"]));
                    assert_eq!(progress.remove(&message["id"].as_u64().unwrap()), Some(2), "{message}");
                    answered += 1;
                }
                assert!(progress.is_empty(), "{progress:?}");
            })
        });
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        // Every request had its own id at the child.
        let seen = server.seen();
        let mut ids: Vec<Value> = seen
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].take())
            .filter(|id| !id.is_null())
            .collect();
        let count = ids.len();
        ids.sort_by_key(Value::as_i64);
        ids.dedup();
        assert_eq!((ids.len(), count), (count, 5 * REQUESTS as usize + 1));
    }
}

/// Some servers print to stdout what a user has written. The ids of requests were 1, 2, 3 …, so that it could be the
/// answer to another user's request.
#[test]
fn the_answer_to_anothers_request_cannot_be_guessed() {
    for transport in BOTH {
        let measured = Setup::new(transport).args(&["--metrics", "127.0.0.1:0"]);
        let server = measured.start();
        let metrics = server.next_listener().parse().unwrap();
        let (mut victim, mut attacker) = (server.peer(), server.peer());
        victim.send(&request(
            "v",
            "tools/call",
            json!({"silent": true, "of": "victim"}),
        ));
        let hidden = id_at_child(&server, "victim");
        // Even of the ids next to one that the attacker has learned.
        attacker.send(&request(
            "a",
            "tools/call",
            json!({"silent": true, "of": "attacker"}),
        ));
        let own = id_at_child(&server, "attacker").as_i64().unwrap();
        let guessed = (0..1000).chain(own - 1000..own + 1000);
        let guessed = guessed.filter(|id| *id != own && *id != hidden);
        let answer = |id: i64| json!({"jsonrpc": "2.0", "id": id, "result": "forged"}).to_string();
        let forged: Vec<String> = guessed.map(answer).collect();
        for between in ["\n", " "] {
            let text = format!("Searching for: {}\n", forged.join(between));
            let printed = attacker.ask("p", "tools/call", json!({"print": text, "raw": "{}"}));
            assert_eq!(printed["id"], "p");
        }
        let answered = format!(
            "{}\n",
            json!({"jsonrpc": "2.0", "id": hidden, "result": "true"})
        );
        attacker.send(&request(
            "q",
            "tools/call",
            json!({"print": answered, "silent": true}),
        ));
        assert_eq!(victim.next()["result"], "true", "the first that it gets");
        // Nearly all guesses stand for nothing: they are counted, and few of them logged.
        let text = metrics::get(metrics, "/metrics");
        let guesses = metrics::value(&text, "mcp_remote_unasked_answers_total");
        assert!((3000.0..=3015.0).contains(&guesses), "{guesses}");
        let warned = server
            .log
            .text()
            .matches("under an id that it was not given")
            .count();
        assert_eq!(warned, 4);
    }
}

#[test]
fn progress_comes_under_the_peers_own_token() {
    let server = TestServer::start("tcp");
    let mut peers = [server.peer(), server.peer()];
    for token in [
        json!(0),
        json!("0"),
        json!(""),
        json!("☃"),
        json!(-9_007_199_254_740_991_i64),
    ] {
        for peer in &mut peers {
            let meta = json!({"progressToken": token, "other": ["kept", {}]});
            peer.send(&request("same", "x", json!({"progress": 3, "_meta": meta})));
            for at in 0..3 {
                let message = peer.next();
                assert_eq!(
                    message["params"],
                    json!({"progressToken": token, "progress": at})
                );
            }
            let answer = peer.next();
            assert_eq!(
                answer["result"]["params"]["_meta"]["other"],
                json!(["kept", {}])
            );
        }
    }
    // Without a token no progress comes, whatever the child sends.
    let forged = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;
    let answer = peers[0].ask(
        "last",
        "x",
        json!({"print": format!("{forged}\n"), "progress": 1}),
    );
    assert_eq!(answer["id"], "last");
}

#[test]
fn a_peer_cancels_its_own_requests_and_no_others() {
    for transport in BOTH {
        let server = TestServer::start(transport);
        let (mut alice, mut bob) = (server.peer(), server.peer());
        let ids = [json!(0), json!("0")];
        alice.send(&request(
            ids[0].clone(),
            "of-alice",
            json!({"silent": true}),
        ));
        bob.send(&request(ids[1].clone(), "of-bob", json!({"silent": true})));
        let of_alice = id_at_child(&server, "of-alice");
        let of_bob = id_at_child(&server, "of-bob");
        // Not theirs, not existing, or not an id.
        for bad in [
            &ids[1],
            &of_bob,
            &json!(77),
            &json!(null),
            &json!(1.5),
            &json!({}),
        ] {
            alice.send(&cancel(bad));
        }
        alice.send(&cancel(&ids[0]));
        alice.send(&cancel(&ids[0]));
        let line = server.wait_seen(CANCELLED);
        assert_eq!(
            line,
            format!(
                "{{\"jsonrpc\":\"2.0\",\"method\":\"{CANCELLED}\",\"params\":{{\"reason\":\"changed my mind\",\"requestId\":{of_alice}}}}}\n"
            )
        );
        assert_eq!(alice.ask("after", "ping", json!({}))["id"], "after");
        assert_eq!(cancelled_at_child(&server), [of_alice]);
        // A cancelled id may be reused.
        assert_eq!(
            alice.ask(ids[0].clone(), "again", json!({}))["result"]["method"],
            "again"
        );
    }
}

#[test]
fn what_a_leaving_peer_asked_is_cancelled() {
    for transport in BOTH {
        let server = TestServer::start(transport);
        let mut peer = server.peer();
        peer.send(&request(1, "answered", json!({})));
        peer.next();
        peer.send(&request(1, "one", json!({"silent": true})));
        peer.send(&request("1", "two", json!({"delayMs": 1500})));
        let mut ids = [id_at_child(&server, "one"), id_at_child(&server, "two")];
        peer.reset();
        let mut cancelled = eventually("both are cancelled", || {
            let cancelled = cancelled_at_child(&server);
            (cancelled.len() == 2).then_some(cancelled)
        });
        ids.sort_by_key(Value::as_i64);
        cancelled.sort_by_key(Value::as_i64);
        assert_eq!(cancelled, ids);
        // The late response to "two" reaches no peer.
        let answer = server.peer().ask("1", "three", json!({"delayMs": 800}));
        assert_eq!(answer["result"]["method"], "three");
    }
}

#[test]
fn the_first_initialize_serves_all() {
    for transport in BOTH {
        let server = TestServer::start(transport);
        let mut results: Vec<Value> = (0..4)
            .map(|_| server.peer().initialize()["result"].take())
            .collect();
        assert_eq!(results[0]["serverInfo"]["name"], "echo");
        results.dedup();
        assert_eq!(results.len(), 1, "{results:?}");
        assert_eq!(server.peer().ask(0, "ping", json!({}))["id"], 0);
        let seen = server.seen();
        for method in ["\"initialize\"", "\"notifications/initialized\""] {
            assert_eq!(seen.matches(method).count(), 1, "{method}: {seen}");
        }
    }
}

#[test]
fn everyone_who_comes_during_the_handshake_is_served_by_it() {
    let server = Setup::new("tcp")
        .echo(&["--initialize-delay", "400"])
        .start();
    let mut peers: Vec<TestPeer> = (0..3).map(|_| server.peer()).collect();
    let initialize = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    for (id, peer) in peers.iter_mut().enumerate() {
        peer.send(&request(id, "initialize", initialize.clone()));
        peer.send(&request("early", "early", json!({})));
    }
    // One without a handshake of its own.
    assert_eq!(
        server.peer().ask("bare", "bare", json!({}))["result"]["method"],
        "bare"
    );
    for (id, peer) in peers.iter_mut().enumerate() {
        let answer = peer.next();
        assert_eq!(
            (&answer["id"], &answer["result"]["protocolVersion"]),
            (&json!(id), &json!("2025-06-18"))
        );
        assert_eq!(peer.next()["id"], "early");
    }
    let seen = server.seen();
    let methods: Vec<String> = seen
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["method"].to_string())
        .collect();
    assert_eq!(
        methods[..2],
        ["\"initialize\"", "\"notifications/initialized\""],
        "{seen}"
    );
    assert_eq!(methods.len(), 6, "{seen}");
}

#[test]
fn news_of_the_child_reach_those_who_said_hello() {
    let server = TestServer::start("tcp");
    let mut peers = [server.peer(), server.peer()];
    peers.iter_mut().for_each(|peer| drop(peer.initialize()));
    let mut stranger = server.peer();
    peers[0].send(&request(
        1,
        "x",
        json!({"notify": "notifications/tools/list_changed"}),
    ));
    for peer in &mut peers {
        assert_eq!(peer.next()["method"], "notifications/tools/list_changed");
    }
    assert_eq!(peers[0].next()["id"], 1);
    assert_eq!(stranger.ask(2, "ping", json!({}))["id"], 2);
}

/// Both eras at the same time: each has a process of its own.
#[test]
fn legacy_and_modern_peers_do_not_share_a_process() {
    let server = Setup::new("tcp").echo(&["--modern"]).start();
    let mut legacy = server.peer();
    legacy.initialize();
    let mut modern = server.peer();
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    let pid = |answer: Value| answer["result"]["pid"].as_u64().unwrap();
    let old = pid(legacy.ask(1, "tools/list", json!({})));
    let new = pid(modern.ask(1, "tools/list", json!({"_meta": meta})));
    assert_ne!(old, new);
    assert_eq!(pid(legacy.ask(2, "tools/list", json!({}))), old);
    assert_eq!(
        pid(server.peer().ask(1, "tools/list", json!({"_meta": meta}))),
        new
    );
}

#[test]
fn a_probe_of_a_legacy_server_leaves_no_second_process() {
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    for id in 0..3 {
        let answer = peer.ask(id, "server/discover", json!({}));
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!(id), &json!(-32601))
        );
    }
    let answer = peer.ask("x", "initialize", json!({"protocolVersion": "2025-11-25"}));
    assert_eq!(answer["result"]["serverInfo"]["name"], "echo");
    let seen = server.seen();
    assert_eq!(seen.matches("server/discover").count(), 1, "{seen}");
    server.log.wait_for_times("MCP server started", 1);
}

#[test]
fn an_unknown_log_level_is_refused_and_changes_nobodys_log() {
    for transport in BOTH {
        for isolate in ["--isolate=never", "--isolate=always"] {
            let server = Setup::new(transport).args(&[isolate]).start();
            let mut peers = [server.peer(), server.peer()];
            for peer in &mut peers {
                peer.initialize();
            }
            for level in [json!("loud"), json!("DEBUG"), json!(0), json!(null)] {
                let answer = peers[0].ask("x", "logging/setLevel", json!({"level": level}));
                let error = (&answer["id"], &answer["error"]["code"]);
                assert_eq!(error, (&json!("x"), &json!(-32602)), "{level}: {answer}");
            }
            let answer = peers[1].ask(1, "logging/setLevel", json!({"level": "debug"}));
            assert!(answer["result"].is_object(), "{answer}");
            let seen = server.seen();
            assert_eq!(seen.matches("logging/setLevel").count(), 1, "{seen}");
        }
    }
}
