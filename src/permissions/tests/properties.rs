//! Properties that hold for any roles and rules.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const METHODS: [&str; 3] = ["tools/call", "tools/list", "ping"];
const TOOLS: [&str; 3] = ["a", "b", "ab"];

fn some(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(texts), 0..3)
}

fn role() -> impl Strategy<Value = Value> {
    let methods = || some(&["tools/call", "tools/list", "tools/*", "*"]);
    let tools = || some(&["a", "b", "a*", "*b", "*"]);
    let lists = (
        methods(),
        some(&["tools/call", "tools/list"]),
        prop::option::of(tools()),
        prop::option::of(some(&["a", "b", "a*", "*b"])),
    );
    lists.prop_map(|(allow, block, tools, blocked)| {
        let mut role = json!({"allowedMethods": allow, "blockedMethods": block});
        if let Some(tools) = tools {
            role["allowedTools"] = json!(tools);
        }
        if let Some(blocked) = blocked {
            role["blockedTools"] = json!(blocked);
        }
        role
    })
}

/// What a peer with these roles may do: each method with each tool, and each tool in the list.
fn may(roles: &[Value], order: &[usize]) -> Vec<bool> {
    let named: serde_json::Map<String, Value> = roles
        .iter()
        .enumerate()
        .map(|(at, role)| (at.to_string(), role.clone()))
        .collect();
    let policy = Policy::parse(&json!({"permissions": named}).to_string()).unwrap();
    let names: Vec<String> = order.iter().map(ToString::to_string).collect();
    let rights = policy.rights(&names);
    let mut may = Vec::new();
    for method in METHODS {
        for tool in TOOLS {
            let line = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"{tool}"}}}}"#
            );
            let message = Message::read(line.into(), MAX_PEER_DEPTH).unwrap();
            let Ok(permit) = rights.decide(message) else {
                may.push(false);
                continue;
            };
            let list =
                format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{{"name":"{tool}"}}]}}}}"#);
            let answer = Message::read(list.into(), MAX_PEER_DEPTH).unwrap();
            let edits = permit.list().map(|filter| filter.edits(&answer).unwrap());
            let line = answer.to_line(None, &edits.unwrap_or_default());
            may.push(String::from_utf8_lossy(&line.joined()).contains("name"));
        }
    }
    may
}

fn is_within(less: &[bool], more: &[bool]) -> bool {
    less.iter().zip(more).all(|(less, more)| !less || *more)
}

proptest! {
    #[test]
    fn the_order_of_roles_is_no_policy(
        roles in prop::collection::vec(role(), 3),
        order in Just(vec![0, 1, 2]).prop_shuffle(),
    ) {
        prop_assert_eq!(may(&roles, &order), may(&roles, &[0, 1, 2]));
    }

    #[test]
    fn what_a_role_blocks_never_passes(
        roles in prop::collection::vec(role(), 3),
        order in Just(vec![0, 1, 2]).prop_shuffle(),
        tool in prop::sample::select(&TOOLS[..]),
        method in prop::sample::select(&METHODS[..]),
    ) {
        let mut roles = roles;
        roles[1]["blockedTools"] = json!([tool]);
        roles[2]["blockedMethods"] = json!([method]);
        let may = may(&roles, &order);
        for (at, allowed) in may.into_iter().enumerate() {
            let (of, with) = (METHODS[at / TOOLS.len()], TOOLS[at % TOOLS.len()]);
            let blocked = of == method || with == tool && of != "ping";
            prop_assert!(!(allowed && blocked), "{of} {with}");
        }
    }

    #[test]
    fn another_block_never_allows_more(
        roles in prop::collection::vec(role(), 3),
        at in 0usize..3,
        tool in prop::option::of(prop::sample::select(&["a", "*b", "*"][..])),
        method in prop::option::of(prop::sample::select(&METHODS[..])),
    ) {
        let mut blocked = roles.clone();
        for (key, more) in [("blockedTools", tool), ("blockedMethods", method)] {
            let Some(more) = more else { continue };
            let mut list = blocked[at][key].as_array().cloned().unwrap_or_default();
            list.push(json!(more));
            blocked[at][key] = json!(list);
        }
        prop_assert!(is_within(&may(&blocked, &[0, 1, 2]), &may(&roles, &[0, 1, 2])));
    }

    /// Two roles together allow what either of them allows, except for blocks.
    #[test]
    fn roles_without_blocks_add_up(one in role(), other in role()) {
        let strip = |mut role: Value| {
            role["blockedMethods"] = json!([]);
            role["blockedTools"] = json!([]);
            role
        };
        let roles = [strip(one), strip(other)];
        let alone = may(&roles, &[0]).into_iter().zip(may(&roles, &[1]));
        let either: Vec<bool> = alone.map(|(one, other)| one || other).collect();
        prop_assert_eq!(may(&roles, &[0, 1]), either);
    }
}
