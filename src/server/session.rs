//! The life of one session: messages both ways over one connection, and, with a client that speaks
//! `mcp-remote/resume`, over the connections that follow.

use super::access::{Lapse, Standing};
use super::peer::Context;
use super::registry::{Handover, Registration};
use crate::auth::Identity;
use crate::control::{Control, PREFIX, SessionKey};
use crate::handshake;
use crate::hub::{Cut, Session};
use crate::jsonrpc::{Code, Kind, MAX_PEER_DEPTH, Message, NO_DATA, Refusal, error_line};
use crate::permissions::{Denial, ItemKind, Rights};
use crate::replay::Violation;
use crate::transport::line::LineError;
use crate::transport::tls;
use crate::transport::websocket::PING_EVERY;
use crate::transport::{self, Reader, Writer};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// A peer that ends its half of the connection still gets answers for so long.
const HALF_CLOSED: Duration = Duration::from_secs(1);

/// What has been received is acknowledged after so long, if not earlier.
const ACK_AFTER: Duration = Duration::from_secs(1);

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

/// Serves a session over its connections, to its end; gives the reason for the log.
pub(super) async fn live(link: Link, session: &Session, context: &Context) -> &'static str {
    let settings = &context.settings;
    let mut registration: Option<Registration> = None;
    let mut first: Option<Bytes> = None;
    let mut link = Box::new(link);
    loop {
        let resumable = registration.is_some();
        let ended = tokio::select! {
            ended = carry(&mut link, session, context, resumable, first.take()) => Ok(ended),
            handover = next_handover(&mut registration) => Err(handover),
        };
        let handover = match ended {
            Err(handover) => handover,
            Ok((End::Resume(wanted, received), _)) => {
                if let Some(key) = wanted {
                    match context.registry.hand_over(&key, *link, received) {
                        Ok(()) => return "its session goes on",
                        Err(back) => link = back,
                    }
                }
                (registration, first) = open(&link, session, context);
                continue;
            }
            Ok((End::Leave(reason), last_words)) => {
                let Link { reader, writer, .. } = *link;
                transport::close(reader, writer, &last_words).await;
                return reason;
            }
            Ok((End::Lost(reason), _)) => {
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
                // While nobody was there, nobody took over what has changed.
                session.revise(link.standing.profile(), link.standing.rights());
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
                return "the client counts wrongly";
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
    link: &Link,
    session: &Session,
    context: &Context,
) -> (Option<Registration>, Option<Bytes>) {
    let enabled = !context.settings.resume_window.is_zero();
    let registration = if enabled {
        context.registry.register(link.standing.identity())
    } else {
        None
    };
    if registration.is_some() {
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
    session: &Session,
    context: &Context,
    resumable: bool,
    first: Option<Bytes>,
) -> (End, Vec<Bytes>) {
    let Link {
        reader,
        writer,
        standing,
        ..
    } = link;
    let settings = &context.settings;
    let activity = Activity::default();
    let mut last_words: Vec<Bytes> = Vec::new();
    let fresh = first.is_none() && !resumable;
    let half_open = matches!(reader, Reader::Line(_)) && !resumable;
    let end = {
        let upstream = upstream(
            reader,
            session,
            standing.clone(),
            &activity,
            resumable,
            fresh,
        );
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

/// From the peer to the MCP server, each line through the gate and the policy. `fresh` is true
/// where the first line may ask for a session.
async fn upstream(
    reader: &mut Reader,
    session: &Session,
    mut standing: Standing,
    activity: &Activity,
    resumable: bool,
    mut fresh: bool,
) -> UpstreamEnd {
    loop {
        let line = match reader.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return UpstreamEnd::HalfClosed,
            Err(LineError::TooLong { limit }) => return UpstreamEnd::TooLong(limit),
            Err(err) => return UpstreamEnd::Lost(err),
        };
        activity.hear();
        let size = line.len();
        match Control::read(&line) {
            None => {}
            Some(Control::Resume { session, received }) if fresh => {
                return UpstreamEnd::Resume(session, received);
            }
            Some(Control::Ack { received }) if resumable => {
                if let Err(violation) = session.replay(|replay| replay.acknowledge(received)) {
                    return UpstreamEnd::Violation(violation);
                }
                continue;
            }
            Some(Control::Leave) if resumable => return UpstreamEnd::Left,
            // Meaningless here, and nothing for a child.
            Some(_) => continue,
        }
        fresh = false;
        if let Err(lapse) = standing.renew() {
            return UpstreamEnd::Lapsed(lapse);
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            message(line, session, standing.rights()).await;
        }
        if resumable {
            // No await stands between the hand-over above and this: a line is either both handed
            // over and counted, or neither.
            session.received(size);
        }
    }
}

async fn message(line: Bytes, session: &Session, rights: &Rights) {
    let message = match Message::read(line, MAX_PEER_DEPTH) {
        Ok(message) => message,
        Err(refusal) => return refuse(&refusal, session),
    };
    if message.method().starts_with(PREFIX) {
        if let Kind::Request(id) = message.kind() {
            let text = "Method not found: this prefix is the proxy's own";
            session.reply(error_line(Some(id), Code::MethodNotFound, text, NO_DATA));
        }
        return;
    }
    match rights.decide(message) {
        Ok(permit) => session.send(permit).await,
        Err(denial) => deny(&denial, session),
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
        let mut draining = false;
        let mut acknowledged = Instant::now();
        let mut untold_since: Option<Instant> = None;
        loop {
            match self.session.take() {
                Ok(lines) if lines.is_empty() => {}
                Ok(lines) => {
                    self.send(writer, &lines).await?;
                    continue;
                }
                Err(Cut::Slow) => return Ok(End::Leave("it reads too slowly, its queue is full")),
                Err(Cut::Stopped) => return Ok(End::Leave("the server stops")),
            }
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
                if now_due || due.is_zero() {
                    let received = self.session.replay(|replay| replay.tell());
                    self.send(writer, &[Control::Ack { received }.to_line().into()])
                        .await?;
                    (acknowledged, untold_since) = (Instant::now(), None);
                    continue;
                }
            }
            tokio::select! {
                () = self.session.changed() => {}
                () = tokio::time::sleep(due) => {}
                _ = pings.tick() => writer.ping().await?,
                () = self.context.stopping(), if self.resumable && !draining => {
                    draining = true;
                    self.send(writer, &[Control::Drain.to_line().into()]).await?;
                }
            }
        }
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
            Ok(()) => session.revise(standing.profile(), standing.rights()),
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
    heard: Mutex<Instant>,
    /// Lines have been taken from the session and not yet been sent altogether.
    sending: AtomicBool,
    changed: tokio::sync::Notify,
}

impl Default for Activity {
    fn default() -> Self {
        let now = Mutex::new(Instant::now());
        Self {
            last: now,
            heard: Mutex::new(Instant::now()),
            sending: AtomicBool::new(false),
            changed: tokio::sync::Notify::new(),
        }
    }
}

impl Activity {
    fn mark(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.changed.notify_waiters();
    }

    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.mark();
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
        until_still(&self.heard, limit.unwrap_or(FOREVER)).await;
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
