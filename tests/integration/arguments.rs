//! Rules on the arguments of tools: what reaches the MCP server, the errors that the peer gets, and the output of
//! `check`.

use crate::common::{Setup, now, token};
use crate::process::{binary, run};
use crate::support::http::{Http, modern, with};
use crate::wire::TestPeer;
use serde_json::{Value, json};

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/permissions-arguments.json"
);

fn peer(server: &crate::common::TestServer, user: &str, roles: &[&str]) -> TestPeer {
    let claims = json!({"sub": user, "roles": roles, "exp": now() + 3600});
    let mut peer = server.peer_with(&token(&claims));
    peer.initialize();
    peer
}

/// The message of the error that this call gets, with its code.
fn denied(peer: &mut TestPeer, tool: &str, arguments: Value) -> Option<(i64, String)> {
    let params = json!({"name": tool, "arguments": arguments});
    let answer = peer.ask("call", "tools/call", params);
    assert_eq!(answer["id"], "call", "{answer}");
    let error = answer.get("error")?;
    let text = error["message"].as_str().unwrap().to_owned();
    Some((error["code"].as_i64().unwrap(), text))
}

#[test]
fn only_calls_that_meet_the_rules_reach_the_server() {
    let policy: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    for (transport, isolate) in [
        ("tcp", "--isolate=never"),
        ("ws", "--isolate=never"),
        ("tcp", "--isolate=always"),
        ("ws", "--isolate=always"),
    ] {
        let server = Setup::new(transport)
            .policy(&policy)
            .args(&[isolate])
            .start();
        let mut ann = peer(&server, "ann", &["reader"]);
        let mut admin = peer(&server, "root", &["admin"]);
        let mut both = peer(&server, "ann", &["reader", "admin"]);

        let good = json!({"path": "/srv/public/a.txt", "head": 10.0});
        assert_eq!(denied(&mut ann, "read_file", good), None);
        let denial = "Method not allowed: Access denied for argument '/path' of tool 'read_file'";
        let remark = ": Only files below /srv/public can be read.";
        for path in ["/etc/EVIL", "/srv/public/../EVIL", "EVIL"] {
            let told = denied(&mut ann, "read_file", json!({"path": path}));
            assert_eq!(told, Some((-32601, format!("{denial}{remark}"))), "{path}");
        }
        let told = denied(
            &mut ann,
            "query",
            json!({"user": "EVIL", "table": "orders"}),
        );
        assert_eq!(told.unwrap().0, -32601);
        let good = json!({"user": "ann", "table": "orders", "limit": 5});
        assert_eq!(denied(&mut ann, "query", good), None);

        let good = json!({"path": "/etc/anything"});
        assert_eq!(denied(&mut admin, "read_file", good), None);
        for peer in [&mut admin, &mut both] {
            let told = denied(
                peer,
                "read_file",
                json!({"path": "/srv/public/drafts/EVIL"}),
            );
            assert_eq!(told, Some((-32601, denial.to_owned())));
        }

        ann.send(r#"{"jsonrpc":"2.0","id":"twice","method":"tools/call","params":{"name":"read_file","arguments":{"path":"/srv/public/a","Path":"EVIL"}}}"#);
        let answer = ann.next();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!("twice"), &json!(-32600))
        );

        let seen = server.seen();
        assert!(!seen.contains("EVIL"), "{seen}");
        assert!(seen.contains("/srv/public/a.txt") && seen.contains("/etc/anything"));
        let log = server.stop();
        assert!(
            log.contains("role 'reader', tools 'read_file', argument '/path' (line "),
            "{log}"
        );
        assert!(!log.contains("EVIL"), "{log}");
    }
}

/// A request that waits for input is sent again with it (2026-07-28 basic/utilities/mrtr), and counts
/// as another call for the rules.
#[test]
fn each_retry_of_a_call_is_judged() {
    let policy: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    let asks = json!({"resultType": "input_required", "requestState": "s", "inputRequests": {
        "a": {"method": "elicitation/create", "params": {"message": "sure?"}}}});
    let retry = json!({"inputResponses": {"a": {"action": "accept"}}, "requestState": "s"});
    let bearer = token(&json!({"sub": "ann", "roles": ["reader"]}));
    for (transport, isolate) in [
        ("tcp", "--isolate=never"),
        ("ws", "--isolate=always"),
        ("http", "--isolate=never"),
        ("http", "--isolate=always"),
    ] {
        let setup = Setup::new(transport).echo(&["--modern"]);
        let server = setup.policy(&policy).args(&[isolate]).start();
        let mut peer = (transport != "http").then(|| server.peer_with(&bearer));
        let mut call = |id: u32, path: &str, more: &Value| {
            let mut params = json!({"name": "read_file", "arguments": {"path": path}});
            let members = more.as_object().unwrap().clone();
            params.as_object_mut().unwrap().extend(members);
            let (headers, body) = modern(id, "tools/call", params);
            let answer = match &mut peer {
                Some(peer) => {
                    peer.send(&body);
                    peer.next()
                }
                None => {
                    let bearer = format!("Bearer {bearer}");
                    let headers = with(&headers, "Authorization", &bearer);
                    Http::connect(server.port).post(&headers, &body).json()
                }
            };
            assert_eq!(answer["id"], id, "{answer}");
            answer
        };
        let first = call(1, "/srv/public/a", &json!({"raw": asks.to_string()}));
        assert_eq!(first["result"], asks);
        let answer = call(2, "/EVIL", &retry);
        assert_eq!(answer["error"]["code"], -32601, "{answer}");
        let text = answer["error"]["message"].as_str().unwrap();
        assert!(text.contains("argument '/path' of tool 'read_file'"));
        let answer = call(3, "/srv/public/a", &retry);
        assert_eq!(answer["result"]["params"]["requestState"], "s", "{answer}");
        let seen = server.seen();
        assert!(!seen.contains("EVIL"), "{seen}");
        assert_eq!(seen.matches("tools/call").count(), 2, "{seen}");
    }
}

#[test]
fn check_explains_arguments() {
    let check = |arguments: &str, more: &[&str]| {
        let mut command = binary();
        command.args(["check", "--permissions-config", FILE, "--roles", "reader"]);
        command.args(["--arguments", arguments]).args(more);
        run(&mut command, b"")
    };
    let query = ["--tool", "query", "--claims", r#"{"sub":"ann"}"#];
    for (arguments, more, code, part) in [
        (
            r#"{"path":"/srv/public/a"}"#,
            &["--tool", "read_file"][..],
            0,
            "arguments: as the rules want them",
        ),
        (
            r#"{"path":"/etc"}"#,
            &["--tool", "read_file"],
            1,
            "argument '/path' (line 9): its value is not allowed",
        ),
        (
            "{}",
            &["--tool", "read_file"],
            1,
            "argument '/path' (line 9): it is missing",
        ),
        (
            r#"{"path":"/srv/public","x":1}"#,
            &["--tool", "read_file"],
            1,
            "argument '/x': no rule allows this argument",
        ),
        (
            r#"{"user":"ann","table":"orders"}"#,
            &query,
            0,
            "allowed: tool 'query' for tools/call",
        ),
        (
            r#"{"user":"bob","table":"orders"}"#,
            &query,
            1,
            "denied: tool 'query' for tools/call",
        ),
        (
            "{",
            &["--tool", "read_file"],
            2,
            "error: --arguments is not JSON: ",
        ),
        (
            "[1]",
            &["--tool", "no_rules_on_it"],
            2,
            "error: --arguments is not a JSON object; ",
        ),
        (
            "{}",
            &["--method", "tools/list"],
            2,
            "--arguments are those of a --tool or a --prompt",
        ),
        (
            "{}",
            &["--method", "tools/list"],
            2,
            "Usage: mcp-remote check [OPTIONS]",
        ),
        (
            "{}",
            &["--tool", "query", "--claims", "[]"],
            2,
            "error: --claims is not a JSON object: ",
        ),
    ] {
        let outcome = check(arguments, more);
        assert_eq!(outcome.code, Some(code), "{arguments}: {outcome:?}");
        let said = outcome.stdout.clone() + &outcome.stderr;
        assert!(said.contains(part), "{arguments} {part}: {outcome:?}");
    }
}

/// Bug: a tool that may be called with some arguments only was simply allowed.
#[test]
fn check_says_that_arguments_decide() {
    let note = "note: role 'reader' has rules on the arguments of this tool; give --arguments\n";
    for (roles, tool, noted) in [
        ("reader", "query", true),
        ("reader", "read_file", true),
        // The admin may call it with any.
        ("reader,admin", "query", false),
        ("admin", "query", false),
    ] {
        let mut command = binary();
        command.args(["check", "--permissions-config", FILE, "--roles", roles]);
        let outcome = run(command.args(["--tool", tool]), b"");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(outcome.stdout.starts_with("allowed: "), "{outcome:?}");
        assert_eq!(outcome.stdout.ends_with(note), noted, "{outcome:?}");
    }
}
