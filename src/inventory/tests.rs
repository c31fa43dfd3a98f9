//! Conversations with servers of both eras, and the policies derived from them.

use super::*;
use crate::permissions::Policy;
use serde_json::{Value, json};

/// A server that responds from a table, one request at a time.
fn talk(modern: bool, mut server: impl FnMut(&Value) -> Vec<Value>) -> Result<Inventory, Fault> {
    let (mut session, mut sent) = Session::new(modern, 1);
    for _ in 0..20_000 {
        let lines: Vec<Value> = String::from_utf8(sent.clone())
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        sent.clear();
        for answer in lines.iter().flat_map(&mut server) {
            let step = session.receive(answer.to_string().as_bytes())?;
            sent.extend(step.send);
            if step.done {
                return Ok(session.into_inventory());
            }
        }
        assert!(!sent.is_empty(), "nothing more is asked: {session:?}");
    }
    panic!("it does not end");
}

fn result(request: &Value, result: &Value) -> Vec<Value> {
    vec![json!({"jsonrpc": "2.0", "id": request["id"], "result": result})]
}

fn hello(request: &Value) -> Vec<Value> {
    let hello = json!({
        "protocolVersion": "2025-06-18", "serverInfo": {"name": "s", "version": "1"},
        "capabilities": {"tools": {}, "prompts": {}},
    });
    result(request, &hello)
}

#[test]
fn every_page_of_every_list_is_read() {
    for modern in [false, true] {
        let mut initialized = false;
        let inventory = talk(modern, |request| {
            let meta = &request["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
            assert_eq!(meta == "2026-07-28", modern && request["id"] != Value::Null);
            match request["method"].as_str().unwrap() {
                "initialize" | "server/discover" => hello(request),
                "notifications/initialized" => {
                    initialized = true;
                    vec![]
                }
                "prompts/list" => result(request, &json!({"prompts": [{"name": "p"}]})),
                "tools/list" => {
                    let page = request["params"]["cursor"].as_str().unwrap_or("0");
                    let page: u32 = page.parse().unwrap();
                    let mut page_of =
                        json!({"tools": [{"name": format!("t{page}")}, {"title": "none"}]});
                    if page < 3 {
                        page_of["nextCursor"] = json!((page + 1).to_string());
                    }
                    result(request, &page_of)
                }
                other => panic!("{other} is not offered"),
            }
        });
        let inventory = inventory.unwrap();
        assert_eq!(initialized, !modern);
        let tools: Vec<_> = inventory.tools.iter().map(|tool| &tool.name).collect();
        assert_eq!(tools, ["t0", "t1", "t2", "t3"]);
        assert_eq!(inventory.prompts, ["p"]);
        assert_eq!(inventory.server.as_deref(), Some("s 1"));
        assert_eq!(inventory.notes, ["an entry of 'tools/list' has no name"]);
        let revision = if modern { "2026-07-28" } else { "2025-06-18" };
        assert_eq!(inventory.revisions, [revision]);
    }
}

#[test]
fn what_does_not_end_is_a_fault() {
    for cursor in ["same", "other"] {
        let mut page = 0;
        let outcome = talk(false, |request| match request["method"].as_str().unwrap() {
            "initialize" => hello(request),
            "prompts/list" => {
                page += 1;
                let cursor = if cursor == "same" { 1 } else { page };
                result(
                    request,
                    &json!({"prompts": [], "nextCursor": cursor.to_string()}),
                )
            }
            _ => vec![],
        });
        assert_eq!(outcome, Err(Fault::Endless("prompts/list")));
    }
}

#[test]
fn questions_and_noise_do_not_disturb() {
    let mut asked = false;
    let inventory = talk(false, |message| match message["method"].as_str() {
        Some("initialize") => {
            let mut answers = vec![
                json!("not a message"),
                json!({"jsonrpc": "2.0", "id": 77, "result": {}}),
                json!({"jsonrpc": "2.0", "id": "r", "method": "roots/list"}),
                json!({"jsonrpc": "2.0", "id": "p", "method": "ping"}),
            ];
            answers.extend(hello(message));
            answers
        }
        // A server that returns ids as strings, and whose list changes while it is read.
        Some("tools/list") => {
            let id = message["id"].to_string();
            let name = if asked { "new" } else { "old" };
            let mut answers =
                vec![json!({"jsonrpc": "2.0", "id": id, "result": {"tools": [{"name": name}]}})];
            if !asked {
                answers.insert(
                    0,
                    json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}),
                );
            }
            asked = true;
            answers
        }
        Some("prompts/list") => {
            let error = json!({"code": -32603, "message": "no idea"});
            vec![json!({"jsonrpc": "2.0", "id": message["id"], "error": error})]
        }
        None if message["id"] == "r" => {
            assert_eq!(message["error"]["code"], -32601);
            vec![]
        }
        None => {
            assert_eq!(message["result"], json!({}), "{message}");
            vec![]
        }
        _ => vec![],
    });
    let inventory = inventory.unwrap();
    let tools: Vec<_> = inventory.tools.iter().map(|tool| &tool.name).collect();
    assert_eq!(tools, ["old", "new"]);
    assert_eq!(
        inventory.notes,
        ["'prompts/list' was answered with an error: -32603 no idea"]
    );
}

#[test]
fn a_refused_handshake_is_told() {
    let outcome = talk(true, |request| {
        let error = json!({"code": -32601, "message": "Method not found"});
        vec![json!({"jsonrpc": "2.0", "id": request["id"], "error": error})]
    });
    let text = outcome.unwrap_err().to_string();
    assert_eq!(
        text,
        "it answered 'server/discover' with an error: -32601 Method not found"
    );
}

fn tool(name: &str, read_only: Option<bool>, destructive: Option<bool>) -> Tool {
    Tool {
        name: name.to_owned(),
        hints: Hints {
            read_only,
            destructive,
        },
        definitions: Vec::new(),
    }
}

#[test]
fn roles_may_call_what_the_hints_say() {
    let inventory = Inventory {
        tools: vec![
            tool("reads", Some(true), None),
            tool("reads too", Some(true), Some(false)),
            tool("contradicts itself", Some(true), Some(true)),
            tool("adds", Some(false), Some(false)),
            tool("adds too", None, Some(false)),
            tool("writes", Some(false), None),
            tool("deletes", None, Some(true)),
            tool("says nothing", None, None),
            tool("*", Some(true), None),
            tool("re*", Some(true), None),
        ],
        prompts: vec!["p".to_owned(), "*".to_owned()],
        resources: vec!["x://one".to_owned(), "x://*".to_owned()],
        templates: vec!["y://{a}/{b}".to_owned(), "z://*/{a}".to_owned()],
        ..Inventory::default()
    };
    let Draft { text, unnameable } = draft(&inventory, &Role::ALL);
    assert_eq!(unnameable, ["*", "re*", "*", "x://*", "z://*/{a}"]);
    let policy = Policy::parse(&text).unwrap();
    assert_eq!(policy.mute_roles(), Vec::<&str>::new());
    let may = |role: &str, method: &str, kind, name: &str| {
        let rights = policy.rights(&[role.to_owned()]);
        rights.judge_item(method, kind, name).unwrap().is_ok()
    };
    for (name, user, readonly) in [
        ("reads", true, true),
        ("reads too", true, true),
        ("contradicts itself", false, false),
        ("adds", true, false),
        ("adds too", true, false),
        ("writes", false, false),
        ("deletes", false, false),
        ("says nothing", true, false),
        ("anything else", false, false),
    ] {
        let tool = |role| may(role, "tools/call", crate::mcp::ItemKind::Tool, name);
        assert_eq!((tool("user"), tool("readonly")), (user, readonly), "{name}");
        assert!(tool("admin"), "{name}");
    }
    for (uri, allowed) in [
        ("x://one", true),
        ("y://1/2", true),
        ("x://two", false),
        ("z://a/b", false),
    ] {
        let resource = |role| may(role, "resources/read", crate::mcp::ItemKind::Resource, uri);
        assert_eq!(resource("readonly"), allowed, "{uri}");
    }
}

#[test]
fn templates_become_patterns() {
    for (template, pattern) in [
        ("note:///{name}", Some("note:///*")),
        ("x://{a}/{b}{?c}", Some("x://*/**")),
        ("{+uri}", Some("*")),
        ("plain", Some("plain")),
        ("x://*/{a}", None),
        ("x://{a}/*", None),
        ("x://{a", None),
        ("", None),
    ] {
        let pattern = pattern.map(|pattern| pattern.replace("**", "*"));
        assert_eq!(pattern_of_template(template), pattern, "{template}");
    }
}
