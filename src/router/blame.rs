//! Senders whose messages have ended processes, each refused for a while. No clock: the time comes in.

use super::evidence::Sender;
use super::{Output, Router, SessionId};
use crate::jsonrpc::{Code, ErrorData, Executed, Kind, NO_DATA, RequestId, error_line};
use crate::permissions::Permit;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The first refusal; it doubles from exit to exit.
const PAUSE: Duration = Duration::from_secs(1);

/// No refusal is longer than this.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Exits that are not punished: a few may be bad luck.
const FREE: u32 = 3;

/// After each such period since the last refusal, one exit is forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// The most senders that are tracked; beyond that the one whose refusal ends first is forgotten.
const MAX_SENDERS: usize = 1024;

/// Exits by sender.
#[derive(Debug, Default)]
pub(super) struct Blame {
    senders: HashMap<Sender, Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    exits: u32,
    /// When the refusal ends.
    until: Instant,
}

impl Record {
    /// How many exits still count.
    fn exits(&self, now: Instant) -> u32 {
        let quiet = now.saturating_duration_since(self.until);
        let forgotten = quiet.as_secs() / FORGET.as_secs();
        self.exits
            .saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}

impl Blame {
    /// True while no sender is tracked.
    pub(super) fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    /// Counts the end of a process against `sender`; returns how long it is refused from now on.
    pub(super) fn count(&mut self, sender: &Sender, now: Instant) -> Duration {
        self.senders.retain(|_, record| record.exits(now) > 0);
        let known = self.senders.get(sender);
        let exits = known
            .map_or(0, |record| record.exits(now))
            .saturating_add(1);
        if known.is_none() && self.senders.len() >= MAX_SENDERS {
            self.forget_one();
        }
        let pause = pause(exits);
        let until = now + pause;
        self.senders.insert(sender.clone(), Record { exits, until });
        pause
    }

    /// True if processes have recently ended at messages of `sender`.
    pub(super) fn knows(&self, sender: &Sender) -> bool {
        self.senders.contains_key(sender)
    }

    /// How long `sender` is still refused, if it is.
    pub(super) fn refusal(&self, sender: &Sender, now: Instant) -> Option<Duration> {
        let until = self.senders.get(sender)?.until;
        Some(until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// Forgets a session that will not come back.
    pub(super) fn leave(&mut self, sender: &Sender) {
        if matches!(sender, Sender::Session(_)) {
            self.senders.remove(sender);
        }
    }

    fn forget_one(&mut self) {
        let first = self.senders.iter().min_by_key(|(_, record)| record.until);
        if let Some(sender) = first.map(|(sender, _)| sender.clone()) {
            self.senders.remove(&sender);
        }
    }
}

fn pause(exits: u32) -> Duration {
    match exits.checked_sub(FREE + 1) {
        None => Duration::ZERO,
        Some(doublings) => PAUSE
            .saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX))
            .min(MAX_PAUSE),
    }
}

impl Router {
    /// Counts the end of a process against `sender`; returns how long its messages are refused.
    pub fn blame(&mut self, sender: &Sender, now: Instant) -> Duration {
        self.blame.count(sender, now)
    }

    /// Refuses a message of a peer whose messages have ended processes; false if it may pass.
    pub fn refuses(
        &mut self,
        from: SessionId,
        permit: &Permit,
        now: impl FnOnce() -> Instant,
        out: &mut Output,
    ) -> bool {
        if self.blame.is_empty() {
            return false;
        }
        let session = self.peers.get(from);
        let Some(wait) = session.and_then(|session| self.blame.refusal(&session.sender, now()))
        else {
            return false;
        };
        match permit.message().kind() {
            Kind::Request(id) => out.tell(from, refused(id, wait)),
            Kind::Notification => {}
            Kind::Response(id) => self.refuse_answer(from, id.as_ref(), out),
        }
        true
    }

    /// The child's request will get no other answer.
    fn refuse_answer(&mut self, from: SessionId, id: Option<&RequestId>, out: &mut Output) {
        let Some(RequestId::Number(ours)) = id else {
            return;
        };
        for process in &mut self.processes {
            if let Some(request) = process.server_requests.take(*ours, from) {
                let text = "the client's answers are refused for now";
                let line = error_line(Some(&request.id), Code::InternalError, text, NO_DATA);
                out.answer(process.id, &line);
            }
        }
    }
}

fn refused(id: &RequestId, wait: Duration) -> Vec<u8> {
    let data = ErrorData::new("blamed-for-exits", Executed::No).with_retry_after(wait);
    let text = "Refused for now: the MCP server has repeatedly ended at this client's messages";
    error_line(Some(id), Code::InternalError, text, Some(&data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::SessionId;

    fn user(name: &str) -> Sender {
        Sender::User(name.into())
    }

    #[test]
    fn refusals_grow_and_end() {
        let (start, mallory) = (Instant::now(), user("mallory"));
        let mut blame = Blame::default();
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let pause = blame.count(&mallory, now);
            pauses.push(pause.as_secs());
            let refusal = Some(pause).filter(|pause| !pause.is_zero());
            assert_eq!(blame.refusal(&mallory, now), refusal);
            assert_eq!(blame.refusal(&user("alice"), now), None);
            now += pause;
            assert_eq!(blame.refusal(&mallory, now), None);
        }
        assert_eq!(pauses[..11], [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(pauses[11..].iter().all(|pause| *pause == 60));
    }

    #[test]
    fn exits_are_forgotten_one_by_one() {
        let (start, mallory) = (Instant::now(), user("mallory"));
        let mut blame = Blame::default();
        for _ in 0..6 {
            blame.count(&mallory, start);
        }
        // The sixth was refused for four seconds.
        let quiet = start + Duration::from_secs(4) + 2 * FORGET;
        assert_eq!(blame.count(&mallory, quiet).as_secs(), 2);
        assert!(!blame.is_empty());
        blame.count(&user("alice"), quiet + 100 * FORGET);
        assert_eq!(blame.senders.len(), 1);
    }

    #[test]
    fn they_are_bounded_in_number() {
        let start = Instant::now();
        let mut blame = Blame::default();
        for _ in 0..=FREE {
            blame.count(&user("mallory"), start);
        }
        for number in 0..2 * MAX_SENDERS as u64 {
            blame.count(&Sender::Session(SessionId(number)), start);
        }
        assert_eq!(blame.senders.len(), MAX_SENDERS);
        assert!(blame.refusal(&user("mallory"), start).is_some());
        let last = Sender::Session(SessionId(2 * MAX_SENDERS as u64 - 1));
        blame.leave(&last);
        blame.leave(&user("mallory"));
        assert_eq!(blame.senders.len(), MAX_SENDERS - 1);
    }
}
