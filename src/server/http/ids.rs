//! Session ids: random, and where possible such that a restarted server can revive the session.

use super::super::Settings;
use super::super::context::Context;
use super::super::owner::Owner;
use crate::auth::Revivable;
use crate::jsonrpc::Message;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The idle timeout of sessions, unless --idle-timeout is given.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// How long a session may be idle.
pub(super) fn lifetime(settings: &Settings) -> Duration {
    settings.idle_timeout.unwrap_or(IDLE)
}

/// A new session.
pub(super) struct New {
    pub id: Arc<str>,
    /// Another server process began it.
    pub is_revived: bool,
}

impl New {
    /// A session of this owner that begins with this message.
    pub(super) fn begun_with(context: &Context, owner: &Owner, message: &Message) -> Self {
        let random: u128 = rand::random();
        let begin = message.params().unwrap_or(b"{}");
        let access = context.settings.access.borrow();
        let keys = access.requirements.as_ref();
        let keys = keys.map(|requirements| requirements.verifier.session_ids());
        let id = keys
            .filter(|_| context.sharing.is_shared_by_all())
            .and_then(|keys| keys.issue(random, &owner.to_bytes(), now(), begin))
            .unwrap_or_else(|| format!("{random:032x}"));
        Self {
            id: id.into(),
            is_revived: false,
        }
    }
}

/// The `initialize` of the session with this id, if it may be revived by a server process that started at
/// `since`.
pub(super) fn begun_with(
    context: &Context,
    owner: &Owner,
    since: u64,
    id: &str,
) -> Option<Vec<u8>> {
    context.sharing.is_shared_by_all().then_some(())?;
    let access = context.settings.access.borrow();
    let keys = access.requirements.as_ref()?.verifier.session_ids();
    let when = Revivable {
        since,
        now: now(),
        lifetime: lifetime(&context.settings),
    };
    keys.read(id, &owner.to_bytes(), when)
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(elapsed.unwrap_or_default().as_millis()).unwrap_or_default()
}

/// The sessions that have been revived, or could not be, so that none is revived after it has
/// ended.
#[derive(Debug, Default)]
pub(super) struct Revived(HashSet<String>);

/// The most ids that are remembered; beyond that no further session is revived.
const MAX_REVIVED: usize = 65_536;

impl Revived {
    /// Adds an id; true if it is new and there is room for it.
    pub(super) fn may(&self, id: &str) -> bool {
        self.0.len() < MAX_REVIVED && !self.0.contains(short(id))
    }

    pub(super) fn note(&mut self, id: &str) {
        self.0.insert(short(id).to_owned());
    }
}

/// The part of an id that is unique.
fn short(id: &str) -> &str {
    id.get(..32).unwrap_or(id)
}
