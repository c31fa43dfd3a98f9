//! One pattern of the policy file, and its position.

use crate::mcp::ItemKind;
use std::fmt;

/// What a rule does where it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It allows.
    Allow,
    /// It forbids, even if another rule allows.
    Block,
}

/// A list of patterns in a role.
#[derive(Debug, PartialEq, Eq)]
pub struct List {
    /// Its key in the file.
    pub key: &'static str,
    /// What the patterns are about; `None` for methods.
    pub kind: Option<ItemKind>,
    /// What they do.
    pub effect: Effect,
}

/// Every list that a role may have; the first must be there.
pub(super) const LISTS: [List; 8] = [
    List::new("allowedMethods", None, Effect::Allow),
    List::new("blockedMethods", None, Effect::Block),
    List::new("allowedTools", Some(ItemKind::Tool), Effect::Allow),
    List::new("blockedTools", Some(ItemKind::Tool), Effect::Block),
    List::new("allowedPrompts", Some(ItemKind::Prompt), Effect::Allow),
    List::new("blockedPrompts", Some(ItemKind::Prompt), Effect::Block),
    List::new("allowedResources", Some(ItemKind::Resource), Effect::Allow),
    List::new("blockedResources", Some(ItemKind::Resource), Effect::Block),
];

impl List {
    const fn new(key: &'static str, kind: Option<ItemKind>, effect: Effect) -> Self {
        Self { key, kind, effect }
    }
}

/// One pattern of the policy file.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) role: String,
    pub(super) list: &'static List,
    pub(super) pattern: String,
    pub(super) line: usize,
}

impl Rule {
    /// The role that it belongs to.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The list that it is in.
    #[must_use]
    pub fn list(&self) -> &'static List {
        self.list
    }

    /// The pattern, as written.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Its line in the file, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "role '{}', {} '{}' (line {})",
            self.role, self.list.key, self.pattern, self.line
        )
    }
}
