//! Negotiates a session with the server, connection by connection.

use super::phase::Phase;
use crate::control::{Control, SessionKey};

/// After this many connections in a row without an answer about the session, the server counts as
/// one without sessions. Fewer would give up on a machine that is only asleep.
pub(super) const MAX_UNANSWERED: u32 = 4;

/// What to request on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Offer {
    /// No session.
    Nothing {
        /// The server has accepted our token.
        admitted: bool,
    },
    /// A session, which the server may not support.
    Possible,
    /// A session, and the server has promised to answer.
    Promised,
}

/// What the first line of a connection says about the session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Our session continues; how many lines the server has received.
    Resumed { received: u64 },
    /// There is a new session with this key, or none.
    Started {
        key: Option<SessionKey>,
        /// The server does not know the session that we want to resume.
        forgotten: bool,
    },
}

/// The session, and whether the server supports sessions.
#[derive(Debug, Default)]
pub(super) struct Negotiation {
    session: Option<SessionKey>,
    /// Connections in a row on which resuming got no answer.
    unanswered: u32,
    /// The last server that was offered a session does not support them.
    server_is_plain: bool,
}

impl Negotiation {
    /// True while there is a session to resume.
    pub(super) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// The session to request.
    pub(super) fn session(&self) -> Option<SessionKey> {
        self.session.clone()
    }

    /// Abandons the session.
    pub(super) fn forget(&mut self) {
        self.session = None;
    }

    /// The phase in which a connection begins.
    pub(super) fn begin(&self, offer: Offer) -> Phase {
        match offer {
            Offer::Nothing { .. } => Phase::Plain,
            _ if self.session.is_some() => Phase::Resuming,
            Offer::Promised => Phase::Offering,
            Offer::Possible if self.server_is_plain => Phase::Undecided,
            Offer::Possible => Phase::Probing,
        }
    }

    /// What the first line of a connection means in this phase; `control` is its content if it is a control
    /// line.
    pub(super) fn answer(&mut self, phase: &Phase, control: Option<&Control>) -> Option<Answer> {
        let resuming = match phase {
            Phase::Resuming => true,
            Phase::Offering | Phase::Probing | Phase::Undecided => false,
            Phase::Disconnected | Phase::Plain | Phase::Established(_) => return None,
        };
        self.unanswered = 0;
        let Some(Control::Resumed {
            session,
            received,
            resumed,
        }) = control
        else {
            self.server_is_plain = true;
            let (key, forgotten) = (None, resuming);
            return Some(Answer::Started { key, forgotten });
        };
        self.server_is_plain = false;
        if resuming && *resumed && *session == self.session {
            let received = *received;
            return Some(Answer::Resumed { received });
        }
        let (key, forgotten) = (session.clone(), resuming);
        Some(Answer::Started { key, forgotten })
    }

    /// There is a new session, or none.
    pub(super) fn start(&mut self, session: Option<SessionKey>) {
        self.session = session;
    }

    /// The server did not answer in time whether it knows our session.
    pub(super) fn timed_out(&mut self) {
        self.unanswered += 1;
        if self.unanswered >= MAX_UNANSWERED {
            self.session = None;
        }
    }
}
