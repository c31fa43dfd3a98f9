//! Restores the host's state in a new server, so that the host need not initialize again.

use crate::jsonrpc::{Message, RequestId};
use crate::mcp::{Field, Method};
use crate::utils::chunks::Pieces;
use bytes::Bytes;
use foldhash::HashMap;
use std::collections::BTreeMap;

/// The ids of our own requests have this prefix.
pub(in crate::client) const OWN: &str = "mcp-remote/replay-";

/// The requests of the host that are repeated to a new server, each after it has succeeded.
#[derive(Debug, Default)]
pub(in crate::client) struct Rejoin {
    initialize: Option<Message>,
    /// The host has sent `notifications/initialized`.
    pub initialized: bool,
    level: Option<Message>,
    /// By URI.
    subscriptions: BTreeMap<String, Message>,
    /// How often this was done; part of the ids, so that a late response is not taken for another.
    rounds: u64,
    /// Unanswered requests after `initialize`: the URI of a subscription, or `None` for the level.
    unanswered: HashMap<RequestId, Option<String>>,
}

impl Rejoin {
    /// True for requests that are repeated to a new server.
    pub(in crate::client) fn concerns(method: Option<Method>) -> bool {
        matches!(
            method,
            Some(Method::Initialize | Method::SetLevel | Method::Subscribe | Method::Unsubscribe)
        )
    }

    /// Remembers a request that has succeeded.
    pub(in crate::client) fn remember(&mut self, request: Message) {
        let uri = request.text(Field::Uri).map(|uri| uri.into_owned());
        match (request.mcp_method(), uri) {
            (Some(Method::Initialize), _) => self.initialize = Some(request),
            (Some(Method::SetLevel), _) => self.level = Some(request),
            (Some(Method::Subscribe), Some(uri)) => {
                self.subscriptions.insert(uri, request);
            }
            (Some(Method::Unsubscribe), Some(uri)) => {
                self.subscriptions.remove(&uri);
            }
            _ => {}
        }
    }

    /// The host's `initialize` under our own id; `None` if it has not succeeded yet, or the host
    /// does not use it.
    pub(in crate::client) fn initialize_again(&mut self) -> Option<Bytes> {
        self.rounds += 1;
        self.unanswered.clear();
        let id = self.own_id("initialize");
        Some(self.initialize.as_ref()?.to_line(Some(&id), &[]).joined())
    }

    /// True for the id of the last [`Rejoin::initialize_again`].
    pub(in crate::client) fn is_initialize_id(&self, id: &RequestId) -> bool {
        *id == self.own_id("initialize")
    }

    /// The requests that follow after `initialize` was answered.
    pub(in crate::client) fn rest(&mut self) -> Vec<Bytes> {
        let initialized = b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n";
        let mut lines = Vec::new();
        if self.initialized {
            lines.push(Bytes::from_static(initialized));
        }
        let level = self.level.iter().map(|request| (None, request));
        let subscriptions = self.subscriptions.iter();
        let subscriptions = subscriptions.map(|(uri, request)| (Some(uri.clone()), request));
        for (place, (uri, request)) in level.chain(subscriptions).enumerate() {
            let id = self.own_id(&place.to_string());
            lines.push(request.to_line(Some(&id), &[]).joined());
            self.unanswered.insert(id, uri);
        }
        lines
    }

    /// The server has answered one of our requests other than `initialize`.
    pub(in crate::client) fn on_response(&mut self, id: &RequestId) {
        self.unanswered.remove(id);
    }

    /// Forgets our unanswered requests; `initializes` tells whether `initialize` is one of them.
    pub(in crate::client) fn forget_unanswered(&mut self, initializes: bool) {
        if initializes {
            self.initialize = None;
        }
        for uri in std::mem::take(&mut self.unanswered).into_values() {
            match uri {
                Some(uri) => drop(self.subscriptions.remove(&uri)),
                None => self.level = None,
            }
        }
    }

    /// Forgets the requests whose lines would be longer than `limit` bytes.
    pub(in crate::client) fn forget_longer(&mut self, limit: usize) {
        let id = self.own_id("initialize");
        let is_longer = |request: &Message| request.outgrows(limit, Some(&id), &[]);
        self.initialize.take_if(|request| is_longer(request));
        self.level.take_if(|request| is_longer(request));
        self.subscriptions.retain(|_, request| !is_longer(request));
    }

    fn own_id(&self, what: &str) -> RequestId {
        RequestId::String(format!("{OWN}{}-{what}", self.rounds).into())
    }
}

/// True for ids of our own requests.
pub(in crate::client) fn is_own(id: &RequestId) -> bool {
    matches!(id, RequestId::String(text) if text.starts_with(OWN))
}
