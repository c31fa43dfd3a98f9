//! What survives a connection: what the host is owed, what the server has not acknowledged, and
//! how we stand with the server.
//!
//! Pure: no I/O, no clock. What an event makes for the host is fetched with [`State::told`].

use super::ledger::{CONNECTION_LOST, Ledger, Verdict};
use crate::control::{Control, SessionKey};
use crate::jsonrpc::{ErrorData, Executed};
use crate::replay::{ACK_BYTES, Replay, Violation};
use bytes::Bytes;
use std::collections::VecDeque;

/// The most that is kept for the server, sent or not, in bytes; then the host is not read.
const MAX_BACKLOG: usize = 64 << 20;

/// The most that is sent without an acknowledgement to a server that gives them, in bytes. More
/// than one acknowledgement's worth, so that the wire does not run dry; not much more, so that a
/// server whose MCP server takes nothing still reads our acknowledgements behind it.
const WINDOW: usize = 2 * ACK_BYTES;

/// What is sent at once, in bytes; one line may be longer.
const BATCH: usize = 256 * 1024;

/// What the server is to us on a new connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    /// It goes on where the last connection was lost.
    Resumed { again: u64 },
    /// It knows nothing of us; so many requests got an error.
    Anew { failed: usize },
}

/// What we know of the far end of this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing yet, and it may have forgotten us: nothing is sent before it has answered.
    Asked,
    /// Nothing yet; we begin anew. It has promised an answer, or we do not know what it is.
    Offered { promised: bool },
    /// It can resume.
    Resumable,
    /// It cannot.
    Plain,
}

/// What is to be done about sending.
#[derive(Debug)]
pub(super) struct Turn {
    pub lines: Vec<Bytes>,
    /// The host may be read.
    pub open: bool,
    pub resumable: bool,
    /// The server owes us an answer before anything else can be sent.
    pub waits: bool,
    pub untold: bool,
    pub ack_due: bool,
    pub done: bool,
}

/// How we stand.
#[derive(Debug)]
pub(super) struct State {
    ledger: Ledger,
    replay: Replay,
    session: Option<SessionKey>,
    stage: Stage,
    /// Requests that got an error since the last report.
    failed: usize,
    /// Lines that wait until the server has taken our handshake again.
    rejoin: Option<VecDeque<Bytes>>,
    /// The server stops soon: what is not sent is for its successor.
    draining: bool,
    /// The host says no more.
    ended: bool,
    /// We have been told to leave.
    leaving: bool,
    /// Lines of our own for the host, without newlines.
    told: Vec<Bytes>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            ledger: Ledger::default(),
            replay: Replay::default(),
            session: None,
            stage: Stage::Plain,
            failed: 0,
            rejoin: None,
            draining: false,
            ended: false,
            leaving: false,
            told: Vec::new(),
        }
    }
}

impl State {
    /// Takes what the host has to be told.
    pub(super) fn told(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.told)
    }

    fn tell(&mut self, lines: Vec<Vec<u8>>) {
        let lines = lines.into_iter().map(|line| without_end(&line.into()));
        self.told.extend(lines);
    }

    /// The host has said something: lines with their newlines.
    pub(super) fn say(&mut self, lines: Vec<Bytes>) {
        lines.into_iter().for_each(|line| self.replay.push(line));
    }

    /// The host says no more.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Says goodbye as soon as possible.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    /// True when the host waits for something, or something waits to be sent.
    pub(super) fn is_owing(&self) -> bool {
        self.ledger.owed() > 0 || self.replay.bytes() > 0 || self.rejoin.is_some()
    }

    /// True when the server gives signs of life.
    pub(super) fn is_resumable(&self) -> bool {
        self.stage == Stage::Resumable
    }

    /// The connection is lost. Where the server cannot resume, that is the end of what it knew.
    pub(super) fn lose(&mut self) {
        if self.session.is_none() {
            self.begin_anew();
        }
    }

    /// The server breaks the rules: whoever counts wrongly would do so again.
    pub(super) fn distrust(&mut self) {
        self.session = None;
    }

    /// Nothing will be sent any more: everything that the host is owed gets an error, what it has
    /// said and we have not taken yet included.
    pub(super) fn give_up(
        &mut self,
        text: &str,
        data: &ErrorData,
        unread: impl Iterator<Item = Bytes>,
    ) {
        let lost = self.ledger.lost(text, data);
        self.tell(lost);
        let replay = std::mem::take(&mut self.replay);
        let unsent = self.rejoin.take().unwrap_or_else(|| replay.into_unsent());
        let unsent = unsent.into_iter().map(|line| without_end(&line));
        for line in unsent.chain(unread) {
            self.ledger.send(&line);
        }
        let not_executed = ErrorData::new("connection-lost", Executed::No);
        let lost = self.ledger.lost(text, &not_executed);
        self.tell(lost);
    }

    /// The far end knows nothing of us: what was sent is answered with errors, since it may or may
    /// not have been executed; what was not is sent after the handshake has been replayed.
    fn begin_anew(&mut self) {
        self.failed += self.ledger.in_flight();
        let lost = self.ledger.lost("Connection lost", &CONNECTION_LOST);
        self.tell(lost);
        let replay = std::mem::take(&mut self.replay);
        // While a replay waits for its answer, nothing else has been pushed.
        let mut unsent = self.rejoin.take().unwrap_or_else(|| replay.into_unsent());
        // The rest of an earlier replay may be among it.
        unsent.retain(|line| !self.ledger.is_replayed(&without_end(line)));
        self.session = None;
        match self.ledger.replay() {
            Some(handshake) => {
                self.replay.push(handshake);
                self.rejoin = Some(unsent);
            }
            None => unsent.into_iter().for_each(|line| self.replay.push(line)),
        }
    }

    fn news(&mut self) -> News {
        News::Anew {
            failed: std::mem::take(&mut self.failed),
        }
    }

    /// Begins a connection: what to say first, if anything, and how we stand, if that is clear
    /// already. `resume` is whether the server may be asked for a session, and `promised` whether
    /// it has promised to answer that.
    pub(super) fn greet(
        &mut self,
        resume: bool,
        promised: bool,
    ) -> (Option<Control>, Option<News>) {
        self.draining = false;
        match (resume, self.session.clone()) {
            (true, Some(key)) => {
                self.stage = Stage::Asked;
                let received = self.replay.tell();
                let session = Some(key);
                (Some(Control::Resume { session, received }), None)
            }
            (true, None) => {
                self.stage = Stage::Offered { promised };
                self.replay.keep();
                let session = None;
                let received = 0;
                (Some(Control::Resume { session, received }), None)
            }
            (false, session) => {
                if session.is_some() {
                    self.begin_anew();
                }
                self.stage = Stage::Plain;
                (None, Some(self.news()))
            }
        }
    }

    /// A line of the server: the first one says what it is. True when the line is done with, and
    /// how we stand, if it has told.
    ///
    /// # Errors
    /// Numbers that cannot be.
    pub(super) fn meet(
        &mut self,
        first: Option<&Control>,
    ) -> Result<(bool, Option<News>), Violation> {
        match (self.stage, first) {
            (
                Stage::Asked,
                Some(Control::Resumed {
                    session,
                    received,
                    resumed: true,
                }),
            ) if *session == self.session => {
                let again = self.replay.resume(*received)?;
                self.stage = Stage::Resumable;
                Ok((true, Some(News::Resumed { again })))
            }
            (Stage::Asked | Stage::Offered { .. }, Some(Control::Resumed { session, .. })) => {
                if self.stage == Stage::Asked {
                    self.begin_anew();
                }
                self.session.clone_from(session);
                if session.is_some() {
                    if self.stage == Stage::Asked {
                        self.replay.keep();
                    }
                    self.stage = Stage::Resumable;
                } else {
                    self.replay.stop_keeping();
                    self.stage = Stage::Plain;
                }
                Ok((true, Some(self.news())))
            }
            (Stage::Asked | Stage::Offered { .. }, _) => {
                if self.stage == Stage::Asked {
                    self.begin_anew();
                }
                self.replay.stop_keeping();
                self.stage = Stage::Plain;
                Ok((false, Some(self.news())))
            }
            (Stage::Resumable | Stage::Plain, _) => Ok((false, None)),
        }
    }

    /// Another control line of the server.
    ///
    /// # Errors
    /// Numbers that cannot be.
    pub(super) fn heed(&mut self, control: &Control) -> Result<(), Violation> {
        match control {
            Control::Ack { received } if self.stage == Stage::Resumable => {
                self.replay.acknowledge(*received)?;
            }
            Control::Drain { received } if self.stage == Stage::Resumable => {
                for line in self.replay.unsend(*received)? {
                    self.ledger.unsend(&without_end(line));
                }
                self.draining = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// A message of the server. Gives whether the host gets it, and whether there is something to
    /// be done about sending.
    pub(super) fn receive(&mut self, line: &Bytes) -> (bool, bool) {
        let first = !self.replay.is_untold();
        let due = self.stage == Stage::Resumable && (self.replay.receive(line.len()) || first);
        match self.ledger.receive(line) {
            Verdict::Pass => (true, due || self.ended),
            Verdict::Drop => (false, due || self.ended),
            Verdict::Replayed(succeeded) => {
                if !succeeded {
                    tracing::warn!("the server did not take the handshake a second time");
                }
                let rest = self.ledger.replay_rest();
                let held = self.rejoin.take().unwrap_or_default();
                rest.into_iter()
                    .chain(held)
                    .for_each(|line| self.replay.push(line));
                (false, true)
            }
        }
    }

    /// What is to be done now about sending.
    pub(super) fn turn(&mut self) -> Turn {
        let waits = matches!(self.stage, Stage::Asked | Stage::Offered { promised: true });
        let congested = self.stage == Stage::Resumable && self.replay.under_way() >= WINDOW;
        let may_send = !waits && !congested && !self.draining;
        let batch = if may_send {
            self.replay.take(BATCH)
        } else {
            Default::default()
        };
        for line in batch.lines.iter().skip(batch.again) {
            self.ledger.send(&without_end(line));
        }
        let idle = batch.lines.is_empty();
        let served = self.ended
            && idle
            && self.replay.waiting() == 0
            && self.rejoin.is_none()
            && self.ledger.owed() == 0;
        Turn {
            open: !self.ended
                && self.rejoin.is_none()
                && may_send
                && self.replay.bytes() < MAX_BACKLOG,
            lines: batch.lines,
            resumable: self.stage == Stage::Resumable,
            waits: waits || self.rejoin.is_some(),
            untold: self.replay.is_untold(),
            ack_due: self.replay.is_due(),
            done: self.leaving || served,
        }
    }

    /// How many lines of the server we have, which it is about to be told.
    pub(super) fn tell_received(&mut self) -> u64 {
        self.replay.tell()
    }
}

fn without_end(line: &Bytes) -> Bytes {
    line.slice(..line.len().saturating_sub(1))
}
