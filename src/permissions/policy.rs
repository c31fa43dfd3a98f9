//! The policy file.

use super::arguments::Claims;
use super::error::PolicyError;
use super::object::Members;
use super::pattern::Patterns;
use super::rights::Rights;
use super::role::{Role, merge_arguments, read_role};
use super::rule::{Effect, Rule};
use super::rules::{Methods, Reach, Rules, Use};
use super::uri;
use crate::jsonrpc::Message;
use crate::mcp::{ItemKind, Method};
use crate::utils::lock::lock;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, Weak};

/// A policy file, read.
#[derive(Debug)]
pub struct Policy {
    roles: BTreeMap<String, Role>,
    /// Whether any role has rules, by [`ItemKind`].
    in_file: [bool; 3],
    /// Merged rules by roles, for the next peer with the same ones.
    merged: Mutex<HashMap<Vec<String>, Weak<Rules>>>,
}

impl Policy {
    /// Reads a policy from the text of its file.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let top = "the file".to_owned();
        let mut members = Members::read(text, text, &top)?;
        let permissions = members.take("permissions");
        // A misspelt key explains a missing one, so report it first.
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
                role.bounds(kind) || role.rules().iter().any(|rule| rule.list.kind == Some(kind))
            };
            roles.values().any(about)
        });
        Ok(Self {
            roles,
            in_file,
            merged: Mutex::default(),
        })
    }

    /// The rights of a peer with `roles`, without claims. Unknown roles add nothing.
    #[must_use]
    pub fn rights(&self, roles: &[String]) -> Rights {
        self.rights_of(roles, |_| None)
    }

    /// The rights of a peer with `roles`, and with the claims that `claim` finds by their names or JSON
    /// Pointers.
    #[must_use]
    pub fn rights_of(
        &self,
        roles: &[String],
        claim: impl Fn(&str) -> Option<serde_json::Value>,
    ) -> Rights {
        let rules = self.rules(roles);
        let claims = Claims::new(rules.claims(), claim);
        Rights::of(rules, claims)
    }

    /// The role that a peer with `roles` lacks for this message; of several that would do, and of which `is_meant`
    /// holds, the one that allows the least. `None` where it lacks nothing, or no role would do.
    #[must_use]
    pub fn missing_role(
        &self,
        roles: &[String],
        claim: impl Fn(&str) -> Option<serde_json::Value>,
        message: &Message,
        is_meant: impl Fn(&str) -> bool,
    ) -> Option<&str> {
        if self.rights_of(roles, &claim).allows(message) {
            return None;
        }
        let would_do = |role: &&String| {
            let with: Vec<String> = roles.iter().chain([*role]).cloned().collect();
            self.rights_of(&with, &claim).allows(message)
        };
        let breadth = |role: &&String| self.rights(std::slice::from_ref(*role)).breadth();
        let meant = self.roles.keys().filter(|role| is_meant(role));
        let least = meant.filter(would_do).min_by_key(breadth);
        least.map(String::as_str)
    }

    fn rules(&self, roles: &[String]) -> Arc<Rules> {
        let mut known: Vec<String> = roles.to_vec();
        known.retain(|role| self.has_role(role));
        known.sort_unstable();
        known.dedup();
        let mut merged = lock(&self.merged);
        if let Some(rules) = merged.get(&known).and_then(Weak::upgrade) {
            return rules;
        }
        let rules = Arc::new(self.merge(&known));
        merged.retain(|_, rules| rules.strong_count() > 0);
        merged.insert(known, Arc::downgrade(&rules));
        rules
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
        let all_roles: Vec<&Role> = roles.iter().map(|(_, role)| *role).collect();
        Rules {
            methods: Methods::new(
                Patterns::as_written(all(None, Effect::Allow)),
                Patterns::as_written(all(None, Effect::Block)),
            ),
            block_items,
            reach: Use::ALL.iter().map(reach).collect(),
            in_file: self.in_file,
            arguments: merge_arguments(&all_roles),
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

    /// The names of its roles.
    pub fn role_names(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(String::as_str)
    }

    /// The rules of all roles on items of this kind.
    pub fn rules_about(&self, kind: ItemKind) -> impl Iterator<Item = &Rule> {
        let rules = self.roles.values().flat_map(Role::rules);
        let about = move |rule: &&Arc<Rule>| rule.list.kind == Some(kind);
        rules.filter(about).map(|rule| &**rule)
    }

    /// The rules of all roles on methods.
    pub(super) fn rules_about_methods(&self) -> impl Iterator<Item = &Rule> {
        let rules = self.roles.values().flat_map(Role::rules);
        rules
            .filter(|rule| rule.list.kind.is_none())
            .map(|rule| &**rule)
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
