//! `--isolate`: which peers share a process of the MCP server, and which have their own.

use crate::common::{BOTH, Setup, TestClient, TestServer, now, request, token};
use crate::process::eventually;
use crate::questions::{ELICIT, able, login, next_message};
use crate::wire::TestPeer;
use serde_json::{Value, json};

/// The process that serves this peer.
fn pid(peer: &mut TestPeer) -> u64 {
    peer.send(&request("pid", "x", json!({})));
    let answer = next_message(peer);
    answer["result"]["pid"]
        .as_u64()
        .unwrap_or_else(|| panic!("{answer}"))
}

fn poor(server: &TestServer, user: &str) -> TestPeer {
    let mut peer = login(server, user);
    peer.initialize();
    peer
}

fn modern(server: &TestServer, user: &str) -> TestPeer {
    let mut peer = login(server, user);
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    let answer = peer.ask(1, "server/discover", json!({"_meta": meta}));
    assert_eq!(answer["id"], 1);
    peer
}

/// Two clients that get questions at the same time, each while the other's call is in flight.
fn elicit_at_once(peers: &mut [TestPeer; 2]) {
    for peer in &mut *peers {
        let params = json!({"ask": ELICIT, "delayMs": 300});
        peer.send(&request("call", "tools/call", params));
    }
    for (at, peer) in peers.iter_mut().enumerate() {
        let question = next_message(peer);
        assert_eq!(question["method"], ELICIT, "{question}");
        let result = json!({"action": "accept", "content": {"n": at}});
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": result});
        peer.send(&answer.to_string());
        assert_eq!(next_message(peer)["id"], "call");
    }
}

#[test]
fn with_asking_those_who_can_be_asked_are_alone_and_the_others_share() {
    for transport in BOTH {
        let setup = Setup::new(transport).secret().echo(&["--modern"]);
        let server = setup.args(&["--isolate=asking"]).start();
        let mut asked = [able(&server, "a"), able(&server, "b")];
        elicit_at_once(&mut asked);
        let alone = asked.each_mut().map(pid);
        let mut shared = [poor(&server, "c"), poor(&server, "d")];
        let shared = shared.each_mut().map(pid);
        assert_eq!(shared[0], shared[1]);
        assert!(alone[0] != alone[1] && !alone.contains(&shared[0]));
        let mut moderns = [modern(&server, "e"), modern(&server, "f")];
        let moderns = moderns.each_mut().map(|peer| {
            let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
            peer.ask("pid", "x", json!({"_meta": meta}))["result"]["pid"].clone()
        });
        assert!(moderns[0].is_u64() && moderns[0] == moderns[1]);
        drop(asked);
        eventually("their processes end", || {
            let log = server.log.text();
            (log.matches("MCP server ended").count() == 2).then_some(())
        });
        server.stop();
    }
}

/// Client SDKs try the newer era first, and declare their capabilities only then.
#[test]
fn a_client_that_has_shared_is_given_a_process_when_it_says_that_it_can_be_asked() {
    let server = Setup::new("tcp")
        .secret()
        .args(&["--isolate=asking"])
        .start();
    let mut shared = poor(&server, "a");
    let mut peer = login(&server, "b");
    let session = peer.resume(&Value::Null, 0)["params"]["session"].clone();
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    peer.send(&request(0, "server/discover", json!({"_meta": meta})));
    assert_eq!(next_message(&mut peer)["error"]["code"], -32601);
    // Pending responses from the shared process still arrive.
    peer.send(&request(1, "x", json!({"silent": true})));
    server.wait_seen("silent");
    peer.send(&request(
        2,
        "initialize",
        json!({
            "protocolVersion": "2025-11-25", "capabilities": {"roots": {}},
            "clientInfo": {"name": "test", "version": "1"},
        }),
    ));
    let moved = next_message(&mut peer);
    assert_eq!(
        (&moved["id"], &moved["error"]["data"]["reason"]),
        (&json!(1), &json!("session-moved"))
    );
    let initialized = next_message(&mut peer);
    // Its process receives it unchanged.
    assert_eq!(
        initialized["result"]["params"]["capabilities"],
        json!({"roots": {}})
    );
    let own = pid(&mut peer);
    assert_ne!(own, pid(&mut shared));
    // A session stays with its process.
    drop(peer);
    let mut peer = login(&server, "b");
    assert_eq!(peer.resume(&session, 4)["params"]["resumed"], true);
    assert_eq!(pid(&mut peer), own);
}

#[test]
fn there_are_only_so_many_processes_for_those_who_can_be_asked() {
    for transport in BOTH {
        let args = ["--isolate=asking", "--max-children", "1"];
        let server = Setup::new(transport).secret().args(&args).start();
        let first = able(&server, "a");
        let mut second = login(&server, "b");
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"sampling": {}}});
        let refusal = second.ask("hello", "initialize", params);
        assert_eq!(
            refusal,
            json!({"jsonrpc": "2.0", "id": "hello", "error": {"code": -32603, "message": "Too many MCP servers",
                "data": {"source": "mcp-remote", "reason": "too-many-children", "executed": "no"}}})
        );
        // A peer that does not need its own process is served.
        poor(&server, "c");
        drop(first);
        server.log.wait_for("MCP server ended");
        eventually("there is room again", || {
            let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"sampling": {}}});
            let answer = second.ask("again", "initialize", params);
            answer["result"].is_object().then_some(())
        });
    }
}

#[test]
fn the_environment_says_it_too() {
    for (value, alone) in [
        ("true", true),
        ("1", true),
        ("always", true),
        ("asking", false),
        ("never", false),
        ("false", false),
        ("", false),
    ] {
        let server = Setup::new("tcp")
            .secret()
            .env("MCP_REMOTE_ISOLATE", value)
            .start();
        let mut peers = [poor(&server, "a"), poor(&server, "b")];
        let pids = peers.each_mut().map(pid);
        assert_eq!(pids[0] != pids[1], alone, "{value:?}");
    }
    let wrong = Setup::new("tcp")
        .env("MCP_REMOTE_ISOLATE", "sometimes")
        .run();
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.stderr.contains("always, asking or never"),
        "{}",
        wrong.stderr
    );
}

/// A client whose server has gone makes a new session, for which the choice is made again.
#[test]
fn a_client_that_makes_a_new_session_has_a_process_of_its_own_again() {
    for transport in BOTH {
        let args = ["--isolate=asking", "--resume-window", "1s"];
        let server = Setup::new(transport).secret().args(&args).start();
        let claims = json!({"user": "a", "exp": now() + 3600});
        let flags = ["--auto-reconnect", "--reconnect-delay", "100"];
        let mut client = TestClient::start(transport, server.port, &flags, Some(&token(&claims)));
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}});
        client.ask("hello", "initialize", params);
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        let mut other = able(&server, "b");
        other.send(&request(1, "x", json!({"silent": true})));
        for round in ["first", "second"] {
            client.send(&request(round, "tools/call", json!({"ask": ELICIT})));
            let question = client.next();
            assert_eq!(question["method"], ELICIT, "{question}");
            let id = &question["id"];
            client.send(&json!({"jsonrpc": "2.0", "id": id, "result": {}}).to_string());
            assert_eq!(client.next()["id"], round);
            if round == "first" {
                let ended = client.ask("exit", "tools/call", json!({"exit": 1}));
                assert_eq!(ended["error"]["code"], -32603, "{ended}");
            }
        }
        client.close_stdin();
        assert_eq!(client.wait(), Some(0));
    }
}
