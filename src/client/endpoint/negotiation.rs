//! Whether there is a session with the server, connection by connection.

use super::phase::Phase;
use crate::control::{Control, SessionKey};

/// After so many connections in a row on which the server did not say whether it knows the session,
/// it is taken for one that cannot. Fewer would give up on a machine that is only asleep.
pub(super) const MAX_UNANSWERED: u32 = 4;

/// What a new connection may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Offer {
    /// No session.
    Nothing,
    /// A session, and the server may not know what that is.
    Possible,
    /// A session, and the server has promised to answer.
    Promised,
}

/// What the first line of a connection tells about the session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Our session goes on. The server has received so many lines.
    Resumed { received: u64 },
    /// There is a new session with this key, or none.
    Started {
        key: Option<SessionKey>,
        /// The server has forgotten the session that we asked for.
        forgotten: bool,
    },
}

/// What is known of the session, and of the server's knowledge of sessions.
#[derive(Debug, Default)]
pub(super) struct Negotiation {
    session: Option<SessionKey>,
    /// Connections in a row on which we asked to resume in vain.
    unanswered: u32,
    /// The last server that was offered a session does not know what that is.
    server_is_plain: bool,
}

impl Negotiation {
    /// True while there is a session to resume.
    pub(super) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// The session to ask for.
    pub(super) fn session(&self) -> Option<SessionKey> {
        self.session.clone()
    }

    /// Gives the session up.
    pub(super) fn forget(&mut self) {
        self.session = None;
    }

    /// The phase in which a connection begins.
    pub(super) fn begin(&self, offer: Offer) -> Phase {
        match offer {
            Offer::Nothing => Phase::Plain,
            _ if self.session.is_some() => Phase::Resuming,
            Offer::Promised => Phase::Offering,
            Offer::Possible if self.server_is_plain => Phase::Undecided,
            Offer::Possible => Phase::Probing,
        }
    }

    /// What a line says in this phase, if it is the first one; `control` is what it says as a control
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

    /// The server did not say in time whether it knows our session.
    pub(super) fn timed_out(&mut self) {
        self.unanswered += 1;
        if self.unanswered >= MAX_UNANSWERED {
            self.session = None;
        }
    }
}
