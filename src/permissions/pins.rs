//! Tools as they were accepted: one that has changed or appeared since is withheld, because models rely on
//! what a server says about its tools.

use super::rules::name_of;
use crate::json::{elements, members, unescape};
use crate::utils::lock::lock;
use crate::utils::unique::Unique;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

/// The most unknown tools that are reported; further ones are withheld silently.
const MAX_TOLD: usize = 256;

const APPEARED: &str = "it was not there when the tools were accepted (--pin-tools)";
pub(super) const CHANGED: &str = "it has changed since the tools were accepted (--pin-tools)";

/// The definition of a tool, without its name, and without `_meta`, which is for programs.
type Definition = Map<String, Value>;

/// The file: tools by their names, each with all that was accepted for it. Servers may say different things
/// to clients of different revisions of MCP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedTools {
    tools: BTreeMap<String, Vec<Definition>>,
}

/// How a tool differs from what was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub drift: Drift,
    /// The members that differ: before, and now.
    pub members: Vec<(&'a str, Option<&'a Value>, Option<&'a Value>)>,
}

/// The change of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drift {
    /// It has changed.
    Changed,
    /// It is new.
    Appeared,
    /// It is gone.
    Gone,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Changed => "changed",
            Self::Appeared => "appeared",
            Self::Gone => "gone",
        })
    }
}

impl PinnedTools {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong with it, with line and column.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        // Checks for members that stand twice, at any depth.
        serde_json::from_str::<Unique>(text)?;
        serde_json::from_str(text)
    }

    /// Pins tools as they are listed.
    pub fn of<'a>(listed: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Self {
        let mut pinned = Self::default();
        for (name, element) in listed {
            let variants = pinned.tools.entry(name.to_owned()).or_default();
            let definition = definition(element);
            if !variants.contains(&definition) {
                variants.push(definition);
            }
        }
        pinned
    }

    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Strings, lists and maps by strings always serialize.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// How many tools there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tools.len()
    }

    /// True where there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// How the tools of `now` differ from these.
    #[must_use]
    pub fn differences<'a>(&'a self, now: &'a Self) -> Vec<Difference<'a>> {
        let names: BTreeSet<&String> = self.tools.keys().chain(now.tools.keys()).collect();
        let differs = |name: &'a String| match (self.tools.get(name), now.tools.get(name)) {
            (Some(before), Some(now)) => {
                let new = now.iter().find(|variant| !before.contains(variant))?;
                let members = match before.first() {
                    Some(before) => changed_members(before, new),
                    None => Vec::new(),
                };
                Some((Drift::Changed, members))
            }
            (None, _) => Some((Drift::Appeared, Vec::new())),
            (_, None) => Some((Drift::Gone, Vec::new())),
        };
        let found = names.into_iter().filter_map(|name| {
            let (drift, members) = differs(name)?;
            Some(Difference {
                name,
                drift,
                members,
            })
        });
        found.collect()
    }
}

fn definition(element: &Value) -> Definition {
    let mut definition = element.as_object().cloned().unwrap_or_default();
    definition.remove("name");
    definition.remove("_meta");
    definition
}

fn changed_members<'a>(
    before: &'a Definition,
    now: &'a Definition,
) -> Vec<(&'a str, Option<&'a Value>, Option<&'a Value>)> {
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let pairs = names
        .into_iter()
        .map(|name| (name.as_str(), before.get(name), now.get(name)));
    pairs.filter(|(_, before, now)| before != now).collect()
}

/// A call of a pinned tool. Whether the tool is as it was accepted depends on the process that is called.
#[derive(Clone, Debug)]
pub struct PinnedCall {
    /// What is accepted.
    pub(crate) pins: Arc<Pins>,
    /// The tool.
    pub(crate) name: String,
}

/// A result is not a page of a list of tools.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoPage;

/// Called with each tool that is withheld.
pub type Tell = Arc<dyn Fn(&str, Drift) + Send + Sync>;

/// The accepted tools, and the state of those that were listed.
pub struct Pins {
    pinned: PinnedTools,
    seen: Mutex<Seen>,
    tell: Tell,
}

#[derive(Clone, Default)]
struct Seen {
    /// Pinned tools that were not as pinned when they were listed last.
    changed: BTreeSet<String>,
    /// Tools that were reported.
    told: BTreeSet<String>,
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pins").field(&self.pinned.len()).finish()
    }
}

impl Pins {
    /// `tell` is called once for each tool that is withheld.
    #[must_use]
    pub fn new(pinned: PinnedTools, tell: Tell) -> Self {
        Self {
            pinned,
            seen: Mutex::default(),
            tell,
        }
    }

    /// Replaces the accepted tools. A withheld tool stays withheld, unless its new definition is accepted.
    #[must_use]
    pub fn renewed(&self, pinned: PinnedTools) -> Self {
        let mut seen = lock(&self.seen).clone();
        seen.changed
            .retain(|name| self.pinned.tools.get(name) == pinned.tools.get(name));
        seen.told.clear();
        Self {
            pinned,
            seen: seen.into(),
            tell: Arc::clone(&self.tell),
        }
    }

    /// How many tools are pinned.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pinned.len()
    }

    /// True where there is none, so that no tool is offered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pinned.is_empty()
    }

    /// Why a tool of this name may not be called, if so.
    pub(super) fn refuses(&self, name: &str) -> Option<&'static str> {
        if !self.pinned.tools.contains_key(name) {
            return Some(APPEARED);
        }
        lock(&self.seen).changed.contains(name).then_some(CHANGED)
    }

    /// Checks a page of the list of tools. Adds the names of pinned tools that have changed to `changed`; returns the
    /// cursor of the next page, if there is one.
    ///
    /// # Errors
    /// It is not such a page, or JSON parsers could disagree about it.
    pub(crate) fn look(
        &self,
        page: &[u8],
        changed: &mut BTreeSet<String>,
    ) -> Result<Option<String>, NoPage> {
        let [tools, cursor] = members(page, ["tools", "nextCursor"]).ok_or(NoPage)?;
        let tools = tools.ok_or(NoPage)?.of(page);
        let looked = elements(tools, |tool| {
            let tool = tool.of(tools);
            let name = members(tool, ["name"]).and_then(|[name]| name_of(name?.of(tool)));
            if !self.shows(tool)
                && let Some(name) = name
                && self.pinned.tools.contains_key(&*name)
            {
                changed.insert(name.into_owned());
            }
        });
        looked.ok_or(NoPage)?;
        let cursor = cursor.map(|cursor| cursor.of(page));
        match cursor.filter(|cursor| *cursor != b"null") {
            Some(cursor) => {
                let cursor = unescape(cursor).ok_or(NoPage)?;
                Ok(Some(cursor.into_owned()))
            }
            None => Ok(None),
        }
    }

    /// Checks an element of the list of tools. True if it may be shown: it is as accepted, and all parsers
    /// read it the same.
    pub(super) fn shows(&self, element: &[u8]) -> bool {
        let name = members(element, ["name"]).and_then(|[name]| name_of(name?.of(element)));
        let Some(name) = name else { return false };
        let accepted = self.pinned.tools.get(&*name);
        let is_accepted = accepted.is_some_and(|variants| {
            let now = serde_json::from_slice::<Unique>(element);
            now.is_ok_and(|Unique(now)| variants.contains(&definition(&now)))
        });
        self.note(&name, accepted.is_some(), is_accepted);
        is_accepted
    }

    fn note(&self, name: &str, is_pinned: bool, is_accepted: bool) {
        let seen = &mut *lock(&self.seen);
        if is_accepted {
            seen.changed.remove(name);
            return;
        }
        let drift = if is_pinned {
            seen.changed.insert(name.to_owned());
            Drift::Changed
        } else {
            Drift::Appeared
        };
        let has_room = is_pinned || seen.told.len() < MAX_TOLD + self.pinned.len();
        if has_room && seen.told.insert(name.to_owned()) {
            (self.tell)(name, drift);
        }
    }
}

#[cfg(test)]
mod tests;
