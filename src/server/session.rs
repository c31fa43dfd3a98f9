//! The life of one session: messages both ways over one connection, and, with a client that speaks
//! `mcp-remote/resume`, over the connections that follow.

use super::access::{Lapse, Standing};
use super::peer::Context;
use super::rate::Limiter;
use super::registry::{Handover, Registration};
use crate::audit::Trail;
use crate::auth::Identity;
use crate::control::{Control, PREFIX, SessionKey};
use crate::handshake;
use crate::hub::{Cut, Session};
use crate::jsonrpc::{
    Code, ErrorData, Executed, Kind, MAX_PEER_DEPTH, Message, NO_DATA, Refusal, RequestId,
    error_line,
};
use crate::permissions::{Denial, ItemKind, Permit, Rights};
use crate::replay::{ACK_BYTES, Violation};
use crate::transport::line::LineError;
use crate::transport::tls;
use crate::transport::websocket::PING_EVERY;
use crate::transport::{self, Pulse, Reader, Writer};
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// A peer that ends its half of the connection still gets answers for so long.
const HALF_CLOSED: Duration = Duration::from_secs(1);

/// What has been received is acknowledged after so long, if not earlier.
const ACK_AFTER: Duration = Duration::from_secs(1);

/// What is read ahead of a client that can resume while the MCP server takes nothing, in bytes:
/// more than such a client sends without an acknowledgement, so that its own acknowledgements and
/// signs of life get through.
const AHEAD: usize = 4 * ACK_BYTES;

/// What a connection has said before there was a session to serve it.
pub(super) type Read = Result<Option<Bytes>, LineError>;

/// The most of a name that is logged, in bytes.
const MAX_LOGGED_NAME: usize = 128;

/// The longest time that tokio's timers take without trouble.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// An authenticated connection.
pub(super) struct Link {
    pub reader: Reader,
    pub writer: Writer,
    pub standing: Standing,
    pub address: std::net::SocketAddr,
    /// What is recorded of it.
    pub trail: Trail,
    /// Its place among the connections.
    pub _place: OwnedSemaphorePermit,
}

/// How a connection ended.
enum End {
    /// The session ends with it, for this reason.
    Leave(&'static str),
    /// The session may go on with another connection.
    Lost(&'static str),
    /// The client asks for a session, with its first line: for this one, of which it has received
    /// so many lines.
    Resume(Option<SessionKey>, u64),
}

/// Waits for the first line of a peer, so that no MCP server is started for a connection that goes
/// on with a session. Gives the connection and what it said, unless there is nothing more to do.
pub(super) async fn hello(mut link: Link, context: &Context) -> Result<(Link, Read), &'static str> {
    let idle = context.settings.idle_timeout.unwrap_or(FOREVER);
    let standing = link.standing.clone();
    let bad = async {
        tokio::select! {
            () = expiry(standing.identity()) => Lapse::Expired,
            () = revoked(standing.clone()) => Lapse::Revoked,
        }
    };
    let (reason, last_words) = tokio::select! {
        read = link.reader.next() => match read {
            Ok(None) => {
                let reason = "the peer has left";
                link.trail.ends(reason);
                return Err(reason);
            }
            Ok(Some(line)) => return match Control::read(&line) {
                Some(Control::Resume { session: Some(key), received }) => {
                    match context.registry.hand_over(&key, link, received) {
                        Ok(()) => Err("its session goes on"),
                        Err(back) => Ok((*back, Ok(Some(line)))),
                    }
                }
                _ => Ok((link, Ok(Some(line)))),
            },
            Err(err) => return Ok((link, Err(err))),
        },
        () = context.stopping() => ("the server stops", None),
        () = tokio::time::sleep(idle) => ("idle for too long", None),
        lapse = bad => {
            (lapse.name(), Some(handshake::authentication_failed(lapse.reason()).into()))
        }
    };
    link.trail.ends(reason);
    transport::close(link.reader, link.writer, last_words.as_slice()).await;
    Err(reason)
}

/// Serves a session over its connections, to its end; gives the reason for the log. `read` is what
/// the first connection has said already.
pub(super) async fn live(
    link: Link,
    mut read: Option<Read>,
    session: &Session,
    context: &Context,
) -> &'static str {
    let settings = &context.settings;
    let mut registration: Option<Registration> = None;
    let mut first: Option<Bytes> = None;
    let mut link = Box::new(link);
    loop {
        let resumable = registration.is_some();
        let ended = tokio::select! {
            ended = carry(&mut link, read.take(), session, context, resumable, first.take()) => Ok(ended),
            handover = next_handover(&mut registration) => Err(handover),
        };
        let handover = match ended {
            Err(handover) => {
                link.trail
                    .ends("its session goes on over another connection");
                handover
            }
            Ok((End::Resume(wanted, received), _)) => {
                if let Some(key) = wanted {
                    match context.registry.hand_over(&key, *link, received) {
                        Ok(()) => return "its session goes on",
                        Err(back) => link = back,
                    }
                }
                (registration, first) = open(&mut link, session, context);
                continue;
            }
            Ok((End::Leave(reason), last_words)) => {
                link.trail.ends(reason);
                let Link { reader, writer, .. } = *link;
                // Who comes back while this one closes begins anew.
                drop(registration);
                transport::close(reader, writer, &last_words).await;
                return reason;
            }
            Ok((End::Lost(reason), _)) => {
                link.trail.ends(reason);
                let Some(registration) = &mut registration else {
                    return reason;
                };
                let standing = link.standing.clone();
                drop(link);
                let key = registration.key.short().to_owned();
                tracing::info!(reason, session = key, "waiting for the client to come back");
                tokio::select! {
                    handover = registration.handover() => handover,
                    () = tokio::time::sleep(settings.resume_window) => return "the client has not come back",
                    () = session.overflowed() => return "its queue is full",
                    () = revoked(standing) => return Lapse::Revoked.name(),
                    () = context.stopping() => return "the server stops",
                }
            }
        };
        let Handover {
            link: new,
            received,
        } = handover;
        link = Box::new(new);
        let Some(registration) = &registration else {
            return "there is no session";
        };
        let resumed = session.replay(|replay| {
            let again = replay.resume(received)?;
            Ok::<_, Violation>((again, replay.tell()))
        });
        match resumed {
            Ok((again, received)) => {
                tracing::info!(session = registration.key.short(), address = %link.address, again, "resumed");
                link.trail.joined(registration.key.short());
                // While nobody was there, nobody took over what has changed.
                session.revise(link.standing.profile());
                let session = Some(registration.key.clone());
                first = Some(
                    Control::Resumed {
                        session,
                        received,
                        resumed: true,
                    }
                    .to_line()
                    .into(),
                );
            }
            Err(violation) => {
                tracing::warn!(%violation, "refused to resume");
                let reason = "the client counts wrongly";
                link.trail.ends(reason);
                return reason;
            }
        }
    }
}

async fn next_handover(registration: &mut Option<Registration>) -> Handover {
    match registration {
        Some(registration) => registration.handover().await,
        None => std::future::pending().await,
    }
}

/// Makes a session one that can be resumed, where there is room; gives what to tell the client.
fn open(
    link: &mut Link,
    session: &Session,
    context: &Context,
) -> (Option<Registration>, Option<Bytes>) {
    let enabled = !context.settings.resume_window.is_zero();
    let registration = if enabled {
        context
            .registry
            .register(link.standing.identity(), session.watch())
    } else {
        None
    };
    if let Some(registration) = &registration {
        link.trail.joined(registration.key.short());
        session.replay(|replay| replay.keep());
    }
    let key = registration
        .as_ref()
        .map(|registration| registration.key.clone());
    let line = Control::Resumed {
        session: key,
        received: 0,
        resumed: false,
    }
    .to_line();
    (registration, Some(line.into()))
}

/// Carries messages both ways until one side ends; gives what is still to be said then.
async fn carry(
    link: &mut Link,
    read: Option<Read>,
    session: &Session,
    context: &Context,
    resumable: bool,
    first: Option<Bytes>,
) -> (End, Vec<Bytes>) {
    let Link {
        reader,
        writer,
        standing,
        address,
        trail,
        ..
    } = link;
    let settings = &context.settings;
    let activity = Activity::new(reader.pulse());
    let mut last_words: Vec<Bytes> = Vec::new();
    let fresh = first.is_none() && !resumable;
    let half_open = matches!(reader, Reader::Line(_)) && !resumable;
    let end = {
        let intake = Intake {
            reader,
            read,
            session,
            activity: &activity,
            resumable,
            ahead: VecDeque::new(),
            bytes: 0,
        };
        let ticket = Ticket::new(context, standing.identity(), *address);
        let upstream = upstream(intake, standing.clone(), ticket, trail, fresh);
        let down = Downstream {
            session,
            activity: &activity,
            resumable,
            context,
        };
        let mut downstream = std::pin::pin!(down.run(writer, first));
        tokio::select! {
            end = upstream => match end {
                UpstreamEnd::HalfClosed if half_open => {
                    let answered = async {
                        while session.owed() > 0 || activity.is_sending() {
                            activity.wait().await;
                        }
                    };
                    tokio::select! {
                        () = answered => {}
                        _ = &mut downstream => {}
                        () = tokio::time::sleep(HALF_CLOSED) => {}
                    }
                    End::Leave("the peer has left")
                }
                UpstreamEnd::HalfClosed if resumable => End::Lost("the peer has hung up"),
                UpstreamEnd::HalfClosed => End::Leave("the peer has left"),
                UpstreamEnd::Left => End::Leave("the peer has left"),
                UpstreamEnd::Resume(wanted, received) => End::Resume(wanted, received),
                UpstreamEnd::TooLong(limit) => {
                    let text = format!("Invalid Request: a message is longer than {limit} bytes");
                    last_words.push(error_line(None, Code::InvalidRequest, &text, NO_DATA).into());
                    End::Leave("a message is too long")
                }
                UpstreamEnd::Lapsed(lapse) => barred(lapse, &mut last_words),
                UpstreamEnd::Violation(violation) => {
                    let text = format!("Invalid Request: {violation}");
                    last_words.push(error_line(None, Code::InvalidRequest, &text, NO_DATA).into());
                    End::Leave("the client counts wrongly")
                }
                UpstreamEnd::Lost(LineError::Io(err)) if tls::is_mismatch(&err) => {
                    tracing::warn!(%err, "refused");
                    End::Leave("it speaks TLS")
                }
                UpstreamEnd::Lost(err @ LineError::Pings) => {
                    tracing::warn!(%err, "connection ended");
                    End::Leave("too many pings")
                }
                UpstreamEnd::Lost(err) => {
                    tracing::debug!(%err, "connection lost");
                    End::Lost("connection lost")
                }
            },
            end = &mut downstream => end,
            () = session.overflowed() => End::Leave("it reads too slowly, its queue is full"),
            lapse = lapse(standing, session) => barred(lapse, &mut last_words),
            () = activity.idle(settings.idle_timeout, session) => End::Leave("idle for too long"),
            () = activity.silence(resumable.then_some(settings.keepalive_timeout)) => {
                End::Lost("nothing heard of it for too long")
            }
        }
    };
    // Half a line cannot be followed by another.
    let last_words = if activity.is_sending() {
        Vec::new()
    } else {
        last_words
    };
    (end, last_words)
}

/// The peer's token is good no longer.
fn barred(lapse: Lapse, last_words: &mut Vec<Bytes>) -> End {
    last_words.push(handshake::authentication_failed(lapse.reason()).into());
    End::Leave(lapse.name())
}

enum UpstreamEnd {
    /// The peer says no more; it may still listen.
    HalfClosed,
    /// The client has said that it leaves.
    Left,
    Resume(Option<SessionKey>, u64),
    TooLong(usize),
    Lapsed(Lapse),
    Violation(Violation),
    Lost(LineError),
}

/// What comes from the peer.
struct Intake<'a> {
    reader: &'a mut Reader,
    /// Has been read already.
    read: Option<Read>,
    session: &'a Session,
    activity: &'a Activity,
    resumable: bool,
    /// Lines that were read while the MCP server took none.
    ahead: VecDeque<Bytes>,
    bytes: usize,
}

impl Intake<'_> {
    /// The next line. Cancel safe.
    async fn next(&mut self) -> Result<Bytes, UpstreamEnd> {
        match self.ahead.pop_front() {
            Some(line) => {
                self.bytes -= line.len();
                Ok(line)
            }
            None => self.read().await,
        }
    }

    /// The next line of the connection that is no acknowledgement. Cancel safe.
    async fn read(&mut self) -> Result<Bytes, UpstreamEnd> {
        loop {
            // Lines that have already arrived must not keep everybody else waiting.
            tokio::task::consume_budget().await;
            let read = match self.read.take() {
                Some(read) => read,
                None => self.reader.next().await,
            };
            let line = match read {
                Ok(Some(line)) => line,
                Ok(None) => return Err(UpstreamEnd::HalfClosed),
                Err(LineError::TooLong { limit }) => return Err(UpstreamEnd::TooLong(limit)),
                Err(err) => return Err(UpstreamEnd::Lost(err)),
            };
            self.activity.mark();
            match Control::read(&line) {
                Some(Control::Ack { received }) if self.resumable => self
                    .session
                    .replay(|replay| replay.acknowledge(received))
                    .map_err(UpstreamEnd::Violation)?,
                _ => return Ok(line),
            }
        }
    }

    /// Waits until there is `room` for the last line: until the MCP server takes lines again, say. A
    /// client that can resume is heard meanwhile.
    async fn hear_until(&mut self, room: impl Future<Output = ()>) -> Result<(), UpstreamEnd> {
        let mut room = std::pin::pin!(room);
        while self.resumable {
            let full = self.bytes >= AHEAD;
            // Whom we do not listen to is not silent.
            self.activity.deaf.store(full, Ordering::Relaxed);
            let line = tokio::select! {
                biased;
                () = &mut room => {
                    if full {
                        self.activity.deaf.store(false, Ordering::Relaxed);
                        self.activity.pulse.beat();
                    }
                    return Ok(());
                }
                line = self.read(), if !full => line?,
            };
            self.bytes += line.len();
            self.ahead.push_back(line);
        }
        room.await;
        Ok(())
    }
}

/// From the peer to the MCP server, each line through the gate and the policy. `fresh` is true
/// where the first line may ask for a session.
async fn upstream(
    mut intake: Intake<'_>,
    standing: Standing,
    ticket: Ticket<'_>,
    trail: &Trail,
    fresh: bool,
) -> UpstreamEnd {
    match carry_upstream(&mut intake, standing, ticket, trail, fresh).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

async fn carry_upstream(
    intake: &mut Intake<'_>,
    mut standing: Standing,
    mut ticket: Ticket<'_>,
    trail: &Trail,
    mut fresh: bool,
) -> Result<std::convert::Infallible, UpstreamEnd> {
    let (session, resumable) = (intake.session, intake.resumable);
    loop {
        let line = intake.next().await?;
        let size = line.len();
        match Control::read(&line) {
            None => {}
            Some(Control::Resume { session, received }) if fresh => {
                return Err(UpstreamEnd::Resume(session, received));
            }
            Some(Control::Leave) if resumable => return Err(UpstreamEnd::Left),
            // Meaningless here, and nothing for a child.
            Some(_) => continue,
        }
        fresh = false;
        let blank = line.iter().all(u8::is_ascii_whitespace);
        let message = (!blank).then(|| Message::read(line, MAX_PEER_DEPTH));
        let allowance = match &message {
            None => Ok(()),
            Some(Ok(message)) if matches!(message.kind(), Kind::Request(_)) => ticket.take(),
            Some(_) => {
                intake.hear_until(ticket.wait()).await?;
                Ok(())
            }
        };
        intake.hear_until(session.room()).await?;
        // What comes now is for our successor.
        if intake.activity.is_draining() {
            continue;
        }
        standing.renew().map_err(UpstreamEnd::Lapsed)?;
        match (message, allowance) {
            (None, _) => {}
            (Some(message), Ok(())) => {
                if let Some(permit) = pass(message, session, standing.rights(), trail) {
                    session.send(&permit);
                }
            }
            (Some(message), Err(wait)) => {
                if let Ok(message) = message
                    && let Some(id) = message.id()
                {
                    trail.refused_message(&message, "more than --rate-limit allows");
                    session.reply(rate_limited(id, wait));
                }
            }
        }
        if resumable && !intake.activity.is_draining() {
            // No await stands between the hand-over above and this: a line is either both handed
            // over and counted, or neither.
            session.received(size);
        }
    }
}

fn rate_limited(id: &RequestId, wait: Duration) -> Vec<u8> {
    let data = ErrorData::new("rate-limited", Executed::No).with_retry_after(wait);
    let text = "Too many requests per second";
    error_line(Some(id), Code::InternalError, text, Some(&data))
}

/// Judges a message; what does not pass has been answered.
fn pass(
    message: Result<Message, Refusal>,
    session: &Session,
    rights: &Rights,
    trail: &Trail,
) -> Option<Permit> {
    let message = match message {
        Ok(message) => message,
        Err(refusal) => {
            trail.refused_line(&refusal);
            refuse(&refusal, session);
            return None;
        }
    };
    if message.method().starts_with(PREFIX) {
        trail.refused_message(&message, "this prefix is the proxy's own");
        if let Kind::Request(id) = message.kind() {
            let text = "Method not found: this prefix is the proxy's own";
            session.reply(error_line(Some(id), Code::MethodNotFound, text, NO_DATA));
        }
        return None;
    }
    match rights.decide(message) {
        Ok(permit) => {
            trail.allowed(permit.message(), rights);
            Some(permit)
        }
        Err(denial) => {
            trail.blocked(&denial);
            deny(&denial, session);
            None
        }
    }
}

/// A peer's part of what its user may send. Requests beyond it are refused, since somebody waits for
/// an answer; everything else waits, and what stands behind it, so that nothing gets lost.
struct Ticket<'a> {
    rates: Option<&'a Mutex<Limiter>>,
    /// The user, or where there is none the address.
    who: String,
    /// The last one was too many, which has been logged.
    warned: bool,
}

impl<'a> Ticket<'a> {
    fn new(context: &'a Context, identity: &Identity, address: SocketAddr) -> Self {
        let rates = context.rates.as_ref();
        let who = match (&identity.user, rates) {
            (_, None) => String::new(),
            (Some(user), _) => format!("user {user}"),
            (None, _) => format!("address {}", address.ip()),
        };
        Self {
            rates,
            who,
            warned: false,
        }
    }

    fn take(&mut self) -> Result<(), Duration> {
        let Some(rates) = self.rates else {
            return Ok(());
        };
        let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = rates.take(&self.who, Instant::now().into_std());
        if taken.is_err() && !self.warned {
            tracing::warn!("more messages than --rate-limit allows");
        }
        self.warned = taken.is_err();
        taken
    }

    async fn wait(&mut self) {
        while let Err(wait) = self.take() {
            tokio::time::sleep(wait).await;
        }
    }
}

fn deny(denial: &Denial, session: &Session) {
    // URIs stay out of the log: they may hold credentials.
    let named = |kind| {
        let item = denial.item.as_ref().filter(|item| item.kind == kind)?;
        Some(shorten(&item.name))
    };
    let id = denial.id.as_ref().map(ToString::to_string);
    tracing::info!(
        method = shorten(&denial.method),
        tool = named(ItemKind::Tool),
        prompt = named(ItemKind::Prompt),
        id,
        rule = &*denial.reason(),
        "blocked"
    );
    if let Some(line) = denial.to_line() {
        session.reply(line);
    }
}

fn shorten(name: &str) -> &str {
    let mut end = name.len().min(MAX_LOGGED_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

fn refuse(refusal: &Refusal, session: &Session) {
    tracing::info!(reason = refusal.reason, "refused a message");
    session.reply(refusal.to_line());
}

/// From the MCP server to the peer.
struct Downstream<'a> {
    session: &'a Session,
    activity: &'a Activity,
    resumable: bool,
    context: &'a Context,
}

impl Downstream<'_> {
    async fn run(self, writer: &mut Writer, first: Option<Bytes>) -> End {
        match self.send_all(writer, first).await {
            Ok(end) => end,
            Err(err) => {
                tracing::debug!(%err, "connection lost");
                End::Lost("connection lost")
            }
        }
    }

    async fn send_all(&self, writer: &mut Writer, first: Option<Bytes>) -> std::io::Result<End> {
        if let Some(first) = first {
            self.send(writer, &[first]).await?;
        }
        let mut pings = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        let mut acknowledged = Instant::now();
        let mut untold_since: Option<Instant> = None;
        loop {
            let mut due = FOREVER;
            if self.resumable {
                let (untold, now_due) = self
                    .session
                    .replay(|replay| (replay.is_untold(), replay.is_due()));
                untold_since = if untold {
                    untold_since.or_else(|| Some(Instant::now()))
                } else {
                    None
                };
                due = self
                    .context
                    .settings
                    .keepalive_interval
                    .saturating_sub(acknowledged.elapsed());
                if let Some(since) = untold_since {
                    due = due.min(ACK_AFTER.saturating_sub(since.elapsed()));
                }
                // Before the lines: there may be no end to those.
                if now_due || due.is_zero() {
                    let received = self.session.replay(|replay| replay.tell());
                    self.send(writer, &[Control::Ack { received }.to_line().into()])
                        .await?;
                    (acknowledged, untold_since) = (Instant::now(), None);
                    continue;
                }
            }
            match self.session.take() {
                Ok(lines) if lines.is_empty() => {}
                Ok(lines) => {
                    self.send(writer, &lines).await?;
                    continue;
                }
                Err(Cut::Slow) => return Ok(End::Leave("it reads too slowly, its queue is full")),
                Err(Cut::Stopped) => {
                    self.drain(writer).await?;
                    return Ok(End::Leave("the server stops"));
                }
            }
            tokio::select! {
                () = self.session.changed() => {}
                () = tokio::time::sleep(due) => {}
                _ = pings.tick() => writer.ping().await?,
                () = self.context.stopping(), if self.resumable && !self.activity.is_draining() => {
                    self.drain(writer).await?;
                }
            }
        }
    }

    /// Tells a client that can resume what we have received, and that we take no more.
    async fn drain(&self, writer: &mut Writer) -> std::io::Result<()> {
        if !self.resumable || self.activity.is_draining() {
            return Ok(());
        }
        self.activity.draining.store(true, Ordering::Relaxed);
        let received = self.session.replay(|replay| replay.tell());
        let line = Control::Drain { received }.to_line();
        self.send(writer, &[line.into()]).await
    }

    async fn send(&self, writer: &mut Writer, lines: &[Bytes]) -> std::io::Result<()> {
        self.activity.sending.store(true, Ordering::Relaxed);
        writer.send(lines).await?;
        self.activity.sending.store(false, Ordering::Relaxed);
        self.activity.mark();
        Ok(())
    }
}

/// Completes when the token is good no longer; until then the hub is told of changed rights.
async fn lapse(standing: &mut Standing, session: &Session) -> Lapse {
    let identity = standing.identity().clone();
    let mut expiry = std::pin::pin!(expiry(&identity));
    loop {
        let renewed = tokio::select! {
            () = &mut expiry => return Lapse::Expired,
            renewed = standing.renewed() => renewed,
        };
        match renewed {
            Ok(()) => session.revise(standing.profile()),
            Err(lapse) => return lapse,
        }
    }
}

/// Completes when the token is revoked. A session that waits may do so beyond the end of its token.
async fn revoked(mut standing: Standing) {
    while !matches!(standing.renewed().await, Err(Lapse::Revoked)) {}
}

/// Completes when the token expires; waits for ever when it does not.
async fn expiry(identity: &Identity) {
    let Some(expires) = identity.expires else {
        return std::future::pending().await;
    };
    loop {
        let elapsed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let left = Duration::from_secs(expires).saturating_sub(elapsed);
        if left.is_zero() {
            return;
        }
        // In steps, so that a clock that jumps (a suspended machine) is noticed.
        tokio::time::sleep(left.min(Duration::from_secs(60))).await;
    }
}

/// When something last happened on a connection.
struct Activity {
    last: Mutex<Instant>,
    pulse: Pulse,
    /// Lines have been taken from the session and not yet been sent altogether.
    sending: AtomicBool,
    /// The client has been told that nothing more is taken.
    draining: AtomicBool,
    /// The connection is not read, since the MCP server takes nothing.
    deaf: AtomicBool,
    changed: tokio::sync::Notify,
}

impl Activity {
    fn new(pulse: Pulse) -> Self {
        Self {
            last: Mutex::new(Instant::now()),
            pulse,
            sending: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            changed: tokio::sync::Notify::new(),
        }
    }

    fn mark(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.changed.notify_waiters();
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn is_sending(&self) -> bool {
        self.sending.load(Ordering::Relaxed)
    }

    /// Waits for the next mark.
    async fn wait(&self) {
        self.changed.notified().await;
    }

    /// Completes when nothing has happened for `limit` and the peer waits for nothing.
    async fn idle(&self, limit: Option<Duration>, session: &Session) {
        let limit = limit.unwrap_or(FOREVER);
        loop {
            until_still(&self.last, limit).await;
            if session.owed() == 0 {
                return;
            }
            tokio::time::sleep(limit).await;
        }
    }

    /// Completes when nothing has been heard for `limit`.
    async fn silence(&self, limit: Option<Duration>) {
        let limit = limit.unwrap_or(FOREVER);
        loop {
            self.pulse.stop(limit).await;
            if !self.deaf.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

async fn until_still(last: &Mutex<Instant>, limit: Duration) {
    loop {
        let last = *last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= limit {
            return;
        }
        tokio::time::sleep_until(last + limit).await;
    }
}
