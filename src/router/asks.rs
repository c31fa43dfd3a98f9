//! What a shared child asks of peers (legacy: sampling, elicitation), and which of them can say.

use super::SessionId;
use crate::jsonrpc::{Field, Message, RequestId};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// The most questions of one child that may be open.
const MAX_OPEN: usize = 1024;

/// The same of those to one session: who answers none is asked no more, and the others still are.
pub(super) const MAX_OPEN_OF_SESSION: usize = 64;

/// The most questions that may wait for their peer to finish its handshake or to come back, and the
/// longest of them in bytes.
const MAX_PARKED: usize = 64;
const MAX_PARKED_SIZE: usize = 64 * 1024;
const MAX_PARKED_OF_SESSION: usize = 8;

/// The error that says which URLs the user has to visit first (2025-11-25 client/elicitation).
const URL_ELICITATION_REQUIRED: i64 = -32042;

/// The most URL elicitations whose completion we still pass on.
const MAX_ELICITATIONS: usize = 1024;
const MAX_ELICITATIONS_OF_SESSION: usize = 64;

/// What the router tells every legacy child its client can do: all that it can route, so that what
/// the child offers does not depend on who came first. Roots are not among it: the folders of one
/// user's machine would replace the server's own for everybody.
pub(super) const CAPABILITIES: &str =
    r#"{"sampling":{"context":{},"tools":{}},"elicitation":{"form":{},"url":{}}}"#;

/// What a peer said in its `initialize` that it can do.
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

/// True where an `initialize` says that its client can be asked something.
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

/// What a question needs of the peer that is to answer it.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Need {
    Sampling {
        tools: bool,
    },
    Form,
    /// With the id under which the child will report that it is complete.
    Url {
        elicitation: Option<String>,
    },
}

impl Need {
    /// `None` for what no peer can be asked.
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

/// The elicitations that an answer sends its peer to; the child will report when they are complete.
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

/// A question on its way.
pub(super) struct Ask {
    pub session: SessionId,
    /// The child's id.
    pub id: RequestId,
    /// The child's progress token; the peer's is the id that the router gave.
    pub progress_token: Option<RequestId>,
}

/// The open questions of one child, by the id that the peer knows them by.
#[derive(Default)]
pub(super) struct Asks {
    open: BTreeMap<i64, Ask>,
    /// Questions for peers that have not finished their handshake, or have lost their connection.
    pub parked: Vec<(SessionId, Message)>,
    /// Who was sent to which URL, oldest first.
    elicitations: Vec<(String, SessionId)>,
}

impl Asks {
    pub(super) fn insert(&mut self, ours: i64, ask: Ask) {
        self.open.insert(ours, ask);
    }

    /// True where `session` has so many open questions that it is not asked another one.
    pub(super) fn is_full_for(&self, session: SessionId) -> bool {
        let own = self.open.values().filter(|ask| ask.session == session);
        self.open.len() >= MAX_OPEN || own.count() >= MAX_OPEN_OF_SESSION
    }

    pub(super) fn may_park(&self, session: SessionId, question: &Message) -> bool {
        let own = self.parked.iter().filter(|(waits, _)| *waits == session);
        self.parked.len() < MAX_PARKED
            && own.count() < MAX_PARKED_OF_SESSION
            && question.size() <= MAX_PARKED_SIZE
    }

    /// The question `ours`, if it was `session` that was asked.
    pub(super) fn get(&self, ours: i64, session: SessionId) -> Option<&Ask> {
        self.open.get(&ours).filter(|ask| ask.session == session)
    }

    pub(super) fn take(&mut self, ours: i64, session: SessionId) -> Option<Ask> {
        self.get(ours, session)?;
        self.open.remove(&ours)
    }

    /// Takes the question that the child knows by `id`, with the id that the peer knows.
    pub(super) fn take_by_child_id(&mut self, id: &RequestId) -> Option<(i64, Ask)> {
        let ours = *self.open.iter().find(|(_, ask)| ask.id == *id)?.0;
        Some((ours, self.open.remove(&ours)?))
    }

    /// Takes all questions to a session, by the ids that the child knows them by.
    pub(super) fn leave(&mut self, session: SessionId) -> Vec<RequestId> {
        self.elicitations.retain(|(_, asked)| *asked != session);
        let ours: Vec<i64> = self
            .open
            .iter()
            .filter(|(_, ask)| ask.session == session)
            .map(|(ours, _)| *ours)
            .collect();
        let open = ours.iter().filter_map(|ours| self.open.remove(ours));
        let mut ids: Vec<RequestId> = open.map(|ask| ask.id).collect();
        ids.extend(
            self.take_parked(session)
                .iter()
                .filter_map(Message::id)
                .cloned(),
        );
        ids
    }

    /// Takes the questions that wait for a session.
    pub(super) fn take_parked(&mut self, session: SessionId) -> Vec<Message> {
        let (taken, others) = std::mem::take(&mut self.parked)
            .into_iter()
            .partition(|(waits_for, _)| *waits_for == session);
        self.parked = others;
        let taken: Vec<(SessionId, Message)> = taken;
        taken.into_iter().map(|(_, question)| question).collect()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (i64, &Ask)> {
        self.open.iter().map(|(ours, ask)| (*ours, ask))
    }

    pub(super) fn remember_elicitation(&mut self, elicitation: String, session: SessionId) {
        let own = |(_, asked): &&(String, SessionId)| *asked == session;
        let oldest = if self.elicitations.iter().filter(own).count() >= MAX_ELICITATIONS_OF_SESSION
        {
            self.elicitations.iter().position(|known| own(&known))
        } else {
            (self.elicitations.len() >= MAX_ELICITATIONS).then_some(0)
        };
        if let Some(oldest) = oldest {
            self.elicitations.remove(oldest);
        }
        self.elicitations.push((elicitation, session));
    }

    pub(super) fn take_elicitation(&mut self, elicitation: &str) -> Option<SessionId> {
        let at = self
            .elicitations
            .iter()
            .position(|(known, _)| known == elicitation)?;
        Some(self.elicitations.remove(at).1)
    }
}
