//! What else the port serves: health checks, and WebSocket.

use crate::certificates::Files;
use crate::common::{Setup, TestServer, token_with};
use crate::support::http::{Http, Session, call};
use crate::wire::TestPeer;
use serde_json::json;
use std::time::{Duration, Instant};

fn get(port: u16, path: &str) -> (u16, String) {
    let mut http = Http::connect(port);
    http.raw(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    let answer = http.answer();
    (answer.status(), answer.body)
}

/// Without a token, since health checkers have none.
#[test]
fn health_is_told_to_everybody() {
    let server = Setup::new("http").secret().start();
    assert_eq!(get(server.port, "/healthz").0, 200);
    assert_eq!(get(server.port, "/readyz").0, 200);
    server.wait_seen("\"ping\"");
    assert_eq!(get(server.port, "/mcp").0, 401);
    assert_eq!(get(server.port, "/healthz/").0, 404);
}

/// Readiness is the MCP server's: while it hangs, the server is not ready, but the process is live.
#[test]
fn a_server_that_hangs_is_not_ready() {
    let server = Setup::new("http").start();
    let session = Session::begin(server.port);
    let _hangs = session.send("POST", &[], &call(1, json!({"name": "x", "deaf": true})));
    server.wait_seen("deaf");
    assert_eq!(get(server.port, "/readyz").0, 503);
    assert_eq!(get(server.port, "/healthz").0, 200);
    // The result is cached for a while: health checks do not pile up.
    let begun = Instant::now();
    assert_eq!(get(server.port, "/readyz").0, 503);
    assert!(begun.elapsed() < Duration::from_secs(2));
}

/// Whatever the main port speaks, this one serves plain HTTP, and only health checks.
#[test]
fn health_has_a_port_of_its_own() {
    let files = Files::new();
    let health = ["--health", "127.0.0.1:0"];
    for (setup, secure) in [(files.server("tcp"), true), (Setup::new("ws"), false)] {
        let server = setup.secret().args(&health).start();
        let port = server.next_listener().parse().unwrap();
        assert_eq!(get(port, "/healthz").0, 200);
        assert_eq!(get(port, "/readyz").0, 200);
        assert_eq!(get(port, "/mcp").0, 404);
        assert_eq!(get(port, "/").0, 404);
        let mut http = Http::connect(port);
        http.raw(b"POST /healthz HTTP/1.1\r\nHost: pod:9090\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(http.answer().status(), 404);
        let mut http = Http::connect(port);
        http.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example.com\r\n\r\n");
        assert_eq!(http.answer().status(), 403);
        if !secure {
            server.assert_serving_with(&token_with(&["user"]));
        }
    }
}

#[test]
fn a_modern_server_is_ready() {
    let server = Setup::new("http").echo(&["--modern"]).start();
    assert_eq!(get(server.port, "/readyz").0, 200);
}

#[test]
fn an_upgrade_on_the_path_is_a_websocket_peer() {
    let server = Setup::new("http").secret().start();
    let token = token_with(&["user"]);
    let session = Session::begin_with(server.port, &token);
    let (head, mut peer) = TestPeer::upgrade_at(server.port, "/mcp", "");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let answer = peer.login(&token);
    assert_eq!(answer["result"]["authenticated"], true, "{answer}");
    peer.send(r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#);
    assert_eq!(peer.next()["id"], 7);
    assert_eq!(
        session
            .post(r#"{"jsonrpc":"2.0","id":8,"method":"tools/list"}"#)
            .json()["id"],
        8
    );
    let (_, mut stranger) = TestPeer::upgrade_at(server.port, "/mcp", "");
    assert_eq!(stranger.login("x")["error"]["code"], -32002);
    stranger.assert_closed();
    let foreign = "Origin: http://evil.example.com\r\n";
    let (head, _) = TestPeer::upgrade_at(server.port, "/mcp", foreign);
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let (head, _) = TestPeer::upgrade_at(server.port, "/", "");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let (head, mut peer) = TestPeer::upgrade_at(server.port, "/mcp", &bearer);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(peer.ask(9, "tools/list", json!({}))["id"], 9);
}

/// Bug: a reverse proxy uses its connections again, and then an upgrade was accepted and the connection
/// closed.
#[test]
fn an_upgrade_may_follow_requests_on_the_same_connection() {
    let token = token_with(&["user"]);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let flags = ["--max-connections", "1", "--max-pending", "1"];
    let server = Setup::new("http").secret().args(&flags).start();
    let mut peer = TestPeer::connect("tcp", server.port);
    let (head, body) = peer.post(
        "/mcp",
        &bearer,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
    );
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}{body}");
    let head = peer.switch("/mcp", "");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    // The first user's token does not count for it.
    let answer = peer.login(&token);
    assert_eq!(answer["result"]["authenticated"], true, "{answer}");
    assert_eq!(peer.ask(2, "tools/list", json!({}))["id"], 2);
}

/// A request that comes while the MCP server is restarting waits, and finds its session.
#[test]
fn sessions_outlive_their_mcp_server() {
    let server = TestServer::start("http");
    let session = Session::begin(server.port);
    let lost = session.post(&call(1, json!({"name": "x", "exit": 3})));
    assert_eq!(lost.json()["error"]["data"]["reason"], "child-exited");
    let mut general = session.listen("");
    let again = session.post(&call(
        2,
        json!({"name": "x", "notify": "notifications/tools/list_changed"}),
    ));
    assert_eq!((again.status(), &again.json()["id"]), (200, &json!(2)));
    assert!(general.event().is_some());
}
