//! From the MCP server to the peer.

use super::activity::Activity;
use super::end::why_cut;
use super::phase::{Event, Phase};
use super::stopping::Stopping;
use crate::control::Control;
use crate::hub::{Cut, Session};
use crate::liveness::{Due, FOREVER, Schedule};
use crate::transport::Writer;
use crate::transport::outlet::{Lease, Lendable};
use crate::transport::websocket::PING_EVERY;
use crate::utils::alarm::Alarm;
use crate::utils::chunks::Pieces;
use crate::utils::own_waker::own_waker;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// The pauses before the probes that detect whether a half-closed peer is gone altogether, which the second
/// one can tell; after that each ping probes.
const PROBES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(100),
    Duration::from_secs(1),
];

/// From the MCP server to the peer.
pub(super) struct Downstream<'a> {
    pub session: &'a Session,
    pub activity: &'a Activity,
    pub resumable: bool,
    pub stopping: &'a Stopping,
    /// The interval of keepalives.
    pub keepalive: Duration,
}

/// Events besides messages.
enum Rare {
    Ping,
    HalfClosed,
    Stop,
}

impl Downstream<'_> {
    pub(super) async fn run(self, writer: &mut Lendable<Writer>, first: Option<Bytes>) -> Event {
        match self.send_all(writer, first).await {
            Ok(event) => event,
            Err(err) => {
                tracing::debug!(%err, "connection lost");
                Event::Unwritable
            }
        }
    }

    async fn send_all(
        &self,
        writer: &mut Lendable<Writer>,
        first: Option<Bytes>,
    ) -> std::io::Result<Event> {
        if let Some(first) = first {
            self.send(writer, &[first]).await?;
        }
        let began = Instant::now();
        let mut rare = own_waker(self.rare(began + PING_EVERY));
        let mut schedule = Schedule::new(self.keepalive, began.into_std());
        let mut alarm = Alarm::at(began + FOREVER);
        let mut probes = PROBES.into_iter();
        loop {
            if self.resumable {
                match self.acknowledge(writer, &mut schedule).await? {
                    Some(next) => alarm.set(next),
                    None => continue,
                }
            }
            match self.session.take() {
                Ok(lines) if lines.is_empty() => {}
                Ok(lines) => {
                    self.send(writer, &lines).await?;
                    self.activity.mark();
                    continue;
                }
                Err(cut) => {
                    if cut == Cut::Stopped {
                        self.drain(writer).await?;
                    }
                    return Ok(Event::Cut(why_cut(cut, self.stopping)));
                }
            }
            // With an idle limit this task must observe every write.
            let lease = match self.activity.is_timed() {
                true => None,
                false => self.session.lend(writer),
            };
            let event = tokio::select! {
                () = self.session.changed() => None,
                () = &mut alarm, if self.resumable => None,
                event = &mut rare => Some(event),
            };
            if lease.map_or(Ok(false), Lease::end)? {
                self.sending(writer.flush()).await?;
            }
            if let Some(event) = event {
                let pause = self.on_rare(event, writer, &mut probes).await?;
                rare = own_waker(self.rare(Instant::now() + pause));
            }
        }
    }

    /// Sends an acknowledgement if one is due, ahead of the lines, which may never end. Returns when to check
    /// again, `None` if one was sent.
    async fn acknowledge(
        &self,
        writer: &mut Lendable<Writer>,
        schedule: &mut Schedule,
    ) -> std::io::Result<Option<Instant>> {
        let urgency = self.session.replay(|replay| replay.receipts.urgency());
        if let Due::At(time) = schedule.due(urgency, Instant::now().into_std()) {
            return Ok(Some(time.into()));
        }
        let received = self.session.replay(|replay| replay.receipts.acknowledge());
        let line = Control::Ack { received }.to_line();
        self.send(writer, &[Bytes::from(line)]).await?;
        schedule.sent(Instant::now().into_std());
        Ok(None)
    }

    /// Handles an event besides messages; returns the pause before the next ping.
    async fn on_rare(
        &self,
        event: Rare,
        writer: &mut Lendable<Writer>,
        probes: &mut impl Iterator<Item = Duration>,
    ) -> std::io::Result<Duration> {
        match event {
            Rare::Ping if self.activity.phase() == Phase::HalfClosed => {
                // Behind its last response it would be half a line.
                if self.session.pending_requests() > 0 {
                    writer.probe_half_closed().await?;
                }
                return Ok(probes.next().unwrap_or(PING_EVERY));
            }
            Rare::HalfClosed => return Ok(probes.next().unwrap_or(PING_EVERY)),
            Rare::Ping => writer.ping().await?,
            Rare::Stop => self.drain(writer).await?,
        }
        Ok(PING_EVERY)
    }

    async fn rare(&self, ping: Instant) -> Rare {
        tokio::select! {
            () = tokio::time::sleep_until(ping) => Rare::Ping,
            () = self.activity.half_closes() => Rare::HalfClosed,
            () = self.stopping.begins(), if self.resumable && !self.activity.phase().is_draining() => Rare::Stop,
        }
    }

    /// Tells a client that can resume what we have received, and that from now on we accept only
    /// answers.
    async fn drain(&self, writer: &mut Lendable<Writer>) -> std::io::Result<()> {
        let phase = self.activity.phase();
        if !self.resumable || phase.is_draining() {
            return Ok(());
        }
        self.activity.enter(phase.told_to_drain());
        let received = self.session.replay(|replay| replay.receipts.acknowledge());
        let idle = false;
        let line = Control::Drain { received, idle }.to_line();
        self.send(writer, &[Bytes::from(line)]).await
    }

    async fn send(
        &self,
        writer: &mut Lendable<Writer>,
        lines: &[impl Pieces],
    ) -> std::io::Result<()> {
        // Boxed, because this task rarely sends, and would be as large as when it does all the time.
        self.sending(Box::pin(writer.send(lines))).await
    }

    async fn sending(
        &self,
        send: impl Future<Output = std::io::Result<()>>,
    ) -> std::io::Result<()> {
        self.activity.set_sending(true);
        send.await?;
        self.activity.set_sending(false);
        Ok(())
    }
}
