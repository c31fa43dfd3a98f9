//! What survives a connection: what the host is owed, what the server has not acknowledged, and
//! how we stand with the server.
//!
//! Pure: no I/O, no clock. What an event makes for the host is fetched with [`State::told`].

use super::ledger::{Arrived, CONNECTION_LOST, Ledger, Verdict, without_end};
use crate::control::{Control, SessionKey};
use crate::jsonrpc::{
    Code, ErrorData, Executed, Kind, MAX_PEER_DEPTH, Message, NO_DATA, error_line,
};
use crate::liveness::{ACK_BYTES, Urgency};
use crate::replay::{BATCH, Replay, Violation};
use bytes::Bytes;
use std::collections::VecDeque;

/// The most that is kept for the server, sent or not, in bytes; then the host is not read.
const MAX_BACKLOG: usize = 64 << 20;

/// The most that is sent without an acknowledgement to a server that gives them, in bytes. More
/// than one acknowledgement's worth, so that the wire does not run dry; not much more, so that a
/// server whose MCP server takes nothing still reads our acknowledgements behind it.
const WINDOW: usize = 2 * ACK_BYTES;

/// So many connections in a row on which the server has not said whether it knows us, and it is
/// taken for one that cannot. Fewer would give up on a machine that is only asleep.
const MAX_UNANSWERED: u32 = 4;

/// What the server is to us on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It goes on where the last connection was lost.
    Resumed { resent: u64 },
    /// It knows nothing of us; so many requests got an error.
    Anew { failed: usize },
}

/// What we know of the far end of this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing yet, and it may have forgotten us: nothing is sent before it has answered.
    Asked,
    /// Nothing yet; we begin anew, and nothing is sent before it has answered while we wait for that.
    Offered { wait: Option<Wait> },
    /// It can resume.
    Resumable,
    /// It cannot.
    Plain,
}

/// How long the server may take to say what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// As long as it takes to connect: an answer is certain.
    Long,
    /// A moment: it may be one that never answers.
    Short,
}

/// What is to be done about sending.
#[derive(Debug)]
pub(super) struct Turn {
    /// Comes first.
    pub control: Option<Control>,
    pub lines: Vec<Bytes>,
    /// The host may be read.
    pub open: bool,
    pub resumable: bool,
    /// The server owes us an answer before anything else can be sent.
    pub wait: Option<Wait>,
    pub ack: Urgency,
    pub done: bool,
}

/// How we stand.
pub(super) struct State {
    ledger: Ledger,
    replay: Replay,
    session: Option<SessionKey>,
    stage: Stage,
    /// Connections in a row on which we asked in vain.
    unanswered: u32,
    /// The last server that was offered a session does not know what that is.
    is_plain: bool,
    /// Requests that got an error since the last report.
    failed: usize,
    /// Lines that wait until the server has taken our handshake again.
    rejoin: Option<VecDeque<Bytes>>,
    /// The server stops soon: what is not sent is for its successor, but for so many answers.
    draining: Option<usize>,
    /// The server is to be told that we know.
    drain_heard: bool,
    /// The server has closed a session that nobody used.
    dismissed: bool,
    /// The host has said something.
    heard: bool,
    /// The host says no more.
    ended: bool,
    /// We have been told to leave.
    leaving: bool,
    /// We have said goodbye on this connection.
    left: bool,
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
            unanswered: 0,
            is_plain: false,
            failed: 0,
            rejoin: None,
            draining: None,
            drain_heard: false,
            dismissed: false,
            heard: false,
            ended: false,
            leaving: false,
            left: false,
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
        self.heard = true;
        for line in lines {
            if simdutf8::basic::from_utf8(&line).is_err() {
                // Not every transport could carry it.
                let text = "Parse error: not UTF-8";
                self.tell(vec![error_line(None, Code::ParseError, text, NO_DATA)]);
                continue;
            }
            if Control::read(&without_end(&line)).is_some() {
                // The server would not count it.
                tracing::warn!("dropped a notification of the host under one of our own names");
                continue;
            }
            let Some(line) = self.ledger.hear(line) else {
                continue;
            };
            match &mut self.draining {
                Some(ahead) if is_answer(&line) => {
                    self.replay.push_ahead(line, *ahead);
                    *ahead += 1;
                }
                _ => self.replay.push(line),
            }
        }
    }

    /// True once the host has said something.
    pub(super) fn has_heard(&self) -> bool {
        self.heard
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
        // While we rejoin, what waits is our own.
        let waiting = match &self.rejoin {
            Some(held) => held.len(),
            None => self.replay.waiting(),
        };
        self.ledger.owed() > 0 || waiting > 0
    }

    /// True when the host has left and waits for nothing. What we may still wait for ourselves is
    /// worth a moment, and no more.
    pub(super) fn is_served(&self) -> bool {
        self.ended && !self.is_owing()
    }

    /// True when nothing more is to be done for the host.
    pub(super) fn is_done(&self) -> bool {
        let settled = self.replay.is_settled();
        match self.stage {
            Stage::Resumable => {
                (self.leaving || self.is_served()) && settled && !self.ledger.is_misread()
            }
            _ => self.leaving || self.is_served() && settled && !self.ledger.is_misread(),
        }
    }

    /// True when the server gives signs of life.
    pub(super) fn is_resumable(&self) -> bool {
        self.stage == Stage::Resumable
    }

    /// True when the server ends this connection because nobody needs it.
    pub(super) fn is_dismissed(&self) -> bool {
        self.dismissed
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

    /// The server has not said in time what it is. True when the connection is still good for
    /// something.
    pub(super) fn wait_no_longer(&mut self) -> bool {
        match self.stage {
            Stage::Offered {
                wait: Some(Wait::Short),
            } => {
                self.stage = Stage::Offered { wait: None };
                true
            }
            Stage::Asked => {
                self.unanswered += 1;
                if self.unanswered >= MAX_UNANSWERED {
                    self.session = None;
                }
                false
            }
            _ => false,
        }
    }

    /// Nothing will be sent any more: everything that the host is owed gets an error, what it has
    /// said and we have not taken yet included.
    pub(super) fn give_up(
        &mut self,
        text: &str,
        data: fn(Executed) -> ErrorData,
        unread: impl Iterator<Item = Bytes>,
    ) {
        let lost = self.ledger.lost(text, &data(Executed::Unknown));
        self.tell(lost);
        let replay = std::mem::take(&mut self.replay);
        let unsent = self.rejoin.take().unwrap_or_else(|| replay.into_unsent());
        for line in unsent.into_iter().chain(unread) {
            self.ledger.send(&without_end(&line));
        }
        let lost = self.ledger.lost(text, &data(Executed::No));
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
        unsent.retain(|line| !self.ledger.is_past(&without_end(line)));
        self.session = None;
        if self.ended && unsent.is_empty() {
            // Nobody is left to go on for.
            return;
        }
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
        self.draining = None;
        self.drain_heard = false;
        self.dismissed = false;
        self.left = false;
        match (resume, self.session.clone()) {
            (true, Some(key)) => {
                self.stage = Stage::Asked;
                let received = self.replay.receipts.acknowledge();
                let session = Some(key);
                (Some(Control::Resume { session, received }), None)
            }
            (true, None) => {
                let wait = match (promised, self.is_plain) {
                    (true, _) => Some(Wait::Long),
                    (false, false) => Some(Wait::Short),
                    (false, true) => None,
                };
                self.stage = Stage::Offered { wait };
                self.replay.start_keeping();
                let (session, received) = (None, 0);
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
        let asked = match self.stage {
            Stage::Asked => true,
            Stage::Offered { .. } => false,
            Stage::Resumable | Stage::Plain => return Ok((false, None)),
        };
        self.unanswered = 0;
        let answer = match first {
            Some(Control::Resumed {
                session,
                received,
                resumed,
            }) => Some((session, *received, *resumed)),
            _ => None,
        };
        if let (true, Some((session, received, true))) = (asked, answer)
            && *session == self.session
        {
            let resent = self.replay.resume(received)?;
            self.stage = Stage::Resumable;
            return Ok((true, Some(News::Resumed { resent })));
        }
        if asked {
            self.begin_anew();
            self.replay.start_keeping();
        }
        match answer {
            Some((Some(session), ..)) => {
                self.session = Some(session.clone());
                self.stage = Stage::Resumable;
            }
            _ => {
                self.replay.stop_keeping();
                self.stage = Stage::Plain;
            }
        }
        self.is_plain = answer.is_none();
        Ok((answer.is_some(), Some(self.news())))
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
            Control::Drain { received, idle } if self.stage == Stage::Resumable => {
                for line in self.replay.rewind(*received)? {
                    self.ledger.unsend(&without_end(line));
                }
                self.draining = Some(self.replay.prioritize(is_answer));
                self.drain_heard = true;
                self.dismissed = *idle;
                tracing::debug!(idle, "the server ends the session soon");
            }
            _ => {}
        }
        Ok(())
    }

    /// A message of the server. Gives what the host gets, and whether there is something to be done
    /// about sending.
    pub(super) fn receive(&mut self, arrived: Arrived) -> (Option<Bytes>, bool) {
        let due = self.stage == Stage::Resumable && self.replay.receipts.count(arrived.line.len());
        let line = match self.ledger.receive(&arrived) {
            Verdict::Pass => Some(arrived.line),
            Verdict::Change(line) => Some(without_end(&line)),
            Verdict::Drop => None,
            Verdict::Replayed(succeeded) => {
                if !succeeded {
                    tracing::warn!("the server did not take the handshake a second time");
                }
                let rest = self.ledger.replay_rest();
                let held = self.rejoin.take().unwrap_or_default();
                rest.into_iter()
                    .chain(held)
                    .for_each(|line| self.replay.push(line));
                return (None, true);
            }
        };
        (line, due || self.ended)
    }

    /// A line of the server that is counted, and not for the host.
    pub(super) fn swallow(&mut self, line: &Bytes) {
        if self.stage == Stage::Resumable {
            self.replay.receipts.count(line.len());
        }
    }

    /// What is to be done now about sending.
    pub(super) fn turn(&mut self) -> Turn {
        let wait = match self.stage {
            Stage::Asked => Some(Wait::Long),
            Stage::Offered { wait } => wait,
            Stage::Resumable | Stage::Plain => None,
        };
        let resumable = self.stage == Stage::Resumable;
        if std::mem::take(&mut self.drain_heard) {
            let received = self.replay.receipts.acknowledge();
            let idle = false;
            return Turn {
                control: Some(Control::Drain { received, idle }),
                lines: Vec::new(),
                open: false,
                resumable,
                wait: None,
                ack: Urgency::Nothing,
                done: false,
            };
        }
        let congested = resumable && self.replay.in_flight() >= WINDOW;
        let lines = if wait.is_some() || congested {
            Vec::new()
        } else {
            self.take()
        };
        let served = self.is_served() && lines.is_empty();
        // Who says goodbye is told no more.
        let parts = self.leaving || served && !self.ledger.is_misread();
        let goodbye = resumable && parts && !self.left && lines.is_empty();
        self.left |= goodbye;
        let rejoins = self.rejoin.is_some();
        Turn {
            control: goodbye.then_some(Control::Leave),
            open: !self.ended
                && !rejoins
                && wait.is_none()
                && !congested
                && self.replay.bytes() < MAX_BACKLOG,
            resumable,
            wait: wait.or_else(|| (rejoins && !resumable).then_some(Wait::Long)),
            ack: match self.replay.receipts.urgency() {
                Urgency::Soon | Urgency::WithNextLine if self.draining.is_some() => Urgency::Now,
                Urgency::WithNextLine if !lines.is_empty() => Urgency::Now,
                urgency => urgency,
            },
            done: !goodbye && lines.is_empty() && self.is_done(),
            lines,
        }
    }

    /// Takes lines to be sent: while the server drains, answers only.
    fn take(&mut self) -> Vec<Bytes> {
        let batch = match &mut self.draining {
            None => self.replay.take(BATCH),
            Some(0) => return Vec::new(),
            Some(ahead) => {
                *ahead -= 1;
                self.replay.take(1)
            }
        };
        for line in batch.lines.iter().skip(batch.resent) {
            self.ledger.send(&without_end(line));
        }
        batch.lines
    }

    /// How many lines of the server we have, which it is about to be told.
    pub(super) fn tell_received(&mut self) -> u64 {
        self.replay.receipts.acknowledge()
    }
}

/// True for the host's answer to a question: the request that the question belongs to cannot end
/// before it.
fn is_answer(line: &Bytes) -> bool {
    let message = Message::read(without_end(line), MAX_PEER_DEPTH);
    message.is_ok_and(|message| matches!(message.kind(), Kind::Response(Some(_))))
}

#[cfg(test)]
mod tests;
