//! How fast clients exit, and what the user sees meanwhile.

use crate::common::{BOTH, TestClient, client_command};
use crate::load::{AGAIN, ALERT, Host, Tally, stop};
use crate::process::{eventually, is_alive, wait_gone};
use crate::relay::{Fault, Relay};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Two seconds, with a margin for a busy machine.
const SOON: Duration = Duration::from_millis(2500);

#[test]
fn a_client_leaves_soon_whatever_the_wire_does() {
    for transport in BOTH {
        for (fault, signal) in [
            (None, None),
            (None, Some(Signal::TERM)),
            (Some(Fault::BlackHole), None),
            (Some(Fault::BlackHole), Some(Signal::TERM)),
            (Some(Fault::Stall), None),
            (Some(Fault::Reset), None),
            (Some(Fault::Reset), Some(Signal::INT)),
        ] {
            let tally = Tally::new();
            let server = tally.server(transport).start();
            let relay = Relay::new(server.port);
            let mut host = Host::start(transport, relay.port, 1, false);
            host.initialize();
            host.ask_sized(0, 1, 1, 0);
            host.hear_until(0);
            if let Some(fault) = fault {
                relay.refuse(true);
                relay.strike(fault, 0);
            }
            let began = Instant::now();
            match signal {
                Some(signal) => host.client.signal(signal),
                None => host.client.close_stdin(),
            }
            wait_gone(host.client.pid());
            assert!(
                began.elapsed() < SOON,
                "{fault:?} {signal:?} {:?}",
                began.elapsed()
            );
            assert_eq!(host.client.wait(), Some(0), "{fault:?} {signal:?}");
        }
    }
}

/// Bug: the end of stdin was not noticed while a connection was being made.
#[test]
fn a_client_that_gets_no_answer_leaves_with_its_host() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut command = client_command("ws", port);
    let mut client = command.args(AGAIN).stdin(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    drop(client.stdin.take());
    let began = Instant::now();
    client.wait().unwrap();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

/// Bug: a host that no longer reads was noticed only at the second message after that.
#[test]
fn a_client_leaves_when_nobody_reads_it() {
    let tally = Tally::new();
    let server = tally.server("tcp").start();
    let mut command = client_command("tcp", server.port);
    let mut client = command
        .args([AGAIN, ALERT].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = client.stdin.take().unwrap();
    writeln!(
        stdin,
        "{}",
        crate::common::request(1, "x", serde_json::json!({}))
    )
    .unwrap();
    let mut stdout = BufReader::new(client.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    drop(stdout);
    writeln!(
        stdin,
        "{}",
        crate::common::request(2, "x", serde_json::json!({}))
    )
    .unwrap();
    let began = Instant::now();
    client.wait().unwrap();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    stop(server);
}

#[test]
fn a_second_signal_ends_a_server_at_once() {
    let tally = Tally::new();
    let mut server = tally
        .server("tcp")
        .args(&["--drain-timeout", "60s"])
        .start();
    let mut host = Host::start("tcp", server.port, 1, false);
    host.loses = true;
    host.initialize();
    host.ask_sized(0, 1, 1, 60_000);
    eventually("it is executed", || {
        (!tally.executed(1).is_empty()).then_some(())
    });
    server.signal(Signal::TERM);
    server.log.wait_for("a second signal ends at once");
    std::thread::sleep(Duration::from_millis(300));
    assert!(is_alive(server.pid()), "it waits for what is in flight");
    eventually("it does not listen any more", || {
        let refused = TcpStream::connect(("127.0.0.1", server.port));
        refused.is_err().then_some(())
    });
    assert!(is_alive(server.pid()), "it waits for what is in flight");
    let began = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_millis(1500),
        "{:?}",
        began.elapsed()
    );
    host.client.signal(Signal::TERM);
    host.client.wait_unheard();
}

/// Bug: each connection on which the server sent nothing logged a line, and none counted as an attempt.
#[test]
fn a_lost_connection_and_its_return_are_one_line_each() {
    for transport in BOTH {
        let tally = Tally::new();
        let server = tally.server(transport).start();
        let relay = Relay::new(server.port);
        let mut host = Host::start(transport, relay.port, 1, false);
        host.initialize();
        for round in 1..=2 {
            relay.refuse(true);
            relay.strike(Fault::Reset, 0);
            let before = relay.connections();
            eventually("it tries and tries", || {
                (relay.connections() > before + 7).then_some(())
            });
            relay.refuse(false);
            host.ask_sized(round, 1, 1, 0);
            host.hear_until(0);
            // Lines are written by a thread of their own.
            host.client
                .log
                .wait_for_times("reconnected", round as usize);
            let log = host.client.log.text();
            let lines = |part: &str| log.matches(part).count();
            assert_eq!(lines("connection lost") as u64, round, "{log}");
            assert_eq!(lines("reconnected") as u64, round, "{log}");
            let back = log.lines().rfind(|line| line.contains("reconnected"));
            let back = back.unwrap_or_default();
            assert!(
                back.contains("after=") && back.contains("resent="),
                "{back}"
            );
        }
        host.leave();
        stop(server);
    }
    // A host that accepts and disconnects is tried as often as one that refuses.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || while listener.accept().is_ok() {});
    let args = [
        "--auto-reconnect",
        "--reconnect-delay",
        "10",
        "--max-attempts",
        "4",
    ];
    let mut client = TestClient::start("tcp", port, &args, None);
    client.send(&crate::common::request(1, "x", serde_json::json!({})));
    assert_eq!(client.next()["error"]["code"], -32603);
    assert_eq!(client.wait(), Some(1));
    let log = client.log.to_the_end();
    assert!(log.contains("after 4 tries"), "{log}");
    assert_eq!(
        log.matches("connection lost, reconnecting").count(),
        1,
        "{log}"
    );
}
