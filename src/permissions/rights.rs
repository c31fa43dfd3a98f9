//! What one peer may do, and the decision on each message.

use super::arguments::{Claims, Violation};
use super::list::ListFilter;
use super::pins::{PinnedCall, Pins};
use super::rules::{NO_POLICY, Reason, Rules, Use, Verdict, name_of};
use super::{Denial, Permit};
use crate::json::{elements, members};
use crate::jsonrpc::{Kind, Message};
use crate::mcp::{Field, IN_NOTIFICATIONS, IN_REF, ItemKind, Method, Names};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most resources of one message that are checked, which bounds its cost.
const MAX_LISTENED: usize = 1024;

const UNNAMED: Reason<'_> = Reason::Words("it does not say what it uses");
const TOO_MANY: Reason<'_> = Reason::Words("it names too many resources");
const LIST_AS_TASK: Reason<'_> = Reason::Words("a list that is cut down cannot be a task");

/// What one peer may do: the rules of all its roles, merged.
#[derive(Clone, Debug)]
pub struct Rights {
    /// `None`: no policy, everything is allowed.
    rules: Option<Arc<Rules>>,
    claims: Arc<Claims>,
    /// The pinned tools, which limit the rules; `None` for any.
    pins: Option<Arc<Pins>>,
}

impl Rights {
    /// The rights of all peers if there is no policy.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            rules: None,
            claims: Arc::default(),
            pins: None,
        }
    }

    pub(super) fn of(rules: Arc<Rules>, claims: Claims) -> Self {
        Self {
            rules: Some(rules),
            claims: claims.into(),
            pins: None,
        }
    }

    /// The same, but only for tools that are as pinned.
    #[must_use]
    pub fn pinned(self, pins: Option<Arc<Pins>>) -> Self {
        Self { pins, ..self }
    }

    /// The claims of the token that the rules use, as JSON, by name.
    #[must_use]
    pub fn claims(&self) -> BTreeMap<String, String> {
        self.claims.to_json()
    }

    /// True when one of the roles blocks `method`, whether or not another allows it.
    #[must_use]
    pub fn blocks(&self, method: &str) -> bool {
        let rules = self.rules.as_deref();
        rules.is_some_and(|rules| rules.methods.blocks(method))
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
    /// 6. everything else is denied;
    /// 7. where a role has rules on the arguments of the tool or prompt: those that any role blocks
    ///    are denied, and of the roles that let it be used, one must allow them;
    /// 8. a tool that is not as it was pinned is denied, policy or not.
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
        if let Some(rules) = &self.rules {
            judge(rules, &self.claims, &message)?;
        }
        let pinned = match &self.pins {
            Some(pins) => judge_pinned(pins, &message)?,
            None => None,
        };
        let list = message
            .mcp_method()
            .and_then(|method| self.list_filter(method));
        Ok(Permit {
            message,
            list: list.map(Box::new),
            pinned,
        })
    }

    /// The filter for the answers to this method, if it is one that lists something and the rights limit that.
    pub(crate) fn list_filter(&self, method: Method) -> Option<ListFilter> {
        let Names::List(list) = method.names() else {
            return None;
        };
        let ruled =
            |rules: &&Arc<Rules>| !rules.are_about_methods() && rules.in_file[list.kind as usize];
        let rules = self.rules.as_ref().filter(ruled);
        let pins = self.pins.as_ref();
        let pins = pins.filter(|_| list.kind == ItemKind::Tool);
        let is_limited = rules.is_some() || pins.is_some();
        is_limited.then(|| ListFilter::new(rules, pins, method, list))
    }

    /// What this message calls, where it calls a pinned tool and the rules allow that.
    #[must_use]
    pub fn pinned_call(&self, message: &Message) -> Option<Box<PinnedCall>> {
        let pins = self.pins.as_ref()?;
        let call = judge_pinned(pins, message).ok()?;
        call.filter(|_| self.allows(message))
    }

    /// True where [`Rights::decide`] would let this message pass.
    #[must_use]
    pub fn allows(&self, message: &Message) -> bool {
        let rules = self.rules.as_ref();
        rules.is_none_or(|rules| judge(rules, &self.claims, message).is_ok())
    }

    /// The extent of these rights, to compare roles: how many methods of MCP are allowed, and how many of
    /// their uses of tools, prompts and resources are unrestricted.
    pub(super) fn breadth(&self) -> usize {
        let allowed = |method: &&Method| self.judge_method(false, method.name()).is_ok();
        let unbounded = |place: &&Use| {
            let method = place.method.name();
            self.judge_method(false, method).is_ok() && !self.bounds(method, place.kind)
        };
        Method::ALL.iter().filter(allowed).count() + Use::ALL.iter().filter(unbounded).count()
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

    /// Whether this method, which may use the tool or prompt of this name, may use it with `arguments`,
    /// which is valid JSON. `None` where there are no rules on them.
    #[must_use]
    pub fn judge_arguments(
        &self,
        method: &str,
        name: &str,
        arguments: &[u8],
    ) -> Option<Result<(), Violation>> {
        let method = Method::parse(method.as_bytes())?;
        let ruled = self
            .rules
            .as_ref()?
            .arguments(method)?
            .get(name.as_bytes())?;
        Some(ruled.judge(arguments, &self.claims))
    }

    /// True where rules decide with which arguments this method may use the tool or prompt of this name.
    #[must_use]
    pub fn bounds_arguments(&self, method: &str, name: &str) -> bool {
        let ruled = Method::parse(method.as_bytes())
            .and_then(|method| self.rules.as_ref()?.arguments(method)?.get(name.as_bytes()));
        ruled.is_some_and(|ruled| !ruled.free || !ruled.blocks.is_empty())
    }
}

/// Decides on one message.
fn judge(rules: &Rules, claims: &Claims, message: &Message) -> Result<(), Denial> {
    let notification = match message.kind() {
        Kind::Response(_) => return Ok(()),
        kind => *kind == Kind::Notification,
    };
    let deny = |reason| Denial::new(message, None, reason);
    let method = message.mcp_method();
    match method {
        Some(method) if notification && method.needs_no_permission() => {}
        Some(method) => drop(rules.methods.judge_mcp(method).map_err(deny)?),
        None => drop(rules.methods.judge(message.method()).map_err(deny)?),
    }
    match method {
        Some(method) if !rules.are_about_methods() => judge_items(rules, claims, method, message),
        _ => Ok(()),
    }
}

/// Decides on the tool of a call; gives what a call of a pinned tool calls.
fn judge_pinned(pins: &Arc<Pins>, message: &Message) -> Result<Option<Box<PinnedCall>>, Denial> {
    let deny = |reason| Denial::new(message, None, reason);
    let Some(method) = message.mcp_method() else {
        return Ok(None);
    };
    match method.names() {
        Names::Item(ItemKind::Tool, field) => {
            let name = message.text(field).ok_or_else(|| deny(UNNAMED))?;
            match pins.refuses(&name) {
                None => {
                    let (pins, name) = (Arc::clone(pins), name.into_owned());
                    Ok(Some(Box::new(PinnedCall { pins, name })))
                }
                Some(why) => {
                    let item = Some((ItemKind::Tool, &*name));
                    Err(Denial::new(message, item, Reason::Words(why)))
                }
            }
        }
        Names::List(tools) if tools.kind == ItemKind::Tool => {
            if message.raw(Field::Task).is_some() {
                return Err(deny(LIST_AS_TASK));
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Decides on the tools, prompts and resources that a message of an allowed method uses.
fn judge_items(
    rules: &Rules,
    claims: &Claims,
    method: Method,
    message: &Message,
) -> Result<(), Denial> {
    let deny = |reason| Denial::new(message, None, reason);
    let bounds = |kind| rules.bounds(Use::of(method, kind));
    let judge = |kind, name: &str| {
        let verdict = rules.judge_item(Use::of(method, kind), name);
        verdict.map_err(|reason| Denial::new(message, Some((kind, name)), reason))
    };
    let mut used = Vec::new();
    match method.names() {
        Names::Item(kind, field) => {
            let name = || message.text(field).ok_or_else(|| deny(UNNAMED));
            if bounds(kind) {
                judge(kind, &name()?)?;
            }
            let Some(ruled) = rules.arguments(method) else {
                return Ok(());
            };
            let key = message.text_bytes(field).ok_or_else(|| deny(UNNAMED))?;
            if let Some(ruled) = ruled.get(&*key) {
                let judged = ruled.judge_params(message.params().unwrap_or(b"{}"), claims);
                if let Err(violation) = judged {
                    return Err(Denial::of_arguments(message, (kind, &name()?), violation));
                }
            }
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
        Names::List(list) if bounds(list.kind) && message.raw(Field::Task).is_some() => {
            return Err(deny(LIST_AS_TASK));
        }
        _ => {}
    }
    for (kind, name) in used {
        judge(kind, &name)?;
    }
    Ok(())
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

/// The resources that `subscriptions/listen` subscribes to.
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
