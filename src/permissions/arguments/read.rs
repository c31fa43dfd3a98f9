//! The rules on arguments, as the policy file has them.

use super::test::{Operand, Test, is_plain};
use super::tree::{Conflict, Tree};
use super::{ArgumentRule, Presence};
use crate::json::{Number, Scalar};
use crate::permissions::error::{PolicyError, Position};
use crate::permissions::object::Members;
use crate::permissions::pattern::Glob;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one role says of the arguments of one tool or prompt.
#[derive(Debug)]
pub(in crate::permissions) struct ItemRules {
    /// What a call must be like for the role to allow it; `None` for anything.
    pub allow: Option<Arc<Tree>>,
    /// What no call may be like.
    pub block: Option<Arc<Tree>>,
}

/// The deepest pointer, in segments.
const MAX_SEGMENTS: usize = 32;

/// The longest `message`, in bytes.
const MAX_MESSAGE: usize = 1024;

const OF_ITEM: [&str; 3] = ["arguments", "otherArguments", "blockedArguments"];

const OF_ARGUMENT: [&str; 11] = [
    "equals",
    "in",
    "glob",
    "within",
    "min",
    "max",
    "minLength",
    "maxLength",
    "absent",
    "optional",
    "message",
];

type Outcome<T> = Result<T, PolicyError>;

/// Where in the file something stands, and in which.
#[derive(Clone, Copy)]
struct At<'a> {
    file: &'a str,
    role: &'a str,
    list: &'static str,
}

fn wrong<T>(place: &str, expected: &'static str) -> Outcome<T> {
    Err(PolicyError::WrongType {
        place: place.to_owned(),
        expected,
    })
}

/// Reads the member `list` of a role: an object of tools or prompts, by name.
pub(in crate::permissions) fn read_items(
    role: &str,
    list: &'static str,
    text: &RawValue,
    file: &str,
) -> Outcome<BTreeMap<String, ItemRules>> {
    let at = At { file, role, list };
    let place = format!("role '{role}', key '{list}'");
    let mut items = BTreeMap::new();
    for member in Members::read(text.get(), file, &place)? {
        let place = format!("{place}, '{}'", member.name);
        if member.name.is_empty() || member.name.contains('*') {
            return wrong(&place, "the name of one tool or prompt, without '*'");
        }
        let rules = at.read_item(&member.name, member.value, &place)?;
        items.insert(member.name, rules);
    }
    Ok(items)
}

impl At<'_> {
    fn read_item(self, name: &str, text: &RawValue, place: &str) -> Outcome<ItemRules> {
        let mut members = Members::read(text.get(), self.file, place)?;
        let [arguments, others, blocked] = OF_ITEM.map(|key| members.take(key));
        members.refuse_rest(place, &OF_ITEM)?;
        let closed = match others.map(RawValue::get) {
            None | Some("\"deny\"") => true,
            Some("\"allow\"") => false,
            Some(_) => {
                return wrong(
                    &format!("{place}, 'otherArguments'"),
                    "\"allow\" or \"deny\"",
                );
            }
        };
        let others = others.map(|_| Vec::new());
        let rules = arguments.map(|text| self.read_rules(name, text, place, Aim::Allow));
        let allow = match rules.transpose()?.or(others) {
            Some(rules) => Some(self.tree(rules, closed, place)?),
            None => None,
        };
        let rules = blocked.map(|text| self.read_rules(name, text, place, Aim::Block));
        let block = match rules.transpose()? {
            Some(rules) => Some(self.tree(rules, false, place)?),
            None => None,
        };
        Ok(ItemRules { allow, block })
    }

    fn tree(self, rules: Rules, closed: bool, place: &str) -> Outcome<Arc<Tree>> {
        match Tree::new(rules, closed) {
            Ok(tree) => Ok(Arc::new(tree)),
            Err(Conflict::Part) => wrong(place, "without rules on an argument and on a part of it"),
            Err(Conflict::Alike) => wrong(
                place,
                "without two arguments whose names differ only in case, '_' or '-'",
            ),
        }
    }

    fn read_rules(self, item: &str, text: &RawValue, place: &str, aim: Aim) -> Outcome<Rules> {
        let place = format!("{place}, '{}'", aim.key());
        let mut rules = Vec::new();
        for member in Members::read(text.get(), self.file, &place)? {
            let place = format!("{place}, '{}'", member.name);
            let segments = segments(&member.name, &place)?;
            let name = Name {
                item,
                pointer: &member.name,
            };
            let rule = self.read_rule(name, member.value, &place, aim)?;
            rules.push((segments, Arc::new(rule)));
        }
        Ok(rules)
    }

    fn read_rule(
        self,
        name: Name<'_>,
        text: &RawValue,
        place: &str,
        aim: Aim,
    ) -> Outcome<ArgumentRule> {
        let mut members = Members::read(text.get(), self.file, place)?;
        let taken = OF_ARGUMENT.map(|key| (key, members.take(key)));
        members.refuse_rest(place, &OF_ARGUMENT)?;
        let (mut absent, mut optional, mut message) = (false, false, None);
        let mut tests = Vec::new();
        for (key, value) in taken {
            let Some(value) = value else { continue };
            let place = format!("{place}, '{key}'");
            match key {
                "absent" if value.get() != "true" => return wrong(&place, "true, or left out"),
                "absent" => absent = true,
                "optional" => optional = read(value, &place, "true or false")?,
                "message" => {
                    let text: String = read(value, &place, "a string")?;
                    if text.len() > MAX_MESSAGE {
                        return wrong(&place, "at most 1024 bytes long");
                    }
                    message = Some(text.into());
                }
                _ => tests.push(self.read_test(key, value, &place)?),
            }
        }
        if absent && (optional || !tests.is_empty()) {
            return wrong(place, "without other rules where it has 'absent'");
        }
        if aim == Aim::Block && (absent || optional) {
            return wrong(
                place,
                "without 'absent' and 'optional', which are for 'arguments'",
            );
        }
        Ok(ArgumentRule {
            role: self.role.into(),
            list: self.list,
            item: name.item.into(),
            pointer: name.pointer.into(),
            presence: match (absent, optional) {
                (true, _) => Presence::Absent,
                (_, true) => Presence::Optional,
                _ => Presence::Required,
            },
            tests,
            message,
            line: Position::of(text.get(), self.file).line,
        })
    }

    fn read_test(self, key: &str, value: &RawValue, place: &str) -> Outcome<Test> {
        let number = || match Scalar::read(value.get().as_bytes()) {
            Some(Scalar::Number(number)) => Ok(number),
            _ => wrong::<Number>(place, "a number"),
        };
        let length = || read::<u64>(value, place, "a whole number, not negative");
        Ok(match key {
            "equals" => Test::Equals(self.read_operand(value, place)?),
            "in" => Test::In(self.read_list(value, place)?),
            "glob" => {
                let text: String = read(value, place, "a string")?;
                match Glob::new(&text) {
                    Some(glob) => Test::Glob(glob),
                    None => return wrong(place, "a string with a '*'; use 'equals' without"),
                }
            }
            "within" => {
                let operand = match value.get().as_bytes() {
                    [b'"', ..] => self.read_operand(value, place)?,
                    _ => self.read_list(value, place)?,
                };
                if let Operand::Literal(roots) = &operand {
                    let plain =
                        |root: &Scalar<'_>| matches!(root, Scalar::Text(text) if is_plain(text));
                    if !roots.iter().all(plain) {
                        return wrong(place, "an absolute path or a URI in its plain spelling");
                    }
                }
                Test::Within(operand)
            }
            "min" => Test::Min(number()?),
            "max" => Test::Max(number()?),
            "minLength" => Test::MinLength(length()?),
            _ => Test::MaxLength(length()?),
        })
    }

    /// A scalar, or a claim.
    fn read_operand(self, value: &RawValue, place: &str) -> Outcome<Operand> {
        if value.get().starts_with('{') {
            return self.read_claim(value, place);
        }
        match Scalar::read(value.get().as_bytes()) {
            Some(scalar) => Ok(Operand::Literal(vec![scalar.into_owned()])),
            None => wrong(
                place,
                "a string, a number, true, false, null, or {\"claim\": NAME}",
            ),
        }
    }

    /// A list of scalars, or a claim.
    fn read_list(self, value: &RawValue, place: &str) -> Outcome<Operand> {
        if value.get().starts_with('{') {
            return self.read_claim(value, place);
        }
        let expected = "a list of strings, numbers, true, false, null, or {\"claim\": NAME}";
        let elements: Vec<&RawValue> = read(value, place, expected)?;
        let scalars = elements.iter().map(|element| {
            let scalar = Scalar::read(element.get().as_bytes());
            scalar.map(Scalar::into_owned)
        });
        match scalars.collect::<Option<Vec<_>>>() {
            Some(scalars) if !scalars.is_empty() => Ok(Operand::Literal(scalars)),
            _ => wrong(place, expected),
        }
    }

    fn read_claim(self, value: &RawValue, place: &str) -> Outcome<Operand> {
        let mut members = Members::read(value.get(), self.file, place)?;
        let name = members.take("claim");
        members.refuse_rest(place, &["claim"])?;
        let name: String = match name {
            Some(name) => read(name, place, "{\"claim\": NAME}")?,
            None => return wrong(place, "{\"claim\": NAME}"),
        };
        Ok(Operand::Claim(name.into()))
    }
}

/// Which of the two lists of an item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    Allow,
    Block,
}

impl Aim {
    fn key(self) -> &'static str {
        match self {
            Self::Allow => "arguments",
            Self::Block => "blockedArguments",
        }
    }
}

/// An argument of a tool or prompt.
#[derive(Clone, Copy)]
struct Name<'a> {
    item: &'a str,
    pointer: &'a str,
}

type Rules = Vec<(Vec<String>, Arc<ArgumentRule>)>;

fn read<'a, T: serde::Deserialize<'a>>(
    value: &'a RawValue,
    place: &str,
    expected: &'static str,
) -> Outcome<T> {
    serde_json::from_str(value.get()).or_else(|_| wrong(place, expected))
}

/// The segments of a JSON Pointer (RFC 6901).
fn segments(pointer: &str, place: &str) -> Outcome<Vec<String>> {
    let expected = "a JSON Pointer such as '/path', without empty segments";
    let Some(rest) = pointer.strip_prefix('/') else {
        return wrong(place, expected);
    };
    let mut segments = Vec::new();
    for segment in rest.split('/') {
        let escapes = segment.split('~').skip(1);
        let bad = |escape: &str| !escape.starts_with(['0', '1']);
        if segment.is_empty() || escapes.clone().any(bad) || segments.len() == MAX_SEGMENTS {
            return wrong(place, expected);
        }
        segments.push(segment.replace("~1", "/").replace("~0", "~"));
    }
    match segments.first().map(String::as_str) {
        Some("*") => wrong(place, expected),
        _ => Ok(segments),
    }
}
