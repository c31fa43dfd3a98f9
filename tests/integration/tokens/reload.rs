//! Secrets, revocations and policies that are reloaded while the server runs.

use super::*;

/// A server that reads revocations from the file `revoked`, which is empty.
fn with_revocations(transport: &'static str) -> (Files, TestServer) {
    let files = Files::new();
    let file = files.write("revoked", "");
    let server = Setup::new(transport)
        .secret()
        .args(&["--revoked", &file])
        .start();
    (files, server)
}

#[test]
fn revocations_are_reloaded_and_end_connections() {
    for transport in BOTH {
        let (files, server) = with_revocations(transport);
        let mut peers = [of("alice", "a1"), of("alice", "a2"), of("bob", "b1")]
            .map(|claims| server.peer_with(&token(&claims)));
        peers.iter_mut().for_each(assert_alive);
        files.write("revoked", "jti:a1\nuser:bob\n");
        server.reload();
        let [first, second, bob] = &mut peers;
        assert_ended(first);
        assert_ended(bob);
        assert_alive(second);
        assert_refused(&server, &token(&of("alice", "a1")));
        server.log.wait_for("disconnected reason=\"token revoked\"");

        // A broken file keeps the old state.
        for broken in ["a2\nusr:alice\n", "\u{fffd}:"] {
            files.write("revoked", broken);
            server.reload();
            assert_alive(second);
            assert_refused(&server, &token(&of("bob", "b2")));
        }
        std::fs::remove_file(files.path("revoked")).unwrap();
        server.reload();
        assert_refused(&server, &token(&of("bob", "b2")));
        let log = server.log.text();
        let file = files.path("revoked").display().to_string();
        for says in [
            format!(
                "reload failed, keeping the previous version: the revocations in '{file}' are not valid: line 2:"
            ),
            format!(
                "reload failed, keeping the previous version: could not read the revocations in '{file}'"
            ),
            "reloaded secrets=1 revoked=2 broken=1".to_owned(),
        ] {
            assert!(log.contains(&says), "{says}: {log}");
        }

        files.write("revoked", "a1\n");
        server.reload();
        server.assert_serving_with(&token(&of("bob", "b2")));
        assert_alive(second);
    }
}

#[test]
fn secrets_are_reloaded_and_end_connections() {
    for transport in BOTH {
        let files = Files::new();
        let file = files.write("secrets", OLD);
        let server = Setup::new(transport)
            .args(&["--jwt-secret-file", &file])
            .start();
        let mut first = server.peer_with(&signed(&of("alice", "a1"), OLD));
        files.write("secrets", &format!("{NEW}\n{OLD}\n"));
        server.reload();
        assert_alive(&mut first);
        let mut second = server.peer_with(&signed(&of("alice", "a2"), NEW));
        // A broken file keeps the old state.
        files.write("secrets", "\n \n");
        server.reload();
        assert_alive(&mut first);
        server.log.wait_for(&format!(
            "reload failed, keeping the previous version: the JWT secret from {file} is empty"
        ));
        files.write("secrets", NEW);
        server.reload();
        assert_ended(&mut first);
        assert_alive(&mut second);
        assert_refused(&server, &signed(&of("alice", "a1"), OLD));
        let log = server.stop();
        assert!(!log.contains(OLD) && !log.contains(NEW), "{log}");
    }
}

/// What users may do; admins may do everything.
fn policy(allowed: &[&str], blocked: &[&str]) -> String {
    let user = json!({"allowedMethods": allowed, "blockedMethods": blocked});
    json!({"permissions": {"user": user, "admin": {"allowedMethods": ["*"]}}}).to_string()
}

/// A server with a policy of its own, and a peer with a session.
fn with_policy(transport: &'static str, files: &Files, text: &str) -> (TestServer, TestPeer) {
    let file = files.write("policy.json", text);
    let setup = Setup::new(transport)
        .secret()
        .args(&["--permissions-config", &file]);
    let server = setup.start();
    let mut peer = server.peer_with(&token(&of("alice", "a1")));
    peer.initialize();
    (server, peer)
}

#[test]
fn the_policy_is_reloaded_and_holds_for_the_next_message() {
    for transport in BOTH {
        let files = Files::new();
        let all = policy(&["*"], &[]);
        let (server, mut peer) = with_policy(transport, &files, &all);
        let allowed = |peer: &mut TestPeer| {
            let answer = peer.ask(1, "tools/call", json!({"name": "x"}));
            answer["result"].is_object()
        };
        assert!(allowed(&mut peer));
        files.write("policy.json", &policy(&["*"], &["tools/call"]));
        server.reload();
        assert!(!allowed(&mut peer));
        // A broken file keeps the old state.
        for broken in ["{", r#"{"permissions": {"user": {"allowedMethods": "*"}}}"#] {
            files.write("policy.json", broken);
            server.reload();
            assert!(!allowed(&mut peer));
        }
        let file = files.path("policy.json").display().to_string();
        for says in [
            "is not valid: not JSON",
            "is not valid: role 'user', key 'allowedMethods'",
        ] {
            let line = server.log.wait_for(says);
            assert!(line.contains(&file) && line.contains("ERROR"), "{line}");
        }
        files.write("policy.json", &all);
        server.reload();
        assert!(allowed(&mut peer));
        files.write("policy.json", r#"{"permissions": {}}"#);
        server.reload();
        assert!(!allowed(&mut peer));
        let answer = peer.ask(2, "ping", json!({}));
        assert_eq!(answer["error"]["code"], -32601, "{answer}");
    }
}

/// Bug: a session without a connection kept its rights, and after its return received
/// what it may no longer see.
#[test]
fn a_session_that_waits_is_held_to_the_reloaded_policy() {
    for transport in BOTH {
        let files = Files::new();
        let rules = |allowed: &str| {
            json!({"permissions": {"user": {"allowedMethods": ["*"], "allowedResources": [allowed]}}})
                .to_string()
        };
        let (server, mut other) = with_policy(transport, &files, &rules("note:///*"));
        let mut client = server.peer_with(&token(&of("alice", "a2")));
        let session = client.resume(&Value::Null, 0)["params"]["session"].clone();
        client.initialize();
        for (id, uri) in [(1, "note:///secret"), (2, "note:///public")] {
            let answer = client.ask(id, "resources/subscribe", json!({"uri": uri}));
            assert_eq!(answer["id"], id, "{answer}");
        }
        drop(client);
        server.log.wait_for("waiting for the client to come back");
        files.write("policy.json", &rules("note:///public"));
        server.reload();
        let updated = |uri: &str| json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}});
        let both = format!(
            "{}\n{}\n",
            updated("note:///secret"),
            updated("note:///public")
        );
        other.initialize();
        assert!(other.ask(3, "x", json!({"print": both}))["result"].is_object());
        let mut client = server.peer_with(&token(&of("alice", "a2")));
        let resumed = client.resume(&session, 3);
        assert_eq!(resumed["params"]["resumed"], true, "{resumed}");
        assert_eq!(client.next(), updated("note:///public"), "{transport}");
        assert_eq!(client.ask(4, "ping", json!({}))["id"], 4, "{transport}");
    }
}

/// A request in flight was allowed, and gets its response.
#[test]
fn a_reload_disturbs_nothing_in_flight() {
    let files = Files::new();
    let (server, mut peer) = with_policy("tcp", &files, &policy(&["*"], &[]));
    peer.send(&request(
        1,
        "tools/call",
        json!({"name": "x", "delayMs": 500}),
    ));
    server.wait_seen("delayMs");
    files.write("policy.json", &policy(&["*"], &["tools/call"]));
    server.reload();
    assert_eq!(peer.next()["result"]["method"], "tools/call");
}

#[test]
fn subscriptions_end_with_the_right_to_them() {
    let files = Files::new();
    let (server, mut peer) = with_policy("tcp", &files, &policy(&["*"], &[]));
    let mut other = server.peer_with(&token(&json!({"user": "root", "roles": ["admin"]})));
    other.initialize();
    for uri in ["file:///a", "file:///b"] {
        peer.ask(1, "resources/subscribe", json!({"uri": uri}));
    }
    other.ask(1, "resources/subscribe", json!({"uri": "file:///b"}));
    files.write("policy.json", &policy(&["*"], &["resources/subscribe"]));
    server.reload();
    let ended = server.wait_seen("resources/unsubscribe");
    assert!(ended.contains("file:///a"), "{ended}");
    // Another peer still has the other one.
    assert_alive(&mut peer);
    assert_eq!(server.seen().matches("resources/unsubscribe").count(), 1);
}

/// A modern subscription is one long request, so it ends with a response.
#[test]
fn listening_ends_with_the_right_to_it() {
    let files = Files::new();
    let file = files.write("policy.json", &policy(&["*"], &[]));
    let setup = Setup::new("tcp").secret().echo(&["--modern"]);
    let server = setup.args(&["--permissions-config", &file]).start();
    let mut peer = server.peer_with(&token(&of("alice", "a1")));
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    let params =
        json!({"_meta": meta, "notifications": {"toolsListChanged": true}, "silent": true});
    peer.send(&request("listening", "subscriptions/listen", params));
    server.wait_seen("subscriptions/listen");
    files.write("policy.json", &policy(&["*"], &["subscriptions/*"]));
    server.reload();
    let answer = peer.next();
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!("listening"), &json!(-32601))
    );
    server.wait_seen("notifications/cancelled");
}

#[test]
fn what_is_asked_of_peers_follows_the_policy() {
    let files = Files::new();
    for isolate in [false, true] {
        let file = files.write("policy.json", &policy(&["*"], &[]));
        let mut setup = Setup::new("tcp")
            .secret()
            .args(&["--permissions-config", &file]);
        if isolate {
            setup = setup.args(&["--isolate"]);
        }
        let server = setup.start();
        let mut peer = server.peer_with(&token(&of("alice", "a1")));
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "test", "version": "1"},
        });
        peer.ask("hello", "initialize", params);
        peer.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        let asking = json!({"ask": "elicitation/create"});
        peer.send(&request(1, "ask", asking.clone()));
        let both = [peer.next(), peer.next()];
        assert!(
            both.iter()
                .any(|line| line["method"] == "elicitation/create"),
            "{both:?}"
        );
        files.write("policy.json", &policy(&["*"], &["elicitation/create"]));
        server.reload();
        assert_eq!(peer.ask(2, "ask", asking)["id"], 2);
        server.wait_seen("no connected client can take 'elicitation/create'");
    }
}

/// An active client gets the reason, and does not reconnect.
#[test]
fn a_client_whose_token_is_revoked_says_so_and_ends() {
    for transport in BOTH {
        let (files, server) = with_revocations(transport);
        let token = token(&of("alice", "a1"));
        let mut client =
            TestClient::start(transport, server.port, &["--auto-reconnect"], Some(&token));
        client.ask(1, "ping", json!({}));
        client.send(&request(2, "slow", json!({"silent": true})));
        server.wait_seen("slow");
        files.write("revoked", "a1");
        server.reload();
        assert_eq!(client.next()["error"]["code"], -32603);
        assert_eq!(client.wait(), Some(1));
        client
            .log
            .wait_for("error: Authentication failed (Token revoked)");
    }
}

/// A session that waits for its client ends, too, and its requests with it.
#[test]
fn a_waiting_session_ends_with_its_token() {
    let files = Files::new();
    let file = files.write("revoked", "");
    let server = Setup::new("tcp")
        .secret()
        .args(&["--revoked", &file])
        .start();
    let mut peer = server.peer_with(&token(&of("alice", "a1")));
    peer.send(
        r#"{"jsonrpc":"2.0","method":"mcp-remote/resume","params":{"session":null,"received":0}}"#,
    );
    assert_eq!(peer.next()["method"], "mcp-remote/resumed");
    peer.send(&request(1, "slow", json!({"silent": true})));
    server.wait_seen("slow");
    drop(peer);
    server.log.wait_for("waiting for the client to come back");
    server.reload();
    files.write("revoked", "user:alice");
    server.reload();
    server.log.wait_for("disconnected reason=\"token revoked\"");
    server.wait_seen("notifications/cancelled");
}

/// A peer that floods its connection gets no advantage.
#[test]
fn a_busy_peer_is_ended_at_once() {
    let files = Files::new();
    let file = files.write("revoked", "");
    let server = Setup::new("tcp")
        .secret()
        .args(&["--revoked", &file])
        .start();
    let mut peer = server.peer_with(&token(&of("alice", "a1")));
    peer.drip(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/flood\"}\n");
    server.wait_seen("flood");
    files.write("revoked", "a1");
    let begin = Instant::now();
    server.reload();
    assert_ended(&mut peer);
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn sighup_stops_no_server() {
    let mut server = TestServer::start("tcp");
    server.reload();
    server.assert_serving();
    // Nor does it stop one whose terminal is gone, and stderr with it.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = binary();
    command.args(["server", "tcp", "--port", "0", "--", "cat"]);
    command.stderr(writer).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = crate::process::lines_of(child.stdout.take().unwrap());
    let line = lines.recv_timeout(crate::process::PATIENCE).unwrap();
    let port = line.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
    drop((command, reader));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::HUP).unwrap();
    for _ in 0..2 {
        let mut peer = TestPeer::connect("tcp", port);
        peer.send("no message");
        assert_eq!(peer.next()["error"]["code"], -32700);
    }
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}
