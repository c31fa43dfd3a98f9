//! Requests that are meant to do harm.

use super::client::{Http, Session};
use crate::common::{Setup, TestServer, token_with};
use crate::process::eventually;
use std::time::{Duration, Instant};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

/// L2, L3, N2: on every method. And what a page of another name reads (DNS rebinding).
#[test]
fn foreign_pages_and_hosts_reach_nothing() {
    let server = Setup::new("http")
        .args(&["--allow-origin", "https://app.example.com"])
        .start();
    let own = format!("http://localhost:{}", server.port);
    let session = Session::begin(server.port);
    for method in ["POST", "GET", "DELETE", "OPTIONS"] {
        for origin in ["http://evil.example.com", "null", "http://localhost:1"] {
            let answer = session.send(method, &[("Origin", origin)], LIST).answer();
            assert_eq!(answer.status(), 403, "L3: {method} {origin}");
            assert_eq!(answer.head.header("access-control-allow-origin"), None);
            assert!(answer.json().get("id").is_none());
        }
        let answer = session
            .send(method, &[("Host", "evil.example.com")], LIST)
            .answer();
        assert_eq!(answer.status(), 403, "{method}");
    }
    for origin in [own.as_str(), "https://app.example.com"] {
        let asked = session
            .send(
                "OPTIONS",
                &[
                    ("Origin", origin),
                    ("Access-Control-Request-Method", "POST"),
                ],
                "",
            )
            .answer();
        assert_eq!(asked.status(), 204);
        assert_eq!(
            asked.head.header("access-control-allow-origin"),
            Some(origin)
        );
        assert!(
            asked
                .head
                .header("access-control-allow-headers")
                .unwrap()
                .contains("mcp-session-id")
        );
        let listed = session.send("POST", &[("Origin", origin)], LIST).answer();
        assert_eq!(
            (
                listed.status(),
                listed.head.header("access-control-allow-origin")
            ),
            (200, Some(origin))
        );
        assert!(
            listed
                .head
                .header("access-control-expose-headers")
                .unwrap()
                .contains("mcp-session-id")
        );
    }
    // What a page can send without being asked.
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        assert_eq!(
            session
                .send("POST", &[("Content-Type", kind)], LIST)
                .answer()
                .status(),
            415
        );
    }
}

/// Whatever two readers may take differently ends in one refusal, and nothing of it reaches the child.
#[test]
fn requests_of_two_meanings_are_refused() {
    let server = TestServer::start("http");
    let evil = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"evil"}}"#;
    let body = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n",
        evil.len()
    );
    let chunked = format!("{:x}\r\n{evil}\r\n0\r\n\r\n", evil.len());
    for (what, head, body) in [
        (
            "two lengths",
            format!("Host: localhost\r\n{body}Content-Length: 3\r\n"),
            evil,
        ),
        (
            "length and chunks",
            format!("Host: localhost\r\n{body}Transfer-Encoding: chunked\r\n"),
            &chunked,
        ),
        (
            "chunks and length",
            format!("Host: localhost\r\nTransfer-Encoding: chunked\r\n{body}"),
            &chunked,
        ),
        (
            "odd encoding",
            "Host: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: xchunked\r\n"
                .to_owned(),
            &chunked,
        ),
        (
            "bad length",
            "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: +5\r\n"
                .to_owned(),
            evil,
        ),
        (
            "folded",
            format!("Host: localhost\r\n{body}X: a\r\n b\r\n"),
            evil,
        ),
        (
            "blank before colon",
            format!("Host: localhost\r\n{body}X : a\r\n"),
            evil,
        ),
        (
            "two hosts",
            format!("Host: localhost\r\nHost: evil\r\n{body}"),
            evil,
        ),
        ("no host", body.clone(), evil),
    ] {
        let mut http = Http::connect(server.port);
        http.raw(format!("POST /mcp HTTP/1.1\r\n{head}\r\n{body}").as_bytes());
        let answer = http.answer();
        assert!(answer.status() == 400, "{what}: {answer:?}");
    }
    for path in [
        "/",
        "/mcp/",
        "/MCP",
        "/%6dcp",
        "/mcp/../mcp",
        "//mcp",
        "/mcp%2f",
    ] {
        let mut http = Http::connect(server.port);
        http.raw(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{body}\r\n{evil}").as_bytes());
        assert_eq!(http.answer().status(), 404, "{path}");
    }
    assert!(!server.seen().contains("evil"));
}

#[test]
fn requests_one_behind_the_other_are_answered_in_order() {
    let server = TestServer::start("http");
    let session = Session::begin(server.port);
    let mut http = Http::connect(server.port);
    let own = [("Mcp-Session-Id", session.id.as_str())];
    for id in 1..=3 {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#);
        http.send("POST", &own, &body);
    }
    for id in 1..=3 {
        assert_eq!(http.answer().json()["id"], id);
    }
    // One that asks before it sends.
    let length = LIST.len();
    http.raw(format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nMcp-Session-Id: {}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n", session.id).as_bytes());
    assert_eq!(http.head().status, 100);
    http.raw(LIST.as_bytes());
    assert_eq!(http.answer().json()["id"], 1);
}

#[test]
fn long_and_slow_bodies_are_cut_off() {
    let server = Setup::new("http")
        .args(&["--max-message-size", "20KiB", "--auth-timeout", "1s"])
        .start();
    let session = Session::begin(server.port);
    let long = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"a":"{}"}}}}"#,
        "b".repeat(30_000)
    );
    let mut http = session.send("POST", &[], &long);
    let answer = http.answer();
    assert_eq!(
        (answer.status(), answer.head.header("connection")),
        (413, Some("close"))
    );
    let mut http = Http::connect(server.port);
    http.raw(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        let chunk = "x".repeat(0x2000);
        http.raw(format!("2000\r\n{chunk}\r\n").as_bytes());
    }
    assert_eq!(http.answer().status(), 413);
    let begun = Instant::now();
    let mut http = Http::connect(server.port);
    http.raw(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{");
    assert_eq!(http.answer().status(), 408);
    let mut silent = Http::connect(server.port);
    silent.raw(b"POST /mcp HTTP/1.1\r\nHost: local");
    assert!(silent.is_closed());
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// Bug: a client that opened more connections at once than --max-pending-per-address lost some of them
/// before it could say a word.
#[test]
fn many_connections_at_once_are_no_flood() {
    let server = TestServer::start("http");
    let session = Session::begin(server.port);
    let mut all: Vec<Http> = (0..100).map(|_| Http::connect(server.port)).collect();
    let own = [("Mcp-Session-Id", session.id.as_str())];
    for (id, http) in all.iter_mut().enumerate() {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#);
        http.send("POST", &own, &body);
    }
    for (id, http) in all.iter_mut().enumerate() {
        assert_eq!(http.answer().json()["id"], id);
    }
}

/// Whoever has no token gets no memory for a body, and no time.
#[test]
fn strangers_are_answered_before_their_body_is_read() {
    let server = Setup::new("http")
        .secret()
        .args(&["--auth-timeout", "1s"])
        .start();
    let mut http = Http::connect(server.port);
    http.raw(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 8000000\r\n\r\n");
    assert_eq!(http.answer().status(), 401);
    assert!(http.is_closed());
    let session = Session::begin_with(server.port, &token_with(&["user"]));
    assert_eq!(session.post(LIST).status(), 200);
    let required = Setup::new("http")
        .secret()
        .args(&["--require-roles", "admin"])
        .start();
    let bearer = format!("Bearer {}", token_with(&["user"]));
    let answer = Http::connect(required.port).post(&[("Authorization", &bearer)], LIST);
    assert_eq!((answer.status(), answer.code()), (403, -32001));
}

/// Bodies that have arrived in part count as memory kept for clients.
#[test]
fn half_bodies_stay_below_the_bound_of_all() {
    const LENGTH: usize = 3 << 20;
    let server = Setup::new("http").args(&["--max-backlog", "8MiB"]).start();
    let neighbour = Session::begin(server.port);
    let before = server.peak();
    let mut slow: Vec<Http> = Vec::new();
    for _ in 0..12 {
        let mut http = Http::connect(server.port);
        http.raw(
            format!(
                "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                2 * LENGTH,
                "x".repeat(LENGTH)
            )
            .as_bytes(),
        );
        slow.push(http);
    }
    eventually("all but two are ended", || {
        let log = server.log.text();
        let ended = log.matches("too much is kept for clients (--max-backlog)");
        ended.count().checked_sub(10)
    });
    assert_eq!(neighbour.post(LIST).status(), 200);
    let grown = server.peak() - before;
    assert!(grown < 26_000, "{grown} KiB");
}
