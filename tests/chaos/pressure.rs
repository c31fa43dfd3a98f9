//! A peer that does not read gets bounded backpressure, and no other peer waits.

use crate::common::request;
use crate::load::{ALERT, Host, Tally, stop};
use crate::process::{eventually, memory};
use crate::wire::TestPeer;
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A process's resident memory, in MiB.
pub fn resident(pid: u64) -> u64 {
    memory(pid, "VmRSS") / 1024
}

/// Another client is served promptly.
fn assert_quick(transport: &str, port: u16) {
    let mut other = Host::start(transport, port, 9, false);
    other.initialize();
    for n in 0..20 {
        let began = Instant::now();
        other.ask_sized(n, 100, 100, 0);
        other.hear_until(0);
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "slowed: {:?}",
            began.elapsed()
        );
    }
    other.leave();
}

/// A host that requests 48 MiB and reads nothing for a while gets all of it later.
#[test]
fn a_slow_host_loses_nothing() {
    for transport in crate::common::BOTH {
        let tally = Tally::new();
        let server = tally.server(transport).start();
        let mut command = crate::common::client_command(transport, server.port);
        let mut client = command
            .args(ALERT)
            .args(["--auto-reconnect"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = client.stdin.take().unwrap();
        for n in 0..48 {
            let params = json!({"client": 1, "n": n, "reply": 1 << 20});
            writeln!(stdin, "{}", request(n, "x", params)).unwrap();
        }
        eventually("all is executed", || {
            (tally.executed(1).len() == 48).then_some(())
        });
        // Longer than the keepalive timeout.
        std::thread::sleep(Duration::from_secs(3));
        assert_quick(transport, server.port);
        let (near, far) = (resident(client.id().into()), resident(server.pid()));
        println!("{transport}, slow host: client {near} MiB, server {far} MiB");
        assert!(
            near < 64 && far < 180,
            "client {near} MiB, server {far} MiB"
        );
        let mut stdout = BufReader::new(client.stdout.take().unwrap());
        for n in 0..48 {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            assert!(
                line.len() > 1 << 20 && line.contains(&format!("\"id\":{n},")),
                "{n}"
            );
        }
        drop(stdin);
        assert!(client.wait().unwrap().success());
        let log = server.log.text();
        assert!(!log.contains("waiting for the client"), "{log}");
        stop(server);
    }
}

/// A peer that never reads is cut at its bound.
#[test]
fn a_peer_that_does_not_read_is_cut() {
    let tally = Tally::new();
    let server = tally.server("tcp").start();
    let mut peer = TestPeer::connect("tcp", server.port);
    peer.send(
        r#"{"jsonrpc":"2.0","method":"mcp-remote/resume","params":{"session":null,"received":0}}"#,
    );
    for n in 0..90 {
        peer.send(&request(
            n,
            "x",
            json!({"client": 1, "n": n, "reply": 1 << 20}),
        ));
    }
    let mut most = 0;
    eventually("it is cut", || {
        most = most.max(resident(server.pid()));
        server.log.text().contains("queue is full").then_some(())
    });
    println!("slow peer: server {most} MiB at most");
    assert!(most < 220, "{most} MiB");
    assert_quick("tcp", server.port);
    stop(server);
}

/// Bug: behind an MCP server that reads nothing, acknowledgements and keepalives were not read:
/// the connection was cut for silence, again and again.
#[test]
fn a_child_that_stops_reading_stops_its_clients() {
    for transport in crate::common::BOTH {
        let tally = Tally::new();
        let server = tally.server(transport).start();
        let mut command = crate::common::client_command(transport, server.port);
        let mut client = command
            .args([crate::load::AGAIN, ALERT].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = client.stdin.take().unwrap();
        let answers = crate::process::lines_of(client.stdout.take().unwrap());
        writeln!(stdin, "{}", request(0, "x", json!({"client": 1, "n": 0}))).unwrap();
        answers.recv_timeout(Duration::from_secs(10)).unwrap();
        let child: i32 = tally
            .text()
            .split_whitespace()
            .last()
            .unwrap()
            .parse()
            .unwrap();
        let child = rustix::process::Pid::from_raw(child).unwrap();
        rustix::process::kill_process(child, rustix::process::Signal::STOP).unwrap();
        let host = std::thread::spawn(move || {
            let pad = "p".repeat(1 << 20);
            for n in 1..=160 {
                let params = json!({"client": 1, "n": n, "pad": pad});
                writeln!(stdin, "{}", request(n, "x", params)).unwrap();
            }
            stdin
        });
        std::thread::sleep(Duration::from_secs(5));
        assert!(!host.is_finished(), "the host is not held back");
        let (near, far) = (resident(client.id().into()), resident(server.pid()));
        println!("{transport}, deaf child: client {near} MiB, server {far} MiB");
        assert!(
            near < 180 && far < 100,
            "client {near} MiB, server {far} MiB"
        );
        rustix::process::kill_process(child, rustix::process::Signal::CONT).unwrap();
        for n in 1..=160 {
            let line = answers.recv_timeout(Duration::from_secs(20)).unwrap();
            assert!(line.contains(&format!("\"id\":{n},")), "{line}");
        }
        drop(host.join().unwrap());
        assert!(client.wait().unwrap().success());
        let mut log = String::new();
        client
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        assert!(!log.contains("lost"), "{log}");
        assert_eq!(tally.executed(1), (0..=160).collect::<Vec<_>>());
        stop(server);
    }
}

/// Bug: acknowledgements waited for a pause in the outgoing data, and the backlog of the far end
/// filled up meanwhile.
#[test]
fn heavy_traffic_both_ways_fills_no_backlog() {
    let tally = Tally::new();
    let server = tally.server("tcp").start();
    let mut host = Host::start("tcp", server.port, 1, false);
    host.initialize();
    for n in 0..120 {
        host.ask_sized(n, 1 << 20, 1 << 20, 0);
    }
    host.hear_until(0);
    host.leave();
    let log = host.client.log.text();
    assert!(!log.contains("lost"), "{log}");
    stop(server);
}

/// Bug: empty lines were not counted while the MCP server read nothing, and what was read
/// ahead from all clients together had no bound.
#[test]
fn what_is_read_ahead_is_bounded() {
    let hello =
        r#"{"jsonrpc":"2.0","method":"mcp-remote/resume","params":{"session":null,"received":0}}"#;
    let deaf = || {
        let server = crate::common::Setup::new("tcp").start();
        let mut peer = TestPeer::connect("tcp", server.port);
        peer.ask(1, "x", json!({"deaf": true}));
        // More than the pipe holds, and more than may wait for it.
        let pad = "p".repeat(1 << 20);
        for id in 2..4 {
            peer.send(&request(id, "x", json!({"pad": pad})));
        }
        (server, peer)
    };
    // Sends until nothing more is accepted.
    let flood = |port: u16, bytes: Vec<u8>, limit: usize| {
        std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(format!("{hello}\n").as_bytes()).unwrap();
            let blocked = Some(Duration::from_millis(1500));
            stream.set_write_timeout(blocked).unwrap();
            let mut sent = 0;
            while sent < limit && stream.write_all(&bytes).is_ok() {
                sent += bytes.len();
            }
            (stream, sent)
        })
    };
    let (server, _peer) = deaf();
    let before = resident(server.pid());
    let (_stream, sent) = flood(server.port, vec![b'\n'; 64 << 10], 24 << 20)
        .join()
        .unwrap();
    let grown = resident(server.pid()) - before;
    println!("{sent} empty lines: {grown} MiB");
    assert!(grown < 40, "{grown} MiB");
    drop(server);

    let (server, _peer) = deaf();
    let before = resident(server.pid());
    let line = json!({"jsonrpc": "2.0", "method": "x", "params": {"pad": "p".repeat(100_000)}});
    let floods: Vec<_> = (0..40)
        .map(|_| flood(server.port, format!("{line}\n").into_bytes(), 6 << 20))
        .collect();
    let _streams: Vec<_> = floods
        .into_iter()
        .map(|flood| flood.join().unwrap())
        .collect();
    let grown = resident(server.pid()) - before;
    println!("40 clients read ahead: {grown} MiB");
    // 64 MiB read ahead or waiting for their turn, a line or two per client, and what the allocator keeps;
    // they would have sent 240 MiB.
    assert!(grown < 110, "{grown} MiB");
}
