//! The actions of an event: lines for processes and peers, and processes to start and stop.

use super::{Loss, SessionId};
use crate::jsonrpc::{Code, Edit, ErrorData, Executed, Kind, Message, RequestId, error_line};
use crate::utils::chunks::{Chunks, Line};
use std::time::{Duration, Instant};

/// One of the two processes, 0 or 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProcessId(pub(crate) usize);

/// The most processes there can be.
pub const PROCESSES: usize = 2;

impl ProcessId {
    /// The one that starts with the server.
    pub const FIRST: Self = Self(0);

    /// Both.
    pub const ALL: [Self; PROCESSES] = [Self(0), Self(1)];
}

/// What to do about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start it; lines for it are queued already.
    Start(ProcessId),
    /// Stop it; it is no longer needed.
    Stop(ProcessId),
}

/// The longest lines, in bytes, their newlines not counted.
#[derive(Clone, Copy, Debug)]
pub struct LineLimits {
    /// From a peer to a process.
    pub to_child: usize,
    /// For a peer.
    pub to_peer: usize,
}

impl Default for LineLimits {
    /// No bounds.
    fn default() -> Self {
        Self {
            to_child: usize::MAX,
            to_peer: usize::MAX,
        }
    }
}

/// A line for a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForPeer {
    /// The line, with its newline.
    pub line: Line,
    /// The request that it answers; `None` if it answers none, or if only the line itself says so.
    pub answers: Option<RequestId>,
}

impl From<Line> for ForPeer {
    fn from(line: Line) -> Self {
        Self {
            line,
            answers: None,
        }
    }
}

/// The actions of an event. `Debug` shows sizes, never content.
#[derive(Default)]
pub struct Output {
    /// Whole lines for each process.
    pub to_child: [Chunks; PROCESSES],
    /// Whole lines for peers, in order.
    pub to_peer: Vec<(SessionId, ForPeer)>,
    /// Processes to start and stop.
    pub commands: Vec<Command>,
    /// Which processes have just been sent a request with a deadline: see
    /// [`super::Router::awaited`].
    pub asked: [bool; PROCESSES],
    /// There is a new timer: see [`super::Router::oldest_question`] and
    /// [`super::Router::next_change`].
    pub timed: bool,
    /// How many bytes of `to_child` are answers to server requests: a process that sends them
    /// without reading must not fill our memory.
    pub answers: [usize; PROCESSES],
    /// How many bytes have been taken from `to_child` and are not written yet.
    pub queued: [usize; PROCESSES],
    /// The message of a peer has named another user's task, which is answered like an unknown one.
    pub foreign_task: bool,
    /// The message of a peer calls a tool that has changed since the tools were accepted, and has been dropped.
    pub withheld: bool,
    /// A process has answered under an id that it was not given, or too long ago: it may print what a user has written.
    pub unasked: bool,
    /// The list of tools of a process is known, or may be requested again.
    pub learned: bool,
    /// When the event happened, if times are measured …
    pub now: Option<Instant>,
    /// … and how long the process has taken for its answer.
    pub took: Option<Duration>,
    pub(super) limits: LineLimits,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("to_child", &self.to_child.each_ref().map(Chunks::len))
            .field("to_peer", &self.to_peer.len())
            .field("commands", &self.commands)
            .finish()
    }
}

impl Output {
    /// With bounds on the lines that are written.
    #[must_use]
    pub fn new(limits: LineLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// The lines for a process.
    #[must_use]
    pub fn lines(&mut self, process: ProcessId) -> &mut Chunks {
        &mut self.to_child[process.0]
    }

    /// True if there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let flags = [self.timed, self.learned, self.foreign_task, self.withheld];
        self.to_child.iter().all(Chunks::is_empty)
            && self.to_peer.is_empty()
            && self.commands.is_empty()
            && !flags.iter().chain(&self.asked).any(|flag| *flag)
    }

    /// How many bytes are queued for a process.
    #[must_use]
    pub fn unwritten(&self, process: ProcessId) -> usize {
        self.to_child[process.0].len() + self.queued[process.0]
    }

    /// Answers a process on behalf of a peer.
    pub fn answer(&mut self, process: ProcessId, line: &[u8]) {
        self.to_child[process.0].extend(line);
        self.answers[process.0] += line.len();
    }

    /// Takes the lines for a process, and leaves the empty `spare` for further ones.
    #[must_use]
    pub fn take(&mut self, process: ProcessId, spare: Chunks) -> Chunks {
        self.answers[process.0] = 0;
        std::mem::replace(&mut self.to_child[process.0], spare)
    }

    /// Notes that one of the router's own requests was sent to a process.
    pub(super) fn note_asked(&mut self, process: ProcessId) {
        self.asked[process.0] = true;
    }

    /// Sends a peer one of the router's own lines.
    pub(super) fn tell(&mut self, to: SessionId, line: impl Into<Line>) {
        let line: Line = line.into();
        self.to_peer.push((to, line.into()));
    }

    /// Sends a peer a message of a process. If the line would be longer than the peer accepts, an
    /// answer is replaced by an error, and anything else is dropped. True if it is sent unchanged.
    pub(super) fn deliver(
        &mut self,
        to: SessionId,
        message: &Message,
        id: Option<&RequestId>,
        edits: &[Edit<'_>],
    ) -> bool {
        let answers = id.filter(|_| matches!(message.kind(), Kind::Response(_)));
        let fits = self.takes(message, id, edits);
        if fits {
            let for_peer = ForPeer {
                line: message.to_line(id, edits),
                answers: answers.cloned(),
            };
            self.to_peer.push((to, for_peer));
        } else if let Some(id) = answers {
            self.tell(to, Loss::TOO_LARGE.answer(id));
        }
        fits
    }

    /// False, with a log line, if the line for a peer would be too long.
    pub(super) fn takes(
        &self,
        message: &Message,
        id: Option<&RequestId>,
        edits: &[Edit<'_>],
    ) -> bool {
        let limit = self.limits.to_peer;
        let fits = !message.outgrows(limit, id, edits);
        if !fits {
            tracing::error!(
                limit,
                "dropped a message of the MCP server: the line for the client would be too long"
            );
        }
        fits
    }

    /// For a peer's answer that is too long for the process: answers the server request with an
    /// error.
    pub(super) fn answer_too_large(&mut self, process: ProcessId, id: &RequestId) {
        let data = ErrorData::new("answer-too-large", Executed::Unknown);
        let text = "The client's answer is too large";
        self.answer(
            process,
            &error_line(Some(id), Code::InternalError, text, Some(&data)),
        );
    }
}
