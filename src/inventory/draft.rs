//! Drafts a policy for a server, with the names of what it offers.

use super::{Effect, Inventory};
use crate::mcp::Method;
use serde::Serialize;
use std::collections::BTreeSet;

/// A role that can be drafted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything
    Admin,
    /// Everything but the tools that are marked destructive
    User,
    /// Reading, and the tools that are marked read-only
    Readonly,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Admin, Self::User, Self::Readonly];

    /// Its name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
            Self::Readonly => "readonly",
        }
    }

    fn may_call(self, effect: Effect) -> bool {
        match self {
            Self::Admin => true,
            Self::User => effect != Effect::Destructive,
            Self::Readonly => effect == Effect::ReadOnly,
        }
    }
}

/// A policy, and what it could not name.
#[derive(Debug)]
pub struct Draft {
    /// The text of the file.
    pub text: String,
    /// Names that rules cannot mean: a `*` in a rule stands for any text.
    pub unnameable: Vec<String>,
}

#[derive(Serialize)]
struct File {
    permissions: Permissions,
}

#[derive(Serialize)]
struct Permissions {
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<Rules>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Rules>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readonly: Option<Rules>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rules {
    allowed_methods: Vec<&'static str>,
    blocked_methods: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_tools: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_prompts: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_resources: Option<BTreeSet<String>>,
}

/// A policy with these roles for a server that offers this.
#[must_use]
pub fn draft(inventory: &Inventory, roles: &[Role]) -> Draft {
    let tools = inventory.tools.iter().map(|tool| &tool.name);
    let named = tools.chain(&inventory.prompts).chain(&inventory.resources);
    let templates = inventory.templates.iter();
    let unnameable = named
        .filter(|name| !can_be_named(name))
        .chain(templates.filter(|template| pattern_of_template(template).is_none()))
        .cloned()
        .collect();
    let rules = |role: Role| roles.contains(&role).then(|| rules(inventory, role));
    let file = File {
        permissions: Permissions {
            admin: rules(Role::Admin),
            user: rules(Role::User),
            readonly: rules(Role::Readonly),
        },
    };
    // Strings and lists can always be written.
    let text = serde_json::to_string_pretty(&file).unwrap_or_default();
    Draft {
        text: text + "\n",
        unnameable,
    }
}

fn rules(inventory: &Inventory, role: Role) -> Rules {
    let blocked_methods = vec![Method::ListRoots.name()];
    if role == Role::Admin {
        return Rules {
            allowed_methods: vec!["*"],
            blocked_methods,
            allowed_tools: None,
            allowed_prompts: None,
            allowed_resources: None,
        };
    }
    let callable = inventory
        .tools
        .iter()
        .filter(|tool| role.may_call(tool.hints.effect()) && can_be_named(&tool.name));
    let nameable = |names: &[String]| {
        let names = names.iter().filter(|name| can_be_named(name));
        names.cloned().collect::<Vec<_>>()
    };
    let mut resources: BTreeSet<String> = inventory
        .templates
        .iter()
        .filter_map(|template| pattern_of_template(template))
        .collect();
    resources.extend(nameable(&inventory.resources));
    Rules {
        allowed_methods: methods(role),
        blocked_methods,
        allowed_tools: Some(callable.map(|tool| tool.name.clone()).collect()),
        allowed_prompts: Some(nameable(&inventory.prompts)),
        allowed_resources: Some(resources),
    }
}

/// Methods that read, and for users those that keep something for them, too.
fn methods(role: Role) -> Vec<&'static str> {
    let reading = [
        Method::Initialize,
        Method::Discover,
        Method::Ping,
        Method::ListTools,
        Method::CallTool,
        Method::ListPrompts,
        Method::GetPrompt,
        Method::ListResources,
        Method::ListTemplates,
        Method::ReadResource,
        Method::Subscribe,
        Method::Unsubscribe,
        Method::Listen,
        Method::Complete,
        Method::GetTask,
        Method::ListTasks,
        Method::TaskResult,
    ];
    let of_users = [Method::SetLevel, Method::UpdateTask, Method::CancelTask];
    let of_users = of_users.into_iter().filter(|_| role == Role::User);
    let methods = reading.into_iter().chain(of_users).map(Method::name);
    methods.chain(["notifications/*"]).collect()
}

/// A server could otherwise offer a tool named `*`, and so open all its tools.
fn can_be_named(name: &str) -> bool {
    !name.is_empty() && !name.contains('*')
}

/// What a template may become, as a pattern of a rule; `None` where a `*` stands in it as such.
#[must_use]
pub fn pattern_of_template(template: &str) -> Option<String> {
    let mut pattern = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (_, behind) = after.split_once('}')?;
        pattern.push_str(before);
        if !pattern.ends_with('*') {
            pattern.push('*');
        }
        if before.contains('*') {
            return None;
        }
        rest = behind;
    }
    if rest.contains('*') {
        return None;
    }
    pattern.push_str(rest);
    (!pattern.is_empty()).then_some(pattern)
}
