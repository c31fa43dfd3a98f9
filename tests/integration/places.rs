//! Connections, sessions and memory are counted where they are taken.

use crate::common::{BOTH, Setup, TestServer, now, request, token, token_with};
use crate::process::eventually;
use crate::wire::TestPeer;
use serde_json::{Value, json};

/// A server with two slots, both taken: one by a session that waits for its client, whose key this
/// returns, the other by the peer. With a token they belong to the same user.
fn full_house(setup: Setup, token: Option<&str>) -> (TestServer, Value, TestPeer) {
    let server = setup.args(&["--max-connections", "2"]).start();
    let mut client = peer(&server, token);
    let session = client.resume(&Value::Null, 0)["params"]["session"].clone();
    assert_eq!(client.ask(1, "ping", json!({}))["id"], 1);
    drop(client);
    server.log.wait_for("waiting for the client to come back");
    let mut other = peer(&server, token);
    assert_eq!(other.ask(1, "ping", json!({}))["id"], 1);
    (server, session, other)
}

fn peer(server: &TestServer, token: Option<&str>) -> TestPeer {
    match token {
        Some(token) => server.peer_with(token),
        None => server.peer(),
    }
}

/// With and without a token.
fn setups(transport: &'static str) -> [(Setup, Option<String>); 2] {
    let token = token_with(&["user"]);
    let with = Setup::new(transport).secret();
    [(Setup::new(transport), None), (with, Some(token))]
}

/// Bug: while a session waited, connections beyond `--max-connections` were not counted.
#[test]
fn a_full_house_lets_nobody_in_uncounted() {
    const PENDING: usize = 8;
    let pending = PENDING.to_string();
    let args = [
        "--max-pending",
        &pending,
        "--max-pending-per-address",
        &pending,
    ];
    for transport in BOTH {
        for (setup, token) in setups(transport) {
            let token = token.as_deref();
            let (server, session, mut other) = full_house(setup.args(&args), token);
            let before = server.descriptors();
            let mut flood: Vec<TestPeer> = Vec::new();
            for _ in 0..60 {
                flood.push(peer(&server, token));
                let open = server.descriptors();
                // One more may be closing.
                assert!(open <= before + PENDING + 2, "{transport}: {open}");
            }
            // Its client still finds its session.
            let mut client = peer(&server, token);
            let answer = client.resume(&session, 1);
            assert_eq!(answer["params"]["resumed"], true, "{transport}: {answer}");
            assert_eq!(client.ask(2, "ping", json!({}))["id"], 2);
            assert_eq!(other.ask(2, "ping", json!({}))["id"], 2);
            // Any other request gets an error.
            let answer = flood[59].ask(1, "ping", json!({}));
            assert_eq!(answer["error"]["data"]["reason"], "too-many-connections");
            flood[59].assert_closed();
        }
    }
}

/// Bug: each of those connections could send a message of full length before it was checked.
#[test]
fn a_full_house_keeps_no_long_messages() {
    const LENGTH: usize = 4 << 20;
    for transport in BOTH {
        for (setup, token) in setups(transport) {
            let (server, session, _other) = full_house(setup, token.as_deref());
            let before = server.peak();
            let mut begin = Vec::new();
            if transport == "ws" {
                // An incomplete masked text frame.
                begin.extend([0x81, 0xff]);
                begin.extend((LENGTH as u64 * 2).to_be_bytes());
                begin.extend([0; 4]);
            }
            begin.resize(LENGTH, b'x');
            let mut flood: Vec<TestPeer> =
                (0..25).map(|_| peer(&server, token.as_deref())).collect();
            for peer in &mut flood {
                // It is cut off, sooner or later.
                let _cut = peer.try_raw(&begin);
            }
            let mut client = eventually("its client comes back", || {
                let mut client = peer(&server, token.as_deref());
                (client.resume(&session, 1)["params"]["resumed"] == true).then_some(client)
            });
            assert_eq!(client.ask(2, "ping", json!({}))["id"], 2);
            let grown = server.peak() - before;
            assert!(grown < 20_000, "{transport}: {grown} KiB");
        }
    }
}

fn token_of(user: &str) -> String {
    token(&json!({"user": user, "exp": now() + 3600}))
}

/// A session that waits for its client, by its key. It has no connection.
fn waiting(server: &TestServer, token: &str) -> Value {
    let mut client = server.peer_with(token);
    let session = client.resume(&Value::Null, 0)["params"]["session"].clone();
    assert_eq!(client.ask(1, "ping", json!({}))["id"], 1);
    drop(client);
    let key = &session.as_str().unwrap()[..8];
    let line = server.log.wait_for(&format!("session=\"{key}\""));
    assert!(
        line.contains("waiting for the client to come back"),
        "{line}"
    );
    session
}

fn assert_too_many_of_user(answer: &Value, says: &str) {
    let error = &answer["error"];
    assert_eq!(error["code"], -32603, "{answer}");
    assert_eq!(error["data"]["reason"], "too-many-of-user", "{answer}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(says) && message.contains("--max-per-user"));
}

/// Bug: one token took every slot, and needed no connections for that: waiting sessions were enough.
#[test]
fn a_user_has_a_share_of_the_places() {
    for transport in BOTH {
        let setup = Setup::new(transport).secret();
        let server = setup.args(&["--max-connections", "16"]).start();
        let (alice, bob) = (token_of("alice"), token_of("bob"));
        let sessions: Vec<Value> = (0..4).map(|_| waiting(&server, &alice)).collect();
        let mut last = server.peer_with(&alice);
        let mut fifth = server.peer_with(&alice);
        assert_eq!(fifth.resume(&Value::Null, 0)["error"]["code"], -32603);
        fifth.assert_closed();
        let refusal = last.ask(1, "ping", json!({}));
        assert_too_many_of_user(&refusal, "Too many connections of this user");
        last.assert_closed();
        // Her sessions continue.
        for session in &sessions {
            let mut client = server.peer_with(&alice);
            let answer = client.resume(session, 1);
            assert_eq!(answer["params"]["resumed"], true, "{transport}: {answer}");
            assert_eq!(client.ask(2, "ping", json!({}))["id"], 2);
        }
        let mut others: Vec<TestPeer> = (0..4).map(|_| server.peer_with(&bob)).collect();
        for peer in &mut others {
            assert_eq!(peer.ask(1, "ping", json!({}))["id"], 1);
        }
        // A client without a session to resume gets the error at once.
        let answer = server.peer().login(&bob);
        assert_too_many_of_user(&answer, "Too many connections of this user");
    }
}

#[test]
fn a_share_may_be_chosen() {
    let server = Setup::new("tcp").args(&["--max-per-user", "2"]).start();
    // Without users the address counts.
    let mut peers = [server.peer(), server.peer()];
    for peer in &mut peers {
        assert_eq!(peer.ask(1, "ping", json!({}))["id"], 1);
    }
    assert_too_many_of_user(&server.peer().next(), "Too many connections");
}

/// While all slots are taken, sessions without a connection give way, from the user with the most.
#[test]
fn sessions_that_wait_give_way_to_those_who_have_less() {
    for (flags, limit) in [
        (&["--isolate"][..], "--max-children"),
        (&[], "--max-connections"),
    ] {
        let server = Setup::new("tcp")
            .secret()
            .args(flags)
            .args(&[limit, "4"])
            .start();
        let (alice, bob) = (token_of("alice"), token_of("bob"));
        let sessions: Vec<Value> = (0..4).map(|_| waiting(&server, &alice)).collect();
        let mut peers = Vec::new();
        for _ in 0..2 {
            let mut peer = server.peer_with(&bob);
            assert_eq!(peer.ask(1, "ping", json!({}))["id"], 1);
            server.log.wait_for("all places are taken");
            peers.push(peer);
        }
        // He has as many as she has now, so no more are evicted.
        let mut third = server.peer();
        third.send(&bob);
        third.send(&request(1, "ping", json!({})));
        let refusal = if flags.is_empty() {
            third.next()
        } else {
            assert_eq!(third.next()["result"]["authenticated"], true);
            third.next()
        };
        let expected = ["too-many-connections", "too-many-children"];
        let expected = expected[usize::from(!flags.is_empty())];
        assert_eq!(refusal["error"]["data"]["reason"], expected);
        // The oldest have ended, the youngest continue.
        for (at, session) in sessions.iter().enumerate().skip(2) {
            let mut client = server.peer_with(&alice);
            let answer = client.resume(session, 1);
            assert_eq!(answer["params"]["resumed"], true, "{at}: {answer}");
            assert_eq!(client.ask(2, "ping", json!({}))["id"], 2);
            peers.push(client);
        }
    }
}

#[test]
fn a_user_has_a_share_of_the_processes() {
    let args = ["--isolate", "--max-children", "16"];
    let server = Setup::new("tcp").secret().args(&args).start();
    let mut peers = Vec::new();
    for user in ["alice", "bob"] {
        let token = token_of(user);
        for _ in 0..5 {
            let mut peer = server.peer_with(&token);
            let answer = peer.ask(1, "ping", json!({}));
            peers.push((peer, answer));
        }
        let (_, refusal) = peers.pop().unwrap();
        assert_too_many_of_user(&refusal, "Too many MCP servers of this user");
        assert!(peers.iter().all(|(_, answer)| answer["id"] == 1));
    }
}
