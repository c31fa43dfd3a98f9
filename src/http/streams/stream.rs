//! One stream.

use crate::jsonrpc::RequestId;
use crate::replay::cost;
use crate::utils::chunks::Line;
use crate::utils::signal::Signal;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

pub(super) struct Stream {
    pub request: Option<RequestId>,
    pub token: Option<RequestId>,
    /// The MCP server has got that request.
    pub sent: bool,
    /// Its reader takes more than the answer.
    pub takes_all: bool,
    /// Its events have been sent with their ids, so its client may come back for them.
    pub resumable: bool,
    /// The first of them has the number `first`.
    pub events: VecDeque<(Line, bool)>,
    pub first: u64,
    /// The number of the first event that has not been sent.
    pub unsent: u64,
    /// Nothing more will come.
    pub over: bool,
    pub reader: Option<Reader>,
    pub left: Option<Instant>,
}

pub(super) struct Reader {
    pub number: u64,
    pub next: u64,
    pub wake: Arc<Signal>,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            request: None,
            token: None,
            sent: true,
            takes_all: true,
            resumable: false,
            events: VecDeque::new(),
            // An id with the number 0 stands before all events.
            first: 1,
            unsent: 1,
            over: false,
            reader: None,
            left: None,
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// True while it has a reader or may get one again.
    pub(super) fn is_heard(&self) -> bool {
        self.reader.is_some() || self.resumable
    }

    pub(super) fn waiting(&self) -> usize {
        let sent = usize::try_from(self.unsent - self.first).unwrap_or(usize::MAX);
        self.events
            .iter()
            .skip(sent)
            .map(|(line, _)| cost(line))
            .sum()
    }

    pub(super) fn wake(&self) {
        if let Some(reader) = &self.reader {
            reader.wake.raise();
        }
    }
}
