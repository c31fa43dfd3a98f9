//! The memory kept for all clients together has one bound (`--max-backlog`), and a share of it per
//! user: when it is exceeded, the session with the largest backlog ends, and no other is affected.

use crate::common::{BOTH, Setup, TestServer, now, request, token};
use crate::process::eventually;
use crate::wire::TestPeer;
use serde_json::{Value, json};

/// The log line for each session or connection that the server ends.
const ENDED: &str = "too much is kept for clients (--max-backlog)";

const MIB: usize = 1 << 20;

fn token_of(user: &str) -> String {
    token(&json!({"user": user, "exp": now() + 3600}))
}

fn peer(server: &TestServer, token: Option<&str>) -> TestPeer {
    match token {
        Some(token) => server.peer_with(token),
        None => server.peer(),
    }
}

/// A session without a connection, for which a response of `bytes` bytes is kept; returns its key.
fn waiting(server: &TestServer, token: Option<&str>, bytes: usize) -> Value {
    let before = ended(server);
    let mut client = peer(server, token);
    let session = client.resume(&Value::Null, 0)["params"]["session"].clone();
    client.send(&request(1, "x", json!({"bytes": bytes})));
    client.wait_readable();
    drop(client);
    let key = session.as_str().unwrap()[..8].to_owned();
    eventually("the session waits or has ended", || {
        let log = server.log.text();
        if ended(server) > before {
            return Some(0);
        }
        let of_it = log.lines().filter(|line| line.contains(&key));
        let waits = of_it.filter(|line| line.contains("waiting for the client to come back"));
        waits.count().checked_sub(1)
    });
    session
}

/// True if the session still exists; its response is complete then.
fn comes_back(server: &TestServer, token: Option<&str>, session: &Value, bytes: usize) -> bool {
    let mut client = peer(server, token);
    let back = client.resume(session, 0)["params"]["resumed"] == true;
    if back {
        let answer = client.next();
        assert_eq!(answer["id"], 1);
        assert_eq!(answer["result"]["blob"].as_str().unwrap().len(), bytes);
    }
    back
}

fn ended(server: &TestServer) -> usize {
    server.log.text().matches(ENDED).count()
}

#[test]
fn sessions_without_connection_stay_below_the_total() {
    const SESSIONS: usize = 24;
    const ANSWER: usize = 3 * MIB;
    for transport in BOTH {
        let server = Setup::new(transport)
            .args(&["--max-backlog", "16MiB"])
            .start();
        let mut neighbour = server.peer();
        assert_eq!(neighbour.ask(0, "ping", json!({}))["id"], 0);
        let before = server.peak();
        let mut sessions = Vec::new();
        for id in 1..=SESSIONS {
            sessions.push(waiting(&server, None, ANSWER));
            assert_eq!(neighbour.ask(id, "ping", json!({}))["id"], id);
        }
        // The bound, the response from the MCP server, and what the allocator keeps.
        let grown = server.peak() - before;
        assert!(grown < 34_000, "{transport}: {grown} KiB");
        let left = SESSIONS - ended(&server);
        assert!((3..=5).contains(&left), "{transport}: {left}");
        let back = |session: &&Value| comes_back(&server, None, session, ANSWER);
        assert_eq!(sessions.iter().filter(back).count(), left, "{transport}");
    }
}

#[test]
fn session_with_the_largest_backlog_is_ended_and_no_other() {
    let server = Setup::new("tcp").args(&["--max-backlog", "16MiB"]).start();
    let mut neighbour = server.peer();
    assert_eq!(neighbour.ask(1, "ping", json!({}))["id"], 1);
    let small = [(); 3].map(|()| waiting(&server, None, 2 * MIB));
    let greedy = waiting(&server, None, 9 * MIB);
    neighbour.send(&request(2, "x", json!({"laterMs": 300, "text": "intact"})));
    assert_eq!(ended(&server), 0);
    let last = waiting(&server, None, 2 * MIB);
    let line = server.log.wait_for(ENDED);
    assert!(
        line.contains("WARN") && line.contains("limit=16777216"),
        "{line}"
    );
    let answer = neighbour.next();
    assert_eq!(answer["result"]["params"]["text"], "intact", "{answer}");
    for session in small.iter().chain([&last]) {
        assert!(comes_back(&server, None, session, 2 * MIB));
    }
    assert!(!comes_back(&server, None, &greedy, 9 * MIB));
    assert_eq!(ended(&server), 1);
}

#[test]
fn user_has_half_of_the_backlog() {
    let server = Setup::new("tcp")
        .secret()
        .args(&["--max-backlog", "16MiB"])
        .start();
    let (alice, bob) = (token_of("alice"), token_of("bob"));
    let bobs = waiting(&server, Some(&bob), 7 * MIB);
    let first = waiting(&server, Some(&alice), 5 * MIB);
    assert_eq!(ended(&server), 0);
    let second = waiting(&server, Some(&alice), 4 * MIB);
    let line = server.log.wait_for(ENDED);
    assert!(line.contains("limit=8388608"), "{line}");
    assert!(comes_back(&server, Some(&bob), &bobs, 7 * MIB));
    assert!(comes_back(&server, Some(&alice), &second, 4 * MIB));
    assert!(!comes_back(&server, Some(&alice), &first, 5 * MIB));
    assert_eq!(ended(&server), 1);
}

/// Sends as much as the connection accepts.
fn pour(peer: &mut TestPeer, bytes: &[u8]) {
    // The connection may have been closed.
    let _sent = peer.try_raw(bytes);
}

/// The beginning of a message twice as long.
fn half_line(transport: &str, length: usize) -> Vec<u8> {
    let mut begin = Vec::new();
    if transport == "ws" {
        // An incomplete masked text frame.
        begin.extend([0x81, 0xff]);
        begin.extend((length as u64 * 2).to_be_bytes());
        begin.extend([0; 4]);
    }
    begin.resize(length, b'x');
    begin
}

#[test]
fn half_lines_count() {
    for transport in BOTH {
        let server = Setup::new(transport)
            .args(&["--max-backlog", "8MiB"])
            .start();
        let mut neighbour = server.peer();
        neighbour.begin();
        let before = server.peak();
        let mut peers = [(); 8].map(|()| server.peer());
        for peer in &mut peers {
            peer.begin();
            pour(peer, &half_line(transport, 4 * MIB));
        }
        eventually("all but one or two are ended", || {
            (ended(&server) >= 6).then_some(())
        });
        let grown = server.peak() - before;
        assert!(grown < 24_000, "{transport}: {grown} KiB");
        assert_eq!(neighbour.ask(1, "ping", json!({}))["id"], 1);
    }
}

#[test]
fn unread_answers_count() {
    for transport in BOTH {
        let server = Setup::new(transport)
            .args(&["--max-backlog", "16MiB"])
            .start();
        let mut neighbour = server.peer();
        neighbour.begin();
        // Some of each is in the socket buffers, and does not count.
        let mut peers = [(); 4].map(|()| server.peer());
        for peer in &mut peers {
            peer.send(&request(1, "x", json!({"bytes": 14 * MIB})));
            peer.wait_readable();
        }
        server.log.wait_for(ENDED);
        assert_eq!(neighbour.ask(1, "ping", json!({}))["id"], 1);
    }
}

/// Ids, tokens and subscribed URIs that the server remembers until there is a response.
#[test]
fn requests_in_flight_and_subscriptions_count() {
    let padding = "i".repeat(900);
    let id = |at: usize| json!(format!("{at}-{padding}"));
    let in_flight = |at: usize| {
        let params = json!({"silent": true, "_meta": {"progressToken": id(at)}});
        request(id(at), "x", params)
    };
    let subscribed = |at: usize| {
        let uri = format!("file:///{at}/{}", padding.repeat(4));
        request(at, "resources/subscribe", json!({"uri": uri}))
    };
    let shared: &[&str] = &[];
    let kinds: [(_, &dyn Fn(usize) -> String, _); 3] = [
        ("in flight", &in_flight, shared),
        ("in flight, isolated", &in_flight, &["--isolate"]),
        ("subscribed", &subscribed, shared),
    ];
    for (name, message, args) in kinds {
        let server = Setup::new("tcp")
            .args(&["--max-backlog", "512KiB"])
            .args(args)
            .start();
        let mut neighbour = server.peer();
        neighbour.initialize();
        let mut peers = [(); 10].map(|()| server.peer());
        for peer in &mut peers {
            peer.initialize();
            for at in 0..100 {
                peer.try_send(&message(at));
                if name == "subscribed" {
                    // Otherwise its responses would wait for it.
                    peer.next_line();
                }
            }
        }
        server.log.wait_for(ENDED);
        assert_eq!(neighbour.ask(1, "ping", json!({}))["id"], 1, "{name}");
    }
}

#[test]
fn lines_that_wait_for_an_isolated_process_count() {
    let server = Setup::new("tcp")
        .args(&["--isolate", "--max-backlog", "8MiB"])
        .start();
    let mut neighbour = server.peer();
    neighbour.initialize();
    let mut peers = [(); 3].map(|()| server.peer());
    for peer in &mut peers {
        peer.initialize();
        peer.send(&request(1, "x", json!({"deaf": true})));
        assert_eq!(peer.next()["id"], 1);
        pour(
            peer,
            request(2, "x", json!({"text": "x".repeat(3 * MIB)})).as_bytes(),
        );
        pour(peer, b"\n");
    }
    server.log.wait_for(ENDED);
    assert_eq!(neighbour.ask(1, "ping", json!({}))["id"], 1);
}

#[test]
fn lines_read_ahead_of_a_stuck_process_count() {
    let server = Setup::new("tcp").args(&["--max-backlog", "4MiB"]).start();
    let mut first = server.peer();
    first.initialize();
    first.send(&request(1, "x", json!({"deaf": true})));
    assert_eq!(first.next()["id"], 1);
    let long = |bytes: usize| {
        let notification =
            json!({"jsonrpc": "2.0", "method": "x", "params": {"text": "x".repeat(bytes)}});
        format!("{notification}\n")
    };
    // More than the MCP server is given in advance.
    pour(&mut first, long(2 * MIB).as_bytes());
    let mut peers = [(); 3].map(|()| server.peer());
    for peer in &mut peers {
        peer.resume(&Value::Null, 0);
        for _ in 0..30 {
            pour(peer, long(100_000).as_bytes());
        }
    }
    server.log.wait_for(ENDED);
}
