//! Policy files: what is accepted is JSON, a block in any role wins, and nothing is allowed that no
//! role allows.

use mcp_remote::jsonrpc::{MAX_PEER_DEPTH, Message};
use mcp_remote::permissions::{Policy, Rights};
use serde_json::{Value, json};

fn allows(rights: &Rights, method: &str) -> bool {
    let line = json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string();
    let message = Message::read(line.into(), MAX_PEER_DEPTH).expect("a request");
    rights.decide(message).is_ok()
}

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let policy = match Policy::parse(text) {
        Ok(policy) => policy,
        Err(err) => {
            assert!(!err.to_string().is_empty());
            return;
        }
    };
    let file: Value = serde_json::from_str(text).expect("what was taken is JSON");
    let roles: Vec<String> = file["permissions"]
        .as_object()
        .expect("roles")
        .keys()
        .cloned()
        .collect();
    // A call with a blocked name is denied when no name can be read.
    let blocks_names = [
        "blockedTools",
        "blockedPrompts",
        "blockedResources",
        "tools",
        "prompts",
    ]
    .iter()
    .any(|list| {
        roles
            .iter()
            .any(|role| file["permissions"][role].get(list).is_some())
    });
    let mut methods = vec!["tools/call".to_owned(), String::new(), "*".to_owned()];
    for role in roles.iter().take(4) {
        assert!(policy.has_role(role));
        for list in ["allowedMethods", "blockedMethods"] {
            let patterns = file["permissions"][role][list]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let patterns = patterns.iter().take(8).filter_map(Value::as_str);
            methods.extend(patterns.map(|pattern| pattern.replace('*', "x")));
        }
    }
    let nobody = policy.rights(&[]);
    let every = policy.rights(&roles);
    for method in &methods {
        assert!(!allows(&nobody, method));
        let alone: Vec<Rights> = roles
            .iter()
            .map(|role| policy.rights(std::slice::from_ref(role)))
            .collect();
        let blocked = alone.iter().any(|rights| rights.blocks(method));
        let allowed = alone.iter().any(|rights| allows(rights, method));
        assert_eq!(every.blocks(method), blocked);
        assert!(!(allows(&every, method) && blocked));
        assert!(!allows(&every, method) || allowed);
        assert!(blocked || blocks_names || allows(&every, method) == allowed);
    }
    for role in policy.mute_roles() {
        let rights = policy.rights(&[role.to_owned()]);
        assert!(!allows(&rights, "initialize") && !allows(&rights, "server/discover"));
    }
}
