//! Rules as tables.

mod files;
mod items;
mod lists;
mod properties;

use super::*;
use crate::jsonrpc::MAX_PEER_DEPTH;
use crate::utils::chunks::Pieces;

const POLICY: &str = r#"{"permissions": {
    "reader": {"allowedMethods": ["ping", "tools/list", "resources/*"], "blockedMethods": ["resources/write"]},
    "caller": {"allowedMethods": ["tools/*"]},
    "tame": {"allowedMethods": ["initialize"], "blockedMethods": ["tools/call"]},
    "admin": {"allowedMethods": ["*"], "blockedMethods": []},
    "nobody": {"allowedMethods": [], "blockedMethods": ["*"]},
    "quiet": {"allowedMethods": ["*"], "blockedMethods": ["notifications/*"]}
}}"#;

fn decide(roles: &[&str], line: &str) -> Result<Permit, Denial> {
    let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    let message = Message::read(line.to_owned().into(), MAX_PEER_DEPTH).unwrap();
    Policy::parse(POLICY)
        .unwrap()
        .rights(&roles)
        .decide(message)
}

#[test]
fn the_table_of_decisions() {
    for (roles, method, allowed) in [
        (&["reader"][..], "ping", true),
        (&["reader"], "tools/list", true),
        (&["reader"], "tools/call", false),
        (&["reader"], "resources/read", true),
        (&["reader"], "resources/templates/list", true),
        (&["reader"], "resources/write", false),
        (&["reader"], "resources", false),
        (&["reader"], "Ping", false),
        (&["reader"], "", false),
        (&["caller"], "tools/call", true),
        (&["caller"], "toolsx/call", false),
        (&["reader", "caller"], "tools/call", true),
        (&["caller", "reader"], "resources/read", true),
        (&["caller", "tame"], "tools/call", false),
        (&["tame", "caller"], "tools/call", false),
        (&["admin", "tame"], "tools/call", false),
        (&["tame", "admin"], "tools/call", false),
        (&["admin"], "anything/at/all", true),
        (&["admin", "nobody"], "ping", false),
        (&["unknown"], "ping", false),
        (&[], "ping", false),
        (&["unknown", "reader"], "ping", true),
    ] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
        assert_eq!(decide(roles, &line).is_ok(), allowed, "{roles:?} {method}");
    }
}

#[test]
fn what_is_not_the_policys_passes() {
    for line in [
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
    ] {
        assert!(decide(&["nobody"], line).is_ok(), "{line}");
    }
    assert!(
        decide(
            &["quiet"],
            r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#
        )
        .is_err()
    );
    // As a request it is not a handshake notification, and needs a rule.
    assert!(
        decide(
            &["reader"],
            r#"{"jsonrpc":"2.0","id":1,"method":"notifications/initialized"}"#
        )
        .is_err()
    );
}

#[test]
fn denials_name_the_rule() {
    let denial = decide(
        &["caller", "tame"],
        r#"{"jsonrpc":"2.0","id":0,"method":"tools/call"}"#,
    )
    .unwrap_err();
    assert_eq!(
        denial.rule.as_ref().unwrap().to_string(),
        "role 'tame', blockedMethods 'tools/call' (line 4)"
    );
    assert_eq!(
        String::from_utf8(denial.to_line().unwrap()).unwrap(),
        "{\"jsonrpc\":\"2.0\",\"id\":0,\"error\":{\"code\":-32601,\"message\":\"Method not allowed: Access denied for method 'tools/call'\"}}\n"
    );
    let vanished = decide(&["reader"], r#"{"jsonrpc":"2.0","method":"tools/call"}"#).unwrap_err();
    assert!(vanished.to_line().is_none() && vanished.rule.is_none());
}

/// Roles with rules on tools, prompts and resources. Those of one letter only restrict.
const ITEMS: &str = r#"{"permissions": {
    "all": {"allowedMethods": ["*"]},
    "reader": {
        "allowedMethods": ["tools/*", "prompts/*", "resources/*", "completion/complete", "subscriptions/listen"],
        "allowedTools": ["read_*", "list"],
        "allowedPrompts": ["*summary"],
        "allowedResources": ["note:///public/*", "note:///one"]
    },
    "writer": {"allowedMethods": ["tools/call"], "allowedTools": ["write", "read_all"]},
    "methodless": {"allowedMethods": ["ping"], "allowedTools": ["*"], "allowedResources": ["*"]},
    "lister": {"allowedMethods": ["tools/list"]},
    "careful": {"allowedMethods": ["*"], "blockedTools": ["*delete*"], "blockedResources": ["note:///secret*"], "blockedPrompts": ["x"]},
    "t": {"allowedMethods": [], "blockedTools": ["read_all"]},
    "none": {"allowedMethods": ["*"], "allowedTools": [], "allowedPrompts": [], "allowedResources": []}
}}"#;

fn rights_of(policy: &str, roles: &[&str]) -> Rights {
    let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    Policy::parse(policy).unwrap().rights(&roles)
}

fn ask(roles: &[&str], method: &str, params: &str) -> Result<Permit, Denial> {
    let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    let message = Message::read(line.into(), MAX_PEER_DEPTH).unwrap();
    rights_of(ITEMS, roles).decide(message)
}
