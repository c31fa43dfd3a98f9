//! One role of the policy file.

use super::arguments::{ItemRules, Ruled, read_items};
use super::error::{PolicyError, Position};
use super::object::Members;
use super::pattern::{Patterns, matches};
use super::rule::{Effect, LISTS, List, Rule};
use crate::mcp::{ItemKind, Method};
use foldhash::HashMap;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One role of a policy.
#[derive(Debug)]
pub struct Role {
    pub(super) rules: Vec<Arc<Rule>>,
    /// It has a list of what it allows, by [`ItemKind`].
    bounds: [bool; 3],
    /// The methods that it allows.
    pub(super) methods: Patterns,
    /// Rules on the arguments of tools and of prompts, as [`RULED`] has them.
    arguments: [BTreeMap<String, ItemRules>; RULED.len()],
}

/// The members of a role that have rules on arguments, what of, and the method that they hold for.
const RULED: [(&str, ItemKind, Method); 2] = [
    ("tools", ItemKind::Tool, Method::CallTool),
    ("prompts", ItemKind::Prompt, Method::GetPrompt),
];

impl Role {
    /// Its rules, list by list.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// True when it allows only what it names of this kind.
    #[must_use]
    pub fn bounds(&self, kind: ItemKind) -> bool {
        self.bounds[kind as usize]
    }

    /// True when it has rules on the arguments of this tool or prompt.
    #[must_use]
    pub fn rules_arguments(&self, kind: ItemKind, name: &str) -> bool {
        let ruled = RULED.iter().zip(&self.arguments);
        ruled
            .filter(|((_, of, _), _)| *of == kind)
            .any(|(_, items)| items.contains_key(name))
    }

    /// True if it allows this item, regardless of blocks.
    fn allows(&self, method: Method, kind: ItemKind, name: &str) -> bool {
        let mut items = self.list(Some(kind), Effect::Allow);
        let reaches = |rule: &Arc<Rule>| matches(&rule.pattern, name);
        self.methods.find(method.name()).is_some() && (!self.bounds(kind) || items.any(reaches))
    }

    pub(super) fn list(
        &self,
        kind: Option<ItemKind>,
        effect: Effect,
    ) -> impl Iterator<Item = &Arc<Rule>> {
        let wanted = move |rule: &&Arc<Rule>| rule.list.kind == kind && rule.list.effect == effect;
        self.rules.iter().filter(wanted)
    }
}

/// What the roles of a peer together say of the arguments of each tool, and of each prompt, that one of
/// them has rules on.
pub(super) fn merge_arguments(roles: &[&Role]) -> [HashMap<Box<[u8]>, Ruled>; RULED.len()] {
    let mut merged: [HashMap<Box<[u8]>, Ruled>; RULED.len()] = Default::default();
    for (at, (_, kind, method)) in RULED.into_iter().enumerate() {
        let of_roles = || roles.iter().map(|role| (role, &role.arguments[at]));
        for name in of_roles().flat_map(|(_, items)| items.keys()) {
            let mut ruled = Ruled::default();
            for (role, items) in of_roles() {
                let rules = items.get(name);
                ruled
                    .blocks
                    .extend(rules.and_then(|rules| rules.block.clone()));
                if role.allows(method, kind, name) {
                    match rules.and_then(|rules| rules.allow.clone()) {
                        Some(tree) => ruled.grants.push(tree),
                        None => ruled.free = true,
                    }
                }
            }
            merged[at].insert(name.as_bytes().into(), ruled);
        }
    }
    merged
}

/// Reads the role of this name.
pub(super) fn read_role(name: &str, role: &RawValue, file: &str) -> Result<Role, PolicyError> {
    let place = format!("role '{name}'");
    let mut members = Members::read(role.get(), file, &place)?;
    let lists: Vec<_> = LISTS
        .iter()
        .map(|list| (list, members.take(list.key)))
        .collect();
    let ruled = RULED.map(|(key, ..)| members.take(key));
    let lists_known = LISTS.iter().map(|list| list.key);
    let known: Vec<_> = lists_known.chain(RULED.map(|(key, ..)| key)).collect();
    members.refuse_rest(&place, &known)?;
    let (mut rules, mut bounds) = (Vec::new(), [false; 3]);
    for (list, text) in lists {
        let Some(text) = text else {
            if list.kind.is_none() && list.effect == Effect::Allow {
                let key = list.key;
                return Err(PolicyError::Missing { key, place });
            }
            continue;
        };
        if let (Some(kind), Effect::Allow) = (list.kind, list.effect) {
            bounds[kind as usize] = true;
        }
        let place = format!("role '{name}', key '{}'", list.key);
        rules.extend(read_list(name, list, text, file, &place)?);
    }
    let methods = rules
        .iter()
        .filter(|rule| rule.list.kind.is_none() && rule.list.effect == Effect::Allow);
    let mut arguments: [BTreeMap<String, ItemRules>; RULED.len()] = Default::default();
    for (at, text) in ruled.into_iter().enumerate() {
        if let Some(text) = text {
            arguments[at] = read_items(name, RULED[at].0, text, file)?;
        }
    }
    Ok(Role {
        methods: Patterns::as_written(methods.cloned().collect()),
        rules,
        bounds,
        arguments,
    })
}

fn read_list(
    role: &str,
    list: &'static List,
    text: &RawValue,
    file: &str,
    place: &str,
) -> Result<Vec<Arc<Rule>>, PolicyError> {
    let wrong = |_| PolicyError::WrongType {
        place: place.to_owned(),
        expected: "a list of strings",
    };
    let elements: Vec<&RawValue> = serde_json::from_str(text.get()).map_err(wrong)?;
    let mut rules = Vec::new();
    for element in elements {
        let pattern: String = serde_json::from_str(element.get()).map_err(wrong)?;
        check_pattern(list, &pattern, place)?;
        rules.push(Arc::new(Rule {
            role: role.to_owned(),
            list,
            pattern,
            line: Position::of(element.get(), file).line,
        }));
    }
    Ok(rules)
}

fn check_pattern(list: &List, pattern: &str, place: &str) -> Result<(), PolicyError> {
    let place = || place.to_owned();
    if list.kind.is_some() {
        return if pattern.is_empty() {
            Err(PolicyError::Empty { place: place() })
        } else {
            Ok(())
        };
    }
    let stem = pattern.strip_suffix("/*").unwrap_or(pattern);
    if pattern != "*" && (stem.is_empty() || stem.contains('*')) {
        return Err(PolicyError::BadPattern {
            pattern: pattern.to_owned(),
            place: place(),
        });
    }
    Ok(())
}
