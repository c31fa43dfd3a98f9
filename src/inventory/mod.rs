//! What an MCP server offers, as its lists say it. [`Session`] asks for it, as an MCP client of either
//! era, and knows no I/O: lines go in, lines come out. [`draft`] makes a policy of it.

mod draft;
mod session;

pub use draft::{Draft, Role, draft, pattern_of_template};
pub use session::{Fault, Session, Step};

use serde_json::Value;
use std::fmt;

/// All that a server lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Its name and version, as far as it says them.
    pub server: Option<String>,
    /// The revisions of MCP in which it was asked and has answered.
    pub revisions: Vec<String>,
    /// Its tools.
    pub tools: Vec<Tool>,
    /// The names of its prompts.
    pub prompts: Vec<String>,
    /// The URIs of its resources.
    pub resources: Vec<String>,
    /// Its resource templates.
    pub templates: Vec<String>,
    /// What could not be read of its lists.
    pub notes: Vec<String>,
    /// The beginning of its first line that is no message.
    pub stray: Option<String>,
}

impl Inventory {
    /// Adds what the server offers to clients of another era. Of two hints the more careful one counts.
    pub fn merge(&mut self, other: Self) {
        self.server = self.server.take().or(other.server);
        self.stray = self.stray.take().or(other.stray);
        self.revisions.extend(other.revisions);
        for tool in other.tools {
            match self.tools.iter_mut().find(|known| known.name == tool.name) {
                Some(known) => {
                    known.hints = known.hints.most_careful(tool.hints);
                    known.definitions.extend(tool.definitions);
                }
                None => self.tools.push(tool),
            }
        }
        for (names, others) in [
            (&mut self.prompts, other.prompts),
            (&mut self.resources, other.resources),
            (&mut self.templates, other.templates),
            (&mut self.notes, other.notes),
        ] {
            for name in others {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
}

/// A tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its description.
    pub hints: Hints,
    /// Its definitions, in all answers of the server.
    pub definitions: Vec<Value>,
}

/// The hints of a tool: the server's word, which nothing checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `readOnlyHint`
    pub read_only: Option<bool>,
    /// `destructiveHint`
    pub destructive: Option<bool>,
}

/// What the hints of a tool come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It changes nothing.
    ReadOnly,
    /// It only adds.
    Additive,
    /// It is not declared.
    Unmarked,
    /// It may change or delete what is there.
    Destructive,
}

impl Hints {
    /// As MCP reads them: what is not read-only is destructive unless it says otherwise. Two that
    /// contradict each other are destructive; a tool without any is [`Effect::Unmarked`].
    #[must_use]
    pub fn effect(self) -> Effect {
        match (self.read_only, self.destructive) {
            (_, Some(true)) | (Some(false), None) => Effect::Destructive,
            (Some(true), _) => Effect::ReadOnly,
            (_, Some(false)) => Effect::Additive,
            (None, None) => Effect::Unmarked,
        }
    }

    fn most_careful(self, other: Self) -> Self {
        let rank = |hints: Self| match hints.effect() {
            Effect::ReadOnly => 0,
            Effect::Additive => 1,
            Effect::Unmarked => 2,
            Effect::Destructive => 3,
        };
        if rank(other) > rank(self) {
            other
        } else {
            self
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ReadOnly => "read-only",
            Self::Additive => "only adds",
            Self::Unmarked => "none",
            Self::Destructive => "destructive",
        })
    }
}

#[cfg(test)]
mod tests;
