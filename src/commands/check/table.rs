//! All that some roles may do, as a table.

use super::judge;
use crate::mcp::{ItemKind, Method, Sender};
use crate::permissions::{Effect, Policy, Reason, Rights, Role};
use std::collections::HashSet;

/// The roles of a table that the policy knows.
type Known<'a> = [(&'a String, &'a Role)];

/// All that these roles may do.
pub(in crate::commands) fn table(policy: &Policy, rights: &Rights, roles: &[String]) -> String {
    let known = roles
        .iter()
        .filter_map(|name| Some((name, policy.role(name)?)));
    let known: Vec<_> = known.collect();
    let mut lines = of_methods(rights, &known);
    for kind in ItemKind::ALL {
        lines.push(format!(
            "\n{}, for the methods that a role allows:",
            kind.plural()
        ));
        for (name, role) in &known {
            of_items(name, role, kind, &mut lines);
        }
        if known.is_empty() {
            lines.push("no role allows any".to_owned());
        }
    }
    lines.join("\n") + "\n"
}

/// A row for each method: those of clients, those that rules name, and those that servers ask of clients.
fn of_methods(rights: &Rights, known: &Known<'_>) -> Vec<String> {
    let of_clients = |method: &&Method| method.sender() != Sender::Server;
    let of_clients = Method::ALL.iter().filter(of_clients);
    let mut methods: Vec<&str> = of_clients.map(|method| method.name()).collect();
    let asked: Vec<&str> = Method::asked_of_clients().map(Method::name).collect();
    for (_, role) in known {
        let of_methods = role
            .rules()
            .iter()
            .filter(|rule| rule.list().kind.is_none());
        methods.extend(of_methods.map(|rule| rule.pattern()));
    }
    let mut seen = HashSet::new();
    methods.retain(|method| !asked.contains(method) && seen.insert(*method));
    let width = methods.iter().map(|method| method.len()).max().unwrap_or(0);
    let mut lines = vec![format!("{:width$}  may  because", "method")];
    let row = |method: &str, may: bool, reason: &str| {
        let may = if may { "yes" } else { "no" };
        format!("{method:width$}  {may:3}  {reason}")
    };
    for method in methods {
        let verdict = judge(rights, method);
        let (Ok(reason) | Err(reason)) = verdict;
        lines.push(row(method, verdict.is_ok(), &reason.to_string()));
    }
    lines.push("\nasked of the peer by the MCP server:".to_owned());
    for method in asked {
        let blocked = rights.judge_method(false, method).err();
        let reason = match blocked {
            Some(reason @ Reason::Rule(_)) => reason.to_string(),
            _ => "no rule blocks it".to_owned(),
        };
        lines.push(row(method, !rights.blocks(method), &reason));
    }
    lines
}

/// The rules of one role on items of one kind.
fn of_items(name: &str, role: &Role, kind: ItemKind, lines: &mut Vec<String>) {
    if !role.bounds(kind) {
        lines.push(format!("role '{name}': no restriction"));
    }
    let rules = role.rules().iter();
    let rules: Vec<_> = rules
        .filter(|rule| rule.list().kind == Some(kind))
        .collect();
    let allows_some = rules.iter().any(|rule| rule.list().effect == Effect::Allow);
    if role.bounds(kind) && !allows_some {
        lines.push(format!("role '{name}' allows none"));
    }
    for rule in rules {
        let does = match rule.list().effect {
            Effect::Allow => "allows",
            Effect::Block => "blocks, for all roles,",
        };
        let (pattern, line) = (rule.pattern(), rule.line());
        lines.push(format!("role '{name}' {does} '{pattern}' (line {line})"));
    }
}
