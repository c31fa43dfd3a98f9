//! The bad-input table: each entry gives one clear line or the documented error, and the server
//! continues to serve the others.

mod tokens;

use crate::common::{BOTH, SECRET, Setup, TestServer, now, request, token, token_with};
use crate::process::{assert_fails, binary, run};
use crate::wire::{BINARY, PING, TEXT, TestPeer};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::{Duration, Instant};

const NOT_JSON: &str = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error: not one JSON object"}}"#;
const NOT_UTF8: &str =
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32700,"message":"Parse error: not UTF-8"}}"#;
const TOO_DEEP: &str = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request: nested too deep"}}"#;
const INVALID_TOKEN: &str = r#"{"jsonrpc":"2.0","error":{"code":-32002,"message":"Authentication failed","data":{"reason":"Invalid token"}}}"#;

fn assert_usage(arguments: &str, says: &str) {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    assert_fails(&run(binary().args(arguments), b""), 2, says);
}

#[test]
fn missing_port() {
    assert_usage("server tcp -- cat", "--port <PORT>");
}

#[test]
fn bad_port() {
    for port in ["no", "65536", "-1", "80.5", ""] {
        let says = "invalid value";
        assert_usage(&format!("server ws --port={port} -- cat"), says);
    }
}

#[test]
fn port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = binary();
    command.args(["server", "tcp", "--port", &port, "--", "cat"]);
    assert_fails(&run(&mut command, b""), 1, &format!("port {port}: "));
}

#[test]
fn no_dashes() {
    assert_usage("server tcp --port 1 cat", "-- <CMD>");
    assert_usage("server tcp --port 1 cat", "follows '--': -- cat …");
    assert_usage("server tcp --port 1", "-- <CMD>");
    assert_usage("server tcp --port 1 --", "-- <CMD>");
}

#[test]
fn unknown_command() {
    assert_usage("serve tcp --port 1 -- cat", "'serve'");
}

#[test]
fn command_not_found() {
    for program in [
        "no-such-command",
        "./no-such-command",
        "/no/such/command",
        "",
    ] {
        let says = format!("could not start the MCP server '{program}'");
        for args in [&[][..], &["--isolate"]] {
            let setup = Setup::new("tcp").args(args).program(&[program, "x"]);
            assert_fails(&setup.run(), 1, &says);
        }
    }
}

/// The port is open before the child runs, so stdout may have shown that already.
fn assert_fails_after_start(setup: Setup, says: &str) {
    let mut outcome = setup.run();
    if outcome
        .stdout
        .starts_with("MCP Remote TCP server listening on port ")
    {
        assert_eq!(outcome.stdout.lines().count(), 1, "{outcome:?}");
        outcome.stdout.clear();
    }
    assert_fails(&outcome, 1, says);
}

#[test]
fn command_that_exits_at_once() {
    let script = "echo that will not do >&2; exit 3";
    for (program, says) in [
        (&["true"][..], "exit status: 0"),
        (&["sh", "-c", script], "(exit status: 3)"),
        (&["sh", "-c", script], "that will not do"),
        (&["sh", "-c", "kill -9 $$"], "signal: 9"),
    ] {
        assert_fails_after_start(Setup::new("tcp").program(program), says);
    }
}

#[test]
fn policy_file_missing() {
    let setup = Setup::new("tcp").secret();
    let setup = setup.args(&["--permissions-config", "/no/such/permissions.json"]);
    assert_fails(&setup.run(), 2, "/no/such/permissions.json");
}

#[test]
fn policy_file_not_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.json");
    std::fs::write(&path, "{\n  \"permissions\": nothing\n}").unwrap();
    let path = path.to_str().unwrap();
    let setup = Setup::new("tcp").secret();
    let outcome = setup.args(&["--permissions-config", path]).run();
    assert_fails(&outcome, 2, path);
    assert!(outcome.stderr.contains("line 2 column"), "{outcome:?}");
}

fn assert_policy_refused(policy: &Value, says: &str) {
    let outcome = Setup::new("tcp").policy(policy).run();
    assert_fails(&outcome, 2, says);
    assert!(outcome.stderr.contains("permissions.json"), "{outcome:?}");
}

#[test]
fn policy_file_wrong_type() {
    assert_policy_refused(&json!([]), "the file must be an object");
    let policy = json!({"permissions": {"user": {"allowedMethods": "*"}}});
    assert_policy_refused(&policy, "role 'user', key 'allowedMethods'");
}

#[test]
fn policy_file_unknown_key() {
    let policy = json!({"permissions": {"user": {"allowedMethods": [], "allowMethods": ["*"]}}});
    assert_policy_refused(&policy, "'allowMethods' in role 'user'");
    let policy = json!({"permissions": {"user": {"blockedMethods": []}}});
    assert_policy_refused(&policy, "role 'user' has no 'allowedMethods'");
}

#[test]
fn policy_without_a_secret() {
    let setup = Setup::new("tcp").args(&["--permissions-config", "permissions.example.json"]);
    assert_fails(&setup.run(), 2, "needs a secret");
}

#[test]
fn empty_secret() {
    let empty = Setup::new("tcp").env("MCP_REMOTE_JWT_SECRET", "");
    assert_fails(&empty.run(), 1, "MCP_REMOTE_JWT_SECRET is empty");
    let blank = Setup::new("tcp").args(&["--jwt-secret", " "]);
    assert_fails(&blank.run(), 1, "is empty");
}

fn impatient(transport: &'static str) -> TestServer {
    let setup = Setup::new(transport).secret();
    setup.args(&["--auth-timeout", "1s"]).start()
}

#[test]
fn nothing_at_all() {
    let timeout = |limit| String::from_utf8(mcp_remote::handshake::authentication_timeout(limit));
    assert_eq!(
        timeout(Duration::from_secs(10)).unwrap(),
        "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32003,\"message\":\"Authentication timeout\",\"data\":{\"timeout\":\"10 seconds\"}}}\n"
    );
    for transport in BOTH {
        let server = impatient(transport);
        let mut peer = server.peer();
        let answer = peer.next();
        assert_eq!(answer["error"]["code"], -32003, "{answer}");
        assert_eq!(answer["error"]["data"], json!({"timeout": "1 seconds"}));
        assert!(answer.get("id").is_none(), "{answer}");
        peer.assert_closed();
        server.assert_serving_with(&token_with(&[]));
    }
}

/// Neither slow bytes nor pings extend the deadline.
#[test]
fn hardly_anything_at_all() {
    let ping = &[0x80 | PING, 0x80, 0, 0, 0, 0];
    for (transport, drip) in [("tcp", &b"x"[..]), ("ws", ping)] {
        let server = impatient(transport);
        let begin = Instant::now();
        let mut peer = server.peer();
        peer.drip(drip);
        assert_eq!(peer.next()["error"]["code"], -32003);
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn half_an_upgrade() {
    let server = Setup::new("ws").args(&["--auth-timeout", "500ms"]).start();
    let mut peer = TestPeer::connect("tcp", server.port);
    peer.raw(b"GET / HTTP/1.1\r\n");
    peer.assert_closed();
    let mut peer = TestPeer::connect("tcp", server.port);
    peer.raw(b"this is no HTTP\r\n\r\n");
    assert_eq!(peer.next()["error"]["data"]["reason"], "wrong-transport");
    peer.assert_closed();
    server.assert_serving();
}

#[test]
fn a_line_of_10_mib() {
    let says = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request: a message is longer than 9437184 bytes","data":{"source":"mcp-remote","reason":"message-too-large","executed":"no","limit":9437184}}}"#;
    for transport in BOTH {
        let server = TestServer::start(transport);
        let mut other = server.peer();
        for first in [true, false] {
            let mut peer = server.peer();
            if !first {
                peer.begin();
            }
            peer.send(&format!("\"{}\"", "x".repeat(10 << 20)));
            assert_eq!(peer.next_line().as_deref(), Some(says), "{transport}");
            if first {
                peer.assert_closed();
            } else {
                assert_eq!(peer.ask(8, "ping", json!({}))["id"], 8);
            }
        }
        assert_eq!(other.ask(7, "ping", json!({}))["id"], 7);
        server.assert_serving();
    }
}

#[test]
fn invalid_utf8() {
    let line = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}\n";
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    peer.begin();
    peer.raw(line);
    assert_eq!(peer.next_line().as_deref(), Some(NOT_UTF8));
    assert_eq!(peer.ask(1, "ping", json!({}))["id"], 1);

    let server = TestServer::start("ws");
    let mut peer = server.peer();
    peer.begin();
    peer.frame(BINARY, line);
    assert_eq!(peer.next_line().as_deref(), Some(NOT_UTF8));
    assert_eq!(peer.ask(1, "ping", json!({}))["id"], 1);
    // In a text frame it breaks WebSocket itself (RFC 6455, 8.1).
    peer.frame(TEXT, line);
    peer.assert_closed();
    server.assert_serving();
}

/// One bad line: it gets this response, and an established connection continues.
fn assert_answered(bad: &str, says: &str) {
    for transport in BOTH {
        let server = TestServer::start(transport);
        let mut peer = server.peer();
        peer.begin();
        match transport {
            "tcp" => peer.send(bad),
            _ => peer.frame(TEXT, format!("{bad}\n").as_bytes()),
        }
        assert_eq!(peer.next_line().as_deref(), Some(says));
        assert_eq!(peer.ask(1, "ping", json!({}))["id"], 1);
        server.assert_serving();
    }
}

#[test]
fn a_lone_brace() {
    assert_answered("{", NOT_JSON);
    assert_answered("}", NOT_JSON);
}

#[test]
fn deep_nesting() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let message = |depth| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{}}}"#,
            deep(depth)
        )
    };
    let under_its_id = TOO_DEEP.replace("null", "1");
    assert_answered(&message(200), &under_its_id);
    assert_answered(&message(100_000), &under_its_id);
    assert_answered(&"[".repeat(1_000_000), TOO_DEEP);
    assert_answered(&r#"{"a":"#.repeat(100_000), TOO_DEEP);
}

/// Bug: a web page made its browser send a request with messages as its body to a port without a secret:
/// the lines of its head were answered with errors, and then the child got the body.
#[test]
fn other_protocols_are_refused() {
    let evil = request(1, "tools/call", json!({"name": "evil"}));
    let token = token_with(&["user"]);
    let http = "HTTP/1.1 400 Bad Request\r";
    let no_object = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32"#;
    for transport in BOTH {
        let open = TestServer::start(transport);
        let guarded = Setup::new(transport).secret().start();
        for (first, says) in [
            (
                "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r",
                http,
            ),
            ("OPTIONS /a HTTP/1.0\r", http),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r", http),
            ("\r\n\nGET / HTTP/1.1\r", http),
            ("SSH-2.0-OpenSSH_9.2\r", no_object),
            ("EHLO example.org\r", no_object),
            ("{", no_object),
            ("[]", no_object),
            ("\u{0}\u{3}\u{0}\u{8}!\u{12}", no_object),
        ] {
            // Over WebSocket, HTTP is just a line that is not JSON.
            let says = if transport == "tcp" { says } else { no_object };
            // A token after it has no effect either.
            let behind = format!("{evil}\n{token}\n{evil}\n");
            for mut peer in [open.peer(), guarded.peer_with(&token)] {
                peer.send(&format!("{first}\n{behind}"));
                let answer = peer.next_line().unwrap();
                assert!(answer.starts_with(says), "{first:?}: {answer}");
                assert!(!answer.contains("evil"), "{first:?}: {answer}");
                assert_eq!(peer.rest().matches("jsonrpc").count(), 0, "{first:?}");
            }
            let mut peer = guarded.peer();
            peer.send(&format!("{}\n{behind}", first.trim_start()));
            let answer = peer.next_line().unwrap();
            let invalid_token = says != http && answer == INVALID_TOKEN;
            assert!(answer == http || invalid_token, "{first:?}: {answer}");
            assert_eq!(peer.rest().matches("jsonrpc").count(), 0, "{first:?}");
        }
        open.assert_serving();
        guarded.assert_serving_with(&token);
        for server in [&open, &guarded] {
            server.log.wait_for("the first line is no MCP message");
            assert!(!server.seen().contains("evil"));
        }
    }
}

#[test]
fn eof_in_the_middle_of_a_line() {
    for transport in BOTH {
        let server = Setup::new(transport).env("DEBUG", "true").start();
        let mut peer = server.peer();
        let half = r#"{"jsonrpc":"2.0","id":1,"method":"half"#;
        match transport {
            "tcp" => peer.raw(half.as_bytes()),
            _ => peer.frame(TEXT, half.as_bytes()),
        }
        drop(peer);
        server.log.wait_for("disconnected");
        // A complete message without its newline does not count either.
        let mut peer = server.peer();
        if transport == "tcp" {
            peer.raw(br#"{"jsonrpc":"2.0","id":1,"method":"half"}"#);
            peer.shut_down();
            peer.assert_closed();
        }
        server.assert_serving();
        assert!(!server.seen().contains("half"));
    }
}

#[test]
fn a_frame_that_breaks_the_protocol() {
    let server = TestServer::start("ws");
    for head in [0x83, 0xc1, 0x80] {
        let mut peer = server.peer();
        peer.fragment(head, b"{}");
        peer.assert_closed();
    }
    server.assert_serving();
}
