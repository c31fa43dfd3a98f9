//! Connections that are not MCP clients: health checks, load balancers, browsers, port scans.

use crate::certificates::Files;
use crate::common::{BOTH, Setup, TestServer, request};
use crate::process::{Log, eventually};
use crate::wire::TestPeer;
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// The server's response to these bytes.
fn answer(port: u16, request: &str) -> String {
    let mut peer = TestPeer::connect("tcp", port);
    peer.raw(request.as_bytes());
    peer.rest()
}

fn plain(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: kube-probe/1.31\r\n\r\n")
}

/// Only the server's own log lines are above debug.
fn assert_quiet(log: &Log) {
    let log = log.text();
    let loud = |line: &&str| line.contains("peer{") && !line.contains("DEBUG");
    assert_eq!(log.lines().find(loud), None, "{log}");
}

fn with_debug(setup: Setup) -> TestServer {
    setup.env("RUST_LOG", "debug").start()
}

/// Bug: each of them was a warning, and TLS to `server http` was not logged at all.
#[test]
fn those_who_speak_something_else_are_counted() {
    let files = Files::new();
    let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03";
    let greeting = b"SSH-2.0-OpenSSH_9.2\r\n";
    for (transport, has_tls) in [
        ("tcp", false),
        ("ws", false),
        ("http", false),
        ("tcp", true),
        ("ws", true),
    ] {
        let setup = if has_tls {
            files.server(transport)
        } else {
            Setup::new(transport)
        };
        let server = with_debug(setup);
        for said in [&hello[..], greeting, b"GET / HTTP/1.0\r\n\r\n"] {
            let mut peer = TestPeer::connect("tcp", server.port);
            peer.raw(said);
            peer.rest();
        }
        // With TLS that hello is incomplete.
        let loud = if has_tls { "no TLS" } else { "speaks TLS" };
        server.log.wait_for(loud);
        let log = server.log.text();
        assert!(!log.contains("WARN peer{"), "{transport}: {log}");
    }
}

/// Bug: a plain GET got an empty reply, and each probe was a warning.
#[test]
fn a_plain_request_on_a_websocket_port_gets_a_status() {
    for setup in [Setup::new("ws"), Setup::new("ws").secret()] {
        let server = with_debug(setup);
        for (method, path, status) in [
            ("GET", "/", "426 Upgrade Required"),
            ("HEAD", "/", "426 Upgrade Required"),
            ("POST", "/mcp", "426 Upgrade Required"),
            ("OPTIONS", "*", "426 Upgrade Required"),
            ("GET", "/healthz", "200 OK"),
            ("HEAD", "/healthz", "200 OK"),
            ("GET", "/readyz", "200 OK"),
            ("HEAD", "/readyz", "200 OK"),
            ("POST", "/readyz", "426 Upgrade Required"),
        ] {
            let answer = answer(server.port, &plain(method, path));
            let head = format!("HTTP/1.1 {status}\r\n");
            assert!(answer.starts_with(&head), "{method} {path}: {answer}");
            let upgrade = answer.contains("\r\nUpgrade: websocket\r\n");
            assert_eq!(upgrade, status.starts_with("426"), "{answer}");
            let body = answer.split_once("\r\n\r\n").unwrap().1;
            assert_eq!(body.is_empty(), method == "HEAD", "{answer}");
        }
        eventually("all are logged", || {
            let log = server.log.text();
            (log.matches("answered an HTTP request").count() == 9).then_some(())
        });
        assert_quiet(&server.log);
    }
}

/// The process is live, but its MCP server is not.
#[test]
fn a_websocket_port_tells_whether_the_mcp_server_answers() {
    let server = TestServer::start("ws");
    let mut peer = server.peer();
    peer.send(&request(
        1,
        "tools/call",
        json!({"name": "x", "deaf": true}),
    ));
    server.wait_seen("deaf");
    let ready = answer(server.port, &plain("GET", "/readyz"));
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(ready.contains("\r\nRetry-After: "), "{ready}");
    let healthy = answer(server.port, &plain("GET", "/healthz"));
    assert!(healthy.starts_with("HTTP/1.1 200 "), "{healthy}");
}

#[test]
fn an_upgrade_that_is_not_valid_is_told_so() {
    let server = TestServer::start("ws");
    let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let old = format!("{upgrade}{key}Sec-WebSocket-Version: 8\r\n\r\n");
    let answered = answer(server.port, &old);
    assert!(answered.starts_with("HTTP/1.1 426 "), "{answered}");
    assert!(
        answered.contains("\r\nSec-WebSocket-Version: 13\r\n"),
        "{answered}"
    );
    let keyless = format!("{upgrade}Sec-WebSocket-Version: 13\r\n\r\n");
    let answered = answer(server.port, &keyless);
    assert!(answered.starts_with("HTTP/1.1 400 "), "{answered}");
    assert!(
        answered.contains("no valid WebSocket upgrade"),
        "{answered}"
    );
}

/// Bug: each bare connection to a port was logged as a warning.
#[test]
fn a_connection_that_says_nothing_is_no_news() {
    let files = Files::new();
    for transport in BOTH {
        for (has_tls, has_secret) in [(false, false), (false, true), (true, false), (true, true)] {
            let setup = if has_tls {
                files.server(transport)
            } else {
                Setup::new(transport)
            };
            let setup = if has_secret { setup.secret() } else { setup };
            let server = with_debug(setup.args(&["--auth-timeout", "1s"]));
            let connect = || TcpStream::connect(("127.0.0.1", server.port)).unwrap();
            let mut visits = 2;
            drop(connect());
            let reset = connect();
            let now = Some(Duration::ZERO);
            socket2::SockRef::from(&reset).set_linger(now).unwrap();
            drop(reset);
            if has_tls {
                visits += 1;
                connect().write_all(b"\x16\x03\x01\x02").unwrap();
            }
            let silent = connect();
            if has_tls || has_secret || transport == "ws" {
                visits += 1;
            }
            eventually("all are logged", || {
                let log = server.log.text();
                let ended = log.matches(": disconnected").count();
                (ended + log.matches("refused: no ").count() == visits).then_some(())
            });
            assert_quiet(&server.log);
            drop(silent);
        }
    }
}
