//! One peer's requests do not block everyone else's.

use crate::common::{BOTH, Setup, TestServer, request};
use crate::process::eventually;
use crate::support::http::{Http, Session, call};
use crate::wire::TestPeer;
use serde_json::{Value, json};
use std::thread;
use std::time::Instant;

/// The requests of the echo server's peers, in the order of execution: the peer, and the request.
fn taken_up(server: &TestServer) -> Vec<(String, u64)> {
    let seen = server.seen();
    let lines = seen
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let told = lines.filter_map(|line: Value| {
        let params = &line["params"];
        Some((
            params["who"].as_str()?.to_owned(),
            params["number"].as_u64()?,
        ))
    });
    told.collect()
}

fn say(peer: &mut TestPeer, who: &str, number: u64, mut params: Value) {
    params["who"] = json!(who);
    params["number"] = json!(number);
    peer.send(&request(number, "tools/call", params));
}

/// Starts an endless sequence of calls, with something after each, on a separate thread that ends with
/// the server.
fn flood(server: &TestServer, params: Value, after: impl Fn(&mut TestPeer, u64) + Send + 'static) {
    let mut peer = server.peer();
    let mut sender = peer.sender();
    thread::spawn(move || while peer.next_line().is_some() {});
    thread::spawn(move || {
        let mut number = 0;
        loop {
            let mut params = params.clone();
            params["who"] = json!("flooder");
            params["number"] = json!(number);
            if !sender.try_send(&request(number, "tools/call", params)) {
                return;
            }
            after(&mut sender, number);
            number += 1;
        }
    });
    eventually("the flood is on", || {
        let is_late = |(_, number): &(String, u64)| *number > 50;
        taken_up(server).last().is_some_and(is_late).then_some(())
    });
}

/// Sends 40 requests beside a flood; returns how many of the flood's calls the server executes between two of
/// them, as a median.
fn calls_before_ones_own(server: &TestServer, other: &mut TestPeer) -> usize {
    let mut times = Vec::new();
    for number in 0..40 {
        let begin = Instant::now();
        say(other, "other", number, json!({}));
        assert_eq!(other.next()["id"], number);
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let order = taken_up(server);
    let own = order.iter().enumerate();
    let own = own.filter(|(_, (who, _))| who == "other");
    let places: Vec<usize> = own.map(|(place, _)| place).collect();
    let between = places.windows(2).map(|pair| pair[1] - pair[0] - 1);
    let mut between: Vec<usize> = between.collect();
    between.sort_unstable();
    let (median, most) = (between[between.len() / 2], between[between.len() - 1]);
    println!(
        "{median} calls before one's own, {most} at most; {:?}",
        times[times.len() / 2]
    );
    median
}

/// Bug: messages for a process were in one queue, so a peer that sent many requests at once delayed everyone
/// else's responses by seconds.
#[test]
fn a_flood_of_calls_stands_before_nobody() {
    // Some more while the other request is on its way.
    for (flags, most) in [(&[][..], 16), (&["--max-in-flight", "2"], 2)] {
        let server = Setup::new("tcp").args(flags).echo(&["--work", "1"]).start();
        let mut other = server.peer();
        assert!(other.initialize()["result"].is_object());
        flood(&server, json!({}), |_, _| {});
        let median = calls_before_ones_own(&server, &mut other);
        assert!(median <= most + 4, "{median} calls with {flags:?}");
    }
}

/// A cancelled request takes up no slot, since some servers never respond to it, but what a process has not
/// read is still bounded.
#[test]
fn a_flood_of_cancelled_calls_stands_before_nobody() {
    let server = Setup::new("tcp").echo(&["--work", "1"]).start();
    let mut other = server.peer();
    assert!(other.initialize()["result"].is_object());
    let filler = json!({"filler": "x".repeat(1024)});
    flood(&server, filler, cancel);
    let median = calls_before_ones_own(&server, &mut other);
    assert!(median <= 100, "{median} calls");
}

fn silent(peer: &mut TestPeer, numbers: std::ops::Range<u64>) {
    numbers.for_each(|number| say(peer, "flooder", number, json!({"silent": true})));
}

fn cancel(peer: &mut TestPeer, number: u64) {
    peer.send(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number}}}}}"#
    ));
}

fn wait_for(server: &TestServer, expected: &[u64]) {
    let expected: Vec<(String, u64)> = expected
        .iter()
        .map(|number| ("flooder".to_owned(), *number))
        .collect();
    let mut seen = Vec::new();
    eventually(&format!("{} requests", expected.len()), || {
        seen = taken_up(server);
        (seen.len() >= expected.len()).then_some(())
    });
    assert_eq!(seen, expected);
}

/// Clients ping to see whether the connection still works, and disconnect without an answer, which waited for calls.
#[test]
fn a_ping_waits_behind_no_call_of_its_own_session() {
    for transport in BOTH {
        let server = Setup::new(transport)
            .args(&["--max-in-flight", "2"])
            .start();
        let mut peer = server.peer();
        silent(&mut peer, 0..10);
        wait_for(&server, &[0, 1]);
        for id in ["one", "after", "the", "other", "as", "often", "as", "liked"] {
            assert_eq!(peer.ask(id, "ping", json!({}))["id"], id);
        }
        // Those beyond four without an answer wait like other requests, and so do long ones.
        let filler = "x".repeat(1024);
        peer.send(&request("long", "ping", json!({"filler": filler})));
        for number in 0..6 {
            peer.send(&request(
                format!("{number}"),
                "ping",
                json!({"silent": true, "flood": number}),
            ));
        }
        server.wait_seen("\"flood\":3");
        let mut other = server.peer();
        assert_eq!(other.ask("o", "ping", json!({}))["id"], "o");
        let seen = server.seen();
        assert!(!seen.contains("\"flood\":4") && !seen.contains(&filler));
    }
}

/// A client could not cancel what its own requests waited for, since it was not read.
#[test]
fn what_is_cancelled_does_not_wait_behind_what_waits_for_it() {
    let resume =
        r#"{"jsonrpc":"2.0","method":"mcp-remote/resume","params":{"session":null,"received":0}}"#;
    for (transport, resumes) in [("tcp", false), ("ws", false), ("tcp", true), ("ws", true)] {
        let server = Setup::new(transport)
            .args(&["--max-in-flight", "1"])
            .start();
        let mut peer = server.peer();
        if resumes {
            peer.send(resume);
            assert_eq!(peer.next()["method"], "mcp-remote/resumed");
        }
        silent(&mut peer, 1..2);
        wait_for(&server, &[1]);
        // So much waits that nothing more is taken.
        let filler = "x".repeat(1 << 20);
        let big = json!({"raw": "{}", "filler": filler});
        peer.send(&request(2, "tools/call", big));
        silent(&mut peer, 3..5);
        // One that is itself not taken yet is cancelled in its turn.
        cancel(&mut peer, 4);
        cancel(&mut peer, 1);
        let next = |peer: &mut TestPeer| loop {
            let line = peer.next();
            if line["method"] != "mcp-remote/ack" {
                return line;
            }
        };
        assert_eq!(next(&mut peer)["id"], 2);
        wait_for(&server, &[1, 3]);
        cancel(&mut peer, 3);
        peer.send(&request(5, "ping", json!({})));
        assert_eq!(next(&mut peer)["id"], 5);
        assert_eq!(taken_up(&server).len(), 2, "4 has not been sent");
        // Each line is counted once, whenever it was handed over.
        while resumes && peer.next()["params"]["received"] != 8 {}
    }
}

/// A process is given a limited number of requests per session, and the next one for each that is answered or
/// cancelled; one that is cancelled before its turn never reaches it.
#[test]
fn requests_beyond_the_bound_wait_and_can_be_taken_back() {
    let server = Setup::new("tcp").args(&["--max-in-flight", "3"]).start();
    let (mut peer, mut other) = (server.peer(), server.peer());
    silent(&mut peer, 0..10);
    wait_for(&server, &[0, 1, 2]);
    assert_eq!(other.ask("o", "ping", json!({}))["id"], "o");
    cancel(&mut peer, 4);
    cancel(&mut peer, 1);
    wait_for(&server, &[0, 1, 2, 3]);
    cancel(&mut peer, 2);
    wait_for(&server, &[0, 1, 2, 3, 5]);
    // Neither has a response, and the ids are free.
    say(&mut peer, "flooder", 4, json!({}));
    for number in [6, 7, 8, 9, 0, 3, 5] {
        cancel(&mut peer, number);
    }
    assert_eq!(peer.next()["id"], 4);
    wait_for(&server, &[0, 1, 2, 3, 5, 4]);
    // A peer that leaves takes its queued requests along.
    silent(&mut peer, 20..30);
    peer.reset();
    server.log.wait_for("disconnected");
    assert_eq!(other.ask("p", "ping", json!({}))["id"], "p");
    assert!(taken_up(&server).len() <= 9);
}

/// What a process has not been given goes to its successor.
#[test]
fn what_waits_survives_a_restart() {
    let server = Setup::new("tcp").args(&["--max-in-flight", "2"]).start();
    let (mut peer, mut other) = (server.peer(), server.peer());
    silent(&mut peer, 0..2);
    say(&mut peer, "flooder", 2, json!({}));
    say(&mut peer, "flooder", 3, json!({}));
    wait_for(&server, &[0, 1]);
    other.send(&request("end", "tools/call", json!({"exit": 3})));
    assert_eq!(other.next()["error"]["data"]["reason"], "child-exited");
    let mut answers: Vec<Value> = (0..4).map(|_| peer.next()).collect();
    answers.sort_by_key(|answer| answer["id"].as_u64());
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.get("result").is_some(), number >= 2, "{answer}");
    }
    wait_for(&server, &[0, 1, 2, 3]);
}

/// Over HTTP many messages of one session wait for room at the same time: one of them was woken for each burst of
/// responses, and the others waited for ever.
#[test]
fn all_that_wait_for_room_get_it() {
    let server = TestServer::start("http");
    let session = Session::begin(server.port);
    let post = |id: u32, params| session.send("POST", &[], &call(id, params));
    let slow = || json!({"delayMs": 1000, "raw": "{}"});
    let first: Vec<Http> = (0..16).map(|id| post(id, slow())).collect();
    eventually("the calls are in flight", || {
        let seen = server.seen();
        (seen.matches("delayMs").count() == 16).then_some(())
    });
    let others = (16..16 + 256 + 60).map(|id| post(id, json!({"raw": "{}"})));
    let others: Vec<Http> = others.collect();
    for mut http in first.into_iter().chain(others) {
        assert_eq!(http.answer().status(), 200);
    }
}

/// A peer whose requests wait is not read further, so that the queue is bounded, and is read again when they are
/// answered.
#[test]
fn a_peer_with_many_waiting_requests_is_not_read() {
    let server = Setup::new("tcp")
        .args(&["--max-in-flight", "1"])
        .echo(&["--work", "1"])
        .start();
    let (mut peer, mut other) = (server.peer(), server.peer());
    let before = server.peak();
    let mut sender = peer.sender();
    let sending = thread::spawn(move || {
        let filler = "x".repeat(10_000);
        for number in 0..3_000 {
            say(
                &mut sender,
                "flooder",
                number,
                json!({"filler": filler, "raw": "{}"}),
            );
        }
    });
    for number in 0..20 {
        assert_eq!(other.ask(number, "ping", json!({}))["id"], number);
    }
    let grown = server.peak() - before;
    assert!(grown < 12_000, "{grown} KiB");
    for number in 0..3_000 {
        assert_eq!(peer.next()["id"], number);
    }
    sending.join().unwrap();
}
