//! Finds the rules that match a name, without testing each of them.

use super::rule::Rule;
use foldhash::HashMap;
use std::sync::Arc;

/// A pattern with at least one `*`, which stands for any run of characters.
#[derive(Debug)]
pub(super) struct Glob {
    prefix: Box<str>,
    middle: Box<[Box<str>]>,
    suffix: Box<str>,
}

impl Glob {
    /// `None` for a text without a `*`.
    pub(super) fn new(text: &str) -> Option<Self> {
        let (prefix, rest) = text.split_once('*')?;
        let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle = middle.split('*').filter(|part| !part.is_empty());
        Some(Self {
            prefix: prefix.into(),
            middle: middle.map(Box::from).collect(),
            suffix: suffix.into(),
        })
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        let inner = name
            .strip_prefix(&*self.prefix)
            .and_then(|rest| rest.strip_suffix(&*self.suffix));
        let Some(mut rest) = inner else { return false };
        // The leftmost place of each part leaves the most for later parts.
        self.middle.iter().all(|part| {
            rest.split_once(&**part)
                .map(|(_, after)| rest = after)
                .is_some()
        })
    }

    /// False only where no name matches both.
    pub(super) fn may_meet(&self, other: &Self) -> bool {
        let (mine, theirs) = (&*self.prefix, &*other.prefix);
        let (end, their_end) = (&*self.suffix, &*other.suffix);
        (mine.starts_with(theirs) || theirs.starts_with(mine))
            && (end.ends_with(their_end) || their_end.ends_with(end))
    }
}

/// Rules by the names that they match. The cost of a look-up does not grow with their number: exact
/// names are hashed, globs found by how they begin, or else by how they end. Only globs that do
/// neither (`*secret*`) are tried one by one.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    all: Option<Arc<Rule>>,
    exact: HashMap<Box<str>, Arc<Rule>>,
    by_prefix: Tree,
    by_suffix: Tree,
    elsewhere: Vec<(Glob, Arc<Rule>)>,
    rules: Vec<Arc<Rule>>,
}

impl Patterns {
    /// Patterns matched as they stand in the file.
    pub(super) fn as_written(rules: Vec<Arc<Rule>>) -> Self {
        Self::new(rules, |rule| rule.pattern.clone())
    }

    /// `text` gives what a rule's pattern is to be matched as.
    pub(super) fn new(rules: Vec<Arc<Rule>>, text: impl Fn(&Rule) -> String) -> Self {
        let mut patterns = Self::default();
        for rule in &rules {
            let text = text(rule);
            let rule = Arc::clone(rule);
            match Glob::new(&text) {
                None => drop(patterns.exact.entry(text.into()).or_insert(rule)),
                Some(_) if text == "*" => drop(patterns.all.get_or_insert(rule)),
                Some(glob) if !glob.prefix.is_empty() => {
                    let prefix = glob.prefix.clone();
                    patterns.by_prefix.add(prefix.bytes(), glob, rule);
                }
                Some(glob) if !glob.suffix.is_empty() => {
                    let suffix = glob.suffix.clone();
                    patterns.by_suffix.add(suffix.bytes().rev(), glob, rule);
                }
                Some(glob) => patterns.elsewhere.push((glob, rule)),
            }
        }
        patterns.rules = rules;
        patterns
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// A rule that matches, if one does.
    pub(super) fn find(&self, name: &str) -> Option<&Arc<Rule>> {
        let elsewhere = || {
            let found = self.elsewhere.iter().find(|(glob, _)| glob.matches(name));
            found.map(|(_, rule)| rule)
        };
        self.all
            .as_ref()
            .or_else(|| self.exact.get(name))
            .or_else(|| self.by_prefix.find(name.bytes(), name))
            .or_else(|| self.by_suffix.find(name.bytes().rev(), name))
            .or_else(elsewhere)
    }

    /// All rules, in the order of the file.
    pub(super) fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }
}

/// Globs by their prefixes, or by their suffixes read backwards: a tree with a step for each byte, so that
/// a look-up takes the same however many there are.
#[derive(Debug, Default)]
struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    next: Steps,
    /// What begins with the bytes up to here.
    globs: Vec<(Glob, Arc<Rule>)>,
}

/// Where each byte leads to. No step leads to the root, which is node 0.
#[derive(Debug)]
enum Steps {
    Few(Vec<(u8, u32)>),
    Many(Box<[u32; 256]>),
}

/// From this many steps on they are looked up in a table.
const MANY: usize = 4;

impl Default for Steps {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Steps {
    #[inline(always)]
    fn take(&self, byte: u8) -> Option<usize> {
        let node = match self {
            Self::Few(steps) => steps.iter().find(|(known, _)| *known == byte)?.1,
            Self::Many(table) => table[usize::from(byte)],
        };
        (node != 0).then_some(node as usize)
    }

    fn add(&mut self, byte: u8, node: u32) {
        match self {
            Self::Few(steps) if steps.len() < MANY => steps.push((byte, node)),
            Self::Few(steps) => {
                let mut table = Box::new([0; 256]);
                for (known, node) in steps.iter().chain(&[(byte, node)]) {
                    table[usize::from(*known)] = *node;
                }
                *self = Self::Many(table);
            }
            Self::Many(table) => table[usize::from(byte)] = node,
        }
    }
}

impl Tree {
    fn add(&mut self, bytes: impl Iterator<Item = u8>, glob: Glob, rule: Arc<Rule>) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for byte in bytes {
            at = self.nodes[at].next.take(byte).unwrap_or_else(|| {
                let new = self.nodes.len();
                self.nodes[at].next.add(byte, new as u32);
                self.nodes.push(Node::default());
                new
            });
        }
        self.nodes[at].globs.push((glob, rule));
    }

    /// The rule with the longest prefix that matches; `bytes` are those of the name, in the order of the
    /// prefixes.
    #[inline(always)]
    fn find(&self, bytes: impl Iterator<Item = u8>, name: &str) -> Option<&Arc<Rule>> {
        let mut node = self.nodes.first()?;
        let mut found = None;
        for byte in bytes {
            let Some(next) = node.next.take(byte).and_then(|at| self.nodes.get(at)) else {
                break;
            };
            node = next;
            if let Some((_, rule)) = node.globs.iter().find(|(glob, _)| glob.matches(name)) {
                found = Some(rule);
            }
        }
        found
    }
}

/// True where `pattern`, in which `*` stands for any text, means `name`.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    match Glob::new(pattern) {
        Some(glob) => glob.matches(name),
        None => pattern == name,
    }
}

/// False only where no name matches both patterns, each of which may be a name.
#[must_use]
pub fn may_meet(one: &str, other: &str) -> bool {
    match (Glob::new(one), Glob::new(other)) {
        (Some(one), Some(other)) => one.may_meet(&other),
        (Some(glob), None) => glob.matches(other),
        (None, Some(glob)) => glob.matches(one),
        (None, None) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permissions::rule::LISTS;
    use proptest::prelude::*;

    fn patterns(texts: &[&str]) -> Patterns {
        let rule = |text: &&str| {
            Arc::new(Rule {
                role: String::new(),
                list: &LISTS[0],
                pattern: (*text).to_owned(),
                line: 1,
            })
        };
        let rules = texts.iter().map(rule).collect();
        Patterns::new(rules, |rule| rule.pattern.clone())
    }

    #[test]
    fn stars_stand_for_any_run_of_characters() {
        for (pattern, name, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a", "A", false),
            ("*", "", true),
            ("*", "a/b", true),
            ("**", "x", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("*a*", "bab", true),
            ("*a*", "b", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("ab*ba", "aba", false),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "acb", false),
            ("a*bc*c", "abcc", true),
            ("a*bc*c", "abc", false),
            ("a*x*x*", "axx", true),
            ("a*x*x*", "ax", false),
            ("file:///*/x", "file:///a/b/x", true),
            ("", "", true),
            ("", "a", false),
            ("ü*", "über", true),
            ("*ü", "ć\u{bc}", false),
        ] {
            let found = patterns(&[pattern]).find(name).is_some();
            assert_eq!(found, expected, "{pattern} {name}");
        }
    }

    #[test]
    fn globs_that_no_name_matches_both_of_do_not_meet() {
        let meet = |one, other| {
            let (one, other) = (Glob::new(one).unwrap(), Glob::new(other).unwrap());
            assert_eq!(one.may_meet(&other), other.may_meet(&one));
            one.may_meet(&other)
        };
        assert!(meet("a*", "ab*") && meet("*", "x*y") && meet("*b", "*ab"));
        assert!(!meet("a*", "b*") && !meet("*a", "*b") && !meet("ax*", "ay*"));
    }

    proptest! {
        /// The trees find the same as trying every pattern separately.
        #[test]
        fn many_patterns_match_as_each_by_itself(
            texts in prop::collection::vec("[a-g*]{0,6}|[ab*]{0,6}", 0..20),
            name in "[a-g]{0,8}|[ab]{0,8}",
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let alone: Vec<&&str> = texts.iter().filter(|text| plainly(text, &name)).collect();
            let together = patterns(&texts);
            let found = together.find(&name);
            prop_assert_eq!(found.is_some(), !alone.is_empty());
            if let Some(rule) = found {
                prop_assert!(alone.contains(&&rule.pattern()));
            }
        }
    }

    /// The definition, implemented naively.
    fn plainly(pattern: &str, name: &str) -> bool {
        match pattern.split_at_checked(1) {
            None => name.is_empty(),
            Some(("*", rest)) => (0..=name.len()).any(|at| plainly(rest, &name[at..])),
            Some((first, rest)) => name
                .strip_prefix(first)
                .is_some_and(|name| plainly(rest, name)),
        }
    }
}
