//! Requests of the MCP server, which need a reader that takes more than an answer.

use super::Streams;
use super::stream::Stream;
use crate::jsonrpc::{Kind, MAX_CHILD_DEPTH, Message, RequestId};
use crate::replay::cost;
use crate::utils::chunks::{Line, Pieces};
use crate::utils::signal::Signal;
use std::sync::Arc;

impl Streams {
    /// True while the client reads a stream on which it can get a request of the MCP server.
    #[must_use]
    pub fn can_be_asked(&self) -> bool {
        self.streams.values().any(|stream| stream.takes_questions())
    }

    /// Raised when such a request waits where nobody reads.
    #[must_use]
    pub fn unheard(&self) -> Arc<Signal> {
        Arc::clone(&self.unheard)
    }

    /// Takes those requests, so that no client gets them any more.
    pub fn take_unheard(&mut self) -> Vec<RequestId> {
        let mut taken = Vec::new();
        let unread = self.streams.values_mut();
        for stream in unread.filter(|stream| stream.reader.is_none()) {
            // Those that have been sent keep their numbers.
            let sent = usize::try_from(stream.unsent - stream.first).unwrap_or(usize::MAX);
            let unsent = stream.events.split_off(sent.min(stream.events.len()));
            for (line, is_answer) in unsent {
                match request_in(&line).filter(|_| !is_answer) {
                    Some(id) => {
                        self.waiting -= cost(&line);
                        taken.push(id);
                    }
                    None => stream.events.push_back((line, is_answer)),
                }
            }
        }
        self.count();
        taken
    }
}

impl Stream {
    pub(super) fn takes_questions(&self) -> bool {
        self.reader.is_some() && self.takes_all && !self.over
    }
}

fn request_in(line: &Line) -> Option<RequestId> {
    let message = Message::read(line.joined(), MAX_CHILD_DEPTH).ok()?;
    match message.kind() {
        Kind::Request(id) => Some(id.clone()),
        _ => None,
    }
}
