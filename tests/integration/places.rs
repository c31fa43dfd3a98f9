//! Whoever takes a connection, a session or memory is counted where it is taken.

use crate::common::{BOTH, Setup, TestServer, token_with};
use crate::process::eventually;
use crate::wire::TestPeer;
use serde_json::{Value, json};

/// A server with two places, both taken: one by a session that waits for its client, whose key this
/// gives, the other by the peer. With a token they are all of one user.
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

/// Bug: while a session waited, connections beyond `--max-connections` were counted by nobody.
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
                // One more may be on its way out.
                assert!(open <= before + PENDING + 2, "{transport}: {open}");
            }
            // Its client finds its session all the same.
            let mut client = peer(&server, token);
            let answer = client.resume(&session, 1);
            assert_eq!(answer["params"]["resumed"], true, "{transport}: {answer}");
            assert_eq!(client.ask(2, "ping", json!({}))["id"], 2);
            assert_eq!(other.ask(2, "ping", json!({}))["id"], 2);
            // Whoever asks for anything else is told.
            let answer = flood[59].ask(1, "ping", json!({}));
            assert_eq!(answer["error"]["data"]["reason"], "too-many-connections");
            flood[59].assert_closed();
        }
    }
}

/// Bug: each of those connections might send a message of full length before it was looked at.
#[test]
fn a_full_house_keeps_no_long_messages() {
    const LENGTH: usize = 4 << 20;
    for transport in BOTH {
        for (setup, token) in setups(transport) {
            let (server, session, _other) = full_house(setup, token.as_deref());
            let before = server.peak();
            let mut begin = Vec::new();
            if transport == "ws" {
                // A masked text frame, not to its end.
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
