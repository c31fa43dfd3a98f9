//! Filters list answers down to what a peer may use.

use super::pins::Pins;
use super::rules::{Rules, Use, name_of};
use crate::json::{Span, elements, members};
use crate::jsonrpc::{Edit, Message, Replacement};
use crate::mcp::{List, Method};
use std::sync::Arc;

/// The filter for the answer to a list request.
#[derive(Clone, Debug)]
pub struct ListFilter {
    /// `None` if there is no policy.
    rules: Option<Arc<Rules>>,
    /// Removes changed tools, too.
    pins: Option<Arc<Pins>>,
    method: Method,
    list: List,
}

/// An answer that is not a valid list, or that parsers may read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl ListFilter {
    pub(super) fn new(
        rules: Option<&Arc<Rules>>,
        pins: Option<&Arc<Pins>>,
        method: Method,
        list: List,
    ) -> Self {
        Self {
            rules: rules.cloned(),
            pins: pins.cloned(),
            method,
            list,
        }
    }

    fn place(&self) -> Use {
        let (method, kind) = (self.method, self.list.kind);
        Use { method, kind }
    }

    /// The changes to an answer: what the peer may not use goes, all else stays byte for byte,
    /// but that the list is the peer's own now, if it says anything about that (2026-07-28
    /// server/utilities/caching). In order.
    pub(crate) fn edits(&self, answer: &Message) -> Result<Vec<Edit<'static>>, Unreadable> {
        let Some((result, line)) = answer.result_in_line() else {
            return Ok(Vec::new());
        };
        let text = result.of(line);
        let [list, scope] = members(text, [self.list.member, "cacheScope"]).ok_or(Unreadable)?;
        let mut cuts = Vec::new();
        let rules = self.rules.as_ref();
        if self.pins.is_some() || rules.is_some_and(|rules| rules.bounds(self.place())) {
            let list = list.ok_or(Unreadable)?;
            cuts = self.cuts(list.of(text)).ok_or(Unreadable)?;
            cuts.iter_mut().for_each(|cut| *cut = cut.within(list));
        }
        let edit = |span: Span, with| Edit {
            span: span.within(result),
            with: Replacement::Json(with),
        };
        let mut edits: Vec<_> = cuts.into_iter().map(|cut| edit(cut, b"")).collect();
        edits.extend(scope.map(|scope| edit(scope, b"\"private\"")));
        edits.sort_by_key(|edit| edit.span.start);
        Ok(edits)
    }

    /// The spans to remove from an array: each removed element with one comma.
    fn cuts(&self, list: &[u8]) -> Option<Vec<Span>> {
        let mut cuts: Vec<Span> = Vec::new();
        let (mut any_stays, mut end) = (false, 0);
        elements(list, |element| {
            let stays = self.shows(element.of(list));
            let cut = match (stays, any_stays) {
                (true, true) => None,
                // Everything before the first kept element is removed, including the comma.
                (true, false) => cuts.pop().map(|cut| (cut.start, element.start)),
                (false, true) => Some((end, element.end)),
                (false, false) => {
                    let start = cuts.pop().map_or(element.start, |cut| cut.start);
                    Some((start, element.end))
                }
            };
            cuts.extend(cut.map(|(start, end)| Span { start, end }));
            any_stays |= stays;
            end = element.end;
        })?;
        Some(cuts)
    }

    fn shows(&self, element: &[u8]) -> bool {
        // All tools are checked, even those that this peer would not see anyway.
        if self.pins.as_ref().is_some_and(|pins| !pins.shows(element)) {
            return false;
        }
        let Some(rules) = &self.rules else {
            return true;
        };
        let name = members(element, [self.list.key]).and_then(|[name]| name_of(name?.of(element)));
        name.is_some_and(|name| rules.judge_item(self.place(), &name).is_ok())
    }
}
