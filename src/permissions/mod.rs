//! What roles may do: the policy file, and the decision on each message.
//!
//! Only [`Rights::decide`] makes a [`Permit`], and nothing but a permit reaches the child, so no
//! message skips the filter and still compiles.

mod arguments;
mod edit;
mod error;
mod list;
mod object;
mod pattern;
mod pins;
mod policy;
mod rights;
mod role;
mod rule;
mod rules;
mod typos;
mod uri;

pub use arguments::{ArgumentRule, Violation};
pub use edit::append;
pub use error::{PolicyError, Position};
pub use list::ListFilter;
pub use pattern::{matches, may_meet};
pub use pins::{Difference, Drift, PinnedCall, PinnedTools, Pins, Tell};
pub use policy::Policy;
pub use rights::Rights;
pub use role::Role;
pub use rule::{Effect, List, Rule};
pub use rules::{Reason, Verdict};
pub use typos::misspelt;

use crate::jsonrpc::{Code, Message, NO_DATA, RequestId, error_line};
use crate::mcp::ItemKind;
use crate::utils::shorten::shorten;
use std::borrow::Cow;
use std::sync::Arc;

/// A message that may pass.
#[derive(Debug)]
pub struct Permit {
    message: Message,
    list: Option<Box<ListFilter>>,
    pinned: Option<Box<PinnedCall>>,
}

impl Permit {
    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The filter for the answer, if rules restrict what the peer may see.
    #[must_use]
    pub fn list(&self) -> Option<&ListFilter> {
        self.list.as_deref()
    }

    /// What it calls, where that is a pinned tool.
    #[must_use]
    pub fn pinned(&self) -> Option<&PinnedCall> {
        self.pinned.as_deref()
    }

    /// The denial of a call whose tool is found not to be as it was accepted.
    #[must_use]
    pub fn withheld(&self) -> Denial {
        let tool = self.pinned().map(|call| (ItemKind::Tool, &*call.name));
        Denial::new(&self.message, tool, Reason::Words(pins::CHANGED))
    }
}

/// A tool, prompt or resource that a message is about. `Debug` does not show URIs, which may hold
/// credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// Which of them.
    pub kind: ItemKind,
    /// Its name, or its URI.
    pub name: String,
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            ItemKind::Resource => write!(f, "resource …"),
            kind => write!(f, "{kind} {:?}", self.name),
        }
    }
}

/// The most of a name that its denial quotes, in bytes, so that errors stay short.
const MAX_NAME: usize = 1024;

/// A message that may not pass.
#[derive(Debug)]
pub struct Denial {
    /// The id to answer; `None` for a notification, which is dropped.
    pub id: Option<RequestId>,
    /// The method of the message.
    pub method: String,
    /// The forbidden item, unless it is the method itself.
    pub item: Option<Item>,
    /// The rule that blocked it; `None` when no rule allowed it.
    pub rule: Option<Arc<Rule>>,
    /// Why, if there is no such rule.
    why: &'static str,
    /// What is wrong with the arguments, unless the item itself is forbidden.
    pub violation: Option<Box<Violation>>,
}

impl Denial {
    fn new(message: &Message, item: Option<(ItemKind, &str)>, reason: Reason<'_>) -> Self {
        let (rule, why) = match reason {
            Reason::Rule(rule) => (Some(Arc::clone(rule)), ""),
            Reason::Words(words) => (None, words),
            Reason::Unbounded(_) => (None, ""),
        };
        let item = item.map(|(kind, name)| Item {
            kind,
            name: name.to_owned(),
        });
        Self {
            id: message.id().cloned(),
            method: message.method().to_owned(),
            item,
            rule,
            why,
            violation: None,
        }
    }

    fn of_arguments(message: &Message, item: (ItemKind, &str), violation: Violation) -> Self {
        Self {
            violation: Some(violation.into()),
            ..Self::new(message, Some(item), Reason::Words(""))
        }
    }

    /// What decided, for the log: the rule and its line, or why there is none.
    #[must_use]
    pub fn reason(&self) -> Cow<'static, str> {
        match (&self.violation, &self.rule) {
            (Some(violation), _) => violation.to_string().into(),
            (None, Some(rule)) => rule.to_string().into(),
            (None, None) => self.why.into(),
        }
    }

    /// The code of the answer.
    #[must_use]
    pub fn code(&self) -> Code {
        match &self.violation {
            Some(violation) if violation.invalid => Code::InvalidRequest,
            _ => Code::MethodNotFound,
        }
    }

    /// The error for the peer, if it gets one.
    #[must_use]
    pub fn to_line(&self) -> Option<Vec<u8>> {
        let id = self.id.as_ref()?;
        let denied = match &self.item {
            Some(Item { kind, name }) => format!("{kind} '{}'", shorten(name, MAX_NAME)),
            None => format!("method '{}'", shorten(&self.method, MAX_NAME)),
        };
        let Some(violation) = &self.violation else {
            let text = format!("Method not allowed: Access denied for {denied}");
            return Some(error_line(Some(id), self.code(), &text, NO_DATA));
        };
        let argument = match &*violation.pointer {
            "" => format!("the arguments of {denied}"),
            pointer => format!("argument '{pointer}' of {denied}"),
        };
        if violation.invalid {
            let text =
                format!("Invalid Request: {argument} stands twice or under a look-alike name");
            return Some(error_line(Some(id), self.code(), &text, NO_DATA));
        }
        let mut text = format!("Method not allowed: Access denied for {argument}");
        if let Some(message) = violation.message() {
            text.push_str(": ");
            text.push_str(message);
        }
        Some(error_line(Some(id), self.code(), &text, NO_DATA))
    }
}

#[cfg(test)]
mod tests;
