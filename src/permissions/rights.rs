//! What one peer may do: the rules of all its roles, merged, and the decision on each message.

use super::list::ListFilter;
use super::pattern::Patterns;
use super::rule::Rule;
use super::uri::{self, Template};
use super::{Denial, Permit};
use crate::json::{elements, members, unescape};
use crate::jsonrpc::{Kind, Message};
use crate::mcp::{Field, IN_NOTIFICATIONS, IN_REF, ItemKind, Method, Names};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The longest name or URI that rules are asked about, in bytes; a longer one is denied.
const MAX_NAME: usize = 8192;

/// The most resources that rules are asked about for one message, so that it keeps nobody waiting.
const MAX_LISTENED: usize = 1024;

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

    const fn of(method: Method, kind: ItemKind) -> Self {
        Self { method, kind }
    }

    /// How the method of this name uses items of this kind, if it does.
    fn find(method: &str, kind: ItemKind) -> Option<Self> {
        let method = Method::parse(method.as_bytes())?;
        method
            .names()
            .kinds()
            .contains(&kind)
            .then_some(Self::of(method, kind))
    }

    /// Its place in [`Use::ALL`].
    fn place(self) -> usize {
        Self::ALL.iter().position(|of| *of == self).unwrap_or(USES)
    }
}

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
            Self::Unbounded(role) => write!(f, "role '{role}' sets no bounds"),
            Self::Words(words) => f.write_str(words),
        }
    }
}

/// Allowed or denied, and by what.
pub type Verdict<'a> = Result<Reason<'a>, Reason<'a>>;

const NO_RULE: Reason<'_> = Reason::Words("no rule allows it");
const NO_POLICY: Reason<'_> = Reason::Words("there is no policy");
const UNNAMED: Reason<'_> = Reason::Words("it does not say what it uses");
const TOO_MANY: Reason<'_> = Reason::Words("it names too many resources");
const LIST_AS_TASK: Reason<'_> = Reason::Words("a list that is cut down cannot be a task");

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
    /// What the two say of each [`Method`].
    of_mcp: Vec<Result<Arc<Rule>, Option<Arc<Rule>>>>,
}

impl Methods {
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

    fn judge_mcp(&self, method: Method) -> Verdict<'_> {
        match self.of_mcp.get(method as usize) {
            Some(Ok(rule)) => Ok(Reason::Rule(rule)),
            Some(Err(Some(rule))) => Err(Reason::Rule(rule)),
            Some(Err(None)) | None => Err(NO_RULE),
        }
    }

    fn judge(&self, method: &str) -> Verdict<'_> {
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
}

impl Rules {
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

    fn judge(self: &Arc<Self>, message: &Message) -> Result<Option<ListFilter>, Denial> {
        let notification = match message.kind() {
            Kind::Response(_) => return Ok(None),
            kind => *kind == Kind::Notification,
        };
        let deny = |reason| Denial::new(message, None, reason);
        let method = message.mcp_method();
        match method {
            Some(method) if notification && method.needs_no_permission() => {}
            Some(method) => drop(self.methods.judge_mcp(method).map_err(deny)?),
            None => drop(self.methods.judge(message.method()).map_err(deny)?),
        }
        match method {
            Some(method) if self.in_file != [false; 3] => self.judge_items(method, message),
            _ => Ok(None),
        }
    }

    /// Decides on the tools, prompts and resources that a message of an allowed method uses.
    fn judge_items(
        self: &Arc<Self>,
        method: Method,
        message: &Message,
    ) -> Result<Option<ListFilter>, Denial> {
        let deny = |reason| Denial::new(message, None, reason);
        let bounds = |kind| self.bounds(Use::of(method, kind));
        let mut used = Vec::new();
        match method.names() {
            Names::Item(kind, field) if bounds(kind) => {
                let name = message.text(field).ok_or_else(|| deny(UNNAMED))?;
                used.push((kind, name));
            }
            Names::Reference if bounds(ItemKind::Prompt) || bounds(ItemKind::Resource) => {
                used = completed(message).ok_or_else(|| deny(UNNAMED))?;
            }
            Names::Subscriptions if bounds(ItemKind::Resource) => {
                let uris = listened(message).ok_or_else(|| deny(UNNAMED))?;
                if uris.len() > MAX_LISTENED {
                    return Err(deny(TOO_MANY));
                }
                used.extend(uris.into_iter().map(|uri| (ItemKind::Resource, uri)));
            }
            Names::List(list) => {
                if bounds(list.kind) && message.raw(Field::Task).is_some() {
                    return Err(deny(LIST_AS_TASK));
                }
                let ruled = self.in_file[list.kind as usize];
                return Ok(ruled.then(|| ListFilter::new(self, method, list)));
            }
            _ => {}
        }
        for (kind, name) in used {
            self.judge_item(Use::of(method, kind), &name)
                .map_err(|reason| Denial::new(message, Some((kind, &name)), reason))?;
        }
        Ok(None)
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

/// The prompt or resource that `completion/complete` refers to, and whatever else stands in its
/// place, in case a server goes by that.
fn completed(message: &Message) -> Option<Vec<(ItemKind, Cow<'_, str>)>> {
    let raw = message.raw(Field::Ref)?;
    let [kind, name, uri] = members(raw, IN_REF)?;
    let mut used = Vec::new();
    for (kind, span) in [(ItemKind::Prompt, name), (ItemKind::Resource, uri)] {
        if let Some(span) = span {
            used.push((kind, name_of(span.of(raw))?));
        }
    }
    let needed = match &*name_of(kind?.of(raw))? {
        "ref/prompt" => ItemKind::Prompt,
        "ref/resource" => ItemKind::Resource,
        _ => return None,
    };
    used.iter().any(|(kind, _)| *kind == needed).then_some(used)
}

/// The resources that `subscriptions/listen` asks for word of.
fn listened(message: &Message) -> Option<Vec<Cow<'_, str>>> {
    let raw = message.raw(Field::Notifications)?;
    let [list] = members(raw, IN_NOTIFICATIONS)?;
    let Some(list) = list.map(|span| span.of(raw)) else {
        return Some(Vec::new());
    };
    let mut uris = Some(Vec::new());
    elements(list, |span| match (name_of(span.of(list)), &mut uris) {
        (Some(uri), Some(uris)) => uris.push(uri),
        _ => uris = None,
    })?;
    uris
}

/// What one peer may do: the rules of all its roles, merged.
#[derive(Clone, Debug)]
pub struct Rights {
    /// `None`: no policy, everything is allowed.
    rules: Option<Arc<Rules>>,
}

impl Rights {
    /// The rights of everybody where there is no policy.
    #[must_use]
    pub fn everything() -> Self {
        Self { rules: None }
    }

    pub(super) fn of(rules: Arc<Rules>) -> Self {
        Self { rules: Some(rules) }
    }

    /// True when one of the roles blocks `method`, whether or not another allows it.
    #[must_use]
    pub fn blocks(&self, method: &str) -> bool {
        let rules = self.rules.as_deref();
        rules.is_some_and(|rules| rules.methods.block.find(method).is_some())
    }

    /// Decides on one message. In this order, first match wins:
    /// 1. responses pass (the router knows what was asked of whom), and so do the handshake's
    ///    `notifications/initialized` and cancelling, which the hub handles;
    /// 2. a method that any of the roles blocks is denied;
    /// 3. a method that none of the roles allows is denied;
    /// 4. where the method uses tools, prompts or resources ([`Use`]), one that any of the roles
    ///    blocks is denied, whether or not that role has to do with the method;
    /// 5. one that a role allows **which also allows the method** passes. A role without
    ///    `allowedTools` allows all tools, and so on. So roles add up, but the tools of one role
    ///    are never combined with the methods of another;
    /// 6. everything else is denied.
    ///
    /// Lists are cut down by the same rules: an element stays if it passes 4 and 5 for the list's
    /// method. A template stays if something it may become passes, and is completed only if
    /// everything it may become does, since completions tell what there is. Where 4 to 6 may deny,
    /// they also deny what does not say what it uses, and URIs that are not in their plain spelling
    /// (the `uri` module says which).
    ///
    /// # Errors
    /// The [`Denial`].
    pub fn decide(&self, message: Message) -> Result<Permit, Denial> {
        let list = match &self.rules {
            Some(rules) => rules.judge(&message)?,
            None => None,
        };
        Ok(Permit { message, list })
    }

    /// Whether this method may be used, as a request or as a notification.
    ///
    /// # Errors
    /// When it may not.
    pub fn judge_method(&self, notification: bool, method: &str) -> Verdict<'_> {
        let Some(rules) = &self.rules else {
            return Ok(NO_POLICY);
        };
        let known = Method::parse(method.as_bytes());
        if notification && known.is_some_and(Method::needs_no_permission) {
            return Ok(Reason::Words("needs no permission"));
        }
        rules.methods.judge(method)
    }

    /// True where this method may use some things of this kind only, or none.
    #[must_use]
    pub fn bounds(&self, method: &str, kind: ItemKind) -> bool {
        let place = Use::find(method, kind);
        let rules = self.rules.as_ref();
        place.is_some_and(|place| rules.is_some_and(|rules| rules.bounds(place)))
    }

    /// Whether this method, which is allowed, may use this tool, prompt or resource. `None` where
    /// the method uses nothing of the kind.
    #[must_use]
    pub fn judge_item(&self, method: &str, kind: ItemKind, name: &str) -> Option<Verdict<'_>> {
        let place = Use::find(method, kind)?;
        let rules = self.rules.as_ref();
        Some(rules.map_or(Ok(NO_POLICY), |rules| rules.judge_item(place, name)))
    }
}
