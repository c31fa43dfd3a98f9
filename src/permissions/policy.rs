//! The policy file.

use super::error::{PolicyError, Position};
use super::object::Members;
use super::pattern::Patterns;
use super::rights::Rights;
use super::rule::{Effect, LISTS, List, Rule};
use super::rules::{Methods, Reach, Rules, Use};
use super::uri;
use crate::mcp::{ItemKind, Method};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A policy file, read.
#[derive(Debug)]
pub struct Policy {
    roles: BTreeMap<String, Role>,
    /// What some role has rules on, by [`ItemKind`].
    in_file: [bool; 3],
    /// What peers with these roles have merged, for the next one with the same.
    merged: Mutex<HashMap<Vec<String>, Weak<Rules>>>,
}

/// One role of a policy.
#[derive(Debug)]
pub struct Role {
    rules: Vec<Arc<Rule>>,
    /// It has a list of what it allows, by [`ItemKind`].
    bounds: [bool; 3],
    /// The methods that it allows.
    methods: Patterns,
}

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

    fn list(&self, kind: Option<ItemKind>, effect: Effect) -> impl Iterator<Item = &Arc<Rule>> {
        let wanted = move |rule: &&Arc<Rule>| rule.list.kind == kind && rule.list.effect == effect;
        self.rules.iter().filter(wanted)
    }
}

impl Policy {
    /// Reads a policy from the text of its file.
    ///
    /// # Errors
    /// Whatever is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let top = "the file".to_owned();
        let mut members = Members::read(text, text, &top)?;
        let permissions = members.take("permissions");
        // A misspelt key is why one that is needed is missing.
        members.refuse_rest(&top, &["permissions"])?;
        let permissions = permissions.ok_or(PolicyError::Missing {
            key: "permissions",
            place: top,
        })?;
        let mut roles = BTreeMap::new();
        for member in Members::read(permissions.get(), text, "'permissions'")? {
            let role = read_role(&member.name, member.value, text)?;
            roles.insert(member.name, role);
        }
        let in_file = ItemKind::ALL.map(|kind| {
            let about = |role: &Role| {
                role.bounds(kind) || role.rules.iter().any(|rule| rule.list.kind == Some(kind))
            };
            roles.values().any(about)
        });
        Ok(Self {
            roles,
            in_file,
            merged: Mutex::default(),
        })
    }

    /// The rights of a peer with `roles`. Roles that the policy does not know add nothing.
    #[must_use]
    pub fn rights(&self, roles: &[String]) -> Rights {
        let mut known: Vec<String> = roles.to_vec();
        known.retain(|role| self.has_role(role));
        known.sort_unstable();
        known.dedup();
        let mut merged = self.merged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rules) = merged.get(&known).and_then(Weak::upgrade) {
            return Rights::of(rules);
        }
        let rules = Arc::new(self.merge(&known));
        merged.retain(|_, rules| rules.strong_count() > 0);
        merged.insert(known, Arc::downgrade(&rules));
        Rights::of(rules)
    }

    fn merge(&self, roles: &[String]) -> Rules {
        let roles: Vec<(&String, &Role)> = roles
            .iter()
            .filter_map(|name| self.roles.get_key_value(name))
            .collect();
        let all = |kind, effect| {
            let rules = roles.iter().flat_map(|(_, role)| role.list(kind, effect));
            rules.cloned().collect::<Vec<_>>()
        };
        let block_items = ItemKind::ALL.map(|kind| {
            let rules = all(Some(kind), Effect::Block);
            match kind {
                ItemKind::Resource => Patterns::new(rules, uri::block_text),
                _ => Patterns::as_written(rules),
            }
        });
        // Methods of one kind mostly reach the same things: kept once then.
        let mut reaches: Vec<(ItemKind, Vec<bool>, Arc<Patterns>)> = Vec::new();
        let reach = |Use { method, kind }: &Use| {
            let allows: Vec<bool> = roles
                .iter()
                .map(|(_, role)| role.methods.find(method.name()).is_some())
                .collect();
            let allowing = || {
                let pairs = roles.iter().zip(&allows);
                pairs.filter(|(_, allows)| **allows).map(|(role, _)| role)
            };
            if let Some((name, _)) = allowing().find(|(_, role)| !role.bounds(*kind)) {
                return Reach::Everything(name.as_str().into());
            }
            let same = reaches
                .iter()
                .find(|(of, by, _)| of == kind && *by == allows);
            if let Some((.., patterns)) = same {
                return Reach::Some(Arc::clone(patterns));
            }
            let rules = allowing().flat_map(|(_, role)| role.list(Some(*kind), Effect::Allow));
            let patterns = Arc::new(Patterns::as_written(rules.cloned().collect()));
            reaches.push((*kind, allows, Arc::clone(&patterns)));
            Reach::Some(patterns)
        };
        Rules {
            methods: Methods::new(
                Patterns::as_written(all(None, Effect::Allow)),
                Patterns::as_written(all(None, Effect::Block)),
            ),
            block_items,
            reach: Use::ALL.iter().map(reach).collect(),
            in_file: self.in_file,
        }
    }

    /// True when the policy has a role of this name.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.contains_key(role)
    }

    /// The role of this name.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name)
    }

    /// Roles whose peers can open no session at all, since neither `initialize` (legacy clients)
    /// nor `server/discover` (modern ones) is allowed.
    #[must_use]
    pub fn mute_roles(&self) -> Vec<&str> {
        let mute = |role: &&String| {
            let rights = self.rights(std::slice::from_ref(*role));
            [Method::Initialize, Method::Discover]
                .iter()
                .all(|method| rights.judge_method(false, method.name()).is_err())
        };
        self.roles.keys().filter(mute).map(String::as_str).collect()
    }
}

fn read_role(name: &str, role: &RawValue, file: &str) -> Result<Role, PolicyError> {
    let place = format!("role '{name}'");
    let mut members = Members::read(role.get(), file, &place)?;
    let lists: Vec<_> = LISTS
        .iter()
        .map(|list| (list, members.take(list.key)))
        .collect();
    members.refuse_rest(&place, &LISTS.each_ref().map(|list| list.key))?;
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
    Ok(Role {
        methods: Patterns::as_written(methods.cloned().collect()),
        rules,
        bounds,
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
