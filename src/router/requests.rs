//! A peer's request on its way to its process.

use super::evidence::Origin;
use super::levels::{self, Level};
use super::listen_requests::{ListenRequest, MAX_LISTEN_REQUESTS, MAX_LISTEN_SIZE};
use super::own_answer::{OwnAnswer, too_many_waiting};
use super::peers::Peers;
use super::pending::{Delivery, Pending, Purpose};
use super::process::{Process, Service};
use super::queue::Place;
use super::subscriptions::{self, Consent};
use super::tasks;
use super::{Output, SessionId};
use crate::jsonrpc::{Edit, Field, Message, Replacement, RequestId};
use crate::mcp::Method;
use crate::permissions::Permit;
use crate::utils::chunks::Chunks;

/// A process may read another URI in it, and change what others are subscribed to.
const NO_URI: OwnAnswer = OwnAnswer::InvalidParams("uri must be a string");

/// A longer ping waits for its turn like any other request, in bytes.
const MAX_PING: usize = 1024;

impl Process {
    /// Handles a request of a peer: sends it, queues it, or answers it itself.
    pub(super) fn request(
        &mut self,
        from: SessionId,
        id: &RequestId,
        permit: &Permit,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        if self.is_overfull_for(from) && !self.goes_ahead(from, permit.message()) {
            return out.tell(from, too_many_waiting(id));
        }
        let ours = peers.numbers.next();
        let purpose = match self.purpose(from, ours, permit, peers) {
            Ok(purpose) => purpose,
            Err(answer) => {
                out.foreign_task = matches!(answer, OwnAnswer::NoSuchTask { foreign: true, .. });
                return out.tell(from, answer.to_line(id));
            }
        };
        let latest = peers.numbers.newest;
        let Some(session) = peers.get_mut(from) else {
            return;
        };
        session.insert(id.clone(), self.id, ours);
        let message = permit.message();
        let mut pending = Pending::new(from, id, message, purpose, &session.kept);
        pending.since = out.now;
        if pending.is_sent(ours) {
            let origin = session.origin(Some(ours), latest);
            pending.delivery = self.send_request(from, message, &pending.purpose, origin, out);
            if pending.delivery != Delivery::Given {
                pending.pinned = permit.pinned().cloned().map(Box::new);
            }
        }
        self.in_flight.insert(ours, pending);
    }

    /// True if so much of a session is queued that no more is taken, which is then only read because the process waits
    /// for an answer of this session.
    pub(super) fn is_overfull_for(&self, session: SessionId) -> bool {
        self.queue.is_full_for(session) && self.server_requests.wait_for(session)
    }

    /// True for a ping that does not wait behind the other messages of its session.
    pub(super) fn goes_ahead(&self, session: SessionId, message: &Message) -> bool {
        message.mcp_method() == Some(Method::Ping)
            && message.size() <= MAX_PING
            && self.queue.takes_ping(session)
    }

    /// Sends the process a request with the number in `origin`, or queues it.
    fn send_request(
        &mut self,
        from: SessionId,
        message: &Message,
        purpose: &Purpose,
        origin: Origin<'_>,
        out: &mut Output,
    ) -> Delivery {
        let ours = origin.request.unwrap_or_default();
        let number = self.ids.of(ours);
        let level = match purpose {
            Purpose::SetLevel { sent, .. } => format!("\"{}\"", sent.name()),
            _ => String::new(),
        };
        let edits = edits(message, &number, Replacement::Json(level.as_bytes()));
        let write = |line: &mut Chunks| message.write(Some(&number), &edits, line);
        if purpose.is_shared() {
            // Changes of shared state reach the process in order, and still occupy a place.
            self.queue.give(from, ours, Place::InWindow);
            self.engaged = true;
            write(self.shared_sink(origin, out));
            return self.delivery(ours);
        }
        let place = match purpose {
            Purpose::Listen(_) => Place::None,
            _ if self.goes_ahead(from, message) => Place::Ping,
            _ => Place::InWindow,
        };
        self.send_or_queue(from, origin, place, out, write)
    }

    /// The purpose of a request; some are answered by the router itself.
    fn purpose(
        &mut self,
        from: SessionId,
        ours: i64,
        permit: &Permit,
        peers: &mut Peers,
    ) -> Result<Purpose, OwnAnswer> {
        if let Some(filter) = permit.list() {
            return Ok(Purpose::List(filter.clone()));
        }
        let message = permit.message();
        let related = message.related_task();
        if let Some(task) = &related
            && !self.owns(from, task, peers)
        {
            return Err(self.no_such_task(Some(task), false));
        }
        let legacy = self.service == Service::Legacy;
        match message.mcp_method() {
            Some(Method::Discover) => Ok(Purpose::Discover),
            Some(Method::Listen) if legacy => Ok(Purpose::Forward),
            Some(Method::Listen) if self.may_listen(from, message) => {
                Ok(Purpose::Listen(Box::new(ListenRequest::new(message))))
            }
            Some(Method::Listen) => Err(OwnAnswer::TooManySubscriptions),
            Some(Method::Subscribe) if legacy => self.subscribe(from, ours, message, peers),
            Some(Method::Unsubscribe) if legacy => self.unsubscribe(from, message),
            Some(Method::SetLevel) if legacy => self.set_level(from, message, peers),
            // It would affect all peers, and modern ones set the level with each request
            // (2026-07-28).
            Some(Method::SetLevel) => Err(OwnAnswer::NoSuchMethod),
            Some(Method::ListTasks) => Ok(Purpose::ListTasks),
            _ if message.method().starts_with("tasks/") => match message.text(Field::TaskId) {
                Some(task) if self.owns(from, &task, peers) => Ok(Purpose::OfTask),
                task => {
                    let undeclared = tasks::lacks_extension(message);
                    Err(self.no_such_task(task.as_deref(), undeclared))
                }
            },
            _ if related.is_some() => Ok(Purpose::OfTask),
            _ => Ok(Purpose::Forward),
        }
    }

    /// Listen requests are kept for the next process, so their number and size are bounded.
    pub(super) fn may_listen(&self, from: SessionId, message: &Message) -> bool {
        message.size() <= MAX_LISTEN_SIZE
            && self.in_flight.listen_requests_of(from) < MAX_LISTEN_REQUESTS
    }

    /// The error for a task that is unknown or belongs to another user; `undeclared` if the client has
    /// declared none.
    fn no_such_task(&self, task: Option<&str>, undeclared: bool) -> OwnAnswer {
        OwnAnswer::NoSuchTask {
            foreign: task.is_some_and(|task| self.tasks.owner(task).is_some()),
            undeclared,
        }
    }

    fn subscribe(
        &mut self,
        from: SessionId,
        ours: i64,
        message: &Message,
        peers: &Peers,
    ) -> Result<Purpose, OwnAnswer> {
        let uri = message.text(Field::Uri).ok_or(NO_URI)?;
        let Some(session) = peers.get(from) else {
            return Err(OwnAnswer::Done);
        };
        if uri.len() > subscriptions::MAX_URI
            || self.subscriptions.count(from) >= subscriptions::MAX_PER_SESSION
        {
            return Err(OwnAnswer::TooManySubscriptions);
        }
        match self.subscriptions.add(&uri, from, ours, &session.kept) {
            Consent::Given => Err(OwnAnswer::Done),
            Consent::Asked(via) => Ok(Purpose::Subscribe { via }),
        }
    }

    fn unsubscribe(&mut self, from: SessionId, message: &Message) -> Result<Purpose, OwnAnswer> {
        let uri = message.text(Field::Uri).ok_or(NO_URI)?;
        let shared = self.subscriptions.remove(&uri, from);
        if shared {
            Err(OwnAnswer::Done)
        } else {
            Ok(Purpose::Unsubscribe)
        }
    }

    fn set_level(
        &mut self,
        from: SessionId,
        message: &Message,
        peers: &mut Peers,
    ) -> Result<Purpose, OwnAnswer> {
        let asked = Level::asked(message).ok_or(OwnAnswer::InvalidParams(levels::UNKNOWN))?;
        // Noted before the child confirms, so that two concurrent requests both count.
        let before = peers
            .get_mut(from)
            .and_then(|session| session.level.replace(asked));
        let sent = peers.most_verbose().unwrap_or(asked);
        if self.level.replace(sent) != Some(sent) {
            return Ok(Purpose::SetLevel { asked, sent });
        }
        // The child may not have confirmed the same level yet.
        if let Some(session) = peers.get_mut(from).filter(|_| before != Some(asked)) {
            session.level_answered(asked, true);
        }
        Err(OwnAnswer::Done)
    }

    /// Sends the child a less verbose level after the session that wanted more has left.
    pub(super) fn lower_level(&mut self, peers: &mut Peers, out: &mut Output) {
        let (Some(current), Some(needed)) = (self.level, peers.most_verbose()) else {
            return;
        };
        if needed > current {
            let ours = peers.numbers.next();
            self.level = Some(needed);
            self.tell(ours, "logging/setLevel", "level", needed.name(), out);
        }
    }
}

/// The edits of a request that is sent under `id`, with its log level, if it sets one, replaced by `level`.
pub(super) fn edits<'a>(
    message: &Message,
    id: &'a RequestId,
    level: Replacement<'a>,
) -> Vec<Edit<'a>> {
    let mut edits = Vec::new();
    if let Some((_, span)) = message.progress_token() {
        let with = Replacement::Id(id);
        edits.push(Edit { span: *span, with });
    }
    if let (Some(span), Some(Method::SetLevel)) = (message.span(Field::Level), message.mcp_method())
    {
        edits.push(Edit { span, with: level });
        edits.sort_by_key(|edit| edit.span.start);
    }
    edits
}
