//! The audit log: who connected, what was refused, blocked and, if requested, allowed, as JSON
//! lines in a file. What a line says is decided in [`event`], without I/O; [`queue`] holds lines
//! until the thread in [`file`] has written them, so that no peer ever waits for the disk.

mod event;
mod file;
mod queue;

pub use file::Place;

use crate::account::Address;
use crate::auth::Identity;
use crate::jsonrpc::{Kind, Message, Refusal};
use crate::permissions::{Denial, Rights};
use event::{About, Event, Who};
use file::Writer;
use queue::Queue;
use std::fmt::Display;
use std::io;
use std::sync::{Arc, Once};
use std::time::Duration;

/// How long the disk may take for what still waits when the server stops.
const FLUSH: Duration = Duration::from_secs(2);

/// Where events go; off by default. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Log {
    queue: Option<Arc<Queue>>,
    /// Messages that pass are events, too.
    allowed: bool,
}

impl Log {
    /// Appends to the file at `place`.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(place: Place, allowed: bool) -> io::Result<Self> {
        let file = place.open()?;
        let queue = Arc::new(Queue::default());
        let writer = Writer::new(Arc::clone(&queue), place, file);
        // It is not joined: if the disk hangs, so does the thread.
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self {
            queue: Some(queue),
            allowed,
        })
    }

    /// Reopens the file, for events from now on.
    pub fn reopen(&self) {
        if let Some(queue) = &self.queue {
            queue.reopen();
        }
    }

    /// Files have been read again; these are broken, and stay as they were.
    pub fn reloaded(&self, broken: &[&str]) {
        self.record(&Event::Reload { broken }, &Who::default());
    }

    /// Records that a tool is withheld from all peers, because it is not as accepted.
    pub fn withheld(&self, tool: &str, reason: &str) {
        self.record(&Event::Withhold { tool, reason }, &Who::default());
    }

    /// Writes what still waits. Nothing may be recorded after that.
    pub fn close(&self) {
        let Some(queue) = &self.queue else { return };
        queue.close();
        let lost = queue.drained(FLUSH);
        if lost > 0 {
            tracing::error!(lost, "the end of the audit log could not be written");
        }
    }

    fn record(&self, event: &Event<'_>, who: &Who) {
        let Some(queue) = &self.queue else { return };
        if !queue.push(event, who) {
            tracing::error!("the audit log does not keep up, and events are lost until it does");
        }
    }
}

/// The events of one connection, until it is dropped. The connection is on record from the first of them on: one that
/// is neither accepted nor refused, such as a health check, leaves no line.
pub struct Trail {
    log: Log,
    who: Who,
    /// Its beginning is on record.
    begun: Arc<Once>,
    /// `None` for a part of another trail, which records the end itself.
    end: Option<&'static str>,
}

impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trail").finish_non_exhaustive()
    }
}

impl Trail {
    /// That of a connection without events so far. `connection` is its number in the logs.
    #[must_use]
    pub fn new(log: &Log, connection: u64, peer: Address) -> Self {
        let mut trail = Self {
            log: log.clone(),
            who: Who::default(),
            begun: Arc::new(Once::new()),
            end: Some("the server stops"),
        };
        if trail.is_on() {
            trail.who = Who::new(connection, peer);
        }
        trail
    }

    /// Puts the connection on record, unless it is already.
    pub fn begins(&self) {
        if self.is_on() {
            let connect = || self.log.record(&Event::Connect, &self.who);
            self.begun.call_once(connect);
        }
    }

    /// The events of one user of this connection.
    #[must_use]
    pub fn part(&self) -> Self {
        Self {
            log: self.log.clone(),
            who: self.who.clone(),
            begun: Arc::clone(&self.begun),
            end: None,
        }
    }

    fn is_on(&self) -> bool {
        self.log.queue.is_some()
    }

    fn record(&self, event: &Event<'_>) {
        self.begins();
        self.log.record(event, &self.who);
    }

    /// It is a proxy for this client.
    pub fn speaks_for(&mut self, client: Address) {
        if self.is_on() {
            self.who.add_client(client);
        }
    }

    /// It has shown this certificate.
    pub fn certified(&mut self, subject: &str) {
        if self.is_on() {
            self.who.add_certificate(subject);
        }
    }

    /// Its token is valid, whether or not it is admitted.
    pub fn identified(&mut self, identity: &Identity) {
        self.begins();
        if self.is_on() {
            self.who.add_identity(identity);
        }
    }

    /// It is admitted.
    pub fn authenticated(&self) {
        self.record(&Event::Authenticate);
    }

    /// It carries the session whose key begins so.
    pub fn joined(&mut self, session: &str) {
        if self.is_on() {
            self.who.add_session(session);
        }
    }

    /// It is not admitted.
    pub fn refused(&self, reason: &dyn Display) {
        if self.is_on() {
            let reason = &reason.to_string();
            self.record(&Event::Refuse {
                reason,
                about: None,
            });
        }
    }

    /// It has sent an invalid message.
    pub fn refused_line(&self, refusal: &Refusal) {
        let about = Some(About::refusal(refusal));
        let reason = refusal.reason;
        self.record(&Event::Refuse { reason, about });
    }

    /// This message is refused.
    pub fn refused_message(&self, message: &Message, reason: &str) {
        if self.is_on() {
            let about = Some(About::message(message));
            self.record(&Event::Refuse { reason, about });
        }
    }

    /// This many further messages are refused, for the same reason.
    pub fn refused_more(&self, count: u64, reason: &str) {
        if count > 0 {
            self.record(&Event::RefuseMore { reason, count });
        }
    }

    /// The policy forbids this many further messages.
    pub fn blocked_more(&self, count: u64) {
        if count > 0 {
            self.record(&Event::BlockMore { count });
        }
    }

    /// The policy forbids this message.
    pub fn blocked(&self, denial: &Denial) {
        if self.is_on() {
            let about = About::denial(denial);
            let rule = &denial.reason();
            self.record(&Event::Block { about, rule });
        }
    }

    /// The policy lets this message pass.
    pub fn allowed(&self, message: &Message, rights: &Rights) {
        if !self.log.allowed {
            return;
        }
        let about = About::message(message);
        let method = message.method();
        let by_item = about
            .item()
            .and_then(|(kind, name)| rights.judge_item(method, kind, name)?.ok());
        let rule = match (message.kind(), by_item) {
            (Kind::Response(_), _) => "answers need no permission".to_owned(),
            (_, Some(reason)) => reason.to_string(),
            (kind, None) => match rights.judge_method(*kind == Kind::Notification, method) {
                Ok(reason) | Err(reason) => reason.to_string(),
            },
        };
        self.record(&Event::Allow { about, rule: &rule });
    }

    /// Why it will have ended.
    pub fn ends(&mut self, reason: &'static str) {
        self.end = Some(reason);
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if let Some(reason) = self.end
            && self.begun.is_completed()
        {
            self.record(&Event::Disconnect { reason });
        }
    }
}
