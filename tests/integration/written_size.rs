//! Limits on what is written: some characters grow when written, so what came in below a limit may go
//! out above it.

use crate::common::{BOTH, Setup, TestClient, TestServer, request, token_with};
use crate::wire::{Acceptor, TestPeer};
use serde_json::{Value, json};

/// The default of `--max-message-size`: a server on the TypeScript SDK exits above 10 MiB.
const TO_CHILD: usize = 9 << 20;

/// The longest line that our client accepts.
const TO_CLIENT: usize = (64 << 20) + (64 << 10);

/// Escaped, they are three times as long, and twice.
const NEXT_LINE: &str = "\u{85}";
const LINE_SEPARATOR: &str = "\u{2028}";

/// Both transports, with a shared process and with isolated ones.
const EVERYWHERE: [(&str, &[&str]); 4] = [
    ("tcp", &[]),
    ("tcp", &["--isolate"]),
    ("ws", &[]),
    ("ws", &["--isolate"]),
];

/// For slow tests: both of each, but not all combinations.
const HERE_AND_THERE: [(&str, &[&str]); 2] = [EVERYWHERE[0], EVERYWHERE[3]];

fn filled(fill: &str, bytes: usize) -> String {
    fill.repeat(bytes / fill.len())
}

/// The error for a message that would be too long.
fn assert_refused(answer: &Value, id: impl Into<Value>, limit: usize) {
    assert_eq!(answer["id"], id.into(), "{answer}");
    assert_eq!(answer["error"]["code"], -32600);
    let data = json!({"source": "mcp-remote", "reason": "message-too-large", "executed": "no", "limit": limit});
    assert_eq!(answer["error"]["data"], data);
}

/// No line that the MCP server received exceeds the limit.
fn assert_short(server: &TestServer, limit: usize) {
    let longest = server.seen().lines().map(str::len).max();
    assert!(longest.unwrap_or_default() <= limit, "{longest:?}");
}

/// 5 MB from a peer with few rights made a line of 15 MB, which ended MCP servers.
#[test]
fn a_message_that_grows_beyond_the_limit_is_refused() {
    let policy = json!({"permissions": {"readonly": {"allowedMethods": ["initialize", "ping", "notifications/progress"]}}});
    for (transport, args) in HERE_AND_THERE {
        let server = Setup::new(transport).policy(&policy).args(args).start();
        let token = token_with(&["readonly"]);
        let (mut peer, mut other) = (server.peer_with(&token), server.peer_with(&token));
        peer.initialize();
        other.initialize();
        for fill in [NEXT_LINE, LINE_SEPARATOR] {
            let params = json!({"x": filled(fill, 5_000_000)});
            assert_refused(
                &peer.ask("grows", "ping", params.clone()),
                "grows",
                TO_CHILD,
            );
            // A notification gets no error.
            let line =
                json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
            peer.send(&line.to_string());
            let asked = peer.ask(1, "ping", json!({"x": filled(fill, 100_000)}));
            assert_eq!(asked["id"], 1, "{transport} {args:?}");
            assert!(asked.get("result").is_some());
        }
        assert_eq!(other.ask(2, "ping", json!({}))["id"], 2);
        server
            .log
            .wait_for("longer than --max-message-size as it is written");
        assert_short(&server, TO_CHILD);
        assert!(!server.seen().contains("notifications/progress"));
        assert!(!server.log.text().contains("starting it again"));
    }
}

/// One such message was enough, as the first for a process: 8 MB, which became 16.
#[test]
fn the_first_message_may_not_grow_either() {
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    let pad = filled(LINE_SEPARATOR, 8_000_000);
    assert_refused(&peer.ask(7, "ping", json!({"x": pad})), 7, TO_CHILD);
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": pad, "version": "1"}});
    assert_refused(&peer.ask(7, "initialize", params), 7, TO_CHILD);
    assert_eq!(peer.initialize()["id"], "initialize");
    assert_short(&server, TO_CHILD);
}

/// The same for everything that is kept for the next process, or until a handshake is complete.
#[test]
fn nothing_that_is_kept_may_grow_beyond_the_limit() {
    const LIMIT: usize = 64 << 10;
    let limit = LIMIT.to_string();
    let pad = filled(LINE_SEPARATOR, LIMIT / 5 * 4);
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    for (transport, args) in EVERYWHERE {
        for (method, params) in [
            (
                "initialize",
                json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": pad, "version": "1"}}),
            ),
            ("server/discover", json!({"_meta": meta, "x": pad})),
            ("subscriptions/listen", json!({"_meta": meta, "x": pad})),
            (
                "tools/call",
                json!({"_meta": {"progressToken": "t"}, "x": pad}),
            ),
            ("resources/subscribe", json!({"uri": "x:1", "x": pad})),
            ("resources/subscribe", json!({"uri": pad})),
            ("logging/setLevel", json!({"level": "info", "x": pad})),
            (&pad, json!({})),
        ] {
            let setup = Setup::new(transport).args(args);
            let server = setup.args(&["--max-message-size", &limit]).start();
            let mut peer = server.peer();
            assert_refused(&peer.ask(7, method, params), 7, LIMIT);
            assert_eq!(peer.initialize()["id"], "initialize", "{transport}");
            assert_eq!(peer.ask(8, "ping", json!({}))["id"], 8);
            assert_short(&server, LIMIT);
        }
    }
}

/// A peer's answer is written for the MCP server, too; its question does not stay open.
#[test]
fn an_answer_of_a_peer_that_grows_fails_the_question() {
    for (transport, args) in EVERYWHERE {
        let server = Setup::new(transport).args(args).start();
        let mut peer = server.peer();
        let able = json!({"protocolVersion": "2025-11-25", "capabilities": {"sampling": {}}, "clientInfo": {"name": "x", "version": "1"}});
        peer.ask(0, "initialize", able);
        peer.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        peer.send(&request(1, "x", json!({"ask": "sampling/createMessage"})));
        let question = loop {
            let line = peer.next();
            if line["method"] == "sampling/createMessage" {
                break line["id"].clone();
            }
        };
        let answer = json!({"jsonrpc": "2.0", "id": question, "result": {"x": filled(NEXT_LINE, 4_000_000)}});
        peer.send(&answer.to_string());
        let heard = server.wait_seen("\"asked\"");
        let heard: Value = serde_json::from_str(&heard).unwrap();
        assert_eq!(heard["error"]["code"], -32603, "{transport} {args:?}");
        assert_eq!(heard["error"]["data"]["reason"], "answer-too-large");
        assert_short(&server, TO_CHILD);
    }
}

/// Towards the client the limit is what ours accepts: nothing longer is sent.
#[test]
fn what_grows_beyond_what_a_client_takes_is_answered() {
    for (transport, args) in HERE_AND_THERE {
        let server = Setup::new(transport).args(args).start();
        let mut peer = server.peer();
        peer.initialize();
        let answer = peer.ask(1, "x", json!({"fill": NEXT_LINE, "bytes": 23_000_000}));
        assert_eq!(answer["id"], 1, "{transport} {args:?}");
        let data =
            json!({"source": "mcp-remote", "reason": "answer-too-large", "executed": "unknown"});
        assert_eq!(answer["error"]["data"], data);
        // What is within the limit arrives, and a notification above it is dropped.
        let params = json!({"fill": LINE_SEPARATOR, "bytes": 20_000_000, "notify": "notifications/message", "notifyBytes": 40_000_000});
        let answer = peer.ask(2, "x", params);
        assert_eq!(answer["id"], 2);
        assert_eq!(
            answer["result"]["blob"].as_str().map(str::len),
            Some(19_999_998)
        );
        let params = json!({"fill": NEXT_LINE, "ask": "roots/list", "askBytes": 23_000_000});
        assert_eq!(peer.ask(3, "x", params)["id"], 3);
        let refusal: Value = serde_json::from_str(&server.wait_seen("\"asked\"")).unwrap();
        assert!(refusal.get("error").is_some(), "{refusal}");
    }
}

/// Client and server used to send such a line forever, with a connection for each attempt.
#[test]
fn an_answer_that_grows_beyond_what_the_client_takes_reaches_the_host_as_an_error() {
    for (transport, args) in HERE_AND_THERE {
        let server = Setup::new(transport).args(args).start();
        let mut client = TestClient::start(transport, server.port, &["--auto-reconnect"], None);
        let answer = client.ask(1, "x", json!({"fill": NEXT_LINE, "bytes": 23_000_000}));
        assert_eq!(answer["id"], 1, "{transport} {args:?}");
        assert_eq!(answer["error"]["data"]["reason"], "answer-too-large");
        assert_eq!(client.ask(2, "ping", json!({}))["id"], 2);
        client.close_stdin();
        assert_eq!(client.wait(), Some(0));
        let log = server.stop();
        assert_eq!(log.matches(" connected").count(), 1, "{log}");
        assert!(!client.log.text().contains("reconnected"));
    }
}

/// Another server may still send a line that is too long. Its session is abandoned: there, the line
/// would come again and again.
#[test]
fn a_line_that_is_too_long_for_the_client_is_not_asked_for_again() {
    for transport in BOTH {
        let acceptor = Acceptor::new(transport);
        let args = ["--auto-reconnect", "--reconnect-delay", "10"];
        let mut client = TestClient::start(transport, acceptor.port(), &args, None);
        let mut server = acceptor.accept();
        offer(&mut server, "first");
        client.send(&request(1, "x", json!({})));
        assert_eq!(server.next()["id"], 1);
        let frame = format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":"{}"}}"#,
            "x".repeat(TO_CLIENT)
        );
        // The client disconnects in the middle of it.
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let sent =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| server.send(&frame)));
                drop((sent, server));
            });
            let answer = client.next();
            assert_eq!(answer["id"], 1, "{transport}");
            assert_eq!(answer["error"]["data"]["reason"], "connection-lost");
            let mut server = acceptor.accept();
            assert_eq!(offer(&mut server, "second"), Value::Null, "{transport}");
            client.send(&request(2, "x", json!({})));
            assert_eq!(server.next()["id"], 2);
        });
    }
}

/// Reads a client's request for a session; returns the one that it asks to resume.
fn offer(server: &mut TestPeer, session: &str) -> Value {
    let hello = server.next();
    assert_eq!(hello["method"], "mcp-remote/resume");
    server.send(&json!({"jsonrpc": "2.0", "method": "mcp-remote/resumed", "params": {"session": session, "received": 0, "resumed": false}}).to_string());
    hello["params"]["session"].clone()
}

/// What the server refuses gets an error at once, and is not sent a second time; nor is anything
/// else above the server's stated limit.
#[test]
fn a_line_that_the_server_does_not_take_is_answered_and_not_sent_again() {
    const LIMIT: usize = 64 << 10;
    for (transport, args) in EVERYWHERE {
        let limit = LIMIT.to_string();
        let setup = Setup::new(transport).args(args);
        let server = setup.args(&["--max-message-size", &limit]).start();
        let args = ["--auto-reconnect", "--reconnect-delay", "10"];
        let mut client = TestClient::start(transport, server.port, &args, None);
        assert_eq!(client.ask(0, "ping", json!({}))["id"], 0);
        let long = json!({"x": "x".repeat(2 * LIMIT)});
        assert_refused(&client.ask(1, "x", long.clone()), 1, LIMIT);
        assert_eq!(client.ask(2, "ping", json!({}))["id"], 2, "{transport}");
        // Unescaped it is short enough.
        let grows = json!({"x": filled(NEXT_LINE, LIMIT / 2)});
        assert_refused(&client.ask(3, "x", grows), 3, LIMIT);
        assert_eq!(client.ask(4, "ping", json!({}))["id"], 4);
        client.close_stdin();
        assert_eq!(client.wait(), Some(0));
        let log = server.stop();
        assert_eq!(log.matches(" connected").count(), 1, "{log}");
    }
}

/// A host's handshake that a new server refuses costs no session: it ended one after another.
#[test]
fn a_handshake_that_a_new_server_does_not_take_costs_no_session() {
    for transport in BOTH {
        let server = TestServer::start(transport);
        let port = server.port;
        let args = [
            "--auto-reconnect",
            "--reconnect-delay",
            "10",
            "--max-attempts",
            "0",
        ];
        let mut client = TestClient::start(transport, port, &args, None);
        let info = json!({"name": "x".repeat(100_000), "version": "1"});
        let params =
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info});
        assert_eq!(client.ask(0, "initialize", params)["id"], 0);
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert_eq!(client.ask(1, "ping", json!({}))["id"], 1);
        server.stop();
        let setup = Setup::new(transport).port(port);
        let server = setup.args(&["--max-message-size", "64KiB"]).start();
        client
            .log
            .wait_for("the server did not accept the repeated 'initialize'");
        let answer = client.ask(2, "ping", json!({}));
        assert_eq!(answer["id"], 2, "{transport}");
        assert!(answer.get("result").is_some(), "{answer}");
        client.close_stdin();
        assert_eq!(client.wait(), Some(0));
        let log = server.stop();
        assert_eq!(log.matches(" connected").count(), 1, "{log}");
    }
}
