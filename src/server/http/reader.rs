//! The reader of one stream of a session over HTTP.

use super::super::access::{Authorization, Invalidated, expiry};
use super::feed::{Patience, Source};
use super::gate::{self, Stopped};
use super::session::HttpSession;
use super::visitor::Bearer;
use crate::http::{Event, EventId, Next, Reading, write_event};
use crate::jsonrpc::Executed;
use crate::permissions::Permit;
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::Instant;

/// The reader of a stream, until it is dropped. It ends with the token of its request, even where the
/// session goes on with another: its client resumes the stream with that.
pub(super) struct Reader {
    session: Arc<HttpSession>,
    reading: Reading,
    authorization: Authorization,
    /// When a token that it depends on expires.
    expires: Option<u64>,
    /// Its client has an id to resume the stream with.
    pub is_resumable: bool,
    /// It has ended with its token.
    is_invalidated: bool,
}

/// Why nothing more comes on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The token of its request is not valid any more.
    TokenInvalid,
    /// Its session has ended.
    SessionOver,
    /// Its session has another owner, or the stream another reader.
    Displaced,
    /// Its request has been answered or cancelled.
    Finished,
}

impl Reader {
    pub(super) fn new(
        session: &Arc<HttpSession>,
        reading: Reading,
        authorization: Authorization,
    ) -> Self {
        session.note_presence(Instant::now());
        Self {
            session: Arc::clone(session),
            reading,
            expires: authorization.identity().expires,
            authorization,
            is_resumable: false,
            is_invalidated: false,
        }
    }

    /// See [`Streams::make_resumable`].
    pub(super) fn make_resumable(&self) -> EventId {
        self.session.streams().make_resumable(&self.reading)
    }

    /// Completes when nothing more will come on its stream. Cancel safe: what else there is on it is not taken.
    async fn ended(&self) {
        while !self.session.streams().is_over(&self.reading) {
            self.reading.wake.wait().await;
        }
    }

    /// The next event, or why there is none. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Event, End> {
        loop {
            match self.take() {
                Next::Event(event) => return Ok(event),
                Next::End => return Err(self.end()),
                Next::Wait => tokio::select! {
                    () = self.reading.wake.wait() => {}
                    () = expiry(self.expires) => {}
                    renewed = self.authorization.renewed() => self.note(renewed),
                },
            }
        }
    }

    /// As [`Reader::next`], for a wait that is so short that the token is checked only before and after it;
    /// `None` if there is no event in time.
    pub(super) async fn next_within(&mut self, patience: &Patience) -> Option<Result<Event, End>> {
        let end = Patience::end();
        let mut is_late = false;
        loop {
            match self.take() {
                Next::Event(event) => return Some(Ok(event)),
                Next::End => return Some(Err(self.end())),
                Next::Wait if is_late => return None,
                Next::Wait => {
                    let woken = patience.until(end, self.reading.wake.wait());
                    is_late = woken.await.is_none();
                }
            }
        }
    }

    /// What there is now.
    fn take(&mut self) -> Next {
        // Checked before each event: a slow client takes what waits long after it came.
        let checked = self.authorization.check();
        self.note(checked);
        if self.is_invalidated {
            return Next::End;
        }
        self.session.streams().next(&self.reading)
    }

    fn end(&self) -> End {
        if self.is_invalidated {
            End::TokenInvalid
        } else if self.session.is_over() {
            End::SessionOver
        } else if !self.session.streams().is_read_by(&self.reading) {
            End::Displaced
        } else {
            End::Finished
        }
    }

    /// Ends it if its token is not valid any more. Without an id to resume the stream with, the answer would be lost,
    /// so one that has merely expired is enough where the session goes on with another: that is of the same owner, since
    /// a new owner takes over all streams.
    fn note(&mut self, checked: Result<(), Invalidated>) {
        let Err(why) = checked else { return };
        if why == Invalidated::Expired && !self.is_resumable {
            let mut next = self.session.authorization();
            if next.holds() {
                self.expires = next.identity().expires;
                return;
            }
        }
        if !self.is_invalidated {
            tracing::info!(reason = why.name(), "a stream ends");
            self.is_invalidated = true;
        }
    }
}

/// A request whose stream is open and that has not been sent. Dropped like this, its stream ends: nothing would
/// ever answer it, and its id would stay taken.
pub(super) struct Unsent<'a>(Option<&'a Reader>);

impl<'a> Unsent<'a> {
    pub(super) fn new(reader: &'a Reader) -> Self {
        Self(Some(reader))
    }

    /// Sends it once there is room for it, unless its stream ends before, as it does when the request is cancelled.
    /// Returns whether it has been sent, in the words of an error.
    pub(super) async fn send(
        mut self,
        bearer: &Bearer,
        permit: &Permit,
    ) -> Result<Executed, Stopped> {
        let Some(reader) = self.0 else {
            return Ok(Executed::No);
        };
        let ready = tokio::select! {
            biased;
            ready = gate::ready(&reader.session.placement, permit) => ready?,
            () = reader.ended() => return Ok(Executed::No),
        };
        let send = || ready.send(bearer, &reader.authorization);
        let Some(sent) = reader.session.send(&reader.reading, send) else {
            return Ok(Executed::No);
        };
        sent?;
        // From here on its answer ends its stream.
        self.0 = None;
        Ok(Executed::Unknown)
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.0 {
            reader.session.streams().withdraw(&reader.reading);
        }
    }
}

impl Source for Reader {
    async fn next_event(&mut self) -> Option<Bytes> {
        let event = self.next().await.ok()?;
        self.is_resumable = true;
        Some(write_event(Some(event.id), Some(&event.line)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let now = Instant::now();
        // Before it leaves: the session has been idle from now on, not since it began to read.
        self.session.mark(now);
        let left = now.into_std();
        self.session.streams().leave(&self.reading, left);
        self.session.note_presence(now);
    }
}
