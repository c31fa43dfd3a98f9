//! Records refused messages of one connection: the first few one by one, then only their number,
//! once a second. A peer that sends nothing else fills neither the log nor the audit log.

use crate::audit::Trail;
use crate::jsonrpc::{Message, Refusal};
use crate::mcp::ItemKind;
use crate::metrics::{self, Verdict};
use crate::permissions::Denial;
use crate::utils::bucket::{Bucket, Pace};
use crate::utils::lock::lock;
use crate::utils::shorten::shorten;
use std::convert::Infallible;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How many are recorded one by one in a burst …
const TOLD_AT_ONCE: u32 = 10;
/// … and how many more per second.
const TOLD_PER_SECOND: u32 = 1;

/// How often the number of the others is recorded.
const EVERY: Duration = Duration::from_secs(1);

/// The most of a name that is logged, in bytes.
const MAX_LOGGED_NAME: usize = 128;

/// The method of messages that cannot be parsed.
const UNKNOWN: &str = "?";

/// For the audit log.
const RATE_LIMITED: &str = "more than --rate-limit allows";
const TOO_MANY_CHILDREN: &str = "too many MCP servers";
const FOREIGN_TASK: &str = "the task that it names belongs to another user";

/// Why a session is not handed over.
pub(super) const FOREIGN_SESSION: &str = "the session that it names belongs to another user, other roles, other claims or another client certificate";

/// Why a message is not passed on.
#[derive(Clone, Copy, Debug)]
enum Reason {
    /// It is not a message, or not one that a peer may send.
    Invalid,
    /// The policy forbids it.
    Blocked,
    /// It is more than `--rate-limit` allows.
    Rate,
    /// It would need one process too many.
    Children,
    /// It names another user's task.
    Task,
    /// It names another user's session.
    Session,
}

impl Reason {
    fn verdict(self) -> Verdict {
        match self {
            Self::Invalid => Verdict::Invalid,
            Self::Blocked => Verdict::Blocked,
            Self::Rate => Verdict::RateLimited,
            Self::Children | Self::Task | Self::Session => Verdict::Refused,
        }
    }
}

/// How many messages were not recorded one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    invalid: u64,
    blocked: u64,
    rate: u64,
    children: u64,
    tasks: u64,
    sessions: u64,
}

impl Counts {
    fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Decides which are recorded one by one. No clock: the time comes in.
#[derive(Debug, Default)]
struct Tally {
    told: Bucket,
    untold: Counts,
}

impl Tally {
    /// True if this one is to be recorded by itself; it is counted otherwise.
    fn tells(&mut self, reason: Reason, now: Instant) -> bool {
        let pace = Pace::new(TOLD_PER_SECOND, TOLD_AT_ONCE);
        if self.told.take(&pace, now).is_ok() {
            return true;
        }
        match reason {
            Reason::Invalid => self.untold.invalid += 1,
            Reason::Blocked => self.untold.blocked += 1,
            Reason::Rate => self.untold.rate += 1,
            Reason::Children => self.untold.children += 1,
            Reason::Task => self.untold.tasks += 1,
            Reason::Session => self.untold.sessions += 1,
        }
        false
    }
}

/// Records refusals; dropping it records the remaining ones.
pub(super) struct Refusals<T: Deref<Target = Trail>> {
    trail: T,
    tally: Mutex<Tally>,
    /// Some refusals are not recorded yet.
    counted: Notify,
}

impl<T: Deref<Target = Trail>> Refusals<T> {
    pub(super) fn new(trail: T) -> Self {
        Self {
            trail,
            tally: Mutex::default(),
            counted: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    fn tells(&self, reason: Reason, method: &str) -> bool {
        if let Some(metrics) = metrics::get() {
            metrics.message(method, reason.verdict());
        }
        let mut tally = self.lock();
        let is_first = tally.untold.is_empty();
        let tells = tally.tells(reason, Instant::now());
        if !tells && is_first {
            self.counted.notify_one();
        }
        tells
    }

    /// Records a line that is not a message.
    pub(super) fn invalid(&self, refusal: &Refusal) {
        if self.tells(Reason::Invalid, UNKNOWN) {
            tracing::info!(reason = refusal.reason, "refused a message");
            self.trail.refused_line(refusal);
        }
    }

    /// Records a message that a peer may not send, for this `reason`.
    pub(super) fn unfit(&self, message: &Message, reason: &'static str) {
        if self.tells(Reason::Invalid, message.method()) {
            tracing::info!(reason, "refused a message");
            self.trail.refused_message(message, reason);
        }
    }

    /// Records a message with a method of the proxy.
    pub(super) fn reserved(&self, message: &Message) {
        self.unfit(message, "this prefix is the proxy's own");
    }

    /// Records a message that is too long for the MCP server.
    pub(super) fn too_large(&self, message: &Message) {
        let reason = "longer than --max-message-size as it is written for the MCP server";
        self.unfit(message, reason);
    }

    /// Records a message that the policy forbids.
    pub(super) fn blocked(&self, denial: &Denial) {
        if self.tells(Reason::Blocked, &denial.method) {
            log_denial(denial);
            self.trail.blocked(denial);
        }
    }

    /// Records a message that exceeds `--rate-limit`.
    pub(super) fn rate_limited(&self, message: &Message) {
        if self.tells(Reason::Rate, message.method()) {
            tracing::warn!("refused a request: more messages than --rate-limit allows");
            self.trail.refused_message(message, RATE_LIMITED);
        }
    }

    /// Records an `initialize` for which there is no process, for this `reason`.
    pub(super) fn no_process(&self, message: &Message, reason: &'static str) {
        if self.tells(Reason::Children, message.method()) {
            tracing::warn!("refused a request: {reason}");
            self.trail.refused_message(message, reason);
        }
    }

    /// Records a request that names another user's task, and has been answered as if there were
    /// none.
    pub(super) fn foreign_task(&self, message: &Message) {
        if self.tells(Reason::Task, message.method()) {
            tracing::warn!("refused a request: {FOREIGN_TASK}");
            self.trail.refused_message(message, FOREIGN_TASK);
        }
    }

    /// Records a request that names another user's session, and is answered as if there were none.
    pub(super) fn foreign_session(&self) {
        if self.tells(Reason::Session, UNKNOWN) {
            tracing::warn!("refused a request: {FOREIGN_SESSION}");
            self.trail.refused(&FOREIGN_SESSION);
        }
    }

    /// Records once a second how many were not recorded one by one. Cancel safe.
    pub(super) async fn report(&self) -> Infallible {
        loop {
            self.counted.notified().await;
            tokio::time::sleep(EVERY).await;
            self.report_now();
        }
    }

    /// Records the number of those that are not recorded yet.
    pub(super) fn report_now(&self) {
        let counts = std::mem::take(&mut self.lock().untold);
        if counts.is_empty() {
            return;
        }
        let Counts {
            invalid,
            blocked,
            rate,
            children,
            tasks,
            sessions,
        } = counts;
        tracing::warn!(
            invalid,
            blocked,
            rate_limited = rate,
            too_many_children = children,
            foreign_tasks = tasks,
            foreign_sessions = sessions,
            "more messages were refused than are logged one by one"
        );
        self.trail
            .refused_more(invalid, "not a message that a peer may send");
        self.trail.blocked_more(blocked);
        self.trail.refused_more(rate, RATE_LIMITED);
        self.trail.refused_more(children, TOO_MANY_CHILDREN);
        self.trail.refused_more(tasks, FOREIGN_TASK);
        self.trail.refused_more(sessions, FOREIGN_SESSION);
    }
}

impl<T: Deref<Target = Trail>> Drop for Refusals<T> {
    fn drop(&mut self) {
        self.report_now();
    }
}

pub(super) fn log_denial(denial: &Denial) {
    // URIs stay out of the log: they may hold credentials.
    let named = |kind| {
        let item = denial.item.as_ref().filter(|item| item.kind == kind)?;
        Some(shorten(&item.name, MAX_LOGGED_NAME))
    };
    let id = denial.id.as_ref().map(ToString::to_string);
    tracing::info!(
        method = shorten(&denial.method, MAX_LOGGED_NAME),
        tool = named(ItemKind::Tool),
        prompt = named(ItemKind::Prompt),
        id,
        rule = &*denial.reason(),
        "blocked"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_few_are_told_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut tally = Tally::default();
        let told = (0..100).filter(|_| tally.tells(Reason::Blocked, start));
        assert_eq!(told.count(), 10);
        assert!(!tally.tells(Reason::Rate, start) && !tally.tells(Reason::Invalid, start));
        let counts = Counts {
            invalid: 1,
            blocked: 90,
            rate: 1,
            children: 0,
            tasks: 0,
            sessions: 0,
        };
        assert_eq!(tally.untold, counts);
        // At a slow pace, each is recorded separately.
        for minute in 1..9 {
            let now = start + Duration::from_secs(60 * minute);
            assert!(tally.tells(Reason::Invalid, now));
        }
        assert_eq!(tally.untold, counts);
    }

    proptest! {
        /// At any pace, none is missing and few are recorded separately.
        #[test]
        fn all_are_told_or_counted(steps in prop::collection::vec(0u64..200, 1..500)) {
            let start = Instant::now();
            let (mut tally, mut now, mut told) = (Tally::default(), start, 0);
            for step in &steps {
                now += Duration::from_millis(*step);
                told += u64::from(tally.tells(Reason::Blocked, now));
            }
            prop_assert_eq!(told + tally.untold.blocked, steps.len() as u64);
            let bound = u64::from(TOLD_AT_ONCE) + u64::from(TOLD_PER_SECOND) * (now - start).as_secs();
            prop_assert!(told <= bound);
        }
    }
}
