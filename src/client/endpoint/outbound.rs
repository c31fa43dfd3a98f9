//! Lines to send to the server: their order and bounds.

use super::line::is_response;
use crate::liveness::{ACK_BYTES, Receipts};
use crate::replay::{BATCH, Batch, Replay, Violation};
use bytes::Bytes;
use std::collections::VecDeque;

/// The most that is kept for the server, sent or not, in bytes. Beyond that the host is not read.
const MAX_BACKLOG: usize = 64 << 20;

/// The most that is sent without an acknowledgement to a server that acknowledges, in bytes. More
/// than one acknowledgement covers, so that the connection does not idle; not much more, so that a
/// server whose child takes nothing still reads our acknowledgements after it.
const WINDOW: usize = 2 * ACK_BYTES;

/// The lines for the server, each with its newline.
#[derive(Default)]
pub(super) struct Outbound {
    replay: Replay,
    /// Lines that wait until a new server has answered our `initialize`.
    held: Option<VecDeque<Bytes>>,
    /// While the server drains, only responses are sent: how many are queued ahead of all other
    /// unsent lines.
    responses: Option<usize>,
}

impl Outbound {
    /// Adds a line of the host.
    pub(super) fn push(&mut self, line: Bytes) {
        match &mut self.responses {
            Some(ahead) if is_response(&line) => {
                self.replay.push_ahead(line, *ahead);
                *ahead += 1;
            }
            _ => self.replay.push(line),
        }
    }

    /// Takes lines to be sent now.
    pub(super) fn take(&mut self) -> Batch {
        match &mut self.responses {
            None => self.replay.take(BATCH),
            Some(0) => Batch::default(),
            Some(ahead) => {
                *ahead -= 1;
                self.replay.take(1)
            }
        }
    }

    /// A connection begins: a draining server is gone.
    pub(super) fn on_connect(&mut self) {
        self.responses = None;
    }

    /// Keeps lines until they are acknowledged.
    pub(super) fn start_keeping(&mut self) {
        self.replay.start_keeping();
    }

    /// Drops lines as they are sent, since the server does not acknowledge.
    pub(super) fn stop_keeping(&mut self) {
        self.replay.stop_keeping();
    }

    /// Notes that the server has received this many lines. True if that is new.
    pub(super) fn acknowledge(&mut self, received: u64) -> Result<bool, Violation> {
        let before = self.replay.bytes();
        self.replay.acknowledge(received)?;
        Ok(self.replay.bytes() < before)
    }

    /// Notes that the server has received this many lines on earlier connections. Returns how many
    /// are resent.
    pub(super) fn resume(&mut self, received: u64) -> Result<u64, Violation> {
        self.replay.resume(received)
    }

    /// Notes that the server has received this many lines, and accepts only responses now. Returns the lines
    /// that were sent and not received.
    pub(super) fn on_drain(&mut self, received: u64) -> Result<Vec<Bytes>, Violation> {
        let unsent = self.replay.rewind(received)?.cloned().collect();
        self.responses = Some(self.replay.prioritize(is_response));
        Ok(unsent)
    }

    /// Empties this for a new server: returns the lines that were never sent.
    pub(super) fn reset(&mut self) -> VecDeque<Bytes> {
        let replay = std::mem::take(&mut self.replay);
        // While lines are held, only those that make the server accept them have been pushed.
        self.held.take().unwrap_or_else(|| replay.into_unsent())
    }

    /// Holds lines back until the server has answered this first one.
    pub(super) fn hold_behind(&mut self, first: Bytes, held: VecDeque<Bytes>) {
        self.replay.push(first);
        self.held = Some(held);
    }

    /// Sends held lines, after these.
    pub(super) fn release(&mut self, first: Vec<Bytes>) {
        let held = self.held.take().unwrap_or_default();
        let lines = first.into_iter().chain(held);
        lines.for_each(|line| self.replay.push(line));
    }

    /// True while lines are held back.
    pub(super) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// True when a line of the host has not been sent on this connection.
    pub(super) fn has_unsent(&self) -> bool {
        match &self.held {
            // The other waiting lines are our own.
            Some(held) => !held.is_empty(),
            None => self.replay.waiting() > 0,
        }
    }

    /// True when everything has been acknowledged, or at least sent to a server that does not
    /// acknowledge.
    pub(super) fn is_settled(&self) -> bool {
        self.replay.is_settled()
    }

    /// True while the server drains.
    pub(super) fn is_draining(&self) -> bool {
        self.responses.is_some()
    }

    /// True while nothing may be sent before an acknowledgement.
    pub(super) fn is_congested(&self) -> bool {
        self.replay.in_flight() >= WINDOW
    }

    /// True while more lines of the host may be kept.
    pub(super) fn has_room(&self) -> bool {
        self.replay.bytes() < MAX_BACKLOG
    }

    /// What has been received from the server.
    pub(super) fn receipts(&mut self) -> &mut Receipts {
        &mut self.replay.receipts
    }
}
