//! The output of a process: each line is parsed and given to the router.

use super::Shared;
use crate::control;
use crate::jsonrpc::{Kind, MAX_CHILD_DEPTH, Message, Recovered, Refusal, recover};
use crate::metrics;
use crate::router::{Loss, ProcessId};
use bytes::Bytes;
use tokio::time::Instant;

/// The most of a dropped line that is logged, in bytes.
const MAX_EXCERPT: usize = 256;

/// The beginning of a line, for the log.
fn excerpt(line: &[u8]) -> String {
    String::from_utf8_lossy(line.get(..MAX_EXCERPT).unwrap_or(line)).into_owned()
}

impl Shared {
    /// The writes that follow may wait for [`Shared::flush`].
    pub(super) fn child_message(&self, process: ProcessId, line: Bytes) {
        let read = metrics::clock();
        self.child_line(process, line);
        metrics::queued(read);
    }

    fn child_line(&self, process: ProcessId, line: Bytes) {
        match Message::read(line.clone(), MAX_CHILD_DEPTH) {
            Ok(message) if control::has_control_name(&message) => {
                tracing::warn!(
                    "dropped a notification of the MCP server under one of our own names"
                );
            }
            Ok(message) => self.child_said(process, &message),
            Err(refusal) => self.child_recovered(process, &line, &refusal),
        }
    }

    /// Handles a line that is not exactly one message: repairs it where its meaning is clear, else
    /// fails the request that it answers.
    fn child_recovered(&self, process: ProcessId, line: &Bytes, refusal: &Refusal) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let recovered = recover(line);
        tracing::debug!(%refusal, line = excerpt(line), "the MCP server's line is not one message");
        if recovered.is_empty() {
            self.note_junk();
        }
        let Recovered {
            messages,
            unread,
            mended,
        } = recovered;
        if mended && !messages.is_empty() {
            self.note_mended();
        }
        for message in messages
            .iter()
            .filter(|message| !control::has_control_name(message))
        {
            self.child_said(process, message);
        }
        for kind in unread {
            if let Kind::Request(id) | Kind::Response(Some(id)) = &kind {
                tracing::warn!(%id, %refusal, "cannot read a message of the MCP server");
            }
            self.child_unread(process, Some(kind), &Loss::UNREADABLE);
        }
    }

    /// Some servers write their log to stdout: warns at the first line, the tenth, the hundredth and so on.
    fn note_junk(&self) {
        if let Some(count) = self.junk.count() {
            tracing::warn!(
                count,
                "dropped a line of the MCP server's stdout that is no JSON-RPC message; its log and other output belong on stderr"
            );
        }
    }

    /// The same for servers that write invalid JSON.
    fn note_mended(&self) {
        if let Some(count) = self.mended.count() {
            tracing::warn!(
                count,
                "a message of the MCP server is not JSON, or not UTF-8: NaN and Infinity become null, wrong bytes U+FFFD"
            );
        }
    }

    /// The same for servers that answer under ids which they were not given: somebody may try to guess those of others.
    pub(super) fn note_unasked(&self) {
        if let Some(metrics) = metrics::get() {
            metrics.unasked();
        }
        if let Some(count) = self.unasked.count() {
            tracing::warn!(
                count,
                "dropped an answer of the MCP server under an id that it was not given; if it prints what users write, one of them may be guessing the ids of others: --isolate gives each session a process of its own"
            );
        }
    }

    fn child_said(&self, process: ProcessId, message: &Message) {
        self.lock().processes[process.0].answered = true;
        let now = || Instant::now().into_std();
        self.gather(|routing, out| routing.child_message(process, message, now, out));
    }

    /// Sends an error in place of a message of the child that was dropped, whose `kind` is known as
    /// far as it could be read.
    pub(super) fn child_unread(&self, process: ProcessId, kind: Option<Kind>, loss: &Loss) {
        match kind {
            Some(Kind::Response(Some(id))) => {
                if let Ok(message) = Message::read(loss.answer(&id).into(), MAX_CHILD_DEPTH) {
                    self.child_said(process, &message);
                }
            }
            Some(Kind::Request(id)) => {
                self.handle(|_, out| out.answer(process, &loss.request(&id)));
            }
            _ => {}
        }
    }
}
