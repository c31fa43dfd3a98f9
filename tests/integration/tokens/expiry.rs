//! What becomes of a session whose token expires.

use super::*;

const EXPIRED: &str = r#"{"jsonrpc":"2.0","error":{"code":-32002,"message":"Authentication failed","data":{"reason":"Token expired"}}}"#;

fn short_lived() -> String {
    token(&json!({"user": "alice", "roles": ["user"], "jti": "a1", "exp": now() + 3}))
}

/// Begins a session with a call in flight, which ends with its token; returns the session's key.
fn expire(server: &TestServer, call: Value) -> Value {
    let mut peer = server.peer_with(&short_lived());
    let session = peer.resume(&Value::Null, 0)["params"]["session"].clone();
    peer.send(&request(1, "tools/call", call));
    let mut line = peer.next_line();
    while line.as_deref().is_some_and(|line| line.contains("/ack")) {
        line = peer.next_line();
    }
    assert_eq!(line.as_deref(), Some(EXPIRED));
    peer.assert_closed();
    session
}

/// Bug: the session ended with the connection, and its calls with it, before a client that learns of the expiry like this
/// could come back with its next token.
#[test]
fn a_session_waits_for_the_next_token_of_its_client() {
    for transport in BOTH {
        let server = Setup::new(transport).secret().start();
        let session = expire(&server, json!({"name": "slow", "delayMs": 4000}));
        let mut back = server.peer_with(&token(&of("alice", "a2")));
        let resumed = back.resume(&session, 0);
        assert_eq!(resumed["params"]["resumed"], true, "{resumed}");
        let mut answer = back.next();
        while answer["method"] == "mcp-remote/ack" {
            answer = back.next();
        }
        assert_eq!(answer["id"], 1, "{answer}");
        assert!(!server.seen().contains("notifications/cancelled"));
    }
}

#[test]
fn a_session_that_waits_for_a_token_ends_when_the_old_one_is_revoked() {
    let files = Files::new();
    let file = files.write("revoked", "");
    let setup = Setup::new("tcp").secret().args(&["--revoked", &file]);
    let server = setup.start();
    let session = expire(&server, json!({"name": "x", "silent": true}));
    server.log.wait_for("waiting for the client to come back");
    files.write("revoked", "a1");
    server.reload();
    server.wait_seen("notifications/cancelled");
    let mut back = server.peer_with(&token(&of("alice", "a2")));
    assert_eq!(back.resume(&session, 0)["params"]["resumed"], false);
}

/// The whole way, with a client whose next token comes too late to renew the old one.
#[test]
fn a_client_that_gets_its_next_token_late_loses_nothing() {
    for transport in BOTH {
        let server = Setup::new(transport).secret().start();
        let files = Files::new();
        let file = files.write("token", &short_lived());
        let flags = ["--jwt-token-file", &file, "--auto-reconnect"];
        let mut client = TestClient::start(transport, server.port, &flags, None);
        client.ask(0, "ping", json!({}));
        client.send(&request(
            1,
            "tools/call",
            json!({"name": "slow", "delayMs": 4000}),
        ));
        client.log.wait_for("waiting for a new one");
        client.send(&request(2, "ping", json!({})));
        files.write("token", &token(&of("alice", "a2")));
        let mut ids = [client.next(), client.next()].map(|answer| {
            assert!(answer["result"].is_object(), "{answer}");
            answer["id"].as_u64()
        });
        ids.sort();
        assert_eq!(ids, [Some(1), Some(2)]);
        client.log.wait_for("nothing is lost");
    }
}
