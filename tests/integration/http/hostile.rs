//! Malicious requests.

use crate::common::{Setup, TestServer, token_with};
use crate::process::eventually;
use crate::support::http::{Http, Session, modern, with};
use serde_json::json;
use std::time::{Duration, Instant};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

/// L2, L3, N2: on every method. And what a page of another name can read (DNS rebinding).
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
    // What a page can send without a preflight.
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

/// Only the path is accepted, with or without a slash at its end. Bug: with one it was not, and the log said nothing.
#[test]
fn look_alikes_of_the_path_are_nothing() {
    let server = TestServer::start("http");
    let head = format!(
        "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        LIST.len()
    );
    let ask = |http: &mut Http, path: &str| {
        http.raw(format!("POST {path} HTTP/1.1\r\n{head}\r\n{LIST}").as_bytes());
        http.answer().status()
    };
    for path in ["/mcp", "/mcp/"] {
        // There is no session.
        assert_eq!(ask(&mut Http::connect(server.port), path), 400, "{path}");
    }
    let paths = [
        "/",
        "/mcp//",
        "/MCP",
        "/%6dcp",
        "/mcp/../mcp",
        "//mcp",
        "/mcp%2f",
    ];
    for path in paths {
        assert_eq!(ask(&mut Http::connect(server.port), path), 404, "{path}");
    }
    // The log has one line for each connection, and not the whole of a long path.
    let mut http = Http::connect(server.port);
    let long = format!("/{}", "x".repeat(9000));
    assert_eq!([ask(&mut http, &long), ask(&mut http, "/y")], [404, 404]);
    server.log.wait_for("xxx");
    let log = server.log.text();
    let lines = log.lines().filter(|line| line.contains("no such path"));
    assert_eq!(lines.count(), paths.len() + 1, "{log}");
    assert!(
        log.contains("/mcp%2f") && !log.contains(&long[..200]),
        "{log}"
    );
}

/// Bug: only what got as far as the policy was counted.
#[test]
fn what_is_refused_before_the_policy_counts_for_the_rate_limit() {
    let (headers, body) = modern(1, "tools/list", json!({}));
    let mismatch = with(&headers, "Mcp-Method", "tools/call");
    // A request without a session, and one whose headers are those of another.
    for (headers, body) in [(&[][..], LIST), (&mismatch, &body)] {
        let limit = ["--rate-limit", "1", "--rate-burst", "2"];
        let server = Setup::new("http").args(&limit).start();
        let post = |body: &str| Http::connect(server.port).post(headers, body);
        assert_eq!([post(body).status(), post(body).status()], [400, 400]);
        let answer = post(body);
        assert!(answer.body.contains("rate-limited"), "{answer:?}");
        // What is no message waits.
        let begun = Instant::now();
        assert_eq!([post("{}").status(), post("{}").status()], [400, 400]);
        assert!(begun.elapsed() > Duration::from_secs(1));
    }
}

const JSON: &str = "Content-Type: application/json\r\n";
const CHUNKED: &str = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";

/// `LIST` in one chunk.
fn in_a_chunk() -> String {
    format!("{:x}\r\n{LIST}\r\n0\r\n\r\n", LIST.len())
}

/// The name, head and body of each; `own` puts it in a session.
fn requests_of_two_meanings(own: &str) -> Vec<(&'static str, String, String)> {
    let size = LIST.len();
    let whole = in_a_chunk();
    // Longer than the head of a request may be, which bounds trailers, too.
    let long = "x".repeat(70_000);
    vec![
        (
            "two lengths",
            format!("{own}{JSON}Content-Length: {size}\r\nContent-Length: 3\r\n"),
            LIST.to_owned(),
        ),
        (
            "a list of lengths",
            format!("{own}{JSON}Content-Length: {size}, {size}\r\n"),
            LIST.to_owned(),
        ),
        (
            "an odd encoding",
            format!("{own}{JSON}Transfer-Encoding: xchunked\r\n"),
            whole.clone(),
        ),
        (
            "a length with a sign",
            format!("{own}{JSON}Content-Length: +{size}\r\n"),
            LIST.to_owned(),
        ),
        (
            "a blank before a colon",
            format!("{own}{JSON}Content-Length : {size}\r\n"),
            LIST.to_owned(),
        ),
        (
            "no host",
            format!("{own}{JSON}Content-Length: {size}\r\n").replace("Host: localhost\r\n", ""),
            LIST.to_owned(),
        ),
        (
            "chunked is not last",
            format!("{own}{JSON}Transfer-Encoding: chunked, identity\r\n"),
            whole.clone(),
        ),
        (
            "an encoding with a tab",
            format!("{own}{JSON}Transfer-Encoding:\tchunked\x0b\r\n"),
            whole.clone(),
        ),
        (
            "a folded header",
            format!("{own}{JSON}Content-Length: 0\r\nX: a\r\n\tb\r\n"),
            String::new(),
        ),
        (
            "two hosts",
            format!("{own}{JSON}Host: evil\r\nContent-Length: {size}\r\n"),
            LIST.to_owned(),
        ),
        (
            "a size in C",
            format!("{own}{CHUNKED}"),
            format!("0x{whole}"),
        ),
        (
            "a size with a sign",
            format!("{own}{CHUNKED}"),
            format!("+{whole}"),
        ),
        (
            "a size beyond 64 bits",
            format!("{own}{CHUNKED}"),
            format!("fffffffffffffffff\r\n{LIST}\r\n0\r\n\r\n"),
        ),
        (
            "no size",
            format!("{own}{CHUNKED}"),
            format!(";a=b\r\n{LIST}\r\n0\r\n\r\n"),
        ),
        (
            "a line end in an extension",
            format!("{own}{CHUNKED}"),
            format!("{size:x};a\n{LIST}\r\n0\r\n\r\n"),
        ),
        (
            "an extension without end",
            format!("{own}{CHUNKED}"),
            format!("{size:x};{long}\r\n{LIST}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk longer than it says",
            format!("{own}{CHUNKED}"),
            format!("5\r\n{LIST}\r\n0\r\n\r\n"),
        ),
        (
            "trailers without end",
            format!("{own}{CHUNKED}"),
            format!("{size:x}\r\n{LIST}\r\n0\r\nx: {long}\r\n\r\n"),
        ),
    ]
}

/// A session, the headers of a request in it, and a complete request that must not be executed.
fn with_something_hidden(server: &TestServer) -> (Session, String, String) {
    let session = Session::begin(server.port);
    let own = format!("Host: localhost\r\nMcp-Session-Id: {}\r\n", session.id);
    let evil = r#"{"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"name":"evil"}}"#;
    let hidden = format!(
        "POST /mcp HTTP/1.1\r\n{own}{JSON}Content-Length: {}\r\n\r\n{evil}",
        evil.len()
    );
    (session, own, hidden)
}

/// The bytes after an ambiguous request are part of it to one reader, and a separate request to another: here
/// they are not a request, and the connection ends.
#[test]
fn nothing_is_smuggled_behind_a_request_of_two_meanings() {
    let server = TestServer::start("http");
    let (session, own, hidden) = with_something_hidden(&server);
    for (what, head, body) in requests_of_two_meanings(&own) {
        let mut http = Http::connect(server.port);
        http.try_raw(format!("POST /mcp HTTP/1.1\r\n{head}\r\n{body}{hidden}").as_bytes());
        let answer = http.answer();
        assert_eq!(answer.status(), 400, "{what}: {answer:?}");
        assert!(http.is_closed(), "{what}: another answer");
    }
    let whole = in_a_chunk();
    let mut http = Http::connect(server.port);
    http.try_raw(format!("POST /mcp HTTP/1.0\r\n{own}{CHUNKED}\r\n{whole}{hidden}").as_bytes());
    assert_eq!(http.answer().status(), 400, "chunks in HTTP/1.0");
    assert!(http.is_closed());
    // Chunks take precedence over a length, and nothing follows (RFC 9112, 6.1).
    for head in [
        format!("{own}{CHUNKED}Content-Length: 3\r\n"),
        format!("{own}Content-Length: 3\r\n{CHUNKED}"),
    ] {
        let mut http = Http::connect(server.port);
        http.try_raw(format!("POST /mcp HTTP/1.1\r\n{head}\r\n{whole}{hidden}").as_bytes());
        assert_eq!(http.answer().json()["id"], 1);
        assert!(http.is_closed(), "a length and chunks: another answer");
    }
    assert_eq!(session.post(LIST).status(), 200);
    assert!(!server.seen().contains("evil"));
}

#[test]
fn hosts_headers_and_expectations_have_one_meaning() {
    let server = TestServer::start("http");
    let (session, own, hidden) = with_something_hidden(&server);
    let size = LIST.len();
    // A path that contains another host.
    let mut http = Http::connect(server.port);
    http.raw(format!("POST http://evil.example.com/mcp HTTP/1.1\r\n{own}{JSON}Content-Length: {size}\r\n\r\n{LIST}").as_bytes());
    assert_eq!(
        http.answer().status(),
        400,
        "an absolute URL of another host"
    );
    // Header and body that disagree, in 2026-07-28.
    let (headers, body) = modern(6, "tools/call", json!({"name": "evil"}));
    for (name, value) in [("Mcp-Method", "tools/list"), ("Mcp-Name", "good")] {
        let answer = Http::connect(server.port).post(&with(&headers, name, value), &body);
        assert_eq!((answer.status(), answer.code()), (400, -32020), "{name}");
    }
    // A client that asks before it sends gets the status before it sends.
    let mut http = Http::connect(server.port);
    http.raw(format!("POST /mcp HTTP/1.1\r\n{own}Content-Type: text/plain\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", hidden.len()).as_bytes());
    assert_eq!(http.answer().status(), 415);
    http.try_raw(hidden.as_bytes());
    assert!(http.is_closed(), "the body was taken for a request");
    assert_eq!(session.post(LIST).status(), 200);
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
/// before it could send anything.
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

/// A client without a token gets no memory for a body, and no time.
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

/// Partly received bodies count as memory kept for clients.
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
