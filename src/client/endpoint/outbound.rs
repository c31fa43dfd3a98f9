//! What is to be sent to the server, in which order, and how much of it there may be.

use super::line::is_response;
use crate::liveness::{ACK_BYTES, Receipts};
use crate::replay::{BATCH, Batch, Replay, Violation};
use bytes::Bytes;
use std::collections::VecDeque;

/// The most that is kept for the server, sent or not, in bytes. Then the host is not read.
const MAX_BACKLOG: usize = 64 << 20;

/// The most that is sent without an acknowledgement to a server that acknowledges, in bytes. More
/// than it acknowledges at once, so that the connection does not run dry; not much more, so that a
/// server whose child takes nothing still reads our acknowledgements behind it.
const WINDOW: usize = 2 * ACK_BYTES;

/// The lines for the server, each with its newline.
#[derive(Default)]
pub(super) struct Outbound {
    replay: Replay,
    /// Lines that wait until a new server has answered our `initialize`.
    held: Option<VecDeque<Bytes>>,
    /// While the server drains, responses alone are sent: so many, before all other unsent lines.
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

    /// A connection begins: whatever drained is gone.
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

    /// The server has received so many lines. True when that is news.
    pub(super) fn acknowledge(&mut self, received: u64) -> Result<bool, Violation> {
        let before = self.replay.bytes();
        self.replay.acknowledge(received)?;
        Ok(self.replay.bytes() < before)
    }

    /// The server has received so many lines on earlier connections. Returns how many are resent.
    pub(super) fn resume(&mut self, received: u64) -> Result<u64, Violation> {
        self.replay.resume(received)
    }

    /// The server has received so many lines, and takes nothing more but responses. Returns the lines
    /// that were sent and have not been received.
    pub(super) fn on_drain(&mut self, received: u64) -> Result<Vec<Bytes>, Violation> {
        let unsent = self.replay.rewind(received)?.cloned().collect();
        self.responses = Some(self.replay.prioritize(is_response));
        Ok(unsent)
    }

    /// Empties this for a new server: returns the lines that were never sent.
    pub(super) fn reset(&mut self) -> VecDeque<Bytes> {
        let replay = std::mem::take(&mut self.replay);
        // While some are held, nothing else has been pushed but what makes the server take them.
        self.held.take().unwrap_or_else(|| replay.into_unsent())
    }

    /// Holds lines back until the server has answered this first one.
    pub(super) fn hold_behind(&mut self, first: Bytes, held: VecDeque<Bytes>) {
        self.replay.push(first);
        self.held = Some(held);
    }

    /// Sends what was held back, after these.
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
            // What waits beside them is our own.
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
