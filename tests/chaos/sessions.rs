//! Thousands of sessions, connected and waiting for their clients.

use crate::common::{Setup, request, token_with};
use crate::herd::raise_file_limit;
use crate::process::eventually;
use crate::takeover::{next_message, resume};
use crate::wire::TestPeer;
use serde_json::{Value, json};

/// How many sessions there are, unless `CHAOS_SESSIONS` sets another number.
const SESSIONS: usize = 1_000;

/// The most memory that a session may take, in bytes: twice what a release build takes.
const CONNECTED: u64 = 48 << 10;
const WAITING: u64 = 32 << 10;

#[test]
fn many_sessions_are_bounded_and_cost_little_memory() {
    raise_file_limit();
    let count = std::env::var("CHAOS_SESSIONS").ok();
    let count = count.map_or(SESSIONS, |text| text.parse().unwrap());
    let [many, more] = [count, count + 1].map(|count| count.to_string());
    let args = ["--max-connections", &more, "--max-per-user", &more];
    let setup = Setup::new("tcp").secret().args(&args);
    let server = setup.args(&["--max-sessions", &many]).start();
    let token = token_with(&["user"]);
    let begin = || {
        let mut peer = server.peer_with(&token);
        let session = resume(&mut peer, &Value::Null, 0)["session"].clone();
        (peer, session)
    };
    server.assert_serving_with(&token);
    let (descriptors, before) = (server.descriptors(), server.resident());
    let per_session = |now: u64| now.saturating_sub(before) * 1024 / count as u64;

    let mut all: Vec<(TestPeer, Value)> = (0..count).map(|_| begin()).collect();
    for (peer, session) in &mut all {
        assert!(session.is_string());
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "many", "version": "1"}});
        peer.send(&request(0, "initialize", params));
        assert_eq!(next_message(peer)["id"], 0);
    }
    let connected = per_session(server.resident());
    assert!(connected < CONNECTED, "{connected} bytes for each");
    // One more is served, but cannot be resumed.
    assert_eq!(begin().1, Value::Null);

    let sessions: Vec<Value> = all.drain(..).map(|(_, session)| session).collect();
    eventually("all connections are closed", || {
        (server.descriptors() <= descriptors + 8).then_some(())
    });
    let waiting = per_session(server.resident());
    assert!(waiting < WAITING, "{waiting} bytes for each");

    for session in &sessions {
        let mut peer = server.peer_with(&token);
        let answer = resume(&mut peer, session, 1);
        assert_eq!(answer["resumed"], true, "{answer}");
        all.push((peer, session.clone()));
    }
    println!("{count} sessions: {connected} bytes of memory for each, {waiting} where it waits");
}
