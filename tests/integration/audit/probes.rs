//! Health checks, scrapes and connections that say nothing are not on record.

use super::*;
use crate::support::http::{Http, INITIALIZE};
use std::net::TcpStream;

/// Starts a server with an audit log; returns also the port of its health checks and that of its metrics.
fn start(transport: &'static str, secret: bool, audit: &Audit) -> (TestServer, [u16; 2]) {
    let setup = Setup::new(transport)
        .args(&["--audit-log", &audit.flag("log")])
        .args(&["--health", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
        .env("RUST_LOG", "debug");
    let setup = if secret { setup.secret() } else { setup };
    let server = setup.start();
    let ports = [(); 2].map(|()| server.next_listener().parse().unwrap());
    (server, ports)
}

/// The events on record, once the server has stopped.
fn on_record(server: TestServer, audit: &Audit) -> Vec<String> {
    server.stop();
    let lines = audit.lines("log").into_iter();
    lines
        .map(|line| line["event"].as_str().unwrap().to_owned())
        .collect()
}

fn assert_answers(port: u16, path: &str) {
    let mut peer = TestPeer::connect("tcp", port);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    peer.raw(request.as_bytes());
    let answer = peer.rest();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
}

/// Bug: a busy load balancer wrote 100,000 lines a day.
#[test]
fn health_checks_and_scrapes_are_not_on_record() {
    for transport in ["http", "ws", "tcp"] {
        for secret in [false, true] {
            let audit = Audit::new();
            let (server, [health, metrics]) = start(transport, secret, &audit);
            let own = (transport != "tcp").then_some(server.port);
            for port in [Some(health), Some(metrics), own].into_iter().flatten() {
                assert_answers(port, "/healthz");
                assert_answers(port, "/readyz");
            }
            assert_answers(metrics, "/metrics");
            for port in [health, metrics, server.port] {
                drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
            }
            if transport != "http" {
                // Before the server stops, which would refuse it.
                server.log.wait_for("it has said nothing");
            }
            assert_eq!(on_record(server, &audit), [""; 0], "{transport} {secret}");
        }
    }
}

#[test]
fn a_connection_over_http_is_on_record_from_its_first_sender_on() {
    let audit = Audit::new();
    let (server, _) = start("http", false, &audit);
    let mut http = Http::connect(server.port);
    http.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(http.answer().status(), 404);
    assert_eq!(audit.lines("log"), [Value::Null; 0]);
    for _ in 0..2 {
        http.send("POST", &[], INITIALIZE);
        assert_eq!(http.answer().status(), 200);
    }
    drop(http);
    assert_eq!(on_record(server, &audit), ["connect", "disconnect"]);

    let (server, _) = start("http", true, &audit);
    let mut http = Http::connect(server.port);
    http.send("POST", &[], INITIALIZE);
    assert_eq!(http.answer().status(), 401);
    let events = on_record(server, &audit);
    assert_eq!(events[2..], ["connect", "refuse", "disconnect"]);
}
