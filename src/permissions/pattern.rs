//! Which rules match a name, found without asking each of them.

use super::rule::Rule;
use foldhash::HashMap;
use std::cmp::Ordering;
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
        // The leftmost place of each part leaves the most for the parts behind it.
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

/// Rules by the names that they match. The cost of a look-up hardly grows with their number: exact
/// names are hashed, globs sorted by how they begin, or else by how they end. Only globs that do
/// neither (`*secret*`) are tried one by one.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    all: Option<Arc<Rule>>,
    exact: HashMap<Box<str>, Arc<Rule>>,
    by_prefix: Index,
    by_suffix: Index,
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
        let (mut by_prefix, mut by_suffix) = (Vec::new(), Vec::new());
        for rule in &rules {
            let text = text(rule);
            let rule = Arc::clone(rule);
            match Glob::new(&text) {
                None => drop(patterns.exact.entry(text.into()).or_insert(rule)),
                Some(_) if text == "*" => drop(patterns.all.get_or_insert(rule)),
                Some(glob) if !glob.prefix.is_empty() => by_prefix.push((glob, rule)),
                Some(glob) if !glob.suffix.is_empty() => by_suffix.push((glob, rule)),
                Some(glob) => patterns.elsewhere.push((glob, rule)),
            }
        }
        patterns.by_prefix = Index::new(by_prefix, End::Start);
        patterns.by_suffix = Index::new(by_suffix, End::Finish);
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
            .or_else(|| self.by_prefix.find(name))
            .or_else(|| self.by_suffix.find(name))
            .or_else(elsewhere)
    }

    /// All rules, in the order of the file.
    pub(super) fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }
}

/// Which end of a name globs are sorted by.
#[derive(Clone, Copy, Debug, Default)]
enum End {
    #[default]
    Start,
    Finish,
}

impl End {
    fn of(self, glob: &Glob) -> &str {
        match self {
            Self::Start => &glob.prefix,
            Self::Finish => &glob.suffix,
        }
    }

    fn compare(self, one: &str, other: &str) -> Ordering {
        match self {
            Self::Start => one.cmp(other),
            Self::Finish => one.bytes().rev().cmp(other.bytes().rev()),
        }
    }

    fn is_end_of(self, end: &str, name: &str) -> bool {
        match self {
            Self::Start => name.starts_with(end),
            Self::Finish => name.ends_with(end),
        }
    }
}

/// Globs sorted by their prefix, or by their suffix read backwards.
///
/// Whatever sorts between a prefix of a name and the name itself has that prefix, too. So all
/// prefixes of a name are found by going from its predecessor to the longest shorter prefix of
/// that, and on.
#[derive(Debug, Default)]
struct Index {
    end: End,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    text: Box<str>,
    /// The entry with the longest text that is a proper prefix of this one's.
    parent: Option<usize>,
    globs: Vec<(Glob, Arc<Rule>)>,
}

impl Index {
    fn new(mut globs: Vec<(Glob, Arc<Rule>)>, end: End) -> Self {
        globs.sort_by(|(one, _), (other, _)| end.compare(end.of(one), end.of(other)));
        let mut entries: Vec<Entry> = Vec::new();
        let mut parents: Vec<usize> = Vec::new();
        for (glob, rule) in globs {
            let text: Box<str> = end.of(&glob).into();
            if let Some(last) = entries.last_mut()
                && last.text == text
            {
                last.globs.push((glob, rule));
                continue;
            }
            while let Some(top) = parents.last()
                && !end.is_end_of(&entries[*top].text, &text)
            {
                parents.pop();
            }
            let parent = parents.last().copied();
            parents.push(entries.len());
            let globs = vec![(glob, rule)];
            entries.push(Entry {
                text,
                parent,
                globs,
            });
        }
        Self { end, entries }
    }

    fn find(&self, name: &str) -> Option<&Arc<Rule>> {
        let after = self
            .entries
            .partition_point(|entry| self.end.compare(&entry.text, name) != Ordering::Greater);
        let mut at = after.checked_sub(1);
        while let Some(entry) = at.and_then(|at| self.entries.get(at)) {
            if self.end.is_end_of(&entry.text, name)
                && let Some((_, rule)) = entry.globs.iter().find(|(glob, _)| glob.matches(name))
            {
                return Some(rule);
            }
            at = entry.parent;
        }
        None
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
        /// The index finds what trying every pattern by itself finds.
        #[test]
        fn many_patterns_match_as_each_by_itself(
            texts in prop::collection::vec("[ab*]{0,6}", 0..12),
            name in "[ab]{0,8}",
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

    /// The definition, without any cleverness.
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
