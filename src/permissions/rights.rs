//! What one peer may do: the rules of all its roles, merged, and the decision on each message.

use super::list::ListFilter;
use super::pattern::Patterns;
use super::rule::{ItemKind, Rule};
use super::uri::{self, Template};
use super::{Denial, Permit};
use crate::jsonrpc::{
    Field, IN_NOTIFICATIONS, IN_REF, Kind, Known, Message, elements, members, unescape,
};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The longest name or URI that rules are asked about, in bytes; a longer one is denied.
const MAX_NAME: usize = 8192;

/// The most resources that rules are asked about for one message, so that it keeps nobody waiting.
const MAX_LISTENED: usize = 1024;

macro_rules! uses {
    ($($variant:ident $method:literal $kind:ident,)*) => {
        /// A method that uses what rules may name, and what it uses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Use { $($variant,)* }

        impl Use {
            /// In the order of the variants.
            pub(super) const ALL: &[(Self, &'static str, ItemKind)] =
                &[$((Self::$variant, $method, ItemKind::$kind),)*];
        }
    };
}

uses! {
    CallTool "tools/call" Tool,
    GetPrompt "prompts/get" Prompt,
    Read "resources/read" Resource,
    Subscribe "resources/subscribe" Resource,
    Unsubscribe "resources/unsubscribe" Resource,
    CompletePrompt "completion/complete" Prompt,
    CompleteResource "completion/complete" Resource,
    Listen "subscriptions/listen" Resource,
    ListTools "tools/list" Tool,
    ListPrompts "prompts/list" Prompt,
    ListResources "resources/list" Resource,
    ListTemplates "resources/templates/list" Resource,
}

impl Use {
    fn kind(self) -> ItemKind {
        Self::ALL[self as usize].2
    }

    /// How `method` uses things of this kind, if it does.
    fn of(method: &str, kind: ItemKind) -> Option<Self> {
        let same = |(_, name, of): &&(Self, &str, ItemKind)| *name == method && *of == kind;
        Self::ALL.iter().find(same).map(|(place, ..)| *place)
    }

    /// For a list: the member of the result that holds it, and the member of each element that
    /// rules are about.
    pub(super) fn members(self) -> (&'static str, &'static str) {
        match self {
            Self::ListPrompts => ("prompts", "name"),
            Self::ListResources => ("resources", "uri"),
            Self::ListTemplates => ("resourceTemplates", "uriTemplate"),
            _ => ("tools", "name"),
        }
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
    /// What the two say of each of [`Known`].
    known: Vec<Result<Arc<Rule>, Option<Arc<Rule>>>>,
}

impl Methods {
    pub(super) fn new(allow: Patterns, block: Patterns) -> Self {
        let known = |method: &&str| match (block.find(method), allow.find(method)) {
            (None, Some(rule)) => Ok(Arc::clone(rule)),
            (blocked, _) => Err(blocked.cloned()),
        };
        Self {
            known: Known::ALL.iter().map(known).collect(),
            allow,
            block,
        }
    }

    fn judge_known(&self, method: Known) -> Verdict<'_> {
        match self.known.get(method.place()) {
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
        let free = matches!(self.reach[place as usize], Reach::Everything(_));
        !free || !self.block_items[place.kind() as usize].is_empty()
    }

    pub(super) fn judge_item(&self, place: Use, name: &str) -> Verdict<'_> {
        let block = &self.block_items[place.kind() as usize];
        let reach = &self.reach[place as usize];
        if let (true, Reach::Everything(role)) = (block.is_empty(), reach) {
            return Ok(Reason::Unbounded(role));
        }
        if name.len() > MAX_NAME {
            return Err(Reason::Words("its name is too long"));
        }
        let is_template = matches!(place, Use::CompleteResource | Use::ListTemplates);
        if is_template && name.contains('{') {
            return judge_template(place, block, reach, name);
        }
        let blocked = if place.kind() == ItemKind::Resource {
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
        let deny =
            |item: Option<(ItemKind, &str)>, reason: Reason<'_>| Denial::new(message, item, reason);
        if !(notification && needs_no_permission(message.method())) {
            let verdict = match message.known_method() {
                Some(known) => self.methods.judge_known(known),
                None => self.methods.judge(message.method()),
            };
            verdict.map_err(|reason| deny(None, reason))?;
        }
        if self.in_file == [false; 3] {
            return Ok(None);
        }
        let item = |place: Use, name: &str| match self.judge_item(place, name) {
            Ok(_) => Ok(()),
            Err(reason) => Err(deny(Some((place.kind(), name)), reason)),
        };
        let named = |place: Use, field| match message.text(field) {
            _ if !self.bounds(place) => Ok(None),
            Some(name) => item(place, &name).map(|()| None),
            None => Err(deny(None, UNNAMED)),
        };
        let list = |place: Use| {
            if self.bounds(place) && message.raw(Field::Task).is_some() {
                return Err(deny(None, LIST_AS_TASK));
            }
            let ruled = self.in_file[place.kind() as usize];
            Ok(ruled.then(|| ListFilter::new(self, place)))
        };
        match message.method() {
            "tools/call" => return named(Use::CallTool, Field::Name),
            "prompts/get" => return named(Use::GetPrompt, Field::Name),
            "resources/read" => return named(Use::Read, Field::Uri),
            "resources/subscribe" => return named(Use::Subscribe, Field::Uri),
            "resources/unsubscribe" => return named(Use::Unsubscribe, Field::Uri),
            "tools/list" => return list(Use::ListTools),
            "prompts/list" => return list(Use::ListPrompts),
            "resources/list" => return list(Use::ListResources),
            "resources/templates/list" => return list(Use::ListTemplates),
            "completion/complete"
                if self.bounds(Use::CompletePrompt) || self.bounds(Use::CompleteResource) =>
            {
                for (place, name) in completed(message).ok_or_else(|| deny(None, UNNAMED))? {
                    item(place, &name)?;
                }
            }
            "subscriptions/listen" if self.bounds(Use::Listen) => {
                let uris = listened(message).ok_or_else(|| deny(None, UNNAMED))?;
                if uris.len() > MAX_LISTENED {
                    return Err(deny(None, TOO_MANY));
                }
                for uri in uris {
                    item(Use::Listen, &uri)?;
                }
            }
            _ => {}
        }
        Ok(None)
    }
}

/// True for the notifications that every peer may send.
fn needs_no_permission(notification: &str) -> bool {
    matches!(
        notification,
        "notifications/initialized" | "notifications/cancelled"
    )
}

/// A list shows a template when in doubt, a completion is denied.
fn judge_template<'a>(
    place: Use,
    block: &'a Patterns,
    reach: &'a Reach,
    text: &str,
) -> Verdict<'a> {
    let template = Template::new(text);
    let completes = place == Use::CompleteResource;
    if completes && let Some(fault) = uri::fault(&template.sample()) {
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
fn completed(message: &Message) -> Option<Vec<(Use, Cow<'_, str>)>> {
    let raw = message.raw(Field::Ref)?;
    let [kind, name, uri] = members(raw, IN_REF)?;
    let mut used = Vec::new();
    for (place, span) in [(Use::CompletePrompt, name), (Use::CompleteResource, uri)] {
        if let Some(span) = span {
            used.push((place, name_of(span.of(raw))?));
        }
    }
    let needed = match &*name_of(kind?.of(raw))? {
        "ref/prompt" => Use::CompletePrompt,
        "ref/resource" => Use::CompleteResource,
        _ => return None,
    };
    used.iter()
        .any(|(place, _)| *place == needed)
        .then_some(used)
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
        if notification && needs_no_permission(method) {
            return Ok(Reason::Words("needs no permission"));
        }
        rules.methods.judge(method)
    }

    /// True where this method may use some things of this kind only, or none.
    #[must_use]
    pub fn bounds(&self, method: &str, kind: ItemKind) -> bool {
        let place = Use::of(method, kind);
        let rules = self.rules.as_ref();
        place.is_some_and(|place| rules.is_some_and(|rules| rules.bounds(place)))
    }

    /// Whether this method, which is allowed, may use this tool, prompt or resource. `None` where
    /// the method uses nothing of the kind.
    #[must_use]
    pub fn judge_item(&self, method: &str, kind: ItemKind, name: &str) -> Option<Verdict<'_>> {
        let place = Use::of(method, kind)?;
        let rules = self.rules.as_ref();
        Some(rules.map_or(Ok(NO_POLICY), |rules| rules.judge_item(place, name)))
    }
}
