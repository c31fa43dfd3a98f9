//! What the MCP server writes to stdout and stderr.

use super::*;

#[test]
fn stderr_is_passed_on() {
    let server = Setup::new("tcp").shell("echo at the start >&2").start();
    let mut peer = server.peer();
    peer.ask(1, "x", json!({"stderr": "hello from the child \u{1b}[31m"}));
    for text in ["at the start", "hello from the child"] {
        let line = server.log.wait_for(text);
        assert!(line.contains("child: "), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}

/// Unescaped, these would clear the screen, set the title, forge a line, reverse the writing direction.
const COMMANDS: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\rINFO forged\u{9b}31m\u{85}\u{2028}\u{202e}";

fn assert_tame(text: &str) {
    let odd = |c: &char| c.is_control() && *c != '\n' || "\u{2028}\u{202e}".contains(*c);
    assert_eq!(text.chars().find(odd), None, "{text:?}");
    assert!(text.contains("\\u{1b}[2J"), "{text:?}");
    let forged = text.lines().any(|line| line.starts_with("INFO"));
    assert!(!forged, "{text:?}");
}

#[test]
fn no_text_of_others_reaches_the_terminal_as_a_command() {
    let policy = json!({"permissions": {"user": {"allowedMethods": ["x"]}}});
    let server = Setup::new("tcp").policy(&policy).start();
    let claims =
        json!({"user": format!("eve{COMMANDS}"), "roles": ["user", COMMANDS], "exp": now() + 60});
    let mut peer = server.peer_with(&token(&claims));
    peer.ask(1, "x", json!({"stderr": format!("child{COMMANDS}end")}));
    peer.ask(COMMANDS, COMMANDS, json!({}));
    for part in ["child: child", "eve", "blocked"] {
        assert_tame(&server.log.wait_for(part));
    }
    assert_tame(&server.stop());

    // The last output of a child that never responded is in the final line.
    let script = format!("printf '%s' '{COMMANDS}' >&2; exit 3");
    let outcome = Setup::new("tcp").shell(&script).run();
    assert_eq!(outcome.code, Some(1));
    assert_tame(&outcome.stderr);
    assert!(outcome.stderr.contains("error: "), "{outcome:?}");

    // The same for a server's error to a client that it refuses.
    let server = Acceptor::new("tcp");
    let mut client = TestClient::start("tcp", server.port(), &[], Some("a.b.c"));
    let mut peer = server.accept();
    peer.next_line();
    let error = json!({"code": -32002, "message": COMMANDS, "data": {"reason": COMMANDS}});
    peer.send(&json!({"jsonrpc": "2.0", "error": error}).to_string());
    assert_eq!(client.wait(), Some(1));
    let log = client.log.to_the_end();
    assert!(log.contains("error: "), "{log:?}");
    assert_tame(&log);
}

#[test]
fn a_flood_on_stderr_does_not_stop_the_child() {
    let setup = Setup::new("tcp").shell("head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; echo >&2");
    let server = setup.start();
    let mut peer = server.peer();
    let answer = peer.ask(
        1,
        "x",
        json!({"stderrBytes": 2_000_000, "stderr": "and still it writes"}),
    );
    assert_eq!(answer["id"], 1);
    server.log.wait_for("and still it writes");
    server.assert_serving();
}

#[test]
fn what_is_no_message_on_stdout_is_dropped() {
    let banner = r#"printf 'Welcome to the server!\n\n{"not": "a message"}\n[1]\n\377\376\n{"jsonrpc":"2.0","id":1,"res\n'"#;
    for transport in BOTH {
        let server = Setup::new(transport).shell(banner).start();
        let mut peer = server.peer();
        peer.initialize();
        let noise = "working...\n\u{1b}[2J\n{\"jsonrpc\":\"2.0\"}\n{}\n{\"jsonrpc\":\"2.0\",\"id\":999,\"result\":{}}\n";
        for id in 0..3 {
            let answer = peer.ask(id, "x", json!({"print": noise}));
            assert_eq!(answer["id"], id);
        }
        server.log.wait_for("no JSON-RPC message");
        let log = server.log.text();
        assert!(
            !log.contains("Welcome") && !log.contains("working"),
            "{log}"
        );
    }
}

/// A message over the size limit was dropped, and its requester waited forever.
#[test]
fn a_message_that_is_too_large_is_answered_and_kept_nowhere() {
    const HUGE: u64 = 300 << 20;
    for (transport, args) in [("tcp", &[][..]), ("ws", &["--isolate"])] {
        let server = Setup::new(transport).args(args).start();
        let mut peer = server.peer();
        peer.initialize();
        for id in [json!(7), json!("seven")] {
            let answer = peer.ask(id.clone(), "x", json!({"huge": HUGE}));
            assert_eq!(answer["id"], id);
            assert_eq!(
                answer["error"],
                json!({"code": -32603, "message": "The MCP server's answer is too large", "data": {
                    "source": "mcp-remote", "reason": "answer-too-large", "executed": "unknown"}})
            );
            assert_eq!(peer.ask(id.clone(), "x", json!({}))["id"], id);
        }
        // What it asks is refused, so that it does not wait either.
        let question = json!({"ask": "roots/list", "askBytes": HUGE});
        assert_eq!(peer.ask(1, "x", question)["id"], 1);
        let refusal = server.wait_seen("\"asked\"");
        assert_eq!(
            serde_json::from_str::<Value>(&refusal).unwrap(),
            json!({"jsonrpc": "2.0", "id": "asked", "error": {"code": -32600, "message": "Invalid Request: too large"}})
        );
        let peak = server.peak() << 10;
        assert!(peak < 200 << 20, "{} MiB", peak >> 20);
    }
}

/// A response that cannot be read was dropped, and its requester waited forever.
#[test]
fn an_answer_that_cannot_be_read_is_an_error() {
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    for raw in [
        &*deep,
        r#"{},"error":{"code":1,"message":""}"#,
        r#""\ud800 \x""#,
    ] {
        let answer = peer.ask(3, "x", json!({"raw": raw}));
        assert_eq!(answer["id"], 3, "{answer}");
        assert_eq!(answer["error"]["data"]["reason"], "answer-unreadable");
    }
    // A log line may superficially look like a response.
    let noise = "{\"id\":4,\"level\":\"error\",\"error\":\"no message\",\"result\":[}\n";
    let answer = peer.ask(4, "x", json!({"print": noise}));
    assert_eq!(answer["result"]["method"], "x", "{answer}");
}

/// A process that asks and does not read the answers filled our memory with them.
#[test]
fn a_child_that_asks_without_end_and_reads_nothing_fills_no_memory() {
    for args in [&[][..], &["--isolate"]] {
        let policy = json!({"permissions": {"user": {"allowedMethods": ["*"], "blockedMethods": ["roots/list"]}}});
        let server = Setup::new("tcp").args(args).policy(&policy).start();
        let mut peer = server.peer_with(&token_with(&["user"]));
        let pid = peer.ask(1, "x", json!({}))["result"]["pid"]
            .as_u64()
            .unwrap();
        // We answer each of these at once.
        peer.send(&request(
            2,
            "x",
            json!({"ask": "roots/list", "askTimes": 1_000_000}),
        ));
        let mut before = None;
        eventually("the child can write no more", || {
            let now = Some(written(pid));
            let still = now == before && now > Some(PIPE);
            before = now;
            std::thread::sleep(Duration::from_millis(300));
            still.then_some(())
        });
        let peak = server.peak() << 10;
        assert!(peak < 60 << 20, "{} MiB", peak >> 20);
        kill(pid);
        if args.is_empty() {
            assert_eq!(peer.next()["error"]["message"], "MCP server exited");
            assert_eq!(peer.ask(3, "x", json!({}))["id"], 3);
        }
    }
}

/// The minimum capacity of a pipe, in bytes.
const PIPE: u64 = 60_000;

/// How many bytes a process has written.
fn written(pid: u64) -> u64 {
    let counts = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let line = counts.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.unwrap().parse().unwrap()
}
