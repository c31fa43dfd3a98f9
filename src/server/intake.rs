//! Lines from the peer: reading, reading ahead, and waiting until each may be handed over.

use super::activity::Activity;
use super::phase::{Event, Phase};
use super::rate::UserLimit;
use super::sharing::Placement;
use crate::backlog::Part;
use crate::control::Control;
use crate::hub::{Room, Session};
use crate::jsonrpc::{Kind, MAX_PEER_DEPTH, Message, Outline, Refusal};
use crate::liveness::ACK_BYTES;
use crate::metrics;
use crate::permissions::Rights;
use crate::replay::{Replay, cost};
use crate::transport::Reader;
use crate::transport::empty::Empties;
use crate::transport::line::LineError;
use crate::transport::outlet::{Batch, Flush};
use crate::utils::chunks;
use crate::utils::spare;
use bytes::Bytes;
use memchr::memmem;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};

/// What is read ahead of a client that can resume while the MCP server takes nothing, in bytes:
/// more than such a client sends without an acknowledgement, so that its own acknowledgements and
/// signs of life get through.
const AHEAD: usize = 4 * ACK_BYTES;

/// The same of any other client, so that it can cancel what its messages wait for.
const AHEAD_OF_PLAIN: usize = 64 << 10;

/// What is read ahead of all clients together, in bytes; with what waits for its turn that makes 64 MiB.
/// Beyond that they are not read, like clients that cannot resume.
pub(super) const AHEAD_OF_ALL: usize = 48 << 20;

/// Part of each cancellation, as nearly all programs write it.
const CANCELLED: &[u8] = b"notifications/cancelled";

/// Lines from the peer.
pub(super) struct Intake<'a> {
    pub reader: &'a mut Reader,
    /// A line that was read before there was a session to serve it.
    pub read: Option<Line>,
    /// A line that exceeds the limit is being skipped; this much is known of it.
    pub too_long: Option<(usize, Outline)>,
    pub session: &'a Session,
    /// Lines that arrived together are handed over together.
    pub batch: Batch<'a, Session>,
    pub activity: &'a Activity,
    pub resumable: bool,
    /// Lines that were read ahead while the MCP server took none.
    pub ahead: VecDeque<(Line, Option<SemaphorePermit<'a>>)>,
    pub bytes: usize,
    /// The size of the line that is being processed.
    pub current: usize,
    /// Counts all these bytes.
    pub kept: Part,
    /// Counts lines that are not messages.
    pub empties: Empties,
    /// A permit is a byte that may be read ahead of any client.
    pub room_ahead: &'a Semaphore,
}

/// A line of the peer.
#[derive(Debug)]
pub(super) enum Line {
    Whole(Bytes),
    /// It was too long, and has been skipped.
    TooLong(Refusal),
    /// A cancellation that has been handed over ahead of its turn; it only has to be counted.
    HandedOver(Bytes),
}

impl Line {
    /// The memory that is held for it, in bytes.
    fn len(&self) -> usize {
        match self {
            Self::Whole(line) | Self::HandedOver(line) => line.len(),
            Self::TooLong(refusal) => refusal.size(),
        }
    }

    /// The cost of keeping it.
    fn cost(&self) -> usize {
        match self {
            Self::Whole(line) | Self::HandedOver(line) => cost(line),
            Self::TooLong(refusal) => cost(&Bytes::new()) + refusal.size(),
        }
    }
}

impl<'a> Intake<'a> {
    /// Reads the next line that is not an acknowledgement. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Arrived, Event> {
        loop {
            if !self.ahead.is_empty() {
                tokio::task::coop::consume_budget().await;
            }
            let (line, is_acknowledged) = match self.ahead.pop_front() {
                Some((line, _)) => {
                    self.bytes -= line.cost();
                    (line, true)
                }
                None => (self.line().await?, false),
            };
            // It may have to wait for room in the queue.
            self.current = line.len();
            self.kept.set(self.bytes + self.current);
            let arrived = Arrived::read(line);
            if !is_acknowledged {
                self.on_acknowledgement(arrived.control.as_ref())?;
            }
            match arrived.control {
                Some(Control::Ack { .. }) if self.resumable => {}
                _ => return Ok(arrived),
            }
        }
    }

    /// Reads the next line from the connection that is not an acknowledgement. Cancel safe.
    async fn read(&mut self) -> Result<Line, Event> {
        loop {
            let line = self.line().await?;
            let control = match &line {
                Line::Whole(line) => Control::read(line),
                Line::TooLong(_) | Line::HandedOver(_) => None,
            };
            self.on_acknowledgement(control.as_ref())?;
            match control {
                Some(Control::Ack { .. }) if self.resumable => {}
                _ => return Ok(line),
            }
        }
    }

    /// An acknowledgement in a control line counts at once, even if other lines wait before it.
    fn on_acknowledgement(&mut self, control: Option<&Control>) -> Result<(), Event> {
        let received = match control {
            Some(Control::Ack { received } | Control::Drain { received, .. }) => *received,
            _ => return Ok(()),
        };
        if !self.resumable {
            return Ok(());
        }
        let acknowledge = |replay: &mut Replay<chunks::Line>| {
            let kept = replay.bytes();
            replay.acknowledge(received)?;
            Ok(kept - replay.bytes())
        };
        let acknowledged = self.session.replay(acknowledge);
        let acknowledged = acknowledged.map_err(Event::Violation)?;
        spare::used(acknowledged);
        if acknowledged == 0 {
            self.empty()?;
        }
        Ok(())
    }

    /// Counts a line that is not a message.
    pub(super) fn empty(&mut self) -> Result<(), Event> {
        if self.empties.count(1, Instant::now()) {
            Ok(())
        } else {
            Err(Event::Empty)
        }
    }

    /// Reads the next line from the connection. Cancel safe.
    async fn line(&mut self) -> Result<Line, Event> {
        if let Some(line) = self.read.take() {
            return Ok(line);
        }
        loop {
            if self.too_long.is_some() {
                return self.pass_over().await;
            }
            match self.batch.next(self.reader.next()).await {
                Ok(Some(line)) => return Ok(Line::Whole(line)),
                Ok(None) => return Err(Event::HalfClosed),
                Err(LineError::TooLong { limit }) => {
                    self.too_long = Some((limit, Outline::default()));
                }
                Err(LineError::TooLongFrame { limit }) => return Err(Event::TooLong(limit)),
                Err(LineError::Empty) => return Err(Event::Empty),
                Err(err) => return Err(Event::Unreadable(err)),
            }
        }
    }

    /// Skips the rest of a line that is too long. Cancel safe.
    async fn pass_over(&mut self) -> Result<Line, Event> {
        if let Some((_, outline)) = &mut self.too_long {
            match self.batch.next(self.reader.skip(outline)).await {
                Ok(true) => {}
                // Half a line is lost with its connection.
                Ok(false) => return Err(Event::HalfClosed),
                Err(err) => return Err(Event::Unreadable(err.into())),
            }
        }
        let (limit, outline) = self.too_long.take().unwrap_or_default();
        Ok(Line::TooLong(Refusal::too_long(limit, outline)))
    }

    /// Handles a control line; false if the line needs no further processing.
    pub(super) fn on_control(&mut self, control: Option<Control>) -> Result<bool, Event> {
        let phase = self.activity.phase();
        match control {
            None => return Ok(true),
            Some(Control::Leave {}) if self.resumable => return Err(Event::Left),
            Some(Control::Drain { .. }) if phase.is_draining() => {
                self.activity.enter(phase.drain_read());
            }
            // Meaningless here, and not meant for a child.
            Some(_) => self.empty()?,
        }
        Ok(false)
    }

    /// Waits until a message may be handed over: for the rate limit, which refuses requests
    /// instead, and for room in the queue of the MCP server.
    pub(super) async fn admit(
        &mut self,
        message: &Result<Message, Refusal>,
        placement: &Placement,
        rights: &Rights,
        user_limit: &mut UserLimit<'_>,
    ) -> Result<Admitted<'a>, Event> {
        let allowance = match message {
            Ok(message) if matches!(message.kind(), Kind::Request(_)) => user_limit.take(),
            // Waiting is rare, and boxed, so that idle tasks stay small.
            _ => {
                if user_limit.take().is_err() {
                    Box::pin(self.read_ahead_until(user_limit.wait(), rights)).await?;
                }
                Ok(())
            }
        };
        let session = self.session;
        let call = message.as_ref().ok();
        let call = call.and_then(|message| Some((message, rights.pinned_call(message)?)));
        let knows_tools = match &call {
            Some((message, call)) if allowance.is_ok() => {
                let learned = session.learn_tools(message, call);
                Box::pin(self.read_ahead_until(learned, rights)).await?
            }
            _ => true,
        };
        let room = match message {
            // A new process of its own has room even if the shared one has none.
            Ok(message) if !placement.moves_with(message) => match session.find_room(message) {
                Some(room) => Some(room),
                None => {
                    let room = session.room(message);
                    Some(Box::pin(self.read_ahead_until(room, rights)).await?)
                }
            },
            _ => None,
        };
        Ok(Admitted {
            allowance,
            room,
            knows_tools,
        })
    }

    /// Waits until there is `room` for the last line. Meanwhile the client is read ahead: its disconnection is noticed,
    /// and what it cancels does not wait.
    async fn read_ahead_until<T>(
        &mut self,
        room: impl Future<Output = T>,
        rights: &Rights,
    ) -> Result<T, Event> {
        self.session.flush();
        let limit = if self.resumable {
            AHEAD
        } else {
            AHEAD_OF_PLAIN
        };
        let mut room = std::pin::pin!(room);
        loop {
            let full = self.bytes >= limit || self.room_ahead.available_permits() == 0;
            // A peer that we do not read is not silent.
            self.activity.set_unread(full);
            let line = tokio::select! {
                biased;
                room = &mut room => {
                    if full {
                        self.activity.set_unread(false);
                        self.activity.pulse.beat();
                    }
                    return Ok(room);
                }
                line = self.read(), if !full => line,
            };
            let line = match line {
                // Its earlier lines are still served.
                Err(Event::HalfClosed) if !self.resumable => {
                    let limit = self.activity.half_closed_limit();
                    let room = tokio::time::timeout(limit, room.as_mut()).await;
                    return room.map_err(|_| Event::Overdue);
                }
                line => self.cancel_ahead(line?, rights),
            };
            self.bytes += line.cost();
            self.kept.set(self.bytes + self.current);
            let share = line.cost().min(self.room_ahead.available_permits());
            let share = u32::try_from(share).unwrap_or(u32::MAX);
            let share = self.room_ahead.try_acquire_many(share).ok();
            self.ahead.push_back((line, share));
        }
    }

    /// Hands over a cancellation of a request in flight, which the lines before it may wait for. Any other line, and a
    /// cancellation of a request among them, waits for its turn.
    fn cancel_ahead(&self, line: Line, rights: &Rights) -> Line {
        let text = match line {
            Line::Whole(text) if memmem::find(&text, CANCELLED).is_some() => text,
            line => return line,
        };
        let message = Message::read(text.clone(), MAX_PEER_DEPTH).ok();
        let permit = message.and_then(|message| rights.decide(message).ok());
        let is_draining = self.activity.phase() == Phase::Draining;
        match permit {
            Some(permit) if !is_draining && self.session.cancel_ahead(&permit) => {
                Line::HandedOver(text)
            }
            _ => Line::Whole(text),
        }
    }
}

/// Why a message stopped waiting.
pub(super) struct Admitted<'a> {
    /// If requests of this user are refused, for how much longer.
    pub allowance: Result<(), Duration>,
    pub room: Option<Room<'a>>,
    /// False for a call of a pinned tool if the tools of the MCP server are not known.
    pub knows_tools: bool,
}

impl Default for Admitted<'_> {
    fn default() -> Self {
        Self {
            allowance: Ok(()),
            room: None,
            knows_tools: true,
        }
    }
}

/// A line of the peer, read.
pub(super) struct Arrived {
    /// It has been handed over ahead of its turn.
    pub handed_over: bool,
    /// In bytes.
    pub size: usize,
    /// When it arrived, if times are measured.
    pub at: Option<Instant>,
    pub control: Option<Control>,
    /// `None` for a blank line.
    pub message: Option<Result<Message, Refusal>>,
}

impl Arrived {
    fn read(line: Line) -> Self {
        let (size, at) = (line.len(), metrics::clock());
        if let Some(metrics) = metrics::get() {
            metrics.received(size);
        }
        let handed_over = matches!(line, Line::HandedOver(_));
        let message = match line {
            Line::Whole(line) if line.iter().all(u8::is_ascii_whitespace) => None,
            Line::Whole(line) | Line::HandedOver(line) => Some(Message::read(line, MAX_PEER_DEPTH)),
            Line::TooLong(refusal) => Some(Err(refusal)),
        };
        let control = match &message {
            Some(Ok(message)) => Control::from_message(message),
            _ => None,
        };
        Self {
            handed_over,
            size,
            at,
            control,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line that is too long may still contain this many ids, which are kept.
    #[test]
    fn ids_of_a_line_that_is_passed_over_are_counted() {
        let id = "i".repeat(1000);
        let request = format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"x"}}"#);
        let answer = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{}}}}"#);
        let mut outline = Outline::default();
        outline.see(format!("{request}{answer}").as_bytes());
        let line = Line::TooLong(Refusal::too_long(10, outline));
        assert!((2000..3000).contains(&line.len()), "{}", line.len());
        assert!(line.cost() > line.len());
    }
}
