//! What is carried over one connection, and what must survive it.

use super::host::{self, HostInput, HostOutput};
use super::ledger::{CONNECTION_LOST, Ledger, Verdict};
use super::{CONNECT_TIMEOUT, MAX_SERVER_LINE};
use crate::control::{Control, SessionKey};
use crate::handshake;
use crate::jsonrpc::{ErrorData, Executed};
use crate::replay::{ACK_BYTES, Replay, Violation};
use crate::transport::line::LineError;
use crate::transport::tls::{self, Mismatch};
use crate::transport::websocket::PING_EVERY;
use crate::transport::{Connection, Reader, Writer};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The most that is kept for the server, sent or not, in bytes; then the host is not read.
const MAX_BACKLOG: usize = 64 << 20;

/// The most that is sent without an acknowledgement to a server that gives them, in bytes. More
/// than one acknowledgement's worth, so that the wire does not run dry; not much more, so that a
/// server whose MCP server takes nothing still reads our acknowledgements behind it.
const WINDOW: usize = 2 * ACK_BYTES;

/// What is sent at once, in bytes; one line may be longer.
const BATCH: usize = 256 * 1024;

/// What has been received is acknowledged after so long, if not earlier.
const ACK_AFTER: Duration = Duration::from_secs(1);

/// The longest time that tokio's timers take without trouble.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How a connection ended.
pub(super) enum End {
    /// The host has left and has all its answers, or reads no more.
    Done,
    /// The connection is gone.
    Lost(String),
    /// The server does not want us.
    Rejected(String),
    /// TLS is wrong, and will stay so.
    Tls(String),
}

impl End {
    fn lost(err: &io::Error) -> Self {
        match tls::explain(err) {
            Some(reason) => Self::Tls(reason),
            None => Self::Lost(err.to_string()),
        }
    }
}

/// What the server is to us on a new connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    /// It goes on where the last connection was lost.
    Resumed { again: u64 },
    /// It knows nothing of us; so many requests got an error.
    Anew { failed: usize },
}

/// What we know of the far end of this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing yet, and it may have forgotten us: nothing is sent before it has answered.
    Asked,
    /// Nothing yet; we begin anew. It has promised an answer, or we do not know what it is.
    Offered { promised: bool },
    /// It can resume.
    Resumable,
    /// It cannot.
    Plain,
}

struct State {
    ledger: Ledger,
    replay: Replay,
    session: Option<SessionKey>,
    stage: Stage,
    /// Requests that got an error since the last report.
    failed: usize,
    /// Lines that wait until the server has taken our handshake again.
    rejoin: Option<VecDeque<Bytes>>,
    /// The server stops soon: what is not sent is for its successor.
    draining: bool,
    /// The host says no more.
    ended: bool,
    /// We have been told to leave.
    leaving: bool,
}

/// The client's end of all its connections.
pub(super) struct Link {
    state: Mutex<State>,
    /// Something has changed that concerns what is sent.
    wake: Notify,
    left: Notify,
    output: HostOutput,
    keepalive_interval: Duration,
    keepalive_timeout: Duration,
}

impl Link {
    pub(super) fn new(keepalive_interval: Duration, keepalive_timeout: Duration) -> Self {
        let state = State {
            ledger: Ledger::default(),
            replay: Replay::default(),
            session: None,
            stage: Stage::Plain,
            failed: 0,
            rejoin: None,
            draining: false,
            ended: false,
            leaving: false,
        };
        Self {
            state: Mutex::new(state),
            wake: Notify::new(),
            left: Notify::new(),
            output: HostOutput::start(),
            keepalive_interval,
            keepalive_timeout,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says goodbye as soon as possible.
    pub(super) fn leave(&self) {
        self.state().leaving = true;
        self.wake.notify_one();
        self.left.notify_one();
    }

    /// Completes when we have been told to leave.
    pub(super) async fn left(&self) {
        self.left.notified().await;
    }

    /// True when the host waits for something, or something waits to be sent.
    pub(super) fn is_owing(&self) -> bool {
        let state = self.state();
        state.ledger.owed() > 0 || state.replay.bytes() > 0 || state.rejoin.is_some()
    }

    /// The connection is lost. Where the server cannot resume, that is the end of what it knew.
    pub(super) fn lose(&self) {
        let mut state = self.state();
        if state.session.is_none() {
            self.begin_anew(&mut state);
        }
    }

    /// Nothing will be sent any more: everything that the host is owed gets an error.
    pub(super) fn give_up(&self, text: &str, data: &ErrorData, input: &mut HostInput) {
        let mut state = self.state();
        self.tell(state.ledger.lost(text, data));
        let replay = std::mem::take(&mut state.replay);
        let unsent = state
            .rejoin
            .take()
            .unwrap_or_else(|| replay.into_unsent())
            .into_iter();
        let unsent = unsent.map(|line| without_end(&line));
        for line in unsent.chain(std::iter::from_fn(|| input.try_next())) {
            state.ledger.send(&line);
        }
        let not_executed = ErrorData::new("connection-lost", Executed::No);
        self.tell(state.ledger.lost(text, &not_executed));
    }

    /// Completes when the host reads no more.
    pub(super) async fn unread(&self) {
        self.output.closed().await;
    }

    /// Waits until the host has read everything.
    pub(super) async fn finish(self) {
        self.output.finish().await;
    }

    fn tell(&self, lines: Vec<Vec<u8>>) {
        for mut line in lines {
            line.truncate(line.len().saturating_sub(1));
            self.output.push(line.into(), None);
        }
    }

    /// The far end knows nothing of us: what was sent is answered with errors, since it may or may
    /// not have been executed; what was not is sent after the handshake has been replayed.
    fn begin_anew(&self, state: &mut State) {
        state.failed += state.ledger.in_flight();
        self.tell(state.ledger.lost("Connection lost", &CONNECTION_LOST));
        let replay = std::mem::take(&mut state.replay);
        // While a replay waits for its answer, nothing else has been pushed.
        let mut unsent = state.rejoin.take().unwrap_or_else(|| replay.into_unsent());
        // The rest of an earlier replay may be among it.
        unsent.retain(|line| !state.ledger.is_replayed(&without_end(line)));
        state.session = None;
        match state.ledger.replay() {
            Some(handshake) => {
                state.replay.push(handshake);
                state.rejoin = Some(unsent);
            }
            None => unsent.into_iter().for_each(|line| state.replay.push(line)),
        }
    }

    /// Carries messages over one connection to its end. `resume` is whether the server may be asked
    /// for a session, and `promised` whether it has promised to answer that; `report` hears once how
    /// we stand with it.
    pub(super) async fn carry(
        &self,
        connection: Connection,
        resume: bool,
        promised: bool,
        input: &mut HostInput,
        report: impl Fn(News),
    ) -> End {
        let (mut reader, mut writer) = connection.split(MAX_SERVER_LINE);
        let hello = self.greet(resume, promised, &report);
        let end = {
            let up = self.upstream(&mut writer, input, hello);
            let down = self.downstream(&mut reader, &report);
            tokio::select! {
                end = up => end,
                end = down => end,
                () = self.output.closed() => End::Done,
                () = host::slept() => End::Lost("this machine was asleep".to_owned()),
            }
        };
        if matches!(end, End::Done) {
            crate::transport::close(reader, writer, &[]).await;
        }
        end
    }

    /// Begins a connection: what to say first, if anything.
    fn greet(&self, resume: bool, promised: bool, report: &impl Fn(News)) -> Option<Control> {
        let mut state = self.state();
        state.draining = false;
        match (resume, state.session.clone()) {
            (true, Some(key)) => {
                state.stage = Stage::Asked;
                let received = state.replay.tell();
                Some(Control::Resume {
                    session: Some(key),
                    received,
                })
            }
            (true, None) => {
                state.stage = Stage::Offered { promised };
                state.replay.keep();
                Some(Control::Resume {
                    session: None,
                    received: 0,
                })
            }
            (false, session) => {
                if session.is_some() {
                    self.begin_anew(&mut state);
                }
                state.stage = Stage::Plain;
                report(News::Anew {
                    failed: std::mem::take(&mut state.failed),
                });
                None
            }
        }
    }

    /// The first line of the server says what it is. True when that line is done with.
    fn meet(&self, first: Option<&Control>, report: &impl Fn(News)) -> Result<bool, Violation> {
        let mut state = self.state();
        let state = &mut *state;
        match (state.stage, first) {
            (
                Stage::Asked,
                Some(Control::Resumed {
                    session,
                    received,
                    resumed: true,
                }),
            ) if *session == state.session => {
                let again = state.replay.resume(*received)?;
                state.stage = Stage::Resumable;
                report(News::Resumed { again });
            }
            (Stage::Asked | Stage::Offered { .. }, Some(Control::Resumed { session, .. })) => {
                if state.stage == Stage::Asked {
                    self.begin_anew(state);
                }
                state.session.clone_from(session);
                if session.is_some() {
                    if state.stage == Stage::Asked {
                        state.replay.keep();
                    }
                    state.stage = Stage::Resumable;
                } else {
                    state.replay.stop_keeping();
                    state.stage = Stage::Plain;
                }
                report(News::Anew {
                    failed: std::mem::take(&mut state.failed),
                });
            }
            (Stage::Asked | Stage::Offered { .. }, _) => {
                if state.stage == Stage::Asked {
                    self.begin_anew(state);
                }
                state.replay.stop_keeping();
                state.stage = Stage::Plain;
                report(News::Anew {
                    failed: std::mem::take(&mut state.failed),
                });
                self.wake.notify_one();
                return Ok(false);
            }
            (Stage::Resumable | Stage::Plain, _) => return Ok(false),
        }
        self.wake.notify_one();
        Ok(true)
    }

    /// From the host to the server.
    async fn upstream(
        &self,
        writer: &mut Writer,
        input: &mut HostInput,
        hello: Option<Control>,
    ) -> End {
        match self.send_all(writer, input, hello).await {
            Ok(end) => end,
            Err(err) => End::lost(&err),
        }
    }

    async fn send_all(
        &self,
        writer: &mut Writer,
        input: &mut HostInput,
        hello: Option<Control>,
    ) -> io::Result<End> {
        if let Some(hello) = hello {
            writer.send(&[hello.to_line().into()]).await?;
        }
        let began = Instant::now();
        let mut pings = tokio::time::interval_at(began + PING_EVERY, PING_EVERY);
        let mut acknowledged = began;
        let mut untold_since: Option<Instant> = None;
        loop {
            let Turn {
                lines,
                open,
                resumable,
                waits,
                untold,
                ack_due,
                done,
            } = self.turn();
            let mut due = FOREVER;
            if resumable {
                untold_since = if untold {
                    untold_since.or_else(|| Some(Instant::now()))
                } else {
                    None
                };
                due = self
                    .keepalive_interval
                    .saturating_sub(acknowledged.elapsed());
                if let Some(since) = untold_since {
                    due = due.min(ACK_AFTER.saturating_sub(since.elapsed()));
                }
                if ack_due || due.is_zero() {
                    let received = self.state().replay.tell();
                    writer
                        .send(&[Control::Ack { received }.to_line().into()])
                        .await?;
                    (acknowledged, untold_since) = (Instant::now(), None);
                    due = self.keepalive_interval;
                }
            }
            if !lines.is_empty() {
                writer.send(&lines).await?;
                continue;
            }
            if done {
                if resumable {
                    writer.send(&[Control::Leave.to_line().into()]).await?;
                }
                return Ok(End::Done);
            }
            if !resumable && waits {
                due = CONNECT_TIMEOUT.saturating_sub(began.elapsed());
                if due.is_zero() {
                    return Ok(End::Lost("the server does not answer".to_owned()));
                }
            }
            tokio::select! {
                lines = input.next(), if open => match lines {
                    Some(lines) => {
                        let mut state = self.state();
                        lines.into_iter().for_each(|line| state.replay.push(line));
                    }
                    None => self.state().ended = true,
                },
                () = self.wake.notified() => {}
                () = tokio::time::sleep(due) => {}
                _ = pings.tick() => writer.ping().await?,
            }
        }
    }

    /// What is to be done now about sending.
    fn turn(&self) -> Turn {
        let mut state = self.state();
        let state = &mut *state;
        let waits = matches!(
            state.stage,
            Stage::Asked | Stage::Offered { promised: true }
        );
        let congested = state.stage == Stage::Resumable && state.replay.under_way() >= WINDOW;
        let may_send = !waits && !congested && !state.draining;
        let batch = if may_send {
            state.replay.take(BATCH)
        } else {
            Default::default()
        };
        for line in batch.lines.iter().skip(batch.again) {
            state.ledger.send(&without_end(line));
        }
        let idle = batch.lines.is_empty();
        let served = state.ended
            && idle
            && state.replay.waiting() == 0
            && state.rejoin.is_none()
            && state.ledger.owed() == 0;
        Turn {
            open: !state.ended
                && state.rejoin.is_none()
                && may_send
                && state.replay.bytes() < MAX_BACKLOG,
            lines: batch.lines,
            resumable: state.stage == Stage::Resumable,
            waits: waits || state.rejoin.is_some(),
            untold: state.replay.is_untold(),
            ack_due: state.replay.is_due(),
            done: state.leaving || served,
        }
    }

    /// From the server to the host.
    async fn downstream(&self, reader: &mut Reader, report: &impl Fn(News)) -> End {
        let pulse = reader.pulse();
        loop {
            let watched = self.state().stage == Stage::Resumable;
            let limit = if watched {
                self.keepalive_timeout
            } else {
                FOREVER
            };
            let read = tokio::select! {
                biased;
                read = reader.next() => Ok(read),
                () = pulse.stop(limit) => Err(()),
            };
            let line = match read {
                Ok(Ok(Some(line))) => line,
                Ok(Ok(None)) => return End::Lost("the server hung up".to_owned()),
                Ok(Err(LineError::Io(err))) => return End::lost(&err),
                Ok(Err(err)) => return End::Lost(err.to_string()),
                Err(_) => return End::Lost(LineError::Silent(limit).to_string()),
            };
            if let Some(reason) = handshake::read_refusal(&line) {
                return End::Rejected(reason);
            }
            if handshake::wants_tls(&line) {
                return End::lost(&Mismatch.into());
            }
            if let Some(notice) = handshake::read_notice(&line) {
                return End::Lost(notice);
            }
            let control = Control::read(&line);
            let heeded = self
                .meet(control.as_ref(), report)
                .and_then(|taken| match &control {
                    Some(control) if !taken => self.heed(control),
                    _ => Ok(()),
                });
            if let Err(violation) = heeded {
                // Whoever counts wrongly would do so again.
                self.state().session = None;
                return End::Lost(violation.to_string());
            }
            if control.is_some() {
                continue;
            }
            let Some(room) = self.output.room(line.len()).await else {
                return End::Done;
            };
            self.receive(line, room);
        }
    }

    fn heed(&self, control: &Control) -> Result<(), Violation> {
        let mut state = self.state();
        match control {
            Control::Ack { received } if state.stage == Stage::Resumable => {
                state.replay.acknowledge(*received)?;
                self.wake.notify_one();
            }
            Control::Drain { received } if state.stage == Stage::Resumable => {
                let State { replay, ledger, .. } = &mut *state;
                for line in replay.unsend(*received)? {
                    ledger.unsend(&without_end(line));
                }
                state.draining = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// A line of the server is handed to the host and counted, both or neither.
    fn receive(&self, line: Bytes, room: tokio::sync::OwnedSemaphorePermit) {
        let mut state = self.state();
        let state = &mut *state;
        let first = !state.replay.is_untold();
        let due = state.stage == Stage::Resumable && (state.replay.receive(line.len()) || first);
        match state.ledger.receive(&line) {
            Verdict::Pass => self.output.push(line, Some(room)),
            Verdict::Drop => {}
            Verdict::Replayed(succeeded) => {
                if !succeeded {
                    tracing::warn!("the server did not take the handshake a second time");
                }
                let rest = state.ledger.replay_rest();
                let held = state.rejoin.take().unwrap_or_default();
                rest.into_iter()
                    .chain(held)
                    .for_each(|line| state.replay.push(line));
                self.wake.notify_one();
            }
        }
        if due || state.ended {
            self.wake.notify_one();
        }
    }
}

fn without_end(line: &Bytes) -> Bytes {
    line.slice(..line.len().saturating_sub(1))
}

/// What is to be done about sending.
struct Turn {
    lines: Vec<Bytes>,
    /// The host may be read.
    open: bool,
    resumable: bool,
    /// The server owes us an answer before anything else can be sent.
    waits: bool,
    untold: bool,
    ack_due: bool,
    done: bool,
}
