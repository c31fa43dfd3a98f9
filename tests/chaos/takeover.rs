//! Sessions, and clients that claim them.

use crate::common::{BOTH, Setup, TestServer, now, token};
use crate::load::{Host, Tally, stop};
use crate::process::eventually;
use crate::relay::{Fault, Relay};
use crate::wire::TestPeer;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Requests this session, or a new one; returns the reply.
pub fn resume(peer: &mut TestPeer, session: &Value, received: u64) -> Value {
    let line = json!({"jsonrpc": "2.0", "method": "mcp-remote/resume",
        "params": {"session": session, "received": received}});
    peer.send(&line.to_string());
    let answer = peer.next();
    assert_eq!(answer["method"], "mcp-remote/resumed", "{answer}");
    answer["params"].clone()
}

fn ack(peer: &mut TestPeer, received: u64) {
    let line =
        json!({"jsonrpc": "2.0", "method": "mcp-remote/ack", "params": {"received": received}});
    peer.send(&line.to_string());
}

fn token_of(user: &str, roles: &[&str]) -> String {
    token(&json!({"user": user, "roles": roles, "exp": now() + 3600}))
}

/// The next line that is not a control line.
pub fn next_message(peer: &mut TestPeer) -> Value {
    loop {
        let message = peer.next();
        let method = message["method"].as_str().unwrap_or_default();
        if !method.starts_with("mcp-remote/") {
            return message;
        }
    }
}

#[test]
fn a_later_connection_takes_over_from_one_that_still_stands() {
    for transport in BOTH {
        for isolated in [false, true] {
            for secret in [false, true] {
                let args: &[&str] = if isolated {
                    &["--isolate", "--max-children", "2"]
                } else {
                    &[]
                };
                let mut setup = Setup::new(transport).args(args);
                if secret {
                    setup = setup.secret();
                }
                let server = setup.start();
                let come = |server: &TestServer| match secret {
                    true => server.peer_with(&token_of("alice", &["user"])),
                    false => server.peer(),
                };
                let mut old = come(&server);
                let session = resume(&mut old, &Value::Null, 0)["session"].clone();
                old.send(&crate::common::request(1, "x", json!({})));
                let pid = next_message(&mut old)["result"]["pid"].clone();
                old.send(&crate::common::request(2, "x", json!({"delayMs": 300})));
                server.wait_seen("delayMs");
                let mut new = come(&server);
                let answer = resume(&mut new, &session, 1);
                assert_eq!(
                    (&answer["resumed"], &answer["session"]),
                    (&json!(true), &session)
                );
                assert_eq!(answer["received"], 2);
                let message = next_message(&mut new);
                assert_eq!(
                    (&message["id"], &message["result"]["pid"]),
                    (&json!(2), &pid)
                );
                // Bug: a claim that arrived late, with an older state, ended the session.
                let mut late = come(&server);
                let answer = resume(&mut late, &session, 0);
                assert_eq!(answer["resumed"], false);
                assert!(answer["session"] != session);
                new.send(&crate::common::request(3, "x", json!({})));
                assert_eq!(next_message(&mut new)["id"], 3);
                assert!(!server.seen().contains("mcp-remote/"));
            }
        }
    }
}

#[test]
fn a_stolen_session_is_worth_nothing() {
    let server = Setup::new("tcp").secret().start();
    let mut owner = server.peer_with(&token_of("alice", &["user"]));
    let session = resume(&mut owner, &Value::Null, 0)["session"].clone();
    for thief in [
        token_of("bob", &["user"]),
        token_of("alice", &["admin"]),
        token_of("alice", &[]),
        token(&json!({"roles": ["user"]})),
    ] {
        let mut thief = server.peer_with(&thief);
        let answer = resume(&mut thief, &session, 0);
        assert_eq!(answer["resumed"], false);
        assert!(answer["session"].is_string() && answer["session"] != session);
    }
    owner.send(&crate::common::request(1, "x", json!({})));
    assert_eq!(next_message(&mut owner)["id"], 1);
    drop(owner);
    server.log.wait_for("waiting for the client");
    let mut owner = server.peer_with(&token_of("alice", &["user"]));
    assert_eq!(resume(&mut owner, &session, 1)["resumed"], true);
}

#[test]
fn who_counts_wrongly_loses_the_session() {
    for transport in BOTH {
        for wrong in [[Some(1), None], [Some(3), Some(0)]] {
            let server = Setup::new(transport).start();
            let mut peer = server.peer();
            let session = resume(&mut peer, &Value::Null, 0)["session"].clone();
            let count = if wrong[1].is_some() { 3 } else { 0 };
            for id in 0..count {
                peer.send(&crate::common::request(id, "x", json!({})));
                next_message(&mut peer);
            }
            wrong
                .iter()
                .flatten()
                .for_each(|number| ack(&mut peer, *number));
            let error = next_message(&mut peer);
            assert_eq!(error["error"]["code"], -32600, "{error}");
            peer.assert_closed();
            let mut peer = server.peer();
            assert_eq!(resume(&mut peer, &session, 0)["resumed"], false);
        }
    }
}

#[test]
fn a_session_waits_for_the_window_only() {
    for isolated in [false, true] {
        let args: &[&str] = if isolated { &["--isolate"] } else { &[] };
        let server = Setup::new("tcp")
            .args(&["--resume-window", "300ms"])
            .args(args)
            .start();
        let mut peer = server.peer();
        let session = resume(&mut peer, &Value::Null, 0)["session"].clone();
        peer.send(&crate::common::request(1, "x", json!({"delayMs": 60_000})));
        server.wait_seen("delayMs");
        drop(peer);
        if !isolated {
            server.wait_seen("notifications/cancelled");
        }
        server.log.wait_for("the client has not come back");
        let mut peer = server.peer();
        let answer = resume(&mut peer, &session, 0);
        assert_eq!(answer["resumed"], false);
    }
}

#[test]
fn there_are_so_many_sessions_and_no_more() {
    let tally = Tally::new();
    let server = tally.server("tcp").args(&["--max-sessions", "1"]).start();
    let mut first = server.peer();
    assert!(resume(&mut first, &Value::Null, 0)["session"].is_string());
    let mut second = server.peer();
    assert!(resume(&mut second, &Value::Null, 0)["session"].is_null());
    // A client without a session is served, and starts afresh after a reconnect.
    let relay = Relay::new(server.port);
    let mut host = Host::start("tcp", relay.port, 1, false);
    host.loses = true;
    host.initialize();
    host.ask_sized(0, 1, 1, 0);
    host.hear_until(0);
    host.ask_sized(1, 1, 1, 60_000);
    eventually("it is executed", || {
        (tally.executed(1).len() == 2).then_some(())
    });
    relay.strike(Fault::Reset, 0);
    host.hear_until(0);
    assert_eq!(host.failed, [1]);
    let log = host.client.log.wait_for("reconnected");
    assert!(log.contains("failed=1"), "{log}");
    host.ask_sized(2, 1, 1, 0);
    host.hear_until(0);
    host.leave();
    stop(server);
}

/// Bug: a full server refused a returning client while its old connection was not yet known
/// to be dead.
#[test]
fn a_full_server_takes_its_sessions_back() {
    for transport in BOTH {
        for secret in [false, true] {
            for isolated in [false, true] {
                let args: &[&str] = if isolated { &["--isolate"] } else { &[] };
                let mut setup = Setup::new(transport).args(&["--max-connections", "1"]);
                setup = setup.args(args);
                if secret {
                    setup = setup.secret();
                }
                let server = setup.start();
                let come = |user: &str| match secret {
                    true => {
                        let mut peer = server.peer();
                        peer.send(&token_of(user, &["user"]));
                        peer
                    }
                    false => server.peer(),
                };
                let let_in = |peer: &mut TestPeer| {
                    if secret {
                        assert_eq!(peer.next()["result"]["authenticated"], true);
                    }
                };
                let mut old = come("alice");
                let_in(&mut old);
                let session = resume(&mut old, &Value::Null, 0)["session"].clone();
                old.send(&crate::common::request(1, "x", json!({"delayMs": 300})));
                server.wait_seen("delayMs");
                // The old connection is still open, but gets nothing more.
                let mut new = come("alice");
                let_in(&mut new);
                assert_eq!(resume(&mut new, &session, 0)["resumed"], true);
                assert_eq!(next_message(&mut new)["id"], 1);
                // A client without a session, or with another first message, finds no room.
                let full = |answer: Value| {
                    assert_eq!(
                        answer["error"]["data"]["reason"], "too-many-connections",
                        "{answer}"
                    );
                };
                for hello in [
                    crate::common::request(1, "x", json!({})),
                    r#"{"jsonrpc":"2.0","method":"mcp-remote/resume","params":{"session":null,"received":0}}"#.to_owned(),
                    r#"{"jsonrpc":"2.0","method":"mcp-remote/resume","params":{"session":"00000000000000000000000000000000","received":0}}"#.to_owned(),
                ] {
                    let mut other = come("alice");
                    let_in(&mut other);
                    other.send(&hello);
                    full(other.next());
                    other.assert_closed();
                }
                if secret {
                    full(come("bob").next());
                }
                // A waiting session keeps its place.
                drop(new);
                server.log.wait_for("waiting for the client");
                let mut other = come("alice");
                let_in(&mut other);
                other.send(&crate::common::request(1, "x", json!({})));
                full(other.next());
                let mut new = come("alice");
                let_in(&mut new);
                assert_eq!(resume(&mut new, &session, 1)["resumed"], true);
                new.send(r#"{"jsonrpc":"2.0","method":"mcp-remote/leave","params":{}}"#);
                assert_eq!(new.next()["method"], "mcp-remote/ack");
                eventually("the place is free", || {
                    let mut other = come("alice");
                    other.send(&crate::common::request("free?", "x", json!({})));
                    (0..3).find_map(|_| {
                        let line = other.next_line()?;
                        line.contains("\"id\":\"free?\"").then_some(())
                    })
                });
                assert!(!server.seen().contains("mcp-remote/"));
            }
        }
    }
}

/// The server does not wait for a client that cannot know its session.
#[test]
fn a_session_that_carried_nothing_ends_with_its_connection() {
    let server = Setup::new("tcp").args(&["--max-sessions", "1"]).start();
    for _ in 0..3 {
        let mut peer = server.peer();
        let answer = resume(&mut peer, &Value::Null, 0);
        assert!(answer["session"].is_string(), "{answer}");
        drop(peer);
        eventually("it has ended", || {
            let log = server.log.text();
            let gone = log.matches("disconnected").count();
            (gone == log.matches(" connected").count()).then_some(())
        });
    }
    assert!(!server.log.text().contains("waiting for the client"));
}

/// Control lines in any order, with any numbers, on sessions that other clients hold as well.
#[test]
fn nonsense_in_control_lines_harms_nobody_else() {
    for (transport, seed) in BOTH.into_iter().zip([51, 52]) {
        let mut random = StdRng::seed_from_u64(seed);
        let server = Setup::new(transport).start();
        let mut other = server.peer();
        let mut keys = vec![Value::Null, json!("0".repeat(32)), json!("x"), json!(7)];
        let mut peers = VecDeque::new();
        for round in 0..200 {
            if round % 20 == 0 {
                // One that is in use, and may be taken over.
                let mut holder = server.peer();
                keys.push(resume(&mut holder, &Value::Null, 0)["session"].clone());
                holder.send(&crate::common::request(1, "x", json!({})));
                assert_eq!(next_message(&mut holder)["id"], 1);
                peers.push_back(holder);
            }
            let key = keys[random.random_range(0..keys.len())].clone();
            let mut line = |name: &str| {
                let number = [0, 0, 0, 1, 2, u64::MAX][random.random_range(0..6)];
                let params =
                    json!({"session": key, "received": number, "resumed": true, "idle": true});
                json!({"jsonrpc": "2.0", "method": format!("mcp-remote/{name}"), "params": params})
                    .to_string()
            };
            let mut lines = vec![line("resume")];
            for name in ["ack", "drain", "resume", "resumed", "ack", "leave", "other"] {
                lines.push(line(name));
            }
            let first = random.random_range(1..lines.len());
            lines.swap(first, 1);
            lines.truncate(random.random_range(1..8));
            lines.push(crate::common::request(round, "x", json!({"notify": "n"})));
            let mut peer = server.peer();
            peer.send(&lines.join("\n"));
            peers.push_back(peer);
            if peers.len() > 8 {
                peers.pop_front();
            }
            assert_eq!(other.ask(round, "x", json!({}))["id"], round);
        }
        assert!(!server.seen().contains("mcp-remote/"));
        let log = server.log.text();
        assert!(log.matches("refused to resume").count() > 3, "{log}");
        stop(server);
    }
}
