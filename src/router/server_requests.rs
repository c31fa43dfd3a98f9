//! Server requests of a shared child (legacy: sampling, elicitation), and which peers can answer
//! them.

use super::SessionId;
use super::addressee::{Addressee, Bounds, Full};
use crate::jsonrpc::{Field, Message, RequestId};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::time::Instant;

/// The most server requests that may be open for one child, one user and one session: a peer that answers
/// none gets no more, and the others still do.
const MAX_OPEN: usize = 1024;
pub(super) const MAX_OPEN_OF_USER: usize = 256;
pub(super) const MAX_OPEN_OF_SESSION: usize = 64;
const OPEN: Bounds = Bounds {
    all: MAX_OPEN,
    of_user: MAX_OPEN_OF_USER,
    of_session: MAX_OPEN_OF_SESSION,
};

/// The most server requests that may wait for their peer to finish its handshake or to come back,
/// and the longest of them in bytes.
const MAX_PARKED: usize = 64;
const MAX_PARKED_SIZE: usize = 64 * 1024;
const MAX_PARKED_OF_USER: usize = 16;
const MAX_PARKED_OF_SESSION: usize = 8;
const PARKED: Bounds = Bounds {
    all: MAX_PARKED,
    of_user: MAX_PARKED_OF_USER,
    of_session: MAX_PARKED_OF_SESSION,
};

/// The error that says which URLs the user has to visit first (2025-11-25 client/elicitation).
const URL_ELICITATION_REQUIRED: i64 = -32042;

/// The most URL elicitations whose completion we still pass on.
const MAX_ELICITATIONS: usize = 1024;
const MAX_ELICITATIONS_OF_USER: usize = 256;
const MAX_ELICITATIONS_OF_SESSION: usize = 64;
const ELICITATIONS: Bounds = Bounds {
    all: MAX_ELICITATIONS,
    of_user: MAX_ELICITATIONS_OF_USER,
    of_session: MAX_ELICITATIONS_OF_SESSION,
};

/// The client capabilities that the router declares to every legacy child: all that it can route,
/// so that what the child offers does not depend on which client came first. Roots are not among
/// them: the folders of one user's machine would replace the server's own for all users.
pub(super) const CAPABILITIES: &str =
    r#"{"sampling":{"context":{},"tools":{}},"elicitation":{"form":{},"url":{}}}"#;

/// The capabilities in the `initialize` of a peer.
#[derive(Clone, Default, Deserialize)]
pub(super) struct Capabilities {
    #[serde(default)]
    sampling: Option<Sampling>,
    #[serde(default)]
    elicitation: Option<Elicitation>,
}

#[derive(Clone, Default, Deserialize)]
struct Sampling {
    #[serde(default)]
    tools: Option<IgnoredAny>,
}

#[derive(Clone, Default, Deserialize)]
struct Elicitation {
    #[serde(default)]
    form: Option<IgnoredAny>,
    #[serde(default)]
    url: Option<IgnoredAny>,
}

/// True if an `initialize` declares that its client accepts any server requests.
#[must_use]
pub fn can_be_asked(initialize: &Message) -> bool {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Declared {
        sampling: Option<IgnoredAny>,
        elicitation: Option<IgnoredAny>,
        roots: Option<IgnoredAny>,
    }
    let raw = initialize.raw(Field::Capabilities);
    let declared: Declared = raw
        .and_then(|raw| serde_json::from_slice(raw).ok())
        .unwrap_or_default();
    declared.sampling.is_some() || declared.elicitation.is_some() || declared.roots.is_some()
}

/// The capability that a server request needs.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Need {
    Sampling {
        tools: bool,
    },
    Form,
    /// With the id under which the child will report completion.
    Url {
        elicitation: Option<String>,
    },
}

impl Need {
    /// `None` for requests that no peer can answer.
    pub(super) fn of(question: &Message) -> Option<Self> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Params {
            mode: Option<String>,
            elicitation_id: Option<String>,
            tools: Option<IgnoredAny>,
        }
        let params = || -> Params {
            question
                .params()
                .and_then(|raw| serde_json::from_slice(raw).ok())
                .unwrap_or_default()
        };
        match question.method() {
            "sampling/createMessage" => Some(Self::Sampling {
                tools: params().tools.is_some(),
            }),
            "elicitation/create" => {
                let params = params();
                Some(if params.mode.as_deref() == Some("url") {
                    Self::Url {
                        elicitation: params.elicitation_id,
                    }
                } else {
                    Self::Form
                })
            }
            _ => None,
        }
    }

    pub(super) fn is_met_by(&self, peer: &Capabilities) -> bool {
        match self {
            Self::Sampling { tools } => peer
                .sampling
                .as_ref()
                .is_some_and(|sampling| !tools || sampling.tools.is_some()),
            // An empty `elicitation` means forms (2025-11-25 client/elicitation "Capabilities").
            Self::Form => peer
                .elicitation
                .as_ref()
                .is_some_and(|elicitation| elicitation.form.is_some() || elicitation.url.is_none()),
            Self::Url { .. } => peer
                .elicitation
                .as_ref()
                .is_some_and(|elicitation| elicitation.url.is_some()),
        }
    }
}

/// The elicitations that an answer sends its peer to; the child will report their completion.
pub(super) fn elicitations_required(answer: &Message) -> Vec<String> {
    #[derive(Deserialize)]
    struct Error {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        elicitations: Vec<Elicitation>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Elicitation {
        elicitation_id: String,
    }
    if answer.error_code() != Some(URL_ELICITATION_REQUIRED) {
        return Vec::new();
    }
    let error: Option<Error> = answer
        .error()
        .and_then(|raw| serde_json::from_slice(raw).ok());
    let elicitations = error.map(|error| error.data.elicitations);
    let ids = elicitations.into_iter().flatten();
    ids.map(|elicitation| elicitation.elicitation_id)
        .take(MAX_ELICITATIONS)
        .collect()
}

/// An open server request.
pub(super) struct ServerRequest {
    pub of: Addressee,
    /// The child's id.
    pub id: RequestId,
    /// The child's progress token; the peer's is the id that the router gave.
    pub progress_token: Option<RequestId>,
    /// When the child sent it.
    pub asked: Instant,
}

/// A server request for a peer that has not finished its handshake, or has lost its connection.
pub(super) struct Parked {
    pub of: Addressee,
    pub question: Message,
    /// When the child sent it.
    pub asked: Instant,
}

/// The open server requests of one child, by the id that the peer knows.
#[derive(Default)]
pub(super) struct ServerRequests {
    open: BTreeMap<i64, ServerRequest>,
    parked: Vec<Parked>,
    /// URL elicitations and their peers, oldest first.
    elicitations: Vec<(String, Addressee)>,
}

impl ServerRequests {
    pub(super) fn insert(&mut self, ours: i64, request: ServerRequest) {
        self.open.insert(ours, request);
    }

    /// True if `of` has too many open server requests to get another one.
    pub(super) fn is_full_for(&self, of: &Addressee) -> bool {
        let open = self.open.values().map(|request| &request.of);
        OPEN.reached(of, open).is_some()
    }

    /// True while a server request waits for the answer of this session.
    pub(super) fn wait_for(&self, session: SessionId) -> bool {
        self.open
            .values()
            .any(|request| request.of.session == session)
    }

    pub(super) fn may_park(&self, of: &Addressee, question: &Message) -> bool {
        let parked = self.parked.iter().map(|parked| &parked.of);
        PARKED.reached(of, parked).is_none() && question.size() <= MAX_PARKED_SIZE
    }

    pub(super) fn park(&mut self, parked: Parked) {
        self.parked.push(parked);
    }

    /// When the oldest open server request was sent.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let open = self.open.values().map(|request| request.asked);
        open.chain(self.parked.iter().map(|parked| parked.asked))
            .min()
    }

    /// Takes the server requests that were sent before then: those that reached a peer, by the id that it
    /// knows, and those that still waited for one.
    pub(super) fn take_older(&mut self, than: Instant) -> (Vec<(i64, ServerRequest)>, Vec<Parked>) {
        let open = self.take_if(|request| request.asked <= than);
        let parked = self.parked.extract_if(.., |parked| parked.asked <= than);
        (open, parked.collect())
    }

    fn take_if(&mut self, wanted: impl Fn(&ServerRequest) -> bool) -> Vec<(i64, ServerRequest)> {
        let (taken, others) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|(_, request)| wanted(request));
        self.open = others;
        let taken: BTreeMap<i64, ServerRequest> = taken;
        taken.into_iter().collect()
    }

    /// Takes the server request `ours`, if it was sent to `session`.
    pub(super) fn get(&self, ours: i64, session: SessionId) -> Option<&ServerRequest> {
        self.open
            .get(&ours)
            .filter(|request| request.of.session == session)
    }

    pub(super) fn take(&mut self, ours: i64, session: SessionId) -> Option<ServerRequest> {
        self.get(ours, session)?;
        self.open.remove(&ours)
    }

    /// Takes the server request that the child knows as `id`, with the id that the peer knows.
    pub(super) fn take_by_child_id(&mut self, id: &RequestId) -> Option<(i64, ServerRequest)> {
        let ours = *self.open.iter().find(|(_, request)| request.id == *id)?.0;
        Some((ours, self.open.remove(&ours)?))
    }

    /// Removes the waiting server request with this id of the child.
    pub(super) fn drop_parked(&mut self, id: &RequestId) {
        self.parked
            .retain(|parked| parked.question.id() != Some(id));
    }

    /// Takes all server requests to a session, by the ids that the child knows.
    pub(super) fn leave(&mut self, session: SessionId) -> Vec<RequestId> {
        self.elicitations.retain(|(_, of)| of.session != session);
        let open = self.take_if(|request| request.of.session == session);
        let mut ids: Vec<RequestId> = open.into_iter().map(|(_, request)| request.id).collect();
        let parked = self.take_parked(session);
        let parked = parked.iter().filter_map(|parked| parked.question.id());
        ids.extend(parked.cloned());
        ids
    }

    /// Takes the server requests that wait for a session.
    pub(super) fn take_parked(&mut self, session: SessionId) -> Vec<Parked> {
        let waits = |parked: &mut Parked| parked.of.session == session;
        self.parked.extract_if(.., waits).collect()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (i64, &ServerRequest)> {
        self.open.iter().map(|(ours, request)| (*ours, request))
    }

    pub(super) fn remember_elicitation(&mut self, elicitation: String, of: Addressee) {
        let known = self.elicitations.iter().map(|(_, of)| of);
        let full = ELICITATIONS.reached(&of, known);
        let makes_room = |(_, other): &(String, Addressee)| match full {
            None => false,
            Some(Full::Session) => other.session == of.session,
            Some(Full::User) => other.shares_user_with(&of),
            Some(Full::All) => true,
        };
        if let Some(oldest) = self.elicitations.iter().position(makes_room) {
            self.elicitations.remove(oldest);
        }
        self.elicitations.push((elicitation, of));
    }

    pub(super) fn take_elicitation(&mut self, elicitation: &str) -> Option<SessionId> {
        let at = self
            .elicitations
            .iter()
            .position(|(known, _)| known == elicitation)?;
        Some(self.elicitations.remove(at).1.session)
    }
}
