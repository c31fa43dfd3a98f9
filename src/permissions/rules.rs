//! The merged rules of some roles, and their verdict on a method, tool, prompt or resource.

use super::arguments::Ruled;
use super::pattern::Patterns;
use super::rule::Rule;
use super::uri::{self, Template};
use crate::json::unescape;
use crate::mcp::{ItemKind, Method};
use foldhash::HashMap;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The longest name or URI that is matched, in bytes; a longer one is denied.
const MAX_NAME: usize = 8192;

/// A method that uses items which rules may name, and the kind of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub method: Method,
    pub kind: ItemKind,
}

const USES: usize = {
    let (mut count, mut at) = (0, 0);
    while at < Method::ALL.len() {
        count += Method::ALL[at].names().kinds().len();
        at += 1;
    }
    count
};

impl Use {
    /// Every use of the catalogue.
    pub(super) const ALL: [Self; USES] = {
        let mut all = [Self::of(Method::CallTool, ItemKind::Tool); USES];
        let (mut count, mut at) = (0, 0);
        while at < Method::ALL.len() {
            let method = Method::ALL[at];
            let kinds = method.names().kinds();
            let mut nth = 0;
            while nth < kinds.len() {
                all[count] = Self::of(method, kinds[nth]);
                count += 1;
                nth += 1;
            }
            at += 1;
        }
        all
    };

    pub(super) const fn of(method: Method, kind: ItemKind) -> Self {
        Self { method, kind }
    }

    /// How the method of this name uses items of this kind, if it does.
    pub(super) fn find(method: &str, kind: ItemKind) -> Option<Self> {
        let method = Method::parse(method.as_bytes())?;
        method
            .names()
            .kinds()
            .contains(&kind)
            .then_some(Self::of(method, kind))
    }

    /// Its place in [`Use::ALL`].
    fn place(self) -> usize {
        let first = FIRST_USE[self.method as usize];
        match self.method.names().kinds() {
            [other, _] if *other != self.kind => first + 1,
            _ => first,
        }
    }
}

/// Where the uses of each method begin in [`Use::ALL`].
const FIRST_USE: [usize; Method::ALL.len()] = {
    let mut first = [0; Method::ALL.len()];
    let (mut count, mut at) = (0, 0);
    while at < Method::ALL.len() {
        first[at] = count;
        count += Method::ALL[at].names().kinds().len();
        at += 1;
    }
    first
};

/// What decided.
#[derive(Clone, Copy, Debug)]
pub enum Reason<'a> {
    /// A rule of the file.
    Rule(&'a Arc<Rule>),
    /// This role, which sets no bounds to the tools, prompts or resources of the methods it allows.
    Unbounded(&'a str),
    /// There is no rule to name.
    Words(&'static str),
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => rule.fmt(f),
            Self::Unbounded(role) => write!(f, "role '{role}' has no restriction"),
            Self::Words(words) => f.write_str(words),
        }
    }
}

/// Allowed or denied, and by what.
pub type Verdict<'a> = Result<Reason<'a>, Reason<'a>>;

const NO_RULE: Reason<'_> = Reason::Words("no rule allows it");
pub(super) const NO_POLICY: Reason<'_> = Reason::Words("there is no policy");

/// Which tools, prompts or resources the roles that allow a method let it use.
#[derive(Debug)]
pub(super) enum Reach {
    /// All of them: the role of this name sets no bounds.
    Everything(Box<str>),
    Some(Arc<Patterns>),
}

/// Which methods some roles may use.
#[derive(Debug)]
pub(super) struct Methods {
    allow: Patterns,
    block: Patterns,
    /// The verdict on each [`Method`].
    of_mcp: Vec<Result<Arc<Rule>, Option<Arc<Rule>>>>,
}

impl Methods {
    /// True where `method` is blocked, whether or not it is also allowed.
    pub(super) fn blocks(&self, method: &str) -> bool {
        self.block.find(method).is_some()
    }

    pub(super) fn new(allow: Patterns, block: Patterns) -> Self {
        let verdict = |method: &Method| {
            let name = method.name();
            match (block.find(name), allow.find(name)) {
                (None, Some(rule)) => Ok(Arc::clone(rule)),
                (blocked, _) => Err(blocked.cloned()),
            }
        };
        Self {
            of_mcp: Method::ALL.iter().map(verdict).collect(),
            allow,
            block,
        }
    }

    pub(super) fn judge_mcp(&self, method: Method) -> Verdict<'_> {
        match self.of_mcp.get(method as usize) {
            Some(Ok(rule)) => Ok(Reason::Rule(rule)),
            Some(Err(Some(rule))) => Err(Reason::Rule(rule)),
            Some(Err(None)) | None => Err(NO_RULE),
        }
    }

    pub(super) fn judge(&self, method: &str) -> Verdict<'_> {
        if let Some(rule) = self.block.find(method) {
            return Err(Reason::Rule(rule));
        }
        self.allow.find(method).map(Reason::Rule).ok_or(NO_RULE)
    }
}

/// The merged rules of some roles.
#[derive(Debug)]
pub(super) struct Rules {
    pub methods: Methods,
    /// By [`ItemKind`].
    pub block_items: [Patterns; 3],
    /// By [`Use`].
    pub reach: Vec<Reach>,
    /// Some role of the file, not necessarily of the peer, has rules on this [`ItemKind`].
    pub in_file: [bool; 3],
    /// What is said of the arguments of tools, and of prompts, by their names.
    pub arguments: [HashMap<Box<[u8]>, Ruled>; 2],
}

impl Rules {
    /// The claims of the peer that some rule asks for.
    pub(super) fn claims(&self) -> impl Iterator<Item = &str> {
        let ruled = self.arguments.iter().flat_map(HashMap::values);
        let trees = ruled.flat_map(|ruled| ruled.grants.iter().chain(&ruled.blocks));
        trees.flat_map(|tree| tree.claims())
    }

    /// The rules on the arguments of what this method uses, by name.
    pub(super) fn arguments(&self, method: Method) -> Option<&HashMap<Box<[u8]>, Ruled>> {
        let [tools, prompts] = &self.arguments;
        match method {
            Method::CallTool => Some(tools),
            Method::GetPrompt => Some(prompts),
            _ => None,
        }
        .filter(|ruled| !ruled.is_empty())
    }

    /// True if there are no rules on tools, prompts or resources.
    pub(super) fn are_about_methods(&self) -> bool {
        self.in_file == [false; 3] && self.arguments.iter().all(HashMap::is_empty)
    }

    /// True where items may be denied to this use.
    pub(super) fn bounds(&self, place: Use) -> bool {
        let free = matches!(self.reach[place.place()], Reach::Everything(_));
        !free || !self.block_items[place.kind as usize].is_empty()
    }

    pub(super) fn judge_item(&self, place: Use, name: &str) -> Verdict<'_> {
        let block = &self.block_items[place.kind as usize];
        let reach = &self.reach[place.place()];
        if let (true, Reach::Everything(role)) = (block.is_empty(), reach) {
            return Ok(Reason::Unbounded(role));
        }
        if name.len() > MAX_NAME {
            return Err(Reason::Words("its name is too long"));
        }
        let is_template = is_completion(place) || place.method == Method::ListTemplates;
        if is_template && name.contains('{') {
            return judge_template(place, block, reach, name);
        }
        let blocked = if place.kind == ItemKind::Resource {
            if let Some(fault) = uri::fault(name) {
                return Err(Reason::Words(fault));
            }
            uri::find_block(block, name)
        } else {
            block.find(name)
        };
        match (blocked, reach) {
            (Some(rule), _) => Err(Reason::Rule(rule)),
            (None, Reach::Everything(role)) => Ok(Reason::Unbounded(role)),
            (None, Reach::Some(allow)) => allow.find(name).map(Reason::Rule).ok_or(NO_RULE),
        }
    }
}

/// True for the completion of a resource template's arguments.
fn is_completion(place: Use) -> bool {
    place.method == Method::Complete && place.kind == ItemKind::Resource
}

/// A list shows a template when in doubt, a completion is denied.
fn judge_template<'a>(
    place: Use,
    block: &'a Patterns,
    reach: &'a Reach,
    text: &str,
) -> Verdict<'a> {
    let template = Template::new(text);
    let completes = is_completion(place);
    if completes && let Some(fault) = template.fault() {
        return Err(Reason::Words(fault));
    }
    let blocks = |rule: &&Arc<Rule>| {
        if completes {
            template.may_meet(rule)
        } else {
            template.is_covered_by(rule)
        }
    };
    let allows = |rule: &&Arc<Rule>| {
        if completes {
            template.is_covered_by(rule)
        } else {
            template.may_meet(rule)
        }
    };
    if let Some(rule) = block.rules().iter().find(blocks) {
        return Err(Reason::Rule(rule));
    }
    match reach {
        Reach::Everything(role) => Ok(Reason::Unbounded(role)),
        Reach::Some(allow) => {
            let found = allow.rules().iter().find(allows);
            found.map(Reason::Rule).ok_or(NO_RULE)
        }
    }
}

/// The text of a JSON string that all readers read the same: for those in C it would end at a NUL.
pub(super) fn name_of(raw: &[u8]) -> Option<Cow<'_, str>> {
    unescape(raw).filter(|name| !name.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_is_in_its_place() {
        for (at, place) in Use::ALL.iter().enumerate() {
            assert_eq!(place.place(), at, "{place:?}");
        }
    }
}
