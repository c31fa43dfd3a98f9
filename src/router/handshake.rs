//! The legacy handshake: a process sees one, of the first peer, and all peers share its answer. If the
//! process refuses it, only the peer that sent it gets the error.

use super::openings::{Handshake, OURSELVES, Opening, Sent};
use super::peers::Peers;
use super::process::{Process, Service};
use super::revision::Revision;
use super::versions::{Asked, Version};
use super::{Output, SessionId, server_requests};
use crate::json::{members, write_string};
use crate::jsonrpc::{Edit, Field, Message, Replacement, RequestId};
use crate::utils::chunks::Line;
use serde::Deserialize;

/// The longest `clientInfo` that is passed to a process, in bytes, because each that waits is kept. A longer
/// one is replaced by the router's own.
const MAX_CLIENT_INFO: usize = 64 * 1024;

impl Process {
    /// Answers the `initialize` of a peer, or queues it for the answer of the process. It has been
    /// [checked](check).
    pub(super) fn initialize(
        &mut self,
        from: SessionId,
        id: &RequestId,
        message: &Message,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        let Some(session) = peers.get_mut(from) else {
            return;
        };
        let capabilities = message.raw(Field::Capabilities);
        session.capabilities = capabilities
            .and_then(|raw| serde_json::from_slice(raw).ok())
            .unwrap_or_default();
        let version = message.text(Field::ProtocolVersion);
        let revision = version.as_deref().and_then(Revision::parse);
        if let Handshake::Done(answer) = &self.handshake {
            let sent = answer_initialize(answer, from, id, revision, out);
            session.initialized |= sent;
            return;
        }
        let client = present(message, Field::ClientInfo)
            .filter(|_| message.carried_len(Field::ClientInfo) <= longest_client_info(out))
            .and_then(|_| message.carry(Field::ClientInfo));
        let size = client.as_ref().map_or(0, Vec::len) + id.size();
        self.openings.push(Opening {
            _kept: session.kept.piece(size),
            session: from,
            id: id.clone(),
            revision,
            version: version.as_deref().and_then(Version::parse),
            client,
        });
        self.open_handshake(Some(from), peers, out);
    }

    /// Sends `initialize` to a legacy process that needs it: that of `requester`, or the router's own if a
    /// peer goes ahead without one.
    pub(super) fn open_handshake(
        &mut self,
        requester: Option<SessionId>,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        // The `clientInfo` of a peer may have ended the predecessor.
        let (due, is_retry) = match self.handshake {
            Handshake::Needed => (true, self.is_successor),
            Handshake::Refused => (requester.is_some(), false),
            Handshake::Sent(_) | Handshake::Done(_) => (false, false),
        };
        if self.service == Service::Legacy && due {
            self.begin_handshake(requester.filter(|_| !is_retry), peers, out);
        }
    }

    /// Sends `initialize`, with the `clientInfo` of the opening of `requester`, if there is one, or the
    /// router's own.
    pub(super) fn begin_handshake(
        &mut self,
        requester: Option<SessionId>,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        let ours = peers.numbers.next();
        let sender = requester.and_then(|id| Some(peers.get(id)?.sender.clone()));
        let requester = requester.filter(|_| sender.is_some());
        let mut openings = self.openings.iter_mut();
        let opening = openings.find(|opening| Some(opening.session) == requester);
        let own = opening.and_then(|opening| opening.client.take());
        let introduced = sender.filter(|_| own.is_some());
        let client = own.or_else(|| self.client.take());
        if client.is_some() {
            self.evidence.renew(None);
        }
        self.client = client;
        // The successor most likely supports the version of the last process.
        let version = self.version.clone().unwrap_or_else(Version::newest);
        let sent = Sent {
            ours,
            asked: Asked::new(version),
            is_renewal: self.is_successor,
            requester,
            introduced,
        };
        self.write_initialize(sent, out);
    }

    /// Sends `initialize` as described by `sent`.
    fn write_initialize(&mut self, sent: Sent, out: &mut Output) {
        let info = self.client.as_deref().unwrap_or(OURSELVES.as_bytes());
        let version = sent.asked.current();
        let line = out.lines(self.id).small();
        write_initialize(&self.ids.of(sent.ours), version.as_str(), info, line);
        out.note_asked(self.id);
        self.handshake = Handshake::Sent(sent);
    }

    /// The id of this peer's `initialize`, while it waits for the answer.
    pub(super) fn initialize_of(&self, session: SessionId) -> Option<&RequestId> {
        let mut openings = self.openings.iter();
        let opening = openings.find(|opening| opening.session == session);
        opening.map(|opening| &opening.id)
    }

    /// Removes the opening of this peer.
    pub(super) fn take_opening(&mut self, session: SessionId) -> Option<Opening> {
        let mut openings = self.openings.iter();
        let at = openings.position(|opening| opening.session == session)?;
        Some(self.openings.remove(at))
    }

    pub(super) fn handshake_is_answered_by(&self, ours: i64) -> bool {
        matches!(&self.handshake, Handshake::Sent(sent) if sent.ours == ours)
    }

    /// The memory of openings, in bytes.
    pub(super) fn opening_bytes(&self) -> usize {
        let clients = self
            .openings
            .iter()
            .filter_map(|opening| opening.client.as_ref());
        clients.map(Vec::len).sum()
    }

    pub(super) fn handshake_answered(
        &mut self,
        answer: &Message,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        let handshake = std::mem::replace(&mut self.handshake, Handshake::Refused);
        let Handshake::Sent(sent) = handshake else {
            return;
        };
        if answer.result().is_some() {
            self.handshake_done(&sent, answer, peers, out);
        } else if let Err(sent) = self.ask_for_another_version(sent, answer, peers, out) {
            self.handshake_refused(&sent, answer, peers, out);
        }
    }

    /// Some servers refuse a version that they do not know; returns `sent` if there is no other to try.
    fn ask_for_another_version(
        &mut self,
        mut sent: Sent,
        answer: &Message,
        peers: &mut Peers,
        out: &mut Output,
    ) -> Result<(), Sent> {
        let mut openings = self.openings.iter();
        let own = openings.find(|opening| Some(opening.session) == sent.requester);
        let own = own.and_then(|opening| opening.version.as_ref());
        let error = answer.error().unwrap_or_default();
        let Some(version) = sent.asked.advance(error, own) else {
            return Err(sent);
        };
        tracing::debug!(
            version = version.as_str(),
            "the MCP server has refused initialize, asking for another version"
        );
        sent.ours = peers.numbers.next();
        self.write_initialize(sent, out);
        Ok(())
    }

    /// Says `notifications/initialized`, to a new process also what the old one knew, lets go what was
    /// held, and answers everybody.
    fn handshake_done(
        &mut self,
        sent: &Sent,
        answer: &Message,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        self.handshake = Handshake::Done(Box::new(answer.detached()));
        self.version = Some(sent.asked.current());
        self.is_successor = false;
        let initialized = b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n";
        out.lines(self.id).extend(initialized);
        if sent.is_renewal {
            self.renew(peers, out);
        }
        self.release(peers, out);
        if sent.is_renewal {
            announce_changes(answer, peers, out);
        }
        for opening in std::mem::take(&mut self.openings) {
            let to = opening.session;
            let sent = answer_initialize(answer, to, &opening.id, opening.revision, out);
            if let Some(session) = peers.get_mut(to) {
                session.initialized |= sent;
            }
        }
    }

    /// The error is for the peer whose `initialize` it was; the next one that waits is asked. When none waits
    /// any more, what was held is passed on all the same: some servers know no handshake.
    fn handshake_refused(
        &mut self,
        sent: &Sent,
        answer: &Message,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        self.client = None;
        self.version = None;
        if let Some(opening) = sent.requester.and_then(|id| self.take_opening(id)) {
            let to = opening.session;
            answer_initialize(answer, to, &opening.id, opening.revision, out);
        }
        match self.openings.first().map(|opening| opening.session) {
            Some(next) => self.begin_handshake(Some(next), peers, out),
            None => self.release(peers, out),
        }
    }
}

/// A new process may offer other items than the old one: peers that were promised notifications of changes
/// get them.
fn announce_changes(answer: &Message, peers: &Peers, out: &mut Output) {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Promise {
        list_changed: bool,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Capabilities {
        tools: Promise,
        prompts: Promise,
        resources: Promise,
    }
    let raw = answer.raw(Field::Capabilities);
    let promised: Capabilities = raw
        .and_then(|raw| serde_json::from_slice(raw).ok())
        .unwrap_or_default();
    for (family, promise) in [
        ("tools", promised.tools),
        ("prompts", promised.prompts),
        ("resources", promised.resources),
    ] {
        if promise.list_changed {
            let line = format!(
                "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/{family}/list_changed\"}}\n"
            );
            let line = Line::from(line.into_bytes());
            for session in peers.receivers(|_| true) {
                out.tell(session, line.clone());
            }
        }
    }
}

fn write_initialize(id: &RequestId, version: &str, client: &[u8], out: &mut Vec<u8>) {
    out.extend(b"{\"jsonrpc\":\"2.0\",\"id\":");
    id.write(out);
    out.extend(b",\"method\":\"initialize\",\"params\":{\"protocolVersion\":");
    write_string(version, out);
    out.extend(b",\"capabilities\":");
    out.extend(server_requests::CAPABILITIES.as_bytes());
    out.extend(b",\"clientInfo\":");
    out.extend_from_slice(client);
    out.extend(b"}}\n");
}

/// The longest `clientInfo` with which an `initialize` fits the limit, under any id.
fn longest_client_info(out: &Output) -> usize {
    let mut rest = Vec::new();
    let id = RequestId::Number(i64::MAX);
    write_initialize(&id, Revision::NEWEST.name(), b"", &mut rest);
    let room = out.limits.to_child.saturating_add(1);
    room.saturating_sub(rest.len()).min(MAX_CLIENT_INFO)
}

/// A member of `params`, unless it is null, which counts as absent.
fn present(message: &Message, field: Field) -> Option<&[u8]> {
    message.raw(field).filter(|raw| *raw != b"null")
}

/// Refuses an `initialize` in which a member that the router reads has the wrong type, so that it
/// never reaches the shared process. Other members are not checked.
pub(super) fn check(message: &Message) -> Result<(), &'static str> {
    let is_object = |raw: &[u8]| raw.starts_with(b"{");
    // Missing members are left to the process: some do not need them.
    let names_client = |raw: &[u8]| {
        let texts = members(raw, ["name", "version"]);
        texts.is_some_and(|texts| {
            let mut texts = texts.into_iter().flatten();
            texts.all(|text| text.of(raw).starts_with(b"\""))
        })
    };
    let is = |field, judge: &dyn Fn(&[u8]) -> bool| present(message, field).is_none_or(judge);
    if !is(Field::ClientInfo, &|raw| {
        is_object(raw) && names_client(raw)
    }) {
        return Err("clientInfo must be an object, its name and version strings");
    }
    if !is(Field::Capabilities, &is_object) {
        return Err("capabilities must be an object");
    }
    if !is(Field::ProtocolVersion, &|raw| raw.starts_with(b"\"")) {
        return Err("protocolVersion must be a string");
    }
    Ok(())
}

/// Sends the child's answer to `initialize` to a peer that asked with `id` for revision `requested`.
/// False where it is too long for that.
///
/// A peer that knows only an older revision than the child settled on is told its own: SDK clients
/// refuse an answer newer than they know, and what newer revisions add is optional in answers.
fn answer_initialize(
    answer: &Message,
    to: SessionId,
    id: &RequestId,
    requested: Option<Revision>,
    out: &mut Output,
) -> bool {
    let settled = answer.text(Field::ProtocolVersion);
    let settled = settled.and_then(|text| Revision::parse(&text));
    let quoted = requested
        .filter(|requested| settled.is_some_and(|settled| *requested < settled))
        .map(|older| format!("\"{}\"", older.name()));
    let edit = answer
        .span(Field::ProtocolVersion)
        .zip(quoted.as_deref())
        .map(|(span, text)| Edit {
            span,
            with: Replacement::Json(text.as_bytes()),
        });
    out.deliver(to, answer, Some(id), edit.as_slice())
}
