//! Bounds that apply before authentication, and those on what users send.

use crate::common::{BOTH, Setup, TestServer, now, request, token, token_with};
use crate::process::eventually;
use crate::wire::{BINARY, PING, PONG, TEXT, TestPeer};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A silent connection from this address of the machine.
fn stranger(port: u16, from: Ipv4Addr) -> TestPeer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.connect(&to.into()).unwrap();
    TestPeer::over(socket.into())
}

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const THERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn token_of(user: &str) -> String {
    token(&json!({"user": user, "exp": now() + 3600}))
}

fn closed(peer: &mut TestPeer) -> bool {
    peer.has_more()
}

#[test]
fn a_flood_of_strangers_keeps_nobody_out() {
    for transport in BOTH {
        let args = ["--max-pending", "8", "--max-pending-per-address", "4"];
        let setup = Setup::new(transport).secret().args(&args);
        let server = setup.args(&["--max-connections", "2"]).start();
        let token = token_with(&["user"]);
        let mut user = server.peer_with(&token);
        let mut other = stranger(server.port, THERE);
        let mut flood: Vec<TestPeer> = (0..50).map(|_| stranger(server.port, HERE)).collect();
        // The newest seven of the address are left; another address is not affected.
        let left = eventually("43 strangers are pushed out", || {
            let left: Vec<bool> = flood.iter_mut().map(|peer| !closed(peer)).collect();
            (left.iter().filter(|left| **left).count() == 7).then_some(left)
        });
        assert!(left[43..].iter().all(|left| *left), "{transport}: {left:?}");
        assert!(!closed(&mut other), "{transport}");
        // They take no slots from authenticated peers, and a peer with a token gets in.
        assert_eq!(user.ask(1, "ping", json!({}))["id"], 1);
        server.assert_serving_with(&token);
        server
            .log
            .wait_for("too many connections that do not say who they are");
    }
}

/// While unauthenticated connections come as fast as possible, from many addresses, every peer with a token gets in at
/// the first attempt.
#[test]
fn users_come_in_while_strangers_keep_coming() {
    const FLOOD: usize = 64;
    for transport in BOTH {
        let args = ["--max-pending", "16", "--max-pending-per-address", "8"];
        let server = Setup::new(transport).secret().args(&args).start();
        let (port, token) = (server.port, token_with(&["user"]));
        let (stop, flooded) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for at in 2..6 {
                let (stop, flooded) = (&stop, &flooded);
                scope.spawn(move || {
                    // A few are held open; each further one drops the oldest.
                    let mut held = std::collections::VecDeque::new();
                    while !stop.load(Ordering::Relaxed) {
                        held.push_back(stranger(port, Ipv4Addr::new(127, 0, 0, at)));
                        if held.len() > 64 {
                            held.pop_front();
                        }
                        flooded.fetch_add(1, Ordering::Relaxed);
                        // Any faster, and this machine would first run out of ports.
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
            }
            // The threads end with the test, whatever its result.
            let guard = Stop(&stop);
            for served in 0..10_000 {
                if served >= 20 && flooded.load(Ordering::Relaxed) > FLOOD {
                    break;
                }
                server.assert_serving_with(&token);
            }
            drop(guard);
        });
        let flooded = flooded.into_inner();
        assert!(flooded > FLOOD, "{transport}: only {flooded} strangers");
    }
}

/// Sets the flag when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Unauthenticated peers may send 16 KiB each, and announce any length.
#[test]
fn strangers_cost_little_memory() {
    const COUNT: usize = 200;
    let count = COUNT.to_string();
    let args = ["--max-pending", &count, "--max-pending-per-address", &count];
    for transport in BOTH {
        let server = Setup::new(transport).secret().args(&args).start();
        server.assert_serving_with(&token_with(&["user"]));
        let before = server.peak();
        let filler = vec![b'x'; 15 * 1024];
        let mut strangers: Vec<TestPeer> = (0..COUNT).map(|_| server.peer()).collect();
        for stranger in &mut strangers {
            if transport == "ws" {
                // The beginning of a masked text frame of 9 MiB.
                let mut head = vec![0x81, 0xff];
                head.extend((9_u64 << 20).to_be_bytes());
                stranger.raw(&[&head[..], &[0; 4], &filler].concat());
            } else {
                stranger.raw(&filler);
            }
        }
        // A peer that connects now comes after what they have sent.
        server.assert_serving_with(&token_with(&["user"]));
        let grown = server.peak() - before;
        assert!(grown < 20_000, "{transport}: {grown} KiB");
        assert!(!closed(&mut strangers[COUNT - 1]), "{transport}");
    }
}

#[test]
fn the_largest_crowd_gives_way() {
    let args = ["--max-pending", "4", "--max-pending-per-address", "3"];
    let server = Setup::new("tcp").secret().args(&args).start();
    let mut lone = stranger(server.port, THERE);
    let mut crowd: Vec<TestPeer> = (0..3).map(|_| stranger(server.port, HERE)).collect();
    let mut third = stranger(server.port, Ipv4Addr::new(127, 0, 0, 3));
    eventually("the oldest of the crowd goes", || {
        closed(&mut crowd[0]).then_some(())
    });
    assert!(!closed(&mut lone) && !closed(&mut third) && !closed(&mut crowd[1]));
}

#[test]
fn a_token_does_not_make_a_place() {
    for transport in BOTH {
        let server = Setup::new(transport)
            .secret()
            .args(&["--max-connections", "1"])
            .start();
        let token = token_with(&["user"]);
        let mut first = server.peer_with(&token);
        let answer = server.peer().login(&token);
        assert_eq!(
            answer["error"]["message"], "Too many connections",
            "{transport}"
        );
        assert_eq!(first.ask(1, "ping", json!({}))["id"], 1);
        drop(first);
        eventually("the place is free again", || {
            let answer = server.peer().login(&token);
            (answer["result"]["authenticated"] == true).then_some(())
        });
    }
}

#[test]
fn requests_beyond_the_rate_are_refused() {
    for transport in BOTH {
        let args = ["--rate-limit", "2", "--rate-burst", "3"];
        let server = Setup::new(transport).secret().args(&args).start();
        let mut alice = server.peer_with(&token_of("alice"));
        let mut again = server.peer_with(&token_of("alice"));
        let mut bob = server.peer_with(&token_of("bob"));
        for id in 0..3 {
            assert!(
                alice.ask(id, "x", json!({})).get("result").is_some(),
                "{transport}"
            );
        }
        // Another connection of the same user changes nothing.
        let refused = again.ask("r", "only once", json!({}));
        assert_eq!(refused["id"], "r");
        assert_eq!(refused["error"]["code"], -32603);
        let mut data = refused["error"]["data"].clone();
        let wait = data["retryAfterMs"].take().as_u64().unwrap();
        assert!((1..=500).contains(&wait), "{wait}");
        let expected = json!({"source": "mcp-remote", "reason": "rate-limited", "executed": "no", "retryAfterMs": null});
        assert_eq!(data, expected);
        assert!(bob.ask(1, "x", json!({})).get("result").is_some());
        std::thread::sleep(Duration::from_millis(wait));
        assert!(again.ask("later", "x", json!({})).get("result").is_some());
        assert!(!server.seen().contains("only once"));
        server
            .log
            .wait_for("more messages than --rate-limit allows");
    }
}

#[test]
fn notifications_beyond_the_rate_wait() {
    let args = ["--rate-limit", "10", "--rate-burst", "1"];
    let server = Setup::new("tcp").args(&args).start();
    let mut peer = server.peer();
    let begin = Instant::now();
    for at in 0..6 {
        peer.send(&format!(
            r#"{{"jsonrpc":"2.0","method":"x/note","params":{{"at":{at}}}}}"#
        ));
    }
    server.wait_seen("\"at\":5");
    assert!(begin.elapsed() >= Duration::from_millis(450));
    let seen = server.seen();
    let order: Vec<u64> = seen
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["params"]["at"].as_u64())
        .collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn without_a_token_the_address_is_counted() {
    let args = ["--rate-limit", "1", "--rate-burst", "1"];
    let server = Setup::new("tcp").args(&args).start();
    let mut here = [stranger(server.port, HERE), stranger(server.port, HERE)];
    let mut there = stranger(server.port, THERE);
    assert!(here[0].ask(1, "x", json!({})).get("result").is_some());
    assert!(here[1].ask(1, "x", json!({})).get("error").is_some());
    assert!(there.ask(1, "x", json!({})).get("result").is_some());
}

#[test]
fn a_burst_needs_a_rate() {
    let outcome = Setup::new("tcp").args(&["--rate-burst", "5"]).run();
    crate::process::assert_fails(&outcome, 2, "--rate-limit");
}

#[test]
fn a_flood_of_pings_ends_its_connection() {
    let server = TestServer::start("ws");
    let (mut peer, mut other) = (server.peer(), server.peer());
    for _ in 0..90 {
        peer.frame(PING, b"hello");
    }
    // This many are allowed.
    assert_eq!(peer.ask(1, "ping", json!({}))["id"], 1);
    // An empty ping is six bytes: a flag, a length and a mask.
    peer.raw(&[0x89, 0x80, 0, 0, 0, 0].repeat(50));
    server.log.wait_for("too many pings");
    server.log.wait_for("disconnected");
    assert_eq!(other.ask(1, "ping", json!({}))["id"], 1);
    server.assert_serving();
}

#[test]
fn nothing_is_compressed() {
    let server = TestServer::start("ws");
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let (head, mut peer) = TestPeer::upgrade(server.port, offer);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(!head.to_lowercase().contains("extensions"), "{head}");
    // A frame with the compression bit violates the protocol.
    peer.fragment(0xc0 | TEXT, request(1, "ping", json!({})).as_bytes());
    peer.assert_closed();
    server.assert_serving();
}

#[test]
fn millions_of_short_lines_cost_neither_memory_nor_others_their_turn() {
    for transport in BOTH {
        let server = TestServer::start(transport);
        let (mut peer, mut other) = (server.peer(), server.peer());
        assert_eq!(other.ask(0, "ping", json!({}))["id"], 0);
        peer.begin();
        let before = server.peak();
        let lines = vec![b'\n'; 1 << 20];
        if transport == "ws" {
            peer.frame(BINARY, &lines);
        } else {
            peer.raw(&lines);
        }
        let begin = Instant::now();
        assert_eq!(other.ask(1, "ping", json!({}))["id"], 1);
        assert!(begin.elapsed() < Duration::from_secs(2), "{transport}");
        assert_eq!(peer.next_line().as_deref(), Some(EMPTY));
        peer.assert_closed();
        let grown = server.peak() - before;
        assert!(grown < 20_000, "{transport}: {grown} KiB");
    }
}

const EMPTY: &str = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request: too many empty lines, empty frames or acknowledgements"}}"#;

/// Bug: frames without a message were not counted, and no other peer had a turn until they
/// were read.
#[test]
fn a_flood_of_what_holds_no_message_ends_its_connection() {
    let ack = r#"{"jsonrpc":"2.0","method":"mcp-remote/ack","params":{"received":0}}"#;
    let resume =
        r#"{"jsonrpc":"2.0","method":"mcp-remote/resume","params":{"session":null,"received":0}}"#;
    type Send = fn(&mut TestPeer, &str);
    let cases: [(&str, &str, Send); 8] = [
        ("ws", "empty frames", |peer, _| peer.frame(TEXT, b"")),
        ("ws", "pongs", |peer, _| peer.frame(PONG, b"x")),
        ("ws", "empty parts of a message", |peer, _| {
            peer.fragment(0, b"")
        }),
        ("ws", "small parts of a line", |peer, _| {
            peer.frame(TEXT, b"{")
        }),
        ("ws", "blank lines", |peer, _| peer.frame(TEXT, b"\n")),
        ("tcp", "blank lines", |peer, _| peer.raw(b" \n")),
        ("tcp", "acknowledgements", |peer, ack| peer.send(ack)),
        ("tcp", "acknowledgements of a session", |peer, ack| {
            peer.send(ack)
        }),
    ];
    for (transport, what, send) in cases {
        let server = Setup::new(transport)
            .args(&["--rate-limit", "1000"])
            .start();
        let (mut peer, mut other) = (server.peer(), server.peer());
        if what.ends_with("session") {
            peer.send(resume);
            assert_eq!(peer.next()["method"], "mcp-remote/resumed");
        } else {
            peer.begin();
        }
        if what == "empty parts of a message" {
            peer.fragment(TEXT, b"");
        }
        // More than the rate allows in a second, beyond the burst.
        for round in 0.. {
            (0..500).for_each(|_| send(&mut peer, ack));
            assert_eq!(other.ask(round, "ping", json!({}))["id"], round, "{what}");
            if peer.is_readable() {
                break;
            }
            assert!(round < 1_000, "{what}: nobody minds");
        }
        assert_eq!(peer.next_line().as_deref(), Some(EMPTY), "{what}");
        peer.assert_closed();
        server.log.wait_for("too many empty lines");
        other.ask("after", "ping", json!({}));
    }
}

/// Bug: endless output from one peer's process kept all others waiting, who have their own
/// processes.
#[test]
fn a_process_that_never_stops_talking_keeps_nobody_waiting() {
    let server = Setup::new("tcp").args(&["--isolate"]).start();
    let (mut peer, mut other) = (server.peer(), server.peer());
    assert_eq!(other.ask(0, "ping", json!({}))["id"], 0);
    let lines = "x\n".repeat(1_000_000);
    peer.send(&request(1, "talk", json!({"print": lines})));
    // Until it has been read; who waited for that would get one answer.
    let mut answers = 0;
    while !peer.is_readable() {
        answers += 1;
        assert_eq!(other.ask(answers, "ping", json!({}))["id"], answers);
    }
    assert_eq!(peer.next()["id"], 1);
    assert!(answers > 100, "{answers}");
}

/// Each message may be a small frame, and a little white space between messages is harmless.
#[test]
fn small_messages_are_not_taken_for_empty_ones() {
    let note = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    for transport in BOTH {
        let server = TestServer::start(transport);
        let mut peer = server.peer();
        for at in 0..20_000 {
            peer.send(note);
            if at % 10 == 0 {
                peer.send("");
            }
        }
        assert_eq!(peer.ask(1, "ping", json!({}))["id"], 1, "{transport}");
    }
}
