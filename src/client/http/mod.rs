//! The client of servers with a URL: MCP's Streamable HTTP in all its revisions, over HTTP/1.1.

mod answer;
mod carry;
mod challenge;
mod dial;
mod exchange;
mod fetch;
mod headers;
mod machine;
mod place;
mod pool;
mod proxy;
mod settings;
mod tools;

pub use fetch::{FetchError, fetch};
pub use place::Place;
pub use proxy::{Proxy, choose};
pub use settings::Settings;

use super::error::ClientError;
use super::host::{HostInput, HostOutput, Lines, MAX_QUEUED};
use crate::liveness::FOREVER;
use crate::replay;
use crate::system::parent;
use crate::transport::outlet::Flush;
use crate::utils::alarm::Alarm;
use crate::utils::backoff;
use crate::utils::own_waker::{OwnWaker, own_waker};
use bytes::Bytes;
use carry::{Report, Reports, carry};
use exchange::{ExchangeId, Request};
use foldhash::HashMap;
use futures_util::FutureExt;
use machine::{Action, GiveUp, Machine};
use pool::Pool;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// How many reports may wait; beyond that the streams are not read.
const MAX_REPORTS: usize = 32;

/// How long a stream on which nothing more is expected may take to end, so that its connection can be reused.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the server may take to end the session.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait for the first request of a silent host when we give up, so that it gets an
/// answer.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the host may take to read its last lines when we leave.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Carries our stdin to the server and its answers to our stdout, until the host leaves or
/// `shutdown` completes.
///
/// # Errors
/// Why it gave up. Pending requests of the host have been answered with errors.
pub async fn run(
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ClientError> {
    let mut client = Client::new(settings);
    let told_to_leave = async {
        tokio::select! {
            () = shutdown => {}
            () = parent::exited() => {}
        }
    };
    let outcome = match client.live(told_to_leave).await {
        End::Finish(goodbye) => {
            client.exchanges.shutdown().await;
            client.say_goodbye(goodbye).await;
            Ok(())
        }
        End::GiveUp(reason) => {
            let err = client.explain(reason);
            client.give_up(&err).await;
            Err(err)
        }
    };
    // A host that does not read must not block our exit.
    let _unread = tokio::time::timeout(LAST_WRITE_TIMEOUT, client.output.finish()).await;
    outcome
}

/// How the client ends.
enum End {
    /// As the host wanted; with this last request.
    Finish(Option<Request>),
    GiveUp(GiveUp),
}

/// What the client waits for.
enum Event {
    Report(ExchangeId, Report),
    Host(Option<Lines>),
    Leave,
    Closed,
    /// There is a newer token, before the old one expires.
    Renewed,
    /// Another token has replaced one that had expired or was refused.
    Replaced,
    /// The machine has to be polled.
    Poll,
}

/// Completes when there is another token.
fn renewal(pool: &Arc<Pool>) -> OwnWaker<impl Future<Output = Event> + use<>> {
    let pool = Arc::clone(pool);
    own_waker(async move {
        let tokens = &pool.settings.tokens;
        tokio::select! {
            biased;
            () = tokens.renewed() => Event::Renewed,
            () = tokens.replaced() => Event::Replaced,
        }
    })
}

struct Client {
    machine: Machine,
    pool: Arc<Pool>,
    input: HostInput,
    output: HostOutput,
    exchanges: JoinSet<ExchangeId>,
    handles: HashMap<ExchangeId, AbortHandle>,
    /// Exchanges that must end by these times.
    ending: Vec<(Instant, ExchangeId)>,
    reports: Reports,
    reported: Receiver<(ExchangeId, Report)>,
}

impl Client {
    fn new(settings: Settings) -> Self {
        let (reports, reported) = mpsc::channel(MAX_REPORTS);
        let place = settings.place.clone();
        let output = HostOutput::start();
        Self {
            machine: Machine::new(place, settings.reconnect, backoff::jitter),
            pool: Arc::new(Pool::new(settings)),
            input: HostInput::start(output.replies()),
            output,
            exchanges: JoinSet::new(),
            handles: HashMap::default(),
            ending: Vec::new(),
            reports,
            reported,
        }
    }

    /// Carries messages to the end.
    async fn live(&mut self, told_to_leave: impl Future<Output = ()>) -> End {
        let mut leaving = own_waker(told_to_leave);
        let mut renewal = renewal(&self.pool);
        let mut alarm = Alarm::at(Instant::now() + FOREVER);
        // Set once the host has left.
        let mut give_up_at = Instant::now() + FOREVER;
        loop {
            self.write();
            let now = Instant::now();
            let (read_host, until) = match self.act(now) {
                Ok(wait) => wait,
                Err(end) => return end,
            };
            if give_up_at <= now {
                return End::GiveUp(GiveUp::Unanswered);
            }
            let until = until.min(give_up_at);
            let event = tokio::select! {
                event = self.wait(read_host, until, &mut alarm, &mut leaving) => event,
                event = &mut renewal => event,
            };
            match event {
                Event::Report(exchange, report) => self.on_report(exchange, report),
                Event::Host(Some(lines)) => self.machine.on_host_lines(lines),
                Event::Host(None) => {
                    self.machine.on_host_end();
                    give_up_at = Instant::now() + self.pool.settings.answer_timeout;
                }
                Event::Leave | Event::Closed => self.machine.leave(),
                Event::Poll => {}
                Event::Renewed => {
                    tracing::info!("the token is renewed");
                    renewal = self::renewal(&self.pool);
                    self.machine.on_token_renewed(Instant::now().into_std());
                }
                Event::Replaced => {
                    renewal = self::renewal(&self.pool);
                    self.machine.on_token_replaced(Instant::now().into_std());
                }
            }
        }
    }

    async fn wait(
        &mut self,
        read_host: bool,
        until: Instant,
        alarm: &mut Alarm,
        leaving: &mut OwnWaker<impl Future<Output = ()>>,
    ) -> Event {
        alarm.set(until);
        let has_room = self.output.room(0).now_or_never();
        tokio::select! {
            biased;
            () = leaving => Event::Leave,
            Some((exchange, report)) = self.reported.recv(), if has_room == Some(true) => {
                Event::Report(exchange, report)
            }
            open = self.output.room(0), if has_room != Some(true) => {
                if open { Event::Poll } else { Event::Closed }
            }
            lines = self.input.next(), if read_host => Event::Host(lines),
            () = alarm => Event::Poll,
            () = self.output.closed() => Event::Closed,
        }
    }

    /// Carries out the machine's actions. Returns whether the host may be read, and until when to wait.
    fn act(&mut self, now: Instant) -> Result<(bool, Instant), End> {
        self.ending.retain(|(time, exchange)| {
            let is_over = *time <= now;
            if is_over && let Some(handle) = self.handles.remove(exchange) {
                handle.abort();
            }
            !is_over
        });
        loop {
            match self.machine.poll(now.into_std()) {
                Action::Begin(exchange, request) => self.begin(exchange, request),
                Action::Release(exchange) => self.ending.push((now + END_TIMEOUT, exchange)),
                Action::Abort(exchange) => {
                    if let Some(handle) = self.handles.remove(&exchange) {
                        handle.abort();
                    }
                }
                Action::Wait { read_host, until } => {
                    let until = until.map_or(now + FOREVER, Instant::from_std);
                    let ends = self.ending.iter().map(|(time, _)| *time);
                    return Ok((read_host, ends.fold(until, Instant::min)));
                }
                Action::Finish(goodbye) => return Err(End::Finish(goodbye)),
                Action::GiveUp(reason) => return Err(End::GiveUp(reason)),
            }
        }
    }

    fn begin(&mut self, exchange: ExchangeId, request: Request) {
        // Not when they end, which would wake this task once more for each.
        while let Some(ended) = self.exchanges.try_join_next() {
            // An abandoned one was removed before.
            if let Ok(exchange) = ended {
                self.handles.remove(&exchange);
            }
        }
        let (pool, reports) = (Arc::clone(&self.pool), self.reports.clone());
        // Boxed: a task moves its future several times.
        let handle = self.exchanges.spawn(Box::pin(async move {
            carry(&pool, exchange, request, &reports).await;
            exchange
        }));
        self.handles.insert(exchange, handle);
    }

    fn on_report(&mut self, exchange: ExchangeId, report: Report) {
        match report {
            Report::Connected => self.machine.on_connected(exchange),
            Report::Event(event) => {
                self.machine
                    .on_event(exchange, event, Instant::now().into_std());
            }
        }
    }

    /// Writes the lines for the host.
    fn write(&mut self) {
        for line in self.machine.take_for_host() {
            self.output.push(&line);
        }
        self.output.flush();
    }

    /// Ends the session, unless the server is too slow.
    async fn say_goodbye(&self, goodbye: Option<Request>) {
        if let Some(request) = goodbye {
            let (reports, mut reported) = mpsc::channel(MAX_REPORTS);
            let last = ExchangeId(u64::MAX);
            let sent = carry(&self.pool, last, request, &reports);
            let read = async { while reported.recv().await.is_some() {} };
            tokio::select! {
                () = sent => {}
                () = read => {}
                () = tokio::time::sleep(GOODBYE_TIMEOUT) => {}
            }
        }
    }

    /// Fails every pending request of the host.
    async fn give_up(&mut self, err: &ClientError) {
        if !self.machine.has_heard_host() {
            let first = tokio::time::timeout(FIRST_REQUEST_TIMEOUT, self.input.next()).await;
            if let Ok(Some(lines)) = first {
                self.machine.on_host_lines(lines);
            }
        }
        let mut unread: Vec<Bytes> = Vec::new();
        let mut cost = 0;
        while cost < MAX_QUEUED
            && let Some(Some(lines)) = self.input.next().now_or_never()
        {
            cost += lines.iter().map(replay::cost).sum::<usize>();
            unread.extend(lines);
        }
        self.machine.give_up(&err.failure(), unread);
        self.write();
    }

    fn explain(&self, reason: GiveUp) -> ClientError {
        let address = self.pool.settings.place.address();
        match reason {
            GiveUp::Unauthorized(challenge) => ClientError::Unauthorized {
                address,
                wants: challenge
                    .as_deref()
                    .map(challenge::describe)
                    .unwrap_or_default(),
            },
            GiveUp::Unentitled(refusal) => ClientError::Rejected(refusal),
            GiveUp::Token(fault) => ClientError::Token(fault),
            GiveUp::Unanswered => ClientError::Unanswered {
                address,
                limit: self.pool.settings.answer_timeout,
            },
            GiveUp::Mismatch(reason) => ClientError::Mismatch { address, reason },
            GiveUp::Unreachable(reason) => ClientError::Connect {
                address,
                source: std::io::Error::other(reason),
            },
            GiveUp::Exhausted { attempts, reason } => ClientError::GaveUp {
                address,
                attempts,
                connected: self.machine.is_established(),
                source: reason.into(),
            },
        }
    }
}
