//! The lines that wait for one peer.

use crate::backlog::{Excess, Holder, Part};
use crate::control::Control;
use crate::liveness::Urgency;
use crate::metrics;
use crate::replay::{BATCH, Replay, cost};
use crate::router::ForPeer;
use crate::transport::outlet::{Flush, Lease, Lendable, Locked, Outlet, Queue};
use crate::transport::{SMALL, Writer};
use crate::utils::chunks::{Line, Pieces};
use std::io;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Why a session gets no further lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The peer reads too slowly: its queue is full.
    Slow,
    /// The memory for all clients, or for those of its user, exceeds its bound, and this session holds most
    /// of it.
    Backlog(Excess),
    /// The server is stopping.
    Stopped,
}

/// Lines that wait for one peer, or for its acknowledgement, bounded in bytes.
#[derive(Debug)]
pub(super) struct Outbox {
    outlet: Outlet<Writer, Lines>,
    cut_off: Notify,
    /// The peer may be read again.
    room: Notify,
    limit: usize,
    /// Counts the memory kept for the peer.
    holder: Holder,
}

/// Gets each line at once.
struct Direct(Box<dyn FnMut(ForPeer) + Send>);

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Direct")
    }
}

/// The lines themselves.
#[derive(Debug, Default)]
pub struct Lines {
    replay: Replay<Line>,
    /// Where lines go instead of waiting here.
    direct: Option<Direct>,
    /// The size of lines that the peer's task is sending and that are no longer queued.
    sending: usize,
    /// Counts both.
    kept: Part,
    cut: Option<Cut>,
    /// The peer's task has the writer to itself.
    keeps_writer: bool,
}

impl Lines {
    fn count(&mut self) {
        self.kept.set(self.replay.bytes() + self.sending);
    }

    /// The peer gets nothing more, and what was queued is lost.
    fn drop_all(&mut self, cut: Cut) {
        self.replay = Replay::default();
        self.cut = Some(cut);
        self.count();
    }

    /// Lines to send, and the acknowledgement to send with them.
    fn take(&mut self) -> Vec<Line> {
        let mut lines = self.replay.take(BATCH).lines;
        self.sending = 0;
        self.count();
        if !lines.is_empty() && self.replay.receipts.urgency() >= Urgency::WithNextLine {
            let received = self.replay.receipts.acknowledge();
            lines.push(Control::Ack { received }.to_line().into());
        }
        lines
    }
}

impl Queue<Writer> for Lines {
    fn is_idle(&self) -> bool {
        self.cut.is_none() && !self.keeps_writer && self.replay.waiting() == 0
    }

    fn try_write(&mut self, writer: &mut Writer, gathered: usize) -> io::Result<bool> {
        if self.cut.is_some() || gathered > SMALL {
            return Ok(false);
        }
        writer.try_send(&self.take())
    }
}

impl Outbox {
    pub(super) fn new(limit: usize, holder: Holder) -> Self {
        let lines = Lines {
            kept: holder.part(),
            ..Lines::default()
        };
        Self {
            outlet: Outlet::new(lines),
            cut_off: Notify::new(),
            room: Notify::new(),
            limit,
            holder,
        }
    }

    fn lock(&self) -> Locked<'_, Writer, Lines> {
        self.outlet.lock()
    }

    /// The peer may be read again: wakes all messages of it that wait for room.
    pub(super) fn has_room(&self) {
        self.room.notify_waiters();
    }

    /// Completes when the peer has room again, from this call on. Cancel safe.
    pub(super) fn room(&self) -> Notified<'_> {
        self.room.notified()
    }

    /// True while a peer that acknowledges has not acknowledged everything.
    pub(super) fn awaits(&self) -> bool {
        let lines = self.lock();
        lines.replay.keeps() && !lines.replay.is_settled()
    }

    /// Adds a line. True if the caller has to call [`Outbox::deliver`], before which it may add more.
    #[must_use]
    pub(super) fn push(&self, for_peer: ForPeer) -> bool {
        let mut lines = self.lock();
        if lines.cut.is_some() {
            return false;
        }
        if let Some(Direct(deliver)) = &mut lines.direct {
            if let Some(metrics) = metrics::get() {
                metrics.sent(for_peer.line.length());
            }
            deliver(for_peer);
            return false;
        }
        let line = for_peer.line;
        // An empty outbox takes a line of any length: the bound is on what accumulates.
        if lines.replay.bytes() > 0 && lines.replay.bytes() + cost(&line) > self.limit {
            lines.drop_all(Cut::Slow);
            self.cut_off.notify_waiters();
            self.outlet.wake();
            return false;
        }
        let length = line.length();
        if let Some(metrics) = metrics::get() {
            metrics.sent(length);
        }
        lines.replay.push(line);
        lines.count();
        lines.added(length)
    }

    /// Writes queued lines, if the writer is available and as much as it takes without blocking. The rest is
    /// left to the peer's own task.
    pub(super) fn deliver(&self) {
        self.outlet.flush();
    }

    /// See [`super::Session::deliver_to`].
    pub(super) fn deliver_to(&self, mut deliver: impl FnMut(ForPeer) + Send + 'static) {
        let mut lines = self.lock();
        while lines.replay.waiting() > 0 {
            let waiting = lines.take().into_iter().map(ForPeer::from);
            waiting.for_each(&mut deliver);
        }
        lines.direct = Some(Direct(Box::new(deliver)));
    }

    /// See [`super::Session::take`].
    pub(super) fn take(&self) -> Result<Vec<Line>, Cut> {
        let queue = &mut *self.lock();
        let lines = queue.take();
        if !queue.replay.keeps() {
            queue.sending = lines.iter().map(cost).sum();
            queue.count();
        }
        match queue.cut {
            Some(cut) if lines.is_empty() => Err(cut),
            _ => Ok(lines),
        }
    }

    /// Waits until there is something to do for the peer's own task.
    pub(super) async fn changed(&self) {
        self.outlet.woken().await;
    }

    /// See [`super::Session::lend`].
    pub(super) fn lend<'a>(
        &'a self,
        writer: &'a mut Lendable<Writer>,
    ) -> Option<Lease<'a, Writer, Lines>> {
        self.outlet.lend(writer)
    }

    /// See [`super::Session::keep_writer`].
    pub(super) fn keep_writer(&self) {
        let mut lines = self.lock();
        lines.keeps_writer = true;
        lines.recall();
    }

    /// See [`super::Session::received`].
    pub(super) fn received(&self, bytes: usize) {
        if self.lock().replay.receipts.count(bytes) {
            self.outlet.wake();
        }
    }

    /// How many lines have not been sent, or one if that is unknown.
    pub(super) fn unsent(&self) -> usize {
        let lines = self.lock();
        lines.replay.waiting() + usize::from(lines.is_recalled())
    }

    /// Accesses the replay core.
    pub(super) fn replay<T>(&self, ask: impl FnOnce(&mut Replay<Line>) -> T) -> T {
        let lines = &mut *self.lock();
        let answer = ask(&mut lines.replay);
        lines.count();
        answer
    }

    /// Marks the end: nothing more comes for the peer.
    pub(super) fn cut(&self, cut: Cut) {
        self.lock().cut.get_or_insert(cut);
        self.cut_off.notify_waiters();
        self.outlet.wake();
    }

    /// Completes when nothing more will come for the peer. Cancel safe.
    pub(super) async fn until_cut(&self) -> Cut {
        loop {
            let changed = self.cut_off.notified();
            if let Some(cut) = self.lock().cut {
                return cut;
            }
            tokio::select! {
                () = changed => {}
                excess = self.holder.evicted() => {
                    self.lock().drop_all(Cut::Backlog(excess));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
