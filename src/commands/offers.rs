//! What a server offers and who may use it, as tables and as JSON.

use crate::inventory::{Inventory, Tool};
use crate::mcp::{ItemKind, Method};
use crate::permissions::{Policy, Rights};
use crate::utils::escape::escape;
use serde_json::{Value, json};

/// The roles of a policy, and what each may do.
pub(super) struct RoleAccess {
    roles: Vec<(String, Rights)>,
}

impl RoleAccess {
    pub(super) fn new(policy: &Policy, roles: &[String]) -> Self {
        let of_role = |role: &String| (role.clone(), policy.rights(std::slice::from_ref(role)));
        Self {
            roles: roles.iter().map(of_role).collect(),
        }
    }

    /// For each role whether it may use this item with this method.
    fn verdicts(&self, method: Method, kind: ItemKind, name: &str) -> Vec<bool> {
        let method = method.name();
        let may = |rights: &Rights| {
            let item = rights.judge_item(method, kind, name);
            rights.judge_method(false, method).is_ok() && item.is_none_or(|item| item.is_ok())
        };
        self.roles.iter().map(|(_, rights)| may(rights)).collect()
    }

    /// The names of the roles that may.
    fn who(&self, method: Method, kind: ItemKind, name: &str) -> Vec<&str> {
        let verdicts = self.verdicts(method, kind, name);
        let roles = self.roles.iter().zip(verdicts);
        let may = roles.filter(|(_, may)| *may);
        may.map(|((role, _), _)| role.as_str()).collect()
    }
}

/// What kinds of things a server lists: title, kind, and the method that uses one.
const SECTIONS: [(&str, ItemKind, Method); 4] = [
    ("tool", ItemKind::Tool, Method::CallTool),
    ("prompt", ItemKind::Prompt, Method::GetPrompt),
    ("resource", ItemKind::Resource, Method::ReadResource),
    (
        "resource template",
        ItemKind::Resource,
        Method::ListTemplates,
    ),
];

fn names(inventory: &Inventory, section: usize) -> Vec<&String> {
    match section {
        0 => inventory.tools.iter().map(|tool| &tool.name).collect(),
        1 => inventory.prompts.iter().collect(),
        2 => inventory.resources.iter().collect(),
        _ => inventory.templates.iter().collect(),
    }
}

/// One table for each kind of things that the server offers.
pub(super) fn tables(inventory: &Inventory, access: &RoleAccess) -> String {
    let mut tables = Vec::new();
    for (section, (title, kind, method)) in SECTIONS.into_iter().enumerate() {
        let names = names(inventory, section);
        if names.is_empty() {
            continue;
        }
        let mut rows = vec![head(title, section == 0, access)];
        for (at, name) in names.into_iter().enumerate() {
            let mut row = vec![escape(name)];
            row.extend(hint(inventory.tools.get(at).filter(|_| section == 0)));
            let verdicts = access.verdicts(method, kind, name);
            row.extend(
                verdicts
                    .iter()
                    .map(|may| if *may { "yes" } else { "no" }.to_owned()),
            );
            rows.push(row);
        }
        tables.push(align(&rows));
    }
    if tables.is_empty() {
        return "The server offers no tools, prompts or resources.\n".to_owned();
    }
    tables.join("\n")
}

fn head(title: &str, hints: bool, access: &RoleAccess) -> Vec<String> {
    let mut head = vec![title.to_owned()];
    head.extend(hints.then(|| "hint".to_owned()));
    head.extend(access.roles.iter().map(|(role, _)| escape(role)));
    head
}

fn hint(tool: Option<&Tool>) -> Option<String> {
    tool.map(|tool| tool.hints.effect().to_string())
}

/// Columns as wide as their widest cell.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The same for machines.
pub(super) fn report(inventory: &Inventory, access: &RoleAccess) -> Value {
    let list = |section: usize, key: &str| {
        let (_, kind, method) = SECTIONS[section];
        let names = names(inventory, section).into_iter();
        let entry = |name: &String| json!({key: name, "roles": access.who(method, kind, name)});
        names.map(entry).collect::<Vec<_>>()
    };
    let tools = inventory.tools.iter().map(|tool| {
        json!({
            "name": tool.name,
            "hint": tool.hints.effect().to_string(),
            "readOnlyHint": tool.hints.read_only,
            "destructiveHint": tool.hints.destructive,
            "roles": access.who(Method::CallTool, ItemKind::Tool, &tool.name),
        })
    });
    json!({
        "server": inventory.server,
        "revisions": inventory.revisions,
        "tools": tools.collect::<Vec<_>>(),
        "prompts": list(1, "name"),
        "resources": list(2, "uri"),
        "resourceTemplates": list(3, "uriTemplate"),
        "notes": inventory.notes,
    })
}
