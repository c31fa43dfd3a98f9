//! MCP servers that do not respond, or do not read.

use crate::common::{Setup, request};
use crate::process::eventually;
use serde_json::{Value, json};

/// Reads everything and responds to nothing.
const SILENT: &str = "while read -r line; do :; done";

/// Responds to the `initialize` with this id.
/// Answers the request that is in `$line`.
fn says_hello() -> String {
    let result = json!({"protocolVersion": "2025-11-25", "serverInfo": {"name": "deaf"}});
    let id = r#"$(printf %s "$line" | sed 's/.*"id":\([^,]*\),.*/\1/')"#;
    format!(r#"printf '{{"jsonrpc":"2.0","id":%s,"result":{result}}}\n' "{id}""#)
}

fn assert_overdue(answer: &Value, method: &str) {
    let error = &answer["error"];
    assert_eq!(
        (&error["code"], &error["data"]["reason"]),
        (&json!(-32603), &json!("handshake-timeout")),
        "{answer}"
    );
    let text = format!("The MCP server did not answer '{method}' in time");
    assert_eq!(error["message"], text, "{answer}");
}

fn modern(id: &str, method: &str, mut params: Value) -> String {
    params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    request(id, method, params)
}

/// The first client waited forever, and so did all later ones.
#[test]
fn a_first_process_that_does_not_answer_is_replaced() {
    let server = Setup::new("tcp")
        .args(&["--handshake-timeout", "300ms"])
        .shell_at_first(SILENT)
        .start();
    let mut peers = [server.peer(), server.peer()];
    peers[1].send(&request(1, "tools/list", json!({})));
    assert_overdue(&peers[0].initialize(), "initialize");
    assert_overdue(&peers[1].next(), "initialize");
    server.log.wait_for("MCP server has not answered in time");
    for peer in &mut peers {
        assert!(peer.initialize()["result"].is_object());
        assert!(peer.ask(2, "x", json!({}))["result"].is_object());
    }
}

/// With a process of its own a peer waited forever.
#[test]
fn a_process_of_ones_own_that_does_not_answer_is_ended() {
    let server = Setup::new("tcp")
        .args(&["--isolate", "--handshake-timeout", "300ms"])
        .program(&["sh", "-c", SILENT])
        .start();
    let mut peer = server.peer();
    assert_overdue(&peer.initialize(), "initialize");
    while peer.next_line().is_some() {}
    let mut peer = server.peer();
    peer.send(&modern("era", "server/discover", json!({})));
    assert_overdue(&peer.next(), "server/discover");
    server
        .log
        .wait_for_times("MCP server has not answered in time", 2);
    // Anything else may take any time.
    let mut peer = server.peer();
    peer.send(&modern("call", "tools/call", json!({})));
    assert!(!peer.has_more());
}

/// The same for the probe of its era; in the end silence counts as a response.
#[test]
fn a_process_that_does_not_tell_its_era_is_replaced() {
    let server = Setup::new("tcp")
        .args(&["--handshake-timeout", "300ms"])
        .program(&["sh", "-c", SILENT])
        .start();
    let mut peer = server.peer();
    peer.send(&modern("call", "tools/call", json!({})));
    assert_overdue(&peer.next(), "server/discover");
    peer.send(&modern("era", "server/discover", json!({})));
    let answer = peer.next();
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!("era"), &json!(-32601))
    );
}

/// A package that is downloaded first, for example, is not a hanging process.
#[test]
fn a_slow_start_is_waited_for() {
    let server = Setup::new("tcp")
        .args(&["--handshake-timeout", "300ms"])
        .shell("sleep 2")
        .start();
    let mut peer = server.peer();
    assert!(peer.initialize()["result"].is_object());
    assert!(!server.log.text().contains("in time"));
}

#[test]
fn a_process_that_never_starts_is_replaced() {
    let server = Setup::new("tcp")
        .args(&["--start-timeout", "500ms"])
        .shell_at_first("sleep 600")
        .start();
    let mut peer = server.peer();
    assert_overdue(&peer.initialize(), "initialize");
    server
        .log
        .wait_for("MCP server has given no sign of life in time");
    assert!(peer.initialize()["result"].is_object());
}

/// One that has started and then stops reading.
#[test]
fn a_process_that_does_not_read_its_handshake_is_replaced() {
    let server = Setup::new("tcp")
        .args(&["--handshake-timeout", "300ms"])
        .shell_at_first("echo 'listening on stdio'; sleep 600")
        .start();
    let mut peer = server.peer();
    assert_overdue(&peer.initialize(), "initialize");
    server.log.wait_for("MCP server has not answered in time");
    assert!(peer.initialize()["result"].is_object());
}

/// Its peers waited forever, and new ones got the earlier response to `initialize`.
#[test]
fn a_process_that_has_closed_its_stdin_has_ended() {
    for isolated in [false, true] {
        let mut setup = Setup::new("tcp");
        if isolated {
            setup = setup.args(&["--isolate"]);
        }
        let server = setup
            .shell_at_first(&format!(
                "read -r line; exec < /dev/null; {}; sleep 600",
                says_hello()
            ))
            .start();
        let mut peer = server.peer();
        assert_eq!(peer.initialize()["result"]["serverInfo"]["name"], "deaf");
        let answer = peer.ask(2, "x", json!({}));
        // What a shared process has not been given waits for the next.
        let is_served = !isolated && answer["result"].is_object();
        let reason = &answer["error"]["data"]["reason"];
        assert!(is_served || reason == "child-exited", "{answer}");
        server.log.wait_for("MCP server has closed its stdin");
        let mut peer = server.peer();
        assert!(peer.initialize()["result"].is_object());
        assert_eq!(peer.ask(2, "x", json!({}))["id"], 2);
    }
}

/// Bug: only the signal that ended it was told, as if somebody had killed it.
#[test]
fn a_process_that_has_closed_its_stdout_is_ended_and_the_cause_is_told() {
    let server = Setup::new("tcp")
        .shell_at_first("exec > /dev/null; sleep 600")
        .start();
    let mut peer = server.peer();
    let answer = peer.initialize();
    let data = &answer["error"]["data"];
    assert_eq!(data["reason"], "child-exited", "{answer}");
    let status = data["status"].as_str().unwrap();
    assert!(
        status.starts_with("closed its stdout, signal: 15"),
        "{answer}"
    );
    server
        .log
        .wait_for("MCP server has closed its stdout and lives on, ending it");
    assert!(peer.initialize()["result"].is_object());
}

/// Nothing was written to it, so peers got a response to `initialize`, and then waited.
#[cfg(target_os = "linux")]
#[test]
fn a_process_that_closes_its_stdin_is_replaced_before_anybody_writes_to_it() {
    let server = Setup::new("tcp")
        .shell_at_first(&format!(
            "read -r line; {}; read -r line; exec < /dev/null; sleep 600",
            says_hello()
        ))
        .start();
    let mut first = server.peer();
    assert_eq!(first.initialize()["result"]["serverInfo"]["name"], "deaf");
    server.log.wait_for("MCP server ended, starting it again");
    for peer in [&mut first, &mut server.peer()] {
        let answer = peer.ask(2, "x", json!({}));
        assert!(answer["result"].is_object(), "{answer}");
    }
}

/// New peers got a response to `initialize` and then, for seconds, nothing.
#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_comes_while_a_process_is_replaced_is_served_by_the_next() {
    let server = Setup::new("tcp")
        .env("RUST_LOG", "debug")
        .shell_at_first(&format!(
            "read -r line; {}; read -r line; exec < /dev/null; sleep 600",
            says_hello()
        ))
        .start();
    let mut first = server.peer();
    first.initialize();
    server.log.wait_for("MCP server has closed its stdin");
    let mut peers = [first, server.peer(), server.peer()];
    for peer in &mut peers {
        peer.send(&request(
            "early",
            "initialize",
            json!({"protocolVersion": "2025-11-25"}),
        ));
        assert_eq!(peer.next()["id"], "early");
        peer.send(&request(1, "x", json!({})));
    }
    assert!(!server.log.text().contains("starting it again"));
    for peer in &mut peers {
        let answer = peer.next();
        assert!(answer["result"].is_object(), "{answer}");
    }
}

/// A server that never responds is not restarted forever.
#[test]
fn processes_that_do_not_answer_end_the_server_at_last() {
    let mut server = Setup::new("tcp")
        .args(&["--handshake-timeout", "100ms", "--max-restarts", "2"])
        .program(&["sh", "-c", SILENT])
        .start();
    let mut peer = server.peer();
    peer.send(&request(1, "tools/list", json!({})));
    assert_overdue(&peer.next(), "initialize");
    assert_eq!(server.wait().code(), Some(1));
    server.log.wait_for("no answer to 'initialize' in time");
}

/// Messages went to one process while another had room, and stayed
/// there when their senders had left.
#[test]
fn what_waits_for_a_process_that_does_not_read_is_bounded() {
    const SIZE: usize = 2 << 20;
    let server = Setup::new("tcp").echo(&["--modern"]).start();
    let mut legacy = server.peer();
    legacy.initialize();
    let mut peer = server.peer();
    peer.send(&modern("deaf", "tools/call", json!({"deaf": true})));
    assert_eq!(peer.next()["id"], "deaf");
    let before = server.resident();
    let large = modern("large", "tools/call", json!({"pad": "x".repeat(SIZE)}));
    for _ in 0..60 {
        let mut peer = server.peer();
        peer.send(&large);
    }
    // Two jobs may be in progress: one being written, and one waiting for it.
    eventually("the memory is free again", || {
        (server.resident() < before + 10 * SIZE as u64 / 1024).then_some(())
    });
    assert_eq!(legacy.ask(1, "x", json!({}))["id"], 1);
    server.assert_serving();
}
