//! The router of a peer that has its own child: ids pass unchanged, behind the same policy.

mod from_child;

use super::ask_client::{OVERDUE, overdue};
use super::changes::Changes;
use super::known_tools::{KnownTools, ToolsKnown};
use super::levels::{self, Level};
use super::{
    Counted, Exit, MAX_IN_FLIGHT, Output, PEER_LEFT, ProcessId, Profile, SessionId, TooLarge,
    own_answer, process, session,
};
use crate::backlog::{Piece, Sum};
use crate::jsonrpc::{Code, Executed, Field, Kind, Message, NO_DATA, RequestId, error_line};
use crate::mcp::Method;
use crate::permissions::{ListFilter, Permit, PinnedCall};
use crate::utils::chunks::Chunks;
use crate::utils::tally::Share;
use foldhash::HashMap;
use std::collections::VecDeque;
use std::time::Instant;

/// The most server requests that may be open; the oldest are forgotten first.
const MAX_ASKED: usize = 1024;

/// The memory of a request in flight besides its id, in bytes: its entry in the table.
const PLACES: usize = 256;

/// The most tasks whose progress is passed on.
const MAX_PROGRESS: usize = 256;

/// A request of the peer that the child may answer.
struct Open {
    /// `None` for one that MCP does not define.
    method: Option<Method>,
    /// How to filter the answer.
    filter: Option<ListFilter>,
    /// The token under which the child reports progress.
    token: Option<RequestId>,
    /// The peer has cancelled it.
    cancelled: bool,
    /// Counts the memory of all this.
    _kept: Piece,
}

impl Open {
    /// True for a `subscriptions/listen`, which is not answered by itself.
    fn is_listen(&self) -> bool {
        self.method == Some(Method::Listen)
    }
}

/// One peer, one child. Ids pass unchanged; only pending requests of both sides are kept.
#[derive(Default)]
pub struct IsolatedRouter {
    in_flight: HashMap<RequestId, Open>,
    /// Their number, and that of all sessions of the user.
    counted: Share,
    /// Counts their memory.
    kept: Sum,
    /// The progress tokens of pending requests.
    tokens: HashMap<RequestId, RequestId>,
    /// Those of requests that have created a task, oldest first: they stay valid for as long as it lives.
    of_tasks: VecDeque<RequestId>,
    /// Open server requests and when they were sent, oldest first.
    asked: VecDeque<(RequestId, Instant)>,
    /// Recent notifications of changed lists, by the subscription that they were sent under, if any.
    changes: Changes<Option<RequestId>>,
    /// The peer, once it is attached.
    profile: Option<Profile>,
    /// The peer has closed its sending half: it gets no server requests.
    half_closed: bool,
    /// The pending first request.
    opening: Option<Opening>,
    /// How many first requests there have been.
    openings: i64,
    /// What the process says of its tools, where they are pinned.
    tools: KnownTools,
    /// How often it has been asked.
    own_ids: u64,
}

/// An `initialize` or `server/discover`: a process that does not answer it is broken.
struct Opening {
    number: i64,
    id: RequestId,
    method: Method,
}

impl std::fmt::Debug for IsolatedRouter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IsolatedRouter")
            .field("in_flight", &self.in_flight.len())
            .finish_non_exhaustive()
    }
}

impl IsolatedRouter {
    /// Its only session.
    pub const SESSION: SessionId = SessionId(0);

    /// Attaches the peer; its requests and memory are counted in `counted`.
    pub fn attach(&mut self, profile: Profile, counted: &Counted) -> SessionId {
        self.profile = Some(profile);
        self.counted = counted.of_user.share();
        self.kept = counted.holder.sum();
        Self::SESSION
    }

    /// Applies changed rights of the peer.
    pub fn set_rights(&mut self, profile: Profile) {
        for open in self.in_flight.values_mut() {
            let filter = open.method.map(|method| profile.rights.list_filter(method));
            open.filter = filter.flatten();
        }
        self.profile = Some(profile);
    }

    /// Handles the half-close of the peer: see [`super::Router::half_closed`].
    pub fn half_closed(&mut self, out: &mut Output) {
        self.half_closed = true;
        for (question, _) in std::mem::take(&mut self.asked) {
            out.answer(ProcessId::FIRST, &unreachable(&question));
        }
        let listening = |(id, open): (&RequestId, &Open)| open.is_listen().then(|| id.clone());
        let listen_requests: Vec<RequestId> = self.in_flight.iter().filter_map(listening).collect();
        for id in listen_requests {
            self.close(&id);
            process::write_cancelled(&id, PEER_LEFT, &mut out.to_child[ProcessId::FIRST.0]);
        }
    }

    /// How many requests of the peer are pending.
    #[must_use]
    pub fn pending_requests(&self) -> usize {
        let open = self.in_flight.values();
        // Servers need not answer cancelled requests.
        open.filter(|open| !open.cancelled).count()
    }

    /// Handles a message that the policy has permitted.
    ///
    /// # Errors
    /// The line for the process would be too long; the message has changed nothing.
    pub fn peer_message(&mut self, permit: &Permit, out: &mut Output) -> Result<(), TooLarge> {
        let message = permit.message();
        if message.is_misplaced() {
            if let Some(line) = own_answer::misplaced(message) {
                out.tell(Self::SESSION, line);
            }
            return Ok(());
        }
        if message.may_outgrow(out.limits.to_child) {
            self.check_length(message, out)?;
        }
        match message.kind() {
            Kind::Request(id) => {
                if message.mcp_method() == Some(Method::SetLevel) && Level::asked(message).is_none()
                {
                    // The same limit as with a shared process.
                    let line = own_answer::invalid_params(id, levels::UNKNOWN);
                    out.tell(Self::SESSION, line);
                    return Ok(());
                }
                if let Err(refusal) = self.check_new(id) {
                    out.tell(Self::SESSION, refusal);
                    return Ok(());
                }
                if !self.tools.admit(permit, (Self::SESSION, id), out) {
                    return Ok(());
                }
                self.open(id, permit, out);
            }
            Kind::Notification => {
                if message.method() == "notifications/cancelled" && !self.cancel(message) {
                    return Ok(());
                }
            }
            Kind::Response(id) => {
                if !self.take_asked(id.as_ref()) {
                    tracing::debug!("dropped an answer that nobody asked for");
                    return Ok(());
                }
            }
        }
        message.write(message.id(), &[], &mut out.to_child[ProcessId::FIRST.0]);
        Ok(())
    }

    /// Refuses a message that is too long once written. A refused answer fails its server request.
    #[cold]
    fn check_length(&mut self, message: &Message, out: &mut Output) -> Result<(), TooLarge> {
        let limit = out.limits.to_child;
        if !message.outgrows(limit, message.id(), &[]) {
            return Ok(());
        }
        if let Kind::Response(Some(id)) = message.kind()
            && self.take_asked(Some(id))
        {
            out.answer_too_large(ProcessId::FIRST, id);
        }
        Err(TooLarge { limit })
    }

    /// Removes a server request; false if it is not open.
    fn take_asked(&mut self, id: Option<&RequestId>) -> bool {
        let place = self.asked.iter().position(|(asked, _)| Some(asked) == id);
        place.and_then(|place| self.asked.remove(place)).is_some()
    }

    fn count(&mut self) {
        self.counted.set(self.in_flight.len());
    }

    fn open(&mut self, id: &RequestId, permit: &Permit, out: &mut Output) {
        let token = permit.message().progress_token();
        // The token is in two tables.
        let token_size = token.map_or(0, |(token, _)| 2 * token.size());
        let open = Open {
            _kept: self.kept.piece(2 * id.size() + token_size + PLACES),
            filter: permit.list().cloned(),
            token: token.map(|(token, _)| token.clone()),
            cancelled: false,
            method: permit.message().mcp_method(),
        };
        if let Some(token) = &open.token {
            self.tokens.insert(token.clone(), id.clone());
        }
        self.in_flight.insert(id.clone(), open);
        self.count();
        let method = permit.message().mcp_method();
        let opens = |method: &Method| matches!(method, Method::Initialize | Method::Discover);
        if self.opening.is_none()
            && let Some(method) = method.filter(opens)
        {
            self.openings += 1;
            self.opening = Some(Opening {
                number: self.openings,
                id: id.clone(),
                method,
            });
            out.note_asked(ProcessId::FIRST);
        }
    }

    /// The request that the child has to answer in time, with its number.
    #[must_use]
    pub fn awaited(&self) -> Option<(i64, &'static str)> {
        let opening = self.opening.as_ref();
        opening.map(|opening| (opening.number, opening.method.name()))
    }

    /// The peer cancels one of its requests; false if none with this id is pending.
    fn cancel(&mut self, message: &Message) -> bool {
        let Some((id, _)) = message.quoted_id(Field::RequestId) else {
            return false;
        };
        if self.in_flight.get(&id).is_none_or(|open| open.cancelled) {
            return false;
        }
        let Some((id, mut open)) = self.close(&id) else {
            return false;
        };
        // The list may still arrive, and its id must not be reused by then.
        if open.filter.is_some() {
            open.cancelled = true;
            self.in_flight.insert(id, open);
            self.count();
        }
        true
    }

    /// Removes a request and its progress token.
    fn close(&mut self, id: &RequestId) -> Option<(RequestId, Open)> {
        let (id, open) = self.in_flight.remove_entry(id)?;
        self.opening.take_if(|opening| opening.id == id);
        if let Some(token) = &open.token
            && self.tokens.get(token) == Some(&id)
        {
            self.tokens.remove(token);
        }
        self.count();
        Some((id, open))
    }

    fn check_new(&self, id: &RequestId) -> Result<(), Vec<u8>> {
        // It would reach the child unchanged, and some return it as another number.
        if matches!(id, RequestId::OtherNumber(_)) {
            let text = "Invalid Request: id is not a string or a plain integer";
            return Err(error_line(Some(id), Code::InvalidRequest, text, NO_DATA));
        }
        if self.in_flight.contains_key(id) || self.tools.asked() == Some(id) {
            return Err(session::still_in_flight(id));
        }
        if self.counted.sum() >= MAX_IN_FLIGHT {
            return Err(session::too_many_in_flight(id));
        }
        Ok(())
    }

    /// See [`super::Router::learn_tools`].
    pub fn learn_tools(
        &mut self,
        (message, call): (&Message, &PinnedCall),
        now: Instant,
        out: &mut Output,
    ) -> ToolsKnown {
        if self.opening.is_some() {
            return self.tools.wait();
        }
        if self.tools.is_due(call, now) {
            let id = self.own_id();
            let lines = out.lines(ProcessId::FIRST);
            self.tools.ask(id, call, message.is_modern(), lines);
        }
        self.tools.state(call)
    }

    /// See [`super::Router::give_up_tools`].
    pub fn give_up_tools(&mut self, out: &mut Output) {
        self.tools.give_up(out);
    }

    /// An id that the peer does not use.
    fn own_id(&mut self) -> RequestId {
        loop {
            self.own_ids += 1;
            let id = RequestId::String(format!("mcp-remote/tools/{}", self.own_ids).into());
            if !self.in_flight.contains_key(&id) {
                return id;
            }
        }
    }

    /// When to call [`IsolatedRouter::tell_changes`].
    #[must_use]
    pub fn next_change(&self) -> Option<Instant> {
        self.changes.next()
    }

    /// Sends the peer the delayed notifications of changed lists that are due.
    pub fn tell_changes(&mut self, now: Instant, out: &mut Output) {
        for (subscription, line) in self.changes.take_due(now) {
            let is_open = |id: &RequestId| self.in_flight.contains_key(id);
            if subscription.as_ref().is_none_or(is_open) {
                out.tell(Self::SESSION, line);
            }
        }
    }

    /// When the oldest open server request was sent.
    #[must_use]
    pub fn oldest_question(&self) -> Option<Instant> {
        self.asked.front().map(|(_, asked)| *asked)
    }

    /// Fails the server requests that were sent by then, and cancels them at the peer.
    pub fn expire_questions(&mut self, asked_by: Instant, out: &mut Output) {
        while let Some((id, asked)) = self.asked.pop_front() {
            if asked > asked_by {
                self.asked.push_front((id, asked));
                return;
            }
            tracing::info!(
                "the client has not answered a request of the MCP server in time (--question-timeout)"
            );
            out.answer(ProcessId::FIRST, &overdue(&id, Executed::Unknown));
            let mut line = Chunks::default();
            process::write_cancelled(&id, OVERDUE, &mut line);
            out.tell(Self::SESSION, line);
        }
    }

    /// The child has ended: pending requests are answered with errors.
    pub fn child_exited(&mut self, exit: &Exit, out: &mut Output) {
        for (id, open) in self.in_flight.drain() {
            if !open.cancelled {
                out.tell(Self::SESSION, exit.error_line(&id));
            }
        }
        self.tokens.clear();
        self.opening = None;
        self.tools = KnownTools::default();
        out.learned = true;
        self.count();
    }
}

/// The error for a server request to a peer that cannot answer.
fn unreachable(id: &RequestId) -> Vec<u8> {
    error_line(Some(id), Code::InternalError, PEER_LEFT, NO_DATA)
}
