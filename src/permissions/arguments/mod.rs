//! Rules on the arguments of a tool or a prompt.
//!
//! They are judged on the text of the message, in one pass: what is not ruled is passed over. A member
//! that some reader may take for a ruled one, or that stands twice, makes the message invalid, since
//! programs would see different values.

mod read;
mod test;
mod tree;

pub(super) use read::{ItemRules, read_items};
pub(super) use tree::Tree;

use crate::json::{Scalar, member, members_of_clear_names};
use crate::utils::shorten::shorten;
use foldhash::HashMap;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use test::Test;

/// What rules may ask of the claims of one peer.
#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<Box<str>, Claim>);

/// A claim of a token.
struct Claim {
    /// Its value, or the values of a list; one is a list of one.
    values: Vec<Scalar<'static>>,
    json: String,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claim(…)")
    }
}

impl Claims {
    /// Looks up these names with `find`, which gives the claim's JSON.
    pub(super) fn new<'n>(
        names: impl Iterator<Item = &'n str>,
        find: impl Fn(&str) -> Option<serde_json::Value>,
    ) -> Self {
        let scalar = |value: &serde_json::Value| {
            let text = value.to_string();
            Scalar::read(text.as_bytes()).map(Scalar::into_owned)
        };
        let read = |value: &serde_json::Value| match value {
            serde_json::Value::Array(list) => list.iter().map(scalar).collect(),
            value => scalar(value).map(|scalar| vec![scalar]),
        };
        let found = names.filter_map(|name| {
            let value = find(name)?;
            let values = read(&value)?;
            let json = value.to_string();
            Some((name.into(), Claim { values, json }))
        });
        Self(found.collect())
    }

    /// Each claim as JSON, by its name.
    pub(super) fn to_json(&self) -> BTreeMap<String, String> {
        let claims = self.0.iter();
        claims
            .map(|(name, claim)| (name.to_string(), claim.json.clone()))
            .collect()
    }

    fn get(&self, name: &str) -> Option<&Claim> {
        self.0.get(name)
    }
}

/// Whether an argument must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
    Absent,
}

/// What the file says of one argument.
#[derive(Debug)]
pub struct ArgumentRule {
    role: Box<str>,
    /// The member of the role in which it stands, and in that the item.
    list: &'static str,
    item: Box<str>,
    /// Where in the arguments.
    pointer: Box<str>,
    presence: Presence,
    tests: Vec<Test>,
    /// For the peer whose call it denies.
    message: Option<Box<str>>,
    line: usize,
}

impl ArgumentRule {
    fn outcome(&self, raw: &[u8], claims: &Claims) -> test::Outcome {
        if self.tests.is_empty() {
            return test::Outcome::Yes;
        }
        let value = Scalar::read(raw);
        let outcomes = self
            .tests
            .iter()
            .map(|test| test.check(value.as_ref(), claims));
        outcomes.min().unwrap_or(test::Outcome::Yes)
    }
}

impl fmt::Display for ArgumentRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "role '{}', {} '{}', argument '{}' (line {})",
            self.role, self.list, self.item, self.pointer, self.line
        )
    }
}

/// What is wrong with the arguments of a call.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Where in the arguments, as a JSON Pointer; empty for the arguments as a whole.
    pub pointer: String,
    /// Programs would read it in different ways: no request, rather than a forbidden one.
    pub invalid: bool,
    /// The rule that it does not meet.
    pub rule: Option<Arc<ArgumentRule>>,
    /// What about it.
    pub why: &'static str,
}

/// The most of a pointer that is quoted from a message, in bytes.
const MAX_POINTER: usize = 256;

impl Violation {
    fn new(pointer: &str, why: &'static str) -> Self {
        Self {
            pointer: shorten(pointer, MAX_POINTER).to_owned(),
            invalid: false,
            rule: None,
            why,
        }
    }

    fn invalid(pointer: &str) -> Self {
        Self {
            invalid: true,
            ..Self::new(pointer, "it stands twice or under a look-alike name")
        }
    }

    fn of(rule: &Arc<ArgumentRule>, why: &'static str) -> Self {
        Self {
            rule: Some(Arc::clone(rule)),
            ..Self::new(&rule.pointer, why)
        }
    }

    /// What the file says to the peer.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.rule.as_ref()?.message.as_deref()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "{rule}: {}", self.why),
            None => write!(f, "argument '{}': {}", self.pointer, self.why),
        }
    }
}

/// All that the merged roles of a peer say of the arguments of one tool or prompt.
#[derive(Debug, Default)]
pub(super) struct Ruled {
    /// Some role that lets it be used asks nothing of its arguments.
    pub free: bool,
    /// What those roles ask that do: one of them must hold.
    pub grants: Vec<Arc<Tree>>,
    /// None of these may hold, whichever role they stand in.
    pub blocks: Vec<Arc<Tree>>,
}

impl Ruled {
    /// Judges the arguments in `params`, which is valid JSON.
    pub(super) fn judge_params(&self, params: &[u8], claims: &Claims) -> Result<(), Violation> {
        // In one pass, where what allows them is one tree. What that does not allow is looked at closely.
        if let ([], [tree]) = (&*self.blocks, &*self.grants)
            && member(params, "arguments", |scanner| {
                tree.allows_next(params, scanner, claims)
            })
        {
            return Ok(());
        }
        let arguments = members_of_clear_names(params, ["arguments"]);
        let [arguments] = arguments.ok_or_else(|| Violation::invalid("/arguments"))?;
        self.judge(arguments.map_or(b"{}", |span| span.of(params)), claims)
    }

    /// Judges `arguments`, which is valid JSON.
    pub(super) fn judge(&self, arguments: &[u8], claims: &Claims) -> Result<(), Violation> {
        let arguments = match arguments {
            b"null" => b"{}",
            arguments => arguments,
        };
        for tree in &self.blocks {
            tree.block(arguments, claims)?;
        }
        let mut first = None;
        for tree in &self.grants {
            match tree.allow(arguments, claims) {
                Err(violation) if violation.invalid => return Err(violation),
                Err(violation) => drop(first.get_or_insert(violation)),
                Ok(()) => return Ok(()),
            }
        }
        match first {
            Some(violation) if !self.free => Err(violation),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
