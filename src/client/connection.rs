//! One connection: lines from the host to the server and back, until it ends.

use super::bridge::Bridge;
use super::end::{End, Lost};
use super::endpoint::{Action, Ended, News, Offer, Reception, ServerLine};
use super::host::{self, HostInput, Lines};
use super::token::Tokens;
use crate::control::MAX_SERVER_LINE;
use crate::liveness::FOREVER;
use crate::transport::outlet::Batch;
use crate::transport::websocket::PING_EVERY;
use crate::transport::{self, Connection, Pulse, Reader, Writer};
use crate::utils::alarm::Alarm;
use crate::utils::own_waker::own_waker;
use crate::utils::signal::Signal;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Carries lines over one connection at a time.
pub(super) struct Carrier<'a, R> {
    pub bridge: &'a Bridge,
    /// Signals a newer token to connect with.
    pub tokens: &'a Tokens,
    /// A connection on which nothing arrives for this long is lost, if the server sends keepalives.
    pub keepalive_timeout: Duration,
    /// Called with news about the server.
    pub report: R,
}

/// What the sending half waits for.
enum Event {
    /// Lines of the host, or the end of our stdin.
    Host(Option<Lines>),
    /// The endpoint has to be polled.
    Poll,
    /// A ping of the transport is due.
    Ping,
}

impl<R: Fn(News)> Carrier<'_, R> {
    /// Carries lines over `connection` to its end.
    pub(super) async fn carry(
        &self,
        connection: Connection,
        offer: Offer,
        input: &mut HostInput,
    ) -> Ended {
        let (mut reader, mut writer) = connection.split(MAX_SERVER_LINE);
        let now = Instant::now().into_std();
        let news = self.bridge.with(|endpoint| {
            endpoint.on_connect(offer, now);
            endpoint.take_news()
        });
        news.into_iter().for_each(&self.report);
        let established = Signal::new();
        let end = {
            // In this order: lines that have arrived count before a timeout.
            tokio::select! {
                biased;
                end = own_waker(self.receive(&mut reader, &established)) => end,
                end = own_waker(self.send(&mut writer, input)) => end,
                end = own_waker(self.watch()) => end,
            }
        };
        let ended = self.bridge.with(|endpoint| endpoint.on_disconnect(end));
        if matches!(ended.end, End::Done) {
            transport::close(reader, writer, &[]).await;
        }
        ended
    }

    /// Completes when something other than its lines ends the connection.
    async fn watch(&self) -> End {
        tokio::select! {
            () = self.bridge.output().closed() => End::Done,
            () = host::machine_slept(SystemTime::now) => Lost::Asleep.into(),
            () = self.renewed() => Lost::Renewed.into(),
        }
    }

    /// Completes when there is a newer token, at a moment when reconnecting loses nothing.
    async fn renewed(&self) {
        self.tokens.renewed().await;
        self.bridge.movable().await;
    }

    /// From the host to the server.
    async fn send(&self, writer: &mut Writer, input: &mut HostInput) -> End {
        match self.send_all(writer, input).await {
            Ok(end) => end,
            Err(err) => err.into(),
        }
    }

    async fn send_all(&self, writer: &mut Writer, input: &mut HostInput) -> std::io::Result<End> {
        let began = Instant::now();
        let mut ping = own_waker(tokio::time::sleep_until(began + PING_EVERY));
        let mut alarm = Alarm::at(began + FOREVER);
        loop {
            let now = Instant::now();
            let (read_host, until) =
                match self.bridge.with(|endpoint| endpoint.poll(now.into_std())) {
                    Action::Send(lines) => {
                        writer.send(&lines).await?;
                        continue;
                    }
                    Action::Wait { read_host, until } => (read_host, until),
                    Action::GiveUp => return Ok(Lost::NoAnswer.into()),
                    Action::Finish => return Ok(End::Done),
                };
            alarm.set(until.map_or(now + FOREVER, Instant::from_std));
            let event = tokio::select! {
                lines = input.next(), if read_host => Event::Host(lines),
                () = self.bridge.needs_poll() => Event::Poll,
                () = &mut alarm => Event::Poll,
                () = &mut ping => Event::Ping,
            };
            match event {
                Event::Host(Some(lines)) => {
                    self.bridge.with(|endpoint| endpoint.on_host_lines(lines));
                }
                Event::Host(None) => self.bridge.with(|endpoint| endpoint.on_host_end()),
                Event::Poll => {}
                Event::Ping => {
                    writer.ping().await?;
                    ping = own_waker(tokio::time::sleep(PING_EVERY));
                }
            }
        }
    }

    /// From the server to the host.
    async fn receive(&self, reader: &mut Reader, established: &Signal) -> End {
        match self.receive_all(reader, established).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn receive_all(
        &self,
        reader: &mut Reader,
        established: &Signal,
    ) -> Result<std::convert::Infallible, End> {
        // Lines that arrived together are written together.
        let batch = Batch::new(self.bridge.output());
        let pulse = reader.pulse();
        let mut silence = own_waker(self.silence(&pulse, established));
        loop {
            let line = tokio::select! {
                biased;
                line = batch.next(reader.next()) => line?,
                () = &mut silence => return Err(Lost::Silent(self.keepalive_timeout).into()),
            };
            let Some(line) = line else {
                return Err(Lost::HungUp.into());
            };
            let line = ServerLine::from(line);
            let (reception, news, sends_keepalives) = self.bridge.gather(|endpoint| {
                let reception = endpoint.on_server_line(&line);
                (reception, endpoint.take_news(), endpoint.is_established())
            });
            if let Some(news) = news {
                if sends_keepalives {
                    established.raise();
                }
                (self.report)(news);
            }
            if reception? == Reception::Handled {
                continue;
            }
            if !self.bridge.output().room(line.line.len()).await {
                return Err(End::Done);
            }
            // While the host does not read, neither do we: that is not silence of the server.
            pulse.beat();
            self.bridge.gather(|endpoint| endpoint.deliver(line));
        }
    }

    /// Completes when the keepalives of the server have stopped.
    async fn silence(&self, pulse: &Pulse, established: &Signal) {
        established.wait().await;
        pulse.stop(self.keepalive_timeout).await;
    }
}
