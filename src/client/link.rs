//! The client's end of one connection after the other.

use super::host::{self, HostInput, HostOutput};
use super::ledger::Arrived;
use super::state::{News, State, Turn, Wait};
use super::{CONNECT_TIMEOUT, MAX_SERVER_LINE};
use crate::control::Control;
use crate::handshake;
use crate::jsonrpc::{ErrorData, Executed};
use crate::liveness::{Due, FOREVER, Schedule};
use crate::replay::{self, Violation};
use crate::transport::line::LineError;
use crate::transport::outlet::{Batch, Flush};
use crate::transport::tls::{self, Mismatch};
use crate::transport::websocket::PING_EVERY;
use crate::transport::{Connection, Reader, Writer};
use crate::utils::alarm::Alarm;
use crate::utils::apart::apart;
use crate::utils::signal::Signal;
use bytes::Bytes;
use futures_util::FutureExt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a server that may not know what a session is may take to say that it does. One of ours
/// says so at once.
const OFFER: Duration = Duration::from_secs(1);

/// How long a host that has said nothing yet may take for that, when we give up.
const FIRST_WORDS: Duration = Duration::from_secs(1);

/// How a connection ended.
pub(super) enum End {
    /// The host has left and has all its answers, or reads no more.
    Done,
    /// The connection is gone.
    Lost(String),
    /// The server has closed a session that nobody used.
    Dismissed,
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

/// The client's end of all its connections.
pub(super) struct Link {
    state: Mutex<State>,
    /// Something has changed that concerns what is sent.
    wake: Signal,
    left: Notify,
    served: Notify,
    output: HostOutput,
    keepalive_interval: Duration,
    keepalive_timeout: Duration,
}

impl Link {
    pub(super) fn new(keepalive_interval: Duration, keepalive_timeout: Duration) -> Self {
        Self {
            state: Mutex::default(),
            wake: Signal::default(),
            left: Notify::new(),
            served: Notify::new(),
            output: HostOutput::start(),
            keepalive_interval,
            keepalive_timeout,
        }
    }

    /// Asks or tells the state, and hands the host what that makes for it.
    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut state);
        let told = state.told();
        if !told.is_empty() {
            told.iter().for_each(|line| self.output.push(line));
            self.output.flush();
        }
        if state.is_served() {
            self.served.notify_one();
        }
        outcome
    }

    /// Completes when the host has left and waits for nothing, see [`State::is_served`].
    pub(super) async fn served(&self) {
        self.served.notified().await;
    }

    /// See [`State::end`]. True when there is nothing more to do.
    pub(super) fn end(&self) -> bool {
        self.state(|state| {
            state.end();
            state.is_done()
        })
    }

    /// Says goodbye as soon as possible.
    pub(super) fn leave(&self) {
        self.state(State::leave);
        self.wake.raise();
        self.left.notify_one();
    }

    /// Completes when we have been told to leave.
    pub(super) async fn left(&self) {
        self.left.notified().await;
    }

    /// See [`State::is_owing`].
    pub(super) fn is_owing(&self) -> bool {
        self.state(|state| state.is_owing())
    }

    /// See [`State::lose`].
    pub(super) fn lose(&self) {
        self.state(State::lose);
    }

    /// See [`State::give_up`]. A host that has just started us may not have said yet what it wants to
    /// have answered.
    pub(super) async fn give_up(
        &self,
        text: &str,
        data: fn(Executed) -> ErrorData,
        input: &mut HostInput,
    ) {
        if !self.state(|state| state.has_heard()) {
            let first = tokio::time::timeout(FIRST_WORDS, input.next()).await;
            if let Ok(Some(lines)) = first {
                self.state(|state| state.say(lines));
            }
        }
        let mut unread: Vec<Bytes> = Vec::new();
        let mut cost = 0;
        while cost < host::MAX_QUEUED
            && let Some(Some(lines)) = input.next().now_or_never()
        {
            cost += lines.iter().map(replay::cost).sum::<usize>();
            unread.extend(lines);
        }
        self.state(|state| state.give_up(text, data, unread.into_iter()));
    }

    /// Completes when the host reads no more.
    pub(super) async fn unread(&self) {
        self.output.closed().await;
    }

    /// Waits until the host has read everything.
    pub(super) async fn finish(self) {
        self.output.finish().await;
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
        let (hello, news) = self.state(|state| state.greet(resume, promised));
        news.into_iter().for_each(&report);
        let end = {
            let up = apart(self.upstream(&mut writer, input, hello));
            let down = apart(self.downstream(&mut reader, &report));
            tokio::select! {
                end = up => end,
                end = down => end,
                end = apart(self.trouble()) => end,
            }
        };
        let (done, dismissed) = self.state(|state| (state.is_done(), state.is_dismissed()));
        let end = match end {
            End::Lost(_) if done => End::Done,
            End::Lost(_) if dismissed => End::Dismissed,
            end => end,
        };
        if matches!(end, End::Done) {
            crate::transport::close(reader, writer, &[]).await;
        }
        end
    }

    /// What ends a connection besides what is said on it.
    async fn trouble(&self) -> End {
        tokio::select! {
            () = self.output.closed() => End::Done,
            () = host::slept(SystemTime::now) => End::Lost("this machine was asleep".to_owned()),
        }
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
            writer.send(&[Bytes::from(hello.to_line())]).await?;
        }
        let began = Instant::now();
        let mut schedule = Schedule::new(self.keepalive_interval, began.into_std());
        let mut ping = apart(tokio::time::sleep_until(began + PING_EVERY));
        let mut alarm = Alarm::at(began + FOREVER);
        loop {
            let Turn {
                control,
                mut lines,
                open,
                resumable,
                wait,
                ack,
                done,
            } = self.state(State::turn);
            if done {
                return Ok(End::Done);
            }
            if let Some(control) = control {
                writer.send(&[Bytes::from(control.to_line())]).await?;
                continue;
            }
            let now = Instant::now();
            let mut wake_by = now + FOREVER;
            if resumable {
                match schedule.due(ack, now.into_std()) {
                    Due::At(time) => wake_by = time.into(),
                    Due::Now => {
                        let received = self.state(State::tell_received);
                        lines.insert(0, Control::Ack { received }.to_line().into());
                        schedule.sent(now.into_std());
                    }
                }
            }
            if !lines.is_empty() {
                writer.send(&lines).await?;
                continue;
            }
            if let Some(wait) = wait {
                let limit = match wait {
                    Wait::Long => CONNECT_TIMEOUT,
                    Wait::Short => OFFER,
                };
                wake_by = began + limit;
                if wake_by <= now {
                    if self.state(State::wait_no_longer) {
                        continue;
                    }
                    return Ok(End::Lost("the server does not answer".to_owned()));
                }
            }
            alarm.set(wake_by);
            tokio::select! {
                lines = input.next(), if open => match lines {
                    Some(lines) => self.state(|state| state.say(lines)),
                    None => self.state(State::end),
                },
                () = self.wake.wait() => {}
                () = &mut alarm => {}
                () = &mut ping => {
                    writer.ping().await?;
                    ping = apart(tokio::time::sleep(PING_EVERY));
                }
            }
        }
    }

    /// From the server to the host.
    async fn downstream(&self, reader: &mut Reader, report: &impl Fn(News)) -> End {
        let pulse = reader.pulse();
        let batch = Batch::new(&self.output);
        let mut limit = FOREVER;
        let mut silence = apart(pulse.stop(limit));
        loop {
            let watched = self.state(|state| state.is_resumable());
            if watched && limit == FOREVER {
                limit = self.keepalive_timeout;
                silence = apart(pulse.stop(limit));
            }
            let read = async {
                tokio::select! {
                    biased;
                    read = reader.next() => Ok(read),
                    () = &mut silence => Err(()),
                }
            };
            // What has arrived together is handed over together.
            let read = batch.next(read).await;
            let line = match read {
                Ok(Ok(Some(line))) => line,
                Ok(Ok(None)) => return End::Lost("the server hung up".to_owned()),
                Ok(Err(LineError::Io(err))) => return End::lost(&err),
                Ok(Err(err)) => return End::Lost(err.to_string()),
                Err(_) => return End::Lost(LineError::Silent(limit).to_string()),
            };
            let arrived = Arrived::from(line);
            if arrived.is_for_nobody() {
                let line = &arrived.line;
                if let Some(reason) = handshake::read_refusal(line) {
                    return End::Rejected(reason);
                }
                if handshake::wants_tls(line) && !watched {
                    return End::lost(&Mismatch.into());
                }
                if let Some(notice) = handshake::read_notice(line) {
                    if !watched {
                        return End::Lost(notice);
                    }
                    // One of the session's lines, and we do not know who wrote it. A server that means
                    // it hangs up.
                    tracing::warn!(notice, "an error that is not for the host");
                    self.state(|state| state.swallow(line));
                    continue;
                }
            }
            let control = arrived.control();
            let heeded = self.heed(control.as_ref(), report);
            if let Err(violation) = heeded {
                self.state(State::distrust);
                return End::Lost(violation.to_string());
            }
            if control.is_some() {
                continue;
            }
            if !self.output.room(arrived.line.len()).await {
                return End::Done;
            }
            self.receive(arrived);
        }
    }

    /// A line of the server may be a control line, or tell what the server is.
    fn heed(&self, control: Option<&Control>, report: &impl Fn(News)) -> Result<(), Violation> {
        let (done, news) = self.state(|state| state.meet(control))?;
        let is_news = news.is_some();
        news.into_iter().for_each(report);
        if let (Some(control), false) = (control, done) {
            self.state(|state| state.heed(control))?;
        }
        if is_news || control.is_some() {
            self.wake.raise();
        }
        Ok(())
    }

    /// A line of the server is handed to the host and counted, both or neither.
    fn receive(&self, arrived: Arrived) {
        let wake = self.state(|state| {
            let (line, wake) = state.receive(arrived);
            if let Some(line) = line {
                self.output.push(&line);
            }
            wake
        });
        if wake {
            self.wake.raise();
        }
    }
}
