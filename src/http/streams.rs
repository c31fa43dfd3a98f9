//! The streams of one session: which stream a message goes to, and what is kept for resumption.
//!
//! Each posted request has its own stream, which ends with its answer; besides those there is a general one,
//! for messages that belong to no request. No I/O, no clock: the time comes in.
//!
//! # Invariants
//! 1. A message goes to one stream: an answer to that of its request, progress to that of its token, a
//!    question to that of the youngest request that has been sent, a log message to that of the only one,
//!    everything else to the general one. Where several run, a log message is on the general stream if the client listens there.
//! 2. A stream has one reader: whoever comes later takes it over. A new owner of the session takes over all.
//! 3. Each reader gets the events of its stream in order, from where it begins, and none twice.
//! 4. What waits and what is kept is bounded: what has been sent goes first, then the fullest stream ends.

mod bounds;
mod questions;
mod stream;

use super::event::EventId;
use crate::backlog::Part;
use crate::jsonrpc::{Field, Kind, Message, RequestId};
use crate::mcp::Method;
use crate::replay::cost;
use crate::utils::chunks::Line;
use crate::utils::signal::Signal;
use crate::utils::tally::{Share, Tally};
use foldhash::{HashMap, HashMapExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::{Reader, Stream};

/// The stream that belongs to no request.
const GENERAL: u64 = 0;

/// Bounds of the streams of one session, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct StreamBounds {
    /// For what has not been sent.
    pub waiting: usize,
    /// For what has been sent, and is kept in case the client comes back.
    pub kept: usize,
    /// The same for all sessions together.
    pub kept_of_all: usize,
    /// How long an ended stream is kept.
    pub window: Duration,
}

/// The reader of a stream.
#[derive(Clone, Debug)]
pub struct Reading {
    stream: u64,
    number: u64,
    /// Raised when [`Streams::next`] may have something new.
    pub wake: Arc<Signal>,
}

/// An event for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// The message.
    pub line: Line,
    /// It is the answer to the request of this stream.
    pub is_answer: bool,
}

/// What a reader gets next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// An event.
    Event(Event),
    /// Nothing yet.
    Wait,
    /// Nothing more: the stream has ended, or has another reader.
    End,
}

/// There is no such stream, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOpen;

/// All streams of one session. `Debug` shows how many there are.
pub struct Streams {
    /// Boxed, because a node of the tree has room for eleven.
    streams: BTreeMap<u64, Box<Stream>>,
    /// The streams of pending requests.
    requests: HashMap<RequestId, u64>,
    tokens: HashMap<RequestId, u64>,
    last: u64,
    waiting: usize,
    kept: Share,
    kept_here: usize,
    /// Counts waiting and kept events.
    backlog: Part,
    bounds: StreamBounds,
    /// See [`Streams::unheard`].
    unheard: Arc<Signal>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams")
            .field("streams", &self.streams.len())
            .field("running", &self.requests.len())
            .finish_non_exhaustive()
    }
}

impl Streams {
    /// The streams of a new session; `kept` counts what all sessions keep, `backlog` all that is kept for
    /// this one.
    #[must_use]
    pub fn new(bounds: StreamBounds, kept: &Tally, backlog: Part) -> Self {
        Self {
            streams: BTreeMap::from([(GENERAL, Box::new(Stream::new()))]),
            requests: HashMap::new(),
            tokens: HashMap::new(),
            last: GENERAL,
            waiting: 0,
            kept: kept.share(),
            kept_here: 0,
            backlog,
            bounds,
            unheard: Arc::default(),
        }
    }

    /// The same for a session that another process has begun: no event gets an id that one of that
    /// process may have, and clients that listened there may continue.
    #[must_use]
    pub fn revived(mut self, now: u64) -> Self {
        self.last = now;
        let general = self
            .streams
            .entry(GENERAL)
            .or_insert_with(|| Box::new(Stream::new()));
        (general.first, general.unsent, general.resumable) = (now, now, true);
        self
    }

    /// Adds a stream for a request that is to be sent, with its reader; `takes_all` if that accepts more than
    /// the answer.
    ///
    /// # Errors
    /// A request with the same id is pending.
    pub fn open(&mut self, message: &Message, takes_all: bool) -> Result<Reading, NotOpen> {
        let id = message.id().ok_or(NotOpen)?;
        if self.requests.contains_key(id) {
            return Err(NotOpen);
        }
        self.last += 1;
        let number = self.last;
        let mut stream = Box::new(Stream::new());
        stream.sent = false;
        stream.request = Some(id.clone());
        stream.token = message.quotes(Field::ProgressToken);
        stream.takes_all = takes_all;
        if let Some(token) = &stream.token {
            self.tokens.insert(token.clone(), number);
        }
        self.requests.insert(id.clone(), number);
        self.streams.insert(number, stream);
        Ok(self.attach(number, 1))
    }

    /// Takes over the general stream.
    pub fn listen(&mut self) -> Reading {
        let next = self.streams.get(&GENERAL).map_or(1, |stream| stream.unsent);
        let reading = self.attach(GENERAL, next);
        self.make_resumable(&reading);
        reading
    }

    /// Takes over the stream of an event, from the one after it on.
    ///
    /// # Errors
    /// There is no such stream any more, or the event has never been sent.
    pub fn resume(&mut self, after: EventId) -> Result<Reading, NotOpen> {
        let stream = self.streams.get(&after.stream).ok_or(NotOpen)?;
        if !stream.resumable || after.event >= stream.unsent {
            return Err(NotOpen);
        }
        let next = (after.event + 1).max(stream.first);
        Ok(self.attach(after.stream, next))
    }

    fn attach(&mut self, number: u64, next: u64) -> Reading {
        self.last += 1;
        let reading = Reading {
            stream: number,
            number: self.last,
            wake: Arc::default(),
        };
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.wake();
            stream.left = None;
            stream.reader = Some(Reader {
                number: reading.number,
                next,
                wake: Arc::clone(&reading.wake),
            });
        }
        reading
    }

    /// From here on the events go out with their ids. Gives the one that stands before them all.
    pub fn make_resumable(&mut self, reading: &Reading) -> EventId {
        if let Some(stream) = self.streams.get_mut(&reading.stream) {
            stream.resumable = true;
        }
        EventId {
            stream: reading.stream,
            event: 0,
        }
    }

    fn read_by(&mut self, reading: &Reading) -> Option<&mut Stream> {
        let stream = self.streams.get_mut(&reading.stream)?;
        let reader = stream.reader.as_ref();
        reader
            .is_some_and(|reader| reader.number == reading.number)
            .then_some(stream)
    }

    /// What a reader gets next.
    pub fn next(&mut self, reading: &Reading) -> Next {
        let Some(stream) = self.read_by(reading) else {
            return Next::End;
        };
        let Some(reader) = &mut stream.reader else {
            return Next::End;
        };
        reader.next = reader.next.max(stream.first);
        let number = reader.next;
        let at = usize::try_from(number - stream.first).unwrap_or(usize::MAX);
        let Some((line, is_answer)) = stream.events.get(at).cloned() else {
            return if stream.over { Next::End } else { Next::Wait };
        };
        reader.next += 1;
        if number >= stream.unsent {
            stream.unsent = number + 1;
            self.waiting -= cost(&line);
            self.keep(cost(&line));
        }
        let id = EventId {
            stream: reading.stream,
            event: number,
        };
        Next::Event(Event {
            id,
            line,
            is_answer,
        })
    }

    /// Notes that a reader has gone. The answer to a request whose client cannot resume is dropped.
    pub fn leave(&mut self, reading: &Reading, now: Instant) {
        let Some(stream) = self.read_by(reading) else {
            return;
        };
        stream.reader = None;
        stream.left = Some(now);
        if !stream.resumable {
            stream.takes_all = false;
            if stream.over {
                self.remove(reading.stream);
            } else {
                self.empty(reading.stream);
            }
        }
        self.sweep(now);
    }

    /// Takes all streams from their readers. The rest of each is kept for a client that resumes it.
    pub fn displace_all(&mut self, now: Instant) {
        for stream in self.streams.values_mut() {
            stream.wake();
            if stream.reader.take().is_some() {
                stream.left = Some(now);
                stream.resumable = true;
            }
        }
    }

    /// True unless the stream has another reader, or none.
    pub fn is_read_by(&mut self, reading: &Reading) -> bool {
        self.read_by(reading).is_some()
    }

    /// A message for the client.
    pub fn push(&mut self, message: &Message, line: Line) {
        let (number, is_answer) = self.route(message);
        let stream = number.and_then(|number| self.streams.get(&number));
        let is_read = stream.is_some_and(|stream| stream.reader.is_some());
        if matches!(message.kind(), Kind::Request(_)) && !is_read {
            self.unheard.raise();
        }
        self.add(number, line, is_answer);
    }

    /// The answer to this request of the client.
    pub fn push_answer(&mut self, request: &RequestId, line: Line) {
        let number = self.end_request(request);
        self.add(number, line, true);
    }

    fn add(&mut self, number: Option<u64>, line: Line, is_answer: bool) {
        let Some(stream) = number.and_then(|number| self.streams.get_mut(&number)) else {
            tracing::debug!("dropped a message for a stream that has ended");
            return;
        };
        let number = number.unwrap_or(GENERAL);
        if is_answer {
            stream.over = true;
            if !stream.is_heard() {
                self.remove(number);
                return;
            }
        }
        self.waiting += cost(&line);
        stream.events.push_back((line, is_answer));
        stream.wake();
        self.limit(number);
    }

    /// The stream of a message, and whether it is the last there.
    fn route(&mut self, message: &Message) -> (Option<u64>, bool) {
        let number = match message.kind() {
            Kind::Response(Some(id)) => return (self.end_request(id), true),
            Kind::Response(None) => return (None, false),
            Kind::Request(_) => self.youngest(),
            Kind::Notification => match message.mcp_method() {
                Some(Method::Progress) => {
                    let token = message.quotes(Field::ProgressToken);
                    let number = token.and_then(|token| self.tokens.get(&token).copied());
                    let takes = |number: &u64| {
                        let stream = self.streams.get(number);
                        stream.is_some_and(|stream| stream.takes_all)
                    };
                    match number {
                        Some(number) if takes(&number) => number,
                        // The reader accepts only the answer, so this is dropped.
                        Some(_) => return (None, false),
                        // Progress of a task, whose request was answered.
                        None => GENERAL,
                    }
                }
                Some(Method::LogMessage) if self.is_ambiguous() => GENERAL,
                Some(Method::LogMessage | Method::Cancelled) => self.youngest(),
                _ => GENERAL,
            },
        };
        (Some(number), false)
    }

    /// True where a message that names no request may be of several, and the client listens beside them: a
    /// stream holds only what belongs to its request (basic/transports).
    fn is_ambiguous(&self) -> bool {
        let general = self.streams.get(&GENERAL);
        self.requests.len() > 1 && general.is_some_and(|stream| stream.reader.is_some())
    }

    /// The stream of the youngest request that runs and takes more than its answer; of one that has not been sent
    /// only if there is no other.
    fn youngest(&self) -> u64 {
        let takes = |number: &u64| {
            let stream = self.streams.get(number)?;
            let takes = stream.takes_all && stream.is_heard();
            takes.then_some((stream.sent, *number))
        };
        let youngest = self.requests.values().filter_map(takes).max();
        youngest.map_or(GENERAL, |(_, number)| number)
    }

    fn end_request(&mut self, id: &RequestId) -> Option<u64> {
        let number = self.requests.remove(id)?;
        let stream = self.streams.get(&number)?;
        if let Some(token) = &stream.token
            && self.tokens.get(token) == Some(&number)
        {
            self.tokens.remove(token);
        }
        Some(number)
    }

    /// The client has cancelled a request: it gets no answer.
    pub fn cancel(&mut self, id: &RequestId) {
        if let Some(number) = self.end_request(id)
            && let Some(stream) = self.streams.get_mut(&number)
        {
            stream.over = true;
            stream.wake();
            if !stream.is_heard() {
                self.remove(number);
            }
        }
    }

    /// The request of this stream is sent now. False if the stream has ended: then it must not be.
    pub fn begin(&mut self, reading: &Reading) -> bool {
        let stream = self.streams.get_mut(&reading.stream);
        let Some(stream) = stream.filter(|stream| !stream.over) else {
            return false;
        };
        stream.sent = true;
        true
    }

    /// The request of this stream is not sent: it gets no answer.
    pub fn withdraw(&mut self, reading: &Reading) {
        let stream = self.streams.get(&reading.stream);
        let Some(id) = stream.and_then(|stream| stream.request.clone()) else {
            return;
        };
        // Another request may have its id by now.
        if self.requests.get(&id) == Some(&reading.stream) {
            self.cancel(&id);
        }
    }

    /// Nothing more will come on any stream.
    pub fn close(&mut self) {
        for stream in self.streams.values_mut() {
            stream.over = true;
            stream.wake();
        }
        self.requests.clear();
        self.tokens.clear();
    }

    /// True once nothing more will come on this stream, whoever reads it.
    #[must_use]
    pub fn is_over(&self, reading: &Reading) -> bool {
        let stream = self.streams.get(&reading.stream);
        stream.is_none_or(|stream| stream.over)
    }

    /// True while any of them has a reader.
    #[must_use]
    pub fn is_attended(&self) -> bool {
        self.streams.values().any(|stream| stream.reader.is_some())
    }
}

#[cfg(test)]
mod tests;
