//! The rules of one role on the arguments of one item, as a tree that is walked beside the arguments.

use super::test::{Outcome, Test};
use super::{ArgumentRule, Claims, Presence, Violation};
use crate::json::{Fault, MAX_DEPTH, Scanner, fold};
use foldhash::HashMap;
use std::sync::Arc;

/// The rules of one role on the arguments of one item.
#[derive(Debug)]
pub(in crate::permissions) struct Tree {
    root: Members,
    /// Arguments that have no rule are denied.
    closed: bool,
    /// The claims that its rules ask for.
    claims: Vec<Box<str>>,
}

/// What is said of one value.
#[derive(Debug)]
enum Node {
    Value(Arc<ArgumentRule>),
    Object(Members),
    /// Of each element.
    Array(Box<Node>),
}

/// The members of an object that are ruled, or that hold ruled ones.
#[derive(Debug, Default)]
struct Members {
    pointer: String,
    nodes: Vec<Node>,
    by_name: HashMap<Box<str>, usize>,
    /// By their names as the loosest reader takes them.
    by_alike: HashMap<String, usize>,
}

/// Why the rules of a file make no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    /// Rules on a value, and on a part of it.
    Part,
    /// Two names that some reader takes for one.
    Alike,
}

/// What the rules are for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    Allow { closed: bool },
    Block,
}

/// The segment that stands for each element of an array.
const EACH: &str = "*";

impl Tree {
    /// `rules` come with the segments of their pointers.
    pub(super) fn new(
        rules: Vec<(Vec<String>, Arc<ArgumentRule>)>,
        closed: bool,
    ) -> Result<Self, Conflict> {
        let (mut root, mut claims) = (Members::default(), Vec::new());
        for (segments, rule) in rules {
            claims.extend(rule.tests.iter().filter_map(Test::claim).map(Box::from));
            root.add(&segments, rule)?;
        }
        Ok(Self {
            root,
            closed,
            claims,
        })
    }

    /// The claims that its rules ask for, by name or JSON Pointer.
    pub(in crate::permissions) fn claims(&self) -> impl Iterator<Item = &str> {
        self.claims.iter().map(|name| &**name)
    }

    /// Fails unless all rules hold of `arguments`.
    pub(super) fn allow(&self, arguments: &[u8], claims: &Claims) -> Result<(), Violation> {
        let aim = Aim::Allow {
            closed: self.closed,
        };
        self.walk(arguments, aim, claims)
    }

    /// As [`Tree::allow`], of what `scanner` reads next in `text`; on failure it stands somewhere in that.
    pub(super) fn allows_next(
        &self,
        text: &[u8],
        scanner: &mut Scanner<'_>,
        claims: &Claims,
    ) -> Result<(), Fault> {
        let aim = Aim::Allow {
            closed: self.closed,
        };
        let walk = Walk { text, aim, claims };
        walk.members(scanner, &self.root)
            .map_err(|_stop| Fault::Syntax)
    }

    /// Fails where one of the rules holds of `arguments`, or may.
    pub(super) fn block(&self, arguments: &[u8], claims: &Claims) -> Result<(), Violation> {
        self.walk(arguments, Aim::Block, claims)
    }

    fn walk(&self, text: &[u8], aim: Aim, claims: &Claims) -> Result<(), Violation> {
        let mut scanner = Scanner::new(text, MAX_DEPTH);
        let walk = Walk { text, aim, claims };
        walk.members(&mut scanner, &self.root)
            .map_err(|stop| match stop {
                Stop::Violation(violation) => *violation,
                // The gate has read it, so it is JSON.
                Stop::Fault => Violation::invalid(""),
            })
    }
}

impl Members {
    fn add(&mut self, segments: &[String], rule: Arc<ArgumentRule>) -> Result<(), Conflict> {
        let Some((name, rest)) = segments.split_first() else {
            return Err(Conflict::Part);
        };
        let at = match self.by_name.get(name.as_str()) {
            Some(at) => *at,
            None => {
                let at = self.nodes.len();
                if self.by_alike.insert(fold(name), at).is_some() {
                    return Err(Conflict::Alike);
                }
                self.by_name.insert(name.as_str().into(), at);
                let pointer = member_pointer(&self.pointer, name);
                self.nodes.push(Node::new(pointer, rest, rule)?);
                return Ok(());
            }
        };
        self.nodes[at].add(rest, rule)
    }

    /// The first rule in here on something that must be there.
    fn required(&self) -> Option<&Arc<ArgumentRule>> {
        self.nodes.iter().find_map(Node::required)
    }
}

impl Node {
    fn new(
        pointer: String,
        segments: &[String],
        rule: Arc<ArgumentRule>,
    ) -> Result<Self, Conflict> {
        match segments {
            [] => Ok(Self::Value(rule)),
            [each, rest @ ..] if each == EACH => {
                let pointer = member_pointer(&pointer, EACH);
                Ok(Self::Array(Box::new(Self::new(pointer, rest, rule)?)))
            }
            segments => {
                let mut members = Members {
                    pointer,
                    ..Members::default()
                };
                members.add(segments, rule)?;
                Ok(Self::Object(members))
            }
        }
    }

    fn add(&mut self, segments: &[String], rule: Arc<ArgumentRule>) -> Result<(), Conflict> {
        match (self, segments) {
            (Self::Array(element), [each, rest @ ..]) if each == EACH => element.add(rest, rule),
            (Self::Object(members), [name, ..]) if name != EACH => members.add(segments, rule),
            _ => Err(Conflict::Part),
        }
    }

    fn required(&self) -> Option<&Arc<ArgumentRule>> {
        match self {
            Self::Value(rule) => (rule.presence == Presence::Required).then_some(rule),
            Self::Object(members) => members.required(),
            Self::Array(element) => element.required(),
        }
    }

    /// Any rule in here, to be named.
    fn any(&self) -> Option<&Arc<ArgumentRule>> {
        match self {
            Self::Value(rule) => Some(rule),
            Self::Object(members) => members.nodes.iter().find_map(Self::any),
            Self::Array(element) => element.any(),
        }
    }
}

/// Why a walk ends early.
enum Stop {
    Violation(Box<Violation>),
    Fault,
}

impl From<Fault> for Stop {
    fn from(_: Fault) -> Self {
        Self::Fault
    }
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation.into())
    }
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    text: &'a [u8],
    aim: Aim,
    claims: &'a Claims,
}

impl Walk<'_> {
    // The recursion is as deep as the pointers of the file are long.
    fn node(self, scanner: &mut Scanner<'_>, node: &Node) -> Result<(), Stop> {
        match node {
            Node::Value(rule) => {
                let raw = scanner.value()?.of(self.text);
                Ok(self.judge(rule, raw)?)
            }
            Node::Object(members) => self.members(scanner, members),
            Node::Array(element) => match scanner.next_kind() {
                Some(b'[') => scanner.array(|scanner| self.node(scanner, element)),
                kind => self.odd(scanner, kind, node, "it is not an array"),
            },
        }
    }

    fn judge(self, rule: &Arc<ArgumentRule>, raw: &[u8]) -> Result<(), Violation> {
        let outcome = rule.outcome(raw, self.claims);
        match self.aim {
            Aim::Block if outcome == Outcome::No => Ok(()),
            Aim::Block => Err(Violation::of(rule, "it is blocked")),
            Aim::Allow { .. } if rule.presence == Presence::Absent => {
                Err(Violation::of(rule, "it must be absent"))
            }
            Aim::Allow { .. } if outcome == Outcome::Yes => Ok(()),
            Aim::Allow { .. } => Err(Violation::of(rule, "its value is not allowed")),
        }
    }

    /// A value that is not the array whose elements are ruled.
    fn odd(
        self,
        scanner: &mut Scanner<'_>,
        kind: Option<u8>,
        node: &Node,
        why: &'static str,
    ) -> Result<(), Stop> {
        scanner.value()?;
        match node.any() {
            // Some servers take one value for a list of one, or read a list in a string.
            Some(rule) if self.aim != Aim::Block || kind != Some(b'n') => {
                Err(Violation::of(rule, why).into())
            }
            _ => Ok(()),
        }
    }

    fn members(self, scanner: &mut Scanner<'_>, ruled: &Members) -> Result<(), Stop> {
        let kind = scanner.next_kind();
        if kind != Some(b'{') {
            scanner.value()?;
            return match (self.aim, kind) {
                // Some servers read an object in a string.
                (Aim::Block, Some(b'[' | b'"')) | (Aim::Allow { .. }, _) => {
                    Err(Violation::new(&ruled.pointer, "it is not an object").into())
                }
                (Aim::Block, _) => Ok(()),
            };
        }
        let mut seen = vec![false; ruled.nodes.len()];
        scanner.object(|scanner, key| {
            let quoted = key;
            let key = quoted.text(self.text);
            if quoted.is_ambiguous(&key) {
                let why = "a name in it holds half a surrogate pair";
                let violation = Violation::invalid(&ruled.pointer);
                return Err(Violation { why, ..violation }.into());
            }
            let name = std::str::from_utf8(&key).unwrap_or_default();
            let Some(at) = ruled.by_name.get(name) else {
                return self.other(scanner, ruled, name);
            };
            if std::mem::replace(&mut seen[*at], true) {
                return Err(Violation::invalid(&member_pointer(&ruled.pointer, name)).into());
            }
            self.node(scanner, &ruled.nodes[*at])
        })?;
        if self.aim == Aim::Block {
            return Ok(());
        }
        let nodes = ruled.nodes.iter().zip(&seen);
        let missing = nodes
            .filter(|(_, seen)| !**seen)
            .find_map(|(node, _)| node.required());
        match missing {
            Some(rule) => Err(Violation::of(rule, "it is missing").into()),
            None => Ok(()),
        }
    }

    /// A member under none of the names that have rules.
    fn other(self, scanner: &mut Scanner<'_>, ruled: &Members, name: &str) -> Result<(), Stop> {
        let pointer = || member_pointer(&ruled.pointer, name);
        if !ruled.by_alike.is_empty() && ruled.by_alike.contains_key(&fold(name)) {
            return Err(Violation::invalid(&pointer()).into());
        }
        if self.aim == (Aim::Allow { closed: true }) {
            return Err(Violation::new(&pointer(), "no rule allows this argument").into());
        }
        scanner.value()?;
        Ok(())
    }
}

fn member_pointer(parent: &str, name: &str) -> String {
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}
