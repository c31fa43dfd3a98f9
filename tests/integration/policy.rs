//! Rules on tools, prompts and resources: what is denied, what remains of lists, and the output of
//! `check`.

mod check;

use crate::common::{BOTH, Setup, TestServer, example, request, token_with};
use crate::process::{Outcome, binary, run};
use serde_json::{Value, json};
use std::path::Path;

/// Every path of a message: both transports, one MCP server for all or one per peer.
const WAYS: [(&str, &[&str]); 4] = [
    ("tcp", &[]),
    ("ws", &[]),
    ("tcp", &["--isolate"]),
    ("ws", &["--isolate"]),
];

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

fn policy() -> Value {
    let methods = [
        "initialize",
        "server/discover",
        "ping",
        "tools/*",
        "prompts/*",
        "resources/*",
        "completion/complete",
        "subscriptions/listen",
    ];
    json!({"permissions": {
        "reader": {
            "allowedMethods": methods,
            "allowedTools": ["read_*", "list_notes"],
            "allowedPrompts": [],
            "allowedResources": ["note:///pub*"],
            "blockedResources": ["note:///public-not*"],
        },
        "writer": {"allowedMethods": ["tools/call"], "allowedTools": ["write_note"]},
        "tame": {"allowedMethods": ["ping"], "blockedTools": ["*_note"]},
        "admin": {"allowedMethods": ["*"]},
    }})
}

fn names(list: &Value, key: &str) -> Vec<String> {
    let elements = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    let name = |element: &Value| element[key].as_str().unwrap().to_owned();
    elements.iter().map(name).collect()
}

/// The notes server, with two notes.
fn notes(transport: &'static str, flags: &[&str], folder: &Path) -> TestServer {
    for (name, text) in [("public", "for all"), ("secret", "for some")] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let program = example("notes_server").display().to_string();
    let folder = folder.display().to_string();
    Setup::new(transport)
        .policy(&policy())
        .args(flags)
        .program(&[&program, &folder])
        .start()
}

#[test]
fn tools_prompts_and_resources_are_held_to_the_rules() {
    for (transport, flags) in WAYS {
        let folder = tempfile::tempdir().unwrap();
        let server = notes(transport, flags, folder.path());
        let mut admin = server.peer_with(&token_with(&["admin"]));
        admin.initialize();
        let all = admin.ask(1, "tools/list", json!({}));
        assert_eq!(names(&all["result"]["tools"], "name").len(), 5, "{all}");

        let mut reader = server.peer_with(&token_with(&["reader"]));
        reader.initialize();
        let lists = [
            (
                "tools/list",
                "tools",
                "name",
                vec!["list_notes", "read_note"],
            ),
            ("prompts/list", "prompts", "name", vec![]),
            ("resources/list", "resources", "uri", vec!["note:///public"]),
            (
                "resources/templates/list",
                "resourceTemplates",
                "uriTemplate",
                vec!["note:///{name}"],
            ),
        ];
        for (method, member, key, expected) in lists {
            let answer = reader.ask("list", method, json!({}));
            assert_eq!(names(&answer["result"][member], key), expected, "{method}");
        }
        for (method, params, denied) in [
            (
                "tools/call",
                json!({"name": "read_note", "arguments": {"name": "public"}}),
                "",
            ),
            (
                "tools/call",
                json!({"name": "delete_note", "arguments": {"name": "public"}}),
                "tool 'delete_note'",
            ),
            (
                "tools/call",
                json!({"name": "Read_note"}),
                "tool 'Read_note'",
            ),
            ("tools/call", json!({}), "method 'tools/call'"),
            (
                "prompts/get",
                json!({"name": "summarise"}),
                "prompt 'summarise'",
            ),
            ("resources/read", json!({"uri": "note:///public"}), ""),
            (
                "resources/read",
                json!({"uri": "note:///secret"}),
                "resource 'note:///secret'",
            ),
            (
                "resources/read",
                json!({"uri": "note:///pub/../secret"}),
                "resource 'note:///pub/../secret'",
            ),
            (
                "resources/read",
                json!({"uri": "note:///public?/../secret"}),
                "resource 'note:///public?/../secret'",
            ),
            (
                "resources/subscribe",
                json!({"uri": "note:///public-not"}),
                "resource 'note:///public-not'",
            ),
            (
                "completion/complete",
                json!({"ref": {"type": "ref/resource", "uri": "note:///{name}"}, "argument": {"name": "name", "value": ""}}),
                "resource 'note:///{name}'",
            ),
            (
                "completion/complete",
                json!({"ref": {"type": "ref/prompt", "name": "summarise"}}),
                "prompt 'summarise'",
            ),
        ] {
            let answer = reader.ask(0, method, params.clone());
            if denied.is_empty() {
                assert!(answer["result"].is_object(), "{params}: {answer}");
            } else {
                let text = format!("Method not allowed: Access denied for {denied}");
                let error = json!({"code": -32601, "message": text});
                assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 0, "error": error}));
            }
        }
        assert!(folder.path().join("public").exists());
    }
}

#[test]
fn roles_add_up_and_a_block_wins_for_tools_too() {
    let server = Setup::new("tcp").policy(&policy()).start();
    for (roles, tool, allowed) in [
        (&["reader"][..], "write_note", false),
        (&["reader", "writer"], "write_note", true),
        (&["writer", "reader"], "read_note", true),
        (&["writer", "reader"], "delete_note", false),
        (&["admin", "reader"], "delete_note", true),
        (&["admin", "tame"], "delete_note", false),
        (&["tame", "admin"], "delete_note", false),
        (&["tame", "admin"], "list_notes", true),
        (&["tame", "reader"], "read_note", false),
    ] {
        let mut peer = server.peer_with(&token_with(roles));
        let answer = peer.ask(0, "tools/call", json!({"name": tool, "marker": roles}));
        let outcome = answer.get("result").is_some();
        assert_eq!(outcome, allowed, "{roles:?} {tool}: {answer}");
    }
    let mut peer = server.peer_with(&token_with(&["reader"]));
    // A notification is subject to the rules, too, and gets no response.
    peer.send(r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"vanished"}}"#);
    peer.ask("last", "ping", json!({}));
    let seen = server.seen();
    assert!(!seen.contains("vanished"), "{seen}");
}

#[test]
fn the_log_says_which_line_decided_and_keeps_uris_to_itself() {
    let server = Setup::new("tcp").policy(&policy()).start();
    let mut peer = server.peer_with(&token_with(&["admin", "tame"]));
    peer.ask(1, "tools/call", json!({"name": "delete_note"}));
    let line = server.log.wait_for("delete_note");
    let rule = "role 'tame', blockedTools '*_note' (line 1)";
    assert!(line.contains("blocked") && line.contains(rule), "{line}");
    let mut peer = server.peer_with(&token_with(&["reader"]));
    peer.ask(
        2,
        "resources/read",
        json!({"uri": "db://user:hunter2@host/"}),
    );
    server.log.wait_for("resources/read");
    assert!(!server.log.text().contains("hunter2"));
}

#[test]
fn pages_are_cut_one_by_one_and_nothing_else_changes() {
    for (transport, flags) in WAYS {
        let server = Setup::new(transport).policy(&policy()).args(flags).start();
        let mut peer = server.peer_with(&token_with(&["reader"]));
        for (role, raw, left) in [
            (
                "reader",
                r#"{"x":1.50,"tools":[ {"name":"delete_note"}, {"name":"read_a","n":1E2}],"nextCursor":"2\u0041","ttlMs":1,"cacheScope":"public"}"#,
                r#"{"x":1.50,"tools":[ {"name":"read_a","n":1E2}],"nextCursor":"2\u0041","ttlMs":1,"cacheScope":"private"}"#,
            ),
            (
                "reader",
                r#"{"tools":[{"name":"delete_note"}],"nextCursor":"3"}"#,
                r#"{"tools":[],"nextCursor":"3"}"#,
            ),
            (
                "admin",
                r#"{"tools":[{"name":"delete_note"}],"cacheScope":"public"}"#,
                r#"{"tools":[{"name":"delete_note"}],"cacheScope":"private"}"#,
            ),
        ] {
            let mut other = server.peer_with(&token_with(&[role]));
            other.send(&request(7, "tools/list", json!({"raw": raw})));
            let answer = other.next_line().unwrap();
            assert_eq!(
                answer,
                format!(r#"{{"jsonrpc":"2.0","id":7,"result":{left}}}"#)
            );
        }
        for raw in [
            r#"{"tools":[],"tools":[{"name":"delete_note"}]}"#,
            r#"{"tools":[],"Tools":[]}"#,
            "[]",
            "{}",
        ] {
            let answer = peer.ask(8, "tools/list", json!({"raw": raw}));
            assert_eq!(answer["error"]["code"], -32603, "{answer}");
            assert_eq!(answer["error"]["data"]["reason"], "unreadable-list");
        }
        // If no role has rules of the kind, lists pass unchanged: resources have some.
        let raw = r#"{"roots":[],"cacheScope":"public"}"#;
        let answer = peer.ask(9, "ping", json!({"raw": raw}));
        assert_eq!(answer["result"]["cacheScope"], "public");
    }
}

#[test]
fn a_list_of_a_modern_server_is_the_peers_own() {
    for (transport, flags) in WAYS {
        let folder = tempfile::tempdir().unwrap();
        let server = notes(transport, flags, folder.path());
        let mut peer = server.peer_with(&token_with(&["reader"]));
        let meta = json!({VERSION: "2026-07-28", CAPABILITIES: {}});
        let answer = peer.ask(1, "tools/list", json!({"_meta": meta}));
        let result = &answer["result"];
        assert_eq!(result["cacheScope"], "private", "{answer}");
        assert_eq!(names(&result["tools"], "name"), ["list_notes", "read_note"]);
    }
}

/// A list that was cancelled may still come, with an id that has been reused.
#[test]
fn cancelling_a_list_does_not_get_it_past_the_rules() {
    for (transport, flags) in WAYS {
        let server = Setup::new(transport).policy(&policy()).args(flags).start();
        let mut peer = server.peer_with(&token_with(&["reader"]));
        let raw = r#"{"tools":[{"name":"delete_note"}]}"#;
        peer.send(&request(
            1,
            "tools/list",
            json!({"raw": raw, "delayMs": 100}),
        ));
        peer.send(
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        );
        peer.send(&request(1, "ping", json!({"delayMs": 200})));
        peer.send(&request("end", "ping", json!({"delayMs": 400})));
        loop {
            let line = peer.next_line().unwrap();
            assert!(!line.contains("delete_note"), "{line}");
            if line.contains("\"end\"") {
                break;
            }
        }
    }
}

#[test]
fn subscriptions_are_held_to_the_rules() {
    for transport in BOTH {
        let server = Setup::new(transport)
            .policy(&policy())
            .echo(&["--modern"])
            .start();
        let mut peer = server.peer_with(&token_with(&["reader"]));
        let mut listen = |uris: Value| {
            let meta = json!({VERSION: "2026-07-28"});
            let filter = json!({"resourceSubscriptions": uris});
            peer.ask(
                1,
                "subscriptions/listen",
                json!({"_meta": meta, "notifications": filter}),
            )
        };
        assert!(listen(json!(["note:///public"]))["result"].is_object());
        let denied = listen(json!(["note:///public", "note:///secret"]));
        let text = "Method not allowed: Access denied for resource 'note:///secret'";
        assert_eq!(denied["error"]["message"], text);
        assert_eq!(listen(json!("note:///public"))["error"]["code"], -32601);
    }
}

/// A server that strips `file://` opens what follows it, including the query.
#[test]
fn uris_with_dots_anywhere_do_not_leave_the_allowed_folder() {
    let policy = json!({"permissions": {"reader": {
        "allowedMethods": ["*"],
        "allowedResources": ["file:///srv/public/*"],
    }}});
    let read = |uri: &str| json!({"uri": uri});
    let complete = |uri: &str| json!({"ref": {"type": "ref/resource", "uri": uri}});
    for (transport, flags) in WAYS {
        let server = Setup::new(transport).policy(&policy).args(flags).start();
        let mut peer = server.peer_with(&token_with(&["reader"]));
        peer.initialize();
        for behind in [
            "x?/../../private/key",
            "x?a=../../private/key",
            "x?.%2e/%2E./private/key",
            "x?a%2f..%5cprivate/key",
            "x?..\\private/key",
            "x#/../../private/key",
            "x?\u{1}/../private/key",
        ] {
            let uri = format!("file:///srv/public/{behind}");
            let template = uri.replace("x?", "{x}?").replace("x#", "{x}#");
            for (method, params) in [
                ("resources/read", read(&uri)),
                ("resources/subscribe", read(&uri)),
                ("resources/unsubscribe", read(&uri)),
                ("completion/complete", complete(&uri)),
                ("completion/complete", complete(&template)),
                (
                    "subscriptions/listen",
                    json!({"notifications": {"resourceSubscriptions": [&uri]}}),
                ),
            ] {
                let answer = peer.ask(1, method, params);
                assert_eq!(answer["error"]["code"], -32601, "{method} {uri}: {answer}");
            }
            let list = json!({"resources": [{"uri": &uri}]}).to_string();
            let answer = peer.ask(2, "resources/list", json!({"raw": list}));
            assert_eq!(answer["result"]["resources"], json!([]), "{uri}");
            let update = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": read(&uri)});
            peer.send(&request(3, "ping", json!({"print": format!("{update}\n")})));
            assert_eq!(peer.next()["id"], 3, "word of {uri}");
        }
        let allowed = read("file:///srv/public/x?a=b/c&d=e..f");
        let answer = peer.ask(4, "resources/read", allowed);
        assert!(answer["result"].is_object(), "{answer}");
        let seen = server.seen();
        let reads = seen.lines().filter(|line| line.contains("resources/read"));
        assert_eq!(reads.count(), 1, "{seen}");
    }
}

#[test]
fn look_alikes_inside_ref_are_refused() {
    let server = Setup::new("tcp").policy(&policy()).start();
    let mut peer = server.peer_with(&token_with(&["reader"]));
    for reference in [
        r#"{"type":"ref/resource","uri":"note:///public","uri":"note:///secret"}"#,
        r#"{"type":"ref/resource","uri":"note:///public","URI":"note:///secret"}"#,
    ] {
        peer.send(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{{"ref":{reference}}}}}"#
        ));
        assert_eq!(peer.next()["error"]["code"], -32600);
    }
    assert!(!server.seen().contains("secret"));
}
