//! The state that outlives connections: the endpoint, our stdout, and the signals that wake waiting
//! tasks.

use super::endpoint::{Endpoint, Failure};
use super::host::{HostInput, HostOutput, MAX_QUEUED};
use crate::replay;
use crate::transport::outlet::Flush;
use crate::utils::lock::lock;
use crate::utils::signal::Signal;
use bytes::Bytes;
use futures_util::FutureExt;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long to wait for the first request of a silent host when we give up, so that it gets an
/// answer.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// The client apart from its connections.
pub(super) struct Bridge {
    endpoint: Mutex<Endpoint>,
    output: HostOutput,
    /// The server has sent something that affects the sending half.
    sender: Signal,
    leaving: Notify,
    host_served: Notify,
    host_left: Notify,
    movable: Notify,
}

impl Bridge {
    /// Within a runtime.
    pub(super) fn new(keepalive_interval: Duration) -> Self {
        let now = Instant::now().into_std();
        Self {
            endpoint: Mutex::new(Endpoint::new(keepalive_interval, now)),
            output: HostOutput::start(),
            sender: Signal::default(),
            leaving: Notify::new(),
            host_served: Notify::new(),
            host_left: Notify::new(),
            movable: Notify::new(),
        }
    }

    /// Runs `event` on the endpoint, and writes the resulting lines for the host.
    pub(super) fn with<T>(&self, event: impl FnOnce(&mut Endpoint) -> T) -> T {
        let outcome = self.gather(event);
        self.output.flush();
        outcome
    }

    /// As [`Bridge::with`], but lines for the host may wait for the next flush.
    pub(super) fn gather<T>(&self, event: impl FnOnce(&mut Endpoint) -> T) -> T {
        let mut endpoint = lock(&self.endpoint);
        let could_move = endpoint.may_move();
        let outcome = event(&mut endpoint);
        for line in endpoint.take_for_host() {
            self.output.push(&line);
        }
        if endpoint.take_needs_poll() {
            self.sender.raise();
        }
        if endpoint.has_host_left() {
            self.host_left.notify_one();
        }
        if endpoint.is_host_served() {
            self.host_served.notify_one();
        }
        if !could_move && endpoint.may_move() {
            self.movable.notify_one();
        }
        outcome
    }

    /// The host's stdout.
    pub(super) fn output(&self) -> &HostOutput {
        &self.output
    }

    /// Completes when the endpoint has to be polled again. Cancel safe.
    pub(super) async fn needs_poll(&self) {
        self.sender.wait().await;
    }

    /// Completes when another connection can take the place of this one, see [`Endpoint::may_move`].
    pub(super) async fn movable(&self) {
        // A notification may be left from a state that has passed.
        while !self.with(|endpoint| endpoint.may_move()) {
            self.movable.notified().await;
        }
    }

    /// Completes when the host has left and has no pending requests, see
    /// [`Endpoint::is_host_served`].
    pub(super) async fn host_served(&self) {
        self.host_served.notified().await;
    }

    /// Completes when the host has closed our stdin.
    pub(super) async fn host_left(&self) {
        self.host_left.notified().await;
    }

    /// Notes that the host has left. True if there is nothing more to do for it.
    pub(super) fn end_host(&self) -> bool {
        self.with(|endpoint| {
            endpoint.on_host_end();
            endpoint.is_done()
        })
    }

    /// Leaves as soon as possible.
    pub(super) fn leave(&self) {
        self.with(Endpoint::leave);
        self.leaving.notify_one();
    }

    /// Completes when no connection is needed any more: we have been told to leave, or the host has closed
    /// our stdout. Cancel safe.
    pub(super) async fn unneeded(&self) {
        tokio::select! {
            () = self.leaving.notified() => {}
            () = self.output.closed() => {}
        }
    }

    /// Fails every pending request of the host, see [`Endpoint::give_up`].
    pub(super) async fn give_up(&self, failure: &Failure, input: &mut HostInput) {
        if !self.with(|endpoint| endpoint.has_heard_host()) {
            let first = tokio::time::timeout(FIRST_REQUEST_TIMEOUT, input.next()).await;
            if let Ok(Some(lines)) = first {
                self.with(|endpoint| endpoint.on_host_lines(lines));
            }
        }
        let mut unread: Vec<Bytes> = Vec::new();
        let mut cost = 0;
        while cost < MAX_QUEUED
            && let Some(Some(lines)) = input.next().now_or_never()
        {
            cost += lines.iter().map(replay::cost).sum::<usize>();
            unread.extend(lines);
        }
        self.with(|endpoint| endpoint.give_up(failure, unread.into_iter()));
    }

    /// Waits until the host has read everything.
    pub(super) async fn finish(self) {
        self.output.finish().await;
    }
}
