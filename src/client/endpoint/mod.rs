//! The client's end of a session over all its connections: pending requests of the host,
//! unacknowledged lines, and the phase of the connection.
//!
//! A state machine without I/O and without a clock: events and times come in, [`Action`]s and lines
//! for the host go out.

mod event;
mod from_server;
mod line;
mod negotiation;
mod outbound;
mod pending;
mod phase;
mod refused;
mod rejoin;
mod sending;
mod server_requests;

pub(super) use event::{Action, Ended, News, Reception};
pub(super) use line::{ServerLine, Verdict, without_newline};
pub(super) use negotiation::Offer;
pub(super) use pending::Failure;
pub(super) use phase::HostPhase;
pub(super) use rejoin::{OWN, Rejoin, is_own};
pub(super) use server_requests::ServerRequests;

use super::end::{End, Lost};
use crate::control::Control;
use crate::jsonrpc::{
    Executed, Kind, MAX_PEER_DEPTH, Message, Refusal, RequestId, unreadable_answer,
};
use crate::transport::line::LineError;
use bytes::Bytes;
use line::is_junk;
use negotiation::Negotiation;
use outbound::Outbound;
use pending::Pending;
use phase::{Drain, Phase};
use refused::refusal;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a server may take to answer `initialize` before the user is told.
const PATIENCE: Duration = Duration::from_secs(15);

/// The client's end of a session.
pub(super) struct Endpoint {
    keepalive_interval: Duration,
    pending: Pending,
    outbound: Outbound,
    negotiation: Negotiation,
    host: HostPhase,
    /// Lines for the host, without newlines.
    for_host: Vec<Bytes>,
    phase: Phase,
    /// When this connection began.
    began: Instant,
    /// Sent before anything else.
    control: Option<Control>,
    news: Option<News>,
    /// See [`Ended`].
    introduced: bool,
    carried: bool,
    /// A server has accepted us, on whatever connection.
    accepted: bool,
    /// The server has sent something that affects the sending half.
    needs_poll: bool,
    /// Lines that were taken to be sent may not be on their way yet.
    is_sending: bool,
    /// Requests that have failed since the last report.
    failed: usize,
    /// When the user is told that `initialize` is still pending.
    patience_until: Option<Instant>,
    /// The longest line that the server accepts, if it has said so.
    limit: Option<usize>,
    /// The limit, if the last line of the server says that one of ours is too long.
    line_limit: Option<usize>,
}

impl Endpoint {
    pub(super) fn new(keepalive_interval: Duration, now: Instant) -> Self {
        Self {
            keepalive_interval,
            pending: Pending::default(),
            outbound: Outbound::default(),
            negotiation: Negotiation::default(),
            host: HostPhase::default(),
            for_host: Vec::new(),
            phase: Phase::default(),
            began: now,
            control: None,
            news: None,
            introduced: false,
            carried: false,
            accepted: false,
            needs_poll: false,
            is_sending: false,
            failed: 0,
            patience_until: None,
            limit: None,
            line_limit: None,
        }
    }

    /// Takes the lines for the host, without newlines.
    pub(super) fn take_for_host(&mut self) -> std::vec::Drain<'_, Bytes> {
        self.for_host.drain(..)
    }

    /// Takes news about the server.
    pub(super) fn take_news(&mut self) -> Option<News> {
        self.news.take()
    }

    /// True once after something that affects the sending half.
    pub(super) fn take_needs_poll(&mut self) -> bool {
        std::mem::take(&mut self.needs_poll)
    }

    /// Answers a line that is no message.
    fn refuse(&mut self, refusal: &Refusal) {
        self.push_for_host(refusal.replies());
        refusal.answers().for_each(|id| self.fail_question(id));
    }

    /// If it is a response of the host that cannot be passed on, the server gets an error instead.
    fn fail_question(&mut self, id: &RequestId) {
        if let Some(line) = self.pending.on_host_line(unreadable_answer(id).into()) {
            self.outbound.push(line);
        }
    }

    /// Answers a line, newline included, that is longer than the server accepts.
    fn refuse_long(&mut self, line: &Bytes, limit: usize) {
        match Message::read(without_newline(line), MAX_PEER_DEPTH) {
            Err(refusal) => self.refuse(&refusal),
            Ok(message) => match message.kind() {
                Kind::Response(Some(id)) => self.fail_question(id),
                _ => self.push_for_host(refusal(line, limit).into_iter().collect()),
            },
        }
    }

    /// Handles lines of the host, with their newlines.
    pub(super) fn on_host_lines(&mut self, lines: Vec<Bytes>) {
        self.host = self.host.max(HostPhase::Speaking);
        for line in lines {
            let body = without_newline(&line);
            let refusal = Message::read(body.clone(), MAX_PEER_DEPTH).err();
            if let Some(refusal) = refusal.filter(|refusal| is_junk(&body, refusal)) {
                self.refuse(&refusal);
            } else if Control::read(&body).is_some() {
                // The server would not count it.
                tracing::warn!("dropped a notification of the host under one of our own names");
            } else if let Some(limit) = self.limit.filter(|limit| line.len() > limit + 1) {
                self.refuse_long(&line, limit);
            } else if let Some(line) = self.pending.on_host_line(line) {
                self.outbound.push(line);
            }
        }
    }

    /// Notes that the host has closed our stdin.
    pub(super) fn on_host_end(&mut self) {
        self.host = self.host.max(HostPhase::Finished);
    }

    /// Leaves as soon as possible, even if the host has pending requests.
    pub(super) fn leave(&mut self) {
        self.host = HostPhase::Abandoned;
        self.needs_poll = true;
    }

    /// True once the host has sent something.
    pub(super) fn has_heard_host(&self) -> bool {
        self.host > HostPhase::Silent
    }

    /// True once the host has closed our stdin.
    pub(super) fn has_host_left(&self) -> bool {
        self.host >= HostPhase::Finished
    }

    /// True while a request of the host is pending, or one of its lines is not sent yet.
    pub(super) fn is_needed(&self) -> bool {
        self.pending.awaited() > 0 || self.outbound.has_unsent()
    }

    /// True while another connection can replace this one: the session continues there, or there is nothing
    /// to lose.
    pub(super) fn may_move(&self) -> bool {
        let is_idle = !self.is_needed() && !self.is_sending;
        self.is_established() || !self.phase.awaits_answer() && is_idle
    }

    /// True when the host has left and has no pending requests. Our own pending exchanges may take
    /// a moment, and no more.
    pub(super) fn is_host_served(&self) -> bool {
        self.host >= HostPhase::Finished && !self.is_needed()
    }

    /// True when nothing remains to be done.
    pub(super) fn is_done(&self) -> bool {
        let settled = self.outbound.is_settled() && !self.pending.expects_complaint();
        match (self.host, &self.phase) {
            // Our goodbye must arrive, too.
            (HostPhase::Abandoned, Phase::Established(_)) => settled,
            (HostPhase::Abandoned, _) => true,
            _ => settled && self.is_host_served(),
        }
    }

    /// True while the server sends keepalives.
    pub(super) fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Established(_))
    }

    /// A connection begins.
    pub(super) fn on_connect(&mut self, offer: Offer, now: Instant) {
        self.began = now;
        (self.introduced, self.carried) = (false, false);
        self.control = None;
        // It may be another server.
        self.limit = None;
        self.outbound.on_connect();
        self.phase = self.negotiation.begin(offer);
        let session = self.negotiation.session();
        if let Offer::Nothing { admitted } = offer {
            if session.is_some() {
                self.start_over();
            }
            if admitted {
                self.introduce_new();
            }
            return;
        }
        let received = match &session {
            Some(_) => self.outbound.receipts().acknowledge(),
            None => {
                self.outbound.start_keeping();
                0
            }
        };
        self.control = Some(Control::Resume { session, received });
    }

    /// A connection has ended, apparently for this reason.
    pub(super) fn on_disconnect(&mut self, end: End) -> Ended {
        if let Some(limit) = self.line_limit.take() {
            self.refuse_longer(limit);
        } else if let End::Lost(Lost::Line(
            LineError::TooLong { .. } | LineError::TooLongFrame { .. },
        )) = &end
        {
            // The server would send the line again after each retry of what caused it.
            let initializes = self.outbound.is_holding();
            self.pending.rejoin().forget_unanswered(initializes);
            self.negotiation.forget();
        }
        let end = match end {
            End::Lost(_) if self.is_done() => End::Done,
            End::Lost(_) if self.is_dismissed() => End::Dismissed,
            end => end,
        };
        self.phase = Phase::Disconnected;
        self.is_sending = false;
        self.control = None;
        Ended {
            end,
            introduced: self.introduced,
            carried: self.carried,
        }
    }

    fn is_dismissed(&self) -> bool {
        matches!(&self.phase, Phase::Established(session) if session.drain == Drain::Idle)
    }

    /// The server has ended the session because one of our lines exceeds its `limit`: fails the requests that
    /// do, and never sends such a line again.
    fn refuse_longer(&mut self, limit: usize) {
        let refusals = self.pending.refuse_longer(limit);
        self.push_for_host(refusals);
        let (short, long): (VecDeque<Bytes>, VecDeque<Bytes>) = self
            .fail_session("the server has ended the session at a message that is too long for it")
            .into_iter()
            .partition(|line| without_newline(line).len() <= limit);
        let refusals = long.iter().filter_map(|line| refusal(line, limit));
        self.push_for_host(refusals.collect());
        self.go_on_with(short);
    }

    /// After a connection was lost, before the next one: if there is no session to resume, the server's state
    /// is lost as well.
    pub(super) fn prepare_reconnect(&mut self) {
        if !self.negotiation.has_session() {
            self.start_over();
        }
    }

    /// Gives up: every request of the host fails, including those that it has written and we have
    /// not read yet.
    pub(super) fn give_up(&mut self, failure: &Failure, unread: impl Iterator<Item = Bytes>) {
        // A server that refuses us before anything else has read nothing of what we sent.
        let sent = match failure.is_refusal() && !self.accepted {
            true => Executed::No,
            false => Executed::Unknown,
        };
        self.fail_all(failure, sent);
        for line in self.outbound.reset().into_iter().chain(unread) {
            self.pending.on_sent(&without_newline(&line));
        }
        self.fail_all(failure, Executed::No);
    }

    fn fail_all(&mut self, failure: &Failure, executed: Executed) {
        let errors = self.pending.fail_all(failure, executed);
        self.push_for_host(errors);
    }

    /// Queues our own lines for the host.
    fn push_for_host(&mut self, lines: Vec<Vec<u8>>) {
        let lines = lines.into_iter().map(|line| without_newline(&line.into()));
        self.for_host.extend(lines);
    }

    /// The server does not know the session: requests that were sent fail, since they may or may not have
    /// been executed; the others are sent after the host's handshake has been repeated.
    fn start_over(&mut self) {
        let unsent = self.fail_session("the session could not be resumed");
        self.go_on_with(unsent);
    }

    /// Fails what was sent, for this reason; gives the lines that were not.
    fn fail_session(&mut self, reason: &str) -> VecDeque<Bytes> {
        self.failed += self.pending.in_flight();
        let failure = Failure::CONNECTION_LOST.because(reason.to_owned());
        self.fail_all(&failure, Executed::Unknown);
        self.negotiation.forget();
        let mut unsent = self.outbound.reset();
        // These may include the rest of an earlier repetition.
        unsent.retain(|line| !self.pending.is_obsolete(&without_newline(line)));
        unsent
    }

    fn go_on_with(&mut self, unsent: VecDeque<Bytes>) {
        if self.host >= HostPhase::Finished && unsent.is_empty() {
            // The host has left without pending requests.
            return;
        }
        match self.pending.rejoin().initialize_again() {
            Some(initialize) => self.outbound.hold_behind(initialize, unsent),
            None => unsent.into_iter().for_each(|line| self.outbound.push(line)),
        }
    }

    fn introduce_new(&mut self) {
        let failed = std::mem::take(&mut self.failed);
        self.introduce(News::Started { failed });
    }

    fn introduce(&mut self, news: News) {
        self.introduced = true;
        self.accepted = true;
        self.news = Some(news);
    }
}

#[cfg(test)]
mod tests;
