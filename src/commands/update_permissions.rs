//! `generate-permissions --update`: new items become blocked where a role has a list of their kind, missing
//! ones are reported, and the rest of the file is unchanged.

use super::Failure;
use crate::inventory::{Inventory, pattern_of_template};
use crate::mcp::ItemKind;
use crate::permissions::{Effect, Policy, Role, append, matches, may_meet};
use crate::utils::text;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file as it is.
pub(super) struct Old {
    pub(super) path: PathBuf,
    pub(super) text: String,
    policy: Policy,
}

/// The updated file, and a list of changes.
pub(super) struct Update {
    pub(super) text: String,
    pub(super) policy: Policy,
    pub(super) changes: Vec<Change>,
}

/// A difference between the file and the server.
pub(super) enum Change {
    /// Offered, and named nowhere in the file.
    New {
        kind: ItemKind,
        name: String,
        /// The roles in which it is blocked now.
        blocked: Vec<String>,
    },
    /// A rule about something that is not offered.
    Gone(String),
    /// Roles for which no list says what of this kind they may use: nothing was added to them.
    Unlisted { kind: ItemKind, roles: Vec<String> },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New {
                kind,
                name,
                blocked,
            } if blocked.is_empty() => {
                write!(f, "new: {kind} '{name}'; no role blocks it, look at it")
            }
            Self::New {
                kind,
                name,
                blocked,
            } => write!(
                f,
                "new: {kind} '{name}', blocked for {}",
                blocked.join(", ")
            ),
            Self::Gone(rule) => write!(f, "gone: {rule}: the server does not offer it"),
            Self::Unlisted { kind, roles } => write!(
                f,
                "kept: no list says which {} these roles may use, so nothing is added: {}",
                kind.plural(),
                roles.join(", ")
            ),
        }
    }
}

/// Reads a policy file that is to be brought up to date.
///
/// # Errors
/// That it cannot be read, or is not one.
pub(super) fn read(path: &Path) -> Result<Old, Failure> {
    let name = path.display();
    let text = text::read(path)
        .map_err(|err| Failure::caused(format!("could not read the policy file {name}"), err))?;
    let policy = Policy::parse(&text)
        .map_err(|err| Failure::caused(format!("the policy file {name} is not valid"), err))?;
    Ok(Old {
        path: path.to_owned(),
        text,
        policy,
    })
}

/// The names that rules may have for what the server offers.
fn offered(inventory: &Inventory, kind: ItemKind) -> Vec<String> {
    match kind {
        ItemKind::Tool => inventory
            .tools
            .iter()
            .map(|tool| tool.name.clone())
            .collect(),
        ItemKind::Prompt => inventory.prompts.clone(),
        ItemKind::Resource => {
            let templates = inventory.templates.iter();
            let patterns = templates.filter_map(|template| pattern_of_template(template));
            inventory
                .resources
                .iter()
                .cloned()
                .chain(patterns)
                .collect()
        }
    }
}

/// Brings the file up to date with what the server offers.
///
/// # Errors
/// That the new text would be no policy.
pub(super) fn update(old: &Old, inventory: &Inventory) -> Result<Update, Failure> {
    let mut text = old.text.clone();
    let mut changes = Vec::new();
    for kind in ItemKind::ALL {
        let offered = offered(inventory, kind);
        let rules: Vec<_> = old.policy.rules_about(kind).collect();
        let named = |name: &str| {
            let mut patterns = rules.iter().map(|rule| rule.pattern());
            patterns.any(|pattern| pattern != "*" && matches(pattern, name))
        };
        let new: Vec<String> = offered
            .iter()
            .filter(|name| !named(name))
            .cloned()
            .collect();
        // Without a list of what is allowed, all that is not blocked looks new.
        let mut roles = old
            .policy
            .role_names()
            .filter_map(|name| old.policy.role(name));
        let known = roles.any(|role| role.bounds(kind));
        let lists = |role: &&str| {
            let role = old.policy.role(role);
            known && role.is_some_and(|role| has_list(role, kind))
        };
        let (listed, unlisted): (Vec<&str>, Vec<&str>) = old.policy.role_names().partition(lists);
        let mut blocked: Vec<Vec<String>> = vec![Vec::new(); new.len()];
        for role in &listed {
            let blockable = |name: &&String| can_be_blocked(&old.policy, role, kind, name);
            let names: Vec<String> = new.iter().filter(blockable).cloned().collect();
            for (name, roles) in new.iter().zip(&mut blocked) {
                if names.contains(name) {
                    roles.push((*role).to_owned());
                }
            }
            text = append(&text, role, blocked_list(kind), &names)?;
        }
        if !new.is_empty() && !unlisted.is_empty() {
            let roles = unlisted.into_iter().map(str::to_owned).collect();
            changes.push(Change::Unlisted { kind, roles });
        }
        // Where nothing can be added, the table alone says what there is.
        let new = new.into_iter().zip(blocked).filter(|_| !listed.is_empty());
        changes.extend(new.map(|(name, blocked)| Change::New {
            kind,
            name,
            blocked,
        }));
        let gone = rules.iter().filter(|rule| {
            let mut offered = offered.iter();
            // A name with a '*' is that of a template here, which offers all that it matches.
            !offered.any(|name| rule.pattern() == name || may_meet(rule.pattern(), name))
        });
        changes.extend(gone.map(|rule| Change::Gone(rule.to_string())));
    }
    let policy = Policy::parse(&text)?;
    Ok(Update {
        text,
        policy,
        changes,
    })
}

fn blocked_list(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Tool => "blockedTools",
        ItemKind::Prompt => "blockedPrompts",
        ItemKind::Resource => "blockedResources",
    }
}

/// A role without one may use everything of this kind that its methods allow: a list with what is new, which
/// may be all that there is, would take that away.
fn has_list(role: &Role, kind: ItemKind) -> bool {
    let mut rules = role.rules().iter();
    role.bounds(kind) || rules.any(|rule| rule.list().kind == Some(kind))
}

/// A name with a `*` stands for others, too: it is blocked only where it forbids nothing that the role
/// allows by name.
fn can_be_blocked(policy: &Policy, role: &str, kind: ItemKind, name: &str) -> bool {
    if !name.contains('*') {
        return !name.is_empty();
    }
    let template = kind == ItemKind::Resource;
    let mut allowed = policy
        .rules_about(kind)
        .filter(|rule| rule.role() == role && rule.list().effect == Effect::Allow);
    template && name != "*" && !allowed.any(|rule| matches(name, rule.pattern()))
}

/// Replaces the file at once, or not at all; permissions and links stay.
///
/// # Errors
/// That it cannot be written.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let failed = |err| Failure::caused(format!("could not write {}", path.display()), err);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let write = || {
        let mut file = File::create_new(&beside)?;
        if let Ok(metadata) = path.metadata() {
            file.set_permissions(metadata.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)
    };
    write().map_err(|err| {
        let _unwritten = std::fs::remove_file(&beside);
        failed(err)
    })
}
