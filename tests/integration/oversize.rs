//! Messages that are too long: each gets an error of its own, and nothing else is affected.

use crate::common::{Setup, TestClient, TestServer, request};
use crate::questions::{ELICIT, shake_hands};
use crate::wire::{PING, TEXT, TestPeer};
use serde_json::{Value, json};

const LIMIT: usize = 64 << 10;

/// Both transports, with a shared process and with isolated ones.
const EVERYWHERE: [(&str, &[&str]); 4] = [
    ("tcp", &[]),
    ("tcp", &["--isolate"]),
    ("ws", &[]),
    ("ws", &["--isolate"]),
];

fn start(transport: &'static str, args: &[&str]) -> TestServer {
    let limit = LIMIT.to_string();
    let setup = Setup::new(transport).args(&["--max-message-size", &limit]);
    setup.args(args).start()
}

fn long(id: impl Into<Value>) -> String {
    request(id, "tools/call", json!({"x": "x".repeat(2 * LIMIT)}))
}

fn assert_too_long(answer: &Value, id: &Value) {
    let data = json!({"source": "mcp-remote", "reason": "message-too-large", "executed": "no", "limit": LIMIT});
    assert_eq!(
        (&answer["id"], &answer["error"]["data"]),
        (id, &data),
        "{answer}"
    );
    assert_eq!(answer["error"]["code"], -32600);
}

fn slow(id: u32) -> String {
    request(id, "tools/call", json!({"delayMs": 300}))
}

/// Bug: it cut the connection, and with it the calls in flight.
#[test]
fn it_is_answered_under_its_id_and_everything_else_goes_on() {
    for (transport, args) in EVERYWHERE {
        let server = start(transport, args);
        let mut peer = server.peer();
        // Also as the first line of a connection.
        peer.send(&long("first"));
        assert_too_long(&peer.next(), &json!("first"));
        peer.initialize();
        peer.send(&slow(1));
        for id in [json!(2), json!("two"), json!(2.5)] {
            peer.send(&long(id.clone()));
            assert_too_long(&peer.next(), &id);
        }
        // This needs no response.
        let note = json!({"jsonrpc": "2.0", "method": "notifications/x", "params": {"x": "x".repeat(2 * LIMIT)}});
        peer.send(&note.to_string());
        // A message without an id.
        peer.send(&format!("\"{}\"", "x".repeat(2 * LIMIT)));
        assert_too_long(&peer.next(), &Value::Null);
        assert_eq!(peer.next()["id"], 1, "{transport} {args:?}");
        assert_eq!(peer.ask(3, "ping", json!({}))["id"], 3);
        assert!(!server.seen().contains("xxxx"));
    }
}

/// The server waited for the answer until `--question-timeout`.
#[test]
fn an_answer_to_the_mcp_server_fails_its_request() {
    for (transport, args) in EVERYWHERE {
        let server = start(transport, args);
        let mut peer = server.peer();
        shake_hands(&mut peer);
        let question = peer.ask(1, "tools/call", json!({"ask": ELICIT}));
        assert_eq!(question["method"], ELICIT, "{question}");
        let result = json!({"action": "accept", "content": {"x": "x".repeat(2 * LIMIT)}});
        peer.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": result}).to_string());
        assert_eq!(peer.next()["id"], 1);
        server.wait_seen("answer-unreadable");
    }
}

/// A line may come in parts, and a frame may hold several lines.
#[test]
fn frames_that_are_too_long_are_passed_over() {
    let server = start("ws", &[]);
    let mut peer = server.peer();
    peer.begin();
    // In parts, each of which is short enough.
    let whole = long(1);
    for part in whole.as_bytes().chunks(LIMIT / 3) {
        peer.frame(TEXT, part);
    }
    assert_too_long(&peer.next(), &json!(1));
    assert_eq!(peer.ask(2, "ping", json!({}))["id"], 2);
    // In parts, the first of which is too long, with and without a newline at the end.
    for end in ["", "\n"] {
        let whole = format!("{}{end}", long(3));
        let (most, rest) = whole.split_at(whole.len() - 5);
        peer.frame(TEXT, most.as_bytes());
        peer.frame(TEXT, rest.as_bytes());
        assert_too_long(&peer.next(), &json!(3));
        assert_eq!(peer.ask(4, "ping", json!({}))["id"], 4);
    }
    // In fragments.
    for size in [1000, LIMIT - 1, LIMIT + 1, 2 * LIMIT] {
        let whole = long(5);
        for (at, part) in whole.as_bytes().chunks(size).enumerate() {
            peer.fragment(if at == 0 { TEXT } else { 0 }, part);
            if size > 1000 {
                peer.frame(PING, b"x");
            }
        }
        peer.fragment(0x80, b"");
        assert_too_long(&peer.next(), &json!(5));
        assert_eq!(peer.ask(4, "ping", json!({}))["id"], 4);
    }
    // One that is too long, and one that is not, in one frame.
    let both = format!("{}\n{}\n", long(5), request(6, "ping", json!({})));
    peer.frame(TEXT, both.as_bytes());
    assert_too_long(&peer.next(), &json!(5));
    assert_eq!(peer.next()["id"], 6);
    // Invalid, but only at its end.
    peer.frame(TEXT, format!("{{{}\n", "x".repeat(2 * LIMIT)).as_bytes());
    assert_too_long(&peer.next(), &Value::Null);
    assert_eq!(peer.ask(7, "ping", json!({}))["id"], 7);
}

/// Bug: a client without `--auto-reconnect` exited.
#[test]
fn a_client_goes_on() {
    for (transport, args) in EVERYWHERE {
        for flags in [&[][..], &["--auto-reconnect"]] {
            let server = start(transport, args);
            let mut client = TestClient::start(transport, server.port, flags, None);
            client.send(&slow(1));
            client.send(&long(2));
            assert_too_long(&client.next(), &json!(2));
            assert_eq!(client.next()["id"], 1, "{transport} {args:?} {flags:?}");
            assert_eq!(client.ask(3, "ping", json!({}))["id"], 3);
            // By now it knows the limit, and does not send the next one.
            client.send(&long(4));
            assert_too_long(&client.next(), &json!(4));
            client.close_stdin();
            assert_eq!(client.wait(), Some(0));
            let log = server.stop();
            assert_eq!(log.matches(" connected").count(), 1, "{log}");
            assert_eq!(log.matches("refused a message").count(), 1, "{log}");
        }
    }
}

/// Endless lines cost no memory.
#[test]
fn a_line_without_an_end_is_not_kept() {
    for transport in ["tcp", "ws"] {
        let server = start(transport, &[]);
        let mut peer = server.peer();
        peer.begin();
        let before = server.peak();
        let line = format!("\"{}\"", "x".repeat(100 << 20));
        std::thread::scope(|scope| {
            let mut sender: TestPeer = peer.sender();
            scope.spawn(move || sender.send(&line));
            assert_too_long(&peer.next(), &Value::Null);
        });
        let more = server.peak() - before;
        assert!(more < 8 << 10, "{transport}: {more} KiB more");
    }
}

/// Bug: the client dropped it, and the host waited forever.
#[test]
fn a_client_answers_what_is_too_long_to_be_read() {
    const MOST: usize = 64 << 20;
    for transport in ["tcp", "http"] {
        let server = TestServer::start(transport);
        let url = format!("http://127.0.0.1:{}/mcp", server.port);
        let mut client = match transport {
            "http" => TestClient::http(&url, &[], &[]),
            _ => TestClient::start(transport, server.port, &[], None),
        };
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "host", "version": "1"}});
        assert!(client.ask(1, "initialize", hello)["result"].is_object());
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        client.send(&request("long", "x", json!({"x": "x".repeat(MOST)})));
        let answer = client.next();
        assert_eq!(answer["id"], "long");
        assert_eq!(
            answer["error"],
            json!({"code": -32600, "message": "Invalid Request: a message is longer than 67108864 bytes", "data": {
                "source": "mcp-remote", "reason": "message-too-large", "executed": "no", "limit": MOST}})
        );
        assert_eq!(client.ask(2, "x", json!({}))["id"], 2);
        client.close_stdin();
        assert_eq!(client.wait(), Some(0));
    }
}
