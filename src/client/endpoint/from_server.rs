//! Lines from the server: messages for the host, and control lines with acknowledgements.

use super::negotiation::Answer;
use super::phase::{Drain, Established, Phase};
use super::{Endpoint, HostPhase, News, Reception, ServerLine, Verdict, without_newline};
use crate::client::end::{End, Lost};
use crate::control::Control;
use crate::handshake::read_limit_of;
use crate::jsonrpc::Message;
use crate::liveness::Schedule;
use crate::replay::Violation;
use crate::transport::foreign;

impl Endpoint {
    /// Handles a line from the server.
    ///
    /// # Errors
    /// The reason why the connection must end.
    pub(in crate::client) fn on_server_line(
        &mut self,
        line: &ServerLine,
    ) -> Result<Reception, End> {
        self.line_limit = line.line_limit();
        if line.is_for_connection(self.is_established())? {
            self.count(line.line.len());
            return Ok(Reception::Handled);
        }
        if !self.introduced && line.is_foreign() {
            if let Some(says) = foreign::no_mcp(&line.line) {
                return Err(match self.accepted {
                    // Something stands in for a server that we know.
                    true => Lost::Notice(says).into(),
                    false => End::Mismatch(says),
                });
            }
            let says = foreign::quoted(&line.line);
            tracing::warn!(
                says,
                "the server's first line is no JSON, waiting for a message"
            );
        }
        let control = line.control();
        if let Err(violation) = self.on_control(control.as_ref()) {
            // A server that counts wrongly would do so again.
            self.negotiation.forget();
            return Err(Lost::from(violation).into());
        }
        if !self.introduced {
            self.introduce_new();
        }
        if control.is_none() {
            return Ok(Reception::Message);
        }
        self.needs_poll = true;
        Ok(Reception::Handled)
    }

    fn on_control(&mut self, control: Option<&Control>) -> Result<(), Violation> {
        if let Some(answer) = self.negotiation.answer(&self.phase, control) {
            self.needs_poll = true;
            return self.on_answer(answer);
        }
        let Phase::Established(session) = &mut self.phase else {
            return Ok(());
        };
        match control {
            Some(Control::Ack { received }) => {
                self.carried |= self.outbound.acknowledge(*received)?;
            }
            Some(Control::Drain { received, idle }) => {
                for line in self.outbound.on_drain(*received)? {
                    self.pending.on_unsent(&without_newline(&line));
                }
                session.drain = if *idle { Drain::Idle } else { Drain::Stopping };
                tracing::debug!(idle, "the server ends the session soon");
                let (received, idle) = (self.outbound.receipts().acknowledge(), false);
                self.control = Some(Control::Drain { received, idle });
            }
            _ => {}
        }
        Ok(())
    }

    /// Handles the first line of a connection, which shows the kind of the server.
    fn on_answer(&mut self, answer: Answer) -> Result<(), Violation> {
        match answer {
            Answer::Resumed { received } => {
                let resent = self.outbound.resume(received)?;
                self.establish();
                self.introduce(News::Resumed { resent });
            }
            Answer::Started { key, forgotten } => {
                if forgotten {
                    self.start_over();
                    self.outbound.start_keeping();
                }
                if key.is_some() {
                    self.establish();
                } else {
                    self.outbound.stop_keeping();
                    self.phase = Phase::Plain;
                }
                self.negotiation.start(key);
                self.introduce_new();
            }
        }
        Ok(())
    }

    fn establish(&mut self) {
        let schedule = Schedule::new(self.keepalive_interval, self.began);
        self.phase = Phase::Established(Established::new(schedule));
    }

    /// Hands the host a message of the server, and counts it: both or neither.
    pub(in crate::client) fn deliver(&mut self, line: ServerLine) {
        self.carried = true;
        self.count(line.line.len());
        let error = line.message.as_ref().and_then(Message::error);
        if let Some(limit) = error.and_then(read_limit_of) {
            self.limit = Some(limit);
        }
        // It may have been the last answer.
        self.needs_poll |= self.host >= HostPhase::Finished;
        match self.pending.on_server_line(&line) {
            Verdict::Pass => self.for_host.push(line.line),
            Verdict::Change(line) => self.for_host.push(without_newline(&line)),
            Verdict::Drop => {}
            Verdict::Rejoined(succeeded) => {
                if !succeeded {
                    tracing::warn!("the server did not accept the repeated 'initialize'");
                }
                self.outbound.release(self.pending.rejoin().rest());
                self.needs_poll = true;
            }
        }
    }

    fn count(&mut self, bytes: usize) {
        if self.is_established() && self.outbound.receipts().count(bytes) {
            self.needs_poll = true;
        }
    }
}
