//! One peer's place at the hub, and the lines that wait for it there.

use super::attachment::Attachment;
use super::room::Room;
use super::routing::Routing;
use super::{EARLY, Hub};
use crate::backlog::{Excess, Holder, Part};
use crate::control::Control;
use crate::jsonrpc::Message;
use crate::liveness::Urgency;
use crate::permissions::Permit;
use crate::replay::{BATCH, Replay, cost};
use crate::router::{Counted, Output, Presence, Profile, SessionId, TooLarge};
use crate::transport::{SMALL, Writer};
use crate::utils::lock::lock;
use crate::utils::rope::Line;
use crate::utils::rope::Pieces;
use crate::utils::signal::Signal;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// Why a session got no further lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The peer reads too slowly: its queue is full.
    Slow,
    /// Too much memory is kept for all clients, or for those of its user, and most of it for this one.
    Backlog(Excess),
    /// The server stops.
    Stopped,
}

/// What has become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It has been passed on or answered, or means nothing.
    Handled,
    /// It names a task of somebody else, and has been answered as if there were no such task.
    ForeignTask,
}

/// One peer's place at the hub. Dropping it ends it: its requests are cancelled.
#[derive(Debug)]
pub struct Session {
    attachment: Arc<Attachment>,
    outbox: Arc<Outbox>,
}

impl Session {
    pub(super) fn new(id: SessionId, hub: Hub, outbox: Arc<Outbox>) -> Self {
        Self {
            attachment: Arc::new(Attachment::new(id, hub)),
            outbox,
        }
    }

    /// For logs.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.attachment.id()
    }

    /// Attaches it to another hub, where it has never been moved before. What it is still owed by the
    /// one that it leaves is answered with errors.
    pub fn move_to(&self, hub: &Hub, profile: Profile, counted: &Counted) {
        if self.attachment.has_moved() {
            return;
        }
        let (id, left) = (self.attachment.id(), self.attachment.hub());
        left.0.handle(|routing, out| routing.release(id, out));
        left.0.lock().outboxes.remove(&id);
        let id = hub.adopt(profile, counted, &self.outbox);
        self.attachment.move_to(id, hub.clone());
    }

    /// Room for a message among what waits for the MCP server; none while that is too much already.
    #[must_use]
    pub fn find_room(&self, message: &Message) -> Option<Room<'_>> {
        Room::find(self.attachment.hub(), self.attachment.id(), message)
    }

    /// The same, once there is some. Cancel safe.
    pub async fn room(&self, message: &Message) -> Room<'_> {
        let hub = self.attachment.hub();
        Room::wait_for(hub, self.attachment.id(), message, &self.outbox).await
    }

    /// True while the process that would serve this message has ended, or is about to start.
    #[must_use]
    pub fn is_down(&self, message: &Message) -> bool {
        let state = self.attachment.hub().0.lock();
        let lane = state.routing.destination(self.attachment.id(), message);
        lane.is_some_and(|lane| state.routing.is_down(lane))
    }

    /// Hands a message to the MCP server, which gets it with the next [`Session::flush`]. `room` is what
    /// was found for it; what the proxy itself says needs none.
    ///
    /// # Errors
    /// The line for the MCP server would be too long: it gets nothing.
    pub fn send(&self, permit: &Permit, room: Option<Room<'_>>) -> Result<Sent, TooLarge> {
        let now = || tokio::time::Instant::now().into_std();
        let (id, hub) = (self.attachment.id(), self.attachment.hub());
        // The session may have moved meanwhile.
        let room = room.filter(|room| room.is_of(hub));
        let mut state = hub.0.lock();
        if let Some(room) = room {
            room.fill(&mut state);
        }
        let event = |routing: &mut Routing, out: &mut Output| {
            routing.peer_message(id, permit, now, out)?;
            if std::mem::take(&mut out.foreign_task) {
                Ok(Sent::ForeignTask)
            } else {
                Ok(Sent::Handled)
            }
        };
        hub.0.gather_in(&mut state, event)
    }

    /// Lets the MCP server have what was sent, and peers what waits for their writers.
    pub fn flush(&self) {
        self.attachment.hub().0.flush();
    }

    /// The peer's rights have changed: subscriptions that they do not cover any more end.
    pub fn revise(&self, profile: Profile) {
        let (id, hub) = (self.attachment.id(), self.attachment.hub());
        hub.0
            .handle(|routing, out| routing.revise(id, profile, out));
    }

    /// Notes whether the client can be reached: the MCP server's questions are asked only then.
    pub fn set_presence(&self, presence: Presence) {
        let (id, hub) = (self.attachment.id(), self.attachment.hub());
        hub.0
            .handle(|routing, out| routing.set_presence(id, presence, out));
    }

    /// The peer says nothing more, though it still gets what it is owed: its subscriptions end, and it
    /// is asked nothing.
    pub fn half_closed(&self) {
        let (id, hub) = (self.attachment.id(), self.attachment.hub());
        hub.0.handle(|routing, out| routing.half_closed(id, out));
    }

    /// Queues a line of the proxy's own for the peer, newline included. It may wait for
    /// [`Session::flush`].
    pub fn reply(&self, line: Vec<u8>) {
        if self.outbox.push(line.into()) {
            let hub = self.attachment.hub();
            hub.0.lock().ready.push(Arc::clone(&self.outbox));
        }
    }

    /// Notes that a line of `bytes` has been dealt with: it will be acknowledged to the peer.
    pub fn received(&self, bytes: usize) {
        if self.outbox.lock().replay.receipts.count(bytes) {
            self.outbox.wake.raise();
        }
    }

    /// Lines for the peer, in order; none when there is only something to acknowledge.
    ///
    /// # Errors
    /// When the session was cut. What still waited is lost if the peer was slow.
    pub fn take(&self) -> Result<Vec<Line>, Cut> {
        let queue = &mut *self.outbox.lock();
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

    /// Waits until [`Session::take`] may have something new, or an acknowledgement is due.
    pub async fn changed(&self) {
        self.outbox.wake.wait().await;
    }

    /// Lends the connection's writer to whoever has lines for the peer, which saves a turn of the
    /// peer's own task, unless there is something to do for that. It is to be taken back before anything
    /// else is done with it, and is then not [`Writer::Away`].
    pub fn lend(&self, writer: &mut Writer) {
        let mut queue = self.outbox.lock();
        if queue.cut.is_none() && !queue.keeps_writer && queue.replay.waiting() == 0 {
            queue.lent = Some(Lent {
                writer: std::mem::replace(writer, Writer::Away),
                gathered: Some(0),
                error: None,
            });
        }
    }

    /// Takes the writer back, if it was lent. True where something may be left in it to be flushed.
    ///
    /// # Errors
    /// What the connection has said meanwhile.
    pub fn take_back(&self, writer: &mut Writer) -> io::Result<bool> {
        let Some(lent) = self.outbox.lock().lent.take() else {
            return Ok(false);
        };
        *writer = lent.writer;
        match lent.error {
            Some(err) => Err(err),
            None => Ok(lent.gathered.is_none()),
        }
    }

    /// From here on the writer is not lent, so that its owner knows what has been sent.
    pub fn keep_writer(&self) {
        let queue = &mut *self.outbox.lock();
        queue.keeps_writer = true;
        if let Some(lent) = &mut queue.lent {
            lent.gathered = None;
        }
        self.outbox.wake.raise();
    }

    /// Completes when the peer is cut because too much is kept for it, even where a write to it hangs.
    pub async fn overflowed(&self) -> Cut {
        match self.cut().await {
            Cut::Stopped => std::future::pending().await,
            cut => cut,
        }
    }

    /// Completes when nothing more will come for the peer. Cancel safe.
    pub async fn cut(&self) -> Cut {
        loop {
            let changed = self.outbox.cut_off.notified();
            if let Some(cut) = self.outbox.lock().cut {
                return cut;
            }
            tokio::select! {
                () = changed => {}
                excess = self.outbox.holder.evicted() => {
                    self.outbox.lock().drop_all(Cut::Backlog(excess));
                }
            }
        }
    }

    /// Asks or tells the replay core of this session.
    pub fn replay<T>(&self, ask: impl FnOnce(&mut Replay<Line>) -> T) -> T {
        let queue = &mut *self.outbox.lock();
        let answer = ask(&mut queue.replay);
        queue.count();
        answer
    }

    /// The same for whoever does not own the session.
    pub fn watch(&self) -> Watch {
        Watch {
            attachment: Arc::clone(&self.attachment),
            outbox: Arc::clone(&self.outbox),
        }
    }

    /// How many requests of the peer still wait for an answer, in the child or in the outbox.
    #[must_use]
    pub fn owed(&self) -> usize {
        let in_flight = self.attachment.in_flight();
        let queue = &*self.outbox.lock();
        let unsent = |lent: &Lent| lent.gathered.is_none();
        let unsent = queue.lent.as_ref().is_some_and(unsent);
        in_flight + queue.replay.waiting() + usize::from(unsent)
    }

    /// See [`Watch::is_settled`].
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.watch().is_settled()
    }
}

/// A look at a session from outside.
#[derive(Clone, Debug)]
pub struct Watch {
    attachment: Arc<Attachment>,
    outbox: Arc<Outbox>,
}

impl Watch {
    /// See [`Replay::is_stale`].
    #[must_use]
    pub fn is_stale(&self, received: u64) -> bool {
        self.outbox.lock().replay.is_stale(received)
    }

    /// True where the peer waits for nothing and has all that it ever got.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.attachment.in_flight() == 0 && self.outbox.lock().replay.is_settled()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let (id, hub) = (self.attachment.id(), self.attachment.hub());
        hub.0.lock().outboxes.remove(&id);
        hub.0.handle(|routing, out| routing.detach(id, out));
    }
}

/// Lines that wait for one peer, or for its acknowledgement, bounded in bytes.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    wake: Signal,
    cut_off: Notify,
    /// The peer may be read on.
    room: Notify,
    limit: usize,
    /// Counts the memory kept for the peer.
    holder: Holder,
}

#[derive(Debug, Default)]
struct Queue {
    replay: Replay<Line>,
    /// The size of lines that the peer's task is sending, and that are not kept any more.
    sending: usize,
    /// Counts both.
    kept: Part,
    cut: Option<Cut>,
    /// The writer, while the peer's own task has nothing to do with it.
    lent: Option<Lent>,
    /// It is not lent any more.
    keeps_writer: bool,
}

impl Queue {
    fn count(&mut self) {
        self.kept.set(self.replay.bytes() + self.sending);
    }

    /// Nothing more is for the peer, and what waited is lost.
    fn drop_all(&mut self, cut: Cut) {
        self.replay = Replay::default();
        self.cut = Some(cut);
        self.count();
    }

    /// Lines to be sent, and with them what has been received.
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

struct Lent {
    writer: Writer,
    /// What waits for [`Outbox::deliver`], in bytes. `None` where the peer's own task has been woken to
    /// go on: the lines are too large, or not all was taken.
    gathered: Option<usize>,
    /// Why nothing more was taken.
    error: Option<io::Error>,
}

impl Lent {
    /// Adds a line of so many bytes to what waits; gives how much that is.
    fn gather(&mut self, length: usize) -> Option<usize> {
        let all = self.gathered.map(|gathered| gathered + length);
        self.gathered = all.filter(|all| *all <= SMALL);
        self.gathered
    }
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lent")
            .field("gathered", &self.gathered)
            .finish_non_exhaustive()
    }
}

impl Outbox {
    pub(super) fn new(limit: usize, holder: Holder) -> Self {
        let queue = Queue {
            kept: holder.part(),
            ..Queue::default()
        };
        Self {
            queue: Mutex::new(queue),
            wake: Signal::default(),
            cut_off: Notify::new(),
            room: Notify::new(),
            limit,
            holder,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// The peer may be read on.
    pub(super) fn has_room(&self) {
        self.room.notify_one();
    }

    /// Completes when the peer may have room again. Cancel safe.
    pub(super) async fn room(&self) {
        self.room.notified().await;
    }

    /// True while a peer that acknowledges has not acknowledged everything.
    pub(super) fn awaits(&self) -> bool {
        let queue = self.lock();
        queue.replay.keeps() && !queue.replay.is_settled()
    }

    /// Adds a line. True where [`Outbox::deliver`] is to be called then; before that more may be added.
    #[must_use]
    pub(super) fn push(&self, line: Line) -> bool {
        let queue = &mut *self.lock();
        if queue.cut.is_some() {
            return false;
        }
        // An empty outbox takes any line: the bound is on what piles up.
        if queue.replay.bytes() > 0 && queue.replay.bytes() + cost(&line) > self.limit {
            queue.drop_all(Cut::Slow);
            self.cut_off.notify_waiters();
        } else {
            let length = line.length();
            queue.replay.push(line);
            queue.count();
            match queue.lent.as_mut().and_then(|lent| lent.gather(length)) {
                Some(all) if all < EARLY => return all == length,
                Some(_) => {
                    self.write(queue);
                    return false;
                }
                None => {}
            }
        }
        self.wake.raise();
        false
    }

    /// Writes what has been added, if the writer is lent and as far as it takes it at once. The rest is
    /// for the peer's own task.
    pub(super) fn deliver(&self) {
        self.write(&mut self.lock());
    }

    fn write(&self, queue: &mut Queue) {
        let is_gathered = |lent: &Lent| !matches!(lent.gathered, None | Some(0));
        if queue.cut.is_some() || !queue.lent.as_ref().is_some_and(is_gathered) {
            return;
        }
        let lines = queue.take();
        let Some(lent) = &mut queue.lent else {
            return;
        };
        let sent = lent.writer.try_send(&lines);
        if matches!(sent, Ok(true)) {
            lent.gathered = Some(0);
        } else {
            lent.gathered = None;
            lent.error = sent.err();
            self.wake.raise();
        }
    }

    pub(super) fn cut(&self, cut: Cut) {
        self.lock().cut.get_or_insert(cut);
        self.cut_off.notify_waiters();
        self.wake.raise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::CommandLine;
    use crate::hub::{Deadlines, Limits};
    use crate::router::LineLimits;
    use crate::transport::Connection;
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, DuplexStream};

    const LIMITS: Limits = Limits {
        child_message: 1000,
        lines: LineLimits {
            to_child: 1000,
            to_peer: 2000,
        },
        outbox: 10 * SMALL,
        deadlines: Deadlines {
            handshake: std::time::Duration::from_secs(60),
            start: std::time::Duration::from_secs(60),
            question: std::time::Duration::from_secs(60),
        },
        restarts: 0,
        in_flight: 64,
    };

    fn session() -> Session {
        let command = CommandLine {
            program: "true".into(),
            arguments: Vec::new(),
            variables: Vec::new(),
        };
        let (hub, _driver) = Hub::shared(command, LIMITS);
        hub.attach(Profile::anybody(), &Counted::default())
    }

    /// A writer whose stream holds so many bytes, and where they come out.
    fn writer(capacity: usize) -> (Writer, DuplexStream) {
        let (near, far) = tokio::io::duplex(capacity);
        let (_reader, writer) = Connection::over_stream(Box::new(near), 1000).split(1000);
        (writer, far)
    }

    fn lines(session: &Session) -> Vec<Vec<u8>> {
        let lines = session.take().unwrap();
        lines.iter().map(|line| line.joined().to_vec()).collect()
    }

    #[tokio::test]
    async fn whoever_has_lines_writes_them_where_the_writer_is_lent() {
        let (session, (mut writer, mut far)) = (session(), writer(100));
        session.lend(&mut writer);
        assert!(matches!(writer, Writer::Away));
        for line in [&b"one\n"[..], b"two\n", b"three\n"] {
            session.reply(line.to_vec());
        }
        session.flush();
        session.reply(b"four\n".to_vec());
        session.flush();
        assert_eq!(session.changed().now_or_never(), None);
        assert_eq!(lines(&session), Vec::<Vec<u8>>::new());
        assert!(!session.take_back(&mut writer).unwrap());
        drop(writer);
        let mut arrived = String::new();
        far.read_to_string(&mut arrived).await.unwrap();
        assert_eq!(arrived, "one\ntwo\nthree\nfour\n");
    }

    #[tokio::test]
    async fn much_is_written_before_the_rest_is_there() {
        let (session, (mut writer, mut far)) = (session(), writer(3 * EARLY));
        session.lend(&mut writer);
        session.reply(b"first\n".to_vec());
        session.reply(vec![b'x'; EARLY]);
        let mut arrived = vec![0; 6 + EARLY];
        let read = far.read_exact(&mut arrived).now_or_never();
        assert!(matches!(read, Some(Ok(_))) && arrived.starts_with(b"first\nx"));
        session.reply(b"rest\n".to_vec());
        session.flush();
        assert_eq!(far.read(&mut arrived).now_or_never().unwrap().unwrap(), 5);
        assert!(session.changed().now_or_never().is_none());
    }

    #[tokio::test]
    async fn what_is_not_taken_at_once_is_for_the_owner_to_send() {
        let (session, (mut writer, mut far)) = (session(), writer(8));
        session.lend(&mut writer);
        session.reply(b"does not fit\n".to_vec());
        session.flush();
        // Nothing overtakes it.
        session.reply(b"second\n".to_vec());
        session.flush();
        assert!(session.changed().now_or_never().is_some());
        assert!(session.take_back(&mut writer).unwrap());
        let sending = async {
            writer.flush().await.unwrap();
            writer.send(&session.take().unwrap()).await.unwrap();
            drop(writer);
        };
        let mut arrived = String::new();
        let (_, read) = tokio::join!(sending, far.read_to_string(&mut arrived));
        read.unwrap();
        assert_eq!(arrived, "does not fit\nsecond\n");
    }

    #[tokio::test]
    async fn large_lines_are_for_the_owner_to_send() {
        let (session, (mut writer, _far)) = (session(), writer(100));
        session.lend(&mut writer);
        session.reply(b"small\n".to_vec());
        session.reply(vec![b'x'; SMALL]);
        session.flush();
        assert!(session.changed().now_or_never().is_some());
        assert_eq!(lines(&session), [b"small\n".to_vec(), vec![b'x'; SMALL]]);
        session.take_back(&mut writer).unwrap();
        assert!(matches!(writer, Writer::Line(_)));
    }

    #[tokio::test]
    async fn it_is_not_lent_where_something_is_to_be_done() {
        let (mut writer, _far) = writer(100);
        let waiting = session();
        waiting.reply(b"line\n".to_vec());
        let cut = session();
        cut.outbox.cut(Cut::Stopped);
        let kept = session();
        kept.keep_writer();
        for session in [waiting, cut, kept] {
            session.lend(&mut writer);
            assert!(matches!(writer, Writer::Line(_)));
            assert!(session.changed().now_or_never().is_some());
        }
    }

    #[tokio::test]
    async fn what_fails_is_told_to_the_owner() {
        let (session, (mut writer, far)) = (session(), writer(100));
        session.lend(&mut writer);
        drop(far);
        session.reply(b"line\n".to_vec());
        session.flush();
        assert!(session.changed().now_or_never().is_some());
        assert!(session.take_back(&mut writer).is_err());
        assert!(matches!(writer, Writer::Line(_)));
    }

    #[tokio::test]
    async fn an_owner_that_keeps_the_writer_hears_of_each_line() {
        let (session, (mut writer, _far)) = (session(), writer(100));
        session.lend(&mut writer);
        session.keep_writer();
        assert!(session.changed().now_or_never().is_some());
        assert_eq!(session.owed(), 1, "until the owner has looked");
        session.reply(b"line\n".to_vec());
        session.flush();
        assert!(session.changed().now_or_never().is_some());
        session.take_back(&mut writer).unwrap();
        assert_eq!(lines(&session), [b"line\n"]);
        assert_eq!(session.owed(), 0);
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_is_cut_with_its_writer_lent() {
        let (session, (mut writer, _far)) = (session(), writer(8));
        session.lend(&mut writer);
        for _ in 0..1000 {
            session.reply(vec![b'x'; 10_000]);
            session.flush();
        }
        assert_eq!(session.overflowed().now_or_never(), Some(Cut::Slow));
        session.take_back(&mut writer).unwrap();
        assert!(matches!(writer, Writer::Line(_)));
    }
}
